"""Hours of use in minutes: nothing that a store takes may grow while what it holds does not, and it must not slow down.

`make soak`; SOAK_SECONDS says for how long (600). Two threads and two other processes use one store: records come, are changed,
deleted and purged, contexts, states and clusters with them; it is flushed, compacted, rebuilt and reopened all the time, while
its size stays the same. The measurements of the last third are held against those of the second.
"""

from __future__ import annotations

import gc
import json
import os
import random
import statistics
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.test_processes import PROCESSES, worker

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
SIZE, DIM, BATCH = 3000, 32, 50
GROWTH = {"descriptors": 4, "threads": 1, "memory_mb": 24, "files": 12, "disk_mb": 12, "wal_mb": 24}
"""By how much the median of the last third may lie above that of the second: one segment or index more or less is no leak."""


def vector(number: int) -> Any:
    return np.random.default_rng(number).standard_normal(DIM).astype(np.float32)


def record(number: int, turn: int) -> dict[str, Any]:
    return {
        "id": f"c{number % SIZE:05d}",
        "name": f"name {number % SIZE}",
        "definition": f"about {number % 97} and {number % 31}, turn {turn}",
        "domain": f"d{number % 9}",
        "tags": [f"t{number % 5}"],
        "extra": {"turn": turn},
    }


def memory_mb() -> float:
    """Anonymous memory of this process: pages of mapped files come and go as the system likes."""
    text = Path("/proc/self/status").read_text()
    return int(text[text.index("RssAnon:") + 8 :].split()[0]) / 1024


def measure(root: Path) -> dict[str, float]:
    gc.collect()
    files = [path for path in root.rglob("*") if path.is_file()]
    sizes = {path.name: path.stat().st_size for path in files if path.exists()}
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "memory_mb": memory_mb(),
        "files": len(files),
        "disk_mb": sum(sizes.values()) / 1e6,
        "wal_mb": sizes.get("catalog.sqlite-wal", 0) / 1e6,
    }


def churn(store: vs.Store, turn: int, chance: random.Random) -> None:
    """One turn of everything; the store holds as much afterwards as before."""
    first = chance.randrange(SIZE)
    numbers = range(first, first + BATCH)
    store.concepts.upsert([record(n, turn) for n in numbers], vectors=np.stack([vector(n) for n in numbers]))
    gone = [f"c{n % SIZE:05d}" for n in numbers][: BATCH // 2]
    store.concepts.delete(gone)
    if turn % 2:
        store.concepts.purge(gone)
    else:
        store.concepts.restore(gone)
    if turn % 2:
        store.concepts.upsert(
            [record(n, turn) for n in numbers][: BATCH // 2],
            vectors=np.stack([vector(n) for n in numbers][: BATCH // 2]),
        )
    state = store.state("soak")
    state["turn"] = turn
    state.save(merge=True)
    if turn % 5 == 0:
        store.flush()
    if turn % 10 == 0:
        store.compact()
    if turn % 25 == 0:
        store.rebuild("concepts", "pq-fastscan")
        store.clusters.fit("concepts", "kmeans", 5)
        store.concepts.purge(where={"domain__ne": "none"}, older_than=timedelta(0))
        store.maintain()


def other(root: Path, seconds: float, stop: Any) -> int:
    """Another process: searches, and writes a few records of its own again and again."""
    turns = 0
    while not stop.is_set():
        with vs.open(root, embedder=None, auto_publish=False) as store:
            for _ in range(200):
                if stop.is_set():
                    break
                store.concepts.search(vector(turns), k=10, recall=0.9)
                store.concepts.search("about 5 and 7", k=5, mode="text")
                if turns % 20 == 0:
                    store.concepts.upsert(record(turns % BATCH, turns), vectors=[vector(turns % BATCH)])
                turns += 1
                time.sleep(0.02)
    return turns


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(SECONDS * 1.3 + 240)
def test_nothing_grows_and_nothing_slows_down(tmp_path: Path) -> None:
    root, errors, stopping = tmp_path / "kb", [], threading.Event()
    chance = random.Random(1)
    store = vs.open(root, embedder=None, auto_publish=False)
    for first in range(0, SIZE, 1000):
        numbers = range(first, first + 1000)
        store.concepts.add([record(n, 0) for n in numbers], vectors=np.stack([vector(n) for n in numbers]))
    store.rebuild("concepts", "pq-fastscan")

    def search() -> None:
        """A thread that asks all the time, through whatever store is open."""
        number = 0
        try:
            while not stopping.is_set():
                number += 1
                try:
                    hits = store.concepts.search(vector(number % SIZE), k=10, where={"tags__has": "t1"})
                    assert len(hits) == 10
                except vs.StoreClosed:
                    pass  # it is being reopened
                time.sleep(0.005)
        except BaseException:
            errors.append(traceback.format_exc())

    threads = [threading.Thread(target=search, daemon=True) for _ in range(2)]
    stop, results = PROCESSES.Event(), PROCESSES.Queue()
    others = [
        PROCESSES.Process(target=worker, args=(other, results, root, SECONDS, stop), daemon=True) for _ in range(2)
    ]
    for each in (*threads, *others):
        each.start()
    began, turn, latencies, series = time.monotonic(), 0, [], []
    try:
        while time.monotonic() < began + SECONDS:
            turn += 1
            churn(store, turn, chance)
            if turn % 25 == 0:
                store.close()
                store = vs.open(root, embedder=None, auto_publish=False)
            if turn % 5 == 0:
                for number in range(20):
                    start = time.perf_counter()
                    store.concepts.search(vector(number), k=10, recall=0.95)
                    latencies.append((time.monotonic() - began, 1000 * (time.perf_counter() - start)))
                series.append((time.monotonic() - began, measure(root)))
            assert errors == []
    finally:
        stopping.set()
        stop.set()
        for thread in threads:
            thread.join(20)
    found = [results.get(timeout=60) for _ in others]
    assert [problem for _, _, problem in found if problem] == [] and errors == []
    assert len(store.concepts) == SIZE and store.check().findings == ()
    store.close()

    second, last = (_third(series, place) for place in (1, 2))
    report: dict[str, Any] = {"seconds": SECONDS, "turns": turn, "other processes' searches": [n for _, n, _ in found]}
    for name in GROWTH:
        before, after = (statistics.median(each[name] for each in part) for part in (second, last))
        report[name] = {"second third": round(before, 1), "last third": round(after, 1)}
    medians = [statistics.median(_third(latencies, place)) for place in (1, 2)]
    report["search_ms"] = {"second third": round(medians[0], 2), "last third": round(medians[1], 2)}
    print(json.dumps(report, indent=1))
    Path(os.environ.get("SOAK_REPORT", os.devnull)).write_text(json.dumps(report, indent=1) + "\n")
    for name, allowed in GROWTH.items():
        assert report[name]["last third"] - report[name]["second third"] <= allowed, (name, report)
    assert medians[1] < 1.5 * medians[0] + 1, report  # the machine has others on it


def _third(series: list[tuple[float, Any]], place: int) -> list[Any]:
    found = [value for at, value in series if place <= 3 * at / SECONDS < place + 1]
    assert found, "too short a run to tell anything"
    return found
