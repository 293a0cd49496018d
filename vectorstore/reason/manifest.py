"""What a snapshot says of itself: its manifest, which is checked before anything else is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic

FORMAT = 1


@dataclass(frozen=True)
class SnapshotReport:
    """What was saved or loaded: the folder, its contexts, records by kind, vectors by space, fits of clusters."""

    path: Path
    contexts: tuple[str, ...]
    records: dict[str, int]
    vectors: dict[str, int]
    fits: int = 0


class _Plain(pydantic.BaseModel):
    """A part of the manifest."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Plain):
    """A file beside the manifest; a plain name, no path."""

    name: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9_]{1,120}(\.[a-z0-9_]{1,60}){1,3}$")]
    size: int
    sha256: str
    rows: int


class SpaceFiles(_Plain):
    """A vector space of a kind; the probe's vector in base 64."""

    name: str
    dim: Annotated[int, pydantic.Field(ge=1)]
    metric: str
    model: str | None
    probe_text: str | None
    probe_vector: str | None
    files: list[File]


class KindFiles(_Plain):
    """A kind: its fields with their types, and its records."""

    fields: dict[str, str]
    file: File
    spaces: list[SpaceFiles]


class Manifest(_Plain):
    """What a snapshot holds, and when and from which store it was taken."""

    format: int
    contexts: list[str]
    store: str
    seq: int
    saved_at: str
    kinds: dict[str, KindFiles]
    models: File | None = None

    def digest(self) -> str:
        """Over everything it says."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def report(self, path: Path) -> SnapshotReport:
        """It in short."""
        spaces = [space for kind in self.kinds.values() for space in kind.spaces]
        records = {name: kind.file.rows for name, kind in self.kinds.items()}
        vectors = {space.name: sum(file.rows for file in space.files) for space in spaces}
        fits = 0 if self.models is None else self.models.rows
        return SnapshotReport(path, tuple(self.contexts), records, vectors, fits)
