"""The lattice: resolves a second over two passes of pairs, and what the rest of it costs.

    python benchmarks/lattice.py --pairs 100000

Each figure is of one process. `resolve_many` and `transaction` commit once for `--batch` pairs, `single` once for each,
which waits for the disk every time; beside it stands what the disk alone allows, a write and an fsync of 4 KiB. Writes
`results/lattice.json` and `lattice.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs

RESULTS = Path(__file__).resolve().parent / "results"
EVENTS = 10_000
Pairs = list[tuple[str, str]]


def pairs_of(count: int) -> Pairs:
    """Pairs of identities as older lattices name them: 16 hexadecimal digits; each identity is in about ten pairs."""
    random = np.random.default_rng(0)
    names = [f"{int(value):016x}" for value in random.integers(0, 2**63, max(3, count // 5))]
    found: dict[tuple[str, str], None] = {}
    while len(found) < count:
        for a, b in random.integers(0, len(names), (count, 2)).tolist():
            if a != b and len(found) < count:
                found[(names[min(a, b)], names[max(a, b)])] = None
    return list(found)


def seconds(act: Callable[[], Any]) -> float:
    """How long it takes, once."""
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


def soak(folder: Path, pairs: Pairs, batch: int) -> dict[str, Any]:
    """Both passes with `resolve_many`, then what else can be done with such a lattice."""
    rates, commits = [], []
    with vs.open(folder / "many", embedder=None) as store:
        for _ in range(2):
            begun = time.perf_counter()
            for start in range(0, len(pairs), batch):
                part = pairs[start : start + batch]
                commits.append(seconds(lambda part=part: store.lattice.resolve_many(part)))  # type: ignore[misc]
            rates.append(len(pairs) / (time.perf_counter() - begun))
        assert len(store.lattice) == len(pairs) and len(store["form_terms"]) == 3 * len(pairs)
        size = sum(path.stat().st_size for path in (folder / "many").rglob("*") if path.is_file())
        anchor = store.lattice.recent(1)[0].anchor
        other: dict[str, float] = {
            "recent(10)": seconds(lambda: store.lattice.recent(10)),
            "intensity of one": seconds(lambda: store.lattice.intensity(anchor)),
            "resonant(10)": seconds(lambda: store.lattice.resonant(anchor, 10)),
            "analytics by domain": seconds(lambda: store.lattice.analytics("domain")),
            "decay": seconds(lambda: store.lattice.decay(14.0)),
            "verify one": seconds(lambda: store.lattice.verify(anchor)),
            "prune all": seconds(lambda: store.lattice.prune(0)),
        }
        assert len(store.lattice) == 0
    return {"passes": rates, "longest commit": max(commits), "bytes": size, "seconds": other}


def transactions(folder: Path, pairs: Pairs, batch: int) -> list[float]:
    """Resolves a second of both passes, one call each, a commit for each batch."""
    rates = []
    with vs.open(folder / "transactions", embedder=None) as store:
        for _ in range(2):
            begun = time.perf_counter()
            for start in range(0, len(pairs), batch):
                with store.transaction():
                    for a, b in pairs[start : start + batch]:
                        store.lattice.resolve(a, b)
            rates.append(len(pairs) / (time.perf_counter() - begun))
    return rates


def singles(folder: Path, pairs: Pairs, threads: int) -> dict[str, float]:
    """Resolves a second with a durable commit for each, by one or several threads."""
    share = len(pairs) // threads
    with vs.open(folder / f"single-{threads}", embedder=None) as store:

        def work(start: int) -> None:
            for a, b in pairs[start : start + share]:
                store.lattice.resolve(a, b)

        workers = [threading.Thread(target=work, args=(place * share,)) for place in range(threads)]
        begun = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        elapsed = time.perf_counter() - begun
        assert len(store.lattice) == share * threads
    return {"threads": threads, "per_s": share * threads / elapsed}


def disk(folder: Path, count: int) -> float:
    """Appends of 4 KiB with an fsync each, a second: what no durable single write can pass."""
    block = os.urandom(4096)
    handle = os.open(folder / "probe", os.O_WRONLY | os.O_CREAT)
    try:
        begun = time.perf_counter()
        for _ in range(count):
            os.write(handle, block)
            os.fsync(handle)
        return count / (time.perf_counter() - begun)
    finally:
        os.close(handle)


def growth(folder: Path) -> dict[str, float]:
    """Median milliseconds of an event, within a transaction, when the form has few and when it has 10,000."""
    times = []
    with vs.open(folder / "growth", embedder=None) as store, store.transaction():
        for _ in range(EVENTS + 100):
            times.append(seconds(lambda: store.lattice.resolve("a", "b")))
    found = {"events 10 to 110": times[10:110], f"events {EVENTS} to {EVENTS + 100}": times[-100:]}
    return {name: float(np.median(some)) * 1000 for name, some in found.items()}


def table(found: dict[str, Any]) -> str:
    """The figures as Markdown."""
    first, second = found["resolve_many"]["passes"]
    rows = [
        (f"`resolve_many`, {found['batch']:,} pairs a commit", first, second),
        (f"`resolve` within a transaction of {found['batch']:,}", *found["transaction"]),
    ]
    lines = [
        "# Lattice",
        "",
        f"{found['pairs']:,} pairs, resolved twice; {found['machine']}, one process, the store on disk, every commit "
        "durable (`synchronous=FULL`).",
        "",
        "| resolves a second | first pass (forms are made) | second pass |",
        "|---|---:|---:|",
        *(f"| {name} | {one:,.0f} | {other:,.0f} |" for name, one, other in rows),
        "",
        f"A commit for each resolve ({found['single_pairs']:,} pairs): "
        + ", ".join(f"{one['per_s']:,.0f} a second from {one['threads']} thread(s)" for one in found["single"])
        + f"; the disk alone does {found['disk']:,.0f} appends of 4 KiB with an fsync a second.",
        "",
        "An event of one form, within a transaction: "
        + ", ".join(f"{name}: {value:.3f} ms" for name, value in found["growth"].items())
        + ".",
        "",
        f"The store after both passes: {found['resolve_many']['bytes'] / 1e6:,.0f} MB; the longest commit of "
        f"{found['batch']:,} pairs took {found['resolve_many']['longest commit'] * 1000:,.0f} ms. Over all forms:",
        "",
        "| | ms |",
        "|---|---:|",
        *(f"| {name} | {value * 1000:,.1f} |" for name, value in found["resolve_many"]["seconds"].items()),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description="Measure the lattice.")
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=2_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, help="a folder on the disk to measure; None for a temporary one")
    options = parser.parse_args(arguments)
    pairs = pairs_of(options.pairs)
    few = pairs[: options.singles]
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        results = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "vectorstore": vs.__version__,
            "pairs": len(pairs),
            "batch": options.batch,
            "single_pairs": len(few),
            "resolve_many": soak(folder, pairs, options.batch),
            "transaction": transactions(folder, pairs, options.batch),
            "single": [singles(folder, few, threads) for threads in (1, 4)],
            "disk": disk(folder, max(1, len(few) // 2)),
            "growth": growth(folder),
        }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "lattice.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "lattice.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
