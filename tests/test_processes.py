"""Several processes and threads on one store: nothing lost, nothing half-seen, nobody turned away."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sqlite3
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.forked import PROCESSES
from vectorstore.sync import core

DIM = 8
COUNTERS = 6


def unit(number: int) -> list[float]:
    """A vector of its own for every number."""
    vector = np.random.default_rng(number).standard_normal(DIM)
    return [float(x) for x in (vector / np.linalg.norm(vector)).astype(np.float32)]


def concept(name: str, **fields: Any) -> dict[str, Any]:
    return {"id": name, "name": name, **fields}


def worker(task: Callable[..., Any], results: Any, *args: Any) -> None:
    """Runs in a child: the result, or the traceback."""
    try:
        results.put((task.__name__, task(*args), None))
    except BaseException:
        results.put((task.__name__, None, traceback.format_exc()))


def together(*tasks: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """(name, result) of functions that run at the same time, each in a process of its own."""
    results = PROCESSES.Queue()
    children = [PROCESSES.Process(target=worker, args=(task[0], results, *task[1:]), daemon=True) for task in tasks]
    for child in children:
        child.start()
    found = [results.get(timeout=240) for _ in children]
    for child in children:
        child.join(30)
    problems = [problem for _, _, problem in found if problem]
    assert not problems, "\n".join(problems)
    return [(name, result) for name, result, _ in found]


# -- writers and readers -----------------------------------------------------------------------------------------------


def write_for(root: Path, number: int, seconds: float) -> tuple[list[str], dict[str, int], int]:
    """Adds ids of its own and raises shared counters; (ids, raises by counter, commits)."""
    chance = random.Random(number)
    added: list[str] = []
    raised = dict.fromkeys((f"counter{n}" for n in range(COUNTERS)), 0)
    commits = 0
    with vs.open(root, embedder=None, auto_publish=False) as store:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            commits += 1
            kind = chance.random()
            if kind < 0.5:
                batch = [f"w{number}-{len(added) + n:06d}" for n in range(chance.choice([1, 3, 40]))]
                vectors = [unit(hash(name) % 2**31) for name in batch]
                store.concepts.add([concept(name, extra={"size": len(batch)}) for name in batch], vectors=vectors)
                added += batch
            elif kind < 0.9:
                name = f"counter{chance.randrange(COUNTERS)}"
                with store.transaction():
                    value = store.concepts.get(name).extra["value"]
                    store.concepts.update({"id": name, "extra": {"value": value + 1}})
                raised[name] += 1
            elif kind < 0.97:
                store.flush()
            else:
                store.compact("concepts")
    return added, raised, commits


def read_for(root: Path, number: int, seconds: float) -> int:
    """Searches and counts; what it sees only grows."""
    chance, seen, searches = random.Random(number), 0, 0
    before = dict.fromkeys((f"counter{n}" for n in range(COUNTERS)), 0)
    with vs.open(root, embedder=None, read_only=number % 2 == 0) as store:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            searches += 1
            hits = store.concepts.search(unit(chance.randrange(10**6)), k=20)
            assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
            assert len(set(hits.ids)) == len(hits)
            total = store.concepts.count()
            assert total >= seen, f"{seen} records, then {total}"
            seen = total
            for name in before:
                value = store.concepts.get(name).extra["value"]
                assert value >= before[name]
                before[name] = value
    return searches


def run_load(root: Path, seconds: float) -> None:
    with vs.open(root, embedder=None) as store:
        names = [f"counter{n}" for n in range(COUNTERS)]
        store.concepts.add(
            [concept(name, extra={"value": 0}) for name in names], vectors=[unit(n) for n in range(COUNTERS)]
        )
    tasks = [(write_for, root, number, seconds) for number in range(4)]
    tasks += [(read_for, root, number, seconds) for number in range(4)]

    results = together(*tasks)

    written = [result for name, result in results if name == "write_for"]
    ids = {name for added, _, _ in written for name in added}
    commits = [count for _, _, count in written]
    print(
        f"{sum(commits)} commits {commits}, {len(ids)} records, searches {[r for n, r in results if n == 'read_for']}"
    )
    with vs.open(root, embedder=None) as store:
        for name in (f"counter{n}" for n in range(COUNTERS)):
            assert store.concepts.get(name).extra["value"] == sum(raised[name] for _, raised, _ in written)
        assert {record.id for record in store.concepts.stream()} - ids == {f"counter{n}" for n in range(COUNTERS)}
        assert len(store.concepts) == len(ids) + COUNTERS
        assert len(store.concepts.search(unit(1), k=100_000, exact=True)) == len(ids) + COUNTERS
        assert store.check().findings == ()


@pytest.mark.timeout(200)
def test_four_writers_and_four_readers_lose_no_update_and_meet_no_error(tmp_path: Path) -> None:
    run_load(tmp_path / "kb", 6)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_four_writers_and_four_readers_lose_no_update_and_meet_no_error_for_long(tmp_path: Path) -> None:
    run_load(tmp_path / "kb", 30)


def follow(root: Path, read_only: bool, inbox: Any, outbox: Any) -> None:
    """Answers every id that comes in with whether the very next search finds it."""
    with vs.open(root, embedder=None, read_only=read_only) as store:
        outbox.put("ready")
        while (message := inbox.get()) is not None:
            name, number = message
            found = store.concepts.search(unit(number), k=1)
            outbox.put((name, found.ids == [name], store.concepts.get(name) is not None))


@pytest.mark.parametrize("read_only", [False, True])
def test_an_acknowledged_write_is_found_by_the_very_next_search_of_another_process(
    read_only: bool, tmp_path: Path
) -> None:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        store.concepts.add(concept("first"), vectors=[unit(999)])
        inbox, outbox = PROCESSES.Queue(), PROCESSES.Queue()
        child = PROCESSES.Process(target=follow, args=(tmp_path / "kb", read_only, inbox, outbox), daemon=True)
        child.start()
        assert outbox.get(timeout=60) == "ready"
        answers = []
        for number in range(150):
            store.concepts.add(concept(f"n{number}"), vectors=[unit(number)])
            if number % 25 == 24:
                store.flush()
            if number == 100:
                store.rebuild("concepts", "simhash512")
            if number == 120:
                store.compact()
            inbox.put((f"n{number}", number))
            answers.append(outbox.get(timeout=60))
        inbox.put(None)
        child.join(30)

    assert answers == [(f"n{number}", True, True) for number in range(150)]


def create_and_add(root: Path, barrier: Any, number: int) -> None:
    barrier.wait(60)
    with vs.open(root, embedder=None) as store:
        store.concepts.add(concept(f"by{number}"), vectors=[unit(number)])


def test_processes_that_create_the_same_store_at_once_all_succeed(tmp_path: Path) -> None:
    for attempt in range(2):
        barrier, root = PROCESSES.Manager().Barrier(3), tmp_path / f"kb{attempt}"
        together(*((create_and_add, root, barrier, number) for number in range(3)))

        with vs.open(root, embedder=None) as store:
            assert sorted(record.id for record in store.concepts) == ["by0", "by1", "by2"]
            assert len(store.contexts) == 1 and store.check().findings == ()


def hold_the_lock(root: Path, ready: Any) -> None:
    store = vs.open(root, embedder=None)
    with store.transaction():
        store.concepts.add(concept("never"), vectors=[unit(1)])
        ready.put(os.getpid())
        time.sleep(120)


def test_killing_a_writer_frees_its_lock_at_once(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, timeout=0.3) as store:
        store.concepts.add(concept("one"), vectors=[unit(1)])
        ready = PROCESSES.Queue()
        child = PROCESSES.Process(target=hold_the_lock, args=(tmp_path / "kb", ready), daemon=True)
        child.start()
        holder = ready.get(timeout=60)
        assert len(store.concepts.search(unit(1))) == 1
        with pytest.raises(vs.StoreBusy, match="another process"):
            store.concepts.add(concept("two"), vectors=[unit(2)])
        os.kill(holder, signal.SIGKILL)
        child.join(30)
        started = time.perf_counter()
        store.concepts.add(concept("two"), vectors=[unit(2)])

        assert time.perf_counter() - started < 0.3
        assert sorted(record.id for record in store.concepts) == ["one", "two"]
        assert store.check().findings == ()


@pytest.mark.parametrize("look", ["search", "check"])
def test_files_that_are_replaced_under_a_readers_snapshot_are_no_loss(
    look: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a reader's snapshot and its first look at the files, another handle compacts and goes on writing."""
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as writer:
        for number in range(3):
            writer.concepts.add([concept(f"n{number}-{n}") for n in range(20)], vectors=np.eye(20, DIM) + 1)
            writer.flush()
        writer.rebuild("concepts", "simhash512")
        with vs.open(tmp_path / "kb", embedder=None, read_only=True) as reader:
            owner, name = (
                (core.SpaceState, "_load") if look == "search" else (sys.modules["vectorstore.sync.check"], "_space")
            )
            original, times = getattr(owner, name), []

            def late(*args: Any) -> Any:
                if not times:
                    times.append(1)
                    writer.compact()
                    writer.concepts.add([concept(f"l{n}") for n in range(1100)], vectors=np.ones((1100, DIM)))
                return original(*args)

            monkeypatch.setattr(owner, name, late)
            if look == "search":
                assert len(reader.concepts.search(np.ones(DIM), k=5000)) == 1160
            else:
                report = reader.check()
                assert (report.findings, report.litter) == ((), ())
            assert times == [1]


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_that_search_while_one_writes_get_answers_of_one_commit(tmp_path: Path) -> None:
    """Every commit adds a whole batch or removes one, so that any consistent answer holds whole batches."""
    size, errors, done, searches = 12, [], threading.Event(), [0] * 4
    everything = [1.0] * DIM
    with vs.open(tmp_path / "kb", embedder=None, metric="ip", auto_publish=False) as store:
        store.concepts.add([concept(f"base-{n}", domain="base") for n in range(size)], vectors=np.ones((size, DIM)))

        def look(number: int) -> None:
            try:
                while not done.is_set():
                    searches[number] += 1
                    options = [{"exact": True}, {}, {"where": {"domain__ne": "base"}}][searches[number] % 3]
                    if number == 3:
                        hits = store.concepts.search_many(np.ones((3, DIM)), k=5000, **options)[-1]
                    else:
                        hits = store.concepts.search(everything, k=5000, **options)
                    found: dict[str, int] = {}
                    for hit in hits:
                        found[hit.record.domain] = found.get(hit.record.domain, 0) + 1
                    assert set(found.values()) <= {size}, found
                    page = store.concepts.find(limit=5000)
                    assert len(page) == page.total and page.total % size == 0
            except BaseException:
                errors.append(traceback.format_exc())
                done.set()

        threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for number in range(40):
                if done.is_set():
                    break
                names = [f"b{number}-{n}" for n in range(size)]
                vectors = np.random.default_rng(number).integers(1, 5, (size, DIM))
                store.concepts.add([concept(name, domain=f"b{number}") for name in names], vectors=vectors)
                if number % 3 == 2:
                    store.concepts.delete(where={"domain": f"b{number - 2}"})
                if number % 5 == 4:
                    store.concepts.update([{"id": name, "pos": "x"} for name in names], vectors=vectors + 1)
                if number % 4 == 1:
                    store.flush()
                if number % 10 == 5:
                    store.rebuild("concepts", vs.IndexRecipe("low", "RaBitQfs", ({"candidates": 40},), min_recall=0.0))
                if number % 10 == 9:
                    store.compact()
                if number % 13 == 12:
                    store.concepts.purge(where={"domain__startswith": "b"}, older_than=timedelta(0))
                    store.concepts.restore(where={"domain__startswith": "b"})
        finally:
            done.set()
            for thread in threads:
                thread.join(60)

        assert errors == []
        assert min(searches) > 0 and store.check().findings == ()


