"""What mypy must accept and refuse; checked by `make check`, never run.

An ignored error that is no error any more is an error itself, so both directions are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import vectorstore as vs


def accepted(store: vs.Store, own: vs.Collection[vs.Concept]) -> Iterator[object]:
    whole: vs.KnowledgeStore = store
    readable: vs.Readable[vs.Concept] = store.concepts
    writable: vs.Writable = store.analogies
    searchable: vs.Searchable[vs.Context] = store.contexts
    records: vs.Records[vs.Concept] = own
    embedder: vs.Embedder = vs.HashEmbedder()
    found: vs.Concept | None = store.concepts.get("x")
    name: str | None = None if found is None else found.name
    hits: vs.Hits[vs.Concept] = store.concepts.search("x")
    scores: list[float] = [hit.score for hit in hits]
    page: vs.Page[vs.Analogy] = store.analogies.find({"quality__gte": 0.5})
    each: Iterator[vs.Cluster] = store.clusters.stream()
    made: list[str] = store.collection(vs.Concept).add({"name": "x"})
    yield from (whole, readable, writable, searchable, records, embedder, name, scores, page, each, made)


def refused(store: vs.Store) -> Iterator[object]:
    class Stub:
        def add(self, records: Any, vectors: Any = None) -> list[str]:
            return []

    writable: vs.Writable = Stub()  # type: ignore[assignment]
    whole: vs.KnowledgeStore = store.concepts  # type: ignore[assignment]
    wrong: vs.Readable[vs.Analogy] = store.concepts  # type: ignore[assignment]
    found: vs.Concept = store.concepts.get("x")  # type: ignore[assignment]
    store.concepts.find(limit="3")  # type: ignore[arg-type]
    store.concepts.get_many(["x"], missing="ignore")  # type: ignore[arg-type]
    store.concepts.serach("x")  # type: ignore[attr-defined]
    vs.open("x", timeout="3")  # type: ignore[arg-type]
    yield from (writable, whole, wrong, found)
