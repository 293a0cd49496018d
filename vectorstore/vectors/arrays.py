"""Array names and the check of vectors that come in."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.errors import DimensionError, ValidationError

Matrix = npt.NDArray[np.float32]
Vids = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int64]
METRICS = ("cosine", "ip", "l2")
MAX_DIM = 65_536
_BLOCK = 8_192


def as_matrix(
    values: Any, where: str, *, dim: int | None = None, metric: str = "cosine", row: int | None = None
) -> Matrix:
    """The values as a C-contiguous (n, d) float32 matrix, checked.

    Args:
        values: anything numpy can turn into one or two dimensions of numbers; or bytes, a vector as float32 in
            little-endian order, or several such.
        where: how messages name it, such as "concepts.vectors".
        dim: the number of dimensions they must have; None takes what comes.
        metric: cosine refuses zero vectors, which have no direction.
        row: when given, the values are one vector, named by this number in messages.

    Raises:
        DimensionError: another number of dimensions.
        ValidationError: not numbers, not finite in float32, or a zero vector under cosine; names the row.
    """
    try:
        array = numeric(_from_bytes(values, where))
    except DimensionError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise ValidationError(f"{where}: expected numbers of one length, got something else: {error}") from None
    if array.ndim == 1:
        array = array.reshape(1, -1) if array.size or dim is not None else array.reshape(0, 0)
    if array.ndim != 2:
        raise DimensionError(f"{where}: expected one vector a row (two dimensions), got shape {array.shape}")
    if not 0 < array.shape[1] <= MAX_DIM and array.shape[0]:
        raise DimensionError(f"{where}: expected 1..{MAX_DIM} dimensions, got {array.shape[1]}")
    if dim is not None and array.shape[1] != dim and array.shape[0]:
        raise DimensionError(f"{where}: expected {dim} dimensions, got {array.shape[1]}")
    with np.errstate(over="ignore"):
        matrix = np.ascontiguousarray(array, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    bad = np.flatnonzero(~np.isfinite(squares))
    if bad.size:
        place = int(bad[0]) if row is None else row
        raise ValidationError(f"{where}[{place}]: expected finite numbers below 1e19, got NaN, infinity or more")
    if metric == "cosine" and array.shape[0]:
        zero = np.flatnonzero(squares == 0)
        if zero.size:
            place = int(zero[0]) if row is None else row
            raise ValidationError(f"{where}[{place}]: a zero vector has no direction; cosine needs one")
    return matrix


def numeric(values: Any) -> np.ndarray[Any, Any]:
    """The values as an array of real numbers.

    Raises:
        ValueError, TypeError, OverflowError: they are none: text for instance, even where it looks like numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise TypeError("complex numbers, whose imaginary part would be lost")
    if array.dtype.kind in "USMm" or (array.dtype == object and any(isinstance(x, str | bytes) for x in array.flat)):
        raise TypeError("text or times, which are no numbers even where they look like some")
    return array if array.dtype.kind in "fiu" else np.asarray(values, dtype=np.float64)


def _from_bytes(values: Any, where: str) -> Any:
    """Vectors in bytes as arrays; anything else as it is."""
    one = isinstance(values, bytes)
    if not one and not (isinstance(values, list | tuple) and values and isinstance(values[0], bytes)):
        return values
    blobs = [values] if one else values
    for place, blob in enumerate(blobs):
        if not isinstance(blob, bytes):
            raise TypeError(f"[{place}] is no bytes, [0] is")
        if not blob or len(blob) % 4:
            raise DimensionError(f"{where}[{place}]: expected 4 bytes a dimension, got {len(blob)} bytes")
        if len(blob) != len(blobs[0]):
            raise DimensionError(f"{where}[{place}]: expected {len(blobs[0])} bytes as in [0], got {len(blob)}")
    return np.frombuffer(b"".join(blobs), dtype="<f4").reshape(len(blobs), -1)


def lengths(matrix: Matrix) -> Matrix:
    """(n,) float32 Euclidean norms of the rows, computed in float64."""
    norms: Matrix = np.sqrt(np.einsum("ij,ij->i", matrix, matrix, dtype=np.float64)).astype(np.float32)
    return norms


def as_unit(vectors: Matrix) -> Matrix:
    """The rows scaled to length one; zero rows stay zero."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    norms[norms == 0] = 1
    scaled = np.empty(vectors.shape, dtype=np.float32)
    for start in range(0, len(vectors), _BLOCK):  # the quotients are of twice that size
        part = slice(start, start + _BLOCK)
        scaled[part] = vectors[part] / norms[part, None]
    return scaled
