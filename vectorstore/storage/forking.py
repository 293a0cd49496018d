"""What a forked child does with what it inherits: the locks on files are its parent's, or shared with it.

SQLite keeps a table of the locks that its process has on a file. A child inherits the table and not the locks: a
connection that it opens to a file which was open when it was forked takes no lock at all, and once the parent closes
the file, the write-ahead log goes from under it with every commit that it makes (sqlite.org/howtocorrupt.html, 2.6).
So the child is refused, and what it inherited is never closed there.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from vectorstore.errors import StoreError


class Forked(Protocol):
    """Something that has to know that it is in a forked child now."""

    def forked(self) -> None:
        """Called in the child, before anything else runs there."""


MEND = "fork before it is opened or after it is closed, or start processes with multiprocessing's spawn or forkserver"
_open: weakref.WeakKeyDictionary[Any, tuple[int, int]] = weakref.WeakKeyDictionary()
_told: weakref.WeakSet[Any] = weakref.WeakSet()
_inherited: set[tuple[int, int]] = set()


def tell(each: Forked) -> None:
    """Have a child tell this object that it was forked."""
    _told.add(each)


def locked_file(uri: str) -> tuple[int, int] | None:
    """(device, inode) of the file that SQLite locks for a connection; None when it is new, in memory or immutable.

    Raises:
        StoreError: it was open when this process was forked.
    """
    said = urlsplit(uri)
    if "vfs=memdb" in said.query or "immutable=1" in said.query:
        return None
    path = unquote(said.path)
    try:
        found = os.stat(path)
    except OSError:
        return None
    if (found.st_dev, found.st_ino) in _inherited:
        raise StoreError(
            f"{path} was open when process {os.getpid()} was forked, and SQLite's locks are the parent's: {MEND}"
        )
    return found.st_dev, found.st_ino


def opened(connection: Any, file: tuple[int, int] | None) -> None:
    """Remember that a connection is open to a file."""
    if file is not None:
        _open[connection] = file


def closed(connection: Any) -> None:
    """Forget it."""
    _open.pop(connection, None)


def _forked() -> None:
    for connection, file in list(_open.items()):
        _inherited.add(file)
        # To close it, at the latest when Python ends, could take the log of others away: it is kept for ever.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
    _open.clear()
    for each in list(_told):
        each.forked()


os.register_at_fork(after_in_child=_forked)
