"""What is found in states, and what leaves them: artifacts by their vectors, files, encryption, copies elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import brute_force, order_of
from tests.kept import blobs, filled
from vectorstore.states import StateFile

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
    names = [f"kb/k{n}" for n in range(200)] + ["a~1b/~0/deep"]
    everything = np.vstack([vectors, vectors[:1] + 5])
    expected = order_of(brute_force(query[None].astype(np.float32), everything, "cosine")[0], 10)
    hits = state.search(query, k=10)
    wanted = [names[n] for n in expected]
    assert [hit.record.name for hit in hits] == wanted and expected[0] < 200
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
