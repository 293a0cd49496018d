"""Model files: a scikit-learn `KMeans` that predicts what a fit's rule assigns, written by joblib, read with distrust.

joblib files are pickles, and a pickle is a program. So a file is read only when its digest is the one in the catalog,
computed over the very bytes that are parsed, and the library is the one that wrote it; and even then by an unpickler
that knows five names (`ALLOWED`), lets no array be bigger than the bytes that are left, and knows no object arrays,
compressed streams, legacy wrappers, extensions or persistent ids (docs/adr/0008). Whatever is refused can be made
again: centroids are in the catalog without any pickle, and assigning needs no file at all.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from vectorstore.errors import ModelRefused
from vectorstore.vectors.arrays import Matrix

ALLOWED = frozenset(
    {
        ("sklearn.cluster._kmeans", "KMeans"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
)
"""The only (module, name) pairs that a file may ask for."""

MAX_BYTES = 1 << 30
_BUILD = b"b"[0]
_PICKLE = b"\x80"
"""What a plain pickle begins with; joblib would silently inflate anything else."""


def library() -> str:
    """What writes and reads model files, with versions."""
    from importlib.metadata import version

    return f"scikit-learn {version('scikit-learn')}, joblib {version('joblib')}"


def estimator(centroids: Matrix) -> Any:
    """A `KMeans` whose `predict` gives the place of the nearest centroid."""
    from sklearn.cluster import KMeans

    model = KMeans(n_clusters=len(centroids), n_init=1)
    model.cluster_centers_ = np.ascontiguousarray(centroids, dtype=np.float32)
    model.n_features_in_ = centroids.shape[1]
    model._n_features_out = len(centroids)
    model._n_threads = 1
    return model


def to_bytes(centroids: Matrix) -> bytes:
    """The file of a model; the same centroids give the same bytes."""
    import joblib

    stream = io.BytesIO()
    joblib.dump(estimator(centroids), stream)
    return stream.getvalue()


def from_bytes(data: bytes, where: str, *, sha256: str, written_by: str) -> Any:
    """The `KMeans` in a file.

    Args:
        data: the whole file, read once.
        where: how messages name it.
        sha256: the digest in the catalog.
        written_by: the library in the catalog.

    Raises:
        ModelRefused: it is not what was written, or not by this library, or asks for anything that is not allowed.
    """
    if hashlib.sha256(data).hexdigest() != sha256:
        _refuse(where, "its bytes are not those that were written")
    if written_by != library():
        _refuse(where, f"it was written by {written_by}, this is {library()}")
    if len(data) > MAX_BYTES or data[:1] != _PICKLE:
        _refuse(where, "it is no plain joblib file of a reasonable size")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a warning of another version is a reason, too
            model = _unpickler()(data).load()
    except Exception as error:  # a parser of hostile bytes may raise anything
        _refuse(where, f"{type(error).__name__}: {error}")
    centroids, count = getattr(model, "cluster_centers_", None), getattr(model, "n_clusters", None)
    if type(model).__name__ != "KMeans" or not _whole(centroids, count):
        _refuse(where, "it is no fitted KMeans with finite centroids")
    return model


def _whole(centroids: object, count: object) -> bool:
    return (
        isinstance(centroids, np.ndarray)
        and centroids.ndim == 2
        and centroids.dtype == np.float32
        and len(centroids) == count
        and bool(np.isfinite(centroids).all())
    )


def _refuse(where: str, why: str) -> NoReturn:
    raise ModelRefused(f"{where}: was not loaded: {why}; refit, or run: vectorstore check --repair") from None


class _Plain:
    """Stands for `numpy.ndarray` while a file is read: it may be named there, and not called with a size."""


def _unpickler() -> Callable[[bytes], Any]:
    """The unpickler of joblib with everything taken away that a file of ours does not need."""
    from joblib.numpy_pickle import NumpyArrayWrapper, NumpyUnpickler

    class Strict(NumpyUnpickler):  # type: ignore[misc]  # joblib comes without types
        dispatch = NumpyUnpickler.dispatch.copy()

        def __init__(self, data: bytes) -> None:
            self._size = len(data)
            super().__init__("", io.BytesIO(data), True)

        def find_class(self, module: str, name: str) -> Any:
            if (module, name) not in ALLOWED:
                raise ValueError(f"it asks for {module}.{name}")
            return _Plain if name == "ndarray" else super().find_class(module, name)

        def get_extension(self, code: int) -> NoReturn:
            raise ValueError("it asks for an extension")

        def persistent_load(self, pid: object) -> NoReturn:
            raise ValueError("it asks for a persistent object")

        def load_build(self) -> None:
            if len(self.stack) > 1 and type(self.stack[-2]) is NumpyArrayWrapper:
                self._check_array(self.stack[-1])
            super().load_build()

        def _check_array(self, state: dict[str, Any]) -> None:
            shape, dtype = state.get("shape"), state.get("dtype")
            plain = isinstance(shape, tuple) and all(type(side) is int and 0 <= side < 1 << 40 for side in shape)
            if state.get("subclass") is not _Plain or not isinstance(dtype, np.dtype) or dtype.hasobject or not plain:
                raise ValueError("it holds an array that is not plain")
            state["subclass"] = np.ndarray
            if math.prod(shape or ()) * dtype.itemsize > self._size - self.file_handle.tell():
                raise ValueError("it claims an array that is bigger than the file")

        dispatch[_BUILD] = load_build

    return Strict
