"""The best by nearness and by worth together: score = weight * similarity + worth, over all live vectors.

An index knows the nearest only, and worth (importance, recency, whatever) is an array. So two lists are met, after the
threshold algorithm of Fagin, Lotem and Naor 2003: the index gives the nearest; what is not among them is at most as
near as the last of them, so that only rows whose worth makes up for it can still be among the best, and these are
scored exactly. Where they are too many, or there is no index, all rows are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vectorstore.results import Plan
from vectorstore.vectors.allowed import Allowed
from vectorstore.vectors.arrays import Matrix, Positions, Vids
from vectorstore.vectors.exact import Scores, best, closeness, contenders, final_scores, gather, prepare, slack, spans
from vectorstore.vectors.live import Live

Worth = npt.NDArray[np.float64]
NEAREST = 100
"""So many of the nearest the index is asked for, at least."""

FIRST = 256
"""So many of the worthiest are scored first: what the best of them reach spares scoring most of the others."""

MAX_SHARE = 0.125
"""From such a share of the rows on, comparing all of them in order is cheaper than some of them here and there."""

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
    found = None
    depth = max(k, NEAREST)
    point, reason = live._choose(depth, recall, exact, matching)
    if point is not None:
        found, reason = _met(live, query, k, worth, weight, allowed, recall, depth)
    return found or _all(live, query, k, worth, weight, allowed, reason)


def _met(
    live: Live,
    query: Matrix,
    k: int,
    worth: Worth,
    weight: float,
    allowed: Allowed | None,
    recall: float,
    depth: int,
) -> tuple[Salient | None, str]:
    """The answer by the index and by worth, or why all rows must be compared."""
    nearest = live.search(query, depth, allowed=allowed, recall=recall)
    if nearest.exact:
        return None, nearest.plan.reason
    near = np.sort(live.positions_of(np.sort(nearest.vids)))
    scored = _Scored(live, query, worth, weight)
    scored.add(near)
    reach = weight * float(similarity(nearest.scores[-1:], live.metric)[0]) + _ROUNDING
    left = _pool(live, worth, allowed)
    left[near] = -np.inf
    rest = np.flatnonzero(left >= scored.kth(k) - reach)
    if len(rest) > FIRST:
        first = np.sort(rest[np.argpartition(left[rest], len(rest) - FIRST)[len(rest) - FIRST :]])
        scored.add(first)
        left[first] = -np.inf
        rest = rest[left[rest] >= scored.kth(k) - reach]
    if len(rest) > MAX_SHARE * live.rows:
        return None, f"the worth of {len(rest)} vectors might make up for what they lack in similarity"
    scored.add(rest)
    more = len(scored.positions) - len(near)
    plan = Plan(
        f"{nearest.plan.name} + worth",
        f"{nearest.plan.reason}; {more} more scored exactly, for their worth",
        scanned=nearest.plan.scanned + more,
        candidates=nearest.plan.candidates,
        matching=nearest.plan.matching,
    )
    return scored.answer(k, False, nearest.recall, plan), ""


def _pool(live: Live, worth: Worth, allowed: Allowed | None) -> Worth:
    """Worth by position, minus infinity where a row is retired or not allowed; a new array."""
    if allowed is not None:
        pool = np.full(len(worth), -np.inf)
        pool[allowed.positions] = worth[allowed.positions]
        return pool
    return worth.copy() if live.dead is None else np.where(live.dead, -np.inf, worth)


class _Scored:
    """Positions whose score is known."""

    def __init__(self, live: Live, query: Matrix, worth: Worth, weight: float) -> None:
        self._live, self._query, self._worth, self._weight = live, query, worth, weight
        self.positions: Positions = np.empty(0, np.int64)
        self.similarities: Scores = np.empty(0)
        self.scores: Scores = np.empty(0)

    def add(self, positions: Positions) -> None:
        """Score some more positions, which ascend."""
        if not len(positions):
            return
        live = self._live
        rows = gather(live.segments, live.offsets, positions)
        near = similarity(final_scores(self._query, rows, live.metric), live.metric)
        self.positions = np.concatenate([self.positions, positions])
        self.similarities = np.concatenate([self.similarities, near])
        self.scores = np.concatenate([self.scores, self._weight * near + self._worth[positions]])

    def kth(self, k: int) -> float:
        """The k-th best score so far; minus infinity when there are fewer."""
        if len(self.scores) < k:
            return -np.inf
        return float(np.partition(self.scores, len(self.scores) - k)[len(self.scores) - k])

    def answer(self, k: int, exact: bool, recall: float, plan: Plan) -> Salient:
        """The k best of them."""
        ascending = np.argsort(self.positions)
        positions = self.positions[ascending]
        vids = self._live.vids_at(positions)
        scores, near = self.scores[ascending], self.similarities[ascending]
        order = best(scores, vids, k)
        return Salient(vids[order], positions[order], scores[order], near[order], exact, recall, plan)


def _all(
    live: Live, query: Matrix, k: int, worth: Worth, weight: float, allowed: Allowed | None, reason: str
) -> Salient:
    """The answer by comparing all rows in float32, and in float64 those that its rounding cannot rule out."""
    prepared = prepare(query, live.metric)
    positions = np.arange(live.rows) if allowed is None else allowed.positions
    if allowed is None:
        parts = [closeness(prepared, segment, live.metric) for segment in live.segments]
    else:
        parts = [
            closeness(prepared, live.segments[segment], live.metric, positions[low:high] - live.offsets[segment])
            for segment, low, high in spans(live.offsets, positions)
        ]
    near = np.concatenate(parts).astype(np.float64)
    margin = float(slack(prepared, live.metric, live.longest, live.dim))
    if live.metric == "l2":  # |sqrt(a) - sqrt(b)| <= sqrt(|a - b|), and 1 / (1 + x) falls no faster than x rises
        near, margin = 1.0 / (1.0 + np.sqrt(np.maximum(-near, 0.0))), float(np.sqrt(margin))
    near *= weight
    near += worth if allowed is None else worth[positions]
    if allowed is None and live.dead is not None:
        near[live.dead] = -np.inf
        k = min(k, live.live_rows)
    places = contenders(near, k, weight * margin + _ROUNDING)  # type: ignore[arg-type]  # of any float
    chosen = positions[places]
    if allowed is None and live.dead is not None:
        chosen = chosen[~live.dead[chosen]]
    scored = _Scored(live, query, worth, weight)
    scored.add(chosen)
    name, scanned = "exact" if allowed is None else "filtered exact", len(positions)
    plan = Plan(name, reason, scanned, 0, None if allowed is None else scanned)
    return scored.answer(k, True, 1.0, plan)
