"""Every search path against brute force: ids, order, scores; filters; recall promises; results."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Matrix, brute_force, clustered, order_of, queries_like

import vectorstore as vs

METRICS = ["cosine", "ip", "l2"]


def expected_hits(query: Matrix, data: Matrix, metric: str, k: int, among: Any = None) -> list[tuple[str, float]]:
    """(id, score) of the true answer, ties by age."""
    places = np.arange(len(data)) if among is None else np.asarray(among)
    values = brute_force(query[None], data[places], metric)[0]
    chosen = order_of(values, k)
    scores = 1 / (1 - values[chosen]) if metric == "l2" else values[chosen]
    return [(f"c{places[place]}", float(score)) for place, score in zip(chosen, scores, strict=True)]


def check_equal(hits: vs.Hits[Any], expected: list[tuple[str, float]]) -> None:
    assert hits.ids == [name for name, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-9)
    assert [hit.rank for hit in hits] == list(range(len(hits)))
    distances = [hit.distance for hit in hits]
    assert distances == sorted(distances)


def with_duplicates(rows: int, dim: int) -> Matrix:
    data = clustered(rows, dim)
    data[rows // 2 : rows // 2 + rows // 10] = data[: rows // 10]
    return data


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("layout", ["pending", "segment", "both", "flushed", "indexed"])
def test_exact_search_equals_brute_force(open_store: Callable[..., vs.Store], metric: str, layout: str) -> None:
    data = with_duplicates(3000, 20)
    store = open_store(metric=metric)
    records = [{"id": f"c{place}", "name": "x"} for place in range(3000)]
    for size in ({"pending": 500, "flushed": 700, "segment": 3000, "indexed": 3000, "both": 1100}[layout],):
        for start in range(0, 3000, size):
            store.concepts.add(records[start : start + size], vectors=data[start : start + size])
    if layout in ("flushed", "indexed"):
        store.flush()
    if layout == "indexed":
        store.rebuild("concepts", vs.IndexRecipe("t", "LSH256rt", ({"candidates": 500},), min_recall=0))
    queries = np.concatenate([clustered(20, 20, seed=9), data[:5], data[1500:1505]])
    for query in queries:
        for k in (1, 10, 250):
            hits = store.concepts.search(query, k=k, exact=True)
            check_equal(hits, expected_hits(query, data, metric, k))
            assert hits.exact and hits.recall_promised == 1.0 and hits.metric == metric


@pytest.mark.parametrize("metric", METRICS)
def test_any_k_returns_all_there_is(open_store: Callable[..., vs.Store], metric: str) -> None:
    store = open_store(metric=metric)
    assert list(store.concepts.search([1.0, 2.0])) == []
    data = clustered(7, 2)
    store.concepts.add([{"id": f"c{place}", "name": "x"} for place in range(7)], vectors=data)

    check_equal(store.concepts.search(data[0], k=100), expected_hits(data[0], data, metric, 7))


@pytest.mark.parametrize("k", [0, -1, True, 2.5, "3", 10**9])
def test_a_bad_k_is_refused(store: vs.Store, k: Any) -> None:
    with pytest.raises(vs.ValidationError, match="k: expected"):
        store.concepts.search("x", k=k)


@pytest.mark.parametrize("recall", [-0.1, 1.1, True, "high", float("nan")])
def test_a_bad_recall_is_refused(store: vs.Store, recall: Any) -> None:
    with pytest.raises(vs.ValidationError, match="recall: expected"):
        store.concepts.search("x", recall=recall)


def big_store(open_store: Callable[..., vs.Store], metric: str = "cosine") -> tuple[vs.Store, Matrix]:
    """12,000 rows with an index over the first 11,000, 500 of them deleted, and 1,000 newer ones."""
    data = clustered(12_000, 32, groups=150)
    store = open_store(metric=metric)
    records = [
        {
            "id": f"c{place}",
            "name": "x",
            "domain": f"half{place % 2}",
            "tags": [f"t{place % 10}", f"h{place % 100}", f"k{place % 1000}"],
        }
        for place in range(12_000)
    ]
    store.concepts.add(records[:11_000], vectors=data[:11_000])
    store.rebuild("concepts")
    store.concepts.add(records[11_000:11_950], vectors=data[11_000:11_950])
    store.concepts.add(records[11_950:], vectors=data[11_950:])
    store.concepts.delete(ids=[f"c{place}" for place in range(0, 11_000, 22)])
    return store, data


def test_the_default_search_keeps_its_recall_and_scores_truly(open_store: Callable[..., vs.Store]) -> None:
    store, data = big_store(open_store)
    live = np.array([place for place in range(12_000) if place >= 11_000 or place % 22])
    queries = queries_like(data, 100, seed=3)
    for recall in (0.9, 0.95, 0.99):
        shares = []
        for query in queries:
            hits = store.concepts.search(query, recall=recall)
            truth = expected_hits(query, data, "cosine", 10, live)
            shares.append(len(set(hits.ids) & {name for name, _ in truth}) / 10)
            assert hits.plan.name == "index" and not hits.exact and hits.recall_promised >= recall
            assert hits.plan.candidates < 11_000
            found = dict(expected_hits(query, data, "cosine", 12_000, [int(name[1:]) for name in hits.ids]))
            assert {hit.id: pytest.approx(hit.score, abs=1e-9) for hit in hits} == found
        assert np.mean(shares) >= recall


@pytest.mark.parametrize("metric", METRICS)
def test_filtered_search_is_never_short_and_keeps_recall(open_store: Callable[..., vs.Store], metric: str) -> None:
    store, data = big_store(open_store, metric)
    live = np.array([place for place in range(12_000) if place >= 11_000 or place % 22])
    filters = {
        "half1": ({"domain": "half1"}, live[live % 2 == 1]),
        "t3": ({"tags__has": "t3"}, live[live % 10 == 3]),
        "h7": ({"tags__has": "h7"}, live[live % 100 == 7]),
        "k9": ({"tags__has": "k9"}, live[live % 1000 == 9]),
        "none": ({"tags__has": "zz"}, live[:0]),
        "both": ({"domain": "half1", "or": [{"tags__has": "h7"}, {"tags__has": "h8"}]}, live[live % 100 == 7]),
    }
    for name, (where, among) in filters.items():
        shares = []
        for query in queries_like(data, 25, seed=4):
            hits = store.concepts.search(query, k=10, where=where)
            truth = expected_hits(query, data, metric, 10, among)
            assert len(hits) == min(10, len(among)), name
            assert set(hits.ids) <= {f"c{place}" for place in among}
            shares.append(len(set(hits.ids) & {found for found, _ in truth}) / max(1, len(truth)))
            check_equal(store.concepts.search(query, k=10, where=where, exact=True), truth)
        if len(among):
            assert np.mean(shares) >= 0.99, name
    plans = {name: store.concepts.search(data[0], where=where).plan.name for name, (where, _) in filters.items()}

    assert plans["none"] == "empty" and plans["k9"] == "filtered exact"


def test_a_wide_filter_goes_through_the_index(
    open_store: Callable[..., vs.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to do it: the codes of the allowed rows alone, and proposals of the whole index sieved."""
    from vectorstore.vectors import allowed

    monkeypatch.setattr(allowed, "EXACT_FILTER_NUMBERS", 1000)
    store, data = big_store(open_store)
    places = np.array([place for place in range(12_000) if place % 2 and (place >= 11_000 or place % 22)])
    for subset_bytes in (allowed.SUBSET_BYTES, 0):
        monkeypatch.setattr(allowed, "SUBSET_BYTES", subset_bytes)
        store.concepts.add({"name": f"bump {subset_bytes}"}, vectors=[[9.0] * 32])  # a commit empties the filter cache
        shares = []
        for query in queries_like(data, 40, seed=5):
            hits = store.concepts.search(query, where={"domain": "half1"})
            truth = expected_hits(query, data, "cosine", 10, places)
            shares.append(len(set(hits.ids) & {name for name, _ in truth}) / 10)
            assert hits.plan.name == "index + filter" and len(hits) == 10
        assert np.mean(shares) >= 0.99
        together = store.concepts.search_many(queries_like(data, 40, seed=5), where={"domain": "half1"})
        assert together[-1].ids == hits.ids and together[-1].plan == hits.plan


