"""Exact similarity: the truth that every other search path is measured against.

Two steps. *Closeness* is computed in float32 where the vectors lie (`native`'s loops, no copies), only to decide
which rows can possibly be among the best. Those, and all that the rounding error cannot tell apart from them, are
scored once more in float64, row by row: `final_scores` is the one function that makes a score. So every path gives
bit-equal scores, and equal vectors get equal scores, wherever they lie.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vectorstore.vectors.arrays import Matrix, Positions, Vids
from vectorstore.vectors.native import products, products_each, squared_distances, squared_distances_each
from vectorstore.vectors.segments import Segment

Scores = npt.NDArray[np.float64]
_EPSILON = 2.0**-23


def prepare(query: Matrix, metric: str) -> Matrix:
    """The query as the closeness loops want it: of length one under cosine, as it is otherwise."""
    if metric == "cosine":
        length = float(np.sqrt(np.dot(query.astype(np.float64), query.astype(np.float64))))
        return np.ascontiguousarray(query / length, dtype=np.float32)
    return np.ascontiguousarray(query, dtype=np.float32)


def closeness(query: Matrix, segment: Segment, metric: str, rows: Positions | None = None) -> Matrix:
    """(n,) float32, bigger is nearer: cosine, inner product or minus the squared distance; for all rows or some.

    Args:
        query: (d,) float32 from `prepare`.
        segment: where the vectors lie.
        metric: cosine, ip or l2.
        rows: (m,) int64 row numbers; None for all.

    Time O(n d), about 0.05 microseconds a row at d = 384; memory O(n).
    """
    near = squared_distances if metric == "l2" else products
    segment.expect(scattered=rows is not None and len(rows) * 8 < segment.rows)
    out = near(query, segment.vectors, rows)
    if metric == "l2":
        np.negative(out, out=out)
    elif metric == "cosine":
        out /= segment.norms if rows is None else segment.norms[rows]
    return out


def closeness_many(queries: Matrix, segment: Segment, metric: str) -> Matrix:
    """(q, n) float32 closeness of all rows for several prepared queries, by one matrix product."""
    segment.expect(scattered=False)
    products: Matrix = queries @ segment.vectors.T
    if metric == "cosine":
        products /= segment.norms
    elif metric == "l2":
        products *= 2
        products -= np.square(segment.norms)
        products -= np.einsum("ij,ij->i", queries, queries)[:, None]
    return products


def closeness_each(queries: Matrix, segment: Segment, metric: str, rows: Positions) -> Matrix:
    """(q, c) float32 closeness of each prepared query to rows of its own (q, c); -inf where a row is -1."""
    segment.expect(scattered=rows.size * 8 < segment.rows)
    if metric == "l2":
        return -squared_distances_each(queries, segment.vectors, rows)
    out = products_each(queries, segment.vectors, rows)
    if metric == "cosine":
        out /= segment.norms[np.maximum(rows, 0)]
    return out


def slack(query: Matrix, metric: str, longest: float, dim: int) -> Matrix:
    """How far two closeness values may lie apart and still be in the wrong order, by float32 rounding.

    A dot product of d terms errs by at most about d * 2**-24 * |x| |y| (Higham 2002, section 3.1); doubled for the two
    sides, and for l2 by products that can come from matrix products of norms.

    Args:
        query: (d,) from `prepare`, or (q, d).
        metric: cosine, ip or l2.
        longest: the biggest norm of a row.
        dim: d.

    Returns:
        () or (q,) float32.
    """
    unit = np.float32((dim + 8) * _EPSILON)
    if metric == "cosine":
        return np.full(query.shape[:-1], unit * 2, np.float32)
    length: Matrix = np.sqrt(np.vecdot(query, query))
    reach = length * np.float32(longest) if metric == "ip" else np.square(length + np.float32(longest))
    return np.asarray(unit * reach, np.float32)


def contenders(values: Matrix, k: int, margin: float | Matrix) -> Positions:
    """Places of all values that can be among the k biggest, given errors of up to `margin`."""
    if k >= len(values):
        return np.arange(len(values))
    kth = np.partition(values, len(values) - k)[len(values) - k]
    return np.flatnonzero(values >= kth - margin)


def final_scores(query: Matrix, rows: Matrix, metric: str) -> Scores:
    """(m,) float64 scores of gathered rows, bigger is better: cosine, inner product or minus the Euclidean distance.

    Args:
        query: (d,) float32, as the caller gave it; or (m, d), one for each row.
        rows: (m, d) float32.
        metric: cosine, ip or l2.
    """
    wide = rows.astype(np.float64)
    point = query.astype(np.float64)
    if metric == "l2":
        wide -= point
        distances: Scores = np.sqrt(np.vecdot(wide, wide))
        return -distances
    products: Scores = np.vecdot(wide, point)
    if metric == "ip":
        return products
    products /= np.sqrt(np.vecdot(wide, wide)) * np.sqrt(np.vecdot(point, point))
    return products.clip(-1.0, 1.0, out=products)


def best(scores: Scores, vids: Vids, k: int) -> Positions:
    """Places of the k best, best first; ties by smaller vid."""
    return np.lexsort((vids, -scores))[:k]


def spans(offsets: Positions, positions: Positions) -> list[tuple[int, int, int]]:
    """(segment, first, last + 1) of each run of ascending positions that lies in one segment."""
    bounds = np.searchsorted(positions, offsets).tolist()
    runs = enumerate(itertools.pairwise(bounds))
    return [(segment, low, high) for segment, (low, high) in runs if high > low]


def gather(segments: Sequence[Segment], offsets: Positions, positions: Positions) -> Matrix:
    """(m, d) float32 rows at ascending global positions."""
    parts = [
        segments[segment].vectors[positions[low:high] - offsets[segment]]
        for segment, low, high in spans(offsets, positions)
    ]
    if len(parts) == 1:
        only: Matrix = parts[0]
        return only
    return np.concatenate(parts) if parts else np.empty((0, segments[0].vectors.shape[1]), np.float32)


def vids_at(segments: Sequence[Segment], offsets: Positions, positions: Positions) -> Vids:
    """(m,) the vids at ascending global positions."""
    parts = [
        segments[segment].vids_at(positions[low:high] - offsets[segment])
        for segment, low, high in spans(offsets, positions)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
