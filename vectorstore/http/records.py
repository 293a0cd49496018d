"""Routes of every kind: the verbs of a collection, generic over `{kind}`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from fastapi.responses import Response, StreamingResponse

from vectorstore.errors import NotFound, ValidationError
from vectorstore.http import bodies
from vectorstore.http.problems import documented
from vectorstore.http.service import Route, Service, answer, as_json, ndjson

Kind = Annotated[str, Path(min_length=1, max_length=255, description="concepts, analogies, clusters, ...")]
Id = Annotated[str, Path(min_length=1, max_length=255)]
READ = documented(400, 401, 404, 409, 413, 422, 503)
WRITE = documented(400, 401, 403, 404, 409, 413, 422, 503)
JSON_OBJECT = {"content": {"application/json": {"schema": {"type": "object"}}}}
NDJSON = {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}


def ok(words: str, status: int = 200, content: Any = JSON_OBJECT) -> dict[int | str, dict[str, Any]]:
    """The `responses` entry of success."""
    return {status: {"description": words, **content}}


def plain(record: Any) -> dict[str, Any]:
    """A record as JSON-able data."""
    found: dict[str, Any] = record.model_dump(mode="json")
    return found


def page_of(page: Any) -> dict[str, Any]:
    """A page of records as JSON-able data."""
    return {"records": [plain(record) for record in page], "total": page.total, "next": page.next}


def router(service: Service) -> APIRouter:
    """The routes; they come last, after all that begin with a word of their own."""
    routes = APIRouter(route_class=Route, tags=["records"])
    store, limits = service.store, service.limits

    def checked(body: bodies.Records) -> bodies.Records:
        if len(body.records) > limits.records:
            raise ValidationError(f"records: expected at most {limits.records} in one request, got {len(body.records)}")
        return body

    @routes.get("/kinds", responses={**READ, **ok("every kind, with how many records it has")})
    def kinds() -> Response:
        """The kinds of this store."""
        return answer({"kinds": [{"name": name, "count": store.collection(name).count()} for name in store.kinds]})

    @routes.get("/kinds/{kind}", responses={**READ, **ok("the JSON Schema of the kind's records")})
    def schema(kind: Kind) -> Response:
        """What a record of a kind may hold."""
        return answer(store.collection(kind).kind.model_json_schema())

    @routes.post("/{kind}", status_code=201, responses={**WRITE, **ok("ids, in order", 201)})
    @service.lanes.writing
    def add(kind: Kind, body: bodies.Records, upsert: bool = False) -> Response:
        """Add records, all or none; with `upsert` those whose id is there are replaced."""
        collection = store.collection(kind)
        write = collection.upsert if upsert else collection.add
        given = checked(body)
        return answer({"ids": write(given.records, given.vectors)}, 200 if upsert else 201)

    @routes.patch("/{kind}", responses={**WRITE, **ok("how many were changed")})
    @service.lanes.writing
    def update(kind: Kind, body: bodies.Records) -> Response:
        """Change fields of records; each change has the `id` and the new values."""
        given = checked(body)
        return answer({"updated": store.collection(kind).update(given.records, given.vectors)})

    @routes.get("/{kind}", responses={**READ, **ok("a page of records")})
    def listed(
        kind: Kind,
        order: Annotated[str | None, Query(max_length=255)] = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
        after: Annotated[str | None, Query(max_length=2_000)] = None,
    ) -> Response:
        """Records of a kind, page by page; POST /{kind}/find takes a filter."""
        return answer(page_of(store.collection(kind).find(order=order, limit=limit, after=after)))

    @routes.post("/{kind}/find", responses={**READ, **ok("a page of records")})
    def find(kind: Kind, body: bodies.Find) -> Response:
        """Records that match a filter, page by page."""
        page = store.collection(kind).find(body.where, order=body.order, limit=body.limit, after=body.after)
        return answer(page_of(page))

    @routes.post("/{kind}/count", responses={**READ, **ok("how many match")})
    def count(kind: Kind, body: bodies.Chosen) -> Response:
        """How many records match a filter, or how many of some ids are there."""
        collection = store.collection(kind)
        if body.ids is None:
            return answer({"count": collection.count(body.where)})
        return answer({"count": collection.count({"and": [body.where or {}, {"id__in": body.ids}]})})

    @routes.post("/{kind}/get", responses={**READ, **ok("records in the order asked, null for absent ones")})
    def get_many(kind: Kind, body: bodies.Chosen) -> Response:
        """Records by id, in the order asked."""
        if body.where is not None:
            raise ValidationError("where: expected ids alone; POST /{kind}/find takes filters")
        found = store.collection(kind).get_many(body.ids or [], missing="none")
        return answer({"records": [None if record is None else plain(record) for record in found]})

    @routes.post("/{kind}/facets", responses={**READ, **ok("[value, count], the most frequent first")})
    def facets(kind: Kind, body: bodies.Facets) -> Response:
        """Values of a field and how many live records have each."""
        found = store.collection(kind).facets(body.field, body.where, body.query, body.limit)
        return answer({"facets": [[value, number] for value, number in found.items()]})

    @routes.post("/{kind}/stream", responses={**READ, **ok("a record a line", content=NDJSON)})
    def stream(
        kind: Kind, body: bodies.Chosen, limit: Annotated[int | None, Query(ge=1, le=1_000_000_000)] = None
    ) -> StreamingResponse:
        """All matching records as NDJSON, in order of arrival, at flat memory."""
        if body.ids is not None:
            raise ValidationError("ids: expected a filter alone; POST /{kind}/get takes ids")
        records = store.collection(kind).stream(body.where)
        return streamed(as_json(plain(record)) for record in itertools.islice(records, limit))

    @routes.post("/{kind}/delete", responses={**WRITE, **ok("how many were deleted")})
    @service.lanes.writing
    def delete(kind: Kind, body: bodies.Doomed) -> Response:
        """Delete records by id or filter; `restore` brings them back until `purge`."""
        return answer({"deleted": store.collection(kind).delete(body.ids, where=body.where, dry_run=body.dry_run)})

    @routes.post("/{kind}/restore", responses={**WRITE, **ok("how many were restored")})
    @service.lanes.writing
    def restore(kind: Kind, body: bodies.Chosen) -> Response:
        """Bring deleted records back, with their vectors."""
        return answer({"restored": store.collection(kind).restore(body.ids, where=body.where)})

    @routes.post("/{kind}/purge", responses={**WRITE, **ok("how many were erased")})
    @service.lanes.writing
    def purge(kind: Kind, body: bodies.Erased) -> Response:
        """Erase deleted records for good: rows, text, vectors, index entries."""
        age = timedelta(days=body.older_than_days)
        found = store.collection(kind).purge(body.ids, where=body.where, older_than=age, expired=body.expired)
        return answer({"purged": found, "finished": found.finished})

    @routes.get("/{kind}/{id}", responses={**READ, **ok("the record")})
    def get(kind: Kind, id: Id) -> Response:
        """One record by id; POST /{kind}/get for ids that are words of this service, or for many."""
        record = store.collection(kind).get(id)
        if record is None:
            raise NotFound(f"{kind}: no record with the id {id!r}")
        return answer(plain(record))

    @routes.put("/{kind}/{id}", responses={**WRITE, **ok("its id")})
    @service.lanes.writing
    def put(kind: Kind, id: Id, body: dict[str, Any]) -> Response:
        """Write one record whole, in place of what has its id."""
        if body.setdefault("id", id) != id:
            raise ValidationError("id: expected the one of the path, or none", value=body["id"])
        return answer({"ids": store.collection(kind).upsert([body])})

    @routes.patch("/{kind}/{id}", responses={**WRITE, **ok("the record as it is now")})
    @service.lanes.writing
    def patch(kind: Kind, id: Id, body: dict[str, Any]) -> Response:
        """Change some fields of one record."""
        if body.setdefault("id", id) != id:
            raise ValidationError("id: expected the one of the path, or none", value=body["id"])
        collection = store.collection(kind)
        collection.update([body])
        return answer(plain(collection.get_many([id], missing="raise")[0]))

    @routes.delete("/{kind}/{id}", responses={**WRITE, **ok("1")})
    @service.lanes.writing
    def delete_one(kind: Kind, id: Id) -> Response:
        """Delete one record."""
        if not store.collection(kind).delete(id):
            raise NotFound(f"{kind}: no record with the id {id!r}")
        return answer({"deleted": 1})

    return routes


def streamed(lines: Iterator[bytes]) -> StreamingResponse:
    """A response of JSON lines.

    The first piece is read at once, so that what is wrong is an error and not a body that breaks off.
    """
    pieces = ndjson(lines)
    first = next(pieces, b"")
    return StreamingResponse(itertools.chain([first], pieces), media_type="application/x-ndjson")
