"""Places that several machines see: a folder on a disk that they share, or whatever fsspec opens by a URL.

What is kept there is named by its digest and never changed, so that whoever reads it can tell whether it is whole, and
writing it twice changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import Any, Protocol, cast

from vectorstore.errors import CorruptError, LibraryMissing, StoreError
from vectorstore.files import Buffer, DiskFolder, sha256


class Place(Protocol):
    """Bytes by their SHA-256."""

    uri: str
    """Where it is; `place_at` comes to the same from another process."""

    def keep(self, data: Buffer) -> str:
        """Write the bytes; their digest, which is their name. Nothing changes when they are there already."""

    def fetch(self, digest: str) -> Buffer:
        """The bytes of that digest.

        Raises:
            CorruptError: they are not there, or they are others.
        """

    def forget(self) -> None:
        """Remove the place with all that is in it."""


def place_at(uri: str) -> Place:
    """The place at a path or URL.

    Raises:
        StoreError: nothing opens such a URL. LibraryMissing: fsspec is needed.
    """
    if "://" in uri and not uri.startswith("file://"):
        return RemotePlace(uri)
    return FolderPlace(Path(uri.removeprefix("file://")))


def filesystem(url: str) -> tuple[Any, str]:
    """(fsspec's file system, the path in it) of a URL.

    Raises:
        StoreError: nothing opens such a URL. LibraryMissing: fsspec is needed.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise LibraryMissing(f'{url}: needs fsspec; pip install "vectorstore[remote]"') from None
    try:
        return cast("tuple[Any, str]", url_to_fs(url))
    except (ImportError, ValueError) as error:
        raise StoreError(f'{url}: {error}; pip install "vectorstore[remote]"') from error


class FolderPlace:
    """A folder, made on first use."""

    def __init__(self, path: Path) -> None:
        self.uri = str(path)
        self._path = path
        self._folder = DiskFolder(path)

    def keep(self, data: Buffer) -> str:
        """A new file that appears whole."""
        digest = sha256(data)
        if self._folder.stat(digest) is None:
            self._folder.publish(digest, [data])
        return digest

    def fetch(self, digest: str) -> Buffer:
        """The file, mapped."""
        return _verified(self._folder.read(digest), digest, self.uri)

    def forget(self) -> None:
        """The folder goes."""
        shutil.rmtree(self._path, ignore_errors=True)


class RemotePlace:
    """Objects under a URL."""

    def __init__(self, url: str) -> None:
        self.uri = url
        self._fs, self._root = filesystem(url)

    def keep(self, data: Buffer) -> str:
        """An object; one request for S3, and so it appears whole."""
        digest = sha256(data)
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(f"{self._root.rstrip('/')}/{digest}", bytes(data))
        except OSError as error:
            raise StoreError(f"{self.uri}: {error}") from error
        return digest

    def fetch(self, digest: str) -> Buffer:
        """The object, read whole."""
        try:
            data: bytes = self._fs.cat_file(f"{self._root.rstrip('/')}/{digest}")
        except OSError as error:
            raise CorruptError(f"{self.uri}/{digest} cannot be read: {error}") from error
        return _verified(data, digest, self.uri)

    def forget(self) -> None:
        """The objects go; what cannot be removed is litter."""
        with contextlib.suppress(OSError):
            self._fs.invalidate_cache()
            self._fs.rm(self._root, recursive=True)


def _verified(data: Buffer, digest: str, where: str) -> Buffer:
    if hashlib.sha256(data).hexdigest() != digest:
        raise CorruptError(f"{where}/{digest} does not have its digest")
    return data
