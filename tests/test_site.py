"""The documentation site is built from docs/ and the docstrings, whole and without a warning."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def listed(nav: list[Any]) -> Iterator[str]:
    """The pages of a navigation."""
    for entry in nav:
        for target in entry.values():
            yield from listed(target) if isinstance(target, list) else [target]


def test_every_page_is_in_the_navigation() -> None:
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"plan.md"}
    assert sorted(listed(nav)) == sorted(pages)


def test_what_the_reference_names_exists() -> None:
    for page in (DOCS / "reference").glob("*.md"):
        names = re.findall(r"^::: vectorstore\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert names, page
        assert [name for name in names if name != "errors" and not hasattr(vs, name)] == []


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    for name in ("docs", "vectorstore"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    done = subprocess.run(
        [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean"],
        cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    site = tmp_path / "build" / "site"
    store = (site / "reference" / "store" / "index.html").read_text(encoding="utf-8")
    assert 'id="vectorstore.Store.check"' in store and "Prove that rows, files, indexes and full text agree" in store
    answers = (site / "reference" / "answers" / "index.html").read_text(encoding="utf-8")
    assert "The k records nearest" not in answers and 'id="vectorstore.Hits"' in answers
    assert "The k records nearest to the query" in (site / "reference" / "collections" / "index.html").read_text(
        "utf-8"
    )
