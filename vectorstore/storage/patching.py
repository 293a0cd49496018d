"""Some columns of some rows, changed in place: for what is written thousands of times a second.

`RecordTable.replace` writes whole records, with their full text and lists. Here only plain columns change that are in
no list and no full text; the seal is made anew over the whole row, after the old one was checked.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vectorstore.records import Row, digest
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import json_list, quote
from vectorstore.storage.tables import RecordTable


def stored_rows(connection: Connection, table: RecordTable[Any], ids: Iterable[str]) -> dict[str, tuple[int, Row]]:
    """Id -> (row, values in the order of the schema) of live records.

    Raises:
        CorruptError: one was damaged.
    """
    found = connection.execute(
        f"SELECT {table.table}.row, {table.table}.digest, {_columns(table)} FROM json_each(?) j "
        f"CROSS JOIN {table.table} ON {table.table}.id = j.value WHERE {table.live}",
        (json_list(ids),),
    )
    return {str(values[0]): (row, _checked(table, row, seal, values)) for row, seal, *values in found}


def numbered_rows(connection: Connection, table: RecordTable[Any], rows: Sequence[int]) -> dict[int, Row]:
    """Row -> values, of deleted records too.

    Raises:
        CorruptError: one was damaged.
    """
    found = connection.execute(
        f"SELECT {table.table}.row, {table.table}.digest, {_columns(table)} FROM json_each(?) j "
        f"CROSS JOIN {table.table} ON {table.table}.row = j.value",
        (json.dumps(list(rows)),),
    )
    return {row: _checked(table, row, seal, values) for row, seal, *values in found}


def patch(
    connection: Connection, table: RecordTable[Any], rows: Iterable[tuple[int, Row]], names: Sequence[str]
) -> None:
    """Write some columns of rows; `rows` are whole, and differ from what is stored in these columns only."""
    places = [table.schema.names.index(name) for name in names]
    assignments = ", ".join(f"{quote(name)} = ?" for name in names)
    connection.executemany(
        f"UPDATE {table.table} SET {assignments}, digest = ? WHERE row = ?",
        ((*(values[place] for place in places), digest(values), row) for row, values in rows),
    )


def pages_of(connection: Connection, table: RecordTable[Any], node: Node | None, size: int) -> Iterator[list[str]]:
    """The ids of live records that match, in order of arrival, so many at a time."""
    condition, values = table.condition(node)
    last = 0
    while True:
        found = connection.execute(
            f"SELECT {table.table}.row, {table.table}.id FROM {table.table} "
            f"WHERE {condition} AND {table.table}.row > ? ORDER BY {table.table}.row LIMIT ?",
            (*values, last, size),
        ).fetchall()
        if not found:
            return
        yield [name for _, name in found]
        last = found[-1][0]


def _columns(table: RecordTable[Any]) -> str:
    return _prefixed(table.table, tuple(table.schema.names))


@functools.lru_cache(maxsize=64)
def _prefixed(table: str, names: tuple[str, ...]) -> str:
    return ", ".join(f"{table}.{quote(name)}" for name in names)


def _checked(table: RecordTable[Any], row: int, seal: bytes, values: Sequence[Any]) -> Row:
    if digest(values) != seal:
        table.decode(row, seal, values)  # raises, and says which
    return tuple(values)
