"""FAISS indexes: built from segments, serialised by us, loaded with suspicion.

An index proposes candidates; `live.py` re-ranks them exactly. Row i of an index is position i of the list of segments
it was built over, so it needs no id map. A loaded index is never changed: adding while others search crashes FAISS.
`write_index` is not used (a full disk raises nothing and leaves a torn file); loading checks digest, size, magic and
shape first, with FAISS's own limits set (in `native`, the door to it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.errors import DerivedError, RecipeError
from vectorstore.files import Buffer
from vectorstore.recipes import IndexRecipe, Point
from vectorstore.vectors.arrays import Matrix, Positions, as_unit
from vectorstore.vectors.native import faiss, threads
from vectorstore.vectors.segments import Segment

BLOCK = 16_384
_THREADED_ROWS = 50_000
Codes = npt.NDArray[np.uint8]
_MAGIC = (b"IH", b"IP", b"Ir", b"Iw", b"Ix")


@dataclass(frozen=True, eq=False)
class Index:
    """A loaded, immutable index over the first `rows` positions of a space."""

    recipe: IndexRecipe
    native: Any
    rows: int

    def candidates(self, queries: Matrix, point: Point, count: int) -> Positions:
        """(q, count) positions proposed for each prepared query, nearest first, -1 where there are none."""
        faiss().omp_set_num_threads(1)  # one query gains nothing from threads; batches are split by the caller
        parameters = _parameters(self.native, point, count)
        _, positions = self.native.search(queries, min(count, self.rows), params=parameters)
        return np.asarray(positions, dtype=np.int64)

    @cached_property
    def codes(self) -> Codes | None:
        """(rows, width) uint8 binary codes, where they lie; None for indexes that have no such codes."""
        if not isinstance(self.native, faiss().IndexLSH):
            return None
        codes = self.native.codes
        flat: Codes = faiss().rev_swig_ptr(codes.data(), codes.size())
        return flat.reshape(self.rows, self.native.code_size)

    def candidates_among(self, queries: Matrix, codes: Codes, count: int) -> Positions:
        """(q, count) places in some of the index's codes, nearest first: the index restricted to those rows."""
        faiss().omp_set_num_threads(1)
        _, places = faiss().knn_hamming(self.native.sa_encode(queries), codes, min(count, len(codes)))
        return np.asarray(places, dtype=np.int64)


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
    # OpenMP's threads wait for each other by spinning: on a busy machine small builds get slower with two.
    engine = faiss()
    engine.omp_set_num_threads(threads() if rows >= _THREADED_ROWS else 1)
    kind = engine.METRIC_L2 if metric == "l2" or "LSH" in recipe.factory else engine.METRIC_INNER_PRODUCT
    try:
        native = engine.index_factory(dim, recipe.factory, kind)
        if not native.is_trained:
            native.train(_sample(segments, min(rows, recipe.train_rows), metric, seed))
        for segment in segments:
            for start in range(0, segment.rows, BLOCK):
                native.add(_as_indexed(segment.vectors[start : start + BLOCK], metric))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1][-300:]
        raise RecipeError(
            f"{recipe.name}: FAISS cannot build {recipe.factory!r} over {rows} x {dim}: {reason}"
        ) from error
    return Index(recipe, native, rows)


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
    if "efSearch" in point:
        return faiss().SearchParametersHNSW(efSearch=max(point["efSearch"], count))
    if "nprobe" in point:
        return faiss().SearchParametersIVF(nprobe=point["nprobe"])
    return None


def to_bytes(index: Index) -> memoryview:
    """The index as FAISS serialises it."""
    return np.asarray(faiss().serialize_index(index.native), dtype=np.uint8).data


def from_bytes(buffer: Buffer, recipe: IndexRecipe, *, rows: int, dim: int) -> Index:
    """The index in a file whose digest was checked.

    Raises:
        DerivedError: it is not an index over that many rows and dimensions.
        LibraryMissing: FAISS cannot be imported.
    """
    data = np.frombuffer(buffer, dtype=np.uint8)
    if len(data) < 8 or not bytes(data[:4]).startswith(_MAGIC):
        raise DerivedError(f"{recipe.name}: the file does not begin like a FAISS index")
    deserialize = faiss().deserialize_index
    try:
        native = deserialize(data)
    except RuntimeError as error:
        raise DerivedError(f"{recipe.name}: FAISS cannot read it: {str(error).splitlines()[-1][-200:]}") from error
    if native.d != dim or native.ntotal != rows or not native.is_trained:
        raise DerivedError(f"{recipe.name}: holds {native.ntotal} x {native.d}, expected {rows} x {dim}")
    return Index(recipe, native, rows)


def same_codes(index: Index, position: int, vectors: Matrix, metric: str) -> bool | None:
    """Whether the stored codes of rows from `position` on are those of the vectors; None if it cannot be told."""
    if index.codes is None:
        return None
    native = index.native
    projections = native.rrot.apply(_as_indexed(vectors, metric))
    thresholds = faiss().vector_to_array(native.thresholds)
    margins = projections - thresholds if len(thresholds) else projections
    stored = np.unpackbits(index.codes[position : position + len(vectors)], axis=1, bitorder="little")
    # A projection on its threshold may fall to either side, by the rounding of a matrix product.
    clear = np.abs(margins) > 1e-5 * np.abs(projections).max(initial=1e-9)
    return bool((stored[:, : margins.shape[1]] == (margins >= 0))[clear].all())
