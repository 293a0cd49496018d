"""Routes that search: nearest records, many at once, over several kinds, by a threshold; and neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from vectorstore.errors import NotFound, ValidationError
from vectorstore.http import bodies
from vectorstore.http.records import NDJSON, READ, Id, Kind, ok, plain, streamed
from vectorstore.http.service import Route, Service, answer, as_json

HITS = ok("hits, best first, and how they were found")


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=Route, tags=["search"])
    store, limits = service.store, service.limits

    @routes.post("/search", responses={**READ, **HITS})
    def across(body: bodies.SearchAll) -> Response:
        """Search several kinds at once."""
        bodies.within(limits, body.k, len(body.kinds or store.kinds))
        hits = store.search(body.query, body.k, kinds=body.kinds, contexts=body.contexts, where=body.where)
        return answer(hits.to_dict())

    @routes.post("/{kind}/search", responses={**READ, **HITS})
    def search(kind: Kind, body: bodies.Search) -> Response:
        """The k records nearest to a text, a vector, a record or examples. A filter never makes the answer short."""
        hits = store.collection(kind).search(body.asked(limits), **body.options())
        found = hits.to_dict()
        if body.min_score is not None:
            found["hits"] = [hit for hit in found["hits"] if hit["score"] >= body.min_score]
        if body.explain:
            found["explain"] = hits.explain()
        return answer(found)

    @routes.post("/{kind}/search_many", responses={**READ, **ok("one answer for each query")})
    def search_many(kind: Kind, body: bodies.SearchMany) -> Response:
        """Several searches from one snapshot."""
        bodies.within(limits, body.k, len(body.queries))
        many = store.collection(kind).search_many(body.queries, body.k, body.where, body.recall, body.exact, body.space)
        return answer({"answers": [hits.to_dict() for hits in many]})

    @routes.post("/{kind}/search_range", responses={**READ, **ok("a hit a line, best first", content=NDJSON)})
    def search_range(kind: Kind, body: bodies.Search) -> StreamingResponse:
        """Every record that scores at least `min_score`, as NDJSON."""
        if body.min_score is None:
            raise ValidationError("min_score: is required here")
        found = store.collection(kind).search_range(body.asked(limits), body.min_score, body.where, space=body.space)
        return streamed(_lines(found))

    @routes.get("/{kind}/{id}/neighbours", responses={**READ, **HITS})
    def neighbours(
        kind: Kind,
        id: Id,
        k: Annotated[int, Query(ge=1, le=1_000)] = 10,
        space: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
    ) -> Response:
        """What is nearest to a record, without itself."""
        import vectorstore as vs

        return answer(store.collection(kind).search(vs.Id(id), k, space=space).to_dict())

    @routes.post("/{kind}/similarity", responses={**READ, **ok("score and distance")})
    def similarity(kind: Kind, body: bodies.Alike) -> Response:
        """How alike two records are by their vectors, as the score of the second in a search for the first."""
        import vectorstore as vs

        records = store.collection(kind)
        records.get_many([body.first, body.second], missing="raise")
        where = {"id": body.second}
        same = body.first == body.second  # a search for a record leaves it out
        query = records.vectors([body.first], space=body.space)[0] if same else vs.Id(body.first)
        hits = records.search(query, 1, where, exact=True, space=body.space)
        if not hits:
            raise NotFound(f"{kind}: {body.second!r} has no vector")
        return answer({"score": hits[0].score, "distance": hits[0].distance})

    @routes.get("/{kind}/{id}/vector", responses={**READ, **ok("its numbers and where they come from")})
    def vector(
        kind: Kind, id: Id, space: Annotated[str | None, Query(min_length=1, max_length=255)] = None
    ) -> Response:
        """A record's vector."""
        collection = store.collection(kind)
        numbers = collection.vectors([id], space=space)[0]
        info = collection.vector_info(id, space=space)
        about = None if info is None else {name: getattr(info, name) for name in info.__dataclass_fields__}
        return answer({"id": id, "vector": [float(number) for number in numbers], "about": about})

    return routes


def _lines(found: Iterator[Any]) -> Iterator[bytes]:
    for rank, hit in enumerate(found):
        yield as_json({"rank": rank, "score": hit.score, "distance": hit.distance, "record": plain(hit.record)})
