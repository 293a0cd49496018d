"""What an engine outside the store must be able to do.

It holds one row for each live vector of a space: its vid, which names that vector for ever, the vector, the record's
fields to filter by, and a mark, a digest of all of these. It proposes candidates by vid; what is true of them, and in
which order they are, the store decides from its own rows and vectors. So an engine that is wrong or behind can make an
answer incomplete until a check finds it, and can never make it name a wrong record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vectorstore.errors import EngineDown, ValidationError
from vectorstore.recipes import Point
from vectorstore.records import Value
from vectorstore.vectors import Matrix, Vids

__all__ = ["MAX_BYTES", "STAMP", "Caps", "EngineDown", "Field", "Rows", "VectorIndex", "marks_of"]

Field = tuple[str, str, bool]
"""(name, type, nullable) of a field to filter by; the types are the catalog's."""

STAMP = 0
"""The vid of the row that holds, as its mark, the token of the last batch; vids of vectors begin at 1."""

MAX_BYTES = 1024
"""A longer text is kept cut off, and its row passes every filter: the store decides."""


@dataclass(frozen=True)
class Caps:
    """What an engine can do.

    Attributes:
        most: at most so many candidates a query.
        named: at most so many vids in one filter.
        patience: seconds after which a call is given up; it can still arrive until then.
        points: search efforts worth measuring, cheapest first.
    """

    most: int
    named: int
    patience: float
    points: tuple[Point, ...]

    def allows(self, count: int) -> int:
        """The number of candidates, if it may be asked for.

        Raises:
            ValidationError: it is not in 1 .. most.
        """
        if not 1 <= count <= self.most:
            raise ValidationError(f"count: expected 1..{self.most}, got {count}", value=count)
        return count


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows on their way to an engine, or back from it.

    Engines disagree on what they make of a vid that comes twice and of a number that is none; here it is refused.

    Attributes:
        vids: (n,) each once.
        vectors: (n, d) float32, finite, of length one where the metric is cosine.
        marks: (n,) int64.
        values: n tuples, in the order of the engine's fields, in catalog form.

    Raises:
        ValidationError: they are not like that.
    """

    vids: Vids
    vectors: Matrix
    marks: Vids
    values: Sequence[tuple[Value, ...]]

    def __post_init__(self) -> None:
        count = len(self.vids)
        if self.vectors.ndim != 2 or not count == len(self.vectors) == len(self.marks) == len(self.values):
            raise ValidationError(
                f"rows: expected {count} vectors, marks and values each, got vectors of shape {self.vectors.shape}, "
                f"{len(self.marks)} marks and {len(self.values)} values"
            )
        if len(np.unique(self.vids)) != count or (count and self.vids.min() <= STAMP):
            raise ValidationError("rows: expected each vid once, above 0")
        finite = np.isfinite(self.vectors).all(axis=1)
        if not finite.all():
            raise ValidationError(f"rows: the vector of vid {self.vids[~finite][0]} is not finite")

    def fit(self, dim: int) -> None:
        """Raise ValidationError for vectors of another size."""
        if len(self.vids) and self.vectors.shape[1] != dim:
            raise ValidationError(f"rows: expected vectors of {dim} dimensions, got {self.vectors.shape[1]}")


class VectorIndex(Protocol):
    """One collection of an engine. Safe for threads; every call may raise EngineDown."""

    caps: Caps

    def make(self) -> None:
        """Make the collection, empty, if it is not there."""

    def exists(self) -> bool:
        """Whether it is there."""

    def drop(self) -> None:
        """Remove it with all that it holds; nothing to do when it is not there."""

    def add(self, rows: Rows, stamp: int) -> int:
        """Insert or replace rows, then the stamp; durable on return.

        Returns:
            The engine's time: a search with `since` of at least that sees them.

        Raises:
            ValidationError: vectors of another size than the collection's.
        """

    def remove(self, vids: Sequence[int]) -> int:
        """Take rows away, those that are not there too; durable on return. Returns the engine's time."""

    def search(
        self, queries: Matrix, count: int, effort: Point, where: str | None = None, since: int = 0
    ) -> list[Vids]:
        """Up to `count` vids for each prepared query (q, d), nearest first.

        Args:
            queries: (q, d) float32.
            count: 1 .. caps.most.
            effort: of one of caps.points.
            where: an expression of `expressions.expression` or `named`; None for all rows.
            since: see what was written until that engine's time, waiting for it if need be.

        Raises:
            ValidationError: of a count that is not in 1 .. caps.most.
        """

    def count(self, where: str | None = None, since: int | None = None) -> int:
        """How many rows there are now, the stamp left out; exact.

        With `since` as a search sees them that waits for that time, which costs a few milliseconds.
        """

    def versions(self, low: int, high: int) -> dict[int, int]:
        """Vid -> mark of all rows with low <= vid < high, as of now."""

    def snapshot(self, low: int, high: int) -> Rows:
        """The rows with low <= vid < high as it would give them back now, by ascending vid: vectors and all.

        A text that is longer than MAX_BYTES comes cut off. The marks are what was sent, whatever became of the rest.
        """

    def persist(self) -> None:
        """Bring what was acknowledged to where it stays, out of logs and buffers that would otherwise be replayed."""

    def settle(self, timeout: float) -> None:
        """Bring what was written into its final, fastest form, as far as that is done within `timeout` seconds."""

    def close(self) -> None:
        """Let go of connections."""


def marks_of(vids: Sequence[int], vectors: Matrix, values: Sequence[tuple[Value, ...]]) -> Vids:
    """(n,) int64 marks: the first 63 bits of a BLAKE2b digest of vid, vector and field values.

    Args:
        vids: (n,).
        vectors: (n, d) float32 as they are sent.
        values: n tuples in catalog form.

    Cost: about 3 microseconds a row.
    """
    data = np.ascontiguousarray(vectors, dtype="<f4")
    out: npt.NDArray[np.int64] = np.empty(len(vids), dtype=np.int64)
    for place, (vid, row, fields) in enumerate(zip(vids, data, values, strict=True)):
        told = hashlib.blake2b(row.data, digest_size=8)
        told.update(json.dumps([int(vid), *fields]).encode())
        out[place] = int.from_bytes(told.digest(), "little") >> 1
    return out
