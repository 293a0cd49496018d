"""The contracts of the public verbs, as one table: what each takes, what it gives, whether it writes.

`contracts.keep` puts them around the verbs. An argument that is not listed is checked where it is understood, and
always: records and vectors by `writing.py`, filters by `where.py`, queries by `search/`, options by their own classes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from vectorstore.contracts import Promise, Rule, Verb

# -- rules -------------------------------------------------------------------------------------------------------------


def whole(low: int, high: int | None = None) -> Rule:
    """A whole number within bounds; True is none."""
    words = f"a whole number of at least {low}" if high is None else f"a whole number in {low}..{high}"
    return Rule(
        words,
        lambda value: (
            isinstance(value, int) and not isinstance(value, bool) and low <= value and (high is None or value <= high)
        ),
    )


def number(low: float = -math.inf, high: float = math.inf, words: str = "a finite number") -> Rule:
    """A finite number within bounds; True is none."""
    return Rule(
        words,
        lambda value: (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and low <= value <= high
        ),
    )


def one_of(*names: str) -> Rule:
    """One of some words."""
    return Rule(f"one of {', '.join(names)}", lambda value: isinstance(value, str) and value in names)


def or_none(rule: Rule) -> Rule:
    """What the rule demands, or None."""
    return Rule(rule.words, lambda value: value is None or rule.holds(value))


def all_text(values: object) -> bool:
    """Whether what can be looked at twice holds text only; a generator is looked at where it is read."""
    if not isinstance(values, list | tuple | set | frozenset):
        return True
    return all(issubclass(kind, str) for kind in set(map(type, values)))


TEXT = Rule("text", lambda value: isinstance(value, str))
FLAG = Rule("true or false", lambda value: isinstance(value, bool))
SHARE = number(0, 1, "0..1")
FUNCTION = Rule("a function", callable)
WHERE = Rule("a filter, such as {'domain': 'physics'}", lambda value: isinstance(value, Mapping))
IDS = Rule(
    "ids as text",
    lambda value: (
        isinstance(value, Iterable)
        and not isinstance(value, str | bytes | bytearray | memoryview | Mapping)
        and all_text(value)
    ),
)
SOME_IDS = Rule("an id, or ids as text", lambda value: isinstance(value, str) or IDS.holds(value))
PATH = Rule("a path", lambda value: isinstance(value, str | os.PathLike))
AGE = Rule("a timedelta of at least zero", lambda value: isinstance(value, timedelta) and value >= timedelta(0))
KIND = Rule(
    "the name or the class of a kind",
    lambda value: isinstance(value, str) or isinstance(getattr(value, "table", None), str),
)
RECIPE = Rule(
    "a recipe, the name of one, or a .toml file",
    lambda value: (
        isinstance(value, str | os.PathLike) or type(value).__name__ in ("IndexRecipe", "Auto", "ClusterRecipe")
    ),
)
SIZE = whole(1, 10_000)
CURSOR = or_none(TEXT)
PROGRESS = or_none(FUNCTION)
SPACE = or_none(TEXT)

# -- promises ----------------------------------------------------------------------------------------------------------


def _one_id_each(_: Any, given: Callable[..., Any], ids: Sequence[str]) -> bool:
    records = given("records")
    return all(ids) and (not isinstance(records, list | tuple) or len(ids) == len(records))


def _page(_: Any, given: Callable[..., Any], page: Any) -> bool:
    return len(page) <= given("limit", 100) and (page.next is None or 0 < len(page) < page.total)


def _hits(_: Any, given: Callable[..., Any], hits: Any) -> bool:
    if len(hits) > given("k", 10) * given("group_size", 1) or not 0 <= hits.recall_promised <= 1:
        return False
    chosen = given("mmr") is not None or given("group_by") is not None
    highest, seen = math.inf, set()
    for hit in hits.hits:
        if not (chosen or hit.score <= highest) or not math.isfinite(hit.score):
            return False
        highest = hit.score
        seen.add((hit.kind, hit.id))
    return len(seen) == len(hits.hits)


def _one_each(_: Any, given: Callable[..., Any], found: Sequence[Any]) -> bool:
    ids = given("ids")
    return given("missing", "skip") == "skip" or not isinstance(ids, list | tuple) or len(found) == len(ids)


def _count(_: Any, given: Callable[..., Any], count: int) -> bool:
    return count >= 0


_ADDED = (Promise("the id of each record, in order", _one_id_each),)
_COUNT = (Promise("a number of at least 0", _count),)
_PAGE = (Promise("at most `limit` records, and a cursor only where there are more", _page),)
_HITS = (Promise("at most k different records with finite scores, best first", _hits),)
_EACH = (
    Promise(
        "one answer for each query, of at most k hits",
        lambda _, given, many: all(len(hits) <= given("k", 10) for hits in many),
    ),
)
_ALL = (Promise("one record, or None, for each id", _one_each),)

# -- the table ---------------------------------------------------------------------------------------------------------

_WRITE = {"source": TEXT, "progress": PROGRESS}
_SEARCH = {"exact": FLAG, "space": SPACE}
_FIT = {"kind": TEXT, "recipe": RECIPE, "where": or_none(WHERE), "context": or_none(TEXT), "space": SPACE}
_LINE = {"name": TEXT}
_TABLE = {"where": or_none(WHERE), "vectors": FLAG}
_SEED = whole(0, 2**32 - 1)
_EVENTS = ("commit", "publish", "rebuild", "fit", "persist")

VERBS: dict[str, Verb] = {
    "Collection.add": Verb(_WRITE, _ADDED, writes=True),
    "Collection.upsert": Verb(_WRITE, _ADDED, writes=True),
    "Collection.update": Verb({"progress": PROGRESS}, _COUNT, writes=True),
    "Collection.delete": Verb({"ids": or_none(SOME_IDS), "where": or_none(WHERE), "dry_run": FLAG}, _COUNT, True),
    "Collection.restore": Verb({"ids": or_none(SOME_IDS), "where": or_none(WHERE)}, _COUNT, writes=True),
    "Collection.purge": Verb(
        {
            "ids": or_none(SOME_IDS),
            "where": or_none(WHERE),
            "older_than": AGE,
            "expired": FLAG,
            "progress": PROGRESS,
        },
        _COUNT,
        writes=True,
    ),
    "Collection.decisions": Verb({"id": or_none(TEXT), "limit": SIZE, "after": CURSOR}, _PAGE),
    "Collection.get": Verb({"id": TEXT}),
    "Collection.get_many": Verb({"ids": IDS, "missing": one_of("skip", "none", "raise")}, _ALL),
    "Collection.find": Verb({"where": or_none(WHERE), "order": or_none(TEXT), "limit": SIZE, "after": CURSOR}, _PAGE),
    "Collection.stream": Verb({"where": or_none(WHERE), "batch_size": whole(1, 100_000)}),
    "Collection.count": Verb({"where": or_none(WHERE)}, _COUNT),
    "Collection.audit_recall": Verb(
        {"where": or_none(WHERE), "sample": whole(10), "space": SPACE, "k": whole(1)}, writes=True
    ),
    "Collection.audits": Verb({"limit": SIZE, "space": SPACE, "after": CURSOR}, _PAGE),
    "SearchVerbs.search": Verb({**_SEARCH, "where": or_none(WHERE)}, _HITS),
    "SearchVerbs.search_many": Verb({**_SEARCH, "where": or_none(WHERE)}, _EACH),
    "SearchVerbs.facets": Verb(
        {"field": TEXT, "where": or_none(WHERE), "query": or_none(TEXT), "limit": or_none(whole(1))}
    ),
    "SearchVerbs.search_range": Verb({"min_score": number(), "where": or_none(WHERE), "space": SPACE}),
    "SearchVerbs.duplicates": Verb({"threshold": number(), "where": or_none(WHERE), "space": SPACE}),
    "SearchVerbs.vectors": Verb({"ids": IDS, "space": SPACE}),
    "SearchVerbs.vector_info": Verb({"id": TEXT, "space": SPACE}),
    "SearchAcross.search": Verb(
        {"where": or_none(WHERE), "exact": FLAG, "contexts": or_none(SOME_IDS)},
        _HITS,
    ),
    "Tabular.to_arrow": Verb(_TABLE),
    "Tabular.to_pandas": Verb(_TABLE),
    "Tabular.to_polars": Verb(_TABLE),
    "Exchange.export": Verb(
        {
            "path": PATH,
            "kinds": or_none(SOME_IDS),
            "contexts": or_none(SOME_IDS),
            "vectors": one_of("given", "all", "none"),
            "deleted": FLAG,
            "format": or_none(TEXT),
            "progress": PROGRESS,
        }
    ),
    "Exchange.import_": Verb(
        {
            "format": or_none(TEXT),
            "kind": or_none(TEXT),
            "context": or_none(TEXT),
            "on_conflict": one_of("error", "overwrite", "merge", "skip"),
            "vectors": FLAG,
            "progress": PROGRESS,
        },
        writes=True,
    ),
    "Store.collection": Verb({"kind": KIND}, counted=False),
    "Store.on": Verb({"event": one_of(*_EVENTS), "hook": FUNCTION}, counted=False),
    "Store.flush": Verb(gives=_COUNT, writes=True),
    "Store.publish": Verb({"kind": or_none(TEXT)}, writes=True),
    "Store.rebuild": Verb({"kind": TEXT, "recipe": or_none(RECIPE), "progress": PROGRESS}, writes=True),
    "Store.compact": Verb({"kind": or_none(TEXT), "progress": PROGRESS}, writes=True),
    "Store.check": Verb({"progress": PROGRESS}),
    "Store.repair": Verb({"dry_run": FLAG}, writes=True),
    "Store.sweep": Verb({"older_than": number(0, words="a number of seconds, at least 0")}, writes=True),
    "Store.stats": Verb(),
    "Store.context_info": Verb({"name": TEXT}),
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
            "where": or_none(WHERE),
            "limit": whole(1),
        }
    ),
    "Contexts.chain": Verb(_LINE),
    "Contexts.within": Verb(_LINE),
    "Contexts.metadata": Verb(_LINE),
    "Contexts.axioms": Verb(_LINE),
    "Contexts.delete": Verb({"ids": or_none(SOME_IDS), "where": or_none(WHERE), "dry_run": FLAG}, _COUNT, True),
    "Contexts.save": Verb({"name": TEXT, "path": PATH, "inherited": FLAG}),
    "Contexts.load": Verb({"path": PATH}, writes=True),
    "Frames.elements": Verb({"id": TEXT}),
    "Frames.ancestors": Verb({"id": TEXT}),
    "Instances.bind": Verb(
        {
            "frame": TEXT,
            "bindings": Rule("a mapping from elements to concepts", lambda value: isinstance(value, Mapping)),
            "context": TEXT,
            "missing": one_of("refuse", "create"),
        },
        writes=True,
    ),
    "Instances.roles_of": Verb({"concept": TEXT}),
    "Instances.analogous": Verb({"id": TEXT, "where": or_none(WHERE), "k": whole(1), "min_score": SHARE}),
    "Centroids.update": Verb(gives=_COUNT, writes=True),
    "Clusters.fit": Verb({**_FIT, "n": or_none(whole(1)), "name": or_none(TEXT), "seed": _SEED}, writes=True),
    "Clusters.refit": Verb(
        {**_LINE, "recipe": or_none(RECIPE), "n": or_none(whole(1)), "seed": or_none(_SEED)}, writes=True
    ),
    "Clusters.trials": Verb({**_FIT, "n": or_none(whole(1))}),
    "Clusters.assign": Verb({**_LINE, "ids": or_none(SOME_IDS)}, _COUNT, writes=True),
    "Clusters.predict": Verb(_LINE),
    "Clusters.memberships": Verb({**_LINE, "id": TEXT}),
    "Clusters.membership": Verb({**_LINE, "id": TEXT}),
    "Clusters.members": Verb({"cluster": TEXT, "limit": SIZE, "after": CURSOR}, _PAGE),
    "Clusters.neighbours": Verb({**_LINE, "id": TEXT, "k": whole(1)}),
    "Clusters.state": Verb(_LINE),
    "Clusters.drift": Verb(_LINE),
    "Versioned.lines": Verb(),
    "Versioned.versions": Verb(_LINE),
    "Versioned.rollback": Verb({**_LINE, "version": whole(1)}, writes=True),
    "Versioned.drop": Verb(_LINE, _COUNT, writes=True),
    "Versioned.model": Verb({**_LINE, "version": or_none(whole(1))}),
    "Fields.discover": Verb(
        {
            **_LINE,
            "min_coherence": number(-1, 1, "-1..1"),
            "min_members": whole(1),
            "core": number(0.5, 1, "0.5..1"),
            "related": SHARE,
        },
        writes=True,
    ),
    "Models.put": Verb(
        {"name": TEXT, "kind": or_none(TEXT), "space": SPACE, "library": or_none(TEXT), "metadata": or_none(WHERE)},
        writes=True,
    ),
    "Models.get": Verb({**_LINE, "version": or_none(whole(1))}),
    "Models.path": Verb({**_LINE, "version": or_none(whole(1))}),
    "Models.list": Verb({"name": or_none(TEXT), "limit": SIZE, "after": CURSOR}, _PAGE),
    "Models.delete": Verb({**_LINE, "version": or_none(whole(1))}, _COUNT, writes=True),
}
"""Class.method -> its contract; what a class inherits has the entry of the class that defines it."""

UNCOUNTED = {"transaction", "close", "metrics", "before", "after", "directed"}
"""Public methods that are no operations: they open and shut, or are asked from inside."""
