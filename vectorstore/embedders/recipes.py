"""Embedding recipes: a TOML file that names an embedder, its options and when to use it.

Owns the reading and the checking of `models/embed/*.toml`. An unknown key is an error, never a silent
default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vectorstore.embedders.hashing import HashEmbedder
from vectorstore.embedders.protocol import Embedder
from vectorstore.embedders.sentence import SentenceEmbedder
from vectorstore.embedders.weights import DEFAULT_MODEL
from vectorstore.errors import RecipeError, ValidationError

HASH = "hash"
MINILM = "minilm"

_KEYS = {"name": str, "embedder": str, "dim": int, "when": str}
_SENTENCE_OPTIONS = {"batch_size": int, "device": str, "precision": str}


@dataclass(frozen=True)
class EmbedRecipe:
    """One decision about embedding.

    Attributes:
        name: the recipe's name, that of its file without .toml.
        embedder: "hash", "minilm", a folder or a name on the hub.
        dim: numbers in a vector; the embedder must make so many.
        when: when to use it, for people.
        options: arguments of the embedder beside its model and dim.
    """

    name: str
    embedder: str
    dim: int
    when: str
    options: Mapping[str, int | str]

    def build(self) -> Embedder:
        """The embedder that the recipe describes; loads no model.

        Raises:
            RecipeError: it makes vectors of another dimension, or an option has an impossible value.
            EmbedderError: the model's files cannot be had.
        """
        try:
            if self.embedder == HASH:
                return HashEmbedder(self.dim)
            model = DEFAULT_MODEL if self.embedder == MINILM else self.embedder
            embedder = SentenceEmbedder(model, **self.options)  # type: ignore[arg-type]  # load_embed_recipe checked them
        except ValidationError as error:
            raise RecipeError(f"embedding recipe {self.name!r}: {error}") from error
        if embedder.identity.dim != self.dim:
            raise RecipeError(
                f"embedding recipe {self.name!r}.dim: says {self.dim}, {self.embedder!r} makes vectors of"
                f" {embedder.identity.dim}; write dim = {embedder.identity.dim}"
            )
        return embedder


def load_embed_recipe(path: str | Path) -> EmbedRecipe:
    """The recipe in a TOML file.

    Raises:
        RecipeError: there is no such file, it is no TOML, or a key is unknown, missing or of the wrong type.
    """
    try:
        parsed = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"embedding recipe {path}: cannot be read ({error})") from error
    given = parsed.pop("options", {})
    _check_keys(f"embedding recipe {path}", parsed, _KEYS, required=True)
    if not isinstance(given, dict):
        raise RecipeError(f"embedding recipe {path}: options must be a table, got {given!r}")
    allowed = {} if parsed["embedder"] == HASH else _SENTENCE_OPTIONS
    _check_keys(f"embedding recipe {path}: options", given, allowed, required=False)
    return EmbedRecipe(**parsed, options=given)


def _check_keys(where: str, table: Mapping[str, object], allowed: Mapping[str, type], *, required: bool) -> None:
    """Refuse keys that are unknown, missing (if all are required) or of another type."""
    unknown = sorted(set(table) - set(allowed))
    if unknown:
        raise RecipeError(f"{where}: unknown keys {unknown}; allowed are {sorted(allowed)}")
    missing = sorted(set(allowed) - set(table))
    if required and missing:
        raise RecipeError(f"{where}: missing keys {missing}")
    for key, value in table.items():
        if type(value) is not allowed[key]:
            raise RecipeError(f"{where}.{key}: expected {allowed[key].__name__}, got {value!r}")
