"""Where copies of states go: a local folder, or anything that fsspec opens by a URL (S3, SFTP, memory, ...)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from vectorstore.errors import LibraryMissing, NotFound, StoreError, installing
from vectorstore.files import make_folder, replace_file


@runtime_checkable
class Target(Protocol):
    """A flat place for small files."""

    def put(self, name: str, data: bytes) -> None:
        """Keep the bytes under the name, whole or not at all; durable when this returns."""

    def get(self, name: str) -> bytes:
        """The bytes.

        Raises:
            NotFound: no such name.
        """

    def names(self) -> list[str]:
        """All names, sorted."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""


class FolderTarget:
    """A local folder, made on first use."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, name: str, data: bytes) -> None:
        """Temporary name, fsync, rename, fsync of the folder."""
        make_folder(self._path)
        replace_file(self._path / name, data)

    def get(self, name: str) -> bytes:
        """The bytes."""
        try:
            return (self._path / name).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{self._path / name} is not there") from None

    def names(self) -> list[str]:
        """All names but temporary ones."""
        return sorted(e.name for e in self._path.iterdir() if e.name[0] != ".") if self._path.is_dir() else []

    def remove(self, name: str) -> None:
        """Unlink."""
        (self._path / name).unlink(missing_ok=True)


class RemoteTarget:
    """Anything of fsspec; an object appears there when its upload is complete."""

    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise LibraryMissing(f"{url}: needs fsspec; {installing('remote')}") from None
        try:
            self._fs, root = cast("tuple[Any, str]", url_to_fs(url))
        except (ImportError, ValueError) as error:
            raise StoreError(f"{url}: {error}") from error
        self._url, self._root = url, root.rstrip("/")

    def put(self, name: str, data: bytes) -> None:
        """Upload, then compare the size that arrived."""
        path = f"{self._root}/{name}"
        try:
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(path, data)
            self._fs.invalidate_cache()
            arrived = int(self._fs.info(path)["size"])
        except OSError as error:
            raise StoreError(f"{self._url}: {name} could not be put there: {error}") from error
        if arrived != len(data):
            raise StoreError(f"{self._url}: {arrived} of {len(data)} bytes of {name} arrived; try again")

    def get(self, name: str) -> bytes:
        """Download."""
        try:
            return bytes(self._fs.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            raise NotFound(f"{self._url}: {name} is not there") from None
        except OSError as error:
            raise StoreError(f"{self._url}: {name} cannot be read: {error}") from error

    def names(self) -> list[str]:
        """All names; a folder that was never made is empty."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._root, detail=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StoreError(f"{self._url}: {error}") from error
        return sorted(str(each["name"]).rsplit("/", 1)[-1] for each in found if each["type"] == "file")

    def remove(self, name: str) -> None:
        """Remove the object."""
        try:
            self._fs.rm_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(f"{self._url}: {name} cannot be removed: {error}") from error


def target_at(place: str | os.PathLike[str] | Target) -> Target:
    """The target at a path or URL; a target of the caller's own is taken as it is.

    Raises:
        LibraryMissing: fsspec is needed. StoreError: it knows no such place.
    """
    if isinstance(place, Target):
        return place
    text = os.fspath(place)
    if "://" in text and not text.startswith("file://"):
        return RemoteTarget(text)
    return FolderTarget(Path(text.removeprefix("file://")).absolute())
