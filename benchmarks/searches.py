"""Search by vector, one query at a time and in batches, beside the rivals."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import vectorstore as vs
from benchmarks import rivals
from benchmarks.dataset import K, Matrix, concepts_of, recall
from benchmarks.timing import interleave, median, milliseconds


def search(job: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds and delivered recall of a store (records included) and of each rival."""
    faiss.omp_set_num_threads(1)
    folder = Path(job["folder"])
    base, queries = np.load(folder / "base.npy"), np.load(folder / "queries.npy")
    with vs.open(job["store"], embedder=None, auto_publish=False) as store:
        plan = store.concepts.search(queries[0], k=K).plan
        contestants: dict[str, Callable[[Matrix], Any]] = {
            "store": lambda query: store.concepts.search(query, k=K),
            "store exact": lambda query: store.concepts.search(query, k=K, exact=True),
            "faiss flat": rivals.flat(base),
            "numpy": rivals.numpy_exact(base),
        }
        if plan.candidates:
            path = folder / "recipe.faiss"
            contestants["recipe raw"] = rivals.recipe_only(path, plan.candidates)
            contestants["recipe raw, re-ranked"] = rivals.recipe_reranked(path, base, plan.candidates)
        if (folder / "hnsw.faiss").exists():
            contestants["hnsw32"] = rivals.hnsw(folder / "hnsw.faiss")
        seconds, answers = interleave(contestants, queries)
    row_of = {record["id"]: row for row, record in enumerate(concepts_of(folder))}
    for name in ("store", "store exact"):
        answers[name] = [[row_of[key] for key in hits.ids] for hits in answers[name]]
    kth = np.load(folder / "truth.npz")["all"]
    measured: dict[str, Any] = {
        name: milliseconds(seconds[name])
        | ({} if name == "recipe raw" else {"recall": recall(base, queries, kth, answers[name], len(base))})
        for name in contestants
    }
    return {"plan": {"name": plan.name, "reason": plan.reason, "candidates": plan.candidates}, **measured}


def many(job: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a query of batches, and of single calls between them."""
    queries = np.load(Path(job["folder"]) / "queries.npy")
    single: list[float] = []
    batches: dict[str, list[float]] = {}
    with vs.open(job["store"], embedder=None, auto_publish=False) as store:
        concepts = store.concepts
        for query in queries[:100]:
            concepts.search(query, k=K)
        concepts.search_many(queries[:100], k=K)
        for turn in range(job["repeats"]):
            for query in np.roll(queries, -100 * turn, axis=0)[:200]:
                begun = time.perf_counter()
                concepts.search(query, k=K)
                single.append(time.perf_counter() - begun)
            for size in (100, 1_000):
                block = np.resize(np.roll(queries, -100 * turn, axis=0), (size, queries.shape[1]))
                begun = time.perf_counter()
                concepts.search_many(block, k=K)
                batches.setdefault(str(size), []).append((time.perf_counter() - begun) / size)
    mean = median([float(np.mean(part)) for part in np.array_split(np.array(single), job["repeats"])])
    return {
        "single_ms": mean * 1e3,
        **{
            f"batch_{size}": {"ms_per_query": median(found) * 1e3, "throughput_ratio": mean / median(found)}
            for size, found in batches.items()
        },
    }
