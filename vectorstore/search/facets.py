"""Facets: how many records have each value of a field, over all that a filter and a text allow."""

from __future__ import annotations

from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.records import Schema, Where, parse
from vectorstore.results import as_counts
from vectorstore.search.text import check_syntax, text_query
from vectorstore.storage import RecordTable
from vectorstore.storage.lookups import count_values
from vectorstore.sync import Sync


def facets(
    sync: Sync,
    table: RecordTable[Any],
    field: object,
    where: Where | None,
    query: object,
    limit: int | None,
    syntax: object,
) -> dict[Any, int]:
    """Value -> count, the most frequent first; see `SearchVerbs.facets`."""
    name, path = _field(table.schema, field)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise ValidationError(f"limit: expected a whole number of at least 1, or None, got {limit!r}")
    if query is not None and not isinstance(query, str):
        raise ValidationError(f"{table.name}.facets: query: expected a text, got {type(query).__name__}")
    if query is not None and not table.schema.text_columns:
        raise ValidationError(f"{table.name}: has no EMBEDDED text fields to search")
    node, checked = parse(where, table.schema), check_syntax(syntax)
    with sync.catalog.read() as connection:
        match = None
        if query is not None:
            match = text_query(connection, table, query, checked).match
            if match is None:
                return {}
        found = count_values(connection, table, name, path, node, match)
    decoder = table.schema.decoders[table.schema.names.index(name)]
    plain = table.schema.by_name[name].type != "json"
    counts: dict[Any, int] = {}
    for value, kind, count in found:
        if kind in ("true", "false"):
            value = bool(value)
        elif plain and decoder is not None and value is not None:
            value = decoder(value)
        counts[value] = count
    return as_counts(counts, limit)


def _field(schema: Schema[Any], field: object) -> tuple[str, tuple[str, ...]]:
    """(field, path into it)."""
    name, *path = field.split(".") if isinstance(field, str) else ("",)
    column = schema.by_name.get(name)
    if column is None or (path and column.type != "json") or not all(path) or any('"' in step for step in path):
        known = ", ".join(schema.names)
        raise ValidationError(f"{schema.table}: facets: expected one of {known}, or extra.<key>, got {field!r}")
    return name, tuple(path)
