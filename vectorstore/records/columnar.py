"""Many records at once, as columns of values, without an object for each.

A column is checked by the very validator that the kind's model has for that field, so that what passes is, value by
value, what each record would have held. What does not pass, and kinds whose checks look at more than one field, are
judged record by record with `Record.parse`, which has the words: `concepts[17].quality: expected 0..1, got 7.5`.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, Self, TypeVar

import pydantic
from pydantic.fields import FieldInfo
from pydantic_core import SchemaValidator, core_schema

from vectorstore.records.codecs import Value, plain_text
from vectorstore.records.record import Record
from vectorstore.records.schema import Row, Schema

R = TypeVar("R", bound=Record)
ABSENT: Final = object()
"""Stands where a record says nothing about a field; None is a value."""

_CONSTANT = (type(None), str, int, float, bool, tuple)
_FRESH = (dict, list, set)


class Missing(Exception):
    """A required field is left out somewhere in its column."""


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """No search for garbage in cycles meanwhile: new lists and tuples by ten thousands set it off in vain.

    Its passes over every object of the process would be an eighth of the time of an `add`. For short pieces of work
    that call nobody else's code but a kind's checks.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Valid(Generic[R]):
    """Records that passed the checks of their kind, as columns; as objects only when somebody asks for them.

    `values` has a list of `count` values by field; a field that is not in it has its default in every record.
    """

    def __init__(
        self, schema: Schema[R], values: Mapping[str, list[Any]], count: int, records: list[R] | None = None
    ) -> None:
        self.values = values
        self.count = count
        self._schema = schema
        self._records = records

    @classmethod
    def of(cls, schema: Schema[R], records: list[R]) -> Self:
        """Records that are objects already."""
        fields = [record.__dict__ for record in records]
        return cls(schema, {name: [held[name] for held in fields] for name in schema.names}, len(records), records)

    @property
    def records(self) -> list[R]:
        """The records, in order."""
        if self._records is None:
            fields, columns = self._schema.kind.model_fields, []
            for name in self._schema.names:
                default = _default(fields[name])
                columns.append(self.values[name] if name in self.values else [default() for _ in range(self.count)])
            self._records = [self._schema.trusted(row) for row in zip(*columns, strict=True)]
        return self._records

    def rows(self, ready: Mapping[str, Sequence[Value]], where: str, offset: int) -> list[Row]:
        """The records as `Schema.encode` makes rows of them.

        Args:
            ready: columns that need no encoding; they come before the records' own.
            where: the kind's name, for messages.
            offset: the place of the first record in the call.

        Raises:
            ValidationError: a value cannot be stored, named as `concepts[17].definition`.
        """
        columns: list[Sequence[Value]] = []
        try:
            for column, encoder in zip(self._schema.columns, self._schema.encoders, strict=True):
                found = self.values.get(column.name)
                if column.name in ready:
                    columns.append(ready[column.name])
                elif found is None:
                    columns.append([column.default] * self.count)
                elif encoder is plain_text:
                    plain_text("".join([value for value in found if value is not None]))
                    columns.append(found)
                else:
                    columns.append([None if value is None else encoder(value) for value in found])
        except (TypeError, ValueError, OverflowError):
            for place, record in enumerate(self.records, offset):
                self._schema.encode(record, f"{where}[{place}]")  # says which
            raise
        return list(zip(*columns, strict=True))


