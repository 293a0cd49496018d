"""Vectors: segments, exact search, FAISS indexes. The one door to FAISS."""

from vectorstore.vectors.allowed import Allowed, Asked
from vectorstore.vectors.arrays import METRICS, Matrix, Positions, Vids, as_matrix, as_unit
from vectorstore.vectors.fed import Fed
from vectorstore.vectors.index import Index, build, from_bytes, library, same_codes, to_bytes
from vectorstore.vectors.live import Found, Live
from vectorstore.vectors.measure import Curve, OperatingPoint, measure
from vectorstore.vectors.native import has_faiss
from vectorstore.vectors.segments import Segment, file_name, open_segment, rows_per_segment, segment_chunks, weigh

__all__ = [
    "METRICS",
    "Allowed",
    "Asked",
    "Curve",
    "Fed",
    "Found",
    "Index",
    "Live",
    "Matrix",
    "OperatingPoint",
    "Positions",
    "Segment",
    "Vids",
    "as_matrix",
    "as_unit",
    "build",
    "file_name",
    "from_bytes",
    "has_faiss",
    "library",
    "measure",
    "open_segment",
    "rows_per_segment",
    "same_codes",
    "segment_chunks",
    "to_bytes",
    "weigh",
]
