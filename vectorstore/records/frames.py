"""Semantic frames: scenes with parts to play, how scenes relate, and who plays the parts in a given case.

After FrameNet (Fillmore and Baker, "A Frames Approach to Semantic Analysis", 2010): a frame has core, peripheral and
extra-thematic elements, is called up by its lexical units, and stands in seven kinds of relations to other frames.
"""

from __future__ import annotations

from collections.abc import Mapping as AnyMapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from vectorstore.ids import fold, id_part
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, LISTED, Listed, Ref
from vectorstore.records.names import Mapping, Name
from vectorstore.records.record import Record, Unit
from vectorstore.records.relations import said

ElementType = Literal["core", "peripheral", "extrathematic"]
FrameRelationType = Literal[
    "inheritance", "using", "subframe", "perspective", "precedes", "inchoative", "causative"
]  # fmt: skip


class FrameElement(BaseModel):
    """A part to play in a scene. Every instance of the frame must bind its core elements."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    type: ElementType = "core"
    description: str = ""
    constraints: tuple[str, ...] = ()
    typical_fillers: tuple[str, ...] = ()


def _distinct(elements: tuple[FrameElement, ...]) -> tuple[FrameElement, ...]:
    seen: set[str] = set()
    for element in elements:
        if fold(element.name) in seen:
            raise ValueError(f"two elements are called {element.name!r}")
        seen.add(fold(element.name))
    return elements


class Frame(Record, table="frames"):
    """A scene. Without an id of its own it is `context:name`, folded.

    `{"lexical_units__has": "buy"}` finds the frames that a word calls up, `{"elements__has": "Buyer"}` those with a
    part; names count in folded form.
    """

    name: Annotated[Name, FOLDED, INDEXED, EMBEDDED]
    definition: Annotated[str, EMBEDDED] = ""
    elements: Annotated[tuple[FrameElement, ...], AfterValidator(_distinct), FOLDED, Listed("name")] = ()
    lexical_units: Annotated[tuple[Name, ...], EMBEDDED, FOLDED, LISTED] = ()

    def derived_id(self) -> str:
        """`context:name`, folded."""
        return f"{id_part(self.context)}:{id_part(self.name)}"[:255]

    def embedding_text(self) -> str:
        """`name: definition (unit, unit)`."""
        text = f"{self.name.replace('_', ' ')}: {self.definition}" if self.definition else self.name.replace("_", " ")
        return f"{text} ({', '.join(self.lexical_units)})" if self.lexical_units else text


class FrameRelation(Record, table="frame_relations"):
    """`source` inherits from, uses, is a subframe of, ... `target`; it belongs to both.

    An inheriting frame has the elements of the other one, too. `element_mappings` say which element of the source is
    which of the target, where their names differ.
    """

    source: Annotated[str, Ref("frames", cascade=True)]
    target: Annotated[str, Ref("frames", cascade=True)]
    type: Annotated[FrameRelationType, INDEXED]
    description: str = ""
    confidence: Unit = 1.0
    element_mappings: tuple[Mapping, ...] = ()

    def derived_id(self) -> str:
        """What it says, as 16 characters."""
        return said(self.context, self.source, self.type, self.target)


class Binding(BaseModel):
    """A concept, by its id, in a part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    element: Name
    concept: str


def _as_bindings(value: Any) -> Any:
    """{"Ruler": "default:king", "Heir": ["default:prince", "default:princess"]} as a list of bindings."""
    if not isinstance(value, AnyMapping):
        return value
    pairs = ((element, [bound] if isinstance(bound, str) else bound) for element, bound in value.items())
    return [{"element": element, "concept": concept} for element, bound in pairs for concept in bound]


def _once(bindings: tuple[Binding, ...]) -> tuple[Binding, ...]:
    for place, binding in enumerate(bindings):
        if binding in bindings[:place]:
            raise ValueError(f"{binding.concept!r} is bound to {binding.element!r} twice")
    return bindings


class FrameInstance(Record, table="frame_instances"):
    """A case of a frame: which concepts play which parts. It belongs to its frame.

    An element may be played by several concepts, and a concept may play several parts. Bindings may be written as
    `{"Ruler": "default:king", "Heir": ["default:prince", "default:princess"]}`. `{"bindings__has": "default:king"}`
    finds the instances that bind a concept.
    """

    frame: Annotated[str, Ref("frames", cascade=True)]
    bindings: Annotated[
        tuple[Binding, ...], BeforeValidator(_as_bindings), AfterValidator(_once), Listed("concept", ref="concepts")
    ] = ()
    confidence: Unit = 1.0
