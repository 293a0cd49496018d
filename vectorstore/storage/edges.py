"""Edges between records: a kind whose records point from one record to another.

Any kind will do that has `source` and `target`, both `Ref(kind, cascade=True)` to one kind, and `type`. How strong an
edge is says its `weight`, else its `confidence`; an edge of a kind with neither has 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import json_list, quote
from vectorstore.storage.tables import RecordTable

Direction = Literal["out", "in", "both"]
DIRECTIONS: tuple[str, ...] = get_args(Direction)


@dataclass(frozen=True)
class Edge:
    """One edge as it is stored: its id, its type, the ids of its two ends, and how strong it is."""

    id: str
    type: str
    source: str
    target: str
    weight: float = 1.0


EdgeRow = tuple[str, str, str, str, float]
"""The fields of an `Edge`, in order."""


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
    return [Edge(*row) for row in rows_at(connection, edges, ends, ids, node, outgoing=outgoing)]


def rows_at(
    connection: Connection,
    edges: RecordTable[Any],
    ends: RecordTable[Any],
    ids: Sequence[str],
    node: Node | None,
    *,
    outgoing: bool,
) -> list[EdgeRow]:
    """As `edges_at`, as plain tuples: for a hundred thousand of them that is a quarter of the time."""
    near, far = ("source", "target") if outgoing else ("target", "source")
    condition, values = edges.condition(node)
    table, known = edges.table, edges.schema.by_name
    weight = next((f"{table}.{name}" for name in ("weight", "confidence") if name in known), "1.0")
    return connection.execute(
        f"SELECT {table}.id, {table}.type, {table}.source, {table}.target, {weight} FROM json_each(?) f "
        f"CROSS JOIN {table} INDEXED BY {quote(f'{edges.name}_{near}')} ON {table}.{near} = f.value "
        f"CROSS JOIN {ends.table} ON {ends.table}.id = {table}.{far} "
        f"WHERE {condition} AND {ends.live} ORDER BY f.key, {table}.row",
        (json_list(ids), *values),
    ).fetchall()


def walk(
    connection: Connection,
    edges: RecordTable[Any],
    ends: RecordTable[Any],
    start: str,
    node: Node | None,
    direction: Direction,
    depth: int | None,
    limit: int,
) -> dict[str, tuple[Edge, ...]]:
    """Id -> one of the shortest ways there, nearest first, each record once, without the start; cycles do no harm.

    Args:
        connection: of a running transaction.
        edges: a kind with `source`, `target` and `type`.
        ends: what the edges are between.
        start: the id of a live record.
        node: a filter over the edges.
        direction: along the edges, against them, or either way.
        depth: at most so many edges away; None for as far as they lead.
        limit: at most so many records.

    Cost: one query a step of depth and direction; no record is visited twice.
    """
    paths: dict[str, tuple[Edge, ...]] = {start: ()}
    frontier, reached = [start], 0
    while frontier and len(paths) <= limit and (depth is None or reached < depth):
        reached += 1
        steps: list[str] = []
        for outgoing in [way for way in (True, False) if direction in ("both", "out" if way else "in")]:
            for edge in edges_at(connection, edges, ends, frontier, node, outgoing=outgoing):
                near, far = (edge.source, edge.target) if outgoing else (edge.target, edge.source)
                if far not in paths:
                    paths[far] = (*paths[near], edge)
                    steps.append(far)
        frontier = steps
    return {name: paths[name] for name in list(paths)[1 : limit + 1]}
