"""The catalog's own tables, as numbered migrations.

`PRAGMA user_version` is the number of the last one applied. Tables of kinds are not here: they follow from the
declarations (`tables.py`). A migration never changes once it has been released; the next one is added below it.

Before a migration, and before a kind is given new fields, the catalog is copied to `catalog.*.backup.sqlite` beside it.
The copies are for whoever finds the migration wanting; they go with the first purge that erases something, for they
hold the erased records as well.
"""

from __future__ import annotations

from pathlib import Path

from sqlite_utils import Database, Migrations

from vectorstore.files import DiskFolder
from vectorstore.storage import history, settings, states, trail, worklog, written
from vectorstore.storage.connection import Connection, wrap

APPLICATION_ID = 0x76735354  # "vsST"
MIGRATIONS = Migrations("vectorstore")


@MIGRATIONS()
def m001_catalog(db: Database) -> None:
    """State, kinds, spaces, segments, vectors, pending vectors and artifacts."""
    db.table("state").create(
        {"one": int, "seq": int, "next_vid": int, "store": str, "created_at": int},
        pk="one",
        not_null={"seq", "next_vid", "store", "created_at"},
        strict=True,
    )
    db.table("kinds").create(
        {"name": str, "signature": str, "declaration": str, "json_schema": str},
        pk="name",
        not_null={"signature", "declaration", "json_schema"},
        strict=True,
    )
    db.table("spaces").create(
        {
            "id": int,
            "name": str,
            "kind": str,
            "dim": int,
            "metric": str,
            "model": str,
            "probe_text": str,
            "probe_vector": bytes,
            "layout": int,
            "created_at": int,
        },
        pk="id",
        not_null={"name", "kind", "dim", "metric", "layout", "created_at"},
        foreign_keys=[("kind", "kinds", "name")],
        strict=True,
    )
    db.table("spaces").create_index(["name"], unique=True)
    db.table("segments").create(
        {
            "id": int,
            "space": int,
            "file": str,
            "rows": int,
            "first_vid": int,
            "size": int,
            "sha256": str,
            "stat": str,
            "seq": int,
        },
        pk="id",
        not_null={"space", "file", "rows", "size", "sha256", "stat", "seq"},
        foreign_keys=[("space", "spaces", "id")],
        strict=True,
    )
    db.table("segments").create_index(["file"], unique=True)
    db.table("vectors").create(
        {
            "vid": int,
            "space": int,
            "record": int,
            "text_hash": bytes,
            "source": str,
            "confidence": float,
            "updates": int,
            "retired": int,
        },
        pk="vid",
        not_null={"space", "record", "source", "confidence", "updates"},
        foreign_keys=[("space", "spaces", "id")],
        strict=True,
    )
    db.execute("CREATE INDEX vectors_live ON vectors(record, space) WHERE retired IS NULL")
    db.execute("CREATE INDEX vectors_retired ON vectors(space, retired) WHERE retired IS NOT NULL")
    db.execute("CREATE INDEX vectors_text ON vectors(text_hash, space) WHERE text_hash IS NOT NULL")
    db.table("pending").create(
        {"vid": int, "space": int, "vector": bytes},
        pk="vid",
        not_null={"space", "vector"},
        foreign_keys=[("vid", "vectors", "vid")],
        strict=True,
    )
    db.table("artifacts").create(
        {
            "id": int,
            "space": int,
            "type": str,
            "recipe": str,
            "segments": str,
            "rows": int,
            "points": str,
            "library": str,
            "file": str,
            "size": int,
            "sha256": str,
            "stat": str,
            "built_seq": int,
            "built_at": int,
            "seconds": float,
        },
        pk="id",
        not_null={
            "space",
            "type",
            "recipe",
            "segments",
            "rows",
            "points",
            "library",
            "file",
            "size",
            "sha256",
            "stat",
        },
        foreign_keys=[("space", "spaces", "id")],
        strict=True,
    )
    db.table("artifacts").create_index(["space", "type"], unique=True)


