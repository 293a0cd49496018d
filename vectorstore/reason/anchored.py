"""Forms by their anchors, and what holds for every write of one."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import pydantic

from vectorstore.errors import NotFound, ValidationError
from vectorstore.reason.ledger import Ledger
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import EchoForm, EchoTerm, Record, Row, Where
from vectorstore.records.lattice import form_id
from vectorstore.records.record import readable
from vectorstore.results import Page
from vectorstore.storage import Transaction


class Anchored(Reasoner[EchoForm]):
    """Forms, found by anchor and context."""

    _former: tuple[Transaction | None, dict[str, Row]] = (None, {})

    def fetch(self, anchor: str, context: str = "default") -> EchoForm | None:
        """The form with an anchor, or None."""
        return self.get(form_id(anchor, context))

    def form(self, anchor: str, context: str = "default") -> EchoForm:
        """The form with an anchor.

        Raises:
            NotFound: there is none.
        """
        found = self.fetch(anchor, context)
        if found is None:
            raise self._missing(anchor, context)
        return found

    def terms(self, anchor: str, context: str = "default") -> list[EchoTerm]:
        """All terms of a form, in the order in which they came.

        Raises:
            NotFound: no such form.
        """
        with self._sync.catalog.read() as connection:
            return Ledger(self._sync).terms_of(connection, self.form(anchor, context).id)

    def recent(
        self, limit: int = 10, *, domain: str | None = None, phase: str | None = None, where: Where | None = None
    ) -> Page[EchoForm]:
        """Forms, the last updated first.

        Args:
            limit: at most so many.
            domain: only of this one.
            phase: only in this one.
            where: a filter besides, such as {"created_at__gte": "2026-01-01T00:00:00Z"}.
        """
        given = {key: value for key, value in (("domain", domain), ("phase", phase)) if value is not None}
        parts = [part for part in (given, where) if part]
        return self.find({"and": parts} if len(parts) > 1 else dict(*parts), order="-updated_at", limit=limit)

    def before(self, transaction: Transaction, rows: Sequence[Row], offset: int) -> None:
        """A form's id follows from its anchor.

        Raises:
            ValidationError: it has another.
        """
        anchor = self._table.schema.names.index("anchor")
        for place, row in enumerate(rows, offset):
            if row[0] != form_id(str(row[anchor]), str(row[1])):
                raise ValidationError(
                    f"{self.name}[{place}].id: {row[0]!r} does not follow from the anchor {row[anchor]!r}; leave it out"
                )
        kept, rows_before = self._former
        if kept is not transaction:
            rows_before = {}
            transaction.undo.append(self._forget)  # a call within a bigger transaction may fail by itself
        self._former = (transaction, {**rows_before, **Ledger(self._sync).former(transaction, rows)})

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """Forms keep what has gathered in them, and a change of their state is a step."""
        kept, former = self._former
        self._forget()
        Ledger(self._sync).adopt(transaction, numbers, former if kept is transaction else {})

    def _forget(self) -> None:
        self._former = (None, {})

    def _missing(self, anchor: str, context: str) -> NotFound:
        inside = "" if context == "default" else f" in the context {context!r}"
        return NotFound(f"{self.name}: no form has the anchor {anchor!r}{inside}")


def checked(kind: type[Record], field: str, value: Any, where: str) -> float:
    """A number as a field of a kind would take it.

    Raises:
        ValidationError: it would not; the message starts with `where`.
    """
    try:
        return float(_adapter(kind, field).validate_python(value))
    except pydantic.ValidationError as error:
        raise readable(error, where) from None


@functools.cache
def _adapter(kind: type[Record], field: str) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(kind.model_fields[field].rebuild_annotation())
