"""Vectors on their way into the store.

Small batches wait in the catalog (`pending`), committed with their records; large ones are published as segments
*before* the commit that names them, so that the transaction stays short. `stage` runs without any lock, `attach`
inside the transaction, `discard` when it did not happen. Segments are written by a thread of their own: checksums, disk
and fsync leave the interpreter free, so the caller goes on with the records, and `attach` waits for the last of it.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from vectorstore.errors import SpaceMismatch, StoreError
from vectorstore.files import Buffer, FileInfo, Folder
from vectorstore.storage import Connection, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.models import mark_stale
from vectorstore.sync.core import Sync
from vectorstore.vectors import Matrix, file_name, rows_per_segment, segment_chunks

DIRECT_ROWS = 1024
"""From so many vectors on, a batch becomes segments of its own; fewer wait in the catalog."""

Files = list[tuple[int, FileInfo]]


@dataclass(frozen=True)
class Origin:
    """Where vectors come from: kept with each of them. `updates` are counted where they are not given."""

    source: str = "caller"
    confidence: float = 1.0
    hashes: Sequence[bytes | None] | None = None
    updates: Sequence[int] | None = None


@dataclass(frozen=True)
class Staged:
    """Vectors that are checked and, when they are many, on disk or on their way there."""

    space: str
    vectors: Matrix
    origin: Origin
    writing: Future[Files] | None = None

    def files(self) -> Files:
        """(rows, file) of each segment, once they are durable; none for few vectors.

        Raises:
            StoreError: the disk refused, or a sweep took them for litter; nothing is left of them.
        """
        return [] if self.writing is None else self.writing.result()

    def discard(self, sync: Sync) -> None:
        """Remove the files: no row names them."""
        if self.writing is not None and self.writing.exception() is None:
            _remove(sync.folder("embeddings", self.space), self.files())


def stage(sync: Sync, space: str, ids: Sequence[str], vectors: Matrix, origin: Origin) -> Staged:
    """Make the vectors ready, as files that are not yet part of the store when they are many."""
    if len(vectors) < DIRECT_ROWS:
        return Staged(space, vectors, origin)
    with sync.catalog.read() as connection:
        generation = committed_seq(sync, connection)
    writer = ThreadPoolExecutor(1, "vectorstore-segments")
    writing = writer.submit(_publish, sync.folder("embeddings", space), generation, ids, vectors)
    writer.shutdown(wait=False)  # it ends by itself
    return Staged(space, vectors, origin, writing)


def _publish(folder: Folder, generation: int, ids: Sequence[str], vectors: Matrix) -> Files:
    step = rows_per_segment(vectors.shape[1])
    files: Files = []
    try:
        for start in range(0, len(vectors), step):
            part = vectors[start : start + step]
            name = file_name(generation, uuid.uuid4().hex[:16])
            files.append((len(part), published(folder, name, segment_chunks(ids[start : start + step], part))))
    except BaseException:
        _remove(folder, files)
        raise
    return files


def published(folder: Folder, name: str, chunks: Iterable[Buffer]) -> FileInfo:
    """Write a file while others may sweep: nothing but the write lock, which a long write does without, stops them.

    Raises:
        StoreError: the disk refused, or a sweep took the half file for litter; nothing is left of it.
    """
    try:
        return folder.publish(name, chunks)
    except FileNotFoundError as error:
        raise StoreError(
            f"{error.filename} was removed while it was written (by a sweep, perhaps); try again"
        ) from error


def _remove(folder: Folder, files: Files) -> None:
    for _, info in files:
        with contextlib.suppress(OSError):  # what a failing disk keeps is swept later
            folder.remove(info.name)


def attach(
    sync: Sync, transaction: Transaction, kind: str, metric: str, staged: Staged, records: Sequence[int]
) -> None:
    """Give the vectors vids and make them the live ones of their records; earlier ones are retired.

    Raises:
        SpaceMismatch: the space was made meanwhile with another dimension.
    """
    connection = transaction.connection
    space = _ensure_space(transaction, staged.space, kind, staged.vectors.shape[1], metric)
    mark_stale(connection, space.name, transaction.seq)
    earlier = rows.live_vectors(connection, space.id, records)
    rows.retire(connection, [vid for vid, _, _ in earlier.values()], transaction.seq)
    first = rows.take_vids(connection, len(records))
    origin = staged.origin
    hashes = origin.hashes or [None] * len(records)
    updates = origin.updates or [earlier[record][2] + 1 if record in earlier else 0 for record in records]
    rows.insert_vectors(connection, space.id, first, records, hashes, origin.source, origin.confidence, updates)
    files = staged.files()
    if not files:
        rows.insert_pending(connection, space.id, range(first, first + len(records)), staged.vectors)
        return
    for count, info in files:
        name_segment(sync, transaction, space, count, first, info)
        first += count


def committed_seq(sync: Sync, connection: Connection) -> int:
    """The last commit's number, for the names of files: a transaction's own would speak of lost commits if it fails."""
    return sync.catalog.seq(connection) - sync.catalog.in_transaction


def name_segment(
    sync: Sync, transaction: Transaction, space: SpaceRow, count: int, first_vid: int | None, info: FileInfo
) -> int:
    """Make a published segment part of the store; its row's id.

    Raises:
        StoreError: it waited so long for its transaction that a sweep took it for litter; nothing was written.
    """
    if sync.folder("embeddings", space.name).stat(info.name) != info.stat:
        raise StoreError(
            f"embeddings/{space.name}/{info.name} was removed before it could be committed (by a sweep, perhaps); "
            "nothing was written; try again"
        )
    return rows.insert_segment(transaction.connection, space.id, count, first_vid, info, transaction.seq)


def _ensure_space(transaction: Transaction, name: str, kind: str, dim: int, metric: str) -> SpaceRow:
    """The space, made if absent.

    Raises:
        SpaceMismatch: it exists with another dimension.
    """
    space = rows.space_by_name(transaction.connection, name)
    if space is None:
        return rows.create_space(transaction.connection, name, kind, dim, metric, transaction.seq, transaction.now)
    if space.dim != dim:
        raise SpaceMismatch(
            f"{name}: the space has {space.dim} dimensions, the vectors have {dim}; nothing was written"
        )
    return space


def flush(sync: Sync, space_name: str) -> int:
    """Move the pending vectors of a space into one segment; returns how many rows left the catalog.

    Raises:
        StoreError: the disk refused, or a sweep took the new file for litter; the vectors wait as before.
    """
    while True:
        with sync.catalog.read() as connection:
            space = rows.space_by_name(connection, space_name)
            if space is None:
                return 0
            vids, vectors = rows.pending_vectors(connection, space.id, space.dim, 0)
            if not len(vids):
                return 0
            table = sync.table(space.kind).table
            dead = set(rows.retired_vids(connection, space.id, -1).tolist())
            dead -= set(rows.restorable_vids(connection, space.id, table)[0].tolist())
            ids = dict(
                connection.execute(
                    f"SELECT v.vid, t.id FROM pending p JOIN vectors v ON v.vid = p.vid "
                    f"JOIN {table} t ON t.row = v.record WHERE p.space = ?",
                    (space.id,),
                ).fetchall()
            )
            generation = committed_seq(sync, connection)
        keep = np.array([int(vid) not in dead for vid in vids], dtype=bool)
        info: FileInfo | None = None
        folder = sync.folder("embeddings", space_name)
        if keep.any():
            chunks = segment_chunks([ids[int(vid)] for vid in vids[keep]], vectors[keep], vids[keep])
            info = published(folder, file_name(generation, uuid.uuid4().hex[:16]), chunks)
        discard = (lambda: None) if info is None else partial(folder.remove, info.name)
        with sync.catalog.write(undo=discard) as transaction:
            present = rows.pending_vectors(transaction.connection, space.id, space.dim, 0)[0]
            if not np.isin(vids, present).all():  # purged, or flushed by somebody else
                transaction.after.append(discard)
                continue
            rows.drop_pending(transaction.connection, vids)
            rows.drop_vectors(transaction.connection, vids[~keep])
            if info is not None:
                name_segment(sync, transaction, space, int(keep.sum()), None, info)
            rows.touch_layout(transaction.connection, space.id, transaction.seq)
            transaction.notes.append(("persist", {"space": space_name, "rows": int(keep.sum())}))
            transaction.record("flush", space.kind, space=space_name, vectors=int(keep.sum()))
        return len(vids)
