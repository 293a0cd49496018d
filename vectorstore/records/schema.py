"""What follows from a kind's hints: columns, codecs, texts, filter fields.

`schema_of(kind)` reads the hints once. The row of a record is a tuple in the order of `columns`; `encode` and
`decode` are exact inverses, and `digest` seals the tuple so that a flipped bit in the catalog is noticed on read.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar, Union, get_args, get_origin

import pydantic
from pydantic_core import from_json, to_json

from vectorstore.errors import ValidationError
from vectorstore.ids import fold, from_micros, to_micros
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, TERM, UNIQUE, Ref
from vectorstore.records.record import Record, UtcTime

R = TypeVar("R", bound=Record)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_set = object.__setattr__  # records are frozen
_from_micros = functools.lru_cache(maxsize=1024)(from_micros)  # the records of one commit share their times
Value = None | int | float | str | bytes
Row = tuple[Value, ...]

SQL_TYPES = {"text": "TEXT", "integer": "INTEGER", "real": "REAL", "boolean": "INTEGER", "time": "INTEGER"}


@dataclass(frozen=True)
class Column:
    """One field as the catalog sees it.

    `type` is one of text, integer, real, boolean, time (microseconds since 1970 UTC) and json.
    """

    name: str
    type: str
    nullable: bool
    required: bool
    default: Value
    embedded: bool = False
    indexed: bool = False
    unique: bool = False
    folded: bool = False
    term: bool = False
    ref: str | None = None

    @property
    def sql_type(self) -> str:
        """The SQLite type in a STRICT table."""
        return SQL_TYPES.get(self.type, "TEXT")

    @property
    def key(self) -> str:
        """The column that comparisons use: the folded companion of a name, else the column itself."""
        return f"{self.name}_key" if self.folded else self.name


TERMS = Column("terms", "json", nullable=False, required=False, default=None, folded=True)
"""What filters call the texts of all fields marked TERM together; no field of its own."""


@dataclass(frozen=True)
class Schema(Generic[R]):
    """A kind, read: its columns in order and the two directions of its codec."""

    kind: type[R]
    table: str
    columns: tuple[Column, ...]
    encoders: tuple[Callable[[Any], Value], ...]
    decoders: tuple[Callable[[Any], Any] | None, ...]

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in row order."""
        return tuple(column.name for column in self.columns)

    @functools.cached_property
    def by_name(self) -> dict[str, Column]:
        """Columns by field name."""
        return {column.name: column for column in self.columns}

    @functools.cached_property
    def filters(self) -> dict[str, Column]:
        """What a filter may name: the fields, and `terms` for kinds that have fields of terms."""
        if TERMS.name in self.by_name or not any(column.term for column in self.columns):
            return self.by_name
        return {**self.by_name, TERMS.name: TERMS}

    @functools.cached_property
    def folded(self) -> tuple[Column, ...]:
        """Names, which have a companion column `<name>_key`."""
        return tuple(column for column in self.columns if column.folded)

    @functools.cached_property
    def text_columns(self) -> tuple[Column, ...]:
        """Fields of full-text search and of the default embedding text, in order."""
        return tuple(column for column in self.columns if column.embedded)

    def encode(self, record: R, where: str) -> Row:
        """The record as a row, in the order of `columns`.

        Raises:
            ValidationError: a value cannot be stored; the message starts with `where`.
        """
        fields = record.__dict__
        values: list[Value] = []
        for column, encoder in zip(self.columns, self.encoders, strict=True):
            value = fields[column.name]
            if value is None:
                values.append(None)
                continue
            try:
                values.append(encoder(value))
            except (TypeError, ValueError, OverflowError) as error:
                raise ValidationError(f"{where}.{column.name}: cannot be stored: {error}") from error
        return tuple(values)

    def decode(self, row: Sequence[Value]) -> R:
        """The record of a row; the row is trusted, its digest was checked by the caller.

        What pydantic's `model_construct` does for a complete set of fields, three times faster: ten hits are decoded
        with every search.
        """
        values: list[Any] = list(row)
        for at, decoder in self._decoded:
            value = values[at]
            if value is not None:
                values[at] = decoder(value)
        return self.trusted(values)

    def trusted(self, values: Iterable[Any]) -> R:
        """A record of values that are known to be valid, in the order of `columns`."""
        record = self.kind.__new__(self.kind)
        _set(record, "__dict__", dict(zip(self.names, values, strict=True)))
        _set(record, "__pydantic_fields_set__", self._name_set.copy())
        _set(record, "__pydantic_extra__", None)
        _set(record, "__pydantic_private__", None)
        return record

    @functools.cached_property
    def _name_set(self) -> set[str]:
        return set(self.names)

    @functools.cached_property
    def _decoded(self) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
        return tuple((at, decoder) for at, decoder in enumerate(self.decoders) if decoder is not None)

    def text(self, record: R) -> str:
        """The text that is embedded for the record; may be empty."""
        own = record.embedding_text()
        if own is not None:
            return own
        parts = []
        for column in self.text_columns:
            value = getattr(record, column.name)
            if value:
                parts.append(", ".join(map(str, value)) if isinstance(value, tuple | list) else str(value))
        return ": ".join(parts)

    def signature(self) -> dict[str, str]:
        """Field name to type, as recorded in the catalog to notice a changed declaration."""
        return {column.name: column.type + ("?" if column.nullable else "") for column in self.columns}


