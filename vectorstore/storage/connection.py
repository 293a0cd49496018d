"""SQLite connections, made in one place so that all obey the same rules.

Only one SQLite library may live in a process (two drop each other's file locks and lose acknowledged commits), and
sqlite-utils prefers `pysqlite3` when it is installed: so the module is taken from sqlite-utils and from nowhere else.
Nothing but SQLite may open the catalog's files while a connection is open, for the same reason.
"""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlite_utils import Database
from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # stdlib's or pysqlite3: it decides

from vectorstore.errors import CorruptError, NotAStore, StoreBusy, StoreClosed, StoreError, ValidationError
from vectorstore.ids import fold
from vectorstore.storage.forking import closed, locked_file, opened

STAND_INS = "unmade"
"""The database in memory that has empty tables for kinds without any (`unmade.py`)."""


class Connection(sqlite3.Connection):
    """A connection and its `turn`: held by the thread that runs statements on it, and by whoever closes it.

    To close one while another thread is in the middle of a statement would end the process.

    Attributes:
        stand_in: is given SQLite's message about a table that is not there, and says whether an empty one stands in.
        stands_in: the shape of the schema for which empty tables stand in; None when none does.
        within: how many reads the running one is within; all see the snapshot of the outermost.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.turn = threading.RLock()
        self.stand_in: StandIn | None = None
        self.stands_in: int | None = None
        self.within = 0
        self._aside = 0

    def close(self) -> None:
        """As sqlite3 has it."""
        closed(self)
        super().close()

    def close_idle(self, wait: float = 0) -> bool:
        """Close it unless a thread is in the middle of a statement, and stays there for so many seconds."""
        if not (self.turn.acquire(timeout=wait) if wait else self.turn.acquire(blocking=False)):
            return False
        self.close()
        self.turn.release()
        return True

    def create_function(
        self, name: str, narg: int, function: Callable[..., Any] | None, *, deterministic: bool = False
    ) -> None:
        """As sqlite3 has it; what the function raises comes out of reads and transactions as it is."""
        super().create_function(name, narg, function and remembering(function), deterministic=deterministic)

    @property
    def changed(self) -> int:
        """Rows of the catalog that this connection has changed so far."""
        return self.total_changes - self._aside

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        """As sqlite3 has it; a table of a kind that was not made yet is empty."""
        try:
            return super().execute(sql, parameters)
        except OperationalError as error:
            if self.stand_in is None or not self.stand_in(self, str(error)):
                raise
        return self.execute(sql, parameters)

    def executemany(self, sql: str, parameters: Any) -> sqlite3.Cursor:
        """Likewise. The statement is prepared before a row is taken, so none is lost."""
        try:
            return super().executemany(sql, parameters)
        except OperationalError as error:
            if self.stand_in is None or not self.stand_in(self, str(error)):
                raise
        return self.executemany(sql, parameters)

    @contextlib.contextmanager
    def standing_in(self) -> Iterator[None]:
        """While empty tables are made in memory: a reader may, and nothing of the catalog changes."""
        before = self.total_changes
        query_only = self.execute("PRAGMA query_only").fetchone()[0]
        self.execute("PRAGMA query_only=OFF")
        try:
            if self.stands_in is None:
                self.execute(f"ATTACH ':memory:' AS {STAND_INS}")
                self.stands_in = self.execute("PRAGMA main.schema_version").fetchone()[0]
            yield
        finally:
            self.execute(f"PRAGMA query_only={query_only}")
            self._aside += self.total_changes - before

    def outdated(self) -> bool:
        """Whether empty tables stand in, and the schema has another shape since: some may be real now."""
        return self.stands_in is not None and (
            self.execute("PRAGMA main.schema_version").fetchone()[0] != self.stands_in
        )

    def stand_down(self) -> None:
        """Let go of all empty tables, outside of a transaction; statements are prepared anew."""
        self.execute(f"DETACH {STAND_INS}")
        self.stands_in = None


StandIn = Callable[[Connection, str], bool]
SqliteError = sqlite3.Error
OperationalError = sqlite3.OperationalError
IntegrityError = sqlite3.IntegrityError
ProgrammingError = sqlite3.ProgrammingError
DatabaseError = sqlite3.DatabaseError
SQLITE_VERSION = sqlite3.sqlite_version

_CACHE_KIB = {"writer": 8 * 1024, "reader": 1024}
"""SQLite's page cache. Each thread has a reader; a bigger cache of its own made no search faster, for the system keeps
the file's pages anyway."""


