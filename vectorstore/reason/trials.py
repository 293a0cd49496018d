"""A recipe tried with several seeds, before it is trusted: quality and stability, nothing written."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from vectorstore import clusters as engine
from vectorstore import tasks
from vectorstore.clusters import ClusterRecipe
from vectorstore.clusters.rule import Numbers
from vectorstore.errors import ValidationError
from vectorstore.reason.fitting import Scope
from vectorstore.spreading import spread
from vectorstore.storage import RecordTable
from vectorstore.sync import Progress, Sync, models, part, span
from vectorstore.sync.sharing import Shared, sharing
from vectorstore.vectors import Matrix


@dataclass(frozen=True)
class FitTrial:
    """One seed's result: clusters, share of noise, coherence (weighted by size), silhouette of a sample, seconds."""

    seed: int
    clusters: int
    noise: float
    coherence: float | None
    silhouette: float | None
    seconds: float


@dataclass(frozen=True)
class FitTrials:
    """All seeds' results; `stability` is the mean adjusted Rand index over pairs of seeds, None for one seed."""

    recipe: str
    rows: int
    trials: tuple[FitTrial, ...]
    stability: float | None


def try_seeds(
    sync: Sync,
    table: RecordTable[Any],
    scope: Scope,
    recipe: ClusterRecipe,
    n: int | None,
    seeds: Iterable[int],
    progress: Progress | None = None,
) -> FitTrials:
    """Cluster the scope's records once with each seed.

    Raises:
        ValidationError: no seeds, nothing to cluster, or a number that cannot be.
    """
    wanted = list(seeds)
    if not wanted:
        raise ValidationError("seeds: expected at least one")
    found = models.gather(sync, table, scope.space, scope.node(table))
    if not len(found.records):
        raise ValidationError(f"{scope.name}: there is nothing to cluster: no {scope.kind} with vectors")
    rows = engine.prepared(found.vectors, found.metric)
    trials, labels = [], []
    with sharing(sync, f"trials-{uuid.uuid4().hex}") as shared:
        done = _here(rows, recipe, n, wanted, progress) if shared is None else _there(shared, rows, recipe, n, wanted)
        for place, (found_labels, figures) in enumerate(done):
            labels.append(found_labels)
            trials.append(FitTrial(**figures))
            span(progress and part(progress, place, len(wanted)), 90, 100)(1, 1)
    return FitTrials(recipe.name, len(rows), tuple(trials), engine.stability(labels))


def _here(
    rows: Matrix, recipe: ClusterRecipe, n: int | None, seeds: list[int], progress: Progress | None
) -> Iterator[tuple[Numbers, dict[str, Any]]]:
    for place, seed in enumerate(seeds):
        yield engine.tried(rows, recipe, n, seed, span(progress and part(progress, place, len(seeds)), 0, 90))


def _there(
    shared: Shared, rows: Matrix, recipe: ClusterRecipe, n: int | None, seeds: list[int]
) -> Iterator[tuple[Numbers, dict[str, Any]]]:
    """Each seed by a worker; the rows are written once, for all of them."""
    place = shared.place
    kept = place.keep(tasks.packed(rows=rows))
    for done in spread(tasks.trial, [(place.uri, kept, json.dumps(recipe.to_dict()), n, seed) for seed in seeds]):
        yield tasks.unpacked(place.fetch(done.digest))["labels"], done.told
