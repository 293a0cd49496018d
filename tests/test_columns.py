"""Tables come in column by column, and what is stored is what the same records give one by one, bit for bit."""

from __future__ import annotations

import itertools
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Self

import numpy as np
import pandas as pd
import pytest
from conftest import Clock, clustered
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, ValidationInfo, field_validator, model_validator

import vectorstore as vs
from vectorstore.columns import as_columns
from vectorstore.ids import fold
from vectorstore.records import columnar, schema_of
from vectorstore.records.schema import folded_column
from vectorstore.storage.bulk import insert_columns

pa = pytest.importorskip("pyarrow")
pl = pytest.importorskip("polars")

COUNT, DIM = 1500, 8
MOMENT = datetime(2025, 5, 1, 8, 30, 0, 250_000, tzinfo=UTC)


def plain(count: int = COUNT) -> list[dict[str, Any]]:
    """Records with everything that a column can hold, some of it left out here and there."""
    made = []
    for n in range(count):
        record: dict[str, Any] = {"id": f"c{n}", "name": f"Naïve  {n}", "lemmas": [f"lemma {n}", "o'clock"][: n % 3]}
        record["tags"] = [f"t{n % 7}", 'quo"ted', "t0"][: n % 4]
        record["created_at"] = MOMENT
        if n % 2:
            record |= {"quality": (n % 11) / 10, "definition": f"the {n}th"}
        if n % 5:
            record |= {"domain": f"d{n % 3}", "rank": n, "note": "new\nline"}
        made.append(record)
    return made


def columns_of(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def arrow_chunks(records: list[dict[str, Any]]) -> Any:
    """A table of three chunks, one of them empty, that begins in the middle of its buffers."""
    whole = pa.table(columns_of([{"id": "x", "name": "x", "lemmas": ["x"]}, *records])).slice(1)
    return pa.concat_tables([whole.slice(0, 700), whole.slice(0, 0), whole.slice(700)])


def arrow_odd(records: list[dict[str, Any]]) -> Any:
    """The wider types of Arrow: large and dictionary-encoded texts, large lists."""
    table = pa.table(columns_of(records))
    texts = pa.dictionary(pa.int32(), pa.string())
    for name, kind in (("domain", texts), ("name", pa.large_string()), ("tags", pa.large_list(texts))):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(name).cast(kind))
    return table


SOURCES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "mappings": lambda records: records,
    "sequences": columns_of,
    "arrays": lambda records: {name: np.array(column, dtype=object) for name, column in columns_of(records).items()},
    "arrow": lambda records: pa.table(columns_of(records)),
    "arrow chunks": arrow_chunks,
    "arrow odd": arrow_odd,
    "arrow batch": lambda records: pa.record_batch(columns_of(records)),
    "arrow stream": lambda records: pa.table(columns_of(records)).to_reader(max_chunksize=400),
    "pandas": lambda records: pd.DataFrame(columns_of(records)),
    "pandas arrow": lambda records: pa.table(columns_of(records)).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda records: pl.DataFrame(columns_of(records)),
    "series": lambda records: {name: pd.Series(column) for name, column in columns_of(records).items()},
}


def contents(store: vs.Store) -> dict[str, list[Any]]:
    """Every row of the catalog that a write makes, seals included."""
    with store._sync.catalog.read() as connection:
        sql = {
            "rows": "SELECT * FROM concepts ORDER BY row",
            "tags": "SELECT tag, row FROM concepts_tags ORDER BY 1, 2",
            "vectors": "SELECT vid, record, text_hash, source, confidence, updates, retired FROM vectors ORDER BY vid",
            "text": "SELECT rowid FROM concepts_fts WHERE concepts_fts MATCH 'lemma' ORDER BY 1",
        }
        return {name: connection.execute(statement).fetchall() for name, statement in sql.items()}


