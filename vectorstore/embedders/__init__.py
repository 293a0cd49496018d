"""Embedders: from texts to vectors, and who made them.

The one door to the libraries of the models. Importing it is light: torch and sentence_transformers come with
the first text that a `SentenceEmbedder` embeds.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import cast

from vectorstore.embedders.callables import CallableEmbedder, EmbedFunction
from vectorstore.embedders.cross import CrossEncoder
from vectorstore.embedders.hashing import HashEmbedder
from vectorstore.embedders.protocol import Embedder, EmbedderIdentity, Matrix, Progress
from vectorstore.embedders.recipes import HASH, MINILM, EmbedRecipe, load_embed_recipe
from vectorstore.embedders.sentence import SentenceEmbedder
from vectorstore.errors import ValidationError

__all__ = [
    "CallableEmbedder",
    "CrossEncoder",
    "EmbedFunction",
    "EmbedRecipe",
    "Embedder",
    "EmbedderIdentity",
    "HashEmbedder",
    "Matrix",
    "Progress",
    "SentenceEmbedder",
    "as_embedder",
    "load_embed_recipe",
]

_EXPECTED = (
    "expected an embedder, a function from texts to vectors, the name of a model ('minilm', 'hash',"
    " 'hash:512', a folder, a name on the hub), a recipe (.toml) or None"
)


def as_embedder(value: object) -> Embedder | None:
    """The embedder that a user means; nothing is loaded, called or downloaded (but for a recipe's model).

    Args:
        value: None for none; an embedder, returned as it is; a function from a list of texts to (n, d)
            numbers; "minilm", another model's name or a folder; "hash" or "hash:512"; a recipe (.toml).

    Raises:
        ValidationError: it is none of these.
        RecipeError: the recipe cannot be read or is wrong.
    """
    if value is None:
        return None
    if isinstance(value, Path):
        value = str(value)
    if isinstance(value, str):
        return _by_name(value)
    if isinstance(value, type):
        raise ValidationError(f"embedder: {_EXPECTED}, got the class {value.__name__}; make one: {value.__name__}()")
    if _is_embedder(value):
        return cast(Embedder, value)
    if callable(value):
        if hasattr(value, "encode"):
            # A sentence-transformers model: it is called with tokens, and its class's name is no identity.
            raise ValidationError(
                f"embedder: {type(value).__name__} has encode(), but no name to keep with its vectors; pass"
                " SentenceEmbedder(name_or_folder), or CallableEmbedder(model.encode, model=name)"
            )
        return CallableEmbedder(value)
    raise ValidationError(f"embedder: {_EXPECTED}, got {value!r}")


def _is_embedder(value: object) -> bool:
    """As isinstance(value, Embedder), but that asks for the identity (Python 3.11), which may download."""
    absent = object()
    return inspect.getattr_static(value, "identity", absent) is not absent and callable(getattr(value, "embed", None))


def _by_name(name: str) -> Embedder:
    kind, colon, size = name.partition(":")
    if kind == HASH:
        if not colon:
            return HashEmbedder()
        if not (size.isascii() and size.isdigit()):
            raise ValidationError(f"embedder: expected 'hash' or 'hash:' and a dimension, got {name!r}")
        return HashEmbedder(int(size))
    if name.endswith(".toml"):
        return load_embed_recipe(name).build()
    if not name:
        raise ValidationError(f"embedder: {_EXPECTED}, got ''")
    return SentenceEmbedder() if name == MINILM else SentenceEmbedder(name)
