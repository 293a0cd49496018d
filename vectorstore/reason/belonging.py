"""Which cluster each of many vectors belongs to, by workers where there are some."""

from __future__ import annotations

import uuid

import numpy as np

from vectorstore import tasks
from vectorstore.clusters import Rule
from vectorstore.clusters.rule import Numbers, Strengths
from vectorstore.spreading import spread
from vectorstore.sync import Sync
from vectorstore.sync.sharing import sharing
from vectorstore.vectors import Matrix

PER_WORKER = 2
"""So many blocks wait for each worker: they lie in the shared place, 25 MB each for 384 dimensions and 256 clusters."""


def assign(sync: Sync, rule: Rule, rows: Matrix) -> tuple[Numbers, Strengths]:
    """As `Rule.assign`, block by block the same, so that it does not matter where it is done.

    Raises:
        WorkersLost: the workers are gone; nothing was written.
    """
    with sharing(sync, f"assign-{uuid.uuid4().hex}") as shared:
        if shared is None or len(rows) <= rule.block:
            return rule.assign(rows)
        place = shared.place
        fields = {"centroids": rule.centroids, "numbers": rule.numbers, "spread": np.float64(rule.spread)}
        learnt = place.keep(tasks.packed(**fields, **({} if rule.reach is None else {"reach": rule.reach})))
        numbers, strengths = list[Numbers](), list[Strengths]()
        step = rule.block * PER_WORKER * shared.workers
        for first in range(0, len(rows), step):
            window = rows[first : first + step]
            blocks = [window[start : start + rule.block] for start in range(0, len(window), rule.block)]
            arguments = [(place.uri, learnt, place.keep(tasks.packed(rows=block))) for block in blocks]
            for done in spread(tasks.assign, arguments):
                found = tasks.unpacked(place.fetch(done.digest))
                numbers.append(found["numbers"])
                strengths.append(found["strengths"])
        return np.concatenate(numbers), np.concatenate(strengths)
