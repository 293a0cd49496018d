"""Engines outside the store that serve searches: Milvus, and a folder of this machine for trying things out.

`address_of` reads what `vs.open(index=...)` is given; `connect` makes the engine's collection object. pymilvus is
loaded when a Milvus collection is first asked, not before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from vectorstore.engines.expressions import expression, fields_of, named
from vectorstore.engines.protocol import MAX_BYTES, STAMP, Caps, Field, Rows, VectorIndex, marks_of
from vectorstore.errors import ValidationError

__all__ = [
    "MAX_BYTES",
    "STAMP",
    "Address",
    "Caps",
    "Field",
    "Rows",
    "VectorIndex",
    "address_of",
    "connect",
    "expression",
    "fields_of",
    "marks_of",
    "named",
]

_OPTIONS = {
    "timeout": "seconds a call may take, 10",
    "shards": "of a collection, 1",
    "replicas": "of a collection, 1",
    "index": "IVF_SQ8 (the default), HNSW or FLAT",
    "nlist": "cells of an IVF_SQ8 index, 1024",
    "M": "links of an HNSW index, 32",
    "efConstruction": "of an HNSW index, 360",
    "token": "instead of user:password",
    "tls": "1 for https",
    "ca": "a PEM file of certificates to trust, with tls=1",
}


@dataclass(frozen=True)
class Address:
    """Where an engine is. `name` is what the catalog keeps: no password, no options."""

    scheme: str
    place: str
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """The address without what is secret or may change."""
        database = self.options.get("db")
        return f"{self.scheme}://{self.place}{f'/{database}' if database else ''}"


def address_of(text: str) -> Address:
    """Read `milvus://[user:password@]host[:19530][/database][?option=value]`, or `faiss:/folder`.

    What is special there is written with %, in a password too. Options of Milvus: timeout, shards, replicas, index,
    nlist, M, efConstruction, token, tls, ca; see docs/scale.md.

    Raises:
        ValidationError: it is neither; the message names what is allowed.
    """
    if text.startswith("faiss:") and len(text) > len("faiss:"):
        return Address("faiss", str(Path(text.removeprefix("faiss:").removeprefix("//")).absolute()))
    try:
        parts = urlsplit(text)
        port = parts.port or 19530
    except ValueError as error:
        raise ValidationError(f"index: expected milvus://host:19530, {error}") from None
    if parts.scheme != "milvus" or not parts.hostname:
        raise ValidationError(f"index: expected milvus://host:19530 or faiss:/folder, got {text!r}")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - _OPTIONS.keys())
    if unknown:
        raise ValidationError(f"index: unknown option {unknown[0]!r}; the options are: {', '.join(_OPTIONS)}")
    if options.get("index", "FLAT") not in ("IVF_SQ8", "HNSW", "FLAT"):
        raise ValidationError(f"index: index: expected {_OPTIONS['index']}, got {options['index']!r}")
    for name in sorted(options.keys() - {"index", "token", "tls", "ca"}):
        try:
            if not 0 < float(options[name]) < 1e6 or (name != "timeout" and int(options[name]) < 1):
                raise ValueError
        except ValueError:
            raise ValidationError(f"index: {name}: expected a number above 0, got {options[name]!r}") from None
    if parts.username:
        options.setdefault("token", f"{unquote(parts.username)}:{unquote(parts.password or '')}")
    if parts.path.strip("/"):
        options["db"] = parts.path.strip("/")
    return Address("milvus", f"{parts.hostname}:{port}", options)


def connect(address: Address, collection: str, dim: int, metric: str, fields: Sequence[Field]) -> VectorIndex:
    """A collection of an engine; nothing is asked of it yet."""
    if address.scheme == "faiss":
        from vectorstore.engines.faiss import Flat

        return Flat(Path(address.place), collection, dim, metric, fields)
    from vectorstore.engines.milvus import Milvus

    scheme = "https" if address.options.get("tls") == "1" else "http"
    return Milvus(f"{scheme}://{address.place}", collection, dim, metric, fields, address.options)
