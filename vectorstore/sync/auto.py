"""Which index is best here: recipes built over the space's own vectors, measured, and the cheapest one chosen.

Nothing is guessed from names or sizes: each recipe that fits the memory and the time allowed is built over all
vectors, its operating points are measured, and searches through them are timed, without and with a filter. What was
found, and why the winner won, is kept with the index and shown in the plan of each answer.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vectorstore.errors import DerivedError, RecallTooLow, RecipeError, ValidationError
from vectorstore.recipes import BUILTIN_RECIPES, EXACT, Auto, IndexRecipe
from vectorstore.sync.core import Sync
from vectorstore.sync.publish import build_index, commit_index, publish, snapshot
from vectorstore.sync.telling import Progress
from vectorstore.sync.write import flush
from vectorstore.vectors import Allowed, Curve, Index, Live, Matrix, Segment, build, to_bytes
from vectorstore.vectors.measure import held_out

SHORTLIST = ("pq-fastscan", "ivf-pq-fastscan", "hnsw32-sq8", "hnsw32")
SAMPLE = 4_096
"""A build over so many rows tells the time and the space of the whole: rows x log rows, and rows."""

QUERIES = 48
_FILTERED = 0.1


@dataclass(frozen=True)
class Trial:
    """How one recipe did; `refused` says why it was left out, and figures that were not measured are NaN.

    Milliseconds are medians of whole searches on one thread, records not included.
    """

    recipe: str
    promised: float = math.nan
    milliseconds: float = math.nan
    filtered_milliseconds: float = math.nan
    bytes: float = math.nan
    seconds: float = math.nan
    refused: str = ""


def rebuild_best(sync: Sync, space_name: str, wanted: Auto, progress: Progress | None = None) -> list[Trial]:
    """Try the recipes, make the best one's index current; the trials, best first.

    Raises:
        ValidationError: the space has no vectors.
        Superseded: somebody compacted or published meanwhile; try again.
    """
    flush(sync, space_name)
    live = snapshot(sync, space_name)
    if live is None or not live.live_rows:
        raise ValidationError(f"{space_name}: there are no vectors to index; add records with text or vectors first")
    bare = dataclasses.replace(live, index=None, curve=None)
    queries = np.concatenate(held_out(live.segments[:-1], live.metric, QUERIES // 2, seed=3))
    few = np.random.default_rng(4).choice(live.rows, max(1, int(live.rows * _FILTERED)), replace=False)
    positions = np.sort(few if live.dead is None else few[~live.dead[few]])
    exact = Trial(EXACT.name, 1.0, *_times(bare, queries, positions, 1.0), 0.0, 0.0)
    trials, best, built = [exact], _cost(exact, wanted), None
    spent = 0.0
    for done, name in enumerate(SHORTLIST, 1):
        recipe = BUILTIN_RECIPES[name]
        started = time.perf_counter()
        trial, made = _try(bare, recipe, wanted, queries, positions, wanted.seconds - spent)
        spent += time.perf_counter() - started
        trials.append(trial)
        if made is not None and _cost(trial, wanted) < best:
            best, built = _cost(trial, wanted), (made, trial)
        if progress is not None:
            progress(done, len(SHORTLIST))
    trials.sort(key=lambda trial: (bool(trial.refused), _cost(trial, wanted)))
    if built is None:
        publish(sync, space_name, EXACT, live)
        return trials
    (index, curve), trial = built
    noted = dataclasses.replace(curve, note=_why(trials, wanted, live))
    with sync.catalog.write() as transaction:
        segments = [segment.id for segment in live.segments[:-1]]
        details = commit_index(
            sync, transaction, space_name, live, segments, index, noted, to_bytes(index), trial.seconds
        )
        transaction.notes.append(("publish", details))
    return trials


def _try(
    live: Live,
    recipe: IndexRecipe,
    wanted: Auto,
    queries: Matrix,
    positions: np.ndarray[tuple[int], np.dtype[np.int64]],
    left: float,
) -> tuple[Trial, tuple[Index, Curve] | None]:
    """The trial of one recipe, and what it built unless it was refused."""
    segments = live.segments[:-1]
    started = time.perf_counter()
    try:
        size, seconds = _estimate(recipe, segments, live)
        if wanted.memory is not None and size > wanted.memory:
            return Trial(recipe.name, bytes=size, refused=f"takes {size:.0f} bytes a vector"), None
        if seconds > left:
            return Trial(recipe.name, bytes=size, refused=f"would take about {seconds:.0f} s to build"), None
        index, curve = build_index(recipe, segments, live.metric, None)
    except (RecipeError, RecallTooLow, DerivedError) as error:
        return Trial(recipe.name, refused=str(error)), None
    size = len(to_bytes(index)) / index.rows
    if wanted.memory is not None and size > wanted.memory:
        return Trial(recipe.name, bytes=size, refused=f"takes {size:.0f} bytes a vector"), None
    seconds = time.perf_counter() - started
    point = curve.cheapest(wanted.recall, 10)
    if point is None:
        refused = f"reaches recall {curve.best:.4f} at most"
        return Trial(recipe.name, curve.best, bytes=size, seconds=seconds, refused=refused), None
    with_index = dataclasses.replace(live, index=index, curve=curve)
    times = _times(with_index, queries, positions, wanted.recall)
    return Trial(recipe.name, point.recall, *times, size, seconds), (index, curve)


def _estimate(recipe: IndexRecipe, segments: Sequence[Segment], live: Live) -> tuple[float, float]:
    """(bytes a vector, seconds) of a whole build, from one over the first rows."""
    rows = sum(segment.rows for segment in segments)
    if rows <= 2 * SAMPLE:
        return 0.0, 0.0
    first = max(segments, key=lambda segment: segment.rows)
    part = Segment(0, first.vectors[:SAMPLE], first.norms[:SAMPLE], 0, None)
    started = time.perf_counter()
    index = build(recipe, [part], live.metric)
    seconds = time.perf_counter() - started
    growth = rows * math.log(rows) / (part.rows * math.log(part.rows))
    return len(to_bytes(index)) / part.rows, seconds * growth


def _times(
    live: Live, queries: Matrix, positions: np.ndarray[tuple[int], np.dtype[np.int64]], recall: float
) -> tuple[float, float]:
    """(median milliseconds of a search, the same with a filter)."""
    allowed = Allowed(positions, live.index)

    def median(search: Callable[[Matrix], object]) -> float:
        search(queries[0])
        seconds = []
        for query in queries:
            started = time.perf_counter()
            search(query)
            seconds.append(time.perf_counter() - started)
        return float(np.median(seconds)) * 1000

    k = min(10, live.live_rows)
    return (
        median(lambda query: live.search(query, k, recall=recall)),
        median(lambda query: live.search(query, k, recall=recall, allowed=allowed)),
    )


def _cost(trial: Trial, wanted: Auto) -> float:
    if trial.refused:
        return math.inf
    return (1 - wanted.filtered) * trial.milliseconds + wanted.filtered * trial.filtered_milliseconds


def _why(trials: Sequence[Trial], wanted: Auto, live: Live) -> str:
    tried = ", ".join(
        f"{trial.recipe} ({trial.refused})" if trial.refused else f"{trial.recipe} {_cost(trial, wanted):.2f} ms"
        for trial in trials
    )
    memory = "" if wanted.memory is None else f", at most {wanted.memory:g} bytes a vector"
    filters = "" if not wanted.filtered else f", {wanted.filtered:.0%} of searches filtered"
    return f"chosen for recall {wanted.recall:g}{memory}{filters} over {live.live_rows} x {live.dim} among: {tried}"
