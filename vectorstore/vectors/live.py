"""A snapshot of one vector space at one commit, and search over it.

`Live` is immutable: segments, the pending block as a last segment, a mask of retired positions and perhaps an index
over the first `index.rows` positions. Its search equals brute force over the live vectors, within the recall asked
for: *frozen index + exact tail - retired*. Positions count rows through the segments in order.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vectorstore.results import Plan
from vectorstore.vectors import allowed as allowance
from vectorstore.vectors.allowed import Allowed, Asked
from vectorstore.vectors.arrays import Matrix, Positions, Vids, lengths
from vectorstore.vectors.batches import rank_each
from vectorstore.vectors.exact import (
    Scores,
    best,
    closeness,
    closeness_many,
    contenders,
    final_scores,
    gather,
    prepare,
    slack,
    spans,
    vids_at,
)
from vectorstore.vectors.fed import Fed, search_fed
from vectorstore.vectors.index import Index
from vectorstore.vectors.measure import Curve, OperatingPoint
from vectorstore.vectors.segments import Segment
from vectorstore.vectors.workers import shared

MAX_SHARE = 0.25
"""When the index would have to propose more than this share of its rows, the exact scan is cheaper."""

BATCH_NUMBERS = 1 << 20
"""So many candidates of several queries are ranked at once (4 MB of closeness)."""

RANKED_TOGETHER = 16
"""So many queries at once: their vectors stay in the processor's cache."""

MAX_SHARED_TAIL = 4_096
"""A longer tail of newer vectors is scanned for each query by itself."""

GATHERED_NUMBERS = 1 << 24
"""At most so many numbers (64 MB) that a filter allows are gathered for a batch of exact queries."""


@dataclass(frozen=True, eq=False)
class Found:
    """The answer of one query: (m,) vids, best first, and their scores (see `exact.final_scores`)."""

    vids: Vids
    scores: Scores
    exact: bool
    recall: float
    plan: Plan


