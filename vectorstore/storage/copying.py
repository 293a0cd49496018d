"""Copies of the catalog, made by SQLite alone: reading its files past SQLite would drop its locks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from vectorstore.errors import StoreError, VectorstoreError
from vectorstore.storage import history
from vectorstore.storage.catalog import Catalog
from vectorstore.storage.connection import Connection, DatabaseError, connect, file_uri, header, translated
from vectorstore.storage.migrations import APPLICATION_ID, FORMAT

T = TypeVar("T")


@contextlib.contextmanager
def frozen(catalog: Catalog, pin: Callable[[Connection], T]) -> Iterator[tuple[Connection, T]]:
    """One commit, on a connection of its own, for as long as it takes to copy it; others go on writing.

    Args:
        catalog: open.
        pin: takes hold of the files that the commit names. It runs while nobody can commit, so none of them goes
            away under it; a store that is opened read-only cannot keep others from committing.

    Raises:
        StoreError: in a transaction of this thread.
    """
    if catalog.in_transaction:
        raise StoreError(f"{catalog.root}: a transaction of this thread is open; a copy is made outside of it")
    catalog.guard()
    connection = catalog.connect(query_only=True)
    try:
        with translated(catalog.root):
            catalog._lock.acquire()
            try:
                connection.execute("BEGIN")
                connection.execute("SELECT seq FROM state").fetchone()  # the snapshot begins with the first read
                pinned = pin(connection)
            finally:
                catalog._lock.release()
            yield connection, pinned
    finally:
        connection.close()


def changeable(path: Path) -> contextlib.closing[Connection]:
    """A copy that nobody else uses, to change and read; without a WAL."""
    connection = connect(file_uri(path, "rw"), timeout=60)
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA journal_mode=DELETE").fetchall()
    return contextlib.closing(connection)


def problems_of_copy(path: Path) -> list[str]:
    """What is wrong with a copy of a catalog: pages, keys, and anything in its schema that we did not make.

    A newer format is no problem; what it should consist of is not known here, and nobody opens it.
    """
    try:
        with contextlib.closing(connect(file_uri(path, "immutable"), timeout=60, query_only=True)) as connection:
            application, version, _ = header(connection, path)
            if application != APPLICATION_ID:
                return ["is no catalog of a vectorstore"]
            wrong = [str(line) for (line,) in connection.execute("PRAGMA integrity_check(5)") if line != "ok"]
            wrong += [
                f"row {row} of {table} points nowhere"
                for table, row, *_ in connection.execute("PRAGMA foreign_key_check")
            ]
            return wrong + (_foreign(connection) if version <= FORMAT else [])
    except (VectorstoreError, DatabaseError) as error:
        return [str(error)]


def _foreign(connection: Connection) -> list[str]:
    return [f"{kind} {name} was not made by vectorstore" for kind, name, _ in history.foreign_objects(connection)]
