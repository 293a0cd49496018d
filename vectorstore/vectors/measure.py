"""Recall, measured: what an index delivers at each search effort.

Held-out queries are made from the data itself in two ways that are harder than real ones: midpoints of random pairs,
and rows with noise of 0.8 of their length. On wordnet-minilm (117,659 sentences-to-glosses), GloVe and clustered
vectors both gave a lower recall than held-out real queries, at every effort (docs/adr/0003). The promise of a point
is the lower of the two, less one standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vectorstore.recipes import Point
from vectorstore.vectors.arrays import Matrix, Positions, as_unit
from vectorstore.vectors.exact import closeness_many, prepare
from vectorstore.vectors.index import BLOCK, Index
from vectorstore.vectors.segments import Segment

QUERIES = 192
DEPTHS = (10, 30, 100)
_NOISE = 0.8


@dataclass(frozen=True)
class OperatingPoint:
    """A search effort and the recall it was measured to deliver, for one k."""

    effort: Point
    candidates: int
    recall: float


@dataclass(frozen=True)
class Curve:
    """Measured operating points of an index: for each depth (k), efforts and recalls, cheapest first."""

    depths: Mapping[int, tuple[tuple[Point, int, float], ...]]
    queries: int

    def cheapest(self, recall: float, k: int) -> OperatingPoint | None:
        """The first point that delivers the recall at k, or None.

        For k between the measured depths the deeper one is used; beyond the deepest, candidates grow with k.
        """
        depth = next((depth for depth in sorted(self.depths) if k <= depth), max(self.depths))
        scale = max(1.0, k / depth)
        for effort, candidates, measured in self.depths[depth]:
            if measured >= recall:
                return OperatingPoint(effort, max(int(candidates * scale), k), measured)
        return None

    @property
    def best(self) -> float:
        """Recall@10 of the most expensive point."""
        return max(recall for _, _, recall in self.depths[min(self.depths)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as stored with an artifact."""
        return {
            "queries": self.queries,
            "depths": {str(depth): [list(point) for point in points] for depth, points in self.depths.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Curve:
        """The inverse of `to_dict`."""
        depths = {
            int(depth): tuple((dict(effort), int(candidates), float(recall)) for effort, candidates, recall in points)
            for depth, points in data["depths"].items()
        }
        return cls(depths, int(data["queries"]))


def held_out(segments: Sequence[Segment], metric: str, count: int = QUERIES, seed: int = 1) -> list[Matrix]:
    """Two (count, d) sets of queries that are not rows: midpoints of pairs, and rows with noise."""
    random = np.random.default_rng(seed)
    rows = _pick(segments, random.integers(0, sum(segment.rows for segment in segments), count))
    others = _pick(segments, random.integers(0, sum(segment.rows for segment in segments), count))
    noise = as_unit(random.standard_normal(rows.shape).astype(np.float32))
    size = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    middle = as_unit(rows) + as_unit(others) if metric == "cosine" else (rows + others) / 2
    opposite = ~middle.any(axis=1)  # the midpoint of opposite vectors has no direction
    middle[opposite] = rows[opposite]
    return [
        np.ascontiguousarray(middle, np.float32),
        np.ascontiguousarray(rows + _NOISE * size * noise, np.float32),
    ]


def _pick(segments: Sequence[Segment], positions: Positions) -> Matrix:
    offsets = np.concatenate([[0], np.cumsum([segment.rows for segment in segments])])
    owners = np.searchsorted(offsets, positions, side="right") - 1
    return np.stack(
        [segments[owner].vectors[position - offsets[owner]] for owner, position in zip(owners, positions, strict=True)]
    )


def truth(segments: Sequence[Segment], queries: Matrix, metric: str, k: int) -> Positions:
    """(q, k) exact nearest positions, nearest first, by matrix products over blocks."""
    prepared = np.stack([prepare(query, metric) for query in queries])
    best = np.empty((len(queries), 0), np.int64)
    value = np.empty((len(queries), 0), np.float32)
    offset = 0
    for segment in segments:
        for start in range(0, segment.rows, BLOCK):
            part = Segment(0, segment.vectors[start : start + BLOCK], segment.norms[start : start + BLOCK], 0, None)
            scores = closeness_many(prepared, part, metric)
            value = np.concatenate([value, scores], axis=1)
            here = np.broadcast_to(np.arange(offset, offset + part.rows), scores.shape)
            best = np.concatenate([best, here], axis=1)
            keep = min(k, value.shape[1])
            order = np.argpartition(-value, keep - 1, axis=1)[:, :keep]
            value, best = np.take_along_axis(value, order, 1), np.take_along_axis(best, order, 1)
            offset += part.rows
    return np.take_along_axis(best, np.argsort(-value, axis=1, kind="stable"), 1)


def measure(
    index: Index,
    segments: Sequence[Segment],
    metric: str,
    progress: Callable[[int, int], None] | None = None,
) -> Curve:
    """The operating curve of an index over the rows of the segments.

    Efforts that differ only in `candidates` share one search: fewer candidates are a prefix of more.

    Cost: an exact search of 384 queries, and one index search of them for each kind of effort.
    """
    depths = [depth for depth in DEPTHS if depth * 4 <= index.rows] or [min(DEPTHS[0], index.rows)]
    sets = held_out(segments, metric)
    prepared = [np.stack([prepare(query, metric) for query in queries]) for queries in sets]
    truths = [truth(segments, queries, metric, max(depths)) for queries in sets]
    curve: dict[int, list[tuple[Point, int, float]]] = {depth: [] for depth in depths}
    groups: dict[tuple[int, int], list[Point]] = {}
    for effort in index.recipe.points:
        groups.setdefault((effort.get("efSearch", 0), effort.get("nprobe", 0)), []).append(effort)
    for done, efforts in enumerate(groups.values(), 1):
        most = min(max(max(effort["candidates"], max(depths)) for effort in efforts), index.rows)
        proposals = [index.candidates(queries, efforts[-1], most) for queries in prepared]
        for effort in efforts:
            for depth in depths:
                candidates = max(effort["candidates"], depth)
                if candidates <= index.rows:
                    if "efSearch" in effort:  # a graph looks further when asked for more: no prefix of a deeper search
                        proposals = [index.candidates(queries, effort, candidates) for queries in prepared]
                    recall = min(
                        _lower_bound(proposed[:, :candidates], expected[:, :depth])
                        for proposed, expected in zip(proposals, truths, strict=True)
                    )
                    curve[depth].append((dict(effort), candidates, round(recall, 5)))
        if progress is not None:
            progress(done, len(groups))
    for depth in depths:
        if not curve[depth]:
            curve[depth].append(({**index.recipe.points[-1], "candidates": index.rows}, index.rows, 1.0))
    return Curve({depth: tuple(points) for depth, points in curve.items()}, 2 * QUERIES)


def _lower_bound(proposed: Positions, expected: Positions) -> float:
    """Mean share of the expected positions that were proposed, less one standard error, at least 0."""
    shares = np.array([np.isin(wanted, found).mean() for found, wanted in zip(proposed, expected, strict=True)])
    return max(0.0, float(shares.mean() - shares.std() / np.sqrt(len(shares))))
