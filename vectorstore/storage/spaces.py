"""Vector spaces in the catalog: spaces, segments, vids, pending vectors, artifacts.

The table `vectors` is the truth about what is live: a vid names one vector for ever, `retired` is the sequence number
of the commit that replaced or removed it. Every function takes the connection of a running transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.files import FileInfo
from vectorstore.records import Value
from vectorstore.storage.bulk import insert_columns
from vectorstore.storage.connection import Connection
from vectorstore.storage.settings import kept_json

Vids = npt.NDArray[np.int64]
_SPACE = "id, name, kind, dim, metric, model, probe_text, probe_vector, layout"
_SEGMENT = "id, space, file, rows, first_vid, size, sha256, stat, seq"
_ARTIFACT = (
    "id, space, type, recipe, segments, rows, points, library, file, size, sha256, stat, built_seq, built_at, seconds"
)

NAMELESS = 8
"""Bytes that a vid without a vector has in `text_hash`: the row of its record. The hash of a text has 16."""


@dataclass(frozen=True)
class SpaceRow:
    """A vector space: who makes its vectors, how long they are, how they are compared.

    `layout` is the sequence number at which the list of its segments or its index last changed other than by growth.
    """

    id: int
    name: str
    kind: str
    dim: int
    metric: str
    model: str | None
    probe_text: str | None
    probe_vector: bytes | None
    layout: int


@dataclass(frozen=True)
class SegmentRow:
    """A segment file; `first_vid` is None when the file carries its vids itself."""

    id: int
    space: int
    file: str
    rows: int
    first_vid: int | None
    size: int
    sha256: str
    stat: str
    seq: int


@dataclass(frozen=True)
class ArtifactRow:
    """A derived file: an index over the rows of `segments`, in that order."""

    id: int
    space: int
    type: str
    recipe: dict[str, Any]
    segments: tuple[int, ...]
    rows: int
    points: dict[str, Any]
    library: str
    file: str
    size: int
    sha256: str
    stat: str
    built_seq: int
    built_at: int
    seconds: float


def space_by_name(connection: Connection, name: str) -> SpaceRow | None:
    """The space, if it was made; its table is small, and an index over it that rots would hide all vectors."""
    row = connection.execute(f"SELECT {_SPACE} FROM spaces NOT INDEXED WHERE name = ?", (name,)).fetchone()
    return None if row is None else SpaceRow(*row)


def all_spaces(connection: Connection) -> list[SpaceRow]:
    """All spaces, oldest first."""
    return [SpaceRow(*row) for row in connection.execute(f"SELECT {_SPACE} FROM spaces ORDER BY id").fetchall()]


def spaces_of(connection: Connection, kind: str) -> list[SpaceRow]:
    """The spaces of a kind, oldest first."""
    return [space for space in all_spaces(connection) if space.kind == kind]


def create_space(connection: Connection, name: str, kind: str, dim: int, metric: str, seq: int, now: int) -> SpaceRow:
    """Make a space; its model is pinned later, when a text is first embedded into it."""
    connection.execute(
        "INSERT INTO spaces(name, kind, dim, metric, layout, created_at) VALUES (?, ?, ?, ?, ?, ?)",
        (name, kind, dim, metric, seq, now),
    )
    space = space_by_name(connection, name)
    assert space is not None  # inserted above, in this transaction
    return space


def pin_model(connection: Connection, space: int, model: str, probe_text: str, probe_vector: bytes) -> None:
    """Record who makes the vectors of the space, with a probe that a later embedder must reproduce."""
    connection.execute(
        "UPDATE spaces SET model = ?, probe_text = ?, probe_vector = ? WHERE id = ?",
        (model, probe_text, probe_vector, space),
    )


def touch_layout(connection: Connection, space: int, seq: int) -> None:
    """Tell every process to reload the lists of the space."""
    connection.execute("UPDATE spaces SET layout = ? WHERE id = ?", (seq, space))


def take_vids(connection: Connection, count: int) -> int:
    """The first of `count` new vids; never handed out again, not even after a purge."""
    first: int = connection.execute("SELECT next_vid FROM state").fetchone()[0]
    connection.execute("UPDATE state SET next_vid = ?", (first + count,))
    return first


def insert_vectors(
    connection: Connection,
    space: int,
    first: int,
    records: Sequence[int],
    hashes: Sequence[bytes | None],
    source: str,
    confidence: float,
    updates: Sequence[int],
) -> None:
    """Make live vectors of vids from `first` on, one a record."""
    count = len(records)
    columns: dict[str, Sequence[Value]] = {"vid": range(first, first + count), "space": [space] * count}
    columns |= {"record": records, "text_hash": hashes, "source": [source] * count}
    insert_columns(connection, "vectors", {**columns, "confidence": [confidence] * count, "updates": updates})


def live_vectors(
    connection: Connection, space: int, records: Sequence[int]
) -> dict[int, tuple[int, bytes | None, int]]:
    """Record -> (vid, text_hash, updates) of the live vector, for those that have one."""
    found = connection.execute(
        "SELECT v.record, v.vid, v.text_hash, v.updates FROM json_each(?) j "
        "CROSS JOIN vectors v ON v.record = j.value AND v.space = ? AND v.retired IS NULL",
        (json.dumps(list(records)), space),
    ).fetchall()
    return {record: (vid, text_hash, updates) for record, vid, text_hash, updates in found}


@dataclass(frozen=True)
class VectorOrigin:
    """A live vector's vid, and where it comes from."""

    vid: int
    text_hash: bytes | None
    source: str
    confidence: float
    updates: int


