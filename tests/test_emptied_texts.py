"""A text that is emptied takes its vector along: no search finds the record by the old words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.storage import spaces as rows
from vectorstore.sync.compact import wasted

OLD = "secret words of a"


class Note(vs.Record):
    table = "notes"
    spaces: ClassVar[tuple[str, ...]] = ("shape",)
    title: Annotated[str | None, vs.EMBEDDED] = None
    body: Annotated[str | None, vs.EMBEDDED] = None
    number: int = 0


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder="hash", kinds=[Note]) as store:
        store.collection(Note).add([{"id": "a", "body": OLD}, {"id": "b", "body": "other"}])
        yield store


def found(notes: Any, **how: Any) -> list[str]:
    return [hit.record.id for hit in notes.search(OLD, k=5, **how)]


# -- texts that are emptied --------------------------------------------------------------------------------------------

EMPTYING: dict[str, Callable[[Any], object]] = {
    "upsert without it": lambda notes: notes.upsert({"id": "a"}),
    "upsert of an empty one": lambda notes: notes.upsert([{"id": "a", "body": "", "number": 1}]),
    "upsert of a table": lambda notes: notes.upsert({"id": ["a"], "body": [None]}),
    "upsert of an object": lambda notes: notes.upsert(Note(id="a")),
    "update": lambda notes: notes.update({"id": "a", "body": None}),
    "near-duplicates looked for": lambda notes: notes.upsert({"id": "a"}, duplicates=vs.Duplicates(0.9, "reject")),
}


@pytest.mark.parametrize("flushed", [False, True], ids=["waiting", "in a file"])
@pytest.mark.parametrize("emptying", EMPTYING.values(), ids=EMPTYING)
def test_a_record_whose_text_is_emptied_is_not_found_by_its_old_words(
    kb: vs.Store, emptying: Callable[[Any], object], flushed: bool
) -> None:
    notes = kb.collection(Note)
    if flushed:
        kb.flush()
    with kb.transaction():
        emptying(notes)
        assert found(notes) == ["b"]
    for how in ({}, {"mode": "hybrid"}, {"exact": True}, {"where": {"id__in": ["a", "b"]}}):
        assert found(notes, **how) == ["b"], how
    assert found(notes, mode="text") == [] and notes.get("a") is not None
    assert kb.check().findings == ()
    kb.compact("notes")
    assert kb.check().findings == () and found(notes) == ["b"]
    notes.upsert({"id": "a", "body": OLD})
    assert found(notes)[0] == "a" and kb.check().findings == ()


def test_a_text_of_which_another_field_is_left_keeps_a_vector(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    notes.upsert({"id": "a", "title": "title", "body": OLD})
    notes.update({"id": "a", "body": None})
    assert [hit.record.id for hit in notes.search("title", k=1)] == ["a"]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_restored_record_does_not_get_the_vector_of_a_text_that_was_emptied_before(
    kb: vs.Store, compacted: bool
) -> None:
    notes = kb.collection(Note)
    notes.upsert({"id": "a"})
    kb.flush()
    notes.delete(["a", "b"])
    if compacted:
        kb.compact("notes")
    assert notes.restore(["a", "b"]) == 2
    assert found(notes) == ["b"] and kb.check().findings == ()
    notes.delete("a")
    notes.purge("a")
    assert kb.check().findings == () and found(notes) == ["b"]


def test_the_past_still_finds_a_text_that_was_emptied(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    kb.snapshots.add("before")
    notes.upsert({"id": "a"})
    kb.compact("notes")
    with kb.as_of("before") as past:
        assert found(past.collection(Note))[0] == "a"
    assert found(notes) == ["b"]


def test_vectors_that_a_caller_brought_stay_when_there_is_no_text(kb: vs.Store, tmp_path: Path) -> None:
    notes = kb.collection(Note)
    brought = notes.vectors(["b"])
    notes.upsert({"id": "a"}, vectors=brought)
    notes.upsert({"id": "a", "number": 2})
    assert {hit.record.id for hit in notes.search(brought[0], k=2) if hit.score > 0.9} == {"a", "b"}
    with vs.open(tmp_path / "other", embedder=None, kinds=[Note]) as store:
        own = store.collection(Note)
        own.add({"id": "a", "body": OLD}, vectors=np.ones((1, 4)))
        own.upsert({"id": "a"})
        assert [hit.record.id for hit in own.search(np.ones(4), k=1)] == ["a"]


def test_a_workflow_that_is_rolled_back_gives_an_emptied_text_its_vector_again(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    made = kb.workflows.update("notes", [{"id": "a", "body": None}])
    kb.workflows.process(made.id)
    assert found(notes) == ["b"]
    kb.compact("notes")
    kb.workflows.rollback(made.id)
    assert found(notes)[0] == "a" and kb.check().findings == ()


def test_an_import_that_empties_a_text_takes_its_vector_too(kb: vs.Store, tmp_path: Path) -> None:
    notes = kb.collection(Note)
    with vs.open(tmp_path / "from", embedder="hash", kinds=[Note]) as other:
        other.collection(Note).add({"id": "a"})
        other.export(tmp_path / "out.jsonl")
    kb.import_(tmp_path / "out.jsonl", on_conflict="overwrite")
    assert notes.get("a").body is None and found(notes) == ["b"]


def test_vectors_of_another_space_stay_when_the_text_is_emptied(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    notes.upsert({"id": "a", "body": OLD}, vectors={"shape": np.ones((1, 4))})
    notes.upsert({"id": "a"})
    assert found(notes) == ["b"]
    assert [hit.record.id for hit in notes.search(np.ones(4), k=1, space="shape")] == ["a"]


# -- what a workflow made and took back --------------------------------------------------------------------------------


def reappears(notes: Any, query: Any = OLD, **how: Any) -> list[str]:
    """What is found of a record once it was deleted and restored."""
    notes.delete(["a"])
    assert notes.restore(["a"]) == 1
    return [hit.record.id for hit in notes.search(query, k=5, **how)]


def test_a_restored_record_does_not_get_a_vector_that_a_workflow_took_back(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    notes.update({"id": "a", "body": ""})
    made = kb.workflows.update("notes", [{"id": "a", "body": OLD}])
    kb.workflows.process(made.id)
    assert found(notes)[0] == "a"
    kb.workflows.rollback(made.id)
    assert notes.get("a").body == "" and found(notes) == ["b"]
    assert reappears(notes) == ["b"] and kb.check().findings == ()


def test_nor_one_that_came_with_the_workflow(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    made = kb.workflows.create("notes", [{"id": "a", "body": OLD}], vectors={"shape": np.ones((1, 4))})
    kb.workflows.process(made.id)
    assert [hit.record.id for hit in notes.search(np.ones(4), k=1, space="shape")] == ["a"]
    kb.workflows.rollback(made.id)
    assert reappears(notes, np.ones(4), space="shape") == []
    assert found(notes)[0] == "a" and kb.check().findings == ()


def test_nor_one_of_texts_that_were_embedded_again(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, kinds=[Note]) as store:
        store.collection(Note).add({"id": "a", "body": OLD}, vectors={"shape": np.ones((1, 4))})
    with vs.open(tmp_path / "kb", embedder="hash", kinds=[Note]) as store:
        notes = store.collection(Note)
        made = store.workflows.reembed("notes")
        store.workflows.process(made.id)
        assert found(notes) == ["a"]
        store.workflows.rollback(made.id)
        assert found(notes) == [] == reappears(notes) and store.check().findings == ()


@pytest.mark.parametrize("compacted", [False, True])
def test_a_deleted_record_that_a_workflow_overwrote_has_no_vector_again_when_it_had_none(
    kb: vs.Store, compacted: bool
) -> None:
    notes = kb.collection(Note)
    notes.update({"id": "a", "body": None})
    notes.delete("a")
    made = kb.workflows.create("notes", [{"id": "a", "body": OLD}])
    kb.workflows.process(made.id)
    assert found(notes)[0] == "a"
    if compacted:
        kb.flush()
        kb.compact("notes")
    kb.workflows.rollback(made.id)
    assert notes.restore(["a"]) == 1
    assert notes.get("a").body is None and found(notes) == ["b"] and kb.check().findings == ()


# -- what is left of it ------------------------------------------------------------------------------------------------


def vids_of_a(kb: vs.Store) -> int:
    with kb._sync.catalog.read() as connection:
        sql = "SELECT count(*) FROM vectors v JOIN notes n ON n.row = v.record AND n.id = 'a'"
        return int(connection.execute(sql).fetchone()[0])


@pytest.mark.parametrize("history", [None, "30d"])
@pytest.mark.parametrize("deleted", [False, True])
def test_a_text_that_comes_and_goes_leaves_no_more_than_one_that_changes(
    kb: vs.Store, deleted: bool, history: str | None
) -> None:
    notes = kb.collection(Note)
    kb.history = history
    for turn in range(4):
        notes.update({"id": "a", "body": ""})
        assert found(notes) == ["b"]
        if deleted:
            assert reappears(notes) == ["b"]
        notes.update({"id": "a", "body": f"{OLD} {turn}"})
        assert found(notes)[0] == "a"
        kb.flush()
    kb.compact("notes")
    assert vids_of_a(kb) == 1 and found(notes)[0] == "a"
    assert reappears(notes)[0] == "a"
    notes.update({"id": "a", "body": ""})
    kb.compact("notes")
    assert vids_of_a(kb) == 1
    assert reappears(notes) == ["b"] and kb.check().findings == ()


def test_the_past_has_each_vector_of_a_text_that_comes_and_goes(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    for turn in range(3):
        kb.snapshots.add(f"with {turn}")
        notes.update({"id": "a", "body": ""})
        kb.snapshots.add(f"without {turn}")
        kb.compact("notes")
        notes.update({"id": "a", "body": OLD})
    kb.compact("notes")
    for turn in range(3):
        with kb.as_of(f"with {turn}") as past:
            assert found(past.collection(Note))[0] == "a"
        with kb.as_of(f"without {turn}") as past:
            assert found(past.collection(Note)) == ["b"]
    assert kb.check().findings == ()


def test_waste_is_what_a_compaction_removes_though_records_were_emptied_before_they_were_deleted(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    ids = [f"n{n}" for n in range(20)]
    notes.add([{"id": name, "body": f"text of {name}"} for name in ids])
    kb.flush()
    notes.upsert([{"id": name} for name in ids[:10]])
    notes.delete(ids[:15])
    with kb._sync.catalog.read() as connection:
        (space,) = rows.spaces_of(connection, "notes")
        assert wasted(kb._sync, connection, space) == (10, 22)
    (report,) = kb.compact("notes")
    assert report.vectors_removed == 10
    with kb._sync.catalog.read() as connection:
        assert wasted(kb._sync, connection, space) == (0, 12)
    assert notes.restore(ids) == 15 and kb.check().findings == ()
    assert {hit.record.id for hit in notes.search("text", k=30)} == {"a", "b", *ids[10:]}


@pytest.mark.parametrize("space", [None, "shape"])
def test_a_deleted_record_that_is_written_again_without_a_vector_does_not_get_its_former_one(
    kb: vs.Store, space: str | None
) -> None:
    notes = kb.collection(Note)
    notes.update({"id": "a"}, vectors={"shape": np.ones((1, 4))})
    notes.delete("a")
    notes.upsert({"id": "a"})
    kb.flush()
    query = OLD if space is None else np.ones(4)
    assert reappears(notes, query, space=space) == (["b"] if space is None else [])
    assert kb.check().findings == ()
