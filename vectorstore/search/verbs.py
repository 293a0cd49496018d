"""The verbs of a collection that search."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import numpy as np

from vectorstore.embedding import Embedding
from vectorstore.errors import NotFound
from vectorstore.records import Record, Where
from vectorstore.results import Hits, VectorInfo
from vectorstore.search.decay import Decay, as_decay
from vectorstore.search.mmr import diversity
from vectorstore.search.searcher import Mode, Request, Searcher
from vectorstore.search.stages import Stage
from vectorstore.storage import RecordTable
from vectorstore.storage import spaces as rows
from vectorstore.sync import Sync
from vectorstore.vectors import Matrix

R = TypeVar("R", bound=Record)


class SearchVerbs(Generic[R]):
    """What a collection answers: nearest records, vectors, and where they come from."""

    def __init__(self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str) -> None:
        self.kind = table.schema.kind
        self.name = table.name
        self.metric = metric
        self._sync = sync
        self._table = table
        self._embedding = embedding

    def search(
        self,
        query: Any,
        k: int = 10,
        where: Where | None = None,
        recall: float | None = None,
        exact: bool = False,
        mode: Mode = "vector",
        space: str | None = None,
        *,
        decay: Decay | None = None,
        mmr: float | None = None,
        pool: int | None = None,
    ) -> Hits[R]:
        """The k records nearest to the query, best first.

        Args:
            query: a text, a (d,) vector, an `Id`, or a record (which is left out of its own answer).
            k: at least 1; fewer come back only when fewer match.
            where: a filter, applied before the cut.
            recall: the share of the true best to deliver, 0..1; None for 0.99. The result says what was promised.
            exact: compare with every vector.
            mode: "vector", "text" (BM25 over the EMBEDDED fields) or "hybrid" (both, by reciprocal rank).
            space: which of the kind's vector spaces; None for the one of its texts.
            decay: let older records count for less; in vector and text mode equal to ranking all that match by it.
            mmr: 0..1, diverse answers by maximal marginal relevance: the weight of relevance, against being unlike what
                was chosen before. Hits keep their relevance as their score; their order is the order of choice.
            pool: with mmr, how many of the best to choose from; None for 10 k and at least 50. Time O(k pool d), memory
                8 bytes x pool x d.

        Raises:
            ValidationError: a bad argument. EmbedderError: a text, and no embedder. NotFound: no such id.
        """
        stages: list[Stage] = [] if decay is None else [as_decay(decay).stage(self._table.schema)]
        if mmr is not None or pool is not None:
            plain = mode == "vector" and not stages
            stages += diversity(mmr, pool, self.kind.space_name(space), plain)
        request = Request.checked(self._table, k, where, recall, exact, mode, stages)
        return self._searcher(space).search(query, request)

    def search_many(
        self,
        queries: Any,
        k: int = 10,
        where: Where | None = None,
        recall: float | None = None,
        exact: bool = False,
        space: str | None = None,
    ) -> list[Hits[R]]:
        """The same answers as `search` for each query, from one snapshot, with shared work and both cores."""
        request = Request.checked(self._table, k, where, recall, exact)
        return self._searcher(space).search_many(queries, request)

    def vectors(self, ids: Iterable[str], space: str | None = None) -> Matrix:
        """(n, d) float32 vectors of records, as they were given, in the order asked.

        Raises:
            NotFound: a record, or its vector, is not there.
        """
        wanted = list(ids)
        known = self._searcher(space).queries.stored(wanted)
        absent = [name for name in wanted if name not in known]
        if absent:
            raise NotFound(f"{self.name}: no record {absent[0]!r} with a vector")
        return np.stack([known[name] for name in wanted]) if wanted else np.empty((0, 0), np.float32)

    def vector_info(self, id: str, space: str | None = None) -> VectorInfo | None:
        """Where the record's vector comes from; None when it has none.

        Raises:
            NotFound: no such record.
        """
        with self._sync.catalog.read() as connection:
            found = self._table.existing(connection, [id]).get(id)
            if found is None or found[1]:
                raise NotFound(f"{self.name}: no record with id {id!r}")
            made = rows.space_by_name(connection, self.kind.space_name(space))
            row = None
            if made is not None:
                row = connection.execute(
                    "SELECT source, confidence, updates FROM vectors "
                    "WHERE record = ? AND space = ? AND retired IS NULL",
                    (found[0], made.id),
                ).fetchone()
        if made is None or row is None:
            return None
        model = None if made.model is None else str(json.loads(made.model)["model"])
        return VectorInfo(model, made.dim, made.metric, *row)

    def _searcher(self, space: str | None) -> Searcher[R]:
        return Searcher(self._sync, self._table, self._embedding, self.metric, self.kind.space_name(space))
