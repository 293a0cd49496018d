"""Analogies: mappings between two domains and proportions, with what speaks for them."""

from __future__ import annotations

from collections.abc import Mapping as Fields
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict

from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, LISTED, Listed
from vectorstore.records.names import Mapping
from vectorstore.records.record import Record, Unit


class Evidence(BaseModel):
    """What speaks for one pair of a mapping: the two records, and how well they agree in meaning and in their place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    target: str
    semantic: Unit
    structural: Unit


class Analogy(Record, table="analogies", spaces=("relation",)):
    """An analogy in either shape: a mapping between two domains, or `a : b :: c : d`, or both at once.

    Beside its text it has a relation space: what leads from a to b (or from the source domain to the target domain), as
    a vector that the caller brings or that `store.analogies.relate()` derives from the concepts.
    """

    source_domain: Annotated[str | None, INDEXED, EMBEDDED] = None
    target_domain: Annotated[str | None, INDEXED, EMBEDDED] = None
    a: Annotated[str | None, EMBEDDED, FOLDED, LISTED] = None
    b: Annotated[str | None, EMBEDDED, FOLDED, LISTED] = None
    c: Annotated[str | None, EMBEDDED, FOLDED, LISTED] = None
    d: Annotated[str | None, EMBEDDED, FOLDED, LISTED] = None
    setting: str = ""
    reasoning: Annotated[str, EMBEDDED] = ""
    concept_mappings: Annotated[tuple[Mapping, ...], FOLDED, Listed("source", "target")] = ()
    frame_mappings: Annotated[tuple[Mapping, ...], FOLDED, Listed("source", "target")] = ()
    quality: Annotated[Unit | None, INDEXED] = None
    structural_coherence: Unit | None = None
    semantic_coherence: Unit | None = None
    productivity: Unit | None = None
    evidence: tuple[Evidence, ...] = ()

    @classmethod
    def incomplete(cls, fields: Fields[str, Any]) -> str | None:
        """Both domains or none; pairs need domains; a proportion has at least one term."""
        source, target = fields.get("source_domain"), fields.get("target_domain")
        if not source or not target:
            lacking = "target_domain" if source else "source_domain"
            if source or target:
                return f"{lacking}: is required beside {'source_domain' if source else 'target_domain'}"
            for name in ("concept_mappings", "frame_mappings"):
                if fields.get(name):
                    return f"{lacking}: is required with {name}"
            if not any(fields.get(name) for name in "abcd"):
                return "source_domain: is required, with target_domain; or a, b, c and d"
        return None

    def embedding_text(self) -> str:
        """`a is to b as c is to d; source domain, target domain; source-target pairs; reasoning`."""
        terms = [term for term in (self.a, self.b, self.c, self.d) if term]
        whole = f"{self.a} is to {self.b} as {self.c} is to {self.d}"
        parts = [whole if len(terms) == 4 else ", ".join(terms)]
        domains = [domain for domain in (self.source_domain, self.target_domain) if domain]
        parts.append(" and ".join(domains))
        parts.append(", ".join(f"{pair.source} is like {pair.target}" for pair in self.concept_mappings))
        parts.append(self.reasoning)
        return "; ".join(part for part in parts if part)
