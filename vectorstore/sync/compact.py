"""Compaction: retired vectors leave the disk, small segments are merged, all by one commit.

New segments and, where there was one, a new index are built and published first; one transaction then swaps them for
the old ones (and, for a purge, erases the records); the old files are unlinked after it. A crash before the commit
leaves the old state and some unnamed files, after it the new state and some unnamed files. An index that nobody asks
for here is kept as long as its recipe can be built over what is left.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vectorstore.errors import RecallTooLow, RecipeError
from vectorstore.files import FileInfo
from vectorstore.recipes import IndexRecipe
from vectorstore.storage import Connection, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.sync.core import INDEX, Sync
from vectorstore.sync.publish import build_index, commit_index, newest, retire_index, snapshot
from vectorstore.sync.reviving import drop_outlived
from vectorstore.sync.telling import Progress
from vectorstore.sync.write import flush, name_segment, published
from vectorstore.vectors import (
    Curve,
    Index,
    Live,
    Matrix,
    Segment,
    Vids,
    file_name,
    open_segment,
    rows_per_segment,
    segment_chunks,
    to_bytes,
)

log = logging.getLogger("vectorstore")
Doomed = Callable[[Connection], Sequence[int]]
_ATTEMPTS = 3
SMALL_ROWS = 65_536
"""Segments with fewer rows are merged; bigger ones are only rewritten when they hold retired vectors."""


@dataclass(frozen=True)
class CompactReport:
    """What compaction did to one space."""

    space: str
    vectors_removed: int
    vectors_kept: int
    segments_before: int
    segments_after: int
    bytes_before: int = 0
    bytes_after: int = 0

    @property
    def bytes_saved(self) -> int:
        """Of segments, index and vectors that waited in the catalog; below 0 when a new index is bigger than that.

        While history is kept the disk gets them back later.
        """
        return self.bytes_before - self.bytes_after


def compact(
    sync: Sync,
    space_name: str,
    also: Callable[[Transaction], None] | None = None,
    progress: Progress | None = None,
    doomed: Doomed | None = None,
    recipe: IndexRecipe | None = None,
) -> CompactReport | None:
    """Rewrite a space without its retired vectors; None when it has no vectors.

    The last vector of a deleted record stays, so that it can be restored with it.

    Args:
        sync: the store's parts.
        space_name: which space.
        also: done in the same transaction, such as erasing the records of a purge.
        progress: told (segments written, segments to write).
        doomed: deleted records that a purge is about to erase; their vectors go too.
        recipe: build this index over the result; None builds the current one's recipe again, if there is one, and
            drops the index where that needs more vectors than are left, or misses its recall over them.

    Raises:
        RecipeError, RecallTooLow: the recipe that is asked for does not fit what is left; nothing was changed.

    Cost: writers go on meanwhile; if they change the segments under it three times, they wait for the fourth attempt.
    """
    size = _bytes_of(sync, space_name)
    for attempt in range(_ATTEMPTS + 1):
        with contextlib.nullcontext() if attempt < _ATTEMPTS else sync.catalog.write():
            before = snapshot(sync, space_name)
            flush(sync, space_name)  # drops retired vectors that were still waiting in the catalog
            plan = newest(sync, space_name, partial(_planned, sync, space_name, doomed))
            if plan is None:
                if also is not None:
                    with sync.catalog.write() as transaction:
                        also(transaction)
                return None
            report = _attempt(sync, space_name, plan, also, progress, doomed, recipe)
            if report is not None:
                dropped = 0 if before is None else max(0, before.rows - plan.live.rows)
                removed, now = report.vectors_removed + dropped, _bytes_of(sync, space_name)
                return replace(report, vectors_removed=removed, bytes_before=size, bytes_after=now)
    raise AssertionError("nobody else can write while this holds the write lock")


def wasted(sync: Sync, connection: Connection, space: SpaceRow) -> tuple[int, int]:
    """(vectors on disk that compaction would drop, vectors on disk); from the catalog alone."""
    total = sum(segment.rows for segment in rows.segments_of(connection, space.id))
    total += rows.pending_count(connection, space.id)
    held = connection.execute(
        "SELECT count(*) FROM vectors WHERE space = ? AND retired IS NULL", (space.id,)
    ).fetchone()
    spared, _ = rows.restorable_vids(connection, space.id, sync.table(space.kind).table)
    return max(0, total - int(held[0]) - len(spared)), total


def _bytes_of(sync: Sync, space_name: str) -> int:
    """Bytes of a space's files, and of its vectors that wait in the catalog."""
    with sync.catalog.read() as connection:
        space = rows.space_by_name(connection, space_name)
        if space is None:
            return 0
        artifact = rows.artifact_of(connection, space.id, INDEX)
        waiting = rows.pending_count(connection, space.id) * space.dim * 4
        files = sum(segment.size for segment in rows.segments_of(connection, space.id))
    return waiting + files + (0 if artifact is None else artifact.size)