@MIGRATIONS()
def m002_history(db: Database) -> None:
    """What was measured of indexes over time, and what was decided about near-duplicates."""
    db.table("audits").create(
        {
            "id": int,
            "space": int,
            "recipe": str,
            "k": int,
            "asked": float,
            "promised": float,
            "delivered": float,
            "error": float,
            "queries": int,
            "rows": int,
            "newer": float,
            "filter": str,
            "seq": int,
            "at": int,
            "warning": str,
        },
        pk="id",
        not_null={
            *("space", "recipe", "k", "asked", "promised", "delivered", "error", "queries", "rows", "newer"),
            *("seq", "at"),
        },
        foreign_keys=[("space", "spaces", "id")],
        strict=True,
    )
    db.table("audits").create_index(["space"])
    db.table("decisions").create(
        {
            "id": int,
            "kind": str,
            "record": str,
            "other": str,
            "similarity": float,
            "action": str,
            "seq": int,
            "at": int,
        },
        pk="id",
        not_null={"kind", "record", "other", "similarity", "action", "seq", "at"},
        foreign_keys=[("kind", "kinds", "name")],
        strict=True,
    )
    db.table("decisions").create_index(["kind", "record"])
    db.table("decisions").create_index(["kind", "other"])


@MIGRATIONS()
def m003_models(db: Database) -> None:
    """The registry of models, and which record belongs to which cluster of a fit."""
    db.table("models").create(
        {
            "id": int,
            "name": str,
            "version": int,
            "type": str,
            "status": str,
            "parent": int,
            "kind": str,
            "space": str,
            "recipe": str,
            "details": str,
            "clusters": str,
            "centroids": bytes,
            "rows": int,
            "library": str,
            "file": str,
            "size": int,
            "sha256": str,
            "stat": str,
            "seq": int,
            "at": int,
            "seconds": float,
            "stale": int,
        },
        pk="id",
        not_null={"name", "version", "type", "status", "details", "rows", "seq", "at", "seconds"},
        foreign_keys=[("kind", "kinds", "name")],
        strict=True,
    )
    db.table("models").create_index(["name", "version"], unique=True)
    db.table("models").create_index(["file"], unique=True)
    db.execute(
        "CREATE TABLE memberships(model INTEGER NOT NULL REFERENCES models(id), record INTEGER NOT NULL, "
        "vid INTEGER NOT NULL, number INTEGER, strength REAL NOT NULL, fitted INTEGER, "
        "PRIMARY KEY (model, record)) STRICT, WITHOUT ROWID"
    )
    db.execute("CREATE INDEX memberships_strongest ON memberships(model, number, strength DESC, record)")
    db.execute("CREATE INDEX memberships_record ON memberships(record)")


@MIGRATIONS()
def m004_work(db: Database) -> None:
    """The trail; workflows; what recall ranks by; settings, snapshots, what was put aside; saves of states."""
    trail.create_tables(db)
    worklog.create_tables(db)
    written.create_tables(db)
    settings.create_tables(db)
    states.create_tables(db)


FORMAT = 4
"""The user_version that this code reads and writes: the number of migrations above."""


def migrate(migrations: Migrations, connection: Connection, version: int) -> None:
    """Apply what is missing, in the running transaction; what history writes down follows the new tables."""
    if version >= 4:
        history.pause(connection)
    migrations.apply(wrap(connection))
    if version >= 4:
        history.renew(connection)


def forget_backups(root: Path) -> int:
    """Remove the copies that migrations have made of the catalog in a folder; returns how many files that were.

    Among them is what SQLite lays beside a copy that somebody has opened.

    Raises:
        StoreError: the disk refused; those that are left go when it is called again.
    """
    folder = DiskFolder(root)
    found = sorted(root.glob("catalog.*.backup.sqlite*"))
    for each in found:
        folder.remove(each.name)
    return len(found)
