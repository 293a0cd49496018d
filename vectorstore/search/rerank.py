"""Re-ranking: the best of the list in the order that a slower, better judge gives them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.results import Former
from vectorstore.search.queries import Id, WithVector
from vectorstore.search.stages import Ranked, Scene

Reranker = Callable[[Any, Sequence[Any]], Sequence[float]]
"""(query, records) -> one finite number a record, bigger is better."""

MAX_DEPTH = 10_000


def reranking(rerank: object, depth: object) -> Reranking:
    """The stage of the options `rerank` and `rerank_depth`.

    Raises:
        ValidationError: no callable, or a depth out of range.
    """
    if not callable(rerank):
        raise ValidationError(f"rerank: expected a function of (query, records), got {rerank!r}")
    if isinstance(depth, bool) or not isinstance(depth, int) or not 1 <= depth <= MAX_DEPTH:
        raise ValidationError(f"rerank_depth: expected a whole number in 1..{MAX_DEPTH}, got {depth!r}")
    return Reranking(rerank, depth)


@dataclass(frozen=True)
class Reranking:
    """The stage.

    A hit's score is what the judge gave, its only part too; `former` keeps the rank, score and parts from before.
    """

    judge: Reranker
    count: int

    def depth(self, k: int) -> int:
        """As many as are judged: `rerank_depth`, or k if that is more."""
        return max(k, self.count)

    def apply(self, scene: Scene, ranked: Sequence[Ranked], k: int, complete: bool) -> list[Ranked] | None:
        """The best of the list by the judge's scores, ties in the order they came; nothing else.

        Raises:
            ValidationError: the judge gave another count of numbers, or one that is not finite.
        """
        chosen = ranked[: self.depth(k)]
        if not chosen:
            return []
        records = scene.records(chosen)
        scores = _checked(self.judge(_query(scene), records), records)
        judged = [
            replace(item, score=score, parts={"rerank": score}, former=Former(rank, item.score, item.parts))
            for rank, (item, score) in enumerate(zip(chosen, scores, strict=True))
        ]
        return sorted(judged, key=lambda item: -item.score)


def _query(scene: Scene) -> Any:
    """What was asked; for an `Id` the record that it names, which tells a judge more."""
    if isinstance(scene.query, WithVector):
        return scene.query.text
    if not isinstance(scene.query, Id):
        return scene.query
    name = str(scene.query)
    found = scene.table.by_ids(scene.connection, [name]).get(name)
    return scene.query if found is None else found[1]


def _checked(numbers: Any, records: Sequence[Any]) -> list[float]:
    try:
        scores = [float(number) for number in numbers]
    except (TypeError, ValueError) as error:
        raise ValidationError(f"rerank: expected a sequence of numbers, one a record, got {numbers!r}") from error
    if len(scores) != len(records):
        raise ValidationError(f"rerank: expected {len(records)} numbers, one a record, got {len(scores)}")
    for place, (score, record) in enumerate(zip(scores, records, strict=True)):
        if not math.isfinite(score):
            raise ValidationError(f"rerank: expected finite numbers, got {score} for records[{place}] ({record.id!r})")
    return scores
