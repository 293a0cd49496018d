"""Workflows: 10,000 analogies made, processed, taken back, beside the same records by plain `add`.

    python benchmarks/work.py                 # 10,000 items, five turns
    python benchmarks/work.py --items 100000

Contestants take turns, each with a store of its own on disk; figures are items a second of wall-clock, the median and
the best of the turns. A workflow commits, durably, after each chunk of 4,000 items (250 when texts are embedded), `add`
once. Writes `results/work.json` and `work.md`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import tempfile
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
CHUNK = 1000
DIM = 384
TARGET = 20_000
Item = dict[str, Any]
Timed = Callable[[Callable[[], object]], None]


def analogies(count: int) -> list[Item]:
    """Analogies of both shapes at once: domains, terms, a mapping, a sentence of reasoning; about 300 bytes each."""
    return [
        {
            "source_domain": f"royalty {n % 50}",
            "target_domain": f"business {n % 40}",
            "a": f"king {n}",
            "b": "throne",
            "c": f"director {n}",
            "d": "office",
            "reasoning": "whoever holds the place of power has the seat that goes with it",
            "concept_mappings": [{"source": f"king {n}", "target": f"director {n}", "confidence": 0.9}],
            "quality": n % 100 / 100,
            "tags": [f"t{n % 7}"],
        }
        for n in range(count)
    ]


def plain(store: vs.Store, items: list[Item], timed: Timed) -> None:
    timed(lambda: store.analogies.add(items))


def in_calls(store: vs.Store, items: list[Item], timed: Timed) -> None:
    timed(lambda: [store.analogies.add(items[start : start + CHUNK]) for start in range(0, len(items), CHUNK)])


def create(store: vs.Store, items: list[Item], timed: Timed) -> None:
    timed(lambda: store.workflows.create("analogies", items))


def process(store: vs.Store, items: list[Item], timed: Timed) -> None:
    made = store.workflows.create("analogies", items).id
    timed(lambda: store.workflows.process(made))


def process_with_vectors(store: vs.Store, items: list[Item], timed: Timed) -> None:
    vectors = np.random.default_rng(0).standard_normal((len(items), DIM)).astype(np.float32)
    made = store.workflows.create("analogies", items, vectors=vectors).id
    timed(lambda: store.workflows.process(made))


def process_lenient(store: vs.Store, items: list[Item], timed: Timed) -> None:
    """A hundredth of the items is bad: every chunk is refused and looked through item by item."""
    spoilt = [{**item, "quality": 7.5} if place % 100 == 50 else item for place, item in enumerate(items)]
    made = store.workflows.create("analogies", spoilt, policy="lenient").id
    timed(lambda: store.workflows.process(made))


def _landed(store: vs.Store, items: list[Item]) -> str:
    made = store.workflows.create("analogies", items).id
    store.workflows.process(made)
    return made


def overwrite(store: vs.Store, items: list[Item], timed: Timed) -> None:
    named = [{**item, "id": f"a{n}"} for n, item in enumerate(items)]
    _landed(store, named)
    made = store.workflows.create("analogies", [{**item, "d": "desk"} for item in named]).id
    timed(lambda: store.workflows.process(made))


def delete(store: vs.Store, items: list[Item], timed: Timed) -> None:
    _landed(store, items)
    made = store.workflows.delete("analogies", where={"version__gte": 1}).id
    timed(lambda: store.workflows.process(made))


def undo_create(store: vs.Store, items: list[Item], timed: Timed) -> None:
    made = _landed(store, items)
    timed(lambda: store.workflows.rollback(made))


def undo_overwrite(store: vs.Store, items: list[Item], timed: Timed) -> None:
    named = [{**item, "id": f"a{n}"} for n, item in enumerate(items)]
    _landed(store, named)
    made = _landed(store, [{**item, "d": "desk"} for item in named])
    timed(lambda: store.workflows.rollback(made))


def undo_delete(store: vs.Store, items: list[Item], timed: Timed) -> None:
    _landed(store, items)
    made = store.workflows.delete("analogies", where={"version__gte": 1}).id
    store.workflows.process(made)
    timed(lambda: store.workflows.rollback(made))


CONTESTANTS: dict[str, Callable[[vs.Store, list[Item], Timed], None]] = {
    "add, one call, one commit": plain,
    "add, calls of 1,000": in_calls,
    "create a workflow": create,
    "process it": process,
    f"process it with vectors of {DIM}": process_with_vectors,
    "process it, 1 % bad, lenient": process_lenient,
    "process one that overwrites": overwrite,
    "process a deletion": delete,
    "roll a creation back": undo_create,
    "roll an overwriting back": undo_overwrite,
    "roll a deletion back": undo_delete,
}


def measure(count: int, turns: int) -> dict[str, list[float]]:
    """Seconds of each turn by contestant."""
    items = analogies(count)
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(turns):
        for name, act in CONTESTANTS.items():
            with (
                tempfile.TemporaryDirectory() as folder,
                vs.open(Path(folder) / "kb", embedder=None, auto_publish=False) as store,
            ):

                def timed(work: Callable[[], object], taken: list[float] = seconds[name]) -> None:
                    begun = time.perf_counter()
                    work()
                    taken.append(time.perf_counter() - begun)

                act(store, items, timed)
    return seconds


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    count = results["items"]
    reached = results["rates"]["process it"]["median"]
    said = "met" if reached >= TARGET else "missed"
    lines = [
        "# Workflows",
        "",
        f"{count:,} analogies of both shapes, no embedder, on disk; {results['machine']}, SQLite {results['sqlite']}, "
        f"vectorstore {results['version']}; {results['turns']} turns in which all take part.",
        "",
        f"At least {TARGET:,} items a second processed without vectors: **{said}** ({reached:,.0f}, the median).",
        "",
        "| | items/s, median | best |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {each['median']:,.0f} | {each['best']:,.0f} |" for name, each in results["rates"].items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description="Measure workflows.")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    seconds = measure(options.items, options.turns)
    import sqlite3

    results = {
        "items": options.items,
        "turns": options.turns,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "version": importlib.metadata.version("vectorstore"),
        "seconds": seconds,
        "rates": {
            name: {"median": options.items / statistics.median(found), "best": options.items / min(found)}
            for name, found in seconds.items()
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "work.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "work.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
