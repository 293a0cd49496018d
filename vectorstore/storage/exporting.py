"""A kind's rows on their way out: ranges of row numbers, values as they are stored, the digest of every row checked."""

from __future__ import annotations

import hashlib
from typing import Any

from vectorstore.errors import CorruptError
from vectorstore.ids import to_micros
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable

Sealed = tuple[Any, ...]
VALUES = 2
"""Where the values begin in what `sealed_rows` gives."""


def highest_row(connection: Connection, table: RecordTable[Any]) -> int:
    """The highest row number of the kind, 0 when it is empty."""
    return table.next_row(connection) - 1


def sealed_rows(
    connection: Connection, table: RecordTable[Any], node: Node | None, first: int, last: int
) -> list[Sealed]:
    """(row, digest, values in the order of the columns ...) of live records that match, by ascending row.

    Args:
        connection: of a running read.
        table: of the kind.
        node: a filter.
        first: lowest row number.
        last: highest row number.

    Raises:
        CorruptError: a row was damaged since it was written.
    """
    sql, values = table.condition(node, connection)
    columns = ", ".join(f"{table.table}.{quote(name)}" for name in table.schema.names)
    found: list[Sealed] = connection.execute(
        f"SELECT {table.table}.row, {table.table}.digest, {columns} FROM {table.table} "
        f"WHERE {table.table}.row BETWEEN ? AND ? AND {sql} ORDER BY 1",
        (first, last, *values),
    ).fetchall()
    blake = hashlib.blake2b
    for row in found:  # `digest` in place: a call each would be a tenth of an export
        if blake(repr(row[2:]).encode("utf-8", "surrogatepass"), digest_size=8).digest() != row[1]:
            raise CorruptError(
                f"{table.name} row {row[0]} (id {row[2]!r}) is damaged: its digest does not match; "
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
