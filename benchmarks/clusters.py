"""Clustering: every recipe against known labels, its stability over seeds, and its time beside raw FAISS.

    python benchmarks/clusters.py banking77.jsonl.gz trec_questions.jsonl.gz --vectors wordnet-minilm-384.base.f16.npy

A data set is JSON lines with `text`, `label` and perhaps `fine_label`; its texts are embedded by all-MiniLM-L6-v2 in
float32, and the vectors are kept in `--cache`. Each recipe is given the true number of clusters, three seeds, and one
thread. Records that HDBSCAN leaves out count as one cluster of their own. Writes `results/clusters.json` and
`clusters.md`, and the table of `models/README.md`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks.dataset import Matrix  # noqa: E402
from vectorstore import clusters as engine  # noqa: E402
from vectorstore.clusters.recipes import BUILTIN_CLUSTER_RECIPES  # noqa: E402
from vectorstore.vectors.native import kmeans  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
README = ROOT / "models" / "README.md"
BEGIN, END = "<!-- clusters: begin -->", "<!-- clusters: end -->"
SEEDS = (0, 1, 2)
CLUSTERS = 256


def embedded(path: Path, cache: Path) -> tuple[Matrix, dict[str, list[str]]]:
    """(vectors, labels by name) of a data set."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = [row["text"] for row in rows]
    names = [name for name in ("label", "fine_label") if name in rows[0]]
    kept = cache / f"clusters-{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}.npy"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(kept, vs.SentenceEmbedder(precision="float32").embed(texts))
    return np.load(kept), {name: [row[name] for row in rows] for name in names}


def measure(vectors: Matrix, truth: list[str]) -> list[dict[str, Any]]:
    """Every recipe on one set of labels: means over the seeds."""
    rows = engine.prepared(vectors, "cosine")
    number = len(set(truth))
    found = []
    for name, recipe in BUILTIN_CLUSTER_RECIPES.items():
        fits = [engine.fit(rows, recipe, None if name == "hdbscan" else number, seed) for seed in SEEDS]
        scores = [engine.against(truth, fit.labels) for fit in fits]
        figures = {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}
        noise = float(np.mean([np.mean(fit.labels == engine.NOISE) for fit in fits]))
        counts = float(np.mean([len(fit.rule.numbers) for fit in fits]))
        seconds = float(np.median([fit.seconds for fit in fits]))
        stability = engine.stability([fit.labels for fit in fits])
        entry = {"recipe": name, **figures, "stability": stability, "clusters": counts, "noise": noise}
        found.append({**entry, "seconds": seconds})
        print(found[-1], flush=True)
    return found


def beside_faiss(vectors: Matrix, turns: int) -> dict[str, Any]:
    """Seconds of the recipe kmeans: raw FAISS, the engine, and a whole `fit` in a store; in turns."""
    rows = engine.prepared(vectors, "cosine")
    recipe = BUILTIN_CLUSTER_RECIPES["kmeans"]
    iterations, restarts = recipe.option("iterations"), recipe.option("restarts")
    seconds: dict[str, list[float]] = {"raw FAISS": [], "engine": [], "store": []}
    with tempfile.TemporaryDirectory() as folder, vs.open(Path(folder) / "kb", embedder=None) as store:
        for start in range(0, len(vectors), 20_000):
            part = vectors[start : start + 20_000]
            store.concepts.add([{"name": f"{start + at:08}"} for at in range(len(part))], vectors=part)
        work: dict[str, Callable[[], Any]] = {
            "raw FAISS": lambda: kmeans(rows, CLUSTERS, iterations=iterations, restarts=restarts, seed=0),
            "engine": lambda: engine.fit(rows, recipe, CLUSTERS, 0),
            "store": lambda: store.clusters.fit("concepts", recipe, CLUSTERS),
        }
        for _ in range(turns):
            for name, act in work.items():
                begun = time.perf_counter()
                act()
                seconds[name].append(time.perf_counter() - begun)
    best = {name: min(found) for name, found in seconds.items()}
    size = {"rows": len(rows), "dim": rows.shape[1], "clusters": CLUSTERS}
    return {**size, "iterations": iterations, "restarts": restarts, "seconds": best}


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    versions = results["versions"]
    lines = [
        "# Clustering",
        "",
        f"{results['model']}, {results['machine']}, one thread; scikit-learn {versions['scikit-learn']}, "
        f"FAISS {versions['faiss-cpu']}, vectorstore {versions['vectorstore']}. The true number of clusters is given; "
        f"means over seeds {', '.join(map(str, SEEDS))}; stability is the mean adjusted Rand index between them.",
    ]
    for name, found in results["sets"].items():
        lines += ["", f"## {name}: {found['rows']:,} texts, {found['clusters']} labels", "", *quality_table(found)]
    if "time" in results:
        lines += ["", *time_lines(results["time"])]
    return "\n".join(lines) + "\n"


