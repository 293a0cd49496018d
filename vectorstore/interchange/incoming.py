"""Imports: items of a source into the store, all of them in one commit or none.

Everything is read, validated, embedded and staged without a lock; one transaction then sees that what was met is still
as it was, deletes what a log deletes, and writes kind by kind, what is pointed to first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vectorstore.collection import Collection
from vectorstore.errors import ConflictError, NotFound, ValidationError, VectorstoreError
from vectorstore.interchange.arrivals import RULES, Arrivals
from vectorstore.interchange.items import NO_VECTORS, Item, Source
from vectorstore.interchange.replay import Replay
from vectorstore.interchange.reports import ImportReport
from vectorstore.reason.snapshot import in_order
from vectorstore.records import Context
from vectorstore.storage import Transaction
from vectorstore.storage.bulk import roomy
from vectorstore.sync import Progress, Sync
from vectorstore.writing import CHUNK, Raced

_ATTEMPTS = 20
_CHUNK_BYTES = 256 * 1024 * 1024
Others = Callable[[str], Collection[Any]]


@dataclass(frozen=True)
class Wishes:
    """How items are to be brought in: the rule for ids that are there, vectors or not, a context for who names none."""

    rule: str = "error"
    vectors: bool = True
    context: str | None = None
    progress: Progress | None = None


def bring_in(sync: Sync, others: Others, source: Source, format: str, wishes: Wishes) -> ImportReport:
    """Write what a source holds, in one commit.

    Raises:
        ValidationError: a bad record, vector, or reference, named by its line or row; nothing was written.
        ConflictError: an id is there and the rule is "error", a unique value is taken, or others kept writing.
        NotFound: a kind that this store does not have.
        SpaceMismatch: vectors that are not comparable with the store's.

    Memory: a chunk of 20,000 records, fewer when they are large, and the ids of all.
    """
    if wishes.rule not in RULES:
        raise ValidationError(f"on_conflict: expected one of {', '.join(RULES)}, got {wishes.rule!r}")
    for _ in range(_ATTEMPTS):
        arriving = _Arriving(sync, others, source, wishes)
        try:
            arriving.prepare()
            with sync.catalog.write() as transaction, roomy(transaction.connection):
                arriving.write(transaction)
            return arriving.report(format)
        except Raced:
            continue
        finally:
            arriving.close()
    raise ConflictError(f"{source.path}: other writers kept changing the same records; try again later")


class _Arriving:
    """One attempt."""

    def __init__(self, sync: Sync, others: Others, source: Source, wishes: Wishes) -> None:
        self._sync = sync
        self._others = others
        self._source = source
        self._wishes = wishes
        self._batches: dict[str, Arrivals[Any]] = {}
        self._doomed: Mapping[str, Mapping[str, int]] = {}
        self._deleted: dict[str, int] = {}
        self._passed: dict[str, int] = {}
        self._written = False
        self._count = 0

    def prepare(self) -> None:
        """Read everything; nothing is part of the store yet."""
        waiting: dict[str, list[Item]] = {}
        sizes: Counter[str] = Counter()
        for item in self._items():
            held = waiting.setdefault(item.kind, [])
            held.append(item)
            sizes[item.kind] += item.size
            if len(held) == CHUNK or sizes[item.kind] > _CHUNK_BYTES:
                self._feed(item.kind, held)
                held.clear()
                sizes[item.kind] = 0
        for kind, held in waiting.items():
            self._feed(kind, held)

    def _items(self) -> Iterator[Item]:
        """What counts of the source, as it is wished."""
        source, wishes = self._source, self._wishes
        items = source.read()
        if source.replays:
            replay = Replay(source, {name: table.schema for name, table in self._sync.tables.items()})
            if source.total is not None and replay.count < source.total:
                source.note(f"{source.path}: says that it holds {source.total} items, and holds {replay.count}")
            source.total = replay.count
            self._doomed = replay.doomed_by(wishes.rule)
            items = replay.items()
        for kind in self._doomed:
            self._known(kind, next(iter(self._doomed[kind].values())))
        for item in items:
            self._known(item.kind, item.place)
            if not wishes.vectors and item.vectors:
                item = item._replace(vectors=NO_VECTORS)
            # A context is in none: it would have to be there before itself.
            record = None if item.kind == Context.table or wishes.context is None else item.record
            if record is not None and "context" not in record:
                item = item._replace(record={**record, "context": wishes.context})
            yield item

    def _known(self, kind: str, place: int) -> None:
        if kind not in self._sync.tables:
            known = ", ".join(self._sync.tables)
            raise NotFound(
                f"{self._source.at(place)}: {kind!r} is no kind of this store; its kinds are: {known}; "
                "pass kinds=[...] to vs.open"
            )

    def _feed(self, kind: str, items: list[Item]) -> None:
        if not items:
            return
        batch = self._batches.get(kind)
        if batch is None:
            collection = self._others(kind)
            deletes = self._wishes.rule in ("overwrite", "merge")
            batch = self._batches[kind] = Arrivals(
                self._sync,
                self._sync.table(kind),
                collection._embedding,
                collection.metric,
                self._source,
                rule=self._wishes.rule,
                doomed=self._doomed.get(kind, {}) if deletes else (),
                deleting=bool(self._doomed),
            )
        with _Named(batch):
            batch.feed(items, None if self._wishes.progress is None else self._embedded)
        self._count += len(items)
        self._tell(self._count)

    def _embedded(self, done: int, of: int) -> None:
        """Some of a chunk's texts are embedded; the chunk as a whole is told when it is prepared."""
        self._tell(self._count + done)

    def _tell(self, count: int) -> None:
        if self._wishes.progress is not None:
            self._wishes.progress(count, max(count, self._source.total or 0))

    def write(self, transaction: Transaction) -> None:
        """All of it, in the running transaction."""
        tables = self._sync.tables
        order = in_order([table.schema for table in tables.values()])
        batches = [self._batches[name] for name in order if name in self._batches]
        for batch in batches:
            transaction.undo.append(batch.discard)
            batch.check(transaction)
        for name in reversed(order):
            if name in self._doomed:
                self._delete(transaction, name, self._doomed[name])
        for batch in batches:
            with _Named(batch):
                batch.write()
        self._written = True

    def _delete(self, transaction: Transaction, kind: str, doomed: Mapping[str, int]) -> None:
        existing = self._sync.table(kind).existing(transaction.connection, doomed)
        live = [name for name, (_, gone) in existing.items() if not gone]
        if not live:
            return
        if self._wishes.rule == "error":
            raise ConflictError(
                f"{self._source.at(doomed[live[0]])}: would delete {live[0]!r}, a record of {kind} that is here; say "
                "on_conflict='overwrite' to let the log do that; nothing was written"
            )
        if self._wishes.rule == "skip":
            self._passed[kind] = len(live)
            return
        self._others(kind).delete(live)
        again = set(self._batches[kind].ids) if kind in self._batches else set()
        self._deleted[kind] = sum(name not in again for name in live)

    def report(self, format: str) -> ImportReport:
        """What it did."""

        def counted(what: str) -> dict[str, int]:
            return {name: batch.counts[what] for name, batch in self._batches.items() if batch.counts[what]}

        skipped = counted("skipped")
        for kind, count in self._passed.items():
            skipped[kind] = skipped.get(kind, 0) + count
        return ImportReport(
            self._source.path,
            format,
            counted("added"),
            counted("overwritten"),
            counted("merged"),
            skipped,
            counted("unchanged"),
            {kind: count for kind, count in self._deleted.items() if count},
            sum(batch.vectors for batch in self._batches.values()),
            dict(self._source.left_out),
            tuple(self._source.notes),
        )

    def close(self) -> None:
        """Remove what was staged, unless it is part of the store; let go of what waited."""
        for batch in self._batches.values():
            batch.close() if self._written else batch.discard()


class _Named:
    """Errors name the line or row of the source instead of the place in a batch."""

    def __init__(self, batch: Arrivals[Any]) -> None:
        self._batch = batch

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, VectorstoreError) or not error.args or not isinstance(error.args[0], str):
            return
        message = self._batch.named_by_place(error.args[0])
        message = message.replace(
            "use upsert to overwrite, or another id", "say what to do with it: on_conflict=... (--on-conflict)"
        )
        if message != error.args[0]:
            error.args = (message, *error.args[1:])
