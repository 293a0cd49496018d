"""The pages of the catalog's file and of its write-ahead log: emptied, written afresh, given back."""

from __future__ import annotations

import logging

from vectorstore.storage.connection import Connection, OperationalError

log = logging.getLogger("vectorstore")


def empty_wal(connection: Connection, timeout: float, patience: float) -> bool:
    """Move the WAL into the main file, and empty it if readers let go of it in time; whether they did.

    A reader may hold its snapshot for long, and whoever checkpoints holds the write lock.

    Args:
        connection: for writing.
        timeout: seconds that it waits otherwise.
        patience: seconds that it waits for readers, at most `timeout`.
    """
    connection.execute(f"PRAGMA busy_timeout={int(min(timeout, patience) * 1000)}")
    try:
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0][0]
    finally:
        connection.execute(f"PRAGMA busy_timeout={int(timeout * 1000)}")
    return not busy


def write_afresh(connection: Connection) -> bool:
    """Write all pages anew; whether there was room.

    What is deleted is overwritten with zeros (secure_delete), but a page that was once split keeps a copy of what
    moved, between its cells: of 500 erased texts 2 were still there.
    """
    try:
        connection.execute("VACUUM")
    except OperationalError as error:  # a full disk, say: the erasure itself is done
        log.warning("the catalog could not be written afresh (%s): copies may be left for now", error)
        return False
    return True


VACUUM_PAGES = 2000
"""So many pages (8 MB) are given back in one turn at the write lock."""


def give_back(connection: Connection) -> bool:
    """One turn of giving free pages back to the file system; whether none is left."""
    if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != 2:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
        connection.execute("VACUUM")
        return True
    free = connection.execute("PRAGMA freelist_count").fetchone()[0]
    if free:
        # Not `execute`, which makes one step of a statement without columns: one page.
        connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
    left = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return bool(left == 0 or left >= free)
