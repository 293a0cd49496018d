"""Does it still take as long as it took? A quick run that fails when an operation has become slower than its baseline.

    python benchmarks/gate.py             # measure, compare with results/gate.json, exit 1 beyond the tolerance
    python benchmarks/gate.py --write     # make the figures of this run the baseline

A figure is a ratio: the CPU time of an operation divided by that of the plain work beneath it (numpy's scan, SQLite's
insert or select) over the same data, in turns with it. Machines differ in speed much more than in such ratios, so one
baseline serves all. What fails is measured twice more before it counts: a busy minute is no defect.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402 - the number of threads is told before

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks.contracts import concepts, vectors  # noqa: E402
from benchmarks.dataset import SEED, Matrix  # noqa: E402

BASELINE = Path(__file__).resolve().parent / "results" / "gate.json"
TOLERANCE = 1.5
ROWS, BATCH, ROUNDS = 5_000, 500, 15
TRIES = 3
Work = Callable[[int], object]
Pair = tuple[Work, Work]
"""An operation and the plain work that it is divided by; both are told the round."""


class Bench:
    """A store, and beside it the plain table and matrix of the same records."""

    def __init__(self, folder: Path) -> None:
        self.base: Matrix = vectors(ROWS)
        records = concepts(0, ROWS)
        self.store = vs.open(folder / "kb", embedder=None, auto_publish=False, timeout=5)
        self.store.concepts.add(records, vectors=self.base)
        self.store.flush()
        self.plain = sqlite3.connect(folder / "plain.sqlite", isolation_level=None)
        self.plain.execute("PRAGMA journal_mode = WAL")
        self.plain.execute(
            "CREATE TABLE concepts(id TEXT PRIMARY KEY, domain TEXT, record TEXT, vector BLOB, changed TEXT)"
        )
        self._insert(records, self.base)
        self.plain.execute("CREATE INDEX domains ON concepts(domain)")

    def close(self) -> None:
        self.store.close()
        self.plain.close()

    def _insert(self, records: list[dict[str, Any]], matrix: Matrix) -> None:
        self.plain.execute("BEGIN IMMEDIATE")
        rows = ((r["id"], r["domain"], json.dumps(r), v.tobytes()) for r, v in zip(records, matrix, strict=True))
        self.plain.executemany("INSERT OR REPLACE INTO concepts VALUES (?, ?, ?, ?, NULL)", rows)
        self.plain.execute("COMMIT")

    def _select(self, sql: str, *values: object) -> list[dict[str, Any]]:
        return [json.loads(text) for (text,) in self.plain.execute(sql, values)]

    def _scan(self, queries: Matrix) -> Any:
        scores = queries @ self.base.T
        best = np.argpartition(scores, -10, axis=1)[:, -10:]
        return [self._select("SELECT record FROM concepts WHERE rowid IN (SELECT value FROM json_each(?))",
                             json.dumps((row + 1).tolist())) for row in best]  # fmt: skip

    def pairs(self) -> Mapping[str, Pair]:
        """Operation -> (it, the plain work)."""
        shelf, queries = self.store.concepts, vectors(100, SEED + 1)
        ids = [f"c{n * 7 % ROWS}" for n in range(BATCH)]
        listed = json.dumps(ids)
        fresh = vectors(BATCH, SEED + 2)

        def batch(number: int) -> list[dict[str, Any]]:
            return concepts(10**6 + number * BATCH, BATCH)

        def changed(number: int) -> list[dict[str, Any]]:
            return [{"id": name, "quality": number % 100 / 100} for name in ids]

        def update(number: int) -> None:
            rows = [(json.dumps(each), each["id"]) for each in changed(number)]
            self.plain.execute("BEGIN IMMEDIATE")
            self.plain.executemany("UPDATE concepts SET changed = ? WHERE id = ?", rows)
            self.plain.execute("COMMIT")

        one = "SELECT record FROM concepts WHERE id = ?"
        many = "SELECT record FROM concepts WHERE id IN (SELECT value FROM json_each(?))"
        page = "SELECT record FROM concepts WHERE domain = 'domain 3' ORDER BY id LIMIT 100"
        return {
            "add of 500": (lambda n: shelf.add(batch(n), vectors=fresh), lambda n: self._insert(batch(n), fresh)),
            "update of 500": (lambda n: shelf.update(changed(n)), update),
            "get": (
                lambda n: [shelf.get(name) for name in ids[:100]],
                lambda n: [self._select(one, name) for name in ids[:100]],
            ),
            "get_many of 500": (lambda n: shelf.get_many(ids), lambda n: self._select(many, listed)),
            "find, a page of 100": (
                lambda n: shelf.find({"domain": "domain 3"}, order="id", limit=100),
                lambda n: self._select(page),
            ),
            "search": (
                lambda n: [shelf.search(query, k=10) for query in queries[:20]],
                lambda n: [self._scan(query[None]) for query in queries[:20]],
            ),
            "search_many of 100": (lambda n: shelf.search_many(queries, k=10), lambda n: self._scan(queries)),
        }


def measure(bench: Bench, chosen: set[str] | None = None, rounds: int = ROUNDS, first: int = 0) -> dict[str, float]:
    """Operation -> median ratio over rounds; the first round warms up and is thrown away."""
    ratios: dict[str, list[float]] = {}
    for number in range(first, first + rounds + 1):
        for name, pair in bench.pairs().items():
            if chosen is not None and name not in chosen:
                continue
            spent = []
            for work in pair:
                begun = time.process_time()
                work(number)
                spent.append(time.process_time() - begun)
            if number > first:
                ratios.setdefault(name, []).append(spent[0] / max(spent[1], 1e-9))
    return {name: float(np.median(found)) for name, found in ratios.items()}


def too_slow(found: Mapping[str, float], baseline: Mapping[str, float], tolerance: float) -> set[str]:
    """Operations beyond the tolerance; one that has no baseline, or is measured no more, is one too."""
    return {name for name in found if found[name] > tolerance * baseline.get(name, 0.0)} | (
        baseline.keys() - found.keys()
    )


def judged(
    again: Callable[[set[str] | None, int], dict[str, float]], baseline: Mapping[str, float], tolerance: float
) -> tuple[dict[str, float], set[str]]:
    """(the best figure of each operation, which are too slow), those beyond the tolerance being measured again."""
    found = again(None, 0)
    for number in range(1, TRIES):
        slow = too_slow(found, baseline, tolerance) & found.keys()
        if not slow:
            break
        found |= {name: min(ratio, found[name]) for name, ratio in again(slow, number).items()}
    return found, too_slow(found, baseline, tolerance)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fail when an operation has become slower than its baseline.")
    parser.add_argument("--write", action="store_true", help="make the figures of this run the baseline")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="how many times the baseline is too slow")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gate-") as folder:
        bench = Bench(Path(folder))
        try:
            if options.write:
                found = measure(bench, rounds=options.rounds)
                options.baseline.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
                baseline, slow = found, set[str]()
            else:
                baseline = json.loads(options.baseline.read_text(encoding="utf-8"))
                found, slow = judged(
                    lambda chosen, number: measure(bench, chosen, options.rounds, number * (options.rounds + 1)),
                    baseline,
                    options.tolerance,
                )
        finally:
            bench.close()
    print(f"{'operation':24}{'times the plain work':>22}{'baseline':>12}")
    for name in {**baseline, **found}:
        verdict = f"  slower than {options.tolerance:g} × the baseline" if name in slow else ""
        print(f"{name:24}{found.get(name, float('nan')):22.2f}{baseline.get(name, float('nan')):12.2f}{verdict}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
