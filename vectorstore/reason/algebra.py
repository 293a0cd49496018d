"""The arithmetic of proportions, over arrays: which x stands to c as b stands to a.

Three objectives over unit vectors, each a function of the cosines of x with a, b and c:

    3cosadd   cos(x, b - a + c)                                       Mikolov, Yih and Zweig 2013
    3cosmul   B C / (A + epsilon), each (cos + 1) / 2                 Levy and Goldberg 2014, equation 4, footnote 7
    pair      cos(x - c, b - a), the direction of the pair            Levy and Goldberg 2014, equation 2

The first is an ordinary vector search. The others are not, but near their best answers they are nearly linear: the
gradient there is a vector, and searching with it finds candidates that are then scored exactly. Recall of the exact ten
best by the hundred candidates that `Objective.toward` asks for, two hundred Google questions on GloVe and two hundred
triples on WordNet: .999 and 1.0 (3cosmul), 1.0 and 1.0 (pair); by a hundred of 3cosadd itself .958, and .632 for pair.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]
Method = Literal["3cosadd", "3cosmul", "pair"]
METHODS = ("3cosadd", "3cosmul", "pair")

EPSILON = 0.001
"""Keeps 3cosmul finite (Levy and Goldberg 2014)."""

SAME = 1e-3
"""Nearer to c than this, x is c: a pair of the two has no direction, and `pair` scores 0."""

TEMPERATURE = 0.03
"""How fast confidence falls with the distance to the best answer; see `confidences`."""


def unit(vectors: npt.ArrayLike) -> Scores:
    """(..., d) float64 vectors of length one; a zero vector, which ip and l2 spaces may hold, stays one."""
    wide = np.asarray(vectors, dtype=np.float64)
    lengths = np.sqrt(np.square(wide).sum(axis=-1, keepdims=True))
    scaled: Scores = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0)
    return scaled


@dataclass(frozen=True, eq=False)
class Objective:
    """One question: `terms` is (3, d) float64, unit vectors of a, b and c."""

    terms: Scores
    method: Method

    @cached_property
    def target(self) -> Scores:
        """(d,) b - a + c."""
        a, b, c = self.terms
        target: Scores = b - a + c
        return target

    @cached_property
    def _relation(self) -> tuple[float, float]:
        """(length of b - a, its product with c)."""
        a, b, c = self.terms
        return float(np.linalg.norm(b - a)), float((b - a) @ c)

    @property
    def degenerate(self) -> str | None:
        """Why the question has no answer; None when it has."""
        if self.method == "3cosadd" and np.linalg.norm(self.target) < SAME:
            return "b - a + c cancels out and has no direction"
        if self.method == "pair" and self._relation[0] < SAME:
            return "a and b have the same vector, so nothing leads from one to the other"
        return None

    def values(self, cosines: Scores) -> Scores:
        """(m,) scores from (3, m) cosines with a, b and c; bigger is better."""
        a, b, c = cosines
        if self.method == "3cosadd":
            added: Scores = (b - a + c) / float(np.linalg.norm(self.target))
            return added
        if self.method == "3cosmul":
            multiplied: Scores = (b + 1) / 2 * (c + 1) / 2 / ((a + 1) / 2 + EPSILON)
            return multiplied
        length, own = self._relation
        apart = np.sqrt(np.maximum(2 - 2 * c, 0))
        direction: Scores = np.divide(b - a - own, apart * length, out=np.zeros_like(c), where=apart > SAME)
        return direction

    def bounds(self, cosines: npt.NDArray[np.float32], error: float) -> tuple[Scores, Scores]:
        """((m,) lowest, (m,) highest) score that cosines can stand for that are wrong by at most `error` each."""
        a, b, c = cosines.astype(np.float64)
        if self.method == "3cosadd":
            value, slack = self.values(np.stack([a, b, c])), 3 * error / float(np.linalg.norm(self.target))
            return value - slack, value + slack
        if self.method == "3cosmul":
            half = error / 2
            away, near, near_too = (a + 1) / 2, (b + 1) / 2, (c + 1) / 2
            low = np.maximum(near - half, 0) * np.maximum(near_too - half, 0) / (away + half + EPSILON)
            return low, (near + half) * (near_too + half) / (np.maximum(away - half, 0) + EPSILON)
        length, own = self._relation
        lowest, highest = (b - a - own - 2 * error) / length, (b - a - own + 2 * error) / length
        nearest, farthest = (np.sqrt(np.maximum(2 - 2 * (c + sign * error), 0)) for sign in (1, -1))
        tiny = np.maximum(nearest, 1e-12)
        low = np.where(lowest < 0, lowest / tiny, lowest / np.maximum(farthest, 1e-12))
        high = np.where(highest > 0, highest / tiny, highest / np.maximum(farthest, 1e-12))
        same = nearest <= SAME
        low, high = np.where(same, np.minimum(low, 0), low), np.where(same, np.maximum(high, 0), high)
        return np.clip(low, -1, 1), np.clip(high, -1, 1)

    def toward(self, cosines: Scores) -> Scores:
        """(d,) the direction in which the score grows near answers whose (3, m) cosines are given."""
        a, b, c = self.terms
        if self.method == "3cosadd":
            return self.target
        if self.method == "3cosmul":
            away, near, near_too = ((cosines + 1) / 2).mean(axis=1)
            grown: Scores = b / near + c / near_too - a / (away + EPSILON)
            return grown
        length, _ = self._relation
        apart = max(float(np.sqrt(np.maximum(2 - 2 * cosines[2], 0)).mean()), SAME)
        grown = (b - a) / length + float(self.values(cosines).mean()) / apart * c
        return grown


def confidences(scores: Scores) -> Scores:
    """(m,) how sure each answer is, 0..1, from the (m,) scores of the best answers, best first.

    `min(1, max(0, score)) * exp(score / T) / sum(exp(score / T))` over the scores given: an answer is sure when it fits
    well and no other fits nearly as well. T is TEMPERATURE.
    """
    if not len(scores):
        return np.empty(0)
    weights = np.exp((scores - scores.max()) / TEMPERATURE)
    sure: Scores = np.clip(scores, 0.0, 1.0) * weights / weights.sum()
    return sure


def offsets(sources: npt.ArrayLike, targets: npt.ArrayLike, metric: str) -> Scores:
    """(d,) float64 mean of targets - sources, (m, d) each; under cosine of their unit vectors."""
    if metric == "cosine":
        mean: Scores = (unit(targets) - unit(sources)).mean(axis=0)
        return mean
    mean = (np.asarray(targets, np.float64) - np.asarray(sources, np.float64)).mean(axis=0)
    return mean
