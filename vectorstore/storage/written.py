"""Which commit last wrote each record of a kind whose fields searches rank by.

Arrays of such fields are kept in memory; from here they learn which rows to read again, whoever wrote them. One row a
record, so it cannot grow beyond them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlite_utils import Database

from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable, Rows


def create_tables(db: Database) -> None:
    """The table `written`; part of a migration."""
    db.execute(
        "CREATE TABLE written(kind TEXT NOT NULL REFERENCES kinds(name), record INTEGER NOT NULL, "
        "seq INTEGER NOT NULL, PRIMARY KEY (kind, record)) STRICT, WITHOUT ROWID"
    )
    db.execute("CREATE INDEX written_seq ON written(kind, seq)")


def note_written(connection: Connection, kind: str, rows: Sequence[int], seq: int) -> None:
    """The commit `seq` wrote these rows."""
    connection.execute(
        "INSERT INTO written SELECT ?, value, ? FROM json_each(?) WHERE true "
        "ON CONFLICT(kind, record) DO UPDATE SET seq = excluded.seq",
        (kind, seq, json.dumps(list(rows))),
    )


def forget_written(connection: Connection, kind: str, rows: Sequence[int]) -> None:
    """The rows are erased."""
    connection.execute(
        "DELETE FROM written WHERE kind = ? AND record IN (SELECT value FROM json_each(?))",
        (kind, json.dumps(list(rows))),
    )


def written_since(connection: Connection, kind: str, seq: int) -> list[int]:
    """The rows that were written by commits after `seq`."""
    found = connection.execute("SELECT record FROM written WHERE kind = ? AND seq > ?", (kind, seq))
    return [row for (row,) in found]


def numbers_of(
    connection: Connection, table: RecordTable[Any], fields: Sequence[str], rows: Sequence[int] | None
) -> tuple[Rows, npt.NDArray[np.float64]]:
    """((n,) rows, (n, f) values of numeric fields, times in microseconds, NaN where there is none) of some records.

    Args:
        connection: of a running transaction.
        table: the kind.
        fields: their names.
        rows: which; None for all, deleted ones included.
    """
    listed = ", ".join(f"t.{quote(name)}" for name in fields)
    source, values = f"{table.table} t", tuple[str, ...]()
    if rows is not None:
        source, values = f"json_each(?) j CROSS JOIN {source} ON t.row = j.value", (json.dumps(list(rows)),)
    found = connection.execute(f"SELECT t.row, {listed} FROM {source}", values).fetchall()
    # Whole numbers up to 2**53 are exact in float64: rows, and microseconds until the year 2255.
    matrix = np.array(found, dtype=np.float64).reshape(len(found), len(fields) + 1)
    return matrix[:, 0].astype(np.int64), matrix[:, 1:]
