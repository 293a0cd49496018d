"""The catalog: the one SQLite file whose commits are the store's only commit points.

Owns the connections (one for writing, one a thread for reading), the write queue, the sequence number and the guards.
Every write transaction raises `seq` by one; a reader learns from it, inside its own snapshot, whether anything it has
loaded is out of date. What it never does: know what a record or a vector means.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vectorstore.errors import (
    NewerFormat,
    NotAStore,
    OutcomeUnknown,
    ReadOnlyStore,
    StoreBusy,
    StoreError,
)
from vectorstore.ids import Clock, new_id, to_micros
from vectorstore.storage.connection import (
    Connection,
    DatabaseError,
    ProgrammingError,
    Reading,
    StandIn,
    begin,
    connect,
    file_uri,
    header,
    no_room,
    translated,
)
from vectorstore.storage.folder import copy_beside, make_store, read_mode, refuse_lost
from vectorstore.storage.forking import tell
from vectorstore.storage.guarding import Guard
from vectorstore.storage.history import refuse_foreign
from vectorstore.storage.lock import LOCK, RESERVE, WriteLock
from vectorstore.storage.migrations import APPLICATION_ID, FORMAT, MIGRATIONS, migrate
from vectorstore.storage.pages import empty_wal, give_back, write_afresh
from vectorstore.storage.readers import Readers
from vectorstore.storage.transaction import First, Transaction, Undo, run

CATALOG = "catalog.sqlite"


class Catalog:
    """An open catalog. Safe for threads; of no use in a forked child."""

    def __init__(
        self, root: Path | None, *, read_only: bool, timeout: float, clock: Clock, create: bool, at: Path | None = None
    ) -> None:
        self.root = root
        self.read_only = read_only
        self.clock = clock
        self.created = False
        self.migrated_from: int | None = None
        self.stand_in: StandIn | None = None
        self.before_commit: Callable[[Transaction], None] | None = None
        self.on_commit: Callable[[Transaction], None] | None = None
        self._timeout = timeout
        self._readers = Readers(lambda: self.connect(query_only=True))
        self._writer: Connection | None = None
        self._owner: int | None = None
        self._current: Transaction | None = None
        self._shape = -1
        self.guard = Guard()
        tell(self)
        if root is None:
            self._uri = f"file:/vectorstore-{uuid.uuid4().hex}?vfs=memdb"
            self._lock = WriteLock(None, timeout)
            self._initialise(fresh=True)
            return
        path = root / CATALOG if at is None else at
        self._lock = WriteLock(None if read_only else root / LOCK, timeout, RESERVE)
        if not path.is_file():
            make_store(root, path, self._lock, create=create and not read_only)
        mode = "immutable" if at is not None else read_mode(root, path) if read_only else "rw"
        self._uri = file_uri(path, mode)
        try:
            with translated(root):
                self._open(path)
        except BaseException:
            self.close()
            raise
        self.guard.watch(path)

    # -- opening ---------------------------------------------------------------------------------------------------

    def _open(self, path: Path) -> None:
        connection = self._writer_connection() if not self.read_only else self._readers.mine()
        application, version, objects = header(connection, path)
        fresh = application == 0 and version == 0 and objects == 0
        if fresh and not self.read_only:
            refuse_lost(path)
            self._initialise(fresh=True)
            return
        if application != APPLICATION_ID:
            raise NotAStore(f"{path} is a SQLite file of something else; it was left as it is")
        if version > FORMAT:
            raise NewerFormat(
                f"{path} has format {version}; this vectorstore reads up to {FORMAT}: upgrade it (nothing was changed)"
            )
        if version < FORMAT:
            if self.read_only:
                raise StoreError(f"{path} has format {version}; open it once for writing to migrate it to {FORMAT}")
            self._initialise(fresh=False)

    def _initialise(self, *, fresh: bool) -> None:
        """Create or migrate, in one transaction, under the write lock; a second process waits and finds it done."""
        self._lock.acquire()
        try:
            connection = self._writer_connection()
            _, version, _ = header(connection, self._uri)
            if version == FORMAT:
                return
            if self.root is not None:
                if not fresh:
                    self.backup(self.root / f"catalog.format{version}.{new_id(self.clock())}.backup.sqlite")
                connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # heeded only before the first page is there
                connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                migrate(MIGRATIONS, connection, version)
                if fresh:
                    now = self.clock()
                    values = (new_id(now), to_micros(now), to_micros(now))
                    columns = "one, seq, next_vid, store, created_at, at"
                    connection.execute(f"INSERT INTO state({columns}) VALUES (1, 0, 1, ?, ?, ?)", values)
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={FORMAT}")
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            self._commit(connection)
            self.created = fresh
            self.migrated_from = None if fresh else version
        finally:
            self._lock.release()

    # -- connections -----------------------------------------------------------------------------------------------

    def connect(self, *, query_only: bool = False) -> Connection:
        """A connection for the caller alone, who closes it."""
        standing = lambda each, said: self.stand_in is not None and self.stand_in(each, said)  # noqa: E731
        return connect(self._uri, timeout=self._timeout, query_only=query_only, now=self.now, stand_in=standing)

    def _writer_connection(self) -> Connection:
        if self._writer is None:
            self._writer = self.connect()
        return self._writer

    def turn_to(self, copy: Path) -> None:
        """Read another copy of the catalog from now on, one of a later commit; reads that have begun end in theirs."""
        self._uri = file_uri(copy, "immutable")
        self.guard.watch(copy)
        self._readers.turn()

    def forked(self) -> None:
        """Whatever transaction this thread has is its parent's: in the child nothing is in one."""
        self._owner = self._current = None

    @property
    def in_transaction(self) -> bool:
        """Whether this thread has a write transaction open."""
        return self._owner == threading.get_ident()

    def now(self) -> int:
        """Microseconds since 1970 by the store's clock; in this thread's write transaction the instant it began."""
        return self._current.now if self.in_transaction and self._current else to_micros(self.clock())

    def read(self) -> Reading:
        """A consistent snapshot; inside this thread's own write transaction, that transaction."""
        if self.in_transaction:
            return Reading(self._writer_connection(), self.root)
        self.guard()
        return Reading(self._readers.mine(), self.root)

    @contextlib.contextmanager
    def write(
        self, undo: Undo | None = None, *, aside: bool = False, wait: float | None = None, first: First | None = None
    ) -> Iterator[Transaction]:
        """A write transaction; nested calls of the same thread join it. Commits on leaving, rolls back on error.

        Args:
            undo: takes back what was prepared outside (files that no row names yet). Called when the transaction
                certainly did not happen, and never when it did or when nobody knows.
            aside: for what no reader of the store depends on: `seq` stays; hooks and trail see the commit as any other.
            wait: so many seconds for other writers; None for the catalog's timeout.
            first: done before anything else in the transaction, and before it is seen whether anything runs with it.

        Raises:
            ReadOnlyStore, StoreBusy, StoreGone, StoreClosed: nothing was written.
            OutcomeUnknown: the commit failed half-way.
        """
        if self.in_transaction:
            assert self._current is not None  # set together with the owner
            with self._nested(self._current):
                if undo is not None:
                    self._current.undo.append(undo)
                yield self._current
            return
        try:
            transaction = self._begin(aside, wait, first)
        except BaseException:
            if undo is not None:
                undo()
            raise
        try:
            if undo is not None:
                transaction.undo.append(undo)
            try:
                with translated(self.root):
                    yield transaction
                    self._refuse_lost(transaction)
                    if self.before_commit is not None:
                        self.before_commit(transaction)
                self.guard()
            except BaseException:
                self._rollback()
                self._undo(transaction.undo)
                raise
            try:
                self._commit(self._writer_connection())
            except BaseException as error:
                if self._rollback() or (isinstance(error, StoreError) and not isinstance(error, OutcomeUnknown)):
                    run(transaction.undo)  # it certainly did not happen; a Ctrl-C may come right after it did
                raise
        finally:
            self._leave()
        run(transaction.after)
        if self.on_commit is not None:
            self.on_commit(transaction)

    @contextlib.contextmanager
    def _nested(self, transaction: Transaction) -> Iterator[None]:
        """A savepoint: a failed call inside a bigger transaction leaves nothing of itself."""
        mark = transaction.mark()
        self._refuse_lost(transaction)
        transaction.connection.execute("SAVEPOINT nested")
        try:
            with translated(self.root):
                yield
        except BaseException:
            if transaction.connection.in_transaction and not self.guard.inherited:
                transaction.connection.execute("ROLLBACK TO nested")
                transaction.connection.execute("RELEASE nested")
            self._undo(transaction.undo[mark[0] :])
            transaction.back_to(mark)
            raise
        self._refuse_lost(transaction)
        transaction.connection.execute("RELEASE nested")

    def _undo(self, actions: Sequence[Undo]) -> None:
        """What was prepared outside goes; in a forked child it is the parent's."""
        if not self.guard.inherited:
            run(actions)

    def _refuse_lost(self, transaction: Transaction) -> None:
        """SQLite takes a whole transaction back when the disk fails in the middle: what comes now must not be one."""
        self.guard.refuse_fork()
        if not transaction.connection.in_transaction:
            raise StoreError(f"{self.root}: the disk failed within this transaction; nothing of it was written; retry")

    def _begin(self, aside: bool, wait: float | None, first: First | None) -> Transaction:
        self.guard()
        if self.read_only:
            raise ReadOnlyStore(f"{self.root} was opened read-only; open it without read_only=True to write")
        self._lock.acquire(wait)
        try:
            with translated(self.root):
                self.guard()  # it may have been closed while this thread waited
                (connection := self._writer_connection()).turn.acquire()
                if not begin(connection):
                    connection.close()
                    self._writer = None
                    connection = self._writer_connection()
                    connection.turn.acquire()
                    connection.execute("BEGIN IMMEDIATE")
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version != FORMAT:
                    raise NewerFormat(f"the store was migrated to format {version} meanwhile; upgrade vectorstore")
                if first is not None:
                    first(connection)
                self._shape = refuse_foreign(connection, self._shape, self.root)
                now = to_micros(self.clock())
                raised = "UPDATE state SET seq = seq + 1, at = ? RETURNING seq"
                seq = connection.execute(*(["SELECT seq FROM state"] if aside else [raised, (now,)])).fetchone()[0]
            self._current = Transaction(connection, seq, now)
            self._owner = threading.get_ident()
        except BaseException:
            self._rollback()
            self._leave()
            raise
        return self._current

    def _leave(self) -> None:
        """Let the next writer in."""
        self._owner = self._current = None
        if self._writer is not None:
            with contextlib.suppress(RuntimeError):  # a Ctrl-C came before it was taken
                self._writer.turn.release()
        self._lock.release()

    def _rollback(self) -> bool:
        """Whether there was anything to roll back."""
        with contextlib.suppress(ProgrammingError):  # another thread has just closed it
            if self._writer is not None and self._writer.in_transaction and not self.guard.inherited:
                self._writer.execute("ROLLBACK")
                return True
        return False

    def _commit(self, connection: Connection) -> None:
        """The commit point; a durable effect, so a crash test stops here too."""
        try:
            connection.execute("COMMIT")
            if self._current is not None:
                self._lock.note(self._current.seq)
        except DatabaseError as error:
            self._rollback()
            if (name := getattr(error, "sqlite_errorname", "")) == "SQLITE_FULL":
                raise no_room(self.root, error) from error
            if name.startswith("SQLITE_BUSY"):
                raise StoreBusy(f"{self.root}: the commit was refused ({error}); nothing was written") from error
            raise OutcomeUnknown(
                f"{self.root}: the commit failed ({error}); it may be there after a restart or not: look, then retry"
            ) from error

    # -- whole-file services ---------------------------------------------------------------------------------------

    def seq(self, connection: Connection) -> int:
        """The sequence number of the connection's snapshot; about 3 microseconds."""
        return int(connection.execute("SELECT seq FROM state").fetchone()[0])

    def newest(self, sql: str, values: tuple[object, ...] = ()) -> Any:
        """The first value of a query at the newest commit, whatever this thread's snapshot is; None without a row."""
        if self.in_transaction:
            found = self._writer_connection().execute(sql, values).fetchall()
        else:  # on a connection of its own, all rows at once, so that it keeps no snapshot
            found = self._readers.mine("second").execute(sql, values).fetchall()
        return found[0][0] if found else None

    def backup(self, target: Path) -> None:
        """A consistent copy by SQLite's own backup (copying files would drop its locks), named when it is whole."""
        with translated(self.root):
            copy_beside(self._writer_connection(), target)

    def after(self, action: Callable[[], object]) -> bool:
        """Within this thread's transaction: do something once that is durable, and say so; else do nothing."""
        if self.in_transaction and self._current is not None:
            self._current.after.append(action)
            return True
        return False

    @contextlib.contextmanager
    def _alone(self, wait: float | None = None) -> Iterator[Connection]:
        """The connection for writing, outside of a transaction, while nobody else writes."""
        self._lock.acquire(wait)
        try:
            self.guard()
            with (connection := self._writer_connection()).turn, translated(self.root):
                yield connection
        finally:
            self._lock.release()

    def checkpoint(self, wait: float | None = None, patience: float = 1.0) -> bool:
        """Move the WAL into the main file and empty it, as far as readers allow; whether it is empty.

        Within a transaction that is done once it has ended. Seconds: `wait` for other writers, None for the catalog's
        timeout; `patience` with readers, while other writers wait.
        """
        if self.root is None or self.read_only:
            return True
        if self.after(self.checkpoint):
            return False
        with self._alone(wait) as connection:
            return empty_wal(connection, self._timeout, patience)

    def rewrite(self, wait: float | None = None) -> bool:
        """Write every page afresh, in the WAL; False when there is no room for that. Not within a transaction."""
        if self.root is None:
            return True
        with self._alone(wait) as connection:
            return write_afresh(connection)

    def vacuum(self) -> None:
        """Give free pages back to the file system, a few at a time; writers take their turns in between.

        A catalog that was made before format 4 is copied whole, once, under the write lock. Within a transaction
        that is done once it has ended.
        """
        while not self.after(self.vacuum):
            with self._alone() as connection:
                if give_back(connection):
                    return

    def close(self) -> None:
        """Close every connection, once its statement has ended; safe to call twice."""
        closed, self.guard.closed = self.guard.closed, True
        if closed or self.guard.inherited:  # the parent's connections are not ours to close
            return
        self._readers.close(10)
        if self._writer is not None:
            self._writer.close_idle(10)
        self._writer = None
        self._lock.close()
