"""Bars: in a terminal one line, in a notebook an element that stays with the page."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

import vectorstore as vs
from vectorstore import bars
from vectorstore.bars import Shown


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars do not wait until it is worth while."""
    monkeypatch.setattr(bars, "DELAY", 0.0)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_it_is_one_line_for_each_verb(store: vs.Store) -> None:
    file = Terminal()
    bar = vs.Bar("importing", file)
    for _ in range(2):
        for done in (1, 2, 4):
            bar(done, 4)
    lines = [line.split("\r")[-1] for line in file.getvalue().split("\n")]
    assert len(lines) == 3 and lines[-1].strip() == ""
    assert all(line.startswith("importing: 100%|") and " 4/4 [" in line for line in lines[:2])


def test_its_total_may_change_and_it_may_be_left_in_the_middle() -> None:
    file = Terminal()
    with pytest.raises(ValueError, match="enough"), vs.Bar("reading", file) as told:
        told(1, 2)
        told(2, 8)
        raise ValueError("enough")
    assert file.getvalue().endswith("\n") and "2/8" in file.getvalue()
    file = Terminal()
    with vs.Bar(file=file):
        pass
    assert file.getvalue() == "", "nothing was told"


def test_a_log_gets_few_lines() -> None:
    file = io.StringIO()
    bar = vs.Bar("checking", file)
    for done in range(1, 1001):
        bar(done, 1000)
    assert len(file.getvalue().replace("\r", "\n").split("\n")) < 8 and "1000/1000" in file.getvalue()


def test_what_is_soon_over_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "DELAY", 60.0)
    file = Terminal()
    bar = vs.Bar("checking", file)
    for done in range(1, 4):
        bar(done, 3)
    assert file.getvalue() == ""


def test_it_is_told_by_a_verb(store: vs.Store) -> None:
    file = Terminal()
    store.concepts.add([{"name": f"n{n}"} for n in range(20)])
    store.check(vs.Bar("checking", file))
    assert "100%" in file.getvalue()


def test_words_are_escaped() -> None:
    assert "<script>" not in Shown("<script>", 1, 2, 0.1)._repr_html_()
    assert repr(Shown("", 0, 0, 0.0)) == "0 of 0, 0.0 s"


CELLS = (
    "import vectorstore as vs\n"
    "store = vs.open(':memory:', 'hash:16')\n"
    "done = store.concepts.add(({'name': f'n{n}'} for n in range(5000)), progress=vs.Bar('adding'))",
    "fit = store.clusters.fit(n=3, progress=vs.Bar('fitting'))\n"
    "checked = store.check(vs.Bar('checking'))",
    "def impatient(done, of):\n"
    "    bar(done, of)\n"
    "    if done > of / 2:\n"
    "        raise KeyboardInterrupt\n"
    "bar = vs.Bar('fitting')\n"
    "try:\n"
    "    store.clusters.refit(n=4, progress=impatient)\n"
    "except KeyboardInterrupt:\n"
    "    print(len(store.clusters), store.check().ok)",
)  # fmt: skip


def test_in_a_notebook_it_is_an_element_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    root = str(Path(vs.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, second, third = (list(cell.outputs) for cell in book.cells)
    assert not [one for outputs in (first, second, third) for one in outputs if one.get("name") == "stderr"]
    assert [one.data["text/plain"].rpartition(",")[0] for one in first] == ["adding: 5,000 of 5,000"]
    assert [one.data["text/plain"].rpartition(",")[0].split(":")[0] for one in second] == ["fitting", "checking"]
    assert 'max="100" value="100"' in second[0].data["text/html"]
    shown, printed = third
    assert "<progress" in shown.data["text/html"] and printed.text == "3 True\n"
