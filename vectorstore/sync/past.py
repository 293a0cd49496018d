"""The past of a store on disk: files that history needs, views of earlier commits, forgetting and erasing.

A view is a copy of the catalog, rolled back, in a folder `.as-of-*.tmp` of its own inside the store's; it reads the
store's files, which are never changed, and maps all of them at once, so that their removal does not matter to it. The
folder goes when the view is closed; after a crash a sweep finds nobody holding its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vectorstore.errors import CorruptError, NotFound
from vectorstore.files import TEMPORARY, FileInfo, refused, sha256
from vectorstore.ids import from_micros
from vectorstore.storage import CATALOG, Connection, Transaction, history, pastrows
from vectorstore.storage import spaces as rows
from vectorstore.storage.connection import translated
from vectorstore.storage.copying import changeable, frozen
from vectorstore.storage.folder import copy_to
from vectorstore.storage.history import Moment
from vectorstore.sync.core import Sync, moved
from vectorstore.vectors import file_name, open_segment, segment_chunks

VIEW = ".as-of-"
SHARED = ".shared-"
"""What this process and its workers pass to each other, beside the catalog."""

_LOCK = "view.lock"


# -- views -------------------------------------------------------------------------------------------------------------


def find_moment(sync: Sync, connection: Connection, when: int | str | None, at: int | None) -> Moment:
    """The commit that is asked for.

    Args:
        sync: the store's parts.
        connection: of a running read.
        when: a sequence number, or the name of a snapshot.
        at: an instant, microseconds since 1970 UTC.

    Raises:
        NotFound: history does not reach so far, or there is no such snapshot.
    """
    found = None
    if isinstance(when, str):
        names = history.snapshots_of(connection)
        if when not in names:
            raise NotFound(f"no snapshot {when!r}; there are: {', '.join(names) or 'none'}")
        found = names[when]
    elif at is not None:
        found = history.moment_at(connection, at)
    elif when is not None:
        found = history.moment_of(connection, when)
    if found is None or not history.reachable(connection, found.seq):
        known = history.kept(connection)
        reach = "no history is kept: store.history = '30 days' keeps it from then on"
        if known is not None:
            start = history.moment_of(connection, known.since)
            reach = f"history begins at commit {known.since}" + (
                "" if start is None else f", {from_micros(start.at).isoformat()}"
            )
        asked = from_micros(at).isoformat() if at is not None else f"commit {when}"
        raise NotFound(f"{sync.root or ':memory:'}: nothing is known of {asked}; {reach}")
    return found


def make_view(sync: Sync, when: int | str | None, at: int | None) -> tuple[Path, int, Moment]:
    """A folder with a copy of the catalog, rolled back, and the descriptor that keeps it; to be left with `leave`.

    Raises:
        NotFound: as above.
        StoreError: the disk is full, fails or may not be written; nothing is left behind.

    Cost: a copy of the catalog, and what has changed since.
    """
    root = sync.catalog.root
    writable = root is not None and not sync.catalog.read_only and os.access(root, os.W_OK)
    place = root if root is not None and writable else Path(tempfile.gettempdir())
    with refused(place), translated(place):
        return _made_view(sync, place, when, at)


def _made_view(sync: Sync, place: Path, when: int | str | None, at: int | None) -> tuple[Path, int, Moment]:
    folder, handle = _held(place)
    try:
        with frozen(sync.catalog, lambda each: find_moment(sync, each, when, at)) as (connection, moment):
            copy_to(connection, folder / CATALOG)
        with changeable(folder / CATALOG) as copy:
            history.roll_back(copy, moment.seq, sync.tables.values())
    except BaseException:
        leave(folder, handle)
        raise
    return folder, handle, moment


def _held(place: Path) -> tuple[Path, int]:
    """A new folder, and the lock in it that says that it is in use, for as long as the descriptor is open."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=VIEW, suffix=TEMPORARY, dir=place))
        with contextlib.suppress(FileNotFoundError):  # before it was locked, it looked like what a crash leaves
            handle = os.open(folder / _LOCK, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if (folder / _LOCK).exists():
                return folder, handle
            os.close(handle)


def leave(folder: Path, handle: int) -> None:
    """Close and remove a view's folder."""
    with contextlib.suppress(OSError):
        os.close(handle)
    shutil.rmtree(folder, ignore_errors=True)


def forget_shared(sync: Sync) -> bool:
    """Remove texts on their way to workers, and what a kill has left of them: some may just have been erased.

    Returns:
        Whether none is left.
    """
    left = [] if sync.root is None else [each for each in sync.root.glob(f"{SHARED}*") if not _removed(each)]
    return not left


def remove_view(folder: Path) -> bool:
    """Remove what a crashed process left of a view; False when somebody uses it, or the disk keeps it."""
    try:
        handle = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _removed(folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _removed(folder)  # while nobody can take it into use
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def _removed(folder: Path) -> bool:
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


# -- how far back ------------------------------------------------------------------------------------------------------


def keep(sync: Sync, micros: int | None) -> None:
    """Keep history for so long from now on; None for no longer than named snapshots need it."""
    with sync.catalog.write() as transaction:
        if micros is not None:
            history.begin(transaction.connection, micros)
        elif history.recording(transaction.connection):
            known = history.kept(transaction.connection)
            history.put_kept(transaction.connection, None, transaction.seq if known is None else known.since)
        transaction.record("keep history", microseconds=micros)
        prune(sync, transaction)


def name_moment(sync: Sync, name: str) -> Moment:
    """Make a named snapshot of the catalog as this commit leaves it."""
    with sync.catalog.write() as transaction:
        connection = transaction.connection
        known = history.kept(connection)
        history.begin(connection, None if known is None else known.keep)
        moment = Moment(transaction.seq, transaction.now)
        history.put_snapshot(connection, name, moment)
        transaction.record("snapshot", name=name)
    return moment


def forget_moment(sync: Sync, name: str) -> bool:
    """Drop a named snapshot, with what only it needs; False when there is none."""
    with sync.catalog.write() as transaction:
        found = history.drop_snapshot(transaction.connection, name)
        transaction.record("drop snapshot", name=name)
        prune(sync, transaction)
    return found


def prune(sync: Sync, transaction: Transaction) -> int:
    """Forget what is older than history should be, and unlink the files that only that needed."""
    connection = transaction.connection
    known = history.kept(connection)
    if known is None:
        return 0
    before = all_named(connection)
    since = transaction.seq
    if known.keep is not None:
        oldest = history.moment_at(connection, transaction.now - known.keep)
        since = known.since if oldest is None else min(max(known.since, oldest.seq), transaction.seq)
    dropped = history.prune(connection, since)
    history.put_kept(connection, known.keep, since)
    if known.keep is None and not history.snapshots_of(connection):
        history.end(connection)
    _unlink(sync, transaction, before)
    return dropped


def all_named(connection: Connection) -> set[pastrows.NamedFile]:
    """Every file that rows name, now or in the past."""
    return pastrows.named_files(connection, past=False) | pastrows.named_files(connection, past=True)


def _unlink(sync: Sync, transaction: Transaction, before: set[pastrows.NamedFile]) -> None:
    """Unlink files that were named before and are not now, once that is durable."""
    still = {each.path for each in all_named(transaction.connection)}
    for each in before:
        if each.path not in still:
            folder = sync.folder(each.what, each.space)
            transaction.after.append(lambda folder=folder, file=each.file: folder.remove(file))  # type: ignore[misc]


def problems(sync: Sync, connection: Connection) -> Iterator[tuple[str, str, str, bool]]:
    """(where, what, how to mend it, whether repair can let go of it) of everything that is wrong with history."""
    if not history.recording(connection):
        return
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")}
    anew = "what changed since is not known: drop the snapshots, and set store.history to None and anew"
    for name in sorted(history.expected_triggers(connection).keys() - there):
        yield f"trigger {name}", "is gone", anew, False
    for table in sync.tables.values():
        for number, seq, row in pastrows.damaged(connection, table):
            what = f"what row {number} was before commit {seq} is damaged: its digest does not match"
            yield f"past {table.name} {row}", what, "drop the snapshots before it, or restore a backup", False
    for named in sorted(pastrows.named_files(connection, past=True), key=lambda each: each.path):
        try:
            buffer = sync.folder(named.what, named.space).read(named.file)
            if len(buffer) == named.size and sha256(buffer) == named.sha256:
                continue
            what = "its bytes are not those that were written"
        except CorruptError as error:
            what = str(error)
        if sync.catalog.newest("SELECT 1 FROM state WHERE seq = ?", (sync.catalog.seq(connection),)) is None:
            raise moved(connection)  # it may have been let go meanwhile
        yield named.path, f"only the past needs it: {what}", "restore it, or run: vectorstore check --repair", True


def forget_file(sync: Sync, path: str) -> None:
    """The past does without a file that is lost: of an index its views answer exactly, of vectors they lack them."""
    what, *between, file = path.split("/", 2)
    space = between[0] if between else ""
    with sync.catalog.write() as transaction:
        forget_in(sync, transaction, what, space, file)


def forget_in(sync: Sync, transaction: Transaction, what: str, space: str, file: str) -> None:
    """The same, in a running transaction; what is left of the file goes."""
    if history.recording(transaction.connection):
        pastrows.forget_file(transaction.connection, what, file)
        folder = sync.folder(what, space)
        transaction.after.append(lambda: folder.remove(file))


# -- erasing -----------------------------------------------------------------------------------------------------------


def scrub(sync: Sync, transaction: Transaction, space_names: list[str], before: set[pastrows.NamedFile]) -> None:
    """Erase from files that only the past needs what no row speaks of any more: rewritten, or let go.

    Args:
        sync: the store's parts.
        transaction: the one that erases, after all its other changes.
        space_names: of the kinds concerned.
        before: what `all_named` gave when the transaction began.

    Cost: one read of each such file, one write of those that held something erased; the write lock is held meanwhile.
    """
    connection = transaction.connection
    lasting = {each.file for each in before}
    before = before | all_named(connection)
    for space in filter(None, (rows.space_by_name(connection, name) for name in space_names)):
        pastrows.forget_indexes(connection, space.id)
        known = pastrows.known_vids(connection, space.id)
        for past in pastrows.past_segments(connection, space.id):
            info, count = None, 0  # what the transaction named itself and dropped again nobody ever saw
            if past.file in lasting:
                info, count = _rewritten(sync, transaction, space.name, space.dim, past, known)
            if count < past.rows:
                pastrows.replace_past_segment(connection, past.file, info, count)
    _unlink(sync, transaction, before)


def _rewritten(
    sync: Sync, transaction: Transaction, space: str, dim: int, past: pastrows.PastSegment, known: pastrows.Vids
) -> tuple[FileInfo | None, int]:
    """(the file that holds what is left, its rows); nothing is left of a file that cannot be read."""
    folder = sync.folder("embeddings", space)
    try:
        buffer = folder.read(past.file)
        if len(buffer) != past.size or sha256(buffer) != past.sha256:
            return None, 0
        segment = open_segment(buffer, id=-1, file=past.file, rows=past.rows, dim=dim, first_vid=past.first_vid)
    except CorruptError:
        return None, 0
    mask = np.isin(segment.vids, known)
    count = int(mask.sum())
    if count in (0, past.rows):
        return None, count
    assert segment.ids is not None  # it came from a file
    chunks = segment_chunks(segment.ids[mask].tolist(), segment.vectors[mask], segment.vids[mask])
    info = folder.publish(file_name(transaction.seq - 1, uuid.uuid4().hex[:16]), chunks)
    transaction.undo.append(lambda: folder.remove(info.name))
    return info, count
