"""Causes and the graph they form: merging, walks, simple paths and spreading, each against brute force."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Clock, clustered, queries_like

import vectorstore as vs
from vectorstore.reason import associating
from vectorstore.reason.graph import Graph

Opener = Callable[..., vs.Store]


def add_memories(store: vs.Store, names: Any) -> None:
    store.memories.add([{"id": name, "content": f"memory {name}"} for name in names])


def random_graph(store: vs.Store, seed: int, names: str, edges: int) -> list[vs.CausalEdge]:
    """With cycles, loops, edges side by side of several types, and equal weights."""
    dice = random.Random(seed)
    add_memories(store, names)
    rows = {
        (dice.choice(names), dice.choice("xyz"), dice.choice(names)): dice.choice([-0.5, 0.0, 0.3, 0.5, 0.9, 2.0])
        for _ in range(edges)
    }
    store.causes.add([{"source": a, "type": t, "target": b, "weight": w} for (a, t, b), w in rows.items()])
    return list(store.causes)


# -- edges -------------------------------------------------------------------------------------------------------------


def test_an_edge_is_found_from_both_ends_the_strongest_first(store: vs.Store) -> None:
    """4c causal edge: one outgoing edge, target and weight equal; the guide's missing `get_causal_edges_to`."""
    store.memories.add(
        [
            {"id": "cause", "content": "Implemented caching layer", "importance": 0.8},
            {"id": "effect", "content": "Response time improved 10x", "importance": 0.9},
            {"id": "other", "content": "Other"},
        ]
    )
    store.causes.add({"source": "cause", "target": "effect", "weight": 0.95, "type": "improvement"})
    found = store.causes.leaving("cause")
    assert [(each.target, each.weight, each.type) for each in found] == [("effect", 0.95, "improvement")]
    assert store.causes.reaching("effect") == found
    store.causes.add([{"source": "cause", "target": "other", "weight": w, "type": str(w)} for w in (2.0, -1.0, 0.95)])
    assert [each.weight for each in store.causes.leaving("cause")] == [2.0, 0.95, 0.95, -1.0]
    tied = [each.id for each in store.causes.leaving("cause") if each.weight == 0.95]
    assert tied == sorted(tied)
    assert [each.weight for each in store.causes.reaching("other", 2)] == [2.0, 0.95]
    assert store.causes.leaving("effect") == store.causes.leaving("nobody") == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"weight": math.nan}, r"causes\[1\].weight: expected a finite number, got nan"),
        ({"weight": math.inf}, r"causes\[1\].weight: expected a finite number, got inf"),
        ({"target": "nobody"}, r"causes\[1\].target: .*'nobody'"),
        ({"source": "nobody"}, r"causes\[1\].source: .*'nobody'"),
        ({"samples": 0}, r"causes\[1\].samples: expected at least 1"),
        ({"type": " "}, r"causes\[1\].type"),
    ],
)
@pytest.mark.parametrize("verb", ["add", "upsert", "merge"])
def test_an_edge_that_is_none_is_refused_and_nothing_written(
    store: vs.Store, verb: str, fields: dict[str, object], said: str
) -> None:
    """O7: weights are finite, ends are there; NaN has a message of its own."""
    add_memories(store, "ab")
    good = {"source": "b", "target": "a"}
    with pytest.raises(vs.ValidationError, match=said):
        getattr(store.causes, verb)([good, {"source": "a", "target": "b", **fields}])
    assert len(store.causes) == 0


