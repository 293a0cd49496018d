"""LangChain over a store: `KnowledgeStore` is its `VectorStore`, `KnowledgeRetriever` its retriever over any kind.

    from vectorstore.integrations.langchain import KnowledgeStore

    chain = KnowledgeStore("kb", embedding=embeddings)
    chain.add_documents(documents)
    chain.similarity_search("query", k=4, filter={"source": "news", "year": {"$gte": 2020}})

Needs the extra `langchain`. The asynchronous verbs run the same code in LangChain's executor; a store is safe for
threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import Field

from vectorstore.errors import ValidationError, WhereError, installing

try:
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
except ImportError as error:
    raise ImportError(f"needs LangChain; {installing('langchain')}") from error

from vectorstore.ids import new_id, utc_now
from vectorstore.integrations.passages import EVERYTHING, TABLE, Passage, name_of, store_of
from vectorstore.results import Hit
from vectorstore.search import WithVector
from vectorstore.store import Store

OPERATORS = {
    **{"$eq": "eq", "$ne": "ne", "$gt": "gt", "$gte": "gte", "$lt": "lt", "$lte": "lte"},
    **{"$in": "in", "$nin": "nin", "$contains": "has", "$contains_any": "has_any", "$contains_all": "has_all"},
    **{"$exists": "isnull", "$startswith": "startswith", "$endswith": "endswith", "$like": "contains"},
}
"""What a filter may say of one key of the metadata, and the store's word for it."""


def where_of(filter: Mapping[str, Any] | None, at: str = "filter") -> dict[str, Any]:
    """A filter over metadata, as LangChain users write them, in the store's filter language.

    `{"source": "a", "year": {"$gte": 2000}, "$or": [{...}, {...}], "$not": {...}}`; `author.name` leads into
    a mapping, `$contains` looks into a list.

    Raises:
        WhereError: an unknown operator, none, or no mapping.
    """
    if filter is None:
        return {}
    if not isinstance(filter, Mapping):
        raise WhereError(f"{at}: expected a mapping such as {{'source': 'news'}}, got {filter!r}")
    parts: list[dict[str, Any]] = []
    for key, value in filter.items():
        here = f"{at}.{key}"
        if key in ("$and", "$or"):
            if not isinstance(value, Sequence) or isinstance(value, str):
                raise WhereError(f"{here}: expected a list of filters, got {value!r}")
            parts.append({key[1:]: [where_of(each, f"{here}[{place}]") for place, each in enumerate(value)]})
        elif key == "$not":
            parts.append({"not": where_of(value, here)})
        elif isinstance(value, Mapping):
            if not value:
                raise WhereError(f"{here}: expected a value, or operators such as {{'$gte': 2000}}, got {{}}")
            parts += [_one(key, operator, wanted, here) for operator, wanted in value.items()]
        else:
            parts.append({f"metadata.{key}__eq": value})
    return parts[0] if len(parts) == 1 else {"and": parts} if parts else {}


def _one(key: str, operator: str, value: Any, at: str) -> dict[str, Any]:
    if operator not in OPERATORS:
        raise WhereError(f"{at}: no operator {operator!r}; there are: {', '.join(OPERATORS)}")
    if operator == "$exists":
        if not isinstance(value, bool):
            raise WhereError(f"{at}.$exists: expected true or false, got {value!r}")
        value = not value
    return {f"metadata.{key}__{OPERATORS[operator]}": value}


def document_of(record: Any) -> Document:
    """A record as a document: of a passage text and metadata; of others the text that is embedded, and all fields."""
    if isinstance(record, Passage):
        return Document(id=record.id, page_content=record.text, metadata=dict(record.metadata))
    fields = record.model_dump(mode="json", exclude_defaults=True)
    return Document(id=record.id, page_content=record.embedding_text(), metadata={"kind": record.table, **fields})


