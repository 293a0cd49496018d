"""What seldom is typed: options that do not go together, empty and damaged stores, commands that end half-way."""

from __future__ import annotations

import inspect
import json
import subprocess
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import vectorstore as vs
from tests.test_seldom import sql
from vectorstore.cli import app, demo, output


def typed(*words: object, stdin: str | None = None) -> Result:
    """What a command line gives, as a user sees it."""
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin, prog_name="vectorstore")


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """A store with three concepts."""
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False) as store:
        store.concepts.add([{"id": n, "name": n, "quality": 0.5, "tags": [n]} for n in ("king", "queen", "cat")])
    return tmp_path / "kb"


REFUSED: list[tuple[str, str | None, str]] = [
    ("find kb concepts --where domain", None, "--where: expected domain=physics"),
    ("find kb concepts --where =x", None, "--where: expected domain=physics"),
    ("find kb concepts --where {", None, "--where: is not JSON"),
    ("add kb concepts --field name", None, "--field: expected name=value, got 'name'"),
    ("add kb concepts --field name=a --field name=b", None, "--field: name comes twice"),
    ("add kb concepts", " \n", "add: stdin is empty; give --field name=value"),
    ("check kb --dry-run", None, "only together with --repair"),
    ("compact kb dreams", None, "dreams"),
    ("snapshot kb --drop", None, "needs the name of a snapshot"),
    ("maintain kb --declare --dry-run", None, "--declare: not together with --dry-run"),
]


