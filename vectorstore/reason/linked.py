"""Records between which there are edges, and the ways through these."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import ClassVar, TypeVar

from vectorstore.reason.graph import Graph
from vectorstore.reason.paths import Paths
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Record, Where

R = TypeVar("R", bound=Record)


class Linked(Reasoner[R]):
    """The verbs of a kind, and what its edges lead to."""

    edge_kind: ClassVar[str]
    """The kind of the edges."""

    @functools.cached_property
    def _graph(self) -> Graph[R]:
        return Graph(self._sync, self.name, self.edge_kind)

    def paths(
        self,
        source: str,
        target: str | None = None,
        depth: int = 4,
        *,
        type: str | Iterable[str] | None = None,
        where: Where | None = None,
        limit: int = 10_000,
    ) -> Paths:
        """The ways along edges from one record to another, or to any: no record comes twice in one.

        The shortest first; of one length those that begin with the stronger edges first, ties by the edges' ids.

        Args:
            source: where they begin.
            target: where they end; None for anywhere.
            depth: at most so many edges long.
            type: only edges of this type, or of one of these.
            where: a filter over the edges, such as {"weight__gte": 0.5}.
            limit: at most so many; `complete` of the answer says whether these are all.

        Raises:
            NotFound: no such record.

        Cost: see `Graph.paths`.
        """
        return self._graph.paths(source, target, depth, type=type, where=where, limit=limit)