def from_mappings(items: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Mappings as columns, ABSENT where a key is missing."""
    first = items[0].keys()
    if all(item.keys() == first for item in items):
        return {name: [item[name] for item in items] for name in first}
    names = dict.fromkeys(name for item in items for name in item)
    return {name: [item.get(name, ABSENT) for item in items] for name in names}


def checked(schema: Schema[R], columns: Mapping[str, list[Any]], count: int, hole: object) -> Valid[R] | None:
    """The columns as valid records, or None when they have to be judged one by one.

    Args:
        schema: of the kind.
        columns: `count` values each; names that are no fields go into `extra`.
        count: how many records.
        hole: what stands where nothing is said about a field: ABSENT, or None in a table.
    """
    fields, validators = schema.kind.model_fields, _validators(schema.kind)
    if validators is None or not all(isinstance(name, str) for name in columns):
        return None
    if columns.keys() - fields.keys():
        united = _with_unknown(fields, columns, count, hole)
        if united is None:
            return None
        columns = united
    values: dict[str, list[Any]] = {}
    try:
        for name, field in fields.items():
            if name in columns:
                values[name] = _column(field, validators[name], columns[name], hole)
            elif field.is_required():
                return None
            elif field.default_factory not in (None, *_FRESH):  # each call may give something else
                values[name] = [_default(field)() for _ in range(count)]
    except (pydantic.ValidationError, Missing):
        return None
    incomplete = schema.kind.incomplete
    looks = incomplete.__func__ is not Record.incomplete.__func__  # type: ignore[attr-defined]
    if looks and any(incomplete(dict(zip(values, row, strict=True))) for row in zip(*values.values(), strict=True)):
        return None
    return Valid(schema, values, count)


def _column(field: FieldInfo, validator: SchemaValidator, column: list[Any], hole: object) -> list[Any]:
    optional = hole is None and field.default is None  # then None is the value that a hole stands for
    if optional or not any(map(operator.is_, column, itertools.repeat(hole))):
        found: list[Any] = validator.validate_python(column)
        return found
    if field.is_required():
        raise Missing
    default = _default(field)
    present = iter(validator.validate_python([value for value in column if value is not hole]))
    return [default() if value is hole else next(present) for value in column]


def _with_unknown(
    fields: Mapping[str, FieldInfo], columns: Mapping[str, list[Any]], count: int, hole: object
) -> dict[str, list[Any]] | None:
    """The columns with those that are no fields in `extra`, as `Record.parse` does it; None when it could not."""
    unknown = [(name, column) for name, column in columns.items() if name not in fields]
    extra = list(columns.get("extra", [hole] * count))
    for place in range(count):
        more = {name: column[place] for name, column in unknown if column[place] is not hole}
        if more:
            own = extra[place]
            own = {} if own is hole or not own else own
            if not isinstance(own, Mapping):
                return None
            extra[place] = {**own, **more}
    return {**{name: column for name, column in columns.items() if name in fields}, "extra": extra}


def _default(field: FieldInfo) -> Callable[[], Any]:
    """Gives the field's default, a new one each time when it could be changed."""
    if field.default_factory is None and type(field.default) in _CONSTANT:
        return lambda: field.default
    if field.default_factory in _FRESH:
        return field.default_factory  # those take no arguments
    return functools.partial(field.get_default, call_default_factory=True)


@functools.cache
def _validators(kind: type[Record]) -> dict[str, SchemaValidator] | None:
    """For each field a validator of lists of its values, or None when only a whole record can be judged.

    They are made from pydantic's own schema of the class. Whatever in it is not known to look at one field alone (a
    check of the whole model, a validator that asks for its surroundings, an alias, a constructor) gives None.
    """
    core: Any = kind.__pydantic_core_schema__
    model, definitions = core, []
    if core["type"] == "definitions":
        model, definitions = core["schema"], core["definitions"]
    own = kind.__init__ is not Record.__init__ or getattr(kind.parse, "__func__", None) is not Record.parse.__func__  # type: ignore[attr-defined]
    if own or model["type"] != "model" or "post_init" in model or model["schema"]["type"] != "model-fields":
        return None
    if _asks_around(core):
        return None
    validators = {}
    for name, field in model["schema"]["fields"].items():
        inner = field["schema"]
        if "validation_alias" in field:
            return None
        if inner["type"] == "default":
            if inner.get("validate_default") or inner.get("default_factory_takes_data"):
                return None
            inner = inner["schema"]
        schema = core_schema.list_schema(inner, fail_fast=True)
        validators[name] = SchemaValidator(core_schema.definitions_schema(schema, definitions), model.get("config"))
    return validators


def _asks_around(schema: Any) -> bool:
    """Whether some validator takes pydantic's `info`, in which it could see other fields."""
    if isinstance(schema, dict):
        if schema.get("type") == "with-info":
            return True
        return any(_asks_around(part) for name, part in schema.items() if name not in ("cls", "metadata"))
    return isinstance(schema, list | tuple) and any(map(_asks_around, schema))
