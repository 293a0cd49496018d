"""Vectors that were retired come back: as new vids, for a vid that was retired is never live again.

A record that is deleted and restored has the vector of its newest vid again. Where that is not to be, its newest vid is
one that names no vector.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from vectorstore.storage import RecordTable, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.models import mark_stale
from vectorstore.sync.core import Sync
from vectorstore.sync.write import Origin, attach, stage


def bring_back(
    sync: Sync,
    transaction: Transaction,
    table: RecordTable[Any],
    space: SpaceRow,
    metric: str,
    former: Mapping[int, int],
) -> None:
    """Give records new vids with the vectors that former vids name; those that are live are retired.

    Where the vector comes from, its text's hash and its count of updates come back with it.

    Args:
        sync: the store's parts.
        transaction: a running one.
        table: of the records.
        space: whose vectors.
        metric: of the space.
        former: record row -> the vid whose vector it is to have again.
    """
    connection = transaction.connection
    live = sync.state(space.name).current(connection, expired=True)
    if live is None or not former:
        return
    found = connection.execute(
        "SELECT v.vid, v.record, v.text_hash, v.source, v.confidence, v.updates FROM json_each(?) j "
        "CROSS JOIN vectors v ON v.vid = j.value",
        (json.dumps(list(former.values())),),
    ).fetchall()
    old = {vid: rest for vid, *rest in found}
    vids, vectors = live.vectors_of(np.array(sorted(old), dtype=np.int64))
    oldest_first = np.argsort(vids)  # so that ties between them stay as they were
    vids, vectors = vids[oldest_first], vectors[oldest_first]
    names = {number: record.id for number, record in table.by_rows(connection, list(former)).items()}
    for key in dict.fromkeys(tuple(old[vid][2:4]) for vid in vids.tolist()):
        chosen = [place for place, vid in enumerate(vids.tolist()) if tuple(old[vid][2:4]) == key]
        kept = [old[int(vids[place])] for place in chosen]
        revived = [int(record) for record, *_ in kept]
        origin = Origin(key[0], key[1], [each[1] for each in kept], [int(each[4]) for each in kept])
        staged = stage(sync, space.name, [names[row] for row in revived], vectors[chosen], origin)
        transaction.undo.append(partial(staged.discard, sync))
        attach(sync, transaction, table.name, metric, staged, revived)


def retire(transaction: Transaction, space: SpaceRow, numbers: Sequence[int]) -> None:
    """The live vectors of records in a space are live no more."""
    live = rows.live_vectors(transaction.connection, space.id, numbers)
    if live:
        mark_stale(transaction.connection, space.name, transaction.seq)
        rows.retire(transaction.connection, [vid for vid, _, _ in live.values()], transaction.seq)


def end(transaction: Transaction, space: SpaceRow, numbers: Sequence[int]) -> None:
    """The live vectors of records in a space are live no more, nor will they be when the records are restored.

    Each record gets a vid that names no vector, in place of an earlier such one of its own.
    """
    if not numbers:
        return
    retire(transaction, space, numbers)
    connection = transaction.connection
    marks = [number.to_bytes(rows.NAMELESS, "big") for number in numbers]
    rows.drop_vectors(connection, rows.vids_by_text(connection, space.id, marks).values())
    first = rows.take_vids(connection, len(numbers))
    rows.insert_vectors(connection, space.id, first, numbers, marks, "embedder", 1.0, [0] * len(numbers))
    rows.retire(connection, range(first, first + len(numbers)), transaction.seq)


def drop_outlived(transaction: Transaction, space: SpaceRow) -> None:
    """Forget the vids without a vector of records that have a live one, which is newer. Looks through what is retired.

    What a workflow remembers may still name them: its rollback takes one that is gone for what it is, no vector.
    """
    transaction.connection.execute(
        "DELETE FROM vectors INDEXED BY vectors_retired WHERE space = ? AND retired IS NOT NULL "
        f"AND length(text_hash) = {rows.NAMELESS} AND EXISTS (SELECT 1 FROM vectors live "
        "WHERE live.record = vectors.record AND live.space = vectors.space AND live.retired IS NULL)",
        (space.id,),
    )
