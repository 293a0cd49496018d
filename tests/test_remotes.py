"""An engine outside answers searches: the quick proofs, on the engine in a folder. tests/scale has the real server."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar
from unittest import mock

import numpy as np
import pytest

import vectorstore as vs
from tests import forked
from tests.feeding_child import STEPS
from tests.feeding_suite import DIM, FeedingSuite, concepts, engine_of, same, vectors
from tests.moving import there_and_back
from tests.remote_oracle import FedStoreAgainstModel
from tests.test_oracle import run
from vectorstore.engines import Rows, address_of, connect, marks_of
from vectorstore.engines.faiss import Flat, compiled
from vectorstore.http.observing import StoreCollector
from vectorstore.vectors import Vids


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Few rows meet batches, filters and the engine's own filters."""
    with (
        mock.patch("vectorstore.sync.feeding.BATCH", 40),
        mock.patch("vectorstore.vectors.allowed.EXACT_FILTER_NUMBERS", 4),
    ):
        yield


def opened(tmp_path: Path, **options: Any) -> vs.Store:
    options = {
        "embedder": None,
        "auto_publish": False,
        "index": {"concepts": f"faiss:{tmp_path / 'engine'}"},
        **options,
    }
    return vs.open(tmp_path / "kb", **options)


def filled(tmp_path: Path, count: int = 120, **options: Any) -> vs.Store:
    store = opened(tmp_path, **options)
    store.concepts.add(concepts(range(count)), vectors=vectors(range(count)))
    assert store.remotes.sync(60)
    return store


# -- filters -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_said_is_looked_up(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        assert same(store, {"quality__gte": 0.2}) == {"engine + filter"}
        assert same(store, {"domain": "x" * 1500}) <= {"engine + filter", "filtered exact"}
        assert same(store, {"domain__contains": "h"}) <= {"engine + filter", "filtered exact"}
        assert same(store, {"id__in": ["c1", "c2"]}) <= {"engine + filter", "filtered exact"}
        assert same(store) == {"engine"}


def test_an_expression_that_is_none_of_ours_is_refused() -> None:
    for text in ("vid >", "vid >= 0 )", "f_a == 'x'", "vid ~ 3"):
        with pytest.raises((ValueError, KeyError, IndexError)):
            compiled(text)


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(600)
def test_a_store_with_an_engine_answers_as_brute_force_over_a_dict_would() -> None:
    FedStoreAgainstModel.plans.clear()
    run(FedStoreAgainstModel, examples=5, steps=30)
    assert {"engine", "engine + filter", "exact"} <= FedStoreAgainstModel.plans


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_store_with_an_engine_answers_as_brute_force_over_a_dict_would_for_long() -> None:
    run(FedStoreAgainstModel, examples=150, steps=60)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_what_is_written_is_found_before_the_engine_is_told(tmp_path: Path, metric: str) -> None:
    with filled(tmp_path, metric=metric) as store:
        store.concepts.upsert(concepts(range(10, 14)), vectors=vectors(range(10, 14), seed=5))
        store.concepts.add(concepts(range(200, 203)), vectors=vectors(range(200, 203), seed=6))
        store.concepts.update([{"id": "c20", "quality": 0.99}])
        store.concepts.delete([f"c{n}" for n in range(50, 60)])
        (status,) = store.remotes.status()
        assert status.waiting == 4 + 4 + 3 + 1 + 10  # four old vectors, four new ones
        assert same(store) == same(store, seed=9) == {"engine"}
        assert "c20" in {hit.id for hit in store.concepts.search(np.ones(DIM), 120, {"quality__gt": 0.98})}
        assert store.remotes.sync(60)
        assert same(store) == {"engine"}
        assert "c20" in {hit.id for hit in store.concepts.search(np.ones(DIM), 120, {"quality__gt": 0.98})}
        assert store.check().findings == ()


