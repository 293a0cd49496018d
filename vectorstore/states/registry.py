"""The states of a store, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from vectorstore.collection import Collection
from vectorstore.errors import NotFound, ValidationError
from vectorstore.ids import check_id, from_micros
from vectorstore.records import Artifact
from vectorstore.states.envelope import Cipher, Compression
from vectorstore.states.storestate import KEEP, StoreState
from vectorstore.states.values import StateType
from vectorstore.storage import states as rows
from vectorstore.sync import Sync
from vectorstore.sync.erasing import finish, owe

_NAME_BYTES = 200
"""A copy of it elsewhere is a file of that name."""


@dataclass(frozen=True)
class StateInfo:
    """What is known of a state without loading it; `size` is that of all its saves."""

    name: str
    version: int
    saves: int
    size: int
    at: datetime


class States:
    """All states of a store."""

    def __init__(self, sync: Sync, artifacts: Collection[Artifact]) -> None:
        self._sync = sync
        self._artifacts = artifacts

    def open(
        self,
        name: str,
        *,
        keep: int = KEEP,
        types: Iterable[StateType] = (),
        compression: Compression = "auto",
        cipher: Cipher | None = None,
        searchable: bool = True,
    ) -> StoreState:
        """The state of a name, empty until it is loaded or filled.

        Args:
            name: 1..200 bytes of printable characters, no path separators.
            keep: how many versions can be restored, beside labelled ones.
            types: types of your own.
            compression: "auto" gzips what shrinks, "gzip", "none".
            cipher: encrypts every save; artifacts are then not searchable.
            searchable: write artifacts as records too, so that they are found by their vectors.
        """
        try:
            check_id(name)
            if len(name.encode("utf-8")) > _NAME_BYTES:
                raise ValueError(f"the name of a state has at most {_NAME_BYTES} bytes, got {len(name.encode())}")
        except (TypeError, ValueError) as error:
            raise ValidationError(f"state: {error}") from None
        options: dict[str, Any] = {"keep": keep, "types": types, "compression": compression, "cipher": cipher}
        return StoreState(self._sync, self._artifacts, name, searchable=searchable, **options)

    def list(self) -> tuple[StateInfo, ...]:
        """All states, by name."""
        with self._sync.catalog.read() as connection:
            found = rows.states(connection)
        return tuple(StateInfo(name, version, saves, size, from_micros(at)) for name, version, saves, size, at in found)

    def drop(self, name: str) -> int:
        """Erase a state, every version of it and its artifacts, for good; returns how many versions there were.

        Raises:
            NotFound: no such state.
        """
        with self._sync.catalog.write() as transaction:
            count = rows.forget_saves(transaction.connection, name)
            if not count:
                known = ", ".join(values[0] for values in rows.states(transaction.connection)) or "none"
                raise NotFound(f"no state {name!r}; there are: {known}")
            self._artifacts.delete(where={"state": name})
            owe(transaction)
            transaction.record("drop", state=name, versions=count)
        self._artifacts.purge(where={"state": name}, older_than=timedelta(0))
        finish(self._sync)
        return count

    def __contains__(self, name: object) -> bool:
        return any(known.name == name for known in self.list())
