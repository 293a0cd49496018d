"""What rows were before they changed, so that a copy of the catalog can be rolled back to an earlier commit.

While history is kept, triggers write down each row that a commit changes as it was before, in a table `_past_<name>`
beside each table: `_seq` is the commit that changed it, `_was` whether there was such a row at all. Rolling back to a
commit S takes, of each key that changed after S, the first note after S. Named snapshots are commits whose notes are
kept. Kinds' full text and lists follow from their rows and are not written down; nor is what `LEFT_OUT` names. A kind's
name begins with a letter, so no table here can be in its way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vectorstore.errors import CorruptError
from vectorstore.records import Record
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.remotes import expected_triggers as triggers_of_engines
from vectorstore.storage.remotes import forget_remotes
from vectorstore.storage.settings import put_setting, setting
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
    "trail",
    "trail_head",
    "trail_files",
)
"""The tables that history covers beside those of the kinds."""

LEFT_OUT = {
    "kinds": "fields only come, and a view has them all",
    "written": "which rows to read again, for those who have read before; a view has not",
    "workflows": "what is being done now: a view has none",
    "workflow_items": "likewise",
    "workflow_log": "likewise",
    "erased_rows": "row numbers stay used up",
    "state_saves": "versions of states, which are what there was of them: a view has those that are still kept",
    "_settings": "how the store is kept now",
    "_snapshots": "likewise",
    "_quarantine": "what repairs found, until it is purged",
}
"""The other tables, and why history leaves them out."""

_EMPTY_THEN = ("written", "workflow_log", "workflow_items", "workflows")
_SETTING = "history"


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


def foreign_objects(connection: Connection) -> list[tuple[str, str, str]]:
    """(type, name, statement) of triggers and views that vectorstore did not make."""
    found = connection.execute("SELECT type, name, sql FROM sqlite_schema WHERE type IN ('trigger', 'view')").fetchall()
    if not found:
        return []
    ours = {**expected_triggers(connection), **triggers_of_engines(connection)}
    return [(kind, name, sql) for kind, name, sql in found if ours.get(name) != sql]


def refuse_foreign(connection: Connection, known: int, root: object) -> int:
    """Before a write: nothing that somebody else put into the catalog would run with it.

    Args:
        connection: of the transaction, before its first write.
        known: the shape of the schema that was looked at last.
        root: what the message names.

    Returns:
        The shape that is good.

    Raises:
        CorruptError: there is a trigger or a view that is not ours.

    Cost: two microseconds while the schema stays the same.
    """
    shape: int = connection.execute("PRAGMA schema_version").fetchone()[0]
    for kind, name, _ in foreign_objects(connection) if shape != known else ():
        raise CorruptError(
            f"{root}: the {kind} {name!r} was not made by vectorstore and would run with every write; nothing was "
            "written; put it aside: vectorstore check --repair"
        )
    return shape


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
    forget_remotes(connection)
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
    for name in _EMPTY_THEN:
        connection.execute(f"DELETE FROM {name}")
    connection.execute("DELETE FROM state_saves WHERE seq > ?", (seq,))
    put_setting(connection, _SETTING, None)
    connection.execute("COMMIT")
