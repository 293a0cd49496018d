"""The past: a store as it was at a commit answers as it did then, whatever has happened since."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Clock

import vectorstore as vs
from vectorstore.storage import history

WORDS = ["heat", "flow", "tone", "king", "wave", "graph", "cell", "stone", "river", "light"]
QUERY = np.arange(1.0, 17.0)


class Note(vs.Record, table="notes"):
    title: Annotated[str, vs.EMBEDDED]


class LongerNote(vs.Record, table="notes"):
    title: Annotated[str, vs.EMBEDDED]
    stars: Annotated[int, vs.INDEXED] = 3
    share: float = 0.5


def answers(store: vs.Store) -> dict[str, Any]:
    """What a store says, by every way of asking."""
    found: dict[str, Any] = {}
    for name in store.kinds:
        collection = store.collection(name)
        records = list(collection.stream())
        found[f"{name} stream"] = records
        found[f"{name} count"] = len(collection)
        found[f"{name} get"] = collection.get_many([record.id for record in records])
        if not collection.kind.model_fields.keys() & {"name", "title"}:
            continue
        for query in ("king", QUERY):
            for options in ({"exact": True}, {}, {"where": {"version__gte": 2}}):
                try:
                    hits = collection.search(query, k=20, **options)
                except vs.ValidationError:
                    continue
                found[f"{name} {query} {options}"] = [(hit.id, hit.score, hit.record) for hit in hits]
    concepts = store.concepts
    for word in WORDS:
        found[f"text {word}"] = [(hit.id, hit.score) for hit in concepts.search(word, mode="text", k=50)]
    found["tags"] = {tag: [c.id for c in concepts.find({"tags__has": tag})] for tag in ("even", "odd")}
    found["find"] = concepts.find({"quality__gte": 0.5}, order="-quality")
    found["facets"] = concepts.facets("domain")
    found["infos"] = [concepts.vector_info(record.id) for record in concepts.stream()]
    found["deleted"] = {kind: entry["deleted"] for kind, entry in store.stats()["kinds"].items()}
    found["fits"] = [store.clusters.versions(line) for line in store.clusters.lines()]
    if store.clusters.lines():
        found["members"] = [store.clusters.membership(record.id) for record in concepts.stream()]
    found["decisions"] = concepts.decisions()
    return found


def concept(number: int, revision: int = 0) -> dict[str, Any]:
    return {
        "id": f"c{number:03d}",
        "name": f"{WORDS[number % 10]} {number}",
        "definition": f"about {WORDS[(number + revision) // 10 % 10]}, revision {revision}",
        "tags": ["even" if (number + revision) % 2 == 0 else "odd"],
        "domain": WORDS[(number + revision) % 3],
        "quality": (number * 7 + revision) % 11 / 10,
    }


def step(store: vs.Store, chance: random.Random, number: int) -> None:
    """One change of a kind that chance picks."""
    live = [record.id for record in store.concepts.stream()]
    some = chance.sample(live, min(len(live), 7))
    match chance.choice(
        [
            "add",
            "add",
            "upsert",
            "update",
            "delete",
            "restore",
            "flush",
            "compact",
            "rebuild",
            "fit",
            "several",
            "expire",
        ]
    ):
        case "add":
            store.concepts.add([concept(1000 + number * 10 + n) for n in range(6)])
        case "upsert":
            store.concepts.upsert([concept(int(name[1:]), number) for name in some])
        case "update":
            store.concepts.update([{"id": name, "quality": chance.random(), "tags": ["odd"]} for name in some])
        case "delete":
            store.concepts.delete(some[:3])
        case "restore":
            store.concepts.restore(where={"version__gte": 1})
        case "flush":
            store.flush()
        case "compact":
            store.compact()
        case "rebuild":
            if live:
                store.rebuild("concepts", vs.IndexRecipe("small", "LSH64rt", ({"candidates": 90},), min_recall=0.0))
        case "fit":
            if len(live) > 10:
                store.clusters.fit("concepts", "kmeans", chance.randint(2, 4))
        case "several":
            with store.transaction():
                store.concepts.upsert(concept(chance.randrange(20), number))
                store.relations.upsert({"id": f"r{number}", "source": some[0], "type": "antonym", "target": some[-1]})
                store.concepts.delete(some[1:2])
        case "expire":
            store.concepts.upsert(
                {**concept(chance.randrange(20), number), "expires_at": store._catalog.clock() + timedelta(hours=2)}
            )


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_every_commit_of_a_long_life_answers_as_it_did_then(seed: int, place: Path | str, clock: Clock) -> None:
    chance = random.Random(seed)
    known: list[tuple[int, Any, dict[str, Any]]] = []
    with vs.open(place, embedder="hash:16", clock=clock, auto_publish=False, kinds=[Note]) as store:
        store.concepts.add([concept(number) for number in range(40)])
        store.history = "30 days"
        for number in range(14):
            clock.move(hours=1)
            step(store, chance, number)
            known.append((store.moment.seq, clock.now, answers(store)))
        clock.move(days=3)
        store.compact()
        store.trail.rotate(5)
        every = list(store.trail.stream())
        if place != ":memory:":
            store.close()
            store = vs.open(place, embedder="hash:16", clock=clock, auto_publish=False, kinds=[Note])
        for seq, at, expected in known:
            with store.as_of(at) as then:
                assert then.moment.seq == seq
                assert answers(then) == expected, f"at {seq}"
        with store.as_of(known[3][0]) as then:
            assert then.check().findings == () and then.trail.verify().ok
            told = list(then.trail.stream())
            assert [e.number for e in told] == [e.number for e in every if e.seq <= known[3][0]] and told
            with pytest.raises(vs.ReadOnlyStore):
                then.concepts.add({"name": "late"})
        assert store.check().findings == ()
        store.close()


def test_snapshots_outlive_the_horizon_and_leave_nothing_behind(tmp_path: Path, clock: Clock) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:16", clock=clock, auto_publish=False) as store:
        store.concepts.add([concept(number) for number in range(40)])
        store.flush()
        expected = {}
        for name in ("first", "second", "third"):
            made = store.snapshots.add(name)
            assert made.seq == store.moment.seq and name in store.snapshots
            expected[name] = answers(store)
            store.concepts.upsert([concept(number, made.seq) for number in range(0, 40, 3)])
            store.concepts.delete([f"c{made.seq:03d}"])
            store.compact()
        assert [each.name for each in store.snapshots.list()] == ["first", "second", "third"]
        with pytest.raises(vs.ConflictError, match="'first'"):
            store.snapshots.add("first")
        with pytest.raises(vs.NotFound, match="first, second, third"):
            store.snapshots.drop("fourth")

        store.maintain()  # forgets all but what the names need
        with pytest.raises(vs.NotFound, match="history begins at commit"):
            store.as_of(store.snapshots.list()[0].seq + 1)
        for dropped in (None, "second", "first"):
            if dropped is not None:
                store.snapshots.drop(dropped)
            for name in (each.name for each in store.snapshots.list()):
                with store.as_of(name) as then:
                    assert answers(then) == expected[name], name
            assert store.check().findings == () and store.check().litter == ()
        files = len(list((tmp_path / "kb" / "embeddings" / "concepts").iterdir()))
        store.snapshots.drop("third")
        assert len(list((tmp_path / "kb" / "embeddings" / "concepts").iterdir())) < files
        with store._catalog.read() as connection:
            assert not history.recording(connection)
        assert store.check().findings == () and store.check().litter == ()
        assert sorted(path.name for path in (tmp_path / "kb").glob(".*")) == []


def test_history_is_forgotten_after_its_time(tmp_path: Path, clock: Clock) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:16", clock=clock, auto_publish=False) as store:
        assert store.history is None
        store.concepts.add([concept(number) for number in range(30)])
        begun = clock.now
        store.history = timedelta(days=2)
        assert store.history == timedelta(days=2)
        told = {}
        for day in range(6):
            clock.move(days=1)
            store.concepts.upsert([concept(number, day + 1) for number in range(30)])
            store.flush()
            store.compact()
            told[clock.now] = answers(store)
        before = store.stats()["bytes"]
        assert any("past rows" in action for action in store.maintain().actions)
        store.compact()
        assert store.stats()["bytes"] < before
        for at, expected in told.items():
            if clock.now - at <= timedelta(days=2):
                with store.as_of(at) as then:
                    assert answers(then) == expected
            else:
                with pytest.raises(vs.NotFound, match="history begins"):
                    store.as_of(at)
        with pytest.raises(vs.NotFound):
            store.as_of(begun)
        store.history = None
        with store._catalog.read() as connection:
            assert not history.recording(connection)
        with pytest.raises(vs.NotFound, match="no history is kept"):
            store.as_of(clock.now - timedelta(hours=1))
        assert store.check().findings == () and store.check().litter == ()


@pytest.mark.parametrize("when", ["soon", 3.5, "", -1, 10**9])
def test_a_moment_that_nobody_knows_is_a_typed_error(when: Any, clock: Clock) -> None:
    with vs.open(":memory:", embedder="hash:16", clock=clock) as store, pytest.raises(vs.VectorstoreError):
        store.as_of(when)


@pytest.mark.parametrize("span", ["thirty days", "0 days", timedelta(0), 30, True, "-1 day"])
def test_a_span_that_is_none_is_refused(span: Any) -> None:
    with (
        vs.open(":memory:", embedder=None) as store,
        pytest.raises(vs.ValidationError, match="expected a span such as 30d"),
    ):
        store.history = span


def test_a_new_field_comes_to_the_past_too(tmp_path: Path, clock: Clock) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:16", clock=clock, kinds=[Note]) as store:
        store.collection(Note).add([{"id": f"n{n}", "title": f"note {n}"} for n in range(5)])
        store.snapshots.add("before")
        store.collection(Note).upsert({"id": "n1", "title": "changed"})
        store.collection(Note).delete("n2")
    with vs.open(tmp_path / "kb", embedder="hash:16", clock=clock, kinds=[LongerNote]) as store:
        store.collection(LongerNote).upsert({"id": "n3", "title": "changed", "stars": 5})
        with store.as_of("before") as then:
            found = list(then.collection("notes").stream())
            assert [(n.id, n.title, n.stars, n.share) for n in found] == [
                (f"n{n}", f"note {n}", 3, 0.5) for n in range(5)
            ]
            assert then.check().findings == ()
        assert store.check().findings == ()


def test_a_view_stays_while_its_files_go_and_a_crashed_one_is_swept(tmp_path: Path, clock: Clock) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder="hash:16", clock=clock, auto_publish=False) as store:
        store.concepts.add([concept(number) for number in range(40)])
        store.flush()
        store.snapshots.add("then")
        expected = answers(store)
        store.concepts.upsert([concept(number, 1) for number in range(40)])
        store.compact()
        view = store.as_of("then")
        store.snapshots.drop("then")
        (folder,) = root.glob(".as-of-*")
        with vs.open(root, embedder="hash:16", clock=clock) as other:
            assert other.sweep(0) == [] and folder.exists()  # it is in use
        assert answers(view) == expected
        view.close()
        assert not folder.exists()

        (root / ".as-of-crashed.tmp").mkdir()
        (root / ".as-of-crashed.tmp" / "catalog.sqlite").write_bytes(b"half")
        (root / ".as-of-crashed.tmp" / "view.lock").touch()
        assert store.sweep(0) == [".as-of-crashed.tmp"] and list(root.glob(".as-of-*")) == []


@pytest.mark.parametrize("space", ["text", "expired"])
def test_time_stands_still_in_a_view(space: str, clock: Clock) -> None:
    with vs.open(":memory:", embedder="hash:16", clock=clock) as store:
        store.history = "1 day"
        store.concepts.add({"id": "brief", "name": "brief", "expires_at": clock.now + timedelta(hours=1)})
        store.concepts.add({"id": "long", "name": "long"})
        at = clock.now
        clock.move(hours=5)
        assert len(store.concepts) == 1
        if space == "expired":
            store.concepts.add({"id": "next", "name": "next"})  # writes the expiry down
        with store.as_of(at) as then:
            assert {c.id for c in then.concepts.stream()} == {"brief", "long"}
            assert set(then.concepts.search("brief").ids) == {"brief", "long"}


def test_every_table_is_in_history_or_said_to_be_left_out(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store, store._catalog.read() as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        derived = {
            name
            for name in names
            for table in store._sync.tables.values()
            for part in table.derived
            if name.startswith(part)
        }
        rest = {name for name in names - derived - set(store.kinds) if not name.startswith(("sqlite_", "_sqlite_"))}
        assert rest == {*history.SHARED, *history.LEFT_OUT} and not set(history.SHARED) & history.LEFT_OUT.keys()


def test_a_view_has_no_workflows_and_the_states_of_then(clock: Clock) -> None:
    with vs.open(":memory:", embedder="hash:16", clock=clock) as store:
        store.workflows.create("concepts", [concept(n) for n in range(30)], id="w1")
        store.history = "1 day"
        clock.move(hours=1)
        store.workflows.process("w1")
        plan = store.state("plan")
        plan["step"] = 1
        plan.save()
        before = store.moment
        plan["step"] = 2
        plan.save()
        store.concepts.upsert([concept(n, 1) for n in range(30)])
        with store.as_of(before.seq) as then:
            assert len(then.concepts) == 30 and then.check().findings == ()
            assert not then.workflows.list() and store.workflows.list()
            assert len(then.state("plan").checkpoints()) == 1 and len(store.state("plan").checkpoints()) == 2


def erased(root: Path, *needles: bytes) -> list[str]:
    """Files of a store's folder in which one of the byte strings is."""
    return [
        f"{path.name}: {needle[:20]!r}"
        for path in sorted(root.rglob("*"))
        if path.is_file()
        for needle in needles
        if needle in path.read_bytes()
    ]


