"""Records as tables: Arrow, and through it pandas and polars.

A text, a number, a truth value and a time have Arrow's own types, a list of texts is a list, and whatever else a field
holds is JSON in a text; `columns.py` reads all of it back. Vectors lie in columns `vectors.text`, `vectors.relation`,
..., lists of one length whose numbers are those that were gathered from the segments: no second copy is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Generic, TypeVar

import numpy as np

from vectorstore.errors import LibraryMissing, installing
from vectorstore.exporting import Held, Snapshot
from vectorstore.records import Column, Record, Where, parse
from vectorstore.records.codecs import texts_from_json
from vectorstore.records.record import TEXT_SPACE
from vectorstore.records.where import Node
from vectorstore.storage import RecordTable, SpaceRow
from vectorstore.storage.exporting import VALUES, Sealed
from vectorstore.sync import Sync

R = TypeVar("R", bound=Record)
ORIGIN = ("source", "confidence", "updates", "hash")
"""What is known of a vector beside it, in columns such as `vectors.text.source`."""


def pyarrow(what: str) -> Any:
    """The module.

    Raises:
        LibraryMissing: it is not installed.
    """
    try:
        import pyarrow
    except ImportError:
        raise LibraryMissing(f"{what} needs pyarrow; {installing('arrow')}") from None
    return pyarrow


def vector_column(space: str) -> str:
    """The column of a space: `vectors.text` for `concepts`, `vectors.relation` for `analogies.relation`."""
    return f"vectors.{space.partition('.')[2] or TEXT_SPACE}"


@dataclass(frozen=True)
class Form:
    """What a table of a kind consists of.

    `brought` leaves vectors out that were made from texts; with `origins` each vector says where it comes from.
    """

    table: RecordTable[Any]
    spaces: Sequence[SpaceRow] = ()
    brought: bool = False
    origins: bool = False

    @property
    def columns(self) -> list[tuple[int, Column]]:
        """(place in a row, column) of the fields; nothing that is read has `deleted_at`."""
        return [(at, column) for at, column in enumerate(self.table.schema.columns) if column.name != "deleted_at"]

    def schema(self, metadata: Mapping[str, str] | None = None) -> Any:
        """Arrow's schema."""
        pa = pyarrow("a table")
        fields = [pa.field(column.name, self._type(column)) for _, column in self.columns]
        for space in self.spaces:
            name = vector_column(space.name)
            fields.append(pa.field(name, pa.list_(pa.float32(), space.dim)))
            if self.origins:
                types = (pa.string(), pa.float64(), pa.int64(), pa.binary())
                fields += [pa.field(f"{name}.{part}", kind) for part, kind in zip(ORIGIN, types, strict=True)]
        return pa.schema(fields, metadata=metadata)

    def _type(self, column: Column) -> Any:
        pa = pyarrow("a table")
        if column.type == "json":
            return pa.list_(pa.string()) if self.is_texts(column) else pa.string()
        types = {"integer": pa.int64(), "real": pa.float64(), "boolean": pa.bool_(), "time": pa.timestamp("us", "UTC")}
        return types.get(column.type, pa.string())

    def is_texts(self, column: Column) -> bool:
        """Whether the field is a list of texts."""
        schema = self.table.schema
        return schema.decoders[schema.names.index(column.name)] is texts_from_json

    def batches(
        self, snapshot: Snapshot, node: Node | None, metadata: Mapping[str, str] | None = None
    ) -> Iterator[Any]:
        """Record batches, a page of rows each."""
        pa = pyarrow("a table")
        schema = self.schema(metadata)
        for rows in snapshot.pages(self.table, node):
            values = list(zip(*rows, strict=True))[VALUES:]
            arrays = [self._array(column, values[at], schema.field(column.name).type) for at, column in self.columns]
            for space in self.spaces:
                held = snapshot.vectors(space, [row[0] for row in rows], brought=self.brought)
                arrays += self._vectors(space, rows, held)
            yield pa.record_batch(arrays, schema=schema)

    def _array(self, column: Column, values: Sequence[Any], kind: Any) -> Any:
        pa = pyarrow("a table")
        if self.is_texts(column):
            values = [None if value is None else texts_from_json(value) for value in values]
        elif column.type == "boolean":
            values = [None if value is None else bool(value) for value in values]
        return pa.array(values, kind)

    def _vectors(self, space: SpaceRow, rows: Sequence[Sealed], held: Held) -> list[Any]:
        pa = pyarrow("a table")
        whole, mask, origins = held.vectors, None, list[Any](held.origins)
        if len(held.numbers) < len(rows):
            places = np.searchsorted([row[0] for row in rows], held.numbers)
            whole = np.zeros((len(rows), space.dim), dtype=np.float32)
            whole[places] = held.vectors
            absent = np.ones(len(rows), dtype=bool)
            absent[places] = False
            mask = pa.array(absent)
            known = dict(zip(places.tolist(), held.origins, strict=True))
            origins = [known.get(place) for place in range(len(rows))]
        made = [pa.FixedSizeListArray.from_arrays(pa.array(whole.reshape(-1)), space.dim, mask=mask)]
        if self.origins:
            for part in ("source", "confidence", "updates", "text_hash"):
                made.append(pa.array([None if origin is None else getattr(origin, part) for origin in origins]))
            made[-1] = made[-1].cast(pa.binary())
            made[-4] = made[-4].cast(pa.string())
            made[-3], made[-2] = made[-3].cast(pa.float64()), made[-2].cast(pa.int64())
        return made


class Tabular(Generic[R]):
    """A kind's records as a table."""

    _sync: Sync
    _table: RecordTable[R]

    def to_arrow(self, where: Where | None = None, *, vectors: bool = False) -> Any:
        """The records that match as a `pyarrow.Table`, in order of arrival, as of one commit.

        Args:
            where: a filter; None for all.
            vectors: with a column of float32 lists for each vector space, `vectors.text` for the one of the texts;
                null where a record has none.

        Returns:
            A table that `add`, `upsert` and `Store.import_` take back; where a null says nothing, so that None in a
            field with another default comes back as that.

        Memory: the table; vectors are copied once, from the disk's pages into it.
        """
        pa = pyarrow(f"{self._table.name}.to_arrow")
        node = parse(where, self._table.schema)
        with Snapshot(self._sync) as snapshot:
            spaces = snapshot.spaces_of(self._table.name, brought=False) if vectors else []
            form = Form(self._table, spaces)
            return pa.Table.from_batches(list(form.batches(snapshot, node)), schema=form.schema())

    def to_pandas(self, where: Where | None = None, *, vectors: bool = False) -> Any:
        """The same as a `pandas.DataFrame`; vectors are numpy arrays."""
        if find_spec("pandas") is None:
            raise LibraryMissing(f"{self._table.name}.to_pandas needs pandas; {installing('pandas')}")
        return self.to_arrow(where, vectors=vectors).to_pandas()

    def to_polars(self, where: Where | None = None, *, vectors: bool = False) -> Any:
        """The same as a `polars.DataFrame`; the numbers stay where Arrow has them."""
        try:
            import polars
        except ImportError:
            raise LibraryMissing(f"{self._table.name}.to_polars needs polars; {installing('polars')}") from None
        return polars.from_arrow(self.to_arrow(where, vectors=vectors))


__all__ = ["Form", "Tabular"]
