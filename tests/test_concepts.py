"""Concepts: senses that stand side by side, and the four ways to look them up."""

from __future__ import annotations

import time

import numpy as np
import pytest

import vectorstore as vs

BANKS = [
    {"name": "bank", "context": "finance", "synset": "bank.n.01", "definition": "an institution that lends money"},
    {"name": "bank", "context": "geography", "synset": "bank.n.09", "definition": "the slope beside a river"},
    {"name": "Bank", "context": "finance", "disambiguation": "building", "definition": "where the institution sits"},
    {"name": "depository", "context": "finance", "lemmas": ["depository", "BANK"], "definition": "it keeps things"},
]


@pytest.fixture
def banks(store: vs.Store) -> vs.Store:
    store.concepts.add(BANKS)
    return store


def test_homonyms_stand_side_by_side_under_ids_of_their_own(banks: vs.Store) -> None:
    assert [concept.id for concept in banks.concepts.senses("bank")] == [
        "finance:bank:bank.n.01",
        "geography:bank:bank.n.09",
        "finance:bank:building",
        "finance:depository",
    ]
    assert len(banks.concepts.senses(" BaNK ", "finance")) == 3
    assert [concept.synset for concept in banks.concepts.senses("bank", "geography")] == ["bank.n.09"]
    assert banks.concepts.senses("ban") == [] and banks.concepts.lookup("bank", limit=2)[1].context == "geography"
    with pytest.raises(vs.DuplicateId, match=r"finance:bank:bank\.n\.01"):
        banks.concepts.add(BANKS[0])
    with pytest.raises(vs.NotFound, match="no context 'nowhere'"):
        banks.concepts.senses("bank", "nowhere")


def test_deleted_and_renamed_senses_are_none(banks: vs.Store) -> None:
    banks.concepts.delete("finance:bank:bank.n.01")
    banks.concepts.update({"id": "finance:depository", "lemmas": ["depository"]})
    assert [concept.context for concept in banks.concepts.senses("bank")] == ["geography", "finance"]
    banks.concepts.restore("finance:bank:bank.n.01")
    assert len(banks.concepts.senses("bank")) == 3


def test_a_hint_tells_senses_apart(place: object) -> None:
    meaning = {"money": [1.0, 0.0], "river": [0.0, 1.0], "water": [0.1, 0.9]}

    def embed(texts: list[str]) -> np.ndarray:
        return np.array(
            [next((v for word, v in meaning.items() if word in text), [0.5, 0.5]) for text in texts], dtype=np.float32
        )

    with vs.open(place, embedder=embed) as store:  # type: ignore[arg-type]
        store.concepts.add([*BANKS[:2], {"name": "water"}])
        ranked = store.concepts.disambiguate("bank", "the water rose")
        assert ranked.ids == ["geography:bank:bank.n.09", "finance:bank:bank.n.01"] and ranked.exact
        assert store.concepts.disambiguate("bank", "money", context="finance").ids == ["finance:bank:bank.n.01"]
        assert store.concepts.disambiguate("nothing", "money").ids == []


def test_four_ways_to_look_a_concept_up(store: vs.Store) -> None:
    store.concepts.add(
        [
            {"name": "king", "definition": "a male monarch"},
            {"name": "kingdom", "definition": "a land that a king rules"},
            {"name": "queen", "definition": "a female monarch"},
            {"name": "Viking", "definition": "one who came by sea", "context": "north"},
            {"name": "100%", "definition": "all of it"},
            {"name": "a_b", "definition": "[x]"},
        ]
    )

    def named(text: str, **options: object) -> list[str]:
        return [concept.name for concept in store.concepts.lookup(text, **options)]  # type: ignore[arg-type]

    assert named("KING") == ["king"]
    assert named("king", by="pattern") == ["king", "kingdom", "Viking"]
    assert named("king", by="pattern", context="default") == ["king", "kingdom"]
    assert named("King*", by="pattern") == ["king", "kingdom"] and named("?ing", by="pattern") == ["king"]
    assert named("[kq]*n*", by="pattern") == ["king", "kingdom", "queen"]
    assert named("%", by="pattern") == ["100%"] and named("_", by="pattern") == ["a_b"]  # no wildcards of LIKE
    assert named(".*", by="pattern") == [] and named("(a+)+$", by="pattern") == []  # no regular expressions
    assert named("monarch", by="text") == ["king", "queen"]
    assert named("king: a male monarch", by="similar", limit=1) == ["king"]
    assert sorted(named("king", by="similar", limit=6)) == sorted(concept.name for concept in store.concepts)
    assert named("king", by="similar", limit=6) == [hit.record.name for hit in store.concepts.search("king", k=6)]
    for bad in ({"by": "regex"}, {"limit": 0}, {"limit": True}):
        with pytest.raises(vs.ValidationError):
            store.concepts.lookup("king", **bad)  # type: ignore[arg-type]


def test_no_pattern_takes_long(store: vs.Store) -> None:
    store.concepts.add({"name": "a" * 900})
    started = time.perf_counter()
    assert store.concepts.lookup("*a" * 40 + "b", by="pattern") == []
    assert store.concepts.lookup("[a-z]*" * 40 + "!", by="pattern") == []
    assert time.perf_counter() - started < 2.0