def test_an_edge_that_is_there_conflicts_is_replaced_or_merged_as_one_asks(store: vs.Store) -> None:
    add_memories(store, "ab")
    edge = {"source": "a", "target": "b", "weight": 0.5, "description": "seen"}
    store.causes.add(edge)
    with pytest.raises(vs.DuplicateId):
        store.causes.add({**edge, "weight": 0.9})
    store.causes.upsert({**edge, "weight": 0.9})
    assert [each.weight for each in store.causes] == [0.9]
    merged = store.causes.merge({"source": "a", "target": "b", "weight": 0.1, "samples": 3, "tags": ["new"]})
    assert len(merged) == 1 and merged[0].weight == pytest.approx(0.3) and merged[0].samples == 4
    assert (merged[0].description, merged[0].tags) == ("seen", ("new",))
    assert list(store.causes) == merged
    other = store.causes.merge(vs.CausalEdge(source="a", target="b", type="blocks", weight=-1.0))
    assert len(store.causes) == 2 and other[0].id != merged[0].id, "another type is another edge"


@pytest.mark.parametrize("seed", range(3))
def test_merging_gives_the_weighted_mean_of_all_observations_in_whatever_batches(store: vs.Store, seed: int) -> None:
    dice = random.Random(seed)
    add_memories(store, "abc")
    seen: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for _ in range(6):
        batch = []
        for _ in range(dice.randrange(1, 6)):
            pair, weight, samples = (dice.choice("abc"), dice.choice("abc")), dice.uniform(-5, 5), dice.randrange(1, 9)
            seen.setdefault(pair, []).append((weight, samples))
            batch.append({"source": pair[0], "target": pair[1], "weight": weight, "samples": samples})
        now = store.causes.merge(batch)
        assert [(each.source, each.target) for each in now] == list(
            dict.fromkeys((each["source"], each["target"]) for each in batch)
        )
    for edge in store.causes:
        given = seen.pop((edge.source, edge.target))
        assert edge.samples == sum(many for _, many in given)
        assert edge.weight == pytest.approx(math.fsum(w * n for w, n in given) / edge.samples)
    assert not seen
    huge = store.causes.merge([{"source": "a", "target": "b", "type": "huge", "weight": 1.7e308}] * 3)
    assert huge[0].weight == pytest.approx(1.7e308)


# -- walks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_effects_and_causes_are_each_others_inverse_and_equal_brute_force(store: vs.Store, seed: int) -> None:
    names = "abcdefghijkl"
    edges = random_graph(store, seed, names, 24)
    strong = {"weight__gte": 0.3}

    def reached(start: str, depth: int) -> dict[str, int]:
        found, frontier = {start: 0}, {start}
        for step in range(1, depth + 1):
            far = {e.target for e in edges if e.source in frontier and e.weight >= 0.3}
            frontier = {name for name in far if name not in found}
            found.update(dict.fromkeys(frontier, step))
        del found[start]
        return found

    for depth in (1, 2, 99):
        effects = {a: reached(a, depth) for a in names}
        for a in names:
            limit = None if depth == 99 else depth
            found = store.memories.effects(a, limit, where=strong)
            assert {each.record.id: each.depth for each in found} == effects[a]
            for each in found:
                way = [a, *(edge.target for edge in each.path)]
                assert way[-1] == each.record.id and [edge.source for edge in each.path] == way[:-1]
            back = store.memories.causes(a, limit, where=strong)
            assert {each.record.id: each.depth for each in back} == {b: effects[b][a] for b in names if a in effects[b]}
    assert len(store.memories.effects("a", None, limit=2)) <= 2


def test_nobody_walks_over_what_is_deleted_or_of_another_type(store: vs.Store) -> None:
    add_memories(store, "abcd")
    store.causes.add([{"source": a, "target": b, "type": t} for a, b, t in ("abx", "bcx", "cdx", "ady", "dax")])
    assert [each.record.id for each in store.memories.effects("a", None)] == ["b", "d", "c"]
    assert [each.record.id for each in store.memories.effects("a", None, type="x")] == ["b", "c", "d"]
    assert [each.record.id for each in store.memories.causes("a", 2, type=["x", "y"])] == ["d", "c"]
    store.memories.delete("b")
    assert [each.record.id for each in store.memories.effects("a", None)] == ["d"]
    assert [path.nodes for path in store.memories.paths("a", "c")] == []
    for walk in (store.memories.effects, store.memories.causes, store.memories.paths):
        with pytest.raises(vs.NotFound, match="'b'"):
            walk("b")
    with pytest.raises(vs.NotFound, match="'nobody'"):
        store.memories.paths("a", "nobody")


