"""How a field's values are stored and come back: encoders and decoders, exact inverses, chosen by the hint."""

from __future__ import annotations

import enum
import functools
import json
import math
import re
import types
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin

import pydantic
from pydantic_core import from_json, to_json

from vectorstore.ids import from_micros, to_micros

Value = None | int | float | str | bytes
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""A NUL in JSON; an even number of backslashes before it are backslashes themselves."""
_from_micros = functools.lru_cache(maxsize=1024)(from_micros)  # the records of one commit share their times


def without_none(hint: Any) -> tuple[Any, bool]:
    """The hint without None, and whether None was among it."""
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        if len(rest) < len(get_args(hint)):
            return (rest[0] if len(rest) == 1 else Union[tuple(rest)]), True  # noqa: UP007 - built from values
    return hint, False


def choices(hint: Any) -> tuple[str, ...]:
    """The texts that a hint allows, if it names them: of a Literal or an enum of texts; else none."""
    bare = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if get_origin(bare) in (Union, types.UnionType):
        return next((found for part in get_args(bare) if (found := choices(part))), ())
    if get_origin(bare) is Literal:
        return tuple(value for value in get_args(bare) if isinstance(value, str))
    if isinstance(bare, type) and issubclass(bare, enum.Enum) and issubclass(bare, str):
        return tuple(str(member.value) for member in bare)
    return ()


def codec(hint: Any) -> tuple[str, Callable[[Any], Value], Callable[[Any], Any] | None]:
    """(column type, encoder, decoder) of a hint; no decoder where the stored value is the value."""
    bare = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if get_origin(bare) is Literal and all(isinstance(value, str) for value in get_args(bare)):
        return "text", str, None
    if isinstance(bare, type):
        if issubclass(bare, enum.Enum) and issubclass(bare, str):
            return "text", lambda value: str(value.value), bare
        if bare is str:
            return "text", plain_text, None
        if bare is bool:
            return "boolean", int, bool
        if bare is int:
            return "integer", _small_integer, None
        if bare is float:
            return "real", _number, None
        if issubclass(bare, datetime):
            return "time", to_micros, _from_micros
    return "json", *_json_codec(hint, bare)


def _json_codec(hint: Any, bare: Any) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    """Most fields are of three plain shapes, whose JSON needs no pydantic on the way back: it was checked coming in."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(hint)
    shape, parts = get_origin(bare), get_args(bare)
    if shape is tuple and len(parts) == 2 and parts[1] is Ellipsis and is_text(parts[0]):
        return _texts_to_json, texts_from_json
    if bare == pydantic.JsonValue or (shape is dict and is_text(parts[0]) and parts[1] in (str, pydantic.JsonValue)):
        return _to_json, _value_from_json
    return (_to_json if _is_plain(bare) else functools.partial(_to_json, adapter=adapter)), adapter.validate_json


def is_text(hint: Any) -> bool:
    """Whether the hint is str, at most with constraints: a validator might make something else of it."""
    marks = getattr(hint, "__metadata__", ())
    return (get_args(hint)[0] if marks else hint) is str and all(
        isinstance(mark, pydantic.StringConstraints) for mark in marks
    )


def _is_plain(hint: Any) -> bool:
    """Whether json.dumps alone can write it: lists, tuples and dicts of JSON scalars."""
    if get_origin(hint) in (tuple, list, dict):
        return all(part is Ellipsis or _is_plain(without_none(part)[0]) for part in get_args(hint))
    if hasattr(hint, "__metadata__"):
        return _is_plain(get_args(hint)[0])
    return hint in (str, int, float, bool, pydantic.JsonValue)


def _texts_to_json(value: tuple[str, ...]) -> str:
    """What json.dumps gives for texts, seven times faster."""
    return _json_without_nul(to_json(value).decode() if value else "[]")


def _json_without_nul(text: str) -> str:
    """The JSON itself, if SQLite can read all of it: it ends a text at NUL, and a filter would find another one."""
    if "\\u0000" in text and _NUL.search(text):
        raise ValueError("text with a NUL character (U+0000)")
    return text


def _value_from_json(text: str) -> Any:
    return {} if text == "{}" else from_json(text)


def texts_from_json(text: str) -> tuple[str, ...]:
    """A list of texts, which nobody can change in place."""
    return () if text == "[]" else tuple(from_json(text))


def _to_json(value: Any, adapter: pydantic.TypeAdapter[Any] | None = None) -> str:
    if not value and isinstance(value, tuple | list):
        return "[]"
    if not value and isinstance(value, dict):
        return "{}"
    if adapter is not None:
        value = adapter.dump_python(value, mode="json")
    return _without_surrogates(_json_without_nul(_ENCODER.encode(value)))


def _number(value: Any) -> float:
    """As SQLite gives it back: -0.0 as 0.0, which the digest of the row must know; it keeps no NaN."""
    number = float(value) + 0.0
    if math.isnan(number):
        raise ValueError("NaN, of which SQLite makes null")
    return number


def plain_text(value: str) -> str:
    """The text itself, if SQLite can keep all of it."""
    if "\x00" in value:
        raise ValueError("text with a NUL character (U+0000)")
    return _without_surrogates(value)


def _without_surrogates(text: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text with a lone surrogate ({text[error.start]!r})") from None
    return text


def _small_integer(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} does not fit into 64 bits")
    return value
