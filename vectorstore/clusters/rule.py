"""What a fit has learned: where its clusters lie, and how strongly anything belongs to each of them.

    membership of x in cluster j  =  exp(-|x - c_j|^2 / 2s) / sum over i of exp(-|x - c_i|^2 / 2s)

the posterior of a mixture of equally likely Gaussians of one variance s in every direction. In many dimensions real
vectors scatter around their centroid in few directions only, so s is the mean squared distance to the own centroid
divided by the *effective* number of dimensions, the participation ratio (tr S)^2 / tr(S^2) of the covariance S of
those residuals (Gao et al. 2017, eq. 4). Divided by nothing, memberships would be nearly flat; divided by all
dimensions, nearly always 0 or 1. Under cosine all vectors are scaled to length one first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vectorstore.vectors.arrays import Matrix

NOISE = -1
_BLOCK_NUMBERS = 1 << 22
"""Distances are computed for so many pairs at once (16 MB)."""

_FLOOR = 1e-5
"""The variance is at least this share of the mean squared length: float32 distances say no more."""

_SAMPLE = 2_000
"""The effective dimension is estimated from at most so many rows."""

Numbers = npt.NDArray[np.int64]
Strengths = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rule:
    """Centroids and what turns distances into memberships.

    Attributes:
        centroids: (k, d) float32.
        numbers: (k,) the clusters' numbers, NOISE excluded.
        spread: s in the module's formula, above 0.
        reach: (k,) squared distance beyond which a row is noise; None when every row belongs somewhere.
    """

    centroids: Matrix
    numbers: Numbers
    spread: float
    reach: Matrix | None = None

    @property
    def block(self) -> int:
        """So many rows are compared at once."""
        return max(1, _BLOCK_NUMBERS // len(self.centroids))

    def distances(self, rows: Matrix) -> Iterator[tuple[int, Matrix]]:
        """(first row, (m, k) float32 squared distances to all centroids), block by block."""
        lengths = np.einsum("ij,ij->i", self.centroids, self.centroids)
        step = self.block
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            squared: Matrix = block @ self.centroids.T
            squared *= -2
            squared += lengths
            squared += np.einsum("ij,ij->i", block, block)[:, None]
            yield start, np.maximum(squared, 0, out=squared)

    def memberships(self, rows: Matrix) -> Strengths:
        """(n, k) float64, each row sums to 1; columns in the order of `numbers`. Memory 8 n k bytes."""
        out = np.empty((len(rows), len(self.centroids)), dtype=np.float64)
        for start, squared in self.distances(rows):
            out[start : start + len(squared)] = _softmax(squared, self.spread)
        return out

    def assign(self, rows: Matrix) -> tuple[Numbers, Strengths]:
        """((n,) number of the nearest cluster or NOISE, (n,) membership in it, 0 for noise); ties to the first."""
        numbers = np.empty(len(rows), dtype=np.int64)
        strengths = np.empty(len(rows), dtype=np.float64)
        for start, squared in self.distances(rows):
            nearest = squared.argmin(axis=1)
            stop = start + len(squared)
            numbers[start:stop] = self.numbers[nearest]
            strengths[start:stop] = _own(squared, nearest, self.spread)
            if self.reach is not None:
                far = squared[np.arange(len(squared)), nearest] > self.reach[nearest]
                numbers[start:stop][far] = NOISE
                strengths[start:stop][far] = 0.0
        return numbers, strengths

    def strengths(self, rows: Matrix, places: Numbers) -> tuple[Strengths, Strengths]:
        """((n,) membership of each row in the cluster at a given place, (n,) squared distance); 0 and 0 for NOISE."""
        out = np.zeros(len(rows), dtype=np.float64)
        apart = np.zeros(len(rows), dtype=np.float64)
        for start, squared in self.distances(rows):
            stop = start + len(squared)
            own = places[start:stop]
            inside = np.flatnonzero(own != NOISE)
            apart[start:stop][inside] = squared[inside, own[inside]]
            out[start:stop][inside] = _own(squared, own, self.spread)[inside]
        return out, apart


def _softmax(squared: Matrix, spread: float) -> Strengths:
    wide: Strengths = squared.astype(np.float64)
    wide -= wide.min(axis=1, keepdims=True)
    wide *= -0.5 / spread
    np.exp(wide, out=wide)
    wide /= wide.sum(axis=1, keepdims=True)
    return wide


def _own(squared: Matrix, places: Numbers, spread: float) -> Strengths:
    shares: Strengths = _softmax(squared, spread)[np.arange(len(squared)), places]
    return shares


def nearest(rows: Matrix, centroids: Matrix) -> Numbers:
    """(n,) place of the nearest centroid of each row, ties to the first."""
    rule = Rule(centroids, np.arange(len(centroids)), 1.0)
    return np.concatenate([squared.argmin(axis=1) for _, squared in rule.distances(rows)])


def spread_of(rows: Matrix, labels: Numbers, centroids: Matrix, seed: int) -> tuple[float, float]:
    """(s of the module's formula, the effective number of dimensions), from rows that belong to a cluster.

    Args:
        rows: (n, d) float32.
        labels: (n,) places of centroids, NOISE for none.
        centroids: (k, d).
        seed: picks the sample.

    Cost: O(m m d) for a sample of m = 2,000 rows.
    """
    inside = np.flatnonzero(labels != NOISE)
    if len(inside) > _SAMPLE:
        inside = np.sort(np.random.default_rng(seed).choice(inside, _SAMPLE, replace=False))
    sample = rows[inside].astype(np.float64)
    squares = float(np.einsum("ij,ij->i", sample, sample).mean())
    floor = _FLOOR * (squares or 1.0)
    residuals = sample - centroids[labels[inside]]
    gram = residuals @ residuals.T
    trace, square = float(np.trace(gram)), float(np.square(gram).sum())
    if trace <= 0 or square <= 0:
        return floor, 1.0
    dimensions = trace * trace / square
    return max(trace / len(inside) / dimensions, floor), dimensions


def reach_of(rows: Matrix, labels: Numbers, centroids: Matrix) -> Matrix:
    """(k,) squared distance of each cluster's farthest member from its centroid, a little more for rounding."""
    out = np.zeros(len(centroids), dtype=np.float32)
    inside = np.flatnonzero(labels != NOISE)
    apart = rows[inside] - centroids[labels[inside]]
    np.maximum.at(out, labels[inside], np.einsum("ij,ij->i", apart, apart))
    return out * np.float32(1 + 1e-4) + np.float32(1e-6)
