"""Signals that ask a process to end, where they can do no harm.

A handler of ours looks at what it interrupts: inside a guarded function (a save, the end of a lifecycle) it only notes
the signal, and `deliver` raises it as soon as that is over; anywhere else it raises at once. Looking at the stack
leaves no gap, as a counter that a signal can interrupt would. Handlers run in the main thread: only its stack matters.

In some short functions (`brief`) the signal is sent again a moment later: in the store's own ways into and out of a
transaction an exception could leave a lock taken or a snapshot open, which the last save would then meet, and what
SQLite calls cannot raise it, since SQLite makes an error of its own of it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = 0.002
"""Seconds until a signal that came at a bad moment comes again."""
_GUARDED: set[CodeType] = set()
_BRIEF: set[CodeType] = set()
_running: list[Watch] = []
"""The watches that are in force, outermost first."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, raised where it came or after the save that it came in."""


class Terminated(SystemExit):
    """SIGTERM and its like; its `code` is 128 + the signal's number."""


class Watch:
    """Handlers for some signals, from `start` to `stop`; the exit code is that of the first signal.

    Attributes:
        first: the number of the first signal; None while none came.
        raised: the exceptions that signals were turned into.
        pending: whether a signal is noted that has not been raised.
    """

    def __init__(self, wanted: Iterable[int] = SIGNALS) -> None:
        self.first: int | None = None
        self.raised: list[BaseException] = []
        self.pending = False
        self._wanted = tuple(wanted)
        self._before: dict[int, Any] = {}
        self._again: threading.Timer | None = None

    @property
    def code(self) -> int:
        """128 + the number of the first signal."""
        return 128 + (self.first or 0)

    def start(self) -> None:
        """Take the signals; only a process's main thread can.

        Raises:
            ValueError: this is another thread.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._wanted)
        try:
            for number in self._wanted:
                self._before[number] = signal.signal(number, self._handle)
            _running.append(self)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def stop(self) -> None:
        """Give them back."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._wanted)
        try:
            if self._again is not None:
                self._again.cancel()
            if self in _running:
                _running.remove(self)
            for number, handler in self._before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self._before.clear()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.first is None:
            self.first = number
        if _inside(frame, _GUARDED):
            self.pending = True
        elif _inside(frame, _BRIEF):
            self._again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
            self._again.daemon = True
            self._again.start()
        else:
            raise self.exception()

    def exception(self) -> BaseException:
        """What the first signal is raised as."""
        self.pending = False
        error: BaseException = Interrupted() if self.first == signal.SIGINT else Terminated(self.code)
        self.raised.append(error)
        return error


def guard(function: Callable[..., Any]) -> Callable[..., Any]:
    """Signals wait while this function runs."""
    _GUARDED.add(function.__code__)
    return function


def brief(function: Callable[..., Any]) -> None:
    """A signal that comes while this function runs comes again a moment later."""
    _BRIEF.add(function.__code__)


def deliver() -> None:
    """Raise what waited, unless something guarded still runs."""
    if threading.current_thread() is not threading.main_thread():
        return
    if _running and _running[-1].pending and not _inside(sys._getframe(), _GUARDED):
        raise _running[-1].exception()


def _inside(frame: FrameType | None, codes: set[CodeType]) -> bool:
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False
