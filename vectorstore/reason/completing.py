"""Completion: a is to b as c is to which record; over the index where there is one, else over every vector."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from vectorstore.collection import Collection
from vectorstore.errors import NotFound, ValidationError
from vectorstore.reason.algebra import METHODS, Method, Objective, confidences, unit
from vectorstore.reason.naming import Names
from vectorstore.records import Record, Where
from vectorstore.records.where import parse
from vectorstore.results import Hit, Hits, Plan
from vectorstore.search import Id, Request
from vectorstore.search.queries import LeftOut, Queries, Query
from vectorstore.storage.lookups import Named
from vectorstore.sync import SnapshotMoved
from vectorstore.vectors import Allowed, Found, Live, Matrix, as_matrix
from vectorstore.vectors.exact import best, closeness, final_scores, gather, prepare, slack

R = TypeVar("R", bound=Record)
DEPTH = 100
"""At least so many candidates are scored exactly where a method is no ordinary vector search."""

CERTAINTY = 10
"""Confidence compares an answer with so many of the best, whatever k is."""


@dataclass(frozen=True)
class Completion(Hit[R]):
    """One answer to `a : b :: c : ?`.

    Attributes:
        score: bigger is better. 3cosadd: cos(x, b - a + c), -1..1 (in ip and l2 spaces as in any search); 3cosmul:
            0..1000, about 1 for good answers; pair: cos(x - c, b - a), -1..1.
        margin: how far its score is above the next one's; 0 for the last that there is.
        confidence: 0..1, `min(1, max(0, score))` times its share of exp(score / 0.03) among the ten best (or the k
            best, if k is more): high when it fits well and nothing else fits nearly as well.
    """

    margin: float = 0.0
    confidence: float = 0.0


@dataclass(frozen=True, eq=False)
class Offset(Query):
    """The query `b - a + c`, for `search` and `search_many`; ids and records among the three are never in the answer.

        store.concepts.search(vs.Offset("man", "king", "woman"), mmr=0.5)

    Each is a text, a (d,) vector, an `Id`, a record or a query object; under cosine all three count with length one.
    `store.analogies.complete` takes names.
    """

    a: Any
    b: Any
    c: Any

    def resolve(self, queries: Queries, where: str) -> tuple[Matrix, LeftOut]:
        """((d,) vector of the formula above, the ids of the three)."""
        parts = [queries.one(getattr(self, name), f"{where}.{name}") for name in "abc"]
        if len({len(vector) for vector, _ in parts}) > 1:
            raise ValidationError(f"{where}: a, b and c have {', '.join(str(len(v)) for v, _ in parts)} dimensions")
        left_out: LeftOut = frozenset().union(*(names for _, names in parts))
        return _offset(np.stack([vector for vector, _ in parts]), queries.metric, where), left_out


def _offset(terms: Matrix, metric: str, where: str) -> Matrix:
    """(d,) b - a + c of (3, d) vectors."""
    objective = Objective(unit(terms) if metric == "cosine" else terms.astype(np.float64), "3cosadd")
    if metric == "cosine" and objective.degenerate:
        raise ValidationError(f"{where}: {objective.degenerate}")
    target: Matrix = as_matrix(objective.target, where, metric=metric, row=0)[0]
    return target


@dataclass(frozen=True)
class Question:
    """a, b and c, looked up: (3, d) vectors, and the ids that must not be in the answer."""

    terms: Matrix
    left_out: frozenset[str]


def asked(collection: Collection[Any], parts: Sequence[Any], context: str | None, space: str | None) -> Question:
    """The question that ids, names, records and vectors ask of a collection.

    Everything that is called like one of them is left out of the answer, in whatever context.

    Raises:
        NotFound, AmbiguousName: a word means no record, or several. ValidationError: a bad vector.
    """
    for place, part in enumerate(parts):
        if part is None or isinstance(part, int | float):
            wanted = "an id, a name, a record or a vector"
            raise ValidationError(f"{collection.name}.complete: {'abc'[place]}: expected {wanted}, got {part!r}")
    words = [part for part in parts if isinstance(part, str)]
    words += [part.id for part in parts if isinstance(part, Record)]
    names = Names.of(collection, words)
    queries = collection._searcher(space).queries
    found: dict[int, Named] = {}
    for place, part in enumerate(parts):
        if isinstance(part, str | Record):
            word = Id(part.id) if isinstance(part, Record) else part
            found[place] = names.one(word, f"{collection.name}.complete: {'abc'[place]}", context)
    ids = [one.id for one in found.values()]
    vectors = dict(zip(found, queries.of_ids(ids), strict=True))
    for place, part in enumerate(parts):
        if place not in vectors:
            vectors[place] = queries.one(part, f"{collection.name}.complete: {'abc'[place]}")[0]
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise ValidationError(f"{collection.name}.complete: a, b and c have different numbers of dimensions")
    left_out = names.alike([one.key for one in found.values()]) | frozenset(ids)
    return Question(np.stack([vectors[place] for place in range(3)]), left_out)


def complete(
    collection: Collection[R],
    question: Question,
    k: int,
    method: Method,
    where: Where | None,
    recall: float | None,
    exact: bool,
    space: str | None,
) -> Hits[R]:
    """The k best answers; see `Analogies.complete`."""
    started = time.perf_counter()
    request = Request.checked(collection._table, k, where, recall, exact)
    if method not in METHODS:
        raise ValidationError(f"method: expected {', '.join(METHODS[:-1])} or {METHODS[-1]}, got {method!r}")
    if method != "3cosadd" and collection.metric != "cosine":
        raise ValidationError(f"method: {method} is made of cosines; {collection.name} has {collection.metric}")
    objective = Objective(unit(question.terms), method)
    if collection.metric == "cosine" and objective.degenerate:
        raise ValidationError(f"{collection.name}.complete: {objective.degenerate}")
    wanted = max(k, CERTAINTY) + 1 + len(question.left_out)
    node, table, state = parse(where, collection._table.schema), collection._table, collection.kind.space_name(space)
    while True:
        with collection._sync.catalog.read() as connection:
            try:
                live = collection._sync.state(state).current(connection)
            except SnapshotMoved:
                continue
            allowed = None
            if live is not None and node is not None:
                allowed = collection._sync.state(state).allowed(connection, live, table, node)
            if live is None:
                found = Found(np.empty(0, np.int64), np.empty(0), True, 1.0, Plan("empty", "no vectors yet", 0))
            elif method == "3cosadd":
                target = _offset(question.terms, collection.metric, f"{collection.name}.complete")
                found = live.search(target, wanted, allowed=allowed, recall=request.recall, exact=exact)
            else:
                found = ranked(live, question.terms, objective, wanted, allowed, request.recall, exact)
            generation = collection._sync.catalog.seq(connection)
            seq = None if collection._sync.catalog.in_transaction else generation
            records = table.by_vids(connection, found.vids.tolist(), seq)
        break
    return _hits(collection, found, records, question, k, method, generation, started)


def _hits(
    collection: Collection[R],
    found: Found,
    records: dict[int, R],
    question: Question,
    k: int,
    method: Method,
    generation: int,
    started: float,
) -> Hits[R]:
    kept: list[tuple[R, float]] = []
    for vid, value in zip(found.vids.tolist(), found.scores.tolist(), strict=True):
        if vid not in records:
            raise NotFound(f"{collection.name}: vector {vid} has no live record; run: vectorstore check")
        if records[vid].id not in question.left_out:
            kept.append((records[vid], 1 / (1 - value) if collection.metric == "l2" else value))
    scores = np.array([score for _, score in kept])
    sure = confidences(scores[: max(k, CERTAINTY)])
    margins = np.append(scores[:-1] - scores[1:], 0.0)
    hits = tuple(
        Completion(
            record,
            score,
            1 - score if method == "3cosadd" and collection.metric == "cosine" else None,
            rank,
            {method: score},
            margin=float(margins[rank]),
            confidence=float(sure[rank]),
        )
        for rank, (record, score) in enumerate(kept[:k])
    )
    metric = collection.metric if method == "3cosadd" else method
    elapsed = time.perf_counter() - started
    return Hits(hits, found.exact, found.recall, generation, elapsed, metric, found.plan)


def ranked(
    live: Live, terms: Matrix, objective: Objective, k: int, allowed: Allowed | None, recall: float, exact: bool
) -> Found:
    """The k best by an objective that is no ordinary search.

    With an index: candidates by b - a + c, then by the gradient at the best of them, all scored exactly. Without, or
    when the searches would be exact anyway: one pass over all vectors for each of a, b and c.
    """
    depth = max(DEPTH, 4 * k)
    first = None if exact else live.search(objective.target.astype(np.float32), depth, allowed=allowed, recall=recall)
    if first is None or first.exact:
        return _exact(live, terms, objective, k, allowed)
    vids = first.vids
    _, cosines = _cosines(live, terms, vids)
    near = np.argsort(-objective.values(cosines), kind="stable")[: min(k, CERTAINTY)]
    gradient = objective.toward(cosines[:, near]).astype(np.float32)
    second = live.search(gradient, depth, allowed=allowed, recall=recall)
    vids, cosines = _cosines(live, terms, np.union1d(vids, second.vids))
    values = objective.values(cosines)
    order = best(values, vids, k)
    reason = f"{objective.method}: the best of {len(vids)} candidates near b - a + c and along the gradient there"
    scanned = first.plan.scanned + second.plan.scanned
    plan = Plan(second.plan.name, f"{reason}; {second.plan.reason}", scanned, len(vids), second.plan.matching)
    return Found(vids[order], values[order], False, min(first.recall, second.recall), plan)


def _cosines(live: Live, terms: Matrix, vids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((m,) vids, (3, m) float64 cosines) in the order of their positions."""
    found, rows = live.vectors_of(vids)
    return found, np.stack([final_scores(term, rows, "cosine") for term in terms])


