"""CSV, in which a text and its absence are told apart: `""` is an empty text, an empty cell says nothing.

Python's reader (3.11) gives the same for both, so records are cut here: what lies between an even number of quotes.
Cells of fields that hold neither text, number nor time are JSON, vectors are base 64 of float32 or a JSON list. What
made them is not said: in a new store they count as the caller's own.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectorstore.errors import ValidationError
from vectorstore.exporting import Snapshot
from vectorstore.ids import from_micros
from vectorstore.interchange.opened import LARGER, MAX_LINE, lines_of
from vectorstore.records import Column, Value
from vectorstore.records.where import Node
from vectorstore.storage.exporting import VALUES
from vectorstore.tabular import ORIGIN, Form, vector_column

if TYPE_CHECKING:
    from vectorstore.interchange.outgoing import Telling

_CELL = re.compile(r'(?:"((?:[^"]|"")*)"|([^,"\r\n]*))(,|\r?\n|\Z)')
_PLAIN = re.compile(r'[^",\r\n]+\Z')


def csv_chunks(form: Form, snapshot: Snapshot, node: Node | None, telling: Telling) -> Iterator[bytes]:
    """The bytes of a CSV file, a page of records at a time."""
    names = [column.name for _, column in form.columns]
    for space in form.spaces:
        name = vector_column(space.name)
        names += [name, *(f"{name}.{part}" for part in ORIGIN)]
    yield (",".join(map(_cell, names)) + "\n").encode()
    for rows in snapshot.pages(form.table, node):
        lines = [[_cell(_text(form, column, row[at + VALUES])) for at, column in form.columns] for row in rows]
        for space in form.spaces:
            held = snapshot.vectors(space, [row[0] for row in rows], brought=form.brought)
            known = dict(zip(held.numbers, zip(held.vectors, held.origins, strict=True), strict=True))
            for row, cells in zip(rows, lines, strict=True):
                cells += _vector(*known[row[0]]) if row[0] in known else [""] * (1 + len(ORIGIN))
            telling.vectors += len(known)
        yield "".join(",".join(cells) + "\n" for cells in lines).encode()
        telling.page(len(rows))


def _vector(numbers: Any, origin: Any) -> list[str]:
    text_hash = "" if origin.text_hash is None else origin.text_hash.hex()
    packed = base64.b64encode(numbers.astype("<f4", copy=False).tobytes()).decode()
    return [packed, _cell(origin.source), repr(origin.confidence), str(origin.updates), text_hash]


def _text(form: Form, column: Column, value: Value) -> str | None:
    if value is None and column.default is not None:
        if column.type in ("text", "time"):
            raise ValidationError(
                f"{form.table.name}.{column.name}: CSV cannot tell None from the default {column.default!r}; export to "
                "Parquet or JSON lines"
            )
        return "null"
    if value is None or isinstance(value, str):
        return value
    if column.type == "time":
        return from_micros(int(value)).isoformat()
    if column.type == "boolean":
        return "true" if value else "false"
    return repr(value)


def _cell(text: str | None) -> str:
    if text is None:
        return ""
    return text if _PLAIN.match(text) else '"{}"'.format(text.replace('"', '""'))


def rows_of(path: Path) -> Iterator[tuple[int, Sequence[str | None]]]:
    """(number of its first line, cells) of each record, the names first; None for a cell that says nothing.

    Raises:
        ValidationError: it is no CSV; the line is named.
    """
    held: list[str] = []
    quotes = size = start = 0
    for number, line in lines_of(path, whole=True, blank=True):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise ValidationError(f"{path}:{number}: is not UTF-8: {error}") from None
        if not held and not text.strip():
            continue
        start = start if held else number
        held.append(text)
        quotes, size = quotes + text.count('"'), size + len(line)
        if size > MAX_LINE:  # which of both it is, only the rest of the file could tell
            said = "is" if quotes % 2 == 0 else "a quote is opened and not closed, or it is"
            most = f"larger than {MAX_LINE >> 20} MB, which is the most for one record"
            raise ValidationError(f"{path}:{start}: {said} {most}; {LARGER}")
        if quotes % 2 == 0:
            yield start, _cut("".join(held), f"{path}:{start}")
            held, quotes, size = [], 0, 0
    if held:
        raise ValidationError(f"{path}:{start}: a quote is opened and not closed")


def _cut(text: str, where: str) -> list[str | None]:
    cells: list[str | None] = []
    at = 0
    while True:
        found = _CELL.match(text, at)
        if found is None:
            raise ValidationError(
                f"{where}: cell {len(cells) + 1}: a quote in the middle of it; double it, and quote the cell"
            )
        quoted, bare, end = found.groups()
        cells.append(quoted.replace('""', '"') if quoted is not None else bare or None)
        at = found.end()
        if end != ",":
            return cells
