"""Terms gather in forms: what a term does to the row of its form, in a time that does not depend on how many there are.

A sum that decays exponentially can be carried forward: S(t) = S(s) exp(-(t - s) / tau), plus what comes in between
(Cormode, Shkapenyuk, Srivastava and Xu, "Forward Decay", 2009). So a form keeps its decayed sum with the instant that
it is of. Terms whose instant is still to come fade from then on, and not before: they are counted as `ahead`, and while
there are any the sum is made from the terms themselves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vectorstore.ids import from_micros, new_id
from vectorstore.reason.chain import with_term
from vectorstore.records import EchoForm, EchoTerm, Row, Schema, Value, schema_of
from vectorstore.storage.lattice import DAY

KEPT = ("trace_signature", "events", "raw_sum", "intensity_sum", "decayed_at", "ahead")
"""The fields of a form that the lattice keeps."""

PATCHED = ("version", "updated_at", *KEPT)
_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_FORM: Schema[EchoForm] = schema_of(EchoForm)
_TERM: Schema[EchoTerm] = schema_of(EchoTerm)
AT: Mapping[str, int] = {name: place for place, name in enumerate(_FORM.names)}
"""Where the fields of a form stand in its row."""


def faded(amount: float, age: int, tau_days: float) -> float:
    """What is left of an amount after so many microseconds; ages below zero do not amplify."""
    return amount * math.exp(-max(0, age) / (tau_days * DAY))


def current(form: EchoForm | Sequence[Value], at: int) -> float | None:
    """A form's decayed sum at an instant (microseconds); None when it has to be made from the terms."""
    row = form if not isinstance(form, EchoForm) else _FORM.encode(form, "forms")
    amount, since = row[AT["intensity_sum"]], row[AT["decayed_at"]]
    if since is None:
        return 0.0
    if row[AT["ahead"]] or at < int(since):
        return None
    return faded(float(amount or 0), at - int(since), float(row[AT["tau_days"]] or 1))


class Gathering:
    """A form's row while terms are added to it within one transaction, and the rows of these terms.

    Attributes:
        row: its number; None for one that is not stored yet.
        values: its fields, encoded, in the order of the schema.
        added: the rows of the new terms.
    """

    __slots__ = ("_moment", "_now", "added", "row", "values")

    def __init__(self, row: int | None, values: Sequence[Value], now: int) -> None:
        self.row = row
        self.values: list[Any] = list(values)
        self.added: list[Row] = []
        self._now = now
        self._moment = from_micros(now)

    @property
    def id(self) -> str:
        """Of the form."""
        return str(self.values[0])

    def take(self, symbol: str, role: str, intensity: float, at: int | None = None, extra: Any = None) -> int:
        """Add a term; returns its number. Its instant in microseconds, None for now."""
        values, now = self.values, self._now
        at = now if at is None else at
        extra = extra or {}
        number = values[AT["events"]] + 1
        since = values[AT["decayed_at"]]
        if since is None:
            values[AT["decayed_at"]] = since = now
        elif now > since:
            tau = values[AT["tau_days"]]
            values[AT["intensity_sum"]] = faded(values[AT["intensity_sum"]], now - since, tau)
            values[AT["decayed_at"]] = since = now
        if at > since:
            values[AT["ahead"]] += 1
        else:
            values[AT["intensity_sum"]] += faded(intensity, since - at, values[AT["tau_days"]])
        values[AT["raw_sum"]] += intensity
        values[AT["events"]] = number
        signature = with_term(values[AT["trace_signature"]], number, symbol, role, intensity, at, extra)
        values[AT["trace_signature"]] = signature
        written = {
            **{"id": new_id(self._moment), "context": values[1], "version": 1, "created_at": now, "updated_at": now},
            **{"deleted_at": None, "expires_at": None, "tags": "[]", "extra": _JSON(extra) if extra else "{}"},
            **{"form": values[0], "number": number, "symbol": symbol, "role": role, "intensity": intensity, "at": at},
        }
        self.added.append(tuple(written[name] for name in _TERM.names))
        return int(number)

    def touched(self) -> None:
        """It is as new as this transaction, and one version further."""
        self.values[AT["version"]] += 1
        self.values[AT["updated_at"]] = max(self.values[AT["updated_at"]] or 0, self._now)
