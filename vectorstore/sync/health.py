"""Whether a store can serve now: read, write, and with current indexes. Cheap enough to be asked each second."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

from vectorstore.errors import VectorstoreError
from vectorstore.storage import spaces as rows
from vectorstore.sync.core import Sync
from vectorstore.sync.publish import snapshot, wants_index
from vectorstore.sync.remotes import statuses

PLENTY = 64 << 20
"""Bytes that must be free on the disk for a store to count as writable."""

LATE = 60.0
"""Seconds that something may wait to be sent to an engine outside before that counts as unhealthy."""


@dataclass(frozen=True)
class StoreHealth:
    """How a store fares.

    Attributes:
        checks: "readable", "writable" (not of a store opened read-only), "indexes" and "engines" (of one opened with
            index=) -> None when well, else what is wrong and how to mend it.
    """

    checks: dict[str, str | None]

    @property
    def ok(self) -> bool:
        """Whether all is well."""
        return not any(self.checks.values())


def health(sync: Sync) -> StoreHealth:
    """Look whether the catalog can be read, the folder written, and the indexes are current.

    An index that is broken, or far behind what was written, is unhealthy: answers stay exact, and get slower.
    """
    checks = {"readable": _told(lambda: _readable(sync))}
    if not sync.catalog.read_only:
        checks["writable"] = _told(lambda: _writable(sync))
    checks["indexes"] = _told(lambda: _indexes(sync))
    if sync.engines is not None:
        checks["engines"] = _told(lambda: _engines(sync))
    return StoreHealth(checks)


def _told(look: Callable[[], str | None]) -> str | None:
    try:
        return look()
    except (VectorstoreError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def _readable(sync: Sync) -> str | None:
    with sync.catalog.read() as connection:
        rows.all_spaces(connection)
    return None


def _writable(sync: Sync) -> str | None:
    """A page is written beside the catalog and gone again: what fails there would fail a commit."""
    sync.catalog.guard()
    root = sync.catalog.root
    if root is None:
        return None
    with tempfile.TemporaryFile(dir=root) as scratch:
        scratch.write(bytes(4096))
        scratch.flush()
        free = os.fstatvfs(scratch.fileno())
    left = free.f_bavail * free.f_frsize
    return f"only {left >> 20} MiB are free on the disk; make room for {PLENTY >> 20}" if left < PLENTY else None


def _indexes(sync: Sync) -> str | None:
    with sync.catalog.read() as connection:
        spaces = {space.name: rows.artifact_of(connection, space.id, "index") for space in rows.all_spaces(connection)}
    late = []
    for name, artifact in spaces.items():
        live = None if artifact is None else snapshot(sync, name)
        if live is None:
            continue
        if live.index_problem is not None:
            late.append(f"{name}: {live.index_problem}")
        elif wants_index(live):
            indexed = 0 if live.index is None else live.index.rows
            late.append(f"{name}: {live.rows - indexed} vectors are not in the index")
    return f"{'; '.join(late)}; `vectorstore reindex` makes it anew, answers stay exact meanwhile" if late else None


def _engines(sync: Sync) -> str | None:
    """What is told by the catalog, and by what this process asked: the engine itself is not asked."""
    assert sync.engines is not None
    late = [f"{each.address} {each.collection}: {each.problem}" for each in statuses(sync) if each.problem]
    late += [
        f"{each.space}: {each.waiting} vectors have waited for {each.lag:.0f} s to be sent to {each.address}"
        for each in statuses(sync)
        if each.lag > LATE
    ]
    late += sync.engines.silent()
    return "; ".join(dict.fromkeys(late)) or None
