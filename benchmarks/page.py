"""The report of all results, `benchmarks/results/README.md`, and the plots in it.

Sections are made of the JSON files that are there; full tables stand in each benchmark's own page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks import figures
from benchmarks.figures import RESULTS

# Okabe and Ito's palette, told apart with any colour vision.
BLUE, RED, GREEN, GOLD, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#8A8A8A"
SIDES = {"dense": BLUE, "text": GREY, "hybrid": GREEN}
Results = dict[str, Any]


def _plain(axes: Axes, title: str, axis: str = "x") -> None:
    axes.set_title(title, loc="left", fontweight="bold", fontsize=9.5)
    axes.grid(True, axis=axis, color="#e8e8e8", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def _named(axes: Axes, names: Sequence[str]) -> None:
    """Names down the left side, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def draw_retrieval(results: Results) -> Figure:
    """nDCG@10 of each way to search, with the bounds of its mean."""
    sets = results["sets"]
    figure, places = pyplot.subplots(1, len(sets), figsize=(6.4 * len(sets), 4.8), layout="constrained", squeeze=False)
    for axes, (name, one) in zip(places[0], sets.items(), strict=True):
        rows = sorted(one["rows"], key=lambda row: -row["nDCG@10"])
        _plain(axes, f"{name}, {one['queries']} questions")
        for place, row in enumerate(rows):
            low, high = row["bounds"]["nDCG@10"]
            again = "re-ranked" in row["method"]
            colour = SIDES[row["method"].split(",")[0]]
            axes.plot([low, high], [place, place], color=colour, linewidth=1.6)
            axes.plot(row["nDCG@10"], place, "o", color=colour, markerfacecolor="white" if again else colour, mew=1.6)
        _named(axes, [row["method"] + (f" ({row['tokenizer']})" if row["tokenizer"] else "") for row in rows])
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("nDCG@10; lines: 95 %; hollow: re-ranked")
    return figure


def draw_analogies(results: Results) -> Figure:
    """Accuracy on each set, beside what plain closeness reaches."""
    rows: list[tuple[str, float, str]] = []
    if "google" in results:
        size, of = list(results["google"]["sizes"].items())[-1]
        for name, one in of.items():
            said = f"{name}, {one['questions']:,} of them" if "gensim" in name else name
            rows.append((f"Google, {int(size):,} words: {said}", one["accuracy"], GREY if "gensim" in name else BLUE))
    for key, title in (("scan", "SCAN"), ("stories", "StoryAnalogy")):
        if key in results:
            accuracy = results[key]["accuracy"].items()
            rows += [(f"{title}: {name}", values[0], GREY if "cosine" in name else BLUE) for name, values in accuracy]
    figure, axes = pyplot.subplots(figsize=(8.4, 0.36 * len(rows) + 1.1), layout="constrained")
    _plain(axes, "Answered right")
    axes.barh(range(len(rows)), [row[1] for row in rows], color=[row[2] for row in rows], height=0.62)
    for place, row in enumerate(rows):
        axes.annotate(f"{row[1]:.3f}", (row[1], place), (5, 0), textcoords="offset points", va="center", fontsize=8.5)
    _named(axes, [row[0] for row in rows])
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the questions; blue ours, grey gensim and plain cosine")
    return figure


def draw_clusters(results: Results) -> Figure:
    """Agreement with the true labels, recipe by recipe, and the time that each took."""
    sets = results["sets"]
    figure, places = pyplot.subplots(1, len(sets), figsize=(4.6 * len(sets), 2.9), layout="constrained", squeeze=False)
    for axes, (name, one) in zip(places[0], sets.items(), strict=True):
        _plain(axes, f"{name}: {one['clusters']} labels")
        for place, row in enumerate(one["recipes"]):
            axes.plot(row["nmi"], place, "o", color=BLUE, label=None if place else "NMI")
            axes.plot(row["ari"], place, "o", color=GOLD, label=None if place else "ARI")
            axes.annotate(f"{row['seconds']:.1f} s", (1.0, place), (-4, 0), textcoords="offset points", va="center",
                          ha="right", fontsize=8, color="#555555")  # fmt: skip
        _named(axes, [row["recipe"] for row in one["recipes"]])
        axes.set_xlim(-0.03, 1)
        axes.set_xlabel("1 is perfect; at the right: one thread's time")
        if axes is not places[0][0]:
            axes.set_yticklabels([])
    places[0][0].legend(frameon=False, fontsize=8.5, loc="upper left")
    return figure


