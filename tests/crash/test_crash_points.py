"""Every verb survives SIGKILL before, in and after each of its durable steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.crash.families import FAMILIES
from tests.crash.points import FILES
from tests.crash.results import note, reported
from tests.crash.verbs import VERBS as FIRST
from vectorstore.promises import VERBS

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]

MATRIX = {**FIRST, **FAMILIES}
BARE = {"open catalog.sqlite", "open store.lock", "open", "remove", "mkdir", "rmdir"}
"""What changes the folder without passing through the small functions: the two files that are made once, the probe of
a folder's clock, and the folders' own making."""


WRITING_FILES = {
    *("Keeping.backup", "Contexts.save", "Exchange.export", "Workflows.to_jsonl"),
    *("State.save", "PortableState.export", "PortableState.push"),
}
"""Verbs that write beside the store, and so make no commit."""

SEVERAL = {
    "Collection.purge": "marks and erases, then the space without its vectors",
    "Keeping.maintain": "does what is due, one thing after the other",
    "Store.compact": "a commit for each space",
    "Store.publish": "flushes, then publishes",
    "Store.rebuild": "flushes, then publishes",
    "Proving.repair": "a commit for each thing that is mended",
    "Remotes.drop": "says that the collections go, then that each is gone",
    "Remotes.sync": "a commit before each batch and one after it",
    "States.drop": "erases, then notes that no copy is left",
    "StoreState.rekey": "the save, then the erasure of what was shown",
    "Workflows.process": "a commit for each chunk",
    "Workflows.process_all": "a commit for each chunk",
    "Workflows.rollback": "a commit for each chunk",
}
"""Verbs of which one call may commit more than once, and why; all others are one commit."""


def run(verb: str, folder: Path, *options: str) -> dict[str, Any]:
    """What the child prints; it has one thread, so that forking it is safe."""
    return reported("tests.crash.child", verb, folder, *options)


def told(failures: list[tuple[str, list[str]]]) -> str:
    """The failures in a few lines."""
    lines = [f"{where}: {problem}" for where, problems in failures for problem in problems]
    return f"{len(failures)} runs failed\n" + "\n".join(lines[:20])


@pytest.mark.parametrize("verb", list(MATRIX))
def test_a_kill_at_any_step_loses_nothing_and_leaves_nothing_half(verb: str, tmp_path: Path) -> None:
    report = run(verb, tmp_path)

    REPORTS[verb] = report
    note(
        "crash points",
        verb,
        steps=len(report["steps"]),
        kills=report["runs"],
        failures=len(report["failures"]),
        seconds=round(report["seconds"], 1),
        verbs=sorted(report["calls"]),
    )
    assert not report["failures"], told(report["failures"]) + "\n" + report["stderr"][-3000:]
    assert report["runs"] >= 2 * len(report["steps"]) > 0


REPORTS: dict[str, dict[str, Any]] = {}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each verb of the matrix did when nothing stopped it."""
    missing = {verb: tmp_path_factory.mktemp("dry") for verb in MATRIX if verb not in REPORTS}
    return REPORTS | {verb: run(verb, folder, "--dry") for verb, folder in missing.items()}


def test_the_verbs_together_take_every_kind_of_durable_step(reports: dict[str, dict[str, Any]]) -> None:
    seen = {step for report in reports.values() for step in report["steps"]}

    expected = {*FILES, "commit", "checkpoint", "vacuum", "backup", "journal mode", *BARE}
    assert seen - {"exchange"} == expected


def test_every_public_verb_that_writes_is_in_the_matrix(reports: dict[str, dict[str, Any]]) -> None:
    called = {verb for report in reports.values() for verb in report["calls"]}
    writing = {name for name, verb in VERBS.items() if verb.writes} | WRITING_FILES

    note("matrix", "verbs that write", verbs=sorted(called & writing), cases=len(reports))
    assert writing - called == set(), "put them into tests/crash/verbs.py or families.py"
    assert {verb for report in reports.values() for verb in report["unflagged"]} == set(), (
        "they write and do not say so"
    )


def test_a_verb_is_one_commit_unless_it_says_otherwise(reports: dict[str, dict[str, Any]]) -> None:
    several = {verb for report in reports.values() for verb, commits in report["calls"].items() if commits > 1}

    assert several == SEVERAL.keys()


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
