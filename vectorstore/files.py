"""Files of a store: write-once, published whole, named by digest.

Owns every durable effect on disk but SQLite's own. `publish` goes through these steps; what a crash leaves after each:

1. create a unique temporary name (O_EXCL)      -> an empty temporary file, swept later
2. write all bytes                              -> a torn temporary file, swept later
3. fsync the file                               -> a whole temporary file, swept later
4. rename to the final, unique name             -> a whole file that no catalog row names, swept later
5. fsync the folder                             -> the same, and it survives a power cut
(6. the caller's catalog transaction names it   -> part of the store)

A file is never changed and never overwritten; it is removed by unlink alone, so that a map of it stays valid in
readers. Each step is one small function here, so that a crash test can stop the process at any of them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import stat
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from vectorstore.errors import CorruptError, StoreError, ValidationError, VectorstoreError

_BESIDE_THE_FILE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM)
"""What keeps a file from being read that says nothing of the file."""
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""No file has that name: what should be a folder on its way is a file, say, or a link to itself."""
Buffer = bytes | memoryview | mmap.mmap
TEMPORARY = ".tmp"


@dataclass(frozen=True)
class FileInfo:
    """What the catalog keeps of a published file.

    `stat` is "inode:size:mtime_ns": as long as it is unchanged the digest need not be computed again.
    """

    name: str
    size: int
    sha256: str
    stat: str


@runtime_checkable
class Folder(Protocol):
    """A flat folder of write-once files."""

    def publish(self, name: str, chunks: Iterable[Buffer]) -> FileInfo:
        """Write the chunks as one new file; durable when this returns."""

    def read(self, name: str) -> Buffer:
        """The bytes of a file, memory-mapped where there is a disk."""

    def stat(self, name: str) -> str | None:
        """The text "inode:size:mtime_ns", or None when there is no such file."""

    def names(self) -> list[str]:
        """All names here, temporary ones included, sorted."""

    def age(self, name: str) -> float:
        """Seconds since the file was last written, by the file system's clock."""

    def remove(self, name: str) -> None:
        """Unlink; a file that is not there is no error."""


class refused:  # noqa: N801 - used like a function
    """What a disk refuses is a `StoreError` that says where and why, and keeps the errno.

    That a name is taken, or that there is none, is no matter of the disk and passes through.
    """

    __slots__ = ("_outcome", "_path")

    def __init__(self, path: Path, outcome: str = "nothing was written") -> None:
        self._path, self._outcome = path, outcome

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Raise the error in our words."""
        if not isinstance(error, OSError) or isinstance(error, VectorstoreError | FileExistsError | FileNotFoundError):
            return
        mend = "; make room and retry" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        said = f"{self._path}: the disk refused: {error.strerror or error}; {self._outcome}{mend}"
        raise with_errno(said, error) from error


def with_errno(said: str, error: OSError) -> StoreError:
    """The disk's error in our words."""
    (found := StoreError(said)).errno = error.errno
    return found


