"""What no import may stumble over: values of a wrong kind in files of ours and of others, each refused by its place."""

from __future__ import annotations

import json
import re
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as parquet
import pytest

import vectorstore as vs

DATA = Path(__file__).parent / "data"
HUGE = 10**400


@pytest.fixture
def store() -> Iterator[vs.Store]:
    with vs.open(":memory:", embedder=None, auto_publish=False) as opened:
        yield opened
        assert opened.check().findings == ()


def refused(store: vs.Store, message: str, source: Any, *words: Any, **options: Any) -> None:
    """The import is refused with these words, and nothing is written."""
    before = store.moment.seq
    with pytest.raises(vs.ValidationError, match=re.escape(message)):
        store.import_(source, *words, **options)
    assert store.moment.seq == before


# -- vectors -----------------------------------------------------------------------------------------------------------


def jsonl(path: Path, *vectors: Any) -> Path:
    """A line for each vector, of concepts r0, r1, ..."""
    path.write_text(
        "".join(
            json.dumps({"kind": "concepts", "record": {"id": f"r{n}", "name": "x"}, "vectors": {"text": vector}}) + "\n"
            for n, vector in enumerate(vectors)
        )
    )
    return path


NO_VECTORS = [
    ([[1, 2]], "expected a list of numbers, got lists within a list: [[1, 2]]"),
    ([[[1, 2]]], "expected a list of numbers, got lists within a list: [[[1, 2]]]"),
    ([[1], [1, 2]], "expected numbers of one length, got something else"),
    ({"float32": 5}, "expected a list of numbers, got no list: 5"),
    ({"float32": None}, "expected a list of numbers, got no list: None"),
    ({"float32": {"a": 1}}, "expected numbers of one length, got something else"),
    ([HUGE, 2], "expected finite numbers below 1e19, got one above 1e308"),
    (["one", 2], "expected numbers of one length, got something else: text or times, which are no"),
    ([], "expected 1..65536 dimensions, got 0"),
]


@pytest.mark.parametrize(("vector", "told"), NO_VECTORS)
def test_a_vector_that_is_no_list_of_numbers_is_refused_wherever_it_stands(
    vector: Any, told: str, store: vs.Store, tmp_path: Path
) -> None:
    path = tmp_path / "kb.jsonl"
    for vectors, line in (([vector], 1), ([vector, vector], 1), ([vector, [1, 2]], 1), ([[1, 2], vector], 2)):
        refused(store, f"{path}:{line}: concepts.vectors: {told}", jsonl(path, *vectors))
    assert len(store.concepts) == 0


@pytest.mark.parametrize(("vector", "told"), NO_VECTORS)
@pytest.mark.parametrize("rule", ["overwrite", "merge"])
def test_a_vector_that_is_none_replaces_none(
    rule: str, vector: Any, told: str, store: vs.Store, tmp_path: Path
) -> None:
    path = tmp_path / "kb.jsonl"
    store.import_(jsonl(path, [1, 2]))
    refused(store, f"{path}:1: concepts.vectors: {told}", jsonl(path, vector), on_conflict=rule)
    assert store.concepts.vectors(["r0"]).tolist() == [[1, 2]]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([1, 2]), "expected a list of numbers, got no list: 1"),
        (pa.array([np.array([1, 2], np.float32).tobytes()] * 2), "expected numbers of one length, got something else"),
        (pa.array([[[1.0]], [[2.0]]]), "expected numbers of one length, got something else"),
    ],
)
def test_a_column_of_vectors_that_are_no_lists_of_numbers_is_refused(
    column: Any, told: str, store: vs.Store, tmp_path: Path
) -> None:
    table = pa.table({"name": ["a", "b"], "vectors.text": column})
    refused(store, f"<Table>: row 1: concepts.vectors: {told}", table, kind="concepts")
    parquet.write_table(table, tmp_path / "c.parquet")
    refused(store, f"{tmp_path}/c.parquet: row 1: concepts.vectors: {told}", tmp_path / "c.parquet", kind="concepts")