def origins_of(connection: Connection, space: int, records: Sequence[int]) -> dict[int, VectorOrigin]:
    """Record -> its live vector in the space, for those that have one, in the order of the records."""
    found = connection.execute(
        "SELECT v.record, v.vid, v.text_hash, v.source, v.confidence, v.updates FROM json_each(?) j "
        "CROSS JOIN vectors v ON v.record = j.value AND v.space = ? AND v.retired IS NULL ORDER BY j.key",
        (json.dumps(list(records)), space),
    )
    return {record: VectorOrigin(*rest) for record, *rest in found}


def vids_by_text(connection: Connection, space: int, hashes: Sequence[bytes]) -> dict[bytes, int]:
    """text_hash -> a vid whose vector was embedded from that text."""
    found: dict[bytes, int] = {}
    for start in range(0, len(hashes), 500):
        part = hashes[start : start + 500]
        marks = ",".join("?" * len(part))
        found.update(
            connection.execute(
                f"SELECT text_hash, max(vid) FROM vectors WHERE space = ? AND text_hash IN ({marks}) GROUP BY 1",
                (space, *part),
            ).fetchall()
        )
    return found


def retire(connection: Connection, vids: Iterable[int], seq: int) -> None:
    """The vids name nothing live from this commit on."""
    connection.executemany("UPDATE vectors SET retired = ? WHERE vid = ?", ((seq, vid) for vid in vids))


def retired_vids(connection: Connection, space: int, since: int) -> Vids:
    """Vids of the space that were retired after commit `since`, ascending."""
    return _integers(
        connection,
        "SELECT group_concat(vid) FROM vectors WHERE space = ? AND retired > ? AND retired IS NOT NULL",
        (space, since),
    )


def restorable_vids(connection: Connection, space: int, table: str) -> tuple[Vids, Vids]:
    """(vids ascending, records) of retired vectors that may come back; a purge of the record drops them.

    The last vectors of deleted records, which a restore needs, and what a workflow replaced, which its rollback needs.

    Args:
        connection: of a running transaction.
        space: whose vectors.
        table: the quoted name of the kind's table.
    """
    found = connection.execute(
        "SELECT vid, record FROM (SELECT max(v.vid) AS vid, v.record, v.text_hash "
        f"FROM vectors v JOIN {table} t ON t.row = v.record WHERE v.space = ? "
        "AND v.retired IS NOT NULL AND t.deleted_at IS NOT NULL GROUP BY v.record "
        "UNION SELECT v.vid, v.record, v.text_hash FROM workflow_items i JOIN json_each(i.vids) j ON j.key = ? "
        "JOIN vectors v ON v.vid = j.value WHERE i.vids IS NOT NULL AND v.retired IS NOT NULL) "
        f"WHERE length(text_hash) IS NOT {NAMELESS} ORDER BY 1",
        (space, str(space)),
    ).fetchall()
    both = np.array(found, dtype=np.int64).reshape(-1, 2)
    return both[:, 0].copy(), both[:, 1].copy()


