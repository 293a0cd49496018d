"""Files that rot, or are mixed up, are named by a check; no answer is wrong, and no process dies of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.results import note
from tests.faults.shim import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
KINDS = ("catalog", "wal", "segments", "indexes", "models", "trail", "beside")
EVERY = os.environ.get("FAULTS") == "all"


def run(folder: Path, kind: str, *options: str) -> dict[str, Any]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.rot", str(folder), kind, *options],
        cwd=ROOT,
        env={**os.environ, **single, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    report["stderr"] = done.stderr
    return report


@pytest.mark.parametrize("kind", KINDS)
def test_what_rots_is_found_and_nothing_is_answered_wrong(kind: str, tmp_path: Path) -> None:
    report = run(tmp_path, kind, *(["--all"] if EVERY else []))

    numbers = {key: report[key] for key in ("files", "damages", "named", "refused", "harmless", "seconds")}
    note("rot", kind, **numbers, failures=len(report["failures"]))
    lines = [f"{where}: {problem}" for where, problems in report["failures"] for problem in problems]
    assert lines == [], "\n".join(lines[:20]) + report["stderr"][-2000:]
    assert report["damages"] > 30


@pytest.mark.parametrize(("mutation", "kind"), [("silent", "segments"), ("trusting", "catalog"), ("follows", "models")])
def test_the_rig_notices_a_store_that_trusts_its_files(mutation: str, kind: str, tmp_path: Path) -> None:
    assert run(tmp_path, kind, "--mutation", mutation)["failures"], f"{mutation} went unnoticed"
