"""Axioms: what a context takes to be so, as documents; nothing here reasons with them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vectorstore.ids import id_part
from vectorstore.records.markers import FOLDED, INDEXED, Listed
from vectorstore.records.names import Name
from vectorstore.records.record import Extra, Record, Unit

AxiomType = Literal["analogy", "synonym", "antonym", "similarity", "dissimilarity", "custom"]


class Axiom(Record, table="axioms"):
    """A statement over concepts, with its formula as a tree of plain data. Without an id it is `context:name`."""

    name: Annotated[Name, FOLDED, INDEXED]
    type: Annotated[AxiomType, INDEXED] = "custom"
    classification: Literal["core", "soft"] = "core"
    description: str = ""
    formula: Extra = Field(default_factory=dict)
    concepts: Annotated[tuple[str, ...], Listed(ref="concepts")] = ()
    confidence: Unit = 1.0

    def derived_id(self) -> str:
        """`context:name`, folded."""
        return f"{id_part(self.context)}:{id_part(self.name)}"[:255]
