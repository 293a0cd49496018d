"""What seldom happens to states: saves that race, damages of a rare kind, values that change while they are packed."""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.test_seldom import fill, opened
from tests.test_state_copies import Rot
from vectorstore.states import State, StateFile, deltas, storestate
from vectorstore.states.codec import Codec
from vectorstore.states.envelope import seal
from vectorstore.states.state import Moved
from vectorstore.states.storestate import StoreState

ARTIFACT = "NumericVectorArtifact"


# -- what is asked for -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", [0, -3, True, 2.0, "5"])
def test_a_history_needs_room_for_an_item(bound: Any, tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s.json")
    with pytest.raises(vs.ValidationError, match=r"maxlen: expected a whole number (from 1 on|of at least 1), got"):
        state.history("log", maxlen=bound)
    assert dict(state) == {} and state.history("log").maxlen == 1000


@pytest.mark.parametrize("keep", [0, -1, True, 1.5, "10"])
def test_a_state_keeps_one_version_at_least(keep: Any, states: Any) -> None:
    with pytest.raises(vs.ValidationError, match="keep: expected a whole number of at least 1, got"):
        states(keep=keep)
    state = states()
    with pytest.raises(vs.ValidationError, match=r"keep: expected a whole number (from 1 on|of at least 1), got"):
        StoreState(state._sync, state._artifacts, "agent", keep=keep)


def test_a_compression_that_nobody_knows_writes_nothing(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "s.json", compression="zip")  # type: ignore[arg-type]
    state["x"] = 1
    with pytest.raises(vs.ValidationError, match="compression: expected auto, gzip or none, got 'zip'"):
        state.save()
    assert os.listdir(tmp_path) == []


class Pair:
    def __init__(self, first: int) -> None:
        self.first = first


@pytest.mark.parametrize("key", [3, "__type__"])
def test_a_type_of_ones_own_that_packs_what_no_state_keeps_is_refused_by_place(key: Any, states: Any) -> None:
    state = states(types=[vs.StateType("pair", Pair, lambda pair: {key: pair.first}, lambda fields: Pair(1))])
    state["x"] = [Pair(1)]
    with pytest.raises(vs.Unserialisable, match=r"\['x'\]\[0\].*pack of pair gave keys that are no text"):
        state.save()
    assert state.checkpoints() == []


# -- a history that is none any more -----------------------------------------------------------------------------------


def test_a_history_that_somebody_replaced_by_another_value_is_told_and_kept(states: Any) -> None:
    mine, other = states(), states()
    mine.history("log", maxlen=3).append(1)
    mine.save()
    other.load()
    other["log"] = {"of": "another kind"}
    other.save()
    assert mine.load() and mine["log"] == {"of": "another kind"}
    assert mine.problems == ("agent['log']: expected a history, got dict",)
    with pytest.raises(vs.ValidationError, match="expected a history, got dict"):
        mine.history("log")


# -- values that change while they are packed --------------------------------------------------------------------------


def growing(state: State, steps: int, error: Exception | None = None) -> vs.StateType:
    """A type whose values put something else into the state while they are packed, so many times."""
    left = itertools.count()

    def pack(pair: Pair) -> dict[str, int]:
        if error is not None:
            raise error
        if (place := next(left)) < steps:
            state[f"new{place}"] = place
        return {"first": pair.first}

    return vs.StateType("pair", Pair, pack, lambda fields: Pair(fields["first"]))


def with_type(state: Any, own: vs.StateType) -> Any:
    state._codec = Codec([own])
    return state


def test_a_save_begins_again_when_the_state_grows_under_it(states: Any) -> None:
    state = states()
    with_type(state, growing(state, 3))
    state["a"], state["z"] = Pair(1), 0
    state.save()
    other = states()
    assert other.load() and sorted(other) == ["a", "new0", "new1", "new2", "z"]


def test_a_save_gives_up_when_the_state_never_stands_still(states: Any) -> None:
    state = states()
    with_type(state, growing(state, 1000))
    state["a"], state["z"] = Pair(1), 0
    with pytest.raises(vs.Unserialisable, match="agent: other threads keep changing it; hold state.lock"):
        state.save()
    assert state.checkpoints() == []


def test_an_error_of_ones_own_type_is_not_taken_for_a_race(states: Any) -> None:
    state = states()
    with_type(state, growing(state, 0, RuntimeError("no more memory cards")))
    state["a"] = Pair(1)
    with pytest.raises(RuntimeError, match="no more memory cards"):
        state.save()
    assert state.checkpoints() == []


# -- saves that race ---------------------------------------------------------------------------------------------------


def test_whoever_is_overtaken_at_every_attempt_says_so_and_loses_nothing(
    states: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = states(), states()
    mine["n"] = 0
    mine.save()
    assert other.load()
    write, count = mine._write, itertools.count(1)

    def overtaken(*args: Any) -> Any:
        other["n"] = next(count)
        other.save()
        return write(*args)

    monkeypatch.setattr(mine, "_write", overtaken)
    mine["mine"] = True
    with pytest.raises(vs.StateConflict, match="agent: others kept saving it meanwhile; try again"):
        mine.save(merge=True)
    found = states()
    assert found.load() and dict(found) == {"n": 20}
    monkeypatch.undo()
    mine.save(merge=True)
    assert found.load() and dict(found) == {"n": 20, "mine": True}


def test_a_save_that_is_gone_is_not_read_as_another_one(states: Any, tmp_path: Path) -> None:
    state, file = states(), StateFile(tmp_path / "s.json")
    for each in (state, file):
        with pytest.raises(Moved):
            each._read("0" * 64)
        each["x"] = 1
        each.save()
        with pytest.raises(Moved):
            each._read("0" * 64)
        there = each._there()
        assert there is not None and each._read(there) == {"x": 1}


# -- saves that are damaged, or not what they seem ---------------------------------------------------------------------


def test_a_sealed_file_without_values_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(seal({"delta": []}))
    state = StateFile(path)
    state["x"] = 1
    with pytest.raises(vs.CorruptError, match="holds no state; it was set aside as .*; restore a backup of it"):
        state.load()
    assert dict(state) == {"x": 1} and not path.exists()


def test_a_header_whose_version_is_no_number_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    StateFile(path).save()
    whole = path.read_bytes()
    line, _, payload = whole.partition(b"\n")
    header = json.loads(line)
    for damaged in (
        json.dumps({**header, "vectorstore-state": "1"}, separators=(",", ":")).encode() + b"\n" + payload,
        line,
    ):
        path.write_bytes(damaged)
        with pytest.raises(vs.CorruptError, match="its header is damaged; it was set aside as"):
            StateFile(path).load()
        assert not path.exists()


def test_a_plain_file_is_not_taken_for_an_encrypted_one(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    plain = StateFile(path, plain=True)
    plain["x"] = 1
    plain.save()
    secret = StateFile(path, cipher=Rot())
    with pytest.raises(vs.WrongKey, match="is plain JSON, not encrypted; load it without a cipher"):
        secret.load()
    assert dict(secret) == {} and json.loads(path.read_text()) == {"x": 1}


def test_a_damaged_file_that_had_no_save_before_it_is_damage_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    StateFile(path).save()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(vs.CorruptError, match="its bytes are not those that were written.*restore a backup of it"):
        StateFile(path).load(fallback=True)
    assert [name for name in os.listdir(tmp_path) if ".damaged-" in name]


def test_a_version_whose_changes_are_partly_lost_is_damage(states: Any) -> None:
    state = states()
    for name in "abc":
        state[name] = list(range(50))
        state.save()
    assert [each.kind for each in state.checkpoints()] == ["full", "delta", "delta"]
    with state._sync.catalog.write() as transaction:
        transaction.connection.execute("DELETE FROM state_saves WHERE version = 2")
    other = states()
    with pytest.raises(vs.CorruptError, match=r"'agent' version 3: a part of it is missing.*fallback=True.* version 1"):
        other.load()
    assert dict(other) == {}
    assert other.load(fallback=True) and list(other) == ["a"]
    assert [each.damaged for each in other.checkpoints()] == [False, True]
    other.forget(3)


def test_a_long_line_of_changes_ends_with_a_whole_save(states: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storestate, "_LINE", 3)
    state = states()
    for number in range(6):
        state["n"] = number
        state.save()
    assert [each.kind for each in state.checkpoints()] == ["full", "delta", "delta", "delta", "full", "delta"]
    other = states()
    assert other.load() and other["n"] == 5


def test_a_save_that_no_row_can_hold_writes_nothing(states: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = states()
    state["x"] = 1
    state.save()
    monkeypatch.setattr(storestate, "_LIMIT", 100)
    state["x"] = list(range(1000))
    with pytest.raises(vs.ValidationError, match=r"agent: a save of [\d,]+ bytes; at most 100 can be kept"):
        state.save()
    assert len(state.checkpoints()) == 1


def test_a_key_is_not_changed_over_what_somebody_else_saved(states: Any) -> None:
    mine, other = states(), states()
    mine["x"] = 1
    mine.save()
    other.load()
    other["x"] = 2
    other.save()
    with pytest.raises(vs.StateConflict, match="agent was saved by somebody else since it was loaded"):
        mine.rekey(Rot())
    found = states()
    assert found.load() and dict(found) == {"x": 2}


def test_a_key_can_be_taken_off_and_artifacts_are_found_again(states: Any) -> None:
    state = states(cipher=Rot())
    state["kb"] = {"a": vs.NumericArtifact([1.0, 0.0])}
    state.save()
    assert len(state._artifacts) == 0
    saved = state.rekey(None)
    plain = states()
    assert (
        plain.load() and plain["kb"] == state["kb"] and [one.version for one in plain.checkpoints()] == [saved.version]
    )
    assert [hit.record.name for hit in plain.search([1.0, 0.0])] == ["kb/a"]
    with pytest.raises(vs.WrongKey):
        states(cipher=Rot()).load()


# -- artifacts ---------------------------------------------------------------------------------------------------------


def test_a_state_that_is_not_searchable_makes_no_records(states: Any) -> None:
    state = states(searchable=False)
    state["kb"] = {"a": vs.NumericArtifact([1.0, 0.0])}
    assert state.save().unsearchable == {} and len(state._artifacts) == 0
    assert states().reindex() == {} and len(state._artifacts) == 1


def test_an_artifact_that_cannot_be_read_is_kept_and_told(states: Any, tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text(json.dumps({"kb": {"bad": {"__type__": ARTIFACT, "vector": "no numbers"}}}))
    state = states()
    state.read(tmp_path / "given.json")
    assert len(state.problems) == 1 and "agent['kb']['bad']" in state.problems[0]
    assert state.save().unsearchable == {"kb/bad": "it is no artifact that can be read"}
    assert len(state._artifacts) == 0
    other = states()
    assert other.load() and dict(other["kb"]["bad"]) == {"__type__": ARTIFACT, "vector": "no numbers"}


def test_a_copy_that_arrived_in_part_is_told(states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    real = MemoryFileSystem.info
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *args, **named: {**real(*args, **named), "size": 5})
    state = states()
    state["x"] = 1
    with pytest.raises(vs.StoreError, match=r"5 of \d+ bytes of agent\.0000000000\.state arrived; try again"):
        state.push(f"memory://{tmp_path.name}/copies")


# -- changes of both sides ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "theirs", "mine"),
    [
        (deque([1, 2], 5), deque([3, 4], 5), deque([5, 6], 5)),  # neither appended
        ([1, 2], [3, 4], [5, 6]),
        (np.zeros(2), np.ones(2), np.full(2, 2.0)),  # has no items
        (1, {"__type__": "deque", "items": "x"}, {"__type__": "deque", "items": []}),
        (1, {"__type__": "dict", "items": [[1]]}, {"__type__": "dict", "items": [[1, 2]]}),
    ],
)
def test_what_cannot_be_put_together_stands_as_it_is_here(base: Any, theirs: Any, mine: Any) -> None:
    codec = Codec()
    sides = [side if type(side) is dict else codec.pack(side) for side in (base, theirs, mine)]
    found, overruled = deltas.merge(*({"v": side} for side in sides))
    assert found == {"v": sides[2]} and overruled == ["state['v']"]


def test_a_list_of_many_equal_items_is_compared_in_few_steps_and_comes_out_right() -> None:
    old, new = [0] * 300 + [1], [0] * 200 + [2, 3]
    ops = deltas.delta(old, new)
    assert deltas.apply(old, ops) == new and ops == [["cut", [], 200, 101, [2, 3]]]


# -- a store as it is, and as it was -----------------------------------------------------------------------------------


def test_a_store_without_an_embedder_is_warmed_too(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 5)
    with opened(tmp_path / "kb") as store:
        store.warm()
        assert store._sync.state("concepts")._live is not None


@pytest.mark.parametrize("contracts", [True, False])
@pytest.mark.parametrize("when", [True, None, 1.5, b"x"])
def test_a_time_that_is_none_is_refused(when: Any, contracts: bool, tmp_path: Path) -> None:
    message = "when: expected .*datetime.*, got"
    with opened(tmp_path / "kb", contracts=contracts) as store, pytest.raises(vs.ValidationError, match=message):
        store.as_of(when)
