"""Any function from texts to vectors as an embedder.

Owns the batching and the distrust: what the function returns is checked for shape, type and finite numbers
before it comes near a store. What the function itself raises passes through untouched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.embedders.protocol import EmbedderIdentity, Matrix, Progress, check_positive, check_texts
from vectorstore.errors import EmbedderError, ValidationError

EmbedFunction = Callable[[list[str]], Any]
"""Takes a list of n texts, returns anything that numpy reads as (n, d) numbers."""

PROBE_TEXT = "a text to learn the dimension from"


class CallableEmbedder:
    """An embedder around a function; the function must stand being called from several threads.

    Args:
        function: takes a list of n texts and returns (n, d) numbers: an array, a tensor or nested lists.
        model: the name kept with the vectors; the function's own module and name if not given. Give one that
            changes when the vectors change.
        dim: numbers in a vector; if not given, learnt from the first answer.
        batch_size: at most so many texts in a call.
        version: kept with the vectors; raise it when the same name comes to give other vectors.
        digest: kept with the vectors: sha256 of the weights behind the function, if there are any.
        normalise: scale each row to length 1. If false, rows stay as they come and the identity says so.

    Raises:
        ValidationError: function is not callable, or a size is not a whole number of at least 1.
    """

    def __init__(
        self,
        function: EmbedFunction,
        model: str | None = None,
        dim: int | None = None,
        *,
        batch_size: int = 256,
        version: str = "",
        digest: str = "",
        normalise: bool = True,
    ) -> None:
        if not callable(function):
            raise ValidationError(f"CallableEmbedder.function: expected a callable, got {function!r}")
        self._function = function
        self._batch_size = check_positive("CallableEmbedder.batch_size", batch_size)
        name = model if model is not None else _name_of(function)
        # All of the identity but its dimension, so that a bad name is refused here and not at the first text.
        self._unmeasured = EmbedderIdentity(name, version, digest, dim=1, normalised=normalise)
        self._lock = threading.Lock()
        self._identity: EmbedderIdentity | None = None
        if dim is not None:
            self._learn(check_positive("CallableEmbedder.dim", dim))

    def __repr__(self) -> str:
        return f"CallableEmbedder({self._unmeasured.model!r})"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickled as its arguments, with the dimension if that is known."""
        known = self._unmeasured
        dim = None if self._identity is None else self._identity.dim
        return _restore, (
            self._function,
            known.model,
            dim,
            self._batch_size,
            known.version,
            known.digest,
            known.normalised,
        )

    @property
    def identity(self) -> EmbedderIdentity:
        """Who makes the vectors; calls the function once with one text if the dimension is not yet known.

        Raises:
            EmbedderError: that call returned no vector.
        """
        if self._identity is not None:
            return self._identity
        return self._learn(self._rows([PROBE_TEXT], expected_dim=None).shape[1])

    def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> Matrix:
        """One vector for each text, checked.

        Args:
            texts: any number of texts; the function gets them in order, batch by batch.
            progress: told after each batch.

        Returns:
            (n, d) float32, a copy of what the function returned, unit rows if asked for.

        Raises:
            ValidationError: texts is not a sequence of encodable strings.
            EmbedderError: the function returned another shape, no numbers, a number that is not finite in
                float32 or, to be normalised, a row of zeros.
        """
        checked = check_texts(texts)
        total = len(checked)
        batches: list[Matrix] = []
        for start in range(0, total, self._batch_size):
            batch = checked[start : start + self._batch_size]
            rows = self._rows(batch, self._identity.dim if self._identity is not None else None)
            self._learn(rows.shape[1])
            batches.append(rows)
            if progress is not None:
                progress(start + len(batch), total)
        return np.concatenate(batches) if batches else np.empty((0, self.identity.dim), dtype=np.float32)

    def _learn(self, dim: int) -> EmbedderIdentity:
        """Fix the dimension if this thread is the first to know it.

        Raises:
            EmbedderError: another thread has meanwhile learnt another dimension.
        """
        with self._lock:
            if self._identity is None:
                self._identity = replace(self._unmeasured, dim=dim)
            elif self._identity.dim != dim:
                raise EmbedderError(
                    f"{self!r}: the function returned vectors of {self._identity.dim} and of {dim} numbers;"
                    " it must always return the same"
                )
            return self._identity

    def _rows(self, batch: list[str], expected_dim: int | None) -> Matrix:
        """(len(batch), d) float32: one call of the function, checked and, if asked for, normalised."""
        answer = self._function(list(batch))
        try:
            values = np.asarray(answer)
        except (ValueError, TypeError, RuntimeError) as error:
            # Ragged lists: ValueError; tensors on a device: TypeError; with a gradient: RuntimeError.
            raise EmbedderError(
                f"{self!r}: for {len(batch)} texts the function returned a {type(answer).__name__} that numpy"
                f" cannot read as a matrix ({error}); return (n, d) numbers"
            ) from error
        wanted = f"({len(batch)}, {'d' if expected_dim is None else expected_dim})"
        if values.dtype.kind not in "fiu":
            raise EmbedderError(
                f"{self!r}: expected {wanted} numbers for {len(batch)} texts, the function returned a"
                f" {type(answer).__name__} of dtype {values.dtype} and shape {values.shape}"
            )
        right = values.ndim == 2 and values.shape[0] == len(batch) and values.shape[1] >= 1
        if not right or (expected_dim is not None and values.shape[1] != expected_dim):
            raise EmbedderError(
                f"{self!r}: expected shape {wanted} for {len(batch)} texts, the function returned"
                f" {values.shape}; return one row for each text, in order"
            )
        # Complaints come before any arithmetic could turn what is wrong into something that looks right.
        with np.errstate(over="ignore"):
            finite = np.all(np.isfinite(values.astype(np.float32)), axis=1)
        self._refuse(finite, batch, "a number that is not finite in float32")
        if not self._unmeasured.normalised:
            return values.astype(np.float32)
        self._refuse(np.any(values, axis=1), batch, "only zeros, which have no direction; or pass normalise=False")
        # Squares of very small numbers would all be 0, so each row is first scaled by its largest number.
        wide = values.astype(np.float64)
        scaled = wide / np.abs(wide).max(axis=1, keepdims=True)
        rows: Matrix = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
        return rows

    def _refuse(self, good: npt.NDArray[np.bool_], batch: list[str], what: str) -> None:
        """Raise for the first row that is not good, quoting its text."""
        if not good.all():
            row = int(np.argmin(good))
            raise EmbedderError(f"{self!r}: row {row} of {len(batch)}, for the text {batch[row][:80]!r}, holds {what}")


def _restore(
    function: EmbedFunction, model: str, dim: int | None, batch_size: int, version: str, digest: str, normalise: bool
) -> CallableEmbedder:
    return CallableEmbedder(
        function, model, dim, batch_size=batch_size, version=version, digest=digest, normalise=normalise
    )


def _name_of(function: EmbedFunction) -> str:
    """The function's module and qualified name; its type's for an object that is called."""
    named: Any = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"
