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
from typing import Generic, TypeVar

import numpy as np

from vectorstore.records import Cluster, Record, Row, SemanticField
from vectorstore.records.where import And, Node, Or, Term, with_ids
from vectorstore.storage import Connection, IntegrityError, RecordTable, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.decisions import forget_decisions
from vectorstore.storage.models import mark_stale
from vectorstore.sync import Origin, Progress, Sync, attach, compact, expire, models, stage
from vectorstore.writing import conflict

R = TypeVar("R", bound=Record)
_VERSION, _DELETED = 2, 5


class Remover(Generic[R]):
    """Delete, restore and purge over the records of one kind."""

    def __init__(self, sync: Sync, table: RecordTable[R], metric: str) -> None:
        self._sync = sync
        self._table = table
        self._metric = metric

    def delete(self, node: Node) -> int:
        """Mark matching records as deleted and retire their vectors."""
        with self._sync.catalog.write() as transaction:
            numbers = self._table.matching(transaction.connection, node).tolist()
            if numbers:
                self._stamp(transaction, numbers, transaction.now)
                for space in self._spaces(transaction):
                    mark_stale(transaction.connection, space.name, transaction.seq)
                    live = rows.live_vectors(transaction.connection, space.id, numbers)
                    rows.retire(transaction.connection, [vid for vid, _, _ in live.values()], transaction.seq)
            self._note(transaction, "delete", len(numbers), 0)
        return len(numbers)

    def restore(self, node: Node) -> int:
        """Take the mark off again and give the records their vectors back; not of those whose time has passed."""
        column = self._table.schema.by_name["expires_at"]
        with self._sync.catalog.write() as transaction:
            expire(transaction, self._table)
            in_time = Or((Term(column, (), "isnull", True), Term(column, (), "gt", transaction.now)))
            node = And((node, in_time))
            numbers = self._table.matching(transaction.connection, node, deleted=True).tolist()
            if numbers:
                try:
                    self._stamp(transaction, numbers, None)
                except IntegrityError as error:
                    raise conflict(self._table, error) from error
                for space in self._spaces(transaction):
                    self._revive(transaction, space, numbers)
            self._note(transaction, "restore", len(numbers), len(numbers))
        return len(numbers)

    def expire(self) -> int:
        """Write down which records have expired; returns how many."""
        with self._sync.catalog.read() as connection:
            if not self._table.due(connection, self._sync.catalog.now()):
                return 0
        with self._sync.catalog.write() as transaction:
            return expire(transaction, self._table)

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
            numbers = doomed(transaction.connection)
            erased[:] = numbers
            for space in self._spaces(transaction):
                gone = transaction.connection.execute(
                    "SELECT v.vid FROM json_each(?) j CROSS JOIN vectors v ON v.record = j.value AND v.space = ?",
                    (json.dumps(numbers), space.id),
                ).fetchall()
                rows.drop_pending(transaction.connection, [vid for (vid,) in gone])
                rows.drop_vectors(transaction.connection, [vid for (vid,) in gone])
            forget_decisions(transaction.connection, self._table.name, self._table.table, numbers)
            names = transaction.connection.execute(
                f"SELECT id FROM {self._table.table} WHERE row IN (SELECT value FROM json_each(?))",
                (json.dumps(numbers),),
            ).fetchall()
            words = models.words_in_labels(self._sync, transaction.connection, self._table.name, numbers)
            self._table.erase(transaction.connection, numbers)
            self._table.optimize_text(transaction.connection)
            self._forget(transaction, numbers, [name for (name,) in names], words)
            self._note(transaction, "purge", len(numbers), 0)

        with self._sync.catalog.read() as connection:
            further = [space.name for space in rows.spaces_of(connection, self._table.name)]
        further = [name for name in further if name != self._table.name]
        try:
            # One space is rewritten outside the lock; with several, one commit for all is worth holding it.
            with self._sync.catalog.write() if further else contextlib.nullcontext():
                for name in further:
                    compact(self._sync, name, progress=progress, doomed=doomed)
                compact(self._sync, self._table.name, also=erase, progress=progress, doomed=doomed)
        except IntegrityError as error:
            raise conflict(self._table, error) from error
        return len(erased)

    def _forget(self, transaction: Transaction, numbers: list[int], names: list[str], words: set[str]) -> None:
        """Take erased records out of clusters and fields; where a centroid was the erased vector, erase that, too."""
        hollow = models.forget(self._sync, transaction, self._table.name, numbers, names, words)
        if not hollow.any:
            return
        for kind in (Cluster, SemanticField):
            table = self._sync.table(kind.table)
            remover = Remover(self._sync, table, self._metric)
            node = with_ids(None, hollow.ids, table.schema)
            assert node is not None  # ids are a filter, even when there are none
            remover.delete(node)
            remover._erase(node, None)

    def _stamp(self, transaction: Transaction, numbers: Sequence[int], deleted_at: int | None) -> None:
        records = self._table.by_rows(transaction.connection, numbers)
        changed: list[tuple[int, Row]] = []
        for number in numbers:
            row = self._table.schema.encode(records[number], f"{self._table.name} row {number}")
            version = int(row[_VERSION] or 0) + 1
            stamped = (*row[:_VERSION], version, row[3], transaction.now, deleted_at, *row[_DELETED + 1 :])
            changed.append((number, stamped))
        self._table.replace(transaction.connection, changed, text_changed=False)

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
