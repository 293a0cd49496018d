"""Every verb survives SIGKILL before, in and after each of its durable steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.points import FILES
from tests.crash.verbs import VERBS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]

BARE = {"open catalog.sqlite", "open store.lock", "open", "remove", "mkdir"}
"""What changes the folder without passing through the small functions: the two files that are made once, the probe of
a folder's clock, and the folders' own making."""


def run(verb: str, folder: Path, *options: str) -> dict[str, Any]:
    """What the child prints; it has one thread, so that forking it is safe."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.child", verb, str(folder), *options],
        cwd=ROOT,
        env={**os.environ, **single, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    report["stderr"] = done.stderr
    return report


def told(failures: list[tuple[str, list[str]]]) -> str:
    """The failures in a few lines."""
    lines = [f"{where}: {problem}" for where, problems in failures for problem in problems]
    return f"{len(failures)} runs failed\n" + "\n".join(lines[:20])


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_kill_at_any_step_loses_nothing_and_leaves_nothing_half(
    verb: str, tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    report = run(verb, tmp_path)

    print(f"{verb}: {len(report['steps'])} durable steps, {report['runs']} kills, {report['seconds']:.1f} s")
    record_property("kills", report["runs"])
    assert not report["failures"], told(report["failures"]) + "\n" + report["stderr"][-3000:]
    assert report["runs"] >= 2 * len(report["steps"]) > 0


def test_the_verbs_together_take_every_kind_of_durable_step(tmp_path: Path) -> None:
    seen = set()
    for place, verb in enumerate(VERBS):
        folder = tmp_path / str(place)
        folder.mkdir()
        seen |= set(run(verb, folder, "--dry")["steps"])

    expected = {*FILES, "commit", "checkpoint", "vacuum", "backup", "journal mode", *BARE}
    assert seen == expected


@pytest.mark.parametrize(
    ("mutation", "verb"),
    [
        ("commit first", "add large"),
        ("unlink first", "compact"),
        ("unlink first", "rebuild"),
        ("nameless", "add large"),
        ("two commits", "add small"),
        ("terms later", "lattice"),
    ],
)
def test_the_harness_notices_a_wrong_order(mutation: str, verb: str, tmp_path: Path) -> None:
    report = run(verb, tmp_path, "--mutation", mutation)

    assert report["failures"], f"{mutation} went unnoticed in {verb}"
