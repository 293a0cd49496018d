"""The lattice: forms in which terms gather and fade, by their anchors."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import JsonValue

from vectorstore.errors import DuplicateId, ValidationError
from vectorstore.ids import to_micros
from vectorstore.reason import bringing, chain
from vectorstore.reason.anchored import checked
from vectorstore.reason.fading import Fading
from vectorstore.reason.gathering import AT, Gathering, current
from vectorstore.reason.ledger import Ledger
from vectorstore.reason.linking import Linking
from vectorstore.records import EchoForm, EchoTerm, Row, Schema, Value, schema_of
from vectorstore.records.lattice import TAU_DAYS, form_id, pair_anchor
from vectorstore.writing import as_record

SEED, EVENT, PART = 1.0, 0.1, 0.5
"""Intensities: of a pair's first term, of each time it is resolved, and of each side of a pair that was made."""

_PLAIN = 1_000
_FORM: Schema[EchoForm] = schema_of(EchoForm)
_ENCODERS = dict(zip(_FORM.names, _FORM.encoders, strict=True))
PAIRS = "cls"
"""The domain of forms that are made of pairs."""


class Lattice(Fading, Linking):
    """Echo forms: bundles of terms that fade with time. A form is found by its anchor, within a context.

    The verbs of every kind work on forms; what they write keeps the chain too.
    """

    def resolve(
        self,
        a: str,
        b: str,
        *,
        directed: bool = False,
        context: str = "default",
        event: float = EVENT,
        tau_days: float = TAU_DAYS,
    ) -> float:
        """Meet a pair: its form is made the first time (a seed of 1.0), and gains an event each time.

        Args:
            a: the id of an identity, or any name.
            b: the other one.
            directed: (a, b) and (b, a) are two forms; else they are one.
            context: of the form.
            event: how much this time adds.
            tau_days: of a form that is made now; one that is there keeps its own.

        Returns:
            The form's decayed intensity: at one instant 1.1, 1.2, 1.3, ...

        Cost: one short transaction, whatever the form holds. A commit waits for the disk: within
        `store.transaction()`, or with `resolve_many`, many share one.
        """
        return self.resolve_many([(a, b)], directed=directed, context=context, event=event, tau_days=tau_days)[0]

    def resolve_many(
        self,
        pairs: Iterable[tuple[str, str]],
        *,
        directed: bool = False,
        context: str = "default",
        event: float = EVENT,
        tau_days: float = TAU_DAYS,
    ) -> list[float]:
        """`resolve` for many pairs, in order, in one commit; arguments and results as there."""
        event = checked(EchoTerm, "intensity", event, "event")
        tau_days = checked(EchoForm, "tau_days", tau_days, "tau_days")
        wanted: list[tuple[str, str]] = []
        places: dict[str, tuple[str, str]] = {}
        for place, pair in enumerate(pairs):
            a, b = _two_names(pair, f"pairs[{place}]")
            anchor = pair_anchor(a, b, directed=directed)
            name = form_id(anchor, context)
            wanted.append((name, anchor))
            places[name] = (a, b) if directed or a <= b else (b, a)
        ledger, results = Ledger(self._sync), list[float]()
        if not wanted:
            return results
        anchors = dict(wanted)
        with self._sync.catalog.write() as transaction:
            forms = ledger.open(transaction, anchors)
            absent = [name for name in anchors if name not in forms]
            rows = [_pair_row(name, anchors[name], *places[name], context, tau_days) for name in absent]
            begun = ledger.begin_rows(transaction, rows)
            for name, form in begun.items():
                form.take(anchors[name], "cls_seed", SEED)
            forms |= begun
            late: dict[int, str] = {}
            for place, (name, anchor) in enumerate(wanted):
                form = forms[name]
                form.take(anchor, "resonance_trigger", event)
                intensity = current(form.values, transaction.now)
                if intensity is None:  # a term whose instant is still to come, or a clock that was set back
                    late[place] = name
                results.append(intensity or 0.0)
            ledger.write(transaction, forms.values(), "resolve")
            if late:
                sums = ledger.tables.sums(transaction.connection, list(late.values()), transaction.now)
                left = {name: found.faded for name, found in sums.items()}
                for place, name in reversed(late.items()):  # from the last one back: what came after is taken off
                    results[place] = left[name]
                    left[name] -= event
        return results

    def create_pair(self, anchor: str, a: str, b: str, *, domain: str = PAIRS, context: str = "default") -> EchoForm:
        """Make a form of a pair under an anchor of your own: both sides with 0.5, and an event of 0.1.

        Raises:
            DuplicateId: the anchor is taken.
        """
        form = _pair_form(anchor, *_two_names((a, b), "create_pair"), domain, context, TAU_DAYS, "create_pair")
        terms = [(a, "geoid_a", PART), (b, "geoid_b", PART), (anchor, "creation_event", EVENT)]
        ledger = Ledger(self._sync)
        with self._sync.catalog.write() as transaction:
            if ledger.open(transaction, [form.derived_id()]):
                raise DuplicateId(f"{self.name}: {anchor!r} is there already; choose another anchor, or append to it")
            begun = ledger.begin(transaction, [form])
            for each in begun.values():
                for symbol, role, intensity in terms:
                    each.take(symbol, role, intensity)
            ledger.write(transaction, begun.values(), "create_pair")
            return self.form(anchor, context)

    def put(self, form: EchoForm | Mapping[str, Any], terms: Iterable[EchoTerm | Mapping[str, Any]] = ()) -> str:
        """Store a form, or overwrite what was said of it, and add terms; returns its id.

        Args:
            form: as in `upsert`; terms that it has stay.
            terms: added in order, but for those that are among its terms already (by their ids).

        Raises:
            ValidationError: nothing was written.
        """
        where = f"{self.name}[0]"
        given = as_record(self._table, form, where)
        new = [_as_term(term, f"{where}.terms[{place}]") for place, term in enumerate(terms)]
        name, ledger = given.derived_id(), Ledger(self._sync)
        with self._sync.catalog.write() as transaction:
            forms = ledger.open(transaction, [name])
            known = ledger.terms.by_ids(transaction.connection, [term.id for term, _ in new if term.id])
            if forms:
                self.upsert(given)
                forms = ledger.open(transaction, [name])
            else:
                forms = ledger.begin(transaction, [given])
            fresh = [each for each in new if each[0].id not in known]
            _take(forms[name], fresh)
            if fresh or forms[name].row is None:
                ledger.write(transaction, forms.values(), "put")
        return name

    def append(
        self,
        anchor: str,
        symbol: str,
        role: str = "",
        intensity: float = 1.0,
        *,
        at: datetime | None = None,
        context: str = "default",
        **extra: Any,
    ) -> int:
        """Add one term to a form; returns its number. What else is given is kept with it.

        Raises:
            NotFound: no such form. ValidationError: nothing was written.

        Cost: the same for the first term and the ten-thousandth.
        """
        term = {"symbol": symbol, "role": role, "intensity": intensity, "extra": extra}
        return self.append_many(anchor, [term if at is None else {**term, "at": at}], context=context)[0]

    def append_many(
        self, anchor: str, terms: Iterable[EchoTerm | Mapping[str, Any]], *, context: str = "default"
    ) -> list[int]:
        """Add terms to a form, in one commit; returns their numbers."""
        new = [_as_term(term, f"terms[{place}]") for place, term in enumerate(terms)]
        ledger = Ledger(self._sync)
        with self._sync.catalog.write() as transaction:
            forms = ledger.open(transaction, [form_id(anchor, context)])
            if not forms:
                raise self._missing(anchor, context)
            (form,) = forms.values()
            numbers = _take(form, new)
            ledger.write(transaction, [form], "append")
        return numbers

    def bring(self, forms: Any, *, context: str = "default") -> bringing.BringReport:
        """Take over the forms of an in-memory lattice, with their own intensities and times, in one commit.

        Args:
            forms: mappings as older lattices write them, by anchor or in a list; JSON text of that; or a JSON file's
                path. A form has `anchor`, `domain`, `phase`, `topology`, `echo_created_at` and `terms`, of which each
                has `symbol`, `role`, `intensity` and `timestamp` (seconds since 1970).
            context: that they come into.

        Doing it again changes nothing; a form that is here already gains the terms that it lacks.

        Raises:
            ValidationError: one is no form. ConflictError: one is here with other terms. Nothing was written.
        """
        return bringing.bring(self._sync, bringing.read(forms, context))


