"""What the verbs of workflows demand and promise."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from vectorstore.contracts import Rule, Verb
from vectorstore.promises.rules import (
    AGE,
    COUNT,
    CURSOR,
    FILTER,
    FLAG,
    PAGE,
    PATH,
    PROGRESS,
    RECIPE,
    SEED,
    SHARE,
    SIZE,
    SOME_IDS,
    SPACE,
    TEXT,
    WHERE,
    number,
    one_of,
    or_none,
    whole,
)

_OVER = ("completed", "failed", "cancelled", "rolled_back")
_ITEM = one_of("pending", "waiting", "done", "failed", "skipped", "undone", "kept")
_LEASE = Rule("a positive timedelta", lambda value: isinstance(value, timedelta) and value > timedelta(0))
_CHANGES = Rule(
    "a mapping from the index of an item to its new content",
    lambda value: isinstance(value, Mapping) and all(type(place) is int and place >= 0 for place in value),
)
_METADATA = Rule("a mapping with plain data", WHERE.holds)
_POLL = number(0.001, 86_400, "a number of seconds in 0.001..86400")

_ID = {"id": TEXT}
_PAGED = {"limit": SIZE, "after": CURSOR}
_RUN = {"progress": PROGRESS, "lease": _LEASE}
_STATUS = {"status": or_none(one_of("pending", "processing", *_OVER))}
_ITEMS = {**_ID, "status": or_none(_ITEM)}
_MADE = {
    "kind": TEXT,
    "id": or_none(TEXT),
    "policy": one_of("strict", "lenient"),
    "metadata": or_none(_METADATA),
}
_CHOSEN = {**_MADE, "ids": or_none(SOME_IDS), "where": FILTER}

VERBS: dict[str, Verb] = {
    "Making.create": Verb({**_MADE, "overwrite": FLAG, "source": TEXT, "confidence": SHARE}, writes=True),
    "Making.update": Verb(_MADE, writes=True),
    "Making.create_from_jsonl": Verb(
        {**_MADE, "path": PATH, "operation": one_of("create", "update", "delete"), "overwrite": FLAG}, writes=True
    ),
    "Making.delete": Verb(_CHOSEN, writes=True),
    "Making.reembed": Verb(_CHOSEN, writes=True),
    "Making.reindex": Verb({**_MADE, "recipe": or_none(RECIPE)}, writes=True),
    "Making.cluster": Verb(
        {
            **_MADE,
            "recipe": RECIPE,
            "n": or_none(whole(1)),
            "where": FILTER,
            "context": or_none(TEXT),
            "space": SPACE,
            "name": or_none(TEXT),
            "seed": SEED,
        },
        writes=True,
    ),
    "Workflows.process": Verb({**_ID, **_RUN, "place": or_none(PATH)}, writes=True),
    "Workflows.process_all": Verb({**_RUN, "place": or_none(PATH)}, writes=True),
    "Workflows.start": Verb({"poll": _POLL, "lease": _LEASE}),
    "Workflows.next": Verb(),
    "Workflows.cancel": Verb(_ID, writes=True),
    "Workflows.rollback": Verb({**_ID, **_RUN}, writes=True),
    "Workflows.retry": Verb({**_ID, "changes": or_none(_CHANGES)}, writes=True),
    "Workflows.get": Verb(_ID),
    "Workflows.list": Verb({**_STATUS, **_PAGED}, PAGE),
    "Workflows.count": Verb(_STATUS, COUNT),
    "Workflows.items": Verb({**_ITEMS, **_PAGED}, PAGE),
    "Workflows.errors": Verb({**_ID, **_PAGED}, PAGE),
    "Workflows.log": Verb({"id": or_none(TEXT), **_PAGED}, PAGE),
    "Workflows.health": Verb(),
    "Workflows.to_jsonl": Verb({**_ITEMS, "path": PATH}, COUNT),
    "Workflows.cleanup": Verb(
        {"older_than": AGE, "status": or_none(one_of(*_OVER)), "dry_run": FLAG}, COUNT, writes=True
    ),
}
