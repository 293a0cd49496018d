"""Claims about the command line: every command's answer, exit code and errors.

Most commands run inside this process, through the same application object that the script calls; a process of its own
costs a second. What belongs to the process (signals, pipes, the installed script) is tried in one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import vectorstore as vs
from vectorstore.cli import app
from vectorstore.cli.app import EXIT_CODES, exit_code
from vectorstore.records import BUILTIN

PEOPLE = [
    {"id": "king", "name": "king", "domain": "royalty", "definition": "a male monarch", "quality": 0.9},
    {"id": "queen", "name": "queen", "domain": "royalty", "definition": "a female monarch", "quality": 0.8},
    {"id": "dog", "name": "dog", "domain": "animals", "definition": "an animal that barks", "tags": ["pet"]},
]


def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command, in this process."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, prog_name="vectorstore")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def process(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "vectorstore.cli", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def answer(*arguments: object, stdin: str = "") -> Any:
    done = run(*arguments, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refused(*arguments: object, stdin: str = "") -> tuple[int, str]:
    """(exit code, what stderr says), of a call that must fail without a result and without a traceback."""
    done = run(*arguments, stdin=stdin)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that no test changes."""
    path = tmp_path_factory.mktemp("shared") / "kb"
    with vs.open(path, "hash") as store:
        store.concepts.add(PEOPLE)
    return path


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    with vs.open(tmp_path / "kb", "hash") as store:
        store.concepts.add(PEOPLE)
    return tmp_path / "kb"


def test_help_names_the_commands_and_exit_codes_and_loads_no_engine() -> None:
    code = (
        "import sys; sys.argv = ['vectorstore', '--help']\n"
        "from vectorstore.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', [name for name in ('faiss', 'torch', 'numpy', 'sqlite3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert "LOADED []" in done.stdout
    for word in ("add", "import", "search", "rebuild", "demo", "Exit codes"):
        assert word in done.stdout


@pytest.mark.parametrize("command", ["add", "import", "get", "find", "search", "count", "stats", "check", "rebuild"])
def test_each_command_shows_an_example(command: str) -> None:
    done = run(command, "--help")

    assert done.returncode == 0
    assert f"vectorstore {command} kb" in done.stdout


def test_init_makes_a_store_and_leaves_one_that_is_there(tmp_path: Path) -> None:
    first = answer("init", tmp_path / "kb")
    again = answer("init", tmp_path / "kb")

    assert (
        first
        == again
        == {
            "path": str(tmp_path / "kb"),
            "kinds": [kind.table for kind in BUILTIN],
            "records": 1,
        }
    )


def test_add_takes_fields_by_their_types(kb: Path) -> None:
    added = answer(
        "add", kb, "concepts", "-f", "id=1984", "-f", "name=1984", "-f", "quality=0.5", "-f", "tags=book, old",
        "-f", 'lemmas=["1984", "nineteen"]',
    )  # fmt: skip
    (record,) = answer("get", kb, "concepts", "1984")

    assert added == {"ids": ["1984"]}
    assert (record["name"], record["quality"], record["tags"]) == ("1984", 0.5, ["book", "old"])
    assert record["lemmas"] == ["1984", "nineteen"]


@pytest.mark.parametrize(
    "stdin", ['{"name": "a"}', '[{"name": "a"}]', '\n{"name": "a"}\n'], ids=["object", "list", "lines"]
)
def test_add_reads_json_on_stdin(kb: Path, stdin: str) -> None:
    assert answer("add", kb, "concepts", stdin=stdin) == {"ids": ["default:a"]}


def test_add_says_when_a_name_is_no_field(kb: Path) -> None:
    done = run("add", kb, "concepts", "-f", "name=a", "-f", "defintion=typo", "--json")

    assert json.loads(done.stdout) == {"ids": ["default:a"]}
    assert "defintion: no field of concepts; kept in extra" in done.stderr


def test_add_of_a_taken_id_is_a_conflict_and_upsert_replaces(kb: Path) -> None:
    code, message = refused("add", kb, "concepts", "-f", "id=king", "-f", "name=emperor")

    assert code == 4
    assert "'king' exists already" in message
    assert answer("add", kb, "concepts", "-f", "id=king", "-f", "name=emperor", "--upsert") == {"ids": ["king"]}
    assert answer("get", kb, "concepts", "king")[0]["name"] == "emperor"


def test_get_shows_what_is_there_and_fails_for_what_is_not(shared: Path) -> None:
    done = run("get", shared, "concepts", "queen", "nobody", "--json")

    assert [record["name"] for record in json.loads(done.stdout)] == ["queen"]
    assert done.returncode == 3
    assert "nobody" in done.stderr


def test_find_pages_in_order(shared: Path) -> None:
    first = answer("find", shared, "concepts", "--order=-name", "--limit", 2)
    second = answer("find", shared, "concepts", "--order=-name", "--limit", 2, "--after", first["next"])

    assert [record["id"] for record in first["records"]] == ["queen", "king"]
    assert [record["id"] for record in second["records"]] == ["dog"]
    assert (first["total"], second["next"]) == (3, None)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (["domain=royalty"], 2),
        (["domain=royalty", "quality__gte=0.85"], 1),
        (["name__in=king,dog"], 2),
        (["tags__has=pet"], 1),
        (["quality__isnull=true"], 1),
        (['{"or": [{"name": "dog"}, {"name": "queen"}]}'], 2),
    ],
)
def test_where_is_the_shorthand_or_json(shared: Path, filters: list[str], expected: int) -> None:
    options = [part for text in filters for part in ("--where", text)]

    assert answer("count", shared, "concepts", *options) == {"kind": "concepts", "count": expected}


