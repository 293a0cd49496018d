"""Concepts: their senses, how they are looked up, and what they are related to."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from vectorstore.ids import fold
from vectorstore.reason.associating import Association, Spread, associated
from vectorstore.reason.linked import Linked
from vectorstore.reason.named import Named
from vectorstore.records import Concept, Relation, Where
from vectorstore.records.where import Node
from vectorstore.results import Hits
from vectorstore.search.searcher import Request
from vectorstore.storage import Connection
from vectorstore.storage.edges import Direction, Edge

By = Literal["exact", "pattern", "text", "similar"]
_WILD = frozenset("*?[")


@dataclass(frozen=True)
class Related:
    """A concept that relations lead to.

    Attributes:
        concept: it.
        depth: how many relations away, at least 1.
        path: the relations that lead there, one of the shortest ways; each as it is stored, whichever way it was gone.
    """

    concept: Concept
    depth: int
    path: tuple[Edge, ...]


class Concepts(Named[Concept], Linked[Concept]):
    """Things one can think of, each in one sense. `vs.Words(store.concepts)` asks them with gensim's words."""

    edge_kind = Relation.table

    def senses(self, name: str, context: str | None = None) -> list[Concept]:
        """All concepts that a name stands for: those called so, then those with such a lemma.

        Args:
            name: compared in folded form.
            context: None for all contexts, in order of arrival. Else what can be seen from there: its own senses first,
                then those of what it inherits from that it lacks (by name and synset, or disambiguation).
        """
        return self._called(name, context)

    def disambiguate(self, name: str, hint: str, context: str | None = None) -> Hits[Concept]:
        """The senses of a name, the one nearest to the hint first, by their vectors.

        Raises:
            EmbedderError: there is no embedder for the hint.
        """
        ids = [concept.id for concept in self.senses(name, context)]
        return self.search(hint, k=max(1, len(ids)), where={"id__in": ids}, exact=True)

    def lookup(self, text: str, by: By = "exact", context: str | None = None, limit: int = 10) -> list[Concept]:
        """Concepts by their name, or by what they mean.

        Args:
            text: a name, a part of one, or words.
            by: "exact": the senses of that name. "pattern": names that contain the text, or match it if it has `*`, `?`
                or `[...]` in it; in order of name. "text": full text, best first. "similar": nearest vectors first.
            context: None for all, else this one and what it inherits from.
            limit: at most so many.
        """
        if by == "exact":
            return self.senses(text, context)[:limit]
        where: Where | None = None if context is None else {"context__in": self._chain(context)}
        if by == "pattern":
            named = {"name__glob" if _WILD & set(text) else "name__contains": text}
            return list(self.find({**named, **(where or {})}, order="name", limit=limit))
        return [
            hit.record for hit in self.search(text, k=limit, where=where, mode="text" if by == "text" else "vector")
        ]

    def related(
        self,
        id: str,
        type: str | Iterable[str] | None = None,
        direction: Direction = "out",
        depth: int | None = 1,
        *,
        where: Where | None = None,
        limit: int = 10_000,
    ) -> list[Related]:
        """The concepts that relations lead to, nearest first, each once, without the one itself.

        `related(id, "hypernym", depth=None)` are all its hypernyms.

        Args:
            id: where to begin.
            type: only relations of this type, or of one of these.
            direction: along the relations ("out"), against them ("in"), or either way.
            depth: at most so many relations away; None for as far as they lead. Cycles do no harm.
            where: a filter over the relations, such as {"confidence__gte": 0.8}.
            limit: at most so many concepts.

        Raises:
            NotFound: no such concept.

        Cost: one query a step of depth and direction; no concept is visited twice.
        """
        found = self._graph.reached(id, type, direction, depth, where=where, limit=limit)
        return [Related(each.record, each.depth, each.path) for each in found]

    def associate(
        self,
        query: Any,
        k: int = 10,
        *,
        spread: Spread | None = None,
        where: Where | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> list[Association[Concept]]:
        """The concepts nearest to a query, and what relations lead to from them, in one scored list; see `Spread`.

        A relation counts by its confidence.

        Args:
            query: as in `search`; so are `recall` and `exact`.
            k: how many of all.
            spread: how far and how much; None for the defaults.
            where: a filter over what is found; neighbours may be any.
        """
        request = Request.checked(self._table, k, where, recall, exact)
        searcher = self._searcher(None)
        vector, left_out = searcher.queries.one(query)

        def answer(connection: Connection, most: int, node: Node | None, exactly: bool) -> Hits[Concept]:
            asked = replace(request, k=most, node=node, exact=exactly)
            return searcher.answer(connection, query, vector, left_out, asked, time.perf_counter())

        return associated(self._graph, answer, request.node, exact, spread or Spread(), k, left_out)

    def _name_filters(self, name: str) -> list[Where]:
        return [{"name": name}, {"lemmas__has": name}]

    def _hides(self, record: Concept) -> Hashable:
        return fold(record.name), fold(record.synset or record.disambiguation or "")
