"""Feeding engines outside: one applier at a time tells them what the catalog says now.

A batch: the vids that have waited longest, with their present state from one snapshot; a commit of the intent, with a
random token; vids that are not live are removed, the others upserted, the token with them, in the stamp; and, once all
is acknowledged, a commit that takes the vids out of the outbox unless they have changed again. Sending a state twice
changes nothing, so a crash anywhere is mended by sending again. What an applier that died may have left on its way can
still arrive until its call's patience is over, so its successor waits for that first.

The token tells a catalog that was restored, and an engine that lost data: then the space is fed anew into another
collection, and searched without an engine meanwhile. The old one is left alone, for it may be another store's by now.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time

import numpy as np

from vectorstore.engines import STAMP, Rows, VectorIndex, fields_of
from vectorstore.errors import ConflictError, EngineDown, StoreBusy
from vectorstore.storage import SpaceRow, spaces
from vectorstore.storage import remotes as rows
from vectorstore.storage.remotes import RemoteRow, Waiting
from vectorstore.sync.core import SnapshotMoved, Sync
from vectorstore.sync.measuring import curve_of
from vectorstore.sync.proving import current_remotes, prove, rows_of
from vectorstore.sync.publish import PUBLISH_ROWS, retire_index

log = logging.getLogger("vectorstore")
BATCH = 2_000
"""Vids sent between two marks."""

SETTLE = 600.0
"""Seconds that a new collection may take to make its index before it is measured as it is."""


class Feeder:
    """The applier of one process; the engines' lock keeps all others out."""

    def __init__(self, sync: Sync) -> None:
        assert sync.engines is not None
        self._sync = sync
        self._engines = sync.engines
        self.lock = sync.engines.lock
        self.stopping = threading.Event()
        self._applied: dict[int, int | None] = {}

    def feed(self) -> bool | None:
        """Do some of what waits; whether there was any, None when another applier is at it.

        Raises:
            EngineDown: an engine does not answer; nothing is lost.
            ConflictError: within a transaction, whose changes nobody else may see yet.
        """
        if self._sync.catalog.in_transaction:
            raise ConflictError("remotes: an engine cannot be fed within a transaction; do it after the commit")
        try:
            self.lock.acquire(0)
        except StoreBusy:
            return None
        try:
            return self._some()
        finally:
            self.lock.release()

    def _some(self) -> bool:
        done, problem = False, None
        for space in self._wanted():
            for row in self._remotes(space):
                if self.stopping.is_set():
                    return done
                try:
                    done = self._feed_one(space, row) or done
                except EngineDown as error:
                    problem = error
                    self._hold(row, str(error))
        if problem is not None:
            raise problem
        return done

    def _wanted(self) -> list[SpaceRow]:
        with self._sync.catalog.read() as connection:
            found = spaces.all_spaces(connection)
        return [space for space in found if self._engines.address(space.kind) is not None]

    def _remotes(self, space: SpaceRow) -> list[RemoteRow]:
        """The remotes to feed; made first where there should be one."""
        address = self._engines.address(space.kind)
        assert address is not None
        with self._sync.catalog.read() as connection:
            found = rows.remotes_of(connection, address.name, space.id)
            live = 0 if found else len(spaces.live_map(connection, space.id)[0])
        if found:
            return found
        if not live or (space.kind not in self._engines.by_kind and live < PUBLISH_ROWS):
            return []
        self.begin(space)
        return self._remotes(space)

    def begin(self, space: SpaceRow) -> None:
        """Begin to fill a new collection with a space."""
        address = self._engines.address(space.kind)
        assert address is not None
        fields = fields_of(self._sync.table(space.kind).schema)
        name = f"vs_{space.name.replace('.', '_')}_{secrets.token_hex(6)}"
        with self._sync.catalog.write() as transaction:
            rows.make_remote(transaction.connection, space.id, address.name, name, fields, transaction.seq)
            transaction.quiet()

    # -- one remote ------------------------------------------------------------------------------------------------

    def _feed_one(self, space: SpaceRow, row: RemoteRow) -> bool:
        engine = self._engines.engine(space, row)
        if row.status == rows.LEAVING:
            engine.drop()
            self._drop(row)
            return True
        if self._applied.get(row.id, -1) != row.applied or row.sending is not None:
            if not self._take_over(space, row, engine):
                return True
            self._applied[row.id] = row.applied
        if row.filled < row.top:
            return self._fill(space, row, engine)
        with self._sync.catalog.read() as connection:
            batch = rows.waiting(connection, row.id, BATCH)
        if batch:
            self._send(space, row, engine, batch, row.filled)
        if row.status == rows.FILLING and len(batch) < BATCH:  # however much is written, it becomes current
            self._activate(space, row, engine)
            return True
        if batch:
            return True
        if row.held:
            self._hold(row, "")
        return False

    def _take_over(self, space: SpaceRow, row: RemoteRow, engine: VectorIndex) -> bool:
        """Whether the collection is what the catalog was told; else it is fed anew."""
        if row.sending is not None:
            left = row.sent_at / 1e6 + engine.caps.patience - time.time()
            if left > 0 and self.stopping.wait(min(left, engine.caps.patience)):
                return False
        there = engine.exists()
        if not there and row.applied is None:
            engine.make()
            there = True
        stamp = None
        if there:
            engine.make()  # loaded, if the server was started anew
            stamp = engine.versions(STAMP, STAMP + 1).get(STAMP)
        if there and stamp in (row.applied, row.sending):
            return True
        log.warning(
            "%s, collection %s: does not hold what this catalog was told it does (a restored catalog, or an engine "
            "that lost data); %s is fed anew, and the collection, if it is there, left as it is",
            *(row.address, row.collection, space.name),
        )
        self._drop(row)
        self.begin(space)
        return False

    def _drop(self, row: RemoteRow) -> None:
        with self._sync.catalog.write() as transaction:
            rows.drop_remote(transaction.connection, row.id)
            transaction.quiet()
        self._engines.forget(row.id)
        self._applied.pop(row.id, None)

    def _hold(self, row: RemoteRow, why: str) -> None:
        """Keep why nothing is sent; the store may be busy, and then it is not kept."""
        if why == row.held:
            return
        try:
            with self._sync.catalog.write() as transaction:
                rows.change_remote(transaction.connection, row.id, held=why)
                transaction.quiet()
        except StoreBusy:
            log.warning("%s: %s", row.collection, why)

    def _fill(self, space: SpaceRow, row: RemoteRow, engine: VectorIndex) -> bool:
        with self._sync.catalog.read() as connection:
            vids = rows.live_between(connection, space.id, row.filled, row.top, BATCH)
        upto = vids[-1] if len(vids) == BATCH else row.top
        self._send(space, row, engine, [Waiting(vid, -1, True) for vid in vids], upto)
        return True

    def _send(self, space: SpaceRow, row: RemoteRow, engine: VectorIndex, batch: list[Waiting], filled: int) -> None:
        made = self._rows_of(space, row, [each.vid for each in batch])
        present = set(made.vids.tolist())
        gone = [each.vid for each in batch if each.vid not in present]
        moving = [each.vid for each in batch if not each.fresh]
        token, now = secrets.randbits(62), time.time_ns() // 1000
        with self._sync.catalog.write() as transaction:
            connection = transaction.connection
            moves = row.moves + bool(moving)
            if moving:
                rows.note_move(connection, row.id, moves, moving, now)
            rows.change_remote(connection, row.id, sending=token, sent_at=now, moves=moves)
            transaction.quiet()
        self._applied.pop(row.id, None)  # until it is marked, nobody knows what has arrived
        at = engine.remove(gone) if gone else 0
        at = max(at, engine.add(made, token))
        with self._sync.catalog.write() as transaction:
            rows.delivered(transaction.connection, row.id, batch)
            rows.change_remote(
                transaction.connection,
                row.id,
                applied=token,
                sending=None,
                since=max(row.since, at),
                filled=filled,
                held="",
            )
            transaction.quiet()
        self._applied[row.id] = token

    def _rows_of(self, space: SpaceRow, row: RemoteRow, vids: list[int]) -> Rows:
        while True:
            with self._sync.catalog.read() as connection:
                try:
                    live = self._sync.state(space.name).current(connection, expired=True)
                except SnapshotMoved:
                    continue
                fields = [name for name, _, _ in row.fields]
                known = rows.states_of(connection, space.id, self._sync.table(space.kind), vids, fields)
                assert live is not None  # there were vectors to feed
                found, vectors = live.vectors_of(np.array(sorted(known), dtype=np.int64))
            return rows_of(found, vectors, known, space.metric)

    # -- becoming current ------------------------------------------------------------------------------------------

    def _activate(self, space: SpaceRow, row: RemoteRow, engine: VectorIndex) -> None:
        """Measure what it delivers, and let it answer from one commit on."""
        engine.settle(SETTLE)
        with self._sync.catalog.read() as connection:
            row = rows.remote(connection, row.id) or row  # up to which time a search must see is newer now
        curve = curve_of(self._sync, space, row, engine)
        if curve is None:
            return
        if curve.best < 0.9:
            log.warning(
                "%s, collection %s: measured recall@10 is only %.3f at the highest effort; searches that want more are "
                "answered exactly (is the server's interim index on? see docs/scale.md)",
                *(row.address, row.collection, curve.best),
            )
        with self._sync.catalog.write() as transaction:
            connection = transaction.connection
            for other in rows.remotes_of(connection, row.address, space.id):
                if other.id != row.id and other.status == rows.CURRENT:
                    rows.change_remote(connection, other.id, status=rows.LEAVING)
            rows.change_remote(connection, row.id, status=rows.CURRENT, curve=json.dumps(curve.to_dict()))
            retire_index(self._sync, transaction, space.name)
            transaction.notes.append(("publish", {"space": space.name, "recipe": row.address, "rows": row.filled}))
            transaction.record("publish", space.kind, space=space.name, recipe=row.address)


def mend(sync: Sync) -> None:
    """Have everything that differs told again, and tell it.

    Raises:
        EngineDown: an engine does not answer.
    """
    assert sync.engines is not None  # its findings are mended
    for space, row in current_remotes(sync):
        proof = prove(sync, sync.engines.lock, space, row, sync.engines.engine(space, row))
        with sync.catalog.write() as transaction:
            rows.put_back(transaction.connection, row.id, proof.vids, transaction.seq, transaction.now)
            transaction.quiet()
    feeder = Feeder(sync)
    while feeder.feed():
        pass
