"""Search through an engine outside that is fed with a space's vectors.

The engine proposes vids; here they become positions of the snapshot, what is not live in it is dropped, what the
engine has not been told yet is scanned exactly, and all are ranked exactly: *engine + exact tail - retired*, as with an
index of our own. What the engine was told while it answered, and so may have hidden from a reader of an older commit,
is scanned too (`moved`). An answer is never short: what the engine cannot fill up is looked for exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vectorstore.errors import EngineDown
from vectorstore.recipes import Point
from vectorstore.results import Plan
from vectorstore.vectors import allowed as allowance
from vectorstore.vectors.allowed import Allowed, Asked
from vectorstore.vectors.arrays import Matrix, Positions, Vids
from vectorstore.vectors.exact import prepare
from vectorstore.vectors.measure import Curve, OperatingPoint

if TYPE_CHECKING:
    from vectorstore.vectors.live import Found, Live

EXACT_NUMBERS = 1 << 30
"""While the engine is down so many numbers (4 GB) are scanned for a query at most; a bigger space raises EngineDown."""

Ask = Callable[[Matrix, int, Point, str | None], list[Vids]]


@dataclass(frozen=True, eq=False)
class Fed:
    """An engine outside, as one snapshot sees it.

    Attributes:
        name: for plans.
        ask: ((q, d) prepared queries, count, effort, expression) -> vids of each, nearest first.
        curve: its measured operating points.
        waiting: ascending vids whose state it has not been told; they are scanned.
        moved: called after an answer: vids that were there at the snapshot's commit and that it has been told to forget
            or change since, or None when that is not known any more.
        rows: how many rows it says that it has, asked now and then; None when that was known a moment ago.
        most: at most so many candidates a query.
        named: at most so many vids in one expression.
        by_vids: the expression that only these vids pass.
        short: told (rows that it has, rows that it must have at least) when it has too few; the error to raise.
    """

    name: str
    ask: Ask
    curve: Curve
    waiting: Vids
    moved: Callable[[], Vids | None]
    rows: Callable[[], int | None]
    most: int
    named: int
    by_vids: Callable[[Sequence[int]], str]
    short: Callable[[int, int], EngineDown]


def answered_by(live: Live) -> str:
    """What answers searches of a snapshot: the engine outside, the recipe of the index, or "exact"."""
    if live.fed is not None:
        return live.fed.name
    return "exact" if live.index is None else live.index.recipe.name


def search_fed(
    live: Live, fed: Fed, queries: Matrix, k: int, allowed: Allowed | Asked | None, recall: float, exact: bool
) -> list[Found]:
    """As `Live.search` for each of (q, d) queries.

    Raises:
        EngineDown: the engine does not answer, and the space is too big to do without.
    """
    prepared = np.stack([prepare(query, live.metric) for query in queries])
    if exact or recall >= 1.0:
        return _exactly(live, queries, prepared, k, allowed, "exact answers were asked for")
    chosen = _plan(live, fed, k, allowed, recall)
    if isinstance(chosen, str):
        return _exactly(live, queries, prepared, k, allowed, chosen)
    point, count, where, filtering = chosen
    found: list[Found | None] = [None] * len(queries)
    left = list(range(len(queries)))
    try:
        held = fed.rows()
        while left:
            proposed = fed.ask(prepared[left], count, point.effort, where)
            moved = fed.moved()
            if moved is None:
                return _exactly(live, queries, prepared, k, allowed, "the engine is far ahead of this snapshot")
            untold = np.union1d(fed.waiting, moved)
            if held is not None and held < live.live_rows - len(untold):
                raise fed.short(held, live.live_rows - len(untold))
            tail = _survivors(live, untold, filtering)
            for place, vids in zip(left, proposed, strict=True):
                kept = _survivors(live, vids, filtering)
                if len(vids) < count or len(kept) >= point.candidates:
                    found[place] = _ranked(
                        live, fed, queries[place], prepared[place], k, kept, tail, point, len(vids), allowed is not None
                    )
            left = [place for place in left if found[place] is None]
            if left and count == fed.most:
                break
            count = min(count * 4, fed.most)
    except EngineDown as error:
        if live.rows * live.dim > EXACT_NUMBERS:
            raise
        return _exactly(live, queries, prepared, k, allowed, f"the engine is down, answers are exact: {error}")
    answers = []
    for place, answer in enumerate(found):
        # An engine may have had no more to give; but then there must be no more.
        if answer is None or (len(answer.vids) < k and (allowed is not None or len(answer.vids) < live.live_rows)):
            reason = "the engine proposed too few that are live and pass the filter"
            answers += _exactly(live, queries[place : place + 1], prepared[place : place + 1], k, allowed, reason)
        else:
            answers.append(answer)
    return answers


def _plan(
    live: Live, fed: Fed, k: int, allowed: Allowed | Asked | None, recall: float
) -> tuple[OperatingPoint, int, str | None, Allowed | Asked | None] | str:
    """(effort, how many to ask for, expression, what to hold proposals to), or why to do without."""
    if isinstance(allowed, Allowed) and len(allowed.positions) * live.dim <= allowance.EXACT_FILTER_NUMBERS:
        return f"the filter allows {len(allowed.positions)} vectors, few enough to score them all exactly"
    point = fed.curve.cheapest(recall, k, filtered=allowed is not None)
    if point is None:
        return f"no measured point of {fed.name} reaches recall {recall:g} at k={k}"
    where, share = None, 1.0
    more = min(len(fed.waiting), point.candidates)  # of what waits, some may be retired, and still proposed
    if isinstance(allowed, Asked):
        where = allowed.expression
    elif allowed is not None and len(allowed.positions) <= fed.named:
        where = fed.by_vids(live.vids_at(allowed.positions).tolist())
    elif allowed is not None:
        share = len(allowed.positions) / max(1, live.rows)
    count = point.candidates + more if share >= 1.0 else int(point.candidates / share * 1.2) + 16 + more
    if count > fed.most:
        return f"the engine would have to propose {count} candidates, its limit is {fed.most}"
    return point, count, where, allowed


def _survivors(live: Live, vids: Vids, filtering: Allowed | Asked | None) -> Positions:
    """Ascending positions of vids that are live and pass the filter."""
    positions = np.sort(live.positions_of(np.unique(vids)))
    if live.dead is not None:
        positions = positions[~live.dead[positions]]
    if isinstance(filtering, Allowed):
        return positions[filtering.among(positions)]
    if filtering is not None and len(positions):
        return np.sort(live.positions_of(filtering.holding(live.vids_at(positions))))
    return positions


def _ranked(
    live: Live,
    fed: Fed,
    query: Matrix,
    prepared: Matrix,
    k: int,
    kept: Positions,
    tail: Positions,
    point: OperatingPoint,
    proposed: int,
    filtered: bool,
) -> Found:
    from vectorstore.vectors.live import Found

    positions = np.union1d(kept, tail)
    vids, scores = live._rank(query, prepared, k, positions)
    plan = Plan(
        "engine + filter" if filtered else "engine",
        f"{fed.name}: {point.candidates} candidates were measured to give recall {point.recall:.4f}; "
        f"{len(tail)} vectors it has not been told yet scanned exactly",
        scanned=len(positions),
        candidates=proposed,
    )
    return Found(vids, scores, False, point.recall, plan)


def _exactly(
    live: Live, queries: Matrix, prepared: Matrix, k: int, allowed: Allowed | Asked | None, reason: str
) -> list[Found]:
    from vectorstore.vectors.live import Found

    found = allowed.resolved() if isinstance(allowed, Asked) else allowed
    matching = None if found is None else len(found.positions)
    if not (live.live_rows if matching is None else matching):
        plan = Plan("empty", "the filter matches nothing" if matching == 0 else "no vectors yet", 0, 0, matching)
        return [Found(np.empty(0, np.int64), np.empty(0), True, 1.0, plan) for _ in queries]
    if len(queries) == 1:
        return [live._exact(queries[0], prepared[0], k, found, reason)]
    return live._exact_many(queries, prepared, k, found, reason)
