"""Records: what a kind declares and what follows from it. Knows no engine."""

from vectorstore.records.analogies import Analogy, Evidence
from vectorstore.records.artifacts import Artifact
from vectorstore.records.axioms import Axiom
from vectorstore.records.codecs import Value
from vectorstore.records.fields import SemanticField
from vectorstore.records.frames import Binding, Frame, FrameElement, FrameInstance, FrameRelation
from vectorstore.records.kinds import BUILTIN, Cluster, Concept, Context
from vectorstore.records.lattice import EchoEdge, EchoForm, EchoStep, EchoTerm, Identity
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, LISTED, RISING, UNIQUE, Listed, Ref
from vectorstore.records.memories import LADDER, CausalEdge, Episode, Memory, Tier
from vectorstore.records.minds import MOVES, Architecture, Fitness, Intelligence, Skill
from vectorstore.records.names import Mapping
from vectorstore.records.record import Count, Extra, Record, Tag, Unit, UtcTime
from vectorstore.records.relations import Relation
from vectorstore.records.schema import Column, Row, Schema, digest, generic_kind, schema_of
from vectorstore.records.where import Where, parse

__all__ = [
    "BUILTIN",
    "EMBEDDED",
    "FOLDED",
    "INDEXED",
    "LADDER",
    "LISTED",
    "MOVES",
    "RISING",
    "UNIQUE",
    "Analogy",
    "Architecture",
    "Artifact",
    "Axiom",
    "Binding",
    "CausalEdge",
    "Cluster",
    "Column",
    "Concept",
    "Context",
    "Count",
    "EchoEdge",
    "EchoForm",
    "EchoStep",
    "EchoTerm",
    "Episode",
    "Evidence",
    "Extra",
    "Fitness",
    "Frame",
    "FrameElement",
    "FrameInstance",
    "FrameRelation",
    "Identity",
    "Intelligence",
    "Listed",
    "Mapping",
    "Memory",
    "Record",
    "Ref",
    "Relation",
    "Row",
    "Schema",
    "SemanticField",
    "Skill",
    "Tag",
    "Tier",
    "Unit",
    "UtcTime",
    "Value",
    "Where",
    "digest",
    "generic_kind",
    "parse",
    "schema_of",
]
