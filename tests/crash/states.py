"""Saves of states, killed: at every durable step of one save, or at random times of many; prints what was wrong.

    python -m tests.crash.states steps HOME FOLDER
    python -m tests.crash.states random HOME FOLDER ROUNDS SEED [MUTATION]

A save is right when all its parts say the same number. The child writes each number into a ledger once its save
returned, so the state must hold that one or the next. This process only imports, so that it can be forked.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss  # noqa: F401 - imported before the forks, so that each does not pay for it
import numpy as np

import vectorstore as vs
from tests.crash.child import in_fork
from tests.crash.points import Points
from vectorstore import files
from vectorstore.states import State

vs.open  # noqa: B018 - loads the package
BEFORE, AFTER = 3, 5
"""The saves before a run, and in it."""


def change(state: State, number: int) -> None:
    """The state of that number: everything in it follows from the number."""
    state["n"] = number
    state["kb"] = {f"k{n}": vs.NumericArtifact([number, n, 1.0], {"n": number}) for n in range(20)}
    state["array"] = np.full(2_000, number)
    state.history("log", maxlen=10).append(number)


def number_of(state: State) -> int:
    """The number that all parts of a loaded state agree on.

    Raises:
        AssertionError: they do not.
    """
    number = int(state["n"])
    assert all(each.vector[0] == number == each.metadata["n"] for each in state["kb"].values())
    assert len(state["kb"]) == 20 and (state["array"] == number).all()
    assert list(state["log"]) == list(range(number + 1))[-10:], f"{number}: {list(state['log'])}"
    return number


def live(home: str, folder: Path, work: Callable[[State], None]) -> None:
    """Open the state, load it, work, close."""
    if home == "file":
        state: State = vs.StateFile(folder / "state.json")
        state.load()
        work(state)
        return
    with vs.open(folder / "store", embedder=None, auto_publish=False) as store:
        state = store.state("agent", keep=4)
        state.load()
        work(state)


def saves(count: int, ledger: int | None = None) -> Callable[[State], None]:
    """So many saves, each acknowledged in the ledger."""

    def work(state: State) -> None:
        first = state["n"] + 1 if "n" in state else 0
        for number in range(first, first + count):
            change(state, number)
            state.save()
            if ledger is not None:
                os.write(ledger, number.to_bytes(8, "big"))

    return work


def look(home: str, folder: Path) -> int:
    """The number that is there, after everything was proved to be in order; -1 when nothing was ever saved."""
    found = -1

    def work(state: State) -> None:
        nonlocal found
        if not len(state):
            return
        found = number_of(state)
        state["after"] = True
        state.save()  # what is there can be built on
        del state["after"]
        state.save()

    if home == "store" and (folder / "store").exists():
        with vs.open(folder / "store", embedder=None, auto_publish=False) as store:
            assert store.check().findings == (), store.check().findings
            shown = {record.metadata["n"] for record in store.artifacts}
            state = store.state("agent")
            assert shown == ({state["n"]} if state.load() else set()), "the records are those of the save"
            for one in state.checkpoints():
                with store._catalog.read() as connection:
                    state._take(None, state._tree_of(connection, state._row(connection, one.version)))
                number_of(state)
    live(home, folder, work)
    return found


def acknowledged(ledger: Path) -> int:
    data = ledger.read_bytes()
    return int.from_bytes(data[-8:], "big") if data else -1


def seen_by(home: str, folder: Path) -> tuple[int | None, str]:
    """(the number, "") or (None, what was wrong), as a process of its own finds it."""
    result = folder / "result"
    result.unlink(missing_ok=True)

    def work() -> None:
        try:
            result.write_text(json.dumps([look(home, folder), ""]))
        except BaseException as error:
            result.write_text(json.dumps([None, f"{type(error).__name__}: {error}"]))

    in_fork(work)
    found, why = json.loads(result.read_text()) if result.exists() else (None, "the look did not end")
    return found, why


def steps(home: str, folder: Path) -> dict[str, Any]:
    """Kill at every durable step of some saves, on each side of it."""
    prepared = folder / "prepared"
    prepared.mkdir()
    in_fork(lambda: live(home, prepared, saves(BEFORE)))
    failures, kinds = [], list[str]()

    def one(stop: int | None, side: str) -> tuple[int, list[str]]:
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(prepared, run)
        ledger = run / "ledger"
        handle = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

        def work() -> None:
            points = Points(run, stop, side)
            points.install()
            live(home, run, saves(AFTER, handle))
            (run / "seen").write_text(json.dumps(points.seen))

        status = in_fork(work)
        os.close(handle)
        if stop is not None and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
            failures.append(f"{side} step {stop} was not reached")
        certain = max(acknowledged(ledger), BEFORE - 1)
        found, why = seen_by(home, run)
        if found not in (certain, certain + 1):
            failures.append(f"{side} step {stop} ({kinds[stop] if stop is not None else ''}): {found} {why}")
        return certain, json.loads((run / "seen").read_text()) if stop is None else []

    _, kinds = one(None, "")
    sides = ("before", "half", "after")
    runs = [(n, side) for n, kind in enumerate(kinds) for side in sides[:: 1 if kind == "write" else 2]]
    for stop, side in runs:
        one(stop, side)
    return {"steps": kinds, "kills": len(runs), "failures": failures}


def truncate_first() -> None:
    """What the source system does: the file is opened for writing, and then written."""

    def replace(path: Path, data: Any) -> None:
        with path.open("wb") as file:
            for start in range(0, len(data), 4096):
                file.write(data[start : start + 4096])
                file.flush()

    files.replace_file = replace
    from vectorstore.states import statefile

    statefile.replace_file = replace  # type: ignore[attr-defined]


def at_random(home: str, folder: Path, rounds: int, seed: int, mutation: str) -> dict[str, Any]:
    """Kill a process that saves without end, again and again; each goes on from what the last one left."""
    random_times, failures, kills, total = random.Random(seed), [], 0, 0
    ledger = folder / "ledger"
    ledger.touch()
    while kills < rounds:
        handle = os.open(ledger, os.O_WRONLY | os.O_APPEND)
        child = os.fork()
        if child == 0:
            try:
                if mutation:
                    truncate_first()
                live(home, folder, saves(100_000, handle))
            finally:
                os._exit(1)
        os.close(handle)
        size = ledger.stat().st_size
        deadline = time.monotonic() + 30
        while ledger.stat().st_size == size and time.monotonic() < deadline:
            time.sleep(0.001)  # it saves now
        time.sleep(random_times.random() * 0.05)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        certain = acknowledged(ledger)
        found, why = seen_by(home, folder)
        if found not in (certain, certain + 1):
            failures.append(f"kill {kills}: saved {certain}, found {found} {why}")
            if mutation:
                break
        total = (found or 0) + 1
    return {"kills": kills, "saves": total, "failures": failures}


def main() -> int:
    """One home, one way."""
    way, home, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    started = time.perf_counter()
    if way == "steps":
        report = steps(home, folder)
    else:
        report = at_random(home, folder, int(sys.argv[4]), int(sys.argv[5]), "".join(sys.argv[6:]))
    sys.stdout.write(json.dumps({**report, "seconds": round(time.perf_counter() - started, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
