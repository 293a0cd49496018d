"""Every public verb that writes stands in the crash matrix; what the rigs counted stands in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import reliability
from tests.crash.families import FAMILIES
from tests.crash.verbs import VERBS as FIRST
from tests.faults import shim
from vectorstore.promises import VERBS

ROOT = Path(__file__).parent.parent
STORED = json.loads((ROOT / "benchmarks" / "results" / "reliability.json").read_text())
LINES = STORED["lines"]


def of(section: str) -> dict[str, dict[str, Any]]:
    return {line["name"]: line for line in LINES if line["section"] == section}


def test_every_verb_that_writes_is_in_the_crash_matrix() -> None:
    """`make crash` itself sees to it; this tells at once that a new verb needs a place in tests/crash/families.py."""
    (line,) = of("matrix").values()
    assert {name for name, verb in VERBS.items() if verb.writes} - set(line["verbs"]) == set()
    assert line["cases"] == len({*FIRST, *FAMILIES})


def test_nothing_went_wrong() -> None:
    assert set(reliability.SECTIONS) == {line["section"] for line in LINES}
    assert [line for line in LINES if line.get("failures") or line.get("wrong")] == []


def test_the_report_is_made_of_the_counts() -> None:
    assert (
        "\n".join(reliability.markdown(LINES, STORED["about"])) + "\n"
        == (ROOT / "benchmarks" / "results" / "reliability.md").read_text()
    )
    page = reliability.PAGE.read_text()
    assert reliability.with_counts(page, LINES) == page


def test_a_later_run_replaces_its_own_lines_only() -> None:
    old = [{"section": "rot", "name": "wal", "damages": 1}, {"section": "rot", "name": "trail", "damages": 2}]
    assert reliability.merged(old, [{"section": "rot", "name": "wal", "damages": 3}]) == [
        {"section": "rot", "name": "wal", "damages": 3},
        old[1],
    ]


def test_a_rig_that_cannot_run_fails_unless_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(shim.TOLD, raising=False)
    with pytest.raises(pytest.fail.Exception, match="needs root .*VECTORSTORE_RIGS=skip"):
        shim.unable("it needs root")
    monkeypatch.setenv(shim.TOLD, "skip")
    with pytest.raises(pytest.skip.Exception, match="needs root"):
        shim.unable("it needs root")
