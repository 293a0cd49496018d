"""How records leave a kind, and come back: delete, restore, purge.

A deleted record keeps its row; its vector is retired. Restoring gives it a new vid with the same vector. Purging erases
rows, text and vectors in the commit that swaps the rewritten segments. A record that has expired counts as deleted at
that instant, but stays gone when others are restored.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from vectorstore.ids import to_micros
from vectorstore.records import Cluster, Record, SemanticField
from vectorstore.records.where import And, Node, Or, Term, with_ids
from vectorstore.references import make_contexts
from vectorstore.results import Purged
from vectorstore.storage import Connection, IntegrityError, RecordTable, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.audits import forget_filters
from vectorstore.storage.decisions import forget_decisions
from vectorstore.storage.history import recording
from vectorstore.storage.pastrows import NamedFile, forget_rows
from vectorstore.storage.reserve import with_reserve
from vectorstore.storage.workflows import forget_items, last_vids
from vectorstore.storage.written import forget_written
from vectorstore.sync import Progress, Sync, bring_back, compact, expire, models
from vectorstore.sync.cascade import delete_rows, doomed_with, kinds_with, refuse_ownerless, returning, stamp
from vectorstore.sync.compact import Doomed
from vectorstore.sync.erasing import Gone, finish, owe
from vectorstore.sync.mend import forget_quarantined
from vectorstore.sync.past import all_named, scrub
from vectorstore.writing import conflict

R = TypeVar("R", bound=Record)
_DERIVED = (Cluster.table, SemanticField.table)


class _Moved(Exception):
    """A past began to be kept, or a space was made, while a purge was prepared: it has more to erase now."""


class Remover(Generic[R]):
    """Delete, restore and purge over the records of one kind."""

    def __init__(self, sync: Sync, table: RecordTable[R], metric: str) -> None:
        self._sync = sync
        self._table = table
        self._metric = metric

    def delete(self, node: Node) -> int:
        """Mark matching records as deleted, retire their vectors, and delete what belongs to them."""
        return with_reserve(self._sync.catalog, lambda: self._delete(node))

    def _delete(self, node: Node) -> int:
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

    def purge(self, node: Node | None, progress: Progress | None) -> Purged:
        """Erase matching deleted records, and rewrite what held their vectors, in one commit; says what went."""
        gone: Gone = {}
        with self._sync.catalog.read() as connection:
            some = self._table.count(connection, node, deleted=True)
        erased = Purged(0)
        while some:
            with contextlib.suppress(_Moved):
                erased = with_reserve(self._sync.catalog, lambda: self._erase(node, progress, gone))
                break
        erased.finished = finish(self._sync, gone)
        return erased

    def _erase(self, node: Node | None, progress: Progress | None, gone: Gone) -> Purged:
        erased: list[int] = []
        records: dict[str, set[int]] = {}
        vectors: dict[str, int] = {}

        def doomed(connection: Connection) -> list[int]:
            return [int(row) for row in self._table.matching(connection, node, deleted=True)]

        def erase(transaction: Transaction) -> None:
            if self._scope(transaction.connection) != scope:
                raise _Moved
            owe(transaction)
            erased[:] = doomed(transaction.connection)
            records.clear()
            for table, numbers in doomed_with(self._sync, transaction.connection, self._table, erased):
                records.setdefault(table.name, set()).update(numbers)
            for name, some in records.items():
                went = self._erase_rows(transaction, self._sync.table(name), sorted(some), gone)
                vectors[name] = max(went, vectors.get(name, 0))  # those of other spaces are gone by now

        with self._sync.catalog.read() as connection:
            keeps, spaces = scope = self._scope(connection)
        others = [name for name in spaces if name != self._table.name]
        try:
            # One space is rewritten outside the lock; with several, or a past, one commit for all is worth holding it.
            with self._sync.catalog.write() if others or keeps else contextlib.nullcontext() as transaction:
                before: set[NamedFile] = set()
                if transaction is not None:
                    owe(transaction)
                    connection = transaction.connection
                    before = all_named(connection) if keeps else before
                    for table, numbers in doomed_with(self._sync, connection, self._table, doomed(connection)):
                        vectors[table.name] = _owners(_vectors_of(connection, table, sorted(set(numbers))))
                for name in others:
                    compact(self._sync, name, progress=progress, doomed=partial(self._doomed_of, name, doomed))
                compact(self._sync, self._table.name, also=erase, progress=progress, doomed=doomed)
                if keeps and transaction is not None:
                    learned = [space.name for kind in _DERIVED for space in rows.spaces_of(connection, kind)]
                    scrub(self._sync, transaction, list(dict.fromkeys(spaces + learned)), before)
        except IntegrityError as error:
            raise conflict(self._table, error) from error
        went = {name: len(some) for name, some in records.items() if some}
        return Purged.of(len(erased), went, {name: many for name, many in vectors.items() if many})

    def _scope(self, connection: Connection) -> tuple[bool, list[str]]:
        """(whether a past is kept; the spaces whose vectors may go)."""
        concerned = kinds_with(self._sync, self._table)
        return recording(connection), [
            space.name for table in concerned for space in rows.spaces_of(connection, table.name)
        ]

    def _doomed_of(self, space: str, doomed: Doomed, connection: Connection) -> list[int]:
        """The rows of a space's kind that a purge erases."""
        kind = space.partition(".")[0]
        found = doomed_with(self._sync, connection, self._table, doomed(connection))
        return sorted({row for table, numbers in found if table.name == kind for row in numbers})

    def _erase_rows(self, transaction: Transaction, table: RecordTable[Any], numbers: Sequence[int], gone: Gone) -> int:
        """Erase rows and what speaks of them; returns how many had a vector, in any of their spaces."""
        vectors = _vectors_of(transaction.connection, table, numbers)
        for vid, _, space in vectors:
            gone.setdefault(space, set()).add(vid)
        vids = [vid for vid, _, _ in vectors]
        rows.drop_pending(transaction.connection, vids)
        rows.drop_vectors(transaction.connection, vids)
        forget_decisions(transaction.connection, table.name, table.table, numbers)
        forget_written(transaction.connection, table.name, numbers)
        ids = [record.id for record in table.by_rows(transaction.connection, numbers).values()]
        forget_items(transaction.connection, table.name, numbers, ids)
        if numbers:
            forget_filters(transaction.connection)
        words = models.words_in_labels(self._sync, transaction.connection, table.name, numbers)
        table.erase(transaction.connection, numbers)
        table.optimize_text(transaction.connection)
        self._forget(transaction, table.name, numbers, ids, words, gone)
        forget_quarantined(transaction.connection, table.name, numbers, ids)
        forget_rows(transaction.connection, table.name, ids, numbers, _DERIVED)
        details = {"kind": table.name, "operation": "purge", "records": len(numbers), "vectors": 0}
        transaction.notes.append(("commit", details))
        if numbers:
            transaction.record("purge", table.name, numbers)
        return _owners(vectors)

    def _forget(
        self,
        transaction: Transaction,
        kind: str,
        numbers: Sequence[int],
        ids: Sequence[str],
        words: set[str],
        gone: Gone,
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
            remover._erase(node, None, gone)

    def _spaces(self, transaction: Transaction) -> list[SpaceRow]:
        return rows.spaces_of(transaction.connection, self._table.name)

    def _revive(self, transaction: Transaction, space: SpaceRow, numbers: Sequence[int]) -> None:
        """Give restored records new vids with the vectors that their last vids name."""
        former = last_vids(transaction.connection, space.id, numbers)
        bring_back(self._sync, transaction, self._table, space, self._metric, former)

    def _note(self, transaction: Transaction, operation: str, records: int, vectors: int) -> None:
        details = {"kind": self._table.name, "operation": operation, "records": records, "vectors": vectors}
        transaction.notes.append(("commit", details))


def _vectors_of(connection: Connection, table: RecordTable[Any], numbers: Sequence[int]) -> list[tuple[int, int, str]]:
    """(vid, row, space) of rows' vectors in all spaces of their kind, retired ones included."""
    return [
        (vid, row, space.name)
        for space in rows.spaces_of(connection, table.name)
        for vid, row in rows.every_vector(connection, space.id, numbers)
    ]


def _owners(vectors: Sequence[tuple[int, int, str]]) -> int:
    """How many rows have a vector, each once a space."""
    return len({(row, space) for _, row, space in vectors})
