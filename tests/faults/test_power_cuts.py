"""What was acknowledged survives a power cut: at every kind of call of every verb, and at random times under load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.crash.families import FAMILIES
from tests.crash.results import note, reported
from tests.crash.verbs import VERBS
from tests.faults.disks import missing
from tests.faults.shim import built, unable

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


def run(library: Path, *arguments: object) -> dict[str, Any]:
    """In a mount namespace of its own, which ends with the last of its processes, whatever happens."""
    return reported("tests.faults.power", *arguments, under=("unshare", "--mount"), LD_PRELOAD=str(library))


@pytest.mark.parametrize("verb", [*VERBS, *FAMILIES])
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(verb: str, library: Path, tmp_path: Path) -> None:
    report = run(library, "steps", verb, tmp_path, SYSTEM)

    numbers = {key: report[key] for key in ("calls", "cuts", "seconds")}
    note("power cuts", verb, system=SYSTEM, **numbers, failures=len(report["failures"]))
    lines = [f"{where}: {problem}" for where, problems in report["failures"] for problem in problems]
    assert lines == [], "\n".join(lines[:20]) + report["stderr"][-2000:]
    assert report["cuts"] > 1


def test_power_cuts_at_random_times_lose_no_acknowledged_write(library: Path, tmp_path: Path) -> None:
    report = run(library, "random", ROUNDS, tmp_path, SYSTEM)

    numbers = {key: round(report[key]) for key in ("rounds", "acknowledged", "batches", "records", "seconds")}
    note("random power cuts", f"4 writers and a reader, {SYSTEM}", **numbers, wrong=len(report["wrong"]))
    assert (report["wrong"], report["errors"]) == ([], "")
    assert report["rounds"] == ROUNDS and report["acknowledged"] > 5 * ROUNDS


@pytest.mark.parametrize("verb", ["add small", "add large", "states"])
def test_the_rig_notices_syncs_that_reach_no_disk(verb: str, library: Path, tmp_path: Path) -> None:
    assert run(library, "steps", verb, tmp_path, SYSTEM, "--lie")["failures"], "nothing was lost without a single fsync"


def test_the_random_cuts_notice_syncs_that_reach_no_disk(library: Path, tmp_path: Path) -> None:
    report = run(library, "random", 10, tmp_path, SYSTEM, "--lie")

    assert report["wrong"] or report["errors"], "nothing was lost without a single fsync"
