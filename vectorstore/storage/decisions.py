"""What was decided about near-duplicates at write, and about whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from vectorstore.ids import from_micros
from vectorstore.storage.connection import Connection

NOT_ADDED = ("reject", "merge")
"""After these actions `record` is no record; after the others it is."""


@dataclass(frozen=True)
class Decision:
    """One near-duplicate that was met at write.

    Attributes:
        record: the id that came in; of one that was rejected or merged the id that it had or that followed from its
            fields, "" when it had none.
        other: the id of the most alike record that was there before.
        similarity: the score of one for the other.
        action: "keep", "reject", "merge" or "link".
        seq: the commit.
        at: when.
    """

    record: str
    other: str
    similarity: float
    action: str
    seq: int
    at: datetime


def record_decisions(
    connection: Connection, kind: str, seq: int, now: int, rows: Iterable[tuple[str, str, float, str]]
) -> None:
    """Keep decisions of one commit: (record, other, similarity, action)."""
    connection.executemany(
        "INSERT INTO decisions(kind, record, other, similarity, action, seq, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        ((kind, *row, seq, now) for row in rows),
    )


def decisions_of(
    connection: Connection, kind: str, name: str | None, limit: int, after: int = 0
) -> tuple[list[tuple[None, int, Decision]], int]:
    """(None, number, decision) of a kind, oldest first, and how many there are in all.

    Args:
        connection: of a read transaction.
        kind: whose decisions.
        name: only those in which this id takes part on either side.
        limit: how many.
        after: only those with a higher number.
    """
    where, values = ("", ()) if name is None else (" AND (record = ? OR other = ?)", (name, name))
    of = f"FROM decisions WHERE kind = ?{where}"
    total = connection.execute(f"SELECT count(*) {of}", (kind, *values)).fetchone()[0]
    found = connection.execute(
        f"SELECT id, record, other, similarity, action, seq, at {of} AND id > ? ORDER BY id LIMIT ?",
        (kind, *values, after, limit),
    )
    return [
        (None, number, Decision(record, other, similarity, action, seq, from_micros(at)))
        for number, record, other, similarity, action, seq, at in found
    ], total


def forget_decisions(connection: Connection, kind: str, table: str, rows: Sequence[int]) -> None:
    """Remove all decisions that name one of these rows: an id can hold text, and erasing means erasing.

    Args:
        connection: of a running transaction.
        kind: whose decisions.
        table: the quoted name of the kind's table.
        rows: row numbers of the records, which are still there.
    """
    for side in ("record", "other"):
        connection.execute(
            f"DELETE FROM decisions WHERE kind = ? AND {side} IN "
            f"(SELECT id FROM {table} WHERE row IN (SELECT value FROM json_each(?)))",
            (kind, json.dumps(list(rows))),
        )


def lost_decisions(connection: Connection, kind: str, table: str) -> list[tuple[int, str]]:
    """(number, id) of decisions that name a record which is not there, five at most."""
    found = connection.execute(
        f"SELECT d.id, d.other FROM decisions d WHERE d.kind = ? AND d.other NOT IN (SELECT id FROM {table}) UNION ALL "
        f"SELECT d.id, d.record FROM decisions d WHERE d.kind = ? AND d.action NOT IN (?, ?) "
        f"AND d.record NOT IN (SELECT id FROM {table}) LIMIT 5",
        (kind, kind, *NOT_ADDED),
    ).fetchall()
    return [(number, name) for number, name in found]
