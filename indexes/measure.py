"""Build every recipe of this folder over some vectors, and write the tables of README.md.

    python indexes/measure.py demo-kb --kind concepts
    python indexes/measure.py wordnet-minilm-384.base.f16.npy --held-out wordnet-minilm-384.queries.npz
    python indexes/measure.py glove_6B_50d_emb.npy --rows 200000 --scratch /tmp/glove --recipes hnsw32

The vectors are a store's, which is only read, or the rows of a `.npy` file; they are copied into a scratch store. Each
recipe answers the same queries: first one after another on one thread, then all of them from one and from two threads.
Recall is counted against the exact answer. The queries are those of `--held-out`; or rows beyond the first `--rows`,
where there are any; or else rows with noise.

What was measured is kept in `measured.json`, one entry a data set, after each recipe, and the README shows all of them.
A recipe that is there already is left alone (`--again` measures it anew), so a run can be broken off and taken up, and
with `--scratch` the copy is made once.
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
    load: float


def copy(vectors: Matrix, target: vs.Store, size: int = 200_000) -> None:
    """The vectors as concepts of the target, unless they are there; every tenth of them is tagged."""
    if len(target.concepts) == len(vectors):
        return
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


def beyond(rows: Matrix, first: int, count: int, seed: int = 7) -> Matrix:
    """(count, d) rows that come after the first ones."""
    chosen = np.random.default_rng(seed).choice(np.arange(first, len(rows)), count, replace=False)
    return np.ascontiguousarray(rows[np.sort(chosen)], np.float32)


def measure(store: vs.Store, recipe: str, queries: Matrix, exact: Mapping[str, Sequence[frozenset[str]]]) -> Measured:
    """How a recipe does over the store's concepts; see `answers` for the exact ones."""
    report = store.rebuild("concepts", HERE / f"{recipe}.toml")
    store.concepts.search(queries[0], K)
    load = os.getloadavg()[0]
    recall, milliseconds, hits = _ask(store, queries, None, exact["all"])
    filtered_recall, filtered_milliseconds, _ = _ask(store, queries, {"tags__has": "tenth"}, exact["tenth"])
    return Measured(
        recipe,
        round(report.seconds, 2),
        round(report.after.bytes / len(store.concepts), 1),
        hits.recall_promised,
        round(recall, 5),
        round(milliseconds, 4),
        round(_rate(store, queries, 1), 1),
        round(_rate(store, queries, 2), 1),
        round(filtered_recall, 5),
        round(filtered_milliseconds, 4),
        hits.plan.name,
        round(load, 1),
    )


def answers(store: vs.Store, queries: Matrix) -> dict[str, list[frozenset[str]]]:
    """The ids of the K nearest to each query, of all concepts and of the tagged tenth."""
    wanted = {"all": None, "tenth": {"tags__has": "tenth"}}
    return {
        name: [frozenset(hits.ids) for hits in store.concepts.search_many(queries, K, where, exact=True)]
        for name, where in wanted.items()
    }


