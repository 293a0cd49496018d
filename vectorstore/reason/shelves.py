"""Which collection stands for which kind, and its name in a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vectorstore.collection import Collection
from vectorstore.embedding import Embedding
from vectorstore.reason.analogies import Analogies
from vectorstore.reason.reasoner import Others, Reasoner
from vectorstore.records import Analogy, Cluster, Concept, Context
from vectorstore.storage import RecordTable
from vectorstore.sync import Sync

REASONERS: dict[str, type[Reasoner[Any]]] = {Analogy.table: Analogies}
"""The kinds that can do more than the verbs."""


def collection_of(
    kind: str, sync: Sync, table: RecordTable[Any], embedding: Embedding, metric: str, others: Others
) -> Collection[Any]:
    """The collection of a kind: the one with its own questions where there is one."""
    reasoner = REASONERS.get(kind)
    if reasoner is None:
        return Collection(sync, table, embedding, metric)
    return reasoner(sync, table, embedding, metric, others)


class Shelves:
    """The built-in kinds by name."""

    if TYPE_CHECKING:

        def collection(self, kind: Any) -> Any:
            """The records of a kind; what `Store` has."""

    @property
    def concepts(self) -> Collection[Concept]:
        """Things one can think of."""
        return self.collection(Concept)  # type: ignore[no-any-return]

    @property
    def analogies(self) -> Analogies:
        """Domain mappings and proportions."""
        return self.collection(Analogy)  # type: ignore[no-any-return]

    @property
    def clusters(self) -> Collection[Cluster]:
        """Groups of records."""
        return self.collection(Cluster)  # type: ignore[no-any-return]

    @property
    def contexts(self) -> Collection[Context]:
        """Namespaces."""
        return self.collection(Context)  # type: ignore[no-any-return]
