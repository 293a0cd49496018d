"""What the verbs of a store and of its models demand and promise."""

from __future__ import annotations

from vectorstore.contracts import Verb
from vectorstore.promises.rules import (
    COUNT,
    CURSOR,
    FILTER,
    FLAG,
    FUNCTION,
    KIND,
    NAMED,
    PAGE,
    PROGRESS,
    RECIPE,
    SIZE,
    SPACE,
    TEXT,
    number,
    one_of,
    or_none,
    whole,
)

_EVENTS = ("commit", "publish", "rebuild", "fit", "persist", "workflow")

VERBS: dict[str, Verb] = {
    "Store.collection": Verb({"kind": KIND}, counted=False),
    "Store.on": Verb({"event": one_of(*_EVENTS), "hook": FUNCTION}, counted=False),
    "Store.flush": Verb(gives=COUNT, writes=True),
    "Store.publish": Verb({"kind": or_none(TEXT)}, writes=True),
    "Store.rebuild": Verb({"kind": TEXT, "recipe": or_none(RECIPE), "progress": PROGRESS}, writes=True),
    "Store.compact": Verb({"kind": or_none(TEXT), "progress": PROGRESS}, writes=True),
    "Store.check": Verb({"progress": PROGRESS}),
    "Store.repair": Verb({"dry_run": FLAG}, writes=True),
    "Store.sweep": Verb({"older_than": number(0, words="a number of seconds, at least 0")}, writes=True),
    "Store.stats": Verb(),
    "Store.context_info": Verb({"name": TEXT}),
    "Models.put": Verb(
        {"name": TEXT, "kind": or_none(TEXT), "space": SPACE, "library": or_none(TEXT), "metadata": FILTER},
        writes=True,
    ),
    "Models.get": Verb({**NAMED, "version": or_none(whole(1))}),
    "Models.path": Verb({**NAMED, "version": or_none(whole(1))}),
    "Models.list": Verb({"name": or_none(TEXT), "limit": SIZE, "after": CURSOR}, PAGE),
    "Models.delete": Verb({**NAMED, "version": or_none(whole(1))}, COUNT, writes=True),
}
