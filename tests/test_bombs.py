"""Small files that stand for gigabytes: what they take of memory when they are refused, and what passes as before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

import vectorstore as vs
from tests import forked
from vectorstore.interchange import incoming, opened, weights

MB = 1 << 20
MEMORY = 900 * MB
"""What the process may hold while it refuses; the files below stand for 3 GB and more."""

CHILD = """
import sys, json
from pathlib import Path
import vectorstore as vs
folder, path = Path(sys.argv[1]), sys.argv[2]
with vs.open(folder, embedder=None) as store:
    store.concepts.add({"id": "here", "name": "here"})
    try:
        store.import_(path, kind="concepts")
        said = ""
    except vs.VectorstoreError as error:
        said = f"{type(error).__name__}: {error}"
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    status = Path("/proc/self/status").read_text()  # ru_maxrss is that of who started us, where that is more
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    print(json.dumps({"said": said, "count": len(store.concepts), "size": size, "peak": peak}))
"""


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        yield store


def parquet(path: Path, table: Any, *, said: bool = True) -> Path:
    """`said`: that a column is a dictionary, so that Arrow reads it as one."""
    pq.write_table(table, path, compression="zstd", store_schema=said)
    return path


def arrow(path: Path, table: Any) -> Path:
    with ipc.new_file(path, table.schema, options=ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table)
    return path


def shared(count: int, size: int) -> Any:
    """Rows that all refer to one text."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["a" * size]))
    names = [f"c{n}" for n in range(count)]
    return pa.table({"id": names, "name": names, "definition": text})


