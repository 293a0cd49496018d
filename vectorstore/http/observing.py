"""Routes about the service itself: health, status, metrics."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import vectorstore as vs
from vectorstore.http.problems import documented
from vectorstore.http.records import ok
from vectorstore.http.service import Route, Service, answer

if TYPE_CHECKING:
    from vectorstore.store import Store

TEXT = "text/plain; version=0.0.4; charset=utf-8"


def router(service: Service, registry: CollectorRegistry) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=Route, tags=["service"])
    store, began = service.store, time.monotonic()
    registry.register(StoreCollector(store))

    @routes.get("/health", openapi_extra={"security": []}, responses={**ok("all is well"), **documented(503)})
    async def health() -> Response:
        """Whether the store can be read and written and its indexes are current; 503 when not. Needs no token."""
        found = await service.lanes.health.run(store.health)
        return answer({"status": "ok" if found.ok else "unhealthy", "checks": found.checks}, 200 if found.ok else 503)

    @routes.get("/status", responses={**ok("counts, sizes, states"), **documented(401, 503)})
    def status() -> Response:
        """What the store holds, and how this service fares."""
        about = {"version": vs.__version__, "pid": os.getpid(), "uptime": time.monotonic() - began}
        return answer({"service": about, "store": store.stats()})

    @routes.get("/metrics", response_class=PlainTextResponse, responses=documented(401, 503))
    def metrics() -> Response:
        """Requests, operations and sizes, as Prometheus reads them."""
        return Response(generate_latest(registry), media_type=TEXT)

    return routes


class StoreCollector(Collector):
    """The store's own figures at the time of asking."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Operations of this process; records and bytes of the store."""
        calls = CounterMetricFamily("vectorstore_operations", "Calls of an operation.", labels=["operation"])
        failures = CounterMetricFamily("vectorstore_failures", "Calls that raised.", labels=["operation"])
        seconds = CounterMetricFamily("vectorstore_operation_seconds", "Seconds in an operation.", labels=["operation"])
        for name, figures in self._store.metrics().items():
            calls.add_metric([name], figures.calls)
            failures.add_metric([name], figures.failures)
            seconds.add_metric([name], figures.seconds)
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
        yield from (calls, failures, seconds, records, waiting, lag)
        size = GaugeMetricFamily("vectorstore_bytes", "Bytes on disk.")
        size.add_metric([], stats["bytes"])
        yield size
