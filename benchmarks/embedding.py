"""Embedding on a CPU: speed, agreement with float32, and what is found, for each precision and runtime.

    python benchmarks/embedding.py                                   packaged texts: speed and agreement
    python benchmarks/embedding.py --set FOLDER [--set FOLDER ...]   and nDCG@10 and Recall@100 of judged sets
    python benchmarks/embedding.py --texts FILE                      and the speed of these texts, one a line

A judged set is a folder in the form of BEIR: corpus.jsonl (or .jsonl.gz) with _id, title and text, queries.jsonl with
_id and text, qrels/test.tsv. Writes embedding.json and embedding.md. `--parts speed` or `--parts quality` measures
one half anew and keeps the other of an earlier run. What cannot run here is left out, with the reason.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import importlib.metadata
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import numpy as np  # noqa: E402 - the path above is theirs

from benchmarks.dataset import Matrix, note  # noqa: E402
from benchmarks.encoders import MAKERS, Encoder  # noqa: E402
from vectorstore.data import wordnet_sample  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
SHORT, LONG, GIVEN = 320, 32, 320
LONG_WORDS = 185
"""About 240 tokens, a little less than the 256 that the model reads."""

DEPTH = 1000
"""So many documents of a query are ranked."""

LIBRARIES = ("vectorstore", "torch", "transformers", "sentence-transformers", "onnxruntime", "onnx")


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "embedding.json"
    results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    results["about"] = _machine()
    with tempfile.TemporaryDirectory() as made:
        work = options.work or Path(made)
        job = {
            "options": options.options.split(","),
            "rounds": options.rounds,
            "sets": [str(folder.resolve()) for folder in options.sets],
            "texts": options.texts and str(options.texts.resolve()),
            "work": str(work.resolve()),
        }
        threads = [int(number) for number in options.threads.split(",")]
        if "speed" in options.parts:
            results["speed"] = {str(number): _child("encoding", number, job, work) for number in threads}
        if "quality" in options.parts:
            results["quality"] = _child("judging", max(threads), job, work)
    file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "embedding.md").write_text(table(results), encoding="utf-8")
    print(table(results))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, action="append", default=[], dest="sets", help="folder of a judged set")
    parser.add_argument("--texts", type=Path, help="texts to time, one a line (also .gz)")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas")
    parser.add_argument("--options", default=",".join(MAKERS), help="which to measure, with commas; float32 always is")
    parser.add_argument("--parts", default="speed,quality", help="what to measure")
    parser.add_argument("--rounds", type=int, default=5, help="of timing, in turns; the fastest counts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go")
    parser.add_argument("--work", type=Path, help="keeps exported models and vectors for the next run")
    return parser.parse_args(arguments)


def _child(stage: str, threads: int, job: dict[str, Any], work: Path) -> dict[str, Any]:
    """What a stage measures in a process of its own, with so many threads for every library."""
    order, answer = work / "job.json", work / "measured.json"
    order.write_text(json.dumps(job), encoding="utf-8")
    counts = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    subprocess.run(
        [sys.executable, "-m", "benchmarks.child", stage, str(order), str(answer)],
        env={**os.environ, **counts, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
        check=True,
    )
    measured: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    return measured


# -- in the child --------------------------------------------------------------------------------------------------


def encoding(job: dict[str, Any]) -> dict[str, Any]:
    """Texts a second and texts a second of CPU time, by option and kind of text: the fastest of some rounds."""
    encoders, missing = _encoders(job)
    kinds = speed_texts(job["texts"] and Path(job["texts"]))
    best = {name: {kind: [np.inf, np.inf, np.inf] for kind in kinds} for name in encoders}
    for encode in encoders.values():
        encode(kinds["short"][:8])
    for _ in range(job["rounds"]):
        for name, encode in encoders.items():
            for kind, texts in kinds.items():
                wall, cpu = time.perf_counter(), time.process_time()
                encode(texts)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                one = time.perf_counter()
                encode(texts[:1])
                found = (wall, cpu, time.perf_counter() - one)
                best[name][kind] = [min(pair) for pair in zip(best[name][kind], found, strict=True)]
    measured = {
        name: {
            kind: {
                "texts_s": len(kinds[kind]) / wall,
                "texts_cpu_s": len(kinds[kind]) / cpu,
                "one_ms": one * 1000,
            }
            for kind, (wall, cpu, one) in rows.items()
        }
        for name, rows in best.items()
    }
    return {"options": measured, "missing": missing, "texts": {kind: len(texts) for kind, texts in kinds.items()}}


def judging(job: dict[str, Any]) -> dict[str, Any]:
    """Cosines to float32 and, for each judged set, nDCG@10 and Recall@100."""
    encoders, missing = _encoders(job)
    packaged = [text for texts in speed_texts(None).values() for text in texts]
    agreement = {"packaged texts": _agreement({name: encode(packaged) for name, encode in encoders.items()})}
    sets: dict[str, dict[str, Any]] = {}
    for folder in map(Path, job["sets"]):
        documents, queries, judged = judged_set(folder)
        vectors: dict[str, Matrix] = {}
        sets[folder.name] = {"documents": len(documents), "queries": len(queries), "options": {}}
        for name, encode in encoders.items():
            note(f"{folder.name}: {name}")
            kept = Path(job["work"]) / f"{folder.name}.{name.replace(' ', '-')}.npz"
            if not kept.exists():
                np.savez(kept, documents=encode(list(documents.values())), queries=encode(list(queries.values())))
            with np.load(kept) as arrays:
                vectors[name] = arrays["documents"]
                sets[folder.name]["options"][name] = judge(
                    list(documents), arrays["documents"], list(queries), arrays["queries"], judged
                )
        agreement[folder.name] = _agreement(vectors)
    return {"agreement": agreement, "sets": sets, "missing": missing}


def _encoders(job: dict[str, Any]) -> tuple[dict[str, Encoder], dict[str, str]]:
    """(float32 and the wanted options that run here, why the others do not)."""
    encoders: dict[str, Encoder] = {}
    missing: dict[str, str] = {}
    for name, make in MAKERS.items():
        if name == "float32" or name in job["options"]:
            try:
                encoders[name] = make(Path(job["work"]))
            except (ImportError, RuntimeError, NotImplementedError) as error:
                missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return encoders, missing


def _agreement(vectors: dict[str, Matrix]) -> dict[str, dict[str, float]]:
    """Mean and least cosine to float32."""
    cosines = {name: np.einsum("ij,ij->i", rows, vectors["float32"]) for name, rows in vectors.items()}
    return {name: {"mean": float(found.mean()), "least": float(found.min())} for name, found in cosines.items()}


def speed_texts(file: Path | None) -> dict[str, list[str]]:
    """Short texts (a gloss, about 20 tokens), long ones (glosses on end, about 240), and the caller's."""
    concepts = random.Random(0).sample(list(wordnet_sample()), SHORT + 20 * LONG)
    glosses = [f"{', '.join(concept['lemmas'])}: {concept['definition']}" for concept in concepts]
    kinds = {"short": glosses[:SHORT], "long": list(_joined(glosses[SHORT:]))[:LONG]}
    if file is not None:
        with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
            kinds["given"] = [line.rstrip("\n") for line, _ in zip(lines, range(GIVEN), strict=False)]
    return kinds


