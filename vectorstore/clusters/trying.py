"""One fit as a trial: what it found, and how good that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from vectorstore.clusters.fitting import fit
from vectorstore.clusters.quality import mean_coherence, shape, silhouette
from vectorstore.clusters.recipes import ClusterRecipe
from vectorstore.clusters.rule import NOISE, Numbers
from vectorstore.vectors.arrays import Matrix

Progress = Callable[[int, int], None]


def tried(
    rows: Matrix, recipe: ClusterRecipe, n: int | None, seed: int, progress: Progress = lambda done, of: None
) -> tuple[Numbers, dict[str, Any]]:
    """((n,) labels, the figures of a `FitTrial`) of one seed; arguments and errors as in `fit`."""
    fitted = fit(rows, recipe, n, seed, progress)
    found = shape(rows, fitted.labels, fitted.rule.centroids)
    return fitted.labels, {
        "seed": seed,
        "clusters": len(found.sizes),
        "noise": float(np.mean(fitted.labels == NOISE)),
        "coherence": mean_coherence(found),
        "silhouette": silhouette(rows, fitted.labels, seed),
        "seconds": fitted.seconds,
    }
