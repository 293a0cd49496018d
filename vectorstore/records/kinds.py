"""The kinds that ship with the store. Each is a declaration; no kind has SQL of its own.

Concept, Analogy (in `analogies.py`) and Cluster follow the field lists of the knowledge systems that this store
succeeds; Context is the namespace that every record lives in.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from vectorstore.ids import id_part
from vectorstore.records.analogies import Analogy
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, Ref
from vectorstore.records.record import Count, Record, Unit

Name = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"\S")]


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
    lemmas: Annotated[tuple[str, ...], EMBEDDED] = ()
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
    """A group of records found by a clustering model; its vector is the centroid, brought by whoever fits it."""

    name: Annotated[Name, FOLDED, INDEXED, EMBEDDED]
    description: Annotated[str, EMBEDDED] = ""
    of: Annotated[str, INDEXED] = "concepts"
    model: Annotated[str | None, INDEXED] = None
    number: Count | None = None
    size: Count = 0
    coherence: Annotated[float | None, Field(strict=True, ge=-1.0, le=1.0)] = None
    distinctiveness: Annotated[float | None, Field(strict=True, ge=0.0, le=2.0)] = None


BUILTIN: tuple[type[Record], ...] = (Context, Concept, Analogy, Cluster)
