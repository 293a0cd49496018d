"""Near-duplicates at write: what is done with a record that is nearly the same as one that is there.

Every record that comes in is compared with the live records of its kind and with those before it in the same call.
Nothing is decided on what another writer changes meanwhile: the transaction that writes first compares with all that
has come since, and looks whether the records that were decided by still stand; if not, everything is decided anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, get_args

import numpy as np

from vectorstore.embedding import Embedding, text_hash
from vectorstore.errors import ValidationError
from vectorstore.ids import new_id
from vectorstore.records import Record
from vectorstore.storage import RecordTable, SpaceRow, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.decisions import NOT_ADDED, record_decisions
from vectorstore.storage.lookups import records_of
from vectorstore.sync import Progress, SnapshotMoved, Sync
from vectorstore.vectors import Live, Matrix, Segment, as_matrix
from vectorstore.vectors.arrays import lengths
from vectorstore.vectors.ranges import pairs, scores_of
from vectorstore.writing import Batch, Given, Raced, as_record, checked_id

R = TypeVar("R", bound=Record)
Action = Literal["keep", "reject", "merge", "link"]
_ATTEMPTS = 20


@dataclass(frozen=True)
class Duplicates:
    """What `add` and `upsert` do with a new record that is nearly the same as one that is there.

        store.concepts.add(records, duplicates=vs.Duplicates(0.97, "reject"))

    Compared are the vectors of the kind's texts, with the live records and with the earlier records of the call that
    were added; a record without such a vector is just added. Of several near-duplicates the most alike one decides,
    the older of equal ones. Each decision is kept, see `Collection.decisions`. An `upsert` of an id that exists
    replaces that record, as ever.

    Attributes:
        threshold: the score from which on two records are near-duplicates, on the scale of `Hit.score`.
        action: "keep" adds the record all the same; "link" too, and the decision is an edge between the two; "reject"
            does not add it; "merge" does not either, and gives the record that is there its tags, its extra keys and
            the fields that are missing there: its version rises, its text is embedded again if it changed.
        recall: 1.0 compares with every live record; less goes through the index, as in a search.

    Raises:
        ValidationError: a bad attribute.

    Cost: the records and vectors of the call in memory; each is compared with every live record, as an exact search
    does, and with those before it in the call, by matrix products.
    """

    threshold: float = 0.95
    action: Action = "keep"
    recall: float = 1.0

    def __post_init__(self) -> None:
        """Check the attributes."""
        bad = isinstance(self.threshold, bool) or not isinstance(self.threshold, int | float)
        if bad or not np.isfinite(self.threshold):
            raise ValidationError(f"Duplicates.threshold: expected a finite number, got {self.threshold!r}")
        if self.action not in get_args(Action):
            raise ValidationError(f"Duplicates.action: expected keep, reject, merge or link, got {self.action!r}")
        if isinstance(self.recall, bool) or not isinstance(self.recall, int | float) or not 0 <= self.recall <= 1:
            raise ValidationError(f"Duplicates.recall: expected 0..1, got {self.recall!r}")


class Remembering(Embedding):
    """The store's embedding during one call: a text is embedded once, however often the call is prepared anew."""

    def __init__(self, of: Embedding, brings_vectors: bool = False) -> None:
        self._of = of
        self._brings = brings_vectors or of.brings_vectors
        self._made: dict[bytes, Matrix] = {}

    @property
    def brings_vectors(self) -> bool:
        """Whether no text is to be embedded: the caller brought the vectors of this call."""
        return self._brings

    def probe(self) -> Matrix:
        """(d,) the probe text's vector."""
        return self._of.probe()

    def pin(self, transaction: Transaction, space: SpaceRow, probe: Matrix) -> None:
        """Make the space this embedder's, if it is nobody's yet."""
        self._of.pin(transaction, space, probe)

    def texts(
        self,
        space: SpaceRow | None,
        texts: Sequence[str],
        hashes: Sequence[bytes],
        metric: str,
        progress: Progress | None,
    ) -> Matrix:
        """(n, d) vectors of record texts."""
        new = {key: text for key, text in zip(hashes, texts, strict=True) if key not in self._made}
        if new:
            made = self._of.texts(space, list(new.values()), list(new), metric, progress)
            self._made.update(zip(new, made, strict=True))
        return np.stack([self._made[key] for key in hashes])


