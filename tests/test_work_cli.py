"""The commands about work."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from tests.test_cli import answer, refused, run
from tests.test_workflows import analogies


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    with vs.open(tmp_path / "kb", embedder="hash:16") as store:
        store.concepts.add({"id": "king", "name": "king"})
    (tmp_path / "good.jsonl").write_text("".join(json.dumps(item) + "\n" for item in analogies(30)))
    bad = [*analogies(3, 100), {"id": "bad", "quality": 7.5}]
    (tmp_path / "bad.jsonl").write_text("".join(json.dumps(item) + "\n" for item in bad) + '{"id": "to')
    return tmp_path / "kb"


def add(kb: Path, file: str, *more: str) -> dict[str, Any]:
    found: dict[str, Any] = answer("workflows", "import", kb, "analogies", kb.parent / file, *more)
    return found


def test_work_processes_what_is_pending_and_says_how_it_ended(kb: Path) -> None:
    assert add(kb, "good.jsonl", "--id", "one")["status"] == "pending"
    made = answer("workflows", "delete", kb, "concepts", "king", "--id", "two")
    assert (made["operation"], made["total"]) == ("delete", 1)
    done = run("work", kb)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^one +create +analogies +completed +30 +30 +0", done.stdout, re.MULTILINE)
    assert re.search(r"^two +delete +concepts +completed +1 +1 +0", done.stdout, re.MULTILINE)
    assert answer("count", kb, "analogies")["count"] == 30 and answer("count", kb, "concepts")["count"] == 0
    assert run("work", kb).stdout == "nothing is pending\n" and answer("work", kb) == []


def test_errors_make_exit_code_1_and_are_shown_item_by_item(kb: Path) -> None:
    said = run("workflows", "import", kb, "analogies", kb.parent / "bad.jsonl", "--id", "w", "--lenient")
    assert said.stdout == "w: create analogies: pending, 0 of 4 items; line 5 was torn off and left out\n"
    done = run("work", kb)
    assert done.returncode == 1 and "1 of 4 items failed" in done.stdout
    shown = run("workflows", "show", kb, "w").stdout
    assert re.search(r"^3 +bad +failed +analogies\[3\]\.quality: expected 0\.\.1, got 7\.5", shown, re.MULTILINE)
    found = answer("workflows", "show", kb, "w")
    assert found["items_with_errors"] == [
        {"index": 3, "id": "bad", "status": "failed", "reason": "analogies[3].quality: expected 0..1, got 7.5"}
    ]
    assert [line["after"] for line in found["log"]] == ["completed", "processing", "pending"]
    assert answer("workflows", "retry", kb, "w")["status"] == "pending"
    assert run("workflows", "process", kb, "w").returncode == 1


def test_a_strict_one_is_rolled_back_and_says_why(kb: Path) -> None:
    add(kb, "bad.jsonl", "--id", "w")
    done = run("workflows", "process", kb, "w")
    assert (done.returncode, done.stdout) == (
        1,
        "w: create analogies: rolled_back, 1 of 4 items, 1 errors: analogies[3].quality: expected 0..1, got 7.5\n",
    )
    assert answer("count", kb, "analogies")["count"] == 0


def test_cancel_rollback_cleanup_list_log_and_health(kb: Path) -> None:
    add(kb, "good.jsonl", "--id", "one")
    add(kb, "good.jsonl", "--id", "two")
    health = answer("workflows", "health", kb)
    assert health["ok"] and health["counts"]["pending"] == 2 and health["waiting_seconds"] >= 0
    assert answer("workflows", "cancel", kb, "two")["status"] == "cancelled"
    assert [w["id"] for w in answer("workflows", "list", kb)["workflows"]] == ["two", "one"]
    assert answer("workflows", "list", kb, "--status", "pending")["total"] == 1
    answer("workflows", "process", kb, "one")
    ended = answer("workflows", "rollback", kb, "one")
    assert (ended["status"], ended["undone"]) == ("rolled_back", 30)
    assert answer("count", kb, "analogies")["count"] == 0
    for age, count in (("0", 2), ("0s", 2), ("30d", 0)):
        said = answer("workflows", "cleanup", kb, "--older-than", age, "--dry-run")
        assert said == {"removed": count, "dry_run": True}
    assert refused("workflows", "cleanup", kb, "--older-than", "soon")[0] == 2
    assert run("workflows", "cleanup", kb, "--older-than", "0", "--status", "cancelled").stdout == (
        "1 workflow removed\n"
    )
    assert run("workflows", "list", kb).stdout.endswith("1 of 1\n")
    assert [line["note"] for line in answer("workflows", "log", kb, "two")] == ["cleaned up", "", ""]
    assert "rolled_back" in run("workflows", "log", kb).stdout


def test_what_cannot_be_has_the_exit_code_of_its_error(kb: Path) -> None:
    add(kb, "good.jsonl", "--id", "w")
    assert refused("workflows", "show", kb, "nobody")[0] == 3
    assert refused("workflows", "rollback", kb, "w")[0] == 4
    assert refused("workflows", "import", kb, "analogies", kb.parent / "good.jsonl", "--id", "w")[0] == 4
    assert refused("workflows", "import", kb, "analogies", kb.parent / "none.jsonl")[0] == 2
    assert refused("workflows", "delete", kb, "concepts")[0] == 2
    assert refused("workflows", "list", kb, "--status", "running")[0] == 2


def test_an_interrupted_worker_leaves_the_rest_to_the_next(kb: Path, tmp_path: Path) -> None:
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(item) + "\n" for item in analogies(15_000)))
    add(kb, "many.jsonl", "--id", "many")
    child = subprocess.Popen(
        [sys.executable, "-m", "vectorstore.cli", "work", str(kb), "--follow", "--embedder", "none"],
        stderr=subprocess.PIPE,
        text=True,
    )
    with vs.open(kb, embedder="hash:16") as store:
        until = time.monotonic() + 60
        while not store.workflows.get("many").processed and time.monotonic() < until:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
        half = store.workflows.get("many")
        assert child.returncode == 130 and "interrupted" in said
        assert 0 < half.processed < 15_000 and len(store.analogies) == half.processed
    (ended,) = answer("work", kb, "--embedder", "none")
    assert (ended["status"], ended["processed"]) == ("completed", 15_000)
