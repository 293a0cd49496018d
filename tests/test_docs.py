"""The README works when pasted; what the documentation says exists."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

from tests import pasted

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if pasted.examples(page)]
TWICE = ("haystack", "langchain", "llamaindex", "mcp")
"""Guides that can be pasted again, in the folder that the first time left."""


def test_every_example_of_the_documentation_prints_what_stands_below_it(tmp_path: Path) -> None:
    """In one process, as importing torch takes longer than all of them; the guides twice."""
    listed = [(page, turn) for page in PAGES for turn in range(2 if page.stem in TWICE else 1)]
    folders = {page: pasted.prepared(tmp_path / page.stem, page) for page in PAGES}
    printed = pasted.run([(folders[page], [one.code for one in pasted.examples(page)]) for page, _ in listed])

    wrong = []
    for (page, turn), outputs in zip(listed, printed, strict=True):
        said = [one.shown for one in pasted.examples(page)]
        for place, (expected, output) in enumerate(itertools.zip_longest(said, outputs, fillvalue="not run")):
            if not pasted.same(expected, output):
                wrong.append(f"{page.relative_to(ROOT)}, example {place + 1}, turn {turn + 1}:\n{output}")
    assert not wrong, "\n".join(wrong) + "\nif that is right, run: python tests/pasted.py PAGE"


def test_an_output_that_changes_is_told() -> None:
    assert pasted.same("king 0.512 3", "king 0.519 3") and not pasted.same("king 0.512 3", "king 0.612 3")
    assert not pasted.same("king 0.512 3", "king 0.512 4") and not pasted.same("a", "b")


def test_the_readmes_examples_work_when_pasted_one_after_another_and_again(tmp_path: Path) -> None:
    """Each with names of its own, in one folder; in one process, as above."""
    tour, ways, knowledge, work, memory, kinds = (one.code for one in pasted.examples(ROOT / "README.md"))
    turns = [tour, kinds, work, tour, kinds, work, memory, knowledge, ways]
    found = pasted.run([(tmp_path, [block]) for block in turns])
    assert [outputs[-1] for outputs in found if "Traceback" in outputs[-1]] == []
    shown = [outputs[0] for outputs in found]
    for place in (0, 3):
        assert shown[place].startswith("queen ") and "['king', 'queen']" in shown[place] and "() 3" in shown[place]
        assert "On kings" in shown[place + 1]
        assert shown[place + 2].splitlines() == [
            "completed 1 concepts[1].quality: expected 0..1, got 7.5",
            "0 rolled_back 0",
            "workflow True",
            "royalty -> chess",
            "True",
            "3",
            "() 3",
        ]
    recalled, effects, associated, skills, resolved, state = shown[6].splitlines()
    assert recalled == "['floor', 'leak']" and effects == "[('floor', 1), ('call', 2)]"
    assert associated == "leak ['cause']" and skills == "['call a plumber']"
    assert resolved == "1.2 0" and state == "[0.1, 0.2] [1, 2, 3]"
    mapping, completed, mapped, odd, related, analogous, *_ = shown[7].splitlines()
    assert mapping.startswith("[('planet', 'electron'), ('sun', 'nucleus')] 0.")
    assert completed == "nucleus" and mapped == "[('atom', 'nucleus')]" and odd == "electron"
    assert related == "['sun']" and analogous.startswith("[('atomic', 0.")
    scores, facets, reason, delivered = shown[8].splitlines()
    assert scores == str(sorted(json.loads(scores), reverse=True)) and json.loads(scores)[-1] >= 0.3
    assert facets.startswith("{'royalty': 2, 'military': 1} [")
    assert reason.startswith("no index is published over these ")
    assert delivered == "1.0"


def test_links_and_paths_in_the_documentation_exist() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} points to {target}"


def test_every_format_table_is_described() -> None:
    import vectorstore as vs

    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    with vs.open(":memory:", embedder=None) as store, store._catalog.read() as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            kind = next((kind for kind in store.kinds if table.startswith(kind)), None)
            if kind is None and not table.startswith(("sqlite_", "_sqlite_")):
                assert f"`{table}`" in page
                for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall():
                    assert column in page, f"{table}.{column}"


def test_every_command_of_the_makefile_is_listed() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (
        "demo",
        "test",
        "test-heart",
        "test-scale",
        "check",
        "crash",
        "fuzz",
        "soak",
        "bench",
        "bench-trust",
        "notebooks",
        "clean",
        "install",
    ):
        assert f"make {target}" in listed


def test_every_test_that_the_page_on_security_names_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`test_" in line]
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row.rsplit("|", 2)[1])}
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    table = page[page.index("## Attacks") : page.index("## Reporting")]
    attacks = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 30 and len(rows) == len(attacks), "an attack without a test"
    assert named - there == set()
