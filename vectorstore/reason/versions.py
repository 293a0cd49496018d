"""The history of a line of fits: its versions, and the way back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vectorstore.errors import NotFound, ValidationError
from vectorstore.ids import from_micros
from vectorstore.reason.centroids import Centroids
from vectorstore.reason.fitting import show
from vectorstore.records import Cluster, SemanticField
from vectorstore.storage import ModelRow
from vectorstore.storage import models as registry
from vectorstore.sync import models
from vectorstore.sync.models import cluster_id


@dataclass(frozen=True)
class Version:
    """One fit of a line.

    Attributes:
        version: its number.
        status: "current" or "retired".
        parent: the version that it continues; None for the first.
        recipe: how it was fitted.
        rows: on how many records.
        clusters: how many there are; 0 when only the record of it is kept.
        usable: whether it can be rolled back to.
        seq: the commit that it saw.
        at: when.
    """

    version: int
    status: str
    parent: int | None
    recipe: str
    rows: int
    clusters: int
    usable: bool
    seq: int
    at: datetime


class Versioned(Centroids[Cluster]):
    """The versions of the fits that clusters come from."""

    def lines(self) -> list[str]:
        """The names of all lines of fits."""
        with self._sync.catalog.read() as connection:
            return list(dict.fromkeys(row.name for row in registry.models_of(connection, type=registry.CLUSTER)))

    def versions(self, name: str = "concepts") -> list[Version]:
        """All fits of a line, oldest first.

        Raises:
            NotFound: no such line.
        """
        self._row(name)
        with self._sync.catalog.read() as connection:
            found = registry.models_of(connection, name, registry.CLUSTER)
        numbers = {row.id: row.version for row in found}
        return [
            Version(
                row.version,
                row.status,
                None if row.parent is None else numbers.get(row.parent),
                str(row.recipe["name"]),
                row.rows,
                len(row.clusters),
                row.centroids is not None,
                row.seq,
                from_micros(row.at),
            )
            for row in found
        ]

    def rollback(self, version: int, name: str = "concepts") -> tuple[str, ...]:
        """Make an earlier fit current again, with its clusters, ids and members; returns the clusters' ids.

        Raises:
            NotFound: no such line or version.
            ValidationError: only the record of that version is kept.
        """
        with self._sync.catalog.write() as transaction:
            connection = transaction.connection
            current = self._row(name)
            row = registry.model_of(connection, name, version)
            if row is None:
                known = ", ".join(str(found.version) for found in registry.models_of(connection, name))
                raise NotFound(f"{name}: no version {version!r}; there are: {known}")
            if row.centroids is None:
                raise ValidationError(
                    f"{name}: of version {version} only the record is kept; fit again with its recipe and seed"
                )
            registry.make_current(connection, row, current)
            show(self, transaction, row, current)
            note = {"name": name, "version": version, "kind": row.kind, "rows": row.rows, "clusters": len(row.clusters)}
            transaction.notes.append(("fit", {**note, "rollback": True}))
            transaction.record("rollback", row.kind, name=name, version=version)
        return tuple(cluster_id(name, known["number"]) for known in row.clusters)

    def drop(self, name: str) -> int:
        """Remove a line for good: its versions, files and memberships; records of its clusters and fields are deleted.

        Returns:
            How many versions there were.

        Raises:
            NotFound: no such line.
        """
        with self._sync.catalog.write() as transaction:
            row = self._row(name)
            found = registry.models_of(transaction.connection, name)
            for version in found:
                registry.forget_model(transaction.connection, version.id)
                models.remove_after(self._sync, transaction, version.file)
            transaction.record("drop", row.kind, name=name, versions=len(found))
            self.delete([cluster_id(name, known["number"]) for known in row.clusters])
            self._others(SemanticField.table).delete(where={"model": name})
        return len(found)

    def model(self, name: str = "concepts", version: int | None = None) -> Any:
        """The scikit-learn `KMeans` of a fit, from its file; its `predict` gives places in the fit's list of clusters.

        Raises:
            NotFound: no such line or version.
            ModelRefused: the file is not what was written, or another library wrote it: `refit` makes a new one.
        """
        with self._sync.catalog.read() as connection:
            row = registry.model_of(connection, name, version)
        if row is None or row.type != registry.CLUSTER:
            raise NotFound(f"no fit {name!r}{'' if version is None else f' version {version}'}; fit it first")
        return models.estimator_of(self._sync, row)

    def _row(self, name: str) -> ModelRow:
        """The current fit of a line."""
        with self._sync.catalog.read() as connection:
            row = registry.model_of(connection, name)
        if row is None or row.type != registry.CLUSTER:
            known = ", ".join(self.lines()) or "none yet"
            raise NotFound(
                f"no line of fits {name!r}; there are: {known}; fit it first: store.clusters.fit(..., name={name!r})"
            )
        return row
