"""What audits of recall found, over time."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime

from vectorstore.ids import from_micros
from vectorstore.storage.connection import Connection
from vectorstore.storage.history import recording
from vectorstore.storage.worklog import FORGOTTEN


@dataclass(frozen=True)
class Audit:
    """One audit: what searches delivered, counted against exact answers.

    Attributes:
        index: the recipe that answered, "exact" without an index.
        k: how many hits were compared.
        asked: the recall that was asked for.
        promised: the lowest that the plans promised.
        delivered: mean share of the true best that was found.
        error: standard error of `delivered`.
        queries: how many were asked.
        rows: live vectors.
        newer: the share of them that came after the index was built.
        filter: the filter as JSON, None without; "purged" when records of whatever kind were purged since.
        seq: the commit that was audited.
        at: when.
        warning: what is wrong and how to mend it, None when all is well.
    """

    index: str
    k: int
    asked: float
    promised: float
    delivered: float
    error: float
    queries: int
    rows: int
    newer: float
    filter: str | None
    seq: int
    at: datetime
    warning: str | None


_FORGOTTEN = json.dumps(FORGOTTEN)
_COLUMNS = "recipe, k, asked, promised, delivered, error, queries, rows, newer, filter, seq, at, warning"


def record_audit(connection: Connection, space: int, audit: Audit, now: int) -> None:
    """Keep one audit."""
    values = (
        audit.index,
        audit.k,
        audit.asked,
        audit.promised,
        audit.delivered,
        audit.error,
        audit.queries,
        audit.rows,
        audit.newer,
        audit.filter,
        audit.seq,
        now,
        audit.warning,
    )
    marks = ", ".join("?" * (len(values) + 1))
    connection.execute(f"INSERT INTO audits(space, {_COLUMNS}) VALUES ({marks})", (space, *values))


def forget_filters(connection: Connection) -> None:
    """Erase the filters of all audits, those that history keeps too: they may say what is purged."""
    forgotten = f"SET filter = '{_FORGOTTEN}' WHERE filter <> '{_FORGOTTEN}'"
    connection.execute(f"UPDATE audits {forgotten}")
    if recording(connection):
        connection.execute(f"UPDATE _past_audits {forgotten}")


def audits_of(
    connection: Connection, space: int, limit: int, before: int | None = None
) -> tuple[list[tuple[None, int, Audit]], int]:
    """(None, number, audit) of a space, newest first, those below a number; and how many there are in all."""
    total = connection.execute("SELECT count(*) FROM audits WHERE space = ?", (space,)).fetchone()[0]
    found = connection.execute(
        f"SELECT id, {_COLUMNS} FROM audits WHERE space = ? AND id < ? ORDER BY id DESC LIMIT ?",
        (space, 1 << 62 if before is None else before, limit),
    ).fetchall()
    fields = [field.name for field in dataclasses.fields(Audit)]
    rows = ((number, dict(zip(fields, row, strict=True))) for number, *row in found)
    return [(None, number, Audit(**{**row, "at": from_micros(row["at"])})) for number, row in rows], total
