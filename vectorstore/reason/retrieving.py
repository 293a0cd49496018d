"""Retrieval by structure over a collection: vectors propose, parts are compared, the mapping comes with the answer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vectorstore.collection import Collection
from vectorstore.embedders import Embedder
from vectorstore.errors import ValidationError
from vectorstore.reason.discovery import Alignment, matched
from vectorstore.reason.retrieval import compare, fit, stories, system
from vectorstore.records import Record, Where
from vectorstore.results import Former, Hit, Hits, Plan

R = TypeVar("R", bound=Record)
POOL = 100


@dataclass(frozen=True)
class Analogue(Hit[R]):
    """A record that tells what has the same course; `mapping` says which part of the query it plays with which of its.

    `score` is the sum of `parts`: relational and shape (see `reason.retrieval.Match`); `former` is
    its place by plain text similarity.
    """

    mapping: tuple[tuple[str, str], ...] = ()


def retrieve(
    collection: Collection[R],
    text: str,
    k: int,
    where: Where | None,
    pool: int,
    recall: float | None,
    exact: bool,
    embedder: Embedder,
) -> Hits[R]:
    """The k best of the nearest `pool`; see `Analogies.retrieve`."""
    started = time.perf_counter()
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise ValidationError(f"k: expected a whole number of at least 1, got {k!r}")
    if isinstance(pool, bool) or not isinstance(pool, int) or pool < k:
        raise ValidationError(f"pool: expected a whole number of at least k={k}, got {pool!r}")
    found = collection.search(text, pool, where, recall, exact)
    texts = [collection._table.schema.text(hit.record) for hit in found]
    asked, *told = stories([text, *texts], embedder.embed)
    matches = [compare(asked, story) for story in told]
    order = sorted(range(len(matches)), key=lambda place: (-matches[place].score, place))[:k]
    hits = tuple(
        Analogue(
            found[place].record,
            matches[place].score,
            None,
            rank,
            matches[place].terms,
            Former(found[place].rank, found[place].score, found[place].parts),
            mapping=matches[place].mapping,
        )
        for rank, place in enumerate(order)
    )
    reason = f"the nearest {len(found)} compared part by part; {found.plan.reason}"
    plan: Plan = dataclasses.replace(found.plan, reason=reason)
    everything = found.exact and len(found) < pool
    elapsed = time.perf_counter() - started
    promised = found.recall_promised if everything else 0.0
    return Hits(hits, everything, promised, found.generation, elapsed, "structure", plan)


def systems(source: tuple[str, Sequence[str]], target: tuple[str, Sequence[str]], embedder: Embedder) -> Alignment:
    """The one-to-one mapping of the terms of two systems; see `Analogies.align`."""
    for name, terms in (source, target):
        if isinstance(terms, str) or not terms or not all(isinstance(term, str) and term.strip() for term in terms):
            raise ValidationError(f"align: expected a list of terms of {name!r}, got {terms!r}")
        if not isinstance(name, str) or not name.strip():
            raise ValidationError(f"align: expected the name of a system, got {name!r}")
    near, steps = fit(system(*source, embedder.embed), system(*target, embedder.embed))
    return matched(near, steps)