@pytest.fixture(scope="module")
def expected() -> Iterator[dict[str, list[Any]]]:
    """What records as objects give."""
    with vs.open(":memory:", embedder=None, clock=Clock()) as store:
        known = set(vs.Concept.model_fields)
        objects = [
            vs.Concept(
                **{name: value for name, value in record.items() if name in known},
                extra={name: value for name, value in record.items() if name not in known},
            )
            for record in plain()
        ]
        store.concepts.add(objects, vectors=clustered(COUNT, DIM), source="test", confidence=0.5)
        yield contents(store)


@pytest.mark.parametrize("source", SOURCES)
def test_every_table_gives_the_rows_that_objects_give(
    source: str, expected: dict[str, list[Any]], open_store: Callable[..., vs.Store]
) -> None:
    store = open_store()
    records = SOURCES[source](plain())
    ids = store.concepts.add(records, vectors=clustered(COUNT, DIM), source="test", confidence=0.5)
    assert ids == [f"c{n}" for n in range(COUNT)]
    found = contents(store)
    for name in expected:
        assert found[name] == expected[name], name
    assert store.check().findings == ()


values = {
    "id": st.sampled_from(["", "a", "b", "a/b", "x" * 300, "c"]),
    "name": st.sampled_from(["n", "", " ", "Ⅷ \tn", "\x00", 5, None]),
    "context": st.sampled_from(["default", "other", "", "a/b"]),
    "lemmas": st.sampled_from([[], ["a"], ("a", "b"), ["a", 1], "a", None]),
    "quality": st.sampled_from([None, 0, 1, 0.5, 7.5, "0.5", float("nan"), True]),
    "tags": st.sampled_from([[], ["t"], ["t", "t"], [""], {"t": 1}]),
    "created_at": st.sampled_from([None, MOMENT, MOMENT.isoformat(), 5, "soon", datetime(2025, 1, 1)]),
    "version": st.sampled_from([1, 5, -1, "1"]),
    "extra": st.sampled_from([{}, {"a": 1}, {"a": float("inf")}, None, 5]),
    "more": st.sampled_from([None, 1, [1], {"b": None}, object()]),
    "roles": st.sampled_from([{}, {"a": "b"}, {"a": 1}]),
}
mapping = st.fixed_dictionaries({"name": st.just("n")}, optional={k: st.just(v) for k, v in {"domain": "d"}.items()})
odd = st.fixed_dictionaries({}, optional=values)


def outcome(make: Callable[[], Any]) -> Any:
    """What comes out: the records, or the words of the error."""
    try:
        return [dict(record) for record in make()]
    except vs.ValidationError as error:
        return str(error)


@settings(max_examples=400, deadline=None)
@given(st.lists(mapping | odd, min_size=1, max_size=4))
def test_columns_pass_what_records_pass_and_nothing_else(records: list[dict[str, Any]]) -> None:
    schema = schema_of(vs.Concept)
    one_by_one = outcome(lambda: [vs.Concept.parse(record, f"concepts[{n}]") for n, record in enumerate(records)])
    valid = columnar.checked(schema, columnar.from_mappings(records), len(records), columnar.ABSENT)
    if valid is None:
        assert isinstance(one_by_one, str)
        return
    assert [dict(record) for record in valid.records] == one_by_one
    encoded = outcome(
        lambda: [enumerate(schema.encode(record, f"c[{place}]")) for place, record in enumerate(valid.records)]
    )
    by_columns = outcome(lambda: [enumerate(row) for row in valid.rows({}, "c", 0)])
    if isinstance(encoded, str):
        assert isinstance(
            by_columns, str
        )  # of two bad values either may be named: columns go first one way, rows the other
    else:
        assert by_columns == encoded


BAD: list[tuple[str, Any, str]] = [
    ("quality", 7.5, "expected 0..1, got 7.5"),
    ("name", "", "expected at least 1 characters, got ''"),
    ("lemmas", ["a", 5], "[1]: expected text, got 5"),
    ("domain", "a\x00b", "cannot be stored: text with a NUL character (U+0000)"),
    ("tags", ["\\u0000", "a\x00"], "cannot be stored: text with a NUL character (U+0000)"),
    ("id", "a/b", "an id has no path separators and no '..', got 'a/b'"),
]


