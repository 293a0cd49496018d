"""The values of a kind's listed fields, in a table of their own each: an index over elements and texts.

`<kind>_tags` is one of them. They are derived from the rows, and kept by the same transactions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic_core import from_json, to_json

from vectorstore.records import Column, Row, Value
from vectorstore.records.schema import folded_column
from vectorstore.storage.bulk import insert_columns
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import list_table, quote, value_column


class ListTable:
    """The table of one listed field: (value, row) for each value that a row's list holds."""

    def __init__(self, kind: str, column: Column, at: int) -> None:
        self.column = column
        self.name = f"{kind}_{column.name}"
        self.table = list_table(kind, column.name)
        self.value = value_column(column.name)
        self._kind = quote(kind)
        self._at = at
        self._by_row = column.name == "tags"

    def create(self, connection: Connection, schema: str = "main") -> None:
        """Make the table in a database of the connection; its values may be foreign keys.

        Only tags have an index of their rows: other lists cost a third less without, and forget a row by its values.
        """
        points = "" if schema != "main" or self.column.ref is None else f" REFERENCES {quote(self.column.ref)}(id)"
        owner = f" REFERENCES {self._kind}(row)" if self._by_row and schema == "main" else ""
        connection.execute(
            f"CREATE TABLE {schema}.{self.table}({self.value} TEXT NOT NULL{points}, row INTEGER NOT NULL{owner}, "
            f"PRIMARY KEY({self.value}, row)) STRICT, WITHOUT ROWID"
        )
        if self._by_row:
            connection.execute(f"CREATE INDEX {schema}.{quote(self.name + '_row')} ON {self.table}(row)")

    def insert(self, connection: Connection, rows: Iterable[tuple[int, Row]]) -> None:
        """All at once, in the order of the table's key, where a pair finds its place four times faster."""
        if self.column.type == "json":
            self._insert_lists(connection, rows)
            return
        numbers, texts = [], []
        for number, row in rows:
            numbers.append(number)
            texts.append(row[self._at])
        values = folded_column(texts) if self.column.folded else texts
        pairs = sorted(pair for pair in zip(values, numbers, strict=True) if pair[0] is not None)
        if pairs:
            named, owners = zip(*pairs, strict=True)
            insert_columns(connection, self.table, {self.value: named, "row": owners})

    def _insert_lists(self, connection: Connection, rows: Iterable[tuple[int, Row]]) -> None:
        alike: dict[Value, list[int]] = {}
        for number, row in rows:
            alike.setdefault(row[self._at], []).append(number)
        alike.pop("[]", None)
        alike.pop(None, None)
        lists: list[list[Any]] = from_json(f"[{','.join(map(str, alike))}]")
        if self.column.listed:
            keys = self.column.listed
            lists = [[item[key] for item in items for key in keys if item[key] is not None] for items in lists]
        values = list(itertools.chain.from_iterable(lists))
        named = iter(folded_column(values) if self.column.folded else values)
        rows_of: dict[str, list[int]] = {}
        for items, numbers in zip(lists, alike.values(), strict=True):
            for value in itertools.islice(named, len(items)):
                rows_of.setdefault(value, []).extend(numbers)
        if rows_of:
            connection.execute(
                f"INSERT INTO {self.table}({self.value}, row) "
                "SELECT t.key, n.value FROM json_each(?) t, json_each(t.value) n",
                (to_json({value: sorted(set(rows_of[value])) for value in sorted(rows_of)}).decode(),),
            )

    def delete(self, connection: Connection, numbers: str) -> None:
        """Forget the values of some rows (a JSON list of numbers), which still hold them."""
        among = "(SELECT value FROM json_each(?))"
        if self._by_row:
            connection.execute(f"DELETE FROM {self.table} WHERE row IN {among}", (numbers,))
            return
        whole = f" AND json_valid(t.{quote(self.column.name)})" if self.column.type == "json" else ""
        held = self._from_rows(rows=f"t.row IN {among}{whole}")
        count = len(self.column.listed or ()) or 1
        connection.execute(f"DELETE FROM {self.table} WHERE ({self.value}, row) IN ({held})", (numbers,) * count)

    def rebuild(self, connection: Connection) -> None:
        """Make the table's content anew from the rows."""
        connection.execute(f"DELETE FROM {self.table}")
        connection.execute(f"INSERT INTO {self.table}({self.value}, row) {self._from_rows()}")

    def disagreements(self, connection: Connection) -> Iterator[tuple[int, str, bool]]:
        """(row, value, whether it is missing here) of values that rows and table do not share; five of each."""
        here, there = f"SELECT row, {self.value} FROM {self.table}", self._from_rows("row, value")
        for first, second, missing in ((there, here, True), (here, there, False)):
            for row, value in connection.execute(f"{first} EXCEPT {second} LIMIT 5").fetchall():
                yield row, value, missing

    def _from_rows(self, order: str = "value, row", rows: str = "1") -> str:
        """SQL for what the table should hold, of all rows or some."""
        field = f"t.{quote(self.column.name)}"
        if self.column.type != "json":
            value = f"fold({field})" if self.column.folded else field
            own = f"SELECT {value} AS value, row FROM {self._kind} t WHERE {rows}"
            return f"SELECT {order} FROM ({own}) WHERE value IS NOT NULL"
        found = [f"json_extract(j.value, '$.\"{key}\"')" for key in self.column.listed or ()] or ["j.value"]
        parts = [
            f"SELECT {f'fold({value})' if self.column.folded else value} AS value, t.row AS row "
            f"FROM {self._kind} t CROSS JOIN json_each({field}) j WHERE {rows}"
            for value in found
        ]
        return f"SELECT DISTINCT {order} FROM ({' UNION ALL '.join(parts)}) WHERE value IS NOT NULL"
