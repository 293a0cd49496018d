"""Arguments into values: filters, fields, queries.

`domain=physics` means what the field's type says: text stays text, numbers, lists and booleans are read as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from vectorstore.errors import ValidationError

_LISTS = frozenset({"in", "nin", "has_any", "has_all"})
_NUMBERS = frozenset({"integer", "real", "boolean"})


def as_where(texts: Sequence[str] | None, kind: type[Any]) -> dict[str, Any] | None:
    """The filter that several --where make: all of them must hold.

    Args:
        texts: JSON objects, or name[__operator]=value.
        kind: the record class, for the types of its fields.

    Raises:
        ValidationError: neither; what the names mean is checked by the search itself.
    """
    parts: list[dict[str, Any]] = []
    for text in texts or ():
        if text.lstrip().startswith("{"):
            parts.append(as_object(text, "--where"))
            continue
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ValidationError(f"--where: expected domain=physics, quality__gte=0.7 or a JSON object, got {text!r}")
        parts.append({key.strip(): _compared(key.strip(), value, kind)})
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else {"and": parts}


def as_index(text: str) -> str | dict[str, str | None] | None:
    """What `vs.open(index=...)` takes, of `milvus://host`, of `concepts=milvus://host,memories=none`, or of `none`.

    Raises:
        ValidationError: a kind comes twice.
    """
    if not re.match(r"\w+=", text):
        return None if text.strip().lower() in ("", "none") else text
    served: dict[str, str | None] = {}
    for part in re.split(r",(?=\w+=)", text):
        kind, _, address = part.partition("=")
        if kind in served:
            raise ValidationError(f"--index: {kind} comes twice", value=text)
        served[kind] = None if address == "none" else address
    return served


def _compared(key: str, value: str, kind: type[Any]) -> Any:
    from vectorstore.records import schema_of  # here, so that --help does not wait for pydantic

    field, _, operator = key.partition("__")
    column = schema_of(kind).by_name.get(field.partition(".")[0])
    if operator in ("isnull", "isempty"):
        return as_json(value)
    if operator in _LISTS:
        listed = as_json(value)
        if isinstance(listed, list):
            return listed
        texts = value.split(",")
        return texts if column is None or column.type in ("text", "time") else [as_json(text) for text in texts]
    if column is not None and (column.type in _NUMBERS or "." in field):
        return as_json(value)
    return value


def as_fields(texts: Sequence[str], kind: type[Any]) -> dict[str, Any]:
    """The record that several --field name=value make.

    Raises:
        ValidationError: one is not name=value, or comes twice.
    """
    from vectorstore.records import schema_of

    columns = schema_of(kind).by_name
    record: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValidationError(f"--field: expected name=value, got {text!r}")
        if name in record:
            raise ValidationError(f'--field: {name} comes twice; a list is JSON: --field \'{name}=["a", "b"]\'')
        column = columns.get(name)
        record[name] = value if column is not None and column.type in ("text", "time") else _listed(column, value)
    return record


def _listed(column: Any, value: str) -> Any:
    """The value of a field that is no text: JSON, or `a, b` for a list."""
    read = as_json(value)
    if column is not None and column.type == "json" and isinstance(read, str) and column.name != "extra":
        return [part.strip() for part in read.split(",")]
    return read


def as_json(text: str) -> Any:
    """What the text says as JSON, or the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def as_object(text: str, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValidationError: it is none.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValidationError(f"{where}: is not JSON: {error}: {text[:80]!r}") from None
    if not isinstance(value, dict):
        raise ValidationError(f"{where}: expected a JSON object, got {text[:80]!r}")
    return value


def as_query(text: str) -> Any:
    """A text, or the vector that a JSON list of numbers is."""
    if text.lstrip().startswith("["):
        value = as_json(text)
        if isinstance(value, list) and value and all(isinstance(item, int | float) for item in value):
            return value
    return text
