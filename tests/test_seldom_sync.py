"""What seldom happens to files and the catalog: lost races, rare damages, checks and repairs of what is already gone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import vectorstore as vs
from tests.test_seldom import sql
from vectorstore import deduplicating
from vectorstore.storage.copying import problems_of_copy
from vectorstore.sync import mend, models
from vectorstore.sync.core import Sync
from vectorstore.sync.repair import _rebuild_index, _replace_segment
from vectorstore.writing import Batch, Raced

RANDOM = np.random.default_rng(11)


def opened(root: Path | str = ":memory:", **options: Any) -> vs.Store:
    return vs.open(root, **{"embedder": None, "auto_publish": False, **options})


def got(found: Any) -> Any:
    """What was found, which must not be nothing."""
    assert found is not None
    return found


def fill(store: vs.Store, count: int, start: int = 0, dim: int = 8) -> np.ndarray:
    vectors = RANDOM.standard_normal((count, dim)).astype(np.float32)
    store.concepts.add([{"id": f"c{n:04d}", "name": f"n{n}"} for n in range(start, start + count)], vectors=vectors)
    return vectors


# -- a race that is lost ---------------------------------------------------------------------------------------------

WRITES: list[Callable[[vs.Store], Any]] = [
    lambda store: store.concepts.upsert([{"id": "a", "name": "b"}], vectors=np.ones((1, 8))),
    lambda store: store.concepts.update({"id": "a", "name": "b"}, vectors=np.ones((1, 8))),
]


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_others_keep_overtaking_gives_up_and_writes_nothing(
    write: Callable[[vs.Store], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as store:
        store.concepts.add({"id": "a", "name": "a"}, vectors=np.ones((1, 8)))
        commit, tries = Batch.commit, list[int]()

        def raced(self: Any, *args: Any) -> Any:
            tries.append(1)
            if len(tries) != limit:
                raise Raced
            return commit(self, *args)

        monkeypatch.setattr(Batch, "commit", raced)
        limit = 0
        with pytest.raises(vs.ValidationError, match="concepts: other writers kept changing the same records; try"):
            write(store)
        assert len(tries) > 1 and got(store.concepts.get("a")).name == "a"
        tries.clear()
        limit = 2
        write(store)
        assert len(tries) == 2 and got(store.concepts.get("a")).name == "b" and store.check().findings == ()


def test_a_generator_cannot_be_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        monkeypatch.setattr(Batch, "commit", lambda *_: (_ for _ in ()).throw(Raced))
        with pytest.raises(vs.ValidationError, match="pass a list instead of a generator"):
            store.contexts.add({"name": name} for name in "ab")
        assert store.contexts.count() == 1


def test_a_policy_for_duplicates_gives_up_where_others_keep_coming(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        fill(store, 3)
        tried = list[int]()

        def raced(self: Any, *_: Any) -> Any:
            tried.append(1)
            raise Raced

        monkeypatch.setattr(deduplicating.Deduplicator, "_attempt", raced)
        with pytest.raises(vs.ValidationError, match="other writers kept changing the same records"):
            store.concepts.add({"name": "x"}, vectors=np.ones((1, 8)), duplicates=vs.Duplicates())
        assert len(tried) > 1 and store.concepts.count() == 3


@pytest.mark.parametrize("what", ["a twin goes", "a twin comes", "the twin is purged"])
def test_what_was_decided_about_duplicates_is_decided_anew(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        store.concepts.add([{"id": "a", "name": "a"}, {"id": "z", "name": "z"}], vectors=np.eye(2))
        verify = deduplicating.Deduplicator._verify if what != "the twin is purged" else None
        decide = deduplicating.Deduplicator._decide

        def meanwhile() -> None:
            if what == "a twin comes":
                store.concepts.add({"id": "b", "name": "b"}, vectors=-np.eye(2)[:1])
            else:
                store.concepts.delete("a")
                store.concepts.purge("a")

        once = iter([meanwhile])

        def decided(self: Any, *args: Any) -> Any:
            if verify is None:
                next(once, lambda: None)()
                return decide(self, *args)
            found = decide(self, *args)
            next(once, lambda: None)()
            return found

        monkeypatch.setattr(deduplicating.Deduplicator, "_decide", decided)
        sign = -1 if what == "a twin comes" else 1
        policy = vs.Duplicates(action="reject")
        made = store.concepts.add({"id": "new", "name": "new"}, vectors=sign * np.eye(2)[:1], duplicates=policy)
        assert made == (["b"] if what == "a twin comes" else ["new"])
        assert store.check().findings == ()


def test_the_last_vectors_of_a_kind_may_go_while_duplicates_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        decide = deduplicating.Deduplicator._decide
        once = iter([lambda: store.concepts.add({"id": "o", "name": "o"}, vectors=np.ones((1, 3)))])
        monkeypatch.setattr(
            deduplicating.Deduplicator, "_decide", lambda *a: (decide(*a), next(once, lambda: None)())[0]
        )
        with pytest.raises(vs.DimensionError, match="3"):
            store.concepts.add({"name": "x"}, vectors=np.ones((1, 2)), duplicates=vs.Duplicates())
        assert [each.id for each in store.concepts.find()] == ["o"] and store.check().findings == ()


# -- files that are lost, and looked at twice ------------------------------------------------------------------------


def built(root: Path, **options: Any) -> vs.Store:
    """A store with segments, an index, a fit, a rotated trail."""
    store = opened(root, **options)
    fill(store, 60)
    store.rebuild("concepts", "hnsw32")
    store.clusters.fit("concepts", "kmeans", 2)
    store.trail.rotate()
    return store


LOST = ["embeddings/concepts/*", "indexes/concepts/*", "models/*", "trail/*"]


@pytest.mark.parametrize("lost", LOST)
def test_a_file_that_may_have_been_replaced_is_looked_at_again_and_then_told(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(tmp_path / "kb").close()
    (path,) = (tmp_path / "kb").glob(lost)
    path.unlink()
    unnamed, asked = Sync.unnamed_since, list[str]()

    def once(self: Sync, what: str, file: str) -> bool:
        asked.append(file)
        return len(asked) == 1 or unnamed(self, what, file)

    monkeypatch.setattr(Sync, "unnamed_since", once)
    with opened(tmp_path / "kb") as store:
        found = [*store.check().findings] if lost != "trail/*" else [*store.trail.verify().findings]
    assert asked.count(path.name) >= 2 and any(path.name in str(each) for each in found)


def test_a_file_that_goes_between_two_looks_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(tmp_path / "kb").close()
    from vectorstore.files import DiskFolder

    read, broken = DiskFolder.read, [1]

    def fails(self: DiskFolder, name: str) -> Any:
        if broken and name.endswith(".npz") and broken.pop():
            raise vs.CorruptError("gone")
        return read(self, name)

    monkeypatch.setattr(DiskFolder, "read", fails)
    monkeypatch.setattr(Sync, "unnamed_since", lambda *_: True)
    with opened(tmp_path / "kb") as store:
        assert len(store.concepts.search(np.ones(8), k=5)) == 5 and broken == []


# -- repairs of what is gone -----------------------------------------------------------------------------------------


def test_there_is_nothing_to_repair_where_nothing_is(tmp_path: Path) -> None:
    with built(tmp_path / "kb") as store:
        seq = store.stats()["seq"]
        sync = store._sync
        mend.mend_vectors(sync, "nothing", None)
        models.write_again(sync, "nothing.joblib")
        _rebuild_index(sync, "nothing")
        for space in ("nothing", "concepts"):
            _replace_segment(sync, space, "nothing.npz", lambda *_: 0)
        assert store.stats()["seq"] - seq <= 3 and len(store.concepts.search(np.ones(8), k=5)) == 5
        assert store.check().findings == () and store.check().litter == ()


def test_an_index_whose_recipe_cannot_be_built_again_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(tmp_path / "kb").close()
    (path,) = (tmp_path / "kb").glob("indexes/concepts/*")
    path.write_bytes(b"nothing")
    with opened(tmp_path / "kb") as store:
        store.concepts.delete(where={"version__gte": 1})
        report = store.repair(dry_run=False)
        assert any("rebuild the index of concepts" in action for action in report.actions)
        assert report.remaining == () and store.check().findings == ()
        assert len(store.concepts.search(np.ones(8))) == 0


def test_old_files_of_ours_that_no_row_names_are_swept_and_others_stay(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        store.trail.rotate()
        ours = [f"trail/9-9.{'0' * 16}.jsonl.gz", f"models/concepts.9.{'0' * 16}.joblib"]
        (tmp_path / "kb" / "models").mkdir()
        for name in (*ours, "trail/mine.txt", "models/mine.txt"):
            (tmp_path / "kb" / name).write_bytes(b"x")
        assert sorted(store.sweep()) == sorted(ours)
        assert sorted(each.name for each in (tmp_path / "kb" / "models").iterdir()) == ["mine.txt"]
        assert len(os.listdir(tmp_path / "kb" / "trail")) == 2 and store.trail.verify().findings == ()


# -- the catalog -----------------------------------------------------------------------------------------------------


def test_a_copy_that_is_another_database_is_told(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "other.sqlite").executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
    assert problems_of_copy(tmp_path / "other.sqlite") == ["is no catalog of a vectorstore"]


class First(vs.Record, table="things"):
    name: str = ""


class Second(vs.Record, table="things"):
    name: str = ""
    size: int = 7
    colour: Annotated[str, vs.INDEXED] = "red"
    note: str | None = None


class Folded(vs.Record, table="things"):
    name: str = ""
    key: Annotated[str, vs.FOLDED] = "x"


def test_a_kind_gets_new_fields_in_its_past_too_and_no_unique_ones(tmp_path: Path) -> None:
    with opened(tmp_path / "kb", kinds=[First]) as store:
        store.history = timedelta(days=30)
        store.collection(First).add({"id": "a", "name": "old"})
        before = store.stats()["seq"]
        store.collection(First).update({"id": "a", "name": "new"})
    with pytest.raises(vs.SchemaChangedError, match=r"things\.key: a new field cannot be unique, folded or embedded"):
        opened(tmp_path / "kb", kinds=[Folded])
    with opened(tmp_path / "kb", kinds=[Second]) as store:
        assert got(store.collection(Second).get("a")).size == 7
        with store.as_of(before) as then:
            one = got(then.collection("things").get("a"))
            assert (one.name, one.size, one.colour, one.note) == ("old", 7, "red", None)
        assert store.check().findings == ()


def test_a_kind_with_a_damaged_row_is_not_migrated(tmp_path: Path) -> None:
    with opened(tmp_path / "kb", kinds=[First]) as store:
        store.collection(First).add({"id": "a", "name": "old"})
    sql(tmp_path / "kb", "UPDATE things SET name = 'forged'")
    with pytest.raises(vs.CorruptError, match=r"things: rows \[1\] are damaged; the kind was not migrated"):
        opened(tmp_path / "kb", kinds=[Second])
    assert "size" not in {row[1] for row in sql(tmp_path / "kb", "PRAGMA table_info(things)")}


@pytest.mark.parametrize("call", ["touch", "update"])
def test_a_damaged_record_is_not_changed_in_place(call: str, tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.memories.add({"id": "m", "content": "m"}, vectors=np.ones((1, 4)))
    sql(tmp_path / "kb", "UPDATE memories SET content = 'forged'")
    with opened(tmp_path / "kb") as store, pytest.raises(vs.CorruptError, match=r"memories.*damaged"):
        store.memories.touch("m") if call == "touch" else store.memories.update({"id": "m", "importance": 0.5})


def test_a_store_that_is_verified_at_its_opening_is_not_opened_with_findings(tmp_path: Path) -> None:
    built(tmp_path / "kb").close()
    next((tmp_path / "kb").glob("models/*")).unlink()
    with pytest.raises(vs.StoreError, match=r"kb: .*\(and \d+ more findings\)"):
        opened(tmp_path / "kb", verify=True)
    with opened(tmp_path / "kb") as store:
        assert store.repair(dry_run=False).remaining == ()
    opened(tmp_path / "kb", verify=True).close()


# -- history, trail --------------------------------------------------------------------------------------------------


def test_history_that_was_never_kept_is_ended_in_peace(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.history = None
        fill(store, 3)
        with pytest.raises(vs.NotFound, match="no history is kept"):
            store.as_of(1)
        assert store.history is None and store.check().findings == ()


def test_a_trail_that_another_process_has_just_rotated_is_left(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, 3)
        real, once = store._sync.catalog.write, iter([lambda: other.trail.rotate()])

        def late(*args: Any, **options: Any) -> Any:
            next(once, lambda: None)()
            return real(*args, **options)

        store.trail.flush()
        store._sync.catalog.write = late  # type: ignore[method-assign]
        assert store.trail.rotate() is None
        assert store.trail.verify().findings == () and len(os.listdir(tmp_path / "kb" / "trail")) == 1


def test_refusals_beyond_what_waits_are_only_logged(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("vectorstore.trail._WAITING", 0)
    with opened() as store:
        with pytest.raises(vs.ContractViolation):
            store.concepts.search(np.ones(8), k=0)
        assert "concepts.search was refused, and the trail has no room for it now" in caplog.text
