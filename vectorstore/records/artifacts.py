"""Numeric artifacts: vectors that a program brings, with what it knows about them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vectorstore.ids import id_part
from vectorstore.records.markers import FOLDED, INDEXED
from vectorstore.records.names import Name
from vectorstore.records.record import Extra, Record
from vectorstore.records.relations import said


class Artifact(Record, table="numeric_artifacts"):
    """A named vector, brought by the caller (`vectors=`) or by a save of the state that it is in.

    In a state its `name` is the path to it, such as `knowledge_base/embedding_1`. The space has float32; `dtype` says
    what the state keeps. Without an id it is `context:name`; within a state 16 characters stand for state and path.
    """

    name: Annotated[Name, FOLDED, INDEXED]
    state: Annotated[str | None, INDEXED] = None
    dtype: Literal["float32", "float64"] = "float32"
    metadata: Extra = Field(default_factory=dict)

    def derived_id(self) -> str:
        """`context:name`, or a digest of state and path, which are compared as they are written."""
        if self.state is not None:
            return said(self.context, self.state, self.name)
        return f"{id_part(self.context)}:{id_part(self.name)}"[:255]
