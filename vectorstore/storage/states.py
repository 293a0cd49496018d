"""Saves of states in the catalog: each is a row, whole or as what changed since the one before.

The versions of a state are 1, 2, 3, ... A row's `base` is the version of the whole save that it builds on, its own for
a whole one; a version is its base and the rows of that base up to it, in order. `token` names a save for ever. Damaged
rows are left where they are: nothing builds on them, and nothing removes them but `forget` and `drop`.
Every function takes the connection of a running transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from vectorstore.storage.connection import Connection

_FIELDS = "version, base, label, at, seq, token, damaged, size, sha256"


@dataclass(frozen=True)
class SaveRow:
    """One save, without its bytes; `at` in microseconds since 1970 UTC."""

    version: int
    base: int
    label: str | None
    at: int
    seq: int
    token: str
    damaged: bool
    size: int
    sha256: str


def create_tables(db: Database) -> None:
    """The table of saves."""
    db.table("state_saves").create(
        {
            "id": int,
            "state": str,
            "version": int,
            "base": int,
            "label": str,
            "at": int,
            "seq": int,
            "token": str,
            "damaged": int,
            "size": int,
            "sha256": str,
            "data": bytes,
        },
        pk="id",
        not_null={"state", "version", "base", "at", "seq", "token", "damaged", "size", "sha256", "data"},
        strict=True,
    )
    db.table("state_saves").create_index(["state", "version"], unique=True)


def _row(values: Sequence[Any]) -> SaveRow:
    version, base, label, at, seq, token, damaged, size, sha256 = values
    return SaveRow(version, base, label, at, seq, token, bool(damaged), size, sha256)


def saves_of(connection: Connection, state: str) -> list[SaveRow]:
    """All saves of a state, oldest first."""
    sql = f"SELECT {_FIELDS} FROM state_saves WHERE state = ? ORDER BY version"
    return [_row(values) for values in connection.execute(sql, (state,)).fetchall()]


def newest_save(connection: Connection, state: str) -> SaveRow | None:
    """The newest save that is not known to be damaged."""
    sql = f"SELECT {_FIELDS} FROM state_saves WHERE state = ? AND damaged = 0 ORDER BY version DESC LIMIT 1"
    values = connection.execute(sql, (state,)).fetchone()
    return None if values is None else _row(values)


def line_of(connection: Connection, state: str, row: SaveRow) -> list[tuple[SaveRow, bytes]]:
    """What a save consists of, in order: its base, the changes since, itself."""
    found = connection.execute(
        f"SELECT {_FIELDS}, data FROM state_saves WHERE state = ?1 AND base = ?2 AND version <= ?3 "
        "AND (damaged = 0 OR version = ?3) ORDER BY version",
        (state, row.base, row.version),
    ).fetchall()
    return [(_row(values[:-1]), values[-1]) for values in found]


def line_sizes(connection: Connection, state: str, base: int) -> list[int]:
    """Bytes of a base and of each change upon it."""
    sql = "SELECT size FROM state_saves WHERE state = ? AND base = ? AND damaged = 0 ORDER BY version"
    return [size for (size,) in connection.execute(sql, (state, base)).fetchall()]


def insert_save(
    connection: Connection,
    state: str,
    data: bytes,
    *,
    base: int | None,
    label: str | None,
    sha256: str,
    token: str,
    at: int,
    seq: int,
) -> int:
    """A new newest version; `base` None for a whole save. Returns the version."""
    newest = connection.execute("SELECT max(version) FROM state_saves WHERE state = ?", (state,)).fetchone()[0]
    version = (newest or 0) + 1
    connection.execute(
        f"INSERT INTO state_saves(state, {_FIELDS}, data) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
        (state, version, base or version, label, at, seq, token, len(data), sha256, data),
    )
    return version


def prune(connection: Connection, state: str, keep: int) -> None:
    """Remove what neither the newest `keep` versions nor labelled ones consist of."""
    connection.execute(
        "WITH kept AS (SELECT base, max(version) AS last FROM ("
        "  SELECT base, version FROM state_saves WHERE state = ?1 AND damaged = 0 AND label IS NOT NULL"
        "  UNION ALL SELECT * FROM (SELECT base, version FROM state_saves WHERE state = ?1 AND damaged = 0"
        "  ORDER BY version DESC LIMIT ?2)) GROUP BY base) "
        "DELETE FROM state_saves WHERE state = ?1 AND damaged = 0 AND NOT EXISTS ("
        "  SELECT 1 FROM kept WHERE kept.base = state_saves.base AND state_saves.version <= kept.last)",
        (state, keep),
    )


def mark_damaged(connection: Connection, state: str, versions: Sequence[int]) -> None:
    """Set versions aside."""
    connection.executemany(
        "UPDATE state_saves SET damaged = 1 WHERE state = ? AND version = ?", [(state, version) for version in versions]
    )


def unlabel(connection: Connection, state: str, version: int) -> None:
    """A version is kept for its age alone."""
    connection.execute("UPDATE state_saves SET label = NULL WHERE state = ? AND version = ?", (state, version))


def forget_saves(connection: Connection, state: str, *, but: str | None = None, version: int | None = None) -> int:
    """Remove saves for good: one, or all (but the one with a token); returns how many."""
    return connection.execute(
        "DELETE FROM state_saves WHERE state = ? AND token IS NOT ? AND (? IS NULL OR version = ?)",
        (state, but, version, version),
    ).rowcount


def problems_of_saves(connection: Connection) -> Iterator[tuple[str, str, str]]:
    """(where, what, how to mend it) of saves that are not what was written, or build on one that is gone."""
    found = connection.execute("SELECT state, version, base, sha256, damaged, data FROM state_saves ORDER BY 1, 2")
    bases: set[tuple[str, int]] = set()
    for state, version, base, sha256, damaged, data in found:
        where = f"state {state!r} version {version}"
        mend = "load(fallback=True) takes the one before it"
        if version == base:
            bases.add((state, version))
        if damaged:
            yield where, "is damaged, and was set aside", f"forget({version}) removes it"
        elif hashlib.sha256(data).hexdigest() != sha256:
            yield where, "its bytes are not those that were written", mend
        elif (state, base) not in bases:
            yield where, f"builds on version {base}, which is not there", mend


def states(connection: Connection) -> list[tuple[str, int, int, int, int]]:
    """(name, newest version, saves, bytes, time of the newest) of every state, by name."""
    return connection.execute(
        "SELECT state, max(version), count(*), sum(size), max(at) FROM state_saves GROUP BY state ORDER BY state"
    ).fetchall()
