"""A store that is read where its backups lie: the newest generation's catalog here, its files as they are needed.

    <cache>/<digest of the URL>/
      catalog.<digest>.sqlite           of each generation that somebody here has open
      embeddings/..., indexes/..., ...  files of generations, fetched when they are first read

A file becomes part of the cache when it has the size and digest that the manifest says; those of vectors are compared
with the catalog's digest as well before they are used. The cache holds nothing that cannot be fetched again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from vectorstore.backups.generations import pick
from vectorstore.backups.manifest import Entry, Manifest
from vectorstore.backups.vaults import FILES, GENERATIONS, Vault, vault_at
from vectorstore.errors import CorruptError, NewerFormat, NotFound, StoreError
from vectorstore.files import TEMPORARY, Buffer, DiskFolder, as_path, discard, make_folder
from vectorstore.storage import FORMAT
from vectorstore.sync.core import file_path

CATALOGS = "catalog.*.sqlite"
FOLDERS = ("embeddings", "indexes", "models", "trail")


class Mirror:
    """The newest generation at a URL.

    Args:
        url: where the backups are.
        cache: a folder for what is fetched; None for the user's own cache.

    Raises:
        NotFound: there is no backup. CorruptError, NewerFormat: it cannot be used. StoreError: no access.
    """

    def __init__(self, url: str, cache: str | os.PathLike[str] | None) -> None:
        self._vault: Vault = vault_at(url, create=False)
        base = as_path(cache) if cache is not None else user_cache()
        self.root = base / hashlib.sha256(url.encode()).hexdigest()[:16]
        self.entries: Mapping[str, Entry] = {}
        self._held: BinaryIO | None = None
        make_folder(self.root)
        self._manifest: Manifest | None = None
        self.catalog = self.root
        self.turn()

    def turn(self) -> bool:
        """Take the newest generation, if it is another one than before; whether it is."""
        newest = pick(self._vault, None)
        before = self._manifest
        if before is not None and newest.id == before.id:
            return False
        if before is not None and (newest.store != before.store or newest.seq < before.seq):
            raise StoreError(
                f"{self._vault.name}: the newest generation is of another store, or of an earlier commit; open it anew"
            )
        if newest.catalog_format != FORMAT:
            kind = NewerFormat if newest.catalog_format > FORMAT else StoreError
            raise kind(
                f"{self._vault.name}: {newest.id} has format {newest.catalog_format}, this vectorstore reads {FORMAT}; "
                "back it up with the same version"
            )
        name = f"catalog.{newest.catalog.sha256}.sqlite"
        entries = {entry.path: entry for entry in newest.files}
        held = self._hold(newest.catalog, name)
        self.close()
        self._held, self._manifest, self.entries, self.catalog = held, newest, entries, self.root / name
        self._clear()
        return True

    def folder(self, what: str, space: str) -> DiskFolder:
        """A folder of the store, of which the files are fetched when they are read."""
        return FetchedFolder(self, what, space)

    def bring(self, what: str, space: str, name: str) -> bool:
        """Fetch a file of the generation, if it has such a one and it is not here yet."""
        entry = self.entries.get(file_path(what, space, name))
        if entry is None:
            return False
        try:
            fetch(self._vault, entry, DiskFolder(self.root / what / space), name)
        except CorruptError as error:
            assert self._manifest is not None  # the entry is its
            if f"{self._manifest.id}.json" not in self._vault.names(GENERATIONS):
                raise StoreError(
                    f"{self._vault.name}: {self._manifest.id}, which is open, was removed there; call refresh()"
                ) from error
            raise
        return True

    def close(self) -> None:
        """Let go of the catalog."""
        if self._held is not None:
            self._held.close()

    def _hold(self, entry: Entry, name: str) -> BinaryIO:
        """A catalog, fetched if it is not here, and locked against being cleared away."""
        path = self.root / name
        while True:
            fetch(self._vault, entry, DiskFolder(self.root), name)
            with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as opened:
                held = opened.enter_context(path.open("rb"))
                fcntl.flock(held, fcntl.LOCK_SH)  # not SQLite's own locks: those are of fcntl
                if _has_name(held.fileno(), path):  # else another process has cleared it away before it was locked
                    opened.pop_all()
                    return held

    def _clear(self) -> None:
        """Remove catalogs that nobody has open; and when ours is the only one left, the files that it does not name."""
        for path in self.root.glob(CATALOGS):
            if path == self.catalog:
                continue
            with contextlib.suppress(FileNotFoundError):
                handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if not _has_name(handle, path):  # another process has cleared it away, and a third fetched it anew
                        return
                    path.unlink()
                except BlockingIOError:
                    return
                finally:
                    os.close(handle)
        for path in (path for what in FOLDERS for path in (self.root / what).rglob("*")):
            name = str(path.relative_to(self.root))
            if path.is_file() and TEMPORARY not in name and name not in self.entries:
                discard(path)


def _has_name(handle: int, path: Path) -> bool:
    """Whether an open file is still the one of that name.

    Raises:
        FileNotFoundError: there is none.
    """
    return os.path.samestat(os.fstat(handle), path.stat())


class FetchedFolder(DiskFolder):
    """A folder on disk, of which the files come when they are asked for."""

    def __init__(self, mirror: Mirror, what: str, space: str) -> None:
        super().__init__(mirror.root / what / space)
        self._mirror = mirror
        self._place = what, space

    def read(self, name: str) -> Buffer:
        """The file, memory-mapped; fetched if it is not here."""
        self.stat(name)
        return super().read(name)

    def stat(self, name: str) -> str | None:
        """As in a folder, once the file is fetched."""
        found = super().stat(name)
        if found is None and self._mirror.bring(*self._place, name):
            found = super().stat(name)
        return found


def fetch(vault: Vault, entry: Entry, folder: DiskFolder, name: str) -> None:
    """Bring a file of a generation into a folder, unless it is there.

    Raises:
        CorruptError: what came does not have its size and digest; nothing is kept.
    """
    if folder.stat(name) is not None:
        return
    with contextlib.suppress(FileExistsError):  # another process was faster, and what it has is not what came here
        folder.publish(name, bounded(vault, entry, f"{vault.name}: {entry.path}"))


def bounded(vault: Vault, entry: Entry, where: str) -> Iterator[bytes]:
    """The bytes of a file, never more than it should have, hashed on the way.

    Raises:
        CorruptError: they are not those of the manifest.
    """
    left, digest = entry.size, hashlib.sha256()
    for chunk in vault.chunks(FILES, entry.sha256):
        left -= len(chunk)
        if left < 0:
            break
        digest.update(chunk)
        yield chunk
    if left != 0 or digest.hexdigest() != entry.sha256:
        raise CorruptError(f"{where} does not have its size and digest; take another generation")


def user_cache() -> Path:
    """The user's folder for what can be fetched again.

    Raises:
        NotFound: there is none.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        raise NotFound("there is no home folder for a cache; name one: vs.open(url, cache=...)") from None
    return as_path(home) / "vectorstore"
