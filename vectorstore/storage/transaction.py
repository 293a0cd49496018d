"""A running write transaction, and what is known of it beside its statements."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from vectorstore.errors import VectorstoreError
from vectorstore.storage.connection import Connection

First = Callable[[Connection], None]
"""What is done with a transaction's connection before its first write."""
Undo = Callable[[], None]
"""Takes back what was prepared outside of a transaction."""
log = logging.getLogger("vectorstore")


@dataclass(frozen=True)
class Done:
    """One thing that a transaction does, for the trail.

    Attributes:
        operation: "add", "delete", "compact", ...
        kind: whose records; None for none or all.
        rows: numbers of the rows that it concerns. Not ids: an id can hold text, which a purge must be able to erase.
        details: plain data, nothing of any record.
    """

    operation: str
    kind: str | None
    rows: list[int]
    details: dict[str, object]


@dataclass
class Transaction:
    """A running write transaction. `after` runs once the commit is durable; `undo` when it did not happen."""

    connection: Connection
    seq: int
    now: int
    after: list[Callable[[], object]] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)
    notes: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)

    def __post_init__(self) -> None:
        """What the connection has changed so far."""
        self.changes = self.connection.changed

    def record(self, operation: str, kind: str | None = None, rows: Iterable[int] = (), **details: object) -> None:
        """Say what is done, for the trail; written in the same commit."""
        self.done.append(Done(operation, kind, list(rows), details))

    def quiet(self) -> None:
        """What was changed so far is nothing that the trail tells: a lease was prolonged, a counter went on."""
        self.changes = self.connection.changed

    def mark(self) -> tuple[int, int, int, int]:
        """Where a part of the transaction begins; the first number is the place in `undo`."""
        return len(self.undo), len(self.after), len(self.notes), len(self.done)

    def back_to(self, mark: tuple[int, int, int, int]) -> None:
        """The part that began there was rolled back, and what it prepared is undone."""
        undo, after, notes, done = mark
        del self.undo[undo:], self.after[after:], self.notes[notes:], self.done[done:]


def run(actions: Sequence[Callable[[], object]]) -> None:
    """Tidy up after a decided transaction; a file that cannot be unlinked is litter, swept later, and no failure."""
    for action in actions:
        try:
            action()
        except (OSError, VectorstoreError) as error:
            log.warning("tidying up after a transaction: %s; what is left of it is tidied up later", error)
