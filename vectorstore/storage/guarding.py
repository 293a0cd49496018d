"""Whether an open store can still be used from here."""

from __future__ import annotations

import os
from pathlib import Path

from vectorstore.errors import StoreClosed, StoreError, StoreGone
from vectorstore.storage.forking import MEND


class Guard:
    """Refuses what comes after the end: of the store's handle, of its folder, or in a forked child.

    Attributes:
        closed: by its handle.
    """

    def __init__(self) -> None:
        self.closed = False
        self._process = os.getpid()
        self._path: Path | None = None
        self._inode = 0

    def watch(self, path: Path) -> None:
        """From now on the file of that name has to stay the one that it is."""
        self._path, self._inode = path, os.stat(path).st_ino

    def __call__(self) -> None:
        """The store can be used from here.

        Raises:
            StoreClosed: after close().
            StoreError: in a forked child.
            StoreGone: the folder was removed or replaced.
        """
        if self.closed:
            raise StoreClosed("the store is closed; open it again with vs.open(...)")
        self.refuse_fork()
        if self._path is not None:
            try:
                inode = os.stat(self._path).st_ino
            except OSError:
                inode = -1
            if inode != self._inode:
                raise StoreGone(f"{self._path} was removed or replaced while open; nothing was re-created")

    def refuse_fork(self) -> None:
        """Nothing of the parent's is touched by its child.

        Raises:
            StoreError: in a forked child.
        """
        if self.inherited:
            raise StoreError(f"the store was opened in process {self._process}, of which this is a fork: {MEND}")

    @property
    def inherited(self) -> bool:
        """Whether this process is a fork of the one that opened it."""
        return os.getpid() != self._process
