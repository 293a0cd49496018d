"""Small reads that searches need besides whole records."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vectorstore.records import Schema, Value
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote


def records_of(connection: Connection, vids: Sequence[int]) -> dict[int, int]:
    """Vid -> the row of the record that it belongs to."""
    found = connection.execute(
        "SELECT v.vid, v.record FROM json_each(?) j CROSS JOIN vectors v ON v.vid = j.value", (json.dumps(list(vids)),)
    )
    return dict(found.fetchall())


def values_of(connection: Connection, schema: Schema[Any], rows: Sequence[int], field: str) -> dict[int, Value]:
    """Row -> one field's stored value."""
    column = schema.by_name[field]
    found = connection.execute(
        f"SELECT t.row, t.{quote(column.name)} FROM json_each(?) j CROSS JOIN {quote(schema.table)} t "
        "ON t.row = j.value",
        (json.dumps(list(rows)),),
    )
    return dict(found.fetchall())


def newest(connection: Connection, schema: Schema[Any], field: str) -> tuple[Value, bool]:
    """(the highest value of a field among records that are not deleted, whether all of them have one)."""
    name = quote(field)
    latest, lacking = connection.execute(
        f"SELECT max({name}), sum({name} IS NULL) FROM {quote(schema.table)} WHERE deleted_at IS NULL"
    ).fetchone()
    return latest, not lacking
