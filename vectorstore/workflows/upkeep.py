"""Deletion, embedding anew, indexing anew, clustering."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from vectorstore.clusters import ClusterRecipe
from vectorstore.embedding import text_hash
from vectorstore.errors import DerivedError, LeaseHeld, LibraryMissing, Superseded, VectorstoreError
from vectorstore.reason.clusters import Clusters
from vectorstore.reason.fitting import Scope, commit, learn
from vectorstore.recipes import IndexRecipe
from vectorstore.records import Cluster, parse
from vectorstore.records.where import with_ids
from vectorstore.storage import Transaction
from vectorstore.storage import models as registry
from vectorstore.storage import spaces as rows
from vectorstore.storage import workflows as store
from vectorstore.storage.workflows import Done, ItemRow, Told
from vectorstore.sync import Origin, attach, bring_back, expire, flush, refresh, snapshot, stage
from vectorstore.sync.core import INDEX
from vectorstore.sync.publish import retire_index
from vectorstore.sync.reviving import end
from vectorstore.workflows.jobs import REFUSALS, Job, Work, as_image, in_parts, numbered

_VERSION, _DELETED = 2, 5
_ATTEMPTS = 5
Named = tuple[ItemRow, str]


class ById(Work):
    """Work on records that are named by their ids."""

    def named(self, items: Sequence[ItemRow]) -> tuple[list[Named], list[Told]]:
        """(items with the ids that they name, those that name none)."""
        found: list[Named] = []
        good, bad = self.read(items)
        for item, fields in good:
            name = fields.get("id")
            if isinstance(name, str):
                found.append((item, name))
            else:
                bad.append(Told(item.number, "failed", None, f"{self.place(item)}.id: is required"))
        return found, bad

    def absent(self, item: ItemRow, name: str) -> Told:
        """There is no such record."""
        return Told(item.number, "failed", name, f"{self.place(item)}: no record with id {name!r}")

    def run(self, items: Sequence[ItemRow]) -> None:
        """Do a chunk; when it is refused, find the items at fault, and do the others."""
        named, bad = self.named(items)
        if bad:
            self.tell(bad)
        failed = bool(bad)

        def single(read: Named, error: VectorstoreError) -> None:
            nonlocal failed
            failed = True
            reason = numbered(error, self.job.row.kind, read[0].number)
            self.tell([Told(read[0].number, "failed", read[1], reason)])

        in_parts(named, self.attempt, single, lambda: failed and self.job.strict)

    def attempt(self, part: Sequence[Named]) -> None:
        """Do some in one transaction."""
        raise NotImplementedError


class Deletion(ById):
    """Records are deleted as `delete` does it; those that a filter chose only if they still match it."""

    chunk = 1000

    def attempt(self, part: Sequence[Named]) -> None:
        """Delete what is there."""
        table = self.job.table
        where = parse(self.job.row.options.get("where"), table.schema)
        with self.sync.catalog.write() as transaction:
            connection = transaction.connection
            expire(self.sync, transaction, table)
            existing = table.existing(connection, [name for _, name in part])
            node = with_ids(where, [name for _, name in part], table.schema)
            matching = set(table.matching(connection, node).tolist())
            doomed: list[tuple[ItemRow, int]] = []
            told: list[Told] = []
            for item, name in part:
                number, gone = existing.get(name, (0, False))
                if name not in existing:
                    told.append(self.absent(item, name))
                elif number in matching:
                    doomed.append((item, number))
                else:
                    what = "is deleted already" if gone else "does not match the filter any more"
                    told.append(Told(item.number, "skipped", name, f"{self.place(item)}: {name!r} {what}"))
            if doomed:
                self.job.collection.delete([name for _, name in part], where=self.job.row.options.get("where"))
            stamps = table.stamps(connection, [number for _, number in doomed])
            done = [Done(item.number, number, stamps[number][0]) for item, number in doomed]
            self.job.land(transaction, done, told)

    def undo(self, items: Sequence[ItemRow]) -> None:
        """Restore what was deleted, with its vectors and all that went with it."""
        in_parts(items, self._restore, self.keep)

    def _restore(self, items: Sequence[ItemRow]) -> None:
        table = self.job.table
        with self.sync.catalog.write() as transaction:
            numbers = [item.record for item in items if item.record is not None]
            now = store.rows_as_they_are(transaction.connection, table.table, table.schema.names, numbers)
            back: list[int] = []
            kept: list[Told] = []
            for item in items:
                row = now.get(item.record or 0)
                if row is None:
                    kept.append(Told(item.number, "kept", None, f"{self.place(item)}: was purged since"))
                elif row[_DELETED] is None:
                    continue  # somebody restored it
                elif row[_VERSION] != item.mark:
                    kept.append(Told(item.number, "kept", str(row[0]), f"{self.place(item)}: was deleted again since"))
                else:
                    back.append(item.record or 0)
            if back:
                self.job.collection._remover._restore_rows(transaction, back)
                details = {"kind": table.name, "operation": "restore", "records": len(back), "vectors": len(back)}
                transaction.notes.append(("commit", details))
            left = {each.number for each in kept}
            self.job.take(transaction, [item.number for item in items if item.number not in left], kept)


class Embedding(ById):
    """Texts of records are embedded again, by the embedder that the store is open with."""

    chunk = 250

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self._ahead = self.ahead()

    def parts(self, items: Sequence[ItemRow]) -> Generator[Sequence[ItemRow], None, None]:
        """Each chunk as soon as its texts are embedded, where workers do that."""
        ahead = self._ahead
        return super().parts(items) if ahead is None else ahead.parts(self.chunks(items), self._texts, again=True)

    def _texts(self, items: Sequence[ItemRow]) -> list[str]:
        named, _ = self.named(items)
        with self.sync.catalog.read() as connection:
            found = self.job.table.by_ids(connection, [name for _, name in named])
        return [self.job.table.schema.text(record) for _, record in found.values()]

    def attempt(self, part: Sequence[Named]) -> None:
        """Give records new vectors of their texts."""
        collection, table, sync = self.job.collection, self.job.table, self.sync
        embedding = self._ahead or collection._embedding
        while True:
            with sync.catalog.read() as connection:
                found = table.by_ids(connection, [name for _, name in part])
                existing = table.existing(connection, [name for _, name in part])
                space = rows.space_by_name(connection, table.name)
            told = [self.absent(item, name) for item, name in part if name not in existing]
            told += [
                Told(item.number, "skipped", name, f"{self.place(item)}: {name!r} is deleted")
                for item, name in part
                if name in existing and name not in found
            ]
            here = [(item, *found[name]) for item, name in part if name in found]
            texts = [table.schema.text(record) for _, _, record in here]
            told += [
                Told(item.number, "skipped", record.id, f"{self.place(item)}: {record.id!r} has no text")
                for (item, _, record), text in zip(here, texts, strict=True)
                if not text
            ]
            chosen = [(*each, text) for each, text in zip(here, texts, strict=True) if text]
            if not chosen:
                self.tell(told)
                return
            matrix = embedding.anew(space, [text for *_, text in chosen], collection.metric)
            probe = embedding.probe() if space is None or space.model is None else None
            origin = Origin("embedder", 1.0, [text_hash(text) for *_, text in chosen])
            staged = stage(sync, table.name, [record.id for _, _, record, _ in chosen], matrix, origin)
            numbers = [number for _, number, _, _ in chosen]
            with sync.catalog.write(undo=partial(staged.discard, sync)) as transaction:
                stamps = table.stamps(transaction.connection, numbers)
                if any(stamps.get(number, (0, 0))[0] != record.version for _, number, record, _ in chosen):
                    transaction.after.append(partial(staged.discard, sync))
                    continue  # somebody changed one of them meanwhile
                before = self._live(transaction, numbers)
                attach(sync, transaction, table.name, collection.metric, staged, numbers)
                made = rows.space_by_name(transaction.connection, table.name)
                assert made is not None  # attach made it
                if made.model is None and probe is not None:
                    embedding.pin(transaction, made, probe)
                now = self._live(transaction, numbers)
                done = [
                    Done(item.number, number, now[number], None, {str(made.id): before.get(number, 0)})
                    for item, number, _, _ in chosen
                ]
                details = {"kind": table.name, "operation": "reembed", "records": 0, "vectors": len(numbers)}
                transaction.notes.append(("commit", details))
                transaction.record("reembed", table.name, numbers)
                self.job.land(transaction, done, told)
            return

    def _live(self, transaction: Transaction, numbers: Sequence[int]) -> dict[int, int]:
        space = rows.space_by_name(transaction.connection, self.job.table.name)
        if space is None:
            return {}
        return {row: vid for row, (vid, _, _) in rows.live_vectors(transaction.connection, space.id, numbers).items()}

    def undo(self, items: Sequence[ItemRow]) -> None:
        """The former vectors, unless there is a newer one than this workflow's."""
        in_parts(items, self._former, self.keep)

    def _former(self, items: Sequence[ItemRow]) -> None:
        table = self.job.table
        with self.sync.catalog.write() as transaction:
            space = rows.space_by_name(transaction.connection, table.name)
            now = self._live(transaction, [item.record or 0 for item in items])
            back: dict[int, int] = {}
            none: list[int] = []
            kept: list[Told] = []
            for item in items:
                vid = None if space is None else item.former(space.id)
                if now.get(item.record or 0) != item.mark:
                    reason = f"{self.place(item)}: has another vector since, or none"
                    kept.append(Told(item.number, "kept", item.name, reason))
                elif vid:
                    back[item.record or 0] = vid
                else:
                    none.append(item.record or 0)
            if space is not None:
                bring_back(self.sync, transaction, table, space, self.job.collection.metric, back)
                end(transaction, space, none)
                details = {"kind": table.name, "operation": "reembed", "records": 0, "vectors": len(back)}
                transaction.notes.append(("commit", details))
                if back or none:
                    transaction.record("rollback", table.name, [*back, *none])
            left = {each.number for each in kept}
            self.job.take(transaction, [item.number for item in items if item.number not in left], kept)


