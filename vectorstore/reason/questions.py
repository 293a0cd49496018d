"""Thousands of word analogies at once: which row of a matrix answers each, by blocks of matrix products."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vectorstore.errors import ValidationError
from vectorstore.reason.algebra import EPSILON, METHODS, SAME, Method
from vectorstore.vectors import Matrix

Rows = npt.NDArray[np.int64]
Quadruple = tuple[str, str, str, str]
BLOCK = 512
"""So many questions are compared with a tile of rows at once."""

TILE_NUMBERS = 1 << 20
"""So many scores of a tile (4 MB of float32) stay in the processor's cache."""


def read_questions(source: str | os.PathLike[str] | Iterable[str]) -> list[tuple[str, list[Quadruple]]]:
    """(section, its questions) of word2vec's format: lines `: section`, then lines of four words.

    Args:
        source: a file, or its lines. Lines that have not four words are skipped, as gensim skips them.

    Raises:
        ValidationError: a question before the first section.
    """
    if isinstance(source, str | os.PathLike):
        source = Path(source).read_text(encoding="utf-8").splitlines()
    sections: list[tuple[str, list[Quadruple]]] = []
    for number, line in enumerate(source):
        if line.startswith(": "):
            sections.append((line.lstrip(": ").strip(), []))
            continue
        if not sections:
            raise ValidationError(f"questions: line {number + 1} comes before the first ': section' line")
        words = line.split()
        if len(words) == 4:
            sections[-1][1].append((words[0], words[1], words[2], words[3]))
    return sections


def answers(vectors: Matrix, questions: Rows, method: Method, alike: Rows | None = None) -> Rows:
    """(q,) the row that answers each question, -1 where all rows are left out; ties by the smaller row.

    Args:
        vectors: (n, d) float32 of length one.
        questions: (q, 3) the rows of a, b and c.
        method: see `algebra`; 3cosadd and pair are compared up to constant factors.
        alike: (n,) numbers; rows with the number of a, b or c are left out with it. None: only the three themselves.

    Cost: w * n * d multiplications for the w different words in the questions, then about 5 q n; some MB a core.
    """
    if method not in METHODS:
        raise ValidationError(f"method: expected {', '.join(METHODS[:-1])} or {METHODS[-1]}, got {method!r}")
    if not len(questions) or not len(vectors):
        return np.full(len(questions), -1, dtype=np.int64)
    cores = os.cpu_count() or 1
    bounds = np.linspace(0, len(vectors), min(cores, len(vectors)) + 1).astype(int).tolist()
    hidden = _Hidden.of(questions, len(vectors), alike)
    with ThreadPoolExecutor(cores) as pool:
        spans = itertools.pairwise(bounds)
        parts = list(pool.map(lambda span: _best(vectors, questions, hidden, method, *span), spans))
    values = np.stack([value for value, _ in parts])
    rows = np.stack([row for _, row in parts])
    chosen: Rows = rows[values.argmax(axis=0), np.arange(len(questions))]
    return chosen


@dataclass(frozen=True, eq=False)
class _Hidden:
    """Which row is left out of which question: pairs in the order of rows, and within of questions."""

    rows: Rows
    questions: Rows

    @classmethod
    def of(cls, questions: Rows, count: int, alike: Rows | None) -> _Hidden:
        rows, of = questions.ravel(), np.repeat(np.arange(len(questions)), questions.shape[1])
        if alike is not None:
            order = np.argsort(alike, kind="stable")
            first = np.searchsorted(alike[order], alike[rows])
            many = np.searchsorted(alike[order], alike[rows], side="right") - first
            within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
            rows, of = order[np.repeat(first, many) + within], np.repeat(of, many)
        order = np.lexsort((of, rows))
        return cls(rows[order], of[order])

    def within(self, low: int, high: int) -> tuple[Rows, Rows]:
        """(question, row - low) of the pairs whose rows lie in a span, by question."""
        part = slice(*np.searchsorted(self.rows, (low, high)))
        order = np.argsort(self.questions[part], kind="stable")
        return self.questions[part][order], self.rows[part][order] - low


def _best(
    vectors: Matrix, questions: Rows, hidden: _Hidden, method: Method, low: int, high: int
) -> tuple[Matrix, Rows]:
    """((q,) best score, (q,) its row) among the rows of a span; every word's products with a tile are made once."""
    words, places = np.unique(questions, return_inverse=True)
    asked = places.reshape(questions.shape)
    a, b, c = vectors[questions].swapaxes(0, 1)
    own = np.vecdot(b - a, c)
    count = len(questions)
    value, row = np.full(count, -np.inf, np.float32), np.full(count, -1, np.int64)
    width = max(64, TILE_NUMBERS // BLOCK)
    for start in range(low, high, width):
        tile = vectors[start : min(start + width, high)]
        of, at = hidden.within(start, start + len(tile))
        scores_of = _scores(vectors[words] @ tile.T, method)
        for first in range(0, count, BLOCK):
            part = slice(first, min(first + BLOCK, count))
            scores = scores_of(asked[part], own[part])
            near = slice(*np.searchsorted(of, (part.start, part.stop)))
            scores[of[near] - first, at[near]] = -np.inf
            best = scores.argmax(axis=1)
            found = scores[np.arange(len(best)), best]
            better = found > value[part]
            value[part][better] = found[better]
            row[part][better] = best[better] + start
    return value, row


def _scores(products: Matrix, method: Method) -> Callable[[Rows, Matrix], Matrix]:
    """((q, 3) places among the words, (q,) (b - a) . c) -> (q, t) scores, from (w, t) products with a tile."""
    if method == "3cosmul":
        near: Matrix = (products + 1) / np.float32(2)
        away: Matrix = np.float32(1) / (near + np.float32(EPSILON))
        return lambda at, _: _times(_times(near[at[:, 1]], near[at[:, 2]]), away[at[:, 0]])
    if method == "3cosadd":
        return lambda at, _: _minus(_plus(products[at[:, 1]], products[at[:, 2]]), products[at[:, 0]])
    apart = np.sqrt(np.maximum(2 - 2 * products, 0))
    inverse: Matrix = np.divide(1, apart, out=np.zeros_like(apart), where=apart > SAME)

    def directions(at: Rows, own: Matrix) -> Matrix:
        made = _minus(_minus(products[at[:, 1]], products[at[:, 0]]), own[:, None])
        return _times(made, inverse[at[:, 2]])

    return directions


def _times(made: Matrix, factor: Matrix) -> Matrix:
    made *= factor
    return made


def _plus(made: Matrix, term: Matrix) -> Matrix:
    made += term
    return made


def _minus(made: Matrix, term: Matrix) -> Matrix:
    made -= term
    return made
