"""Creation and update: records come in by the same batches as `upsert` and `update`, and what they replace is kept."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import numpy as np

from vectorstore.deduplicating import Remembering
from vectorstore.errors import ConflictError, DuplicateId, LeaseHeld, NotFound, ValidationError, VectorstoreError
from vectorstore.reason.centroids import Centroids
from vectorstore.records import Context, Record, Row
from vectorstore.records.columnar import without_collector
from vectorstore.references import check_references
from vectorstore.storage import IntegrityError, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage import workflows as store
from vectorstore.storage.workflows import Done, ItemRow, Told
from vectorstore.sync import bring_back
from vectorstore.sync.cascade import delete_dependents
from vectorstore.sync.reviving import end, retire
from vectorstore.workflows.jobs import REFUSALS, Job, Work, as_image, in_parts, numbered
from vectorstore.writing import Batch, Existing, Given, Raced, conflict

Read = tuple[ItemRow, dict[str, Any]]
_VERSION, _UPDATED, _DELETED = 2, 4, 5


class Creation(Work):
    """Records are added; those whose id is there are replaced, if the workflow may."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.table = job.table
        self.brought = job.row.options.get("vectors")
        embeds = bool(self.table.schema.text_columns) and not job.collection._embedding.brings_vectors
        # Larger ones gain little (benchmarks/work.py), and a cancel waits for the chunk at hand: a fifth of a second.
        self.chunk = 250 if embeds and not self.brought else 4000
        self._ahead = self.ahead() if embeds and not self.brought else None
        self._landed: dict[int, int] | None = None
        self._failed = False
        self._made: dict[str, int] = dict(job.row.options.get("made_contexts", {}))

    # -- forward -------------------------------------------------------------------------------------------------------

    def parts(self, items: Sequence[ItemRow]) -> Generator[Sequence[ItemRow], None, None]:
        """Each chunk as soon as its texts are embedded, where workers do that."""
        return super().parts(items) if self._ahead is None else self._ahead.parts(self.chunks(items), self._texts)

    def _texts(self, items: Sequence[ItemRow]) -> list[str]:
        """What will be embedded of the items that are sound by themselves."""
        texts = []
        for item, fields in self.read(items)[0]:
            with contextlib.suppress(*REFUSALS):
                texts.append(self.table.schema.text(self._check(item, fields)))
        return texts

    def run(self, items: Sequence[ItemRow]) -> None:
        """Write a chunk; when it is refused, find the items at fault, and write the others."""
        self._embedding = self._ahead or Remembering(self.job.collection._embedding)
        with without_collector():
            good, bad = self.read(items)
        try:
            self._attempt(good, bad)
            return
        except LeaseHeld:
            raise
        except REFUSALS:
            pass
        sound, unsound = self._screened(good)
        bad += unsound
        if bad:
            self.tell(sorted(bad, key=lambda each: each.number))
        if not (bad and self.job.strict):
            in_parts(sound, self._attempt, self._single, lambda: self._failed and self.job.strict)

    def _screened(self, good: Sequence[Read]) -> tuple[list[Read], list[Told]]:
        """(items whose records are valid by themselves, the others)."""
        sound, bad = [], []
        for item, fields in good:
            try:
                self._check(item, fields)
                sound.append((item, fields))
            except REFUSALS as error:
                bad.append(Told(item.number, "failed", self._named(fields), str(error)))
        return sound, bad

    def _check(self, item: ItemRow, fields: dict[str, Any]) -> Record:
        """The record that an item makes, as far as that can be told without the others."""
        record: Record = self.table.schema.kind.parse(fields, self.place(item))
        return record

    def _named(self, fields: Mapping[str, Any]) -> str | None:
        name = fields.get("id")
        if isinstance(name, str) and name:
            return name
        with contextlib.suppress(VectorstoreError):
            derived: str | None = self.table.schema.kind.parse(fields, "").derived_id()
            return derived
        return None

    def _single(self, read: Read, error: VectorstoreError) -> None:
        """What is valid by itself but refused by what is there may be taken later, when what it refers to has come."""
        item, fields = read
        status = "failed"
        if not isinstance(error, ConflictError | NotFound):
            with contextlib.suppress(*REFUSALS):
                self._prepare([read])[0].discard()
                status = "waiting"
        self._failed |= status == "failed"
        self.tell([Told(item.number, status, self._named(fields), numbered(error, self.table.name, item.number))])

    @property
    def _operation(self) -> str:
        return "upsert" if self.job.row.options.get("overwrite", True) else "add"

    def _prepare(self, part: Sequence[Read]) -> tuple[Batch[Any], dict[str, int] | None]:
        """The batch, and for an update the versions that it was computed from."""
        batch = self._batch(part)
        batch.prepare([fields for _, fields in part], None)
        return batch, None

    def _batch(self, part: Sequence[Read]) -> Batch[Any]:
        collection = self.job.collection
        return Batch(self.sync, self.table, self._embedding, collection.metric, self._given(part))

    def _given(self, part: Sequence[Read]) -> Given | None:
        if not self.brought:
            return None
        data = b"".join(item.vectors or b"" for item, _ in part)
        flat = np.frombuffer(data, dtype="<f4").reshape(len(part), -1)
        spaces, start = {}, 0
        for name, dim in self.brought["spaces"]:
            spaces[name] = flat[:, start : start + dim]
            start += dim
        return Given(spaces, self.brought["source"], self.brought["confidence"])

    def _attempt(self, part: Sequence[Read], told: Sequence[Told] = ()) -> None:
        if not part:
            self.tell(told)
            return
        while True:
            batch, versions = self._prepare(part)
            before: dict[str, tuple[int, Row, dict[str, int]]] = {}

            def witness(
                transaction: Transaction, existing: Existing, batch: Batch[Any] = batch, before: Any = before
            ) -> None:
                self._refuse_again(transaction, batch, existing)
                before.update(self._before(transaction, existing))

            batch.witness = witness
            try:
                with self.sync.catalog.write() as transaction:
                    contexts = self._contexts(transaction)
                    batch.commit(self._operation, versions)
                    with without_collector():
                        landed = zip(part, batch.ids, batch.numbers, strict=True)
                        done = [_done(item, number, before.get(name)) for (item, _), name, number in landed]
                    self._remember_contexts(transaction, contexts)
                    self.job.land(transaction, done, told)
            except Raced:
                continue
            if self._landed is not None:
                self._landed.update((each.record or 0, each.number) for each in done)
            return

    def _refuse_again(self, transaction: Transaction, batch: Batch[Any], existing: Existing) -> None:
        """An item of the same workflow must not be overwritten by another one: it would be lost in silence."""
        if not existing:
            return
        if self._landed is None:
            self._landed = store.landed_rows(transaction.connection, self.job.row.id)
        for place, name in enumerate(batch.ids):
            found = existing.get(name)
            if found is not None and found[0] in self._landed:
                other = self._landed[found[0]]
                raise DuplicateId(
                    f"{self.table.name}[{place}].id: {name!r} is also item {other} of this workflow; "
                    "give one of them an id of its own"
                )

    def _before(self, transaction: Transaction, existing: Existing) -> dict[str, tuple[int, Row, dict[str, int]]]:
        """Id -> (row, its values, the vector of each space) of records that are about to be replaced."""
        if not existing:
            return {}
        connection = transaction.connection
        numbers = [number for number, _ in existing.values()]
        values = store.rows_as_they_are(connection, self.table.table, self.table.schema.names, numbers)
        vids: dict[int, dict[str, int]] = {number: {} for number in numbers}
        gone = [number for number, deleted in existing.values() if deleted]
        for space in rows.spaces_of(connection, self.table.name):
            found = {number: vid for number, (vid, _, _) in rows.live_vectors(connection, space.id, numbers).items()}
            if gone:
                found |= store.last_vids(connection, space.id, gone)
            for number, vid in found.items():
                vids[number][str(space.id)] = vid
        return {name: (number, values[number], vids[number]) for name, (number, _) in existing.items()}

    # -- contexts that are made on first use ---------------------------------------------------------------------------

    def _contexts(self, transaction: Transaction) -> dict[str, int]:
        return dict(transaction.connection.execute("SELECT id, version FROM contexts WHERE deleted_at IS NULL"))

    def _remember_contexts(self, transaction: Transaction, before: Mapping[str, int]) -> None:
        now = self._contexts(transaction)
        new = {name: version for name, version in now.items() if name not in before}
        if not new or self.table.name == Context.table:
            return
        self._made.update(new)
        row = store.workflow_by_name(transaction.connection, self.job.row.name)
        assert row is not None  # it is held
        made = {**row.options.get("made_contexts", {}), **new}  # as it is now: some were purged, perhaps
        options = json.dumps({**row.options, "made_contexts": made})
        store.change_workflow(transaction.connection, row.id, options=options)

    def undone(self, transaction: Transaction) -> None:
        """Contexts that came with the records go again, if nobody else uses them."""
        now = self._contexts(transaction)
        contexts = self.job.others(Context.table)
        for name, version in self._made.items():
            if now.get(name) == version:
                with contextlib.suppress(ConflictError):
                    contexts.delete(name)

    # -- backward ------------------------------------------------------------------------------------------------------

    def undo(self, items: Sequence[ItemRow]) -> None:
        """New records are deleted, replaced ones are what they were; what somebody changed since stays."""
        in_parts(items, self._take_back, self.keep)

    def _take_back(self, items: Sequence[ItemRow]) -> None:
        table = self.table
        with self.sync.catalog.write() as transaction:
            numbers = [item.record for item in items if item.record is not None]
            now = store.rows_as_they_are(transaction.connection, table.table, table.schema.names, numbers)
            new: list[str] = []
            back: list[tuple[ItemRow, Row, int]] = []
            kept: list[Told] = []
            for item in items:
                row = now.get(item.record or 0)
                if row is None or (item.image is None and row[_DELETED] is not None):
                    continue  # it was purged, or it is gone already
                version = int(row[_VERSION] or 0)
                if version != item.mark:
                    reason = f"{self.place(item)}: changed since, to version {version}; it was left as it is"
                    kept.append(Told(item.number, "kept", str(row[0]), reason))
                elif item.image is None:
                    new.append(str(row[0]))
                else:
                    back.append((item, tuple(json.loads(item.image)), version + 1))
            if new:
                self.job.collection.delete(new)
            if back:
                self._write_back(transaction, back)
            left = {each.number for each in kept}
            self.job.take(transaction, [item.number for item in items if item.number not in left], kept)

    def _write_back(self, transaction: Transaction, back: Sequence[tuple[ItemRow, Row, int]]) -> None:
        """The former rows, as new versions of their records, with their vectors."""
        table, sync = self.table, self.sync
        changed = [
            (item.record or 0, (*row[:_VERSION], version, row[3], transaction.now, *row[_DELETED:]))
            for item, row, version in back
        ]
        living = [(number, row) for number, row in changed if row[_DELETED] is None]
        check_references(sync, transaction, table, [row for _, row in living], {str(row[0]) for _, row in living}, 0)
        guard = sync.guards.get(table.name)
        if guard is not None and living:
            guard.before(transaction, [row for _, row in living], 0)
        try:
            table.replace(transaction.connection, table.raised(transaction.connection, changed))
        except IntegrityError as error:
            raise conflict(table, error) from error
        for space in rows.spaces_of(transaction.connection, table.name):
            self._vectors_back(transaction, space, back, dict(changed))
        gone = {number: int(row[_DELETED] or 0) for number, row in changed if row[_DELETED] is not None}
        if gone:
            delete_dependents(sync, transaction, table, gone)
        if guard is not None and living:
            guard.after(transaction, [number for number, _ in living])
        details = {"kind": table.name, "operation": "rollback", "records": len(changed), "vectors": 0}
        transaction.notes.append(("commit", details))
        transaction.record("rollback", table.name, [number for number, _ in changed])

    def _vectors_back(
        self,
        transaction: Transaction,
        space: rows.SpaceRow,
        back: Sequence[tuple[ItemRow, Row, int]],
        changed: Mapping[int, Row],
    ) -> None:
        former = {item.record or 0: item.former(space.id) for item, _, _ in back}
        before = rows.live_vectors(transaction.connection, space.id, list(former))
        current = {number: vid for number, (vid, _, _) in before.items()}
        other = {number: vid for number, vid in former.items() if vid is not None and vid != current.get(number)}
        metric = self.job.collection.metric
        bring_back(self.sync, transaction, self.table, space, metric, other)
        now = rows.live_vectors(transaction.connection, space.id, list(former))
        # What the workflow made and nothing took the place of: there was no vector, or a vid that named none.
        left = [number for number, (vid, _, _) in now.items() if vid == current.get(number) != former[number]]
        end(transaction, space, left)
        retire(transaction, space, [number for number in other if changed[number][_DELETED] is not None])


