"""The base of every kind of record.

A kind is a frozen pydantic model that derives from `Record` and names its table:

    class Note(vs.Record, table="notes"):
        title: Annotated[str, vs.EMBEDDED, vs.INDEXED]
        body: Annotated[str, vs.EMBEDDED] = ""

Everything else (columns, indexes, filters, full-text columns, JSON schema, CLI) follows from the hints.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, StringConstraints

from vectorstore.errors import NotFound, ValidationError
from vectorstore.html import fields as table_of_fields
from vectorstore.ids import check_id, from_micros
from vectorstore.records.markers import INDEXED, LISTED, Ref


def _as_utc(value: object) -> object:
    """ISO text, microseconds since 1970 or a datetime with a zone, as a UTC datetime."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            return from_micros(value)
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError("a time needs a zone, such as 2026-01-31T12:00:00Z")
            return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{value!r} lies outside of the years 1 to 9999") from None
    return value


def _jsonable(value: dict[str, Any]) -> dict[str, Any]:
    stack: list[tuple[str, object]] = [("", value)]
    while stack:
        path, item = stack.pop()
        if isinstance(item, dict):
            stack.extend((f"{path}.{key}", inner) for key, inner in item.items())
        elif isinstance(item, list):
            stack.extend((f"{path}[{place}]", inner) for place, inner in enumerate(item))
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError(f"JSON has no {item!r} (at {path.lstrip('.')}); use null")
    return value


UtcTime = Annotated[datetime, BeforeValidator(_as_utc)]
"""A point in time; any zone comes in, UTC is kept."""

Unit = Annotated[float, Field(strict=True, ge=0.0, le=1.0, allow_inf_nan=False)]
"""A number in 0..1."""

Count = Annotated[int, Field(strict=True, ge=0)]
"""A whole number, zero or more."""

Extra = Annotated[dict[str, JsonValue], AfterValidator(_jsonable)]
"""JSON-able keys and values; NaN and infinity are refused."""

Tag = Annotated[str, StringConstraints(min_length=1, max_length=255)]

TEXT_SPACE = "text"
"""The name of a kind's first space, which its texts are embedded into."""

TOKENIZERS = ("unicode61", "porter", "trigram")
"""How full text is cut into words: at what is no letter or digit, in any language; the same with English endings taken
off (kings, king); every three characters, for substrings and for languages that are written without spaces."""

_TABLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_RESERVED = frozenset(
    {
        *("row", "digest", "state", "spaces", "segments", "vectors", "pending", "artifacts", "kinds"),
        *("audits", "decisions", "models", "memberships", "written", "state_saves"),
        *("trail", "trail_head", "trail_files", "erased_rows"),
        *("workflows", "workflow_items", "workflow_log"),
    }
)


