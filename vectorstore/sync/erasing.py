"""The end of an erasure: the copies that its commit cannot take along.

A commit takes rows and names away. Right after it goes what they left behind: in freed places of the catalog and in its
log, in files that a killed process left, in catalogs of the past that one left, in safety copies of migrations. Where a
reader, a full disk or a write in progress is in the way, the catalog remembers that it is owed, and it is done as soon
as they let it: by the process that erased, or by one that opens the store later.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Collection, Iterator

import numpy as np

from vectorstore.errors import CorruptError, StoreClosed, StoreGone, VectorstoreError
from vectorstore.files import TEMPORARY
from vectorstore.storage import Connection, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.migrations import forget_backups
from vectorstore.storage.settings import put_setting, setting
from vectorstore.sync import past
from vectorstore.sync.check import unnamed
from vectorstore.sync.core import Sync
from vectorstore.sync.repair import SWEEP_SECONDS
from vectorstore.vectors.segments import NAME, open_unknown

log = logging.getLogger("vectorstore")
OWED = "erasure owed"
"""Setting: [commit that erased, whether the catalog's pages are still to be written afresh, files named before it]."""
_SOON, _SELDOM = 0.25, 60.0
"""Seconds between attempts: the first, and the longest."""

Gone = dict[str, set[int]]
"""Space -> vids that were erased."""


def owe(transaction: Transaction) -> None:
    """Remember, in the commit that erases and before it un-names files, that copies are to be removed after it."""
    connection = transaction.connection
    found = setting(connection, OWED)
    if found is None or found[0] != transaction.seq:
        files = {tuple(each) for each in found[2]} if found else set()
        files |= {(each.what, each.space, each.file) for each in past.all_named(connection)}
        put_setting(connection, OWED, [transaction.seq, True, sorted(files)])


def finish(sync: Sync, gone: Gone | None = None) -> bool:
    """Remove what is left of what was erased; what cannot be removed now is tried again in the background.

    Args:
        sync: the store's parts.
        gone: where they are known: a file that holds one of them is removed at once, and not only when it is too old to
            be of a write in progress.

    Returns:
        Whether nothing is left; False within a transaction, for then it is done after it.
    """
    if sync.catalog.after(lambda: finish(sync, gone)):
        return False
    done = _finished(sync, gone or {}, patient=True)
    if not done:
        sync.owing()
    return done


class Eraser:
    """Goes on with what an erasure owes, in a thread of its own."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._more = False  # asked for since the attempt that is under way began
        if not sync.catalog.read_only:
            sync.owing = self.start

    def resume(self) -> None:
        """Begin with what an earlier process has left."""
        with self._sync.catalog.read() as connection:
            owed = setting(connection, OWED)
        if owed is not None and not self._sync.catalog.read_only:
            self.start()

    def start(self) -> None:
        """Try again and again, less and less often, until it is done or the store is closed."""
        with self._lock:
            self._more = True
            if self._thread is None and not self._stopped.is_set():
                thread = threading.Thread(target=self._go_on, name="vectorstore-erase", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # it is done after the next opening
                    log.warning("%s: copies of what was erased may be left for now: %s", self._sync.root, error)
                    return
                self._thread = thread

    def stop(self, *, last: bool) -> None:
        """End, after a last attempt if wanted; what is owed then is done after the next opening."""
        self._stopped.set()
        with self._lock:
            thread = self._thread
        if thread is not None and not self._sync.catalog.in_transaction:  # for whose end it may just wait
            thread.join()
            if last:
                _finished(self._sync, {}, patient=False)

    def _go_on(self) -> None:
        pause = _SOON
        while not self._stopped.wait(pause):
            with self._lock:
                self._more = False
            try:
                self._sync.catalog.guard()
            except (StoreClosed, StoreGone):
                return
            done = _finished(self._sync, {}, patient=False)
            with self._lock:
                if done and not self._more:
                    self._thread = None
                    return
            pause = min(2 * pause, _SELDOM)


def _finished(sync: Sync, gone: Gone, *, patient: bool) -> bool:
    """One attempt, in which others wait but shortly if it is not patient; whether nothing is owed."""
    wait, patience = (None, 1.0) if patient else (1.0, 0.05)
    try:
        with sync.catalog.read() as connection:
            owed = setting(connection, OWED)
        if owed is None or sync.catalog.read_only:
            return owed is None
        seq, pages, files = owed
        # What passes to workers later holds nothing that was erased, and they are in the middle of it.
        if pages and past.forget_shared(sync) and sync.catalog.rewrite(wait):
            _put(sync, seq, [seq, False, files], wait)
            pages = False
        if not sync.catalog.checkpoint(wait, patience) or pages:
            return False
        if not _swept(sync, seq, {tuple(each) for each in files}, gone, wait):
            return False
        _put(sync, seq, None, wait)
    except (VectorstoreError, OSError) as error:
        log.warning("%s: copies of what was erased may be left for now: %s", sync.root, error)
        return False
    return True


def _put(sync: Sync, seq: int, value: list[object] | None, wait: float | None) -> None:
    """How far it is, unless more was erased meanwhile."""
    with sync.catalog.write(aside=True, wait=wait) as transaction:
        found = setting(transaction.connection, OWED)
        if found is not None and found[0] == seq:
            put_setting(transaction.connection, OWED, value)
        transaction.quiet()  # the purge itself is in the trail


def _swept(sync: Sync, seq: int, before: set[tuple[str, ...]], gone: Gone, wait: float | None) -> bool:
    """Remove files that no row names and that may hold what was erased at a commit; whether none is left."""
    if sync.root is None:
        return True
    forget_backups(sync.root)
    left = False
    with sync.catalog.write(aside=True, wait=wait) as transaction:  # nobody publishes a name while this holds the lock
        for what, space, name in _suspects(sync, transaction.connection, seq, before):
            if name.startswith(past.VIEW):
                left |= not past.remove_view(sync.root / name)
                continue
            folder = sync.folder(what, space)
            with contextlib.suppress(FileNotFoundError):
                if (what, space, name) not in before and folder.age(name) < SWEEP_SECONDS:
                    holds = _holds(sync, transaction.connection, what, space, name, gone.get(space, ()))
                    if holds is not True:
                        left |= holds is None
                        continue
                folder.remove(name)
    return not left


def _suspects(
    sync: Sync, connection: Connection, seq: int, before: set[tuple[str, ...]]
) -> Iterator[tuple[str, str, str]]:
    """(folder, space, name): not a segment that was begun after the erasure, or that tells of lost commits."""
    for what, space, name in unnamed(sync, connection, rows.all_spaces(connection)):
        if not what and name.startswith(past.SHARED):
            continue
        match = NAME.match(name.removeprefix("."))  # a file that is being written is called after what it will be
        if (what, space, name) in before or match is None or int(match[1]) <= seq:
            yield what, space, name


def _holds(
    sync: Sync, connection: Connection, what: str, space: str, name: str, erased: Collection[int]
) -> bool | None:
    """Whether a new file holds erased vectors; None when that cannot be told, and a write in progress may need it."""
    if not erased or TEMPORARY in name:
        return None
    if what == "indexes":
        return True  # whoever publishes an index names it in the transaction in which the file gets its name
    row = rows.space_by_name(connection, space)
    if row is None or what != "embeddings":
        return None
    try:
        found = open_unknown(sync.folder(what, space).read(name), file=name, dim=row.dim)
    except CorruptError:
        return None
    if found.explicit_vids is None:  # of new records: theirs are not erased, unless a kill came between
        return None
    return bool(np.isin(found.explicit_vids, np.fromiter(erased, dtype=np.int64)).any())
