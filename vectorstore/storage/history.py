"""What rows were before they changed, so that a copy of the catalog can be rolled back to an earlier commit.

While history is kept, triggers write down each row that a commit changes as it was before, in a table `_past_<name>`
beside each table: `_seq` is the commit that changed it, `_was` whether there was such a row at all. Rolling back to a
commit S takes, of each key that changed after S, the first note after S. Named snapshots are commits whose notes are
kept. Kinds' full text and lists follow from their rows and are not written down; nor are tables that say what the
catalog consists of. A kind's name begins with a letter, so no table here can be in its way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from sqlite_utils import Database

from vectorstore.files import FileInfo
from vectorstore.records import Record, digest
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable

R = TypeVar("R", bound=Record)
Vids = npt.NDArray[np.int64]
SHARED = (
    "state",
    "spaces",
    "segments",
    "vectors",
    "pending",
    "artifacts",
    "audits",
    "decisions",
    "models",
    "memberships",
)
"""The tables that history covers beside those of the kinds."""

NAMING = {"embeddings": "segments", "indexes": "artifacts", "models": "models"}
"""Folder -> the table that names its files."""

_SETTING = "history"


def create_tables(db: Database) -> None:
    """Settings, named snapshots, what was put aside, and the time of the last commit."""
    db.execute("ALTER TABLE state ADD COLUMN at INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE TABLE _settings(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    db.execute("CREATE TABLE _snapshots(name TEXT PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL) STRICT")
    db.execute(
        "CREATE TABLE _quarantine(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, row INTEGER NOT NULL, record TEXT, "
        "reason TEXT NOT NULL, data TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL) STRICT"
    )


def setting(connection: Connection, name: str) -> Any:
    """A setting's value, None when it was never set."""
    found = connection.execute("SELECT value FROM _settings WHERE name = ?", (name,)).fetchone()
    return None if found is None else json.loads(found[0])


def put_setting(connection: Connection, name: str, value: Any) -> None:
    """Keep a setting (plain data); None removes it."""
    if value is None:
        connection.execute("DELETE FROM _settings WHERE name = ?", (name,))
        return
    connection.execute(
        "INSERT INTO _settings(name, value) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        (name, json.dumps(value)),
    )


@dataclass(frozen=True)
class Kept:
    """How far back history goes: `keep` microseconds (None: only named snapshots), complete from commit `since` on."""

    keep: int | None
    since: int


@dataclass(frozen=True)
class Moment:
    """A commit and its instant, microseconds since 1970 UTC."""

    seq: int
    at: int


def kept(connection: Connection) -> Kept | None:
    """How far back history goes; None when none is kept."""
    found = setting(connection, _SETTING)
    return None if found is None else Kept(found["keep"], found["since"])


def put_kept(connection: Connection, keep: int | None, since: int) -> None:
    """Record how far back history goes."""
    put_setting(connection, _SETTING, {"keep": keep, "since": since})


def recording(connection: Connection) -> bool:
    """Whether changes are written down: files that a commit names no more must then stay. A few microseconds."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = '_past_state'").fetchone() is not None


# -- triggers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Table:
    """A table that is written down: its columns, and those that name a row."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def past(self) -> str:
        return quote(f"_past_{self.name}")

    @property
    def keys(self) -> str:
        return ", ".join(map(quote, self.key))

    def triggers(self) -> dict[str, str]:
        """Trigger name -> the statement that makes it."""
        seq = "new.seq" if self.name == "state" else "(SELECT seq FROM state)"
        every = ", ".join(map(quote, self.columns))
        old = ", ".join(f"old.{quote(name)}" for name in self.columns)
        new = ", ".join(f"new.{quote(name)}" for name in self.key)
        event = "UPDATE OF seq" if self.name == "state" else "UPDATE"
        keep = f"INSERT INTO {self.past}(_seq, _was, {every}) VALUES ({seq}, 1, {old})"
        bodies = {event: keep}
        if self.name != "state":  # its one row is neither made nor removed
            bodies["DELETE"] = keep
            bodies["INSERT"] = f"INSERT INTO {self.past}(_seq, _was, {self.keys}) VALUES ({seq}, 0, {new})"
        return {
            f"_past_{self.name}_{event.split()[0].lower()}": (
                f"CREATE TRIGGER {quote(f'_past_{self.name}_{event.split()[0].lower()}')} "
                f"AFTER {event} ON {quote(self.name)} BEGIN {body}; END"
            )
            for event, body in bodies.items()
        }