class Derived(Work):
    """Work whose items are made whole, one after the other."""

    def run(self, items: Sequence[ItemRow]) -> None:
        """Make each; what cannot be made is told."""
        good, bad = self.read(items)
        if bad:
            self.tell(bad)
        for item, fields in good:
            self._again(item, partial(self.make, item, fields), "failed")

    def undo(self, items: Sequence[ItemRow]) -> None:
        """Make what was there before."""
        for item in items:
            self._again(item, partial(self.unmake, item, json.loads(item.image or "null")), "kept")

    def _again(self, item: ItemRow, act: Any, status: str) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                act()
                return
            except (LeaseHeld, LibraryMissing):
                raise
            except (*REFUSALS, DerivedError) as error:
                if isinstance(error, Superseded) and attempt < _ATTEMPTS - 1:
                    continue  # somebody wrote the same meanwhile: look again
                if status == "kept":
                    self.keep(item, error)
                else:
                    self.tell([Told(item.number, status, item.name, f"{self.place(item)}: {error}")])
                return

    def make(self, item: ItemRow, fields: dict[str, Any]) -> None:
        """Do one item, landing it in the transaction that makes it current."""
        raise NotImplementedError

    def unmake(self, item: ItemRow, before: Any) -> None:
        """Take one back."""
        raise NotImplementedError