def _attempt(
    sync: Sync,
    space_name: str,
    plan: _Plan,
    also: Callable[[Transaction], None] | None,
    progress: Progress | None,
    doomed: Doomed | None,
    recipe: IndexRecipe | None,
) -> CompactReport | None:
    live = plan.live
    old, masks = _to_rewrite(plan)
    kept = [segment for segment in live.segments[:-1] if segment.id not in {o.id for o in old}]
    folder = sync.folder("embeddings", space_name)
    written: list[tuple[FileInfo, Segment]] = []

    def discard() -> None:
        for info, _ in written:
            folder.remove(info.name)

    generation = live.seq - sync.catalog.in_transaction
    try:
        step = rows_per_segment(live.dim)
        total = -(-sum(int(mask.sum()) for mask in masks) // step)
        for ids, vectors, vids in _survivors(old, masks, step):
            info = published(folder, file_name(generation, uuid.uuid4().hex[:16]), segment_chunks(ids, vectors, vids))
            made = open_segment(
                folder.read(info.name), id=-1, file=info.name, rows=len(vids), dim=live.dim, first_vid=None
            )
            written.append((info, made))
            if progress is not None:
                progress(len(written), total)
        segments = (*kept, *(segment for _, segment in written))
        started = time.perf_counter()
        index, curve = _index_over(segments, live, recipe) if old else (None, None)
        data = to_bytes(index) if index is not None else None
        seconds = time.perf_counter() - started
    except BaseException:
        discard()
        raise
    with sync.catalog.write(undo=discard) as transaction:
        space = rows.space_by_name(transaction.connection, space_name)
        # A purge must neither erase what was deleted since, for the new segments hold its vectors, nor what came back
        # since and was deleted again, for its newest vectors may be in a segment that was not looked at.
        if (
            space is None
            or space.layout != live.layout
            or _erased(transaction.connection, space, doomed) != plan.erased
        ):
            transaction.after.append(discard)
            return None
        if also is not None:
            also(transaction)
        if old:
            gone = np.concatenate([s.vids[~mask] for s, mask in zip(old, masks, strict=True)])
            rows.drop_segments(transaction.connection, [segment.id for segment in old])
            rows.drop_vectors(transaction.connection, gone)
            drop_outlived(transaction, space)
            new = [name_segment(sync, transaction, space, made.rows, None, info) for info, made in written]
            if index is not None and curve is not None and data is not None:
                order = [*(segment.id for segment in kept), *new]
                commit_index(sync, transaction, space_name, live, order, index, curve, data, seconds)
            elif rows.artifact_of(transaction.connection, space.id, INDEX) is not None:
                retire_index(sync, transaction, space_name)
            rows.touch_layout(transaction.connection, space.id, transaction.seq)
            for segment in old:
                sync.let_go(transaction, "embeddings", space_name, segment.file)
            transaction.notes.append(("persist", {"space": space_name, "rows": sum(s.rows for s in segments)}))
            transaction.record("compact", space.kind, space=space_name, removed=len(gone))
        else:
            gone = np.empty(0, np.int64)
    return CompactReport(space_name, len(gone), live.live_rows, len(live.segments) - 1, len(kept) + len(written))


def _index_over(
    segments: tuple[Segment, ...], live: Live, recipe: IndexRecipe | None
) -> tuple[Index, Curve] | tuple[None, None]:
    """The recipe's index and its curve; the current one's again where none is asked for, as long as it can be built.

    Raises:
        RecipeError, RecallTooLow: the recipe that is asked for does not fit what is left.
    """
    chosen = recipe or (live.index.recipe if live.index is not None else None)
    if chosen is None or not sum(segment.rows for segment in segments):
        return None, None
    try:
        return build_index(chosen, segments, live.metric, None)
    except (RecipeError, RecallTooLow):
        if recipe is not None:
            raise
        # Nobody asked for it here; where an index pays again, the upkeep publishes one.
        log.info("no index of the recipe %s fits what is left; answers are exact", chosen.name)
        return None, None


Erased = tuple[list[int], list[int]]
"""(records that a purge erases, all vids that are or were theirs), both ascending."""


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is to be rewritten, as of one commit; `spared` are retired vids that a restore may need, ascending."""

    live: Live
    spared: Vids
    erased: Erased


def _planned(
    sync: Sync, space_name: str, doomed: Doomed | None, connection: Connection, live: Live | None
) -> _Plan | None:
    space = rows.space_by_name(connection, space_name)
    if live is None or space is None:
        return None
    erased = _erased(connection, space, doomed)
    vids, records = rows.restorable_vids(connection, space.id, sync.table(space.kind).table)
    return _Plan(live, vids[~np.isin(records, erased[0])], erased)


def _erased(connection: Connection, space: SpaceRow, doomed: Doomed | None) -> Erased:
    if doomed is None:
        return [], []
    records = sorted(doomed(connection))
    return records, sorted(vid for vid, _ in rows.every_vector(connection, space.id, records))


def _to_rewrite(plan: _Plan) -> tuple[list[Segment], list[np.ndarray]]:
    """Segments with retired rows, and small ones if there are several; with a mask of the rows to keep."""
    chosen, masks = [], []
    live = plan.live
    dead = live.retire(np.array(plan.erased[1], dtype=np.int64))
    if dead is not None:
        dead = dead.copy()
        dead[live.positions_of(plan.spared)] = False
    small = [segment for segment in live.segments[:-1] if segment.rows < SMALL_ROWS]
    for segment, offset in zip(live.segments[:-1], live.offsets, strict=False):
        keep = np.ones(segment.rows, dtype=bool)
        if dead is not None:
            keep = ~dead[offset : offset + segment.rows]
        if not keep.all() or (len(small) > 1 and segment.rows < SMALL_ROWS):
            chosen.append(segment)
            masks.append(keep)
    return chosen, masks


def _survivors(
    old: list[Segment],
    masks: list[np.ndarray],
    step: int,
) -> Iterator[tuple[list[str], Matrix, Vids]]:
    """(ids, vectors, vids) of the rows to keep, by ascending vid, at most `step` rows at a time."""
    if not old:
        return
    vids = np.concatenate([segment.vids[mask] for segment, mask in zip(old, masks, strict=True)])
    owners = np.repeat(np.arange(len(old)), [int(mask.sum()) for mask in masks])
    places = np.concatenate([np.flatnonzero(mask) for mask in masks])
    order = np.argsort(vids, kind="stable")
    for start in range(0, len(order), step):
        part = order[start : start + step]
        vectors = np.empty((len(part), old[0].vectors.shape[1]), dtype=np.float32)
        ids = np.empty(len(part), dtype=object)
        for owner in np.unique(owners[part]):
            here = np.flatnonzero(owners[part] == owner)
            segment = old[owner]
            vectors[here] = segment.vectors[places[part][here]]
            assert segment.ids is not None  # it came from a file
            ids[here] = segment.ids[places[part][here]]
        yield [str(name) for name in ids], vectors, vids[part]
