"""What seldom happens to vectors, indexes and their upkeep, each case made to happen."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.test_seldom import MANY, RANDOM, answers, fill, opened, sql
from vectorstore.recipes import BUILTIN_RECIPES
from vectorstore.storage import spaces as rows
from vectorstore.sync import models, write
from vectorstore.sync.core import INDEX
from vectorstore.sync.publish import publish, snapshot
from vectorstore.sync.rebuild import refresh

# -- vectors on their way in ---------------------------------------------------------------------------------------


def test_a_space_that_was_made_meanwhile_with_another_dimension_refuses(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        staged = write.stage(store._sync, "concepts", ["a"], np.ones((1, 4), np.float32), write.Origin())
        fill(other, 1, dim=8)
        with (
            pytest.raises(vs.SpaceMismatch, match="has 8 dimensions, the vectors have 4; nothing was written"),
            store._sync.catalog.write() as transaction,
        ):
            write.attach(store._sync, transaction, "concepts", "cosine", staged, [1])
        assert len(store.concepts) == 1 and store.check().findings == ()


def test_a_batch_of_several_segments_keeps_each_record_with_its_vector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "rows_per_segment", lambda dim: 500)
    with opened(tmp_path / "kb") as store:
        vectors = fill(store, MANY)
        assert store.check().findings == () and store.check().segments == 3
        for place in (0, 499, 500, 999, 1000, MANY - 1):
            assert store.concepts.search(vectors[place], k=1, exact=True).ids == [f"c{place:04d}"]


def test_a_flush_of_what_is_all_replaced_writes_no_file(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        vectors = RANDOM.standard_normal((MANY, 8)).astype(np.float32)
        store.concepts.upsert([{"id": f"c{n:04d}", "name": f"n{n}"} for n in range(MANY)], vectors=vectors)
        before = answers(store)
        assert store._sync.state("concepts")._live is not None
        assert write.flush(store._sync, "concepts") == 3 and write.flush(store._sync, "concepts") == 0
        assert write.flush(store._sync, "analogies") == 0
        with store._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, "concepts")
            assert space is not None
            assert [row.rows for row in rows.segments_of(connection, space.id)] == [MANY]
            assert rows.pending_count(connection, space.id) == 0
        assert answers(store) == before and store.check().findings == () and store.check().litter == ()


def test_a_flush_that_somebody_else_has_done_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, 5)
        before = answers(store)
        folder = store._sync.folder("embeddings", "concepts")
        real = folder.publish
        once = iter([lambda: write.flush(other._sync, "concepts")])
        monkeypatch.setattr(folder, "publish", lambda *a: (next(once, lambda: None)(), real(*a))[1])
        assert write.flush(store._sync, "concepts") == 0
        assert len(folder.names()) == 1 and answers(store) == before and store.check().litter == ()


# -- indexes -------------------------------------------------------------------------------------------------------


def test_an_index_that_is_older_than_the_current_one_is_not_published(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store, opened(tmp_path / "kb") as other:
        fill(store, 300)
        store.flush()
        live = snapshot(store._sync, "concepts")
        assert live is not None
        other.concepts.add({"id": "late", "name": "late"}, vectors=np.ones((1, 8)))
        newer = other.rebuild("concepts", "hnsw32").after
        with pytest.raises(vs.Superseded, match="a newer index was published meanwhile; it was kept"):
            publish(store._sync, "concepts", BUILTIN_RECIPES["simhash512"], live)
        assert snapshot(store._sync, "concepts").index.recipe.name == newer.recipe == "hnsw32"
        assert store.check().findings == () and store.check().litter == ()


def test_a_recall_that_just_suffices_suffices(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 200)
        strict = dataclasses.replace(BUILTIN_RECIPES["hnsw32"], min_recall=1.0)
        assert store.rebuild("concepts", strict).after.recall == 1.0
        poor = dataclasses.replace(BUILTIN_RECIPES["simhash512"], min_recall=1.0, points=({"candidates": 10},))
        with pytest.raises(vs.RecallTooLow, match=r"measured recall 0\.\d+, its min_recall is 1; the old index stays"):
            store.rebuild("concepts", poor)
        assert snapshot(store._sync, "concepts").index.recipe == strict


def test_the_exact_recipe_takes_the_index_away_with_its_file_and_does_what_belongs_to_it(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 300)
        report = store.rebuild("concepts", "hnsw32")
        assert report.before.recipe == "exact" and report.after.recipe == "hnsw32"
        assert report.rows == 300 and 0 <= report.seconds < 60 and report.after.bytes > 0 == report.before.bytes
        assert report.before.recall == 1.0 and 0.5 < report.after.recall <= 1.0
        assert 0 < report.before.milliseconds < 5000 and 0 < report.after.milliseconds < 5000
        live = snapshot(store._sync, "concepts")
        assert live is not None and live.index is not None
        told: list[int] = []
        refresh(store._sync, "concepts", BUILTIN_RECIPES["exact"], live, also=lambda t: told.append(t.seq))
        assert told == [store.stats()["seq"]]
        assert snapshot(store._sync, "concepts").index is None
        assert store._sync.folder("indexes", "concepts").names() == []
        assert store.trail.list(limit=1)[0].operation == "publish"


@pytest.mark.parametrize(("segments", "merged"), [(4, False), (5, True)])
@pytest.mark.parametrize("recipe", ["hnsw32", "auto", "exact"])
def test_many_segments_are_merged_before_an_index_is_built(
    recipe: str, segments: int, merged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorstore.sync.auto.SHORTLIST", ("hnsw32",))
    with opened(tmp_path / "kb") as store:
        for part in range(segments):
            fill(store, 20, start=20 * part)
            store.flush()
        before, told = answers(store), list[tuple[int, int]]()
        report = store.rebuild("concepts", recipe, lambda *done: told.append(done))
        assert report.rows == 20 * segments and 0 <= report.seconds < 60
        assert recipe == "auto" or report.after.recipe == recipe
        assert bool(told) == (recipe != "exact") and all(done <= total for done, total in told)
        assert store.check().segments == (1 if merged and recipe != "exact" else segments)
        assert answers(store) == before and store.check().findings == ()


def test_upkeep_is_written_down_as_it_was(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        told: list[dict[str, Any]] = []
        store.on("persist", told.append)

        def last() -> tuple[str, str | None, int, dict[str, Any]]:
            entry = store.trail.list(limit=1)[0]
            return entry.operation, entry.kind, entry.count, dict(entry.details)

        fill(store, 3)
        store.flush()
        assert last() == ("flush", "concepts", 0, {"space": "concepts", "vectors": 3})
        store.rebuild("concepts", "hnsw32")
        operation, kind, _, details = last()
        assert (operation, kind, len(details.pop("sha256"))) == ("publish", "concepts", 64)
        assert details == {"space": "concepts", "recipe": "hnsw32", "vectors": 3}
        store.rebuild("concepts", "exact")
        assert last() == ("publish", "concepts", 0, {"space": "concepts", "recipe": "exact", "vectors": 0})
        store.concepts.upsert({"id": "c0001", "name": "n1"}, vectors=np.ones((1, 8)))
        store.compact()
        assert last() == ("compact", "concepts", 0, {"space": "concepts", "removed": 1})
        (tmp_path / "kb/embeddings/concepts/.x.tmp").touch()
        assert store.sweep(0) == ["embeddings/concepts/.x.tmp"]
        assert last() == ("sweep", None, 0, {"files": 1})
        assert [{name: each[name] for name in ("space", "rows")} for each in told] == [
            {"space": "concepts", "rows": rows} for rows in (3, 1, 3)
        ]


def test_an_index_is_asked_for_as_many_as_will_survive(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 2000)
        store.rebuild("concepts", "hnsw32")
        live = snapshot(store._sync, "concepts")
    assert live is not None and live.curve is not None and live.index is not None
    point = dataclasses.replace(live.curve.cheapest(0.5, 10), candidates=20)
    assert live._fetch(point, None) == 20
    half = dataclasses.replace(live, dead=np.arange(2000) % 2 == 0)
    assert half._fetch(point, None) == int(20 / 0.5 * 1.2) + 16 == 64
    assert half._fetch(dataclasses.replace(point, candidates=203), None) == 0  # 503 are more than a quarter of all
    assert half._fetch(dataclasses.replace(point, candidates=202), None) == 500
    assert half.dead_indexed == half.dead_rows == half.live_rows == 1000 and half._tail.tolist() == []


def test_a_space_without_vectors_has_no_index(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        for recipe in ("hnsw32", "auto"):
            with pytest.raises(vs.ValidationError, match="there are no vectors to index"):
                store.rebuild("concepts", recipe)
        fill(store, 2)
        store.concepts.delete(["c0000", "c0001"])
        for recipe in ("hnsw32", "auto"):
            with pytest.raises(vs.ValidationError, match="there are no vectors to index"):
                store.rebuild("concepts", recipe)


# -- check and repair ----------------------------------------------------------------------------------------------


def test_lost_rows_of_files_without_numbers_are_found_again_by_the_ids_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large batch's file carries no vids: they follow from the records that lost their vectors."""
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
        fill(store, MANY, start=MANY)
        store.concepts.delete("c0007")
        before = answers(store, 50)
    lost = sql(tmp_path / "kb", "SELECT rows, first_vid, size, sha256 FROM segments ORDER BY id")
    sql(tmp_path / "kb", "DELETE FROM segments")
    made: list[Any] = []
    monkeypatch.setattr(vs.HashEmbedder, "embed", lambda *a, **_: made.append(a))
    with vs.open(tmp_path / "kb", embedder="hash:8", auto_publish=False) as store:
        assert {finding.layer for finding in store.check().findings} == {"vectors"}
        assert store.repair(dry_run=False).remaining == ()
        assert answers(store, 50) == before and store.check().litter == () and made == []
    assert sql(tmp_path / "kb", "SELECT rows, first_vid, size, sha256 FROM segments ORDER BY first_vid") == lost


