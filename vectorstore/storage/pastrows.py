"""What history keeps, looked into and forgotten: files that it needs, rows of what is purged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vectorstore.files import FileInfo
from vectorstore.records import Record, digest
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote
from vectorstore.storage.history import recording
from vectorstore.storage.tables import RecordTable

R = TypeVar("R", bound=Record)
Vids = npt.NDArray[np.int64]
NAMING = {"embeddings": "segments", "indexes": "artifacts", "models": "models", "trail": "trail_files"}
"""Folder -> the table that names its files."""
OF_SPACES = ("embeddings", "indexes")
"""Those that have a folder for each space."""


@dataclass(frozen=True)
class NamedFile:
    """A file that rows name: its folder, its space ("" where there is none), and what it should be."""

    what: str
    space: str
    file: str
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """From the store's folder on."""
        return "/".join(part for part in (self.what, self.space, self.file) if part)


def named_files(connection: Connection, *, past: bool) -> set[NamedFile]:
    """Every file that the rows of now name, or those that history does."""
    if past and not recording(connection):
        return set()
    found: set[NamedFile] = set()
    for what, table in NAMING.items():
        space = "(SELECT s.name FROM spaces s WHERE s.id = p.space)" if what in OF_SPACES else "''"
        name = f"_past_{table}" if past else table
        rows = connection.execute(f"SELECT DISTINCT {space}, file, size, sha256 FROM {name} p WHERE file IS NOT NULL")
        found |= {NamedFile(what, *row) for row in rows}
    return found


def forget_rows(
    connection: Connection, kind: str, ids: Sequence[str], numbers: Sequence[int], derived: Sequence[str]
) -> None:
    """Erase what is written down of erased records, and of what was learned from the kind: fits and their labels.

    Args:
        connection: of the transaction that erases, after all its other changes to rows.
        kind: of the records.
        ids: theirs.
        numbers: their rows.
        derived: kinds whose records tell of others in a field `of` (clusters, fields).
    """
    if not recording(connection):
        return
    rows = json.dumps(list(numbers))
    chosen = "(SELECT value FROM json_each(?))"
    spaces = "(SELECT id FROM spaces WHERE kind = ?)"
    vids = [
        vid
        for (vid,) in connection.execute(
            f"SELECT DISTINCT vid FROM _past_vectors WHERE space IN {spaces} AND record IN {chosen}", (kind, rows)
        )
    ]
    for table in ("_past_vectors", "_past_pending"):
        connection.execute(f"DELETE FROM {table} WHERE vid IN {chosen}", (json.dumps(vids),))
    connection.execute(f"DELETE FROM {quote('_past_' + kind)} WHERE row IN {chosen}", (rows,))
    names = json.dumps(list(ids))
    connection.execute(
        f"DELETE FROM _past_decisions WHERE kind = ? AND (record IN {chosen} OR other IN {chosen})",
        (kind, names, names),
    )
    connection.execute(
        f"DELETE FROM _past_memberships WHERE (record IN {chosen} OR _was = 1) AND model IN (SELECT id FROM "
        "_past_models WHERE kind = ? UNION SELECT id FROM models WHERE kind = ?)",
        (rows, kind, kind),
    )
    connection.execute("DELETE FROM _past_models WHERE _was = 1 AND kind = ?", (kind,))
    for each in derived:
        former = (
            f"SELECT vid FROM _past_vectors WHERE space IN {spaces} AND record IN "
            f'(SELECT row FROM {quote(each)} WHERE "of" = ?) AND vid NOT IN (SELECT vid FROM vectors)'
        )
        for table in ("_past_pending", "_past_vectors"):  # centroids of former fits
            connection.execute(f"DELETE FROM {table} WHERE vid IN ({former})", (each, kind))
        connection.execute(f'DELETE FROM {quote("_past_" + each)} WHERE _was = 1 AND "of" = ?', (kind,))


def known_vids(connection: Connection, space: int) -> Vids:
    """(n,) vids of a space that rows speak of, now or in the past, ascending."""
    found = connection.execute(
        "SELECT vid FROM vectors WHERE space = ? UNION SELECT vid FROM _past_vectors WHERE space = ? ORDER BY 1",
        (space, space),
    )
    return np.array([vid for (vid,) in found], dtype=np.int64)


@dataclass(frozen=True)
class PastSegment:
    """A segment that only the past names."""

    file: str
    rows: int
    first_vid: int | None
    size: int
    sha256: str


def past_segments(connection: Connection, space: int) -> list[PastSegment]:
    """The segments of a space that only the past names."""
    found = connection.execute(
        "SELECT DISTINCT file, rows, first_vid, size, sha256 FROM _past_segments WHERE space = ? AND file IS NOT NULL "
        "AND file NOT IN (SELECT file FROM segments) ORDER BY file",
        (space,),
    )
    return [PastSegment(*row) for row in found.fetchall()]


def replace_past_segment(connection: Connection, file: str, info: FileInfo | None, rows: int = 0) -> None:
    """Another file holds what is left of a past segment; None for nothing."""
    if info is None:
        connection.execute("UPDATE _past_segments SET _was = 0, file = NULL WHERE file = ?", (file,))
        return
    connection.execute(
        "UPDATE _past_segments SET file = ?, size = ?, sha256 = ?, stat = ?, rows = ?, first_vid = NULL WHERE file = ?",
        (info.name, info.size, info.sha256, info.stat, rows, file),
    )


def forget_file(connection: Connection, what: str, file: str) -> None:
    """The past names a file no more."""
    connection.execute(f"UPDATE _past_{NAMING[what]} SET _was = 0, file = NULL WHERE file = ?", (file,))


def damaged(connection: Connection, table: RecordTable[Any]) -> Iterator[tuple[int, int, str]]:
    """(row, the commit that changed it, id) of past rows whose digest does not match."""
    names = ", ".join(map(quote, table.schema.names))
    past = quote(f"_past_{table.name}")
    for row, seq, seal, *values in connection.execute(f"SELECT row, _seq, digest, {names} FROM {past} WHERE _was = 1"):
        if digest(values) != seal:
            yield row, seq, str(values[0])


def past_records(connection: Connection, table: RecordTable[R], numbers: Sequence[int]) -> list[R]:
    """What rows were, as far as history knows.

    Raises:
        CorruptError: one was damaged since.
    """
    if not recording(connection):
        return []
    names = ", ".join(map(quote, table.schema.names))
    found = connection.execute(
        f"SELECT row, digest, {names} FROM {quote('_past_' + table.name)} "
        "WHERE _was = 1 AND row IN (SELECT value FROM json_each(?))",
        (json.dumps(list(numbers)),),
    )
    return [table.decode(row, seal, values) for row, seal, *values in found]


def forget_indexes(connection: Connection, space: int) -> None:
    """The past has no index of a space any more: it would still tell what was erased."""
    connection.execute("UPDATE _past_artifacts SET _was = 0, file = NULL WHERE space = ?", (space,))
