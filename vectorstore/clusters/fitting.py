"""Fitting: rows in, a partition of them out. The door to scikit-learn's and FAISS's clustering.

One thread and one seed, so that the same rows give the same partition. Nothing here knows a store.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vectorstore.clusters.recipes import ClusterRecipe
from vectorstore.clusters.rule import NOISE, Numbers, Rule, nearest, reach_of, spread_of
from vectorstore.errors import ValidationError
from vectorstore.vectors.arrays import Matrix, as_unit
from vectorstore.vectors.native import has_faiss, kmeans

Progress = Callable[[int, int], None]
MOST_CLUSTERS = 256
"""The rule of thumb never gives more."""


@dataclass(frozen=True, eq=False)
class Partition:
    """A fit.

    Attributes:
        labels: (n,) 0 .. k - 1, NOISE for none; 0 is the biggest cluster.
        rule: its centroids, numbered 0 .. k - 1.
        dimensions: the effective number of dimensions of the clusters (`rule`'s docstring).
        asked: how many clusters were asked for; None for hdbscan.
        library: what made it, with its version.
        seconds: how long it took.
        note: what was not as asked, in words; "" when all was.
    """

    labels: Numbers
    rule: Rule
    dimensions: float
    asked: int | None
    library: str
    seconds: float
    note: str = ""


def prepared(vectors: Matrix, metric: str) -> Matrix:
    """The rows as they are clustered: of length one under cosine, as they are otherwise."""
    return as_unit(vectors) if metric == "cosine" else np.ascontiguousarray(vectors, dtype=np.float32)


def fit(
    rows: Matrix, recipe: ClusterRecipe, clusters: int | None, seed: int, progress: Progress = lambda done, of: None
) -> Partition:
    """Cluster the rows.

    Args:
        rows: (n, d) float32 from `prepared`, in an order that is always the same.
        recipe: how.
        clusters: how many; None takes the recipe's number, or the rule of thumb. More than there are different rows
            gives one for each of those.
        seed: of all random numbers.
        progress: told (iterations, iterations at most) by FAISS's methods, and (1, 1) at the end.

    Raises:
        ValidationError: no rows, or a number of clusters that cannot be.

    Cost: k-means O(n k d) an iteration; agglomerative and hdbscan O(m m d) for m = min(n, max_rows) rows; the rest are
        given to the nearest centroid.
    """
    if not len(rows):
        raise ValidationError("there are no vectors to cluster")
    started = time.perf_counter()
    asked = _wanted(recipe, clusters, len(rows))
    if recipe.method == "hdbscan":
        labels, library = _hdbscan(rows, recipe, seed)
        note = "" if (labels != NOISE).any() else "no group of rows is dense enough: all of them are noise"
        centroids = _means(rows, labels)
    else:
        assert asked is not None  # only hdbscan finds it itself
        different = _different(rows, asked)
        note = ""
        if len(different) < asked:
            note = f"{asked} clusters were asked for; there are only {len(different)} different vectors"
            centroids, library = rows[different], f"numpy {np.__version__}"
            labels = nearest(rows, centroids)
        else:
            labels, centroids, library = _partition(rows, recipe, asked, seed, progress)
    labels, centroids = _by_size(labels, centroids)
    if asked is not None and not note and len(centroids) < asked:
        note = f"{asked} clusters were asked for; {asked - len(centroids)} of them were left without rows"
    spread, dimensions = spread_of(rows, labels, centroids, seed) if len(centroids) else (1.0, 1.0)
    reach = reach_of(rows, labels, centroids) if recipe.method == "hdbscan" else None
    rule = Rule(centroids, np.arange(len(centroids)), spread, reach)
    progress(1, 1)
    return Partition(labels, rule, dimensions, asked, library, time.perf_counter() - started, note)


def _wanted(recipe: ClusterRecipe, clusters: int | None, rows: int) -> int | None:
    if recipe.method == "hdbscan":
        if clusters is not None:
            raise ValidationError("n: hdbscan finds the number of clusters itself; leave it out")
        return None
    wanted = recipe.clusters if clusters is None else clusters
    if wanted is None:
        return min(MOST_CLUSTERS, max(1, round(math.sqrt(rows / 2))))
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise ValidationError(f"n: expected a whole number of at least 1, got {wanted!r}")
    return int(wanted)


def _different(rows: Matrix, enough: int) -> list[int]:
    """The first place of each different row, until there are enough of them."""
    different: dict[bytes, int] = {}
    for place, row in enumerate(rows):
        different.setdefault(row.tobytes(), place)
        if len(different) == enough:
            break
    return list(different.values())


def _partition(
    rows: Matrix, recipe: ClusterRecipe, count: int, seed: int, progress: Progress
) -> tuple[Numbers, Matrix, str]:
    """(labels, centroids, library) of `count` clusters, at most the number of different rows."""
    if recipe.method == "agglomerative":
        return _agglomerative(rows, recipe, count, seed)
    restarts, iterations = recipe.option("restarts"), recipe.option("iterations")
    if recipe.method in ("kmeans", "spherical") and has_faiss():
        spherical = recipe.method == "spherical"
        options = {"iterations": iterations, "restarts": restarts, "seed": seed, "spherical": spherical}
        found = kmeans(rows, count, **options, progress=progress)
        library = f"faiss {_version('faiss-cpu')}"
    else:
        found = _scikit(rows, recipe, count, seed)
        library = _scikit_version()
    return nearest(rows, found), found, library


def _scikit(rows: Matrix, recipe: ClusterRecipe, count: int, seed: int) -> Matrix:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    restarts = recipe.option("restarts")
    if recipe.method == "minibatch":
        model = MiniBatchKMeans(
            count,
            n_init=restarts,
            batch_size=recipe.option("batch_rows"),
            max_iter=recipe.option("epochs"),
            random_state=seed,
        )
    else:
        model = KMeans(count, n_init=restarts, max_iter=recipe.option("iterations"), random_state=seed)
    _quietly(model, rows)
    found: Matrix = np.ascontiguousarray(model.cluster_centers_, dtype=np.float32)
    return as_unit(found) if recipe.method == "spherical" else found


def _quietly(model: Any, rows: Matrix) -> None:
    """Fit on one thread; that it did not converge, or found fewer clusters, is seen from the result."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(rows)


def _agglomerative(rows: Matrix, recipe: ClusterRecipe, count: int, seed: int) -> tuple[Numbers, Matrix, str]:
    from sklearn.cluster import AgglomerativeClustering

    chosen = _chosen(rows, recipe, seed)
    count = min(count, len(chosen))
    if len(chosen) == 1:
        labels = np.zeros(1, dtype=np.int64)
    else:
        model = AgglomerativeClustering(count, linkage=recipe.option("linkage"))
        _quietly(model, rows[chosen])
        labels = model.labels_.astype(np.int64)
    centroids = _means(rows[chosen], labels)
    if len(chosen) < len(rows):
        rest = nearest(rows, centroids)
        rest[chosen] = labels
        labels = rest
        centroids = _means(rows, labels)  # of all members: that of a single chosen row would be the row itself
    return labels, centroids, _scikit_version()


def _hdbscan(rows: Matrix, recipe: ClusterRecipe, seed: int) -> tuple[Numbers, str]:
    from sklearn.cluster import HDBSCAN

    chosen = _chosen(rows, recipe, seed)
    min_size = recipe.option("min_size")
    labels = np.full(len(rows), NOISE, dtype=np.int64)
    if len(chosen) < max(2, min_size, recipe.option("min_samples")):
        return labels, _scikit_version()
    points = _reduced(rows[chosen], recipe.option("components"), seed)
    model = HDBSCAN(min_cluster_size=min_size, min_samples=recipe.option("min_samples"), copy=True)
    _quietly(model, points)
    labels[chosen] = np.maximum(model.labels_, NOISE)
    if len(chosen) < len(rows) and (labels != NOISE).any():
        centroids = _means(rows, labels)
        rule = Rule(centroids, np.arange(len(centroids)), 1.0, reach_of(rows, labels, centroids))
        rest = np.setdiff1d(np.arange(len(rows)), chosen)
        labels[rest] = rule.assign(rows[rest])[0]
    return labels, _scikit_version()


def _reduced(rows: Matrix, components: int, seed: int) -> Matrix:
    """The rows in fewer dimensions by PCA: density is a notion of few dimensions, and trees are quick there."""
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    if not components or components >= min(rows.shape):
        return rows
    with threadpool_limits(1):
        found: Matrix = PCA(components, random_state=seed).fit_transform(rows)
    return found


def _chosen(rows: Matrix, recipe: ClusterRecipe, seed: int) -> Numbers:
    """The rows that are fitted: all, or as many as the recipe allows, ascending."""
    most = recipe.option("max_rows")
    if len(rows) <= most:
        return np.arange(len(rows))
    return np.sort(np.random.default_rng(seed).choice(len(rows), most, replace=False))


def _means(rows: Matrix, labels: Numbers) -> Matrix:
    """(k, d) float32 mean of each cluster's rows, computed in float64."""
    count = int(labels.max(initial=NOISE)) + 1
    out = np.empty((count, rows.shape[1]), dtype=np.float32)
    for number in range(count):
        out[number] = rows[labels == number].mean(axis=0, dtype=np.float64)
    return out


def _by_size(labels: Numbers, centroids: Matrix) -> tuple[Numbers, Matrix]:
    """Clusters without rows dropped, the rest numbered by size, ties by their first row."""
    if not len(centroids):
        return labels, centroids
    sizes = np.bincount(labels[labels != NOISE], minlength=len(centroids))
    first = np.full(len(centroids), len(labels))
    np.minimum.at(first, labels[labels != NOISE], np.flatnonzero(labels != NOISE))
    order = np.lexsort((first, -sizes))
    order = order[sizes[order] > 0]
    new = np.full(len(centroids) + 1, NOISE, dtype=np.int64)  # the last place is that of NOISE
    new[order] = np.arange(len(order))
    return new[labels], np.ascontiguousarray(centroids[order])


def _scikit_version() -> str:
    return f"scikit-learn {_version('scikit-learn')}"


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
