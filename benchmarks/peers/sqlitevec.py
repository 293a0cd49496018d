"""sqlite-vec, through apsw: many Pythons are built without SQLite's loadable extensions."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Answer, Effort, Handle, K, Matrix, Record, Rows, System, row_of


class SqliteVec(System):
    name = "sqlite-vec"
    packages = ("sqlite-vec", "apsw")
    index = "none: every search scans; bucket is a metadata column"
    durable = "one SQLite transaction, WAL, synchronous=FULL"
    batch_by = "two threads, a connection each"
    builds_index = False

    def load(self) -> None:
        self._apsw: Any = importlib.import_module("apsw")
        module: Any = importlib.import_module("sqlite_vec")
        self._extension: str = module.loadable_path()

    def connect(self, path: Path) -> Any:
        path.mkdir(exist_ok=True)
        connection = self._apsw.Connection(str(path / "entries.sqlite"))
        connection.enable_load_extension(True)
        connection.load_extension(self._extension)
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def ingest(self, path: Path, given: Rows, variant: str) -> dict[str, float]:
        connection = self.connect(path)
        connection.execute(
            f"CREATE VIRTUAL TABLE entries USING vec0(number INTEGER PRIMARY KEY, "
            f"embedding float[{given.vectors.shape[1]}] distance_metric=cosine, bucket INTEGER, "
            "+id TEXT, +text TEXT, +domain TEXT, +pos TEXT)"
        )
        with connection:
            connection.executemany(
                INSERT, (_values(given.record(row), given.vectors[row]) for row in range(len(given)))
            )
        connection.close()
        return {}

    def open(self, path: Path, effort: Effort) -> Handle:
        return _Open(self, path)


INSERT = "INSERT INTO entries(number, embedding, bucket, id, text, domain, pos) VALUES (?, ?, ?, ?, ?, ?, ?)"
SELECT = "SELECT id, text, domain, pos, bucket FROM entries WHERE embedding MATCH ? AND k = ?"


def _values(record: Record, vector: Matrix) -> tuple[Any, ...]:
    id, text, domain, pos, bucket = record
    return row_of(record), vector.tobytes(), bucket, id, text, domain, pos


class _Open(Handle):
    def __init__(self, system: SqliteVec, path: Path) -> None:
        self._connect: Callable[[], Any] = lambda: system.connect(path)
        self._own: Any = threading.local()
        self._open: list[Any] = []
        self._connection()

    def _connection(self) -> Any:
        if not hasattr(self._own, "connection"):
            self._own.connection = self._connect()
            self._open.append(self._own.connection)
        return self._own.connection

    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        connection = self._connection()
        if bucket is None:
            return list(connection.execute(SELECT, (query.tobytes(), K)))
        return list(connection.execute(SELECT + " AND bucket = ?", (query.tobytes(), K, bucket)))

    def add(self, record: Record, vector: Matrix) -> None:
        self._connection().execute(INSERT, _values(record, vector))

    def close(self) -> None:
        for connection in self._open:
            connection.close()
