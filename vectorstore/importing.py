"""Records that come in as they once were: with their own versions, times and vectors, and nothing made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from vectorstore.embedding import Embedding
from vectorstore.errors import SpaceMismatch
from vectorstore.ids import to_micros
from vectorstore.records import Record, Row, Value
from vectorstore.records.columnar import Valid
from vectorstore.storage import RecordTable, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.spaces import VectorOrigin
from vectorstore.sync import Origin, Progress, Sync, stage
from vectorstore.vectors import Matrix
from vectorstore.writing import Batch, Chunk

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Space:
    """The identity of a vector space: what makes its vectors comparable with those of another store.

    `model` and the probe are None where the vectors were brought by the caller.
    """

    name: str
    dim: int
    metric: str
    model: str | None
    probe_text: str | None
    probe_vector: bytes | None


@dataclass(frozen=True, eq=False)
class Brought:
    """The vectors of some records in one space: (n,) ids, (n, d) vectors, and where each comes from.

    Of an origin the vid does not matter; `updates` below zero are counted here.
    """

    space: Space
    ids: Sequence[str]
    vectors: Matrix
    origins: Sequence[VectorOrigin]


class Import(Batch[R]):
    """Records on their way back. They keep `version`, `created_at` and `updated_at`; nothing is embedded."""

    def __init__(
        self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str, brought: Sequence[Brought]
    ) -> None:
        super().__init__(sync, table, embedding, metric, None)
        self._spaces: dict[str, Space] = {}
        for each in brought:
            self._check_space(each.space)
        self._bring(brought)

    def _bring(self, brought: Sequence[Brought]) -> None:
        """The vectors of the chunks to come."""
        self._brought = brought
        self._places = [{name: place for place, name in enumerate(each.ids)} for each in brought]
        self._spaces.update((each.space.name, each.space) for each in brought)

    def _check_space(self, wanted: Space) -> None:
        """Vectors are only comparable within one space.

        Raises:
            SpaceMismatch: the store's is another.
        """
        with self._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, wanted.name)
        held = [("metric", self._metric, wanted.metric)]
        if space is not None:
            held = [(what, getattr(space, what), getattr(wanted, what)) for what in ("dim", "metric", "model")]
        for what, here, there in held:
            if here != there:
                raise SpaceMismatch(
                    f"{wanted.name}: the store's space has {what} {here!r}, what comes in has {there!r}; "
                    "load it into a store of its own, opened with that metric and embedder"
                )

    def _stamps(self, valid: Valid[R], ids: list[str], now: datetime) -> dict[str, Sequence[Value]]:
        stamps = super()._stamps(valid, ids, now)
        stamps["version"] = valid.values.get("version", stamps["version"])
        said: Sequence[Any] = valid.values.get("updated_at", stamps["updated_at"])
        stamps["updated_at"] = [at if isinstance(at, int) else to_micros(at or now) for at in said]
        return stamps

    def _succeeding(self, row: Row, version: int, made: int | None, deleted: bool) -> Row:
        return row

    def _stage_given(self, part: Chunk, ids: list[str], offset: int) -> None:
        for each, places in zip(self._brought, self._places, strict=True):
            here = [(at, places[name]) for at, name in enumerate(ids) if name in places]
            alike: dict[tuple[str, float, bool], list[tuple[int, int]]] = {}
            for at, place in here:
                known = each.origins[place]
                alike.setdefault((known.source, known.confidence, known.updates >= 0), []).append((at, place))
            for (source, confidence, counted), chosen in alike.items():
                found = np.array([place for _, place in chosen], dtype=np.int64)
                origins = [each.origins[place] for place in found]
                updates = [one.updates for one in origins] if counted else None
                origin = Origin(source, confidence, [one.text_hash for one in origins], updates)
                names = [ids[at] for at, _ in chosen]
                staged = stage(self._sync, each.space.name, names, each.vectors[found], origin)
                part.staged.append(([at for at, _ in chosen], staged))

    def _stage_texts(self, part: Chunk, records: list[R], ids: list[str], progress: Progress | None) -> None:
        """What came without a vector stays without one."""

    def _write_vectors(self, transaction: Transaction, part: Chunk, numbers: list[int]) -> None:
        super()._write_vectors(transaction, part, numbers)
        for wanted in self._spaces.values():
            space = rows.space_by_name(transaction.connection, wanted.name)
            if space is None or space.model is not None or wanted.model is None:
                continue
            probe = (wanted.probe_text or "", wanted.probe_vector or b"")
            rows.pin_model(transaction.connection, space.id, wanted.model, *probe)
