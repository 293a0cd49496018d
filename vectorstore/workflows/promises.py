"""The contracts of the verbs of work, beside those of stores and collections in `vectorstore.promises`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from vectorstore import promises
from vectorstore.contracts import Rule, Verb
from vectorstore.promises import (
    AGE,
    CURSOR,
    FLAG,
    PATH,
    PROGRESS,
    RECIPE,
    SHARE,
    SIZE,
    SOME_IDS,
    TEXT,
    WHERE,
    number,
    one_of,
    or_none,
)
from vectorstore.storage.workflows import STATUSES
from vectorstore.workflows.states import ITEM_STATUSES, MOVES

_LEASE = Rule("a positive timedelta", lambda value: isinstance(value, timedelta) and value > timedelta(0))
_CHANGES = Rule(
    "a mapping from the index of an item to its new content",
    lambda value: isinstance(value, Mapping) and all(type(place) is int and place >= 0 for place in value),
)
_METADATA = Rule("a mapping with plain data", lambda value: isinstance(value, Mapping))
_POLL = number(0.001, 86_400, "a number of seconds in 0.001..86400")
_COUNT = promises.VERBS["Collection.count"].gives
_PAGE = promises.VERBS["Collection.find"].gives
_FIT = promises.VERBS["Clusters.fit"].takes

_ID = {"id": TEXT}
_PAGED = {"limit": SIZE, "after": CURSOR}
_RUN = {"progress": PROGRESS, "lease": _LEASE}
_STATUS = {"status": or_none(one_of(*STATUSES))}
_ITEMS = {**_ID, "status": or_none(one_of(*ITEM_STATUSES))}
_MADE = {
    "kind": TEXT,
    "id": or_none(TEXT),
    "policy": one_of("strict", "lenient"),
    "metadata": or_none(_METADATA),
}
_CHOSEN = {**_MADE, "ids": or_none(SOME_IDS), "where": or_none(WHERE)}

VERBS: dict[str, Verb] = {
    "Making.create": Verb({**_MADE, "overwrite": FLAG, "source": TEXT, "confidence": SHARE}, writes=True),
    "Making.update": Verb(_MADE, writes=True),
    "Making.create_from_jsonl": Verb(
        {**_MADE, "path": PATH, "operation": one_of("create", "update"), "overwrite": FLAG}, writes=True
    ),
    "Making.delete": Verb(_CHOSEN, writes=True),
    "Making.reembed": Verb(_CHOSEN, writes=True),
    "Making.reindex": Verb({**_MADE, "recipe": or_none(RECIPE)}, writes=True),
    "Making.cluster": Verb({**_FIT, **_MADE}, writes=True),
    "Workflows.process": Verb({**_ID, **_RUN}, writes=True),
    "Workflows.process_all": Verb(_RUN, writes=True),
    "Workflows.start": Verb({"poll": _POLL, "lease": _LEASE}),
    "Workflows.next": Verb(),
    "Workflows.cancel": Verb(_ID, writes=True),
    "Workflows.rollback": Verb({**_ID, **_RUN}, writes=True),
    "Workflows.retry": Verb({**_ID, "changes": or_none(_CHANGES)}, writes=True),
    "Workflows.get": Verb(_ID),
    "Workflows.list": Verb({**_STATUS, **_PAGED}, _PAGE),
    "Workflows.count": Verb(_STATUS, _COUNT),
    "Workflows.items": Verb({**_ITEMS, **_PAGED}, _PAGE),
    "Workflows.errors": Verb({**_ID, **_PAGED}, _PAGE),
    "Workflows.log": Verb({"id": or_none(TEXT), **_PAGED}, _PAGE),
    "Workflows.health": Verb(),
    "Workflows.to_jsonl": Verb({**_ITEMS, "path": PATH}, _COUNT),
    "Workflows.cleanup": Verb(
        {"older_than": AGE, "status": or_none(one_of(*MOVES["clean up"])), "dry_run": FLAG}, _COUNT, writes=True
    ),
}
"""Class.method -> its contract."""
