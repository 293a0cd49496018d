"""The graph that a kind of edges makes of a kind of records: walks over it, and paths through it.

One mechanism for all: WordNet's relations between concepts, causes between memories, topology between forms.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from vectorstore.errors import NotFound
from vectorstore.reason.paths import Paths, simple_paths
from vectorstore.records import Record, Where, parse
from vectorstore.records.where import And, Node, Term
from vectorstore.storage import Connection
from vectorstore.storage.edges import Direction, Edge, EdgeRow, rows_at, walk
from vectorstore.sync import Sync

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Reached(Generic[R]):
    """A record that edges lead to.

    Attributes:
        record: it.
        depth: how many edges away, at least 1.
        path: the edges that lead there, one of the shortest ways; each as it is stored, whichever way it was gone.
    """

    record: R
    depth: int
    path: tuple[Edge, ...]


class Graph(Generic[R]):
    """Records of one kind and the edges of another between them."""

    def __init__(self, sync: Sync, ends: str, edges: str) -> None:
        self._sync = sync
        self.ends = sync.table(ends)
        self.edges = sync.table(edges)

    def reading(self) -> AbstractContextManager[Connection]:
        """A snapshot, or the one that is being read."""
        return self._sync.catalog.read()

    def filter(self, type: str | Iterable[str] | None, where: Where | None) -> Node | None:
        """A filter over the edges: of one of the types, and matching."""
        schema = self.edges.schema
        node: Node | None = parse(where, schema)
        if type is None:
            return node
        term = Term(schema.by_name["type"], (), "in", tuple([type] if isinstance(type, str) else type))
        return term if node is None else And((term, node))

    def reached(
        self,
        id: str,
        type: str | Iterable[str] | None = None,
        direction: Direction = "out",
        depth: int | None = 1,
        *,
        where: Where | None = None,
        limit: int = 10_000,
    ) -> list[Reached[R]]:
        """The records that edges lead to, nearest first, each once, without the one itself; see `walk`.

        Raises:
            NotFound: no such record.
        """
        node = self.filter(type, where)
        with self._sync.catalog.read() as connection:
            self.known(connection, id)
            paths = walk(connection, self.edges, self.ends, id, node, direction, depth, limit)
            records = self.ends.by_ids(connection, list(paths))
        return [Reached(records[name][1], len(path), path) for name, path in paths.items()]

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
        """The simple paths from one record to another, or to any: no record comes twice in one.

        The shortest first; of one length those that begin with the stronger edges first, ties by the edges' ids.

        Args:
            source: where they begin.
            target: where they end; None for anywhere.
            depth: at most so many edges long.
            type: only edges of this type, or of one of these.
            where: a filter over the edges.
            limit: at most so many; `complete` of the answer says whether these are all.

        Raises:
            NotFound: no such record.

        Cost: reads the edges within half the depth of either end (within all of it without a target), then time and
        memory in proportion to the partial paths that can still end well, a block of them at a time.
        """
        node = self.filter(type, where)
        with self._sync.catalog.read() as connection:
            self.known(connection, source)
            if target is not None:
                self.known(connection, target)
            forward = depth if target is None else (depth + 1) // 2
            found = self._around(connection, source, node, forward, outgoing=True)
            if target is not None:
                found |= self._around(connection, target, node, depth // 2, outgoing=False)
        return simple_paths(list(found.values()), source, target, depth, limit)

    def _around(
        self, connection: Connection, start: str, node: Node | None, depth: int, *, outgoing: bool
    ) -> dict[str, EdgeRow]:
        """Id -> edge, of all edges that begin (or end) less than `depth` edges from a record."""
        seen, frontier, found = {start}, [start], dict[str, EdgeRow]()
        for _ in range(depth):
            if not frontier:
                break
            fresh = rows_at(connection, self.edges, self.ends, frontier, node, outgoing=outgoing)
            found.update((row[0], row) for row in fresh)
            far = {target for _, _, _, target, _ in fresh} if outgoing else {source for _, _, source, _, _ in fresh}
            frontier = list(far - seen)
            seen.update(frontier)
        return found

    def known(self, connection: Connection, id: str) -> None:
        """Raise for a record that is not there.

        Raises:
            NotFound: it is not.
        """
        found = self.ends.existing(connection, [id]).get(id)
        if found is None or found[1]:
            raise NotFound(f"{self.ends.name}: no record with id {id!r}")
