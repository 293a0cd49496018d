"""What seldom happens, each case made to happen: races that are lost, disks that refuse, damages of a rare kind."""

from __future__ import annotations

import ctypes
import errno
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import vectorstore as vs
from vectorstore import files, restoring
from vectorstore.files import DiskFolder
from vectorstore.storage import catalog as catalogs
from vectorstore.storage import folder as folders
from vectorstore.storage.connection import Connection
from vectorstore.storage.lock import RESERVE, WriteLock

RANDOM = np.random.default_rng(5)
MANY = 1100  # more than wait in the catalog: they become a segment of their own, without vids in it


def opened(root: Path, **options: Any) -> vs.Store:
    return vs.open(root, embedder=None, auto_publish=False, **options)


def sql(root: Path, statement: str, *values: object) -> list[Any]:
    connection = sqlite3.connect(root / "catalog.sqlite", isolation_level=None)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def fill(store: vs.Store, count: int, start: int = 0, dim: int = 8) -> np.ndarray:
    vectors = RANDOM.standard_normal((count, dim)).astype(np.float32)
    store.concepts.add([{"id": f"c{n:04d}", "name": f"n{n}"} for n in range(start, start + count)], vectors=vectors)
    return vectors


def answers(store: vs.Store, k: int = 20) -> list[tuple[str, float]]:
    return [(hit.id, hit.score) for hit in store.concepts.search(np.arange(8.0), k=k, exact=True)]


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "../kb", "a/b", "/etc/passwd", "a\0b"])
def test_a_name_of_a_catalog_that_leads_elsewhere_is_damage(name: str, tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path)
    for call in (folder.read, folder.stat, folder.remove, folder.age, lambda name: folder.publish(name, [b"x"])):
        with pytest.raises(vs.CorruptError, match="is no name of a file"):
            call(name)
    assert os.listdir(tmp_path) == []


def test_a_file_that_vanishes_while_it_is_published_is_not_said_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = DiskFolder(tmp_path)
    sync = files._sync_folder
    monkeypatch.setattr(files, "_sync_folder", lambda path: ((tmp_path / "a").unlink(missing_ok=True), sync(path)))
    with pytest.raises(vs.CorruptError, match="vanished right after it was written"):
        folder.publish("a", [b"x"])


def test_the_very_same_bytes_may_be_published_again_and_no_others(tmp_path: Path) -> None:
    folder = DiskFolder(tmp_path)
    first = folder.publish("a", [b"x", b"yz"])
    again = folder.publish("a", [b"xyz"])
    assert (first.size, first.sha256) == (again.size, again.sha256) and first.stat != again.stat
    assert again.stat == folder.stat("a") and bytes(folder.read("a")) == b"xyz" and folder.names() == ["a"]
    assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o600


def test_litter_that_a_disk_keeps_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    files.discard(tmp_path / "file" / "x")
    files.discard(tmp_path / "none")
    files.discard(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_a_file_is_written_whole_where_each_write_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:3])))
    assert DiskFolder(tmp_path).publish("a", [b"0123456789", b"ab"]).size == 12
    assert (tmp_path / "a").read_bytes() == b"0123456789ab"


def test_folders_are_made_for_their_owner_only_and_their_names_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "_sync_folder", synced.append)
    files.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    assert [os.stat(tmp_path / name).st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]


def test_a_folder_whose_name_could_not_be_made_durable_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it stayed, the next caller would find it, and what is written into it could vanish with it."""
    synced: list[Path] = []

    def refusing(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync_folder", refusing)
        with pytest.raises(vs.StoreError, match="Input/output error"):
            files.make_folder(tmp_path / "a")
    monkeypatch.setattr(files, "_sync_folder", synced.append)
    files.make_folder(tmp_path / "a")
    assert synced == [tmp_path]


def test_every_step_to_a_durable_name_is_taken_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kills and power cuts prove it on a file system; this says which step is missing."""
    steps: list[str] = []
    for name in ("_create", "_write", "_sync", "_rename", "_sync_folder"):
        real = getattr(files, name)
        monkeypatch.setattr(files, name, lambda *a, n=name, r=real: (steps.append(n), r(*a))[1])
    durable = ["_create", "_write", "_sync", "_rename", "_sync_folder"]
    DiskFolder(tmp_path).publish("a", [b"x"])
    assert steps == durable
    steps.clear()
    files.replace_file(tmp_path / "a", b"y")
    assert steps == durable and (tmp_path / "a").read_bytes() == b"y" and os.listdir(tmp_path) == ["a"]
    steps.clear()
    files.publish_file(tmp_path / "a", tmp_path / "b")
    assert steps == ["_sync", "_rename", "_sync_folder"]
    steps.clear()
    (tmp_path / "c.tmp").mkdir()
    files.publish_folder(tmp_path / "c.tmp", tmp_path / "c")
    assert steps == ["_sync_folder", "_rename", "_sync_folder"]


