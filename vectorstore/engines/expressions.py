"""The filter tree as an expression of an engine.

One meaning everywhere: that of `records/where.py`, where a comparison with nothing is false, `ne` and `nin` hold for
nothing, and `not` turns true and false around. Servers have had no null until lately, so a field that can be empty has
a second, boolean one beside it that says so. What cannot be said, or not surely with the same meaning, is None, and
the store then looks the rows up itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from vectorstore.engines.protocol import MAX_BYTES, STAMP, Field
from vectorstore.records import Column, Schema, Value
from vectorstore.records.where import And, Node, Not, Term

NOTHING, EVERYTHING = "vid < 0", "vid >= 0"
_RANGE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_SPEAKABLE = re.compile(r"[^\x00-\x1f\x7f\\%_]*")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f\\]*")
_ALWAYS_NEW = frozenset({"id", "version", "updated_at", "deleted_at"})
_MOST_FIELDS = 24


def fields_of(schema: Schema[Any]) -> list[Field]:
    """The fields of a kind that an engine keeps to filter by: numbers, times, truths, and texts with a SQL index.

    Left out are those that change with every write or read (`version`, `updated_at`, RISING ones), and ids.
    """
    chosen = [
        (column.key, column.type, column.nullable)
        for column in schema.columns
        if column.name not in _ALWAYS_NEW
        and not column.rising
        and column.type != "json"
        and column.listed is None
        and (column.indexed or column.type != "text")
    ]
    return chosen[:_MOST_FIELDS]


def expression(node: Node, fields: Sequence[Field]) -> str | None:
    """A filter as an expression over these fields; None when it cannot be said."""
    said = _said(node, {name: nullable for name, _, nullable in fields})
    return None if said is None else f"({said}) or odd == true"


def named(vids: Iterable[int]) -> str:
    """The expression that some vids, and no others, pass."""
    return f"vid in {list(vids)}"


def between(low: int, high: int) -> str:
    """The expression that vids from `low` to below `high` pass."""
    return f"vid >= {low} and vid < {high}"


def rows_only(where: str | None) -> str:
    """The expression without the stamp."""
    return f"vid > {STAMP}" if where is None else f"vid > {STAMP} and ({where})"


def _said(node: Node, fields: dict[str, bool]) -> str | None:
    if isinstance(node, Not):
        inner = _said(node.part, fields)
        return None if inner is None else f"not ({inner})"
    if isinstance(node, Term):
        return None if node.path or node.column.key not in fields else _term(node, fields[node.column.key])
    parts = [_said(part, fields) for part in node.parts]
    if any(part is None for part in parts):
        return None
    if not parts:
        return EVERYTHING if isinstance(node, And) else NOTHING
    return (" and " if isinstance(node, And) else " or ").join(f"({part})" for part in parts)


def _term(term: Term, nullable: bool) -> str | None:
    name, operator, value = term.column.key, term.operator, term.value
    empty = f"n_{name} == true" if nullable else NOTHING
    if operator == "isnull":
        return empty if value else f"not ({empty})"
    if isinstance(value, tuple):
        literals = [_literal(term.column, item) for item in value if item is not None]
        if None in literals or operator not in ("in", "nin"):
            return None
        inside = f"f_{name} in [{', '.join(map(str, literals))}]" if literals else NOTHING
        inside = f"({inside}) and not ({empty})" if nullable and literals else inside
        inside = f"({inside}) or {empty}" if None in value else inside
        return inside if operator == "in" else f"not ({inside})"
    if value is None:
        return empty if operator == "eq" else f"not ({empty})"
    literal = _literal(term.column, value)
    if literal is None:
        return None
    if operator in ("eq", "ne"):
        same = f"f_{name} == {literal}"
    elif operator in _RANGE and term.column.type != "boolean":
        same = f"f_{name} {_RANGE[operator]} {literal}"
    elif operator == "startswith" and _SPEAKABLE.fullmatch(str(value)):
        same = f"f_{name} like {json.dumps(str(value) + '%', ensure_ascii=False)}"
    else:
        return None
    same = f"{same} and not ({empty})" if nullable else same
    return f"not ({same})" if operator == "ne" else same


def _literal(column: Column, value: Value) -> str | None:
    """A value as it is written in an expression; None for what servers read in different ways."""
    if column.type == "text":
        fits = isinstance(value, str) and _PLAIN.fullmatch(value) and len(value.encode()) <= MAX_BYTES
        return json.dumps(value, ensure_ascii=False) if fits else None
    if column.type == "boolean":
        return "true" if value else "false"
    if not isinstance(value, int | float):
        return None
    if column.type == "real":
        return repr(float(value))
    if value != int(value) or not -(2**63) < value < 2**63:
        return None
    return str(int(value))


def cut(text: str) -> str:
    """The text as far as it fits into MAX_BYTES of UTF-8."""
    if len(text) * 4 <= MAX_BYTES:  # no character takes more
        return text
    return text.encode()[:MAX_BYTES].decode(errors="ignore")
