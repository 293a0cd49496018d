"""Repair: what is derived is made again from its sources; what crashes leave behind is swept.

A lost segment is a lost source: its records' texts are embedded again, if there is an embedder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vectorstore.errors import CorruptError, DerivedError
from vectorstore.files import TEMPORARY
from vectorstore.recipes import IndexRecipe
from vectorstore.storage import SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.sync import models, trail
from vectorstore.sync.check import Finding, check, file_path, unnamed
from vectorstore.sync.core import INDEX, Sync
from vectorstore.sync.expiry import expire
from vectorstore.sync.publish import publish, retire_index, snapshot
from vectorstore.sync.write import flush
from vectorstore.vectors import open_segment
from vectorstore.vectors.segments import NAME

SWEEP_SECONDS = 600.0
"""Unnamed files younger than this may belong to a write in progress and are left alone."""


def sweep(sync: Sync, older_than: float = SWEEP_SECONDS) -> list[str]:
    """Remove files that no row names, left by crashes, if they are old enough; returns what was removed.

    A segment written at a later commit than the catalog's is evidence of lost commits and is kept.
    """
    removed = []
    with sync.catalog.write() as transaction:  # nobody publishes a name while this holds the lock
        spaces = rows.all_spaces(transaction.connection)
        for what, space, name in unnamed(sync, transaction.connection, spaces):
            match = NAME.fullmatch(name)
            if what == "embeddings" and match and int(match[1]) >= transaction.seq:
                continue
            folder = sync.folder(what, space)
            ours = TEMPORARY in name or match or what == "indexes" or None
            if what == models.FOLDER:
                ours = TEMPORARY in name or models.NAME.fullmatch(name)
            if what == trail.FOLDER:
                ours = TEMPORARY in name or trail.NAME.fullmatch(name)
            if not ours:
                continue
            with contextlib.suppress(FileNotFoundError):  # a write in progress has just given it its name
                if folder.age(name) >= older_than:
                    folder.remove(name)
                    removed.append(file_path(what, space, name))
        if removed:
            transaction.record("sweep", files=len(removed))
    return removed


def has_litter(sync: Sync) -> bool:
    """Whether any file is there that no row names; cheap enough for every open."""
    with sync.catalog.read() as connection:
        return next(unnamed(sync, connection, rows.all_spaces(connection)), None) is not None


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
    broken = {finding.where for finding in report.findings if finding.layer == "text"}
    broken_text = {kind for kind, table in sync.tables.items() if broken & table.derived}
    for kind in sorted(broken_text):
        actions.append((f"rebuild full text and tags of {kind}", lambda kind=kind: _rebuild_text(sync, kind)))  # type: ignore[misc]
    for finding in report.findings:
        if finding.layer == "index" and finding.derived:
            space = finding.where.split("/")[1]
            actions.append((f"rebuild the index of {space}", lambda space=space: _rebuild_index(sync, space)))  # type: ignore[misc]
        elif finding.layer == "models" and finding.derived:
            file = finding.where.split("/")[1]
            what = f"write {finding.where} again from the centroids in the catalog"
            actions.append((what, lambda file=file: models.write_again(sync, file)))  # type: ignore[misc]
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
        transaction.record("repair", kind, derived="text")


def _rebuild_index(sync: Sync, space_name: str) -> None:
    with sync.catalog.read() as connection:
        space = rows.space_by_name(connection, space_name)
        artifact = None if space is None else rows.artifact_of(connection, space.id, INDEX)
    if artifact is None:
        return
    with sync.catalog.write() as transaction:
        retire_index(sync, transaction, space_name)
        transaction.record("repair", space_name.partition(".")[0], space=space_name, derived="index")
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
        expire(sync, transaction, sync.table(space.kind))
        lost = _lost_ids(transaction, sync, space, segment.id)
        retire_index(sync, transaction, space_name)
        rows.drop_segments(transaction.connection, [segment.id])
        rows.touch_layout(transaction.connection, space.id, transaction.seq)
        transaction.record("repair", space.kind, space=space_name, lost=len(lost))
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
