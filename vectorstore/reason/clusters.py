"""Clusters with a life: fitted, named, assigned to, watched, fitted again with the same ids, and rolled back.

A *line* of fits has a name, by default that of the vectors it is about ("concepts"). Its versions are in the registry
of models; the current one's clusters are records of the kind `clusters`, with their centroids as vectors, so that they
are found by `search` as anything else. Nothing is ever fitted again unasked: `state` says what has changed since.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore import clusters as engine
from vectorstore.clusters import NOISE, ClusterRecipe, Rule
from vectorstore.errors import NotFound, ValidationError
from vectorstore.reason import belonging
from vectorstore.reason.fitting import FitReport, Scope, commit, learn
from vectorstore.reason.trials import FitTrials, try_seeds
from vectorstore.reason.versions import Versioned
from vectorstore.reason.watching import ClusterState, Drift, drift_of, state_of
from vectorstore.records import Where
from vectorstore.results import Page, from_cursor
from vectorstore.storage import Members, ModelRow, RecordTable
from vectorstore.storage import models as registry
from vectorstore.sync import Progress, models, span
from vectorstore.sync.models import cluster_id
from vectorstore.vectors import Vids, as_matrix
from vectorstore.vectors.exact import final_scores


@dataclass(frozen=True)
class Member:
    """A record and how strongly it belongs: its membership in the cluster, or its cosine to another record."""

    id: str
    strength: float


@dataclass(frozen=True)
class Membership:
    """Where a record belongs.

    Attributes:
        cluster: id of its cluster; None for noise.
        strength: its membership there, 0..1; 0 for noise.
        current: its vector is still the one that was looked at; `assign` brings it up to date.
    """

    cluster: str | None
    strength: float
    current: bool


class Clusters(Versioned):
    """The clusters of a store, and the fits that they come from."""

    # -- fitting ---------------------------------------------------------------------------------------------------

    def fit(
        self,
        kind: str = "concepts",
        recipe: ClusterRecipe | str | Path = "kmeans",
        n: int | None = None,
        *,
        where: Where | None = None,
        context: str | None = None,
        space: str | None = None,
        name: str | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> FitReport:
        """Cluster the records of a kind by their vectors, and make the result current.

        A cluster that shares enough members with one of the fit before keeps its id, and what people wrote into its
        record; others get new ids, and clusters that are no more are deleted until a rollback.

        Args:
            kind: whose records.
            recipe: a built-in name ("kmeans", "spherical", "kmeans-careful", "minibatch", "hdbscan", "agglomerative"),
                a .toml file, or a recipe.
            n: how many clusters; None for the recipe's number, or a rule of thumb.
            where: only records that match; kept with the line for `assign` and `refit`.
            context: only its records.
            space: which of the kind's vector spaces; None for the one of its texts.
            name: of the line; None for the space's, with the context behind an @.
            seed: the same rows and seed give the same clusters.
            progress: told (percent, 100): within the fit by iterations of FAISS's methods; scikit-learn's say nothing
                until they end.

        Raises:
            ValidationError: nothing to cluster, or an argument that cannot be. RecipeError: a bad recipe.
            Superseded: another fit of the line was committed meanwhile.

        Cost: of the method (models/README.md); memory two copies of the vectors.
        """
        chosen = engine.as_cluster_recipe(recipe)
        table = self._others(kind)._table
        scope = Scope.checked(table, space, where, context, name)
        return self._fit(table, scope, chosen, n, seed, progress)

    def _fit(
        self,
        table: RecordTable[Any],
        scope: Scope,
        recipe: ClusterRecipe,
        n: int | None,
        seed: int,
        progress: Progress | None,
    ) -> FitReport:
        report = commit(self, learn(self._sync, table, scope, recipe, n, seed, span(progress, 0, 99)))
        span(progress, 99, 100)(1, 1)
        return report

    def refit(
        self,
        name: str = "concepts",
        recipe: ClusterRecipe | str | Path | None = None,
        n: int | None = None,
        *,
        seed: int | None = None,
        min_changed: float | None = None,
        min_shift: float | None = None,
        progress: Progress | None = None,
    ) -> FitReport | None:
        """Fit a line again, over what its scope holds now.

        Args:
            name: of the line.
            recipe: another one; None for the same.
            n: another number of clusters; None for the same.
            seed: another one; None for the same.
            min_changed: only when at least this share of records is new, changed or gone.
            min_shift: only when the population has shifted so much (`drift`), or `min_changed` is reached.
            progress: as in `fit`.

        Returns:
            What changed, or None when neither threshold was reached.

        Raises:
            NotFound: no such line. Otherwise as `fit`.
        """
        row = self._row(name)
        for what, value in (("min_changed", min_changed), ("min_shift", min_shift)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
                raise ValidationError(f"{what}: expected a number of at least 0, got {value!r}")
        if min_changed is not None or min_shift is not None:
            drift = drift_of(self._sync, self._table_of(row), row, rule_of(row))
            enough = min_changed is not None and drift.changed >= min_changed
            if not enough and not (min_shift is not None and drift.shift >= min_shift):
                return None
        same = ClusterRecipe.from_dict(row.recipe, f"the recipe of {name}")
        chosen = same if recipe is None else engine.as_cluster_recipe(recipe)
        wanted = row.details["n"] if n is None and recipe is None else n
        start = row.details["seed"] if seed is None else seed
        return self._fit(self._table_of(row), Scope.of(row), chosen, wanted, start, progress)

    def trials(
        self,
        kind: str = "concepts",
        recipe: ClusterRecipe | str | Path = "kmeans",
        n: int | None = None,
        *,
        seeds: Iterable[int] = (0, 1, 2),
        where: Where | None = None,
        context: str | None = None,
        space: str | None = None,
        progress: Progress | None = None,
    ) -> FitTrials:
        """Try a recipe with several seeds: quality of each, and how alike the partitions are; nothing is written.

        Arguments and errors as in `fit`; `progress` is told (percent of all seeds together, 100 times their number).
        """
        table = self._others(kind)._table
        scope = Scope.checked(table, space, where, context, None)
        return try_seeds(self._sync, table, scope, engine.as_cluster_recipe(recipe), n, seeds, progress)

    # -- belonging -------------------------------------------------------------------------------------------------

    def assign(self, ids: str | Iterable[str] | None = None, name: str = "concepts") -> int:
        """Give records to the clusters that there are; nothing is fitted.

        Args:
            ids: these; None for all of the scope that came or got another vector since.
            name: of the line.

        Returns:
            How many records were given to a cluster, or found to be noise.

        Raises:
            NotFound: no such line, or no such record.
        """
        if ids is not None:
            ids = [ids] if isinstance(ids, str) else list(ids)
        row = self._row(name)
        rule, table = rule_of(row), self._table_of(row)
        if ids is None:
            due = self._members(row).due
        else:
            with self._sync.catalog.read() as connection:
                found = table.existing(connection, ids)
            for each in ids:
                if each not in found or found[each][1]:
                    raise NotFound(f"{table.name}: no record with id {each!r}; nothing was written")
            wanted = np.array([number for number, _ in found.values()], dtype=np.int64)

            def due(records: Vids, vids: Vids, *, since_fit: bool = False) -> Any:
                return np.isin(records, wanted)

        gathered = models.gather(self._sync, table, str(row.space), Scope.of(row).node(table), due)
        if not len(gathered.records):
            return 0
        numbers, strengths = np.full(len(gathered.records), NOISE), np.zeros(len(gathered.records))
        if len(rule.numbers):
            prepared = engine.prepared(gathered.vectors, gathered.metric)
            numbers, strengths = belonging.assign(self._sync, rule, prepared)
        with self._sync.catalog.write() as transaction:
            current = registry.model_of(transaction.connection, name)
            there = registry.all_there(transaction.connection, gathered.vids)
            same = current is not None and (current.id, current.centroids) == (row.id, row.centroids)
            if not same or not there:
                return self.assign(ids, name)  # fitted again, or some were erased, meanwhile
            place = (gathered.records, gathered.vids, numbers, strengths)
            registry.put_assigned(transaction.connection, row.id, *place)
            transaction.record("assign", table.name, gathered.records.tolist(), name=name, version=row.version)
        return len(gathered.records)

    def predict(self, vectors: Any, name: str = "concepts") -> list[str | None]:
        """The id of the cluster of each vector, None for noise; nothing is written.

        Raises:
            NotFound: no such line. DimensionError, ValidationError: bad vectors.
        """
        row = self._row(name)
        rule, metric = rule_of(row), row.details["metric"]
        matrix = as_matrix(vectors, f"{name}.predict: vectors", dim=rule.centroids.shape[1] or None, metric=metric)
        if not len(rule.numbers):
            return [None] * len(matrix)
        numbers, _ = rule.assign(engine.prepared(matrix, metric))
        return [None if number == NOISE else cluster_id(name, number) for number in numbers.tolist()]

    def memberships(self, id: str, name: str = "concepts") -> dict[str, float]:
        """Cluster id -> membership of a record, the strongest first; they sum to 1. Cost: one vector and k centroids.

        Raises:
            NotFound: no such line, or no such record with a vector.
        """
        row = self._row(name)
        rule = rule_of(row)
        if not len(rule.numbers):
            return {}
        vector = self._others(str(row.kind)).vectors([id], space=_short(row))
        shares = rule.memberships(engine.prepared(vector, row.details["metric"]))[0]
        order = np.lexsort((rule.numbers, -shares))
        return {cluster_id(name, int(rule.numbers[place])): float(shares[place]) for place in order}

    def membership(self, id: str, name: str = "concepts") -> Membership | None:
        """Where a record belongs, as the fit or `assign` found it; None when it was never looked at.

        Raises:
            NotFound: no such line, or no such record.
        """
        row = self._row(name)
        record, live = self._place(row, id)
        with self._sync.catalog.read() as connection:
            found = registry.membership(connection, row.id, record)
        if found is None:
            return None
        vid, number, strength = found
        return Membership(None if number is None else cluster_id(name, number), strength, vid == live)

    def members(self, cluster: str, limit: int = 100, after: str | None = None) -> Page[Member]:
        """One page of a cluster's live members, the strongest first; ties by age.

        Args:
            cluster: the id of a cluster of a current fit, or the name of a line for its noise.
            limit: 1..10,000.
            after: the `next` of the page before.

        Raises:
            NotFound: no such cluster.
        """
        row, number = self._cluster(cluster)
        table = self._table_of(row)
        with self._sync.catalog.read() as connection:
            where = (connection, row.id, number, table.live, table.table)
            found = registry.page_of_members(*where, limit=limit + 1, after=from_cursor(after))
            total = registry.count_members(*where)
        return Page.of([(strength, n, Member(name, strength)) for n, name, strength in found], total, limit)

    def neighbours(self, id: str, k: int = 10, name: str = "concepts") -> list[Member]:
        """The records of its own cluster that are nearest to a record, itself left out, nearest first.

        `strength` is the score on the scale of the space: the cosine, the product, or minus the distance. A record
        without a cluster has none. Cost: one exact comparison with each member.

        Raises:
            NotFound: no such line, or no such record with a vector.
        """
        row = self._row(name)
        table = self._table_of(row)
        own = self._others(table.name).vectors([id], space=_short(row))[0]
        record, _ = self._place(row, id)
        with self._sync.catalog.read() as connection:
            found = registry.membership(connection, row.id, record)
        if found is None or found[1] is None:
            return []
        with self._sync.catalog.read() as connection:
            where = (connection, row.id, found[1], table.live, table.table)
            mates = {mate: name for mate, name, _ in registry.page_of_members(*where, limit=-1, after=None)}
        mates.pop(record, None)
        stored = self._others(table.name)._searcher(_short(row)).queries.stored(list(mates.values()))
        near = [(mate, name) for mate, name in mates.items() if name in stored]
        if not near:
            return []
        scores = final_scores(own, np.stack([stored[name] for _, name in near]), row.details["metric"])
        best = np.lexsort((np.array([mate for mate, _ in near]), -scores))[:k]
        return [Member(near[place][1], float(scores[place])) for place in best.tolist()]

    # -- watching --------------------------------------------------------------------------------------------------

    def state(self, name: str = "concepts") -> ClusterState:
        """How a line stands to the records as they are now; reads no vectors.

        Raises:
            NotFound: no such line.
        """
        row = self._row(name)
        return state_of(self._sync, self._table_of(row), row)

    def drift(self, name: str = "concepts") -> Drift:
        """How far the records have moved away from the fit; reads the vectors that came since.

        Raises:
            NotFound: no such line.
        """
        row = self._row(name)
        return drift_of(self._sync, self._table_of(row), row, rule_of(row))

    # -- parts -----------------------------------------------------------------------------------------------------

    def _table_of(self, row: ModelRow) -> RecordTable[Any]:
        return self._sync.table(str(row.kind))

    def _members(self, row: ModelRow) -> Members:
        with self._sync.catalog.read() as connection:
            return registry.members_of(connection, row.id)

    def _place(self, row: ModelRow, id: str) -> tuple[int, int | None]:
        """(the record's row, its live vid)."""
        table = self._table_of(row)
        with self._sync.catalog.read() as connection:
            found = table.existing(connection, [id]).get(id)
            if found is None or found[1]:
                raise NotFound(f"{table.name}: no record with id {id!r}")
            return found[0], registry.live_vid(connection, str(row.space), found[0])

    def _cluster(self, cluster: str) -> tuple[ModelRow, int | None]:
        """(the current fit, the number) of a cluster; None for the noise of a line that is named as such."""
        line, _, number = cluster.rpartition(":")
        with self._sync.catalog.read() as connection:
            whole = registry.model_of(connection, cluster)
            row = registry.model_of(connection, line) if line else None
        if whole is not None and whole.type == registry.CLUSTER:
            return whole, None
        if row is not None and number.isdecimal() and int(number) in {known["number"] for known in row.clusters}:
            return row, int(number)
        raise NotFound(f"no cluster {cluster!r} in a current fit; store.clusters.find() lists them")


def rule_of(row: ModelRow) -> Rule:
    """What a fit has learned, from the catalog alone."""
    reach = row.details["reach"]
    return Rule(
        models.centroids_of(row),
        np.array([known["number"] for known in row.clusters], dtype=np.int64),
        float(row.details["spread"]),
        None if reach is None else np.array(reach, dtype=np.float32),
    )


def _short(row: ModelRow) -> str | None:
    """The space as the verbs of a collection name it."""
    _, _, short = str(row.space).partition(".")
    return short or None