def test_batches_equal_single_searches(open_store: Callable[..., vs.Store]) -> None:
    store, data = big_store(open_store)
    queries = queries_like(data, 60, seed=6)
    for arguments in (
        {},
        {"k": 3, "where": {"tags__has": "t3"}},
        {"exact": True},
        {"where": {"domain": "half0"}},
        {"recall": 0.9, "k": 120},
    ):
        many = store.concepts.search_many(queries, **arguments)  # type: ignore[arg-type]
        for query, hits in zip(queries, many, strict=True):
            single = store.concepts.search(query, **arguments)  # type: ignore[arg-type]
            assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in single]
            assert (hits.exact, hits.recall_promised) == (single.exact, single.recall_promised)


def test_a_batch_may_mix_texts_ids_and_records(store: vs.Store) -> None:
    store.concepts.add(
        [{"name": "king", "definition": "a male monarch"}, {"name": "queen", "definition": "a female monarch"}]
    )
    king = store.concepts.get("default:king")
    many = store.concepts.search_many(["monarch", vs.Id("default:king"), king])

    assert [hits.ids for hits in many] == [
        store.concepts.search("monarch").ids,
        ["default:queen"],
        ["default:queen"],
    ]
    assert store.concepts.search_many([]) == []


def test_a_query_by_id_leaves_the_record_out(open_store: Callable[..., vs.Store]) -> None:
    data = clustered(50, 6)
    store = open_store()
    store.concepts.add([{"id": f"c{place}", "name": "x"} for place in range(50)], vectors=data)
    truth = expected_hits(data[7], data, "cosine", 11)

    assert store.concepts.search(vs.Id("c7"), k=10).ids == [name for name, _ in truth if name != "c7"]
    with pytest.raises(vs.NotFound, match="'nobody'"):
        store.concepts.search(vs.Id("nobody"))