def _joined(glosses: list[str]) -> Iterator[str]:
    words: list[str] = []
    for gloss in glosses:
        words += gloss.split()
        if len(words) >= LONG_WORDS:
            yield " ".join(words[:LONG_WORDS])
            words = []


def judged_set(folder: Path) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """(documents by id: title and text, judged queries by id, judgements by query and document)."""
    judged: dict[str, dict[str, int]] = {}
    for line in (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        query, document, score = line.split("\t")
        judged.setdefault(query, {})[document] = int(score)
    documents = {row["_id"]: f"{row.get('title', '')} {row['text']}".strip() for row in _jsonl(folder, "corpus")}
    queries = {row["_id"]: row["text"] for row in _jsonl(folder, "queries") if row["_id"] in judged}
    return documents, queries, judged


def _jsonl(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    plain = folder / f"{name}.jsonl"
    packed = folder / f"{name}.jsonl.gz"
    with gzip.open(packed, "rt", encoding="utf-8") if packed.exists() else plain.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def judge(
    documents: list[str], rows: Matrix, queries: list[str], points: Matrix, judged: dict[str, dict[str, int]]
) -> dict[str, float]:
    """nDCG@10 and Recall@100 of the ranking by inner product."""
    import ir_measures

    run = {}
    for query, point in zip(queries, points, strict=True):
        similarities = rows @ point
        order = np.argsort(-similarities, kind="stable")[:DEPTH]
        run[query] = {documents[place]: float(similarities[place]) for place in order}
    measures = {"ndcg_10": ir_measures.nDCG @ 10, "recall_100": ir_measures.R @ 100}
    found = ir_measures.calc_aggregate(list(measures.values()), judged, run)
    return {name: float(found[measure]) for name, measure in measures.items()}


# -- the report ----------------------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    """The results for people."""
    about = results["about"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        "# Embedding",
        "",
        f"all-MiniLM-L6-v2 on {about['cpu']}, {about['cores']} cores; {versions}; {about['date']}. `bfloat16` and"
        " `float32` are the embedder's precisions; the others are not offered (`models/embed/README.md` says why).",
    ]
    if "speed" in results:
        lines += ["", *_speed_table(results["speed"])]
    for name, rows in results.get("quality", {}).get("agreement", {}).items():
        judged = results["quality"]["sets"].get(name)
        lines += ["", *_quality_table(name, rows, judged)]
    missing = {**next(iter(results.get("speed", {}).values()), {}), **results.get("quality", {})}.get("missing", {})
    lines += [f"\n{name} did not run: {reason}" for name, reason in missing.items()]
    return "\n".join(lines) + "\n"


def _speed_table(speed: dict[str, Any]) -> Iterator[str]:
    kinds = next(iter(speed.values()))["texts"]
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    yield f"## Texts a second ({counts} texts; in brackets a second of CPU time; one text alone in ms)"
    yield ""
    columns = [f"{kind}, {threads} thr." for threads in speed for kind in kinds]
    yield "| option | " + " | ".join(columns) + " | one short |"
    yield "|---|" + "---:|" * (len(columns) + 1)
    for name in next(iter(speed.values()))["options"]:
        cells = []
        for measured in speed.values():
            rows = measured["options"][name]
            cells += [f"{rows[kind]['texts_s']:.0f} ({rows[kind]['texts_cpu_s']:.0f})" for kind in kinds]
        one = min(measured["options"][name]["short"]["one_ms"] for measured in speed.values())
        yield f"| {name} | " + " | ".join(cells) + f" | {one:.1f} |"


def _quality_table(name: str, rows: dict[str, Any], judged: dict[str, Any] | None) -> Iterator[str]:
    if judged is None:
        yield f"## Agreement on {name}"
    else:
        yield f"## {name}: {judged['documents']:,} documents, {judged['queries']:,} queries"
    yield ""
    yield "| option | cosine to float32: mean | least |" + (" nDCG@10 | Recall@100 |" if judged else "")
    yield "|---|---:|---:|" + ("---:|---:|" if judged else "")
    for option, cosine in rows.items():
        line = f"| {option} | {cosine['mean']:.5f} | {cosine['least']:.5f} |"
        if judged:
            found = judged["options"][option]
            line += f" {found['ndcg_10']:.4f} | {found['recall_100']:.4f} |"
        yield line


def _machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    flags: set[str] = set()
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
        elif line.startswith("flags"):
            flags = set(line.split())
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cpu": cpu,
        "instructions": sorted(flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


if __name__ == "__main__":
    main()
