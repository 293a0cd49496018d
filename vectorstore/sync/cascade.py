"""What belongs to a record goes where it goes: deleted, restored and purged with it.

`Ref(kind, cascade=True)` says so. What goes with a record is deleted at the very instant at which the record is, and
comes back when a record of that instant does; what belongs to several comes back with the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vectorstore.errors import ConflictError
from vectorstore.ids import from_micros, to_micros
from vectorstore.records import Column, Row
from vectorstore.records.where import Term
from vectorstore.storage import Connection, RecordTable, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.lookups import values_of
from vectorstore.storage.models import mark_stale
from vectorstore.storage.patching import numbered_rows, patch
from vectorstore.sync.core import Sync

_VERSION, _DELETED = 2, 5
Rows = dict[int, int]
"""Row -> the instant of its deletion, in microseconds."""


def dependents(sync: Sync, kind: str) -> list[tuple[RecordTable[Any], Column]]:
    """The kinds whose records belong to records of this kind, and the fields that say to which."""
    return [
        (table, column)
        for table in sync.tables.values()
        for column in table.schema.columns
        if column.cascade and column.ref == kind
    ]


def stamp(transaction: Transaction, table: RecordTable[Any], deleted: Mapping[int, int | None]) -> None:
    """Mark rows as deleted at an instant, or take the mark off with None."""
    if not deleted:
        return
    rows_before = numbered_rows(transaction.connection, table, list(deleted))
    changed: list[tuple[int, Row]] = []
    for number, instant in deleted.items():
        row = rows_before[number]
        version = int(row[_VERSION] or 0) + 1
        changed.append((number, (*row[:_VERSION], version, row[3], transaction.now, instant, *row[_DELETED + 1 :])))
    patch(transaction.connection, table, changed, ("version", "updated_at", "deleted_at"))


def delete_rows(sync: Sync, transaction: Transaction, table: RecordTable[Any], deleted: Rows) -> None:
    """Delete live rows, retire their vectors, and delete what belongs to them."""
    stamp(transaction, table, deleted)
    retire_rows(transaction, table, list(deleted))
    transaction.record("delete", table.name, deleted)
    delete_dependents(sync, transaction, table, deleted)


def retire_rows(transaction: Transaction, table: RecordTable[Any], numbers: Sequence[int]) -> None:
    """The vectors of the rows name nothing live any more."""
    for space in rows.spaces_of(transaction.connection, table.name):
        mark_stale(transaction.connection, space.name, transaction.seq)
        live = rows.live_vectors(transaction.connection, space.id, numbers)
        rows.retire(transaction.connection, [vid for vid, _, _ in live.values()], transaction.seq)


def delete_dependents(sync: Sync, transaction: Transaction, table: RecordTable[Any], deleted: Rows) -> None:
    """Delete what belongs to rows, at the instants at which those were."""
    for other, column in dependents(sync, table.name):
        instants = _by_id(transaction.connection, table, deleted)
        found = _pointing(transaction.connection, other, column, list(instants), deleted=False)
        if found:
            delete_rows(sync, transaction, other, {row: instants[owner] for row, owner in found.items()})


def returning(
    sync: Sync, transaction: Transaction, table: RecordTable[Any], former: Rows
) -> list[tuple[RecordTable[Any], Rows]]:
    """(kind, rows) of what went with rows that are back, and comes back with them; their marks are still on.

    What belongs to another deleted record too waits for that one: it takes on its instant.
    """
    coming = []
    for other, column in dependents(sync, table.name):
        instants = _by_id(transaction.connection, table, former)
        found = _pointing(transaction.connection, other, column, list(instants), deleted=True)
        records = other.by_rows(transaction.connection, list(found))
        back: Rows = {}
        waiting: dict[int, int | None] = {}
        for row, owner in found.items():
            record = records[row]
            if record.deleted_at is None or to_micros(record.deleted_at) != instants[owner]:
                continue
            if record.expires_at is not None and to_micros(record.expires_at) <= transaction.now:
                continue
            gone = _deleted_owners(sync, transaction.connection, other, record)
            if gone:
                waiting[row] = max(gone.values())
            else:
                back[row] = instants[owner]
        stamp(transaction, other, {row: at for row, at in waiting.items() if at != instants[found[row]]})
        if back:
            coming.append((other, back))
    return coming


def refuse_ownerless(sync: Sync, transaction: Transaction, table: RecordTable[Any], numbers: Sequence[int]) -> None:
    """Raise for rows that belong to a deleted record.

    Raises:
        ConflictError: nothing was restored.
    """
    if not any(column.cascade for column in table.schema.columns):
        return
    for record in table.by_rows(transaction.connection, numbers).values():
        for owner in _deleted_owners(sync, transaction.connection, table, record):
            raise ConflictError(
                f"{table.name} {record.id!r} belongs to {owner!r}, which is deleted; restore that first; "
                "nothing was restored"
            )


def doomed_with(
    sync: Sync, connection: Connection, table: RecordTable[Any], numbers: Sequence[int]
) -> list[tuple[RecordTable[Any], list[int]]]:
    """(kind, rows) of what a purge of rows erases: what belongs to others first, the rows themselves last."""
    found: list[tuple[RecordTable[Any], list[int]]] = []
    for other, column in dependents(sync, table.name):
        ids = [record.id for record in table.by_rows(connection, numbers).values()]
        pointing = [row for gone in (True, False) for row in _pointing(connection, other, column, ids, deleted=gone)]
        if pointing:
            found += doomed_with(sync, connection, other, pointing)
    return [*found, (table, list(numbers))]


def kinds_with(sync: Sync, table: RecordTable[Any]) -> list[RecordTable[Any]]:
    """The kind and all whose records may go with its records."""
    found = [table]
    for each in found:  # grows meanwhile
        found += [other for other, _ in dependents(sync, each.name) if other not in found]
    return found


def _by_id(connection: Connection, table: RecordTable[Any], instants: Rows) -> dict[str, int]:
    return {str(name): instants[row] for row, name in values_of(connection, table.schema, list(instants), "id").items()}


def _pointing(
    connection: Connection, table: RecordTable[Any], column: Column, ids: Sequence[str], *, deleted: bool
) -> dict[int, str]:
    """Row -> the id that it points to, of records that point to one of these."""
    term = Term(column, (), "in", tuple(ids))
    numbers = table.matching(connection, term, deleted=deleted, expired=True).tolist()
    return {row: str(name) for row, name in values_of(connection, table.schema, numbers, column.name).items()}


def _deleted_owners(sync: Sync, connection: Connection, table: RecordTable[Any], record: object) -> dict[str, int]:
    """Id -> instant of deletion of the records that a record belongs to and that are gone."""
    gone: dict[str, int] = {}
    for column in table.schema.columns:
        name = getattr(record, column.name) if column.cascade else None
        if name is None or column.ref is None:
            continue
        owners = sync.table(column.ref)
        found = owners.existing(connection, [name]).get(name)
        if found is not None and found[1]:
            owner = owners.by_rows(connection, [found[0]])[found[0]]
            gone[name] = to_micros(owner.deleted_at or owner.expires_at or from_micros(0))
    return gone