@pytest.mark.parametrize("taken", ["folder", "dangling link"])
def test_a_folder_is_never_published_over_another_thing(taken: str, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "old").mkdir() if taken == "folder" else (tmp_path / "old").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError, match="choose another name"):
        files.publish_folder(tmp_path / "new", tmp_path / "old")
    assert sorted(os.listdir(tmp_path)) == ["new", "old"]


@pytest.mark.parametrize("system", ["exchanges", "cannot", "has no such call"])
def test_two_folders_exchange_their_names_on_any_system(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "whose").write_text(name)
    if system == "cannot":
        monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    elif system == "has no such call":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    renames: list[Path] = []
    rename = files._rename
    monkeypatch.setattr(files, "_rename", lambda source, target: (renames.append(target), rename(source, target)))
    restoring.exchange_folders(tmp_path / "a", tmp_path / "b")
    assert [(tmp_path / name / "whose").read_text() for name in ("a", "b")] == ["b", "a"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
    assert len(renames) == (0 if system == "exchanges" else 3)


# -- the write queue -----------------------------------------------------------------------------------------------


def test_a_lock_that_the_disk_refuses_is_a_typed_error_and_can_be_had_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = WriteLock(tmp_path / "store.lock", 1.0, RESERVE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EMFILE, "no more")))
        with pytest.raises(vs.StoreError, match="the disk refused: no more") as caught:
            lock.acquire()
    assert caught.value.errno == errno.EMFILE
    with lock:
        assert (tmp_path / "store.lock").stat().st_size == RESERVE
    lock.close()


def test_a_lock_waits_as_long_as_it_is_told_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    held, other = WriteLock(path, 0.2), WriteLock(path, 0.2)
    with held:
        for lock, who, wait in (
            (other, "another process", None),
            (other, "another process", 0),
            (held, "another thread", None),
        ):
            started = time.monotonic()
            with pytest.raises(vs.StoreBusy, match=f"{who} held .* for {0.2 if wait is None else 0:g} s"):
                lock.acquire(wait)
            assert (time.monotonic() - started >= 0.2) == (wait is None)
    for lock in (other, held):
        lock.acquire(0)  # whoever failed holds nothing
        lock.release()
        lock.close()


