"""SQLite's errors in our words, and what the connections of a store do when one of them comes."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.storage import connection as connections
from vectorstore.storage import pages
from vectorstore.storage.connection import Connection, Reading, begin, connect, file_uri, refusal, translated
from vectorstore.storage.folder import read_mode


def error(kind: type[sqlite3.Error], name: str, text: str = "planted") -> sqlite3.Error:
    found = kind(text)
    found.sqlite_errorname = name
    return found


@pytest.mark.parametrize(
    ("raised", "becomes", "message"),
    [
        (error(sqlite3.OperationalError, "SQLITE_BUSY"), vs.StoreBusy, "for too long .* retry"),
        (error(sqlite3.OperationalError, "SQLITE_LOCKED_SHAREDCACHE"), vs.StoreBusy, "for too long .* retry"),
        (sqlite3.OperationalError("no such table: concepts"), vs.CorruptError, "schema is damaged"),
        (sqlite3.OperationalError("table x already exists"), vs.CorruptError, "schema is damaged"),
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'x'"), vs.CorruptError, "a text is damaged"),
        (error(sqlite3.OperationalError, "SQLITE_FULL"), vs.StoreError, "make room and retry"),
        (error(sqlite3.OperationalError, "SQLITE_IOERR_WRITE"), vs.StoreError, "refused .* nothing was written"),
        (error(sqlite3.OperationalError, "SQLITE_READONLY_DBMOVED"), vs.StoreError, "refused .* nothing was written"),
        (error(sqlite3.OperationalError, "SQLITE_CANTOPEN"), vs.StoreError, "refused .* nothing was written"),
        (error(sqlite3.DatabaseError, "SQLITE_CORRUPT_INDEX"), vs.CorruptError, "is damaged .* restore a backup"),
        (error(sqlite3.DatabaseError, "SQLITE_NOTADB"), vs.CorruptError, "is damaged .* restore a backup"),
        (sqlite3.ProgrammingError("Cannot operate on a closed database."), vs.StoreClosed, "the store is closed"),
        (UnicodeEncodeError("utf-8", "a\ud800", 1, 2, "surrogates"), vs.ValidationError, r"surrogate \('\\ud800'\)"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), vs.CorruptError, "is damaged .* restore a backup"),
        (OverflowError("Python int too large to convert to SQLite INTEGER"), vs.ValidationError, "beyond 64 bits"),
    ],
)
def test_an_error_of_sqlite_is_said_in_our_words(raised: Exception, becomes: type[Exception], message: str) -> None:
    with pytest.raises(vs.VectorstoreError, match=message) as caught, translated(Path("kb")):
        raise raised
    assert type(caught.value) is becomes
    full = getattr(raised, "sqlite_errorname", "") == "SQLITE_FULL"
    assert getattr(caught.value, "errno", None) == (errno.ENOSPC if full else None)


@pytest.mark.parametrize(
    "raised",
    [
        sqlite3.OperationalError('near "SELEC": syntax error'),
        error(sqlite3.IntegrityError, "SQLITE_CONSTRAINT"),
        error(sqlite3.DatabaseError, "SQLITE_MISUSE"),
        OverflowError("math range error"),
        ValueError("SQLite has nothing to do with it"),
    ],
)
def test_what_is_a_bug_passes_through_unchanged(raised: Exception) -> None:
    with pytest.raises(type(raised)) as caught, translated(None):
        raise raised
    assert caught.value is raised
    with translated(None):
        pass


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (sqlite3.DatabaseError("file is not a database"), vs.NotAStore),
        (sqlite3.OperationalError("unable to open"), vs.StoreError),
        (sqlite3.DatabaseError("database disk image is malformed"), vs.CorruptError),
    ],
)
def test_a_file_that_cannot_be_used_is_told_from_one_that_is_none(
    raised: sqlite3.DatabaseError, becomes: type[Exception]
) -> None:
    assert type(refusal(raised, "kb")) is becomes


def made(path: Path) -> Connection:
    """A connection for writing to a new file with one table `state`."""
    connection = connect(file_uri(path, "rwc"), timeout=2.0)
    connection.execute("CREATE TABLE state(one)")
    return connection


def test_beginning_to_write_leaves_no_transaction_when_it_fails(tmp_path: Path) -> None:
    connection = made(tmp_path / "a b?.sqlite")
    assert begin(connection) is True and connection.in_transaction
    connection.execute("ROLLBACK")
    reader = connect(file_uri(tmp_path / "a b?.sqlite", "ro"), timeout=2.0)
    assert begin(reader) is False and not reader.in_transaction
    reader.close()
    connection.execute("DROP TABLE state")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        begin(connection)
    assert not connection.in_transaction
    connection.close()
    assert (tmp_path / "a b?.sqlite").exists()


def test_a_connection_keeps_what_it_promises(tmp_path: Path) -> None:
    connection = made(tmp_path / "a.sqlite")
    told = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("foreign_keys", "synchronous", "trusted_schema", "cell_size_check", "secure_delete", "query_only")
    }
    assert told == {
        "foreign_keys": 1, "synchronous": 2, "trusted_schema": 0, "cell_size_check": 1, "secure_delete": 1,
        "query_only": 0,
    }  # fmt: skip
    assert connection.execute("SELECT fold('ÄPFEL'), fold(NULL)").fetchone() == (connections.fold("äpfel"), None)
    reader = connect(file_uri(tmp_path / "a.sqlite", "ro"), timeout=2.0, query_only=True, now=lambda: 7)
    assert reader.execute("SELECT now_micros()").fetchone() == (7,)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM state")
    for each in (reader, connection):
        each.close()
    with pytest.raises(vs.StoreError, match="SQLite cannot open it"):
        connect(file_uri(tmp_path / "none.sqlite", "rw"), timeout=2.0)


def test_media_that_cannot_be_written_are_read_only_where_no_commits_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, wal = tmp_path / "catalog.sqlite", tmp_path / "catalog.sqlite-wal"
    assert read_mode(tmp_path, path) == "ro"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert read_mode(tmp_path, path) == "immutable"
    wal.touch()
    assert read_mode(tmp_path, path) == "immutable"
    wal.write_bytes(b"x")
    with pytest.raises(vs.StoreError, match="holds commits and .* cannot be written"):
        read_mode(tmp_path, path)
    assert "immutable=1" in file_uri(path, "immutable") and "mode=rwc" in file_uri(path, "rwc")


def test_free_pages_are_given_back_so_many_in_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was one page in a turn, a commit each: sqlite3's `execute` makes one step of a pragma without columns."""
    connection = connect(file_uri(tmp_path / "a.sqlite", "rwc"), timeout=2.0)
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    connection.execute("CREATE TABLE t(x)")
    connection.executemany("INSERT INTO t VALUES (?)", [(bytes(4000),)] * 40)
    connection.execute("DELETE FROM t")
    monkeypatch.setattr(pages, "VACUUM_PAGES", 10)
    before = connection.execute("PRAGMA freelist_count").fetchone()[0]
    turns = 1
    while not pages.give_back(connection):
        turns += 1
    assert before > 30 and turns == -(-before // 10)
    assert connection.execute("PRAGMA freelist_count").fetchone()[0] == 0
    connection.close()


def test_emptying_the_wal_waits_no_longer_than_asked_and_leaves_the_timeout_as_it_was(tmp_path: Path) -> None:
    connection = made(tmp_path / "a.sqlite")
    connection.execute("PRAGMA journal_mode=WAL")
    said: list[str] = []
    connection.set_trace_callback(said.append)
    for timeout, patience, short in ((30.0, 1.0, 1000), (0.5, 1.0, 500), (30.0, 0.05, 50)):
        connection.execute("INSERT INTO state VALUES (1)")
        assert pages.empty_wal(connection, timeout, patience)
        assert (tmp_path / "a.sqlite-wal").stat().st_size == 0
        assert said[-3:] == [
            f"PRAGMA busy_timeout={short}", "PRAGMA wal_checkpoint(TRUNCATE)", f"PRAGMA busy_timeout={timeout * 1000:.0f}"
        ]  # fmt: skip
    assert pages.write_afresh(connection)
    assert "VACUUM" in said
    connection.close()


class Late(Connection):
    """A connection whose COMMIT fails."""

    failing: sqlite3.Error | None = None

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT" and self.failing is not None:
            raise self.failing
        return super().execute(sql, *values)


@pytest.mark.parametrize("inside", [False, True])
def test_a_read_whose_end_fails_lets_go_and_hides_no_other_error(
    inside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path / "a.sqlite").close()
    monkeypatch.setattr(connections, "Connection", Late)
    connection = connect(file_uri(tmp_path / "a.sqlite", "rw"), timeout=2.0)
    connection.failing = error(sqlite3.OperationalError, "SQLITE_IOERR_UNLOCK")
    with pytest.raises(KeyError if inside else vs.StoreError), Reading(connection, tmp_path) as reading:
        reading.execute("SELECT * FROM state").fetchall()
        if inside:
            raise KeyError("the caller's")
    connection.failing = None
    assert not connection.in_transaction and connection.turn.acquire(blocking=False)
    connection.turn.release()
    with Reading(connection, tmp_path) as reading, Reading(connection, tmp_path) as nested:
        assert nested is reading and connection.in_transaction
    assert not connection.in_transaction
    connection.close()


def test_a_read_that_cannot_begin_holds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = made(tmp_path / "a.sqlite")
    reading = Reading(connection, tmp_path)
    connection.close()
    with pytest.raises(vs.StoreClosed), reading:
        pass
    assert connection.turn.acquire(blocking=False)


def test_a_snapshot_that_nobody_ended_is_let_go_by_its_own_thread_only(tmp_path: Path) -> None:
    connection = made(tmp_path / "a.sqlite")
    left = [Reading(connection, tmp_path)]
    left[0].__enter__()
    assert connection.in_transaction
    thread = threading.Thread(target=left[0].__del__)
    thread.start()
    thread.join()
    assert connection.in_transaction
    left.clear()
    assert not connection.in_transaction and connection.turn.acquire(blocking=False)
    connection.close()


def test_norms_that_are_not_those_of_the_vectors_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        with monkeypatch.context() as patch:
            patch.setattr("vectorstore.vectors.segments.lengths", lambda vectors: np.full(len(vectors), 2, np.float32))
            store.concepts.add([{"name": f"n{n}"} for n in range(3)], vectors=np.eye(3))
            store.flush()
        assert [(each.layer, each.what) for each in store.check().findings] == [
            ("segments", "its norms are not those of its vectors")
        ]
