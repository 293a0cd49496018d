"""Time in the lattice: what is left of forms, what is written down of it, and which have had their day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, get_args

from vectorstore.errors import ValidationError
from vectorstore.ids import ago, as_age, to_micros
from vectorstore.reason.anchored import Anchored, checked
from vectorstore.reason.gathering import current
from vectorstore.reason.ledger import Ledger
from vectorstore.records import EchoForm, Identity, Where, parse
from vectorstore.records.lattice import ENTROPY_SCALING, TAU_DAYS
from vectorstore.storage.lattice import By, Group
from vectorstore.storage.patching import pages_of
from vectorstore.sync import expire

_PAGE = 5_000


class Fading(Anchored):
    """What time does to forms. Raw intensities stay as they are; decay is computed when it is asked for."""

    def intensity(
        self,
        anchor: str,
        context: str = "default",
        *,
        tau_days: float | None = None,
        at: datetime | None = None,
        decayed: bool = True,
    ) -> float:
        """The intensities of a form's terms together, each decayed by exp(-age / tau).

        Args:
            anchor: of the form.
            context: of the form.
            tau_days: None for the form's own.
            at: the instant; None for now by the store's clock. Terms whose instant is still to come count whole.
            decayed: False for the raw sum.

        Raises:
            NotFound: no such form.

        Cost: O(terms) with a tau or for an instant before its last term, else O(1).
        """
        with self._sync.catalog.read():
            form = self.form(anchor, context)
            return self.intensities([form], tau_days=tau_days, at=at)[0] if decayed else form.raw_sum

    def intensities(
        self, forms: Sequence[EchoForm], *, tau_days: float | None = None, at: datetime | None = None
    ) -> list[float]:
        """The decayed intensities of forms as they were read, in their order; arguments as in `intensity`."""
        now = self._sync.catalog.now() if at is None else to_micros(at)
        known = [current(form, now) if tau_days is None else None for form in forms]
        asked = [form.id for form, value in zip(forms, known, strict=True) if value is None]
        with self._sync.catalog.read() as connection:
            sums = Ledger(self._sync).tables.sums(connection, asked, now, tau_days) if asked else {}
        return [
            (sums[form.id].faded if form.id in sums else 0.0) if value is None else value
            for form, value in zip(forms, known, strict=True)
        ]

    def decay(self, tau_days: float = TAU_DAYS, *, entropy_scaling: float = 0.0, where: Where | None = None) -> int:
        """Let forms fade by this tau from now on, and write their decayed sums down as of now; returns how many.

        Raw intensities stay, so doing it twice at one instant, or at t1 and then at t2, is doing it once at the last.
        Neither `updated_at` nor any order changes.

        Args:
            tau_days: above zero.
            entropy_scaling: k: a form's tau is tau (1 + k H), with the mean entropy H of its identities in bits.
            where: which forms; None for all.

        Raises:
            ValidationError: nothing was written.
        """
        tau = checked(EchoForm, "tau_days", tau_days, "tau_days")
        scaling = checked(Identity, "weight", entropy_scaling, "entropy_scaling")
        node, ledger, done = parse(where, self._table.schema), Ledger(self._sync), list[int]()
        with self._sync.catalog.write() as transaction:
            expire(self._sync, transaction, self._table)
            for ids in pages_of(transaction.connection, self._table, node, _PAGE):
                taus = dict.fromkeys(ids, tau)
                if scaling:
                    found = self._table.by_ids(transaction.connection, ids)
                    entropies = self._entropies([form for _, form in found.values()])
                    taus = {name: tau * (1.0 + scaling * entropies[name]) for name in ids}
                done += ledger.resum(transaction, ids, taus)
            details = {"kind": self.name, "operation": "decay", "records": len(done), "vectors": 0}
            transaction.notes.append(("commit", details))
            if done:
                transaction.record("decay", self.name, done, tau_days=tau)
        return len(done)

    def tau_of(
        self, anchor: str, context: str = "default", *, tau_days: float = TAU_DAYS, scaling: float = ENTROPY_SCALING
    ) -> float:
        """The tau that a form's identities give it: tau (1 + k H), H their mean entropy in bits."""
        form = self.form(anchor, context)
        return tau_days * (1.0 + scaling * self._entropies([form])[form.id])

    def _entropies(self, forms: Sequence[EchoForm]) -> dict[str, float]:
        """Form -> mean entropy of its identities that are records; 0 without any."""
        wanted = {name for form in forms for name in form.identities}
        found: list[Identity] = self._others(Identity.table).get_many(wanted)
        bits = {identity.id: identity.entropy() for identity in found}
        held = {form.id: [bits[name] for name in form.identities if name in bits] for form in forms}
        return {name: math.fsum(some) / len(some) if some else 0.0 for name, some in held.items()}

    def prune(
        self,
        older_than: str | float | timedelta = "30d",
        *,
        by: Literal["updated_at", "created_at"] = "updated_at",
        where: Where | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete forms that nothing has touched for so long; returns how many were, or would be.

        Args:
            older_than: "30d", "12h", "45m", "3600s", a timedelta, or a number of days.
            by: "updated_at", the last term or change, or "created_at".
            where: only of these.
            dry_run: only count.

        `restore` brings them back with their terms; `purge` erases them.
        """
        limit = ago(self._sync.catalog.clock(), as_age(older_than, "older_than"))
        old: Where = {f"{by}__lte": limit}
        return self.delete(where=old if where is None else {"and": [old, where]}, dry_run=dry_run)

    def clear(self, domain: str | None = None, *, dry_run: bool = False) -> dict[str, int]:
        """Delete all forms, or those of a domain; returns how many of each domain."""
        where: Where = {"version__gte": 1} if domain is None else {"domain": domain}
        with self._sync.catalog.read() if dry_run else self._sync.catalog.write():
            counts = {group.key: group.forms for group in self.analytics("domain", where=where)}
            if not dry_run:
                self.delete(where=where)
        return dict(sorted(counts.items()))

    def analytics(
        self,
        by: By = "domain",
        *,
        where: Where | None = None,
        tau_days: float | None = None,
        at: datetime | None = None,
    ) -> list[Group]:
        """Counts and intensities by domain, phase, day of creation, symbol or role; the most intense first.

        Cost: one pass over forms and terms.
        """
        if by not in get_args(By):
            raise ValidationError(f"by: expected one of {', '.join(get_args(By))}, got {by!r}")
        node = parse(where, self._table.schema)
        now = self._sync.catalog.now() if at is None else to_micros(at)
        with self._sync.catalog.read() as connection:
            return Ledger(self._sync).tables.groups(connection, by, now, tau_days, node)

    def top_symbols(self, k: int = 10, *, where: Where | None = None) -> list[Group]:
        """The most intense symbols now."""
        return self.analytics("symbol", where=where)[:k]
