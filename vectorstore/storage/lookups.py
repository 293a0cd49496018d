"""Small reads that searches need besides whole records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vectorstore.records import Schema, Value
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import json_list, json_path, quote
from vectorstore.storage.tables import RecordTable, Rows


def records_of(connection: Connection, vids: Sequence[int]) -> dict[int, int]:
    """Vid -> the row of the record that it belongs to."""
    found = connection.execute(
        "SELECT v.vid, v.record FROM json_each(?) j CROSS JOIN vectors v ON v.vid = j.value", (json.dumps(list(vids)),)
    )
    return dict(found.fetchall())


class Named(NamedTuple):
    """A live record, by what it is called; `key` is its folded name."""

    row: int
    id: str
    context: str
    key: str
    name: str
    domain: str | None


def named(connection: Connection, table: RecordTable[Any], ids: Sequence[str], keys: Sequence[str]) -> list[Named]:
    """Live records with one of these ids, and those with one of these folded names, in order of arrival.

    The name of a kind is its first FOLDED field; without one only ids are found, with empty names.
    """
    schema = table.schema
    own = schema.folded[0] if schema.folded else None
    key, name = (quote(own.key), quote(own.name)) if own is not None else ("''", "''")
    domain = "domain" if "domain" in schema.by_name else "NULL"
    select = f"SELECT row, id, context, {key}, {name}, {domain} FROM {table.table} WHERE {table.live} AND"
    found = connection.execute(f"{select} id IN (SELECT value FROM json_each(?))", (json_list(ids),)).fetchall()
    keys = [*keys, *(row[3] for row in found)]
    if own is not None:
        found += connection.execute(f"{select} {key} IN (SELECT value FROM json_each(?))", (json_list(keys),))
    return sorted({row[0]: Named(*row) for row in found}.values())


def names_in_space(connection: Connection, table: RecordTable[Any], space: int) -> tuple[Rows, list[str]]:
    """((n,) vids, names) of the live records with a vector in a space, in order of arrival."""
    name = quote(table.schema.folded[0].name)
    found = connection.execute(
        f"SELECT v.vid, {table.table}.{name} FROM {table.table} CROSS JOIN vectors v "
        f"ON v.record = {table.table}.row AND v.space = ? AND v.retired IS NULL WHERE {table.live} "
        f"ORDER BY {table.table}.row",
        (space,),
    ).fetchall()
    return np.array([vid for vid, _ in found], dtype=np.int64), [name for _, name in found]


def sources_of(connection: Connection, space: int, rows: Sequence[int]) -> dict[int, str]:
    """Row -> where its live vector in a space comes from, for those that have one."""
    found = connection.execute(
        "SELECT v.record, v.source FROM json_each(?) j CROSS JOIN vectors v "
        "ON v.record = j.value AND v.space = ? AND v.retired IS NULL",
        (json.dumps(list(rows)), space),
    )
    return dict(found.fetchall())


def values_of(
    connection: Connection, schema: Schema[Any], rows: Sequence[int], field: str, path: tuple[str, ...] = ()
) -> dict[int, Value]:
    """Row -> one field's stored value, or what stands at a path in a JSON field (lists and mappings as JSON)."""
    value = f"t.{quote(schema.by_name[field].name)}"
    if path:
        value = f"json_extract({value}, ?)"
    found = connection.execute(
        f"SELECT t.row, {value} FROM json_each(?) j CROSS JOIN {quote(schema.table)} t ON t.row = j.value",
        (*([json_path(path)] if path else []), json.dumps(list(rows))),
    )
    return dict(found.fetchall())


def count_values(
    connection: Connection,
    table: RecordTable[Any],
    field: str,
    path: tuple[str, ...],
    node: Node | None,
    match: str | None,
) -> list[tuple[Value, str, int]]:
    """(value, its type, number of live records that have it) of one field; lists count by element.

    The type is what JSON calls it ("true" and "false" come as 1 and 0), "" in fields that are no JSON. NULL stands for
    records without a value, but not for those with an empty list; mappings are not counted.

    Args:
        connection: of the snapshot.
        table: the kind.
        field: a field of it.
        path: leads into a JSON field.
        node: the filter.
        match: an FTS5 expression that must match too; None for all records.
    """
    sql, values = table.condition(node)
    if match is not None:
        sql += f" AND {table.table}.row IN (SELECT rowid FROM {table.fts} WHERE {table.fts} MATCH ?)"
        values.append(match)
    target = f"{table.table}.{quote(field)}"
    if field == "tags":
        source = f"{table.tags.table} j JOIN {table.table} ON {table.table}.row = j.row"
        value, kind, first = "j.tag", "''", []
    elif table.schema.by_name[field].type == "json":
        source = f"{table.table} LEFT JOIN json_each({target}, ?) j"
        sql += f" AND json_type({target}, ?) IS NOT 'object' AND (j.type IS NOT NULL OR json_type({target}, ?) IS NULL)"
        value, kind, first = "j.value", "coalesce(j.type, '')", [json_path(path)]
        values = [*first, *values, *first, *first]
    else:
        source, value, kind = table.table, target, "''"
    found = connection.execute(
        f"SELECT {value}, min({kind}), count(DISTINCT {table.table}.row) FROM {source} WHERE {sql} GROUP BY 1", values
    )
    return found.fetchall()


def newest(connection: Connection, schema: Schema[Any], field: str) -> tuple[Value, bool]:
    """(the highest value of a field among records that are not deleted, whether all of them have one)."""
    name = quote(field)
    latest, lacking = connection.execute(
        f"SELECT max({name}), sum({name} IS NULL) FROM {quote(schema.table)} WHERE deleted_at IS NULL"
    ).fetchone()
    return latest, not lacking


def rows_by_value(connection: Connection, schema: Schema[Any], field: str) -> dict[Value, Rows]:
    """Value of a plain field -> the rows that have it, of all records that are not deleted; None for no value."""
    found = connection.execute(
        f"SELECT {quote(field)}, group_concat(row) FROM {quote(schema.table)} WHERE deleted_at IS NULL GROUP BY 1"
    ).fetchall()
    return {value: np.fromstring(text, dtype=np.int64, sep=",") for value, text in found}
