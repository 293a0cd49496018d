"""Proof that rows, files, indexes and full text agree; and repair of what is derived.

Layers, from the ground up: the catalog's pages and foreign keys; its schema (nothing that we did not make); the seal
of every row; every segment's bytes, ids and vids; every live vector in exactly one place; the index over exactly the
rows it claims; models' files and members; full text and tags against the rows. `repair` mends only what can be made
again from the sources.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.errors import CorruptError, LibraryMissing, VectorstoreError
from vectorstore.files import TEMPORARY, refused, sha256
from vectorstore.html import table as as_table
from vectorstore.recipes import IndexRecipe
from vectorstore.records import Value, digest
from vectorstore.storage import Connection, RecordTable, SpaceRow, SqliteError, history, pastrows
from vectorstore.storage import spaces as rows
from vectorstore.storage.connection import lenient
from vectorstore.storage.decisions import lost_decisions
from vectorstore.storage.declared import damaged_kinds
from vectorstore.storage.models import models_of
from vectorstore.storage.states import problems_of_saves
from vectorstore.storage.trail import files_of
from vectorstore.storage.unmade import made
from vectorstore.storage.workflows import disagreements
from vectorstore.sync import past, proving, trail
from vectorstore.sync.core import INDEX, SnapshotMoved, Sync, file_path, moved
from vectorstore.sync.lost import lost_commits
from vectorstore.sync.models import FOLDER, files, problems_of
from vectorstore.sync.telling import Progress, growing
from vectorstore.vectors import Segment, from_bytes, open_segment, same_codes
from vectorstore.vectors.arrays import lengths
from vectorstore.vectors.segments import NAME

_SAMPLE = 64


@dataclass(frozen=True)
class Finding:
    """Something that does not agree.

    Attributes:
        layer: catalog, schema, rows, segments, vectors, index, models, workflows, trail, state, text, history, files or
            remote (an engine outside); `where` is the table, row, file or engine in it.
        what: what is wrong.
        mend: what to do about it.
        derived: `repair` can make it again from the sources; nothing was lost.
    """

    layer: str
    where: str
    what: str
    mend: str
    derived: bool = False

    def __str__(self) -> str:
        return f"[{self.layer}] {self.where}: {self.what}; {self.mend}"


@dataclass(frozen=True)
class CheckReport:
    """What a check looked at and found; `findings` is empty when all is well.

    `litter` are files that no row names: a crash left them, or somebody is just writing them. Both are normal, and what
    is old enough to be a crash's is swept.
    """

    findings: tuple[Finding, ...]
    records: int
    vectors: int
    segments: int
    indexes: int
    models: int
    litter: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings

    def _repr_html_(self) -> str:
        """A table for notebooks: what was looked at when all is well, else what was found."""
        looked = f"{self.records} records, {self.vectors} vectors, {self.segments} segments, {self.indexes} indexes"
        if self.ok:
            return as_table(f"sound: {looked} agree", ("layer", "where", "what", "mend"), ())
        rows = ((one.layer, one.where, one.what, one.mend) for one in self.findings)
        return as_table(f"{len(self.findings)} findings; {looked}", ("layer", "where", "what", "mend"), rows)


def check(sync: Sync, progress: Progress | None = None) -> CheckReport:
    """Verify everything, changing nothing; about 40 microseconds a record."""
    told = progress and growing(progress)
    while True:
        try:
            return _check(sync, told)
        except SnapshotMoved:
            continue


def _check(sync: Sync, progress: Progress | None) -> CheckReport:
    findings: list[Finding] = []
    totals = {"records": 0, "vectors": 0, "segments": 0, "indexes": 0}
    with sync.catalog.read() as connection:
        spaces = rows.all_spaces(connection)
        tables = _tables(sync, connection)
        steps = 2 + len(tables) + len(spaces)
        done = iter(range(1, steps + 1))

        def step() -> None:
            if progress is not None:
                progress(next(done, steps), steps)

        findings += [*_catalog(connection), *(Finding("catalog", *each) for each in lost_commits(sync))]
        step()
        for table in tables:
            found, count = _rows(connection, table)
            findings += found
            totals["records"] += count
            findings += _decisions(connection, table)
            step()
        for space in spaces:
            findings += _space(sync, connection, space, totals)
            step()
        findings += [Finding("models", *problem) for problem in problems_of(sync, connection)]
        findings += [Finding("history", *problem) for problem in past.problems(sync, connection)]
        findings += [Finding("state", *problem) for problem in problems_of_saves(connection)]
        totals["models"] = len(models_of(connection))
        broken = trail.verified(sync, connection).findings
        findings += [Finding("trail", trail.FOLDER, each, "restore a backup") for each in broken]
        findings += [
            Finding("workflows", name, what, "its counters lie; restore a backup, or clean the workflow up")
            for name, what in disagreements(connection)
        ]
        litter, lost = _files(sync, connection, spaces)
        findings += lost
    if not sync.catalog.read_only and not any(finding.layer == "schema" for finding in findings):  # they would run
        findings += _text(sync, tables)
    findings += [Finding("remote", *problem, derived=True) for problem in proving.problems(sync)]
    step()
    return CheckReport(tuple(findings), litter=tuple(litter), **totals)


def _tables(sync: Sync, connection: Connection) -> list[RecordTable[Any]]:
    """Of kinds that have tables, or should have; the others hold nothing that could be wrong."""
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return [table for table in sync.tables.values() if table.name in there or made(connection, table.name)]


def _catalog(connection: Connection) -> Iterator[Finding]:
    mend = "restore a backup of the store"
    for (line,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
        if line != "ok":
            yield Finding("catalog", "catalog.sqlite", str(line), mend)
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        yield Finding("catalog", f"{table} row {row}", f"points to a row of {parent} that is not there", mend)
    with lenient(connection):
        for name, what in damaged_kinds(connection):
            yield Finding("schema", f"declaration of {name}", what, mend)
    for kind, name, _ in history.foreign_objects(connection):
        yield Finding("schema", f"{kind} {name}", "was not made by vectorstore", f"drop it, or {mend}")


def _rows(connection: Connection, table: RecordTable[Any]) -> tuple[list[Finding], int]:
    findings, count = [], 0
    with lenient(connection):
        rows_of_kind = ((row, values[0], sealed(seal, values)) for row, seal, values in table.all_rows(connection))
        for row, name, good in rows_of_kind:
            count += 1
            if good:
                continue
            findings.append(
                Finding(
                    "rows",
                    f"{table.name} row {row} (id {name!r})",
                    "is damaged: its digest does not match",
                    "overwrite the record with upsert, or put it aside: vectorstore check --repair",
                )
            )
    for listed in table.lists:
        try:
            for row, value, missing in listed.disagreements(connection):
                what = f"row {row} {'lacks' if missing else 'has no'} {listed.value} {value!r}"
                findings.append(Finding("text", listed.name, what, _REPAIR, derived=True))
        except SqliteError as error:  # a damaged record, which was found above
            findings.append(Finding("text", listed.name, f"cannot be compared: {error}", _REPAIR, derived=True))
    return findings, count


def sealed(seal: bytes, values: Sequence[Value]) -> bool:
    """Whether a row is as it was written; texts that are no text any more are not."""
    try:
        return digest(values) == seal
    except UnicodeEncodeError:
        return False


_REPAIR = "run: vectorstore check --repair"


def _decisions(connection: Connection, table: RecordTable[Any]) -> Iterator[Finding]:
    for number, name in lost_decisions(connection, table.name, table.table):
        where, what = f"decisions row {number}", f"names {table.name} {name!r}, which is not there"
        yield Finding("rows", where, what, "no answer depends on it; restore a backup, or purge the other record")


def _space(sync: Sync, connection: Connection, space: SpaceRow, totals: dict[str, int]) -> Iterator[Finding]:
    table = sync.table(space.kind)
    claimed: list[np.ndarray] = []
    opened: dict[int, Segment] = {}
    folder = sync.folder("embeddings", space.name)
    for row in rows.segments_of(connection, space.id):
        totals["segments"] += 1
        where = f"embeddings/{space.name}/{row.file}"
        mend = f"it held {row.rows} vectors; restore it from a backup, or run: vectorstore check --repair (re-embeds)"
        try:
            buffer = folder.read(row.file)
            if len(buffer) != row.size or sha256(buffer) != row.sha256:
                yield Finding("segments", where, "its bytes are not those that were written", mend)
                continue
            segment = open_segment(
                buffer, id=row.id, file=row.file, rows=row.rows, dim=space.dim, first_vid=row.first_vid
            )
        except CorruptError as error:
            if sync.unnamed_since("embeddings", row.file):
                raise moved(connection) from None
            yield Finding("segments", where, str(error), mend)
            continue
        opened[row.id] = segment
        if not np.array_equal(segment.norms, lengths(segment.vectors)):
            yield Finding("segments", where, "its norms are not those of its vectors", mend)
        claimed.append(segment.vids)
        yield from _ids(connection, table.table, space.id, segment, where, mend)
    pending, vectors = rows.pending_vectors(connection, space.id, space.dim, 0)
    if not np.isfinite(vectors).all():
        yield Finding("vectors", f"{space.name}: pending", "a waiting vector is not finite", "upsert its record again")
    places = np.sort(np.concatenate([*claimed, pending])) if claimed or len(pending) else pending
    twice = places[:-1][places[1:] == places[:-1]]
    if len(twice):
        yield Finding("vectors", space.name, f"vids {twice[:5].tolist()} are in two places", "restore a backup")
    live = connection.execute(
        "SELECT vid, record FROM vectors WHERE space = ? AND retired IS NULL ORDER BY record, vid",
        (space.id,),
    ).fetchall()
    totals["vectors"] += len(live)
    vids = np.array([vid for vid, _ in live], dtype=np.int64)
    absent = vids[~np.isin(vids, places)]
    if len(absent) and len(opened) == len(rows.segments_of(connection, space.id)):
        yield Finding("vectors", space.name, f"vids {absent[:5].tolist()} are in no file", "upsert their records again")
    known = connection.execute("SELECT vid FROM vectors WHERE space = ?", (space.id,)).fetchall()
    nameless = places[~np.isin(places, np.array([vid for (vid,) in known], dtype=np.int64))]
    if len(nameless):
        yield Finding("vectors", space.name, f"vids {nameless[:5].tolist()} belong to no record", "restore a backup")
    double = [record for (_, record), (_, after) in itertools.pairwise(live) if record == after]
    if double:
        yield Finding("vectors", space.name, f"records in rows {double[:5]} have two live vectors", "restore a backup")
    orphans = connection.execute(
        f"SELECT v.vid FROM vectors v LEFT JOIN {table.table} t ON t.row = v.record "
        "WHERE v.space = ? AND v.retired IS NULL AND (t.row IS NULL OR t.deleted_at IS NOT NULL) LIMIT 5",
        (space.id,),
    ).fetchall()
    if orphans:
        yield Finding(
            "vectors",
            space.name,
            f"vids {[vid for (vid,) in orphans]} belong to no live record",
            "restore a backup",
        )
    yield from _index(sync, connection, space, opened, totals)


def _ids(connection: Connection, table: str, space: int, segment: Segment, where: str, mend: str) -> Iterator[Finding]:
    """The ids beside the vectors are those of the records that the catalog links them to."""
    vids = segment.vids
    if not len(vids):
        return
    known = dict(
        connection.execute(
            f"SELECT v.vid, t.id FROM vectors v JOIN {table} t ON t.row = v.record "
            "WHERE v.vid BETWEEN ? AND ? AND v.space = ?",
            (int(vids[0]), int(vids[-1]), space),
        ).fetchall()
    )
    assert segment.ids is not None  # it came from a file
    wrong = [
        int(vid)
        for vid, name in zip(vids.tolist(), segment.ids.tolist(), strict=True)
        if vid in known and known[vid] != name
    ]
    if wrong:
        yield Finding("segments", where, f"vids {wrong[:5]} carry another record's id", mend)


def _index(
    sync: Sync, connection: Connection, space: SpaceRow, opened: dict[int, Segment], totals: dict[str, int]
) -> Iterator[Finding]:
    artifact = rows.artifact_of(connection, space.id, INDEX)
    if artifact is None:
        return
    totals["indexes"] += 1
    where = f"indexes/{space.name}/{artifact.file}"
    mend = f"answers stay exact without it; {_REPAIR}"
    folder = sync.folder("indexes", space.name)
    if folder.stat(artifact.file) is None:
        if sync.unnamed_since("indexes", artifact.file):
            raise moved(connection)
        yield Finding("index", where, "the file is missing", mend, derived=True)
        return
    try:
        buffer = folder.read(artifact.file)
        if len(buffer) != artifact.size or sha256(buffer) != artifact.sha256:
            yield Finding("index", where, "its bytes are not those that were written", mend, derived=True)
            return
        recipe = IndexRecipe.from_dict(artifact.recipe, where)
        index = from_bytes(buffer, recipe, rows=artifact.rows, dim=space.dim)
    except LibraryMissing as error:  # its bytes are those that were written: there is nothing to repair
        yield Finding("index", where, f"cannot be looked into: {error}", "answers stay exact without it")
        return
    except VectorstoreError as error:
        yield Finding("index", where, str(error), mend, derived=True)
        return
    if not set(artifact.segments) <= {row.id for row in rows.segments_of(connection, space.id)}:
        yield Finding("index", where, "was built over segments that are gone", mend, derived=True)
        return
    covered = [opened[segment] for segment in artifact.segments if segment in opened]
    if len(covered) < len(artifact.segments):
        return  # a damaged segment was reported above
    if sum(segment.rows for segment in covered) != index.rows:
        yield Finding("index", where, "does not have one row for each vector that it covers", mend, derived=True)
        return
    offset = 0
    for segment in covered:
        start = max(0, segment.rows // 2 - _SAMPLE // 2)
        sample = segment.vectors[start : start + _SAMPLE]
        if same_codes(index, offset + start, sample, space.metric) is False:
            yield Finding("index", where, f"holds other vectors than {segment.file}", mend, derived=True)
        offset += segment.rows


class _Looked(Exception):
    """All was looked at, and nothing is to be committed."""


def _text(sync: Sync, tables: Iterable[RecordTable[Any]]) -> Iterator[Finding]:
    """FTS5's own check against the rows; it is written as an INSERT, so it needs the writer, and is rolled back."""
    for table in tables:
        if not table.schema.text_columns:
            continue
        try:
            with contextlib.suppress(_Looked), sync.catalog.write() as transaction:
                transaction.connection.execute(
                    f"INSERT INTO {table.fts}({table.fts}, rank) VALUES ('integrity-check', 1)"
                )
                raise _Looked
        except (SqliteError, CorruptError) as error:
            yield Finding("text", f"{table.name}_fts", f"does not match its records: {error}", _REPAIR, derived=True)


