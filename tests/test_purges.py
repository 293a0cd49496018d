"""What a purge once stumbled over, or left behind: indexes, files of the past, copies that migrations make."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import vectorstore as vs
from tests.test_migrations import next_format
from tests.test_seldom import sql
from vectorstore.storage.migrations import forget_backups

compacting = sys.modules["vectorstore.sync.compact"]  # the package has a function of that name
DIM = 16
ALL = timedelta(0)


class Sound(vs.Record, table="sounds", spaces=("timbre",)):
    label: str = ""


def directions(count: int, seed: int) -> np.ndarray:
    """(count, DIM) unit vectors, which indexes keep as they are."""
    found = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def holding(root: Path, *needles: bytes) -> list[str]:
    """Files below a folder in which one of the needles is."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return [str(path.relative_to(root)) for path in files if any(each in path.read_bytes() for each in needles)]


# -- an index that needs more vectors than are left --------------------------------------------------------------------


def indexed(root: Path, recipe: str, count: int = 60) -> tuple[vs.Store, np.ndarray]:
    """A store with an index, most of whose records are deleted."""
    store, vectors = vs.open(root, embedder=None), directions(count, 1)
    store.concepts.add([{"id": f"c{n}", "name": f"n{n}"} for n in range(count)], vectors=vectors)
    store.rebuild("concepts", recipe)
    store.concepts.delete([f"c{n}" for n in range(10, count)])
    return store, vectors


