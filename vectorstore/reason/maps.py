"""Maps: all vectors of a kind on a plane, to be looked at. `store.maps`.

A map is the projection, not the points: the mean and two axes of a PCA, kept in the catalog's registry of models. The
points are the records' vectors as they are now, projected when they are asked for, so a map cannot show what is gone
or miss what is new; only its axes can be old, and it says since when. A UMAP has no axes: it keeps the points of its
fit, by vector, and puts what came later where its nearest fitted neighbours are.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vectorstore.errors import LibraryMissing, NotFound, ValidationError, installing
from vectorstore.html import scatter
from vectorstore.ids import from_micros
from vectorstore.reason.mapfiles import MapFile, write_map
from vectorstore.reason.models import Models
from vectorstore.reason.reasoner import Others
from vectorstore.storage import models as registry
from vectorstore.storage.lookups import values_of
from vectorstore.storage.trail import names_of
from vectorstore.sync import Progress, Sync, models
from vectorstore.sync.models import Rows
from vectorstore.vectors import Matrix, Vids

Method = Literal["pca", "umap"]
Points = npt.NDArray[np.float32]
BLOCK = 8192
NEIGHBOURS = 5
LEGEND = 40
"""So many values have a colour of their own, the commonest; the rest are one."""
REST = "(others)"
SEED = 42


@dataclass(frozen=True)
class MapInfo:
    """What is known of a map.

    Attributes:
        kind: whose records.
        space: which of its vector spaces.
        method: "pca" or "umap".
        at: when it was fitted.
        seq: the commit that it was fitted at.
        rows: vectors that it was fitted on.
        explained: the shares of the variance that the two axes explain; zeros for a UMAP.
        later: vectors of now that took no part in the fit.
    """

    kind: str
    space: str
    method: str
    at: datetime
    seq: int
    rows: int
    explained: tuple[float, float]
    later: int


@dataclass(frozen=True, eq=False)
class Map:
    """Records on a plane.

    Attributes:
        info: of the map.
        ids: (n,) of the records, in the order of their rows.
        points: (n, 2) float32.
        colours: (n,) int16 places in the legend; -1 for a record without a value.
        legend: values, the commonest first.
    """

    info: MapInfo
    ids: tuple[str, ...]
    points: Points
    colours: npt.NDArray[np.int16]
    legend: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def _repr_html_(self) -> str:
        """A picture for notebooks; of a large map, of some thousands of its points."""
        info = self.info
        share = f", {sum(info.explained):.0%} of the variance" if info.method == "pca" else ""
        later = f", {info.later} came after the fit" if info.later else ""
        return scatter(f"{len(self)} {info.kind}, {info.method}{share}{later}", self.points, self.colours, self.legend)


class Maps:
    """The maps of a store, one for each vector space."""

    def __init__(self, sync: Sync, others: Others) -> None:
        self._sync = sync
        self._others = others
        self._models = Models(sync)

    def fit(
        self, kind: str, method: Method = "pca", *, space: str | None = None, progress: Progress | None = None
    ) -> MapInfo:
        """Make a kind's map from its vectors as they are now, in place of the one before.

        Args:
            kind: whose records.
            method: "pca": the two directions of the greatest variance, each turned so that its largest part is
                positive. "umap": neighbours stay neighbours; needs the extra `umap`, and minutes for 100,000 records.
            space: which of the kind's vector spaces; None for the one of its texts.
            progress: told (vectors seen, vectors).

        Raises:
            NotFound: no such kind. ValidationError: fewer than three vectors. LibraryMissing: no umap-learn.

        Cost of a PCA: d^2 operations a vector, 0.7 s for 117,659 x 384 on two cores; memory d^2 beside the vectors.
        """
        found = self._gathered(kind, space)
        if len(found.vids) < 3:
            raise ValidationError(f"maps.fit: {kind} has {len(found.vids)} vectors; a map needs three")
        vectors = _unit(found.vectors) if found.metric == "cosine" else found.vectors
        if method == "pca":
            mean, axes, explained = principal(vectors, progress)
            arrays: dict[str, Any] = {"mean": mean, "axes": axes, "explained": explained}
        else:
            order = np.argsort(found.vids)
            arrays = {"vids": found.vids[order], "points": _umap(vectors)[order], "explained": np.zeros(2)}
        buffer = io.BytesIO()
        np.savez(buffer, method=np.array(method), **arrays, rows=np.array(len(found.vids)))
        name = self._name(kind, space)
        details = {"seq": found.seq, "last_vid": found.last_vid, "rows": len(found.vids)}
        version = self._models.put(
            name, buffer.getvalue(), kind=kind, space=space, library="umap" if method == "umap" else "numpy",
            metadata=details,
        )  # fmt: skip
        for old in self._models.list(name, limit=10_000):
            if old.version < version:
                self._models.delete(name, old.version)
        return self.info(kind, space=space)

    def info(self, kind: str, *, space: str | None = None) -> MapInfo:
        """What is known of a kind's map; reads no vectors.

        Raises:
            NotFound: there is none yet.
        """
        row, arrays = self._stored(kind, space)
        return self._info(row, arrays, self._gathered(kind, space, vectors=False))

    def get(self, kind: str, colour: str | None = None, *, space: str | None = None) -> Map:
        """The kind's records on its map, as they are now.

        Args:
            kind: whose records.
            colour: a field of the kind, or "cluster" for the clusters of the kind's own line of fits; None for one
                colour.
            space: which of the kind's vector spaces.

        Raises:
            NotFound: there is no map, or no line of fits, yet. ValidationError: the kind has no such field.

        Cost: 2 d operations a vector; 0.15 s for 117,659 x 384.
        """
        row, arrays = self._stored(kind, space)
        found = self._gathered(kind, space, vectors="axes" in arrays)
        points = self._points(arrays, found, kind, space)
        with self._sync.catalog.read() as connection:
            table = self._sync.table(kind)
            ids = names_of(connection, table.table, found.records.tolist())
        colours, legend = self._coloured(kind, colour, found)
        listed = tuple(ids.get(number, "") for number in found.records.tolist())
        return Map(self._info(row, arrays, found), listed, points, colours, legend)

    def export(
        self,
        kind: str,
        path: str | os.PathLike[str],
        colour: str | None = None,
        *,
        neighbours: int = 0,
        space: str | None = None,
    ) -> MapFile:
        """Write the kind's records and their points to a Parquet file that Embedding Atlas, pandas and others open.

        Columns: the fields of the kind, `text` (what is embedded), `x` and `y`; with `colour` its value in `shown_by`;
        with `neighbours` the column `neighbors`, `{"ids": [...], "distances": [...]}` with the nearest others as
        zero-based rows of the file, as Embedding Atlas takes them.

        Args:
            kind: whose records.
            path: of the file, ending in .parquet; one that is there is replaced.
            colour: as in `get`.
            neighbours: so many for each record, 0..100; costs a search a record.
            space: which of the kind's vector spaces.

        Raises:
            NotFound: there is no map yet. ValidationError: a bad argument. LibraryMissing: no pyarrow.

        Memory: the table.
        """
        return write_map(self._others(kind), self.get(kind, colour, space=space), Path(path), neighbours, space)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _name(self, kind: str, space: str | None) -> str:
        return f"map:{self._sync.table(kind).schema.kind.space_name(space)}"

    def _gathered(self, kind: str, space: str | None, vectors: bool = True) -> Rows:
        table = self._others(kind)._table
        return models.gather(self._sync, table, table.schema.kind.space_name(space), None, vectors=vectors)

    def _stored(self, kind: str, space: str | None) -> tuple[registry.ModelRow, dict[str, Any]]:
        name = self._name(kind, space)
        with self._sync.catalog.read() as connection:
            row = registry.model_of(connection, name)
        if row is None:
            raise NotFound(f"{kind} has no map yet; store.maps.fit({kind!r}) makes it")
        with np.load(io.BytesIO(models.bytes_of(self._sync, row)), allow_pickle=False) as opened:
            return row, {part: opened[part] for part in opened.files}

    def _info(self, row: registry.ModelRow, arrays: dict[str, Any], found: Rows) -> MapInfo:
        later = int(np.count_nonzero(found.vids > int(row.details["last_vid"])))
        explained = arrays["explained"]
        return MapInfo(
            str(row.kind), str(row.space), str(arrays["method"]), from_micros(row.at), int(row.details["seq"]),
            int(row.details["rows"]), (float(explained[0]), float(explained[1])), later,
        )  # fmt: skip

    def _points(self, arrays: dict[str, Any], found: Rows, kind: str, space: str | None) -> Points:
        if "axes" in arrays:
            return projected(found.vectors, arrays["mean"], arrays["axes"], found.metric == "cosine")
        points = np.zeros((len(found.vids), 2), np.float32)
        places = np.searchsorted(arrays["vids"], found.vids)
        places[places == len(arrays["vids"])] = 0
        known = arrays["vids"][places] == found.vids
        points[known] = arrays["points"][places[known]]
        if not known.all():
            table = self._others(kind)._table
            every = models.gather(self._sync, table, table.schema.kind.space_name(space), None)
            here = dict(zip(found.vids[known].tolist(), points[known], strict=True))
            fitted = np.array([vid in here for vid in every.vids.tolist()])
            old, of_old = every.vectors[fitted], np.array([here[vid] for vid in every.vids[fitted].tolist()])
            new = {vid: place for place, vid in enumerate(every.vids.tolist())}
            rows = [new[vid] for vid in found.vids[~known].tolist() if vid in new]
            if len(rows) == int(np.count_nonzero(~known)) and len(old):
                points[~known] = _beside(every.vectors[rows], old, of_old)
        return points

    def _coloured(self, kind: str, colour: str | None, found: Rows) -> tuple[npt.NDArray[np.int16], tuple[str, ...]]:
        if colour is None:
            return np.full(len(found.records), -1, np.int16), ()
        values = (
            self._clusters(kind, found.records) if colour == "cluster" else self._field(kind, colour, found.records)
        )
        known = [value for value in values if value is not None]
        names, counts = np.unique(np.array(known, dtype=object).astype(str), return_counts=True)
        order = np.lexsort((names, -counts))
        legend = tuple(str(name) for name in names[order][:LEGEND])
        if len(names) > LEGEND:
            legend = (*legend[: LEGEND - 1], REST)
        place = {name: number for number, name in enumerate(legend)}
        rest = place.get(REST, -1)
        return np.array([-1 if v is None else place.get(str(v), rest) for v in values], dtype=np.int16), legend

    def _field(self, kind: str, field: str, records: Vids) -> list[Any]:
        schema = self._sync.table(kind).schema
        column = schema.by_name.get(field)
        if column is None or column.type == "json":
            raise ValidationError(f"colour: expected a plain field of {kind}, or cluster, got {field!r}", value=field)
        with self._sync.catalog.read() as connection:
            found = values_of(connection, schema, records.tolist(), field)
        return [found.get(number) for number in records.tolist()]

    def _clusters(self, kind: str, records: Vids) -> list[Any]:
        with self._sync.catalog.read() as connection:
            row = registry.model_of(connection, kind)
            if row is None or row.type != registry.CLUSTER:
                raise NotFound(f"no line of fits {kind!r}; store.clusters.fit({kind!r}) makes one")
            members = registry.members_of(connection, row.id)
        named = {one.number: one.name for one in self._others("clusters").stream({"model": kind})}
        number = dict(zip(members.records.tolist(), members.numbers.tolist(), strict=True))
        return [named.get(number.get(record)) for record in records.tolist()]


def principal(vectors: Matrix, progress: Progress | None = None) -> tuple[Matrix, Matrix, npt.NDArray[np.float64]]:
    """((d,) mean, (2, d) axes, (2,) shares of variance) of the first two principal components.

    By the eigenvectors of the covariance, summed in float64 over blocks of float32 products. Each axis is turned so
    that its largest part is positive, so the same vectors give the same map.

    Args:
        vectors: (n, d), n at least 3.
        progress: told (vectors seen, vectors).
    """
    count, dim = vectors.shape
    mean = vectors.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((dim, dim))
    for begin in range(0, count, BLOCK):
        block = vectors[begin : begin + BLOCK] - mean.astype(np.float32)
        covariance += block.T @ block
        if progress is not None:
            progress(min(begin + BLOCK, count), count)
    spread, basis = np.linalg.eigh(covariance)
    axes = np.zeros((2, dim))
    axes[: min(2, dim)] = basis[:, ::-1][:, :2].T
    for axis in axes:
        axis *= np.sign(axis[np.abs(axis).argmax()]) or 1.0
    shares = np.zeros(2)
    shares[: min(2, dim)] = spread[::-1][:2] / (spread.sum() or 1.0)
    return mean.astype(np.float32), axes.astype(np.float32), shares


def projected(vectors: Matrix, mean: Matrix, axes: Matrix, unit: bool) -> Points:
    """(n, 2) the vectors, of length one if asked for, less the mean, along the axes; by blocks."""
    points = np.empty((len(vectors), 2), np.float32)
    for begin in range(0, len(vectors), BLOCK):
        block = vectors[begin : begin + BLOCK]
        points[begin : begin + BLOCK] = ((_unit(block) if unit else block) - mean) @ axes.T
    return points


def _unit(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32, copy=False)


def _umap(vectors: Matrix) -> Points:
    try:
        from umap import UMAP
    except ImportError as error:
        raise LibraryMissing(f'method "umap" needs umap-learn ({error}); {installing("umap")}') from None
    neighbours = max(2, min(15, len(vectors) - 1))
    found = UMAP(n_neighbors=neighbours, metric="euclidean", random_state=SEED, n_jobs=1).fit_transform(vectors)
    points: Points = np.asarray(found, np.float32)
    return points


def _beside(vectors: Matrix, fitted: Matrix, points: Points) -> Points:
    """(n, 2) the mean of the points of each vector's nearest fitted ones, weighted by their likeness."""
    found = np.empty((len(vectors), 2), np.float32)
    old = _unit(fitted)
    for begin in range(0, len(vectors), 256):
        scores = _unit(vectors[begin : begin + 256]) @ old.T
        k = min(NEIGHBOURS, len(fitted))
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        weights = np.maximum(np.take_along_axis(scores, best, axis=1), 1e-6)
        weights /= weights.sum(axis=1, keepdims=True)
        found[begin : begin + 256] = (points[best] * weights[:, :, None]).sum(axis=1)
    return found
