"""States: saves and loads a second in a store and in a file, beside the source system's way, and what kills leave.

    python benchmarks/states.py               # 2, 300 and 3,000 artifacts of 768 numbers, five turns, then 2 x 50 kills
    python benchmarks/states.py --artifacts 300 --no-kills

The state is a knowledge base of artifacts (unit vectors, float32), 1,000 tasks and 1,000 scores. All take turns.
The source's way is `json.dump` of lists of numbers, indented by 2, into the file itself: neither whole nor durable. A
change replaces one artifact and adds a task and a score; a load is by a new object. Writes `results/states.json` and
`states.md`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
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
DIM = 768
KILLS = 50
Step = Callable[[], int]
"""Does something, and returns the bytes that it wrote or read."""


def unit(seed: int) -> Any:
    """A unit vector, float32."""
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def task(number: int) -> dict[str, Any]:
    """A task as the source system has them."""
    return {"task_id": number, "type": "embedding_generation", "status": "done", "duration_ms": 150 + number % 7}


def fill(state: Any, artifacts: int) -> None:
    """The knowledge base and both histories."""
    state["knowledge_base"] = {f"k{n}": vs.NumericArtifact(unit(n), {"doc_id": f"doc{n}"}) for n in range(artifacts)}
    state.history("task_history").extend(map(task, range(1_000)))
    state.history("score_history").extend(np.random.default_rng(0).random(1_000).tolist())


def change(state: Any, number: int) -> None:
    """One artifact anew, one task and one score more."""
    name = f"k{number % len(state['knowledge_base'])}"
    state["knowledge_base"][name] = vs.NumericArtifact(unit(10_000 + number), {"doc_id": name})
    state["task_history"].append(task(number))
    state["score_history"].append(0.5)


def source(folder: Path, state: Any) -> dict[str, Step]:
    """The source system's save and load."""
    path = folder / "source.json"

    def save() -> int:
        bases = {
            name: {"__type__": "NumericVectorArtifact", "vector": one.vector.tolist(), "metadata": one.metadata}
            for name, one in state["knowledge_base"].items()
        }
        histories = {
            name: {"__type__": "deque", "items": list(state[name]), "maxlen": 1000}
            for name in ("task_history", "score_history")
        }
        with path.open("w") as file:
            json.dump({"knowledge_base": bases, **histories}, file, indent=2)
        return path.stat().st_size

    def load() -> int:
        with path.open() as file:
            json.load(file)
        return path.stat().st_size

    return {"the source's way: save": save, "the source's way: load": load}


def file(folder: Path, artifacts: int) -> dict[str, Step]:
    """A `StateFile`."""
    path = folder / "state.json"
    mine = vs.StateFile(path)
    fill(mine, artifacts)

    def save() -> int:
        change(mine, int(time.monotonic_ns() % 1_000_000))
        return mine.save().size

    def load() -> int:
        vs.StateFile(path).load()
        return path.stat().st_size

    return {"a file: save": save, "a file: load": load}


def store(opened: vs.Store, artifacts: int, name: str, searchable: bool) -> dict[str, Step]:
    """A state in a store."""
    mine = opened.state(name, searchable=searchable)
    fill(mine, artifacts)
    count = 0

    def whole() -> int:
        nonlocal count
        other = opened.state(f"{name} {count}", searchable=searchable)
        other.update(mine)
        count += 1
        return other.save().size

    def changed() -> int:
        change(mine, int(time.monotonic_ns() % 1_000_000))
        return mine.save().size

    def unchanged() -> int:
        return mine.save().size

    def load() -> int:
        found = opened.state(name)
        found.load()
        return sum(one.size for one in found.checkpoints())

    what = "a store" if searchable else "a store, not searchable"
    mine.save()
    return {
        f"{what}: whole save": whole,
        f"{what}: save of a change": changed,
        f"{what}: save of nothing": unchanged,
        f"{what}: load": load,
    }


def measure(artifacts: int, turns: int) -> dict[str, dict[str, float]]:
    """What -> seconds (median and best of the turns) and bytes."""
    with tempfile.TemporaryDirectory() as place, vs.open(Path(place) / "kb", embedder=None, auto_publish=False) as kb:
        state = kb.state("filled")
        fill(state, artifacts)
        steps = {
            **source(Path(place), state),
            **file(Path(place), artifacts),
            **store(kb, artifacts, "searchable", True),
            **store(kb, artifacts, "kept", False),
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        sizes: dict[str, int] = {}
        for _ in range(turns):
            for name, step in steps.items():
                begun = time.perf_counter()
                sizes[name] = step()
                seconds[name].append(time.perf_counter() - begun)
    return {
        name: {"median_s": statistics.median(found), "best_s": min(found), "bytes": sizes[name]}
        for name, found in seconds.items()
    }


def killed(home: str) -> dict[str, Any]:
    """What `tests/crash/states.py` finds after so many kills."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "tests.crash.states", "random", home, place, str(KILLS), "1"]
        environment = {**os.environ, **single, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    sizes = results["sizes"]
    lines = [
        "# States",
        "",
        f"Artifacts of {DIM} numbers, 1,000 tasks, 1,000 scores, on disk; {results['machine']}, SQLite "
        f"{results['sqlite']}, vectorstore {results['version']}; the median of {results['turns']} turns in which all "
        "take part. Every save but the source's is durable; a change is one artifact, one task and one score.",
        "",
        "| milliseconds (kB) | " + " | ".join(f"{int(size):,} artifacts" for size in sizes) + " |",
        "|---|" + "---:|" * len(sizes),
    ]
    for name in next(iter(sizes.values())):
        figures = [found[name] for found in sizes.values()]
        cells = [f"{one['median_s'] * 1e3:,.1f} ({one['bytes'] / 1e3:,.1f})" for one in figures]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if results["kills"]:
        lines += [
            "",
            "## SIGKILL during saves",
            "",
            "A process that saves without end is killed at a random time, again and again (`tests/crash/states.py`).",
            "",
            "| | kills | saves | unreadable, or neither the last save nor the next |",
            "|---|---:|---:|---:|",
        ]
        for home, one in results["kills"].items():
            lines.append(f"| a {home} | {one['kills']} | {one['saves']:,} | {len(one['failures'])} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description="Measure states.")
    parser.add_argument("--artifacts", type=int, nargs="+", default=[2, 300, 3_000])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    import sqlite3

    results: dict[str, Any] = {
        "turns": options.turns,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "version": importlib.metadata.version("vectorstore"),
        "sizes": {str(count): measure(count, options.turns) for count in options.artifacts},
        "kills": {} if options.no_kills else {home: killed(home) for home in ("store", "file")},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "states.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "states.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
