"""vectorstore itself: a kind with the same columns as everyone else's, vectors brought by the caller."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter

import vectorstore as vs
from benchmarks.peers.base import BARE, COLUMNS, RECORDS, Answer, Effort, Handle, K, Matrix, Record, Rows, System
from benchmarks.peers.base import arrow_table as arrow


class Entry(vs.Record, table="entries"):
    """`text` is full-text indexed too, which no other system does here except Chroma."""

    text: Annotated[str, vs.EMBEDDED]
    domain: str
    pos: str
    bucket: Annotated[int, vs.INDEXED]


def _open(path: Path) -> vs.Store:
    return vs.open(path, embedder=None, kinds=[Entry], auto_publish=False)


def _record(hit: Any) -> Record:
    found = hit.record
    return found.id, found.text, found.domain, found.pos, found.bucket


class Ours(System):
    name = "vectorstore"
    packages = ("vectorstore", "faiss-cpu", "numpy", "pydantic", "sqlite-utils")
    index = "its default recipe, candidates re-ranked exactly; efforts are chosen by the recall that it measured itself"
    durable = "add returns after a SQLite commit with synchronous=FULL and fsynced segments; publish after the index's"
    batch_by = "search_many"
    variants = (RECORDS, COLUMNS, BARE)
    grid = (
        {"recall": 0.8},
        {"recall": 0.9},
        {"recall": 0.95},
        {"recall": 0.98},
        {"recall": 0.99},
        {"recall": 0.995},
        {"recall": 0.999},
        {"exact": True},
    )
    default_at = 4

    def load(self) -> None:
        _ = vs.open, TypeAdapter  # both are imported when they are named
        importlib.import_module("faiss")

    def input(self, rows: Rows, variant: str) -> Any:
        return rows if variant == RECORDS else (arrow(rows, with_vectors=False), rows.vectors)

    def ingest(self, path: Path, given: Any, variant: str) -> dict[str, float]:
        begun = time.perf_counter()
        with _open(path) as store:
            if variant == RECORDS:
                self._add_records(store, given)
            else:
                table, vectors = given
                store.collection(Entry).add(table, vectors)
            added = time.perf_counter()
            if variant != BARE:
                store.publish("entries")
            published = time.perf_counter()
        return {
            "add_s": added - begun,
            "publish_s": published - added,
            "close_s": time.perf_counter() - published,
        }

    def _add_records(self, store: vs.Store, rows: Rows) -> None:
        columns = zip(rows.ids, rows.texts, rows.domains, rows.poses, rows.buckets, strict=True)
        names = ("id", "text", "domain", "pos", "bucket")
        store.collection(Entry).add([dict(zip(names, values, strict=True)) for values in columns], rows.vectors)

    def open(self, path: Path, effort: Effort) -> Handle:
        return _Open(_open(path), effort)


class _Open(Handle):
    def __init__(self, store: vs.Store, effort: Effort) -> None:
        self._store = store
        self._entries = store.collection(Entry)
        self._effort = dict(effort)

    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        where = None if bucket is None else {"bucket": bucket}
        return [_record(hit) for hit in self._entries.search(query, k=K, where=where, **self._effort)]

    def batch(self, queries: Matrix) -> list[Answer]:
        found = self._entries.search_many(queries, k=K, **self._effort)
        return [[_record(hit) for hit in hits] for hits in found]

    def add(self, record: Record, vector: Matrix) -> None:
        values = dict(zip(("id", "text", "domain", "pos", "bucket"), record, strict=True))
        self._entries.add(values, vectors=vector[None])

    def close(self) -> None:
        self._store.close()
