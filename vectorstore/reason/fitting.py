"""A fit as part of a store: read a snapshot, learn without a lock, and make it current by one transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from vectorstore import clusters as engine
from vectorstore.clusters import NOISE, ClusterRecipe, Partition, Rule, modelfiles
from vectorstore.clusters.quality import Shape
from vectorstore.errors import Superseded, ValidationError
from vectorstore.html import fields
from vectorstore.ids import check_id
from vectorstore.records import Cluster, Where, parse
from vectorstore.records.where import Node
from vectorstore.storage import Members, ModelRow, RecordTable, Transaction
from vectorstore.storage import models as registry
from vectorstore.sync import Progress, Sync, models, span
from vectorstore.sync.models import Rows, cluster_id, label

if TYPE_CHECKING:
    from vectorstore.reason.centroids import Centroids

log = logging.getLogger("vectorstore")
KEPT = 3
"""So many retired versions of a line can be rolled back to; of older ones only the record stays."""

_TEXTS = 8_000
"""Labels are made from the strongest members' texts, so many in all and 200 of a cluster at most."""


@dataclass(frozen=True)
class Scope:
    """What a line of fits is about.

    Attributes:
        name: of the line.
        kind: whose records.
        space: the full name of the vector space.
        where: a filter as plain data, None for all.
        context: only its records, None for all.
    """

    name: str
    kind: str
    space: str
    where: dict[str, Any] | None
    context: str | None

    @classmethod
    def checked(
        cls, table: RecordTable[Any], space: str | None, where: Where | None, context: str | None, name: str | None
    ) -> Scope:
        """A scope whose parts make sense.

        Raises:
            ValidationError: the name is not usable. WhereError: a bad filter. NotFound: no such space.
        """
        full = table.schema.kind.space_name(space)
        line = name if name is not None else full if context is None else f"{full}@{context}"
        try:
            check_id(line)
            if len(line) > 200:
                raise ValueError(f"200 characters at most, got {len(line)}")
        except (ValueError, TypeError) as error:
            raise ValidationError(f"name: {error}") from None
        scope = cls(line, table.name, full, None if where is None else plain(where), context)
        scope.node(table)
        return scope

    @classmethod
    def of(cls, row: ModelRow) -> Scope:
        """The scope of a fit that is there."""
        assert row.kind is not None and row.space is not None  # it is a cluster model
        return cls(row.name, row.kind, row.space, row.details["where"], row.details["context"])

    def node(self, table: RecordTable[Any]) -> Node | None:
        """The scope as a filter."""
        parts: list[Any] = [part for part in (self.where, self.context and {"context": self.context}) if part]
        return parse({"and": parts} if len(parts) > 1 else parts[0] if parts else None, table.schema)


def plain(where: Where) -> dict[str, Any]:
    """A filter as JSON has it; times become text."""

    def plainer(value: object) -> object:
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, set | frozenset | tuple):
            return list(value)
        raise ValidationError(f"where: {value!r} cannot be kept with the fit; use plain values")

    found: dict[str, Any] = json.loads(json.dumps(dict(where), default=plainer))
    return found


@dataclass(frozen=True)
class FitReport:
    """What a fit found, and what it changed.

    Attributes:
        name: of the line of fits.
        version: in that line.
        kind: whose records were clustered.
        recipe: how.
        rows: how many records took part.
        noise: how many of them belong to no cluster.
        asked: how many clusters were asked for; None when the method finds the number.
        clusters: ids of all clusters now.
        kept: those that were there before.
        new: those that were not.
        retired: those that are no more; their records are deleted, a rollback brings them back.
        coherence: mean of the clusters' coherence, weighted by size; None without a pair.
        silhouette: of a sample, -1..1; None without two clusters.
        dimensions: the effective number of dimensions in which clusters scatter.
        seed: of the random numbers; the same rows and seed give the same clusters.
        seconds: of fitting alone.
        note: what was not as asked; "" when all was.
        seq: the commit that the fit saw.
    """

    name: str
    version: int
    kind: str
    recipe: str
    rows: int
    noise: int
    asked: int | None
    clusters: tuple[str, ...]
    kept: tuple[str, ...]
    new: tuple[str, ...]
    retired: tuple[str, ...]
    coherence: float | None
    silhouette: float | None
    dimensions: float
    seed: int
    seconds: float
    note: str
    seq: int

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        counts = {name: len(getattr(self, name)) for name in ("clusters", "kept", "new", "retired")}
        seen = ("rows", "noise", "coherence", "silhouette", "seconds", "note")
        figures = {name: getattr(self, name) for name in seen}
        return fields(f"{self.name} · version {self.version} · {self.recipe}, seed {self.seed}", counts | figures)


@dataclass(frozen=True, eq=False)
class Learned:
    """A fit that is not part of the store yet; arrays over rows are in the order of `rows`."""

    scope: Scope
    recipe: ClusterRecipe
    seed: int
    rows: Rows
    partition: Partition
    rule: Rule
    members: Members
    shape: Shape
    clusters: list[dict[str, Any]]
    details: dict[str, Any]
    previous: ModelRow | None