def connect(
    uri: str,
    *,
    timeout: float,
    query_only: bool = False,
    now: Callable[[], int] | None = None,
    stand_in: StandIn | None = None,
) -> Connection:
    """A connection with our pragmas; one thread at a time may use it.

    Args:
        uri: a `file:` URI.
        timeout: seconds to wait for a lock.
        query_only: refuse every write, whatever statement asks for it.
        now: what `now_micros()` gives in SQL, one value throughout a statement.
        stand_in: what is asked about tables that are not there.
    """
    file = locked_file(uri)
    try:
        connection: Connection = sqlite3.connect(
            uri,
            uri=True,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
            factory=Connection,
        )
    except OperationalError as error:
        raise StoreError(f"{uri}: SQLite cannot open it: {error}") from error
    opened(connection, file or locked_file(uri))
    try:
        for pragma in (
            "foreign_keys=ON",
            "synchronous=FULL",
            "trusted_schema=OFF",
            "cell_size_check=ON",
            "temp_store=MEMORY",
            "secure_delete=ON",
            f"cache_size=-{_CACHE_KIB['reader' if query_only else 'writer']}",
            f"query_only={'ON' if query_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.create_function("fold", 1, folded, deterministic=True)
        if now is not None:
            connection.create_function("now_micros", 0, now, deterministic=True)
    except DatabaseError as error:
        connection.close()
        raise refusal(error, uri) from error
    except UnicodeDecodeError as error:  # of the message that told what is wrong
        connection.close()
        raise CorruptError(f"{uri} is damaged: {error}; it was left as it is; restore a backup") from error
    connection.stand_in = stand_in
    return connection


_RAISED = "user-defined function raised exception"
"""All that SQLite tells of an error in a function of ours."""
_raised = threading.local()


def remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, for SQL: what it raises in this thread is kept for `_translate`."""

    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except BaseException as error:
            _raised.error = error
            raise

    return call


def folded(text: str | None) -> str | None:
    """`fold` as SQL has it."""
    return None if text is None else fold(text)


def wrap(connection: Connection) -> Database:
    """sqlite-utils over a connection of ours, without anybody's plugins."""
    return Database(connection, execute_plugins=False)


def file_uri(path: Path, mode: str) -> str:
    """A SQLite URI; `mode` is rw, rwc or ro, or `immutable` for media that cannot be written."""
    parameter = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    return f"file:{quote(str(path))}?{parameter}"


def begin(connection: Connection) -> bool:
    """Begin to write; False when SQLite could open the file for reading only: there were no descriptors left, say."""
    if connection.outdated():  # nobody else makes a table meanwhile: the caller has the write lock
        connection.stand_down()
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("UPDATE state SET one = one WHERE FALSE")  # BEGIN IMMEDIATE itself does not mind
    except OperationalError as error:
        connection.execute("ROLLBACK")
        if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_READONLY"):
            raise
        return False
    return True


@contextlib.contextmanager
def lenient(connection: Connection) -> Iterator[None]:
    """Texts that are no UTF-8 any more are read with surrogates, so that a check can name their row."""
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        yield
    finally:
        connection.text_factory = str


def header(connection: Connection, path: object) -> tuple[int, int, int]:
    """(application_id, user_version, number of schema objects), all as of one commit; reads only.

    Raises:
        NotAStore: the file is no SQLite database.
        CorruptError: it is one, and damaged.
        StoreError: it cannot be read now.
    """
    try:
        found = connection.execute(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) "
            "FROM pragma_application_id, pragma_user_version"
        ).fetchall()
    except DatabaseError as error:
        raise refusal(error, path) from error
    application, version, objects = found[0]
    return application, version, objects


def refusal(error: DatabaseError, where: object) -> StoreError | CorruptError:
    """Our error for a file that SQLite cannot use."""
    if "not a database" in str(error):
        return NotAStore(f"{where} is not a SQLite database; it was left as it is")
    if isinstance(error, OperationalError):
        return StoreError(f"{where}: SQLite cannot read it: {error}")
    return CorruptError(f"{where} is damaged: {error}; it was left as it is; restore a backup")


