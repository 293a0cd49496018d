"""Retrieval quality on SciFact, a judged set that ships with the tests: the baselines are met, hybrid beats both."""

from __future__ import annotations

import gzip
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vectorstore as vs
from benchmarks import beir, retrieval

FOLDER = Path(__file__).parent / "data" / "scifact"
DENSE = 0.6451
"""nDCG@10 of all-MiniLM-L6-v2 in float32 by exact cosine (numpy and ir-measures)."""

TEXT = {"unicode61": 0.6695, "porter": 0.6874}
"""nDCG@10 of SQLite's bm25() over title and text, any word of the query, each once, no word dropped."""


@pytest.fixture(scope="module")
def judged() -> beir.Judged:
    return beir.load(FOLDER)


@pytest.fixture(scope="module", params=TEXT)
def asked(request: pytest.FixtureRequest, judged: beir.Judged) -> Iterator[tuple[str, vs.Store]]:
    documents, queries = beir.shipped(FOLDER / "vectors.npz")
    with beir.fill(":memory:", judged, documents, queries, request.param) as store:
        yield request.param, store


def quality(judged: beir.Judged, run: beir.Run) -> float:
    return beir.measured(judged, run)["nDCG@10"]


def test_the_set_is_whole(judged: beir.Judged) -> None:
    documents, queries = beir.shipped(FOLDER / "vectors.npz")
    ids = {document["id"] for document in judged.documents}

    assert (len(ids), len(judged.queries), sum(map(len, judged.judgements.values()))) == (5183, 300, 339)
    assert documents.shape == (5183, 384) and queries.shape == (300, 384)
    assert all(set(gains) <= ids for gains in judged.judgements.values())
    assert judged.judgements.keys() == judged.queries.keys()
    notice = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in notice and "ODC-By 1.0" in notice and "github.com/allenai/scifact" in notice


def test_dense_search_equals_the_exact_baseline(judged: beir.Judged) -> None:
    """To four digits, and as brute force in numpy; through an index it keeps what recall promises."""
    documents, queries = beir.shipped(FOLDER / "vectors.npz")
    unit = documents / np.linalg.norm(documents, axis=1, keepdims=True)
    ids = [document["id"] for document in judged.documents]
    best = np.argsort(-(queries @ unit.T), axis=1, kind="stable")[:, :10]
    numpy_run = {
        name: {ids[place]: -float(rank) for rank, place in enumerate(row)}
        for name, row in zip(judged.queries, best.tolist(), strict=True)
    }
    with beir.fill(":memory:", judged, documents, queries, "unicode61") as store:
        exact = quality(judged, beir.ask(store, judged, 10, exact=True))
        store.rebuild("documents")
        through = beir.ask(store, judged, 10, recall=0.99)
        plan = store.collection(beir.Document).search(queries[0]).plan.name

    assert exact == pytest.approx(DENSE, abs=1e-4) and exact == quality(judged, numpy_run)
    assert plan == "index" and quality(judged, through) == pytest.approx(DENSE, abs=0.005)


def test_text_search_equals_the_baseline_of_its_tokenizer(judged: beir.Judged, asked: tuple[str, vs.Store]) -> None:
    """And the ranking of SQLite itself, asked without any of our code."""
    tokenizer, store = asked
    database = sqlite3.connect(":memory:")
    spec = {"unicode61": "unicode61 remove_diacritics 2", "porter": "porter unicode61 remove_diacritics 2"}[tokenizer]
    database.execute(f"CREATE VIRTUAL TABLE plain USING fts5(title, text, tokenize='{spec}')")
    rows = [(place, row["title"], row["text"]) for place, row in enumerate(judged.documents)]
    database.executemany("INSERT INTO plain(rowid, title, text) VALUES (?, ?, ?)", rows)
    sql = "SELECT rowid FROM plain WHERE plain MATCH ? ORDER BY bm25(plain), rowid LIMIT 10"
    plain_run = {}
    for name, text in judged.queries.items():
        words = dict.fromkeys(re.findall(r"[^\W_]+", text.casefold()))
        found = database.execute(sql, (" OR ".join(f'"{word}"' for word in words),)).fetchall()
        plain_run[name] = {judged.documents[place]["id"]: -float(rank) for rank, (place,) in enumerate(found)}
    run = beir.ask(store, judged, 10, mode="text")

    assert run == plain_run
    assert quality(judged, run) == pytest.approx(TEXT[tokenizer], abs=1e-4)


@pytest.mark.parametrize("fusion", [pytest.param("rrf", marks=pytest.mark.slow), "weighted"])
def test_hybrid_beats_both_of_its_sides(judged: beir.Judged, asked: tuple[str, vs.Store], fusion: str) -> None:
    tokenizer, store = asked
    hybrid = quality(judged, beir.ask(store, judged, 10, mode="hybrid", fusion=fusion))

    assert hybrid > max(DENSE, TEXT[tokenizer]) + 0.01


def test_the_benchmark_writes_a_table_of_every_method(tmp_path: Path, judged: beir.Judged) -> None:
    """On a small part of the set."""
    small = tmp_path / "small"
    (small / "qrels").mkdir(parents=True)
    names = list(judged.queries)[:5]
    wanted = {document for name in names for document in judged.judgements[name]}
    kept = [place for place, row in enumerate(judged.documents) if row["id"] in wanted or place % 50 == 0]
    documents, queries = beir.shipped(FOLDER / "vectors.npz")
    with gzip.open(small / "corpus.jsonl.gz", "wt", encoding="utf-8") as file:
        for place in kept:
            row = judged.documents[place]
            file.write(json.dumps({"_id": row["id"], "title": row["title"], "text": row["text"]}) + "\n")
    lines = [json.dumps({"_id": name, "text": judged.queries[name]}) for name in names]
    (small / "queries.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pairs = [f"{name}\t{document}\t1" for name in names for document in judged.judgements[name]]
    (small / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *pairs]), encoding="utf-8")
    np.savez(small / "vectors.npz", documents=documents[kept], queries=queries[:5])

    retrieval.main([str(small), "--out", str(tmp_path)])

    table = (tmp_path / "retrieval.md").read_text(encoding="utf-8")
    rows = json.loads((tmp_path / "retrieval.json").read_text(encoding="utf-8"))["sets"]["small"]["rows"]
    assert "## small: " in table and table.count("\n| ") == len(rows) + 1 == 12
    assert {row["method"] for row in rows} == set(beir.methods())
    assert all(0 < row["nDCG@10"] <= 1 and 0 < row["R@100"] <= 1 for row in rows)
