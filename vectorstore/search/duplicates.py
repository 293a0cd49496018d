"""Near-duplicates: all pairs of records whose vectors are nearly the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from vectorstore.records import Record
from vectorstore.records.where import Node
from vectorstore.search.ranges import BATCH, snapshot_of, standing
from vectorstore.storage import RecordTable
from vectorstore.sync import Progress, Sync
from vectorstore.vectors.ranges import pairs, scores_of

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Pair(Generic[R]):
    """Two records that are alike.

    Attributes:
        first: the one whose vector is older.
        second: the other one.
        score: how alike, as a hit's score: the cosine, the inner product, or 1 / (1 + distance) for l2.
    """

    first: R
    second: R
    score: float


def alike(
    sync: Sync,
    table: RecordTable[R],
    space: str,
    score: float,
    node: Node | None,
    progress: Progress = lambda done, total: None,
) -> Iterator[Pair[R]]:
    """All pairs that reach the score; see `SearchVerbs.duplicates`."""
    live, allowed = snapshot_of(sync, table, space, node)
    if live is None:
        return
    batch: list[tuple[int, int, float]] = []
    for vid, others, values in pairs(live, score, allowed, progress=progress):
        scores = scores_of(values, live.metric).tolist()
        for start in range(0, len(others), BATCH):
            part = slice(start, start + BATCH)
            batch += [(vid, other, one) for other, one in zip(others[part].tolist(), scores[part], strict=True)]
            if len(batch) >= BATCH:
                yield from _decoded(sync, table, space, batch)
                batch = []
    yield from _decoded(sync, table, space, batch)


def _decoded(sync: Sync, table: RecordTable[R], space: str, batch: list[tuple[int, int, float]]) -> Iterator[Pair[R]]:
    records = standing(sync, table, space, sorted({vid for pair in batch for vid in pair[:2]}))
    for first, second, score in batch:
        if first in records and second in records:
            yield Pair(records[first], records[second], score)
