"""Export and import measured: records a second in each format, and the memory that it takes, at two sizes.

    python benchmarks/interchange.py --work DIR            # 100,000 and 400,000 records; some minutes
    python benchmarks/interchange.py --work DIR --rows 5000 20000 --rounds 1

The records are the packaged WordNet sample, again and again under other ids, as concepts, and analogies between two
domains. Every measurement is a process of its own. Its memory is what it has of its own (RssAnon, looked at whenever
the call tells its progress), less what it had before; pages of mapped segments, which the system may take back, are
beside it. Stores and files lie in DIR, and are kept for another run. Writes `results/interchange.json` and
`interchange.md`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import numpy as np  # noqa: E402 - the path above is theirs

import vectorstore as vs  # noqa: E402
from vectorstore.data import wordnet_sample  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
WANTED = 150_000
DIM = 64
BATCH = 20_000
FORMATS = ("jsonl", "jsonl.gz", "json", "csv", "parquet", "arrow")
CASES = [("concepts", end, "none") for end in FORMATS] + [
    ("analogies", "jsonl", "none"),
    ("vectors", "jsonl", "all"),
    ("vectors", "parquet", "all"),
]
"""(store, format, vectors)"""


def records(name: str, rows: int) -> Iterator[list[dict[str, Any]]]:
    """The records of a store, by the thousands."""
    sample = list(wordnet_sample())
    random = np.random.default_rng(0)
    for start in range(0, rows, BATCH):
        numbers = range(start, min(rows, start + BATCH))
        if name == "analogies":
            quality = random.integers(300, 950, len(numbers)) / 1000
            yield [_analogy(sample, n, float(q)) for n, q in zip(numbers, quality, strict=True)]
        else:
            yield [{**sample[n % len(sample)], "id": f"{sample[n % len(sample)]['id']}.{n}"} for n in numbers]


def _analogy(sample: list[dict[str, Any]], n: int, quality: float) -> dict[str, Any]:
    source, target = sample[n % len(sample)], sample[(n * 7 + 1) % len(sample)]
    pairs = [
        {"source": sample[(n + k) % len(sample)]["name"], "target": sample[(n * 7 + 1 + k) % len(sample)]["name"]}
        for k in range(3)
    ]
    domains = {"source_domain": source["domain"], "target_domain": target["domain"]}
    return {"id": f"a{n}", **domains, "concept_mappings": pairs, "quality": quality, "tags": list(domains.values())}


def build(root: Path, name: str, rows: int) -> None:
    """The store, unless it is there."""
    if root.exists():
        return
    shutil.rmtree(root.with_suffix(".part"), ignore_errors=True)
    random = np.random.default_rng(1)
    with vs.open(root.with_suffix(".part"), embedder=None, auto_publish=False) as store:
        collection = store.analogies if name == "analogies" else store.concepts
        for batch in records(name, rows):
            given = random.standard_normal((len(batch), DIM), dtype=np.float32) if name == "vectors" else None
            collection.add(batch, vectors=given)
    root.with_suffix(".part").rename(root)


def memory(field: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def measured(job: dict[str, Any]) -> dict[str, float]:
    """One export or import, in this process: seconds, records, bytes, and the peak of its memory."""
    target, source = Path(job["target"]), Path(job["source"])
    if job["what"] == "export":
        target.unlink(missing_ok=True)
        with vs.open(source, embedder=None, read_only=True) as store:
            return _timed(lambda told: store.export(target, kinds=job["kind"], vectors=job["vectors"], progress=told))
    shutil.rmtree(target, ignore_errors=True)
    with vs.open(target, embedder=None, auto_publish=False) as store:
        found = _timed(lambda told: store.import_(source, kind=job["kind"], progress=told))
        assert len(store.collection(job["kind"])) == found["records"]
    shutil.rmtree(target)
    return found


def _timed(act: Any) -> dict[str, float]:
    if any(name in sys.argv[-1] for name in ("parquet", "arrow")):
        import pyarrow.parquet  # noqa: F401 - its import is nobody's export
    own, file = memory("RssAnon"), memory("RssFile")
    peaks, calls = {"own": 0, "file": 0}, itertools.count()

    def told(done: int, of: int) -> None:
        if next(calls) % 20 == 0:
            peaks.update(
                own=max(peaks["own"], memory("RssAnon") - own), file=max(peaks["file"], memory("RssFile") - file)
            )

    busy, begun = time.process_time(), time.perf_counter()
    done = act(told)
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    count = done.records if isinstance(done.records, int) else sum(done.records.values())
    return {"records": count, "seconds": seconds, "cpu": busy, **peaks, "bytes": getattr(done, "bytes", 0)}


def run(work: Path, rows: list[int], rounds: int) -> dict[str, Any]:
    """Every case at every size, the rounds through all of them in turn."""
    for count in rows:
        for name in ("concepts", "analogies", "vectors"):
            print(f"building {name} of {count}", file=sys.stderr)
            build(work / f"{name}-{count}", name, count)
    found: dict[str, Any] = {}
    for round_number in range(rounds):
        for count in rows:
            for name, end, vectors in CASES:
                file = work / f"{name}-{count}.{vectors}.{end}"
                kind = "analogies" if name == "analogies" else "concepts"
                jobs = {"export": (work / f"{name}-{count}", file)}
                if count == rows[0] and (round_number == 0 or rounds < 3):
                    jobs["import"] = (file, work / "imported")
                for what, (source, target) in jobs.items():
                    job = {"what": what, "source": str(source), "target": str(target), "kind": kind, "vectors": vectors}
                    key = f"{what} {count} {name} {end} {vectors}"
                    found.setdefault(key, []).append(_in_a_process(job))
                    print(key, found[key][-1], file=sys.stderr)
    return found


def _in_a_process(job: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps(job)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def report(found: dict[str, Any], rows: list[int], head: str) -> str:
    """The table of results."""
    text = [
        "# Export and import",
        "",
        head,
        "",
        f"Wanted: at least {WANTED:,} records a second as JSON lines, and a peak that does not grow with it.",
        "",
        "## Out",
        "",
        f"| records | format | vectors | records/s | of CPU time | MB/s | MB, {rows[0]:,} | {rows[-1]:,} | file | |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for name, end, vectors in CASES:
        small, large = (found[f"export {count} {name} {end} {vectors}"] for count in (rows[0], rows[-1]))
        rate = statistics.median(each["records"] / each["seconds"] for each in large)
        busy = statistics.median(each["records"] / each["cpu"] for each in large)
        speed = statistics.median(each["bytes"] / each["seconds"] for each in large) / 1e6
        peaks = [statistics.median(each["own"] for each in runs) / 1e6 for runs in (small, large)]
        file = statistics.median(each["file"] for each in large) / 1e6
        flat = peaks[1] < max(1.25 * peaks[0], peaks[0] + 8)
        told = "flat" if flat else "grows"
        if end == "jsonl" and vectors == "none":
            told += ", met" if rate >= WANTED and flat else ", missed"
        shown = f"{DIM} dimensions" if vectors == "all" else "none"
        what = "concepts" if name == "vectors" else name
        text.append(
            f"| {what} | {end} | {shown} | {rate:,.0f} | {busy:,.0f} | {speed:.0f} | {peaks[0]:.0f} | {peaks[1]:.0f} "
            f"| {file:.0f} | {told} |"
        )
    text += [
        "",
        "## In",
        "",
        "Into an empty store, nothing embedded: read, validated, staged and committed as one, durably.",
        "",
        f"| records | format | vectors | records/s of {rows[0]:,} | own MB |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for name, end, vectors in CASES:
        runs = found[f"import {rows[0]} {name} {end} {vectors}"]
        rate = statistics.median(each["records"] / each["seconds"] for each in runs)
        peak = statistics.median(each["own"] for each in runs) / 1e6
        shown = f"{DIM} dimensions" if vectors == "all" else "none"
        text.append(f"| {'concepts' if name == 'vectors' else name} | {end} | {shown} | {rate:,.0f} | {peak:.0f} |")
    return "\n".join(text) + "\n"


def main() -> None:
    """Measure, or be one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 400_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--build", action="store_true", help="only make the stores")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.job:
        print(json.dumps(measured(json.loads(asked.job))))
        return
    if asked.work is None:
        parser.error("--work DIR is needed: a folder for the stores and files")
    asked.work.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0]
    if asked.build:
        for count in asked.rows:
            for name in ("concepts", "analogies", "vectors"):
                build(asked.work / f"{name}-{count}", name, count)
        return
    found = run(asked.work, asked.rows, asked.rounds)
    head = (
        f"{time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}; {platform.machine()}, {os.cpu_count()} cores, load "
        f"{load:.1f} at the start; Python {platform.python_version()}. {asked.rows[0]:,} and {asked.rows[-1]:,} "
        f"records; medians of {asked.rounds} rounds, rates of the larger size. Memory is a process's own (RssAnon) "
        "during the call, less what it had before; file: pages of mapped segments, which the system may take back. "
        "`jsonl.gz` is packed at level 3, Parquet with zstd. A rate counts the fsync of the whole file."
    )
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "interchange.json").write_text(json.dumps({"head": head, "runs": found}, indent=1) + "\n")
    (asked.out / "interchange.md").write_text(report(found, asked.rows, head))


if __name__ == "__main__":
    main()
