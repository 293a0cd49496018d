"""Expiry: gone from every read and search at the instant, without a write; free ids; purged by policy."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Clock, brute_force, clustered, order_of, queries_like
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vectorstore as vs

HOUR = timedelta(hours=1)


class Ticket(vs.Record, table="tickets", spaces=("photo",)):
    """A kind with a unique value and a second vector space."""

    seat: Annotated[str, vs.UNIQUE] = ""
    text: Annotated[str, vs.EMBEDDED] = ""


def seen(store: vs.Store) -> dict[str, set[str]]:
    """What every way of looking finds."""
    concepts = store.concepts
    ids = [f"c{n}" for n in range(8)]
    vector = np.ones(64, dtype=np.float32)
    found = {
        "get": {name for name in ids if concepts.get(name) is not None},
        "get_many": {record.id for record in concepts.get_many(ids)},
        "in": {name for name in ids if name in concepts},
        "find": {record.id for record in concepts.find()},
        "find filtered": {record.id for record in concepts.find({"domain": "d"}, order="-name")},
        "find by tag": {record.id for record in concepts.find({"tags__has": "t"})},
        "stream": {record.id for record in concepts.stream(batch_size=3)},
        "exact": set(concepts.search(vector, k=20, exact=True).ids),
        "filtered": set(concepts.search(vector, k=20, where={"domain": "d"}).ids),
        "batch": set(concepts.search_many(np.stack([vector, vector]), k=20)[1].ids),
        "batch filtered": set(concepts.search_many(np.stack([vector, vector]), k=20, where={"tags__has": "t"})[1].ids),
        "text": set(concepts.search("king", k=20, mode="text").ids),
        "hybrid": set(concepts.search("king", k=20, mode="hybrid").ids),
        "decay": set(concepts.search("king", k=20, decay=vs.Decay(tau=timedelta(1))).ids),
        "centred": set(concepts.search("king", k=20, center="pos").ids),
        "mmr": set(concepts.search("king", k=20, mmr=0.5).ids),
        "several kinds": set(store.search("king", k=20).ids),
        "range": {hit.id for hit in concepts.search_range(vector, -2)},
        "pairs": {record.id for pair in concepts.duplicates(-2) for record in (pair.first, pair.second)},
        "facets": {name for name, count in concepts.facets("name").items() if count},
        "facets of a text": set(concepts.facets("name", query="king")),
    }
    names = {f"king {n}": f"c{n}" for n in range(8)}
    for facet in ("facets", "facets of a text"):
        found[facet] = {names[name] for name in found[facet]}
    assert concepts.count() == len(concepts) == concepts.find(limit=1).total == len(found["find"])
    assert store.stats()["kinds"]["concepts"]["records"] == len(found["find"])
    assert store.stats()["kinds"]["concepts"]["vectors"] == len(found["find"])
    assert store.stats()["kinds"]["concepts"]["contexts"].get("default", 0) == len(found["find"])
    return found


def expect(store: vs.Store, names: set[str]) -> None:
    assert seen(store) == dict.fromkeys(seen(store), names)


def kings(store: vs.Store, clock: Clock) -> None:
    """c0 .. c7; the even ones expire after 1, 2, 3 and 4 hours."""
    store.concepts.add(
        [
            {
                "id": f"c{n}",
                "name": f"king {n}",
                "domain": "d",
                "tags": ["t"],
                "expires_at": None if n % 2 else clock.now + (n // 2 + 1) * HOUR,
            }
            for n in range(8)
        ]
    )


def test_expired_records_are_gone_at_the_instant_without_a_write(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    everything = {f"c{n}" for n in range(8)}
    expect(store, everything)
    seq = store.stats()["seq"]
    for hours, gone in enumerate([{"c0"}, {"c0", "c2"}, {"c0", "c2", "c4"}, {"c0", "c2", "c4", "c6"}], 1):
        clock.move(seconds=3599.999999)
        expect(store, everything - {name for name in gone if name != f"c{2 * hours - 2}"})
        clock.move(seconds=0.000001)
        expect(store, everything - gone)
    clock.move(hours=-2)  # a clock that is set back shows what it then is
    expect(store, everything - {"c0", "c2"})
    assert store.stats()["seq"] == seq
    assert store.stats()["kinds"]["concepts"]["deleted"] == 2


def test_other_reads_leave_them_out(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    clock.move(hours=1)
    for call in (
        lambda: store.concepts.search(vs.Id("c0")),
        lambda: store.concepts.vectors(["c0"]),
        lambda: store.concepts.vector_info("c0"),
        lambda: store.concepts.get_many(["c0"], missing="raise"),
        lambda: store.concepts.update({"id": "c0", "domain": "x"}),
    ):
        with pytest.raises(vs.NotFound, match="c0"):
            call()
    assert store.concepts.delete("c0") == 0 and store.concepts.delete(where={"name": "king 0"}, dry_run=True) == 0
    assert store.context_info("default")["records"]["concepts"] == 7
    pages = list(
        itertools.chain(
            store.concepts.find(limit=3), store.concepts.find(limit=4, after=store.concepts.find(limit=3).next)
        )
    )
    assert [record.id for record in pages] == [f"c{n}" for n in range(1, 8)]


def test_a_filter_used_before_and_after_gives_what_is_there(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    """The positions that a filter allows are kept between searches; expiry must reach them too."""
    data = clustered(2000, 8)
    store = open_store()
    ends = [clock.now + (place % 5) * HOUR if place % 5 else None for place in range(2000)]
    store.concepts.add(
        [{"id": f"c{p}", "name": "x", "domain": f"d{p % 2}", "expires_at": ends[p]} for p in range(2000)], vectors=data
    )
    store.rebuild("concepts", vs.IndexRecipe("t", "LSH64rt", ({"candidates": 400},), min_recall=0))
    for _ in range(6):
        alive = np.array([p for p in range(2000) if ends[p] is None or ends[p] > clock.now])  # type: ignore[operator]
        for query in queries_like(data, 4, seed=1):
            for where, among in (({"domain": "d1"}, alive[alive % 2 == 1]), (None, alive)):
                truth = [
                    f"c{among[place]}" for place in order_of(brute_force(query[None], data[among], "cosine")[0], 10)
                ]
                assert store.concepts.search(query, where=where, exact=True).ids == truth
                hits = store.concepts.search(query, k=900, where=where, recall=0.5)
                assert len(hits) == min(900, len(among)) and {int(name[1:]) for name in hits.ids} <= set(among.tolist())
        clock.move(hours=1)
    assert store.check().findings == ()


def test_expired_inside_a_transaction(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    clock.move(hours=2)
    with store.transaction():
        store.concepts.add({"id": "c9", "name": "king 9", "expires_at": clock.now})
        assert sorted(store.concepts.search("king", k=20).ids) == ["c1", "c3", "c4", "c5", "c6", "c7"]
        assert store.concepts.count() == 6 and store.concepts.get("c9") is None
        clock.move(hours=5)
        assert "c6" in store.concepts, "a transaction has one instant"
    assert "c6" not in store.concepts


# -- what writes do ----------------------------------------------------------------------------------------------------


def test_an_expired_id_is_free(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    first = store.concepts.get("c0")
    with pytest.raises(vs.DuplicateId):
        store.concepts.add({"id": "c0", "name": "pawn"})
    clock.move(hours=1)
    store.concepts.add({"id": "c0", "name": "pawn"})
    again = store.concepts.get("c0")
    assert again.name == "pawn" and again.expires_at is None and again.domain is None
    assert again.created_at == clock.now and again.version > first.version
    assert store.concepts.search("pawn", k=1).ids == ["c0"]
    assert store.concepts.search("king 0", mode="text", where={"id": "c0"}).ids == []


@pytest.mark.parametrize("name", ["king 0", "another king"])
def test_an_upsert_that_extends_brings_it_back(store: vs.Store, clock: Clock, name: str) -> None:
    kings(store, clock)
    clock.move(hours=1)
    store.concepts.upsert({"id": "c0", "name": name, "expires_at": clock.now + HOUR})
    assert store.concepts.search(name, k=1).ids == ["c0"] and "c0" in store.concepts
    clock.move(hours=1)
    assert "c0" not in store.concepts and "c0" not in store.concepts.search(name, k=20).ids


def test_an_update_moves_the_end_either_way(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    store.concepts.update([{"id": "c0", "expires_at": None}, {"id": "c1", "expires_at": clock.now}])
    assert "c0" in store.concepts and "c1" not in store.concepts
    clock.move(hours=1)
    assert "c0" in store.concepts.search("king 0", k=20).ids
    store.concepts.update({"id": "c2", "expires_at": clock.now + 10 * HOUR})
    clock.move(hours=9)
    assert "c2" in store.concepts.search("king 2", k=20).ids


def test_a_second_space_does_not_outlive_its_record(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    store = open_store(kinds=[Ticket])
    tickets = store.collection(Ticket)
    both = {"text": np.ones((1, 4)), "photo": np.ones((1, 4))}
    tickets.add({"id": "t", "seat": "1a", "expires_at": clock.now + HOUR}, vectors=both)
    assert tickets.search(np.ones(4), space="photo").ids == ["t"]
    clock.move(hours=1)
    assert tickets.search(np.ones(4), space="photo").ids == []
    tickets.add({"id": "t", "seat": "1a"}, vectors=np.ones((1, 4)))
    assert tickets.search(np.ones(4)).ids == ["t"] and tickets.search(np.ones(4), space="photo").ids == []
    assert store.check().findings == ()


def test_a_unique_value_is_free_again(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    store = open_store(kinds=[Ticket], embedder="hash")
    tickets = store.collection(Ticket)
    tickets.add({"id": "t1", "seat": "1a", "expires_at": clock.now + HOUR})
    with pytest.raises(vs.ConflictError, match="unique"):
        tickets.add({"id": "t2", "seat": "1a"})
    clock.move(hours=1)
    tickets.add({"id": "t2", "seat": "1a"})
    assert [ticket.id for ticket in tickets] == ["t2"]


def test_a_restore_leaves_them_gone(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    store.concepts.delete(["c1", "c2", "c4"])
    clock.move(hours=2)
    assert store.concepts.restore(where={"version__gte": 1}) == 2
    assert {record.id for record in store.concepts} == {"c1", "c3", "c4", "c5", "c6", "c7"}
    assert set(store.concepts.search("king", k=20).ids) == {"c1", "c3", "c4", "c5", "c6", "c7"}


def test_whoever_writes_next_writes_the_deletion_down(store: vs.Store, clock: Clock) -> None:
    told: list[dict[str, Any]] = []
    store.on("commit", lambda details: told.append(dict(details)))
    kings(store, clock)
    clock.move(hours=2)
    store.concepts.add({"name": "pawn"})
    assert [(note["operation"], note["records"]) for note in told] == [("add", 8), ("expire", 2), ("add", 1)]
    with store._catalog.read() as connection:
        stored = dict(connection.execute("SELECT id, deleted_at FROM concepts WHERE deleted_at IS NOT NULL").fetchall())
        retired = connection.execute("SELECT count(*) FROM vectors WHERE retired IS NOT NULL").fetchone()[0]
    assert sorted(stored) == ["c0", "c2"] and retired == 2
    assert set(stored.values()) == {1769864400_000000, 1769868000_000000}


# -- purging -----------------------------------------------------------------------------------------------------------


def test_purge_takes_what_expired_long_ago(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    store.concepts.delete("c1")
    clock.move(days=30, hours=2)
    assert store.concepts.purge() == 3, "c1 was deleted, c0 and c2 expired, 30 days ago or more"
    assert store.stats()["kinds"]["concepts"]["deleted"] == 2
    assert store.concepts.purge(older_than=timedelta(0)) == 2
    assert {record.id for record in store.concepts} == {"c3", "c5", "c7"}


def test_purge_of_the_expired_alone_waits_for_nothing(store: vs.Store, clock: Clock) -> None:
    kings(store, clock)
    store.concepts.delete("c1")
    assert store.concepts.purge(expired=True) == 0
    clock.move(hours=3)
    assert store.concepts.purge(expired=True) == 3
    assert store.concepts.restore("c1") == 1
    assert store.concepts.purge(expired=True) == 0
    with store._catalog.read() as connection:
        assert connection.execute("SELECT count(*) FROM concepts").fetchone()[0] == 5


def test_purged_text_and_vectors_are_in_no_file(
    open_store: Callable[..., vs.Store], clock: Clock, tmp_path: Path
) -> None:
    data = clustered(1500, 16)
    store = open_store()
    store.concepts.add(
        [
            {"id": f"c{p}", "name": "x", "definition": f"secret{p}z", "expires_at": clock.now + HOUR if p < 3 else None}
            for p in range(1500)
        ],
        vectors=data,
    )
    store.rebuild("concepts", vs.IndexRecipe("t", "LSH64rt", ({"candidates": 400},), min_recall=0))
    clock.move(hours=1)
    store.concepts.purge(expired=True)
    assert store.check().findings == ()
    store.close()
    files = b"".join(path.read_bytes() for path in (tmp_path / "kb").rglob("*") if path.is_file())
    assert b"secret4z" in files and data[4].tobytes() in files
    for place in range(3):
        assert f"secret{place}z".encode() not in files and data[place].tobytes() not in files


# -- files -------------------------------------------------------------------------------------------------------------


def test_compaction_rebuilding_and_repair_with_expired_rows(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    data = clustered(3000, 8)
    store = open_store(embedder="hash:8")
    records = [
        {"id": f"c{p}", "name": f"n{p}", "expires_at": clock.now + HOUR if p % 3 == 0 else None} for p in range(3000)
    ]
    store.concepts.add(records[:1500], vectors=data[:1500])
    store.concepts.add(records[1500:], vectors=data[1500:])
    clock.move(hours=1)
    alive = [p for p in range(3000) if p % 3]
    truth = [f"c{alive[place]}" for place in order_of(brute_force(data[:1], data[alive], "cosine")[0], 10)]
    for act in (
        lambda: store.compact(),
        lambda: store.rebuild("concepts", vs.IndexRecipe("t", "LSH64rt", ({"candidates": 400},), min_recall=0)),
        lambda: store.flush(),
        lambda: store.concepts.upsert({"id": "c1", "name": "n1"}, vectors=data[1:2]),
        lambda: store.compact(),
    ):
        act()
        assert store.concepts.search(data[0], exact=True).ids == truth
        assert store.check().findings == ()
    (segment,) = (store.path / "embeddings" / "concepts").glob("*.npz")  # type: ignore[operator]
    segment.write_bytes(segment.read_bytes()[:-100])
    assert store.repair(dry_run=False).remaining == ()
    assert len(store.concepts) == 2000 and len(store.concepts.search("n1", k=3000)) == 2000


def test_rewriting_a_space_does_not_trust_the_clock(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    """A clock may be set back: until somebody writes to the kind, its expired vectors stay."""
    data = clustered(3000, 8)
    store = open_store()
    for start in (0, 1500):
        store.concepts.add(
            [{"id": f"c{p}", "name": "x", "expires_at": clock.now + HOUR} for p in range(start, start + 1500)],
            vectors=data[start : start + 1500],
        )
    clock.move(hours=2)
    assert len(store.concepts.search(data[0])) == 0
    store.compact()
    clock.move(hours=-2)
    assert store.concepts.search(data[0], k=1).ids == ["c0"] and len(store.concepts.search(data[0], k=3000)) == 3000


@pytest.mark.parametrize("every", [1, 3])
def test_repair_of_a_lost_segment_with_expired_rows(
    open_store: Callable[..., vs.Store], clock: Clock, every: int
) -> None:
    store = open_store(embedder="hash:8")
    store.concepts.add(
        [
            {"id": f"c{p}", "name": f"n{p}", "expires_at": clock.now + HOUR if p % every == 0 else None}
            for p in range(1500)
        ]
    )
    clock.move(hours=1)
    (segment,) = (store.path / "embeddings" / "concepts").glob("*.npz")  # type: ignore[operator]
    segment.write_bytes(segment.read_bytes()[:-100])
    assert store.repair(dry_run=False).remaining == ()
    assert len(store.concepts.search("n1", k=3000)) == len(store.concepts) == 1500 - 1500 // every


def test_a_read_only_store_hides_them(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    store = open_store(embedder="hash:64")
    kings(store, clock)
    reader = open_store(read_only=True, embedder="hash:64")
    expect(reader, {f"c{n}" for n in range(8)})
    clock.move(hours=3)
    expect(reader, {"c1", "c3", "c5", "c6", "c7"})
    with pytest.raises(vs.ReadOnlyStore):
        reader.concepts.purge(expired=True)


CHILD = """
import sys, time, json
from datetime import UTC, datetime
import vectorstore as vs
with vs.open(sys.argv[1], read_only=sys.argv[2] == "reader") as store:
    print(json.dumps(sorted(store.concepts.search("king", k=5).ids)), flush=True)
    sys.stdin.readline()
    end = datetime.fromisoformat(sys.argv[3])
    late = 0.0
    while True:
        before = datetime.now(UTC)
        ids = store.concepts.search("king", k=5).ids
        text = store.concepts.search("king", k=5, mode="text").ids
        after = datetime.now(UTC)
        if "default:old king" in ids + text and before >= end:
            print(json.dumps("returned after it expired")); break
        if "default:old king" not in ids and "default:old king" not in text:
            print(json.dumps(ids if after >= end else "gone too early")); break
        time.sleep(0.01)
