"""Recall, measured: what an index delivers at each search effort, without and with a filter.

Held-out queries are made from the data itself, and are harder than real ones: rows with noise as long as they are, and
means of five random rows. An index loses neighbours in two ways. Codes lose them where their rounding is coarser than
the gaps between rows: noisy rows show it, and where rows come in near copies of each other, means of five do, whose
neighbours are all about equally far. An inverted file also loses them by not visiting their cells, and that depends on
how far off the data a query lies: sentences asked of glosses, or claims of abstracts, have their neighbours in many
cells. So inverted files answer a third set, sums and differences of five rows, which lie near no row and between no
two. Real queries got more than was promised from every recipe on wordnet-minilm (a million rows with near copies, too),
SciFact, GloVe and hashed texts (docs/adr/0006). For filters the same queries are put to two subsets: random rows, and
rows of one topic (the nearest to one of them), which lie closer together. The promise of a point is the lowest mean of
its trials, less one standard error.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.recipes import Point
from vectorstore.vectors import allowed
from vectorstore.vectors.arrays import Matrix, Positions, as_unit, lengths
from vectorstore.vectors.exact import closeness_many, prepare
from vectorstore.vectors.index import BLOCK, Index
from vectorstore.vectors.segments import Segment

QUERIES = 192
DEPTHS = (10, 30, 100)
FILTER_QUERIES = 64
GRAPH_QUERIES = 16
"""So many of each set when the index must be asked for all rows' candidates, of which a tenth survive."""

MAX_FILTERED = 32_768
"""At most so many rows are gathered to measure filters with."""

_NOISE = 1.0
"""The noise of a noisy row, in its lengths."""


@dataclass(frozen=True)
class OperatingPoint:
    """A search effort and the recall it was measured to deliver, for one k."""

    effort: Point
    candidates: int
    recall: float


Points = tuple[tuple[Point, int, float], ...]


