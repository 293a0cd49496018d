"""Records: what a kind declares and what follows from it. Knows no engine."""

from vectorstore.records.analogies import Analogy, Evidence, Mapping
from vectorstore.records.kinds import BUILTIN, Cluster, Concept, Context
from vectorstore.records.markers import EMBEDDED, FOLDED, INDEXED, TERM, UNIQUE, Ref
from vectorstore.records.record import Count, Extra, Record, Tag, Unit, UtcTime
from vectorstore.records.schema import Column, Row, Schema, Value, digest, generic_kind, schema_of
from vectorstore.records.where import Where, parse

__all__ = [
    "BUILTIN",
    "EMBEDDED",
    "FOLDED",
    "INDEXED",
    "TERM",
    "UNIQUE",
    "Analogy",
    "Cluster",
    "Column",
    "Concept",
    "Context",
    "Count",
    "Evidence",
    "Extra",
    "Mapping",
    "Record",
    "Ref",
    "Row",
    "Schema",
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
