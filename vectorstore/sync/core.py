"""What is derived from what, and whether it is current.

`Sync` holds the open parts of a store: the catalog, the table of each kind, the folders of files. `SpaceState` keeps
one vector space's snapshot in memory and brings it up to the commit that a reader sees: appended segments, pending
vectors and retirements are replayed by sequence number; when the layout changed (flush, publish, compact) the lists
are read again and the files that are already open are kept.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from vectorstore.contracts import Watch
from vectorstore.errors import CorruptError, DerivedError, LibraryMissing, NotFound, RecipeError, StoreError
from vectorstore.files import Buffer, DiskFolder, Folder, MemoryFolder, sha256
from vectorstore.recipes import IndexRecipe
from vectorstore.records import Row
from vectorstore.records.where import Node
from vectorstore.storage import Catalog, Connection, RecordTable, SegmentRow, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.history import recording
from vectorstore.storage.settings import setting
from vectorstore.sync.remotes import Engines
from vectorstore.vectors import Allowed, Asked, Curve, Live, Segment, Vids, from_bytes, open_segment, weigh
from vectorstore.vectors.arrays import Matrix, lengths

log = logging.getLogger("vectorstore")
_SPACE = re.compile(r"(?:[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)?)?")
INDEX = "index"
MENDED = "vectors mended: "
"""Setting of a space by name: the last commit that gave older vids their rows back, which else only new ones get."""

_FILTER_BYTES = 16 * 1024 * 1024


class SnapshotMoved(Exception):
    """A newer commit than this reader's snapshot is loaded, or has replaced its files; begin the read again."""


def moved(connection: Connection) -> Exception:
    """What to raise when the files of a read's snapshot were replaced: a read within another cannot begin again."""
    said = "this call was made within another one, which reads files that were replaced since; retry when that is over"
    return StoreError(said) if connection.within else SnapshotMoved()


@runtime_checkable
class Guard(Protocol):
    """What a kind demands of its records beyond their own fields; asked inside the transaction that writes them."""

    def before(self, transaction: Transaction, rows: Sequence[Row], offset: int) -> None:
        """Raise for rows that must not be written; `offset` is the place of the first one in the call."""

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """Raise for what a write, or a restore, of these rows has led to."""


class Sync:
    """The open parts of a store that must agree with each other."""

    def __init__(self, catalog: Catalog, folders: Callable[[str, str], Folder] | None = None) -> None:
        self.catalog = catalog
        self.root = catalog.root
        self._made = folders or self._at_root
        self.tables: dict[str, RecordTable[Any]] = {}
        self.guards: dict[str, Guard] = {}
        self.watch = Watch()
        self.engines: Engines | None = None
        self.owing: Callable[[], None] = lambda: None
        """Called when what an erasure owes could not be done at once."""
        self._folders: dict[tuple[str, str], Folder] = {}
        self._states: dict[str, SpaceState] = {}
        self._lock = threading.Lock()

    def table(self, kind: str) -> RecordTable[Any]:
        """The table of a kind.

        Raises:
            NotFound: the kind is not registered with this store.
        """
        try:
            return self.tables[kind]
        except KeyError:
            raise NotFound(f"no kind {kind!r}; the kinds are: {', '.join(sorted(self.tables))}") from None

    def folder(self, what: str, space: str) -> Folder:
        """The folder `embeddings` or `indexes` of a space; `models` and `trail` have no spaces, the name is ""."""
        with self._lock:
            found = self._folders.get((what, space))
            if found is None:
                if not _SPACE.fullmatch(space):
                    raise CorruptError(f"{space!r} is no name of a vector space; restore a backup")
                found = self._made(what, space)
                self._folders[(what, space)] = found
            return found

    def _at_root(self, what: str, space: str) -> Folder:
        return MemoryFolder() if self.root is None else DiskFolder(self.root / what / space)

    def let_go(self, transaction: Transaction, what: str, space: str, file: str) -> None:
        """Unlink a file that a transaction names no more, once it is durable; not while history needs it."""
        if not recording(transaction.connection):
            transaction.after.append(partial(self.folder(what, space).remove, file))

    @property
    def borrows(self) -> bool:
        """Whether the files are another store's: this one is a view of its past."""
        return self.root != self.catalog.root

    def borrow(self, other: Sync) -> None:
        """Read the files of another store, before any was read."""
        self.root, self._folders, self._made = other.root, other._folders, other._made

    def close(self) -> None:
        """Let go of every snapshot, so that no file stays mapped once the last reader is done."""
        with self._lock:
            self._states.clear()
            self._folders = {}
        if self.engines is not None:
            self.engines.close()

    def unnamed_since(self, what: str, file: str) -> bool:
        """Whether a file of an older snapshot has no name in the newest commit: it was replaced, and is not lost."""
        table = {"embeddings": "segments", "indexes": "artifacts", "models": "models", "trail": "trail_files"}[what]
        return self.catalog.newest(f"SELECT 1 FROM {table} WHERE file = ?", (file,)) is None

    def state(self, space: str) -> SpaceState:
        """The state of a space; made on first use, whether or not the space exists yet."""
        with self._lock:
            if space not in self._states:
                self._states[space] = SpaceState(self, space)
            return self._states[space]


