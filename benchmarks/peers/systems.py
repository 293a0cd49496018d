"""All contestants by name. A module is imported only when its system is measured."""

from __future__ import annotations

import importlib

from benchmarks.peers.base import System

OURS = "vectorstore"
PLACES = {
    OURS: "ours:Ours",
    "chroma": "chroma:Chroma",
    "lancedb-flat": "lance:LanceFlat",
    "lancedb-hnsw-sq": "lance:LanceHnsw",
    "qdrant-edge": "edge:QdrantEdge",
    "zvec": "zvecs:Zvec",
    "sqlite-vec": "sqlitevec:SqliteVec",
    "faiss-flat": "libraries:FaissFlat",
    "faiss-hnsw32": "libraries:FaissHnsw",
    "hnswlib": "libraries:Hnswlib",
    "usearch": "libraries:Usearch",
}
"""Stores first, then libraries that only index."""


def system(name: str) -> System:
    """One of the systems; its own library is not loaded yet."""
    module, kind = PLACES[name].split(":")
    found = getattr(importlib.import_module(f"benchmarks.peers.{module}"), kind)()
    assert isinstance(found, System)
    return found