def _rate(store: vs.Store, queries: Matrix, threads: int) -> float:
    """Searches a second when so many threads search at the same time."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda query: store.concepts.search(query, K), queries[:8]))
        started = time.perf_counter()
        list(pool.map(lambda query: store.concepts.search(query, K), queries))
        return len(queries) / (time.perf_counter() - started)


def _ask(
    store: vs.Store, queries: Matrix, where: dict[str, str] | None, exact: Sequence[frozenset[str]]
) -> tuple[float, float, vs.Hits[vs.Concept]]:
    """(recall, median milliseconds, the last answer)."""
    seconds, shares = [], []
    store.concepts.search(queries[0], K, where)
    for query, expected in zip(queries, exact, strict=True):
        started = time.perf_counter()
        hits = store.concepts.search(query, K, where)
        seconds.append(time.perf_counter() - started)
        shares.append(len(expected.intersection(hits.ids)) / max(1, len(expected)))
    return float(np.mean(shares)), float(np.median(seconds)) * 1000, hits


def as_table(entry: Mapping[str, Any]) -> str:
    """The table of one data set for the README, and under which conditions it holds."""
    lines = [
        f"**{entry['name']}**: {entry['rows']:,} vectors of {entry['dim']} dimensions, {entry['queries']} queries "
        f"({entry['kind_of_queries']}), `recall=0.99`, k = {K}; {entry['conditions']}, load at most "
        f"{max((row['load'] for row in entry['recipes']), default=0.0):.1f}.",
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
    return f"{os.cpu_count()} processors, {platform.machine()}"


def read(given: argparse.Namespace) -> tuple[Matrix, Matrix, str, str]:
    """(vectors, queries, which queries they are, metric)."""
    metric = "cosine"
    if given.source.suffix == ".npy":
        rows = np.load(given.source, mmap_mode="r")
    else:
        with vs.open(given.source, create=False, read_only=True) as source:
            metric = source.collection(given.kind).metric
            rows = vectors_of(source, given.kind)
    vectors = np.ascontiguousarray(rows[: given.rows], np.float32)
    if given.held_out is not None:
        with np.load(given.held_out) as archive:
            return vectors, archive["queries"][: given.queries].astype(np.float32), "held out", metric
    if len(rows) >= len(vectors) + given.queries:
        return vectors, beyond(rows, len(vectors), given.queries), "other rows", metric
    return vectors, queries_near(vectors, given.queries), "rows with noise of half their length", metric


def keep(entry: Mapping[str, Any]) -> None:
    """Write an entry to `measured.json`, and the README's tables anew."""
    kept = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    kept[entry["name"]] = entry
    MEASURED.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    table = "\n\n".join(as_table(found) for found in kept.values())
    README.write_text(with_table(README.read_text(encoding="utf-8"), table), encoding="utf-8")


def taken_up(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry with the recipes that were measured before, over the same number of rows and with the same queries."""
    kept = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    before = kept.get(entry["name"], {})
    same = all(before.get(key) == entry[key] for key in ("rows", "dim", "queries", "kind_of_queries", "conditions"))
    return {**entry, "recipes": before["recipes"]} if same else entry


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a store's folder, or a .npy file of vectors")
    parser.add_argument("--kind", default="concepts", help="whose vectors, when the source is a store")
    parser.add_argument("--held-out", type=Path, metavar="NPZ", help="a file with `queries` that are no rows")
    parser.add_argument("--rows", type=int, help="only so many of the vectors")
    parser.add_argument("--queries", type=int, default=300, help="how many searches a recipe answers")
    parser.add_argument("--name", default="", help="what the data is, for the table")
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES), metavar="RECIPE", help="only these")
    parser.add_argument("--scratch", type=Path, metavar="FOLDER", help="where the copy is made, and kept")
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")
    parser.add_argument("--dry-run", action="store_true", help="measure everything, print the table, write nothing")
    given = parser.parse_args(arguments)
    vectors, queries, kind, metric = read(given)
    entry: dict[str, Any] = {
        "name": given.name or f"{given.source.name}, {given.kind}",
        "rows": len(vectors),
        "dim": vectors.shape[1],
        "queries": len(queries),
        "kind_of_queries": kind,
        "conditions": conditions(),
        "recipes": [],
    }
    if not given.dry_run:
        entry = taken_up(entry)
    done = {row["recipe"] for row in entry["recipes"]} if not given.again else set()
    with (
        tempfile.TemporaryDirectory() as folder,
        vs.open(given.scratch or Path(folder) / "kb", embedder=None, metric=metric, auto_publish=False) as scratch,
    ):
        copy(vectors, scratch)
        exact = answers(scratch, queries)
        for recipe in [recipe for recipe in given.recipes if recipe not in done]:
            try:
                row = dataclasses.asdict(measure(scratch, recipe, queries, exact))
            except vs.DerivedError as error:
                print(f"{recipe}: left out: {error}", file=sys.stderr)
                continue
            print(row, file=sys.stderr)
            rows = {**{old["recipe"]: old for old in entry["recipes"]}, recipe: row}
            entry = {**entry, "recipes": [rows[name] for name in RECIPES if name in rows]}
            if not given.dry_run:
                keep(entry)
    print(as_table(entry))
    return 0


if __name__ == "__main__":
    sys.exit(main())
