"""Proof that rows, files, indexes and full text agree; and repair of what is derived.

Layers, from the ground up: the catalog's pages and foreign keys; its schema (nothing that we did not make); the seal
of every row; every segment's bytes, ids and vids; every live vector in exactly one place; the index over exactly the
rows it claims; full text and tags against the rows. `repair` mends only what can be made again from the sources.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vectorstore.errors import CorruptError, DerivedError, VectorstoreError
from vectorstore.files import TEMPORARY, sha256
from vectorstore.recipes import IndexRecipe
from vectorstore.records import digest
from vectorstore.storage import Connection, RecordTable, SpaceRow, SqliteError
from vectorstore.storage import spaces as rows
from vectorstore.storage.catalog import Transaction
from vectorstore.sync.core import INDEX, Progress, Sync
from vectorstore.sync.publish import publish, retire_index, snapshot
from vectorstore.sync.write import flush
from vectorstore.vectors import Segment, from_bytes, open_segment, same_codes
from vectorstore.vectors.arrays import lengths
from vectorstore.vectors.segments import NAME

SWEEP_SECONDS = 600.0
"""Unnamed files younger than this may belong to a write in progress and are left alone."""

_SAMPLE = 64


@dataclass(frozen=True)
class Finding:
    """Something that does not agree.

    Attributes:
        layer: catalog, schema, rows, segments, vectors, index, text or files.
        where: the table, row or file.
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

    `litter` are unnamed files that a crash left: normal, swept when they are old enough.
    """

    findings: tuple[Finding, ...]
    records: int
    vectors: int
    segments: int
    indexes: int
    litter: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings


def check(sync: Sync, progress: Progress | None = None) -> CheckReport:
    """Verify everything, changing nothing; about 40 microseconds a record."""
    findings: list[Finding] = []
    totals = {"records": 0, "vectors": 0, "segments": 0, "indexes": 0}
    with sync.catalog.read() as connection:
        spaces = rows.all_spaces(connection)
        steps = 2 + len(sync.tables) + len(spaces)
        done = iter(range(1, steps + 1))

        def step() -> None:
            if progress is not None:
                progress(next(done, steps), steps)

        findings += _catalog(connection)
        step()
        for table in sync.tables.values():
            found, count = _rows(connection, table)
            findings += found
            totals["records"] += count
            step()
        for space in spaces:
            findings += _space(sync, connection, space, totals)
            step()
        litter, lost = _files(sync, connection, spaces)
        findings += lost
    if not sync.catalog.read_only:
        findings += _text(sync)
    step()
    return CheckReport(tuple(findings), litter=tuple(litter), **totals)


def _catalog(connection: Connection) -> Iterator[Finding]:
    mend = "restore a backup of the store"
    for (line,) in connection.execute("PRAGMA integrity_check(20)").fetchall():
        if line != "ok":
            yield Finding("catalog", "catalog.sqlite", str(line), mend)
    for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchall():
        yield Finding("catalog", f"{table} row {row}", f"points to a row of {parent} that is not there", mend)
    for kind, name in connection.execute("SELECT type, name FROM sqlite_schema WHERE type IN ('trigger', 'view')"):
        yield Finding("schema", f"{kind} {name}", "was not made by vectorstore", f"drop it, or {mend}")


def _rows(connection: Connection, table: RecordTable[Any]) -> tuple[list[Finding], int]:
    findings, count = [], 0
    for row, seal, values in table.all_rows(connection):
        count += 1
        if digest(values) != seal:
            findings.append(
                Finding(
                    "rows",
                    f"{table.name} row {row} (id {values[0]!r})",
                    "is damaged: its digest does not match",
                    "restore a backup, or overwrite the record with upsert",
                )
            )
    for missing, tag in connection.execute(
        f"SELECT t.row, j.value FROM {table.table} t, json_each(t.tags) j "
        f"EXCEPT SELECT row, tag FROM {table.tags} LIMIT 5"
    ).fetchall():
        findings.append(
            Finding("text", f"{table.name}_tags", f"row {missing} lacks tag {tag!r}", _REPAIR, derived=True)
        )
    for extra, tag in connection.execute(
        f"SELECT row, tag FROM {table.tags} EXCEPT "
        f"SELECT t.row, j.value FROM {table.table} t, json_each(t.tags) j LIMIT 5"
    ).fetchall():
        findings.append(Finding("text", f"{table.name}_tags", f"row {extra} has no tag {tag!r}", _REPAIR, derived=True))
    return findings, count


_REPAIR = "run: vectorstore check --repair"


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
        yield Finding("index", where, "the file is missing", mend, derived=True)
        return
    try:
        buffer = folder.read(artifact.file)
        if len(buffer) != artifact.size or sha256(buffer) != artifact.sha256:
            yield Finding("index", where, "its bytes are not those that were written", mend, derived=True)
            return
        recipe = IndexRecipe.from_dict(artifact.recipe, where)
        index = from_bytes(buffer, recipe, rows=artifact.rows, dim=space.dim)
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


def _text(sync: Sync) -> Iterator[Finding]:
    """FTS5's own check against the rows; it is written as an INSERT, so it needs the writer."""
    for table in sync.tables.values():
        if not table.schema.text_columns:
            continue
        try:
            with sync.catalog.write() as transaction:
                transaction.connection.execute(
                    f"INSERT INTO {table.fts}({table.fts}, rank) VALUES ('integrity-check', 1)"
                )
        except (SqliteError, CorruptError) as error:
            yield Finding("text", f"{table.name}_fts", f"does not match its records: {error}", _REPAIR, derived=True)


