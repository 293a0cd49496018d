"""What seldom comes in or goes out: odd lines, tables, vectors and names of files, each refused by its place or kept."""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

import vectorstore as vs
from vectorstore.interchange import cells, incoming, outgoing
from vectorstore.interchange import opened as opening

HEADER: dict[str, Any] = {
    "vectorstore": 1,
    "store": "x",
    "seq": 1,
    "at": "2026-01-01T00:00:00Z",
    "records": {"concepts": 1},
    "spaces": {
        "concepts.text": {"dim": 2, "metric": "cosine", "model": None, "probe_text": None, "probe_vector": None}
    },
}


class Leaf(vs.Record, table="leaves"):
    """Belongs to a concept."""

    of: Annotated[str, vs.Ref("concepts", cascade=True)]


@pytest.fixture
def store() -> Iterator[vs.Store]:
    with vs.open(":memory:", embedder=None, auto_publish=False, kinds=[Leaf]) as opened:
        yield opened
        assert opened.check().findings == ()


def concept(id: str, vector: Any = None, **fields: Any) -> dict[str, Any]:
    line: dict[str, Any] = {"kind": "concepts", "record": {"id": id, "name": id, **fields}}
    return line if vector is None else {**line, "vectors": {"text": vector}}


def lines(path: Path, *said: Any) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in said))
    return path


def written(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def refused(store: vs.Store, message: str, source: Any, *words: Any, **options: Any) -> None:
    """The import is refused with these words, and nothing is written."""
    before = store.moment.seq
    with pytest.raises(vs.ValidationError, match=re.escape(message)):
        store.import_(source, *words, **options)
    assert store.moment.seq == before


# -- lines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dim": "2"}, "concepts.text is no vector space"),
        ({"metric": 5}, "concepts.text is no vector space"),
        ({"probe_vector": 5}, "expected base 64, got 5"),
        ({"probe_vector": "AAA"}, "bad base 64"),
    ],
)
def test_a_header_whose_space_is_none_is_refused(
    change: dict[str, Any], told: str, store: vs.Store, tmp_path: Path
) -> None:
    header = copy.deepcopy(HEADER)
    header["spaces"]["concepts.text"] |= change
    path = lines(tmp_path / "kb.jsonl", header, concept("a", [1, 2]))
    refused(store, f"{path}:1: is no header of an export: {told}", path)


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        ([1, 2], "vectors: expected an object of vectors by space, got '[1, 2]'"),
        ({"text": 5}, "vectors.text: expected numbers, or an object with float32"),
        ({"text": {"float32": [1, 2], "colour": 1}}, "vectors.text: expected numbers, or an object with float32"),
        ({"text": {"float32": [1, 2], "source": 5}}, "vectors.text.source: expected text, got 5"),
        ({"text": {"float32": [1, 2], "confidence": 2}}, "vectors.text.confidence: expected 0..1, got 2"),
        ({"text": {"float32": [1, 2], "updates": -1}}, "vectors.text.updates: expected a whole number, zero or more"),
    ],
)
def test_a_vector_that_says_what_none_can_is_named_by_its_line(
    vectors: Any, told: str, store: vs.Store, tmp_path: Path
) -> None:
    line = {"kind": "concepts", "record": {"name": "b"}, "vectors": vectors}
    path = lines(tmp_path / "kb.jsonl", concept("a", [1, 2]), line)
    refused(store, f"{path}:2: {told}", path)


def test_a_record_may_have_a_field_that_is_called_kind(store: vs.Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "birds.jsonl", {"id": "wren", "name": "wren", "kind": "bird", "deleted": False})
    refused(store, f'{path}:1: expected {{"kind": ..., "record": {{...}}}}', path)
    assert store.import_(path, kind="concepts").added == {"concepts": 1}
    assert store.concepts.get("wren").extra == {"kind": "bird", "deleted": False}


def test_a_deletion_without_its_kind_is_one_of_the_kind_that_is_named(store: vs.Store, tmp_path: Path) -> None:
    store.concepts.add({"id": "wren", "name": "wren"})
    path = lines(tmp_path / "birds.jsonl", {"deleted": "wren"}, {"id": "rook", "name": "rook"})
    done = store.import_(path, kind="concepts", on_conflict="overwrite")
    assert (done.deleted, done.added) == ({"concepts": 1}, {"concepts": 1})
    assert [each.id for each in store.concepts] == ["rook"]