# -- paths -------------------------------------------------------------------------------------------------------------


def every_path(
    edges: list[vs.CausalEdge], source: str, target: str | None, depth: int
) -> Iterator[tuple[vs.CausalEdge, ...]]:
    """By the book: one edge after the other, never to where one was."""
    stack: list[tuple[vs.CausalEdge, ...]] = [()]
    while stack:
        path = stack.pop()
        at = path[-1].target if path else source
        if path and (target is None or at == target):
            yield path
        if len(path) < depth:
            been = {source, *(edge.target for edge in path)}
            stack += [(*path, edge) for edge in edges if edge.source == at and edge.target not in been]


@pytest.mark.parametrize("seed", range(5))
def test_simple_paths_equal_brute_force_in_order(store: vs.Store, seed: int) -> None:
    edges = random_graph(store, seed, "abcdefgh", 26)
    for depth in range(1, 7):
        for target in (None, *"bcdefgha"):
            expected = sorted(
                every_path(edges, "a", target, depth), key=lambda path: (len(path), [(-e.weight, e.id) for e in path])
            )
            found = store.memories.paths("a", target, depth)
            assert [[edge.id for edge in path.edges] for path in found] == [[e.id for e in path] for path in expected]
            assert found.complete
            for path in found:
                assert (
                    path.nodes == ("a", *(edge.target for edge in path.edges)) and len(set(path.nodes)) == len(path) + 1
                )
                assert path.strength == pytest.approx(math.prod(edge.weight for edge in path.edges))
            few = store.memories.paths("a", target, depth, limit=3)
            assert few[:] == found[:3] and few.complete == (len(found) <= 3)
    typed = store.memories.paths("a", None, 4, type="x", where={"weight__gt": 0})
    chosen = [edge for edge in edges if edge.type == "x" and edge.weight > 0]
    assert len(typed) == len(list(every_path(chosen, "a", None, 4)))


def test_cycles_and_complete_graphs_do_paths_no_harm(store: vs.Store) -> None:
    names = [f"n{number}" for number in range(12)]
    add_memories(store, names)
    store.causes.add([{"source": a, "target": b} for a in names for b in names])
    found = store.memories.paths("n0", "n1", 4)
    assert len(found) == 1 + 10 + 10 * 9 + 10 * 9 * 8 and found.complete
    cut = store.memories.paths("n0", "n1", 11, limit=50)
    assert len(cut) == 50 and not cut.complete
    assert len(store.memories.paths("n0", "n0", 4)) == 0


def test_any_kind_with_two_ends_and_a_type_makes_a_graph() -> None:
    class Room(vs.Record, table="rooms"):
        """A place."""

    class Door(vs.Record, table="doors"):
        """From one to another."""

        source: Annotated[str, vs.Ref("rooms", cascade=True)]
        target: Annotated[str, vs.Ref("rooms", cascade=True)]
        type: Annotated[str, vs.INDEXED] = "door"

    with vs.open(":memory:", embedder=None, kinds=[Room, Door]) as store:
        store.collection(Room).add([{"id": name} for name in ("hall", "kitchen", "garden")])
        store.collection(Door).add([{"source": "hall", "target": "kitchen"}, {"source": "kitchen", "target": "garden"}])
        graph: Graph[Room] = Graph(store._sync, "rooms", "doors")
        assert [(each.record.id, each.depth) for each in graph.reached("hall", depth=None)] == [
            ("kitchen", 1),
            ("garden", 2),
        ]
        assert [path.nodes for path in graph.paths("hall", "garden")] == [("hall", "kitchen", "garden")]
        assert graph.paths("hall", "garden")[0].strength == 1.0


