"""Every public verb that writes stands in the crash matrix; what the rigs counted stands in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import mutants, mutations, reliability, tested
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


# -- what the tests reach and notice -------------------------------------------------------------------------------

TESTED = json.loads((ROOT / "benchmarks" / "results" / "tested.json").read_text())


def test_the_report_of_coverage_and_mutants_is_made_of_the_counts() -> None:
    report = (ROOT / "benchmarks" / "results" / "tested.md").read_text()
    assert "\n".join(tested.markdown(TESTED)) + "\n" == report
    page = tested.PAGE.read_text()
    assert tested.with_tables(page, TESTED) == page


def test_every_explanation_is_of_a_survivor() -> None:
    left = {mutants.key(line) for line in TESTED["mutants"] if line["result"] in mutants.LEFT}
    assert set(mutants.explained()) <= left


def test_a_mutant_is_one_change_of_one_function(tmp_path: Path) -> None:
    source = tmp_path / "some.py"
    source.write_text(
        "class Some:\n"
        "    def more(self, a, b=1):\n"
        '        """Not this: a == b."""\n'
        "        if a == b and not self.done:\n"
        "            self.stop(now=True)\n"
        "            raise ValueError(f'{a + 1}')\n"
        "        with self.lock:\n"
        "            return a + 1\n"
        "    def asks(self, c):\n"
        "        return c.execute('SELECT a FROM t WHERE a IS NULL AND b <= ?', (2,))\n"
    )
    found = mutations.mutants_of(str(source))
    assert [(mutant.function, mutant.line, mutant.what) for mutant in found] == [
        ("Some.more", 4, "3: and -> or"),
        ("Some.more", 4, "3: Eq -> NotEq"),
        ("Some.more", 4, "14: not dropped"),
        ("Some.more", 5, "0: statement dropped"),
        ("Some.more", 5, "0: now= dropped"),
        ("Some.more", 5, "14: True -> False"),
        ("Some.more", 6, "0: statement dropped"),
        ("Some.more", 7, "0: with dropped"),
        ("Some.more", 8, "0: return None"),
        ("Some.more", 8, "7: Add -> Sub"),
        ("Some.more", 8, "11: 1 -> 2"),
        ("Some.asks", 10, "0: return None"),
        ("Some.asks", 10, "17: SQL: IS NULL -> IS NOT NULL"),
        ("Some.asks", 10, "17: SQL: AND -> OR"),
        ("Some.asks", 10, "17: SQL: <= -> <"),
        ("Some.asks", 10, "64: 2 -> 3"),
    ]
    original = compile(source.read_text(), str(source), "exec")
    for mutant in found:
        whole = {code.co_qualname: code for code in mutations.codes(original)}[mutant.function]
        assert not mutants.same(mutant.code(), whole) and mutant.code().co_firstlineno == whole.co_firstlineno
