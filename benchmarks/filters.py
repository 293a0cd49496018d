"""Search with filters, by text and by both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import vectorstore as vs
from benchmarks.dataset import BUCKETS, SEED, Concepts, K, Matrix, concepts_of, recall
from benchmarks.timing import interleave, median, milliseconds

Where = Mapping[str, Any]

COLD = 7
QUERIES = 500


def filters(job: dict[str, Any]) -> dict[str, Any]:
    """For each share that a filter keeps: cold and warm milliseconds, recall against exact, ratio to no filter.

    Cold is the first use of a filter; a filter wrapped in another {"and": [...]} is a new one that means the same.
    Warm queries take turns with unfiltered ones.
    """
    folder = Path(job["folder"])
    base, queries = np.load(folder / "base.npy", mmap_mode="r"), np.load(folder / "queries.npy")[:QUERIES]
    truth = np.load(folder / "truth.npz")
    row_of = {record["id"]: row for row, record in enumerate(concepts_of(folder))}
    wanted: dict[str, Where] = {name: {"domain": name} for name in BUCKETS}
    wanted["topic"] = {"tags__has": job["data"]["topic"]}
    measured: dict[str, Any] = {}
    with vs.open(job["store"], embedder=None, auto_publish=False) as store:
        concepts = store.concepts
        for query in queries[:50]:
            concepts.search(query, k=K)
        begun = time.perf_counter()
        concepts.search(queries[0], k=K, where={"domain": "no such domain"})
        measured["first_filter_of_process_ms"] = (time.perf_counter() - begun) * 1e3
        for name, where in wanted.items():
            cold = []
            for turn in range(COLD):
                begun = time.perf_counter()
                concepts.search(queries[turn], k=K, where=_wrapped(where, turn))
                cold.append((time.perf_counter() - begun) * 1e3)
            seconds, answers = interleave(
                {
                    "unfiltered": lambda query: concepts.search(query, k=K),
                    "filtered": partial(concepts.search, k=K, where=where),
                },
                queries,
            )
            found = [[row_of[key] for key in hits.ids] for hits in answers["filtered"]]
            times = milliseconds(seconds["filtered"])
            matching = job["data"]["matching"][name]
            measured[name] = {
                **times,
                "matching": matching,
                "cold_ms": median(cold),
                "recall": recall(base, queries, truth[name], found, matching),
                "ratio_to_unfiltered": times["p50_ms"] / milliseconds(seconds["unfiltered"])["p50_ms"],
                "plan": answers["filtered"][-1].plan.name,
            }
    return measured


def _wrapped(where: Where, depth: int) -> Where:
    for _ in range(depth):
        where = {"and": [where]}
    return where


def text(job: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds of text, hybrid and vector searches for two-word queries.

    The embedder of this stage looks its vectors up, so that the cost of a model is left out.
    """
    folder = Path(job["folder"])
    queries = np.load(folder / "queries.npy")
    words = _two_words(list(concepts_of(folder)), len(queries))
    vector_of: dict[str, Matrix] = dict(zip(words, queries, strict=True))
    embedder = vs.CallableEmbedder(
        lambda texts: np.stack([vector_of.get(found, queries[0]) for found in texts]), "looked up", queries.shape[1]
    )
    numbers = np.arange(len(words), dtype=np.float32)[:, None]  # interleave hands a row: here the query's number
    with vs.open(job["store"], embedder=embedder, auto_publish=False) as store:
        concepts = store.concepts
        seconds, answers = interleave(
            {
                "text": lambda number: concepts.search(words[int(number[0])], k=K, mode="text"),
                "hybrid": lambda number: concepts.search(words[int(number[0])], k=K, mode="hybrid"),
                "vector": lambda number: concepts.search(words[int(number[0])], k=K),
            },
            numbers,
        )
    hits = float(np.mean([len(found) for found in answers["text"]]))
    return {name: milliseconds(found) for name, found in seconds.items()} | {"text_hits": hits}


def _two_words(concepts: Concepts, count: int) -> list[str]:
    """Distinct texts: a lemma of one record and the longest word of its definition."""
    random = np.random.default_rng(SEED)
    found: dict[str, None] = {}
    for place in random.integers(0, len(concepts), 20 * count).tolist():
        concept = concepts[place]
        longest = max(concept["definition"].split() or ["thing"], key=len)
        found[f"{concept['lemmas'][0]} {longest}"] = None
        if len(found) == count:
            break
    return [*found, *(f"thing {number}" for number in range(count - len(found)))]
