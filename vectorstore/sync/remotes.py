"""Which engine outside answers for which space, as one snapshot of the catalog sees it.

The catalog says which collection is current, what it has not been told yet, and up to which time of the engine a
search must see: so every process reads the same, and a switch to another collection is one commit.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vectorstore.engines import STAMP, Address, VectorIndex, connect, expression, named
from vectorstore.errors import EngineDown
from vectorstore.recipes import Point
from vectorstore.records.where import Node
from vectorstore.storage import Connection, RecordTable, SpaceRow, spaces
from vectorstore.storage import remotes as rows
from vectorstore.storage.lock import WriteLock
from vectorstore.storage.remotes import RemoteRow
from vectorstore.vectors import Allowed, Asked, Curve, Fed, Live, Matrix, Vids

if TYPE_CHECKING:
    from vectorstore.sync.core import Sync

log = logging.getLogger("vectorstore")
LOCK = "feeding.lock"
RETRY = 1.0
"""Seconds for which an engine that did not answer is not asked again."""

TOLD = 60.0
"""Seconds between two warnings of an engine."""

COUNTED = 1.0
"""Seconds for which a count of an engine's rows holds.

A server that was seen (2.3.5) answers for some seconds after one of its nodes is back, or a shard has moved to another
node, before all its rows are loaded there: searches then find half of what there is, or nothing, and tell no error."""


@dataclass(frozen=True)
class RemoteStatus:
    """How an engine outside fares with a space.

    Attributes:
        kind: whose vectors.
        space: the space.
        address: where the engine is.
        collection: how the space is called there.
        status: "filling" (not yet asked), "current" (answers searches) or "leaving" (about to be dropped).
        waiting: vids that it has not been told of yet.
        lag: seconds for which the first of them has waited; 0.0 when none does.
        problem: why nothing is sent; None when all is well.
    """

    kind: str
    space: str
    address: str
    collection: str
    status: str
    waiting: int
    lag: float
    problem: str | None


class Engines:
    """The engines that this process was opened with. Safe for threads; nothing is asked before it is needed.

    Args:
        sync: the open parts of the store.
        everywhere: where all spaces of some size go; None for none.
        by_kind: where the spaces of some kinds go, whatever their size; None for nowhere.
    """

    def __init__(self, sync: Sync, everywhere: Address | None, by_kind: Mapping[str, Address | None]) -> None:
        self._sync = sync
        root = sync.catalog.root
        self.lock = WriteLock(None if root is None or sync.catalog.read_only else root / LOCK, 30.0)
        """The applier's: who holds it feeds, and all others, here and in other processes, do not."""
        self.everywhere = everywhere
        self.by_kind = dict(by_kind)
        self._lock = threading.Lock()
        self._open: dict[int, VectorIndex] = {}
        self._proved: dict[int, bool] = {}
        self._silent: dict[int, tuple[float, EngineDown]] = {}
        self._counted: dict[int, float] = {}
        self._told: dict[int, float] = {}

    def address(self, kind: str) -> Address | None:
        """Where the spaces of a kind go."""
        return self.by_kind.get(kind, self.everywhere)

    def engine(self, space: SpaceRow, row: RemoteRow) -> VectorIndex:
        """The collection of a remote."""
        with self._lock:
            if row.id not in self._open:
                address = self.address(space.kind)
                assert address is not None and address.name == row.address  # only rows of this address are asked for
                self._open[row.id] = connect(address, row.collection, space.dim, space.metric, row.fields)
            return self._open[row.id]

    def forget(self, number: int) -> None:
        """A remote is gone."""
        with self._lock:
            engine = self._open.pop(number, None)
            self._proved.pop(number, None)
            self._silent.pop(number, None)
            self._counted.pop(number, None)
        if engine is not None:
            engine.close()

    def close(self) -> None:
        """Let go of all connections."""
        with self._lock:
            engines, self._open = list(self._open.values()), {}
        for engine in engines:
            engine.close()
        self.lock.close()

    def silent(self) -> list[str]:
        """What is wrong with engines that did not answer when they were last asked."""
        return [str(error) for _, error in self._silent.values()]

    # -- a snapshot ------------------------------------------------------------------------------------------------

    def attached(self, connection: Connection, name: str, live: Live) -> Live:
        """The snapshot, with the engine that answers for it, if one does."""
        row, space = self._current(connection, name)
        if row is None or space is None or row.curve is None:
            return live if live.fed is None else dataclasses.replace(live, fed=None)
        engine = self.engine(space, row)
        fed = Fed(
            name=f"{row.address} {row.collection}",
            ask=partial(self._ask, row, engine),
            curve=Curve.from_dict(row.curve),
            waiting=rows.waiting_vids(connection, row.id),
            moved=partial(self._moved, row),
            rows=partial(self._rows, row, engine),
            short=partial(self._short, row),
            most=engine.caps.most,
            named=engine.caps.named,
            by_vids=named,
        )
        return dataclasses.replace(live, fed=fed)

    def _current(self, connection: Connection, name: str) -> tuple[RemoteRow | None, SpaceRow | None]:
        address = self.address(name.partition(".")[0])
        space = None if address is None else spaces.space_by_name(connection, name)
        if address is None or space is None:
            return None, None
        return rows.current_remote(connection, address.name, space.id), space

    def asked(
        self, connection: Connection, name: str, table: RecordTable[Any], node: Node, resolve: Any
    ) -> Asked | Allowed:
        """The filter in the engine's words, or all its rows when it cannot be said."""
        row, _ = self._current(connection, name)
        said = None if row is None else expression(node, row.fields)
        if said is None:
            found: Allowed = resolve()
            return found
        return Asked(said, partial(rows.vids_holding, connection, table, node), resolve)

    def _ask(
        self, row: RemoteRow, engine: VectorIndex, queries: Matrix, count: int, effort: Point, where: str | None
    ) -> list[Vids]:
        found: list[Vids] = self._tried(row, lambda: engine.search(queries, count, effort, where, row.since), engine)
        self._silent.pop(row.id, None)
        return found

    def _rows(self, row: RemoteRow, engine: VectorIndex) -> int | None:
        """Counted when the last time is a while ago, and after every failure."""
        now = time.monotonic()
        if row.id not in self._silent and now < self._counted.get(row.id, 0.0):
            return None
        found: int = self._tried(row, lambda: engine.count(None, row.since), engine)
        self._counted[row.id] = now + COUNTED
        return found

    def _short(self, row: RemoteRow, held: int, least: int) -> EngineDown:
        return self._failed(
            row,
            EngineDown(
                f"{row.address}, collection {row.collection}: has only {held} of at least {least} rows "
                "(a server that is coming up?); if that stays, run: vectorstore check --repair"
            ),
        )

    def _tried(self, row: RemoteRow, call: Callable[[], Any], engine: VectorIndex) -> Any:
        """What an engine answers, which is not asked for a while after it failed."""
        silent = self._silent.get(row.id)
        if silent is not None and time.monotonic() < silent[0]:
            raise silent[1]
        try:
            self._prove(row, engine)
            found = call()
        except EngineDown as error:
            raise self._failed(row, error) from error.__cause__
        return found

    def _failed(self, row: RemoteRow, error: EngineDown) -> EngineDown:
        now = time.monotonic()
        if now > self._told.get(row.id, 0.0):
            log.warning("%s", error)
            self._told[row.id] = now + TOLD
        self._silent[row.id] = (now + RETRY, error)
        self._counted.pop(row.id, None)
        return error

    def _prove(self, row: RemoteRow, engine: VectorIndex) -> None:
        """Before this process first asks a collection: it holds what the catalog was told it holds.

        A catalog that was restored, or a server that lost data, is found out by the token of the last batch.
        """
        if self._proved.get(row.id):
            return
        for _ in range(5):
            stamp = engine.versions(STAMP, STAMP + 1).get(STAMP)
            told = self._sync.catalog.newest(
                "SELECT json_array(applied, sending) FROM _remotes WHERE id = ?", (row.id,)
            )
            if told is not None and stamp is not None and stamp in json.loads(told):
                self._proved[row.id] = True
                return
            time.sleep(0.05)  # a batch may have gone by between the two looks
        raise EngineDown(
            f"{row.address}, collection {row.collection}: holds another state than this catalog was told "
            "(a restored catalog, or a server that lost data?); it is fed anew by store.remotes.sync()"
        )

    def _moved(self, row: RemoteRow) -> Vids | None:
        told = self._sync.catalog.newest(rows.MOVED_SINCE, (row.moves, row.id))
        if told is None:
            return None
        moves, status, listed = json.loads(told)
        if status == rows.LEAVING or len(listed) != moves - row.moves:
            return None
        return np.unique(np.array([vid for vids in listed for vid in vids], dtype=np.int64))


def statuses(sync: Sync) -> list[RemoteStatus]:
    """Of all engines that the catalog knows, whether this process was opened with them or not."""
    with sync.catalog.read() as connection:
        named = {space.id: space for space in spaces.all_spaces(connection)}
        found = []
        for row in rows.remotes_of(connection):
            count, since = rows.lag(connection, row.id)
            if row.filled < row.top:
                count += connection.execute(
                    "SELECT count(*) FROM vectors WHERE space = ? AND retired IS NULL AND vid > ? AND vid <= ?",
                    (row.space, row.filled, row.top),
                ).fetchone()[0]
            lag = 0.0 if since is None else max(0.0, (sync.catalog.now() - since) / 1e6)
            space = named[row.space]
            found.append(
                RemoteStatus(
                    space.kind, space.name, row.address, row.collection, row.status, count, lag, row.held or None
                )
            )
    return found
