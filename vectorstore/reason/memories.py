"""Memories: recalled by salience, kept and promoted by tier, joined by causes."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from vectorstore.errors import NotFound, ValidationError
from vectorstore.ids import fold, to_micros
from vectorstore.reason.associating import Association, Spread, associated
from vectorstore.reason.graph import Reached
from vectorstore.reason.linked import Linked
from vectorstore.records import LADDER, CausalEdge, Intelligence, Memory, Tier, Where
from vectorstore.records.where import And, Node, Or, Term
from vectorstore.results import Hits
from vectorstore.search.salience import Recall, Recaller, Salience
from vectorstore.search.searcher import Request
from vectorstore.storage import Connection, Transaction
from vectorstore.storage.counting import raise_fields
from vectorstore.storage.ordered import first_records
from vectorstore.storage.written import note_written

PROMOTED = 1.1
"""A memory that rises into a tier gains a tenth in importance, up to 1."""

TierName = int | str


@dataclass(frozen=True)
class Forgotten:
    """What `forget` would remove, or has removed.

    Attributes:
        memories: longest out of use first.
        held: ids of memories whose time has passed too, but that an intelligence holds on to.
        deleted: whether they are deleted; False for a dry run.
    """

    memories: tuple[Memory, ...]
    held: tuple[str, ...]
    deleted: bool


@dataclass(frozen=True)
class Promotion:
    """A memory that rises: from which tier into which, and its importance before and after."""

    id: str
    former_tier: int
    tier: int
    former_importance: float
    importance: float


class Memories(Linked[Memory]):
    """What is remembered."""

    edge_kind = CausalEdge.table

    # -- access ----------------------------------------------------------------------------------------------------

    def touch(self, ids: str | Iterable[str], *, at: datetime | None = None) -> int:
        """Note that memories were used: `access_count` rises by one, `last_accessed` to the instant; returns how many.

        Reading notes nothing by itself. Text, vector, full text, version and `updated_at` stay as they are, and a later
        `last_accessed` too.

        Args:
            ids: one or many; one that comes twice counts twice.
            at: when; None for now.

        Raises:
            NotFound: one is not there; nothing was noted.

        Cost: one commit for all, which writes 60 bytes of each record's own row and a number beside it.
        """
        return self._touch([ids] if isinstance(ids, str) else list(ids), at)

    def _touch(self, wanted: Sequence[str], at: datetime | None = None, *, skip: bool = False) -> int:
        """As `touch`; or skipping what is not there any more."""
        if not wanted:
            return 0
        with self._sync.catalog.write() as transaction:
            existing = self._table.existing(transaction.connection, wanted)
            live = {name: row for name, (row, gone) in existing.items() if not gone}
            rows = [live[name] for name in wanted if name in live]
            if len(rows) < len(wanted) and not skip:
                absent = next(name for name in wanted if name not in live)
                raise NotFound(f"{self.name}: no record with id {absent!r}")
            instant = transaction.now if at is None else to_micros(at)
            counts, times = {"access_count": 1}, {"last_accessed": instant}
            raise_fields(transaction.connection, self._table, rows, counts=counts, times=times)
            self.after(transaction, rows)
            transaction.record("touch", self.name, rows)
            details = {"kind": self.name, "operation": "touch", "records": len(live), "vectors": 0}
            transaction.notes.append(("commit", details))
        return len(rows)

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """What recall ranks by may have changed in these rows."""
        note_written(transaction.connection, self.name, numbers, transaction.seq)

    # -- tiers -----------------------------------------------------------------------------------------------------

    def ladder(self) -> tuple[Tier, ...]:
        """The twelve tiers: those that `store.tiers` holds, for the other levels those of `vs.LADDER`."""
        stored = {tier.level: tier for tier in self._others(Tier.table)}
        return tuple(stored.get(tier.level, tier) for tier in LADDER)

    def level(self, tier: TierName) -> int:
        """The level of a tier, by number or name in any case.

        Raises:
            ValidationError: there is no such tier.
        """
        ladder = self.ladder()
        if isinstance(tier, str):
            for one in ladder:
                if fold(one.name) == fold(tier):
                    return one.level
        elif type(tier) is int and 1 <= tier <= len(ladder):
            return tier
        known = ", ".join(f"{one.level} {one.name}" for one in ladder)
        raise ValidationError(f"tier: no tier {tier!r}; the tiers are: {known}")

    def in_tier(self, tier: TierName, limit: int = 100, *, where: Where | None = None) -> list[Memory]:
        """The memories of a tier, the most important first, ties by id.

        For more of them ask for those after the last one:
        `where={"or": [{"importance__lt": i}, {"importance": i, "id__gt": id}]}`.
        """
        node = self._tiers(tier, self._parse(where))
        with self._sync.catalog.read() as connection:
            return first_records(connection, self._table, node, ("-importance", "id"), limit)

    def _tiers(self, tiers: TierName | Iterable[TierName], node: Node | None) -> Node:
        """The filter that also wants one of these tiers."""
        levels = [self.level(tier) for tier in ([tiers] if isinstance(tiers, int | str) else tiers)]
        term = Term(self._table.schema.by_name["tier"], (), "in", tuple(levels))
        return term if node is None else And((term, node))

    def forget(self, *, below: float = 0.5, where: Where | None = None, dry_run: bool = True) -> Forgotten:
        """Delete memories of little importance that were not used for as long as their tier keeps them.

        By default this only lists them. Deleted ones can be restored until they are purged.

        Args:
            below: memories of this importance and more stay.
            where: only among those that match.
            dry_run: only list.
        """
        node, columns = self._parse(where), self._table.schema.by_name
        with self._sync.catalog.read() if dry_run else self._sync.catalog.write():
            now = self._sync.catalog.now()
            overdue: list[Node] = []
            for tier in self.ladder():
                if tier.retention_seconds is None:
                    continue
                limit = now - timedelta(seconds=tier.retention_seconds) // timedelta(microseconds=1)
                never = Term(columns["last_accessed"], (), "isnull", 1)
                unused = And((never, Term(columns["created_at"], (), "lte", limit)))
                idle = Or((Term(columns["last_accessed"], (), "lte", limit), unused))
                overdue.append(And((Term(columns["tier"], (), "eq", tier.level), idle)))
            idle_node = And((Term(columns["importance"], (), "lt", float(below)), Or(tuple(overdue))))
            found = self._all(idle_node if node is None else And((idle_node, node)))
            kept = self._others(Intelligence.table).facets("memories")
            held = tuple(memory.id for memory in found if memory.id in kept)
            doomed = sorted((memory for memory in found if memory.id not in kept), key=_last_use)
            if doomed and not dry_run:
                self.delete([memory.id for memory in doomed])
        return Forgotten(tuple(doomed), held, not dry_run)

    def promote(
        self, *, to: TierName | None = None, where: Where | None = None, dry_run: bool = True
    ) -> list[Promotion]:
        """Let memories rise whose importance is at least what the tier above asks for; they gain a tenth, up to 1.

        By default this only lists them. They never fall, and in one call nothing rises twice: by what it gained a
        memory may rise again in the next.

        Args:
            to: into this tier, from any below; None for each into the next.
            where: only among those that match.
            dry_run: only list.

        Returns:
            What rises (or would), in order of arrival.
        """
        node, columns = self._parse(where), self._table.schema.by_name
        with self._sync.catalog.read() if dry_run else self._sync.catalog.write():
            asked = {tier.level: tier.promotion for tier in self.ladder()}
            levels = range(2, len(asked) + 1) if to is None else [self.level(to)]
            rungs = [
                And(
                    (
                        Term(columns["tier"], (), "eq" if to is None else "lt", level if to is not None else level - 1),
                        Term(columns["importance"], (), "gte", asked[level]),
                    )
                )
                for level in levels
            ]
            rising: Node = Or(tuple(rungs))
            risen = [
                Promotion(
                    memory.id,
                    memory.tier,
                    memory.tier + 1 if to is None else levels[0],
                    memory.importance,
                    min(1.0, memory.importance * PROMOTED),
                )
                for memory in self._all(rising if node is None else And((rising, node)))
            ]
            if risen and not dry_run:
                self.update([{"id": each.id, "tier": each.tier, "importance": each.importance} for each in risen])
        return risen

    def _all(self, node: Node) -> list[Memory]:
        """All that match, in order of arrival."""
        with self._sync.catalog.read() as connection:
            rows = sorted(self._table.matching(connection, node).tolist())
            records = self._table.by_rows(connection, rows)
        return [records[row] for row in rows]

    # -- recall ----------------------------------------------------------------------------------------------------

    def recall(
        self,
        query: Any,
        k: int = 10,
        *,
        tier: TierName | Iterable[TierName] | None = None,
        where: Where | None = None,
        salience: Salience | None = None,
        recall: float | None = None,
        exact: bool = False,
        touch: bool = False,
    ) -> Hits[Memory]:
        """The k memories that come to mind: near to the query, important, lately used; see `Salience` for the formula.

        Equal to scoring every memory, within the recall asked for, and not a mere re-ranking of the nearest: one that
        is far but important enough is found. `hit.parts` (similarity, importance, recency) sum to the score.

        Args:
            query: a text, a (d,) vector, an `Id` or a record (which is left out).
            k: at least 1; fewer come back only when fewer match.
            tier: only of this tier, by level or name, or of one of these.
            where: a filter.
            salience: the weights; None for the defaults.
            recall: the share of the true best to deliver, 0..1; None for 0.99.
            exact: compare with every memory.
            touch: note that the hits were used, in a commit of its own.

        Raises:
            ValidationError: a bad argument. EmbedderError: a text, and no embedder. NotFound: no such id.
        """
        hits = self._recaller.recall(query, self._request(k, tier, where, salience, recall, exact))
        if touch and hits:
            self._touch(hits.ids, skip=True)  # another may have deleted one of them meanwhile
        return hits

    def _request(
        self,
        k: int,
        tier: TierName | Iterable[TierName] | None,
        where: Where | None,
        salience: Salience | None,
        recall: float | None,
        exact: bool,
    ) -> Recall:
        request = Request.checked(self._table, k, where, recall, exact)
        node = request.node if tier is None else self._tiers(tier, request.node)
        return Recall(k, node, salience or Salience(), request.recall, exact)

    @functools.cached_property
    def _recaller(self) -> Recaller[Memory]:
        return Recaller(self._sync, self._table, self._searcher(None), self.name)

    def associate(
        self,
        query: Any,
        k: int = 10,
        *,
        spread: Spread | None = None,
        tier: TierName | Iterable[TierName] | None = None,
        where: Where | None = None,
        salience: Salience | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> list[Association[Memory]]:
        """What comes to mind, and what that leads to: the best of a recall and their neighbours by causes, scored.

        A memory's score is its salience plus what reaches it along causes from the best of the recall; see `Spread`.

        Args:
            query: as in `recall`; so are the others.
            k: how many of all.
            spread: how far and how much; None for the defaults.
            tier: of the recall's answers; neighbours may be of any.
            where: likewise.
            salience: the weights; None for the defaults.
            recall: as in `recall`.
            exact: as in `recall`.
        """
        request = self._request(k, tier, where, salience, recall, exact)
        vector, left_out = self._recaller.query(query)

        def answer(connection: Connection, most: int, node: Node | None, exactly: bool) -> Hits[Memory]:
            asked = replace(request, k=most, node=node, exact=exactly)
            return self._recaller.answer(connection, vector, left_out, asked, time.perf_counter())

        return associated(self._graph, answer, request.node, exact, spread or Spread(), k, left_out)

    # -- causes ----------------------------------------------------------------------------------------------------

    def effects(
        self,
        id: str,
        depth: int | None = 1,
        *,
        type: str | Iterable[str] | None = None,
        where: Where | None = None,
        limit: int = 10_000,
    ) -> list[Reached[Memory]]:
        """The memories that one leads to, nearest first, each once, with one of the shortest ways there.

        Args:
            id: where to begin.
            depth: at most so many edges away; None for as far as they lead. Cycles do no harm.
            type: only edges of this type, or of one of these.
            where: a filter over the edges, such as {"weight__gte": 0.5}.
            limit: at most so many memories.

        Raises:
            NotFound: no such memory.
        """
        return self._graph.reached(id, type, "out", depth, where=where, limit=limit)

    def causes(
        self,
        id: str,
        depth: int | None = 1,
        *,
        type: str | Iterable[str] | None = None,
        where: Where | None = None,
        limit: int = 10_000,
    ) -> list[Reached[Memory]]:
        """The memories that lead to one; see `effects`."""
        return self._graph.reached(id, type, "in", depth, where=where, limit=limit)


def _last_use(memory: Memory) -> tuple[datetime | None, str]:
    return memory.last_accessed or memory.created_at, memory.id
