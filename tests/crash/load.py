"""Some writers and a reader on an ageing store, killed again and again at random times; prints what was wrong.

    python -m tests.crash.load FOLDER ROUNDS SEED [MUTATION]

Writers note every call in a ledger before ("try") and after ("ok") it. A call that was cut short is in doubt: after
the round the store says which, and the ledger goes on from there. Each writer has batches of its own, and every call
concerns a whole batch, so that half a call shows as half a batch; or a counter of its own: of saves of a state, of
meetings of a pair of the lattice, of uses of a memory. This process only imports, so that it can be forked.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import faiss  # noqa: F401 - imported before the forks, so that each does not pay for it
import numpy as np

import vectorstore as vs
from tests.crash.model import matrix_of, similarities, vector_of
from tests.crash.mutations import MUTATIONS
from tests.crash.verify import litter

vs.open  # noqa: B018 - loads the package
WRITERS = 4
COUNTERS = ("save", "meet", "touch")
SMALL = vs.IndexRecipe("small", "LSH128rt", ({"candidates": 40},), min_recall=0.0)


@dataclass(frozen=True)
class Batch:
    """What the ledger says of one batch; `status` is live, gone or erased; or of a counter, whose revision it is.

    `twins` is the revision of the analogies that were written with it in one transaction; 0 when there are none.
    """

    size: int
    revision: int
    vectors: int
    status: str
    twins: int = 0

    def after(self, verb: str, revision: int) -> Batch:
        """The batch after one more call."""
        match verb:
            case "upsert":
                return replace(self, revision=revision, vectors=revision, status="live")
            case "both":
                return replace(self, revision=revision, vectors=revision, status="live", twins=revision)
            case "update":
                return replace(self, revision=revision, status="live")
            case "delete":
                return replace(self, status="gone")
            case "restore":
                return replace(self, status="live")
            case "purge":
                return replace(self, status="erased")
        return replace(self, revision=revision, status="counter")


class Ledger:
    """A file outside the store; every line is one write call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, *entry: Any) -> None:
        os.write(self._handle, (json.dumps(entry) + "\n").encode())

    def read(self) -> tuple[dict[str, Batch], list[Any] | None]:
        """(the batches, the call in doubt)."""
        batches: dict[str, Batch] = {}
        doubt: list[Any] | None = None
        for line in self.path.read_text().splitlines():
            word, *call = json.loads(line)
            if word == "try":
                doubt = call
            else:
                if word == "ok" and doubt is not None:
                    apply(batches, doubt)
                doubt = None
        return batches, doubt


def apply(batches: dict[str, Batch], call: list[Any]) -> None:
    verb, name, size, revision = call
    if name:
        batches[name] = batches.get(name, Batch(size, 0, 0, "erased")).after(verb, revision)


def names_of(batch: str, size: int) -> list[str]:
    return [f"{batch}-{number}" for number in range(size)]


def call_of(store: vs.Store, call: list[Any]) -> None:
    """Carry out one call of the ledger."""
    verb, batch, size, revision = call
    names = names_of(batch, size) if batch else []
    fields = [
        {"id": n, "name": n, "domain": batch, "definition": f"r{revision}", "extra": {"size": size}} for n in names
    ]
    match verb:
        case "upsert":
            store.concepts.upsert(fields, vectors=matrix_of(names, revision))
        case "both":
            with store.transaction():
                store.concepts.upsert(fields, vectors=matrix_of(names, revision))
                store.analogies.upsert([{"id": n, "a": batch, "b": f"r{revision}"} for n in names])
        case "update":
            store.concepts.update(fields)
        case "delete":
            assert store.concepts.delete(where={"domain": batch}) == size
        case "restore":
            assert store.concepts.restore(where={"domain": batch}) == size
        case "purge":
            assert store.concepts.purge(names) == size
        case "rebuild":
            try:
                store.rebuild("concepts", SMALL)
            except (vs.DerivedError, vs.ValidationError):
                return  # another writer compacted meanwhile, or there are no vectors yet
        case "save":
            state = store.state(batch, keep=3)
            state.load()
            state["n"], state["numbers"] = revision, np.full(500, revision)
            state.save()
        case "meet":
            store.lattice.resolve(batch, "all")
        case "touch":
            if store.memories.get(batch) is None:
                store.memories.add({"id": batch, "content": batch}, vectors=matrix_of([batch], 0))
            store.memories.touch(batch)
        case _:
            getattr(store, verb)()


def counted(store: vs.Store, name: str) -> int:
    """What a counter is at; half a save is none."""
    if name.endswith("save"):
        state = store.state(name)
        if not state.load():
            return 0
        return int(state["n"]) if (state["numbers"] == state["n"]).all() else -1
    if name.endswith("meet"):
        form = store.lattice.fetch(f"all_{name}")
        assert form is None or store.lattice.verify(form.anchor) == ()
        return 0 if form is None else int(form.events) - 1
    memory = store.memories.get(name)
    return 0 if memory is None else memory.access_count


