"""The filter language: one small dict, the same in Python, on the command line and over HTTP.

    {"domain": "physics"}                                  equal (None: is null)
    {"quality__gte": 0.7, "tags__has": "heat"}             several keys: all must hold
    {"or": [{"domain": "physics"}, {"domain": "music"}]}   also "and": [...], "not": {...}
    {"extra.source__in": ["a", "b"]}                       a path into a JSON field

Operators: eq (or none), ne, gt, gte, lt, lte, in, nin, contains, icontains (as names are compared), startswith,
endswith, glob, has, has_any, has_all, isnull. A key of a JSON field that itself holds `__` needs its operator said:
`extra.a__b__eq`. `parse` turns the dict into a tree of frozen nodes whose values are already in catalog form; SQL is
made of it in `storage/filters.py` and nowhere else. Comparisons mean what Python's do: `ne` and `nin` hold for None.

In a JSON field, where a value may be anything: contains, startswith and their like hold for texts, has for lists and
what they hold themselves, not in inner lists; a list or an object equals nothing; true is 1; every number comes before
every text; whole numbers beyond 64 bits are compared as floats.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vectorstore.errors import ValidationError, WhereError
from vectorstore.ids import fold, to_micros
from vectorstore.records.codecs import Value, plain_text
from vectorstore.records.record import _as_utc
from vectorstore.records.schema import Column, Schema

Where = Mapping[str, Any]

MAX_DEPTH = 16
MAX_TERMS = 500
MAX_GLOB = 10_000
"""Characters of a glob pattern: SQLite takes 50,000 bytes."""
_ORDER = frozenset({"eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "isnull"})
_TEXT = _ORDER | {"contains", "icontains", "startswith", "endswith", "glob"}
_LIST = frozenset({"has", "has_any", "has_all", "isnull"})
OPERATORS: dict[str, frozenset[str]] = {
    "text": _TEXT,
    "integer": _ORDER,
    "real": _ORDER,
    "time": _ORDER,
    "boolean": frozenset({"eq", "ne", "isnull"}),
    "json": _LIST,
    "path": _TEXT | _LIST,
}


@dataclass(frozen=True)
class Term:
    """One comparison. `path` leads into a JSON column; `value` is in catalog form (tuples for lists)."""

    column: Column
    path: tuple[str, ...]
    operator: str
    value: Value | tuple[Value, ...]


@dataclass(frozen=True)
class And:
    """All parts hold; no parts: everything."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """At least one part holds; no parts: nothing."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: Node


Node = Term | And | Or | Not


def parse(where: Where | None, schema: Schema[Any]) -> And | None:
    """The tree of a filter, or None when it holds for everything.

    Raises:
        WhereError: unknown field or operator, a value of the wrong type, too deep or too long.
    """
    if where is None:
        return None
    budget = [MAX_TERMS]
    node = _parse(where, schema, "where", 0, budget)
    return node if node.parts else None


def _parse(where: object, schema: Schema[Any], at: str, depth: int, budget: list[int]) -> And:
    if not isinstance(where, Mapping):
        raise WhereError(f"{schema.table}.{at}: expected a mapping such as {{'domain': 'physics'}}, got {where!r}")
    if depth > MAX_DEPTH:
        raise WhereError(f"{schema.table}.{at}: nested deeper than {MAX_DEPTH}")
    parts: list[Node] = []
    for key, value in where.items():
        here = f"{at}.{key}"
        budget[0] -= 1
        if budget[0] < 0:
            raise WhereError(f"{schema.table}.{at}: more than {MAX_TERMS} terms; use __in with a list")
        if key in ("and", "or"):
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise WhereError(f"{schema.table}.{here}: expected a list of filters, got {value!r}")
            inner = tuple(
                _parse(part, schema, f"{here}[{place}]", depth + 1, budget) for place, part in enumerate(value)
            )
            parts.append(And(inner) if key == "and" else Or(inner))
        elif key == "not":
            parts.append(Not(_parse(value, schema, here, depth + 1, budget)))
        else:
            term = _term(key, value, schema, here)
            if term.operator == "has_all" and isinstance(term.value, tuple):
                budget[0] -= len(term.value)  # each is a condition of its own
                if budget[0] < 0:
                    raise WhereError(f"{schema.table}.{here}: more than {MAX_TERMS} terms and values of has_all")
            parts.append(term)
    return And(tuple(parts))


