"""The report of what the tests reach and notice: `benchmarks/results/tested.json` and `.md`, docs/reliability.md.

    python -m benchmarks.tested

Reads what `make coverage` and `make mutants` left in build/. A later run replaces the mutants that it tried again, and
all of the coverage; what is not in build/ stays as it was measured before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vectorstore as vs
from benchmarks.mutants import LEFT, Line, durations, explained, key, latest
from benchmarks.mutations import mutants_of

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "reliability.md"
BUILD = ROOT / "build"
WANTED = 95.0
"""Per cent of the branches of a file."""
COLUMNS = ("in the file", "tried", "a test failed", "it hung or died", "explained", "open")
MARKS = ("<!-- tested -->", "<!-- end of tested -->")
Stored = dict[str, Any]


def read_coverage(path: Path) -> Stored:
    """File -> (branches, those taken, lines, those reached), of coverage.py's own report."""
    found = json.loads(path.read_text())
    names = ("num_branches", "covered_branches", "num_statements", "covered_lines")
    counts = {name: [each["summary"][n] for n in names] for name, each in found["files"].items()}
    run = {name.partition("::")[0] for name in durations()}
    there = {each.stem for each in (ROOT / "tests").glob("test_*.py")}
    about = {"at": found["meta"]["timestamp"][:10], "with": f"coverage.py {found['meta']['version']}"}
    return {**about, "run": len(run & there), "of": len(there), "files": counts}


def share(part: int, whole: int) -> float:
    """Per cent; of nothing all."""
    return 100 * part / whole if whole else 100.0


def reached(stored: Stored) -> tuple[float, float, int]:
    """(per cent of branches, per cent of lines, branches) over all files."""
    branches, taken, lines, run = (sum(each) for each in zip(*stored["files"].values(), strict=True))
    return share(taken, branches), share(run, lines), branches


def by_file(lines: list[Line], sizes: dict[str, int]) -> dict[str, dict[str, int]]:
    """File -> how many mutants ended how, of how many that there are."""
    known = explained()
    found: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COLUMNS, 0))
    for line in lines:
        if line["result"] in ("same", "not made"):
            continue
        mine = found[line["path"]]
        mine["tried"] += 1
        if line["result"] in LEFT:
            mine["explained" if key(line) in known else "open"] += 1
        else:
            mine["a test failed" if line["result"] == "killed" else "it hung or died"] += 1
    for path, counts in found.items():
        counts["in the file"] = sizes[path]
    return dict(sorted(found.items()))


def summary(stored: Stored) -> Iterator[str]:
    """What stands in the documentation."""
    taken, run, branches = reached(stored["coverage"])
    below = sum(share(each[1], each[0]) < WANTED for each in stored["coverage"]["files"].values())
    of = stored["coverage"]
    yield (
        f"`make coverage`, {of['at']}: the quick tests, of {of['run']} of {of['of']} test files, take {taken:.1f} % of "
        f"{branches:,} branches and reach {run:.1f} % of the lines of {_what(of['files'])}. {below} of its "
        f"{len(of['files'])} files have less than {WANTED:.0f} % of their branches."
    )
    counts = by_file(stored["mutants"], stored["sizes"])
    total = {name: sum(each[name] for each in counts.values()) for name in COLUMNS}
    yield f"\n`make mutants`, {stored['mutants_at']}:\n"
    yield f"| file | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}"
    for path, each in {**counts, "all": total}.items():
        yield f"| {path.removeprefix('vectorstore/')} | {' | '.join(f'{each[name]:,}' for name in COLUMNS)} |"


def _what(paths: Iterable[str]) -> str:
    kept = ("vectorstore/sync/", "vectorstore/storage/", "vectorstore/vectors/live.py", "vectorstore/files.py")
    return "what keeps the data" if all(path.startswith(kept) for path in paths) else "the package"


def markdown(stored: Stored) -> Iterator[str]:
    """The report."""
    yield f"# What the tests reach, and what they notice\n\n{stored['about']}\n"
    yield from summary(stored)
    yield f"\n## Files with less than {WANTED:.0f} % of their branches\n"
    yield "| file | branches | taken, % |\n|---|---:|---:|"
    files = {name: share(each[1], each[0]) for name, each in stored["coverage"]["files"].items()}
    for name, taken in sorted(files.items(), key=lambda pair: pair[1]):
        if taken < WANTED:
            yield f"| {name} | {stored['coverage']['files'][name][0]} | {taken:.1f} |"
    known = explained()
    left = [line for line in stored["mutants"] if line["result"] in LEFT]
    for title, lines in (
        ("Survivors that are explained", [line for line in left if key(line) in known]),
        ("Survivors that are open", [line for line in left if key(line) not in known]),
    ):
        yield f"\n## {title}\n"
        for line in lines:
            why = f": {known[key(line)]}" if key(line) in known else ""
            text = line["text"].replace("`", "'")
            yield f"- {line['path']}, {line['function']}, `{text}`, {line['what']}{why}"


def with_tables(page: str, stored: Stored) -> str:
    """A page with the summary between the two marks."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return "\n".join([before + MARKS[0], "", *summary(stored), "", MARKS[1] + after])


def main() -> None:
    """build/ in, report out."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.chdir(ROOT)
    path = RESULTS / "tested.json"
    stored: Stored = json.loads(path.read_text()) if path.exists() else {"mutants": [], "mutants_at": "never"}
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    if (BUILD / "coverage.json").exists():
        stored["coverage"] = read_coverage(BUILD / "coverage.json")
    if (BUILD / "mutants.jsonl").exists():
        merged = {key(line): line for line in (*stored["mutants"], *latest([BUILD / "mutants.jsonl"]))}
        paths = {line["path"] for line in merged.values()}
        mutants = {path: mutants_of(path) for path in paths}
        stored["sizes"] = {path: len(each) for path, each in sorted(mutants.items())}
        there = {key(mutant.told()) for each in mutants.values() for mutant in each}
        stored["mutants"] = [line for name, line in merged.items() if name in there]
        stored["mutants_at"] = today
    stored["about"] = (
        f"{platform.system()}, Python {platform.python_version()}, {stored['coverage']['with']}, "
        f"vectorstore {vs.__version__}."
    )
    path.write_text(json.dumps(stored, indent=1) + "\n")
    (RESULTS / "tested.md").write_text("\n".join(markdown(stored)) + "\n")
    PAGE.write_text(with_tables(PAGE.read_text(), stored))


if __name__ == "__main__":
    main()