def test_an_unnamed_file_that_does_not_fit_is_not_taken_for_the_lost_one(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
    with opened(tmp_path / "other") as other:  # the same ids in another order
        vectors = np.ones((MANY, 8), np.float32)
        other.concepts.add([{"id": f"c{n:04d}", "name": "x"} for n in reversed(range(MANY))], vectors=vectors)
    (right,) = (tmp_path / "kb/embeddings/concepts").iterdir()
    (wrong,) = (tmp_path / "other/embeddings/concepts").iterdir()
    shutil.move(right, tmp_path / "aside")
    shutil.copy(wrong, right.with_name("000000000001-0000000000000000.npz"))
    sql(tmp_path / "kb", "DELETE FROM segments")
    with opened(tmp_path / "kb") as store:
        assert {finding.layer for finding in store.repair(dry_run=False).remaining} == {"vectors"}
        shutil.move(tmp_path / "aside", right)
        assert store.repair(dry_run=False).remaining == ()
        assert store.check().vectors == MANY and store.check().segments == 1


def test_of_two_vectors_without_rows_the_newest_is_live_again(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        store.flush()
        store.concepts.upsert({"id": "c0001", "name": "n1"}, vectors=np.arange(8.0).reshape(1, 8))
        store.flush()
        before = answers(store)
    sql(tmp_path / "kb", "DELETE FROM vectors WHERE vid > 1")
    with opened(tmp_path / "kb") as store:
        assert store.repair(dry_run=False).remaining == ()
        assert [name for name, _ in answers(store)] == [name for name, _ in before] and before[0][0] == "c0001"
        assert store.check().vectors == 3


def test_a_waiting_vector_that_nothing_tells_whose_it_was_goes(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
    sql(tmp_path / "kb", "DELETE FROM vectors WHERE vid = 2")
    with opened(tmp_path / "kb") as store:
        assert [finding.what for finding in store.check().findings] == [
            "points to a row of vectors that is not there", "vids [2] belong to no record"
        ]  # fmt: skip
        assert store.repair(dry_run=False).remaining == ()
        assert sorted(name for name, _ in answers(store)) == ["c0000", "c0002"] and len(store.concepts) == 3
    assert sql(tmp_path / "kb", "SELECT vid FROM pending ORDER BY vid") == [(1,), (3,)]


def test_vectors_wait_for_the_next_repair_while_a_segment_is_damaged(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        store.flush()
        fill(store, 3, start=3)
        store.flush()
        fill(store, 1, start=6)
    (path, *_) = sorted((tmp_path / "kb/embeddings/concepts").iterdir())
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    sql(tmp_path / "kb", "DELETE FROM vectors WHERE record = (SELECT row FROM concepts WHERE id = 'c0004')")
    with opened(tmp_path / "kb") as store:
        assert {finding.layer for finding in store.repair(dry_run=False).remaining} == {"segments", "vectors"}
        path.write_bytes(whole)
        assert store.repair(dry_run=False).remaining == () and store.check().vectors == 7


def test_a_lost_segment_costs_only_its_own_records_beside_one_without_numbers(tmp_path: Path) -> None:
    asked: list[str] = []

    class Noting(vs.HashEmbedder):
        def embed(self, texts: Any, **options: Any) -> Any:
            asked.extend(texts)
            return super().embed(texts, **options)

    with vs.open(tmp_path / "kb", embedder=Noting(16), auto_publish=False) as store:
        store.concepts.add([{"id": f"c{n:04d}", "name": f"n{n}"} for n in range(MANY)])
        store.concepts.add([{"id": f"d{n}", "name": f"m{n}"} for n in range(3)])
        store.flush()
        lost = (
            tmp_path
            / "kb/embeddings/concepts"
            / str(sql(tmp_path / "kb", "SELECT file FROM segments WHERE rows = 3")[0][0])
        )
        lost.unlink()
        asked.clear()
    with vs.open(tmp_path / "kb", embedder=Noting(16), auto_publish=False) as store:
        assert store.repair(dry_run=False).remaining == ()
        assert {text for text in asked if text in {"m0", "m1", "m2"}} == {"m0", "m1", "m2"}
        assert not {text for text in asked if text.startswith("n")}
        assert store.concepts.search("m1", k=1).ids == ["d1"] and store.check().vectors == MANY + 3


@pytest.mark.parametrize(
    ("damage", "layer", "what"),
    [
        ("UPDATE segments SET first_vid = first_vid + 1", "segments", "carry another record's id"),
        ("INSERT INTO pending SELECT 5, 1, zeroblob(32)", "vectors", r"vids \[5\] are in two places"),
    ],
)
def test_a_damage_of_a_rare_kind_is_named(damage: str, layer: str, what: str, tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
    sql(tmp_path / "kb", damage)
    with opened(tmp_path / "kb") as store:
        found = [finding.what for finding in store.check().findings if finding.layer == layer]
        assert found and all(re.search(what, each) for each in found)


def test_an_index_over_fewer_rows_than_it_says_is_found_and_built_again(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        for part in range(2):
            fill(store, 40, start=40 * part)
            store.flush()
        store.rebuild("concepts", "hnsw32")
        before = answers(store)
    first = sql(tmp_path / "kb", "SELECT min(id) FROM segments")[0][0]
    sql(tmp_path / "kb", "UPDATE artifacts SET segments = ?", f"[{first}]")
    with opened(tmp_path / "kb") as store:
        (finding,) = store.check().findings
        assert finding.derived and "one row for each vector" in finding.what
        assert store.repair(dry_run=False).remaining == () and answers(store) == before
        with store._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, "concepts")
            assert space is not None and len(rows.artifact_of(connection, space.id, INDEX).segments) == 2


def test_old_litter_is_swept_when_a_store_is_opened_and_young_is_not(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, MANY)
    folder = tmp_path / "kb/embeddings/concepts"
    for name, age in ((".old.tmp", 700), (".young.tmp", 500), ("000000000001-00000000000000aa.npz", 700)):
        (folder / name).write_bytes(b"x")
        moment = time.time() - age
        os.utime(folder / name, (moment, moment))
    (folder / "somebody's notes").write_text("mine")
    os.utime(folder / "somebody's notes", (0, 0))
    with opened(tmp_path / "kb") as store:
        assert {".young.tmp", "somebody's notes"} < set(os.listdir(folder)) and len(os.listdir(folder)) == 3
        assert len(store.concepts) == MANY and store.check().findings == ()


def test_a_space_whose_name_leads_elsewhere_is_damage(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 1)
        for name in ("../concepts", "Concepts", "a.b.c", "a/b"):
            with pytest.raises(vs.CorruptError, match="is no name of a vector space"):
                store._sync.folder("embeddings", name)


@pytest.mark.parametrize(
    ("damage", "what", "remains"),
    [
        ("UPDATE models SET centroids = substr(centroids, 1, 5)", "the centroids of .* are damaged", True),
        ("UPDATE models SET centroids = zeroblob(length(centroids))", "holds other centroids than the catalog", False),
        ("UPDATE memberships SET record = 9999 WHERE record = 1", "has a member in row 9999 .* not there", True),
    ],
)
def test_a_damaged_fit_is_named_and_mended_from_what_the_catalog_has(
    damage: str, what: str, remains: bool, tmp_path: Path
) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 40)
        store.clusters.fit("concepts", "kmeans", 2)
        assert store.check().findings == () and store.check().models == 1
    sql(tmp_path / "kb", damage)
    with opened(tmp_path / "kb") as store:
        found = [finding for finding in store.check().findings if finding.layer == "models"]
        assert len(found) == 1 and re.search(what, found[0].what) and found[0].derived is not remains
        assert bool(store.repair(dry_run=False).remaining) is remains
        assert store.check().litter == ()


def test_a_model_that_was_swept_before_its_commit_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        info = models.publish_model(store._sync, "blob", "bin", [b"x"])
        models.still_there(store._sync, info)
        assert store.sweep(0) == [f"models/{info.name}"]
        with pytest.raises(vs.StoreError, match="was removed before it could be committed .* try again"):
            models.still_there(store._sync, info)


def test_only_decisions_about_records_that_are_not_there_are_named_and_forgotten(tmp_path: Path) -> None:
    """A record that was rejected or merged is never there: a repair forgot those decisions too."""
    with opened(tmp_path / "kb") as store:
        store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=np.eye(2))
        for name, action, vector in (
            ("k1", "keep", [1, 0]), ("r1", "reject", [1, 0]), ("m1", "merge", [1, 0]), ("k2", "keep", [0, 1]),
            ("r2", "reject", [0, 1]), ("k3", "keep", [1, 0]),
        ):  # fmt: skip
            policy = vs.Duplicates(0.99, action)
            store.concepts.add([{"id": name, "name": name}], vectors=[vector], duplicates=policy)
        assert store.check().findings == () and len(store.concepts) == 5
    sql(tmp_path / "kb", "UPDATE decisions SET other = 'z' WHERE other = 'b'")
    sql(tmp_path / "kb", "UPDATE decisions SET record = 'y' WHERE record = 'k3'")
    with opened(tmp_path / "kb") as store:
        found = [finding.what for finding in store.check().findings if finding.layer == "rows"]
        assert sorted(found) == [
            "names concepts 'y', which is not there", *["names concepts 'z', which is not there"] * 2
        ]  # fmt: skip
        assert store.repair(dry_run=False).remaining == ()
    kept = sql(tmp_path / "kb", "SELECT record, other, action FROM decisions ORDER BY id")
    assert kept == [("k1", "a", "keep"), ("r1", "a", "reject"), ("m1", "a", "merge")]


@pytest.mark.parametrize(("nearest", "plan", "doublings"), [(0, "index", 0), (60, "index", 1), (600, "exact", 3)])
def test_an_index_is_asked_for_more_until_enough_have_survived(
    nearest: int, plan: str, doublings: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 2000)
        store.rebuild("concepts", "hnsw32")
        live = snapshot(store._sync, "concepts")
    assert live is not None and live.index is not None
    query = np.arange(8, dtype=np.float32)
    if nearest:
        live = dataclasses.replace(live, dead=live.retire(np.sort(live.search(query, nearest, exact=True).vids)))
    asked: list[int] = []
    real = type(live.index).candidates
    monkeypatch.setattr(type(live.index), "candidates", lambda *a: (asked.append(a[3]), real(*a))[1])
    found, exact = live.search(query, 5, recall=0.5), live.search(query, 5, exact=True)
    assert found.vids.tolist() == exact.vids.tolist() and np.array_equal(found.scores, exact.scores)
    assert found.plan.name == plan and asked == [asked[0] * 2**n for n in range(doublings + 1)]
    if plan == "exact":
        assert "propose too many candidates" in found.plan.reason