def expired_vids(connection: Connection, space: int, table: str, now: int) -> Vids:
    """Vids of records whose time has passed and that nobody has deleted yet, ascending; `table` as above."""
    return np.sort(
        _integers(
            connection,
            f"SELECT group_concat(v.vid) FROM {table} t CROSS JOIN vectors v ON v.record = t.row AND v.space = ? "
            "AND v.retired IS NULL WHERE t.deleted_at IS NULL AND t.expires_at <= ?",
            (space, now),
        )
    )


def expiry_around(connection: Connection, table: str, now: int) -> tuple[int | None, int | None]:
    """(the latest `expires_at` that has passed, the next one to come), None where there is none; a few microseconds."""
    undeleted = f"FROM {table} WHERE deleted_at IS NULL AND expires_at"
    found: tuple[int | None, int | None] = connection.execute(
        f"SELECT (SELECT max(expires_at) {undeleted} <= ?), (SELECT min(expires_at) {undeleted} > ?)", (now, now)
    ).fetchone()
    return found


def record_map(connection: Connection, space: int, after_vid: int) -> tuple[Vids, Vids]:
    """(vids, records) of all vectors of the space whose vid is greater, by ascending vid."""
    sql = "FROM (SELECT vid, record FROM vectors WHERE vid > ? AND space = ? ORDER BY vid)"
    vids = _integers(connection, f"SELECT group_concat(vid) {sql}", (after_vid, space))
    return vids, _integers(connection, f"SELECT group_concat(record) {sql}", (after_vid, space))


def live_map(connection: Connection, space: int) -> tuple[Vids, Vids]:
    """(records ascending, their live vids) of the space, those of expired records too."""
    sql = "FROM (SELECT vid, record FROM vectors WHERE space = ? AND retired IS NULL ORDER BY record)"
    records = _integers(connection, f"SELECT group_concat(record) {sql}", (space,))
    return records, _integers(connection, f"SELECT group_concat(vid) {sql}", (space,))


def _integers(connection: Connection, sql: str, values: tuple[Any, ...]) -> Vids:
    """One group_concat column as an array: about five times faster than fetching rows."""
    text = connection.execute(sql, values).fetchone()[0]
    return np.fromstring(text, dtype=np.int64, sep=",") if text else np.empty(0, np.int64)


def insert_pending(connection: Connection, space: int, vids: Iterable[int], vectors: npt.NDArray[np.float32]) -> None:
    """Keep small writes in the catalog until they are flushed."""
    connection.executemany(
        "INSERT INTO pending(vid, space, vector) VALUES (?, ?, ?)",
        ((vid, space, vector.tobytes()) for vid, vector in zip(vids, vectors, strict=True)),
    )


def pending_vectors(
    connection: Connection, space: int, dim: int, after_vid: int
) -> tuple[Vids, npt.NDArray[np.float32]]:
    """((n,) vids ascending, (n, dim) vectors) waiting in the catalog."""
    found = connection.execute(
        "SELECT vid, vector FROM pending WHERE vid > ? AND space = ? ORDER BY vid", (after_vid, space)
    ).fetchall()
    vids = np.array([vid for vid, _ in found], dtype=np.int64)
    data = b"".join(vector for _, vector in found)
    return vids, np.frombuffer(data, dtype=np.float32).reshape(len(found), dim)


def pending_count(connection: Connection, space: int) -> int:
    """How many vectors of the space wait in the catalog."""
    count: int = connection.execute("SELECT count(*) FROM pending WHERE space = ?", (space,)).fetchone()[0]
    return count


