"""Formats by name and by the ends of file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vectorstore.errors import ValidationError


@dataclass(frozen=True)
class Format:
    """One format: a log holds any number of kinds, and deletions; a table one kind."""

    name: str
    suffixes: tuple[str, ...]
    log: bool = False
    lines: bool = False


FORMATS = (
    Format("jsonl", (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"), log=True, lines=True),
    Format("json", (".json", ".json.gz"), log=True),
    Format("parquet", (".parquet",)),
    Format("arrow", (".arrow", ".feather", ".ipc")),
    Format("csv", (".csv", ".csv.gz")),
)
NAMES = tuple(each.name for each in FORMATS)


def guessed(path: Path) -> Format | None:
    """The format that the file's name ends like."""
    return next((each for each in FORMATS if path.name.lower().endswith(each.suffixes)), None)


def format_of(path: Path, name: str | None) -> Format:
    """The format of a file to write.

    Raises:
        ValidationError: nothing says which, or what is said disagrees.
    """
    found = guessed(path)
    if name is None:
        if found is None:
            ends = ", ".join(each.suffixes[0] for each in FORMATS)
            raise ValidationError(
                f"{path}: cannot tell the format; let the name end in one of {ends}, or say format=..."
            )
        return found
    asked = next((each for each in FORMATS if each.name == name), None)
    if asked is None:
        raise ValidationError(f"format: expected one of {', '.join(NAMES)}, got {name!r}")
    if found is not None and found is not asked:
        raise ValidationError(f"{path}: is named like {found.name}, and format={name!r} is asked for")
    return asked
