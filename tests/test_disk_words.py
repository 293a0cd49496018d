"""What a disk refuses is said in our words wherever it refuses, and truly."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from vectorstore import files


def down(*args: object) -> Any:
    raise vs.EngineDown("it does not answer")


@pytest.fixture
def kb(tmp_path: Path) -> Any:
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False) as store:
        store.history = "1 day"
        store.concepts.add({"name": "king"})
        yield store
        assert store.check().findings == ()


def refusing(*args: object, **more: object) -> Any:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_name_that_is_neither_durable_nor_taken_back_is_told(kb: vs.Store, tmp_path: Path) -> None:
    """The disk turns read-only between the rename and the sync of its folder."""
    for name, call in (
        ("out.jsonl", lambda: kb.export(tmp_path / "out.jsonl")),
        ("saved", lambda: kb.contexts.save("default", tmp_path / "saved")),
    ):
        with pytest.MonkeyPatch.context() as patch:
            sync, rename, turns = files._sync_folder, files._rename, []

            def last(path: Path, sync: Any = sync, turns: list[Path] = turns, final: Path = tmp_path / name) -> None:
                if final.exists():
                    turns.append(path)
                    refusing()
                sync(path)

            def once(source: Path, target: Path, rename: Any = rename, turns: list[Path] = turns) -> None:
                refusing() if turns else rename(source, target)

            patch.setattr(files, "_sync_folder", last)
            patch.setattr(files, "_rename", once)
            patch.setattr(Path, "unlink", refusing)
            with pytest.raises(vs.StoreError, match="remove it and retry") as raised:
                call()
            assert raised.value.errno == errno.EROFS
        with pytest.raises(FileExistsError):
            call()


def test_a_file_that_is_replaced_and_not_durable_is_told(tmp_path: Path) -> None:
    """The new bytes have the name already: that nothing was written would be wrong."""
    state = vs.StateFile(tmp_path / "own.state")
    state["a"] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_sync_folder", refusing)
        with pytest.raises(vs.StoreError, match="it was written, but .* write it again") as raised:
            state.save()
        assert raised.value.errno == errno.EROFS and "nothing was written" not in str(raised.value)
    read = vs.StateFile(tmp_path / "own.state")
    assert read.load() and read["a"] == 1
    state["a"] = 2
    state.save()
    assert read.load() and read["a"] == 2


def test_the_past_cannot_be_looked_at_without_room(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kb.concepts.add({"name": "queen"})
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refusing)
        with pytest.raises(vs.StoreError, match="the disk refused"):
            kb.as_of(kb.moment.seq)
    with kb.as_of(kb.moment.seq) as view:
        assert len(view.concepts) == 2


def test_a_backup_that_cannot_be_removed_is_told(kb: vs.Store, tmp_path: Path) -> None:
    kb.backup(tmp_path / "backups")
    kb.concepts.add({"name": "queen"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vectorstore.files._unlink", refusing)
        with pytest.raises(vs.StoreError, match="the disk refused"):
            kb.backup(tmp_path / "backups", keep=1)
    kb.backup(tmp_path / "backups", keep=1)
    assert vs.Backups(tmp_path / "backups").verify().ok and len(vs.Backups(tmp_path / "backups").list()) == 1


def test_a_collection_that_is_dropped_half_is_asked_no_more(tmp_path: Path) -> None:
    """The engine's part is gone, the catalog's commit fails: nothing is doubted, and dropping it again ends it."""
    with vs.open(tmp_path / "kb", "hash:16", index={"concepts": f"faiss:{tmp_path / 'engine'}"}) as store:
        store.concepts.add({"name": f"word {number}"} for number in range(50))
        assert store.remotes.sync(60)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vectorstore.storage.remotes.drop_remote", refusing)
            with pytest.raises(OSError):
                store.remotes.drop("concepts")
        assert store.check().findings == () and len(store.concepts.search("word 3", 5)) == 5
        store.remotes.drop("concepts")
        assert store.remotes.status() == [] and store.check().findings == ()
        with pytest.raises(vs.NotFound):
            store.remotes.drop("concepts")


def test_a_collection_whose_engine_is_down_is_not_dropped_and_can_be_later(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", "hash:16", index={"concepts": f"faiss:{tmp_path / 'engine'}"}) as store:
        store.concepts.add({"name": f"word {number}"} for number in range(50))
        assert store.remotes.sync(60)
        before = store.remotes.status()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("vectorstore.engines.faiss.Flat.exists", down)
            with pytest.raises(vs.EngineDown):
                store.remotes.drop("concepts")
        assert store.remotes.status() == before and store.concepts.search("word 3", 5).plan.name == "engine"
        store.remotes.drop("concepts")
        assert store.remotes.status() == [] and store.check().findings == ()


def test_a_backup_that_finds_all_files_there_makes_their_names_durable(
    kb: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who wrote them may have been stopped before it did; the manifest comes after that."""
    sync, synced = files._sync_folder, []
    monkeypatch.setattr(files, "_sync_folder", lambda path: (synced.append(path.name), sync(path)))
    kb.backup(tmp_path / "backups")
    synced.clear()
    assert kb.backup(tmp_path / "backups").new_files == 0
    assert synced[:2] == ["files", "generations"]
