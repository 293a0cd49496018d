"""What seldom happens, each case made to happen: races that are lost, disks that refuse, damages of a rare kind."""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import re
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore import files
from vectorstore.files import DiskFolder
from vectorstore.recipes import BUILTIN_RECIPES
from vectorstore.storage import catalog as catalogs
from vectorstore.storage import spaces as rows
from vectorstore.storage.connection import Connection
from vectorstore.storage.lock import RESERVE, WriteLock
from vectorstore.sync import models, write
from vectorstore.sync.core import INDEX
from vectorstore.sync.publish import publish, snapshot
from vectorstore.sync.rebuild import refresh

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
    files.exchange_folders(tmp_path / "a", tmp_path / "b")
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


def test_a_fork_must_open_its_own(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        if not (child := os.fork()):
            try:
                store.concepts.get("c0000")
            except vs.StoreError as error:
                os._exit(7 if "a forked child must call vs.open" in str(error) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert store.concepts.get("c0000") is not None


def test_writers_queue_at_the_lock_and_readers_do_not(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb", timeout=0.1) as other:
        fill(store, 2)
        with store._sync.catalog.write():
            with pytest.raises(vs.StoreBusy, match=r"another process held .*store\.lock for 0\.1 s"):
                other.concepts.delete("c0000")
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
            error = sqlite3.OperationalError("planted")
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
        assert len(kept) == (name == "SQLITE_IOERR_FSYNC")
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


# -- vectors on their way in ---------------------------------------------------------------------------------------


def test_a_space_that_was_made_meanwhile_with_another_dimension_refuses(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        staged = write.stage(store._sync, "concepts", ["a"], np.ones((1, 4), np.float32), write.Origin())
        fill(other, 1, dim=8)
        with (
            pytest.raises(vs.SpaceMismatch, match="has 8 dimensions, the vectors have 4; nothing was written"),
            store._sync.catalog.write() as transaction,
        ):
            write.attach(store._sync, transaction, "concepts", "cosine", staged, [1])
        assert len(store.concepts) == 1 and store.check().findings == ()


def test_a_flush_of_what_is_all_replaced_writes_no_file(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        vectors = RANDOM.standard_normal((MANY, 8)).astype(np.float32)
        store.concepts.upsert([{"id": f"c{n:04d}", "name": f"n{n}"} for n in range(MANY)], vectors=vectors)
        before = answers(store)
        assert store._sync.state("concepts")._live is not None
        assert write.flush(store._sync, "concepts") == 3 and write.flush(store._sync, "concepts") == 0
        assert write.flush(store._sync, "analogies") == 0
        with store._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, "concepts")
            assert space is not None
            assert [row.rows for row in rows.segments_of(connection, space.id)] == [MANY]
            assert rows.pending_count(connection, space.id) == 0
        assert answers(store) == before and store.check().findings == () and store.check().litter == ()


def test_a_flush_that_somebody_else_has_done_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, 5)
        before = answers(store)
        folder = store._sync.folder("embeddings", "concepts")
        real = folder.publish
        once = iter([lambda: write.flush(other._sync, "concepts")])
        monkeypatch.setattr(folder, "publish", lambda *a: (next(once, lambda: None)(), real(*a))[1])
        assert write.flush(store._sync, "concepts") == 0
        assert len(folder.names()) == 1 and answers(store) == before and store.check().litter == ()


# -- indexes -------------------------------------------------------------------------------------------------------


def test_an_index_that_is_older_than_the_current_one_is_not_published(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, 300)
        store.flush()
        live = snapshot(store._sync, "concepts")
        assert live is not None
        other.concepts.add({"id": "late", "name": "late"}, vectors=np.ones((1, 8)))
        newer = other.rebuild("concepts", "hnsw32").after
        with pytest.raises(vs.Superseded, match="a newer index was published meanwhile; it was kept"):
            publish(store._sync, "concepts", BUILTIN_RECIPES["simhash512"], live)
        assert snapshot(store._sync, "concepts").index.recipe.name == newer.recipe == "hnsw32"
        assert store.check().findings == () and store.check().litter == ()


def test_the_exact_recipe_takes_the_index_away_with_its_file_and_does_what_belongs_to_it(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 300)
        report = store.rebuild("concepts", "hnsw32")
        assert report.before.recipe == "exact" and report.after.recipe == "hnsw32"
        assert report.rows == 300 and 0 <= report.seconds < 60 and report.after.bytes > 0 == report.before.bytes
        live = snapshot(store._sync, "concepts")
        assert live is not None and live.index is not None
        told: list[int] = []
        refresh(store._sync, "concepts", BUILTIN_RECIPES["exact"], live, also=lambda t: told.append(t.seq))
        assert told == [store.stats()["seq"]]
        assert snapshot(store._sync, "concepts").index is None
        assert store._sync.folder("indexes", "concepts").names() == []
        assert store.trail.list(limit=1)[0].operation == "publish"


@pytest.mark.parametrize(("segments", "merged"), [(4, False), (5, True)])
@pytest.mark.parametrize("recipe", ["hnsw32", "auto", "exact"])
def test_many_segments_are_merged_before_an_index_is_built(
    recipe: str, segments: int, merged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorstore.sync.auto.SHORTLIST", ("hnsw32",))
    with opened(tmp_path / "kb") as store:
        for part in range(segments):
            fill(store, 20, start=20 * part)
            store.flush()
        before, told = answers(store), list[tuple[int, int]]()
        report = store.rebuild("concepts", recipe, lambda *done: told.append(done))
        assert report.rows == 20 * segments and 0 <= report.seconds < 60
        assert recipe == "auto" or report.after.recipe == recipe
        assert bool(told) == (recipe != "exact") and all(done <= total for done, total in told)
        assert store.check().segments == (1 if merged and recipe != "exact" else segments)
        assert answers(store) == before and store.check().findings == ()


def test_upkeep_is_written_down_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        told: list[dict[str, Any]] = []
        store.on("persist", told.append)

        def last() -> tuple[str, str | None, int, dict[str, Any]]:
            entry = store.trail.list(limit=1)[0]
            return entry.operation, entry.kind, entry.count, dict(entry.details)

        fill(store, 3)
        store.flush()
        assert last() == ("flush", "concepts", 0, {"space": "concepts", "vectors": 3})
        store.rebuild("concepts", "hnsw32")
        operation, kind, _, details = last()
        assert (operation, kind, len(details.pop("sha256"))) == ("publish", "concepts", 64)
        assert details == {"space": "concepts", "recipe": "hnsw32", "vectors": 3}
        store.rebuild("concepts", "exact")
        assert last() == ("publish", "concepts", 0, {"space": "concepts", "recipe": "exact", "vectors": 0})
        store.concepts.upsert({"id": "c0001", "name": "n1"}, vectors=np.ones((1, 8)))
        store.compact()
        assert last() == ("compact", "concepts", 0, {"space": "concepts", "removed": 1})
        (tmp_path / "kb/embeddings/concepts/.x.tmp").touch()
        assert store.sweep(0) == ["embeddings/concepts/.x.tmp"]
        assert last() == ("sweep", None, 0, {"files": 1})
        assert [{name: each[name] for name in ("space", "rows")} for each in told] == [
            {"space": "concepts", "rows": rows} for rows in (3, 1, 3)
        ]


def test_an_index_is_asked_for_as_many_as_will_survive(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 2000)
        store.rebuild("concepts", "hnsw32")
        live = snapshot(store._sync, "concepts")
    assert live is not None and live.curve is not None and live.index is not None
    point = dataclasses.replace(live.curve.cheapest(0.5, 10), candidates=20)
    assert live._fetch(point, None) == 20
    half = dataclasses.replace(live, dead=np.arange(2000) % 2 == 0)
    assert half._fetch(point, None) == int(20 / 0.5 * 1.2) + 16 == 64
    assert half._fetch(dataclasses.replace(point, candidates=203), None) == 0  # 503 are more than a quarter of all
    assert half._fetch(dataclasses.replace(point, candidates=202), None) == 500
    assert half.dead_indexed == half.dead_rows == half.live_rows == 1000 and half._tail.tolist() == []


def test_a_space_without_vectors_has_no_index(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        for recipe in ("hnsw32", "auto"):
            with pytest.raises(vs.ValidationError, match="there are no vectors to index"):
                store.rebuild("concepts", recipe)
        fill(store, 2)
        store.concepts.delete(["c0000", "c0001"])
        for recipe in ("hnsw32", "auto"):
            with pytest.raises(vs.ValidationError, match="there are no vectors to index"):
                store.rebuild("concepts", recipe)


# -- check and repair ----------------------------------------------------------------------------------------------


def test_lost_rows_of_files_without_numbers_are_found_again_by_the_ids_in_them(tmp_path: Path) -> None:
    """A large batch's file carries no vids: they follow from the records that lost their vectors."""
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
        fill(store, MANY, start=MANY)
        store.concepts.delete("c0007")
        before = answers(store, 50)
    lost = sql(tmp_path / "kb", "SELECT rows, first_vid, size, sha256 FROM segments ORDER BY id")
    sql(tmp_path / "kb", "DELETE FROM segments")
    with opened(tmp_path / "kb") as store:
        assert {finding.layer for finding in store.check().findings} == {"vectors"}
        assert store.repair(dry_run=False).remaining == ()
        assert answers(store, 50) == before and store.check().litter == ()
    assert sql(tmp_path / "kb", "SELECT rows, first_vid, size, sha256 FROM segments ORDER BY first_vid") == lost


def test_an_unnamed_file_that_does_not_fit_is_not_taken_for_the_lost_one(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
    with opened(tmp_path / "other") as other:  # the same ids in another order
        vectors = np.ones((MANY, 8), np.float32)
        other.concepts.add([{"id": f"c{n:04d}", "name": "x"} for n in reversed(range(MANY))], vectors=vectors)
    (right,) = (tmp_path / "kb/embeddings/concepts").iterdir()
    (wrong,) = (tmp_path / "other/embeddings/concepts").iterdir()
    shutil.move(right, tmp_path / "aside")
    shutil.copy(wrong, right.with_name("000000000001-0000000000000000.npz"))
    sql(tmp_path / "kb", "DELETE FROM segments")
    with opened(tmp_path / "kb") as store:
        assert {finding.layer for finding in store.repair(dry_run=False).remaining} == {"vectors"}
        shutil.move(tmp_path / "aside", right)
        assert store.repair(dry_run=False).remaining == ()
        assert store.check().vectors == MANY and store.check().segments == 1


def test_of_two_vectors_without_rows_the_newest_is_live_again(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        store.flush()
        store.concepts.upsert({"id": "c0001", "name": "n1"}, vectors=np.arange(8.0).reshape(1, 8))
        store.flush()
        before = answers(store)
    sql(tmp_path / "kb", "DELETE FROM vectors WHERE vid > 1")
    with opened(tmp_path / "kb") as store:
        assert store.repair(dry_run=False).remaining == ()
        assert [name for name, _ in answers(store)] == [name for name, _ in before] and before[0][0] == "c0001"
        assert store.check().vectors == 3


def test_vectors_wait_for_the_next_repair_while_a_segment_is_damaged(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        store.flush()
        fill(store, 3, start=3)
        store.flush()
        fill(store, 1, start=6)
    (path, *_) = sorted((tmp_path / "kb/embeddings/concepts").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    sql(tmp_path / "kb", "DELETE FROM vectors WHERE record = (SELECT row FROM concepts WHERE id = 'c0004')")
    with opened(tmp_path / "kb") as store:
        assert {finding.layer for finding in store.repair(dry_run=False).remaining} == {"segments", "vectors"}
        path.write_bytes(whole)
        assert store.repair(dry_run=False).remaining == () and store.check().vectors == 7


def test_a_lost_segment_costs_only_its_own_records_beside_one_without_numbers(tmp_path: Path) -> None:
    asked: list[str] = []

    class Noting(vs.HashEmbedder):
        def embed(self, texts: Any, **options: Any) -> Any:
            asked.extend(texts)
            return super().embed(texts, **options)

    with vs.open(tmp_path / "kb", embedder=Noting(16), auto_publish=False) as store:
        store.concepts.add([{"id": f"c{n:04d}", "name": f"n{n}"} for n in range(MANY)])
        store.concepts.add([{"id": f"d{n}", "name": f"m{n}"} for n in range(3)])
        store.flush()
        lost = (
            tmp_path
            / "kb/embeddings/concepts"
            / str(sql(tmp_path / "kb", "SELECT file FROM segments WHERE rows = 3")[0][0])
        )
        lost.unlink()
        asked.clear()
    with vs.open(tmp_path / "kb", embedder=Noting(16), auto_publish=False) as store:
        assert store.repair(dry_run=False).remaining == ()
        assert {text for text in asked if text in {"m0", "m1", "m2"}} == {"m0", "m1", "m2"}
        assert not {text for text in asked if text.startswith("n")}
        assert store.concepts.search("m1", k=1).ids == ["d1"] and store.check().vectors == MANY + 3


@pytest.mark.parametrize(
    ("damage", "layer", "what"),
    [
        ("UPDATE segments SET first_vid = first_vid + 1", "segments", "carry another record's id"),
        ("INSERT INTO pending SELECT 5, 1, zeroblob(32)", "vectors", r"vids \[5\] are in two places"),
    ],
)
def test_a_damage_of_a_rare_kind_is_named(damage: str, layer: str, what: str, tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
    sql(tmp_path / "kb", damage)
    with opened(tmp_path / "kb") as store:
        found = [finding.what for finding in store.check().findings if finding.layer == layer]
        assert found and all(re.search(what, each) for each in found)


def test_an_index_over_fewer_rows_than_it_says_is_found_and_built_again(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        for part in range(2):
            fill(store, 40, start=40 * part)
            store.flush()
        store.rebuild("concepts", "hnsw32")
        before = answers(store)
    first = sql(tmp_path / "kb", "SELECT min(id) FROM segments")[0][0]
    sql(tmp_path / "kb", "UPDATE artifacts SET segments = ?", f"[{first}]")
    with opened(tmp_path / "kb") as store:
        (finding,) = store.check().findings
        assert finding.derived and "one row for each vector" in finding.what
        assert store.repair(dry_run=False).remaining == () and answers(store) == before
        with store._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, "concepts")
            assert space is not None and len(rows.artifact_of(connection, space.id, INDEX).segments) == 2


def test_old_litter_is_swept_when_a_store_is_opened_and_young_is_not(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
    folder = tmp_path / "kb/embeddings/concepts"
    for name, age in ((".old.tmp", 700), (".young.tmp", 500), ("000000000001-00000000000000aa.npz", 700)):
        (folder / name).write_bytes(b"x")
        moment = time.time() - age
        os.utime(folder / name, (moment, moment))
    (folder / "somebody's notes").write_text("mine")
    os.utime(folder / "somebody's notes", (0, 0))
    with opened(tmp_path / "kb") as store:
        assert {".young.tmp", "somebody's notes"} < set(os.listdir(folder)) and len(os.listdir(folder)) == 3
        assert len(store.concepts) == MANY and store.check().findings == ()


def test_a_space_whose_name_leads_elsewhere_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 1)
        for name in ("../concepts", "Concepts", "a.b.c", "a/b"):
            with pytest.raises(vs.CorruptError, match="is no name of a vector space"):
                store._sync.folder("embeddings", name)


@pytest.mark.parametrize(
    ("damage", "what", "remains"),
    [
        ("UPDATE models SET centroids = substr(centroids, 1, 5)", "the centroids of .* are damaged", True),
        ("UPDATE models SET centroids = zeroblob(length(centroids))", "holds other centroids than the catalog", False),
        ("UPDATE memberships SET record = 9999 WHERE record = 1", "has a member in row 9999 .* not there", True),
    ],
)
def test_a_damaged_fit_is_named_and_mended_from_what_the_catalog_has(
    damage: str, what: str, remains: bool, tmp_path: Path
) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 40)
        store.clusters.fit("concepts", "kmeans", 2)
        assert store.check().findings == () and store.check().models == 1
    sql(tmp_path / "kb", damage)
    with opened(tmp_path / "kb") as store:
        found = [finding for finding in store.check().findings if finding.layer == "models"]
        assert len(found) == 1 and re.search(what, found[0].what) and found[0].derived is not remains
        assert bool(store.repair(dry_run=False).remaining) is remains
        assert store.check().litter == ()


def test_a_model_that_was_swept_before_its_commit_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        info = models.publish_model(store._sync, "blob", "bin", [b"x"])
        models.still_there(store._sync, info)
        assert store.sweep(0) == [f"models/{info.name}"]
        with pytest.raises(vs.StoreError, match="was removed before it could be committed .* try again"):
            models.still_there(store._sync, info)


def test_only_decisions_about_records_that_are_not_there_are_named_and_forgotten(tmp_path: Path) -> None:
    """A record that was rejected or merged is never there: a repair forgot those decisions too."""
    with opened(tmp_path / "kb") as store:
        store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=np.eye(2))
        for name, action, vector in (
            ("k1", "keep", [1, 0]), ("r1", "reject", [1, 0]), ("m1", "merge", [1, 0]), ("k2", "keep", [0, 1]),
            ("r2", "reject", [0, 1]), ("k3", "keep", [1, 0]),
        ):  # fmt: skip
            policy = vs.Duplicates(0.99, action)
            store.concepts.add([{"id": name, "name": name}], vectors=[vector], duplicates=policy)
        assert store.check().findings == () and len(store.concepts) == 5
    sql(tmp_path / "kb", "UPDATE decisions SET other = 'z' WHERE other = 'b'")
    sql(tmp_path / "kb", "UPDATE decisions SET record = 'y' WHERE record = 'k3'")
    with opened(tmp_path / "kb") as store:
        found = [finding.what for finding in store.check().findings if finding.layer == "rows"]
        assert sorted(found) == [
            "names concepts 'y', which is not there", *["names concepts 'z', which is not there"] * 2
        ]  # fmt: skip
        assert store.repair(dry_run=False).remaining == ()
    kept = sql(tmp_path / "kb", "SELECT record, other, action FROM decisions ORDER BY id")
    assert kept == [("k1", "a", "keep"), ("r1", "a", "reject"), ("m1", "a", "merge")]


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

    reader = store._catalog._reader_connection()
    turn, reader.turn = reader.turn, Busy()
    store.close()
    assert Busy.waited == [10]
    assert reader.execute("SELECT 1").fetchone() == (1,)  # it was left to whoever uses it
    reader.turn = turn
    reader.close()
    with pytest.raises(vs.StoreClosed):
        store.concepts.get("c0000")
    store.close()
