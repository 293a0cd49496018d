"""Progress: who is told how far something is. What the told one raises ends the work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called as progress(done, total): done only grows, and the last call has it at its total."""
EVERY = 1000


def part(progress: Progress, place: int, parts: int) -> Progress:
    """The progress of one of several things that are done in turn, as a part of all, in percent: it never goes back."""
    return lambda done, total: progress(100 * place + 100 * done // max(total, 1), 100 * parts)


def span(progress: Progress | None, low: int, high: int) -> Progress:
    """The progress of what takes a whole from one percentage to another; nobody may want to hear it."""
    if progress is None:
        return lambda done, total: None
    return lambda done, total: progress(low + (high - low) * done // max(total, 1), 100)


def growing(progress: Progress) -> Progress:
    """The progress of what may have to begin anew: only what is further than before is told."""
    most = -1

    def told(done: int, total: int) -> None:
        nonlocal most
        if done > most:
            most = done
            progress(done, total)

    return told


def after(progress: Progress, before: int) -> Progress:
    """The progress of one chunk of several whose number is not known: so many were done before it."""
    return lambda done, total: progress(before + done, before + total)


@dataclass(eq=False)
class Telling:
    """Counts what is done, and tells it."""

    progress: Progress | None
    total: int = 0
    done: int = 0

    def more(self, count: int) -> None:
        """So many more are done."""
        self.done = min(self.done + count, self.total)
        if self.progress is not None:
            self.progress(self.done, self.total)

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, told as they are taken, some at a time."""
        waiting = 0
        for item in items:
            waiting += 1
            if waiting == EVERY:
                self.more(waiting)
                waiting = 0
            yield item
        self.more(waiting)

    def all(self) -> None:
        """Everything is done."""
        self.more(self.total - self.done)
