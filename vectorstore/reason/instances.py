"""Cases of frames: checked against their frames, found by who plays in them, and by which others are like them."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vectorstore.errors import (
    InstanceError,
    MissingElement,
    NotFound,
    UndeclaredElement,
    UnknownConcept,
    UnknownFrame,
    ValidationError,
)
from vectorstore.ids import fold
from vectorstore.reason.frames import Elements, ancestors_of, elements_of, listed
from vectorstore.reason.likeness import Likeness, Parts, likeness
from vectorstore.reason.reasoner import Reasoner
from vectorstore.records import Concept, Frame, FrameElement, FrameInstance, Row, Where
from vectorstore.storage import Connection, Transaction
from vectorstore.vectors import Matrix

STRUCTURAL, SEMANTIC = 0.6, 0.4
"""What the two sides weigh in how alike instances are."""

RELATED = 0.8
"""How alike in structure instances are whose frames inherit one from the other."""


@dataclass(frozen=True)
class Role:
    """A part that a concept plays.

    Attributes:
        element: the part's name, as it is bound.
        frame: the id of the frame.
        instance: the case.
    """

    element: str
    frame: str
    instance: FrameInstance


@dataclass(frozen=True)
class Analogous:
    """An instance that is like another one.

    Attributes:
        instance: it.
        score: 0.6 `structural` + 0.4 `semantic`, 0..1.
        structural: 1.0 for the same frame, 0.8 when one frame inherits from the other, else the Jaccard similarity of
            the names of their elements.
        semantic: how near the concepts in corresponding parts are: mean cosine, 0..1.
        roles: (element of the asked instance, element of this one, their similarity) of the corresponding parts.
        concepts: (concept of the asked one, concept of this one, their cosine) within these.
    """

    instance: FrameInstance
    score: float
    structural: float
    semantic: float
    roles: tuple[tuple[str, str, float], ...]
    concepts: tuple[tuple[str, str, float], ...]


class Instances(Reasoner[FrameInstance]):
    """Cases of frames: who plays which part."""

    def bind(
        self,
        frame: str,
        bindings: Mapping[str, str | Iterable[str]],
        *,
        context: str = "default",
        missing: Literal["refuse", "create"] = "refuse",
        **fields: Any,
    ) -> str:
        """Add an instance, with frame and concepts by name as seen from its context, or by id; returns its id.

        Args:
            frame: name or id.
            bindings: element -> the concepts that play it.
            context: of the instance.
            missing: "create" makes concepts that are not there, in the same commit.
            fields: the instance's other fields, and data of your own.

        Raises:
            UnknownFrame, UnknownConcept, MissingElement, UndeclaredElement: nothing was written.
            ValidationError: an argument of another type. DuplicateId: another writer made a missing concept meanwhile.
        """
        if missing not in ("refuse", "create"):
            raise ValidationError(f"missing: expected 'refuse' or 'create', got {missing!r}")
        pairs = _pairs(frame, bindings)
        chosen = self._id_of(Frame.table, frame, context)
        ids = {name: self._id_of(Concept.table, name, context) for _, name in pairs}
        absent = [name for name, found in ids.items() if found is None] if missing == "create" else []
        first = {fold(name): name for name in reversed(absent)}  # in whatever case, one name is one concept
        made = self._others(Concept.table)._batch(None)
        made.prepare([{"name": name, "context": context} for name in first.values()], None)  # embeds, before any lock
        new = dict(zip(first, made.ids, strict=True))
        ids.update({name: new[fold(name)] for name in absent})
        bound = [{"element": element, "concept": ids[name] or name} for element, name in pairs]
        record = {**fields, "context": context, "frame": chosen or frame, "bindings": bound}
        with self._sync.catalog.write():
            if absent:
                made.commit("add")
            return self.add(record)[0]

    def _id_of(self, kind: str, name: str, context: str) -> str | None:
        named: Any = self._others(kind)
        try:
            return name if name in named else str(named.resolve(name, context).id)
        except NotFound:
            return None

    def roles_of(self, concept: str) -> list[Role]:
        """All parts that a concept plays, in order of arrival; several in one instance, too.

        Raises:
            NotFound: no such concept.
        """
        if concept not in self._others(Concept.table):
            raise NotFound(f"{Concept.table}: no record with id {concept!r}")
        return [
            Role(binding.element, instance.frame, instance)
            for instance in self.stream({"bindings__has": concept})
            for binding in instance.bindings
            if binding.concept == concept
        ]

    def analogous(self, id: str, where: Where | None = None, *, k: int = 10, min_score: float = 0.0) -> list[Analogous]:
        """The instances that are most like one, best first, ties in order of arrival; equal to comparing with all.

        Corresponding parts are those of the same name; the others are paired so that their concepts are nearest in
        sum. Concepts without a vector are like nothing.

        Args:
            id: the instance that is asked about; it is left out.
            where: a filter, such as {"frame": "default:quest"}.
            k: at most so many.
            min_score: 0..1, only those that score at least so much.

        Raises:
            NotFound: no such instance.

        Cost: reads every instance that matches, and compares those whose structure alone does not rule them out.
        """
        asked = self.get(id)
        if asked is None:
            raise NotFound(f"{self.name}: no record with id {id!r}")
        others = [each for each in self.stream(where) if each.id != id]
        with self._sync.catalog.read() as connection:
            structural = self._structural(connection, asked.frame, {each.frame for each in others})
        own = _parts(asked)
        vectors: dict[str, Matrix | None] = {}
        best: list[tuple[float, int]] = []
        scored: dict[int, tuple[float, Likeness]] = {}
        # What is most alike in structure comes first: once k are known, most of the rest cannot reach them.
        for place in sorted(range(len(others)), key=lambda at: (-structural[others[at].frame], at)):
            alike = STRUCTURAL * structural[others[place].frame]
            if alike + SEMANTIC < (best[0][0] if len(best) == k else min_score):
                break
            found = likeness(own, _parts(others[place]), self._vectors_of(vectors, asked, others[place]))
            score = alike + SEMANTIC * found.mean
            if score < min_score:
                continue
            scored[place] = (score, found)
            if len(best) < k:
                heapq.heappush(best, (score, -place))
            else:
                heapq.heappushpop(best, (score, -place))
        return [
            Analogous(others[-at], score, structural[others[-at].frame], scored[-at][1].mean, *scored[-at][1].evidence)
            for score, at in sorted(best, reverse=True)
        ]

    def _structural(self, connection: Connection, frame: str, others: set[str]) -> dict[str, float]:
        """Frame -> how alike in structure an instance of it is to one of the asked frame."""
        elements = elements_of(self._sync, connection, {frame, *others})
        above = ancestors_of(self._sync, connection, {frame, *others})
        found = {}
        for other in others:
            if other == frame:
                found[other] = 1.0
            elif other in above[frame] or frame in above[other]:
                found[other] = RELATED
            else:
                one, two = set(elements.get(frame, ())), set(elements.get(other, ()))
                found[other] = len(one & two) / len(one | two) if one | two else 0.0
        return found

    def _vectors_of(self, known: dict[str, Matrix | None], *instances: FrameInstance) -> dict[str, Matrix | None]:
        """The vectors of all bound concepts, None for those without."""
        wanted = [b.concept for each in instances for b in each.bindings if b.concept not in known]
        if wanted:
            concepts = self._others(Concept.table)
            found = concepts._searcher(None).queries.stored(list(dict.fromkeys(wanted)))
            known.update({name: found.get(name) for name in wanted})
        return known

    # -- what an instance must be ----------------------------------------------------------------------------------

    def before(self, transaction: Transaction, rows: Sequence[Row], offset: int) -> None:
        """Instances fit their frames: all problems of the call's rows are told at once.

        Raises:
            UnknownFrame, UnknownConcept, MissingElement, UndeclaredElement: problems of one sort.
            InstanceError: several sorts; `problems` has them all.
        """
        connection = transaction.connection
        instances: list[FrameInstance] = [self._table.schema.decode(row) for row in rows]
        elements = elements_of(self._sync, connection, {each.frame for each in instances})
        bound = list(dict.fromkeys(binding.concept for each in instances for binding in each.bindings))
        there = self._sync.table(Concept.table).existing(connection, bound)
        concepts = {name for name, (_, gone) in there.items() if not gone}
        problems: list[InstanceError] = []
        for place, instance in enumerate(instances, offset):
            at = f"{self.name}[{place}]"
            problems += _problems(at, instance, elements.get(instance.frame), concepts)
        if problems:
            sorts = {type(problem) for problem in problems}
            message = "\n".join(str(problem) for problem in problems)
            raise (sorts.pop() if len(sorts) == 1 else InstanceError)(message, tuple(problems))


def _problems(
    at: str, instance: FrameInstance, elements: Elements | None, concepts: set[str]
) -> Iterable[InstanceError]:
    if elements is None:
        yield UnknownFrame(f"{at}.frame: no frame has the id {instance.frame!r}; add it first")
    for place, binding in enumerate(instance.bindings):
        if elements is not None and fold(binding.element) not in elements:
            yield UndeclaredElement(
                f"{at}.bindings[{place}].element: {instance.frame!r} has no element {binding.element!r}; "
                f"it has: {listed(elements)}"
            )
        if binding.concept not in concepts:
            yield UnknownConcept(
                f"{at}.bindings[{place}].concept: no concept has the id {binding.concept!r}; add it first"
            )
    bound = {fold(binding.element) for binding in instance.bindings}
    for key, known in (elements or {}).items():
        element: FrameElement = known.element
        if element.type == "core" and key not in bound:
            yield MissingElement(f"{at}.bindings: the core element {element.name!r} of {instance.frame!r} is not bound")


def _pairs(frame: str, bindings: Mapping[str, str | Iterable[str]]) -> list[tuple[str, str]]:
    """(element, concept) of what a caller handed to `bind`."""
    if not isinstance(frame, str):
        raise ValidationError(f"frame: expected a name or an id, got {frame!r}")
    if not isinstance(bindings, Mapping):
        raise ValidationError(f"bindings: expected a mapping from elements to concepts, got {bindings!r:.80}")
    pairs = []
    for element, each in bindings.items():
        for name in [each] if isinstance(each, str) or not isinstance(each, Iterable) else each:
            if not isinstance(name, str):
                raise ValidationError(f"bindings[{element!r}]: expected names or ids of concepts, got {name!r}")
            pairs.append((element, name))
    return pairs


def _parts(instance: FrameInstance) -> Parts:
    """Element -> the concepts that play it, in order; elements by their folded names."""
    found: Parts = {}
    for binding in instance.bindings:
        found.setdefault(fold(binding.element), (binding.element, []))[1].append(binding.concept)
    return found
