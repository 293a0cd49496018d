"""A state's values in and out: files for other programs, copies in other places."""

from __future__ import annotations

import os
from pathlib import Path

from vectorstore.errors import NotFound, ValidationError
from vectorstore.files import make_folder, replace_file
from vectorstore.states.codec import Codec, dumps
from vectorstore.states.envelope import seal, unseal
from vectorstore.states.state import State, members
from vectorstore.states.targets import Target, target_at


class PortableState(State):
    """A state whose values can be written elsewhere and taken from there; none of this saves it."""

    def export(self, path: str | os.PathLike[str], *, plain: bool = False) -> None:
        """Write the values here to a file, which `vs.StateFile` reads.

        Args:
            path: replaced as a whole if it is there.
            plain: as bare JSON without a header, for programs that know nothing of it.

        Raises:
            Unserialisable, ValidationError: plain and encrypted at once.
        """
        if plain and self._cipher is not None:
            raise ValidationError(f"{self.name}: a plain file cannot be encrypted; export with plain=False")
        with self.lock:
            if plain:
                codec = Codec(self._types, plain=True)
                data = dumps({name: codec.pack(item, f"{self.name}[{name!r}]") for name, item in self._values.items()})
            else:
                data = seal({"state": self._packed()}, compression=self._compression, cipher=self._cipher)
        target = Path(os.path.realpath(path))
        make_folder(target.parent)
        replace_file(target, data)

    def read(self, path: str | os.PathLike[str]) -> None:
        """Replace the values here by those of a file, plain or not; nothing is saved yet.

        Raises:
            CorruptError, WrongKey, NewerFormat: the values stay.
        """
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise NotFound(f"{os.fspath(path)!r} is not there") from None
        self._given(data, os.fspath(path))

    def _given(self, data: bytes, where: str) -> None:
        values, problems = self._unpacked(members(unseal(data, where, self._cipher, strict=False), where))
        with self.lock:
            self._values, self.problems = values, problems

    def push(self, place: str | os.PathLike[str] | Target) -> str:
        """Copy the values here to a folder, an fsspec URL or a `Target`, whole and sealed; returns the copy's name."""
        with self.lock:
            data = seal({"state": self._packed()}, compression=self._compression, cipher=self._cipher)
            there = self._there()
            number = 0 if there is None else self._number(there)
        name = f"{Path(self.name).name}.{number:010d}.state"
        target_at(place).put(name, data)
        return name

    def pull(self, place: str | os.PathLike[str] | Target, name: str | None = None) -> str:
        """Replace the values here by a copy that was pushed, the newest one if none is named; returns its name.

        Nothing is saved yet.

        Raises:
            NotFound: no copy. CorruptError, WrongKey: the values stay.
        """
        target = target_at(place)
        if name is None:
            mine = Path(self.name).name
            copies = [each for each in target.names() if each[: -len(".0000000000.state")] == mine]
            if not copies:
                raise NotFound(f"{self.name}: no copy there")
            name = max(copies)
        data = target.get(name)
        found = unseal(data, name, self._cipher)
        values, problems = self._unpacked(members(found, name))
        with self.lock:
            self._values, self.problems = values, problems
        return name
