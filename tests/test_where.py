"""The filter language against a reference evaluator in Python, and its refusals."""

from __future__ import annotations

import functools
import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from tests import reference

_numbers = itertools.count()


def compare(chance: random.Random, rows: int, filters: int) -> int:
    """Put filters to records, in a context of their own; how many matches there were."""
    home, matches = f"context{next(_numbers)}", 0
    concepts = _scratch().concepts
    records = {f"{home}-{place}": reference.record(chance) for place in range(rows)}
    concepts.add([{"id": name, "context": home, **fields} for name, fields in records.items()])
    for _ in range(filters):
        where = reference.where(chance)
        expected = [name for name, fields in records.items() if reference.holds(where, fields)]
        here = {"and": [{"context": home}, where]}
        found = [record.id for record in concepts.find(here, limit=1000)]
        assert found == expected, f"{where!r}: {[records[name] for name in set(found) ^ set(expected)]!r}"
        assert concepts.count(here) == len(expected)
        matches += len(expected)
    concepts.delete(list(records))
    concepts.purge(list(records))
    return matches


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_filters_mean_what_the_reference_says(chance: random.Random) -> None:
    compare(chance, 6, 5)


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=[pytest.mark.slow, pytest.mark.fuzz]) for seed in range(1, 11))]
)
def test_filters_mean_what_the_reference_says_in_ten_thousands_of_cases(seed: int) -> None:
    """Eleven seeds of 40 times 250 filters; the first is cut short when it runs among the quick tests."""
    chance, matches = random.Random(seed), 0
    for _ in range(40 if seed else 4):
        matches += compare(chance, 25, 250)
    assert matches > (10_000 if seed else 1_000), "most filters match nothing, and prove nothing"


@functools.cache
def _scratch() -> vs.Store:
    """One store for all examples; each has a context of its own."""
    return vs.open(":memory:", embedder=None)


@pytest.mark.parametrize(
    "where",
    [
        {"nothing": 1},
        {"name__like": "x"},
        {"name": 5},
        {"name__icontains": None},
        {"extra.a__b": 1},
        {"quality__gt": "high"},
        {"quality": True},
        {"quality": float("nan")},
        {"quality__gt": None},
        {"quality__in": 5},
        {"name__in": "abc"},
        {"tags__gt": "a"},
        {"domain.x": 1},
        {"extra.": 1},
        {"extra.a": {"b": 1}},
        {"or": {"name": "x"}},
        {"and": "x"},
        {"not": [1]},
        {"version": 2**70},
        {'extra.a"b': 1},
        {"extra.a\0b": 1},
        {"extra.\ud800": 1},
        {"name": "\ud800"},
        {"domain__contains": "a\0b"},
        {"tags__has": "a\0b"},
        {"tags__has_any": [None]},
        {"name__in": ["x", "\udfff"]},
        {"name__glob": "*" * 20_000},
        {"created_at__gt": 2**62},
        {"created_at__lt": "9999-12-31T23:59:59-23:59"},
        {"extra.a": 10**400},
        {5: 1},
        "name = 'x'",
        ["name"],
        {"name; DROP TABLE concepts--": "x"},
    ],
)
def test_a_bad_filter_is_refused_and_named(store: vs.Store, where: Any) -> None:
    for call in (store.concepts.find, store.concepts.count, lambda w: store.concepts.search("x", where=w)):
        with pytest.raises((vs.WhereError, vs.ValidationError), match=r"where|concepts"):
            call(where)


def test_too_deep_and_too_long_filters_are_refused(store: vs.Store) -> None:
    deep: dict[str, Any] = {"name": "x"}
    for _ in range(50):
        deep = {"not": deep}
    with pytest.raises(vs.WhereError, match="deeper"):
        store.concepts.count(deep)
    for field in ("tags", "extra.list"):
        with pytest.raises(vs.WhereError, match="500 terms and values of has_all"):
            store.concepts.count({f"{field}__has_all": [str(n) for n in range(600)]})
        store.concepts.count({f"{field}__has_all": [str(n) for n in range(499)]})
    with pytest.raises(vs.WhereError, match="500 terms"):
        store.concepts.count({"or": [{"name": str(n)} for n in range(600)]})

    assert store.concepts.count({"name__in": [str(n) for n in range(5000)]}) == 0
