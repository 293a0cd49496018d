"""A backup becomes a store again: everything is checked beside the place before anything takes the place.

The generation is written to a new folder beside the target, every byte compared with the manifest, the catalog proved,
and the whole opened and checked as a store. Then the folder gets its name by one rename; an existing store is swapped
out by one exchange and kept beside, as `<name>.<ULID>.replaced`. Nothing that fails removes it, at whatever step.
A kill right before the exchange leaves the restored store under that name, whole, and the other where it was.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from vectorstore import files as disk
from vectorstore.backups import Manifest, Vault, vault_at
from vectorstore.backups.generations import pick
from vectorstore.backups.mirrors import bounded
from vectorstore.errors import CorruptError, NewerFormat, NotAStore, StoreError
from vectorstore.files import TEMPORARY, DiskFolder, as_path, discard, make_folder, publish_folder, refused
from vectorstore.ids import from_micros, new_id, utc_now
from vectorstore.storage import CATALOG, FORMAT, LOCK, Catalog, Done
from vectorstore.storage import trail as chain
from vectorstore.storage.copying import problems_of_copy
from vectorstore.storage.lock import WriteLock
from vectorstore.store import Store
from vectorstore.trail import actor_of

Progress = Callable[[int, int], None]
_TIMEOUT = 30.0


@dataclass(frozen=True)
class RestoreReport:
    """What was restored.

    Attributes:
        path: the store.
        generation: which backup.
        seq: the commit that the store is at.
        at: the instant of that commit.
        files: how many.
        bytes: of all of them.
        replaced: where the store that was there before is now; None when there was none.
        left_out: files that the backup had to leave out; `store.repair` makes those again that are derived.
    """

    path: Path
    generation: str
    seq: int
    at: datetime
    files: int
    bytes: int
    replaced: Path | None
    left_out: tuple[str, ...]


def restore(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    generation: str | None = None,
    replace: bool = False,
    actor: str | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Make a store from a backup.

    Args:
        source: where the backups are: a folder, or a URL that fsspec opens.
        folder: the store to make; it must not be there, or be empty.
        generation: which backup; None for the newest.
        replace: a store that is there already is exchanged for the restored one, in one step, and kept beside it, as
            `<name>.<ULID>.replaced`. Open handles of it raise StoreGone from then on.
        actor: who does it, for the trail; None for the environment's VECTORSTORE_ACTOR, else the user.
        progress: told (bytes written, bytes to write).

    Raises:
        NotFound: no such generation.
        CorruptError, NewerFormat: the backup is damaged, foreign or too new; nothing was changed.
        NotAStore, StoreError: the folder holds something else, or a store and `replace` was not asked for.
        StoreError: the disk refused; nothing was changed, or it says where the store is that was there.

    Cost: one read and one write of all files, and a check of the store.
    """
    vault = vault_at(source, create=False)
    target = as_path(folder)
    _refuse(target, replace)
    manifest = pick(vault, generation)
    if manifest.catalog_format > FORMAT:
        raise NewerFormat(
            f"{vault.name}: {manifest.id} has format {manifest.catalog_format}; this vectorstore reads up to {FORMAT}: "
            "upgrade it (nothing was changed)"
        )
    make_folder(target.parent)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        _write(vault, manifest, temporary, progress)
        _prove(manifest, temporary)
        _tell(manifest, temporary, actor_of(actor))
        replaced = _take_place(temporary, target, replace)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return RestoreReport(
        path=target,
        generation=manifest.id,
        seq=manifest.seq,
        at=from_micros(manifest.at),
        files=len(manifest.files),
        bytes=manifest.size,
        replaced=replaced,
        left_out=tuple(manifest.left_out),
    )


def _refuse(target: Path, replace: bool) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise NotAStore(f"{target} is no folder; choose another place")
    inside = sorted(os.listdir(target)) if target.is_dir() else []
    if not inside:
        return
    if CATALOG not in inside:
        raise NotAStore(f"{target} holds other things ({inside[0]}, ...); choose a new folder; nothing was changed")
    if not replace:
        raise StoreError(f"{target} is a store; choose a new folder, or replace=True (--replace); nothing was changed")


def _write(vault: Vault, manifest: Manifest, root: Path, progress: Progress | None) -> None:
    """Every file under its own name, byte for byte what the manifest says."""
    done = 0
    for entry in manifest.files:
        where = f"{vault.name}: {entry.path} of {manifest.id}"
        path = root / entry.path  # the manifest knows only paths of a store
        info = DiskFolder(path.parent).publish(path.name, bounded(vault, entry, where))
        if info.size != entry.size or info.sha256 != entry.sha256:
            raise CorruptError(f"{where} does not have its size and digest; take another generation")
        done += entry.size
        if progress is not None:
            progress(done, manifest.size)