def _files(sync: Sync, connection: Connection, spaces: list[SpaceRow]) -> tuple[list[str], list[Finding]]:
    litter: list[str] = []
    lost: list[Finding] = []
    seq = sync.catalog.seq(connection)
    for what, space, name in _unnamed(sync, connection, spaces):
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
            litter.append(_path(what, space, name))
    return litter, lost


def _unnamed(sync: Sync, connection: Connection, spaces: list[SpaceRow]) -> Iterator[tuple[str, str, str]]:
    """(folder, space, name) of files that no row names, those of a space whose first write was cut short too."""
    made = {space.name: space for space in spaces}
    for space_name in dict.fromkeys([*made, *sync.tables]):
        named: dict[str, set[str]] = {"embeddings": set(), "indexes": set()}
        if space_name in made:
            artifact = rows.artifact_of(connection, made[space_name].id, INDEX)
            named["embeddings"] = {row.file for row in rows.segments_of(connection, made[space_name].id)}
            named["indexes"] = set() if artifact is None else {artifact.file}
        for what, names in named.items():
            for name in sync.folder(what, space_name).names():
                if name not in names:
                    yield what, space_name, name
    if sync.catalog.root is not None:  # backups that were cut short lie beside the catalog
        yield from (("", "", name) for name in sync.folder("", "").names() if TEMPORARY in name)


def _path(what: str, space: str, name: str) -> str:
    return "/".join(part for part in (what, space, name) if part)


def sweep(sync: Sync, older_than: float = SWEEP_SECONDS) -> list[str]:
    """Remove files that no row names, left by crashes, if they are old enough; returns what was removed.

    A segment written at a later commit than the catalog's is evidence of lost commits and is kept.
    """
    removed = []
    with sync.catalog.write() as transaction:  # nobody publishes a name while this holds the lock
        spaces = rows.all_spaces(transaction.connection)
        for what, space, name in _unnamed(sync, transaction.connection, spaces):
            match = NAME.fullmatch(name)
            if what == "embeddings" and match and int(match[1]) >= transaction.seq:
                continue
            folder = sync.folder(what, space)
            ours = TEMPORARY in name or match or what == "indexes"
            if ours and folder.age(name) >= older_than:
                folder.remove(name)
                removed.append(_path(what, space, name))
    return removed


def has_litter(sync: Sync) -> bool:
    """Whether any file is there that no row names; cheap enough for every open."""
    with sync.catalog.read() as connection:
        return next(_unnamed(sync, connection, rows.all_spaces(connection)), None) is not None


@dataclass(frozen=True)
class RepairReport:
    """What a repair did (or would do, on a dry run), and what is still wrong afterwards."""

    actions: tuple[str, ...]
    remaining: tuple[Finding, ...]
    dry_run: bool


