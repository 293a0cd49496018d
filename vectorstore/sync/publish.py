"""Indexes: built outside any lock, measured, then published by compare-and-swap.

An index may become current only if the segments it was built over are still the store's, and nobody has published a
newer one meanwhile; both are checked in the transaction that publishes it. The old file is unlinked after the commit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from vectorstore.errors import RecallTooLow, Superseded
from vectorstore.files import sha256
from vectorstore.recipes import IndexRecipe
from vectorstore.storage import Connection, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.sync.core import INDEX, SnapshotMoved, Sync
from vectorstore.sync.telling import Progress
from vectorstore.vectors import Curve, Index, Live, Segment, build, has_faiss, library, measure, to_bytes

T = TypeVar("T")
Also = Callable[[Transaction], None]
"""Done in the transaction that makes an index current."""

PUBLISH_ROWS = 10_000
"""Below so many vectors an exact scan takes about half a millisecond and no index is published by itself."""


def publish(
    sync: Sync,
    space_name: str,
    recipe: IndexRecipe,
    live: Live,
    progress: Progress | None = None,
    also: Also | None = None,
) -> None:
    """Build, measure, write and swap in an index over a snapshot's segments; pending vectors stay in the tail."""
    if recipe.factory == "exact":
        with sync.catalog.write() as transaction:
            retire_index(sync, transaction, space_name)
            transaction.notes.append(("publish", {"space": space_name, "recipe": recipe.name, "rows": 0}))
            transaction.record("publish", _kind(space_name), space=space_name, recipe=recipe.name, vectors=0)
            if also is not None:
                also(transaction)
        return
    segments = live.segments[:-1]
    started = time.perf_counter()
    index, curve = build_index(recipe, segments, live.metric, progress)
    data = to_bytes(index)
    seconds = time.perf_counter() - started
    with sync.catalog.write() as transaction:
        pass_on = commit_index(
            sync, transaction, space_name, live, [s.id for s in segments], index, curve, data, seconds
        )
        transaction.notes.append(("publish", pass_on))
        if also is not None:
            also(transaction)


def build_index(
    recipe: IndexRecipe, segments: tuple[Segment, ...], metric: str, progress: Progress | None
) -> tuple[Index, Curve]:
    """An index and its operating curve.

    Raises:
        RecallTooLow: its best measured recall is below the recipe's minimum.
    """
    index = build(recipe, segments, metric)
    curve = measure(index, segments, metric, progress)
    if curve.best < recipe.min_recall:
        raise RecallTooLow(
            f"{recipe.name}: measured recall {curve.best:.4f}, its min_recall is {recipe.min_recall:g}; "
            "the old index stays; raise the recipe's points or lower min_recall"
        )
    return index, curve


def commit_index(
    sync: Sync,
    transaction: Transaction,
    space_name: str,
    live: Live,
    segments: list[int],
    index: Index,
    curve: Curve,
    data: memoryview,
    seconds: float,
) -> dict[str, object]:
    """Name the index in the catalog, if what it was built over still stands.

    Raises:
        Superseded: the segments are gone, or a newer index is current.
    """
    connection = transaction.connection
    space = rows.space_by_name(connection, space_name)
    assert space is not None  # it had vectors
    present = {row.id for row in rows.segments_of(connection, space.id)}
    current = rows.artifact_of(connection, space.id, INDEX)
    if not set(segments) <= present:
        raise Superseded(f"{space_name}: the segments were compacted while the index was built; rebuild again")
    if current is not None and current.built_seq > live.seq:
        raise Superseded(f"{space_name}: a newer index was published meanwhile; it was kept")
    folder = sync.folder("indexes", space_name)
    token = sha256(data)[:8]
    name = f"{index.recipe.name}.{transaction.seq}.{token}.faiss"
    info = folder.publish(name, [data])
    transaction.undo.append(lambda: folder.remove(name))
    if current is not None:
        sync.let_go(transaction, "indexes", space_name, current.file)
    rows.replace_artifact(
        connection,
        space.id,
        INDEX,
        recipe=index.recipe.to_dict(),
        segments=segments,
        rows=index.rows,
        points=curve.to_dict(),
        library=library(),
        info=info,
        built_seq=live.seq,
        built_at=transaction.now,
        seconds=seconds,
    )
    rows.touch_layout(connection, space.id, transaction.seq)
    transaction.record(
        "publish", _kind(space_name), space=space_name, recipe=index.recipe.name, vectors=index.rows, sha256=info.sha256
    )
    return {"space": space_name, "recipe": index.recipe.name, "rows": index.rows}


def _kind(space_name: str) -> str:
    return space_name.partition(".")[0]


def retire_index(sync: Sync, transaction: Transaction, space_name: str) -> None:
    """Drop the current index; the space is searched exactly from the commit on."""
    space = rows.space_by_name(transaction.connection, space_name)
    current = None if space is None else rows.artifact_of(transaction.connection, space.id, INDEX)
    if space is None or current is None:
        return
    rows.drop_artifact(transaction.connection, space.id, INDEX)
    rows.touch_layout(transaction.connection, space.id, transaction.seq)
    sync.let_go(transaction, "indexes", space_name, current.file)


def snapshot(sync: Sync, space_name: str) -> Live | None:
    """The space at the newest commit, with what has expired and is not purged yet."""
    return newest(sync, space_name, lambda _, live: live)


def newest(sync: Sync, space_name: str, look: Callable[[Connection, Live | None], T]) -> T:
    """What is seen at the newest commit: in the catalog, and in the space's snapshot as of the same."""
    while True:
        with sync.catalog.read() as connection, contextlib.suppress(SnapshotMoved):
            return look(connection, sync.state(space_name).current(connection, expired=True))


def wants_index(live: Live | None) -> bool:
    """Whether so much is scanned exactly that an index (or a newer one) pays, and one can be built."""
    if live is None or live.fed is not None:
        return False
    indexed = live.index.rows if live.index is not None else 0
    return live.rows - indexed >= max(PUBLISH_ROWS, indexed // 4) and has_faiss()