def digest(row: Sequence[Value]) -> bytes:
    """8 bytes over all values of a row, types included (BLAKE2b)."""
    return hashlib.blake2b(repr(tuple(row)).encode("utf-8", "surrogatepass"), digest_size=8).digest()


def schema_of(kind: type[R]) -> Schema[R]:
    """The schema of a kind; read once.

    Raises:
        ValidationError: the class has no table name, or a hint that cannot be a column.
    """
    schema: Schema[R] = _read_hints(kind)
    return schema


@functools.cache
def _read_hints(kind: Any) -> Schema[Any]:
    if not kind.table:
        raise ValidationError(f"{kind.__name__}: say which table: class {kind.__name__}(vs.Record, table='...')")
    columns, encoders, decoders = [], [], []
    for name, field in kind.model_fields.items():
        hint, nullable = _without_none(field.annotation)
        column_type, encoder, decoder = _codec(hint)
        marks = field.metadata
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        columns.append(
            Column(
                name=name,
                type=column_type,
                nullable=nullable,
                required=field.is_required(),
                default=None if default is None else encoder(default),
                embedded=EMBEDDED in marks,
                indexed=INDEXED in marks,
                unique=UNIQUE in marks,
                folded=FOLDED in marks,
                term=TERM in marks,
                ref=next((mark.kind for mark in marks if isinstance(mark, Ref)), None),
            )
        )
        encoders.append(encoder)
        decoders.append(decoder)
    return Schema(kind, kind.table, tuple(columns), tuple(encoders), tuple(decoders))


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) in (Union, types.UnionType):
        rest = [part for part in get_args(hint) if part is not type(None)]
        if len(rest) < len(get_args(hint)):
            return (rest[0] if len(rest) == 1 else Union[tuple(rest)]), True  # noqa: UP007 - built from values
    return hint, False


def _codec(hint: Any) -> tuple[str, Callable[[Any], Value], Callable[[Any], Any] | None]:
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
            return "real", float, None
        if issubclass(bare, datetime):
            return "time", to_micros, _from_micros
    return "json", *_json_codec(hint, bare)


def _json_codec(hint: Any, bare: Any) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    """Most fields are of three plain shapes, whose JSON needs no pydantic on the way back: it was checked coming in."""
    adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(hint)
    shape, parts = get_origin(bare), get_args(bare)
    if shape is tuple and len(parts) == 2 and parts[1] is Ellipsis and _is_text(parts[0]):
        return _texts_to_json, _texts_from_json
    if bare == pydantic.JsonValue or (shape is dict and _is_text(parts[0]) and parts[1] in (str, pydantic.JsonValue)):
        return _to_json, from_json
    return (_to_json if _is_plain(bare) else functools.partial(_to_json, adapter=adapter)), adapter.validate_json