class MemoryFolder:
    """A folder that lives in this process only."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    def publish(self, name: str, chunks: Iterable[Buffer]) -> FileInfo:
        """Keep the bytes under the name."""
        data = b"".join(bytes(chunk) for chunk in chunks)
        self._files[name] = data
        return FileInfo(name, len(data), hashlib.sha256(data).hexdigest(), f"0:{len(data)}:0")

    def read(self, name: str) -> Buffer:
        """The bytes."""
        try:
            return self._files[name]
        except KeyError:
            raise CorruptError(f"{name} is missing from the store's memory") from None

    def stat(self, name: str) -> str | None:
        """The size; there is no inode and no clock here."""
        data = self._files.get(name)
        return None if data is None else f"0:{len(data)}:0"

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._files)

    def age(self, name: str) -> float:
        """Zero: files in memory have no time."""
        return 0.0

    def remove(self, name: str) -> None:
        """Forget the bytes; maps of them stay valid."""
        self._files.pop(name, None)


class DiskFolder:
    """A folder on disk, made on first use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def publish(self, name: str, chunks: Iterable[Buffer]) -> FileInfo:
        """Write the chunks as one new file; durable when this returns.

        The very same bytes under that name, as a crash leaves them before its commit, are replaced by these.

        Raises:
            StoreError: the disk is full, fails or may not be written. FileExistsError: the name is taken. The temporary
                file is removed, nothing is published.

        Cost: one write of all bytes, two fsyncs.
        """
        final = self._inside(name)
        with refused(final):
            return self._publish(final, chunks)

    def _publish(self, final: Path, chunks: Iterable[Buffer]) -> FileInfo:
        make_folder(self.path)
        temporary = self.path / f".{final.name}.{uuid.uuid4().hex}{TEMPORARY}"
        digest = hashlib.sha256()
        size = 0
        try:
            handle = _create(temporary)
            try:
                for chunk in chunks:
                    _write(handle, chunk)
                    digest.update(chunk)
                    size += len(chunk)
                _sync(handle)
            finally:
                os.close(handle)
            if final.exists() and sha256(self.read(final.name)) != digest.hexdigest():
                raise FileExistsError(f"{final} exists already; published names are never reused")
            _rename(temporary, final)
        except BaseException:
            discard(temporary)
            raise
        sync_name(final)
        where = self.stat(final.name)
        if where is None:
            raise CorruptError(f"{final} vanished right after it was written; is somebody else cleaning the store?")
        return FileInfo(final.name, size, digest.hexdigest(), where)

    def read(self, name: str) -> Buffer:
        """The file, memory-mapped read-only; empty files give empty bytes."""
        path = self._inside(name)
        try:
            # Without NONBLOCK a pipe in the place of a file would be waited for.
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _BESIDE_THE_FILE:
                raise StoreError(f"{path} cannot be read now: {error.strerror}") from error
            raise CorruptError(f"{path} cannot be read: {error.strerror}") from error
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode):
                raise CorruptError(f"{path} is no plain file")
            if found.st_size == 0:
                return b""
            return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(handle)

    def stat(self, name: str) -> str | None:
        """The text "inode:size:mtime_ns", or None when there is no regular file of that name."""
        path = self._inside(name)
        try:
            found = os.stat(path, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NOWHERE:
                return None
            raise with_errno(f"{path} cannot be looked at now: {error.strerror}", error) from error
        return f"{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"

    def names(self) -> list[str]:
        """All names, sorted; a folder that was never made is empty, and what is no folder holds nothing."""
        try:
            return sorted(entry.name for entry in os.scandir(self.path))
        except OSError as error:
            if error.errno in _NOWHERE:
                return []
            raise with_errno(f"{self.path} cannot be looked into now: {error.strerror}", error) from error

    def age(self, name: str) -> float:
        """Seconds between the file's last write and now, both by the file system's clock."""
        probe = self.path / f".{uuid.uuid4().hex}{TEMPORARY}"
        with refused(probe):
            handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                now = os.fstat(handle).st_mtime
            finally:
                os.close(handle)
                discard(probe)
            return now - os.stat(self._inside(name), follow_symlinks=False).st_mtime

    def remove(self, name: str) -> None:
        """Unlink; maps that readers hold stay valid."""
        path = self._inside(name)
        with refused(path, "it was not removed"):
            _unlink(path)

    def _inside(self, name: str) -> Path:
        """Where a file lies; its name may come from a catalog that somebody else made, and leads nowhere else."""
        if name != os.path.basename(name) or name in ("", ".", "..") or "\0" in name:
            raise CorruptError(f"{name!r} is no name of a file in {self.path}; it was left alone; restore a backup")
        return self.path / name


def as_path(value: str | os.PathLike[str]) -> Path:
    """The absolute path.

    Raises:
        ValidationError: no file can have that name: it is too long, or holds a NUL or a lone surrogate.
    """
    path = Path(value).absolute()
    try:
        os.lstat(path)
    except (ValueError, OSError) as error:
        if not isinstance(error, OSError) or error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            raise ValidationError(f"{str(path)[:200]!r}: no file can be called so: {error!s:.200}") from None
    return path


def make_folder(path: Path) -> None:
    """The folder exists, readable by its owner only, and its name is durable.

    Raises:
        StoreError: the disk refused, or there is something else.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    with refused(path):
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as error:
            what = f"a link to {os.readlink(path)}, where no folder is" if path.is_symlink() else "no folder"
            raise with_errno(f"{path} is {what}; it was left as it is: remove it, or choose another", error) from None
        try:
            _sync_folder(path.parent)
        except BaseException:  # whoever tries again must not find it there
            discard(path)
            raise


def discard(path: Path) -> None:
    """Remove a file or an empty folder that is of no use; what a failing disk keeps is litter, and swept later."""
    with contextlib.suppress(OSError):
        path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with refused(path):
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _sync(handle)
        finally:
            os.close(handle)


def publish_file(temporary: Path, final: Path) -> None:
    """Give a whole file its final, new name, durably."""
    sync_file(temporary)
    with refused(final):
        _rename(temporary, final)
        sync_name(final, "write it again", None)


def sync_name(final: Path, mend: str = "remove it and retry", back: Callable[[Path], object] | None = discard) -> None:
    """A name that was given just now is durable; else it is taken back: whoever tries again finds it free.

    Args:
        final: what has it.
        mend: what to do if it can be neither.
        back: takes it back; None where it stays.
    """
    try:
        _sync_folder(final.parent)
    except BaseException as error:
        if back is not None:
            with contextlib.suppress(OSError):
                back(final)
        left(final, error, mend)
        raise


def replace_file(path: Path, data: Buffer) -> None:
    """Make these bytes the file's, durably; whatever happens it has the old ones or the new ones, never a mixture.

    Raises:
        StoreError: the disk refused; the old bytes stay, unless it says that the new ones were written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
    with refused(path):
        try:
            handle = _create(temporary)
            try:
                _write(handle, data)
                _sync(handle)
            finally:
                os.close(handle)
            _rename(temporary, path)
        except BaseException:
            discard(temporary)
            raise
        sync_name(path, "write it again", None)


def publish_folder(temporary: Path, final: Path) -> None:
    """Give a folder of whole files its final, new name, durably.

    Raises:
        FileExistsError: the name is taken.
    """
    with refused(final):
        _sync_folder(temporary)
        if final.exists() or final.is_symlink():
            raise FileExistsError(f"{final} exists already; choose another name")
        _rename(temporary, final)
        sync_name(final, back=lambda final: _rename(final, temporary))


def left(final: Path, error: BaseException, mend: str) -> None:
    """Say so when what has its name already could not be made durable."""
    if isinstance(error, OSError) and final.exists():
        said = f"{final}: it was written, but the disk refused ({error.strerror or error}) to make that durable: "
        raise with_errno(f"{said}after a power cut all may be as before; {mend}", error) from error


def _exchange(first: Path, second: Path) -> bool:
    """renameat2(RENAME_EXCHANGE) of Linux; False where there is none."""
    import ctypes

    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return swap is not None and bool(swap(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)


def sha256(buffer: Buffer) -> str:
    """Hex digest of all bytes; about 1 GB/s."""
    return hashlib.sha256(buffer).hexdigest()


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _write(handle: int, chunk: Buffer) -> None:
    view = memoryview(chunk)
    while view:  # a write may be short: a signal, a quota, 2 GiB at most a call
        view = view[os.write(handle, view) :]


def _sync(handle: int) -> None:
    os.fsync(handle)


def _rename(source: Path, target: Path) -> None:
    os.rename(source, target)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
