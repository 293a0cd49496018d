"""A kind's rows on their way out: ranges of row numbers, sealed values, and their JSON as SQLite writes it.

The digest of every row is checked here too; what is built in C beside it are the texts and lists, most of a line.
"""

from __future__ import annotations

import functools
import hashlib
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from vectorstore.errors import CorruptError, ValidationError
from vectorstore.ids import from_micros, to_micros
from vectorstore.records import Column, Value
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable

_IN_SQL = ("text", "integer", "boolean", "json")
Sealed = tuple[Any, ...]


def highest_row(connection: Connection, table: RecordTable[Any]) -> int:
    """The highest row number of the kind, 0 when it is empty."""
    return table.next_row(connection) - 1


def sealed_rows(
    connection: Connection, table: RecordTable[Any], node: Node | None, first: int, last: int, head: str = "NULL"
) -> list[Sealed]:
    """(row, head, values in the order of the columns ...) of live records that match, by ascending row.

    Args:
        connection: of a running read.
        table: of the kind.
        node: a filter.
        first: lowest row number.
        last: highest row number.
        head: an SQL expression to come with each row, such as `Lines.head`.

    Raises:
        CorruptError: a row was damaged since it was written.
    """
    sql, values = table.condition(node)
    columns = ", ".join(f"{table.table}.{quote(name)}" for name in table.schema.names)
    found: list[Sealed] = connection.execute(
        f"SELECT {table.table}.row, {head}, {table.table}.digest, {columns} FROM {table.table} "
        f"WHERE {table.table}.row BETWEEN ? AND ? AND {sql} ORDER BY 1",
        (first, last, *values),
    ).fetchall()
    blake = hashlib.blake2b
    for row in found:  # `digest` in place: a call each would be a tenth of an export
        if blake(repr(row[3:]).encode("utf-8", "surrogatepass"), digest_size=8).digest() != row[2]:
            raise CorruptError(
                f"{table.name} row {row[0]} (id {row[3]!r}) is damaged: its digest does not match; "
                "restore a backup, or overwrite the record with upsert; nothing was exported"
            )
    return found


def tombstones(connection: Connection, table: RecordTable[Any], node: Node | None) -> list[tuple[str, int]]:
    """(id, microseconds since 1970) of deleted records that match, oldest deletion first."""
    rows = table.matching(connection, node, deleted=True).tolist()
    gone = table.by_rows(connection, rows).values()
    timed = [(to_micros(record.deleted_at), record.id) for record in gone if record.deleted_at is not None]
    return [(name, at) for at, name in sorted(timed)]


def has_brought(connection: Connection, space: int) -> bool:
    """Whether some live vector of the space was brought by a caller rather than made from a text."""
    sql = "SELECT EXISTS (SELECT 1 FROM vectors WHERE space = ? AND retired IS NULL AND text_hash IS NULL)"
    return bool(connection.execute(sql, (space,)).fetchone()[0])


class Lines:
    """How a kind's records become JSON objects; fields that have their default are left out.

    `head` is an SQL expression for the text of an object without its closing brace. Numbers and times come after it,
    written by Python (SQLite keeps 15 digits of a number), from a cache: the records of one commit share their times.
    """

    def __init__(self, table: RecordTable[Any]) -> None:
        numbered = list(enumerate(table.schema.columns))
        self.head = " || ".join(_part(column, place == 0) for place, column in numbered if column.type in _IN_SQL)
        late = [(at, column) for at, column in numbered if column.type not in _IN_SQL and column.name != "deleted_at"]
        self._tail = functools.lru_cache(maxsize=4096)(functools.partial(_tail, table.name, [c for _, c in late]))
        self._pick: Callable[[Sealed], tuple[Value, ...]] = operator.itemgetter(*(at + 3 for at, _ in late))

    def of(self, rows: Sequence[Sealed]) -> list[str]:
        """The objects of rows that came with `head`.

        Raises:
            ValidationError: a number is infinite, which JSON cannot say.
        """
        tail, pick = self._tail, self._pick
        return [row[1] + tail(*pick(row)) for row in rows]


def _part(column: Column, first: bool) -> str:
    """The SQL of `,"name":value`, or of nothing where the value is the default."""
    name = quote(column.name)
    text = column.type in ("text", "json")
    value = {"text": f"json_quote({name})", "boolean": f"iif({name}, 'true', 'false')"}.get(column.type, name)
    if column.nullable:
        value = f"iif({name} IS NULL, 'null', {value})"
    said = f"'{'{' if first else ','}\"{column.name}\":' || {value}"
    if first or column.required:
        return said
    if column.default is None:
        return f"iif({name} IS NULL, '', {said})"
    default = "'{}'".format(str(column.default).replace("'", "''")) if text else str(column.default)
    return f"iif({name} IS {default}, '', {said})"


def _tail(kind: str, columns: Sequence[Column], *values: Value) -> str:
    said = zip(columns, values, strict=True)
    told = [(column, value) for column, value in said if column.required or value != column.default]
    return "".join(f',"{column.name}":{_number(kind, column, value)}' for column, value in told) + "}"


def _number(kind: str, column: Column, value: Value) -> str:
    if value is None:
        return "null"
    if column.type == "time":
        return f'"{from_micros(int(value)).isoformat()}"'
    if not math.isfinite(float(value)):
        raise ValidationError(f"{kind}.{column.name}: JSON has no {value!r}; export to Parquet or Arrow")
    return repr(value)
