"""Races and repairs that once lost, doubled or kept what they should not: files, trail, segments, litter, states."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
import vectorstore.trail as trails
from tests.test_seldom import sql
from vectorstore import files
from vectorstore.states import statefile
from vectorstore.storage import connection as connections
from vectorstore.storage.lock import WriteLock
from vectorstore.sync import past, write
from vectorstore.sync.repair import SWEEP_SECONDS

MANY = write.DIRECT_ROWS + 10
RANDOM = np.random.default_rng(7)
compacting = sys.modules["vectorstore.sync.compact"]  # the package has a function of that name


def opened(root: Path | str, **options: Any) -> vs.Store:
    return vs.open(root, **{"embedder": None, "auto_publish": False, **options})


def fill(store: vs.Store, ids: list[str]) -> None:
    vectors = RANDOM.standard_normal((len(ids), 8)).astype(np.float32)
    store.concepts.add([{"id": each, "name": each} for each in ids], vectors=vectors)


def elsewhere(work: Callable[[], object]) -> None:
    """Done by another thread, from its beginning to its end."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive() and not failed, failed


def once(real: Callable[..., Any], before: Callable[[], object]) -> Callable[..., Any]:
    """The function, with something done elsewhere before its first call."""
    due = [before]

    def called(*args: Any, **options: Any) -> Any:
        if due:
            elsewhere(due.pop())
        return real(*args, **options)

    return called


def old(path: Path) -> None:
    os.utime(path, (path.stat().st_mtime - SWEEP_SECONDS - 60,) * 2)


# -- states in files -------------------------------------------------------------------------------------------------


def damaged(path: Path) -> None:
    """A state that was saved twice, and has rotted since."""
    state = vs.StateFile(path)
    for number in (1, 2):
        state["n"] = number
        state.save()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def test_a_good_save_is_never_set_aside_for_the_damaged_one_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    damaged(path)

    def save() -> None:
        other = vs.StateFile(path)
        assert other.load(fallback=True) and other["n"] == 1
        other["n"] = 300
        other.save()

    monkeypatch.setattr(statefile.StateFile, "_set_aside", once(statefile.StateFile._set_aside, save))
    state = vs.StateFile(path)
    assert state.load(fallback=True) and state["n"] == 300
    again = vs.StateFile(path)
    assert again.load() and again["n"] == 300 and len([*tmp_path.glob("*.damaged-*")]) == 1


def test_nobody_saves_while_a_damaged_file_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, held = tmp_path / "state.json", list[Path]()
    damaged(path)
    real = statefile.publish_file

    def aside(source: Path, target: Path) -> None:
        with pytest.raises(vs.StoreBusy):
            WriteLock(tmp_path / "state.json.lock", 0).acquire()
        held.append(target)
        real(source, target)

    monkeypatch.setattr(statefile, "publish_file", aside)
    with pytest.raises(vs.CorruptError, match="set aside as"):
        vs.StateFile(path).load()
    assert len(held) == 1 and held[0].exists() and not path.exists()


