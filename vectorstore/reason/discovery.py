"""Which concepts of one domain play the parts of which of another, and how good the mapping is as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.reason.algebra import SAME, Scores, unit

_BLOCK_NUMBERS = 1 << 20
"""Offsets are compared for so many pairs at once (8 MB)."""

WEIGHTS = {"structural": 0.4, "semantic": 0.3, "productivity": 0.3}
"""What quality is made of."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """A one-to-one mapping of some rows of one matrix to some of another; arrays are (p,), the surest pair first.

    Attributes:
        sources: rows of the first.
        targets: rows of the second.
        semantic: 0..1 for each pair, how alike the two are in meaning.
        structural: 0..1 for each pair, how alike the two stand to the others of their side.
        productivity: 0..1, the share of the smaller side that found a partner.
    """

    sources: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    semantic: Scores
    structural: Scores
    productivity: float

    @property
    def structural_coherence(self) -> float:
        """Mean over the pairs; 0 without any."""
        return float(self.structural.mean()) if len(self.structural) else 0.0

    @property
    def semantic_coherence(self) -> float:
        """Mean over the pairs; 0 without any."""
        return float(self.semantic.mean()) if len(self.semantic) else 0.0

    @property
    def quality(self) -> float:
        """0.4 structural coherence + 0.3 semantic coherence + 0.3 productivity, 0..1."""
        parts = (self.structural_coherence, self.semantic_coherence, self.productivity)
        return float(np.dot(list(WEIGHTS.values()), parts))

    @property
    def confidences(self) -> Scores:
        """(p,) 0..1 for each pair: its two parts in the proportion that quality gives them."""
        weighed: Scores = (4 * self.structural + 3 * self.semantic) / 7
        return weighed


def closeness(sources: npt.ArrayLike, targets: npt.ArrayLike) -> Scores:
    """(m, n) how well each source and each target would go together: the sum of two cosines.

    One of the vectors as they are: the same meaning. One of the vectors less the mean of their own side: the same place
    among the others. The second is what relations ask for: for a mapping of all, the inner products of all offsets
    within one side with those of their images sum to 2 p times the inner products of the centred vectors of the pairs.
    """
    x, y = unit(sources), unit(targets)
    near: Scores = x @ y.T
    if len(x) > 1 and len(y) > 1:
        near += _unit_or_zero(x - x.mean(axis=0)) @ _unit_or_zero(y - y.mean(axis=0)).T
    return near


def align(sources: npt.ArrayLike, targets: npt.ArrayLike, pairs: int | None = None) -> Alignment:
    """The one-to-one mapping that maximises the sum of `closeness`, and how good it is.

    A pair is dropped when it speaks against the mapping: when the two meanings are no nearer than at right angles and
    their offsets to the others, on average, too.

    Args:
        sources: (m, d) vectors.
        targets: (n, d) vectors.
        pairs: only the surest so many.

    Cost: the assignment of Jonker and Volgenant, O(max(m, n)^3) at worst; half a second at 2,000 x 2,000.
    """
    from scipy.optimize import linear_sum_assignment

    x, y = unit(sources), unit(targets)
    smaller = min(len(x), len(y))
    if not smaller:
        return _kept(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0), 0.0)
    rows, columns = linear_sum_assignment(closeness(x, y), maximize=True)
    meaning = np.vecdot(x[rows], y[columns])
    for _ in range(2):  # dropping pairs changes what the others are compared with
        standing = agreement(x[rows], y[columns])
        good = (meaning > 0) | (standing > 0)
        if good.all():
            break
        rows, columns, meaning = rows[good], columns[good], meaning[good]
        standing = agreement(x[rows], y[columns])
    return _kept(rows, columns, np.clip(meaning, 0, 1), np.clip(standing, 0, 1), len(rows) / smaller, pairs)


def matched(near: Scores, steps: Scores) -> Alignment:
    """The one-to-one mapping that maximises the sum of two (m, n) matrices of cosines, of meanings and of relations."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(near + steps, maximize=True)
    meaning, standing = np.clip(near[rows, columns], 0, 1), np.clip(steps[rows, columns], 0, 1)
    return _kept(rows, columns, meaning, standing, len(rows) / min(near.shape))


def _kept(
    rows: Any, columns: Any, meaning: Scores, standing: Scores, share: float, pairs: int | None = None
) -> Alignment:
    order = np.lexsort((rows, -(4 * standing + 3 * meaning)))[:pairs]
    return Alignment(rows[order], columns[order], meaning[order], standing[order], share)


def agreement(sources: Scores, targets: Scores) -> Scores:
    """(p,) for each pair of rows the mean cosine of its offsets to the other pairs' rows, on both sides: -1..1.

    (x_i - x_k) and (y_i - y_k) for all k other than i, of unit vectors; 0 for an offset without a length. One pair
    alone has no structure: 0.
    """
    count = len(sources)
    if count < 2:
        return np.zeros(count)
    own = np.vecdot(sources, targets)
    mean = np.empty(count)
    step = max(1, _BLOCK_NUMBERS // count)
    for start in range(0, count, step):
        part = slice(start, start + step)
        products = own[part, None] + own - sources[part] @ targets.T - targets[part] @ sources.T
        lengths = _apart(sources, part) * _apart(targets, part)
        cosines = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > SAME * SAME)
        np.fill_diagonal(cosines[:, start:], 0)
        mean[part] = np.clip(cosines, -1, 1).sum(axis=1) / (count - 1)
    return mean


def _apart(rows: Scores, part: slice) -> Scores:
    """(b, p) Euclidean distances of some unit vectors to all."""
    own = np.square(rows).sum(axis=1)
    apart: Scores = np.sqrt(np.maximum(own[part, None] + own - 2 * rows[part] @ rows.T, 0))
    return apart


def _unit_or_zero(rows: Scores) -> Scores:
    lengths = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    scaled: Scores = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > SAME)
    return scaled
