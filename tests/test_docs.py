"""The README works when pasted; what the documentation says exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_readmes_examples_work_when_pasted(block: str, tmp_path: Path) -> None:
    for _ in range(2):  # pasted again, in the folder that the first time left
        done = subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning:vectorstore", "-c", block],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    if "a woman who rules" in block:
        assert done.stdout.startswith("queen ") and "['king', 'queen']" in done.stdout and "() 3" in done.stdout
    else:
        assert "On kings" in done.stdout


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
    for target in ("demo", "test", "check", "crash", "bench", "notebooks", "clean", "install"):
        assert f"make {target}" in listed
