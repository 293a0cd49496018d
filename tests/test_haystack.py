"""Haystack: its own suite for document stores, and the component in a pipeline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # else each pipeline is told to its makers

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import CountDocumentsByFilterTest, DocumentStoreBaseExtendedTests

import vectorstore as vs
from vectorstore.integrations.haystack import KnowledgeDocumentStore, KnowledgeRetriever

VECTORS = np.random.default_rng(1).normal(size=(30, 6)).astype(np.float32)


class TestStandard(DocumentStoreBaseExtendedTests, CountDocumentsByFilterTest):
    """The suite that Haystack gives to authors of document stores."""

    @pytest.fixture
    def document_store(self, tmp_path: Path) -> Iterator[KnowledgeDocumentStore]:
        store = KnowledgeDocumentStore(tmp_path / "kb")
        yield store
        assert store.store.check().findings == ()
        store.close()

    def assert_documents_are_equal(self, received: list[Document], expected: list[Document]) -> None:
        """Equal, and in the same order; embeddings as float32, which is what a store keeps."""
        assert received == [
            each if each.embedding is None else replace(each, embedding=np.float32(each.embedding).tolist())
            for each in expected
        ]

    # They ask for a parameter that says whether files are made anew; there is none.
    test_delete_all_documents_with_recreate_index = None
    test_delete_all_documents_without_recreate_index = None

    def test_write_documents(self, document_store: Any) -> None:
        """Without a policy an id that is there is refused, and nothing of the call is written."""
        one, other = Document(content="one"), Document(content="other")
        assert document_store.write_documents([one]) == 1
        with pytest.raises(Exception, match="DuplicateDocumentError|already"):
            document_store.write_documents([other, one])
        assert document_store.filter_documents() == [one]


@pytest.fixture
def filled() -> Iterator[KnowledgeDocumentStore]:
    store = KnowledgeDocumentStore()
    documents = [
        Document(id=f"d{n}", content=f"word{n} of the sea", meta={"n": n}, embedding=VECTORS[n].tolist())
        for n in range(30)
    ]
    assert store.write_documents(documents) == 30
    yield store
    store.close()


def test_vector_search_equals_brute_force(filled: KnowledgeDocumentStore) -> None:
    asked = VECTORS[4] + 0.2
    scores = VECTORS @ asked / np.linalg.norm(VECTORS, axis=1) / np.linalg.norm(asked)
    wanted = [n for n in np.argsort(-scores) if n >= 10][:5]
    keep = {"field": "meta.n", "operator": ">=", "value": 10}
    found = KnowledgeRetriever(filled, filters=keep, top_k=5).run(query_embedding=asked.tolist())["documents"]
    assert [document.id for document in found] == [f"d{n}" for n in wanted]
    np.testing.assert_allclose([document.score for document in found], scores[wanted], atol=1e-6)
    assert found[0].embedding == VECTORS[wanted[0]].tolist()


def test_words_and_both(filled: KnowledgeDocumentStore) -> None:
    asked = VECTORS[7].tolist()
    words = KnowledgeRetriever(filled, mode="text", top_k=1).run(query="word9")["documents"]
    assert [document.id for document in words] == ["d9"]
    both = KnowledgeRetriever(filled, mode="hybrid", top_k=2).run(query="word9", query_embedding=asked)["documents"]
    assert {document.id for document in both} == {"d7", "d9"}
    for mode, given in (
        ("text", {"query_embedding": asked}),
        ("hybrid", {"query": "word9"}),
        ("vector", {"query": "x"}),
    ):
        with pytest.raises(vs.ValidationError, match="needs"):
            KnowledgeRetriever(filled, mode=mode).run(**given)  # type: ignore[arg-type]


def test_a_pipeline_is_written_down_and_read_again(tmp_path: Path) -> None:
    store = KnowledgeDocumentStore(tmp_path / "kb", table="notes")
    store.write_documents([Document(id="a", content="a king"), Document(id="b", content="a queen", meta={"n": 1})])
    pipeline = Pipeline()
    keep = {"field": "meta.n", "operator": "==", "value": 1}
    pipeline.add_component("find", KnowledgeRetriever(store, mode="text", filters=keep, filter_policy="merge"))
    written = pipeline.dumps()
    store.close()
    again = Pipeline.loads(written, allowed_modules=["vectorstore.integrations.haystack"])
    (found,) = again.run({"find": {"query": "king queen"}})["find"]["documents"]
    assert found.id == "b"
    again.get_component("find").document_store.close()
    with vs.open(":memory:", embedder=None) as plain, pytest.raises(vs.NotFound):
        KnowledgeDocumentStore(plain)


def test_everything_of_a_document_comes_back(filled: KnowledgeDocumentStore) -> None:
    whole = Document(
        id="whole",
        blob=ByteStream(b"\x00\xff", meta={"page": 1}, mime_type="image/png"),
        sparse_embedding=SparseEmbedding([1, 5], [0.5, 0.25]),
        meta={"nested": {"list": [1, None, "x"]}},
        embedding=[1, 2, 3, 4, 5, 6],
    )
    filled.write_documents([whole, Document(id="empty", content="")])
    assert filled.filter_documents({"field": "meta.nested.list", "operator": "!=", "value": None}) == [whole]
    assert filled.filter_documents({"field": "id", "operator": "==", "value": "empty"})[0].content == ""


def test_an_overwritten_document_loses_its_vector_of_before(filled: KnowledgeDocumentStore) -> None:
    filled.write_documents([Document(id="d3", content="word3 of the sea")], DuplicatePolicy.OVERWRITE)
    assert filled.filter_documents({"field": "id", "operator": "==", "value": "d3"})[0].embedding is None
    near = filled.search(None, VECTORS[3].tolist(), top_k=30)
    assert len(near) == 29 and "d3" not in {document.id for document in near}
    twice = [Document(id="x", content="one"), Document(id="x", content="two")]
    assert filled.write_documents(twice, DuplicatePolicy.SKIP) == 1
    assert filled.write_documents(twice, DuplicatePolicy.OVERWRITE) == 2
    assert filled.filter_documents({"field": "content", "operator": "==", "value": "two"})[0].id == "x"


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "embedding", "operator": "==", "value": [1.0]},
        {"field": "meta.n", "operator": "==", "value": [1]},
        {"field": "meta.n", "operator": "~", "value": 1},
        {"operator": "XOR", "conditions": []},
    ],
)
def test_bad_filters_are_refused(filled: KnowledgeDocumentStore, filters: dict[str, Any]) -> None:
    for call in (filled.filter_documents, filled.delete_by_filter, filled.count_documents_by_filter):
        with pytest.raises(FilterError):
            call(filters)
    assert filled.count_documents() == 30