def _done(item: ItemRow, number: int, before: tuple[int, Row, dict[str, int]] | None) -> Done:
    if before is None:
        return Done(item.number, number, 1)
    _, row, vids = before
    return Done(item.number, number, int(row[_VERSION] or 0) + 1, as_image(row), vids)


class Update(Creation):
    """Some fields of records are changed."""

    def _check(self, item: ItemRow, fields: dict[str, Any]) -> Record:
        name = fields.get("id")
        if not isinstance(name, str):
            raise ValidationError(f"{self.place(item)}.id: is required to say which record to update")
        collection = self.job.collection
        merged: Record = collection._merged(collection._existing([name])[name], fields, item.number)
        return merged

    def _named(self, fields: Mapping[str, Any]) -> str | None:
        name = fields.get("id")
        return name if isinstance(name, str) else None

    @property
    def _operation(self) -> str:
        return "update"

    def _prepare(self, part: Sequence[Read]) -> tuple[Batch[Any], dict[str, int] | None]:
        for item, fields in part:
            if not isinstance(fields.get("id"), str):
                raise ValidationError(f"{self.place(item)}.id: is required to say which record to update")
        collection = self.job.collection
        current = collection._existing([fields["id"] for _, fields in part])
        merged = [collection._merged(current[fields["id"]], fields, place) for place, (_, fields) in enumerate(part)]
        batch = self._batch(part)
        batch.prepare(merged, None)
        return batch, {name: record.version for name, record in current.items()}

    def _given(self, part: Sequence[Read]) -> Given | None:
        """The vectors that were brought; clusters and fields keep their centroids, which embed no text."""
        collection = self.job.collection
        if self.brought or not isinstance(collection, Centroids):
            return super()._given(part)
        names = [fields["id"] for _, fields in part]
        known = collection._searcher(None).queries.stored(names)
        if not all(name in known for name in names):
            return None
        return Given({self.table.name: np.stack([known[name] for name in names])}, "caller", 1.0)
