"""A collection that can also ask the other collections of its store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from vectorstore.collection import Collection
from vectorstore.embedding import Embedding
from vectorstore.records import Record
from vectorstore.storage import RecordTable
from vectorstore.sync import Sync

R = TypeVar("R", bound=Record)
Others = Callable[[str], Collection[Any]]
"""The collection of a kind, by its table's name."""


class Reasoner(Collection[R]):
    """The verbs of one kind, and what it means among the others."""

    def __init__(self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str, others: Others) -> None:
        super().__init__(sync, table, embedding, metric)
        self._others = others
