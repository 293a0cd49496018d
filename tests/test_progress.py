"""Progress: who tells it, that it only grows, and that an interruption in the middle leaves a store that agrees."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import vectorstore as vs
from vectorstore import promises

CHILD = Path(__file__).parent / "interrupted_child.py"
TELLING = {
    "Analogies.relate", "Collection.add", "Collection.purge", "Collection.update", "Collection.upsert", "Maps.fit",
    "Exchange.export", "Exchange.import_", "Keeping.backup", "Proving.check", "Store.compact", "Store.rebuild",
    "Workflows.process", "Workflows.process_all", "Workflows.rollback",
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


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "home")


def test_which_verbs_tell_their_progress_is_declared() -> None:
    assert {name for name, verb in promises.VERBS.items() if "progress" in verb.takes} == TELLING


LONG: dict[str, Callable[[vs.Store, Path, Callable[[int, int], None]], object]] = {
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


@pytest.mark.parametrize("delay", [0.0, 0.05])
@pytest.mark.parametrize("verb", ["import", "export", "rebuild", "fit", "compact"])
def test_interrupted_in_the_middle_a_store_agrees_with_itself(home: Path, verb: str, delay: float) -> None:
    child = subprocess.Popen(
        [sys.executable, str(CHILD), verb, str(home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert any(line == "now\n" for line in iter(child.stdout.readline, ""))
    time.sleep(delay)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130, said
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
