"""LanceDB, embedded: without a vector index, and with IVF_HNSW_SQ."""

from __future__ import annotations

import datetime
import importlib
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.base import COLUMNS, Answer, Effort, Handle, K, Matrix, Record, Rows, System, arrow_table

COLUMN_NAMES = ["id", "text", "domain", "pos", "bucket"]


class LanceFlat(System):
    name = "LanceDB flat"
    packages = ("lancedb", "pyarrow")
    index = "none: every search scans; BTREE on bucket"
    durable = "create_table returns after the files and the manifest are written"
    batch_by = "search with many vectors"
    builds_index = False
    variants = (COLUMNS,)

    def load(self) -> None:
        self._lance: Any = importlib.import_module("lancedb")
        self._indexes: Any = importlib.import_module("lancedb.index")

    def fresh(self) -> Effort | None:
        return {"read_consistency_interval": 0}

    def input(self, rows: Rows, variant: str) -> Any:
        return arrow_table(rows, with_vectors=True)

    def ingest(self, path: Path, given: Any, variant: str) -> dict[str, float]:
        begun = time.perf_counter()
        entries = self._lance.connect(str(path)).create_table("entries", given)
        added = time.perf_counter()
        entries.create_index("bucket", config=self._indexes.BTree())
        self._index(entries)
        return {"add_s": added - begun, "index_s": time.perf_counter() - added}

    def _index(self, entries: Any) -> None:
        """No vector index."""

    def open(self, path: Path, effort: Effort) -> Handle:
        seconds = effort.get("read_consistency_interval")
        interval = None if seconds is None else datetime.timedelta(seconds=seconds)
        database = self._lance.connect(str(path), read_consistency_interval=interval)
        return _Open(database.open_table("entries"), effort)


class LanceHnsw(LanceFlat):
    name = "LanceDB IVF_HNSW_SQ"
    index = "IVF_HNSW_SQ, m 20, ef_construction 300 (its defaults); BTREE on bucket"
    durable = "create_table and create_index return after the files and the manifest are written"
    builds_index = True
    # Without a refine factor the order is that of 8-bit codes, which no ef mends; both are tried together.
    grid = (
        {},
        {"refine_factor": 2},
        {"ef": 50, "refine_factor": 5},
        {"ef": 100, "refine_factor": 2},
        {"ef": 200, "refine_factor": 2},
        {"ef": 200, "refine_factor": 5},
        {"ef": 400, "refine_factor": 5},
        {"ef": 800, "refine_factor": 10},
    )

    def _index(self, entries: Any) -> None:
        entries.create_index("vector", config=self._indexes.HnswSq(distance_type="cosine"))
        (name,) = (one.name for one in entries.list_indices() if "vector" in one.columns)
        entries.wait_for_index([name])
        assert entries.index_stats(name).num_unindexed_rows == 0


class _Open(Handle):
    def __init__(self, entries: Any, effort: Effort) -> None:
        self._entries = entries
        self._effort = effort

    def _query(self, vectors: Any) -> Any:
        query = self._entries.search(vectors, vector_column_name="vector", query_type="vector")
        query = query.distance_type("cosine").limit(K).select([*COLUMN_NAMES, "_distance"])
        for name in ("ef", "refine_factor"):
            if name in self._effort:
                query = getattr(query, name)(self._effort[name])
        return query

    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        asked = self._query(query)
        if bucket is not None:
            asked = asked.where(f"bucket = {bucket}")
        return [tuple(row[name] for name in COLUMN_NAMES) for row in asked.to_list()]

    def batch(self, queries: Matrix) -> list[Answer]:
        answers: list[Answer] = [[] for _ in queries]
        for row in self._query(list(queries)).to_list():
            answers[row["query_index"]].append(tuple(row[name] for name in COLUMN_NAMES))
        return answers

    def add(self, record: Record, vector: Matrix) -> None:
        self._entries.add([{**dict(zip(COLUMN_NAMES, record, strict=True)), "vector": vector.tolist()}])