def test_a_cell_of_lists_within_a_list_is_no_vector(store: vs.Store, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text('id,name,vectors.text\na,a,"[[1, 2]]"\n')
    refused(store, f"{path}:2: concepts.vectors: expected a list of numbers, got lists within", path, kind="concepts")


# -- tables ------------------------------------------------------------------------------------------------------------

UNEQUAL = [
    pa.chunked_array([[[1.0, 2.0]], [[3.0]]]),
    pa.chunked_array([pa.array([[1.0, 2.0]]), pa.array([], pa.list_(pa.float64())), pa.array([[3.0]])]),
]


@pytest.mark.parametrize("vectors", UNEQUAL)
def test_chunks_of_unequal_width_are_no_vectors(vectors: Any, store: vs.Store) -> None:
    columns = {"name": ["a", "b"], "vector": vectors}
    for given in (columns, pa.table(columns), pl.DataFrame(pa.table(columns))):
        with pytest.raises(vs.ValidationError, match=r"concepts\.vectors: expected numbers of one length"):
            store.concepts.add(given, vectors="vector")
    said = "<Table>: row 2: concepts.vectors: expected 2 dimensions, got 1"
    refused(store, said, pa.table({"name": ["a", "b"], "vectors.text": vectors}), kind="concepts")
    assert len(store.concepts) == 0


def test_a_table_of_a_newer_format_is_told_as_a_log_of_one_is(store: vs.Store, tmp_path: Path) -> None:
    table = pa.table({"name": ["a"]}).replace_schema_metadata({"vectorstore": json.dumps({"vectorstore": 99})})
    parquet.write_table(table, tmp_path / "c.parquet")
    for name, new in (("c.arrow", ipc.new_file), ("s.arrow", ipc.new_stream)):
        with pa.OSFile(str(tmp_path / name), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    (tmp_path / "c.jsonl").write_text('{"vectorstore": 99}\n')
    for name in ("c.parquet", "c.arrow", "s.arrow", "c.jsonl"):
        told = f"^{re.escape(str(tmp_path / name))} has format 99; this (one|vectorstore) reads up to 1: upgrade it"
        with pytest.raises(vs.NewerFormat, match=told):
            store.import_(tmp_path / name)


def test_a_file_that_is_no_table_is_still_said_to_be_none(store: vs.Store, tmp_path: Path) -> None:
    for form in ("parquet", "arrow"):
        path = tmp_path / f"c.{form}"
        path.write_bytes(b"none at all")
        refused(store, f"{path}: is no {form} file: ", path, kind="concepts")


# -- soft-logic --------------------------------------------------------------------------------------------------------


def registry(root: Path, **said: Any) -> Path:
    """A store of one context."""
    here = root / "kb" / "contexts" / "default"
    here.mkdir(parents=True, exist_ok=True)
    for name, each in said.items():
        (here / f"{name}.json").write_text(json.dumps(each))
    return root / "kb"


@pytest.mark.parametrize("value", [5, 7.5, True, "text"])
@pytest.mark.parametrize(
    ("component", "field"),
    [
        ("frames", "inherits_from"),
        ("frames", "core_elements"),
        ("frames", "peripheral_elements"),
        ("frames", "lexical_units"),
        ("elements", "semantic_constraints"),
        ("elements", "typical_fillers"),
        ("fields", "core_concepts"),
        ("fields", "associated_frames"),
    ],
)
def test_a_field_of_a_registry_that_should_be_a_list_is_named(
    component: str, field: str, value: Any, store: vs.Store, tmp_path: Path
) -> None:
    if (field, value) == ("inherits_from", "text"):
        return  # one parent
    said = {field: value}
    if component == "fields":
        kb, where = registry(tmp_path, fields={"semantic_fields": {"x": said}}), "semantic_fields['x']"
    elif component == "frames":
        kb, where = registry(tmp_path, frames={"frames": {"F": {"name": "F", **said}}}), "frames['F']"
    else:
        frame = {"name": "F", "core_elements": ["A", {"name": "B", **said}]}
        kb, where = registry(tmp_path, frames={"frames": {"F": frame}}), "frames['F'].core_elements[1]"
    refused(store, f"{kb}: default: {where}.{field}: expected a list, got {value!r}", kb)


def test_fields_of_a_registry_may_be_empty_in_any_way(store: vs.Store, tmp_path: Path) -> None:
    empty: dict[str, Any] = {"core_elements": None, "peripheral_elements": {}, "lexical_units": "", "inherits_from": 0}
    frame = {"name": "G", "inherits_from": "F", "core_elements": [{"name": "A", "semantic_constraints": None}]}
    field = {"core_concepts": {"default:king": 1}, "associated_frames": None}
    kb = registry(tmp_path, frames={"frames": {"F": empty, "G": frame}}, fields={"semantic_fields": {"x": field}})
    assert store.import_(kb).added == {"frames": 2, "frame_relations": 1, "fields": 1}
    (found,) = store.fields
    assert found.core == ("default:king",)


def test_a_centroid_of_lists_within_a_list_is_no_vector(store: vs.Store, tmp_path: Path) -> None:
    for odd in ([[1, 2]], [HUGE, 1]):
        kb = registry(tmp_path, clusters={"clusters": {"0": {"centroid": odd}, "1": {"centroid": [1, 2]}}})
        refused(store, f"{kb}/contexts/default: item 1: clusters.vectors: expected ", kb)


# -- Chroma ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "UPDATE embeddings SET embedding_id = x'00ff' WHERE id = 1",
            "birds: record 1: embedding_id: expected text, got b'\\x00\\xff'",
        ),
        (
            "UPDATE collections SET dimension = 'six'",
            "birds: dimension: expected a whole number of at least 1, got 'six'",
        ),
        ("UPDATE collections SET dimension = 6.5", "birds: dimension: expected a whole number of at least 1, got 6.5"),
        ("UPDATE collections SET dimension = -6", "birds: dimension: expected a whole number of at least 1, got -6"),
        ("UPDATE collections SET name = x'00' WHERE name = 'birds'", "collections: name: expected text, got b'\\x00'"),
        (
            "UPDATE segments SET id = x'00' WHERE scope = 'VECTOR' AND collection = "
            "(SELECT id FROM collections WHERE name = 'birds')",
            "birds: the id of its index: expected text, got b'\\x00'",
        ),
        (
            "INSERT INTO embedding_metadata_array (id, key, string_value) VALUES (1, 'name', 'x')",
            "birds: record 1: 'name' is both a value and a list; remove one of them with Chroma",
        ),
    ],
)
def test_a_value_of_a_wrong_kind_in_a_folder_of_chroma_is_named(
    statement: str, told: str, store: vs.Store, tmp_path: Path
) -> None:
    path = tmp_path / "chroma"
    with zipfile.ZipFile(DATA / "chroma" / "folder.zip") as packed:
        packed.extractall(path)
    connection = sqlite3.connect(path / "chroma.sqlite3", isolation_level=None)
    connection.execute(statement)
    connection.close()
    refused(store, f"{path}/chroma.sqlite3: {told}", path, collection="birds")


