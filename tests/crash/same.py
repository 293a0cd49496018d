"""Makes two runs of the same calls leave the same rows, and tells those rows: what is there, as one digest a table.

A run that is stopped must leave the rows of one of the commits that the run makes when nothing stops it. For that the
clock goes by its own steps, and what is random follows from a seed.
"""

from __future__ import annotations

import collections
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlite_utils.utils import sqlite3

from vectorstore.promises import VERBS
from vectorstore.storage.connection import lenient

Rows = dict[str, str]
PREPARED = datetime(2026, 1, 1, tzinfo=UTC)
ACTED, LOOKED = PREPARED + timedelta(days=1), PREPARED + timedelta(days=2)
VOLATILE = {"stat", "points", "seconds", "json_schema", "owner"}
"""Columns that say where a file lies, which differs from copy to copy of a store; what was timed; which process did it;
and a description of each kind for whoever looks at the catalog by other means."""


OWED = "erasure owed"
"""The setting that says how far the end of an erasure is: a disk that fails in the middle of it leaves more owed."""


class Ticking:
    """A clock that moves a millisecond each time somebody looks."""

    def __init__(self, start: datetime) -> None:
        self.now = start

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now


def determined() -> None:
    """From now on the ids and names that this process makes are those that any other would make; so in each thread."""
    drawn: collections.Counter[str] = collections.Counter()

    def bytes_of(count: int) -> bytes:
        thread = threading.current_thread().name
        drawn[thread] += 1
        return hashlib.shake_128(f"{thread} {drawn[thread]}".encode()).digest(count)

    os.urandom = bytes_of


def rows_of(connection: Any) -> Rows:
    """Table -> digest of its rows, whatever their order; full text, which is derived, is left out."""
    found = {}
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    with lenient(connection):
        for (name,) in names:
            if name.startswith("sqlite_") or "_fts" in name:
                continue
            columns = [
                column
                for _, column, *_ in connection.execute(f'PRAGMA table_info("{name}")').fetchall()
                if column not in VOLATILE
            ]
            wanted = ", ".join(f'"{column}"' for column in columns)
            rows = connection.execute(f'SELECT {wanted} FROM "{name}"').fetchall()
            rows = [row for row in rows if name != "_settings" or row[0] != OWED]
            found[name.lower()] = hashlib.blake2b(
                "\n".join(sorted(map(repr, rows))).encode("utf-8", "replace")
            ).hexdigest()
    return found


def rows_before(prepared: Path) -> Rows:
    """The rows of a store that nobody has open, read without touching its files: opening it may already commit."""
    wal = prepared / "catalog.sqlite-wal"
    assert not wal.exists() or not wal.stat().st_size, f"{wal}: what it holds would not be seen"
    connection = sqlite3.connect(f"file:{prepared / 'catalog.sqlite'}?mode=ro&immutable=1", uri=True)
    try:
        return rows_of(connection)
    finally:
        connection.close()


def differing(found: Rows, allowed: Sequence[Rows]) -> list[str]:
    """The tables that differ from the allowed state that is nearest; none when it is one of them."""
    return min(
        (sorted(name for name in found.keys() | each.keys() if found.get(name) != each.get(name)) for each in allowed),
        key=len,
    )


class Calls:
    """Which public verbs are called, and how often each call commits; inner calls count as the outer one."""

    def __init__(self) -> None:
        self.called: dict[str, int] = {}
        self.now: str | None = None
        self.commits = 0

    def install(self) -> None:
        """Wrap every method that has a contract."""
        for name, module in list(sys.modules.items()):
            if name.startswith("vectorstore"):
                for cls in [each for each in vars(module).values() if isinstance(each, type)]:
                    if cls.__module__ == name:
                        for method, function in list(vars(cls).items()):
                            if hasattr(function, "contract"):
                                setattr(cls, method, self._noted(f"{cls.__name__}.{method}", function))

    def _noted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.now is not None:
                return function(*args, **options)
            self.now, self.commits = name, 0
            try:
                return function(*args, **options)
            finally:
                self.now = None
                self.called[name] = max(self.called.get(name, 0), self.commits)

        call.contract = function.contract  # type: ignore[attr-defined]
        return call

    def unflagged(self) -> list[str]:
        """Verbs that commit and are not declared as writing."""
        return sorted(name for name, commits in self.called.items() if commits and not VERBS[name].writes)
