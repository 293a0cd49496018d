"""Tables that come in: Arrow, pandas, polars, or a mapping from names to sequences; read column by column.

Each library is known by the shape of its objects and never imported, but for pyarrow when all that an object offers is
Arrow's own interface. Null, NaN, NA and NaT mean that a record says nothing about the field; text in a field that is
neither text nor list of texts is JSON, as `tabular.py` writes it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from pydantic_core import from_json

from vectorstore.errors import LibraryMissing, ValidationError, installing
from vectorstore.records import Record
from vectorstore.records.columnar import without_collector
from vectorstore.records.schema import schema_of

_PLAIN = {str, int, bool, type(None), list, tuple, dict}
_NULLS = {"NAType", "NaTType"}


class Column(Protocol):
    """One column of a table, of whatever library."""

    def values(self, start: int, stop: int) -> list[Any]:
        """Plain Python values, None where there is none."""

    def matrix(self) -> Any:
        """All values as vectors, without a copy where they lie side by side."""


@dataclass(frozen=True)
class Part:
    """Some rows of a table, as lists of `count` values by name."""

    columns: dict[str, list[Any]]
    count: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows as mappings, without what is left out."""
        for place in range(self.count):
            yield {name: column[place] for name, column in self.columns.items() if column[place] is not None}


@dataclass(frozen=True)
class Columns:
    """A table, its columns by name. Iterating gives the rows as mappings."""

    columns: Mapping[str, Column]
    count: int
    json: frozenset[str] = frozenset()

    def parts(self, size: int) -> Iterator[Part]:
        """The rows, at most `size` at a time."""
        for start in range(0, self.count, size):
            stop = min(start + size, self.count)
            with without_collector():
                columns = {name: self.values(name, start, stop) for name in self.columns}
                for name in self.json & columns.keys():
                    columns[name] = [read_json(value) for value in columns[name]]
            yield Part(columns, stop - start)

    def values(self, name: str, start: int, stop: int) -> list[Any]:
        """Plain Python values of one column, None where there is none.

        Raises:
            ValidationError: one that Python cannot hold, such as a time after the year 9999.
        """
        try:
            return self.columns[name].values(start, stop)
        except (OverflowError, ValueError) as error:
            said = f"the column {name!r}, rows {start} to {stop - 1}: a value cannot be read: {error}"
            raise ValidationError(said) from None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows as mappings, without what is left out."""
        for part in self.parts(1000):
            yield from part

    def take(self, name: str, where: str) -> tuple[Columns, Any]:
        """The table without one column, and that column as vectors.

        Raises:
            ValidationError: there is no such column, or a row of it is null.
        """
        column = self.columns.get(name)
        if column is None:
            listed = ", ".join(map(repr, self.columns))
            raise ValidationError(f"{where}: there is no column {name!r}; the columns are {listed}")
        rest = {other: kept for other, kept in self.columns.items() if other != name}
        try:
            return Columns(rest, self.count, self.json), column.matrix()
        except NullVector as error:
            raise ValidationError(f"{where}[{error.place}]: expected a vector, got null") from None


class NullVector(Exception):
    """A row of a column of vectors holds none."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


def read_json(value: Any) -> Any:
    """What a text in a field of no text says; anything else, and what is no JSON, as it is: the field's check tells."""
    if type(value) is not str:
        return value
    try:
        return from_json(value, allow_inf_nan=False)
    except ValueError:
        return value


def as_items(records: Any, kind: type[Record]) -> Iterable[Any]:
    """One record, a mapping, a table or any iterable of records and mappings, as an iterable."""
    if isinstance(records, Record):
        return [records]
    table = as_columns(records, kind)
    if table is not None:
        return table
    if isinstance(records, Mapping):
        return [records]
    if isinstance(records, str | bytes) or not hasattr(records, "__iter__"):
        raise ValidationError(f"{kind.table}: expected records, mappings or a table, got {type(records).__name__}")
    return records  # type: ignore[no-any-return]


def as_columns(records: Any, kind: type[Record]) -> Columns | None:
    """The table that `records` is, or None when it is no table.

    A mapping is a table when some field that holds one value (a text, a number, a time) has a sequence: no record
    could be meant by that.

    Raises:
        ValidationError: columns of unequal length. LibraryMissing: an Arrow object, and no pyarrow to read it.
    """
    if isinstance(records, Mapping):
        return _of_mapping(records, kind)
    if hasattr(records, "iloc") and hasattr(records, "columns"):  # pandas
        pandas = ((_named(name), _Pandas(records.iloc[:, at])) for at, name in enumerate(records))
        return _table(pandas, len(records), kind)
    if hasattr(records, "get_columns") and hasattr(records, "to_dicts"):  # polars
        return _table(((found.name, _Polars(found)) for found in records.get_columns()), records.height, kind)
    if not hasattr(records, "num_rows") and (
        hasattr(records, "__arrow_c_stream__") or hasattr(records, "__arrow_c_array__")
    ):
        records = _through_pyarrow(records)
    if hasattr(records, "num_rows") and hasattr(records, "schema") and hasattr(records, "column"):
        named = enumerate(records.schema.names)
        return _table(((name, _Arrow(records.column(at))) for at, name in named), records.num_rows, kind)
    return None


def _table(pairs: Iterable[tuple[Any, Column]], count: int, kind: type[Record]) -> Columns:
    columns: dict[Any, Column] = {}
    for name, column in pairs:
        if name in columns:
            raise ValidationError(f"two columns are called {name!r}; rename one of them")
        columns[name] = column
    return Columns(columns, count, json_fields(kind))


