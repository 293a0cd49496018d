"""Claims at 100,000 vectors: the store picks an index by itself, keeps what it chose, and finds what flat search finds."""

from __future__ import annotations

import numpy as np

import vectorstore as vs

ROWS, DIM, K = 100_000, 128, 10


def test_a_large_space_gets_an_index_with_recall_against_flat_search() -> None:
    random = np.random.default_rng(5)
    centres = random.standard_normal((500, DIM)).astype(np.float32)
    vectors = centres[random.integers(0, 500, ROWS)] + 0.7 * random.standard_normal((ROWS, DIM)).astype(np.float32)
    queries = centres[random.integers(0, 500, 60)] + 0.7 * random.standard_normal((60, DIM)).astype(np.float32)
    with vs.open(":memory:", embedder=None) as store:
        for start in range(0, ROWS, 20_000):
            part = vectors[start : start + 20_000]
            store.concepts.add([{"id": str(start + n), "name": "x"} for n in range(len(part))], part)
        store.publish("concepts")

        index = store.stats()["kinds"]["concepts"]["index"]
        answers = store.concepts.search_many(queries, K)
        single = [store.concepts.search(query, K).ids for query in queries[:10]]

    assert index["recipe"] == "pq-fastscan" and index["rows"] == ROWS
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = np.argsort(-(queries @ unit.T), axis=1)[:, :K]
    shares = [
        len({int(name) for name in hits.ids} & set(row.tolist())) / K
        for hits, row in zip(answers, nearest, strict=True)
    ]
    assert all(hits.plan.name == "index" and hits.scanned < ROWS / 20 for hits in answers)
    assert np.mean(shares) >= 0.95
    assert np.mean(shares) >= answers[0].recall_promised - 2 * np.std(shares) / np.sqrt(len(shares))
    assert [hits.ids for hits in answers[:10]] == single
