"""Routes of long memory: memories and what led to what, skills, minds, and the lattice."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field, FiniteFloat

from vectorstore.http import bodies
from vectorstore.http.bodies import DAY, Body, Name, Share, Text, Where
from vectorstore.http.records import READ, WRITE, Id, ok, plain
from vectorstore.http.searching import HITS
from vectorstore.http.service import Route, Service, answer

NamedTier = Annotated[Name, bodies.TEXT]
Level = Annotated[bodies.Whole, Field(ge=0, le=1_000), bodies.NUMBER]
Tier = Annotated[NamedTier | Level, bodies.either("a tier's name or number")]
Tiers = Annotated[list[Tier], Field(fail_fast=True), bodies.LIST]
Weight = Annotated[FiniteFloat, Field(ge=0, le=1e6)]
Depth = Annotated[int, Query(ge=1, le=100)]
Context = Annotated[str, Query(min_length=1, max_length=255)]


class Weights(Body):
    """What counts in a recall, and how much."""

    similarity: Weight = 1.0
    importance: Weight = 0.25
    recency: Weight = 0.25
    half_life_days: Annotated[FiniteFloat, Field(gt=0, le=1e6)] | None = None


class Recall(Body):
    """What is remembered of something."""

    query: bodies.Query
    k: Annotated[bodies.Whole, Field(ge=1, le=1_000)] = 10
    tier: Annotated[NamedTier | Level | Tiers, bodies.either("a tier's name or number, or a list")] | None = None
    where: Where | None = None
    salience: Weights | None = None
    recall: Share | None = None
    exact: bool = False

    def options(self) -> dict[str, Any]:
        """As `Memories.recall` takes it."""
        import vectorstore as vs

        found = {name: getattr(self, name) for name in ("k", "tier", "where", "recall", "exact")}
        if self.salience is not None:
            weights = self.salience.model_dump(exclude={"half_life_days"})
            if self.salience.half_life_days is not None:
                weights["half_life"] = self.salience.half_life_days * DAY
            found["salience"] = vs.Salience(**weights)
        return found


class Remember(Recall):
    """A recall that may note that it was one."""

    touch: bool = Field(False, description="note the use of what is found")


class Spreading(Body):
    """How far association goes."""

    seeds: Annotated[bodies.Whole, Field(ge=1, le=1_000)] = 10
    hops: Annotated[bodies.Whole, Field(ge=0, le=10)] = 1
    damping: Share = 0.5
    share: Weight = 1.0
    direction: Literal["out", "in", "both"] = "both"
    types: Annotated[list[Name], Field(fail_fast=True)] | None = None


class Associate(Recall):
    """What comes to mind: hits and their neighbours."""

    spread: Spreading | None = None


class Forget(Body):
    """What is forgotten."""

    below: Share = 0.5
    where: Where | None = None
    dry_run: bool = True


class Promote(Body):
    """What rises."""

    where: Where | None = None
    dry_run: bool = True


class Touched(Body):
    """Ids of what was used."""

    ids: bodies.Ids


class Used(Body):
    """How the use of a skill went."""

    success: bool


class Triggered(Body):
    """What may set off a skill."""

    text: Text
    limit: Annotated[bodies.Whole, Field(ge=1, le=1_000)] = 100


class Move(Body):
    """Where an intelligence goes next."""

    status: Name


class Pair(Body):
    """Two identities that meet."""

    a: Name
    b: Name
    directed: bool = False
    context: Name = "default"
    event: Share = 0.1


Two = Annotated[list[Name], Field(fail_fast=True, min_length=2, max_length=2)]


class Pairs(Body):
    """Many pairs that meet."""

    pairs: Annotated[list[Two], Field(fail_fast=True, max_length=10_000)]
    directed: bool = False
    context: Name = "default"
    event: Share = 0.1


class Fade(Body):
    """Decay that is written down."""

    tau_days: Annotated[FiniteFloat, Field(gt=0, le=1e6)] = 14.0
    where: Where | None = None


class Prune(Body):
    """Forms that nobody has come back to."""

    older_than_days: Annotated[FiniteFloat, Field(ge=0, le=36_500)] = 30.0
    where: Where | None = None
    dry_run: bool = True


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(route_class=Route)
    _memories(routes, service)
    _minds(routes, service)
    _lattice(routes, service)
    return routes


def _reached(found: Any) -> list[dict[str, Any]]:
    return [
        {"record": plain(one.record), "depth": one.depth, "path": [asdict(edge) for edge in one.path]} for one in found
    ]


def _memories(routes: APIRouter, service: Service) -> None:
    store, limits = service.store, service.limits

    @routes.post("/memories/recall", tags=["memories"], responses={**READ, **HITS})
    @service.lanes.writing
    def recall(body: Remember) -> Response:
        """Memories by similarity, importance and recency."""
        bodies.within(limits, body.k, 1)
        return answer(store.memories.recall(body.query, **body.options(), touch=body.touch).to_dict())

    @routes.post("/memories/associate", tags=["memories"], responses={**READ, **ok("what came to mind, and how")})
    @service.lanes.writing
    def associate(body: Associate) -> Response:
        """Memories that are like a query, and those that causes lead to from them."""
        import vectorstore as vs

        bodies.within(limits, body.k, 1)
        told = None if body.spread is None else body.spread.model_dump()
        if told is not None and told["types"] is not None:
            told["types"] = tuple(told["types"])
        spread = None if told is None else vs.Spread(**told)
        found = store.memories.associate(body.query, **body.options(), spread=spread)
        shown = [
            {
                **{name: getattr(one, name) for name in ("score", "own", "arrived", "seed")},
                "record": plain(one.record),
                "path": [asdict(edge) for edge in one.path],
            }
            for one in found
        ]
        return answer({"associations": shown})

    @routes.post("/memories/touch", tags=["memories"], responses={**WRITE, **ok("how many were touched")})
    @service.lanes.writing
    def touch(body: Touched) -> Response:
        """Note that memories were used."""
        return answer({"touched": store.memories.touch(body.ids)})

    @routes.get("/memories/ladder", tags=["memories"], responses={**READ, **ok("the tiers, the lowest first")})
    def ladder() -> Response:
        """The tiers of memories."""
        return answer({"tiers": [plain(tier) for tier in store.memories.ladder()]})

    @routes.post("/memories/forget", tags=["memories"], responses={**WRITE, **ok("what was, or would be, forgotten")})
    @service.lanes.writing
    def forget(body: Forget) -> Response:
        """Forget what is past its tier's time and of little importance; only looks unless told otherwise."""
        found = store.memories.forget(below=body.below, where=body.where, dry_run=body.dry_run)
        records = [plain(one) for one in found.memories]
        return answer({"memories": records, "held": found.held, "deleted": found.deleted})

    @routes.post("/memories/promote", tags=["memories"], responses={**WRITE, **ok("what rose, or would")})
    @service.lanes.writing
    def promote(body: Promote) -> Response:
        """Move memories up that earned it; only looks unless told otherwise."""
        found = store.memories.promote(where=body.where, dry_run=body.dry_run)
        return answer({"promotions": [asdict(one) for one in found]})

    @routes.get("/memories/{id}/effects", tags=["memories"], responses={**READ, **ok("what it led to")})
    def effects(id: Id, depth: Depth = 1, limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """What a memory led to, the nearest first."""
        return answer({"effects": _reached(store.memories.effects(id, depth, limit=limit))})

    @routes.get("/memories/{id}/causes", tags=["memories"], responses={**READ, **ok("what led to it")})
    def causes(id: Id, depth: Depth = 1, limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """What led to a memory, the nearest first."""
        return answer({"causes": _reached(store.memories.causes(id, depth, limit=limit))})


def _minds(routes: APIRouter, service: Service) -> None:
    store = service.store

    @routes.post("/skills/triggered", tags=["skills"], responses={**READ, **ok("the skills")})
    def triggered(body: Triggered) -> Response:
        """Skills whose patterns match a text."""
        return answer({"records": [plain(one) for one in store.skills.triggered(body.text, body.limit)]})

    @routes.get("/skills/leaderboard", tags=["skills"], responses={**READ, **ok("the skills, the best first")})
    def leaderboard(
        by: Literal["successes", "rate", "wilson"] = "successes",
        limit: Annotated[int, Query(ge=1, le=1_000)] = 10,
    ) -> Response:
        """The best skills."""
        return answer({"records": [plain(one) for one in store.skills.leaderboard(by, limit=limit)]})

    @routes.post("/skills/{id}/used", tags=["skills"], responses={**WRITE, **ok("the skill as it is now")})
    @service.lanes.writing
    def used(id: Id, body: Used) -> Response:
        """Count a use of a skill."""
        return answer(plain(store.skills.used(id, body.success)))

    @routes.post("/intelligences/{id}/move", tags=["minds"], responses={**WRITE, **ok("the intelligence")})
    @service.lanes.writing
    def move(id: Id, body: Move) -> Response:
        """Move an intelligence along its life."""
        return answer(plain(store.intelligences.move(id, body.status)))

    @routes.get("/architectures/{id}/lineage", tags=["minds"], responses={**READ, **ok("ancestors and descendants")})
    def lineage(id: Id) -> Response:
        """Where an architecture comes from and what came of it."""
        up, down = store.architectures.ancestors(id), store.architectures.descendants(id)
        return answer({"ancestors": [plain(one) for one in up], "descendants": [plain(one) for one in down]})

    @routes.get("/episodes/statistics", tags=["minds"], responses={**READ, **ok("how the episodes went")})
    def statistics() -> Response:
        """How what was tried went, in all and by trigger."""
        by = {trigger: asdict(one) for trigger, one in store.episodes.by_trigger().items()}
        return answer({**asdict(store.episodes.statistics()), "by_trigger": by})


def _lattice(routes: APIRouter, service: Service) -> None:
    store = service.store

    @routes.post("/lattice/resolve", tags=["lattice"], responses={**WRITE, **ok("the pair's intensity")})
    @service.lanes.writing
    def resolve(body: Pair) -> Response:
        """Let two identities meet: their form is made, or gathers a term."""
        left = store.lattice.resolve(body.a, body.b, directed=body.directed, context=body.context, event=body.event)
        return answer({"intensity": left})

    @routes.post("/lattice/resolve_many", tags=["lattice"], responses={**WRITE, **ok("each pair's intensity")})
    @service.lanes.writing
    def resolve_many(body: Pairs) -> Response:
        """Let many pairs meet, in one commit."""
        pairs = [(a, b) for a, b in body.pairs]
        left = store.lattice.resolve_many(pairs, directed=body.directed, context=body.context, event=body.event)
        return answer({"intensities": left})

    @routes.post("/lattice/decay", tags=["lattice"], responses={**WRITE, **ok("how many terms were written")})
    @service.lanes.writing
    def decay(body: Fade) -> Response:
        """Write down what time has left of all intensities."""
        return answer({"decayed": store.lattice.decay(body.tau_days, where=body.where)})

    @routes.post("/lattice/prune", tags=["lattice"], responses={**WRITE, **ok("how many went, or would go")})
    @service.lanes.writing
    def prune(body: Prune) -> Response:
        """Delete forms that were long not changed; only counts unless told otherwise."""
        age = body.older_than_days * DAY
        return answer({"pruned": store.lattice.prune(age, where=body.where, dry_run=body.dry_run)})

    @routes.get("/lattice/form", tags=["lattice"], responses={**READ, **ok("the form and its terms")})
    def form(anchor: Annotated[str, Query(min_length=1, max_length=255)], context: Context = "default") -> Response:
        """A form with its terms, what time has left of it, and what is wrong with its chain."""
        found = store.lattice.form(anchor, context)
        terms = store.lattice.terms(anchor, context)
        faults = [*store.lattice.verify(anchor, context)]
        left = store.lattice.intensity(anchor, context)
        return answer({**plain(found), "intensity": left, "terms": [plain(term) for term in terms], "faults": faults})