VERBS: dict[str, Callable[[vs.Store], object]] = {
    "purge": lambda store: store.concepts.purge(older_than=ALL),
    "maintain": lambda store: store.maintain(vs.Policy(purge_after=ALL)),
    "compact": lambda store: (store.concepts.restore("c10"), store.concepts.purge(older_than=ALL), store.compact()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_an_index_that_needs_more_vectors_than_are_left_goes(verb: str, tmp_path: Path) -> None:
    store, vectors = indexed(tmp_path / "kb", "pq-fastscan")
    with store:
        VERBS[verb](store)
        left = len(store.concepts)
        assert left == (11 if verb == "compact" else 10) and store.stats()["kinds"]["concepts"]["index"] is None
        assert store.concepts.search(vectors[3], k=1).ids == ["c3"]
        assert store.check().findings == () and not holding(tmp_path / "kb", vectors[11].tobytes())
        with pytest.raises(vs.RecipeError, match=f"FAISS cannot build .* over {left} x"):
            store.rebuild("concepts", "pq-fastscan")


def test_an_index_that_would_miss_its_recall_over_what_is_left_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misses(*_: object) -> None:
        raise vs.RecallTooLow("hnsw32: measured recall 0.5")

    store, vectors = indexed(tmp_path / "kb", "hnsw32")
    with store:
        monkeypatch.setattr(compacting, "build_index", misses)
        assert store.concepts.purge("c12") == 1
        assert store.stats()["kinds"]["concepts"]["index"] is None
        assert store.concepts.search(vectors[3], k=1).ids == ["c3"] and store.check().ok


def test_an_index_that_fits_what_is_left_stays(tmp_path: Path) -> None:
    store, vectors = indexed(tmp_path / "kb", "hnsw32")
    with store:
        assert store.concepts.purge(older_than=ALL) == 50
        index = store.stats()["kinds"]["concepts"]["index"]
        assert (index["recipe"], index["rows"]) == ("hnsw32", 10)
        assert store.concepts.search(vectors[3], k=1).ids == ["c3"] and store.check().ok


def test_the_upkeep_publishes_an_index_again_once_one_pays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["vectorstore.sync.publish"], "PUBLISH_ROWS", 1000)
    store, _ = indexed(tmp_path / "kb", "pq-fastscan")
    with store:
        store.concepts.purge(older_than=ALL)
        more = [{"id": f"m{n}", "name": f"m{n}"} for n in range(1100)]
        store.concepts.add(more, vectors=directions(1100, 2))
        store._maintainer.wait()
        assert store.stats()["kinds"]["concepts"]["index"]["rows"] >= 1100 and store.check().ok


# -- what the past keeps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spaces", "index"), [("text", ""), ("text", "hnsw32"), ("text timbre", "hnsw32")])
@pytest.mark.parametrize("where", ["flushed", "waiting", "both"])
@pytest.mark.parametrize("past", ["", "history", "snapshot", "history snapshot"])
def test_no_file_holds_what_was_purged(past: str, where: str, spaces: str, index: str, tmp_path: Path) -> None:
    names, kb = spaces.split(), tmp_path / "kb"
    first, last = ({each: directions(4, seed) for seed, each in enumerate(names, start)} for start in (10, 20))
    with vs.open(kb, embedder=None, kinds=[Sound], auto_publish=False) as store:
        sounds = store.collection(Sound)
        records = [Sound(id=f"s{n}", label=f"the label of s{n}") for n in range(4)]
        if "history" in past:
            store.history = "30d"
        if where != "waiting":
            sounds.add(records, vectors=first)
            store.flush()
            if index:
                store.rebuild("sounds", index)
        if "snapshot" in past:
            store.snapshots.add("before")
        if where != "flushed":
            sounds.upsert(records, vectors=last)
        if "snapshot" in past:
            store.snapshots.add("after")
        sounds.delete(["s1", "s2"])

        assert sounds.purge("s1") == 1
        assert (
            holding(kb, b"the label of s1", *(each[name][1].tobytes() for each in (first, last) for name in names))
            == []
        )
        sounds.restore("s2")
        report = store.check()
        assert report.findings == () and report.litter == ()
        live, now = [0, 2, 3], first if where == "flushed" else last
        for name in names:
            assert sounds.vectors([f"s{n}" for n in live], space=name).tobytes() == now[name][live].tobytes()
            assert [sounds.search(now[name][n], k=1, space=name).ids for n in live] == [["s0"], ["s2"], ["s3"]]
        for snapshot, then in (("before", first), ("after", now)) if "snapshot" in past else ():
            with store.as_of(snapshot) as view:
                some = [] if where == "waiting" and then is first else ["s0", "s2", "s3"]
                assert [each.id for each in view.collection(Sound).find(order="id")] == some
                assert view.check().findings == ()
                if some:
                    kept = view.collection(Sound).vectors(some)
                    assert kept.tobytes() == then["text"][live].tobytes()


def test_what_a_purge_itself_wrote_and_replaced_is_not_kept_for_the_past(tmp_path: Path) -> None:
    vectors = directions(3, 4)
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.history = "30d"
        store.concepts.add([{"id": f"c{n}", "name": f"n{n}"} for n in range(3)], vectors=vectors)
        added = store.stats()["seq"]
        store.concepts.delete("c1")
        store.concepts.purge("c1")
        assert sql(tmp_path / "kb", "SELECT count(*) FROM _past_segments WHERE file IS NOT NULL") == [(0,)]
        assert len([*(tmp_path / "kb" / "embeddings").rglob("*.npz")]) == 1 and store.check().litter == ()
        with store.as_of(added) as view:
            assert view.concepts.vectors(["c0", "c2"]).tobytes() == vectors[[0, 2]].tobytes()


# -- copies that migrations make ---------------------------------------------------------------------------------------


class Note(vs.Record, table="notes"):
    title: Annotated[str, vs.EMBEDDED]


class LongerNote(vs.Record, table="notes"):
    title: Annotated[str, vs.EMBEDDED]
    more: str | None = None


def migrated(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """A store with a copy of each sort of migration; the copies."""
    with vs.open(root, embedder="hash:16", kinds=[Note]) as store:
        store.collection(Note).add([Note(id="x", title="a secret"), Note(id="y", title="another")])
    with vs.open(root, embedder="hash:16", kinds=[LongerNote]):
        pass
    with monkeypatch.context() as patch:
        next_format(patch)
        patch.setattr("vectorstore.storage.copying.FORMAT", 5)
        vs.open(root, embedder="hash:16").close()
    sql(root, "PRAGMA user_version = 4")
    found = sorted(root.glob("catalog.*.backup.sqlite"))
    assert [path.name.split(".")[1] for path in found] == ["format4", "kinds"]
    return found


def test_copies_of_before_a_migration_are_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = migrated(tmp_path / "kb", monkeypatch)
    with vs.open(tmp_path / "kb", embedder="hash:16") as store:
        report = store.check()
        assert report.findings == () and report.litter == () and store.sweep(0) == []
    assert all(path.is_file() for path in copies)


def test_copies_of_before_a_migration_can_be_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrated(tmp_path / "kb", monkeypatch)
    looked_into = sqlite3.connect(next((tmp_path / "kb").glob("catalog.kinds.*")))
    assert looked_into.execute("SELECT title FROM notes WHERE id = 'x'").fetchone() == ("a secret",)
    before = set(os.listdir(tmp_path / "kb"))  # with what SQLite lays beside an open file
    gone = {name for name in before if ".backup.sqlite" in name}
    assert forget_backups(tmp_path / "kb") == len(gone) >= 2
    assert set(os.listdir(tmp_path / "kb")) == before - gone and forget_backups(tmp_path / "kb") == 0
    looked_into.close()
    with vs.open(tmp_path / "kb", embedder="hash:16", kinds=[LongerNote]) as store:
        assert store.collection(LongerNote).count() == 2 and store.check().ok


def test_copies_that_a_disk_does_not_let_go_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    copies = migrated(tmp_path / "kb", monkeypatch)
    monkeypatch.setattr("vectorstore.files._unlink", refuses)
    with pytest.raises(vs.StoreError, match="it was not removed"):
        forget_backups(tmp_path / "kb")
    monkeypatch.undo()
    assert forget_backups(tmp_path / "kb") == len(copies)
