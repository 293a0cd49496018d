"""Recommendation: the formula in numpy, examples of every sort, never returned, never short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Matrix, brute_force, clustered, order_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import vectorstore as vs

METRICS = ["cosine", "ip", "l2"]


def filled(store: vs.Store, data: Matrix) -> vs.Collection[vs.Concept]:
    store.concepts.add(
        [{"id": f"c{place}", "name": "x", "domain": f"d{place % 2}"} for place in range(len(data))], vectors=data
    )
    return store.concepts


def formula(positive: Any, negative: Any, metric: str) -> Any:
    """As the documentation gives it, in float64."""

    def mean(rows: Any) -> Any:
        wide = np.asarray(rows, dtype=np.float64)
        return (wide / np.linalg.norm(wide, axis=1, keepdims=True) if metric == "cosine" else wide).mean(axis=0)

    return 2 * mean(positive) - mean(negative) if len(negative) else mean(positive)


def expected(data: Matrix, target: Any, metric: str, k: int, without: set[int]) -> list[tuple[str, float]]:
    places = [place for place in range(len(data)) if place not in without]
    values = brute_force(np.float32(target)[None], data[places], metric)[0]
    scores = 1 / (1 - values) if metric == "l2" else values
    return [(f"c{places[at]}", float(scores[at])) for at in order_of(values, k)]


def check_equal(hits: vs.Hits[Any], wanted: list[tuple[str, float]]) -> None:
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in wanted], abs=1e-9)
    assert hits.ids == [name for name, _ in wanted]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    metric=st.sampled_from(METRICS),
    positive=st.lists(st.integers(0, 24), min_size=1, max_size=4),
    negative=st.lists(st.integers(0, 24), max_size=4),
    k=st.integers(1, 30),
)
def test_it_equals_the_formula_and_brute_force(
    seed: int, metric: str, positive: list[int], negative: list[int], k: int
) -> None:
    data = np.random.default_rng(seed).standard_normal((25, 6)).astype(np.float32)
    target = formula(data[positive], data[negative], metric)
    assume(np.linalg.norm(target) > 1e-3)
    with vs.open(":memory:", embedder=None, metric=metric) as store:
        concepts = filled(store, data)
        by_id = vs.Recommend([vs.Id(f"c{n}") for n in positive], [vs.Id(f"c{n}") for n in negative])
        check_equal(concepts.search(by_id, k=k), expected(data, target, metric, k, {*positive, *negative}))
        by_vector = vs.Recommend(data[positive], data[negative])
        check_equal(concepts.search(by_vector, k=k), expected(data, target, metric, k, set()))


def test_texts_ids_records_vectors_and_queries_mix(store: vs.Store) -> None:
    store.concepts.add([{"name": name} for name in ("king", "queen", "pawn", "knight", "castle")])
    stored = store.concepts.get("default:queen")
    unknown = vs.Concept(name="bishop")
    vector = vs.HashEmbedder(64).embed(["moat"])[0]
    query = vs.Recommend(
        positive=["a ruler", vs.Id("default:king"), stored, vector, vs.Recommend([vs.Id("default:pawn")])],
        negative=[unknown, "chess"],
    )
    hits = store.concepts.search(query, k=10)
    assert sorted(hits.ids) == ["default:castle", "default:knight"]

    embed = vs.HashEmbedder(64).embed
    positive = [*embed(["a ruler", "king", "queen"]), vector, *embed(["pawn"])]
    target = formula(positive, embed(["bishop", "chess"]), "cosine")
    for hit in hits:
        assert hit.score == pytest.approx(
            brute_force(np.float32(target)[None], embed([hit.record.name]), "cosine")[0, 0], abs=1e-6
        )


def test_a_record_without_an_id_is_known_by_the_one_that_follows_from_it(store: vs.Store) -> None:
    store.concepts.add([{"name": "king"}, {"name": "queen"}])
    assert store.concepts.search(vs.Recommend([vs.Concept(name="King")]), k=5).ids == ["default:queen"]


def test_it_goes_through_filters_batches_recall_and_stages(open_store: Callable[..., vs.Store]) -> None:
    data = clustered(3000, 16)
    concepts = filled(open_store(), data)
    open_store().rebuild("concepts", vs.IndexRecipe("t", "LSH256rt", ({"candidates": 600},), min_recall=0))
    query = vs.Recommend([vs.Id("c1"), vs.Id("c3")], [vs.Id("c2")])
    target = formula(data[[1, 3]], data[[2]], "cosine")
    odd = {place for place in range(3000) if place % 2 == 0} | {1, 3}
    check_equal(concepts.search(query, k=20, where={"domain": "d1"}), expected(data, target, "cosine", 20, odd))
    check_equal(concepts.search(query, k=20, exact=True), expected(data, target, "cosine", 20, {1, 2, 3}))
    through = concepts.search(query, k=10, recall=0.5)
    assert through.plan.name == "index" and not {"c1", "c2", "c3"} & set(through.ids) and len(through) == 10
    many = concepts.search_many([query, vs.Id("c5"), data[7]], k=10)
    assert [hits.ids for hits in many] == [concepts.search(one, k=10).ids for one in (query, vs.Id("c5"), data[7])]
    diverse = concepts.search(query, k=10, mmr=0.5)
    assert len(diverse) == 10 and not {"c1", "c2", "c3"} & set(diverse.ids)


def test_it_is_never_short_when_examples_are_the_best(open_store: Callable[..., vs.Store]) -> None:
    data = clustered(40, 4)
    concepts = filled(open_store(), data)
    hits = concepts.search(vs.Recommend([vs.Id(f"c{n}") for n in range(30)]), k=20)
    assert sorted(hits.ids) == sorted(f"c{n}" for n in range(30, 40))


def test_a_query_can_be_used_again(open_store: Callable[..., vs.Store]) -> None:
    concepts = filled(open_store(), clustered(20, 4))
    query = vs.Recommend(vs.Id(f"c{n}") for n in range(3))
    assert concepts.search(query, k=5).ids == concepts.search(query, k=5).ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "Recommend.positive: expected at least one example, got none"),
        (("king",), "Recommend.positive: expected a list of examples, got str"),
        ((vs.Id("king"),), "Recommend.positive: expected a list of examples, got Id"),
        ((vs.Concept(name="king"),), "Recommend.positive: expected a list of examples, got Concept"),
        ((7,), "Recommend.positive: expected a list of examples, got int"),
        ((np.ones(4),), r"Recommend.positive: expected one vector a row, got shape \(4,\)"),
        ((["king"], "queen"), "Recommend.negative: expected a list of examples, got str"),
    ],
)
def test_bad_examples_are_refused_at_once(arguments: Any, message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        vs.Recommend(*arguments)


def test_errors_name_the_example(open_store: Callable[..., vs.Store]) -> None:
    concepts = filled(open_store(embedder="hash:64"), np.ones((2, 64)))

    def refused(query: vs.Recommend, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            concepts.search(query)

    refused(vs.Recommend(["a", " "]), vs.ValidationError, r"concepts.search: query.positive\[1\]: expected some text")
    refused(vs.Recommend([[1.0] * 64, [0.0] * 64]), vs.ValidationError, r"query.positive\[1\]\[0\]: a zero vector")
    refused(vs.Recommend(["a"], [[1.0, 2.0]]), vs.DimensionError, r"query.negative\[0\]: expected 64 dimensions, got 2")
    refused(vs.Recommend([vs.Id("nobody")]), vs.NotFound, "no record 'nobody'")
    concepts.delete("c1")
    refused(vs.Recommend([vs.Id("c1")]), vs.NotFound, "no record 'c1'")
    with pytest.raises(vs.ValidationError, match="mode='text' needs a text, got Recommend"):
        concepts.search(vs.Recommend(["a"]), mode="text")


def test_examples_that_cancel_out_have_no_direction(open_store: Callable[..., vs.Store]) -> None:
    concepts = filled(open_store(), clustered(5, 3))
    vector = np.array([0.3, -0.7, 0.2])
    with pytest.raises(vs.ValidationError, match="concepts.search: query: the examples cancel out"):
        concepts.search(vs.Recommend([vector, -3 * vector]))
    with vs.open(":memory:", embedder=None, metric="ip") as store:
        hits = filled(store, clustered(5, 3)).search(vs.Recommend([vector, -vector]), k=5)
        assert [hit.score for hit in hits] == pytest.approx([0] * 5, abs=1e-6), "an inner product needs no direction"


def test_an_empty_store_has_nothing_to_recommend(open_store: Callable[..., vs.Store]) -> None:
    concepts = open_store().concepts
    assert list(concepts.search(vs.Recommend([[1.0, 2.0]]))) == []
    with pytest.raises(vs.DimensionError, match="examples of 2 and of 3 dimensions"):
        concepts.search(vs.Recommend([[1.0, 2.0], [1.0, 2.0, 3.0]]))
    with pytest.raises(vs.DimensionError, match="query: examples of 2 and of 3 dimensions"):
        concepts.search(vs.Recommend([[1.0, 2.0]], [[1.0, 2.0, 3.0]]))
