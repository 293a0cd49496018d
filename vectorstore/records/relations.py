"""Typed relations between concepts: the edges of the graph that they form."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated

from pydantic import StringConstraints

from vectorstore.records.markers import INDEXED, Ref
from vectorstore.records.record import Record, Unit

Type = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"\S")]


class Relation(Record, table="relations"):
    """`source` stands in a relation to `target`: its hypernym is, its antonym is, it is a part of it.

    Any type will do; WordNet's 27 pointers come as they are, the lexical ones with the two words that they are between.
    A relation belongs to both its concepts. Its id follows from what it says, so the same one is never there twice.
    """

    source: Annotated[str, Ref("concepts", cascade=True)]
    target: Annotated[str, Ref("concepts", cascade=True)]
    type: Annotated[Type, INDEXED]
    source_lemma: str | None = None
    target_lemma: str | None = None
    confidence: Unit = 1.0
    description: str = ""

    def derived_id(self) -> str:
        """What it says, as 16 characters."""
        return said(self.context, self.source, self.type, self.target, self.source_lemma, self.target_lemma)


def said(*parts: str | None) -> str:
    """16 characters that stand for a statement: two of a million share them with a chance of 6e-18 (BLAKE2b-96)."""
    digest = hashlib.blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=12).digest()
    return base64.urlsafe_b64encode(digest).decode()
