"""Range search: every record that reaches a score, streamed best first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.records import Record
from vectorstore.records.where import Node
from vectorstore.results import Hit
from vectorstore.search.queries import LeftOut
from vectorstore.search.stages import as_score
from vectorstore.storage import RecordTable
from vectorstore.storage import spaces as rows
from vectorstore.storage.lookups import records_of
from vectorstore.sync import SnapshotMoved, Sync
from vectorstore.vectors import Allowed, Live, Matrix, Vids
from vectorstore.vectors.exact import Scores
from vectorstore.vectors.ranges import at_least

R = TypeVar("R", bound=Record)
BATCH = 500
"""So many records are decoded at a time."""


def checked_score(value: Any, name: str) -> float:
    """A finite number.

    Raises:
        ValidationError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise ValidationError(f"{name}: expected a finite number, got {value!r}")
    return float(value)


def within(
    sync: Sync, table: RecordTable[R], space: str, query: Matrix, left_out: LeftOut, score: float, node: Node | None
) -> Iterator[Hit[R]]:
    """Hits of all records that reach the score, best first; see `SearchVerbs.search_range`."""
    vids, values, metric = _scan(sync, table, space, query, score, node)
    rank = 0
    for start in range(0, len(vids), BATCH):
        part = vids[start : start + BATCH].tolist()
        records = standing(sync, table, space, part)
        for vid, value in zip(part, values[start : start + BATCH].tolist(), strict=True):
            record = records.get(vid)
            if record is not None and record.id not in left_out:
                shown, distance = as_score(value, metric)
                yield Hit(record, shown, distance, rank, {"vector": shown})
                rank += 1


def _scan(
    sync: Sync, table: RecordTable[R], space: str, query: Matrix, score: float, node: Node | None
) -> tuple[Vids, Scores, str]:
    live, allowed = snapshot_of(sync, table, space, node)
    if live is None:
        return np.empty(0, np.int64), np.empty(0), ""
    return *at_least(live, query, score, allowed), live.metric


def snapshot_of(
    sync: Sync, table: RecordTable[Any], space: str, node: Node | None
) -> tuple[Live | None, Allowed | None]:
    """The space as it is now, and what the filter lets through; usable when the read transaction is over."""
    while True:
        with sync.catalog.read() as connection:
            try:
                live = sync.state(space).current(connection)
            except SnapshotMoved:
                continue
            if live is None or node is None:
                return live, None
            return live, sync.state(space).allowed(connection, live, table, node)


def standing(sync: Sync, table: RecordTable[R], space: str, vids: Sequence[int]) -> dict[int, R]:
    """Vid -> record, for those vids that are still the live vector of their record."""
    with sync.catalog.read() as connection:
        made = rows.space_by_name(connection, space)
        if made is None:
            return {}
        row_of = records_of(connection, vids)
        live = rows.live_vectors(connection, made.id, list(set(row_of.values())))
        still = {vid: row for vid, row in row_of.items() if row in live and live[row][0] == vid}
        records = table.by_rows(connection, list(set(still.values())))
    now = sync.catalog.clock()
    ends = {row: record.expires_at for row, record in records.items()}
    return {vid: records[row] for vid, row in still.items() if (end := ends[row]) is None or end > now}
