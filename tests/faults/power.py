"""Cuts the power of a file system while a verb writes, at each of its calls, or at random; prints what was wrong.

    LD_PRELOAD=faultio.so python -m tests.faults.power steps VERB FOLDER SYSTEM [--all] [--lie]
    LD_PRELOAD=faultio.so python -m tests.faults.power random ROUNDS FOLDER SYSTEM [--lie]

With `--lie` no sync reaches the disk, which the rig must notice. What is acknowledged is written down elsewhere. This
process only imports, so that it can be forked.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from tests.crash.child import MATRIX, Seen, in_fork, looked, opened, prepare
from tests.crash.load import rounds_of
from tests.crash.same import ACTED, determined
from tests.crash.verbs import Verb, states
from tests.faults.child import shared, skipped, whole
from tests.faults.disks import Disk
from tests.faults.shim import CUT, Fault, Shim

WORKERS = 2


def act(verb: Verb, root: Path, ledger: Path, mounted: Path, first: int, lie: bool) -> None:
    """The steps, until the power goes; it goes at the end at last."""
    handle = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    determined()
    shim = Shim()
    if lie:
        shim.lie()
    shim.arm(root.parent, Fault(first, CUT), mounted)
    store = opened(verb, root, ACTED, kinds=verb.kinds)
    for step in verb.steps:
        step.act(store)
        os.write(handle, b".")
    shim.cut()


def one(verb: Verb, folder: Path, system: str, seen: Seen, first: int, lie: bool) -> list[str]:
    """What is wrong after a cut just before a call."""
    disk, ledger = Disk(folder, system), folder / "ledger"
    ledger.unlink(missing_ok=True)
    ledger.touch()
    root = disk.mount_point / "run" / "store"
    disk.copy_of(folder.parent / "template" / "image")
    try:
        in_fork(lambda: act(verb, root, ledger, disk.mount_point, first, lie))
        disk.unmount()
        disk.mount()
        if verb.empty and not root.parent.exists():
            return ["the folder that was there is gone"]
        return looked(verb, root, ledger.stat().st_size, seen, folder / "result")
    finally:
        disk.unmount()


def steps(verb: Verb, folder: Path, system: str, every: bool, lie: bool) -> dict[str, Any]:
    """A cut before each call, or before those of each kind, and one after the last."""
    states(verb)
    template = Disk(folder / "template", system)
    template.make()
    try:
        place = template.mount_point
        if in_fork(lambda: prepare(verb, place / "prepared")):
            raise SystemExit("the store could not be prepared")
        (place / "run").mkdir()
        if not verb.empty:
            shutil.copytree(place / "prepared", place / "run" / "store")
        os.sync()
    finally:
        template.unmount()
    dry, log = Disk(folder / "dry", system), folder / "log"
    dry.copy_of(template.image)
    try:
        root = dry.mount_point / "run" / "store"
        if in_fork(lambda: whole(verb, root, Shim(), folder / "seen", log)):
            raise SystemExit("the dry run failed")
    finally:
        dry.unmount()
    seen, calls = Seen(**json.loads((folder / "seen").read_text())), log.read_text().splitlines()
    wanted = [*chosen(calls, every, skipped(verb, seen, every)), len(calls)]

    def work(worker: int) -> None:
        found = []
        for first in wanted[worker::WORKERS]:
            problems = one(verb, folder / f"run{worker}", system, seen, first, lie)
            if problems:
                found.append((f"cut before call {first} ({[*calls, 'end'][first]})", problems))
        (folder / f"found{worker}").write_text(json.dumps(found))

    shared(work)
    failures = [each for worker in range(WORKERS) for each in json.loads((folder / f"found{worker}").read_text())]
    return {"calls": len(calls), "cuts": len(wanted), "failures": failures}


def chosen(calls: list[str], every: bool, skip: int) -> list[int]:
    """All calls; or, without the first ones, the first and the last of those that follow each other on one file."""
    places: list[int] = []
    start = skip
    for _, group in itertools.groupby(calls[skip:]):
        size = len(list(group))
        places += [start + each for each in (range(size) if every else sorted({0, size - 1}))]
        start += size
    return places


def at_random(rounds: int, folder: Path, system: str, lie: bool) -> dict[str, Any]:
    """Writers under load on one ageing store; the power goes, all are killed, the store is compared with the ledgers."""
    if lie:
        Shim().lie()
    disk = Disk(folder / "disk", system)
    disk.make()

    def again() -> None:
        disk.unmount()
        disk.mount()

    def cut() -> None:
        disk.cut()

    (folder / "ledgers").mkdir()
    os.sync()
    try:
        return rounds_of(folder / "ledgers", disk.mount_point / "kb", rounds, 1, cut=cut, mend=again)
    finally:
        disk.unmount()


def main() -> int:
    """One verb, or rounds of load."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["steps", "random"])
    parser.add_argument("what")
    parser.add_argument("folder", type=Path)
    parser.add_argument("system", choices=["ext4", "xfs"])
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--lie", action="store_true")
    options = parser.parse_args()
    started = time.perf_counter()
    if options.way == "steps":
        report = steps(MATRIX[options.what], options.folder, options.system, options.all, options.lie)
    else:
        report = at_random(int(options.what), options.folder, options.system, options.lie)
    sys.stdout.write(json.dumps({**report, "seconds": round(time.perf_counter() - started, 1)}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
