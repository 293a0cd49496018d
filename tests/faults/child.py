"""Runs one verb once for every call that changes files, which fails; prints what was wrong, then or afterwards.

    LD_PRELOAD=faultio.so python -m tests.faults.child VERB FOLDER [--all] [--mutation NAME]

Without `--all` a call meets one of the errors that it can have, another one at each call; of many writes to one file the
first and the last are taken; and the calls of a plain opening are left to two cases. This process only imports, so that it can be forked.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import vectorstore as vs
from tests.crash.child import MATRIX, Seen, in_fork, opened, prepare
from tests.crash.model import Model, fields_of, matrix_of, vector_of
from tests.crash.same import ACTED, determined, differing, rows_before, rows_of
from tests.crash.verbs import Verb, states
from tests.crash.verify import answers, half_fits, litter, state_of
from tests.faults.shim import FAIL, FOR_EVER, MKDIR, OPEN, RENAME, SHORT, SYNC, TRUNCATE, UNLINK, WRITE, Fault, Shim
from vectorstore import files
from vectorstore.storage.catalog import Catalog

WORKERS = 2
MUTATIONS: dict[str, Callable[[], None]] = {}
FULL = WRITE | OPEN | MKDIR | TRUNCATE
CHANGING = FULL | SYNC | RENAME | UNLINK
ONCE: dict[str, tuple[tuple[int, int], ...]] = {
    "write": ((FAIL, errno.ENOSPC), (FAIL, errno.EIO), (SHORT, 0)),
    "sync": ((FAIL, errno.EIO),),
    "rename": ((FAIL, errno.EIO), (FAIL, errno.ENOSPC)),
    "link": ((FAIL, errno.EIO),),
    "open": ((FAIL, errno.EMFILE), (FAIL, errno.ENOSPC), (FAIL, errno.EACCES)),
    "unlink": ((FAIL, errno.EIO),),
    "rmdir": ((FAIL, errno.EIO),),
    "mkdir": ((FAIL, errno.ENOSPC), (FAIL, errno.EMFILE)),
    "truncate": ((FAIL, errno.EIO), (FAIL, errno.ENOSPC)),
    "allocate": ((FAIL, errno.ENOSPC),),
}
"""Operation -> the errors that it can have, once."""
KINDS = {
    **{"write": WRITE, "sync": SYNC, "rename": RENAME, "link": RENAME, "open": OPEN, "unlink": UNLINK},
    **{"rmdir": UNLINK, "mkdir": MKDIR, "truncate": TRUNCATE, "allocate": TRUNCATE},
}
STAYING = ((errno.ENOSPC, FULL), (errno.EIO, WRITE | SYNC), (errno.EROFS, CHANGING))
"""The errors that stay, with the operations that have them: a full disk, a failing one, one that became read-only."""


def act(verb: Verb, root: Path, shim: Shim, fault: Fault, acknowledged: list[int]) -> tuple[vs.Store | None, Any]:
    """(the store, the error that came) of the steps with a fault."""
    determined()
    store = None
    shim.arm(root.parent, fault)  # what is written beside the store too
    try:
        store = opened(verb, root, ACTED, kinds=verb.kinds)
        for step in verb.steps:
            step.act(store)
            acknowledged.append(1)
        return store, None
    except BaseException as error:
        return store, error


def whole(verb: Verb, root: Path, shim: Shim, out: Path, log: Path) -> None:
    """Without a fault: the calls there are, the rows after each commit."""
    determined()
    seen = Seen(rows=[] if verb.empty else [rows_before(root.parent.parent / "prepared")])
    commit = Catalog._commit

    def committed(catalog: Catalog, connection: Any) -> None:
        commit(catalog, connection)
        if catalog.root == root:
            seen.rows.append(rows_of(connection))

    Catalog._commit = committed  # type: ignore[method-assign]
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    shim.watch(root.parent, handle)
    store = opened(verb, root, ACTED, kinds=verb.kinds)
    seen.opening = shim.seen()
    seen.marks.append(len(seen.rows))
    for step in verb.steps:
        step.act(store)
        seen.marks.append(len(seen.rows))
    shim.disarm()
    out.write_text(json.dumps(asdict(seen)))


def one(verb: Verb, folder: Path, seen: Seen, fault: Fault, mutation: str | None) -> list[str]:
    """What is wrong, during a fault and after it."""
    root, told = folder / "store", folder / "told"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if not verb.empty:
        shutil.copytree(folder.parent / "prepared", root)

    def run() -> None:
        if mutation is not None:
            MUTATIONS[mutation]()
        problems: list[str] = []
        try:
            look(verb, root, seen, fault, problems)
        except BaseException:
            problems.append(traceback.format_exc())
        Shim().disarm()
        told.write_text(json.dumps(problems))

    status = in_fork(run)
    if not told.exists():
        return [f"the process ended by {status}"]
    found: list[str] = json.loads(told.read_text())
    return found


def look(verb: Verb, root: Path, seen: Seen, fault: Fault, problems: list[str]) -> None:
    shim, acknowledged = Shim(), list[int]()
    store, error = act(verb, root, shim, fault, acknowledged)
    done = len(acknowledged)
    models, rows = states(verb)[done : done + 2], seen.allowed(done) if done < len(verb.steps) else seen.rows[-1:]
    if error is not None and not isinstance(error, vs.VectorstoreError):
        problems.append(f"not a typed error: {error!r}" + where(error))
    if store is not None and error is not None and fault.times > 1 and verb.again is None:
        problems += [f"during the fault: {problem}" for problem in reads(store, models)]
    met = shim.disarm()
    if not met:
        problems.append("the fault was not met")
    if store is None:
        store = opened(verb, root, ACTED, kinds=verb.kinds)
    with store._catalog.read() as connection:
        now = rows_of(connection)
    before = now == seen.rows[seen.marks[done] - 1] if done < len(seen.marks) else False
    if error is not None and verb.comparable and (tables := differing(now, rows)):
        problems.append(f"the rows are those of no commit; the nearest one differs in {', '.join(tables)}")
    if error is not None and before and done < len(verb.steps):
        verb.steps[done].act(store)  # nothing happened: then it can be done now
        models = states(verb)[done + 1 : done + 2]
    if verb.again is not None:
        verb.again(store)
    if verb.also is not None:
        problems += verb.also(store, root)
    problems += after(store, root, models)
    store.close()
    with opened(verb, root, ACTED, kinds=verb.kinds, read_only=True) as store:
        problems += [f"opened again, check found: {finding}" for finding in store.check().findings]


def where(error: BaseException) -> str:
    """The last line of ours that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/vectorstore/" in frame.filename]
    return f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def reads(store: vs.Store, models: list[Model]) -> list[str]:
    """Reads answer while nothing can be written."""
    model = state_of(store, models)
    return ["reads are in none of the allowed states"] if model is None else answers(store, model, everything=False)


