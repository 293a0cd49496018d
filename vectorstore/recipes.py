"""Index recipes: a FAISS factory string, how to search it, and when to use it.

A recipe is a frozen value; the catalog stores it with the index it made. Files are TOML (`indexes/*.toml`); the
defaults live here, so that an installed package needs no file. Unknown keys are an error.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vectorstore.errors import RecipeError

EFFORT = frozenset({"candidates", "efSearch", "nprobe"})
Point = dict[str, int]
_GRAPH = re.compile(r"(^|,)HNSW")


@dataclass(frozen=True)
class IndexRecipe:
    """How an index is built and searched.

    Attributes:
        name: shown in plans, file names and tables.
        factory: a FAISS factory string, or "exact" for no index at all; {parts}, {cells} and {dim} stand for numbers
            that follow from the vectors: parts of a product quantiser, cells of an inverted file, dimensions.
        points: search efforts, cheapest first; each names `candidates` (how many the index proposes for exact
            re-ranking, for k = 10) and, where the index has one, `efSearch` or `nprobe`.
        train_rows: at most this many rows train the index.
        construction: how many neighbours a graph considers for each new row (FAISS's efConstruction); None for FAISS's
            own 40. More take longer to build and make a search find the same with less effort.
        min_recall: recall@10 below which a rebuild is refused, at the most expensive point.
        when: when to use it, for people.
    """

    name: str
    factory: str
    points: tuple[Point, ...] = ()
    train_rows: int = 65_536
    construction: int | None = None
    min_recall: float = 0.9
    when: str = ""

    @property
    def inverted(self) -> bool:
        """Whether a search visits only some cells, so that rows in the others cannot be found."""
        return any("nprobe" in point for point in self.points)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as stored with an artifact; without `construction` where it is FAISS's own."""
        plain = {**dataclasses.asdict(self), "points": [dict(point) for point in self.points]}
        return plain if self.construction is not None else {key: plain[key] for key in plain if key != "construction"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "recipe") -> IndexRecipe:
        """A recipe from plain data.

        Raises:
            RecipeError: unknown or missing keys, or impossible values; the message names the allowed keys.
        """
        allowed = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(data) - allowed)
        if unknown:
            raise RecipeError(f"{where}: unknown key {unknown[0]!r}; the keys are: {', '.join(sorted(allowed))}")
        for key in ("name", "factory"):
            if not isinstance(data.get(key), str) or not data[key]:
                raise RecipeError(f"{where}.{key}: expected text, got {data.get(key)!r}")
        if not data["name"].replace("-", "").replace("_", "").isalnum():
            raise RecipeError(f"{where}.name: expected letters, digits, - and _, got {data['name']!r}")
        points = tuple(_point(point, f"{where}.points[{place}]") for place, point in enumerate(data.get("points", ())))
        if data["factory"] != "exact" and not points:
            raise RecipeError(f"{where}.points: expected at least one, such as {{candidates = 320}}")
        recipe = cls(**{**data, "points": points})
        if not isinstance(recipe.min_recall, int | float) or not 0 <= recipe.min_recall <= 1:
            raise RecipeError(f"{where}.min_recall: expected 0..1, got {recipe.min_recall!r}")
        if not isinstance(recipe.train_rows, int) or recipe.train_rows < 256:
            raise RecipeError(f"{where}.train_rows: expected at least 256, got {recipe.train_rows!r}")
        if "construction" in data:
            _check_construction(recipe, allowed, where)
        return recipe


