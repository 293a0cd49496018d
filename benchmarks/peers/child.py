"""One measurement in a fresh process: `python -m benchmarks.peers.child STAGE JOB.json RESULT.json`.

Every stage is the same for all systems. A process imports one system, and of the benchmark nothing but base.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import BUCKETS, Answer, Handle, Matrix, Rows, System, row_of
from benchmarks.peers.systems import system

Job = dict[str, Any]
WARM_UP = 50
SEARCHES = 1_000
LEAST, LEAST_FILTERED = 100, 50
"""A part whose time is up is cut short, but not before so many queries."""

FRESH_ROWS = 2_000


def ingest(job: Job) -> dict[str, Any]:
    """Seconds from the input in memory until everything is on the disk and found through the index."""
    contestant = system(job["system"])
    contestant.load()
    rows, path = load_rows(Path(job["folder"])), Path(job["store"])
    given = contestant.input(rows, job["variant"])
    os.sync()  # what others left to be written is none of this system's business
    cpu = time.process_time()
    begun = time.perf_counter()
    parts = contestant.ingest(path, given, job["variant"])
    told = time.perf_counter()
    fsync_all(path)
    done = time.perf_counter()
    return {
        "seconds": done - begun,
        "cpu_seconds": time.process_time() - cpu,
        "parts": {**parts, "fsync_s": done - told},
        "disk_bytes": disk_bytes(path),
        "versions": contestant.versions(),
    }


def tune(job: Job) -> dict[str, Any]:
    """For each effort of the grid: times and answers, of all rows and of each filter."""
    contestant = system(job["system"])
    contestant.load()
    queries = np.load(Path(job["folder"]) / "queries.npy")
    points = []
    for effort in contestant.grid:
        handle = contestant.open(Path(job["store"]), effort)
        _warm(handle, queries)
        point: dict[str, Any] = {"effort": effort, "all": timed(handle, queries, job["budget_s"])}
        del point["all"]["answered"]
        for share, value in BUCKETS.items() if contestant.store else ():
            _warm(handle, queries[:5], value)
            point[share] = timed(handle, queries[: job["filter_queries"]], job["budget_s"] / 4, value)
            del point[share]["answered"]
        handle.close()
        points.append(point)
    return {"points": points}


def reopen(job: Job) -> dict[str, Any]:
    """Seconds of the imports, of opening, and of the first two searches."""
    query = np.load(Path(job["folder"]) / "queries.npy", mmap_mode="r")[0].copy()
    begun = time.perf_counter()
    contestant = system(job["system"])
    contestant.load()
    imported = time.perf_counter()
    handle = contestant.open(Path(job["store"]), job["effort"])
    opened = time.perf_counter()
    first = handle.search(query)
    answered = time.perf_counter()
    second = handle.search(query)
    again = time.perf_counter()
    assert [row_of(found) for found in first] == [row_of(found) for found in second]
    handle.close()
    return {
        "imports_s": imported - begun,
        "open_s": opened - imported,
        "first_s": answered - opened,
        "second_s": again - answered,
    }


def serve(job: Job) -> dict[str, Any]:
    """Single searches and the memory that they took, a batch, filters, and single searches with the defaults.

    The first round is not cut short, since the memory is read after a thousand searches.
    """
    contestant = system(job["system"])
    contestant.load()
    folder, path = Path(job["folder"]), Path(job["store"])
    queries = np.load(folder / "queries.npy")
    budget = float(job["budget_s"])
    asked = np.resize(queries, (SEARCHES - WARM_UP, queries.shape[1]))
    before = resident()
    handle = contestant.open(path, job["effort"])
    _warm(handle, queries)
    found: dict[str, Any] = {"single": timed(handle, asked, None if job["first"] else budget)}
    if len(found["single"]["seconds"]) == len(asked):
        after = resident()
        found["memory"] = {name: after[name] - before[name] for name in after}
    if contestant.store:
        _complete(found["single"]["answered"], load_rows(folder))
    found["batch"] = _batch(handle, queries, float(np.median(found["single"]["seconds"])), budget)
    handle.close()

    for share, effort in job["filters"].items():
        handle = contestant.open(path, effort)
        _warm(handle, queries[:10], BUCKETS[share])
        found[share] = timed(handle, queries[: job["filter_queries"]], budget / 2, BUCKETS[share])
        handle.close()

    handle = contestant.open(path, contestant.default)
    _warm(handle, queries)
    found["default"] = timed(handle, queries, budget / 2)
    handle.close()
    contestant.open(path, job["effort"]).close()  # an effort that is kept in the store is what reopening finds
    for part in found.values():
        part.pop("answered", None)
    return found


def fresh(job: Job) -> dict[str, Any]:
    """Does another process, which has the store open, find at its next search what this one adds meanwhile?"""
    contestant = system(job["system"])
    contestant.load()
    path = Path(job["store"])
    rows = load_rows(Path(job["folder"]))
    small = rows.head(min(FRESH_ROWS, len(rows)))
    contestant.ingest(path, contestant.input(small, contestant.variants[0]), contestant.variants[0])
    efforts = [contestant.default, *([option] if (option := contestant.fresh()) else [])]
    random = np.random.default_rng(1)
    return {
        "tried": [
            {"effort": effort, **_seen(contestant, job, path, effort, random, number)}
            for number, effort in enumerate(efforts, len(rows))
        ]
    }


def _seen(
    contestant: System, job: Job, path: Path, effort: Any, random: np.random.Generator, number: int
) -> dict[str, Any]:
    vector = random.standard_normal(np.load(Path(job["folder"]) / "queries.npy", mmap_mode="r").shape[1])
    vector = (vector / np.linalg.norm(vector)).astype(np.float32)
    file = path.parent / "vector.npy"
    np.save(file, vector)
    writer = contestant.open(path, effort)
    command = [sys.executable, "-m", "benchmarks.peers.child", "reader", job["system"], str(path)]
    with subprocess.Popen(
        [*command, json.dumps(effort), str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None

        def reader_says(*, go: bool) -> str:
            if go:
                other.stdin.write("look\n")  # type: ignore[union-attr]
                other.stdin.flush()  # type: ignore[union-attr]
            for line in other.stdout or ():
                if line.startswith("reader: "):
                    return line.removeprefix("reader: ").strip()
            return "refused: it ended"

        said = reader_says(go=False)
        if said.startswith("refused"):
            other.stdin.close()
            writer.close()
            return {"seen": "refused", "why": said}
        writer.add((f"c{number}", "added by another process", "none", "noun", 0), vector)
        at_once = reader_says(go=True) == f"c{number}"
        time.sleep(2)
        later = reader_says(go=True) == f"c{number}"
        other.stdin.close()
    writer.close()
    return {"seen": "fresh" if at_once else "late" if later else "stale"}


def reader(arguments: Sequence[str]) -> None:
    """The other process: opens the store, then says at each line of its input what is nearest to the vector."""
    name, path, effort, file = arguments
    contestant = system(name)
    contestant.load()
    vector = np.load(file)
    try:
        handle = contestant.open(Path(path), json.loads(effort))
        handle.search(vector)
    except Exception as error:  # whatever a library raises when it refuses
        print(f"reader: refused: {type(error).__name__}: {error}".replace("\n", " "), flush=True)
        return
    print("reader: ready", flush=True)
    for _ in sys.stdin:
        print(f"reader: {handle.search(vector)[0][0]}", flush=True)
    handle.close()


# -- what the stages share ---------------------------------------------------------------------------------------------


def load_rows(folder: Path) -> Rows:
    columns = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
    return Rows(**columns, vectors=np.load(folder / "base.npy"))


def timed(handle: Handle, queries: Matrix, budget: float | None, bucket: int | None = None) -> dict[str, Any]:
    """Seconds and row numbers of each query in turn; `answered` holds the last answers as they came."""
    seconds: list[float] = []
    answers: list[list[int]] = []
    answered: list[Answer] = []
    spent, least = 0.0, LEAST if bucket is None else LEAST_FILTERED
    for query in queries:
        begun = time.perf_counter()
        answer = handle.search(query, bucket)
        seconds.append(time.perf_counter() - begun)
        spent += seconds[-1]
        answers.append([row_of(found) for found in answer])
        answered = [*answered[-9:], answer]
        if budget is not None and spent > budget and len(seconds) >= least:
            break
    return {"seconds": seconds, "answers": answers, "answered": answered}


def _warm(handle: Handle, queries: Matrix, bucket: int | None = None) -> None:
    for query in np.resize(queries, (min(WARM_UP, 10 * len(queries)), queries.shape[1])):
        handle.search(query, bucket)


def _complete(answers: Sequence[Answer], rows: Rows) -> None:
    """The records are whole: each is what was brought in."""
    for answer in answers:
        for found in answer:
            assert tuple(found) == rows.record(row_of(found)), (found, rows.record(row_of(found)))


def _batch(handle: Handle, queries: Matrix, single: float, budget: float) -> dict[str, Any]:
    """All queries at once; slow systems get as many as they answer singly in about the budget."""
    chosen = queries[: max(LEAST, min(len(queries), int(budget / single)))]
    handle.batch(chosen[:LEAST])
    begun = time.perf_counter()
    answers = handle.batch(chosen)
    seconds = time.perf_counter() - begun
    return {"seconds": [seconds], "answers": [[row_of(found) for found in answer] for answer in answers]}


def resident() -> dict[str, int]:
    """This process's own memory and its mapped files, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


def files_of(path: Path) -> Iterator[Path]:
    yield from (found for found in path.rglob("*") if found.is_file())


def fsync_all(path: Path) -> None:
    """Every file and folder of a store to the disk; what the system itself has synced costs nothing more."""
    for found in [*files_of(path), *(folder for folder in path.rglob("*") if folder.is_dir()), path]:
        descriptor = os.open(found, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def disk_bytes(path: Path) -> int:
    """What the files take of the disk; a preallocated hole takes nothing."""
    return sum(found.stat().st_blocks * 512 for found in files_of(path))


STAGES: dict[str, Callable[[Job], dict[str, Any]]] = {
    "ingest": ingest,
    "tune": tune,
    "reopen": reopen,
    "serve": serve,
    "fresh": fresh,
}

if __name__ == "__main__":
    if sys.argv[1] == "reader":
        reader(sys.argv[2:])
    else:
        stage, order, result = sys.argv[1:]
        wanted = json.loads(Path(order).read_text(encoding="utf-8"))
        Path(result).write_text(json.dumps(STAGES[stage](wanted)), encoding="utf-8")
