"""Having a state for one's own, from start to end: a lock that the system lets go of when the process dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from vectorstore.errors import StateBusy
from vectorstore.files import make_folder, refused


@contextlib.contextmanager
def held(path: Path | None, what: str) -> Iterator[None]:
    """Nobody else holds the file's lock meanwhile; None for what only this process can reach.

    Raises:
        StateBusy: somebody does; it names the process.
    """
    if path is None:
        yield
        return
    make_folder(path.parent)
    with refused(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise StateBusy(
                f"{what} is held by process {holder}; wait for its end, or merge: lifecycle(state, concurrent='merge')"
            ) from None
        with contextlib.suppress(OSError):  # the lock holds without a name in it
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
