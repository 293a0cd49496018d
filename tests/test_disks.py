"""What a disk refuses is a typed error; a full one can be deleted from; what is no file is neither read nor waited for.

Each of these was a defect that the rigs of tests/faults found.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore import files
from vectorstore.files import DiskFolder
from vectorstore.removing import Remover
from vectorstore.storage import catalog as catalogs
from vectorstore.storage.lock import LOCK, RESERVE, WriteLock, noted


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A closed store of ten concepts."""
    with opened(tmp_path / "kb") as store:
        store.concepts.add([{"id": f"c{n}", "name": f"n{n}"} for n in range(10)], vectors=np.eye(10, 16) + 1)
    return tmp_path / "kb"


def opened(root: Path, **options: Any) -> vs.Store:
    return vs.open(root, embedder=None, auto_publish=False, **options)


def sql(root: Path, statement: str, *values: object) -> list[Any]:
    with contextlib.closing(sqlite3.connect(root / "catalog.sqlite", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        return connection.execute(statement, values).fetchall()


def refusing(code: int) -> Callable[..., Any]:
    def call(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return call


@pytest.mark.parametrize("step", ["_create", "_write", "_sync", "_rename", "_sync_folder"])
def test_what_a_disk_refuses_is_a_store_error_with_its_errno(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, step, refusing(errno.ENOSPC))
    with pytest.raises(
        vs.StoreError, match="the disk refused: No space left on device; nothing was written; make room"
    ) as caught:
        DiskFolder(tmp_path).publish("a", [b"x"])
    assert caught.value.errno == errno.ENOSPC and os.listdir(tmp_path) == []


def test_a_folder_whose_name_could_not_be_made_durable_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.tmp").mkdir()
    calls = iter([lambda path: None, refusing(errno.EIO)])
    with monkeypatch.context() as patch:
        patch.setattr(files, "_sync_folder", lambda path: next(calls)(path))
        with pytest.raises(vs.StoreError):
            files.publish_folder(tmp_path / "a.tmp", tmp_path / "a")
    files.publish_folder(tmp_path / "a.tmp", tmp_path / "a")
    assert os.listdir(tmp_path) == ["a"]


def test_a_name_that_is_taken_is_no_matter_of_the_disk(tmp_path: Path) -> None:
    DiskFolder(tmp_path).publish("a", [b"x"])
    with pytest.raises(FileExistsError):
        DiskFolder(tmp_path).publish("a", [b"y"])


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENOMEM])
def test_a_file_that_cannot_be_read_now_is_not_said_to_be_damaged(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DiskFolder(tmp_path).publish("a", [b"x"])
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refusing(code))
        with pytest.raises(vs.StoreError, match="cannot be read now"):
            DiskFolder(tmp_path).read("a")
    assert bytes(DiskFolder(tmp_path).read("a")) == b"x"


def special(path: Path, what: str) -> None:
    {
        "a FIFO": lambda: os.mkfifo(path),
        "a folder": path.mkdir,
        "a link to a device": lambda: path.symlink_to("/dev/zero"),
    }[what]()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("what", ["a FIFO", "a folder", "a link to a device"])
def test_what_is_no_file_is_damage_and_is_not_waited_for(what: str, tmp_path: Path) -> None:
    special(tmp_path / "a", what)
    with pytest.raises(vs.CorruptError, match="a"):
        DiskFolder(tmp_path).read("a")
    with pytest.raises(vs.CorruptError, match="is no file"):
        vs.StateFile(tmp_path / "a").load()


def test_a_catalog_that_could_only_be_opened_for_reading_is_opened_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without descriptors SQLite falls back to reading, and every later write of that process failed."""
    connect = catalogs.connect

    def reading(uri: str, **options: Any) -> Any:
        monkeypatch.setattr(catalogs, "connect", connect)
        return connect(uri.replace("mode=rw", "mode=ro"), **options)

    monkeypatch.setattr(catalogs, "connect", reading)
    with opened(root) as store:
        store.concepts.add({"name": "next"}, vectors=np.ones((1, 16)))
        assert len(store.concepts) == 11


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("SQLITE_IOERR_WRITE", vs.StoreError, "the disk refused"), ("SQLITE_FULL", vs.StoreError, "make room")],
)
def test_a_checkpoint_that_fails_is_a_typed_error(
    name: str, error: type[Exception], message: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> None:
        planted = sqlite3.OperationalError("planted")
        planted.sqlite_errorname = name
        raise planted

    with opened(root) as store:
        with monkeypatch.context() as patch:
            patch.setattr(catalogs, "empty_wal", failing)
            with pytest.raises(error, match=message):
                store.compact()
        store.compact()
        assert len(store.concepts.search(np.ones(16), k=20)) == 10


# -- a full disk -------------------------------------------------------------------------------------------------------


def test_a_delete_on_a_full_disk_is_given_the_reserve(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delete, asked = Remover._delete, []

    def full(remover: Remover[Any], node: Any) -> int:
        asked.append((root / "store.lock").stat().st_size)
        if len(asked) == 1:
            error = vs.StoreError("full")
            error.errno = errno.ENOSPC
            raise error
        return delete(remover, node)

    with opened(root) as store:
        store.concepts.update({"id": "c1", "name": "x"})
        assert (root / "store.lock").stat().st_blocks * 512 >= RESERVE
        monkeypatch.setattr(Remover, "_delete", full)
        assert store.concepts.delete("c0") == 1
        assert asked[0] == RESERVE and asked[1] < 100
        with pytest.raises(vs.StoreError), store.transaction():  # what else it holds is the caller's to do again
            asked.clear()
            store.concepts.delete("c2")
        assert len(store.concepts) == 9
    with opened(root) as store:
        store.concepts.delete("c3")
        assert (root / "store.lock").stat().st_size == RESERVE and store.check().findings == ()


def test_a_close_that_has_no_room_to_flush_leaves_what_waits_where_it_is(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(root)
    store.concepts.add([{"id": f"d{n}", "name": "x"} for n in range(600)], vectors=np.ones((600, 16)))
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(files, "_create", refusing(errno.ENOSPC))
        store.close()
    assert "wait on in the catalog" in caplog.text
    with opened(root) as store:
        assert len(store.concepts.search(np.ones(16), k=1000)) == 610


def test_a_store_with_litter_is_opened_on_a_disk_that_refuses(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    litter = root / "embeddings" / "concepts" / ".0123.tmp"
    litter.parent.mkdir(parents=True, exist_ok=True)
    litter.write_bytes(b"x")

    def age(folder: DiskFolder, name: str) -> float:
        raise vs.StoreError("full")

    monkeypatch.setattr(DiskFolder, "age", age)
    with opened(root) as store:
        assert len(store.concepts) == 10 and store.check().litter == (f"embeddings/concepts/{litter.name}",)


# -- what is lost ------------------------------------------------------------------------------------------------------


def test_commits_that_are_lost_are_noticed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A WAL that rots ends at the first damaged frame, and SQLite says nothing."""
    with opened(root) as store:
        seq = store.stats()["seq"]
    sql(root, "UPDATE state SET seq = seq - 1")
    with caplog.at_level(logging.ERROR), opened(root) as store:
        (finding,) = store.check().findings
        assert (finding.layer, finding.where) == ("catalog", "catalog.sqlite")
        assert f"is at commit {seq - 1}, and commit {seq} was made" in finding.what
        assert finding.what in caplog.text


def test_the_note_of_the_last_commit_is_believed_only_whole(tmp_path: Path) -> None:
    lock = WriteLock(tmp_path / LOCK, 1, 4096)
    assert noted(tmp_path) == 0
    lock.acquire()
    lock.note(17)
    lock.release()
    assert noted(tmp_path) == 17 and (tmp_path / LOCK).stat().st_size == 4096
    assert lock.give_room() and not lock.give_room() and noted(tmp_path) == 17
    lock.close()
    data = bytearray((tmp_path / LOCK).read_bytes())
    data[7] ^= 1
    (tmp_path / LOCK).write_bytes(data)
    assert noted(tmp_path) == 0


def test_opening_makes_no_commit_where_there_is_nothing_to_sweep(root: Path) -> None:
    """It hid that commits were lost: a segment of a later commit was evidence until the next few openings."""
    (root / "embeddings" / "concepts").mkdir(parents=True, exist_ok=True)
    (root / "embeddings" / "concepts" / ".0123.tmp").write_bytes(b"too young to be swept")
    seqs = []
    for _ in range(3):
        with opened(root) as store:
            seqs.append(store.stats()["seq"])
    assert len(set(seqs)) == 1


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("signature = replace(signature, 'text', 'texu')", "do not agree"),
        ("declaration = replace(declaration, '\"rising\"', '\"risinh\"')", "do not agree"),
    ],
)
def test_a_damaged_declaration_is_found(change: str, finding: str, root: Path) -> None:
    sql(root, f"UPDATE kinds SET {change} WHERE name = 'concepts'")
    try:
        with opened(root) as store:
            assert [finding in each.what for each in store.check().findings] == [True]
    except vs.SchemaChangedError as error:
        assert "concepts" in str(error)


