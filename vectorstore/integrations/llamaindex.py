"""LlamaIndex over a store: `KnowledgeVectorStore` is its vector store, with all filter operators and query modes.

    from vectorstore.integrations.llamaindex import KnowledgeVectorStore

    index = VectorStoreIndex.from_vector_store(KnowledgeVectorStore("kb"), embed_model=KnowledgeEmbedding())

Needs the extra `llamaindex`. Vectors are LlamaIndex's, by whatever model it has; `KnowledgeEmbedding` is one that needs
no download. Text and hybrid queries are the store's.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

from pydantic import PrivateAttr

from vectorstore.errors import ValidationError, WhereError, installing

try:
    from llama_index.core.embeddings import BaseEmbedding
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilter,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node
except ImportError as error:
    raise ImportError(f"needs LlamaIndex; {installing('llamaindex')}") from error

from vectorstore.embedders import Embedder, as_embedder
from vectorstore.integrations.passages import EVERYTHING, TABLE, store_of
from vectorstore.search import WithVector
from vectorstore.search.fusion import Fusion
from vectorstore.store import Store

_OPERATORS = {
    FilterOperator.EQ: "eq",
    FilterOperator.NE: "ne",
    FilterOperator.GT: "gt",
    FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt",
    FilterOperator.LTE: "lte",
    FilterOperator.IN: "in",
    FilterOperator.NIN: "nin",
    FilterOperator.ANY: "has_any",
    FilterOperator.ALL: "has_all",
    FilterOperator.CONTAINS: "has",
    FilterOperator.TEXT_MATCH: "contains",
    FilterOperator.TEXT_MATCH_INSENSITIVE: "icontains",
}


def where_of(filters: MetadataFilters | None, at: str = "filters") -> dict[str, Any]:
    """LlamaIndex's filters in the store's language; NOT means that none of its parts holds."""
    if filters is None:
        return {}
    parts = [
        where_of(each, f"{at}[{place}]") if isinstance(each, MetadataFilters) else _one(each, f"{at}[{place}]")
        for place, each in enumerate(filters.filters)
    ]
    if filters.condition == FilterCondition.NOT:
        return {"not": {"or": parts}}
    return {"or" if filters.condition == FilterCondition.OR else "and": parts} if parts else {}


def _one(filter: MetadataFilter, at: str) -> dict[str, Any]:
    field = f"metadata.{filter.key}"
    if filter.operator == FilterOperator.IS_EMPTY:
        return {f"{field}__isempty": True}
    if filter.operator not in _OPERATORS:
        raise WhereError(f"{at}: no operator {filter.operator!r}")
    return {f"{field}__{_OPERATORS[filter.operator]}": filter.value}


class KnowledgeVectorStore(BasePydanticVectorStore):
    """A LlamaIndex vector store whose nodes are records of a store."""

    stores_text: bool = True
    flat_metadata: bool = False
    _store: Store = PrivateAttr()
    _passages: Any = PrivateAttr()
    _owned: bool = PrivateAttr()

    def __init__(
        self, store: Store | str | os.PathLike[str] = ":memory:", *, table: str = TABLE, **options: Any
    ) -> None:
        """Take a store's passages.

        Args:
            store: an open one that has the table as a kind, or the path of one (":memory:" for a scratch one).
            table: the name of the collection; one store can have many.
            options: of `vectorstore.open`, for a path.
        """
        super().__init__(stores_text=True)
        if not isinstance(store, Store):
            options.setdefault("embedder", None)
        self._store, self._owned = store_of(store, table, **options)
        self._passages = self._store.collection(table)

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex serialises it."""
        return "KnowledgeVectorStore"

    @property
    def client(self) -> Store:
        """The store."""
        return self._store

    def close(self) -> None:
        """Close the store, if it was opened here."""
        if self._owned:
            self._store.close()

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Add or overwrite nodes with their embeddings, all or none; their ids.

        Raises:
            ValueError: a node without an embedding. ValidationError: metadata that is no plain data.
        """
        if not nodes:
            return []
        items = [
            {
                "id": node.node_id,
                "text": node.get_content(metadata_mode=MetadataMode.NONE) or "",
                "metadata": node.metadata or {},
                "document": node.ref_doc_id,
                "node": {"type": node.class_name(), "json": _without_text(node)},
            }
            for node in nodes
        ]
        return list(self._passages.upsert(items, vectors=[node.get_embedding() for node in nodes], source="llamaindex"))

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete all nodes that were cut from a document."""
        self._passages.delete(where={"document": ref_doc_id})

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes by id, by filters, or those that both say.

        Raises:
            ValidationError: neither; `clear` deletes all.
        """
        self._passages.delete(node_ids, where=where_of(filters) or None)

    def clear(self) -> None:
        """Delete all nodes."""
        self._passages.delete(where=EVERYTHING)

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Nodes by id, by filters or both, in order of arrival; all without either."""
        parts: list[dict[str, Any]] = [] if node_ids is None else [{"id__in": list(node_ids)}]
        parts += [where for where in (where_of(filters),) if where]
        return [_node(record) for record in self._passages.stream({"and": parts} if parts else None)]

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes nearest to a vector or text, best first.

        Modes: default, mmr (`mmr_threshold` is the weight of relevance, `mmr_prefetch_k=` or `mmr_prefetch_factor=` how
        many are chosen from), text_search, sparse (the same), hybrid and semantic_hybrid (`alpha`: 0 text, 1 vectors).

        Raises:
            ValidationError: a mode that learns (svm, ...), or a query without what its mode needs.
        """
        parts = [where for where in (where_of(query.filters),) if where]
        if query.node_ids:  # an index's retriever says [] when it restricts nothing
            parts.append({"id__in": list(query.node_ids)})
        if query.doc_ids is not None:
            parts.append({"document__in": list(query.doc_ids)})
        where = {"and": parts} if parts else None
        hits = self._hits(query, where, kwargs)
        return VectorStoreQueryResult(
            nodes=[_node(hit.record) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )

    def _hits(self, query: VectorStoreQuery, where: dict[str, Any] | None, more: dict[str, Any]) -> Any:
        mode, k = query.mode, query.similarity_top_k
        if mode in (VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.SPARSE):
            if query.query_str is None:
                raise ValidationError(f"query: mode {mode.value} needs query_str")
            return self._passages.search(query.query_str, query.sparse_top_k or k, where, mode="text")
        if query.query_embedding is None:
            raise ValidationError(f"query: mode {mode.value} needs query_embedding")
        if mode == VectorStoreQueryMode.DEFAULT:
            return self._passages.search(query.query_embedding, k, where)
        if mode == VectorStoreQueryMode.MMR:
            pool = more.get("mmr_prefetch_k") or int(k * (more.get("mmr_prefetch_factor") or 4))
            weight = 0.5 if query.mmr_threshold is None else query.mmr_threshold
            return self._passages.search(query.query_embedding, k, where, mmr=weight, pool=max(k, pool))
        if mode in (VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.SEMANTIC_HYBRID):
            return self._hybrid(query, where)
        raise ValidationError(f"query: no mode {mode.value!r}; there are default, mmr, text_search, sparse, hybrid")

    def _hybrid(self, query: VectorStoreQuery, where: dict[str, Any] | None) -> Any:
        if query.query_str is None:
            raise ValidationError(f"query: mode {query.mode.value} needs query_str")
        fusion = None
        if query.alpha is not None:
            fusion = Fusion("weighted", weights={"vector": query.alpha, "text": 1 - query.alpha})
        asked = WithVector(query.query_str, query.query_embedding)
        k = query.hybrid_top_k or query.similarity_top_k
        return self._passages.search(asked, k, where, mode="hybrid", fusion=fusion)


class KnowledgeEmbedding(BaseEmbedding):
    """An embedder of this package as LlamaIndex's model: all-MiniLM-L6-v2, or what `vectorstore.open` takes."""

    _embedder: Embedder = PrivateAttr()

    def __init__(self, embedder: Any = "minilm", **options: Any) -> None:
        """Take an embedder; nothing is loaded before the first text.

        Args:
            embedder: as of `vectorstore.open`.
            options: of LlamaIndex's models, `embed_batch_size=` for one.
        """
        found = as_embedder(embedder)
        if found is None:
            raise ValidationError("embedder: expected one, got None")
        super().__init__(model_name=embedder if isinstance(embedder, str) else type(found).__name__, **options)
        self._embedder = found

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex serialises it."""
        return "KnowledgeEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [[float(number) for number in row] for row in self._embedder.embed(texts)]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, query)


def _without_text(node: BaseNode) -> str:
    """Everything of a node but its text, embedding and metadata, which have columns of their own."""
    fields = node.model_dump(mode="json")
    fields.update(embedding=None, metadata={})
    for name in ("text", "text_resource"):
        if name in fields:
            fields[name] = "" if name == "text" else None
    return json.dumps(fields, ensure_ascii=False)


def _node(record: Any) -> BaseNode:
    """The node that a record was made of; a plain text node of what others wrote."""
    kept = record.node
    if "json" not in kept:
        kept = {"type": TextNode.class_name(), "json": TextNode(id_=record.id).to_json()}
    node = metadata_dict_to_node({"_node_content": kept["json"], "_node_type": kept["type"]}, record.text or None)
    node.metadata = dict(record.metadata)
    return node
