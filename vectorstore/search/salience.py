"""Recall by salience: what is near to the query, matters, and was lately used.

    score = similarity * s + importance * i + recency * 0.5 ** (age / half_life)

with s the similarity on the scale of `Hit.score`, i the importance (0..1), and the age of the last access (of the
creation, when there was none). These are the three parts of Park et al. 2023 ("Generative Agents", section 4.1), with
its recency of 0.995 an hour. There each part is first stretched to 0..1 over all memories, so that a score depends on
what else is remembered; here the parts stay on their own scales, which are 0..1 already, and the weights say it all.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

import numpy as np

from vectorstore.errors import NotFound, ValidationError
from vectorstore.ids import to_micros
from vectorstore.records import Record
from vectorstore.records.where import Node
from vectorstore.results import Hit, Hits, Plan
from vectorstore.search.queries import LeftOut
from vectorstore.search.searcher import Searcher
from vectorstore.storage import Connection, RecordTable
from vectorstore.sync import SnapshotMoved, Sync
from vectorstore.sync.numbers import Numbers, Values
from vectorstore.vectors import Matrix
from vectorstore.vectors.arrays import Vids
from vectorstore.vectors.salient import Salient, Worth, search_salient

R = TypeVar("R", bound=Record)
FIELDS = ("importance", "last_accessed", "created_at")
_MICROSECOND = timedelta(microseconds=1)
_HALF_LIFE = timedelta(hours=math.log(0.5, 0.995))


@dataclass(frozen=True)
class Salience:
    """What counts in a recall, and how much.

    The defaults let importance, and recency, make up for a similarity that is at most 0.25 lower: about what lies
    between the tenth and the thousandth of a hundred thousand texts by all-MiniLM-L6-v2.

    Attributes:
        similarity: 0 or more, weight of the similarity.
        importance: 0 or more, weight of the importance; with 0 for this and `recency` the score is the similarity.
        recency: 0 or more, weight of the recency.
        half_life: of the recency; the default of 138.3 hours is 0.995 an hour.

    Raises:
        ValidationError: a value out of range.
    """

    similarity: float = 1.0
    importance: float = 0.25
    recency: float = 0.25
    half_life: timedelta = _HALF_LIFE

    def __post_init__(self) -> None:
        for name in ("similarity", "importance", "recency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ValidationError(f"Salience.{name}: expected a finite number of at least 0, got {value!r}")
        if not isinstance(self.half_life, timedelta) or self.half_life <= timedelta(0):
            raise ValidationError(f"Salience.half_life: expected a timedelta above zero, got {self.half_life!r}")

    def recency_of(self, used: Worth, now: int) -> Worth:
        """(n,) weighted recency.

        Args:
            used: (n,) instants in microseconds, minus infinity for never.
            now: in microseconds; what lies in the future has age 0.
        """
        return self.recency * np.exp2(np.minimum(used - now, 0.0) * (_MICROSECOND / self.half_life))


@dataclass(frozen=True, eq=False)
class _Worthy:
    """(live.rows,) importance and last use by position, made from these values and rows."""

    values: Values
    rows: Vids
    importance: Worth
    used: Worth

    @classmethod
    def of(cls, values: Values, rows: Vids) -> _Worthy:
        """Without importance 0, without any instant minus infinity."""
        importance, accessed, created = values[rows].T
        used = np.where(np.isnan(accessed), created, accessed)
        return cls(values, rows, np.nan_to_num(importance), np.where(np.isnan(used), -np.inf, used))


@dataclass(frozen=True)
class Recall:
    """The checked arguments of a recall, all but the query."""

    k: int
    node: Node | None
    salience: Salience
    recall: float
    exact: bool


class Recaller(Generic[R]):
    """Recall over one space of a kind that has the `FIELDS`."""

    def __init__(self, sync: Sync, table: RecordTable[R], searcher: Searcher[R], space: str) -> None:
        self._sync = sync
        self._table = table
        self._searcher = searcher
        self._space = space
        self._numbers = Numbers(sync, table, FIELDS)
        self._worthy: _Worthy | None = None  # of the last recall; threads may overwrite each other's

    def query(self, query: Any) -> tuple[Matrix, LeftOut]:
        """((d,) vector, the ids to leave out) of whatever was asked for."""
        return self._searcher.queries.one(query, f"{self._table.name}.recall: query")

    def recall(self, query: Any, request: Recall) -> Hits[R]:
        """One query; see `Memories.recall`."""
        started = time.perf_counter()
        vector, left_out = self.query(query)
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    return self.answer(connection, vector, left_out, request, started)
                except SnapshotMoved:
                    continue

    def answer(
        self, connection: Connection, vector: Matrix, left_out: LeftOut, request: Recall, started: float
    ) -> Hits[R]:
        """The answer within a read snapshot.

        Raises:
            SnapshotMoved: begin the read again.
        """
        state, catalog = self._sync.state(self._space), self._sync.catalog
        live = state.current(connection)
        generation = catalog.seq(connection)
        if live is None:
            plan = Plan("empty", "no vectors yet", 0)
            return Hits((), True, 1.0, generation, time.perf_counter() - started, "salience", plan)
        node, salience = request.node, request.salience
        allowed = None if node is None else state.allowed(connection, live, self._table, node)
        values = self._numbers.current(connection)
        rows = state.rows_at(connection, live)
        if int(rows.max(initial=-1)) >= len(values):
            raise NotFound(f"{self._table.name}: a vector has no record; run: vectorstore check")
        worthy = self._worthy
        if worthy is None or worthy.values is not values or worthy.rows is not rows:
            self._worthy = worthy = _Worthy.of(values, rows)
        importance = salience.importance * worthy.importance
        recency = salience.recency_of(worthy.used, to_micros(catalog.clock()))
        found = search_salient(
            live,
            vector,
            request.k + len(left_out),
            importance + recency,
            float(salience.similarity),
            allowed=allowed,
            recall=request.recall,
            exact=request.exact,
        )
        records = self._table.by_vids(connection, found.vids.tolist(), None if catalog.in_transaction else generation)
        places = found.positions
        hits = self._hits(found, records, importance[places], recency[places], left_out, request)
        elapsed = time.perf_counter() - started
        return Hits(hits, found.exact, found.recall, generation, elapsed, "salience", found.plan)

    def _hits(
        self,
        found: Salient,
        records: dict[int, R],
        importance: Worth,
        recency: Worth,
        left_out: LeftOut,
        request: Recall,
    ) -> tuple[Hit[R], ...]:
        metric, weight = self._searcher.queries.metric, request.salience.similarity
        hits: list[Hit[R]] = []
        columns = (found.vids, found.scores, found.similarities, importance, recency)
        for vid, score, near, important, recent in zip(*(column.tolist() for column in columns), strict=True):
            record = records.get(vid)
            if record is None:
                raise NotFound(f"{self._table.name}: vector {vid} has no live record; run: vectorstore check")
            if record.id in left_out or len(hits) == request.k:
                continue
            parts = {"similarity": weight * near, "importance": important, "recency": recent}
            distance = {"cosine": 1.0 - near, "ip": -near}.get(metric, 1.0 / near - 1.0 if near else None)
            hits.append(Hit(record, score, distance, len(hits), parts))
        return tuple(hits)
