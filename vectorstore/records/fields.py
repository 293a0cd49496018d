"""Semantic fields: clusters that hang together, as knowledge of its own."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED
from vectorstore.records.record import Count, Record, Unit

Name = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"\S")]


class SemanticField(Record, table="fields"):
    """Records that belong together by meaning; its vector is the centroid of the cluster that it was discovered from.

    Attributes:
        name: its three most telling words, unless somebody gave it another.
        description: for people.
        of: the kind of its members.
        model: the line of fits that it comes from.
        number: of its cluster, which stays the same when the cluster is found again.
        core: ids of members that belong here and nowhere else (membership of at least 0.8 when it was discovered, so
            that no record is in the core of two fields of one fit), the strongest first.
        related: ids of other records that belong here in part, with their membership.
        frames: ids of frames in which members play a part.
        terms: the words that set it apart, best first.
        coherence: mean cosine of all pairs of members of the cluster.
    """

    name: Annotated[Name, FOLDED, INDEXED, EMBEDDED]
    description: Annotated[str, EMBEDDED] = ""
    of: Annotated[str, INDEXED] = "concepts"
    model: Annotated[str | None, INDEXED] = None
    number: Count | None = None
    core: tuple[str, ...] = ()
    related: dict[str, Unit] = Field(default_factory=dict)
    frames: tuple[str, ...] = ()
    terms: tuple[str, ...] = ()
    coherence: Annotated[float | None, Field(strict=True, ge=-1.0, le=1.0)] = None
