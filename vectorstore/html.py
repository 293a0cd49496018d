"""What answers and records look like in a notebook: tables, and a map as one picture; HTML without scripts.

Texts of records are escaped: a notebook shows what is in a store, it does not run it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from html import escape

import numpy as np
import numpy.typing as npt

WIDTH, HEIGHT, MARGIN = 640, 420, 12
DRAWN = 3000
"""So many points of a map are drawn, evenly taken; a picture of all would make a notebook of many megabytes."""
NAMED = 12
"""So many values of a legend are written out."""
LONGEST = 200
# Okabe and Ito's colours, told apart with any colour vision; what needs more gets hues a golden angle apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#666666")


def table(caption: str, heads: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table of texts; long ones are cut."""
    lines = ("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def fields(caption: str, values: Mapping[str, object]) -> str:
    """A table of names and values; what is empty is left out."""
    return table(caption, ("field", "value"), ((name, _said(value)) for name, value in values.items() if _told(value)))


def _told(value: object) -> bool:
    return value is not None and value != "" and not (isinstance(value, list | tuple | dict) and not value)


def _said(value: object) -> object:
    """As a person would write it: numbers short, times to the second, lists with commas."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, list | tuple | frozenset):
        return ", ".join(str(_said(one)) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_said(one)}" for key, one in value.items())
    return value


def progress(done: int, total: int, words: str) -> str:
    """A bar with words beside it."""
    bar = f'<progress max="{max(total, 1)}" value="{done}" style="width: 16em; vertical-align: middle"></progress>'
    return f'<div style="font-variant-numeric: tabular-nums">{bar} {escape(words)}</div>'


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return escape(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def colour(place: int) -> str:
    """The colour of a place in a legend; grey for -1, a record without a value."""
    if place < 0:
        return "#bbbbbb"
    return PALETTE[place] if place < len(PALETTE) else f"hsl({(place * 137.508) % 360:.0f},55%,45%)"


def scatter(
    caption: str, points: npt.NDArray[np.float32], colours: npt.NDArray[np.int16], legend: Sequence[str]
) -> str:
    """Points on a plane as SVG.

    Args:
        caption: over it.
        points: (n, 2); both axes have one scale, so distances are what they are.
        colours: (n,) places in the legend, -1 for none.
        legend: values, the commonest first.
    """
    # np.unique: of fewer points than places, none is drawn twice.
    shown = np.unique(np.linspace(0, max(len(points) - 1, 0), min(len(points), DRAWN)).astype(np.intp))
    dots = []
    if len(points):
        low, high = points.min(axis=0), points.max(axis=0)
        room = np.array([WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN])
        scale = float((room / np.maximum(high - low, 1e-9)).min())
        places = MARGIN + room / 2 + (points[shown] - (low + high) / 2) * scale * (1, -1)
        for place in sorted(set(colours[shown].tolist()), key=lambda one: (one >= 0, -one)):  # the rarest on top
            at = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in places[colours[shown] == place])
            dots.append(f'<path d="{at}" stroke="{colour(place)}"/>')
    names = [
        f'<span style="color:{colour(place)}">●</span>&nbsp;{escape(name)}' for place, name in enumerate(legend[:NAMED])
    ]
    more = [f"and {len(legend) - NAMED} more"] if len(legend) > NAMED else []
    return (
        f'<figure style="margin:0"><figcaption>{escape(caption)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" fill="none"'
        f' stroke-width="4" stroke-linecap="round" stroke-opacity="0.7">{"".join(dots)}</svg>'
        f'<div style="max-width:{WIDTH}px">{" &ensp; ".join([*names, *more])}</div></figure>'
    )
