"""Near-duplicates: all pairs above a score against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import Matrix, brute_force, clustered
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.vectors import ranges

METRICS = ["cosine", "ip", "l2"]
Triple = tuple[int, int, float]


def filled(store: vs.Store, data: Matrix, start: int = 0) -> vs.Collection[vs.Concept]:
    records = [{"id": f"c{start + n}", "name": "x", "domain": f"d{(start + n) % 2}"} for n in range(len(data))]
    store.concepts.add(records, vectors=data)
    return store.concepts


def found(pairs: Any) -> list[Triple]:
    return [(int(pair.first.id[1:]), int(pair.second.id[1:]), pair.score) for pair in pairs]


def truth(data: Matrix, metric: str) -> list[Triple]:
    """All pairs by the age of the first, best first, ties by the age of the second."""
    values = brute_force(data, data, metric)
    scores = 1 / (1 - values) if metric == "l2" else values
    pairs = [(i, j, float(scores[i, j])) for i in range(len(data)) for j in range(i + 1, len(data))]
    return sorted(pairs, key=lambda pair: (pair[0], -pair[2], pair[1]))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.integers(-3, 3)] * 3).filter(any), max_size=30),
    metric=st.sampled_from(METRICS),
    place=st.integers(0, 500),
    blocks=st.sampled_from([(1024, 4096, 1 << 20), (3, 4, 1 << 20), (8, 5, 2), (4, 4, 20)]),
    domain=st.sampled_from([None, "d0", "none"]),
)
def test_pairs_are_those_of_single_searches(
    rows: list[tuple[int, ...]], metric: str, place: int, blocks: tuple[int, int, int], domain: str | None
) -> None:
    data = np.array(rows, dtype=np.float32).reshape(-1, 3)
    with (
        vs.open(":memory:", embedder=None, metric=metric) as store,
        mock.patch.multiple(ranges, LEFT_ROWS=blocks[0], RIGHT_ROWS=blocks[1], MAX_CANDIDATES=blocks[2]),
    ):
        concepts = filled(store, data)
        where = domain and {"domain": domain}
        chosen = [n for n in range(len(data)) if domain is None or f"d{n % 2}" == domain]
        singly = {n: {hit.id: hit.score for hit in concepts.search(data[n], k=100, exact=True)} for n in chosen}
        everything = sorted(
            ((n, m, singly[n][f"c{m}"]) for n in chosen for m in chosen if n < m),
            key=lambda pair: (pair[0], -pair[2], pair[1]),
        )
        assert [pair[2] for pair in everything] == pytest.approx(
            [s for n, m, s in truth(data, metric) if n in chosen and m in chosen], abs=1e-12
        )
        bounds = [everything[place % len(everything)][2]] if everything else [0.5]
        bounds += [math.nextafter(bounds[0], math.inf), math.nextafter(bounds[0], -math.inf), -1e9]
        for bound in bounds:
            assert found(concepts.duplicates(bound, where)) == [pair for pair in everything if pair[2] >= bound]


@pytest.mark.parametrize("metric", ["cosine", *(pytest.param(m, marks=pytest.mark.slow) for m in ("ip", "l2"))])
def test_pairs_equal_brute_force_on_twenty_thousand_rows(open_store: Callable[..., vs.Store], metric: str) -> None:
    data = clustered(20_000, 64, groups=400)
    random = np.random.default_rng(1)
    copies, others = np.split(random.permutation(20_000)[:4000], 2)
    data[copies] = data[others] + (0.05 * random.standard_normal((2000, 64))).astype(np.float32)
    store = open_store(metric=metric)
    for start in range(0, 20_000, 5000):
        filled(store, data[start : start + 5000], start)
    threshold = {"cosine": 0.95, "ip": 107.0, "l2": 0.25}[metric]
    wide = data.astype(np.float64)
    squares = np.square(wide).sum(axis=1)
    expected = {}
    for start in range(0, 20_000, 1000):
        values = wide[start : start + 1000] @ wide.T
        if metric == "cosine":
            values /= np.sqrt(squares)[start : start + 1000, None] * np.sqrt(squares)
        elif metric == "l2":
            distances = squares[start : start + 1000, None] + squares - 2 * values
            values = 1 / (1 + np.sqrt(np.maximum(distances, 0)))
        assert not (np.abs(values - threshold) < 1e-9).any(), "rounding would decide; choose another threshold"
        for i, j in zip(*np.nonzero(np.triu(values >= threshold, start + 1)), strict=True):
            expected[int(start + i), int(j)] = float(values[i, j])
    pairs = found(store.concepts.duplicates(threshold))
    assert 2000 < len(expected) < 50_000
    assert {(first, second) for first, second, _ in pairs} == set(expected) and len(pairs) == len(expected)
    assert [score for _, _, score in pairs] == pytest.approx([expected[pair[:2]] for pair in pairs], abs=1e-7)
    assert pairs == sorted(pairs, key=lambda pair: (pair[0], -pair[2], pair[1]))


def test_pairs_do_not_depend_on_how_the_vectors_lie(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    data = clustered(2600, 12, groups=200)
    for start in range(0, 2600, 1300):
        filled(store, data[start : start + 1300], start)
    store.concepts.delete([f"c{n}" for n in range(0, 2600, 9)])
    store.concepts.upsert([{"id": "c5", "name": "x"}, {"id": "c0", "name": "x"}], vectors=data[[7, 1]])
    before = found(store.concepts.duplicates(0.98))
    assert {(7, 5), (1, 0)} <= {pair[:2] for pair in before}, "the replaced vectors are the younger ones"
    store.flush()
    store.rebuild("concepts", vs.IndexRecipe("t", "LSH256rt", ({"candidates": 500},), min_recall=0))
    assert found(store.concepts.duplicates(0.98)) == before
    store.compact("concepts")
    assert found(store.concepts.duplicates(0.98)) == before


def test_a_record_that_goes_while_pairs_are_read_is_left_out(open_store: Callable[..., vs.Store]) -> None:
    store, other = open_store(), open_store()
    concepts = filled(store, np.ones((60, 3), np.float32))
    pairs = concepts.duplicates()
    first = next(pairs)
    assert (first.first.id, first.second.id) == ("c0", "c1") and first.score == pytest.approx(1.0)
    other.concepts.delete("c50")
    rest = found(pairs)
    assert (0, 50) in [pair[:2] for pair in rest], "it was read together with the first"
    assert all(50 not in pair[:2] for pair in rest[600:])
    assert len([pair for pair in rest if 50 not in pair[:2]]) == 59 * 58 // 2 - 1


def test_a_second_space_and_an_empty_store_have_their_own_pairs(open_store: Callable[..., vs.Store]) -> None:
    analogies = open_store().analogies
    assert list(analogies.duplicates()) == []
    analogies.add([{"a": str(n)} for n in range(3)], vectors={"relation": [[1, 0], [0, 1], [1, 0.01]]})
    assert list(analogies.duplicates()) == []
    (pair,) = analogies.duplicates(space="relation")
    assert (pair.first.a, pair.second.a) == ("0", "2")


@pytest.mark.parametrize("threshold", [float("nan"), "high", None, False])
def test_a_bad_threshold_is_refused_at_once(open_store: Callable[..., vs.Store], threshold: Any) -> None:
    with pytest.raises(vs.ValidationError, match="threshold: expected a finite number"):
        open_store().concepts.duplicates(threshold)
