"""Workflows in the catalog: what is to be done, item by item, how far it is, and what each change replaced.

An item keeps what it is made of (`payload`, and vectors that the caller brought), where it landed (`record`, the row of
its kind), by what one sees that nobody has changed it since (`mark`), and what was there before (`image`, the former
row; `vids`, the former vectors, which stay on disk for as long as an item names them). The log is only ever added to.
Every function takes the connection of a running transaction.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from vectorstore.records import Context, Row, Value
from vectorstore.storage.bulk import insert_columns
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.spaces import every_vector, take_vids
from vectorstore.storage.worklog import SHIFT, forget_contexts, forget_filters

STATUSES = ("pending", "processing", "completed", "failed", "cancelled", "rolled_back")
_PLACE = (1 << SHIFT) - 1
MOST_ITEMS = 1 << 32


@dataclass(frozen=True)
class WorkflowRow:
    """A workflow as the catalog has it.

    `goal` is the status that processing is to end in; `fence` rises with every worker that takes it, so that one which
    lost it can write no more; times are microseconds since 1970 UTC.
    """

    id: int
    name: str
    operation: str
    kind: str
    policy: str
    status: str
    goal: str
    options: dict[str, Any]
    metadata: dict[str, Any]
    total: int
    processed: int
    errors: int
    undone: int
    kept: int
    created_at: int
    updated_at: int
    started_at: int | None
    finished_at: int | None
    owner: str | None
    fence: int
    lease_until: int | None
    error: str | None


class ItemRow(NamedTuple):
    """An item: `number` is its place in the workflow, the rest as above. A tuple, for there are many."""

    number: int
    payload: str | None
    vectors: bytes | None
    status: str
    name: str | None
    record: int | None
    mark: int | None
    image: str | None
    vids: str | None
    reason: str | None

    def former(self, space: int) -> int | None:
        """The vector that the record had in a space."""
        found: int | None = json.loads(self.vids).get(str(space)) if self.vids else None
        return found


_NO_VIDS: Mapping[str, int] = MappingProxyType({})


class Done(NamedTuple):
    """Where an item landed, and what it replaced; see `ItemRow`."""

    number: int
    record: int | None
    mark: int
    image: str | None = None
    vids: Mapping[str, int] = _NO_VIDS


@dataclass(frozen=True)
class Told:
    """An item that did not land as asked, and why."""

    number: int
    status: str
    name: str | None
    reason: str


_NAMES = [field.name for field in dataclasses.fields(WorkflowRow)]
_LISTED = ", ".join(_NAMES)
_ITEM = f"id & {_PLACE}, payload, vectors, status, name, record, mark, image, vids, reason"


def _row(values: Sequence[Any]) -> WorkflowRow:
    fields = dict(zip(_NAMES, values, strict=True))
    return WorkflowRow(
        **{**fields, "options": json.loads(fields["options"]), "metadata": json.loads(fields["metadata"])}
    )


def _bounds(workflow: int) -> tuple[int, int]:
    """(first, last) key that the items of a workflow may have."""
    return workflow << SHIFT, (workflow + 1 << SHIFT) - 1


# -- workflows ---------------------------------------------------------------------------------------------------------


def insert_workflow(connection: Connection, **values: Any) -> int:
    """A new workflow without items; its row, a number that nothing else in the store ever had or will have."""
    values = {**values, "id": take_vids(connection, 1), "options": json.dumps(values["options"])}
    values["metadata"] = json.dumps(values["metadata"])
    marks = ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO workflows({', '.join(values)}) VALUES ({marks})", tuple(values.values()))
    return int(values["id"])


def workflow_by_name(connection: Connection, name: str) -> WorkflowRow | None:
    """The workflow of that id."""
    found = connection.execute(f"SELECT {_LISTED} FROM workflows WHERE name = ?", (name,)).fetchone()
    return None if found is None else _row(found)


def workflows_of(
    connection: Connection, status: str | None, limit: int, before: int | None = None, *, oldest: bool = False
) -> list[WorkflowRow]:
    """Workflows, newest first; `before` is the row that the page before ended with."""
    found = connection.execute(
        f"SELECT {_LISTED} FROM workflows WHERE (? IS NULL OR status = ?) AND (? IS NULL OR id < ?) "
        f"ORDER BY id {'ASC' if oldest else 'DESC'} LIMIT ?",
        (status, status, before, before, limit),
    ).fetchall()
    return [_row(values) for values in found]


def counts_of(connection: Connection) -> dict[str, int]:
    """Workflows by status, of those that there are."""
    return dict(connection.execute("SELECT status, count(*) FROM workflows GROUP BY 1"))


def next_workflow(connection: Connection, now: int) -> WorkflowRow | None:
    """The oldest one that anybody may take: pending, or with a lease that has run out."""
    found = connection.execute(
        f"SELECT {_LISTED} FROM workflows WHERE status = 'pending' OR (status = 'processing' AND "
        "coalesce(lease_until, 0) <= ?) ORDER BY id LIMIT 1",
        (now,),
    ).fetchone()
    return None if found is None else _row(found)


def change_workflow(connection: Connection, row: int, **values: Any) -> None:
    """Set some of its fields."""
    named = ", ".join(f"{name} = ?" for name in values)
    connection.execute(f"UPDATE workflows SET {named} WHERE id = ?", (*values.values(), row))


def advance(connection: Connection, row: int, fence: int, lease_until: int, now: int, **more: int) -> bool:
    """Add to counters and prolong the lease, if the workflow is still in the hands of the worker with that fence."""
    added = "".join(f", {name} = {name} + {int(count)}" for name, count in more.items())
    changed = connection.execute(
        f"UPDATE workflows SET lease_until = ?, updated_at = ?{added} "
        "WHERE id = ? AND fence = ? AND status = 'processing'",
        (lease_until, now, row, fence),
    )
    return bool(changed.rowcount)


def remove_workflow(connection: Connection, row: int) -> None:
    """Forget a workflow and its items; the log stays."""
    connection.execute("DELETE FROM workflow_items WHERE id BETWEEN ? AND ?", _bounds(row))
    connection.execute("DELETE FROM workflows WHERE id = ?", (row,))


# -- items -------------------------------------------------------------------------------------------------------------


def insert_items(
    connection: Connection,
    workflow: int,
    payloads: Sequence[str | None],
    vectors: Sequence[bytes | None] | None = None,
    names: Sequence[str | None] | None = None,
) -> None:
    """The items of a new workflow, in order."""
    count = len(payloads)
    if not count:
        return
    first = workflow << SHIFT
    columns: dict[str, Sequence[Value]] = {"id": range(first, first + count), "payload": payloads}
    columns["status"] = ["pending"] * count
    if vectors is not None:
        columns["vectors"] = vectors
    if names is not None:
        columns["name"] = names
    insert_columns(connection, "workflow_items", columns)


def items_of(
    connection: Connection, workflow: int, status: str | None, after: int, limit: int, *, backwards: bool = False
) -> list[ItemRow]:
    """Items in order, those after a place; backwards those before it, the last first."""
    first, last = _bounds(workflow)
    low, high = (first, first + after - 1) if backwards else (first + after + 1, last)
    found = connection.execute(
        f"SELECT {_ITEM} FROM workflow_items WHERE id BETWEEN ? AND ? AND (? IS NULL OR status = ?) "
        f"ORDER BY id {'DESC' if backwards else 'ASC'} LIMIT ?",
        (low, high, status, status, limit),
    ).fetchall()
    return list(map(ItemRow._make, found))


def told_of(
    connection: Connection, workflow: int, statuses: Sequence[str], after: int, limit: int
) -> tuple[list[ItemRow], int]:
    """(items with a reason and one of the statuses, after a place; how many there are in all)."""
    first, last = _bounds(workflow)
    where = "id BETWEEN ? AND ? AND reason IS NOT NULL AND status IN (SELECT value FROM json_each(?))"
    wanted = json.dumps(list(statuses))
    found = connection.execute(
        f"SELECT {_ITEM} FROM workflow_items WHERE {where} ORDER BY id LIMIT ?",
        (first + after + 1, last, wanted, limit),
    ).fetchall()
    total: int = connection.execute(
        f"SELECT count(*) FROM workflow_items WHERE {where}", (first, last, wanted)
    ).fetchone()[0]
    return list(map(ItemRow._make, found)), total


def landed(connection: Connection, workflow: int, done: Sequence[Done]) -> None:
    """Items are part of the store; those that were new in a row are marked by one statement."""
    first = workflow << SHIFT
    start = 0
    while start < len(done):
        stop = start + 1
        while stop < len(done) and _follows(done[stop - 1], done[stop]):
            stop += 1
        head, tail = done[start], done[stop - 1]
        if stop - start > 1 and head.record is not None:
            connection.execute(
                "UPDATE workflow_items SET status = 'done', record = id + ?, mark = ?, image = NULL, vids = NULL, "
                "reason = NULL WHERE id BETWEEN ? AND ?",
                (head.record - first - head.number, head.mark, first + head.number, first + tail.number),
            )
        else:
            vids = json.dumps(dict(head.vids)) if head.vids else None
            connection.execute(
                "UPDATE workflow_items SET status = 'done', record = ?, mark = ?, image = ?, vids = ?, reason = NULL "
                "WHERE id = ?",
                (head.record, head.mark, head.image, vids, first + head.number),
            )
        start = stop


def _follows(one: Done, other: Done) -> bool:
    plain = one.image is None and other.image is None and not one.vids and not other.vids
    beside = one.record is not None and other.record == one.record + 1 and other.number == one.number + 1
    return plain and beside and one.mark == other.mark


def told(connection: Connection, workflow: int, items: Iterable[Told]) -> None:
    """Items did not land, and why."""
    first = workflow << SHIFT
    connection.executemany(
        "UPDATE workflow_items SET status = ?, name = coalesce(?, name), reason = ? WHERE id = ?",
        ((item.status, item.name, item.reason, first + item.number) for item in items),
    )


def undone(connection: Connection, workflow: int, numbers: Iterable[int]) -> None:
    """What these items had brought is taken back; the row that they were in is remembered, so that a purge finds it."""
    first = workflow << SHIFT
    connection.executemany(
        "UPDATE workflow_items SET status = 'undone', image = NULL, vids = NULL, reason = NULL WHERE id = ?",
        ((first + number,) for number in numbers),
    )


def turn_items(connection: Connection, workflow: int, statuses: Sequence[str], into: str) -> int:
    """Give items of some statuses another one; how many there were."""
    reason = ", reason = NULL" if into == "pending" else ""
    changed = connection.execute(
        f"UPDATE workflow_items SET status = ?{reason} WHERE id BETWEEN ? AND ? "
        "AND status IN (SELECT value FROM json_each(?))",
        (into, *_bounds(workflow), json.dumps(list(statuses))),
    )
    return int(changed.rowcount)


def replace_payload(connection: Connection, workflow: int, number: int, payload: str, status: str) -> bool:
    """Another content for an item, if it has that status."""
    changed = connection.execute(
        "UPDATE workflow_items SET payload = ? WHERE id = ? AND status = ?",
        (payload, (workflow << SHIFT) + number, status),
    )
    return bool(changed.rowcount)


def landed_rows(connection: Connection, workflow: int) -> dict[int, int]:
    """Record row -> the item that is in it, of all that have landed."""
    first, last = _bounds(workflow)
    return dict(
        connection.execute(
            "SELECT record, id - ? FROM workflow_items WHERE id BETWEEN ? AND ? AND status = 'done' "
            "AND record IS NOT NULL",
            (first, first, last),
        )
    )


def item_counts(connection: Connection, workflow: int) -> dict[str, int]:
    """Items by status."""
    return dict(
        connection.execute(
            "SELECT status, count(*) FROM workflow_items WHERE id BETWEEN ? AND ? GROUP BY 1", _bounds(workflow)
        )
    )


def forget_items(connection: Connection, kind: str, numbers: Sequence[int], ids: Sequence[str]) -> None:
    """Erase what items hold of records that are purged; the items themselves stay, and are counted."""
    rows, names = json.dumps(list(numbers)), json.dumps(list(ids))
    for (workflow,) in connection.execute("SELECT id FROM workflows WHERE kind = ?", (kind,)).fetchall():
        changed = connection.execute(
            "UPDATE workflow_items SET payload = NULL, vectors = NULL, image = NULL, vids = NULL, name = NULL, "
            "reason = CASE WHEN reason IS NULL THEN NULL ELSE 'the record was purged' END "
            "WHERE id BETWEEN ? AND ? AND (record IN (SELECT value FROM json_each(?)) "
            "OR name IN (SELECT value FROM json_each(?)))",
            (*_bounds(workflow), rows, names),
        )
        if changed.rowcount:  # what went wrong may be told in the words of the record
            connection.execute(
                "UPDATE workflows SET error = 'a record was purged since' WHERE id = ? AND error IS NOT NULL",
                (workflow,),
            )
    if kind == Context.table:
        forget_contexts(connection, set(ids))
    if numbers:
        forget_filters(connection)


# -- what records and vectors were before ------------------------------------------------------------------------------


def rows_as_they_are(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[int]) -> dict[int, Row]:
    """Record row -> its values, in the order of the columns; deleted ones too."""
    listed = ", ".join(f"t.{quote(name)}" for name in columns)
    found = connection.execute(
        f"SELECT t.row, {listed} FROM json_each(?) j CROSS JOIN {table} t ON t.row = j.value", (json.dumps(list(rows)),)
    )
    return {row: tuple(values) for row, *values in found}


def last_vids(connection: Connection, space: int, rows: Iterable[int]) -> dict[int, int]:
    """Record row -> the newest vector that it ever had in the space, retired or not."""
    newest: dict[int, int] = {}
    for vid, row in every_vector(connection, space, rows):
        newest[row] = max(vid, newest.get(row, vid))
    return newest


# -- proof -------------------------------------------------------------------------------------------------------------


def disagreements(connection: Connection) -> list[tuple[str, str]]:
    """(workflow, what is wrong) where the counters are not what the items say."""
    found = []
    for row in workflows_of(connection, None, -1):
        counts = item_counts(connection, row.id)
        failed = counts.get("failed", 0)
        settled = failed + sum(counts.get(status, 0) for status in ("done", "skipped", "undone", "kept"))
        said = (row.total, row.errors, row.undone, row.kept, row.processed)
        held = (sum(counts.values()), failed, counts.get("undone", 0), counts.get("kept", 0), settled)
        if said != held:
            names = ("total", "errors", "undone", "kept", "processed")
            wrong = [f"{name} {one}, its items say {two}" for name, one, two in zip(names, said, held, strict=True)]
            found.append(
                (row.name, "; ".join(text for text, one, two in zip(wrong, said, held, strict=True) if one != two))
            )
    return found