def test_a_declaration_that_cannot_be_read_is_a_typed_error(root: Path) -> None:
    sql(root, "UPDATE kinds SET declaration = '[{broken' WHERE name = 'concepts'")
    with pytest.raises(vs.CorruptError, match="the declaration of 'concepts'"):
        opened(root)


def test_a_declaration_whose_columns_lost_their_names_is_a_typed_error(root: Path) -> None:
    sql(root, """UPDATE kinds SET declaration = replace(declaration, '"name"', '"nAme"') WHERE name = 'concepts'""")
    with pytest.raises(
        vs.CorruptError, match="the declaration of 'concepts' in the catalog is damaged: a column without"
    ):
        opened(root)


def test_a_schema_that_is_not_ours_any_more_is_a_typed_error(root: Path) -> None:
    sql(root, "ALTER TABLE state_saves RENAME COLUMN base TO bare")
    with opened(root) as store, pytest.raises(vs.CorruptError, match="schema is damaged"):
        store.state("agent").load()


def test_full_text_whose_version_is_damaged_is_made_again(root: Path) -> None:
    sql(root, "UPDATE concepts_fts_config SET v = 0 WHERE k = 'version'")
    with opened(root) as store:
        assert store.repair(dry_run=False).remaining == ()
        assert len(store.concepts.search("n3", mode="text")) == 1


