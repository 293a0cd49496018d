"""What follows from a kind's hints: columns, codecs, texts, filter fields.

`schema_of(kind)` reads the hints once. The row of a record is a tuple in the order of `columns`; `encode` and
`decode` are exact inverses, and `digest` seals the tuple so that a flipped bit in the catalog is noticed on read.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Generic, Optional, TypeVar, get_args, get_origin

import pydantic
from pydantic_core import from_json

from vectorstore.errors import ValidationError
from vectorstore.ids import fold
from vectorstore.records.codecs import Value, codec, is_text, texts_from_json, without_none
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, RISING, UNIQUE, Listed, Ref
from vectorstore.records.record import Record, UtcTime

R = TypeVar("R", bound=Record)
_set = object.__setattr__  # records are frozen
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
    ref: str | None = None
    cascade: bool = False
    listed: tuple[str, ...] | None = None
    rising: bool = False

    @property
    def sql_type(self) -> str:
        """The SQLite type in a STRICT table."""
        return SQL_TYPES.get(self.type, "TEXT")

    @property
    def key(self) -> str:
        """The column that comparisons use: the folded companion of a name, else the column itself."""
        return f"{self.name}_key" if self.folded and self.listed is None else self.name

    def values_of(self, stored: Value) -> list[str]:
        """What the table of a listed field holds of one stored list or text: its values, each once, names folded."""
        if stored is None:
            return []
        if self.type != "json":
            return [fold(str(stored)) if self.folded else str(stored)]
        found: list[Any] = from_json(str(stored))
        if self.listed:
            found = [item[key] for item in found for key in self.listed if item[key] is not None]
        return list(dict.fromkeys(map(fold, found) if self.folded else found))


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
    def folded(self) -> tuple[Column, ...]:
        """Names, which have a companion column `<name>_key`."""
        return tuple(column for column in self.columns if column.folded and column.listed is None)

    @functools.cached_property
    def listed(self) -> tuple[Column, ...]:
        """Lists whose values have a table of their own; the tags of every kind are the first."""
        return tuple(column for column in self.columns if column.listed is not None)

    @functools.cached_property
    def declaration(self) -> str:
        """The columns as JSON, as the catalog records them; kept, for they are half the time of making a store."""
        return json.dumps([dataclasses.asdict(column) for column in self.columns])

    @functools.cached_property
    def json_schema(self) -> str:
        """The kind's JSON schema."""
        return json.dumps(self.kind.model_json_schema())

    @functools.cached_property
    def rising(self) -> tuple[Column, ...]:
        """Counts and times that never fall while a record lives."""
        return tuple(column for column in self.columns if column.rising)

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
        """The record of a row; the row is trusted, its digest was checked by the caller."""
        return self.copy(self.half_decoded(row))

    def half_decoded(self, row: Sequence[Value]) -> dict[str, Any]:
        """Field -> value of a row, decoded as far as records may share it: all but what can be changed in place."""
        values: list[Any] = list(row)
        for at, decoder in self._shared:
            value = values[at]
            if value is not None:
                values[at] = decoder(value)
        return dict(zip(self.names, values, strict=True))

    def copy(self, half: Mapping[str, Any]) -> R:
        """A record of its own from what `half_decoded` gave; ten are made with every search."""
        fields = dict(half)
        for name, decoder in self._own:
            value = fields[name]
            if value is not None:
                fields[name] = decoder(value)
        return self._made(fields)

    def trusted(self, values: Iterable[Any]) -> R:
        """A record of values that are known to be valid, in the order of `columns`."""
        return self._made(dict(zip(self.names, values, strict=True)))

    def _made(self, fields: dict[str, Any]) -> R:
        """What pydantic's `model_construct` does for a complete set of fields, several times faster."""
        record = self.kind.__new__(self.kind)
        _set(record, "__dict__", fields)
        _set(record, "__pydantic_fields_set__", self._name_set)  # records are frozen, and copying one copies the set
        _set(record, "__pydantic_extra__", None)
        _set(record, "__pydantic_private__", None)
        return record

    @functools.cached_property
    def _name_set(self) -> set[str]:
        return set(self.names)

    @functools.cached_property
    def _shared(self) -> tuple[tuple[int, Callable[[Any], Any]], ...]:
        numbered = enumerate(zip(self.columns, self.decoders, strict=True))
        return tuple(
            (at, decoder) for at, (column, decoder) in numbered if decoder and not _changeable(column, decoder)
        )

    @functools.cached_property
    def _own(self) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
        both = zip(self.columns, self.decoders, strict=True)
        return tuple((column.name, decoder) for column, decoder in both if decoder and _changeable(column, decoder))

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
        hint, nullable = without_none(field.annotation)
        column_type, encoder, decoder = codec(hint)
        marks = field.metadata
        ref = next((mark for mark in marks if isinstance(mark, Ref)), None)
        listed = next((mark for mark in marks if isinstance(mark, Listed)), None)
        if listed is not None:
            _check_listed(kind, name, hint, listed)
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
                ref=ref.kind if ref else listed.ref if listed else None,
                cascade=ref is not None and ref.cascade,
                listed=None if listed is None else listed.keys,
                rising=RISING in marks,
            )
        )
        encoders.append(encoder)
        decoders.append(decoder)
    return Schema(kind, kind.table, tuple(columns), tuple(encoders), tuple(decoders))


