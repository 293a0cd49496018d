"""LangChain: its own standard suite, and what it does not ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_tests.integration_tests import RetrieversIntegrationTests, VectorStoreIntegrationTests

import vectorstore as vs
from vectorstore.integrations.langchain import KnowledgeRetriever, KnowledgeStore, where_of
from vectorstore.integrations.passages import passages

EMBEDDING = DeterministicFakeEmbedding(size=24)
TEXTS = [f"text number {n} about {'sea' if n % 3 else 'stone'}" for n in range(60)]
METADATA: list[dict[str, Any]] = [
    {
        "n": n,
        "topic": ["sea", "land", "sky"][n % 3],
        "author": {"name": f"a{n % 4}"},
        "tags": [f"t{n % 5}", "all"],
        "n__gte": n % 31,
    }
    | ({"rare": True} if n % 7 == 0 else {})
    for n in range(60)
]


class TestStandard(VectorStoreIntegrationTests):
    """The suite that LangChain gives to authors of vector stores, sync and async."""

    @pytest.fixture
    def vectorstore(self) -> Iterator[VectorStore]:
        with KnowledgeStore(embedding=self.get_embeddings()) as store:
            yield store


class TestStandardOnDisk(TestStandard):
    """The same on disk, in a table of its own."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with KnowledgeStore(tmp_path / "kb", self.get_embeddings(), table="notes") as store:
            yield store


class TestRetriever(RetrieversIntegrationTests):
    """The suite for retrievers."""

    @pytest.fixture(autouse=True)
    def _filled(self) -> Iterator[None]:
        with vs.open(":memory:", embedder="hash:32") as store:
            store.concepts.add([{"name": f"c{n}", "definition": f"word{n} thing"} for n in range(9)])
            type(self).store = store  # type: ignore[attr-defined]
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return KnowledgeRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"store": self.store}  # type: ignore[attr-defined]

    @property
    def retriever_query_example(self) -> str:
        return "word3 thing"


@pytest.fixture
def filled() -> Iterator[KnowledgeStore]:
    with KnowledgeStore.from_texts(TEXTS, EMBEDDING, METADATA, ids=[f"d{n}" for n in range(60)]) as store:
        yield store


def cosines(query: str) -> np.ndarray:
    rows = np.array(EMBEDDING.embed_documents(TEXTS))
    asked = np.array(EMBEDDING.embed_query(query))
    return np.asarray(rows @ asked / np.linalg.norm(rows, axis=1) / np.linalg.norm(asked))


def test_scores_and_order_equal_brute_force(filled: KnowledgeStore) -> None:
    wanted = cosines("what is it")
    order = np.argsort(-wanted)
    found = filled.similarity_search_with_score("what is it", k=10)
    assert [document.id for document, _ in found] == [f"d{n}" for n in order[:10]]
    np.testing.assert_allclose([score for _, score in found], wanted[order[:10]], atol=1e-5)
    assert found[0][0].metadata == METADATA[order[0]] and found[0][0].page_content == TEXTS[order[0]]
    relevant = filled.similarity_search_with_relevance_scores("what is it", k=60)
    assert all(0 <= score <= 1 for _, score in relevant)
    retriever = filled.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.2, "k": 60}
    )
    assert len(retriever.invoke("what is it")) == (wanted >= 0.2).sum()


@pytest.mark.parametrize(
    ("filter", "keeps"),
    [
        ({"topic": "sea"}, lambda m: m["topic"] == "sea"),
        ({"n": {"$gte": 10, "$lt": 20}}, lambda m: 10 <= m["n"] < 20),
        ({"topic": {"$in": ["sea", "sky"]}, "n": {"$ne": 0}}, lambda m: m["topic"] in ("sea", "sky") and m["n"]),
        ({"$or": [{"n": 3}, {"author.name": "a1"}]}, lambda m: m["n"] == 3 or m["author"]["name"] == "a1"),
        ({"$not": {"topic": {"$nin": ["sky"]}}}, lambda m: m["topic"] == "sky"),
        ({"tags": {"$contains": "t2"}}, lambda m: "t2" in m["tags"]),
        ({"tags": {"$contains_all": ["t2", "all"]}}, lambda m: "t2" in m["tags"]),
        ({"tags": {"$contains_any": ["t2", "t3"]}}, lambda m: {"t2", "t3"} & set(m["tags"])),
        ({"rare": {"$exists": True}}, lambda m: "rare" in m),
        ({"rare": {"$exists": False}}, lambda m: "rare" not in m),
        ({"$and": [{"topic": {"$like": "e"}}, {"topic": {"$startswith": "s"}}]}, lambda m: m["topic"] == "sea"),
        ({"topic": {"$endswith": "d"}}, lambda m: m["topic"] == "land"),
        ({"n__gte": 30}, lambda m: m["n__gte"] == 30),
        ({}, lambda m: True),
    ],
)
def test_filters_equal_brute_force(filled: KnowledgeStore, filter: dict[str, Any], keeps: Any) -> None:
    wanted = [f"d{n}" for n in np.argsort(-cosines("query")) if keeps(METADATA[n])]
    found = filled.similarity_search("query", k=60, filter=filter)
    assert [document.id for document in found] == wanted and (wanted or filter)


def test_bad_filters_are_refused(filled: KnowledgeStore) -> None:
    for filter, message in (
        ({"n": {"$near": 3}}, "no operator '\\$near'"),
        ({"$or": 3}, "expected a list"),
        (lambda document: True, "expected a mapping"),
        ({"n": {"$exists": 1}}, "expected true or false"),
        ({"n": {}}, "or operators"),
    ):
        with pytest.raises(vs.WhereError, match=message):
            filled.similarity_search("query", filter=filter)  # type: ignore[arg-type]
    assert where_of(None) == {}


