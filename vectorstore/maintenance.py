"""Keeping derived things current while a store is used, upkeep by its policy, and counting what is in it."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vectorstore.errors import DerivedError, RecipeError, VectorstoreError
from vectorstore.html import table
from vectorstore.policy import stored_policy
from vectorstore.recipes import DEFAULT, FALLBACKS
from vectorstore.records.codecs import choices
from vectorstore.storage import FORMAT, SQLITE_VERSION, Connection, RecordTable, SpaceRow, history, trail
from vectorstore.storage import spaces as rows
from vectorstore.storage.models import CURRENT, RETIRED, models_of
from vectorstore.storage.workflows import STATUSES, counts_of
from vectorstore.sync import Progress, Sync, flush, growing, part, refresh, snapshot, wants_index
from vectorstore.sync.remotes import statuses

FLUSH_ROWS = 4096
CLOSE_ROWS = 512
_LOOK_EVERY = 1024
_LOOK_BACK = 600.0
"""So many seconds pass at least between two looks through history for what is too old."""
log = logging.getLogger("vectorstore")


class Maintainer:
    """Flushes when many vectors wait, publishes indexes and does what is due in one background thread."""

    def __init__(self, sync: Sync, *, auto_publish: bool, upkeep: Callable[[], object]) -> None:
        self._sync = sync
        self._auto_publish = auto_publish
        self._upkeep = upkeep
        self._looked_back = time.monotonic()
        self._written: dict[str, int] = {}
        self._background: threading.Thread | None = None
        self._closing = False
        self._lock = threading.Lock()

    def written(self, space: str, changes: int) -> None:
        """Count what was committed; flush when many vectors wait, publish when much is scanned exactly.

        The commit stands whatever fails here, so nothing is raised: what is not done now is done after a later one.
        """
        try:
            self._look_after(space, changes)
        except (VectorstoreError, OSError, RuntimeError):  # RuntimeError: no thread can be started
            log.exception("%s: the upkeep after a commit failed; answers stay exact", space)

    def _look_after(self, space: str, changes: int) -> None:
        self._written[space] = self._written.get(space, 0) + changes
        if self._written[space] < _LOOK_EVERY:
            return
        self._written[space] = 0
        with self._sync.catalog.read() as connection:
            found = rows.space_by_name(connection, space)
            waiting = 0 if found is None else rows.pending_count(connection, found.id)
        if waiting >= FLUSH_ROWS:
            flush(self._sync, space)
        if self._auto_publish and wants_index(snapshot(self._sync, space)):
            self._start("publish", lambda: self.publish(space), space)
        if self._due():
            self._start("upkeep", self._upkeep, space)

    def _due(self) -> bool:
        """Whether the store's policy wants something done, or history has not been looked through for a while."""
        with self._sync.catalog.read() as connection:
            policy, kept = stored_policy(connection), history.kept(connection)
            if kept is not None and kept.keep is not None and time.monotonic() - self._looked_back > _LOOK_BACK:
                self._looked_back = time.monotonic()
                return True
            return policy is not None and policy.automatic and bool(policy.spaces_due(self._sync, connection))

    def _start(self, name: str, work: Callable[[], object], space: str) -> None:
        with self._lock:
            if self._background is None and not self._closing:
                thread = threading.Thread(
                    target=self._in_background, args=(work, space), name=f"vectorstore-{name}", daemon=True
                )
                self._background = thread
                try:
                    thread.start()
                except BaseException:
                    self._background = None
                    raise

    def _in_background(self, work: Callable[[], object], space: str) -> None:
        try:
            work()
        except DerivedError as error:
            log.info("%s: no index was published: %s", space, error)
        except VectorstoreError:
            log.exception("%s: work in the background failed; answers stay exact", space)
        finally:
            with self._lock:
                self._background = None

    def publish_all(self, names: Sequence[str], *, small: bool, progress: Progress | None) -> None:
        """Publish spaces in turn: those that have or need an index, or, when `small`, all that have vectors."""
        for place, name in enumerate(names):
            flush(self._sync, name)
            live = snapshot(self._sync, name)
            if live is not None and live.live_rows and (small or live.index is not None or wants_index(live)):
                self.publish(name, progress and part(progress, place, len(names)))
            if progress is not None:
                progress(100 * (place + 1), 100 * len(names))

    def publish(self, space: str, progress: Progress | None = None) -> None:
        """The current recipe again, or the default; when its recall is too low, another quick one."""
        told = progress and growing(progress)
        live = snapshot(self._sync, space)
        if live is None:
            return
        first = live.index.recipe if live.index is not None else DEFAULT
        others = [recipe for recipe in FALLBACKS if recipe != first]
        for place, recipe in enumerate([first, *others]):
            try:
                refresh(self._sync, space, recipe, live, told)
                return
            except (RecipeError, DerivedError):
                if place == len(others):
                    raise

    def wait(self) -> None:
        """Return when nothing is being published."""
        background = self._background
        if background is not None:
            background.join()

    def stop(self) -> bool:
        """Start nothing new and wait for what runs; False when stopped before."""
        with self._lock:
            if self._closing:
                return False
            self._closing = True
        self.wait()
        return True

    def flush_on_close(self) -> None:
        """Leave a small rest in the catalog: one-shot commands would otherwise leave thousands of tiny files."""
        with self._sync.catalog.read() as connection:
            waiting = {s.name: rows.pending_count(connection, s.id) for s in rows.all_spaces(connection)}
        for name, count in waiting.items():
            if count >= CLOSE_ROWS:
                try:
                    flush(self._sync, name)
                except VectorstoreError as error:  # what waits is in the catalog, and as durable there
                    log.warning("%s: %d vectors wait on in the catalog: %s", name, count, error)


