"""What records point to is there: checked inside the transaction that writes them."""

from __future__ import annotations

from collections.abc import Collection as Sized
from collections.abc import Iterable, Sequence
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.records import Column, Context, Row
from vectorstore.storage import RecordTable, Transaction
from vectorstore.sync import Sync

_VERSION, _CREATED, _DELETED = 2, 3, 5


def check_references(
    sync: Sync, transaction: Transaction, table: RecordTable[Any], rows: Sequence[Row], own: Sized[str], offset: int
) -> None:
    """Contexts are made on first use; every other reference must point to a record that is there.

    Args:
        sync: the store's parts.
        transaction: that writes the rows.
        table: of the rows.
        rows: about to be written.
        own: the ids of the whole call, which may point to each other.
        offset: the place of the first row in the call, for messages.

    Raises:
        ValidationError: one points to nothing, or belongs to a deleted record.
    """
    for column in table.schema.columns:
        if column.ref is None:
            continue
        wanted = dict(_pointed_at(column, rows, table.schema.names.index(column.name), offset))
        if column.name == "context":
            make_contexts(sync, transaction, wanted)
            continue
        here = own if column.ref == table.name else ()
        found = sync.table(column.ref).existing(transaction.connection, list(wanted))
        needs_life = column.cascade or column.listed is not None
        for name, place in wanted.items():
            if name in here or (name in found and not (needs_life and found[name][1])):
                continue
            said = f"no record of {column.ref} has the id {name!r}; add it first"
            if name in found:
                said = f"the record {name!r} of {column.ref} is deleted; restore it first"
            raise ValidationError(f"{table.name}[{place}].{column.name}: {said}")


def make_contexts(sync: Sync, transaction: Transaction, names: Iterable[str]) -> None:
    """Contexts are made on first use, and made anew when they were deleted."""
    table = sync.table(Context.table)
    connection = transaction.connection
    existing = table.existing(connection, list(names))
    encoded = [
        table.schema.encode(Context.parse({"id": name, "name": name}, Context.table), Context.table)
        for name in names
        if name not in existing or existing[name][1]
    ]
    stamped = [(*row[:_CREATED], transaction.now, transaction.now, *row[_DELETED:]) for row in encoded]
    first, new = table.next_row(connection), [row for row in stamped if row[0] not in existing]
    table.insert(connection, first, new)
    gone = [(existing[str(row[0])][0], row) for row in stamped if row[0] in existing]
    if gone:
        versions = table.stamps(connection, [number for number, _ in gone])
        table.replace(connection, [(n, (*row[:_VERSION], versions[n][0] + 1, *row[_VERSION + 1 :])) for n, row in gone])
    if stamped:
        transaction.record("add", table.name, [*range(first, first + len(new)), *(number for number, _ in gone)])


def _pointed_at(column: Column, rows: Sequence[Row], at: int, offset: int) -> Iterable[tuple[str, int]]:
    """(id, the place of a record that points to it)."""
    for place, row in enumerate(rows, offset):
        if row[at] is not None:
            for name in [str(row[at])] if column.listed is None else column.values_of(row[at]):
                yield name, place
