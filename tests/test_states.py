"""States in a store and in files: one rule for both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from tests.kept import filled
from vectorstore.states import State, StateFile

Opener = Callable[..., State]


@pytest.fixture(params=["store", "file", "plain"])
def again(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Opens the same state anew at each call, as the next process would."""
    if request.param == "store":
        with vs.open(tmp_path / "kb", embedder=None) as store:
            yield lambda **options: store.state("agent", **options)
            assert store.check().findings == ()
    else:
        plain = request.param == "plain"
        yield lambda **options: StateFile(tmp_path / "deep" / "er" / "state.json", plain=plain, **options)


# -- one rule for both homes: the source's own tests (5c) --------------------------------------------------------------


def test_a_new_state_is_empty_and_statistics_say_so(again: Opener) -> None:
    """5c orchestrator: empty at start; empty average 0.0."""
    state = again()
    assert dict(state) == {} and state.statistics() == {}
    state.history("score_history")
    assert state.statistics()["score_history"] == {"type": "deque", "size": 0, "maxlen": 1000, "mean": 0.0}


def test_loading_what_was_never_saved_is_false_and_changes_nothing(again: Opener) -> None:
    """H6; 5c orchestrator: load missing -> False and unchanged."""
    state = again()
    state["x"] = 1
    assert state.load() is False and dict(state) == {"x": 1}


def test_a_full_cycle_brings_everything_back_in_order(again: Opener) -> None:
    """5c orchestrator: save and load keep 2 artifacts with vectors and metadata, 2 tasks, 3 scores; parents are made."""
    saved = filled(again()).save()
    state = again()
    assert saved.kind == "full" and state.load() is True and state.problems == ()
    assert list(state) == ["knowledge_base", "task_history", "score_history"]
    document = state["knowledge_base"]["document_1"]
    assert document.vector.tolist() == [0.3, 0.7, 0.5] and document.metadata == {"doc_id": "doc456"}
    assert [task["task_id"] for task in state["task_history"]] == [1, 2]
    assert list(state["score_history"]) == [0.85, 0.9, 0.88] and state["score_history"].maxlen == 1000
    assert state.statistics()["score_history"]["mean"] == pytest.approx(0.8766666)
    assert state.statistics()["knowledge_base"] == {"type": "dict", "size": 2}


def test_three_cycles_accumulate(again: Opener) -> None:
    """5c integration: each cycle adds an artifact and a score; k1, k2, k3 with 0.5, 0.6, 0.7 average 0.60."""
    for place, (key, score) in enumerate([("k1", 0.5), ("k2", 0.6), ("k3", 0.7)]):
        state = again()
        assert state.load() is (place > 0)
        state.setdefault("knowledge_base", {})[key] = vs.NumericArtifact([score, 1.0])
        state.history("score_history").append(score)
        state.save()
    state = again()
    assert state.load() and list(state["knowledge_base"]) == ["k1", "k2", "k3"]
    assert state.statistics()["score_history"]["mean"] == pytest.approx(0.6)


def test_statistics_leave_out_what_is_no_number(again: Opener) -> None:
    """P8: one NaN made the average NaN, and the file no JSON."""
    state = again()
    state.history("scores").extend([0.5, float("nan"), 1.0])
    state["mixed"], state["flag"] = [1, "x"], True
    state.save()
    other = again()
    assert other.load()
    assert other.statistics()["scores"] == {"type": "deque", "size": 3, "maxlen": 1000, "mean": 0.75, "not_finite": 1}
    assert "mean" not in other.statistics()["mixed"] and other.statistics()["flag"] == {"type": "bool"}


def test_nothing_is_written_when_nothing_changed(again: Opener) -> None:
    state = filled(again())
    first = state.save()
    second = state.save()
    assert (second.kind, second.size, second.version) == ("same", 0, first.version)


# -- histories (H4) ----------------------------------------------------------------------------------------------------


def test_a_history_keeps_its_newest(again: Opener) -> None:
    """H4; 5c orchestrator: maxlen 3 keeps the last three (2, 3, 4); 5e: maxlen 5 with 10 items keeps 5..9."""
    state = again()
    state.history("a", maxlen=3).extend(range(5))
    state.history("b", maxlen=5).extend(range(10))
    state.save()
    other = again()
    assert other.load() and list(other["a"]) == [2, 3, 4] and list(other["b"]) == [5, 6, 7, 8, 9]
    assert other.history("a").maxlen == 3, "left to the save"


def test_the_callers_bound_wins_over_the_saves(again: Opener) -> None:
    """P5: the file's maxlen overrode the constructor (asked 5000, got 3)."""
    state = again()
    state.history("scores", maxlen=3).extend([1, 2, 3])
    state.save()
    wide, narrow = again(), again()
    wide.history("scores", maxlen=5000)
    narrow.history("scores", maxlen=2)
    assert wide.load() and narrow.load()
    assert (wide["scores"].maxlen, list(wide["scores"])) == (5000, [1, 2, 3])
    assert (narrow["scores"].maxlen, list(narrow["scores"])) == (2, [2, 3])
    after = again()
    assert after.load() and after.history("scores", maxlen=1) == deque([3], maxlen=1)


