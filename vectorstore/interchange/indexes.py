"""An existing FAISS index, and the ids or records that go with its rows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.interchange.formats import guessed
from vectorstore.interchange.items import Item, Source, Vector
from vectorstore.interchange.lines import read_json, read_lines
from vectorstore.interchange.opened import lines_of, plain_file
from vectorstore.vectors.foreign import read_faiss


def read_index(
    path: Path,
    kind: str | None = None,
    ids: str | os.PathLike[str] | Sequence[str] | None = None,
    space: str = "text",
) -> Source:
    """The vectors of an index as records.

    Args:
        path: of what `faiss.write_index` wrote: Flat, IDMap, IVF,Flat, HNSW,Flat.
        kind: of the records; concepts unless said.
        ids: what the rows stand for, in their order, or, when the index has ids of its own, in the order of those: a
            list, a text file with one id a line, a .npy array of them, or JSON (lines) of whole records. None: the
            index's own numbers.
        space: the vector space of the kind.

    Raises:
        ValidationError: the index is damaged or keeps no vectors, or the ids are not as many.
    """
    plain_file(path)
    vectors, numbers, metric = read_faiss(path)
    name = kind or "concepts"
    source = Source(path, lambda: iter(()), unit="row", total=len(vectors))
    records = _records(ids, name, source)
    if records is not None and len(records) != len(vectors):
        raise ValidationError(f"{path}: holds {len(vectors)} vectors, and {len(records)} ids are given")
    source.note(f"{path}: was compared by {metric}; the store's metric counts from now on")

    def items() -> Iterator[Item]:
        for row, (vector, number) in enumerate(zip(vectors, numbers.tolist(), strict=True)):
            record = {"id": str(number), "name": str(number)} if records is None else records[row]
            yield Item(name, record, row + 1, "", {space: Vector(vector)})

    source.read = items
    return source


def _records(ids: Any, kind: str, source: Source) -> list[dict[str, Any]] | None:
    if ids is None:
        return None
    if isinstance(ids, str | os.PathLike):
        path = Path(ids)
        form = guessed(path)
        if form is not None and form.log:
            given = read_lines(path, kind) if form.lines else read_json(path, kind)
            return [item.record for item in given.read() if item.record is not None]
        ids = _listed(path)
    return [{"id": str(each), "name": str(each)} for each in ids]


def _listed(path: Path) -> list[str]:
    if path.suffix == ".npy":
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValidationError(f"{path}: is no array of ids: {error}") from None
        if found.ndim != 1 or found.dtype.kind not in "iuU":
            raise ValidationError(f"{path}: expected a list of ids, got an array of {found.dtype}, shape {found.shape}")
        return [str(each) for each in found.tolist()]
    try:
        return [line.decode().rstrip("\r\n") for _, line in lines_of(path)]
    except UnicodeDecodeError as error:
        raise ValidationError(f"{path}: is not UTF-8: {error}") from None