"""


def test_other_processes_see_it_end_without_a_write(tmp_path: Path) -> None:
    path = tmp_path / "kb"
    with vs.open(path, embedder="hash") as store:
        end = datetime.now(UTC) + timedelta(seconds=8)
        store.concepts.add([{"name": "old king", "expires_at": end}, {"name": "new king"}])
        children = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, str(path), role, end.isoformat()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for role in ("reader", "writer")
        ]
        for child in children:
            assert child.stdin is not None and child.stdout is not None
            assert json.loads(child.stdout.readline()) == ["default:new king", "default:old king"]
            child.stdin.write("go\n")
            child.stdin.flush()
        for child in children:
            assert json.loads(child.communicate(timeout=30)[0]) == ["default:new king"]
        assert store.concepts.search("king").ids == ["default:new king"]
        assert store.stats()["seq"] == store.concepts.search("king").generation


def test_a_store_of_an_older_format_gets_the_field_and_its_index(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / str(number)
        zipfile.ZipFile(Path(__file__).parent / "fixtures" / f"format{number}.zip").extractall(folder)
        with vs.open(folder / "kb") as store:
            assert store.concepts.get("default:word 7").expires_at is None  # type: ignore[union-attr]
            store.concepts.update({"id": "default:word 7", "expires_at": datetime.now(UTC) - HOUR})
            assert "default:word 7" not in store.concepts
            assert "default:word 7" not in store.concepts.search("word 7", k=20).ids
            assert store.check().findings == ()
            with store._catalog.read() as connection:
                indexes = {
                    name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")
                }
                made = {name for (name,) in connection.execute("SELECT name FROM kinds")}
            assert made >= {"concepts", "analogies"}
            assert {f"{kind}_expires_at" for kind in made} <= indexes


def test_what_is_due_is_found_by_an_index(store: vs.Store) -> None:
    """And a filter on an indexed field by its own, beside it; the rows themselves are not looked at for it."""
    table = store.concepts._table
    store.concepts.add([{"name": "one"}], vectors=[[1.0, 0.0]])
    with store._catalog.read() as connection:
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        table.due(connection, 1)
        table.matching(connection, store.concepts._parse({"domain": "d"}))
        connection.set_trace_callback(None)
        plans = [[row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")] for sql in statements]
    assert plans[0] == ["SEARCH concepts USING INDEX concepts_expires_at (expires_at<?)"]
    assert plans[1] == [
        "SEARCH concepts USING INDEX concepts_domain (domain=?)",
        "LIST SUBQUERY 1",
        "SEARCH concepts USING INDEX concepts_expires_at (expires_at<?)",
    ]


def test_the_clock_is_not_asked_where_nothing_expires(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    asked: list[int] = []

    def counting() -> datetime:
        asked.append(1)
        return clock.now

    store = open_store(clock=counting, embedder="hash")
    store.concepts.add({"name": "king"})
    store.concepts.search(np.ones(256))
    asked.clear()
    for _ in range(5):
        store.concepts.search(np.ones(256))
    assert asked == []


# -- against a model ---------------------------------------------------------------------------------------------------

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "upsert"]), st.integers(0, 11), st.sampled_from([None, 0, 1, 3])),
        st.tuples(st.sampled_from(["update"]), st.integers(0, 11), st.sampled_from([None, 0, 2])),
        st.tuples(st.sampled_from(["delete", "restore"]), st.integers(0, 11), st.none()),
        st.tuples(st.just("move"), st.integers(1, 2), st.none()),
        st.tuples(st.sampled_from(["purge", "compact", "flush", "rebuild"]), st.integers(0, 1), st.none()),
    ),
    min_size=5,
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_any_sequence_of_calls_agrees_with_a_dict(steps: list[tuple[str, int, int | None]]) -> None:
    clock = Clock()
    random = np.random.default_rng(0)
    with vs.open(":memory:", embedder=None, clock=clock, auto_publish=False) as store:
        kept: dict[str, tuple[datetime | None, bool, np.ndarray | None]] = {}  # id -> (end, deleted, vector)

        def alive(name: str) -> bool:
            end, deleted, _ = kept.get(name, (None, True, None))
            return not deleted and (end is None or end > clock.now)

        for verb, number, hours in steps:
            name = f"r{number}"
            end = None if hours is None else clock.now + hours * HOUR
            record = {"id": name, "name": "x", "expires_at": end}
            if verb in ("add", "upsert"):
                vector = random.integers(1, 9, 4).astype(np.float64)
                if verb == "add" and alive(name):
                    with pytest.raises(vs.DuplicateId):
                        store.concepts.add(record, vectors=vector)
                    continue
                getattr(store.concepts, verb)(record, vectors=vector)
                kept[name] = (end, False, vector)
            elif verb == "update":
                if alive(name):
                    store.concepts.update({"id": name, "expires_at": end})
                    kept[name] = (end, False, kept[name][2])
                else:
                    with pytest.raises(vs.NotFound):
                        store.concepts.update({"id": name, "expires_at": end})
            elif verb == "delete":
                assert store.concepts.delete(name) == alive(name)
                if alive(name):
                    kept[name] = (kept[name][0], True, kept[name][2])
            elif verb == "restore":
                old = kept.get(name)
                back = old is not None and old[1] and (old[0] is None or old[0] > clock.now)
                assert store.concepts.restore(name) == back
                if old is not None and back:
                    kept[name] = (old[0], False, old[2])
            elif verb == "move":
                clock.move(hours=number)
            elif verb == "purge":
                gone = [
                    other
                    for other in kept
                    if not alive(other) and (not number or (kept[other][0] or clock.now + HOUR) <= clock.now)
                ]
                assert store.concepts.purge(older_than=timedelta(0), expired=bool(number)) == len(gone)
                for other in gone:
                    del kept[other]
            elif verb == "compact":
                store.compact()
            elif verb == "flush":
                store.flush()
            elif len(store.concepts):
                store.rebuild("concepts", vs.IndexRecipe("t", "LSH64rt", ({"candidates": 4},), min_recall=0))
            names = sorted(filter(alive, kept))
            assert sorted(record.id for record in store.concepts) == names
            hits = store.concepts.search(np.ones(4), k=20, exact=True)
            assert sorted(hits.ids) == names
            for hit in hits:
                vector = kept[hit.id][2]
                assert vector is not None
                assert hit.score == pytest.approx(vector.sum() / np.linalg.norm(vector) / 2, abs=1e-9)
        assert store.check().findings == ()


def test_many_expired_rows_cost_little(open_store: Callable[..., vs.Store], clock: Clock) -> None:
    """5,000 expire at once: the next write takes them along in well under a second, and only once."""
    store = open_store()
    store.concepts.add(
        [{"id": f"c{p}", "name": "x", "expires_at": clock.now + HOUR} for p in range(5000)], vectors=clustered(5000, 8)
    )
    clock.move(hours=1)
    assert store.concepts.search(np.ones(8)).ids == []
    started = time.perf_counter()
    store.concepts.add({"name": "y"}, vectors=np.ones((1, 8)))
    assert time.perf_counter() - started < 5
    assert store.concepts.search(np.ones(8)).ids == ["default:y"]
    assert store.check().findings == ()


def test_an_age_from_before_all_time_finds_nothing(store: vs.Store) -> None:
    store.concepts.add({"name": "x"})
    store.concepts.delete("default:x")
    store.lattice.resolve("a", "b")
    assert store.concepts.purge(older_than=timedelta.max) == 0
    assert store.lattice.prune(timedelta.max, dry_run=True) == 0
    assert store.workflows.cleanup(timedelta.max) == 0
