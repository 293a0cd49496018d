"""Decay by age: every answer against a brute-force ranking of all rows, under a frozen clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clock, brute_force, clustered, queries_like
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vectorstore as vs

ROWS = 700
WORDS = ["heat", "flow", "king", "sword", "tide", "root"]


class Note(vs.Record, table="notes"):
    """A kind with a time of its own that may be absent."""

    title: str = ""
    seen: vs.UtcTime | None = None


def ages(seed: int) -> np.ndarray:
    """Days, many of them equal, some in the future."""
    random = np.random.default_rng(seed)
    return np.round(random.exponential(60, ROWS)) - 5 * (random.random(ROWS) < 0.1)


def decayed(
    similarities: np.ndarray, days: np.ndarray, tau: float, floor: float, weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """(scores, factors) of all rows by the formula."""
    left = np.maximum(floor, np.exp(-np.maximum(0, days) / tau))
    factor = 1 - weight * (1 - left)
    return similarities - np.abs(similarities) * (1 - factor), factor


def similarity(values: np.ndarray, metric: str) -> np.ndarray:
    return 1 / (1 - values) if metric == "l2" else values


@pytest.fixture(scope="module", params=["cosine", "ip", "l2"])
def aged(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(store, data, days, metric): rows whose created_at are given."""
    clock = Clock()
    data = clustered(ROWS, 12, groups=30, seed=3)
    data[ROWS // 2 : ROWS // 2 + 60] = data[:60]
    days = ages(4)
    path: Path = tmp_path_factory.mktemp("aged") / "kb"
    with vs.open(path, embedder=None, clock=clock, metric=request.param, auto_publish=False) as store:
        store.concepts.add(
            [
                {
                    "id": f"c{place}",
                    "name": " ".join(np.random.default_rng(place).choice(WORDS, 4)),
                    "domain": f"d{place % 7}",
                    "created_at": clock.now - timedelta(days=float(days[place])),
                }
                for place in range(ROWS)
            ],
            vectors=data,
        )
        yield store, data, days, request.param


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    half_life=st.sampled_from([0.5, 10.0, 45.0, 400.0, 1e5]),
    floor=st.sampled_from([0.0, 0.3, 1.0]),
    weight=st.sampled_from([0.0, 0.6, 1.0]),
    k=st.sampled_from([1, 5, 40, ROWS]),
    domains=st.sampled_from([None, ["d1"], ["d0", "d3", "d5"], ["none"]]),
)
def test_decayed_search_equals_brute_force_over_all_that_match(
    aged: Any, seed: int, half_life: float, floor: float, weight: float, k: int, domains: list[str] | None
) -> None:
    store, data, days, metric = aged
    query = queries_like(data, 1, seed)[0]
    places = np.array([p for p in range(ROWS) if domains is None or f"d{p % 7}" in domains], dtype=int)
    values = similarity(brute_force(query[None], data[places], metric)[0], metric)
    truth, factors = decayed(values, days[places], half_life / np.log(2), floor, weight)
    decay = vs.Decay(half_life=timedelta(days=half_life), field="created_at", floor=floor, weight=weight)
    where = None if domains is None else {"domain__in": domains}
    hits = store.concepts.search(query, k=k, where=where, exact=True, decay=decay)

    assert [hit.score for hit in hits] == pytest.approx(sorted(truth, reverse=True)[:k], rel=1e-9, abs=1e-12)
    assert len(set(hits.ids)) == len(hits) == min(k, len(places))
    where_is = {f"c{place}": at for at, place in enumerate(places)}
    order = [where_is[hit.id] for hit in hits]
    for hit, at in zip(hits, order, strict=True):
        assert hit.score == pytest.approx(truth[at], rel=1e-9, abs=1e-12)
        assert sum(hit.parts.values()) == pytest.approx(hit.score, abs=1e-12)
        assert hit.parts["vector"] == pytest.approx(values[at], abs=1e-9)
        assert hit.parts["decay"] == pytest.approx(abs(values[at]) * (factors[at] - 1), abs=1e-9)
    for better, worse in itertools.pairwise(order):
        if (data[places[better]] == data[places[worse]]).all() and days[places[better]] == days[places[worse]]:
            assert better < worse, "equal rows stay in order of age of their vectors"


