"""What seldom happens to work: what was changed, purged or damaged between making it and doing or undoing it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Clock
from tests.test_seldom import fill, opened, sql
from tests.test_workflows import analogies, concepts, leave_at, small_chunks, state
from vectorstore.embedders import CallableEmbedder
from vectorstore.storage import workflows as rows
from vectorstore.sync import refresh
from vectorstore.workflows import writes

LOW = vs.IndexRecipe("sim64", "LSH64rt", ({"candidates": 400},), min_recall=0.0)


@pytest.fixture
def store(clock: Clock) -> Iterator[vs.Store]:
    with vs.open(":memory:", embedder="hash:64", clock=clock, auto_publish=False) as made:
        yield made
        assert made.check().findings == ()


def told(store: vs.Store, id: str) -> list[tuple[int, str, str | None]]:
    """What is said of the items that did not go the usual way."""
    items = store.workflows.items(id)
    return [(item.index, item.status, item.reason) for item in items if item.status not in ("done", "undone")]


def ended(workflow: Any) -> tuple[str, int, int, int, int]:
    return workflow.status, workflow.processed, workflow.errors, workflow.undone, workflow.kept


# -- making it ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("contracts", [True, False])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda flows: flows.create("analogies", analogies(1), policy="hard"),
            "policy: expected .*strict.* got 'hard'",
        ),
        (lambda flows: flows.create("analogies", analogies(4)), "analogies: 4 items; a workflow has at most 3"),
        (lambda flows: flows.create("analogies", analogies(1), metadata={"a": object()}), "is no plain data"),
        (lambda flows: flows.list("done"), "status: expected one of pending, .*, got 'done'"),
        (lambda flows: flows.items("x", "completed"), "status: expected one of pending, .*, got 'completed'"),
        (lambda flows: flows.list(limit=0), r"limit: expected a whole number in 1\.\.10000, got 0"),
        (lambda flows: flows.log(limit=10_001), r"limit: expected a whole number in 1\.\.10000, got 10001"),
        (lambda flows: flows.errors("x", limit=2.0), r"limit: expected a whole number in 1\.\.10000, got 2\.0"),
        (lambda flows: flows.cleanup(timedelta(0), "pending"), "status: expected one of .*, got 'pending'"),
        (
            lambda flows: flows.create_from_jsonl("concepts", "x", operation="reembed"),
            "operation: expected one of create",
        ),
        (lambda flows: flows.process("x", lease=timedelta(0)), "lease: expected a positive time"),
    ],
)
def test_what_cannot_be_is_refused_and_makes_nothing(
    call: Callable[[Any], Any], message: str, contracts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_ITEMS", 3)
    with vs.open(":memory:", embedder=None, contracts=contracts) as store:
        with pytest.raises(vs.ValidationError, match=message):
            call(store.workflows)
        assert store.workflows.count() == 0


def test_metadata_of_sets_and_tuples_become_lists(store: vs.Store) -> None:
    made = store.workflows.create(
        "analogies", analogies(1), metadata={"who": {"me"}, "of": frozenset({1}), "t": (1, 2)}
    )
    assert store.workflows.get(made.id).metadata == {"who": ["me"], "of": [1], "t": [1, 2]}


VECTORS = {"@vectors": {"concepts": [1.0, 0.0]}}


@pytest.mark.parametrize(
    ("operation", "kind", "lines", "error", "message"),
    [
        ("delete", "concepts", [{"id": "a", **VECTORS}], vs.ValidationError, "has vectors, and a deletion needs none"),
        ("create", "nothings", [{"id": "a"}], vs.NotFound, "no kind 'nothings'"),
        (
            "create",
            "concepts",
            [{"name": "a", "@vectors": [1, 2]}],
            vs.ValidationError,
            ":1.@vectors: expected vectors",
        ),
        (
            "create",
            "concepts",
            [{"name": "a", **VECTORS}, {"name": "b", "@vectors": {"other": [1.0]}}],
            vs.ValidationError,
            ":2.@vectors: expected vectors by space, the same in every line",
        ),
        ("create", "concepts", [{"name": "a", **VECTORS}, {"name": "b"}], vs.ValidationError, ":2: has no @vectors"),
        ("create", "concepts", [{"name": "a"}, {"name": "b", **VECTORS}], vs.ValidationError, ":2.@vectors: expected"),
    ],
)
def test_a_file_that_cannot_be_work_is_refused_by_its_line(
    operation: Any, kind: str, lines: list[Any], error: type[Exception], message: str, store: vs.Store, tmp_path: Path
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(error, match=message):
        store.workflows.create_from_jsonl(kind, path, operation=operation)
    assert store.workflows.count() == 0


def test_a_long_batch_goes_out_whole_but_for_what_was_purged(store: vs.Store, tmp_path: Path) -> None:
    made = store.workflows.create("concepts", concepts(40, "x" * 3000))
    store.workflows.process(made.id)
    store.concepts.delete(["c3", "c4"])
    assert store.concepts.purge(["c3", "c4"], older_than=timedelta(0)) == 2
    assert store.workflows.to_jsonl(made.id, tmp_path / "out.jsonl") == 38
    found = [json.loads(line)["id"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found == [f"c{n}" for n in range(40) if n not in (3, 4)]


# -- stopping, and trying again ----------------------------------------------------------------------------------------


def test_cancelling_twice_is_cancelling_once(store: vs.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    small_chunks(monkeypatch, 10)
    made = store.workflows.create("analogies", analogies(30))
    leave_at(store, made.id, 10)
    assert store.workflows.cancel(made.id).stopping and store.workflows.cancel(made.id).stopping
    assert [line.note for line in store.workflows.log(made.id)].count("cancel") == 1
    clock.move(minutes=2)
    assert ended(store.workflows.cancel(made.id)) == ("cancelled", 10, 0, 10, 0)
    assert len(store.analogies) == 0


def test_what_is_half_taken_back_is_not_tried_again_but_taken_back_wholly(
    store: vs.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch, 10)
    made = store.workflows.create("analogies", analogies(30))
    store.workflows.process(made.id)

    def broken(done: int, of: int) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.workflows.rollback(made.id, progress=broken)
    assert ended(store.workflows.get(made.id)) == ("failed", 30, 0, 10, 0)
    with pytest.raises(vs.IllegalMove, match="half taken back: go on with rollback"):
        store.workflows.retry(made.id)
    assert ended(store.workflows.rollback(made.id)) == ("rolled_back", 30, 0, 30, 0) and len(store.analogies) == 0


def test_a_worker_that_is_stopped_from_its_own_thread_leaves_the_rest_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_chunks(monkeypatch, 10)
    run, workers = writes.Creation.run, list[Any]()

    def stopping(self: Any, items: Any) -> None:
        run(self, items)
        workers[0].stop()

    with opened(tmp_path / "kb") as store:
        monkeypatch.setattr(writes.Creation, "run", stopping)
        made = store.workflows.create("analogies", analogies(30))
        with store._sync.catalog.write():  # it cannot begin before it can be named
            workers.append(store.workflows.start(poll=0.01))
        workers[0]._thread.join(30)
        assert (store.workflows.get(made.id).status, len(store.analogies)) == ("processing", 10)
        monkeypatch.setattr(writes.Creation, "run", run)
        assert [ended(each) for each in store.workflows.process_all()] == [("completed", 30, 0, 0, 0)]
        assert len(store.analogies) == 30 and store.check().findings == ()


def test_a_strict_batch_whose_last_items_wait_in_vain_is_taken_back(store: vs.Store) -> None:
    store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}])
    made = store.workflows.create(
        "relations",
        [{"source": "a", "target": "b", "type": "t"}, {"source": "a", "target": "nobody", "type": "t"}],
    )
    done = store.workflows.process(made.id)
    assert done.status == "rolled_back" and done.error is not None and "nobody" in done.error
    assert len(store.relations) == 0 and store.workflows.errors(made.id).total == 1


def test_an_item_whose_content_was_purged_fails_when_it_is_tried_again(store: vs.Store) -> None:
    made = store.workflows.create("concepts", concepts(3), policy="lenient")
    store.workflows.process(made.id)
    store.concepts.delete("c1")
    store.concepts.purge("c1", older_than=timedelta(0))
    store.workflows.rollback(made.id)
    store.workflows.retry(made.id)
    assert ended(store.workflows.process(made.id))[:3] == ("completed", 3, 1)
    assert told(store, made.id) == [(1, "failed", "concepts[1]: its content was purged")]
    assert sorted(record.id for record in store.concepts) == ["c0", "c2"]


# -- taking it back ----------------------------------------------------------------------------------------------------


def test_a_deletion_of_what_has_gone_or_changed_deletes_nothing(store: vs.Store) -> None:
    store.concepts.add(concepts(3, domain="old"))
    made = store.workflows.delete("concepts", where={"domain": "old"})
    store.concepts.delete("c0")
    store.concepts.update([{"id": "c1", "domain": "new"}, {"id": "c2", "domain": "new"}])
    assert ended(store.workflows.process(made.id)) == ("completed", 3, 0, 0, 0)
    what = ["is deleted already", "does not match the filter any more", "does not match the filter any more"]
    assert (
        told(store, made.id) == [(n, "skipped", f"concepts[{n}]: 'c{n}' {why}") for n, why in enumerate(what)]
        and len(store.concepts) == 2
    )


def test_a_deletion_is_taken_back_as_far_as_nobody_did_something_else_since(store: vs.Store) -> None:
    store.concepts.add(concepts(3))
    made = store.workflows.delete("concepts", ["c0", "c1", "c2"])
    store.workflows.process(made.id)
    assert store.concepts.purge("c0", older_than=timedelta(0)) == 1
    store.concepts.restore(["c1", "c2"])
    store.concepts.update({"id": "c1", "definition": "mine"})
    store.concepts.delete("c2")
    assert ended(store.workflows.rollback(made.id)) == ("rolled_back", 3, 0, 1, 2)
    assert told(store, made.id) == [
        (0, "kept", "concepts[0]: was purged since"),
        (2, "kept", "concepts[2]: was deleted again since"),
    ]
    assert {record.id: record.definition for record in store.concepts} == {"c1": "mine"}


def test_contexts_that_somebody_changed_since_stay_when_a_batch_is_taken_back(store: vs.Store) -> None:
    made = store.workflows.create("concepts", [{"name": "a", "context": "mine"}, {"name": "b", "context": "theirs"}])
    store.workflows.process(made.id)
    store.contexts.update({"id": "theirs", "description": "theirs now"})
    assert ended(store.workflows.rollback(made.id)) == ("rolled_back", 2, 0, 2, 0)
    assert [(each.id, each.description) for each in store.contexts if each.id != "default"] == [
        ("theirs", "theirs now")
    ]


# -- embedding anew ----------------------------------------------------------------------------------------------------


def test_texts_that_were_never_embedded_become_vectors_and_none_again(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.concepts.add(concepts(3, "x"))
        before = state(store)
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False) as store:
        made = store.workflows.reembed("concepts")
        assert ended(store.workflows.process(made.id)) == ("completed", 3, 0, 0, 0)
        assert store.concepts.search("name 1: x 1", k=1)[0].id == "c1"
        assert ended(store.workflows.rollback(made.id)) == ("rolled_back", 3, 0, 3, 0)
        assert state(store) == before and store.check().findings == ()


def test_a_space_of_no_model_becomes_the_embedders(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.concepts.add(concepts(3, "x"), vectors=np.eye(3, 16))
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False) as store:
        made = store.workflows.reembed("concepts")
        store.workflows.process(made.id)
        assert store.concepts.search("name 1: x 1", k=1)[0].id == "c1"
        assert store.check().findings == ()
        ((model,),) = sql(tmp_path / "kb", "SELECT model FROM spaces WHERE name = 'concepts'")
        assert model is not None


def test_what_has_gone_meanwhile_is_not_embedded(store: vs.Store) -> None:
    store.concepts.add(concepts(2))
    before = store.concepts.vectors(["c0", "c1"])
    made = store.workflows.reembed("concepts")
    store.concepts.delete(["c0", "c1"])
    assert ended(store.workflows.process(made.id)) == ("completed", 2, 0, 0, 0)
    assert told(store, made.id) == [(n, "skipped", f"concepts[{n}]: 'c{n}' is deleted") for n in range(2)]
    store.concepts.restore(["c0", "c1"])
    assert np.array_equal(store.concepts.vectors(["c0", "c1"]), before)


def test_a_record_that_changes_while_it_is_embedded_is_embedded_as_it_is_then(tmp_path: Path) -> None:
    changes = [{"id": "c1", "definition": "changed"}]

    def embed(texts: Sequence[str]) -> np.ndarray:
        if len(texts) > 1 and changes and made:
            store.concepts.update(changes.pop())
        return np.array([[len(text), 1, "changed" in text, 0] for text in texts], dtype=np.float32)

    made: list[str] = []
    embedder = CallableEmbedder(embed, "by length", normalise=False)
    with vs.open(tmp_path / "kb", embedder=embedder, metric="ip", auto_publish=False) as store:
        store.concepts.add(concepts(3))
        made.append(store.workflows.reembed("concepts").id)
        assert ended(store.workflows.process(made[0])) == ("completed", 3, 0, 0, 0) and changes == []
        assert store.concepts.vectors(["c0", "c1", "c2"])[:, 2].tolist() == [0, 1, 0]
        assert store.check().findings == () and store.check().litter == ()


def test_a_newer_vector_stays_when_embedding_is_taken_back(store: vs.Store) -> None:
    store.concepts.add(concepts(2))
    made = store.workflows.reembed("concepts")
    store.workflows.process(made.id)
    store.concepts.update(concepts(2, "newer"))
    vectors = store.concepts.vectors(["c0", "c1"])
    assert ended(store.workflows.rollback(made.id)) == ("rolled_back", 2, 0, 0, 2)
    assert told(store, made.id) == [(n, "kept", f"concepts[{n}]: has another vector since, or none") for n in range(2)]
    assert np.array_equal(store.concepts.vectors(["c0", "c1"]), vectors)


# -- indexes and clusters ----------------------------------------------------------------------------------------------


def test_a_space_whose_vectors_have_gone_gets_no_index(store: vs.Store) -> None:
    store.concepts.add(concepts(2))
    store.concepts.delete(["c0", "c1"])
    made = store.workflows.reindex("concepts", LOW)
    assert ended(store.workflows.process(made.id)) == ("completed", 1, 0, 0, 0)
    assert told(store, made.id) == [(0, "skipped", "concepts: there are no vectors to index")]


def test_an_item_that_says_nothing_readable_fails_and_the_batch_says_why(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 5)
        made = store.workflows.reindex("concepts", LOW, policy="lenient")
        sql(tmp_path / "kb", "UPDATE workflow_items SET payload = '{torn'")
        assert ended(store.workflows.process(made.id)) == ("completed", 1, 1, 0, 0)
        ((_, status, reason),) = told(store, made.id)
        assert status == "failed" and str(reason).startswith("concepts[0]: is not JSON: ")


@pytest.mark.parametrize("times", [1, 4, 5])
def test_an_index_is_built_again_when_somebody_else_was_faster_but_not_for_ever(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(range(times))

    def faster(*args: Any, **named: Any) -> Any:
        if left:
            left.pop()
            raise vs.Superseded("concepts: a newer index was published meanwhile")
        return refresh(*args, **named)

    with opened(tmp_path / "kb") as store:
        fill(store, 50)
        monkeypatch.setattr("vectorstore.workflows.upkeep.refresh", faster)
        made = store.workflows.reindex("concepts", LOW)
        assert store.workflows.process(made.id).status == ("completed" if times < 5 else "rolled_back")
        assert (store.stats()["kinds"]["concepts"]["index"] is None) == (times == 5)
        if times == 5:
            ((_, status, reason),) = told(store, made.id)
            assert (status, reason) == ("failed", "concepts[0]: concepts: a newer index was published meanwhile")


def test_clusters_of_too_few_records_fail(store: vs.Store) -> None:
    made = store.workflows.cluster("concepts", n=3, policy="lenient")
    assert store.workflows.process(made.id).errors == 1 and len(store.clusters) == 0
    ((_, status, reason),) = told(store, made.id)
    assert status == "failed" and str(reason).startswith("concepts[0]: ")


@pytest.mark.parametrize("since", ["nothing", "none before", "fitted", "dropped"])
def test_a_fit_is_taken_back_unless_there_is_another_since(since: str, store: vs.Store) -> None:
    store.concepts.add(concepts(20))
    if since != "none before":
        store.clusters.fit("concepts", n=2, seed=1)
    before = sorted(record.id for record in store.clusters)
    made = store.workflows.cluster("concepts", n=3)
    assert ended(store.workflows.process(made.id)) == ("completed", 1, 0, 0, 0) and len(store.clusters) == 3
    if since == "fitted":
        store.clusters.fit("concepts", n=4)
    elif since == "dropped":
        store.clusters.drop("concepts")
    done = store.workflows.rollback(made.id)
    if since == "fitted":
        assert ended(done) == ("rolled_back", 1, 0, 0, 1) and len(store.clusters) == 4
        why = "concepts[0]: 'concepts' was fitted again since, to version 3"
        assert told(store, made.id) == [(0, "kept", why)]
    else:
        assert ended(done) == ("rolled_back", 1, 0, 1, 0)
        assert sorted(record.id for record in store.clusters) == ([] if since == "dropped" else before)


def test_a_fit_that_cannot_be_brought_back_is_left_and_told(store: vs.Store) -> None:
    store.concepts.add(concepts(20))
    first = store.clusters.fit("concepts", n=2, seed=1)
    made = store.workflows.cluster("concepts", n=3)
    store.workflows.process(made.id)
    with pytest.MonkeyPatch.context() as patch:
        gone = vs.NotFound(f"concepts: there is no version {first.version}")
        patch.setattr(type(store.clusters), "rollback", lambda *_, **__: (_ for _ in ()).throw(gone))
        assert ended(store.workflows.rollback(made.id)) == ("rolled_back", 1, 0, 0, 1)
    assert told(store, made.id) == [(0, "kept", f"concepts[0]: {gone}")] and len(store.clusters) == 3
