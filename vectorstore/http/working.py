"""Routes of work: batches that survive a restart, their workflows, and progress as it happens."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import AfterValidator, Field, FiniteFloat, StringConstraints, WithJsonSchema

from vectorstore.clusters.recipes import BUILTIN_CLUSTER_RECIPES
from vectorstore.errors import ValidationError
from vectorstore.http import bodies
from vectorstore.http.records import NDJSON, READ, WRITE, Kind, ok, streamed
from vectorstore.http.service import Route, Service, answer, as_json
from vectorstore.recipes import BUILTIN_RECIPES
from vectorstore.workflows import Workflow

OVER = frozenset({"completed", "failed", "cancelled", "rolled_back"})
Status = Literal["pending", "processing", "completed", "failed", "cancelled", "rolled_back"]
Policy = Literal["strict", "lenient"]
Name = Annotated[str, Path(min_length=1, max_length=255)]
Number = Annotated[str, StringConstraints(pattern=r"^\d{1,9}$")]
NewName = Annotated[str, StringConstraints(min_length=1, max_length=255)]
LOOK = 0.2
"""Seconds between two looks at a workflow that is watched."""
ACCEPTED = ok("the workflow, which goes on in the background", 202)


def one_of(names: Iterable[str]) -> Any:
    """A field that is one of these names; names only, as no request opens a file."""
    return Annotated[str, WithJsonSchema({"enum": [*names]}), AfterValidator(lambda text: _named(text, [*names]))]


def _named(text: str, names: list[str]) -> str:
    if text not in names:
        raise ValueError(f"expected one of {', '.join(names)}")
    return text


class Batch(bodies.Records):
    """Records to write in the background."""

    id: NewName | None = Field(None, description="of the workflow; one is made if left out")
    operation: Literal["create", "update"] = "create"
    policy: Policy = Field("strict", description="strict: any error takes all back; lenient: the rest stays")
    overwrite: bool = True
    metadata: dict[str, Any] = Field(default_factory=dict)


class Deletion(bodies.Chosen):
    """Records to delete in the background."""

    id: NewName | None = None
    policy: Policy = "strict"
    metadata: dict[str, Any] = Field(default_factory=dict)


class Criteria(bodies.Body):
    """Analogies to delete: all that is said must hold; of the domains either side."""

    domains: Annotated[list[NewName], Field(fail_fast=True)] | None = None
    min_quality: FiniteFloat | None = Field(None, ge=0, le=1)
    max_quality: FiniteFloat | None = Field(None, ge=0, le=1)
    created_before: str | None = None
    created_after: str | None = None
    ids: bodies.Ids | None = None
    workflow_id: NewName | None = None

    def where(self) -> dict[str, Any]:
        """The filter that they make."""
        parts: list[dict[str, Any]] = []
        if self.domains is not None:
            parts.append({"or": [{"source_domain__in": self.domains}, {"target_domain__in": self.domains}]})
        for key, value in (
            ("quality__gte", self.min_quality),
            ("quality__lte", self.max_quality),
            ("created_at__lt", self.created_before),
            ("created_at__gt", self.created_after),
            ("id__in", self.ids),
        ):
            if value is not None:
                parts.append({key: value})
        if not parts:
            raise ValidationError("criteria: expected at least one of domains, quality, dates and ids")
        return {"and": parts}


class Index(bodies.Body):
    """An index to build in the background."""

    recipe: one_of(("auto", *BUILTIN_RECIPES)) = "pq-fastscan"  # type: ignore[valid-type]
    id: NewName | None = None


class Fit(bodies.Body):
    """Clusters to fit in the background."""

    recipe: one_of(BUILTIN_CLUSTER_RECIPES) = "kmeans"  # type: ignore[valid-type]
    n: Annotated[bodies.Whole, Field(ge=1, le=100_000)] | None = None
    name: NewName | None = None
    where: bodies.Where | None = None
    context: NewName | None = None
    seed: Annotated[bodies.Whole, Field(ge=0, le=2**32 - 1)] = 0
    id: NewName | None = None


class Mapped(bodies.Body):
    """How a map is made."""

    method: Literal["pca", "umap"] = "pca"
    space: NewName | None = None


class Retry(bodies.Body):
    """What failed, made pending again; other contents by index."""

    changes: Annotated[dict[Number, dict[str, Any]], bodies.FIRST] = Field(default_factory=dict)


class Cleanup(bodies.Body):
    """Ended workflows to remove."""

    older_than_days: FiniteFloat = Field(30.0, ge=0, le=36_500)
    status: Literal["completed", "failed", "cancelled", "rolled_back"] | None = None
    dry_run: bool = False


def shown(workflow: Workflow) -> dict[str, Any]:
    """A workflow as data, with the share that is done."""
    return {**workflow.to_dict(), "progress": workflow.processed / workflow.total if workflow.total else 1.0}


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=Route, tags=["work"])
    _begin(routes, service)
    _move(routes, service)
    _look(routes, service)
    return routes


def _begin(routes: APIRouter, service: Service) -> None:
    store = service.store

    def accepted(workflow: Workflow) -> Response:
        return answer(shown(workflow), 202)

    @routes.post("/{kind}/batch", status_code=202, responses={**WRITE, **ACCEPTED})
    @service.lanes.writing
    def batch(kind: Kind, body: Batch) -> Response:
        """Write many records in the background: durable when this returns, and gone on with after a restart."""
        if len(body.records) > service.limits.records:
            raise ValidationError(f"records: expected at most {service.limits.records} in one request")
        options: dict[str, Any] = {"id": body.id, "policy": body.policy, "metadata": body.metadata}
        if body.operation == "update":
            return accepted(store.workflows.update(kind, body.records, body.vectors, **options))
        made = store.workflows.create(kind, body.records, body.vectors, overwrite=body.overwrite, **options)
        return accepted(made)

    @routes.delete("/analogies/batch", status_code=202, responses={**WRITE, **ACCEPTED})
    @service.lanes.writing
    def delete_analogies(body: Criteria) -> Response:
        """Delete the analogies that match all criteria, in the background."""
        where = body.where()
        meant = {"criteria": body.model_dump(exclude_none=True)}
        return accepted(store.workflows.delete("analogies", where=where, id=body.workflow_id, metadata=meant))

    @routes.post("/{kind}/batch/delete", status_code=202, responses={**WRITE, **ACCEPTED})
    @service.lanes.writing
    def delete_batch(kind: Kind, body: Deletion) -> Response:
        """Delete records in the background; the workflow's rollback brings them back."""
        options: dict[str, Any] = {"id": body.id, "policy": body.policy, "metadata": body.metadata}
        return accepted(store.workflows.delete(kind, body.ids, where=body.where, **options))

    @routes.post("/{kind}/embed", status_code=202, responses={**WRITE, **ACCEPTED})
    @service.lanes.writing
    def embed(kind: Kind, body: Deletion) -> Response:
        """Embed records again, in the background."""
        options: dict[str, Any] = {"id": body.id, "policy": body.policy, "metadata": body.metadata}
        return accepted(store.workflows.reembed(kind, body.ids, where=body.where, **options))

    @routes.post("/{kind}/index", status_code=202, responses={**WRITE, **ACCEPTED})
    @service.lanes.writing
    def index(kind: Kind, body: Index) -> Response:
        """Build a kind's index anew in the background; a worse one never replaces a better."""
        return accepted(store.workflows.reindex(kind, body.recipe, id=body.id))

    @routes.get("/{kind}/index", responses={**READ, **ok("recipe, rows, bytes; null without an index")})
    def index_of(kind: Kind) -> Response:
        """A kind's current index."""
        store.collection(kind)
        return answer({"index": store.stats()["kinds"][kind]["index"]})

    @routes.post("/{kind}/clusters", status_code=202, responses={**WRITE, **ACCEPTED})
    @service.lanes.writing
    def fit(kind: Kind, body: Fit) -> Response:
        """Fit a kind's clusters in the background."""
        options = {name: getattr(body, name) for name in ("where", "context", "name", "seed", "id")}
        return accepted(store.workflows.cluster(kind, body.recipe, body.n, **options))

    @routes.post("/{kind}/map", responses={**WRITE, **ok("what is known of the map")})
    @service.lanes.long
    def fit_map(kind: Kind, body: Mapped) -> Response:
        """Make a kind's map from its vectors as they are now."""
        return answer(asdict(store.maps.fit(kind, body.method, space=body.space)))

    @routes.get("/{kind}/map", responses={**READ, **ok("points, ids, colours, legend")})
    def map_of(
        kind: Kind,
        colour: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
        space: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
    ) -> Response:
        """A kind's records on its map: `points` as base64 of float32 x, y, ..., `colours` of int16; little-endian."""
        found = store.maps.get(kind, colour, space=space)
        return answer(
            {
                "info": asdict(found.info),
                "ids": found.ids,
                "points": base64.b64encode(found.points.astype("<f4").tobytes()).decode(),
                "colours": base64.b64encode(found.colours.astype("<i2").tobytes()).decode(),
                "legend": found.legend,
            }
        )

    @routes.post("/{kind}/compact", responses={**WRITE, **ok("what came back")})
    @service.lanes.long
    def compact(kind: Kind) -> Response:
        """Drop retired vectors from the disk and merge small segments."""
        store.collection(kind)
        return answer({"reports": [asdict(report) for report in store.compact(kind)]})


