"""The store's own log of JSON lines, and JSON: how an export writes them, and how any are read.

    {"vectorstore": 1, "store": "01J...", "seq": 12, "at": "...", "records": {"concepts": 2}, "spaces": {...}}
    {"kind": "concepts", "record": {"id": "default:king", "name": "king"}}
    {"kind": "concepts", "record": {...}, "vectors": {"text": {"float32": "<base64>", "source": "caller"}}}
    {"kind": "concepts", "deleted": "default:throne", "at": "2026-01-31T12:00:00+00:00"}

In a record, fields that have their default are left out. A vector may also be a list of numbers. Lines without `kind`
are records themselves, of the kind that the caller names. JSON is `{"vectorstore": {the first line}, "lines": [...]}`,
or a list of records.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json, to_json

from vectorstore.errors import NewerFormat, ValidationError
from vectorstore.importing import Space
from vectorstore.interchange.items import NO_VECTORS, Item, Source, Vector
from vectorstore.interchange.opened import LIST_SIZE, brackets, check_lists, lines_of, whole_bytes
from vectorstore.storage.spaces import VectorOrigin
from vectorstore.vectors import Matrix

FORMAT = 1
_ENVELOPE = {"kind", "record", "vectors"}
_TOMBSTONE = {"kind", "deleted", "at"}
_VECTOR = {"float32", "source", "confidence", "updates", "hash"}


# -- writing -----------------------------------------------------------------------------------------------------------


def as_space(space: Any) -> dict[str, Any]:
    """The identity of a space, as JSON has it."""
    probe = space.probe_vector
    fields = {"dim": space.dim, "metric": space.metric, "model": space.model, "probe_text": space.probe_text}
    return {**fields, "probe_vector": None if probe is None else base64.b64encode(probe).decode()}


def from_space(name: str, said: Mapping[str, Any]) -> Space:
    """What `as_space` wrote.

    Raises:
        ValueError, TypeError, KeyError: it did not.
    """
    probe = said["probe_vector"]
    if not isinstance(said["dim"], int) or not isinstance(said["metric"], str):
        raise TypeError(f"{name} is no vector space: {said!r}")
    return Space(
        name, said["dim"], said["metric"], said["model"], said["probe_text"], None if probe is None else unpacked(probe)
    )


def vector_text(vector: Matrix, origin: VectorOrigin) -> str:
    """A vector as JSON, exactly; what is as it would be anyway is left out."""
    said: dict[str, Any] = {"float32": base64.b64encode(vector.astype("<f4", copy=False).tobytes()).decode()}
    plain = Vector(None)
    for name in ("source", "confidence"):
        if getattr(origin, name) != getattr(plain, name):
            said[name] = getattr(origin, name)
    if origin.updates:
        said["updates"] = origin.updates
    if origin.text_hash is not None:
        said["hash"] = origin.text_hash.hex()
    return to_json(said).decode()


# -- reading -----------------------------------------------------------------------------------------------------------


def read_lines(path: Path, kind: str | None = None) -> Source:
    """JSON lines, compressed or not, as a log that is replayed in order.

    Raises:
        ValidationError: when it is read, for a bad line, by its number. A last line without its end, as a crash leaves
            it, is skipped and noted.
    """
    source = Source(path, lambda: _items(source, kind), replays=True)
    first = next(lines_of(path), None)
    if first is not None:
        with contextlib.suppress(JsonError):  # told with its number when it is read
            _take_header(source, parsed(first[1], source.at(1)))
    return source


class JsonError(Exception):
    """A text is no JSON."""


def parsed(text: bytes, where: str) -> Any:
    """What a JSON text says.

    Raises:
        JsonError: it is none, or has NaN or infinity in it.
        ValidationError: it would take absurdly more memory than its text; the message starts with `where`.
    """
    check_lists(text, where)
    try:
        return from_json(text, allow_inf_nan=False)
    except (ValueError, RecursionError) as error:
        raise JsonError(f"is not JSON: {error}") from None


def _items(source: Source, kind: str | None) -> Iterator[Item]:
    """A line late, so that the last one is known as such."""
    held: tuple[int, bytes] | None = None
    for line in lines_of(source.path):
        if held is not None:
            yield from _item(source, *held, kind, last=False)
        held = line
    if held is not None:
        yield from _item(source, *held, kind, last=True)


def _item(source: Source, number: int, line: bytes, kind: str | None, *, last: bool) -> Iterator[Item]:
    try:
        said = parsed(line, source.at(number))
    except JsonError as error:
        if last and not line.endswith(b"\n"):
            source.note(f"{source.at(number)}: the last line was cut short and is left out ({len(line)} bytes)")
            return
        raise ValidationError(f"{source.at(number)}: {error}") from None
    if number == 1 and isinstance(said, dict) and "vectorstore" in said:
        return
    yield as_item(said, number, kind, source.at, len(line) + LIST_SIZE * brackets(line))


def as_item(said: Any, place: int, kind: str | None, at: Any, size: int = 0) -> Item:
    """The item that a line of so many bytes says.

    Raises:
        ValidationError: it is none, named with its place.
    """
    if not isinstance(said, dict):
        raise ValidationError(f"{at(place)}: expected a JSON object, got {str(said)[:80]!r}")
    keys = said.keys()
    if "kind" in said and isinstance(said["kind"], str):
        if isinstance(said.get("record"), dict) and keys <= _ENVELOPE:
            vectors = said.get("vectors")
            read = NO_VECTORS if vectors is None else _vectors(vectors, f"{at(place)}: vectors")
            return Item(said["kind"], said["record"], place, "", read, size)
        if isinstance(said.get("deleted"), str) and keys <= _TOMBSTONE:
            return Item(said["kind"], None, place, said["deleted"])
    if kind is None:
        raise ValidationError(
            f'{at(place)}: expected {{"kind": ..., "record": {{...}}}} or {{"kind": ..., "deleted": id}}; '
            "for lines that are records themselves name their kind"
        )
    if isinstance(said.get("deleted"), str) and keys <= _TOMBSTONE:
        return Item(kind, None, place, said["deleted"])
    return Item(kind, said, place, size=size)


def _vectors(said: Any, where: str) -> dict[str, Vector]:
    if not isinstance(said, dict):
        raise ValidationError(f"{where}: expected an object of vectors by space, got {str(said)[:80]!r}")
    return {space: _vector(value, f"{where}.{space}") for space, value in said.items()}


def _vector(said: Any, where: str) -> Vector:
    if isinstance(said, list):
        said = {"float32": said}
    if not isinstance(said, dict) or "float32" not in said or said.keys() - _VECTOR:
        raise ValidationError(f"{where}: expected numbers, or an object with float32 and {', '.join(sorted(_VECTOR))}")
    numbers, digest = said["float32"], said.get("hash")
    try:
        if isinstance(numbers, str):
            numbers = np.frombuffer(unpacked(numbers), dtype="<f4")
        text_hash = None if digest is None else bytes.fromhex(digest)
        if text_hash is not None and len(text_hash) != 16:
            raise ValueError("a hash has 16 bytes")
        vector = Vector(
            numbers, said.get("source", "caller"), said.get("confidence", 1.0), said.get("updates"), text_hash
        )
        return check_vector(vector, where)
    except (ValueError, TypeError) as error:
        if isinstance(error, ValidationError):
            raise
        raise ValidationError(f"{where}: is no vector: {error}") from None


def check_vector(vector: Vector, where: str) -> Vector:
    """The vector, if what it says of its origin can be.

    Raises:
        ValidationError: it cannot.
    """
    sure, updates = vector.confidence, vector.updates
    if not isinstance(vector.source, str):
        raise ValidationError(f"{where}.source: expected text, got {vector.source!r}")
    if isinstance(sure, bool) or not isinstance(sure, int | float) or not 0 <= sure <= 1:
        raise ValidationError(f"{where}.confidence: expected 0..1, got {sure!r}")
    if updates is not None and (isinstance(updates, bool) or not isinstance(updates, int) or not 0 <= updates < 2**62):
        raise ValidationError(f"{where}.updates: expected a whole number, zero or more, got {updates!r}")
    return vector


def unpacked(text: Any) -> bytes:
    """The bytes that base 64 stands for.

    Raises:
        ValueError, TypeError: it is none.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected base 64, got {text!r}")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"bad base 64: {error}") from None


