"""What can be asked of analogies beyond the verbs: `store.analogies`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vectorstore.errors import ValidationError
from vectorstore.reason.algebra import Method, offsets
from vectorstore.reason.completing import asked, complete
from vectorstore.reason.naming import Names
from vectorstore.reason.reasoner import Reasoner
from vectorstore.reason.relating import SOURCE, Mapped, Related, mapped, relations
from vectorstore.records import Analogy, Where
from vectorstore.results import Hits
from vectorstore.search import Id
from vectorstore.storage import spaces as rows
from vectorstore.storage.lookups import sources_of
from vectorstore.sync import Progress
from vectorstore.vectors import Matrix
from vectorstore.writing import Given, Raced

RELATION = "relation"
BATCH = 1000
_ATTEMPTS = 20


class Analogies(Reasoner[Analogy]):
    """The analogies of a store, and what follows from them and from the vectors of other kinds."""

    def complete(
        self,
        a: Any,
        b: Any,
        c: Any,
        k: int = 5,
        method: Method = "3cosadd",
        *,
        where: Where | None = None,
        context: str | None = None,
        kind: str = "concepts",
        space: str | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> Hits[Any]:
        """What is to c as b is to a: `complete("man", "king", "woman")` is "queen" where the vectors know it.

        Args:
            a: an id, a name (as `fold` compares names), a record or a (d,) vector; so are b and c.
            b: what a is related to.
            c: what the answer is related to in the same way.
            k: how many answers.
            method: "3cosadd", "3cosmul" or "pair" (`reason/algebra.py` has the formulas and their sources).
            where: a filter on the answers.
            context: names are looked for there first, and the answers come from there only.
            kind: whose records are asked for and answered.
            space: which of that kind's vector spaces; None for the one of its texts.
            recall: as in `search`; of "3cosmul" and "pair" it holds for the two searches that find their candidates.
            exact: compare with every vector.

        Returns:
            `Completion` hits with margin and confidence, best first. Neither a, b, c nor anything with the same name,
            in whatever context, is among them.

        Raises:
            NotFound: a word is neither an id nor a name. AmbiguousName: it is the name of several records.
            ValidationError: a bad argument, or a question without a direction.
        """
        collection = self._others(kind)
        if context is not None:
            where = {"context": context} if where is None else {"and": [where, {"context": context}]}
        question = asked(collection, (a, b, c), context, space)
        return complete(collection, question, k, method, where, recall, exact, space)

    # -- relations -------------------------------------------------------------------------------------------------

    def relate(
        self,
        where: Where | None = None,
        *,
        kind: str = "concepts",
        space: str | None = None,
        progress: Progress | None = None,
    ) -> Related:
        """Give analogies their relation vectors, derived from the concepts that they name as those are now.

        The relation of a proportion is the mean of b - a and d - c, that of a mapping the mean of target - source over
        its pairs; under cosine of vectors of length one. Pairs whose concepts are not known are passed over. Only what
        changed is written, so it can be called after any change of the concepts; relations that the caller brought
        stay. A thousand analogies are one commit.

        Args:
            where: only analogies that match.
            kind: whose records the terms are.
            space: which of that kind's vector spaces; None for the one of its texts.
            progress: told (analogies seen, analogies).
        """
        done: dict[str, list[str]] = {name: [] for name in ("written", "unchanged", "brought", "unresolved")}
        total, seen = self.count(where), 0
        analogies = self.stream(where)
        while batch := list(itertools.islice(analogies, BATCH)):
            self._relate(batch, kind, space, done)
            seen += len(batch)
            if progress is not None:
                progress(min(seen, total), total)
        return Related(**{name: tuple(ids) for name, ids in done.items()})

    def _relate(self, batch: Sequence[Analogy], kind: str, space: str | None, done: dict[str, list[str]]) -> None:
        sources = self._relation_sources(batch)
        open_ones = []
        for analogy in batch:
            brought = sources.get(analogy.id, SOURCE) != SOURCE
            done["brought"].append(analogy.id) if brought else open_ones.append(analogy)
        made = relations(self._others(kind), open_ones, space)
        stored = self._searcher(RELATION).queries.stored([analogy.id for analogy in open_ones])
        changed: list[tuple[Analogy, Matrix]] = []
        for analogy, vector in zip(open_ones, made, strict=True):
            if vector is None:
                done["unresolved"].append(analogy.id)
            elif analogy.id in stored and np.array_equal(stored[analogy.id], vector):
                done["unchanged"].append(analogy.id)
            else:
                changed.append((analogy, vector))
        if changed:
            self._write_relations([one for one, _ in changed], np.stack([vector for _, vector in changed]))
            done["written"] += [analogy.id for analogy, _ in changed]

    def _relation_sources(self, analogies: Sequence[Analogy]) -> dict[str, str]:
        with self._sync.catalog.read() as connection:
            made = rows.space_by_name(connection, self.kind.space_name(RELATION))
            if made is None:
                return {}
            stored = self._table.existing(connection, [analogy.id for analogy in analogies])
            found = sources_of(connection, made.id, [row for row, _ in stored.values()])
        return {name: found[row] for name, (row, _) in stored.items() if row in found}

    def _write_relations(self, analogies: Sequence[Analogy], vectors: Matrix) -> None:
        for _ in range(_ATTEMPTS):
            current = self._existing([analogy.id for analogy in analogies])
            batch = self._batch(Given({self.kind.space_name(RELATION): vectors}, SOURCE, 1.0))
            batch.prepare([current[analogy.id] for analogy in analogies], None)
            try:
                batch.commit("update", {name: record.version for name, record in current.items()})
                return
            except Raced:
                continue
        raise ValidationError(f"{self.name}: other writers kept changing the same records; try again later")

    def parallel(
        self,
        a: Any,
        b: Any,
        k: int = 10,
        where: Where | None = None,
        *,
        context: str | None = None,
        kind: str = "concepts",
        space: str | None = None,
        recall: float | None = None,
        exact: bool = False,
    ) -> Hits[Analogy]:
        """The analogies whose relation is most like that from a to b, by their relation vectors (see `relate`).

        Arguments as in `complete`; `where` and `context` are about the analogies, and `context` also about names.
        """
        collection = self._others(kind)
        if context is not None:
            where = {"context": context} if where is None else {"and": [where, {"context": context}]}
        start, end, _ = asked(collection, (a, b, b), context, space).terms
        query = offsets(start[None], end[None], collection.metric).astype(np.float32)
        return self.search(query, k, where, recall, exact, space=RELATION)

    # -- what maps what --------------------------------------------------------------------------------------------

    def mapping(self, term: str, where: Where | None = None, *, kind: str = "concepts") -> tuple[Mapped, ...]:
        """What a concept is mapped to by every analogy that names it, on either side, grouped with mean confidence.

        Args:
            term: a name; or an `Id`, then of analogies with evidence only those count that name this very record.
            where: a filter on the analogies.
            kind: whose record an `Id` is.

        Raises:
            NotFound: no record has that id.

        Cost: an index over terms finds the analogies; the others are not read.
        """
        name, id = str(term), None
        if isinstance(term, Id):
            found = Names.of(self._others(kind), [term]).one(term, f"{self.name}.mapping")
            name, id = found.name, found.id
        named: Where = {"terms__has": name}
        return mapped(self.stream(named if where is None else {"and": [named, where]}), name, id)
