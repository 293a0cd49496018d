"""Recommendation: what is like these examples, and unlike those.

The query is the mean of the positive examples; with negative ones it is moved away from their mean by as much as the
two means lie apart: `mean(positive) + (mean(positive) - mean(negative))`, which Qdrant calls the average vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vectorstore.errors import DimensionError, ValidationError
from vectorstore.records import Record
from vectorstore.search.queries import NOBODY, Id, LeftOut, Queries, Query
from vectorstore.vectors import Matrix, as_matrix
from vectorstore.vectors.exact import Scores

MIN_LENGTH = 1e-6
"""Under cosine a query shorter than this, made of vectors of length one, is the rounding error of float32."""


@dataclass(frozen=True, eq=False)
class Recommend(Query):
    """A query made of examples, for `search` and `search_many`; ids and records among them are never in the answer.

        store.concepts.search(vs.Recommend(positive=[vs.Id("default:king"), "a queen"], negative=["chess"]))

    `2 * mean(positive) - mean(negative)`, or `mean(positive)` without negatives; under cosine every example is scaled
    to length one first, under ip and l2 it counts as it is.

    Attributes:
        positive: one or more examples, each a text, a (d,) vector, an `Id`, a record or a query object.
        negative: examples of what is not wanted; may be empty.

    Raises:
        ValidationError: no positive example; or, when searched with, examples that cancel out under cosine.
    """

    positive: Iterable[Any]
    negative: Iterable[Any] = ()

    def __post_init__(self) -> None:
        """Read the examples once, so that the query can be used again."""
        for name in ("positive", "negative"):
            examples = getattr(self, name)
            if isinstance(examples, str | bytes | Record | Query) or not hasattr(examples, "__iter__"):
                raise ValidationError(f"Recommend.{name}: expected a list of examples, got {type(examples).__name__}")
            if isinstance(examples, np.ndarray) and examples.ndim != 2:
                raise ValidationError(f"Recommend.{name}: expected one vector a row, got shape {examples.shape}")
            object.__setattr__(self, name, tuple(examples))
        if not self.positive:
            raise ValidationError("Recommend.positive: expected at least one example, got none")

    def resolve(self, queries: Queries, where: str) -> tuple[Matrix, LeftOut]:
        """((d,) vector of the formula above, the ids of examples)."""
        target, left_out = _mean(queries, tuple(self.positive), f"{where}.positive")
        if self.negative:
            away, also = _mean(queries, tuple(self.negative), f"{where}.negative")
            if len(away) != len(target):
                raise DimensionError(f"{where}: examples of {len(target)} and of {len(away)} dimensions")
            target, left_out = 2 * target - away, left_out | also
        if queries.metric == "cosine" and np.linalg.norm(target) < MIN_LENGTH:
            raise ValidationError(
                f"{where}: the examples cancel out; what is left has no direction, and cosine needs one"
            )
        return as_matrix(target, where, metric=queries.metric, row=0)[0], left_out


def _mean(queries: Queries, examples: Sequence[Any], where: str) -> tuple[Scores, LeftOut]:
    """((d,) float64 mean of the examples' vectors, the ids among them); texts are embedded together."""
    texts = [place for place, item in enumerate(examples) if isinstance(item, str) and not isinstance(item, Id)]
    for place in texts:
        if not examples[place].strip():
            raise ValidationError(f"{where}[{place}]: expected some text, got {examples[place]!r}")
    made = queries.many([examples[place] for place in texts])[0] if texts else ()
    embedded = dict(zip(texts, made, strict=True))
    vectors, left_out = [], NOBODY
    for place, example in enumerate(examples):
        if place in embedded:
            vectors.append(embedded[place])
            continue
        if isinstance(example, Record) and not example.id and (name := example.derived_id()):
            example = example.model_copy(update={"id": name})
        vector, names = queries.one(example, f"{where}[{place}]")
        if isinstance(example, Record) and example.id:
            names = names | {example.id}
        vectors.append(vector)
        left_out = left_out | names
    if len({len(vector) for vector in vectors}) > 1:
        raise DimensionError(
            f"{where}: examples of {' and of '.join(sorted({str(len(v)) for v in vectors}))} dimensions"
        )
    wide = np.stack(vectors).astype(np.float64)
    if queries.metric == "cosine":
        wide /= np.sqrt(np.square(wide).sum(axis=1))[:, None]
    mean: Scores = wide.mean(axis=0)
    return mean, left_out
