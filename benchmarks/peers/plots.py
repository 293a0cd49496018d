"""Three pictures: recall against queries a second, ingest, memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def _recall_qps(results: Results) -> Figure:
    """The error, 1 - recall, on a log scale: what matters lies between 0.9 and 1."""
    figure, axes = pyplot.subplots(figsize=(9, 5.6), layout="constrained")
    _title(axes, results, "Single searches: recall@10 against queries a second (stores return whole records)")
    least = 2e-4
    for key, one in results["systems"].items():
        colour, style = STYLES[key]
        points = sorted((max(1 - point["recall"], least), point["qps"]) for point in one["curve"])
        size = 7 if len(points) == 1 else 4.5
        label = one["name"] + ("" if one["store"] else " (library, no records)")
        axes.plot(
            *zip(*points, strict=True),
            style,
            color=colour,
            markersize=size,
            linewidth=2.2 if key == OURS else 1.3,
            label=label,
            zorder=3 if key == OURS else 2,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = [0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, least]
    axes.set_xticks(ticks, ["0.5", "0.8", "0.9", "0.95", "0.98", "0.99", "0.995", "0.998", "0.999", "1.0"])
    axes.minorticks_off()
    axes.invert_xaxis()
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.axvline(1 - FLOOR, color="black", linewidth=0.8, linestyle=":")
    axes.grid(True, which="major", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("recall@10")
    axes.set_ylabel("queries a second, one caller")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _bars(axes: Axes, rows: list[tuple[str, float, str]], form: str) -> None:
    """Horizontal bars, the first on top; each (label, value, colour)."""
    rows = rows[::-1]
    bars = axes.barh([row[0] for row in rows], [row[1] for row in rows], color=[row[2] for row in rows], height=0.66)
    axes.bar_label(bars, [form.format(row[1]) for row in rows], padding=4, fontsize=8)
    axes.margins(x=0.14)
    axes.grid(True, axis="x", color="#e8e8e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _colour(key: str, one: dict[str, Any]) -> str:
    return BLUE if key == OURS else GREY if one["store"] else PALE


def _ingest(results: Results) -> Figure:
    rows = []
    for key, one in results["systems"].items():
        for variant, run in one["ingest"].items():
            name = one["name"] + (f", {variant}" if len(one["ingest"]) > 1 else "")
            rows.append((name, run["rows_per_s"], _colour(key, one)))
    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(rows) + 1.3), layout="constrained")
    _title(axes, results, "Ingest until durable and searchable: rows a second")
    _bars(axes, sorted(rows, key=lambda row: -row[1]), "{:,.0f}")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel("log scale; blue ours, dark grey stores, light grey libraries that keep no records")
    return figure


def _memory(results: Results) -> Figure:
    found = [
        (one["name"] + ("" if one["tuned"]["recall"] >= FLOOR else f" (recall {one['tuned']['recall']:.2f})"), key, one)
        for key, one in results["systems"].items()
    ]
    found.sort(key=lambda entry: entry[2]["memory"]["RssAnon"])
    figure, axes = pyplot.subplots(figsize=(9, 0.36 * len(found) + 1.3), layout="constrained")
    _title(axes, results, f"Memory of its own after opening and 1,000 searches at recall ≥ {FLOOR}, MiB")
    rows = [(name, one["memory"]["RssAnon"] / 2**20, _colour(key, one)) for name, key, one in found]
    _bars(axes, rows, "{:,.1f}")
    raw = results["data"]["raw_float32_bytes"] / 2**20
    axes.axvline(raw, color="black", linewidth=0.8, linestyle=":")
    axes.annotate(
        "the raw vectors", (raw, 0.02), (4, 0), xycoords=("data", "axes fraction"), textcoords="offset points"
    )
    axes.set_xlabel(
        "RssAnon beyond the imports; blue ours, dark grey stores, light grey libraries that keep no records"
    )
    return figure
