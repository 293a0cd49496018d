"""A folder of Chroma, read without Chroma: documents, metadata and vectors of its collections.

`chroma.sqlite3` holds the records (tables collections, segments, embeddings, embedding_metadata) and a queue of what is
not yet in an index; a folder for each index holds the vectors of the rest, as hnswlib writes them. Tested with folders
of chromadb 1.5.9; the tables are those of every version since 0.4. Collections compared by cosine come with vectors of
length one: Chroma keeps no others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.errors import NotFound, ValidationError
from vectorstore.ids import check_id
from vectorstore.interchange.hnswlib import read_graph, read_labels
from vectorstore.interchange.items import NO_VECTORS, Item, Source, Vector
from vectorstore.storage.foreign import Foreign, foreign

FILE = "chroma.sqlite3"
_DOCUMENT = "chroma:document"
_DELETE = 3
_FOLDER = "urn:chroma:segment/vector/hnsw-local-persisted"


@dataclass(frozen=True)
class _Collection:
    """One collection: its name, dimension, and the segments of its records and of its index."""

    id: str
    name: str
    dim: int | None
    records: str
    index: str | None


def read_chroma(path: Path, kind: str | None = None, collection: str | None = None) -> Source:
    """The records of one collection, or of all, whose ids then begin with their collection's name.

    Args:
        path: the folder of a `PersistentClient`, not in use.
        kind: of the records; concepts unless said. A document becomes the definition, a `name` or `title` in the
            metadata the name, other metadata `extra`, the collection's name the domain.
        collection: only this one.

    Raises:
        ValidationError: it is no such folder, or damaged. NotFound: no such collection.

    Memory: the vectors of one collection.
    """
    if not (path / FILE).is_file():
        raise ValidationError(f"{path}: holds no {FILE}, as a folder of Chroma's PersistentClient does")
    with foreign(path / FILE) as database:
        found = _collections(database)
        if collection is not None:
            names = [each.name for each in found]
            found = [each for each in found if each.name == collection]
            if not found:
                raise NotFound(f"{path}: no collection {collection!r}; it has: {', '.join(names)}")
        for each in found:
            _check(each, database.path)
        segments = {each.records for each in found}
        total = sum(row["segment_id"] in segments for row in database.rows("embeddings", ["segment_id"]))
    source = Source(path, lambda: iter(()), unit="record", total=total, lengths=_lengths(found))

    def items() -> Iterator[Item]:
        source.left_out.clear()
        place = 0
        with foreign(path / FILE) as database:
            for each in found:
                prefix = f"{each.name}:" if len(found) > 1 else ""
                for item in _items(database, each, path, kind or "concepts", prefix, source):
                    place += 1
                    yield item._replace(place=place)

    source.read = items
    return source


def _lengths(found: list[_Collection]) -> str:
    """What to do about collections whose vectors differ in length."""
    dims = {each.name: each.dim for each in found if each.dim is not None}
    if len(set(dims.values())) < 2:
        return ""
    listed = ", ".join(f"{name} {dim}" for name, dim in dims.items())
    return (
        f"its collections differ ({listed} dimensions): import one at a time, with collection={json.dumps(min(dims))}, "
        "into a kind or store of its own, or all of them with vectors=False"
    )


def _collections(database: Foreign) -> list[_Collection]:
    wanted = {"collections", "segments", "embeddings", "embedding_metadata", "embeddings_queue"}
    if not wanted <= database.tables:
        raise ValidationError(f"{database.path}: lacks the tables {', '.join(sorted(wanted - database.tables))}")
    rows = list(database.rows("collections", ["id", "name", "dimension"], order="name"))
    for row in rows:
        _text(row["name"], f"{database.path}: collections: name")
    scopes: dict[str, dict[str, str]] = {}
    for row in database.rows("segments", ["id", "type", "scope", "collection"]):
        if row["scope"] == "METADATA" or row["type"] == _FOLDER:
            scopes.setdefault(row["collection"], {})[row["scope"]] = row["id"]
    return [
        _Collection(row["id"], row["name"], row["dimension"], here["METADATA"], here.get("VECTOR"))
        for row in rows
        if (here := scopes.get(row["id"])) is not None and "METADATA" in here
    ]


def _check(each: _Collection, path: Path) -> None:
    where = f"{path}: {each.name}"
    if each.index is not None:
        _text(each.index, f"{where}: the id of its index")
    if each.dim is not None and (not isinstance(each.dim, int) or each.dim < 1):
        raise ValidationError(f"{where}: dimension: expected a whole number of at least 1, got {each.dim!r}")


def _text(value: Any, where: str) -> str:
    """The value, if it is a text: SQLite lets a column of texts hold bytes."""
    if not isinstance(value, str):
        raise ValidationError(f"{where}: expected text, got {value!r}")
    return value


def _items(database: Foreign, each: _Collection, path: Path, kind: str, prefix: str, source: Source) -> Iterator[Item]:
    vectors = _vectors(database, each, path)
    said: dict[int, dict[str, Any]] = {}
    names: dict[int, str] = {}
    for row in database.rows("embeddings", ["id", "segment_id", "embedding_id"], order="id"):
        if row["segment_id"] == each.records:
            where = f"{path / FILE}: {each.name}: record {row['id']}: embedding_id"
            names[row["id"]] = _text(row["embedding_id"], where)
    values = ["string_value", "int_value", "float_value", "bool_value"]
    for table, listed in (("embedding_metadata", False), ("embedding_metadata_array", True)):
        if table not in database.tables:
            continue
        for row in database.rows(table, ["id", "key", *values], order="id"):
            if row["id"] in names:
                where = f"{path / FILE}: {each.name}: record {row['id']}"
                _take(said.setdefault(row["id"], {}), row, listed, where)
    for number, name in names.items():
        vector = vectors.get(name)
        if vector is None:
            source.left_out["vectors that are in no file"] = source.left_out.get("vectors that are in no file", 0) + 1
        record = _record(prefix + name, name, each.name, said.get(number, {}), number)
        yield Item(kind, record, 0, "", NO_VECTORS if vector is None else {"text": Vector(vector)})


def _take(said: dict[str, Any], row: dict[str, Any], listed: bool, where: str) -> None:
    value = next((row[name] for name in ("string_value", "int_value", "float_value") if row[name] is not None), None)
    if row["bool_value"] is not None:
        value = bool(row["bool_value"])
    if listed:
        values = said.setdefault(row["key"], [])
        if not isinstance(values, list):
            raise ValidationError(f"{where}: {row['key']!r} is both a value and a list; remove one of them with Chroma")
        values.append(value)
    else:
        said[row["key"]] = value


def _record(full: str, name: str, domain: str, said: dict[str, Any], number: int) -> dict[str, Any]:
    extra = {key: value for key, value in said.items() if key != _DOCUMENT}
    try:
        full = check_id(full)
    except ValueError:  # an id with a slash, or a long one
        extra["chroma_id"] = name
        full = f"chroma:{domain[:200].replace('/', '_').replace('..', '_')}:#{number}"
    title = next(
        (extra.pop(key) for key in ("name", "title") if isinstance(extra.get(key), str) and extra[key].strip()), name
    )
    record = {"id": full, "name": title[:1000], "domain": domain, "extra": extra}
    document = said.get(_DOCUMENT)
    return record if document is None else {**record, "definition": document}


def _vectors(database: Foreign, each: _Collection, path: Path) -> dict[str, Any]:
    """Id -> (d,) float32 vector: those of the index, and over them what the queue says, in its order."""
    found: dict[str, Any] = {}
    if each.index is not None and each.dim is not None:
        folder = path / Path(each.index).name
        if (folder / "index_metadata.pickle").is_file():
            graph = read_graph(folder, each.dim)
            labels = read_labels(folder / "index_metadata.pickle")
            found = {name: graph[label] for name, label in labels.items() if label in graph}
    columns = ["seq_id", "operation", "topic", "id", "vector", "encoding"]
    for row in database.rows("embeddings_queue", columns, order="seq_id"):
        if str(row["topic"]).rpartition("/")[2] != each.id:
            continue
        if row["operation"] == _DELETE:
            found.pop(row["id"], None)
        elif row["vector"] is not None:
            found[row["id"]] = _decoded(row, each, database.path)
    return found


def _decoded(row: dict[str, Any], each: _Collection, path: Path) -> Any:
    types = {"FLOAT32": "<f4", "INT32": "<i4"}
    kind, packed = types.get(row["encoding"]), row["vector"]
    if kind is None or not isinstance(packed, bytes) or len(packed) % 4 or (each.dim and len(packed) != 4 * each.dim):
        raise ValidationError(f"{path}: the vector of {row['id']!r} in {each.name} is no {each.dim} numbers")
    return np.frombuffer(packed, dtype=kind).astype(np.float32)


__all__ = ["read_chroma"]
