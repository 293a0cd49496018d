"""The maker of the judged set that the retrieval tests use: SciFact in tests/data/scifact.

    python benchmarks/make_scifact.py FOLDER

`FOLDER` is SciFact in the layout of BEIR (corpus, queries, qrels/test.tsv). All documents are taken, and the 300 test
queries with their judgements; both are embedded by all-MiniLM-L6-v2 in float32 and kept as float16, which changes none
of the measures to four digits. The same folder and weights give the same bytes on the same processor.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks import beir  # noqa: E402

OUTPUT = ROOT / "tests" / "data" / "scifact"


def pack(text: str) -> bytes:
    """One gzip member, the same for the same text on every day and under every file name."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(text.encode())
    return packed.getvalue()


def main() -> None:
    """Write the set and say what is in it."""
    parser = argparse.ArgumentParser(description="Make the judged set of the retrieval tests from SciFact.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=home / "vectorstore" / "benchmarks")
    options = parser.parse_args()
    judged = beir.load(options.folder, "test")
    documents, queries = beir.embedded(judged, options.cache, vs.SentenceEmbedder(precision="float32"))

    (options.output / "qrels").mkdir(parents=True, exist_ok=True)
    corpus = "".join(
        json.dumps({"_id": row["id"], "title": row["title"], "text": row["text"]}, ensure_ascii=False) + "\n"
        for row in judged.documents
    )
    asked = "".join(
        json.dumps({"_id": name, "text": text}, ensure_ascii=False) + "\n" for name, text in judged.queries.items()
    )
    (options.output / "corpus.jsonl.gz").write_bytes(pack(corpus))
    (options.output / "queries.jsonl").write_text(asked, encoding="utf-8")
    (options.output / "qrels" / "test.tsv").write_bytes((options.folder / "qrels" / "test.tsv").read_bytes())
    np.savez(options.output / "vectors.npz", documents=documents.astype(np.float16), queries=queries.astype(np.float16))
    print(f"{len(judged.documents):,} documents, {len(judged.queries):,} queries")
    for file in sorted(options.output.rglob("*.*")):
        if file.is_file():
            data = file.read_bytes()
            print(f"{file.name}: {len(data):,} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
