"""Judged retrieval sets in the layout of BEIR: `corpus.jsonl.gz`, `queries.jsonl`, `qrels/<split>.tsv`.

Loads them, embeds them, puts them into a store and asks all of its queries; measured by ir-measures.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import ir_measures
import numpy as np
import numpy.typing as npt

import vectorstore as vs

Matrix = npt.NDArray[np.float32]
Values = npt.NDArray[np.float64]
Run = dict[str, dict[str, float]]
MEASURES = (ir_measures.nDCG @ 10, ir_measures.AP @ 100, ir_measures.R @ 100, ir_measures.RR @ 10)
DEPTH = 100
RESAMPLINGS = 2_000


class Document(vs.Record, table="documents"):
    """A document; its text for the model is title and text with a space between, as BEIR has it."""

    title: Annotated[str, vs.EMBEDDED] = ""
    text: Annotated[str, vs.EMBEDDED] = ""

    def embedding_text(self) -> str:
        return f"{self.title} {self.text}".strip()


@dataclass(frozen=True)
class Judged:
    """A set: documents, queries and judgements; those without text, and queries without judgements, are left out.

    Attributes:
        name: of the set.
        documents: id, title and text.
        queries: id -> text.
        judgements: query id -> document id -> gain.
    """

    name: str
    documents: list[dict[str, str]]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]

    def texts(self) -> list[str]:
        """What is embedded, in the order of the documents."""
        return [f"{document['title']} {document['text']}".strip() for document in self.documents]


def load(folder: Path, split: str = "test") -> Judged:
    """The set in a folder."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    documents = [{"id": row["_id"], "title": row["title"], "text": row["text"]} for row in rows]
    judgements: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, gain = line.split("\t")
        judgements.setdefault(query, {})[document] = int(gain)
    with (folder / "queries.jsonl").open(encoding="utf-8") as lines:
        queries = {row["_id"]: row["text"] for row in map(json.loads, lines) if row["_id"] in judgements}
    kept = [document for document in documents if document["title"] or document["text"]]
    return Judged(folder.name, kept, queries, judgements)


def embedded(judged: Judged, cache: Path, embedder: vs.Embedder) -> tuple[Matrix, Matrix]:
    """((documents, d), (queries, d)) unit rows; kept in `cache` by what they are made of."""
    texts, queries = judged.texts(), list(judged.queries.values())
    key = hashlib.sha256(json.dumps([embedder.identity.digest, texts, queries]).encode()).hexdigest()[:16]
    file = cache / f"{judged.name}-{key}.npz"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, documents=embedder.embed(texts), queries=embedder.embed(queries))
    with np.load(file) as kept:
        return kept["documents"], kept["queries"]


def shipped(file: Path) -> tuple[Matrix, Matrix]:
    """((documents, d), (queries, d)) from a `vectors.npz` beside a set; float16 becomes float32."""
    with np.load(file) as kept:
        return kept["documents"].astype(np.float32), kept["queries"].astype(np.float32)


def fill(path: Path | str, judged: Judged, documents: Matrix, queries: Matrix, tokenizer: str) -> vs.Store:
    """An open store with the documents, whose embedder knows the queries' vectors; no model is loaded."""
    of_text = dict(zip(judged.queries.values(), queries, strict=True))

    def look_up(texts: Sequence[str]) -> list[Matrix]:
        return [of_text.get(text, queries[0]) for text in texts]

    store = vs.open(path, embedder=look_up, kinds=[Document], tokenizer=tokenizer, auto_publish=False)
    store.collection(Document).add(judged.documents, vectors=documents)
    return store


def ask(store: vs.Store, judged: Judged, k: int = DEPTH, **options: Any) -> Run:
    """What a search with these options finds for each query: query id -> document id -> score."""
    documents = store.collection(Document)
    return {name: scores(documents.search(text, k=k, **options)) for name, text in judged.queries.items()}


def scores(hits: vs.Hits[Document]) -> dict[str, float]:
    """Ids with scores that keep the order of the hits: measures sort by score, and put ties in an order of theirs."""
    return {hit.id: -float(hit.rank) for hit in hits}


def measured(judged: Judged, run: Run) -> dict[str, float]:
    """Measure -> mean over all judged queries."""
    found = by_query(judged, run)
    return {name: round(float(values.mean()), 4) for name, values in found.items()}


def by_query(judged: Judged, run: Run) -> dict[str, Values]:
    """Measure -> (queries,) values, in the order of the judged queries; 0 for a query that found nothing."""
    found: dict[str, dict[str, float]] = {str(measure): {} for measure in MEASURES}
    for one in ir_measures.iter_calc(MEASURES, judged.judgements, run):
        found[str(one.measure)][one.query_id] = one.value
    return {name: np.array([values.get(key, 0.0) for key in judged.queries]) for name, values in found.items()}


def interval(values: Values) -> tuple[float, float]:
    """Where the mean lies with 95 %: percentiles of its bootstrap over queries (Efron 1979; seed 0)."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLINGS, len(values)))
    low, high = np.percentile(values[draws].mean(axis=1), [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


class Titles:
    """Re-ranks by two cosines to the query, added up: of the whole text, and of its title alone.

    A model of 256 tokens blurs a long text into one vector, and its title often says just what it found. The weights
    are equal and were not tuned.
    """

    def __init__(self, judged: Judged, documents: Matrix, queries: Matrix, cache: Path, embedder: vs.Embedder) -> None:
        titles = dataclasses.replace(
            judged, name=f"{judged.name}-titles", documents=[{**one, "text": ""} for one in judged.documents]
        )
        found, _ = embedded(titles, cache, embedder)
        self._titles = dict(zip((one["id"] for one in judged.documents), found, strict=True))
        lengths = np.linalg.norm(documents, axis=1, keepdims=True)
        self._documents = dict(zip(self._titles, documents / lengths, strict=True))
        self._queries = dict(zip(judged.queries.values(), queries, strict=True))

    def __call__(self, query: object, records: Sequence[vs.Record]) -> list[float]:
        vector = self._queries[str(query)]
        return [float(self._documents[one.id] @ vector + self._titles[one.id] @ vector) for one in records]


def methods() -> dict[str, Callable[[str], dict[str, Any] | None]]:
    """Name -> options of the search for a tokenizer, None where they are the same for all tokenizers but the first."""

    def dense(**options: Any) -> Callable[[str], dict[str, Any] | None]:
        return lambda tokenizer: options if tokenizer == "unicode61" else None

    return {
        "dense, exact": dense(exact=True),
        "dense, recall=0.99": dense(recall=0.99),
        "text": lambda tokenizer: {"mode": "text"},
        "hybrid, rrf": lambda tokenizer: {"mode": "hybrid", "exact": True, "fusion": "rrf"},
        "hybrid, weighted": lambda tokenizer: {"mode": "hybrid", "exact": True, "fusion": "weighted"},
    }
