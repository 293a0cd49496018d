"""Haystack over a store: `KnowledgeDocumentStore`, and `KnowledgeRetriever`, a component of pipelines.

    from vectorstore.integrations.haystack import KnowledgeDocumentStore, KnowledgeRetriever

    store = KnowledgeDocumentStore("kb")
    store.write_documents(documents_with_embeddings)
    KnowledgeRetriever(store, mode="hybrid").run(query="a king", query_embedding=vector)["documents"]

Needs the extra `haystack`. Vectors are Haystack's; words are the store's.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from vectorstore.errors import DuplicateId, ValidationError, WhereError, installing

try:
    from haystack import component, default_from_dict, default_to_dict
    from haystack.dataclasses import ByteStream, Document, SparseEmbedding
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy, FilterPolicy
    from haystack.document_stores.types.filter_policy import apply_filter_policy
    from haystack.errors import FilterError
except ImportError as error:
    raise ImportError(f"needs Haystack; {installing('haystack')}") from error

from vectorstore.integrations.passages import EVERYTHING, TABLE, Passage, store_of
from vectorstore.records import parse, schema_of
from vectorstore.search import WithVector
from vectorstore.store import Store
from vectorstore.vectors import Matrix

_SAME = {"==": "eq", "!=": "ne", "in": "in", "not in": "nin"}
_ORDER = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
_FIELDS = {"id": "id", "content": "text"}
_NO_FIELDS = ("embedding", "sparse_embedding", "blob", "score")


def where_of(filters: dict[str, Any] | None) -> dict[str, Any]:
    """Haystack's filters in the store's language; dates are compared as the texts that they are.

    Raises:
        FilterError: a key is missing, or a value cannot be compared.
    """
    if not filters:
        return {}
    if "field" in filters:
        return _comparison(filters)
    for key in ("operator", "conditions"):
        if key not in filters:
            raise FilterError(f"filters: {key!r} is missing in {filters}")
    parts = [where_of(each) for each in filters["conditions"]]
    if filters["operator"] == "NOT":
        return {"not": {"and": parts}}
    if filters["operator"] not in ("AND", "OR"):
        raise FilterError(f"filters: no operator {filters['operator']!r}; there are AND, OR, NOT")
    return {str(filters["operator"]).lower(): parts}


def _comparison(filters: dict[str, Any]) -> dict[str, Any]:
    for key in ("operator", "value"):
        if key not in filters:
            raise FilterError(f"filters: {key!r} is missing in {filters}")
    name, operator, value = filters["field"], filters["operator"], filters["value"]
    if name in _NO_FIELDS:
        raise FilterError(f"filters: {name} cannot be compared")
    field = _FIELDS.get(name) or f"metadata.{name.removeprefix('meta.')}"
    if operator in _SAME:
        if operator in ("in", "not in") and not isinstance(value, list):
            raise FilterError(f"filters: {operator!r} needs a list, got {value!r}")
        return {f"{field}__{_SAME[operator]}": value}
    if operator not in _ORDER:
        raise FilterError(f"filters: no operator {operator!r}; there are {', '.join([*_SAME, *_ORDER])}")
    if value is None:
        return {"id__in": []}  # nothing is more or less than None
    if isinstance(value, str) and not _is_date(value):
        raise FilterError(f"filters: {operator!r} compares numbers and ISO dates, got {value!r}")
    return {f"{field}__{_ORDER[operator]}": value}


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


class KnowledgeDocumentStore:
    """A Haystack document store whose documents are records of a store."""

    def __init__(self, store: Store | str | os.PathLike[str] = ":memory:", table: str = TABLE) -> None:
        """Take a store's passages.

        Args:
            store: an open one that has the table as a kind, or the path of one (":memory:" for a scratch one). A
                pipeline can only be written down with a path.
            table: the name of the collection; one store can have many.
        """
        options: dict[str, Any] = {} if isinstance(store, Store) else {"embedder": None}
        self.store, self._owned = store_of(store, table, **options)
        self.passages = self.store.collection(table)
        self._place, self._table = store, table

    def close(self) -> None:
        """Close the store, if it was opened here."""
        if self._owned:
            self.store.close()

    def to_dict(self) -> dict[str, Any]:
        """How to open it again.

        Raises:
            ValidationError: it was made of an open store.
        """
        if isinstance(self._place, Store):
            raise ValidationError("to_dict: made of an open store; make it of a path")
        found: dict[str, Any] = default_to_dict(self, store=os.fspath(self._place), table=self._table)
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KnowledgeDocumentStore:
        """The inverse of `to_dict`."""
        made: KnowledgeDocumentStore = default_from_dict(cls, data)
        return made

    # -- documents -------------------------------------------------------------------------------------------------

    def count_documents(self) -> int:
        """How many there are."""
        return int(self.passages.count())

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many match."""
        return int(self.passages.count(self._where(filters)))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[Document]:
        """Those that match, in order of arrival; all without a filter."""
        return self._documents(list(self.passages.stream(self._where(filters))))

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents, all or none; how many.

        Args:
            documents: with or without embeddings; only those with one are found by vector.
            policy: of ids that are there: SKIP, OVERWRITE, or fail (FAIL and NONE).

        Raises:
            ValidationError: no documents. DuplicateDocumentError: an id is there.
        """
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise ValidationError(f"documents: expected a list of documents, got {documents!r:.100}")
        wanted = documents
        with self.store.transaction():
            if policy == DuplicatePolicy.SKIP:
                there = {record.id for record in self.passages.get_many([each.id for each in documents])}
                wanted = list({each.id: each for each in reversed(documents) if each.id not in there}.values())[::-1]
            elif policy == DuplicatePolicy.OVERWRITE:
                wanted = list({each.id: each for each in documents}.values())
            try:
                for embedded, group in itertools.groupby(wanted, lambda each: each.embedding is not None):
                    self._write(list(group), embedded, overwrite=policy == DuplicatePolicy.OVERWRITE)
            except DuplicateId as error:
                raise DuplicateDocumentError(str(error)) from error
        return len(documents) if policy == DuplicatePolicy.OVERWRITE else len(wanted)

    def _write(self, documents: list[Document], embedded: bool, *, overwrite: bool) -> None:
        items = [
            {
                "id": each.id,
                "text": each.content or "",
                "metadata": each.meta,
                "node": _beyond(each),
            }
            for each in documents
        ]
        vectors = [each.embedding for each in documents] if embedded else None
        if overwrite and not embedded:  # a vector of before would be found still
            self.passages.delete([each.id for each in documents])
        write = self.passages.upsert if overwrite else self.passages.add
        write(items, vectors=vectors, source="haystack")

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete by id; those that are not there are no error."""
        self.passages.delete(list(document_ids))

    def delete_all_documents(self) -> None:
        """Delete all."""
        self.passages.delete(where=EVERYTHING)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete those that match; how many."""
        return int(self.passages.delete(where=self._where(filters) or EVERYTHING))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Put these values into the metadata of those that match, all or none; how many."""
        with self.store.transaction():
            found = list(self.passages.stream(self._where(filters)))
            if found:
                changed = [{"id": record.id, "metadata": {**record.metadata, **meta}} for record in found]
                self.passages.update(changed)
        return len(found)

    # -- finding ---------------------------------------------------------------------------------------------------

    def search(
        self,
        query: str | None,
        query_embedding: list[float] | None,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Literal["vector", "text", "hybrid"] = "vector",
        **options: Any,
    ) -> list[Document]:
        """The documents nearest to a text, a vector or both, best first, with their scores.

        Args:
            query: for text and hybrid search.
            query_embedding: for vector and hybrid search.
            filters: applied before the cut: an answer is never short.
            top_k: how many.
            mode: by vector, by words (BM25) or both.
            options: of the store's `search`: recall, exact, mmr, decay, fusion, ...

        Raises:
            ValidationError: what the mode needs is missing.
        """
        if mode != "vector" and query is None:
            raise ValidationError(f"query: mode {mode!r} needs a text")
        if mode != "text" and query_embedding is None:
            raise ValidationError(f"query_embedding: mode {mode!r} needs one")
        asked: Any = {"text": query, "vector": query_embedding}.get(mode)
        if mode == "hybrid":
            asked = WithVector(str(query), query_embedding)
        hits = self.passages.search(asked, top_k, self._where(filters), mode=mode, **options)
        found = self._documents([hit.record for hit in hits])
        return [replace(document, score=hit.score) for document, hit in zip(found, hits, strict=True)]

    def _where(self, filters: dict[str, Any] | None) -> dict[str, Any] | None:
        where = where_of(filters) or None
        try:
            parse(where, schema_of(self.passages.kind))
        except WhereError as error:
            raise FilterError(str(error)) from error
        return where

    def _documents(self, records: Sequence[Passage]) -> list[Document]:
        vectors = self.passages._searcher(None).queries.stored([record.id for record in records])
        return [_document(record, vectors.get(record.id)) for record in records]