def _is_text(hint: Any) -> bool:
    """Whether the hint is str, at most with constraints: a validator might make something else of it."""
    marks = getattr(hint, "__metadata__", ())
    return (get_args(hint)[0] if marks else hint) is str and all(
        isinstance(mark, pydantic.StringConstraints) for mark in marks
    )


def _is_plain(hint: Any) -> bool:
    """Whether json.dumps alone can write it: lists, tuples and dicts of JSON scalars."""
    if get_origin(hint) in (tuple, list, dict):
        return all(part is Ellipsis or _is_plain(_without_none(part)[0]) for part in get_args(hint))
    if hasattr(hint, "__metadata__"):
        return _is_plain(get_args(hint)[0])
    return hint in (str, int, float, bool, pydantic.JsonValue)


def _texts_to_json(value: tuple[str, ...]) -> str:
    """What json.dumps gives for texts, seven times faster. SQLite's JSON ends a text at NUL, so none is let in."""
    text = to_json(value).decode() if value else "[]"
    if "\\u0000" in text:
        for part in value:
            plain_text(part)
    return text


def _texts_from_json(text: str) -> tuple[str, ...]:
    return () if text == "[]" else tuple(from_json(text))


def _to_json(value: Any, adapter: pydantic.TypeAdapter[Any] | None = None) -> str:
    if not value and isinstance(value, tuple | list):
        return "[]"
    if not value and isinstance(value, dict):
        return "{}"
    if adapter is not None:
        value = adapter.dump_python(value, mode="json")
    return _ENCODER.encode(value)


def plain_text(value: str) -> str:
    """The text itself, if SQLite can keep all of it."""
    if "\x00" in value:
        raise ValueError("text with a NUL character (U+0000)")
    return value


def _small_integer(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} does not fit into 64 bits")
    return value


def folded_column(values: Sequence[Value]) -> list[str | None]:
    """The folded companion of a column of names."""
    return [None if value is None else fold(str(value)) for value in values]


def folded_values(schema: Schema[Any], row: Row) -> list[str | None]:
    """The folded companion values of a row, in the order of `schema.folded`."""
    values = []
    for column in schema.folded:
        value = row[schema.names.index(column.name)]
        values.append(None if value is None else fold(str(value)))
    return values


_HINTS: dict[str, Any] = {
    "text": str,
    "integer": int,
    "real": float,
    "boolean": bool,
    "time": UtcTime,
    "json": pydantic.JsonValue,
}


def generic_kind(table: str, declaration: Sequence[dict[str, Any]], spaces: tuple[str, ...] = ()) -> type[Record]:
    """A class for a kind whose own class is not at hand, from the columns that the store recorded.

    It reads and writes the same rows; only checks and texts that the original class adds in code are absent.
    """
    fields: dict[str, Any] = {}
    for column in declaration:
        if column["name"] in Record.model_fields:
            continue
        hint = _HINTS[column["type"]]
        if column["nullable"]:
            hint = Optional[hint]  # noqa: UP045 - built from a value
        flags = [flag for flag in (EMBEDDED, FOLDED, INDEXED, TERM, UNIQUE) if column.get(flag.name)]
        marks = (*flags, *([Ref(column["ref"])] if column["ref"] else []))
        for mark in marks:
            hint = Annotated[hint, mark]
        if column["required"]:
            fields[column["name"]] = (hint, ...)
        elif column["type"] == "json" and column["default"] is not None:
            fields[column["name"]] = (
                hint,
                pydantic.Field(default_factory=partial(json.loads, column["default"])),
            )
        else:
            fields[column["name"]] = (hint, column["default"])
    return pydantic.create_model(
        table.title().replace("_", ""), __base__=Record, __cls_kwargs__={"table": table, "spaces": spaces}, **fields
    )
