"""Which reader for what: by name, by the end of a file's name, by what a folder holds; and their options."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.files import as_path
from vectorstore.importing import Space
from vectorstore.interchange.formats import FORMATS, guessed
from vectorstore.interchange.items import Source
from vectorstore.interchange.lines import read_json, read_lines
from vectorstore.interchange.tables import read_frame, read_table, read_tables, table_spaces

Collections = Callable[[Any], Any]


def read(
    source: Any, format: str | None, kind: str | None, collections: Collections, options: dict[str, Any]
) -> tuple[Source, str]:
    """(what can be read from it, the name of its format); see `Exchange.import_`.

    Raises:
        ValidationError: it cannot be told what it is, or an option is unknown.
    """

    def kind_of(name: str) -> Any:
        return collections(name).kind

    if not isinstance(source, str | os.PathLike):
        if format is not None or options:
            raise ValidationError(f"a table in memory takes neither format nor options, got {format or options!r}")
        return read_frame(source, kind, kind_of), "table"
    path = as_path(source)
    if not path.exists():
        raise ValidationError(f"{path}: there is no such file or folder")
    name = format or _told(path)
    if name not in NAMES:
        raise ValidationError(f"format: expected one of {', '.join(NAMES)}, got {name!r}")
    _check_options(name, options)
    if name == "jsonl":
        return read_lines(path, kind), name
    if name == "json":
        return read_json(path, kind), name
    if name in FOREIGN:
        return _reader(name)(path, kind=kind, **options), name
    if path.is_dir():
        return read_tables(path, kind_of), name
    return read_table(path, next(each for each in FORMATS if each.name == name), kind, kind_of), name


FOREIGN: dict[str, str] = {
    "wordnet": "wordnet.read_wordnet",
    "words": "words.read_words",
    "faiss": "indexes.read_index",
    "chroma": "chroma.read_chroma",
    "softlogic": "softlogic.read_softlogic",
}
"""Formats of other systems, and the function that reads each: `module.function` of this package."""
NAMES = (*(each.name for each in FORMATS), *FOREIGN)


def spaces_of(path: Path) -> dict[str, Space]:
    """The vector spaces that a file of ours names; none for anything else."""
    found = guessed(path) if path.is_file() else None
    if found is None:
        return {}
    if found.log:
        return (read_lines(path) if found.lines else read_json(path)).spaces
    return {} if found.name == "csv" else table_spaces(path, found)


def _reader(name: str) -> Callable[..., Source]:
    import importlib

    module, _, function = FOREIGN[name].partition(".")
    found: Callable[..., Source] = getattr(importlib.import_module(f"vectorstore.interchange.{module}"), function)
    return found


def _check_options(name: str, options: dict[str, Any]) -> None:
    known = (
        [each for each in inspect.signature(_reader(name)).parameters if each not in ("path", "kind")]
        if name in FOREIGN
        else []
    )
    for option in options:
        if option not in known:
            takes = f"takes {', '.join(known)}" if known else "takes none"
            raise ValidationError(f"{option}: no option of {name}, which {takes}")


def _told(path: Path) -> str:
    if path.is_dir():
        names = {each.name for each in path.iterdir()}
        if "data.noun" in names:
            return "wordnet"
        if "chroma.sqlite3" in names:
            return "chroma"
        if "contexts" in names or names & {"concepts.sqlite", "analogies.jsonl"}:
            return "softlogic"
        found = next((form for form in map(guessed, sorted(path.iterdir())) if form is not None and not form.log), None)
        if found is not None:
            return found.name
    else:
        found = guessed(path)
        if found is not None:
            return found.name
        if path.suffix in (".faiss", ".index"):
            return "faiss"
    raise ValidationError(f"{path}: cannot tell what it is; say format=... (--from), one of {', '.join(NAMES)}")