def _two_names(pair: Any, where: str) -> tuple[str, str]:
    if isinstance(pair, tuple | list) and len(pair) == 2:
        a, b = pair
        if isinstance(a, str) and isinstance(b, str) and a.strip() and b.strip():
            return a, b
    raise ValidationError(f"{where}: expected two names, got {pair!r}", value=pair)


def _pair_form(anchor: str, a: str, b: str, domain: str, context: str, tau_days: float, made_by: str) -> EchoForm:
    topology, identities = _pair_parts(a, b, made_by)
    said = {"topology": topology, "identities": identities, "tau_days": tau_days}
    return EchoForm.parse({"anchor": anchor, "context": context, "domain": domain, **said}, made_by)


def _pair_row(name: str, anchor: str, a: str, b: str, context: str, tau_days: float) -> list[Value]:
    """The row of the form of a pair, with its signature.

    It differs from any other one in what names it, which needs no check where every character is printable: a third of
    the time of making and encoding a form.
    """
    if len(anchor) <= _PLAIN and a.isprintable() and b.isprintable():
        row, state = _nominal(context, tau_days)
    else:
        row, state = _encoded(_pair_form(anchor, a, b, PAIRS, context, tau_days, "resolve"))
    topology, identities = _pair_parts(a, b, "resolve")
    values = list(row)
    values[0], values[AT["anchor"]] = name, anchor
    values[AT["topology"]] = _ENCODERS["topology"](topology)
    values[AT["identities"]] = _ENCODERS["identities"](identities)
    said = {**state, "topology": topology, "identities": list(identities)}
    values[AT["trace_signature"]] = chain.began(anchor, context, said)
    return values


