"""Small files that stand for gigabytes: what they take of memory when they are refused, and what passes as before."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest

import vectorstore as vs
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


def nothings(path: Path, count: int) -> Path:
    path.write_bytes(b'{"id":"x","name":"x","extra":{"a":[' + b"[]," * count + b"0]}}")
    return path


def imported(path: Path, folder: Path) -> dict[str, Any]:
    """What a process of its own says of an import, and what it took."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder), str(path)], capture_output=True, text=True, timeout=120
    )
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
        ("d.arrow", lambda path: arrow(path, shared(30, 50_000_000)), "row 1: is larger than 16 MB"),
        ("m.arrow", lambda path: arrow(path, in_lists(1000, 5_000_000)), "row 1: is larger than 16 MB"),
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
