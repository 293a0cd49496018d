"""The filter tree as parameterised SQL.

Every fragment comes from the templates below; names come from the kind's schema, values are always bound.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from vectorstore.records import Value
from vectorstore.records.where import And, Node, Not, Or, Term

_COMPARE = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TEXTUAL = frozenset({"contains", "icontains", "startswith", "endswith", "glob"})


def compile_where(node: Node | None, table: str) -> tuple[str, list[Value]]:
    """(SQL condition over the table, parameters); everything is `1`."""
    if node is None:
        return "1", []
    if isinstance(node, Not):
        inner, values = compile_where(node.part, table)
        return f"({inner}) IS NOT TRUE", values
    if isinstance(node, And | Or):
        if not node.parts:
            return ("1" if isinstance(node, And) else "0"), []
        pieces = [compile_where(part, table) for part in node.parts]
        joined = (" AND " if isinstance(node, And) else " OR ").join(f"({sql})" for sql, _ in pieces)
        return joined, [value for _, values in pieces for value in values]
    return _term(node, table)


def _term(term: Term, table: str) -> tuple[str, list[Value]]:
    if term.column.listed is not None and not term.path and (term.column.type == "json" or _looks_up(term)):
        return _listed(term, table)
    if term.path:
        return _inner(term, f"{table}.{quote(term.column.name)}", json_path(term.path))
    own = f"{table}.{quote(term.column.key)}"
    target = f"fold({own})" if term.column.folded and term.column.listed is not None else own
    if term.operator in ("has", "has_any", "has_all"):
        return _elements(target, [], term)
    return _scalar(target, [], term)


def _inner(term: Term, field: str, path: str) -> tuple[str, list[Value]]:
    """What stands at a path of a JSON field; SQLite gives lists and objects as text, which they are not."""
    if term.operator in ("has", "has_any", "has_all"):
        return _elements(f"{field}, ?", [path], term)
    found = f"json_extract({field}, ?)"
    if term.operator == "isnull" or term.value is None:
        return _scalar(found, [path], term)
    if term.operator in _TEXTUAL:
        return _scalar(f"CASE json_type({field}, ?) WHEN 'text' THEN {found} END", [path, path], term)
    first: list[Value] = [path]
    if _meets_lists(term):
        found, first = f"CASE WHEN json_type({field}, ?) NOT IN ('array', 'object') THEN {found} END", [path, path]
    if isinstance(term.value, tuple) and None in term.value:
        some = Term(term.column, term.path, "in", tuple(value for value in term.value if value is not None))
        inside, values = _scalar(found, first, some)
        either = f"({inside} OR json_extract({field}, ?) IS NULL)"
        return either if term.operator == "in" else f"{either} IS NOT TRUE", [*values, path]
    return _scalar(found, first, term)


def _meets_lists(term: Term) -> bool:
    """Whether the text of a list or an object could pass; that costs as much again, and it seldom can."""
    wanted = term.value if isinstance(term.value, tuple) else (term.value,)
    if term.operator in _COMPARE:
        return term.operator in ("gt", "gte") or isinstance(term.value, str)
    return any(isinstance(value, str) and value.startswith(("[", "{")) for value in wanted)


def _scalar(target: str, first: list[Value], term: Term) -> tuple[str, list[Value]]:
    operator, value = term.operator, term.value
    if operator == "isnull":
        return f"{target} IS {'NULL' if value else 'NOT NULL'}", first
    if isinstance(value, tuple):
        listed: list[Value] = [json_list([item for item in value if item is not None])]
        inside = f"{target} IN (SELECT value FROM json_each(?))"
        if None in value:
            inside = f"({inside} OR {target} IS NULL)"
            listed = listed + first
        return (inside if operator == "in" else f"({inside}) IS NOT TRUE"), first + listed
    if operator in ("eq", "ne"):
        return f"{target} IS {'NOT ' if operator == 'ne' else ''}?", [*first, value]
    if operator in _COMPARE:
        return f"{target} {_COMPARE[operator]} ?", [*first, value]
    if operator == "contains":
        return f"instr({target}, ?) > 0", [*first, value]
    if operator == "icontains":  # compared as names are: whatever the case, the width and the spacing
        return f"instr(fold(CAST({target} AS TEXT)), ?) > 0", [*first, value]
    if operator == "startswith":
        return f"substr({target}, 1, length(?)) = ?", [*first, value, value]
    if operator == "endswith":
        if value == "":  # the last 0 characters would be all of them
            return f"{target} IS NOT NULL", first
        return f"substr({target}, -length(?)) = ?", [*first, value, value]
    return f"{target} GLOB ?", [*first, value]


def _elements(target: str, first: list[Value], term: Term) -> tuple[str, list[Value]]:
    wanted = term.value if isinstance(term.value, tuple) else (term.value,)
    # A key that is a number belongs to a list, and only what is neither list nor object has an atom.
    each = f"SELECT 1 FROM json_each({target}) WHERE typeof(json_each.key) = 'integer' AND json_each.atom"
    if term.operator == "has_any":
        return f"EXISTS ({each} IN (SELECT value FROM json_each(?)))", [*first, json_list(wanted)]
    if not wanted:
        return "1", []
    values: list[Value] = []
    for value in wanted:
        values += [*first, value]
    return " AND ".join([f"EXISTS ({each} = ?)"] * len(wanted)), values


def _looks_up(term: Term) -> bool:
    """Whether a filter on a listed text asks for values that its table can have."""
    wanted = term.value if isinstance(term.value, tuple) else (term.value,)
    return term.operator in ("eq", "in") and None not in wanted


def _listed(term: Term, table: str) -> tuple[str, list[Value]]:
    """Listed fields have a table of their own, so that a filter on a value uses its index."""
    name = term.column.name
    if term.operator == "isnull":
        return f"{table}.{quote(name)} IS {'NULL' if term.value else 'NOT NULL'}", []
    kind = table.strip('"')
    own = f"{table}.row IN (SELECT row FROM {list_table(kind, name)} WHERE {value_column(name)}"
    wanted = term.value if isinstance(term.value, tuple) else (term.value,)
    if term.operator in ("has_any", "in"):
        return f"{own} IN (SELECT value FROM json_each(?)))", [json_list(wanted)]
    if not wanted:
        return "1", []
    return " AND ".join([f"{own} = ?)"] * len(wanted)), list(wanted)


def list_table(kind: str, field: str) -> str:
    """The quoted name of the table that holds the values of a listed field."""
    return quote(f"{kind}_{field}")


def value_column(field: str) -> str:
    """What the values are called in the table of a listed field."""
    return "tag" if field == "tags" else "value"


def json_path(path: tuple[str, ...]) -> str:
    """A SQLite JSON path; each step is quoted (`where.parse` refuses quotes in them) and means no more than itself.

    SQLite compares a key as it is written in JSON, where a backslash or a tab is written as two characters.
    """
    return "$" + "".join(f".{json.dumps(step, ensure_ascii=False)}" for step in path)


def json_list(values: Iterable[Value]) -> str:
    """Values as JSON for `json_each`, which would end a text at a NUL and find another: no stored text has one."""
    listed = list(values)
    text = json.dumps(listed)
    if "\\u0000" in text:  # as no stored text has a lone surrogate
        text = json.dumps([each.replace("\0", "\ud800") if isinstance(each, str) else each for each in listed])
    return text


def quote(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def order_sql(column: Any, descending: bool) -> str:
    """ORDER BY over one schema column, ties by row."""
    direction = "DESC" if descending else "ASC"
    return f"{quote(column.key)} {direction}, row ASC"
