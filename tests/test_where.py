"""The filter language against a reference evaluator in Python, and its refusals."""

from __future__ import annotations

import fnmatch
import functools
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.ids import fold

_numbers = itertools.count()
NAMES = ["king", "King's Road", "queen", "ÅNGSTRÖM", "a_b%c", "", "x" * 50]
DOMAINS = [None, "a", "b", "b%", "B"]
TAGS = ["t", "u", "t u", "ü"]
QUALITIES = [None, 0.0, 0.25, 0.5, 1.0]

records = st.fixed_dictionaries(
    {
        "name": st.sampled_from([name for name in NAMES if name]),
        "domain": st.sampled_from(DOMAINS),
        "quality": st.sampled_from(QUALITIES),
        "tags": st.lists(st.sampled_from(TAGS), max_size=3),
        "lemmas": st.lists(st.sampled_from(["one", "two"]), max_size=2),
        "extra": st.fixed_dictionaries(
            {},
            optional={
                "n": st.sampled_from([None, 1, 2, 2.5, "two", True]),
                "list": st.lists(st.sampled_from([1, "one", None]), max_size=2),
                "a__b": st.sampled_from(["one", "TWO"]),
            },
        ),
    }
)

text_terms = st.builds(
    lambda field, op, value: {f"{field}__{op}" if op else field: value},
    st.sampled_from(["name", "domain"]),
    st.sampled_from(
        ["", "eq", "ne", "gt", "gte", "lt", "lte", "contains", "icontains", "startswith", "endswith", "glob"]
    ),
    st.sampled_from(["king", "KING", "a", "b", "b%", "*", "k*", "?", "_", "å*", "n", "e"]),
)
terms = st.one_of(
    text_terms,
    st.builds(
        lambda op, v: {f"quality__{op}": v},
        st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte"]),
        st.sampled_from([0, 0.25, 0.5, 1]),
    ),
    st.builds(
        lambda f, op, v: {f"{f}__{op}": v},
        st.sampled_from(["name", "domain"]),
        st.sampled_from(["in", "nin"]),
        st.lists(st.sampled_from(["king", "a", "b", None]), max_size=3),
    ),
    st.builds(lambda f, v: {f"{f}__isnull": v}, st.sampled_from(["domain", "quality"]), st.booleans()),
    st.builds(lambda f: {f: None}, st.sampled_from(["domain", "quality", "domain__ne"])),
    st.builds(
        lambda f, op, v: {f"{f}__{op}": v},
        st.sampled_from(["tags", "lemmas", "extra.list"]),
        st.sampled_from(["has_any", "has_all"]),
        st.lists(st.sampled_from(["t", "u", "one", 1]), max_size=2),
    ),
    st.builds(
        lambda f, v: {f"{f}__has": v},
        st.sampled_from(["tags", "lemmas", "extra.list"]),
        st.sampled_from(["t", "one", "ü"]),
    ),
    st.builds(lambda op: {f"extra.a__b__{op}": "two"}, st.sampled_from(["eq", "ne", "contains", "icontains"])),
    st.builds(
        lambda op, v: {f"extra.n__{op}": v}, st.sampled_from(["eq", "ne", "gt", "lte"]), st.sampled_from([1, 2, 2.5])
    ),
)
filters = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"and": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda a, b: {**a, **b}, inner, inner),
    ),
    max_leaves=6,
)


def holds(where: dict[str, Any], record: dict[str, Any]) -> bool:
    """What a filter means, said once more in plain Python."""
    return all(_term(key, value, record) for key, value in where.items())


def _term(key: str, value: Any, record: dict[str, Any]) -> bool:
    if key == "and":
        return all(holds(part, record) for part in value)
    if key == "or":
        return any(holds(part, record) for part in value)
    if key == "not":
        return not holds(value, record)
    field, _, operator = key.rpartition("__") if "__" in key else (key, "", "")
    operator = operator or "eq"
    name, *path = field.split(".")
    found = record[name]
    for step in path:
        found = found.get(step)
    if operator in ("has", "has_any", "has_all"):
        items = found or []
        wanted = value if isinstance(value, list) else [value]
        present = [any(_same(item, want) for item in items) for want in wanted]
        return any(present) if operator == "has_any" else all(present)
    if name == "name":
        found = fold(found)
        value = (
            [v if v is None else fold(v) for v in value]
            if isinstance(value, list)
            else None
            if value is None
            else fold(value)
        )
    if operator == "isnull":
        return (found is None) == value
    if operator == "eq":
        return _same(found, value)
    if operator == "ne":
        return not _same(found, value)
    if operator == "in":
        return any(_same(found, item) for item in value)
    if operator == "nin":
        return not any(_same(found, item) for item in value)
    if found is None:
        return False
    if operator in ("gt", "gte", "lt", "lte"):
        return _ordered(operator, found, value)
    if operator == "glob":
        return fnmatch.fnmatchcase(found, value)
    if operator == "icontains":
        return fold(value) in fold(found)
    return {"contains": value in found, "startswith": found.startswith(value), "endswith": found.endswith(value)}[
        operator
    ]


def _same(a: Any, b: Any) -> bool:
    """SQLite has no booleans, and numbers never equal text."""
    if isinstance(a, str) != isinstance(b, str):
        return False
    return bool(a == b)


def _ordered(operator: str, a: Any, b: Any) -> bool:
    """In SQLite every number comes before every text."""
    a, b = (isinstance(a, str), a), (isinstance(b, str), b)
    return {"gt": a > b, "gte": a >= b, "lt": a < b, "lte": a <= b}[operator]


@settings(max_examples=150, deadline=None)
@given(st.lists(records, min_size=1, max_size=8), st.lists(filters, min_size=1, max_size=8))
def test_filters_mean_what_the_reference_says(rows: list[dict[str, Any]], wheres: list[dict[str, Any]]) -> None:
    home = f"context{next(_numbers)}"
    concepts = _scratch().concepts
    concepts.add([{"id": f"{home}-{place}", "context": home, **row} for place, row in enumerate(rows)])
    for where in wheres:
        expected = [f"{home}-{place}" for place, row in enumerate(rows) if holds(where, row)]
        here = {"and": [{"context": home}, where]}
        assert [record.id for record in concepts.find(here)] == expected, where
        assert concepts.count(here) == len(expected)


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
    with pytest.raises(vs.WhereError, match="500 terms"):
        store.concepts.count({"or": [{"name": str(n)} for n in range(600)]})

    assert store.concepts.count({"name__in": [str(n) for n in range(5000)]}) == 0
