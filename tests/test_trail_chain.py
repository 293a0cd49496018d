"""The chain of the trail: every alteration shows, entries move into files, writers share it, the command line."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trails import filled, spoil, vectors
from typer.testing import CliRunner

import vectorstore as vs
from vectorstore.cli import app
from vectorstore.storage import trail as chain
from vectorstore.sync.trail import verified

# -- the chain ---------------------------------------------------------------------------------------------------------


ALTERED: list[tuple[str, str]] = [
    ("UPDATE trail SET actor = 'eve' WHERE number = 42", "entry 42 was altered"),
    ("UPDATE trail SET at = at + 1 WHERE number = 41", "entry 41 was altered"),
    ("UPDATE trail SET operation = 'upsert' WHERE number = 43", "entry 43 was altered"),
    ("UPDATE trail SET rows = '1-2' WHERE number = 44", "entry 44 was altered"),
    ("UPDATE trail SET details = '{}' WHERE number = 40", "entry 40 was altered"),
    ("UPDATE trail SET kind = NULL WHERE number = 40", "entry 40 was altered"),
    ("UPDATE trail SET seq = seq + 1 WHERE number = 40", "entry 40 was altered"),
    ("UPDATE trail SET digest = zeroblob(32) WHERE number = 42", "entry 42 was altered"),
    ("DELETE FROM trail WHERE number = 42", "entry 43 follows entry 41"),
    ("DELETE FROM trail WHERE number = 44", "it was cut off"),
    ("DELETE FROM trail WHERE number > 40", "it was cut off"),
    ("DELETE FROM trail", "it was cut off"),
    ("UPDATE trail_head SET number = 43", "it was cut off"),
    (
        "INSERT INTO trail SELECT 45, seq, at, operation, kind, rows, actor, details, digest FROM trail WHERE number = 44",
        "entry 45 was altered",
    ),
]


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize(("sql", "finding"), ALTERED)
def test_an_altered_removed_or_truncated_entry_is_found(sql: str, finding: str, rotated: bool, tmp_path: Path) -> None:
    path, _ = filled(tmp_path, rotated)
    spoil(path, sql)
    with vs.open(path, embedder=None) as store:
        report = store.trail.verify()
        assert not report.ok and finding in " ".join(report.findings)
        assert [each.layer for each in store.check().findings] == ["trail"] * len(report.findings)


COLUMNS = ("number", "seq", "at", "operation", "kind", "rows", "actor", "details", "digest")


def planted(path: Path) -> Iterator[tuple[str, list[tuple[str, tuple[object, ...]]]]]:
    """Every alteration of one value, every removal, every exchange of two neighbours: (what, statements)."""
    connection = sqlite3.connect(path / "catalog.sqlite")
    rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM trail ORDER BY number").fetchall()
    connection.close()
    for place, row in enumerate(rows):
        number = row[0]
        for column, value in zip(COLUMNS, row, strict=True):
            other: object = {int: lambda v: v + 100, bytes: lambda v: v[:-1] + bytes([v[-1] ^ 1])}.get(
                type(value), lambda v: f"{v or ''}1"
            )(value)
            yield f"{column} of {number}", [(f"UPDATE trail SET {column} = ? WHERE number = ?", (other, number))]
            if column == "kind" and value is not None:
                yield f"no kind of {number}", [("UPDATE trail SET kind = NULL WHERE number = ?", (number,))]
        yield f"without {number}", [("DELETE FROM trail WHERE number = ?", (number,))]
        yield f"cut off at {number}", [("DELETE FROM trail WHERE number >= ?", (number,))]
        closed = (
            "UPDATE trail SET number = -number WHERE number > ?",
            "UPDATE trail SET number = -number - 1 WHERE number < 0",
        )
        yield (
            f"without {number}, renumbered",
            [("DELETE FROM trail WHERE number = ?", (number,)), (closed[0], (number,)), (closed[1], ())],
        )
        if place + 1 < len(rows):
            after = rows[place + 1][0]
            swapped = [(-1, number), (number, after), (after, -1)]
            yield (
                f"{number} and {after} exchanged",
                [("UPDATE trail SET number = ? WHERE number = ?", (to, at)) for to, at in swapped],
            )


@pytest.mark.parametrize("rotated", [False, True])
def test_every_planted_alteration_is_found(rotated: bool, tmp_path: Path) -> None:
    path, _ = filled(tmp_path, rotated)
    with vs.open(path, embedder=None) as store:
        assert store.trail.verify().ok
        count = 0
        for what, statements in planted(path):
            try:
                with store._catalog.write() as transaction:
                    for sql, values in statements:
                        assert transaction.connection.execute(sql, values).rowcount > 0 or "renumbered" in what
                    report = verified(store._sync, transaction.connection)
                    raise LookupError
            except LookupError:
                pass
            assert not report.ok, what
            count += 1
        assert count > (60 if rotated else 250) and store.trail.verify().ok


def test_a_chain_made_anew_is_told_by_the_anchor_alone(tmp_path: Path) -> None:
    path, anchor = filled(tmp_path)
    with vs.open(path, embedder=None) as store, store._catalog.read() as connection:
        links = [*chain.links(connection, {})]
    connection = sqlite3.connect(path / "catalog.sqlite")
    connection.execute("DELETE FROM trail")
    digest = chain.GENESIS
    for number, link in enumerate((link for link in links if link.number != 42), 1):
        new = chain.Link(number, *[getattr(link, name) for name in link.__dataclass_fields__][1:])
        digest = new.sealed(digest)
        values = [*[getattr(new, name) for name in new.__dataclass_fields__][:-1], digest]
        connection.execute("INSERT INTO trail VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
    connection.execute("UPDATE trail_head SET number = 43, digest = ?", (digest,))
    connection.commit()
    connection.close()
    with vs.open(path, embedder=None) as store:
        assert store.trail.verify().ok, "whoever can write everything can forge everything"
        assert "entry 44 of the anchor was removed" in store.trail.verify(anchor).findings[0]
        store.concepts.add({"id": "new", "name": "new"}, vectors=vectors(1))
        assert "entry 44 of the anchor is another one now" in store.trail.verify(anchor).findings[0]


def test_old_anchors_hold_for_ever(tmp_path: Path) -> None:
    path, anchor = filled(tmp_path)
    with vs.open(path, embedder=None) as store:
        anchors = [f"0:{chain.GENESIS.hex()}", anchor]
        for number in range(3):
            store.concepts.add({"id": f"d{number}", "name": "x"}, vectors=vectors(1))
            anchors.append(store.trail.anchor())
            store.trail.rotate(keep=1)
        for each in anchors:
            assert store.trail.verify(each).ok
        for bad in ("", "44", "44:xyz", anchor[:-1], f" {anchor}"):
            with pytest.raises(vs.ValidationError, match="anchor: expected 'number:digest'"):
                store.trail.verify(bad)
        assert not store.trail.verify(f"3:{'0' * 64}").ok and not store.trail.verify(f"999:{'0' * 64}").ok


# -- rotation ----------------------------------------------------------------------------------------------------------


def test_rotation_moves_entries_into_files_and_the_chain_goes_on(place: Any) -> None:
    with vs.open(place, embedder=None, auto_publish=False) as store:
        for name in "abcd":
            store.concepts.add({"id": name, "name": name}, vectors=vectors(1))
        before = [*store.trail.stream()]
        first = store.trail.rotate(keep=2)
        assert first is not None and first.startswith(f"trail/1-{len(before) - 2}.")
        assert [*store.trail.stream()][: len(before)] == before
        assert [each.operation for each in store.trail.list()] == [
            "rotate",
            *(each.operation for each in before[:-3:-1]),
        ]
        assert store.trail.list()[0].details["file"] == first.removeprefix("trail/")
        second = store.trail.rotate()
        assert second is not None and store.trail.verify().files == 2 and store.trail.list().total == 1
        assert store.trail.rotate(keep=5) is None
        assert store.check().findings == () and store.check().litter == () and store.sweep() == []
        if isinstance(place, Path):
            data = (place / first).read_bytes()
            lines = [json.loads(line) for line in gzip.decompress(data).splitlines()]
            assert [line[0] for line in lines] == list(range(1, len(before) - 1))
            assert lines[-1][-1] == before[-3].digest


def test_a_damaged_or_missing_file_is_found(tmp_path: Path) -> None:
    path, anchor = filled(tmp_path, rotate=True)
    (file,) = (path / "trail").iterdir()
    data = file.read_bytes()
    with vs.open(path, embedder=None) as store:
        for damaged in (data[:-1], data[:50] + bytes([data[50] ^ 1]) + data[51:], None):
            if damaged is None:
                file.unlink()
            else:
                file.write_bytes(damaged)
            report = store.trail.verify(anchor)
            assert len(report.findings) == 1 and file.name in report.findings[0]
            assert [finding.layer for finding in store.check().findings] == ["trail"]
            with pytest.raises(vs.CorruptError):
                [*store.trail.stream()]
            store.concepts.add({"name": "x"}, vectors=vectors(1))
            store.concepts.delete("default:x")
            store.concepts.purge("default:x")
        file.write_bytes(data)
        assert store.trail.verify(anchor).ok


def test_altered_entries_are_not_rotated(tmp_path: Path) -> None:
    path, _ = filled(tmp_path)
    spoil(path, "UPDATE trail SET actor = 'eve' WHERE number = 42")
    with vs.open(path, embedder=None) as store:
        with pytest.raises(vs.CorruptError, match="entry 42 was altered; nothing was moved"):
            store.trail.rotate()
        assert store.trail.verify().files == 0


# -- several writers ---------------------------------------------------------------------------------------------------


def test_threads_and_processes_make_one_chain(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    vs.open(path, embedder=None).close()
    code = (
        "import sys, vectorstore as vs\n"
        "with vs.open(sys.argv[1], embedder=None, actor=sys.argv[2]) as store:\n"
        "    for n in range(20): store.concepts.add({'id': f'{sys.argv[2]}-{n}', 'name': 'x'}, vectors=[[1.0]])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(vs.__file__).parents[1])}
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name], env=environment) for name in ("bob", "eve")
    ]
    with vs.open(path, embedder=None, actor="ann") as store:

        def work(number: int) -> None:
            for n in range(10):
                store.concepts.add({"id": f"ann-{number}-{n}", "name": "x"}, vectors=[[1.0]])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [child.wait() for child in children] == [0, 0]
        added = [each for each in store.trail.stream() if each.operation == "add" and each.kind == "concepts"]
        assert {each.actor for each in added} == {"ann", "bob", "eve"} and len(added) == 70
        assert all(name.startswith(each.actor) for each in added for name in each.ids)
        assert [each.seq for each in added] == sorted(each.seq for each in added) and store.trail.verify().ok


# -- the command line --------------------------------------------------------------------------------------------------


def run(*words: object, code: int = 0) -> Any:
    done = CliRunner().invoke(app, ["trail", *map(str, words)], prog_name="vectorstore")
    assert done.exit_code == code, done.stderr
    return json.loads(done.stdout) if "--json" in words else done.stdout


def test_the_command_line_lists_verifies_and_rotates(tmp_path: Path) -> None:
    path, anchor = filled(tmp_path)
    page = run("list", path, "--limit", 3, "--json")
    assert page["total"] == 44 and [each["number"] for each in page["entries"]] == [44, 43, 42]
    more = run("list", path, "--limit", 100, "--after", page["next"], "--json")
    assert [each["number"] for each in more["entries"]] == list(range(41, 0, -1)) and more["next"] is None
    one = run("list", path, "--kind", "concepts", "--id", "c3", "--operation", "add", "--json")
    assert [(each["ids"], each["actor"]) for each in one["entries"]] == [(["c3"], "ann")]
    assert "c3" in run("list", path)
    assert run("verify", path, "--anchor", anchor, "--json")["ok"] and anchor in run("verify", path)
    assert run("rotate", path, "--keep", 4, "--json")["file"].startswith("trail/1-40.")
    assert "44 entries" not in run("verify", path) and "1 files" in run("verify", path)
    spoil(path, "DELETE FROM trail WHERE number = 42")
    assert run("verify", path, "--json", code=1)["ok"] is False
    assert "those between were removed" in run("verify", path, code=1)
    run("verify", path, "--anchor", "nonsense", code=2)
