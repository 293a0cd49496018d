"""The lattice on the command line: the documented examples as they stand, and what is told of failures."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import vectorstore as vs
from vectorstore.cli import app


def run(line: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a command as it is typed."""
    words = shlex.split(line)
    assert words[0] == "vectorstore"
    done = CliRunner().invoke(app, words[1:], prog_name="vectorstore")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def answer(line: str) -> Any:
    code, out, err = run(f"{line} --json")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def kb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store in `kb`, where the commands look for it: Scar_007 of 40 days ago, a pair, a law."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VECTORSTORE_STORE", raising=False)
    past = datetime.now(UTC) - timedelta(days=40)
    with vs.open("kb", embedder=None, clock=lambda: past) as store:
        scar = {"anchor": "Scar_007", "domain": "scar", "phase": "active"}
        terms = [{"symbol": "!∂Scar_007", "role": "contradiction_seed"}, {"symbol": "∇echo", "intensity": 0.5}]
        store.lattice.put(scar, terms)
    with vs.open("kb", embedder=None) as store:
        store.lattice.resolve("sky_blue", "sky_red")
        store.lattice.put({"anchor": "law", "domain": "law"}, [{"symbol": "alpha", "intensity": 1.5}])
    return tmp_path / "kb"


def lattice_commands() -> dict[str, Any]:
    group: Any = get_command(app).commands["lattice"]  # type: ignore[attr-defined]
    return dict(group.commands)


EXAMPLES = [
    line.strip()
    for command in lattice_commands().values()
    for line in command.help.splitlines()
    if line.strip().startswith("vectorstore ")
]
SOURCE = [
    "vectorstore lattice list",
    "vectorstore lattice list --limit 5 --domain echo",
    "vectorstore lattice show Scar_007",
    "vectorstore lattice prune --older-than 30d",
    "vectorstore lattice decay --tau 14.0",
    "vectorstore lattice clear --confirm",
]
"""The source's documentation, with our program's name."""


def test_every_command_of_the_source_is_there_with_an_example() -> None:
    assert set(lattice_commands()) == {"list", "show", "prune", "decay", "clear"}
    assert {line.split()[2] for line in EXAMPLES} == set(lattice_commands())


@pytest.mark.parametrize("line", list(dict.fromkeys([*EXAMPLES, *SOURCE])))
def test_the_documented_examples_work_as_they_stand(kb: Path, line: str) -> None:
    """K2: `30d` too."""
    code, out, err = run(line)
    asks = line == "vectorstore lattice clear"
    assert code == (2 if asks else 0) and bool(out) is not asks, err


def test_list_shows_the_newest_first_and_the_total(kb: Path) -> None:
    """The source's CLI test, on the store that was filled."""
    code, out, _ = run("vectorstore lattice list")
    lines = [line for line in out.splitlines() if line.strip()]
    assert code == 0 and lines[-1].strip() == "3 of 3"
    assert [re.split(r"\s{2,}", line.strip())[0] for line in lines if "active" in line] == [
        "law",
        "sky%5Fblue_sky%5Fred",
        "Scar_007",
    ]
    assert answer("vectorstore lattice list --limit 1")["forms"][0]["anchor"] == "law"
    assert answer("vectorstore lattice list --limit 1")["total"] == 3
    assert run("vectorstore lattice list --domain nothing")[1].strip() == "0 of 0"
    (row,) = answer("vectorstore lattice list --domain scar")["forms"]
    assert row["age_hours"] == pytest.approx(960, abs=0.1)
    assert row["intensity"] == pytest.approx(1.5 * 2.718281828 ** (-40 / 14), rel=1e-4)


def test_show_says_everything_and_fails_where_there_is_nothing(kb: Path) -> None:
    """K18: exit code 3, and why."""
    shown = answer("vectorstore lattice show Scar_007")
    assert [(term["symbol"], term["intensity"]) for term in shown["terms"]] == [("!∂Scar_007", 1.0), ("∇echo", 0.5)]
    assert shown["faults"] == [] and shown["domain"] == "scar"
    code, out, err = run("vectorstore lattice show Scar_008")
    assert (code, out) == (3, "") and "no form has the anchor 'Scar_008'" in err and "Traceback" not in err
    code, out, err = run("vectorstore lattice show Scar_007 --context other")
    assert code == 3 and "in the context 'other'" in err
    code, _, err = run("vectorstore lattice list --store nowhere")
    assert code != 0 and "nowhere" in err and not Path("nowhere").exists()


def test_prune_means_days_and_counts(kb: Path) -> None:
    """K1: `--older-than 30` spares what is an hour old, and a dry run everything."""
    assert "1 form would be pruned" in run("vectorstore lattice prune --older-than 30 --dry-run")[1]
    assert answer("vectorstore lattice list")["total"] == 3
    assert answer("vectorstore lattice prune --older-than 960h --domain law") == {"pruned": 0, "dry_run": False}
    assert answer("vectorstore lattice prune --older-than 30") == {"pruned": 1, "dry_run": False}
    assert {form["anchor"] for form in answer("vectorstore lattice list")["forms"]} == {"law", "sky%5Fblue_sky%5Fred"}
    for age in ("30x", "-1d", "''"):
        code, out, err = run(f"vectorstore lattice prune --older-than={age}")
        assert (code, out) == (2, "") and "older_than: expected a span such as 30d" in err
    assert answer("vectorstore lattice list")["total"] == 2


def test_decay_is_refused_without_a_tau_and_can_be_repeated(kb: Path) -> None:
    """K3, K5."""
    before = answer("vectorstore lattice show Scar_007")
    for tau in ("0", "-1", "nan", "inf"):
        code, out, err = run(f"vectorstore lattice decay --tau={tau}")
        assert (code, out) == (2, "") and "tau_days: expected" in err
    assert {**answer("vectorstore lattice show Scar_007"), "intensity": 0, "age_hours": 0} == {
        **before,
        "intensity": 0,
        "age_hours": 0,
    }
    for _ in range(2):
        assert answer("vectorstore lattice decay --tau 7") == {"decayed": 3, "tau_days": 7.0}
        found = answer("vectorstore lattice show Scar_007")
        assert found["intensity"] == pytest.approx(1.5 * 2.718281828 ** (-40 / 7), rel=1e-4) and found["raw_sum"] == 1.5
    assert found["updated_at"] == before["updated_at"]


def test_clear_asks_and_then_says_what_it_cleared(kb: Path) -> None:
    """K14."""
    code, out, err = run("vectorstore lattice clear")
    assert (code, out) == (2, "") and "3 forms would be cleared (1 of cls, 1 of law, 1 of scar)" in err
    assert answer("vectorstore lattice clear --confirm --domain law") == {"cleared": 1, "domains": {"law": 1}}
    assert answer("vectorstore lattice clear --confirm") == {"cleared": 2, "domains": {"cls": 1, "scar": 1}}
    assert run("vectorstore lattice clear --confirm")[1].strip() == "0 forms cleared (there are none)"
    with vs.open(kb, embedder=None) as store:  # and it can be undone until a purge
        assert store.lattice.restore(where={"domain": "law"}) == 1
