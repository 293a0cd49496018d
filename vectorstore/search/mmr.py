"""Diversity: maximal marginal relevance (Carbonell and Goldstein 1998).

One after the other, the record with the greatest `w * relevance - (1 - w) * closeness` is chosen, where closeness is
its greatest similarity to those chosen before, 0 for the first. So w = 1 is the plain ranking, and w = 0 takes the best
and then whatever is furthest from all that was taken.

Similarity is the score of the space's metric: the cosine; the inner product (long vectors are then close to everything,
as they are relevant to everything); 1 / (1 + distance) for l2. Relevance is the score of the hit. A score of another
scale (text, fusion, what an earlier stage made) is first stretched to 0..1 over the pool, so that it can be weighed
against a similarity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.search.stages import Ranked, Scene
from vectorstore.storage import spaces as rows
from vectorstore.vectors import Matrix
from vectorstore.vectors.exact import Scores

MIN_POOL = 50
POOL_TIMES = 10
MAX_POOL = 100_000


@dataclass(frozen=True)
class Diverse:
    """A stage that orders the best of the list by maximal marginal relevance; scores stay as they are.

    Attributes:
        weight: of relevance, 0..1; the rest is the weight of being unlike what was chosen.
        pool: so many of the best are chosen from, or all that are wanted if those are more; None for ten times as
            many as are wanted, 50 at least.
        space: where the vectors are.
        similar: scores are similarities of the space's metric, and are not stretched.
    """

    weight: float
    pool: int | None
    space: str
    similar: bool

    def depth(self, k: int) -> int:
        """The whole pool."""
        return max(k, min(max(MIN_POOL, POOL_TIMES * k), MAX_POOL) if self.pool is None else self.pool)

    def apply(self, scene: Scene, ranked: Sequence[Ranked], k: int, complete: bool) -> list[Ranked] | None:
        """The first k by marginal relevance, then the others as they came.

        Cost: O(k pool d) time, 8 bytes x pool x d memory.
        """
        size = self.depth(k)
        if len(ranked) < size and not complete:
            return None
        pool = self._with_vids(scene, ranked[:size])
        relevance = np.array([item.score for item in pool])
        if not self.similar and len(pool):
            spread = float(np.ptp(relevance))
            relevance = (relevance - relevance.min()) / (spread or 1.0)
        known = np.array([item.vid is not None for item in pool], dtype=bool)
        chosen = choose(relevance, scene.vectors(pool), known, scene.metric, self.weight, k)
        first = set(chosen)
        return [ranked[place] for place in chosen] + [item for at, item in enumerate(ranked) if at not in first]

    def _with_vids(self, scene: Scene, ranked: Sequence[Ranked]) -> list[Ranked]:
        """The list with the vids of what was found by its text alone, where there is one."""
        lacking = [item.row for item in ranked if item.vid is None]
        space = rows.space_by_name(scene.connection, self.space) if lacking else None
        if space is None:
            return list(ranked)
        live = rows.live_vectors(scene.connection, space.id, lacking)
        return [
            replace(item, vid=live[item.row][0]) if item.vid is None and item.row in live else item for item in ranked
        ]


def diversity(weight: float | None, pool: int | None, space: str, similar: bool) -> list[Diverse]:
    """The stage for a search's `mmr` and `pool`; none for a weight of 1, which is the plain ranking.

    Raises:
        ValidationError: a weight outside 0..1, a pool outside 1..100,000 or without a weight.
    """
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        raise ValidationError(f"mmr: expected 0..1{' with a pool' if weight is None else ''}, got {weight!r}")
    if pool is not None and (isinstance(pool, bool) or not isinstance(pool, int) or not 1 <= pool <= MAX_POOL):
        raise ValidationError(f"pool: expected a whole number in 1..{MAX_POOL}, got {pool!r}")
    return [Diverse(float(weight), pool, space, similar)] if weight < 1 else []


def choose(relevance: Scores, vectors: Matrix, known: np.ndarray, metric: str, weight: float, k: int) -> list[int]:
    """Places of the k chosen, in the order of choice; ties go to the earlier place.

    Args:
        relevance: (n,) float64.
        vectors: (n, d) float32.
        known: (n,) which rows have a vector; the others are like nothing.
        metric: cosine, ip or l2.
        weight: of relevance, 0..1.
        k: how many.
    """
    wide = vectors.astype(np.float64)
    if metric == "cosine":
        lengths = np.sqrt(np.square(wide).sum(axis=1))
        wide /= np.where(lengths > 0, lengths, 1.0)[:, None]
    left = np.ones(len(wide), dtype=bool)
    values = weight * relevance
    closest = np.full(len(wide), -np.inf)
    chosen: list[int] = []
    while len(chosen) < min(k, len(wide)):
        place = int(np.argmax(np.where(left, values, -np.inf)))
        left[place] = False
        chosen.append(place)
        np.maximum(closest, _similar(wide, known, place, metric), out=closest)
        values = weight * relevance - (1 - weight) * closest
    return chosen


def _similar(wide: np.ndarray, known: np.ndarray, place: int, metric: str) -> Scores:
    """(n,) similarity of all rows to one of them; row by row, so that equal vectors are equally similar."""
    if not known[place]:
        return np.zeros(len(wide))
    if metric == "l2":
        near: Scores = 1.0 / (1.0 + np.sqrt(np.square(wide - wide[place]).sum(axis=1)))
    else:
        near = (wide * wide[place]).sum(axis=1)
    return np.where(known, near, 0.0)
