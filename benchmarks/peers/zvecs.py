"""zvec, embedded."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Answer, Effort, Handle, K, Matrix, Record, Rows, System

BATCH = 1_024
"""As many documents as it takes in one insert."""

FIELDS = ["text", "domain", "pos", "bucket"]


class Zvec(System):
    name = "zvec"
    packages = ("zvec",)
    index = "HNSW, m 50, ef_construction 500 (its defaults); inverted index on bucket"
    durable = "a write-ahead log; optimize builds the graph, flush writes everything"
    batch_by = "two threads"
    grid = tuple({"ef": ef} for ef in (10, 20, 40, 80, 120, 200, 300, 500))
    default_at = 6

    def load(self) -> None:
        self._zvec: Any = importlib.import_module("zvec")
        self._zvec.init(log_level=self._zvec.LogLevel.ERROR)

    def ingest(self, path: Path, given: Rows, variant: str) -> dict[str, float]:
        zvec = self._zvec
        begun = time.perf_counter()
        graph = zvec.HnswIndexParam(metric_type=zvec.MetricType.COSINE)
        schema = zvec.CollectionSchema(
            "entries",
            fields=[
                *(zvec.FieldSchema(name, zvec.DataType.STRING) for name in ("text", "domain", "pos")),
                zvec.FieldSchema("bucket", zvec.DataType.INT64, index_param=zvec.InvertIndexParam()),
            ],
            vectors=[zvec.VectorSchema("vector", zvec.DataType.VECTOR_FP32, given.vectors.shape[1], index_param=graph)],
        )
        entries = zvec.create_and_open(str(path), schema)
        for part in given.parts(BATCH):
            documents = [self._document(given.record(row), given.vectors[row]) for row in range(part.start, part.stop)]
            failed = [status for status in entries.insert(documents) if not status.ok()]
            assert not failed, failed[0]
        added = time.perf_counter()
        entries.optimize()
        indexed = time.perf_counter()
        entries.flush()
        entries.close()
        return {"add_s": added - begun, "index_s": indexed - added, "flush_s": time.perf_counter() - indexed}

    def _document(self, record: Record, vector: Matrix) -> Any:
        return self._zvec.Doc(
            id=record[0], vectors={"vector": vector}, fields=dict(zip(FIELDS, record[1:], strict=True))
        )

    def open(self, path: Path, effort: Effort) -> Handle:
        return _Open(self, self._zvec, self._zvec.open(str(path)), effort)


class _Open(Handle):
    def __init__(self, system: Any, zvec: Any, entries: Any, effort: Effort) -> None:
        self._document = system._document
        self._zvec = zvec
        self._entries = entries
        self._param = zvec.HnswQueryParam(**effort)

    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        found = self._entries.query(
            self._zvec.Query("vector", vector=query, param=self._param),
            topk=K,
            filter=None if bucket is None else f"bucket = {bucket}",
            output_fields=FIELDS,
        )
        return [(one.id, *(one.fields[name] for name in FIELDS)) for one in found]

    def add(self, record: Record, vector: Matrix) -> None:
        status = self._entries.insert(self._document(record, vector))
        assert status.ok(), status

    def close(self) -> None:
        self._entries.close()
