"""The verbs of a collection that search."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import numpy as np

from vectorstore.embedding import Embedding
from vectorstore.errors import NotFound, ValidationError
from vectorstore.records import Record, Where, parse
from vectorstore.results import Hit, Hits, VectorInfo
from vectorstore.search.across import outside_of
from vectorstore.search.centring import center_column
from vectorstore.search.decay import Decay, as_decay
from vectorstore.search.duplicates import Pair, alike
from vectorstore.search.facets import facets
from vectorstore.search.fusion import Fusion, as_fusion
from vectorstore.search.groups import grouping
from vectorstore.search.mmr import diversity
from vectorstore.search.ranges import checked_score, within
from vectorstore.search.rerank import Reranker, reranking
from vectorstore.search.searcher import Mode, Request, Searcher
from vectorstore.search.snippets import Snippets, as_snippets
from vectorstore.search.stages import Stage
from vectorstore.search.text import Syntax
from vectorstore.storage import RecordTable
from vectorstore.storage import spaces as rows
from vectorstore.sync import Progress, Sync
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
        self._searchers: dict[str | None, Searcher[R]] = {}

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
        outside: Where | str | None = None,
        center: str | None = None,
        decay: Decay | None = None,
        rerank: Reranker | None = None,
        rerank_depth: int = 50,
        mmr: float | None = None,
        pool: int | None = None,
        syntax: Syntax = "words",
        fusion: Fusion | str | None = None,
        snippets: Snippets | bool = False,
        group_by: str | None = None,
        group_size: int = 1,
    ) -> Hits[R]:
        """The k records nearest to the query, best first.

        Args:
            query: a text, a (d,) vector, an `Id`, or a record (which is left out of its own answer).
            k: at least 1; fewer come back only when fewer match.
            where: a filter, applied before the cut.
            recall: the share of the true best to deliver, 0..1; None for 0.99. The result says what was promised.
            exact: compare with every vector.
            mode: "vector", "text" (BM25 over the EMBEDDED fields) or "hybrid" (both, fused).
            space: which of the kind's vector spaces; None for the one of its texts.
            outside: only records that this filter does not match, those without a value too: {"domain": "physics"}. For
                a record or `Id` as the query a field's name means: outside of the query's own value.
            center: a field such as "domain": cosines after the mean vector of each record's own domain was taken off
                it, and that of the query's domain (of all, if it is no record with a domain) off the query. Exact.
            decay: let older records count for less; in vector and text mode equal to ranking all that match by it.
            rerank: puts the best into its own order: a function (query, records) -> one number a record, bigger is
                better, or a `CrossEncoder`. `hit.score` is its number, `hit.former` what was before.
            rerank_depth: how many of the best it is shown, at least k.
            mmr: 0..1, diverse answers by maximal marginal relevance: the weight of relevance, against being unlike what
                was chosen before. Hits keep their relevance as their score; their order is the order of choice.
            pool: with mmr, how many of the best to choose from; None for 10 k and at least 50. Time O(k pool d), memory
                8 bytes x pool x d.
            syntax: how a text is read: "words" (any of them; of many the 64 rarest), "all" of them, as one "phrase", or
                as a "query" in a small language: `king -chess`, `"round table" OR mon*`, `name:(king OR queen)`.
            fusion: of hybrid search: "weighted" (None), "rrf" or a `Fusion`. `hit.parts` sum to the score.
            snippets: give each hit the passage that matched the text, as HTML with <mark>, or as `Snippets` say.
            group_by: a field (or extra.<key>): k counts its values, and of each come the best records, together.
            group_size: how many records of each group.

        Raises:
            ValidationError: a bad argument. EmbedderError: a text, and no embedder. NotFound: no such id.
        """
        where = outside_of(self._sync, self._table, query, where, outside)
        centred = None if center is None else center_column(self._table.schema, center, self.metric, mode)
        if centred is not None and mmr is not None:
            raise ValidationError("center: not together with mmr, which compares records as they are")
        stages: list[Stage] = [] if decay is None else [as_decay(decay).stage(self._table.schema)]
        if rerank is not None:
            stages.append(reranking(rerank, rerank_depth))
        if mmr is not None or pool is not None:
            plain = mode == "vector" and not stages
            stages += diversity(mmr, pool, self.kind.space_name(space), plain)
        if group_by is not None or group_size != 1:
            stages.append(grouping(self._table.schema, group_by, group_size, rerank is not None))
        how = None if fusion is None else as_fusion(fusion)
        request = Request.checked(
            self._table, k, where, recall, exact, mode, stages, syntax, how, as_snippets(snippets), group_size, centred
        )
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

    def facets(
        self,
        field: str,
        where: Where | None = None,
        query: str | None = None,
        limit: int | None = None,
        *,
        syntax: Syntax = "words",
    ) -> dict[Any, int]:
        """Value -> how many live records have it, the most frequent first; equal to SQL's GROUP BY.

        Args:
            field: any field, or `extra.<key>`. Lists (tags) count by element; None stands for no value.
            where: a filter.
            query: a text that the records must match, read by `syntax` as in `search`.
            limit: only so many values.

        Raises:
            ValidationError: no such field, or a bad argument.
        """
        return facets(self._sync, self._table, field, where, query, limit, syntax)

    def search_range(
        self, query: Any, min_score: float, where: Where | None = None, *, space: str | None = None
    ) -> Iterator[Hit[R]]:
        """All records that score at least so much, best first; equal to brute force, ties by age.

        The vectors are compared when the first hit is taken, in the snapshot of that moment. Records are read as they
        are taken, 500 at a time, and no lock is held between; those that were deleted or got another vector meanwhile
        are left out.

        Args:
            query: as in `search`.
            min_score: on the scale of `Hit.score`; reaching it is enough.
            where: a filter.
            space: which of the kind's vector spaces; None for the one of its texts.

        Raises:
            ValidationError, EmbedderError, NotFound: as in `search`, when this is called.

        Cost: compares every vector; 16 bytes a hit stay in memory.
        """
        score, node = checked_score(min_score, "min_score"), parse(where, self._table.schema)
        vector, left_out = self._searcher(space).queries.one(query, f"{self.name}.search_range: query")
        return within(self._sync, self._table, self.kind.space_name(space), vector, left_out, score, node)

    def duplicates(
        self,
        threshold: float = 0.95,
        where: Where | None = None,
        *,
        space: str | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Pair[R]]:
        """All pairs of records that are nearly the same, each once; equal to brute force.

        Pairs come by the age of their older vector, then the most alike first, ties by the age of the other. Snapshot
        and records as in `search_range`.

        Args:
            threshold: the score of one record for the other from which on they are a pair, on the scale of `Hit.score`.
            where: a filter that both must match.
            space: which of the kind's vector spaces; None for the one of its texts.
            progress: told (vectors compared with all later ones, vectors) as pairs are taken from the iterator.

        Raises:
            ValidationError: a bad argument, when this is called.

        Cost: compares n * n / 2 pairs by matrix products, in under 100 MB beside the vectors however many are found.
        """
        score, node = checked_score(threshold, "threshold"), parse(where, self._table.schema)
        told = progress or (lambda done, total: None)
        return alike(self._sync, self._table, self.kind.space_name(space), score, node, told)

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
        found = self._searchers.get(space)
        if found is None:
            name = self.kind.space_name(space)
            found = Searcher(self._sync, self._table, self._embedding, self.metric, name)
            self._searchers[space] = found
        return found