@pytest.mark.parametrize(("field", "value", "words"), BAD)
@pytest.mark.parametrize("source", ["objects", "sequences", "pandas", "mappings"])
def test_errors_name_the_place(
    source: str, field: str, value: Any, words: str, open_store: Callable[..., vs.Store]
) -> None:
    records = plain(40)
    records[17][field] = value
    store = open_store()
    given: Any = records if source == "objects" else SOURCES[source](records)
    if source == "objects":
        given = (vs.Concept.parse(r, f"concepts[{n}]") for n, r in enumerate(records))
    colon = "" if words.startswith("[") else ": "
    with pytest.raises(vs.ValidationError, match=re.escape(f"concepts[17].{field}{colon}{words}")):
        store.concepts.add(given, vectors=np.ones((40, 3)))
    assert len(store.concepts) == 0 and store.check().findings == ()


def test_a_required_field_that_is_null_somewhere_is_named(open_store: Callable[..., vs.Store]) -> None:
    with pytest.raises(vs.ValidationError, match=re.escape("concepts[2].name: is required")):
        open_store().concepts.add(pa.table({"name": ["a", "b", None]}), vectors=np.ones((3, 2)))
    with pytest.raises(vs.ValidationError, match=re.escape("concepts[0].name: is required")):
        open_store().concepts.add(pa.table({"domain": ["a"]}), vectors=np.ones((1, 2)))


