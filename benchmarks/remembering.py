r"""Memories measured: recall by salience beside plain search and brute force, uses, paths through causes.

    python benchmarks/remembering.py [--data FOLDER] [--memories 100000] [--edges 100000] [--work FOLDER]

`FOLDER` is that of `lifecycle.py`; without it the packaged sample is embedded. Importances are even over 0..1, ages
since the last use exponential with a mean of 30 days. Stores in `--work` are kept, and found there by the next run.
Writes `results/remembering.json` and `remembering.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks.dataset import load_source, note  # noqa: E402
from benchmarks.timing import interleave, milliseconds  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
K = 10
SALIENCES = {
    "default (1, 0.25, 0.25)": vs.Salience(),
    "similarity alone (1, 0, 0)": vs.Salience(importance=0, recency=0),
    "all alike (1, 1, 1)": vs.Salience(importance=1, recency=1),
    "recency most (0.2, 0, 1)": vs.Salience(similarity=0.2, importance=0, recency=1),
}
Matrix = npt.NDArray[np.float32]


def facts_of(count: int) -> dict[str, npt.NDArray[Any]]:
    """Importance, age in days and tier by memory."""
    random = np.random.default_rng(0)
    importance, age = random.uniform(0, 1, count).round(3), random.exponential(30.0, count)
    return {"importance": importance, "age": age, "tier": random.integers(1, 13, count)}


def fill(store: vs.Store, base: Matrix, facts: dict[str, npt.NDArray[Any]]) -> dict[str, float]:
    """Seconds to add the memories, and to index them."""
    columns = {
        "id": [f"m{n}" for n in range(len(base))],
        "content": [f"memory {n}" for n in range(len(base))],
        "tier": facts["tier"].tolist(),
        "importance": facts["importance"].tolist(),
        "last_accessed": [NOW - timedelta(days=days) for days in facts["age"].tolist()],
    }
    begun = time.perf_counter()
    store.memories.add(columns, vectors=base)
    added = time.perf_counter()
    store.rebuild("memories")
    return {"add_s": added - begun, "index_s": time.perf_counter() - added}


def truth(base: Matrix, queries: Matrix, facts: dict[str, Any], salience: vs.Salience) -> list[list[str]]:
    """The best K by the formula over all memories, in float64."""
    wide = base.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    half = salience.half_life / timedelta(days=1)
    worth = salience.importance * facts["importance"] + salience.recency * 0.5 ** (facts["age"] / half)
    best = []
    for query in queries.astype(np.float64):
        scores = salience.similarity * (wide @ query) / np.linalg.norm(query) + worth
        best.append([f"m{n}" for n in np.argsort(-scores, kind="stable")[:K]])
    return best


def share(found: list[Any], expected: list[list[str]]) -> float:
    """recall@K."""
    return float(np.mean([len({*hits.ids} & {*best}) / K for hits, best in zip(found, expected, strict=False)]))


def recall(base: Matrix, queries: Matrix, folder: Path) -> dict[str, Any]:
    with vs.open(folder / "recall", embedder=None, auto_publish=False, clock=lambda: NOW) as store:
        facts = facts_of(len(base))
        result: dict[str, Any] = {"memories": len(base), "dim": base.shape[1], "rows": {}}
        if not len(store.memories):
            result |= fill(store, base, facts)
        begun = time.perf_counter()
        store.memories.recall(queries[0], K)
        result["first_ms"] = (time.perf_counter() - begun) * 1e3
        asked: dict[str, Callable[[Matrix], Any]] = {
            "search, no salience": lambda query: store.memories.search(query, K)
        }
        for name, salience in SALIENCES.items():
            asked[name] = partial(_recalled, store, salience)
        asked["default, tier Semantic"] = lambda query: store.memories.recall(query, K, tier="semantic")
        asked["default, exact"] = lambda query: store.memories.recall(query, K, exact=True)
        timed, answers = interleave(asked, queries)
        for name in asked:
            row: dict[str, Any] = milliseconds(timed[name])
            found = answers[name]
            row["plan"] = found[-1].plan.name
            row["scanned"] = int(np.median([hits.scanned for hits in found]))
            if name in SALIENCES or name == "default, exact":
                weights = SALIENCES.get(name, vs.Salience())
                row["recall@10"] = share(found, truth(base, queries[: len(found)], facts, weights))
            result["rows"][name] = row
            print(name, row, flush=True)
        result["after_a_commit"] = after_commits(store, queries)
        print("after a commit", result["after_a_commit"], flush=True)
    return result


def _recalled(store: vs.Store, salience: vs.Salience, query: Matrix) -> Any:
    return store.memories.recall(query, K, salience=salience)


def after_commits(store: vs.Store, queries: Matrix) -> dict[str, float]:
    """A commit of ten uses, which were long ago so that nothing becomes more recent, and the recall after it."""
    recalls, touches = [], []
    for place, query in enumerate(queries[:100]):
        begun = time.perf_counter()
        store.memories.touch([f"m{place * 10 + n}" for n in range(10)], at=LONG_AGO)
        touches.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        store.memories.recall(query, K)
        recalls.append(time.perf_counter() - begun)
    return {"touch_p50_ms": milliseconds(touches)["p50_ms"], "recall_p50_ms": milliseconds(recalls)["p50_ms"]}


def paths(edges: int, folder: Path, asked: int = 50) -> dict[str, Any]:
    """Simple paths to depth 4 in graphs of that many edges: sparse, dense, and with hubs."""
    result: dict[str, Any] = {"edges": edges, "depth": 4, "graphs": {}}
    shapes = (("5 edges a memory", edges // 5, 0.0), ("50 a memory", edges // 50, 0.0), ("hubs", edges // 5, 0.6))
    for name, nodes, skew in shapes:
        random = np.random.default_rng(1)
        odds = np.arange(1, nodes + 1, dtype=np.float64) ** -skew
        odds /= odds.sum()
        pairs: dict[tuple[int, int], None] = {}
        while len(pairs) < edges:
            sources, targets = random.choice(nodes, edges, p=odds), random.choice(nodes, edges, p=odds)
            pairs.update(((int(a), int(b)), None) for a, b in zip(sources, targets, strict=True) if a != b)
        rows = list(pairs)[:edges]
        weights = random.uniform(0, 1, len(rows)).round(3).tolist()
        with vs.open(folder / name.replace(" ", "-"), embedder=None, auto_publish=False) as store:
            row: dict[str, Any] = {"memories": nodes}
            if not len(store.causes):
                ids = [f"m{n}" for n in range(nodes)]
                store.memories.add({"id": ids, "content": ids})
                ends = {"source": [f"m{a}" for a, _ in rows], "target": [f"m{b}" for _, b in rows]}
                begun = time.perf_counter()
                store.causes.add({**ends, "weight": weights})
                row["add_s"] = time.perf_counter() - begun
            seconds, counts, cut = [], [], 0
            for source, target in random.integers(0, nodes, (asked, 2)).tolist():
                begun = time.perf_counter()
                found = store.memories.paths(f"m{source}", f"m{target}", depth=4)
                seconds.append(time.perf_counter() - begun)
                counts.append(len(found))
                cut += not found.complete
            everywhere = []
            for source in random.integers(0, nodes, 10).tolist():
                begun = time.perf_counter()
                every = store.memories.paths(f"m{source}", depth=4)
                everywhere.append(time.perf_counter() - begun)
            row |= {
                **milliseconds(seconds),
                "max_ms": max(seconds) * 1e3,
                "paths_median": float(np.median(counts)),
                "paths_most": max(counts),
                "cut_at_limit": cut,
                "anywhere_p50_ms": milliseconds(everywhere)["p50_ms"],
                "anywhere_max_ms": max(everywhere) * 1e3,
                "anywhere_paths": len(every),
            }
        result["graphs"][name] = row
        print(name, row, flush=True)
    return result


def table(results: dict[str, Any]) -> str:
    lines = ["# Memories", "", f"{results['machine']}; vectorstore {results['vectorstore']}.", ""]
    if "recall" in results:
        found = results["recall"]
        lines += [
            f"## recall() of {found['memories']:,} memories of {found['dim']} dimensions, k = 10, default index",
            "",
            "Weights are those of similarity, importance, recency. recall@10 is against brute force of the same "
            "formula over all memories, in float64.",
            "",
            "| what | p50 ms | p95 ms | recall@10 | scanned | plan |",
            "|---|---:|---:|---:|---:|---|",
        ]
        for name, row in found["rows"].items():
            share_of = f"{row['recall@10']:.4f}" if "recall@10" in row else ""
            figures = f"{row['p50_ms']:.2f} | {row['p95_ms']:.2f} | {share_of} | {row['scanned']:,} | {row['plan']}"
            lines.append(f"| {name} | {figures} |")
        after = found["after_a_commit"]
        lines += [
            "",
            f"Added in {found['add_s']:.1f} s, indexed in {found['index_s']:.1f} s; the first recall, which reads all "
            f"memories' figures, {found['first_ms']:.0f} ms. A commit that notes ten uses {after['touch_p50_ms']:.2f} "
            f"ms (median), the recall right after it {after['recall_p50_ms']:.2f} ms.",
            "",
        ]
    if "paths" in results:
        found = results["paths"]
        lines += [
            f"## paths() to depth {found['depth']} through {found['edges']:,} causes, at most 10,000 paths",
            "",
            "| graph | memories | one to another: p50 ms | max ms | paths: median, most | to any: p50 ms | max ms |",
            "|---|---:|---:|---:|---:|---:|---:|",
        ]
        for name, row in found["graphs"].items():
            lines.append(
                f"| {name} | {row['memories']:,} | {row['p50_ms']:.1f} | {row['max_ms']:.0f} | "
                f"{row['paths_median']:g}, {row['paths_most']:,} | {row['anywhere_p50_ms']:.0f} | "
                f"{row['anywhere_max_ms']:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--edges", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    path = options.out / "remembering.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    cores = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    results |= {"machine": cores, "vectorstore": vs.__version__}
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.memories:
            source = load_source(options.data, None, options.queries, options.memories, note)
            base = np.asarray(source.base[: options.memories], dtype=np.float32)
            kept = results.get("recall", {})
            results["recall"] = kept | {"data": source.name} | recall(base, source.queries, folder)
        if options.edges:
            results["paths"] = paths(options.edges, folder)
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "remembering.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
