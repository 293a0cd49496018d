"""Range search against brute force: the boundary, order, filters, layouts, and what changes while it is read."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
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


def filled(store: vs.Store, data: Matrix) -> vs.Collection[vs.Concept]:
    store.concepts.add(
        [{"id": f"c{place}", "name": "x", "domain": f"d{place % 2}"} for place in range(len(data))], vectors=data
    )
    return store.concepts


def truth(query: Matrix, data: Matrix, metric: str) -> list[tuple[float, int]]:
    """(score, place) of everything, best first, ties by age."""
    values = brute_force(query[None], data, metric)[0]
    scores = 1 / (1 - values) if metric == "l2" else values
    return sorted(((float(score), place) for place, score in enumerate(scores)), key=lambda pair: (-pair[0], pair[1]))


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.integers(-3, 3)] * 3).filter(any), min_size=1, max_size=40),
    query=st.tuples(*[st.integers(-3, 3)] * 3).filter(any),
    metric=st.sampled_from(METRICS),
    place=st.integers(0, 39),
    where=st.sampled_from([None, {"domain": "d1"}, {"domain": "none"}]),
)
def test_the_boundary_belongs_to_it_and_nothing_below(
    rows: list[tuple[int, ...]], query: tuple[int, ...], metric: str, place: int, where: Any
) -> None:
    data, point = np.array(rows, dtype=np.float32), np.array(query, dtype=np.float32)
    with vs.open(":memory:", embedder=None, metric=metric) as store:
        concepts = filled(store, data)
        everything = list(concepts.search(point, k=100, where=where, exact=True))
        wanted = [(score, number) for score, number in truth(point, data, metric) if not where or number % 2 == 1]
        wanted = [] if where == {"domain": "none"} else wanted
        assert [hit.score for hit in everything] == pytest.approx([score for score, _ in wanted], abs=1e-12)
        bounds = [everything[place % len(everything)].score] if everything else [0.5]
        bounds += [math.nextafter(bounds[0], math.inf), math.nextafter(bounds[0], -math.inf), -1e9, 1e9]
        for bound in bounds:
            found = list(concepts.search_range(point, bound, where))
            assert found == [hit for hit in everything if hit.score >= bound]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("layout", ["pending", "segments", "deleted", "indexed", "compacted"])
def test_it_equals_brute_force_in_every_layout(open_store: Callable[..., vs.Store], metric: str, layout: str) -> None:
    data = clustered(2600, 24)
    data[1300:1400] = data[:100]
    store = open_store(metric=metric)
    records = [{"id": f"c{place}", "name": "x"} for place in range(2600)]
    sizes = {"pending": 650}.get(layout, 1300)
    for start in range(0, 2600, sizes):
        store.concepts.add(records[start : start + sizes], vectors=data[start : start + sizes])
    gone: set[int] = set()
    if layout in ("deleted", "compacted"):
        gone = set(range(5, 2600, 7))
        store.concepts.delete([f"c{place}" for place in gone])
    if layout == "compacted":
        store.concepts.upsert([records[9]], vectors=data[9:10])
        store.compact("concepts")
    if layout == "indexed":
        store.rebuild("concepts", vs.IndexRecipe("t", "LSH256rt", ({"candidates": 500},), min_recall=0))
    for query in [*clustered(3, 24, seed=9), data[3]]:
        wanted = [(score, place) for score, place in truth(query, data, metric) if place not in gone]
        for rank in (0, 1, 300, len(wanted) - 1):
            below = wanted[rank + 1][0] if rank + 1 < len(wanted) else wanted[rank][0] - 1e-6
            bound = (wanted[rank][0] + below) / 2
            expected = [pair for pair in wanted if pair[0] >= bound]
            found = list(store.concepts.search_range(query, bound))
            assert [hit.score for hit in found] == pytest.approx([score for score, _ in expected], abs=1e-9)
            assert {hit.id for hit in found} == {f"c{place}" for _, place in expected}
            assert found == sorted(found, key=lambda hit: -hit.score)
            assert [hit.rank for hit in found] == list(range(len(found)))
            assert [hit.distance for hit in found] == sorted(hit.distance for hit in found)
            assert all(sum(hit.parts.values()) == hit.score for hit in found)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("scale", [1e-18, 1e-3, 1e17])
def test_short_and_long_vectors_are_compared_as_well(
    open_store: Callable[..., vs.Store], metric: str, scale: float
) -> None:
    data = clustered(300, 8) * np.float32(scale)
    concepts = filled(open_store(metric=metric), data)
    wanted = concepts.search(data[7], k=300, exact=True)
    for rank in (0, 20, 299):
        assert list(concepts.search_range(data[7], wanted[rank].score)) == [
            hit for hit in wanted if hit.score >= wanted[rank].score
        ]


def test_texts_ids_records_and_recommendations_are_queries(store: vs.Store) -> None:
    names = ["red fox", "red fox runs", "blue whale", "green frog"]
    store.concepts.add([{"name": name} for name in names])
    concepts = store.concepts
    by_text = list(concepts.search_range("red fox", -1.0))
    assert [hit.id for hit in by_text] == concepts.search("red fox").ids
    for query in (vs.Id("default:red fox"), concepts.get("default:red fox"), vs.Recommend([vs.Id("default:red fox")])):
        assert [hit.id for hit in concepts.search_range(query, -1.0)] == [hit.id for hit in by_text[1:]]
    assert [hit.rank for hit in concepts.search_range(vs.Id("default:red fox"), -1.0)] == [0, 1, 2]


def test_a_second_space_has_ranges_of_its_own(open_store: Callable[..., vs.Store]) -> None:
    analogies = open_store().analogies
    analogies.add([{"a": str(n)} for n in range(4)], vectors={"relation": np.eye(4) + 0.1})
    assert [hit.record.a for hit in analogies.search_range([1, 0, 0, 0], 0.9, space="relation")] == ["0"]
    assert list(analogies.search_range([1, 0, 0, 0], 0.9)) == []
    with pytest.raises(vs.NotFound, match="no vector space 'other'"):
        analogies.search_range([1, 0, 0, 0], 0.9, space="other")


def test_what_changes_while_it_is_read_is_left_out(open_store: Callable[..., vs.Store]) -> None:
    store, other = open_store(), open_store()
    data = np.ones((1200, 4), np.float32)
    concepts = filled(store, data)
    hits = concepts.search_range(data[0], 0.5)
    first = next(hits)
    assert first.id == "c0"
    other.concepts.delete(["c1", "c600", "c601", "c700"])
    other.concepts.restore("c700")  # it has another vector now, equal as it may be
    other.concepts.upsert([{"id": "c800", "name": "new"}], vectors=-data[:1])
    other.concepts.update({"id": "c900", "domain": "changed"})
    other.concepts.purge(["c600"], older_than=timedelta(0))
    other.compact("concepts")
    other.concepts.add({"id": "late", "name": "x"}, vectors=data[:1])
    rest = list(hits)
    ids = [hit.id for hit in rest]
    assert ids[0] == "c1", "it was read together with the first"
    assert {f"c{n}" for n in range(1, 1200)} - set(ids) == {"c600", "c601", "c700", "c800"}
    assert next(hit for hit in rest if hit.id == "c900").record.domain == "changed"
    assert [hit.rank for hit in rest] == list(range(1, len(rest) + 1))
    assert store.check().findings == ()


def test_what_expires_is_left_out_at_once(open_store: Callable[..., vs.Store], clock: Any) -> None:
    concepts = open_store().concepts
    end = clock.now + timedelta(hours=1)
    records = [{"id": f"c{n}", "name": "x", "expires_at": end if n % 2 else None} for n in range(1100)]
    concepts.add(records, vectors=np.ones((1100, 3)))
    hits, pairs = concepts.search_range([1, 1, 1], 0.5), concepts.duplicates()
    assert next(hits).id == "c0" and next(pairs).second.id == "c1"
    clock.move(hours=1)
    assert {hit.id for hit in list(hits)[499:]} == {f"c{n}" for n in range(500, 1100, 2)}
    assert all(int(pair.second.id[1:]) % 2 == 0 for pair in [next(pairs) for _ in range(700)][499:])
    assert len(list(concepts.search_range([1, 1, 1], 0.5))) == 550
    policy = vs.Duplicates(0.9, "reject")
    assert concepts.add({"id": "late", "name": "x"}, vectors=[[1, 1, 1]], duplicates=policy) == ["c0"]


def test_no_transaction_is_open_between_hits(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    concepts = filled(store, np.ones((30, 3), np.float32))
    for hit in concepts.search_range([1, 1, 1], 0.5):
        if hit.rank == 3:
            store._catalog.checkpoint()
            assert not store._catalog._readers.mine().in_transaction
    list(concepts.search_range([1, 1, 1], 0.5))
    store.close()
    with pytest.raises(vs.StoreClosed):
        list(concepts.search_range([1, 1, 1], 0.5))


def test_memory_holds_one_batch_of_records(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    rows = [{"id": f"c{n}", "name": "x", "definition": "y" * 4000} for n in range(6000)]
    store.concepts.add(rows, vectors=np.ones((6000, 4)))
    del rows
    next(store.concepts.search_range([1, 1, 1, 1], 0.5))
    tracemalloc.start()
    assert sum(1 for _ in store.concepts.search_range([1, 1, 1, 1], 0.5)) == 6000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000, "24 MB of records went through"


def test_blocks_of_decisions_make_no_difference(open_store: Callable[..., vs.Store]) -> None:
    data = clustered(500, 8)
    concepts = filled(open_store(), data)
    whole = list(concepts.search_range(data[0], -1.0))
    with mock.patch.object(ranges, "_DECIDED_NUMBERS", 50):
        assert list(concepts.search_range(data[0], -1.0)) == whole


def test_an_empty_store_has_nothing_in_range(open_store: Callable[..., vs.Store]) -> None:
    assert list(open_store().concepts.search_range([1.0, 2.0], -1.0)) == []


@pytest.mark.parametrize("score", [float("nan"), float("inf"), None, "high", True])
def test_a_bad_score_is_refused_at_once(open_store: Callable[..., vs.Store], score: Any) -> None:
    with pytest.raises(vs.ValidationError, match="min_score: expected a finite number"):
        open_store().concepts.search_range([1.0], score)


def test_bad_queries_and_filters_are_refused_at_once(open_store: Callable[..., vs.Store]) -> None:
    concepts = filled(open_store(), np.ones((3, 3), np.float32))
    with pytest.raises(vs.DimensionError, match="concepts.search_range: query: expected 3 dimensions, got 2"):
        concepts.search_range([1.0, 2.0], 0.5)
    with pytest.raises(vs.WhereError, match="nonsense"):
        concepts.search_range([1.0, 2.0, 3.0], 0.5, {"nonsense": 1})
    with pytest.raises(vs.NotFound, match="nobody"):
        concepts.search_range(vs.Id("nobody"), 0.5)