@pytest.mark.parametrize(
    ("was", "became"),
    [
        ("unicode61", "unicnde61"),
        ("diacritics 2", "diacritics 9"),
        ("tokenize", "uokenize"),
        ("content=", "content<"),
        ('"concepts")', '"contexts")'),
        ("fts5", "fts4"),
        ("fts5", "ftw5"),
        ("tokenize=", "pokenize="),
        ('"name"', '"rank"'),
    ],
)
def test_full_text_whose_declaration_is_damaged_is_made_again(root: Path, was: str, became: str) -> None:
    declared = "SELECT sql FROM sqlite_schema WHERE name = 'concepts_fts'"
    before = sql(root, declared)
    sql(root, "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'concepts_fts'", was, became)
    assert sql(root, declared) != before
    with opened(root) as store, opened(root) as other:
        with contextlib.suppress(vs.CorruptError):  # never an error of SQLite's own
            other.concepts.search("n3", mode="text")
        assert [finding.layer for finding in store.check().findings] == ["text"]
        repaired = store.repair(dry_run=False)
        assert repaired.remaining == () and repaired.actions == ("rebuild full text and tags of concepts",)
        for each in (store, other):
            assert each.concepts.search("n3", mode="text").ids == ["c3"]
        other.concepts.add({"id": "later", "name": "later"})
        assert store.concepts.search("later", mode="text").ids == ["later"] and store.check().findings == ()
    assert "".join(sql(root, declared)[0][0].split()).lower() == "".join(before[0][0].split()).lower()


def test_an_object_that_is_no_json_any_more_is_a_typed_error(root: Path) -> None:
    sql(root, "UPDATE concepts SET extra = '{broken' WHERE id = 'c3'")
    with opened(root) as store:
        for call in (
            lambda: store.concepts.find(where={"extra.a": 5}),
            lambda: store.concepts.search(np.ones(16), where={"extra.a": 5}),
            lambda: store.concepts.facets("extra.a"),
        ):
            with pytest.raises(vs.CorruptError, match="a text is damaged .malformed JSON.; run: vectorstore check"):
                call()
        assert store.repair(dry_run=False).remaining == () and store.concepts.find(where={"extra.a": 5}) == []


def test_a_rotted_index_over_the_spaces_hides_no_vectors(root: Path) -> None:
    sql(root, "CREATE UNIQUE INDEX hollow ON spaces(name) WHERE FALSE")
    ((page,),) = sql(root, "SELECT rootpage FROM sqlite_schema WHERE name = 'hollow'")
    sql(root, "DELETE FROM sqlite_schema WHERE name = 'hollow'")
    sql(root, "UPDATE sqlite_schema SET rootpage = ? WHERE name = 'idx_spaces_name'", page)
    with opened(root) as store:
        assert len(store.concepts.search(np.ones(16), k=10, exact=True)) == 10
        assert {finding.layer for finding in store.check().findings} == {"catalog"}


def test_a_schema_whose_tables_do_not_fit_together_is_a_typed_error(root: Path) -> None:
    damage = (
        "UPDATE sqlite_schema SET sql = replace(sql, 'spaces\"(\"id\")', 'spaces\"(\"dim\")') WHERE name = 'artifacts'"
    )
    sql(root, damage)
    with opened(root) as store, pytest.raises(vs.CorruptError, match="schema is damaged .foreign key mismatch"):
        store.check()
