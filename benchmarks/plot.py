"""The picture of a run: search, adding and memory by size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from benchmarks.report import by_size, judged

Sizes = dict[int, dict[str, Any]]

# Okabe and Ito's palette, told apart with any colour vision; the store is always the same blue.
STORE, FLAT, NUMPY, RECIPE, GRAPH = "#0072B2", "#D55E00", "#999999", "#009E73", "#CC79A7"
CONTESTANTS = {
    "store": ("store, with records", STORE, "o-"),
    "faiss flat": ("FAISS flat", FLAT, "s--"),
    "numpy": ("numpy", NUMPY, "x:"),
    "recipe raw, re-ranked": ("FAISS, same recipe + re-rank", RECIPE, "^--"),
    "hnsw32": ("FAISS HNSW32", GRAPH, "d--"),
}


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the picture as PNG."""
    matplotlib.use("Agg")
    sizes = by_size(results)
    with pyplot.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, places = pyplot.subplots(2, 3, figsize=(13.5, 7.6), layout="constrained")
        _times(places[0, 0], sizes)
        _recalls(places[0, 1], sizes)
        _filters(places[0, 2], sizes[judged(results)], judged(results))
        _rates(places[1, 0], sizes)
        _growth(places[1, 1], sizes)
        _memory(places[1, 2], sizes)
        about = results["about"]
        figure.suptitle(
            f"The life of a store beside raw FAISS: {about['data']}, {about['cores']} cores, {about['date'][:10]}",
            fontsize=11,
        )
        figure.savefig(path, dpi=140)
        pyplot.close(figure)


def _by_size(axes: Axes, sizes: Sizes, title: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold", fontsize=9.5)
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xscale("log")
    # Two sizes less than a quarter apart would print their names over each other.
    shown: list[int] = []
    for size in sorted(sizes, reverse=True):
        if not shown or size < shown[-1] / 1.25:
            shown.append(size)
    axes.set_xticks(shown, [f"{size:,}" for size in shown])
    axes.minorticks_off()
    axes.set_xlabel("records")


def _log_values(axes: Axes, bottom: float, top: float | None = None) -> None:
    axes.set_yscale("log")
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _times(axes: Axes, sizes: Sizes) -> None:
    _by_size(axes, sizes, "Search, k = 10, one thread: p50 in ms")
    for name, (label, colour, style) in CONTESTANTS.items():
        points = [(size, found["search"][name]["p50_ms"]) for size, found in sizes.items() if name in found["search"]]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, label=label, linewidth=1.6, markersize=5)
    _log_values(axes, 0.01)
    axes.legend(frameon=False, fontsize=8)


def _recalls(axes: Axes, sizes: Sizes) -> None:
    _by_size(axes, sizes, "Delivered recall@10")
    for name in ("store", "recipe raw, re-ranked", "hnsw32"):
        label, colour, style = CONTESTANTS[name]
        points = [(size, found["search"][name]["recall"]) for size, found in sizes.items() if name in found["search"]]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, label=label, linewidth=1.6, markersize=5)
    axes.axhline(0.99, color="black", linewidth=0.8, linestyle=":")
    axes.annotate("asked for: 0.99", (0.98, 0.99), xycoords=("axes fraction", "data"), ha="right", va="top")
    lowest = min(line.get_ydata().min() for line in axes.lines[:-1])  # type: ignore[union-attr]
    axes.set_ylim(min(0.98, lowest - 0.002), 1.001)
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def _filters(axes: Axes, found: dict[str, Any], size: int) -> None:
    axes.set_title(f"Filtered search, {size:,} records: p50 in ms", loc="left", fontweight="bold", fontsize=9.5)
    names = {"none": "no filter", "share-50": "50 %", "share-10": "10 %", "share-1": "1 %", "share-0.1": "0.1 %"}
    times = [found["search"]["store"]["p50_ms"], *(found["filters"][name]["p50_ms"] for name in list(names)[1:])]
    recalls = [found["search"]["store"]["recall"], *(found["filters"][name]["recall"] for name in list(names)[1:])]
    bars = axes.bar(list(names.values()), times, color=["#56B4E9", *[STORE] * 4], width=0.65)
    axes.bar_label(bars, [f"{time:.2f}\nrecall {share:.3f}" for time, share in zip(times, recalls, strict=True)])
    axes.set_ylim(0, max(times) * 1.22)
    axes.set_xlabel("the filter keeps")


def _rates(axes: Axes, sizes: Sizes) -> None:
    _by_size(axes, sizes, "Adding: records a second")
    for label, stage, name, colour, style in (
        ("objects, batches of 10,000", "add", "records_per_s", STORE, "o-"),
        ("dicts, batches of 10,000", "add", "dicts_records_per_s", "#56B4E9", "v--"),
        ("with publishing in the background", "add_published", "records_per_s", RECIPE, "^--"),
        ("one by one, each durable", "upkeep", "single_adds_per_s", FLAT, "s--"),
    ):
        values = [found[stage][name] for found in sizes.values()]
        axes.plot(list(sizes), values, style, color=colour, label=label, linewidth=1.6, markersize=5)
    _log_values(axes, 100, 900_000)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _growth(axes: Axes, sizes: Sizes) -> None:
    axes.set_title(
        f"Adding up to {max(sizes):,}: records a second",
        loc="left",
        fontweight="bold",
        fontsize=9.5,
    )
    batches = sizes[max(sizes)]["add"]["batches"]
    rates = [batch["records"] / batch["seconds"] for batch in batches]
    axes.plot([batch["start"] for batch in batches], rates, "o-", color=STORE, markersize=4, linewidth=1.4)
    axes.grid(True, color="#e6e6e6", linewidth=0.8)
    axes.set_ylim(0, max(rates) * 1.15)
    axes.set_xlim(-0.02 * max(sizes), max(sizes))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("records already there, batches of 10,000")
    axes.xaxis.set_major_locator(MaxNLocator(6))


def _memory(axes: Axes, sizes: Sizes) -> None:
    _by_size(axes, sizes, "Memory while searching / raw float32 vectors")
    for name, label, colour in (
        ("store", "store", STORE),
        ("flat", "FAISS flat", FLAT),
        ("hnsw", "FAISS HNSW32", GRAPH),
    ):
        for part, style, words in (("RssAnon", "o-", "its own"), ("RssFile", "o:", "file pages, reclaimable")):
            if part == "RssFile" and name != "store":
                continue
            points = [
                (size, found["memory"][name][part] / found["data"]["raw_float32_bytes"])
                for size, found in sizes.items()
                if name in found["memory"]
            ]
            if points:
                text = f"{label}, {words}"
                axes.plot(*zip(*points, strict=True), style, color=colour, label=text, linewidth=1.6, markersize=5)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
