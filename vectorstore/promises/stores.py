"""What opening a store, its verbs, its models and its trail demand and promise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vectorstore.contracts import Rule, Verb
from vectorstore.promises.rules import (
    COUNT,
    CURSOR,
    FILTER,
    FLAG,
    FUNCTION,
    KIND,
    NAMED,
    PAGE,
    PATH,
    PROGRESS,
    RECIPE,
    SIZE,
    SPACE,
    TEXT,
    TIME,
    all_kinds,
    number,
    one_of,
    or_none,
    whole,
)

_EVENTS = ("commit", "publish", "rebuild", "fit", "persist", "workflow")

_SECONDS = number(0, words="a number of seconds, at least 0")
_CHOICE = or_none(one_of("cosine", "ip", "l2"))
_KINDS = Rule(
    "record classes",
    lambda value: (
        isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | type) and all_kinds(value)
    ),
)
_METRIC = Rule(
    "cosine, ip or l2, or a mapping from kinds to these",
    lambda value: isinstance(value, Mapping) or _CHOICE.holds(value),
)

OPENING: dict[str, Rule] = {
    "path": PATH,
    "kinds": _KINDS,
    "metric": _METRIC,
    "tokenizer": or_none(TEXT),
    **dict.fromkeys(("read_only", "create", "auto_publish", "verify", "trail"), FLAG),
    "clock": FUNCTION,
    "timeout": _SECONDS,
    "contracts": or_none(FLAG),
    "telemetry": or_none(FLAG),
    "cache": or_none(PATH),
    "index": or_none(
        Rule("an address, or a mapping from kinds to addresses", lambda value: isinstance(value, str | Mapping))
    ),
}
"""What opening demands, whether contracts are checked afterwards or not."""

VERBS: dict[str, Verb] = {
    "Store.collection": Verb({"kind": KIND}, counted=False),
    "Store.on": Verb({"event": one_of(*_EVENTS), "hook": FUNCTION}, counted=False),
    "Store.flush": Verb(gives=COUNT, writes=True),
    "Store.publish": Verb({"kind": or_none(TEXT), "progress": PROGRESS}, writes=True),
    "Store.rebuild": Verb({"kind": TEXT, "recipe": or_none(RECIPE), "progress": PROGRESS}, writes=True),
    "Store.compact": Verb({"kind": or_none(TEXT), "progress": PROGRESS}, writes=True),
    "Proving.check": Verb({"progress": PROGRESS}),
    "Proving.repair": Verb({"dry_run": FLAG, "progress": PROGRESS}, writes=True),
    "Proving.sweep": Verb({"older_than": _SECONDS}, writes=True),
    "Store.stats": Verb(),
    "Store.health": Verb(),
    "Keeping.warm": Verb(),
    "Keeping.refresh": Verb(),
    "Remotes.status": Verb(),
    "Remotes.sync": Verb({"timeout": _SECONDS}, writes=True),
    "Remotes.settle": Verb({"kind": TEXT, "timeout": _SECONDS}, writes=True),
    "Remotes.renew": Verb({"kind": TEXT}, writes=True),
    "Remotes.drop": Verb({"kind": TEXT}, writes=True),
    "Store.context_info": Verb({"name": TEXT}),
    "Models.put": Verb(
        {"name": TEXT, "kind": or_none(TEXT), "space": SPACE, "library": or_none(TEXT), "metadata": FILTER},
        writes=True,
    ),
    "Models.get": Verb({**NAMED, "version": or_none(whole(1))}),
    "Models.path": Verb({**NAMED, "version": or_none(whole(1))}),
    "Models.list": Verb({"name": or_none(TEXT), "limit": SIZE, "after": CURSOR}, PAGE),
    "Models.delete": Verb({**NAMED, "version": or_none(whole(1))}, COUNT, writes=True),
    "Trail.list": Verb(
        {
            "operation": or_none(TEXT),
            "kind": or_none(TEXT),
            "id": or_none(TEXT),
            "actor": or_none(TEXT),
            "since": or_none(TIME),
            "limit": SIZE,
            "after": CURSOR,
        },
        PAGE,
    ),
    "Trail.stream": Verb(),
    "Trail.ids": Verb({"number": whole(1)}),
    "Trail.anchor": Verb(),
    "Trail.verify": Verb({"anchor": or_none(TEXT), "progress": PROGRESS}),
    "Trail.rotate": Verb({"keep": whole(0)}, writes=True),
    "Trail.flush": Verb(counted=False),
}
