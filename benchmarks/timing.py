"""Fair timing: contestants take turns within one run, so that a slow minute of the machine hits all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.dataset import Matrix

BLOCK = 50
WARM_UP = 5
BUDGET = 20.0
"""A contestant gets fewer queries when all of them would take more seconds than this, but at least 100."""


def interleave(
    contestants: dict[str, Callable[[Matrix], Any]], queries: Matrix
) -> tuple[dict[str, list[float]], dict[str, list[Any]]]:
    """(seconds of each query, the answers) by contestant; each is asked the same queries in blocks, in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    answers: dict[str, list[Any]] = {name: [] for name in contestants}
    for answer in contestants.values():
        for query in queries[:WARM_UP]:
            answer(query)
    for start in range(0, len(queries), BLOCK):
        for name, answer in contestants.items():
            if start >= 100 and sum(seconds[name]) > BUDGET:
                continue
            for query in queries[start : start + BLOCK]:
                begun = time.perf_counter()
                found = answer(query)
                seconds[name].append(time.perf_counter() - begun)
                answers[name].append(found)
    return seconds, answers


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """The median and the 95th percentile, in milliseconds."""
    p50, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95), "queries": len(seconds)}


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(np.median(np.array(values)))
