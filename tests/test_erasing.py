"""An erasure comes to its end: what a reader, a kill or a full disk keeps of it goes as soon as that lets it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import vectorstore as vs
from tests import forked
from vectorstore import removing
from vectorstore.storage import catalog as catalogs
from vectorstore.storage.settings import setting
from vectorstore.sync import erasing

WORD = b"zyxsecretword"


def unit(seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    vector = np.random.default_rng(seed).standard_normal(64).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


SECRET = unit(1)


def opened(folder: Path, **options: Any) -> vs.Store:
    return vs.open(folder, embedder=None, auto_publish=False, **options)


def left(folder: Path) -> list[str]:
    """Files that hold the word or the vector."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files for needle in (WORD, SECRET.tobytes()) if needle in path.read_bytes()]


def fill(store: vs.Store, others: int = 1) -> None:
    vectors = np.stack([SECRET, *(unit(seed) for seed in range(2, others + 2))])
    store.concepts.add(
        [{"id": "x", "name": WORD.decode()}, *({"name": f"n{i}"} for i in range(others))], vectors=vectors
    )


def owed(store: vs.Store) -> Any:
    with store._catalog.read() as connection:
        return setting(connection, erasing.OWED)


def wait_for(done: Callable[[], bool]) -> bool:
    until = threading.Event()
    return any(done() or until.wait(0.05) for _ in range(400)) and done()


def ends_in(folder: Path, code: str) -> None:
    """Another process, which ends by itself in the middle, as a kill would."""
    script = f"import os, vectorstore as vs\ns = vs.open({str(folder)!r}, embedder=None, auto_publish=False)\n{code}"
    assert forked.python(script).returncode == 9


def test_a_purge_that_nothing_stops_is_finished_when_it_returns(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store)
        store.flush()
        store.concepts.delete("x")
        erased = store.concepts.purge("x")
        assert (int(erased), erased.finished, left(tmp_path / "kb"), owed(store)) == (1, True, [], None)
        assert [each.operation for each in store.trail.list(limit=3)] == ["compact", "purge", "delete"]


def test_what_a_reader_keeps_in_the_log_goes_when_it_ends(tmp_path: Path) -> None:
    go, at = threading.Event(), threading.Event()

    def rerank(query: Any, records: Any) -> list[float]:
        at.set()
        go.wait(30)
        return [1.0] * len(records)

    with opened(tmp_path / "kb", timeout=0.2) as store:
        fill(store)
        store.flush()
        reader = threading.Thread(target=lambda: store.concepts.search(unit(2), rerank=rerank))
        reader.start()
        assert at.wait(30)
        store.concepts.delete("x")
        erased = store.concepts.purge("x")
        assert (int(erased), erased.finished) == (1, False)
        assert left(tmp_path / "kb")
        go.set()
        reader.join()
        assert wait_for(lambda: not left(tmp_path / "kb") and owed(store) is None)
        assert store.check().findings == ()


def test_what_is_owed_when_a_store_closes_is_done_after_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = threading.active_count()
    with monkeypatch.context() as patch:
        patch.setattr(catalogs, "write_afresh", lambda connection: False)  # a full disk
        with opened(tmp_path / "kb") as store:
            fill(store)
            store.concepts.delete("x")
            assert not store.concepts.purge("x").finished
            assert owed(store)[1]
    with opened(tmp_path / "kb", read_only=True) as store:
        erased = store.concepts.purge("x")  # there is nothing to erase, and nothing that it may do
        assert (int(erased), erased.finished, threading.active_count()) == (0, False, threads)
        assert owed(store)[1]
    with opened(tmp_path / "kb") as store:
        assert wait_for(lambda: owed(store) is None)
    assert left(tmp_path / "kb") == []


def test_a_purge_within_a_transaction_is_finished_after_it(tmp_path: Path) -> None:
    with opened(tmp_path / "kb", timeout=1) as store:
        fill(store)
        store.flush()
        with store.transaction():
            store.concepts.delete("x")
            erased = store.concepts.purge("x")
            assert not erased.finished
        assert (left(tmp_path / "kb"), owed(store)) == ([], None)
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.concepts.delete(store.concepts.find()[0].id)
            store.concepts.purge(older_than=timedelta(0))
            raise ZeroDivisionError
        assert (owed(store), store.concepts.count()) == (None, 1)


def test_views_of_the_past_go_at_once_where_their_process_died_and_else_when_they_are_closed(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store)
        store.snapshots.add("before")
    ends_in(tmp_path / "kb", "view = s.as_of('before'); os._exit(9)")
    assert left(tmp_path / "kb")
    with opened(tmp_path / "kb") as store:
        view = store.as_of("before")
        store.concepts.delete("x")
        erased = store.concepts.purge("x")
        assert (int(erased), erased.finished) == (1, False)
        assert len({*tmp_path.glob("kb/.as-of-*")}) == 1
        view.close()
        assert wait_for(lambda: owed(store) is None)
        assert left(tmp_path / "kb") == []


