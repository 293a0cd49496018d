"""Backups beside `cp -r` of the same files, what a writer notices of them, and what history costs on writes.

    python benchmarks/backup.py                # 117,659 records with vectors of 384, three turns
    python benchmarks/backup.py --rows 20000

The store is made anew, with an index, in the folder that `--folder` names; copies go beside it. Contestants take turns;
every target is empty before its turn, and what is read is in the page cache for all. `cp -r` does not wait for the
disk; a backup does, after each file, so `cp -r` with a sync of its files stands beside it. Writes `results/backup.json`
and `backup.md`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks.dataset import Matrix  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
DIM = 384
TARGET = 0.7
FEW = 1_000
CHANGES = 5_000
Seconds = dict[str, list[float]]


def vectors_of(count: int, seed: int) -> Matrix:
    """(count, DIM) float32, unit length, around 1,000 centres."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((1_000, DIM), dtype=np.float32)
    rows = centres[random.integers(1_000, size=count)] + random.standard_normal((count, DIM), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def records_of(count: int, prefix: str = "c") -> list[dict[str, Any]]:
    """Concepts of about 200 bytes."""
    return [
        {
            "id": f"{prefix}{n}",
            "name": f"concept {n}",
            "definition": f"what is said of number {n} in a sentence of usual length, the {n % 97}th of its sort",
            "domain": f"domain {n % 40}",
            "tags": [f"t{n % 7}"],
        }
        for n in range(count)
    ]


def seconds_of(work: Callable[[], object]) -> float:
    """Wall-clock of a call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def sync_files(folder: Path) -> None:
    """Wait until every file is on the disk."""
    for path in folder.rglob("*"):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def copies(store: vs.Store, root: Path, folder: Path, turns: int) -> tuple[Seconds, int]:
    """(seconds by contestant, bytes of a copy); the store is quiet."""
    taken: Seconds = {}
    place, again, copy = folder / "backups", folder / "again", folder / "copy"

    def turn(name: str, work: Callable[[], object]) -> None:
        taken.setdefault(name, []).append(seconds_of(work))

    def copied() -> None:
        subprocess.run(["cp", "-r", str(root), str(copy)], check=True)

    def copied_and_synced() -> None:
        copied()
        sync_files(copy)

    size = 0
    for number in range(turns):
        turn("cp -r", copied)
        shutil.rmtree(copy)
        turn("cp -r, then fsync of each file", copied_and_synced)
        shutil.rmtree(copy)
        turn("first backup", lambda: store.backup(place))
        turn("backup, nothing has changed", lambda: store.backup(place))
        store.concepts.add(records_of(FEW, f"n{number}-"), vectors=vectors_of(FEW, number))
        store.flush()
        turn(f"backup, {FEW:,} records have come", lambda: store.backup(place))
        newest = vs.Backups(place).list()[0]
        size = newest.bytes
        turn("verify it", partial(vs.Backups(place).verify, newest.id))
        turn("restore it, checked", lambda: vs.restore(place, again))
        shutil.rmtree(again)
        shutil.rmtree(place)
        os.sync()
    return taken, size


def under_load(store: vs.Store, folder: Path, seconds: float) -> dict[str, Any]:
    """A thread that adds 20 records a call, first alone, then while backups are made one after the other."""
    found: dict[str, Any] = {}
    for name in ("alone", "while backups run"):
        calls: list[float] = []
        stop = threading.Event()

        def write(calls: list[float] = calls, stop: threading.Event = stop, name: str = name) -> None:
            rows = vectors_of(20, 3)
            for number in itertools.count():
                if stop.is_set():
                    return
                records = records_of(20, f"{name[:1]}{number}-")
                calls.append(seconds_of(partial(store.concepts.add, records, vectors=rows)))

        writer = threading.Thread(target=write)
        writer.start()
        until, made = time.perf_counter() + seconds, []
        while time.perf_counter() < until:
            if name == "alone":
                time.sleep(0.05)
            else:
                made.append(store.backup(folder / "loaded", keep=2).seconds)
        stop.set()
        writer.join()
        p50, p99 = np.percentile(np.array(calls) * 1e3, [50, 99])
        found[name] = {
            "adds_per_second": 20 * len(calls) / sum(calls),
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "worst_ms": max(calls) * 1e3,
            "backups": made,
        }
    return found


def history_costs(folder: Path, turns: int) -> dict[str, Seconds]:
    """Seconds of writes by work, without and with history, in stores of their own."""
    rows, anew, words = vectors_of(CHANGES, 1), vectors_of(CHANGES, 2), records_of(CHANGES)
    taken: dict[str, Seconds] = {}
    for _ in range(turns):
        for kept in ("without history", "with history"):
            with tempfile.TemporaryDirectory(dir=folder) as place, vs.open(place + "/kb", None) as store:
                if kept == "with history":
                    store.history = "30 days"
                works: dict[str, Callable[[], object]] = {
                    f"add {CHANGES:,} with vectors": lambda s=store: s.concepts.add(words, vectors=rows),  # type: ignore[misc]
                    f"update a field of {CHANGES:,}": lambda s=store: s.concepts.update(  # type: ignore[misc]
                        [{"id": record["id"], "quality": 0.5} for record in words]
                    ),
                    f"upsert {CHANGES:,} with new vectors": lambda s=store: s.concepts.upsert(words, vectors=anew),  # type: ignore[misc]
                    "update one record, 300 times": lambda s=store: [  # type: ignore[misc]
                        s.concepts.update({"id": f"c{n}", "quality": 0.25}) for n in range(300)
                    ],
                    f"delete {CHANGES:,}": lambda s=store: s.concepts.delete([r["id"] for r in words]),  # type: ignore[misc]
                }
                for name, work in works.items():
                    taken.setdefault(name, {}).setdefault(kept, []).append(seconds_of(work))
    return taken


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    middle = {name: statistics.median(found) for name, found in results["copies"].items()}
    ratio = middle["cp -r"] / middle["first backup"]
    synced = middle["cp -r, then fsync of each file"] / middle["first backup"]
    size = results["bytes"]
    lines = [
        "# Backups",
        "",
        f"A store of {results['rows']:,} concepts with vectors of {DIM} and an index, {size / 1e6:,.0f} MB; "
        f"{results['machine']}, SQLite {results['sqlite']}, vectorstore {results['version']}; medians of "
        f"{results['turns']} turns in which all take part.",
        "",
        f"A first backup at {TARGET} times the speed of `cp -r` or more: **{'met' if ratio >= TARGET else 'missed'}** "
        f"({ratio:.2f}; {synced:.2f} of a `cp -r` that waits for the disk, as the backup does).",
        "",
        "| | seconds | MB/s of the whole store |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {taken:.3f} | {size / 1e6 / taken:,.0f} |" for name, taken in middle.items()]
    lines += [
        "",
        "A thread that adds 20 records a call:",
        "",
        "| | records/s | p50 ms | p99 ms | worst ms | backups, median s |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, each in results["load"].items():
        made = f"{len(each['backups'])}, {statistics.median(each['backups']):.2f}" if each["backups"] else ""
        figures = " | ".join(f"{each[key]:,.1f}" for key in ("p50_ms", "p99_ms", "worst_ms"))
        lines.append(f"| {name} | {each['adds_per_second']:,.0f} | {figures} | {made} |")
    lines += [
        "",
        "Writes with and without history (`store.history`, off by default):",
        "",
        "| | without, s | with, s | times |",
        "|---|---:|---:|---:|",
    ]
    for name, both in results["history"].items():
        without, kept = (statistics.median(both[key]) for key in ("without history", "with history"))
        lines.append(f"| {name} | {without:.3f} | {kept:.3f} | {kept / without:.2f} |")
    view = results["as_of"]
    lines += ["", f"`as_of` a snapshot {FEW:,} changes ago, to its first answer: {view:.2f} s.", ""]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description="Measure backups and history.")
    parser.add_argument("--rows", type=int, default=117_659)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long a writer is watched")
    parser.add_argument("--folder", type=Path, default=None, help="where the store and its copies go for a while")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = Path(scratch)
        root = folder / "kb"
        with vs.open(root, None, auto_publish=False) as store:
            store.concepts.add(records_of(options.rows), vectors=vectors_of(options.rows, 0))
            store.publish()
            taken, size = copies(store, root, folder, options.turns)
            load = under_load(store, folder, options.seconds)
            store.snapshots.add("then")
            store.concepts.update([{"id": f"c{n}", "quality": 0.5} for n in range(FEW)])
            begun = time.perf_counter()
            with store.as_of("then") as view:
                view.concepts.search(vectors_of(1, 5)[0], k=10)
                looked = time.perf_counter() - begun
        history = history_costs(folder, options.turns)
    import sqlite3

    results = {
        "rows": options.rows,
        "turns": options.turns,
        "bytes": size,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "version": importlib.metadata.version("vectorstore"),
        "copies": taken,
        "load": load,
        "as_of": looked,
        "history": history,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "backup.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "backup.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
