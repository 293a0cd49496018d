"""What an erasure still owes is done beside others: it disturbs no job, no closing, no view, and ends with its store."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from tests.test_erasing import WORD, fill, left, opened, owed, unit, wait_for
from vectorstore.places import FolderPlace
from vectorstore.storage import catalog as catalogs
from vectorstore.sync import erasing, past
from vectorstore.vectors import file_name

PAST = "before"


@pytest.fixture
def pinned(tmp_path: Path) -> Iterator[vs.Store]:
    """A store in which a view of the past can be had; whoever holds one keeps an erasure from its end."""
    with opened(tmp_path / "kb") as store:
        fill(store)
        store.snapshots.add(PAST)
        yield store


def purge(store: vs.Store) -> bool:
    """Erase; whether it was finished."""
    store.concepts.delete("x")
    erased = store.concepts.purge("x")
    assert erased == 1
    return erased.finished


def test_what_passes_to_workers_after_a_purge_is_left_to_them(pinned: vs.Store, tmp_path: Path) -> None:
    """What was on its way goes, once; who begins later is not disturbed for as long as copies are owed."""
    before = FolderPlace(tmp_path / "kb" / ".shared-before.tmp")
    before.keep(WORD)
    with pinned.as_of(PAST):
        assert not purge(pinned)
        assert not (tmp_path / "kb" / ".shared-before.tmp").exists()
        later = FolderPlace(tmp_path / "kb" / ".shared-later.tmp")
        digest = later.keep(b"texts of others")
        for _ in range(3):
            assert not erasing._finished(pinned._sync, {}, patient=False)
        assert later.fetch(digest)[:] == b"texts of others"
    assert wait_for(lambda: owed(pinned) is None) and later.fetch(digest)[:] == b"texts of others"


@pytest.mark.parametrize("name", [".shared-dead.tmp", ".as-of-dead.tmp"])
def test_a_folder_that_the_disk_keeps_is_told(
    pinned: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "kb" / name).mkdir()
    (tmp_path / "kb" / name / "catalog.sqlite").write_bytes(WORD)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert not purge(pinned)
    assert wait_for(lambda: owed(pinned) is None) and left(tmp_path / "kb") == []


def test_a_view_that_is_swept_in_the_moment_of_its_making_is_made_again(
    pinned: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its lock is taken it looks like what a killed process left."""
    real_open, real_lock, swept = os.open, fcntl.flock, []

    def sweep(when: str) -> None:
        if when not in swept:
            swept.append(when)
            for each in (tmp_path / "kb").glob(".as-of-*"):
                assert past.remove_view(each)

    def opening(path: Any, *how: Any, **more: Any) -> int:
        if how and how[0] & os.O_CREAT and str(path).endswith("view.lock"):
            sweep("before it has a lock")
        return real_open(path, *how, **more)

    def locking(handle: int, how: int) -> None:
        if how == fcntl.LOCK_SH:
            sweep("before it has taken it")
        real_lock(handle, how)

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(fcntl, "flock", locking)
    with pinned.as_of(PAST) as view:
        assert view.concepts.get("x") is not None and len(swept) == 2
        assert len([*(tmp_path / "kb").glob(".as-of-*")]) == 1
        assert not past.remove_view(view._catalog.root)


def test_an_erasure_whose_thread_cannot_be_started_is_no_error_of_the_call(
    pinned: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name == "vectorstore-erase":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        with pinned.as_of(PAST):
            assert not purge(pinned)
        assert "can't start new thread" in caplog.text
        pinned.close()
        opened(tmp_path / "kb").close()
    with opened(tmp_path / "kb") as store:
        assert wait_for(lambda: owed(store) is None)


def erasers() -> int:
    return sum(thread.name == "vectorstore-erase" for thread in threading.enumerate())


def test_nobody_goes_on_erasing_where_a_store_was_not_opened_or_is_gone(
    pinned: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = pinned.as_of(PAST)
    assert not purge(pinned)
    monkeypatch.setattr(catalogs, "write_afresh", lambda connection: False)
    pinned.close()

    def refuse(_: vs.Store) -> None:
        raise vs.StoreError("is not as it should be")

    with monkeypatch.context() as patch:
        patch.setattr(vs.Store, "check", refuse)
        with pytest.raises(vs.StoreError, match="is not as it should be"):
            opened(tmp_path / "kb", verify=True)
    assert erasers() == 0
    with pytest.raises(vs.StoreGone), opened(tmp_path / "kb"):
        assert erasers() == 1
        (tmp_path / "kb").rename(tmp_path / "elsewhere")
        assert wait_for(lambda: erasers() == 0)
    view.close()


def test_a_store_that_is_closed_within_a_transaction_does_not_wait_for_itself(pinned: vs.Store, tmp_path: Path) -> None:
    """The thread that erases waits for the end of that transaction."""
    with pinned.as_of(PAST):
        assert not purge(pinned)
        closed = threading.Event()

        def close() -> None:
            with contextlib.suppress(vs.StoreClosed), pinned.transaction():
                pinned.close()
                closed.set()

        with pinned._eraser._lock:
            eraser = pinned._eraser._thread
            pinned._eraser._thread = threading.current_thread()  # which ends after the transaction
        other = threading.Thread(target=close, daemon=True)
        other.start()
        assert closed.wait(10)
        other.join()
        assert eraser is not None
        eraser.join()


def test_a_file_that_others_have_begun_since_is_not_waited_for(pinned: vs.Store, tmp_path: Path) -> None:
    with pinned.as_of(PAST):
        assert not purge(pinned)
        pinned.concepts.add({"id": "y", "name": "y"}, vectors=unit(9)[None])
        begun: list[str] = []

        def chunks() -> Iterator[bytes]:
            yield b"half of it"
            begun.extend(path.name for path in tmp_path.glob("kb/embeddings/concepts/.*.tmp"))
            with pinned._catalog.read() as connection:
                suspects = [name for *_, name in erasing._suspects(pinned._sync, connection, owed(pinned)[0], set())]
            assert begun and not {*begun} & {*suspects}

        seq = pinned.moment.seq
        pinned._sync.folder("embeddings", "concepts").publish(file_name(seq, "0" * 16), chunks())
    assert wait_for(lambda: owed(pinned) is None)


def test_what_is_owed_while_the_last_attempt_ends_is_done_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another purge is put off in the moment in which the thread has found that nothing more is owed."""
    with opened(tmp_path / "kb") as store:
        attempts: list[None] = []

        def done(*_: object, **__: object) -> bool:
            attempts.append(None)
            if len(attempts) == 1:
                store._eraser.start()
            return True

        with monkeypatch.context() as patch:
            patch.setattr(erasing, "_finished", done)
            store._eraser.start()
            assert wait_for(lambda: len(attempts) == 2)
            assert wait_for(lambda: store._eraser._thread is None)
