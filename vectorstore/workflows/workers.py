"""A worker inside this process: a thread that processes whatever is pending, until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from vectorstore.errors import LeaseHeld, StoreError
from vectorstore.workflows.engine import Stopped
from vectorstore.workflows.states import Workflow

log = logging.getLogger("vectorstore")


class Worker:
    """Processes pending workflows in a thread of its own, one after the other, oldest first.

    It stops between two chunks; what it had taken is left to the next worker. As a context manager it stops at the end.
    """

    def __init__(self, next_one: Callable[[Callable[[], bool]], Workflow | None], poll: float) -> None:
        self._next = next_one
        self._poll = poll
        self._stop = threading.Event()
        self._idle = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, name="vectorstore-worker", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                found = self._next(self._stop.is_set)
            except (Stopped, LeaseHeld):
                continue
            except StoreError as error:
                log.warning("a worker cannot write to the store: %s", error)
                found = None
            except Exception:
                log.exception("a workflow failed; its error is kept with it")
                continue
            if found is None:
                self._idle.set()
                self._wake.wait(self._poll)

    def wait(self, timeout: float | None = None) -> bool:
        """Return when there is nothing left to do; False when that took longer than so many seconds."""
        self._idle.clear()
        self._wake.set()
        return self._idle.wait(timeout)

    def stop(self) -> None:
        """Stop after the chunk at hand; safe to call twice."""
        self._stop.set()
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
