"""Concepts: their senses, how they are looked up, and what they are related to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Literal

from vectorstore.errors import NotFound
from vectorstore.ids import fold
from vectorstore.reason.named import Named
from vectorstore.records import Concept, Relation, Where, parse
from vectorstore.records.where import And, Node, Term
from vectorstore.results import Hits
from vectorstore.storage.edges import Edge, edges_at

By = Literal["exact", "pattern", "text", "similar"]
Direction = Literal["out", "in", "both"]
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


class Concepts(Named[Concept]):
    """Things one can think of, each in one sense. `vs.Words(store.concepts)` asks them with gensim's words."""

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
        node = self._edge_filter(type, where)
        edges = self._sync.table(Relation.table)
        with self._sync.catalog.read() as connection:
            if id not in self._table.by_ids(connection, [id]):
                raise NotFound(f"{self.name}: no record with id {id!r}")
            paths: dict[str, tuple[Edge, ...]] = {id: ()}
            frontier, reached = [id], 0
            while frontier and len(paths) <= limit and (depth is None or reached < depth):
                reached += 1
                steps: list[str] = []
                for outgoing in [way for way in (True, False) if direction in ("both", "out" if way else "in")]:
                    for edge in edges_at(connection, edges, self._table, frontier, node, outgoing=outgoing):
                        near, far = (edge.source, edge.target) if outgoing else (edge.target, edge.source)
                        if far not in paths:
                            paths[far] = (*paths[near], edge)
                            steps.append(far)
                frontier = steps
            ids = list(paths)[1 : limit + 1]
            records = self._table.by_ids(connection, ids)
        return [Related(records[name][1], len(paths[name]), paths[name]) for name in ids]

    def _edge_filter(self, type: str | Iterable[str] | None, where: Where | None) -> Node | None:
        schema = self._sync.table(Relation.table).schema
        node: Node | None = parse(where, schema)
        if type is None:
            return node
        term = Term(schema.by_name["type"], (), "in", tuple([type] if isinstance(type, str) else type))
        return term if node is None else And((term, node))

    def _name_filters(self, name: str) -> list[Where]:
        return [{"name": name}, {"lemmas__has": name}]

    def _hides(self, record: Concept) -> Hashable:
        return fold(record.name), fold(record.synset or record.disambiguation or "")
