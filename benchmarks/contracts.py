"""What contracts and the trail cost: the same calls with and without them, in pairs, over the same data.

    python benchmarks/contracts.py            # 10,000 records of 384 dimensions; some minutes
    python benchmarks/contracts.py --rounds 5 --rows 2000

Reads ask one store, whose contracts are switched off and on: two stores differ by some percent for no reason but where
their memory lies. Writes go into four stores that hold the same: with both, without contracts, without the trail, with
neither. In each round all do the same, in an order that turns; the figures are medians over rounds of one's time
divided by the other's in the same round. Writes `results/contracts.json` and `contracts.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402 - the number of threads is told before

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks.dataset import SEED, Matrix, unit  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
DIM = 384
LIMIT = 0.05
BATCH = 1000
BOTH, BARE, SILENT, NEITHER = "both", "no contracts", "no trail", "neither"
STORES: dict[str, dict[str, Any]] = {
    BOTH: {},
    BARE: {"contracts": False},
    SILENT: {"trail": False},
    NEITHER: {"contracts": False, "trail": False},
}
Act = Callable[[vs.Store, int], object]


@dataclass(frozen=True)
class Measured:
    """One verb: median seconds of CPU time without, the median over rounds of the ratio and its quartiles.

    `wall` is the ratio by the clock on the wall.
    """

    verb: str
    batched: bool
    seconds: float
    ratio: float
    low: float
    high: float
    wall: float


def concepts(start: int, count: int) -> list[dict[str, Any]]:
    """Records with what concepts have: id, name, domain, definition, quality, tags."""
    return [
        {
            "id": f"c{n}",
            "name": f"concept {n}",
            "domain": f"domain {n % 10}",
            "definition": f"what concept {n} of domain {n % 10} is about, in a dozen words or so of plain text",
            "quality": n % 100 / 100,
            "tags": [f"t{n % 7}", f"u{n % 13}"],
        }
        for n in range(start, start + count)
    ]


def vectors(count: int, seed: int = SEED) -> Matrix:
    """Unit vectors of random directions."""
    return unit(np.random.default_rng(seed).standard_normal((count, DIM)))


def reads(rows: int) -> dict[str, tuple[int, Act]]:
    """Verb -> (calls a round, what it does); a batched verb is called once."""
    ids = [f"c{n * 7 % rows}" for n in range(min(BATCH, rows))]
    queries = vectors(100, SEED + 1)
    return {
        f"get_many of {len(ids):,}": (1, lambda store, _: store.concepts.get_many(ids)),
        f"find, a page of {len(ids):,}": (1, lambda store, _: store.concepts.find(limit=len(ids))),
        f"stream of {rows:,}": (1, lambda store, _: sum(1 for _ in store.concepts.stream())),
        f"vectors of {len(ids):,}": (1, lambda store, _: store.concepts.vectors(ids)),
        "search_many of 100": (1, lambda store, _: store.concepts.search_many(queries, k=10)),
        "search": (20, lambda store, n: store.concepts.search(queries[n % 100], k=10)),
        "find, a page of 10": (50, lambda store, _: store.concepts.find({"domain": "domain 3"}, limit=10)),
        "get": (200, lambda store, n: store.concepts.get(ids[n % len(ids)])),
        "count": (200, lambda store, _: store.concepts.count()),
    }


def writes(rows: int) -> dict[str, tuple[int, Act]]:
    """As `reads`; each round deletes what it added, so that all stores stay as they are."""
    batch, brought = concepts(rows, BATCH), vectors(BATCH, SEED + 2)
    ids = [each["id"] for each in batch]
    changes = [{"id": name, "quality": 0.5} for name in ids]
    single, one = concepts(10**6, 1)[0], vectors(1, SEED + 3)

    def alone(store: vs.Store, n: int) -> None:
        store.concepts.upsert({**single, "id": f"single {n}"}, vectors=one)

    return {
        f"upsert of {BATCH:,}": (1, lambda store, _: store.concepts.upsert(batch, vectors=brought)),
        f"update of {BATCH:,}": (1, lambda store, _: store.concepts.update(changes)),
        f"delete of {BATCH:,}": (1, lambda store, _: store.concepts.delete(ids)),
        f"restore of {BATCH:,}": (1, lambda store, _: store.concepts.restore(ids)),
        "upsert, one durable commit each": (20, alone),
    }


Times = dict[str, dict[str, list[tuple[float, float]]]]


def paired(stores: dict[str, vs.Store], acts: dict[str, tuple[int, Act]], rounds: int) -> Times:
    """Verb -> store -> (CPU seconds, seconds) of each round, stores in turns; the first round is thrown away."""
    names = list(stores)
    found: Times = {verb: {name: [] for name in names} for verb in acts}
    for number in range(rounds + 1):
        for verb, (calls, act) in acts.items():
            turn = number % len(names)
            for name in [*names[turn:], *names[:turn]][:: -1 if number // len(names) % 2 else 1]:
                store = stores[name]
                store._sync.watch.contracts = STORES[name].get("contracts", True)
                busy, begun = time.process_time(), time.perf_counter()
                for call in range(calls):
                    act(store, call)
                if number:
                    found[verb][name].append((time.process_time() - busy, time.perf_counter() - begun))
    return found


def compare(found: Times, acts: dict[str, tuple[int, Act]], one: str, other: str) -> list[Measured]:
    """What `one` costs beside `other`."""
    made = []
    for verb, times in found.items():
        calls = acts[verb][0]
        with_it, without = np.array(times[one]), np.array(times[other])
        ratios = with_it / without
        low, middle, high = np.percentile(ratios[:, 0], [25, 50, 75]).tolist()
        seconds, wall = float(np.median(without[:, 0])) / calls, float(np.median(ratios[:, 1]))
        made.append(Measured(verb, calls == 1, seconds, middle, low, high, wall))
    return made


def trail_bytes(folder: Path) -> dict[str, float]:
    """Bytes that an entry of the trail takes in the catalog, and how many there are."""
    connection = sqlite3.connect(folder / "catalog.sqlite")
    entries, size = connection.execute(
        "SELECT count(*), sum(length(operation) + length(rows) + length(actor) + length(details) + 32 + 24) FROM trail"
    ).fetchone()
    connection.close()
    return {"entries": entries, "bytes_an_entry": size / entries}


def measure(rows: int, rounds: int, work: Path) -> dict[str, Any]:
    """All figures of a run."""
    results: dict[str, Any] = {"about": _about(rows, rounds)}
    base, records = vectors(rows), concepts(0, rows)
    for name in STORES:
        with vs.open(work / name, embedder=None, auto_publish=False) as store:
            store.concepts.add(records, vectors=base)
            store.flush()
    acts = reads(rows)
    with vs.open(work / BOTH, embedder=None, read_only=True) as store:
        asked = compare(paired({BOTH: store, BARE: store}, acts, 4 * rounds), acts, BOTH, BARE)
    results["reads"] = [vars(each) for each in asked]
    acts = writes(rows)
    stores = {
        name: vs.open(work / name, embedder=None, auto_publish=False, **options) for name, options in STORES.items()
    }
    try:
        times = paired(stores, acts, rounds)
        began = time.perf_counter()
        report = stores[BOTH].trail.verify()
        results["verify"] = {"seconds": time.perf_counter() - began, "entries": report.entries}
    finally:
        for store in stores.values():
            store.close()
    results["writes"] = [vars(each) for each in compare(times, acts, BOTH, BARE)]
    results["trail"] = [vars(each) for each in compare(times, acts, BOTH, SILENT)]
    results["all"] = [vars(each) for each in compare(times, acts, BOTH, NEITHER)]
    results["entries"] = trail_bytes(work / BOTH)
    return results


def _about(rows: int, rounds: int) -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "rows": rows,
        "rounds": rounds,
    }


def table(results: dict[str, Any]) -> str:
    """The report as Markdown."""
    about = results["about"]
    lines = [
        "# What contracts and the trail cost",
        "",
        f"{about['date']}; {about['machine']}, {about['cores']} cores, load {about['load']:.1f} at the start; Python "
        f"{about['python']}. {about['rows']:,} concepts with vectors of {DIM} dimensions, on disk; {about['rounds']} "
        "rounds of writes, four times as many of reads. The cost is the median over rounds of the CPU time with them "
        "over that without, in turn; in brackets its quartiles; and the same by the clock on the wall. A cost "
        "below zero is noise.",
        "",
        f"Wanted of batched verbs: contracts cost at most {LIMIT:.0%} of CPU time.",
        "",
        "## Contracts",
        "",
        *_rows([*results["reads"], *results["writes"]], wanted=True),
        "",
        "## The trail",
        "",
        *_rows(results["trail"], wanted=False),
        "",
        f"An entry takes {results['entries']['bytes_an_entry']:.0f} bytes; {results['verify']['entries']:,} entries "
        f"were verified in {results['verify']['seconds'] * 1e3:.0f} ms.",
        "",
        "## Both",
        "",
        *_rows(results["all"], wanted=False),
        "",
    ]
    return "\n".join(lines)


def _rows(found: Iterable[dict[str, Any]], *, wanted: bool) -> list[str]:
    lines = ["| verb | without, CPU ms | cost | microseconds a call | on the wall | |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for each in (Measured(**values) for values in found):
        cost, low, high = each.ratio - 1, each.low - 1, each.high - 1
        verdict = "" if not wanted or not each.batched else "met" if cost <= LIMIT else "**missed**"
        extra = cost * each.seconds * 1e6
        lines.append(
            f"| {each.verb} | {each.seconds * 1e3:.3f} | {cost:+.1%} ({low:+.1%} .. {high:+.1%}) | {extra:+.1f} | "
            f"{each.wall - 1:+.1%} | {verdict} |"
        )
    return lines


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what contracts and the trail cost.")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=30, help="of writes; of reads four times as many")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the two results go")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="contracts-") as work:
        results = measure(options.rows, options.rounds, Path(work))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "contracts.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "contracts.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
