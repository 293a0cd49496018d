"""Search over several kinds, in contexts, outside of a domain, and with each domain's mean taken off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Clock, Matrix, clustered
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vectorstore as vs


class Note(vs.Record, table="notes"):
    """Another kind with a text and a domain."""

    text: Annotated[str, vs.EMBEDDED] = ""
    domain: str | None = None


@pytest.fixture
def filled(open_store: Callable[..., vs.Store]) -> vs.Store:
    """Concepts, notes and analogies of the same few words, so that their scores mix and tie."""
    store = open_store(embedder="hash:64", kinds=[Note])
    words = ["king", "queen", "tide", "root", "heat", "flow"]
    random = np.random.default_rng(2)
    for part in range(3):
        store.concepts.add(
            [
                {
                    "id": f"c{part}.{n}",
                    "name": " ".join(random.choice(words, 2)),
                    "domain": f"d{n % 3}",
                    "context": f"x{n % 2}",
                }
                for n in range(40)
            ]
        )
        store.collection(Note).add(
            [
                {"id": f"n{part}.{n}", "text": " ".join(random.choice(words, 2)), "domain": f"d{n % 4}"}
                for n in range(30)
            ]
        )
    store.analogies.add(
        [{"id": f"a{n}", "a": words[n % 6], "b": words[n % 5], "c": words[n % 4], "d": "root"} for n in range(20)]
    )
    return store


def merged(singles: dict[str, vs.Hits[Any]], k: int) -> list[tuple[str, str, float]]:
    """(kind, id, score) of single searches put together: by score, ties in the order of kinds, then of each list."""
    every = [(hit, order) for order, hits in enumerate(singles.values()) for hit in hits]
    every.sort(key=lambda pair: (-pair[0].score, pair[1], pair[0].rank))
    return [(hit.kind, hit.id, hit.score) for hit, _ in every[:k]]


def shown(hits: vs.Hits[Any]) -> list[tuple[str, str, float]]:
    return [(hit.kind, hit.id, hit.score) for hit in hits]


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
@pytest.mark.parametrize("kinds", [None, ["notes", "concepts"], ["analogies", "concepts", "notes"], [Note], "concepts"])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_it_equals_the_merged_single_searches(filled: vs.Store, mode: Any, kinds: Any, k: int) -> None:
    names = ["concepts", "analogies", "notes"] if kinds is None else [kinds] if isinstance(kinds, str) else kinds
    for query in ("king heat", "root"):
        singles = {str(name): filled.collection(name).search(query, k=k, mode=mode) for name in names}
        hits = filled.search(query, k=k, mode=mode, kinds=kinds)
        assert shown(hits) == merged(singles, k)
        assert [hit.rank for hit in hits] == list(range(len(hits)))
        assert all(sum(hit.parts.values()) == pytest.approx(hit.score) for hit in hits)
        assert hits.exact and hits.metric == ("cosine" if mode == "vector" else "fusion")
        assert hits.scanned == sum(single.scanned for single in singles.values())
    assert {hit.kind for hit in filled.search("king", k=400)} == {"concepts", "notes", "analogies"}


def test_options_reach_every_kind(filled: vs.Store) -> None:
    clock: Clock = filled._catalog.clock  # type: ignore[assignment]
    clock.move(days=9)
    filled.collection(Note).add({"id": "new", "text": "king heat flow"})
    filled.concepts.update({"id": "c0.0", "domain": "d9"})
    options: dict[str, Any] = {"decay": vs.Decay(half_life=timedelta(days=3)), "exact": True}
    singles = {
        name: filled.collection(name).search("king heat", k=9, **options) for name in [*filled.kinds[1:3], "notes"]
    }
    assert shown(filled.search("king heat", k=9, **options)) == merged(singles, 9)
    judge = lambda query, records: [float(len(record.id)) for record in records]  # noqa: E731
    singles = {name: filled.collection(name).search("king", k=9, rerank=judge, rerank_depth=9) for name in singles}
    hits = filled.search("king", k=9, rerank=judge, rerank_depth=9)
    assert shown(hits) == merged(singles, 9) and hits.metric == "rerank"


def test_filters_for_all_and_for_each(filled: vs.Store) -> None:
    both = ["concepts", "notes"]
    singles = {name: filled.collection(name).search("king", k=50, where={"domain": "d1"}) for name in both}
    assert shown(filled.search("king", k=50, where={"domain": "d1"}, kinds=both)) == merged(singles, 50)
    each = {"concepts": {"domain": "d1"}, "notes": {"domain__in": ["d0", "d3"]}}
    singles = {name: filled.collection(name).search("king", k=50, where=each[name]) for name in both}
    hits = filled.search("king", k=50, where=each, kinds=both)
    assert shown(hits) == merged(singles, 50) and hits.plan.matching == 39 + 45
    singles["notes"] = filled.collection(Note).search("king", k=200)
    assert shown(filled.search("king", k=200, where={"concepts": each["concepts"]}, kinds=both)) == merged(singles, 200)
    with pytest.raises(vs.WhereError, match=r"analogies.*no field 'domain'.*where=\{'analogies'"):
        filled.search("king", where={"domain": "d1"})
    with pytest.raises(vs.ValidationError, match="some keys are kinds and some are not"):
        filled.search("king", where={"concepts": {}, "domain": "d1"})


def test_contexts_are_a_filter(filled: vs.Store) -> None:
    for contexts, among in (("x0", ["x0"]), (["x1", "default"], ["x1", "default"]), ([], [])):
        where = {"context__in": among}
        singles = {name: filled.collection(name).search("king", k=300, where=where) for name in ("concepts", "notes")}
        assert shown(filled.search("king", k=300, contexts=contexts, kinds=["concepts", "notes"])) == merged(
            singles, 300
        )
    hits = filled.search("king", k=300, contexts="x1", where={"domain": "d1"}, kinds=["concepts"])
    assert {(hit.record.context, hit.record.domain) for hit in hits} == {("x1", "d1")} and len(hits) == 21


def test_a_record_is_left_out_of_its_own_kind_alone(filled: vs.Store) -> None:
    filled.collection(Note).add({"id": "c0.0", "text": "the same id in another kind"})
    record = filled.concepts.get("c0.0")
    hits = filled.search(record, k=500)
    assert ("concepts", "c0.0") not in {(hit.kind, hit.id) for hit in hits}
    assert ("notes", "c0.0") in {(hit.kind, hit.id) for hit in hits}
    vector = filled.concepts.vectors(["c0.0"])[0]
    assert shown(hits) == [hit for hit in shown(filled.search(vector, k=501)) if hit[:2] != ("concepts", "c0.0")]
    assert shown(filled.search(record, k=5, kinds=["notes"])) == shown(filled.search(vector, k=5, kinds=["notes"]))


def test_what_cannot_be_compared_is_refused_with_words(open_store: Callable[..., vs.Store]) -> None:
    store = open_store(embedder="hash:64", kinds=[Note], metric={"analogies": "l2"})
    assert list(store.search("king")) == []
    store.concepts.add({"name": "king"})
    store.analogies.add({"a": "king", "b": "queen"})
    store.clusters.add({"name": "royals"}, vectors=np.ones((1, 64)))
    store.collection(Note).add({"text": "king"}, vectors=np.ones((1, 3)))
    for kinds, message in (
        (["concepts", "analogies"], r"concepts \(cosine, 64 dimensions, hash.*\) and analogies \(l2, 64"),
        (["concepts", "clusters"], "clusters .cosine, 64 dimensions, vectors brought by the caller"),
        (["concepts", "notes"], "notes .cosine, 3 dimensions"),
        (None, "cannot be compared; name kinds"),
    ):
        with pytest.raises(vs.SpaceMismatch, match=message):
            store.search("king", kinds=kinds)
    assert store.search("king", kinds=["contexts", "concepts"]).ids == ["default:king"]
    with pytest.raises(vs.ValidationError, match="BM25"):
        store.search("king", mode="text")
    with pytest.raises(vs.ValidationError, match="Id names records of one kind"):
        store.search(vs.Id("default:king"))
    with pytest.raises(vs.NotFound, match="no kind 'nothing'"):
        store.search("king", kinds=["nothing"])
    with pytest.raises(vs.ValidationError, match="at least one kind"):
        store.search("king", kinds=[])
    with pytest.raises(vs.ValidationError, match="k: expected"):
        store.search("king", k=0, kinds=["concepts"])
    with pytest.raises(vs.ValidationError, match="mode='hybrid' needs a text"):
        store.search(np.ones(64), mode="hybrid", kinds=["concepts"])


def test_all_kinds_are_of_one_snapshot(open_store: Callable[..., vs.Store]) -> None:
    """A writer moves one record to and fro between two kinds; every search finds it exactly once."""
    store, other = (open_store(embedder="hash:64", kinds=[Note]) for _ in range(2))
    store.concepts.add([{"id": f"c{n}", "name": f"pawn {n}"} for n in range(5)])
    store.collection(Note).add(
        [{"id": f"n{n}", "text": f"pawn {n}"} for n in range(5)] + [{"id": "it", "text": "king"}]
    )
    stop, failed = threading.Event(), []

    def write() -> None:
        try:
            for _ in range(60):
                for there, here, field in (
                    (other.concepts, other.collection(Note), "name"),
                    (other.collection(Note), other.concepts, "text"),
                ):
                    with other.transaction():
                        here.delete("it")
                        there.add({"id": "it", field: "king"})
        except BaseException as error:  # the assertion below names it
            failed.append(error)
        finally:
            stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    counts = set()
    while not stop.is_set():
        hits = store.search("king", k=20, kinds=["concepts", "notes"])
        counts.add(sum(hit.id == "it" for hit in hits))
    writer.join()
    assert failed == [] and counts == {1}


# -- outside ----------------------------------------------------------------------------------------------------------


def test_outside_is_not_in(filled: vs.Store) -> None:
    filled.concepts.add([{"id": "nowhere", "name": "king heat"}])
    for outside in (
        {"domain": "d1"},
        {"domain__in": ["d0", "d2"]},
        {"domain": None},
        {"context": "x1", "domain": "d0"},
    ):
        expected = filled.concepts.search("king heat", k=200, where={"not": outside})
        hits = filled.concepts.search("king heat", k=200, outside=outside)
        assert shown(hits) == shown(expected) and len(hits) == filled.concepts.count({"not": outside})
    assert "nowhere" in filled.concepts.search("king heat", k=200, outside={"domain": "d1"}).ids
    both = filled.concepts.search("king", k=200, where={"context": "x1"}, outside={"domain": "d1"})
    assert shown(both) == shown(filled.concepts.search("king", k=200, where={"context": "x1", "domain__ne": "d1"}))
    for mode in ("text", "hybrid"):
        hits = filled.concepts.search("king", k=200, mode=mode, outside={"domain": "d1"})  # type: ignore[arg-type]
        assert len(hits) and "d1" not in {hit.record.domain for hit in hits}


def test_outside_of_the_querys_own_domain(filled: vs.Store) -> None:
    record = filled.concepts.get("c0.1")
    for query in (record, vs.Id("c0.1")):
        hits = filled.concepts.search(query, k=200, outside="domain")
        assert (
            shown(hits) == shown(filled.concepts.search(query, k=200, where={"domain__ne": "d1"})) and len(hits) == 81
        )
    stranger = vs.Concept(name="king", domain="d2")
    assert "d2" not in {hit.record.domain for hit in filled.concepts.search(stranger, k=200, outside="domain")}


def test_a_senseless_outside_is_refused(filled: vs.Store) -> None:
    filled.concepts.add({"id": "nowhere", "name": "king"})
    for query in ("king", vs.Id("nowhere"), np.ones(64)):
        with pytest.raises(vs.ValidationError, match="outside of the query's own domain, and the query has none"):
            filled.concepts.search(query, outside="domain")
    for outside in ("nothing", "tags", {}, 3):
        with pytest.raises(vs.ValidationError, match="outside: expected a"):
            filled.concepts.search(vs.Id("c0.0"), outside=outside)
    with pytest.raises(vs.NotFound, match="nobody"):
        filled.concepts.search(vs.Id("nobody"), outside="domain")
    with pytest.raises(vs.WhereError, match="no field 'nothing'"):
        filled.concepts.search("king", outside={"nothing": 1})


# -- centring ---------------------------------------------------------------------------------------------------------


def by_formula(
    query: np.ndarray, own: str | None, data: Matrix, domains: list[str | None], live: np.ndarray, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(places, scores) of the rows `among`, best first, ties by place; means over `live`."""
    wide = data.astype(np.float64)
    mean = {d: wide[[p for p in live if domains[p] == d]].mean(axis=0) for d in {domains[p] for p in live}}
    point = query.astype(np.float64) - (mean[own] if own in mean and own is not None else wide[live].mean(axis=0))
    rows = np.stack([wide[p] - mean[domains[p]] for p in among])
    lengths = np.linalg.norm(rows, axis=1)
    nothing = lengths <= 1e-6 * np.linalg.norm(wide[among], axis=1)
    scores = np.where(nothing, 0.0, rows @ point / np.where(nothing, 1, lengths) / np.linalg.norm(point))
    order = np.lexsort((among, -np.round(scores, 12)))
    return among[order], scores[order]


