"""What memories, causes, skills, episodes and minds demand and promise beyond the common verbs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from vectorstore.contracts import Promise, Rule, Verb
from vectorstore.promises.rules import (
    COUNT,
    FILTER,
    FLAG,
    HITS,
    SHARE,
    SOME_IDS,
    TEXT,
    one_of,
    or_none,
    whole,
)

MOMENT = Rule("a time with a zone", lambda value: isinstance(value, datetime) and value.tzinfo is not None)
TIER = Rule(
    "a tier: 1..12, or its name",
    lambda value: (
        isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 12)
    ),
)
TIERS = Rule(
    "a tier (1..12, or its name), or several",
    lambda value: TIER.holds(value) or (isinstance(value, Iterable) and not isinstance(value, str | bytes)),
)
SALIENCE = Rule("a Salience, such as Salience(recency=0)", lambda value: type(value).__name__ == "Salience")
SPREAD = Rule("a Spread, such as Spread(hops=2)", lambda value: type(value).__name__ == "Spread")


def _ordered(_: Any, given: Callable[..., Any], found: Any) -> bool:
    scores = [each.score for each in found]
    return len(scores) <= int(given("k", 10)) and scores == sorted(scores, reverse=True)


def _bounded(_: Any, given: Callable[..., Any], found: Any) -> bool:
    return bool(len(found) <= given("limit", 10_000))


def _simple(_: Any, given: Callable[..., Any], found: Any) -> bool:
    depth = given("depth", 4)
    return all(len(path) <= depth and len({*path.nodes}) == len(path) + 1 for path in found)


_BEST = (Promise("at most k, best first", _ordered),)
_MOST = (Promise("at most `limit`", _bounded),)
_PATHS = (*_MOST, Promise("paths of at most `depth` edges, none with a record twice", _simple))

_RECALL = {"k": whole(1), "tier": or_none(TIERS), "where": FILTER, "salience": or_none(SALIENCE), "exact": FLAG}
_WALK = {"type": or_none(SOME_IDS), "where": FILTER, "limit": whole(1)}
_REACH = {**_WALK, "id": TEXT, "depth": or_none(whole(1))}
_EDGES_AT = {"memory": TEXT, "limit": whole(1)}
_LINEAGE = {"id": TEXT, "depth": or_none(whole(1))}

VERBS: dict[str, Verb] = {
    "Linked.paths": Verb({**_WALK, "source": TEXT, "target": or_none(TEXT), "depth": whole(1)}, _PATHS),
    "Concepts.associate": Verb({"k": whole(1), "spread": or_none(SPREAD), "where": FILTER, "exact": FLAG}, _BEST),
    "Memories.touch": Verb({"ids": SOME_IDS, "at": or_none(MOMENT)}, COUNT, writes=True),
    "Memories.ladder": Verb(),
    "Memories.level": Verb({"tier": TIER}),
    "Memories.in_tier": Verb({"tier": TIER, "limit": whole(1), "where": FILTER}, _MOST),
    "Memories.forget": Verb({"below": SHARE, "where": FILTER, "dry_run": FLAG}, writes=True),
    "Memories.promote": Verb({"to": or_none(TIER), "where": FILTER, "dry_run": FLAG}, writes=True),
    "Memories.recall": Verb({**_RECALL, "touch": FLAG}, HITS),
    "Memories.associate": Verb({**_RECALL, "spread": or_none(SPREAD)}, _BEST),
    "Memories.effects": Verb(_REACH, _MOST),
    "Memories.causes": Verb(_REACH, _MOST),
    "Causes.merge": Verb(writes=True),
    "Causes.leaving": Verb(_EDGES_AT, _MOST),
    "Causes.reaching": Verb(_EDGES_AT, _MOST),
    "Episodes.of": Verb({"memory": TEXT, "trigger": or_none(TEXT), "limit": whole(1)}, _MOST),
    "Episodes.statistics": Verb({"where": FILTER}),
    "Episodes.by_trigger": Verb({"where": FILTER}),
    "Skills.used": Verb({"id": TEXT, "success": FLAG, "at": or_none(MOMENT)}, writes=True),
    "Skills.leaderboard": Verb(
        {"by": one_of("successes", "rate", "wilson"), "limit": whole(1), "min_uses": whole(0), "where": FILTER}, _MOST
    ),
    "Skills.with_pattern": Verb({"text": TEXT, "limit": whole(1)}, _MOST),
    "Skills.triggered": Verb({"text": TEXT, "limit": whole(1), "where": FILTER}, _MOST),
    "Architectures.ancestors": Verb(_LINEAGE),
    "Architectures.descendants": Verb(_LINEAGE),
    "Architectures.delete": Verb({"ids": or_none(SOME_IDS), "where": FILTER, "dry_run": FLAG}, COUNT, True),
    "Intelligences.move": Verb({"id": TEXT, "status": TEXT}, writes=True),
}