def quality_table(found: dict[str, Any]) -> list[str]:
    lines = [
        "| recipe | NMI | ARI | purity | stability | clusters | noise | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found["recipes"]:
        lines.append(
            f"| {row['recipe']} | {row['nmi']:.3f} | {row['ari']:.3f} | {row['purity']:.3f} | {row['stability']:.3f} "
            f"| {row['clusters']:.0f} | {row['noise']:.0%} | {row['seconds']:.2f} |"
        )
    return lines


def time_lines(found: dict[str, Any]) -> list[str]:
    raw = found["seconds"]["raw FAISS"]
    lines = [
        f"## The recipe kmeans: {found['rows']:,} x {found['dim']}, {found['clusters']} clusters, "
        f"{found['restarts']} starts of {found['iterations']} iterations, one thread",
        "",
        "| | seconds | of raw FAISS |",
        "|---|---:|---:|",
    ]
    return lines + [f"| {name} | {value:.2f} | {value / raw:.2f} |" for name, value in found["seconds"].items()]


def write_readme(results: dict[str, Any]) -> None:
    """The table of `models/README.md`, between its marks."""
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    _, tail = rest.split(END)
    names = list(results["sets"])
    lines = [
        "| recipe | when to use it | " + " | ".join(f"{name}: NMI, ARI, stability" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for place, (name, recipe) in enumerate(BUILTIN_CLUSTER_RECIPES.items()):
        rows = [results["sets"][each]["recipes"][place] for each in names]
        figures = " | ".join(f"{row['nmi']:.3f}, {row['ari']:.3f}, {row['stability']:.2f}" for row in rows)
        lines.append(f"| [{name}](cluster/{name}.toml) | {recipe.when} | {figures} |")
    README.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Measure every data set that was named, and write the results."""
    parser = argparse.ArgumentParser(description="Measure clustering recipes against known labels.")
    parser.add_argument("sets", type=Path, nargs="*")
    parser.add_argument("--vectors", type=Path, help="a .npy of vectors, for the time beside raw FAISS")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--readme", action="store_true", help="write the table of models/README.md as well")
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=home / "vectorstore" / "benchmarks")
    options = parser.parse_args(arguments)
    kept = options.out / "clusters.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    results: dict[str, Any] = {
        "model": "all-MiniLM-L6-v2",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {
            "vectorstore": vs.__version__,
            **{name: importlib.metadata.version(name) for name in ("scikit-learn", "faiss-cpu", "numpy")},
        },
        "sets": before.get("sets", {}),
        **({"time": before["time"]} if "time" in before else {}),
    }
    for path in options.sets:
        vectors, labels = embedded(path, options.cache)
        for name, truth in labels.items():
            title = path.name.removesuffix(".jsonl.gz") + ("" if len(labels) == 1 else f", {name.replace('_', ' ')}s")
            entry = {"rows": len(truth), "clusters": len(set(truth)), "recipes": measure(vectors, truth)}
            results["sets"][title] = entry
    if options.vectors is not None:
        results["time"] = beside_faiss(np.load(options.vectors).astype(np.float32), options.turns)
    options.out.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "clusters.md").write_text(table(results), encoding="utf-8")
    if options.readme:
        write_readme(results)
    print(table(results))


if __name__ == "__main__":
    main()
