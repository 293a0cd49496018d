"""Retrieval that spreads: what a search finds, and what the graph leads to from there, in one scored list.

After spreading activation (Collins and Loftus 1975): what was found passes some of its score along its edges, less with
every step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from vectorstore.errors import ValidationError
from vectorstore.reason.graph import Graph
from vectorstore.records import Record
from vectorstore.records.where import Node, with_ids
from vectorstore.results import Hit, Hits
from vectorstore.storage import Connection
from vectorstore.storage.edges import DIRECTIONS, Direction, Edge, edges_at
from vectorstore.sync import SnapshotMoved

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Spread:
    """How scores spread.

        score = own + share * max over ways from another seed of (the seed's own score * product of (damping * weight))

    An edge's weight counts as 0..1: what is above as 1, what is below as 0. A seed passes on its own score only when
    that is above 0, and a way has at most `hops` edges; it may lead over other seeds.

    Attributes:
        seeds: so many of the best of the search pass their scores on.
        hops: 0 or more, how many edges far.
        damping: 0..1, what is left of a score after each edge.
        share: 0 or more, the weight of what arrives; 0 ranks seeds and neighbours by their own scores.
        direction: along the edges, against them, or either way.
        types: only edges of these types; None for all.
    """

    seeds: int = 10
    hops: int = 1
    damping: float = 0.5
    share: float = 1.0
    direction: Direction = "both"
    types: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("hops", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValidationError(f"Spread.{name}: expected a whole number of at least {least}, got {value!r}")
        for name, most, said in (("damping", 1.0, "0..1"), ("share", sys.float_info.max, "0 or more")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
                raise ValidationError(f"Spread.{name}: expected {said}, got {value!r}")
        if self.direction not in DIRECTIONS:
            raise ValidationError(f"Spread.direction: expected one of {', '.join(DIRECTIONS)}, got {self.direction!r}")


@dataclass(frozen=True)
class Association(Generic[R]):
    """A record that came to mind.

    Attributes:
        record: it.
        score: own + arrived.
        own: its own score for the query; 0 for a record that has no vector.
        arrived: what reached it from a seed, weighted.
        seed: the id of that seed; None when nothing did.
        path: the edges from the seed to it, in order, each as it is stored.
        hit: the search's own answer for it, with its parts; None for a record that has no vector.
    """

    record: R
    score: float
    own: float
    arrived: float
    seed: str | None
    path: tuple[Edge, ...]
    hit: Hit[R] | None


@dataclass(frozen=True)
class _Wave:
    """What reaches a record along one way."""

    value: float
    seed: str
    path: tuple[Edge, ...]

    @property
    def order(self) -> tuple[float, int, tuple[str, ...]]:
        """The strongest first, then the shortest, then by the edges' ids."""
        return -self.value, len(self.path), tuple(edge.id for edge in self.path)


Answer = Callable[[Connection, int, Node | None, bool], Hits[R]]
"""The best so many by a query, under a filter, exactly or not, within a read snapshot."""


def associated(
    graph: Graph[R],
    answer: Answer[R],
    node: Node | None,
    exact: bool,
    spread: Spread,
    k: int,
    left_out: Collection[str] = (),
) -> list[Association[R]]:
    """The best of a search and what they lead to, best first, ties by id; all of one commit.

    Args:
        graph: within whose edges to spread.
        answer: searches.
        node: a filter over what the search finds; neighbours need not match.
        exact: whether the search compares with everything; neighbours always are.
        spread: how far and how much.
        k: at most so many.
        left_out: ids that are no answer, though ways may lead over them.

    Cost: a search, one query a hop and direction, and an exact search among the neighbours.
    """
    while True:
        with graph.reading() as connection:
            try:
                seeds = answer(connection, spread.seeds, node, exact)
                best = _spread(connection, graph, {hit.id: hit.score for hit in seeds}, spread)
                others = sorted(best.keys() - {hit.id for hit in seeds} - set(left_out))
                among = with_ids(None, others, graph.ends.schema)
                near = answer(connection, len(others), among, True) if others else ()
            except SnapshotMoved:
                continue
            records = graph.ends.by_ids(connection, others)
        break
    hits = {hit.id: hit for hit in (*seeds, *near)}
    found = []
    for id in [*(hit.id for hit in seeds), *others]:
        hit, wave = hits.get(id), best.get(id)
        own, arrived = 0.0 if hit is None else hit.score, 0.0 if wave is None else spread.share * wave.value
        record = hit.record if hit is not None else records[id][1]
        seed, path = (None, ()) if wave is None else (wave.seed, wave.path)
        found.append(Association(record, own + arrived, own, arrived, seed, path, hit))
    found.sort(key=lambda each: (-each.score, each.record.id))
    return found[:k]


def _spread(connection: Connection, graph: Graph[R], seeds: dict[str, float], spread: Spread) -> dict[str, _Wave]:
    """Id -> the strongest that reaches it from another seed.

    Of each record the strongest wave of each hop goes on; since a wave from a seed back to itself does not count, the
    strongest of a second seed goes on beside it.
    """
    node = graph.filter(spread.types, None)
    waves = {id: [_Wave(score, id, ())] for id, score in seeds.items() if score > 0}
    best: dict[str, _Wave] = {}
    for _ in range(spread.hops):
        coming: dict[str, list[_Wave]] = {}
        for outgoing in (True, False):
            if spread.direction not in ("both", "out" if outgoing else "in"):
                continue
            for edge in edges_at(connection, graph.edges, graph.ends, list(waves), node, outgoing=outgoing):
                near, far = (edge.source, edge.target) if outgoing else (edge.target, edge.source)
                factor = spread.damping * min(1.0, max(0.0, edge.weight))
                if factor > 0:
                    passed = [_Wave(wave.value * factor, wave.seed, (*wave.path, edge)) for wave in waves[near]]
                    coming.setdefault(far, []).extend(passed)
        waves = {id: _two_best(some) for id, some in coming.items()}
        for id, some in waves.items():
            for wave in some:
                if wave.seed != id and (id not in best or wave.order < best[id].order):
                    best[id] = wave
    return best


def _two_best(waves: list[_Wave]) -> list[_Wave]:
    """The best wave, and the best of another seed."""
    waves.sort(key=lambda wave: wave.order)
    second = next((wave for wave in waves if wave.seed != waves[0].seed), None)
    return waves[:1] if second is None else [waves[0], second]
