"""What every operation has in common: the items it is given, how it tells where they landed, and refusals in parts.

An operation prepares a chunk without a lock, then writes it in one transaction in which it also says, by `Job.land`,
which items are done: so either both are there after a crash or neither.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic_core import from_json

from vectorstore.collection import Collection
from vectorstore.errors import ConflictError, LeaseHeld, NotFound, ValidationError, VectorstoreError
from vectorstore.reason.reasoner import Others
from vectorstore.storage import RecordTable, Transaction
from vectorstore.storage.workflows import Done, ItemRow, Told, WorkflowRow
from vectorstore.sync import Sync
from vectorstore.sync.sharing import Shared
from vectorstore.workflows.ahead import Ahead

I = TypeVar("I")  # noqa: E741 - an item, with or without what was read from it
REFUSALS = (ValidationError, ConflictError, NotFound)
"""Errors that are an item's; all others are the store's, the embedder's or the machine's, and stop the work."""

Land = Callable[[Transaction, Sequence[Done], Sequence[Told]], None]
Take = Callable[[Transaction, Sequence[int], Sequence[Told]], None]


@dataclass(frozen=True)
class Job:
    """A workflow in the hands of a worker.

    Attributes:
        sync: the store's parts.
        others: the collection of a kind.
        row: the workflow as it was when it was taken.
        land: in the transaction that wrote them: these items are done, those did not land, and why. Raises `LeaseHeld`
            when another worker has the workflow.
        take: in the transaction that took them back: these items are undone, those were kept, and why.
        shared: what it shares with workers; None where all is done here.
    """

    sync: Sync
    others: Others
    row: WorkflowRow
    land: Land
    take: Take
    shared: Shared | None = None

    @property
    def collection(self) -> Collection[Any]:
        """Of the records that it is about."""
        return self.others(self.row.kind)

    @property
    def table(self) -> RecordTable[Any]:
        """Of the records that it is about."""
        return self.collection._table

    @property
    def strict(self) -> bool:
        """Whether the first failure ends it."""
        return self.row.policy == "strict"


class Work(ABC):
    """One operation on the items of a job."""

    chunk = 1
    """Items in one transaction."""

    window = 1
    """So many chunks are looked at together, because workers prepare them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.sync = job.sync

    def parts(self, items: Sequence[ItemRow]) -> Generator[Sequence[ItemRow], None, None]:
        """The items by chunks, each when its turn comes."""
        yield items

    def chunks(self, items: Sequence[ItemRow]) -> list[Sequence[ItemRow]]:
        """The items of a window by chunks."""
        return [items[start : start + self.chunk] for start in range(0, len(items), self.chunk)]

    def ahead(self) -> Ahead | None:
        """The embedding of the texts that workers make ahead; None where all is done here."""
        if self.job.shared is None or self.job.collection._embedding.brings_vectors:
            return None
        collection = self.job.collection
        self.window = self.job.shared.window
        return Ahead(collection._embedding, self.job.shared, self.sync, collection.name, collection.metric)

    @abstractmethod
    def run(self, items: Sequence[ItemRow]) -> None:
        """Do items, in order: each is landed or told when this returns, unless the job is strict and one failed."""

    @abstractmethod
    def undo(self, items: Sequence[ItemRow]) -> None:
        """Take back what items did, the last of them first."""

    def undone(self, transaction: Transaction) -> None:  # noqa: B027 - most have nothing left to do
        """What is left to do when all items are taken back, in the transaction that says so."""

    def place(self, item: ItemRow) -> str:
        """How messages name an item."""
        return f"{self.job.row.kind}[{item.number}]"

    def read(self, items: Sequence[ItemRow]) -> tuple[list[tuple[ItemRow, dict[str, Any]]], list[Told]]:
        """(items with what they say, those that say nothing readable)."""
        good: list[tuple[ItemRow, dict[str, Any]]] = []
        bad: list[Told] = []
        for item in items:
            if item.payload is None:
                bad.append(Told(item.number, "failed", item.name, f"{self.place(item)}: its content was purged"))
                continue
            try:
                value = from_json(item.payload)
            except ValueError as error:
                bad.append(Told(item.number, "failed", None, f"{self.place(item)}: is not JSON: {error}"))
                continue
            if isinstance(value, dict):
                good.append((item, value))
            else:
                reason = f"{self.place(item)}: expected a JSON object, got {item.payload[:60]!r}"
                bad.append(Told(item.number, "failed", None, reason))
        return good, bad

    def tell(self, told: Sequence[Told]) -> None:
        """Land nothing but refusals."""
        with self.sync.catalog.write() as transaction:
            self.job.land(transaction, (), told)

    def keep(self, item: ItemRow, error: VectorstoreError | str) -> None:
        """An item cannot be taken back."""
        with self.sync.catalog.write() as transaction:
            self.job.take(transaction, (), [Told(item.number, "kept", item.name, f"{self.place(item)}: {error}")])


def in_parts(
    items: Sequence[I],
    attempt: Callable[[Sequence[I]], None],
    single: Callable[[I, VectorstoreError], None],
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Do all at once; when that is refused, in halves, down to the items at fault.

    Args:
        items: in order.
        attempt: does some in one transaction, or raises and has done nothing.
        single: is told an item that was refused by itself.
        stop: asked before each half; True leaves the rest as it is.

    Cost: for b refused of n items about b log2 n transactions.
    """
    if not items or stop():
        return
    try:
        attempt(items)
    except LeaseHeld:
        raise
    except REFUSALS as error:
        if len(items) == 1:
            single(items[0], error)
            return
        half = len(items) // 2
        in_parts(items[:half], attempt, single, stop)
        in_parts(items[half:], attempt, single, stop)


def numbered(error: VectorstoreError, kind: str, number: int) -> str:
    """The message of an error about one item alone, with the item's own place in it."""
    return str(error).replace(f"{kind}[0]", f"{kind}[{number}]")


def as_image(value: Any) -> str:
    """What was there before, as JSON text; Python's own floats and whole numbers come back as they were."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
