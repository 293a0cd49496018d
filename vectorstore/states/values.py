"""Values of a state that Python has no type for: numeric artifacts, tags nobody knows, types of the caller's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.errors import ValidationError

Numbers = npt.NDArray[np.float32] | npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NumericArtifact:
    """A vector with what is known about it.

    Attributes:
        vector: (d,) float32 or float64, kept bit for bit, read-only; d >= 1, all finite. Lists, and arrays of other
            numbers, become float64.
        metadata: text keys, values of any type that a state can keep.

    Raises:
        ValidationError: anything else, such as text, booleans, nested lists or NaN.
    """

    vector: Numbers
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __init__(self, vector: Iterable[float] | Numbers, metadata: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "vector", _numbers(vector))
        if metadata is not None and not (isinstance(metadata, Mapping) and all(isinstance(k, str) for k in metadata)):
            raise ValidationError(f"artifact.metadata: expected a mapping with text keys, got {metadata!r:.80}")
        object.__setattr__(self, "metadata", dict(metadata or {}))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, NumericArtifact):
            return NotImplemented
        same = self.vector.dtype == other.vector.dtype and np.array_equal(self.vector, other.vector)
        return same and self.metadata == other.metadata

    def __hash__(self) -> int:
        return hash((self.vector.dtype.str, self.vector.tobytes()))

    def __repr__(self) -> str:
        return f"NumericArtifact({len(self.vector)} x {self.vector.dtype}, metadata={dict(self.metadata)!r})"


def _numbers(given: Any) -> Numbers:
    kept = isinstance(given, np.ndarray) and given.dtype in (np.float32, np.float64)
    try:
        items = given if isinstance(given, np.ndarray) else list(given)
        if not kept and any(isinstance(item, bool | np.bool_ | str | bytes) for item in items):
            raise ValueError("holds text or booleans")
        found = np.array(items, dtype=given.dtype.newbyteorder("=") if kept else np.float64)
    except (TypeError, ValueError) as error:
        raise ValidationError(f"artifact.vector: expected numbers, got {given!r:.80} ({error})") from None
    if found.ndim != 1 or not len(found):
        raise ValidationError(f"artifact.vector: expected one row of at least one number, got the shape {found.shape}")
    if not np.isfinite(found).all():
        place = int(np.flatnonzero(~np.isfinite(found))[0])
        raise ValidationError(f"artifact.vector[{place}]: expected a finite number, got {found[place]}")
    found.flags.writeable = False
    return found


class Opaque(dict[str, Any]):
    """A tagged value that this program has no type for, as it is written; saved again unchanged."""


@dataclass(frozen=True)
class StateType:
    """A type of the caller's own.

    Attributes:
        tag: how it is marked in the file; no built-in tag.
        type: exactly this class, no subclass.
        pack: the object as values that a state can keep, under text keys.
        unpack: the object from what `pack` gave.
    """

    tag: str
    type: type
    pack: Callable[[Any], Mapping[str, Any]]
    unpack: Callable[[dict[str, Any]], Any]