# -- spreading ---------------------------------------------------------------------------------------------------------


def spread_by_the_book(
    own: dict[str, float], seeds: list[str], edges: list[Any], spread: vs.Spread
) -> dict[str, tuple[float, float]]:
    """Id -> (score, arrived) by trying every walk from every seed."""
    arrived: dict[str, float] = {}
    for seed in seeds:
        walks = [(seed, own[seed])] if own[seed] > 0 else []
        for _ in range(spread.hops):
            further = []
            for at, value in walks:
                for edge in edges:
                    for near, far, way in ((edge.source, edge.target, "out"), (edge.target, edge.source, "in")):
                        if near == at and spread.direction in ("both", way):
                            passed = value * spread.damping * min(1.0, max(0.0, edge.weight))
                            if passed > 0:
                                further.append((far, passed))
            walks = further
            for at, value in walks:
                if at != seed:
                    arrived[at] = max(arrived.get(at, 0.0), value)
    return {
        id: (own[id] + spread.share * arrived.get(id, 0.0), spread.share * arrived.get(id, 0.0))
        for id in {*seeds, *arrived}
    }


@pytest.mark.parametrize(
    "spread",
    [
        vs.Spread(),
        vs.Spread(seeds=3, hops=3),
        vs.Spread(seeds=2, hops=2, direction="out", damping=0.9),
        vs.Spread(seeds=4, hops=2, direction="in", share=2.5),
        vs.Spread(hops=2, types=("x", "y"), damping=1.0),
        vs.Spread(seeds=5, share=0.0),
        vs.Spread(seeds=5, hops=0),
    ],
)
def test_what_spreads_equals_trying_every_walk(open_store: Opener, clock: Clock, spread: vs.Spread) -> None:
    store = open_store()
    names, dice = [f"m{n:02}" for n in range(30)], random.Random(3)
    data = clustered(30, 8, groups=4, seed=4)
    store.memories.add([{"id": n, "content": n, "importance": dice.random()} for n in names], vectors=data)
    rows = {(dice.choice(names), dice.choice("xyz"), dice.choice(names)): dice.uniform(-0.5, 1.5) for _ in range(50)}
    store.causes.add([{"source": a, "type": t, "target": b, "weight": w} for (a, t, b), w in rows.items()])
    edges = [edge for edge in store.causes if spread.types is None or edge.type in spread.types]
    for query in queries_like(data, 5, seed=5):
        every = store.memories.recall(query, 30, exact=True)
        own, seeds = {hit.id: hit.score for hit in every}, every.ids[: spread.seeds]
        expected = spread_by_the_book(own, seeds, edges, spread)
        order = sorted(expected, key=lambda id: (-expected[id][0], id))
        found = store.memories.associate(query, 100, spread=spread)
        assert [each.record.id for each in found] == order
        for each in found:
            score, arrived = expected[each.record.id]
            assert (each.score, each.arrived) == (pytest.approx(score), pytest.approx(arrived))
            assert each.score == each.own + each.arrived and each.own == pytest.approx(own[each.record.id])
            assert each.hit is not None and sum(each.hit.parts.values()) == pytest.approx(each.own)
            if each.seed is None:
                assert not each.path and not arrived
                continue
            assert each.seed in seeds and each.seed != each.record.id
            ends, value = {each.seed}, own[each.seed] * spread.share
            for edge in each.path:
                ends = {b for a, b in ((edge.source, edge.target), (edge.target, edge.source)) if a in ends}
                value *= spread.damping * min(1.0, edge.weight)
            assert each.record.id in ends and value == pytest.approx(each.arrived), "the path explains the score"
        assert [each.record.id for each in store.memories.associate(query, 4, spread=spread)] == order[:4]


