"""The verbs of one kind: add, upsert, update, get, find, search, count, stream, delete, restore, purge.

Every call is all or nothing. Validation and embedding happen before any lock; the transaction only writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

from vectorstore.deduplicating import Deduplicator, Duplicates
from vectorstore.embedding import Embedding
from vectorstore.errors import ConflictError, NotFound, ValidationError
from vectorstore.ids import ago, to_micros
from vectorstore.records import Record, Where, parse
from vectorstore.records.where import And, Node, Term, says_nothing, with_ids
from vectorstore.removing import Remover
from vectorstore.results import Page, Purged, VectorInfo, from_cursor
from vectorstore.search import Id, Request, SearchVerbs
from vectorstore.search.auditing import audit, history
from vectorstore.storage import RecordTable
from vectorstore.storage.audits import Audit
from vectorstore.storage.decisions import Decision, decisions_of
from vectorstore.sync import Progress, Sync
from vectorstore.tabular import Tabular
from vectorstore.writing import Batch, Given, Raced, incoming

R = TypeVar("R", bound=Record)
RETENTION = timedelta(days=30)
_ATTEMPTS = 20
_VERSION, _UPDATED, _DELETED = 2, 4, 5


class Collection(SearchVerbs[R], Tabular[R]):
    """All records of one kind in an open store."""

    def __init__(self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str) -> None:
        super().__init__(sync, table, embedding, metric)
        self._remover = Remover(sync, table, metric)

    # -- writing ---------------------------------------------------------------------------------------------------

    def add(
        self,
        records: R | Mapping[str, Any] | Iterable[R | Mapping[str, Any]] | Any,
        vectors: Any = None,
        *,
        source: str = "caller",
        confidence: float = 1.0,
        duplicates: Duplicates | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Add new records; they are durable and found by every process when this returns.

        Args:
            records: one or many, as objects of the kind or mappings; a generator is read in chunks. Or a table, the
                fastest way in: anything Arrow, a pandas or polars DataFrame, a mapping from names to sequences; null
                and NaN leave a field out. Unknown keys and columns are kept in `extra`.
            vectors: (n, d) numbers, one row a record, or the name of a table's column of them; None embeds the records'
                texts. For kinds with further vector spaces a mapping, such as {"relation": numbers}; the text is then
                embedded unless "text" is in it.
            source: where given vectors come from, kept with them ("pretrained", "custom", ...).
            confidence: 0..1, kept with given vectors.
            duplicates: what to do with near-duplicates of records that are there: vs.Duplicates(0.95, "reject").
            progress: told (done, total) while texts are embedded.

        Returns:
            The ids, in order; for what was rejected or merged as a near-duplicate the id of the record that is there.

        Raises:
            DuplicateId: an id is taken, or comes twice; use `upsert` to overwrite. The id of a deleted or expired
                record is free.
            ValidationError: a bad record or vector, named as `concepts[17].quality`; nothing was written.

        Memory: the encoded rows of the whole call; vectors go to disk in chunks of 8,192.
        """
        return self._write("add", records, vectors, source, confidence, duplicates, progress)

    def upsert(
        self,
        records: R | Mapping[str, Any] | Iterable[R | Mapping[str, Any]] | Any,
        vectors: Any = None,
        *,
        source: str = "caller",
        confidence: float = 1.0,
        duplicates: Duplicates | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Add records, or replace those whose id exists: `created_at` stays, `version` rises by one.

        A record whose text is unchanged keeps its vector. Arguments, result and errors as in `add`.
        """
        return self._write("upsert", records, vectors, source, confidence, duplicates, progress)

    def _write(
        self,
        operation: str,
        records: Any,
        vectors: Any,
        source: str,
        confidence: float,
        duplicates: Duplicates | None,
        progress: Progress | None,
    ) -> list[str]:
        items, given = incoming(self.kind, records, vectors, source, confidence)
        if duplicates is not None:
            policy = Deduplicator(self._sync, self._table, self._embedding, self.metric, duplicates)
            return policy.write(operation, items, given, progress)
        for _ in range(_ATTEMPTS):
            batch = self._batch(given)
            batch.prepare(items, progress)
            if not batch.ids:
                return []
            try:
                batch.commit(operation)
                return batch.ids
            except Raced:
                if isinstance(items, Iterator):
                    raise ValidationError(
                        f"{self.name}: other writers changed the same records; pass a list instead of a generator"
                    ) from None
        raise ValidationError(f"{self.name}: other writers kept changing the same records; try again later")

    def _batch(self, given: Given | None) -> Batch[R]:
        return Batch(self._sync, self._table, self._embedding, self.metric, given)

    def update(
        self,
        changes: Mapping[str, Any] | Iterable[Mapping[str, Any]],
        vectors: Any = None,
        *,
        progress: Progress | None = None,
    ) -> int:
        """Change some fields of existing records; each change is a mapping with the `id` and the new values.

        Returns:
            How many records were changed.

        Raises:
            NotFound: an id does not exist; nothing was changed.
            ValidationError: a change makes a record invalid; nothing was changed.
        """
        items, given = incoming(self.kind, changes, vectors, "caller", 1.0)
        wanted = [dict(change) for change in items]
        for place, change in enumerate(wanted):
            if not isinstance(change.get("id"), str):
                raise ValidationError(f"{self.name}[{place}].id: is required to say which record to update")
        for _ in range(_ATTEMPTS):
            current = self._existing([change["id"] for change in wanted])
            merged = [self._merged(current[change["id"]], change, place) for place, change in enumerate(wanted)]
            batch = self._batch(given)
            batch.prepare(merged, progress)
            if not batch.ids:
                return 0
            try:
                return batch.commit("update", {name: record.version for name, record in current.items()})
            except Raced:
                continue
        raise ValidationError(f"{self.name}: other writers kept changing the same records; try again later")

    def _existing(self, ids: Sequence[str]) -> dict[str, R]:
        with self._sync.catalog.read() as connection:
            found = self._table.by_ids(connection, ids)
        absent = [name for name in ids if name not in found]
        if absent:
            raise NotFound(f"{self.name}: no record with id {absent[0]!r}; use upsert to create it")
        return {name: record for name, (_, record) in found.items()}

    def _merged(self, record: R, change: Mapping[str, Any], place: int) -> R:
        fields = {name: getattr(record, name) for name in type(record).model_fields}
        unknown = {key: value for key, value in change.items() if key not in fields}
        merged = {**fields, **{key: value for key, value in change.items() if key in fields}}
        if unknown:
            merged["extra"] = {**merged["extra"], **unknown}
        return self.kind.parse(merged, f"{self.name}[{place}]")

    def delete(
        self, ids: str | Iterable[str] | None = None, *, where: Where | None = None, dry_run: bool = False
    ) -> int:
        """Delete records: they vanish from every read and search, and `restore` brings them back until `purge`.

        Args:
            ids: one id or many; missing ones are no error.
            where: a filter; together with ids both must hold.
            dry_run: only count.

        Returns:
            How many records were (or would be) deleted.

        Raises:
            ValidationError: neither ids nor a filter, or an empty part in it; deleting everything must be said:
                where={"version__gte": 1}.
        """
        node = self._criteria(ids, where, "delete")
        if dry_run:
            with self._sync.catalog.read() as connection:
                return self._table.count(connection, node)
        return self._remover.delete(node)

    def restore(self, ids: str | Iterable[str] | None = None, *, where: Where | None = None) -> int:
        """Bring deleted records back, with their vectors; returns how many. Expired ones stay gone: upsert them.

        Raises:
            ConflictError: a unique value was taken meanwhile; nothing was restored.
        """
        node = self._criteria(ids, where, "restore")
        return self._remover.restore(node)

    def purge(
        self,
        ids: str | Iterable[str] | None = None,
        *,
        where: Where | None = None,
        older_than: timedelta = RETENTION,
        expired: bool = False,
        progress: Progress | None = None,
    ) -> Purged:
        """Erase deleted and expired records for good: rows, text, vectors, index entries, and what belongs to them.

        What is live is never erased: `delete` it first. Copies of the catalog that migrations have left beside it go as
        well; backups, which are files of their own, keep what they have.

        Args:
            ids: only these; their age does not matter. Those that are not there are no error.
            where: only those that match.
            older_than: without ids, only records that were deleted, or expired, at least so long ago (default 30 days).
            expired: only records that have expired, and those at once.
            progress: told (segments written, segments to write).

        Returns:
            How many, as a number that also knows what else went: `records` and `vectors` by kind, and `finished`.

        Raises:
            ConflictError: a record that is named is live; nothing was erased.

        Cost: rewrites every segment that holds one of their vectors, the index, and the catalog (copied in memory).
        """
        node = with_ids(self._parse(where), ids, self._table.schema)
        self._remover.expire()
        if ids is not None and not expired:
            with self._sync.catalog.read() as connection:
                live = self._table.count(connection, node)
            if live:  # whoever names them means to erase them, and would take a count of 0 for done
                said = "is not deleted; delete it" if live == 1 else "are not deleted; delete them"
                raise ConflictError(f"{self.name}.purge: {live} of the named records {said} first")
        if ids is None or expired:
            limit = to_micros(ago(self._sync.catalog.clock(), timedelta(0) if expired else older_than))
            column = self._table.schema.by_name["expires_at" if expired else "deleted_at"]
            old = Term(column, (), "lte", limit)
            node = And((old,) if node is None else (old, node))
        return self._remover.purge(node, progress)

    def decisions(self, id: str | None = None, *, limit: int = 100, after: str | None = None) -> Page[Decision]:
        """One page of what was decided about near-duplicates at write, oldest first: all, or what names an id.

        An action of "link" is an edge between the two records.
        """
        cursor = from_cursor(after)
        with self._sync.catalog.read() as connection:
            found = decisions_of(connection, self.name, id, limit + 1, 0 if cursor is None else cursor[1])
        return Page.of(*found, limit)

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, id: str) -> R | None:
        """The record with that id, or None."""
        found: R | None = self.get_many([id], missing="none")[0]
        return found

    def get_many(self, ids: Iterable[str], *, missing: Literal["skip", "none", "raise"] = "skip") -> list[Any]:
        """Records by id, in the order asked.

        Args:
            ids: as many as you like.
            missing: leave absent ones out, put None in their places, or raise NotFound.
        """
        wanted = list(ids)
        with self._sync.catalog.read() as connection:
            found = self._table.by_ids(connection, wanted)
        live = {name: record for name, (_, record) in found.items()}
        absent = [name for name in wanted if name not in live]
        if missing == "raise" and absent:
            raise NotFound(f"{self.name}: no record with id {absent[0]!r}")
        return [live.get(name) for name in wanted if missing == "none" or name in live]

    def find(
        self,
        where: Where | None = None,
        *,
        order: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page[R]:
        """One page of records that match, in a stable order.

        Args:
            where: a filter; None for all.
            order: a field, with a leading `-` for descending; None for the order of arrival. Ties in order of arrival.
            limit: 1..10,000 records.
            after: the `next` of the page before.
        """
        node = self._parse(where)
        descending = order is not None and order.startswith("-")
        column = None
        if order is not None:
            column = self._table.schema.by_name.get(order.removeprefix("-"))
            if column is None or column.type == "json":
                raise ValidationError(f"order: expected a plain field of {self.name}, got {order!r}")
        with self._sync.catalog.read() as connection:
            total = self._table.count(connection, node)
            found = self._table.page(
                connection, node, order=column, descending=descending, limit=limit + 1, after=from_cursor(after)
            )
        return Page.of([(value, number, record) for number, value, record in found], total, limit)

    def stream(self, where: Where | None = None, *, batch_size: int = 1000) -> Iterator[R]:
        """All matching records in order of arrival; memory holds one batch, and no lock is held between batches."""
        return self._stream(self._parse(where), batch_size)

    def _stream(self, node: Node | None, batch_size: int) -> Iterator[R]:
        after: tuple[Any, int] | None = None
        while True:
            with self._sync.catalog.read() as connection:
                found = self._table.page(connection, node, order=None, descending=False, limit=batch_size, after=after)
            yield from (record for _, _, record in found)
            if len(found) < batch_size:
                return
            after = (None, found[-1][0])

    def count(self, where: Where | None = None) -> int:
        """How many live records match."""
        node = self._parse(where)
        with self._sync.catalog.read() as connection:
            return self._table.count(connection, node)

    # -- trust -----------------------------------------------------------------------------------------------------

    def audit_recall(
        self,
        k: int = 10,
        where: Where | None = None,
        recall: float | None = None,
        queries: Any = None,
        sample: int = 100,
        space: str | None = None,
        progress: Progress | None = None,
    ) -> Audit:
        """Measure what searches deliver now, against exact answers, and keep the result.

        Args:
            k: how many hits are compared.
            where: audit searches with this filter.
            recall: the recall to ask for; None for 0.99.
            queries: texts, vectors or ids to ask with; None makes some from the data (docs/adr/0006).
            sample: how many to make, at least 10.
            space: which of the kind's vector spaces; None for the one of its texts.
            progress: told (queries asked, queries).

        Returns:
            What was asked, promised and delivered. `warning` says what to do when it is less than asked for by more
            than chance explains, or when much has changed since the index was built; it is logged too.

        Cost: `sample` exact searches.
        """
        request = Request.checked(self._table, k, where, recall, exact=False)
        asked = None if queries is None else self._searcher(space).queries.many(queries)[0]
        return audit(self._sync, self._table, self.kind.space_name(space), request, where, asked, sample, progress)

    def audits(self, limit: int = 100, space: str | None = None, *, after: str | None = None) -> Page[Audit]:
        """One page of what audits found so far, newest first."""
        return history(self._sync, self.kind.space_name(space), limit, after)

    def __len__(self) -> int:
        return self.count()

    def __contains__(self, id: object) -> bool:
        if not isinstance(id, str):
            return False
        with self._sync.catalog.read() as connection:
            found = self._table.existing(connection, [id]).get(id)
        return found is not None and not found[1]

    def __iter__(self) -> Iterator[R]:
        return self.stream()

    # -- filters ---------------------------------------------------------------------------------------------------

    def _parse(self, where: Where | None) -> Node | None:
        return parse(where, self._table.schema)

    def _criteria(self, ids: str | Iterable[str] | None, where: Where | None, verb: str) -> Node:
        node = with_ids(self._parse(where), ids, self._table.schema)
        if node is None or says_nothing(node):
            raise ValidationError(
                f"{self.name}.{verb}: say what: ids=... or where=...; for everything where={{'version__gte': 1}}"
            )
        return node


__all__ = ["Collection", "Id", "VectorInfo"]
