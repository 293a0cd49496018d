"""Engines outside that serve a store's searches: how they fare, and what can be done with them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec

from vectorstore.engines import Address, address_of
from vectorstore.errors import (
    ConflictError,
    EngineDown,
    LibraryMissing,
    NotFound,
    StoreBusy,
    ValidationError,
    installing,
)
from vectorstore.storage import SpaceRow, spaces
from vectorstore.storage import remotes as rows
from vectorstore.storage.remotes import RemoteRow
from vectorstore.sync import Sync
from vectorstore.sync.feeding import Feeder
from vectorstore.sync.remotes import Engines, RemoteStatus, statuses

log = logging.getLogger("vectorstore")
_POLL = 0.25
"""Seconds between two looks for what other processes wrote."""

_PAUSE = 2.0
"""Seconds before an engine that did not answer is fed again."""


Served = Address | dict[str, Address | None] | None
"""Where spaces go: all of some size to one engine, those of some kinds to one each, or none."""


def served_by(index: str | Mapping[str, str | None] | None) -> Served:
    """What `vs.open(index=...)` asks for.

    Raises:
        ValidationError: an address cannot be read.
        LibraryMissing: its client is not installed.
    """
    if index is None or isinstance(index, str):
        return None if index is None else _usable(index)
    return {kind: None if address is None else _usable(address) for kind, address in index.items()}


def _usable(text: str) -> Address:
    address = address_of(text)
    if address.scheme == "milvus" and find_spec("pymilvus") is None:  # which loads nothing
        raise LibraryMissing(f"milvus:// needs pymilvus; {installing('milvus')}")
    return address


def engines_of(sync: Sync, served: Served) -> Engines | None:
    """The engines of an open store; None when it asks for none.

    Raises:
        ValidationError: a kind is not there.
    """
    if served is None:
        return None
    if isinstance(served, Address):
        return Engines(sync, served, {})
    for kind in served:
        if kind not in sync.tables:
            raise ValidationError(f"index: no kind {kind!r}; the kinds are: {', '.join(sorted(sync.tables))}")
    return Engines(sync, None, served)


class Remotes:
    """`store.remotes`: feeding of the engines that the store was opened with (`vs.open(path, index=...)`)."""

    def __init__(self, sync: Sync, *, feed: bool) -> None:
        self._sync = sync
        self._feed = feed
        self._feeder: Feeder | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        if sync.engines is not None and not sync.catalog.read_only:
            self._feeder = Feeder(sync)

    def _start(self) -> None:
        """Feed in the background from now on, if there is anything to feed; the store calls it when it is open."""
        if self._feeder is not None and self._feed:
            self._thread = threading.Thread(target=self._run, name="vectorstore-feeding", daemon=True)
            self._thread.start()

    def status(self) -> list[RemoteStatus]:
        """How each engine fares, oldest first; empty when the store has none."""
        return statuses(self._sync)

    def sync(self, timeout: float = 60.0) -> bool:
        """Feed until nothing waits and every space that should be served is; whether that was reached in time.

        A collection that does not hold what it was last sent is filled anew.

        Args:
            timeout: seconds.

        Raises:
            ValidationError: the store was not opened for writing with `index=`.
            EngineDown: an engine did not answer until the time was over.
        """
        feeder, until, problem = self._fed(), time.monotonic() + timeout, None
        feeder.doubt()
        while True:
            try:
                found, problem = feeder.feed(), None
            except EngineDown as error:
                found, problem = False, error
            if found is False and problem is None and self._done():
                return True
            if time.monotonic() > until:
                if problem is not None:
                    raise problem
                return False
            if not found:
                time.sleep(0.02)

    def _done(self) -> bool:
        engines = self._engines()
        served = [each for each in self.status() if (at := engines.address(each.kind)) and at.name == each.address]
        return all(each.waiting == 0 and each.status == "current" for each in served)

    def settle(self, kind: str, timeout: float = 600.0) -> None:
        """Bring what the engine was sent of a kind into its final form: what is new is then found as fast as the rest.

        Raises:
            NotFound: no engine serves the kind.
            EngineDown: it does not answer.
        """
        for space, row in self._served(kind):
            self._engines().engine(space, row).settle(timeout)

    def renew(self, kind: str) -> None:
        """Feed the spaces of a kind anew into other collections, which take over when they are ready.

        Searches go on meanwhile; the old collections are dropped afterwards.

        Raises:
            NotFound: no engine serves the kind.
        """
        feeder = self._fed()
        for space, _ in self._served(kind):
            feeder.begin(space)
        self._wake.set()

    def drop(self, kind: str) -> None:
        """Let no engine serve a kind any more, and drop its collections; `store.publish(kind)` makes an index here.

        Open the store without `index=` for that kind afterwards, or it is fed again.

        Raises:
            NotFound: no engine serves the kind.
            EngineDown: it does not answer, so its collections cannot be dropped; nothing was changed.
            StoreError: the disk refused in the middle; nobody asks the collections any more: do it again.
            ConflictError: within a transaction.
        """
        if self._sync.catalog.in_transaction:
            raise ConflictError("remotes: a collection cannot be dropped within a transaction")
        engines = self._engines()
        served = [(row, engines.engine(space, row)) for space, row in self._served(kind)]
        engines.lock.acquire()
        try:
            for _, engine in served:
                engine.exists()  # or it is down
            with self._sync.catalog.write() as transaction:  # whatever comes between, nobody asks them any more
                for row, _ in served:
                    rows.change_remote(transaction.connection, row.id, status=rows.LEAVING)
                transaction.quiet()
            for row, engine in served:
                engine.drop()
                with self._sync.catalog.write() as transaction:
                    rows.drop_remote(transaction.connection, row.id)
                    transaction.quiet()
                engines.forget(row.id)
            engines.by_kind[kind] = None
        finally:
            engines.lock.release()

    def _engines(self) -> Engines:
        if self._sync.engines is None:
            raise ValidationError("remotes: the store was not opened with index=...")
        return self._sync.engines

    def _fed(self) -> Feeder:
        if self._feeder is None:
            raise ValidationError("remotes: the store was not opened for writing with index=...")
        return self._feeder

    def _served(self, kind: str) -> list[tuple[SpaceRow, RemoteRow]]:
        address = self._engines().address(kind)
        with self._sync.catalog.read() as connection:
            found = [
                (space, row)
                for space in spaces.spaces_of(connection, kind)
                for row in rows.remotes_of(connection, None if address is None else address.name, space.id)
                if address is not None
            ]
        if not found:
            raise NotFound(f"no engine serves {kind!r}; see store.remotes.status()")
        return found

    # -- in the background -----------------------------------------------------------------------------------------

    def _wake_up(self) -> None:
        """Something was committed."""
        if self._thread is not None:
            self._wake.set()

    def _run(self) -> None:
        feeder = self._fed()
        while not feeder.stopping.is_set():
            pause = _POLL
            try:
                while feeder.feed() and not feeder.stopping.is_set():
                    pass
            except (EngineDown, StoreBusy) as error:
                log.info("feeding: %s", error)
                pause = _PAUSE
            except Exception:  # the thread must outlive it: what is wrong is told, and tried again
                log.exception("feeding failed; what waits is scanned exactly, and sent later")
                pause = _PAUSE
            if pause == _PAUSE:
                feeder.stopping.wait(pause)
            else:
                self._wake.wait(pause)
            self._wake.clear()

    def _stop(self) -> None:
        """End the thread; what waits goes on waiting."""
        if self._feeder is not None:
            self._feeder.stopping.set()
            self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