@functools.lru_cache(maxsize=64)
def _nominal(context: str, tau_days: float) -> tuple[Row, dict[str, Any]]:
    return _encoded(_pair_form("a_b", "a", "b", PAIRS, context, tau_days, "resolve"))


def _encoded(form: EchoForm) -> tuple[Row, dict[str, Any]]:
    """(row, state)."""
    return _FORM.encode(form, _FORM.table), chain.state_of(form)


def _pair_parts(a: str, b: str, made_by: str) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """(topology, identities) of the form of a pair."""
    pair: list[JsonValue] = [a, b]
    topology: dict[str, JsonValue] = {
        "lattice_type": "contradiction",
        "geoid_pair": pair,
        "created_from": made_by,
    }
    return topology, (a,) if a == b else (a, b)


def _as_term(item: EchoTerm | Mapping[str, Any], where: str) -> tuple[EchoTerm, bool]:
    """A term that is not in a form yet, and whether it says when it was."""
    if isinstance(item, EchoTerm):
        return item, True
    if not isinstance(item, Mapping):
        raise ValidationError(f"{where}: expected an EchoTerm or a mapping, got {type(item).__name__}")
    known = {"form": "x", "number": 1, "at": "1970-01-01T00:00:00Z", **item}
    return EchoTerm.parse(known, where), "at" in item


def _take(form: Gathering, terms: Sequence[tuple[EchoTerm, bool]]) -> list[int]:
    return [
        form.take(term.symbol, term.role, term.intensity, to_micros(term.at) if timed else None, term.extra)
        for term, timed in terms
    ]
