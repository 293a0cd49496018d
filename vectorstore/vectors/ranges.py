"""Everything from a score on: near to one query, or near to each other; exact, over one snapshot.

As in a search, float32 says who may reach the score, with a bound on its rounding error, and `final_scores` decides in
float64. Scores are those of hits: the cosine, the inner product, 1 / (1 + distance) for l2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from vectorstore.vectors.allowed import Allowed
from vectorstore.vectors.arrays import Matrix, Positions, Vids, lengths
from vectorstore.vectors.exact import Scores, best, closeness, final_scores, gather, prepare, slack, spans
from vectorstore.vectors.live import Live

LEFT_ROWS, RIGHT_ROWS = 1024, 4096
"""Pairs are looked for in products of so many rows with so many: 16 MB of float32."""

MAX_CANDIDATES = 1 << 20
"""When more pairs of a block may reach the score, the block is halved: 16 MB."""

_DECIDED_NUMBERS = 1 << 20
_FLOAT32_MAX = float(np.finfo(np.float32).max)


def scores_of(values: Scores, metric: str) -> Scores:
    """The scores that hits show for the values of `final_scores`."""
    return 1.0 / (1.0 - values) if metric == "l2" else values


def at_least(live: Live, query: Matrix, score: float, allowed: Allowed | None = None) -> tuple[Vids, Scores]:
    """(vids, values of `final_scores`) of all live vectors that reach a score, best first, ties by vid.

    Args:
        live: the snapshot.
        query: (d,) float32, as the caller gave it.
        score: on the scale of hits; reaching it is enough.
        allowed: what a filter lets through; None for everything.

    Cost: O(n d) time; memory 4 bytes x rows of the biggest segment and 32 bytes x answers.
    """
    prepared = prepare(query, live.metric)
    limit = _limit(score, live.metric, float(slack(prepared, live.metric, live.longest, live.dim)))
    everything = [(number, 0, segment.rows) for number, segment in enumerate(live.segments)]
    runs = everything if allowed is None else spans(live.offsets, allowed.positions)
    vids, values = [np.empty(0, np.int64)], [np.empty(0)]
    for number, low, high in runs:
        segment, offset = live.segments[number], live.offsets[number]
        rows = None if allowed is None else allowed.positions[low:high] - offset
        places = np.flatnonzero(~(closeness(prepared, segment, live.metric, rows) < limit))
        positions = places + offset if rows is None else rows[places] + offset
        if allowed is None and live.dead is not None:
            positions = positions[~live.dead[positions]]
        for names, found in _decided(live, query, positions, score):
            vids.append(names)
            values.append(found)
    return _best_first(np.concatenate(vids), np.concatenate(values))


def pairs(
    live: Live,
    score: float,
    allowed: Allowed | None = None,
    skip: npt.NDArray[np.bool_] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[tuple[int, Vids, Scores]]:
    """(vid, the later vids that reach the score with it, their values of `final_scores`), by ascending vid.

    Each pair comes once, under its smaller vid, the best first, ties by vid; vids without a pair are left out.

    Args:
        live: the snapshot.
        score: on the scale of hits; reaching it is enough.
        allowed: what a filter lets through; None for everything.
        skip: (n,) vids, by their place in ascending order, that are nobody's first; looked at when their turn comes.
        progress: told (vectors that were compared with all later ones, vectors), when the next pairs are asked for.

    Cost: n * n / 2 products of d numbers by matrix products; memory about 50 MB, however many pairs there are.
    """
    positions = _positions(live) if allowed is None else allowed.positions
    vids = live.vids_at(positions)
    order = np.argsort(vids)
    vids, positions = vids[order], positions[order]
    longest = np.array([live.longest], np.float32)
    limit = _limit(score, live.metric, float(slack(longest, live.metric, live.longest, live.dim)))
    blocks = [(low, min(low + LEFT_ROWS, len(vids))) for low in range(0, len(vids), LEFT_ROWS)][::-1]
    while blocks:
        low, high = blocks.pop()
        progress(low, len(vids))
        if skip is not None and skip[low:high].all():
            continue
        found = _candidates(live, positions, low, high, limit)
        if found is None:
            middle = (low + high) // 2
            blocks += [(middle, high), (low, middle)]
            continue
        firsts, others = found
        starts = np.flatnonzero(np.diff(firsts, prepend=-1))
        for place, later in zip(firsts[starts].tolist(), np.split(others, starts[1:]), strict=False):
            if skip is not None and skip[place]:
                continue
            query = _rows(live, positions[place : place + 1])[0]
            parts = list(_decided(live, query, np.sort(positions[later]), score))
            names, values = (np.concatenate(part) for part in zip(*parts, strict=True))
            if len(names):
                yield int(vids[place]), *_best_first(names, values)
    progress(len(vids), len(vids))


def _candidates(
    live: Live, positions: Positions, low: int, high: int, limit: float
) -> tuple[Positions, Positions] | None:
    """Places of pairs whose first is in low..high and that may reach the score, by first; None when they are many."""
    left = _comparable(live, positions[low:high])
    firsts, others, total = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
    for start in range(low, len(positions), RIGHT_ROWS):
        right = _comparable(live, positions[start : start + RIGHT_ROWS])
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not known to be far: a candidate
            near = left @ right.T
            if live.metric == "l2":
                near *= 2
                near -= np.einsum("ij,ij->i", left, left)[:, None]
                near -= np.einsum("ij,ij->i", right, right)
        reach = ~(near < limit)
        if start < high:
            reach = np.triu(reach, low - start + 1)
        total += int(np.count_nonzero(reach))
        if total > MAX_CANDIDATES and high - low > 1:
            return None
        first, other = np.nonzero(reach)
        firsts.append(first + low)
        others.append(other + start)
    order = np.argsort(np.concatenate(firsts), kind="stable")
    return np.concatenate(firsts)[order], np.concatenate(others)[order]


def _limit(score: float, metric: str, margin: float) -> float:
    """The closeness in float32 below which no value reaches the score, errors of up to `margin` allowed for."""
    if metric != "l2":
        limit = score - margin
    elif score > 0:
        distance = (1.0 / score - 1.0) + 1e-12 / score  # what a score is rounded from may be a little further away
        limit = -(max(distance, 0.0) ** 2 if distance < 1e150 else np.inf) - margin
    else:
        limit = -np.inf
    if abs(limit) > _FLOAT32_MAX:  # closeness overflows there, and tells nothing
        return float(np.copysign(np.inf, limit))
    return float(limit)


def _decided(live: Live, query: Matrix, positions: Positions, score: float) -> Iterator[tuple[Vids, Scores]]:
    """(vids, values) of those ascending positions that reach the score, block by block; one block at least."""
    step = max(1, _DECIDED_NUMBERS // live.dim)
    for start in range(0, max(1, len(positions)), step):
        part = positions[start : start + step]
        values = final_scores(query, gather(live.segments, live.offsets, part), live.metric)
        reach = scores_of(values, live.metric) >= score
        yield live.vids_at(part[reach]), values[reach]


def _best_first(vids: Vids, values: Scores) -> tuple[Vids, Scores]:
    order = best(values, vids, len(vids))
    return vids[order], values[order]


def _positions(live: Live) -> Positions:
    return np.arange(live.rows) if live.dead is None else np.flatnonzero(~live.dead)


def _rows(live: Live, positions: Positions) -> Matrix:
    """(m, d) vectors at positions in any order."""
    order = np.argsort(positions)
    rows = np.empty((len(positions), live.dim), np.float32)
    rows[order] = gather(live.segments, live.offsets, positions[order])
    return rows


def _comparable(live: Live, positions: Positions) -> Matrix:
    """The vectors, of length one under cosine."""
    rows = _rows(live, positions)
    if live.metric == "cosine":
        rows /= lengths(rows)[:, None]
    return rows
