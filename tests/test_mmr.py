"""Maximal marginal relevance against brute force: order of choice, scores, pools, ties, modes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from conftest import Matrix, brute_force, clustered
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.search.mmr import choose

METRICS = ["cosine", "ip", "l2"]


def filled(store: vs.Store, data: Matrix) -> vs.Collection[vs.Concept]:
    records = [{"id": f"c{place}", "name": "x", "domain": f"d{place % 3}"} for place in range(len(data))]
    store.concepts.add(records, vectors=data)
    return store.concepts


def similarities(points: Matrix, data: Matrix, metric: str) -> Any:
    """As hits are scored."""
    values = brute_force(points, data, metric)
    return 1 / (1 - values) if metric == "l2" else values


def check_greedy(hits: vs.Hits[Any], query: Matrix, data: Matrix, pool: list[int], metric: str, weight: float) -> None:
    """Each choice is the best there was by the formula, by a plain loop; equal records in the order of relevance."""
    relevance = similarities(query[None], data, metric)[0]
    between = similarities(data, data, metric)
    left, chosen = list(pool), []
    for hit in hits:
        place = int(hit.id[1:])
        values = {}
        for one in left:
            nearest = max((between[one, other] for other in chosen), default=0.0)
            values[one] = weight * relevance[one] - (1 - weight) * nearest
        best = max(values.values())
        assert values[place] >= best - 1e-9 * max(1.0, abs(best))
        equals = [one for one in left if np.array_equal(data[one], data[place])]
        assert place == equals[0]
        assert hit.score == pytest.approx(relevance[place], rel=1e-9, abs=1e-12)
        assert sum(hit.parts.values()) == hit.score
        left.remove(place)
        chosen.append(place)
    assert [hit.rank for hit in hits] == list(range(len(hits)))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.integers(-4, 4)] * 3).filter(any), min_size=1, max_size=30),
    query=st.tuples(*[st.integers(-4, 4)] * 3).filter(any),
    metric=st.sampled_from(METRICS),
    weight=st.sampled_from([0.0, 0.25, 0.5, 0.9]),
    k=st.integers(1, 12),
    pool=st.integers(1, 40),
)
def test_the_order_is_that_of_brute_force_over_the_same_pool(
    rows: list[tuple[int, ...]], query: tuple[int, ...], metric: str, weight: float, k: int, pool: int
) -> None:
    data, point = np.array(rows, dtype=np.float32), np.array(query, dtype=np.float32)
    with vs.open(":memory:", embedder=None, metric=metric) as store:
        concepts = filled(store, data)
        hits = concepts.search(point, k=k, mmr=weight, pool=pool)
        candidates = [int(name[1:]) for name in concepts.search(point, k=max(k, pool)).ids]
        assert len(hits) == min(k, len(data)) == len(set(hits.ids))
        check_greedy(hits, point, data, candidates, metric, weight)


@pytest.mark.parametrize("metric", METRICS)
def test_with_a_pool_of_everything_it_equals_brute_force_over_everything(
    open_store: Callable[..., vs.Store], metric: str
) -> None:
    data = clustered(400, 12)
    data[200:220] = data[:20]
    concepts = filled(open_store(metric=metric), data)
    query = clustered(1, 12, seed=5)[0]
    everything = [int(name[1:]) for name in concepts.search(query, k=400).ids]
    for weight in (0.0, 0.5):
        check_greedy(concepts.search(query, k=25, mmr=weight, pool=1000), query, data, everything, metric, weight)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("where", [None, {"domain": "d1"}])
def test_a_weight_of_one_is_the_plain_search(open_store: Callable[..., vs.Store], metric: str, where: Any) -> None:
    data = clustered(300, 8)
    data[100:150] = data[:50]
    concepts = filled(open_store(metric=metric), data)
    for query in data[:5]:
        plain, diverse = concepts.search(query, k=20, where=where), concepts.search(query, k=20, where=where, mmr=1.0)
        assert diverse.hits == plain.hits
        nearly = concepts.search(query, k=20, where=where, mmr=1 - 1e-15)
        assert [hit.score for hit in nearly] == pytest.approx([hit.score for hit in plain], abs=1e-12)


def test_a_weight_of_zero_spreads_the_most(open_store: Callable[..., vs.Store]) -> None:
    data = np.repeat(np.eye(6, dtype=np.float32), 5, axis=0)
    data[:, 0] += np.linspace(1, 2, 30, dtype=np.float32)
    concepts = filled(open_store(), data)

    def closest(hits: vs.Hits[Any]) -> float:
        rows = data[[int(name[1:]) for name in hits.ids]]
        between = brute_force(rows, rows, "cosine")
        return float(between[np.triu_indices(len(rows), 1)].max())

    query = np.eye(6, dtype=np.float32)[0]
    spread = [closest(concepts.search(query, k=6, mmr=weight, pool=30)) for weight in (0.0, 0.5, 1.0)]
    assert spread[0] < 0.9 < spread[2] and spread == sorted(spread)
    assert concepts.search(query, k=6, mmr=0.0, pool=30).ids[0] == concepts.search(query, k=1).ids[0]


def test_the_default_pool_is_ten_times_k_and_fifty_at_least(open_store: Callable[..., vs.Store]) -> None:
    concepts = filled(open_store(), clustered(200, 6))
    query = clustered(1, 6, seed=3)[0]
    for k, pool in ((1, 50), (5, 50), (8, 80)):
        assert concepts.search(query, k=k, mmr=0.3).ids == concepts.search(query, k=k, mmr=0.3, pool=pool).ids
    few = concepts.search(query, k=20, mmr=0.0, pool=3)
    assert sorted(few.ids) == sorted(concepts.search(query, k=20).ids), "a pool has room for k at least"


def test_filters_and_examples_keep_out_of_a_diverse_answer(open_store: Callable[..., vs.Store]) -> None:
    concepts = filled(open_store(), clustered(90, 6))
    hits = concepts.search(vs.Id("c1"), k=30, where={"domain": "d1"}, mmr=0.5)
    assert len(hits) == 29 and "c1" not in hits.ids
    assert {hit.record.domain for hit in hits} == {"d1"}
    assert list(concepts.search(np.ones(6), where={"domain": "none"}, mmr=0.5)) == []


@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_it_diversifies_texts_and_fusions_and_keeps_their_scores(store: vs.Store, mode: Any) -> None:
    names = ["red fox runs", "red fox runs fast", "red fox runs far", "blue whale and fox", "green frog, no animal"]
    store.concepts.add([{"name": name, "disambiguation": str(place)} for place, name in enumerate(names)])
    store.concepts.add({"id": "bare", "name": "fox"})
    plain = {hit.id: hit.score for hit in store.concepts.search("red fox", k=10, mode=mode)}
    diverse = store.concepts.search("red fox", k=len(plain), mode=mode, mmr=0.3)
    assert {hit.id: hit.score for hit in diverse} == plain
    assert diverse.ids[0] == next(iter(plain))
    assert diverse.ids != list(plain)
    assert store.concepts.search("red fox", k=10, mode=mode, mmr=1.0).ids == list(plain)


def test_it_orders_what_decay_and_re_ranking_made(open_store: Callable[..., vs.Store], clock: Any) -> None:
    data, concepts = clustered(60, 6), open_store().concepts
    for start in range(0, 60, 20):
        names = [{"id": f"c{n}", "name": "x"} for n in range(start, start + 20)]
        concepts.add(names, vectors=data[start : start + 20])
        clock.move(days=10)
    query = clustered(1, 6, seed=3)[0]

    def backwards(_: Any, records: Any) -> list[float]:
        return [-1000.0 * int(record.id[1:]) for record in records]

    for options in ({"decay": vs.Decay(half_life=timedelta(days=10))}, {"rerank": backwards, "rerank_depth": 60}):
        plain = concepts.search(query, k=60, **options)
        relevance = np.array([hit.score for hit in plain])
        relevance = (relevance - relevance.min()) / np.ptp(relevance)
        places = [int(hit.id[1:]) for hit in plain]
        chosen = choose(relevance, data[places], np.ones(60, bool), "cosine", 0.4, 12)
        diverse = concepts.search(query, k=12, mmr=0.4, pool=60, **options)
        assert diverse.ids == [plain.ids[place] for place in chosen] != plain.ids[:12]
        assert [hit.score for hit in diverse] == pytest.approx([plain[place].score for place in chosen])
        assert all(sum(hit.parts.values()) == pytest.approx(hit.score) for hit in diverse)


def test_text_hits_without_a_vector_are_like_nothing(open_store: Callable[..., vs.Store]) -> None:
    concepts = open_store().concepts
    concepts.add([{"id": f"v{n}", "name": "fox"} for n in range(3)], vectors=np.ones((3, 4)))
    concepts.add({"id": "bare", "name": "fox fox"})
    hits = concepts.search("fox", k=4, mode="text", mmr=0.0)
    assert sorted(hits.ids) == ["bare", "v0", "v1", "v2"]
    assert "bare" in hits.ids[:2], "it is as far from the others as can be"


def test_an_empty_store_gives_an_empty_answer(open_store: Callable[..., vs.Store]) -> None:
    concepts = open_store().concepts
    assert list(concepts.search([1.0, 2.0], mmr=0.5)) == []
    assert list(concepts.search("fox", mode="text", mmr=0.5)) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mmr": -0.1}, "mmr: expected 0..1, got -0.1"),
        ({"mmr": True}, "mmr: expected 0..1, got True"),
        ({"mmr": float("nan")}, "mmr: expected 0..1, got nan"),
        ({"mmr": "half"}, "mmr: expected 0..1, got 'half'"),
        ({"pool": 50}, "mmr: expected 0..1 with a pool, got None"),
        ({"mmr": 0.5, "pool": 0}, "pool: expected a whole number in 1..100000, got 0"),
        ({"mmr": 0.5, "pool": 2.5}, "pool: expected a whole number"),
        ({"mmr": 0.5, "k": "ten"}, "k: expected a whole number"),
    ],
)
def test_bad_arguments_are_refused(open_store: Callable[..., vs.Store], options: dict[str, Any], message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message.replace(".", r"\.")):
        open_store().concepts.search([1.0, 2.0], **options)


def test_ties_go_to_the_earlier_place() -> None:
    rows = np.tile(np.array([[1, 2, 3]], np.float32), (40, 1))
    known = np.ones(40, dtype=bool)
    for metric in METRICS:
        assert choose(np.full(40, 0.5), rows, known, metric, 0.5, 40) == list(range(40))
