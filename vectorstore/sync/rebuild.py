"""Rebuilding an index: small segments merged, quality measured before and after."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.recipes import Auto, IndexRecipe
from vectorstore.storage import spaces as rows
from vectorstore.sync.auto import Trial, rebuild_best
from vectorstore.sync.compact import compact
from vectorstore.sync.core import INDEX, Sync
from vectorstore.sync.publish import Also, publish, snapshot
from vectorstore.sync.telling import Progress
from vectorstore.sync.write import flush
from vectorstore.vectors import Live, library
from vectorstore.vectors.fed import answered_by
from vectorstore.vectors.measure import held_out

MANY_SEGMENTS = 4
"""With more segments than this, building an index merges them first: each costs a search some ten microseconds."""


@dataclass(frozen=True)
class Quality:
    """How a space answers: recall@10 against exact, median milliseconds a query on one thread, bytes of the index."""

    recipe: str
    recall: float
    milliseconds: float
    bytes: int


@dataclass(frozen=True)
class RebuildReport:
    """What a rebuild changed."""

    space: str
    rows: int
    seconds: float
    before: Quality
    after: Quality
    trials: tuple[Trial, ...] = ()


def rebuild(sync: Sync, space_name: str, recipe: IndexRecipe | Auto, progress: Progress | None = None) -> RebuildReport:
    """Build the recipe's index over all vectors of a space and make it current; with `Auto`, the best of several.

    Raises:
        ValidationError: the space has no vectors.
        RecallTooLow: the measured recall is below the recipe's minimum; the old index stays.
        Superseded: somebody compacted or published meanwhile; try again.
        LibraryMissing: FAISS cannot be imported, and the recipe needs it.
    """
    flush(sync, space_name)
    live = snapshot(sync, space_name)
    if live is None or not live.live_rows:
        raise ValidationError(f"{space_name}: there are no vectors to index; add records with text or vectors first")
    before = quality(sync, space_name, live)
    started = time.perf_counter()
    trials: tuple[Trial, ...] = ()
    if isinstance(recipe, Auto):
        if len(live.segments) - 1 > MANY_SEGMENTS:
            compact(sync, space_name)
        trials = tuple(rebuild_best(sync, space_name, recipe, progress))
    else:
        refresh(sync, space_name, recipe, live, progress)
    seconds = time.perf_counter() - started
    after = snapshot(sync, space_name)
    assert after is not None  # it had vectors before
    return RebuildReport(space_name, live.live_rows, seconds, before, quality(sync, space_name, after), trials)


def refresh(
    sync: Sync,
    space_name: str,
    recipe: IndexRecipe,
    live: Live,
    progress: Progress | None = None,
    also: Also | None = None,
) -> None:
    """Make the recipe's index current, merging segments in the same commit when there are many.

    `also` is done in that commit.
    """
    if len(live.segments) - 1 > MANY_SEGMENTS and recipe.factory != "exact":
        library()  # raises where FAISS is missing, before any segment is rewritten
        compact(sync, space_name, also, recipe=recipe, progress=progress)
    else:
        publish(sync, space_name, recipe, live, progress, also)


def quality(sync: Sync, space_name: str, live: Live, queries: int = 40) -> Quality:
    """Recall@10 and latency over held-out queries, through the plan that a search would take."""
    with sync.catalog.read() as connection:
        space = rows.space_by_name(connection, space_name)
        artifact = None if space is None else rows.artifact_of(connection, space.id, INDEX)
    sample = held_out(live.segments, live.metric, queries)[0]
    k = min(10, live.live_rows)
    seconds, shares = [], []
    for query in sample:
        started = time.perf_counter()
        found = live.search(query, k)
        seconds.append(time.perf_counter() - started)
        expected = live.search(query, k, exact=True)
        shares.append(len(np.intersect1d(found.vids, expected.vids)) / k)
    recipe = answered_by(live)
    size = artifact.size if artifact is not None and live.index is not None else 0
    return Quality(recipe, float(np.mean(shares)), float(np.median(seconds)) * 1000, size)