class Indexing(Derived):
    """Indexes are built again by a recipe; taking back builds by the recipe that there was."""

    def make(self, item: ItemRow, fields: dict[str, Any]) -> None:
        """One space's index."""
        name = str(fields.get("space"))
        recipe = IndexRecipe.from_dict(self.job.row.options["recipe"], f"the recipe of workflow {self.job.row.name!r}")
        flush(self.sync, name)
        live = snapshot(self.sync, name)
        if live is None or not live.live_rows:
            self.tell([Told(item.number, "skipped", name, f"{name}: there are no vectors to index")])
            return
        image = as_image({"space": name, "recipe": self._current(name)})

        def also(transaction: Transaction) -> None:
            self.job.land(transaction, [Done(item.number, None, 0, image)], ())

        refresh(self.sync, name, recipe, live, also=also)

    def _current(self, name: str) -> dict[str, Any] | None:
        with self.sync.catalog.read() as connection:
            space = rows.space_by_name(connection, name)
            found = None if space is None else rows.artifact_of(connection, space.id, INDEX)
        return None if found is None else found.recipe

    def unmake(self, item: ItemRow, before: Any) -> None:
        """By the former recipe, or without an index, unless somebody has built by yet another one since."""
        name, now = before["space"], self._current(before["space"])
        ours = self.job.row.options["recipe"]
        if now != (None if ours["factory"] == "exact" else ours):
            self.keep(item, f"{name}: has an index of another recipe since; it was left")
            return

        def also(transaction: Transaction) -> None:
            self.job.take(transaction, [item.number], ())

        if before["recipe"] is None:
            with self.sync.catalog.write() as transaction:
                retire_index(self.sync, transaction, name)
                also(transaction)
            return
        flush(self.sync, name)
        live = snapshot(self.sync, name)
        assert live is not None  # it had an index
        refresh(self.sync, name, IndexRecipe.from_dict(before["recipe"], f"the index of {name}"), live, also=also)


class Clustering(Derived):
    """Records are clustered, as `store.clusters.fit` does it; taking back makes the former fit current."""

    @property
    def clusters(self) -> Clusters:
        """The store's clusters."""
        found = self.job.others(Cluster.table)
        assert isinstance(found, Clusters)  # it stands for that kind
        return found

    def make(self, item: ItemRow, fields: dict[str, Any]) -> None:
        """One fit."""
        table = self.job.table
        recipe = ClusterRecipe.from_dict(fields["recipe"], f"the recipe of workflow {self.job.row.name!r}")
        scope = Scope.checked(table, fields["space"], fields["where"], fields["context"], fields["name"])
        learned = learn(self.sync, table, scope, recipe, fields["n"], fields["seed"])
        before = None if learned.previous is None else learned.previous.version
        with self.sync.catalog.write() as transaction:
            report = commit(self.clusters, learned)
            image = as_image({"name": report.name, "version": report.version, "before": before})
            self.job.land(transaction, [Done(item.number, None, report.version, image)], ())

    def unmake(self, item: ItemRow, before: Any) -> None:
        """The fit that there was before, unless there is a newer one."""
        name = before["name"]
        with self.sync.catalog.write() as transaction:
            row = registry.model_of(transaction.connection, name)
            if row is not None and row.version != before["version"]:
                reason = f"{self.place(item)}: {name!r} was fitted again since, to version {row.version}"
                self.job.take(transaction, (), [Told(item.number, "kept", name, reason)])
                return
            if row is not None and before["before"] is None:
                self.clusters.drop(name)
            elif row is not None:
                self.clusters.rollback(before["before"], name)
            self.job.take(transaction, [item.number], ())
