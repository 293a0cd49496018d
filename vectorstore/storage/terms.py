"""The terms of a kind's records, in a table of their own: which records name a thing is answered by its index.

Terms are the texts in the fields marked TERM, folded: a text field is one term, a list counts by element, and of a
mapping in a list every text counts. The table follows from the rows alone and is kept by the same transactions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vectorstore.ids import fold
from vectorstore.records import Row, Schema, Value
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote


class Terms:
    """The terms of one kind; without fields marked TERM it does nothing."""

    def __init__(self, schema: Schema[Any]) -> None:
        self.name = f"{schema.table}_terms"
        self.fields = [column.name for column in schema.columns if column.term]
        self._kind = quote(schema.table)
        self._table = quote(self.name)
        self._at = [(schema.names.index(name), schema.by_name[name].type == "json") for name in self.fields]
        self._listed = ", ".join(map(quote, schema.names))

    def of(self, row: Sequence[Value]) -> set[str]:
        """The folded terms of a row, whose values come in the order of the schema's columns."""
        found: set[str] = set()
        for at, is_json in self._at:
            value = row[at]
            if value is not None:
                found.update(_texts(json.loads(str(value))) if is_json else (str(value),))
        return {folded for text in found if (folded := fold(text))}

    def make(self, connection: Connection) -> None:
        """The table, made anew from the rows that there are."""
        connection.execute(f"DROP TABLE IF EXISTS {self._table}")
        if not self.fields:
            return
        connection.execute(
            f"CREATE TABLE {self._table}(term TEXT NOT NULL, row INTEGER NOT NULL REFERENCES {self._kind}(row), "
            "PRIMARY KEY(term, row)) STRICT, WITHOUT ROWID"
        )
        connection.execute(f"CREATE INDEX {quote(self.name + '_row')} ON {self._table}(row)")
        self.insert(connection, self._rows(connection))

    def insert(self, connection: Connection, rows: Iterable[tuple[int, Row]]) -> None:
        """Add the terms of rows that have none yet, in the order of the table's key."""
        if self.fields:
            pairs = sorted((term, number) for number, row in rows for term in self.of(row))
            connection.executemany(f"INSERT INTO {self._table}(term, row) VALUES (?, ?)", pairs)

    def forget(self, connection: Connection, numbers: str) -> None:
        """Remove the terms of rows, given as a JSON list of their numbers."""
        if self.fields:
            sql = f"DELETE FROM {self._table} WHERE row IN (SELECT value FROM json_each(?))"
            connection.execute(sql, (numbers,))

    def problems(self, connection: Connection, limit: int = 5) -> list[str]:
        """Where the table does not say what the rows say; damaged rows are left out."""
        if not self.fields:
            return []
        stored = set(connection.execute(f"SELECT row, term FROM {self._table}"))
        true: set[tuple[int, str]] = set()
        for number, row in self._rows(connection):
            try:
                true.update((number, term) for term in self.of(row))
            except ValueError:  # the row's own digest reports it
                stored = {pair for pair in stored if pair[0] != number}
        lacking = [f"row {row} lacks term {term!r}" for row, term in sorted(true - stored)[:limit]]
        return lacking + [f"row {row} has no term {term!r}" for row, term in sorted(stored - true)[:limit]]

    def _rows(self, connection: Connection) -> Iterator[tuple[int, Row]]:
        for number, *values in connection.execute(f"SELECT row, {self._listed} FROM {self._kind}"):
            yield number, tuple(values)


def _texts(value: Any) -> Iterator[str]:
    for element in value if isinstance(value, list) else (value,):
        if isinstance(element, str):
            yield element
        elif isinstance(element, dict):
            yield from (part for part in element.values() if isinstance(part, str))