def drop_pending(connection: Connection, vids: Iterable[int]) -> None:
    """The vectors are in a segment now, or gone."""
    connection.executemany("DELETE FROM pending WHERE vid = ?", ((int(vid),) for vid in vids))


def drop_vectors(connection: Connection, vids: Iterable[int]) -> None:
    """Forget retired vids whose vectors are in no segment any more."""
    connection.executemany("DELETE FROM vectors WHERE vid = ?", ((int(vid),) for vid in vids))


def segments_of(connection: Connection, space: int) -> list[SegmentRow]:
    """Segments of the space, oldest first."""
    found = connection.execute(f"SELECT {_SEGMENT} FROM segments WHERE space = ? ORDER BY id", (space,)).fetchall()
    return [SegmentRow(*row) for row in found]


def insert_segment(
    connection: Connection, space: int, rows: int, first_vid: int | None, info: FileInfo, seq: int
) -> int:
    """Name a published segment: from the commit on it is part of the store."""
    number = take_vids(connection, 1)  # an id that was dropped must never name another file
    connection.execute(
        f"INSERT INTO segments({_SEGMENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (number, space, info.name, rows, first_vid, info.size, info.sha256, info.stat, seq),
    )
    return number


def drop_segments(connection: Connection, ids: Iterable[int]) -> None:
    """The files are named no more; they are unlinked after the commit."""
    connection.executemany("DELETE FROM segments WHERE id = ?", ((segment,) for segment in ids))


def restat(connection: Connection, table: str, row: int, stat: str) -> None:
    """Remember that the file with this stat was verified whole."""
    connection.execute(
        f"UPDATE {'segments' if table == 'segments' else 'artifacts'} SET stat = ? WHERE id = ?", (stat, row)
    )


def artifact_of(connection: Connection, space: int, kind: str) -> ArtifactRow | None:
    """The current artifact of a type ("index") of a space."""
    row = connection.execute(
        f"SELECT {_ARTIFACT} FROM artifacts WHERE space = ? AND type = ?", (space, kind)
    ).fetchone()
    if row is None:
        return None
    values = list(row)
    for place in (3, 4, 6):
        values[place] = kept_json(row[place], f"the row of the index {row[8]!r}")
    values[4] = tuple(values[4])
    return ArtifactRow(*values)


def replace_artifact(
    connection: Connection,
    space: int,
    kind: str,
    *,
    recipe: dict[str, Any],
    segments: Sequence[int],
    rows: int,
    points: dict[str, Any],
    library: str,
    info: FileInfo,
    built_seq: int,
    built_at: int,
    seconds: float,
) -> None:
    """Make this the current artifact of its type."""
    drop_artifact(connection, space, kind)
    connection.execute(
        f"INSERT INTO artifacts({_ARTIFACT.removeprefix('id, ')}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            space,
            kind,
            json.dumps(recipe),
            json.dumps(list(segments)),
            rows,
            json.dumps(points),
            library,
            info.name,
            info.size,
            info.sha256,
            info.stat,
            built_seq,
            built_at,
            seconds,
        ),
    )


def drop_artifact(connection: Connection, space: int, kind: str) -> None:
    """Without an index the space is searched exactly."""
    connection.execute("DELETE FROM artifacts WHERE space = ? AND type = ?", (space, kind))


def every_vector(connection: Connection, space: int, records: Iterable[int]) -> list[tuple[int, int]]:
    """(vid, row) of all vectors that rows have or had in a space.

    Retired ones, which no index finds by row, are looked through once.
    """
    listed = json.dumps(list(records))
    return connection.execute(
        "SELECT v.vid, v.record FROM json_each(?) j "
        "CROSS JOIN vectors v ON v.record = j.value AND v.space = ? AND v.retired IS NULL "
        "UNION ALL SELECT vid, record FROM vectors INDEXED BY vectors_retired WHERE space = ? AND retired IS NOT NULL "
        "AND record IN (SELECT value FROM json_each(?))",
        (listed, space, space, listed),
    ).fetchall()
