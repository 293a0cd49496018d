"""Runs one verb once for every durable step it takes, and is killed at that step; prints what was wrong afterwards.

    python -m tests.crash.child VERB FOLDER [--mutation NAME] [--dry]

This process only imports; it opens no store and searches nothing, so that it can be forked. Every run, and every look
at what a run left, is a fork of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import faiss  # noqa: F401 - imported before the forks, so that each does not pay for it
import scipy.optimize  # noqa: F401
import sklearn.cluster
import sklearn.feature_extraction.text
import sklearn.metrics  # noqa: F401

import vectorstore as vs
from tests.crash.mutations import MUTATIONS
from tests.crash.points import Points
from tests.crash.verbs import VERBS, Verb, states
from tests.crash.verify import problems_of

vs.open  # noqa: B018 - loads the package
WORKERS = 2
PATIENCE = 60


def in_fork(work: Callable[[], None]) -> int:
    """The wait status of a fork that does the work."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def prepare(verb: Verb, root: Path) -> None:
    if verb.empty:
        return
    with vs.open(root, embedder=None, kinds=verb.before, auto_publish=False) as store:
        for step in verb.prepare:
            step.act(store)
    if verb.spoil is not None:
        verb.spoil(root)


def act(verb: Verb, root: Path, ledger: Path, points: Points, seen: Path | None) -> None:
    """One run; what is acknowledged goes to the ledger at once."""
    handle = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    points.install()
    store = vs.open(root, embedder=None, kinds=verb.kinds, auto_publish=False)
    for step in verb.steps:
        step.act(store)
        os.write(handle, b".")
    store.close()
    if seen is not None:
        seen.write_text(json.dumps(points.seen))


def one(verb: Verb, folder: Path, stop: int | None, side: str, mutation: str | None) -> tuple[list[str], list[str]]:
    """(what was wrong, steps seen) for one run that is stopped at a step, or not at all."""
    root, ledger, seen, result = (folder / name for name in ("store", "ledger", "seen", "result"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if not verb.empty:
        shutil.copytree(folder.parent / "prepared", root)
    ledger.touch()

    def run() -> None:
        if mutation is not None:
            MUTATIONS[mutation]()
        act(verb, root, ledger, Points(root, stop, side), seen)

    status = in_fork(run)
    if stop is None and status != 0:
        return [f"the dry run failed: {status}"], []
    if stop is not None and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        return [f"step {stop} was not reached: status {status}"], []
    acknowledged = ledger.stat().st_size
    reached = states(verb)
    allowed = reached[acknowledged : acknowledged + 2] if stop is not None else reached[acknowledged:]

    def look() -> None:
        try:
            problems = problems_of(verb, root, allowed)
        except BaseException:
            problems = [traceback.format_exc()]
        result.write_text(json.dumps(problems))

    in_fork(look)
    problems = json.loads(result.read_text()) if result.exists() else ["the look at it did not end"]
    return problems, json.loads(seen.read_text()) if seen.exists() else []


def main() -> int:
    """Every step of one verb."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=list(VERBS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mutation", choices=list(MUTATIONS))
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    verb, started = VERBS[options.verb], time.perf_counter()
    states(verb)  # fills the cache of vectors before the forks
    if in_fork(lambda: prepare(verb, options.folder / "prepared")):
        raise SystemExit("the store could not be prepared")
    failures: list[tuple[str, list[str]]] = []
    problems, steps = one(verb, options.folder / "dry", None, "", options.mutation)
    if problems and options.mutation is None:
        failures.append(("no kill", problems))
    runs = [
        (number, side)
        for number, kind in enumerate(steps)
        for side in (("before", "half", "after") if kind == "write" else ("before", "after"))
    ]
    if not options.dry:
        failures += in_parallel(verb, options.folder, steps, runs, options.mutation)
    report = {
        "steps": steps,
        "runs": 0 if options.dry else len(runs),
        "failures": failures,
        "seconds": time.perf_counter() - started,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def in_parallel(
    verb: Verb, folder: Path, steps: list[str], runs: list[tuple[int, str]], mutation: str | None
) -> list[tuple[str, list[str]]]:
    """The runs, shared out over some forks."""
    children = []
    for worker in range(WORKERS):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                found = []
                for number, side in runs[worker::WORKERS]:
                    problems, _ = one(verb, folder / f"run{worker}", number, side, mutation)
                    if problems:
                        found.append((f"{side} step {number} ({steps[number]})", problems))
                (folder / f"found{worker}").write_text(json.dumps(found))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return [tuple(found) for worker in range(WORKERS) for found in json.loads((folder / f"found{worker}").read_text())]


if __name__ == "__main__":
    sys.exit(main())