@dataclass(frozen=True, eq=False)
class Live:
    """A searchable snapshot. `dead` is None when nothing is retired."""

    seq: int
    dim: int
    metric: str
    segments: tuple[Segment, ...]
    dead: npt.NDArray[np.bool_] | None = None
    index: Index | None = None
    curve: Curve | None = None
    index_file: str = ""
    index_problem: str | None = None
    layout: int = 0
    last_segment: int = 0
    last_pending: int = 0
    fed: Fed | None = None

    @cached_property
    def offsets(self) -> Positions:
        """(s + 1,) position at which each segment begins; the last is the number of positions."""
        return np.concatenate([[0], np.cumsum([segment.rows for segment in self.segments])]).astype(np.int64)

    @property
    def rows(self) -> int:
        """Positions, retired ones included."""
        return int(self.offsets[-1])

    @cached_property
    def dead_rows(self) -> int:
        """Retired positions."""
        return 0 if self.dead is None else int(np.count_nonzero(self.dead))

    @cached_property
    def dead_indexed(self) -> int:
        """Retired positions that the index still holds."""
        if self.dead is None or self.index is None:
            return 0
        return int(np.count_nonzero(self.dead[: self.index.rows]))

    @property
    def live_rows(self) -> int:
        """Positions that can be found."""
        return self.rows - self.dead_rows

    @cached_property
    def longest(self) -> float:
        """The biggest norm, for error bounds."""
        return max((float(segment.norms.max()) for segment in self.segments if segment.rows), default=1.0)

    def positions_of(self, vids: Vids) -> Positions:
        """Positions of those vids that are here, retired ones included, ascending by vid."""
        each = zip(self.segments, self.offsets, strict=False)
        found = [segment.find(vids)[1] + offset for segment, offset in each]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def vids_at(self, positions: Positions) -> Vids:
        """The vids at ascending positions."""
        return vids_at(self.segments, self.offsets, positions)

    def vectors_of(self, vids: Vids) -> tuple[Vids, Matrix]:
        """(vids that are here, their vectors), retired ones included."""
        positions = self.positions_of(np.sort(vids))
        if not len(positions):
            return np.empty(0, np.int64), np.empty((0, self.dim), np.float32)
        return self.vids_at(positions), gather(self.segments, self.offsets, positions)

    def allow(self, vids: Vids) -> Allowed:
        """The positions of vids that a filter lets through."""
        positions = np.sort(self.positions_of(np.sort(vids)))
        kept = positions if self.dead is None else positions[~self.dead[positions]]
        return Allowed(kept, self.index)

    def retire(self, vids: Vids) -> npt.NDArray[np.bool_] | None:
        """The mask of retired positions with some more of them."""
        if not len(vids):
            return self.dead
        mask = np.zeros(self.rows, dtype=bool) if self.dead is None else self.dead.copy()
        mask[self.positions_of(vids)] = True
        return mask

    def grow(self, *, seq: int, segments: Sequence[Segment], **changes: object) -> Live:
        """The next snapshot: segments appended before, or replacing, the pending block."""
        grown = dataclasses.replace(self, seq=seq, segments=tuple(segments), dead=None, **changes)  # type: ignore[arg-type]
        if self.dead is not None:
            mask = np.zeros(grown.rows, dtype=bool)
            mask[grown.positions_of(np.sort(self.vids_at(np.flatnonzero(self.dead))))] = True
            grown = dataclasses.replace(grown, dead=mask)
        return grown

    # -- search ----------------------------------------------------------------------------------------------------

    def search(
        self,
        query: Matrix,
        k: int,
        *,
        allowed: Allowed | Asked | None = None,
        recall: float = 0.99,
        exact: bool = False,
    ) -> Found:
        """The k best live vectors for one query; see the module's docstring for the contract.

        Args:
            query: (d,) float32, as the caller gave it.
            k: at least 1.
            allowed: what a filter lets through; None for everything.
            recall: 0..1, the share of the true best to deliver; 1 is exact.
            exact: compare with every vector.
        """
        if self.fed is not None:
            return search_fed(self, self.fed, query.reshape(1, -1), k, allowed, recall, exact)[0]
        assert not isinstance(allowed, Asked)  # made only for an engine outside
        matching = None if allowed is None else len(allowed.positions)
        total = self.live_rows if matching is None else matching
        if not total:
            plan = Plan("empty", "the filter matches nothing" if matching == 0 else "no vectors yet", 0, 0, matching)
            return Found(np.empty(0, np.int64), np.empty(0), True, 1.0, plan)
        point, reason = self._choose(k, recall, exact, matching)
        prepared = prepare(query, self.metric)
        if point is None:
            return self._exact(query, prepared, k, allowed, reason)
        return self._through_index(query, prepared, k, allowed, point)

    def search_many(
        self,
        queries: Matrix,
        k: int,
        *,
        allowed: Allowed | Asked | None = None,
        recall: float = 0.99,
        exact: bool = False,
    ) -> list[Found]:
        """The same answers as `search` for each row of (q, d) queries, with shared work and two threads."""
        if self.fed is not None:
            return search_fed(self, self.fed, queries, k, allowed, recall, exact)
        assert not isinstance(allowed, Asked)
        matching = None if allowed is None else len(allowed.positions)
        point, reason = self._choose(k, recall, exact, matching)
        if not (self.live_rows if matching is None else matching) or len(queries) == 1:
            return [self.search(query, k, allowed=allowed, recall=recall, exact=exact) for query in queries]
        prepared = np.stack([prepare(query, self.metric) for query in queries])
        if point is None:
            return self._exact_many(queries, prepared, k, allowed, reason)
        chosen = point
        most = max(2, min(len(queries), BATCH_NUMBERS // chosen.candidates))
        blocks = np.array_split(np.arange(len(queries)), 2 * math.ceil(len(queries) / (2 * most)))
        many = functools.partial(self._through_index_many, k=k, allowed=allowed, point=chosen)
        answers = shared(lambda block: many(queries[block], prepared[block]), blocks)
        return list(itertools.chain.from_iterable(answers))

    def _through_index_many(
        self, queries: Matrix, prepared: Matrix, k: int, allowed: Allowed | None, point: OperatingPoint
    ) -> list[Found]:
        """As `_through_index` for each query, which is still asked one by one when its candidates do not suffice."""
        assert self.index is not None
        if not len(queries):
            return []
        among = None if allowed is None else allowed.restricted
        count = self._fetch(point, allowed) if among is None else point.candidates
        if allowed is None:
            enough, tail = min(point.candidates, self.index.rows - self.dead_indexed), self._tail
        else:
            enough, tail = min(point.candidates, allowed.indexed), allowed.positions[allowed.indexed :]
        if not count or len(tail) > MAX_SHARED_TAIL:
            each = zip(queries, prepared, strict=True)
            return [self._through_index(query, ready, k, allowed, point) for query, ready in each]
        if among is not None and allowed is not None:
            places = among.candidates(prepared, count)
            proposed = np.where(places >= 0, allowed.positions[places], -1)
        else:
            proposed = self.index.candidates(prepared, point.effort, count)
            kept = proposed >= 0
            if self.dead is not None:
                kept &= ~self.dead[proposed]
            if allowed is not None:
                kept &= allowed.among(proposed.ravel()).reshape(kept.shape)
            proposed = np.where(kept, proposed, -1)
        survivors = np.count_nonzero(proposed >= 0, axis=1).tolist()
        shared = np.broadcast_to(tail, (len(queries), len(tail)))
        positions = np.concatenate([proposed, shared], axis=1)
        rank = functools.partial(rank_each, self.segments, self.offsets, self.metric, self.longest, k=k)
        parts = [slice(start, start + RANKED_TOGETHER) for start in range(0, len(queries), RANKED_TOGETHER)]
        ranked = itertools.chain.from_iterable(
            rank(queries=queries[part], prepared=prepared[part], positions=positions[part]) for part in parts
        )
        plan = functools.cache(lambda kept: self._plan(point, allowed, kept, count, len(tail)))
        return [
            Found(*answer, False, point.recall, plan(kept))
            if kept >= enough
            else self._through_index(queries[place], prepared[place], k, allowed, point)
            for place, (answer, kept) in enumerate(zip(ranked, survivors, strict=True))
        ]

    @cached_property
    def _tail(self) -> Positions:
        """Live positions that the index does not cover."""
        assert self.index is not None
        tail = np.arange(self.index.rows, self.rows)
        return tail if self.dead is None else tail[~self.dead[tail]]

    def _plan(self, point: OperatingPoint, allowed: Allowed | None, kept: int, proposed: int, tail: int) -> Plan:
        assert self.index is not None and self.curve is not None
        note = f"; {self.curve.note}" if self.curve.note else ""
        return Plan(
            "index" if allowed is None else "index + filter",
            f"{self.index.recipe.name}: {point.candidates} candidates were measured to give recall "
            f"{point.recall:.4f}; {tail} newer vectors scanned exactly{note}",
            scanned=kept + tail,
            candidates=proposed,
            matching=None if allowed is None else len(allowed.positions),
        )

    def _choose(self, k: int, recall: float, exact: bool, matching: int | None) -> tuple[OperatingPoint | None, str]:
        if exact or recall >= 1.0:
            return None, "exact answers were asked for"
        if self.index is None or self.curve is None:
            return None, self.index_problem or f"no index is published over these {self.rows} vectors"
        if matching is not None and matching * self.dim <= allowance.EXACT_FILTER_NUMBERS:
            return None, f"the filter allows {matching} vectors, few enough to score them all exactly"
        if matching is not None and not self.curve.filtered:
            return None, f"the recall of {self.index.recipe.name} under a filter was not measured"
        point = self.curve.cheapest(recall, k, filtered=matching is not None)
        if point is None:
            return None, f"no measured point of {self.index.recipe.name} reaches recall {recall:g} at k={k}"
        if point.candidates > MAX_SHARE * self.index.rows:
            return None, f"{point.candidates} candidates of {self.index.rows} rows would cost more than an exact scan"
        return point, ""

    def _fetch(self, point: OperatingPoint, allowed: Allowed | None) -> int:
        """How many to ask the index for, so that enough survive the filter and the retired; 0: too many."""
        assert self.index is not None  # a point was chosen from its curve
        indexed = self.index.rows
        share = 1.0
        if allowed is not None:
            share = allowed.indexed / indexed
        elif self.dead is not None:
            share -= self.dead_indexed / indexed
        wanted = point.candidates if share >= 1.0 else int(point.candidates / max(share, 1e-9) * 1.2) + 16
        most = MAX_SHARE * indexed if allowed is None else min(MAX_SHARE * indexed, allowed.indexed / allowance.DEAR)
        return wanted if wanted <= min(most, self.index.limit) else 0

    def _propose(
        self, prepared: Matrix, allowed: Allowed | None, point: OperatingPoint
    ) -> tuple[Positions | None, int]:
        """(candidate positions, ascending; how many the index proposed), or None when an exact scan is cheaper.

        With `point.candidates` survivors of filter and retirement these are what an index over the surviving rows
        alone would have proposed, so its measured recall holds.
        """
        assert self.index is not None
        query = prepared.reshape(1, -1)
        if allowed is not None and allowed.restricted is not None:
            places = allowed.restricted.candidates(query, point.candidates)[0]
            return allowed.positions[np.sort(places[places >= 0])], len(places)
        enough = min(point.candidates, self.index.rows - self.dead_indexed if allowed is None else allowed.indexed)
        count = self._fetch(point, allowed)
        while count:
            proposed = self.index.candidates(query, point.effort, count)[0]
            kept = proposed[proposed >= 0]
            if self.dead is not None:
                kept = kept[~self.dead[kept]]
            if allowed is not None:
                kept = kept[allowed.among(kept)]
            if len(kept) >= enough:
                return np.sort(kept), len(proposed)
            count = count * 2 if count * 2 <= min(MAX_SHARE * self.index.rows, self.index.limit) else 0
        return None, 0

    def _through_index(
        self, query: Matrix, prepared: Matrix, k: int, allowed: Allowed | None, point: OperatingPoint
    ) -> Found:
        kept, proposed = self._propose(prepared, allowed, point)
        if kept is None:
            return self._exact(query, prepared, k, allowed, "the index would have to propose too many candidates")
        tail = self._tail if allowed is None else allowed.positions[allowed.indexed :]
        positions = np.concatenate([kept, tail]) if len(tail) else kept
        vids, scores = self._rank(query, prepared, k, positions)
        return Found(vids, scores, False, point.recall, self._plan(point, allowed, len(kept), proposed, len(tail)))

    def _exact(self, query: Matrix, prepared: Matrix, k: int, allowed: Allowed | None, reason: str) -> Found:
        if allowed is not None:
            block = allowed.together(self.segments, self.offsets)
            if block is None:
                vids, scores = self._rank(query, prepared, k, allowed.positions)
            else:
                near = closeness(prepared, block, self.metric)
                vids, scores = self._finish(query, prepared, k, near, allowed.positions)
            scanned, matching = len(allowed.positions), len(allowed.positions)
        else:
            values = [closeness(prepared, segment, self.metric) for segment in self.segments]
            vids, scores = self._finish(query, prepared, k, np.concatenate(values), None)
            scanned, matching = self.rows, None
        name = "exact" if allowed is None else "filtered exact"
        return Found(vids, scores, True, 1.0, Plan(name, reason, scanned, 0, matching))

    def _exact_many(
        self, queries: Matrix, prepared: Matrix, k: int, allowed: Allowed | None, reason: str
    ) -> list[Found]:
        answers = []
        rows = self.rows if allowed is None else len(allowed.positions)
        name, matching = ("exact", None) if allowed is None else ("filtered exact", rows)
        plan = Plan(name, reason, rows, 0, matching)
        segments: Sequence[Segment] = self.segments
        positions = None if allowed is None else allowed.positions
        if positions is not None:
            if rows * self.dim > GATHERED_NUMBERS:
                each = zip(queries, prepared, strict=True)
                return [self._exact(query, ready, k, allowed, reason) for query, ready in each]
            vectors = gather(self.segments, self.offsets, positions)
            segments = [Segment(0, vectors, lengths(vectors), 0, None)]
        step = max(1, min(len(queries), 32 * 1024 * 1024 // max(1, rows * 4)))
        for start in range(0, len(queries), step):
            block = prepared[start : start + step]
            values = np.concatenate([closeness_many(block, segment, self.metric) for segment in segments], axis=1)
            for place in range(len(block)):
                vids, scores = self._finish(queries[start + place], block[place], k, values[place], positions)
                answers.append(Found(vids, scores, True, 1.0, plan))
        return answers

    def _rank(self, query: Matrix, prepared: Matrix, k: int, positions: Positions) -> tuple[Vids, Scores]:
        """The k best of some live positions, which ascend."""
        values = [
            closeness(prepared, self.segments[segment], self.metric, positions[low:high] - self.offsets[segment])
            for segment, low, high in spans(self.offsets, positions)
        ]
        near = np.concatenate(values) if values else np.empty(0, np.float32)
        return self._finish(query, prepared, k, near, positions)

    def _finish(
        self, query: Matrix, prepared: Matrix, k: int, values: Matrix, positions: Positions | None
    ) -> tuple[Vids, Scores]:
        if positions is None and self.dead is not None:
            values = np.where(self.dead, np.float32(-np.inf), values)
            k = min(k, self.live_rows)
        places = contenders(values, k, slack(prepared, self.metric, self.longest, self.dim))
        chosen = places if positions is None else positions[places]
        if positions is None and self.dead is not None:
            chosen = chosen[~self.dead[chosen]]
        if not len(chosen):
            return np.empty(0, np.int64), np.empty(0)
        scores = final_scores(query, gather(self.segments, self.offsets, chosen), self.metric)
        vids = self.vids_at(chosen)
        order = best(scores, vids, k)
        return vids[order], scores[order]