def test_a_lock_takes_its_reserve_anew_after_it_was_given_back(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    for _ in range(2):
        lock = WriteLock(path, 1.0, 4096)
        assert lock.give_room() is False  # it was never taken
        with lock:
            assert path.stat().st_size == 4096
            lock.note(7)
            assert lock.give_room() is True and lock.give_room() is False
            assert path.stat().st_size == 16
        lock.close()
        lock.close()  # twice is once


def refusing(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "full")


@pytest.mark.parametrize("also", ["posix_fallocate", "ftruncate"])
def test_a_lock_without_room_for_a_reserve_works_as_well(
    also: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "store.lock"
    path.write_bytes(bytes(100))
    lock = WriteLock(path, 1.0, 4096)
    monkeypatch.setattr(os, "posix_fallocate", refusing)
    monkeypatch.setattr(os, also, refusing)
    with lock:
        assert path.stat().st_size == (16 if also == "posix_fallocate" else 100)
        assert lock.give_room() is False  # there is none, or the disk keeps it
        lock.note(7)
    lock.close()


def test_a_lock_keeps_room_where_the_system_cannot_allocate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    lock = WriteLock(tmp_path / "store.lock", 1.0, 4096)
    with lock:
        assert (tmp_path / "store.lock").stat().st_size == 4096
    lock.close()


def test_a_commit_counts_though_its_number_cannot_be_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "kb") as store:
        monkeypatch.setattr(os, "pwrite", refusing)
        fill(store, 3)
        assert len(store.concepts) == 3


def test_a_closed_lock_gives_its_descriptor_back(tmp_path: Path) -> None:
    lock = WriteLock(tmp_path / "store.lock", 1.0)
    with lock:
        handle = lock._handle
        assert handle is not None and os.get_inheritable(handle) is False
        assert os.fstat(handle).st_mode & 0o777 == 0o600
    lock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_waiting_for_the_lock_is_no_spinning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [100.0], list[float]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda pause: (pauses.append(pause), now.__setitem__(0, now[0] + pause)))
    held, other = WriteLock(tmp_path / "store.lock", 1.0), WriteLock(tmp_path / "store.lock", 1.0)
    with held, pytest.raises(vs.StoreBusy):
        other.acquire()
    assert pauses[0] == 0.0002 and pauses == sorted(pauses) and pauses[-1] == 0.01
    assert 1.0 < sum(pauses) <= 1.0 + 0.01 and len(pauses) < 120
    other.close()
    held.close()


# -- the catalog ---------------------------------------------------------------------------------------------------


def test_what_is_no_store_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(vs.NotAStore, match="is a file, not a store"):
        opened(tmp_path / "file")
    with pytest.raises(vs.StoreError, match="none does not exist; make it first"):
        opened(tmp_path / "none" / "kb")
    (tmp_path / "lost" / "embeddings" / "concepts").mkdir(parents=True)
    (tmp_path / "lost" / "catalog.sqlite").touch()
    with pytest.raises(vs.CorruptError, match="is empty, but .* holds vectors"):
        opened(tmp_path / "lost")
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "lost/catalog.sqlite").stat().st_size == 0
    assert not (tmp_path / "none").exists()


def test_an_older_format_is_not_migrated_by_a_reader(tmp_path: Path) -> None:
    opened(tmp_path / "kb").close()
    sql(tmp_path / "kb", f"PRAGMA user_version={catalogs.FORMAT - 1}")
    with pytest.raises(vs.StoreError, match=f"open it once for writing to migrate it to {catalogs.FORMAT}"):
        opened(tmp_path / "kb", read_only=True)


