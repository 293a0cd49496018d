"""Repair: what is derived is made again from its sources; what crashes leave behind is swept.

A lost segment is a lost source: its records' texts are embedded again, if there is an embedder.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from vectorstore.errors import CorruptError, DerivedError, StoreError
from vectorstore.files import TEMPORARY
from vectorstore.recipes import IndexRecipe
from vectorstore.storage import Connection, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.sync import feeding, mend, models, past, trail
from vectorstore.sync.check import CheckReport, Finding, check, unnamed
from vectorstore.sync.core import INDEX, Sync, file_path
from vectorstore.sync.expiry import expire
from vectorstore.sync.lost import lost_commits
from vectorstore.sync.publish import publish, retire_index, snapshot
from vectorstore.sync.telling import Progress, growing, span
from vectorstore.sync.write import flush
from vectorstore.vectors import open_segment
from vectorstore.vectors.segments import NAME

log = logging.getLogger("vectorstore")
SWEEP_SECONDS = 600.0
"""Unnamed files younger than this may belong to a write in progress and are left alone."""


def sweep(sync: Sync, older_than: float = SWEEP_SECONDS, *, keep_segments: bool = False) -> list[str]:
    """Remove files that no row names, if they are old enough; returns what was removed."""
    removed = []
    with sync.catalog.write() as transaction:  # nobody publishes a name while this holds the lock
        committed = transaction.seq - 1
        due = [*sweepable(sync, transaction.connection, committed, older_than, keep_segments=keep_segments)]
        for what, space, name in due:
            if not what and name.startswith((past.VIEW, past.SHARED)):
                if sync.root is not None and past.remove_view(sync.root / name):
                    removed.append(name)
                continue
            with contextlib.suppress(FileNotFoundError):
                sync.folder(what, space).remove(name)
                removed.append(file_path(what, space, name))
        if removed:
            transaction.record("sweep", files=len(removed))
    return removed


def sweepable(
    sync: Sync, connection: Connection, committed: int, older_than: float, *, keep_segments: bool = False
) -> Iterator[tuple[str, str, str]]:
    """(folder, space, name) of files of ours that no row names and that are so old.

    A segment that was written at a later commit than the last one is evidence of lost commits, and stays.
    """
    for what, space, name in unnamed(sync, connection, rows.all_spaces(connection)):
        match = NAME.fullmatch(name)
        if what == "embeddings" and match and (keep_segments or int(match[1]) > committed):
            continue
        ours = not what or TEMPORARY in name or match or what == "indexes" or None
        if what == models.FOLDER:
            ours = TEMPORARY in name or models.NAME.fullmatch(name)
        if what == trail.FOLDER:
            ours = TEMPORARY in name or trail.NAME.fullmatch(name)
        if ours:
            with contextlib.suppress(FileNotFoundError):  # a write in progress has just given it its name
                if sync.folder(what, space).age(name) >= older_than:
                    yield what, space, name


def tidy(sync: Sync) -> None:
    """Sweep, where there is anything to sweep; a failing disk keeps it for now, and is no reason not to open."""
    try:
        for _, what, cure in lost_commits(sync):
            log.error("%s: %s; %s", sync.root, what, cure)
        with sync.catalog.read() as connection:
            due = next(sweepable(sync, connection, sync.catalog.seq(connection), SWEEP_SECONDS), None) is not None
        if due:  # else nothing is written: a new commit would hide that others were lost
            sweep(sync)
    except StoreError as error:
        log.warning("%s: files that nothing names stay for now: %s", sync.root, error)


@dataclass(frozen=True)
class RepairReport:
    """What a repair did (or would do, on a dry run), and what is still wrong afterwards."""

    actions: tuple[str, ...]
    remaining: tuple[Finding, ...]
    dry_run: bool


def repair(
    sync: Sync,
    *,
    dry_run: bool,
    reembed: Callable[[SpaceRow, list[str]], int] | None = None,
    progress: Progress | None = None,
) -> RepairReport:
    """Make derived things again, mend what the other half of the store tells, put aside what nothing tells.

    Of files that no row names only those go that are as old as a sweep at opening demands (`SWEEP_SECONDS`): by its age
    alone the litter of a crash is told from what another process is just writing.

    Args:
        sync: the store's parts.
        dry_run: only say what would be done.
        reembed: given a space and the ids whose vectors are lost, writes new ones; None leaves such findings.
        progress: told (percent, 100), after each step of looking and each action; an action is one commit or none.
    """
    told = progress and growing(progress)
    report = check(sync, span(told, 0, 100 if dry_run else 35))
    actions = dict(_plan(sync, report, reembed))
    if dry_run:
        return RepairReport(tuple(actions), report.findings, True)
    for done, action in enumerate(actions.values(), 1):
        action()
        span(told, 35, 65)(done, len(actions))
    return RepairReport(tuple(actions), check(sync, span(told, 65, 100)).findings, False)


def _plan(
    sync: Sync, report: CheckReport, reembed: Callable[[SpaceRow, list[str]], int] | None
) -> Iterator[tuple[str, Callable[[], object]]]:
    """(what would be done, how) in the order in which one step may need what another one has mended."""
    layers: dict[str, list[Finding]] = {}
    for finding in report.findings:
        layers.setdefault(finding.layer, []).append(finding)
    if "schema" in layers:
        names = ", ".join(finding.where for finding in layers["schema"])
        yield f"drop {names} and put the text aside", partial(mend.drop_foreign, sync)
    if any("row of contexts" in finding.what for finding in layers.get("catalog", [])):
        yield "make the contexts again that records are in", partial(mend.make_contexts, sync)
    broken = {finding.where.partition(" row ")[0] for finding in layers.get("rows", [])}
    for kind in sorted(broken & sync.tables.keys()):
        yield f"put damaged records of {kind} aside", partial(mend.put_records_aside, sync, kind)
    if "decisions" in broken:
        for kind in sync.tables:
            yield f"forget decisions about lost {kind}", partial(mend.forget_lost_decisions, sync, kind)
    for finding in layers.get("segments", []):
        if reembed is not None:
            space, file = finding.where.split("/", 2)[1:]
            what = f"embed the records of {finding.where} again from their text and drop the file"
            yield what, partial(_replace_segment, sync, space, file, reembed)
    for space in dict.fromkeys(finding.where.partition(":")[0] for finding in layers.get("vectors", [])):
        yield f"put the vectors of {space} right", partial(mend.mend_vectors, sync, space, reembed)
    text = {finding.where for finding in layers.get("text", [])}
    for kind in sorted(kind for kind, table in sync.tables.items() if text & table.derived):
        yield f"rebuild full text and tags of {kind}", partial(_rebuild_text, sync, kind)
    for finding in layers.get("index", []):
        if finding.derived:
            space = finding.where.split("/")[1]
            yield f"rebuild the index of {space}", partial(_rebuild_index, sync, space)
    for finding in layers.get("models", []):
        if finding.derived:
            file = finding.where.split("/")[1]
            what = f"write {finding.where} again from the centroids in the catalog"
            yield what, partial(_write_model_again, sync, file)
    for finding in layers.get("history", []):
        if finding.derived:
            yield f"forget {finding.where}, which only the past needs", partial(past.forget_file, sync, finding.where)
    if any(finding.derived for finding in layers.get("remote", [])):
        yield "tell engines outside again what they have wrong", partial(feeding.mend, sync)
    # An unnamed segment may be the only copy of vectors that are missing somewhere else.
    keep = reembed is None and bool(layers.keys() & {"vectors", "segments"})
    if report.litter and (due := _due(sync, keep)):
        yield f"sweep {due} unnamed files", partial(sweep, sync, keep_segments=keep)


def _due(sync: Sync, keep_segments: bool) -> int:
    """How many files a sweep would take: what is younger may be what somebody is just writing."""
    with sync.catalog.read() as connection:
        committed = sync.catalog.seq(connection)
        return sum(1 for _ in sweepable(sync, connection, committed, SWEEP_SECONDS, keep_segments=keep_segments))


def _write_model_again(sync: Sync, file: str) -> None:
    models.write_again(sync, file)
    past.forget_file(sync, f"{models.FOLDER}/{file}")


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
        past.forget_in(sync, transaction, "indexes", space_name, artifact.file)
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
        sync.let_go(transaction, "embeddings", space_name, file)
        past.forget_in(sync, transaction, "embeddings", space_name, file)


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
