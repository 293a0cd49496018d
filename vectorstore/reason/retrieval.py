"""Analogues of texts and of systems: what has the same relations, not what uses the same words.

Retrieval goes in two stages, as in MAC/FAC (Forbus, Gentner and Law 1995): vectors find candidates cheaply, then each
is compared with the query part by part, and the comparison says which part plays which. The structure of a text is
what leads from each of its parts to the next, as an offset of their vectors; that of a system is what each of its terms
is to it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vectorstore.reason.algebra import SAME, Scores, unit
from vectorstore.vectors import Matrix

Embed = Callable[[Sequence[str]], Matrix]

SHAPE = 0.5
"""The weight of `shape` beside `relational`, chosen on one half of the questions of benchmarks/analogy_texts.py.

A part for the likeness of the whole texts did not help there, and one against the words that both use made retrieval
worse, though it helped to choose one of four.
"""

MAX_PARTS = 16
"""A longer text is compared by so many of its first parts."""

_SENTENCES = re.compile(r"(?<=[.!?;])\s+")
_CLAUSES = re.compile(r"(?:,\s*|\s+)(?:and|but|so|because|which|that|when|while|until|as)\s+|,\s+")


def parts_of(text: str) -> list[str]:
    """The sentences of a text; of a single one its clauses, as far as commas and conjunctions show them."""
    sentences = [part for part in _SENTENCES.split(text.strip()) if part]
    if len(sentences) == 1:
        sentences = [part for part in _CLAUSES.split(sentences[0]) if part]
    return sentences[:MAX_PARTS]


@dataclass(frozen=True, eq=False)
class Story:
    """A text in parts, and their (m, d) unit vectors."""

    text: str
    parts: tuple[str, ...]
    vectors: Scores


def stories(texts: Sequence[str], embed: Embed) -> list[Story]:
    """The texts with their structure; all their parts are embedded together, each once."""
    parts = [parts_of(text) or [text] for text in texts]
    listed = list(dict.fromkeys(itertools.chain(*parts)))
    vectors = dict(zip(listed, unit(embed(listed)), strict=True)) if listed else {}
    return [
        Story(text, tuple(some), np.stack([vectors[part] for part in some]))
        for text, some in zip(texts, parts, strict=True)
    ]


@dataclass(frozen=True)
class Match:
    """How far two texts tell the same in different words; `score` is the sum of `terms`.

    Attributes:
        terms: `relational`, -1..1, the mean cosine of the steps from part to part in the one with those in the other;
            `shape`, -1..0, minus half the mean difference between the cosines of neighbouring parts. A single part
            has no steps: then `relational` is 0.
        mapping: (a part of the first, the part of the second that plays it), in order.
    """

    terms: dict[str, float]
    mapping: tuple[tuple[str, str], ...]

    @property
    def score(self) -> float:
        """Bigger is better."""
        return sum(self.terms.values())


def compare(first: Story, second: Story) -> Match:
    """The match of two texts under the best mapping of their parts that keeps the order. Time O(m^2 n^2)."""
    rows, columns = aligned(first.vectors, second.vectors)
    x, y = first.vectors[rows], second.vectors[columns]
    if len(rows) > 1:
        relational = float(_cosines(np.diff(x, axis=0), np.diff(y, axis=0)).mean())
        shape = -float(np.abs(np.vecdot(x[1:], x[:-1]) - np.vecdot(y[1:], y[:-1])).mean())
    else:
        relational, shape = 0.0, -abs(_staying(first.vectors) - _staying(second.vectors))
    terms = {"relational": relational, "shape": SHAPE * shape}
    return Match(terms, tuple((first.parts[i], second.parts[j]) for i, j in zip(rows, columns, strict=True)))


def _staying(vectors: Scores) -> float:
    """The mean cosine of neighbouring parts; 1 for a single part, which goes nowhere."""
    return float(np.vecdot(vectors[1:], vectors[:-1]).mean()) if len(vectors) > 1 else 1.0


def aligned(first: Scores, second: Scores) -> tuple[list[int], list[int]]:
    """(rows, columns): as many parts as the shorter has, in order, whose steps agree best in sum.

    Dynamic programming over the last pair mapped; with equally many parts there is only one such mapping.
    """
    if len(first) > len(second):
        columns, rows = aligned(second, first)
        return rows, columns
    m, n = len(first), len(second)
    if m == n:
        return list(range(m)), list(range(n))
    best = np.full((m, n), -np.inf)
    before = np.zeros((m, n), dtype=np.int64)
    best[0] = first[0] @ second.T  # with nothing before it, a part is known by its meaning alone
    for i in range(1, m):
        for j in range(i, n):
            steps = _cosines(np.broadcast_to(first[i] - first[i - 1], (j, first.shape[1])), second[j] - second[:j])
            total = best[i - 1, :j] + steps
            before[i, j] = int(total.argmax())
            best[i, j] = total[before[i, j]]
    columns = [int(best[m - 1].argmax())]
    for i in range(m - 1, 0, -1):
        columns.append(int(before[i, columns[-1]]))
    return list(range(m)), columns[::-1]


def _cosines(x: Scores, y: Scores) -> Scores:
    lengths = np.sqrt(np.square(x).sum(axis=-1) * np.square(y).sum(axis=-1))
    cosines: Scores = np.divide(np.vecdot(x, y), lengths, out=np.zeros_like(lengths), where=lengths > SAME * SAME)
    return cosines


def system(name: str, terms: Sequence[str], embed: Embed) -> tuple[Scores, Scores]:
    """((n, d) unit vectors of what each term is to its system, (d,) that of the system itself).

    A term is embedded as the sentence `solar system has sun`: of nine ways to say it, this one mapped most terms of
    SCAN right.
    """
    vectors = unit(embed([name, *(f"{name} has {term}" for term in terms)]))
    return vectors[1:], vectors[0]


def fit(sources: tuple[Scores, Scores], targets: tuple[Scores, Scores]) -> tuple[Scores, Scores]:
    """((m, n) cosines of the terms, (m, n) cosines of their offsets from their own systems); see `system`."""
    (x, home), (y, other) = sources, targets
    near: Scores = x @ y.T
    count = len(x), len(y), x.shape[1]
    steps = np.broadcast_to((x - home)[:, None], count), np.broadcast_to((y - other)[None], count)
    return near, _cosines(*steps)
