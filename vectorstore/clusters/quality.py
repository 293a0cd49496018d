"""How good a partition is: by itself, against known labels, and against other partitions."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vectorstore.clusters.rule import NOISE, Numbers
from vectorstore.vectors.arrays import Matrix, as_unit

_SAMPLE = 2_000
"""The silhouette is that of at most so many rows: it needs all their distances."""

RELATED = 5
"""So many of the nearest other clusters are kept."""


@dataclass(frozen=True, eq=False)
class Shape:
    """What clusters look like, one entry a cluster.

    Attributes:
        sizes: (k,) members.
        coherence: mean cosine of all pairs of members, -1..1; None for fewer than two members.
        distinctiveness: 1 - cosine to the nearest other centroid, 0..2; None when there is no other.
        related: the nearest other clusters (place, cosine of the centroids), nearest first.
    """

    sizes: list[int]
    coherence: list[float | None]
    distinctiveness: list[float | None]
    related: list[list[tuple[int, float]]]


def shape(rows: Matrix, labels: Numbers, centroids: Matrix) -> Shape:
    """Measure every cluster; O(n d + k k d).

    The mean over pairs needs no pairs: with S the sum of a cluster's unit vectors, |S|^2 counts each pair twice and
    each member once with itself.
    """
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(len(centroids) + 1))
    sizes, coherence = [], []
    for low, high in itertools.pairwise(bounds.tolist()):
        members = as_unit(rows[order[low:high]]).astype(np.float64)
        count = len(members)
        total = members.sum(axis=0)
        selves = float(np.einsum("ij,ij->", members, members))
        pairs = (float(total @ total) - selves) / (count * (count - 1)) if count > 1 else None
        sizes.append(count)
        coherence.append(None if pairs is None else float(np.clip(pairs, -1.0, 1.0)))
    unit = as_unit(centroids).astype(np.float64)
    cosines = np.clip(unit @ unit.T, -1.0, 1.0)
    np.fill_diagonal(cosines, -np.inf)
    near = np.argsort(-cosines, axis=1, kind="stable")[:, : min(RELATED, len(centroids) - 1)]
    related = [[(int(place), float(cosines[row, place])) for place in places] for row, places in enumerate(near)]
    distinctiveness = [1.0 - found[0][1] if found else None for found in related]
    return Shape(sizes, coherence, distinctiveness, related)


def mean_coherence(shape: Shape) -> float | None:
    """The clusters' coherence, weighted by size; None when no cluster has a pair."""
    pairs = [(one, size) for one, size in zip(shape.coherence, shape.sizes, strict=True) if one is not None]
    return sum(one * size for one, size in pairs) / sum(size for _, size in pairs) if pairs else None


def silhouette(rows: Matrix, labels: Numbers, seed: int) -> float | None:
    """Mean silhouette (Rousseeuw 1987), Euclidean, of a sample without noise, -1..1; None without two clusters."""
    from sklearn.metrics import silhouette_score

    inside = np.flatnonzero(labels != NOISE)
    if len(inside) > _SAMPLE:
        inside = np.sort(np.random.default_rng(seed).choice(inside, _SAMPLE, replace=False))
    if not 2 <= len(np.unique(labels[inside])) < len(inside):
        return None
    return float(silhouette_score(rows[inside], labels[inside]))


def agreement(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Adjusted Rand index of two partitions (Hubert & Arabie 1985): 1 when equal, about 0 for chance."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(np.asarray(one), np.asarray(other)))


def against(truth: npt.ArrayLike, labels: npt.ArrayLike) -> dict[str, float]:
    """`nmi` (arithmetic mean), `ari` and `purity` of a partition against known labels."""
    from sklearn.metrics import normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    known, found = np.asarray(truth), np.asarray(labels)
    table = contingency_matrix(known, found)
    return {
        "nmi": float(normalized_mutual_info_score(known, found)),
        "ari": agreement(known, found),
        "purity": float(table.max(axis=0).sum() / table.sum()),
    }


def stability(partitions: list[Numbers]) -> float | None:
    """Mean adjusted Rand index over all pairs of partitions of the same rows; None for fewer than two."""
    pairs = [agreement(partitions[i], partitions[j]) for i in range(len(partitions)) for j in range(i)]
    return float(np.mean(pairs)) if pairs else None


def population_shift(expected: npt.ArrayLike, actual: npt.ArrayLike) -> float:
    """Population stability index of two sets of counts over the same bins: sum of (q - p) ln(q / p).

    Half a count is added to every bin, so that an empty one is not infinite. By custom below 0.1 nothing has shifted
    and above 0.25 much has (Siddiqi 2006, p. 137).
    """
    counts = [np.asarray(values, dtype=np.float64) + 0.5 for values in (expected, actual)]
    p, q = (values / values.sum() for values in counts)
    return float(((q - p) * np.log(q / p)).sum())