def _table(connection: Connection, name: str) -> _Table:
    columns = connection.execute(f"PRAGMA table_info({quote(name)})").fetchall()
    key = sorted((place, column) for _, column, _, _, _, place in columns if place)
    return _Table(name, tuple(column[1] for column in columns), tuple(column for _, column in key))


def _covered(connection: Connection) -> list[_Table]:
    kinds = [name for (name,) in connection.execute("SELECT name FROM kinds ORDER BY name").fetchall()]
    return [_table(connection, name) for name in (*SHARED, *kinds)]


def expected_triggers(connection: Connection) -> dict[str, str]:
    """Trigger name -> statement, of all that should be there now."""
    if not recording(connection):
        return {}
    return {name: sql for table in _covered(connection) for name, sql in table.triggers().items()}


def begin(connection: Connection, keep: int | None) -> None:
    """Write changes down from this commit on, if that is not done already."""
    before = kept(connection)
    renew(connection, first=True)
    since = connection.execute("SELECT seq FROM state").fetchone()[0] if before is None else before.since
    put_kept(connection, keep, since)


def renew(connection: Connection, *, first: bool = False) -> None:
    """Make what is written down fit the tables as they are now; nothing to do when history is not kept."""
    if not first and not recording(connection):
        return
    pause(connection)
    for table in _covered(connection):
        columns = ", ".join(f"{quote(name)} ANY" for name in table.columns)
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table.past}(_id INTEGER PRIMARY KEY, _seq INTEGER NOT NULL, "
            f"_was INTEGER NOT NULL, {columns}) STRICT"
        )
        have = {row[1] for row in connection.execute(f"PRAGMA table_info({table.past})").fetchall()}
        for name in table.columns:
            if name not in have:
                connection.execute(f"ALTER TABLE {table.past} ADD COLUMN {quote(name)} ANY")
        key = quote(f"_past_{table.name}_key")
        connection.execute(f"CREATE INDEX IF NOT EXISTS {key} ON {table.past}({table.keys})")
        for sql in table.triggers().values():
            connection.execute(sql)


def pause(connection: Connection) -> None:
    """Take the triggers off, to change what tables consist of; `renew` puts them on again."""
    found = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '\\_past\\_%' ESCAPE '\\'"
    ).fetchall()
    for (name,) in found:
        connection.execute(f"DROP TRIGGER {quote(name)}")


def end(connection: Connection) -> None:
    """Forget everything that was written down, and write nothing down from now on."""
    pause(connection)
    for name in _pasts(connection):
        connection.execute(f"DROP TABLE {quote('_past_' + name)}")
    put_setting(connection, _SETTING, None)


def _pasts(connection: Connection) -> list[str]:
    """Names of the tables that have something written down."""
    found = connection.execute(
        "SELECT substr(name, 7) FROM sqlite_schema WHERE type = 'table' "
        "AND name LIKE '\\_past\\_%' ESCAPE '\\' ORDER BY 1"
    ).fetchall()
    return [name for (name,) in found]


# -- instants ----------------------------------------------------------------------------------------------------------


def moment_at(connection: Connection, at: int) -> Moment | None:
    """The last commit of that instant or before, as far as history knows."""
    past = "SELECT seq, at FROM _past_state UNION ALL " if recording(connection) else ""
    found = connection.execute(
        f"SELECT seq, at FROM ({past}SELECT seq, at FROM state UNION ALL SELECT seq, at FROM _snapshots) "
        "WHERE at <= ? ORDER BY seq DESC LIMIT 1",
        (at,),
    ).fetchone()
    return None if found is None else Moment(*found)


def moment_of(connection: Connection, seq: int) -> Moment | None:
    """A commit that history knows."""
    past = "SELECT seq, at FROM _past_state UNION " if recording(connection) else ""
    found = connection.execute(
        f"SELECT seq, at FROM ({past}SELECT seq, at FROM state UNION SELECT seq, at FROM _snapshots) WHERE seq = ?",
        (seq,),
    ).fetchone()
    return None if found is None else Moment(*found)


def reachable(connection: Connection, seq: int) -> bool:
    """Whether the catalog can be rolled back to just that commit."""
    now = connection.execute("SELECT seq FROM state").fetchone()[0]
    known = kept(connection)
    if seq == now or (known is not None and known.since <= seq < now):
        return True
    return connection.execute("SELECT 1 FROM _snapshots WHERE seq = ?", (seq,)).fetchone() is not None


