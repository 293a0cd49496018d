"""Chroma, embedded (PersistentClient)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from benchmarks.peers.base import Answer, Effort, Handle, K, Matrix, Record, Rows, System


class Chroma(System):
    name = "Chroma"
    packages = ("chromadb",)
    index = "HNSW, M 16, ef_construction 100 (its defaults)"
    durable = (
        "each add is a SQLite commit; the graph is written every 1,000 records and replayed from the log on opening"
    )
    batch_by = "query with many vectors"
    grid = tuple({"ef_search": ef} for ef in (20, 50, 100, 150, 200, 300, 500))
    default_at = 2

    def load(self) -> None:
        importlib.import_module("chromadb.api.rust")  # or the first client would
        self._chroma: Any = importlib.import_module("chromadb")
        self._config: Any = importlib.import_module("chromadb.config")
        self._shared: Any = importlib.import_module("chromadb.api.shared_system_client")

    def _client(self, path: Path) -> Any:
        return self._chroma.PersistentClient(str(path), settings=self._config.Settings(anonymized_telemetry=False))

    def ingest(self, path: Path, given: Rows, variant: str) -> dict[str, float]:
        client = self._client(path)
        entries = client.create_collection(
            "entries", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
        )
        for part in given.parts(client.get_max_batch_size()):
            columns = zip(given.domains[part], given.poses[part], given.buckets[part], strict=True)
            entries.add(
                ids=given.ids[part],
                embeddings=given.vectors[part],
                documents=given.texts[part],
                metadatas=[{"domain": domain, "pos": pos, "bucket": bucket} for domain, pos, bucket in columns],
            )
        self._close(client)
        return {}

    def _close(self, client: Any) -> None:
        client.close()
        self._shared.SharedSystemClient.clear_system_cache()

    def open(self, path: Path, effort: Effort) -> Handle:
        """The effort belongs to the collection and counts from the next opening, so a change opens twice."""
        client = self._client(path)
        entries = client.get_collection("entries", embedding_function=None)
        if entries.configuration["hnsw"]["ef_search"] != effort["ef_search"]:
            entries.modify(configuration={"hnsw": dict(effort)})
            self._close(client)
            client = self._client(path)
            entries = client.get_collection("entries", embedding_function=None)
        return _Open(entries, lambda: self._close(client))


class _Open(Handle):
    def __init__(self, entries: Any, close: Any) -> None:
        self._entries = entries
        self._close = close

    def close(self) -> None:
        self._close()

    def search(self, query: Matrix, bucket: int | None = None) -> Answer:
        where = None if bucket is None else {"bucket": bucket}
        return self._records(self._entries.query(query_embeddings=query[None], n_results=K, where=where))[0]

    def batch(self, queries: Matrix) -> list[Answer]:
        return self._records(self._entries.query(query_embeddings=queries, n_results=K))

    def _records(self, found: Any) -> list[Answer]:
        return [
            [
                (id, text, metadata["domain"], metadata["pos"], metadata["bucket"])
                for id, text, metadata in zip(ids, texts, metadatas, strict=True)
            ]
            for ids, texts, metadatas in zip(found["ids"], found["documents"], found["metadatas"], strict=True)
        ]

    def add(self, record: Record, vector: Matrix) -> None:
        id, text, domain, pos, bucket = record
        metadata = {"domain": domain, "pos": pos, "bucket": bucket}
        self._entries.add(ids=[id], embeddings=vector[None], documents=[text], metadatas=[metadata])