def secret_life(store: vs.Store, clock: Clock) -> None:
    """A secret in every corner: versions, retired vectors, an index, fits, labels, decisions, relations, expiry."""
    vectors = np.random.default_rng(1).standard_normal((60, 16)).astype(np.float32)
    store.concepts.add([concept(number) for number in range(60)], vectors=vectors)
    store.flush()
    store.concepts.upsert(
        {
            "id": "secret-id-77",
            "name": "hush zanzibar",
            "definition": "the first wording xyzzy",
            "tags": ["classified9"],
        },
        vectors=SECRETS[0][None],
    )
    clock.move(hours=1)
    store.flush()
    store.rebuild("concepts", vs.IndexRecipe("exactly", "Flat", ({"candidates": 90},), min_recall=0.0))
    store.snapshots.add("with it")
    store.relations.add({"source": "secret-id-77", "type": "antonym", "target": "c001"})
    store.clusters.fit("concepts", "kmeans", 61)  # its own cluster: the centroid is its vector
    store.concepts.upsert(
        {"id": "secret-id-77", "name": "hush zanzibar", "definition": "a second wording plugh"},
        vectors=SECRETS[1][None],
    )
    store.concepts.add(
        {"id": "twin", "name": "twin"}, vectors=SECRETS[1][None] * 2, duplicates=vs.Duplicates(0.99, "link")
    )
    clock.move(hours=1)
    store.compact()
    store.clusters.fit("concepts", "kmeans", 3)
    store.concepts.upsert(
        {"id": "secret-id-77", "name": "hush zanzibar", "definition": "third quux"}, vectors=SECRETS[2][None]
    )
    store.compact()
    clock.move(hours=1)