def test_a_fork_may_not_use_it(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        if not (child := os.fork()):
            try:
                store.concepts.get("c0000")
            except vs.StoreError as error:
                os._exit(7 if "fork before it is opened" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert store.concepts.get("c0000") is not None


def test_writers_queue_at_the_lock_and_readers_do_not(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb", timeout=0.1) as other:
        fill(store, 2)
        with store._sync.catalog.write():
            with pytest.raises(vs.StoreBusy, match=r"another process held .*store\.lock for 0\.1 s"):
                other.concepts.delete("c0000")
            with pytest.raises(vs.StoreBusy, match="for 0 s"), other._sync.catalog.write(aside=True, wait=0):
                pass  # what goes aside waits for nobody
            with opened(tmp_path / "kb", read_only=True, timeout=0.1) as reader:
                assert reader._catalog._lock._path is None and len(reader.concepts) == 2
                with pytest.raises(vs.ReadOnlyStore, match="open it without read_only=True"):
                    reader.concepts.delete("c0000")
        assert other.concepts.delete("c0000") == 1


class Refusing(Connection):
    """A connection whose commits fail as it is told; those that end a read do not."""

    failing: str | None = None

    def execute(self, sql: str, *values: Any) -> Any:
        if sql == "COMMIT" and Refusing.failing is not None and not self.query_only:
            damaged = Refusing.failing == "SQLITE_CORRUPT"
            error = (sqlite3.DatabaseError if damaged else sqlite3.OperationalError)("planted")
            error.sqlite_errorname = Refusing.failing
            raise error
        return super().execute(sql, *values)

    @property
    def query_only(self) -> bool:
        return bool(super().execute("PRAGMA query_only").fetchone()[0])


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("SQLITE_FULL", vs.StoreError, "nothing was written; make room and retry"),
        ("SQLITE_BUSY_SNAPSHOT", vs.StoreBusy, "the commit was refused .* nothing was written"),
        ("SQLITE_IOERR_FSYNC", vs.OutcomeUnknown, "may be there after a restart or not"),
        ("SQLITE_CORRUPT", vs.OutcomeUnknown, "may be there after a restart or not"),
    ],
)
def test_a_commit_that_fails_says_what_is_known(
    name: str, error: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vectorstore.storage import connection as connections

    monkeypatch.setattr(connections, "Connection", Refusing)
    monkeypatch.setattr(Refusing, "failing", None)
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        before, seq = answers(store), store.stats()["seq"]
        Refusing.failing = name
        with pytest.raises(vs.StoreError, match=message) as caught:
            fill(store, MANY, start=3)
        Refusing.failing = None
        assert type(caught.value) is error and (name != "SQLITE_FULL" or caught.value.errno == errno.ENOSPC)
        kept = store.check().litter
        assert (store.stats()["seq"], answers(store), len(store.concepts)) == (seq, before, 3)
        # What may be named by a commit that nobody knows of is kept for a later sweep.
        assert len(kept) == (error is vs.OutcomeUnknown)
        fill(store, MANY, start=3)
        assert len(store.concepts) == MANY + 3 and store.check().findings == ()


def test_two_that_create_the_same_store_both_have_it(tmp_path: Path) -> None:
    failed: list[BaseException] = []
    start = threading.Barrier(4)

    def make(number: int) -> None:
        try:
            start.wait()
            with opened(tmp_path / "kb") as store:
                store.concepts.add({"id": f"c{number}", "name": str(number)}, vectors=np.ones((1, 8)))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    with opened(tmp_path / "kb") as store:
        assert failed == [] and len(store.concepts) == 4 and store.check().findings == ()


def test_a_store_that_another_creates_while_it_is_looked_at_is_no_strange_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = Connection.execute, list[str]()

    def execute(connection: Connection, sql: str, *values: Any) -> Any:
        if "application_id" not in sql or made:
            return real(connection, sql, *values)
        made.append(sql)
        rows = real(connection, sql, *values).fetchall()
        other = threading.Thread(target=lambda: opened(tmp_path / "kb").close())
        other.start()
        other.join()
        return mock.Mock(fetchall=lambda: rows, fetchone=lambda: rows[0])

    monkeypatch.setattr(Connection, "execute", execute)
    with opened(tmp_path / "kb") as store:
        assert made and store.check().findings == ()


def test_a_copy_of_the_catalog_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        monkeypatch.setattr(folders, "publish_file", refusing)
        with pytest.raises(OSError, match="full"):
            store._catalog.backup(tmp_path / "copy.sqlite")
        assert sorted(os.listdir(tmp_path)) == ["kb"]
        monkeypatch.undo()
        store._catalog.backup(tmp_path / "copy.sqlite")
    assert sorted(os.listdir(tmp_path)) == ["copy.sqlite", "kb"]
    copied = sqlite3.connect(tmp_path / "copy.sqlite")
    assert copied.execute("SELECT count(*) FROM concepts").fetchone() == (3,)
    copied.close()


def test_a_store_is_closed_though_a_statement_does_not_end(tmp_path: Path) -> None:
    store = opened(tmp_path / "kb")
    fill(store, 1)

    class Busy:
        waited: list[float] = []

        def acquire(self, timeout: float | None = None) -> bool:
            if timeout is not None:
                self.waited.append(timeout)
            return timeout is None

        def release(self) -> None:
            pass

    reader = store._catalog._readers.mine()
    turn, reader.turn = reader.turn, Busy()
    store.close()
    assert Busy.waited == [10]
    assert reader.execute("SELECT 1").fetchone() == (1,)  # it was left to whoever uses it
    reader.turn = turn
    reader.close()
    with pytest.raises(vs.StoreClosed):
        store.concepts.get("c0000")
    store.close()
