"""Progress: who tells it, that it only grows, and that an interruption in the middle leaves a store that agrees."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vectorstore as vs
from tests import interrupted_child
from tests.forked import PROCESSES
from vectorstore import promises

TELLING = {
    "Analogies.discover", "Analogies.relate", "Clusters.fit", "Clusters.refit", "Clusters.trials", "Collection.add",
    "Collection.audit_recall", "Collection.purge", "Collection.update", "Collection.upsert", "Contexts.load",
    "Contexts.save", "Exchange.export", "Exchange.import_", "Fields.discover", "Keeping.backup", "Maps.fit",
    "SearchVerbs.duplicates", "Proving.check", "Store.compact", "Store.publish", "Store.rebuild", "Proving.repair",
    "Trail.verify", "Workflows.process", "Workflows.process_all", "Workflows.rollback",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    with vs.open(home / "kb", "hash:64", auto_publish=False) as store:
        store.concepts.add({"id": f"c{n}", "name": f"name c{n}"} for n in range(3000))
        store.analogies.add({"id": f"a{n}", "a": "x", "b": f"y{n}", "c": "z", "d": "w"} for n in range(50))
    with (home / "more.jsonl").open("w") as file:
        for n in range(6000):
            file.write(json.dumps({"id": f"m{n}", "name": f"more {n}", "definition": "of it"}) + "\n")
    return home


Told = Callable[[int, int], None]


def discoverable(store: vs.Store) -> None:
    """Two domains whose concepts go together, and a context of its own."""
    store.concepts.upsert(
        {"id": f"{domain}{n}", "name": f"part {n} of {domain}", "domain": domain, "context": "apart"}
        for domain in ("sea", "land")
        for n in range(40)
    )


def saved(store: vs.Store, home: Path, told: Told | None = None) -> object:
    discoverable(store)
    return store.contexts.save("apart", home / "apart", progress=told)


def loaded(store: vs.Store, home: Path, told: Told) -> object:
    saved(store, home)
    with vs.open(home / "empty", "hash:64") as empty:
        report = empty.contexts.load(home / "apart", told)
        assert empty.concepts.count({"context": "apart"}) == 80
        return report


def broken(store: vs.Store) -> None:
    """An index that is no index any more."""
    store.rebuild("concepts", "simhash512")
    for file in (store.path / "indexes").rglob("*.faiss"):  # type: ignore[operator]
        file.write_bytes(b"torn")


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "home")


def test_which_verbs_tell_their_progress_is_declared() -> None:
    assert {name for name, verb in promises.VERBS.items() if "progress" in verb.takes} == TELLING


LONG: dict[str, Callable[[vs.Store, Path, Told], object]] = {
    "add": lambda store, _, told: store.concepts.add(({"name": f"n{n}"} for n in range(21_000)), progress=told),
    "upsert": lambda store, _, told: store.concepts.upsert(
        [{"id": f"c{n}", "name": "x"} for n in range(9)], progress=told
    ),
    "update": lambda store, _, told: store.concepts.update([{"id": "c1", "name": "other"}], progress=told),
    "purge": lambda store, _, told: (store.concepts.delete(["c1"]), store.concepts.purge(["c1"], progress=told)),
    "rebuild": lambda store, _, told: store.rebuild("concepts", "simhash512", told),
    "compact": lambda store, _, told: (
        store.concepts.upsert([{"id": f"c{n}", "name": f"other {n}"} for n in range(1500)]),
        store.analogies.upsert([{"id": f"a{n}", "a": "p", "b": "q", "c": "r", "d": f"s{n}"} for n in range(40)]),
        store.flush(),
        store.compact(progress=told),
    ),
    "check": lambda store, _, told: store.check(told),
    "backup": lambda store, home, told: store.backup(home / "backups", progress=told),
    "export": lambda store, home, told: store.export(home / "out.jsonl", progress=told),
    "import": lambda store, home, told: store.import_(home / "more.jsonl", kind="concepts", progress=told),
    "map": lambda store, _, told: store.maps.fit("concepts", progress=told),
    "relate": lambda store, _, told: store.analogies.relate(progress=told),
    "publish": lambda store, _, told: store.publish("concepts", told),
    "publish all": lambda store, _, told: (store.rebuild("concepts", "simhash512"), store.publish(progress=told)),
    "repair": lambda store, _, told: (broken(store), store.repair(dry_run=False, progress=told)),
    "repair, dry": lambda store, _, told: store.repair(progress=told),
    "fit": lambda store, _, told: store.clusters.fit(n=5, progress=told),
    "fit, of scikit-learn": lambda store, _, told: store.clusters.fit(recipe="minibatch", n=5, progress=told),
    "refit": lambda store, _, told: (store.clusters.fit(n=5), store.clusters.refit(n=6, progress=told)),
    "trials": lambda store, _, told: store.clusters.trials(n=5, seeds=(1, 2), progress=told),
    "discover": lambda store, _, told: (
        discoverable(store),
        store.analogies.discover("sea", "land", min_quality=0.0, progress=told),
    ),
    "discover nothing": lambda store, _, told: (
        discoverable(store),
        store.analogies.discover("sea", "land", min_quality=1.0, progress=told),
    ),
    "fields": lambda store, _, told: (
        store.clusters.fit(n=5),
        store.fields.discover(min_coherence=-1.0, progress=told),
    ),
    "duplicates": lambda store, _, told: list(store.concepts.duplicates(0.99, progress=told)),
    "audit": lambda store, _, told: store.concepts.audit_recall(sample=20, progress=told),
    "save": saved,
    "load": loaded,
    "verify": lambda store, _, told: (
        [store.concepts.update({"id": "c1", "quality": 0.5}) for _ in range(5)],
        store.trail.verify(progress=told),
    ),
    "process": lambda store, _, told: (
        store.workflows.create("concepts", [{"name": f"w{n}"} for n in range(500)], id="w"),
        store.workflows.process("w", progress=told),
    ),
}


@pytest.mark.parametrize("verb", LONG)
def test_progress_only_grows_and_ends_at_its_total(home: Path, verb: str) -> None:
    heard: list[tuple[int, int]] = []
    with vs.open(home / "kb", auto_publish=False) as store:
        LONG[verb](store, home, lambda done, of: heard.append((done, of)))
    assert heard, "nothing was told"
    dones = [done for done, _ in heard]
    assert dones == sorted(dones) and all(0 <= done <= of for done, of in heard)
    assert heard[-1][0] == heard[-1][1]


class Enough(Exception):
    """What a caller raises who has seen enough."""


@pytest.mark.parametrize(
    ("verb", "at"),
    [*((verb, 0.5) for verb in LONG), *((verb, at) for verb in ("fit", "import", "load") for at in (0.0, 1.0))],
)
def test_what_progress_raises_ends_the_verb_and_the_store_agrees(home: Path, verb: str, at: float) -> None:
    def told(done: int, of: int) -> None:
        if done >= at * of:
            raise Enough

    with vs.open(home / "kb", auto_publish=False) as store:
        with pytest.raises(Enough):
            LONG[verb](store, home, told)
        if verb == "repair":
            store.repair(dry_run=False)
        assert store.check().findings == ()
        assert store.concepts.search("name c2999", k=1, exact=True).ids == ["c2999"]
        ours = store.concepts.count({"id__startswith": "c"})
        assert ours == (2999 if verb == "purge" else 3000)
    left = {path.name for path in home.iterdir()} - {"kb", "more.jsonl", "out.jsonl", "backups", "apart", "empty"}
    assert left == set()
    if verb == "save" and at < 1:
        assert not (home / "apart").exists()
    if verb == "load" and at < 1:
        with vs.open(home / "empty") as empty:
            assert empty.concepts.count() == 0 and empty.check().findings == ()


@pytest.mark.parametrize("delay", [0.0, 0.05])
@pytest.mark.parametrize("verb", ["import", "export", "rebuild", "fit", "compact"])
def test_interrupted_in_the_middle_a_store_agrees_with_itself(home: Path, verb: str, delay: float) -> None:
    begun = PROCESSES.Event()
    child = PROCESSES.Process(target=interrupted_child.main, args=(verb, home, begun))
    child.start()
    assert begun.wait(120)
    time.sleep(delay)
    os.kill(child.pid or 0, signal.SIGINT)
    child.join(120)
    assert child.exitcode == 130
    with vs.open(home / "kb", auto_publish=False) as store:
        assert store.check().findings == ()
        ours = store.concepts.count({"id__startswith": "c"})
        assert ours in ((3000, 2000) if verb == "compact" else (3000,))
        assert store.concepts.count({"id__startswith": "m"}) in ((0, 6000) if verb == "import" else (0,))
        assert len(store.clusters) in ((0, 20) if verb == "fit" else (0,))
        assert store.concepts.search("name c2999", k=1, exact=True).ids == ["c2999"]
        lines = (home / "out.jsonl").read_text().splitlines() if (home / "out.jsonl").exists() else []
    assert not lines or (verb == "export" and all(json.loads(line) for line in lines))
    assert [path.name for path in home.iterdir() if path.name not in ("kb", "more.jsonl", "out.jsonl")] == []
