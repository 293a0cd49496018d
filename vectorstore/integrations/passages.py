"""The kind that frameworks keep their texts in, and how a store is found for them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pydantic

from vectorstore.embedders import CallableEmbedder
from vectorstore.errors import NotFound, ValidationError
from vectorstore.records import EMBEDDED, INDEXED, Record
from vectorstore.store import Store
from vectorstore.store import open as open_store

TABLE = "passages"
EVERYTHING = {"version__gte": 1}
"""A filter that all records match, for those who want to delete them all."""


class Passage(Record, table=TABLE):
    """A text with metadata, as retrieval frameworks think of documents and nodes.

    `document` is the id of the text that it was cut from; `node` what a framework needs beside text and metadata.
    """

    text: Annotated[str, EMBEDDED] = ""
    metadata: dict[str, pydantic.JsonValue] = pydantic.Field(default_factory=dict)
    document: Annotated[str | None, INDEXED] = None
    node: dict[str, pydantic.JsonValue] = pydantic.Field(default_factory=dict)


def passages(table: str = TABLE) -> type[Passage]:
    """The kind in a table of another name: one store holds several collections of passages.

    Raises:
        ValidationError: no name for a table.
    """
    if table == TABLE:
        return Passage
    return type("Passage", (Passage,), {"__module__": __name__, "__doc__": Passage.__doc__}, table=table)


def store_of(
    place: Store | str | os.PathLike[str],
    table: str,
    embed: Callable[[Sequence[str]], Any] | None = None,
    name: str = "",
    **options: Any,
) -> tuple[Store, bool]:
    """(a store that has the table, whether it was opened here).

    Args:
        place: an open store, or the path of one (":memory:" for a scratch one).
        table: of passages.
        embed: makes vectors of texts; None for what the store has, by default all-MiniLM-L6-v2.
        name: of what makes them, kept with the store: another one later is refused.
        options: of `vectorstore.open`.

    Raises:
        NotFound: an open store without the table.
    """
    if isinstance(place, Store):
        if options:
            raise ValidationError(f"{', '.join(options)}: is decided where the store is opened")
        if table not in place.kinds:
            raise NotFound(
                f"the store has no kind {table!r}; open it with kinds=[passages({table!r})], "
                "from vectorstore.integrations.passages import passages"
            )
        return place, False
    embedder: dict[str, Any] = {} if embed is None else {"embedder": CallableEmbedder(embed, model=name)}
    kinds = [*options.pop("kinds", ()), passages(table)]
    return open_store(place, kinds=kinds, **embedder, **options), True


def name_of(model: Any) -> str:
    """A model's own name where it says it, else its class."""
    for field in ("model", "model_name", "model_id"):
        if isinstance(known := getattr(model, field, None), str) and known:
            return known
    return f"{type(model).__module__}.{type(model).__qualname__}"
