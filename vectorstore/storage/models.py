"""The registry of models in the catalog, and which record belongs to which cluster.

A line of models has a name; its versions are rows, of which one at most is current. What a clustering model has learned
(centroids, sizes, labels) is here, without any pickle; its file is derived from it. `memberships` has one row for each
record: the vector that was looked at (`vid`), its cluster (`number`, NULL for noise), how strongly it belongs there,
and the vector that took part in the fit (`fitted`, NULL for records that were assigned later; below 0 where `number` is
no more that of the fit, see `_HOME`). Every function takes the connection of a running transaction.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.files import FileInfo
from vectorstore.storage.bulk import insert_columns
from vectorstore.storage.connection import Connection

Vids = npt.NDArray[np.int64]
CLUSTER, BLOB = "cluster", "blob"
CURRENT, RETIRED = "current", "retired"
NOISE = -1
"""The number of no cluster, in arrays; NULL in the catalog."""

_JSON = ("recipe", "details", "clusters")
_MOVED = -3
_HOME = f"CASE WHEN fitted > 0 THEN number WHEN fitted < -1 THEN {_MOVED} - fitted END"
"""The cluster whose centroid a member's vector went into. One that was given to another cluster since has -3 minus the
number of the fit's in `fitted`, and -1 when nobody knows it: it came with a snapshot."""


@dataclass(frozen=True)
class ModelRow:
    """One version of a model.

    Attributes:
        id: its row.
        name: of the line of versions.
        version: 1, 2, 3, ... within the line.
        type: "cluster", or "blob" for a file that the store only keeps.
        status: "current" or "retired".
        parent: the row of the version that it continues.
        kind: whose records it was fitted on; None for a blob that belongs to none.
        space: whose vectors.
        recipe: how it was fitted, with `n` and `seed`; a blob has none.
        details: what else is known, as plain data: spread, quality, scope; a blob's metadata.
        clusters: one entry a row of `centroids`: number, name, terms, size, ...
        centroids: (k, d) float32 little-endian.
        rows: on how many records it was fitted.
        library: what made it, with its version.
        file: its name in models/; None when it was dropped.
        size: bytes of the file.
        sha256: of the file.
        stat: of the file when it was last verified.
        seq: the commit that the fit saw.
        at: microseconds since 1970 UTC.
        seconds: how long the fit took.
        stale: the first commit that changed the space after the fit; None when none did.
    """

    id: int
    name: str
    version: int
    type: str
    status: str
    parent: int | None
    kind: str | None
    space: str | None
    recipe: dict[str, Any]
    details: dict[str, Any]
    clusters: list[dict[str, Any]]
    centroids: bytes | None
    rows: int
    library: str | None
    file: str | None
    size: int | None
    sha256: str | None
    stat: str | None
    seq: int
    at: int
    seconds: float
    stale: int | None


_NAMES = [field.name for field in dataclasses.fields(ModelRow)]
_LISTED = ", ".join(_NAMES)


def _row(values: Sequence[Any]) -> ModelRow:
    fields = dict(zip(_NAMES, values, strict=True))
    for name in _JSON:
        fields[name] = json.loads(fields[name]) if fields[name] else ([] if name == "clusters" else {})
    return ModelRow(**fields)


def models_of(connection: Connection, name: str | None = None, type: str | None = None) -> list[ModelRow]:
    """All versions of a line, or of all lines, oldest first."""
    found = connection.execute(
        f"SELECT {_LISTED} FROM models WHERE (? IS NULL OR name = ?) AND (? IS NULL OR type = ?) "
        "ORDER BY name, version",
        (name, name, type, type),
    ).fetchall()
    return [_row(values) for values in found]


def model_of(connection: Connection, name: str, version: int | None = None) -> ModelRow | None:
    """One version of a line; None for the current one."""
    wanted = ("status = 'current'", ()) if version is None else ("version = ?", (version,))
    found = connection.execute(f"SELECT {_LISTED} FROM models WHERE name = ? AND {wanted[0]}", (name, *wanted[1]))
    row = found.fetchone()
    return None if row is None else _row(row)


def model_at(connection: Connection, row: int) -> ModelRow:
    """The model of a row."""
    return _row(connection.execute(f"SELECT {_LISTED} FROM models WHERE id = ?", (row,)).fetchone())


