"""The data of the benchmark: vectors, held-out queries, records and the exact answers, ready for any size.

Everything is written once into a folder that the measuring processes share, so that no preparation falls into a
measured process:

    base.npy      (n, d) float32, unit rows
    queries.npy   (q, d) float32, unit rows, none of them a row of base
    concepts.jsonl  line i describes row i: id, name, lemmas, domain, definition, tags
    truth.npz     for all rows and for each filter: (q,) similarity of the exact tenth-nearest row
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import vectorstore as vs
from vectorstore.data import wordnet_sample

Matrix = npt.NDArray[np.float32]
Concepts = list[dict[str, Any]]

K = 10
SEED = 20_261_121
NOISE = 0.35
"""Length of the random vector that makes a perturbed copy, where the row itself has length one."""

TIE = 1e-6
"""Similarities this close count as equal: float32 dot products of unit vectors differ by less between libraries."""

BUCKETS = {"share-50": 0.5, "share-10": 0.1, "share-1": 0.01, "share-0.1": 0.001}
"""Value of `domain` and the share of the rows that have it; the rows are drawn without regard to their vectors."""

BASE_FILE = "wordnet-minilm-384.base.f16.npy"
QUERIES_FILE = "wordnet-minilm-384.queries.npz"
MODEL = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class Source:
    """Vectors, queries and texts before they are brought to a size. `concepts` may be shorter than `base`."""

    name: str
    base: npt.NDArray[Any]
    queries: Matrix
    concepts: Concepts


def load_source(
    data: Path | None, texts: Path | None, queries: int, rows: int, progress: Callable[[str], None]
) -> Source:
    """The data set in a folder, or the packaged WordNet sample, embedded.

    Args:
        data: a folder with the two files named above, or None for the sample.
        texts: gzipped JSON lines, one a row of the base, or None for made-up texts.
        queries: at most so many.
        rows: how many rows will be needed at most; of the sample no more are embedded.
        progress: told what happens.
    """
    if data is None:
        return _sample_source(queries, rows, progress)
    base = np.load(data / BASE_FILE, mmap_mode="r")
    found = np.load(data / QUERIES_FILE)["queries"][:queries].astype(np.float32)
    name = BASE_FILE.removesuffix(".base.f16.npy")
    if texts is None:
        return Source(f"{name}, texts made up", base, unit(found), [])
    with gzip.open(texts, "rt", encoding="utf-8") as lines:
        concepts = [json.loads(line) for line in itertools.islice(lines, len(base))]
    return Source(name, base, unit(found), concepts)


def unit(matrix: npt.NDArray[Any]) -> Matrix:
    """(n, d) float32 rows of length one."""
    wide = np.asarray(matrix, dtype=np.float32)
    return np.ascontiguousarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)


def _sample_source(queries: int, rows: int, progress: Callable[[str], None]) -> Source:
    """The sample in random order, so that its beginning is a fair sample too; queries are its example sentences."""
    concepts = list(wordnet_sample())
    order = np.random.default_rng(SEED).permutation(len(concepts))
    concepts = [concepts[place] for place in order]
    sentences = [concept["examples"][0] for concept in concepts if concept["examples"]][:queries]
    texts = [f"{', '.join(concept['lemmas'])}: {concept['definition']}" for concept in concepts[:rows]]
    base = _embedded("sample", texts, progress)
    found = _embedded("queries", sentences, progress)
    return Source(f"packaged WordNet sample, {MODEL}", base, found, concepts[: len(base)])


def _embedded(name: str, texts: Sequence[str], progress: Callable[[str], None]) -> Matrix:
    """Unit vectors of texts, kept in the user's cache; a longer list kept there serves a shorter one."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vectorstore" / "benchmarks"
    path = folder / f"wordnet-{name}-minilm.npy"
    if path.exists() and len(kept := np.load(path)) >= len(texts):
        return np.asarray(kept[: len(texts)], dtype=np.float32)

    progress(f"embedding {len(texts)} texts with {MODEL}; kept in {folder}")
    vectors = unit(vs.SentenceEmbedder().embed(texts))
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, vectors)
    partial.replace(path)
    return vectors


# -- bringing it to a size ---------------------------------------------------------------------------------------------


def prepare(source: Source, size: int, folder: Path) -> dict[str, Any]:
    """Write the shared files for one size; returns what is to be said about them."""
    random = np.random.default_rng(SEED + size)
    base = _sized(source.base, size, random)
    np.save(folder / "base.npy", base)
    np.save(folder / "queries.npy", source.queries)
    buckets = _buckets(size, random)
    rows = _rows(len(source.base), size)
    tags = _write_concepts(source.concepts, rows, buckets, folder / "concepts.jsonl")
    filters = {name: np.flatnonzero(buckets == name) for name in BUCKETS}
    wanted = "all of the sample" if size >= len(source.base) else "a random part, in the data's order"
    copies = max(0, size - len(source.base))
    topic = _topic(tags, size)
    masks = {**filters, "topic": np.array(tags[topic])}
    np.savez(folder / "truth.npz", allow_pickle=False, **_truth(base, source.queries, masks))
    return {
        "rows": size,
        "dim": int(base.shape[1]),
        "queries": len(source.queries),
        "method": wanted.replace("the sample", "the data") + (f" and {copies} perturbed copies" if copies else ""),
        "raw_float32_bytes": int(base.nbytes),
        "topic": topic,
        "matching": {name: len(found) for name, found in masks.items()},
    }