def test_a_json_file_may_be_one_record(store: vs.Store, tmp_path: Path) -> None:
    path = written(tmp_path / "one.json", '{"id": "one", "name": "the one"}')
    assert store.import_(path, kind="concepts").added == {"concepts": 1}
    assert store.concepts.get("one").name == "the one"


def test_a_vector_of_another_origin_is_another_vector(store: vs.Store, tmp_path: Path) -> None:
    store.import_(lines(tmp_path / "a.jsonl", concept("a", {"float32": [1, 2], "source": "one"})))
    again = lines(tmp_path / "b.jsonl", concept("a", {"float32": [1, 2], "source": "two", "confidence": 0.5}))
    assert store.import_(again, on_conflict="overwrite").overwritten == {"concepts": 1}
    found = store.concepts.vector_info("a")
    assert (found.source, found.confidence) == ("two", 0.5)
    assert store.import_(again, on_conflict="overwrite").unchanged == {"concepts": 1}


def test_a_value_that_looks_like_a_place_stays_as_it_is(store: vs.Store, tmp_path: Path) -> None:
    store.concepts.add({"id": "a", "name": "a"})
    path = lines(tmp_path / "c.jsonl", concept("b"), concept("c", quality="concepts[9]"))
    refused(store, f"{path}:2: concepts.quality: expected a number, got 'concepts[9]'", path)


def test_an_owner_that_is_no_id_is_named_by_its_line(store: vs.Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "l.jsonl", concept("a"), {"kind": "leaves", "record": {"id": "l", "of": 5}})
    refused(store, f"{path}:2: leaves.of: expected text, got 5", path)


def test_a_file_that_is_just_one_chunk_long_comes_whole(
    store: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "CHUNK", 2)
    told: list[tuple[int, int]] = []
    path = lines(tmp_path / "c.jsonl", *map(concept, "abcd"))
    done = store.import_(path, progress=lambda count, of: told.append((count, of)))
    assert done.added == {"concepts": 4} and told == [(2, 4), (4, 4)]


def test_an_import_gives_up_where_others_keep_changing_its_records(store: vs.Store, tmp_path: Path) -> None:
    store.concepts.add({"id": "a", "name": "a"})
    turns: list[int] = []

    def other_writer(count: int, of: int) -> None:
        turns.append(count)
        store.concepts.update({"id": "a", "definition": f"turn {len(turns)}"})

    path = lines(tmp_path / "c.jsonl", concept("a", definition="mine"), concept("b"))
    with pytest.raises(vs.ConflictError, match="other writers kept changing the same records; try again later"):
        store.import_(path, on_conflict="overwrite", progress=other_writer)
    assert len(turns) == 20 and store.concepts.get("a").definition == "turn 20" and "b" not in store.concepts


def test_a_rule_that_there_is_none_of_is_refused(store: vs.Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "c.jsonl", concept("a"))
    refused(store, "on_conflict: expected one of", path, on_conflict="replace")
    with vs.open(":memory:", embedder=None, contracts=False) as other:
        refused(other, "on_conflict: expected one of", path, on_conflict="replace")


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_folder_is_no_file_of_lines(store: vs.Store, tmp_path: Path) -> None:
    refused(store, f"{tmp_path}: is no plain file", tmp_path, "jsonl")


@pytest.mark.parametrize(("name", "data"), [("c.csv.gz", b"id,name\na,b\n"), ("c.json.gz", b'[{"name": "a"}]')])
def test_a_packed_file_that_was_cut_short_is_refused(name: str, data: bytes, store: vs.Store, tmp_path: Path) -> None:
    path = written(tmp_path / name, gzip.compress(data))
    whole = path.read_bytes()
    for cut in (1, 8, 9):
        path.write_bytes(whole[:-cut])
        refused(store, f"{path}: was cut short; take another copy", path, kind="concepts")
    path.write_bytes(whole)
    assert store.import_(path, kind="concepts").added == {"concepts": 1}


def test_a_file_that_is_too_large_to_be_read_at_once_is_refused(tmp_path: Path) -> None:
    for path in (written(tmp_path / "a.json", b"[1, 2]"), written(tmp_path / "a.json.gz", gzip.compress(b"[1, 2]"))):
        assert opening.whole_bytes(path, 6) == b"[1, 2]"
        with pytest.raises(vs.ValidationError, match=f"{path}: is larger than 0 MB and would be read at once"):
            opening.whole_bytes(path, 5)


