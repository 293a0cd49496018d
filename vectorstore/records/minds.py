"""Skills, and minds that have them: architectures with a lineage, intelligences with a life."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from vectorstore.patterns import checked
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, LISTED, RISING, UNIQUE, Listed, Ref
from vectorstore.records.names import Name
from vectorstore.records.record import Count, Extra, Record, Unit, UtcTime

Pattern = Annotated[str, StringConstraints(min_length=1), AfterValidator(checked)]
"""A regular expression that RE2 takes: matching is linear in the text."""

Paradigm = Literal["neural", "symbolic", "quantum", "biological", "social", "physical", "hybrid", "unknown"]
Status = Literal["initializing", "running", "paused", "learning", "evolving", "stopped", "error"]

MOVES: dict[str, frozenset[str]] = {
    "initializing": frozenset({"running", "stopped", "error"}),
    "running": frozenset({"paused", "learning", "evolving", "stopped", "error"}),
    "paused": frozenset({"running", "stopped", "error"}),
    "learning": frozenset({"running", "paused", "stopped", "error"}),
    "evolving": frozenset({"running", "paused", "stopped", "error"}),
    "stopped": frozenset({"initializing"}),
    "error": frozenset({"initializing", "stopped"}),
}
"""From each status of an intelligence those that it may move to. What stopped, or failed, begins anew."""


class Skill(Record, table="skills"):
    """Something that one has learned to do. There is one skill of a name.

    Attributes:
        name: what it is called, in any case.
        description: what it does.
        trigger_pattern: a regular expression (RE2); `store.skills.triggered(text)` finds the skills whose pattern
            matches somewhere in a text.
        success_count: how often it worked; never falls. `store.skills.used(id, success)` counts.
        failure_count: how often it did not; never falls.
        last_used: when; never falls.
    """

    name: Annotated[Name, FOLDED, UNIQUE, EMBEDDED]
    description: Annotated[str, EMBEDDED] = ""
    trigger_pattern: Annotated[Pattern | None, INDEXED] = None
    success_count: Annotated[Count, INDEXED, RISING] = 0
    failure_count: Annotated[Count, RISING] = 0
    last_used: Annotated[UtcTime | None, RISING] = None

    @property
    def uses(self) -> int:
        """How often it was used."""
        return self.success_count + self.failure_count

    @property
    def success_rate(self) -> float | None:
        """The share of uses that worked, 0..1; None when it was never used."""
        return self.success_count / self.uses if self.uses else None


class Fitness(BaseModel):
    """How good an architecture is, in six respects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overall: Unit = 0.5
    capability: Unit = 0.5
    efficiency: Unit = 0.5
    alignment: Unit = 0.5
    novelty: Unit = 0.5
    confidence: Unit = 0.5


class Architecture(Record, table="architectures"):
    """How a mind is built, and which ones it descends from.

    Attributes:
        name: what it is called.
        paradigm: of which school.
        substrate: what it runs on.
        fitness: how good it is.
        parents: ids of the architectures that it was made from.
        generation: above that of every parent, which keeps lineages free of cycles.
    """

    name: Annotated[Name, FOLDED, INDEXED, EMBEDDED]
    description: Annotated[str, EMBEDDED] = ""
    paradigm: Annotated[Paradigm, INDEXED] = "unknown"
    substrate: str = ""
    fitness: Fitness = Field(default_factory=Fitness)
    parents: Annotated[tuple[str, ...], Listed(ref="architectures")] = ()
    generation: Annotated[Count, INDEXED] = 0


class Intelligence(Record, table="intelligences"):
    """A mind of some architecture.

    Attributes:
        name: what it is called.
        architecture: id of how it is built.
        status: where it is in its life; `MOVES` says what may follow what.
        maturity: 0..1.
        capabilities: what it can do.
        memories: ids of memories that it holds on to: these are not forgotten.
        state: anything else, as plain data.
    """

    name: Annotated[Name, FOLDED, INDEXED, EMBEDDED]
    description: Annotated[str, EMBEDDED] = ""
    architecture: Annotated[str, Ref("architectures"), INDEXED]
    status: Annotated[Status, INDEXED] = "initializing"
    maturity: Annotated[Unit, INDEXED] = 0.0
    capabilities: Annotated[tuple[str, ...], LISTED] = ()
    memories: Annotated[tuple[str, ...], Listed(ref="memories")] = ()
    state: Extra = Field(default_factory=dict)
