"""The forms of an in-memory lattice, or of one that was written as JSON, with their own intensities and times.

A form is a mapping as older lattices write it: `anchor`, `domain`, `phase`, `recursive`, `topology`, `terms` (`symbol`,
`role`, `intensity`, `timestamp` in seconds since 1970), `echo_created_at`, and perhaps `updated_at`. What else it holds
is kept in `extra`, its former `trace_signature` too; this store's chain begins anew. A term without an intensity has 0,
as older sums count it, and one without a time has that of its form.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pydantic

from vectorstore.errors import ConflictError, ValidationError
from vectorstore.ids import from_micros, to_micros
from vectorstore.reason.gathering import AT
from vectorstore.reason.ledger import Ledger
from vectorstore.records import EchoForm, EchoTerm, UtcTime
from vectorstore.records.lattice import form_id
from vectorstore.records.record import readable
from vectorstore.sync import Sync

_FORMER = "trace_signature"
_TIME: pydantic.TypeAdapter[datetime] = pydantic.TypeAdapter(UtcTime)
_TIMES = ("echo_created_at", "created_at")


@dataclass(frozen=True)
class BringReport:
    """What came of an import, as ids of forms.

    Attributes:
        added: were not here.
        extended: were here with the first of these terms, and have the others now.
        unchanged: were here with all of them.
    """

    added: tuple[str, ...]
    extended: tuple[str, ...]
    unchanged: tuple[str, ...]


@dataclass(frozen=True)
class Brought:
    """A form that comes in, its terms in order, and when it was last touched, microseconds."""

    form: EchoForm
    terms: tuple[EchoTerm, ...]
    updated: int


def read(source: Any, context: str) -> list[Brought]:
    """The forms of a mapping by anchor, of a list, of JSON text, or of a JSON file.

    Raises:
        ValidationError: one is no form; the message names it, as `forms[3].terms[2].timestamp`.
    """
    if isinstance(source, os.PathLike):
        source = Path(source).read_bytes()
    if isinstance(source, str | bytes):
        try:
            source = json.loads(source)
        except (ValueError, RecursionError) as error:
            raise ValidationError(f"forms: is not JSON: {error}") from None
    if isinstance(source, Mapping) and "anchor" not in source:
        named: list[tuple[str, Mapping[str, Any]]] = [
            (f"forms[{name!r}]", {"anchor": name, **_mapping(each, name)}) for name, each in source.items()
        ]
    else:
        listed: Iterable[Any] = [source] if isinstance(source, Mapping) else source
        if not isinstance(listed, Iterable):
            raise ValidationError(f"forms: expected a mapping, a list or JSON, got {type(source).__name__}")
        named = [(f"forms[{place}]", _mapping(each, place)) for place, each in enumerate(listed)]
    found = [_brought(each, context, where) for where, each in named]
    seen: dict[str, str] = {}
    for (where, _), each in zip(named, found, strict=True):
        name = form_id(each.form.anchor, context)
        if name in seen:
            raise ValidationError(f"{where}.anchor: {each.form.anchor!r} is also {seen[name]}")
        seen[name] = where
    return found


def _mapping(value: Any, name: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    raise ValidationError(f"forms[{name!r}]: expected a mapping, got {type(value).__name__}")


def _brought(item: Mapping[str, Any], context: str, where: str) -> Brought:
    fields = {key: value for key, value in item.items() if key not in ("terms", "updated_at", "id", *_TIMES)}
    times = {
        name: _time(item[name], f"{where}.{name}") for name in (*_TIMES, "updated_at") if item.get(name) is not None
    }
    made = next((times[name] for name in _TIMES if name in times), None)
    former = fields.pop(_FORMER, None)
    if former:
        fields["extra"] = {**(fields.get("extra") or {}), _FORMER: former}
    form = EchoForm.parse({**fields, "context": context, "created_at": made}, where)
    listed = item.get("terms") or ()
    if not isinstance(listed, Iterable) or isinstance(listed, str | Mapping):
        raise ValidationError(f"{where}.terms: expected a list, got {type(listed).__name__}")
    terms = tuple(
        _term(each, number, made, form_id(form.anchor, context), f"{where}.terms[{number - 1}]")
        for number, each in enumerate(listed, 1)
    )
    stamps = [to_micros(time) for time in (times.get("updated_at"), made, *(term.at for term in terms)) if time]
    updated = to_micros(times["updated_at"]) if "updated_at" in times else max(stamps, default=0)
    return Brought(form, terms, updated)


def _term(item: Any, number: int, made: datetime | None, form: str, where: str) -> EchoTerm:
    if not isinstance(item, Mapping):
        raise ValidationError(f"{where}: expected a mapping, got {type(item).__name__}")
    fields = {key: value for key, value in item.items() if key not in ("timestamp", "at", "id", "form", "number")}
    stamp = next(((name, item[name]) for name in ("timestamp", "at") if item.get(name) is not None), None)
    at = made if stamp is None else _time(stamp[1], f"{where}.{stamp[0]}")
    if at is None:
        raise ValidationError(f"{where}.timestamp: is required where the form has no echo_created_at")
    return EchoTerm.parse({"intensity": 0.0, **fields, "form": form, "number": number, "at": at}, where)


def _time(value: Any, where: str) -> datetime:
    """Seconds since 1970, to the microsecond, or what a time field takes."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return from_micros(round(value * 1_000_000))
        return _TIME.validate_python(value)
    except pydantic.ValidationError as error:
        raise readable(error, where) from None
    except (OverflowError, ValueError):
        raise ValidationError(f"{where}: expected seconds since 1970, got {value!r}") from None


def bring(sync: Sync, forms: list[Brought]) -> BringReport:
    """Write them in one commit. A form that is here already gains the terms that it lacks, and stays as it is else.

    Raises:
        ConflictError: one is here, and its terms did not begin with these; nothing was written.
    """
    ledger = Ledger(sync)
    added, extended, unchanged = list[str](), list[str](), list[str]()
    with sync.catalog.write() as transaction:
        connection = transaction.connection
        ids = [form_id(each.form.anchor, each.form.context) for each in forms]
        here = ledger.open(transaction, ids)
        stored = ledger.by_form(connection, ledger.terms, list(here))
        new = [each.form for name, each in zip(ids, forms, strict=True) if name not in here]
        begun = ledger.begin(transaction, new) if new else {}
        for name, each in zip(ids, forms, strict=True):
            known = stored.get(name, [])
            if [_said(term) for term in known[: len(each.terms)]] != [_said(term) for term in each.terms[: len(known)]]:
                raise ConflictError(
                    f"forms: {each.form.anchor!r} is here with other terms; nothing was imported; "
                    "import it into a context of its own"
                )
            rest = each.terms[len(known) :]
            (added if name in begun else extended if rest else unchanged).append(name)
            form = begun[name] if name in begun else here[name]
            for term in rest:
                form.take(term.symbol, term.role, term.intensity, to_micros(term.at), term.extra)
            if name in begun and each.updated:
                form.values[AT["updated_at"]] = min(each.updated, transaction.now)
        ledger.write(transaction, [*begun.values(), *(here[name] for name in extended)], "import")
    return BringReport(tuple(added), tuple(extended), tuple(unchanged))


def _said(term: EchoTerm) -> tuple[Any, ...]:
    return term.symbol, term.role, term.intensity, term.at, term.extra