def insert_model(connection: Connection, info: FileInfo | None, *, version: int | None = None, **fields: Any) -> int:
    """Make this the line's newest version, and its current one; returns its row.

    Args:
        connection: of a running transaction.
        info: its published file.
        version: of a line that is not there yet; None for the next one.
        fields: of `ModelRow`, without those that follow from the rest.
    """
    name = fields["name"]
    if version is None:
        newest = connection.execute("SELECT max(version) FROM models WHERE name = ?", (name,)).fetchone()[0]
        version = (newest or 0) + 1
    connection.execute("UPDATE models SET status = 'retired' WHERE name = ?", (name,))
    file = {} if info is None else {"file": info.name, "size": info.size, "sha256": info.sha256, "stat": info.stat}
    values = {**fields, **file, "version": version, "status": CURRENT}
    for key in _JSON:
        if key in values:
            values[key] = json.dumps(values[key])
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO models({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    return int(connection.execute("SELECT last_insert_rowid()").fetchone()[0])


def make_current(connection: Connection, row: ModelRow, instead: ModelRow) -> None:
    """A version is its line's current one again, and numbers that were given since are not given again.

    Whichever version was current when the space changed has remembered it: the first such commit after this fit counts.
    """
    details = {**row.details, "next_number": max(row.details["next_number"], instead.details["next_number"])}
    connection.execute("UPDATE models SET status = 'retired' WHERE name = ?", (row.name,))
    connection.execute(
        "UPDATE models SET status = 'current', details = ?, stale = coalesce(stale, "
        "(SELECT min(other.stale) FROM models other WHERE other.name = ? AND other.stale > ?)) WHERE id = ?",
        (json.dumps(details), row.name, row.seq, row.id),
    )


def promote(connection: Connection, row: int) -> None:
    """A version becomes current, when its line has no current one."""
    connection.execute("UPDATE models SET status = 'current' WHERE id = ?", (row,))


def set_file(connection: Connection, row: int, info: FileInfo | None, library: str | None) -> None:
    """Name another file and what wrote it, or none."""
    values = (None,) * 4 if info is None else (info.name, info.size, info.sha256, info.stat)
    connection.execute(
        "UPDATE models SET file = ?, size = ?, sha256 = ?, stat = ?, library = ? WHERE id = ?", (*values, library, row)
    )


def set_clusters(
    connection: Connection,
    row: int,
    clusters: list[dict[str, Any]],
    centroids: bytes | None,
    details: dict[str, Any],
) -> None:
    """Change what is known of the clusters."""
    connection.execute(
        "UPDATE models SET clusters = ?, centroids = ?, details = ? WHERE id = ?",
        (json.dumps(clusters), centroids, json.dumps(details), row),
    )


def forget_model(connection: Connection, row: int) -> None:
    """Remove a version for good, with its memberships; later versions lose their parent."""
    connection.execute("DELETE FROM memberships WHERE model = ?", (row,))
    connection.execute("UPDATE models SET parent = NULL WHERE parent = ?", (row,))
    connection.execute("DELETE FROM models WHERE id = ?", (row,))


def thin_model(connection: Connection, row: ModelRow) -> None:
    """Keep only the record that there was such a version: no file, no centroids, no memberships, no filter."""
    connection.execute("DELETE FROM memberships WHERE model = ?", (row.id,))
    set_clusters(connection, row.id, [], None, {**row.details, "where": None})
    set_file(connection, row.id, None, None)


def mark_stale(connection: Connection, space: str, seq: int) -> None:
    """The space's vectors change with this commit; remembered once, until the next fit. A few microseconds."""
    connection.execute(
        "UPDATE models SET stale = ? WHERE space = ? AND status = 'current' AND stale IS NULL", (seq, space)
    )


# -- memberships -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Members:
    """Who belongs where: arrays of one length, by ascending record.

    Attributes:
        records: (n,) rows of the kind's table.
        vids: (n,) the vectors that were looked at.
        numbers: (n,) cluster numbers, NOISE for none.
        strengths: (n,) 0..1.
        fitted: (n,) the vectors that took part in the fit; 0 for records that came later, below 0 where it was left
            behind, or the record was given to another cluster since.
    """

    records: Vids
    vids: Vids
    numbers: Vids
    strengths: npt.NDArray[np.float64]
    fitted: Vids

    def at(self, places: Vids) -> Members:
        """Those at some places."""
        return Members(*(getattr(self, field.name)[places] for field in dataclasses.fields(self)))

    def due(self, records: Vids, vids: Vids, *, since_fit: bool = False) -> npt.NDArray[np.bool_]:
        """Which of the live (records, vids) were not looked at yet, or took no part in the fit, as they are now."""
        if not len(self.records):
            return np.ones(len(records), dtype=bool)
        places = np.minimum(np.searchsorted(self.records, records), len(self.records) - 1)
        seen = self.fitted if since_fit else self.vids
        due: npt.NDArray[np.bool_] = (self.records[places] != records) | (seen[places] != vids)
        return due


def put_fitted(connection: Connection, model: int, members: Members) -> None:
    """Write the memberships of a new fit."""
    if not len(members.records):
        return
    count = len(members.records)
    insert_columns(
        connection,
        "memberships",
        {
            "model": [model] * count,
            "record": members.records.tolist(),
            "vid": members.vids.tolist(),
            "number": [None if number == NOISE else number for number in members.numbers.tolist()],
            "strength": members.strengths.tolist(),
            "fitted": [vid or None for vid in members.fitted.tolist()],
        },
    )


def put_assigned(
    connection: Connection, model: int, records: Vids, vids: Vids, numbers: Vids, strengths: npt.NDArray[np.float64]
) -> None:
    """Write memberships of records that were looked at later, or again; where the fit had put them is remembered."""
    connection.executemany(
        "INSERT INTO memberships(model, record, vid, number, strength) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
        "SET vid = excluded.vid, number = excluded.number, strength = excluded.strength, fitted = CASE "
        f"WHEN fitted > 0 AND number IS NOT excluded.number THEN {_MOVED} - coalesce(number, {NOISE}) ELSE fitted END",
        (
            (model, record, vid, None if number == NOISE else number, strength)
            for record, vid, number, strength in zip(
                records.tolist(), vids.tolist(), numbers.tolist(), strengths.tolist(), strict=True
            )
        ),
    )


def members_of(connection: Connection, model: int) -> Members:
    """All memberships of a version."""
    found = connection.execute(
        "SELECT record, vid, coalesce(number, -1), strength, coalesce(fitted, 0) FROM memberships "
        "WHERE model = ? ORDER BY record",
        (model,),
    ).fetchall()
    columns: list[Any] = list(zip(*found, strict=True)) if found else [()] * 5
    record, vid, number, _, fitted = (np.array(column, dtype=np.int64) for column in columns)
    return Members(record, vid, number, np.array(columns[3], dtype=np.float64), fitted)


def membership(connection: Connection, model: int, record: int) -> tuple[int, int | None, float] | None:
    """(vid, number, strength) of one record."""
    found: tuple[int, int | None, float] | None = connection.execute(
        "SELECT vid, number, strength FROM memberships WHERE model = ? AND record = ?", (model, record)
    ).fetchone()
    return found


def page_of_members(
    connection: Connection, model: int, number: int | None, live: str, table: str, limit: int, after: Any
) -> list[tuple[int, str, float]]:
    """(record, id, strength) of live members, the strongest first, ties by record.

    Args:
        connection: of a running transaction.
        model: the version's row.
        number: which cluster; None for those that are in none.
        live: the condition under which a record is live, over the kind's table.
        table: the quoted name of the kind's table.
        limit: how many at most, -1 for all.
        after: (strength, record) of the last one before.
    """
    step = ""
    values: tuple[Any, ...] = ()
    if after is not None:
        step, values = "AND (m.strength < ? OR (m.strength = ? AND m.record > ?))", (after[0], after[0], after[1])
    return connection.execute(
        f"SELECT m.record, {table}.id, m.strength FROM memberships m JOIN {table} ON {table}.row = m.record "
        f"WHERE m.model = ? AND m.number IS ? AND {live} {step} ORDER BY m.strength DESC, m.record LIMIT ?",
        (model, number, *values, limit),
    ).fetchall()


def count_members(connection: Connection, model: int, number: int | None, live: str, table: str) -> int:
    """How many live members there are; arguments as above."""
    found = connection.execute(
        f"SELECT count(*) FROM memberships m JOIN {table} ON {table}.row = m.record "
        f"WHERE m.model = ? AND m.number IS ? AND {live}",
        (model, number),
    ).fetchone()
    return int(found[0])


def live_vid(connection: Connection, space: str, record: int) -> int | None:
    """The live vector of a record."""
    found = connection.execute(
        "SELECT v.vid FROM vectors v JOIN spaces s ON s.id = v.space AND s.name = ? "
        "WHERE v.record = ? AND v.retired IS NULL",
        (space, record),
    ).fetchone()
    return None if found is None else int(found[0])


def forget_members(connection: Connection, kind: str, records: Sequence[int]) -> dict[int, list[int]]:
    """Remove all memberships of records that are erased.

    Returns:
        Model, of whatever version -> the numbers, ascending, of its clusters that one of them may have gone into at the
        fit, and none of those that are left did. Members that came later, who tell nothing of it, belong nowhere now.
    """
    rows = json.dumps(list(records))
    which = (
        "FROM memberships WHERE record IN (SELECT value FROM json_each(?)) "
        "AND model IN (SELECT id FROM models WHERE kind = ?)"
    )
    homes: dict[int, set[int | None]] = {}
    for model, home in connection.execute(
        f"SELECT DISTINCT model, {_HOME} {which} AND fitted IS NOT NULL AND (fitted < 0 OR number IS NOT NULL)",
        (rows, kind),
    ).fetchall():
        homes.setdefault(model, set()).add(home)
    connection.execute(f"DELETE {which}", (rows, kind))
    found = {model: _hollow(connection, model, homes[model]) for model in sorted(homes)}
    connection.executemany(
        "UPDATE memberships SET vid = -1, number = NULL, strength = 0 WHERE model = ? AND number = ?",
        ((model, number) for model, numbers in found.items() for number in numbers),
    )
    return {model: numbers for model, numbers in found.items() if numbers}


def _hollow(connection: Connection, model: int, homes: set[int | None]) -> list[int]:
    """Those of some clusters, of all where None is among them, into whose centroid no member that is left went."""
    numbers = sorted(known["number"] for known in model_at(connection, model).clusters)
    threatened = [number for number in numbers if None in homes or number in homes]
    stayed = "SELECT 1 FROM memberships WHERE model = ? AND number = ? AND fitted > 0 LIMIT 1"
    found = [each for each in threatened if connection.execute(stayed, (model, each)).fetchone() is None]
    if not found:
        return []  # nobody need look through the members
    moved = "SELECT DISTINCT fitted FROM memberships WHERE model = ? AND fitted < -1"
    elsewhere = {_MOVED - value for (value,) in connection.execute(moved, (model,)).fetchall()}
    return [number for number in found if number not in elsewhere]


def in_fits(connection: Connection, kind: str, records: Sequence[int]) -> bool:
    """Whether any of the records took part in a fit that is still there."""
    which = "record IN (SELECT value FROM json_each(?)) AND model IN (SELECT id FROM models WHERE kind = ?)"
    found = f"SELECT 1 FROM memberships WHERE {which} AND fitted IS NOT NULL LIMIT 1"
    return connection.execute(found, (json.dumps(list(records)), kind)).fetchone() is not None


def moved_on(connection: Connection, space: str, seq: int, last_vid: int) -> bool:
    """Whether vectors came to a space, or were retired, after a commit at which the newest was `last_vid`."""
    found = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM vectors v JOIN spaces s ON s.id = v.space AND s.name = ? "
        "WHERE v.vid > ? OR v.retired > ?)",
        (space, last_vid, seq),
    ).fetchone()
    return bool(found[0])


def all_there(connection: Connection, vids: Vids) -> bool:
    """Whether none of the vectors was erased; retired ones are still there."""
    found = connection.execute(
        "SELECT count(*) FROM json_each(?) j CROSS JOIN vectors v ON v.vid = j.value", (json.dumps(vids.tolist()),)
    ).fetchone()
    return bool(found[0] == len(vids))


def lost_members(connection: Connection, kind: str, table: str) -> list[tuple[str, int]]:
    """(line, record) of memberships whose record is not there, five at most."""
    return connection.execute(
        f"SELECT o.name, m.record FROM memberships m JOIN models o ON o.id = m.model AND o.kind = ? "
        f"WHERE m.record NOT IN (SELECT row FROM {table}) LIMIT 5",
        (kind,),
    ).fetchall()