@pytest.mark.parametrize(
    "nothing",
    [
        pd.DataFrame({"name": ["a", "b"], "quality": [np.nan, 0.5], "domain": [None, "d"], "more": [np.nan, 3]}),
        pd.DataFrame({"name": ["a", "b"], "quality": [pd.NA, 0.5], "domain": [pd.NaT, "d"], "more": [pd.NA, 3]}),
        pl.DataFrame({"name": ["a", "b"], "quality": [float("nan"), 0.5], "domain": [None, "d"], "more": [None, 3]}),
        pa.table({"name": ["a", "b"], "quality": [float("nan"), 0.5], "domain": [None, "d"], "more": [None, 3]}),
        {"name": ["a", "b"], "quality": np.array([np.nan, 0.5]), "domain": [None, "d"], "more": [None, 3]},
    ],
    ids=["pandas", "pandas NA", "polars", "arrow", "arrays"],
)
def test_nothing_is_left_out(nothing: Any, open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.concepts.add(nothing, vectors=np.ones((2, 2)))
    first, second = store.concepts.find()
    assert (first.quality, first.domain, first.extra) == (None, None, {})
    assert (second.quality, second.domain, second.extra) == (0.5, "d", {"more": 3})


def test_whole_numbers_that_pandas_made_floats_are_whole_again(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    frame = pd.DataFrame({"name": ["a", "b"], "number": [3, None], "size": [1, 2], "context": ["one", None]})
    assert frame["number"].dtype == float
    store.clusters.add(frame, vectors=np.ones((2, 2)))
    assert [(c.number, c.size, c.context) for c in store.clusters.find()] == [(3, 1, "one"), (None, 2, "default")]
    with pytest.raises(vs.ValidationError, match=re.escape("clusters[0].number: expected a whole number, got 3.5")):
        store.clusters.add(pd.DataFrame({"name": ["a", "b"], "number": [3.5, None]}), vectors=np.ones((2, 2)))


def test_structures_come_in_from_arrow(open_store: Callable[..., vs.Store]) -> None:
    pairs = [{"source": "a", "target": "b", "confidence": 0.5}]
    table = pa.table({"source_domain": ["x", "y"], "target_domain": ["u", "v"], "concept_mappings": [pairs, None]})
    roles = pa.array([[("agent", "x")], None], pa.map_(pa.string(), pa.string()))
    times = pa.array([MOMENT, None], pa.timestamp("us", "Europe/Berlin"))
    store = open_store()
    store.analogies.add(table, vectors=np.ones((2, 2)))
    store.concepts.add(pa.table({"name": ["a", "b"], "roles": roles, "created_at": times}), vectors=np.ones((2, 2)))
    assert [len(analogy.concept_mappings) for analogy in store.analogies.find()] == [1, 0]
    first, second = store.concepts.find()
    assert (first.roles, first.created_at) == ({"agent": "x"}, MOMENT)
    assert (second.roles, second.created_at) == ({}, second.updated_at)


@pytest.mark.parametrize(("number", "unit"), [(2**62, "us"), (-(2**62), "us"), (2**62, "s")])
def test_a_time_that_python_cannot_hold_is_named(number: int, unit: str, open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    times = pa.array([None, number], pa.timestamp(unit))
    with pytest.raises(vs.ValidationError, match="the column 'created_at', rows 0 to 1: a value cannot be read"):
        store.concepts.add(pa.table({"name": ["a", "b"], "created_at": times}), vectors=np.ones((2, 2)))
    assert len(store.concepts) == 0


# -- vectors -----------------------------------------------------------------------------------------------------------


def vector_columns(matrix: np.ndarray) -> dict[str, Any]:
    names = [f"n{n}" for n in range(len(matrix))]
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
    ragged = pa.array(matrix.tolist(), pa.list_(pa.float32()))
    frame = pl.DataFrame({"name": names}).with_columns(v=pl.Series(matrix.tolist(), dtype=pl.List(pl.Float32)))
    return {
        "fixed": pa.table({"name": names, "v": fixed}),
        "sliced": pa.concat_tables([pa.table({"name": names, "v": fixed}).slice(n, 1) for n in range(len(matrix))]),
        "lists": pa.table({"name": ["x", *names], "v": pa.concat_arrays([ragged[:1], ragged])}).slice(1),
        "batch": pa.record_batch({"name": names, "v": fixed}),
        "pandas": pd.DataFrame({"name": names, "v": list(matrix)}),
        "polars lists": frame,
        "polars arrays": frame.with_columns(pl.col("v").list.to_array(matrix.shape[1])),
        "numpy": {"name": names, "v": matrix},
        "sequences": {"name": names, "v": matrix.tolist()},
    }


@pytest.mark.parametrize("source", vector_columns(clustered(3, 2)))
def test_a_column_may_hold_the_vectors(source: str, open_store: Callable[..., vs.Store]) -> None:
    matrix = clustered(20, 6)
    store = open_store()
    store.concepts.add(vector_columns(matrix)[source], vectors="v")
    found = store.concepts.find()
    assert [c.extra for c in found] == [{}] * 20
    for n, query in enumerate(matrix):
        assert store.concepts.search(query, k=1)[0].record.name == f"n{n}"


def test_vectors_of_fixed_length_are_not_copied() -> None:
    matrix = clustered(10, 4)
    for source in ("fixed", "batch", "numpy"):
        table = as_columns(vector_columns(matrix)[source], vs.Concept)
        assert table is not None
        assert np.shares_memory(table.take("v", "")[1], matrix), source


def test_a_missing_vector_is_named(open_store: Callable[..., vs.Store]) -> None:
    concepts = open_store().concepts
    short: list[Any] = [[1.0, 2.0], None]
    for table in (
        pa.table({"name": ["a", "b"], "v": pa.array(short, pa.list_(pa.float32(), 2))}),
        pa.table({"name": ["a", "b"], "v": pa.array(short, pa.list_(pa.float32()))}),
        pd.DataFrame({"name": ["a", "b"], "v": short}),
        pl.DataFrame({"name": ["a", "b"], "v": short}),
        {"name": ["a", "b"], "v": short},
    ):
        with pytest.raises(vs.ValidationError, match=re.escape("concepts.vectors[1]: expected a vector, got null")):
            concepts.add(table, vectors="v")
    with pytest.raises(vs.ValidationError, match="expected numbers of one length"):
        concepts.add({"name": ["a", "b"], "v": [[1.0, 2.0], [1.0]]}, vectors="v")
    with pytest.raises(vs.ValidationError, match="there is no column 'w'; the columns are 'name', 'v'"):
        concepts.add({"name": ["a"], "v": [[1.0]]}, vectors="w")
    with pytest.raises(vs.ValidationError, match="'v' names a column, and the records are no table"):
        concepts.add([{"name": "a", "v": [1.0]}], vectors="v")


def test_each_space_may_have_a_column(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    text, relation = clustered(5, 4), clustered(5, 3, seed=1)
    table = {"a": [f"a{n}" for n in range(5)], "t": text, "r": relation}
    store.analogies.add(table, vectors={"text": "t", "relation": "r"})
    assert store.analogies.search(text[3], k=1)[0].record.a == "a3"
    assert store.analogies.search(relation[2], k=1, space="relation")[0].record.a == "a2"


# -- what is a table ---------------------------------------------------------------------------------------------------


def test_a_mapping_is_a_table_only_when_it_cannot_be_a_record(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    store.analogies.add({"a": "one", "tags": ["x", "y"]}, vectors=np.ones(2))
    store.analogies.add({"a": "two", "tags": ["x", "y"], "concept_mappings": []}, vectors=np.ones(2))
    assert [analogy.tags for analogy in store.analogies.find()] == [("x", "y"), ("x", "y")]
    store.analogies.add({"tags": [["x"], []], "a": ("three", "four")}, vectors=np.ones((2, 2)))
    assert [analogy.a for analogy in store.analogies.find()] == ["one", "two", "three", "four"]
    with pytest.raises(vs.ValidationError, match=re.escape("analogies.b: 3 values, and a has 2")):
        store.analogies.add({"a": ["x", "y"], "b": [1, 2, 3]})
    with pytest.raises(vs.ValidationError, match=re.escape("analogies.b: expected a sequence, one value a record")):
        store.analogies.add({"a": ["x", "y"], "b": "z"})
    with pytest.raises(vs.ValidationError, match="two columns are called 'a'"):
        store.analogies.add(pd.DataFrame([["x", "y"]], columns=["a", "a"]))
    with pytest.raises(vs.ValidationError, match=re.escape("analogies[0].extra[0].[key]: expected text, got 0")):
        store.analogies.add(pd.DataFrame([["x"]], columns=[0]), vectors=np.ones((1, 2)))
    assert store.analogies.add({"a": []}) == [] == store.analogies.add(pa.table({"a": []}), vectors=np.ones((0, 2)))


def test_arrow_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class Capsule:
        def __arrow_c_stream__(self, schema: object = None) -> object:
            raise AssertionError

    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(vs.LibraryMissing, match="a Capsule is read by pyarrow; .* pip install"):
        as_columns(Capsule(), vs.Concept)


def test_ids_follow_from_fields_and_double_ones_are_found(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    table = {"name": ["King", "Queen", "Rook"], "context": ["chess", None, "chess"], "id": [None, None, "own"]}
    assert store.concepts.add(table, vectors=np.ones((3, 2))) == ["chess:king", "default:queen", "own"]
    with pytest.raises(vs.DuplicateId, match=re.escape("concepts[2].id: 'default:a' is also concepts[0]")):
        store.concepts.add({"name": ["a", "b", " A"]}, vectors=np.ones((3, 2)))
    with pytest.raises(vs.DuplicateId, match=re.escape("concepts[1].id: 'own' exists already")):
        store.concepts.add({"name": ["a", "b"], "id": [None, "own"]}, vectors=np.ones((2, 2)))
    ulids = store.analogies.add({"a": ["x", "y"]}, vectors=np.ones((2, 2)))
    assert len(set(ulids)) == 2 and all(len(name) == 26 for name in ulids)


def test_texts_of_a_table_are_embedded(store: vs.Store) -> None:
    names = [f"word {n} is {n * 7}" for n in range(30)]
    store.concepts.add(pa.table({"name": names}))
    assert store.concepts.search("word 13 is 91", k=1)[0].record.name == names[13]
    assert store.concepts.search("91", k=1, mode="text")[0].record.name == names[13]


def test_a_table_updates_and_upserts(store: vs.Store) -> None:
    store.concepts.add({"id": ["a", "b"], "name": ["a", "b"], "domain": ["x", "x"]})
    assert store.concepts.update(pl.DataFrame({"id": ["b", "a"], "domain": ["y", None], "tags": [["t"], None]})) == 2
    assert [(c.id, c.domain, c.tags) for c in store.concepts.find(order="id")] == [("a", "x", ()), ("b", "y", ("t",))]
    store.concepts.upsert(pa.table({"id": ["b", "c"], "name": ["b", "c"]}))
    assert [(c.id, c.version) for c in store.concepts.find(order="id")] == [("a", 2), ("b", 3), ("c", 1)]


def test_more_rows_than_a_chunk(open_store: Callable[..., vs.Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vectorstore.writing.CHUNK", 700)
    store = open_store()
    records = plain()
    records[1400]["quality"] = 7.5
    with pytest.raises(vs.ValidationError, match=re.escape("concepts[1400].quality: expected 0..1, got 7.5")):
        store.concepts.add(columns_of(records), vectors=clustered(COUNT, DIM))
    store.concepts.add(pa.table(columns_of(plain())), vectors=clustered(COUNT, DIM))
    assert len(store.concepts) == COUNT and store.check().findings == ()


# -- storage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 49, 50, 51, 149, 150])
def test_rows_go_in_as_they_are_many_or_few(count: int) -> None:
    alike = ["text", "", None, 1, 0, 1.0, -0.0, 2.5, b"bytes", 2**60]
    mixed = [[1, 1.0], [0.0, -0.0], [None, 0], ["1", 1], [0, 0.0], [b"a", "a"]]
    columns: dict[str, Any] = {"key": range(7, 7 + count)}
    columns |= {f"a{n}": [value] * count for n, value in enumerate(alike)}
    columns |= {f"m{n}": [pair[place % 2] for place in range(count)] for n, pair in enumerate(mixed)}
    connection = sqlite3.connect(":memory:")
    connection.execute(f'CREATE TABLE "t"({", ".join(columns)})')
    insert_columns(connection, '"t"', columns)
    found = connection.execute("SELECT * FROM t ORDER BY key").fetchall()
    assert repr(found) == repr(list(zip(*columns.values(), strict=True)))


def test_tags_are_stored_whatever_they_say(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    odd = ['quo"te', "back\\slash", "new\nline", "\x1f", "ключ", "😀", "$.a", "[0]", "it's", "\u2028"]
    store.concepts.add([{"name": f"n{n}", "tags": [tag, "all", tag]} for n, tag in enumerate(odd)], np.ones((10, 2)))
    for n, tag in enumerate(odd):
        assert [c.name for c in store.concepts.find({"tags__has": tag})] == [f"n{n}"]
    assert store.concepts.count({"tags__has": "all"}) == 10 and store.check().findings == ()


# -- kinds of one's own ------------------------------------------------------------------------------------------------


def told(value: str, info: ValidationInfo) -> str:
    return value + info.data["first"]


class Inner(BaseModel):
    number: int = 0


class Whole(vs.Record, table="whole"):
    first: str
    second: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.second < self.first:
            raise ValueError("second comes before first")
        return self


class Around(vs.Record, table="around"):
    first: str
    second: Annotated[str, AfterValidator(told)] = ""


class Own(vs.Record, table="own"):
    first: str

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{**fields, "first": fields.get("first", "made")})


class Alias(vs.Record, table="alias"):
    first: str = Field(validation_alias="erste")


class Late(vs.Record, table="late"):
    first: str = ""
    twice: str = ""

    def model_post_init(self, context: Any) -> None:
        self.__dict__["twice"] = self.first * 2


class Fields(vs.Record, table="fields"):
    """Everything here concerns one field alone, so it goes by columns."""

    first: Annotated[str, AfterValidator(str.upper)]
    inner: Inner = Inner()
    listed: list[int] = []
    counted: int = Field(default_factory=itertools.count().__next__)

    @field_validator("first")
    @classmethod
    def _no_x(cls, value: str) -> str:
        if "X" in value:
            raise ValueError("no x, please")
        return value


@pytest.mark.parametrize("kind", [Whole, Around, Own, Alias, Late])
def test_kinds_that_look_at_more_than_a_field_are_judged_record_by_record(kind: type[vs.Record]) -> None:
    schema = schema_of(kind)
    name = "erste" if kind is Alias else "first"
    assert columnar.checked(schema, {name: ["a"]}, 1, None) is None
    with vs.open(":memory:", embedder=None, kinds=[kind]) as store:
        collection = store.collection(kind)
        if kind is Alias:
            with pytest.raises(vs.ValidationError):
                collection.add({"first": ["a", "b"]})
            return
        second = {"second": ["b", "c"]} if kind in (Whole, Around) else {}
        collection.add({"first": ["a", "b"], **second})
        found = [dict(record) for record in collection.find()]
        alone = [dict(kind(**row)) for row in as_columns({"first": ["a", "b"], **second}, kind) or ()]
        for field in ("first", "second", "twice"):
            assert [row.get(field) for row in found] == [row.get(field) for row in alone]
        if kind is Whole:
            with pytest.raises(vs.ValidationError, match=re.escape("whole[1]: second comes before first")):
                collection.add({"first": ["a", "b"], "second": ["b", "a"]})


def test_kinds_with_checks_of_single_fields_go_by_columns() -> None:
    schema = schema_of(Fields)
    valid = columnar.checked(schema, {"first": ["a", "b"], "inner": [None, {"number": "5"}]}, 2, None)
    assert valid is not None
    first, second = valid.records
    assert (first.first, second.first, first.inner.number, second.inner.number) == ("A", "B", 0, 5)
    assert second.counted == first.counted + 1 and first.listed is not second.listed
    with vs.open(":memory:", embedder=None, kinds=[Fields]) as store:
        with pytest.raises(vs.ValidationError, match=re.escape("fields[1].first: no x, please")):
            store.collection(Fields).add({"first": ["a", "x"]})
        store.collection(Fields).add(pa.table({"first": ["a", "b"], "inner": [None, {"number": 5}]}))
        assert [record.inner.number for record in store.collection(Fields).find()] == [0, 5]
        assert store.check().findings == ()


def test_a_column_of_names_is_folded_as_each_of_them_is() -> None:
    """All at once where that is the same; white space, line ends, letters beyond ASCII and holes are met alone."""
    dice = random.Random(7)
    parts = ["King", "a b", "A  B", " lead", "trail ", "\t", "\n", "x\ny", "\x1d", "", "Straße", "É", "ﬁ", None]
    for size in (0, 1, 2, 5):
        for _ in range(300):
            column = [dice.choice(parts) for _ in range(size)]
            assert folded_column(column) == [None if name is None else fold(name) for name in column], column
    plain = ["King", None, "Queen Anne", "", "x"]
    assert folded_column(plain) == ["king", None, "queen anne", "", "x"]


def test_a_number_that_no_float_can_hold_is_refused_as_a_vector(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    with pytest.raises(vs.ValidationError, match="concepts.vectors"):
        store.concepts.add({"name": "a"}, vectors=[[10**400, 2]])
    assert len(store.concepts) == 0
