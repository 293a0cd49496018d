"""States in a store and in files: the same rules for both, and what only one of them has."""

from __future__ import annotations

import gzip
import json
import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Clock, brute_force, order_of
from vectorstore.states import State, StateFile
from vectorstore.states.storestate import StoreState

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


def filled(state: State) -> State:
    state["knowledge_base"] = {
        "user_profile_1": vs.NumericArtifact([0.8, 0.6, 0.9], {"user_id": "user123", "type": "profile_embedding"}),
        "document_1": vs.NumericArtifact([0.3, 0.7, 0.5], {"doc_id": "doc456"}),
    }
    state.history("task_history").extend([{"task_id": 1, "duration_ms": 150}, {"task_id": 2, "duration_ms": 80}])
    state.history("score_history").extend([0.85, 0.9, 0.88])
    return state


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


# -- what only a file has ----------------------------------------------------------------------------------------------


def test_the_sources_own_file_is_read(tmp_path: Path) -> None:
    """H9: a file of format 0, as the source system wrote it, gzipped or not; saved anew it has today's format."""
    text = json.dumps({
        "knowledge_base": {"k": {"__type__": "NumericVectorArtifact", "vector": [0.1, 0.2], "metadata": {}}},
        "task_history": {"__type__": "deque", "items": [{"task_id": "t"}], "maxlen": 1000},
        "score_history": [0.85, 0.9],
    }, indent=2)  # fmt: skip
    for path, data in (
        (tmp_path / "state.json", text.encode()),
        (tmp_path / "s.json.gz", gzip.compress(text.encode())),
    ):
        path.write_bytes(data)
        state = StateFile(path)
        assert state.load() and state["knowledge_base"]["k"] == vs.NumericArtifact([0.1, 0.2])
        assert state.history("score_history") == deque([0.85, 0.9]) and state["task_history"].maxlen == 1000
        state.save()
        assert path.read_bytes().startswith(b'{"vectorstore-state":1,')
        other = StateFile(path)
        assert other.load() and dict(other) == dict(state)
        assert path.with_name(path.name + ".previous").read_bytes() == data


