"""The seam between texts and vectors: what an embedder is, and who made a vector space.

Owns the `Embedder` protocol, the identity that the catalog stores beside a vector space, and the check of
texts that every embedder makes first. Never loads a model and imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from vectorstore.errors import ValidationError

Matrix = npt.NDArray[np.float32]
"""Vectors as rows: (n, d) float32."""

Progress = Callable[[int, int], None]
"""Called as progress(done, total) after each batch: done grows, and the last call is (total, total)."""


@dataclass(frozen=True)
class EmbedderIdentity:
    """Who made the vectors. Vectors of equal identities may be compared; others may not.

    Attributes:
        model: the model's name, without the folder or the site that it came from.
        version: the version of the road from a text to a vector around that model (tokens, pooling); "" if
            unknown.
        digest: sha256 of the weights in lower-case hex, or of what stands for them; "" if unknown.
        dim: numbers in a vector, at least 1.
        normalised: true if every row has length 1, so that the inner product is the cosine.
    """

    model: str
    version: str
    digest: str
    dim: int
    normalised: bool

    def __post_init__(self) -> None:
        """Refuse what the catalog could not hold or compare."""
        for name, kind in _IDENTITY_TYPES.items():
            value = getattr(self, name)
            # bool is an int to Python, but a dimension of True is a mistake.
            if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
                raise ValidationError(f"EmbedderIdentity.{name}: expected {kind.__name__}, got {value!r}")
        if not self.model:
            raise ValidationError("EmbedderIdentity.model: expected the model's name, got ''")
        if self.dim < 1:
            raise ValidationError(f"EmbedderIdentity.dim: expected at least 1, got {self.dim}")

    def __str__(self) -> str:
        """As messages name it."""
        mark = self.digest[:8] or "no digest"
        return f"{self.model!r} {self.version} ({self.dim} dimensions, {mark})".replace("  ", " ")

    def to_dict(self) -> dict[str, str | int | bool]:
        """The fields by name, fit for JSON; `from_dict` reads them back to an equal identity."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, object]) -> EmbedderIdentity:
        """The identity that `to_dict` wrote.

        Raises:
            ValidationError: a key is missing, unknown or of the wrong type.
        """
        expected = [field.name for field in fields(cls)]
        if sorted(stored) != sorted(expected):
            raise ValidationError(f"embedder identity: expected the keys {expected}, got {sorted(stored)}")
        return cls(**stored)  # type: ignore[arg-type]  # __post_init__ checks the types


_IDENTITY_TYPES: dict[str, type] = {
    "model": str,
    "version": str,
    "digest": str,
    "dim": int,
    "normalised": bool,
}


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors; used by several threads at once."""

    @property
    def identity(self) -> EmbedderIdentity:
        """Who makes the vectors; the same for the embedder's whole life. May read files, loads no model."""
        ...

    def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> Matrix:
        """One vector for each text.

        Args:
            texts: any number of texts, also none; an empty text has a vector too.
            progress: told after each batch; what it raises ends the call.

        Returns:
            (n, d) float32, row i for texts[i], all finite, owned by the caller.

        Raises:
            ValidationError: texts is not a sequence of encodable strings.
            EmbedderError: the model is absent, damaged or returned nonsense.
        """
        ...


def check_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list, proved to be strings that UTF-8 can hold.

    Raises:
        ValidationError: one string instead of a sequence, an item that is no string, or a lone surrogate.
    """
    if isinstance(texts, str | bytes):
        raise ValidationError(f"texts: expected a sequence of strings, got one {type(texts).__name__}; pass [text]")
    checked = list(texts)
    for position, text in enumerate(checked):
        if not isinstance(text, str):
            raise ValidationError(f"texts[{position}]: expected a string, got {type(text).__name__}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValidationError(
                f"texts[{position}]: no valid Unicode at character {error.start}"
                f" ({text[error.start : error.end]!r}); decode the source with the right encoding"
            ) from error
    return checked


def check_positive(name: str, value: int) -> int:
    """The value, proved to be a whole number of at least 1.

    Raises:
        ValidationError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError(f"{name}: expected a whole number of at least 1, got {value!r}")
    return value
