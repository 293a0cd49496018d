"""What a store is measured against: FAISS by itself and numpy, over the same vectors, without records or a disk.

A rival answers one query with row numbers. None of them filters, persists, forgets or knows what a row means.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np

from benchmarks.dataset import K, Matrix

Answer = Callable[[Matrix], list[int]]
"""From a (d,) query to the numbers of the nearest rows, nearest first."""

HNSW_NEIGHBOURS = 32
HNSW_CONSTRUCTION = 100
HNSW_SEARCH = 128


def build_recipe(factory: str, base: Matrix, path: Path) -> float:
    """Train and fill the recipe's raw index and write it; returns the seconds of the first two."""
    started = time.perf_counter()
    index = faiss.index_factory(base.shape[1], factory, faiss.METRIC_L2)
    if not index.is_trained:
        index.train(base[:65_536])
    index.add(base)
    seconds = time.perf_counter() - started
    faiss.write_index(index, str(path))
    return seconds


def build_hnsw(base: Matrix, path: Path) -> float:
    """The same for a graph index."""
    started = time.perf_counter()
    index = faiss.IndexHNSWFlat(base.shape[1], HNSW_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = HNSW_CONSTRUCTION
    index.add(base)
    seconds = time.perf_counter() - started
    faiss.write_index(index, str(path))
    return seconds


def flat(base: Matrix) -> Answer:
    """Exact search by FAISS."""
    index = faiss.IndexFlatIP(base.shape[1])
    index.add(base)
    return lambda query: index.search(query[None], K)[1][0].tolist()


def numpy_exact(base: Matrix) -> Answer:
    """Exact search by one matrix product."""

    def answer(query: Matrix) -> list[int]:
        products = base @ query
        best = np.argpartition(-products, K)[:K] if len(products) > K else np.arange(len(products))
        nearest: list[int] = best[np.argsort(-products[best])].tolist()
        return nearest

    return answer


def recipe_only(path: Path, candidates: int) -> Answer:
    """The recipe's index alone: its proposals, with nothing done to them."""
    index = faiss.read_index(str(path))
    return lambda query: index.search(query[None], candidates)[1][0].tolist()


def recipe_reranked(path: Path, base: Matrix, candidates: int) -> Answer:
    """The recipe's index, and its proposals put in order by exact products: what a hand-made solution would do."""
    index = faiss.read_index(str(path))

    def answer(query: Matrix) -> list[int]:
        proposed = index.search(query[None], candidates)[1][0]
        proposed = proposed[proposed >= 0]
        products = base[proposed] @ query
        nearest: list[int] = proposed[np.argsort(-products)[:K]].tolist()
        return nearest

    return answer


def hnsw(path: Path) -> Answer:
    """The graph index with a search depth that gives a recall of about 0.99."""
    index = faiss.read_index(str(path))
    index.hnsw.efSearch = HNSW_SEARCH
    return lambda query: index.search(query[None], K)[1][0].tolist()
