"""Adding, indexing, checking, deleting and compacting; how long each takes, and how it grows."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

import vectorstore as vs
from benchmarks import rivals
from benchmarks.dataset import SEED, Concepts, K, concepts_of, unit
from benchmarks.timing import median, milliseconds
from vectorstore.recipes import DEFAULT
from vectorstore.sync.publish import PUBLISH_ROWS
from vectorstore.vectors.index import factory_of

BATCH = 10_000
SINGLES = 500
DICT_BATCHES = 3
T = TypeVar("T")


def add(job: dict[str, Any]) -> dict[str, Any]:
    """Records a second, batch by batch: from objects, the first batches also from dicts, all of them from columns."""
    folder = Path(job["folder"])
    base = np.load(folder / "base.npy", mmap_mode="r")
    objects: list[float] = []
    batches: list[dict[str, float]] = []
    dicts: list[float] = []
    with (
        vs.open(job["store"], embedder=None, auto_publish=False) as store,
        vs.open(folder / "store-dicts", embedder=None, auto_publish=False) as other,
    ):
        for start, plain in _batches(folder):
            vectors = base[start : start + len(plain)]
            begun = time.perf_counter()
            concepts = [vs.Concept(**fields) for fields in plain]
            objects.append(len(plain) / (time.perf_counter() - begun))
            busy = time.process_time()
            elapsed, _ = _seconds(store.concepts.add, concepts, vectors=vectors)
            busy = time.process_time() - busy
            batches.append({"start": start, "records": len(plain), "seconds": elapsed, "cpu_seconds": busy})
            if start < DICT_BATCHES * BATCH:
                begun = time.perf_counter()
                other.concepts.add(plain, vectors=vectors)
                dicts.append(len(plain) / (time.perf_counter() - begun))
        assert len(store.concepts) == len(base)
    total = sum(batch["seconds"] for batch in batches)
    return {
        "records_per_s": len(base) / total,
        "records_per_cpu_s": len(base) / sum(batch["cpu_seconds"] for batch in batches),
        "objects_built_per_s": median(objects),
        "dicts_records_per_s": median(dicts),
        "columns_records_per_s": _from_columns(folder, base),
        "batches": batches,
    }


def _from_columns(folder: Path, base: Any) -> float:
    """Records a second of a whole store that comes in as mappings from names to lists, in the same batches."""
    elapsed = 0.0
    with vs.open(folder / "store-columns", embedder=None, auto_publish=False) as store:
        for start, plain in _batches(folder):
            columns = {name: [fields[name] for fields in plain] for name in plain[0]}
            vectors = base[start : start + len(plain)]
            elapsed += _seconds(store.concepts.add, columns, vectors=vectors)[0]
        assert len(store.concepts) == len(base)
    shutil.rmtree(folder / "store-columns")
    return len(base) / elapsed


def add_published(job: dict[str, Any]) -> dict[str, Any]:
    """The same with indexes published in the background, as a store does unless told otherwise."""
    folder = Path(job["folder"])
    base = np.load(folder / "base.npy", mmap_mode="r")
    published: list[dict[str, Any]] = []
    begun = time.perf_counter()
    adding = 0.0
    with vs.open(folder / "store-published", embedder=None) as store:
        store.on(
            "publish", lambda event: published.append({"at_s": time.perf_counter() - begun, "rows": event["rows"]})
        )
        for start, plain in _batches(folder):
            concepts = [vs.Concept(**fields) for fields in plain]
            adding += _seconds(store.concepts.add, concepts, vectors=base[start : start + len(plain)])[0]
        last = time.perf_counter()
    return {
        "records_per_s": len(base) / adding,
        "closed_after_last_add_s": time.perf_counter() - last,
        "published": published,
    }


def index(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a rebuild, which also measures the index, beside the raw builds.

    Stores below the size of automatic publishing lose the index again, since by default they have none.
    """
    folder = Path(job["folder"])
    base = np.load(folder / "base.npy")
    recipe = DEFAULT
    factory = factory_of(recipe, *base.shape)
    measured: dict[str, Any] = {"recipe": recipe.name, "factory": factory}
    measured["raw_build_s"] = rivals.build_recipe(factory, base, folder / "recipe.faiss")
    with vs.open(job["store"], embedder=None, auto_publish=False) as store:
        busy = time.process_time()
        measured["rebuild_s"], _ = _seconds(store.rebuild, "concepts")
        measured["rebuild_cpu_s"] = time.process_time() - busy
        if len(base) < PUBLISH_ROWS:
            store.rebuild("concepts", "exact")
    if job["hnsw"]:
        measured["hnsw_build_s"] = rivals.build_hnsw(base, folder / "hnsw.faiss")
    return measured


def upkeep(job: dict[str, Any]) -> dict[str, Any]:
    """Single durable adds, then what keeps a store in order: check, delete a tenth, compact, rebuild."""
    folder = Path(job["folder"])
    queries = np.load(folder / "queries.npy")
    measured: dict[str, Any] = {"fsync_ms": _fsync_ms(folder)}
    with vs.open(job["store"], embedder=None, auto_publish=False) as store:
        measured["check_s"], report = _seconds(store.check)
        measured["findings"] = len(report.findings)
        measured["single_adds_per_s"] = _singles(store, queries.shape[1])
        measured["search_with_tail_ms"] = _search_ms(store, queries)
        chosen = [record["id"] for place, record in enumerate(concepts_of(folder)) if place % 10 == 3]
        measured["deleted"] = len(chosen)
        measured["delete_s"], _ = _seconds(store.concepts.delete, chosen)
        measured["search_with_deleted_ms"] = _search_ms(store, queries)
        measured["compact_s"], _ = _seconds(store.compact, "concepts")
        measured["search_compacted_ms"] = _search_ms(store, queries)
        measured["rebuild_s"], _ = _seconds(store.rebuild, "concepts")
        measured["check_after_s"], report = _seconds(store.check)
        measured["findings"] += len(report.findings)
    return measured


def _batches(folder: Path) -> Iterator[tuple[int, Concepts]]:
    records = concepts_of(folder)
    start = 0
    while plain := list(itertools.islice(records, BATCH)):
        yield start, plain
        start += len(plain)


def _seconds(call: Callable[..., T], *arguments: Any, **keywords: Any) -> tuple[float, T]:
    begun = time.perf_counter()
    result = call(*arguments, **keywords)
    return time.perf_counter() - begun, result


def _singles(store: vs.Store, dim: int) -> float:
    """Records a second, one record a commit."""
    vectors = unit(np.random.default_rng(SEED).standard_normal((SINGLES, dim)))
    concepts = [
        vs.Concept(id=f"single-{place}", name=f"single {place}", domain="single", definition="added by itself")
        for place in range(SINGLES)
    ]
    begun = time.perf_counter()
    for concept, vector in zip(concepts, vectors, strict=True):
        store.concepts.add(concept, vectors=vector[None])
    return SINGLES / (time.perf_counter() - begun)


def _search_ms(store: vs.Store, queries: Any) -> float:
    times = [_seconds(store.concepts.search, query, k=K)[0] for query in queries[:300]]
    return milliseconds(times[5:])["p50_ms"]


def _fsync_ms(folder: Path) -> float:
    """The disk's share of a durable commit: appending 4 KiB and fsync, median."""
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(100):
            begun = time.perf_counter()
            file.write(b"\0" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begun)
    return median(times) * 1e3
