"""Edges between records: a kind whose records point from one record to another."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable


@dataclass(frozen=True)
class Edge:
    """One edge as it is stored: its id, its type and the ids of its two ends."""

    id: str
    type: str
    source: str
    target: str


def edges_at(
    connection: Connection,
    edges: RecordTable[Any],
    ends: RecordTable[Any],
    ids: Sequence[str],
    node: Node | None,
    *,
    outgoing: bool,
) -> list[Edge]:
    """The live edges that leave (or reach) records, in the order of these, then of arrival; both ends are live.

    Args:
        connection: of a running transaction.
        edges: a kind with `source`, `target` and `type`.
        ends: what the edges are between.
        ids: where they begin, or end.
        node: a filter over the edges.
        outgoing: whether the ids are the sources.
    """
    near, far = ("source", "target") if outgoing else ("target", "source")
    condition, values = edges.condition(node)
    table = edges.table
    found = connection.execute(
        f"SELECT {table}.id, {table}.type, {table}.source, {table}.target FROM json_each(?) f "
        f"CROSS JOIN {table} INDEXED BY {quote(f'{edges.name}_{near}')} ON {table}.{near} = f.value "
        f"CROSS JOIN {ends.table} ON {ends.table}.id = {table}.{far} "
        f"WHERE {condition} AND {ends.live} ORDER BY f.key, {table}.row",
        (json.dumps(list(ids)), *values),
    )
    return [Edge(*row) for row in found]
