"""A scripted workload in a process whose OpenTelemetry is set up; prints what was exported, and what was done, as JSON."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import suppress
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import vectorstore as vs


class Traced(vs.HashEmbedder):
    """An embedder that makes a span of its own, as one behind HTTP would."""

    def embed(self, texts: Any, **options: Any) -> Any:
        with trace.get_tracer("embedder").start_as_current_span("embed"):
            return super().embed(texts, **options)


def work(path: str) -> dict[str, Any]:
    with vs.open(path, Traced(32)) as store:
        for n in range(7):
            store.concepts.add({"id": f"c{n}", "name": f"name {n}"})
        with suppress(vs.DuplicateId):
            store.concepts.add({"id": "c0", "name": "again"})
        with suppress(vs.ContractViolation):
            store.concepts.find(limit=0)
        threads = [
            threading.Thread(target=lambda: [store.concepts.search("name", k=2) for _ in range(25)]) for _ in "1234"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with trace.get_tracer("caller").start_as_current_span("caller"):
            store.analogies.add({"a": "man", "b": "king", "c": "woman", "d": "queen"})
            stream = store.concepts.stream(batch_size=2)
            next(stream)
            trace.get_current_span().add_event("between")
            list(stream)
        store.concepts.stream()  # never read
        store.clusters.fit(n=2)  # writes by other verbs
        store.check()
        store.models.put("net", b"x")
        return {name: [each.calls, each.failures, each.seconds] for name, each in store.metrics().items()}


def main() -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    done = work(sys.argv[1])
    found = reader.get_metrics_data()
    points = [
        {
            "scope": scope.scope.name,
            "name": metric.name,
            "unit": metric.unit,
            "count": point.count,
            "sum": point.sum,
            "bounds": list(point.explicit_bounds),
            **{"attributes": dict(point.attributes)},
        }
        for resource in (found.resource_metrics if found else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    told = [
        {
            "id": span.context.span_id,
            "scope": span.instrumentation_scope.name,
            "name": span.name,
            "kind": span.kind.name,
            "status": span.status.status_code.name,
            "events": [event.name for event in span.events],
            "parent": span.parent and span.parent.span_id,
            "attributes": dict(span.attributes),
        }
        for span in spans.get_finished_spans()
    ]
    print(json.dumps({"done": done, "spans": told, "points": points}))


main()