def test_search_tells_scores_and_how_it_was_found(shared: Path) -> None:
    found = answer("search", shared, "concepts", "a female monarch", "-k", 2, "--where", "domain=royalty")

    assert [hit["record"]["id"] for hit in found["hits"]] == ["queen", "king"]
    assert found["hits"][0]["score"] >= found["hits"][1]["score"]
    assert (found["exact"], found["recall_promised"], found["metric"]) == (True, 1.0, "cosine")
    assert found["plan"]["matching"] == 2


def test_search_for_people_is_a_table_with_an_explanation(shared: Path) -> None:
    done = run("search", shared, "concepts", "barks", "-k", 1, "--exact", "--explain")

    header, row, about, *explained = done.stdout.splitlines()
    assert header.split() == ["score", "id", "name", "domain", "definition"]
    assert row.split()[2:4] == ["dog", "dog"]
    assert about.startswith("1 hit · exact · ")
    assert "3 scored exactly" in explained[-1]


def test_search_by_record_by_vector_and_by_words(shared: Path) -> None:
    like = answer("search", shared, "concepts", "king", "--like", "-k", 1)
    with vs.open(shared, read_only=True) as store:
        vector = json.dumps(store.concepts.vectors(["dog"])[0].tolist())
    near = answer("search", shared, "concepts", vector, "-k", 1)
    words = answer("search", shared, "concepts", "barks", "--mode", "text")

    assert [found["hits"][0]["record"]["id"] for found in (like, near, words)] == ["queen", "dog", "dog"]


def test_delete_restore_and_purge(kb: Path) -> None:
    assert answer("delete", kb, "concepts", "--where", "domain=royalty", "--dry-run") == {"deleted": 2}
    assert answer("delete", kb, "concepts", "king", "queen") == {"deleted": 2}
    assert answer("count", kb, "concepts")["count"] == 1
    assert answer("undelete", kb, "concepts", "king") == {"restored": 1}
    code, message = refused("purge", kb, "concepts", "queen", "king")
    assert code == 4 and "1 of the named records is not deleted; delete it first" in message
    assert answer("purge", kb, "concepts", "queen") == {"purged": 1}
    assert [record["id"] for record in answer("find", kb, "concepts")["records"]] == ["king", "dog"]


def test_delete_without_saying_what_is_refused(kb: Path) -> None:
    code, message = refused("delete", kb, "concepts")

    assert (code, "say what" in message) == (2, True)


