"""Tables that come in whole: Parquet, Arrow, CSV, folders of them, and tables in memory; vectors in their columns."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.columns import Columns, NullVector, as_columns, json_fields, read_json
from vectorstore.errors import NewerFormat, ValidationError, VectorstoreError
from vectorstore.importing import Space
from vectorstore.interchange.cells import rows_of
from vectorstore.interchange.formats import Format, guessed
from vectorstore.interchange.items import NO_VECTORS, Item, Source, Vector
from vectorstore.interchange.lines import FORMAT, JsonError, check_vector, from_space, parsed, unpacked
from vectorstore.interchange.opened import LIST_SIZE, brackets, check_lists, plain_file
from vectorstore.interchange.weights import ROWS, Bounded, parquet_batches
from vectorstore.records import Record
from vectorstore.records.schema import schema_of
from vectorstore.tabular import ORIGIN, pyarrow

_VECTOR = re.compile(r"vectors\.([a-z][a-z0-9_]*)(?:\.(source|confidence|updates|hash))?")
KindOf = Callable[[str], type[Record]]


def read_table(path: Path, chosen: Format, kind: str | None, kind_of: KindOf) -> Source:
    """One file of records of one kind.

    Raises:
        ValidationError: nothing says which kind, or the file is none of that format.
    """
    size = plain_file(path).st_size
    source = Source(path, lambda: iter(()), unit="line" if chosen.name == "csv" else "row")
    if chosen.name == "csv":
        name = _kind(path, kind, None)
        record = kind_of(name)
        source.read = lambda: _csv_items(source, name, record)
        return source
    with _arrow(path, chosen) as (schema, count, _):
        said = _metadata(source, schema)
        source.total = count
    name = _kind(path, kind, said)
    record = kind_of(name)
    # In a table of ours a null is None; in anybody else's it says nothing, and the field has its default.
    plain = {
        column.name: None for column in schema_of(record).columns if column.nullable and column.default is not None
    }

    def items() -> Iterator[Item]:
        place = 1
        bounded = Bounded(path, size, json_fields(record))
        with _arrow(path, chosen) as (_, _, batches):
            for batch, weights in itertools.chain.from_iterable(map(bounded.parts, batches())):
                found = table_items(batch, name, record, source, place, weights)
                yield from found if said is None else (_with(item, plain) for item in found)
                place += batch.num_rows

    source.read = items
    return source


def table_spaces(path: Path, chosen: Format) -> dict[str, Space]:
    """The vector spaces that a Parquet or Arrow file of ours names.

    Raises:
        ValidationError: it is no such file.
    """
    source = Source(path, lambda: iter(()))
    with _arrow(path, chosen) as (schema, _, _):
        _metadata(source, schema)
    return source.spaces


def read_tables(path: Path, kind_of: KindOf) -> Source:
    """A folder with a file of each kind, named after it.

    Raises:
        ValidationError: there is no such file.
    """
    files = [(each, guessed(each)) for each in sorted(path.iterdir()) if each.is_file()]
    parts = [
        read_table(each, form, each.name.partition(".")[0], kind_of) for each, form in files if form and not form.log
    ]
    if not parts:
        raise ValidationError(f"{path}: holds no tables (.parquet, .arrow, .csv) named after kinds")
    whole = Source(path, lambda: iter(()), unit="row", total=0)
    for part in parts:
        whole.spaces |= part.spaces
    whole.total = None if any(part.total is None for part in parts) else sum(part.total or 0 for part in parts)
    starts: list[tuple[int, Source]] = []

    def items() -> Iterator[Item]:
        starts.clear()
        first = 0
        for part in parts:
            starts.append((first, part))
            last = 0
            for item in part.read():
                last = item.place
                yield item._replace(place=item.place + first)
            first += last

    def at(place: int) -> str:
        first, part = max((start for start in starts if start[0] < place), key=lambda start: start[0])
        return part.at(place - first)

    whole.read = items
    whole.at = at  # type: ignore[method-assign]  # a row of one of several files
    return whole


def read_frame(table: Any, kind: str | None, kind_of: KindOf) -> Source:
    """A table in memory.

    Raises:
        ValidationError: it is none, or its kind is not named.
    """
    where = Path(f"<{type(table).__name__}>")
    if kind is None:
        raise ValidationError(f"{where}: say which kind its records are: kind='concepts'")
    record = kind_of(kind)
    columns = as_columns(table, record)
    if columns is None:
        raise ValidationError(f"expected a path or a table, got {type(table).__name__}")
    source = Source(where, lambda: iter(()), unit="row", total=columns.count)
    source.read = lambda: _items(columns, kind, source, 1)
    return source


def _kind(path: Path, asked: str | None, said: str | None) -> str:
    if asked is None and said is None:
        raise ValidationError(f"{path}: does not say of which kind its records are; name it: kind='concepts'")
    return str(asked or said)


def _metadata(source: Source, schema: Any) -> str | None:
    """What an export of ours says of itself, in the metadata of its schema; the kind."""
    text = (schema.metadata or {}).get(b"vectorstore")
    if text is None:
        return None
    try:
        said = parsed(text, str(source.path))
        if said["vectorstore"] > FORMAT:
            raise NewerFormat(
                f"{source.path} has format {said['vectorstore']}; this one reads up to {FORMAT}: upgrade it"
            )
        source.spaces = {name: from_space(name, space) for name, space in said["spaces"].items()}
        return str(said["kind"])
    except (JsonError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValidationError(f"{source.path}: its metadata is no header of an export: {error}") from None


@contextlib.contextmanager
def _arrow(path: Path, chosen: Format) -> Iterator[tuple[Any, int | None, Callable[[], Iterator[Any]]]]:
    """(schema, rows, what gives the record batches) of a Parquet or Arrow file."""
    pa = pyarrow(f"reading {chosen.name}")
    try:
        if chosen.name == "parquet":
            import pyarrow.parquet as parquet

            with parquet.ParquetFile(path) as file:
                yield file.schema_arrow, file.metadata.num_rows, lambda: parquet_batches(path, file)
            return
        import pyarrow.ipc as ipc

        with pa.memory_map(str(path)) as mapped:
            try:
                reader = ipc.open_file(mapped)
                parts = (_whole(reader.get_batch(place)) for place in range(reader.num_record_batches))
                yield reader.schema, None, lambda: parts
            except pa.ArrowInvalid:
                mapped.seek(0)
                stream = ipc.open_stream(mapped)
                yield stream.schema, None, lambda: map(_whole, stream)
    except VectorstoreError:  # some are an OSError
        raise
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValidationError(f"{path}: is no {chosen.name} file: {error}") from None


def _whole(batch: Any) -> Any:
    """A record batch of a file, if its offsets lead nowhere else: Arrow does not look, and would crash."""
    batch.validate(full=True)
    return batch


def _with(item: Item, plain: dict[str, None]) -> Item:
    return item._replace(record={**plain, **(item.record or {})}) if plain else item


def table_items(
    table: Any, kind: str, record: type[Record], source: Source, first: int, weights: Sequence[int]
) -> Iterator[Item]:
    """The rows of an Arrow record batch as items of those sizes; the first has the place `first`."""
    columns = as_columns(table, record)
    assert columns is not None  # it has Arrow's interface
    return _items(columns, kind, source, first, weights)


def _items(
    columns: Columns, kind: str, source: Source, first: int, weights: Sequence[int] | None = None
) -> Iterator[Item]:
    spaces: dict[str, Any] = {}
    origins: dict[tuple[str, str], list[Any]] = {}
    for name in list(columns.columns):
        found = _VECTOR.fullmatch(name) if isinstance(name, str) else None
        if found is None:
            continue
        space, part = found.groups()
        if part is not None:
            origins[space, part] = columns.values(name, 0, columns.count)
            columns = Columns({n: c for n, c in columns.columns.items() if n != name}, columns.count, columns.json)
            continue
        try:
            columns, spaces[space] = columns.take(name, kind)
        except ValidationError as error:
            if not isinstance(error.__context__, NullVector):
                raise
            spaces[space] = columns.values(name, 0, columns.count)
            columns = Columns({n: c for n, c in columns.columns.items() if n != name}, columns.count, columns.json)
    place = first
    for part in columns.parts(ROWS):
        for record in part:
            at = place - first
            vectors = _vectors(spaces, origins, at, source, place) if spaces else NO_VECTORS
            yield Item(kind, record, place, "", vectors, weights[at] if weights is not None else 0)
            place += 1


def _vectors(
    spaces: dict[str, Any], origins: dict[tuple[str, str], list[Any]], at: int, source: Source, place: int
) -> dict[str, Vector]:
    found = {}
    for space, numbers in spaces.items():
        if numbers[at] is not None:
            said = {part: origins[space, part][at] for part in ORIGIN if (space, part) in origins}
            found[space] = _vector(numbers[at], said, f"{source.at(place)}: vectors.{space}")
    return found


def _vector(numbers: Any, said: dict[str, Any], where: str) -> Vector:
    said = {part: value for part, value in said.items() if value is not None}
    digest = said.get("hash")
    try:
        text_hash = bytes.fromhex(digest) if isinstance(digest, str) else digest
    except ValueError as error:
        raise ValidationError(f"{where}.hash: {error}") from None
    if text_hash is not None and (not isinstance(text_hash, bytes) or len(text_hash) != 16):
        raise ValidationError(f"{where}.hash: expected 16 bytes, got {text_hash!r}")
    vector = Vector(numbers, said.get("source", "caller"), said.get("confidence", 1.0), said.get("updates"), text_hash)
    return check_vector(vector, where)


# -- CSV ---------------------------------------------------------------------------------------------------------------


def _csv_items(source: Source, kind: str, record: type[Record]) -> Iterator[Item]:
    lines = rows_of(source.path)
    number, names = next(lines, (0, []))
    if not names or None in names or len(set(names)) < len(names):
        raise ValidationError(f"{source.path}: its first line must name the columns, each once, got {list(names)!r}")
    types = {column.name: column.type for column in schema_of(record).columns}
    for number, cells in lines:
        if len(cells) != len(names):
            raise ValidationError(f"{source.at(number)}: expected {len(names)} cells, got {len(cells)}")
        fields: dict[str, Any] = {}
        spaces: dict[str, str] = {}
        origins: dict[str, dict[str, Any]] = {}
        size = 0
        for name, cell in zip(names, cells, strict=True):
            if cell is None:
                continue
            size += len(cell)
            vector = _VECTOR.fullmatch(str(name))
            if vector is None:
                if types.get(str(name), "text") in ("text", "time"):
                    fields[str(name)] = cell
                    continue
                data = cell.encode()
                check_lists(data, f"{source.at(number)}, column {name!r}")
                size += LIST_SIZE * brackets(data)
                fields[str(name)] = read_json(cell)
            elif vector[2] is None:
                spaces[vector[1]] = cell
            else:
                origins.setdefault(vector[1], {})[vector[2]] = (
                    cell if vector[2] in ("source", "hash") else read_json(cell)
                )
        vectors = _csv_vectors(spaces, origins, source.at(number)) if spaces else NO_VECTORS
        yield Item(kind, fields, number, "", vectors, size)


def _csv_vectors(spaces: dict[str, str], origins: dict[str, dict[str, Any]], where: str) -> dict[str, Vector]:
    found = {}
    for space, cell in spaces.items():
        at = f"{where}: vectors.{space}"
        try:
            check_lists(cell.encode(), at)
            numbers: Sequence[float] | Any = (
                read_json(cell) if cell.startswith("[") else np.frombuffer(unpacked(cell), "<f4")
            )
        except ValueError as error:
            raise ValidationError(f"{at}: expected base 64 of float32, or a JSON list: {error}") from None
        found[space] = _vector(numbers, origins.get(space, {}), at)
    return found
