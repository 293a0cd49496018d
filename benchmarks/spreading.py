"""Batch work on Dask: texts embedded by MiniLM through a workflow, on one worker and on two.

    python benchmarks/spreading.py                 # 4,000 texts
    python benchmarks/spreading.py --texts 20000

Scheduler and workers are processes here with one thread each for torch, warm before the clock starts; what is
timed is `workflows.process`, commits and proofs included. The one worker has two slots for tasks, for joblib would do
all in the calling process otherwise; its model takes one batch at a time all the same. Writes
`results/spreading.json` and `spreading.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import joblib  # noqa: E402 - the path above is theirs
import numpy as np  # noqa: E402

import vectorstore as vs  # noqa: E402
from vectorstore.data import wordnet_sample  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"


@contextlib.contextmanager
def cluster(workers: int, slots: int) -> Iterator[None]:
    """A client of a scheduler with so many worker processes."""
    from distributed import Client

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    address = f"tcp://127.0.0.1:{port}"
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        program = [sys.executable, "-m", f"distributed.cli.dask_{command[0]}", *command[1:], "--no-dashboard"]
        started.append(subprocess.Popen(program, env=environ, stderr=subprocess.DEVNULL))

    with tempfile.TemporaryDirectory() as folder:
        try:
            start("scheduler", "--host", "127.0.0.1", "--port", str(port))
            for number in range(workers):
                where = ["--local-directory", f"{folder}/{number}", "--host", "127.0.0.1", "--memory-limit", "0"]
                start("worker", address, "--nthreads", str(slots), "--no-nanny", *where)
            with Client(address, timeout=60) as client:  # type: ignore[no-untyped-call]
                client.wait_for_workers(workers, timeout=60)
                yield
        finally:
            for process in reversed(started):
                process.kill()
                process.wait()


def seconds(store: vs.Store, texts: list[str]) -> float:
    """How long a workflow with these texts takes to process."""
    work = store.workflows.create("concepts", [{"name": str(n), "definition": text} for n, text in enumerate(texts)])
    started = time.perf_counter()
    with joblib.parallel_config(backend="dask"):
        done = store.workflows.process(work.id)
    assert done.status == "completed" and done.errors == 0
    return time.perf_counter() - started


def measured(workers: int, slots: int, texts: list[str]) -> tuple[float, Any]:
    """(seconds, the vectors in the order of the texts)."""
    with tempfile.TemporaryDirectory() as folder, cluster(workers, slots):
        with vs.open(f"{folder}/warm", auto_publish=False) as store:
            seconds(store, [f"warm {number}" for number in range(250 * workers * slots)])
        with vs.open(f"{folder}/kb", auto_publish=False) as store:
            took = seconds(store, texts)
            return took, store.concepts.vectors([f"default:{number}" for number in range(len(texts))])


def table(found: dict[str, Any]) -> str:
    """The report."""
    one, two, count = found["one"], found["two"], found["texts"]
    return (
        f"# Batch work on Dask: {count:,} texts by MiniLM\n\n"
        f"{found['machine']}, workers of one thread on the same machine, beside the one who writes; {found['at']}.\n\n"
        "| workers | s | texts/s | |\n|---|---:|---:|---|\n"
        f"| 1 | {one:.1f} | {count / one:,.0f} | |\n| 2 | {two:.1f} | {count / two:,.0f} | {one / two:.2f} times |\n\n"
        f"Least cosine between a text's vectors of both runs: {found['cosine']:.6f}.\n"
    )


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=4_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    words = [concept["definition"] for concept in wordnet_sample()]
    texts = [f"{words[number % len(words)]} ({number})" for number in range(asked.texts)]
    one, first = measured(1, 2, texts)
    two, second = measured(2, 1, texts)
    found: dict[str, Any] = {
        "texts": len(texts),
        "one": one,
        "two": two,
        "cosine": float(np.min((first * second).sum(axis=1))),
    }
    found |= {"at": time.strftime("%Y-%m-%d"), "machine": f"{os.cpu_count()} cores"}
    (asked.out / "spreading.json").write_text(json.dumps(found, indent=2) + "\n")
    (asked.out / "spreading.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