def test_the_factor_is_that_of_the_age(store: vs.Store, clock: Clock) -> None:
    """Ages 0, tau, 2 tau; a time to come does not amplify; half-life and tau are the same thing."""
    tau = vs.Decay(tau=timedelta(days=14))
    day = timedelta(days=1) / timedelta(microseconds=1)
    found = [tau.factor(days * day) for days in (-3, 0, 14, 28)]
    assert found == pytest.approx([1, 1, np.exp(-1), np.exp(-2)], abs=1e-12)
    half = vs.Decay(half_life=timedelta(days=14))
    assert [half.factor(days * day) for days in (0, 14, 28)] == pytest.approx([1, 0.5, 0.25], abs=1e-12)
    store.concepts.add({"name": "king"})
    clock.move(days=14)
    (plain,), (hit,) = store.concepts.search("king"), store.concepts.search("king", decay=tau)
    assert hit.score == pytest.approx(plain.score * np.exp(-1), abs=1e-12)
    assert hit.distance == plain.distance


def test_a_newer_record_overtakes_and_updates_make_new(store: vs.Store, clock: Clock) -> None:
    store.concepts.add({"name": "old king", "definition": "a ruler"})
    clock.move(days=100)
    store.concepts.add({"name": "new king", "definition": "a ruler of men"})
    decay = vs.Decay(half_life=timedelta(days=30))
    assert store.concepts.search("old king: a ruler", k=1).ids == ["default:old king"]
    assert store.concepts.search("old king: a ruler", k=1, decay=decay).ids == ["default:new king"]
    store.concepts.update({"id": "default:old king", "quality": 0.5})
    assert store.concepts.search("old king: a ruler", k=1, decay=decay).ids == ["default:old king"]


def test_a_record_without_a_time_keeps_its_score(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    store = open_store(kinds=[Note])
    notes = store.collection(Note)
    times = [None, clock.now - timedelta(days=50), clock.now + timedelta(days=50)]
    notes.add([{"id": f"n{n}", "seen": seen} for n, seen in enumerate(times)], vectors=np.ones((3, 4)))
    hits = notes.search(np.ones(4), decay=vs.Decay(half_life=timedelta(days=50), field="seen"))
    assert [(hit.id, round(hit.score, 9)) for hit in hits] == [("n0", 1.0), ("n2", 1.0), ("n1", 0.5)]


def test_decay_is_certain_even_when_the_best_lies_at_the_very_end(open_store: Callable[..., vs.Store]) -> None:
    """3,000 old rows are nearer than one of today: the list is deepened to its end."""
    store = open_store()
    clock: Any = store._catalog.clock
    angles = np.linspace(0.01, 1.4, 3001)
    data = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    old = clock.now - timedelta(days=1000)
    store.concepts.add(
        [
            {"id": f"c{n}", "name": "x", "created_at": old if n < 3000 else clock.now - timedelta(days=9)}
            for n in range(3001)
        ],
        vectors=data,
    )
    decay = vs.Decay(half_life=timedelta(days=9), field="created_at")
    hits = store.concepts.search(data[0], k=2, exact=True, decay=decay)
    assert hits.ids == ["c3000", "c0"]


def test_when_all_is_old_little_is_looked_at(
    open_store: Callable[..., vs.Store], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vectorstore.search.decay import Decaying

    store = open_store()
    data = clustered(3000, 8)
    store.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(3000)], vectors=data)
    clock.move(days=1000)
    shown: list[int] = []
    apply = Decaying.apply
    monkeypatch.setattr(
        Decaying,
        "apply",
        lambda self, scene, ranked, *rest: shown.append(len(ranked)) or apply(self, scene, ranked, *rest),
    )
    decay = vs.Decay(half_life=timedelta(days=10))
    hits = store.concepts.search(data[7], k=10, exact=True, decay=decay)
    assert hits.ids == store.concepts.search(data[7], k=10, exact=True).ids
    assert shown == [100]


@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_text_and_hybrid_scores_decay_too(store: vs.Store, clock: Clock, mode: Any) -> None:
    """All 90 rows are within the fusion's window, so the plain search for all of them is the whole list."""
    random = np.random.default_rng(5)
    for day in range(9):
        clock.move(days=7)
        store.concepts.add(
            [
                {
                    "name": " ".join(random.choice(WORDS, 3)),
                    "definition": " ".join(random.choice(WORDS, 5)),
                    "id": f"c{day}.{n}",
                }
                for n in range(10)
            ]
        )
    plain = store.concepts.search("king tide", k=90, mode=mode)
    decay = vs.Decay(tau=timedelta(days=20))
    factors = {hit.id: np.exp(-((clock.now - hit.record.updated_at) / timedelta(days=20))) for hit in plain}
    order = sorted(plain, key=lambda hit: (-round(hit.score * factors[hit.id], 14), hit.rank))
    for k in (1, 10, 90):
        hits = store.concepts.search("king tide", k=k, mode=mode, decay=decay)
        assert hits.ids == [hit.id for hit in order[:k]]
        for hit, before in zip(hits, order, strict=False):
            assert hit.score == pytest.approx(before.score * factors[hit.id], abs=1e-12)
            assert sum(hit.parts.values()) == pytest.approx(hit.score, abs=1e-12)
            assert set(hit.parts) == {*before.parts, "decay"}