def _term(key: object, value: Any, schema: Schema[Any], at: str) -> Term:
    if not isinstance(key, str):
        raise WhereError(f"{schema.table}.{at}: a filter key is text, got {key!r}")
    field, _, operator = key.rpartition("__") if "__" in key else (key, "", "")
    name, *path = field.split(".")
    column = schema.by_name.get(name)
    if column is None:
        known = ", ".join(sorted(schema.names))
        raise WhereError(f"{schema.table}.{at}: no field {name!r}; the fields are: {known}, and extra.<key>")
    if path and (column.type != "json" or not all(path)):
        raise WhereError(f"{schema.table}.{at}: {name} has no inner fields; only JSON fields have")
    if any('"' in step for step in path):
        raise WhereError(f"{schema.table}.{at}: a key in a path cannot hold a double quote")
    if not _storable(field):
        raise WhereError(f"{schema.table}.{at}: no key holds a NUL or a lone surrogate")
    allowed = OPERATORS["path" if path else column.type]
    operator = operator or ("eq" if "eq" in allowed else "has")
    if operator not in allowed:
        raise WhereError(
            f"{schema.table}.{at}: {field} ({column.type}) has no operator {operator!r}; "
            f"it has: {', '.join(sorted(allowed))}"
        )
    try:
        return Term(column, tuple(path), operator, _value(column, bool(path), operator, value))
    except (WhereError, ValidationError, ValueError, TypeError, OverflowError) as error:
        raise WhereError(f"{schema.table}.{at}: {error}") from None


def _storable(text: str) -> bool:
    try:
        plain_text(text)
    except ValueError:
        return False
    return True


def _value(column: Column, is_path: bool, operator: str, value: Any) -> Value | tuple[Value, ...]:
    if operator == "isnull":
        if not isinstance(value, bool):
            raise WhereError(f"expected true or false, got {value!r}")
        return int(value)
    if operator in ("in", "nin", "has_any", "has_all"):
        if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
            raise WhereError(f"expected a list, got {value!r}")
        found = tuple(_scalar(column, is_path, item) for item in value)
        if None in found and operator in ("has_any", "has_all"):
            raise WhereError("None can only be compared with eq, ne, in and nin, or use __isnull")
        return found
    scalar = _scalar(column, is_path, value)
    if operator in ("contains", "icontains", "startswith", "endswith", "glob") and not isinstance(scalar, str):
        raise WhereError(f"expected text, got {value!r}")
    if operator == "glob" and len(str(scalar)) > MAX_GLOB:
        raise WhereError(f"a pattern has at most {MAX_GLOB} characters, got {len(str(scalar))}")
    if operator == "icontains":
        return fold(str(scalar))
    if scalar is None and operator not in ("eq", "ne"):
        raise WhereError("None can only be compared with eq and ne, or use __isnull")
    return scalar


def _scalar(column: Column, is_path: bool, value: Any) -> Value:
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()  # numpy scalars
    if value is None:
        return None
    if is_path or column.type == "json":
        if isinstance(value, bool):
            return int(value)
        if isinstance(value, str):
            return fold(plain_text(value)) if column.folded and not is_path else plain_text(value)
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value)  # as SQLite reads a number of that size in JSON
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            return value
        raise WhereError(f"expected text or a finite number, got {value!r}")
    if column.type == "text":
        if not isinstance(value, str):
            raise WhereError(f"expected text, got {value!r}")
        return fold(plain_text(value)) if column.folded else plain_text(value)
    if column.type == "time":
        moment = _as_utc(value)
        if not isinstance(moment, datetime):
            raise WhereError(f"expected a time with a zone, got {value!r}")
        return to_micros(moment)
    if column.type == "boolean":
        if not isinstance(value, bool):
            raise WhereError(f"expected true or false, got {value!r}")
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise WhereError(f"expected a finite number, got {value!r}")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise WhereError(f"expected a number of 64 bits, got {value}")
    return value


def says_nothing(node: Node) -> bool:
    """Whether the filter, or a part of it, is empty: it would hold for everything, or for nothing, unsaid."""
    if isinstance(node, Not):
        return says_nothing(node.part)
    return isinstance(node, And | Or) and (not node.parts or any(map(says_nothing, node.parts)))


def with_ids(node: Node | None, ids: str | Iterable[str] | None, schema: Schema[Any]) -> Node | None:
    """The filter that also wants one of the ids; None for ids adds nothing."""
    if ids is None:
        return node
    named = Term(schema.by_name["id"], (), "in", tuple([ids] if isinstance(ids, str) else ids))
    return named if node is None else And((named, node))
