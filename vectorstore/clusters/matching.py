"""The same cluster again: numbers that outlive a refit."""

from __future__ import annotations

import numpy as np

from vectorstore.clusters.rule import NOISE, Numbers

LEAST_OVERLAP = 1 / 3
"""A new cluster goes on as an old one from this Jaccard index on: half of each of two equal ones is shared."""


def continued(old: Numbers, new: Numbers, clusters: int, next_number: int) -> Numbers:
    """(clusters,) the number of each new cluster: that of the old one it continues, or a fresh one.

    Old and new clusters are paired one to one so that the sum of their Jaccard indices is greatest (Kuhn 1955, by
    `scipy.optimize.linear_sum_assignment`); pairs that share too little count as different clusters.

    Args:
        old: (n,) numbers that the rows of both fits had before, NOISE for none.
        new: (n,) their places now, 0 .. clusters - 1, NOISE for none.
        clusters: how many there are now.
        next_number: greater than every number that was ever given; fresh clusters get it and those after it.
    """
    from scipy.optimize import linear_sum_assignment

    numbers = np.full(clusters, NOISE, dtype=np.int64)
    known = np.unique(old[old != NOISE])
    if len(known) and clusters:
        both = (old != NOISE) & (new != NOISE)
        shared = np.zeros((len(known), clusters))
        np.add.at(shared, (np.searchsorted(known, old[both]), new[both]), 1)
        before = np.array([(old == number).sum() for number in known])
        after = np.bincount(new[new != NOISE], minlength=clusters)
        overlap = shared / np.maximum(1, before[:, None] + after - shared)
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] >= LEAST_OVERLAP:
                numbers[column] = known[row]
    fresh = np.flatnonzero(numbers == NOISE)
    numbers[fresh] = next_number + np.arange(len(fresh))
    return numbers
