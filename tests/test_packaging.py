"""What is shipped: a wheel and an sdist that hold what they must, and work away from the repository."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from benchmarks import packaging

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return packaging.build(tmp_path_factory.mktemp("build"))


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "vectorstore").rglob("*.py")}

    assert sources <= names and "vectorstore/py.typed" in names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"vectorstore"}
    assert any(name.endswith("LICENSE-WordNet.txt") for name in names) and not any("__pycache__" in n for n in names)


@pytest.mark.slow
def test_the_sdist_can_be_tested_and_built(built: tuple[Path, Path]) -> None:
    """The wheel was built from it; it brings the tests, their data and the documentation that they read."""
    with tarfile.open(built[1]) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}

    assert {"pyproject.toml", "README.md", "LICENSE", "Makefile", "zensical.toml", "docs/index.md"} <= names
    assert {"tests/conftest.py", "tests/data/scifact/vectors.npz", "benchmarks/results/peers.json"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/", "dist/")) or name.endswith(".pyc")]


@pytest.mark.slow
def test_it_works_away_from_the_repository(built: tuple[Path, Path], tmp_path: Path) -> None:
    found = packaging.beside(built[0], tmp_path)

    assert (
        found["version"] == tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    )
    assert found["import"] < 0.5 and found["own_bytes"] < 12e6


def test_importing_loads_no_engine() -> None:
    code = "import sys, vectorstore; print([m for m in ('faiss', 'torch', 'sklearn', 'scipy', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_table_says_what_was_measured() -> None:
    results = json.loads((packaging.RESULTS / "packaging.json").read_text(encoding="utf-8"))
    assert (packaging.RESULTS / "packaging.md").read_text(encoding="utf-8") == packaging.table(results)
    assert {python for python, extras in results["resolved"].items() if extras} >= {"3.11"}