def _move(routes: APIRouter, service: Service) -> None:
    store = service.store

    # The name that one of the source systems has for it.
    @routes.post("/analogies/batch/process/{id}", include_in_schema=False)
    @routes.post("/workflows/{id}/process", responses={**WRITE, **ok("the workflow, ended")})
    @service.lanes.long
    def process(id: Name) -> Response:
        """Process a workflow now and wait for its end."""
        return answer(shown(store.workflows.process(id)))

    @routes.post("/workflows/{id}/cancel", responses={**WRITE, **ok("the workflow")})
    @service.lanes.writing
    def cancel(id: Name) -> Response:
        """Cancel a workflow: a pending one at once, one that is processed within a chunk."""
        return answer(shown(store.workflows.cancel(id)))

    @routes.post("/workflows/{id}/rollback", responses={**WRITE, **ok("the workflow, rolled back")})
    @service.lanes.long
    def rollback(id: Name) -> Response:
        """Take back what a workflow did."""
        return answer(shown(store.workflows.rollback(id)))

    @routes.post("/workflows/{id}/retry", responses={**WRITE, **ok("the workflow, pending again")})
    @service.lanes.writing
    def retry(id: Name, body: Retry) -> Response:
        """Try again what failed, with other contents where they are given."""
        return answer(shown(store.workflows.retry(id, {int(place): item for place, item in body.changes.items()})))

    @routes.post("/workflows/cleanup", responses={**WRITE, **ok("how many were removed")})
    @service.lanes.writing
    def cleanup(body: Cleanup) -> Response:
        """Remove ended workflows; the log stays."""
        age = timedelta(days=body.older_than_days)
        return answer({"removed": store.workflows.cleanup(age, body.status, dry_run=body.dry_run)})


