"""Records as tables, both ways: Arrow, pandas, polars."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import Clock
from test_export import fill, opened, records_of, vectors_of

import vectorstore as vs
from vectorstore.reason.snapshot import in_order

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

FORMS = {
    "arrow": lambda collection, **options: collection.to_arrow(**options),
    "pandas": lambda collection, **options: collection.to_pandas(**options),
    "polars": lambda collection, **options: collection.to_polars(**options),
}


@pytest.fixture
def full(clock: Clock) -> Any:
    with opened(clock=clock) as store:
        fill(store, clock)
        yield store


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_goes_there_and_back(form: str, full: vs.Store, clock: Clock) -> None:
    """M1: through `import_`, records and vectors equal; what comes from nowhere keeps its numbers."""
    (odd,) = full["notes"].find({"done": True})
    full["notes"].update({"id": odd.id, "share": 0.25})  # null says nothing, and `share` has a default
    with opened(clock=clock) as store:
        for kind in in_order([full._sync.table(kind).schema for kind in full.kinds]):
            if len(full[kind]):
                table = FORMS[form](full[kind], vectors=True)
                done = store.import_(table, kind=kind)
                assert done.added.get(kind, 0) + done.skipped.get(kind, 0) == len(full[kind]), kind
        assert records_of(store) == records_of(full)
        numbers = [
            {space: {name: each[0] for name, each in held.items()} for space, held in vectors_of(one).items()}
            for one in (store, full)
        ]
        assert numbers[0] == numbers[1]


@pytest.mark.parametrize("form", FORMS)
def test_a_table_goes_back_through_add(form: str, full: vs.Store) -> None:
    table = FORMS[form](full.concepts, where={"context": "default"})
    with opened() as store:
        store.concepts.add(table)
        found = [each.model_dump(exclude={"version", "updated_at"}) for each in store.concepts]
        assert found == [
            each.model_dump(exclude={"version", "updated_at"}) for each in full.concepts.stream({"context": "default"})
        ]


def test_columns_have_arrows_own_types(full: vs.Store) -> None:
    schema = full["notes"].to_arrow(vectors=True).schema
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types["title"] == "string" and types["stars"] == "int64" and types["share"] == "double"
    assert (
        types["done"] == "bool" and types["seen"] == "timestamp[us, tz=UTC]" and types["parts"] == "list<item: string>"
    )
    assert (
        types["more"] == "string"
        and types["vectors.image"].startswith("fixed_size_list<")
        and "[2]" in types["vectors.image"]
    )
    assert "deleted_at" not in types
    empty = full.concepts.to_arrow({"name": "nobody"}, vectors=True)
    assert empty.num_rows == 0 and empty.schema == full.concepts.to_arrow(vectors=True).schema


def test_rows_without_a_vector_are_null(full: vs.Store) -> None:
    full["notes"].add({"title": "without"})
    table = full["notes"].to_arrow(vectors=True)
    assert (
        table["vectors.image"].to_pylist()[-1] is None and table["vectors.image"].null_count == len(full["notes"]) - 2
    )
    frame = full["notes"].to_pandas(vectors=True)
    assert frame["vectors.image"].iloc[-1] is None


def test_a_filter_and_one_commit(full: vs.Store) -> None:
    names = full.concepts.to_arrow({"name__in": ["king", "ray"]})["name"].to_pylist()
    assert names == ["king", "ray"]
    with pytest.raises(vs.WhereError):
        full.concepts.to_polars({"nothing": 1})


def test_arrow_holds_the_vectors_once(tmp_path: Path) -> None:
    """M1: no second copy of the vectors on their way into the table."""
    rows, dim = 20_000, 64
    vectors = np.random.default_rng(0).standard_normal((rows, dim)).astype(np.float32)
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add({"id": [f"c{n}" for n in range(rows)], "name": ["x"] * rows}, vectors=vectors)
        made: list[int] = []
        original = np.array

        def counted(*args: Any, **options: Any) -> Any:
            found = original(*args, **options)
            if isinstance(found, np.ndarray) and found.dtype == np.float32:
                made.append(found.nbytes)
            return found

        before = pa.total_allocated_bytes()
        with mock.patch.object(np, "array", counted):
            table = store.concepts.to_arrow(vectors=True)
        column = table["vectors.text"]
        assert sum(made) == 0
        assert pa.total_allocated_bytes() - before < 0.5 * vectors.nbytes, "Arrow points to numpy's numbers"
        flat = np.concatenate([chunk.flatten().to_numpy(zero_copy_only=True) for chunk in column.chunks])
        assert np.array_equal(flat.reshape(rows, dim), vectors)


def test_what_is_not_installed_is_named(full: vs.Store, tmp_path: Path) -> None:
    with mock.patch.dict(sys.modules, {"pyarrow": None}):
        for act in (full.concepts.to_arrow, full.concepts.to_pandas, full.concepts.to_polars):
            with pytest.raises(vs.LibraryMissing, match="needs pyarrow; in the clone of vectorstore"):
                act()
        with pytest.raises(vs.LibraryMissing, match=re.escape('pip install ".[arrow]"')):
            full.export(tmp_path / "x.parquet", kinds="concepts")
        full.export(tmp_path / "x.csv", kinds="concepts")  # needs nothing
    assert [file.name for file in tmp_path.iterdir()] == ["x.csv"]
    with mock.patch.dict(sys.modules, {"polars": None}), pytest.raises(vs.LibraryMissing, match="polars"):
        full.concepts.to_polars()


def test_frames_of_anybody_come_in(tmp_path: Path, clock: Clock) -> None:
    frame = pd.DataFrame(
        {"name": ["a", "b"], "quality": [0.5, None], "vectors.text": [[1.0, 0.0], [0.0, 1.0]], "note": ["x", None]}
    )
    with vs.open(":memory:", embedder=None, clock=clock) as store:
        done = store.import_(frame, kind="concepts")
        assert done.added == {"concepts": 2} and done.vectors == 2 and done.format == "table"
        assert [(each.quality, each.extra) for each in store.concepts] == [(0.5, {"note": "x"}), (None, {})]
        frame.drop(columns=["vectors.text"]).to_parquet(tmp_path / "p.parquet")
        frame[["name", "quality"]].to_csv(tmp_path / "p.csv", index=False)
        assert store.import_(tmp_path / "p.parquet", kind="concepts", on_conflict="merge").unchanged == {"concepts": 2}
        assert store.import_(tmp_path / "p.csv", kind="concepts", on_conflict="merge").unchanged == {"concepts": 2}
        with pytest.raises(vs.ValidationError, match=r"name it: kind='concepts'"):
            store.import_(tmp_path / "p.parquet")
        with pytest.raises(vs.ValidationError, match=r"<DataFrame>: row 2: concepts.quality: expected 0..1, got 2.0"):
            store.import_(pd.DataFrame({"name": ["c", "d"], "quality": [0.5, 2.0]}), kind="concepts")
        with pytest.raises(vs.ValidationError, match="say which kind"):
            store.import_(frame)
