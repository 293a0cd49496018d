"""Backups and restores where a disk, a Ctrl-C or another process comes between two steps: nothing is lost, all told."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import vectorstore as vs
from vectorstore import files, restoring
from vectorstore.backups import Vault, generations, mirrors
from vectorstore.backups.vaults import DiskVault
from vectorstore.files import sha256
from vectorstore.storage import CATALOG

STEPS = ("_rename", "_sync_folder", "_exchange")


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        store.concepts.add({"id": "old", "name": "old"})
        yield store


def refusing(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def said(error: BaseException) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


# -- a store that is replaced ------------------------------------------------------------------------------------------


def folder(path: Path, whose: str) -> Path:
    path.mkdir(parents=True)
    (path / CATALOG).touch()
    (path / "whose").write_text(whose)
    return path


def whose(path: Path) -> str | None:
    return (path / "whose").read_text() if path.exists() else None


class Cut:
    """Raises at one step of those by which a restored store takes its place, or from that one on."""

    def __init__(self, nth: int, error: BaseException, *, late: bool, for_good: bool) -> None:
        self.nth, self.error, self.late, self.for_good = nth, error, late, for_good
        self.armed, self.seen = False, 0

    def step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            if not self.armed:
                return original(*args)
            here = self.seen == self.nth or (self.for_good and self.seen > self.nth)
            late = self.late and self.seen == self.nth
            self.seen += 1
            result = None if here and not late else original(*args)
            if here:
                raise self.error
            return result

        return call


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("kind", ["the disk", "Ctrl-C"])
@pytest.mark.parametrize("system", ["exchanges", "cannot exchange"])
def test_the_store_that_is_replaced_is_kept_whatever_fails_at_whatever_step(
    system: str, kind: str, for_good: bool, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is at its name, or beside under the documented one; the error says truly where."""
    copy = folder(tmp_path / "restored", "restored")
    original = {name: getattr(files, name) for name in STEPS}
    if system == "cannot exchange":
        original["_exchange"] = lambda first, second: False
    manifest: Any = SimpleNamespace(catalog_format=1, id="x", seq=1, at=0, files=(), size=0, left_out=())
    monkeypatch.setattr(restoring, "vault_at", lambda source, create: SimpleNamespace(name="vault"))
    monkeypatch.setattr(restoring, "pick", lambda vault, generation: manifest)
    monkeypatch.setattr(restoring, "_write", lambda vault, manifest, root, progress: shutil.copytree(copy, root))
    monkeypatch.setattr(restoring, "_prove", lambda manifest, root: None)
    for nth in range(20):
        here = tmp_path / str(nth)
        target = folder(here / "kb", "old")
        error = KeyboardInterrupt() if kind == "Ctrl-C" else OSError(errno.EIO, "planted")
        cut = Cut(nth, error, late=late, for_good=for_good)
        monkeypatch.setattr(restoring, "_tell", lambda *_, cut=cut: setattr(cut, "armed", True))
        for name in STEPS:
            monkeypatch.setattr(files, name, cut.step(original[name]))
        raised: BaseException | None = None
        try:
            report = vs.restore("anywhere", target, replace=True)
        except BaseException as caught:
            raised = caught
        found = {path: whose(path) for path in here.iterdir()}
        old = [path for path, owner in found.items() if owner == "old"]
        assert len(old) == 1 and (old[0] == target or old[0].match("kb.*.replaced")), (nth, found)
        assert not [path for path in found if path.name.startswith(".")], (nth, found)
        if raised is None:
            assert cut.seen <= nth and report.replaced == old[0] and found[target] == "restored"
            return
        if isinstance(raised, OSError):
            assert isinstance(raised, vs.StoreError) and raised.errno == errno.EIO
        if old[0] == target:
            assert len(found) == 1 or any(str(path) in said(raised) for path in found if path != target), (nth, found)
        else:
            assert str(old[0]) in said(raised) and "nothing was written" not in said(raised), (nth, said(raised))
    raise AssertionError("taking the place takes more than 20 steps")


