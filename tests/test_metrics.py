"""Metrics: calls, failures and seconds of what users call, each once, until they are reset."""

from __future__ import annotations

import threading
import time

import pytest

import vectorstore as vs


def calls(store: vs.Store) -> dict[str, tuple[int, int]]:
    return {name: (each.calls, each.failures) for name, each in store.metrics().items()}


def test_each_call_counts_once_with_its_failures(store: vs.Store) -> None:
    assert store.metrics() == {}
    for name in ("king", "queen"):
        store.concepts.add({"name": name})
    with pytest.raises(vs.DuplicateId):
        store.concepts.add({"name": "king"})
    with pytest.raises(vs.ContractViolation):
        store.concepts.add({"name": "x", "quality": 7})
    with pytest.raises(vs.ContractViolation):
        store.concepts.find(limit=0)
    store.concepts.search("king")
    store.analogies.add({"a": "man", "b": "king", "c": "woman", "d": "queen"})
    store.check()
    store.models.put("net", b"x")
    store.trail.verify()
    assert calls(store) == {
        "analogies.add": (1, 0),
        "concepts.add": (4, 2),
        "concepts.find": (1, 1),
        "concepts.search": (1, 0),
        "models.put": (1, 0),
        "store.check": (1, 0),
        "trail.verify": (1, 0),
    }
    assert list(store.metrics()) == sorted(store.metrics())


def test_a_verb_within_a_verb_is_part_of_that_one(store: vs.Store) -> None:
    store.concepts.add([{"name": f"n{n}"} for n in range(20)])
    store.metrics(reset=True)
    store.clusters.fit(n=2)  # writes clusters by upsert
    store.concepts.lookup("n3", by="similar")  # searches
    store.instances.roles_of("default:n3")
    assert calls(store) == {
        "clusters.fit": (1, 0),
        "concepts.lookup": (1, 0),
        "frame_instances.roles_of": (1, 0),
    }


def test_seconds_are_those_of_the_calls(store: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.perf_counter()
    store.concepts.add([{"name": f"n{n}"} for n in range(200)])
    wall = time.perf_counter() - started
    add = store.metrics()["concepts.add"]
    assert 0 < add.longest == add.seconds <= wall
    monkeypatch.setattr(store.concepts._table, "count", lambda *_, **__: time.sleep(0.02) or 1)  # type: ignore[func-returns-value]
    for _ in range(3):
        store.concepts.count()
    count = store.metrics()["concepts.count"]
    assert count.calls == 3 and count.seconds >= 0.06 and 0.02 <= count.longest < count.seconds


def test_of_a_stream_its_making_counts_and_not_its_reader(store: vs.Store) -> None:
    store.concepts.add([{"name": f"n{n}"} for n in range(50)])
    for _ in store.concepts.stream(batch_size=10):
        time.sleep(0.002)
    stream = store.concepts.stream()
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    found = store.metrics()["concepts.stream"]
    assert (found.calls, found.failures) == (2, 0) and 0 < found.seconds < 0.1


def test_a_stream_that_breaks_is_a_failure(store: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.concepts.add([{"name": f"n{n}"} for n in range(3)])

    def broken(*_: object, **__: object) -> object:
        raise vs.CorruptError("a page is damaged")

    stream = store.concepts.stream(batch_size=1)
    next(stream)
    for name in ("by_rows", "page"):
        monkeypatch.setattr(store.concepts._table, name, broken)
    with pytest.raises(vs.CorruptError):
        list(stream)
    found = store.metrics()["concepts.stream"]
    assert (found.calls, found.failures) == (1, 1)


def test_a_reset_gives_the_figures_and_begins_anew(store: vs.Store) -> None:
    store.concepts.count()
    assert store.metrics(reset=True)["concepts.count"].calls == 1
    assert store.metrics() == {}
    store.concepts.count()
    assert calls(store) == {"concepts.count": (1, 0)}


def test_no_call_of_any_thread_is_lost_and_each_store_has_its_own(store: vs.Store) -> None:
    def work() -> None:
        for _ in range(100):
            store.concepts.get("x")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    resets = [store.metrics(reset=True) for _ in range(20)]
    for thread in threads:
        thread.join()
    resets.append(store.metrics())
    assert sum(each["concepts.get"].calls for each in resets if each) == 800
    with vs.open(":memory:", embedder=None) as other:
        assert other.metrics() == {}


def test_metrics_are_counted_without_contracts_too() -> None:
    with vs.open(":memory:", embedder=None, contracts=False) as store:
        store.concepts.count()
        assert calls(store) == {"concepts.count": (1, 0)}
