"""Mending what is no mere copy: vectors that lost their rows, rows that lost their vectors, damaged records.

Whatever the other half of the store still tells is put right from it; what cannot be is put aside: the record counts as
deleted, its values as they were found are kept in the catalog for whoever looks into it. Nothing is thrown away that
might be the only copy.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from vectorstore.errors import CorruptError
from vectorstore.files import FileInfo, sha256
from vectorstore.ids import from_micros
from vectorstore.records import Context, digest
from vectorstore.storage import Connection, IntegrityError, RecordTable, SpaceRow, Transaction, history
from vectorstore.storage import spaces as rows
from vectorstore.storage.connection import lenient
from vectorstore.storage.decisions import NOT_ADDED
from vectorstore.storage.filters import quote
from vectorstore.storage.settings import put_setting
from vectorstore.storage.trail import note_erased
from vectorstore.sync.cascade import delete_dependents, retire_rows
from vectorstore.sync.check import sealed
from vectorstore.sync.core import MENDED, Sync
from vectorstore.vectors import Segment, open_segment
from vectorstore.vectors.segments import NAME, open_unknown

Reembed = Callable[[SpaceRow, list[str]], int]
_VERSION, _DELETED = 2, 5


@dataclass(frozen=True)
class Quarantined:
    """Something that was put aside: a damaged record, or a part of the schema that is not ours.

    Attributes:
        kind: of the record; "schema" for a trigger or view.
        id: of the record as it was found, or the trigger's name.
        reason: why.
        values: the fields as they were found; bytes as hex.
        at: when.
    """

    kind: str
    id: str | None
    reason: str
    values: dict[str, Any]
    at: datetime


def quarantined(connection: Connection) -> list[Quarantined]:
    """All that was put aside, oldest first."""
    found = connection.execute("SELECT kind, record, reason, data, at FROM _quarantine ORDER BY id").fetchall()
    return [Quarantined(kind, name, why, json.loads(data), from_micros(at)) for kind, name, why, data, at in found]


def forget_quarantined(connection: Connection, kind: str, numbers: Sequence[int], ids: Sequence[str]) -> None:
    """Erase what was put aside of records."""
    connection.execute(
        "DELETE FROM _quarantine WHERE kind = ? AND (row IN (SELECT value FROM json_each(?)) "
        "OR record IN (SELECT value FROM json_each(?)))",
        (kind, json.dumps(list(numbers)), json.dumps(list(ids))),
    )


def _put_aside(
    transaction: Transaction, kind: str, row: int, name: object, reason: str, values: dict[str, object]
) -> None:
    plain = {key: value.hex() if isinstance(value, bytes) else value for key, value in values.items()}
    transaction.connection.execute(
        "INSERT INTO _quarantine(kind, row, record, reason, data, seq, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            kind,
            row,
            None if name is None else str(name).encode(errors="replace").decode(),
            reason,
            json.dumps(plain),
            transaction.seq,
            transaction.now,
        ),
    )


# -- schema and records ------------------------------------------------------------------------------------------------


def drop_foreign(sync: Sync) -> None:
    """Take all triggers and views that are not ours off, before they could run; their texts are put aside."""
    found: list[tuple[str, str, str]] = []

    def drop(connection: Connection) -> None:
        found.extend(history.foreign_objects(connection))
        for kind, name, _ in found:
            connection.execute(f"DROP {kind} {quote(name)}")

    with sync.catalog.write(first=drop) as transaction:
        for kind, name, sql in found:
            _put_aside(transaction, "schema", 0, name, "was not made by vectorstore", {"sql": sql})
            transaction.record("repair", None, aside=kind)


def make_contexts(sync: Sync) -> None:
    """Make contexts again that records are in, and that are not there."""
    contexts = sync.table(Context.table)
    with sync.catalog.write() as transaction:
        connection = transaction.connection
        connection.execute("PRAGMA defer_foreign_keys=ON")
        lost: set[str] = set()
        for table in sync.tables.values():
            sql = f"SELECT DISTINCT context FROM {table.table} WHERE context NOT IN (SELECT id FROM {contexts.table})"
            lost |= {str(name) for (name,) in connection.execute(sql)}
        moment = from_micros(transaction.now)
        made = [Context(id=name, name=name, created_at=moment, updated_at=moment) for name in sorted(lost)]
        contexts.insert(
            connection, contexts.next_row(connection), [contexts.schema.encode(c, "contexts") for c in made]
        )
        transaction.record("repair", Context.table, made=len(made))


def put_records_aside(sync: Sync, kind: str) -> None:
    """Damaged records of a kind count as deleted from now on, with what belongs to them.

    One that cannot even be read is removed, unless others point to it: then the finding stays.
    """
    table = sync.table(kind)
    reason = "damaged: its digest does not match"
    with sync.catalog.write() as transaction:
        connection = transaction.connection
        with lenient(connection):
            broken = [(row, values) for row, seal, values in table.all_rows(connection) if not sealed(seal, values)]
        for row, values in broken:
            fields: dict[str, object] = dict(zip(table.schema.names, values, strict=True))
            _put_aside(transaction, kind, row, values[0], reason, fields)
            was = values[_DELETED]
            deleted = was if isinstance(was, int) else transaction.now
            anew = (*values[:_VERSION], int(values[_VERSION] or 0) + 1, *values[_VERSION + 1 : _DELETED], deleted)
            anew = (*anew, *values[_DELETED + 1 :])
            retire_rows(transaction, table, [row])
            if _readable(table, values):
                table.replace(connection, [(row, anew)], text_changed=False)
                delete_dependents(sync, transaction, table, {row: deleted})
            else:
                _remove(connection, table, row)
        table.rebuild_text(connection)
        transaction.record("repair", kind, [row for row, _ in broken], aside=len(broken))


def _readable(table: RecordTable[Any], values: Sequence[Any]) -> bool:
    try:
        digest(values)
        table.schema.copy(table.schema.half_decoded(values))
    except (ValueError, TypeError, KeyError, AttributeError, CorruptError):
        return False
    return True


def _remove(connection: Connection, table: RecordTable[Any], row: int) -> None:
    connection.execute("SAVEPOINT removing")
    try:
        for listed in table.lists:
            connection.execute(f"DELETE FROM {listed.table} WHERE row = ?", (row,))
        note_erased(connection, table.name, row)
        connection.execute(f"DELETE FROM {table.table} WHERE row = ?", (row,))
        connection.execute(
            "DELETE FROM memberships WHERE record = ? AND model IN (SELECT id FROM models WHERE kind = ?)",
            (row, table.name),
        )
    except IntegrityError:
        connection.execute("ROLLBACK TO removing")
    connection.execute("RELEASE removing")


def forget_lost_decisions(sync: Sync, kind: str) -> None:
    """Decisions about near-duplicates that name records which are not there go."""
    table = sync.table(kind).table
    with sync.catalog.write() as transaction:
        transaction.connection.execute(
            f"DELETE FROM decisions WHERE kind = ? AND (other NOT IN (SELECT id FROM {table}) "
            f"OR action NOT IN (?, ?) AND record NOT IN (SELECT id FROM {table}))",
            (kind, *NOT_ADDED),
        )
        transaction.record("repair", kind, derived="decisions")


# -- vectors -----------------------------------------------------------------------------------------------------------


def mend_vectors(sync: Sync, space_name: str, reembed: Reembed | None) -> None:
    """Put rows and files of a space in agreement again.

    Live vectors of no live record are retired, and of two of one record the older; a newer one that is nowhere goes;
    vectors that lost their row get it back by the id that lies beside them; vectors that no named file holds are looked
    for in unnamed ones, and made again from the records' text where there is an embedder.
    """
    with sync.catalog.write() as transaction:
        connection = transaction.connection
        space = rows.space_by_name(connection, space_name)
        if space is None:
            return
        connection.execute("UPDATE state SET next_vid = max(next_vid, (SELECT coalesce(max(vid), 0) + 1 FROM vectors))")
        _drop_unusable(connection, space)
        segments = _segments(sync, connection, space)
        if segments is None:
            return  # a damaged segment comes first; the next repair goes on here
        _retire_extra(connection, sync.table(space.kind), space, segments, transaction.seq)
        _link_again(connection, sync.table(space.kind), space, segments, transaction.seq)
        _adopt(sync, transaction, space, segments)
        lost = _without_vector(connection, sync.table(space.kind), space, segments)
        if lost and reembed is not None:
            rows.retire(connection, [vid for vid, _ in lost], transaction.seq)
            reembed(space, [name for _, name in lost])
        rows.touch_layout(connection, space.id, transaction.seq)
        put_setting(connection, MENDED + space_name, transaction.seq)
        transaction.record("repair", space.kind, space=space_name, lost=len(lost))


def _segments(sync: Sync, connection: Connection, space: SpaceRow) -> list[Segment] | None:
    folder = sync.folder("embeddings", space.name)
    try:
        return [
            open_segment(folder.read(s.file), id=s.id, file=s.file, rows=s.rows, dim=space.dim, first_vid=s.first_vid)
            for s in rows.segments_of(connection, space.id)
        ]
    except CorruptError:
        return None


def _drop_unusable(connection: Connection, space: SpaceRow) -> None:
    vids, vectors = rows.pending_vectors(connection, space.id, space.dim, 0)
    rows.drop_pending(connection, vids[~np.isfinite(vectors).all(axis=1)].tolist())


def _retire_extra(
    connection: Connection, table: RecordTable[Any], space: SpaceRow, segments: Sequence[Segment], seq: int
) -> None:
    orphans = connection.execute(
        f"SELECT v.vid FROM vectors v LEFT JOIN {table.table} t ON t.row = v.record "
        "WHERE v.space = ? AND v.retired IS NULL AND (t.row IS NULL OR t.deleted_at IS NOT NULL)",
        (space.id,),
    ).fetchall()
    rows.retire(connection, [vid for (vid,) in orphans], seq)
    live = connection.execute(
        "SELECT record, vid FROM vectors WHERE space = ? AND retired IS NULL ORDER BY record, vid", (space.id,)
    ).fetchall()
    places = _places(connection, space, segments)
    for _, group in itertools.groupby(live, key=lambda pair: pair[0]):
        vids = np.array([vid for _, vid in group], dtype=np.int64)
        if len(vids) > 1:
            there = vids[np.isin(vids, places)]
            best = (there if len(there) else vids)[-1]  # the newest that is somewhere
            rows.retire(connection, [int(vid) for vid in vids if vid < best], seq)
            rows.drop_vectors(connection, vids[vids > best])  # they are nowhere, and a record's newest vid is its own


def _places(connection: Connection, space: SpaceRow, segments: Sequence[Segment]) -> np.ndarray:
    """(n,) the vids that are in a file or waiting."""
    pending = rows.pending_vectors(connection, space.id, space.dim, 0)[0]
    return np.concatenate([pending, *(segment.vids for segment in segments)])


def _link_again(
    connection: Connection, table: RecordTable[Any], space: SpaceRow, segments: Sequence[Segment], seq: int
) -> None:
    known = {vid for (vid,) in connection.execute("SELECT vid FROM vectors WHERE space = ?", (space.id,))}
    nameless: dict[int, str] = {}
    for segment in segments:
        assert segment.ids is not None  # it came from a file
        nameless |= {
            vid: str(name)
            for vid, name in zip(segment.vids.tolist(), segment.ids.tolist(), strict=True)
            if vid not in known
        }
    pending = rows.pending_vectors(connection, space.id, space.dim, 0)[0].tolist()
    rows.drop_pending(connection, [vid for vid in pending if vid not in known])  # nothing tells whose it was
    for vid in sorted(nameless, reverse=True):  # the newest first: it is the one that was live
        found = table.existing(connection, [nameless[vid]]).get(nameless[vid])
        live = found is not None and not found[1] and not rows.live_vectors(connection, space.id, [found[0]])
        record = 0 if found is None else found[0]
        rows.insert_vectors(connection, space.id, vid, [record], [None], "repair", 1.0, [0])
        if not live:
            rows.retire(connection, [vid], seq)


def _without_vector(
    connection: Connection, table: RecordTable[Any], space: SpaceRow, segments: Sequence[Segment]
) -> list[tuple[int, str]]:
    """(vid, record id) of live vectors that are nowhere."""
    places = _places(connection, space, segments)
    live = connection.execute(
        f"SELECT v.vid, t.id FROM vectors v JOIN {table.table} t ON t.row = v.record "
        "WHERE v.space = ? AND v.retired IS NULL ORDER BY v.vid",
        (space.id,),
    ).fetchall()
    absent = ~np.isin(np.array([vid for vid, _ in live], dtype=np.int64), places)
    return [(int(vid), str(name)) for (vid, name), gone in zip(live, absent.tolist(), strict=True) if gone]


def _adopt(sync: Sync, transaction: Transaction, space: SpaceRow, segments: list[Segment]) -> None:
    """Name unnamed segment files again that hold vectors which no other file does."""
    connection, folder = transaction.connection, sync.folder("embeddings", space.name)
    named = {segment.file for segment in segments}
    for name in folder.names():
        lost = dict(_without_vector(connection, sync.table(space.kind), space, segments))
        if name in named or not NAME.fullmatch(name) or not lost:
            continue
        try:
            buffer = folder.read(name)
            found = open_unknown(buffer, file=name, dim=space.dim)
        except CorruptError:
            continue
        assert found.ids is not None  # it came from a file
        if found.explicit_vids is None:
            vid_of = {record: vid for vid, record in lost.items()}
            firsts = {vid_of[each] - place for place, each in enumerate(found.ids.tolist()) if each in vid_of}
            if len(firsts) != 1:
                continue
            found = found.starting_at(firsts.pop())
        assert found.ids is not None  # the same rows, numbered anew
        beside = dict(zip(found.vids.tolist(), found.ids.tolist(), strict=True))
        fits = all(beside.get(vid, record) == record for vid, record in lost.items()) and beside.keys() & lost.keys()
        taken = any(np.isin(found.vids, other.vids).any() for other in segments)
        stat = folder.stat(name)
        if not fits or taken or stat is None:
            continue
        info = FileInfo(name, len(buffer), sha256(buffer), stat)
        first = None if found.explicit_vids is not None else int(found.vids[0])
        rows.insert_segment(connection, space.id, found.rows, first, info, transaction.seq)
        segments.append(found)
