"""A backup is the store at one commit, made while others write; a restore makes just that store, or nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clock
from test_history import Note, answers, concept
from test_migrations import next_format

import vectorstore as vs
from tests.crash.points import FILES as PRIMITIVES
from vectorstore import files
from vectorstore.backups import making
from vectorstore.backups.manifest import Manifest
from vectorstore.backups.vaults import vault_at
from vectorstore.storage import FORMAT

SMALL = vs.IndexRecipe("small", "LSH64rt", ({"candidates": 200},), min_recall=0.0)
ROOT = Path(__file__).parents[1]


def fill(store: vs.Store) -> None:
    """Something of everything: segments, an index, waiting vectors, a fit, a blob, a snapshot, deleted records."""
    store.concepts.add([concept(number) for number in range(80)])
    store.flush()
    store.rebuild("concepts", SMALL)
    store.snapshots.add("early")
    store.clusters.fit("concepts", "kmeans", 3)
    store.models.put("net", b"weights")
    store.concepts.upsert([concept(number, 1) for number in range(5)])
    store.concepts.delete(["c020", "c021"])
    store.collection(Note).add({"title": "a note"})


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder="hash:16", clock=clock, auto_publish=False, kinds=[Note]) as opened:
        fill(opened)
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def reopened(path: Path, clock: Clock) -> vs.Store:
    return vs.open(path, embedder="hash:16", clock=clock, auto_publish=False, kinds=[Note])


def tree(root: Path) -> dict[str, bytes]:
    """All files but SQLite's own, which only SQLite may open, by path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "sqlite" not in path.name
    }


def manifest_path(target: Path, place: int = -1) -> Path:
    return sorted((target / "generations").iterdir())[place]


