"""A collection that can also ask the other collections of its store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from vectorstore.collection import Collection
from vectorstore.embedding import Embedding
from vectorstore.records import Record, Row
from vectorstore.storage import RecordTable, Transaction
from vectorstore.sync import Sync

R = TypeVar("R", bound=Record)
Others = Callable[[str], Collection[Any]]
"""The collection of a kind, by its table's name."""


class Reasoner(Collection[R]):
    """The verbs of one kind, and what it means among the others. It is the `Guard` of its kind."""

    def __init__(self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str, others: Others) -> None:
        super().__init__(sync, table, embedding, metric)
        self._others = others
        sync.guards[table.name] = self

    def before(self, transaction: Transaction, rows: Sequence[Row], offset: int) -> None:
        """Raise for rows that must not be written; `offset` is the place of the first one in the call."""

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """Raise for what a write, or a restore, of these rows has led to."""
