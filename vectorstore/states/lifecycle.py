"""From the start of a program to its end: a state is loaded, and saved whichever way the program ends.

    with vs.lifecycle(store.state("agent")) as state:
        state.history("scores").append(0.9)

A normal end, an error, `sys.exit`, SIGINT and SIGTERM all save. A signal that comes during a save waits until it is
durable. The first cause decides the exit code: 128 + n for a signal (130, 143), otherwise what Python makes of the end.
SIGKILL and a power cut leave the newest save.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Generic, Literal, TypeVar

from vectorstore.errors import ValidationError
from vectorstore.states import signals
from vectorstore.states.state import State
from vectorstore.storage import Catalog
from vectorstore.storage.connection import Reading, folded, remembering

S = TypeVar("S", bound=State)
log = logging.getLogger("vectorstore")


class Lifecycle(Generic[S]):
    """What `lifecycle` gives; a context manager, used once.

    Attributes:
        state: the state.
        loaded: whether something was saved before; None until it is entered.
    """

    def __init__(self, state: S, concurrent: str, fallback: bool, wanted: Iterable[int]) -> None:
        self.state = state
        self.loaded: bool | None = None
        self._merge = concurrent == "merge"
        self._fallback = fallback
        self._watch = signals.Watch(wanted)
        self._held = contextlib.ExitStack()

    def __enter__(self) -> S:
        if threading.current_thread() is not threading.main_thread():
            raise ValidationError("lifecycle: signals come to the main thread; enter it there")
        try:
            self._watch.start()  # first: a signal of Python's own could leave a snapshot open
            if not self._merge:
                self._held.enter_context(self.state.hold())
            self.loaded = self.state.load(fallback=self._fallback)
            for problem in self.state.problems:
                log.warning("%s", problem)
            log.info("%s: %s", self.state.name, "loaded" if self.loaded else "nothing saved yet")
            return self.state
        except BaseException:
            self._held.close()
            self._watch.stop()
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        """Save; signals are only noted meanwhile (`signals.guard`)."""
        ours = error is not None and any(error is raised for raised in self._watch.raised)
        failed: Exception | None = None
        try:
            self.state._save(self._merge)
        except Exception as failure:
            log.error("%s: the last save failed: %s", self.state.name, failure)
            failed = failure
            if error is not None:
                error.add_note(f"and the last save of {self.state.name} failed: {failure}")
        finally:
            self._held.close()
            self._watch.stop()
        unheard = self._watch.first is not None and (self._watch.pending or not self._watch.raised)
        if ours or (error is None and unheard):
            raise SystemExit(self._watch.code) from failed
        if failed is not None and error is None:
            raise failed


signals.guard(Lifecycle.__exit__)
for _brief in (
    Catalog.write.__wrapped__,  # type: ignore[attr-defined]
    Reading.__enter__,
    Reading.__exit__,
    Reading.__del__,  # what it raised would be lost
    Catalog.now,
    remembering(folded),
):
    signals.brief(_brief)


def lifecycle(
    state: S,
    *,
    concurrent: Literal["refuse", "merge"] = "refuse",
    fallback: bool = False,
    signals: Iterable[int] = signals.SIGNALS,
) -> Lifecycle[S]:
    """Load a state now, and save it when the block ends, however it ends.

    Args:
        state: of a store, or a `StateFile`.
        concurrent: "refuse" holds the state, and no other lifecycle can have it meanwhile; "merge" lets several run,
            and each save takes in what the others saved.
        fallback: when the newest save is damaged, begin with the one before.
        signals: those that end the program; Ctrl-C is raised as a KeyboardInterrupt, others as a SystemExit, so that
            `finally` blocks run first.

    Raises:
        StateBusy: another process, or another block, has it. CorruptError: it is damaged; it was left as it is, and
            nothing will be saved over it.
    """
    if concurrent not in ("refuse", "merge"):
        raise ValidationError(f"concurrent: expected refuse or merge, got {concurrent!r}")
    return Lifecycle(state, concurrent, fallback, tuple(signals))
