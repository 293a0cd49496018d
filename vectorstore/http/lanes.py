"""In which threads the service computes: few, and not the same ones for what is short and what is long.

Searches hold the interpreter for most of their time, so more threads than cores gain little, and each of them makes
all others wait longer for it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio.to_thread

A = TypeVar("A")

SHORT = (os.cpu_count() or 1) + 2
"""Threads of everything that a route does not send elsewhere: searches, reads, pieces of streams. The two beyond the
cores are for what waits for a disk."""


class Lane:
    """Threads of their own for some routes: what waits here keeps nobody else waiting.

    Args:
        threads: so many calls run at once; others wait, first come, first served.
    """

    def __init__(self, threads: int) -> None:
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, call: Callable[[], A]) -> A:
        """What the call gives, from a thread of this lane."""
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)

    def __call__(self, endpoint: Callable[..., A]) -> Callable[..., Awaitable[A]]:
        """The endpoint, run in this lane; the framework would run it among the short ones."""

        @functools.wraps(endpoint)
        async def waiting(*args: object, **kwargs: object) -> A:
            return await self.run(functools.partial(endpoint, *args, **kwargs))

        return waiting


class Lanes:
    """The lanes of one service.

    Attributes:
        writing: one writes at a time, and whoever waits for the lock of the store holds a thread.
        long: what may take many seconds: exports, imports, maps, discoveries.
        watching: what follows something for as long as the client likes.
        health: answered while all others are busy.
    """

    def __init__(self) -> None:
        self.writing = Lane(4)
        self.long = Lane(4)
        self.watching = Lane(4)
        self.health = Lane(2)


def narrow() -> None:
    """Give what runs in no lane of its own the few threads that it gains from; to be called in the event loop."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = SHORT
