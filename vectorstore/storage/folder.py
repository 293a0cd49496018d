"""The folder of a store that is about to be made, and of one whose catalog was lost."""

from __future__ import annotations

import os
from pathlib import Path

from vectorstore.errors import CorruptError, NotAStore, StoreError
from vectorstore.files import make_folder, refused
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