# -- WordNet -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("02 r 01 quickly 0 001 ! 00161630 x 0101", "expected a pointer to one of n, v, a, s, r, got 'x'"),
        ("02 s 01 fast 0 000", "expected a satellite to have a pointer & to its head, got none"),
        ("02 s 01 fast 0 001 ^ 00161630 a 0000", "expected a satellite to have a pointer & to its head, got none"),
        ("02 r 01 quickly 0 001 ! 00161630", "expected 1 words and 1 pointers of four fields; it is cut short"),
        ("02 r 01 quickly 0 001", "expected 1 words and 1 pointers of four fields; it is cut short"),
        ("02 r 01 quickly 0 999999999999", "expected 1 words and 999999999999 pointers of four fields"),
        ("02 r 01 quickly 0 -01", "expected 1 words and -1 pointers of four fields"),
        ("02 r -1 quickly 0 000", "expected -1 words and 0 pointers of four fields"),
        ("-1 r 01 quickly 0 000", "expected a file number in 0..44, got -1"),
        ("45 r 01 quickly 0 000", "expected a file number in 0..44, got 45"),
    ],
)
def test_a_line_of_wordnet_that_leads_nowhere_is_named(line: str, told: str, store: vs.Store, tmp_path: Path) -> None:
    path = tmp_path / "data.adv"
    path.write_text(f"00161630 02 r 01 slowly 0 000 | x\n00085811 {line} | fast\n")
    refused(store, f"{path}:2: is no line of a WordNet data file: {told}", tmp_path, "wordnet")


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["3", 2.5, [3], float("nan")])
def test_a_limit_of_words_is_a_whole_number(limit: Any, store: vs.Store, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("king 1 2\nqueen 2 3\nx 2 2\n")
    told = f"limit: expected a whole number of at least 1, got {limit!r}"
    refused(store, told, tmp_path / "v.txt", "words", limit=limit)
    assert store.import_(tmp_path / "v.txt", "words", limit=2).added == {"concepts": 2}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (5, "words: expected a list of texts or a file with one a line, got 5"),
        (b"abc", "words: expected a list of texts or a file with one a line, got b'abc'"),
        ({"a": 1}, "words: expected a list of texts or a file with one a line, got {'a': 1}"),
        ({"a"}, "words: expected a list of texts or a file with one a line, got {'a'}"),
        ([1, 2, 3], "words[0]: expected text, got 1"),
        (["a", "b", None], "words[2]: expected text, got None"),
        (["a", "b\ud800", "c"], "words[1]: expected text without lone surrogates, got 'b\\ud800'"),
        (["a", "b"], "2 words for an array of shape (3, 3) of float64"),
    ],
)
def test_words_of_an_array_are_texts(words: Any, told: str, store: vs.Store, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3))
    refused(store, told, tmp_path / "v.npy", "words", words=words)


@pytest.mark.parametrize("words", [["a", "b", "c"], ("a", "b", "c"), np.array(["a", "b", "c"]), iter("abc")])
def test_words_of_an_array_come_in_any_sequence(words: Any, store: vs.Store, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(3))
    assert store.import_(tmp_path / "v.npy", "words", words=words).added == {"concepts": 3}
    assert store.concepts.vectors(["word:b"]).tolist() == [[0, 1, 0]]
