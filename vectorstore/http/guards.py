"""What stands before the routes: the token, the size of bodies, and the count of requests. Plain ASGI."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect

from vectorstore.http.problems import problem

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"))
"""Those that have a name in the counts, as OpenTelemetry has it; all others are one."""
BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
log = logging.getLogger("vectorstore.http")


class TooLarge(Exception):
    """A body went over its limit while it was read."""


class Body:
    """Refuses a body that is larger than the limit, whether its length was said or not, before it is parsed."""

    def __init__(self, app: App, limit: int, upload: int) -> None:
        self._app, self._limit, self._upload = app, limit, upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        upload = scope["method"] == "POST" and scope["path"].endswith("/import")  # goes to the disk, not into memory
        limit = self._upload if upload else self._limit
        said = headers.get(b"content-length", b"0")
        if not said.isdigit() or int(said) > limit:
            await _too_large(limit)(scope, receive, send)
            return
        read, over, started = 0, False, False

        async def counted() -> Message:
            nonlocal read, over
            message = await receive()
            read += len(message.get("body", b""))
            if read > limit:
                over = True
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            if over and not started:  # the framework takes what was raised for a body that it cannot parse
                return
            started = True
            await send(message)

        with contextlib.suppress(TooLarge):
            await self._app(scope, counted, noted)
        if over and not started:
            await _too_large(limit)(scope, receive, send)


def _too_large(limit: int) -> Any:
    return problem(413, "TooLarge", f"the body is larger than {limit} bytes; send it in parts")


class Token:
    """Lets requests with the bearer token through; some paths, and the files of one folder, are open to all readers."""

    def __init__(self, app: App, token: str | None, free: Collection[str], folder: str) -> None:
        self._app = app
        self._digest = None if token is None else hashlib.sha256(token.encode()).digest()
        self._free, self._folder = free, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401, the same to whatever it asked for.

        The routes that are open to all find in `request.state.trusted` whether this one came with the token.
        """
        if scope["type"] == "http":
            trusted = scope.setdefault("state", {})["trusted"] = self._trusts(scope)
            if not trusted and not self._open(scope["method"], scope["path"]):
                response = problem(
                    401,
                    "Unauthorized",
                    "send the header 'Authorization: Bearer <token>'; the service shows its token when it starts",
                    {"WWW-Authenticate": "Bearer"},
                )
                await response(scope, receive, send)  # type: ignore[arg-type]
                return
        await self._app(scope, receive, send)

    def _trusts(self, scope: Scope) -> bool:
        """Whether it came with the token, or needs none."""
        if self._digest is None:
            return True
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, value = given.partition(b" ")
        # Digests are compared, so neither the length nor the place of the first difference shows.
        same = hmac.compare_digest(hashlib.sha256(value.strip()).digest(), self._digest)
        return same and scheme.lower() == b"bearer"

    def _open(self, method: str, path: str) -> bool:
        """Only to read: behind the same path there may be a kind's records, for another method."""
        file = path.startswith(self._folder) and "/" not in path[len(self._folder) :]
        return method in ("GET", "HEAD") and (file or path in self._free)


class Origin:
    """Refuses what a page of another site has a browser do, for a service without a token, which has no other guard.

    With a token it is not needed, as no browser sends that by itself, and it would refuse the service's own page
    behind a proxy that does not pass the Host header on.
    """

    def __init__(self, app: App, allowed: Collection[str]) -> None:
        self._app, self._allowed = app, {each.encode() for each in allowed}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 403."""
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS") and self._foreign(scope):
            said = (
                "without a token a page of another site may not do this; start the service with its origin if it may, "
                "and have a proxy pass the Host header on"
            )
            await problem(403, "ForeignOrigin", said)(scope, receive, send)  # type: ignore[arg-type]
            return
        await self._app(scope, receive, send)

    def _foreign(self, scope: Scope) -> bool:
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None:
            return headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
        host = headers.get(b"host")
        # Whatever stands before the service may have taken TLS off: the scheme is not compared.
        own = host is not None and origin.partition(b"://")[2].lower() == host.lower()
        return not own and not self._allowed & {origin, b"*"}


class Counting:
    """Counts requests and their seconds by method, route and status, for /metrics.

    A request whose client goes away before its answer begins is a 499, whatever the routes make of it. That a client
    went away is no error: it is told to nobody further out.
    """

    def __init__(self, app: App, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ("http_request_method", "http_route", "http_response_status_code")
        # Names follow OpenTelemetry's semantic conventions (http.server.request.duration), as Prometheus spells them.
        self._seconds = Histogram(
            "http_server_request_duration_seconds",
            "Seconds from a request to the end of its response.",
            labels,
            registry=registry,
            buckets=BUCKETS,
        )
        self._active = Gauge(
            "http_server_active_requests",
            "Requests that are being answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._bytes = Counter(
            "http_server_response_body_bytes", "Bytes of response bodies.", ("http_route",), registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, sent, began = "0", 0, time.perf_counter()
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"  # a client may call it anything

        async def heard() -> Message:
            nonlocal status
            message = await receive()
            if message["type"] == "http.disconnect" and status == "0":
                status = "499"
            return message

        async def noted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start" and status == "0":
                status = str(message["status"])
            sent += len(message.get("body", b""))
            try:
                await send(message)
            except OSError as error:  # so some servers say that nobody is there any more
                raise ClientDisconnect from error

        self._active.inc()
        try:
            await self._app(scope, heard, noted)
        except ClientDisconnect:
            log.debug("%s %s: the client went away", method, scope["path"])
        except BaseException:
            if status == "0":  # what stands around this answers
                status = "500"
            raise
        finally:
            self._active.dec()
            route = getattr(scope.get("route"), "path", "none")
            self._seconds.labels(method, route, status).observe(time.perf_counter() - began)
            self._bytes.labels(route).inc(sent)
