"""What concepts, contexts, frames and their instances demand and promise beyond the common verbs."""

from __future__ import annotations

from collections.abc import Mapping

from vectorstore.contracts import Rule, Verb
from vectorstore.promises.rules import (
    COUNT,
    FILTER,
    FLAG,
    NAMED,
    PATH,
    PROGRESS,
    SHARE,
    SIZE,
    SOME_IDS,
    TEXT,
    one_of,
    or_none,
    whole,
)

VERBS: dict[str, Verb] = {
    "Named.resolve": Verb({"name": TEXT, "context": TEXT}),
    "Concepts.senses": Verb({"name": TEXT, "context": or_none(TEXT)}),
    "Concepts.disambiguate": Verb({"name": TEXT, "hint": TEXT, "context": or_none(TEXT)}),
    "Concepts.lookup": Verb(
        {"text": TEXT, "by": one_of("exact", "pattern", "text", "similar"), "context": or_none(TEXT), "limit": SIZE}
    ),
    "Concepts.related": Verb(
        {
            "id": TEXT,
            "type": or_none(SOME_IDS),
            "direction": one_of("out", "in", "both"),
            "depth": or_none(whole(1)),
            "where": FILTER,
            "limit": whole(1),
        }
    ),
    "Contexts.chain": Verb(NAMED),
    "Contexts.within": Verb(NAMED),
    "Contexts.metadata": Verb(NAMED),
    "Contexts.axioms": Verb(NAMED),
    "Contexts.delete": Verb({"ids": or_none(SOME_IDS), "where": FILTER, "dry_run": FLAG}, COUNT, True),
    "Contexts.save": Verb({"name": TEXT, "path": PATH, "inherited": FLAG, "progress": PROGRESS}),
    "Contexts.load": Verb({"path": PATH, "progress": PROGRESS}, writes=True),
    "Frames.elements": Verb({"id": TEXT}),
    "Frames.ancestors": Verb({"id": TEXT}),
    "Instances.bind": Verb(
        {
            "frame": Rule("a name or an id", lambda value: isinstance(value, str)),
            "bindings": Rule("a mapping from elements to concepts", lambda value: isinstance(value, Mapping)),
            "context": TEXT,
            "missing": one_of("refuse", "create"),
        },
        writes=True,
    ),
    "Instances.roles_of": Verb({"concept": TEXT}),
    "Instances.analogous": Verb({"id": TEXT, "where": FILTER, "k": whole(1), "min_score": SHARE}),
}
