"""How records leave a kind, and come back: delete, restore, purge.

A deleted record keeps its row; its vector is retired. Restoring gives it a new vid with the same vector. Purging erases
rows, text and vectors in the commit that swaps the rewritten segments. A record that has expired counts as deleted at
that instant, but stays gone when others are restored.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from vectorstore.ids import to_micros
from vectorstore.records import Cluster, Record, SemanticField
from vectorstore.records.where import And, Node, Or, Term, with_ids
from vectorstore.references import make_contexts
from vectorstore.storage import Connection, IntegrityError, RecordTable, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.decisions import forget_decisions
from vectorstore.sync import Origin, Progress, Sync, attach, compact, expire, models, stage
from vectorstore.sync.cascade import delete_rows, doomed_with, kinds_with, refuse_ownerless, returning, stamp
from vectorstore.sync.compact import Doomed
from vectorstore.writing import conflict

R = TypeVar("R", bound=Record)


class Remover(Generic[R]):
    """Delete, restore and purge over the records of one kind."""

    def __init__(self, sync: Sync, table: RecordTable[R], metric: str) -> None:
        self._sync = sync
        self._table = table
        self._metric = metric

    def delete(self, node: Node) -> int:
        """Mark matching records as deleted, retire their vectors, and delete what belongs to them."""
        with self._sync.catalog.write() as transaction:
            numbers = self._table.matching(transaction.connection, node).tolist()
            if numbers:
                delete_rows(self._sync, transaction, self._table, dict.fromkeys(numbers, transaction.now))
            self._note(transaction, "delete", len(numbers), 0)
        return len(numbers)

    def restore(self, node: Node) -> int:
        """Take the mark off again and give the records their vectors back; not of those whose time has passed."""
        column = self._table.schema.by_name["expires_at"]
        with self._sync.catalog.write() as transaction:
            expire(self._sync, transaction, self._table)
            in_time = Or((Term(column, (), "isnull", True), Term(column, (), "gt", transaction.now)))
            node = And((node, in_time))
            numbers = self._table.matching(transaction.connection, node, deleted=True).tolist()
            if numbers:
                self._restore_rows(transaction, numbers)
            self._note(transaction, "restore", len(numbers), len(numbers))
        return len(numbers)

    def _restore_rows(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """Rows back, with their vectors, and what went with them."""
        records = self._table.by_rows(transaction.connection, numbers)
        former = {row: to_micros(record.deleted_at) for row, record in records.items() if record.deleted_at is not None}
        make_contexts(self._sync, transaction, dict.fromkeys(record.context for record in records.values()))
        try:
            stamp(transaction, self._table, dict.fromkeys(numbers))
        except IntegrityError as error:
            raise conflict(self._table, error) from error
        refuse_ownerless(self._sync, transaction, self._table, numbers)
        transaction.record("restore", self._table.name, numbers)
        for space in self._spaces(transaction):
            self._revive(transaction, space, numbers)
        for other, back in returning(self._sync, transaction, self._table, former):
            Remover(self._sync, other, self._metric)._restore_rows(transaction, list(back))
        guard = self._sync.guards.get(self._table.name)
        if guard is not None:
            guard.after(transaction, numbers)

    def expire(self) -> int:
        """Write down which records have expired; returns how many."""
        with self._sync.catalog.read() as connection:
            if not self._table.due(connection, self._sync.catalog.now()):
                return 0
        with self._sync.catalog.write() as transaction:
            return expire(self._sync, transaction, self._table)

    def purge(self, node: Node | None, progress: Progress | None) -> int:
        """Erase matching deleted records, and rewrite what held their vectors, in one commit."""
        erased = self._erase(node, progress)
        self._sync.catalog.checkpoint()
        return erased

    def _erase(self, node: Node | None, progress: Progress | None) -> int:
        erased: list[int] = []

        def doomed(connection: Connection) -> list[int]:
            return [int(row) for row in self._table.matching(connection, node, deleted=True)]

        def erase(transaction: Transaction) -> None:
            erased[:] = doomed(transaction.connection)
            for table, numbers in doomed_with(self._sync, transaction.connection, self._table, erased):
                self._erase_rows(transaction, table, numbers)

        with self._sync.catalog.read() as connection:
            others = [
                space.name
                for table in kinds_with(self._sync, self._table)
                for space in rows.spaces_of(connection, table.name)
                if space.name != self._table.name
            ]
        try:
            # One space is rewritten outside the lock; with several, one commit for all is worth holding it.
            with self._sync.catalog.write() if others else contextlib.nullcontext():
                for name in others:
                    compact(self._sync, name, progress=progress, doomed=partial(self._doomed_of, name, doomed))
                compact(self._sync, self._table.name, also=erase, progress=progress, doomed=doomed)
        except IntegrityError as error:
            raise conflict(self._table, error) from error
        return len(erased)

    def _doomed_of(self, space: str, doomed: Doomed, connection: Connection) -> list[int]:
        """The rows of a space's kind that a purge erases."""
        kind = space.partition(".")[0]
        found = doomed_with(self._sync, connection, self._table, doomed(connection))
        return sorted({row for table, numbers in found if table.name == kind for row in numbers})

    def _erase_rows(self, transaction: Transaction, table: RecordTable[Any], numbers: Sequence[int]) -> None:
        for space in rows.spaces_of(transaction.connection, table.name):
            gone = transaction.connection.execute(
                "SELECT v.vid FROM json_each(?) j CROSS JOIN vectors v ON v.record = j.value AND v.space = ?",
                (json.dumps(list(numbers)), space.id),
            ).fetchall()
            rows.drop_pending(transaction.connection, [vid for (vid,) in gone])
            rows.drop_vectors(transaction.connection, [vid for (vid,) in gone])
        forget_decisions(transaction.connection, table.name, table.table, numbers)
        ids = [record.id for record in table.by_rows(transaction.connection, numbers).values()]
        words = models.words_in_labels(self._sync, transaction.connection, table.name, numbers)
        table.erase(transaction.connection, numbers)
        table.optimize_text(transaction.connection)
        self._forget(transaction, table.name, numbers, ids, words)
        details = {"kind": table.name, "operation": "purge", "records": len(numbers), "vectors": 0}
        transaction.notes.append(("commit", details))
        if numbers:
            transaction.record("purge", table.name, numbers)

    def _forget(
        self, transaction: Transaction, kind: str, numbers: Sequence[int], ids: Sequence[str], words: set[str]
    ) -> None:
        """Take erased records out of clusters and fields; where a centroid was the erased vector, erase that, too."""
        hollow = models.forget(self._sync, transaction, kind, numbers, ids, words)
        if not hollow.any:
            return
        for derived in (Cluster, SemanticField):
            table = self._sync.table(derived.table)
            remover = Remover(self._sync, table, self._metric)
            node = with_ids(None, hollow.ids, table.schema)
            assert node is not None  # ids are a filter, even when there are none
            remover.delete(node)
            remover._erase(node, None)

    def _spaces(self, transaction: Transaction) -> list[SpaceRow]:
        return rows.spaces_of(transaction.connection, self._table.name)

    def _revive(self, transaction: Transaction, space: SpaceRow, numbers: Sequence[int]) -> None:
        """Give restored records new vids with the vectors that their last vids name."""
        connection = transaction.connection
        live = self._sync.state(space.name).current(connection)
        if live is None:
            return
        found = connection.execute(
            "SELECT v.record, max(v.vid), v.text_hash, v.source, v.confidence, v.updates FROM json_each(?) j "
            "CROSS JOIN vectors v ON v.record = j.value AND v.space = ? GROUP BY v.record",
            (json.dumps(list(numbers)), space.id),
        ).fetchall()
        old = {vid: (record, *rest) for record, vid, *rest in found}
        vids, vectors = live.vectors_of(np.array(sorted(old), dtype=np.int64))
        oldest_first = np.argsort(vids)  # so that ties between them stay as they were
        vids, vectors = vids[oldest_first], vectors[oldest_first]
        names = {number: record.id for number, record in self._table.by_rows(connection, numbers).items()}
        for key in {(old[vid][2], old[vid][3]) for vid in vids.tolist()}:
            chosen = [place for place, vid in enumerate(vids.tolist()) if old[vid][2:4] == key]
            revived = [int(old[int(vids[place])][0]) for place in chosen]
            hashes = [old[int(vids[place])][1] for place in chosen]
            staged = stage(
                self._sync, space.name, [names[row] for row in revived], vectors[chosen], Origin(*key, hashes)
            )
            transaction.undo.append(partial(staged.discard, self._sync))
            attach(self._sync, transaction, self._table.name, self._metric, staged, revived)

    def _note(self, transaction: Transaction, operation: str, records: int, vectors: int) -> None:
        details = {"kind": self._table.name, "operation": operation, "records": records, "vectors": vectors}
        transaction.notes.append(("commit", details))
