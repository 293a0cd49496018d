"""Wrong orders of durable steps, planted on purpose: the harness must notice each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from vectorstore import files
from vectorstore.storage import spaces
from vectorstore.storage.catalog import Catalog
from vectorstore.storage.tables import RecordTable
from vectorstore.sync import write


def commit_first() -> None:
    """The catalog names a segment before the file is published."""
    late: list[tuple[Any, ...]] = []
    publish, commit = files.DiskFolder.publish, Catalog._commit

    def publish_late(folder: files.DiskFolder, name: str, chunks: Iterable[files.Buffer]) -> files.FileInfo:
        data = b"".join(bytes(chunk) for chunk in chunks)
        late.append((folder, name, [data]))
        return files.FileInfo(name, len(data), hashlib.sha256(data).hexdigest(), "none")

    def commit_then_publish(catalog: Catalog, connection: Any) -> None:
        commit(catalog, connection)
        while late:
            publish(*late.pop())

    def trusting(folder: files.DiskFolder, name: str) -> str | None:
        return "none" if any(name == waiting[1] for waiting in late) else stat(folder, name)

    stat = files.DiskFolder.stat
    files.DiskFolder.stat = trusting  # type: ignore[method-assign]
    files.DiskFolder.publish = publish_late  # type: ignore[method-assign]
    Catalog._commit = commit_then_publish  # type: ignore[method-assign]


def unlink_first() -> None:
    """Old files are removed before the commit that stops naming them."""
    commit = Catalog._commit

    def unlink_then_commit(catalog: Catalog, connection: Any) -> None:
        while catalog._current is not None and catalog._current.after:
            catalog._current.after.pop(0)()
        commit(catalog, connection)

    Catalog._commit = unlink_then_commit  # type: ignore[method-assign]


def nameless() -> None:
    """A segment is published and no row names it."""
    spaces.insert_segment = lambda *args: 0
    assert write.rows is spaces


def two_commits() -> None:
    """A batch is written by two transactions: records first, vectors after."""
    attach = write.attach
    from vectorstore import writing

    def attach_later(sync: Any, transaction: Any, *args: Any) -> None:
        connection = transaction.connection
        sync.catalog._commit(connection)
        connection.execute("BEGIN IMMEDIATE")
        attach(sync, transaction, *args)

    writing.attach = attach_later  # type: ignore[assignment]


def terms_later() -> None:
    """A form is written by one transaction and its terms by another."""
    begin, insert = Catalog._begin, RecordTable.insert
    seen: list[Catalog] = []

    def remember(catalog: Catalog, *options: Any) -> Any:
        seen[:] = [catalog]
        return begin(catalog, *options)

    def insert_later(table: RecordTable[Any], connection: Any, *args: Any) -> None:
        if table.name == "form_terms":
            seen[0]._commit(connection)
            connection.execute("BEGIN IMMEDIATE")
        insert(table, connection, *args)

    Catalog._begin = remember  # type: ignore[method-assign]
    RecordTable.insert = insert_later  # type: ignore[method-assign]


MUTATIONS: dict[str, Callable[[], None]] = {
    "commit first": commit_first,
    "unlink first": unlink_first,
    "nameless": nameless,
    "two commits": two_commits,
    "terms later": terms_later,
}
