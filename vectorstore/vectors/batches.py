"""Many queries through an index at once: one call for their candidates, one for their closeness, one for their scores.

The answers are those of `Live.search`, to the bit: the same candidates, the same error bound, the same `final_scores`.
What is saved is what a single search spends outside of the loops over vectors.
"""

from __future__ import annotations

import numpy as np

from vectorstore.vectors.arrays import Matrix, Positions, Vids
from vectorstore.vectors.exact import Scores, closeness_each, final_scores, gather, slack, vids_at
from vectorstore.vectors.segments import Segment


def rank_each(
    segments: tuple[Segment, ...],
    offsets: Positions,
    metric: str,
    longest: float,
    queries: Matrix,
    prepared: Matrix,
    positions: Positions,
    k: int,
) -> list[tuple[Vids, Scores]]:
    """For each query the best k of its positions: ((m,) vids, (m,) scores), best first.

    Args:
        segments: where the vectors lie.
        offsets: (s + 1,) position at which each segment begins.
        metric: cosine, ip or l2.
        longest: the biggest norm, for error bounds.
        queries: (q, d) as the caller gave them.
        prepared: (q, d) as `exact.prepare` makes them.
        positions: (q, c) live positions, none twice for one query; -1 for none.
        k: at least 1.
    """
    values = np.full(positions.shape, -np.inf, np.float32)
    for segment, first, end in zip(segments, offsets, offsets[1:], strict=False):
        here = (positions >= first) & (positions < end)
        if here.any():
            rows = np.where(here, positions - first, -1)
            np.maximum(values, closeness_each(prepared, segment, metric, rows), out=values)
    width = positions.shape[1]
    if k < width:
        dim = queries.shape[1]
        margins = slack(prepared, metric, longest, dim)
        kth = np.partition(values, width - k, axis=1)[:, width - k]
        near = values >= (kth - margins)[:, None]
    else:
        near = np.ones(values.shape, dtype=bool)
    owners, places = np.nonzero(near & (positions >= 0))
    chosen = positions[owners, places]
    order = np.argsort(chosen, kind="stable")
    owners, chosen = owners[order], chosen[order]
    scores = final_scores(queries[owners], gather(segments, offsets, chosen), metric)
    vids = vids_at(segments, offsets, chosen)
    order = np.lexsort((vids, -scores, owners))
    bounds = np.searchsorted(owners[order], np.arange(len(queries) + 1))
    cuts = [order[low:high][:k] for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    return [(vids[cut], scores[cut]) for cut in cuts]
