"""FAISS indexes: built from segments, serialised by us, loaded with suspicion.

An index proposes candidates; `live.py` re-ranks them exactly. Row i of an index is position i of the list of segments
it was built over, so it needs no id map. A loaded index is never changed: adding while others search crashes FAISS.
`write_index` is not used (a full disk raises nothing and leaves a torn file); loading checks digest, size, magic and
shape first, with FAISS's own limits set (in `native`, the door to it), and leaves codes in the mapped file.

A flat product quantiser with 4-bit codes is stored as plain codes, one row after another, and packed for the SIMD
loops of its fast scan when loaded (0.03 microseconds a row): so the rows that a filter allows can be taken out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.errors import DerivedError, RecipeError
from vectorstore.files import Buffer
from vectorstore.recipes import IndexRecipe, Point
from vectorstore.vectors.arrays import Matrix, Positions, as_unit
from vectorstore.vectors.native import faiss, read_index, threads
from vectorstore.vectors.segments import Segment

BLOCK = 16_384
_THREADED_ROWS = 50_000
Codes = npt.NDArray[np.uint8]
_MAGIC = (b"IH", b"IP", b"Ir", b"Iw", b"Ix")


_FAST_SCAN = re.compile(r"PQ\d+x4fs")


@dataclass(frozen=True, eq=False)
class Restricted:
    """An index over some of the rows of another.

    Attributes:
        candidates: ((q, d) prepared queries, count) -> (q, count) places among those rows, nearest first, -1 for none.
        bytes: its size in memory.
    """

    candidates: Callable[[Matrix, int], Positions]
    bytes: int


@dataclass(frozen=True, eq=False)
class Index:
    """A loaded, immutable index over the first `rows` positions of a space.

    Attributes:
        native: what is searched.
        stored: what is kept in the file, when that is not `native`.
        source: the bytes in which codes lie, kept as long as the index.
    """

    recipe: IndexRecipe
    native: Any
    rows: int
    stored: Any = None
    source: Buffer | None = None

    def candidates(self, queries: Matrix, point: Point, count: int) -> Positions:
        """(q, count) positions proposed for each prepared query, nearest first, -1 where there are none."""
        faiss().omp_set_num_threads(1)  # one query gains nothing from threads; batches are split by the caller
        parameters = _parameters(self.native, point, count)
        _, positions = self.native.search(queries, min(count, self.limit), params=parameters)
        return np.asarray(positions, dtype=np.int64)

    @cached_property
    def limit(self) -> int:
        """At most so many can be proposed: all rows, but for Panorama, which keeps them in batches."""
        inner = self.native
        if isinstance(inner, faiss().IndexPreTransform):
            inner = faiss().downcast_index(inner.index)
        return min(self.rows, inner.batch_size) if isinstance(inner, faiss().IndexFlatPanorama) else self.rows

    @cached_property
    def codes(self) -> Codes | None:
        """(rows, width) uint8 codes, where they lie; None for indexes whose rows cannot be taken one by one."""
        plain = self.native if self.stored is None else self.stored
        if not isinstance(plain, (faiss().IndexLSH, faiss().IndexPQ)):
            return None
        flat: Codes = faiss().rev_swig_ptr(plain.codes.data(), plain.codes.size())
        return flat.reshape(self.rows, plain.code_size)

    def restricted(self, positions: Positions) -> Restricted | None:
        """The same index over some of its positions alone, or None if it has no `codes`; time O(rows taken)."""
        if self.codes is None:
            return None
        codes = self.codes[positions]
        if self.stored is None:
            native = self.native

            def nearest(queries: Matrix, count: int) -> Positions:
                faiss().omp_set_num_threads(1)
                _, places = faiss().knn_hamming(native.sa_encode(queries), codes, min(count, len(codes)))
                return np.asarray(places, dtype=np.int64)

            return Restricted(nearest, codes.nbytes)
        few = faiss().IndexPQ(self.stored.d, self.stored.pq.M, self.stored.pq.nbits, self.stored.metric_type)
        few.pq = self.stored.pq
        few.is_trained = True
        few.ntotal = len(codes)
        faiss().copy_array_to_vector(codes.ravel(), few.codes)
        packed = faiss().IndexPQFastScan(few)

        def scan(queries: Matrix, count: int) -> Positions:
            faiss().omp_set_num_threads(1)
            return np.asarray(packed.search(queries, min(count, len(codes)))[1], dtype=np.int64)

        return Restricted(scan, codes.nbytes)


def subquantizers(dim: int) -> int:
    """How many parts a product quantiser cuts vectors of that length into: a divisor of it, at least 48 if it can be.

    Four dimensions a part give recall@10 .9975 from 160 candidates on MiniLM (384), and short vectors need finer parts:
    GloVe (50) gives .984 with parts of two and 1.0 with parts of one.
    """
    wanted = max(dim / 4, min(dim, 48))
    return min(part for part in range(1, dim + 1) if dim % part == 0 and part >= wanted)


def cells(rows: int) -> int:
    """How many cells an inverted file over so many rows has: the power of two nearest to their square root."""
    return max(16, int(2 ** round(math.log2(max(1, rows)) / 2)))


def factory_of(recipe: IndexRecipe, rows: int, dim: int) -> str:
    """The recipe's factory string for so many rows and dimensions."""
    return (
        recipe.factory.replace("{parts}", str(subquantizers(dim)))
        .replace("{cells}", str(cells(rows)))
        .replace("{dim}", str(dim))
    )


