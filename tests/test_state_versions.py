"""States in a store: versions, changes, damage, transactions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Clock
from tests.kept import blobs, filled
from vectorstore.states.storestate import StoreState


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


def test_the_trail_tells_who_saved_what_and_when(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    """P12: the history was no audit trail, and nothing had a time."""
    store = open_store(actor="agent 7")
    state = store.state("agent", keep=1)
    for number in range(3):
        state["n"] = number
        clock.move(minutes=1)
        state.save()
    saves = store.states.list()[0].saves
    assert store.states.drop("agent") == saves
    told = list(reversed(store.trail.list(operation="save")))
    assert [entry.details["version"] for entry in told] == [1, 2, 3]
    assert {(entry.actor, entry.details["state"]) for entry in told} == {("agent 7", "agent")}
    assert told[2].at == clock.now and (told[2].at - told[0].at).total_seconds() == 120
    (dropped,) = store.trail.list(operation="drop")
    assert dropped.details == {"state": "agent", "versions": saves} and store.trail.verify().ok
