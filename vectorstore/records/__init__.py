"""Records: what a kind declares and what follows from it. Knows no engine."""

from vectorstore.records.analogies import Analogy, Evidence
from vectorstore.records.axioms import Axiom
from vectorstore.records.codecs import Value
from vectorstore.records.fields import SemanticField
from vectorstore.records.frames import Binding, Frame, FrameElement, FrameInstance, FrameRelation
from vectorstore.records.kinds import BUILTIN, Cluster, Concept, Context
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, LISTED, UNIQUE, Listed, Ref
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
    "LISTED",
    "UNIQUE",
    "Analogy",
    "Axiom",
    "Binding",
    "Cluster",
    "Column",
    "Concept",
    "Context",
    "Count",
    "Evidence",
    "Extra",
    "Frame",
    "FrameElement",
    "FrameInstance",
    "FrameRelation",
    "Listed",
    "Mapping",
    "Record",
    "Ref",
    "Relation",
    "Row",
    "Schema",
    "SemanticField",
    "Tag",
    "Unit",
    "UtcTime",
    "Value",
    "Where",
    "digest",
    "generic_kind",
    "parse",
    "schema_of",
]