def library() -> str:
    """The library that makes indexes, with its version, as the catalog keeps it."""
    return f"faiss {faiss().__version__}"


def build(recipe: IndexRecipe, segments: Sequence[Segment], metric: str, seed: int = 0) -> Index:
    """An index over all rows of the segments, in order.

    Raises:
        RecipeError: FAISS does not know the factory string, or cannot use it for these vectors.
        LibraryMissing: FAISS cannot be imported.
    """
    rows = sum(segment.rows for segment in segments)
    dim = segments[0].vectors.shape[1]
    # OpenMP's threads wait for each other by spinning: on a busy machine small work gets slower with two, and training
    # a product quantiser, which is nothing but small work, fifty times slower (0.6 s with one thread, 47 s with two).
    engine = faiss()
    many = threads() if rows >= _THREADED_ROWS else 1
    # Unit vectors are in the same order by distance as by cosine, and some indexes know distances only.
    kind = engine.METRIC_L2 if metric != "ip" or "LSH" in recipe.factory else engine.METRIC_INNER_PRODUCT
    factory = factory_of(recipe, rows, dim)
    packable = _FAST_SCAN.fullmatch(factory) is not None
    try:
        # np: without the polysemous training that sorts codes for Hamming distances, which nobody compares here.
        native = engine.index_factory(dim, factory.removesuffix("fs") + "np" if packable else factory, kind)
        if recipe.construction is not None:
            _graph(native).efConstruction = recipe.construction
        if not native.is_trained:
            engine.omp_set_num_threads(many if factory.startswith("IVF") else 1)
            native.train(_sample(segments, min(rows, recipe.train_rows), metric, seed))
        engine.omp_set_num_threads(many)
        for segment in segments:
            segment.expect(scattered=False)
            for start in range(0, segment.rows, BLOCK):
                native.add(_as_indexed(segment.vectors[start : start + BLOCK], metric))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].rpartition(" failed: ")[2][-300:]  # without where in FAISS it was
        raise RecipeError(
            f"{recipe.name}: FAISS cannot build {factory!r} over {rows} x {dim}: {reason}; take another recipe "
            "(exact needs no index)"
        ) from error
    return _packed(recipe, native, rows, None)


def _graph(native: Any) -> Any:
    """The links of a graph index, also behind a transformation of its vectors."""
    if isinstance(native, faiss().IndexPreTransform):
        native = faiss().downcast_index(native.index)
    return native.hnsw


