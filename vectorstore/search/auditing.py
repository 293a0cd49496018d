"""Does the index still deliver what it promises? Measured on the data as it is now, and kept.

The operating points were measured when the index was published. Rows that came or went since may lie elsewhere; an
audit asks new queries, compares with exact answers, and says so when less is delivered than was asked for.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.ids import to_micros
from vectorstore.records import Where
from vectorstore.results import Page, from_cursor
from vectorstore.search.searcher import Request
from vectorstore.storage import RecordTable
from vectorstore.storage import spaces as rows
from vectorstore.storage.audits import Audit, audits_of, record_audit
from vectorstore.sync import Progress, SnapshotMoved, Sync
from vectorstore.vectors import Live, Matrix
from vectorstore.vectors.fed import answered_by
from vectorstore.vectors.measure import held_out

log = logging.getLogger("vectorstore")
CHURN = 0.25
"""From this share of newer vectors on, an index is worth building anew: every search scans them one by one."""


def audit(
    sync: Sync,
    table: RecordTable[Any],
    space: str,
    request: Request,
    where: Where | None,
    queries: Matrix | None,
    count: int,
    progress: Progress | None = None,
) -> Audit:
    """Ask, compare with exact answers, keep what was found.

    Raises:
        ValidationError: the space has no vectors, or nothing matches the filter.
    """
    while True:
        with sync.catalog.read() as connection:
            try:
                live = sync.state(space).current(connection)
            except SnapshotMoved:
                continue
            if live is None or not live.live_rows:
                raise ValidationError(f"{space}: there are no vectors to audit")
            state, node = sync.state(space), request.node
            allowed = None if node is None else state.allowed(connection, live, table, node)
        break
    if allowed is not None and not len(allowed.positions):
        raise ValidationError(f"{space}: no record with a vector matches the filter {json.dumps(where)}")
    now = sync.catalog.clock()
    asked = _queries(live, count, to_micros(now)) if queries is None else queries
    shares, promised = [], 1.0
    for place, query in enumerate(asked, 1):
        found = live.search(query, request.k, allowed=allowed, recall=request.recall)
        expected = live.search(query, request.k, allowed=allowed, exact=True)
        shares.append(len(np.intersect1d(found.vids, expected.vids)) / max(1, len(expected.vids)))
        promised = min(promised, found.recall)
        if progress is not None:
            progress(place, len(asked))
    delivered, error = float(np.mean(shares)), float(np.std(shares) / math.sqrt(len(shares)))
    indexed = 0 if live.index is None else live.index.rows - live.dead_indexed
    newer = 0.0 if live.index is None else (live.live_rows - indexed) / live.live_rows
    result = Audit(
        index=answered_by(live),
        k=request.k,
        asked=request.recall,
        promised=promised,
        delivered=delivered,
        error=error,
        queries=len(asked),
        rows=live.live_rows,
        newer=newer,
        filter=None if where is None else json.dumps(where),
        seq=live.seq,
        at=now,
        warning=_warning(space, live, request.recall, delivered, error, newer),
    )
    if result.warning:
        log.warning("%s", result.warning)
    if not sync.catalog.read_only:
        with sync.catalog.write() as transaction:
            made = rows.space_by_name(transaction.connection, space)
            assert made is not None  # it has vectors
            record_audit(transaction.connection, made.id, result, to_micros(result.at))
            transaction.record("audit_recall", table.name, space=space, delivered=delivered)
    return result


def history(sync: Sync, space: str, limit: int, after: str | None) -> Page[Audit]:
    """One page of a space's audits, newest first."""
    cursor = from_cursor(after)
    with sync.catalog.read() as connection:
        made = rows.space_by_name(connection, space)
        if made is None:
            return Page((), 0, None)
        return Page.of(*audits_of(connection, made.id, limit + 1, None if cursor is None else cursor[1]), limit)


def _queries(live: Live, count: int, seed: int) -> Matrix:
    """Held-out queries of the kinds that the promise was measured with, which no audit at another time asked."""
    segments = [segment for segment in live.segments if segment.rows]
    far = live.fed is not None or (live.index is not None and live.index.recipe.inverted)
    each = math.ceil(count / (3 if far else 2))
    return np.concatenate(held_out(segments, live.metric, each, seed=seed, far=far))[:count]


def _warning(space: str, live: Live, asked: float, delivered: float, error: float, newer: float) -> str | None:
    """Short by more than chance explains (two standard errors), or most of the work done outside of the index."""
    cure = f"run store.publish({space!r}), or: vectorstore rebuild"
    if live.fed is not None:
        kind = space.partition(".")[0]
        cure = f"run store.remotes.settle({kind!r}), then store.remotes.renew({kind!r})"
    if delivered + 2 * error < asked:
        return (
            f"{space}: recall {delivered:.4f} was delivered where {asked:g} was asked for; the data has changed since "
            f"the index was measured; {cure}"
        )
    if live.index is not None and newer >= CHURN:
        return f"{space}: {newer:.0%} of the vectors are newer than the index and are scanned one by one; {cure}"
    if live.index is not None and live.dead_indexed >= CHURN * live.index.rows:
        share = live.dead_indexed / live.index.rows
        return f"{space}: {share:.0%} of the vectors in the index are deleted; {cure}"
    return None
