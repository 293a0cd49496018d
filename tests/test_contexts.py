"""Contexts that inherit: the nearest definition counts, cycles are refused, what is in use stays."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import vectorstore as vs

TREE = {
    "general_knowledge": None,
    "natural_science": "general_knowledge",
    "physics": "natural_science",
    "biology": "natural_science",
    "social_science": "general_knowledge",
    "economics": "social_science",
    "psychology": "social_science",
}


@pytest.fixture
def tree(store: vs.Store) -> vs.Store:
    store.contexts.add([{"name": name, "parent": parent} for name, parent in TREE.items()])
    return store


def test_a_lookup_walks_to_the_parent_and_the_local_definition_wins(tree: vs.Store) -> None:
    tree.concepts.add(
        [
            {"name": "force", "context": "general_knowledge", "definition": "strength"},
            {"name": "Force", "context": "physics", "definition": "mass times acceleration"},
            {"name": "energy", "context": "natural_science", "definition": "the capacity to work"},
            {"name": "market", "context": "economics"},
        ]
    )

    assert tree.contexts.chain("physics") == ["physics", "natural_science", "general_knowledge"]
    assert tree.concepts.resolve("force", "physics").definition == "mass times acceleration"
    assert tree.concepts.resolve("force", "biology").definition == "strength"
    assert tree.concepts.resolve("energy", "physics").context == "natural_science"
    assert [each.definition for each in tree.concepts.senses("force", "physics")] == ["mass times acceleration"]
    with pytest.raises(vs.NotFound, match="'market' in physics > natural_science > general_knowledge"):
        tree.concepts.resolve("market", "physics")
    tree.concepts.delete("physics:force")
    assert tree.concepts.resolve("force", "physics").definition == "strength"


def test_senses_are_hidden_one_by_one(tree: vs.Store) -> None:
    tree.concepts.add(
        [
            {"name": "bank", "synset": "bank.n.01", "context": "general_knowledge", "definition": "general"},
            {"name": "bank", "synset": "bank.n.09", "context": "general_knowledge"},
            {"name": "bank", "synset": "bank.n.01", "context": "economics", "definition": "precise"},
        ]
    )
    found = tree.concepts.senses("bank", "economics")
    assert [(each.context, each.synset) for each in found] == [
        ("economics", "bank.n.01"),
        ("general_knowledge", "bank.n.09"),
    ]


def test_metadata_merges_child_over_parent_and_axioms_are_inherited(tree: vs.Store) -> None:
    tree.contexts.update({"id": "general_knowledge", "language": "en", "reviewed": False})
    tree.contexts.update({"id": "physics", "reviewed": True, "units": "SI"})
    assert tree.contexts.metadata("physics") == {"language": "en", "reviewed": True, "units": "SI"}
    assert tree.contexts.metadata("psychology") == {"language": "en", "reviewed": False}

    tree.concepts.add([{"name": name, "context": "general_knowledge"} for name in ("hot", "cold", "car", "automobile")])
    ids = [f"general_knowledge:{name}" for name in ("hot", "cold")]
    formula = {"op": "dissimilarity", "left": "hot", "right": "cold"}
    tree.axioms.add(
        [
            {
                "name": "hot is not cold",
                "type": "antonym",
                "context": "general_knowledge",
                "concepts": ids,
                "formula": formula,
            },
            {"name": "cars", "type": "synonym", "context": "general_knowledge", "classification": "soft"},
            {"name": "Hot is not COLD", "type": "antonym", "context": "physics", "confidence": 0.5},
        ]
    )
    assert [(each.context, each.name) for each in tree.contexts.axioms("physics")] == [
        ("physics", "Hot is not COLD"),
        ("general_knowledge", "cars"),
    ]
    assert tree.contexts.axioms("general_knowledge")[0].formula == formula
    assert [each.name for each in tree.axioms.find({"concepts__has": ids[0]})] == ["hot is not cold"]
    with pytest.raises(vs.ValidationError, match=r"axioms\[0\].concepts: no record of concepts has the id 'x'"):
        tree.axioms.add({"name": "bad", "concepts": ["x"]})


def test_a_search_in_a_context_and_what_it_inherits(tree: vs.Store) -> None:
    tree.concepts.add([{"name": f"thing {place}", "context": name} for place, name in enumerate(TREE)])
    hits = tree.concepts.search("thing", k=10, where=tree.contexts.within("biology"))
    assert {hit.record.context for hit in hits} == {"biology", "natural_science", "general_knowledge"}
    assert len(tree.concepts.find(tree.contexts.within("economics"))) == 3


def test_cycles_are_refused_and_leave_nothing(tree: vs.Store) -> None:
    with pytest.raises(vs.CycleError, match="general_knowledge > physics > natural_science > general_knowledge"):
        tree.contexts.update({"id": "general_knowledge", "parent": "physics"})
    with pytest.raises(vs.CycleError):
        tree.contexts.add({"name": "me", "parent": "me"})
    with pytest.raises(vs.CycleError):
        tree.contexts.add([{"name": "one", "parent": "two"}, {"name": "two", "parent": "one"}, {"name": "three"}])
    assert tree.contexts.get("general_knowledge").parent is None and "three" not in tree.contexts
    tree.contexts.update({"id": "physics", "parent": "social_science"})
    assert tree.contexts.chain("physics") == ["physics", "social_science", "general_knowledge"]
    with pytest.raises(vs.ValidationError, match=r"contexts\[0\].parent: no record of contexts has the id 'nowhere'"):
        tree.contexts.add({"name": "lost", "parent": "nowhere"})


def test_two_threads_cannot_make_a_cycle_between_them(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        for turn in range(10):
            a, b = f"a{turn}", f"b{turn}"
            store.contexts.add([{"name": a}, {"name": b}])
            refused: list[str] = []

            def point(child: str, parent: str, refused: list[str] = refused) -> None:
                try:
                    store.contexts.update({"id": child, "parent": parent})
                except vs.CycleError:
                    refused.append(child)

            threads = [threading.Thread(target=point, args=pair) for pair in ((a, b), (b, a))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(refused) == 1


def test_a_context_in_use_is_not_deleted(tree: vs.Store) -> None:
    tree.concepts.add({"name": "atom", "context": "physics"})
    with pytest.raises(vs.ConflictError, match="'physics' is in use: concepts 'physics:atom' is in it"):
        tree.contexts.delete("physics")
    with pytest.raises(
        vs.ConflictError, match="'natural_science' is in use: contexts '(physics|biology)' inherits from it"
    ):
        tree.contexts.delete("natural_science")
    with pytest.raises(vs.ConflictError, match="stays"):
        tree.contexts.delete("default")
    assert len(tree.contexts) == len(TREE) + 1
    assert tree.contexts.delete(where={"parent": "social_science"}, dry_run=True) == 2
    assert tree.contexts.delete(["social_science", "economics", "psychology"]) == 3  # all that inherit go, too
    tree.concepts.delete("physics:atom")
    assert tree.contexts.delete("physics") == 1


def test_a_deleted_context_is_made_anew_by_who_needs_it(tree: vs.Store) -> None:
    tree.contexts.update({"id": "physics", "description": "old"})
    tree.concepts.add({"name": "atom", "context": "physics"})
    tree.concepts.delete("physics:atom")
    tree.contexts.delete("physics")
    tree.concepts.restore("physics:atom")
    assert tree.contexts.get("physics").description == ""
    tree.concepts.delete("physics:atom")
    tree.contexts.delete("physics")
    tree.concepts.add({"name": "quark", "context": "physics"})
    assert tree.contexts.get("physics").version > 3 and tree.concepts.get("physics:quark") is not None