def test_a_reader_of_an_older_commit_misses_nothing_that_the_engine_forgets_meanwhile(tmp_path: Path) -> None:
    """While the engine answers, records are replaced and it is told: the reader still sees its own commit whole."""
    with filled(tmp_path) as store, opened(tmp_path) as writer:
        query = np.ones(DIM, np.float32)
        before = [hit.id for hit in store.concepts.search(query, 10)]
        real, done = Flat.search, []

        def slow(self: Flat, *args: Any, **options: Any) -> list[Vids]:
            if not done:
                done.append(True)
                work = threading.Thread(target=change)
                work.start()
                work.join()
            return real(self, *args, **options)

        def change() -> None:
            writer.concepts.upsert(
                [{"id": name, "name": name} for name in before[:6]], vectors=-np.ones((6, DIM), np.float32)
            )
            assert writer.remotes.sync(60)

        with mock.patch.object(Flat, "search", slow):
            hits = store.concepts.search(query, 10)
        assert done and [hit.id for hit in hits] == before and hits.plan.name == "engine"
        assert not {hit.id for hit in store.concepts.search(query, 10)} & set(before[:6])


def test_a_transaction_sees_its_own_changes_through_the_engine(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        with pytest.raises(LookupError), store.transaction():
            store.concepts.upsert(concepts(range(5)), vectors=vectors(range(5), seed=8))
            store.concepts.delete(["c7"])
            assert same(store) == {"engine"}
            raise LookupError
        assert same(store) == {"engine"} and store.remotes.status()[0].waiting == 0


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_an_applier_killed_at_any_step_loses_nothing(tmp_path: Path, step: str) -> None:
    address = f"faiss:{tmp_path / 'engine'}"
    with filled(tmp_path) as store:
        store.concepts.upsert(concepts(range(30)), vectors=vectors(range(30), seed=5))
        store.concepts.delete([f"c{n}" for n in range(60, 90)])
        store.concepts.restore([f"c{n}" for n in range(60, 70)])
        store.concepts.update([{"id": f"c{n}", "domain": "moved"} for n in range(30, 50)])
    code = "import sys; from tests.feeding_child import main; main(*sys.argv[1:], 1)"
    done = forked.python(code, str(tmp_path / "kb"), address, step)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with opened(tmp_path) as store:
        same(store)
        same(store, {"domain": "moved"})
    with opened(tmp_path) as store:
        assert store.remotes.sync(60)
        assert store.check().findings == ()
        assert same(store) == {"engine"} and same(store, {"domain__ne": "moved"}) == {"engine + filter"}


class TestFolder(FeedingSuite):
    """What must be true of every engine when things die."""

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return f"faiss:{tmp_path / 'engine'}"


def test_an_engine_that_has_too_few_rows_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a server does for some seconds whose node came back, and which has not loaded everything yet."""
    with filled(tmp_path) as store, mock.patch("vectorstore.sync.remotes.RETRY", 0.05):
        assert same(store) == {"engine"}
        engine, row = engine_of(store)
        held = engine.snapshot(1, 60)
        engine.remove(held.vids.tolist())
        with opened(tmp_path) as other:
            assert same(other) == {"exact"}  # who asks for the first time counts at once
        with mock.patch("vectorstore.sync.remotes.COUNTED", 0.0):
            store._sync.engines._counted.clear()  # type: ignore[union-attr]  # a second later
            assert same(store) == {"exact"} and same(store, {"quality__gte": 0.2}) == {"filtered exact"}
            assert caplog.text.count("has only 61 of at least 120 rows") == 2  # once in each process
            hits = store.concepts.search(np.ones(DIM), 3)
            assert hits.exact and "has only 61 of at least 120 rows" in hits.plan.reason
            assert "61 of at least" in str(store.health().checks["engines"])
            engine.add(held, row.applied or 0)
            threading.Event().wait(0.1)
            assert same(store) == {"engine"} and store.health().ok
            store.concepts.add(concepts(range(300, 305)), vectors=vectors(range(300, 305)))
            store.concepts.delete(["c1", "c2"])
            assert same(store) == {"engine"}  # what it has not been told is not missed


def test_an_engine_that_lost_its_data_is_fed_anew_by_the_process_that_finds_out(tmp_path: Path) -> None:
    """Nothing waits to be sent and the store stays open: what a search could not have, the applier looks after."""
    with filled(tmp_path) as store:
        shutil.rmtree(tmp_path / "engine")
        assert store.remotes.sync(60), "asked for, the collection is looked at, and nobody searched"
        assert same(store) == {"engine"} and store.check().findings == ()
    with opened(tmp_path, auto_publish=True) as store:
        assert same(store) == {"engine"}
        shutil.rmtree(tmp_path / "engine")
        assert same(store) == {"exact"}
        pause, plans = threading.Event(), set()
        for _ in range(200):
            plans = same(store)
            if plans == {"engine"}:
                break
            pause.wait(0.05)
        assert plans == {"engine"} and store.check().findings == ()


def test_while_the_engine_is_down_answers_are_exact_or_an_error_that_says_so(tmp_path: Path) -> None:
    down = vs.EngineDown("nobody is there")
    with filled(tmp_path) as store, mock.patch("vectorstore.sync.remotes.RETRY", 0.0):
        with mock.patch.object(Flat, "search", side_effect=down):
            hits = store.concepts.search(np.ones(DIM), 3)
            assert hits.exact and "nobody is there" in hits.plan.reason
            assert store.concepts.search_many(np.ones((2, DIM)), 3)[1].exact
            with mock.patch("vectorstore.vectors.fed.EXACT_NUMBERS", 5), pytest.raises(vs.EngineDown, match="nobody"):
                store.concepts.search(np.ones(DIM), 3)
        assert same(store) == {"engine"}
        store.concepts.add(concepts(range(400, 401)), vectors=vectors(range(400, 401)))
        with mock.patch.object(Flat, "add", side_effect=down):
            with pytest.raises(vs.EngineDown):
                store.remotes.sync(0.1)
            assert store.remotes.status()[0].problem == "nobody is there"
            assert "nobody is there" in str(store.health().checks["engines"])
        assert store.remotes.sync(60) and store.remotes.status()[0].problem is None and store.health().ok


# -- a life ------------------------------------------------------------------------------------------------------------


def test_a_thread_feeds_what_any_process_writes_and_closing_ends_it(tmp_path: Path) -> None:
    with filled(tmp_path, auto_publish=True) as store, vs.open(tmp_path / "kb", embedder=None) as plain:
        assert plain.concepts.search(np.ones(DIM), 3).exact  # opened without index=, it scans, or has its own index
        plain.concepts.add(concepts(range(500, 510)), vectors=vectors(range(500, 510)))  # and its writes are fed too
        pause = threading.Event()
        for _ in range(200):
            if store.remotes.status()[0].waiting == 0:
                break
            pause.wait(0.05)
        assert store.remotes.status()[0].waiting == 0
        assert same(store) == {"engine"} and store.check().findings == ()
    assert not [thread for thread in threading.enumerate() if thread.name == "vectorstore-feeding"]


def test_two_appliers_take_turns(tmp_path: Path) -> None:
    with filled(tmp_path) as store, opened(tmp_path) as other:
        store._sync.engines.lock.acquire()  # type: ignore[union-attr]
        try:
            store.concepts.add(concepts(range(500, 510)), vectors=vectors(range(500, 510)))
            assert other.remotes._fed().feed() is None and other.remotes.sync(0.1) is False
        finally:
            store._sync.engines.lock.release()  # type: ignore[union-attr]
        assert other.remotes.sync(60) and same(store) == same(other) == {"engine"}


def test_a_space_is_fed_anew_while_it_is_searched(tmp_path: Path) -> None:
    with filled(tmp_path) as store, opened(tmp_path) as other:
        former = store.remotes.status()[0].collection
        store.remotes.renew("concepts")
        assert [each.status for each in store.remotes.status()] == ["current", "filling"]
        feeder = store.remotes._fed()
        while feeder.feed():
            assert same(store) == same(other) == {"engine"}
        (status,) = store.remotes.status()
        assert status.collection != former and not (tmp_path / "engine" / f"{former}.npz").exists()
        assert store.check().findings == ()


def test_leaving_the_engine_needs_no_pause(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        store.publish("concepts")
        assert same(store) == {"engine"}
        store.remotes.drop("concepts")
        assert store.remotes.status() == [] and not list((tmp_path / "engine").glob("*.npz"))
        assert same(store) <= {"index", "exact"}
        with store._catalog.read() as connection:
            assert not connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        with pytest.raises(vs.NotFound):
            store.remotes.renew("concepts")
    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert store.check().findings == ()


def test_small_spaces_need_no_engine_unless_their_kind_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, index=f"faiss:{tmp_path / 'engine'}") as store:
        store.concepts.add(concepts(range(20)), vectors=vectors(range(20)))
        assert store.remotes.sync(60) and store.remotes.status() == []
        with mock.patch("vectorstore.sync.feeding.PUBLISH_ROWS", 20):
            assert store.remotes.sync(60) and [each.kind for each in store.remotes.status()] == ["concepts"]


def test_statistics_tell_the_lag(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        store.concepts.add(concepts(range(500, 510)), vectors=vectors(range(500, 510)))
        (told,) = store.stats()["kinds"]["concepts"]["remotes"]
        assert told["waiting"] == 10 and 0 <= told["lag"] < 60 and told["status"] == "current"
        figures = {family.name: family.samples for family in StoreCollector(store).collect()}
        (waiting,) = figures["vectorstore_engine_waiting"]
        assert waiting.value == 10 and waiting.labels["collection"] == told["collection"]
        assert figures["vectorstore_engine_lag_seconds"][0].value >= 0
        with mock.patch("vectorstore.sync.health.LATE", -1.0):
            assert "have waited" in str(store.health().checks["engines"])
    with vs.open(
        tmp_path / "kb", embedder=None, read_only=True, index={"concepts": f"faiss:{tmp_path / 'engine'}"}
    ) as store:
        assert same(store) == {"engine"} and store.remotes.status()[0].waiting == 10
        with pytest.raises(vs.ValidationError, match="opened for writing"):
            store.remotes.sync()


def test_a_backup_and_a_past_of_a_fed_store_are_whole(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        store.snapshots.add("then")
        store.concepts.delete(["c1"])
        store.backup(tmp_path / "backups")
        with store.as_of("then") as past:
            assert past.concepts.get("c1") is not None and past.concepts.search(np.ones(DIM), 3).exact
        assert store.remotes.sync(60) and store.check().findings == ()
    vs.restore(tmp_path / "backups", tmp_path / "again")
    with vs.open(tmp_path / "again", embedder=None) as store:
        assert store.check().findings == () and len(store.concepts) == 119


def test_opening_without_an_engine_loads_none_and_feeds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, threading, vectorstore as vs\n"
        f"store = vs.open({str(tmp_path / 'kb')!r}, embedder=None)\n"
        "store.concepts.add([{'name': 'x'}], vectors=[[1.0, 2.0]])\n"
        "assert not {'pymilvus', 'grpc', 'vectorstore.engines.milvus'} & set(sys.modules)\n"
        "assert threading.active_count() == 1 and store._sync.engines is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    "text",
    [
        *("", "milvus", "milvus://", "http://x:1", "faiss:", "milvus://h:x", "milvus://h?colour=red", "milvus://h?M=0"),
        *("milvus://h?timeout=-1", "milvus://h?index=LSH"),
    ],
)
def test_an_address_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(vs.ValidationError, match="index"):
        address_of(text)


def test_a_kind_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(vs.ValidationError, match="no kind 'nothing'"):
        opened(tmp_path, index={"nothing": None})


def test_an_engine_is_never_told_what_is_not_committed(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        for verb in (store.remotes.sync, lambda: store.remotes.drop("concepts")):
            with pytest.raises(vs.ConflictError), store.transaction():
                store.concepts.delete(["c1"])
                verb()
        assert store.check().findings == () and "c1" in store.concepts


def test_an_address_keeps_its_password_out_of_the_catalog() -> None:
    address = address_of("milvus://me:secret@host/db?shards=2&tls=1")
    assert address.name == "milvus://host:19530/db" and "secret" not in repr(address)
    assert address_of("milvus://m%40e:s%2Fe%3A%20t@host").options["token"] == "m@e:s/e: t"
    assert address.options["token"] == "me:secret" and connect(address, "c", 4, "l2", ()).caps.most == 16_384


def test_a_mark_tells_rows_apart() -> None:
    one = np.ones((1, 3), np.float32)
    marks = [
        marks_of([1], one, [("a", None)])[0],
        marks_of([2], one, [("a", None)])[0],
        marks_of([1], one * np.float32(1.0000001), [("a", None)])[0],
        marks_of([1], one, [("a", 0)])[0],
        marks_of([1], one, [("a", None)])[0],
    ]
    assert len(set(marks[:4])) == 4 and marks[4] == marks[0] and min(marks) >= 0


def test_a_store_moves_there_and_back_while_it_is_written(tmp_path: Path) -> None:
    plans = there_and_back(tmp_path, f"faiss:{tmp_path / 'engine'}", rows=400)
    assert plans["engine"] > 20 and plans["index"] > 20


def test_a_row_that_the_engine_spoils_under_its_right_mark_is_found(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        engine, _ = engine_of(store)
        held = engine.snapshot(1, 1_000)
        spoiled = held.vectors.copy()
        spoiled[7] = spoiled[8]
        fields = [*held.values]
        fields[9] = (*fields[9][:-1], 0.123)
        stamp = engine.versions(0, 1)[0]
        engine.add(Rows(held.vids, spoiled, held.marks, fields), stamp)
        (finding,) = store.check().findings
        assert str(finding.what) == "2 rows are different: vids [8, 10]"
        assert store.repair(dry_run=False).remaining == () and store.check().findings == ()


def test_what_is_purged_is_gone_there_and_a_restored_backup_is_not_mistaken(tmp_path: Path) -> None:
    with filled(tmp_path) as store:
        store.backup(tmp_path / "backups")
        engine, _ = engine_of(store)
        store.concepts.delete(["c3", "c4"])
        store.concepts.purge(["c3", "c4"])
        store.compact()
        assert store.remotes.sync(60) and engine.count() == 118 and same(store) == {"engine"}
        assert store.check().findings == ()
    shutil.rmtree(tmp_path / "kb")
    vs.restore(tmp_path / "backups", tmp_path / "kb")
    with opened(tmp_path) as store:
        assert same(store) == {"exact"} and len(store.concepts) == 120
        assert store.remotes.sync(60) and same(store) == {"engine"} and store.check().findings == ()


class Note(vs.Record):
    table: ClassVar[str] = "notes"
    title: str


class ShadedNote(Note):
    shade: Annotated[str | None, vs.INDEXED] = "red"


def test_a_field_that_is_new_is_looked_up_until_the_collection_is_renewed(tmp_path: Path) -> None:
    index = {"notes": f"faiss:{tmp_path / 'engine'}"}
    how: dict[str, Any] = {"embedder": None, "auto_publish": False, "index": index}
    with vs.open(tmp_path / "kb", kinds=[Note], **how) as store:
        store["notes"].add([{"title": f"n{n}"} for n in range(60)], vectors=vectors(range(60)))
        assert store.remotes.sync(60)
    with vs.open(tmp_path / "kb", kinds=[ShadedNote], **how) as store:
        store["notes"].add([{"title": "blue", "shade": "blue"}], vectors=vectors(range(1), seed=4))
        assert store.remotes.sync(60)
        query, asked = (
            vectors(range(1), seed=9)[0],
            mock.patch.object(Flat, "search", autospec=True, side_effect=Flat.search),
        )
        for text in (False, True):
            with asked as search:
                hits = store["notes"].search(query, 60, {"shade__ne": "blue"})
                assert len(hits) == 60 and hits.plan.name == "engine + filter"
            where = str(search.call_args_list[0].args[4] if len(search.call_args_list[0].args) > 4 else "")
            assert ("f_shade" in where) is text, where
            store.remotes.renew("notes")
            assert store.remotes.sync(60)


def test_an_engine_is_measured_by_what_it_has_been_told(tmp_path: Path) -> None:
    """However much is written while it is measured, it is not found wanting for that."""
    with opened(tmp_path) as store, vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as writer:
        store.concepts.add(concepts(range(200)), vectors=vectors(range(200)))
        real, written = Flat.settle, []

        def settle(self: Flat, timeout: float) -> None:
            writer.concepts.upsert(concepts(range(100, 300)), vectors=vectors(range(100, 300), seed=len(written) + 5))
            writer.concepts.delete([f"c{n}" for n in range(20)])
            written.append(True)
            real(self, timeout)

        feeder = store.remotes._fed()
        with mock.patch.object(Flat, "settle", settle):
            while not [each for each in store.remotes.status() if each.status == "current"]:
                feeder.feed()
        assert written and store.remotes.status()[0].waiting > 200
        assert same(store) == {"engine"} and same(store, {"quality__gte": 0.2}) == {"engine + filter"}
        assert store.remotes.sync(60) and same(store) == {"engine"} and store.check().findings == ()