def test_mmr_is_langchains_own(filled: KnowledgeStore) -> None:
    asked = EMBEDDING.embed_query("query")
    scores = cosines("query")
    pool = np.argsort(-scores)[:20]
    rows = EMBEDDING.embed_documents([TEXTS[n] for n in pool])
    for weight in (0.1, 0.5, 0.9):
        chosen = maximal_marginal_relevance(np.array(asked), rows, lambda_mult=weight, k=6)
        wanted = [f"d{pool[n]}" for n in chosen]
        for found in (
            filled.max_marginal_relevance_search("query", 6, 20, weight),
            filled.max_marginal_relevance_search_by_vector(asked, 6, 20, weight),
        ):
            assert [document.id for document in found] == wanted


class Asymmetric(DeterministicFakeEmbedding):
    """Queries are embedded as the documents "about {query}" are."""

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([f"about {text}"])[0]


def test_a_query_has_the_embeddings_own_vector_in_every_mode() -> None:
    model = Asymmetric(size=24)
    with KnowledgeStore.from_texts(["about sea", "sea", "stone"], model, ids=["a", "b", "c"]) as store:
        same = vs.WithVector("sea", model.embed_query("sea"))
        for options in (
            {},
            {"mode": "hybrid"},
            {"mode": "hybrid", "fusion": "rrf"},
            {"rerank": lambda q, r: [q == "sea"] * len(r)},
        ):
            found = store.similarity_search_with_score("sea", 3, **options)
            wanted = store.passages.search(same, 3, **options)  # type: ignore[arg-type]
            assert [(document.id, score) for document, score in found] == [(hit.id, hit.score) for hit in wanted]
        assert store.similarity_search("sea", 1)[0].id == store.max_marginal_relevance_search("sea", 1)[0].id == "a"
        assert {document.id for document in store.similarity_search("sea", 3, mode="text")} == {"a", "b"}


async def _asynchronously(filled: KnowledgeStore) -> tuple[list[Document], list[Document]]:
    await filled.aadd_texts(["one more"], [{"n": 60}], ids=["new"])
    near = await filled.asimilarity_search("one more", k=1)
    diverse = await filled.amax_marginal_relevance_search("one more", k=2)
    await filled.adelete(["new"])
    return near, diverse


def test_asynchronous_verbs(filled: KnowledgeStore) -> None:
    import asyncio

    near, diverse = asyncio.run(_asynchronously(filled))
    assert near[0].id == "new" and diverse[0].id == "new" and filled.get_by_ids(["new"]) == []


def test_delete_by_filter_and_all(filled: KnowledgeStore) -> None:
    filled.delete(filter={"topic": "sea"})
    assert len(filled.similarity_search("query", k=60)) == 40
    filled.delete([])
    assert len(filled.similarity_search("query", k=60)) == 40
    filled.delete()
    assert filled.similarity_search("query", k=60) == []


def test_a_folder_keeps_documents_and_refuses_another_embedding(tmp_path: Path) -> None:
    with KnowledgeStore.from_texts(["a", "b"], EMBEDDING, store=tmp_path / "kb") as store:
        (first, second) = [document.id for document in store.similarity_search("a", k=2)]
        assert first != second and store.embeddings is EMBEDDING
    with KnowledgeStore(tmp_path / "kb", EMBEDDING) as store:
        assert store.similarity_search("b", k=1)[0].page_content == "b"
        assert store.similarity_search("b", k=5, mode="text")[0].page_content == "b"
        assert store.similarity_search("b", k=5, mode="hybrid")[0].page_content == "b"
    with pytest.raises(vs.SpaceMismatch), KnowledgeStore(tmp_path / "kb", DeterministicFakeEmbedding(size=8)) as store:
        store.add_texts(["c"])
    with vs.open(tmp_path / "kb", embedder=None) as plain:
        assert plain.collection("passages").count() == 2
        with pytest.raises(vs.NotFound, match="kinds="):
            KnowledgeStore(plain, table="other")


def test_an_open_store_is_shared(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:32", kinds=[passages(), passages("drafts")]) as store:
        one, other = KnowledgeStore(store), KnowledgeStore(store, table="drafts")
        one.add_documents([Document("a king", id="k", metadata={"n": 1})])
        other.add_documents([Document("a draft", id="k")])
        assert one.get_by_ids(["k"])[0].page_content == "a king" and one.embeddings is None
        assert other.similarity_search("draft", k=3)[0].page_content == "a draft"
        one.close()
        assert store.collection("passages").count() == 1
        retriever = KnowledgeRetriever(store=store, kind="passages", options={"mode": "hybrid"})
        (document,) = retriever.invoke("king")
        assert document.page_content == "a king" and document.metadata["n"] == 1 and document.metadata["score"] > 0
        with pytest.raises(vs.ValidationError, match="is decided where the store is opened"):
            KnowledgeStore(store, metric="l2")


def test_bad_calls_change_nothing(filled: KnowledgeStore) -> None:
    with pytest.raises(vs.ValidationError, match="metadatas: expected 2"):
        filled.add_texts(["a", "b"], [{}])
    with pytest.raises(vs.ValidationError, match="metadata"):
        filled.add_texts(["a", "b"], [{}, {"x": object()}])
    assert filled.passages.count() == 60 and filled.add_texts([]) == []
