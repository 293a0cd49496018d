"""How a fit ages: what has changed since, and how far the records have moved away from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore import clusters as engine
from vectorstore.clusters import NOISE, Rule
from vectorstore.reason.fitting import Scope
from vectorstore.storage import ModelRow, RecordTable
from vectorstore.storage import models as registry
from vectorstore.storage import spaces as rows
from vectorstore.sync import Sync, models
from vectorstore.vectors import Vids

MUCH_CHANGED, MUCH_SHIFTED, MUCH_FARTHER = 0.2, 0.25, 1.25
"""From so much on a drift is worth a warning."""


@dataclass(frozen=True)
class ClusterState:
    """How a line stands to the records as they are now.

    Attributes:
        name: of the line.
        version: the current one.
        rows: records of the fit.
        live: records of its scope with a vector, now.
        new: of those, not in the fit.
        changed: of those, with another vector than in the fit.
        removed: records of the fit that are no more.
        unassigned: new or changed ones that `assign` has not seen.
        stale_since: the first commit that changed the vectors after the fit; None when the fit is as good as new.
    """

    name: str
    version: int
    rows: int
    live: int
    new: int
    changed: int
    removed: int
    unassigned: int
    stale_since: int | None

    @property
    def share(self) -> float:
        """The share of records that are new, changed or gone, of all there were or are."""
        return (self.new + self.changed + self.removed) / max(1, self.live + self.removed)

    def __str__(self) -> str:
        if self.stale_since is None:
            return f"{self.name} version {self.version}: current, {self.rows} records"
        return (
            f"{self.name} version {self.version}: stale since {self.stale_since} ({self.new} new, {self.changed} "
            f"changed, {self.removed} removed of {self.rows}; {self.unassigned} unassigned); "
            f"store.clusters.refit({self.name!r})"
        )


@dataclass(frozen=True)
class Drift:
    """How far the records have moved away from a fit.

    Attributes:
        changed: share of records that are new, changed or gone (`ClusterState.share`).
        shift: population stability index of the clusters' sizes, at the fit against now, every record given to its
            nearest cluster (`clusters.quality.population_shift`).
        distance: mean squared distance of new and changed records to their nearest centroid, as a multiple of what it
            was for the records of the fit; 1 when there are none.
        noise: share of new and changed records that are noise.
        warning: what is out of bounds and how to mend it; None when nothing is.
    """

    changed: float
    shift: float
    distance: float
    noise: float
    warning: str | None


def state_of(sync: Sync, table: RecordTable[Any], row: ModelRow) -> ClusterState:
    """Compare the fit's members with the records that there are."""
    with sync.catalog.read() as connection:
        members = registry.members_of(connection, row.id)
        stale = registry.model_at(connection, row.id).stale
        space = rows.space_by_name(connection, str(row.space))
        assert space is not None  # it was fitted on its vectors
        records, vids = rows.live_map(connection, space.id)
        keep = np.isin(records, table.matching(connection, Scope.of(row).node(table)))
    records, vids = records[keep], vids[keep]
    took_part = members.records[members.fitted != 0]
    known = np.isin(records, took_part)
    new, changed = int((~known).sum()), int((known & members.due(records, vids, since_fit=True)).sum())
    removed = row.rows - int(known.sum())
    since = (row.seq if stale is None else stale) if new or changed or removed else None
    unassigned = int(members.due(records, vids).sum())
    return ClusterState(row.name, row.version, row.rows, len(records), new, changed, removed, unassigned, since)


def drift_of(sync: Sync, table: RecordTable[Any], row: ModelRow, rule: Rule) -> Drift:
    """Look at the records that came since where they lie; see `Drift`."""
    state = state_of(sync, table, row)
    with sync.catalog.read() as connection:
        members = registry.members_of(connection, row.id)

    def since(records: Vids, vids: Vids) -> npt.NDArray[np.bool_]:
        return members.due(records, vids, since_fit=True)

    node = Scope.of(row).node(table)
    came = models.gather(sync, table, str(row.space), node, since)
    stay = models.gather(sync, table, str(row.space), node, lambda *pairs: ~since(*pairs), vectors=False)
    prepared = engine.prepared(came.vectors, came.metric)
    numbers = np.empty(0, np.int64)
    distance = 1.0
    if len(prepared) and len(rule.numbers):
        numbers, _ = rule.assign(prepared)
        nearest = np.concatenate([squared.min(axis=1) for _, squared in rule.distances(prepared)])
        at_fit = float(row.details["distance"])
        distance = float(nearest.mean()) / at_fit if at_fit > 0 else float("inf") if nearest.any() else 1.0
    before = members.numbers[np.isin(members.records, stay.records)]
    bins = np.append(rule.numbers, NOISE) if rule.reach is not None else rule.numbers
    sizes = {known["number"]: known["size"] for known in row.clusters} | {NOISE: row.details["noise"]}
    now = np.concatenate([before, numbers])
    shift = 0.0
    if len(bins):
        shift = engine.population_shift([sizes[number] for number in bins.tolist()], [(now == b).sum() for b in bins])
    noise = float((numbers == NOISE).mean()) if len(numbers) else 0.0
    return Drift(state.share, shift, distance, noise, _warning(row.name, state.share, shift, distance))


def _warning(name: str, changed: float, shift: float, distance: float) -> str | None:
    reasons = []
    if changed >= MUCH_CHANGED:
        reasons.append(f"{changed:.0%} of the records are new, changed or gone")
    if shift >= MUCH_SHIFTED:
        reasons.append(f"the clusters' sizes have shifted (PSI {shift:.2f})")
    if distance >= MUCH_FARTHER:
        reasons.append(f"newer records lie {distance:.2f} times as far from their centroids")
    return f"{'; '.join(reasons)}: store.clusters.refit({name!r})" if reasons else None