def _check_listed(kind: Any, name: str, hint: Any, listed: Listed) -> None:
    """A listed field is a text, a list of texts, or one of objects whose keys hold texts."""
    bare = get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
    if bare == pydantic.JsonValue:  # a kind whose class is not at hand
        return
    parts = [part for part in get_args(bare) if part is not Ellipsis]
    inner = parts[0] if get_origin(bare) in (tuple, list) and len(parts) == 1 else None
    fields = getattr(inner, "model_fields", {})
    if listed.keys:
        good = all(key in fields and is_text(without_none(fields[key].annotation)[0]) for key in listed.keys)
    else:
        good = is_text(bare) or (inner is not None and is_text(inner))
    if not good:
        wanted = f"objects with the text fields {', '.join(listed.keys)}" if listed.keys else "texts, or a text"
        raise ValidationError(f"{kind.__name__}.{name}: LISTED needs a list of {wanted}")


def _changeable(column: Column, decoder: Callable[[Any], Any]) -> bool:
    """Whether a decoded value may hold something that can be changed in place."""
    return column.type == "json" and decoder is not texts_from_json


_UNTIDY = ("  ", " \n", "\n ", *"\t\v\f\r\x1c\x1d\x1e\x1f")


def folded_column(values: Sequence[Value]) -> list[str | None]:
    """The folded companion of a column of names."""
    names = [value for value in values if value is not None]
    joined = "\n".join(map(str, names))
    tidy = joined.isascii() and joined == joined.strip() and not any(map(joined.__contains__, _UNTIDY))
    if tidy and joined.count("\n") == len(names) - 1:  # all at once: no white space is to be changed
        folded = iter(joined.lower().split("\n"))
        return [None if value is None else next(folded) for value in values]
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
        common = Record.model_fields.get(column["name"])
        if common is not None:
            if column["indexed"] and INDEXED not in common.metadata:  # a kind may index what all kinds have
                fields[column["name"]] = (Annotated[common.rebuild_annotation(), INDEXED], common.default)
            continue
        hint = _HINTS[column["type"]]
        if column["nullable"]:
            hint = Optional[hint]  # noqa: UP045 - built from a value
        flags = [flag for flag in (EMBEDDED, FOLDED, INDEXED, RISING, UNIQUE) if column.get(flag.name)]
        marks: list[Any] = list(flags)
        if column.get("listed") is not None:
            marks.append(Listed(*column["listed"], ref=column["ref"]))
        elif column["ref"]:
            marks.append(Ref(column["ref"], cascade=column.get("cascade", False)))
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
