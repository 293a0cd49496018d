"""Routes about the service itself: health, status, metrics."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

import vectorstore as vs
from vectorstore import errors
from vectorstore.http.problems import documented
from vectorstore.http.records import ok
from vectorstore.http.service import Route, Service, answer

if TYPE_CHECKING:
    from vectorstore.metrics import Operation
    from vectorstore.store import Store

TEXT = "text/plain; version=0.0.4; charset=utf-8"
COUNTS = "PROMETHEUS_MULTIPROC_DIR"
"""Where several processes keep their counts, for each of them to tell the sums. prometheus_client knows it too."""

EACH = 1.0
"""Seconds after which a process has told the others what its store did."""

OPERATIONS = {
    "vectorstore_operations": "Calls of an operation.",
    "vectorstore_failures": "Calls that raised.",
    "vectorstore_operation_seconds": "Seconds in an operation.",
}
NOTHING = (0.0, 0.0, 0.0)


def router(service: Service, registry: CollectorRegistry) -> APIRouter:
    """The routes."""
    store, began = service.store, time.monotonic()
    folder = os.environ.get(COUNTS)
    shared = None if folder is None else Shared(store, folder, registry)
    routes = APIRouter(route_class=Route, tags=["service"], lifespan=None if shared is None else shared.life)
    if shared is None:
        registry.register(OperationCollector(store))
        registry.register(StoreCollector(store))

    @routes.get("/health", openapi_extra={"security": []}, responses={**ok("all is well"), **documented(503)})
    async def health(request: Request) -> Response:
        """Whether the store can be read and written and its indexes are current; 503 when not.

        Needs no token; with it, what is wrong is told in full.
        """
        found = await service.lanes.health.run(store.health)
        trusted = request.state.trusted
        checks = {name: wrong if trusted else _briefly(wrong) for name, wrong in found.checks.items()}
        return answer({"status": "ok" if found.ok else "unhealthy", "checks": checks}, 200 if found.ok else 503)

    @routes.get("/status", responses={**ok("counts, sizes, states"), **documented(401, 503)})
    def status() -> Response:
        """What the store holds, and how this service fares."""
        about = {"version": vs.__version__, "pid": os.getpid(), "uptime": time.monotonic() - began}
        return answer({"service": about, "store": store.stats()})

    @routes.get("/metrics", response_class=PlainTextResponse, responses=documented(401, 503))
    def metrics() -> Response:
        """Requests, operations and sizes, as Prometheus reads them."""
        return Response(generate_latest(registry if shared is None else shared.sums()), media_type=TEXT)

    return routes


def _briefly(wrong: str | None) -> str | None:
    """What a stranger may know of a check: the class of an error, else that it failed; no path, name or address."""
    if wrong is None:
        return None
    name = wrong.partition(":")[0]
    found = getattr(errors, name, getattr(builtins, name, None))
    return name if isinstance(found, type) and issubclass(found, Exception) else "failed"


def _figures(operation: Operation) -> tuple[float, ...]:
    """In the order of OPERATIONS."""
    return operation.calls, operation.failures, operation.seconds


class OperationCollector(Collector):
    """What this process did with the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Calls, failures and seconds by operation."""
        families = [CounterMetricFamily(name, about, labels=["operation"]) for name, about in OPERATIONS.items()]
        for name, operation in self._store.metrics().items():
            for family, figure in zip(families, _figures(operation), strict=True):
                family.add_metric([name], figure)
        yield from families


class Shared:
    """The counts of several processes over one store, which each keeps in files of one folder."""

    def __init__(self, store: Store, folder: str, registry: CollectorRegistry) -> None:
        self._store = store
        self._counters = [Counter(name, about, ["operation"], registry=registry) for name, about in OPERATIONS.items()]
        self._told: dict[str, tuple[float, ...]] = {}
        self._lock = threading.Lock()
        self._all = CollectorRegistry()
        MultiProcessCollector(self._all, folder)  # type: ignore[no-untyped-call]
        self._all.register(StoreCollector(store))
        _forget_the_dead(folder)

    @contextlib.asynccontextmanager
    async def life(self, _: Any) -> AsyncIterator[None]:
        """Tell the others again and again what this process does, and at its end once more."""

        async def tell() -> None:
            while True:
                self._tell()
                await asyncio.sleep(EACH)

        task = asyncio.create_task(tell())
        try:
            yield
        finally:
            task.cancel()
            self._tell()

    def sums(self) -> CollectorRegistry:
        """Of all the processes, this one's as of now."""
        self._tell()
        return self._all

    def _tell(self) -> None:
        """Add what was done since the last time."""
        with self._lock:
            for name, operation in self._store.metrics().items():
                now, before = _figures(operation), self._told.get(name, NOTHING)
                if any(new < old for new, old in zip(now, before, strict=True)):  # they were reset
                    before = NOTHING
                for counter, new, old in zip(self._counters, now, before, strict=True):
                    counter.labels(name).inc(new - old)
                self._told[name] = now


def _forget_the_dead(folder: str) -> None:
    """Take away what processes that were killed had in hand: nobody answers those requests any more."""
    for file in Path(folder).glob("gauge_live*.db"):
        number = int(file.stem.rpartition("_")[2])
        with contextlib.suppress(PermissionError, FileNotFoundError):  # another user's by now; forgotten by another
            try:
                os.kill(number, 0)
            except ProcessLookupError:
                mark_process_dead(number, folder)  # type: ignore[no-untyped-call]


class StoreCollector(Collector):
    """The store's own figures at the time of asking."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Records and bytes of the store, and what waits for engines."""
        records = GaugeMetricFamily("vectorstore_records", "Live records.", labels=["kind"])
        names = ["space", "address", "collection"]
        waiting = GaugeMetricFamily("vectorstore_engine_waiting", "Vectors not yet sent to an engine.", labels=names)
        lag = GaugeMetricFamily(
            "vectorstore_engine_lag_seconds", "How long the first of them has waited.", labels=names
        )
        for each in self._store.remotes.status():
            waiting.add_metric([each.space, each.address, each.collection], each.waiting)
            lag.add_metric([each.space, each.address, each.collection], each.lag)
        stats = self._store.stats()
        for name, kind in stats["kinds"].items():
            records.add_metric([name], kind["records"])
        yield from (records, waiting, lag)
        size = GaugeMetricFamily("vectorstore_bytes", "Bytes on disk.")
        size.add_metric([], stats["bytes"])
        yield size
