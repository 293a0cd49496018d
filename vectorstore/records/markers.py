"""Markers for `Annotated` hints: what a field means beyond its type.

A kind says everything the store needs in its hints; `schema.py` reads them. `FOLDED`, `INDEXED`, `UNIQUE`, `TERM`
and `EMBEDDED` are flags; `Ref` points to another kind.
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

TERM = Flag("term")
"""Holds terms, one or a list of them: `{"terms__has": "king"}` finds all records that name it in such a field."""


@dataclass(frozen=True)
class Ref:
    """Holds the id of a record of another kind; a foreign key."""

    kind: str