@dataclass(frozen=True, eq=False)
class Incoming(Generic[R]):
    """The records of one call, with their ids and vectors.

    Attributes:
        records: each with an id.
        named: whether the id was given, or follows from the fields.
        given: the caller's (n, d) matrices by space.
        places: (m,) of the records that have a vector to compare.
        vectors: (m, d) those vectors.
    """

    records: list[R]
    named: list[bool]
    given: Mapping[str, Matrix]
    places: np.ndarray
    vectors: Matrix
    embedding: Remembering


@dataclass(frozen=True, eq=False)
class Seen:
    """What was compared with: a snapshot, the records that the call replaces, and the first vid that was free then."""

    live: Live | None
    replaced: Mapping[str, int]
    next_vid: int


@dataclass(frozen=True, eq=False)
class Twins:
    """The most alike of each compared record, by its place among them: its score, and its vid or its place.

    `score` is -inf where there is none that reaches the threshold; `own` is -1 where `vid` says which.
    """

    score: np.ndarray
    vid: np.ndarray
    own: np.ndarray


@dataclass(eq=False)
class Outcome(Generic[R]):
    """What is to be written, and what the call returns."""

    ids: list[str] = field(default_factory=list)
    added: dict[int, R] = field(default_factory=dict)
    changed: dict[str, R] = field(default_factory=dict)
    decisions: list[tuple[str, str, float, str]] = field(default_factory=list)


