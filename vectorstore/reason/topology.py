"""How forms are linked: edges with a history, which is in the chains of both forms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vectorstore.reason.gathering import PATCHED
from vectorstore.reason.ledger import Ledger
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import EchoEdge, Where
from vectorstore.records.where import Node
from vectorstore.storage import Connection, RecordTable, Transaction
from vectorstore.storage.lattice import ends_of
from vectorstore.storage.patching import patch


class Edges(Reasoner[EchoEdge]):
    """Links between forms. Each that is added, weighted anew or removed is a step of both forms."""

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """What is new about the edges is written down."""
        edges = self._table.by_rows(transaction.connection, numbers).values()
        self._note(transaction, [(edge, shown(edge)) for edge in edges])

    def delete(
        self, ids: str | Iterable[str] | None = None, *, where: Where | None = None, dry_run: bool = False
    ) -> int:
        """Remove edges; arguments as in `Collection.delete`."""
        ids = ids if isinstance(ids, str | None) else list(ids)
        node = self._criteria(ids, where, "delete")
        if dry_run:
            return super().delete(ids, where=where, dry_run=True)
        with self._sync.catalog.write() as transaction:
            numbers = self._table.matching(transaction.connection, node).tolist()
            gone = self._table.by_rows(transaction.connection, numbers).values()
            self._note(transaction, [(edge, {}) for edge in gone])
            return super().delete(ids, where=where)

    def _note(self, transaction: Transaction, said: Sequence[tuple[EchoEdge, dict[str, Any]]]) -> None:
        ledger = Ledger(self._sync)
        ends = [(edge.id, form) for edge, _ in said for form in (edge.source, edge.target)]
        known = {(edge, form): value for edge, form, value in ledger.tables.last_said(transaction.connection, ends)}
        forms = ledger.open(transaction, {form for _, form in ends})
        steps = []
        for edge, value in said:
            for name in dict.fromkeys((edge.source, edge.target)):
                if name in forms and known.get((edge.id, name), {}) != value:
                    steps.append((forms[name], edge.id, value, None))
        ledger.step(transaction, steps)
        changed = {each.id: each for each, _, _, _ in steps}.values()
        for each in changed:
            each.touched()
        patch(transaction.connection, ledger.forms, [(each.row or 0, tuple(each.values)) for each in changed], PATCHED)


def shown(edge: EchoEdge) -> dict[str, Any]:
    """An edge as a step says it."""
    return {"source": edge.source, "target": edge.target, "type": edge.type, "weight": edge.weight}


def components(connection: Connection, edges: RecordTable[Any], node: Node | None) -> list[list[str]]:
    """Ids of forms that edges hold together, whichever way they point: the largest first, ties by id; ids sorted.

    Cost: one pass over the edges, nearly linear (Tarjan's union-find).
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for source, target in ends_of(connection, edges, node):
        one, other = root(source), root(target)
        if one != other:
            parent[max(one, other)] = min(one, other)
    found: dict[str, list[str]] = {}
    for name in parent:
        found.setdefault(root(name), []).append(name)
    return sorted((sorted(group) for group in found.values()), key=lambda group: (-len(group), group[0]))
