"""Many processes and threads at everything at once, held to what a single one would see; stopped writers; clocks that jump."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Clock
from tests.test_processes import PROCESSES, concept, together, unit

DIM = 8
ACCOUNTS = 8
MONEY = 1000
BATCH = 12


# -- eight processes ---------------------------------------------------------------------------------------------------


def prepare(root: Path) -> None:
    with vs.open(root, embedder=None, metric="ip", auto_publish=False) as store:
        store.concepts.add(
            [concept(f"account{n}", domain="bank", extra={"money": MONEY, "n": n}) for n in range(ACCOUNTS)],
            vectors=[unit(n) for n in range(ACCOUNTS)],
        )


def mixed(root: Path, number: int, seconds: float) -> dict[str, Any]:
    """One process's work; every assertion is a promise. It owns the domains `p<number>-...` and shares the accounts.

    Snapshot consistency: batches are added and deleted whole, and money only moves, so any answer of one commit holds
    whole batches and all the money. Read your writes: what a call returned is in the very next answer.
    """
    chance, own, slowest, generation = random.Random(number), 0, 0.0, 0
    batches: list[str] = []
    done = dict.fromkeys(("search", "write", "delete", "transfer", "upkeep", "moved"), 0)
    with vs.open(root, embedder=None, auto_publish=False, timeout=30) as store:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            kind, began = chance.random(), time.monotonic()
            if kind < 0.55:
                generation = _look(store, chance, generation)
                done["search"] += 1
                continue
            if kind < 0.75 or not batches:
                domain, own = f"p{number}-{own}", own + 1
                names = [f"{domain}-{n}" for n in range(BATCH)]
                vectors = [unit(hash(name) % 2**31) for name in names]
                store.concepts.add([concept(name, domain=domain) for name in names], vectors=vectors)
                batches.append(domain)
                assert store.concepts.count({"domain": domain}) == BATCH
                hits = store.concepts.search(vectors[0], k=2000, where={"domain": domain})
                assert sorted(hits.ids) == sorted(names), "a write that returned is not found"
                done["write"] += 1
            elif kind < 0.82:
                domain = batches.pop(chance.randrange(len(batches)))
                assert store.concepts.delete(where={"domain": domain}) == BATCH
                assert not store.concepts.search(unit(1), k=2000, where={"domain": domain}).ids
                done["delete"] += 1
            elif kind < 0.95:
                done["moved"] += _transfer(store, chance)
                done["transfer"] += 1
            else:
                _upkeep(store, chance)
                done["upkeep"] += 1
            slowest = max(slowest, time.monotonic() - began)
    return {**done, "slowest": slowest, "batches": batches}


def _look(store: vs.Store, chance: random.Random, generation: int) -> int:
    options: dict[str, Any] = chance.choice([{}, {"exact": True}, {"recall": 0.9}, {"where": {"domain__ne": "bank"}}])
    hits = store.concepts.search(np.ones(DIM), k=20_000, **options)
    counted: dict[str, int] = {}
    for hit in hits:
        counted[str(hit.record.domain)] = counted.get(str(hit.record.domain), 0) + 1
    if "where" not in options:
        assert counted.pop("bank") == ACCOUNTS
        assert sum(hit.record.extra["money"] for hit in hits if hit.record.domain == "bank") == ACCOUNTS * MONEY
    assert set(counted.values()) <= {BATCH}, f"half a batch was seen: {counted}"
    assert hits.generation >= generation, "time went back"
    return hits.generation


def _transfer(store: vs.Store, chance: random.Random) -> int:
    source, target = chance.sample(range(ACCOUNTS), 2)
    amount = chance.randint(1, 50)
    with store.transaction():
        held = [store.concepts.get(f"account{n}") for n in (source, target)]
        assert held[0] is not None and held[1] is not None
        changes = ((held[0], -amount), (held[1], amount))
        store.concepts.update(
            [{"id": each.id, "extra": {**each.extra, "money": each.extra["money"] + more}} for each, more in changes]
        )
    return 1


def _upkeep(store: vs.Store, chance: random.Random) -> None:
    try:
        what = chance.random()
        if what < 0.4:
            store.flush()
        elif what < 0.6:
            store.compact("concepts")
        elif what < 0.8:
            store.rebuild("concepts", "simhash512")
        else:
            store.concepts.purge(where={"domain__startswith": "p"}, older_than=timedelta(seconds=2))
    except (vs.Superseded, vs.RecallTooLow):
        pass  # somebody else was quicker; or the rows are too few for that index


def run_together(root: Path, seconds: float) -> list[dict[str, Any]]:
    prepare(root)
    found = [each for _, each in together(*((mixed, root, number, seconds) for number in range(8)))]
    print({name: sum(each[name] for each in found) for name in found[0] if name not in ("slowest", "batches")})
    with vs.open(root, embedder=None) as store:
        assert sum(record.extra["money"] for record in store.concepts.find({"domain": "bank"})) == ACCOUNTS * MONEY
        versions = sum(record.version - 1 for record in store.concepts.find({"domain": "bank"}))
        assert versions == 2 * sum(each["moved"] for each in found), "an update was lost"
        kept = {domain for each in found for domain in each["batches"]}
        assert set(store.concepts.facets("domain", limit=10**6)) - {"bank"} == kept
        assert len(store.concepts) == ACCOUNTS + BATCH * len(kept)
        assert store.check().findings == ()
    wal = root / "catalog.sqlite-wal"
    assert not wal.exists() or wal.stat().st_size < 64 << 20
    return found


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_eight_processes_at_everything_for_thirty_seconds_break_no_promise(tmp_path: Path) -> None:
    found = run_together(tmp_path / "kb", 30)
    assert min(each["write"] for each in found) * 4 >= max(each["write"] for each in found), "somebody starved"


@pytest.mark.timeout(200)
def test_eight_processes_at_everything_break_no_promise(tmp_path: Path) -> None:
    run_together(tmp_path / "kb", 4)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_search_through_publish_compact_purge_and_close(tmp_path: Path) -> None:
    """While one thread turns everything over, three search; after close they are told, and nothing else."""
    errors: list[str] = []
    searches, closed = [0], threading.Event()
    store = vs.open(tmp_path / "kb", embedder=None, auto_publish=False)
    rows = np.random.default_rng(0).standard_normal((600, DIM)).astype(np.float32)
    store.concepts.add([concept(f"c{n}", domain=f"d{n % 7}") for n in range(600)], vectors=rows)

    def hammer(number: int) -> None:
        chance = random.Random(number)
        try:
            while True:
                query, options = rows[chance.randrange(600)], chance.choice([{}, {"exact": True}, {"recall": 0.9}])
                where = chance.choice([None, {"domain": "d3"}, {"domain__in": ["d1", "d2"]}])
                hits = store.concepts.search(query, k=10, where=where, **options)
                assert len(hits) == 10 and len(set(hits.ids)) == 10
                store.concepts.search_many(rows[:3], k=5)
                store.concepts.search("c1 OR c2", k=5, mode="text", syntax="query")
                searches[0] += 1
        except vs.StoreClosed:
            if not closed.is_set():
                errors.append("told that the store is closed before it was")
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=hammer, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(3):
        store.rebuild("concepts", ("simhash512", "hnsw32", "pq-fastscan")[turn])
        names = [f"t{turn}-{n}" for n in range(40)]
        store.concepts.add([concept(name, domain="t") for name in names], vectors=rows[:40] * 0.5)
        store.flush()
        store.concepts.delete(names)
        store.concepts.purge(names)
        store.compact()
        assert errors == []
    closed.set()
    store.close()
    for thread in threads:
        thread.join(20)
    assert errors == [] and searches[0] > 20 and not any(thread.is_alive() for thread in threads)
    with vs.open(tmp_path / "kb", embedder=None) as again:
        assert len(again.concepts) == 600 and again.check().findings == ()


def test_closing_waits_for_statements_of_other_threads(tmp_path: Path) -> None:
    """A connection that is closed while another thread steps through a statement ends the process (a soak did)."""
    errors: list[str] = []
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        rows = np.random.default_rng(0).standard_normal((3000, DIM))
        store.concepts.add([concept(f"c{n}", tags=[f"t{n % 5}"]) for n in range(3000)], vectors=rows)

    def use(store: vs.Store) -> None:
        try:
            while True:
                store.concepts.search(np.ones(DIM), k=5, where={"name__contains": "c"})
                store.concepts.upsert(concept("w"), vectors=[np.ones(DIM)])
        except vs.StoreClosed:
            pass
        except BaseException:
            errors.append(traceback.format_exc())

    for _ in range(6):
        store = vs.open(tmp_path / "kb", embedder=None, auto_publish=False)
        threads = [threading.Thread(target=use, args=(store,), daemon=True) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.15)
        store.close()
        for thread in threads:
            thread.join(20)
        assert errors == [], errors[0]
        assert not any(thread.is_alive() for thread in threads)


def use_after_fork(root: Path) -> None:
    """In a spawned child: nothing is inherited, everything works."""
    with vs.open(root, embedder=None) as store:
        assert len(store.concepts.search_many([unit(1), unit(2)], k=1)) == 2
        store.concepts.upsert(concept("child"), vectors=[unit(9)])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_that_is_forked_after_the_store_was_closed_opens_it_searches_and_ends(tmp_path: Path) -> None:
    """After the parent has searched, FAISS's threads hang in a fork; one thread a query is what keeps a child alive."""
    rows = np.random.default_rng(0).standard_normal((2000, DIM)).astype(np.float32)
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        store.concepts.add([concept(f"c{n}") for n in range(2000)], vectors=rows)
        store.rebuild("concepts", "hnsw32")
        expected = [hits.ids for hits in store.concepts.search_many(rows[:8], k=3)]
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            with vs.open(tmp_path / "kb", embedder=None) as own:
                found = [hits.ids for hits in own.concepts.search_many(rows[:8], k=3)]
                own.concepts.upsert(concept("forked"), vectors=[rows[0]])
            code = 0 if found == expected else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    with vs.open(tmp_path / "kb", embedder=None) as store:
        together((use_after_fork, tmp_path / "kb"))
        assert {"forked", "child"} <= {record.id for record in store.concepts} and store.check().findings == ()


