"""Make tests/data/chroma: a folder of Chroma's PersistentClient, zipped, and what Chroma itself says of it.

    .venv-peers/bin/python benchmarks/make_chroma.py OUT

Run it where chromadb is (`make bench-peers` installs it); nothing else of the project is needed. One collection has an
index on the disk and a queue beside it, with deletions and changes; one has only a queue; one is empty.
"""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import chromadb  # type: ignore[import-not-found, unused-ignore]
import numpy as np

BIRDS = ["robin", "sparrow", "wren", "jay", "crow", "rook", "kite", "owl", "swan", "duck"]


def fill(folder: Path) -> Any:
    client = chromadb.PersistentClient(str(folder))
    random = np.random.default_rng(1)
    birds = client.create_collection("birds", metadata={"hnsw:space": "cosine", "hnsw:sync_threshold": 40})
    vectors = random.standard_normal((90, 6)).astype(np.float32)
    for start in range(0, 90, 30):
        rows = range(start, start + 30)
        birds.add(
            ids=[f"b{n}" for n in rows],
            embeddings=vectors[start : start + 30],
            documents=[f"a {BIRDS[n % 10]}, the {n}th" for n in rows],
            metadatas=[{"n": n, "share": n / 3, "rare": n % 7 == 0, "name": BIRDS[n % 10]} for n in rows],
        )
    birds.delete(ids=["b3", "b7", "b88"])
    birds.update(ids=["b5", "b85"], embeddings=[[9, 0, 0, 0, 0, 1], [0, 9, 0, 0, 0, 1]], documents=["changed", "also"])
    plain = client.create_collection("plain", metadata={"hnsw:space": "l2"})
    plain.add(ids=["é/1", "x" * 300, "bare"], embeddings=[[1, 2], [3, 4], [5, 6]], metadatas=[{"a": 1}, {"a": 2}, None])
    client.create_collection("empty")
    return client


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "chroma"
        client = fill(folder)
        said = {}
        for name in ("birds", "plain"):
            found = client.get_collection(name).get(include=["embeddings", "documents", "metadatas"])
            parts = (found["ids"], found["documents"], found["metadatas"], found["embeddings"].tolist())
            said[name] = [
                dict(zip(("id", "document", "metadata", "vector"), row, strict=True))
                for row in zip(*parts, strict=True)
            ]
        out.mkdir(parents=True, exist_ok=True)
        (out / "expected.json").write_text(json.dumps({"chromadb": chromadb.__version__, "collections": said}))
        with zipfile.ZipFile(out / "folder.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
            for file in sorted(folder.rglob("*")):
                if file.is_file():
                    packed.write(file, file.relative_to(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
