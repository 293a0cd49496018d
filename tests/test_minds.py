"""Architectures with their lineage, intelligences with their life, episodes with their outcomes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from functools import partial

import pytest
from conftest import Clock

import vectorstore as vs
from vectorstore.errors import ConflictError

Opener = Callable[..., vs.Store]


def transformers(store: vs.Store, clock: Clock) -> None:
    """What the example of the source system holds."""
    fitness = vs.Fitness(overall=0.75, capability=0.80)
    store.architectures.add(
        vs.Architecture(id="t", name="Transformer", paradigm="neural", substrate="pytorch", fitness=fitness)
    )
    clock.move(minutes=1)
    store.architectures.add(
        [
            {"id": "cnn", "name": "CNN", "paradigm": "neural", "substrate": "tensorflow"},
            {"id": "l", "name": "LogicNet", "paradigm": "symbolic", "substrate": "prolog"},
        ]
    )


# -- architectures -----------------------------------------------------------------------------------------------------


def test_an_architecture_comes_back_and_a_paradigm_lists_the_newest_first(store: vs.Store, clock: Clock) -> None:
    """4c architecture round-trip; by paradigm: CNN (newer), then Transformer."""
    transformers(store, clock)
    found = store.architectures.get("t")
    assert found is not None and (found.substrate, found.generation, found.parents) == ("pytorch", 0, ())
    assert found.fitness == vs.Fitness(overall=0.75, capability=0.8, efficiency=0.5)
    neural = store.architectures.find({"paradigm": "neural"}, order="-created_at")
    assert [each.name for each in neural] == ["CNN", "Transformer"]
    assert [each.id for each in store.architectures.find({"fitness.overall__gt": 0.7})] == ["t"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"paradigm": "steam"}, "paradigm"),
        ({"fitness": {"overall": 1.5}}, r"fitness.overall: expected 0..1, got 1.5"),
        ({"fitness": {"overal": 0.5}}, "fitness.overal: no such field"),
        ({"generation": -1}, "generation: expected at least 0"),
        ({"parents": ["nobody"], "generation": 1}, "parents: .*'nobody'"),
        ({"name": ""}, "name"),
    ],
)
def test_an_architecture_that_is_not_one_is_refused(store: vs.Store, fields: dict[str, object], said: str) -> None:
    """O7: what the source keeps as unchecked JSON is checked."""
    with pytest.raises(vs.ValidationError, match=said):
        store.architectures.add({"name": "x", **fields})
    assert len(store.architectures) == 0


def test_lineage_leads_up_and_down_and_has_no_cycles(store: vs.Store) -> None:
    store.architectures.add([{"id": "a", "name": "A"}, {"id": "b", "name": "B"}])
    store.architectures.add(
        [
            {"id": "c", "name": "C", "generation": 1, "parents": ["a", "b"]},
            {"id": "d", "name": "D", "generation": 1, "parents": ["a"]},
            {"id": "e", "name": "E", "generation": 2, "parents": ["c", "d"]},
        ]
    )

    def ids(found: list[vs.Architecture]) -> list[str]:
        return [each.id for each in found]

    assert ids(store.architectures.ancestors("c")) == ["a", "b"]
    assert ids(store.architectures.ancestors("e")) == ["c", "d", "a", "b"]
    assert ids(store.architectures.ancestors("e", 1)) == ["c", "d"]
    assert ids(store.architectures.descendants("a")) == ["c", "d", "e"]
    assert ids(store.architectures.descendants("c")) == ["e"] and ids(store.architectures.ancestors("a")) == []
    for change in (
        {"id": "a", "parents": ["e"]},
        {"id": "a", "parents": ["e"], "generation": 2},
        {"id": "c", "generation": 2},  # its child would not be later
        {"id": "e", "generation": 1},
        {"id": "d", "parents": ["d"]},
    ):
        with pytest.raises(vs.ValidationError, match="must be above"):
            store.architectures.update(change)
    assert ids(store.architectures.ancestors("e")) == ["c", "d", "a", "b"]
    for verb in (store.architectures.ancestors, store.architectures.descendants):
        with pytest.raises(vs.NotFound, match="'nobody'"):
            verb("nobody")
    with pytest.raises(vs.ValidationError, match="depth"):
        store.architectures.ancestors("e", 0)


@pytest.mark.parametrize("seed", range(3))
def test_lineages_equal_brute_force(store: vs.Store, seed: int) -> None:
    dice = random.Random(seed)
    parents: dict[str, list[str]] = {}
    for generation in range(5):
        elder = list(parents)
        for place in range(4):
            parents[f"g{generation}{place}"] = dice.sample(elder, min(len(elder), dice.randrange(3)))
    store.architectures.add(
        [{"id": id, "name": id, "generation": int(id[1]), "parents": some} for id, some in parents.items()]
    )

    def above(id: str) -> set[str]:
        return {id for parent in parents[id] for id in (parent, *above(parent))}

    for id in parents:
        assert {each.id for each in store.architectures.ancestors(id)} == above(id)
        assert {each.id for each in store.architectures.descendants(id)} == {
            each for each in parents if id in above(each)
        }


def test_an_architecture_that_has_minds_can_be_updated_but_not_deleted(store: vs.Store, clock: Clock) -> None:
    """O3: updating one that has intelligences works; deleting is refused, as RESTRICT meant."""
    transformers(store, clock)
    store.intelligences.add({"id": "alpha", "name": "Alpha", "architecture": "t"})
    store.architectures.update({"id": "t", "substrate": "jax"})
    store.architectures.upsert({"id": "t", "name": "Transformer", "paradigm": "neural", "substrate": "numpy"})
    assert store.architectures.get("t").substrate == "numpy"  # type: ignore[union-attr]

    for what in ({"ids": "t"}, {"ids": ["cnn", "t"]}, {"where": {"paradigm": "neural"}}):
        with pytest.raises(ConflictError, match="'t' is what intelligence 'alpha' is built as"):
            store.architectures.delete(**what)  # type: ignore[arg-type]
    assert len(store.architectures) == 3 and store.architectures.delete("t", dry_run=True) == 1
    assert store.architectures.delete("cnn") == 1
    store.intelligences.delete("alpha")
    assert store.architectures.delete("t") == 1
    with pytest.raises(ConflictError, match="'t' is deleted; restore that first"):
        store.intelligences.restore("alpha")
    with pytest.raises((ConflictError, vs.ValidationError), match="'t'"):
        store.intelligences.add({"name": "Beta", "architecture": "t"})
    assert store.architectures.restore("t") == 1 and store.intelligences.restore("alpha") == 1


# -- intelligences -----------------------------------------------------------------------------------------------------


def test_an_intelligence_comes_back_and_those_of_an_architecture_are_listed_by_maturity(
    store: vs.Store, clock: Clock
) -> None:
    """4c intelligence round-trip: maturity 0.75; by architecture: three in descending maturity."""
    transformers(store, clock)
    store.memories.add([{"id": "mem-001", "content": "one"}, {"id": "mem-002", "content": "two"}])
    store.intelligences.add(
        {
            "id": "alpha",
            "name": "Alpha",
            "architecture": "t",
            "maturity": 0.75,
            "capabilities": ["reasoning", "learning", "planning"],
            "memories": ["mem-001", "mem-002"],
            "state": {"status": "active", "environment": "production"},
        }
    )
    found = store.intelligences.get("alpha")
    assert found is not None and (found.maturity, found.memories) == (0.75, ("mem-001", "mem-002"))
    assert found.capabilities == ("reasoning", "learning", "planning")
    assert found.state == {"status": "active", "environment": "production"}
    store.intelligences.add([{"name": n, "architecture": "t", "maturity": m} for n, m in (("b", 0.9), ("c", 0.3))])
    store.intelligences.add({"name": "d", "architecture": "l", "maturity": 1.0})
    mature = store.intelligences.find({"architecture": "t"}, order="-maturity")
    assert [each.maturity for each in mature] == [0.9, 0.75, 0.3]
    assert [each.id for each in store.intelligences.find({"capabilities__has": "planning"})] == ["alpha"]
    for bad, said in (
        ({"architecture": "nobody"}, "architecture: .*'nobody'"),
        ({"maturity": float("nan")}, "maturity"),
        ({"state": {"x": float("inf")}}, "state"),
        ({"status": "production"}, "status"),
    ):
        with pytest.raises(vs.ValidationError, match=said):
            store.intelligences.add({"name": "x", "architecture": "t", **bad})


def test_a_status_moves_only_as_the_table_says_however_it_is_written(store: vs.Store, clock: Clock) -> None:
    store.architectures.add({"id": "t", "name": "T"})
    for before, after in itertools.product(vs.MOVES, vs.MOVES):
        store.intelligences.upsert({"id": f"{before}-{after}", "name": "x", "architecture": "t", "status": before})
        made = store.intelligences.get(f"{before}-{after}")
        assert made is not None
        clock.move(seconds=1)
        copy = made.model_copy(update={"status": after})
        writes: list[Callable[[], object]] = [
            partial(store.intelligences.move, made.id, after),
            partial(store.intelligences.update, {"id": made.id, "status": after}),
            partial(store.intelligences.upsert, copy),
        ]
        if after == before or after in vs.MOVES[before]:
            writes[(len(before) + len(after)) % 3]()
            moved = store.intelligences.get(made.id)
            assert moved is not None and moved.status == after
            assert moved.updated_at > made.updated_at  # type: ignore[operator]
        else:
            for write in writes:
                with pytest.raises(ConflictError, match=f"'{after}' cannot follow '{before}'"):
                    write()
            assert store.intelligences.get(made.id) == made
    with pytest.raises(vs.NotFound, match="'nobody'"):
        store.intelligences.move("nobody", "running")
    with pytest.raises(vs.ValidationError, match="status"):
        store.intelligences.move("running-running", "asleep")
    assert all(after in vs.MOVES for some in vs.MOVES.values() for after in some)


# -- episodes ----------------------------------------------------------------------------------------------------------


def test_the_episodes_of_a_memory_are_listed_the_newest_first(store: vs.Store, clock: Clock) -> None:
    """4c reflexion: the trigger and the outcome are equal."""
    store.memories.add([{"id": "m", "content": "x"}, {"id": "n", "content": "y"}])
    store.episodes.add(
        {
            "id": "e1",
            "memory": "m",
            "trigger": "code_error",
            "situation": "syntax error in function",
            "action": "fixed missing semicolon",
            "outcome": "compiled",
        }
    )
    found = store.episodes.of("m")
    assert [(each.trigger, each.outcome) for each in found] == [("code_error", "compiled")]
    clock.move(seconds=1)
    store.episodes.add([{"id": id, "memory": "m", "trigger": t} for id, t in (("e3", "bug"), ("e2", "code_error"))])
    assert [each.id for each in store.episodes.of("m")] == ["e2", "e3", "e1"]
    assert [each.id for each in store.episodes.of("m", "code_error")] == ["e2", "e1"]
    assert [each.id for each in store.episodes.of("m", limit=1)] == ["e2"]
    assert store.episodes.of("n") == store.episodes.of("nobody") == []
    assert [hit.id for hit in store.episodes.search("fixed missing semicolon", k=1)] == ["e1"]
    with pytest.raises(vs.ValidationError, match=r"episodes\[0\].memory: .*'nobody'"):
        store.episodes.add({"memory": "nobody", "trigger": "x"})
    for bad in ({"reward": float("nan")}, {"seconds": -1.0}, {"tokens": 1.5}, {"success": "yes"}):
        with pytest.raises(vs.ValidationError, match=next(iter(bad))):
            store.episodes.add({"memory": "m", "trigger": "x", **bad})


def test_outcomes_are_counted_over_what_is_known(store: vs.Store) -> None:
    dice = random.Random(7)
    store.memories.add([{"id": id, "content": id} for id in "ab"])
    rows = [
        {
            "memory": dice.choice("ab"),
            "trigger": dice.choice(["bug", "test", "idea"]),
            "success": dice.choice([True, False, None]),
            "reward": dice.choice([None, dice.uniform(-1, 1)]),
            "seconds": dice.choice([None, dice.uniform(0, 9)]),
            "tokens": dice.choice([None, dice.randrange(1000)]),
            "session": dice.choice(["s1", None]),
        }
        for _ in range(60)
    ]
    store.episodes.add(rows)

    def expected(chosen: list[dict[str, object]]) -> vs.Outcomes:
        def mean(name: str) -> float | None:
            known = [each[name] for each in chosen if each[name] is not None]
            return sum(known) / len(known) if known else None  # type: ignore[arg-type]

        judged = [each["success"] for each in chosen if each["success"] is not None]
        tokens = sum(each["tokens"] or 0 for each in chosen)  # type: ignore[misc]
        means = (mean("reward"), mean("seconds"), mean("tokens"))
        return vs.Outcomes(len(chosen), len(judged), sum(judged), *means, tokens)  # type: ignore[arg-type]

    def close(found: vs.Outcomes, wanted: vs.Outcomes) -> bool:
        return vars(found) == pytest.approx(vars(wanted)) and found.success_rate == pytest.approx(wanted.success_rate)

    for where in ({}, {"memory": "a"}, {"session": "s1"}, {"session": "none such"}):
        chosen = [each for each in rows if all(each[name] == value for name, value in where.items())]
        assert close(store.episodes.statistics(where), expected(chosen))
    assert store.episodes.statistics({"session": "none such"}).success_rate is None
    by = store.episodes.by_trigger()
    for trigger, outcomes in by.items():
        assert close(outcomes, expected([each for each in rows if each["trigger"] == trigger]))
    assert list(by) == sorted(by, key=lambda trigger: (-by[trigger].episodes, trigger)) and len(by) == 3


# -- all of them -------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_not_found(store: vs.Store) -> None:
    """4c not found: the getters of four kinds."""
    for name in ("memories", "skills", "architectures", "intelligences"):
        assert store.collection(name).get("nobody") is None
        with pytest.raises(vs.NotFound, match="'nobody'"):
            store.collection(name).get_many(["nobody"], missing="raise")


def test_a_store_in_memory_is_opened_and_asked() -> None:
    """4c doc test."""
    with vs.open(":memory:", embedder="hash:8") as store:
        store.memories.add({"id": "m", "content": "hello"})
        assert store.memories.get("m").content == "hello"  # type: ignore[union-attr]


def test_minds_and_memories_move_to_another_store_with_their_context(
    store: vs.Store, clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """4c backup: what was copied is there; vectors, counts, edges and references come along."""
    transformers(store, clock)
    store.memories.add([{"id": "a", "content": "cause"}, {"id": "b", "content": "effect", "importance": 0.9}])
    store.memories.touch(["a", "a"])
    store.causes.add({"source": "a", "target": "b", "weight": 0.95, "type": "improvement"})
    store.episodes.add({"memory": "a", "trigger": "x"})
    store.skills.add({"name": "review", "trigger_pattern": "review", "success_count": 3})
    store.intelligences.add({"id": "i", "name": "I", "architecture": "t", "memories": ["b"], "status": "running"})
    folder = tmp_path_factory.mktemp("saved") / "all"
    store.contexts.save("default", folder)
    with vs.open(":memory:", embedder="hash:64", clock=clock) as other:
        other.contexts.load(folder)
        for kind in ("memories", "causes", "episodes", "skills", "architectures", "intelligences"):
            assert list(other.collection(kind)) == list(store.collection(kind)), kind
        assert other.memories.recall("cause").ids == store.memories.recall("cause").ids
        assert [each.record.id for each in other.memories.effects("a")] == ["b"]
        assert other.check().findings == ()
