"""Counts and times that only rise, raised in place: a use of a record is no new version of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vectorstore.errors import CorruptError
from vectorstore.records import Value, digest
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable


def raise_fields(
    connection: Connection,
    table: RecordTable[Any],
    rows: Sequence[int],
    *,
    counts: Mapping[str, int],
    times: Mapping[str, int],
) -> None:
    """Add to counts and lift times of rows; nothing else of them is written: no text, list, vector or version.

    Args:
        connection: of a running write transaction.
        table: the kind.
        rows: that exist; one that comes twice counts twice.
        counts: field -> what to add, once for each time a row is named.
        times: field -> an instant in microseconds, which stays when the row has a later one.

    Raises:
        CorruptError: a row was damaged since it was written.

    Cost: one read and one write a row, of the row's page alone.
    """
    named: dict[int, int] = {}
    for row in rows:
        named[row] = named.get(row, 0) + 1
    names = table.schema.names
    listed = ", ".join(f"t.{quote(name)}" for name in names)
    found = connection.execute(
        f"SELECT t.row, t.digest, {listed} FROM json_each(?) j CROSS JOIN {table.table} t ON t.row = j.value",
        (json.dumps(list(named)),),
    ).fetchall()
    changed = []
    for row, seal, *values in found:
        if digest(values) != seal:
            raise CorruptError(
                f"{table.name} row {row} (id {values[0]!r}) is damaged: its digest does not match; "
                "restore a backup, or overwrite the record with upsert"
            )
        new: list[Value] = list(values)
        for name, more in counts.items():
            place = names.index(name)
            new[place] = int(new[place] or 0) + more * named[row]
        for name, instant in times.items():
            place = names.index(name)
            old = new[place]
            new[place] = instant if old is None else max(int(old), instant)
        changed.append((*(new[names.index(name)] for name in (*counts, *times)), digest(new), row))
    assignments = ", ".join(f"{quote(name)} = ?" for name in (*counts, *times, "digest"))
    connection.executemany(f"UPDATE {table.table} SET {assignments} WHERE row = ?", changed)
