"""Export and import give back what was there: every kind, every format, whole stores, contexts and kinds."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import pytest
from conftest import Clock
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore import exporting
from vectorstore.records import BUILTIN, schema_of

LOGS = ("jsonl", "jsonl.gz", "json", "json.gz", "ndjson")
TABLES = ("parquet", "arrow", "csv")
ODD = 'a "quoted", naïve\nline\twith \U0001d518nicode \u2029 and \\ '


class Note(vs.Record, table="notes", spaces=("image",)):
    """A kind that the package knows nothing of, with a field of every type."""

    title: Annotated[str, vs.EMBEDDED]
    stars: Annotated[int | None, vs.INDEXED] = None
    share: float | None = 0.5
    done: bool = False
    seen: vs.UtcTime | None = None
    parts: tuple[str, ...] = ("a", "b")
    more: dict[str, float] = {}
    of: Annotated[str | None, vs.Ref("concepts")] = None
    about: str = "nothing"
    hint: str | None = "ask"


def opened(path: Path | str = ":memory:", **options: Any) -> vs.Store:
    return vs.open(path, **{"embedder": "hash:16", "kinds": [Note], "auto_publish": False, **options})


def fill(store: vs.Store, clock: Clock) -> None:
    """Some of every kind, with versions, times, tags, extra, deleted and expired ones, and vectors of three origins."""
    store.contexts.add(
        [{"name": "nature"}, {"name": "physics", "parent": "nature", "description": ODD, "extra": {"k": 1}}]
    )
    store.concepts.add(
        [
            {
                "name": "king",
                "definition": "a male monarch",
                "quality": 0.1 + 0.2,
                "tags": ["a", "b,c"],
                "odd": {"x": [1, None]},
            },
            {"name": "queen", "lemmas": ["", "queen", ODD], "roles": {"Court": "Ruler"}, "examples": [ODD]},
            {"name": "ray", "context": "physics", "definition": ODD, "domain": ""},
            {"name": "gone"},
            {"name": "late", "expires_at": clock() + timedelta(seconds=5)},
            {"name": "later", "expires_at": clock() + timedelta(days=500)},
        ]
    )
    clock.move(seconds=10)
    store.concepts.upsert({"name": "king", "definition": "a man who rules", "quality": 1e-17})
    queen = {"name": "queen", "lemmas": ["", "queen", ODD], "roles": {"Court": "Ruler"}, "examples": [ODD]}
    store.concepts.upsert({**queen, "quality": 1 / 3}, vectors=[np.arange(16) - 5.5], source="hand", confidence=0.25)
    store.concepts.delete("default:gone")
    store.relations.add({"source": "default:king", "type": "antonym", "target": "default:queen", "confidence": 0.5})
    store.analogies.add(
        [
            {"a": "king", "b": "queen", "c": "man", "d": "woman", "reasoning": "sex"},
            {
                "source_domain": "royal",
                "target_domain": "army",
                "concept_mappings": [{"source": "king", "target": "general", "confidence": 0.9}],
                "evidence": [{"source": "king", "target": "general", "semantic": 0.7, "structural": 0.1}],
                "quality": 0.85,
            },
        ],
        vectors={"relation": np.eye(2, 3, dtype=np.float32) + 0.1},
    )
    elements = [{"name": "Ruler"}, {"name": "Crown", "type": "peripheral", "constraints": ["gold"]}]
    store.frames.add([{"name": "Monarchy", "elements": elements, "lexical_units": ["rule"]}, {"name": "State"}])
    store.frame_relations.add({"source": "default:monarchy", "type": "inheritance", "target": "default:state"})
    store.instances.bind("Monarchy", {"Ruler": "default:king"}, confidence=0.75)
    store.axioms.add({"name": "sex", "type": "antonym", "formula": {"not": ["a", 1.5]}, "concepts": ["default:king"]})
    store.clusters.add(
        {"name": "rulers", "size": 2, "coherence": -0.5, "related": {"x": 0.125}}, vectors=np.ones((1, 16))
    )
    store.fields.add({"name": "rule", "core": ["default:king"], "related": {"default:queen": 0.5}, "coherence": 0.5})
    store["notes"].add(
        [
            {"title": ODD, "stars": -(2**62), "share": None, "done": True, "seen": clock(), "of": "default:king"},
            {"title": "plain", "parts": [], "more": {"x": 1e300, "y": -0.0}, "share": -1e-300, "about": ""},
        ],
        vectors={"image": np.array([[1e-30, 1], [3e18, -1]], dtype=np.float32)},
    )

    store.lattice.resolve("a", "b")
    store.lattice.resolve("a", "b")
    clock.move(days=1)
    store.lattice.put({"anchor": "scar", "phase": "dormant"})
    store.lattice.append("scar", "∂Scar", role="seed", intensity=0.5, raw="x")
    for kind in store.kinds:  # whatever kinds come along: one of each, by its declaration
        if not len(store[kind]):
            store[kind].add(anything(store, kind))


def anything(store: vs.Store, kind: str) -> dict[str, Any]:
    """A record of a kind: its required fields, pointing to what is there, and a tag."""
    samples = {"integer": 1, "real": 0.5, "boolean": True, "time": "2020-01-01T00:00:00Z", "json": []}
    made: dict[str, Any] = {"tags": ["some"], "extra": {"odd": ODD}}
    for column in schema_of(store[kind].kind).columns:
        if column.required:
            pointed = None if column.ref is None else next(iter(store[column.ref]), None)
            if column.ref is not None and pointed is None:
                store[column.ref].add(anything(store, column.ref))
                pointed = next(iter(store[column.ref]))
            made[column.name] = pointed.id if pointed is not None else samples.get(column.type, "some")
    return made


def records_of(store: vs.Store) -> dict[str, list[Any]]:
    return {kind: sorted(store[kind], key=lambda record: record.id) for kind in store.kinds}


def vectors_of(store: vs.Store) -> dict[str, dict[str, tuple[Any, ...]]]:
    """By space and id: the numbers, and all that is known of where they come from."""
    found: dict[str, dict[str, tuple[Any, ...]]] = {}
    for kind in store.kinds:
        for space in (None, *store[kind].kind.spaces):
            held = found.setdefault(f"{kind}.{space}", {})
            for record in store[kind]:
                info = store[kind].vector_info(record.id, space=space)
                if info is not None:
                    (vector,) = store[kind].vectors([record.id], space=space)
                    held[record.id] = (vector.tobytes(), info.source, info.confidence, info.update_count, info.model)
    return found


@pytest.fixture
def full(clock: Clock) -> Iterator[vs.Store]:
    with opened(clock=clock) as store:
        fill(store, clock)
        yield store


def test_every_kind_is_there(full: vs.Store) -> None:
    assert {kind.table for kind in BUILTIN} - {kind for kind in full.kinds if len(full[kind])} <= NOT_FILLED
    assert all(len(full[kind]) for kind in ("concepts", "notes", "frames", "analogies"))


NOT_FILLED: set[str] = set()


@pytest.mark.parametrize("end", LOGS)
def test_a_log_gives_back_the_whole_store(end: str, full: vs.Store, clock: Clock, tmp_path: Path) -> None:
    """J7, C12: json, jsonl, gz; every record with its version and times, every vector with its origin."""
    path = tmp_path / f"kb.{end}"
    report = full.export(path, vectors="all")

    assert report.records == {kind: len(full[kind]) for kind in full.kinds if len(full[kind])}
    assert report.vectors == sum(map(len, vectors_of(full).values()))
    assert (report.path, report.bytes, report.seq) == (path, path.stat().st_size, full.stats()["seq"])
    with opened(clock=clock) as store:
        done = store.import_(path)
        assert (done.added, done.vectors, done.notes) == (report.records, report.vectors, ())
        assert records_of(store) == records_of(full)
        assert vectors_of(store) == vectors_of(full)
        assert store.check().findings == ()
        again = store.import_(path, on_conflict="overwrite")
        assert again.unchanged == report.records and again.records == 0, "it is there just so"


@pytest.mark.parametrize("format", TABLES)
def test_a_folder_of_tables_gives_back_the_whole_store(
    format: str, full: vs.Store, clock: Clock, tmp_path: Path
) -> None:
    """M1: Parquet, Arrow, CSV; also what JSON cannot say."""
    full["notes"].add({"title": "beyond", "share": float("inf")})
    report = full.export(tmp_path / "kb", format=format, vectors="all")

    names = {file.stem for file in (tmp_path / "kb").iterdir()}
    assert names == {kind for kind in full.kinds if len(full[kind])} and report.format == format
    with opened(clock=clock) as store:
        done = store.import_(tmp_path / "kb")
        assert (done.added, done.vectors) == (report.records, report.vectors)
        assert records_of(store) == records_of(full)
        short = slice(0, 4 if format == "csv" else None)  # CSV has no place for the embedder's name
        assert {
            space: {name: each[short] for name, each in held.items()} for space, held in vectors_of(store).items()
        } == {space: {name: each[short] for name, each in held.items()} for space, held in vectors_of(full).items()}


@pytest.mark.parametrize("end", ["parquet", "arrow", "feather", "csv", "csv.gz", "jsonl", "json.gz"])
def test_one_kind(end: str, full: vs.Store, clock: Clock, tmp_path: Path) -> None:
    full.export(tmp_path / f"analogies.{end}", kinds="analogies", vectors="all")
    with opened(clock=clock) as store:
        store.import_(tmp_path / f"analogies.{end}", kind=None if end != "csv" and "csv" not in end else "analogies")
        assert list(store.analogies) == list(full.analogies)
        assert vectors_of(store)["analogies.relation"] == vectors_of(full)["analogies.relation"]
        assert records_of(store)["concepts"] == []


def test_contexts_alone_and_what_they_stand_on(full: vs.Store, clock: Clock, tmp_path: Path) -> None:
    full.export(tmp_path / "physics.jsonl", contexts="physics")
    with opened(clock=clock) as store:
        done = store.import_(tmp_path / "physics.jsonl")
        assert done.added["concepts"] == 1 and [record.id for record in store.concepts] == ["physics:ray"]
        assert store.contexts.chain("physics") == full.contexts.chain("physics")
        assert store.contexts.get("physics") == full.contexts.get("physics")
    with pytest.raises(vs.NotFound, match="nowhere"):
        full.export(tmp_path / "x.jsonl", contexts=["nowhere"])
    assert not (tmp_path / "x.jsonl").exists()


def test_vectors_given_all_or_none(full: vs.Store, clock: Clock, tmp_path: Path) -> None:
    """Those that were made from texts are made again, by the same embedder, and come out the same."""
    reports = {wish: full.export(tmp_path / f"{wish}.jsonl", vectors=wish) for wish in ("given", "all", "none")}

    assert reports["none"].vectors == 0 < reports["given"].vectors < reports["all"].vectors
    with opened(clock=clock) as store:
        store.import_(tmp_path / "given.jsonl")
        found, expected = vectors_of(store), vectors_of(full)
        assert {space: {name: v[0] for name, v in held.items()} for space, held in found.items()} == {
            space: {name: v[0] for name, v in held.items()} for space, held in expected.items()
        }
    with opened(clock=clock) as store:
        done = store.import_(tmp_path / "all.jsonl", vectors=False)
        assert done.vectors == 0 and store.concepts.vector_info("default:queen").source == "embedder"
        assert not vectors_of(store)["notes.image"]
    with opened(clock=clock, embedder=None) as store:
        store.import_(tmp_path / "none.jsonl")
        assert not any(vectors_of(store).values())


def test_an_export_is_the_same_bytes_each_time(full: vs.Store, tmp_path: Path) -> None:
    for end in ("jsonl.gz", "parquet"):
        options = {"kinds": "concepts", "vectors": "all"}
        one, two = (tmp_path / f"{n}.{end}" for n in (1, 2))
        full.export(one, **options), full.export(two, **options)
        assert one.read_bytes() == two.read_bytes()


def test_a_reader_needs_nothing_of_ours(full: vs.Store, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    full.export(tmp_path / "kb.jsonl.gz", kinds=["concepts"])
    with gzip.open(tmp_path / "kb.jsonl.gz", "rt", encoding="utf-8") as file:
        header, *lines = [json.loads(line) for line in file]
    assert header["vectorstore"] == 1 and header["records"] == {"concepts": len(lines)}
    assert [line["record"]["name"] for line in lines] == [record.name for record in full.concepts]
    full.export(tmp_path / "c.parquet", kinds="concepts", vectors="all")
    table = pq.read_table(tmp_path / "c.parquet")
    assert table["name"].to_pylist() == [record.name for record in full.concepts]
    assert table["tags"].to_pylist() == [list(record.tags) for record in full.concepts]
    assert table["vectors.text"].type.list_size == 16


def test_deletions_go_along_when_asked(full: vs.Store, clock: Clock, tmp_path: Path) -> None:
    """B9: an export is a log with tombstones; they delete in the other store."""
    with opened(clock=clock) as store:
        full.export(tmp_path / "before.jsonl")
        store.import_(tmp_path / "before.jsonl")
        full.concepts.delete("physics:ray")
        report = full.export(tmp_path / "after.jsonl", deleted=True, kinds=["contexts", "concepts"])
        assert report.deleted == {"concepts": 3}, "the expired one counts as deleted"
        done = store.import_(tmp_path / "after.jsonl", on_conflict="overwrite")
        assert done.deleted == {"concepts": 1} and done.records == 0
        assert records_of(store)["concepts"] == records_of(full)["concepts"]


def test_a_taken_path_and_a_full_disk_leave_nothing(full: vs.Store, tmp_path: Path) -> None:
    (tmp_path / "kb.jsonl").write_text("mine")
    for path in (tmp_path / "kb.jsonl", tmp_path):
        with pytest.raises(FileExistsError):
            full.export(path, format=None if path.suffix else "csv")
    assert (tmp_path / "kb.jsonl").read_text() == "mine"
    for name, format in (("a.jsonl", None), ("a.parquet", None), ("folder", "csv")):
        with (
            mock.patch.object(exporting, "sealed_rows", side_effect=OSError(28, "No space left on device")),
            pytest.raises(OSError, match="No space"),
        ):
            full.export(tmp_path / name, kinds=["concepts"], format=format)
    assert [file.name for file in tmp_path.iterdir()] == ["kb.jsonl"]


def test_what_json_cannot_say_is_told(full: vs.Store, tmp_path: Path) -> None:
    full["notes"].add({"title": "beyond", "share": float("inf")})
    with pytest.raises(vs.ValidationError, match=r"notes.share: JSON has no inf; export to Parquet or Arrow"):
        full.export(tmp_path / "kb.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_an_export_shows_one_commit_while_others_write(tmp_path: Path) -> None:
    """A snapshot: a writer that commits between two pages changes nothing of what comes out."""
    with (
        opened(tmp_path / "kb", embedder=None, kinds=()) as store,
        opened(tmp_path / "kb", embedder=None, kinds=()) as other,
    ):
        store.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(5000)], vectors=np.ones((5000, 2)))
        original, calls = exporting.sealed_rows, []

        def slow(*args: Any) -> Any:
            calls.append(len(calls))
            other.concepts.upsert([{"id": f"c{n}", "name": "y"} for n in range(0, 5000, 7)])
            other.concepts.delete([f"c{5000 - len(calls)}"])
            return original(*args)

        seq = store.stats()["seq"]
        with mock.patch.object(exporting, "sealed_rows", slow):
            report = store.export(tmp_path / "kb.jsonl", kinds="concepts")
        assert report.seq == seq and report.records == {"concepts": 5000} and len(calls) == 10
        lines = (tmp_path / "kb.jsonl").read_text().splitlines()
        assert len(lines) == 5001 and not any('"name":"y"' in line for line in lines)


def test_progress_is_told_and_may_stop_it(full: vs.Store, tmp_path: Path) -> None:
    """M11."""
    told: list[tuple[int, int]] = []
    report = full.export(tmp_path / "kb.parquet", kinds="concepts", progress=lambda *pair: told.append(pair))
    assert told[-1] == (report.records["concepts"],) * 2 and told == sorted(told)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        full.export(tmp_path / "other.jsonl", kinds="concepts", progress=stop)
    assert [file.name for file in tmp_path.iterdir()] == ["kb.parquet"]


TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"title": TEXTS},
        optional={
            "stars": st.integers(-(2**63), 2**63 - 1) | st.none(),
            "share": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
            "done": st.booleans(),
            "parts": st.lists(TEXTS, max_size=3),
            "more": st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
            "about": TEXTS,
            "extra": st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers(-9, 9) | TEXTS, max_size=2),
        },
    ),
    min_size=1,
    max_size=8,
)


@pytest.mark.parametrize("end", ["jsonl", "json", "csv", "parquet"])
def test_any_record_comes_back(end: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")

    with opened(embedder=None) as one, opened(embedder=None) as two:

        @settings(max_examples=40, deadline=None)
        @given(RECORDS)
        def holds(records: list[dict[str, Any]]) -> None:
            for store in (one, two):
                store["notes"].delete([note.id for note in store["notes"]])
            path = folder / f"notes.{end}"
            path.unlink(missing_ok=True)
            one["notes"].add(records)
            one.export(path, kinds="notes")
            two.import_(path, kind="notes")
            assert records_of(two)["notes"] == records_of(one)["notes"]

        holds()


@pytest.mark.parametrize("how", ["one", "columns", "object", "default"])
def test_minus_zero_is_zero_and_nan_is_refused(how: str, tmp_path: Path) -> None:
    """SQLite gives back 0.0 for -0.0 and null for NaN; a row whose digest was taken of those could not be read again."""

    class Weight(vs.Record, table="weights"):
        share: float | None = -0.0

    def given(value: float) -> Any:
        many = {"id": ["a", "b"], "share": [value, 1.0]}
        return {"one": {"id": "a", "share": value}, "columns": many, "object": Weight(id="a", share=value)}[how]

    with vs.open(":memory:", embedder=None, kinds=[Weight]) as store:
        store["weights"].add({"id": "a"} if how == "default" else given(-0.0))
        assert repr(store["weights"].get("a").share) == "0.0" and store.check().findings == ()
        if how in ("one", "object"):  # in a column NaN says nothing
            with pytest.raises(vs.ValidationError, match=r"weights\[0\].share: cannot be stored: NaN"):
                store["weights"].upsert(given(float("nan")))


def test_csv_says_when_it_cannot_tell_none_from_the_default(tmp_path: Path) -> None:
    with opened() as store:
        store["notes"].add({"title": "x", "hint": None})
        with pytest.raises(vs.ValidationError, match=r"notes.hint: CSV cannot tell None from the default 'ask'"):
            store.export(tmp_path / "notes.csv", kinds="notes")
        assert not (tmp_path / "notes.csv").exists()
        for end in ("parquet", "arrow", "jsonl"):
            store.export(tmp_path / f"notes.{end}", kinds="notes")
            with opened() as other:
                other.import_(tmp_path / f"notes.{end}")
                assert list(other["notes"]) == list(store["notes"])


def test_a_damaged_row_is_never_exported(tmp_path: Path, open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.concepts.add([{"name": "a"}, {"name": "b"}])
    with store._sync.catalog.write() as transaction:
        transaction.connection.execute("UPDATE concepts SET name = 'forged' WHERE id = 'default:b'")
    with pytest.raises(vs.CorruptError, match=r"default:b.*digest"):
        store.export(tmp_path / "kb.jsonl")
    assert not (tmp_path / "kb.jsonl").exists()
