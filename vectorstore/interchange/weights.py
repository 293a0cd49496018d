"""How much memory the rows of an Arrow table take as Python values, told before they are made.

A few bytes of a file can stand for gigabytes: a text in a dictionary that every row refers to, lists of nothings, pages
that are packed a thousand times smaller. Nothing here decodes a dictionary or makes a Python value of a cell.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.interchange.opened import (
    LARGER,
    LIST_SIZE,
    MAX_LINE,
    MAX_LISTS,
    MAX_RATIO,
    brackets,
    check_lists,
    most_unpacked,
)
from vectorstore.tabular import pyarrow

ROWS = 4096
"""Rows that are read at once, at most."""
MAX_BATCH = 64 * 1024 * 1024
"""Bytes that are read at once, as long as that is more than a row."""
_PLACE = 8  # what a value takes in a list


class Bounded:
    """The batches of one file, cut so that each takes a bounded amount of memory.

    Args:
        path: of the file, for messages; a file may become 250 times larger, as a compressed one may.
        size: of the file, in bytes.
        json: names of the columns whose texts are JSON, which lists of nothings make large.
    """

    def __init__(self, path: Path, size: int, json: frozenset[str]) -> None:
        self._path, self._json = path, json
        self._limit, self._given = most_unpacked(size), 0
        self._rows = 0

    def parts(self, batch: Any) -> Iterator[tuple[Any, list[int]]]:
        """(some rows of a record batch, dictionaries decoded; the bytes that each takes), a few at a time.

        Raises:
            ValidationError: a row is too large, or all of them are.
        """
        if self._given + _PLACE * batch.num_rows > self._limit:  # of nothings, or runs of one value
            raise absurd(self._path)
        whole = np.zeros(batch.num_rows, dtype=np.int64)
        lists = np.zeros(batch.num_rows, dtype=np.int64)
        by_column = []
        for column in batch.columns:
            by_column.append(_weights(column))
            whole += by_column[-1]
        if len(whole) and int(whole.max()) > MAX_LINE:
            at = int(np.argmax(whole > MAX_LINE))
            shares = [int(np.broadcast_to(found, whole.shape)[at]) for found in by_column]
            name = batch.schema.names[int(np.argmax(shares))]
            raise ValidationError(
                f"{self._path}: row {self._rows + at + 1}: is larger than {MAX_LINE >> 20} MB, most of it in the "
                f"column {name!r}; {LARGER}"
            )
        self._given += int(whole.sum())
        if self._given > self._limit:
            raise absurd(self._path)
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if name in self._json:
                lists += _lists(
                    column, f"{self._path}: rows {self._rows + 1} to {self._rows + len(whole)}, column {name!r}"
                )
        self._rows += batch.num_rows
        whole += LIST_SIZE * lists
        for start, stop in _cuts(whole):
            yield _decoded(batch.slice(start, stop - start)), whole[start:stop].tolist()


def absurd(path: Path) -> ValidationError:
    """What is said of a table that becomes too large."""
    return ValidationError(
        f"{path}: becomes more than {MAX_RATIO} times larger when unpacked; if that is right, write it as JSON lines"
    )


def _lists(array: Any, where: str) -> Any:
    """(n,) how many lists and objects each text of a column has that is JSON; or one number for all.

    Raises:
        ValidationError: one has too many; the message starts with `where`.
    """
    import pyarrow.compute as compute

    pa = pyarrow("a table")
    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _lists(array.storage, where)
    if types.is_dictionary(kind):
        return _through(array, _lists(array.dictionary, where))
    if types.is_run_end_encoded(kind):
        return _through_runs(array, _lists(array.values, where))
    if types.is_string(kind) or types.is_large_string(kind):
        counted = compute.add(compute.count_substring(array, "["), compute.count_substring(array, "{"))
        found = counted.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    elif types.is_string_view(kind) or types.is_union(kind):  # one by one: Arrow cannot count in them
        texts = (value.as_py() for value in array)
        found = np.array([brackets(text.encode()) if isinstance(text, str) else 0 for text in texts], dtype=np.int64)
    else:
        return 0
    for at in np.flatnonzero(found > MAX_LISTS).tolist():
        check_lists(array[at].as_py().encode(), where)
    return found


def _cuts(whole: Any) -> Iterator[tuple[int, int]]:
    """(start, stop) of rows that weigh at most MAX_BATCH together, or are one."""
    ends = np.cumsum(whole)
    start = 0
    while start < len(whole):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + MAX_BATCH, side="right")))
        yield start, stop
        start = stop


def _decoded(batch: Any) -> Any:
    """The batch without dictionaries of single values, which are slow to take one by one."""
    pa = pyarrow("a table")
    kinds = [_plain(kind) for kind in batch.schema.types]
    if kinds == batch.schema.types:
        return batch
    pairs = zip(batch.columns, kinds, strict=True)
    columns = [column if column.type == kind else column.cast(kind) for column, kind in pairs]
    return pa.record_batch(columns, names=batch.schema.names)


def _plain(kind: Any) -> Any:
    pa = pyarrow("a table")
    if pa.types.is_dictionary(kind):
        return kind.value_type if _is_single(kind.value_type) else kind
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_plain(kind.value_type)))
    return kind


def _is_single(kind: Any) -> bool:
    """Whether Arrow can decode a dictionary of such values."""
    types = pyarrow("a table").types
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return any(is_such(kind) for is_such in (types.is_primitive, types.is_decimal, *texts))


def _weights(array: Any) -> Any:
    """(n,) int64 bytes of each value as Python has it, roughly and never much less; or one number for all."""
    import pyarrow.compute as compute

    pa = pyarrow("a table")
    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        return _through(array, _weights(array.dictionary)) + _PLACE
    if types.is_string_view(kind) or types.is_binary_view(kind):  # its first four bytes are its length
        views = np.frombuffer(array.buffers()[1], dtype="<i4")[::4][array.offset : array.offset + len(array)]
        return views * array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64) + _PLACE
    if types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind):
        lengths = compute.binary_length(array).fill_null(0).to_numpy(zero_copy_only=False)
        return lengths.astype(np.int64) + _PLACE
    if types.is_fixed_size_list(kind):
        inner = _weights(array.values.slice(array.offset * kind.list_size, len(array) * kind.list_size))
        if np.ndim(inner) == 0:
            return inner * kind.list_size + _PLACE
        found = inner.reshape(len(array), kind.list_size).sum(axis=1)
        return found * array.is_valid().to_numpy(zero_copy_only=False) + _PLACE
    if types.is_list(kind) or types.is_large_list(kind) or types.is_map(kind):
        return _of_spans(array, array.offsets.to_numpy()[:-1], array.offsets.to_numpy()[1:])
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        starts = array.offsets.to_numpy()
        return _of_spans(array, starts, starts + array.sizes.to_numpy())
    if types.is_struct(kind):
        return sum((_weights(array.field(at)) for at in range(kind.num_fields)), np.int64(8 * _PLACE))
    if types.is_run_end_encoded(kind):
        return _through_runs(array, _weights(array.values))
    if types.is_union(kind):
        return max((int(np.max(_weights(array.field(at)), initial=0)) for at in range(kind.num_fields)), default=0)
    if isinstance(kind, pa.BaseExtensionType):
        return _weights(array.storage)
    return max(_PLACE, kind.byte_width) if types.is_fixed_size_binary(kind) else _PLACE


def _through(array: Any, held: Any) -> Any:
    """(n,) what is known of the values of a dictionary, for those of an array that refers to them; 0 for null."""
    found = np.zeros(len(array), dtype=np.int64)
    valid = array.indices.is_valid().to_numpy(zero_copy_only=False)
    found[valid] = np.broadcast_to(held, len(array.dictionary))[array.indices.drop_null().to_numpy()]
    return found


def _through_runs(array: Any, held: Any) -> Any:
    """(n,) what is known of the values of runs, for each place; the most of all for all when it were too many places.

    In lists a run may be of any length that a number can say, whatever the rows are.
    """
    if np.ndim(held) == 0 or len(array) * _PLACE > MAX_BATCH:
        return int(np.max(held, initial=0))
    ends = np.clip(array.run_ends.to_numpy().astype(np.int64) - array.offset, 0, len(array))
    return np.repeat(held, np.diff(ends, prepend=0))


def _of_spans(array: Any, starts: Any, stops: Any) -> Any:
    """(n,) weights of lists that lie between some places of one array."""
    inner = _weights(array.values)
    if np.ndim(inner) == 0:
        found = (stops - starts).astype(np.int64) * inner
    else:
        ends = np.concatenate(([0], np.cumsum(inner)))
        found = ends[stops] - ends[starts]
    return found * array.is_valid().to_numpy(zero_copy_only=False) + _PLACE


# -- Parquet -----------------------------------------------------------------------------------------------------------


def parquet_batches(path: Path, file: Any) -> Iterator[Any]:
    """The record batches of a Parquet file, of so few rows that their texts do not take much when they are decoded.

    Where that would be a few rows at a time, and a row group is small, it comes whole with its texts in dictionaries.

    Raises:
        ValidationError: what the file says of itself is absurd for its size.
    """
    said = file.metadata
    groups = [said.row_group(at) for at in range(said.num_row_groups)]
    widths = [max(_PLACE, file.schema.column(at).length or 0) for at in range(said.num_columns)]
    sizes = [sum(group.column(at).num_values * width for at, width in enumerate(widths)) for group in groups]
    texts = [at for at in range(said.num_columns) if _is_text(file.schema.column(at))]
    unpacked = sum(group.column(at).total_uncompressed_size for group in groups for at in texts)
    if max(sum(sizes), unpacked) > most_unpacked(path.stat().st_size):
        raise absurd(path)
    plan = []  # (whether texts stay in dictionaries; rows at once) of each row group
    shared = set()  # columns of lists, one of which may refer to a long text any number of times
    with _with_dictionaries(path, [file.schema.column(at).path for at in texts]) as held:
        for number, group in enumerate(groups):
            widest = 0
            for at in texts:
                chunk = group.column(at)
                longest = chunk.total_uncompressed_size
                if longest * ROWS > MAX_BATCH:
                    longest = _longest(held, number, chunk.path_in_schema)
                widest += longest
                if file.schema.column(at).max_repetition_level and longest * chunk.num_values > 4 * MAX_BATCH:
                    shared.add(chunk.path_in_schema)
            size = sum(group.column(at).total_uncompressed_size for at in texts)
            most = min(ROWS, MAX_BATCH // max(widest, 1), MAX_BATCH * group.num_rows // max(size, 1))
            # A group whose pages are small takes not much as a whole, as long as no text is repeated for every row.
            kept = most < min(ROWS, group.num_rows) and max(group.total_byte_size, sizes[number]) <= MAX_BATCH
            plan.append((kept, group.num_rows if kept else max(most, 1)))
        with _with_dictionaries(path, sorted(shared)) as reading:
            for number, (kept, most) in enumerate(plan):
                yield from (held if kept else reading).iter_batches(most, row_groups=[number])


def _with_dictionaries(path: Path, columns: list[str]) -> Any:
    """A Parquet file of whose texts those stay in dictionaries, JSON too, which Arrow else has as a type of its own."""
    import pyarrow.parquet as parquet

    option = "arrow_extensions_enabled"  # older ones of Arrow have neither it nor that type
    known = option in inspect.signature(parquet.ParquetFile).parameters
    return parquet.ParquetFile(path, read_dictionary=columns, **({option: False} if known else {}))


def _is_text(column: Any) -> bool:
    return bool(column.physical_type == "BYTE_ARRAY" and column.logical_type.type != "DECIMAL")


def _longest(held: Any, group: int, name: str) -> int:
    """The bytes of the longest text in the dictionary of a row group's column, and among its first rows."""
    for batch in held.iter_batches(ROWS, row_groups=[group], columns=[name]):
        longest = max((_widest(column) for column in batch.columns), default=0)
        if longest:  # before the first value the dictionary is not told
            return longest
    return 0


def _widest(array: Any) -> int:
    """The most that one value weighs of the dictionaries that an array consists of."""
    types = pyarrow("a table").types
    if types.is_dictionary(array.type):
        return int(np.max(_weights(array.dictionary), initial=0))
    if types.is_struct(array.type):
        return max((_widest(array.field(at)) for at in range(array.type.num_fields)), default=0)
    if types.is_map(array.type):
        return max(_widest(array.keys), _widest(array.items))
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return _widest(array.values) if any(is_such(array.type) for is_such in lists) else 0