class KnowledgeStore(VectorStore):
    """A LangChain `VectorStore` whose documents are records of a store."""

    def __init__(
        self,
        store: Store | str | os.PathLike[str] = ":memory:",
        embedding: Embeddings | None = None,
        *,
        table: str = TABLE,
        **options: Any,
    ) -> None:
        """Take a store's passages.

        Args:
            store: an open one that has the table as a kind, or the path of one (":memory:" for a scratch one).
            embedding: makes the vectors; None for the store's own embedder, by default all-MiniLM-L6-v2. Of an open
                store it must be what the store was opened with; then only its `embed_query` is called.
            table: the name of the collection of passages; one store can have many.
            options: of `vectorstore.open`, for a path.

        Raises:
            SpaceMismatch: the store's vectors are of another embedding.
        """
        embed = None if embedding is None else embedding.embed_documents
        made = _lists(embed) if embed is not None else None
        self.store, self._owned = store_of(store, table, made, name_of(embedding), **options)
        self.passages = self.store.collection(table)
        self._embedding = embedding

    @property
    def embeddings(self) -> Embeddings | None:
        """What makes the vectors, when it was given."""
        return self._embedding

    def close(self) -> None:
        """Close the store, if it was opened here."""
        if self._owned:
            self.store.close()

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # -- writing ---------------------------------------------------------------------------------------------------

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Add or overwrite texts, all or none; ids in their order.

        Args:
            texts: any number.
            metadatas: one each, plain data.
            ids: one each; None, or one that is None, for a new id.
            kwargs: `vectors=`, (n, d) of them, in place of the embedding.

        Raises:
            ValidationError: not one metadata and id each, or metadata that is no plain data.
        """
        listed = list(texts)
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if values is not None and len(values) != len(listed):
                raise ValidationError(f"{name}: expected {len(listed)}, one for each text, got {len(values)}")
        now = utc_now()
        items = [
            {
                "id": (ids[place] if ids is not None else None) or new_id(now),
                "text": text,
                "metadata": {} if metadatas is None else metadatas[place] or {},
            }
            for place, text in enumerate(listed)
        ]
        return list(self.passages.upsert(items, **kwargs)) if items else []

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Delete documents; those that are not there are no error.

        They are gone from every answer; `store.collection("passages").purge(ids)` erases them for good.

        Args:
            ids: which; None for all, or all that match.
            kwargs: `filter=` over the metadata.
        """
        where = where_of(kwargs.get("filter"))
        if ids is None:
            self.passages.delete(where=where or EVERYTHING)
        elif ids:
            self.passages.delete(ids, where=where or None)
        return True

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Open a store (`store=` a path or an open one, else a scratch one) and add texts."""
        made = cls(kwargs.pop("store", ":memory:"), embedding, **kwargs)
        try:
            made.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            made.close()
            raise
        return made

    # -- reading ---------------------------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents with these ids, in their order, without those that are not there."""
        return [document_of(record) for record in self.passages.get_many(list(ids), missing="skip")]

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[Document]:
        """The k nearest documents, best first; arguments as in `similarity_search_with_score`."""
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """(document, score) of the k nearest, best first. Bigger is better: of cosine spaces the cosine, -1..1.

        Args:
            query: a text.
            k: at most so many; fewer only when fewer match.
            filter: over the metadata; see `where_of`.
            kwargs: of the store's `search`: recall, exact, mode ("text", "hybrid"), where, mmr, decay, ...
        """
        hits = self._search(self._asked(query, kwargs), k, filter, kwargs)
        return [(document_of(hit.record), hit.score) for hit in hits]

    def _asked(self, query: str, options: Mapping[str, Any]) -> Any:
        """The text, with the vector that the embedding has for queries; those of documents can be of another make."""
        if self._embedding is None or options.get("mode") == "text":
            return query
        return WithVector(query, self._embedding.embed_query(query))

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, filter: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> list[Document]:
        """The k documents nearest to a vector, best first."""
        return [document_of(hit.record) for hit in self._search(embedding, k, filter, kwargs)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """K diverse documents of the `fetch_k` nearest; `lambda_mult` is the weight of relevance, 0..1."""
        return self._diverse(self._asked(query, kwargs), k, fetch_k, lambda_mult, filter, kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """The same for a vector."""
        return self._diverse(embedding, k, fetch_k, lambda_mult, filter, kwargs)

    def _diverse(
        self, query: Any, k: int, fetch_k: int, weight: float, filter: Mapping[str, Any] | None, more: dict[str, Any]
    ) -> list[Document]:
        more = {**more, "mmr": weight, "pool": max(k, fetch_k)}
        return [document_of(hit.record) for hit in self._search(query, k, filter, more)]

    def _search(self, query: Any, k: int, filter: Mapping[str, Any] | None, more: dict[str, Any]) -> Iterable[Hit[Any]]:
        parts = [part for part in (more.pop("where", None), where_of(filter)) if part]
        where = {"and": parts} if parts else None
        threshold = more.pop("score_threshold", None)
        hits = self.passages.search(query, k, where, **more)
        return [hit for hit in hits if threshold is None or hit.score >= threshold]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Scores as LangChain's relevance, 0..1: of l2 they are that already; cosines below 0 count as 0."""
        if self.passages.metric == "ip":
            raise ValidationError("relevance scores: inner products have no bounds; use similarity_search_with_score")
        return lambda score: min(1.0, max(0.0, score))


class KnowledgeRetriever(BaseRetriever):
    """A retriever over the records of any kind of a store: concepts, memories, passages, your own.

    Attributes:
        store: an open one.
        kind: whose records.
        k: how many.
        where: a filter in the store's own language.
        options: of the store's `search`: mode="hybrid", mmr=0.5, decay=..., recall=0.99, ...
    """

    store: Any
    kind: str = "concepts"
    k: int = 4
    where: dict[str, Any] | None = None
    options: dict[str, Any] = Field(default_factory=dict)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        k = kwargs.pop("k", self.k)
        where = kwargs.pop("where", self.where)
        hits = self.store.collection(self.kind).search(query, k, where, **{**self.options, **kwargs})
        documents = []
        for hit in hits:
            document = document_of(hit.record)
            document.metadata["score"] = hit.score
            documents.append(document)
        return documents


def _lists(embed: Callable[[list[str]], Any]) -> Callable[[Sequence[str]], Any]:
    return lambda texts: embed(list(texts))
