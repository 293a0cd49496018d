"""Batches as JSON lines: in, where a torn last line is reported and a bad one is an item that failed; and out.

{"id": "a1", "a": "king", ...}              a record, or the new values of one
{"kind": "analogies", "deleted": "a1"}      a tombstone: what a deletion is made of
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import PydanticSerializationError, from_json, to_json

from vectorstore.errors import ValidationError
from vectorstore.files import DiskFolder
from vectorstore.records import Record
from vectorstore.storage.workflows import ItemRow

VECTORS = "@vectors"
"""The key of an item's own vectors in a line; no field of a record can be called so."""

_TOMBSTONE = {"kind", "deleted", "at"}


@dataclass(frozen=True)
class Lines:
    """What a file holds.

    Attributes:
        payloads: the lines that are not blank, without the vectors.
        vectors: of each line by space, when the first one has some.
        torn: the number of the last line, when the file ends within it; that line is left out.
    """

    payloads: list[str]
    vectors: dict[str, list[Any]] | None
    torn: int | None


def payload_of(item: Any, kind: type[Record], where: str) -> str:
    """An item as JSON text.

    Raises:
        ValidationError: neither a record of the kind nor a mapping, or something in it that JSON cannot hold.
    """
    try:
        if isinstance(item, kind):
            return item.model_dump_json(exclude_unset=True)
        if isinstance(item, Mapping):
            return to_json(item if type(item) is dict else dict(item), inf_nan_mode="constants").decode()
    except (PydanticSerializationError, UnicodeError, ValueError) as error:
        raise ValidationError(f"{where}: cannot be kept as JSON: {error}") from None
    raise ValidationError(f"{where}: expected a mapping or a record of {kind.table}, got {type(item).__name__}")


def read_lines(path: str | os.PathLike[str], kind: str) -> Lines:
    """The lines of a file, .gz or not.

    A line that is no JSON is kept as it is, and fails when it is processed. If it is the last one and has no end of
    line, it was torn. A tombstone of the kind becomes what a deletion asks for, the id; others are left as they are.

    Raises:
        ValidationError: the file cannot be read; some lines have vectors and others have none.
    """
    payloads: list[str] = []
    vectors: dict[str, list[Any]] = {}
    torn = None
    for number, line in _numbered(Path(path)):
        try:
            value = from_json(line)
        except ValueError:
            if not line.endswith(b"\n"):
                torn = number
                break
            value = None
        text = line.strip().decode(errors="replace")
        if isinstance(value, dict) and _deletes(value, kind):
            text = to_json({"id": value["deleted"]}).decode()
        if isinstance(value, dict) and VECTORS in value:
            own = value.pop(VECTORS)
            text = to_json(value, inf_nan_mode="constants").decode()
            if not isinstance(own, dict) or (payloads and own.keys() != vectors.keys()):
                raise ValidationError(f"{path}:{number}.{VECTORS}: expected vectors by space, the same in every line")
            for space, vector in own.items():
                vectors.setdefault(space, []).append(vector)
        elif vectors:
            raise ValidationError(f"{path}:{number}: has no {VECTORS}, and the lines before have")
        payloads.append(text)
    return Lines(payloads, vectors or None, torn)


def _deletes(value: Mapping[str, Any], kind: str) -> bool:
    return "deleted" in value and value.keys() <= _TOMBSTONE and value.get("kind", kind) == kind


def _numbered(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        packed = path.suffix == ".gz"
        with gzip.open(path) if packed else path.open("rb") as lines:
            yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    except (OSError, EOFError) as error:
        raise ValidationError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _in_pieces(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines joined to pieces of some 64 kB, each of which is one write."""
    piece = bytearray()
    for line in lines:
        piece += line
        if len(piece) >= 65_536:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def write_lines(
    path: str | os.PathLike[str], items: Iterator[ItemRow], spaces: Sequence[tuple[str, int]], deleted: str | None
) -> int:
    """Write items to a new file, which is there whole or not at all; how many. Purged ones are left out.

    Args:
        path: of the file.
        items: in order.
        spaces: (name, dimension) of the vectors that each item has, in their order.
        deleted: of which kind the items are deletions, and become tombstones; None if they are something else.

    Raises:
        FileExistsError: the path is taken.
    """
    final = Path(path)
    if final.exists():
        raise FileExistsError(f"{final} exists already; choose another name")
    count = 0

    def lines() -> Iterator[bytes]:
        nonlocal count
        for item in items:
            if item.payload is not None:
                text = _with_vectors(item, spaces) if deleted is None else _tombstone(item.payload, deleted)
                count += 1
                yield text.encode() + b"\n"

    DiskFolder(final.parent).publish(final.name, _in_pieces(lines()))
    return count


def _tombstone(payload: str, kind: str) -> str:
    """What a deletion's item says, if it says anything, as a tombstone."""
    try:
        value = from_json(payload)
        return json.dumps({"kind": kind, "deleted": value["id"]}, ensure_ascii=False)
    except (ValueError, TypeError, KeyError):
        return payload


def _with_vectors(item: ItemRow, spaces: Sequence[tuple[str, int]]) -> str:
    if item.vectors is None or item.payload is None:
        return str(item.payload)
    flat = np.frombuffer(item.vectors, dtype="<f4")
    own, start = {}, 0
    for name, dim in spaces:
        own[name] = [float(number) for number in flat[start : start + dim]]
        start += dim
    return json.dumps({**json.loads(item.payload), VECTORS: own}, ensure_ascii=False)
