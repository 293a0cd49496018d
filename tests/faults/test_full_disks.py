"""Real limits of the system: a full file system, one that became read-only, no descriptors, no bigger files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.results import note
from tests.faults.disks import missing
from tests.faults.shim import ROOT, unable

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
MIB = 1 << 20


def child(task: str, folder: Path) -> dict[str, object]:
    """What `tests.faults.limits` tells of a task."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.limits", task, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, object] = json.loads(done.stdout)
    return report


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB in memory."""
    if why := missing():
        unable(why)
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={6 * MIB}", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("task", ["full disk", "full disk, many processes"])
def test_a_full_disk_refuses_what_grows_and_lets_delete_make_room(task: str, small: Path) -> None:
    report = child(task, small)

    note("limits of the system", task, **report)  # type: ignore[arg-type]
    assert report["wrong"] == []


def test_a_disk_that_becomes_read_only_is_read_on(small: Path) -> None:
    report = child("read-only", small)

    note("limits of the system", "read-only file system", **report)  # type: ignore[arg-type]
    assert report["wrong"] == []


@pytest.mark.parametrize("task", ["file size", "descriptors"])
def test_a_limit_of_the_process_costs_the_call_and_not_the_store(task: str, tmp_path: Path) -> None:
    report = child(task, tmp_path)

    note("limits of the system", task, **report)  # type: ignore[arg-type]
    assert report["wrong"] == []
