"""Routes that ask for more than records: analogies, relations between concepts, frames, clusters and fields."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response, StreamingResponse

from vectorstore.http import bodies
from vectorstore.http.records import NDJSON, READ, WRITE, Id, Kind, ok, page_of, plain, streamed
from vectorstore.http.searching import HITS
from vectorstore.http.service import Route, Service, answer, as_json

Name = Annotated[str, Query(min_length=1, max_length=255)]
MaybeName = Annotated[str | None, Query(min_length=1, max_length=255)]
Limit = Annotated[int, Query(ge=1, le=10_000)]


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=Route)
    _analogies(routes, service)
    _concepts(routes, service)
    _clusters(routes, service)
    return routes


def _analogies(routes: APIRouter, service: Service) -> None:
    store, limits = service.store, service.limits

    @routes.post("/analogies/complete", tags=["analogies"], responses={**READ, **HITS})
    def complete(body: bodies.Complete) -> Response:
        """A is to b as c is to what? Ids, names or vectors; answers with score, margin and confidence."""
        bodies.within(limits, body.k, 1)
        names = ("k", "method", "kind", "context", "where", "recall", "exact", "space")
        options = {name: getattr(body, name) for name in names}
        hits: Any = store.analogies.complete(body.a, body.b, body.c, **options)
        found = hits.to_dict()
        for shown, hit in zip(found["hits"], hits, strict=True):
            shown |= {"margin": hit.margin, "confidence": hit.confidence}
        found["hits"] = [shown for shown in found["hits"] if shown["confidence"] >= body.min_confidence]
        return answer(found)

    @routes.post("/analogies/discover", tags=["analogies"], responses={**WRITE, **ok("the analogy, or null")})
    @service.lanes.long
    def discover(body: bodies.Discover) -> Response:
        """The best one-to-one mapping of one domain's concepts to another's; kept only if `save` says so."""
        names = ("min_quality", "pairs", "context", "kind", "space", "save")
        options = {name: getattr(body, name) for name in names}
        found = store.analogies.discover(body.source, body.target, **options)
        return answer({"analogy": None if found is None else plain(found)})

    @routes.post("/analogies/align", tags=["analogies"], responses={**READ, **ok("the analogy")})
    def align(body: bodies.Align) -> Response:
        """Which term of one system plays the part of which of another; nothing is written."""
        found = store.analogies.align(body.source, body.source_terms, body.target, body.target_terms)
        return answer({"analogy": plain(found)})

    @routes.post("/analogies/retrieve", tags=["analogies"], responses={**READ, **HITS})
    def retrieve(body: bodies.Retrieve) -> Response:
        """Analogies whose story has the same structure as a text."""
        bodies.within(limits, body.k, 1)
        return answer(store.analogies.retrieve(body.text, body.k, body.where).to_dict())

    @routes.get("/analogies/mapping", tags=["analogies"], responses={**READ, **ok("counterparts and who says so")})
    def mapping(term: Name) -> Response:
        """What a term corresponds to in other domains, by the analogies that are kept; the surest first."""
        found = [
            {"term": one.term, "domain": one.domain, "confidence": one.confidence,
             "analogies": [analogy.id for analogy in one.analogies]}
            for one in store.analogies.mapping(term)
        ]  # fmt: skip
        return answer({"mappings": found})

    @routes.get("/analogies/stream", tags=["analogies"], responses={**READ, **ok("an analogy a line", content=NDJSON)})
    def stream_analogies(
        domain: MaybeName = None,
        min_quality: Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)] = None,
        limit: Annotated[int, Query(ge=1, le=1_000_000_000)] = 100,
    ) -> StreamingResponse:
        """Analogies that have the domain on either side, as NDJSON at flat memory."""
        found = store.analogies.stream(_quality(min_quality, domain))
        return streamed(as_json(plain(record)) for record, _ in zip(found, range(limit), strict=False))

    @routes.get("/analogies/high-quality", tags=["analogies"], responses={**READ, **ok("a page, the best first")})
    def high_quality(
        min_quality: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.8,
        limit: Limit = 100,
        after: Annotated[str | None, Query(max_length=2_000)] = None,
    ) -> Response:
        """Analogies of at least a quality, the best first."""
        found = store.analogies.find(_quality(min_quality, None), order="-quality", limit=limit, after=after)
        return answer(page_of(found))


def _quality(least: float | None, domain: str | None) -> dict[str, Any] | None:
    parts: list[dict[str, Any]] = [] if least is None else [{"quality__gte": least}]
    if domain is not None:
        parts.append({"or": [{"source_domain": domain}, {"target_domain": domain}]})
    return {"and": parts} if parts else None


def _concepts(routes: APIRouter, service: Service) -> None:
    store = service.store

    @routes.get("/concepts/lookup", tags=["concepts"], responses={**READ, **ok("the concepts")})
    def lookup(
        text: Name,
        by: Literal["exact", "text", "similar", "pattern"] = "exact",
        context: MaybeName = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 10,
    ) -> Response:
        """Concepts by name: exactly, by words, by meaning or by a pattern."""
        found = store.concepts.lookup(text, by, context, limit)
        return answer({"records": [plain(record) for record in found]})

    @routes.get("/concepts/{id}/related", tags=["concepts"], responses={**READ, **ok("what relations lead to")})
    def related(
        id: Id,
        type: MaybeName = None,
        direction: Literal["out", "in", "both"] = "out",
        depth: Annotated[int, Query(ge=1, le=100)] = 1,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    ) -> Response:
        """Concepts that relations lead to, the nearest first, each with the way to it."""
        found = store.concepts.related(id, type, direction, depth, limit=limit)
        return answer(
            {
                "related": [
                    {"record": plain(one.concept), "depth": one.depth, "path": [asdict(edge) for edge in one.path]}
                    for one in found
                ]
            }
        )

    @routes.get("/frames/{id}/elements", tags=["frames"], responses={**READ, **ok("the elements")})
    def elements(id: Id) -> Response:
        """A frame's elements, inherited ones included."""
        return answer({"elements": [_shown(one) for one in store.frames.elements(id)]})

    @routes.post("/instances/bind", status_code=201, tags=["frames"], responses={**WRITE, **ok("its id", 201)})
    @service.lanes.writing
    def bind(body: bodies.Bound) -> Response:
        """Add a case of a frame; the frame and the concepts by name, as seen from its context, or by id."""
        given = body.model_dump(exclude={"id"} if body.id is None else None)
        return answer({"ids": [store.instances.bind(**given)]}, 201)

    @routes.get("/concepts/{id}/roles", tags=["frames"], responses={**READ, **ok("the parts that it plays")})
    def roles(id: Id) -> Response:
        """Which parts a concept plays in which cases."""
        return answer({"roles": [_shown(one) for one in store.instances.roles_of(id)]})

    @routes.get("/instances/{id}/analogous", tags=["frames"], responses={**READ, **ok("instances and scores")})
    def analogous(
        id: Id,
        k: Annotated[int, Query(ge=1, le=1_000)] = 10,
        min_score: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 0.0,
    ) -> Response:
        """Other instances of the same scene that are like this one."""
        found = store.instances.analogous(id, k=k, min_score=min_score)
        return answer({"analogous": [_shown(one) for one in found]})

    @routes.get("/contexts/{name}", tags=["contexts"], responses={**READ, **ok("the context and its counts")})
    def context(name: str) -> Response:
        """A context, and how many records of each kind are in it."""
        return answer(store.context_info(name))


