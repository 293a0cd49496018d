"""What was acknowledged survives a power cut: at every kind of call of every verb, and at random times under load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.crash.families import FAMILIES
from tests.crash.results import note
from tests.crash.verbs import VERBS
from tests.faults.disks import Disk, missing
from tests.faults.shim import ROOT, built, environment, unable

pytestmark = [pytest.mark.power, pytest.mark.timeout(7200)]
SYSTEM = os.environ.get("POWER_SYSTEM", "ext4")
"""ext4, or xfs where xfsprogs are installed: `POWER_SYSTEM=xfs make power`."""
ROUNDS = int(os.environ.get("CUTS", "15"))
"""How many random cuts: `CUTS=200 make power`."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if why := missing(SYSTEM):
        unable(why)
    return built(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing stays mounted, whatever happens."""
    yield tmp_path
    for mounted in [path for path in tmp_path.rglob("mounted") if os.path.ismount(path)]:
        Disk(mounted.parent).unmount()


def run(library: Path, *arguments: object) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.power", *map(str, arguments)],
        cwd=ROOT,
        env=environment(library),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    report["stderr"] = done.stderr
    return report


@pytest.mark.parametrize("verb", [*VERBS, *FAMILIES])
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(verb: str, library: Path, place: Path) -> None:
    report = run(library, "steps", verb, place, SYSTEM)

    numbers = {key: report[key] for key in ("calls", "cuts", "seconds")}
    note("power cuts", verb, system=SYSTEM, **numbers, failures=len(report["failures"]))
    lines = [f"{where}: {problem}" for where, problems in report["failures"] for problem in problems]
    assert lines == [], "\n".join(lines[:20]) + report["stderr"][-2000:]
    assert report["cuts"] > 1


def test_power_cuts_at_random_times_lose_no_acknowledged_write(library: Path, place: Path) -> None:
    report = run(library, "random", ROUNDS, place, SYSTEM)

    numbers = {key: round(report[key]) for key in ("rounds", "acknowledged", "batches", "records", "seconds")}
    note("random power cuts", f"4 writers and a reader, {SYSTEM}", **numbers, wrong=len(report["wrong"]))
    assert (report["wrong"], report["errors"]) == ([], "")
    assert report["rounds"] == ROUNDS and report["acknowledged"] > 5 * ROUNDS


@pytest.mark.parametrize("verb", ["add small", "add large", "states"])
def test_the_rig_notices_syncs_that_reach_no_disk(verb: str, library: Path, place: Path) -> None:
    assert run(library, "steps", verb, place, SYSTEM, "--lie")["failures"], "nothing was lost without a single fsync"


def test_the_random_cuts_notice_syncs_that_reach_no_disk(library: Path, place: Path) -> None:
    report = run(library, "random", 10, place, SYSTEM, "--lie")

    assert report["wrong"] or report["errors"], "nothing was lost without a single fsync"