# -- fork --------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_is_told_that_the_store_is_its_parents(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add(concept("one"), vectors=[unit(1)])
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            told = []
            try:
                for use in (
                    lambda: store.concepts.get("one"),
                    lambda: store.concepts.search(unit(1)),
                    lambda: store.concepts.delete("one"),
                    lambda: store.flush(),
                ):
                    try:
                        use()
                        told.append("worked")
                    except vs.StoreError as error:
                        told.append("told" if "fork before it is opened" in str(error) else str(error))
                store.close()
            except BaseException as error:
                told.append(repr(error))
            finally:
                os.write(write, "|".join(told).encode())
                os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            told = pipe.read().decode().split("|")
        os.waitpid(child, 0)

        assert told == ["told"] * 4
        store.concepts.add(concept("two"), vectors=[unit(2)])
        assert store.check().findings == ()
        assert together((read_for_once, tmp_path / "kb")) == [("read_for_once", ["one", "two"])]


def read_for_once(root: Path) -> list[str]:
    with vs.open(root, embedder=None) as store:
        return sorted(record.id for record in store.concepts)


# -- folders that change under a handle, and catalogs that are none ----------------------------------------------------


@pytest.mark.parametrize("replaced", [False, True])
def test_a_removed_or_replaced_folder_is_noticed_and_nothing_is_made_again(replaced: bool, tmp_path: Path) -> None:
    root = tmp_path / "kb"
    store = vs.open(root, embedder=None)
    store.concepts.add(concept("one"), vectors=[unit(1)])
    root.rename(tmp_path / "aside")
    if replaced:
        vs.open(root, embedder=None).close()
    before = sorted(os.listdir(tmp_path)), sorted(os.listdir(root)) if replaced else None
    for use in (
        lambda: store.concepts.get("one"),
        lambda: store.concepts.search(unit(1)),
        lambda: store.concepts.add(concept("two"), vectors=[unit(2)]),
        lambda: store.concepts.add([concept(f"m{n}") for n in range(1100)], vectors=np.ones((1100, DIM))),
        lambda: store.flush(),
        lambda: store.compact(),
        lambda: store.close(),
    ):
        with pytest.raises(vs.StoreGone):
            use()

    assert (sorted(os.listdir(tmp_path)), sorted(os.listdir(root)) if replaced else None) == before
    with vs.open(tmp_path / "aside", embedder=None) as store:
        assert [record.id for record in store.concepts] == ["one"]


