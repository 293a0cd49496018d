"""The report of what the reliability rigs counted: `benchmarks/results/reliability.json` and `.md`.

    python benchmarks/reliability.py build/reliability.jsonl

`make crash`, `make faults` and `make power` write the lines where RELIABILITY names a file; `make reliability` does all
of it. What a later run did not repeat stays as it was counted before.
"""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vectorstore as vs

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
MARKS = ("<!-- counts -->", "<!-- end of counts -->")
Line = dict[str, Any]

SECTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "matrix": ("The crash matrix", ("verbs", "cases")),
    "crash points": ("SIGKILL before, in and after every durable step of every verb", ("steps", "kills", "failures")),
    "random kills": (
        "SIGKILL at random times under load of several processes",
        ("rounds", "kills", "acknowledged", "records", "backups", "wrong"),
    ),
    "disk faults": (
        "Full, failing and read-only disks, at every kind of call of every verb",
        ("calls", "faults", "failures"),
    ),
    "limits of the system": ("Real limits of the system", ("batches", "refused", "wrong")),
    "power cuts": (
        "A file system's power cut, at every kind of call of every verb",
        ("calls", "cuts", "failures"),
    ),
    "random power cuts": (
        "The power cut at random times under load of several processes",
        ("rounds", "acknowledged", "records", "wrong"),
    ),
    "rot": (
        "Bits flipped, files cut, zeroed, swapped, replaced by folders, FIFOs and links",
        ("files", "damages", "named", "refused", "harmless", "failures"),
    ),
}
"""Section -> (what it is, the numbers it has)."""


def merged(old: Iterable[Line], new: Iterable[Line]) -> list[Line]:
    """The lines, of each (section, name) the last one."""
    found = {(line["section"], line["name"]): line for line in (*old, *new)}
    return [line for section in SECTIONS for key, line in found.items() if key[0] == section]


def totals(lines: Iterable[Line], names: Iterable[str]) -> dict[str, int]:
    """The sums of a section."""
    return {name: sum(number_of(line.get(name, 0)) for line in lines) for name in names}


def number_of(value: Any) -> int:
    """A count; a list counts its members."""
    return len(value) if isinstance(value, list) else int(value)


def summary(lines: list[Line]) -> Iterator[str]:
    """A row for each rig."""
    yield "| rig | runs | what was done | went wrong |\n|---|---:|---|---:|"
    for section, (title, names) in SECTIONS.items():
        mine = [line for line in lines if line["section"] == section]
        if mine:
            sums = totals(mine, names)
            wrong = sums.pop("failures", 0) + sums.pop("wrong", 0)
            told = ", ".join(f"{value:,} {name}" for name, value in sums.items() if value)
            yield f"| {title} | {len(mine)} | {told} | {wrong} |"


def markdown(lines: list[Line], about: str) -> Iterator[str]:
    """The report."""
    yield f"# Reliability, counted\n\n{about}\n"
    yield from summary(lines)
    for section, (title, names) in SECTIONS.items():
        mine = [line for line in lines if line["section"] == section]
        if mine:
            shown = [name for name in names if any(name in line for line in mine)]
            yield f"\n## {title}\n\n| | {' | '.join(shown)} |\n|---|{'---:|' * len(shown)}"
            for line in mine:
                yield f"| {line['name']} | {' | '.join(f'{number_of(line.get(name, 0)):,}' for name in shown)} |"


def with_counts(page: str, lines: list[Line]) -> str:
    """A page whose table between the two marks is the summary."""
    before, _, rest = page.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return "\n".join([before + MARKS[0], "", *summary(lines), "", MARKS[1] + after])


def main() -> None:
    """Lines in, report out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    stored = options.out / "reliability.json"
    old = json.loads(stored.read_text())["lines"] if stored.exists() else []
    new = [json.loads(line) for path in options.lines for line in path.read_text().splitlines()]
    lines = merged(old, new)
    about = (
        f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}, Python "
        f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}, vectorstore {vs.__version__}; "
        f'{datetime.now(UTC):%B %Y}. Each line is one run of a rig; "went wrong" counts runs that lost, invented or '
        "damaged anything."
    )
    stored.write_text(json.dumps({"about": about, "lines": lines}, indent=1) + "\n")
    (options.out / "reliability.md").write_text("\n".join(markdown(lines, about)) + "\n")
    if options.out == RESULTS:
        PAGE.write_text(with_counts(PAGE.read_text(), lines))


if __name__ == "__main__":
    main()
