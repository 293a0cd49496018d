"""A store proved and mended: what it says against what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vectorstore.embedding import Embedding
from vectorstore.storage import SpaceRow
from vectorstore.sync import CheckReport, Progress, RepairReport, Sync, check, repair, sweep

if TYPE_CHECKING:
    from vectorstore.collection import Collection


class Proving:
    """The part of `Store` that proves and mends."""

    _sync: Sync
    _embedding: Embedding

    if TYPE_CHECKING:

        def collection(self, kind: str) -> Collection[Any]:
            """The records of a kind."""

    def check(self, progress: Progress | None = None) -> CheckReport:
        """Prove that rows, files, indexes and full text agree; `findings` is empty when all is well."""
        return check(self._sync, progress)

    def repair(self, *, dry_run: bool = True, progress: Progress | None = None) -> RepairReport:
        """Make derived things again and sweep litter; records of lost segments are embedded again where text allows.

        `progress` is told (percent, 100): looking, mending, looking again.
        """
        reembed = None if self._embedding.brings_vectors else self._reembed
        return repair(self._sync, dry_run=dry_run, reembed=reembed, progress=progress)

    def _reembed(self, space: SpaceRow, ids: list[str]) -> int:
        collection = self.collection(space.kind)
        records = collection.get_many(ids)
        texts = [collection._table.schema.text(record) for record in records]
        vectors = self._embedding.query(space, texts)
        collection.upsert(records, vectors=vectors, source="repair")
        return len(records)

    def sweep(self, older_than: float = 0.0) -> list[str]:
        """Remove files that no row names; with 0 seconds no other process may be writing."""
        return sweep(self._sync, older_than)
