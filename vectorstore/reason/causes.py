"""Causes: weighted edges between memories, and what becomes of one that is observed again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import CausalEdge
from vectorstore.storage.ordered import first_records


class Causes(Reasoner[CausalEdge]):
    """What led to what.

    An edge that is there already (the same type, source and target in the same context) is refused by `add`, replaced
    by `upsert`, and taken together with the new observation by `merge`.
    """

    def merge(
        self, edges: CausalEdge | Mapping[str, Any] | Iterable[CausalEdge | Mapping[str, Any]]
    ) -> list[CausalEdge]:
        """Add observations: of those of one edge, old and new, the weighted mean of the weights by their samples.

        Args:
            edges: one or many. Of the text, tags and extra of one edge the last that is not empty stays.

        Returns:
            The edges as they are now, each once, in order of first mention.

        Raises:
            ValidationError: a weight that is not finite, a memory that is not there; nothing was written.
        """
        items = [edges] if isinstance(edges, CausalEdge | Mapping) else list(edges)
        given = [
            item if isinstance(item, CausalEdge) else CausalEdge.parse(item, f"{self.name}[{place}]")
            for place, item in enumerate(items)
        ]
        with self._sync.catalog.write():
            named = [(edge.id or edge.derived_id(), edge) for edge in given]
            order = dict.fromkeys(id for id, _ in named)
            merged: dict[str, CausalEdge] = {edge.id: edge for edge in self.get_many(list(order))}
            for id, edge in named:
                merged[id] = _together(merged[id], edge) if id in merged else edge.model_copy(update={"id": id})
            self.upsert([merged[id] for id in order])
            return self.get_many(list(order), missing="raise")

    def leaving(self, memory: str, limit: int = 1000) -> list[CausalEdge]:
        """The edges from a memory, the strongest first, ties by id; none for a memory that is not there."""
        return self._at("source", memory, limit)

    def reaching(self, memory: str, limit: int = 1000) -> list[CausalEdge]:
        """The edges to a memory, the strongest first, ties by id; none for a memory that is not there."""
        return self._at("target", memory, limit)

    def _at(self, end: str, memory: str, limit: int) -> list[CausalEdge]:
        node = self._parse({end: memory})
        with self._sync.catalog.read() as connection:
            return first_records(connection, self._table, node, ("-weight", "id"), limit)


def _together(old: CausalEdge, new: CausalEdge) -> CausalEdge:
    """Two observations of one edge as one."""
    samples = old.samples + new.samples
    # Not (a m + b n) / (m + n), which overflows for weights near the end of the range.
    weight = old.weight * (old.samples / samples) + new.weight * (new.samples / samples)
    kept = {name: getattr(new, name) or getattr(old, name) for name in ("description", "tags")}
    return old.model_copy(update={"weight": weight, "samples": samples, "extra": {**old.extra, **new.extra}, **kept})
