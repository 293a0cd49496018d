"""The write queue: one writer at a time, over all threads and processes.

SQLite's own lock starves waiters and, before 3.51.3, a checkpoint racing a commit can corrupt a WAL. Holding `flock`
over BEGIN IMMEDIATE ... COMMIT (its checkpoint included) makes writers fair and removes the race. `flock`, because
`lockf` is lost when any descriptor of the file is closed. The kernel frees it when the holder dies.

The lock's file is also the store's reserve: room on the disk that is given back when nothing else is left, so that a
delete, which has to be written down too, works on a full disk. Its first bytes are the number of the last commit: a
catalog at an earlier one has lost some.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from pathlib import Path

from vectorstore.errors import StoreBusy, ValidationError
from vectorstore.files import refused
from vectorstore.storage.forking import tell

LOCK = "store.lock"
RESERVE = 1 << 19
"""Bytes: a delete of some hundred records."""
MAX_WAIT = 2_147_483
"""Seconds, about 24 days: SQLite counts its own waiting in milliseconds, as an int of 32 bits."""
_NOTE = 16
"""Bytes of a number and its digest."""


def _sealed(number: bytes) -> bytes:
    return number + hashlib.blake2b(number, digest_size=8).digest()


_PATIENCE = 1.0
"""Seconds that closing waits for a thread that still writes; else the descriptor goes with it."""


class WriteLock:
    """A thread lock and, when there is a path, an flock behind it.

    Args:
        path: of the lock's file; None for what only this process can reach.
        timeout: seconds to wait.
        reserve: bytes that the file holds ready for a full disk.

    Raises:
        ValidationError: nobody can wait so long.
    """

    def __init__(self, path: Path | None, timeout: float, reserve: int = 0) -> None:
        if not 0 <= timeout <= MAX_WAIT:
            raise ValidationError(f"timeout: expected 0..{MAX_WAIT} seconds, got {timeout:g}")
        self._path = path
        self._timeout = timeout
        self._reserve = reserve
        self._threads = threading.Lock()
        self._handle: int | None = None
        tell(self)

    def forked(self) -> None:
        """A descriptor that a child inherits would keep the lock when its holder dies."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def acquire(self, wait: float | None = None) -> None:
        """Wait for the turn.

        Args:
            wait: seconds; None for the lock's own timeout.

        Raises:
            StoreBusy: the holder did not finish within that time.
        """
        limit = self._timeout if wait is None else wait
        deadline = time.monotonic() + limit
        taken: list[bool] = []
        try:
            taken.extend(map(self._threads.acquire, (True,), (limit,)))  # noted at once: a Ctrl-C frees it
            if not taken[0]:
                raise StoreBusy(f"another thread held the write lock for {limit:g} s; retry, or raise timeout=")
            if self._path is not None:
                self._acquire_file(self._path, deadline, limit)
        except BaseException:
            if taken and taken[0]:
                self.release()
            raise

    def _acquire_file(self, path: Path, deadline: float, limit: float) -> None:
        if self._handle is None:
            with refused(path):
                self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            wanting = os.fstat(self._handle).st_size < self._reserve
        else:
            wanting = False
        pause = 0.0002
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if wanting:
                    self._keep_room(self._handle)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreBusy(f"another process held {path} for {limit:g} s; retry, or raise timeout=") from None
                time.sleep(pause)
                pause = min(pause * 1.5, 0.01)

    def _keep_room(self, handle: int) -> None:
        """Take the reserve, if the disk has it: nobody waits for it, and a store without one works as well."""
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, self._reserve)
            else:
                os.pwrite(handle, bytes(self._reserve - _NOTE), _NOTE)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, _NOTE)

    def give_room(self) -> bool:
        """Give the reserve back to the disk; whether there was any. The next process to write takes it again."""
        try:
            if self._handle is None or os.fstat(self._handle).st_size <= _NOTE:
                return False
            os.ftruncate(self._handle, _NOTE)
        except OSError:
            return False
        return True

    def note(self, number: int) -> None:
        """Write down the number of a commit that is durable, while the lock is held; at most it is not written."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.pwrite(self._handle, _sealed(number.to_bytes(8, "big")), 0)

    def release(self) -> None:
        """Let the next writer in."""
        try:
            if self._handle is not None:
                fcntl.flock(self._handle, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def __enter__(self) -> None:
        """Wait for the turn."""
        self.acquire()

    def __exit__(self, *error: object) -> None:
        """Let the next writer in."""
        self.release()

    def close(self) -> None:
        """Give the descriptor back, once no thread has the lock."""
        if self._threads.acquire(timeout=_PATIENCE):
            try:
                if self._handle is not None:
                    os.close(self._handle)
                    self._handle = None
            finally:
                self._threads.release()


def noted(root: Path) -> int:
    """The number of the last commit of a store, as far as it was written down; 0 when it was not."""
    with contextlib.suppress(OSError):
        handle = os.open(root / LOCK, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.pread(handle, _NOTE, 0)
            return int.from_bytes(found[:8], "big") if found == _sealed(found[:8]) else 0
        finally:
            os.close(handle)
    return 0