def test_a_packed_file_may_be_closed_twice(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gz", gzip.compress(b"abc"))
    with path.open("rb") as raw:
        guarded = opening._Guarded(path, raw, path.stat().st_size)
        assert guarded.read(2) == b"ab"
        guarded.close()
        guarded.close()
        assert raw.closed and guarded.closed


def test_blank_lines_of_a_csv_count_and_say_nothing(store: vs.Store, tmp_path: Path) -> None:
    path = written(tmp_path / "c.csv", 'id,name\n\na,"one\n\ntwo"\n \nb,three\n')
    assert store.import_(path, kind="concepts").added == {"concepts": 2}
    assert [each.name for each in store.concepts] == ["one\n\ntwo", "three"]
    path.write_text("id,name\n\nc,d\n\ne\n")
    refused(store, f"{path}:5: expected 2 cells, got 1", path, kind="concepts")


def test_a_quote_that_is_never_closed_is_not_read_to_the_end(
    store: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "MAX_LINE", 40)
    read: list[int] = []
    real = opening.lines_of

    def noted(*given: Any, **options: Any) -> Iterator[tuple[int, bytes]]:
        for number, line in real(*given, **options):
            read.append(number)
            yield number, line

    monkeypatch.setattr(cells, "lines_of", noted)
    path = written(tmp_path / "c.csv", 'id,name\na,"begins\n' + "and goes on\n" * 100)
    refused(store, f"{path}:2: a quote is opened and not closed", path, kind="concepts")
    assert 2 < read[-1] < 10


def test_an_array_of_ids_is_a_list_of_whole_numbers_or_texts(store: vs.Store, tmp_path: Path) -> None:
    import faiss

    index = faiss.IndexFlatL2(3)
    index.add(np.eye(3, dtype=np.float32))
    faiss.write_index(index, str(tmp_path / "v.faiss"))
    for ids, told in ((np.eye(3, dtype=np.int64), "int64, shape (3, 3)"), (np.arange(3.0), "float64, shape (3,)")):
        np.save(tmp_path / "ids.npy", ids)
        said = f"expected a list of ids, got an array of {told}"
        refused(store, f"{tmp_path / 'ids.npy'}: {said}", tmp_path / "v.faiss", ids=tmp_path / "ids.npy")
    np.save(tmp_path / "ids.npy", np.array(["x", "y", "z"]))
    store.import_(tmp_path / "v.faiss", ids=tmp_path / "ids.npy")
    assert store.concepts.vectors(["y"]).tolist() == [[0, 1, 0]]


# -- going out ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("a.jsonl", {"format": "xml"}, "format: expected one of"),
        ("a.jsonl", {"format": "csv", "kinds": "concepts"}, "is named like jsonl, and format='csv' is asked for"),
        ("a.jsonl", {"vectors": "some"}, "vectors: expected one of"),
    ],
)
def test_an_export_that_cannot_be_leaves_nothing(
    name: str, options: dict[str, Any], told: str, store: vs.Store, tmp_path: Path
) -> None:
    with vs.open(":memory:", embedder=None, contracts=False) as other:
        for each in (store, other):
            with pytest.raises(vs.ValidationError, match=told):
                each.export(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_tables_has_a_file_for_each_kind_that_has_records(store: vs.Store, tmp_path: Path) -> None:
    store.concepts.add([{"id": "a", "name": "a"}])
    store.export(tmp_path / "tables", format="csv", kinds=["concepts", "leaves"])
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["concepts.csv"]
    with vs.open(":memory:", embedder=None) as other:
        assert other.import_(tmp_path / "tables").added == {"concepts": 1}


def test_a_parquet_file_is_written_group_by_group(
    store: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.concepts.add([{"id": f"c{n:04}", "name": f"n{n}"} for n in range(1100)])
    sizes = {}
    for rows in (1, 600, 2000):
        monkeypatch.setattr(outgoing, "ROW_GROUP", rows)
        path = tmp_path / f"{rows}.parquet"
        store.export(path, kinds="concepts")
        with parquet.ParquetFile(path) as file:
            sizes[rows] = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        with vs.open(":memory:", embedder=None) as other:
            assert other.import_(path).added == {"concepts": 1100}
    assert sizes[1] == [512, 512, 76] and sizes[600] == [1024, 76] and sizes[2000] == [1100]


# -- tables ------------------------------------------------------------------------------------------------------------


def test_what_is_no_table_is_no_table_in_memory(store: vs.Store) -> None:
    refused(store, "expected a path or a table, got int", 42, kind="concepts")
    refused(store, "takes neither format nor options, got 'csv'", {"name": ["a"]}, "csv", kind="concepts")
    refused(store, "takes neither format nor options, got {'limit': 1}", {"name": ["a"]}, kind="concepts", limit=1)


def test_a_folder_without_tables_is_said_to_be_one(store: vs.Store, tmp_path: Path) -> None:
    lines(tmp_path / "concepts.jsonl", {"name": "a"})
    refused(store, f"{tmp_path}: holds no tables (.parquet, .arrow, .csv) named after kinds", tmp_path, "csv")


def test_a_table_of_a_newer_version_is_left_alone(store: vs.Store, tmp_path: Path) -> None:
    store.concepts.add({"id": "a", "name": "a"})
    path = tmp_path / "c.parquet"
    store.export(path, kinds="concepts")
    table = parquet.read_table(path)
    for said, error, told in (
        ({"vectorstore": 99}, vs.VectorstoreError, "has format 99; this one reads up to 1: upgrade it"),
        ({"vectorstore": 1, "spaces": [], "kind": "concepts"}, vs.ValidationError, "is no header of an export"),
    ):
        changed = table.replace_schema_metadata({"vectorstore": json.dumps(said)})
        parquet.write_table(changed, path)
        with pytest.raises(error, match=told):
            store.import_(path, on_conflict="overwrite")
    assert store.concepts.get("a").version == 1


def test_a_column_of_vectors_that_are_none_is_refused(store: vs.Store, tmp_path: Path) -> None:
    ragged = pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32()))
    parquet.write_table(pa.table({"name": ["a", "b"], "vectors.text": ragged}), tmp_path / "c.parquet")
    with pytest.raises(
        vs.DimensionError, match=f"{tmp_path}/c.parquet: row 2: concepts.vectors: expected 2 dimensions"
    ):
        store.import_(tmp_path / "c.parquet", kind="concepts")
    full = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))
    for hashes in (pa.array([b"short", None]), pa.array([5, None])):
        table = pa.table({"name": ["a", "b"], "vectors.text": full, "vectors.text.hash": hashes})
        parquet.write_table(table, tmp_path / "c.parquet")
        said = f"{tmp_path}/c.parquet: row 1: vectors.text.hash: expected 16 bytes, got {hashes[0].as_py()!r}"
        refused(store, said, tmp_path / "c.parquet", kind="concepts")
    assert len(store.concepts) == 0


