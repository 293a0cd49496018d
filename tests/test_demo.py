"""Claims about `vectorstore demo`, run as a user does, with few records and the embedder that needs no model."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs

RECORDS = 2000
SMALL = ["--records", str(RECORDS), "--embedder", "hash"]


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vectorstore.cli", "demo", str(folder), *SMALL, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], subprocess.CompletedProcess[str]]:
    """A folder after two runs, the first run's JSON and the second run's screen."""
    folder = tmp_path_factory.mktemp("demo") / "demo-kb"
    first = demo(folder, "--json")
    assert first.returncode == 0, first.stderr
    return folder, json.loads(first.stdout), demo(folder)


Runs = tuple[Path, dict[str, Any], subprocess.CompletedProcess[str]]


def test_the_first_run_builds_the_store_and_times_each_step(runs: Runs) -> None:
    _, first, _ = runs

    assert (first["records"], first["added"]) == (RECORDS, RECORDS)
    assert [step["step"] for step in first["steps"]] == [
        "Build",
        "Index",
        "Search",
        "Filtered search",
        "Two processes",
        "kill -9",
        "Reopen and check",
    ]
    assert first["index"]["recall"] >= 0.98
    assert first["seconds"] >= sum(step["seconds"] for step in first["steps"]) > 0


def test_this_process_finds_what_the_other_added(runs: Runs) -> None:
    assert runs[1]["shared"] == ["demo-selfie"]


def test_what_was_acknowledged_before_the_kill_is_found(runs: Runs) -> None:
    first = runs[1]

    assert first["killed_by"] == signal.SIGKILL
    assert first["acknowledged"] >= 8 * first["batch"]
    assert first["found"] in (first["acknowledged"], first["acknowledged"] + first["batch"])
    assert first["findings"] == 0


def test_the_second_run_finds_the_records_there_and_says_so(runs: Runs) -> None:
    _, _, second = runs

    assert second.returncode == 0, second.stderr
    assert f"{RECORDS} concepts found there already: nothing to embed" in second.stdout
    assert "embedding" not in second.stderr
    assert "0 findings" in second.stdout
    typed = shlex.split(second.stdout.partition("What to type next")[2].strip().splitlines()[-1])
    assert subprocess.run(typed, capture_output=True, timeout=60).returncode == 0, "as it stands, it can be typed"


def test_the_demo_leaves_only_its_concepts(runs: Runs) -> None:
    with vs.open(runs[0]) as store:
        entry = store.stats()["kinds"]["concepts"]

        assert (entry["records"], entry["deleted"], entry["vectors"]) == (RECORDS, 0, RECORDS)
        assert store.check().findings == ()


def test_a_run_goes_on_where_another_stopped(runs: Runs) -> None:
    folder = runs[0]
    with vs.open(folder, auto_publish=False) as store:
        gone = [record.id for record in store.concepts.find(limit=500)]
        store.concepts.delete(gone)
        store.concepts.purge(gone)

    third = demo(folder)

    assert third.returncode == 0, third.stderr
    assert f"{RECORDS - 500} concepts found there; going on with the other 500" in third.stdout


def test_a_store_of_something_else_is_left_alone(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", "hash") as store:
        store.concepts.add({"name": "mine"})

    done = demo(tmp_path / "kb")

    assert done.returncode == 2
    assert "name another folder" in done.stderr
    with vs.open(tmp_path / "kb") as store:
        assert len(store.concepts) == 1


def test_an_interrupted_run_leaves_with_130_and_a_sound_store(tmp_path: Path) -> None:
    folder = tmp_path / "kb"
    process = subprocess.Popen(
        [sys.executable, "-m", "vectorstore.cli", "demo", str(folder), "--embedder", "hash"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(folder.glob("embeddings/*/*.npz")) and process.poll() is None:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    _, message = process.communicate(timeout=60)

    assert process.returncode == 130
    assert "Traceback" not in message
    with vs.open(folder) as store:
        assert len(store.concepts) % 2500 == 0
        assert store.check().findings == ()
