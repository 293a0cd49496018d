"""Memories in tiers, what was learned from them, and what caused what.

After omega-memory: twelve tiers from the instant to the cosmic, each with a time to keep what nobody uses, and an
importance from which on a memory rises into it. After Shinn et al. 2023 (Reflexion): episodes.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from vectorstore.records.markers import EMBEDDED, INDEXED, RISING, Ref
from vectorstore.records.names import Name
from vectorstore.records.record import Count, Record, Unit, UtcTime
from vectorstore.records.relations import Type, said

Level = Annotated[int, Field(strict=True, ge=1, le=12)]
"""Which tier: 1..12."""

Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""Any number but NaN and infinity."""


def _not_below_zero(value: float) -> float:
    if value < 0:
        raise ValueError(f"expected 0 or more, got {value!r}")
    return value


Seconds = Annotated[Finite, AfterValidator(_not_below_zero)]
Scale = Literal["individual", "species", "cosmic"]
_MINUTE, _DAY = 60.0, 86_400.0


class Memory(Record, table="memories"):
    """Something worth remembering.

    Attributes:
        content: what it is.
        tier: 1..12, see `Tier`.
        importance: 0..1.
        last_accessed: when it was last used; never falls. `store.memories.touch(ids)` raises it.
        access_count: how often it was; never falls.
    """

    content: Annotated[str, StringConstraints(min_length=1, pattern=r"\S"), EMBEDDED]
    tier: Annotated[Level, INDEXED] = 3
    importance: Annotated[Unit, INDEXED] = 0.5
    last_accessed: Annotated[UtcTime | None, RISING] = None
    access_count: Annotated[Count, RISING] = 0


class Tier(Record, table="tiers"):
    """A rung of the ladder. One that is stored takes the place of the one of its level in `LADDER`.

    Attributes:
        level: 1..12.
        name: what it is called, in any case.
        scale: whose memory it is.
        retention_seconds: so long a memory of little importance is kept after its last use; None for ever.
        promotion: memories of the tier below whose importance is at least so much rise into this one.
    """

    level: Level
    name: Name
    scale: Scale = "individual"
    retention_seconds: Seconds | None = None
    promotion: Unit = 0.0

    def derived_id(self) -> str:
        """Its level: there is one tier of each."""
        return f"tier-{self.level}"


_NAMES = (
    *("Instant", "Session", "Episodic", "Semantic", "Collective", "Evolutionary"),
    *("Architectural", "Substrate", "Civilizational", "Temporal", "Physical", "Omega"),
)
_RETENTION = (_MINUTE, _DAY, 30 * _DAY, 365 * _DAY, 3650 * _DAY)
_PROMOTION = (0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.99)
_SCALES: tuple[Scale, ...] = ("individual", "species", "cosmic")

LADDER: tuple[Tier, ...] = tuple(
    Tier(
        id=f"tier-{place + 1}",
        level=place + 1,
        name=name,
        scale=_SCALES[place // 4],
        retention_seconds=_RETENTION[place] if place < len(_RETENTION) else None,
        promotion=_PROMOTION[place],
    )
    for place, name in enumerate(_NAMES)
)
"""The tiers of a store that has none of its own: 1 minute, 24 hours, 30 days, 1 year, 10 years, then for ever."""


class Episode(Record, table="episodes"):
    """What happened once, and what it led to: a reflexion upon a memory, which it belongs to.

    Attributes:
        memory: id of the memory.
        trigger: what set it off, such as "code_error".
        situation: in which state of things.
        action: what was done.
        outcome: what came of it.
        success: whether it went well; None when nobody judged.
        reward: how well; any number.
        seconds: how long it took.
        tokens: what it cost.
        session: a name that the episodes of one run share.
    """

    memory: Annotated[str, Ref("memories", cascade=True)]
    trigger: Annotated[Name, EMBEDDED, INDEXED]
    situation: Annotated[str, EMBEDDED] = ""
    action: Annotated[str, EMBEDDED] = ""
    outcome: Annotated[str, EMBEDDED] = ""
    success: Annotated[bool, Field(strict=True)] | None = None
    reward: Finite | None = None
    seconds: Seconds | None = None
    tokens: Count | None = None
    session: Annotated[str | None, INDEXED] = None


class CausalEdge(Record, table="causes"):
    """`source` leads to `target`; it belongs to both memories.

    Its id follows from what it says, so of each type there is one edge from one memory to another in a context.

    Attributes:
        source: id of the cause.
        target: id of the effect.
        type: of what kind, such as "improvement".
        weight: how strongly; any finite number, below zero when it hinders.
        samples: how many observations the weight is the mean of.
    """

    source: Annotated[str, Ref("memories", cascade=True)]
    target: Annotated[str, Ref("memories", cascade=True)]
    type: Annotated[Type, INDEXED] = "cause"
    weight: Finite = 1.0
    samples: Annotated[int, Field(strict=True, ge=1)] = 1
    description: str = ""

    def derived_id(self) -> str:
        """What it says, as 16 characters."""
        return said(self.context, self.source, self.type, self.target)
