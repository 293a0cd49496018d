"""An engine in a folder of this machine: exact, for development and for trying out what a server would do.

It keeps a collection in one file, replaced whole by each batch, and searches it with FAISS, a filter being a FAISS
selector of the rows it holds for. Any number of processes may read; the file is read again when it has changed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.engines.expressions import cut
from vectorstore.engines.protocol import STAMP, Caps, EngineDown, Field, Rows
from vectorstore.files import refused, replace_file
from vectorstore.recipes import Point
from vectorstore.records import Value
from vectorstore.vectors import Matrix, Vids
from vectorstore.vectors.native import faiss

Holds = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True, eq=False)
class _Content:
    """What the file holds: rows by ascending vid."""

    vids: Vids
    vectors: Matrix
    marks: Vids
    values: list[list[Value]]
    stamp: int | None
    native: Any


class Flat:
    """One collection in a folder; a `VectorIndex`.

    Args:
        folder: where collections lie.
        collection: its name.
        dim: of its vectors.
        metric: cosine, ip or l2.
        fields: to filter by.
    """

    def __init__(self, folder: Path, collection: str, dim: int, metric: str, fields: Sequence[Field]) -> None:
        self._path = folder / f"{collection}.npz"
        self._dim, self._metric, self._fields = dim, metric, tuple(fields)
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int], _Content] | None = None
        self.caps = Caps(16_384, 20_000, 0.0, ({"candidates": 16}, {"candidates": 64}))

    def make(self) -> None:
        """An empty file."""
        with refused(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self.exists():
            self._write({}, None)

    def exists(self) -> bool:
        """Whether the file is there."""
        return self._path.is_file()

    def drop(self) -> None:
        """Remove the file."""
        with refused(self._path):
            self._path.unlink(missing_ok=True)

    def add(self, rows: Rows, stamp: int) -> int:
        """Read, change, write anew."""
        rows.fit(self._dim)
        known = self._known()
        for vid, vector, mark, values in zip(
            rows.vids.tolist(), rows.vectors, rows.marks.tolist(), rows.values, strict=True
        ):
            texts = [cut(value) if isinstance(value, str) else value for value in values]
            known[vid] = (vector, mark, [*texts, texts != list(values)])
        self._write(known, stamp)
        return stamp

    def remove(self, vids: Sequence[int]) -> int:
        """Read, change, write anew."""
        known, content = self._known(), self._content()
        for vid in vids:
            known.pop(int(vid), None)
        self._write(known, content.stamp)
        return 0

    def search(
        self, queries: Matrix, count: int, effort: Point, where: str | None = None, since: int = 0
    ) -> list[Vids]:
        """By FAISS's flat index, with a selector when there is a filter."""
        content, count = self._content(), self.caps.allows(count)
        if not len(content.vids):
            return [np.empty(0, np.int64) for _ in queries]
        parameters = None
        if where is not None:
            chosen = np.flatnonzero(self._holding(content, where))
            if not len(chosen):
                return [np.empty(0, np.int64) for _ in queries]
            parameters = faiss().SearchParameters(sel=faiss().IDSelectorBatch(chosen))
        faiss().omp_set_num_threads(1)
        prepared = np.ascontiguousarray(queries, np.float32)
        _, places = content.native.search(prepared, min(count, len(content.vids)), params=parameters)
        return [content.vids[row[row >= 0]] for row in places]

    def count(self, where: str | None = None, since: int | None = None) -> int:
        """Rows that the filter holds for."""
        content = self._content()
        return len(content.vids) if where is None else int(self._holding(content, where).sum())

    def versions(self, low: int, high: int) -> dict[int, int]:
        """Marks by vid."""
        content = self._content()
        first, last = np.searchsorted(content.vids, [low, high])
        found = dict(zip(content.vids[first:last].tolist(), content.marks[first:last].tolist(), strict=True))
        return {**found, STAMP: content.stamp} if low <= STAMP < high and content.stamp is not None else found

    def snapshot(self, low: int, high: int) -> Rows:
        """From the file."""
        content = self._content()
        part = slice(*np.searchsorted(content.vids, [low, high]))
        values = [tuple(row[:-1]) for row in content.values[part]]
        return Rows(content.vids[part], content.vectors[part], content.marks[part], values)

    def persist(self) -> None:
        """Nothing to do: a batch is a whole new file, synced before its name is."""

    def settle(self, timeout: float) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing is held open."""

    # -- the file --------------------------------------------------------------------------------------------------

    def _known(self) -> dict[int, tuple[Matrix, int, list[Value]]]:
        content = self._content()
        rows = zip(content.vids.tolist(), content.vectors, content.marks.tolist(), content.values, strict=True)
        return {vid: (vector, mark, values) for vid, vector, mark, values in rows}

    def _write(self, known: dict[int, tuple[Matrix, int, list[Value]]], stamp: int | None) -> None:
        vids = np.array(sorted(known), dtype=np.int64)
        rows = [known[vid] for vid in vids.tolist()]
        vectors = np.array([row[0] for row in rows], dtype=np.float32).reshape(len(rows), self._dim)
        marks = np.array([row[1] for row in rows], dtype=np.int64)
        told = json.dumps({"stamp": stamp, "values": [row[2] for row in rows]}).encode()
        out = io.BytesIO()
        np.savez(out, vids=vids, vectors=vectors, marks=marks, told=np.frombuffer(told, np.uint8))
        replace_file(self._path, out.getbuffer())

    def _content(self) -> _Content:
        with self._lock:
            try:
                stat = os.stat(self._path)
                key = (stat.st_ino, stat.st_mtime_ns)
                if self._read is not None and self._read[0] == key:
                    return self._read[1]
                with np.load(self._path) as file:
                    told = json.loads(file["told"].tobytes())
                    vids, vectors, marks = file["vids"], file["vectors"], file["marks"]
            except (OSError, ValueError, KeyError) as error:
                raise EngineDown(f"{self._path}: {error}; feed it anew: store.remotes.renew(kind)") from error
            kind = faiss().METRIC_L2 if self._metric == "l2" else faiss().METRIC_INNER_PRODUCT
            native = faiss().IndexFlat(self._dim, kind)
            native.add(np.ascontiguousarray(vectors))
            content = _Content(vids, vectors, marks, told["values"], told["stamp"], native)
            self._read = (key, content)
            return content

    def _holding(self, content: _Content, where: str) -> np.ndarray:
        holds = compiled(where)
        names = [name for name, _, _ in self._fields]
        empty = {"text": "", "boolean": False, "real": 0.0}
        out = np.zeros(len(content.vids), dtype=bool)
        for place, (vid, values) in enumerate(zip(content.vids.tolist(), content.values, strict=True)):
            row: dict[str, Any] = {"vid": vid, "odd": values[-1]}
            for (_, type, _), name, value in zip(self._fields, names, values[:-1], strict=True):
                row[f"n_{name}"] = value is None
                row[f"f_{name}"] = empty.get(type, 0) if value is None else bool(value) if type == "boolean" else value
            out[place] = holds(row)
        return out


_TOKEN = re.compile(
    r'\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)|(?P<word>[A-Za-z_]\w*)'
    r"|(?P<mark>[<>=!]=|[<>()\[\],]))"
)


def compiled(where: str) -> Holds:
    """The expressions of `expressions.py`, and no others, as a function of a row."""
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(where):
        match = _TOKEN.match(where, place)
        if match is None:
            raise ValueError(f"cannot read {where[place:]!r}")
        tokens.append((str(match.lastgroup), match[match.lastgroup or 0]))
        place = match.end()
    parser = _Parser(tokens)
    holds = parser.either()
    if parser.tokens:
        raise ValueError(f"cannot read the end of {where!r}")
    return holds


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens[::-1]

    def _next(self) -> str:
        return self.tokens[-1][1] if self.tokens else ""

    def _take(self) -> str:
        return self.tokens.pop()[1]

    def either(self) -> Holds:
        parts = [self.both()]
        while self._next() == "or":
            self._take()
            parts.append(self.both())
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def both(self) -> Holds:
        parts = [self.single()]
        while self._next() == "and":
            self._take()
            parts.append(self.single())
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def single(self) -> Holds:
        if self._next() == "not":
            self._take()
            inner = self.single()
            return lambda row: not inner(row)
        if self._next() == "(":
            self._take()
            inner = self.either()
            self._take()
            return inner
        name, operator = self._take(), self._take()
        if operator == "in":
            self._take()
            listed = set()
            while self._next() != "]":
                listed.add(self._value())
                if self._next() == ",":
                    self._take()
            self._take()
            return lambda row: row[name] in listed
        value = self._value()
        compare: dict[str, Holds] = {
            "==": lambda row: bool(row[name] == value),
            "<": lambda row: bool(row[name] < value),
            "<=": lambda row: bool(row[name] <= value),
            ">": lambda row: bool(row[name] > value),
            ">=": lambda row: bool(row[name] >= value),
            "like": lambda row: str(row[name]).startswith(str(value)[:-1]),
        }
        return compare[operator]

    def _value(self) -> Any:
        kind, text = self.tokens.pop()
        if kind == "word":
            return text == "true"
        with contextlib.suppress(ValueError):
            return int(text) if kind == "number" else json.loads(text)
        return float(text)


__all__ = ["Flat"]
