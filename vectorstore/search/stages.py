"""What may happen to a ranked list before it is cut: the frame that decay, re-ranking, diversity and groups fill.

A search ranks by vector, text or both; a stage sees the best of that list, changes scores or order, and hands on.
When a stage cannot tell the true best k from what it was shown (an older record further down might overtake), it
returns None and is shown more, up to everything: so the answer equals what the stage would make of the whole list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from vectorstore.records import Value
from vectorstore.results import Former, Side
from vectorstore.storage import Connection, RecordTable
from vectorstore.storage.lookups import values_of
from vectorstore.vectors import Live, Matrix


@dataclass(frozen=True)
class Ranked:
    """One row of a ranked list.

    Attributes:
        row: the record's row.
        vid: its vector, None when it was found by its text alone.
        score: bigger is better; the sum of `parts`.
        distance: smaller is better; None where it means nothing.
        parts: what the score is the sum of, by source.
        group: the value that it was grouped by.
        former: its place before re-ranking.
        sides: what vector and text search say of it.
    """

    row: int
    vid: int | None
    score: float
    distance: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    group: Any = None
    former: Former | None = None
    sides: Mapping[str, Side] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What a stage may look at, all of one read snapshot.

    Attributes:
        query: as the caller gave it.
        vector: (d,) float32, None in text mode.
        metric: of the space.
        now: the store's clock.
        grows: a deeper list begins with this one; not so when ranks are fused, which deepening changes.
    """

    connection: Connection
    table: RecordTable[Any]
    live: Live | None
    query: Any
    vector: Matrix | None
    metric: str
    now: datetime
    grows: bool = True

    def records(self, ranked: Sequence[Ranked]) -> list[Any]:
        """The records, in the order of the list."""
        found = self.table.by_rows(self.connection, [item.row for item in ranked])
        return [found[item.row] for item in ranked]

    def values(self, ranked: Sequence[Ranked], field: str) -> list[Value]:
        """One field's stored values (times as microseconds since 1970), in the order of the list."""
        found = values_of(self.connection, self.table.schema, [item.row for item in ranked], field)
        return [found[item.row] for item in ranked]

    def vectors(self, ranked: Sequence[Ranked]) -> Matrix:
        """(n, d) float32 vectors, in the order of the list; zeros for what has none."""
        dim = 0 if self.live is None else self.live.dim
        out = np.zeros((len(ranked), dim), np.float32)
        places = {item.vid: place for place, item in enumerate(ranked) if item.vid is not None}
        if self.live is not None and places:
            vids, matrix = self.live.vectors_of(np.array(sorted(places), dtype=np.int64))
            out[[places[vid] for vid in vids.tolist()]] = matrix
        return out


class Stage(Protocol):
    """One change of a ranked list."""

    def depth(self, k: int) -> int:
        """How much of the list it wants to see first for k answers, at least k."""

    def apply(self, scene: Scene, ranked: Sequence[Ranked], k: int, complete: bool) -> list[Ranked] | None:
        """The list in its new order, at least the first k; None to be shown more.

        Args:
            scene: what else may be looked at.
            ranked: best first.
            k: how many of the answer will be used, by the next stage or by the caller.
            complete: there is nothing beyond `ranked`; None may not be returned then.
        """


def as_score(value: float, metric: str) -> tuple[float, float]:
    """(score, distance) from the similarity of `exact.final_scores`."""
    if metric == "cosine":
        return value, 1.0 - value
    if metric == "ip":
        return value, -value
    return 1.0 / (1.0 - value), -value
