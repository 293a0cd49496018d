"""The trail: what was done to a store, by whom and when, as a chain in which nothing can be changed unseen.

Entry n carries the SHA-256 of entry n - 1's digest and its own values; the last number and digest are kept beside the
entries. Records are named by row numbers, which are never given twice: an id can hold text, and once its record has
been erased, the number alone says nothing of it, while the chain still holds. Old entries move into immutable files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlite_utils import Database

from vectorstore.files import FileInfo
from vectorstore.storage.connection import Connection
from vectorstore.storage.transaction import Done

GENESIS = bytes(32)
"""What the first entry follows."""
_COLUMNS = "number, seq, at, operation, kind, rows, actor, details"


@dataclass(frozen=True)
class Link:
    """One entry as it is stored.

    Attributes:
        number: 1, 2, 3, ...
        seq: the commit.
        at: microseconds since 1970.
        operation: what was done.
        kind: whose records.
        rows: their numbers, as "5-1004,1010".
        actor: who did it.
        details: JSON.
        digest: of the entry before and all of the above.
    """

    number: int
    seq: int
    at: int
    operation: str
    kind: str | None
    rows: str
    actor: str
    details: str
    digest: bytes

    def sealed(self, before: bytes) -> bytes:
        """The digest that the entry must have after one with the digest `before`."""
        values = [self.number, self.seq, self.at, self.operation, self.kind, self.rows, self.actor, self.details]
        return hashlib.sha256(before + json.dumps(values, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True)
class TrailFile:
    """A file of rotated entries: the numbers of its first and last one, and the digest of that."""

    first: int
    last: int
    file: str
    size: int
    sha256: str
    digest: bytes


def create_tables(db: Database) -> None:
    """The entries, where the chain ends, its files, and the highest row numbers that were erased."""
    db.table("trail").create(
        {
            "number": int,
            "seq": int,
            "at": int,
            "operation": str,
            "kind": str,
            "rows": str,
            "actor": str,
            "details": str,
            "digest": bytes,
        },
        pk="number",
        not_null={"seq", "at", "operation", "rows", "actor", "details", "digest"},
        strict=True,
    )
    db.table("trail_head").create(
        {"one": int, "number": int, "digest": bytes}, pk="one", not_null={"number", "digest"}, strict=True
    )
    db.execute("INSERT INTO trail_head VALUES (1, 0, ?)", (GENESIS,))
    db.table("trail_files").create(
        {"first": int, "last": int, "file": str, "size": int, "sha256": str, "digest": bytes},
        pk="first",
        not_null={"last", "file", "size", "sha256", "digest"},
        strict=True,
    )
    db.table("erased_rows").create({"kind": str, "highest": int}, pk="kind", not_null={"highest"}, strict=True)


# -- rows --------------------------------------------------------------------------------------------------------------


def as_ranges(rows: Iterable[int]) -> str:
    """Row numbers in ascending order, runs as "first-last"."""
    rows = list(rows)
    if len(rows) < 2:  # numpy would take thirty times as long
        return "".join(map(str, rows))
    numbers = np.unique(np.array(rows, dtype=np.int64))
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts = numbers[np.r_[0, breaks + 1]].tolist()
    lasts = numbers[np.r_[breaks, len(numbers) - 1]].tolist()
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))


def from_ranges(text: str) -> list[range]:
    """The inverse of `as_ranges`."""
    pairs = (part.partition("-") for part in text.split(",") if part)
    return [range(int(first), int(last or first) + 1) for first, _, last in pairs]


def highest_erased(connection: Connection, kind: str) -> int:
    """The highest row number of a kind that was ever erased, 0 for none."""
    found = connection.execute("SELECT highest FROM erased_rows WHERE kind = ?", (kind,)).fetchone()
    return 0 if found is None else int(found[0])


def note_erased(connection: Connection, kind: str, row: int) -> None:
    """Rows up to this number were given out, whatever is left of them."""
    connection.execute(
        "INSERT INTO erased_rows VALUES (?, ?) "
        "ON CONFLICT(kind) DO UPDATE SET highest = max(highest, excluded.highest)",
        (kind, row),
    )


# -- entries -----------------------------------------------------------------------------------------------------------


def head(connection: Connection) -> tuple[int, bytes]:
    """(number, digest) of the last entry."""
    number, digest = connection.execute("SELECT number, digest FROM trail_head").fetchone()
    return number, digest


def append(connection: Connection, seq: int, actor: str, done: Iterable[tuple[Done, int]]) -> None:
    """Add entries, each with its time, to the end of the chain; about 20 microseconds.

    Where the trail was tampered with, the store goes on: entries that the head does not know of are left standing, for
    `verify` to find, and the chain is continued behind them.
    """
    number, digest = head(connection)
    number = max(number, connection.execute("SELECT coalesce(max(number), 0) FROM trail").fetchone()[0])
    made = []
    for each, at in done:
        number += 1
        details = json.dumps(each.details, separators=(",", ":"), default=str)
        link = Link(number, seq, at, each.operation, each.kind, as_ranges(each.rows), actor, details, b"")
        digest = link.sealed(digest)
        made.append((number, seq, at, each.operation, each.kind, link.rows, actor, details, digest))
    connection.executemany(f"INSERT INTO trail({_COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", made)
    connection.execute("UPDATE trail_head SET number = ?, digest = ?", (number, digest))


def links(
    connection: Connection, filters: Mapping[str, object], limit: int | None = None, before: int | None = None
) -> Iterator[Link]:
    """Entries that are in the catalog, oldest first; with a limit the newest ones below a number, newest first.

    Args:
        connection: of a read transaction.
        filters: column -> value, "since" -> the earliest time.
        limit: how many.
        before: only entries with a lower number.
    """
    where, values = _where(filters)
    order = "ORDER BY number" if limit is None else "ORDER BY number DESC LIMIT ?"
    below = "" if before is None else " AND number < ?"
    sql = f"SELECT {_COLUMNS}, digest FROM trail WHERE {where}{below} {order}"
    given = [*values, *([] if before is None else [before]), *([] if limit is None else [limit])]
    return itertools.starmap(Link, connection.execute(sql, given))


def count(connection: Connection, filters: Mapping[str, object]) -> int:
    """How many entries of the catalog pass the filters."""
    where, values = _where(filters)
    return int(connection.execute(f"SELECT count(*) FROM trail WHERE {where}", values).fetchone()[0])


def _where(filters: Mapping[str, object]) -> tuple[str, list[Any]]:
    known = {"operation": "operation = ?", "kind": "kind = ?", "actor": "actor = ?", "since": "at >= ?"}
    terms = [known[name] for name, value in filters.items() if value is not None]
    return " AND ".join(terms) or "1", [value for value in filters.values() if value is not None]


def names_of(connection: Connection, table: str, rows: Sequence[int]) -> dict[int, str]:
    """Row -> id of the records that are still there, deleted ones too.

    Args:
        connection: of a read transaction.
        table: the quoted name of the kind's table.
        rows: their numbers.
    """
    found = connection.execute(
        f"SELECT row, id FROM {table} WHERE row IN (SELECT value FROM json_each(?))", (json.dumps(list(rows)),)
    )
    return dict(found.fetchall())


# -- files -------------------------------------------------------------------------------------------------------------


def files_of(connection: Connection) -> list[TrailFile]:
    """The files of rotated entries, oldest first."""
    found = connection.execute("SELECT first, last, file, size, sha256, digest FROM trail_files ORDER BY first")
    return [TrailFile(*row) for row in found]


def move_to_file(connection: Connection, moved: Sequence[Link], info: FileInfo) -> None:
    """Name the file that holds these entries, and drop them from the catalog."""
    first, last = moved[0], moved[-1]
    connection.execute(
        "INSERT INTO trail_files VALUES (?, ?, ?, ?, ?, ?)",
        (first.number, last.number, info.name, info.size, info.sha256, last.digest),
    )
    connection.execute("DELETE FROM trail WHERE number <= ?", (last.number,))
