"""The notebooks run from top to bottom, and what is kept of them is what they show when they do."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
QUICK = "03-analogies"
"""One is in the quick suite; it loads the model once, for six texts."""
LARGEST = 400_000
"""Bytes of a notebook with its outputs; a forge shows no larger one well."""


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figures_of(notebook: Any) -> list[bytes]:
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    return [base64.b64decode(output.data["image/png"]) for output in outputs if "image/png" in output.get("data", {})]


def test_there_is_one_of_each() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "01-quickstart",
        "02-search-and-filters",
        "03-analogies",
        "04-clusters-and-map",
        "05-memory-decay-causes",
        "06-crash-and-recovery",
        "07-choosing-an-index",
        "08-from-one-machine-to-many",
        "09-benchmarks",
    ]
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"({path.name})" in listed for path in NOTEBOOKS)


def test_the_moving_map_has_a_picture_beside_it() -> None:
    """Forges run no scripts: what is drawn by plotly is drawn as PNG, too, and brings no script of its own."""
    cells = code_of(nbformat.read(FOLDER / "04-clusters-and-map.ipynb", as_version=4))
    kinds = [set(output.get("data", {})) for cell in cells for output in cell.outputs]
    assert any("application/vnd.plotly.v1+json" in one for one in kinds) and any("image/png" in one for one in kinds)
    assert not any("plotly" in output.get("data", {}).get("text/html", "") for cell in cells for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_as_it_ran(path: Path) -> None:
    """Every cell was executed, in order, without a failure or a warning."""
    assert path.stat().st_size < LARGEST
    cells = code_of(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert outputs and not [one for one in outputs if one.output_type == "error"]
    warned = {one.text.strip() for one in outputs if one.get("name") == "stderr"}
    assert all("answers are exact" in text for text in warned), "but for the log's word on the index that is deleted"


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem == QUICK else pytest.mark.slow, id=path.stem) for path in NOTEBOOKS],
)
def test_it_runs_from_top_to_bottom(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that fails raises here; the kinds of output and the figures are those that are kept."""
    root = str(FOLDER.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")
    kept = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    for cell in code_of(fresh):
        cell.outputs = []
    nbclient.NotebookClient(fresh, timeout=280, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for before, after in zip(code_of(kept), code_of(fresh), strict=True):
        # what is printed may come in one piece or in several
        shown = [
            [(one.output_type, sorted(one.data)) for one in cell.outputs if one.output_type != "stream"]
            for cell in (before, after)
        ]
        assert shown[0] == shown[1], before.source
    assert len(figures_of(fresh)) == len(figures_of(kept))
    assert all(len(figure) > 5_000 for figure in figures_of(fresh))
