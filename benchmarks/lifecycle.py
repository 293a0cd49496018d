"""The life of a store, measured beside FAISS and numpy over the same data in the same run.

    python benchmarks/lifecycle.py                       packaged data, 1,000 to 100,000 records
    python benchmarks/lifecycle.py --data FOLDER --texts FILE --sizes 10000,full

Every measurement runs in a process of its own (benchmarks/child.py); those of single queries with one thread, those
of writing with all. Writes lifecycle.json, lifecycle.md and lifecycle.png; README.md beside this file explains them.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

from benchmarks import plot, report  # noqa: E402 - the path above is theirs
from benchmarks.dataset import NOISE, SEED, Source, load_source, note, prepare  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
SEARCHING = ("open", "search", "many", "filters", "text", "memory")
HNSW_ROWS = 120_000
"""Beyond so many rows the graph takes minutes to build, and is left out."""


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    work = Path(tempfile.mkdtemp(prefix="lifecycle-", dir=options.work))
    try:
        measure(options, work)
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    print((options.out / "lifecycle.md").read_text(encoding="utf-8"))


def write(results: dict[str, Any], out: Path) -> None:
    """The figures, the table and the picture of what has been measured so far."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "lifecycle.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "lifecycle.md").write_text(report.table(results), encoding="utf-8")
    plot.draw(results, out / "lifecycle.png")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the life of a store beside raw FAISS and numpy.")
    parser.add_argument("--sizes", default="1000,10000,100000", help="numbers of records, or full, with commas")
    parser.add_argument("--data", type=Path, help="folder with wordnet-minilm-384.base.f16.npy and .queries.npz")
    parser.add_argument("--texts", type=Path, help="gzipped JSON lines, line i for row i of the data")
    parser.add_argument("--queries", type=int, default=1000, help="at most so many")
    parser.add_argument("--repeats", type=int, default=5, help="of opening and of batches")
    parser.add_argument("--no-hnsw", action="store_true", help="leave the graph index out; its build is slow")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the three results go")
    parser.add_argument("--work", type=Path, help="where stores are made and removed again")
    parser.add_argument("--keep", action="store_true", help="do not remove them")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, work: Path) -> None:
    """Measure size by size, smallest first, and write the results after each: a run that is cut short keeps them."""
    wanted = options.sizes.split(",")
    numbers = [int(size) for size in wanted if size != "full"]
    source = load_source(
        options.data, options.texts, options.queries, max(numbers) if "full" not in wanted else sys.maxsize, note
    )
    sizes = sorted({len(source.base) if size == "full" else int(size) for size in wanted})
    results: dict[str, Any] = {
        "about": {**_machine(), "data": source.name, "data_rows": len(source.base), "noise": NOISE, "seed": SEED},
        "sizes": {},
    }
    for size in sizes:
        begun = time.perf_counter()
        results["sizes"][str(size)] = _one_size(options, source, size, work)
        write(results, options.out)
        note(f"{size}: done in {time.perf_counter() - begun:.0f} s")


def _one_size(options: argparse.Namespace, source: Source, size: int, work: Path) -> dict[str, Any]:
    folder = work / str(size)
    folder.mkdir()
    note(f"{size}: preparing data and exact answers")
    data = prepare(source, size, folder)
    hnsw = not options.no_hnsw and size <= HNSW_ROWS
    job = {
        "folder": str(folder),
        "store": str(folder / "store"),
        "data": data,
        "hnsw": hnsw,
        "repeats": options.repeats,
    }
    found: dict[str, Any] = {"data": data}
    for stage in ("add", "add_published", "index"):
        found[stage] = _child(stage, job)
    for leftover in ("store-dicts", "store-published"):
        shutil.rmtree(folder / leftover)
    found["disk"] = _disk(folder / "store")
    found["open"] = [_child("open", job) for _ in range(options.repeats)]
    for stage in ("search", "many", "filters", "text"):
        found[stage] = _child(stage, job)
    contestants = ["store", "flat", *(["hnsw"] if hnsw else [])]
    found["memory"] = {name: _child("memory", {**job, "contestant": name}) for name in contestants}
    found["upkeep"] = _child("upkeep", job)
    if not options.keep:
        shutil.rmtree(folder)
    return found


def _child(stage: str, job: dict[str, Any]) -> dict[str, Any]:
    """What a stage measured, in a new process.

    Raises:
        SystemExit: it failed; its message went to stderr.
    """
    note(f"  {stage} {job.get('contestant', '')}")
    folder = Path(job["folder"])
    order, answer = folder / "job.json", folder / "measured.json"
    order.write_text(json.dumps(job), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if stage in SEARCHING:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.child", stage, str(order), str(answer)]
    begun = time.perf_counter()
    if subprocess.run(command, env=environment, cwd=folder, check=False).returncode:
        raise SystemExit(f"lifecycle: the stage {stage!r} failed at {job['data']['rows']} records")
    measured: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return {**measured, "process_s": time.perf_counter() - begun}


def _disk(store: Path) -> dict[str, int]:
    """Bytes by part of a closed store."""
    parts = {"catalog": 0, "embeddings": 0, "indexes": 0, "other": 0}
    for path in store.rglob("*"):
        if path.is_file():
            first = path.relative_to(store).parts[0]
            part = "catalog" if first.startswith("catalog.sqlite") else first if first in parts else "other"
            parts[part] += path.stat().st_size
    return parts


def _machine() -> dict[str, Any]:
    names = ("vectorstore", "faiss-cpu", "numpy", "pydantic")
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.system(),
        "load_at_start": os.getloadavg()[0],
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


if __name__ == "__main__":
    main()
