"""The words that contracts are made of: rules for arguments, promises of results."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from vectorstore.contracts import Promise, Rule

# -- arguments ---------------------------------------------------------------------------------------------------------


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
            and low <= value <= high
            and abs(value) <= sys.float_info.max
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


def is_kind(value: object) -> bool:
    """Whether it is a record class."""
    return isinstance(value, type) and isinstance(getattr(value, "table", None), str)


def all_kinds(values: object) -> bool:
    """Whether what can be looked at twice holds record classes only."""
    return not isinstance(values, list | tuple | set | frozenset) or all(map(is_kind, values))


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
TIME = Rule("a datetime with a zone", lambda value: isinstance(value, datetime) and value.tzinfo is not None)
KIND = Rule("the name or the class of a kind", lambda value: isinstance(value, str) or is_kind(value))
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
FILTER = or_none(WHERE)
NAMED = {"name": TEXT}
SEED = whole(0, 2**32 - 1)

# -- results -----------------------------------------------------------------------------------------------------------


def _one_id_each(_: Any, given: Callable[..., Any], ids: Sequence[str]) -> bool:
    records = given("records")
    return all(ids) and (not isinstance(records, list | tuple) or len(ids) == len(records))


def _page(_: Any, given: Callable[..., Any], page: Any) -> bool:
    return len(page) <= given("limit", 100) and (page.next is None or 0 < len(page) < page.total)


def _hits(_: Any, given: Callable[..., Any], hits: Any, default: int = 10) -> bool:
    if len(hits) > given("k", default) * given("group_size", 1) or not 0 <= hits.recall_promised <= 1:
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


ADDED = (Promise("the id of each record, in order", _one_id_each),)
COUNT = (Promise("a number of at least 0", _count),)
PAGE = (Promise("at most `limit` records, and a cursor only where there are more", _page),)
HITS = (Promise("at most k different records with finite scores, best first", _hits),)
FIVE_HITS = (Promise(HITS[0].words, partial(_hits, default=5)),)
EACH = (
    Promise(
        "one answer for each query, of at most k hits",
        lambda _, given, many: all(len(hits) <= given("k", 10) for hits in many),
    ),
)
ALL = (Promise("one record, or None, for each id", _one_each),)
