"""The folder of a store that is about to be made, and of one whose catalog was lost; and copies beside it."""

from __future__ import annotations

import os
from pathlib import Path

from vectorstore.errors import CorruptError, NotAStore, StoreError
from vectorstore.files import TEMPORARY, discard, make_folder, publish_file, refused
from vectorstore.storage.connection import Connection, connect, file_uri
from vectorstore.storage.lock import LOCK, WriteLock


def make_store(root: Path, path: Path, lock: WriteLock, *, create: bool) -> None:
    """Make the folder of a store, with an empty catalog in it, for which `lock` is held.

    Raises:
        NotAStore: there is something else, or nothing and it is not to be made.
        StoreError: the folder above is not there.
    """
    if root.is_file():
        raise NotAStore(f"{root} is a file, not a store; it was left as it is")
    strangers = sorted({*os.listdir(root)} - {LOCK}) if root.is_dir() else []
    if path.is_file():  # another process has just created it
        return
    if strangers:
        raise NotAStore(f"{root} holds other things ({strangers[0]}, ...) and no {path.name}; choose another folder")
    if not create:
        raise NotAStore(f"{root} has no store; create one with vs.open({str(root)!r}) or: vectorstore init {root}")
    if not root.parent.is_dir():
        raise StoreError(f"{root.parent} does not exist; make it first")
    make_folder(root)
    with lock, refused(path):  # another process may be creating the same store
        if not path.is_file():
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def refuse_lost(path: Path) -> None:
    """An empty catalog is a creation that was cut short, unless there are vectors: then it was lost."""
    vectors = path.parent / "embeddings"
    if vectors.is_dir() and any(vectors.iterdir()):
        raise CorruptError(f"{path} is empty, but {vectors} holds vectors; it was left as it is; restore a backup")


def read_mode(root: Path, path: Path) -> str:
    """On media that cannot be written SQLite needs `immutable`, which would ignore a WAL with commits in it."""
    if os.access(root, os.W_OK) and not os.statvfs(root).f_flag & os.ST_RDONLY:
        return "ro"
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size > 0:
        raise StoreError(f"{wal} holds commits and {root} cannot be written; open the store once where it can be")
    return "immutable"


def copy_to(connection: Connection, path: Path) -> None:
    """Write the connection's snapshot to a new file, in one go; the caller makes it durable.

    Cost: one write of all pages.
    """
    copy = connect(file_uri(path, "rwc"), timeout=60)
    try:
        copy.execute("PRAGMA synchronous=OFF")
        connection.backup(copy, pages=-1)
    finally:
        copy.close()


def copy_beside(connection: Connection, target: Path) -> None:
    """A copy of a catalog, named when it is whole and durable; nothing is left of one that fails."""
    temporary = target.with_name(f".{target.name}{TEMPORARY}")
    try:
        copy_to(connection, temporary)
        publish_file(temporary, target)
    except BaseException:
        discard(temporary)
        raise
