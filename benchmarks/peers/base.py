"""What a measured system has to do. Nothing here but numpy: a measuring process imports one system and no other."""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Effort = Mapping[str, Any]
"""How hard to search: the parameters that a system offers for it, by its own names; {} is its defaults."""

Record = tuple[str, str, str, str, int]
"""id, text, domain, part of speech, bucket."""

Answer = list[Any]
"""Nearest first: a `Record` each from a store, a row number each from an index library."""

K = 10
BUCKETS = {"10": 1, "1": 2, "0.1": 3}
"""Per cent of the rows to the value of `bucket` that they have; all others have 0."""

RECORDS, COLUMNS, BARE = "records", "columns", "columns, no index"
"""What is brought in, and whether an index is built. Columns are an Arrow table, ready in memory."""

BOTH_CORES = 2


@dataclass(frozen=True)
class Rows:
    """The records by column, and their vectors: (n, d) float32, of length one."""

    ids: list[str]
    texts: list[str]
    domains: list[str]
    poses: list[str]
    buckets: list[int]
    vectors: Matrix

    def __len__(self) -> int:
        return len(self.ids)

    def record(self, row: int) -> Record:
        return self.ids[row], self.texts[row], self.domains[row], self.poses[row], self.buckets[row]

    def head(self, count: int) -> Rows:
        part = slice(count)
        return Rows(
            self.ids[part],
            self.texts[part],
            self.domains[part],
            self.poses[part],
            self.buckets[part],
            self.vectors[part],
        )

    def parts(self, size: int) -> Sequence[slice]:
        return [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]


def row_of(found: Any) -> int:
    """The number of the row that one entry of an answer stands for."""
    return int(found[0][1:]) if isinstance(found, tuple) else int(found)


class Handle(ABC):
    """An open store or index that searches with one effort."""

    @abstractmethod
    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        """The K nearest to a (d,) query, of all rows or of those with a value of `bucket`."""

    def batch(self, queries: Matrix) -> list[Answer]:
        """The same for (q, d) queries: here by two threads, for systems without a call of their own."""
        with ThreadPoolExecutor(BOTH_CORES) as pool:
            return list(pool.map(self.search, queries))

    def add(self, record: Record, vector: Matrix) -> None:
        """One more record; returns when the system says that it has it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of everything; here there is nothing that leaving scope does not let go of."""
        return


class System(ABC):
    """One contestant. The class attributes are printed in the report."""

    name: str
    packages: tuple[str, ...]
    index: str
    durable: str
    """What the system itself promises when ingest returns; the harness then fsyncs every file, for all alike."""

    batch_by: str
    store = True
    """Keeps records. Index libraries do not."""

    builds_index = True
    keeps_float32 = True
    variants: tuple[str, ...] = (RECORDS,)
    grid: tuple[Effort, ...] = ({},)
    """Efforts to try, cheapest first."""

    default_at = 0
    """Which of them is the system's default."""

    @property
    def default(self) -> Effort:
        return self.grid[self.default_at]

    def fresh(self) -> Effort | None:
        """How to open so that other processes' writes are seen, when that is an option and not the default."""
        return None

    @abstractmethod
    def load(self) -> None:
        """Import all that opening and searching will need, so that imports never count as opening or as memory."""

    def input(self, rows: Rows, variant: str) -> Any:
        """The form in which the input lies in memory before the clock starts."""
        return rows

    @abstractmethod
    def ingest(self, path: Path, given: Any, variant: str) -> dict[str, float]:
        """Make a store at a path that does not exist: all rows durable and found through the index; closed again.

        Returns:
            Seconds of its parts, by name, when they can be told apart.
        """

    @abstractmethod
    def open(self, path: Path, effort: Effort) -> Handle:
        """Open what `ingest` made."""

    def versions(self) -> dict[str, str]:
        return {name: importlib.metadata.version(name) for name in self.packages}


def arrow_table(rows: Rows, *, with_vectors: bool) -> Any:
    """The columns as an Arrow table; texts and numbers as they are, vectors as fixed-size lists of float32."""
    arrow = importlib.import_module("pyarrow")
    columns = {
        "id": arrow.array(rows.ids),
        "text": arrow.array(rows.texts),
        "domain": arrow.array(rows.domains),
        "pos": arrow.array(rows.poses),
        "bucket": arrow.array(rows.buckets, arrow.int64()),
    }
    if with_vectors:
        flat = arrow.array(rows.vectors.reshape(-1))
        columns["vector"] = arrow.FixedSizeListArray.from_arrays(flat, rows.vectors.shape[1])
    return arrow.table(columns)
