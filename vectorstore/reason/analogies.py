"""What can be asked of analogies beyond the verbs: `store.analogies`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from vectorstore.errors import ConflictError, NotFound, ValidationError
from vectorstore.ids import fold, id_of_parts
from vectorstore.reason.algebra import SAME, Method, offsets
from vectorstore.reason.completing import asked, complete
from vectorstore.reason.discovery import align
from vectorstore.reason.naming import Names
from vectorstore.reason.reasoner import Reasoner
from vectorstore.reason.relating import SOURCE, Mapped, RelateReport, mapped, relations
from vectorstore.reason.retrieving import POOL, retrieve, systems
from vectorstore.records import Analogy, Evidence, Mapping, Where
from vectorstore.results import Hits
from vectorstore.search import Id
from vectorstore.search.ranges import checked_score
from vectorstore.storage import spaces as rows
from vectorstore.storage.lookups import sources_of
from vectorstore.sync import Progress, span
from vectorstore.vectors import Matrix
from vectorstore.writing import Given, Raced

RELATION = "relation"
PROPORTION = ("a", "b", "c", "d")
PAIRED = ("concept_mappings", "frame_mappings")
BATCH = 1000
_ATTEMPTS = 20
_DONE = ("written", "unchanged", "brought", "unresolved")


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
    ) -> RelateReport:
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
        done: dict[str, list[str]] = {name: [] for name in _DONE}
        total, seen = self.count(where), 0
        analogies = self.stream(where)
        while batch := list(itertools.islice(analogies, BATCH)):
            seen += len(batch)
            for name, ids in self._relate_again(batch, kind, space).items():
                done[name] += ids
            if progress is not None:
                progress(min(seen, total), total)
        return RelateReport(**{name: tuple(ids) for name, ids in done.items()})

    def _relate_again(self, batch: Sequence[Analogy], kind: str, space: str | None) -> dict[str, list[str]]:
        """As `_relate`, with the analogies read again when others change them meanwhile."""
        for _ in range(_ATTEMPTS):
            try:
                return self._relate(batch, kind, space)
            except Raced:
                with self._sync.catalog.read() as connection:
                    found = self._table.by_ids(connection, [analogy.id for analogy in batch])
                batch = [found[analogy.id][1] for analogy in batch if analogy.id in found]
        raise ConflictError(f"{self.name}: other writers kept changing the same records; try again later")

    def _relate(self, batch: Sequence[Analogy], kind: str, space: str | None) -> dict[str, list[str]]:
        """What was done with each; `Raced`, and nothing was, when one was changed or deleted since it was read."""
        done: dict[str, list[str]] = {name: [] for name in _DONE}
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
            done["written"] = [analogy.id for analogy, _ in changed]
        return done

    def _relation_sources(self, analogies: Sequence[Analogy]) -> dict[str, str]:
        with self._sync.catalog.read() as connection:
            made = rows.space_by_name(connection, self.kind.space_name(RELATION))
            if made is None:
                return {}
            stored = self._table.existing(connection, [analogy.id for analogy in analogies])
            found = sources_of(connection, made.id, [row for row, _ in stored.values()])
        return {name: found[row] for name, (row, _) in stored.items() if row in found}

    def _write_relations(self, analogies: Sequence[Analogy], vectors: Matrix) -> None:
        batch = self._batch(Given({self.kind.space_name(RELATION): vectors}, SOURCE, 1.0))
        batch.prepare(analogies, None)
        try:
            batch.commit("update", {analogy.id: analogy.version for analogy in analogies})
        except NotFound:
            raise Raced from None

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

    # -- between two domains ---------------------------------------------------------------------------------------

    def discover(
        self,
        source: str,
        target: str,
        min_quality: float = 0.6,
        *,
        pairs: int | None = None,
        context: str | None = None,
        kind: str = "concepts",
        space: str | None = None,
        save: bool = True,
        progress: Progress | None = None,
    ) -> Analogy | None:
        """The best one-to-one mapping of the concepts of one domain to those of another, kept as an analogy.

        Only concepts with exactly these domains, and with vectors, take part. The mapping maximises the sum, over its
        pairs, of two cosines: of the concepts' vectors, and of these less the mean of their own domain. Its quality is
        0.4 structural_coherence + 0.3 semantic_coherence + 0.3 productivity:

        - structural: of a pair the mean cosine, over all other pairs, of its offset to the other source and its offset
          to the other target, at least 0; of the mapping the mean over its pairs.
        - semantic: of a pair the cosine of the two concepts, at least 0; of the mapping the mean.
        - productivity: the share of the smaller domain's concepts that have a partner. A pair whose two parts are both
          0 is dropped.

        A pair's confidence is its two parts in the proportion 4 to 3. `evidence` has both parts and the ids, in the
        order of `concept_mappings`.

        Args:
            source: a domain of the concepts.
            target: another.
            min_quality: 0..1; below it there is no analogy: None, and nothing is written.
            pairs: only the surest so many pairs.
            context: only its concepts; also where the analogy is kept, else in "default".
            kind: whose records are mapped; the kind has the fields name and domain.
            space: which of that kind's vector spaces; None for the one of its texts.
            save: keep it, in place of what was discovered between the two domains in that context before.
            progress: told (percent, 100): each side read, the two mapped, the analogy kept.

        Raises:
            ValidationError: a bad argument. NotFound: a domain has no concepts with vectors.

        Cost: half a second for 2,000 concepts each; memory some 24 m n bytes.
        """
        limit = checked_score(min_quality, "min_quality")
        if not 0 <= limit <= 1:
            raise ValidationError(f"min_quality: expected 0..1, got {min_quality!r}")
        for what, domain in (("source", source), ("target", target)):
            if not isinstance(domain, str) or not domain:
                raise ValidationError(f"discover: {what}: expected a domain, got {domain!r}")
        if pairs is not None and (isinstance(pairs, bool) or not isinstance(pairs, int) or pairs < 1):
            raise ValidationError(f"discover: pairs: expected a whole number of at least 1, got {pairs!r}")
        if source == target:
            raise ValidationError(f"discover: expected two domains, got {source!r} twice")
        sides = []
        for domain in (source, target):
            sides.append(self._members(kind, domain, context, space))
            span(progress, 0, 40)(len(sides), 2)
        found = align(sides[0][1], sides[1][1], pairs)
        if not len(found.sources) or found.quality < limit:
            span(progress, 90, 100)(1, 1)
            return None
        span(progress, 40, 90)(1, 1)
        chosen = [
            [side[0][row] for row in rows] for side, rows in zip(sides, (found.sources, found.targets), strict=True)
        ]
        parts = zip(*chosen, found.confidences, found.semantic, found.structural, strict=True)
        listed = [(x, y, float(sure), float(near), float(stands)) for x, y, sure, near, stands in parts]
        home = context or "default"
        analogy = Analogy(
            id=id_of_parts("discovered", home, source, target),
            context=home,
            source_domain=source,
            target_domain=target,
            concept_mappings=tuple(
                Mapping(source=x.name, target=y.name, confidence=sure) for x, y, sure, _, _ in listed
            ),
            quality=found.quality,
            structural_coherence=found.structural_coherence,
            semantic_coherence=found.semantic_coherence,
            productivity=found.productivity,
            evidence=tuple(
                Evidence(source=x.id, target=y.id, semantic=near, structural=stands) for x, y, _, near, stands in listed
            ),
            tags=("discovered",),
        )
        if not save:
            span(progress, 90, 100)(1, 1)
            return analogy
        offset = offsets(sides[0][1][found.sources], sides[1][1][found.targets], self._others(kind).metric)
        vectors = {RELATION: offset.astype(np.float32)[None]} if np.linalg.norm(offset) >= SAME else None
        kept = self.get(self.upsert(analogy, vectors, source=SOURCE)[0])
        span(progress, 90, 100)(1, 1)
        return kept

    def _members(self, kind: str, domain: str, context: str | None, space: str | None) -> tuple[list[Any], Matrix]:
        """(the records of a domain that have vectors, (n, d) those)."""
        collection = self._others(kind)
        where: dict[str, Any] = {"domain": domain} | ({} if context is None else {"context": context})
        records = list(collection.stream(where))
        vectors = collection._searcher(space).queries.stored([record.id for record in records])
        records = [record for record in records if record.id in vectors]
        if not records:
            inside = "" if context is None else f" in the context {context!r}"
            raise NotFound(f"discover: no record of {kind} has the domain {domain!r} and a vector{inside}")
        return records, np.stack([vectors[record.id] for record in records])

    # -- texts and systems -----------------------------------------------------------------------------------------

    def align(self, source: str, source_terms: Sequence[str], target: str, target_terms: Sequence[str]) -> Analogy:
        """Which term of one system plays the part of which of another, from their words alone; nothing is written.

            store.analogies.align("solar system", ["sun", "planet"], "atom", ["nucleus", "electron"])

        Each term is embedded as the sentence "solar system has sun". The mapping maximises the sum, over its pairs, of
        the cosines of those sentences and of their offsets from their own systems' names.

        Returns:
            An analogy with the surest pair first; quality and its parts as in `discover`, with the second cosines as
            the structural part. `add` it to keep it.

        Raises:
            ValidationError: a system without terms. EmbedderError: the store has no embedder.
        """
        found = systems((source, source_terms), (target, target_terms), self._embedding.embedder)
        chosen = zip(found.sources.tolist(), found.targets.tolist(), found.confidences.tolist(), strict=True)
        return Analogy(
            source_domain=source,
            target_domain=target,
            concept_mappings=tuple(
                Mapping(source=source_terms[i], target=target_terms[j], confidence=sure) for i, j, sure in chosen
            ),
            quality=found.quality,
            structural_coherence=found.structural_coherence,
            semantic_coherence=found.semantic_coherence,
            productivity=found.productivity,
        )

    def retrieve(
        self,
        text: str,
        k: int = 10,
        where: Where | None = None,
        *,
        kind: str = "concepts",
        pool: int = POOL,
        recall: float | None = None,
        exact: bool = False,
    ) -> Hits[Any]:
        """Records that take the same course, in two stages (MAC/FAC): the nearest by vector, then by structure.

        The structure of a text is what leads from each of its sentences (of a single one, of its clauses) to the next.
        A record scores by how well its steps agree with the query's; what the two are about does not count.

        Args:
            text: what analogues are wanted of; best two or more sentences.
            k: how many.
            where: a filter on the records.
            kind: whose records' texts are compared.
            pool: how many of the nearest are compared by structure, at least k.
            recall: of the first stage.
            exact: in the first stage, compare with every vector.

        Returns:
            `Analogue` hits with the mapping of parts, and with their place by text similarity in `former`. No recall is
            promised of the whole: an analogue that is not among the nearest `pool` is not found.

        Raises:
            ValidationError: a bad argument. EmbedderError: the store has no embedder.

        Cost: embeds the parts of all records in the pool, most of the time.
        """
        return retrieve(self._others(kind), text, k, where, pool, recall, exact, self._embedding.embedder)

    # -- what maps what --------------------------------------------------------------------------------------------

    def mapping(self, term: str, where: Where | None = None, *, kind: str = "concepts") -> tuple[Mapped, ...]:
        """What a concept is mapped to by every analogy that names it, on either side, grouped with mean confidence.

        Args:
            term: a name; or an `Id`, then of analogies with evidence only those count that name this very record.
            where: a filter on the analogies.
            kind: whose record an `Id` is.

        Raises:
            NotFound: no record has that id. ValidationError: no name.

        Cost: indexes over the fields that name something find the analogies; the others are not read.
        """
        if not isinstance(term, str) or not fold(term):
            raise ValidationError(f"{self.name}.mapping: expected a name or an Id, got {term!r}")
        name, id = str(term), None
        if isinstance(term, Id):
            found = Names.of(self._others(kind), [term]).one(term, f"{self.name}.mapping")
            name, id = found.name, found.id
        named: Where = {"or": [{field: name} for field in PROPORTION] + [{f"{field}__has": name} for field in PAIRED]}
        return mapped(self.stream(named if where is None else {"and": [named, where]}), name, id)