def _take_header(source: Source, said: Any) -> None:
    """Take over what an export says of itself.

    Raises:
        NewerFormat: another vectorstore wrote it, in a way that this one does not know.
        ValidationError: it is damaged.
    """
    if not isinstance(said, dict) or "vectorstore" not in said:
        return
    if not isinstance(said["vectorstore"], int):
        raise ValidationError(
            f"{source.at(1)}: vectorstore: expected the number of a format, got {said['vectorstore']!r}"
        )
    if said["vectorstore"] > FORMAT:
        raise NewerFormat(
            f"{source.path} has format {said['vectorstore']}; this vectorstore reads up to {FORMAT}: upgrade it"
        )
    try:
        source.spaces = {name: from_space(name, space) for name, space in said["spaces"].items()}
        source.total = sum(said["records"].values()) + sum(said.get("deleted", {}).values())
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValidationError(f"{source.at(1)}: is no header of an export: {error}") from None


def read_json(path: Path, kind: str | None = None) -> Source:
    """One JSON document: an export, or a list of records of a kind.

    Raises:
        ValidationError: it is none.

    Memory: the document.
    """
    try:
        said = parsed(whole_bytes(path), str(path))
    except JsonError as error:
        raise ValidationError(f"{path}: {error}") from None
    header = said.get("vectorstore") if isinstance(said, dict) else None
    listed = said.get("lines") if header is not None else said
    if isinstance(said, dict) and header is None:
        listed = [said]
    if not isinstance(listed, list):
        raise ValidationError(f"{path}: expected an export, or a list of records")

    def items() -> Iterator[Item]:
        for place, line in enumerate(listed, 1):
            yield as_item(line, place, kind, source.at)

    source = Source(path, items, unit="item", replays=True)
    _take_header(source, header)
    source.total = len(listed)
    return source