def forge(target: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the newest manifest and give it a digest that fits."""
    path = manifest_path(target)
    body = json.loads(path.read_text())
    body.pop("sha256")
    change(body)
    body["sha256"] = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(body))


# -- what a backup is --------------------------------------------------------------------------------------------------


def test_a_restored_store_is_the_store(store: vs.Store, target: Path, tmp_path: Path, clock: Clock) -> None:
    store.trail.rotate(2)
    expected, now, anchor = answers(store), store.moment, store.trail.anchor()
    report = store.backup(target)
    assert (report.seq, report.new_files, report.left_out) == (now.seq, report.files, ())
    store.concepts.delete(where={"version__gte": 1})
    store.compact()

    told = vs.restore(target, tmp_path / "again")
    assert (told.seq, told.files, told.replaced, told.left_out) == (now.seq, report.files, None, ())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "backups", "kb"]
    with reopened(tmp_path / "again", clock) as again:
        assert answers(again) == expected and again.moment == now and again.id == store.id
        assert again.check().findings == () and again.check().litter == ()
        assert again.models.get("net") == b"weights" and again.stats()["kinds"]["concepts"]["index"] is not None
        assert [each.name for each in again.snapshots.list()] == ["early"]
        last = next(iter(again.trail.list(limit=1)))
        assert (last.operation, last.seq, last.details) == (
            "restored",
            now.seq,
            {"generation": report.generation, "seq": now.seq},
        )
        assert again.trail.verify(anchor).ok
        with again.as_of("early") as then, store.as_of("early") as there:
            assert answers(then) == answers(there)
        again.concepts.add({"name": "new"})
        assert again._catalog._writer_connection().execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_generations_share_what_has_not_changed(store: vs.Store, target: Path, clock: Clock) -> None:
    first = store.backup(target)
    clock.move(hours=1)
    again = store.backup(target)
    assert (again.new_files, again.new_bytes) == (0, 0) and again.bytes == first.bytes
    store.concepts.add([concept(number) for number in range(500, 520)])
    store.flush()
    third = store.backup(target)
    assert third.new_files < third.files and third.new_bytes < third.bytes  # the catalog and new segments
    backups = vs.Backups(target)
    assert [each.id for each in backups.list()] == [third.generation, again.generation, first.generation]
    assert backups.verify().ok and len(backups.verify().generations) == 3
    stored = sum(path.stat().st_size for path in (target / "files").iterdir())
    assert stored == first.bytes + third.new_bytes


@pytest.mark.parametrize(
    ("keep", "keep_for", "left"),
    [(2, None, 2), (1, None, 1), (None, timedelta(days=2, hours=1), 3), (1, timedelta(hours=30), 2), (9, None, 5)],
)
def test_old_generations_go_and_their_files_with_them(
    keep: int | None, keep_for: timedelta | None, left: int, store: vs.Store, target: Path, tmp_path: Path, clock: Clock
) -> None:
    for day in range(4):
        store.concepts.add(concept(600 + day))
        store.flush()
        store.compact()
        store.backup(target)
        clock.move(days=1)
    report = store.backup(target, keep=keep, keep_for=keep_for)
    backups = vs.Backups(target)
    assert len(backups.list()) == left and len(report.removed) == 5 - left
    assert backups.list()[0].id == report.generation and backups.verify().ok
    named = {entry.sha256 for name in backups.list() for entry in making_manifest(target, name.id).files}
    assert {path.name for path in (target / "files").iterdir()} == named
    for each in backups.list():
        vs.restore(target, tmp_path / each.id, generation=each.id)


def making_manifest(target: Path, generation: str) -> Manifest:
    path = target / "generations" / f"{generation}.json"
    return Manifest.from_bytes(path.read_bytes(), str(path))


@pytest.mark.parametrize("keep", [0, -1, True, 1.5])
def test_at_least_one_generation_stays(keep: Any, store: vs.Store, target: Path) -> None:
    store.backup(target)
    with pytest.raises(vs.ValidationError, match="keep"):
        vs.Backups(target).prune(keep=keep)
    vs.Backups(target).prune(keep_for=timedelta(0))
    assert len(vs.Backups(target).list()) == 1


def test_a_view_can_be_kept(store: vs.Store, target: Path, tmp_path: Path, clock: Clock) -> None:
    with store.as_of("early") as then:
        expected, seq = answers(then), then.moment.seq
        assert then.backup(target).seq == seq
    store.backup(target)
    vs.restore(target, tmp_path / "early", generation=vs.Backups(target).list()[-1].id)
    with reopened(tmp_path / "early", clock) as early:
        assert answers(early) == expected and early.check().findings == () and early.moment.seq == seq
        early.concepts.add({"name": "another time"})


def test_a_damaged_part_of_the_trail_keeps_nobody_from_a_backup(
    store: vs.Store, target: Path, tmp_path: Path, clock: Clock
) -> None:
    store.trail.rotate(1)
    (part,) = (tmp_path / "kb" / "trail").iterdir()
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    report = store.backup(target)
    assert report.left_out == (f"trail/{part.name}",)
    assert vs.restore(target, tmp_path / "again").left_out == report.left_out
    with reopened(tmp_path / "again", clock) as again:
        assert answers(again) == answers(store)
        assert [finding.layer for finding in again.check().findings] == ["trail"]


def test_a_backup_of_an_older_format_is_restored_and_migrated_when_opened(
    whole: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_format(monkeypatch)
    for module in ("vectorstore.restoring", "vectorstore.storage.copying"):
        monkeypatch.setattr(f"{module}.FORMAT", FORMAT + 1)
    told = vs.restore(whole, tmp_path / "again")
    with reopened(tmp_path / "again", clock) as again:
        assert again._catalog.migrated_from == FORMAT and again.moment.seq >= told.seq
        assert len(again.concepts) == 78 and again.check().findings == ()


def test_a_scratch_store_can_be_kept(target: Path, tmp_path: Path, clock: Clock) -> None:
    with vs.open(":memory:", embedder="hash:16", clock=clock, kinds=[Note], auto_publish=False) as store:
        fill(store)
        expected = answers(store)
        store.backup(target)
    vs.restore(target, tmp_path / "kept")
    with reopened(tmp_path / "kept", clock) as kept:
        assert answers(kept) == expected and kept.check().findings == ()


def test_a_backup_needs_no_right_to_write_the_store(
    store: vs.Store, target: Path, tmp_path: Path, clock: Clock
) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:16", read_only=True, kinds=[Note], clock=clock) as reader:
        before = making.past.all_named
        calls = iter(range(100))

        def late(connection: Any) -> Any:
            found = before(connection)
            if next(calls) == 0:  # the writer compacts between the look at the names and the look at the files
                for each in list(store.snapshots.list()):
                    store.snapshots.drop(each.name)
                store.concepts.upsert([concept(number, 9) for number in range(30)])
                store.compact()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(making.past, "all_named", late)
            report = reader.backup(target)
    assert next(calls) > 1 and report.seq == store.moment.seq
    vs.restore(target, tmp_path / "again")


# -- others go on ------------------------------------------------------------------------------------------------------


def test_files_that_a_compaction_unlinks_meanwhile_are_in_the_backup(
    store: vs.Store, target: Path, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.snapshots.drop("early")
    expected = answers(store)
    copy = making.copy_to
    gone: list[str] = []

    def compacted_meanwhile(connection: Any, path: Path) -> None:
        with reopened(tmp_path / "kb", clock) as other:
            before = set(tree(tmp_path / "kb"))
            other.concepts.upsert([concept(number, 3) for number in range(80)])
            other.compact()
            gone.extend(before - set(tree(tmp_path / "kb")))
        copy(connection, path)

    monkeypatch.setattr(making, "copy_to", compacted_meanwhile)
    report = store.backup(target)
    assert len(gone) >= 2 and report.left_out == ()
    vs.restore(target, tmp_path / "again")
    with reopened(tmp_path / "again", clock) as again:
        assert answers(again) == expected and again.check().findings == ()


WRITER = """
import sys, numpy as np, vectorstore as vs
name, root = sys.argv[1:]
with vs.open(root, embedder=None, auto_publish=False) as store:
    print("ready", flush=True)
    for number in range(10**6):
        size = 1100 if number % 40 == 39 else 1 + number % 9
        ids = [f"{name}-{number}-{place}" for place in range(size)]
        records = [{"id": each, "name": each, "domain": f"{name}{number}", "extra": {"size": size}} for each in ids]
        store.concepts.add(records, vectors=np.random.default_rng(number).standard_normal((size, 16)))
        if number % 10 == 9:
            store.concepts.delete(where={"domain": f"{name}{number - 5}"})
        if number % 50 == 25:
            store.compact()
"""


def test_backups_under_the_load_of_several_processes_are_points_in_time(tmp_path: Path, target: Path) -> None:
    root = tmp_path / "kb"
    vs.open(root, embedder=None).close()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, name, str(root)], stdout=subprocess.PIPE, env=env, text=True)
        for name in "ab"
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        with vs.open(root, embedder=None, auto_publish=False) as store:
            reports = []
            for _ in range(5):
                time.sleep(0.5)
                reports.append(store.backup(target))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
    assert [r.seq for r in reports] == sorted({r.seq for r in reports}), "nothing was written meanwhile"
    assert vs.Backups(target).verify().ok
    for report in reports[::2]:
        vs.restore(target, tmp_path / report.generation, generation=report.generation)
        with vs.open(tmp_path / report.generation, embedder=None, auto_publish=False) as then:
            assert then.moment.seq == report.seq and then.check().findings == ()
            for name in "ab":
                there: dict[int, list[int]] = {}
                for record in then.concepts.stream():
                    if str(record.domain).startswith(name):
                        there.setdefault(int(str(record.domain)[1:]), []).append(record.extra["size"])
                assert all(len(sizes) == sizes[0] for sizes in there.values()), "half a batch"
                last = max(there)
                lacking = set(range(last + 1)) - set(there)
                gone = {number - 5 for number in range(9, last + 1, 10)}
                assert gone - {last - 5} <= lacking <= gone, "no prefix of what was written"
            hits = then.concepts.search(np.ones(16), k=10_000, exact=True)
            assert len(hits) == min(10_000, len(then.concepts))


def test_a_backup_in_a_transaction_or_into_the_store_is_refused(store: vs.Store, target: Path, tmp_path: Path) -> None:
    with store.transaction(), pytest.raises(vs.StoreError, match="transaction"):
        store.backup(target)
    for place in (tmp_path / "kb", tmp_path / "kb" / "backups"):
        with pytest.raises(vs.StoreError, match="in the store itself"):
            store.backup(place)
    assert vs.Backups(target).list() == [] and store.check().litter == ()


def test_a_place_belongs_to_one_store(store: vs.Store, target: Path, tmp_path: Path) -> None:
    store.backup(target)
    with vs.open(":memory:", embedder=None) as other, pytest.raises(vs.StoreError, match="another store"):
        other.backup(target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    with pytest.raises(vs.StoreError, match=r"diary\.txt"):
        store.backup(tmp_path / "mine")
    with pytest.raises(vs.StoreError, match="no backups"):
        vs.Backups(tmp_path / "mine")
    with pytest.raises(vs.StoreError, match="no backups"):
        vs.restore(tmp_path / "nowhere", tmp_path / "again")
    assert os.listdir(tmp_path / "mine") == ["diary.txt"] and vs.Backups(target).verify().ok


def test_a_damaged_source_is_not_backed_up_and_a_damaged_index_is_left_out(
    store: vs.Store, target: Path, tmp_path: Path, clock: Clock
) -> None:
    good = store.backup(target)
    root = tmp_path / "kb"
    (index,) = (root / "indexes" / "concepts").iterdir()
    index.write_bytes(index.read_bytes()[:-1] + b"?")
    shutil.rmtree(target)
    report = store.backup(target)
    assert report.left_out == (f"indexes/concepts/{index.name}",) and report.files == good.files - 1
    told = vs.restore(target, tmp_path / "again")
    assert told.left_out == report.left_out
    with reopened(tmp_path / "again", clock) as again:
        assert [finding.layer for finding in again.check().findings] == ["index"]
        again.repair(dry_run=False)
        assert again.check().findings == ()

    segment = next((root / "embeddings" / "concepts").iterdir())
    segment.write_bytes(segment.read_bytes()[:-100] + bytes(100))
    shutil.rmtree(target)
    with pytest.raises(vs.CorruptError, match=segment.name):
        store.backup(target)
    assert vs.Backups(target).list() == []


# -- what is damaged or hostile ----------------------------------------------------------------------------------------


def biggest(target: Path) -> Path:
    return max((target / "files").iterdir(), key=lambda path: path.stat().st_size)


def smallest(target: Path) -> Path:
    return min((target / "files").iterdir(), key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def with_trigger(target: Path) -> None:
    """A catalog with a program in it, and a manifest that vouches for it."""
    import sqlite3

    path = biggest(target)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TRIGGER evil AFTER UPDATE ON state BEGIN DELETE FROM vectors; END")
    connection.commit()
    connection.close()
    for name in ("-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
    vouch(target, path)


def with_other_rows(target: Path) -> None:
    """A catalog of which a row was changed past the store."""
    import sqlite3

    path = biggest(target)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode=DELETE")
    connection.execute("UPDATE concepts SET definition = 'forged' WHERE id = 'c001'")
    connection.commit()
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    vouch(target, path)


def vouch(target: Path, path: Path) -> None:
    """Have the manifest name the changed catalog."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = {"path": "catalog.sqlite", "size": path.stat().st_size, "sha256": digest}
    os.rename(path, path.with_name(digest))

    def change(body: dict[str, Any]) -> None:
        body["files"] = [entry, *(each for each in body["files"] if each["path"] != "catalog.sqlite")]

    forge(target, change)


def renamed(path: str) -> Callable[[Path], None]:
    def plant(target: Path) -> None:
        forge(target, lambda body: body["files"][-1].update(path=path))

    return plant


DAMAGE: dict[str, Callable[[Path], object]] = {
    "file missing": lambda target: smallest(target).unlink(),
    "catalog missing": lambda target: biggest(target).unlink(),
    "file flipped": lambda target: flip(smallest(target)),
    "catalog flipped": lambda target: flip(biggest(target)),
    "file cut": lambda target: os.truncate(smallest(target), 3),
    "file grown": lambda target: smallest(target).write_bytes(smallest(target).read_bytes() + b"more"),
    "manifest flipped": lambda target: flip(manifest_path(target)),
    "manifest cut": lambda target: os.truncate(manifest_path(target), 100),
    "manifest empty": lambda target: os.truncate(manifest_path(target), 0),
    "manifest of a list": lambda target: manifest_path(target).write_text("[1, 2]"),
    "manifest renamed": lambda target: os.rename(
        manifest_path(target), manifest_path(target).with_name("7ZZZZZZZZZZZZZZZZZZZZZZZZZ.json")
    ),
    "trigger": with_trigger,
    "link instead of a file": lambda target: (
        (moved := smallest(target).rename(target.parent / "moved")),
        (target / "files" / hashlib.sha256(moved.read_bytes()).hexdigest()).symlink_to(moved),
    ),
}
HOSTILE: dict[str, Callable[[Path], object]] = {
    **{
        f"path {path}": renamed(path)
        for path in (
            *("../../outside.npz", "/etc/passwd", "embeddings/../../x.npz", "embeddings/concepts/../../../x.npz"),
            *(
                "embeddings/concepts/.npz",
                "catalog.sqlite-wal",
                "store.lock",
                "models/a/b",
                "embeddings\\x.npz",
                "a\0b",
            ),
        )
    },
    "path twice": lambda target: forge(target, lambda body: body["files"].append(body["files"][0])),
    "no catalog": lambda target: forge(target, lambda body: body["files"].pop(0)),
    "negative size": lambda target: forge(target, lambda body: body["files"][0].update(size=-1)),
    "extra keys": lambda target: forge(target, lambda body: body.update(run="me")),
    "another commit": lambda target: forge(target, lambda body: body.update(seq=body["seq"] + 1)),
    "another store": lambda target: forge(target, lambda body: body.update(store="0" * 26)),
    "size too small": lambda target: forge(target, lambda body: body["files"][-1].update(size=1)),
    "rows changed": with_other_rows,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with vs.open(folder / "kb", embedder="hash:16", auto_publish=False, kinds=[Note]) as store:
        fill(store)
        store.backup(folder / "backups")
    return folder / "backups"


@pytest.mark.parametrize("fault", [*DAMAGE, *HOSTILE])
def test_a_damaged_or_hostile_backup_changes_nothing(fault: str, whole: Path, tmp_path: Path) -> None:
    target = Path(shutil.copytree(whole, tmp_path / "backups"))
    {**DAMAGE, **HOSTILE}[fault](target)
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False) as live:
        live.concepts.add({"name": "here"})
    before, outside = tree(tmp_path / "kb"), sorted(path.name for path in tmp_path.iterdir())
    for folder in (tmp_path / "new", tmp_path / "kb"):
        with pytest.raises((vs.CorruptError, vs.NotFound)):
            vs.restore(target, folder, replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == outside and tree(tmp_path / "kb") == before
    with vs.open(tmp_path / "kb", embedder="hash:16") as live:
        assert [c.name for c in live.concepts.stream()] == ["here"]
    if fault in DAMAGE:
        assert not vs.Backups(target).verify().ok


def test_a_damaged_generation_leaves_the_others_and_their_files(store: vs.Store, target: Path, tmp_path: Path) -> None:
    good = store.backup(target)
    store.concepts.add(concept(900))
    store.backup(target)
    flip(manifest_path(target))
    assert [each.id for each in vs.Backups(target).list()] == [good.generation]
    assert not vs.Backups(target).verify().ok and vs.Backups(target).verify(good.generation).ok
    count = len(list((target / "files").iterdir()))
    vs.Backups(target).prune(keep=1)  # the damaged manifest may have named any of them
    assert len(list((target / "files").iterdir())) == count
    vs.restore(target, tmp_path / "again", generation=good.generation)
    with pytest.raises(vs.NotFound, match=good.generation):
        vs.restore(target, tmp_path / "more", generation="0" * 26)


def test_a_newer_backup_is_refused_without_a_write(whole: Path, tmp_path: Path) -> None:
    target = Path(shutil.copytree(whole, tmp_path / "backups"))
    forge(target, lambda body: body.update(catalog_format=99))
    with pytest.raises(vs.NewerFormat, match="format 99"):
        vs.restore(target, tmp_path / "new")
    forge(target, lambda body: body.update(format=2))
    with pytest.raises(vs.NewerFormat, match="format 2"):
        vs.restore(target, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# -- where it is restored to -------------------------------------------------------------------------------------------


def test_a_store_is_replaced_in_one_step_and_kept_beside(target: Path, tmp_path: Path, clock: Clock) -> None:
    with contextlib.suppress(vs.StoreGone), reopened(tmp_path / "kb", clock) as store:
        fill(store)
        expected = answers(store)
        store.backup(target)
        store.concepts.delete(where={"version__gte": 1})
        with pytest.raises(vs.StoreError, match="replace=True"):
            vs.restore(target, tmp_path / "kb")
        told = vs.restore(target, tmp_path / "kb", replace=True)
        with pytest.raises(vs.StoreGone):
            store.concepts.get("c001")
    with reopened(tmp_path / "kb", clock) as again:
        assert answers(again) == expected and again.check().findings == ()
    assert told.replaced is not None and told.replaced.parent == tmp_path
    with reopened(told.replaced, clock) as old:
        assert len(old.concepts) == 0


def test_what_is_no_store_is_never_replaced(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    for place in ("thesis", "file", "link"):
        with pytest.raises(vs.NotAStore):
            vs.restore(whole, tmp_path / place, replace=True)
    assert (tmp_path / "thesis" / "chapter1.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    assert vs.restore(whole, tmp_path / "empty").replaced is None
    assert vs.restore(whole, tmp_path / "deep" / "er").path == tmp_path / "deep" / "er"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "empty", "file", "link", "thesis"]


@pytest.mark.parametrize("primitive", [name for name in PRIMITIVES if name != "unlink"])
@pytest.mark.parametrize("call", ["backup", "restore", "replace"])
def test_a_failing_disk_leaves_the_last_backup_and_the_store(
    call: str, primitive: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = getattr(files, f"_{primitive}")
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False) as store:
        store.concepts.add({"name": "here"})
        for nth in range(200):
            target = tmp_path / f"backups{nth}"
            store.backup(target)
            store.concepts.add([{"name": f"w{nth} {n}"} for n in range(3)])
            store.flush()
            calls = iter(range(10_000))

            def failing(*args: Any, calls: Any = calls, nth: int = nth) -> Any:
                if next(calls) != nth:
                    return original(*args)
                raise OSError(errno.ENOSPC, "planted")

            place = tmp_path / f"again{nth}"
            if call == "replace":
                vs.restore(target, place)
            with monkeypatch.context() as patch:
                patch.setattr(files, f"_{primitive}", failing)
                error = None
                try:
                    if call == "backup":
                        store.backup(target)
                    else:
                        vs.restore(whole, place, replace=call == "replace")
                except OSError as caught:
                    error = caught
            used = next(calls) > nth
            assert (error is not None) == used
            if used and call == "restore":
                assert not place.exists() or primitive == "sync_folder"
            if place.exists():
                with vs.open(place, embedder="hash:16", read_only=True) as found:
                    assert found.check().findings == ()
            assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
            assert vs.Backups(target).verify().ok
            store.backup(target)
            assert vs.Backups(target).verify().ok and store.check().findings == ()
            if not used:
                return
    raise AssertionError("the call takes more than 200 steps")


# -- elsewhere ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory://shelf/kb", "s3://shelf/kb", "file://"])
def test_backups_go_wherever_a_url_leads(
    place: str, store: vs.Store, tmp_path: Path, clock: Clock, request: pytest.FixtureRequest
) -> None:
    if place.startswith("s3"):
        request.getfixturevalue("s3")
    if place == "file://":
        place = f"file://{tmp_path}/backups"
    expected = answers(store)
    first = store.backup(place)
    clock.move(days=1)
    store.concepts.add([concept(number) for number in range(700, 730)])
    store.flush()
    store.compact()
    second = store.backup(place)
    assert second.new_files < second.files
    backups = vs.Backups(place)
    assert [each.id for each in backups.list()] == [second.generation, first.generation] and backups.verify().ok
    vs.restore(place, tmp_path / "again", generation=first.generation)
    with reopened(tmp_path / "again", clock) as again:
        assert answers(again) == expected and again.check().findings == ()
    assert backups.prune(keep=1) == (first.generation,) and backups.verify().ok
    vs.restore(place, tmp_path / "newest")
    vault = vault_at(place, create=False)
    (digest, *_) = vault.names("files")
    with vault.alone():
        vault.remove("files", digest)
    assert not backups.verify().ok
    with pytest.raises(vs.CorruptError):
        vs.restore(place, tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_a_place_that_cannot_be_reached_is_a_typed_error(store: vs.Store, tmp_path: Path) -> None:
    with pytest.raises(vs.StoreError):
        store.backup("nosuchscheme://x/y")
    with pytest.raises(vs.NotFound):
        vs.restore("memory://nothing/here", tmp_path / "again")
    (tmp_path / "file").write_text("x")
    with pytest.raises((vs.StoreError, OSError)):
        store.backup(tmp_path / "file" / "deeper")
