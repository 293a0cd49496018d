"""A state saved in a store: a save is a version, whole or as what changed, in one transaction with its artifacts."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vectorstore.collection import Collection
from vectorstore.errors import ConflictError, CorruptError, NotFound, ReadOnlyStore, StateConflict, ValidationError
from vectorstore.ids import from_micros
from vectorstore.records import Artifact, Where
from vectorstore.results import Hits
from vectorstore.states import deltas, mirror
from vectorstore.states.codec import dumps
from vectorstore.states.envelope import Cipher, Compression, seal, unseal
from vectorstore.states.hold import held
from vectorstore.states.portable import PortableState
from vectorstore.states.state import Moved, Saved, Tree, guarded_save, members
from vectorstore.states.values import StateType
from vectorstore.storage import Connection, Transaction
from vectorstore.storage import states as rows
from vectorstore.sync import Sync
from vectorstore.sync.erasing import finish, owe

FOLDER = "states"
KEEP = 10
_LINE = 100
"""The most changes upon one whole save: loading reads them all."""
_SLACK = 4096
_LIMIT = 900_000_000
"""SQLite keeps at most 1e9 bytes in a row."""


@dataclass(frozen=True)
class Checkpoint:
    """A version that can be restored, unless it is `damaged`; `size` is what its own row takes."""

    version: int
    at: datetime
    label: str | None
    kind: str
    size: int
    damaged: bool


class StoreState(PortableState):
    """Named values that are saved in a store.

    The newest `keep` versions can be restored, and those that were given a label. Artifacts that mappings lead to are
    records of the kind `Artifact`, in step with the newest save; not in an encrypted state.
    """

    def __init__(
        self,
        sync: Sync,
        artifacts: Collection[Artifact],
        name: str,
        *,
        keep: int = KEEP,
        types: Iterable[StateType] = (),
        compression: Compression = "auto",
        cipher: Cipher | None = None,
        searchable: bool = True,
    ) -> None:
        super().__init__(name, types=types, compression=compression, cipher=cipher)
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise ValidationError(f"keep: expected a whole number from 1 on, got {keep!r}")
        self._sync = sync
        self._artifacts = artifacts
        self._keep = keep
        self._searchable = searchable
        self._before: dict[str, tuple[str | None, Tree | None]] = {}
        """What each save whose transaction still runs came from."""

    @property
    def key(self) -> str:
        """What files that belong to the state are called."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:16]

    # -- saving ----------------------------------------------------------------------------------------------------

    def save(self, *, merge: bool = False, label: str | None = None) -> Saved:
        """Save all values as a new version, durable when this returns; nothing is written if nothing changed.

        Args:
            merge: when somebody else saved since the load, put both changes together.
            label: keep this version until `forget`, under this name.

        Raises:
            Unserialisable: a value cannot be kept; it names the place. StateConflict: somebody else saved.

        Cost: packs and compares all values; writes what changed. A whole save is written again when the changes since
        the last one take more than it, or are 100.
        """
        if label is not None and (not isinstance(label, str) or not 0 < len(label) <= 255):
            raise ValidationError(f"{self.name}: label: expected text of 1..255 characters, got {label!r}")
        return guarded_save(self, merge, label)

    def _write(
        self,
        tree: Tree,
        packed: Tree,
        parent: Tree | None,
        there: str | None,
        label: str | None,
        overruled: tuple[str, ...],
    ) -> Saved:
        with self._sync.catalog.read() as connection:
            base = rows.newest_save(connection, self.name)
            sizes = [] if base is None else rows.line_sizes(connection, self.name, base.base)
        data = None
        if base is not None and parent is not None and base.token == there:
            data = self._as_delta(parent, tree, sizes)
        kind = "full" if data is None else "delta"
        if data is None:
            data = seal({"state": tree}, compression=self._compression, cipher=self._cipher)
            base = None
        if len(data) > _LIMIT:
            raise ValidationError(f"{self.name}: a save of {len(data):,} bytes; at most {_LIMIT:,} can be kept")
        token = uuid.uuid4().hex
        with self._sync.catalog.write(undo=lambda: self._undo(token)) as transaction:
            if self._token(transaction.connection) != there:
                raise Moved
            version = rows.insert_save(
                transaction.connection,
                self.name,
                data,
                base=None if base is None else base.base,
                label=label,
                sha256=hashlib.sha256(data).hexdigest(),
                token=token,
                at=transaction.now,
                seq=transaction.seq,
            )
            rows.prune(transaction.connection, self.name, self._keep)
            unsearchable = self._follow(transaction, parent, tree)
            details: dict[str, object] = {"state": self.name, "version": version, "kind": kind, "size": len(data)}
            transaction.notes.append(("persist", details))
            transaction.record("save", state=self.name, version=version, bytes=len(data))
            self._attempt = (token, tree, packed)
            self._before[token] = (self._at, self._tree)
            transaction.after.append(lambda: self._committed(token))
        return Saved(version, kind, len(data), overruled, unsearchable)

    def _as_delta(self, parent: Tree, tree: Tree, sizes: list[int]) -> bytes | None:
        """What changed, unless a whole save is the better choice now."""
        if not sizes or len(sizes) > _LINE:
            return None
        after = hashlib.sha256(dumps(tree)).hexdigest()
        changes = {"after": after, "delta": deltas.delta(parent, tree)}
        data = seal(changes, compression=self._compression, cipher=self._cipher)
        return data if sum(sizes[1:]) + len(data) <= sizes[0] + _SLACK else None

    def _undo(self, token: str) -> None:
        """A save did not happen; another thread's since then stays."""
        with self.lock:
            if token not in self._before:
                return
            before = self._before.pop(token)
            self._before = {later: before if was[0] == token else was for later, was in self._before.items()}
            if self._attempt is not None and self._attempt[0] == token:
                self._attempt = None
            if self._at == token:
                self._at, self._tree = before

    def _committed(self, token: str) -> None:
        self._settle(token)
        self._before.pop(token, None)

    def _there(self) -> str | None:
        with self._sync.catalog.read() as connection:
            token = self._token(connection)
        self._settle(token)
        return token

    def _token(self, connection: Connection) -> str | None:
        row = rows.newest_save(connection, self.name)
        return None if row is None else row.token

    def _number(self, at: str) -> int:
        with self._sync.catalog.read() as connection:
            return next(row.version for row in rows.saves_of(connection, self.name) if row.token == at)

    # -- loading ---------------------------------------------------------------------------------------------------

    def _newest(self, fallback: bool) -> tuple[str, Tree] | None:
        with self._sync.catalog.read() as connection:
            whole = [row for row in rows.saves_of(connection, self.name) if not row.damaged]
            damaged: list[int] = []
            found = None
            for row in reversed(whole):
                try:
                    found = row.token, self._tree_of(connection, row)
                    break
                except CorruptError as error:
                    damaged.append(row.version)
                    if not fallback or row is whole[0]:
                        earlier = self._whole_before(connection, row)
                        mend = f"load(fallback=True) takes version {earlier}" if earlier else "restore a backup"
                        raise CorruptError(f"{error}; it was left as it is; {mend}") from None
        if damaged and not self._sync.catalog.read_only:
            with self._sync.catalog.write() as transaction:
                rows.mark_damaged(transaction.connection, self.name, damaged)
                transaction.record("set aside", state=self.name, versions=sorted(damaged))
        return found

    def _whole_before(self, connection: Connection, damaged: rows.SaveRow) -> int | None:
        for row in reversed(rows.saves_of(connection, self.name)):
            if row.version < damaged.version and not row.damaged:
                with contextlib.suppress(CorruptError):
                    self._tree_of(connection, row)
                    return row.version
        return None

    def _read(self, at: str) -> Tree:
        with self._sync.catalog.read() as connection:
            for row in rows.saves_of(connection, self.name):
                if row.token == at:
                    return self._tree_of(connection, row)
        raise Moved

    def _tree_of(self, connection: Connection, row: rows.SaveRow) -> Tree:
        """A version put together again, and proved to be what was saved."""
        tree: Tree | None = None
        after: object = None
        for part, data in rows.line_of(connection, self.name, row):
            where = f"state {self.name!r} version {row.version}"
            if part.version != row.version:
                where += f" (its version {part.version})"
            if hashlib.sha256(data).hexdigest() != part.sha256:
                raise CorruptError(f"{where}: its bytes are not those that were written")
            found = unseal(data, where, self._cipher)
            if part.version == part.base:
                tree, after = members(found, where), None
                continue
            try:
                tree, after = deltas.apply(tree, found["delta"]), found["after"]
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise CorruptError(f"{where}: its changes do not fit what they change: {error!r}") from None
        if tree is None or (after is not None and hashlib.sha256(dumps(tree)).hexdigest() != after):
            raise CorruptError(f"state {self.name!r} version {row.version}: a part of it is missing")
        return tree

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def checkpoints(self) -> list[Checkpoint]:
        """The versions that are kept, oldest first."""
        with self._sync.catalog.read() as connection:
            found = rows.saves_of(connection, self.name)
        newest = {row.version for row in [row for row in found if not row.damaged][-self._keep :]}
        return [
            Checkpoint(
                row.version,
                from_micros(row.at),
                row.label,
                "full" if row.base == row.version else "delta",
                row.size,
                row.damaged,
            )
            for row in found
            if row.damaged or row.label is not None or row.version in newest
        ]

    def restore(self, version: int | str) -> Saved:
        """Make a kept version, by number or label, the newest again: it is loaded, and saved as a new version.

        Raises:
            NotFound: no such version. CorruptError: it is damaged; nothing changed.
        """
        with self._sync.catalog.read() as connection:
            tree = self._tree_of(connection, self._row(connection, version))
            newest = rows.newest_save(connection, self.name)
        with self.lock:
            self._take(None if newest is None else newest.token, tree)
            self._tree = None  # the newest version may be another one, and damaged: nothing is to build on it
        return guarded_save(self, False)

    def forget(self, version: int | str) -> None:
        """Take a version's label off, so that it goes when its time comes; a damaged one goes at once.

        Raises:
            NotFound: no such version. ConflictError: it is neither labelled nor damaged: `keep` decides.
        """
        with self._sync.catalog.write() as transaction:
            row = self._row(transaction.connection, version)
            if row.damaged:
                rows.forget_saves(transaction.connection, self.name, version=row.version)
            elif row.label is None:
                raise ConflictError(f"{self.name} version {row.version} has no label; the newest {self._keep} are kept")
            rows.unlabel(transaction.connection, self.name, row.version)
            rows.prune(transaction.connection, self.name, self._keep)
            transaction.record("forget", state=self.name, version=row.version)

    def _row(self, connection: Connection, version: int | str) -> rows.SaveRow:
        found = rows.saves_of(connection, self.name)
        for row in reversed(found):
            if version in (row.version, row.label):
                return row
        known = ", ".join(str(row.version) for row in found) or "none"
        raise NotFound(f"{self.name} has no version {version!r}; there are: {known}")

    def rekey(self, cipher: Cipher | None) -> Saved:
        """Save all values anew under another cipher, None for none; every earlier version is removed for good."""
        with self._sync.catalog.write() as transaction, self.lock:
            there = self._token(transaction.connection)
            if there != self._at:
                raise StateConflict(self._conflict())
            packed, before = self._packed(), self._cipher
            transaction.undo.append(lambda: setattr(self, "_cipher", before))
            self._cipher = cipher
            saved = self._write(packed, packed, None, there, None, ())
            rows.forget_saves(transaction.connection, self.name, but=self._token(transaction.connection))
            owe(transaction)
            transaction.record("rekey", state=self.name, version=saved.version)
        if cipher is not None:
            self._artifacts.purge(where={"state": self.name}, older_than=timedelta(0))
        finish(self._sync)
        return saved

    # -- artifacts -------------------------------------------------------------------------------------------------

    def search(self, query: Any, k: int = 10, where: Where | None = None, **options: Any) -> Hits[Artifact]:
        """The artifacts of the newest save that are nearest to a vector; options as in `Collection.search`.

        A hit's `record.name` is the path, such as `knowledge_base/embedding_1`; `at` gives the value.
        """
        mine: Where = {"state": self.name}
        return self._artifacts.search(query, k, {"and": [mine, where]} if where else mine, **options)

    def at(self, path: str) -> Any:
        """The value here that a path leads to.

        Raises:
            NotFound: none.
        """
        found: Any = self._values
        for key in path.split("/"):
            try:
                found = found[key.replace("~1", "/").replace("~0", "~")]
            except (KeyError, TypeError, IndexError):
                raise NotFound(f"{self.name}: nothing at {path!r}") from None
        return found

    def reindex(self) -> dict[str, str]:
        """Make the records anew from the newest save; returns path -> why it cannot be found."""
        with self._sync.catalog.write() as transaction:
            there = self._token(transaction.connection)
            return {} if there is None else self._follow(transaction, None, self._read(there))

    def _follow(self, transaction: Transaction, before: Tree | None, after: Tree) -> dict[str, str]:
        if not self._searchable:
            return {}
        shown: Tree = after if self._cipher is None else {}
        if self._cipher is not None and before is not None:
            return {}  # nothing was shown before either
        return mirror.follow(transaction, self._artifacts, self.name, before, shown)

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else holds the state meanwhile, in this process or another."""
        root = self._sync.catalog.root
        if self._sync.catalog.read_only:
            raise ReadOnlyStore(f"{root} was opened read-only; open it without read_only=True to save states")
        return held(None if root is None else root / FOLDER / f"{self.key}.hold", f"state {self.name!r}")
