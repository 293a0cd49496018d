"""Kinds of ours that no record was ever written to: they have no tables in the catalog, and read as empty.

An empty store would else be 300 pages of nothing, which each connection has to read the names of. The first record of a
kind makes its tables, in its own transaction. Until then a statement that names one gets an empty table that stands in
for it, in a database in memory that is attached to that connection alone; what would be written there is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from vectorstore.storage import history
from vectorstore.storage.connection import STAND_INS, Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.listed import ListTable
from vectorstore.storage.tables import RecordTable

_LACKING = re.compile(r"no such table: (\w+)$")


class Unmade:
    """Which tables belong to which of our kinds."""

    def __init__(self, tables: Iterable[RecordTable[Any]]) -> None:
        self._tables = {table.name: table for table in tables}
        for table in self._tables.values():
            table.unmade = self
        self._owner = {name: table for table in self._tables.values() for name in _names(table)}

    def stand_in(self, connection: Connection, message: str) -> bool:
        """After "no such table": let an empty one stand in, if it is of a kind that was not made yet.

        A kind that was made and has no table is damage, and stays an error.

        Cost: 0.2 to 1 ms, once for each table and connection.
        """
        found = _LACKING.match(message)
        table = self._owner.get(found[1]) if found else None
        if found is None or table is None or made(connection, table.name):
            return False
        with connection.standing_in():
            _make_empty(connection, table, found[1])
        return True

    def make(self, connection: Connection, table: RecordTable[Any]) -> None:
        """Make the tables of a kind that has none yet, and of those that it points to; 5 microseconds if it has.

        Args:
            connection: of a write transaction.
            table: of the kind.
        """
        lacking = self._lacking(connection, table, {})
        if not lacking:
            return
        history.pause(connection)
        for each in lacking.values():
            if connection.stands_in is not None:  # statements that were prepared for those would go on reading them
                for name in _names(each):
                    connection.execute(f"DROP TABLE IF EXISTS {STAND_INS}.{name}")
            each.create(connection)
        history.renew(connection)

    def _lacking(
        self, connection: Connection, table: RecordTable[Any], found: dict[str, RecordTable[Any]]
    ) -> dict[str, RecordTable[Any]]:
        if table.name in found or made(connection, table.name):
            return found
        found[table.name] = table
        for column in table.schema.columns:
            if column.ref in self._tables:
                self._lacking(connection, self._tables[column.ref], found)
        return found


def made(connection: Connection, kind: str) -> bool:
    """Whether the catalog has tables of a kind."""
    return connection.execute("SELECT 1 FROM kinds WHERE name = ?", (kind,)).fetchone() is not None


def _names(table: RecordTable[Any]) -> tuple[str, ...]:
    """All tables that a kind has or may have; full text goes before the rows that it is over."""
    return (*sorted(table.derived), f"_past_{table.name}", table.name)


def _make_empty(connection: Connection, table: RecordTable[Any], name: str) -> None:
    lists: dict[str, ListTable] = {listed.name: listed for listed in table.lists}
    if name in lists:
        lists[name].create(connection, STAND_INS)
    elif name == table.name:
        table.create_rows(connection, STAND_INS)
    elif name == f"_past_{table.name}":
        fields = ", ".join(map(quote, table.schema.names))
        connection.execute(f"CREATE TABLE {STAND_INS}.{name}(_id, _seq, _was, row, {fields}, digest)")
    else:
        connection.execute(f"SELECT 1 FROM {table.table}").close()  # what FTS5 compares its index with
        table.create_text(connection, STAND_INS)
        return
    connection.execute(
        f"CREATE TRIGGER {STAND_INS}.{name}_none BEFORE INSERT ON {name} "
        f"BEGIN SELECT RAISE(ABORT, '{name} is made by its first record'); END"
    )
