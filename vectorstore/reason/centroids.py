"""What clusters and fields have in common: records whose vectors are centroids, not embeddings of their texts."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np

from vectorstore.errors import SpaceMismatch
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Record
from vectorstore.storage import Transaction
from vectorstore.storage import spaces as rows
from vectorstore.vectors import Matrix

R = TypeVar("R", bound=Record)


class Centroids(Reasoner[R]):
    """A collection whose vectors are brought by a fit and stay when people change the records."""

    def update(self, changes: Any, vectors: Any = None, **options: Any) -> int:
        """Change some fields of records, as `Collection.update`; their vectors stay the centroids."""
        if vectors is None:
            changes = [changes] if isinstance(changes, dict) else list(changes)
            names = [change.get("id") for change in changes]
            known = self._searcher(None).queries.stored([name for name in names if isinstance(name, str)])
            if names and all(name in known for name in names):
                vectors = np.stack([known[name] for name in names])
        return super().update(changes, vectors, **options)

    def directed(self, transaction: Transaction, centroids: Matrix) -> Matrix:
        """(k, d) centroids as vectors of this collection's space.

        Raises:
            SpaceMismatch: it has other dimensions.
        """
        space = rows.space_by_name(transaction.connection, self.name)
        if space is not None and space.dim != centroids.shape[1]:
            raise SpaceMismatch(
                f"{self.name}: the centroids that are there have {space.dim} dimensions, these have "
                f"{centroids.shape[1]}; nothing was written; cluster them in a store of their own"
            )
        if self.metric == "cosine" and not centroids.any(axis=1).all():
            centroids = centroids.copy()
            centroids[~centroids.any(axis=1), 0] = 1e-6  # opposite members have no direction; a search needs one
        return centroids