def _exact(live: Live, terms: Matrix, objective: Objective, k: int, allowed: Allowed | None) -> Found:
    prepared = [prepare(term, "cosine") for term in terms]
    positions = np.arange(live.rows) if allowed is None else allowed.positions
    if allowed is None:
        near = [np.concatenate([closeness(term, part, "cosine") for part in live.segments]) for term in prepared]
    else:
        rows = gather(live.segments, live.offsets, positions)
        lengths = np.sqrt(np.vecdot(rows, rows))
        near = [rows @ term / lengths for term in prepared]
    low, high = objective.bounds(np.stack(near), float(slack(prepared[0], "cosine", 1.0, live.dim)))
    if allowed is None and live.dead is not None:
        low[live.dead], high[live.dead] = -np.inf, -np.inf
    if k < len(low):
        positions = positions[high >= np.partition(low, len(low) - k)[len(low) - k]]
    if allowed is None and live.dead is not None:
        positions = positions[~live.dead[positions]]
    vids, cosines = _cosines(live, terms, live.vids_at(positions))
    values = objective.values(cosines)
    order = best(values, vids, k)
    plan = Plan(
        "exact" if allowed is None else "filtered exact",
        f"{objective.method}: every vector was compared with a, b and c",
        live.rows if allowed is None else len(allowed.positions),
        matching=None if allowed is None else len(allowed.positions),
    )
    return Found(vids[order], values[order], True, 1.0, plan)