def calls(chance: random.Random, batches: dict[str, Batch], writer: int) -> Iterator[list[Any]]:
    """Calls without end, each possible when it is made; the caller applies them."""
    while True:
        verb = chance.choices(
            ["new", "upsert", "both", "update", "delete", "restore", "purge", "flush", "rebuild", "compact", *COUNTERS],
            [30, 10, 6, 15, 10, 6, 4, 8, 3, 3, 6, 6, 6],
        )[0]
        if verb == "new":
            size = 1030 if chance.random() < 0.04 else chance.randint(1, 40)
            yield [chance.choice(["upsert", "both"]), f"w{writer}x{len(batches)}", size, 1]
        elif verb in ("flush", "rebuild", "compact"):
            yield [verb, "", 0, 0]
        elif verb in COUNTERS:
            name = f"w{writer}{verb}"
            yield [verb, name, 0, batches[name].revision + 1 if name in batches else 1]
        else:
            wanted = "gone" if verb in ("restore", "purge") else "live"
            able = [name for name, batch in batches.items() if batch.status == wanted]
            if able:
                name = chance.choice(able)
                yield [verb, name, batches[name].size, batches[name].revision + 1]


def write(root: Path, ledger: Ledger, writer: int, seed: int, mutation: str | None) -> None:
    if mutation is not None:
        MUTATIONS[mutation]()
    batches, _ = ledger.read()
    with vs.open(root, embedder=None, auto_publish=False) as store:
        for call in calls(random.Random(seed), batches, writer):
            ledger.note("try", *call)
            call_of(store, call)
            ledger.note("ok")
            apply(batches, call)


def read(root: Path, seed: int) -> None:
    """Looks at whole batches for ever: all of one is there, in one revision, or nothing."""
    chance = random.Random(seed)
    with vs.open(root, embedder=None, read_only=True) as store:
        while True:
            for hit in store.concepts.search(vector_of("query", chance.randrange(50)), k=3):
                domain, size = hit.record.domain, hit.record.extra["size"]
                found = store.concepts.search(vector_of("query", 0), k=2000, where={"domain": domain})
                page = store.concepts.find({"domain": domain}, limit=2000)
                for records in ([hit.record for hit in found], list(page)):
                    assert len(records) in (0, size), f"{domain}: {len(records)} of {size}"
                    assert len({record.definition for record in records}) <= 1, f"{domain}: two revisions"
                twins = list(store.analogies.find({"a": domain}, limit=2000))
                assert len(twins) in (0, size) and len({twin.b for twin in twins}) <= 1, f"{domain}: half its twins"


def fork(work: Callable[[], None], errors: Path) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            with errors.open("a") as file:
                file.write(traceback.format_exc())
        finally:
            os._exit(1)
    return child


def hold(children: list[int]) -> None:
    """Stop processes; when this returns, each of their threads has stopped or waits in the kernel, and comes no further."""
    for child in children:
        os.kill(child, signal.SIGSTOP)
    for stat in [path / "stat" for child in children for path in Path(f"/proc/{child}/task").iterdir()]:
        with contextlib.suppress(OSError):  # a thread that ends meanwhile comes no further either
            while stat.read_text().rpartition(")")[2].split()[0] not in "TDZX":
                time.sleep(0.0005)


def settle(root: Path, ledgers: list[Ledger], problems: Path) -> None:
    """Compare the store with the ledgers, and write down what became of the calls in doubt."""
    wrong: list[str] = []
    with vs.open(root, embedder=None, auto_publish=False) as store:
        records: dict[str, list[vs.Concept]] = {}
        for record in store.concepts.stream():
            records.setdefault(str(record.domain), []).append(record)
        twins: dict[str, list[vs.Analogy]] = {}
        for twin in store.analogies.stream():
            twins.setdefault(str(twin.a), []).append(twin)
        expected: dict[str, Batch] = {}
        for ledger in ledgers:
            batches, doubt = ledger.read()
            if doubt is not None:
                after = dict(batches)
                apply(after, doubt)
                happened = agrees(store, records, twins, after, doubt[1]) if doubt[1] else True
                ledger.note("ok" if happened else "no")
                batches = after if happened else batches
            expected |= batches
        for name, batch in expected.items():
            if not agrees(store, records, twins, {name: batch}, name):
                revisions = {record.definition for record in records.get(name, [])}
                wrong.append(f"{name}: expected {batch}, found {len(records.get(name, []))} of {sorted(revisions)}")
        wrong += [f"{name} was never written" for name in records.keys() - expected.keys()]
        wrong += scores(store, {name: batch for name, batch in expected.items() if batch.status == "live"})
        wrong += [f"check found: {finding}" for finding in store.check().findings]
        store.sweep(0)
        wrong += [f"litter after sweep: {name}" for name in litter(store, root)]
    problems.write_text(json.dumps([*wrong, len(expected), sum(b.size for b in expected.values())]))


