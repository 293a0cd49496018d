"""The connections on which a catalog is read: one for each thread, closed once its thread has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vectorstore.storage.connection import Connection


class Readers:
    """Connections by thread.

    Args:
        connect: makes one.
    """

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._local = threading.local()
        self._lock = threading.Lock()
        self._made: list[tuple[threading.Thread, Connection]] = []
        self._turned = 0

    def mine(self, which: str = "connection") -> Connection:
        """This thread's connection of a name; a new one closes those of threads that have ended."""
        connection, turned = getattr(self._local, which, (None, 0))
        if connection is not None and turned != self._turned and not connection.in_transaction:
            self._drop(lambda thread, each: each is connection)
            connection = None
        if connection is None:
            self._drop(lambda thread, each: not thread.is_alive())
            turned = self._turned
            connection = self._connect()
            setattr(self._local, which, (connection, turned))
            with self._lock:
                self._made.append((threading.current_thread(), connection))
        return connection

    def turn(self) -> None:
        """Have each thread connect anew, once the read that it is in has ended."""
        self._turned += 1

    def _drop(self, chosen: Callable[[threading.Thread, Connection], bool]) -> None:
        with self._lock:
            self._made = [each for each in self._made if not (chosen(*each) and each[1].close_idle())]

    def close(self, wait: float) -> None:
        """Close them all, waiting so many seconds for each in use; else it ends with the thread that uses it."""
        for _, connection in self._made:
            connection.close_idle(wait)
        self._made.clear()
