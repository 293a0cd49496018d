"""Two ranked lists as one: reciprocal ranks, or weighted scores.

"rrf", reciprocal rank fusion (Cormack, Clarke and Buettcher 2009):

    score = sum over the sides of weight / (constant + rank),  rank 1 for the best

over the best `depth` of each side; what a side did not propose gets 0 from it.

"weighted", a convex combination of scores (Bruch, Gai and Ingber 2023, section 4):

    score = sum over the sides of weight * (s - least) / (best - least),  weights divided by their sum

with the least score that the measure can give (cosine -1; BM25, l2 and inner products 0, below which nothing counts)
and the best that was found for this query. A record's score needs no rank, so the other side's score of what only one
side proposed is looked up: its vector is compared, its text scored. And the answer is that of the whole lists, not
of their heads: no unseen record can have more than the last of each side would get (the threshold of Fagin, Lotem and
Naor 2003), and the lists are deepened until all that is handed on is above that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vectorstore.errors import ValidationError
from vectorstore.results import Side
from vectorstore.search.stages import Ranked

SIDES = ("vector", "text")
WEIGHTS = {"rrf": {"vector": 1.0, "text": 1.0}, "weighted": {"vector": 0.8, "text": 0.2}}
LEAST = {"cosine": -1.0, "ip": 0.0, "l2": 0.0, "bm25": 0.0}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e100


@dataclass(frozen=True)
class Fusion:
    """How a hybrid search makes one list of two.

    Attributes:
        method: "weighted" (scores) or "rrf" (reciprocal ranks); docs/adr/0005 says why the first is the default.
        constant: of the reciprocal ranks, above 0; a bigger one makes the heads of the lists count less.
        weights: of "vector" and "text", at least 0 and not both 0; "weighted" divides them by their sum. None for 1 and
            1 with "rrf", 0.8 and 0.2 with "weighted", as Bruch, Gai and Ingber chose (benchmarks/retrieval.py).
        depth: how many of each side are fused, 1..100,000; or as many as are wanted, if those are more.

    Raises:
        ValidationError: a value out of range.
    """

    method: Literal["rrf", "weighted"] = "weighted"
    constant: float = 60
    weights: Mapping[str, float] | None = None
    depth: int = 100

    def __post_init__(self) -> None:
        if self.method not in ("rrf", "weighted"):
            raise ValidationError(f"Fusion.method: expected 'rrf' or 'weighted', got {self.method!r}")
        if not _is_number(self.constant) or self.constant == 0:
            raise ValidationError(f"Fusion.constant: expected a number above 0, got {self.constant!r}")
        if isinstance(self.depth, bool) or not isinstance(self.depth, int) or not 1 <= self.depth <= 100_000:
            raise ValidationError(f"Fusion.depth: expected a whole number in 1..100000, got {self.depth!r}")
        given = WEIGHTS[self.method] if self.weights is None else self.weights
        if not isinstance(given, Mapping) or set(given) != set(SIDES):
            raise ValidationError(f"Fusion.weights: expected both, as in {WEIGHTS[self.method]}, got {given!r}")
        if not all(map(_is_number, given.values())) or not any(given.values()):
            raise ValidationError(f"Fusion.weights: expected numbers of at least 0, not all 0, got {given!r}")

    def weight(self, side: str) -> float:
        """How much a side counts."""
        given = WEIGHTS[self.method] if self.weights is None else self.weights
        return given[side] / (sum(given.values()) if self.method == "weighted" else 1.0)

    def __str__(self) -> str:
        how = f"reciprocal ranks (constant {self.constant:g})" if self.method == "rrf" else "weighted scores"
        return f"{how}, weights {', '.join(f'{side} {self.weight(side):g}' for side in SIDES)}"


DEFAULT = Fusion()


def as_fusion(value: object) -> Fusion:
    """The option `fusion`, checked: the name of a method, or a Fusion."""
    if isinstance(value, Fusion):
        return value
    if isinstance(value, str):
        return Fusion(value)  # type: ignore[arg-type]  # it checks its method
    raise ValidationError(f"fusion: expected 'rrf', 'weighted' or a Fusion, got {value!r}")


def by_ranks(fusion: Fusion, rows: Mapping[int, Mapping[str, Side]]) -> list[tuple[int, dict[str, float]]]:
    """(row, parts), best first, by reciprocal ranks; ties by row.

    Args:
        fusion: constant and weights.
        rows: row -> what each side says of it; a side that is absent, or gives no rank, did not propose it.
    """
    return _sorted(
        (row, {side: _reciprocal(fusion, side, sides.get(side)) for side in SIDES}) for row, sides in rows.items()
    )


def _reciprocal(fusion: Fusion, side: str, seen: Side | None) -> float:
    if seen is None or seen.rank is None:
        return 0.0
    return fusion.weight(side) / (fusion.constant + seen.rank + 1)


@dataclass(frozen=True)
class Scale:
    """One side's scores stretched to 0..1 and weighed: `least` becomes 0, `best` the weight."""

    weight: float
    least: float
    best: float

    def part(self, score: float | None) -> float:
        """What a score adds to the sum; none adds 0."""
        if score is None or self.best <= self.least:
            return 0.0
        return self.weight * max(0.0, score - self.least) / (self.best - self.least)


def by_scores(
    scales: Mapping[str, Scale], rows: Mapping[int, Mapping[str, Side]]
) -> list[tuple[int, dict[str, float]]]:
    """(row, parts), best first, by weighted scores; ties by row."""
    return _sorted(
        (row, {side: scales[side].part(None if side not in sides else sides[side].score) for side in SIDES})
        for row, sides in rows.items()
    )


def _sorted(found: Any) -> list[tuple[int, dict[str, float]]]:
    return sorted(found, key=lambda item: (-math.fsum(item[1].values()), item[0]))


def merged(near: Sequence[Ranked], text: Sequence[Ranked]) -> dict[int, dict[str, Side]]:
    """Row -> what each side says of it."""
    rows: dict[int, dict[str, Side]] = {}
    for item in (*near, *text):
        rows.setdefault(item.row, {}).update(item.sides)
    return rows
