"""Indexes outside the store, and what each of them has not been told yet.

`_remotes` has a row for each collection of an engine outside that is fed from a space. `_outbox` holds the vids whose
state there must be looked at again, with the commit that changed them: triggers write it in the transaction of the
change itself, whoever makes it, and one row a vid, so it cannot grow beyond the vectors. A vid names one vector for
ever, so what can change is whether it is live, and the record's fields that the engine filters by. `_moves` tells for
some minutes which vids that had been there already were taken away or sent anew: a reader of an older commit scores
those exactly. The triggers are there only while a remote is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.tables import RecordTable

Vids = npt.NDArray[np.int64]
FILLING, CURRENT, LEAVING = "filling", "current", "leaving"
_COLUMNS = (
    "id, space, address, collection, fields, status, filled, top, applied, sending, sent_at, since, moves, curve, "
    "made_seq, held"
)
_KEPT = 600_000_000
"""Microseconds for which moves are kept; a reader of an older commit answers without the engine."""


@dataclass(frozen=True)
class RemoteRow:
    """A collection of an engine outside, fed from one space.

    Attributes:
        fields: (name, type, nullable) of the record's fields that it holds to filter by.
        filled: vids up to here were sent by the first filling, which goes up to `top`.
        applied: the token of the last batch that is known to have arrived; the engine keeps it too.
        sending: the token of a batch on its way, sent at `sent_at`; None when nothing is.
        since: the engine's own time of the last batch: a search that waits for it sees all that was sent.
        moves: how many batches touched what had been there already.
        curve: measured operating points; None while it is being filled.
        held: why nothing is sent now; "" when all is well.
    """

    id: int
    space: int
    address: str
    collection: str
    fields: tuple[tuple[str, str, bool], ...]
    status: str
    filled: int
    top: int
    applied: int | None
    sending: int | None
    sent_at: int
    since: int
    moves: int
    curve: dict[str, Any] | None
    made_seq: int
    held: str


_TABLES = (
    "CREATE TABLE _remotes(id INTEGER PRIMARY KEY AUTOINCREMENT, space INTEGER NOT NULL REFERENCES spaces(id), "
    "address TEXT NOT NULL, collection TEXT NOT NULL UNIQUE, fields TEXT NOT NULL, status TEXT NOT NULL, "
    "filled INTEGER NOT NULL, top INTEGER NOT NULL, applied INTEGER, sending INTEGER, sent_at INTEGER NOT NULL, "
    "since INTEGER NOT NULL, moves INTEGER NOT NULL, curve TEXT, made_seq INTEGER NOT NULL, held TEXT NOT NULL) STRICT",
    "CREATE TABLE _outbox(remote INTEGER NOT NULL REFERENCES _remotes(id), vid INTEGER NOT NULL, seq INTEGER NOT NULL, "
    "at INTEGER NOT NULL, fresh INTEGER NOT NULL, PRIMARY KEY (remote, vid)) STRICT, WITHOUT ROWID",
    "CREATE INDEX _outbox_seq ON _outbox(remote, seq)",
    "CREATE TABLE _moves(remote INTEGER NOT NULL REFERENCES _remotes(id), number INTEGER NOT NULL, "
    "at INTEGER NOT NULL, vids TEXT NOT NULL, PRIMARY KEY (remote, number)) STRICT, WITHOUT ROWID",
)
"""Made when a space is first fed to an engine: a store without engines has none of them."""


def any_remotes(connection: Connection) -> bool:
    """Whether an engine was ever fed from this store; a few microseconds."""
    return connection.execute("SELECT 1 FROM sqlite_schema WHERE name = '_remotes'").fetchone() is not None


# -- the remotes themselves --------------------------------------------------------------------------------------------


def remotes_of(connection: Connection, address: str | None = None, space: int | None = None) -> list[RemoteRow]:
    """Remotes, oldest first."""
    if not any_remotes(connection):
        return []
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM _remotes WHERE (? IS NULL OR address = ?) AND (? IS NULL OR space = ?) ORDER BY id",
        (address, address, space, space),
    ).fetchall()
    return [_row(values) for values in found]


def current_remote(connection: Connection, address: str, space: int) -> RemoteRow | None:
    """The one that answers for a space at an address."""
    if not any_remotes(connection):
        return None
    found = connection.execute(
        f"SELECT {_COLUMNS} FROM _remotes WHERE address = ? AND space = ? AND status = '{CURRENT}' "
        "ORDER BY id DESC LIMIT 1",
        (address, space),
    ).fetchone()
    return None if found is None else _row(found)


def remote(connection: Connection, number: int) -> RemoteRow | None:
    """A remote by its number."""
    found = connection.execute(f"SELECT {_COLUMNS} FROM _remotes WHERE id = ?", (number,)).fetchone()
    return None if found is None else _row(found)


def _row(values: Sequence[Any]) -> RemoteRow:
    row = list(values)
    row[4] = tuple((name, type, bool(nullable)) for name, type, nullable in json.loads(row[4]))
    row[13] = None if row[13] is None else json.loads(row[13])
    return RemoteRow(*row)


def make_remote(
    connection: Connection, space: int, address: str, collection: str, fields: Iterable[Sequence[Any]], seq: int
) -> None:
    """Begin to feed a collection from a space: what is there now by filling, what comes through the outbox."""
    if not any_remotes(connection):
        for statement in _TABLES:
            connection.execute(statement)
    connection.execute(
        "INSERT INTO _remotes(space, address, collection, fields, status, filled, top, sent_at, since, moves, "
        f"made_seq, held) SELECT ?, ?, ?, ?, '{FILLING}', 0, next_vid - 1, 0, 0, 0, ?, '' FROM state",
        (space, address, collection, json.dumps([list(field) for field in fields]), seq),
    )
    renew_triggers(connection)


def change_remote(connection: Connection, number: int, **values: object) -> None:
    """Set columns of a remote."""
    connection.execute(
        f"UPDATE _remotes SET {', '.join(f'{name} = ?' for name in values)} WHERE id = ?", (*values.values(), number)
    )


def drop_remote(connection: Connection, number: int) -> None:
    """Feed it no more; the engine's collection is somebody else's matter."""
    for table in ("_outbox", "_moves"):
        connection.execute(f"DELETE FROM {table} WHERE remote = ?", (number,))
    connection.execute("DELETE FROM _remotes WHERE id = ?", (number,))
    renew_triggers(connection)


# -- triggers ----------------------------------------------------------------------------------------------------------


def expected_triggers(connection: Connection) -> dict[str, str]:
    """Trigger name -> statement, of all that should be there now."""
    if not any_remotes(connection):
        return {}
    found = connection.execute(
        "SELECT s.kind, r.fields FROM _remotes r JOIN spaces s ON s.id = r.space ORDER BY r.id"
    ).fetchall()
    if not found:
        return {}
    fields: dict[str, set[str]] = {}
    for kind, listed in found:
        fields.setdefault(kind, set()).update(name for name, _, _ in json.loads(listed))
    made = {f"_outbox_vectors_{event.split()[0].lower()}": _of_vectors(event) for event in _EVENTS}
    made |= {f"_outbox_{kind}": _of_kind(kind, sorted(names)) for kind, names in fields.items() if names}
    return {name: f"CREATE TRIGGER {quote(name)} {body}" for name, body in made.items()}


_EVENTS = {"INSERT": "new", "UPDATE OF retired": "new", "DELETE": "old"}
_AGAIN = "ON CONFLICT(remote, vid) DO UPDATE SET seq = excluded.seq"


def _of_vectors(event: str) -> str:
    row, fresh = _EVENTS[event], int(event == "INSERT")
    # What was retired before it is dropped was noted then, and waits still or was sent.
    when = " WHEN old.retired IS NULL" if event == "DELETE" else ""
    return (
        f"AFTER {event} ON vectors{when} BEGIN INSERT INTO _outbox(remote, vid, seq, at, fresh) "
        f"SELECT r.id, {row}.vid, s.seq, s.at, {fresh} FROM _remotes r, state s WHERE r.space = {row}.space "
        f"{_AGAIN}; END"
    )


def _of_kind(kind: str, names: Sequence[str]) -> str:
    changed = " OR ".join(f"old.{quote(name)} IS NOT new.{quote(name)}" for name in names)
    return (
        f"AFTER UPDATE OF {', '.join(map(quote, names))} ON {quote(kind)} WHEN {changed} BEGIN "
        "INSERT INTO _outbox(remote, vid, seq, at, fresh) SELECT r.id, v.vid, s.seq, s.at, 0 FROM vectors v "
        f"JOIN spaces p ON p.id = v.space AND p.kind = '{kind}' JOIN _remotes r ON r.space = v.space, state s "
        f"WHERE v.record = new.row AND v.retired IS NULL {_AGAIN}; END"
    )


def renew_triggers(connection: Connection) -> None:
    """Make the triggers fit the remotes that there are."""
    drop_triggers(connection)
    for sql in expected_triggers(connection).values():
        connection.execute(sql)


def forget_remotes(connection: Connection) -> None:
    """Feed nothing any more: this is a copy, of which no engine knows."""
    drop_triggers(connection)
    if any_remotes(connection):
        for table in ("_outbox", "_moves", "_remotes"):
            connection.execute(f"DELETE FROM {table}")


def drop_triggers(connection: Connection) -> None:
    """Take them off."""
    found = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE '\\_outbox\\_%' ESCAPE '\\'"
    ).fetchall()
    for (name,) in found:
        connection.execute(f"DROP TRIGGER {quote(name)}")


# -- what is to be sent ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Waiting:
    """A vid whose state an engine must be told, changed by commit `seq`; `fresh`: it has never been told of it."""

    vid: int
    seq: int
    fresh: bool


def waiting(connection: Connection, number: int, limit: int) -> list[Waiting]:
    """The longest waiting vids of a remote."""
    found = connection.execute(
        "SELECT vid, seq, fresh FROM _outbox WHERE remote = ? ORDER BY seq, vid LIMIT ?", (number, limit)
    )
    return [Waiting(vid, seq, bool(fresh)) for vid, seq, fresh in found.fetchall()]


def waiting_vids(connection: Connection, number: int) -> Vids:
    """All waiting vids of a remote, ascending."""
    text = connection.execute("SELECT group_concat(vid) FROM _outbox WHERE remote = ?", (number,)).fetchone()[0]
    return np.sort(np.fromstring(text, dtype=np.int64, sep=",")) if text else np.empty(0, np.int64)


def lag(connection: Connection, number: int) -> tuple[int, int | None]:
    """(how many vids wait, the instant since which the first of them does, microseconds)."""
    count, since = connection.execute("SELECT count(*), min(at) FROM _outbox WHERE remote = ?", (number,)).fetchone()
    return count, since


def put_back(connection: Connection, number: int, vids: Iterable[int], seq: int, now: int) -> None:
    """Have the state of some vids told again: a check found that the engine has it wrong."""
    connection.executemany(
        f"INSERT INTO _outbox(remote, vid, seq, at, fresh) VALUES (?, ?, ?, ?, 0) {_AGAIN}",
        ((number, int(vid), seq, now) for vid in vids),
    )


def delivered(connection: Connection, number: int, batch: Iterable[Waiting]) -> None:
    """The engine has these; what changed again meanwhile goes on waiting."""
    connection.executemany(
        "DELETE FROM _outbox WHERE remote = ? AND vid = ? AND seq = ?", ((number, each.vid, each.seq) for each in batch)
    )


def note_move(connection: Connection, number: int, move: int, vids: Sequence[int], now: int) -> None:
    """These vids, which the engine has, are about to be taken away or sent anew; forgets what was noted long ago."""
    connection.execute("INSERT INTO _moves VALUES (?, ?, ?, ?)", (number, move, now, json.dumps(list(vids))))
    connection.execute("DELETE FROM _moves WHERE remote = ? AND at < ?", (number, now - _KEPT))


MOVED_SINCE = (
    "SELECT json_array(r.moves, r.status, (SELECT json_group_array(json(m.vids)) FROM _moves m "
    "WHERE m.remote = r.id AND m.number > ?)) FROM _remotes r WHERE r.id = ?"
)
"""One value, for `Catalog.newest`: (moves so far, status, the vids of each move after a number)."""


def states_of(
    connection: Connection, space: int, table: RecordTable[Any], vids: Sequence[int], fields: Sequence[str]
) -> dict[int, tuple[Any, ...]]:
    """Vid -> the values of a record's fields, for those that are live in the space."""
    listed = "".join(f", t.{quote(name)}" for name in fields)
    found = connection.execute(
        f"SELECT v.vid{listed} FROM json_each(?) j CROSS JOIN vectors v ON v.vid = j.value "
        f"CROSS JOIN {table.table} t ON t.row = v.record WHERE v.space = ? AND v.retired IS NULL",
        (json.dumps([int(vid) for vid in vids]), space),
    ).fetchall()
    return {vid: tuple(values) for vid, *values in found}


def live_between(connection: Connection, space: int, after: int, upto: int, limit: int) -> list[int]:
    """Live vids of a space in (after, upto], ascending, at most so many."""
    found = connection.execute(
        "SELECT vid FROM vectors WHERE vid > ? AND vid <= ? AND space = ? AND retired IS NULL ORDER BY vid LIMIT ?",
        (after, upto, space, limit),
    )
    return [vid for (vid,) in found.fetchall()]


def vids_holding(connection: Connection, table: RecordTable[Any], node: Node, vids: Vids) -> Vids:
    """Those of some vids whose record a filter holds for, ascending."""
    sql, values = table.condition(node)
    found = connection.execute(
        f"SELECT v.vid FROM json_each(?) j CROSS JOIN vectors v ON v.vid = j.value "
        f"CROSS JOIN {table.table} ON {table.table}.row = v.record WHERE {sql}",
        (json.dumps(vids.tolist()), *values),
    ).fetchall()
    return np.sort(np.array([vid for (vid,) in found], dtype=np.int64))