class Deduplicator(Generic[R]):
    """Writes to one kind under a policy."""

    def __init__(
        self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str, policy: Duplicates
    ) -> None:
        self._sync = sync
        self._table = table
        self._embedding = embedding
        self._metric = metric
        self._policy = policy
        if not isinstance(policy, Duplicates):
            raise ValidationError(f"duplicates: expected a vs.Duplicates, got {policy!r}")

    def write(self, operation: str, items: Iterable[Any], given: Given | None, progress: Progress | None) -> list[str]:
        """Add or upsert; returns for each item the id of the record that stands for it now.

        Raises:
            ValidationError, DuplicateId, ConflictError: as without a policy; nothing was written.
        """
        incoming = self._incoming(items, given, progress)
        if not incoming.records:
            return []
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(Raced):
                return self._attempt(operation, incoming, given)
        raise ValidationError(f"{self._table.name}: other writers kept changing the same records; try again later")

    def _incoming(self, items: Iterable[Any], given: Given | None, progress: Progress | None) -> Incoming[R]:
        """Everything checked and embedded, before any lock."""
        name, now = self._table.name, self._sync.catalog.clock()
        records: list[R] = []
        named: list[bool] = []
        for place, item in enumerate(items):
            where = f"{name}[{place}]"
            record = as_record(self._table, item, where)
            known = record.id or checked_id(record.derived_id(), where)
            named.append(known is not None)
            records.append(record.model_copy(update={"id": known or new_id(now)}))
        matrices = {}
        with self._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, name)
            for other, values in ({} if given is None else given.spaces).items():
                made = rows.space_by_name(connection, other)
                dim = None if made is None else made.dim
                matrices[other] = as_matrix(values, f"{other}.vectors", dim=dim, metric=self._metric)
        for other, matrix in matrices.items():
            if len(matrix) != len(records):
                raise ValidationError(f"{other}.vectors: {len(matrix)} vectors for {len(records)} records")
        embedding = Remembering(self._embedding, name in matrices)
        places, vectors = np.arange(len(records)), matrices.get(name)
        if vectors is None:
            texts = [] if embedding.brings_vectors else [self._table.schema.text(record) for record in records]
            places = np.array([place for place, text in enumerate(texts) if text], dtype=np.int64)
            chosen = [texts[place] for place in places.tolist()]
            vectors = np.empty((0, 1), np.float32)
            if chosen:
                vectors = embedding.texts(space, chosen, [text_hash(text) for text in chosen], self._metric, progress)
        return Incoming(records, named, matrices, places, vectors, embedding)

    # -- deciding --------------------------------------------------------------------------------------------------

    def _attempt(self, operation: str, incoming: Incoming[R], given: Given | None) -> list[str]:
        seen = self._look(operation, incoming)
        twins = self._twins(incoming, seen)
        outcome = self._decide(incoming, seen, twins)
        batches: list[tuple[Batch[R], str, Mapping[str, int] | None]] = []

        def discard() -> None:
            for batch, _, _ in batches:
                batch.discard()

        try:
            if outcome.added:
                kept = list(outcome.added)
                chosen = {name: matrix[kept] for name, matrix in incoming.given.items()}
                some = None if given is None else Given(chosen, given.source, given.confidence)
                batches.append((self._batch(incoming, some), operation, None))
                batches[-1][0].prepare(list(outcome.added.values()), None)
            if outcome.changed:
                versions = {name: record.version for name, record in outcome.changed.items()}
                batches.append((self._batch(incoming, None), "update", versions))
                batches[-1][0].prepare(list(outcome.changed.values()), None)
        except BaseException:
            discard()
            raise
        with self._sync.catalog.write(undo=discard) as transaction:
            self._verify(transaction, operation, incoming, seen, twins)
            for batch, what, expected in batches:
                batch.commit(what, expected)
            record_decisions(
                transaction.connection, self._table.name, transaction.seq, transaction.now, outcome.decisions
            )
        return outcome.ids

    def _batch(self, incoming: Incoming[R], given: Given | None) -> Batch[R]:
        return Batch(self._sync, self._table, incoming.embedding, self._metric, given)

    def _look(self, operation: str, incoming: Incoming[R]) -> Seen:
        while True:
            with self._sync.catalog.read() as connection, contextlib.suppress(SnapshotMoved):
                live = self._sync.state(self._table.name).current(connection)
                (next_vid,) = connection.execute("SELECT next_vid FROM state").fetchone()
                return Seen(live, self._replaced(connection, operation, incoming), next_vid)

    def _replaced(self, connection: Any, operation: str, incoming: Incoming[R]) -> dict[str, int]:
        """Id -> row of the live records that the call overwrites."""
        if operation != "upsert":
            return {}
        existing = self._table.existing(connection, [record.id for record in incoming.records])
        return {name: row for name, (row, gone) in existing.items() if not gone}

    def _twins(self, incoming: Incoming[R], seen: Seen) -> Twins:
        count = len(incoming.places)
        twins = Twins(np.full(count, -np.inf), np.full(count, -1), np.full(count, -1))
        if not count:
            return twins
        threshold, gone = self._policy.threshold, self._policy.action in NOT_ADDED
        new = np.array([incoming.records[place].id not in seen.replaced for place in incoming.places.tolist()])
        for place, vid, score in self._nearest(incoming, seen, np.flatnonzero(new)):
            if score >= threshold:
                twins.score[place], twins.vid[place] = score, vid
        vectors = incoming.vectors
        block = Segment(0, vectors, lengths(vectors), 0, None)
        own = Live(seq=0, dim=vectors.shape[1], metric=self._metric, segments=(block,))
        skip = gone & np.isfinite(twins.score)  # what is not added is nobody's twin
        for place, later, values in pairs(own, threshold, skip=skip):
            scores = scores_of(values, self._metric)
            nearer = new[later] & (scores > twins.score[later])
            twins.score[later[nearer]], twins.own[later[nearer]] = scores[nearer], place
            if gone:
                skip[later[new[later]]] = True
        return twins

    def _nearest(self, incoming: Incoming[R], seen: Seen, places: np.ndarray) -> Iterator[tuple[int, int, float]]:
        """(place, vid, score) of the most alike live record that the call does not replace."""
        live = seen.live
        if live is None or not len(places):
            return
        allowed = None
        if seen.replaced:
            with self._sync.catalog.read() as connection:
                space = rows.space_by_name(connection, self._table.name)
                assert space is not None  # there is a snapshot of it
                leaving = rows.live_vectors(connection, space.id, list(seen.replaced.values()))
            everything = live.vids_at(np.arange(live.rows))
            allowed = live.allow(np.setdiff1d(everything, [vid for vid, _, _ in leaving.values()]))
        found = live.search_many(incoming.vectors[places], 1, allowed=allowed, recall=self._policy.recall)
        for place, answer in zip(places.tolist(), found, strict=True):
            if len(answer.vids):
                yield place, int(answer.vids[0]), float(scores_of(answer.scores, self._metric)[0])

    def _decide(self, incoming: Incoming[R], seen: Seen, twins: Twins) -> Outcome[R]:
        """What becomes of each record.

        Raises:
            Raced: a record that was compared with is gone.
        """
        wanted = sorted({int(vid) for vid in twins.vid[np.isfinite(twins.score) & (twins.own < 0)]})
        with self._sync.catalog.read() as connection:
            row_of = records_of(connection, wanted)
            stored = self._table.by_rows(connection, list(set(row_of.values())))
        if len(row_of) < len(wanted):
            raise Raced
        action = self._policy.action
        outcome: Outcome[R] = Outcome()
        compared = {place: number for number, place in enumerate(incoming.places.tolist())}
        for place, record in enumerate(incoming.records):
            number = compared.get(place)
            if number is None or not np.isfinite(twins.score[number]):
                outcome.added[place] = record
                outcome.ids.append(record.id)
                continue
            at = int(incoming.places[twins.own[number]]) if twins.own[number] >= 0 else None
            other = stored[row_of[int(twins.vid[number])]] if at is None else outcome.added[at]
            named = record.id if action not in NOT_ADDED or incoming.named[place] else ""
            outcome.decisions.append((named, other.id, float(twins.score[number]), action))
            outcome.ids.append(other.id if action in NOT_ADDED else record.id)
            if action not in NOT_ADDED:
                outcome.added[place] = record
            elif action == "merge" and at is not None:
                outcome.added[at] = united(outcome.added[at], record, f"{self._table.name}[{place}]")
            elif action == "merge":
                base = outcome.changed.get(other.id, other)
                outcome.changed[other.id] = united(base, record, f"{self._table.name}[{place}]")
        return outcome

    def _verify(
        self, transaction: Transaction, operation: str, incoming: Incoming[R], seen: Seen, twins: Twins
    ) -> None:
        """What was decided still holds, in the transaction that writes it.

        Raises:
            Raced: a near-duplicate has come since, a twin is gone, or other ids exist.
        """
        connection = transaction.connection
        if self._replaced(connection, operation, incoming).keys() != seen.replaced.keys():
            raise Raced
        decided = np.isfinite(twins.score)
        known = np.unique(twins.vid[decided & (twins.own < 0)])
        live = self._sync.state(self._table.name).current(connection)
        space = rows.space_by_name(connection, self._table.name)
        if live is None or space is None:
            if len(known):
                raise Raced
            return
        if len(live.allow(known).positions) < len(known):
            raise Raced
        since, _ = rows.record_map(connection, space.id, seen.next_vid - 1)
        late = live.allow(since)
        if len(late.positions) and len(incoming.vectors):
            if incoming.vectors.shape[1] != live.dim:
                return  # the batch says so when it is written
            for found in live.search_many(incoming.vectors, 1, allowed=late, exact=True):
                if len(found.scores) and scores_of(found.scores, self._metric)[0] >= self._policy.threshold:
                    raise Raced


def united(standing: R, incoming: R, where: str) -> R:
    """The record that stands with what another adds: tags, extra keys, missing fields; the later end of the two."""
    fields, more = dict(standing.__dict__), incoming.__dict__
    for name, value in more.items():
        if name not in Record.model_fields and _missing(fields[name]):
            fields[name] = value
    fields["tags"] = tuple(dict.fromkeys((*standing.tags, *incoming.tags)))
    fields["extra"] = {**incoming.extra, **standing.extra}
    if "expires_at" in fields:
        ends = (fields["expires_at"], more["expires_at"])
        fields["expires_at"] = None if None in ends else max(ends)
    return type(standing).parse(fields, where)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, str | tuple | list | dict) and not value)