VECTORS = [[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "columns",
    [
        lambda: {"name": pl.Series(["a", "b", "c"]), "vector": pl.Series(VECTORS)},
        lambda: {"name": pa.array(["a", "b", "c"]), "vector": pa.array(VECTORS)},
        lambda: {"name": pa.chunked_array([["a"], [], ["b", "c"]]), "vector": pa.chunked_array([VECTORS[:1], VECTORS[1:]])},
        lambda: {"name": np.array(["a", "b", "c"]), "rank": [np.int64(1), np.float32("nan"), 3], "vector": VECTORS},
    ],
)  # fmt: skip
def test_columns_of_any_library_are_a_table(columns: Any, store: vs.Store) -> None:
    store.concepts.add(columns(), vectors="vector")
    found = {each.name: each for each in store.concepts}
    assert list(found) == ["a", "b", "c"]
    assert store.concepts.vectors([each.id for each in found.values()]).tolist() == VECTORS
    ranks = [each.extra.get("rank") for each in found.values()]
    assert ranks in ([None, None, None], [1, None, 3])


class OneArray:
    """A table that knows Arrow's interface of one array, and no other."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """Both capsules."""
        return self._batch.__arrow_c_array__(requested_schema)


def test_a_table_of_one_array_is_read_by_arrows_interface(store: vs.Store) -> None:
    batch = pa.record_batch({"name": ["a", "b"], "tags": [["x"], []]})
    store.concepts.add(OneArray(batch))
    assert [(each.name, each.tags) for each in store.concepts] == [("a", ("x",)), ("b", ())]


@pytest.mark.parametrize(
    "vectors",
    [
        lambda: pa.array([[1.0, 2.0], [3.0]]),
        lambda: pa.array(["1 2", "3 4"]),
        lambda: pl.Series([[1.0, 2.0], [3.0]]),
        lambda: pl.Series(["1 2", "3 4"]),
    ],
)
def test_columns_of_unequal_or_no_vectors_are_refused(vectors: Any, store: vs.Store) -> None:
    with pytest.raises(vs.ValidationError, match=r"concepts\.vectors|concepts: |one length|dimensions"):
        store.concepts.add({"name": ["a", "b"], "vector": vectors()}, vectors="vector")
    assert len(store.concepts) == 0
