"""The write queue: one writer at a time, over all threads and processes.

SQLite's own lock starves waiters and, before 3.51.3, a checkpoint racing a commit can corrupt a WAL. Holding `flock`
over BEGIN IMMEDIATE ... COMMIT (its checkpoint included) makes writers fair and removes the race. `flock`, because
`lockf` is lost when any descriptor of the file is closed. The kernel frees it when the holder dies.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from vectorstore.errors import StoreBusy


class WriteLock:
    """A thread lock and, when there is a path, an flock behind it."""

    def __init__(self, path: Path | None, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        self._threads = threading.Lock()
        self._handle: int | None = None

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
                self._acquire_file(deadline, limit)
        except BaseException:
            if taken and taken[0]:
                self.release()
            raise

    def _acquire_file(self, deadline: float, limit: float) -> None:
        if self._handle is None:
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)  # type: ignore[arg-type]
        pause = 0.0002
        while True:
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreBusy(
                        f"another process held {self._path} for {limit:g} s; retry, or raise timeout="
                    ) from None
                time.sleep(pause)
                pause = min(pause * 1.5, 0.01)

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
        """Give the descriptor back; the lock must not be held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
