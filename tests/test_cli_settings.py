"""Settings of the command line: option > environment > file > default; completion, the prompt, the reference page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_cli import answer, refused, run, shared
from test_cli_processes import ALL
from typer.main import get_command

import vectorstore as vs
from vectorstore.cli import app
from vectorstore.cli.help import VARIABLES, page

__all__ = ["shared"]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write the file of settings, where the environment says it is."""
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("VECTORSTORE_CONFIG", str(file))
    return lambda text: file.write_text(text, encoding="utf-8")


def hits(shared: Path, *options: str) -> int:
    return len(answer("search", shared, "concepts", "monarch", *options)["hits"])


def test_an_option_counts_before_the_environment_before_the_file_before_the_default(
    shared: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("")
    assert hits(shared) == 3
    write("k = 2\n")
    assert hits(shared) == 2
    write("k = 2\n[search]\nk = 1\n")
    assert hits(shared) == 1 and hits(shared, "-k", "3") == 3
    write('embedder = "hash:64"\n')  # not the store's
    assert refused("search", shared, "concepts", "monarch")[0] == 7
    monkeypatch.setenv("VECTORSTORE_EMBEDDER", "hash")
    assert hits(shared) == 3
    monkeypatch.setenv("VECTORSTORE_EMBEDDER", "hash:64")
    assert refused("search", shared, "concepts", "monarch")[0] == 7
    assert hits(shared, "--embedder", "hash") == 3


def test_flags_and_lists_come_from_the_file_too_and_groups_have_tables(
    shared: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        'json = true\n[find]\nwhere = ["domain=royalty", "name=king"]\n[workflows]\nlimit = 1\n[workflows.log]\nlimit = 2\n'
    )
    assert [record["id"] for record in json.loads(run("find", shared, "concepts").stdout)["records"]] == ["king"]
    assert json.loads(run("workflows", "list", shared).stdout)["total"] == 0
    assert answer("find", shared, "concepts", "--where", "domain=animals")["total"] == 1  # instead of the file's
    monkeypatch.setenv("VECTORSTORE_JSON", "0")
    assert run("count", shared, "concepts").stdout == "3\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("k = [", "settings.toml: "),
        ("kk = 3", "kk: no command has an option --kk; options are after, "),
        ("[serch]\nk = 3", "[serch]: no such command; there are "),
        ("[search]\nlimit = 3", "search.limit: the command has no option --limit; its options are embedder, "),
        ("json = 1", "json: expected true or false, got 1"),
        ('where = "domain=x"', "where: expected a list of strings, got 'domain=x'"),
        ("k = true", "k: expected a string or a number, got True"),
        ("[workflows.list]\nkk = 3", "workflows: list.kk: the command has no option --kk"),
        ('k = "ten"', "'-k'"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_its_place(shared: Path, write: Any, text: str, said: str) -> None:
    write(text)
    code, message = refused("search", shared, "concepts", "monarch")
    assert code == 2 and said in " ".join(message.split())


def test_the_file_lies_in_the_home_unless_it_is_named(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VECTORSTORE_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert hits(shared) == 3
    (tmp_path / "vectorstore").mkdir()
    (tmp_path / "vectorstore" / "config.toml").write_text("[search]\nk = 1\n")
    assert hits(shared) == 1
    monkeypatch.setenv("VECTORSTORE_CONFIG", str(tmp_path / "none.toml"))
    code, message = refused("count", shared, "concepts")
    assert code == 2 and "VECTORSTORE_CONFIG: there is no file" in message


def test_help_says_where_settings_come_from() -> None:
    said = " ".join(run("--help").stdout.replace("│", " ").split())
    for word in ("VECTORSTORE_CONFIG", "config.toml", "VECTORSTORE_EMBEDDER", "[search]", "--install-completion"):
        assert word in said


def completed(*words: str) -> list[str]:
    """What a shell offers for the last word."""
    env = {"_VECTORSTORE_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "vectorstore.cli"], env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_completion_knows_commands_options_and_the_stores_kinds(shared: Path, tmp_path: Path) -> None:
    assert {"search", "serve", "stats", "state", "snapshot", "shell"} == set(completed("vectorstore", "s"))
    assert "--where" in completed("vectorstore", "find", str(shared), "concepts", "--wh")
    assert completed("vectorstore", "count", str(shared), "con") == ["contexts", "concepts"]
    assert completed("vectorstore", "count", str(tmp_path / "none"), "con") == []


def test_completion_is_installed_where_the_shell_looks(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from vectorstore.cli import main; main()", "--install-completion", "bash"],
        env={**os.environ, "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (script,) = tmp_path.rglob("vectorstore.sh")
    assert "_VECTORSTORE_COMPLETE=complete_bash" in script.read_text()


def test_the_prompt_has_the_store_and_the_library(shared: Path) -> None:
    assert run("shell", shared, "--read-only", stdin="print(len(store.concepts), vs.__version__)").stdout == (
        f"3 {vs.__version__}\n"
    )
    code, message = refused("shell", shared, "--read-only", stdin="store.concepts.add({'name': 'x'})")
    assert code == 5 and "read" in message
    assert refused("shell", shared, stdin="1 / 0")[0] == 70


def test_the_reference_page_is_what_the_code_says() -> None:
    made = page(get_command(app))
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == made, "run: vectorstore reference > docs/cli.md"
    assert all(f"## vectorstore {name}\n" in made for name in ALL)


def test_every_variable_of_the_environment_is_on_the_page() -> None:
    named = {
        name
        for path in (ROOT / "vectorstore").rglob("*.py")
        for name in re.findall(r"VECTORSTORE_[A-Z]+", path.read_text())
    }
    ours = {"VECTORSTORE_STATE", "VECTORSTORE_SERVICE"}  # set by `run` and `serve`, for the processes they start
    assert named - ours == {name for name, _ in VARIABLES}


def test_help_comes_at_once() -> None:
    """CPU time, so that a busy machine does not fail it; it was 0.2 s when this was written."""
    used = []
    for _ in range(3):
        before, started = os.times().children_user, time.perf_counter()
        subprocess.run([sys.executable, "-m", "vectorstore.cli", "--help"], capture_output=True, timeout=60, check=True)
        used.append(min(os.times().children_user - before, time.perf_counter() - started))
    assert min(used) < 0.5


def test_a_search_that_had_to_load_the_model_says_that_its_time_is_that(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = vs.HashEmbedder.embed

    def loading(*arguments: Any) -> Any:
        __import__("colorsys")
        return embed(*arguments)

    monkeypatch.setattr("vectorstore.cli.searching._MODEL", "colorsys")
    monkeypatch.setattr(vs.HashEmbedder, "embed", loading)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    command = ("search", shared, "concepts", "monarch")
    assert "the loading of the model included" in run(*command).stdout
    assert "the loading of the model included" not in run(*command).stdout, "it is there already"


def test_a_purge_that_finds_nothing_old_enough_says_so(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", "hash") as store:
        store.concepts.add({"id": "x", "name": "x"})
        store.concepts.delete("x")
    done = run("purge", tmp_path / "kb", "concepts")
    assert done.stdout == "0 records purged\n" and "1 deleted, none of them for 30 days: --older-than" in done.stderr
    assert run("purge", tmp_path / "kb", "concepts", "--older-than", "0").stderr == ""
