"""Typed relations between concepts: walks over them equal brute force, and nobody sees an edge that hangs."""

from __future__ import annotations

import gzip
import json
import random
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from conftest import Clock

import vectorstore as vs

Triple = tuple[str, str, str]


def add_graph(store: vs.Store, names: str, triples: list[Triple]) -> None:
    store.concepts.add([{"id": name, "name": name} for name in names])
    store.relations.add([{"source": a, "type": kind, "target": b} for a, kind, b in triples])


def triples_of(store: vs.Store) -> set[Triple]:
    return {(each.source, each.type, each.target) for each in store.relations}


def distances(triples: list[Triple], start: str, types: set[str] | None, direction: str, depth: int) -> dict[str, int]:
    """Breadth first, by the book."""
    found, queue = {start: 0}, deque([start])
    while queue:
        at = queue.popleft()
        if found[at] == depth:
            continue
        for a, kind, b in triples:
            if types is not None and kind not in types:
                continue
            for near, far in [(a, b)] * (direction != "in") + [(b, a)] * (direction != "out"):
                if near == at and far not in found:
                    found[far] = found[at] + 1
                    queue.append(far)
    del found[start]
    return found


@pytest.mark.parametrize("seed", range(6))
def test_walks_equal_brute_force_with_cycles_and_their_paths_are_real(store: vs.Store, seed: int) -> None:
    dice = random.Random(seed)
    names = "abcdefghijklmnop"
    triples = sorted({(dice.choice(names), dice.choice("xyz"), dice.choice(names)) for _ in range(40)})
    add_graph(store, names, triples)

    for direction in ("out", "in", "both"):
        for types in (None, "x", ["y", "z"]):
            for depth in (1, 2, None):
                wanted = None if types is None else {types} if isinstance(types, str) else set(types)
                found = store.concepts.related("a", types, direction, depth)  # type: ignore[arg-type]
                expected = distances(triples, "a", wanted, direction, depth or 99)
                assert {each.concept.id: each.depth for each in found} == expected
                assert [each.depth for each in found] == sorted(each.depth for each in found)
                for each in found:
                    places = {"a"}
                    assert len(each.path) == each.depth
                    for edge in each.path:
                        assert (edge.source, edge.type, edge.target) in triples
                        ways = [(edge.source, edge.target)] * (direction != "in") + [(edge.target, edge.source)] * (
                            direction != "out"
                        )
                        places = {far for near, far in ways if near in places}
                    assert each.concept.id in places


def test_a_walk_can_be_bounded_and_filtered(store: vs.Store) -> None:
    store.concepts.add([{"id": name, "name": name} for name in "abcd"])
    store.relations.add(
        [
            {"source": "a", "type": "x", "target": "b", "confidence": 0.9},
            {"source": "a", "type": "x", "target": "c", "confidence": 0.1},
            {"source": "b", "type": "x", "target": "d", "confidence": 0.9},
        ]
    )

    assert [each.concept.id for each in store.concepts.related("a", depth=None, limit=2)] == ["b", "c"]
    sure = store.concepts.related("a", depth=None, where={"confidence__gte": 0.5})
    assert [each.concept.id for each in sure] == ["b", "d"]
    with pytest.raises(vs.NotFound, match="'z'"):
        store.concepts.related("z")
    for bad in ({"direction": "up"}, {"depth": 0}, {"limit": True}, {"where": {"nothing": 1}}):
        with pytest.raises(vs.ValidationError):
            store.concepts.related("a", **bad)  # type: ignore[arg-type]


def test_the_same_relation_is_never_there_twice_but_lexical_ones_differ_by_their_words(store: vs.Store) -> None:
    store.concepts.add([{"id": "strict", "name": "strict"}, {"id": "strictness", "name": "strictness"}])
    one = {"source": "strictness", "type": "derivationally_related", "target": "strict"}
    words = {"source_lemma": "strictness", "target_lemma": "strict"}
    store.relations.add([one, {**one, **words}])

    with pytest.raises(vs.DuplicateId):
        store.relations.add(one)
    store.relations.upsert({**one, "confidence": 0.5})
    assert len(store.relations) == 2
    assert [each.confidence for each in store.relations.find({"source_lemma": None})] == [0.5]
    with pytest.raises(vs.ValidationError, match=r"relations\[0\].target: no record of concepts has the id 'gone'"):
        store.relations.add({**one, "target": "gone"})


# -- edges and their ends ----------------------------------------------------------------------------------------------


def test_a_deleted_concept_takes_its_relations_along_and_brings_them_back(store: vs.Store, clock: Clock) -> None:
    edges = [("a", "x", "b"), ("b", "x", "c"), ("c", "y", "a"), ("a", "self", "a"), ("c", "z", "b")]
    add_graph(store, "abc", edges)
    store.relations.delete(where={"type": "z"})
    clock.move(seconds=1)

    store.concepts.delete("a")
    assert triples_of(store) == {("b", "x", "c")}
    assert (
        store.relations.count() == 1 and store.concepts.related("c", direction="both", depth=None)[0].concept.id == "b"
    )
    clock.move(seconds=1)
    store.concepts.restore("a")

    assert triples_of(store) == set(edges) - {("c", "z", "b")}  # what was deleted by itself stays deleted


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_relation_comes_back_with_the_last_of_its_ends(store: vs.Store, clock: Clock, order: str) -> None:
    add_graph(store, "abc", [("a", "x", "b"), ("b", "x", "c")])
    for name in "ab":
        clock.move(seconds=1)
        store.concepts.delete(name)
    assert triples_of(store) == set()

    clock.move(seconds=1)
    store.concepts.restore(order[0])
    assert ("a", "x", "b") not in triples_of(store)
    store.concepts.restore(order[1])

    assert triples_of(store) == {("a", "x", "b"), ("b", "x", "c")}


