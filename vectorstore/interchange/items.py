"""What readers make of files: a stream of items, each a record of some kind with its vectors, or a deletion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.importing import Space
from vectorstore.vectors.arrays import numeric

NO_VECTORS: Mapping[str, Vector] = MappingProxyType({})


class Vector(NamedTuple):
    """A vector of a record, and where it comes from; `updates` and `text_hash` are those that another store kept."""

    numbers: Any
    source: str = "caller"
    confidence: float = 1.0
    updates: int | None = None
    text_hash: bytes | None = None


class Item(NamedTuple):
    """A record of a kind as a mapping, or, without one, the deletion of `id`.

    `vectors` are by the name of the space within the kind ("text", "relation"); `place` is a line, a row or a number of
    the source, for messages. `size` is how many bytes of memory it takes, roughly, where its reader can tell.
    """

    kind: str
    record: dict[str, Any] | None
    place: int
    id: str = ""
    vectors: Mapping[str, Vector] = NO_VECTORS
    size: int = 0


@dataclass(eq=False)
class Source:
    """Something that records can be read from, as often as needed.

    Attributes:
        path: of the file or folder.
        read: gives the items from the first one on.
        unit: what a place counts: "line", "row".
        total: how many items there are, when that is known.
        spaces: the identity of vector spaces by their full names; a space that is not here is the caller's own.
        metrics: how the vectors of spaces that are not in `spaces` were compared there, by kind.
        replays: a log in which an id may come again, and may be deleted.
        notes: what had to be said about it, such as a torn last line; complete when `read` has come to its end.
        left_out: what has no kind here, counted by its name.
        lengths: what to do when vectors of one space differ in length, where that can be said; "" where it cannot.
    """

    path: Path
    read: Callable[[], Iterator[Item]]
    unit: str = "line"
    total: int | None = None
    spaces: dict[str, Space] = field(default_factory=dict)
    replays: bool = False
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    lengths: str = ""

    def at(self, place: int) -> str:
        """How messages name a place."""
        return f"{self.path}:{place}" if self.unit == "line" else f"{self.path}: {self.unit} {place}"

    def within(self, item: Item) -> str:
        """How messages name the record of an item."""
        return f"{self.at(item.place)}: {item.kind}"

    def note(self, text: str) -> None:
        """Say something once, however often it is read."""
        if text not in self.notes:
            self.notes.append(text)


def as_numbers(vector: Any, where: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(d,) float32 numbers of a vector, from a list or an array.

    Raises:
        ValidationError: it is no list of numbers; the message starts with `where`.
    """
    try:
        array = numeric(vector)
        with np.errstate(over="ignore"):  # what is too large is refused where it is written
            numbers = np.asarray(array, dtype=np.float32)
    except OverflowError:
        raise ValidationError(f"{where}: expected finite numbers below 1e19, got one above 1e308") from None
    except (ValueError, TypeError) as error:
        raise ValidationError(f"{where}: expected numbers of one length, got something else: {error}") from None
    if numbers.ndim != 1:
        got = "lists within a list" if numbers.ndim else "no list"
        raise ValidationError(f"{where}: expected a list of numbers, got {got}: {vector!r:.80}")
    return numbers
