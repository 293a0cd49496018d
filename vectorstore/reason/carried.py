"""The clustering models of a context in its snapshot: what each line's current fit has learned, and who belongs where.

One line of JSON a model. Vids and rows are of one store, so that members go by id; a member says whether the vector
that was looked at, and the one that took part in the fit, is the one that the snapshot has. The model's file is not
carried: it follows from the centroids and is written anew.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from vectorstore.clusters import ClusterRecipe, modelfiles
from vectorstore.errors import ConflictError, CorruptError, RecipeError
from vectorstore.files import FileInfo
from vectorstore.storage import Connection, Transaction
from vectorstore.storage import models as registry
from vectorstore.storage import spaces as rows
from vectorstore.storage.models import NOISE, Members, ModelRow
from vectorstore.sync import Sync, models
from vectorstore.vectors import Matrix

HOME = "default"
_GONE = -1
"""For a vector that did not come along; no vid."""


class Carried(pydantic.BaseModel):
    """A model as a snapshot has it: the fields of `ModelRow`, and its members as columns."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Annotated[str, pydantic.StringConstraints(min_length=1)]
    version: Annotated[int, pydantic.Field(ge=1)]
    kind: str
    space: str
    recipe: dict[str, Any]
    details: dict[str, Any]
    clusters: list[dict[str, Any]]
    dim: Annotated[int, pydantic.Field(ge=0)]
    centroids: str
    rows: Annotated[int, pydantic.Field(ge=0)]
    at: int
    seconds: float
    stale: bool
    ids: list[str]
    numbers: list[int]
    strengths: list[Annotated[float, pydantic.Field(ge=0, le=1)]]
    looked_at: list[bool]
    fitted: list[Literal["no", "as it is", "as it was"]]

    @pydantic.model_validator(mode="after")
    def _fits(self) -> Carried:
        """Its parts belong together: what is read from it later needs no further look."""
        ClusterRecipe.from_dict(self.recipe)
        numbers = [known["number"] for known in self.clusters]
        details, reach = self.details, self.details["reach"]
        values = np.frombuffer(base64.b64decode(self.centroids, validate=True), dtype="<f4")
        lengths = {len(column) for column in (self.ids, self.numbers, self.strengths, self.looked_at, self.fitted)}
        if not (
            len(values) == len(numbers) * self.dim
            and np.isfinite(values).all()
            and len(lengths) == 1
            and len(set(self.ids)) == len(self.ids)
            and all(type(number) is int and 0 <= number < 2**31 for number in numbers)
            and len(set(numbers)) == len(numbers)
            and set(self.numbers) <= {NOISE, *numbers}
            and type(details["next_number"]) is int
            and details["next_number"] > max(numbers, default=-1)
            and math.isfinite(details["spread"])
            and (reach is None or (len(reach) == len(numbers) and all(map(math.isfinite, reach))))
        ):
            raise ValueError("its parts do not belong together")
        return self


def lines_of(
    connection: Connection, contexts: Sequence[str], held: Mapping[str, Mapping[int, str]]
) -> Iterator[tuple[str, bytes]]:
    """(name, line) of the current fit of each line whose clusters are in one of the contexts.

    Args:
        connection: of the snapshot.
        contexts: that are saved.
        held: of each kind, row -> id of the records that are saved; other members stay behind.
    """
    for row in rows_of(connection, contexts):
        yield row.name, _line(connection, row, held.get(str(row.kind), {}))


def rows_of(connection: Connection, contexts: Sequence[str]) -> Iterator[ModelRow]:
    """The current fit of each line whose clusters are in one of the contexts."""
    for row in registry.models_of(connection, type=registry.CLUSTER):
        if row.status == registry.CURRENT and (row.details["context"] or HOME) in contexts:
            yield row