def _shown(value: Any) -> dict[str, Any]:
    """A result of ours as plain data; records in it as they are."""
    found = {}
    for name in value.__dataclass_fields__:
        each = getattr(value, name)
        found[name] = plain(each) if hasattr(each, "model_dump") else each
    return found


def _clusters(routes: APIRouter, service: Service) -> None:
    store = service.store

    @routes.get("/{kind}/clusters", tags=["clusters"], responses={**READ, **ok("the clusters of a kind's current fit")})
    def clusters(kind: Kind, name: MaybeName = None) -> Response:
        """The clusters that a kind's records are in now, the largest first."""
        store.collection(kind)
        fit = name or kind
        page = store.clusters.find({"model": fit, "of": kind}, order="-size", limit=10_000)
        return answer({"fit": fit, "clusters": [plain(record) for record in page]})

    @routes.post("/fields/discover", tags=["clusters"], responses={**WRITE, **ok("the fields, new ones, gone ones")})
    @service.lanes.long
    def discover_fields(body: bodies.Fields) -> Response:
        """Make semantic fields of the clusters that hang together."""
        return answer(asdict(store.fields.discover(**body.model_dump())))

    @routes.get("/clusters/{id}/members", tags=["clusters"], responses={**READ, **ok("a page of members")})
    def members(id: Id, limit: Limit = 100, after: Annotated[str | None, Query(max_length=2_000)] = None) -> Response:
        """The members of a cluster, the surest first."""
        page = store.clusters.members(id, limit, after)
        return answer({"members": [_shown(one) for one in page], "total": page.total, "next": page.next})

    @routes.get("/{kind}/{id}/clusters", tags=["clusters"], responses={**READ, **ok("cluster id -> weight")})
    def memberships(kind: Kind, id: Id, name: MaybeName = None) -> Response:
        """The clusters that a record is in, and how surely."""
        store.collection(kind)
        return answer({"memberships": store.clusters.memberships(id, name or kind)})

    @routes.get("/{kind}/drift", tags=["clusters"], responses={**READ, **ok("how far the records have moved")})
    def drift(kind: Kind, name: MaybeName = None) -> Response:
        """How far a kind's records have moved from their fit."""
        store.collection(kind)
        return answer(asdict(store.clusters.drift(name or kind)))