def test_a_purge_that_was_killed_right_after_its_commit_is_finished_by_the_next(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store)
        store.flush()
        store.concepts.delete("x")
    ends_in(
        tmp_path / "kb",
        "import vectorstore.storage.catalog as c\nc.run = lambda actions: os._exit(9)\ns.concepts.purge('x')",
    )
    assert left(tmp_path / "kb")
    with opened(tmp_path / "kb") as store:
        erased = store.concepts.purge("x")
        assert (int(erased), erased.finished, left(tmp_path / "kb")) == (0, True, [])


@pytest.mark.parametrize("verb", ["compact('concepts')", "rebuild('concepts', 'hnsw32')", "flush()"])
def test_files_of_work_that_was_killed_go_with_what_they_hold(tmp_path: Path, verb: str) -> None:
    folder = tmp_path / "kb"
    with opened(folder) as store:
        fill(store, 99)
        if verb != "flush()":
            store.flush()
            store.concepts.upsert({"id": "x", "name": "y"}, vectors=SECRET[None])
            store.flush()
    before = len([*folder.glob("*/concepts/*")])
    ends_in(
        folder,
        "import glob, vectorstore.storage.catalog as c\nold = c.Catalog._commit\n"
        "def commit(self, connection):\n"
        f"    if len(glob.glob({str(folder)!r} + '/*/concepts/*')) > {before}: os._exit(9)\n"
        f"    old(self, connection)\nc.Catalog._commit = commit\ns.{verb}",
    )
    assert len([*folder.glob("*/concepts/*")]) > before
    with opened(folder) as store:
        store.concepts.delete("x")
        assert store.concepts.purge("x").finished
        assert left(folder) == []
        assert (store.check().findings, store.check().litter) == ((), ())
        assert store.concepts.count() == 99


def test_a_file_that_is_just_being_written_is_waited_for(tmp_path: Path) -> None:
    """Of new records: it has no vids yet, and its process may be about to commit it."""
    folder = tmp_path / "kb"
    with opened(folder) as store:
        fill(store)
        store.flush()
        (written,) = folder.glob("embeddings/concepts/*.npz")
        other = written.with_name(f"{written.name[:13]}{'0' * 16}.npz")
        store.concepts.delete("x")
        half = other.with_name(f".{other.name}.1.tmp")
        half.write_bytes(b"PK")
        assert not store.concepts.purge("x").finished
        assert half.exists()
        half.unlink()
        assert wait_for(lambda: owed(store) is None)


def test_states_that_are_dropped_leave_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        state = store.state("agent", compression="none")
        for version in range(3):
            state["note"] = f"{WORD.decode()} {version}"
            state.save()
        assert left(tmp_path / "kb")
        assert store.states.drop("agent") == 3
        assert owed(store) is None
    assert left(tmp_path / "kb") == []


def test_a_copy_that_a_migration_left_goes_along(tmp_path: Path) -> None:
    class Note(vs.Record, table="notes"):
        title: Annotated[str, vs.EMBEDDED]

    class Longer(vs.Record, table="notes"):
        title: Annotated[str, vs.EMBEDDED]
        more: str | None = None

    folder = tmp_path / "kb"
    with vs.open(folder, embedder="hash:64", kinds=[Note]) as store:
        store.collection(Note).add(Note(id="x", title=WORD.decode()))
    with vs.open(folder, embedder="hash:64", kinds=[Longer]) as store:
        assert len([*folder.glob("catalog.*.backup.sqlite")]) == 1
        notes = store.collection(Longer)
        notes.delete("x")
        assert notes.purge("x").finished
        assert left(folder) == []
        assert not [*folder.glob("catalog.*.backup.sqlite")]


def test_history_that_begins_while_a_purge_is_prepared_keeps_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kb"
    with opened(folder) as store, opened(folder) as other:
        fill(store)
        store.flush()
        store.concepts.delete("x")
        first = [True]
        old = removing.compact

        def late(*arguments: Any, **options: Any) -> Any:
            if first:
                first.clear()
                other.history = "30d"
                other.concepts.upsert({"id": "y", "name": "y"}, vectors=unit(7)[None])
            return old(*arguments, **options)

        monkeypatch.setattr(removing, "compact", late)
        assert store.concepts.purge("x") == 1
        assert not first
        assert left(folder) == []
        assert store.check().findings == ()


def test_a_compact_within_a_transaction_gives_pages_back_after_it(tmp_path: Path) -> None:
    with opened(tmp_path / "kb", timeout=1) as store:
        fill(store, 300)
        store.flush()
        store.concepts.delete([each.id for each in store.concepts.find(limit=200)])
        with store.transaction():
            store.concepts.purge(older_than=timedelta(0))
            store.compact()
        assert (store.concepts.count(), store.check().findings) == (101, ())
