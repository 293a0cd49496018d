"""What the verbs of every collection demand and promise, and the search across collections."""

from __future__ import annotations

from vectorstore.contracts import Verb
from vectorstore.promises.rules import (
    ADDED,
    AGE,
    ALL,
    COUNT,
    CURSOR,
    EACH,
    FILTER,
    FLAG,
    HITS,
    IDS,
    PAGE,
    PROGRESS,
    SIZE,
    SOME_IDS,
    SPACE,
    TEXT,
    number,
    one_of,
    or_none,
    whole,
)

_WRITE = {"source": TEXT, "progress": PROGRESS}
_SEARCH = {"where": FILTER, "exact": FLAG}

VERBS: dict[str, Verb] = {
    "Collection.add": Verb(_WRITE, ADDED, writes=True),
    "Collection.upsert": Verb(_WRITE, ADDED, writes=True),
    "Collection.update": Verb({"progress": PROGRESS}, COUNT, writes=True),
    "Collection.delete": Verb({"ids": or_none(SOME_IDS), "where": FILTER, "dry_run": FLAG}, COUNT, True),
    "Collection.restore": Verb({"ids": or_none(SOME_IDS), "where": FILTER}, COUNT, writes=True),
    "Collection.purge": Verb(
        {
            "ids": or_none(SOME_IDS),
            "where": FILTER,
            "older_than": AGE,
            "expired": FLAG,
            "progress": PROGRESS,
        },
        COUNT,
        writes=True,
    ),
    "Collection.decisions": Verb({"id": or_none(TEXT), "limit": SIZE, "after": CURSOR}, PAGE),
    "Collection.get": Verb({"id": TEXT}),
    "Collection.get_many": Verb({"ids": IDS, "missing": one_of("skip", "none", "raise")}, ALL),
    "Collection.find": Verb({"where": FILTER, "order": or_none(TEXT), "limit": SIZE, "after": CURSOR}, PAGE),
    "Collection.stream": Verb({"where": FILTER, "batch_size": whole(1, 100_000)}),
    "Collection.count": Verb({"where": FILTER}, COUNT),
    "Collection.audit_recall": Verb(
        {"where": FILTER, "sample": whole(10), "space": SPACE, "k": whole(1), "progress": PROGRESS}, writes=True
    ),
    "Collection.audits": Verb({"limit": SIZE, "space": SPACE, "after": CURSOR}, PAGE),
    "SearchVerbs.search": Verb({**_SEARCH, "space": SPACE}, HITS),
    "SearchVerbs.search_many": Verb({**_SEARCH, "space": SPACE}, EACH),
    "SearchVerbs.facets": Verb({"field": TEXT, "where": FILTER, "query": or_none(TEXT), "limit": or_none(whole(1))}),
    "SearchVerbs.search_range": Verb({"min_score": number(), "where": FILTER, "space": SPACE}),
    "SearchVerbs.duplicates": Verb({"threshold": number(), "where": FILTER, "space": SPACE, "progress": PROGRESS}),
    "SearchVerbs.vectors": Verb({"ids": IDS, "space": SPACE}),
    "SearchVerbs.vector_info": Verb({"id": TEXT, "space": SPACE}),
    "SearchAcross.search": Verb(
        {"where": FILTER, "exact": FLAG, "contexts": or_none(SOME_IDS)},
        HITS,
    ),
}