def statistics(sync: Sync) -> dict[str, Any]:
    """Counts, sizes and states, by kind; bytes on disk; plain data, fit for JSON."""
    kinds: dict[str, Any] = {}
    with sync.catalog.read() as connection:
        spaces = {space.name: space for space in rows.all_spaces(connection)}
        for name, table in sync.tables.items():
            live = table.count(connection, None)
            entry: dict[str, Any] = {
                "records": live,
                "deleted": table.count(connection, None, deleted=None) - live,
                "expired": len(table.due(connection, sync.catalog.now())),
                "contexts": table.by_value(connection, "context"),
                "statuses": _statuses(connection, table),
                "means": table.means(connection),
                "vectors": 0,
                "pending": 0,
                "segments": 0,
                "segment_bytes": 0,
                "remotes": [],
                "index": None,
            }
            if name in spaces:
                entry |= _space(sync, connection, spaces[name])
            further = [space for space in spaces.values() if space.kind == name and space.name != name]
            entry["spaces"] = {space.name: _space(sync, connection, space) for space in further}
            kinds[name] = entry
        seq = sync.catalog.seq(connection)
        entries, _ = trail.head(connection)
        models = collections.Counter(row.status for row in models_of(connection))
        workflows = counts_of(connection)
    return {
        "path": ":memory:" if sync.catalog.root is None else str(sync.catalog.root),
        "format": FORMAT,
        "sqlite": SQLITE_VERSION,
        "seq": seq,
        "bytes": bytes_of(sync.catalog.root),
        "trail": entries,
        "models": {status: models[status] for status in (CURRENT, RETIRED)},
        "kinds": kinds,
        "workflows": {status: workflows.get(status, 0) for status in STATUSES},
    }


def _statuses(connection: Connection, table: RecordTable[Any]) -> dict[str, dict[str, int]]:
    """Field that has named choices -> how many live records have each, those that none has too."""
    found = {}
    for column in table.schema.columns:
        allowed = choices(table.schema.kind.model_fields[column.name].annotation) if column.type == "text" else ()
        if allowed:
            counts = table.by_value(connection, column.name)
            found[column.name] = {name: counts.get(name, 0) for name in allowed}
    return found


def _space(sync: Sync, connection: Connection, space: SpaceRow) -> dict[str, Any]:
    live = connection.execute(
        "SELECT count(*) FROM vectors WHERE space = ? AND retired IS NULL", (space.id,)
    ).fetchone()[0]
    live -= len(rows.expired_vids(connection, space.id, sync.table(space.kind).table, sync.catalog.now()))
    artifact = rows.artifact_of(connection, space.id, "index")
    segments = rows.segments_of(connection, space.id)
    return {
        "vectors": live,
        "dim": space.dim,
        "metric": space.metric,
        "model": space.model,
        "segments": len(segments),
        "segment_bytes": sum(segment.size for segment in segments),
        "pending": rows.pending_count(connection, space.id),
        "remotes": [dataclasses.asdict(each) for each in statuses(sync) if each.space == space.name],
        "index": None
        if artifact is None
        else {
            "recipe": artifact.recipe["name"],
            "rows": artifact.rows,
            "bytes": artifact.size,
            "seq": artifact.built_seq,
        },
    }


def bytes_of(root: Path | None) -> int:
    """Bytes of all files; sizes come from the directory, no file is opened."""
    if root is None:
        return 0
    total = 0
    for folder, _, names in os.walk(root):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name), follow_symlinks=False).st_size
    return total


def as_html(found: dict[str, Any]) -> str:
    """`statistics` as a table for notebooks: the kinds that hold something."""
    rows = []
    for name, kind in found["kinds"].items():
        if kind["records"] or kind["deleted"] or kind["vectors"]:
            index = kind["index"] or {}
            rows.append((name, kind["records"], kind["deleted"], kind["vectors"], kind.get("dim"), index.get("recipe")))
    size = f", {found['bytes'] / 1e6:.1f} MB" if found["bytes"] else ""
    caption = f"{found['path']}, commit {found['seq']}{size}"
    return table(caption, ("kind", "records", "deleted", "vectors", "dimensions", "index"), rows)
