"""Records of one kind that come in from elsewhere: what is there already is met by a rule, vectors come or are made.

Chunks are prepared without a lock; their rows wait in a nameless temporary file and their vectors in segments, so that
memory holds one chunk and the ids.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
import tempfile
from array import array
from collections import Counter
from collections.abc import Collection as Ids
from collections.abc import Iterator, Sequence
from typing import IO, Any, TypeVar, overload

import numpy as np

from vectorstore.embedders import EmbedderIdentity
from vectorstore.embedding import Embedding
from vectorstore.errors import CorruptError, DimensionError, SpaceMismatch, ValidationError
from vectorstore.exporting import vectors_of_rows
from vectorstore.ids import new_id
from vectorstore.importing import Brought, Import, Space
from vectorstore.interchange.items import Item, Source, Vector, as_numbers
from vectorstore.reason.snapshot import is_bare
from vectorstore.records import Context, Record, Row
from vectorstore.storage import RecordTable, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.storage.spaces import VectorOrigin
from vectorstore.sync import Progress, SnapshotMoved, Sync
from vectorstore.vectors import Matrix, as_matrix
from vectorstore.writing import Batch, Raced, checked_id

R = TypeVar("R", bound=Record)
RULES = ("error", "overwrite", "merge", "skip")
_STAMPS = frozenset({"id", "version", "created_at", "updated_at", "deleted_at"})
_CREATED = 3


class Spool:
    """Encoded rows in a temporary file without a name; only what this process wrote is read back from it."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._loaded: tuple[int, list[Row]] = (-1, [])

    def keep(self, waiting: Sequence[Row]) -> Waiting:
        """The same rows, no longer in memory."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the batch
        at = self._file.seek(0, 2)
        data = marshal.dumps(list(waiting))
        self._file.write(data)
        return Waiting(self, at, len(data), len(waiting))

    def load(self, at: int, size: int) -> list[Row]:
        """Rows from a place on; the last ones that were asked for are remembered."""
        if self._loaded[0] != at:
            assert self._file is not None  # somebody was kept
            self._file.seek(at)
            self._loaded = (at, marshal.loads(self._file.read(size)))
        return self._loaded[1]

    def close(self) -> None:
        """Forget all of it."""
        self._loaded = (-1, [])
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclasses.dataclass(frozen=True, eq=False)
class Waiting(Sequence[Row]):
    """Rows in a spool."""

    spool: Spool
    at: int
    size: int
    rows: int

    def __len__(self) -> int:
        return self.rows

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        return self.spool.load(self.at, self.size)[place]

    def __iter__(self) -> Iterator[Row]:
        return iter(self.spool.load(self.at, self.size))


class Arrivals(Import[R]):
    """Records on their way in from a source. What they say of `version` and times is kept, texts are embedded.

    Args:
        rule: what to do with an id that is there: one of RULES.
        doomed: ids that are deleted before these records come: they are not met.
        deleting: whether anything is deleted before; vectors of unchanged texts are then not relied on.
    """

    def __init__(
        self,
        sync: Sync,
        table: RecordTable[R],
        embedding: Embedding,
        metric: str,
        source: Source,
        *,
        rule: str,
        doomed: Ids[str] = (),
        deleting: bool = False,
    ) -> None:
        super().__init__(sync, table, embedding, metric, [])
        self._source = source
        self._rule = rule
        self._doomed = doomed
        self._deleting = deleting
        self._spool = Spool()
        self._stood: dict[str, int] = {}
        self._met: list[str] = []
        self._damaged: set[str] = set()
        self._without: set[str] = set()
        self.places = array("q")
        self.counts: Counter[str] = Counter()
        self.vectors = 0

    @property
    def _adding(self) -> bool:
        """Whether an id that is there is an error; contexts are made by the first record in them, and are none."""
        return self._rule == "error" and self.kind != Context.table

    @property
    def _keeps(self) -> bool:
        """Whether what is there stays as it is."""
        return self._rule == "skip" or (self._rule == "error" and self.kind == Context.table)

    # -- preparing -------------------------------------------------------------------------------------------------

    def feed(self, items: Sequence[Item], progress: Progress | None = None) -> None:
        """Some more of the records; nothing is part of the store yet. `progress` hears of the texts that are embedded.

        Raises:
            ValidationError, DuplicateId, SpaceMismatch: what was prepared so far is removed.
        """
        try:
            named = self._named(items)
            kept = named if self._adding else self._settled(named)
            self._let_go()
            if not kept:
                return
            self.places.extend(item.place for item, _ in kept)
            brought = self._brought_with(kept)
            self._bring(brought)
            self._without = {name for each in brought if each.space.name == self.kind for name in each.ids}
            self._prepare_chunk([record for _, record in kept], progress)
            part = self._parts[-1]
            part.rows = self._spool.keep(part.rows)
        except BaseException:
            self.discard()
            raise

    def _let_go(self) -> None:
        """Vectors that are on the disk need no memory."""
        for part in self._parts[-1:]:
            for at, (places, staged) in enumerate(part.staged):
                if staged.files():
                    empty = np.empty((0, staged.vectors.shape[1]), np.float32)
                    part.staged[at] = (places, dataclasses.replace(staged, vectors=empty))

    def _named(self, items: Sequence[Item]) -> list[tuple[Item, dict[str, Any]]]:
        """The records with ids: their own, those that follow from their fields, or new ones."""
        named = [(item, item.record) for item in items if item.record is not None]
        if self._adding and not any(item.vectors for item in items):
            return named  # `Batch` gives ids as well, and nobody asks before
        lacking = [place for place, (_, record) in enumerate(named) if not record.get("id")]
        for place, derived in zip(lacking, self._derived([named[place] for place in lacking]), strict=True):
            item, record = named[place]
            named[place] = item, {**record, "id": derived}
        return named

    def _derived(self, named: Sequence[tuple[Item, dict[str, Any]]]) -> list[str]:
        kind, now = self._table.schema.kind, self._sync.catalog.clock()
        if not named or kind.derived_id is Record.derived_id:
            return [new_id(now) for _ in named]
        try:
            records: Sequence[Record] = self._valid([record for _, record in named], 0).records
        except ValidationError:  # say which
            records = [kind.parse(record, self._source.within(item)) for item, record in named]
        pairs = zip(named, records, strict=True)
        return [
            checked_id(record.derived_id(), self._source.within(item)) or new_id(now) for (item, _), record in pairs
        ]

    # -- what is there already -------------------------------------------------------------------------------------

    def _settled(self, named: list[tuple[Item, dict[str, Any]]]) -> list[tuple[Item, dict[str, Any]]]:
        """The records that are going to be written, as they are going to be."""
        ids = [str(record["id"]) for _, record in named]
        self._met += ids
        stored = self._stored(ids)
        if not stored and not self._damaged:
            self.counts["added"] += len(named)
            return named
        kept = []
        for item, record in named:
            found = stored.get(str(record["id"]))
            if found is None or found[1].id in self._doomed:
                new = found is None and str(record["id"]) not in self._damaged
                self.counts["added" if new else "overwritten"] += 1
                kept.append((item, record))
                continue
            number, here = found
            self._stood[here.id] = here.version
            verdict, settled = self._met_by(item, record, number, here)
            self.counts[verdict] += 1
            if settled is not None:
                kept.append((item, settled))
        return kept

    def _stored(self, ids: Sequence[str]) -> dict[str, tuple[int, R]]:
        with self._sync.catalog.read() as connection:
            try:
                return self._table.by_ids(connection, ids)
            except CorruptError:
                if self._rule != "overwrite":
                    raise
        found: dict[str, tuple[int, R]] = {}
        for name in ids:  # a damaged record is mended by being overwritten
            with self._sync.catalog.read() as connection:
                try:
                    found |= self._table.by_ids(connection, [name])
                except CorruptError:
                    self._damaged.add(name)
        return found

    def _met_by(self, item: Item, record: dict[str, Any], number: int, here: R) -> tuple[str, dict[str, Any] | None]:
        """(what becomes of a record whose id is there, how it is written if it is)."""
        bare = isinstance(here, Context) and is_bare(here)
        if self._keeps and not bare:
            return "skipped", None
        coming: R = self._table.schema.kind.parse(record, self._source.within(item))
        fields = type(here).model_fields
        if self._rule == "merge":
            default = {name: field.get_default(call_default_factory=True) for name, field in fields.items()}
            said = {
                name: getattr(coming, name)
                for name, field in fields.items()
                if name not in _STAMPS and (field.is_required() or getattr(coming, name) != default[name])
            }
            tags = tuple(dict.fromkeys((*here.tags, *coming.tags)))
            said |= {"tags": tags, "extra": {**here.extra, **coming.extra}}
            settled = {**{name: getattr(here, name) for name in fields}, **said, "updated_at": None}
        else:
            said = {name: getattr(coming, name) for name in fields if name not in _STAMPS}
            settled = {**record, "created_at": record.get("created_at") or here.created_at}
            if coming.created_at not in (None, here.created_at):
                said["created_at"] = coming.created_at
        same = all(getattr(here, name) == value for name, value in said.items())
        if same and self._same_vectors(item, number):
            return "unchanged", None
        if self._keeps:
            return "added", settled  # of a context that the first record in it has made nothing was said yet
        return ("merged" if self._rule == "merge" else "overwritten"), settled

    def _same_vectors(self, item: Item, number: int) -> bool:
        """Whether the vectors that come with a record are those that it has."""
        for space, vector in item.vectors.items():
            name = self._table.schema.kind.space_name(space)
            while True:
                with self._sync.catalog.read() as connection:
                    found = rows.space_by_name(connection, name)
                    try:
                        live = self._sync.state(name).current(connection)
                    except SnapshotMoved:
                        continue
                    if found is None or live is None:
                        return False
                    held = vectors_of_rows(connection, live, found, [number])
                break
            numbers = as_numbers(vector.numbers, f"{self._source.at(item.place)}: {name}.vectors")
            if not held.numbers or not np.array_equal(held.vectors[0], numbers):
                return False
            if (held.origins[0].source, held.origins[0].confidence) != (vector.source, vector.confidence):
                return False
        return True

    # -- vectors ---------------------------------------------------------------------------------------------------

    def _brought_with(self, kept: Sequence[tuple[Item, dict[str, Any]]]) -> list[Brought]:
        by_space: dict[str, list[tuple[Item, str, Vector]]] = {}
        for item, record in kept:
            for space, vector in item.vectors.items():
                name = self._table.schema.kind.space_name(space)
                by_space.setdefault(name, []).append((item, str(record["id"]), vector))
        return [self._in_space(name, vectors) for name, vectors in by_space.items()]

    def _in_space(self, name: str, vectors: Sequence[tuple[Item, str, Vector]]) -> Brought:
        known = self._spaces.get(name)
        if known is None:
            known = self._source.spaces.get(name)
            if known is not None:
                self._check_space(known)
        dim = None if known is None else known.dim
        if dim is None:
            with self._sync.catalog.read() as connection:
                space = rows.space_by_name(connection, name)
            dim = None if space is None else space.dim
        matrix = self._checked(name, vectors, dim)
        if known is None:
            known = Space(name, matrix.shape[1], self._metric, None, None, None)
        origins = [
            VectorOrigin(0, each.text_hash, each.source, each.confidence, -1 if each.updates is None else each.updates)
            for _, _, each in vectors
        ]
        self.vectors += len(vectors)
        return Brought(known, [one for _, one, _ in vectors], matrix, origins)

    def _checked(self, name: str, vectors: Sequence[tuple[Item, str, Vector]], dim: int | None) -> Matrix:
        where = f"{name}.vectors"
        try:
            return as_matrix(
                np.stack([as_numbers(each.numbers, where) for _, _, each in vectors]),
                where,
                dim=dim,
                metric=self._metric,
            )
        except ValueError:
            for item, _, each in vectors:  # which one is it
                at = f"{self._source.at(item.place)}: {where}"
                try:
                    row = as_numbers(each.numbers, at).reshape(1, -1)
                    dim = as_matrix(row, at, dim=dim, metric=self._metric).shape[1]
                except DimensionError as error:
                    raise DimensionError("; ".join(filter(None, (str(error), self._source.lengths)))) from None
            raise

    def _check_space(self, wanted: Space) -> None:
        super()._check_space(wanted)
        if wanted.model is None or self._embedding.brings_vectors or wanted.name != self.kind:
            return
        made_by = EmbedderIdentity.from_dict(json.loads(wanted.model))
        if made_by != self._embedding.embedder.identity:
            raise SpaceMismatch(
                f"{wanted.name}: the vectors in {self._source.path} belong with {made_by}, the store embeds "
                f"with {self._embedding.embedder.identity}; open the store with the first, or "
                "import without vectors"
            )

    def _stage_texts(self, part: Any, records: list[R], ids: list[str], progress: Any) -> None:
        Batch._stage_texts(self, part, records, ids, progress)

    def _texts(self, records: list[R], ids: list[str]) -> list[str]:
        texts = super()._texts(records, ids)
        if not self._without:
            return texts
        return ["" if name in self._without else text for name, text in zip(ids, texts, strict=True)]

    def _same_text(self, ids: list[str], hashes: list[bytes]) -> dict[int, bytes]:
        return {} if self._deleting else super()._same_text(ids, hashes)

    # -- writing ---------------------------------------------------------------------------------------------------

    def check(self, transaction: Transaction) -> None:
        """What was met is still as it was.

        Raises:
            Raced: another writer came between; prepare again.
        """
        existing = self._table.existing(transaction.connection, self._met)
        free = self._damaged | set(self._doomed)
        live = {name: row for name, (row, gone) in existing.items() if not gone and name not in free}
        stamps = self._table.stamps(transaction.connection, list(live.values()))
        if {name: stamps[row][0] for name, row in live.items()} != self._stood:
            raise Raced

    def write(self) -> None:
        """Write all of it into the running transaction."""
        self._let_go()
        if not self.ids:
            return
        self.commit("add" if self._adding else "upsert")
        if self._adding:
            self.counts["added"] = len(self.ids)

    def _succeeding(self, row: Row, version: int, made: int | None, deleted: bool) -> Row:
        """Versions only grow, whatever comes in."""
        if self._keeps:
            return row
        return (row[0], row[1], max(version + 1, int(row[2] or 0)), *row[_CREATED:])

    def discard(self) -> None:
        """Remove staged files and waiting rows; the transaction did not happen."""
        super().discard()
        self._spool.close()

    def close(self) -> None:
        """Let go of what waited; the transaction is over."""
        self._spool.close()

    def named_by_place(self, message: str) -> str:
        """A message in which `concepts[17]` is the place in the source that it came from."""
        start = f"{self.kind}["
        parts = message.split(start)
        said = [parts[0]]
        for part in parts[1:]:
            number, bracket, rest = part.partition("]")
            if bracket and number.isdigit() and int(number) < len(self.places):
                said.append(f"{self._source.at(self.places[int(number)])}: {self.kind}{rest}")
            else:
                said.append(start + part)
        return "".join(said)