@dataclass(frozen=True)
class Curve:
    """Measured operating points of an index: for each depth (k), efforts and recalls, cheapest first.

    Attributes:
        depths: over all rows.
        queries: how many were asked.
        filtered: over the rows that a filter allows; empty when that was not measured.
        note: why this index was chosen, where it was chosen among others.
    """

    depths: Mapping[int, Points]
    queries: int
    filtered: Mapping[int, Points] = field(default_factory=dict)
    note: str = ""

    def cheapest(self, recall: float, k: int, *, filtered: bool = False) -> OperatingPoint | None:
        """The first point that delivers the recall at k, or None.

        For k between the measured depths the deeper one is used; beyond the deepest, candidates grow with k.
        """
        depths = self.filtered if filtered else self.depths
        if not depths:
            return None
        depth = next((depth for depth in sorted(depths) if k <= depth), max(depths))
        scale = max(1.0, k / depth)
        for effort, candidates, measured in depths[depth]:
            if measured >= recall:
                return OperatingPoint(effort, max(int(candidates * scale), k), measured)
        return None

    @property
    def best(self) -> float:
        """Recall@10 of the most expensive point."""
        return max(recall for _, _, recall in self.depths[min(self.depths)])

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as stored with an artifact."""
        plain: dict[str, Any] = {
            "queries": self.queries,
            "depths": _plain(self.depths),
            "filtered": _plain(self.filtered),
        }
        return {**plain, "note": self.note} if self.note else plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Curve:
        """The inverse of `to_dict`."""
        return cls(
            _points(data["depths"]), int(data["queries"]), _points(data.get("filtered", {})), data.get("note", "")
        )


def _plain(depths: Mapping[int, Points]) -> dict[str, list[list[Any]]]:
    return {str(depth): [list(point) for point in points] for depth, points in depths.items()}


def _points(depths: Mapping[str, Sequence[Sequence[Any]]]) -> dict[int, Points]:
    return {
        int(depth): tuple((dict(effort), int(candidates), float(recall)) for effort, candidates, recall in points)
        for depth, points in depths.items()
    }


def held_out(
    segments: Sequence[Segment], metric: str, count: int = QUERIES, seed: int = 1, *, far: bool = False
) -> list[Matrix]:
    """Sets of (count, d) queries that are not rows, each harder than real ones in its way.

    Args:
        segments: whose rows they are made from.
        metric: cosine takes directions only.
        count: how many in a set.
        seed: other queries for another seed.
        far: a third set for indexes that visit only a part of the rows.

    Returns:
        Means of five rows; rows with noise; and when `far`, a + b + c - d - e of five rows.
    """
    random = np.random.default_rng(seed)
    total = sum(segment.rows for segment in segments)
    a, b, c, d, e = (_pick(segments, random.integers(0, total, count)) for _ in range(5))
    noise = as_unit(random.standard_normal(a.shape).astype(np.float32)) * lengths(a)[:, None]
    noisy = a + _NOISE * noise
    if metric == "cosine":
        a, b, c, d, e = (as_unit(rows) for rows in (a, b, c, d, e))
    made = [(a + b + c + d + e) / 5, noisy]
    if far:
        made.append(a + b + c - d - e)
    return [_unless_zero(queries, a) for queries in made]


def _unless_zero(queries: npt.NDArray[np.floating[Any]], rows: Matrix) -> Matrix:
    """The queries, with a row in place of each that has no direction, such as the mean of opposite vectors."""
    zero = ~np.any(queries, axis=1, keepdims=True)
    return np.ascontiguousarray(np.where(zero, rows, queries), np.float32)


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


@dataclass(frozen=True, eq=False)
class _Trial:
    """Queries with their exact answers, and how an index answers them: (effort, count) -> (q, count) positions."""

    propose: Callable[[Point, int], Positions]
    expected: Positions

    def ranks(self, effort: Point, count: int) -> npt.NDArray[np.int64]:
        """(q, k) at which place each expected position was proposed; `count` for those that were not."""
        proposed = self.propose(effort, count)
        ranks = np.full(self.expected.shape, count, np.int64)
        for place, (found, wanted) in enumerate(zip(proposed, self.expected, strict=True)):
            order = np.argsort(found, kind="stable")
            near = np.minimum(np.searchsorted(found, wanted, sorter=order), len(found) - 1)
            here = found[order[near]] == wanted
            ranks[place, here] = order[near][here]
        return ranks


def measure(
    index: Index,
    segments: Sequence[Segment],
    metric: str,
    progress: Callable[[int, int], None] | None = None,
    exhaustive: Sequence[Point] = (),
) -> Curve:
    """The operating curve of an index over the rows of the segments.

    Efforts that differ only in `candidates` share one search: fewer candidates are a prefix of more.

    Cost: an exact search of 384 queries, one index search of them for each kind of effort; a third of it again for
    filters. An inverted file answers 576; its recall under a filter is not measured: it depends on where the rows lie.
    `exhaustive` are efforts of which that is not so, to be measured under a filter instead of the recipe's points.
    """
    depths = [depth for depth in DEPTHS if depth * 4 <= index.rows] or [min(DEPTHS[0], index.rows)]
    sets = held_out(segments, metric, far=index.recipe.inverted)
    trials = []
    for queries in sets:
        prepared = np.stack([prepare(query, metric) for query in queries])
        trials.append(
            _Trial(functools.partial(index.candidates, prepared), truth(segments, queries, metric, max(depths)))
        )
    points = index.recipe.points
    filtered: dict[int, Points] = {}
    dim = segments[0].vectors.shape[1]
    if index.rows * dim > allowed.EXACT_FILTER_NUMBERS and (exhaustive or not index.recipe.inverted):
        count = FILTER_QUERIES if index.codes is not None else GRAPH_QUERIES
        some = np.concatenate([queries[:count] for queries in sets])
        filtered = _curve(
            exhaustive or points, depths, _filter_trials(index, segments, metric, some, max(depths)), index.limit
        )
    return Curve(_curve(points, depths, trials, index.limit, progress), len(sets) * QUERIES, filtered)


def _curve(
    points: Sequence[Point],
    depths: Sequence[int],
    trials: Sequence[_Trial],
    limit: int,
    progress: Callable[[int, int], None] | None = None,
) -> dict[int, Points]:
    curve: dict[int, list[tuple[Point, int, float]]] = {depth: [] for depth in depths}
    groups: dict[tuple[int, int], list[Point]] = {}
    for effort in points:
        groups.setdefault((effort.get("efSearch", 0), effort.get("nprobe", 0)), []).append(effort)
    for done, efforts in enumerate(groups.values(), 1):
        most = min(max(max(effort["candidates"], max(depths)) for effort in efforts), limit)
        ranks = [trial.ranks(efforts[-1], most) for trial in trials]
        for effort in efforts:
            asked = 0
            for depth in depths:
                candidates = max(effort["candidates"], depth)
                if candidates <= limit:
                    if "efSearch" in effort and candidates != asked:
                        # A graph looks further when asked for more: no prefix of a deeper search.
                        ranks, asked = [trial.ranks(effort, candidates) for trial in trials], candidates
                    recall = min(_lower_bound(places[:, :depth] < candidates) for places in ranks)
                    curve[depth].append((dict(effort), candidates, round(recall, 5)))
        if progress is not None:
            progress(done, len(groups))
    for depth in depths:
        if not curve[depth]:
            curve[depth].append(({**points[-1], "candidates": limit}, limit, 1.0))
    return {depth: tuple(found) for depth, found in curve.items()}


def _filter_trials(
    index: Index, segments: Sequence[Segment], metric: str, queries: Matrix, k: int, seed: int = 2
) -> list[_Trial]:
    """The queries over a tenth of the rows: random ones, and the nearest to one row."""
    random = np.random.default_rng(seed)
    size = max(1, min(index.rows // 10, MAX_FILTERED))
    prepared = np.stack([prepare(query, metric) for query in queries])
    centre = _pick(segments, random.integers(0, index.rows, 1))
    trials = []
    for positions in (
        np.sort(random.choice(index.rows, size, replace=False)),
        np.sort(truth(segments, centre, metric, size)[0]),
    ):
        vectors = _pick(segments, positions)
        block = Segment(0, vectors, lengths(vectors), 0, None)
        expected = positions[truth([block], queries, metric, min(k, size))]
        trials.append(_Trial(_within(index, prepared, positions), expected))
    return trials


def _within(index: Index, prepared: Matrix, positions: Positions) -> Callable[[Point, int], Positions]:
    """How the index answers when only some positions are allowed, as `Live` would ask it."""
    among = index.restricted(positions)

    def among_codes(_: Point, count: int) -> Positions:
        assert among is not None
        places = among.candidates(prepared, count)
        return np.where(places >= 0, positions[places], -1)

    def surviving(effort: Point, count: int) -> Positions:
        wanted = min(int(count * index.rows / len(positions) * 1.2) + 16, index.limit)
        out = np.full((len(prepared), count), -1, np.int64)
        for place, found in enumerate(index.candidates(prepared, effort, wanted)):
            kept = found[np.isin(found, positions)][:count]
            out[place, : len(kept)] = kept
        return out

    return surviving if among is None else among_codes


def _lower_bound(found: npt.NDArray[np.bool_]) -> float:
    """Mean share of the expected positions that were proposed, less one standard error, at least 0."""
    shares = found.mean(axis=1)
    return max(0.0, float(shares.mean() - shares.std() / np.sqrt(len(shares))))
