"""Semantic fields: those clusters of a fit that hang together, kept as records with an id that stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vectorstore import clusters as engine
from vectorstore.clusters import NOISE
from vectorstore.errors import Superseded, ValidationError
from vectorstore.reason.centroids import Centroids
from vectorstore.reason.clusters import Clusters, rule_of
from vectorstore.reason.fitting import Scope, own_words
from vectorstore.records import SemanticField
from vectorstore.storage import ModelRow
from vectorstore.storage import models as registry
from vectorstore.sync import Progress, models, span
from vectorstore.sync.models import cluster_id

_BLOCK = 8_192


@dataclass(frozen=True)
class FieldReport:
    """What a discovery found.

    Attributes:
        fields: ids of the fields of the line now, by the number of their cluster.
        new: those that were not there before.
        retired: those that were and are no more; their records are deleted.
        passed_over: cluster id -> why it makes no field.
    """

    fields: tuple[str, ...]
    new: tuple[str, ...]
    retired: tuple[str, ...]
    passed_over: dict[str, str]


class Fields(Centroids[SemanticField]):
    """The semantic fields of a store."""

    def discover(
        self,
        name: str = "concepts",
        *,
        min_coherence: float = 0.25,
        min_members: int = 3,
        core: float = 0.8,
        related: float = 0.1,
        progress: Progress | None = None,
    ) -> FieldReport:
        """Make fields of the clusters of a line's current fit, and drop the line's fields that are none any more.

        A field has the id of its cluster, which stays the same when the line is fitted again; so do name, description,
        tags and extra that people gave it.

        Args:
            name: of the line of fits.
            min_coherence: the least mean cosine of all pairs of members. What is much depends on the vectors: of
                all-MiniLM-L6-v2, names of animals, royalty, ranks and posts have 0.41 to 0.56, random glosses 0.07.
            min_members: the fewest members.
            core: the least membership of a core member. Above one half, so that cores are disjoint.
            related: the least membership of related records.
            progress: told (percent, 100).

        Raises:
            NotFound: no such line of fits: store.clusters.fit(...) first.
            Superseded: the line was fitted again or rolled back meanwhile; nothing was written.
            ValidationError: a bound that cannot be.

        Cost: the memberships of all records, O(n k d).
        """
        for what, value, low, high in (
            ("min_coherence", min_coherence, -1.0, 1.0),
            ("core", core, 0.5, 1.0),
            ("related", related, 0.0, core),
        ):
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValidationError(f"{what}: expected {low:g}..{high:g}, got {value!r}")
        if isinstance(min_members, bool) or not isinstance(min_members, int) or min_members < 1:
            raise ValidationError(f"min_members: expected a whole number of at least 1, got {min_members!r}")
        clusters: Clusters = self._others("clusters")  # type: ignore[assignment]  # what stands for that kind
        row = clusters._row(name)
        passed_over: dict[str, str] = {}
        places = []
        for place, known in enumerate(row.clusters):
            if known["size"] < min_members:
                passed_over[cluster_id(name, known["number"])] = f"{known['size']} members"
            elif known["coherence"] is None:
                passed_over[cluster_id(name, known["number"])] = "one member has no coherence"
            elif known["coherence"] < min_coherence:
                passed_over[cluster_id(name, known["number"])] = f"coherence {known['coherence']:.3f}"
            else:
                places.append(place)
        found = self._who(row, places, core, related, span(progress, 10, 90)) if places else {}
        with self._sync.catalog.write() as transaction:
            now = clusters._row(name)
            if (now.id, now.centroids) != (row.id, row.centroids):
                raise Superseded(f"{name}: the line was fitted again or rolled back meanwhile; discover again")
            old = {record.id: record for record in self.stream({"model": name})}
            fields = [cluster_id(name, row.clusters[place]["number"]) for place in places]
            if places:
                vectors = self.directed(transaction, models.centroids_of(row)[places])
                records = [
                    _record(row, place, old.get(field), *found[place])
                    for place, field in zip(places, fields, strict=True)
                ]
                self.upsert(records, vectors=vectors, source="centroid")
            gone = sorted(old.keys() - set(fields))
            if gone:
                self.delete(gone)
        span(progress, 90, 100)(1, 1)
        new = tuple(field for field in fields if field not in old)
        return FieldReport(tuple(fields), new, tuple(gone), passed_over)

    def _who(
        self, row: ModelRow, places: list[int], core: float, related: float, progress: Progress
    ) -> dict[int, tuple[list[str], dict[str, float], list[str]]]:
        """Place of a cluster -> (core ids, related ids with membership, frames), the strongest first."""
        table, rule = self._sync.table(str(row.kind)), rule_of(row)
        gathered = models.gather(self._sync, table, str(row.space), Scope.of(row).node(table))
        with self._sync.catalog.read() as connection:
            members = registry.members_of(connection, row.id)
        seen = ~members.due(gathered.records, gathered.vids)
        records, vectors = gathered.records[seen], gathered.vectors[seen]
        numbers = members.numbers[np.searchsorted(members.records, records)]
        strongest: dict[int, list[tuple[float, int, bool]]] = {place: [] for place in places}
        for start in range(0, len(records), _BLOCK):
            part = slice(start, start + _BLOCK)
            shares = rule.memberships(engine.prepared(vectors[part], gathered.metric))
            for place in places:
                near = np.flatnonzero((shares[:, place] >= related) & (numbers[part] != NOISE))
                own = numbers[part][near] == rule.numbers[place]
                inner = own & (shares[near, place] >= core)
                columns = (shares[near, place].tolist(), records[part][near].tolist(), inner.tolist())
                strongest[place] += zip(*columns, strict=True)
            progress(min(start + _BLOCK, len(records)), len(records))
        wanted = sorted({record for entries in strongest.values() for _, record, _ in entries})
        with self._sync.catalog.read() as connection:
            stored = table.by_rows(connection, wanted)
        out = {}
        for place, entries in strongest.items():
            ranked = sorted((entry for entry in entries if entry[1] in stored), key=lambda entry: (-entry[0], entry[1]))
            inside = [stored[record] for _, record, inner in ranked if inner]
            frames = sorted({frame for record in inside for frame in getattr(record, "roles", {})})
            others = {stored[record].id: min(1.0, share) for share, record, inner in ranked if not inner}
            out[place] = ([record.id for record in inside], others, frames)
        return out


def _record(
    row: ModelRow, place: int, old: Any, core: list[str], related: dict[str, float], frames: list[str]
) -> dict[str, Any]:
    known = row.clusters[place]
    return {
        **own_words(known, old),
        "id": cluster_id(row.name, known["number"]),
        "context": row.details["context"] or "default",
        "of": row.kind,
        "model": row.name,
        "number": known["number"],
        "core": tuple(core),
        "related": related,
        "frames": tuple(frames),
        "terms": tuple(known["terms"]),
        "coherence": known["coherence"],
    }
