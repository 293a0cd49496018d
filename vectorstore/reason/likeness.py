"""How alike two sets of parts are, by the vectors of what plays them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vectorstore.vectors import Matrix

Parts = dict[str, tuple[str, list[str]]]
"""Folded name -> (name, the ids of what plays it)."""
Pair = tuple[str, str, float]


@dataclass(frozen=True)
class Likeness:
    """How alike they are.

    Attributes:
        mean: 0..1, the sum of the similarities of corresponding parts over the number of parts of the larger side.
        evidence: (corresponding parts, corresponding players), each with its similarity.
    """

    mean: float
    evidence: tuple[tuple[Pair, ...], tuple[Pair, ...]]


def likeness(one: Parts, two: Parts, vectors: Mapping[str, Matrix | None]) -> Likeness:
    """Parts of the same name correspond; the others so that their similarities have the greatest sum.

    The similarity of two parts is that of their players: the greatest sum of cosines (those below 0 count as 0) of
    players one to one, over the number of players of the larger part.

    Args:
        one: the parts of one side.
        two: of the other.
        vectors: (d,) by id; None, or left out, for a player without one, which is like nothing.
    """
    found: dict[tuple[str, str], tuple[float, list[Pair]]] = {}
    rest_one, rest_two = [key for key in one if key not in two], [key for key in two if key not in one]
    for key, other in [*((key, key) for key in one if key in two), *((a, b) for a in rest_one for b in rest_two)]:
        found[key, other] = _players(one[key][1], two[other][1], vectors)
    chosen = [(key, key) for key in one if key in two]
    if rest_one and rest_two:
        table = np.array([[found[a, b][0] for b in rest_two] for a in rest_one])
        chosen += [(rest_one[row], rest_two[column]) for row, column in best_pairs(table)]
    order = list(one)
    chosen.sort(key=lambda pair: order.index(pair[0]))
    total = sum(found[pair][0] for pair in chosen)
    parts = tuple((one[a][0], two[b][0], found[a, b][0]) for a, b in chosen)
    players = tuple(pair for names in chosen for pair in found[names][1])
    return Likeness(total / max(len(one), len(two), 1), (parts, players))


def _players(one: Sequence[str], two: Sequence[str], vectors: Mapping[str, Matrix | None]) -> tuple[float, list[Pair]]:
    table = np.array([[_cosine(a, b, vectors) for b in two] for a in one])
    pairs = [(one[row], two[column], float(table[row, column])) for row, column in best_pairs(table)]
    return sum(value for _, _, value in pairs) / max(len(one), len(two)), pairs


def _cosine(a: str, b: str, vectors: Mapping[str, Matrix | None]) -> float:
    """0..1; the same player is wholly like itself, with a vector or without."""
    if a == b:
        return 1.0
    one, two = vectors.get(a), vectors.get(b)
    if one is None or two is None:
        return 0.0
    wide, other = one.astype(np.float64), two.astype(np.float64)
    product = float(wide @ other)
    lengths = float(np.sqrt((wide @ wide) * (other @ other)))
    return min(1.0, max(0.0, product / lengths)) if lengths else 0.0


def best_pairs(table: npt.NDArray[np.float64]) -> list[tuple[int, int]]:
    """Rows and columns one to one with the greatest sum (Crouse 2016, as scipy has it), by ascending row."""
    if min(table.shape) == 1:  # the commonest case needs no solver, and scipy takes half a second to come
        row, column = (int(at) for at in np.unravel_index(int(table.argmax()), table.shape))
        return [(row, column)]
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table, maximize=True)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True)]
