"""What the lattice asks SQL: sums of faded intensities, steps, edges, groups, and what resonates with what."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vectorstore.records import Value
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection, OperationalError
from vectorstore.storage.filters import json_list, list_table, quote, value_column
from vectorstore.storage.tables import RecordTable

DAY = 86_400_000_000
"""Microseconds."""

By = Literal["domain", "phase", "day", "symbol", "role"]


@dataclass(frozen=True)
class Sums:
    """The intensities of a form's terms at an instant.

    Attributes:
        terms: how many.
        raw: together, undecayed.
        faded: together, decayed; a term whose instant is still to come counts whole.
        due: as `faded`, without these.
        ahead: how many these are.
    """

    terms: int
    raw: float
    faded: float
    due: float
    ahead: int


@dataclass(frozen=True)
class Group:
    """Forms or terms that share something.

    Attributes:
        key: the domain, phase or day (of creation, UTC, YYYY-MM-DD), or the symbol or role of terms.
        forms: how many.
        terms: how many.
        raw: their intensities together, undecayed.
        intensity: the same, decayed.
    """

    key: str
    forms: int
    terms: int
    raw: float
    intensity: float


class LatticeTables:
    """Forms, their terms and their steps, read together. Calls take the connection of a running transaction."""

    def __init__(self, forms: RecordTable[Any], terms: RecordTable[Any], steps: RecordTable[Any]) -> None:
        self.forms = forms
        self.terms = terms
        self.steps = steps
        f, t = forms.table, terms.table
        self._faded = f"{t}.intensity * exp(-max(0, :at - {t}.at) / (coalesce(:tau, {f}.tau_days) * {DAY}.0))"
        self._terms_of = f"{t} INDEXED BY {quote(f'{terms.name}_form')} ON {t}.form = {f}.id"

    def sums(self, connection: Connection, ids: Sequence[str], at: int, tau: float | None = None) -> dict[str, Sums]:
        """Id -> sums over the terms of live forms at an instant (microseconds); tau in days, None for each form's own.

        Cost: O(terms).
        """
        _with_exp(connection)
        f, t = self.forms.table, self.terms.table
        found = connection.execute(
            f"SELECT {f}.id, count({t}.row), coalesce(sum({t}.intensity), 0.0), coalesce(sum({self._faded}), 0.0), "
            f"coalesce(sum(CASE WHEN {t}.at > :at THEN 0.0 ELSE {self._faded} END), 0.0), "
            f"coalesce(sum({t}.at > :at), 0) "
            f"FROM json_each(:ids) j CROSS JOIN {f} ON {f}.id = j.value "
            f"LEFT JOIN {self._terms_of} AND {self.terms.live} WHERE {self.forms.live} GROUP BY {f}.id",
            {"ids": json_list(dict.fromkeys(ids)), "at": at, "tau": tau},
        )
        return {name: Sums(*values) for name, *values in found}

    def last_steps(self, connection: Connection, ids: Sequence[str]) -> dict[str, int]:
        """Form -> the number of its last step, for those that have steps."""
        s = self.steps.table
        found = connection.execute(
            f"SELECT {s}.form, max({s}.number) FROM json_each(?) j "
            f"CROSS JOIN {s} INDEXED BY {quote(f'{self.steps.name}_form')} ON {s}.form = j.value "
            f"WHERE {self.steps.live} GROUP BY 1",
            (json_list(ids),),
        )
        return dict(found.fetchall())

    def last_said(
        self, connection: Connection, edges: Sequence[tuple[str, str]]
    ) -> list[tuple[str, str, dict[str, Any]]]:
        """(edge, form, what the last step of the form about the edge says) of (edge, form) pairs that have one."""
        s, found = self.steps.table, []
        for edge, form in edges:
            row = connection.execute(
                f"SELECT {s}.value FROM {s} WHERE {s}.edge = ? AND {s}.form = ? AND {self.steps.live} "
                f"ORDER BY {s}.number DESC LIMIT 1",
                (edge, form),
            ).fetchone()
            if row is not None:
                found.append((edge, form, json.loads(row[0])))
        return found

    def groups(self, connection: Connection, by: By, at: int, tau: float | None, node: Node | None) -> list[Group]:
        """Groups of live forms, the most intense first, ties by key. Cost: one pass over forms and terms."""
        _with_exp(connection)
        f, t = self.forms.table, self.terms.table
        key = {
            "day": f"strftime('%Y-%m-%d', {f}.created_at / 1000000, 'unixepoch')",
            "symbol": f"{t}.symbol",
            "role": f"{t}.role",
        }.get(by, f"{f}.{by}")
        condition, values = self.forms.condition(node)
        names, condition = _named(condition, values)
        among = f"{condition} AND {t}.row IS NOT NULL" if by in ("symbol", "role") else condition
        found = connection.execute(
            f"SELECT {key}, count(DISTINCT {f}.row), count({t}.row), coalesce(sum({t}.intensity), 0.0), "
            f"coalesce(sum({self._faded}), 0.0) AS faded FROM {f} LEFT JOIN {self._terms_of} AND {self.terms.live} "
            f"WHERE {among} GROUP BY 1 ORDER BY faded DESC, 1",
            {**names, "at": at, "tau": tau},
        )
        return [Group(*row) for row in found]

    def vectors(self, connection: Connection, ids: Sequence[str], at: int) -> dict[str, dict[str, float]]:
        """Id -> its faded intensity by symbol."""
        _with_exp(connection)
        f, t = self.forms.table, self.terms.table
        found: dict[str, dict[str, float]] = {}
        for name, symbol, weight in connection.execute(
            f"SELECT {f}.id, {t}.symbol, sum({self._faded}) FROM json_each(:ids) j CROSS JOIN {f} ON {f}.id = j.value "
            f"CROSS JOIN {self._terms_of} WHERE {self.forms.live} AND {self.terms.live} GROUP BY 1, 2",
            {"ids": json_list(ids), "at": at, "tau": None},
        ):
            found.setdefault(name, {})[symbol] = weight
        return found

    def near(
        self, connection: Connection, mine: Mapping[str, float], identities: Sequence[str], at: int, node: Node | None
    ) -> list[tuple[str, float, float, str]]:
        """(id, dot product with `mine`, sum of squares, identities as JSON) of live forms that share anything.

        Args:
            connection: of a running transaction.
            mine: intensity by symbol.
            identities: of which one is enough.
            at: the instant of the intensities, microseconds.
            node: a filter over the forms.

        Cost: all terms of the forms that share a symbol or an identity.
        """
        _with_exp(connection)
        f, t = self.forms.table, self.terms.table
        condition, values = self.forms.condition(node)
        names, condition = _named(condition, values)
        held = list_table(self.forms.name, "identities")
        found = connection.execute(
            f"WITH mine AS MATERIALIZED (SELECT key AS symbol, value AS weight FROM json_each(:mine)), "
            f"shared AS MATERIALIZED ("
            f"SELECT {f}.row AS number FROM mine CROSS JOIN {t} ON {t}.symbol = mine.symbol "
            f"CROSS JOIN {f} ON {f}.id = {t}.form WHERE {self.terms.live} "
            f"UNION SELECT h.row FROM json_each(:identities) j CROSS JOIN {held} h "
            f"ON h.{value_column('identities')} = j.value), "
            f"weights AS (SELECT {f}.row AS number, {t}.symbol AS symbol, coalesce(sum({self._faded}), 0.0) AS weight "
            f"FROM shared CROSS JOIN {f} ON {f}.row = shared.number "
            f"LEFT JOIN {self._terms_of} AND {self.terms.live} WHERE {condition} GROUP BY 1, 2) "
            f"SELECT o.id, coalesce(sum(weights.weight * mine.weight), 0.0), sum(weights.weight * weights.weight), "
            f"o.identities FROM weights LEFT JOIN mine ON mine.symbol = weights.symbol "
            f"JOIN {f} o ON o.row = weights.number GROUP BY weights.number",
            {
                **names,
                "mine": json.dumps(dict(mine)),
                "identities": json_list(identities),
                "at": at,
                "tau": None,
            },
        )
        return [tuple(row) for row in found]


def ends_of(connection: Connection, edges: RecordTable[Any], node: Node | None) -> list[tuple[str, str]]:
    """(source, target) of all live edges that match."""
    condition, values = edges.condition(node)
    e = edges.table
    return connection.execute(f"SELECT {e}.source, {e}.target FROM {e} WHERE {condition}", values).fetchall()


def _named(condition: str, values: Sequence[Value]) -> tuple[dict[str, Value], str]:
    """A condition with named parameters instead of `?`, which SQLite does not let stand beside them."""
    parts = condition.split("?")  # values and names of fields are bound or declared: no ? but parameters'
    assert len(parts) == len(values) + 1
    text = parts[0] + "".join(f":p{place}{part}" for place, part in enumerate(parts[1:]))
    return {f"p{place}": value for place, value in enumerate(values)}, text


def _with_exp(connection: Connection) -> None:
    """SQLite may be built without its mathematical functions."""
    try:
        connection.execute("SELECT exp(0.0)")
    except OperationalError:
        connection.create_function("exp", 1, lambda x: None if x is None else math.exp(x), deterministic=True)