def json_fields(kind: type[Record]) -> frozenset[str]:
    """The fields of a kind that hold neither text nor number nor time."""
    return frozenset(column.name for column in schema_of(kind).columns if column.type == "json")


def _of_mapping(records: Mapping[Any, Any], kind: type[Record]) -> Columns | None:
    schema = schema_of(kind)
    single = {column.name for column in schema.columns if column.type != "json"}
    if not any(name in single and _is_sequence(value) for name, value in records.items()):
        return None
    columns: dict[str, Column] = {}
    count = -1
    for name, value in records.items():
        where = f"{kind.table}.{name}"
        if not _is_sequence(value):
            raise ValidationError(
                f"{where}: expected a sequence, one value a record, as other fields have; got {value!r}"
            )
        if count >= 0 and len(value) != count:
            raise ValidationError(f"{where}: {len(value)} values, and {next(iter(columns))} has {count}")
        columns[name], count = _of_sequence(value), len(value)
    return Columns(columns, count)


def _is_sequence(value: object) -> bool:
    if isinstance(value, str | bytes | Mapping):
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and getattr(value, "shape", (0,)) != ()


def _of_sequence(value: Any) -> Column:
    if hasattr(value, "iloc"):
        return _Pandas(value)
    if hasattr(value, "to_list") and hasattr(value, "explode"):
        return _Polars(value)
    if hasattr(value, "to_pylist"):
        return _Arrow(value)
    return _Plain(value)


def _named(name: Any) -> Any:
    return name.item() if isinstance(name, np.generic) else name


def _through_pyarrow(records: Any) -> Any:
    try:
        import pyarrow
    except ImportError:
        raise LibraryMissing(
            f"a {type(records).__name__} is read by pyarrow; {installing('arrow')};"
            " or give a mapping from names to sequences"
        ) from None
    if hasattr(records, "__arrow_c_stream__"):
        return pyarrow.table(records)
    return pyarrow.record_batch(records)


# -- one column of each library ----------------------------------------------------------------------------------------


class _Plain:
    """A list, a tuple, a numpy array, or anything else that can be sliced."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def values(self, start: int, stop: int) -> list[Any]:
        part = self._data[start:stop]
        return clean(part.tolist() if isinstance(part, np.ndarray) else list(part))

    def matrix(self) -> Any:
        if isinstance(self._data, np.ndarray) and self._data.dtype != object:
            return self._data
        return _stacked(list(self._data))


class _Pandas:
    """A pandas Series. Whole numbers that became floats to make room for NaN become whole again."""

    def __init__(self, series: Any) -> None:
        self._series = series
        self._whole = False
        if getattr(series.dtype, "kind", "") == "f" and isinstance(series.dtype, np.dtype):
            held = series.to_numpy()
            known = held[np.isfinite(held)]
            self._whole = len(known) < len(held) and bool((known == np.floor(known)).all())

    def values(self, start: int, stop: int) -> list[Any]:
        found = clean(self._series.iloc[start:stop].tolist())
        return [int(value) if type(value) is float else value for value in found] if self._whole else found

    def matrix(self) -> Any:
        return _stacked(self._series.tolist())


class _Polars:
    """A polars Series."""

    def __init__(self, series: Any) -> None:
        self._series = series

    def values(self, start: int, stop: int) -> list[Any]:
        return clean(self._series.slice(start, stop - start).to_list())

    def matrix(self) -> Any:
        series = self._series
        if series.null_count():
            raise NullVector(int(series.is_null().arg_max()))
        kind = str(series.dtype)
        if kind.startswith("Array") or (kind.startswith("List") and series.list.len().n_unique() == 1):
            return series.explode().to_numpy().reshape(len(series), -1)
        return series.to_list()


class _Arrow:
    """An Arrow array, chunked or not."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def values(self, start: int, stop: int) -> list[Any]:
        found: list[Any] = self._data.slice(start, stop - start).to_pylist()
        if str(self._data.type).startswith("map<"):
            return [None if pairs is None else dict(pairs) for pairs in found]
        return clean(found)

    def matrix(self) -> Any:
        data = self._data
        if data.null_count:
            raise NullVector(data.is_null().index(True).as_py())
        blocks = [_arrow_matrix(chunk) for chunk in getattr(data, "chunks", [data])]
        if any(block is None for block in blocks) or len({block.shape[1] for block in blocks}) > 1:
            return data.to_pylist()
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks) if blocks else np.empty((0, 0))


def _arrow_matrix(chunk: Any) -> Any:
    """(n, d) the lists of one array where they lie, or None when they are of unequal length."""
    kind = str(chunk.type)
    if kind.startswith("fixed_size_list"):
        return chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), chunk.type.list_size)
    if kind.startswith(("list<", "large_list<")) and len(chunk):
        ends = chunk.offsets.to_numpy()
        flat = chunk.values.slice(ends[0], ends[-1] - ends[0])
        if (np.diff(ends) == ends[1] - ends[0]).all():
            return flat.to_numpy(zero_copy_only=False).reshape(len(chunk), -1)
    return None


def _stacked(vectors: list[Any]) -> Any:
    for place, vector in enumerate(vectors):
        if vector is None or type(vector).__name__ in _NULLS or (isinstance(vector, float) and math.isnan(vector)):
            raise NullVector(place)
    return vectors


def chunked(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Records that are no table, so many at a time."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk


def clean(values: list[Any]) -> list[Any]:
    """Plain Python values, None for whatever a library writes where there is nothing."""
    strange = set(map(type, values)) - _PLAIN
    if not strange:
        return values
    return [_plain(value) if type(value) in strange else value for value in values]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        value = value.item()
    if (isinstance(value, float) and math.isnan(value)) or type(value).__name__ in _NULLS:
        return None
    return value
