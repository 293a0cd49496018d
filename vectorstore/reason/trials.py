"""A recipe tried with several seeds, before it is trusted: quality and stability, nothing written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vectorstore import clusters as engine
from vectorstore.clusters import NOISE, ClusterRecipe
from vectorstore.errors import ValidationError
from vectorstore.reason.fitting import Scope
from vectorstore.storage import RecordTable
from vectorstore.sync import Progress, Sync, models, part, span


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
    for place, seed in enumerate(wanted):
        told = progress and part(progress, place, len(wanted))
        fitted = engine.fit(rows, recipe, n, seed, span(told, 0, 90))
        shape = engine.shape(rows, fitted.labels, fitted.rule.centroids)
        labels.append(fitted.labels)
        trials.append(
            FitTrial(
                seed,
                len(shape.sizes),
                float(np.mean(fitted.labels == NOISE)),
                engine.mean_coherence(shape),
                engine.silhouette(rows, fitted.labels, seed),
                fitted.seconds,
            )
        )
        span(told, 90, 100)(1, 1)
    return FitTrials(recipe.name, len(rows), tuple(trials), engine.stability(labels))