def _rows(available: int, size: int) -> npt.NDArray[np.int64]:
    """Which row of the data each row comes from; beyond the data's end it starts again."""
    if size >= available:
        return np.arange(size, dtype=np.int64) % available
    chosen = np.random.default_rng(SEED).choice(available, size, replace=False)
    return np.sort(chosen)


def _sized(base: npt.NDArray[Any], size: int, random: np.random.Generator) -> Matrix:
    rows = _rows(len(base), size)
    out = np.empty((size, base.shape[1]), dtype=np.float32)
    for start in range(0, size, 65_536):
        part = unit(base[rows[start : start + 65_536]])
        copies = np.arange(start, start + len(part)) >= len(base)
        if copies.any():
            noise = unit(random.standard_normal((int(copies.sum()), base.shape[1]), dtype=np.float32))
            part[copies] = unit(part[copies] + NOISE * noise)
        out[start : start + len(part)] = part
    return out


def _buckets(size: int, random: np.random.Generator) -> npt.NDArray[np.str_]:
    """(size,) bucket names, "" for the rest, in exactly the shares of BUCKETS."""
    order = random.permutation(size)
    names = np.full(size, "", dtype="U16")
    start = 0
    for name, share in BUCKETS.items():
        count = max(1, round(share * size))
        names[order[start : start + count]] = name
        start += count
    return names


_WORDS = """
    a of the in or to and that with from by for is on having small large used made person place
    plant animal water light body act state quality form part group time move change give take
"""


def _made_up(row: int) -> dict[str, Any]:
    """A text as long as WordNet's (its mean is 1.8 lemmas and 11 words of definition), always the same for a row."""
    random = np.random.default_rng(row)
    lemmas = [f"word{row}", f"term{int(random.integers(1000))}"][: int(random.integers(1, 3))]
    words = random.choice(_WORDS.split(), int(random.integers(5, 18)))
    topic = f"topic.{int(random.zipf(1.6)) % 40}"
    return {"id": f"made-{row}", "lemmas": lemmas, "domain": topic, "definition": " ".join(words)}


def _write_concepts(
    concepts: Concepts, rows: npt.NDArray[np.int64], buckets: npt.NDArray[np.str_], path: Path
) -> dict[str, list[int]]:
    """Write one line a row; returns the rows of each tag that is a domain of the data."""
    tagged: dict[str, list[int]] = {}
    seen: dict[str, int] = {}
    with path.open("w", encoding="utf-8") as file:
        for place, row in enumerate(rows.tolist()):
            found = concepts[row] if row < len(concepts) else _made_up(row)
            again = seen[found["id"]] = seen.get(found["id"], -1) + 1
            mark = f" #{again}" if again else ""
            tagged.setdefault(found["domain"], []).append(place)
            line = {
                "id": found["id"] + mark.replace(" ", ""),
                "name": found["lemmas"][0] + mark,
                "lemmas": found["lemmas"],
                "domain": str(buckets[place]) or found["domain"],
                "definition": found["definition"],
                "tags": [found["domain"], f"digit{place % 10}"],
            }
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return tagged


def _topic(tagged: dict[str, list[int]], size: int) -> str:
    """The tag that the data itself gives to nearest 5 % of the rows: a filter that goes with the vectors."""
    return min(tagged, key=lambda tag: abs(len(tagged[tag]) - size * 0.05))


# -- exact answers -----------------------------------------------------------------------------------------------------


def _truth(base: Matrix, queries: Matrix, masks: dict[str, npt.NDArray[np.int64]]) -> dict[str, Matrix]:
    """For all rows and each set of rows: (q,) the similarity of the exact K-th row, by blocks of matrix products."""
    sets = {"all": None, **masks}
    return {name: _kth(queries, base if rows is None else base[rows]) for name, rows in sets.items()}


def _kth(queries: Matrix, rows: Matrix) -> Matrix:
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    for start in range(0, len(rows), 32_768):
        products = queries @ rows[start : start + 32_768].T
        both = np.concatenate([best, products], axis=1)
        best = np.partition(both, both.shape[1] - K, axis=1)[:, -K:]
    return np.asarray(best.min(axis=1), dtype=np.float32)


def recall(base: Matrix, queries: Matrix, kth: Matrix, answers: Iterable[Sequence[int]], possible: int) -> float:
    """Mean share of the K best rows that answers hold; rows that tie with the K-th count.

    Args:
        base: (n, d) unit rows.
        queries: (q, d) unit rows.
        kth: (q,) from `truth.npz`.
        answers: row numbers for each of the first queries.
        possible: how many rows could be found at all.
    """
    shares = []
    for query, limit, rows in zip(queries, kth, answers, strict=False):
        found = np.unique(np.array([row for row in rows if row >= 0], dtype=np.int64))[:K]
        good = int((base[found] @ query >= limit - TIE).sum()) if len(found) else 0
        shares.append(min(1.0, good / min(K, possible)))
    return float(np.mean(shares))


def concepts_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a prepared folder, in the order of the rows, as dicts for `add`."""
    with (folder / "concepts.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def note(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)
