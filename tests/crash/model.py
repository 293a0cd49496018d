"""What a store should hold, in a dict, and what it should answer, by brute force.

Vectors are small whole numbers, so that sums and products have no rounding and scores can be compared with `==`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

DIM = 16


@dataclass(frozen=True)
class Entry:
    """One record; `stamp` grows with every vector that is written, so that ties go to the smaller one."""

    definition: str
    domain: str | None
    version: int
    vector: tuple[float, ...]
    stamp: int


@lru_cache(maxsize=20_000)
def vector_of(name: str, revision: int, dim: int = DIM) -> tuple[float, ...]:
    """A vector that follows from an id and a revision, never zero."""
    random = np.random.default_rng(zlib.crc32(f"{name}:{revision}".encode()))
    numbers = random.integers(-8, 9, dim)
    numbers[0] += 9 * (not numbers.any())
    return tuple(float(number) for number in numbers)


def matrix_of(ids: Iterable[str], revision: int) -> np.ndarray:
    """(n, DIM) float32."""
    return np.array([vector_of(name, revision) for name in ids], dtype=np.float32)


def fields_of(name: str, revision: int, domain: str | None = None) -> dict[str, Any]:
    """The record that goes with `vector_of`."""
    return {"id": name, "name": name, "definition": f"{name} as of {revision}", "domain": domain}


def similarities(query: Sequence[float], vectors: np.ndarray, metric: str) -> np.ndarray:
    """(n,) float64 scores as a hit shows them, computed in float64."""
    point, wide = np.asarray(query, dtype=np.float64), vectors.astype(np.float64)
    if metric == "l2":
        return 1.0 / (1.0 + np.sqrt(np.square(wide - point).sum(axis=1)))
    products = (wide * point).sum(axis=1)
    if metric == "ip":
        return products
    lengths = np.sqrt(np.square(wide).sum(axis=1)) * np.sqrt(np.square(point).sum())
    return np.clip(products / lengths, -1.0, 1.0)


class Model:
    """Live and deleted records of one kind."""

    def __init__(self) -> None:
        self.live: dict[str, Entry] = {}
        self.gone: dict[str, Entry] = {}
        self.clock = 0

    def copy(self) -> Model:
        """A model of its own."""
        other = Model()
        other.live, other.gone, other.clock = dict(self.live), dict(self.gone), self.clock
        return other

    def put(
        self,
        name: str,
        definition: str,
        vector: Sequence[float] | None,
        domain: str | None = None,
    ) -> None:
        """Add or overwrite; None keeps the vector."""
        before = self.live.get(name) or self.gone.pop(name, None)
        version = 1 if before is None else before.version + 1
        if vector is None:
            assert before is not None
            self.live[name] = Entry(definition, domain, version, before.vector, before.stamp)
            return
        self.clock += 1
        self.live[name] = Entry(definition, domain, version, tuple(map(float, vector)), self.clock)

    def delete(self, ids: Iterable[str]) -> None:
        """Out of every answer; missing ids are no error."""
        for name in ids:
            if name in self.live:
                entry = self.live.pop(name)
                self.gone[name] = replace(entry, version=entry.version + 1)

    def restore(self, ids: Iterable[str]) -> None:
        """Back, as the newest vectors, in their old order."""
        for name in sorted((name for name in ids if name in self.gone), key=lambda n: self.gone[n].stamp):
            entry = self.gone.pop(name)
            self.clock += 1
            self.live[name] = replace(entry, version=entry.version + 1, stamp=self.clock)

    def ranked(
        self, query: Sequence[float], metric: str = "cosine", among: Iterable[str] | None = None
    ) -> list[tuple[str, float]]:
        """All (id, score), best first; ties by age of the vector."""
        names = [name for name in (self.live if among is None else among) if name in self.live]
        if not names:
            return []
        vectors = np.array([self.live[name].vector for name in names], dtype=np.float64)
        scores = similarities(query, vectors, metric)
        stamps = np.array([self.live[name].stamp for name in names])
        order = np.lexsort((stamps, -scores))
        return [(names[place], float(scores[place])) for place in order]

    def summary(self) -> dict[str, tuple[str, str | None, int]]:
        """What a stream over the records should give."""
        return {name: (entry.definition, entry.domain, entry.version) for name, entry in self.live.items()}