@dataclass(frozen=True, eq=False)
class Shown:
    """A snapshot without what has expired, good for as long as the clock is in `since` .. `until`, microseconds."""

    live: Live
    since: int | None
    until: int | None

    def good(self, sync: Sync) -> bool:
        """Whether it still is; the clock is not asked where nothing expires."""
        if self.since is None and self.until is None:
            return True
        now = sync.catalog.now()
        return (self.since is None or self.since <= now) and (self.until is None or now < self.until)


class SpaceState:
    """One space's newest snapshot in this process, shared by its threads."""

    def __init__(self, sync: Sync, name: str) -> None:
        self.sync = sync
        self.name = name
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._shown: Shown | None = None
        self._filters: OrderedDict[tuple[int, str], Allowed] = OrderedDict()
        self._map: tuple[int, int | None, int, Vids] = (-1, None, 0, np.empty(0, np.int64))
        self._rows: tuple[tuple[int, int, int], Vids] = ((-1, 0, 0), np.empty(0, np.int64))
        self._verified: set[tuple[str, str]] = set()

    @property
    def dim(self) -> int | None:
        """Dimensions of the space, once a snapshot is loaded; they never change."""
        return None if self._live is None else self._live.dim

    def current(self, connection: Connection, *, expired: bool = False) -> Live | None:
        """The space as the connection's snapshot has it; None when it has no vectors yet.

        Args:
            connection: of a running transaction.
            expired: with the vectors of expired records, for what rewrites the space; no search may see them.

        Raises:
            SnapshotMoved: this snapshot is older than what is loaded; read again.
            StoreError: it is that of a read which this one is within, and its files were replaced since.
            CorruptError: a segment is missing or damaged.
        """
        seq = self.sync.catalog.seq(connection)
        shown = self._shown
        if not expired and shown is not None and shown.live.seq == seq and shown.good(self.sync):
            return shown.live
        live = self._live
        older = connection.within and live is not None and live.seq > seq  # to begin again would change nothing
        if older or self.sync.catalog.in_transaction:  # its changes are nobody else's yet
            live = self._advance(connection, live, seq)
            return live if expired or live is None else self._without_expired(connection, live).live
        with self._lock:
            live = self._live
            if live is not None and live.seq > seq:
                raise SnapshotMoved
            if live is None or live.seq != seq:
                live = self._advance(connection, live, seq)
                self._live = live
            if expired or live is None:
                return live
            shown = self._shown
            if shown is None or shown.live.seq != seq or not shown.good(self.sync):
                self._shown = shown = self._without_expired(connection, live)
                self._filters.clear()
            return shown.live

    def _without_expired(self, connection: Connection, live: Live) -> Shown:
        space = rows.space_by_name(connection, self.name)
        assert space is not None  # there is a snapshot of it
        table, now = self.sync.table(space.kind).table, self.sync.catalog.now()
        since, until = rows.expiry_around(connection, table, now)
        if since is not None:
            expired = rows.expired_vids(connection, space.id, table, now)
            live = dataclasses.replace(live, dead=live.retire(expired))
        return Shown(live, since, until)

    def _advance(self, connection: Connection, base: Live | None, seq: int) -> Live | None:
        live = self._grown(connection, base, seq)
        engines = self.sync.engines
        return live if live is None or engines is None else engines.attached(connection, self.name, live)

    def _grown(self, connection: Connection, base: Live | None, seq: int) -> Live | None:
        space = rows.space_by_name(connection, self.name)
        if space is None:
            return None
        if base is None or base.layout != space.layout or base.seq > seq:
            return self._load(connection, space, seq, base)
        new = [row for row in rows.segments_of(connection, space.id) if row.id > base.last_segment]
        vids, vectors = rows.pending_vectors(connection, space.id, space.dim, base.last_pending)
        retired = rows.retired_vids(connection, space.id, base.seq)
        if not new and not len(vids):
            grown = dataclasses.replace(base, seq=seq)
        else:
            pending = base.segments[-1]
            if len(vids):
                pending = _pending(np.concatenate([pending.vids, vids]), np.concatenate([pending.vectors, vectors]))
            grown = base.grow(
                seq=seq,
                segments=[*base.segments[:-1], *(self._open(connection, space, row) for row in new), pending],
                last_segment=max([base.last_segment, *(row.id for row in new)]),
                last_pending=int(vids[-1]) if len(vids) else base.last_pending,
            )
            weigh(grown.segments)
        return dataclasses.replace(grown, dead=grown.retire(retired)) if len(retired) else grown

    def _load(self, connection: Connection, space: SpaceRow, seq: int, base: Live | None) -> Live:
        opened = {segment.id: segment for segment in base.segments} if base is not None else {}
        found = rows.segments_of(connection, space.id)
        problem: str | None = None
        first: tuple[int, ...] = ()
        try:
            artifact = rows.artifact_of(connection, space.id, INDEX)
        except CorruptError as error:
            artifact, problem = None, f"{error}; answers are exact"
        if artifact is not None:
            first = artifact.segments
            if not set(first) <= {row.id for row in found}:
                problem, first = "the index was built over segments that are gone", ()
        ordered = sorted(found, key=lambda row: (first.index(row.id) if row.id in first else len(first), row.id))
        segments = [opened.get(row.id) or self._open(connection, space, row) for row in ordered]
        weigh(segments)
        vids, vectors = rows.pending_vectors(connection, space.id, space.dim, 0)
        live = Live(
            seq=seq,
            dim=space.dim,
            metric=space.metric,
            segments=(*segments, _pending(vids, vectors)),
            layout=space.layout,
            last_segment=max((row.id for row in found), default=0),
            last_pending=int(vids[-1]) if len(vids) else 0,
        )
        live = dataclasses.replace(live, dead=live.retire(rows.retired_vids(connection, space.id, -1)))
        if artifact is None or problem:
            return dataclasses.replace(live, index_problem=problem)
        if base is not None and base.index is not None and base.curve is not None and base.index_file == artifact.file:
            return dataclasses.replace(live, index=base.index, curve=base.curve, index_file=artifact.file)
        try:
            buffer = self._verified_bytes(connection, "indexes", artifact)
            index = from_bytes(
                buffer,
                IndexRecipe.from_dict(artifact.recipe, artifact.file),
                rows=artifact.rows,
                dim=space.dim,
            )
            curve = Curve.from_dict(artifact.points)
        except (CorruptError, DerivedError, RecipeError, KeyError, TypeError, ValueError) as error:
            mend = "" if isinstance(error, LibraryMissing) else "; run: vectorstore rebuild"
            problem = f"the index cannot be used ({error}); answers are exact{mend}"
            log.warning("%s: %s", self.name, problem)
            return dataclasses.replace(live, index_problem=problem)
        return dataclasses.replace(live, index=index, curve=curve, index_file=artifact.file)

    def _open(self, connection: Connection, space: SpaceRow, row: SegmentRow) -> Segment:
        try:
            buffer = self._verified_bytes(connection, "embeddings", row)
        except CorruptError as error:
            raise CorruptError(
                f"embeddings/{self.name}/{row.file}: {error}; it held {row.rows} vectors of {space.kind}; "
                "restore it from a backup, or run: vectorstore check --repair"
            ) from None
        return open_segment(buffer, id=row.id, file=row.file, rows=row.rows, dim=space.dim, first_vid=row.first_vid)

    def _verified_bytes(self, connection: Connection, what: str, row: SegmentRow | rows.ArtifactRow) -> Buffer:
        """The bytes of a file, hashed unless its inode, size and time are those of a verified one."""
        folder = self.sync.folder(what, self.name)
        now = folder.stat(row.file)
        try:
            if now is None:
                raise CorruptError("the file is missing")
            buffer = folder.read(row.file)  # it may have gone between the two looks at it
        except CorruptError:
            if self.sync.unnamed_since(what, row.file):
                raise moved(connection) from None
            raise
        if len(buffer) != row.size:
            raise CorruptError(f"the file has {len(buffer)} bytes, the catalog says {row.size}")
        if now != row.stat and (row.file, now) not in self._verified:
            if sha256(buffer) != row.sha256:
                raise CorruptError("the file does not have the digest that the catalog holds")
            self._verified.add((row.file, now))
        return buffer

    def allowed(self, connection: Connection, live: Live, table: RecordTable[Any], node: Node) -> Allowed:
        """The positions that a filter lets through; kept for a repeated filter until the next commit."""
        key = (live.seq, repr(node))
        private = self.sync.catalog.in_transaction
        if not private:
            with self._lock:
                # Another thread may have taken a later instant, at which more has expired.
                private = self._shown is None or self._shown.live is not live
                found = None if private else self._filters.get(key)
                if found is not None:
                    self._filters.move_to_end(key)
                    return found
        matching = table.matching(connection, node, expired=True)  # `live` knows better which have
        found = live.allow(self.vids_of(connection, live, matching))
        if not private:
            with self._lock:
                if self._shown is None or self._shown.live is not live:
                    return found
                self._filters[key] = found
                while len(self._filters) > 1 and sum(kept.bytes for kept in self._filters.values()) > _FILTER_BYTES:
                    self._filters.popitem(last=False)
        return found

    def asked(self, connection: Connection, live: Live, table: RecordTable[Any], node: Node) -> Allowed | Asked:
        """As `allowed`; for an engine outside that understands the filter, only its words."""
        resolve = partial(self.allowed, connection, live, table, node)
        if live.fed is None or self.sync.engines is None:
            return resolve()
        return self.sync.engines.asked(connection, self.name, table, node, resolve)

    def vids_of(self, connection: Connection, live: Live, numbers: Vids) -> Vids:
        """The newest vids of record rows, in no order; none for rows without a vector in the space."""
        vid_of_row = self._vid_of_row(connection, live, self.sync.catalog.in_transaction)
        vids = vid_of_row[numbers[numbers < len(vid_of_row)]]
        return vids[vids > 0]

    def rows_at(self, connection: Connection, live: Live) -> Vids:
        """(live.rows,) the row of the record whose newest vector is at a position, -1 where there is none.

        Nobody may write to it: it is kept while the lists of files and the waiting vectors stay the same.
        """
        key = (live.layout, live.last_segment, live.last_pending)
        with self._lock:
            if self._rows[0] == key:
                return self._rows[1]
        vids = live.vids_at(np.arange(live.rows))
        vid_of_row = self._vid_of_row(connection, live, self.sync.catalog.in_transaction)
        row_of_vid = np.full(max(int(vids.max(initial=0)), int(vid_of_row.max(initial=0))) + 1, -1, dtype=np.int64)
        row_of_vid[vid_of_row] = np.arange(len(vid_of_row))
        row_of_vid[0] = -1
        found: Vids = row_of_vid[vids]
        if not self.sync.catalog.in_transaction:
            with self._lock:
                self._rows = (key, found)
        return found

    def _vid_of_row(self, connection: Connection, live: Live, private: bool) -> Vids:
        """(highest row + 1,) the newest vid of each record row, 0 where there is none, at the snapshot's commit."""
        with self._lock:
            seq, mended, last, known = self._map
        if seq == live.seq:
            return known
        now = setting(connection, MENDED + self.name)
        if seq > live.seq or mended != now:
            last, known = 0, np.empty(0, np.int64)
        space = rows.space_by_name(connection, self.name)
        assert space is not None  # there is a snapshot of it
        vids, records = rows.record_map(connection, space.id, last)
        if len(vids):
            grown = np.zeros(max(len(known), int(records.max()) + 1), dtype=np.int64)
            grown[: len(known)] = known
            grown[records] = vids  # ascending vids: the newest wins
            known, last = grown, int(vids[-1])
        if not private:
            with self._lock:
                if self._map[0] < live.seq:
                    self._map = (live.seq, now, last, known)
        return known


def _pending(vids: Vids, vectors: Matrix) -> Segment:
    """The vectors that wait in the catalog, as a segment in memory."""
    return Segment(0, vectors, lengths(vectors), None, vids)


def file_path(what: str, space: str, name: str) -> str:
    """How messages name a file, from the store's folder on."""
    return "/".join(part for part in (what, space, name) if part)
