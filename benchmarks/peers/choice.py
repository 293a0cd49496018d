"""Which effort a system is judged at. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.peers.base import BUCKETS, Effort

FLOOR = 0.99
FULL = 0.9995
"""A filtered recall that rounds to 1.000."""

NOISE = 1.05

Point = dict[str, Any]
"""`effort`, `recall`, `p50_ms`, and under `filters` the last two for each share."""


def tuned(points: Sequence[Point], floor: float = FLOOR) -> Point:
    """The fastest point with enough recall; when none has it, the one with the most (of equals the fastest).

    Of points that are as fast but for the noise of one measurement it is the first, that is the least effort.
    """
    enough = [point for point in points if point["recall"] >= floor]
    if enough:
        fastest = min(float(point["p50_ms"]) for point in enough)
        return next(point for point in enough if point["p50_ms"] <= NOISE * fastest)
    return max(points, key=lambda point: (point["recall"], -point["p50_ms"]))


def filtered(points: Sequence[Point]) -> dict[str, Effort]:
    """For each share the effort that is fastest at full recall, else the one with the most recall."""
    chosen = {}
    for share in BUCKETS:
        measured = [{"effort": point["effort"], **point["filters"][share]} for point in points if point["filters"]]
        if measured:
            chosen[share] = tuned(measured, FULL)["effort"]
    return chosen


def words(effort: Effort) -> str:
    """An effort as it is printed."""
    return ", ".join(f"{name} {value}" for name, value in effort.items()) or "defaults"
