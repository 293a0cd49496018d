"""Libraries that only index: no records, no filters here, no durability but a file that is written at the end."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import Answer, Effort, Handle, K, Matrix, Rows, System

Search = Callable[[Matrix], Any]
"""(q, d) queries to (q, K) row numbers."""


class _Library(System):
    """Takes vectors; row numbers are its ids. All vectors have length one, so inner products rank as cosines do."""

    store = False
    durable = "the index is written to one file at the end"

    def ingest(self, path: Path, given: Rows, variant: str) -> dict[str, float]:
        path.mkdir()
        self.build(given.vectors, str(path / "index"))
        return {}

    def build(self, vectors: Matrix, file: str) -> None:
        raise NotImplementedError

    def reader(self, file: str, effort: Effort) -> Search:
        raise NotImplementedError

    def open(self, path: Path, effort: Effort) -> Handle:
        return _Open(self.reader(str(path / "index"), effort))


class _Open(Handle):
    def __init__(self, search: Search) -> None:
        self._search = search

    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        found: Answer = self._search(query[None])[0].tolist()
        return found

    def batch(self, queries: Matrix) -> list[Answer]:
        found: list[Answer] = self._search(queries).tolist()
        return found


class FaissFlat(_Library):
    name = "FAISS flat"
    packages = ("faiss-cpu",)
    index = "none: IndexFlatIP scans"
    batch_by = "search with many vectors"
    builds_index = False

    def load(self) -> None:
        self._faiss: Any = importlib.import_module("faiss")

    def empty(self, dim: int) -> Any:
        return self._faiss.IndexFlatIP(dim)

    def build(self, vectors: Matrix, file: str) -> None:
        index = self.empty(vectors.shape[1])
        index.add(vectors)
        self._faiss.write_index(index, file)

    def reader(self, file: str, effort: Effort) -> Search:
        index = self._faiss.read_index(file)
        return lambda queries: index.search(queries, K)[1]


class FaissHnsw(FaissFlat):
    name = "FAISS HNSW32"
    index = "IndexHNSWFlat, M 32, efConstruction 40 (its defaults)"
    builds_index = True
    grid = tuple({"efSearch": ef} for ef in (16, 32, 64, 96, 128, 192, 256, 400, 800))

    def empty(self, dim: int) -> Any:
        return self._faiss.IndexHNSWFlat(dim, 32, self._faiss.METRIC_INNER_PRODUCT)

    def reader(self, file: str, effort: Effort) -> Search:
        index = self._faiss.read_index(file)
        index.hnsw.efSearch = effort["efSearch"]
        return lambda queries: index.search(queries, K)[1]


class Hnswlib(_Library):
    name = "hnswlib"
    packages = ("hnswlib",)
    index = "HNSW, M 16, ef_construction 200 (its defaults)"
    batch_by = "knn_query with many vectors"
    grid = tuple({"ef": ef} for ef in (10, 20, 50, 100, 150, 200, 300, 500))

    def load(self) -> None:
        self._hnswlib: Any = importlib.import_module("hnswlib")

    def build(self, vectors: Matrix, file: str) -> None:
        index = self._hnswlib.Index(space="ip", dim=vectors.shape[1])
        index.init_index(max_elements=len(vectors))
        index.add_items(vectors)
        index.save_index(file)
        Path(file).with_suffix(".dim").write_text(str(vectors.shape[1]), encoding="ascii")

    def reader(self, file: str, effort: Effort) -> Search:
        dim = int(Path(file).with_suffix(".dim").read_text(encoding="ascii"))
        index = self._hnswlib.Index(space="ip", dim=dim)
        index.load_index(file)
        index.set_ef(effort["ef"])
        return lambda queries: index.knn_query(queries, k=K)[0]


class Usearch(_Library):
    name = "usearch"
    packages = ("usearch",)
    index = "HNSW, connectivity 16, expansion_add 128, bfloat16 where the processor has it (its defaults)"
    batch_by = "search with many vectors"
    keeps_float32 = False
    grid = tuple({"expansion_search": ef} for ef in (16, 32, 64, 128, 192, 256, 400, 800))
    default_at = 2

    def load(self) -> None:
        self._usearch: Any = importlib.import_module("usearch.index")

    def build(self, vectors: Matrix, file: str) -> None:
        index = self._usearch.Index(ndim=vectors.shape[1], metric="ip")
        index.add(np.arange(len(vectors)), vectors)
        index.save(file)

    def reader(self, file: str, effort: Effort) -> Search:
        index = self._usearch.Index.restore(file)
        index.expansion_search = effort["expansion_search"]

        def search(queries: Matrix) -> Any:
            found = index.search(queries, K)
            return found.keys if found.keys.ndim == 2 else found.keys[None]

        return search
