"""Build every recipe of this folder over the vectors of one store, and write the table of README.md.

    python indexes/measure.py demo-kb concepts

The store itself is left alone: its vectors and records are copied into a scratch store first. Each recipe answers the
same queries (vectors of the store with noise added, so that none is a row), one after another on one thread; recall is
counted against the exact answer.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import vectorstore as vs

HERE = Path(__file__).parent
README = HERE / "README.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
RECIPES = (
    "exact",
    "pq-fastscan",
    "simhash512",
    "rabitq",
    "ivf-flat",
    "ivf-pq-fastscan",
    "ivf-rabitq-fastscan",
    "hnsw32",
    "hnsw32-sq8",
    "hnsw32-rabitq",
    "panorama",
)
K = 10
NOISE = 0.5
SHARE = 0.1
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """How one recipe did; recalls are of `K`, milliseconds medians."""

    recipe: str
    build: float
    size: int
    promised: float
    recall: float
    milliseconds: float
    filtered_recall: float
    filtered_milliseconds: float
    plan: str


def copy(source: vs.Store, kind: str, target: vs.Store) -> Matrix:
    """The vectors of a kind, which the target's concepts now have too; every tenth of those is tagged."""
    parts: list[Matrix] = []
    done = 0
    for ids in _batches(source, kind):
        vectors = source.collection(kind).vectors(ids)
        numbers = range(done, done + len(ids))
        tags = [["tenth"] if number % round(1 / SHARE) == 0 else [] for number in numbers]
        target.concepts.add(
            [{"name": f"{number:08}", "tags": tag} for number, tag in zip(numbers, tags, strict=True)], vectors
        )
        parts.append(vectors)
        done += len(ids)
    return np.concatenate(parts)


def _batches(source: vs.Store, kind: str, size: int = 5000) -> Iterator[list[str]]:
    ids: list[str] = []
    for record in source.collection(kind).stream():
        ids.append(record.id)
        if len(ids) == size:
            yield ids
            ids = []
    if ids:
        yield ids


def queries_near(vectors: Matrix, count: int, seed: int = 7) -> Matrix:
    """(count, d) rows of the vectors with noise of half their length."""
    random = np.random.default_rng(seed)
    rows = vectors[random.integers(0, len(vectors), count)]
    noise = random.standard_normal(rows.shape)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    near: Matrix = (rows + NOISE * np.linalg.norm(rows, axis=1, keepdims=True) * noise).astype(np.float32)
    return near


def measure(store: vs.Store, recipe: str, queries: Matrix) -> Measured:
    """How a recipe does over the store's concepts."""
    report = store.rebuild("concepts", HERE / f"{recipe}.toml")
    store.concepts.search(queries[0], K)
    recall, milliseconds, hits = _ask(store, queries, None)
    filtered_recall, filtered_milliseconds, _ = _ask(store, queries, {"tags__has": "tenth"})
    return Measured(
        recipe,
        report.seconds,
        report.after.bytes,
        hits.recall_promised,
        recall,
        milliseconds,
        filtered_recall,
        filtered_milliseconds,
        hits.plan.name,
    )


def _ask(store: vs.Store, queries: Matrix, where: dict[str, str] | None) -> tuple[float, float, vs.Hits[vs.Concept]]:
    """(recall, median milliseconds, the last answer)."""
    seconds, shares = [], []
    for query in queries:
        started = time.perf_counter()
        hits = store.concepts.search(query, K, where)
        seconds.append(time.perf_counter() - started)
        expected = store.concepts.search(query, K, where, exact=True)
        shares.append(len(set(hits.ids) & set(expected.ids)) / max(1, len(expected)))
    return float(np.mean(shares)), float(np.median(seconds)) * 1000, hits


def as_table(rows: Sequence[Measured], vectors: Matrix, name: str, queries: int) -> str:
    """The table for the README, and under which conditions it holds."""
    count, dim = vectors.shape
    lines = [
        "| recipe | promised | recall@10 | ms/query | with a 10 % filter: recall@10 | ms/query | bytes/vector "
        "| build s | plan |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| [{row.recipe}]({row.recipe}.toml) | {row.promised:.4f} | {row.recall:.4f} | {row.milliseconds:.2f} | "
        f"{row.filtered_recall:.4f} | {row.filtered_milliseconds:.2f} | {row.size / count:,.0f} | {row.build:.1f} | "
        f"{row.plan} |"
        for row in rows
    ]
    lines += [
        "",
        f"{count:,} vectors of {dim} dimensions ({name}), {queries} queries one after another, `recall=0.99`, k = {K};"
        f" {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}. Times are of whole searches, records included;"
        " build is the building and the measuring of the curve.",
    ]
    return "\n".join(lines)


def with_table(readme: str, table: str) -> str:
    """The README with the table between its markers."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, metavar="STORE", help="the store's folder; it is only read")
    parser.add_argument("kind", metavar="KIND", help="whose vectors: concepts, ...")
    parser.add_argument("--queries", type=int, default=300, help="how many searches a recipe answers")
    parser.add_argument("--data", default="", metavar="NAME", help="what the data is, for the table")
    parser.add_argument("--dry-run", action="store_true", help="print the table, leave README.md alone")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, vs.open(given.store, create=False, read_only=True) as source:
        metric = source.collection(given.kind).metric
        with vs.open(Path(folder) / "kb", embedder=None, metric=metric, auto_publish=False) as scratch:
            vectors = copy(source, given.kind, scratch)
            queries = queries_near(vectors, given.queries)
            rows = []
            for recipe in RECIPES:
                try:
                    rows.append(measure(scratch, recipe, queries))
                except vs.DerivedError as error:
                    print(f"{recipe}: left out: {error}", file=sys.stderr)
    table = as_table(rows, vectors, given.data or f"{given.store.name}, {given.kind}", given.queries)
    print(table)
    if not given.dry_run:
        README.write_text(with_table(README.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