def offset_data(rows: int, dim: int, seed: int = 0) -> tuple[Matrix, list[str | None]]:
    """Rows around centres, each domain far off in a direction of its own; some twice."""
    random = np.random.default_rng(seed)
    domains: list[str | None] = [[None, "physics", "music", "chess", "law"][n] for n in random.integers(0, 5, rows)]
    offsets = {d: 8 * random.standard_normal(dim) for d in dict.fromkeys(domains)}
    data = clustered(rows, dim, groups=12, seed=seed) + np.stack([offsets[d] for d in domains])
    data[rows // 2 : rows // 2 + 20] = data[:20]
    domains[rows // 2 : rows // 2 + 20] = domains[:20]
    domains[-1] = "alone"
    return data.astype(np.float32), domains


@pytest.mark.parametrize("layout", ["pending", "mixed", "indexed"])
def test_centred_search_equals_the_formula(open_store: Callable[..., vs.Store], clock: Clock, layout: str) -> None:
    data, domains = offset_data(2500, 24)
    store = open_store()
    records = [
        {
            "id": f"c{p}",
            "name": "x",
            "domain": domains[p],
            "tags": [f"t{p % 7}"],
            "expires_at": clock.now + timedelta(hours=1) if p % 50 == 3 else None,
        }
        for p in range(2500)
    ]
    step = {"pending": 500, "mixed": 1250, "indexed": 2500}[layout]
    for start in range(0, 2500, step):
        store.concepts.add(records[start : start + step], vectors=data[start : start + step])
    if layout == "mixed":
        store.concepts.upsert(records[7:9], vectors=data[7:9])
    if layout == "indexed":
        store.rebuild("concepts", vs.IndexRecipe("t", "LSH64rt", ({"candidates": 400},), min_recall=0))
    store.concepts.delete([f"c{p}" for p in range(0, 2500, 31)])
    clock.move(hours=1)
    live = np.array([p for p in range(2500) if p % 31 and p % 50 != 3])
    order = np.concatenate([live[(live != 7) & (live != 8)], [7, 8]]) if layout == "mixed" else live  # ties by age
    random = np.random.default_rng(3)
    queries: list[tuple[Any, np.ndarray, str | None, set[int]]] = [
        (vector, vector, None, set()) for vector in (random.standard_normal((3, 24)) * 5).astype(np.float32)
    ]
    for place in (4, 5, 1700):
        queries.append((vs.Id(f"c{place}"), data[place], domains[place], {place}))
        queries.append((store.concepts.get(f"c{place}"), data[place], domains[place], {place}))
    for query, vector, own, hidden in queries:
        for where, kept in (
            (None, live),
            ({"tags__has": "t3"}, live[live % 7 == 3]),
            ({"domain": "law"}, np.array([p for p in live if domains[p] == "law"])),
        ):
            among = np.array([p for p in order if p in set(kept.tolist()) - hidden])
            places, scores = by_formula(vector, own, data, domains, live, among)
            for k in (1, 10, 3000):
                hits = store.concepts.search(query, k=k, where=where, center="domain")
                assert [hit.score for hit in hits] == pytest.approx(scores[:k].tolist(), abs=1e-9)
                found = [int(name[1:]) for name in hits.ids]
                assert dict(zip(found, [hit.score for hit in hits], strict=True)) == pytest.approx(
                    {p: s for p, s in zip(places.tolist(), scores.tolist(), strict=True) if p in set(found)}, abs=1e-9
                )
                assert len(set(found)) == len(found) and hits.exact and hits.recall_promised == 1.0
                assert hits.plan.name == "centred"
                assert [hit.distance for hit in hits] == pytest.approx([1 - hit.score for hit in hits])


def test_equal_rows_stay_in_order_of_age(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    data = np.array([[1, 0], [0, 1], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    store.concepts.add([{"id": f"c{p}", "name": "x", "domain": "d"} for p in range(5)], vectors=data)
    assert store.concepts.search(np.array([1.0, 0.1]), center="domain").ids == ["c0", "c2", "c3", "c1", "c4"]


def test_domain_offsets_no_longer_dominate(open_store: Callable[..., vs.Store]) -> None:
    """Pairs that mean the same in two domains: plain search stays in the domain, centred search crosses over."""
    random = np.random.default_rng(1)
    meanings = random.standard_normal((200, 32))
    offsets = 20 * random.standard_normal((2, 32))
    data = np.concatenate([meanings + offsets[0], meanings + offsets[1]]).astype(np.float32)
    store = open_store()
    store.concepts.add(
        [{"id": f"{'ab'[p // 200]}{p % 200}", "name": "x", "domain": "ab"[p // 200]} for p in range(400)], vectors=data
    )
    for number in range(0, 200, 20):
        query = vs.Id(f"a{number}")
        assert store.concepts.search(query, k=1).ids[0].startswith("a")
        assert store.concepts.search(query, k=1, center="domain").ids == [f"b{number}"]
        assert store.concepts.search(query, k=1, center="domain", outside="domain")[0].score > 0.99


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2), st.integers(0, 2)), min_size=2, max_size=12),
    st.integers(1, 12),
)
def test_small_whole_numbers_and_lonely_rows(rows: list[tuple[int, int, int]], k: int) -> None:
    """Rows that lie at their domain's mean have no direction, and score 0."""
    data = np.array([(x + 0.5, y, 1) for x, y, _ in rows], dtype=np.float32)
    domains = [[None, "a", "b"][d] for _, _, d in rows]
    with vs.open(":memory:", embedder=None) as store:
        store.concepts.add([{"id": f"c{p}", "name": "x", "domain": domains[p]} for p in range(len(rows))], vectors=data)
        everything = np.arange(len(rows))
        query = np.array([3.0, -1.0, 2.0], dtype=np.float32)
        _, scores = by_formula(query, None, data, domains, everything, everything)
        hits = store.concepts.search(query, k=k, center="domain")
        assert [hit.score for hit in hits] == pytest.approx(scores[:k].tolist(), abs=1e-9)


def test_means_follow_every_commit(open_store: Callable[..., vs.Store]) -> None:
    data, domains = offset_data(300, 8)
    store = open_store()
    store.concepts.add([{"id": f"c{p}", "name": "x", "domain": domains[p]} for p in range(300)], vectors=data)
    query = np.arange(8, dtype=np.float32)
    everything = np.arange(300)
    for step in range(6):
        places, scores = by_formula(query, None, data, domains, everything, everything)
        hits = store.concepts.search(query, k=300, center="domain")
        assert [hit.score for hit in hits] == pytest.approx(scores.tolist(), abs=1e-9)
        if step % 2:
            domains[step] = "chess"
            store.concepts.update({"id": f"c{step}", "domain": "chess"})
        else:
            store.concepts.delete(f"c{places[0]}")
            everything = everything[everything != places[0]]
    with store.transaction():
        store.concepts.delete([f"c{p}" for p in everything[:50]])
        _, scores = by_formula(query, None, data, domains, everything[50:], everything[50:])
        hits = store.concepts.search(query, k=300, center="domain")
        assert [hit.score for hit in hits] == pytest.approx(scores.tolist(), abs=1e-9)


def test_centring_goes_with_decay_reranking_and_other_fields(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    data, domains = offset_data(400, 8)
    store = open_store()
    store.concepts.add(
        [
            {"id": f"c{p}", "name": "x", "pos": domains[p], "created_at": clock.now - timedelta(days=p % 40)}
            for p in range(400)
        ],
        vectors=data,
    )
    query = data[5] + 1
    plain = store.concepts.search(query, k=400, center="pos")
    _, scores = by_formula(query, None, data, domains, np.arange(400), np.arange(400))
    assert [hit.score for hit in plain] == pytest.approx(scores.tolist(), abs=1e-9)
    decay = vs.Decay(half_life=timedelta(days=9), field="created_at")
    decayed = {h.id: h.score - abs(h.score) * (1 - 0.5 ** (int(h.id[1:]) % 40 / 9)) for h in plain}
    hits = store.concepts.search(query, k=7, center="pos", decay=decay)
    assert [hit.score for hit in hits] == pytest.approx(sorted(decayed.values(), reverse=True)[:7], abs=1e-9)
    assert [hit.score for hit in hits] == pytest.approx([decayed[name] for name in hits.ids], abs=1e-9)
    judged = store.concepts.search(
        query, k=3, center="pos", rerank=lambda q, records: [-float(r.id[1:]) for r in records], rerank_depth=9
    )
    assert judged.ids == sorted(plain.ids[:9], key=lambda name: int(name[1:]))[:3]


def test_what_cannot_be_centred_is_refused(
    open_store: Callable[..., vs.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(embedder="hash:64", metric={"analogies": "ip"})
    assert list(store.concepts.search(np.ones(64), center="domain")) == []
    store.concepts.add([{"name": f"n{n}", "domain": "d"} for n in range(30)])
    store.concepts.add({"name": "alone", "domain": "e"})
    for field in ("nothing", "tags", "quality", "created_at", 3):
        with pytest.raises(vs.ValidationError, match="center: expected a field of texts"):
            store.concepts.search("king", center=field)  # type: ignore[arg-type]
    for mode in ("text", "hybrid"):
        with pytest.raises(vs.ValidationError, match="center: only with mode='vector'"):
            store.concepts.search("king", center="domain", mode=mode)  # type: ignore[arg-type]
    with pytest.raises(vs.ValidationError, match="analogies: center: needs a space with the metric cosine"):
        store.analogies.search("king", center="source_domain")
    with pytest.raises(vs.ValidationError, match="center: not together with mmr"):
        store.concepts.search("king", center="domain", mmr=0.5)
    with pytest.raises(vs.ValidationError, match="nothing is left to search with"):
        store.concepts.search(vs.Id("default:alone"), center="domain")
    monkeypatch.setattr("vectorstore.search.centring.MAX_NUMBERS", 1000)
    with pytest.raises(vs.ValidationError, match="name has 31 values; with 64 dimensions up to 15"):
        store.concepts.search("king", center="name")
