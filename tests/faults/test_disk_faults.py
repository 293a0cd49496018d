"""A disk that is full, fails or becomes read-only costs the call, never the store.

Every call that changes files (write, fsync, rename, open, unlink, mkdir, truncate) of every verb of the crash matrix
fails in its turn, once or from then on. The error is one of ours, reads answer meanwhile, what was there is there, the
next call works, and nothing is left behind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.families import FAMILIES
from tests.crash.results import note
from tests.crash.verbs import VERBS
from tests.faults.shim import ROOT, built, environment

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
MATRIX = [*VERBS, *FAMILIES]
EVERY = os.environ.get("FAULTS") == "all"
"""Every error at every call, instead of one of them at those calls that differ: `FAULTS=all make faults`; hours."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("shim"))


def run(library: Path, verb: str, folder: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.child", verb, str(folder), *options],
        cwd=ROOT,
        env=environment(library),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    report["stderr"] = done.stderr
    return report


@pytest.mark.parametrize("verb", MATRIX)
def test_a_failing_disk_costs_the_call_and_not_the_store(verb: str, library: Path, tmp_path: Path) -> None:
    report = run(library, verb, tmp_path, *(["--all"] if EVERY else []))

    numbers = {key: report[key] for key in ("calls", "faults", "seconds")}
    note("disk faults", verb, **numbers, failures=len(report["failures"]), operations=report["operations"])
    lines = [f"{where}: {problem}" for where, problems in report["failures"] for problem in problems]
    assert lines == [], "\n".join(lines[:20]) + report["stderr"][-2000:]
    assert report["faults"] > 0


@pytest.mark.parametrize(
    ("mutation", "verb"),
    [("deaf", "add large"), ("untyped", "add large"), ("litters", "compact"), ("forgets", "upsert")],
)
def test_the_rig_notices_a_store_that_does_not_mind_its_disk(
    mutation: str, verb: str, library: Path, tmp_path: Path
) -> None:
    assert run(library, verb, tmp_path, "--mutation", mutation)["failures"], f"{mutation} went unnoticed"
