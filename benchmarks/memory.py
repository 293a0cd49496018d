"""What a searching process keeps in memory, beyond its imports: a store, and each rival by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import vectorstore as vs
from benchmarks import rivals
from benchmarks.dataset import K, Matrix

SEARCHES = 1_000


def memory(job: dict[str, Any]) -> dict[str, float]:
    """Bytes of RssAnon (its own) and RssFile (pages of files, which the system may take back)."""
    folder = Path(job["folder"])
    queries = np.load(folder / "queries.npy")
    faiss.omp_set_num_threads(1)
    opener = vs.open
    before = _resident()
    answer, close = _contestant(job, folder, opener)
    for place in range(SEARCHES):
        answer(queries[place % len(queries)])
    after = _resident()
    close()
    return {name: float(after[name] - before[name]) for name in after}


def _contestant(
    job: dict[str, Any], folder: Path, opener: Callable[..., vs.Store]
) -> tuple[Callable[[Matrix], object], Callable[[], object]]:
    name = job["contestant"]
    if name == "store":
        store = opener(job["store"], embedder=None, auto_publish=False)
        return (lambda query: store.concepts.search(query, k=K)), store.close
    if name == "flat":
        return rivals.flat(np.load(folder / "base.npy", mmap_mode="r")), list
    if name == "hnsw":
        return rivals.hnsw(folder / "hnsw.faiss"), list
    raise ValueError(f"contestant: expected store, flat or hnsw, got {name!r}")


def _resident() -> dict[str, int]:
    """The lines of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}
