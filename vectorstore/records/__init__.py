"""Records: what a kind declares and what follows from it. Knows no engine."""

from vectorstore.records.fields import SemanticField
from vectorstore.records.kinds import BUILTIN, Analogy, Cluster, Concept, Context, Mapping
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, UNIQUE, Ref
from vectorstore.records.record import Count, Extra, Record, Tag, Unit, UtcTime
from vectorstore.records.schema import Column, Row, Schema, Value, digest, generic_kind, schema_of
from vectorstore.records.where import Where, parse

__all__ = [
    "BUILTIN",
    "EMBEDDED",
    "FOLDED",
    "INDEXED",
    "UNIQUE",
    "Analogy",
    "Cluster",
    "Column",
    "Concept",
    "Context",
    "Count",
    "Extra",
    "Mapping",
    "Record",
    "Ref",
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
