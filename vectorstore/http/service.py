"""What every route needs: the open store, its limits, how a record and a query are read and written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import Response
from fastapi.routing import APIRoute

from vectorstore.errors import ValidationError
from vectorstore.http.lanes import Lanes

if TYPE_CHECKING:
    from vectorstore.store import Store

CHUNK = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What one request may ask for.

    Attributes:
        body: bytes of a request's body.
        upload: bytes of an uploaded file.
        records: records in one body.
        k: hits of one search.
        queries: queries of one call of search_many.
        work: hits of one call in all, k times queries.
        dim: numbers in one vector.
    """

    body: int = 8 << 20
    upload: int = 256 << 20
    records: int = 10_000
    k: int = 1_000
    queries: int = 1_000
    work: int = 100_000
    dim: int = 65_536


@dataclass(frozen=True)
class Service:
    """The open store behind the routes, and the threads in which they run."""

    store: Store
    limits: Limits
    lanes: Lanes = field(default_factory=Lanes)


def _no_constant(text: str) -> Any:
    raise json.JSONDecodeError(f"{text} is no JSON number", text, 0)


class StrictRequest(Request):
    """A request whose JSON body may not hold NaN or Infinity, which Python's reader takes and JSON does not know."""

    async def json(self) -> Any:
        """The body as data."""
        if not hasattr(self, "_json"):
            self._json = json.loads(await self.body(), parse_constant=_no_constant)
        return self._json


class Route(APIRoute):
    """A route that reads JSON strictly, and takes no parameter that it does not know."""

    def get_route_handler(self) -> Any:
        """The handler, given such a request."""
        handler = super().get_route_handler()
        known = {parameter.alias for parameter in self.dependant.query_params}

        async def strict(request: Request) -> Any:
            for name in request.query_params:
                if name not in known:
                    takes = f"; it takes {', '.join(sorted(known))}" if known else "; it takes none"
                    raise ValidationError(f"{name[:50]}: no parameter of this request{takes}")
            return await handler(StrictRequest(request.scope, request.receive))

        return strict


def as_json(value: Any) -> bytes:
    """JSON as it goes over the wire; what UTF-8 does not have, such as a lone surrogate, is escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def answer(value: Any, status: int = 200) -> Response:
    """A JSON answer; the data is ours, so no second pass through a model."""
    return Response(as_json(value), status, media_type="application/json")


def ndjson(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Lines of JSON joined to pieces of some 64 kB: a hop between threads for each line would cost more than it."""
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line) + 1
        if size >= CHUNK:
            yield b"\n".join(gathered) + b"\n"
            gathered, size = [], 0
    if gathered:
        yield b"\n".join(gathered) + b"\n"
