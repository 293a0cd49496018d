"""Proof that an engine outside holds what the catalog says: every row, compared both ways.

A row's mark is a digest of its vid, its vector and its fields, so an equal mark is an equal row; a vid that one side
has and the other has not is found as well. That the engine keeps what the mark is of is proved on rows here and there,
which are read back whole. What waits to be sent is left out: there the engine is known to be behind.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vectorstore.engines import MAX_BYTES, Rows, VectorIndex, marks_of
from vectorstore.errors import VectorstoreError
from vectorstore.records import Value
from vectorstore.storage import SpaceRow, spaces
from vectorstore.storage import remotes as rows
from vectorstore.storage.lock import WriteLock
from vectorstore.storage.remotes import RemoteRow
from vectorstore.sync.core import SnapshotMoved, Sync
from vectorstore.sync.telling import Progress
from vectorstore.vectors import Matrix, Vids, as_unit

STEP = 16_384
"""Vids compared at once; between two steps the applier may work."""

WHOLE = 128
"""Vids of a step whose rows are read back whole."""


@dataclass(frozen=True)
class Proof:
    """What a comparison found.

    Attributes:
        compared: rows looked at.
        missing: live vids that the engine has not.
        surplus: vids that it has and that are not live.
        different: vids whose vector or fields it has otherwise.
        unknown: rows that it has beyond all vids that the catalog ever gave out.
    """

    compared: int
    missing: tuple[int, ...]
    surplus: tuple[int, ...]
    different: tuple[int, ...]
    unknown: int

    @property
    def vids(self) -> tuple[int, ...]:
        """All that differ."""
        return (*self.missing, *self.surplus, *self.different)

    @property
    def ok(self) -> bool:
        """Nothing differs."""
        return not self.vids and not self.unknown


def prove(
    sync: Sync, lock: WriteLock, space: SpaceRow, row: RemoteRow, engine: VectorIndex, progress: Progress | None = None
) -> Proof:
    """Compare a collection with the catalog.

    Args:
        sync: the store's parts.
        lock: the applier's: nobody feeds while a step is compared.
        space: that feeds it.
        row: the remote.
        engine: its collection.
        progress: told (vids done, vids).

    Raises:
        EngineDown: the engine does not answer.
        StoreBusy: the applier did not let go.

    Cost: two strong reads and one scan of the catalog and the vectors for each 16,384 vids.
    """
    found: dict[str, list[int]] = {"missing": [], "surplus": [], "different": []}
    compared, held, low, last, first = 0, 0, 1, False, _batch(sync, row)
    with ThreadPoolExecutor(2, "vectorstore-proof") as pool:
        while not last:
            lock.acquire()
            try:
                newest = sync.catalog.newest("SELECT next_vid FROM state") or 0
                some = random.randint(low, max(low, min(newest, low + STEP) - WHOLE))
                marks = pool.submit(engine.versions, low, low + STEP)  # both answer while the catalog is read
                back = pool.submit(engine.snapshot, some, some + WHOLE)
                top, live, waits = _expected(sync, space, row, low)
                has, whole = marks.result(), back.result()
                last = low + STEP > top
                unknown = engine.count() - held - len(has) if last else 0
            finally:
                lock.release()
            held += len(has)
            compared += len(live.keys() | has.keys())
            found["missing"] += [vid for vid in live if vid not in has]
            found["surplus"] += [vid for vid in has if vid not in live and vid not in waits]
            unlike = {vid for vid, mark in live.items() if has.get(vid, mark) != mark}
            found["different"] += unlike | {vid for vid, mark in _read_back(whole) if live.get(vid, mark) != mark}
            low += STEP
            if progress is not None:
                progress(min(low, top), top)
    if unknown and _batch(sync, row) != first:
        unknown = 0  # counted while batches went by: a look at a moment without them will tell
    missing, surplus, different = (tuple(sorted(found[name])) for name in ("missing", "surplus", "different"))
    return Proof(compared, missing, surplus, different, max(0, unknown))


def _read_back(rows: Rows) -> Iterator[tuple[int, int]]:
    """(vid, digest of what came back), but for rows with a text that was cut: their digest is of the whole text."""
    digests = marks_of(rows.vids.tolist(), rows.vectors, rows.values).tolist()
    for vid, digest, values in zip(rows.vids.tolist(), digests, rows.values, strict=True):
        if not any(isinstance(value, str) and len(value.encode()) > MAX_BYTES - 4 for value in values):
            yield vid, digest


def _batch(sync: Sync, row: RemoteRow) -> object:
    return sync.catalog.newest("SELECT applied FROM _remotes WHERE id = ?", (row.id,))


def _expected(sync: Sync, space: SpaceRow, row: RemoteRow, low: int) -> tuple[int, dict[int, int], set[int]]:
    """(the highest vid there can be, vid -> mark that the engine should have from `low` on, those that wait)."""
    while True:
        with sync.catalog.read() as connection:
            try:
                live = sync.state(space.name).current(connection, expired=True)
            except SnapshotMoved:
                continue
            top = connection.execute("SELECT next_vid FROM state").fetchone()[0]
            waits = rows.waiting_vids(connection, row.id)
            vids = rows.live_between(connection, space.id, low - 1, low + STEP - 1, STEP)
            listed = [vid for vid in vids if vid > row.filled] if row.filled < row.top else []
            told = np.setdiff1d(np.array(vids, dtype=np.int64), np.concatenate([waits, np.array(listed, np.int64)]))
            fields = [name for name, _, _ in row.fields]
            values = rows.states_of(connection, space.id, sync.table(space.kind), told.tolist(), fields)
            if live is None or not len(told):
                return top, {}, set(waits.tolist())
            found, vectors = live.vectors_of(told)
        made = rows_of(found, vectors, values, space.metric)
        return top, dict(zip(made.vids.tolist(), made.marks.tolist(), strict=True)), set(waits.tolist())


def rows_of(vids: Vids, vectors: Matrix, values: Mapping[int, tuple[Value, ...]], metric: str) -> Rows:
    """Vectors of a space as an engine is sent them, by ascending vid."""
    order = np.argsort(vids)
    ready = np.ascontiguousarray(as_unit(vectors[order]) if metric == "cosine" else vectors[order], np.float32)
    ordered = [values[vid] for vid in vids[order].tolist()]
    return Rows(vids[order], ready, marks_of(vids[order].tolist(), ready, ordered), ordered)


def current_remotes(sync: Sync) -> list[tuple[SpaceRow, RemoteRow]]:
    """The collections that answer for spaces in this process."""
    if sync.engines is None:
        return []
    with sync.catalog.read() as connection:
        found = []
        for space in spaces.all_spaces(connection):
            address = sync.engines.address(space.kind)
            row = None if address is None else rows.current_remote(connection, address.name, space.id)
            if row is not None:
                found.append((space, row))
        return found


def problems(sync: Sync) -> Iterator[tuple[str, str, str]]:
    """(collection, what is wrong, what to do) of all engines that answer in this process.

    Within a write transaction nothing is compared: the applier may wait for that very transaction.
    """
    if sync.engines is None or sync.catalog.in_transaction:
        return
    for space, row in current_remotes(sync):
        where = f"{row.address} {row.collection}"
        try:
            proof = prove(sync, sync.engines.lock, space, row, sync.engines.engine(space, row))
        except VectorstoreError as error:
            yield where, f"cannot be compared: {error}", "answers do without it; check again when it is up"
            continue
        for name in ("missing", "surplus", "different"):
            vids = getattr(proof, name)
            if vids:
                yield where, f"{len(vids)} rows are {name}: vids {list(vids[:5])}", "run: vectorstore check --repair"
        if proof.unknown:
            yield where, f"it has {proof.unknown} rows beyond all vids", "feed it anew: store.remotes.renew(kind)"
