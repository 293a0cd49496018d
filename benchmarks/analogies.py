r"""Analogies measured: word analogies beside gensim, completion and discovery at size, texts by structure.

    python benchmarks/analogies.py --google questions-words.txt --glove glove_6B_50d_emb.npy --words words.txt \
        --gensim gensim-venv/bin/python --wordnet FOLDER --scan scan.jsonl.gz --stories story_analogy_mc.jsonl.gz

Every part is measured only when its data are named. `--words` is a text file with one word a line, or a Parquet file
whose first column they are. `--google` is word2vec's file, or JSON lines with category, a, b, c and d. gensim runs in
its own Python, so that nothing of it need be installed here. `FOLDER` holds `wordnet-minilm-384.base.f16.npy`. Writes
`results/analogies.json` and `analogies.md`.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs
from benchmarks.analogy_texts import scan, story_choices, story_retrieval  # noqa: E402
from benchmarks.timing import milliseconds  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
METHODS = ("3cosadd", "3cosmul", "pair")
GENSIM = """
import json, sys, time
import numpy as np
from gensim.models import KeyedVectors
vectors, words, questions, limit = sys.argv[1:5]
model = KeyedVectors(np.load(vectors, mmap_mode="r").shape[1])
model.add_vectors(json.load(open(words)), np.load(vectors))
model.most_similar("the" if "the" in model else model.index_to_key[0])
start = time.perf_counter()
accuracy, sections = model.evaluate_word_analogies(questions, restrict_vocab=int(limit))
seconds = time.perf_counter() - start
asked = sum(len(sections[-1][which]) for which in ("correct", "incorrect"))
import gensim
print(json.dumps({"accuracy": accuracy, "questions": asked, "seconds": seconds, "gensim": gensim.__version__}))
"""


def jsonl(path: Path) -> Iterable[dict[str, Any]]:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def question_lines(path: Path) -> list[str]:
    """In word2vec's format."""
    if ".jsonl" not in path.name:
        return path.read_text(encoding="utf-8").splitlines()
    sections: dict[str, list[str]] = defaultdict(list)
    for one in jsonl(path):
        sections[one["category"]].append(" ".join(one[name] for name in "abcd"))
    return [line for name, listed in sections.items() for line in (f": {name}", *listed)]


def listed_words(path: Path) -> list[str]:
    if path.suffix != ".parquet":
        return path.read_text(encoding="utf-8").splitlines()
    import pyarrow.parquet

    return [str(word) for word in pyarrow.parquet.read_table(path).column(0).to_pylist()]


# -- word analogies ----------------------------------------------------------------------------------------------------


