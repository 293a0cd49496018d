"""Records in an order of several fields, and sums over some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from vectorstore.records import Record, Value
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable

R = TypeVar("R", bound=Record)


def first_records(
    connection: Connection, table: RecordTable[R], node: Node | None, order: Sequence[str], limit: int
) -> list[R]:
    """The first live records that match.

    Args:
        connection: of a running transaction.
        table: the kind.
        node: a filter.
        order: plain fields, with a leading `-` for descending.
        limit: at most so many.
    """
    sql, values = table.condition(node)
    by = ", ".join(
        f"{table.table}.{quote(name.removeprefix('-'))} {'DESC' if name.startswith('-') else 'ASC'}" for name in order
    )
    found = connection.execute(
        f"SELECT {table.table}.row FROM {table.table} WHERE {sql} ORDER BY {by} LIMIT ?", (*values, limit)
    )
    rows = [row for (row,) in found]
    records = table.by_rows(connection, rows)
    return [records[row] for row in rows]


def totals(
    connection: Connection, table: RecordTable[Any], node: Node | None, fields: Sequence[str], by: str | None = None
) -> dict[Value, tuple[int, dict[str, tuple[int, float]]]]:
    """Value of a field -> (how many live records match, number field -> (how many have a value, the sum of these)).

    The commonest value first, ties by value; without `by` there is one entry, None.
    """
    sql, values = table.condition(node)
    listed = ", ".join(f"count({quote(name)}), total({quote(name)})" for name in fields)
    group, grouped = ("NULL", "") if by is None else (quote(by), " GROUP BY 1 ORDER BY 2 DESC, 1")
    found = connection.execute(f"SELECT {group}, count(*), {listed} FROM {table.table} WHERE {sql}{grouped}", values)
    return {
        value: (count, {name: (sums[2 * place], sums[2 * place + 1]) for place, name in enumerate(fields)})
        for value, count, *sums in found
    }