def damages(data: bytes) -> list[bytes]:
    flips = [data[:n] + bytes([data[n] ^ 0x10]) + data[n + 1 :] for n in range(0, len(data), max(1, len(data) // 50))]
    return (
        [data[: len(data) * n // 20] for n in range(20)] + flips + [b"[1, 2]", b"null", b"\x1f\x8b junk", data + b"x"]
    )


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_damaged_file_is_set_aside_and_never_overwritten(tmp_path: Path, compression: Any) -> None:
    """P1, P3, P7: a load error meant a fresh state, saved over the damaged but recoverable file; lists, empty files and
    half files raised whatever came up, and members were taken over one by one."""
    path = tmp_path / "state.json"
    first = filled(StateFile(path, compression=compression))
    first.save()
    first["round"] = 2
    first.save()
    data, before = path.read_bytes(), path.with_name("state.json.previous").read_bytes()
    for bad in damages(data):
        path.write_bytes(bad)
        state = StateFile(path)
        state["mine"] = 1
        with pytest.raises((vs.CorruptError, vs.NewerFormat, vs.WrongKey)) as raised:
            state.load()
        assert dict(state) == {"mine": 1}
        if isinstance(raised.value, vs.CorruptError):
            (aside,) = tmp_path.glob("state.json.damaged-*")
            assert aside.read_bytes() == bad and not path.exists() and str(aside) in str(raised.value)
            assert state.load() is False
            state.save()
            assert aside.read_bytes() == bad, "a new save leaves it alone"
            aside.unlink()
            path.write_bytes(bad)
            fallen = StateFile(path)
            assert fallen.load(fallback=True) and "round" not in fallen and len(fallen["knowledge_base"]) == 2
            fallen.save()
            assert StateFile(path).load() and path.with_name("state.json.previous").read_bytes() == before
            for aside in tmp_path.glob("state.json.damaged-*"):
                aside.unlink()
        else:
            assert path.read_bytes() == bad


def test_a_newer_file_is_refused_and_left(tmp_path: Path) -> None:
    """H9"""
    path = tmp_path / "s"
    filled(StateFile(path, compression="none")).save()
    newer = path.read_bytes().replace(b'"vectorstore-state":1', b'"vectorstore-state":2')
    path.write_bytes(newer)
    with pytest.raises(vs.NewerFormat, match="format 2"):
        StateFile(path).load(fallback=True)
    assert path.read_bytes() == newer


def test_files_are_compressed_when_it_pays(tmp_path: Path) -> None:
    """H9, P10"""
    sizes = {}
    for compression in ("none", "gzip", "auto"):
        for what, value in (
            ("text", [{"task": n} for n in range(5000)]),
            ("noise", np.random.default_rng(0).random(9000)),
        ):
            state = StateFile(tmp_path / f"{what}.{compression}", compression=compression)  # type: ignore[arg-type]
            state["x"] = value
            sizes[what, compression] = state.save().size
            other = StateFile(state.path)
            assert other.load() and np.array_equal(other["x"], value)
    assert sizes["text", "auto"] == sizes["text", "gzip"] < sizes["text", "none"] / 5
    assert sizes["noise", "auto"] == sizes["noise", "none"]


def test_a_files_place_does_not_move_with_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P11: the default path depended on the working directory. And a link to a file stays a link."""
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    state = StateFile("link")
    monkeypatch.chdir("/")
    state.load()
    state["x"] = 1
    state.save()
    assert (tmp_path / "link").is_symlink() and b'"x":1' in (tmp_path / "real").read_bytes()
    assert os.stat(tmp_path / "real").st_mode & 0o077 == 0, "for its owner only"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """J1, P1"""
    from vectorstore import files

    path = tmp_path / "s"
    state = filled(StateFile(path))
    state.save()
    before = path.read_bytes()
    state["more"] = 1
    for step in ("_write", "_sync", "_rename"):
        with monkeypatch.context() as broken:
            broken.setattr(files, step, lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(OSError, match="No space"):
                state.save()
        assert path.read_bytes() == before and not [n for n in os.listdir(tmp_path) if ".tmp" in n]
    state.save()
    assert StateFile(path).load()


# -- what only a store has: versions (H7, H8) --------------------------------------------------------------------------


@pytest.fixture
def states(open_store: Callable[..., vs.Store]) -> Callable[..., StoreState]:
    store = open_store()
    return lambda name="agent", **options: store.state(name, **options)


def blobs(state: StoreState) -> list[tuple[int, int, int, bytes]]:
    with state._sync.catalog.read() as connection:
        return connection.execute("SELECT version, base, damaged, data FROM state_saves ORDER BY version").fetchall()


def spoil(state: StoreState, version: int) -> None:
    with state._sync.catalog.write() as transaction:
        (data,) = transaction.connection.execute(
            "SELECT data FROM state_saves WHERE version = ?", (version,)
        ).fetchone()
        bad = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
        transaction.connection.execute("UPDATE state_saves SET data = ? WHERE version = ?", (bad, version))


def grown(state: StoreState, steps: int) -> list[dict[str, Any]]:
    """Saves that each add a little to something big; what the state was after each."""
    state["kb"] = {f"k{n}": vs.NumericArtifact(np.random.default_rng(n).random(64), {"n": n}) for n in range(40)}
    state.history("tasks", maxlen=50)
    seen = []
    for step in range(steps):
        state["tasks"].append({"step": step, "at": datetime(2026, 1, 1, step % 24, tzinfo=UTC)})
        state["kb"][f"k{step % 40}"] = vs.NumericArtifact(np.random.default_rng(1000 + step).random(64), {"n": step})
        state.save()
        seen.append({key: (dict if key == "kb" else list)(value) for key, value in state.items()})
    return seen


def test_the_newest_versions_are_kept_listed_and_restored(states: Any, clock: Clock) -> None:
    """H7"""
    state = states(keep=6)
    seen = grown(state, 30)
    kept = state.checkpoints()
    assert [one.version for one in kept] == [25, 26, 27, 28, 29, 30] and kept[-1].at == clock.now
    for one in kept:
        other = states(keep=6)
        with other._sync.catalog.read() as connection:
            tree = other._tree_of(connection, other._row(connection, one.version))
        values, _ = other._unpacked(tree)
        assert values["kb"] == seen[one.version - 1]["kb"] and list(values["tasks"]) == seen[one.version - 1]["tasks"]
    saved = state.restore(26)
    assert saved.version == 31 and list(state["tasks"]) == seen[25]["tasks"]
    other = states()
    assert other.load() and other["kb"] == seen[25]["kb"]
    with pytest.raises(vs.NotFound, match="no version 3; there are"):
        state.restore(3)


def test_labelled_versions_stay_until_they_are_forgotten(states: Any) -> None:
    state = states(keep=2)
    for n in range(12):
        state["n"] = n
        state.save(label="before training" if n == 3 else None)
    assert [(one.version, one.label) for one in state.checkpoints()] == [(4, "before training"), (11, None), (12, None)]
    assert state.restore("before training").version == 13 and state["n"] == 3
    state.forget("before training")
    assert [one.version for one in state.checkpoints()] == [12, 13]
    with pytest.raises(vs.ConflictError, match="has no label"):
        state.forget(12)
    with pytest.raises(vs.ValidationError, match="label"):
        state.save(label="")


def test_a_delta_is_as_big_as_the_change_in_the_store_too(states: Any) -> None:
    """H8, P10"""
    state = states()
    state["kb"] = {f"k{n}": vs.NumericArtifact(np.random.default_rng(n).random(768)) for n in range(100)}
    full = state.save()
    state["kb"]["k7"] = vs.NumericArtifact([0.5] * 768)
    one = state.save()
    state.history("tasks").append({"task_id": 1})
    two = state.save()
    assert (full.kind, one.kind, two.kind) == ("full", "delta", "delta")
    assert full.size > 700_000 and one.size < 12_000 and two.size < 400
    other = states()
    assert other.load() and dict(other) == dict(state)


def test_a_line_of_changes_ends_before_it_outweighs_a_whole_save(states: Any) -> None:
    state = states(keep=3)
    grown(state, 150)
    rows = blobs(state)
    bases = {version: len(data) for version, base, _, data in rows if version == base}
    for base, whole in bases.items():
        line = [len(data) for version, at, _, data in rows if at == base and version != base]
        assert sum(line) <= whole + 4096 and len(line) <= 100
    assert len(rows) < 60


def test_a_damaged_version_is_set_aside_and_the_one_before_is_taken(states: Any) -> None:
    """H6"""
    state = states()
    seen = grown(state, 6)
    spoil(state, 5)
    data = [row[3] for row in blobs(state)]
    broken = states()
    broken["mine"] = 1
    with pytest.raises(vs.CorruptError, match=r"version 6 .*version 5.*load\(fallback=True\) takes version 4"):
        broken.load()
    assert dict(broken) == {"mine": 1}
    with pytest.raises(vs.StateConflict):
        broken.save()
    with pytest.raises(vs.CorruptError):
        broken.save(merge=True)
    findings = state._sync  # the store's own check sees it
    from vectorstore.sync import check

    assert [f.where for f in check(findings).findings] == ["state 'agent' version 5"]
    assert broken.load(fallback=True) and broken["kb"] == seen[3]["kb"]
    broken["after"] = True
    assert broken.save().version == 7
    assert [row[3] for row in blobs(state)][:6] == data, "the damaged bytes are as they were"
    assert [(c.version, c.damaged) for c in broken.checkpoints()][-3:] == [(5, True), (6, True), (7, False)]
    again = states()
    assert again.load() and again["after"] is True
    broken.forget(5)
    broken.forget(6)
    assert check(findings).findings == ()


def test_every_damage_of_a_row_is_noticed(states: Any) -> None:
    """H7: the checksum of every part is compared, and that of the whole."""
    state = states()
    grown(state, 3)
    rows = blobs(state)
    for version in (1, 2, 3):
        original = rows[version - 1][3]
        for place in range(0, len(original), max(1, len(original) // 40)):
            bad = original[:place] + bytes([original[place] ^ 4]) + original[place + 1 :]
            with state._sync.catalog.write() as transaction:
                sql = "UPDATE state_saves SET data = ? WHERE version = ?"
                transaction.connection.execute(sql, (bad, version))
            with pytest.raises(vs.CorruptError):
                states().load()
        with state._sync.catalog.write() as transaction:
            transaction.connection.execute(sql, (original, version))
    with state._sync.catalog.write() as transaction:
        transaction.connection.execute("DELETE FROM state_saves WHERE version = 2")
    with pytest.raises(vs.CorruptError):
        states().load()


def test_saves_obey_the_stores_transactions_and_hooks(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    state = store.state("agent")
    told: list[Any] = []
    store.on("persist", told.append)
    state["n"] = 1
    state.save()
    with pytest.raises(KeyError), store.transaction():
        state["n"] = 2
        state.save()
        state["n"] = 3
        state.save()
        store.concepts.add({"name": "king"}, vectors=[[1.0, 0.0]])
        raise KeyError
    assert len(store.concepts) == 0 and [c.version for c in state.checkpoints()] == [1]
    with store.transaction():
        state.save()
        state["n"] = 4
        state.save()
        store.concepts.add({"name": "king"}, vectors=[[1.0, 0.0]])
    other = store.state("agent")
    assert other.load() and other["n"] == 4 and len(store.concepts) == 1
    assert [(event["version"], event["kind"]) for event in told] == [(1, "full"), (2, "delta"), (3, "delta")]


def test_a_commit_that_nobody_answered_for_is_recognised(states: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """P4: a save that is interrupted between its commit and its return is this object's own, and no conflict."""
    state = states()
    state["n"] = 1
    state.save()
    with monkeypatch.context() as broken:
        broken.setattr(state, "_done", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        state["n"] = 2
        with pytest.raises(KeyboardInterrupt):
            state.save()
    state["n"] = 3
    assert state.save().version == 3
    other = states()
    assert other.load() and other["n"] == 3


def test_states_are_listed_and_dropped(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    store = open_store()
    filled(store.state("a")).save()
    filled(store.state("b")).save()
    assert [(one.name, one.version, one.saves) for one in store.states.list()] == [("a", 1, 1), ("b", 1, 1)]
    assert store.states.drop("a") == 1 and "a" not in store.states and "b" in store.states
    assert len(store.artifacts) == 2 and store.state("a").load() is False
    with pytest.raises(vs.NotFound, match="there are: b"):
        store.states.drop("a")
    for bad in ("", "a/b", "..", "x" * 201, 7):
        with pytest.raises(vs.ValidationError, match="state|name"):
            store.state(bad)  # type: ignore[arg-type]
    store.states.drop("b")
    store.close()
    left = b"".join(path.read_bytes() for path in (tmp_path / "kb").rglob("*") if path.is_file())
    assert b"user123" not in left and np.float32([0.8, 0.6, 0.9]).tobytes() not in left


def test_a_read_only_store_loads_and_refuses_to_save(open_store: Callable[..., vs.Store]) -> None:
    filled(open_store().state("agent")).save()
    state = open_store(read_only=True).state("agent")
    assert state.load() and len(state.checkpoints()) == 1
    state["x"] = 1
    with pytest.raises(vs.ReadOnlyStore):
        state.save()
    with pytest.raises(vs.ReadOnlyStore), vs.lifecycle(state):
        pass


def test_states_in_memory(states: Any) -> None:
    with vs.open(":memory:", embedder="hash:8") as store:
        state = filled(store.state("agent"))
        state.save()
        other = store.state("agent")
        assert other.load() and dict(other) == dict(state)
        with vs.lifecycle(store.state("agent")) as running:
            running["x"] = 1
        assert other.load() and other["x"] == 1


# -- artifacts are searchable (H1) -------------------------------------------------------------------------------------


def test_artifacts_are_found_by_their_vectors(open_store: Callable[..., vs.Store]) -> None:
    """H1, P13: no search over the knowledge base although it is all vectors."""
    store = open_store()
    random = np.random.default_rng(3)
    vectors = random.standard_normal((200, 24)).astype(np.float32)
    state = store.state("agent")
    state["kb"] = {
        f"k{n}": vs.NumericArtifact(row.astype([np.float32, np.float64][n % 2]), {"n": n})
        for n, row in enumerate(vectors)
    }
    state["a/b"] = {"~": {"deep": vs.NumericArtifact(vectors[0] + 5)}}
    state["other"] = [vs.NumericArtifact([1.0])]
    assert state.save().unsearchable == {}
    query = random.standard_normal(24)
    expected = order_of(brute_force(query[None].astype(np.float32), vectors, "cosine")[0], 10)
    hits = state.search(query, k=10, where={"name__like": "kb/%"} if False else None)
    wanted = [f"kb/k{n}" for n in expected]
    assert [h.record.name for h in hits if h.record.name.startswith("kb/")][:5] == wanted[:5]
    assert hits[0].record.metadata == {"n": expected[0]} and state.at(wanted[0]).metadata == {"n": expected[0]}
    assert (
        state.search(vectors[0] + 5, k=1)[0].record.name == "a~1b/~0/deep"
        and state.at("a~1b/~0/deep") == state["a/b"]["~"]["deep"]
    )
    with pytest.raises(vs.NotFound, match="nothing at"):
        state.at("kb/nobody")
    assert len(state.search(query, k=3, where={"dtype": "float64"})) == 3

    before = {record.id: record.version for record in store.artifacts}
    state["kb"]["k5"] = vs.NumericArtifact(query)
    del state["kb"]["k6"]
    state.save()
    after = {record.id: record.version for record in store.artifacts}
    assert sum(after[key] != before[key] for key in after) == 1 and len(before) - len(after) == 1, (
        "what changed, no more"
    )
    assert state.search(query, k=1)[0].record.name == "kb/k5" and len(store.artifacts) == 200
    state.restore(1)
    assert state.search(query, k=1)[0].record.name == wanted[0] and len(store.artifacts) == 201
    store.artifacts.delete(where={"state": "agent"})
    assert state.reindex() == {} and len(store.artifacts) == 201


def test_two_states_and_direct_artifacts_do_not_meet(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    for name in ("one", "two"):
        state = store.state(name)
        state["k"], state["K"] = vs.NumericArtifact([1.0, 0.0]), vs.NumericArtifact([0.0, 1.0])
        state.save()
    store.artifacts.add({"name": "k"}, vectors=[[1.0, 0.1]])
    assert len(store.artifacts) == 5 and store.artifacts.get("default:k").state is None  # type: ignore[union-attr]
    assert [hit.record.name for hit in store.state("one").search([1.0, 0.0])] == ["k", "K"]
    assert len(store.artifacts.search([1.0, 0.0], k=9)) == 5


def test_what_does_not_fit_into_the_space_is_saved_and_told(open_store: Callable[..., vs.Store]) -> None:
    """P9: mixed dimensions were accepted in silence; a save at the end of a process must not fail for them either."""
    state = open_store().state("agent")
    state["kb"] = {"a": vs.NumericArtifact([1.0, 2.0]), "b": vs.NumericArtifact([1.0, 2.0, 3.0]), "zero": vs.NumericArtifact([0.0, 0.0]), "big": vs.NumericArtifact([1e300, 1.0])}  # fmt: skip
    saved = state.save()
    assert {path: reason.split(",")[0] for path, reason in saved.unsearchable.items()} == {
        "kb/b": "it has 3 dimensions",
        "kb/zero": "it is all zeros",
        "kb/big": "it holds numbers too big for float32",
    }
    assert [hit.record.name for hit in state.search([1.0, 2.0])] == ["kb/a"]
    other = open_store().state("agent")
    assert other.load() and other["kb"] == state["kb"]
    state["kb"]["a"] = vs.NumericArtifact([0.0, 0.0])
    assert "kb/a" in state.save().unsearchable and len(state.search([1.0, 2.0])) == 0


# -- out and in, encryption, copies (H10) ------------------------------------------------------------------------------


def test_a_state_goes_out_to_a_file_and_comes_in_from_one(states: Any, tmp_path: Path) -> None:
    state = filled(states())
    state["pair"] = (1, {2})
    state.save()
    for plain in (False, True):
        path = tmp_path / "out" / f"{plain}.json"
        state.export(path, plain=plain)
        file = StateFile(path)
        assert file.load() and dict(file) == dict(state)
        fresh = states(f"from {plain}")
        fresh.read(path)
        assert dict(fresh) == dict(state) and fresh.save().version == 1
    members = json.loads((tmp_path / "out" / "True.json").read_text())
    assert members["knowledge_base"]["document_1"]["vector"] == [0.3, 0.7, 0.5]
    with pytest.raises(vs.NotFound):
        state.read(tmp_path / "nothing")


def test_an_encrypted_state_needs_its_key(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    """H10: wrong key gives a typed error, and changes nothing."""
    store = open_store()
    key, other_key = vs.AesGcm.new_key(), vs.AesGcm.new_key()
    state = filled(store.state("agent", cipher=vs.AesGcm(key)))
    state.save()
    state["score_history"].append(0.1)
    assert state.save().kind == "full" or len(state.checkpoints()) == 2
    assert b"user123" not in b"".join(row[3] for row in blobs(state)) and len(store.artifacts) == 0
    for cipher in (None, vs.AesGcm(other_key)):
        wrong = store.state("agent", cipher=cipher)
        with pytest.raises(vs.WrongKey, match="agent"):
            wrong.load(fallback=True)
        assert [c.damaged for c in state.checkpoints()] == [False, False]
    right = store.state("agent", cipher=vs.AesGcm(key))
    assert right.load() and dict(right) == dict(state)

    path = tmp_path / "s"
    file = filled(StateFile(path, cipher=vs.AesGcm(key)))
    file.save()
    data = path.read_bytes()
    with pytest.raises(vs.WrongKey):
        StateFile(path, cipher=vs.AesGcm(other_key)).load(fallback=True)
    with pytest.raises(vs.WrongKey, match="pass cipher="):
        StateFile(path).load()
    assert path.read_bytes() == data and list(tmp_path.glob("s.damaged*")) == []
    again = StateFile(path, cipher=vs.AesGcm(key))
    assert again.load() and dict(again) == dict(file)
    with pytest.raises(vs.ValidationError, match="plain file cannot be encrypted"):
        right.export(tmp_path / "p", plain=True)
    for bad in (b"short", "text", None):
        with pytest.raises(vs.ValidationError, match="16, 24 or 32 bytes"):
            vs.AesGcm(bad)  # type: ignore[arg-type]


def test_a_key_can_be_changed_and_nothing_stays_readable_with_the_old_one(
    open_store: Callable[..., vs.Store], tmp_path: Path
) -> None:
    store = open_store()
    state = filled(store.state("agent"))
    state.save()
    with pytest.raises(vs.WrongKey, match="not encrypted"):
        store.state("agent", cipher=vs.AesGcm(vs.AesGcm.new_key())).load()
    one, two = vs.AesGcm(vs.AesGcm.new_key()), vs.AesGcm(vs.AesGcm.new_key())
    state.rekey(one)
    assert len(state.checkpoints()) == 1 and len(store.artifacts) == 0
    state["x"] = 1
    state.save()
    state.rekey(two)
    with pytest.raises(vs.WrongKey):
        store.state("agent", cipher=one).load()
    again = store.state("agent", cipher=two)
    assert again.load() and dict(again) == dict(state)
    store.close()
    left = b"".join(path.read_bytes() for path in (tmp_path / "kb").rglob("*") if path.is_file())
    assert b"user123" not in left and np.float32([0.8, 0.6, 0.9]).tobytes() not in left


class Rot:
    """A cipher of the caller's own."""

    name = "rot"

    def encrypt(self, data: bytes) -> bytes:
        return data[::-1]

    def decrypt(self, data: bytes) -> bytes:
        return data[::-1]


class Shelf:
    """A target of the caller's own."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, name: str, data: bytes) -> None:
        self.kept[name] = data

    def get(self, name: str) -> bytes:
        return self.kept[name]

    def names(self) -> list[str]:
        return sorted(self.kept)

    def remove(self, name: str) -> None:
        self.kept.pop(name, None)


@pytest.mark.parametrize("where", ["folder", "url", "own"])
def test_copies_go_elsewhere_and_come_back(states: Any, tmp_path: Path, where: str) -> None:
    """H10: pluggable codec and target."""
    place: Any = {"folder": tmp_path / "copies", "url": f"memory://{tmp_path.name}/copies", "own": Shelf()}[where]
    state = filled(states(cipher=Rot()))
    state.save()
    assert state.push(place) == "agent.0000000001.state"
    state["x"] = 1
    state.save()
    state.push(place)
    state["x"] = 2
    back = states("agent", cipher=Rot())
    assert back.pull(place) == "agent.0000000002.state" and back["x"] == 1
    assert back.pull(place, "agent.0000000001.state") and "x" not in back
    for other in ("agen", "agent.0000000002"):
        with pytest.raises(vs.NotFound):
            states(other, cipher=Rot()).pull(place)
    from vectorstore.states.targets import target_at

    target = target_at(place)
    target.put("agent.0000000003.state", target.get("agent.0000000002.state")[:-3])
    with pytest.raises(vs.CorruptError):
        back.pull(place)
    target.remove("agent.0000000003.state")
    target.remove("agent.0000000003.state")
    assert back.pull(place) and back["x"] == 1


def test_an_automatic_copy_is_a_hook_and_its_failure_loses_nothing(open_store: Callable[..., vs.Store]) -> None:
    store, shelf = open_store(), Shelf()
    state = store.state("agent")
    store.on("persist", lambda event: state.push(shelf))
    store.on("persist", lambda event: state.push("nowhere://x"))
    state["x"] = 1
    state.save()
    assert shelf.names() == ["agent.0000000001.state"] and len(store.hook_failures) == 1
    assert store.state("agent").load()