class translated:  # noqa: N801 - used like a function; a generator would cost a search ten microseconds
    """SQLite's errors that a user can do something about, in our words; bugs pass through unchanged."""

    __slots__ = ("_root",)

    def __init__(self, root: Path | None) -> None:
        self._root = root

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the error in our words if there are some."""
        if error is not None:
            _translate(error, self._root)


class Reading:
    """One read transaction on a connection; within another one of the connection it is the outer snapshot."""

    __slots__ = ("_connection", "_nested", "_root", "_thread")

    def __init__(self, connection: Connection, root: Path | None) -> None:
        self._connection = connection
        self._root = root
        self._thread = 0
        with translated(root):  # another thread may just have closed it
            self._nested = connection.in_transaction

    def __enter__(self) -> Connection:
        """The connection, in its snapshot from the first statement on."""
        self._connection.within = self._connection.within + 1 if self._nested else 0
        if not self._nested:
            self._thread = threading.get_ident()
            self._connection.turn.acquire()
            try:
                with translated(self._root):
                    self._connection.execute("BEGIN")
                    if self._connection.outdated():
                        self._connection.execute("COMMIT")
                        self._connection.stand_down()
                        self._connection.execute("BEGIN")
            except BaseException:
                self._let_go()
                raise
        return self._connection

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Let the snapshot go."""
        if self._nested:
            self._connection.within -= 1
            return
        try:
            self._connection.execute("COMMIT")
        except DatabaseError as late:
            with contextlib.suppress(SqliteError):  # it may be closed
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            if error is None:
                _translate(late, self._root)
                raise
        finally:
            self._thread = 0
            self._connection.turn.release()
        if isinstance(error, UnicodeDecodeError):
            raise CorruptError(f"{self._root}: the catalog is damaged ({error}); restore a backup") from error
        if error is not None:
            _translate(error, self._root)

    def __del__(self) -> None:
        """Let go of a snapshot that a Ctrl-C, at the first or last moment of a read, has left behind."""
        if getattr(self, "_thread", 0) == threading.get_ident():
            self._let_go()

    def _let_go(self) -> None:
        with contextlib.suppress(SqliteError):
            self._connection.execute("COMMIT")
        self._thread = 0
        with contextlib.suppress(RuntimeError):  # it was not taken yet
            self._connection.turn.release()


def no_room(root: Path | None, error: Exception) -> StoreError:
    """The error for a full disk; its errno says so."""
    found = StoreError(f"{root}: the disk refused ({error}); nothing was written; make room and retry")
    found.errno = errno.ENOSPC
    return found


_SCHEMA = (
    *("no such column", "no such table", "no such index", "malformed database schema"),
    *("duplicate column name", "foreign key mismatch"),
)
"""How SQLite tells of a schema that is not the one our statements were written for."""
_TEXT = (
    *("invalid fts5 file format", "error in tokenizer", "no such tokenizer", "unknown tokenizer", "no such module"),
    *("unrecognized option", "unrecognized parameter", "unrecognized column option", "parse error in"),
    *("malformed prefix=", "malformed columnsize=", "malformed detail=", "malformed contentless", "reserved fts5"),
    *("multiple tokenize=", "multiple content", "vtable constructor failed"),
)
"""How it tells of a full-text index whose declaration or header is damaged; all other virtual tables are temporary."""


def _translate(error: BaseException, root: Path | None) -> None:
    if isinstance(error, OperationalError) and str(error) == _RAISED:
        # Nothing is kept of what comes before the function's first line: a Ctrl-C, which Python raises just there.
        raise _raised.__dict__.pop("error", KeyboardInterrupt()) from None
    if isinstance(error, UnicodeEncodeError):
        said = f"a text with a lone surrogate ({error.object[error.start]!r}) is in no store; leave it out"
        raise ValidationError(said) from None
    if isinstance(error, UnicodeDecodeError):
        raise CorruptError(f"{root}: the catalog is damaged ({error}); restore a backup") from error
    if isinstance(error, OverflowError) and "SQLite" in str(error):
        raise ValidationError("a whole number beyond 64 bits is in no store") from None
    if not isinstance(error, DatabaseError):
        return
    if "closed database" in str(error):  # another thread has closed the store meanwhile
        raise StoreClosed("the store is closed; open it again with vs.open(...)") from None
    name = getattr(error, "sqlite_errorname", "")
    if isinstance(error, OperationalError):
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise StoreBusy(f"{root}: another connection held the catalog for too long ({error}); retry") from error
        if str(error).startswith(_SCHEMA) or str(error).endswith(" already exists"):
            raise CorruptError(f"{root}: the catalog's schema is damaged ({error}); restore a backup") from error
        if str(error).startswith(_TEXT):
            mend = "run: vectorstore check --repair"
            raise CorruptError(f"{root}: the full text of a kind cannot be used ({error}); {mend}") from error
        # The first is sqlite3's own, without a code.
        if "Could not decode" in str(error) or "malformed JSON" in str(error):
            raise CorruptError(f"{root}: a text is damaged ({error}); run: vectorstore check --repair") from error
        if name.startswith("SQLITE_FULL"):
            raise no_room(root, error) from error
        if name.startswith(("SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            raise StoreError(f"{root}: the disk refused ({error}); nothing was written") from error
    elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        raise CorruptError(f"{root}: the catalog is damaged ({error}); restore a backup") from error
