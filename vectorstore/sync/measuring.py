"""What an engine outside delivers, measured as an index of our own is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from vectorstore.engines import VectorIndex, named
from vectorstore.recipes import IndexRecipe, Point
from vectorstore.storage import SpaceRow
from vectorstore.storage.remotes import RemoteRow, waiting_vids
from vectorstore.sync.core import Sync
from vectorstore.sync.publish import snapshot
from vectorstore.vectors import Curve, Index, Live, Matrix, Positions, Segment, Vids, measure
from vectorstore.vectors.index import Restricted

_FILTERED = (16, 64, 128, 256, 1024)
"""Numbers of candidates that are measured under a filter."""


@dataclass(frozen=True, eq=False)
class _AsIndex:
    """An engine as `measure` wants an index: it proposes places among the live rows of a snapshot."""

    engine: VectorIndex
    vids: Positions
    since: int
    codes: None = None

    @cached_property
    def _order(self) -> Positions:
        return np.argsort(self.vids)

    @property
    def rows(self) -> int:
        return len(self.vids)

    @property
    def limit(self) -> int:
        return min(self.rows, self.engine.caps.most)

    @property
    def recipe(self) -> IndexRecipe:
        return IndexRecipe("engine", "engine", points=self.engine.caps.points)

    def candidates(self, queries: Matrix, effort: Point, count: int, where: str | None = None) -> Positions:
        """(q, count) places, -1 where there are none."""
        out = np.full((len(queries), count), -1, np.int64)
        found = self.engine.search(queries, min(count, self.limit), effort, where, self.since)
        ordered = self.vids[self._order]
        for place, vids in enumerate(found):
            near = np.minimum(np.searchsorted(ordered, vids), self.rows - 1)
            out[place, : len(vids)] = np.where(ordered[near] == vids, self._order[near], -1)
        return out

    def restricted(self, positions: Positions) -> Restricted | None:
        """The engine under a filter that lets these places through, if that can be said."""
        if len(positions) > self.engine.caps.named:
            return None
        where = named(self.vids[positions].tolist())
        place_of = np.full(self.rows, -1, np.int64)
        place_of[positions] = np.arange(len(positions))

        def nearest(queries: Matrix, count: int) -> Positions:
            found = self.candidates(queries, self.engine.caps.points[-1], min(count, len(positions)), where)
            return np.where(found >= 0, place_of[found], -1)

        return Restricted(nearest, 0)


def curve_of(sync: Sync, space: SpaceRow, row: RemoteRow, engine: VectorIndex) -> Curve | None:
    """The operating curve of an engine over what is live in a space now and it has been told of; None when nothing is.

    The caller has the applier's lock: what waits after the snapshot waited at it, or was not there.
    """
    live = snapshot(sync, space.name)
    if live is None or not live.live_rows:
        return None
    with sync.catalog.read() as connection:
        waits = waiting_vids(connection, row.id)
    segments, vids = _live_rows(live, waits)
    if not len(vids):
        return None
    index = _AsIndex(engine, vids, row.since)
    # Under a filter only the highest effort is used: it looks at everything, wherever the rows lie.
    highest = engine.caps.points[-1]
    exhaustive = [{**highest, "candidates": count} for count in _FILTERED if count <= highest["candidates"]]
    return measure(cast(Index, index), segments, space.metric, exhaustive=exhaustive)


def _live_rows(live: Live, without: Vids) -> tuple[list[Segment], Positions]:
    """(segments without retired rows and some vids, copied where there are some; the vids of all rows in order)."""
    segments: list[Any] = []
    vids = [np.empty(0, np.int64)]
    for segment, offset in zip(live.segments, live.offsets, strict=False):
        if not segment.rows:
            continue
        dead = np.isin(segment.vids, without)
        if live.dead is not None:
            dead |= live.dead[offset : offset + segment.rows]
        if not dead.any():
            segments.append(segment)
            vids.append(segment.vids)
        elif not dead.all():
            kept = ~dead
            segments.append(Segment(0, segment.vectors[kept], segment.norms[kept], None, segment.vids[kept]))
            vids.append(segment.vids[kept])
    return segments, np.concatenate(vids)