def repair(sync: Sync, *, dry_run: bool, reembed: Callable[[SpaceRow, list[str]], int] | None = None) -> RepairReport:
    """Make derived things again: full text, tags, indexes; sweep litter; re-embed the records of lost segments.

    Args:
        sync: the store's parts.
        dry_run: only say what would be done.
        reembed: given a space and the ids whose vectors are lost, writes new ones; None leaves such findings.
    """
    report = check(sync)
    actions: list[tuple[str, Callable[[], object]]] = []
    broken_text = {finding.where.rsplit("_", 1)[0] for finding in report.findings if finding.layer == "text"}
    for kind in sorted(broken_text):
        actions.append((f"rebuild full text and tags of {kind}", lambda kind=kind: _rebuild_text(sync, kind)))  # type: ignore[misc]
    for finding in report.findings:
        if finding.layer == "index":
            space = finding.where.split("/")[1]
            actions.append((f"rebuild the index of {space}", lambda space=space: _rebuild_index(sync, space)))  # type: ignore[misc]
        elif finding.layer == "segments" and reembed is not None:
            space, file = finding.where.split("/")[1:]
            actions.append(
                (
                    f"embed the records of {finding.where} again from their text and drop the file",
                    lambda space=space, file=file: _replace_segment(sync, space, file, reembed),  # type: ignore[misc]
                )
            )
    if report.litter:
        actions.append((f"sweep {len(report.litter)} unnamed files", lambda: sweep(sync, 0.0)))
    if dry_run:
        return RepairReport(tuple(what for what, _ in actions), report.findings, True)
    for what, action in dict(actions).items():
        action() if callable(action) else what
    return RepairReport(tuple(what for what, _ in actions), check(sync).findings, False)


def _rebuild_text(sync: Sync, kind: str) -> None:
    with sync.catalog.write() as transaction:
        sync.table(kind).rebuild_text(transaction.connection)


def _rebuild_index(sync: Sync, space_name: str) -> None:
    with sync.catalog.read() as connection:
        space = rows.space_by_name(connection, space_name)
        artifact = None if space is None else rows.artifact_of(connection, space.id, INDEX)
    if artifact is None:
        return
    with sync.catalog.write() as transaction:
        retire_index(sync, transaction, space_name)
    flush(sync, space_name)
    live = snapshot(sync, space_name)
    try:
        recipe = IndexRecipe.from_dict(artifact.recipe, artifact.file)
        if live is not None and live.live_rows:
            publish(sync, space_name, recipe, live)
    except DerivedError:
        return  # the space is searched exactly; the next publish tries again


def _replace_segment(sync: Sync, space_name: str, file: str, reembed: Callable[[SpaceRow, list[str]], int]) -> None:
    """Drop a lost segment and write new vectors for its live records, in one transaction."""
    with sync.catalog.write() as transaction:
        space = rows.space_by_name(transaction.connection, space_name)
        if space is None:
            return
        segment = next((row for row in rows.segments_of(transaction.connection, space.id) if row.file == file), None)
        if segment is None:
            return
        lost = _lost_ids(transaction, sync, space, segment.id)
        retire_index(sync, transaction, space_name)
        rows.drop_segments(transaction.connection, [segment.id])
        rows.touch_layout(transaction.connection, space.id, transaction.seq)
        reembed(space, lost)
        transaction.after.append(lambda: sync.folder("embeddings", space_name).remove(file))


def _lost_ids(transaction: Transaction, sync: Sync, space: SpaceRow, segment: int) -> list[str]:
    """Ids of live records whose vectors are in no other segment and not pending."""
    connection = transaction.connection
    elsewhere: list[np.ndarray] = [rows.pending_vectors(connection, space.id, space.dim, 0)[0]]
    folder = sync.folder("embeddings", space.name)
    for row in rows.segments_of(connection, space.id):
        if row.id == segment:
            continue
        if row.first_vid is not None:
            elsewhere.append(np.arange(row.first_vid, row.first_vid + row.rows))
            continue
        try:
            opened = open_segment(
                folder.read(row.file), id=row.id, file=row.file, rows=row.rows, dim=space.dim, first_vid=None
            )
        except CorruptError:
            continue  # lost as well: its records are embedded again too, now rather than later
        elsewhere.append(opened.vids)
    known = set(np.concatenate(elsewhere).tolist())
    found = connection.execute(
        f"SELECT v.vid, t.id FROM vectors v JOIN {sync.table(space.kind).table} t ON t.row = v.record "
        "WHERE v.space = ? AND v.retired IS NULL",
        (space.id,),
    ).fetchall()
    return [str(name) for vid, name in found if vid not in known]