def learn(
    sync: Sync,
    table: RecordTable[Any],
    scope: Scope,
    recipe: ClusterRecipe,
    n: int | None,
    seed: int,
    progress: Progress | None = None,
) -> Learned:
    """Cluster the scope's records as of now; takes no lock and writes nothing.

    Raises:
        ValidationError: there are no vectors, or the numbers cannot be.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 31:
        raise ValidationError(f"seed: expected a whole number in 0..2147483647, got {seed!r}")
    with sync.catalog.read() as connection:
        previous = registry.model_of(connection, scope.name)
        before = None if previous is None else registry.members_of(connection, previous.id)
    if previous is not None and (previous.type, previous.kind, previous.space) != ("cluster", scope.kind, scope.space):
        raise ValidationError(f"name: {scope.name!r} is taken by a model of something else; choose another")
    found = models.gather(sync, table, scope.space, scope.node(table))
    if not len(found.records):
        what = "match" if scope.where or scope.context else "are there"
        raise ValidationError(f"{scope.name}: there is nothing to cluster: no {scope.kind} with vectors {what}")
    prepared = engine.prepared(found.vectors, found.metric)
    span(progress, 0, 5)(1, 1)
    partition = engine.fit(prepared, recipe, n, seed, span(progress, 5, 75))
    count = len(partition.rule.centroids)
    first = 0 if previous is None else int(previous.details["next_number"])
    old = np.full(len(found.records), NOISE) if before is None else _numbers_before(before, found)
    numbers = engine.continued(old, partition.labels, count, first)
    rule = Rule(partition.rule.centroids, numbers, partition.rule.spread, partition.rule.reach)
    strengths, apart = rule.strengths(prepared, partition.labels) if count else (np.zeros(len(found.records)),) * 2
    span(progress, 75, 85)(1, 1)
    numbered = np.append(numbers, NOISE)[partition.labels]  # the label NOISE takes the last place
    members = Members(found.records, found.vids, numbered, strengths, found.vids)
    shape = engine.shape(prepared, partition.labels, rule.centroids)
    span(progress, 85, 90)(1, 1)
    words = _words(sync, table, members, numbers)
    span(progress, 90, 95)(1, 1)
    clusters = [
        {
            "number": int(number),
            "name": label(words[place], int(number)),
            "terms": list(words[place]),
            "size": shape.sizes[place],
            "coherence": shape.coherence[place],
            "distinctiveness": shape.distinctiveness[place],
            "related": {str(numbers[other]): cosine for other, cosine in shape.related[place]},
        }
        for place, number in enumerate(numbers)
    ]
    inside = partition.labels != NOISE
    details = {
        "metric": found.metric,
        "where": scope.where,
        "context": scope.context,
        "seed": seed,
        "n": n,
        "asked": partition.asked,
        "noise": int((~inside).sum()),
        "spread": rule.spread,
        "dimensions": partition.dimensions,
        "reach": None if rule.reach is None else [float(value) for value in rule.reach],
        "distance": float(apart[inside].mean()) if inside.any() else 0.0,
        "coherence": engine.mean_coherence(shape),
        "silhouette": engine.silhouette(prepared, partition.labels, seed),
        "fitted_by": partition.library,
        "next_number": max([first, *(int(number) + 1 for number in numbers)]),
        "note": partition.note,
    }
    span(progress, 95, 100)(1, 1)
    return Learned(scope, recipe, seed, found, partition, rule, members, shape, clusters, details, previous)


def _numbers_before(before: Members, found: Rows) -> Any:
    """(n,) the cluster that each record was in, NOISE for none."""
    if not len(before.records):
        return np.full(len(found.records), NOISE)
    places = np.minimum(np.searchsorted(before.records, found.records), len(before.records) - 1)
    return np.where(before.records[places] == found.records, before.numbers[places], NOISE)


def _words(sync: Sync, table: RecordTable[Any], members: Members, numbers: Any) -> list[tuple[str, ...]]:
    """The words that set each cluster's texts apart, from its strongest members."""
    if not table.schema.text_columns or not len(numbers):
        return [()] * len(numbers)
    each = max(1, min(200, _TEXTS // len(numbers)))
    order = np.lexsort((members.records, -members.strengths, members.numbers))
    sorted_numbers = members.numbers[order]
    chosen = []
    for number in numbers:
        low, high = np.searchsorted(sorted_numbers, [number, number + 1])
        chosen.append(members.records[order[low : min(high, low + each)]].tolist())
    with sync.catalog.read() as connection:
        records = table.by_rows(connection, [record for part in chosen for record in part])
    texts = [[models.text_of(table, records[record]) for record in part if record in records] for part in chosen]
    return engine.terms(texts)


def commit(clusters: Centroids[Cluster], learned: Learned) -> FitReport:
    """Make the fit current: file, registry, Cluster records with their centroids, memberships, in one transaction.

    Raises:
        Superseded: another fit of the line was committed, or records were erased meanwhile; nothing was written.
        SpaceMismatch: the store's other centroids have another number of dimensions.
    """
    sync, scope, rule = clusters._sync, learned.scope, learned.rule
    centroids = np.ascontiguousarray(rule.centroids, dtype="<f4")
    info = None
    if len(centroids):
        info = models.publish_model(sync, scope.kind, "joblib", [modelfiles.to_bytes(centroids)])
    discard = (lambda: None) if info is None else partial(models.files(sync).remove, info.name)
    with sync.catalog.write(undo=discard) as transaction:
        connection = transaction.connection
        current = registry.model_of(connection, scope.name)
        if (current and current.id) != (learned.previous and learned.previous.id):
            raise Superseded(f"{scope.name}: another fit was committed meanwhile; it was kept; fit again")
        stale = None
        if transaction.seq - 1 > learned.rows.seq:
            if not registry.all_there(connection, learned.rows.vids):
                raise Superseded(f"{scope.name}: records were erased while they were clustered; fit again")
            if registry.moved_on(connection, scope.space, learned.rows.seq, learned.rows.last_vid):
                stale = transaction.seq
        if info is not None:
            models.still_there(sync, info)
        row = registry.insert_model(
            connection,
            info,
            name=scope.name,
            type=registry.CLUSTER,
            parent=None if current is None else current.id,
            kind=scope.kind,
            space=scope.space,
            recipe=learned.recipe.to_dict(),
            details=learned.details,
            clusters=learned.clusters,
            centroids=centroids.tobytes(),
            rows=len(learned.rows.records),
            library=modelfiles.library(),
            seq=learned.rows.seq,
            at=transaction.now,
            seconds=learned.partition.seconds,
            stale=stale,
        )
        registry.put_fitted(connection, row, learned.members)
        made = registry.model_at(connection, row)
        kept, new, retired = show(clusters, transaction, made, current)
        thin(sync, transaction, scope.name)
        note = {"name": scope.name, "version": made.version, "kind": scope.kind, "rows": made.rows}
        transaction.notes.append(("fit", {**note, "clusters": len(rule.numbers)}))
        transaction.record("fit", scope.kind, name=scope.name, version=made.version, clusters=len(rule.numbers))
    details = learned.details
    return FitReport(
        name=scope.name,
        version=made.version,
        kind=scope.kind,
        recipe=learned.recipe.name,
        rows=made.rows,
        noise=details["noise"],
        asked=details["asked"],
        clusters=tuple(cluster_id(scope.name, int(number)) for number in rule.numbers),
        kept=kept,
        new=new,
        retired=retired,
        coherence=details["coherence"],
        silhouette=details["silhouette"],
        dimensions=details["dimensions"],
        seed=learned.seed,
        seconds=learned.partition.seconds,
        note=details["note"],
        seq=learned.rows.seq,
    )


def show(
    clusters: Centroids[Cluster], transaction: Transaction, row: ModelRow, before: ModelRow | None
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Bring the Cluster records in line with a version; ids of those (kept, new, retired)."""
    old = {known["number"]: known for known in ([] if before is None else before.clusters)}
    now = {known["number"] for known in row.clusters}
    names = {number: cluster_id(row.name, number) for number in (*old, *now)}
    if row.clusters:
        stored = {record.id: record for record in clusters.get_many(names.values())}
        records = [_record(row, known, stored.get(names[known["number"]])) for known in row.clusters]
        clusters.upsert(records, vectors=clusters.directed(transaction, models.centroids_of(row)), source="centroid")
    gone = [names[number] for number in old if number not in now]
    if gone:
        clusters.delete(gone)
    kept = tuple(names[number] for number in sorted(now & old.keys()))
    new = tuple(names[number] for number in sorted(now - old.keys()))
    return kept, new, tuple(sorted(gone))


def _record(row: ModelRow, known: Mapping[str, Any], old: Any) -> dict[str, Any]:
    """A Cluster's fields."""
    return {
        **own_words(known, old),
        "id": cluster_id(row.name, known["number"]),
        "context": row.details["context"] or "default",
        "of": row.kind,
        "model": row.name,
        "number": known["number"],
        "size": known["size"],
        "coherence": known["coherence"],
        "distinctiveness": known["distinctiveness"],
        "terms": tuple(known["terms"]),
        "related": {cluster_id(row.name, int(number)): cosine for number, cosine in known["related"].items()},
    }


def own_words(known: Mapping[str, Any], old: Any) -> dict[str, Any]:
    """The name by a cluster's words; of a record that is there, what people wrote into it instead."""
    if old is None:
        return {"name": known["name"]}
    name = known["name"] if old.name == label(old.terms, old.number) else old.name
    return {"name": name, "description": old.description, "tags": old.tags, "extra": old.extra}


def thin(sync: Sync, transaction: Transaction, name: str) -> None:
    """Of versions that were retired long ago only the record stays."""
    retired = [row for row in registry.models_of(transaction.connection, name) if row.status == registry.RETIRED]
    for row in retired[:-KEPT]:
        registry.thin_model(transaction.connection, row)
        models.remove_after(sync, transaction, row.file)