def _line(connection: Connection, row: ModelRow, ids: Mapping[int, str]) -> bytes:
    members = registry.members_of(connection, row.id)
    space = rows.space_by_name(connection, str(row.space))
    kept = np.array([record in ids for record in members.records.tolist()], dtype=bool)
    records = members.records[kept].tolist()
    origins = {} if space is None else rows.origins_of(connection, space.id, records)
    fitted = members.fitted[kept]
    live = np.array([origins[record].vid if record in origins else -1 for record in records], dtype=np.int64)
    carried = Carried(
        **{name: getattr(row, name) for name in ("name", "version", "recipe", "details", "clusters", "rows")},
        **{name: getattr(row, name) for name in ("at", "seconds")},
        kind=str(row.kind),
        space=str(row.space),
        dim=models.centroids_of(row).shape[1],
        centroids=base64.b64encode(row.centroids or b"").decode(),
        stale=row.stale is not None,
        ids=[ids[record] for record in records],
        numbers=members.numbers[kept].tolist(),
        strengths=members.strengths[kept].tolist(),
        looked_at=(members.vids[kept] == live).tolist(),
        fitted=np.where(fitted == 0, "no", np.where(fitted == live, "as it is", "as it was")).tolist(),
    )
    return (json.dumps(carried.model_dump(), ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def read(lines: Iterator[tuple[str, Any]]) -> list[Carried]:
    """The models of a snapshot, checked.

    Args:
        lines: (where, parsed JSON).

    Raises:
        CorruptError: one is not as `Carried` wants it.
    """
    found = []
    for where, line in lines:
        try:
            found.append(Carried.model_validate(line))
        except (ValueError, KeyError, TypeError, RecipeError) as error:
            raise CorruptError(f"{where}: is no model: {error}") from error
    if len({carried.name for carried in found}) < len(found):
        raise CorruptError("the snapshot has two current fits of one line")
    return found


def publish(sync: Sync, carried: Sequence[Carried]) -> list[FileInfo | None]:
    """Write the models' files, before any lock."""
    return [
        models.publish_model(sync, one.kind, "joblib", [modelfiles.to_bytes(_centroids(one))]) if one.clusters else None
        for one in carried
    ]


def discard(sync: Sync, infos: Sequence[FileInfo | None]) -> None:
    """Remove files that no transaction named."""
    for info in infos:
        if info is not None:
            models.files(sync).remove(info.name)


def insert(sync: Sync, transaction: Transaction, carried: Carried, info: FileInfo | None) -> None:
    """Make a model its line's only version; the records are there already.

    Raises:
        ConflictError: the store has a line of that name. CorruptError: its kind, space or members are not there.
    """
    connection = transaction.connection
    if registry.models_of(connection, carried.name):
        raise ConflictError(
            f"models: {carried.name!r} is there already; store.clusters.drop({carried.name!r}) makes room; "
            "nothing was loaded"
        )
    table = sync.tables.get(carried.kind)
    space = rows.space_by_name(connection, carried.space)
    if table is None or space is None or space.kind != carried.kind or (carried.clusters and space.dim != carried.dim):
        raise CorruptError(f"models: {carried.name!r} has clusters of {carried.space!r}, which is not in the snapshot")
    if info is not None:
        models.still_there(sync, info)
    stored = table.existing(connection, carried.ids)
    if len(stored) < len(carried.ids):
        lacking = next(name for name in carried.ids if name not in stored)
        raise CorruptError(f"models: {carried.name!r} has a member {lacking!r}, which is not in the snapshot")
    row = registry.insert_model(
        connection,
        info,
        version=carried.version,
        **{name: getattr(carried, name) for name in ("name", "kind", "space", "recipe", "details", "clusters", "rows")},
        **{name: getattr(carried, name) for name in ("at", "seconds")},
        type=registry.CLUSTER,
        parent=None,
        centroids=_centroids(carried).tobytes(),
        library=modelfiles.library(),
        seq=transaction.seq,
        stale=transaction.seq if carried.stale else None,
    )
    records = np.array([stored[name][0] for name in carried.ids], dtype=np.int64)
    origins = rows.origins_of(connection, space.id, records.tolist())
    live = np.array([origins[record].vid if record in origins else 0 for record in records.tolist()], dtype=np.int64)
    fitted = np.array(carried.fitted, dtype=np.str_)
    order = np.argsort(records)
    columns = Members(
        records,
        np.where(carried.looked_at, live, _GONE),
        np.array(carried.numbers, dtype=np.int64),
        np.array(carried.strengths, dtype=np.float64),
        np.where(fitted == "no", 0, np.where(fitted == "as it is", live, _GONE)),
    )
    registry.put_fitted(connection, row, columns.at(order))
    note = {"name": carried.name, "version": carried.version, "kind": carried.kind, "rows": carried.rows}
    transaction.notes.append(("fit", {**note, "clusters": len(carried.clusters)}))


def _centroids(carried: Carried) -> Matrix:
    values = np.frombuffer(base64.b64decode(carried.centroids), dtype="<f4")
    return values.reshape(len(carried.clusters), carried.dim)
