"""SQLite files of other programs, read and never written: immutable, nothing of the file is run, names are checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlite_utils.utils import sqlite3  # type: ignore[attr-defined]  # the one SQLite of this process

from vectorstore.errors import ValidationError
from vectorstore.storage.connection import Connection, DatabaseError, file_uri
from vectorstore.storage.filters import quote

_PAGE = 2000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Foreign:
    """An open file of another program."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self.path = path
        self._connection = connection
        found = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table'").fetchall()
        # A view or a virtual table could run what the file says.
        self.tables = {
            name for name, sql in found if _NAME.fullmatch(name) and not str(sql).upper().startswith("CREATE V")
        }

    def columns(self, table: str) -> list[str]:
        """The columns of a table; none when there is no such table."""
        if table not in self.tables:
            return []
        return [row[1] for row in self._connection.execute(f"PRAGMA table_info({quote(table)})")]

    def rows(self, table: str, columns: Sequence[str], order: str = "rowid") -> Iterator[dict[str, Any]]:
        """The rows of a table as mappings; columns that it lacks are None.

        Args:
            table: must be there.
            columns: wanted.
            order: a column to sort by.

        Raises:
            ValidationError: there is no such table, or the file is damaged.
        """
        known = self.columns(table)
        if not known:
            raise ValidationError(f"{self.path}: has no table {table!r}")
        there = [column for column in columns if column in known]
        sql = f"SELECT {', '.join(map(quote, there))} FROM {quote(table)} ORDER BY {quote(order)}"
        try:
            cursor = self._connection.execute(sql)
            while found := cursor.fetchmany(_PAGE):
                for row in found:
                    yield {**dict.fromkeys(columns), **dict(zip(there, row, strict=True))}
        except DatabaseError as error:
            raise ValidationError(f"{self.path}: {table}: cannot be read: {error}") from None


@contextmanager
def foreign(path: Path) -> Iterator[Foreign]:
    """A SQLite file of another program, which must not be in use.

    Raises:
        ValidationError: it is none, is damaged, or has commits that wait beside it in a write-ahead log: its own
            program writes them into it when it opens and closes it.
    """
    for end in ("-wal", "-journal"):
        beside = path.with_name(path.name + end)
        if beside.exists() and beside.stat().st_size > 0:
            raise ValidationError(f"{beside} holds what {path.name} lacks yet; open and close it with its own program")
    connection = None
    try:
        connection = sqlite3.connect(file_uri(path, "immutable"), uri=True, isolation_level=None, factory=Connection)
        for pragma in ("query_only=ON", "trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0"):
            connection.execute(f"PRAGMA {pragma}")
        yield Foreign(path, connection)
    except DatabaseError as error:
        raise ValidationError(f"{path}: is no whole SQLite file: {error}") from None
    finally:
        if connection is not None:
            connection.close()