@dataclass(frozen=True)
class Auto:
    """Let measurement choose the recipe: what the index is to be chosen for.

    Attributes:
        recall: the share of the true ten best that answers should have, 0..1.
        memory: at most so many bytes of index a vector; None for any.
        seconds: at most so long for all building and measuring together.
        filtered: the share of searches that will have a filter (one that a tenth of the rows pass), 0..1.
    """

    recall: float = 0.99
    memory: float | None = None
    seconds: float = 120.0
    filtered: float = 0.0

    def __post_init__(self) -> None:
        for name in ("recall", "filtered"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise RecipeError(f"auto.{name}: expected 0..1, got {value!r}")
        for name in ("memory", "seconds"):
            value = getattr(self, name)
            if value is None and name == "memory":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                raise RecipeError(f"auto.{name}: expected a number of at least 0, got {value!r}")


def _check_construction(recipe: IndexRecipe, keys: set[str], where: str) -> None:
    value = recipe.construction
    if _GRAPH.search(recipe.factory) is None:
        others = ", ".join(sorted(keys - {"construction"}))
        raise RecipeError(
            f"{where}.construction: only graphs (HNSW) have it, {recipe.factory!r} is none; its keys are: {others}"
        )
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RecipeError(f"{where}.construction: expected a whole number of at least 1, got {value!r}")


def _point(point: object, where: str) -> Point:
    if not isinstance(point, Mapping) or not set(point) <= EFFORT or "candidates" not in point:
        raise RecipeError(f"{where}: expected candidates and optionally efSearch or nprobe, got {point!r}")
    for key, value in point.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise RecipeError(f"{where}.{key}: expected a whole number of at least 1, got {value!r}")
    return dict(point)


def load_recipe(path: Path) -> IndexRecipe:
    """The recipe in a TOML file.

    Raises:
        RecipeError: no such file, not TOML, or a bad recipe.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, too deep
        raise RecipeError(f"{path}: is not TOML: {error}") from error
    return IndexRecipe.from_dict(data, str(path))


def _candidates(*numbers: int) -> tuple[Point, ...]:
    return tuple({"candidates": number} for number in numbers)


EXACT = IndexRecipe("exact", "exact", when="below about 10,000 rows, or when every answer must be exact")
PQ_FASTSCAN = IndexRecipe(
    "pq-fastscan",
    "PQ{parts}x4fs",
    _candidates(20, 30, 40, 60, 80, 100, 120, 160, 200, 240, 320, 480, 640, 960, 1280, 1920, 2560, 3840, 5120),
    train_rows=16_384,
    when="the default: half a byte for each part of some four dimensions, builds in seconds, any metric, any filter",
)
SIMHASH = IndexRecipe(
    "simhash512",
    "LSH512rt",
    _candidates(40, 80, 120, 160, 240, 320, 400, 480, 640, 960, 1280, 1920, 2560, 3840, 5120),
    when="nothing to train: 64 bytes a vector whatever its length, codes that never age; cosine only",
)
RABITQ = IndexRecipe(
    "rabitq",
    "RaBitQfs",
    _candidates(40, 80, 120, 160, 240, 320, 480, 640, 1280, 2560),
    when="nothing to train, one bit a dimension; needs long vectors",
)
IVF_PQ_FASTSCAN = IndexRecipe(
    "ivf-pq-fastscan",
    "IVF{cells},PQ{parts}x4fs",
    tuple(
        {"nprobe": nprobe, "candidates": candidates}
        for nprobe, candidates in (
            *((4, 40), (8, 80), (16, 120), (32, 160), (64, 240), (96, 320)),
            *((128, 480), (192, 640), (256, 640), (384, 960), (512, 1280)),
        )
    ),
    train_rows=131_072,
    when="a million vectors and more, or clear clusters; filters are answered by an exact scan",
)
HNSW = IndexRecipe(
    "hnsw32",
    "HNSW32,Flat",
    tuple({"efSearch": effort, "candidates": 20} for effort in (100, 160, 256, 400, 512, 640, 1024)),
    construction=128,
    when="many vectors that seldom change and are searched often, without selective filters; big, slow to build",
)
HNSW_SQ8 = IndexRecipe(
    "hnsw32-sq8",
    "HNSW32,SQ8",
    tuple(
        {"efSearch": effort, "candidates": candidates}
        for effort, candidates in (
            *((64, 30), (100, 40), (160, 40), (256, 60)),
            *((400, 60), (512, 80), (640, 80), (1024, 80)),
        )
    ),
    construction=128,
    when="as hnsw32 in a third of the space: many vectors that seldom change, without selective filters",
)
BUILTIN_RECIPES: dict[str, IndexRecipe] = {
    recipe.name: recipe for recipe in (EXACT, PQ_FASTSCAN, SIMHASH, RABITQ, IVF_PQ_FASTSCAN, HNSW, HNSW_SQ8)
}
DEFAULT = PQ_FASTSCAN
"""What automatic publishing uses; chosen by measurement (docs/adr/0004)."""

FALLBACKS = (PQ_FASTSCAN, SIMHASH, RABITQ)
"""What automatic publishing tries in turn, until one reaches its `min_recall`: those that build in seconds."""


def as_recipe(value: IndexRecipe | Auto | str | Path) -> IndexRecipe | Auto:
    """A recipe itself, the name of a built-in one, "auto", or a TOML file.

    Raises:
        RecipeError: neither a built-in name nor a file.
    """
    if isinstance(value, IndexRecipe | Auto):
        return value
    if value == "auto":
        return Auto()
    if isinstance(value, str) and value in BUILTIN_RECIPES:
        return BUILTIN_RECIPES[value]
    path = Path(value)
    if path.suffix != ".toml":
        raise RecipeError(
            f"{value}: no such recipe; use auto, {', '.join(BUILTIN_RECIPES)} or a path to a .toml file",
            field="recipe",
            value=value,
        )
    return load_recipe(path)
