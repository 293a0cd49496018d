"""The house rules: floors, sizes, protocols, what the package ships. Types are held by `make check`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import vectorstore as vs

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "vectorstore").rglob("*.py"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)


def test_imports_go_one_way() -> None:
    done = run(str(Path(sys.executable).parent / "lint-imports"), "--no-logo", "--no-cache")
    assert done.returncode == 0, done.stdout


def test_a_file_fits_in_the_head() -> None:
    assert {path.name: lines for path in SOURCES if (lines := len(path.read_text().splitlines())) > 420} == {}


def test_every_module_says_what_it_is_for() -> None:
    for path in SOURCES:
        assert path.read_text().startswith(('"""', "'''")), path


def test_nothing_is_pickled_asserted_or_printed_in_the_core() -> None:
    for path in SOURCES:
        if "cli" not in path.parts:
            assert not re.search(r"^\s*(import pickle|from pickle|print\()", path.read_text(), re.MULTILINE), path
            assert "allow_pickle=True" not in path.read_text() and "except:" not in path.read_text()


def test_protocols_are_checked_at_run_time() -> None:
    from vectorstore.files import DiskFolder, MemoryFolder

    assert isinstance(vs.HashEmbedder(), vs.Embedder) and not isinstance(object(), vs.Embedder)
    assert {"publish", "read", "stat", "names", "age", "remove"} <= set(dir(DiskFolder)) & set(dir(MemoryFolder))


def test_the_package_is_typed_and_licensed() -> None:
    assert (ROOT / "vectorstore" / "py.typed").exists()
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    assert "WordNet" in (ROOT / "vectorstore" / "data" / "LICENSE-WordNet.txt").read_text()


def test_a_store_opened_elsewhere_needs_nothing_but_the_folder(tmp_path: Path) -> None:
    import shutil

    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add(
            [{"id": f"c{n}", "name": "x"} for n in range(1500)], vectors=np.eye(1500, 40, dtype=np.float32) + 1
        )
        store.rebuild("concepts")
    shutil.copytree(tmp_path / "kb", tmp_path / "copy")
    shutil.rmtree(tmp_path / "kb")
    with vs.open(tmp_path / "copy", embedder=None) as store:
        assert store.concepts.search(np.ones(40), k=3, recall=0.9)
        assert store.check().findings == ()