def google(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Accuracy and time of each method at each size of vocabulary; gensim's protocol beside, in the same run."""
    lines = question_lines(options.google)
    words, vectors = vs.read_word_vectors(options.glove, listed_words(options.words))
    sizes = sorted({min(size, len(words)) for size in options.vocabularies})
    found: dict[str, Any] = {"words": len(words), "dim": vectors.shape[1], "sizes": {}}
    with vs.open(folder / "words", embedder=None, auto_publish=False) as store:
        begun = time.perf_counter()
        store.concepts.add({"id": [f"w{n}" for n in range(len(words))], "name": words}, vectors=vectors)
        found["add_seconds"] = time.perf_counter() - begun
        asked = vs.Words(store.concepts)
        begun = time.perf_counter()
        len(asked)
        found["load_seconds"] = time.perf_counter() - begun
        for size in sizes:
            rows = found["sizes"][str(size)] = {}
            for method in METHODS:
                begun = time.perf_counter()
                accuracy, sections = asked.evaluate_analogies(lines, size, method=method)  # type: ignore[arg-type]
                seconds = time.perf_counter() - begun
                count = sum(len(sections[-1][which]) for which in ("correct", "incorrect"))
                rows[method] = {"accuracy": accuracy, "questions": count, "seconds": seconds}
                print("google", size, method, rows[method], flush=True)
            if options.gensim:
                rows["gensim 3cosadd"] = gensim(options.gensim, words, vectors, lines, size, folder)
                print("google", size, "gensim", rows["gensim 3cosadd"], flush=True)
        found["confidence"] = confidence(store, lines, sizes[-1])
    return found


def gensim(
    python: Path, words: list[str], vectors: npt.NDArray[np.float32], lines: list[str], size: int, folder: Path
) -> dict[str, Any]:
    """Gensim's own evaluation; on a sample of the questions where all would take minutes."""
    share = max(1, round(size / 30_000))
    kept = [line for place, line in enumerate(lines) if line.startswith(":") or place % share == 0]
    (folder / "questions.txt").write_text("\n".join(kept) + "\n", encoding="utf-8")
    (folder / "words.json").write_text(json.dumps(words), encoding="utf-8")
    np.save(folder / "vectors.npy", vectors)
    paths = [str(folder / name) for name in ("vectors.npy", "words.json", "questions.txt")]
    done = subprocess.run([str(python), "-c", GENSIM, *paths, str(size)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"gensim failed: {done.stderr[-500:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return {**answer, "share of the questions": 1 / share}


def confidence(store: vs.Store, lines: list[str], size: int, count: int = 500) -> dict[str, float]:
    """Is the confidence of first answers worth its name? Mean confidence beside accuracy, and above and below 0.5."""
    words = vs.Words(store.concepts).index_to_key[:size]
    known = {word: f"w{place}" for place, word in reversed(list(enumerate(words)))}
    fours = [line.lower().split() for line in lines if not line.startswith(":")]
    fours = [four for four in fours if len(four) == 4 and set(four) <= known.keys()]
    chosen = [fours[place] for place in np.random.default_rng(0).permutation(len(fours))[:count]]
    sure, right = [], []
    for a, b, c, d in chosen:
        (hit,) = store.analogies.complete(known[a], known[b], known[c], k=1, exact=True)
        sure.append(hit.confidence)  # type: ignore[attr-defined]
        right.append(hit.record.name == d)
    both = np.array([sure, right], dtype=float)
    if not both.size:
        return {}
    parts = {"above": both[1][both[0] >= 0.5], "below": both[1][both[0] < 0.5]}
    means = {f"accuracy {name} 0.5": float(part.mean()) if len(part) else 0.0 for name, part in parts.items()}
    means |= {"share above 0.5": float((both[0] >= 0.5).mean())}
    return {
        "questions": len(chosen),
        "mean confidence": float(both[0].mean()),
        "accuracy": float(both[1].mean()),
    } | means


# -- at size -----------------------------------------------------------------------------------------------------------


def completion(base: npt.NDArray[np.float32], folder: Path, count: int = 100) -> dict[str, Any]:
    """Time of `complete` by each method through the default index, and how many of the exact best five it finds."""
    random = np.random.default_rng(0)
    names = [f"n{n}" for n in range(len(base))]
    with vs.open(folder / "size", embedder=None, auto_publish=False) as store:
        store.concepts.add({"id": [f"c{n}" for n in range(len(base))], "name": names}, vectors=base)
        store.rebuild("concepts")
        starts = random.choice(len(base), count)
        near = store.concepts.search_many([vs.Id(f"c{n}") for n in starts], k=20)
        triples = [
            (f"n{a}", *(hits[int(at)].record.name for at in random.choice(20, 2, replace=False)))
            for a, hits in zip(starts, near, strict=True)
        ]
        found: dict[str, Any] = {"rows": len(base), "dim": base.shape[1]}
        for method in METHODS:
            ask: Callable[..., Any] = store.analogies.complete
            seconds, shares = [], []
            for place, triple in enumerate(triples[:5] + triples):
                begun = time.perf_counter()
                hits = ask(*triple, method=method)
                if place >= 5:
                    seconds.append(time.perf_counter() - begun)
                    if place % 4 == 0:
                        exact = ask(*triple, method=method, exact=True)
                        shares.append(len({*hits.ids} & {*exact.ids}) / len(exact))
            found[method] = {**milliseconds(seconds), "recall@5": float(np.mean(shares)), "plan": hits.plan.name}
            print("complete", method, found[method], flush=True)
    return found


def discovery(base: npt.NDArray[np.float32], folder: Path, size: int = 2000) -> dict[str, Any]:
    """Time to map two domains of that many concepts each."""
    chosen = np.random.default_rng(1).permutation(len(base))[: 2 * size]
    with vs.open(folder / "domains", embedder=None, auto_publish=False) as store:
        rows = [{"id": f"c{n}", "name": f"n{n}", "domain": f"d{n % 2}"} for n in range(len(chosen))]
        store.concepts.add(rows, vectors=base[chosen])
        begun = time.perf_counter()
        analogy = store.analogies.discover("d0", "d1", 0.0)
        seconds = time.perf_counter() - begun
    assert analogy is not None
    return {"concepts": len(chosen), "pairs": len(analogy.evidence), "seconds": seconds}


# -- the table ---------------------------------------------------------------------------------------------------------


def table(results: dict[str, Any]) -> str:
    lines = ["# Analogies", "", f"{results['machine']}; vectorstore {results['vectorstore']}.", ""]
    if "google" in results:
        words = results["google"]
        lines += [
            f"## Google's word analogies, {words['words']:,} words of {words['dim']} dimensions",
            "",
            "| vocabulary | method | questions | accuracy | seconds | ms a question |",
            "|---:|---|---:|---:|---:|---:|",
        ]
        for size, rows in words["sizes"].items():
            for method, row in rows.items():
                each = 1e3 * row["seconds"] / max(1, row["questions"])
                figures = f"{row['questions']:,} | {row['accuracy']:.4f} | {row['seconds']:.1f} | {each:.2f}"
                lines.append(f"| {int(size):,} | {method} | {figures} |")
        sure = ", ".join(f"{name} {value:.3g}" for name, value in words["confidence"].items())
        lines += ["", f"Confidence of first answers (3cosadd, largest vocabulary): {sure}.", ""]
    if "complete" in results:
        made = results["complete"]
        lines += [
            f"## complete() over {made['rows']:,} x {made['dim']}, default index, names as input, k = 5",
            "",
            "| method | p50 ms | p95 ms | recall@5 | plan |",
            "|---|---:|---:|---:|---|",
        ]
        for method in METHODS:
            row = made[method]
            lines.append(
                f"| {method} | {row['p50_ms']:.2f} | {row['p95_ms']:.2f} | {row['recall@5']:.3f} | {row['plan']} |"
            )
        found = results["discovery"]
        lines += ["", f"discover(): {found['concepts']:,} concepts in two domains, {found['seconds']:.2f} s.", ""]
    for name, title in (
        ("scan", "SCAN: terms mapped right"),
        ("stories", "StoryAnalogy: the right one of four chosen"),
    ):
        if name in results:
            lines += [f"## {title}", "", "| by | all | tuned on | held back |", "|---|---:|---:|---:|"]
            for method, (whole, first, second) in results[name]["accuracy"].items():
                lines.append(f"| {method} | {whole:.4f} | {first:.4f} | {second:.4f} |")
            lines.append("")
    if "retrieval" in results:
        found = results["retrieval"]
        lines += [f"## StoryAnalogy: retrieval from {found['texts']:,} texts", ""]
        lines += ["| stage | hit@1 | hit@10 | MRR |", "|---|---:|---:|---:|"]
        for name, row in found["stages"].items():
            lines.append(f"| {name} | {row['hit@1']:.3f} | {row['hit@10']:.3f} | {row['mrr']:.4f} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure what was named, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--google", "--glove", "--words", "--gensim", "--wordnet", "--scan", "--stories"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[30_000, 400_000])
    parser.add_argument("--embedder", default=None, help="as in vs.open; the default is MiniLM in float32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    cores = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    path = options.out / "analogies.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    results |= {"machine": cores, "vectorstore": vs.__version__}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if options.google and options.glove and options.words:
            results["google"] = google(options, folder)
        if options.wordnet:
            base = np.load(options.wordnet / "wordnet-minilm-384.base.f16.npy").astype(np.float32)
            results["complete"] = completion(base, folder)
            results["discovery"] = discovery(base, folder, min(2000, len(base) // 2))
        if options.scan or options.stories:
            with vs.open(":memory:", embedder=options.embedder or vs.SentenceEmbedder(precision="float32")) as store:
                if options.scan:
                    results["scan"] = scan(store, list(jsonl(options.scan)))
                if options.stories:
                    questions = list(jsonl(options.stories))
                    results["stories"] = story_choices(store, questions)
                    results["retrieval"] = story_retrieval(store, questions)
    options.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.out / "analogies.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