def test_a_relation_that_waits_follows_an_end_that_is_deleted_again(store: vs.Store, clock: Clock) -> None:
    add_graph(store, "ab", [("a", "x", "b")])
    for name in "ab":
        clock.move(seconds=1)
        store.concepts.delete(name)
    clock.move(seconds=1)
    store.concepts.restore("a")
    clock.move(seconds=1)
    store.concepts.delete("a")
    clock.move(seconds=1)
    store.concepts.restore("b")
    store.concepts.restore("a")

    assert triples_of(store) == {("a", "x", "b")}


def test_no_relation_is_made_to_or_restored_without_a_live_end(store: vs.Store, clock: Clock) -> None:
    add_graph(store, "ab", [("a", "x", "b")])
    identity = store.relations.find()[0].id
    store.relations.delete(identity)
    clock.move(seconds=1)
    store.concepts.delete("b")

    with pytest.raises(vs.ConflictError, match="'b', which is deleted; restore that first"):
        store.relations.restore(identity)
    with pytest.raises(vs.ValidationError, match="'b' of concepts is deleted; restore it first"):
        store.relations.add({"source": "a", "type": "y", "target": "b"})
    store.concepts.restore("b")
    assert store.relations.restore(identity) == 1


def test_an_expired_concept_is_led_to_by_nothing(store: vs.Store, clock: Clock) -> None:
    store.concepts.add(
        [{"id": "a", "name": "a"}, {"id": "b", "name": "b", "expires_at": clock.now + timedelta(hours=1)}]
    )
    store.relations.add({"source": "a", "type": "x", "target": "b"})
    clock.move(hours=2)

    assert store.concepts.related("a") == []
    store.concepts.add({"id": "c", "name": "c"})  # whoever writes to the kind next writes the expiry down
    assert triples_of(store) == set()
    assert store.concepts.purge(expired=True) == 1 and store.relations.purge(older_than=timedelta(0)) == 0


def test_purging_a_concept_erases_its_relations(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    with open_store(embedder=None) as store:
        add_graph(store, "abc", [("b", "x", "c")])
        store.relations.add({"source": "a", "type": "x", "target": "b", "description": "kilroywashere"})
        store.concepts.delete("a")
        assert store.concepts.purge("a") == 1
        assert store.check().findings == ()
    for path in (tmp_path / "kb").rglob("*"):
        if path.is_file():
            assert b"kilroywashere" not in path.read_bytes()
    with open_store(embedder=None) as store:
        assert triples_of(store) == {("b", "x", "c")} and store.relations.restore(where={"version__gte": 1}) == 0


def test_frozen_clocks_and_transactions_keep_edges_whole(store: vs.Store) -> None:
    add_graph(store, "ab", [("a", "x", "b")])
    with pytest.raises(ZeroDivisionError), store.transaction():
        store.concepts.delete("a")
        assert triples_of(store) == set()
        raise ZeroDivisionError
    assert triples_of(store) == {("a", "x", "b")}
    with store.transaction():
        store.concepts.delete(["a", "b"])
        store.concepts.restore(["b", "a"])
    assert triples_of(store) == {("a", "x", "b")}


@pytest.mark.parametrize("seed", range(3))
def test_random_deletions_and_restores_never_show_a_hanging_edge(store: vs.Store, clock: Clock, seed: int) -> None:
    dice = random.Random(seed)
    names = "abcdef"
    triples = sorted({(dice.choice(names), "x", dice.choice(names)) for _ in range(14)})
    add_graph(store, names, triples)
    alive = set(names)
    for _ in range(30):
        clock.move(seconds=1)
        name = dice.choice(names)
        if name in alive:
            store.concepts.delete(name)
        else:
            store.concepts.restore(name)
        alive ^= {name}
        assert triples_of(store) == {each for each in triples if each[0] in alive and each[2] in alive}


# -- WordNet -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wordnet() -> list[dict[str, str]]:
    """The relations among the synsets of the shipped sample."""
    path = Path(__file__).parent / "data" / "wordnet" / "relations.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def test_the_hypernyms_of_a_dog_in_wordnet(wordnet: list[dict[str, str]]) -> None:
    from vectorstore.data import wordnet_sample

    fields = ("id", "name", "lemmas", "synset", "definition")
    with vs.open(":memory:", embedder=None) as store:
        store.concepts.add({field: [each[field] for each in wordnet_sample()] for field in fields})
        columns = ("source", "type", "target", "source_lemma", "target_lemma")
        store.relations.add({name: [each.get(name) for each in wordnet] for name in columns})
        dog = store.concepts.find({"synset": "dog.n.01"})[0]

        above = store.concepts.related(dog.id, ["hypernym", "instance_hypernym"], depth=None)
        triples = [(each["source"], each["type"], each["target"]) for each in wordnet]
        assert {each.concept.id: each.depth for each in above} == distances(
            triples, dog.id, {"hypernym", "instance_hypernym"}, "out", 99
        )
        assert {"animal", "organism"} <= {each.concept.name for each in above}
        below = store.concepts.related(dog.id, "hyponym")
        assert {each.concept.id for each in below} == {
            each.concept.id for each in store.concepts.related(dog.id, "hypernym", "in")
        }
        assert len(set(store.relations.facets("type"))) > 10
