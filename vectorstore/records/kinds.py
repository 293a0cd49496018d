"""The kinds that ship with the store. Each is a declaration; no kind has SQL of its own.

Concept, Analogy (in `analogies.py`) and Cluster follow the field lists of the knowledge systems that this store
succeeds; Context is the namespace that every record lives in.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vectorstore.ids import id_part
from vectorstore.records.analogies import Analogy
from vectorstore.records.artifacts import Artifact
from vectorstore.records.axioms import Axiom
from vectorstore.records.fields import SemanticField
from vectorstore.records.frames import Frame, FrameInstance, FrameRelation
from vectorstore.records.lattice import EchoEdge, EchoForm, EchoStep, EchoTerm, Identity
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, LISTED, Ref
from vectorstore.records.memories import CausalEdge, Episode, Memory, Tier
from vectorstore.records.minds import Architecture, Intelligence, Skill
from vectorstore.records.names import Name
from vectorstore.records.record import Count, Record, Unit
from vectorstore.records.relations import Relation


class Context(Record, table="contexts"):
    """A namespace: the same name in two contexts is two records. Its id is its name."""

    name: Annotated[Name, FOLDED, INDEXED]
    parent: Annotated[str | None, Ref("contexts")] = None
    description: str = ""

    def derived_id(self) -> str:
        """The name itself."""
        return self.name


class Concept(Record, table="concepts"):
    """A thing one can think of, in one sense. Only `name` is required.

    Without an id of its own a concept is its context, name and sense: `context:name[:synset or disambiguation]`,
    folded. Two homonyms in one context therefore need a synset, a disambiguation or ids.
    """

    name: Annotated[Name, FOLDED, INDEXED, EMBEDDED]
    domain: Annotated[str | None, INDEXED] = None
    definition: Annotated[str, EMBEDDED] = ""
    lemmas: Annotated[tuple[str, ...], EMBEDDED, FOLDED, LISTED] = ()
    synset: Annotated[str | None, INDEXED] = None
    disambiguation: str | None = None
    pos: str | None = None
    examples: tuple[str, ...] = ()
    roles: dict[str, str] = Field(default_factory=dict)
    quality: Unit | None = None

    def derived_id(self) -> str:
        """`context:name[:synset or disambiguation]`, folded."""
        sense = self.synset or self.disambiguation
        parts = (self.context, self.name, sense) if sense else (self.context, self.name)
        return ":".join(id_part(part) for part in parts)[:255]

    def embedding_text(self) -> str:
        """`lemma, lemma: definition`, the form that dictionaries use and sentence models read well."""
        names = ", ".join(self.lemmas) if self.lemmas else self.name
        return f"{names}: {self.definition}" if self.definition else names


class Cluster(Record, table="clusters"):
    """A group of records found by a clustering model; its vector is the centroid, brought by whoever fits it.

    `coherence` is the mean cosine of all pairs of members, `distinctiveness` 1 - the cosine to the nearest other
    centroid; `related` are the nearest other clusters by id, with the cosine of the centroids.
    """

    name: Annotated[Name, FOLDED, INDEXED, EMBEDDED]
    description: Annotated[str, EMBEDDED] = ""
    of: Annotated[str, INDEXED] = "concepts"
    model: Annotated[str | None, INDEXED] = None
    number: Count | None = None
    size: Count = 0
    coherence: Annotated[float | None, Field(strict=True, ge=-1.0, le=1.0)] = None
    distinctiveness: Annotated[float | None, Field(strict=True, ge=0.0, le=2.0)] = None
    terms: tuple[str, ...] = ()
    related: dict[str, float] = Field(default_factory=dict)


BUILTIN: tuple[type[Record], ...] = (
    *(Context, Concept, Analogy, Cluster, SemanticField),
    *(Relation, Frame, FrameRelation, FrameInstance, Axiom, Artifact),
    *(Tier, Memory, Episode, CausalEdge, Skill, Architecture, Intelligence),
    *(Identity, EchoForm, EchoTerm, EchoStep, EchoEdge),
)
