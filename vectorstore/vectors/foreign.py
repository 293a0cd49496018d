"""Vectors out of FAISS indexes that somebody else made.

The file is not trusted: it is read behind FAISS's own limits (`native.py` sets them), must be one of a few kinds that
keep their vectors whole, and must be as large as it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.errors import ValidationError
from vectorstore.vectors.arrays import MAX_DIM, Matrix
from vectorstore.vectors.native import faiss, read_index

_MAGIC = (b"IxF2", b"IxFI", b"IxFl", b"IxMp", b"IxM2", b"IwFl", b"IwFd", b"IHNf", b"IxPT")
"""Flat, id maps, inverted files of whole vectors, HNSW over whole vectors: FAISS's marks at the start of a file."""


def read_faiss(path: Path) -> tuple[Matrix, npt.NDArray[np.int64], str]:
    """((n, d) vectors, (n,) their ids, metric: "l2" or "ip") of an index that keeps vectors whole, in order of storage.

    Flat, IDMap and IDMap2, IVF,Flat and HNSW,Flat. An index without ids of its own has 0..n-1. Codes (PQ, SQ, LSH,
    RaBitQ) are no vectors any more and are refused.

    Raises:
        ValidationError: it is none of those, damaged, or says more than it has.
        LibraryMissing: FAISS cannot be imported.

    Memory: the file mapped, and a copy of the vectors.
    """
    with path.open("rb") as file:
        mark = file.read(4)
    if mark not in _MAGIC:
        raise ValidationError(
            f"{path}: begins with {mark!r}; expected a FAISS index that keeps vectors whole: Flat, IDMap, IVF,Flat or "
            "HNSW,Flat; codes cannot be turned back into vectors"
        )
    engine = faiss()
    data = np.memmap(path, dtype=np.uint8, mode="r")
    try:
        index = read_index(data, most=len(data))  # a part of it is no longer than all of it
        matrix, ids = _taken(engine, index, path)
    except RuntimeError as error:
        raise ValidationError(f"{path}: FAISS cannot read it: {str(error).splitlines()[-1][-200:]}") from None
    if len(matrix) != len(ids):
        raise ValidationError(f"{path}: has {len(ids)} ids for {len(matrix)} vectors")
    metric = {engine.METRIC_L2: "l2", engine.METRIC_INNER_PRODUCT: "ip"}.get(index.metric_type)
    if metric is None:
        raise ValidationError(f"{path}: compares by metric {index.metric_type}, which is neither l2 nor inner product")
    return matrix, ids, metric


def _taken(engine: Any, index: Any, path: Path) -> tuple[Matrix, npt.NDArray[np.int64]]:
    index = engine.downcast_index(index)
    dim, count = int(index.d), int(index.ntotal)
    if isinstance(index, engine.IndexIDMap):
        matrix, inner = _taken(engine, index.index, path)
        numbers = engine.vector_to_array(index.id_map).astype(np.int64)
        if len(numbers) != len(matrix):
            raise ValidationError(f"{path}: has {len(numbers)} ids for {len(matrix)} vectors")
        return matrix, numbers[inner] if len(inner) else numbers
    if isinstance(index, engine.IndexHNSW):
        return _taken(engine, index.storage, path)
    if not isinstance(index, engine.IndexIVFFlat | engine.IndexFlat):
        raise ValidationError(f"{path}: holds a {type(index).__name__}, which keeps no whole vectors")
    if not 0 < dim <= MAX_DIM or count < 0 or count * dim * 4 > path.stat().st_size:
        raise ValidationError(f"{path}: says that it holds {count} x {dim}, and has {path.stat().st_size} bytes")
    if isinstance(index, engine.IndexIVFFlat):
        return _lists(engine, index, path)
    if index.codes.size() != count * dim * 4:
        raise ValidationError(f"{path}: says that it holds {count} x {dim}, and has {index.codes.size()} bytes of them")
    flat = engine.rev_swig_ptr(index.get_xb(), count * dim) if count else np.empty(0, np.float32)
    return np.array(flat, dtype=np.float32).reshape(count, dim), np.arange(count, dtype=np.int64)


def _lists(engine: Any, index: Any, path: Path) -> tuple[Matrix, npt.NDArray[np.int64]]:
    """The vectors of an inverted file, in order of their ids, which are their rows unless the caller gave some."""
    parts: list[Matrix] = [np.empty((0, index.d), np.float32)]
    ids: list[npt.NDArray[np.int64]] = [np.empty(0, np.int64)]
    lists = index.invlists
    if lists.code_size != 4 * index.d or lists.nlist != index.nlist:
        raise ValidationError(f"{path}: its lists hold codes of {lists.code_size} bytes for {index.d} dimensions")
    for cell in range(lists.nlist):
        size = lists.list_size(cell)
        if size:
            codes = engine.rev_swig_ptr(lists.get_codes(cell), size * lists.code_size)
            parts.append(np.array(codes, dtype=np.uint8).view(np.float32).reshape(size, index.d))
            ids.append(np.array(engine.rev_swig_ptr(lists.get_ids(cell), size), dtype=np.int64))
    numbers = np.concatenate(ids)
    order = np.argsort(numbers, kind="stable")
    if len(numbers) != index.ntotal:
        raise ValidationError(f"{path}: says that it holds {index.ntotal} vectors, its lists hold {len(numbers)}")
    return np.concatenate(parts)[order], numbers[order]
