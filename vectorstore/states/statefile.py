"""A state in a file of its own: replaced as a whole, kept beside its predecessor, never overwritten when damaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

from vectorstore.contracts import Watch, switched_on
from vectorstore.errors import CorruptError
from vectorstore.files import discard, make_folder, publish_file, replace_file
from vectorstore.ids import new_id, utc_now
from vectorstore.states.codec import Codec, dumps
from vectorstore.states.envelope import Cipher, Compression, seal, unseal
from vectorstore.states.hold import held
from vectorstore.states.portable import PortableState
from vectorstore.states.state import Moved, Saved, Tree, members
from vectorstore.states.values import StateType
from vectorstore.storage.lock import WriteLock

_TIMEOUT = 30.0


class StateFile(PortableState):
    """Named values that are saved in a file.

    Beside it lie `NAME.previous`, the save before, and `NAME.lock`; a damaged file is renamed to `NAME.damaged-ID`.
    The files of the source system (bare JSON with `__type__` tags) are read as they are, gzipped ones too. Folders are
    made as needed.

    Args:
        path: of the file; relative to the working directory of now, whatever it is later.
        plain: write bare JSON without a header, for other programs; nothing proves then that it is whole.
        types: types of your own.
        compression: "auto" gzips what shrinks; ignored when plain.
        cipher: encrypts.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        plain: bool = False,
        types: Iterable[StateType] = (),
        compression: Compression = "auto",
        cipher: Cipher | None = None,
    ) -> None:
        self.path = Path(os.path.realpath(path))
        super().__init__(str(self.path), types=types, compression=compression, cipher=cipher)
        self._sync = SimpleNamespace(watch=Watch())  # the contracts of `StoreState`'s verbs hold here too
        self._sync.watch.contracts = switched_on(None)
        self._plain = plain
        if plain:
            self._codec = Codec(self._types, plain=True)
        self._version = 0

    def _write(
        self,
        tree: Tree,
        packed: Tree,
        parent: Tree | None,
        there: str | None,
        label: str | None,
        overruled: tuple[str, ...],
    ) -> Saved:
        whole = {"state": tree}
        data = dumps(tree) if self._plain else seal(whole, compression=self._compression, cipher=self._cipher)
        digest = hashlib.sha256(data).hexdigest()
        make_folder(self.path.parent)
        with self._locked():
            if self._there() != there:
                raise Moved
            if there is not None:
                self._keep_previous()
            self._attempt = (digest, tree, packed)
            replace_file(self.path, data)
        self._settle(digest)
        return Saved(0, "full", len(data), overruled)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else gives the file's name to other bytes meanwhile, in this process or another."""
        lock = WriteLock(self.path.with_name(self.path.name + ".lock"), _TIMEOUT)
        try:
            with lock:
                yield
        finally:
            lock.close()

    def _keep_previous(self) -> None:
        """A second name for the file that is there, which it keeps when the first is given to another."""
        temporary = self.path.with_name(f".{self.path.name}.{new_id(utc_now())}.tmp")
        try:
            os.link(self.path, temporary)
        except OSError:  # a file system without hard links
            replace_file(self._previous, self.path.read_bytes())
            return
        try:
            publish_file(temporary, self._previous)
        finally:
            discard(temporary)  # a rename between two names of one file does nothing

    @property
    def _previous(self) -> Path:
        return self.path.with_name(self.path.name + ".previous")

    def _there(self) -> str | None:
        data = self._bytes(self.path)
        digest = None if data is None else hashlib.sha256(data).hexdigest()
        self._settle(digest)
        return digest

    def _bytes(self, path: Path) -> bytes | None:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO is not waited for
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CorruptError(f"{path}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise CorruptError(f"{path}: is no file")
        with open(handle, "rb") as file:
            return file.read()

    def _read(self, at: str) -> Tree:
        data = self._bytes(self.path)
        if data is None or hashlib.sha256(data).hexdigest() != at:
            raise Moved
        return self._tree_in(data, self.path)

    def _number(self, at: str) -> int:
        return 0

    def _tree_in(self, data: bytes, path: Path) -> Tree:
        if not data:
            raise CorruptError(f"{path}: is empty")
        return members(unseal(data, str(path), self._cipher), str(path))

    def _newest(self, fallback: bool) -> tuple[str, Tree] | None:
        data = self._bytes(self.path)
        if data is None:
            return self._before("is missing") if fallback and self._bytes(self._previous) is not None else None
        digest = hashlib.sha256(data).hexdigest()
        try:
            return digest, self._tree_in(data, self.path)
        except CorruptError as error:
            damage = error
        said = self._set_aside(digest, damage)
        if said is None:
            return self._newest(fallback)
        if fallback and (found := self._before(str(damage))) is not None:
            return found
        mend = f"{self._previous} is the save before" if self._previous.exists() else "restore a backup of it"
        raise CorruptError(f"{damage}; {said}; {mend}")

    def _before(self, why: str) -> tuple[str, Tree] | None:
        """The save before, when it is whole; its own token names no file that is there, so a save writes the file."""
        data = self._bytes(self._previous)
        if data is None:
            return None
        with contextlib.suppress(CorruptError):
            return f"previous, for {why}", self._tree_in(data, self._previous)
        return None

    def _set_aside(self, digest: str, damage: CorruptError) -> str | None:
        """Rename the file that was found damaged, and say where it is; None when somebody has saved another since."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{new_id(utc_now())}")
        try:
            with self._locked():  # what was read without the lock may have been replaced: that is a good save
                data = self._bytes(self.path)
                if data is None:
                    return "somebody else set it aside"
                if hashlib.sha256(data).hexdigest() != digest:
                    return None
                publish_file(self.path, aside)
        except OSError as refused:
            raise CorruptError(f"{damage}; it could not be set aside ({refused}), and stays") from damage
        return f"it was set aside as {aside}"

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Nobody else holds the file meanwhile, in this process or another."""
        return held(self.path.with_name(self.path.name + ".hold"), str(self.path))
