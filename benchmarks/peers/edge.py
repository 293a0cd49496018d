"""Qdrant Edge: Qdrant's engine inside the process."""

from __future__ import annotations

import importlib
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Answer, Effort, Handle, K, Matrix, Record, Rows, System, row_of

BATCH = 1_000


class QdrantEdge(System):
    name = "Qdrant Edge"
    packages = ("qdrant-edge-py",)
    index = "HNSW, m 16, ef_construct 100 (its defaults, once a segment has 10 MB); integer index on bucket"
    durable = "a write-ahead log; optimize builds the graph, flush and close write everything"
    batch_by = "query_batch"
    grid = ({}, *({"hnsw_ef": ef} for ef in (16, 32, 64, 128, 192, 256, 400)))

    def load(self) -> None:
        self._edge: Any = importlib.import_module("qdrant_edge")

    def ingest(self, path: Path, given: Rows, variant: str) -> dict[str, float]:
        edge = self._edge
        path.mkdir()
        begun = time.perf_counter()
        vectors = edge.EdgeVectorParams(size=given.vectors.shape[1], distance=edge.Distance.Cosine)
        shard = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors=vectors))
        shard.update(edge.UpdateOperation.create_field_index("bucket", edge.PayloadSchemaType.Integer))
        for part in given.parts(BATCH):
            points = [
                edge.Point(row, given.vectors[row], _payload(given.record(row))) for row in range(part.start, part.stop)
            ]
            shard.update(edge.UpdateOperation.upsert_points(points))
        added = time.perf_counter()
        while shard.optimize():  # True while there was something to do
            pass
        indexed = time.perf_counter()
        shard.flush()
        shard.close()
        return {"add_s": added - begun, "index_s": indexed - added, "flush_s": time.perf_counter() - indexed}

    def open(self, path: Path, effort: Effort) -> Handle:
        return _Open(self._edge, self._edge.EdgeShard.load(str(path)), effort)


def _payload(record: Record) -> dict[str, Any]:
    return dict(zip(("id", "text", "domain", "pos", "bucket"), record, strict=True))


class _Open(Handle):
    def __init__(self, edge: Any, shard: Any, effort: Effort) -> None:
        self._edge = edge
        self._shard = shard
        self._params = edge.SearchParams(**effort)

    def _request(self, query: Matrix, bucket: int | None = None) -> Any:
        edge, only = self._edge, None
        if bucket is not None:
            only = edge.Filter(must=[edge.FieldCondition(key="bucket", match=edge.MatchValue(bucket))])
        return edge.QueryRequest(
            limit=K, query=edge.Query.Nearest(query), filter=only, params=self._params, with_payload=True
        )

    def _records(self, points: Any) -> Answer:
        return [
            (found["id"], found["text"], found["domain"], found["pos"], found["bucket"])
            for found in (point.payload for point in points)
        ]

    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        return self._records(self._shard.query(self._request(query, bucket)))

    def batch(self, queries: Matrix) -> list[Answer]:
        request = self._edge.QueryBatchRequest([self._request(query) for query in queries])
        return [self._records(points) for points in self._shard.query_batch(request)]

    def add(self, record: Record, vector: Matrix) -> None:
        point = self._edge.Point(row_of(record), vector, _payload(record))
        self._shard.update(self._edge.UpdateOperation.upsert_points([point]))

    def close(self) -> None:
        self._shard.close()
