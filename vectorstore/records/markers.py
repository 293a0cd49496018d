"""Markers for `Annotated` hints: what a field means beyond its type.

A kind says everything the store needs in its hints; `schema.py` reads them. `FOLDED`, `INDEXED`, `UNIQUE`, `EMBEDDED`
and `RISING` are flags; `Ref` points to another kind, `Listed` has the values of a list indexed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """A marker without arguments."""

    name: str


EMBEDDED = Flag("embedded")
"""Part of the text that is embedded and of full-text search, in field order."""

INDEXED = Flag("indexed")
"""Has a SQL index: filters on it are fast."""

UNIQUE = Flag("unique")
"""At most one live record of the kind has a given value (None counts as no value)."""

FOLDED = Flag("folded")
"""A name: kept as written, compared in folded form (NFKC, case-folded, single spaces)."""

RISING = Flag("rising")
"""A count or a time that never falls while the record lives: of the stored value and a written one the larger stays."""


@dataclass(frozen=True)
class Ref:
    """Holds the id of a record of another kind; a foreign key.

    With `cascade` the record belongs to the other one: it is deleted, restored and purged together with it, and needs
    it to be live.
    """

    kind: str
    cascade: bool = False


@dataclass(frozen=True)
class Listed:
    """A list whose values have a table of their own, so that `has`, `has_any` and `has_all` use an index.

    A text counts as a list of one: there `eq` and `in` use it, which costs records without that text nothing.
    Without keys the elements are texts; with keys they are objects, and the values are what stands under those keys
    (`Listed("source", "target")` finds a mapping by either side). With FOLDED beside it values are compared as names.
    With `ref` each value is the id of a record of that kind, which must be there and cannot be purged before.
    """

    keys: tuple[str, ...] = ()
    ref: str | None = None

    def __init__(self, *keys: str, ref: str | None = None) -> None:
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "ref", ref)


LISTED = Listed()
"""A list of texts with an index."""