def test_stats_kinds_and_compact(kb: Path) -> None:
    stats = answer("stats", kb)
    kinds = {kind["kind"]: kind for kind in answer("kinds", kb)}

    assert stats["kinds"]["concepts"]["vectors"] == 3
    assert kinds["concepts"]["records"] == 3
    assert kinds["concepts"]["fields"]["quality"] == "real"
    assert isinstance(answer("compact", kb), list)
    assert "none: exact search" in run("stats", kb).stdout
    assert "concepts" in run("kinds", kb).stdout


def test_check_of_a_sound_store_is_clean(kb: Path) -> None:
    found = answer("check", kb)

    assert (found["ok"], found["findings"], found["vectors"]) == (True, [], 3)
    assert "all agrees" in run("check", kb).stdout


def test_check_with_findings_leaves_with_1_and_repair_mends(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with vs.open(path, "hash", auto_publish=False) as store:
        store.concepts.add({"name": f"word {number}"} for number in range(600))
        store.rebuild("concepts", "simhash512")
    (index,) = (path / "indexes").rglob("*.faiss")
    index.unlink()

    found = run("check", path, "--json")
    would = run("check", path, "--repair", "--dry-run", "--json")
    mended = run("check", path, "--repair", "--json")

    assert found.returncode == 1
    assert [finding["layer"] for finding in json.loads(found.stdout)["findings"]] == ["index"]
    assert json.loads(would.stdout)["actions"] == json.loads(mended.stdout)["actions"] != []
    assert (would.returncode, mended.returncode) == (1, 0)
    assert answer("check", path)["ok"]


def test_rebuild_measures_before_and_after(kb: Path) -> None:
    report = answer("rebuild", kb, "concepts", "exact")

    assert report["after"] == {**report["after"], "recipe": "exact", "recall": 1.0}
    assert run("rebuild", kb, "concepts", "exact").stdout.split()[:4] == ["recipe", "recall@10", "ms/query", "index"]


def test_an_index_over_too_little_is_refused_in_words(kb: Path) -> None:
    code, told = refused("rebuild", kb, "concepts", "pq-fastscan")
    assert code == 2 and "Number of training points" in told and "another recipe" in told and "faiss::" not in told


def test_an_unknown_kind_names_the_known_ones(shared: Path) -> None:
    code, message = refused("count", shared, "conceps")

    assert code == 3
    assert "contexts, concepts, analogies, clusters" in message


def test_an_unknown_field_names_the_known_ones(shared: Path) -> None:
    code, message = refused("count", shared, "concepts", "--where", "domian=x")

    assert code == 2
    assert "no field 'domian'; the fields are: " in message


def test_reading_makes_no_store(tmp_path: Path) -> None:
    code, message = refused("stats", tmp_path / "nothing")

    assert code == 5
    assert "vectorstore init" in message
    assert not (tmp_path / "nothing").exists()


def test_another_embedder_than_the_store_s_is_refused(shared: Path) -> None:
    assert refused("search", shared, "concepts", "king", "--embedder", "hash:64")[0] == 7
    assert refused("search", shared, "concepts", "king", "--embedder", "none")[0] == 7


def test_a_damaged_catalog_is_told_in_one_line(kb: Path) -> None:
    (kb / "catalog.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    for name in ("catalog.sqlite-wal", "catalog.sqlite-shm"):
        (kb / name).unlink(missing_ok=True)

    code, message = refused("stats", kb)

    assert code in (5, 6)
    assert len(message.splitlines()) == 1


def test_the_life_of_a_store_in_processes_of_their_own(tmp_path: Path) -> None:
    """Each process leaves the store whole for the next; results on stdout, messages on stderr, no traceback."""
    path = tmp_path / "kb"
    lines = "".join(json.dumps(person) + "\n" for person in PEOPLE)

    made = process("init", path)
    added = process("add", path, "concepts", "--embedder", "hash", "--json", stdin=lines)
    found = process("search", path, "concepts", "a female monarch", "-k", 1, "--json")
    missing = process("get", path, "concepts", "nobody")
    unknown = process("search", path, "conceps", "x")
    taken = process("add", path, "concepts", "-f", "id=king", "-f", "name=x")
    checked = process("check", path)

    done = [made, added, found, missing, unknown, taken, checked]
    assert [one.returncode for one in done] == [0, 0, 0, 3, 3, 4, 0]
    assert json.loads(added.stdout) == {"ids": ["king", "queen", "dog"]}
    assert json.loads(found.stdout)["hits"][0]["record"]["id"] == "queen"
    for failed in (missing, unknown, taken):
        assert failed.stdout.strip() == ""
        assert failed.stderr.startswith("vectorstore: ")
        assert len(failed.stderr.splitlines()) == 1


def test_what_nobody_foresaw_is_told_in_a_line_and_leaves_with_70(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(vs.Store, "stats", broken)

    code, message = refused("stats", shared)

    assert (code, "unforeseen RuntimeError: a bug" in message) == (70, True)


def test_bad_usage_leaves_with_2() -> None:
    assert refused("nonsense")[0] == 2
    assert refused("search", "kb")[0] == 2


def test_a_closed_pipe_is_no_error(shared: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m vectorstore.cli find {shared} concepts | head -1",
        shell=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert "Traceback" not in done.stderr


def test_every_error_class_has_an_exit_code() -> None:
    def below(kind: type[Any]) -> list[type[Any]]:
        return [kind, *(inner for child in kind.__subclasses__() for inner in below(child))]

    codes = {kind: exit_code(kind("")) for kind in below(vs.VectorstoreError) if kind is not vs.VectorstoreError}

    assert 70 not in codes.values()
    assert set(codes.values()) == {code for _, code in EXIT_CODES}


# -- over time ---------------------------------------------------------------------------------------------------------


def test_backup_list_verify_and_restore(tmp_path: Path, shared: Path) -> None:
    place = tmp_path / "backups"
    first = answer("backup", shared, place)
    assert answer("backup", shared, place, "--keep", 1)["removed"] == [first["generation"]]
    (listed,) = answer("backup", "-", place, "--list")
    assert listed["seq"] == first["seq"] and answer("backup", "-", place, "--verify")["ok"]
    told = run("restore", place, tmp_path / "again")
    assert told.returncode == 0 and f"as of commit {first['seq']}" in told.stdout
    code, message = refused("restore", place, tmp_path / "again")
    assert code == 5 and "replace=True" in message
    report = answer("restore", place, tmp_path / "again", "--replace", "--generation", listed["id"])
    assert Path(report["replaced"]).is_dir()
    assert answer("stats", tmp_path / "again")["kinds"] == answer("stats", shared)["kinds"]
    (next((place / "files").iterdir())).unlink()
    assert run("backup", "-", place, "--verify").returncode == 1
    assert refused("restore", place, tmp_path / "more")[0] == 6
    assert refused("restore", tmp_path / "nothing", tmp_path / "more")[0] == 5
    assert refused("backup", shared, place, "--keep-for", "some days")[0] == 2


def test_snapshots_and_upkeep(tmp_path: Path, shared: Path) -> None:
    import shutil

    root = shutil.copytree(shared, tmp_path / "kb")
    assert "no snapshots" in run("snapshot", root).stdout
    assert [each["name"] for each in answer("snapshot", root, "before")["snapshots"]] == ["before"]
    run("delete", root, "concepts", "dog", "--yes")
    with vs.open(root, embedder=None, read_only=True) as store, store.as_of("before") as then:
        assert "dog" in then.concepts
    assert answer("snapshot", root, "--history", "2 days")["history"].startswith("2 days")
    assert run("snapshot", root).stdout.startswith("history of 2 days is kept\n")
    assert answer("snapshot", root, "before", "--drop")["snapshots"] == []
    assert refused("snapshot", root, "before", "--drop")[0] == 3
    assert answer("snapshot", root, "--history", "none")["history"] is None
    assert run("maintain", root, "--dry-run").returncode == 0
    report = answer("maintain", root, "--retired", "0.01", "--purge-after", "30 days", "--declare")
    assert report["policy"]["retired_share"] == 0.01
    with vs.open(root, embedder=None, read_only=True) as store:
        assert store.policy is not None and store.policy.retired_share == 0.01
    assert refused("maintain", root, "--retired", "7")[0] == 2
