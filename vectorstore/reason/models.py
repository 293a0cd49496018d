"""The registry of models: what fits made, and files of any other kind that a store only keeps.

A blob (a .pth, an ONNX file, anything) is bytes with a name, versions and a digest. It is never opened, parsed or run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from vectorstore.errors import ConflictError, NotFound, ValidationError
from vectorstore.files import as_path
from vectorstore.ids import check_id, from_micros
from vectorstore.results import Page, from_cursor
from vectorstore.storage import ModelRow, Transaction
from vectorstore.storage import models as registry
from vectorstore.sync import Sync, models

_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelInfo:
    """One version of a model.

    Attributes:
        name: of the line of versions.
        version: 1, 2, 3, ...
        type: "cluster" or "blob".
        status: "current" or "retired".
        kind: whose records it belongs to, None for none.
        space: whose vectors.
        file: its path below the store's folder; None when it was dropped.
        size: bytes of the file.
        sha256: of the file.
        library: what made it.
        rows: on how many records it was fitted, 0 for a blob.
        seq: the commit that it saw.
        at: when it was made.
        details: what else is known: the recipe, quality and scope of a fit, the metadata of a blob.
    """

    name: str
    version: int
    type: str
    status: str
    kind: str | None
    space: str | None
    file: str | None
    size: int | None
    sha256: str | None
    library: str | None
    rows: int
    seq: int
    at: datetime
    details: Mapping[str, Any]


class Models:
    """All models of a store."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync

    def put(
        self,
        name: str,
        source: bytes | str | os.PathLike[str],
        *,
        kind: str | None = None,
        space: str | None = None,
        library: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Keep a file, as the newest version of a name; earlier ones stay until they are deleted.

        Args:
            name: 1..255 printable characters, no path separators; it is never part of a path.
            source: the bytes, or the path of a file.
            kind: whose records it belongs to.
            space: whose vectors.
            library: what made it, for people.
            metadata: plain data of your own.

        Returns:
            The version.

        Raises:
            ValidationError: a bad argument, or a source that cannot be read. ConflictError: a fit has that name.
        """
        try:
            check_id(name)
            details = json.loads(json.dumps(dict(metadata or {}), allow_nan=False))
        except (ValueError, TypeError) as error:
            raise ValidationError(f"models.put: {error}") from None
        if kind is not None:
            space = self._sync.table(kind).schema.kind.space_name(space)
        info = models.publish_model(self._sync, "blob", "bin", _chunks(source))
        with self._sync.catalog.write(undo=partial(models.files(self._sync).remove, info.name)) as transaction:
            models.still_there(self._sync, info)
            if kind is not None:
                self._sync.table(kind).make(transaction.connection)
            before = registry.model_of(transaction.connection, name)
            if before is not None and before.type != registry.BLOB:
                raise ConflictError(f"{name!r} is a line of fits; choose another name")
            row = registry.insert_model(
                transaction.connection,
                info,
                name=name,
                type=registry.BLOB,
                parent=None if before is None else before.id,
                kind=kind,
                space=space,
                details=details,
                rows=0,
                library=library,
                seq=transaction.seq,
                at=transaction.now,
                seconds=0.0,
            )
            version = registry.model_at(transaction.connection, row).version
            transaction.record("put", kind, name=name, version=version, bytes=info.size)
            return version

    def get(self, name: str, version: int | None = None) -> bytes:
        """The bytes of a version, None for the current one, checked against their digest.

        Raises:
            NotFound: no such model or version. CorruptError: the file is missing or damaged.
        """
        return models.bytes_of(self._sync, self._row(name, version))

    def path(self, name: str, version: int | None = None) -> Path:
        """Where a version's file lies, checked as in `get`; it must be read only.

        Raises:
            NotFound, CorruptError: as in `get`. ValidationError: the store is in memory.
        """
        root = self._sync.catalog.root
        if root is None:
            raise ValidationError(f"models.path: {name!r} is in memory and has no path; use get")
        row = self._row(name, version)
        models.bytes_of(self._sync, row)
        return root / models.FOLDER / str(row.file)

    def list(self, name: str | None = None, *, limit: int = 100, after: str | None = None) -> Page[ModelInfo]:
        """One page of the versions of all models, or of one; by name and version."""
        cursor = from_cursor(after)
        start = None if cursor is None else (str(cursor[0]), cursor[1])
        with self._sync.catalog.read() as connection:
            found = registry.models_of(connection, name)
        left = [row for row in found if start is None or (row.name, row.version) > start][: limit + 1]
        return Page.of([(row.name, row.version, _info(row)) for row in left], len(found), limit)

    def delete(self, name: str, version: int | None = None) -> int:
        """Remove a version of a blob, or all of them, for good; returns how many.

        When the current version goes, the newest that is left becomes current.

        Raises:
            NotFound: no such model or version. ValidationError: it is a line of fits: store.clusters.drop(name).
        """
        with self._sync.catalog.write() as transaction:
            found = registry.models_of(transaction.connection, name)
            chosen = [row for row in found if version is None or row.version == version]
            if not chosen:
                raise NotFound(_unknown(name, version, found))
            if chosen[0].type != registry.BLOB:
                raise ValidationError(f"{name!r} is a line of fits: store.clusters.drop({name!r})")
            self._forget(transaction, chosen)
            transaction.record("drop", chosen[0].kind, name=name, versions=len(chosen))
            left = [row for row in found if row not in chosen]
            if left and not any(row.status == registry.CURRENT for row in left):
                registry.promote(transaction.connection, left[-1].id)
        return len(chosen)

    def _forget(self, transaction: Transaction, chosen: Any) -> None:
        for row in chosen:
            registry.forget_model(transaction.connection, row.id)
            models.remove_after(self._sync, transaction, row.file)

    def _row(self, name: str, version: int | None) -> ModelRow:
        with self._sync.catalog.read() as connection:
            row = registry.model_of(connection, name, version)
            known = registry.models_of(connection, name)
        if row is None:
            raise NotFound(_unknown(name, version, known))
        return row


def _unknown(name: str, version: int | None, known: Any) -> str:
    if not known:
        return f"no model {name!r}; store.models.list() names them"
    return f"{name!r} has no version {version!r}; there are: {', '.join(str(row.version) for row in known)}"


def _chunks(source: bytes | str | os.PathLike[str]) -> Iterator[bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        yield bytes(source)
        return
    if not isinstance(source, str | os.PathLike):
        raise ValidationError(f"models.put: source: expected bytes or a path, got {type(source).__name__}")
    path = as_path(source)
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise ValidationError(f"models.put: {os.fspath(source)!r} cannot be read: {error.strerror}") from error


def _info(row: ModelRow) -> ModelInfo:
    details = row.details if row.type == registry.BLOB else {**row.details, "recipe": row.recipe}
    return ModelInfo(
        row.name,
        row.version,
        row.type,
        row.status,
        row.kind,
        row.space,
        None if row.file is None else f"{models.FOLDER}/{row.file}",
        row.size,
        row.sha256,
        row.library,
        row.rows,
        row.seq,
        from_micros(row.at),
        details,
    )
