"""Build every recipe of this folder over some vectors, and write the tables of README.md.

    python indexes/measure.py demo-kb --kind concepts
    python indexes/measure.py wordnet-minilm-384.base.f16.npy --held-out wordnet-minilm-384.queries.npz

The vectors are a store's, which is only read, or the rows of a `.npy` file; they are copied into a scratch store. Each
recipe answers the same queries: first one after another on one thread, then all of them from one and from two threads.
Recall is counted against the exact answer. What was measured is kept in `measured.json`, one entry a data set, and the
README shows all of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import vectorstore as vs

HERE = Path(__file__).parent
README = HERE / "README.md"
MEASURED = HERE / "measured.json"
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
    """How one recipe did; recalls are of `K`, milliseconds medians, rates searches a second."""

    recipe: str
    build: float
    size: float
    promised: float
    recall: float
    milliseconds: float
    rate_one: float
    rate_two: float
    filtered_recall: float
    filtered_milliseconds: float
    plan: str


def copy(vectors: Matrix, target: vs.Store, size: int = 20_000) -> None:
    """The vectors as concepts of the target; every tenth of those is tagged."""
    for start in range(0, len(vectors), size):
        part = vectors[start : start + size]
        numbers = range(start, start + len(part))
        tags = [["tenth"] if number % round(1 / SHARE) == 0 else [] for number in numbers]
        target.concepts.add(
            [{"name": f"{number:08}", "tags": tag} for number, tag in zip(numbers, tags, strict=True)], part
        )


def vectors_of(source: vs.Store, kind: str) -> Matrix:
    """(n, d) the vectors of a kind, in order of arrival."""
    return np.concatenate([source.collection(kind).vectors(ids) for ids in _batches(source, kind)])


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
        round(report.seconds, 2),
        report.after.bytes / len(store.concepts),
        hits.recall_promised,
        recall,
        milliseconds,
        _rate(store, queries, 1),
        _rate(store, queries, 2),
        filtered_recall,
        filtered_milliseconds,
        hits.plan.name,
    )


def _rate(store: vs.Store, queries: Matrix, threads: int) -> float:
    """Searches a second when so many threads search at the same time."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda query: store.concepts.search(query, K), queries[:8]))
        started = time.perf_counter()
        list(pool.map(lambda query: store.concepts.search(query, K), queries))
        return len(queries) / (time.perf_counter() - started)


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


def as_table(entry: Mapping[str, Any]) -> str:
    """The table of one data set for the README, and under which conditions it holds."""
    lines = [
        f"**{entry['name']}**: {entry['rows']:,} vectors of {entry['dim']} dimensions, {entry['queries']} queries "
        f"({entry['kind_of_queries']}), `recall=0.99`, k = {K}; {entry['conditions']}.",
        "",
        "| recipe | promised | recall@10 | ms | per s, 1 thread | 2 threads | 10 % filter: recall@10 | ms "
        "| bytes/vector | build s | plan |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    lines += [
        f"| [{row['recipe']}]({row['recipe']}.toml) | {row['promised']:.4f} | {row['recall']:.4f} | "
        f"{row['milliseconds']:.2f} | {row['rate_one']:,.0f} | {row['rate_two']:,.0f} | "
        f"{row['filtered_recall']:.4f} | {row['filtered_milliseconds']:.2f} | {row['size']:,.0f} | "
        f"{row['build']:.1f} | {row['plan']} |"
        for row in entry["recipes"]
    ]
    return "\n".join(lines)


def with_table(readme: str, table: str) -> str:
    """The README with the table between its markers."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def conditions() -> str:
    """The machine, as far as the figures depend on it."""
    return f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, {platform.machine()}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a store's folder, or a .npy file of vectors")
    parser.add_argument("--kind", default="concepts", help="whose vectors, when the source is a store")
    parser.add_argument("--held-out", type=Path, metavar="NPZ", help="a file with `queries` that are no rows")
    parser.add_argument("--rows", type=int, help="only so many of the vectors")
    parser.add_argument("--queries", type=int, default=300, help="how many searches a recipe answers")
    parser.add_argument("--name", default="", help="what the data is, for the table")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), metavar="RECIPE", help="only these")
    parser.add_argument("--dry-run", action="store_true", help="print the table, write nothing")
    given = parser.parse_args(arguments)
    metric = "cosine"
    if given.source.suffix == ".npy":
        vectors = np.load(given.source, mmap_mode="r")[: given.rows].astype(np.float32)
    else:
        with vs.open(given.source, create=False, read_only=True) as source:
            metric = source.collection(given.kind).metric
            vectors = vectors_of(source, given.kind)[: given.rows]
    if given.held_out is None:
        queries, kind = queries_near(vectors, given.queries), "rows with noise of half their length"
    else:
        with np.load(given.held_out) as archive:
            queries, kind = archive["queries"][: given.queries].astype(np.float32), "held out"
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        vs.open(Path(folder) / "kb", embedder=None, metric=metric, auto_publish=False) as scratch,
    ):
        copy(vectors, scratch)
        for recipe in given.recipes:
            try:
                rows.append(dataclasses.asdict(measure(scratch, recipe, queries)))
                print(rows[-1], file=sys.stderr)
            except vs.DerivedError as error:
                print(f"{recipe}: left out: {error}", file=sys.stderr)
    name = given.name or f"{given.source.name}, {given.kind}"
    entry = {
        "name": name,
        "rows": len(vectors),
        "dim": vectors.shape[1],
        "queries": len(queries),
        "kind_of_queries": kind,
        "conditions": conditions(),
        "recipes": rows,
    }
    print(as_table(entry))
    if not given.dry_run:
        kept = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
        kept[name] = entry
        MEASURED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        table = "\n\n".join(as_table(found) for found in kept.values())
        README.write_text(with_table(README.read_text(encoding="utf-8"), table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
