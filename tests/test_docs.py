"""The README works when pasted; what the documentation says exists."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def python_in(page: Path) -> list[str]:
    """The examples of a page."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


BLOCKS = python_in(ROOT / "README.md")


def paste(block: str, folder: Path) -> str:
    """What a block prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:vectorstore", "-c", block],
        cwd=folder,
        env={**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readmes_examples_work_when_pasted_one_after_another_and_again(tmp_path: Path) -> None:
    tour, ways, knowledge, work, memory, kinds = BLOCKS
    for _ in range(2):  # pasted again, in the folder that the first time left
        shown = paste(tour, tmp_path)
        assert shown.startswith("queen ") and "['king', 'queen']" in shown and "() 3" in shown
        assert "On kings" in paste(kinds, tmp_path)
    for _ in range(2):
        assert paste(work, tmp_path).splitlines() == [
            "completed 1 concepts[1].quality: expected 0..1, got 7.5",
            "0 rolled_back 0",
            "workflow True",
            "royalty -> chess",
            "True",
            "3",
            "() 3",
        ]
    recalled, effects, associated, skills, resolved, state = paste(memory, tmp_path).splitlines()
    assert recalled == "['floor', 'leak']" and effects == "[('floor', 1), ('call', 2)]"
    assert associated == "leak ['cause']" and skills == "['call a plumber']"
    assert resolved == "1.2 0" and state == "[0.1, 0.2] [1, 2, 3]"
    mapping, completed, mapped, odd, related, analogous, *_ = paste(knowledge, tmp_path).splitlines()
    assert mapping.startswith("[('planet', 'electron'), ('sun', 'nucleus')] 0.")
    assert completed == "nucleus" and mapped == "[('atom', 'nucleus')]" and odd == "electron"
    assert related == "['sun']" and analogous.startswith("[('atomic', 0.")
    scores, facets, reason, delivered = paste(ways, tmp_path).splitlines()
    assert scores == str(sorted(json.loads(scores), reverse=True)) and json.loads(scores)[-1] >= 0.3
    assert facets.startswith("{'royalty': 2, 'military': 1} [")
    assert reason.startswith("no index is published over these ")
    assert delivered == "1.0"


GUIDES = {
    "haystack": "['king']\n['queen']\n1\n",
    "langchain": """\
['king', 'queen']
['card']
['queen']
2
{'game': 'chess', 'page': 4}
king ()
""",
    "scale": "heat engine 0\n",
    "llamaindex": "chess\n['chess']\ncards\n1\n",
    "mcp": """\
['add', 'complete_analogy', 'discover', 'explain', 'get', 'neighbours', 'search', 'stats']
default:king
""",
}


@pytest.mark.parametrize("guide", sorted(GUIDES))
def test_the_guides_examples_work_when_pasted_one_after_another_and_again(guide: str, tmp_path: Path) -> None:
    blocks = python_in(ROOT / "docs" / f"{guide}.md")
    assert paste("\n".join(blocks * 2), tmp_path) == GUIDES[guide] * 2  # in one process: the model loads once


def test_every_example_of_the_documentation_is_run() -> None:
    assert {page.stem for page in (ROOT / "docs").rglob("*.md") if python_in(page)} == set(GUIDES)


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
    for target in ("demo", "test", "test-scale", "check", "crash", "bench", "notebooks", "clean", "install"):
        assert f"make {target}" in listed