# -- a writer that stands still ----------------------------------------------------------------------------------------


def stand_in_a_transaction(root: Path, ready: Any) -> None:
    with vs.open(root, embedder=None) as store, store.transaction():
        store.concepts.add(concept("slow"), vectors=[unit(5)])
        ready.put(os.getpid())
        time.sleep(3)  # stopped meanwhile, for as long as the test likes


def test_a_writer_that_is_stopped_in_a_transaction_keeps_readers_going_and_tells_writers(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, timeout=0.5) as store:
        store.concepts.add(concept("one"), vectors=[unit(1)])
        ready = PROCESSES.Queue()
        child = PROCESSES.Process(target=stand_in_a_transaction, args=(tmp_path / "kb", ready), daemon=True)
        child.start()
        writer = ready.get(timeout=60)
        os.kill(writer, signal.SIGSTOP)
        try:
            for _ in range(20):
                assert store.concepts.search(unit(1), k=5).ids == ["one"] and store.concepts.get("slow") is None
            began = time.monotonic()
            with pytest.raises(vs.StoreBusy, match=r"another process held .* for 0\.5 s"):
                store.concepts.add(concept("two"), vectors=[unit(2)])
            assert 0.4 < time.monotonic() - began < 3
            with vs.open(tmp_path / "kb", embedder=None, read_only=True) as reader:
                assert len(reader.concepts) == 1 and reader.check().findings == ()
        finally:
            os.kill(writer, signal.SIGCONT)
        child.join(30)
        assert child.exitcode == 0
        store.concepts.add(concept("two"), vectors=[unit(2)])
        assert sorted(record.id for record in store.concepts) == ["one", "slow", "two"]


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=3650), timedelta(seconds=-1)])
def test_a_clock_that_jumps_loses_nothing_and_orders_by_commits(
    jump: timedelta, open_store: Callable[..., vs.Store], clock: Clock
) -> None:
    store = open_store()
    store.concepts.add([concept(f"a{n}", domain="a") for n in range(20)], vectors=[unit(n) for n in range(20)])
    store.flush()
    store.concepts.delete(["a0", "a1"])
    before, generation = store.moment, store.concepts.search(unit(3)).generation
    clock.now += jump
    store.concepts.add([concept(f"b{n}") for n in range(20)], vectors=[unit(n + 50) for n in range(20)])
    hits = store.concepts.search(unit(3), k=100)
    assert len(hits) == 38 and hits.generation > generation and store.moment.seq > before.seq
    assert store.sweep() == [] and store.check().findings == () and store.trail.verify().ok
    assert store.concepts.purge(older_than=timedelta(days=30)) == (2 if jump > timedelta(days=30) else 0)
    store.compact()
    again = open_store()
    assert len(again.concepts.search(unit(3), k=100)) == 38 and again.check().findings == ()


def test_no_file_is_swept_because_a_clock_jumped(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    """The age of a stray file is told by the file system's clock alone: a writer may still be about to name it."""
    store = open_store()
    store.concepts.add([concept(f"a{n}") for n in range(20)], vectors=[unit(n) for n in range(20)])
    store.flush()
    fresh = next((Path(store._catalog.root or "") / "embeddings" / "concepts").iterdir()).with_name(
        f"{1:012d}-{'0' * 16}.npz"
    )
    fresh.write_bytes(b"being written by somebody else")
    clock.move(days=4000)
    assert store.sweep(older_than=600) == [] and fresh.exists()