def _files(sync: Sync, connection: Connection, spaces: list[SpaceRow]) -> tuple[list[str], list[Finding]]:
    litter: list[str] = []
    lost: list[Finding] = []
    found = list(unnamed(sync, connection, spaces))
    seq = sync.catalog.newest("SELECT seq FROM state")  # not the snapshot's: others may write meanwhile
    for what, space, name in found:
        match = NAME.fullmatch(name)
        if what == "embeddings" and match and int(match[1]) > seq:
            lost.append(
                Finding(
                    "files",
                    f"embeddings/{space}/{name}",
                    f"was written at commit {int(match[1])}, the catalog is at {seq}: the catalog lost commits",
                    "restore a backup, or import the file's vectors again; it was kept",
                )
            )
        else:
            litter.append(file_path(what, space, name))
    return litter, lost


def unnamed(sync: Sync, connection: Connection, spaces: list[SpaceRow]) -> Iterator[tuple[str, str, str]]:
    """(folder, space, name) of files that no row names, those of a space whose first write was cut short too."""
    if sync.borrows:
        return
    made = {space.name: space for space in spaces}
    needed = {(each.what, each.space, each.file) for each in pastrows.named_files(connection, past=True)}
    root = sync.catalog.root
    here: list[Path] = []
    if root is not None:
        with refused(root):
            here = [*(root / "embeddings").glob("*"), *(root / "indexes").glob("*")]
    for space_name in dict.fromkeys([*made, *sorted(path.name for path in here if path.is_dir())]):
        named: dict[str, set[str]] = {"embeddings": set(), "indexes": set()}
        if space_name in made:
            artifact = rows.artifact_of(connection, made[space_name].id, INDEX)
            named["embeddings"] = {row.file for row in rows.segments_of(connection, made[space_name].id)}
            named["indexes"] = set() if artifact is None else {artifact.file}
        for what, names in named.items():
            for name in sync.folder(what, space_name).names():
                if name not in names and (what, space_name, name) not in needed:
                    yield what, space_name, name
    models = {row.file for row in models_of(connection)} | {file for what, _, file in needed if what == FOLDER}
    yield from ((FOLDER, "", name) for name in files(sync).names() if name not in models)
    rotated = {file.file for file in files_of(connection)}
    yield from ((trail.FOLDER, "", name) for name in sync.folder(trail.FOLDER, "").names() if name not in rotated)
    if root is not None:  # backups that were cut short lie beside the catalog
        yield from (("", "", name) for name in sync.folder("", "").names() if TEMPORARY in name)