def in_lists(count: int, size: int) -> Any:
    """One row, whose list refers to one text any number of times."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["a" * size]))
    return pa.table(
        {"id": ["c"], "name": ["c"], "tags": pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), text)}
    )


def repeated(value: Any, kind: Any) -> Any:
    """3,000 rows that all have one value."""
    names = [f"c{n}" for n in range(3000)]
    column = pa.chunked_array([pa.array([value] * 100, kind)] * 30)
    return pa.table({"id": names, "name": names, "extra": column})


def of_lists(kind: Any) -> Any:
    """Two rows of texts of that type, each JSON of lists of nothing."""
    names = ["a", "b"]
    return pa.table({"id": names, "name": names, "extra": pa.array(['{"a":[' + "[]," * 5_000_000 + "0]}"] * 2, kind)})


def nothings(path: Path, count: int) -> Path:
    path.write_bytes(b'{"id":"x","name":"x","extra":{"a":[' + b"[]," * count + b"0]}}")
    return path


def imported(path: Path, folder: Path) -> dict[str, Any]:
    """What a process of its own says of an import, and what it took."""
    done = forked.python(CHILD, str(folder), str(path))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("d.parquet", lambda path: parquet(path, shared(30, 50_000_000)), "column 'definition'"),
        ("p.parquet", lambda path: parquet(path, shared(30, 50_000_000), said=False), "column 'definition'"),
        ("n.parquet", lambda path: parquet(path, shared(300, 10_000_000)), "times larger when unpacked"),
        ("m.parquet", lambda path: parquet(path, in_lists(1000, 5_000_000)), "row 1: is larger than 16 MB"),
        ("k.parquet", lambda path: parquet(path, in_lists(1000, 5_000_000), said=False), "row 1: is larger than 16 MB"),
        ("j.parquet", lambda path: parquet(path, repeated("a" * MB, pa.json_())), "times larger when unpacked"),
        ("w.parquet", lambda path: parquet(path, repeated(["a" * MB], pa.list_view(pa.string()))), "times larger"),
        ("b.parquet", lambda path: parquet(path, repeated(b"a" * MB, pa.binary(MB))), "times larger when unpacked"),
        ("d.arrow", lambda path: arrow(path, shared(30, 50_000_000)), "row 1: is larger than 16 MB"),
        ("m.arrow", lambda path: arrow(path, in_lists(1000, 5_000_000)), "row 1: is larger than 16 MB"),
        ("v.arrow", lambda path: arrow(path, of_lists(pa.string_view())), "is JSON of more than"),
        ("j.arrow", lambda path: arrow(path, of_lists(pa.json_())), "is JSON of more than"),
        ("r.arrow", lambda path: arrow(path, pa.table({"id": pa.nulls(2**31 - 1)})), "times larger when unpacked"),
        ("l.jsonl", lambda path: nothings(path, 20_000_000), ":1: the line is longer than 16 MB"),
        ("n.jsonl", lambda path: nothings(path, 5_000_000), ":1: is JSON of more than"),
        ("n.json", lambda path: nothings(path, 20_000_000), "is JSON of more than"),
    ],
)
def test_a_small_file_that_stands_for_gigabytes_is_refused_in_bounded_memory(
    tmp_path: Path, name: str, make: Callable[[Path], Path], told: str
) -> None:
    found = imported(make(tmp_path / name), tmp_path / "kb")
    assert told in found["said"] and found["said"].startswith("ValidationError: ") and name in found["said"]
    assert found["count"] == 1
    assert found["peak"] < MEMORY and found["size"] < 20 * MB


def test_every_row_of_a_table_is_bounded_whatever_its_type(tmp_path: Path) -> None:
    long = "a" * (opened.MAX_LINE + 1)
    half = long[: opened.MAX_LINE // 2 + 1]
    structs = pa.array([{"a": "x", "b": {"c": long}}])
    columns = {
        "text": pa.array([long]),
        "large": pa.array([long], pa.large_string()),
        "bytes": pa.array([long.encode()]),
        "view": pa.array([long], pa.string_view()),
        "list": pa.array([[half, half]]),
        "views": pa.array([[half, half]], pa.list_view(pa.string())),
        "fixed": pa.array([[half, half]], pa.list_(pa.string(), 2)),
        "map": pa.array([[("a", half), ("b", half)]], pa.map_(pa.string(), pa.string())),
        "struct": structs,
        "dictionary": pa.array([long]).dictionary_encode(),
        "nested": pa.ListArray.from_arrays(pa.array([0, 2], pa.int32()), pa.array([half, half]).dictionary_encode()),
        "numbers": pa.array([[0] * (opened.MAX_LINE // 8 + 1)]),
        "nulls": pa.array([[None] * (opened.MAX_LINE // 8 + 1)]),
        "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([long])),
        "union": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([long])]),
    }
    for name, column in columns.items():
        bounded = weights.Bounded(tmp_path / "x.arrow", 1000, frozenset())
        batch = pa.record_batch([pa.array(["c"]), column], names=["id", name])
        short = list(bounded.parts(batch.slice(0, 0)))
        assert short == [], name
        with pytest.raises(vs.ValidationError, match=rf"x\.arrow: row 1: is larger than 16 MB, .* column '{name}'"):
            list(bounded.parts(batch))


def test_rows_come_in_parts_of_bounded_size_and_nothing_is_lost(
    tmp_path: Path, kb: vs.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "MAX_BATCH", 100_000)
    text = [None if n % 7 == 3 else "ab"[n % 2] * 10_000 for n in range(200)]
    names = [f"c{n:03d}" for n in range(200)]
    tags = [None if n % 5 == 0 else ["a", "bc"][: n % 3] for n in range(200)]
    table = pa.table(
        {
            "id": names,
            "name": names,
            "definition": pa.array(text).dictionary_encode(),
            "tags": pa.array(tags, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        }
    )
    batch = table.combine_chunks().to_batches()[0].slice(20, 170)
    parts = list(weights.Bounded(tmp_path / "x", 1 << 30, frozenset()).parts(batch))
    assert len(parts) > 2 and all(sum(sizes) <= weights.MAX_BATCH for _, sizes in parts)
    assert [row for part, _ in parts for row in part.to_pylist()] == batch.to_pylist()
    path = parquet(tmp_path / "x.parquet", table, said=False)
    assert kb.import_(path, kind="concepts").added == {"concepts": 200}
    assert [record.definition for record in kb.concepts] == [each or "" for each in text]
    assert [list(record.tags) for record in kb.concepts] == [each or [] for each in tags]


def test_a_record_of_many_megabytes_comes_in_by_every_format(tmp_path: Path, kb: vs.Store) -> None:
    row = {"id": "a", "name": "a", "definition": "a long text " * 1_250_000}
    jsonl, csv = tmp_path / "x.jsonl", tmp_path / "x.csv"
    jsonl.write_text(json.dumps(row) + "\n")
    csv.write_text("id,name,definition\n" + ",".join(row.values()) + "\n")
    table = pa.table({name: [value] for name, value in row.items()})
    for path in (jsonl, csv, parquet(tmp_path / "x.parquet", table), arrow(tmp_path / "x.arrow", table)):
        report = kb.import_(path, kind="concepts", on_conflict="overwrite")
        assert sum(report.added.values()) + sum(report.unchanged.values()) == 1, path
    assert [record.definition for record in kb.concepts] == [row["definition"]]


def test_texts_full_of_brackets_are_no_lists(tmp_path: Path, kb: vs.Store) -> None:
    text = '[{\\"' * 400_000
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"id": "a", "name": "a", "definition": text}) + "\n")
    assert kb.import_(path, kind="concepts").added == {"concepts": 1}
    table = pa.table({"id": ["b"], "name": ["b"], "definition": [text], "extra": [json.dumps({"code": text})]})
    assert kb.import_(parquet(tmp_path / "x.parquet", table), kind="concepts").added == {"concepts": 1}
    assert [record.definition for record in kb.concepts] == [text, text]


def test_json_in_a_cell_is_held_to_what_a_line_may_hold(tmp_path: Path, kb: vs.Store) -> None:
    data = '{"a":[' + "[]," * 500_000 + "0]}"
    table = pa.table({"id": ["a", "b"], "name": ["a", "b"], "extra": ["{}", data]})
    csv = tmp_path / "x.csv"
    csv.write_text('id,name,extra\na,a,{}\nb,b,"' + data.replace('"', '""') + '"\n')
    for path in (
        parquet(tmp_path / "x.parquet", table),
        arrow(tmp_path / "x.arrow", table.set_column(2, "extra", table["extra"].dictionary_encode())),
        csv,
    ):
        with pytest.raises(vs.ValidationError, match=r"column 'extra'.* is JSON of more than 262,144 lists"):
            kb.import_(path, kind="concepts")
    assert len(kb.concepts) == 0


def test_large_records_wait_in_smaller_chunks(tmp_path: Path, kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[int] = []
    feed = incoming._Arriving._feed

    def noted(self: Any, kind: str, items: list[Any]) -> None:
        fed.append(len(items))
        feed(self, kind, items)

    monkeypatch.setattr(incoming._Arriving, "_feed", noted)
    monkeypatch.setattr(incoming, "_CHUNK_BYTES", 10_000)
    rows = [{"id": f"c{n}", "name": "x", "definition": "a" * 3000} for n in range(10)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "x.csv").write_text("id,name,definition\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for path in (tmp_path / "x.jsonl", tmp_path / "x.csv", parquet(tmp_path / "x.parquet", pa.table(columns))):
        fed.clear()
        kb.import_(path, kind="concepts", on_conflict="overwrite")
        assert fed == [4, 4, 2], path
    assert len(kb.concepts) == 10


def runs(ends: list[int], values: Any) -> Any:
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), values)


def as_texts(texts: list[str | None]) -> dict[str, Any]:
    """Four texts in every type whose values are texts for Python."""
    storage = pa.array(texts).dictionary_encode()
    opaque = pa.opaque(storage.type, "text", "any")
    zeros, places = pa.array([0] * 4, pa.int8()), pa.array(range(4), pa.int32())
    return {
        "text": pa.array(texts),
        "large": pa.array(texts, pa.large_string()),
        "view": pa.array(texts, pa.string_view()),
        "json": pa.array(texts, pa.json_()),
        "json of large texts": pa.array(texts, pa.json_(pa.large_string())),
        "dictionary": storage,
        "dictionary of views": pa.DictionaryArray.from_arrays(places, pa.array(texts, pa.string_view())),
        "dictionary of json": pa.DictionaryArray.from_arrays(places, pa.array(texts, pa.json_())),
        "dictionary within an extension": pa.ExtensionArray.from_storage(opaque, storage),
        "runs": runs([1, 2, 3, 4], pa.array(texts)),
        "runs of views": runs([1, 2, 3, 4], pa.array(texts, pa.string_view())),
        "sparse union": pa.UnionArray.from_sparse(zeros, [pa.array(texts), pa.nulls(4)]),
        "dense union": pa.UnionArray.from_dense(zeros, places, [pa.array(texts), pa.nulls(0)]),
    }


def test_json_is_held_to_its_limit_whatever_type_its_text_has(tmp_path: Path) -> None:
    def sizes(column: Any, json: frozenset[str]) -> list[int]:
        batch = pa.record_batch([column], names=["extra"])
        return [size for _, part in weights.Bounded(tmp_path / "x.arrow", 1000, json).parts(batch) for size in part]

    for name, column in as_texts(["{}", None, '{"a":[' + "[]," * (opened.MAX_LISTS + 1) + "0]}", "[]"]).items():
        with pytest.raises(vs.ValidationError, match=r"rows 1 to 4, column 'extra': is JSON of more than"):
            pytest.fail(f"{name}: {sizes(column, frozenset({'extra'}))}")
    for name, column in as_texts(["{}", None, "[[],{}]", '"["']).items():
        counted = np.subtract(sizes(column, frozenset({"extra"})), sizes(column, frozenset()))
        assert (counted // opened.LIST_SIZE).tolist() == [1, 0, 3, 1], name


def weight(value: Any, place: int = 8) -> int:
    """What a text or a list of such takes, told from the values themselves."""
    if isinstance(value, list):
        return place + sum(weight(each, place) for each in value)
    return place + len(value or "")


def test_every_value_weighs_what_it_is_and_not_what_the_longest_is(tmp_path: Path) -> None:
    texts = [None if n % 5 == 0 else "x" * (n * n % 23) for n in range(60)]
    pairs = [None if n % 7 == 2 else texts[2 * n : 2 * n + 2] for n in range(30)]
    fixed = pa.array(pairs, pa.list_(pa.string(), 2))
    hidden = pa.FixedSizeListArray.from_arrays(pa.array(texts), 2, mask=pa.array([n % 7 == 2 for n in range(30)]))
    ends = [3, 4, 9, 20, 29, 30]
    columns = [
        fixed,
        hidden,
        pa.array(pairs, pa.list_(pa.string_view(), 2)),
        pa.array([None if n == 4 else pairs[3 * n : 3 * n + 3] for n in range(10)], pa.list_(fixed.type, 3)),
        pa.array([pairs[n : n + n % 4] for n in range(20)], pa.list_(fixed.type)),
        pa.array([[]] * 3 + [None], pa.list_(pa.string(), 0)),
        runs(ends, pa.array(texts[1:7])),
        runs(ends, fixed[:6]),
        runs(ends, pa.array(texts[3:9])).slice(2, 27),
        pa.FixedSizeListArray.from_arrays(runs(ends, pa.array(texts[1:7])), 3),
        pa.ListArray.from_arrays(pa.array([0, 0, 5, 30], pa.int32()), runs(ends, pa.array(texts[1:7]))),
    ]
    for column in columns:
        for start, stop in [(0, None), (0, 0), (3, None), (1, -1), (2, 3), (7, 9), (None, -5)]:
            part = column[start:stop]
            batch = pa.record_batch([part], names=["tags"])
            parts = weights.Bounded(tmp_path / "x", 1000, frozenset()).parts(batch)
            found = [size for _, sizes in parts for size in sizes]
            assert found == [weight(value) for value in part.to_pylist()], (column.type, start, stop)


def test_one_long_value_among_short_ones_comes_in(tmp_path: Path, kb: vs.Store) -> None:
    tags = ["a" * 90_000] + [f"t{n}" for n in range(199)]
    fixed = pa.array([tags, None], pa.list_(pa.string(), 200))
    table = pa.table({"id": ["a", "b"], "name": ["a", "b"], "notes": fixed})
    assert kb.import_(arrow(tmp_path / "f.arrow", table), kind="concepts").added == {"concepts": 2}
    assert [record.extra for record in kb.concepts] == [{"notes": tags}, {}]
    long = pa.record_batch([runs([1, 20_000], pa.array(["x" * 100_000, "y"]))], names=["definition"])
    parts = list(weights.Bounded(tmp_path / "r.arrow", 1000, frozenset()).parts(long))
    assert [sum(sizes) for _, sizes in parts] == [100_008 + 19_999 * 9]


def test_runs_in_lists_may_be_longer_than_all_rows(tmp_path: Path) -> None:
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), runs([2**31 - 1], pa.array(["abc"])))
    parts = weights.Bounded(tmp_path / "x", 1000, frozenset()).parts(pa.record_batch([lists], names=["tags"]))
    assert [sizes for _, sizes in parts] == [[19, 30]]


def test_a_dictionary_of_lists_or_structs_comes_in(tmp_path: Path, kb: vs.Store) -> None:
    names = ["a", "b", "c"]
    places = pa.array([1, None, 0], pa.int32())
    tags, extra = pa.array([["x"], ["y", "z"]]), pa.array([{"n": 1}, {"n": 2}])
    nested = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), pa.array([["p"], ["q"]]))
    table = pa.table(
        {
            "id": names,
            "name": pa.array(names).dictionary_encode(),
            "tags": pa.DictionaryArray.from_arrays(places, tags),
            "extra": pa.DictionaryArray.from_arrays(places, extra),
        }
    )
    assert kb.import_(arrow(tmp_path / "x.arrow", table), kind="concepts").added == {"concepts": 3}
    assert [(list(record.tags), record.extra) for record in kb.concepts] == [
        (["y", "z"], {"n": 2}),
        ([], {}),
        (["x"], {"n": 1}),
    ]
    batch = pa.record_batch(
        {
            "id": pa.array(names).dictionary_encode(),
            "lists": pa.ListArray.from_arrays(pa.array([0, 2, 2, 3], pa.int32()), nested),
            "views": pa.DictionaryArray.from_arrays(places, pa.array(["v", "w"], pa.string_view())),
            "runs": runs([1, 3], pa.array(["r", "s"])),
        }
    )
    (part, _), *rest = weights.Bounded(tmp_path / "x", 1000, frozenset()).parts(batch)
    assert part.to_pylist() == batch.to_pylist() and not rest


def test_a_record_that_is_too_large_is_told_where_it_may_be_larger(tmp_path: Path, kb: vs.Store) -> None:
    """In the bytes of UTF-8: half as many characters are too many, too."""
    long = "ä" * 6_000_000 + "\n" + "ä" * 6_000_000
    whole, one = tmp_path / "x.csv", tmp_path / "y.csv"
    whole.write_text(f'id,name,definition\na,a,"{long}"\nb,b,"c"\n')
    one.write_text(f'id,name,definition\na,a,"{long}\nand so on"\n')
    lines = tmp_path / "x.jsonl"
    lines.write_text(json.dumps({"id": "a", "name": "a", "definition": long}, ensure_ascii=False) + "\n")
    table = arrow(tmp_path / "x.arrow", pa.table({"id": ["a"], "name": ["a"], "definition": [long]}))
    for path, told in [
        (whole, ":2: is larger than 16 MB, which is the most for one record; "),
        (one, ":2: a quote is opened and not closed, or it is larger than 16 MB, which is the most for one record; "),
        (lines, ":1: the line is longer than 16 MB, which is the most for one record; "),
        (table, ": row 1: is larger than 16 MB, most of it in the column 'definition'; "),
    ]:
        with pytest.raises(vs.ValidationError) as caught:
            kb.import_(path, kind="concepts")
        assert str(caught.value) == f"{path}{told}in one JSON document (.json) a record may be larger"
    document = tmp_path / "x.json"
    document.write_text(f"[{lines.read_text()}]")
    assert kb.import_(document, kind="concepts").added == {"concepts": 1}
    assert [record.definition for record in kb.concepts] == [long]


def test_a_long_text_among_short_ones_of_a_small_file_comes_with_all_rows_at_once(tmp_path: Path, kb: vs.Store) -> None:
    rows = weights.ROWS + 10
    names = [f"c{n:05d}" for n in range(rows)]
    texts = ["b" * 300_000 if n == 3 else f"t{n % 50}" for n in range(rows)]
    table = pa.table(
        {
            "id": names,
            "name": names,
            "definition": texts,
            "extra": pa.array([json.dumps({"n": text}) for text in texts], pa.json_()),
            "notes": pa.array([[None, text] for text in texts], pa.list_view(pa.string())),
        }
    )
    path = parquet(tmp_path / "x.parquet", table)
    with pq.ParquetFile(path) as file:
        assert [batch.num_rows for batch in weights.parquet_batches(path, file)] == [rows]
    assert kb.import_(path, kind="concepts").added == {"concepts": rows}
    found = list(kb.concepts)
    assert [record.definition for record in found] == texts
    assert [record.extra for record in found] == [{"n": text, "notes": [None, text]} for text in texts]
