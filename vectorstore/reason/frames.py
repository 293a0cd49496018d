"""Frames and how they inherit: which elements a frame has, and from where."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter

from vectorstore.errors import CycleError, NotFound, UndeclaredElement
from vectorstore.ids import fold
from vectorstore.reason.cycles import cycle_from
from vectorstore.reason.named import Named
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Frame, FrameElement, FrameRelation
from vectorstore.records.where import And, Term
from vectorstore.storage import Connection, Transaction
from vectorstore.sync import Sync

INHERITANCE = "inheritance"


@dataclass(frozen=True)
class ElementOf:
    """An element that a frame has.

    Attributes:
        element: it, under the name that it has in this frame.
        frame: the id of the frame that declares it.
        depth: how many inheritances away that is, 0 for the frame itself.
        declared: what it is called there.
    """

    element: FrameElement
    frame: str
    depth: int
    declared: str


Elements = dict[str, ElementOf]
"""The elements of a frame by folded name, its own first."""


class Frames(Named[Frame]):
    """Scenes with parts to play."""

    def elements(self, id: str) -> list[ElementOf]:
        """All elements of a frame: its own, then those that it inherits, the nearest first.

        An element of its own hides an inherited one of the same name. Where an inheritance maps an element of this
        frame to one of the other, they are the same one, and it has the name that it has here.

        Raises:
            NotFound: no such frame.
        """
        with self._sync.catalog.read() as connection:
            known = elements_of(self._sync, connection, [id])
        if id not in known:
            raise NotFound(f"{self.name}: no record with id {id!r}")
        return list(known[id].values())

    def ancestors(self, id: str) -> list[str]:
        """The ids of the frames that a frame inherits from, directly or not, nearest first.

        Raises:
            NotFound: no such frame.
        """
        with self._sync.catalog.read() as connection:
            if id not in self._table.by_ids(connection, [id]):
                raise NotFound(f"{self.name}: no record with id {id!r}")
            return list(ancestors_of(self._sync, connection, [id])[id])


class FrameRelations(Reasoner[FrameRelation]):
    """How frames relate; the guard against frames that inherit from themselves."""

    def after(self, transaction: Transaction, numbers: Sequence[int]) -> None:
        """No frame inherits from itself, and what is mapped are elements.

        Raises:
            CycleError: one would.
            UndeclaredElement: a frame does not have a mapped element.
        """
        connection = transaction.connection
        written = list(self._table.by_rows(connection, numbers).values())

        def parents(ids: list[str]) -> Mapping[str, Sequence[str]]:
            return {name: [up.target for up in ups] for name, ups in _inherits(self._sync, connection, ids).items()}

        cycle = cycle_from([each.source for each in written if each.type == INHERITANCE], parents)
        if cycle is not None:
            raise CycleError(f"{self.name}: {' > '.join(cycle)} would inherit from itself; nothing was written")
        mapped = [each for each in written if each.element_mappings]
        known = elements_of(self._sync, connection, [end for each in mapped for end in (each.source, each.target)])
        for relation in mapped:
            for place, pair in enumerate(relation.element_mappings):
                for side, frame, name in (
                    ("source", relation.source, pair.source),
                    ("target", relation.target, pair.target),
                ):
                    if fold(name) not in known[frame]:
                        raise UndeclaredElement(
                            f"{self.name} {relation.id!r}.element_mappings[{place}].{side}: {frame!r} has no element "
                            f"{name!r}; it has: {listed(known[frame])}; nothing was written"
                        )


def listed(elements: Elements) -> str:
    """The names of elements, for messages."""
    return ", ".join(each.element.name for each in elements.values()) or "none"


def _inherits(sync: Sync, connection: Connection, ids: Iterable[str]) -> dict[str, list[FrameRelation]]:
    """Frame -> its live inheritances, in order of arrival."""
    table = sync.table(FrameRelation.table)
    columns = table.schema.by_name
    node = And((Term(columns["source"], (), "in", tuple(ids)), Term(columns["type"], (), "eq", INHERITANCE)))
    numbers = sorted(table.matching(connection, node).tolist())
    records = table.by_rows(connection, numbers)
    found: dict[str, list[FrameRelation]] = {}
    for number in numbers:
        found.setdefault(records[number].source, []).append(records[number])
    return found


def _upwards(sync: Sync, connection: Connection, ids: Iterable[str]) -> dict[str, list[FrameRelation]]:
    """The inheritances of frames and of all that they inherit from."""
    known: dict[str, list[FrameRelation]] = {}
    frontier = list(dict.fromkeys(ids))
    while frontier:
        found = _inherits(sync, connection, frontier)
        known.update({name: found.get(name, []) for name in frontier})
        after = (up.target for ups in found.values() for up in ups)
        frontier = list(dict.fromkeys(name for name in after if name not in known))
    return known


def elements_of(sync: Sync, connection: Connection, ids: Iterable[str]) -> dict[str, Elements]:
    """Frame -> all its elements; frames that are not there are left out."""
    upwards = _upwards(sync, connection, ids)
    frames = sync.table(Frame.table).by_ids(connection, list(upwards))
    resolved: dict[str, Elements] = {}
    graph = {name: [up.target for up in ups] for name, ups in upwards.items()}
    for name in TopologicalSorter(graph).static_order():  # what is inherited from comes first
        if name not in frames:
            continue
        own: tuple[FrameElement, ...] = frames[name][1].elements
        found: Elements = {fold(each.name): ElementOf(each, name, 0, each.name) for each in own}
        for up in upwards[name]:
            here = {fold(pair.target): pair.source for pair in up.element_mappings}
            for key, inherited in resolved.get(up.target, {}).items():
                called = here.get(key, inherited.element.name)
                element = inherited.element.model_copy(update={"name": called})
                candidate = dataclasses.replace(inherited, element=element, depth=inherited.depth + 1)
                standing = found.setdefault(fold(called), candidate)
                if candidate.depth < standing.depth:
                    found[fold(called)] = candidate
        resolved[name] = dict(sorted(found.items(), key=lambda item: item[1].depth))
    return resolved


def ancestors_of(sync: Sync, connection: Connection, ids: Iterable[str]) -> dict[str, dict[str, int]]:
    """Frame -> the frames that it inherits from, each with its distance, nearest first."""
    wanted = list(dict.fromkeys(ids))
    upwards = _upwards(sync, connection, wanted)
    found: dict[str, dict[str, int]] = {}
    for name in wanted:
        distance: dict[str, int] = {}
        frontier, reached = [name], 0
        while frontier:
            reached += 1
            nearer = [up.target for each in frontier for up in upwards[each]]
            frontier = list(dict.fromkeys(each for each in nearer if each not in distance and each != name))
            distance.update(dict.fromkeys(frontier, reached))
        found[name] = distance
    return found
