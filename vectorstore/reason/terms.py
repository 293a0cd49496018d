"""Terms and steps as kinds of their own: they can be read, searched and carried like any record, and only be added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NoReturn, TypeVar

from vectorstore.errors import ConflictError
from vectorstore.reason.ledger import Ledger
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import EchoStep, EchoTerm, Record, Row, Where
from vectorstore.storage import Transaction
from vectorstore.storage.patching import stored_rows

L = TypeVar("L", EchoTerm, EchoStep)
_OWN = frozenset(Record.model_fields) - {"extra"}


class Links(Reasoner[L]):
    """What a form's chain is made of. `store.lattice` adds to it; what comes in otherwise has to fit."""

    def before(self, transaction: Transaction, rows: Sequence[Row], offset: int) -> None:
        """Nothing that was said is said otherwise.

        Raises:
            ConflictError: it would be.
        """
        said = [place for place, name in enumerate(self._table.schema.names) if name not in _OWN]
        stored = stored_rows(transaction.connection, self._table, [str(row[0]) for row in rows])
        for place, row in enumerate(rows, offset):
            if row[0] in stored and any(row[at] != stored[str(row[0])][1][at] for at in said):
                raise ConflictError(f"{self.name}[{place}]: {row[0]!r} is there already, and is only ever added to")

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """Their forms are brought up to them."""
        records = self._table.by_rows(transaction.connection, numbers).values()
        Ledger(self._sync).settle(transaction, list(dict.fromkeys(record.form for record in records)))

    def delete(
        self, ids: str | Iterable[str] | None = None, *, where: Where | None = None, dry_run: bool = False
    ) -> NoReturn:
        """They go with their form, and by themselves not at all.

        Raises:
            ConflictError: always.
        """
        raise ConflictError(f"{self.name}: they go with their form: store.lattice.delete(...); nothing was deleted")


class Terms(Links[EchoTerm]):
    """What has gathered in forms."""


class Steps(Links[EchoStep]):
    """What has changed forms."""