def agrees(
    store: vs.Store,
    records: dict[str, list[Any]],
    twins: dict[str, list[vs.Analogy]],
    batches: dict[str, Batch],
    name: str,
) -> bool:
    """Whether the whole batch is as it should be; erased and deleted ones differ in what is left to restore."""
    batch = batches[name]
    if batch.status == "counter":
        return counted(store, name) == batch.revision
    mine = twins.get(name, [])
    if len(mine) != (batch.size if batch.twins else 0) or {twin.b for twin in mine} - {f"r{batch.twins}"}:
        return False
    found = records.get(name, [])
    with store._catalog.read() as connection:
        gone = connection.execute(
            "SELECT count(*) FROM concepts WHERE domain = ? AND deleted_at IS NOT NULL", (name,)
        ).fetchone()[0]
    if batch.status != "live":
        return not found and gone == (batch.size if batch.status == "gone" else 0)
    return len(found) == batch.size and {r.definition for r in found} == {f"r{batch.revision}"} and gone == 0


def scores(store: vs.Store, live: dict[str, Batch]) -> list[str]:
    """Where searches differ from brute force; ties are compared as sets, since two writers have no common order."""
    ids = [name for batch, state in live.items() for name in names_of(batch, state.size)]
    if not ids:
        return []
    vectors = np.concatenate([matrix_of(names_of(b, s.size), s.vectors) for b, s in live.items()])
    truth = dict(zip(ids, similarities(vector_of("query", 0), vectors, "cosine").tolist(), strict=True))
    hits = store.concepts.search(vector_of("query", 0), k=len(ids) + 5, exact=True)
    wrong = [f"{hit.id} has a wrong score" for hit in hits if truth.get(hit.id) != hit.score]
    if [hit.score for hit in hits] != sorted(truth.values(), reverse=True) or set(hits.ids) != set(truth):
        wrong.append(f"a search finds {len(hits)} of {len(ids)}")
    if len(store.concepts.search(vector_of("query", 1), k=10)) != min(10, len(ids)):
        wrong.append("a search is short")
    return wrong


def rounds_of(
    folder: Path,
    root: Path,
    rounds: int,
    seed: int,
    mutation: str | None = None,
    cut: Callable[[], None] | None = None,
    mend: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Rounds of load, kill and look.

    Args:
        folder: where the ledgers lie, outside of what may be lost.
        root: the store.
        rounds: how many.
        seed: of everything that is random.
        mutation: a fault of the store's own, planted on purpose.
        cut: a power cut, just before the processes are killed. They are held first: a file system that is being shut
            down can still tell a waiting sync that it succeeded, and without power nobody would hear of it.
        mend: what makes the store's place usable again after that.
    """
    errors, problems = folder / "errors", folder / "problems"
    chance, started = random.Random(seed), time.perf_counter()
    vs_made = fork(lambda: vs.open(root, embedder=None).close(), errors)
    os.waitpid(vs_made, 0)
    errors.touch()
    wrong: list[str] = []
    sizes: list[int] = [0, 0]
    kills = 0
    ledgers = [Ledger(folder / f"ledger{writer}") for writer in range(WRITERS)]
    for number in range(rounds):
        children = [
            fork(lambda w=w: write(root, ledgers[w], w, chance.randrange(2**31) + w, mutation), errors)
            for w in range(WRITERS)
        ]
        children.append(fork(lambda: read(root, chance.randrange(2**31)), errors))
        chance.random()
        time.sleep(chance.uniform(0.1, 1.0))
        if cut is not None:
            hold(children)
            before = [ledger.path.stat().st_size for ledger in ledgers]
            cut()
        for child in sorted(children, key=lambda _: chance.random()):
            os.kill(child, signal.SIGKILL)
            kills += 1
            time.sleep(chance.choice([0, 0, 0.02]))
        statuses = [os.waitpid(child, 0)[1] for child in children]
        wrong += [f"round {number}: a process ended by itself" for s in statuses if not os.WIFSIGNALED(s)]
        if cut is not None and before != [ledger.path.stat().st_size for ledger in ledgers]:
            wrong.append(f"round {number}: the rig heard of a call after the power was cut")
        mend()
        problems.unlink(missing_ok=True)
        os.waitpid(fork(lambda: settle(root, ledgers, problems), errors), 0)
        found = json.loads(problems.read_text()) if problems.exists() else ["the look at it failed", 0, 0]
        wrong += [f"round {number}: {problem}" for problem in found[:-2]]
        sizes = found[-2:]
        if wrong or errors.stat().st_size:
            break
    acknowledged = sum(ledger.path.read_text().count('["ok"') for ledger in ledgers)
    return {
        "rounds": number + 1,
        "kills": kills,
        "acknowledged": acknowledged,
        "batches": sizes[0],
        "records": sizes[1],
        "wrong": wrong,
        "errors": errors.read_text(),
        "seconds": time.perf_counter() - started,
    }


def main() -> int:
    """Rounds in a folder."""
    folder = Path(sys.argv[1])
    mutation = sys.argv[4] if len(sys.argv) > 4 else None
    report = rounds_of(folder, folder / "kb", int(sys.argv[2]), int(sys.argv[3]), mutation)
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
