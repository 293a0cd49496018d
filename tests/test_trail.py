"""The trail tells every change and every refusal, and holds nothing that a purge must erase."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock
from trails import last, names, told, vectors

import vectorstore as vs
from vectorstore.storage import trail as chain

# -- what is told ------------------------------------------------------------------------------------------------------


def test_every_mutation_is_told_in_order_with_kind_ids_and_actor(place: Any, clock: Clock) -> None:
    with vs.open(place, embedder="hash:8", actor="ann", clock=clock, auto_publish=False) as store:
        begun, started = last(store), clock.now
        acts: list[tuple[Callable[[], object], list[tuple[str, str | None, tuple[str, ...]]]]] = [
            (
                lambda: store.concepts.add([{"id": f"c{n}", "name": f"n{n}"} for n in range(4)]),
                [("add", "concepts", names(0, 1, 2, 3))],
            ),
            (lambda: store.concepts.upsert({"id": "c0", "name": "other"}), [("upsert", "concepts", names(0))]),
            (lambda: store.concepts.update({"id": "c1", "domain": "d"}), [("update", "concepts", names(1))]),
            (lambda: store.concepts.delete(["c1", "c3"]), [("delete", "concepts", names(1, 3))]),
            (lambda: store.concepts.delete("nobody"), []),
            (lambda: store.concepts.restore("c3"), [("restore", "concepts", names(3))]),
            (lambda: store.concepts.purge("nobody"), []),
            (
                lambda: store.concepts.add({"id": "c9", "name": "n9", "context": "elsewhere"}),
                [("add", "contexts", ("elsewhere",)), ("add", "concepts", names(9))],
            ),
            (lambda: store.flush(), [("flush", "concepts", ())]),
            (lambda: store.concepts.upsert({"id": "c0", "name": "third"}), [("upsert", "concepts", names(0))]),
            (lambda: store.flush(), [("flush", "concepts", ())]),
            (lambda: store.rebuild("concepts", "exact"), [("publish", "concepts", ())]),
            (lambda: store.compact(), [("compact", "concepts", ())]),
            (lambda: store.concepts.audit_recall(k=1, sample=10), [("audit_recall", "concepts", ())]),
            (lambda: store.models.put("net", b"x"), [("put", None, ())]),
            (lambda: store.models.delete("net"), [("drop", None, ())]),
            (lambda: store.concepts.search("n0"), []),
            (lambda: store.check(), []),
        ]
        for act, expected in acts:
            before = last(store)
            act()
            assert told(store, before) == expected
        assert {each.actor for each in store.trail.stream()} == {"ann"}
        assert {each.at for each in store.trail.stream() if each.number > begun} == {started}
        assert [each.number for each in store.trail.stream()] == list(range(1, last(store) + 1))
        assert store.trail.verify().ok and store.check().findings == ()


def test_fits_are_told_with_what_they_change(store: vs.Store) -> None:
    store.concepts.add([{"id": f"c{n}", "name": f"n{n}"} for n in range(20)])
    before = last(store)
    store.clusters.fit(n=2)
    ids = tuple(sorted(store.clusters.find().records, key=lambda each: each.id))
    assert [(o, k) for o, k, _ in told(store, before)] == [("upsert", "clusters"), ("fit", "concepts")]
    assert set(told(store, before)[0][2]) == {each.id for each in ids}
    store.concepts.add({"id": "late", "name": "n3 late"})
    before = last(store)
    store.clusters.assign()
    store.clusters.refit(n=3)
    store.clusters.rollback(1)
    store.fields.discover(min_coherence=-1.0)
    store.clusters.drop("concepts")
    operations = [operation for operation, _, _ in told(store, before)]
    assert operations[0] == "assign" and {"fit", "rollback", "drop", "delete"} <= set(operations)
    assert told(store, before)[0] == ("assign", "concepts", ("late",))


def test_what_goes_along_is_told_too(store: vs.Store, clock: Clock) -> None:
    store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}])
    store.relations.add({"id": "r", "source": "a", "type": "hypernym", "target": "b"})
    before = last(store)
    store.concepts.delete("a")
    store.concepts.restore("a")
    expected = [("delete", "concepts", ("a",)), ("delete", "relations", ("r",))]
    expected += [("restore", "concepts", ("a",)), ("restore", "relations", ("r",))]
    assert told(store, before) == expected
    store.concepts.add({"id": "e", "name": "e", "expires_at": clock.now + timedelta(hours=1)})
    clock.move(hours=2)
    before = last(store)
    store.concepts.add({"id": "f", "name": "f"})
    assert told(store, before) == [("expire", "concepts", ("e",)), ("add", "concepts", ("f",))]


def test_entries_happen_with_their_transaction_or_not_at_all(store: vs.Store) -> None:
    before, anchor = last(store), store.trail.anchor()
    with pytest.raises(LookupError), store.transaction():
        store.concepts.add({"id": "a", "name": "a"})
        raise LookupError
    assert store.trail.anchor() == anchor
    with store.transaction():
        store.concepts.add({"id": "a", "name": "a"})
        with pytest.raises(vs.DuplicateId):
            store.concepts.add({"id": "a", "name": "a"})
        store.analogies.add({"id": "x", "a": "1"})
    assert told(store, before) == [("add", "concepts", ("a",)), ("add", "analogies", ("x",))]
    first, second = store.trail.list(limit=2)
    assert first.seq == second.seq == store.stats()["seq"]


def test_kinds_of_ones_own_and_what_is_recorded_by_nobody(place: Any) -> None:
    class Note(vs.Record, table="notes"):
        title: str

    with vs.open(place, embedder=None, kinds=[Note]) as store:
        store["notes"].add({"id": "n", "title": "x"})
        assert told(store)[-1] == ("add", "notes", ("n",)) and ("declare", "notes", ()) in told(store)
        before = last(store)
        with store._catalog.write():
            pass  # raises seq, and nothing else
        assert last(store) == before
        with store._catalog.write() as transaction:
            transaction.connection.execute("INSERT INTO erased_rows VALUES ('notes', 0)")
        assert told(store, before) == [("other", None, ())]


def test_a_near_duplicate_is_told_with_what_became_of_it(store: vs.Store) -> None:
    store.concepts.add({"id": "a", "name": "king"})
    before = last(store)
    store.concepts.add({"id": "b", "name": "king", "tags": ["x"]}, duplicates=vs.Duplicates(0.9, "merge"))
    assert told(store, before) == [("update", "concepts", ("a",))]
    before = last(store)
    store.concepts.add({"id": "b", "name": "king"}, duplicates=vs.Duplicates(0.9, "reject"))
    assert [operation for operation, _, _ in told(store, before)] == ["other"], "a decision was written"


def test_the_actor_comes_from_the_call_the_environment_or_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    import getpass

    def actor(**options: Any) -> str:
        with vs.open(":memory:", embedder=None, **options) as store:
            return store.trail.list(limit=1)[0].actor

    monkeypatch.delenv("VECTORSTORE_ACTOR", raising=False)
    assert actor() == getpass.getuser()
    monkeypatch.setenv("VECTORSTORE_ACTOR", "robot")
    assert actor() == "robot" and actor(actor="ann") == "ann"
    for bad in ("", "a\nb", "x" * 256, 5):
        with pytest.raises(vs.ValidationError, match="actor: expected 1..255"):
            actor(actor=bad)


def test_a_store_without_a_trail_and_a_reader_write_none(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, trail=False) as store:
        store.concepts.add({"name": "x"}, vectors=[[1.0]])
        with pytest.raises(vs.ValidationError):
            store.concepts.find(limit=0)
        assert store.trail.list() == [] and store.trail.verify().ok
    with vs.open(tmp_path / "kb", embedder=None, read_only=True) as store:
        with pytest.raises(vs.ValidationError):
            store.concepts.find(limit=0)
        assert store.trail.list() == []


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_refused_calls_are_told_without_what_was_refused(store: vs.Store) -> None:
    with pytest.raises(vs.ValidationError):
        store.concepts.find(limit=0)
    with pytest.raises(vs.ValidationError):
        store.concepts.add([{"name": "x"}, {"name": "y", "quality": "SECRET"}])
    with pytest.raises(vs.ValidationError):
        store.concepts.add({"name": "x", "extra": {"SECRET": float("nan")}})
    with pytest.raises(vs.WhereError):
        store.concepts.count({"SECRET": "SECRET"})
    with pytest.raises(vs.ValidationError):
        store.on("SECRET", print)  # type: ignore[arg-type]
    store.concepts.add({"id": "a", "name": "a"})
    found = store.trail.list(operation="violation")[::-1]

    assert [(each.kind, each.details["verb"], each.details["field"]) for each in found] == [
        ("concepts", "find", "limit"),
        ("concepts", "add", "concepts[1].quality"),
        ("concepts", "add", "concepts[0].extra"),
        ("concepts", "count", "concepts.where.*"),
        (None, "on", "event"),
    ]
    assert found[0].details["rule"] == "expected a whole number in 1..10000" and found[0].details["type"] == "int"
    assert "rule" not in found[1].details and found[1].details["error"] == "ValidationError"
    assert "SECRET" not in str([*store.trail.stream()])


def test_a_refusal_makes_no_commit_and_is_written_at_once_when_it_is_alone(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        seq = store.stats()["seq"]
        for _ in range(5):  # a second one within a second waits for the next occasion
            with pytest.raises(vs.ValidationError):
                store.concepts.find(limit=0)
        with sqlite3.connect(tmp_path / "kb" / "catalog.sqlite") as other:
            assert other.execute("SELECT count(*) FROM trail WHERE operation = 'violation'").fetchone() == (1,)
        other.close()
        assert store.stats()["seq"] == seq and len(store.trail._waiting) == 4
        store.concepts.add({"id": "a", "name": "a"}, vectors=[[1.0]])
        assert not store.trail._waiting
        found = [operation for operation, _, _ in told(store)][-6:]
        assert found == ["violation"] * 5 + ["add"]


def test_a_refusal_in_a_transaction_outlives_its_rollback(store: vs.Store) -> None:
    with pytest.raises(vs.ValidationError), store.transaction():
        store.concepts.add({"id": "a", "name": "a"})
        store.concepts.find(limit=0)
    assert [operation for operation, _, _ in told(store)][-1] == "violation" and len(store.concepts) == 0
    assert store.trail.verify().ok


def test_a_refusal_does_not_wait_for_another_writer(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store, vs.open(tmp_path / "kb", embedder=None) as other:
        with other.transaction():
            with pytest.raises(vs.ValidationError):
                store.concepts.find(limit=0)
            assert store.trail._waiting
        store.trail.flush()
        assert not store.trail._waiting and told(store)[-1][0] == "violation"


def test_refusals_that_wait_are_written_on_closing(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        for _ in range(3):
            with pytest.raises(vs.ValidationError):
                store.concepts.find(limit=0)
    with vs.open(tmp_path / "kb", embedder=None, read_only=True) as store:
        assert store.trail.list(operation="violation").total == 3


# -- erasure -----------------------------------------------------------------------------------------------------------


def bytes_of(path: Path) -> bytes:
    """All bytes of all files of a closed store, those of the trail unpacked."""
    found = [each.read_bytes() for each in sorted(path.rglob("*")) if each.is_file()]
    return b"".join([*found, *(gzip.decompress(data) for data in found if data[:2] == b"\x1f\x8b")])


@pytest.mark.parametrize("rotated", [False, True])
def test_what_was_purged_is_in_no_byte_of_the_trail(rotated: bool, tmp_path: Path) -> None:
    path, secret = tmp_path / "kb", "anna.schmidt@example.org"
    with vs.open(path, embedder=None, actor="clerk", auto_publish=False) as store:
        store.concepts.add([{"id": secret, "name": "S3CRET"}, {"id": "other", "name": "o"}], vectors=vectors(2))
        store.concepts.update({"id": secret, "domain": "x"})
        with pytest.raises(vs.ContractViolation):
            store.concepts.update({"id": secret, "quality": "S3CRET"})
        with pytest.raises(vs.ContractViolation):
            store.concepts.find({secret: "S3CRET"})
        store.concepts.delete(secret)
        assert [each.ids for each in store.trail.list(kind="concepts", id=secret)] == [(secret,)] * 2 + [
            (secret, "other")
        ]
        if rotated:
            store.trail.rotate()
        anchor = store.trail.anchor()
    assert secret.encode() in bytes_of(path)
    with vs.open(path, embedder=None, actor="clerk") as store:
        assert store.concepts.purge(secret) == 1
        assert store.trail.verify(anchor).ok
        purge = store.trail.list(operation="purge")[0]
        assert (purge.count, purge.ids) == (1, ()), "that one was erased, not which"
        assert [each.ids for each in store.trail.stream() if each.kind == "concepts"][:3] == [("other",), (), ()]
        assert store.trail.list(kind="concepts", id=secret) == []
    found = bytes_of(path)
    assert secret.encode() not in found and b"S3CRET" not in found and b"other" in found


def test_a_row_number_is_never_given_to_another_record(store: vs.Store) -> None:
    store.concepts.add([{"id": f"c{n}", "name": f"n{n}"} for n in range(3)])
    store.concepts.delete(["c1", "c2"])
    store.concepts.purge()
    store.concepts.purge(["c1", "c2"])
    store.concepts.add({"id": "new", "name": "new"})
    ours = {"add", "delete", "purge"}
    found = [ids for operation, kind, ids in told(store) if kind == "concepts" and operation in ours]
    assert found == [("c0",), (), (), ("new",)]
    store.concepts.delete(where={"version__gte": 1})
    store.concepts.purge(older_than=timedelta(0))
    store.concepts.add({"id": "newer", "name": "newer"})
    assert told(store)[-1] == ("add", "concepts", ("newer",)) and told(store)[-3][2] == ()


# -- looking at it -----------------------------------------------------------------------------------------------------


def test_pages_of_entries_visit_each_once_and_filters_equal_brute_force(store: vs.Store, clock: Clock) -> None:
    for number in range(40):
        clock.move(minutes=1)
        store.concepts.upsert({"id": f"c{number % 7}", "name": f"n{number % 7}"})
        if number % 5 == 0:
            store.concepts.delete(f"c{number % 7}")
    every = [*store.trail.stream()][::-1]
    since = clock.now - timedelta(minutes=10)
    for filters, wanted in (
        ({}, every),
        ({"operation": "delete"}, [each for each in every if each.operation == "delete"]),
        ({"kind": "concepts"}, [each for each in every if each.kind == "concepts"]),
        ({"kind": "concepts", "id": "c3"}, [each for each in every if "c3" in each.ids]),
        ({"since": since}, [each for each in every if each.at >= since]),
        ({"actor": "nobody"}, []),
    ):
        for limit in (1, 3, 1000):
            found, after = [], None
            while True:
                page = store.trail.list(**filters, limit=limit, after=after)  # type: ignore[arg-type]
                assert page.total == len(wanted)
                found += page
                after = page.next
                if after is None:
                    break
            assert found == wanted
    with pytest.raises(vs.ValidationError, match="kind: is required"):
        store.trail.list(id="c3")


def test_ids_of_big_entries_are_all_there(store: vs.Store) -> None:
    ids = [f"c{n}" for n in range(1500)]
    store.concepts.add([{"id": name, "name": name} for name in ids])
    entry = store.trail.list(limit=1)[0]
    assert entry.count == 1500 and list(entry.ids) == ids[:1000]
    assert list(store.trail.ids(entry.number)) == ids
    with pytest.raises(vs.ValidationError, match="number: expected"):
        store.trail.ids(10_000)


@pytest.mark.parametrize("rows", [[], [1], [1, 2, 3], [1, 3, 4, 9], [9, 1, 1, 2], [5, 10**12], range(1, 20_001)])
def test_ranges_are_inverse(rows: Any) -> None:
    text = chain.as_ranges(rows)
    assert [row for part in chain.from_ranges(text) for row in part] == sorted(set(rows))
