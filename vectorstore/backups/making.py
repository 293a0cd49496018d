"""Making a backup: one commit's catalog and maps of its files, copied while everybody goes on writing.

The write lock is held only while the commit is picked and its files are mapped. Files are immutable and kept by their
digest, so that a generation costs the catalog and whatever is new since the last one.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from vectorstore.backups.generations import Generation, manifests_of, prune
from vectorstore.backups.manifest import CATALOG, Entry, Manifest
from vectorstore.backups.vaults import FILES, Vault, vault_at
from vectorstore.errors import CorruptError, StoreError
from vectorstore.files import Buffer, sha256, with_errno
from vectorstore.ids import from_micros, new_id, to_micros
from vectorstore.storage import FORMAT, Connection
from vectorstore.storage.copying import frozen
from vectorstore.storage.folder import copy_to
from vectorstore.storage.pastrows import NamedFile
from vectorstore.sync import SnapshotMoved, Sync, past

Progress = Callable[[int, int], None]
_ATTEMPTS = 50


@dataclass(frozen=True)
class BackupReport:
    """What a backup did.

    Attributes:
        generation: its id, for `restore`.
        seq: the commit that it holds.
        at: the instant of that commit.
        files: of the generation.
        bytes: of the generation.
        new_files: that were not there yet.
        new_bytes: of those.
        removed: generations that were thinned out.
        left_out: damaged or missing files that the store does without: derived ones, which are built again after a
            restore, and old parts of the trail.
        seconds: how long it took.
    """

    generation: str
    seq: int
    at: datetime
    files: int
    bytes: int
    new_files: int
    new_bytes: int
    removed: tuple[str, ...]
    left_out: tuple[str, ...]
    seconds: float


def back_up(
    sync: Sync,
    target: str | os.PathLike[str],
    *,
    keep: int | None = None,
    keep_for: timedelta | None = None,
    progress: Progress | None = None,
) -> BackupReport:
    """Save the store as of one commit; see `Store.backup`.

    Raises:
        StoreError: no backup was made, unless it says that one was and only older ones could not be removed.
    """
    started = time.perf_counter()
    place = os.fspath(target)
    inside = sync.root is not None and "://" not in place and Path(place).absolute().is_relative_to(sync.root)
    if inside:
        raise StoreError(f"{place} lies in the store itself; choose a folder outside of it")
    vault = vault_at(target, create=True)
    stop = threading.Event()
    with vault.alone(), vault.scratch() as scratch, ThreadPoolExecutor(1, "vectorstore-backup") as pool:
        known, _ = manifests_of(vault)
        try:
            with _frozen(sync) as (connection, files):
                state = _State(*connection.execute("SELECT store, seq, at FROM state").fetchone())
                if known and known[0].store != state.store:
                    raise StoreError(f"{vault.name} holds backups of another store; choose a place of its own")
                keeping = pool.submit(_keep, vault, files, progress, stop)
                copy_to(connection, scratch / CATALOG)
            catalog, is_new = vault.adopt(FILES, scratch / CATALOG)
            kept = keeping.result()
        except BaseException:
            stop.set()
            raise
        now = sync.catalog.clock()
        manifest = Manifest(
            format=1,
            id=_next_id(now, known),
            store=state.store,
            seq=state.seq,
            at=state.at,
            made_at=to_micros(now),
            catalog_format=FORMAT,
            files=[catalog, *kept.entries],
            left_out=kept.left_out,
        )
        body = manifest.to_bytes()
        vault.publish(f"{manifest.id}.json", body, sha256(body))
        try:
            removed = prune(vault, keep, keep_for, now)
        except OSError as error:
            said = f"{vault.name}: {manifest.id} was made, but what should have gone could not all be removed: {error}"
            raise with_errno(f"{said}; the next backup, or Backups.prune, goes on with that", error) from error
        made = Generation.of(manifest)
    return BackupReport(
        generation=made.id,
        seq=made.seq,
        at=from_micros(state.at),
        files=made.files,
        bytes=made.bytes,
        new_files=kept.new_files + is_new,
        new_bytes=kept.new_bytes + catalog.size * is_new,
        removed=removed,
        left_out=tuple(kept.left_out),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True)
class _State:
    store: str
    seq: int
    at: int


@dataclass
class _Kept:
    """The files of a generation but its catalog, and how many of them were not there yet."""

    entries: list[Entry] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    new_files: int = 0
    new_bytes: int = 0


def _keep(
    vault: Vault, files: dict[NamedFile, Buffer | None], progress: Progress | None, stop: threading.Event
) -> _Kept:
    """Put what the vault has not got yet; SQLite copies the catalog meanwhile."""
    kept, present = _Kept(), vault.names(FILES)
    total, done = sum(named.size for named in files), 0
    for named, data in sorted(files.items(), key=lambda item: item[0].path):
        if stop.is_set():
            break
        try:
            if data is None or len(data) != named.size:
                raise CorruptError("it is missing or has another size")
            if present.get(named.sha256) != named.size:
                vault.put(FILES, named.sha256, data, named.sha256)
                present[named.sha256] = named.size
                kept.new_files += 1
                kept.new_bytes += named.size
            kept.entries.append(Entry(path=named.path, size=named.size, sha256=named.sha256))
        except CorruptError as error:
            kept.left_out.append(_spared(named.path, str(error)))
        done += named.size
        if progress is not None:
            progress(done, total)
    return kept


@contextlib.contextmanager
def _frozen(sync: Sync) -> Iterator[tuple[Connection, dict[NamedFile, Buffer | None]]]:
    """One commit, and maps of the files that it names."""
    with contextlib.ExitStack() as held:
        for attempt in range(_ATTEMPTS):
            try:
                found = held.enter_context(frozen(sync.catalog, lambda connection: _pin(sync, connection)))
                break
            except SnapshotMoved:  # only where the store is open read-only, and its writer has just compacted
                if attempt == _ATTEMPTS - 1:
                    raise StoreError(
                        f"{sync.root}: its files kept being replaced; try again, or open it to write"
                    ) from None
        yield found


def _pin(sync: Sync, connection: Connection) -> dict[NamedFile, Buffer | None]:
    found: dict[NamedFile, Buffer | None] = {}
    for named in past.all_named(connection):
        try:
            found[named] = sync.folder(named.what, named.space).read(named.file)
        except CorruptError:
            if sync.catalog.read_only and sync.unnamed_since(named.what, named.file):
                raise SnapshotMoved from None
            found[named] = None
    return found


def _spared(path: str, problem: str) -> str:
    """The path of a file that can be left out: it is derived, or of the trail, which nothing could mend.

    Raises:
        CorruptError: it is a source.
    """
    if path.startswith(("indexes/", "trail/")) or path.endswith(".joblib"):
        return path
    raise CorruptError(
        f"{path}: {problem}; no backup was made; run: vectorstore check --repair, or restore an older one"
    )


def _next_id(now: datetime, known: list[Manifest]) -> str:
    """A ULID after all that are there, whatever the clock says."""
    last = known[0].id if known else ""
    made = new_id(now)
    while made <= last:
        now += timedelta(milliseconds=1) + max(timedelta(0), from_micros(known[0].made_at) - now)
        made = new_id(now)
    return made
