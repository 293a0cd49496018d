"""Every command in a process of its own, with its exit code; a command that is not in the table fails the first test."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import vectorstore as vs
from tests.forked import vectorstore
from vectorstore.cli import app

Call = tuple[str, int, str]
"""(the command as it is typed, its exit code, what is found on stdout or, of failures, on stderr)."""

CALLS: list[Call] = [
    ("init new", 0, "new is a store with the kinds"),
    ("add kb concepts --embedder hash -f name=emperor", 0, "default:emperor"),
    ("add kb concepts -f id=king -f name=x", 4, "'king' exists already"),
    ("get kb concepts king", 0, "a male monarch"),
    ("get kb concepts nobody", 3, "nobody"),
    ("find kb concepts --where domain=royalty", 0, "2 of 2"),
    ("count kb concepts", 0, "3"),
    ("delete kb concepts king", 0, "1 record deleted"),
    ("undelete kb concepts cat", 0, "1 record restored"),
    ("purge kb concepts", 0, "0 records purged"),
    ("purge kb concepts cat", 0, "1 record purged"),
    ("search kb concepts monarch -k 2", 0, "2 hits"),
    ("search kb dreams monarch", 3, "no kind 'dreams'"),
    ("kinds kb", 0, "analogies"),
    ("stats kb", 0, "empty: "),
    ("stats nowhere", 5, "vectorstore init"),
    ("check kb", 0, "all agrees"),
    ("check broken", 1, "1 finding"),
    ("verify kb --json", 0, '"ok": true'),
    ("verify broken", 1, "1 finding"),
    ("repair broken", 0, "all is well"),
    ("repair broken --dry-run", 1, "would"),
    ("rebuild kb concepts exact", 0, "recall@10"),
    ("reindex kb concepts exact --json", 0, '"recipe": "exact"'),
    ("rebuild kb concepts nothing.toml", 2, "nothing.toml"),
    ("compact kb", 0, ""),
    ("engines list kb", 0, "no engine outside"),
    ("engines feed kb --index concepts=faiss:engine", 0, "the engine has everything"),
    ("trail list kb", 0, "add"),
    ("trail verify kb", 0, "the chain holds"),
    ("trail verify kb --anchor 7:00", 2, "anchor"),
    ("trail rotate kb", 0, "trail"),
    ("backup kb backups", 0, "files"),
    ("backup nowhere backups", 5, "nowhere"),
    ("restore backups again", 0, "is the store as of commit"),
    ("restore backups kb", 5, "replace=True"),
    ("snapshot kb now", 0, "now"),
    ("maintain kb --dry-run", 0, "nothing is due"),
    ("import kb items.jsonl --kind concepts", 0, "added: 2 concepts"),
    ("import kb bad.jsonl --kind concepts", 2, "bad.jsonl:1: concepts.quality: expected 0..1, got 7"),
    ("export kb out.jsonl.gz", 0, "3 concepts"),
    ("export kb items.jsonl", 2, "items.jsonl"),
    ("convert kb.jsonl kb.csv --kind concepts", 0, "concepts"),
    ("work kb --embedder none", 0, "pending-one"),
    ("workflows list kb", 0, "3 of 3"),
    ("workflows log kb", 0, "done-one"),
    ("workflows import kb analogies items.jsonl --id new", 0, "new: create analogies: pending"),
    ("workflows delete kb concepts king --id new", 0, "new: delete concepts: pending"),
    ("workflows show kb done-one", 0, "completed"),
    ("workflows show kb nobody", 3, "nobody"),
    ("workflows process kb pending-one", 0, "completed"),
    ("workflows cancel kb pending-one", 0, "cancelled"),
    ("workflows rollback kb done-one", 0, "rolled_back"),
    ("workflows rollback kb pending-one", 4, "pending"),
    ("workflows retry kb bad-one", 0, "bad-one: create concepts: pending"),
    ("workflows cleanup kb --older-than 0", 0, "2 workflows removed"),
    ("workflows health kb", 0, "pending"),
    ("lattice list", 0, "1 of 1"),
    ("lattice show Scar_007", 0, "alpha"),
    ("lattice show Scar_008", 3, "Scar_008"),
    ("lattice prune --older-than 30d", 0, "0 forms pruned"),
    ("lattice decay --tau 14.0", 0, "1 form fade"),
    ("lattice clear", 2, "add --confirm"),
    ("lattice clear --confirm", 0, "1 form cleared (1 of scar)"),
    ("run kb -- true", 0, ""),
    ("run kb -- false", 1, ""),
    ("state list kb", 0, "agent"),
    ("state show kb agent", 0, "steps"),
    ("state show kb nobody", 3, "nobody"),
    ("state restore kb agent 1", 0, "which is version 1 again"),
    ("state export kb agent agent.json --plain", 0, "1 values of agent"),
    ("state import kb other state.json", 0, "other is at version 1 now"),
    ("shell kb --read-only", 0, "3 concepts, hello"),
    ("reference", 0, "## vectorstore search"),
    ("mcp kb", 0, ""),
    ("demo small --records 40 --embedder hash", 0, "0 findings"),
]
STDIN = {"shell": 'print(len(store.concepts), "concepts,", vs.__name__ and "hello")\n'}
SWITCH = "tests.test_cli_engines:test_an_option_a_variable_and_the_settings_switch_a_store"
OTHERWISE = {
    "serve": "tests.test_cli_processes:test_serve_leaves_when_it_is_interrupted",
    **dict.fromkeys(("engines settle", "engines renew", "engines drop"), SWITCH),
}
"""Commands that a test of their own calls in a process."""


def commands(group: Any, before: str = "") -> list[str]:
    """All commands, the hidden ones too."""
    found = []
    for name, command in group.commands.items():
        found += commands(command, f"{before}{name} ") if hasattr(command, "commands") else [before + name]
    return found


ALL = commands(get_command(app))


def command_of(line: str) -> str:
    two = " ".join(line.split()[:2])
    return two if two in ALL else line.split()[0]


def test_every_command_is_called_in_a_process_of_its_own() -> None:
    tried = {command_of(line) for line, code, _ in CALLS if code == 0} | OTHERWISE.keys()
    assert tried == set(ALL)
    for place in OTHERWISE.values():
        module, _, name = place.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command has something to do."""
    home = tmp_path_factory.mktemp("home")
    with vs.open(home / "kb", "hash") as store:
        store.concepts.add(
            [
                {"id": "king", "name": "king", "domain": "royalty", "definition": "a male monarch"},
                {"id": "queen", "name": "queen", "domain": "royalty", "definition": "a female monarch"},
                {"id": "dog", "name": "dog", "domain": "animals"},
                {"id": "cat", "name": "cat", "domain": "animals"},
            ]
        )
        store.concepts.delete(["cat"])
        store.lattice.put({"anchor": "Scar_007", "domain": "scar"}, [{"symbol": "alpha"}])
        for name in ("done-one", "pending-one"):
            item = {"id": name, "a": "man", "b": "king", "c": "woman", "d": "queen"}
            store.workflows.create("analogies", [item], id=name)
            if name == "done-one":
                store.workflows.process(name)
        store.workflows.create("concepts", [{"id": "bad", "quality": 7}], id="bad-one")
        store.workflows.process("bad-one")
        state = store.state("agent")
        state.load()
        state["steps"] = 3
        state.save()
        store.backup(home / "backups")
        store.export(home / "kb.jsonl", kinds=["concepts"])
    with vs.open(home / "broken", "hash", auto_publish=False) as store:
        store.concepts.add({"name": f"word {number}"} for number in range(300))
        store.rebuild("concepts", "simhash512")
    next((home / "broken" / "indexes").rglob("*.faiss")).unlink()
    (home / "items.jsonl").write_text('{"name": "one"}\n{"name": "two"}\n')
    (home / "bad.jsonl").write_text('{"name": "one", "quality": 7}\n')
    (home / "state.json").write_text(json.dumps({"steps": 4}))
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "home")


@pytest.mark.parametrize(("line", "code", "said"), CALLS, ids=[line for line, _, _ in CALLS])
def test_a_command_does_its_work_and_leaves_with_its_code(home: Path, line: str, code: int, said: str) -> None:
    done = vectorstore(*line.split(), folder=home, typed=STDIN.get(command_of(line), ""))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert said in (done.stdout if code in (0, 1) else done.stderr), (done.stdout, done.stderr)
    if code not in (0, 1):
        assert done.stdout == ""


def test_serve_leaves_when_it_is_interrupted(home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = subprocess.Popen(
        [sys.executable, "-m", "vectorstore.cli", "serve", "kb", "--port", str(port)],
        cwd=home, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert served.stderr is not None
    lines = iter(served.stderr.readline, "")
    assert any(line.startswith("page: ") for line in lines)
    assert any("running" in line.lower() or "startup complete" in line for line in lines)
    served.send_signal(signal.SIGINT)
    _, rest = served.communicate(timeout=60)
    assert served.returncode in (0, 130) and "Traceback" not in rest
