"""The manifest of one generation: which files it consists of, and how each of them must be.

Nothing of it is trusted before it was checked: it may have been damaged, or made by somebody else. Names match what a
store can hold, so that none of them leads out of the folder that is restored.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vectorstore.errors import CorruptError, NewerFormat
from vectorstore.files import sha256

FORMAT = 1
CATALOG = "catalog.sqlite"
MAX_BYTES = 64 * 1024 * 1024
"""No manifest is longer: some 300,000 files."""

_KIND = r"[a-z][a-z0-9_]{0,47}"
_SPACE = rf"{_KIND}(?:\.{_KIND})?"
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,150}"
_PATH = re.compile(
    rf"catalog\.sqlite|embeddings/{_SPACE}/{_NAME}\.npz|indexes/{_SPACE}/{_NAME}\.faiss|models/{_NAME}"
    rf"|trail/{_NAME}\.jsonl\.gz"
)
GENERATION = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Entry(_Strict):
    """One file: where it lies in the store, and its bytes."""

    path: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(_Strict):
    """One generation.

    Attributes:
        format: of the manifest.
        id: a ULID; sorts by time.
        store: the id that the store was made with.
        seq: the commit that was saved.
        at: the instant of that commit, microseconds since 1970 UTC.
        made_at: when the backup was made, likewise.
        catalog_format: of the catalog.
        files: the catalog first.
        left_out: damaged or missing files that the store does without.
    """

    format: Literal[1]
    id: str = Field(pattern=rf"^{GENERATION.pattern}$")
    store: str
    seq: int = Field(ge=0)
    at: int
    made_at: int
    catalog_format: int = Field(ge=1)
    files: list[Entry]
    left_out: list[str]

    @model_validator(mode="after")
    def _sound(self) -> Self:
        paths = [entry.path for entry in self.files]
        if paths.count(CATALOG) != 1 or len(set(paths)) < len(paths):
            raise ValueError("expected one catalog, and no path twice")
        for path in paths:
            if not _PATH.fullmatch(path) or ".." in path:
                raise ValueError(f"{path!r} is no file of a store")
        return self

    def to_bytes(self) -> bytes:
        """JSON that carries its own digest."""
        body = self.model_dump()
        return json.dumps({**body, "sha256": _digest(body)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """The manifest, if it is one and undamaged.

        Raises:
            NewerFormat: a newer vectorstore wrote it. CorruptError: it is damaged, foreign or names what it must not.
        """
        try:
            body: dict[str, Any] = json.loads(data)
            if isinstance(body["format"], int) and body["format"] > FORMAT:
                raise NewerFormat(f"{where} has format {body['format']}; this vectorstore reads {FORMAT}: upgrade it")
            seal = body.pop("sha256")
            manifest = cls.model_validate(body)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
            raise CorruptError(f"{where} is no manifest of a backup: {error}; take another generation") from None
        if seal != _digest(body):
            raise CorruptError(f"{where} does not have the digest that it carries; take another generation")
        return manifest

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.files)

    @property
    def catalog(self) -> Entry:
        """The catalog's file."""
        return next(entry for entry in self.files if entry.path == CATALOG)


def _digest(body: dict[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode())
