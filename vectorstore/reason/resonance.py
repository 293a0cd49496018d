"""Which forms resonate: what they are about, and what has gathered in them.

    score = (J + C) / 2

J is the Jaccard similarity of their identities (what both have, as a share of what either has), C the cosine of their
intensities by symbol, decayed as of now. Where neither form has an identity the score is C. It is symmetric, and 0..1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from vectorstore.records import EchoForm
from vectorstore.records.where import Node
from vectorstore.storage import Connection
from vectorstore.storage.lattice import LatticeTables


@dataclass(frozen=True)
class Resonance:
    """A form that shares something with another one.

    Attributes:
        form: it.
        score: 0..1, bigger is nearer.
        cosine: of the decayed intensities by symbol.
        identities: those that both have, sorted.
    """

    form: EchoForm
    score: float
    cosine: float
    identities: tuple[str, ...]


def nearest(
    tables: LatticeTables, connection: Connection, form: EchoForm, now: int, node: Node | None
) -> list[tuple[str, float, float, tuple[str, ...]]]:
    """(id, score, cosine, shared identities) of the others that share anything, best first, ties by id.

    Cost: all terms of the forms that share a symbol or an identity with it.
    """
    mine = tables.vectors(connection, [form.id], now).get(form.id, {})
    length = math.sqrt(math.fsum(weight * weight for weight in mine.values()))
    found = []
    for name, product, squares, identities in tables.near(connection, mine, form.identities, now, node):
        if name != form.id:
            lengths = length * math.sqrt(squares)
            cosine = min(1.0, product / lengths) if lengths else 0.0
            score, shared = _score(cosine, form.identities, json.loads(identities))
            if score > 0.0:
                found.append((name, score, cosine, shared))
    return sorted(found, key=lambda each: (-each[1], each[0]))


def _score(cosine: float, one: Iterable[str], other: Iterable[str]) -> tuple[float, tuple[str, ...]]:
    first, second = set(one), set(other)
    either, both = first | second, first & second
    return ((len(both) / len(either) + cosine) / 2 if either else cosine), tuple(sorted(both))
