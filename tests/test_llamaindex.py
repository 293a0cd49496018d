"""LlamaIndex: every operator and mode against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    FilterCondition,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

import vectorstore as vs
from vectorstore.integrations.llamaindex import KnowledgeEmbedding, KnowledgeVectorStore

VECTORS = np.random.default_rng(0).normal(size=(40, 12))
METADATA: list[dict[str, Any]] = [
    {
        "n": n,
        "topic": ["Sea", "land"][n % 2],
        "tags": [f"t{n % 3}", f"t{n % 5}"],
        "sizes": [n % 4, 9],
        "page__label": f"p{n % 7}",
    }
    | [{"empty": []}, {"empty": [1]}, {"empty": None}, {}, {"empty": "[]"}, {"empty": 0}][n % 6]
    for n in range(40)
]


def nodes() -> list[TextNode]:
    found = []
    for n in range(40):
        node = TextNode(id_=f"n{n}", text=f"word{n} about {'fish' if n % 2 else 'ships'}", metadata=METADATA[n])
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=f"doc{n // 10}")
        node.embedding = VECTORS[n].tolist()
        found.append(node)
    return found


@pytest.fixture
def filled() -> Iterator[KnowledgeVectorStore]:
    store = KnowledgeVectorStore()
    assert store.add(nodes()) == [f"n{n}" for n in range(40)]
    yield store
    store.close()


def order(query: np.ndarray) -> list[int]:
    scores = VECTORS @ query / np.linalg.norm(VECTORS, axis=1)
    return list(np.argsort(-scores))


CASES: list[tuple[str, Any, FilterOperator, Any]] = [
    ("n", 7, FilterOperator.EQ, lambda m: m["n"] == 7),
    ("n", 7, FilterOperator.NE, lambda m: m["n"] != 7),
    ("n", 7, FilterOperator.GT, lambda m: m["n"] > 7),
    ("n", 7, FilterOperator.GTE, lambda m: m["n"] >= 7),
    ("n", 7, FilterOperator.LT, lambda m: m["n"] < 7),
    ("n", 7.5, FilterOperator.LTE, lambda m: m["n"] <= 7),
    ("n", [1, 2, 90], FilterOperator.IN, lambda m: m["n"] in (1, 2)),
    ("topic", ["Sea"], FilterOperator.NIN, lambda m: m["topic"] != "Sea"),
    ("tags", ["t1", "t4"], FilterOperator.ANY, lambda m: {"t1", "t4"} & set(m["tags"])),
    ("tags", ["t1", "t4"], FilterOperator.ALL, lambda m: {"t1", "t4"} <= set(m["tags"])),
    ("sizes", 3, FilterOperator.CONTAINS, lambda m: 3 in m["sizes"]),
    ("topic", "and", FilterOperator.TEXT_MATCH, lambda m: "and" in m["topic"]),
    ("topic", "AND", FilterOperator.TEXT_MATCH, lambda m: False),
    ("topic", "sEA", FilterOperator.TEXT_MATCH_INSENSITIVE, lambda m: m["topic"] == "Sea"),
    ("empty", None, FilterOperator.IS_EMPTY, lambda m: m.get("empty") in (None, [])),
    ("page__label", "p3", FilterOperator.EQ, lambda m: m["page__label"] == "p3"),
]


def test_every_operator_is_tried() -> None:
    assert {operator for _, _, operator, _ in CASES} == set(FilterOperator)


@pytest.mark.parametrize(("key", "value", "operator", "keeps"), CASES)
def test_operators_equal_brute_force(
    filled: KnowledgeVectorStore, key: str, value: Any, operator: FilterOperator, keeps: Any
) -> None:
    filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])
    query = VECTORS[3] + 0.1
    wanted = [f"n{n}" for n in order(query) if keeps(METADATA[n])]
    found = filled.query(VectorStoreQuery(query_embedding=query.tolist(), similarity_top_k=40, filters=filters))
    assert found.ids == wanted
    assert {node.node_id for node in filled.get_nodes(filters=filters)} == set(wanted)


def test_conditions_nest(filled: KnowledgeVectorStore) -> None:
    few = MetadataFilter(key="n", value=10, operator=FilterOperator.LT)
    sea = MetadataFilter(key="topic", value="Sea")
    for condition, keeps in (
        (FilterCondition.AND, lambda m: m["n"] < 10 and m["topic"] == "Sea"),
        (FilterCondition.OR, lambda m: m["n"] < 10 or m["topic"] == "Sea"),
        (FilterCondition.NOT, lambda m: not (m["n"] < 10 or m["topic"] == "Sea")),
    ):
        inner = MetadataFilters(filters=[few, sea], condition=condition)
        outer = MetadataFilters(filters=[inner, MetadataFilter(key="n", value=3, operator=FilterOperator.NE)])
        assert [node.metadata["n"] for node in filled.get_nodes(filters=outer)] == [
            m["n"] for m in METADATA if keeps(m) and m["n"] != 3
        ]


def test_nodes_come_back_as_they_were(filled: KnowledgeVectorStore) -> None:
    found = filled.get_nodes(["n5"])[0]
    wanted = nodes()[5]
    assert isinstance(found, TextNode) and found.text == wanted.text and found.metadata == wanted.metadata
    assert found.ref_doc_id == "doc0" and found.relationships == wanted.relationships
    assert found.hash == wanted.hash


def test_modes(filled: KnowledgeVectorStore) -> None:
    asked = VECTORS[7].tolist()
    result = filled.query(VectorStoreQuery(query_embedding=asked, similarity_top_k=3, doc_ids=["doc0"]))
    assert result.ids is not None and result.ids[0] == "n7" and result.similarities is not None
    assert result.similarities[0] == pytest.approx(1.0, abs=1e-6) and set(result.ids) <= {f"n{n}" for n in range(10)}
    assert filled.query(VectorStoreQuery(query_embedding=asked, similarity_top_k=3, node_ids=["n3"])).ids == ["n3"]
    text = VectorStoreQuery(query_str="word9", mode=VectorStoreQueryMode.TEXT_SEARCH, similarity_top_k=2)
    assert filled.query(text).ids == ["n9"]
    for alpha, first in ((0.0, "n9"), (1.0, "n7"), (None, "n7")):
        hybrid = VectorStoreQuery(
            query_str="word9", query_embedding=asked, alpha=alpha, mode=VectorStoreQueryMode.HYBRID, similarity_top_k=2
        )
        assert (filled.query(hybrid).ids or [])[0] == first
    diverse = VectorStoreQuery(
        query_embedding=asked, mode=VectorStoreQueryMode.MMR, similarity_top_k=4, mmr_threshold=0.3
    )
    chosen = filled.query(diverse).ids or []
    same = [hit.id for hit in filled.client.collection("passages").search(VECTORS[7], 4, mmr=0.3, pool=16)]
    assert chosen == same and len(set(chosen)) == 4
    for query, message in (
        (VectorStoreQuery(query_embedding=asked, mode=VectorStoreQueryMode.SVM), "no mode 'svm'"),
        (VectorStoreQuery(mode=VectorStoreQueryMode.DEFAULT), "needs query_embedding"),
        (VectorStoreQuery(query_embedding=asked, mode=VectorStoreQueryMode.HYBRID), "needs query_str"),
        (VectorStoreQuery(mode=VectorStoreQueryMode.TEXT_SEARCH), "needs query_str"),
    ):
        with pytest.raises(vs.ValidationError, match=message):
            filled.query(query)


def test_deletion(filled: KnowledgeVectorStore) -> None:
    filled.delete("doc1")
    assert len(filled.get_nodes()) == 30
    filled.delete_nodes(["n0", "n1", "gone"])
    filled.delete_nodes(filters=MetadataFilters(filters=[MetadataFilter(key="n", value=39)]))
    assert len(filled.get_nodes()) == 27
    with pytest.raises(vs.ValidationError, match="say what"):
        filled.delete_nodes()
    filled.clear()
    assert filled.get_nodes() == []
    assert filled.query(VectorStoreQuery(query_embedding=VECTORS[0].tolist())).ids == []


def test_an_index_over_it_answers_and_survives_a_restart(tmp_path: Path) -> None:
    from llama_index.core import MockEmbedding, StorageContext, VectorStoreIndex
    from llama_index.core.schema import Document

    store = KnowledgeVectorStore(tmp_path / "kb")
    model = MockEmbedding(embed_dim=8)
    context = StorageContext.from_defaults(vector_store=store)
    VectorStoreIndex.from_documents([Document(text="a king", id_="d")], context, embed_model=model)
    store.close()
    again = KnowledgeVectorStore(tmp_path / "kb")
    index = VectorStoreIndex.from_vector_store(again, embed_model=model)
    (found,) = index.as_retriever(similarity_top_k=3).retrieve("anything")
    assert found.node.get_content() == "a king" and found.node.ref_doc_id == "d"
    index.delete_ref_doc("d")
    assert again.get_nodes() == []
    again.close()


async def test_an_embedder_of_the_package_is_a_model_of_theirs() -> None:
    model, own = KnowledgeEmbedding("hash:32", embed_batch_size=2), vs.HashEmbedder(32)
    texts = ["a king", "a queen", "a pear"]
    wanted = own.embed(texts).tolist()
    assert model.get_text_embedding_batch(texts) == wanted and model.model_name == "hash:32"
    assert model.get_query_embedding("a queen") == await model.aget_query_embedding("a queen") == wanted[1]
    assert await model.aget_text_embedding_batch(texts) == wanted
    assert KnowledgeEmbedding(own).get_text_embedding("a pear") == wanted[2]
    with pytest.raises(vs.ValidationError, match="expected one"):
        KnowledgeEmbedding(None)
