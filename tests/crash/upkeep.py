"""Two writers on an ageing store while compactions and backups are killed, each at random times; prints what was wrong.

    python -m tests.crash.upkeep FOLDER KILLS SEED

The writers keep ledgers, as in `load.py`, and go on for the whole run. One process compacts (and drops and makes
snapshots) for ever, one makes backups for ever; one of the two is killed at a time, and started again. In the end the
store must be what the ledgers say, and every backup that has a manifest a store in which each batch is whole.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import vectorstore as vs
from tests.crash.load import WRITERS, Ledger, fork, settle, write


def compact(root: Path) -> None:
    with vs.open(root, embedder=None, auto_publish=False) as store:
        for number in range(10**6):
            store.compact()
            if number % 3 == 0:
                for each in store.snapshots.list():
                    store.snapshots.drop(each.name)
                store.snapshots.add("lately")
            store.maintain(vs.Policy(retired_share=0.05))


def back_up(root: Path, place: Path) -> None:
    with vs.open(root, embedder=None, auto_publish=False) as store:
        while True:
            store.backup(place, keep=6)


def look(place: Path, folder: Path, problems: Path) -> None:
    """Restore what there is, and see that no batch is half."""
    wrong = list(vs.Backups(place).verify().problems)
    generations = vs.Backups(place).list()
    for generation in generations:
        again = folder / generation.id
        vs.restore(place, again, generation=generation.id)
        with vs.open(again, embedder=None, read_only=True) as store:
            if store.moment.seq != generation.seq:
                wrong.append(f"{generation.id} is of another commit")
            batches: dict[str, list[vs.Concept]] = {}
            for record in store.concepts.stream():
                batches.setdefault(str(record.domain), []).append(record)
            for name, records in batches.items():
                if len(records) != records[0].extra["size"] or len({record.definition for record in records}) > 1:
                    wrong.append(f"{generation.id}: {name} is half there")
            wrong += [f"{generation.id}: {finding}" for finding in store.check().findings]
    problems.write_text(json.dumps([*wrong, len(generations)]))


def main() -> int:
    """Kills, then a look."""
    folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    root, place, errors, problems = (folder / name for name in ("kb", "backups", "errors", "problems"))
    chance, started = random.Random(seed), time.perf_counter()
    os.waitpid(fork(lambda: vs.open(root, embedder=None).close(), errors), 0)
    errors.touch()
    ledgers = [Ledger(folder / f"ledger{writer}") for writer in range(WRITERS)]
    writers = [fork(lambda w=w: write(root, ledgers[w], w, seed + w, None), errors) for w in range(WRITERS)]  # type: ignore[misc]
    starts = [lambda: compact(root), lambda: back_up(root, place)]
    running = [fork(work, errors) for work in starts]
    wrong: list[str] = []
    for number in range(kills):
        time.sleep(chance.uniform(0.05, 0.6))
        victim = number % 2
        os.kill(running[victim], signal.SIGKILL)
        _, status = os.waitpid(running[victim], 0)
        if not os.WIFSIGNALED(status):
            wrong.append(f"kill {number}: the process had ended by itself")
        running[victim] = fork(starts[victim], errors)
    for child in (*writers, *running):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.waitpid(fork(lambda: settle(root, ledgers, problems), errors), 0)
    found = json.loads(problems.read_text()) if problems.exists() else ["the look at the store failed", 0, 0]
    wrong += found[:-2]
    problems.unlink(missing_ok=True)
    os.waitpid(fork(lambda: look(place, folder, problems), errors), 0)
    seen = json.loads(problems.read_text()) if problems.exists() else ["the look at the backups failed", 0]
    wrong += seen[:-1]
    report = {
        "kills": kills,
        "acknowledged": sum(ledger.path.read_text().count('["ok"') for ledger in ledgers),
        "records": found[-1],
        "backups": seen[-1],
        "wrong": wrong,
        "errors": errors.read_text(),
        "seconds": time.perf_counter() - started,
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
