"""The files of a run: peers.json, peers.md and three pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import plots
from benchmarks.peers.base import BUCKETS
from benchmarks.peers.choice import FLOOR, words
from benchmarks.peers.targets import targets

Results = dict[str, Any]


def write(results: Results, out: Path) -> None:
    """All five files; the judged targets go into the JSON too."""
    results["targets"] = [
        {"name": one.name, "ratio": one.ratio, "goal": one.goal, "met": one.met, "rival": one.rival}
        for one in targets(results["systems"])
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / "peers.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "peers.md").write_text(table(results), encoding="utf-8")
    plots.draw(results, out)


def table(results: Results) -> str:
    """The report as Markdown."""
    systems = results["systems"]
    stores = [one for one in systems.values() if one["store"]]
    libraries = [one for one in systems.values() if not one["store"]]
    return "\n".join(
        [
            "# vectorstore beside its peers, measured",
            "",
            _paragraph(results),
            "",
            *_targets(systems),
            f"## Searching, k = 10, at the fastest effort with recall@10 ≥ {FLOOR}",
            "",
            "Stores return whole records: id, text, metadata.",
            "",
            *_searching(stores),
            *(_searching_libraries(libraries) if libraries else ()),
            "",
            "## Filtered searching, p50 ms (recall@10) and its effort",
            "",
            *_markdown(
                ("store", *(f"keeps {share} %" for share in BUCKETS)),
                [(one["name"], *(_filtered(one, share) for share in BUCKETS)) for one in stores],
            ),
            "",
            "## Bringing in, opening, space",
            "",
            *_space([*stores, *libraries]),
            "",
            "## What each is",
            "",
            *_what([*stores, *libraries]),
            *(f"\n{name} failed and is left out: `{why}`" for name, why in results["failed"].items()),
            "",
        ]
    )


def _targets(systems: dict[str, dict[str, Any]]) -> list[str]:
    rows = [
        (one.name, "–" if one.ratio is None else f"{one.ratio:.3g}", one.goal, one.verdict, one.rival, one.detail)
        for one in targets(systems)
    ]
    return (
        ["## Targets", "", *_markdown(("ours / theirs", "ratio", "wanted", "", "rival", "figures"), rows), ""]
        if rows
        else []
    )


def _searching(systems: Sequence[dict[str, Any]]) -> list[str]:
    head = ("", "effort", "recall", "p50 ms", "p95 ms", "batch q/s", "default effort", "its recall", "its p50 ms")
    rows = []
    for one in systems:
        tuned, default = one["tuned"], one["default"]
        short = "" if tuned["recall"] >= FLOOR else " (no effort reaches it)"
        rows.append(
            (
                one["name"],
                words(tuned["effort"]) + short,
                f"{tuned['recall']:.4f}",
                f"{tuned['p50_ms']:.3f}",
                f"{tuned['p95_ms']:.3f}",
                f"{one['batch_qps']:,.0f}",
                words(one["default_effort"]),
                f"{default['recall']:.4f}",
                f"{default['p50_ms']:.3f}",
            )
        )
    return _markdown(head, rows)


def _searching_libraries(libraries: Sequence[dict[str, Any]]) -> list[str]:
    words = "Libraries that only index: no records, no durability, no filters here. Row numbers are returned."
    return ["", words, "", *_searching(libraries)]


def _filtered(one: dict[str, Any], share: str) -> str:
    found = one["filters"][share]
    return f"{found['p50_ms']:.3f} ({found['recall']:.4f}), {words(found['effort'])}"


def _space(systems: Sequence[dict[str, Any]]) -> list[str]:
    head = (
        "",
        "ingest rows/s (runs; CPU time of one)",
        "reopen to first answer, cold / warm ms",
        "imports ms",
        "own memory MiB",
        "file pages MiB",
        "disk MB",
        "second process sees an added row",
    )
    return _markdown(
        head,
        [
            (
                one["name"],
                "; ".join(
                    f"{run['rows_per_s']:,.0f} from {variant} ({run['runs']}; {run['cpu_seconds']:.1f} s)"
                    for variant, run in one["ingest"].items()
                ),
                f"{one['reopen']['cold_ms']:.1f} / {one['reopen']['warm_ms']:.1f}",
                f"{one['reopen']['imports_ms']:.0f}",
                f"{one['memory']['RssAnon'] / 2**20:.1f}",
                f"{one['memory']['RssFile'] / 2**20:.1f}",
                f"{one['disk_bytes'] / 1e6:.1f}",
                _seen(one["fresh"]),
            )
            for one in systems
        ],
    )


def _seen(tried: Sequence[dict[str, Any]]) -> str:
    """`fresh`, `late` (within two seconds), `stale` or `refused`; a second word is for the option that is named."""
    if not tried:
        return "–"
    first, *others = tried
    return str(first["seen"]) + "".join(f" ({one['seen']} with {words(one['effort'])})" for one in others)


def _what(systems: Sequence[dict[str, Any]]) -> list[str]:
    return _markdown(
        ("", "versions", "index", "durable by itself", "batch"),
        [
            (
                one["name"],
                ", ".join(f"{name} {version}" for name, version in one["versions"].items()),
                one["index"],
                one["durable"],
                one["batch_by"],
            )
            for one in systems
        ],
    )


def _paragraph(results: Results) -> str:
    about, data = results["about"], results["data"]
    return (
        f"{about['date']}; {about['cpu']}, {about['cores']} cores, {about['memory_bytes'] / 2**30:.0f} GiB, "
        f"{about['system']}, Python {about['python']}, load {about['load_at_end']:.1f} at the end. "
        f"Data: {data['name']}, {data['rows']:,} of {data['of']:,} rows × {data['dim']}, {data['queries']:,} queries, "
        f"seed {data['seed']}. Medians of {data['rounds']} rounds in which the systems take turns, each in a process "
        "of its own. Ingest ends when every file has been fsynced, whoever does it. `benchmarks/peers/README.md` says "
        "how everything is measured."
    )


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *("---:" if any(cell[:1].isdigit() for cell in column) else "---" for column in _columns(rows))]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rule, *rows)]


def _columns(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return [*zip(*(row[1:] for row in rows), strict=True)]
