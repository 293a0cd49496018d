"""Clustering recipes: a method, its options and when to use it.

A recipe is a frozen value; the registry stores it with the model that it made. Files are TOML
(`models/cluster/*.toml`); the built-in ones stand here, so that an installed package needs no file. Unknown keys are an
error.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vectorstore.errors import RecipeError

_OPTIONS: dict[str, dict[str, tuple[type, float]]] = {
    "kmeans": {"restarts": (int, 1), "iterations": (int, 1)},
    "spherical": {"restarts": (int, 1), "iterations": (int, 1)},
    "careful": {"restarts": (int, 1), "iterations": (int, 1)},
    "minibatch": {"restarts": (int, 1), "batch_rows": (int, 1), "epochs": (int, 1)},
    "hdbscan": {"min_size": (int, 2), "min_samples": (int, 1), "components": (int, 0), "max_rows": (int, 2)},
    "agglomerative": {"linkage": (str, 0), "max_rows": (int, 2)},
}
METHODS = tuple(_OPTIONS)
LINKAGES = ("ward", "average", "complete")


@dataclass(frozen=True)
class ClusterRecipe:
    """How records are clustered.

    Attributes:
        name: shown in reports and tables.
        method: "kmeans" and "spherical" (FAISS; spherical keeps centroids on the unit sphere), "careful" (k-means of
            scikit-learn: greedy k-means++ and full convergence), "minibatch", "hdbscan" (finds the number of clusters
            itself, leaves noise out) or "agglomerative".
        clusters: how many, when `fit` is not told; None for the square root of half the rows, 256 at most (Mardia,
            Kent & Bibby 1979, p. 365). hdbscan takes no number.
        options: of the method; see `models/cluster/*.toml`.
        when: when to use it, for people.
    """

    name: str
    method: str
    clusters: int | None = None
    options: Mapping[str, int | str] = dataclasses.field(default_factory=dict)
    when: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as stored with a model."""
        return {**dataclasses.asdict(self), "options": dict(self.options)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "recipe") -> ClusterRecipe:
        """A recipe from plain data.

        Raises:
            RecipeError: unknown or missing keys, or impossible values; the message names the allowed keys.
        """
        _known(data, [field.name for field in dataclasses.fields(cls)], where)
        for key in ("name", "method"):
            if not isinstance(data.get(key), str) or not data[key]:
                raise RecipeError(f"{where}.{key}: expected text, got {data.get(key)!r}")
        if not data["name"].replace("-", "").replace("_", "").isalnum():
            raise RecipeError(f"{where}.name: expected letters, digits, - and _, got {data['name']!r}")
        if data["method"] not in METHODS:
            raise RecipeError(f"{where}.method: expected one of {', '.join(METHODS)}, got {data['method']!r}")
        clusters = data.get("clusters")
        if clusters is not None and (isinstance(clusters, bool) or not isinstance(clusters, int) or clusters < 1):
            raise RecipeError(f"{where}.clusters: expected a whole number of at least 1, got {clusters!r}")
        if clusters is not None and data["method"] == "hdbscan":
            raise RecipeError(f"{where}.clusters: hdbscan finds the number of clusters itself; leave it out")
        if not isinstance(data.get("when", ""), str):
            raise RecipeError(f"{where}.when: expected text, got {data['when']!r}")
        options = data.get("options", {})
        if not isinstance(options, Mapping):
            raise RecipeError(f"{where}.options: expected a table, got {options!r}")
        allowed = _OPTIONS[data["method"]]
        _known(options, list(allowed), f"{where}.options")
        for key, value in options.items():
            _option(value, *allowed[key], f"{where}.options.{key}")
        return cls(**{**data, "options": dict(options)})

    def option(self, name: str) -> Any:
        """An option's value, or its default."""
        return self.options.get(name, _DEFAULTS.get(name))


_DEFAULTS: dict[str, int | str] = {
    "restarts": 4,
    "iterations": 25,
    "batch_rows": 1024,
    "epochs": 20,
    "min_size": 10,
    "min_samples": 5,
    "components": 32,
    "max_rows": 10_000,
    "linkage": "ward",
}


def _known(data: Mapping[str, Any], allowed: list[str], where: str) -> None:
    unknown = sorted(set(data) - set(allowed))
    if unknown:
        raise RecipeError(f"{where}: unknown key {unknown[0]!r}; the keys are: {', '.join(sorted(allowed))}")


def _option(value: object, kind: type, least: float, where: str) -> None:
    if kind is str:
        if value not in LINKAGES:
            raise RecipeError(f"{where}: expected one of {', '.join(LINKAGES)}, got {value!r}")
    elif isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RecipeError(f"{where}: expected a whole number of at least {least:g}, got {value!r}")


def load_cluster_recipe(path: Path) -> ClusterRecipe:
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
    return ClusterRecipe.from_dict(data, str(path))


BUILTIN_CLUSTER_RECIPES: dict[str, ClusterRecipe] = {
    recipe.name: recipe
    for recipe in (
        ClusterRecipe("kmeans", "kmeans", when="the default: any number of rows, any metric, fast"),
        ClusterRecipe("spherical", "spherical", when="texts and other vectors whose direction is what counts; fast"),
        ClusterRecipe(
            "kmeans-careful",
            "careful",
            options={"restarts": 10, "iterations": 300},
            when="the best k-means, for tens of thousands of rows: several times slower than kmeans",
        ),
        ClusterRecipe("minibatch", "minibatch", when="millions of rows, when kmeans takes too long; a little worse"),
        ClusterRecipe(
            "hdbscan", "hdbscan", when="the number of clusters is unknown and some records belong to none; dense groups"
        ),
        ClusterRecipe(
            "agglomerative",
            "agglomerative",
            options={"linkage": "ward", "max_rows": 15_000},
            when="up to 15,000 rows (2 GB of memory); the same whatever the seed",
        ),
    )
}


def as_cluster_recipe(value: ClusterRecipe | str | Path) -> ClusterRecipe:
    """A recipe itself, the name of a built-in one, or a TOML file.

    Raises:
        RecipeError: neither a built-in name nor a file.
    """
    if isinstance(value, ClusterRecipe):
        return ClusterRecipe.from_dict(value.to_dict(), f"recipe {value.name!r}")
    if isinstance(value, str) and value in BUILTIN_CLUSTER_RECIPES:
        return BUILTIN_CLUSTER_RECIPES[value]
    path = Path(value)
    if path.suffix != ".toml":
        names = ", ".join(BUILTIN_CLUSTER_RECIPES)
        raise RecipeError(f"{value}: no such clustering recipe; use {names} or a path to a .toml file")
    return load_cluster_recipe(path)
