"""Simple paths through a graph, many at a time: partial paths are rows of arrays, and all of a block grow at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import overload

import numpy as np
import numpy.typing as npt

from vectorstore.storage.edges import Edge, EdgeRow

Numbers = npt.NDArray[np.int64]
BLOCK = 1 << 17
"""At most about so many partial paths grow at once (some 10 MB)."""


@dataclass(frozen=True)
class Path:
    """One way from a record to another.

    Attributes:
        nodes: ids of the records, from the first to the last; no one comes twice.
        edges: what leads from each to the next.
    """

    nodes: tuple[str, ...]
    edges: tuple[Edge, ...]

    @property
    def strength(self) -> float:
        """The product of the edges' weights."""
        return math.prod(edge.weight for edge in self.edges)

    def __len__(self) -> int:
        """How many edges."""
        return len(self.edges)


@dataclass(frozen=True)
class Paths(Sequence[Path]):
    """Paths in order; `complete` says whether they are all that there are."""

    paths: tuple[Path, ...]
    complete: bool

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Path]: ...
    def __getitem__(self, place: int | slice) -> Path | Sequence[Path]:
        return self.paths[place]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.paths)


def simple_paths(edges: Sequence[EdgeRow], source: str, target: str | None, depth: int, limit: int) -> Paths:
    """The simple paths of 1..depth edges from a node to another, or to any; see `Graph.paths` for the order.

    Args:
        edges: all that may be on such a path; others do no harm.
        source: where they begin.
        target: where they end; None for anywhere. The source itself: none, since it would come twice.
        depth: at most so many edges.
        limit: at most so many paths.
    """
    ordered = sorted(edges, key=itemgetter(0))  # by id; sorting by weight keeps that order of equal ones
    ordered.sort(key=itemgetter(4), reverse=True)
    sources, targets = [row[2] for row in ordered], [row[3] for row in ordered]
    number = {name: place for place, name in enumerate(dict.fromkeys((source, *sources, *targets)))}
    end = None if target is None else number.get(target)
    if target is not None and (end is None or end == 0):
        return Paths((), True)
    starts = np.array([number[name] for name in sources], dtype=np.int64)
    ends = np.array([number[name] for name in targets], dtype=np.int64)
    by_start = np.argsort(starts, kind="stable")  # of one node the stronger edges stay first
    first = np.searchsorted(starts[by_start], np.arange(len(number) + 1))
    names = list(number)
    found: list[Path] = []
    for length in range(1, depth + 1):
        useful = _useful(starts, ends, len(number), end, length)
        for taken in _grown(by_start, first, ends, useful, length):
            for row in taken[: limit + 1 - len(found)].tolist():
                if len(found) == limit:
                    return Paths(tuple(found), False)
                steps = tuple(Edge(*ordered[edge]) for edge in row)
                found.append(Path((source, *(names[ends[edge]] for edge in row)), steps))
    return Paths(tuple(found), True)


def _useful(starts: Numbers, ends: Numbers, count: int, end: int | None, length: int) -> list[npt.NDArray[np.bool_]]:
    """For 0..length edges left: (n,) whether a walk of exactly so many leads from a node to the end."""
    last = np.ones(count, dtype=bool) if end is None else np.arange(count) == end
    useful = [last]
    for _ in range(length):
        nearer = np.zeros(count, dtype=bool)
        nearer[starts[useful[-1][ends]]] = True
        useful.append(nearer)
    return useful


def _grown(
    by_start: Numbers, first: Numbers, ends: Numbers, useful: list[npt.NDArray[np.bool_]], length: int
) -> Iterator[Numbers]:
    """Blocks of (m, length) edges of simple paths from node 0, in order.

    Depth first by blocks: a block of partial paths is grown by one edge, and the first part of what became of it is
    finished before the rest, so that memory is bounded and the first paths come soon.
    """
    if not useful[length][0]:
        return
    empty = np.empty((1, 0), np.int64)
    stack: list[tuple[Numbers, Numbers]] = [(empty, np.zeros((1, 1), np.int64))]  # edges, nodes
    while stack:
        edges, nodes = stack.pop()
        done = edges.shape[1]
        if done == length:
            yield edges
            continue
        at = nodes[:, -1]
        many = first[at + 1] - first[at]
        total = int(many.sum())
        if total > BLOCK and len(edges) > 1:  # the first half first: it lies on top
            half = len(edges) // 2
            stack += [(edges[half:], nodes[half:]), (edges[:half], nodes[:half])]
            continue
        row = np.repeat(np.arange(len(edges)), many)
        within = np.arange(total) - np.repeat(np.cumsum(many) - many, many)
        step = by_start[np.repeat(first[at], many) + within]
        after = ends[step]
        good = useful[length - done - 1][after]
        good &= ~(nodes[row] == after[:, None]).any(axis=1)
        row, step, after = row[good], step[good], after[good]
        if len(row):
            grown = np.concatenate([edges[row], step[:, None]], axis=1)
            stack.append((grown, np.concatenate([nodes[row], after[:, None]], axis=1)))