def snapshots_of(connection: Connection) -> dict[str, Moment]:
    """Name -> commit of each named snapshot, oldest first."""
    found = connection.execute("SELECT name, seq, at FROM _snapshots ORDER BY seq, name").fetchall()
    return {name: Moment(seq, at) for name, seq, at in found}


def put_snapshot(connection: Connection, name: str, moment: Moment) -> None:
    """Name a commit; what changes after it is kept as it was."""
    connection.execute("INSERT INTO _snapshots(name, seq, at) VALUES (?, ?, ?)", (name, moment.seq, moment.at))


def drop_snapshot(connection: Connection, name: str) -> bool:
    """Forget the name; whether there was one."""
    return bool(connection.execute("DELETE FROM _snapshots WHERE name = ? RETURNING 1", (name,)).fetchall())


# -- forgetting --------------------------------------------------------------------------------------------------------


def prune(connection: Connection, since: int) -> int:
    """Forget what no commit from `since` on, and no named snapshot, needs to be rolled back to; returns how much.

    A note of commit q about a key whose note before is of commit p serves the commits p .. q - 1.
    """
    dropped = 0
    for name in _pasts(connection):
        table = _table(connection, name)
        dropped += connection.execute(
            f"DELETE FROM {table.past} WHERE _id IN (SELECT _id FROM (SELECT _id, _seq, "
            f"lag(_seq, 1, -1) OVER (PARTITION BY {table.keys} ORDER BY _id) AS before FROM {table.past}) "
            "WHERE _seq <= ? AND NOT EXISTS (SELECT 1 FROM _snapshots s WHERE s.seq >= before AND s.seq < _seq))",
            (since,),
        ).rowcount
    return dropped


@dataclass(frozen=True)
class NamedFile:
    """A file that rows name: its folder, its space ("" for models), and what it should be."""

    what: str
    space: str
    file: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """From the store's folder on."""
        return "/".join(part for part in (self.what, self.space, self.file) if part)


def named_files(connection: Connection, *, past: bool) -> set[NamedFile]:
    """Every file that the rows of now name, or those that history does."""
    if past and not recording(connection):
        return set()
    found: set[NamedFile] = set()
    for what, table in NAMING.items():
        space = "''" if what == "models" else "(SELECT s.name FROM spaces s WHERE s.id = p.space)"
        name = f"_past_{table}" if past else table
        rows = connection.execute(f"SELECT DISTINCT {space}, file, size, sha256 FROM {name} p WHERE file IS NOT NULL")
        found |= {NamedFile(what, *row) for row in rows}
    return found


def forget_rows(
    connection: Connection, kind: str, ids: Sequence[str], numbers: Sequence[int], derived: Sequence[str]
) -> None:
    """Erase what is written down of erased records, and of what was learned from the kind: fits and their labels.

    Args:
        connection: of the transaction that erases, after all its other changes to rows.
        kind: of the records.
        ids: theirs.
        numbers: their rows.
        derived: kinds whose records tell of others in a field `of` (clusters, fields).
    """
    if not recording(connection):
        return
    rows = json.dumps(list(numbers))
    chosen = "(SELECT value FROM json_each(?))"
    spaces = "(SELECT id FROM spaces WHERE kind = ?)"
    vids = [
        vid
        for (vid,) in connection.execute(
            f"SELECT DISTINCT vid FROM _past_vectors WHERE space IN {spaces} AND record IN {chosen}", (kind, rows)
        )
    ]
    for table in ("_past_vectors", "_past_pending"):
        connection.execute(f"DELETE FROM {table} WHERE vid IN {chosen}", (json.dumps(vids),))
    connection.execute(f"DELETE FROM {quote('_past_' + kind)} WHERE row IN {chosen}", (rows,))
    names = json.dumps(list(ids))
    connection.execute(
        f"DELETE FROM _past_decisions WHERE kind = ? AND (record IN {chosen} OR other IN {chosen})",
        (kind, names, names),
    )
    connection.execute(
        f"DELETE FROM _past_memberships WHERE record IN {chosen} OR (_was = 1 AND model IN (SELECT id FROM "
        "_past_models WHERE kind = ? UNION SELECT id FROM models WHERE kind = ?))",
        (rows, kind, kind),
    )
    connection.execute("DELETE FROM _past_models WHERE _was = 1 AND kind = ?", (kind,))
    for each in derived:
        connection.execute(f'DELETE FROM {quote("_past_" + each)} WHERE _was = 1 AND "of" = ?', (kind,))


