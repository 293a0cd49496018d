"""The same vectors, queries, texts and metadata for every system, written once into a folder, with the exact answers.

base.npy      (n, d) float32, length one        queries.npy   (q, d) float32, length one, no rows of base
columns.json  id, text, domain, pos, bucket     truth.npz     (q,) similarity of the exact K-th: all, and by bucket
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import dataset
from benchmarks.peers.base import BUCKETS, Answer, K, Matrix, row_of

SAMPLE_ROWS = 12_500


def load_source(options: argparse.Namespace, progress: Callable[[str], None]) -> dataset.Source:
    """The files that were named, or the packaged WordNet sample, embedded once and kept in the user's cache.

    Args:
        options: `data`, (n, d) numbers as .npy of any float type, with `queries`, .npz that has them by that name,
            and `texts`, gzipped JSON lines with lemmas, definition, domain and pos, line i for row i; all None for
            the sample. `rows` is how many will be needed, None for all, `query_count` how many queries at most.
        progress: told what happens.
    """
    if options.data is None:
        return dataset.load_source(None, None, options.query_count, options.rows or SAMPLE_ROWS, progress)
    if options.queries is None or options.texts is None:
        raise SystemExit("peers: --data needs --queries and --texts beside it")
    vectors = np.load(options.data, mmap_mode="r")
    queries = np.load(options.queries)["queries"][: options.query_count]
    with gzip.open(options.texts, "rt", encoding="utf-8") as lines:
        concepts = [json.loads(line) for line in itertools.islice(lines, len(vectors))]
    if len(concepts) < len(vectors):
        raise SystemExit(f"peers: {options.texts} has {len(concepts)} lines for {len(vectors)} vectors")
    return dataset.Source(options.data.name, vectors, dataset.unit(queries), concepts)


def prepare(source: dataset.Source, rows: int, folder: Path) -> dict[str, Any]:
    """Write the folder; returns what is to be said about the data."""
    random = np.random.default_rng(dataset.SEED)
    available = len(source.base)
    if rows > available:
        raise SystemExit(f"peers: --rows {rows}, but the data has {available}")
    chosen = np.sort(random.choice(available, rows, replace=False))
    base = dataset.unit(source.base[chosen])
    buckets = _buckets(rows, random)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "base.npy", base)
    np.save(folder / "queries.npy", source.queries)
    (folder / "columns.json").write_text(json.dumps(_columns(source.concepts, chosen, buckets)), encoding="utf-8")
    truth = {"all": kth_similarity(base, source.queries)}
    for share, value in BUCKETS.items():
        truth[share] = kth_similarity(base[buckets == value], source.queries)
    np.savez(folder / "truth.npz", allow_pickle=False, **truth)
    return {
        "name": source.name,
        "rows": rows,
        "of": available,
        "dim": int(base.shape[1]),
        "queries": len(source.queries),
        "raw_float32_bytes": int(base.nbytes),
        "matching": {share: int((buckets == value).sum()) for share, value in BUCKETS.items()},
        "seed": dataset.SEED,
    }


def _columns(
    concepts: Sequence[dict[str, Any]], chosen: npt.NDArray[np.int64], buckets: npt.NDArray[np.int64]
) -> dict[str, list[Any]]:
    found = [concepts[row] for row in chosen.tolist()]
    return {
        "ids": [f"c{row}" for row in range(len(found))],
        "texts": [f"{', '.join(concept['lemmas'])}: {concept['definition']}" for concept in found],
        "domains": [concept["domain"] for concept in found],
        "poses": [concept["pos"] for concept in found],
        "buckets": buckets.tolist(),
    }


def _buckets(rows: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """(n,) values of `bucket` in exactly the shares that their names say, without regard to the vectors."""
    order, values, start = random.permutation(rows), np.zeros(rows, dtype=np.int64), 0
    for share, value in BUCKETS.items():
        count = max(1, round(float(share) / 100 * rows))
        values[order[start : start + count]] = value
        start += count
    return values


def kth_similarity(base: Matrix, queries: Matrix) -> Matrix:
    """(q,) the similarity of the exact K-th nearest row, or of the last when there are fewer."""
    best = np.full((len(queries), min(K, len(base))), -np.inf, dtype=np.float32)
    for start in range(0, len(base), 32_768):
        both = np.concatenate([best, queries @ base[start : start + 32_768].T], axis=1)
        best = np.partition(both, both.shape[1] - best.shape[1], axis=1)[:, -best.shape[1] :]
    return np.asarray(best.min(axis=1), dtype=np.float32)


@dataclass(frozen=True)
class Judge:
    """What is needed to say how good answers are."""

    base: Matrix
    queries: Matrix
    truth: dict[str, Matrix]
    matching: dict[str, int]

    @classmethod
    def of(cls, folder: Path, matching: dict[str, int]) -> Judge:
        truth = dict(np.load(folder / "truth.npz"))
        base = np.load(folder / "base.npy", mmap_mode="r")
        return cls(base, np.load(folder / "queries.npy"), truth, {"all": len(base), **matching})

    def recall(self, answers: Sequence[Answer], among: str = "all") -> float:
        """Mean share of the exact best that the answers to the first queries hold; ties with the last count.

        Args:
            answers: of records or row numbers, one for each of the first queries.
            among: "all", or the per cent that the filter kept.
        """
        rows = [[row_of(found) for found in answer] for answer in answers]
        return dataset.recall(self.base, self.queries, self.truth[among], rows, self.matching[among])
