"""Maps as files for other programs: Parquet with a row for each record and its point in the columns `x` and `y`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vectorstore.errors import ValidationError
from vectorstore.files import replace_file
from vectorstore.tabular import pyarrow

if TYPE_CHECKING:
    from vectorstore.collection import Collection
    from vectorstore.reason.maps import Map

BLOCK = 1_000
MOST = 100
"""So many neighbours of a record are written at most."""


@dataclass(frozen=True)
class MapFile:
    """What was written.

    Attributes:
        path: of the file.
        rows: records in it.
        columns: their names: the fields of the kind, `text`, `x`, `y`, and what was asked for besides.
    """

    path: Path
    rows: int
    columns: tuple[str, ...]


def write_map(collection: Collection[Any], plane: Map, path: Path, neighbours: int, space: str | None) -> MapFile:
    """A file with the records of a map; all of it or, after a crash, what was there before.

    Records that were added or deleted since the map was read are left out. See `Maps.export` for the columns.

    Raises:
        ValidationError: not a name that ends in .parquet, or a number of neighbours out of range. LibraryMissing: no
            pyarrow.
    """
    if path.suffix != ".parquet":
        raise ValidationError(f"maps.export: expected a path that ends in .parquet, got {str(path)!r}")
    if isinstance(neighbours, bool) or not isinstance(neighbours, int) or not 0 <= neighbours <= MOST:
        raise ValidationError(f"maps.export.neighbours: expected 0..{MOST}, got {neighbours!r}", value=neighbours)
    pa = pyarrow("maps.export")
    table = collection.to_arrow()
    places = {id: place for place, id in enumerate(table.column("id").to_pylist())}
    shown = [at for at, id in enumerate(plane.ids) if id in places]
    ids = [plane.ids[at] for at in shown]
    table = table.take(pa.array([places[id] for id in ids], pa.int64()))
    points = plane.points[shown]
    added: dict[str, Any] = {"text": pa.array(_texts(collection, ids), pa.string())}
    if plane.legend and "cluster" not in table.column_names:
        values = [None if place < 0 else plane.legend[place] for place in plane.colours[shown].tolist()]
        added["shown_by"] = pa.array(values, pa.string())
    added |= {name: pa.array(points[:, axis], pa.float32()) for axis, name in enumerate("xy")}
    if neighbours:
        near = pa.struct([("ids", pa.list_(pa.int64())), ("distances", pa.list_(pa.float32()))])
        added["neighbors"] = pa.array(_neighbours(collection, ids, neighbours, space), near)
    for name, column in added.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        table = table.append_column(name, column)
    import pyarrow.parquet as parquet

    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    replace_file(path, buffer.getbuffer())
    return MapFile(path, len(ids), tuple(table.column_names))


def _texts(collection: Collection[Any], ids: Sequence[str]) -> list[str | None]:
    """What is embedded of each; None for one that has been deleted meanwhile."""
    schema = collection._table.schema
    texts: list[str | None] = []
    for start in range(0, len(ids), BLOCK):
        found = collection.get_many(ids[start : start + BLOCK], missing="none")
        texts += [None if record is None else schema.text(record) for record in found]
    return texts


def _neighbours(
    collection: Collection[Any], ids: Sequence[str], count: int, space: str | None
) -> list[Mapping[str, Any] | None]:
    """The nearest others of each, as places in the file with their distances, nearest first."""
    places = {id: place for place, id in enumerate(ids)}
    found: list[Mapping[str, Any] | None] = []
    for start in range(0, len(ids), BLOCK):
        part = ids[start : start + BLOCK]
        vectors = collection.vectors(part, space)
        for id, hits in zip(part, collection.search_many(vectors, k=count + 1, space=space), strict=True):
            near = [hit for hit in hits if hit.id != id and hit.id in places][:count]
            found.append({"ids": [places[hit.id] for hit in near], "distances": [hit.distance for hit in near]})
    return found


__all__ = ["MapFile", "write_map"]
