"""The best by nearness and by worth together: score = weight * similarity + worth, over all live vectors.

An index knows the nearest only, and worth (importance, recency, whatever) is an array. So two lists are met, after the
threshold algorithm of Fagin, Lotem and Naor 2003: the index gives the nearest; what is not among them is at most as
near as the last of them, so that only rows whose worth makes up for it can still be among the best, and these are
scored exactly. Where they are too many, or there is no index, all rows are compared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vectorstore.results import Plan
from vectorstore.vectors.allowed import Allowed
from vectorstore.vectors.arrays import Matrix, Positions, Vids
from vectorstore.vectors.exact import Scores, best, closeness, final_scores, gather, prepare, slack, spans
from vectorstore.vectors.live import Live
from vectorstore.vectors.measure import OperatingPoint

Worth = npt.NDArray[np.float64]
NEAREST = 100
"""So many of the nearest the index is asked for, at least."""

FIRST = 256
"""So many of the worthiest are scored first: what the best of them reach spares scoring most of the others."""

MAX_SHARE = 0.125
"""From such a share of the rows on, comparing all of them in order is cheaper than some of them here and there."""

_LOWEST = -np.finfo(np.float64).max
_ROUNDING = 1e-9
"""Float64 sums of a few numbers of about 1 err by less than a millionth of this."""


@dataclass(frozen=True, eq=False)
class Salient:
    """The answer, best first: (m,) vids, positions, scores, and the similarities on the scale of `Hit.score`."""

    vids: Vids
    positions: Positions
    scores: Scores
    similarities: Scores
    exact: bool
    recall: float
    plan: Plan


def similarity(values: Scores, metric: str) -> Scores:
    """What `final_scores` gives, on the scale of `Hit.score`: of l2, 1 / (1 + distance)."""
    return 1.0 / (1.0 - values) if metric == "l2" else values


def search_salient(
    live: Live,
    query: Matrix,
    k: int,
    worth: Worth,
    weight: float,
    *,
    allowed: Allowed | None = None,
    recall: float = 0.99,
    exact: bool = False,
) -> Salient:
    """The k best live vectors by `weight * similarity + worth`, ties by smaller vid.

    Args:
        live: the snapshot.
        query: (d,) float32, as the caller gave it.
        k: at least 1.
        worth: (live.rows,) finite, by position.
        weight: of the similarity, 0 or more.
        allowed: what a filter lets through; None for everything.
        recall: 0..1, the share of the true best to deliver. A vector among the nearest is missed no more often than the
            index was measured to miss one; of all others none is.
        exact: compare with every vector.

    Cost: a search for the nearest, O(rows) additions, and an exact comparison for each row that worth brings into play.
    """
    matching = None if allowed is None else len(allowed.positions)
    total = live.live_rows if matching is None else matching
    if not total:
        plan = Plan("empty", "the filter matches nothing" if matching == 0 else "no vectors yet", 0, 0, matching)
        none = np.empty(0, np.int64)
        return Salient(none, none, np.empty(0), np.empty(0), True, 1.0, plan)
    scoring = _Scoring(live, query, worth, float(weight))
    depth = max(k, NEAREST)
    point, reason = live._choose(depth, recall, exact, matching)
    if point is None:
        return _all(scoring, k, allowed, reason)
    return _met(scoring, k, allowed, point, min(depth, total)) or _all(
        scoring, k, allowed, "too many might be worth it"
    )


class _Scoring:
    """What one query scores vectors by."""

    def __init__(self, live: Live, query: Matrix, worth: Worth, weight: float) -> None:
        self.live, self.query, self.worth, self.weight = live, query, worth, weight
        self.prepared = prepare(query, live.metric)
        margin = float(slack(self.prepared, live.metric, live.longest, live.dim))
        # Of l2: |sqrt(a) - sqrt(b)| <= sqrt(|a - b|), and 1 / (1 + x) falls no faster than x rises.
        self.margin = float(np.sqrt(margin)) if live.metric == "l2" else margin

    def near(self, positions: Positions | None) -> Scores:
        """(m,) similarities from float32, of positions, which ascend, or of all; wrong by less than `margin`."""
        live = self.live
        if positions is None:
            parts = [closeness(self.prepared, segment, live.metric) for segment in live.segments]
        else:
            parts = [
                closeness(
                    self.prepared, live.segments[segment], live.metric, positions[low:high] - live.offsets[segment]
                )
                for segment, low, high in spans(live.offsets, positions)
            ]
        near = np.concatenate(parts).astype(np.float64) if parts else np.empty(0)
        return 1.0 / (1.0 + np.sqrt(np.maximum(-near, 0.0))) if live.metric == "l2" else near

    def best(self, k: int, positions: Positions, scores: Scores, exact: bool, recall: float, plan: Plan) -> Salient:
        """The k best of some positions: those that `scores`, from `near`, cannot rule out are scored in float64."""
        live, margin = self.live, self.weight * self.margin + _ROUNDING
        chosen = np.sort(positions[scores >= _highest(scores, k) - margin])
        rows = gather(live.segments, live.offsets, chosen)
        near = similarity(final_scores(self.query, rows, live.metric), live.metric)
        final, vids = self.weight * near + self.worth[chosen], live.vids_at(chosen)
        order = best(final, vids, k)
        return Salient(vids[order], chosen[order], final[order], near[order], exact, recall, plan)


def _met(scoring: _Scoring, k: int, allowed: Allowed | None, point: OperatingPoint, depth: int) -> Salient | None:
    """The answer by the index and by worth; None when all rows had better be compared."""
    live, worth = scoring.live, scoring.worth
    kept, proposed = live._propose(scoring.prepared, allowed, point)
    if kept is None:
        return None
    tail = live._tail if allowed is None else allowed.positions[allowed.indexed :]
    positions = np.concatenate([kept, tail]) if len(tail) else kept
    near = scoring.near(positions)
    reach = scoring.weight * (_highest(near, min(depth, len(near))) + 2 * scoring.margin) + _ROUNDING
    scores = scoring.weight * near + worth[positions]
    left = _pool(live, worth, allowed)
    for most in (FIRST, None):
        left[positions] = -np.inf
        rest = np.flatnonzero(left >= max(_highest(scores, k) - reach, _LOWEST))
        if most is None and len(rest) > MAX_SHARE * live.rows:
            return None
        if most is not None and len(rest) > most:
            rest = np.sort(rest[np.argpartition(left[rest], len(rest) - most)[len(rest) - most :]])
        positions = np.concatenate([positions, rest])
        scores = np.concatenate([scores, scoring.weight * scoring.near(rest) + worth[rest]])
    more = len(positions) - len(kept) - len(tail)
    former = live._plan(point, allowed, len(kept), proposed, len(tail))
    plan = replace(
        former,
        name=f"{former.name} + worth",
        reason=f"{former.reason}; {more} more scored, for their worth",
        scanned=former.scanned + more,
    )
    return scoring.best(k, positions, scores, False, point.recall, plan)


def _highest(values: Scores, k: int) -> float:
    """The k-th highest; minus infinity when there are fewer."""
    return float(np.partition(values, len(values) - k)[len(values) - k]) if k <= len(values) else -np.inf


def _pool(live: Live, worth: Worth, allowed: Allowed | None) -> Worth:
    """Worth by position, minus infinity where a row is retired or not allowed; a new array."""
    if allowed is not None:
        pool = np.full(len(worth), -np.inf)
        pool[allowed.positions] = worth[allowed.positions]
        return pool
    return worth.copy() if live.dead is None else np.where(live.dead, -np.inf, worth)


def _all(scoring: _Scoring, k: int, allowed: Allowed | None, reason: str) -> Salient:
    """The answer by comparing all rows."""
    live = scoring.live
    if allowed is None:
        scores = scoring.weight * scoring.near(None) + scoring.worth
        positions = np.arange(live.rows)
        if live.dead is not None:
            positions = np.flatnonzero(~live.dead)
            scores = scores[positions]
        plan = Plan("exact", reason, live.rows)
    else:
        positions = allowed.positions
        scores = scoring.weight * scoring.near(positions) + scoring.worth[positions]
        plan = Plan("filtered exact", reason, len(positions), 0, len(positions))
    return scoring.best(k, positions, scores, True, 1.0, plan)
