"""Three pictures: recall against queries a second, ingest, memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.peers.base import BARE
from benchmarks.peers.choice import FLOOR
from benchmarks.peers.systems import OURS

BLUE, GREY, PALE = "#0072B2", "#8A8A8A", "#C9C9C9"
# Okabe and Ito's palette, told apart with any colour vision; markers tell apart what shares a colour.
STYLES = {
    OURS: (BLUE, "o-"),
    "chroma": ("#D55E00", "s-"),
    "lancedb-flat": ("#009E73", "D"),
    "lancedb-hnsw-sq": ("#009E73", "d-"),
    "qdrant-edge": ("#CC79A7", "^-"),
    "zvec": ("#E69F00", "v-"),
    "sqlite-vec": ("#000000", "X"),
    "faiss-flat": (GREY, "P"),
    "faiss-hnsw32": (GREY, "o--"),
    "hnswlib": (GREY, "s--"),
    "usearch": (GREY, "^--"),
}

Results = dict[str, Any]


def draw(results: Results, out: Path) -> None:
    """Write the three as PNG."""
    matplotlib.use("Agg")
    with pyplot.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for name, picture in (("recall-qps", _recall_qps), ("ingest", _ingest), ("memory", _memory)):
            figure = picture(results)
            figure.savefig(out / f"peers-{name}.png", dpi=140)
            pyplot.close(figure)


def _title(axes: Axes, results: Results, text: str) -> None:
    data, about = results["data"], results["about"]
    axes.set_title(text, loc="left", fontweight="bold", fontsize=10.5, pad=22)
    below = f"{data['rows']:,} × {data['dim']} vectors, {about['cores']} cores, {about['date'][:10]}"
    axes.annotate(below, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", color="#555555")


def frontier(points: Sequence[dict[str, Any]]) -> list[tuple[float, float]]:
    """(recall, queries a second by the median) of the points that no other beats in both, by rising recall."""
    best: list[tuple[float, float]] = []
    for recall, speed in sorted(((point["recall"], 1e3 / point["p50_ms"]) for point in points), reverse=True):
        if not best or speed > best[-1][1]:
            best.append((recall, speed))
    return best[::-1]


def _recall_qps(results: Results) -> Figure:
    """The error, 1 - recall, on a log scale: what matters lies between 0.9 and 1."""
    figure, axes = pyplot.subplots(figsize=(9.4, 5.6), layout="constrained")
    _title(axes, results, "Single searches: recall@10 against queries a second")
    least = 2e-4
    for key, one in results["systems"].items():
        colour, style = STYLES[key]
        points = [(max(1 - recall, least), speed) for recall, speed in frontier(one["curve"])]
        axes.plot(
            *zip(*points, strict=True),
            style,
            color=colour,
            markersize=7 if len(points) == 1 else 5,
            linewidth=2.4 if key == OURS else 1.4,
            label=one["name"] + ("" if one["store"] else " *"),
            zorder=3 if key == OURS else 2,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, least]
    names = ["0.5", "0.8", "0.9", "0.95", "0.98", "0.99", "0.995", "0.998", "0.999", "1.0"]
    worst = max(1 - point["recall"] for one in results["systems"].values() for point in one["curve"])
    shown = max(2, sum(tick <= worst * 1.2 for tick in ticks))
    axes.set_xticks(ticks[-shown:], names[-shown:])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.axvline(1 - FLOOR, color="black", linewidth=0.8, linestyle=":")
    axes.grid(True, which="major", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("recall@10, by search effort (points that another effort beats in both are left out)")
    axes.set_ylabel("queries a second, one caller (1 / median)")
    axes.legend(
        frameon=False,
        fontsize=8.5,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        title="stores return records,\nlibraries (*) row numbers",
        title_fontsize=8.5,
        alignment="left",
    )
    return figure


def _rows(axes: Axes, names: Sequence[str], labels: Sequence[str], ends: Sequence[float]) -> None:
    """Names down the left side, the first on top, and each value's words at its end."""
    places = range(len(names))
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    for place, label, end in zip(places, labels, ends, strict=True):
        axes.annotate(
            label,
            (end, place),
            (7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )
    axes.grid(True, axis="x", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _colour(key: str, one: dict[str, Any]) -> str:
    return BLUE if key == OURS else GREY if one["store"] else PALE


def _ingest(results: Results) -> Figure:
    """Dots: a bar on a log scale would have no honest beginning."""
    rows = []
    for key, one in results["systems"].items():
        for variant, run in one["ingest"].items():
            name = one["name"] + (f", {variant}" if len(one["ingest"]) > 1 else "")
            rows.append((run["rows_per_s"], name, _colour(key, one), one["builds_index"] and variant != BARE))
    rows.sort(reverse=True)
    speeds = [row[0] for row in rows]
    figure, axes = pyplot.subplots(figsize=(9, 0.34 * len(rows) + 1.4), layout="constrained")
    _title(axes, results, "Ingest until durable and searchable: rows a second")
    for place, (speed, _, colour, builds) in enumerate(rows):
        axes.plot(speed, place, "o", color=colour, markersize=9, markerfacecolor=colour if builds else "white", mew=2)
    axes.set_xscale("log")
    axes.set_xlim(min(speeds) / 1.6, max(speeds) * 2.2)
    _rows(axes, [row[1] for row in rows], [f"{speed:,.0f}" for speed in speeds], speeds)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(
        "filled: builds an index, hollow: none; blue ours, dark stores, pale libraries that keep no records"
    )
    return figure


def _memory(results: Results) -> Figure:
    found = sorted(results["systems"].items(), key=lambda entry: float(entry[1]["memory"]["RssAnon"]))
    own = [one["memory"]["RssAnon"] / 2**20 for _, one in found]
    files = [max(0.0, one["memory"]["RssFile"] / 2**20) for _, one in found]
    ends = [sum(both) for both in zip(own, files, strict=True)]
    colours = [_colour(key, one) for key, one in found]
    names = [
        one["name"] + ("" if one["tuned"]["recall"] >= FLOOR else f" (recall {one['tuned']['recall']:.2f})")
        for _, one in found
    ]
    figure, axes = pyplot.subplots(figsize=(9, 0.34 * len(found) + 1.4), layout="constrained")
    _title(axes, results, f"Memory after opening and 1,000 searches at recall ≥ {FLOOR}, MiB")
    raw = results["data"]["raw_float32_bytes"] / 2**20
    axes.axvline(raw, color="black", linewidth=0.8, linestyle=":", zorder=0)
    axes.barh(range(len(found)), own, color=colours, height=0.6)
    axes.barh(range(len(found)), files, left=own, facecolor="none", edgecolor=colours, height=0.6, linewidth=1.0)
    _rows(axes, names, [f"{mine:,.1f} + {file:,.1f}" for mine, file in zip(own, files, strict=True)], ends)
    axes.set_xlim(0, max(*ends, raw) * 1.16)
    axes.set_xlabel("filled: its own (RssAnon) + outlined: pages of files (RssFile); dotted: the raw vectors")
    return figure
