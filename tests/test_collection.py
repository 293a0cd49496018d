"""The verbs of one kind, on disk and in memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clock, brute_force, clustered, order_of

import vectorstore as vs


def names(records: Any) -> list[str]:
    return [record.name for record in records]


# -- add, upsert, update -----------------------------------------------------------------------------------------------


def test_add_gives_derived_ids_and_ulids(store: vs.Store) -> None:
    assert store.concepts.add(
        [
            vs.Concept(name="King"),
            vs.Concept(name="bank", synset="bank.n.01"),
            vs.Concept(name="and/or"),
            vs.Concept(id="mine", name="king"),
        ]
    ) == ["default:king", "default:bank:bank.n.01", "default:and_or", "mine"]
    (ulid,) = store.analogies.add({"a": "x", "b": "y", "c": "z", "d": "w"})

    assert len(ulid) == 26 and ulid in store.analogies


def test_add_refuses_an_existing_id_and_writes_nothing(store: vs.Store) -> None:
    store.concepts.add(vs.Concept(name="king", definition="old"))

    with pytest.raises(vs.DuplicateId, match=r"concepts\[1\]\.id: 'default:king' exists already.*upsert"):
        store.concepts.add([vs.Concept(name="queen"), vs.Concept(name="king", definition="new")])
    with pytest.raises(vs.DuplicateId, match=r"concepts\[2\].*also concepts\[0\]"):
        store.concepts.add([vs.Concept(name="a"), vs.Concept(name="b"), vs.Concept(name="A")])

    assert names(store.concepts) == ["king"]
    assert store.concepts.get("default:king").definition == "old"  # type: ignore[union-attr]


def test_a_bad_record_is_named_and_nothing_is_written(store: vs.Store) -> None:
    good = [{"name": f"c{place}"} for place in range(17)]

    with pytest.raises(vs.ValidationError, match=r"concepts\[17\]\.quality: expected 0\.\.1, got 7\.5"):
        store.concepts.add([*good, {"name": "bad", "quality": 7.5}])
    for bad in ({"quality": 0.5}, {"name": "x", "quality": float("nan")}, {"name": "x", "quality": True}, "text", 3):
        with pytest.raises(vs.ValidationError, match=r"concepts|expected records"):
            store.concepts.add([bad])

    assert len(store.concepts) == 0


@pytest.mark.parametrize("bad", ["", "a/b", "a\\b", "..", "a\nb", "x" * 256, "a\x00b"])
def test_bad_ids_are_refused(store: vs.Store, bad: str) -> None:
    if bad:
        with pytest.raises(vs.ValidationError, match="an id has"):
            store.concepts.add({"id": bad, "name": "x"})
    with pytest.raises(vs.ValidationError):
        store.concepts.add({"name": "x", "context": bad})


def test_unknown_keys_are_kept_and_queryable(store: vs.Store) -> None:
    extra = {"color": "white", "nested": {"a": [1, 2.5, None, "ü"]}, "": "empty key", "n": 2**53}
    store.concepts.add([{"name": "pawn", **extra}, {"name": "king", "extra": {"color": "black"}}])

    assert store.concepts.get("default:pawn").extra == extra  # type: ignore[union-attr]
    assert names(store.concepts.find({"extra.color": "black"})) == ["king"]
    assert names(store.concepts.find({"extra.n__gt": 5})) == ["pawn"]
    for bad in (float("nan"), float("inf"), {1, 2}, object()):
        with pytest.raises(vs.ValidationError):
            store.concepts.add({"name": "bad", "thing": bad})


def test_a_typo_in_the_constructor_is_an_error() -> None:
    with pytest.raises(vs.ValidationError, match="Concept.defnition: no such field"):
        vs.Concept(name="x", defnition="y")  # type: ignore[call-arg]


def test_generators_and_frames_are_taken_in_batches(store: vs.Store) -> None:
    import pandas

    assert len(store.concepts.add({"name": f"g{place}"} for place in range(2500))) == 2500
    frame = pandas.DataFrame({"name": ["f1", "f2"], "quality": [0.5, None], "shade": ["dark", "light"]})
    store.concepts.add(frame)

    assert store.concepts.get("default:f2").quality is None  # type: ignore[union-attr]
    assert store.concepts.get("default:f1").extra == {"shade": "dark"}  # type: ignore[union-attr]


def test_a_generator_that_raises_leaves_nothing(place: Path | str) -> None:
    def broken() -> Any:
        yield from ({"name": f"g{number}"} for number in range(30_000))
        raise RuntimeError("boom")

    with vs.open(place, embedder=None) as store:
        with pytest.raises(RuntimeError, match="boom"):
            store.concepts.add(broken(), vectors=np.ones((30_000, 2)))
        assert len(store.concepts) == 0
        assert store.check().litter == ()


def test_upsert_keeps_creation_and_vector_and_raises_the_version(store: vs.Store, clock: Clock) -> None:
    store.concepts.add(vs.Concept(name="king", definition="a male monarch"))
    created, vector = clock.now, store.concepts.vectors(["default:king"])
    clock.move(days=1)
    store.concepts.upsert([vs.Concept(name="king", definition="a male monarch", quality=0.9), vs.Concept(name="queen")])
    king = store.concepts.get("default:king")

    assert king is not None
    assert (king.version, king.created_at, king.updated_at, king.quality) == (2, created, clock.now, 0.9)
    assert store.concepts.vectors(["default:king"]).tobytes() == vector.tobytes()
    assert store.concepts.vector_info("default:king").update_count == 0  # type: ignore[union-attr]


def test_update_changes_only_what_it_names(store: vs.Store) -> None:
    store.concepts.add([{"name": "king", "domain": "royalty", "tags": ["m"], "color": "gold"}, {"name": "queen"}])
    changed = store.concepts.update(
        [{"id": "default:king", "quality": 0.5, "shade": "dark"}, {"id": "default:queen", "tags": ["f"]}]
    )
    king = store.concepts.get("default:king")

    assert changed == 2 and king is not None
    assert (king.domain, king.quality, king.tags, king.version) == ("royalty", 0.5, ("m",), 2)
    assert king.extra == {"color": "gold", "shade": "dark"}
    with pytest.raises(vs.NotFound, match="nobody"):
        store.concepts.update([{"id": "default:king", "quality": 0.1}, {"id": "nobody", "quality": 0.2}])
    with pytest.raises(vs.ValidationError, match=r"concepts\[0\]\.quality"):
        store.concepts.update({"id": "default:king", "quality": 2})
    assert store.concepts.get("default:king").quality == 0.5  # type: ignore[union-attr]


def test_concurrent_updates_lose_nothing(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add({"name": "counter", "n": 0})
        lock, errors = threading.Lock(), []

        def count() -> None:
            for _ in range(25):
                with lock:  # read-modify-write belongs together; the writes of other fields may interleave
                    value = store.concepts.get("default:counter").extra["n"]  # type: ignore[union-attr, operator]
                    store.concepts.update({"id": "default:counter", "n": value + 1})  # type: ignore[operator]

        def tag() -> None:
            try:
                for number in range(25):
                    store.concepts.update({"id": "default:counter", f"t{threading.get_ident()}": number})
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for work in (count, count, tag, tag)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert errors == []
        assert store.concepts.get("default:counter").extra["n"] == 50  # type: ignore[union-attr]
        assert store.concepts.get("default:counter").version == 101  # type: ignore[union-attr]


# -- delete, restore, purge --------------------------------------------------------------------------------------------


def test_deleted_records_vanish_and_come_back_equal(store: vs.Store) -> None:
    store.concepts.add(
        [
            {"name": "king", "definition": "male monarch", "tags": ["t"]},
            {"name": "queen", "definition": "female monarch"},
        ]
    )
    before, vector = store.concepts.get("default:king"), store.concepts.vectors(["default:king"])
    scores = [hit.score for hit in store.concepts.search("male monarch")]

    assert store.concepts.delete(["default:king", "nobody"]) == 1
    assert store.concepts.get("default:king") is None and "default:king" not in store.concepts
    assert names(store.concepts) == names(store.concepts.find()) == ["queen"] and len(store.concepts) == 1
    assert (
        store.concepts.search("male monarch").ids
        == store.concepts.search("monarch", mode="text").ids
        == ["default:queen"]
    )
    assert store.concepts.delete("default:king") == 0

    assert store.concepts.restore("default:king") == 1
    after = store.concepts.get("default:king")
    assert after is not None and before is not None
    assert after.model_dump(exclude={"version", "updated_at"}) == before.model_dump(exclude={"version", "updated_at"})
    assert store.concepts.vectors(["default:king"]).tobytes() == vector.tobytes()
    assert [hit.score for hit in store.concepts.search("male monarch")] == scores
    assert store.concepts.search("monarch", mode="text").ids == ["default:king", "default:queen"]


def test_empty_criteria_are_refused(store: vs.Store) -> None:
    store.concepts.add({"name": "king"})
    for arguments in ({}, {"where": {}}, {"where": None}):
        with pytest.raises(vs.ValidationError, match="say what"):
            store.concepts.delete(**arguments)  # type: ignore[arg-type]

    assert store.concepts.delete(ids=[]) == 0
    assert store.concepts.delete(where={"quality__lt": 0.0}) == 0
    assert len(store.concepts) == 1


def test_delete_by_filter_counts_truly_and_can_be_tried(store: vs.Store) -> None:
    store.concepts.add([{"name": f"c{n}", "domain": "ab"[n % 2], "quality": n / 10} for n in range(10)])
    where = {"domain": "a", "quality__gte": 0.4}

    assert store.concepts.delete(where=where, dry_run=True) == 3 and len(store.concepts) == 10
    assert store.concepts.delete(where=where) == 3
    assert sorted(names(store.concepts)) == ["c0", "c1", "c2", "c3", "c5", "c7", "c9"]
    assert store.concepts.restore(where={"name": "c6"}) == 1


def test_a_deleted_id_can_be_added_again(store: vs.Store) -> None:
    store.concepts.add({"name": "king", "definition": "old"})
    store.concepts.delete("default:king")
    store.concepts.add({"name": "king", "definition": "new one"})

    assert store.concepts.get("default:king").definition == "new one"  # type: ignore[union-attr]
    assert store.concepts.search("new one", k=5).ids == ["default:king"]
    assert names(store.concepts.stream()) == ["king"]


def test_purge_waits_for_the_retention_and_erases(tmp_path: Path, clock: Clock) -> None:
    secret, vector = "xyzzy-plugh-secret", np.float32([0.123456, 0.654321, 0.111111, 0.222222])
    with vs.open(tmp_path / "kb", embedder=None, clock=clock) as store:
        store.concepts.add({"name": secret, "definition": secret}, vectors=[vector])
        store.concepts.add([{"name": f"c{n}"} for n in range(40)], vectors=clustered(40, 4))
        store.flush()
        store.rebuild("concepts", "simhash512")
        store.concepts.delete(f"default:{secret}")
        assert store.concepts.purge() == 0
        clock.move(days=31)
        assert store.concepts.purge() == 1
        assert store.concepts.purge() == 0
        assert store.concepts.restore(f"default:{secret}") == 0
        assert store.check().findings == () and len(store.concepts) == 40
        assert len(store.concepts.search(vector, k=100, exact=True)) == 40
    found = [
        str(path)
        for path in (tmp_path / "kb").rglob("*")
        if path.is_file() and (secret.encode() in path.read_bytes() or vector.tobytes() in path.read_bytes())
    ]

    assert found == []


def test_purge_of_ids_ignores_their_age_but_not_that_they_live(store: vs.Store) -> None:
    store.concepts.add([{"name": "king"}, {"name": "queen"}])
    store.concepts.delete("default:king")

    with pytest.raises(
        vs.ConflictError, match="concepts.purge: 1 of the named records is not deleted; delete it first"
    ):
        store.concepts.purge(["default:king", "default:queen", "nobody"])
    assert store.concepts.restore("default:king") == 1 and store.concepts.delete("default:king") == 1
    assert store.concepts.purge(["default:king", "nobody"]) == 1
    assert store.concepts.purge("default:king") == 0
    assert store.concepts.purge(older_than=timedelta(0)) == 0
    assert names(store.concepts) == ["queen"]


def test_a_context_with_deleted_records_cannot_be_purged_before_they_are(store: vs.Store) -> None:
    store.concepts.add({"name": "bank", "context": "finance"})
    store.concepts.delete("finance:bank")
    store.contexts.delete("finance")

    with pytest.raises(vs.ConflictError, match="still point to it"):
        store.contexts.purge("finance")

    store.concepts.purge("finance:bank")
    assert store.contexts.purge("finance") == 1


# -- get, find, stream, count ------------------------------------------------------------------------------------------


def test_get_many_keeps_the_order_asked(store: vs.Store) -> None:
    store.concepts.add([{"id": name, "name": name} for name in "abc"])

    assert names(store.concepts.get_many(["c", "x", "a"])) == ["c", "a"]
    assert [record and record.id for record in store.concepts.get_many(["c", "x", "a"], missing="none")] == [
        "c",
        None,
        "a",
    ]
    with pytest.raises(vs.NotFound, match="'x'"):
        store.concepts.get_many(["c", "x"], missing="raise")


@pytest.mark.parametrize("order", [None, "name", "-quality", "quality", "-created_at"])
def test_pages_visit_each_record_once_in_a_stable_order(store: vs.Store, order: str | None) -> None:
    qualities: list[float | None] = [None, 0.5, 0.1, 0.5, None, 0.9]
    store.concepts.add([{"name": f"c{n:03}", "quality": qualities[n % 6]} for n in range(200)])
    pages, after = [], None
    for _ in itertools.count():
        page = store.concepts.find(order=order, limit=7, after=after)
        assert page.total == 200
        pages.append([record.id for record in page])
        after = page.next
        if after is None:
            break
    seen = [name for page in pages for name in page]

    assert sorted(seen) == sorted(f"default:c{n:03}" for n in range(200))
    assert seen == [record.id for record in store.concepts.find(order=order, limit=1000)]
    if order == "-quality":
        found = [record.quality for record in store.concepts.find(order=order, limit=1000)]
        assert found == sorted(found, key=lambda value: (value is None, -(value or 0)))


def test_bad_page_arguments_are_refused(store: vs.Store) -> None:
    for arguments in (
        {"limit": 0},
        {"limit": -1},
        {"limit": True},
        {"order": "nothing"},
        {"order": "tags"},
        {"after": "x"},
    ):
        with pytest.raises(vs.ValidationError):
            store.concepts.find(**arguments)  # type: ignore[arg-type]
    with pytest.raises(vs.ValidationError):
        store.concepts.stream(batch_size=0)


def test_concepts_are_found_by_exact_name_pattern_text_and_likeness(store: vs.Store) -> None:
    store.concepts.add(
        [
            vs.Concept(name="king", definition="a male monarch"),
            vs.Concept(name="kingdom", definition="the land of a monarch"),
            vs.Concept(name="queen", definition="a female monarch, wife of a king"),
            vs.Concept(name="Ångström", definition="a unit of length"),
        ]
    )

    assert names(store.concepts.find({"name": " KING "})) == ["king"]
    assert names(store.concepts.find({"name": "\u0041\u030angström"})) == ["Ångström"]
    assert names(store.concepts.find({"name__glob": "king*"})) == ["king", "kingdom"]
    assert names(hit.record for hit in store.concepts.search("land", mode="text")) == ["kingdom"]
    assert names(hit.record for hit in store.concepts.search("a female monarch", k=1)) == ["queen"]


def test_filters_on_times_do_not_depend_on_the_offset(store: vs.Store, clock: Clock) -> None:
    store.concepts.add({"name": "early"})
    clock.move(hours=2)
    store.concepts.add({"name": "late"})
    limits = ["2026-01-31T13:00:00Z", "2026-01-31T18:00:00+05:00", datetime(2026, 1, 31, 13, tzinfo=UTC)]

    assert [names(store.concepts.find({"created_at__gt": limit})) for limit in limits] == [["late"]] * 3
    with pytest.raises(vs.WhereError, match="zone"):
        store.concepts.find({"created_at__gt": "2026-01-31T13:00:00"})


def test_a_filter_on_tags_uses_its_index(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add([{"name": f"c{n}", "tags": ["all", f"t{n % 3}"]} for n in range(30)])
        assert store.concepts.count({"tags__has": "t1"}) == 10
        assert store.concepts.count({"tags__has_all": ["t1", "all"]}) == 10
        assert store.concepts.count({"tags__has_any": ["t1", "t2", "none"]}) == 20
        statements: list[str] = []
        with store._catalog.read() as connection:
            connection.set_trace_callback(statements.append)
            store.concepts.count({"tags__has": "t1"})
            connection.set_trace_callback(None)
            (query,) = [statement for statement in statements if "count(*)" in statement]
            plan = str(connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall())

    assert "PRIMARY KEY (tag=?)" in plan


# -- vectors -----------------------------------------------------------------------------------------------------------


def test_vectors_are_kept_bit_exact_through_flush_and_compaction(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    vectors = clustered(1500, 24, seed=5) * np.float32(3.7)
    store.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(1500)], vectors=vectors)
    store.concepts.add([{"id": f"d{n}", "name": "x"} for n in range(20)], vectors=vectors[:20] + 1)
    ids = [f"c{n}" for n in range(0, 1500, 7)] + [f"d{n}" for n in range(20)]
    expected = np.concatenate([vectors[::7], vectors[:20] + 1]).tobytes()
    for step in (lambda: None, store.flush, lambda: store.concepts.delete("c1"), store.compact):
        step()
        assert store.concepts.vectors(ids).tobytes() == expected


def test_bad_vectors_are_refused_with_the_place(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.concepts.add({"name": "a"}, vectors=[[1.0, 2.0, 3.0]])
    good = [1.0, 2.0, 3.0]
    for vectors, message in (
        ([[1.0, 2.0]], "expected 3 dimensions, got 2"),
        ([good, [1.0, float("nan"), 0.0]], r"\[1\]: expected finite"),
        ([good, [1.0, float("inf"), 0.0]], r"\[1\]: expected finite"),
        ([good, [1e30, 1e30, 1e30]], r"\[1\]: expected finite"),
        ([good, [0.0, 0.0, 0.0]], r"\[1\]: a zero vector"),
        ([good], "1 vectors for"),
        ([good, good, good], "3 vectors for 2 records"),
        ([good, [1.0, 2.0]], "numbers"),
        ("abc", "numbers"),
    ):
        with pytest.raises(vs.ValidationError, match=message):
            store.concepts.add([{"name": "b"}, {"name": "c"}], vectors=vectors)

    assert len(store.concepts) == 1


def test_spaces_of_many_dimensions_live_side_by_side(tmp_path: Path) -> None:
    for dim in (3, 300, 384, 768, 1536):
        kinds = ["concepts", "analogies", "clusters"]
        with vs.open(tmp_path / f"kb{dim}", embedder=None) as store:
            for offset, kind in enumerate(kinds):
                fields: dict[str, Any] = {"a": "x"} if kind == "analogies" else {"name": "x"}
                store[kind].add({"id": "one", **fields}, vectors=clustered(1, dim + offset))
            assert [store.stats()["kinds"][kind]["dim"] for kind in kinds] == [dim, dim + 1, dim + 2]
            assert store.check().findings == ()


def test_an_updated_vector_replaces_the_old_one(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=[[1.0, 0.0], [0.0, 1.0]])
    for round_ in range(3):
        store.concepts.upsert({"id": "a", "name": "a"}, vectors=[[0.0, 1.0 + round_]], source="custom", confidence=0.7)
        hits = store.concepts.search([1.0, 0.0])
        assert [(hit.id, hit.score) for hit in hits] == [("b", 0.0), ("a", 0.0)]
        store.flush()
    info = store.concepts.vector_info("a")

    assert info == vs.VectorInfo(model=None, dim=2, metric="cosine", source="custom", confidence=0.7, update_count=3)


def test_adding_one_vector_writes_no_old_segment_again(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    store = open_store()
    store.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(20_000)], vectors=clustered(20_000, 8))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "kb" / "embeddings").rglob("*.npz")}
    store.concepts.add({"name": "one"}, vectors=clustered(1, 8))
    store.flush()
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "kb" / "embeddings").rglob("*.npz")}
    (new,) = set(after) - set(before)

    assert {path: after[path] for path in before} == before
    assert new.stat().st_size < 2048
    assert store.compact()[0].segments_after == 1


def test_progress_is_monotonic_and_ends_at_the_total(store: vs.Store) -> None:
    calls: list[tuple[int, int]] = []
    store.concepts.add(
        [{"name": f"c{n}"} for n in range(600)], progress=lambda done, total: calls.append((done, total))
    )

    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (600, 600)


def test_an_interrupt_while_embedding_leaves_the_store_as_it_was(store: vs.Store) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.concepts.add([{"name": f"c{n}"} for n in range(3000)], progress=interrupt)

    assert len(store.concepts) == 0 and store.check().litter == ()


# -- several spaces ----------------------------------------------------------------------------------------------------


class Sound(vs.Record, table="sounds", spaces=("timbre",)):
    label: str = ""


def test_a_record_may_have_vectors_in_several_spaces(place: Path | str) -> None:
    relation = clustered(40, 5, seed=1)
    with vs.open(place, embedder="hash:16") as store:
        analogies = store.analogies
        analogies.add([{"id": f"c{n}", "a": f"word{n}"} for n in range(40)], vectors={"relation": relation})
        for query in relation[:5]:
            values = brute_force(query[None], relation, "cosine")[0]
            assert analogies.search(query, k=40, space="relation").ids == [f"c{n}" for n in order_of(values, 40)]
        assert analogies.search("word7", k=1).ids == ["c7"]
        assert analogies.search(vs.Id("c3"), k=1, space="relation").ids != ["c3"]
        assert [hits.ids[0] for hits in analogies.search_many(relation[:3], space="relation")] == ["c0", "c1", "c2"]
        assert analogies.vectors(["c9"], space="relation").tobytes() == relation[9].tobytes()
        assert analogies.vector_info("c9", space="relation").source == "caller"  # type: ignore[union-attr]
        analogies.delete("c1")
        assert "c1" not in analogies.search(relation[1], k=40, space="relation").ids
        analogies.restore("c1")
        assert analogies.search(relation[1], k=1, space="relation").ids == ["c1"]
        analogies.delete(["c1", "c2"])
        analogies.purge("c1")
        assert store.check().findings == ()
        analogies.restore("c2")
        assert analogies.search(relation[2], k=1, space="relation").ids == ["c2"]
        assert store.stats()["kinds"]["analogies"]["spaces"]["analogies.relation"]["vectors"] == 39
        with pytest.raises(vs.NotFound, match=r"no vector space 'color'.*text, relation"):
            analogies.search(relation[0], space="color")
        with pytest.raises(vs.DimensionError, match=r"analogies\.relation"):
            analogies.add({"a": "x"}, vectors={"relation": [[1.0, 2.0]]})
        assert store.check().findings == ()


def test_a_kind_without_text_needs_no_embedder(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", kinds=[Sound]) as store:  # the default embedder, which is never loaded
        sounds = store.collection(Sound)
        sounds.add([Sound(id="a"), Sound(id="b")], vectors={"text": [[1, 0], [0, 1]], "timbre": [[0, 0, 1], [1, 0, 0]]})
        assert sounds.search([1.0, 0.1]).ids == ["a", "b"]
        assert sounds.search([1.0, 0.1, 0.0], space="timbre").ids == ["b", "a"]
    with vs.open(tmp_path / "kb") as store:
        assert store["sounds"].search([1.0, 0.1, 0.0], space="timbre").ids == ["b", "a"]
        assert store.check().findings == ()
