"""A command of any language with a state: loaded into a file before it starts, saved from there when it has ended.

The file is plain JSON with the codec's tags; its path is in `VECTORSTORE_STATE`. A command that knows nothing of tags
reads and writes JSON; a Python program may use `vs.StateFile`. Signals go on to the command, and the file is saved
however it ended. What it left half-written is set aside, and the state stays as it was.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from vectorstore.errors import CorruptError, StateConflict
from vectorstore.files import make_folder
from vectorstore.ids import new_id, utc_now
from vectorstore.states.state import Saved
from vectorstore.states.storestate import StoreState

log = logging.getLogger("vectorstore")
STATE, STORE, NAME = "VECTORSTORE_STATE", "VECTORSTORE_STORE", "VECTORSTORE_STATE_NAME"
NOT_EXECUTABLE, NOT_THERE = 126, 127


@dataclass(frozen=True)
class Ran:
    """How a command ended.

    Attributes:
        code: 128 + n when signal n came to us or ended the command, else the command's own; 126 and 127 as shells
            have them when it could not be started.
        saved: what the save did; None when the command left the file alone, or damaged.
        aside: where a damaged file is now.
        problem: what is wrong with it.
    """

    code: int
    saved: Saved | None
    aside: Path | None = None
    problem: str = ""


def run(state: StoreState, command: Sequence[str], folder: Path, *, merge: bool = False, fallback: bool = False) -> Ran:
    """Run a command with a state.

    Args:
        state: not encrypted.
        command: the program and its arguments.
        folder: the store's.
        merge: let others have the state meanwhile, and take in what they saved.
        fallback: when the newest save is damaged, begin with the one before.

    Raises:
        StateBusy: somebody else has the state. CorruptError: it is damaged; the command was not started.
        StateConflict: somebody saved it without asking; the command's file was set aside, as the message says.
    """
    file = folder / "states" / f"{state.key}.{os.getpid()}.json"
    with contextlib.nullcontext() if merge else state.hold(), _forwarding() as signals:
        make_folder(file.parent)
        if not merge:
            _left_behind(state, file.parent)
        try:
            if state.load(fallback=fallback):
                state.export(file, plain=True)
            before = file.read_bytes() if file.exists() else None
            code = signals.wait_for(command, {STATE: str(file), STORE: str(folder), NAME: state.name})
            code = code if signals.first is None else 128 + signals.first
            after = file.read_bytes() if file.exists() else None
            if after is None or after == before:
                return Ran(code, None)
            return _saved(state, file, code, merge)
        finally:
            file.unlink(missing_ok=True)


def _saved(state: StoreState, file: Path, code: int, merge: bool) -> Ran:
    try:
        state.read(file)
        return Ran(code, state.save(merge=merge))
    except CorruptError as error:
        return Ran(code, None, _set_aside(file), str(error))
    except StateConflict as error:
        raise StateConflict(f"{error}; what the command left was set aside as {_set_aside(file)}") from None


def _set_aside(file: Path) -> Path:
    aside = file.with_name(f"{file.stem}.aside-{new_id(utc_now())}.json")
    os.rename(file, aside)
    return aside


def _left_behind(state: StoreState, folder: Path) -> None:
    """Files of runs that were killed; we hold the state, so nobody writes them any more."""
    for left in folder.glob(f"{state.key}.*.json"):
        if ".aside-" not in left.name:
            log.warning("%s: a run was killed; its file was set aside as %s", state.name, _set_aside(left))


class _Signals:
    """What came, and the command that it goes on to."""

    def __init__(self) -> None:
        self.first: int | None = None
        self._child: subprocess.Popen[bytes] | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.first is None:
            self.first = number
        if self._child is not None and not (number == signal.SIGINT and _from_terminal()):
            self._child.send_signal(number)

    def wait_for(self, command: Sequence[str], environment: dict[str, str]) -> int:
        """Start it, and wait for its end; returns the exit code."""
        try:
            child = subprocess.Popen(list(command), env={**os.environ, **environment})
        except FileNotFoundError:
            log.error("%s: no such program", command[0])
            return NOT_THERE
        except OSError as error:
            log.error("%s: cannot be run: %s", command[0], error.strerror)
            return NOT_EXECUTABLE
        self._child = child
        if self.first is not None:
            child.send_signal(self.first)  # it came while the command was being started
        code = child.wait()
        return code if code >= 0 else 128 - code


def _from_terminal() -> bool:
    """Whether Ctrl-C reaches the command by itself, because we are the terminal's foreground group."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def _forwarding() -> Iterator[_Signals]:
    signals = _Signals()
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signals.handle) for number in wanted}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
