"""What several kinds are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from vectorstore.records.record import Unit

Name = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"\S")]


class Mapping(BaseModel):
    """One pair: what on one side (a domain, a frame) plays the part of what on the other."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Name
    target: Name
    confidence: Unit = 1.0
