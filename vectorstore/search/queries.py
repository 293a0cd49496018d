"""Queries as vectors: texts, vectors, ids, records and query objects.

A query object derives from `Query` and says how its vector follows from others (`Recommend`, and analogies later); it
can be used wherever a query can.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from vectorstore.embedding import Embedding
from vectorstore.errors import DimensionError, NotFound, ValidationError
from vectorstore.records import Record
from vectorstore.storage import RecordTable, SpaceRow
from vectorstore.storage import spaces as rows
from vectorstore.sync import SnapshotMoved, Sync
from vectorstore.vectors import Matrix, as_matrix

R = TypeVar("R", bound=Record)
LeftOut = frozenset[str]
NOBODY: LeftOut = frozenset()


class Id(str):
    """An id used as a query: search for what is near to that record, leaving it out."""

    __slots__ = ()


class Query:
    """A query whose vector is made of others."""

    def resolve(self, queries: Queries, where: str) -> tuple[Matrix, LeftOut]:
        """((d,) float32 vector, ids that must not be in the answer).

        Args:
            queries: turns the parts into vectors.
            where: how messages name the query.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class WithVector(Query):
    """A text together with its vector, for those who embed by themselves: hybrid search has use for both.

    Attributes:
        text: what text and hybrid search look for.
        vector: (d,) of the space that is searched.
    """

    text: str
    vector: Any

    def __post_init__(self) -> None:
        """The text is one."""
        if not isinstance(self.text, str):
            raise ValidationError(f"WithVector.text: expected text, got {type(self.text).__name__}")

    def resolve(self, queries: Queries, where: str) -> tuple[Matrix, LeftOut]:
        """((d,) vector, nobody)."""
        return queries.one(np.asarray(self.vector), f"{where}.vector")


class Queries:
    """Turns what a caller may ask with into vectors of one space."""

    def __init__(self, sync: Sync, table: RecordTable[Any], embedding: Embedding, metric: str, space: str) -> None:
        self._sync = sync
        self._table = table
        self._embedding = embedding
        self.metric = metric
        self._name = space

    def _space(self) -> SpaceRow | None:
        with self._sync.catalog.read() as connection:
            return rows.space_by_name(connection, self._name)

    def one(self, query: Any, where: str = "") -> tuple[Matrix, LeftOut]:
        """((d,) vector, the ids to leave out) of a text, a vector, an Id, a record or a query object.

        Raises:
            ValidationError: an empty text, a bad vector. NotFound: no such id. EmbedderError: a text, and no embedder.
        """
        if isinstance(query, np.ndarray) and query.dtype == np.float32:
            # What nearly every search brings needs no look into the catalog; the rest gets the full check.
            dim = self._sync.state(self._name).dim
            if dim is not None and query.shape == (dim,) and 0 < float(np.dot(query, query)) < np.inf:
                return np.ascontiguousarray(query), NOBODY
        where = where or f"{self._table.name}.search: query"
        if isinstance(query, Query):
            return query.resolve(self, where)
        if isinstance(query, Id):
            return self.of_ids([str(query)])[0], frozenset((str(query),))
        if isinstance(query, Record):
            if query.id and (vector := self.stored([query.id]).get(query.id)) is not None:
                return vector, frozenset((query.id,))
            query = self._table.schema.text(query)
        space = self._space()
        if isinstance(query, str):
            if not query.strip():
                raise ValidationError(f"{where}: expected some text, got {query!r}")
            return self._embedding.query(space, [query])[0], NOBODY
        dim = None if space is None else space.dim
        matrix = as_matrix(query, where, dim=dim, metric=self.metric, row=0)
        if len(matrix) != 1:
            raise ValidationError(f"{where}: expected one vector, got {len(matrix)}; use search_many for several")
        return matrix[0], NOBODY

    def many(self, queries: Any) -> tuple[Matrix, list[LeftOut]]:
        """((q, d) vectors, the ids to leave out of each); texts are embedded together."""
        space = self._space()
        where = f"{self._table.name}.search_many: queries"
        if isinstance(queries, str):
            raise ValidationError(f"{where}: expected several queries, got one text; use search")
        if isinstance(queries, np.ndarray):
            dim = None if space is None else space.dim
            matrix = as_matrix(queries, where, dim=dim, metric=self.metric)
            return matrix, [NOBODY] * len(matrix)
        items = list(queries)
        texts = [place for place, item in enumerate(items) if isinstance(item, str) and not isinstance(item, Id)]
        vectors: list[Matrix | None] = [None] * len(items)
        left_out = [NOBODY] * len(items)
        if texts:
            empty = [place for place in texts if not items[place].strip()]
            if empty:
                raise ValidationError(f"{where}[{empty[0]}]: expected some text, got {items[empty[0]]!r}")
            for place, vector in zip(texts, self._embedding.query(space, [items[p] for p in texts]), strict=True):
                vectors[place] = vector
        for place, item in enumerate(items):
            if vectors[place] is None:
                vectors[place], left_out[place] = self.one(item, f"{where}[{place}]")
        stacked = [vector for vector in vectors if vector is not None]
        for place, vector in enumerate(stacked):  # only a space that is still empty takes any number of dimensions
            if len(vector) != len(stacked[0]):
                raise DimensionError(f"{where}[{place}]: expected {len(stacked[0])} dimensions, got {len(vector)}")
        return (np.stack(stacked) if stacked else np.empty((0, 0), np.float32)), left_out

    def of_ids(self, names: Sequence[str]) -> list[Matrix]:
        """The (d,) vectors of records, in order.

        Raises:
            NotFound: a record is not there, or has no vector.
        """
        known = self.stored(names)
        for name in names:
            if name not in known:
                raise NotFound(f"{self._table.name}: no record {name!r} with a vector to search from")
        return [known[name] for name in names]

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
