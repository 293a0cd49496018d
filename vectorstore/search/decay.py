"""Older records count for less: scores that decay with the age of a record's time field.

    score = s * (1 - weight * (1 - max(floor, exp(-age / tau))))

Age runs from the field's time to the store's clock; a time to come has age 0, and a record without a time has no age
and keeps its score. A negative score is not raised by decay: it loses as much as its opposite would,
score = s - |s| * (1 - factor), so that an older record never overtakes a newer one that was as near.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from vectorstore.errors import ValidationError
from vectorstore.ids import to_micros
from vectorstore.records import Schema, Value
from vectorstore.search.stages import Ranked, Scene
from vectorstore.storage.lookups import newest

_MICROSECOND = timedelta(microseconds=1)
FIRST = 100
"""Shown at least so many of the list at first; a look at them takes about a millisecond."""


@dataclass(frozen=True)
class Decay:
    """How scores decay with age.

    Attributes:
        half_life: after so long a score is halved; give this or `tau`.
        tau: after so long a score is down to 1/e = 0.3679.
        field: a time field of the kind.
        floor: 0..1, the least that age leaves of a score.
        weight: 0..1, how much of the decay applies; 0 ranks by the score alone.

    Raises:
        ValidationError: not exactly one of `half_life` and `tau`, or a value out of range.
    """

    half_life: timedelta | None = None
    tau: timedelta | None = None
    field: str = "updated_at"
    floor: float = 0.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if (self.half_life is None) == (self.tau is None):
            raise ValidationError("Decay: expected half_life or tau, one of them: Decay(half_life=timedelta(days=30))")
        for name in ("half_life", "tau"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, timedelta) or value <= timedelta(0)):
                raise ValidationError(f"Decay.{name}: expected a timedelta above zero, got {value!r}")
        for name in ("floor", "weight"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValidationError(f"Decay.{name}: expected 0..1, got {value!r}")

    def factor(self, age: float) -> float:
        """What is left of a score of 1.

        Args:
            age: microseconds; below zero (a time to come) counts as zero.
        """
        if self.half_life is not None:
            left = math.exp2(-max(0.0, age) / (self.half_life / _MICROSECOND))
        else:
            assert self.tau is not None  # one of the two is given
            left = math.exp(-max(0.0, age) / (self.tau / _MICROSECOND))
        return 1.0 - self.weight * (1.0 - max(self.floor, left))

    def stage(self, schema: Schema[Any]) -> Decaying:
        """What ranks by it; one for each search.

        Raises:
            ValidationError: the kind has no such time field.
        """
        column = schema.by_name.get(self.field)
        if column is None or column.type != "time":
            known = ", ".join(column.name for column in schema.columns if column.type == "time")
            raise ValidationError(f"{schema.table}: decay: no time field {self.field!r}; the time fields are: {known}")
        return Decaying(self)


def as_decay(value: object) -> Decay:
    """The option `decay`, checked."""
    if not isinstance(value, Decay):
        raise ValidationError(f"decay: expected a Decay, such as Decay(half_life=timedelta(days=30)), got {value!r}")
    return value


class Decaying:
    """The stage: exact, because a factor of at most 1 lets it know when nothing further down can overtake.

    The threshold of Fagin, Lotem and Naor 2003: the list descends, so no row beyond it can have more than its last
    score times the biggest factor that any row has. Once the k-th best reaches that, the first k are certain; a row
    beyond with the same score would come after them, because ties keep the order of the list.
    """

    def __init__(self, decay: Decay) -> None:
        self._decay = decay
        self._biggest: float | None = None

    def depth(self, k: int) -> int:
        """Some more than a few."""
        return max(k, FIRST)

    def apply(self, scene: Scene, ranked: Sequence[Ranked], k: int, complete: bool) -> list[Ranked] | None:
        """The list by decayed scores, ties in the order they came.

        A fusion of ranks is a list of its own length, the best of both kinds of hits: it is reordered as it is.
        """
        now = to_micros(scene.now)
        factors = [self._factor(now, value) for value in scene.values(ranked, self._decay.field)]
        decayed = [_decayed(item, factor) for item, factor in zip(ranked, factors, strict=True)]
        decayed.sort(key=lambda item: -item.score)
        if complete or not scene.grows:
            return decayed
        if len(decayed) < k:
            return None
        last = ranked[-1].score
        if decayed[k - 1].score >= last:
            return decayed
        if self._biggest is None:
            self._biggest = self._best_factor(scene, now)
        return decayed if decayed[k - 1].score >= _lowered(last, self._biggest) else None

    def _factor(self, now: int, value: Value) -> float:
        return 1.0 if value is None else self._decay.factor(now - int(value))

    def _best_factor(self, scene: Scene, now: int) -> float:
        """The biggest factor of any live record: in a store that nobody wrote to for a year it is small for all."""
        latest, all_have_it = newest(scene.connection, scene.table.schema, self._decay.field)
        return self._factor(now, latest) if all_have_it else 1.0


def _lowered(score: float, factor: float) -> float:
    return score * factor if score >= 0 else score * (2.0 - factor)


def _decayed(item: Ranked, factor: float) -> Ranked:
    score = _lowered(item.score, factor)
    return replace(item, score=score, parts={**item.parts, "decay": score - item.score})
