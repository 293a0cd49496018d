"""The tables of workflows, and the log of what happened to them, which is only ever added to."""

from __future__ import annotations

from dataclasses import dataclass

from sqlite_utils import Database

from vectorstore.storage.connection import Connection

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
