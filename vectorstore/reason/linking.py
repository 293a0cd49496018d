"""How forms change phase, how they hang together, and the proof that nobody changed them otherwise."""

from __future__ import annotations

from typing import Literal

from vectorstore.reason import chain, resonance, topology
from vectorstore.reason.anchored import Anchored
from vectorstore.reason.ledger import Ledger
from vectorstore.reason.resonance import Resonance
from vectorstore.records import EchoEdge, EchoForm, EchoStep, Where, parse
from vectorstore.records.lattice import form_id
from vectorstore.records.where import And, Node, Term
from vectorstore.storage import Connection
from vectorstore.storage.edges import edges_at


class Linking(Anchored):
    """Phases, links and resonance of forms."""

    def mutate(self, anchor: str, phase: str, context: str = "default") -> EchoForm:
        """Bring a form into another phase; returns it as it is then, and shares nothing with what was read before.

        The change is a step of the form's chain.
        """
        name = self.form(anchor, context).id
        with self._sync.catalog.write():
            self.update({"id": name, "phase": phase})
            return self.form(anchor, context)

    def lineage(self, anchor: str, context: str = "default") -> list[EchoStep]:
        """What has changed a form, from its beginning; nothing for one that only terms were added to."""
        with self._sync.catalog.read() as connection:
            return Ledger(self._sync).steps_of(connection, self.form(anchor, context).id)

    def verify(self, anchor: str, context: str = "default", *, signature: str | None = None) -> tuple[str, ...]:
        """What does not agree with the form's chain; empty when nothing was changed behind its back.

        Args:
            anchor: of the form.
            context: of the form.
            signature: a `trace_signature` that was noted down earlier; it has to be of a moment of the chain.

        Cost: one hash a term and step.
        """
        ledger = Ledger(self._sync)
        with self._sync.catalog.read() as connection:
            form = self.form(anchor, context)
            terms, steps = ledger.terms_of(connection, form.id), ledger.steps_of(connection, form.id)
            edges = {edge.id: topology.shown(edge) for edge in self._edges_at(connection, form.id)}
            for step in steps:  # an edge goes with the form at its other end, which is no change of this one
                if step.edge is not None and step.edge not in edges and step.value:
                    ends = {step.value["source"], step.value["target"]}
                    if len(self._table.by_ids(connection, list(map(str, ends)))) < len(ends):
                        edges[step.edge] = step.value
            found = chain.faults(form, terms, steps, edges, signature)
            return tuple(f"{form.id}: {fault}" for fault in found)

    def link(
        self, source: str, target: str, type: str = "related", weight: float = 1.0, *, context: str = "default"
    ) -> str:
        """Link two forms, or weigh their link anew; returns the id of the edge."""
        ends = {"source": form_id(source, context), "target": form_id(target, context)}
        ids: list[str] = self._others(EchoEdge.table).upsert(
            {**ends, "type": type, "weight": weight, "context": context}
        )
        return ids[0]

    def unlink(self, source: str, target: str, type: str = "related", *, context: str = "default") -> bool:
        """Take a link away; whether there was one."""
        return bool(self._others(EchoEdge.table).delete(self._edge_id(source, target, type, context)))

    def neighbours(
        self,
        anchor: str,
        type: str | None = None,
        direction: Literal["out", "in", "both"] = "both",
        *,
        context: str = "default",
    ) -> list[tuple[EchoEdge, EchoForm]]:
        """The edges at a form, with the form at the other end, the heaviest first, ties by anchor."""
        with self._sync.catalog.read() as connection:
            name = self.form(anchor, context).id
            edges = self._edges_at(connection, name, type, direction)
            far = {edge.id: edge.target if edge.source == name else edge.source for edge in edges}
            forms = self._table.by_ids(connection, list(far.values()))
        pairs = [(edge, forms[far[edge.id]][1]) for edge in edges]
        return sorted(pairs, key=lambda pair: (-pair[0].weight, pair[1].anchor))

    def components(self, type: str | None = None, *, where: Where | None = None) -> list[list[str]]:
        """Ids of forms that links hold together, whichever way they point, the largest group first.

        Args:
            type: only links of this type.
            where: a filter over the links, such as {"weight__gte": 0.5}.
        """
        edges = self._sync.table(EchoEdge.table)
        with self._sync.catalog.read() as connection:
            return topology.components(connection, edges, self._edge_node(type, where))

    def history(self, source: str, target: str, type: str = "related", *, context: str = "default") -> list[EchoStep]:
        """What became of a link: a step for each time it was added, weighted anew, or removed (an empty value)."""
        edge = self._edge_id(source, target, type, context)
        return [step for step in self.lineage(source, context) if step.edge == edge]

    def resonant(
        self, anchor: str, k: int = 10, context: str = "default", *, where: Where | None = None
    ) -> list[Resonance]:
        """The forms that share most with a form now, best first; `reason/resonance.py` has the formula."""
        node = parse(where, self._table.schema)
        with self._sync.catalog.read() as connection:
            form = self.form(anchor, context)
            found = resonance.nearest(Ledger(self._sync).tables, connection, form, self._sync.catalog.now(), node)[:k]
            forms = self._table.by_ids(connection, [name for name, _, _, _ in found])
        return [Resonance(forms[name][1], score, cosine, shared) for name, score, cosine, shared in found]

    def _edge_id(self, source: str, target: str, type: str, context: str) -> str:
        one, other = form_id(source, context), form_id(target, context)
        return EchoEdge(source=one, target=other, type=type, context=context).derived_id()

    def _edge_node(self, type: str | None, where: Where | None = None) -> Node | None:
        schema = self._sync.table(EchoEdge.table).schema
        node = parse(where, schema)
        if type is None:
            return node
        term = Term(schema.by_name["type"], (), "eq", type)
        return term if node is None else And((term, node))

    def _edges_at(
        self, connection: Connection, name: str, type: str | None = None, direction: str = "both"
    ) -> list[EchoEdge]:
        table, node = self._sync.table(EchoEdge.table), self._edge_node(type)
        ways = [way for way in (True, False) if direction in ("both", "out" if way else "in")]
        ids = [edge.id for way in ways for edge in edges_at(connection, table, self._table, [name], node, outgoing=way)]
        found = table.by_ids(connection, list(dict.fromkeys(ids)))
        return [found[each][1] for each in dict.fromkeys(ids)]
