"""Upkeep that goes wrong, or has nothing to do, leaves everything as it is and says what it did."""

from __future__ import annotations

import dataclasses
import importlib
import threading
from pathlib import Path

import numpy as np
import pytest

import vectorstore as vs
from tests.test_seldom import answers, fill, opened, sql
from vectorstore.recipes import Auto
from vectorstore.sync import auto, past
from vectorstore.sync import trail as trails
from vectorstore.sync.auto import Trial
from vectorstore.sync.publish import snapshot


def test_a_write_that_can_wait_does_not_wait_for_another(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 1)
        begun, done = threading.Event(), threading.Event()

        def hold() -> None:
            with store._sync.catalog.write():
                begun.set()
                done.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        try:
            assert begun.wait(30)
            with (
                pytest.raises(vs.StoreBusy, match="held the write lock for 0 s"),
                store._sync.catalog.write(aside=True, wait=0),
            ):
                raise AssertionError("it was let in")
        finally:
            done.set()
            holder.join()


def test_a_compaction_whose_index_cannot_be_built_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise vs.StoreError("no memory is left")

    with opened(tmp_path / "kb") as store:
        for part in range(3):
            fill(store, 20, start=20 * part)
            store.flush()
        store.rebuild("concepts", "hnsw32")
        before, names = answers(store), sorted(store._sync.folder("embeddings", "concepts").names())
        monkeypatch.setattr(importlib.import_module("vectorstore.sync.compact"), "build_index", refuse)
        with pytest.raises(vs.StoreError, match="no memory"):
            store.compact()
        assert sorted(store._sync.folder("embeddings", "concepts").names()) == names
        assert answers(store) == before and store.check().litter == () and store.check().findings == ()


def test_a_repair_of_full_text_is_written_down_as_one(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
    sql(tmp_path / "kb", "UPDATE concepts_fts_config SET v = 0 WHERE k = 'version'")
    with opened(tmp_path / "kb") as store:
        assert store.repair(dry_run=False).remaining == ()
        entry = store.trail.list(limit=1)[0]
        assert (entry.operation, entry.kind, dict(entry.details)) == ("repair", "concepts", {"derived": "text"})


def test_nothing_is_forgotten_of_a_past_that_is_not_kept(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        with store._sync.catalog.write() as transaction:
            assert past.prune(store._sync, transaction) == 0


def test_a_long_trail_tells_how_far_it_was_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trails, "_TOLD", 2)
    with opened(tmp_path / "kb") as store:
        for number in range(5):
            fill(store, 1, start=number)
        told: list[tuple[int, int]] = []
        with store._sync.catalog.read() as connection:
            report = trails.verified(store._sync, connection, progress=lambda *done: told.append(done))
        last = report.entries
        assert report.ok and told == [*((number, last) for number in range(2, last + 1, 2)), (last, last)]


def test_what_an_automatic_choice_weighs_is_both_kinds_of_search() -> None:
    trial = Trial("flat", 1.0, 1.0, 3.0)
    assert [auto._cost(trial, Auto(filtered=share)) for share in (0.0, 0.25, 1.0)] == [1.0, 1.5, 3.0]


def test_a_snapshot_of_only_retired_vectors_answers_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 5)
        live = snapshot(store._sync, "concepts")
    assert live is not None
    dead = live.retire(np.arange(1, 6))
    assert dead is not None and dead.all()
    gone = dataclasses.replace(live, dead=dead)
    assert gone.retire(np.empty(0, np.int64)) is dead
    found = gone.search(np.ones(8, np.float32), 3, exact=True)
    assert (found.vids.tolist(), found.scores.tolist()) == ([], [])


@pytest.mark.parametrize("kept", ["file", "store"])
def test_a_merge_begins_again_when_what_it_saw_is_gone(kept: str, tmp_path: Path) -> None:
    """Another saves between the look and the read; of two saves a store keeps one here."""
    with opened(tmp_path / "kb") as store:
        if kept == "file":
            mine, other = vs.StateFile(tmp_path / "s.json"), vs.StateFile(tmp_path / "s.json")
        else:
            mine, other = store.state("agent", keep=1), store.state("agent", keep=1)  # type: ignore[assignment]
        mine["x"] = 1
        mine.save()
        other.load()
        other["y"] = np.random.default_rng(1).random(2000)
        other.save()
        look, once = mine._there, [2]

        def there() -> str | None:
            found = look()
            if once:
                other["y"] = np.random.default_rng(once.pop()).random(2000)
                other.save()
            return found

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mine, "_there", there)
            mine["z"] = 1
            mine.save(merge=True)
        other.load()
        assert (other["x"], other["z"]) == (1, 1)
        assert np.array_equal(mine["y"], other["y"]) and np.array_equal(
            other["y"], np.random.default_rng(2).random(2000)
        )


def test_feeding_does_not_wait_for_an_engine_that_is_not_served(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", None, auto_publish=False, index={"concepts": f"faiss:{tmp_path / 'one'}"}) as store:
        fill(store, 3)
        assert store.remotes.sync(30)
        store.remotes.renew("concepts")  # another is to be filled, and is not
    with vs.open(tmp_path / "kb", None, auto_publish=False, index=f"faiss:{tmp_path / 'two'}") as store:
        assert [each.status for each in store.remotes.status()] == ["current", "filling"]
        assert store.remotes.sync(0)