def known_vids(connection: Connection, space: int) -> Vids:
    """(n,) vids of a space that rows speak of, now or in the past, ascending."""
    found = connection.execute(
        "SELECT vid FROM vectors WHERE space = ? UNION SELECT vid FROM _past_vectors WHERE space = ? ORDER BY 1",
        (space, space),
    )
    return np.array([vid for (vid,) in found], dtype=np.int64)


@dataclass(frozen=True)
class PastSegment:
    """A segment that only the past names."""

    file: str
    rows: int
    first_vid: int | None
    size: int
    sha256: str


def past_segments(connection: Connection, space: int) -> list[PastSegment]:
    """The segments of a space that only the past names."""
    found = connection.execute(
        "SELECT DISTINCT file, rows, first_vid, size, sha256 FROM _past_segments WHERE space = ? AND file IS NOT NULL "
        "AND file NOT IN (SELECT file FROM segments) ORDER BY file",
        (space,),
    )
    return [PastSegment(*row) for row in found.fetchall()]


def replace_past_segment(connection: Connection, file: str, info: FileInfo | None, rows: int = 0) -> None:
    """Another file holds what is left of a past segment; None for nothing."""
    if info is None:
        connection.execute("UPDATE _past_segments SET _was = 0, file = NULL WHERE file = ?", (file,))
        return
    connection.execute(
        "UPDATE _past_segments SET file = ?, size = ?, sha256 = ?, stat = ?, rows = ?, first_vid = NULL WHERE file = ?",
        (info.name, info.size, info.sha256, info.stat, rows, file),
    )


def forget_file(connection: Connection, what: str, file: str) -> None:
    """The past names a file no more."""
    connection.execute(f"UPDATE _past_{NAMING[what]} SET _was = 0, file = NULL WHERE file = ?", (file,))


def damaged(connection: Connection, table: RecordTable[Any]) -> Iterator[tuple[int, int, str]]:
    """(row, the commit that changed it, id) of past rows whose digest does not match."""
    names = ", ".join(map(quote, table.schema.names))
    past = quote(f"_past_{table.name}")
    for row, seq, seal, *values in connection.execute(f"SELECT row, _seq, digest, {names} FROM {past} WHERE _was = 1"):
        if digest(values) != seal:
            yield row, seq, str(values[0])


def past_records(connection: Connection, table: RecordTable[R], numbers: Sequence[int]) -> list[R]:
    """What rows were, as far as history knows.

    Raises:
        CorruptError: one was damaged since.
    """
    if not recording(connection):
        return []
    names = ", ".join(map(quote, table.schema.names))
    found = connection.execute(
        f"SELECT row, digest, {names} FROM {quote('_past_' + table.name)} "
        "WHERE _was = 1 AND row IN (SELECT value FROM json_each(?))",
        (json.dumps(list(numbers)),),
    )
    return [table.decode(row, seal, values) for row, seal, *values in found]


def forget_indexes(connection: Connection, space: int) -> None:
    """The past has no index of a space any more: it would still tell what was erased."""
    connection.execute("UPDATE _past_artifacts SET _was = 0, file = NULL WHERE space = ?", (space,))


# -- rolling back ------------------------------------------------------------------------------------------------------


def roll_back(connection: Connection, seq: int, tables: Iterable[RecordTable[Any]]) -> None:
    """Make a copy of the catalog what it was at a commit.

    Args:
        connection: of a copy that nobody else uses, outside a transaction.
        seq: a reachable commit.
        tables: of the kinds, whose full text and lists follow their rows.

    Cost: what has changed since.
    """
    by_name = {table.name: table for table in tables}
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("BEGIN IMMEDIATE")
    pause(connection)
    for name in _pasts(connection):
        table = _table(connection, name)
        changed = f"SELECT {table.keys} FROM {table.past} WHERE _seq > {int(seq)}"
        first = f"SELECT min(_id) FROM {table.past} WHERE _seq > {int(seq)} GROUP BY {table.keys}"
        every = ", ".join(map(quote, table.columns))
        statements = (
            f"DELETE FROM {quote(name)} WHERE ({table.keys}) IN ({changed})",
            f"INSERT INTO {quote(name)}({every}) SELECT {every} FROM {table.past} WHERE _was = 1 AND _id IN ({first})",
        )
        if name in by_name:
            numbers = [row for (row,) in connection.execute(f"SELECT DISTINCT row FROM ({changed})").fetchall()]
            by_name[name].change_below(connection, numbers, statements)
        else:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"DROP TABLE {table.past}")
    put_setting(connection, _SETTING, None)
    connection.execute("COMMIT")
