"""Search over one kind: a query becomes hits, in one read snapshot.

Three modes: "vector" (the space's metric), "text" (FTS5 with BM25) and "hybrid" (reciprocal rank fusion of both,
Cormack et al. 2009, constant 60). Filters apply before the cut in every mode, so a result is never short.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from vectorstore.embedding import Embedding
from vectorstore.errors import NotFound, ValidationError
from vectorstore.records import Record, Where, parse
from vectorstore.records.where import Node
from vectorstore.results import Hit, Hits, Plan
from vectorstore.storage import Connection, RecordTable, SpaceRow
from vectorstore.storage import spaces as rows
from vectorstore.sync import SnapshotMoved, Sync
from vectorstore.vectors import Allowed, Found, Live, Matrix, as_matrix

R = TypeVar("R", bound=Record)
Mode = Literal["vector", "text", "hybrid"]
RECALL = 0.99
FUSION = 60
FUSION_DEPTH = 100
MAX_K = 100_000
_WORD = re.compile(r"\w+")


class Id(str):
    """An id used as a query: search for what is near to that record, leaving it out."""

    __slots__ = ()


class Searcher(Generic[R]):
    """Search over the records of one kind."""

    def __init__(self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str, space: str) -> None:
        self._sync = sync
        self._table = table
        self._embedding = embedding
        self._metric = metric
        self._name = space

    def search(self, query: Any, k: int, where: Where | None, recall: float | None, exact: bool, mode: Mode) -> Hits[R]:
        """One query; see `Collection.search`."""
        started = time.perf_counter()
        wanted, node = self._arguments(k, where, recall, mode)
        if mode != "vector":
            return self._with_text(query, k, node, wanted, exact, mode, started)
        vector, itself = self._vector(query)
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    live = self._sync.state(self._name).current(connection)
                except SnapshotMoved:
                    continue
                allowed = self._allowed(connection, live, node)
                found = self._one(live, vector, k + (itself is not None), allowed, wanted, exact)
                generation = self._sync.catalog.seq(connection) if live is None else live.seq
                records = self._table.by_vids(connection, found.vids.tolist()) if len(found.vids) else {}
            return self._hits(found, records, k, itself, generation, started)

    def search_many(
        self, queries: Any, k: int, where: Where | None, recall: float | None, exact: bool
    ) -> list[Hits[R]]:
        """Several queries at once; see `Collection.search_many`."""
        started = time.perf_counter()
        wanted, node = self._arguments(k, where, recall, "vector")
        vectors, itself = self._vectors(queries)
        if not len(vectors):
            return []
        more = any(name is not None for name in itself)
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    live = self._sync.state(self._name).current(connection)
                except SnapshotMoved:
                    continue
                allowed = self._allowed(connection, live, node)
                if live is None:
                    found = [self._one(None, vector, k, None, wanted, exact) for vector in vectors]
                else:
                    found = live.search_many(vectors, k + more, allowed=allowed, recall=wanted, exact=exact)
                generation = self._sync.catalog.seq(connection)
                vids = sorted({int(vid) for answer in found for vid in answer.vids})
                records: dict[int, R] = {}
                for start in range(0, len(vids), 5000):
                    records.update(self._table.by_vids(connection, vids[start : start + 5000]))
            return [
                self._hits(answer, records, k, name, generation, started)
                for answer, name in zip(found, itself, strict=True)
            ]

    # -- queries ---------------------------------------------------------------------------------------------------

    def _arguments(self, k: int, where: Where | None, recall: float | None, mode: str) -> tuple[float, Node | None]:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_K:
            raise ValidationError(f"k: expected a whole number in 1..{MAX_K}, got {k!r}")
        if recall is not None and (
            isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 <= recall <= 1
        ):
            raise ValidationError(f"recall: expected 0..1, got {recall!r}")
        if mode not in ("vector", "text", "hybrid"):
            raise ValidationError(f"mode: expected vector, text or hybrid, got {mode!r}")
        return RECALL if recall is None else float(recall), parse(where, self._table.schema)

    def _space(self) -> SpaceRow | None:
        with self._sync.catalog.read() as connection:
            return rows.space_by_name(connection, self._name)

    def _vector(self, query: Any) -> tuple[Matrix, str | None]:
        """((d,) vector, the id to leave out) of a text, a vector, an Id or a record."""
        if isinstance(query, np.ndarray) and query.dtype == np.float32:
            # What nearly every search brings needs no look into the catalog; the rest gets the full check.
            dim = self._sync.state(self._name).dim
            if dim is not None and query.shape == (dim,) and 0 < float(np.dot(query, query)) < np.inf:
                return np.ascontiguousarray(query), None
        if isinstance(query, Id):
            return self._wanted(str(query)), str(query)
        if isinstance(query, Record):
            if query.id and (vector := self.stored([query.id]).get(query.id)) is not None:
                return vector, query.id
            query = self._table.schema.text(query)  # type: ignore[arg-type]
        where = f"{self._table.name}.search: query"
        space = self._space()
        if isinstance(query, str):
            if not query.strip():
                raise ValidationError(f"{where}: expected some text, got {query!r}")
            return self._embedding.query(space, [query])[0], None
        dim = None if space is None else space.dim
        matrix = as_matrix(query, where, dim=dim, metric=self._metric, row=0)
        if len(matrix) != 1:
            raise ValidationError(f"{where}: expected one vector, got {len(matrix)}; use search_many for several")
        return matrix[0], None

    def _vectors(self, queries: Any) -> tuple[Matrix, list[str | None]]:
        space = self._space()
        where = f"{self._table.name}.search_many: queries"
        if isinstance(queries, str):
            raise ValidationError(f"{where}: expected several queries, got one text; use search")
        if isinstance(queries, np.ndarray):
            dim = None if space is None else space.dim
            matrix = as_matrix(queries, where, dim=dim, metric=self._metric)
            return matrix, [None] * len(matrix)
        items = list(queries)
        texts = [place for place, item in enumerate(items) if isinstance(item, str) and not isinstance(item, Id)]
        vectors: list[Matrix | None] = [None] * len(items)
        itself: list[str | None] = [None] * len(items)
        if texts:
            empty = [place for place in texts if not items[place].strip()]
            if empty:
                raise ValidationError(f"{where}[{empty[0]}]: expected some text, got {items[empty[0]]!r}")
            for place, vector in zip(texts, self._embedding.query(space, [items[p] for p in texts]), strict=True):
                vectors[place] = vector
        for place, item in enumerate(items):
            if vectors[place] is None:
                vectors[place], itself[place] = self._vector(item)
        stacked = [vector for vector in vectors if vector is not None]
        return (np.stack(stacked) if stacked else np.empty((0, 0), np.float32)), itself

    def stored(self, names: Sequence[str]) -> dict[str, Matrix]:
        """Id -> (d,) vector, for those that are live and have one."""
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    live = self._sync.state(self._name).current(connection)
                except SnapshotMoved:
                    continue
                space = rows.space_by_name(connection, self._name)
                if live is None or space is None:
                    return {}
                found = self._table.existing(connection, names)
                of_row = {row: name for name, (row, deleted) in found.items() if not deleted}
                vectors = rows.live_vectors(connection, space.id, list(of_row))
            of_vid = {vid: of_row[row] for row, (vid, _, _) in vectors.items()}
            vids, matrix = live.vectors_of(np.array(sorted(of_vid), dtype=np.int64))
            return {of_vid[vid]: vector for vid, vector in zip(vids.tolist(), matrix, strict=True)}

    def _wanted(self, name: str) -> Matrix:
        vector = self.stored([name]).get(name)
        if vector is None:
            raise NotFound(f"{self._table.name}: no record {name!r} with a vector to search from")
        return vector

    # -- answers ---------------------------------------------------------------------------------------------------

    def _allowed(self, connection: Connection, live: Live | None, node: Node | None) -> Allowed | None:
        if node is None or live is None:
            return None
        return self._sync.state(self._name).allowed(connection, live, self._table, node)

    def _one(
        self, live: Live | None, vector: Matrix, k: int, allowed: Allowed | None, recall: float, exact: bool
    ) -> Found:
        if live is None:
            plan = Plan("empty", "no vectors yet", 0)
            return Found(np.empty(0, np.int64), np.empty(0), True, 1.0, plan)
        return live.search(vector, k, allowed=allowed, recall=recall, exact=exact)

    def _hits(
        self, found: Found, records: dict[int, R], k: int, itself: str | None, generation: int, started: float
    ) -> Hits[R]:
        hits: list[Hit[R]] = []
        for vid, value in zip(found.vids.tolist(), found.scores.tolist(), strict=True):
            record = records.get(vid)
            if record is None:
                raise NotFound(f"{self._table.name}: vector {vid} has no live record; run: vectorstore check")
            if record.id == itself or len(hits) == k:
                continue
            score, distance = _score(value, self._metric)
            hits.append(Hit(record, score, distance, len(hits), {"vector": score}))
        elapsed = time.perf_counter() - started
        return Hits(tuple(hits), found.exact, found.recall, generation, elapsed, self._metric, found.plan)

    def _with_text(
        self, query: Any, k: int, node: Node | None, recall: float, exact: bool, mode: Mode, started: float
    ) -> Hits[R]:
        if not isinstance(query, str) or isinstance(query, Id):
            raise ValidationError(f"{self._table.name}.search: mode={mode!r} needs a text, got {type(query).__name__}")
        if not self._table.schema.text_columns:
            raise ValidationError(f"{self._table.name}: has no EMBEDDED text fields to search")
        vector = None
        if mode == "hybrid":
            vector, _ = self._vector(query)
        depth = k if mode == "text" else max(k, FUSION_DEPTH)
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    live = self._sync.state(self._name).current(connection)
                except SnapshotMoved:
                    continue
                matches = self._match(connection, query, node, depth)
                generation = self._sync.catalog.seq(connection)
                if vector is None:
                    scores = [(row, score, {"text": score}) for row, score in matches]
                    plan = Plan("text", "FTS5 with BM25", 0, len(matches))
                    recall_promised, is_exact, metric = 1.0, True, "bm25"
                else:
                    allowed = self._allowed(connection, live, node)
                    found = self._one(live, vector, depth, allowed, recall, exact)
                    near = self._rows_of(connection, found.vids.tolist())
                    scores = _fuse(near, [row for row, _ in matches])
                    reason = f"reciprocal ranks of {len(near)} vector and {len(matches)} text hits; {found.plan.reason}"
                    plan = Plan("hybrid", reason, found.plan.scanned, found.plan.candidates, found.plan.matching)
                    recall_promised, is_exact, metric = found.recall, found.exact, "fusion"
                records = self._table.by_rows(connection, [row for row, _, _ in scores[:k]])
            hits = tuple(
                Hit(records[row], score, None, rank, parts) for rank, (row, score, parts) in enumerate(scores[:k])
            )
            return Hits(hits, is_exact, recall_promised, generation, time.perf_counter() - started, metric, plan)

    def _match(self, connection: Connection, text: str, node: Node | None, limit: int) -> list[tuple[int, float]]:
        """Best BM25 matches of any word; each word is quoted, so no text is FTS5 syntax."""
        words = list(dict.fromkeys(_WORD.findall(text)))[:64]
        if not words:
            return []
        return self._table.text_matches(connection, " OR ".join(f'"{word}"' for word in words), node, limit)

    def _rows_of(self, connection: Connection, vids: Sequence[int]) -> list[int]:
        marks = ",".join("?" * len(vids))
        found = dict(connection.execute(f"SELECT vid, record FROM vectors WHERE vid IN ({marks})", vids).fetchall())
        return [found[vid] for vid in vids]


def _score(value: float, metric: str) -> tuple[float, float]:
    """(score, distance) from the similarity of `exact.final_scores`."""
    if metric == "cosine":
        return value, 1.0 - value
    if metric == "ip":
        return value, -value
    return 1.0 / (1.0 - value), -value


def _fuse(near: Sequence[int], text: Sequence[int]) -> list[tuple[int, float, dict[str, float]]]:
    parts: dict[int, dict[str, float]] = {}
    for source, ranked in (("vector", near), ("text", text)):
        for rank, row in enumerate(ranked, 1):
            parts.setdefault(row, {})[source] = 1.0 / (FUSION + rank)
    fused = [(row, sum(found.values()), found) for row, found in parts.items()]
    return sorted(fused, key=lambda item: (-item[1], item[0]))
