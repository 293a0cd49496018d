"""The records of a store as of one commit, page by page, in order of arrival, with the vectors that go with them.

A second thread that reads ahead gains nothing: SQLite lets go of the interpreter at every row, and two threads then
spend the time of the second on handing it over (measured: 0.9 of one thread's rate).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np

from vectorstore.errors import CorruptError
from vectorstore.records.where import Node
from vectorstore.storage import Connection, RecordTable, SpaceRow
from vectorstore.storage import spaces as rows
from vectorstore.storage.connection import Reading
from vectorstore.storage.exporting import Sealed, has_brought, highest_row, sealed_rows
from vectorstore.storage.spaces import VectorOrigin
from vectorstore.sync import SnapshotMoved, Sync
from vectorstore.vectors import Live, Matrix

PAGE = 512
"""Rows at a time: what is made of so many stays in the cache of a core; 2,048 take a tenth longer (measured)."""


@dataclass(frozen=True, eq=False)
class Held:
    """Vectors of some rows in one space: (n,) row numbers, (n, d) vectors, where each comes from."""

    numbers: Sequence[int]
    vectors: Matrix
    origins: Sequence[VectorOrigin]


def vectors_of_rows(
    connection: Connection, live: Live, space: SpaceRow, numbers: Sequence[int], *, brought: bool = False
) -> Held:
    """The vectors of record rows in a space, in the order of the rows; rows without one are left out.

    Args:
        connection: of a running read.
        live: the space as that read sees it.
        space: which one.
        numbers: of rows.
        brought: only vectors that a caller brought, none that were made from a text.

    Raises:
        CorruptError: a vector is in no file.

    Memory: one copy of the vectors.
    """
    found = rows.origins_of(connection, space.id, numbers)
    if brought:
        found = {number: origin for number, origin in found.items() if origin.text_hash is None}
    origins = list(found.values())
    wanted = np.array([origin.vid for origin in origins], dtype=np.int64)
    vids, vectors = live.vectors_of(np.sort(wanted))
    if len(vids) < len(wanted):
        raise CorruptError(f"{space.name}: a vector is in no file; run: vectorstore check; nothing was saved")
    if not np.array_equal(vids, wanted):
        order = np.argsort(vids)
        vectors = vectors[order[np.searchsorted(vids, wanted, sorter=order)]]
    return Held(list(found), vectors, origins)


class Snapshot:
    """A store as of one commit; leave it soon, for the WAL cannot be emptied meanwhile."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self._reading: Reading | None = None

    def __enter__(self) -> Self:
        while True:
            reading = self._sync.catalog.read()
            self.connection = reading.__enter__()
            try:
                self.spaces = rows.all_spaces(self.connection)
                states = [(space.name, self._sync.state(space.name)) for space in self.spaces]
                self._lives = {name: state.current(self.connection) for name, state in states}
                self.seq = self._sync.catalog.seq(self.connection)
                self.store: str = self.connection.execute("SELECT store FROM state").fetchone()[0]
            except BaseException as error:
                reading.__exit__(type(error), error, None)
                if not isinstance(error, SnapshotMoved):
                    raise
                continue
            self._reading = reading
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._reading is not None  # entered
        self._reading.__exit__(kind, error, trace)

    def pages(self, table: RecordTable[Any], node: Node | None = None, size: int = PAGE) -> Iterator[list[Sealed]]:
        """Rows as `sealed_rows` gives them, `size` row numbers at a time; no empty pages."""
        last = highest_row(self.connection, table)
        for first in range(1, last + 1, size):
            found = sealed_rows(self.connection, table, node, first, first + size - 1)
            if found:
                yield found

    def spaces_of(self, kind: str, *, brought: bool) -> list[SpaceRow]:
        """The spaces of a kind that have vectors, or vectors that a caller brought."""
        found = [space for space in self.spaces if space.kind == kind and self._lives[space.name] is not None]
        return [space for space in found if not brought or has_brought(self.connection, space.id)]

    def vectors(self, space: SpaceRow, numbers: Sequence[int], *, brought: bool = False) -> Held:
        """As `vectors_of_rows`."""
        live = self._lives[space.name]
        assert live is not None  # `spaces_of` gave it
        return vectors_of_rows(self.connection, live, space, numbers, brought=brought)


__all__ = ["Held", "Snapshot", "vectors_of_rows"]