def after(store: vs.Store, root: Path, models: list[Model]) -> list[str]:
    """The store is in order, has no litter once it is swept, and takes the next write."""
    model = state_of(store, models)
    if model is None:
        return ["the records are in none of the allowed states"]
    problems = [*answers(store, model, everything=False), *half_fits(store)]
    problems += [f"check found: {finding}" for finding in store.check().findings]
    store.sweep(0)
    problems += [f"litter after sweep: {name}" for name in litter(store, root)]
    store.concepts.add([fields_of("the next", 0)], vectors=matrix_of(["the next"], 0))
    model = model.copy()
    model.put("the next", "the next as of 0", vector_of("the next", 0))
    if state_of(store, [model]) is None:
        problems.append("the next write did not arrive")
    return problems


def skipped(verb: Verb, seen: Seen, every: bool) -> int:
    """How many of the first calls another case has already: those of an opening that does nothing of its own."""
    own = verb.empty or verb.engine or verb.spoil is not None or verb.kinds != verb.before
    return 0 if every or own or verb in (MATRIX["add small"], MATRIX["upsert"]) else seen.opening


def faults(calls: list[str], every: bool, skip: int = 0) -> list[tuple[str, Fault]]:
    """(call, fault) for each run, without the first calls."""
    chosen: list[tuple[str, Fault]] = []
    turn = itertools.count()
    place = skip
    for call, group in itertools.groupby(calls[skip:]):
        size = len(list(group))
        places = range(size) if every else sorted({0, size - 1})
        for each in places:
            kinds = ONCE[call.split()[0]]
            for mode, code in kinds if every else [kinds[next(turn) % len(kinds)]]:
                chosen.append((call, Fault(place + each, mode, code)))
        place += size
    starts = sorted({fault.first for _, fault in chosen})
    for first in starts if every else starts[:: max(1, len(starts) // 4)]:
        left = {KINDS[call.split()[0]] for call in calls[first:]}
        met = [stays for stays in STAYING if any(kind & stays[1] for kind in left)]
        for code, operations in met if every else met[next(turn) % len(met) :][:1] if met else []:
            chosen.append((calls[first], Fault(first, FAIL, code, operations, FOR_EVER)))
    return chosen


def counted(calls: list[str], fault: Fault) -> Fault:
    """The same moment, counted in calls of the fault's own operations."""
    first = sum(bool(KINDS[call.split()[0]] & fault.operations) for call in calls[: fault.first])
    return replace(fault, first=first)


def deaf() -> None:
    """A write that fails is taken for one that did not."""

    def write(handle: int, chunk: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(handle, chunk)

    files._write = write


def untyped() -> None:
    """What the disk refuses comes as it is."""
    files.refused.__exit__ = lambda *_: None  # type: ignore[assignment]


def litters() -> None:
    """Nobody sweeps."""
    vs.Store.sweep = lambda store, older_than=0.0: []  # type: ignore[method-assign]
    files.discard = lambda path: None


def forgets() -> None:
    """A transaction that failed is committed all the same, as far as it came."""

    def rollback(catalog: Catalog) -> bool:
        if catalog._writer is None or not catalog._writer.in_transaction:
            return False
        catalog._writer.execute("COMMIT")
        return True

    Catalog._rollback = rollback  # type: ignore[method-assign]


MUTATIONS |= {"deaf": deaf, "untyped": untyped, "litters": litters, "forgets": forgets}


def shared(work: Callable[[int], object]) -> None:
    """The work of each worker, in forks."""
    children = []
    for worker in range(WORKERS):
        child = os.fork()
        if child == 0:
            try:
                work(worker)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def main() -> int:
    """Every call of one verb."""
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=list(MATRIX))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--mutation", choices=list(MUTATIONS))
    options = parser.parse_args()
    verb, folder, started = MATRIX[options.verb], options.folder, time.perf_counter()
    states(verb)
    if in_fork(lambda: prepare(verb, folder / "prepared")):
        raise SystemExit("the store could not be prepared")
    dry = folder / "dry"
    dry.mkdir()
    if not verb.empty:
        shutil.copytree(folder / "prepared", dry / "store")
    if in_fork(lambda: whole(verb, dry / "store", Shim(), folder / "seen", folder / "log")):
        raise SystemExit("the dry run failed")
    seen, calls = Seen(**json.loads((folder / "seen").read_text())), (folder / "log").read_text().splitlines()
    wanted = faults(calls, options.all, skipped(verb, seen, options.all))

    def work(worker: int) -> None:
        found = []
        for call, fault in wanted[worker::WORKERS]:
            problems = one(verb, folder / f"run{worker}", seen, counted(calls, fault), options.mutation)
            if problems:
                found.append((f"call {fault.first} ({call}): {fault}", problems))
        (folder / f"found{worker}").write_text(json.dumps(found))

    shared(work)
    failures = [each for worker in range(WORKERS) for each in json.loads((folder / f"found{worker}").read_text())]
    report = {
        "calls": len(calls),
        "faults": len(wanted),
        "operations": sorted({call.split()[0] for call in calls}),
        "failures": failures,
        "seconds": round(time.perf_counter() - started, 1),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.exit(main())