def test_ties_are_in_order_of_age(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.concepts.add([{"id": f"c{place}", "name": "x"} for place in range(2000)], vectors=np.ones((2000, 5)))
    store.concepts.upsert({"id": "c0", "name": "x"}, vectors=np.ones((1, 5)))

    assert store.concepts.search(np.ones(5), k=3).ids == ["c1", "c2", "c3"]
    assert store.concepts.search(np.ones(5), k=2000).ids[-1] == "c0"


def test_the_plan_says_what_was_done_and_parts_sum_to_the_score(store: vs.Store) -> None:
    store.concepts.add([{"name": f"thing {n}", "definition": f"number {n} of many"} for n in range(30)])
    for mode in ("vector", "text", "hybrid"):
        hits = store.concepts.search("thing number 7", mode=mode)  # type: ignore[arg-type]
        assert hits[0].record.name == "thing 7"
        assert [sum(hit.parts.values()) for hit in hits] == pytest.approx([hit.score for hit in hits])
        assert hits.plan.reason and hits.elapsed > 0 and hits.generation > 0
    assert store.concepts.search("thing", k=5).scanned == 30


@pytest.mark.parametrize(
    "text", ['"', "AND OR NOT", "a* b^ (c", "NEAR(x y)", "name:king", "--; DROP TABLE concepts", "ü 🦜", "'", "{}[]"]
)
def test_no_user_text_breaks_full_text_search(store: vs.Store, text: str) -> None:
    store.concepts.add([{"name": "king"}, {"name": "drop table"}])
    for mode in ("text", "hybrid"):
        store.concepts.search(text, mode=mode)  # type: ignore[arg-type]

    assert len(store.concepts) == 2


def test_text_search_follows_updates_and_deletes(store: vs.Store) -> None:
    store.concepts.add([{"name": "king", "definition": "ruler"}, {"name": "queen", "definition": "ruler"}])
    store.concepts.update({"id": "default:king", "definition": "piece of chess"})
    store.concepts.delete("default:queen")

    assert store.concepts.search("ruler", mode="text").ids == []
    assert store.concepts.search("chess", mode="text", where={"name": "king"}).ids == ["default:king"]


def test_hits_become_frames_and_html(store: vs.Store) -> None:
    store.concepts.add([{"name": "<b>king</b>", "definition": "a & b"}, {"name": "queen"}])
    hits = store.concepts.search("king")
    frame = hits.to_pandas()

    assert list(frame["id"]) == hits.ids and list(frame["score"]) == [hit.score for hit in hits]
    assert "&lt;b&gt;king" in hits._repr_html_() and "<b>king" not in hits._repr_html_()
    assert store.concepts.search("king", where={"name": "nobody"}).to_pandas().empty


def test_another_handle_sees_a_commit_at_its_next_search(open_store: Callable[..., vs.Store]) -> None:
    one, two = open_store(embedder="hash"), open_store(embedder="hash")
    for number, (writer, reader) in enumerate(itertools.islice(itertools.cycle([(one, two), (two, one)]), 40)):
        writer.concepts.add({"name": f"word{number}"})
        hits = reader.concepts.search(f"word{number}", k=1)
        assert hits.ids == [f"default:word{number}"]
        if number % 7 == 3:
            writer.flush()
        if number % 11 == 5:
            writer.compact()
        if number % 5 == 1:
            writer.concepts.delete(f"default:word{number}")
            assert f"default:word{number}" not in reader.concepts.search(f"word{number}").ids


def test_searching_inside_a_transaction_publishes_nothing_that_is_rolled_back(
    open_store: Callable[..., vs.Store],
) -> None:
    store = open_store(embedder="hash")
    store.concepts.add({"name": "king"})
    with pytest.raises(RuntimeError), store.transaction():
        store.concepts.add({"name": "queen"})
        store.concepts.delete("default:king")
        assert store.concepts.search("king").ids == ["default:queen"]
        assert store.concepts.search("king", where={"name": "queen"}).ids == ["default:queen"]
        raise RuntimeError

    assert store.concepts.search("king").ids == ["default:king"]
    store.concepts.add({"name": "pawn"})
    assert sorted(store.concepts.search("king", where={"version": 1}).ids) == ["default:king", "default:pawn"]


def test_background_publishing_happens_and_changes_no_answer(open_store: Callable[..., vs.Store]) -> None:
    data = clustered(14_000, 16)
    store = open_store(auto_publish=True)
    for start in range(0, 14_000, 2000):
        store.concepts.add(
            [{"id": f"c{place}", "name": "x"} for place in range(start, start + 2000)],
            vectors=data[start : start + 2000],
        )
    store._maintainer.wait()
    hits = store.concepts.search(data[5], k=5)

    assert store.stats()["kinds"]["concepts"]["index"]["rows"] >= 10_000
    assert hits.plan.name == "index"
    check_equal(hits, expected_hits(data[5], data, "cosine", 5))


def test_queries_of_several_dimensions_are_refused_where_the_space_is_empty_too(store: vs.Store) -> None:
    with pytest.raises(vs.DimensionError, match=r"queries\[1\]: expected 64 dimensions, got 3"):
        store.concepts.search_many(["a text", [1.0, 2.0, 3.0]])
