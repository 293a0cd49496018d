"""Damages each file of a store in turn, in every way it can rot or be mixed up; prints what was wrong.

    python -m tests.faults.rot FOLDER KIND [--all] [--mutation NAME]

KIND is the part of the store whose files are damaged: catalog, wal, segments, indexes, models, trail or beside. Whoever
looks at a damaged store is a process of its own, with limited memory and time. What it is answered is right, or a typed
error; what is wrong is found by a check, which names the file. This process only imports, so that it can be forked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import vectorstore as vs
from tests.crash.child import WORKERS
from tests.crash.model import DIM, similarities
from tests.crash.same import PREPARED, Rows, Ticking, determined, differing, rows_of
from tests.faults.child import shared, where
from vectorstore import files
from vectorstore.storage.catalog import Catalog

MEMORY = 3 << 30
BOOKKEEPING = {"kinds", "artifacts", "spaces", "segments", "_sqlite_migrations", "memberships"}
"""Tables that answers do not follow from, or whose values are proved wherever they are used: flags of a declaration, the
time when an index was built or the catalog migrated. A change there that has no effect need not be found; nor is one of
how close a member is to its cluster, as docs/reliability.md says."""
PATIENCE = 60
COUNT = 90
WORDS = ("heat", "flow", "tone", "king", "wave")
Damage = Callable[[Path], None]


# -- a store with everything -------------------------------------------------------------------------------------------


def vectors_of(first: int, count: int) -> np.ndarray:
    return np.random.default_rng(7).integers(1, 9, (COUNT, DIM))[first : first + count].astype(np.float32)


def record_of(number: int) -> dict[str, Any]:
    """What a concept says; everything in it follows from its number."""
    word, other = WORDS[number % 5], WORDS[number // 5 % 5]
    tags = ["even", "all"] if number % 2 == 0 else ["all"]
    return {"id": f"c{number:03d}", "name": f"{word} {number}", "definition": f"{word} and {other}", "tags": tags}


def put(store: vs.Store, first: int, count: int) -> None:
    store.concepts.add([record_of(n) for n in range(first, first + count)], vectors=vectors_of(first, count))


def prepare(root: Path, told: Path) -> None:
    """A store whose last commits still lie in its WAL, as a crash leaves it; and the rows after each commit."""
    determined()
    states: list[Rows] = []
    commit = Catalog._commit

    def committed(catalog: Catalog, connection: Any) -> None:
        commit(catalog, connection)
        states.append(rows_of(connection))

    Catalog._commit = committed  # type: ignore[method-assign]
    store = vs.open(root, embedder=None, auto_publish=False, clock=Ticking(PREPARED))
    put(store, 0, 40)
    store.flush()
    put(store, 40, 30)
    store.flush()
    store.rebuild("concepts", "simhash512")
    store.clusters.fit("concepts", "kmeans", 3)
    store.models.put("net", b"weights" * 500)
    store.trail.rotate()
    state = store.state("agent")
    state["n"] = 1
    state.save()
    store.compact()  # and so everything so far is in the catalog itself
    put(store, 70, 10)
    store.flush()
    put(store, 80, 10)
    state["n"] = 2
    state.save()
    told.write_text(json.dumps(states))
    os._exit(0)  # as a crash does, so that the WAL stays


# -- damage ------------------------------------------------------------------------------------------------------------


def flip(place: float, bit: int) -> Damage:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        written = np.flatnonzero(np.frombuffer(data, dtype=np.uint8))  # what is zero is mostly no data
        data[int(written[min(int(len(written) * place), len(written) - 1)])] ^= 1 << bit
        rewrite(path, bytes(data))

    return damage


def rewrite(path: Path, data: bytes) -> None:
    """Other bytes under the name; the former file may be mapped by somebody, and is not touched."""
    path.unlink()
    path.write_bytes(data)


def cut(share: float) -> Damage:
    return lambda path: rewrite(path, path.read_bytes()[: int(path.stat().st_size * share)])


def zeros(start: float, length: int) -> Damage:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        first = int(len(data) * start)
        data[first : first + length] = bytes(len(data[first : first + length]))
        rewrite(path, bytes(data))

    return damage


def longer(path: Path) -> None:
    rewrite(path, path.read_bytes() + bytes(4096))


def swapped(path: Path) -> None:
    """With another file of its folder, or with text."""
    others = sorted(p for p in path.parent.iterdir() if p.is_file() and p != path and p.suffix == path.suffix)
    rewrite(path, others[0].read_bytes() if others else b"something else altogether\n" * 100)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def linked(path: Path) -> None:
    """A link to the very same bytes elsewhere."""
    elsewhere = path.parent.parent / f"{path.name}.elsewhere"
    shutil.copy(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)


def damages(kind: str, every: bool, chance: random.Random) -> Iterator[tuple[str, Damage]]:
    """(name, damage) of a file."""
    flips = {"catalog": 400, "wal": 60}.get(kind, 24) * (10 if every else 1)
    for number in range(flips):
        place, bit = (number + chance.random()) / flips, chance.randrange(8)
        yield f"bit {bit} flipped at {place:.4f}", flip(place, bit)
    for share in (0.0, 0.01, 0.5, 0.9, 0.999):
        yield f"cut to {share:.1%}", cut(share)
    for start in (0.0, 0.3, 0.7):
        yield f"4 kB of zeros at {start:.0%}", zeros(start, 4096)
    yield "all zeros", zeros(0.0, 1 << 40)
    yield "longer", longer
    yield "swapped", swapped
    yield "removed", Path.unlink
    yield "a folder", folder
    yield "a FIFO", fifo
    yield "a dangling link", dangling
    yield "a link to /dev/zero", endless
    yield "a link to the same bytes", linked


def victims(root: Path, kind: str) -> list[Path]:
    """The files of a kind."""
    patterns = {
        "catalog": ["catalog.sqlite"],
        "wal": ["catalog.sqlite-wal"],
        "segments": ["embeddings/*/*"],
        "indexes": ["indexes/*/*"],
        "models": ["models/*"],
        "trail": ["trail/*"],
        "beside": ["store.lock", "catalog.sqlite-shm"],
    }
    return sorted(path for pattern in patterns[kind] for path in root.glob(pattern) if path.is_file())


# -- looking at it -----------------------------------------------------------------------------------------------------


class Look:
    """What a process meets in a damaged store."""

    def __init__(self, root: Path, states: list[Rows]) -> None:
        self.root, self.states = root, states
        self.wrong: list[str] = []
        self.refused: list[str] = []
        self.findings: list[str] = []
        self.derived = True
        self.differing: list[str] = []
        self.count: int | None = None

    def ask(self, what: str, question: Callable[[], object]) -> None:
        """A question that is answered right (it returns), or refused by a typed error."""
        try:
            question()
        except AssertionError as error:
            self.wrong.append(f"{what}: {error}")
        except vs.VectorstoreError as error:
            self.refused.append(f"{what}: {error}")
        except BaseException as error:
            self.wrong.append(f"{what}: not a typed error: {error!r}{where(error)}")

    def rows(self) -> None:
        """Whether the rows are those of a commit; for reading, as opening it for writing may sweep."""
        with vs.open(self.root, embedder=None, read_only=True) as store, store._catalog.read() as connection:
            try:
                self.differing = differing(rows_of(connection), self.states)
            except (sqlite3.Error, UnicodeError, TypeError):  # names that are none any more; the questions tell more
                self.differing = []

    def all(self) -> None:
        self.ask("rows", self.rows)
        try:
            store = vs.open(self.root, embedder=None, auto_publish=False)
        except vs.VectorstoreError as error:
            self.refused.append(f"open: {error}")
            return
        except BaseException as error:
            self.wrong.append(f"open: not a typed error: {error!r}{where(error)}")
            return
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: self.ask("close", store.close))
            self.ask("get", lambda: self.get(store))
            for number in range(3):
                self.ask("search", lambda number=number: self.search(store, number))  # type: ignore[misc]
            self.ask("text", lambda: self.text(store))
            self.ask("tags", lambda: self.tags(store))
            self.ask("state", lambda: self.state(store))
            self.ask("model", lambda: self.model(store))
            self.ask("check", lambda: self.check(store))

    def there(self, store: vs.Store) -> list[int]:
        return [int(record.id[1:]) for record in store.concepts.stream()]

    def get(self, store: vs.Store) -> None:
        numbers = self.there(store)
        self.count = len(numbers)
        assert numbers in ([*range(n)] for n in (0, 40, 70, 80, 90)), f"{len(numbers)} records"
        for number in numbers:
            record = store.concepts.get(f"c{number:03d}")
            assert record is not None, f"c{number:03d} is gone"
            said = record_of(number)
            assert (record.name, record.definition, list(record.tags)) == (
                said["name"],
                said["definition"],
                sorted(said["tags"]),
            ) or (record.name, record.definition, list(record.tags)) == (
                said["name"],
                said["definition"],
                said["tags"],
            ), f"{record.id} says something else"

    def search(self, store: vs.Store, number: int) -> None:
        count = len(self.there(store))
        query = vectors_of(number * 17, 1)[0] + 1
        scores = similarities(query.tolist(), vectors_of(0, count), "cosine") if count else np.zeros(0)
        order = np.lexsort((np.arange(count), -scores))
        expected = [(f"c{place:03d}", float(scores[place])) for place in order]
        exact = store.concepts.search(query, k=100, exact=True)
        assert [(hit.id, hit.score) for hit in exact] == expected, "an exact search differs from brute force"
        quick = store.concepts.search(query, k=10)
        truth = dict(expected)
        assert all(truth.get(hit.id) == hit.score for hit in quick), "a search gave a wrong score"
        assert len(quick) == min(10, count), "a search is short"

    def text(self, store: vs.Store) -> None:
        for word in WORDS:
            expected = {f"c{n:03d}" for n in self.there(store) if word in record_of(n)["definition"]}
            found = set(store.concepts.search(word, k=100, mode="text").ids)
            assert found == expected, f"{word!r} finds {len(found)} of {len(expected)}"

    def tags(self, store: vs.Store) -> None:
        expected = sum(n % 2 == 0 for n in self.there(store))
        assert store.concepts.count({"tags__has": "even"}) == expected, "a tag finds others"

    def state(self, store: vs.Store) -> None:
        state = store.state("agent")
        assert not state.load() or state["n"] in (1, 2), "a state says something else"

    def model(self, store: vs.Store) -> None:
        if store.models.list("net").total:
            assert store.models.get("net") == b"weights" * 500, "a blob is another one"
        if store.clusters.lines():
            assert store.clusters.model().cluster_centers_.shape == (3, DIM), "a model is another one"

    def check(self, store: vs.Store) -> None:
        report = store.check()
        self.findings = [f"{finding.where}: {finding.what} | {finding.mend}" for finding in report.findings]
        self.derived = all(finding.derived for finding in report.findings)
        if report.findings and self.derived:
            store.repair(dry_run=False)
            left = store.check().findings
            assert left == (), f"a repair of what is derived leaves {left[0]}"
            self.search(store, 5)


def one(folder: Path, victim: str, damage: Damage, states: list[Rows], mutation: str | None) -> dict[str, Any]:
    """What a process of its own says of a store with one damage."""
    root, told = folder / "kb", folder / "told"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copytree(folder.parent / "prepared", root)
    damage(root / victim)
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(PATIENCE)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            if mutation is not None:
                MUTATIONS[mutation]()
            look = Look(root, states)
            look.all()
            found = {"wrong": look.wrong, "refused": look.refused, "findings": look.findings, "derived": look.derived}
            found |= {"differing": look.differing, "count": look.count}
            told.write_text(json.dumps(found))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if not told.exists():
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
        return {
            "wrong": [f"the process ended by {how}"],
            "refused": [],
            "findings": [],
            "derived": False,
            "intact": None,
            "count": None,
        }
    found: dict[str, Any] = json.loads(told.read_text())
    return found


def verdict(kind: str, victim: str, what: str, found: dict[str, Any]) -> list[str]:
    """What is wrong with what was found of a damage.

    Records that SQLite itself cannot find any more may be lacking in an answer, if the check says so: docs/reliability.md.
    """
    wrong = list(found["wrong"])
    if kind == "catalog" and any(each.startswith("catalog.sqlite: ") for each in found["findings"]):
        wrong = [each for each in wrong if not each.startswith(("text: ", "tags: "))]
    noticed = [*found["findings"], *found["refused"]]
    name = Path(victim).name
    if kind in ("segments", "indexes", "models", "trail"):
        if not any(name in each for each in found["findings"]):
            wrong.append("no finding of the check names the file")
        derived = kind == "indexes" or name.endswith(".joblib")
        if found["findings"] and found["derived"] != derived:
            wrong.append(f"it is said to be {'derived' if found['derived'] else 'a source'}")
    elif kind == "catalog" and not noticed and (tables := set(found["differing"]) - BOOKKEEPING):
        wrong.append(f"rows have changed, and nobody noticed: {', '.join(tables)}")
    elif kind == "wal" and not noticed:
        if found["differing"]:
            wrong.append("the rows are those of no commit")
        elif found["count"] != COUNT:
            wrong.append("commits are lost, and nobody noticed")
    return wrong


def silent() -> None:
    """A check finds nothing, whatever there is."""
    from vectorstore import store

    check = store.check
    store.check = lambda *args: replace(check(*args), findings=())


def trusting() -> None:
    """Nobody compares the digests of rows."""
    from vectorstore.storage import tables
    from vectorstore.sync import check

    class Same:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    tables.digest = check.digest = lambda row: Same()  # type: ignore[assignment, return-value]


def follows() -> None:
    """A file is opened whatever it is: through a link, and as long as it is."""

    def read(folder: files.DiskFolder, name: str) -> bytes:
        return (folder.path / name).read_bytes()

    files.DiskFolder.read = read  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {"silent": silent, "trusting": trusting, "follows": follows}


def main() -> int:
    """All damages of one kind of file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("kind")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--mutation", choices=list(MUTATIONS))
    options = parser.parse_args()
    base, started = options.folder, time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            prepare(base / "prepared", base / "states")
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    states = json.loads((base / "states").read_text())
    chance = random.Random(1)
    runs = [
        (str(path.relative_to(base / "prepared")), what, damage)
        for path in victims(base / "prepared", options.kind)
        for what, damage in damages(options.kind, options.all, chance)
    ]

    def work(worker: int) -> None:
        failures, counts = [], {"named": 0, "refused": 0, "harmless": 0}
        for victim, what, damage in runs[worker::WORKERS]:
            found = one(base / f"run{worker}", victim, damage, states, options.mutation)
            wrong = verdict(options.kind, victim, what, found)
            if wrong:
                failures.append((f"{victim}: {what}", wrong))
            counts["named" if found["findings"] else "refused" if found["refused"] else "harmless"] += 1
        (base / f"found{worker}").write_text(json.dumps([failures, counts]))

    shared(work)
    both = [json.loads((base / f"found{worker}").read_text()) for worker in range(WORKERS)]
    report = {
        "files": len({victim for victim, *_ in runs}),
        "damages": len(runs),
        **{key: sum(counts[key] for _, counts in both) for key in both[0][1]},
        "failures": [failure for failures, _ in both for failure in failures],
        "seconds": round(time.perf_counter() - started, 1),
    }
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
