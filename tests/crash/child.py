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
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import faiss  # noqa: F401 - imported before the forks, so that each does not pay for it
import scipy.optimize  # noqa: F401
import sklearn.cluster
import sklearn.feature_extraction.text
import sklearn.metrics  # noqa: F401

import vectorstore as vs
from tests.crash.families import FAMILIES
from tests.crash.mutations import MUTATIONS
from tests.crash.points import Points
from tests.crash.same import ACTED, PREPARED, Calls, Rows, Ticking, determined, rows_of
from tests.crash.verbs import VERBS, Verb, states
from tests.crash.verify import problems_of

vs.open  # noqa: B018 - loads the package
MATRIX: dict[str, Verb] = {**VERBS, **FAMILIES}
WORKERS = 2
PATIENCE = 600


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


def opened(verb: Verb, root: Path, moment: datetime, **options: Any) -> vs.Store:
    if verb.engine:
        options["index"] = {"concepts": f"faiss:{root.parent / 'engine'}"}
    return vs.open(root, embedder=verb.embedder, auto_publish=False, clock=Ticking(moment), **options)


def prepare(verb: Verb, root: Path) -> None:
    if verb.empty:
        return
    determined()
    with opened(verb, root, PREPARED, kinds=verb.before) as store:
        for step in verb.prepare:
            step.act(store)
    if verb.spoil is not None:
        verb.spoil(root)


@dataclass
class Seen:
    """What a run that nothing stopped did.

    Attributes:
        steps: the kinds of its durable steps.
        rows: what the catalog held before it, and after each commit.
        marks: how many of `rows` there were when the store was open, and after each acknowledged step.
        calls: public verb -> the most commits of one call of it.
        unflagged: verbs that commit and are not declared as writing.
    """

    steps: list[str] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    calls: dict[str, int] = field(default_factory=dict)
    unflagged: list[str] = field(default_factory=list)

    def allowed(self, acknowledged: int) -> list[Rows]:
        """What may be there after a stop within the step after those that were acknowledged."""
        first = self.marks[acknowledged] - 1
        return self.rows[first : self.marks[acknowledged + 1] if acknowledged + 1 < len(self.marks) else None]


def act(verb: Verb, root: Path, ledger: Path, points: Points, out: Path | None) -> None:
    """One run; what is acknowledged goes to the ledger at once."""
    handle = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    determined()
    seen, calls = Seen(), Calls()
    calls.install()
    if out is not None:
        points.committed = lambda connection: noted(root, seen, calls, connection)
    points.install()
    store = opened(verb, root, ACTED, kinds=verb.kinds)
    if not seen.rows:  # it was there, and opening it changed nothing
        with store._catalog.read() as connection:
            seen.rows.append(rows_of(connection))
    seen.marks.append(len(seen.rows))
    for step in verb.steps:
        step.act(store)
        os.write(handle, b".")
        seen.marks.append(len(seen.rows))
    store.close()
    if out is not None:
        seen.steps, seen.calls, seen.unflagged = points.seen, calls.called, calls.unflagged()
        out.write_text(json.dumps(asdict(seen)))


def noted(root: Path, seen: Seen, calls: Calls, connection: Any) -> None:
    """After each commit of a run that nothing stops; a commit of another store, which a restore makes, does not count."""
    if Path(connection.execute("PRAGMA database_list").fetchone()[2]).parent != root:
        return
    calls.commits += 1
    seen.rows.append(rows_of(connection))


def one(
    verb: Verb, folder: Path, stop: int | None, side: str, mutation: str | None, whole: Seen
) -> tuple[list[str], Seen]:
    """(what was wrong, what was seen) for one run that is stopped at a step, or not at all."""
    root, ledger, out, result = (folder / name for name in ("store", "ledger", "seen", "result"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if not verb.empty:
        shutil.copytree(folder.parent / "prepared", root)
    ledger.touch()

    def run() -> None:
        if mutation is not None:
            MUTATIONS[mutation]()
        act(verb, root, ledger, Points(root, stop, side), out if stop is None else None)

    status = in_fork(run)
    if stop is None and status != 0:
        return [f"the dry run failed: {status}"], Seen()
    if stop is not None and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
        return [f"step {stop} was not reached: status {status}"], Seen()
    seen = Seen(**json.loads(out.read_text())) if stop is None else whole
    return looked(verb, root, ledger.stat().st_size, seen, result, ended=stop is None), seen


def looked(verb: Verb, root: Path, acknowledged: int, seen: Seen, result: Path, *, ended: bool = False) -> list[str]:
    """What is wrong with a store after so many acknowledged steps, as a process of its own finds it."""
    reached = states(verb)
    models = reached[acknowledged:] if ended else reached[acknowledged : acknowledged + 2]
    rows = seen.rows[-1:] if ended else seen.allowed(acknowledged)

    def look() -> None:
        try:
            problems = problems_of(verb, root, models, rows)
        except BaseException:
            problems = [traceback.format_exc()]
        result.write_text(json.dumps(problems))

    result.unlink(missing_ok=True)
    in_fork(look)
    found: list[str] = json.loads(result.read_text()) if result.exists() else ["the look at it did not end"]
    return found


def main() -> int:
    """Every step of one verb."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=list(MATRIX))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mutation", choices=list(MUTATIONS))
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    verb, started = MATRIX[options.verb], time.perf_counter()
    states(verb)  # fills the cache of vectors before the forks
    if in_fork(lambda: prepare(verb, options.folder / "prepared")):
        raise SystemExit("the store could not be prepared")
    failures: list[tuple[str, list[str]]] = []
    problems, seen = one(verb, options.folder / "dry", None, "", options.mutation, Seen())
    steps = seen.steps
    if problems and options.mutation is None:
        failures.append(("no kill", problems))
    runs = [
        (number, side)
        for number, kind in enumerate(steps)
        for side in (("before", "half", "after") if kind == "write" else ("before", "after"))
    ]
    if not options.dry:
        failures += in_parallel(verb, options.folder, seen, runs, options.mutation)
    report = {
        "steps": steps,
        "calls": seen.calls,
        "unflagged": seen.unflagged,
        "runs": 0 if options.dry else len(runs),
        "failures": failures,
        "seconds": time.perf_counter() - started,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


def in_parallel(
    verb: Verb, folder: Path, seen: Seen, runs: list[tuple[int, str]], mutation: str | None
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
                    problems, _ = one(verb, folder / f"run{worker}", number, side, mutation, seen)
                    if problems:
                        found.append((f"{side} step {number} ({seen.steps[number]})", problems))
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
