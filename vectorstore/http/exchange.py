"""Routes by which kinds, contexts and whole stores go out and come in.

What goes out is written whole, as of one commit, before its first byte is sent: what is wrong is an error and no file
that breaks off, and a slow client holds no snapshot of the store. What comes in is on the disk before it is read, and
is in the store all or not at all. Both lie in the system's folder for temporary files, and have no name there while
they are sent; memory holds a piece of them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from vectorstore.errors import CorruptError, NewerFormat, StoreError, ValidationError, VectorstoreError
from vectorstore.http import bodies
from vectorstore.http.guards import TooLarge
from vectorstore.http.records import READ, WRITE, Kind, ok
from vectorstore.http.service import Route, Service, answer

Log = Literal["jsonl", "jsonl.gz", "json"]
Format = Literal["jsonl", "jsonl.gz", "json", "csv", "parquet", "arrow"]
Vectors = Literal["given", "all", "none"]
Rule = Literal["error", "overwrite", "merge", "skip"]
Context = Annotated[str, Query(min_length=1, max_length=255)]
MaybeName = Annotated[str | None, Query(min_length=1, max_length=255)]
PIECE = 1 << 18
MEDIA = {
    "jsonl": "application/x-ndjson",
    "jsonl.gz": "application/gzip",
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.file",
}
BINARY = {"schema": {"type": "string", "format": "binary"}}
SENT = {"content": dict.fromkeys(MEDIA.values(), BINARY)}
UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": BINARY,
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": BINARY["schema"]}}
            },
        },
    }
}
"""A file as the body itself, of whatever media type, or as the one file of a form."""


class Wanted(bodies.Body):
    """What goes out, and how."""

    vectors: Annotated[Vectors, Field(description="given: those that a caller brought")] = "given"
    deleted: Annotated[bool, Field(description="also a line for each deleted record; jsonl and json only")] = False


class WantedLog(Wanted):
    """Several kinds."""

    kinds: Annotated[list[bodies.Name], Field(fail_fast=True, min_length=1, max_length=100)] | None = None
    format: Log = "jsonl"


class WantedStore(WantedLog):
    """All of a store, or some of it."""

    contexts: Annotated[list[bodies.Name], Field(fail_fast=True, min_length=1, max_length=1_000)] | None = None


class WantedKind(Wanted):
    """One kind."""

    contexts: Annotated[list[bodies.Name], Field(fail_fast=True, min_length=1, max_length=1_000)] | None = None
    format: Format = "jsonl"


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=Route, tags=["exchange"])
    _out(routes, service)
    _in(routes, service)
    return routes


def _out(routes: APIRouter, service: Service) -> None:
    def sent(wanted: Wanted, **chosen: Any) -> Response:
        options = {**wanted.model_dump(), **chosen}
        format = options.pop("format")
        with _folder() as folder:
            path = folder / f"export.{format}"
            service.store.export(path, **options)
            file = path.open("rb")  # stays while it is open; the folder goes
        size = _size(file)
        headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{path.name}"'}
        return StreamingResponse(_pieces(file), media_type=MEDIA[format], headers=headers)

    @routes.post("/export", responses={**READ, **ok("the records", content=SENT)})
    @service.lanes.long
    def export(body: WantedStore | None = None) -> Response:
        """All records, or those of some kinds and contexts, as of one commit."""
        return sent(body or WantedStore())

    @routes.post("/contexts/{name}/export", responses={**READ, **ok("the records", content=SENT)})
    @service.lanes.long
    def export_context(name: str, body: WantedLog | None = None) -> Response:
        """All records of a context, with what is known of the context and its parents, as of one commit."""
        return sent(body or WantedLog(), contexts=name)

    @routes.post("/{kind}/export", responses={**READ, **ok("the records", content=SENT)})
    @service.lanes.long
    def export_kind(kind: Kind, body: WantedKind | None = None) -> Response:
        """All records of a kind, as of one commit."""
        return sent(body or WantedKind(), kinds=kind)


def _in(routes: APIRouter, service: Service) -> None:
    async def read(request: Request, format: str, **options: Any) -> Response:
        with _folder() as folder:
            path = folder / f"upload.{format}"
            await _receive(request, path)
            return await service.lanes.long.run(partial(brought_in, path, **options))

    def brought_in(path: Path, **options: Any) -> Response:
        try:
            report = asdict(service.store.import_(path, **options))
        except VectorstoreError as error:
            told = str(error).replace(f"{path.parent}/", "")
            if isinstance(error, CorruptError | NewerFormat) and told != str(error):
                raise ValidationError(told) from None  # of the file that came in, not of the store
            if told != str(error):
                error.args = (told, *error.args[1:])
            raise
        del report["path"]
        report["notes"] = [note.replace(f"{path.parent}/", "") for note in report["notes"]]
        return answer(report)

    came = {**WRITE, **ok("what was added, overwritten, merged, skipped, unchanged and deleted, by kind")}

    @routes.post("/import", responses=came, openapi_extra=UPLOAD)
    async def import_store(
        request: Request,
        kind: MaybeName = None,
        context: MaybeName = None,
        on_conflict: Rule = "error",
        vectors: bool = True,
        format: Format = "jsonl",
    ) -> Response:
        """Bring in a file: all of it, or nothing. `kind` and `context` are for records that name none."""
        return await read(request, format, kind=kind, context=context, on_conflict=on_conflict, vectors=vectors)

    @routes.post("/contexts/{name}/import", responses=came, openapi_extra=UPLOAD)
    async def import_context(
        request: Request,
        name: str,
        kind: MaybeName = None,
        on_conflict: Rule = "error",
        vectors: bool = True,
        format: Format = "jsonl",
    ) -> Response:
        """Bring in a file, all of it or nothing; records that name no context are put into this one."""
        return await read(request, format, kind=kind, context=name, on_conflict=on_conflict, vectors=vectors)

    @routes.post("/{kind}/import", responses=came, openapi_extra=UPLOAD)
    async def import_kind(
        request: Request,
        kind: Kind,
        context: MaybeName = None,
        on_conflict: Rule = "error",
        vectors: bool = True,
        format: Format = "jsonl",
    ) -> Response:
        """Bring in a file, all of it or nothing; its lines or rows may be records of this kind as they are."""
        service.store.collection(kind)
        return await read(request, format, kind=kind, context=context, on_conflict=on_conflict, vectors=vectors)


@contextmanager
def _folder() -> Iterator[Path]:
    """A temporary folder, and the disk's refusals in our words."""
    try:
        with tempfile.TemporaryDirectory(prefix="vectorstore-") as folder:
            yield Path(folder)
    except VectorstoreError:
        raise
    except OSError as error:
        where = tempfile.gettempdir()
        raise StoreError(f"{where}: the disk refused ({error.strerror}); free some of it, or set TMPDIR") from error


async def _receive(request: Request, path: Path) -> None:
    """The body, or the one file of the form that it is, as a file; whatever name it was given is not looked at."""
    try:
        if request.headers.get("content-type", "").startswith("multipart/"):
            async with request.form(max_files=1, max_fields=10) as form:
                files = [each for each in form.values() if isinstance(each, UploadFile)]
                if len(files) != 1:
                    raise ValidationError("file: expected one file in the form")
                await anyio.to_thread.run_sync(_copy, files[0].file, path)
            return
        async with await anyio.open_file(path, "wb") as file:
            async for piece in _joined(request.stream()):
                await file.write(piece)
    except TooLarge:
        raise HTTPException(413) from None


async def _joined(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of some size: writing each of the network's would be a hop between threads each time."""
    held = bytearray()
    async for piece in pieces:
        held += piece
        if len(held) >= PIECE:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _copy(file: IO[bytes], path: Path) -> None:
    with path.open("wb") as to:
        shutil.copyfileobj(file, to, PIECE)


def _size(file: IO[bytes]) -> int:
    """Bytes of an open file."""
    size = file.seek(0, 2)
    file.seek(0)
    return size


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece
