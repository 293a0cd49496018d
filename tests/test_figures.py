"""The tables of the README, of the documentation and of the report are what the benchmarks measured; none is typed."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import figures, page, run, terminal

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("path", figures.PAGES, ids=lambda path: path.name)
def test_tables_are_as_they_were_measured(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert text.count("<!-- figures: ") == text.count("<!-- end of figures -->") > 0
    assert figures.filled(text) == text, "run: python -m benchmarks.run --report"


def test_the_report_is_of_the_results_beside_it() -> None:
    assert (figures.RESULTS / "README.md").read_text(encoding="utf-8") == page.text(), "run: make bench ARGS=--report"


def test_a_figure_that_changes_changes_its_table(tmp_path: Path) -> None:
    for name in ("analogies", "clusters"):
        shutil.copy(figures.RESULTS / f"{name}.json", tmp_path)
    found = json.loads((tmp_path / "analogies.json").read_text(encoding="utf-8"))
    found["discovery"]["seconds"] = 7.5
    (tmp_path / "analogies.json").write_text(json.dumps(found), encoding="utf-8")
    marked = "before\n<!-- figures: knowledge -->\nold\n<!-- end of figures -->\nafter\n"

    text = figures.filled(marked, tmp_path)

    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert re.search(r"\| `discover` between two domains of 2,000 concepts \| 7\.5 s \|", text)


def test_a_marker_that_names_no_table_is_an_error() -> None:
    with pytest.raises(KeyError, match="speed"):
        figures.filled("<!-- figures: speed -->\n<!-- end of figures -->\n")


def test_the_best_of_a_row_is_bold_and_a_store_without_an_index_is_not_the_fastest() -> None:
    table = figures.TABLES["peers"](lambda name: figures.read(figures.RESULTS, name))
    first = table.splitlines()[2]

    assert first.count("**") == 2 and "(no index)" in first
    assert not re.search(r"\*\*[\d,]+\*\* \(no index\)", table)


def test_every_plot_of_the_report_is_drawn(tmp_path: Path) -> None:
    for path in figures.RESULTS.glob("*.json"):
        shutil.copy(path, tmp_path)

    page.draw(tmp_path)

    named = set(re.findall(r"!\[[^]]*\]\((\S+)\)", page.text()))
    drawn = {path.name for path in tmp_path.glob("*.png")}
    assert drawn < named and named == {path.name for path in figures.RESULTS.glob("*.png")} & named
    assert all(path.read_bytes()[:4] == b"\x89PNG" and path.stat().st_size > 8_000 for path in tmp_path.glob("*.png"))


def test_every_part_of_make_bench_is_a_script() -> None:
    assert [name for name in run.PARTS if not (ROOT / "benchmarks" / f"{name}.py").exists()] == []
    given = run.PARTS["retrieval"](None, ROOT)
    assert (Path(given[0]) / "vectors.npz").exists(), "without more data, the set that ships"
    assert all(Path(one).exists() for one in run.PARTS["clusters"](None, ROOT))


def test_the_picture_of_a_terminal_shows_the_readmes_commands_and_asks_no_server() -> None:
    picture = html.unescape(terminal.PICTURE.read_text(encoding="utf-8")).replace("\xa0", " ")
    seen = " ".join(re.findall(r">([^<>]*)</text>", picture))

    for command in terminal.COMMANDS:
        assert command.partition(" --field")[0] in seen
    assert "queen" in seen and "@font-face" not in picture and set(re.findall(r"url\((.)", picture)) <= {"#"}


@pytest.mark.slow
def test_a_terminal_is_drawn_from_what_commands_show() -> None:
    assert "kb" in terminal.shown(("vectorstore init kb", "vectorstore stats kb"))
    with pytest.raises(RuntimeError, match="vectorstore nonsense"):
        terminal.shown(("vectorstore nonsense",))
