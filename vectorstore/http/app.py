"""The application: routes, guards and errors around one open store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from prometheus_client import CollectorRegistry
from starlette.middleware.trustedhost import TrustedHostMiddleware

import vectorstore as vs
from vectorstore.http import exchange, knowledge, observing, page, problems, records, remembering, searching, working
from vectorstore.http.guards import Body, Counting, Origin, Token
from vectorstore.http.lanes import narrow
from vectorstore.http.service import Limits, Service

if TYPE_CHECKING:
    from vectorstore.store import Store

FREE = ("/", "/health")
"""What may be read without a token: the page (which asks for one) and whether all is well; and the page's files."""


def create_app(
    store: Store,
    *,
    token: str | None,
    limits: Limits | None = None,
    origins: Iterable[str] = (),
    hosts: Iterable[str] = ("127.0.0.1", "localhost", "[::1]", "testserver"),
    work: bool = True,
    close: bool = False,
) -> FastAPI:
    """An ASGI application over an open store.

    When it starts, anyio's default limiter of threads gets as many as searches gain from (`lanes.py`), for the whole
    event loop.

    Args:
        store: open; one for each process.
        token: what clients must send as `Authorization: Bearer <token>`; None lets everybody in, but for what pages of
            other origins have a browser write.
        limits: what one request may ask for.
        origins: pages of other origins that may call, as in CORS; none.
        hosts: names under which the service may be called; others are refused, so that no other site's name can be
            pointed at it. "*" for any.
        work: process workflows in a thread of this process.
        close: close the store when the application shuts down.
    """
    service = Service(store, limits or Limits())
    registry = CollectorRegistry()

    @contextlib.asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        narrow()
        worker = store.workflows.start() if work and not store.read_only else None
        try:
            yield
        finally:
            if worker is not None:
                worker.stop()
            if close:
                store.close()

    app = FastAPI(
        title="vectorstore",
        version=vs.__version__,
        description="A knowledge store: records with fields, found by meaning, by filter, or both.",
        lifespan=life,
        docs_url=None,  # they load scripts from other sites; the page at / is ours and works offline
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        separate_input_output_schemas=False,
    )
    problems.handle(app)
    # Words of the service come before kinds, kinds before ids. Searches are asked most, and a route costs those that
    # are looked at before it: they come first, as no other route is called /.../search.
    for router in (
        searching.router(service),
        page.router(),
        observing.router(service, registry),
        exchange.router(service),
        working.router(service),
        knowledge.router(service),
        remembering.router(service),
        records.router(service),
    ):
        app.include_router(router)
    # The last one added is the first to see a request.
    app.add_middleware(_as(Body), limit=service.limits.body, upload=service.limits.upload)
    app.add_middleware(_as(Token), token=token, free=FREE, folder=page.FOLDER)
    origins = [*origins]
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["Authorization", "Content-Type"],
        )
    if token is None:
        app.add_middleware(_as(Origin), allowed=origins)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts])
    app.add_middleware(_as(Counting), registry=registry)
    app.openapi = _describing(app.openapi, store.kinds)  # type: ignore[method-assign]
    return app


def _as(middleware: type) -> Any:
    """Starlette's type of a middleware is narrower than what it takes."""
    return middleware


def _describing(describe: Callable[[], dict[str, Any]], kinds: list[str]) -> Callable[[], dict[str, Any]]:
    """What makes the OpenAPI description when it is first asked for, with the kinds of the store and the token."""

    def described() -> dict[str, Any]:
        found = describe()
        for path in found["paths"].values():
            for operation in path.values():
                for parameter in operation.get("parameters", ()):
                    if parameter["name"] == "kind" and parameter["in"] == "path":
                        parameter["schema"] = {"type": "string", "enum": kinds}
        found.setdefault("components", {})["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
        return found

    return described