def test_a_memory_that_is_nothing_like_the_query_is_found_by_its_cause(store: vs.Store) -> None:
    store.memories.add(
        [
            {"id": "cache", "content": "implemented a caching layer"},
            {"id": "fast", "content": "response time improved", "tier": 4},
            {"id": "other", "content": "lunch was good"},
        ]
    )
    store.causes.add({"source": "cache", "target": "fast", "weight": 0.95, "type": "improvement"})
    found = store.memories.associate("caching layer", 2, spread=vs.Spread(seeds=1), where={"tier": 3})
    assert [each.record.id for each in found] == ["cache", "fast"]
    assert found[1].seed == "cache" and [edge.type for edge in found[1].path] == ["improvement"]
    like = store.memories.associate(vs.Id("cache"), 5, spread=vs.Spread(seeds=1, hops=2))
    assert "cache" not in [each.record.id for each in like]
    assert store.memories.associate("caching layer", where={"tier": 9}) == []


def test_concepts_spread_along_relations_and_have_paths(store: vs.Store) -> None:
    store.concepts.add([{"id": name, "name": name} for name in ("dog", "canine", "carnivore", "cat")])
    store.relations.add(
        [
            {"source": a, "type": "hypernym", "target": b, "confidence": c}
            for a, b, c in (("dog", "canine", 1.0), ("canine", "carnivore", 0.5), ("cat", "carnivore", 1.0))
        ]
    )
    own = {hit.id: hit.score for hit in store.concepts.search("dog", k=4)}
    found = store.concepts.associate("dog", spread=vs.Spread(seeds=1, hops=2, direction="out"))
    scores = {each.record.id: each.score for each in found}
    assert scores == {
        "dog": pytest.approx(own["dog"]),
        "canine": pytest.approx(own["canine"] + 0.5 * own["dog"]),
        "carnivore": pytest.approx(own["carnivore"] + 0.125 * own["dog"]),
    }
    assert [path.nodes for path in store.concepts.paths("dog", "carnivore")] == [("dog", "canine", "carnivore")]
    assert store.concepts.paths("dog", "carnivore")[0].strength == 0.5


def test_a_neighbour_without_a_vector_is_found_too(open_store: Opener) -> None:
    store = open_store()
    store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=np.eye(2, dtype=np.float32))
    store.concepts.add({"id": "c", "name": "c"})
    store.relations.add({"source": "a", "type": "x", "target": "c"})
    found = store.concepts.associate(np.array([1.0, 0.0]), spread=vs.Spread(seeds=1))
    assert [(each.record.id, each.own, each.score) for each in found] == [("a", 1.0, 1.0), ("c", 0.0, 0.5)]
    assert found[1].hit is None


def test_what_another_thread_commits_meanwhile_is_seen_as_a_whole_or_not(
    open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the search and the walk the store moves on, and others search it already."""
    store = open_store(embedder="hash:256")
    add_memories(store, "abc")
    store.causes.add({"source": "a", "target": "b"})
    before = store.memories.associate("memory a", 9, spread=vs.Spread(seeds=1))
    plain, moved = associating.edges_at, []

    def edges_at(*args: Any, **options: Any) -> Any:
        if not moved:
            moved.append(True)
            with ThreadPoolExecutor(1) as another:
                another.submit(add_memories, store, "de").result()
                another.submit(store.memories.recall, "memory d").result()
        return plain(*args, **options)

    monkeypatch.setattr(associating, "edges_at", edges_at)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(store.memories.associate, "memory a", 9, spread=vs.Spread(seeds=1)).result(timeout=30)
    assert found == before and {each.record.id for each in found} == {"a", "b"} and moved


@pytest.mark.parametrize(
    "bad",
    [{"seeds": 0}, {"hops": -1}, {"damping": 1.5}, {"damping": math.nan}, {"share": -1}, {"direction": "up"}],
)
def test_a_bad_spread_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(vs.ValidationError, match=f"Spread.{next(iter(bad))}"):
        vs.Spread(**bad)