@contextmanager
def unchanged(root: Path) -> Iterator[None]:
    """The folder's files are byte for byte what they were; nobody has the catalog open when they are read."""

    def digests() -> dict[str, str]:
        own = ("store.lock", "catalog.sqlite-wal", "catalog.sqlite-shm")  # the lock file, and SQLite's empty ones
        found = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name not in own]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    before = digests()
    yield
    assert digests() == before


def _foreign(path: Path) -> None:
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs(x)")
    connection.commit()
    connection.close()


def _newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


def _header(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[:16] = b"not a database!!"
    path.write_bytes(data)


def _schema_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:2000] = b"\xff" * 1900
    path.write_bytes(data)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (_foreign, vs.NotAStore),
        (lambda path: path.write_text("hello, I am a text file, and quite a long one at that" * 99), vs.NotAStore),
        (lambda path: path.write_bytes(b""), (vs.NotAStore, vs.CorruptError)),
        (_header, vs.NotAStore),
        (_schema_page, vs.CorruptError),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), (vs.CorruptError, vs.StoreError)),
        (_newer, vs.NewerFormat),
    ],
    ids=["foreign", "text", "empty", "header", "schema page", "cut", "newer"],
)
def test_a_catalog_that_is_none_of_ours_is_refused_byte_for_byte(
    spoil: Callable[[Path], Any], error: Any, read_only: bool, tmp_path: Path
) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None) as store:
        store.concepts.add([concept(f"n{n}") for n in range(50)], vectors=np.eye(50))
        store.flush()
    for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (root / name).unlink(missing_ok=True)
    spoil(root / "catalog.sqlite")

    with unchanged(root), pytest.raises(error):
        vs.open(root, embedder=None, read_only=read_only)
    wal = root / "catalog.sqlite-wal"
    assert not wal.exists() or wal.stat().st_size == 0