def test_weighted_fusion_is_deepened_until_it_is_certain(store: vs.Store, clock: Clock) -> None:
    """Its scores do not depend on the depth, so the answer equals the whole list's, decayed."""
    random = np.random.default_rng(6)
    for month in range(6):
        clock.move(days=30)
        store.concepts.add(
            [{"name": " ".join(random.choice(WORDS, 2 + n % 4)), "id": f"c{month}.{n}"} for n in range(100)]
        )
    fusion = vs.Fusion(method="weighted", depth=10)
    plain = store.concepts.search("king tide", k=600, mode="hybrid", fusion=fusion)
    factors = {hit.id: np.exp2(-((clock.now - hit.record.updated_at) / timedelta(days=10))) for hit in plain}
    scores = sorted((hit.score * factors[hit.id] for hit in plain), reverse=True)
    for k in (1, 20, 250):
        hits = store.concepts.search(
            "king tide", k=k, mode="hybrid", fusion=fusion, decay=vs.Decay(half_life=timedelta(days=10))
        )
        assert [hit.score for hit in hits] == pytest.approx(scores[:k], rel=1e-9, abs=1e-12)
        assert [hit.score for hit in hits] == pytest.approx(
            [factors[hit.id] * next(p.score for p in plain if p.id == hit.id) for hit in hits], rel=1e-9, abs=1e-12
        )


def test_text_search_is_deepened_until_it_is_certain(store: vs.Store, clock: Clock) -> None:
    """500 old matches are better than a new one that BM25 puts last."""
    store.concepts.add([{"name": "king", "id": f"c{n}"} for n in range(500)])
    clock.move(days=500)
    store.concepts.add({"name": "king", "definition": "and much else " * 20, "id": "new"})
    decay = vs.Decay(half_life=timedelta(days=20))
    assert store.concepts.search("king", k=500, mode="text").ids[-1] != "new"
    assert store.concepts.search("king", k=1, mode="text", decay=decay).ids == ["new"]


def test_a_record_that_searches_is_left_out_and_filters_hold(store: vs.Store, clock: Clock) -> None:
    store.concepts.add([{"name": f"king {n}", "domain": "a" if n % 2 else "b"} for n in range(30)])
    clock.move(days=3)
    decay = vs.Decay(half_life=timedelta(days=1))
    king = store.concepts.get("default:king 1")
    for query in (king, vs.Id("default:king 1")):
        hits = store.concepts.search(query, k=30, where={"domain": "a"}, decay=decay)
        assert len(hits) == 14 and "default:king 1" not in hits.ids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "half_life or tau"),
        ({"half_life": timedelta(1), "tau": timedelta(1)}, "half_life or tau"),
        ({"half_life": timedelta(0)}, "Decay.half_life: expected a timedelta above zero"),
        ({"tau": timedelta(days=-1)}, "Decay.tau: expected a timedelta above zero"),
        ({"tau": 30}, "Decay.tau: expected a timedelta"),
        ({"tau": timedelta(1), "floor": 1.5}, "Decay.floor: expected 0..1"),
        ({"tau": timedelta(1), "floor": float("nan")}, "Decay.floor: expected 0..1"),
        ({"tau": timedelta(1), "weight": -0.1}, "Decay.weight: expected 0..1"),
        ({"tau": timedelta(1), "weight": True}, "Decay.weight: expected 0..1"),
    ],
)
def test_a_bad_decay_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        vs.Decay(**arguments)


def test_a_decay_over_no_time_field_is_refused(store: vs.Store) -> None:
    for field in ("name", "nothing"):
        with pytest.raises(vs.ValidationError, match=rf"concepts: decay: no time field '{field}'.*updated_at"):
            store.concepts.search("king", decay=vs.Decay(tau=timedelta(1), field=field))
    with pytest.raises(vs.ValidationError, match="decay: expected a Decay"):
        store.concepts.search("king", decay=30)  # type: ignore[arg-type]


def test_the_zone_of_the_clock_does_not_matter(store: vs.Store, clock: Clock) -> None:
    store.concepts.add({"name": "king", "created_at": "2026-01-21T14:00:00+02:00"})
    assert clock.now == datetime(2026, 1, 31, 12, tzinfo=UTC)
    (hit,) = store.concepts.search("king", decay=vs.Decay(half_life=timedelta(days=10), field="created_at"))
    assert hit.score == pytest.approx(0.5 * hit.parts["vector"], abs=1e-12)