SECRETS = np.random.default_rng(77).standard_normal((3, 16)).astype(np.float32)
NEEDLES = (
    *(vector.tobytes() for vector in SECRETS),
    *(b"zanzibar", b"xyzzy", b"plugh", b"quux", b"classified9", b"secret-id-77", "secret-id-77".encode("utf-32-le")),
)


@pytest.mark.parametrize("upkeep", ["", "maintain"])
def test_purge_erases_from_history_and_snapshots_to_the_last_byte(upkeep: str, tmp_path: Path, clock: Clock) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None, clock=clock, auto_publish=False) as store:
        store.history = "30 days"
        secret_life(store, clock)
        hits = erased(root, *NEEDLES)
        assert all(any(repr(needle[:20]) in hit for hit in hits) for needle in NEEDLES), "a needle is nowhere: no test"
        store.relations.delete(where={"source": "secret-id-77"})
        store.relations.purge(older_than=timedelta(0))
        store.concepts.delete("secret-id-77")
        if upkeep:
            store.policy = vs.Policy(purge_after=timedelta(0))
            assert any(action.startswith("purged 1 concepts") for action in store.maintain().actions)
        else:
            assert store.concepts.purge("secret-id-77") == 1
        assert erased(root, *NEEDLES) == []
        assert store.check().findings == () and store.check().litter == ()
        with store.as_of("with it") as then:
            assert len(then.concepts) == 60 and then.concepts.get("secret-id-77") is None
            assert len(then.concepts.search(SECRETS[0], k=100)) == 60
            assert erased(root, *NEEDLES) == []
            assert then.check().findings == ()
    assert erased(root, *NEEDLES) == []


