"""Error class -> HTTP status, and the body of every error: problem details as in RFC 9457.

What a client sent is never sent back: a rejected body may hold anything, NaN included.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import Match

from vectorstore.errors import (
    AmbiguousName,
    BrokenPromise,
    ConflictError,
    ContractViolation,
    DerivedError,
    EmbedderError,
    EngineDown,
    LibraryMissing,
    NotFound,
    ReadOnlyStore,
    SchemaChangedError,
    SpaceMismatch,
    StoreError,
    ValidationError,
    VectorstoreError,
)
from vectorstore.http.bodies import SHAPES
from vectorstore.http.service import as_json

STATUSES: tuple[tuple[type[VectorstoreError], int], ...] = (
    (NotFound, 404),
    (ConflictError, 409),
    (SpaceMismatch, 409),
    (BrokenPromise, 500),
    (ContractViolation, 422),
    (ReadOnlyStore, 403),
    (SchemaChangedError, 503),
    (StoreError, 503),
    (EmbedderError, 503),
    (LibraryMissing, 503),
    (EngineDown, 503),
    (DerivedError, 409),
)
"""Error class -> status; the first class that fits counts. A declared contract that was broken is a 400."""

TITLES = {
    400: "The request breaks a contract",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not there",
    405: "No such method here",
    409: "In conflict with what is there",
    413: "Too large",
    415: "Not a media type that is read here",
    422: "The data is wrong",
    500: "The service is at fault",
    503: "Not possible at the moment",
}
MEDIA = "application/problem+json"
RETRY = "2"
log = logging.getLogger("vectorstore.http")


def status_of(error: VectorstoreError) -> int:
    """The status of an error's class."""
    if isinstance(error, ContractViolation) and error.declared:
        return 400
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def problem(status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """A problem-details response.

    Args:
        status: of HTTP.
        kind: the error's name, which stays the same from version to version.
        detail: what, where and how to mend.
        headers: further ones.
        more: further members, such as `field` and `rule`.
    """
    body = {"type": f"urn:vectorstore:{kind}", "title": TITLES.get(status, "An error"), "status": status}
    return Response(as_json({**body, "detail": detail, **more}), status, headers, MEDIA)


def of_error(error: VectorstoreError) -> Response:
    """The response to one of our errors."""
    status = status_of(error)
    more: dict[str, Any] = {}
    if isinstance(error, ContractViolation) and error.field:
        more = {"field": error.field, "rule": error.rule}
    if isinstance(error, AmbiguousName):
        more["candidates"] = error.candidates
    if status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    headers = {"Retry-After": RETRY} if status == 503 else None
    return problem(status, type(error).__name__, str(error), headers, **more)


async def _known(_: Request, error: Exception) -> Response:
    assert isinstance(error, VectorstoreError)
    return of_error(error)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(each["type"] == "json_invalid" for each in found):
        return problem(400, "InvalidJson", "the body is not JSON (NaN and Infinity are not, either)")
    errors = [{"field": _place(each["loc"]), "rule": each["msg"]} for each in found[:20]]
    first = errors[0]
    detail = f"{first['field']}: {first['rule']}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
    return problem(422, ValidationError.__name__, detail, field=first["field"], rule=first["rule"], errors=errors)


def _place(parts: tuple[Any, ...]) -> str:
    """`body`, `items`, 3, `name` as items[3].name; where in the request, and which shape of several, is left out."""
    text = ""
    for part in parts[1:] or parts:
        if part not in SHAPES.values():
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


async def _plain(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers or {})
    if error.status_code == 405:  # the framework names the methods of the first route alone
        allowed: set[str] = set()
        for route in request.app.routes:
            if route.matches(request.scope)[0] != Match.NONE:
                allowed |= getattr(route, "methods", None) or set()
        headers["allow"] = ", ".join(sorted(allowed))
    return problem(error.status_code, "HttpError", str(error.detail), headers)


async def _unforeseen(request: Request, error: Exception) -> Response:
    log.exception("unforeseen error in %s %s", request.method, request.url.path, exc_info=error)
    return problem(500, "InternalError", "an unforeseen error; the service's log has it")


def handle(app: FastAPI) -> None:
    """Give an application its error handlers."""
    app.add_exception_handler(VectorstoreError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Exception, _unforeseen)


PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
        "rule": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
        "candidates": {"type": "array", "items": {"type": "string"}},
    },
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that can end in these statuses."""
    return {
        status: {"description": TITLES[status], "content": {MEDIA: {"schema": PROBLEM_SCHEMA}}} for status in statuses
    }