def test_a_restore_whose_exchange_cannot_be_made_durable_keeps_both_stores(
    kb: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kb.backup(tmp_path / "backups")
    kb.concepts.add({"id": "newer", "name": "newer"})
    kb.close()
    exchange = files._exchange

    def exchanged(first: Path, second: Path) -> bool:
        done = exchange(first, second)
        monkeypatch.setattr(files, "_sync_folder", refusing)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(files, "_exchange", exchanged)
        with pytest.raises(vs.StoreError, match="it was written, but the disk refused .* to make that durable") as told:
            vs.restore(tmp_path / "backups", tmp_path / "kb", replace=True)
    monkeypatch.undo()
    (aside,) = tmp_path.glob("kb.*.replaced")
    assert told.value.errno == errno.EIO and str(aside) in str(told.value)
    for path, ids in ((tmp_path / "kb", ["old"]), (aside, ["old", "newer"])):
        with vs.open(path, embedder=None, read_only=True) as store:
            assert [concept.id for concept in store.concepts] == ids


def test_folders_that_the_system_cannot_exchange_and_a_disk_keeps_apart_are_told_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = folder(tmp_path / "a", "first"), folder(tmp_path / "b", "second")
    rename, renamed = files._rename, iter(range(9))
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(files, "_rename", lambda *names: refusing() if next(renamed) else rename(*names))
    with pytest.raises(vs.StoreError, match=f"what was {second} is now {second}.* nothing was removed") as told:
        restoring.exchange_folders(first, second)
    (aside,) = tmp_path.glob("b.*.replaced")
    assert told.value.errno == errno.EIO and str(aside) in str(told.value)
    assert (whose(first), whose(aside)) == ("first", "second") and not second.exists()


def test_an_empty_folder_that_is_restored_into_leaves_nothing_beside(kb: vs.Store, tmp_path: Path) -> None:
    kb.backup(tmp_path / "backups")
    (tmp_path / "empty").mkdir()
    assert vs.restore(tmp_path / "backups", tmp_path / "empty").replaced is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "empty", "kb"]


# -- a backup that is thinned out while it is looked at ----------------------------------------------------------------


