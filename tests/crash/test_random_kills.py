"""A mixed load of several processes, killed at random times, loses nothing and shows nothing half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.load import WRITERS
from tests.crash.results import note

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


def run(folder: Path, *arguments: str, module: str = "tests.crash.load") -> dict[str, Any]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", module, str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, **single, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


KILLS = int(os.environ.get("KILLS", "60"))
"""How many processes are killed under load: `KILLS=500 make crash`."""


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1])
def test_kills_at_random_times_lose_no_acknowledged_write(seed: int, tmp_path: Path) -> None:
    rounds = -(-KILLS // (WRITERS + 1))
    report = run(tmp_path, str(rounds), str(seed))

    numbers = {key: round(report[key]) for key in ("rounds", "kills", "acknowledged", "batches", "records", "seconds")}
    note("random kills", f"{WRITERS} writers and a reader", **numbers, wrong=len(report["wrong"]))
    assert (report["wrong"], report["errors"]) == ([], "")
    assert report["kills"] >= KILLS and report["acknowledged"] > 2 * rounds


@pytest.mark.parametrize("mutation", ["two commits", "nameless"])
def test_the_random_load_notices_a_wrong_order(mutation: str, tmp_path: Path) -> None:
    report = run(tmp_path, "25", "1", mutation)

    assert report["wrong"] or report["errors"], f"{mutation} went unnoticed"


@pytest.mark.parametrize("seed", [1])
def test_kills_of_compactions_and_backups_lose_nothing_and_double_nothing(seed: int, tmp_path: Path) -> None:
    report = run(tmp_path, "40", str(seed), module="tests.crash.upkeep")

    numbers = {key: round(report[key]) for key in ("kills", "acknowledged", "records", "backups", "seconds")}
    note("random kills", "compactions and backups", **numbers, wrong=len(report["wrong"]))
    assert (report["wrong"], report["errors"]) == ([], "")
    assert report["kills"] == 40 and report["acknowledged"] > 30 and report["backups"] >= 1
