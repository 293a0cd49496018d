"""The explorer page and its files: static, without a build step, nothing from other sites."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter
from fastapi.responses import Response

from vectorstore.errors import NotFound

FOLDER = "/-/"
"""Where its files are: no kind can have that name."""
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def router() -> APIRouter:
    """The routes."""
    routes = APIRouter(include_in_schema=False)
    folder = resources.files("vectorstore.http") / "static"
    # Read once and by the names that are there: no path from a request reaches the disk.
    files = {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()}

    @routes.get("/")
    def index() -> Response:
        return _file("index.html")

    @routes.get(FOLDER + "{name}")
    def file(name: str) -> Response:
        return _file(name)

    def _file(name: str) -> Response:
        suffix = name[name.rfind(".") :]
        if name not in files or suffix not in TYPES:
            raise NotFound(f"no file {name!r} of the page")
        return Response(files[name], media_type=f"{TYPES[suffix]}; charset=utf-8", headers=HEADERS)

    return routes
