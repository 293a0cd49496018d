"""Whose turn it is at a place that has no locks, and which generations count there: a chain of heads.

    heads/000000000042.json        {"generations": [...], "holder": "..." or null, "token": "..."}

A head is created on condition that it is not there (S3: `If-None-Match: *`) and never changed, so of several who would
follow head 41 exactly one makes head 42; the highest one counts. All that is decided is decided by such a step: who
holds the place, that he still does (a step every third of a lease), that a generation counts, that it does no more. Who
is killed leaves the former head, by which all is as it was; whoever comes next sees it unchanged for a whole lease, by
his own clock, and takes the place. A holder that was thought dead cannot make the next head, for it is there already.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from vectorstore.errors import CorruptError, StoreBusy

CONDITIONAL = {"s3", "s3a", "memory"}
"""Protocols that create an object only where there is none. In `memory` nobody else is there; others were not tried."""

HEADS = "heads"
LEASE = 30.0
"""So long a head that does not change is its holder's."""

TIMEOUT = 60.0
"""So long a holder that lives is waited for."""

_KEPT = 8
_ATTEMPTS = 5
log = logging.getLogger("vectorstore")


@dataclass(frozen=True)
class Head:
    """One state of a place; `number` is its name."""

    number: int
    generations: tuple[str, ...]
    holder: str | None
    token: str

    def to_bytes(self) -> bytes:
        """JSON."""
        fields = {"generations": self.generations, "holder": self.holder, "token": self.token}
        return json.dumps(fields, indent=1).encode()


class Heads:
    """The chain of heads of one place.

    Args:
        fs: fsspec's file system.
        root: the place in it.
        name: of the place, for messages.
    """

    def __init__(self, fs: Any, root: str, name: str) -> None:
        self._fs = fs
        self._root = f"{root.rstrip('/')}/{HEADS}"
        self._name = name
        self._lock = threading.RLock()
        self._mine: Head | None = None
        self._renewed = 0.0

    def latest(self) -> Head | None:
        """The head that counts; None before the first."""
        while True:
            numbers = self._numbers()
            if not numbers:
                return None
            with contextlib.suppress(FileNotFoundError):  # it was followed, and removed, just now
                return self._read(numbers[-1])

    def follow(self, head: Head, **changes: Any) -> Head | None:
        """The next head, if nobody else has made it; None if somebody has."""
        made = replace(head, number=head.number + 1, token=uuid.uuid4().hex, **changes)
        if not self._create(made):
            return None
        numbers = self._numbers()
        if numbers[-1] != made.number:  # the former heads were gone already: this one follows nothing
            self._remove(made.number)
            return None
        for number in numbers[:-_KEPT]:
            self._remove(number)
        return made

    def honoured(self) -> bool:
        """Whether conditions are heeded here: an object that is there is not created again."""
        path = f"{self._root}/probe-{uuid.uuid4().hex}"
        try:
            self._fs.pipe_file(path, b"1", mode="create")
            self._fs.pipe_file(path, b"2", mode="create")
        except FileExistsError:
            return True
        finally:
            with contextlib.suppress(OSError):
                self._fs.rm_file(path)
        return False

    @contextlib.contextmanager
    def held(self, generations: Iterable[str]) -> Iterator[None]:
        """The place is ours.

        Args:
            generations: those that count where there is no head yet.

        Raises:
            StoreBusy: somebody else holds it, and lives.
        """
        self._take(tuple(generations))
        over = threading.Event()
        beat = threading.Thread(target=self._beat, args=(over,), name="vectorstore-lease", daemon=True)
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()
            with self._lock:
                last, self._mine = self._mine, None
            if last is not None:
                with self._unheard():  # then it is let go when the lease has run out
                    self.follow(last, holder=None)

    def change(self, add: str | None = None, drop: Iterable[str] = ()) -> None:
        """Let a generation count, or some of them no more.

        Raises:
            StoreBusy: the place was lost to somebody else; nothing was changed.
        """
        with self._lock:
            head, gone = self._mine, set(drop)
            if head is not None:
                names = [*head.generations, *([] if add is None else [add])]
                self._mine = self.follow(head, generations=tuple(name for name in names if name not in gone))
            self._still()

    def still(self) -> None:
        """The place is ours for another while.

        Raises:
            StoreBusy: it may be somebody else's by now.
        """
        with self._lock:
            if self._mine is not None and time.monotonic() - self._renewed > LEASE / 2:
                self._mine = self.follow(self._mine)
            self._still()

    def _still(self) -> None:
        if self._mine is None:
            raise StoreBusy(f"{self._name}: another process took the place over, for this one was silent too long")
        self._renewed = time.monotonic()

    def _take(self, generations: tuple[str, ...]) -> None:
        seen, since, started, me = -1, 0.0, time.monotonic(), uuid.uuid4().hex
        while True:
            head = self.latest() or Head(0, generations, None, "")
            now = time.monotonic()
            if head.number != seen:
                seen, since = head.number, now
            if head.holder is None or now - since >= LEASE:
                self._mine = self.follow(head, holder=me)
                if self._mine is not None:
                    self._renewed = time.monotonic()
                    return
            elif now - started >= TIMEOUT and now - since < LEASE:
                raise StoreBusy(f"{self._name}: another process makes or removes backups here; try again later")
            time.sleep(0.02 if head.holder is None else 0.25)

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(LEASE / 3):
            with self._unheard(), self._lock:  # whoever changes something next is told
                if self._mine is None:
                    return
                self._mine = self.follow(self._mine)
                self._renewed = time.monotonic()

    @contextlib.contextmanager
    def _unheard(self) -> Iterator[None]:
        """What the other side refuses is no error of what is being done."""
        try:
            yield
        except OSError as error:
            log.warning("%s: the hold of the place was not renewed or given back: %s", self._name, error)

    # -- objects ---------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> str:
        return f"{self._root}/{number:012d}.json"

    def _numbers(self) -> list[int]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rsplit("/", 1)[-1] for path in found)
        return sorted(int(name[:12]) for name in names if name[:12].isdecimal() and name[12:] == ".json")

    def _read(self, number: int) -> Head:
        data: bytes = self._fs.cat_file(self._path(number))
        try:
            found = json.loads(data)
            return Head(number, tuple(found["generations"]), found["holder"], str(found["token"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(f"{self._name}: {HEADS}/{number:012d}.json is damaged: {error}") from error

    def _create(self, head: Head) -> bool:
        """Whether it is this head that is there now; an answer that was lost is asked for again."""
        for attempt in range(_ATTEMPTS):
            try:
                self._fs.pipe_file(self._path(head.number), head.to_bytes(), mode="create")
                return True
            except FileExistsError:
                break
            except OSError:  # S3 says 409 to two at once
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
        self._fs.invalidate_cache()
        with contextlib.suppress(FileNotFoundError):
            return self._read(head.number).token == head.token
        return False

    def _remove(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._fs.rm_file(self._path(number))