class Record(pydantic.BaseModel):
    """What every kind has. `id` may be left out: the store gives a derived id or a ULID.

    From `expires_at` on, by the store's clock, a record is gone from every read and search as if it had been deleted
    then, without anybody writing; an upsert of its id makes it anew, and `purge` erases it.

    `version`, `updated_at` and `deleted_at` are kept by the store; `created_at` too unless given (imports).
    Unknown keys of dicts given to `add` are kept in `extra`; unknown keywords of the constructor are an error.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", revalidate_instances="never")
    table: ClassVar[str] = ""
    spaces: ClassVar[tuple[str, ...]] = ()
    text_tokenizer: ClassVar[str | None] = None

    id: str = ""
    context: Annotated[str, Ref("contexts"), INDEXED, StringConstraints(min_length=1)] = "default"
    version: Count = 1
    created_at: UtcTime | None = None
    updated_at: UtcTime | None = None
    deleted_at: UtcTime | None = None
    expires_at: Annotated[UtcTime | None, INDEXED] = None
    tags: Annotated[tuple[Tag, ...], LISTED] = ()
    extra: Extra = Field(default_factory=dict)

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except pydantic.ValidationError as error:
            raise readable(error, type(self).__name__) from error
        if (problem := self.incomplete(self.__dict__)) is not None:
            raise ValidationError(f"{type(self).__name__}.{problem}")

    def __init_subclass__(
        cls, *, table: str = "", spaces: tuple[str, ...] = (), tokenizer: str | None = None, **keywords: Any
    ) -> None:
        """Take the table name, further vector spaces and the full text's tokenizer from the class statement."""
        super().__init_subclass__(**keywords)
        if tokenizer is not None:
            cls.text_tokenizer = check_tokenizer(tokenizer, cls.__name__)
        for name in spaces:
            if not _TABLE_NAME.fullmatch(name) or name == TEXT_SPACE:
                raise ValidationError(f"{cls.__name__}: spaces={name!r} is not usable; use a-z, 0-9 and _, not 'text'")
        if spaces:
            cls.spaces = spaces
        if table:
            if not _TABLE_NAME.fullmatch(table) or table in _RESERVED:
                raise ValidationError(
                    f"{cls.__name__}: table={table!r} is not usable; use 1..48 of a-z, 0-9 and _, none of "
                    f"{', '.join(sorted(_RESERVED))}"
                )
            cls.table = table

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, table: str = "", spaces: tuple[str, ...] = (), tokenizer: str | None = None, **keywords: Any
    ) -> None:
        """The names were taken by `__init_subclass__`; pydantic hands it on here as well."""
        super().__pydantic_init_subclass__(**keywords)

    @pydantic.field_validator("id")
    @classmethod
    def _id_rules(cls, value: str) -> str:
        return check_id(value) if value else value

    @pydantic.field_validator("context")
    @classmethod
    def _context_rules(cls, value: str) -> str:
        return check_id(value)

    @classmethod
    def parse(cls, fields: Mapping[str, Any], where: str) -> Self:
        """A record from plain data; unknown keys go into `extra`.

        Raises:
            ValidationError: its message starts with `where`, such as "concepts[17]".
        """
        known = cls.model_fields
        if fields.keys() - known.keys():
            extra = {key: value for key, value in fields.items() if key not in known}
            fields = {key: value for key, value in fields.items() if key in known}
            own = fields.get("extra") or {}
            fields["extra"] = {**own, **extra} if isinstance(own, Mapping) else own
        if not all(isinstance(key, str) for key in fields):
            raise ValidationError(f"{where}: expected text as keys, got {list(fields)!r}")
        try:
            return cls(**fields)
        except ValidationError as error:
            if isinstance(error.__cause__, pydantic.ValidationError):
                raise readable(error.__cause__, where) from None
            own = f"{cls.__name__}."
            if str(error).startswith(own):
                raise ValidationError(f"{where}.{str(error).removeprefix(own)}") from None
            raise

    @classmethod
    def space_name(cls, space: str | None) -> str:
        """How a vector space of this kind is called in the catalog: `analogies`, `analogies.relation`.

        Raises:
            NotFound: the kind declares no such space.
        """
        if space is None or space == TEXT_SPACE:
            return cls.table
        if space not in cls.spaces:
            known = ", ".join((TEXT_SPACE, *cls.spaces))
            raise NotFound(f"{cls.table}: no vector space {space!r}; it has: {known}")
        return f"{cls.table}.{space}"

    @classmethod
    def incomplete(cls, fields: Mapping[str, Any]) -> str | None:
        """What is missing beside what is given, as `field: why`; None when the record is whole.

        For what no single hint can say. Each field is valid by itself; one that is absent has its default.
        """
        return None

    def derived_id(self) -> str | None:
        """The id that follows from the record's own fields, or None for a ULID."""
        return None

    def embedding_text(self) -> str | None:
        """The text that stands for this record in vector search; None takes the EMBEDDED fields in order."""
        return None

    def _repr_html_(self) -> str:
        """A table for notebooks: what the record says, then what the store says of it."""
        own = {name: getattr(self, name) for name in type(self).model_fields if name not in Record.model_fields}
        kept = {"tags": self.tags, **self.extra, "expires_at": self.expires_at, "updated_at": self.updated_at}
        state = f"version {self.version}{', deleted' if self.deleted_at else ''}"
        return table_of_fields(f"{self.table or type(self).__name__} · {self.id or 'no id yet'} · {state}", own | kept)


def check_tokenizer(name: object, where: str) -> str:
    """The name of a tokenizer, if it is one.

    Raises:
        ValidationError: it is none.
    """
    if name not in TOKENIZERS:
        raise ValidationError(f"{where}: tokenizer={name!r} is not one of {', '.join(TOKENIZERS)}")
    return str(name)


def readable(error: pydantic.ValidationError, where: str) -> ValidationError:
    """Our error for pydantic's: `concepts[17].quality: expected 0..1, got 7.5`, one line a problem."""
    lines, problems = [], error.errors(include_url=False, include_context=True)
    for problem in problems:
        path = where
        for part in problem["loc"]:
            path += f"[{part}]" if isinstance(part, int) else f".{part}"
        lines.append(f"{path}: {_expectation(problem)}")
    return ValidationError("\n".join(lines), value=problems[0]["input"])


def _expectation(problem: Any) -> str:
    kind, bound = problem["type"], problem.get("ctx", {})
    got = repr(problem["input"])
    got = got if len(got) <= 80 else got[:77] + "..."
    if kind == "missing":
        return "is required"
    if kind == "extra_forbidden":
        return f"no such field, got {got}; data of your own goes into extra={{...}}"
    phrase = _PHRASES.get(kind)
    if phrase is not None:
        return f"expected {phrase(bound)}, got {got}"
    if kind == "value_error":
        return str(problem["msg"]).removeprefix("Value error, ")
    return f"{str(problem['msg'])[:1].lower()}{str(problem['msg'])[1:]}, got {got}"


def _is(bound: object, number: float) -> bool:
    """Whether a bound is this number, and not a whole one: counts have bounds too."""
    return isinstance(bound, float) and bound == number


_PHRASES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "greater_than_equal": lambda bound: "0..1" if _is(bound.get("ge"), 0.0) else f"at least {bound.get('ge')}",
    "less_than_equal": lambda bound: "0..1" if _is(bound.get("le"), 1.0) else f"at most {bound.get('le')}",
    "greater_than": lambda bound: f"more than {bound.get('gt'):g}",
    "float_type": lambda _: "a number",
    "float_parsing": lambda _: "a number",
    "finite_number": lambda _: "a finite number",
    "int_type": lambda _: "a whole number",
    "string_type": lambda _: "text",
    "string_unicode": lambda _: "text without lone surrogates",
    "string_too_short": lambda bound: f"at least {bound.get('min_length')} characters",
    "string_too_long": lambda bound: f"at most {bound.get('max_length')} characters",
    "tuple_type": lambda _: "a list",
    "dict_type": lambda _: "a mapping",
    "datetime_type": lambda _: "a time with a zone",
}
