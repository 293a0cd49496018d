"""The command line's import, export and convert."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from test_cli import answer, kb, process, refused, run

import vectorstore as vs
from vectorstore import exporting

__all__ = ["kb"]
WORDNET = Path(__file__).parent / "data" / "wordnet" / "dict"


@pytest.mark.parametrize("command", ["import", "export"])
def test_each_command_shows_an_example(command: str) -> None:
    assert f"vectorstore {command} kb" in run(command, "--help").stdout


def test_out_and_in_again(kb: Path, tmp_path: Path) -> None:
    """I2: through processes of their own, with their exit codes."""
    out = process("export", kb, tmp_path / "kb.jsonl.gz", "--vectors", "all", "--json")
    assert out.returncode == 0, out.stderr
    said = json.loads(out.stdout)
    assert said["records"]["concepts"] == 3 and said["vectors"] == 3
    assert process("init", tmp_path / "other").returncode == 0
    done = process("import", tmp_path / "other", tmp_path / "kb.jsonl.gz", "--embedder", "hash", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == said["records"]
    with vs.open(kb) as one, vs.open(tmp_path / "other") as two:
        assert list(one.concepts) == list(two.concepts)


def test_import_takes_plain_and_packed_lines_and_meets_what_is_there(kb: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"id": f"n{n}", "name": f"name {n}"}) + "\n" for n in range(50)))
    found = answer("import", kb, file, "--kind", "concepts")
    assert (found["added"], found["records"], found["format"]) == ({"concepts": 50}, 50, "jsonl")
    code, message = refused("import", kb, file, "--kind", "concepts")
    assert code == 4 and f"{file}:1: concepts.id: 'n0' exists already" in message and "on_conflict" in message
    file.write_text(json.dumps({"id": "n0", "name": "other", "tags": ["x"]}) + "\n")
    for rule, word in (("skip", "skipped"), ("merge", "merged"), ("overwrite", "unchanged")):
        assert answer("import", kb, file, "-k", "concepts", "--on-conflict", rule)[word] == {"concepts": 1}
    assert "added" not in run("import", kb, file, "-k", "concepts", "--on-conflict", "skip").stdout


def test_import_is_all_or_nothing_and_names_the_line(kb: Path, tmp_path: Path) -> None:
    file, torn = tmp_path / "bad.jsonl", tmp_path / "torn.jsonl"
    file.write_text('{"name": "good"}\n\n{"name": "bad", "quality": 7}\n')
    torn.write_text('{"name": "good"}\n{"name": \n')
    code, message = refused("import", kb, file, "-k", "concepts")
    torn_code, torn_message = refused("import", kb, torn, "-k", "concepts")
    assert (code, torn_code) == (2, 2)
    assert f"{file}:3: concepts.quality: expected 0..1, got 7" in message
    assert f"{torn}:2: is not JSON" in torn_message
    assert answer("count", kb, "concepts")["count"] == 3
    assert refused("import", kb, "/nowhere.jsonl")[0] == 2
    assert refused("import", kb, file, "--kind", "dreams")[0] == 3
    assert refused("import", kb, file, "-o", "limit")[0] == 2


def test_importers_and_their_options(tmp_path: Path) -> None:
    assert answer("init", tmp_path / "kb")
    found = answer("import", tmp_path / "kb", WORDNET, "-o", "relations=false", "--embedder", "none")
    assert found["added"] == {"concepts": 168} and found["format"] == "wordnet"
    (tmp_path / "v.txt").write_text("a 1 2\nb 3 4\nc 5 6\n")
    found = answer(
        "import", tmp_path / "kb", tmp_path / "v.txt", "--from", "words", "-o", "limit=2", "--metric", "l2",
        "--embedder", "none",
    )  # fmt: skip
    assert found["added"] == {"concepts": 2} and found["vectors"] == 2
    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert store.concepts.vector_info("word:a").metric == "l2"


def test_export_says_what_is_wrong(kb: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.jsonl").write_text("mine")
    for target, options, code in (
        ("taken.jsonl", (), 2),
        ("x.xml", (), 2),
        ("x.csv", (), 2),
        ("x.jsonl", ("--kind", "dreams"), 3),
        ("x.jsonl", ("--context", "nowhere"), 3),
        ("x.jsonl", ("--vectors", "some"), 2),
        ("taken.jsonl/x.jsonl", (), 5),
    ):
        found, message = refused("export", kb, tmp_path / target, *options)
        assert found == code, (target, message)
    assert (tmp_path / "taken.jsonl").read_text() == "mine"
    with mock.patch.object(exporting, "sealed_rows", side_effect=OSError(28, "No space left on device")):
        code, message = refused("export", kb, tmp_path / "full.jsonl")
    assert code == 5 and "No space left on device; nothing was written" in message
    assert not (tmp_path / "full.jsonl").exists()


def test_convert(kb: Path, tmp_path: Path) -> None:
    assert answer("export", kb, tmp_path / "kb.jsonl", "--vectors", "all")
    found = answer("convert", tmp_path / "kb.jsonl", tmp_path / "tables", "--format", "parquet")
    assert found["records"]["concepts"] == 3 and found["vectors"] == 3
    answer("convert", tmp_path / "tables" / "concepts.parquet", tmp_path / "back.jsonl")
    with vs.open(kb) as one, vs.open(tmp_path / "back", "hash") as two:
        two.import_(tmp_path / "back.jsonl")
        assert list(one.concepts) == list(two.concepts)
        ids = [each.id for each in one.concepts]
        assert np.array_equal(one.concepts.vectors(ids), two.concepts.vectors(ids))
        assert one.concepts.vector_info(ids[0]) == two.concepts.vector_info(ids[0])
    (tmp_path / "v.txt").write_text("a 0 0\nb 3 4\n")
    assert answer("convert", tmp_path / "v.txt", tmp_path / "v.csv", "--from", "words")["records"] == {"concepts": 2}
    (tmp_path / "bad.jsonl").write_text('{"kind": "concepts", "record": {"name": 1}}\n')
    assert refused("convert", tmp_path / "bad.jsonl", tmp_path / "x.csv")[0] == 2
    assert not (tmp_path / "x.csv").exists()


def test_an_interrupted_import_leaves_130_and_the_store_as_it_was(kb: Path, tmp_path: Path) -> None:
    file = tmp_path / "slow.jsonl"
    file.write_text("".join(json.dumps({"name": f"name {number}"}) + "\n" for number in range(200_000)))
    importer = subprocess.Popen(
        [sys.executable, "-m", "vectorstore.cli", "import", str(kb), str(file), "--kind", "concepts"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert importer.stderr is not None
    seen = ""
    while "importing" not in seen:
        letter = importer.stderr.read(1)
        assert letter, seen
        seen += letter
    time.sleep(0.3)
    os.kill(importer.pid, signal.SIGINT)
    _, message = importer.communicate(timeout=60)

    assert importer.returncode == 130
    assert "interrupted" in message
    assert "Traceback" not in message
    assert answer("count", kb, "concepts")["count"] == 3
    assert answer("check", kb)["ok"]
