"""What a store and its collections are to code that uses them: protocols, checked statically and at run time.

    def index_everything(records: vs.Writable[Any]) -> None: ...
    isinstance(store.concepts, vs.Searchable)

At run time `isinstance` sees whether the methods are there; mypy sees their types. `Embedder` has its own module.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

from vectorstore.metrics import Operation
from vectorstore.records import Record, Where
from vectorstore.results import Hit, Hits, Page

R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)


@runtime_checkable
class Readable(Protocol[R_co]):
    """Records that can be read by id and by filter."""

    def get(self, id: str) -> R_co | None:
        """The record with that id, or None."""

    def get_many(self, ids: Iterable[str]) -> list[Any]:
        """Records by id, in the order asked."""

    def find(
        self, where: Where | None = None, *, order: str | None = None, limit: int = 100, after: str | None = None
    ) -> Page[Any]:
        """One page of records that match, with the total."""

    def stream(self, where: Where | None = None, *, batch_size: int = 1000) -> Iterator[R_co]:
        """All records that match."""

    def count(self, where: Where | None = None) -> int:
        """How many match."""

    def __len__(self) -> int: ...
    def __contains__(self, id: object) -> bool: ...
    def __iter__(self) -> Iterator[R_co]: ...


@runtime_checkable
class Writable(Protocol):
    """Records that can be added, changed and removed; every call is all or nothing."""

    def add(self, records: Any, vectors: Any = None) -> list[str]:
        """Add new records."""

    def upsert(self, records: Any, vectors: Any = None) -> list[str]:
        """Add records, or replace those whose id exists."""

    def update(self, changes: Any, vectors: Any = None) -> int:
        """Change some fields of existing records."""

    def delete(
        self, ids: str | Iterable[str] | None = None, *, where: Where | None = None, dry_run: bool = False
    ) -> int:
        """Delete records until they are restored or purged."""

    def restore(self, ids: str | Iterable[str] | None = None, *, where: Where | None = None) -> int:
        """Bring deleted records back."""

    def purge(
        self, ids: str | Iterable[str] | None = None, *, where: Where | None = None, older_than: timedelta = ...
    ) -> int:
        """Erase deleted records for good."""


@runtime_checkable
class Searchable(Protocol[R_co]):
    """Records that can be found by what they mean."""

    def search(
        self,
        query: Any,
        k: int = 10,
        where: Where | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> Hits[Any]:
        """The k records nearest to the query, best first."""

    def search_many(
        self,
        queries: Any,
        k: int = 10,
        where: Where | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> list[Hits[Any]]:
        """The same for each query."""

    def search_range(self, query: Any, min_score: float, where: Where | None = None) -> Iterator[Hit[Any]]:
        """All records that score at least so much."""


@runtime_checkable
class Records(Readable[R_co], Writable, Searchable[R_co], Protocol[R_co]):
    """Everything that a collection can do."""


@runtime_checkable
class KnowledgeStore(Protocol):
    """A store as a whole."""

    def collection(self, kind: Any) -> Any:
        """The records of a kind."""

    def transaction(self) -> AbstractContextManager[Any]:
        """Several calls as one commit."""

    def search(self, query: Any, k: int = 10) -> Hits[Any]:
        """The nearest records of several kinds."""

    def flush(self) -> int:
        """Move waiting vectors into segments."""

    def compact(self, kind: str | None = None) -> Any:
        """Give back the space of what is gone."""

    def check(self) -> Any:
        """Prove that all parts agree."""

    def repair(self, *, dry_run: bool = True) -> Any:
        """Make derived parts again."""

    def stats(self) -> Mapping[str, Any]:
        """Counts, sizes and states."""

    def metrics(self, *, reset: bool = False) -> Mapping[str, Operation]:
        """Calls and times of each operation."""

    def close(self) -> None:
        """Let go of everything."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
