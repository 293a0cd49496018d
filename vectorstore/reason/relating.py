"""The relation of an analogy as a vector, from the vectors of the concepts that it names; and what maps a concept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vectorstore.collection import Collection
from vectorstore.errors import AmbiguousName, NotFound
from vectorstore.ids import fold
from vectorstore.reason.algebra import SAME, offsets
from vectorstore.reason.naming import Names
from vectorstore.records import Analogy
from vectorstore.search import Id
from vectorstore.vectors import Matrix

SOURCE = "concepts"
"""What `vector_info(id, space="relation").source` says of a relation that was derived."""


@dataclass(frozen=True)
class RelateReport:
    """What `relate` did, by the ids of the analogies.

    Attributes:
        written: got a relation vector, or a new one because their concepts have other vectors now.
        unchanged: have the relation vector that follows from their concepts.
        brought: have one that the caller brought, which stays.
        unresolved: name no pair of concepts that are known, each by one meaning and with a vector.
    """

    written: tuple[str, ...]
    unchanged: tuple[str, ...]
    brought: tuple[str, ...]
    unresolved: tuple[str, ...]


def pairs_of(analogy: Analogy) -> list[tuple[str, str, str | None, str | None]]:
    """(from, to, domain of from, domain of to): a to b and c to d; of a mapping the source and target of each pair.

    Where there is evidence it names the very records.
    """
    terms = [(analogy.a, analogy.b), (analogy.c, analogy.d)]
    found: list[tuple[str, str, str | None, str | None]] = [(x, y, None, None) for x, y in terms if x and y]
    if found:
        return found
    if analogy.evidence:
        return [(Id(one.source), Id(one.target), None, None) for one in analogy.evidence]
    domains = analogy.source_domain, analogy.target_domain
    return [(pair.source, pair.target, *domains) for pair in analogy.concept_mappings]


def relations(concepts: Collection[Any], analogies: Sequence[Analogy], space: str | None) -> list[Matrix | None]:
    """For each analogy the (d,) mean offset of its pairs whose concepts are known; None when no pair is.

    A name means the concept of the analogy's context, then of any; of several those of the pair's domain. A name that
    still has several meanings is not guessed at.
    """
    pairs = [pairs_of(analogy) for analogy in analogies]
    names = Names.of(concepts, (word for some in pairs for pair in some for word in pair[:2]))
    found: list[list[tuple[str, str]]] = []
    for analogy, some in zip(analogies, pairs, strict=True):
        ids = []
        for start, end, *domains in some:
            try:
                first = names.one(start, "", analogy.context, domains[0])
                ids.append((first.id, names.one(end, "", analogy.context, domains[1]).id))
            except (NotFound, AmbiguousName):
                continue
        found.append(ids)
    wanted = sorted({name for ids in found for pair in ids for name in pair})
    vectors = concepts._searcher(space).queries.stored(wanted)
    made: list[Matrix | None] = []
    for ids in found:
        known = [(vectors[x], vectors[y]) for x, y in ids if x in vectors and y in vectors]
        mean = offsets([x for x, _ in known], [y for _, y in known], concepts.metric) if known else None
        made.append(None if mean is None or np.linalg.norm(mean) < SAME else mean.astype(np.float32))
    return made


@dataclass(frozen=True)
class Mapped:
    """What a concept is mapped to in one domain, by one or more analogies.

    Attributes:
        domain: of the other term; None in proportions, which name no domains.
        term: what plays the concept's part there, as the first of the analogies writes it.
        confidence: 0..1, the mean over the analogies: of a mapping the pair's, of a proportion its quality (1 without).
        analogies: those that say so, in order of arrival.
    """

    domain: str | None
    term: str
    confidence: float
    analogies: tuple[Analogy, ...]


def mapped(analogies: Iterable[Analogy], term: str, id: str | None) -> tuple[Mapped, ...]:
    """The analogies' counterparts of a term, grouped by domain and term; the surest first, ties by domain and term.

    Args:
        analogies: that name the term somewhere.
        term: in any case and spacing.
        id: of the concept that is meant: analogies with evidence must name it there.
    """
    wanted = fold(term)
    groups: dict[tuple[str, str], list[tuple[str | None, str, float, Analogy]]] = {}
    for analogy in analogies:
        known = {name for one in analogy.evidence for name in (one.source, one.target)}
        if id is not None and known and id not in known:
            continue
        for domain, other, confidence in _counterparts(analogy, wanted):
            groups.setdefault((fold(domain or ""), fold(other)), []).append((domain, other, confidence, analogy))
    found = []
    for some in groups.values():
        mean = float(np.mean([confidence for _, _, confidence, _ in some]))
        once = tuple({analogy.id: analogy for _, _, _, analogy in some}.values())
        found.append(Mapped(some[0][0], some[0][1], mean, once))
    return tuple(sorted(found, key=lambda one: (-one.confidence, one.domain or "", one.term)))


def _counterparts(analogy: Analogy, term: str) -> Iterable[tuple[str | None, str, float]]:
    for pair in analogy.concept_mappings:
        if fold(pair.source) == term:
            yield analogy.target_domain, pair.target, pair.confidence
        if fold(pair.target) == term:
            yield analogy.source_domain, pair.source, pair.confidence
    quality = 1.0 if analogy.quality is None else analogy.quality
    for one, other in ((analogy.a, analogy.c), (analogy.b, analogy.d)):
        if one and other and fold(one) == term:
            yield None, other, quality
        if one and other and fold(other) == term:
            yield None, one, quality