@pytest.mark.parametrize("when", ["its size is asked", "it is read"])
def test_generations_that_another_process_removes_meanwhile_are_not_listed(
    when: str, kb: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no damage either."""
    place = tmp_path / "backups"
    for number in range(3):
        kb.concepts.add({"id": f"c{number}", "name": "c"})
        kb.backup(place)
    newest = vs.Backups(place).list()[0]

    def thinned(*_: Any) -> None:
        monkeypatch.undo()
        vs.Backups(place).prune(keep=1)

    scandir, read = os.scandir, generations.read_manifest

    def scanned(path: Path) -> Any:
        with scandir(path) as found:
            names = list(found)
        if path.name == "generations":
            thinned()
        return contextlib.nullcontext(names)

    def opened(vault: Vault, name: str) -> Any:
        thinned()
        return read(vault, name)

    if when == "it is read":
        monkeypatch.setattr(generations, "read_manifest", opened)
    else:
        monkeypatch.setattr(os, "scandir", scanned)
    found, problems = generations.manifests_of(DiskVault(place))
    assert [each.id for each in found] == [newest.id] and problems == []


# -- a backup that fails near its end ----------------------------------------------------------------------------------


def generations_of(place: Path) -> list[str]:
    return [each.id for each in vs.Backups(place).list()]


def failing_once_a_manifest_is_there(monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    sync = files._sync_folder

    def synced(path: Path) -> None:
        if path.name == "generations" and sum(name.endswith(".json") for name in os.listdir(path)) > before:
            refusing()
        sync(path)

    monkeypatch.setattr(files, "_sync_folder", synced)


def test_a_backup_whose_manifest_cannot_be_made_durable_does_not_count(kb: vs.Store, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    first = kb.backup(place).generation
    with pytest.MonkeyPatch.context() as patch:
        failing_once_a_manifest_is_there(patch, 1)
        with pytest.raises(vs.StoreError, match="nothing was written") as told:
            kb.backup(place)
        assert told.value.errno == errno.EIO
    assert generations_of(place) == [first]
    second = kb.backup(place).generation
    assert generations_of(place) == [second, first] and vs.Backups(place).verify().ok


def test_a_backup_that_counts_though_it_is_not_durable_is_told(kb: vs.Store, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    with pytest.MonkeyPatch.context() as patch:
        failing_once_a_manifest_is_there(patch, 0)
        patch.setattr(Path, "unlink", refusing)
        with pytest.raises(vs.StoreError, match="it was written, but the disk refused .* back up again") as told:
            kb.backup(place)
    (counting,) = generations_of(place)
    assert counting in str(told.value) and "nothing was written" not in str(told.value)


def test_a_backup_that_was_made_is_told_when_older_ones_cannot_be_removed(kb: vs.Store, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    kb.backup(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_unlink", refusing)
        with pytest.raises(vs.StoreError, match="was made, but .* the disk refused") as told:
            kb.backup(place, keep=1)
    newest = generations_of(place)[0]
    assert told.value.errno == errno.EIO and f"{newest} was made" in str(told.value)
    assert "nothing was written" not in str(told.value) and len(generations_of(place)) == 2
    assert vs.Backups(place).prune(keep=1) and generations_of(place) == [newest]


def test_a_manifest_is_durably_gone_before_the_files_that_it_names(kb: vs.Store, tmp_path: Path) -> None:
    """Else a power cut could bring it back alone: a generation that counts and cannot be restored."""
    place = tmp_path / "backups"
    kb.backup(place)
    kb.concepts.add({"id": "new", "name": "new"})
    kb.backup(place)
    steps: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        unlink, sync = files._unlink, files._sync_folder
        patch.setattr(files, "_unlink", lambda path: (steps.append(path.parent.name), unlink(path))[1])
        patch.setattr(files, "_sync_folder", lambda path: (steps.append(f"sync {path.name}"), sync(path))[1])
        vs.Backups(place).prune(keep=1)
    assert steps[:3] == ["generations", "sync generations", "files"]


def test_bytes_that_are_put_and_cannot_be_made_durable_are_taken_back(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    vault = DiskVault(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_sync_folder", refusing)
        with pytest.raises(vs.StoreError, match="nothing was written"):
            vault.put("files", "x", b"abc", sha256(b"abc"))
    assert os.listdir(tmp_path / "files") == []


# -- a cache that several read -----------------------------------------------------------------------------------------


def flock_with(meanwhile: Callable[[], object], how: int) -> Any:
    """The module `fcntl`, before whose first such lock something happens."""
    todo = [meanwhile]

    def flock(handle: Any, wanted: int) -> None:
        if wanted == how and todo:
            thread = threading.Thread(target=todo.pop())
            thread.start()
            thread.join()
        fcntl.flock(handle, wanted)

    return SimpleNamespace(LOCK_SH=fcntl.LOCK_SH, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB, flock=flock)


def test_a_catalog_that_is_cleared_away_before_it_is_locked_is_fetched_again(
    kb: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, cache = f"memory://{uuid.uuid4().hex}", tmp_path / "cache"
    kb.backup(url)
    readers: list[vs.Store] = []

    def another() -> None:
        kb.concepts.add({"id": "newer", "name": "newer"})
        kb.backup(url)
        readers.append(vs.open(url, embedder=None, read_only=True, cache=cache))

    monkeypatch.setattr(mirrors, "fcntl", flock_with(another, fcntl.LOCK_SH))
    with vs.open(url, embedder=None, read_only=True, cache=cache) as reader:
        assert "old" in [concept.id for concept in reader.concepts]
        for each in readers:
            assert [concept.id for concept in each.concepts] == ["old", "newer"]
            each.close()
    assert len(readers) == 1


def test_a_catalog_that_was_fetched_anew_is_not_cleared_away(
    kb: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who would clear it has opened the one that had its name before."""
    url, cache = f"memory://{uuid.uuid4().hex}", tmp_path / "cache"
    kb.backup(url)
    vs.open(url, embedder=None, read_only=True, cache=cache).close()
    (stale,) = cache.rglob("catalog.*.sqlite")
    kb.concepts.add({"id": "newer", "name": "newer"})
    kb.backup(url)
    held = []

    def another() -> None:
        body = stale.read_bytes()
        stale.unlink()
        stale.write_bytes(body)
        held.append(stale.open("rb"))
        fcntl.flock(held[0], fcntl.LOCK_SH)

    monkeypatch.setattr(mirrors, "fcntl", flock_with(another, fcntl.LOCK_EX | fcntl.LOCK_NB))
    with vs.open(url, embedder=None, read_only=True, cache=cache):
        assert stale.exists() and os.path.samestat(os.fstat(held[0].fileno()), stale.stat())
    held[0].close()
