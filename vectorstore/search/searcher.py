"""Search over one kind: a query becomes hits, in one read snapshot.

Three modes: "vector" (the space's metric), "text" (FTS5 with BM25) and "hybrid" (both, fused). Filters apply before
the cut in every mode, so a result is never short. A plain vector search goes the short way; text, fusion and stages
go through a ranked list that is deepened until its first k are certain.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from vectorstore.embedding import Embedding
from vectorstore.errors import NotFound, ValidationError
from vectorstore.records import Column, Record, Where, parse
from vectorstore.records.where import Node
from vectorstore.results import Hit, Hits, Plan, Side
from vectorstore.search.centring import search_centred
from vectorstore.search.fusion import DEFAULT, Fusion
from vectorstore.search.hybrid import DEEPEN, fused
from vectorstore.search.queries import NOBODY, Id, LeftOut, Queries, WithVector
from vectorstore.search.snippets import Snippets, passages
from vectorstore.search.stages import Ranked, Scene, Stage, as_score
from vectorstore.search.text import Syntax, TextQuery, check_syntax, matches, text_query
from vectorstore.storage import Connection, RecordTable
from vectorstore.storage.lookups import records_of
from vectorstore.sync import SnapshotMoved, Sync
from vectorstore.vectors import Allowed, Asked, Found, Live, Matrix

R = TypeVar("R", bound=Record)
Mode = Literal["vector", "text", "hybrid"]
MODES = ("vector", "text", "hybrid")
RECALL = 0.99
MAX_K = 100_000


@dataclass(frozen=True)
class Request:
    """The checked arguments of a search, all but the query."""

    k: int
    node: Node | None
    recall: float
    exact: bool
    mode: Mode = "vector"
    stages: tuple[Stage, ...] = ()
    syntax: Syntax = "words"
    fusion: Fusion = DEFAULT
    snippets: Snippets | None = None
    per_group: int = 1
    center: Column | None = None

    @classmethod
    def checked(
        cls,
        table: RecordTable[Any],
        k: int,
        where: Where | None,
        recall: float | None,
        exact: bool,
        mode: str = "vector",
        stages: Sequence[Stage] = (),
        syntax: str = "words",
        fusion: Fusion | None = None,
        snippets: Snippets | None = None,
        per_group: int = 1,
        center: Column | None = None,
    ) -> Request:
        """The request, or what is wrong with it.

        Raises:
            ValidationError: a bad argument, named.
        """
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise ValidationError(f"k: expected a whole number in 1..{MAX_K}, got {k!r}")
        if recall is not None and (
            isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 <= recall <= 1
        ):
            raise ValidationError(f"recall: expected 0..1, got {recall!r}")
        if mode not in MODES:
            raise ValidationError(f"mode: expected {', '.join(MODES[:-1])} or {MODES[-1]}, got {mode!r}")
        if mode != "vector" and not table.schema.text_columns:
            raise ValidationError(f"{table.name}: has no EMBEDDED text fields to search")
        if mode == "vector" and (syntax != "words" or snippets is not None):
            option = "snippets" if syntax == "words" else "syntax"
            raise ValidationError(f"{option}: only with mode='text' or mode='hybrid', which look at words")
        if mode != "hybrid" and fusion is not None:
            raise ValidationError("fusion: only with mode='hybrid', which has two lists to fuse")
        chosen, node = RECALL if recall is None else float(recall), parse(where, table.schema)
        options = (check_syntax(syntax), fusion or DEFAULT, snippets, per_group, center)
        return cls(k, node, chosen, exact, mode, tuple(stages), *options)  # type: ignore[arg-type]


class Searcher(Generic[R]):
    """Search over the records of one kind."""

    def __init__(self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str, space: str) -> None:
        self._sync = sync
        self._table = table
        self._metric = metric
        self._name = space
        self.queries = Queries(sync, table, embedding, metric, space)

    def search(self, query: Any, request: Request) -> Hits[R]:
        """One query; see `Collection.search`."""
        started = time.perf_counter()
        if request.mode != "vector" and (not isinstance(query, str | WithVector) or isinstance(query, Id)):
            where = f"{self._table.name}.search"
            raise ValidationError(f"{where}: mode={request.mode!r} needs a text, got {type(query).__name__}")
        vector, left_out = (None, NOBODY) if request.mode == "text" else self.queries.one(query)
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    return self.answer(connection, query, vector, left_out, request, started)
                except SnapshotMoved:
                    continue

    def answer(
        self,
        connection: Connection,
        query: Any,
        vector: Matrix | None,
        left_out: LeftOut,
        request: Request,
        started: float,
    ) -> Hits[R]:
        """The answer within a read snapshot, from what `queries` made of the query.

        Raises:
            SnapshotMoved: begin the read again.
        """
        live = self._sync.state(self._name).current(connection)
        if vector is None or request.stages or request.mode != "vector":
            return self._staged(connection, live, query, vector, left_out, request, started)
        allowed = self._allowed(connection, live, request.node)
        found = self._one(connection, live, query, vector, request.k + len(left_out), allowed, request)
        generation = self._sync.catalog.seq(connection) if live is None else live.seq
        known = None if self._sync.catalog.in_transaction else generation
        records = self._table.by_vids(connection, found.vids.tolist(), known)
        return self._hits(found, records, request.k, left_out, generation, started)

    def search_many(self, queries: Any, request: Request) -> list[Hits[R]]:
        """Several queries at once; see `Collection.search_many`."""
        started = time.perf_counter()
        vectors, left_out = self.queries.many(queries)
        if not len(vectors):
            return []
        more = max(map(len, left_out))
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    live = self._sync.state(self._name).current(connection)
                except SnapshotMoved:
                    continue
                allowed = self._allowed(connection, live, request.node)
                if live is None:
                    found = [self._one(connection, None, None, vector, request.k, None, request) for vector in vectors]
                else:
                    found = live.search_many(
                        vectors, request.k + more, allowed=allowed, recall=request.recall, exact=request.exact
                    )
                generation = self._sync.catalog.seq(connection)
                vids = sorted({int(vid) for answer in found for vid in answer.vids})
                records: dict[int, R] = {}
                for start in range(0, len(vids), 5000):
                    records.update(self._table.by_vids(connection, vids[start : start + 5000]))
            return [
                self._hits(answer, records, request.k, names, generation, started)
                for answer, names in zip(found, left_out, strict=True)
            ]

    # -- the short way ---------------------------------------------------------------------------------------------

    def _allowed(self, connection: Connection, live: Live | None, node: Node | None) -> Allowed | Asked | None:
        if node is None or live is None:
            return None
        return self._sync.state(self._name).asked(connection, live, self._table, node)

    def _one(
        self,
        connection: Connection,
        live: Live | None,
        query: Any,
        vector: Matrix,
        k: int,
        allowed: Allowed | Asked | None,
        request: Request,
    ) -> Found:
        if live is None:
            plan = Plan("empty", "no vectors yet", 0)
            return Found(np.empty(0, np.int64), np.empty(0), True, 1.0, plan)
        if request.center is not None:
            allowed = allowed.resolved() if isinstance(allowed, Asked) else allowed
            return search_centred(
                self._sync, connection, self._table, self._name, live, query, vector, k, allowed, request.center
            )
        return live.search(vector, k, allowed=allowed, recall=request.recall, exact=request.exact)

    def _hits(
        self, found: Found, records: dict[int, R], k: int, left_out: LeftOut, generation: int, started: float
    ) -> Hits[R]:
        hits: list[Hit[R]] = []
        for vid, value in zip(found.vids.tolist(), found.scores.tolist(), strict=True):
            record = records.get(vid)
            if record is None:
                raise NotFound(f"{self._table.name}: vector {vid} has no live record; run: vectorstore check")
            if record.id in left_out or len(hits) == k:
                continue
            score, distance = as_score(value, self._metric)
            hits.append(Hit.plain(record, score, distance, len(hits)))
        elapsed = time.perf_counter() - started
        return Hits(tuple(hits), found.exact, found.recall, generation, elapsed, self._metric, found.plan)

    # -- through a ranked list -------------------------------------------------------------------------------------

    def _staged(
        self,
        connection: Connection,
        live: Live | None,
        query: Any,
        vector: Matrix | None,
        left_out: LeftOut,
        request: Request,
        started: float,
    ) -> Hits[R]:
        scene = Scene(
            connection,
            self._table,
            live,
            query,
            vector,
            self._metric,
            self._sync.catalog.clock(),
            grows=request.mode != "hybrid" or request.fusion.method != "rrf",
        )
        hidden = {row for row, _ in self._table.existing(connection, list(left_out)).values()}
        text = query.text if isinstance(query, WithVector) else query
        asked = None if request.mode == "vector" else text_query(connection, self._table, text, request.syntax)
        ranked, found, plan = self._certain(scene, request, asked, hidden)
        rows = [item.row for item in ranked]
        records = self._table.by_rows(connection, rows)
        shown: dict[int, str] = {}
        if asked is not None and request.snippets is not None:
            shown = passages(connection, self._table, asked, rows, request.snippets)
        generation = self._sync.catalog.seq(connection)
        hits = tuple(
            Hit(
                records[item.row],
                item.score,
                item.distance,
                rank,
                item.parts,
                item.former,
                item.sides,
                item.group,
                shown.get(item.row),
            )
            for rank, item in enumerate(ranked)
        )
        metric = {"vector": self._metric, "text": "bm25", "hybrid": "fusion"}[request.mode]
        if ranked and ranked[0].former is not None:
            metric = "rerank"
        exact, promised = (True, 1.0) if found is None else (found.exact, found.recall)
        return Hits(hits, exact, promised, generation, time.perf_counter() - started, metric, plan)

    def _certain(
        self, scene: Scene, request: Request, asked: TextQuery | None, hidden: set[int]
    ) -> tuple[list[Ranked], Found | None, Plan]:
        """The first k after all stages, from a list as deep as that needs."""
        wanted = [request.k]  # what each stage must give, and last what the first must be shown, from the end on
        for stage in reversed(request.stages):
            wanted.append(stage.depth(wanted[-1]))
        depth = wanted.pop()
        while True:
            ranked, found, plan = self._ranked(scene, request, asked, depth + len(hidden))
            complete = len(ranked) < depth + len(hidden)
            seen: list[Ranked] | None = [item for item in ranked if item.row not in hidden]
            for stage, count in zip(request.stages, reversed(wanted), strict=True):
                if seen is not None:
                    seen = stage.apply(scene, seen, count, complete)
            if seen is not None:
                return seen[: request.k * request.per_group], found, plan
            depth *= DEEPEN

    def _ranked(
        self, scene: Scene, request: Request, asked: TextQuery | None, depth: int
    ) -> tuple[list[Ranked], Found | None, Plan]:
        """The best `depth` rows by vector, text or both."""
        if asked is None:
            return self._near(scene, request, depth)
        if scene.vector is None:
            text = matches(scene.connection, scene.table, asked, request.node, depth)
            return text, None, Plan("text", f"BM25 by FTS5 ({asked.tokenizer}); {asked.meaning}", 0, len(text))
        return fused(
            scene,
            self._name,
            lambda deep: self._near(scene, request, deep)[:2],
            asked,
            request.fusion,
            request.node,
            depth,
        )

    def _near(self, scene: Scene, request: Request, depth: int) -> tuple[list[Ranked], Found, Plan]:
        """The best `depth` rows by vector."""
        assert scene.vector is not None  # only text mode has none
        allowed = self._allowed(scene.connection, scene.live, request.node)
        found = self._one(scene.connection, scene.live, scene.query, scene.vector, depth, allowed, request)
        of = records_of(scene.connection, found.vids.tolist())
        ranked = []
        for rank, (vid, value) in enumerate(zip(found.vids.tolist(), found.scores.tolist(), strict=True)):
            score, distance = as_score(value, self._metric)
            sides = {"vector": Side(rank, score)}
            ranked.append(Ranked(of[vid], vid, score, distance, {"vector": score}, sides=sides))
        return ranked, found, found.plan