def _look(routes: APIRouter, service: Service) -> None:
    store = service.store

    @routes.get("/workflows", responses={**READ, **ok("a page, the newest first")})
    def workflows(
        status: Status | None = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
        after: Annotated[str | None, Query(max_length=2_000)] = None,
    ) -> Response:
        """Workflows, the newest first."""
        page = store.workflows.list(status, limit=limit, after=after)
        return answer({"workflows": [shown(one) for one in page], "total": page.total, "next": page.next})

    @routes.get("/workflows/health", responses={**READ, **ok("counts, and what is stuck or failed")})
    def work_health() -> Response:
        """How work fares."""
        found = store.workflows.health()
        waiting = None if found.waiting is None else found.waiting.total_seconds()
        parts = {"stuck": [shown(one) for one in found.stuck], "failed": [shown(one) for one in found.failed]}
        return answer({"ok": found.ok, "counts": found.counts, **parts, "waiting": waiting})

    @routes.get("/workflows/{id}/status", include_in_schema=False)
    @routes.get("/workflows/{id}", responses={**READ, **ok("the workflow")})
    def workflow(id: Name) -> Response:
        """A workflow as it is now, whichever process works on it."""
        return answer(shown(store.workflows.get(id)))

    @routes.get("/workflows/{id}/errors", responses={**READ, **ok("a page of items that failed")})
    def errors(
        id: Name,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        after: Annotated[str | None, Query(max_length=2_000)] = None,
    ) -> Response:
        """The items that failed, with index, id and reason."""
        page = store.workflows.errors(id, limit=limit, after=after)
        return answer({"errors": [asdict(item) for item in page], "total": page.total, "next": page.next})

    @routes.get("/workflows/{id}/items", responses={**READ, **ok("an item a line", content=NDJSON)})
    def items(id: Name) -> StreamingResponse:
        """All items, as NDJSON."""
        store.workflows.get(id)

        def lines() -> Iterator[bytes]:
            after: str | None = None
            for turn in itertools.count():
                if turn and after is None:
                    return
                page = store.workflows.items(id, limit=1000, after=after)
                yield from (as_json(asdict(item)) for item in page)
                after = page.next

        return streamed(lines())

    @routes.get("/workflows/{id}/log", responses={**READ, **ok("a page, the newest first")})
    def log(
        id: Name,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        after: Annotated[str | None, Query(max_length=2_000)] = None,
    ) -> Response:
        """What happened to a workflow."""
        page = store.workflows.log(id, limit=limit, after=after)
        return answer({"log": [asdict(line) for line in page], "total": page.total, "next": page.next})

    def known(id: Name) -> None:
        store.workflows.get(id)  # before the stream begins: afterwards there is no status left to say it with

    @routes.get(
        "/workflows/{id}/events", response_class=EventSourceResponse, responses=READ, dependencies=[Depends(known)]
    )
    async def events(id: Name) -> AsyncIterator[ServerSentEvent]:
        """Progress as server-sent events, one for each change, until the workflow has ended."""
        before: Any = None
        while True:
            found = await service.lanes.watching.run(lambda: store.workflows.get(id))
            if found != before:
                yield ServerSentEvent(data=shown(found), event="progress", id=str(found.processed))
            if found.status in OVER and not found.stopping:
                return
            before = found
            await anyio.sleep(LOOK)
