"""Retrieval quality on judged sets: dense, text by each tokenizer, hybrid, and re-ranked.

    python benchmarks/retrieval.py tests/data/scifact FOLDER... [--rerank titles | --rerank MODEL]

Each folder has the layout of BEIR (`benchmarks/beir.py`). Texts are embedded by all-MiniLM-L6-v2 in float32 and the
vectors are kept in `--cache`; a folder with a `vectors.npz` brings its own. `--rerank titles` puts the best 100 of
each list in order again by the same model's vectors of texts and titles; another value names a cross-encoder. Writes
`results/retrieval.json` and `retrieval.md`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sqlite3
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks import beir  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
TOKENIZERS = ("unicode61", "porter", "trigram")


def measure(folder: Path, split: str, cache: Path, rerank: str | None = None) -> dict[str, Any]:
    """Every method's measures on one set, each with the bounds of its mean."""
    judged = beir.load(folder, split)
    own, embedder = folder / "vectors.npz", vs.SentenceEmbedder(precision="float32")
    embedded = beir.shipped(own) if own.exists() else beir.embedded(judged, cache, embedder)
    reranker: Any = None
    if rerank == "titles":
        reranker = beir.Titles(judged, *embedded, cache, embedder)
    elif rerank:
        reranker = vs.CrossEncoder(rerank)
    rows: list[dict[str, Any]] = []
    for tokenizer in TOKENIZERS:
        with beir.fill(":memory:", judged, *embedded, tokenizer) as store:
            store.rebuild("documents")
            for name, options in asked(reranker).items():
                chosen = options(tokenizer)
                if chosen is None or (tokenizer == "trigram" and "rerank" in chosen):
                    continue
                shown = tokenizer if name.startswith(("text", "hybrid")) else ""
                found = beir.by_query(judged, beir.ask(store, judged, **chosen))
                means = {key: round(float(values.mean()), 4) for key, values in found.items()}
                bounds = {key: beir.interval(values) for key, values in found.items()}
                rows.append({"method": name, "tokenizer": shown, **means, "bounds": bounds})
                print(judged.name, name, shown, means, flush=True)
    return {"documents": len(judged.documents), "queries": len(judged.queries), "split": split, "rows": rows}


def asked(reranker: Any) -> dict[str, Any]:
    """`beir.methods`, and with a re-ranker three of them re-ranked."""
    methods = beir.methods()
    if reranker is None:
        return methods
    again = {"rerank": reranker, "rerank_depth": beir.DEPTH}

    def with_it(options: Any) -> Any:
        return lambda tokenizer: None if (found := options(tokenizer)) is None else {**found, **again}

    chosen = ("dense, exact", "text", "hybrid, weighted")
    return methods | {f"{name}, re-ranked": with_it(methods[name]) for name in chosen}


def table(results: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# Retrieval quality on judged sets",
        "",
        f"{results['model']}, {results['machine']}; measured by ir-measures {results['versions']['ir-measures']}, "
        f"SQLite {results['versions']['sqlite']}, vectorstore {results['versions']['vectorstore']}.",
        "Hybrid is exact on its vector side. `rrf` and `weighted` with their defaults (`vs.Fusion`): nothing was tuned "
        "on these queries. In brackets where the mean lies with 95 %, by 2,000 resamplings of the queries."
        + _how(results.get("rerank")),
    ]
    for name, found in results["sets"].items():
        lines += [
            "",
            f"## {name}: {found['documents']:,} documents, {found['queries']:,} queries ({found['split']})",
            "",
            "| search | tokenizer | nDCG@10 | MAP@100 | Recall@100 | MRR@10 |",
            "|---|---|---:|---:|---:|---:|",
        ]
        for row in found["rows"]:
            figures = " | ".join(_cell(row, key) for key in ("nDCG@10", "AP@100", "R@100", "RR@10"))
            lines.append(f"| {row['method']} | {row['tokenizer']} | {figures} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any], key: str) -> str:
    low, high = row["bounds"][key]
    return f"{row[key]:.4f} ({low:.3f}–{high:.3f})"


def _how(rerank: str | None) -> str:
    if rerank == "titles":
        return " Re-ranked: the best 100, by the same model's cosine to the whole text plus that to its title."
    return f" Re-ranked: the best 100, by {rerank}." if rerank else ""


def main(arguments: list[str] | None = None) -> None:
    """Measure every folder that was named, and write the results."""
    parser = argparse.ArgumentParser(description="Measure retrieval quality on judged sets in BEIR's layout.")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--split", default="test", help="which judgements (default: test)")
    parser.add_argument("--rerank", help="`titles`, or a cross-encoder's name or folder")
    parser.add_argument("--out", type=Path, default=RESULTS)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=home / "vectorstore" / "benchmarks")
    options = parser.parse_args(arguments)
    results = {
        "model": "all-MiniLM-L6-v2",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "versions": {
            "vectorstore": vs.__version__,
            "sqlite": sqlite3.sqlite_version,
            **{name: importlib.metadata.version(name) for name in ("ir-measures", "sentence-transformers", "torch")},
        },
        "rerank": options.rerank,
        "sets": {
            folder.name: measure(folder, options.split, options.cache, options.rerank) for folder in options.folders
        },
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "retrieval.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "retrieval.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
