"""Where backups lie: a local folder, or anything that fsspec opens by a URL (S3, memory, SFTP, ...).

    files/<sha256>                 each file of any generation, once
    generations/<id>.json          the manifests; one exists only when all of its files do
    heads/<number>.json            on S3: which manifests count, and who writes here (`heads`)

Files are put before the manifest that names them and removed after it, so a crash leaves at worst files that nothing
names. A local folder is written like a store: temporary name, fsync, rename. Elsewhere an object appears when its
upload is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from vectorstore import files as disk
from vectorstore.backups.heads import CONDITIONAL, Heads
from vectorstore.backups.manifest import CATALOG, Entry
from vectorstore.errors import CorruptError, StoreError
from vectorstore.files import TEMPORARY, Buffer, DiskFolder, as_path, make_folder
from vectorstore.places import filesystem
from vectorstore.storage.lock import WriteLock

FILES, GENERATIONS = "files", "generations"
LOCK = "backup.lock"
CHUNK = 8 * 1024 * 1024
_TIMEOUT = 30.0
log = logging.getLogger("vectorstore")


class Vault(Protocol):
    """A place with two flat folders."""

    name: str
    locks: bool
    """Whether `alone` keeps others away."""

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A local folder for a moment, on the vault's own disk where it has one."""

    def adopt(self, folder: str, path: Path) -> tuple[Entry, bool]:
        """Keep a local file of a scratch folder under its digest; whether it was not there yet."""

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else writes here meanwhile, where the place can tell."""

    def names(self, folder: str) -> dict[str, int]:
        """Name -> size of what is whole there."""

    def put(self, folder: str, name: str, buffer: Buffer, digest: str) -> None:
        """Keep the bytes under a new name.

        Raises:
            CorruptError: they do not have the digest; nothing is kept.
        """

    def publish(self, name: str, body: bytes, digest: str) -> None:
        """Keep a manifest; from now on its generation counts.

        Raises:
            StoreBusy: somebody else holds the place by now; nothing was published.
        """

    def withdraw(self, names: Sequence[str]) -> None:
        """Remove manifests; their generations count no more before the first of them goes."""

    def chunks(self, folder: str, name: str) -> Iterator[bytes]:
        """The bytes of a file, in order."""

    def remove(self, folder: str, name: str) -> None:
        """Remove a file; one that is not there is no error."""

    def litter(self, older_than: float) -> list[tuple[str, str]]:
        """(folder, name) of what crashes left half, or may have left."""


def vault_at(place: str | os.PathLike[str], *, create: bool) -> Vault:
    """The vault at a path or URL.

    Args:
        place: a folder, `file://`, or a URL such as s3://bucket/prefix, with fsspec and what it needs installed.
        create: make a local folder that is not there.

    Raises:
        StoreError: there is none. LibraryMissing: fsspec is needed.
    """
    text = os.fspath(place)
    if "://" in text and not text.startswith("file://"):
        return RemoteVault(text)
    path = as_path(text.removeprefix("file://"))
    if not create and not (path / GENERATIONS).is_dir():
        raise StoreError(f"{path} holds no backups; make one with store.backup({str(path)!r})")
    if create:
        strangers = set(os.listdir(path)) - {FILES, GENERATIONS, LOCK} if path.is_dir() else set()
        if strangers:
            raise StoreError(f"{path} holds other things ({min(strangers)}, ...); choose a folder for backups alone")
        for folder in (FILES, GENERATIONS):
            make_folder(path / folder)
    return DiskVault(path)


class DiskVault:
    """A local folder; one process at a time writes to it."""

    locks = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Beside the files, so that what is made there is renamed and not copied."""
        with disk.refused(self.path):
            folder = Path(tempfile.mkdtemp(prefix=".copy-", suffix=TEMPORARY, dir=self.path / FILES))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def adopt(self, folder: str, path: Path) -> tuple[Entry, bool]:
        """Fsync, hash meanwhile, rename."""
        with ThreadPoolExecutor(1, "vectorstore-digest") as pool:
            found = pool.submit(_entry, path)
            disk.sync_file(path)
        entry = found.result()
        final = self.path / folder / entry.sha256
        if final.exists() and final.stat().st_size == entry.size:
            return entry, False
        disk.publish_file(path, final)
        return entry, True

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """The folder's lock is held."""
        lock = WriteLock(self.path / LOCK, _TIMEOUT)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()
            lock.close()

    def names(self, folder: str) -> dict[str, int]:
        """Name -> size; no temporary ones."""
        sizes, here = {}, self.path / folder
        with disk.refused(here), os.scandir(here) as found:
            for each in found:
                with contextlib.suppress(FileNotFoundError):  # another process has removed it just now
                    if TEMPORARY not in each.name:
                        sizes[each.name] = each.stat().st_size
        return sizes

    def put(self, folder: str, name: str, buffer: Buffer, digest: str) -> None:
        """Write, fsync and hash at once: hashing leaves the interpreter free, and the disk waits for nobody."""
        here = self.path / folder
        temporary = here / f".{uuid.uuid4().hex}{TEMPORARY}"
        with disk.refused(here / name):
            try:
                with ThreadPoolExecutor(1, "vectorstore-digest") as pool:
                    found = pool.submit(_sha256, buffer)
                    handle = disk._create(temporary)
                    try:
                        view = memoryview(buffer)
                        for start in range(0, len(view), CHUNK):
                            disk._write(handle, view[start : start + CHUNK])
                        disk._sync(handle)
                    finally:
                        os.close(handle)
                    if found.result() != digest:
                        raise CorruptError("its bytes are not those that the catalog vouches for")
                disk._rename(temporary, here / name)
            except BaseException:
                disk.discard(temporary)
                raise
            disk.sync_name(here / name, "back up again")

    def publish(self, name: str, body: bytes, digest: str) -> None:
        """Under the lock a manifest that is there counts; its files have durable names by then, whoever wrote them."""
        with disk.refused(self.path):
            disk._sync_folder(self.path / FILES)
        self.put(GENERATIONS, name, body, digest)

    def withdraw(self, names: Sequence[str]) -> None:
        """One after the other, durably: what they name may be removed right after."""
        for name in names:
            self.remove(GENERATIONS, name)
        if names:
            here = self.path / GENERATIONS
            with disk.refused(here, "no file was removed"):
                disk._sync_folder(here)

    def chunks(self, folder: str, name: str) -> Iterator[bytes]:
        """The file, some megabytes at a time."""
        try:
            handle = os.open(self.path / folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise CorruptError(f"{self.path / folder / name} cannot be read: {error.strerror}") from error
        try:
            while chunk := os.read(handle, CHUNK):
                yield chunk
        except OSError as error:
            raise CorruptError(f"{self.path / folder / name} cannot be read: {error.strerror}") from error
        finally:
            os.close(handle)

    def remove(self, folder: str, name: str) -> None:
        """Unlink; a scratch folder goes whole."""
        path = self.path / folder / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with disk.refused(path, "it was not removed"):
                disk._unlink(path)

    def litter(self, older_than: float) -> list[tuple[str, str]]:
        """Temporary files; under the lock nobody is writing one."""
        found = [(folder, name) for folder in (FILES, GENERATIONS) for name in DiskFolder(self.path / folder).names()]
        return [(folder, name) for folder, name in found if TEMPORARY in name]


class RemoteVault:
    """Anything of fsspec. Where it has no conditional writes, let one process at a time back up to one place."""

    def __init__(self, url: str) -> None:
        self.name = url
        self._fs, self._root = filesystem(url)
        self.locks = url.partition("://")[0] in CONDITIONAL
        self._heads = Heads(self._fs, self._root, url)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """In the system's temporary folder."""
        with tempfile.TemporaryDirectory(prefix="vectorstore-") as folder:
            yield Path(folder)

    def adopt(self, folder: str, path: Path) -> tuple[Entry, bool]:
        """Upload."""
        entry = _entry(path)
        if self.names(folder).get(entry.sha256) == entry.size:
            return entry, False
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            self.put(folder, entry.sha256, buffer, entry.sha256)
        return entry, True

    def _path(self, folder: str, name: str) -> str:
        return f"{self._root.rstrip('/')}/{folder}/{name}"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """By the chain of heads, where there are conditional writes."""
        with self._told(), contextlib.ExitStack() as held:
            if self.locks and self._heads.latest() is None and not self._heads.honoured():
                log.warning("%s: has no conditional writes; let one process at a time back up there", self.name)
                self.locks = False
            if self.locks:
                held.enter_context(self._heads.held(self._listed(GENERATIONS)))
            yield

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What the other side refuses is an error of ours."""
        try:
            yield
        except (StoreError, CorruptError):
            raise
        except OSError as error:
            raise StoreError(f"{self.name}: {error}") from error

    def names(self, folder: str) -> dict[str, int]:
        """Name -> size; a folder that was never made is empty, a manifest that no head names is not there."""
        found = self._listed(folder)
        if folder != GENERATIONS or not self.locks:
            return found
        with self._told():
            head = self._heads.latest()
        return found if head is None else {name: found[name] for name in head.generations if name in found}

    def _listed(self, folder: str) -> dict[str, int]:
        with self._told():
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(self._path(folder, "").rstrip("/"), detail=True)
            except FileNotFoundError:
                return {}
        return {
            str(each["name"]).rsplit("/", 1)[-1]: int(each["size"] or 0) for each in found if each["type"] == "file"
        }

    def put(self, folder: str, name: str, buffer: Buffer, digest: str) -> None:
        """Upload, then compare the size that arrived."""
        if _sha256(buffer) != digest:
            raise CorruptError("its bytes are not those that the catalog vouches for")
        path = self._path(folder, name)
        view = memoryview(buffer)
        with self._told():
            self._fs.makedirs(self._path(folder, "").rstrip("/"), exist_ok=True)
            with self._fs.open(path, "wb", block_size=CHUNK) as stream:
                for start in range(0, len(view), CHUNK):
                    stream.write(bytes(view[start : start + CHUNK]))
            self._fs.invalidate_cache()
            arrived = int(self._fs.info(path)["size"])
        if arrived != len(view):
            raise StoreError(f"{self.name}: {arrived} of {len(view)} bytes of {folder}/{name} arrived; try again")

    def publish(self, name: str, body: bytes, digest: str) -> None:
        """An object, then the head that names it."""
        self.put(GENERATIONS, name, body, digest)
        if self.locks:
            with self._told():
                self._heads.change(add=name)

    def withdraw(self, names: Sequence[str]) -> None:
        """A head without them, then the objects."""
        if self.locks and names:
            with self._told():
                self._heads.change(drop=names)
        for name in names:
            self.remove(GENERATIONS, name)

    def chunks(self, folder: str, name: str) -> Iterator[bytes]:
        """Downloaded some megabytes at a time."""
        try:
            with self._fs.open(self._path(folder, name), "rb", block_size=CHUNK) as stream:
                while chunk := stream.read(CHUNK):
                    yield chunk
        except OSError as error:
            raise CorruptError(f"{self.name}: {folder}/{name} cannot be read: {error}") from error

    def remove(self, folder: str, name: str) -> None:
        """Remove the object, if the place is still ours."""
        with self._told(), contextlib.suppress(FileNotFoundError):
            if self.locks:
                self._heads.still()
            self._fs.rm_file(self._path(folder, name))

    def litter(self, older_than: float) -> list[tuple[str, str]]:
        """What no head names; files old enough that no running backup can have put them, where nobody can tell more."""
        if self.locks:
            counting = self.names(GENERATIONS)
            return [(GENERATIONS, name) for name in self._listed(GENERATIONS) if name not in counting]
        found = []
        for name in self.names(FILES):
            with contextlib.suppress(NotImplementedError, FileNotFoundError):
                if time.time() - self._fs.modified(self._path(FILES, name)).timestamp() >= older_than:
                    found.append((FILES, name))
        return found


def _sha256(buffer: Buffer) -> str:
    """In parts: a hash of the whole map at once would read it all before the first byte is written."""
    digest, view = hashlib.sha256(), memoryview(buffer)
    for start in range(0, len(view), CHUNK):
        digest.update(view[start : start + CHUNK])
    return digest.hexdigest()


def _entry(path: Path) -> Entry:
    """The catalog's entry, of a copy that no SQLite has open."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Entry(path=CATALOG, size=os.fstat(file.fileno()).st_size, sha256=digest)