@pytest.mark.parametrize("fallback", [True, False])
def test_of_two_that_find_a_file_damaged_one_sets_it_aside_and_the_other_says_so(
    fallback: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    damaged(path)
    first = lambda: vs.StateFile(path).load(fallback=True)  # noqa: E731
    monkeypatch.setattr(statefile.StateFile, "_set_aside", once(statefile.StateFile._set_aside, first))
    state = vs.StateFile(path)
    if fallback:
        assert state.load(fallback=True) and state["n"] == 1
    else:
        with pytest.raises(vs.CorruptError, match=r"somebody else set it aside; .*\.previous is the save before"):
            state.load()
    assert len([*tmp_path.glob("*.damaged-*")]) == 1


# -- purge -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["_survivors", "_to_rewrite", "_attempt"])
def test_a_purge_erases_the_vectors_that_a_restore_made_while_it_ran(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restored and deleted again by somebody else, a large batch leaves a segment of its own."""
    ids = [f"c{number}" for number in range(MANY)]
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, [*ids, "stay"])
        store.flush()
        store.concepts.delete(ids)

        def back_and_gone() -> None:
            assert (other.concepts.restore(ids), other.concepts.delete(ids)) == (MANY, MANY)

        monkeypatch.setattr(compacting, step, once(getattr(compacting, step), back_and_gone))
        assert int(store.concepts.purge(ids)) == MANY
        assert store.check().findings == () and store.check().litter == () and len(store.concepts) == 1
    assert sql(tmp_path / "kb", "SELECT rows FROM segments") == [(1,)]
    assert len([*tmp_path.glob("kb/embeddings/concepts/*")]) == 1
    assert all(b"c17" not in each.read_bytes() for each in tmp_path.rglob("*") if each.is_file())


# -- repair ----------------------------------------------------------------------------------------------------------

DAMAGES = {
    "a row less": "DELETE FROM vectors WHERE record = 3",
    "a newer vector that is nowhere": "INSERT INTO vectors(vid, space, record, source, confidence, updates) "
    "SELECT 99, space, record, source, confidence, updates FROM vectors WHERE record = 3",
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_filter_finds_what_a_repair_has_linked_again_in_every_process(damage: str, tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, [f"c{number}" for number in range(5)])
        store.flush()
    sql(tmp_path / "kb", DAMAGES[damage])
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        ask = lambda each: sorted(each.concepts.search(np.ones(8), k=9, where={"version__gte": 1}).ids)  # noqa: E731
        assert len(ask(store)) == len(ask(other)) == 4  # both have loaded what was wrong
        assert store.repair(dry_run=False).remaining == ()
        every = [f"c{number}" for number in range(5)]
        assert ask(store) == ask(other) == every
        with opened(tmp_path / "kb") as later:
            assert ask(later) == every


def test_a_flush_does_not_make_a_filter_read_all_vectors_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vectorstore.storage import spaces as rows

    asked: list[int] = []
    real = rows.record_map
    monkeypatch.setattr(rows, "record_map", lambda *args: (asked.append(args[2]), real(*args))[1])
    with opened(tmp_path / "kb") as store:
        for number in range(3):
            fill(store, [f"c{number}"])
            assert len(store.concepts.search(np.ones(8), where={"version__gte": 1}).ids) == number + 1
            store.flush()
            assert len(store.concepts.search(np.ones(8), where={"version__gte": 1}).ids) == number + 1
    assert asked.count(0) == 1


def test_a_repair_leaves_what_others_are_just_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, ["a", "b"])
        torn = tmp_path / "kb/embeddings/concepts/.torn.tmp"
        torn.parent.mkdir(parents=True, exist_ok=True)
        torn.touch()
        old(torn)
        actions: list[str] = []
        monkeypatch.setattr(
            files, "_rename", once(files._rename, lambda: actions.extend(other.repair(dry_run=False).actions))
        )
        assert store.flush() == 2
        assert actions == ["sweep 1 unnamed files"] and not torn.exists()  # a crash's, as old as that, goes
        assert store.check().findings == () and store.repair().actions == ()


@pytest.mark.parametrize("verb", ["flush", "compact", "model"])
def test_a_file_that_is_swept_while_it_is_written_is_a_typed_error(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sweep(0)` says that nobody else may be writing; who does it all the same must learn what happened."""
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, ["a", "b"])
        act: Callable[[], object] = store.flush
        if verb == "compact":
            store.flush()
            store.concepts.upsert({"id": "a", "name": "a"}, vectors=np.ones((1, 8)))
            store.flush()
            act = store.compact
        elif verb == "model":
            act = lambda: store.models.put("net", b"weights")  # noqa: E731
        monkeypatch.setattr(files, "_rename", once(files._rename, lambda: other.sweep(0)))
        with pytest.raises(vs.StoreError, match=r"was removed while it was written \(by a sweep, perhaps\); try again"):
            act()
        act()
        assert store.check().findings == () and store.check().litter == () and len(store.concepts) == 2


@pytest.mark.parametrize("sweeping", ["repair", "sweep"])
def test_a_view_in_the_making_is_nobodys_litter(sweeping: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        store.history = "30 days"
        store.concepts.add({"id": "a", "name": "a"})
        seq = store.stats()["seq"]
        store.concepts.add({"id": "b", "name": "b"})
        sweep = {"repair": lambda: other.repair(dry_run=False), "sweep": lambda: other.sweep(0)}[sweeping]
        monkeypatch.setattr(past, "copy_to", once(past.copy_to, sweep))
        with store.as_of(seq) as view:
            assert [each.id for each in view.concepts.stream()] == ["a"]
        assert store.check().litter == ()


# -- the trail -------------------------------------------------------------------------------------------------------


def refuse(store: vs.Store, verb: Callable[[vs.Store], object]) -> None:
    with pytest.raises(vs.ValidationError):
        verb(store)


def fields(store: vs.Store) -> list[str]:
    """Which refused calls the trail tells, oldest first."""
    return [each.details["field"] for each in store.trail.list(operation="violation")][::-1]


FIND: Callable[[vs.Store], object] = lambda store: store.concepts.find(limit=0)  # noqa: E731
SEARCH: Callable[[vs.Store], object] = lambda store: store.concepts.search(np.ones(8), k=-1)  # noqa: E731


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A store whose refused calls wait for the next commit."""
    with opened(tmp_path / "kb") as store:
        monkeypatch.setattr(trails, "_PAUSE", 1e9)
        store.trail._written = 0.0
        yield store


def test_refused_calls_are_written_once_each_whoever_commits_meanwhile(
    waiting: vs.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread's commit, and another refusal, before the first commit has tidied up."""
    refuse(waiting, FIND)
    real, begun = waiting._catalog._leave, threading.Event()

    def leave() -> None:
        real()
        if not begun.is_set():
            begun.set()
            elsewhere(lambda: (waiting.concepts.add({"id": "c", "name": "c"}), refuse(waiting, SEARCH)))

    monkeypatch.setattr(waiting._catalog, "_leave", leave)
    waiting.concepts.add({"id": "b", "name": "b"})
    waiting.concepts.add({"id": "d", "name": "d"})
    assert fields(waiting) == ["limit", "k"] and waiting.trail.verify().ok


def test_a_call_that_is_refused_while_another_thread_commits_is_written_once(waiting: vs.Store) -> None:
    met: list[bool] = []

    class Refusing(list[Any]):
        """What a failing transaction takes back; when the trail adds to it, another thread's call is refused."""

        def append(self, each: Any) -> None:
            if not met:
                met.append(True)
                elsewhere(lambda: refuse(waiting, SEARCH))
            super().append(each)

    with waiting._catalog.write() as transaction:
        waiting.concepts.add({"id": "a", "name": "a"})
        transaction.undo = Refusing(transaction.undo)
    waiting.concepts.add({"id": "b", "name": "b"})
    assert met and fields(waiting) == ["k"] and waiting.trail.verify().ok


def test_refused_calls_wait_on_where_the_commit_that_held_them_was_rolled_back(
    waiting: vs.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(waiting, FIND)
    real = trails.chain.append

    def full(*args: Any) -> None:
        real(*args)
        raise vs.StoreError("the disk is full")

    with monkeypatch.context() as patch, pytest.raises(vs.StoreError):
        patch.setattr(trails.chain, "append", full)
        waiting.concepts.add({"id": "a", "name": "a"})
    refuse(waiting, SEARCH)
    waiting.concepts.add({"id": "b", "name": "b"})
    assert fields(waiting) == ["limit", "k"] and waiting.trail.verify().ok


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("rotated", [True, False])
def test_refused_calls_are_in_the_trail_once_where_nobody_knows_of_a_commit(
    happened: bool, rotated: bool, waiting: vs.Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    refuse(waiting, FIND)
    with monkeypatch.context() as patch:

        def unknown(connection: connections.Connection) -> None:
            connection.execute("COMMIT" if happened else "ROLLBACK")
            raise vs.OutcomeUnknown("planted")

        patch.setattr(waiting._catalog, "_commit", unknown)
        with pytest.raises(vs.OutcomeUnknown):
            waiting.concepts.add({"id": "a", "name": "a"})
    assert (waiting.concepts.get("a") is not None) is happened
    with opened(tmp_path / "kb") as other:
        other.concepts.add({"id": "b", "name": "b"})
        if rotated:
            assert other.trail.rotate(keep=1)
    waiting.concepts.add({"id": "c", "name": "c"})
    told = [each.details["field"] for each in waiting.trail.stream() if each.operation == "violation"]
    assert told == ["limit"] and waiting.trail.verify().ok