@pytest.mark.parametrize(("line", "stdin", "message"), REFUSED)
def test_a_line_that_cannot_be_meant_is_refused_and_changes_nothing(
    line: str, stdin: str | None, message: str, kb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(kb.parent)
    before = sql(kb, "SELECT seq FROM state")
    done = typed(*line.split(), stdin=stdin)
    assert done.exit_code in (2, 3) and message in " ".join(done.output.replace("│", " ").split())
    assert sql(kb, "SELECT seq FROM state") == before


def test_filters_of_the_command_line_are_values_of_their_fields(kb: Path) -> None:
    for where, found in (
        ("quality__in=[0.5]", 3),
        ("quality__in=0.5,0.7", 3),
        ("name__in=king,cat", 2),
        ('name__in=["king"]', 1),
        ("domain__isnull=true", 3),
        ("quality__isnull=true", 0),
    ):
        assert f"{min(found, 20)} of {found}" in typed("find", kb, "concepts", "--where", where).output
    assert "0 of 0" in typed("find", kb, "concepts", "--where", "name=nobody").output
    assert typed("search", kb, "concepts", json.dumps([0.1] * 16), "-k", 2).exit_code == 0
    assert typed("search", kb, "concepts", "[not numbers]", "-k", 2).exit_code == 0


def test_what_was_not_foreseen_is_told_with_its_way_when_that_is_asked_for(
    kb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vs.Collection, "count", lambda *_, **__: 1 // 0)
    plain = typed("count", kb, "concepts")
    monkeypatch.setenv("VECTORSTORE_TRACEBACK", "1")
    told = typed("count", kb, "concepts")
    assert plain.exit_code == told.exit_code != 0 and "unforeseen ZeroDivisionError" in plain.output
    assert "Traceback" in told.output and "Traceback" not in plain.output


def test_the_version_is_told() -> None:
    done = typed("--version")
    assert done.exit_code == 0 and done.output == f"vectorstore {vs.__version__}\n"


def test_an_engine_that_is_not_fed_in_time_is_a_finding(
    kb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = f"concepts=faiss:{tmp_path / 'engine'}"
    done = typed("engines", "feed", kb, "--index", index, "--json")
    assert done.exit_code == 0 and json.loads(done.stdout)["waiting"] == 0
    monkeypatch.setattr("vectorstore.remotes.Remotes.sync", lambda *_: False)
    assert typed("engines", "feed", kb, "--index", index).exit_code == 1
    renewed = typed("engines", "renew", kb, "concepts", "--index", index)
    assert renewed.exit_code == 1 and "concepts is still being filled" in renewed.output


def test_an_engine_is_left_for_an_index_where_there_are_enough_vectors(
    kb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorstore.sync.publish.PUBLISH_ROWS", 2)
    index = f"concepts=faiss:{tmp_path / 'engine'}"
    assert typed("engines", "feed", kb, "--index", index).exit_code == 0
    assert "concepts is searched here again" in typed("engines", "drop", kb, "concepts", "--index", index).output
    assert sql(kb, "SELECT count(*) FROM artifacts") == [(1,)]


def test_backups_that_are_old_are_told_when_they_go(kb: Path, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    assert typed("backup", kb, place).exit_code == 0
    with vs.open(kb, embedder="hash:16") as store:
        store.concepts.add({"name": "new"})
    removing = typed("backup", kb, place, "--keep", 1)
    assert removing.exit_code == 0 and "removed 1 older: " in removing.output
    assert typed("restore", place, kb, "--replace").output.count("what was there is now ") == 1


def test_a_form_with_many_terms_or_none_or_a_forged_one_is_shown(kb: Path) -> None:
    with vs.open(kb, embedder="hash:16") as store:
        store.lattice.put({"anchor": "many"}, [{"symbol": f"s{n}", "intensity": 1.0} for n in range(150)])
        store.lattice.put({"anchor": "none"})
    many, none = typed("lattice", "show", "many", "--store", kb), typed("lattice", "show", "none", "--store", kb)
    assert "of 150 terms; all of them with --json" in many.output and "✗" not in many.output
    assert none.exit_code == 0 and "symbol" not in none.output
    sql(kb, "DELETE FROM form_terms WHERE number = 3")
    assert "✗ default:many: " in typed("lattice", "show", "many", "--store", kb).output


def test_statistics_of_a_store_without_records_name_all_kinds_as_empty(tmp_path: Path) -> None:
    vs.open(tmp_path / "kb", embedder=None).close()
    sql(tmp_path / "kb", "DELETE FROM contexts")
    done = typed("stats", tmp_path / "kb")
    assert done.exit_code == 0 and "empty: " in done.output and "waiting" not in done.output


def test_sizes_and_lists_are_written_for_people() -> None:
    assert [output.size_of(each) for each in (999, 1000, 2.5e9, 3e12)] == ["999 B", "1.0 kB", "2.5 GB", "3.0 TB"]
    assert "a, b" in output.fields({"names": ["a", "b"]}) and "[1, 2]" in output.fields({"numbers": [1, 2]})


def test_a_bar_that_begins_anew_never_goes_back() -> None:
    places: list[int] = []
    with output.progress_bar("doing", 20) as told:
        bar: Any = inspect.getclosurevars(told).nonlocals["bar"]
        for done in (4, 8, 2, 6, 8, 8):
            told(done, 8)
            places.append(bar.n)
    assert places == [4, 8, 10, 14, 16, 16]


# -- the demo --------------------------------------------------------------------------------------------------------


def child(*lines: str) -> Any:
    return types.SimpleNamespace(stdout=types.SimpleNamespace(readline=lambda: lines[0]), pid=7)


def test_the_demo_says_what_its_other_process_said_instead() -> None:
    with pytest.raises(vs.StoreError, match="second process said 'no' where 'ready' was due"):
        demo._expect(child("no\n"), "ready")
    demo._expect(child("ready\n"), "ready")


def test_the_demo_does_not_claim_a_kill_that_did_not_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = subprocess.Popen

    def other(words: Any, **options: Any) -> Any:
        return real(["true"], **options)

    monkeypatch.setattr(subprocess, "Popen", other)
    done = typed("demo", tmp_path / "demo", "--records", 40, "--embedder", "hash")
    assert done.exit_code != 0 and "the demo's" in done.output


def test_the_demo_calls_itself_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr("sys.argv", ["/some where/vectorstore"])
    assert demo._called() == "'/some where/vectorstore'"
    monkeypatch.setattr("sys.argv", ["python"])
    assert "vectorstore" in demo._called()
