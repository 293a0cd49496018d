"""OpenTelemetry for those who have it: a span and a measured duration for each call that users make.

Names follow OpenTelemetry's semantic conventions for databases. Nothing of it is imported before a store is opened that
wants it: one that was told so (`telemetry=True`, or VECTORSTORE_TELEMETRY=on), or any store of a process that has its
SDK loaded, for who loads that wants to see. Metrics of one store without any of it: `store.metrics()`.
"""

from __future__ import annotations

import functools
import os
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vectorstore.errors import LibraryMissing, ValidationError, installing

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram
    from opentelemetry.trace import Tracer

SWITCH = "VECTORSTORE_TELEMETRY"
SCOPE = "vectorstore"
SYSTEM = "vectorstore"
SCHEMA = "https://opentelemetry.io/schemas/1.43.0"
DURATION = "db.client.operation.duration"
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Seconds; the conventions' own."""


class Telemetry:
    """What one open store tells OpenTelemetry; safe for threads."""

    def __init__(self, namespace: str) -> None:
        """What is measured in a store of this name.

        Raises:
            LibraryMissing: OpenTelemetry is not installed.
        """
        self._namespace = namespace
        self._tracer, self._duration = _instruments()

    def begin(self, kind: str, verb: str) -> Doing:
        """A call that begins now, in this thread; its span is the current one until `leave` or `end`.

        Args:
            kind: whose verb it is: a kind, "models", ...; what is the store's own has no collection.
            verb: what is done.
        """
        told = {"db.system.name": SYSTEM, "db.operation.name": verb, "db.namespace": self._namespace}
        if kind != "store":
            told["db.collection.name"] = kind
        return Doing(self._tracer, self._duration, f"{verb} {told.get('db.collection.name', self._namespace)}", told)


class Doing:
    """One call on its way."""

    def __init__(self, tracer: Tracer, duration: Histogram, name: str, told: dict[str, str]) -> None:
        from opentelemetry import context, trace

        self._duration, self._told = duration, told
        self._span = tracer.start_span(name, kind=trace.SpanKind.CLIENT, attributes=told)
        self._here = trace.set_span_in_context(self._span)
        self._token: Any = context.attach(self._here)

    def leave(self) -> None:
        """The call has returned a stream: what its reader does meanwhile is not within the span."""
        from opentelemetry import context

        if self._token is not None:
            context.detach(self._token)
            self._token = None

    def end(self, seconds: float, failure: str | None) -> None:
        """It is done.

        Args:
            seconds: that it took; of a stream those of its making.
            failure: the class of what was raised. What its message says may be data, and stays here.
        """
        from opentelemetry.trace import StatusCode

        self.leave()
        if failure is not None:
            self._told["error.type"] = failure
            self._span.set_attribute("error.type", failure)
            self._span.set_status(StatusCode.ERROR)
        # In its context, so that an exemplar can point from the histogram to the span.
        self._duration.record(seconds, self._told, context=self._here)
        self._span.end()


def wanted(asked: bool | None) -> bool:
    """Whether a store that is opened now tells what it does: as asked, else as the environment says, else as above.

    Raises:
        ValidationError: the environment variable says neither.
    """
    if asked is not None:
        return asked
    told = os.environ.get(SWITCH, "auto").lower()
    if told not in ("on", "1", "off", "0", "auto"):
        raise ValidationError(f"{SWITCH}: expected on, off or auto, got {told!r}", value=told)
    return told in ("on", "1") or (told == "auto" and "opentelemetry.sdk" in sys.modules)


@functools.cache
def _instruments() -> tuple[Tracer, Histogram]:
    """Once for a process: the SDK warns of a histogram that is made twice. A provider that is set later is found."""
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        raise LibraryMissing(f"telemetry needs OpenTelemetry; {installing('otel')}") from None

    tracer = trace.get_tracer(SCOPE, version("vectorstore"), schema_url=SCHEMA)
    meter = metrics.get_meter(SCOPE, version("vectorstore"), schema_url=SCHEMA)
    duration = meter.create_histogram(
        DURATION, "s", "Duration of database client operations.", explicit_bucket_boundaries_advisory=BUCKETS
    )
    return tracer, duration
