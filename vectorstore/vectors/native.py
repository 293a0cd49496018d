"""The door to FAISS, and numpy in its place where FAISS cannot be imported.

The first call imports it, so that importing the package or opening a store costs nothing. Without FAISS there are no
indexes, and the two loops that compare one query with the rows of a segment are numpy's: slower, equal within the
rounding error that `exact.slack` allows for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vectorstore.errors import LibraryMissing
from vectorstore.locks import process_lock
from vectorstore.vectors.arrays import Matrix, Positions

_BLOCK_NUMBERS = 1 << 18
"""Numpy works on so many numbers (1 MB) at once: no copy of a segment is made, and blocks stay in the cache."""


_NEXT_START = 15_486_557
"""What FAISS adds to the seed for each further start (Clustering.cpp)."""
_reading = process_lock()


class _Engine(NamedTuple):
    """FAISS as it was found: the module or None, how many threads it would take, why it cannot be imported."""

    module: Any
    threads: int
    problem: str


@functools.cache
def _engine() -> _Engine:
    try:
        import faiss
    except ImportError as error:
        return _Engine(None, 1, str(error))
    return _Engine(faiss, faiss.omp_get_max_threads(), "")


def has_faiss() -> bool:
    """Whether FAISS can be imported; asked once a process."""
    return _engine().module is not None


def faiss() -> Any:
    """FAISS.

    Raises:
        LibraryMissing: it cannot be imported.
    """
    module, _, problem = _engine()
    if module is None:
        raise LibraryMissing(f"indexes need FAISS, which cannot be imported ({problem}); pip install faiss-cpu")
    return module


def read_index(data: Any, most: int = 1 << 34) -> Any:
    """The index in some bytes, without a copy of them.

    Args:
        data: (n,) bytes; they must stay as long as the index does.
        most: bytes that any of its parts may ask for. A quarter of it is how many lists it may have, each of which has
            a centroid in the file. The limits are those of the process, so one index is read at a time.

    Raises:
        RuntimeError: FAISS refused.
    """
    engine = faiss()
    with _reading:
        engine.set_deserialization_loop_limit(min(200_000_000, max(1024, most // 4)))
        engine.set_deserialization_vector_byte_limit(most)
        return engine.read_index(engine.ZeroCopyIOReader(engine.swig_ptr(data), len(data)))


def threads() -> int:
    """How many threads FAISS takes unless it is told otherwise."""
    return _engine().threads


def products_each(queries: Matrix, vectors: Matrix, rows: Positions) -> Matrix:
    """(q, c) float32 inner products of each query (q, d) with rows of its own (q, c); -inf where a row is -1."""
    return _each(queries, vectors, rows, "fvec_inner_products_by_idx")


def squared_distances_each(queries: Matrix, vectors: Matrix, rows: Positions) -> Matrix:
    """(q, c) float32 squared Euclidean distances, as `products_each`; inf where a row is -1."""
    return _each(queries, vectors, rows, "fvec_L2sqr_by_idx")


def _each(queries: Matrix, vectors: Matrix, rows: Positions, name: str) -> Matrix:
    module = faiss()
    out = np.empty(rows.shape, dtype=np.float32)
    rows = np.ascontiguousarray(rows, dtype=np.int64)
    pointer = module.swig_ptr
    module.omp_set_num_threads(1)  # the caller splits batches over threads of its own
    getattr(module, name)(
        pointer(out), pointer(queries), pointer(vectors), pointer(rows), vectors.shape[1], *rows.shape
    )
    return out


def products(query: Matrix, vectors: Matrix, rows: Positions | None) -> Matrix:
    """(n,) float32 inner products of a query (d,) with the vectors (m, d), all or those rows, where they lie."""
    count = len(vectors) if rows is None else len(rows)
    out = np.empty(count, dtype=np.float32)
    if has_faiss():
        _loop(out, query, vectors, rows, "fvec_inner_products")
    elif rows is None:
        np.matmul(vectors, query, out=out)
    else:
        for start, block in _blocks(vectors, rows):
            np.matmul(block, query, out=out[start : start + len(block)])
    return out


def squared_distances(query: Matrix, vectors: Matrix, rows: Positions | None) -> Matrix:
    """(n,) float32 squared Euclidean distances, as `products`."""
    count = len(vectors) if rows is None else len(rows)
    out = np.empty(count, dtype=np.float32)
    if has_faiss():
        _loop(out, query, vectors, rows, "fvec_L2sqr")
        return out
    with np.errstate(over="ignore"):  # infinitely far in float32: the exact scores tell such rows apart
        for start, block in _blocks(vectors, rows):
            apart = block - query
            np.vecdot(apart, apart, out=out[start : start + len(block)])
    return out


def _loop(out: Matrix, query: Matrix, vectors: Matrix, rows: Positions | None, name: str) -> None:
    module = faiss()
    pointer, dim, count = module.swig_ptr, vectors.shape[1], len(out)
    if not count:
        return
    if rows is None:
        getattr(module, f"{name}_ny")(pointer(out), pointer(query), pointer(vectors), dim, count)
    else:
        rows = np.ascontiguousarray(rows, dtype=np.int64)
        module.omp_set_num_threads(1)  # the loop is parallel over queries, and one query's threads would only spin
        loop = getattr(module, f"{name}_by_idx")
        loop(pointer(out), pointer(query), pointer(vectors), pointer(rows), dim, 1, count)


def _blocks(vectors: Matrix, rows: Positions | None) -> Iterator[tuple[int, Matrix]]:
    """(place of its first row, rows) block by block."""
    step = max(1, _BLOCK_NUMBERS // vectors.shape[1])
    for start in range(0, len(vectors) if rows is None else len(rows), step):
        yield start, vectors[start : start + step] if rows is None else vectors[rows[start : start + step]]


def kmeans(
    vectors: Matrix,
    clusters: int,
    *,
    iterations: int,
    restarts: int,
    seed: int,
    spherical: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Matrix:
    """(clusters, d) float32 centroids by FAISS's Lloyd iterations over all rows, the best of several random starts.

    One thread, so that the same rows and seed give the same centroids. FAISS is called for one iteration at a time,
    each from the centroids of the one before, so that there is progress to tell and a place to stop; the centroids are
    those of one call, to the bit, and a start ends when an iteration changes nothing.

    Args:
        vectors: (n, d) float32, C-contiguous, n >= clusters.
        clusters: how many.
        iterations: of each start.
        restarts: how many starts.
        seed: of the random numbers.
        spherical: keep centroids on the unit sphere.
        progress: told (iterations, iterations at most); what it raises ends the call.

    Raises:
        LibraryMissing: FAISS cannot be imported.

    Cost: O(n clusters d iterations restarts).
    """
    module = faiss()
    best: tuple[float, Matrix] | None = None
    module.omp_set_num_threads(1)
    try:
        for start in range(restarts):
            found: Matrix | None = None
            for turn in range(iterations):
                model = module.Kmeans(
                    vectors.shape[1],
                    clusters,
                    niter=1,
                    seed=seed + start * _NEXT_START,
                    spherical=spherical,
                    min_points_per_centroid=1,  # it would warn on standard error of fewer than 39
                    max_points_per_centroid=max(1, len(vectors)),  # all rows, no sample
                )
                model.train(vectors, init_centroids=found)
                before, found = found, np.array(model.centroids, dtype=np.float32, copy=True)
                progress(start * iterations + turn + 1, iterations * restarts)
                if before is not None and np.array_equal(before, found):
                    break
            cost = float(model.obj[-1])
            if found is not None and (best is None or (cost > best[0] if spherical else cost < best[0])):
                best = cost, found
    finally:
        module.omp_set_num_threads(threads())
    assert best is not None  # recipes have one start and one iteration at least
    return best[1]
