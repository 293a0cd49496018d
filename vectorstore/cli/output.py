"""Results on stdout, for people or as JSON; progress on stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from vectorstore.bars import DELAY, Bar

PREFERRED = ("name", "domain", "definition", "source_domain", "target_domain", "description", "reasoning")
"""Fields that say most about a record, in this order."""
_PIPE_WIDTH = 160
_SHOWN = 200


def say_json(value: Any) -> None:
    """One JSON value on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None, default=str))


def note(text: str) -> None:
    """A remark on stderr; it is no part of the result."""
    typer.echo(text, err=True)


def plain(record: Any) -> dict[str, Any]:
    """A record as JSON-able data."""
    found: dict[str, Any] = record.model_dump(mode="json")
    return found


def width() -> int:
    """Columns of the terminal; generous when there is none."""
    return shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """Aligned columns under a header; the last column is cut at the width of the terminal.

    Args:
        header: the names of the columns.
        rows: the cells; None is shown as nothing.
        right: columns of numbers, set to the right.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(row[place]) for row in [list(header), *cells]) for place in range(len(header))]
    room = width() - sum(widths[:-1]) - 2 * (len(widths) - 1)
    widths[-1] = min(widths[-1], max(room, 20))

    def line(row: Sequence[str]) -> str:
        parts = [
            text.rjust(size) if place in right else _cut(text, size).ljust(size)
            for place, (text, size) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([typer.style(line(header), bold=True), *(line(row) for row in cells)])


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return " ".join(text.split())


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + "…"


def gist(record: Any) -> str:
    """A record in one line: what its fields say, without id and dates."""
    values = [str(value) for name in PREFERRED if (value := getattr(record, name, None))]
    return " · ".join(values)[:_SHOWN]


def columns_of(records: Sequence[Any]) -> list[str]:
    """The telling fields that at least one of the records has, the longest texts last."""
    present = [name for name in PREFERRED if any(getattr(record, name, None) for record in records)]
    return present or ["context"]


def records_table(records: Sequence[Any]) -> str:
    """Records as a table: id, then the fields that say most."""
    names = columns_of(records)
    rows = [[record.id, *(getattr(record, name, None) for name in names)] for record in records]
    return table(["id", *names], rows)


def fields(values: Mapping[str, Any]) -> str:
    """Name and value, aligned, a line each; empty ones are left out."""
    kept = {key: value for key, value in values.items() if value not in (None, "", [], {})}
    size = max((len(key) for key in kept), default=0)
    return "\n".join(f"{typer.style(key.ljust(size), bold=True)}  {_shown(value)}" for key, value in kept.items())


def _shown(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def size_of(count: float) -> str:
    """Bytes for people: 1.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds for people: 0.41 ms, 3.2 s, 1 min 12 s."""
    if seconds < 1:
        return f"{seconds * 1000:.2f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {seconds % 60:.0f} s"


@contextmanager
def progress_bar(what: str, total: int, unit: str = "records") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, fed by the (done, total) of one or several chunks; a log gets a line only now and then.

    Chunks may be shorter than the total (texts that are known are not embedded again); at the end it is full.
    """
    from tqdm import tqdm

    quiet = not sys.stderr.isatty()
    with tqdm(
        total=total,
        desc=what,
        unit=f" {unit}",
        delay=DELAY,
        file=sys.stderr,
        mininterval=5.0 if quiet else 0.1,
        ncols=90 if quiet else None,
        dynamic_ncols=not quiet,
    ) as bar:
        before, last = 0, (0, 0)

        def told(done: int, of: int) -> None:
            nonlocal before, last
            if done < last[0]:
                before += last[1]
            last = (done, of)
            bar.update(min(before + done, total) - bar.n)

        yield told
        bar.update(total - bar.n)


@contextmanager
def bar(what: str, *, shown: bool = True) -> Iterator[Bar | None]:
    """A bar on stderr for a verb, whatever it counts; None, so that nobody is told, where it is not to be shown."""
    if not shown:
        yield None
        return
    with Bar(what) as told:
        yield told