def test_a_history_of_no_type_becomes_one(again: Opener) -> None:
    """P7: an untagged history was loaded as an unbounded list."""
    state = again()
    state["scores"], state["name"] = [1, 2, 3], "agent"
    state.save()
    other = again()
    other.history("scores", maxlen=2)
    other.history("other", maxlen=4)
    assert other.load() and list(other["scores"]) == [2, 3] and other["other"] == deque(maxlen=4)
    for bad in (0, True, 2.0, "3"):
        with pytest.raises(vs.ValidationError, match="maxlen"):
            other.history("scores", maxlen=bad)  # type: ignore[arg-type]
    with pytest.raises(vs.ValidationError, match=r"\['name'\]: expected a history, got str"):
        other.history("name")
    for name in (1, "__type__"):
        with pytest.raises(vs.ValidationError, match="as the name of a value"):
            other[name] = 1  # type: ignore[index]


# -- saving is all or nothing (H5) -------------------------------------------------------------------------------------


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name.startswith("state.json")}


@pytest.mark.parametrize("bad", [object(), [1, {"x": {object()}}], lambda: 0])
def test_a_value_that_cannot_be_kept_leaves_the_old_save(again: Opener, tmp_path: Path, bad: Any) -> None:
    """P2: an unserializable value failed after the truncation, and destroyed the good state before it."""
    state = filled(again())
    state.save()
    before = everything(tmp_path)
    state["task"] = {"at": datetime(2026, 1, 1, tzinfo=UTC), "result": bad}
    with pytest.raises(vs.Unserialisable, match=r"\['task'\]\['result'\]"):
        state.save()
    assert everything(tmp_path) == before
    other = again()
    assert other.load() and "task" not in other and len(other["knowledge_base"]) == 2
    state["task"] = {"at": datetime(2026, 1, 1, tzinfo=UTC)}
    state.save()
    assert other.load() and other["task"]["at"] == datetime(2026, 1, 1, tzinfo=UTC)


def test_a_save_of_somebody_else_is_never_overwritten(again: Opener) -> None:
    """P11, H11: two processes; the last writer won in silence."""
    filled(again()).save()
    one, two = again(), again()
    assert one.load() and two.load()
    one["score_history"].append(0.1)
    one["only_one"] = 1
    one.save()
    two["score_history"].append(0.2)
    two["only_two"] = 2
    with pytest.raises(vs.StateConflict, match="saved by somebody else since"):
        two.save()
    saved = two.save(merge=True)
    assert saved.overruled == ()
    assert list(two["score_history"]) == [0.85, 0.9, 0.88, 0.1, 0.2] and (two["only_one"], two["only_two"]) == (1, 2)
    other = again()
    assert other.load() and dict(other) == dict(two)
    fresh = again()
    fresh["x"] = 1
    with pytest.raises(vs.StateConflict, match="saved before"):
        fresh.save()
    fresh.save(merge=True)
    assert fresh["only_one"] == 1 and fresh["x"] == 1


def test_many_writers_that_merge_lose_nothing(again: Opener) -> None:
    """H11: eight threads with handles of their own; every item is there once."""
    from concurrent.futures import ThreadPoolExecutor

    again().save()

    def work(number: int) -> None:
        state = again()
        for step in range(5):
            state.load()
            state.history("log").append((number, step))
            state[f"by {number}"] = step
            state.save(merge=True)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    state = again()
    assert state.load() and sorted(state["log"]) == [(n, s) for n in range(4) for s in range(5)]


def test_one_object_saved_by_two_threads_is_saved_whole(again: Opener) -> None:
    from threading import Thread

    state = again()
    state.history("log")

    def work(number: int) -> None:
        for step in range(10):
            with state.lock:
                state["log"].append((number, step))
            state.save()

    threads = [Thread(target=work, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other = again()
    assert other.load() and sorted(other["log"]) == [(n, s) for n in range(2) for s in range(10)]


def test_a_save_that_another_thread_has_written_and_not_yet_noted_is_no_conflict(
    again: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the bytes and what the object knows of them lies a moment; the next save of the same object waits for
    no luck there."""
    from concurrent.futures import ThreadPoolExecutor, wait

    state = again()
    state["a"] = 0
    state.save()
    note, others, pool = type(state)._settle, [], ThreadPoolExecutor(1)

    def second() -> None:
        state["b"] = 2
        state.save()

    def late(self: State, token: str | None) -> None:
        if token is not None and not others and state._attempt is not None and state._attempt[0] == token:
            others.append(pool.submit(second))
            wait(others, timeout=1)
        note(self, token)

    monkeypatch.setattr(type(state), "_settle", late)
    state["a"] = 1
    state.save()
    for other in others:
        other.result()
    state["c"] = 3
    state.save()

    assert others
    read = again()
    assert read.load() and dict(read) == {"a": 1, "b": 2, "c": 3}
