"""How forms change: their terms, their steps and their rows, together in one transaction.

Every change keeps the chain. What comes through the ordinary verbs (`add`, `upsert`, `update`, imports, restores) is
looked at by the guards of the kinds, which call `adopt` and `settle`; `resolve` and its like write rows directly.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vectorstore.errors import CorruptError, ValidationError
from vectorstore.ids import from_micros, new_id, to_micros
from vectorstore.reason import chain
from vectorstore.reason.chain import STATE
from vectorstore.reason.gathering import AT, KEPT, PATCHED, Gathering
from vectorstore.records import EchoForm, EchoStep, EchoTerm, Row, Value
from vectorstore.records.where import Term
from vectorstore.references import make_contexts
from vectorstore.storage import Connection, RecordTable, Transaction
from vectorstore.storage.lattice import LatticeTables
from vectorstore.storage.patching import numbered_rows, patch, stored_rows
from vectorstore.sync import Sync, expire

SUMS = ("raw_sum", "intensity_sum", "decayed_at", "ahead")
_PAGE = 10_000
_FORMS = 1_000


class Ledger:
    """Forms, terms and steps of a store, as they are written."""

    def __init__(self, sync: Sync) -> None:
        self._sync = sync
        self.forms: RecordTable[EchoForm] = sync.table(EchoForm.table)
        self.terms: RecordTable[EchoTerm] = sync.table(EchoTerm.table)
        self.steps: RecordTable[EchoStep] = sync.table(EchoStep.table)
        self.tables = LatticeTables(self.forms, self.terms, self.steps)

    # -- opening and writing ---------------------------------------------------------------------------------------

    def open(self, transaction: Transaction, ids: Iterable[str]) -> dict[str, Gathering]:
        """Id -> the form as it is now, for those that are live; expired ones are deleted first."""
        expire(self._sync, transaction, self.forms)
        rows = stored_rows(transaction.connection, self.forms, ids)
        return {name: Gathering(row, values, transaction.now) for name, (row, values) in rows.items()}

    def begin(self, transaction: Transaction, forms: Sequence[EchoForm]) -> dict[str, Gathering]:
        """Id -> a new form, not stored yet; whether its id is free is for the caller to know."""
        rows = []
        for form in forms:
            values = list(self.forms.schema.encode(form, self.forms.name))
            values[0] = form.derived_id()
            for name, value in _nothing(chain.began(form.anchor, form.context, chain.state_of(form))).items():
                values[AT[name]] = value
            rows.append(values)
        return self.begin_rows(transaction, rows)

    def begin_rows(self, transaction: Transaction, rows: Sequence[list[Value]]) -> dict[str, Gathering]:
        """The same for rows that are encoded and have their signature."""
        now, begun = transaction.now, {}
        if rows:
            make_contexts(self._sync, transaction, dict.fromkeys(str(values[1]) for values in rows))
        for values in rows:
            made = values[AT["created_at"]]
            values[AT["version"]] = 1
            values[AT["created_at"]] = now if made is None else made
            values[AT["updated_at"]] = now
            values[AT["deleted_at"]] = None
            begun[str(values[0])] = Gathering(None, values, now)
        return begun

    def write(self, transaction: Transaction, gatherings: Iterable[Gathering], operation: str) -> None:
        """Store new forms, what changed of old ones, and the terms of both."""
        connection, some = transaction.connection, list(gatherings)
        old = [each for each in some if each.row is not None]
        for each in old:
            each.touched()
        patch(connection, self.forms, [(each.row or 0, tuple(each.values)) for each in old], PATCHED)
        numbers = [each.row or 0 for each in old]
        if len(old) < len(some):
            numbers += self._insert(connection, {each.id: tuple(each.values) for each in some if each.row is None})
        terms = [row for each in some for row in each.added]
        if terms:
            self.terms.insert(connection, self.terms.next_row(connection), terms)
        details: dict[str, object] = {"kind": self.forms.name, "operation": operation, "records": len(some)}
        transaction.notes.append(("commit", {**details, "terms": len(terms), "vectors": 0}))
        if some:
            transaction.record(operation, self.forms.name, numbers, terms=len(terms))

    def _insert(self, connection: Connection, new: Mapping[str, Row]) -> list[int]:
        """Store new forms, in the place of deleted ones with their ids; returns their rows."""
        gone = self.forms.existing(connection, new)
        if gone:
            stamps = self.forms.stamps(connection, [row for row, _ in gone.values()])
            again = [(row, _with(new[name], version=stamps[row][0] + 1)) for name, (row, _) in gone.items()]
            self.forms.replace(connection, again, text_changed=False)
        fresh = [values for name, values in new.items() if name not in gone]
        first = self.forms.next_row(connection)
        self.forms.insert(connection, first, fresh)
        return [*(row for row, _ in gone.values()), *range(first, first + len(fresh))]

    # -- steps -----------------------------------------------------------------------------------------------------

    def step(
        self,
        transaction: Transaction,
        said: Sequence[tuple[Gathering, str | None, dict[str, Any], dict[str, Any] | None]],
    ) -> None:
        """Add steps, and the beginnings of forms that had none; the forms' own rows are written by the caller.

        Args:
            transaction: that writes.
            said: the form, the edge (None for the form's own state), what is so from now on, and the state that the
                form began with when it has no steps yet; None for the state that it has.
        """
        now = transaction.now
        ids = list({each.id for each, _, _, _ in said})
        last = self.tables.last_steps(transaction.connection, ids)
        rows: list[Row] = []
        for each, edge, value, first in said:
            values = each.values
            if each.id not in last:
                first = first or _state(values)
                started = chain.began(str(values[AT["anchor"]]), str(values[1]), first)
                made = int(values[AT["created_at"]] or now)
                rows.append(self._step_row(each, 1, 0, str(first["phase"]), None, first, made, "", started, now))
                last[each.id] = 1
            number, previous, terms = last[each.id] + 1, str(values[AT["trace_signature"]]), int(values[AT["events"]])
            phase = str(values[AT["phase"]])
            signature = chain.with_step(previous, number, terms, phase, edge, value, now)
            rows.append(self._step_row(each, number, terms, phase, edge, value, now, previous, signature, now))
            values[AT["trace_signature"]] = signature
            last[each.id] = number
        self.steps.insert(transaction.connection, self.steps.next_row(transaction.connection), rows)

    def _step_row(
        self,
        form: Gathering,
        number: int,
        terms: int,
        phase: str,
        edge: str | None,
        value: dict[str, Any],
        at: int,
        previous: str,
        signature: str,
        now: int,
    ) -> Row:
        step = EchoStep(
            id=new_id(from_micros(now)),
            context=str(form.values[1]),
            created_at=from_micros(now),
            updated_at=from_micros(now),
            form=form.id,
            number=number,
            terms=terms,
            phase=phase,
            edge=edge,
            value=value,
            at=from_micros(at),
            previous=previous,
            signature=signature,
        )
        return self.steps.schema.encode(step, self.steps.name)

    # -- what came in by the ordinary verbs ------------------------------------------------------------------------

    def former(self, transaction: Transaction, rows: Sequence[Row]) -> dict[str, Row]:
        """Id -> the row that is stored under it now; damaged ones are left out, they are overwritten."""
        ids = [str(row[0]) for row in rows]
        try:
            return {name: row for name, (_, row) in stored_rows(transaction.connection, self.forms, ids).items()}
        except CorruptError:
            if len(ids) == 1:
                return {}
            halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
            return {name: row for half in halves for name, row in self.former(transaction, half).items()}

    def adopt(self, transaction: Transaction, numbers: Sequence[int], former: Mapping[str, Row]) -> None:
        """Give forms that the verbs have written what the lattice keeps of them, and a step where their state changed.

        Args:
            transaction: that wrote them.
            numbers: their rows.
            former: id -> the row that was there before.
        """
        connection = transaction.connection
        rows = numbered_rows(connection, self.forms, numbers)
        changed: list[Gathering] = []
        steps, bare, resummed = [], [], []
        for number, row in rows.items():
            each = Gathering(number, row, transaction.now)
            old = former.get(each.id)
            if old is not None:
                for name in KEPT:
                    each.values[AT[name]] = old[AT[name]]
                before, state = _state(old), _state(each.values)
                if state != before:
                    steps.append((each, None, state, before))
                if old[AT["tau_days"]] != each.values[AT["tau_days"]]:
                    resummed.append(each)
            else:
                bare.append(each)
            changed.append(each)
        self.step(transaction, steps)
        self._bring_up(transaction, bare)
        self._resum(transaction, resummed)
        patch(connection, self.forms, [(each.row or 0, tuple(each.values)) for each in changed], KEPT)

    def settle(self, transaction: Transaction, ids: Sequence[str]) -> None:
        """Bring forms up to the terms and steps that they have; for those that came in by the ordinary verbs.

        Raises:
            ValidationError: the numbers of a form's terms are not 1, 2, 3, ..., or those of its steps.
        """
        some = list(self.open(transaction, ids).values())
        self._bring_up(transaction, some)
        patch(transaction.connection, self.forms, [(each.row or 0, tuple(each.values)) for each in some], KEPT)

    def resum(self, transaction: Transaction, ids: Sequence[str], taus: Mapping[str, float]) -> list[int]:
        """Write the decayed sums of forms as of now; neither `updated_at` nor their order changes.

        Args:
            transaction: that writes.
            ids: of live forms.
            taus: id -> the tau that it has from now on, days.

        Returns:
            Their rows.
        """
        rows = stored_rows(transaction.connection, self.forms, ids)
        some = []
        for name, (row, values) in rows.items():
            each = Gathering(row, values, transaction.now)
            each.values[AT["tau_days"]] = taus[name]
            some.append(each)
        self._resum(transaction, some)
        written = []
        for each in some:
            if tuple(each.values) != rows[each.id][1]:
                each.values[AT["version"]] += 1
                written.append((each.row or 0, tuple(each.values)))
        patch(transaction.connection, self.forms, written, ("version", "tau_days", *SUMS))
        return [each.row or 0 for each in some]

    def _resum(self, transaction: Transaction, some: Sequence[Gathering]) -> None:
        now = transaction.now
        by_tau: dict[float, list[Gathering]] = {}
        for each in some:
            by_tau.setdefault(each.values[AT["tau_days"]], []).append(each)
        for tau, alike in by_tau.items():
            found = self.tables.sums(transaction.connection, [each.id for each in alike], now, tau)
            for each in alike:
                sums = found[each.id]
                kept = (sums.raw, sums.due, now if sums.terms else None, sums.ahead)
                for name, value in zip(SUMS, kept, strict=True):
                    each.values[AT[name]] = value

    def _bring_up(self, transaction: Transaction, some: Sequence[Gathering]) -> None:
        """Make from terms and steps all that the lattice keeps of forms."""
        for start in range(0, len(some), _FORMS):
            part = some[start : start + _FORMS]
            ids = [each.id for each in part]
            terms = self.by_form(transaction.connection, self.terms, ids)
            steps = self.by_form(transaction.connection, self.steps, ids)
            for each in part:
                self._replay(each, terms.get(each.id, []), steps.get(each.id, []))
        self._resum(transaction, some)

    def _replay(self, form: Gathering, terms: Sequence[EchoTerm], steps: Sequence[EchoStep]) -> None:
        for table, links in ((self.terms, terms), (self.steps, steps)):
            if [each.number for each in links] != list(range(1, len(links) + 1)):
                raise ValidationError(
                    f"{table.name}: those of {form.id!r} are numbered ..., {[one.number for one in links][-5:]}, and "
                    "have to be 1, 2, 3, ...; store.lattice numbers them: append(), mutate(), link()"
                )
        state = steps[0].value if steps else _state(form.values)
        kept = _nothing(chain.began(str(form.values[AT["anchor"]]), str(form.values[1]), state))
        taken, signature = 0, kept["trace_signature"]
        for step in steps[1:]:
            signature = chain.over(signature, terms[taken : step.terms])
            taken, at = step.terms, to_micros(step.at)
            signature = chain.with_step(signature, step.number, step.terms, step.phase, step.edge, step.value, at)
        kept["trace_signature"] = chain.over(signature, terms[taken:])
        for name, value in {**kept, "events": len(terms)}.items():
            form.values[AT[name]] = value

    # -- reading ---------------------------------------------------------------------------------------------------

    def terms_of(self, connection: Connection, form: str) -> list[EchoTerm]:
        """All live terms of a form, by number."""
        return self.by_form(connection, self.terms, [form]).get(form, [])

    def steps_of(self, connection: Connection, form: str) -> list[EchoStep]:
        """All live steps of a form, by number."""
        return self.by_form(connection, self.steps, [form]).get(form, [])

    def by_form(self, connection: Connection, table: RecordTable[Any], forms: Sequence[str]) -> dict[str, list[Any]]:
        """Form -> its live terms or steps, by number; none for forms without."""
        node = Term(table.schema.by_name["form"], (), "in", tuple(forms))
        found: dict[str, list[Any]] = {}
        after: tuple[Value, int] | None = None
        while True:
            page = table.page(connection, node, order=None, descending=False, limit=_PAGE, after=after)
            for _, _, record in page:
                found.setdefault(record.form, []).append(record)
            if len(page) < _PAGE:
                break
            after = (None, page[-1][0])
        for records in found.values():
            records.sort(key=lambda record: record.number)
        return found


def _nothing(signature: str) -> dict[str, Any]:
    """What the lattice keeps of a form without terms."""
    return dict(zip(KEPT, (signature, 0, 0.0, 0.0, None, 0), strict=True))


def _state(row: Sequence[Value]) -> dict[str, Any]:
    """The state of a form from its row."""
    found: dict[str, Any] = {name: row[AT[name]] for name in STATE}
    decoded = {name: json.loads(str(found[name])) for name in ("topology", "identities")}
    return {**found, "recursive": bool(found["recursive"]), **decoded}


def _with(row: Row, *, version: int) -> Row:
    return (*row[: AT["version"]], version, *row[AT["version"] + 1 :])
