"""The tables of workflows; the log of what happened to them, which is only ever added to; what a purge takes out."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlite_utils import Database

from vectorstore.storage.connection import Connection

SHIFT = 32
"""An item's key is its workflow's row and its place in it, so that the items of a workflow lie side by side."""

FORGOTTEN = "purged"
"""What stands where a filter was that a purge erased."""

_LOG = "workflow, at, actor, before, after, total, processed, errors, undone, seconds, note"


@dataclass(frozen=True)
class LogRow:
    """What happened to a workflow; `seconds` since what happened before, None for its beginning."""

    workflow: str
    at: int
    actor: str
    before: str | None
    after: str
    total: int
    processed: int
    errors: int
    undone: int
    seconds: float | None
    note: str


def write_log(connection: Connection, name: str, actor: str, before: str | None, now: int, note: str) -> None:
    """One line about a workflow as it now is."""
    connection.execute(
        f"INSERT INTO workflow_log({_LOG}) SELECT w.name, ?, ?, ?, w.status, w.total, w.processed, w.errors, w.undone, "
        "CASE WHEN ? IS NULL THEN NULL ELSE (? - (SELECT l.at FROM workflow_log l WHERE l.workflow = w.name "
        "ORDER BY l.id DESC LIMIT 1)) / 1e6 END, ? FROM workflows w WHERE w.name = ?",
        (now, actor, before, before, now, note, name),
    )


def log_of(connection: Connection, name: str | None, limit: int, before: int | None) -> list[tuple[int, LogRow]]:
    """(number, line), newest first, those below a number."""
    found = connection.execute(
        f"SELECT id, {_LOG} FROM workflow_log WHERE (? IS NULL OR workflow = ?) AND (? IS NULL OR id < ?) "
        "ORDER BY id DESC LIMIT ?",
        (name, name, before, before, limit),
    )
    return [(number, LogRow(*values)) for number, *values in found]


def log_length(connection: Connection, name: str | None) -> int:
    """How many lines there are."""
    found = connection.execute("SELECT count(*) FROM workflow_log WHERE ? IS NULL OR workflow = ?", (name, name))
    return int(found.fetchone()[0])


def forget_contexts(connection: Connection, ids: set[str]) -> None:
    """Erase the names of contexts from what workflows had made."""
    for row, text in connection.execute(
        "SELECT id, options FROM workflows WHERE json_type(options, '$.made_contexts') IS NOT NULL"
    ).fetchall():
        options = json.loads(text)
        left = {name: version for name, version in options["made_contexts"].items() if name not in ids}
        if len(left) < len(options["made_contexts"]):
            text = json.dumps({**options, "made_contexts": left})
            connection.execute("UPDATE workflows SET options = ? WHERE id = ?", (text, row))


def forget_filters(connection: Connection) -> None:
    """Erase the filters of all workflows, for they may say what was purged; those that run lose theirs at their end.

    A deletion has its filter in its options, a fit in its only item.
    """
    fits = f"SELECT 1 FROM workflow_items i WHERE i.id = workflows.id << {SHIFT} AND json_valid(i.payload)"
    connection.execute(
        "UPDATE workflows SET options = json_set(options, '$.forget', 1) "
        "WHERE json_type(options, '$.where') = 'object' OR (operation = 'cluster' "
        f"AND EXISTS ({fits} AND json_type(i.payload, '$.where') = 'object'))"
    )
    settle_filters(connection)


def settle_filters(connection: Connection, row: int | None = None) -> bool:
    """Erase the filter of a workflow, or of all, that have ended and were there when records were purged; if any."""
    over = "status NOT IN ('pending', 'processing')"
    due = f"id = coalesce(?, id) AND {over} AND json_type(options, '$.forget') IS NOT NULL"
    connection.execute(
        "UPDATE workflow_items SET payload = NULL "
        f"WHERE id IN (SELECT id << {SHIFT} FROM workflows WHERE operation = 'cluster' AND {due})",
        (row,),
    )
    changed = connection.execute(
        f"UPDATE workflows SET options = json_remove(json_replace(options, '$.where', ?), '$.forget') WHERE {due}",
        (FORGOTTEN, row),
    )
    return bool(changed.rowcount)


def create_tables(db: Database) -> None:
    """Workflows, their items, and the log of what happened to them."""
    db.table("workflows").create(
        {
            "id": int,
            "name": str,
            "operation": str,
            "kind": str,
            "policy": str,
            "status": str,
            "goal": str,
            "options": str,
            "metadata": str,
            "total": int,
            "processed": int,
            "errors": int,
            "undone": int,
            "kept": int,
            "created_at": int,
            "updated_at": int,
            "started_at": int,
            "finished_at": int,
            "owner": str,
            "fence": int,
            "lease_until": int,
            "error": str,
        },
        pk="id",
        not_null={
            *("name", "operation", "kind", "policy", "status", "goal", "options", "metadata", "total", "processed"),
            *("errors", "undone", "kept", "created_at", "updated_at", "fence"),
        },
        foreign_keys=[("kind", "kinds", "name")],
        strict=True,
    )
    db.table("workflows").create_index(["name"], unique=True)
    db.table("workflows").create_index(["status"])
    db.table("workflow_items").create(
        {
            "id": int,
            "payload": str,
            "vectors": bytes,
            "status": str,
            "name": str,
            "record": int,
            "mark": int,
            "image": str,
            "vids": str,
            "reason": str,
        },
        pk="id",
        not_null={"status"},
        strict=True,
    )
    db.execute("CREATE INDEX workflow_items_vids ON workflow_items(id) WHERE vids IS NOT NULL")
    db.execute("CREATE INDEX workflow_items_told ON workflow_items(id, status) WHERE reason IS NOT NULL")
    db.table("workflow_log").create(
        {
            "id": int,
            "workflow": str,
            "at": int,
            "actor": str,
            "before": str,
            "after": str,
            "total": int,
            "processed": int,
            "errors": int,
            "undone": int,
            "seconds": float,
            "note": str,
        },
        pk="id",
        not_null={"workflow", "at", "actor", "after", "total", "processed", "errors", "undone", "note"},
        strict=True,
    )
    db.table("workflow_log").create_index(["workflow"])