def draw_recall(results: Results) -> Figure:
    """Recall that was asked for, promised and delivered."""
    figure, axes = pyplot.subplots(figsize=(7.4, 3.4), layout="constrained")
    _plain(axes, "Recall@10: asked, promised, delivered")
    names, place = [], 0
    for name, one in results.items():
        for asked, row in one["targets"].items():
            axes.plot(float(asked), place, "|", color="black", markersize=13, label="asked" if not place else None)
            axes.plot(row["promised"], place, "o", color=GOLD, label="promised" if not place else None)
            axes.plot(row["delivered"], place, "o", color=BLUE, label="delivered" if not place else None)
            names.append(f"{name}, {asked}")
            place += 1
    _named(axes, names)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_work(results: Results) -> Figure:
    """Rates of workflows."""
    rates = {name: one["median"] for name, one in results["rates"].items()}
    figure, axes = pyplot.subplots(figsize=(8.4, 0.34 * len(rates) + 1.1), layout="constrained")
    _plain(axes, f"Workflows of {results['items']:,} analogies, durable: items a second")
    axes.barh(range(len(rates)), list(rates.values()), color=BLUE, height=0.62)
    for place, rate in enumerate(rates.values()):
        axes.annotate(f"{rate:,.0f}", (rate, place), (5, 0), textcoords="offset points", va="center", fontsize=8.5)
    _named(axes, list(rates))
    axes.set_xlim(0, max(rates.values()) * 1.15)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    return figure


# Result -> (its title, its table among `figures`, its plot); a plot that a benchmark draws itself is named.
SECTIONS: tuple[tuple[str, str, str, Callable[[Results], Figure] | str], ...] = (
    ("lifecycle", "The life of a store, by size", "growth", "lifecycle.png"),
    ("peers", "Beside other stores", "peers", "peers-recall-qps.png"),
    ("retrieval", "Do the answers help?", "retrieval", draw_retrieval),
    ("recall", "Is recall kept?", "", draw_recall),
    ("analogies", "Analogies", "knowledge", draw_analogies),
    ("clusters", "Clusters", "", draw_clusters),
    ("remembering", "Long memory", "memory", ""),
    ("work", "Work", "work", draw_work),
    ("packaging", "Installing", "installing", ""),
)
FULL = {
    "lifecycle": "the life of a store",
    "peers": "peers",
    "peers-nearest": "the nearest four once more",
    "retrieval": "retrieval",
    "recall": "recall",
    "analogies": "analogies",
    "clusters": "clusters",
    "embedding": "embedding",
    "remembering": "memories",
    "lattice": "the lattice",
    "states": "states",
    "work": "workflows",
    "contracts": "contracts and the trail",
    "backup": "backups",
    "interchange": "export and import",
    "serving": "the service",
    "packaging": "installing and importing",
}


def text(results: Path = RESULTS) -> str:
    """The report as Markdown."""
    there = [name for name in FULL if (results / f"{name}.md").exists()]
    lines = [
        "# Measured",
        "",
        "Made by `make bench` (`benchmarks/page.py`) from the results beside it; [how it is measured](../README.md).",
        "All figures, with machines, versions and methods: "
        + ", ".join(f"[{FULL[name]}]({name}.md)" for name in there)
        + ".",
    ]
    for name, title, table, plot in SECTIONS:
        if not (results / f"{name}.json").exists():
            continue
        lines += ["", f"## {title}", ""]
        if table:
            lines += [figures.TABLES[table](partial(figures.read, results)).rstrip(), ""]
        if plot:
            lines += [f"![{title}]({plot if isinstance(plot, str) else f'{name}.png'})", ""]
        lines.append(f"[All of it]({name}.md).")
    return "\n".join(lines) + "\n"


def draw(results: Path = RESULTS) -> None:
    """The plots that no benchmark draws itself."""
    matplotlib.use("Agg")
    with pyplot.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for name, _, _, plot in SECTIONS:
            if callable(plot) and (results / f"{name}.json").exists():
                figure = plot(figures.read(results, name))
                figure.savefig(results / f"{name}.png", dpi=120)
                pyplot.close(figure)


def main() -> None:
    """Write the report and its plots."""
    (RESULTS / "README.md").write_text(text(), encoding="utf-8")
    draw()


if __name__ == "__main__":
    main()