def _prove(manifest: Manifest, root: Path) -> None:
    """The folder is a store in which all agrees; what is derived may be missing.

    Raises:
        CorruptError: it is not.
    """
    problems = problems_of_copy(root / CATALOG)
    if not problems and manifest.catalog_format == FORMAT:  # an older one is checked when it has been migrated
        with Store(root, embedder=None, read_only=True, auto_publish=False) as store:
            state = store.moment
            if (state.seq, store.id) != (manifest.seq, manifest.store):
                problems.append(f"is of commit {state.seq} of {store.id}, the manifest says another")
            spared = any(path.startswith("trail/") for path in manifest.left_out)
            problems += [
                str(finding)
                for finding in store.check().findings
                if not finding.derived and not (spared and finding.layer == "trail")
            ]
        for name in (f"{CATALOG}-wal", f"{CATALOG}-shm"):  # a reader cannot remove its own
            with refused(root):
                (root / name).unlink(missing_ok=True)
    if problems:
        raise CorruptError(f"{manifest.id}: {problems[0]} (and {len(problems) - 1} more); nothing was restored")


def _tell(manifest: Manifest, root: Path, actor: str) -> None:
    """The restored store's trail says so; no commit of the store's is made for it."""
    if manifest.catalog_format != FORMAT:
        return
    catalog = Catalog(root, read_only=False, timeout=_TIMEOUT, clock=utc_now, create=False)
    done = Done("restored", None, [], {"generation": manifest.id, "seq": manifest.seq})
    try:
        with catalog.write(aside=True) as transaction:
            chain.append(transaction.connection, transaction.seq, actor, [(done, transaction.now)])
    finally:
        catalog.close()


def _take_place(temporary: Path, target: Path, replace: bool) -> Path | None:
    """Give the proved folder its name; where the one that had it is now."""
    if not target.exists():
        publish_folder(temporary, target)
        return None
    with ExitStack() as held:
        if (target / CATALOG).exists():
            lock = WriteLock(target / LOCK, _TIMEOUT)  # no writer is in the middle of something
            held.callback(lock.close)
            lock.acquire()
            held.callback(lock.release)
        _refuse(target, replace)
        aside = target.with_name(f"{target.name}.{new_id(utc_now())}.replaced")
        old, new = _inode(target), _inode(temporary)
        try:
            publish_folder(temporary, aside)  # before the exchange: by that the old store gets its last name at once
            exchange_folders(aside, target)
        except BaseException as error:
            if (_inode(target), _inode(aside)) == (old, new):  # nothing was exchanged
                shutil.rmtree(aside, ignore_errors=True)
            elif _inode(aside) == old:
                error.add_note(f"what was {target} is now {aside}")
            raise
        discard(aside)  # only if it is empty
        return aside if aside.exists() else None


def exchange_folders(first: Path, second: Path) -> None:
    """Swap the names of two folders in one step, durably; where the system cannot, in three.

    Cut short in the middle of three steps, both folders are whole, under names that tell which they are.

    Raises:
        StoreError: the disk refused; all is as before, or it says what is where.
    """
    with refused(second):
        disk._sync_folder(first)
        was = _inode(second)
        try:
            if not disk._exchange(first, second):
                _exchange_in_three(first, second)
            disk._sync_folder(first.parent)
            disk._sync_folder(second.parent)
        except OSError as error:
            if _inode(first) == was:
                disk.left(second, error, f"what had that name is now {first}")
            raise


def _exchange_in_three(first: Path, second: Path) -> None:
    between = second.with_name(f"{second.name}.{uuid.uuid4().hex}.replaced")
    try:
        disk._rename(second, between)
        disk._rename(first, second)
        disk._rename(between, first)
    except BaseException as error:
        try:
            if between.exists():  # not the whole way, so all of it back
                if not first.exists():
                    disk._rename(second, first)
                disk._rename(between, second)
        except BaseException as stuck:
            new = first if first.exists() else second
            said = (
                f"what was {second} is now {between}, what was to be there is {new}; nothing was removed; rename them"
            )
            stuck.add_note(said)
            if isinstance(stuck, OSError):
                why = stuck.strerror or stuck
                raise disk.with_errno(
                    f"{second}: the disk refused ({why}) an exchange half-way: {said}", stuck
                ) from error
            raise
        raise


def _inode(path: Path) -> tuple[int, int] | None:
    """What has the name, whatever it was called before; None when nothing has."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