def _packed(recipe: IndexRecipe, native: Any, rows: int, source: Buffer | None) -> Index:
    """The index, with its codes packed for the fast scan where the recipe wants that."""
    if isinstance(native, faiss().IndexPQ) and recipe.factory.endswith("fs"):
        return Index(recipe, faiss().IndexPQFastScan(native), rows, native, source)
    return Index(recipe, native, rows, None, source)


def _as_indexed(vectors: Matrix, metric: str) -> Matrix:
    return as_unit(vectors) if metric == "cosine" else np.ascontiguousarray(vectors)


def _sample(segments: Sequence[Segment], count: int, metric: str, seed: int) -> Matrix:
    total = sum(segment.rows for segment in segments)
    chosen = np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
    parts, offset = [], 0
    for segment in segments:
        here = chosen[(chosen >= offset) & (chosen < offset + segment.rows)] - offset
        parts.append(_as_indexed(segment.vectors[here], metric))
        offset += segment.rows
    return np.concatenate(parts)


def _parameters(native: Any, point: Point, count: int) -> Any:
    """Per-call search parameters; the index's own state is shared by threads and never touched."""
    engine = faiss()
    own = None
    if "efSearch" in point:
        own = engine.SearchParametersHNSW(efSearch=max(point["efSearch"], count))
    elif "nprobe" in point:
        own = engine.SearchParametersIVF(nprobe=point["nprobe"])
    if own is not None and isinstance(native, engine.IndexPreTransform):
        return engine.SearchParametersPreTransform(index_params=own)
    return own


def to_bytes(index: Index) -> memoryview:
    """The index as FAISS serialises it."""
    stored = index.native if index.stored is None else index.stored
    return np.asarray(faiss().serialize_index(stored), dtype=np.uint8).data


def from_bytes(buffer: Buffer, recipe: IndexRecipe, *, rows: int, dim: int) -> Index:
    """The index in a file whose digest was checked.

    Raises:
        DerivedError: it is not an index over that many rows and dimensions.
        LibraryMissing: FAISS cannot be imported.
    """
    data = np.frombuffer(buffer, dtype=np.uint8)
    if len(data) < 8 or not bytes(data[:4]).startswith(_MAGIC):
        raise DerivedError(f"{recipe.name}: the file does not begin like a FAISS index")
    faiss()
    try:
        native = read_index(data)
    except RuntimeError as error:
        raise DerivedError(f"{recipe.name}: FAISS cannot read it: {str(error).splitlines()[-1][-200:]}") from error
    if native.d != dim or native.ntotal != rows or not native.is_trained:
        raise DerivedError(f"{recipe.name}: holds {native.ntotal} x {native.d}, expected {rows} x {dim}")
    return _packed(recipe, native, rows, buffer)


def same_codes(index: Index, position: int, vectors: Matrix, metric: str) -> bool | None:
    """Whether the stored codes of rows from `position` on are those of the vectors; None if it cannot be told."""
    if index.codes is None:
        return None
    stored = index.codes[position : position + len(vectors)]
    if index.stored is not None:
        return _same_parts(index.stored, stored, _as_indexed(vectors, metric))
    native = index.native
    projections = native.rrot.apply(_as_indexed(vectors, metric))
    thresholds = faiss().vector_to_array(native.thresholds)
    margins = projections - thresholds if len(thresholds) else projections
    bits = np.unpackbits(stored, axis=1, bitorder="little")
    # A projection on its threshold may fall to either side, by the rounding of a matrix product.
    clear = np.abs(margins) > 1e-5 * np.abs(projections).max(initial=1e-9)
    return bool((bits[:, : margins.shape[1]] == (margins >= 0))[clear].all())


def _same_parts(native: Any, stored: Codes, vectors: Matrix) -> bool:
    """Whether codes of a product quantiser are as near to the vectors as codes made now; ties fall either way."""
    now = native.sa_encode(vectors)
    other = np.flatnonzero((now != stored).any(axis=1))
    if not len(other):
        return True
    rows = vectors[other]
    kept, best = (np.square(rows - native.sa_decode(np.ascontiguousarray(c[other]))).sum(axis=1) for c in (stored, now))
    return bool((kept <= best * (1 + 1e-4) + 1e-9).all())
