"""Expiry: the deletions that time has made, written down.

Reads and searches leave expired records out by the clock alone. Whoever writes to the kind next deletes them for good
measure, as of the instant they expired: so their ids and unique values are free, and a purge finds them.
"""

from __future__ import annotations

from typing import Any

from vectorstore.records import Row
from vectorstore.storage import RecordTable, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.models import mark_stale

_VERSION, _CREATED, _DELETED, _EXPIRES = 2, 3, 5, 6


def expire(transaction: Transaction, table: RecordTable[Any]) -> int:
    """Delete the kind's expired records and retire their vectors; returns how many.

    Cost: a few microseconds when there are none, about 30 for each that there is, once.
    """
    connection = transaction.connection
    due = table.due(connection, transaction.now)
    if not due:
        return 0
    changed: list[tuple[int, Row]] = []
    for number, row in due:
        version, moment = int(row[_VERSION] or 0) + 1, row[_EXPIRES]
        changed.append((number, (*row[:_VERSION], version, row[_CREATED], moment, moment, *row[_DELETED + 1 :])))
    table.replace(connection, changed, text_changed=False)
    numbers = [number for number, _ in due]
    for space in rows.spaces_of(connection, table.name):
        mark_stale(connection, space.name, transaction.seq)
        live = rows.live_vectors(connection, space.id, numbers)
        rows.retire(connection, [vid for vid, _, _ in live.values()], transaction.seq)
    details = {"kind": table.name, "operation": "expire", "records": len(due), "vectors": 0}
    transaction.notes.append(("commit", details))
    return len(due)
