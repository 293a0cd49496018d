"""Settings of a store, and the tables of what survives: named snapshots, what was put aside, the last commit's time."""

from __future__ import annotations

import json
from typing import Any

from sqlite_utils import Database

from vectorstore.errors import CorruptError
from vectorstore.storage.connection import Connection


def create_tables(db: Database) -> None:
    """Settings, named snapshots, what was put aside, and the time of the last commit."""
    db.execute("ALTER TABLE state ADD COLUMN at INTEGER NOT NULL DEFAULT 0")
    db.execute("CREATE TABLE _settings(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    db.execute("CREATE TABLE _snapshots(name TEXT PRIMARY KEY, seq INTEGER NOT NULL, at INTEGER NOT NULL) STRICT")
    db.execute(
        "CREATE TABLE _quarantine(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, row INTEGER NOT NULL, record TEXT, "
        "reason TEXT NOT NULL, data TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL) STRICT"
    )


def setting(connection: Connection, name: str) -> Any:
    """A setting's value, None when it was never set."""
    found = connection.execute("SELECT value FROM _settings WHERE name = ?", (name,)).fetchone()
    return None if found is None else kept_json(found[0], f"_settings {name}")


def kept_json(text: str, where: str) -> Any:
    """What a text of the catalog says.

    Raises:
        CorruptError: it is no JSON any more.
    """
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptError(f"{where} is damaged: {error}; restore a backup") from None


def put_setting(connection: Connection, name: str, value: Any) -> None:
    """Keep a setting (plain data); None removes it."""
    if value is None:
        connection.execute("DELETE FROM _settings WHERE name = ?", (name,))
        return
    connection.execute(
        "INSERT INTO _settings(name, value) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value",
        (name, json.dumps(value)),
    )