def test_a_row_number_that_is_used_again_has_its_own_past(clock: Clock) -> None:
    with vs.open(":memory:", embedder="hash:16", clock=clock) as store:
        store.history = "1 day"
        store.concepts.add({"id": "a", "name": "a"})
        clock.move(minutes=1)
        store.concepts.add({"id": "b", "name": "b"})
        at = clock.now
        clock.move(minutes=1)
        store.concepts.delete("b")
        store.concepts.purge("b")
        store.concepts.add({"id": "c", "name": "c"})
        with store.as_of(at) as then:
            assert [c.id for c in then.concepts.stream()] == ["a"] and then.check().findings == ()


@pytest.mark.parametrize(
    "spoil",
    [
        "DROP TRIGGER _past_concepts_update",
        "CREATE TRIGGER _past_evil AFTER UPDATE ON concepts BEGIN DELETE FROM vectors; END",
        "UPDATE _past_concepts SET definition = 'forged' WHERE _was = 1",
    ],
)
def test_a_check_finds_what_is_wrong_with_history(spoil: str, tmp_path: Path, clock: Clock) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder="hash:16", clock=clock) as store:
        store.history = "1 day"
        store.concepts.add(concept(1))
        store.concepts.upsert(concept(1, 1))
        assert store.check().findings == ()
    connection = sqlite3.connect(root / "catalog.sqlite")
    connection.execute(spoil)
    connection.commit()
    connection.close()
    with vs.open(root, embedder="hash:16", clock=clock) as store:
        assert len(store.check().findings) == 1


def test_a_lost_file_of_the_past_is_found_and_let_go_by_repair(
    open_store: Callable[..., vs.Store], tmp_path: Path
) -> None:
    store = open_store(embedder="hash:16")
    store.concepts.add([concept(number) for number in range(20)])
    store.flush()
    (old,) = (tmp_path / "kb" / "embeddings" / "concepts").iterdir()
    store.snapshots.add("then")
    store.concepts.upsert([concept(number, 1) for number in range(20)])
    store.compact()
    assert old.exists()
    old.unlink()
    (finding,) = store.check().findings
    assert finding.layer == "history" and old.name in finding.where
    with pytest.raises(vs.CorruptError, match=old.name):
        store.as_of("then")
    assert store.repair(dry_run=False).remaining == ()
    with store.as_of("then") as then:
        assert len(then.concepts) == 20