def _beyond(document: Document) -> dict[str, Any]:
    """What of a document is neither text, metadata nor embedding."""
    found: dict[str, Any] = {} if document.content is not None else {"no_content": True}
    if document.blob is not None:
        found["blob"] = document.blob.to_dict()
    if document.sparse_embedding is not None:
        found["sparse_embedding"] = document.sparse_embedding.to_dict()
    return found


def _document(record: Passage, embedding: Matrix | None) -> Document:
    kept: dict[str, Any] = dict(record.node)
    blob, sparse = kept.get("blob"), kept.get("sparse_embedding")
    return Document(
        id=record.id,
        content=None if kept.get("no_content") else record.text,
        meta=dict(record.metadata),
        embedding=None if embedding is None else embedding.tolist(),
        blob=None if blob is None else ByteStream.from_dict(blob),
        sparse_embedding=None if sparse is None else SparseEmbedding.from_dict(sparse),
    )


@component
class KnowledgeRetriever:
    """A component that finds documents by vector, by words or by both."""

    def __init__(
        self,
        document_store: KnowledgeDocumentStore,
        *,
        mode: Literal["vector", "text", "hybrid"] = "vector",
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        filter_policy: str | FilterPolicy = FilterPolicy.REPLACE,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Take a document store.

        Args:
            document_store: where.
            mode: as of `KnowledgeDocumentStore.search`.
            filters: when a run has none, or with MERGE beside its own.
            top_k: how many.
            filter_policy: REPLACE or MERGE.
            options: more of the store's `search`.
        """
        self.document_store, self.mode, self.filters, self.top_k = document_store, mode, filters, top_k
        self.filter_policy = FilterPolicy.from_str(filter_policy) if isinstance(filter_policy, str) else filter_policy
        self.options = options or {}

    def to_dict(self) -> dict[str, Any]:
        """For a pipeline that is written down."""
        found: dict[str, Any] = default_to_dict(
            self,
            document_store=self.document_store.to_dict(),
            mode=self.mode,
            filters=self.filters,
            top_k=self.top_k,
            filter_policy=self.filter_policy.value,
            options=self.options,
        )
        return found

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> KnowledgeRetriever:
        """The inverse of `to_dict`."""
        given = data["init_parameters"]
        given["document_store"] = KnowledgeDocumentStore.from_dict(given["document_store"])
        made: KnowledgeRetriever = default_from_dict(cls, data)
        return made

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        query_embedding: list[float] | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Find."""
        chosen = apply_filter_policy(self.filter_policy, self.filters, filters)
        k = self.top_k if top_k is None else top_k
        found = self.document_store.search(query, query_embedding, chosen, k, self.mode, **self.options)
        return {"documents": found}
