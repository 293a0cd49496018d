"""How records come into a kind: validate and embed without a lock, then one short transaction.

`Batch` is what `add`, `upsert` and `update` have in common: chunks of records are validated, encoded, embedded and
staged; `commit` writes them all, or nothing. When another writer has changed one of the records meanwhile, the caller
prepares again (`Raced`).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from vectorstore.columns import Columns, Part, as_items, chunked
from vectorstore.embedding import Embedding, come_back, emptied, text_hash
from vectorstore.errors import ConflictError, DuplicateId, NotFound, ValidationError
from vectorstore.ids import check_id, new_id, to_micros
from vectorstore.records import Record, Row, Value
from vectorstore.records.columnar import ABSENT, Valid, checked, from_mappings, without_collector
from vectorstore.references import check_references
from vectorstore.storage import IntegrityError, RecordTable, Transaction
from vectorstore.storage import spaces as rows
from vectorstore.sync import Origin, Progress, Staged, Sync, after, attach, expire, stage
from vectorstore.vectors import Matrix, as_matrix

R = TypeVar("R", bound=Record)
CHUNK = 20_000
Existing = dict[str, tuple[int, bool]]
"""Id -> (row, is deleted) of records that are there."""

_ID, _VERSION, _CREATED, _UPDATED, _DELETED = 0, 2, 3, 4, 5


class Raced(Exception):
    """Another writer changed a record between its preparation and the transaction."""


@dataclass(frozen=True)
class Given:
    """Vectors that the caller brought, and what they are known to be."""

    spaces: Mapping[str, Any]
    source: str
    confidence: float


def incoming(
    kind: type[Record], records: Any, vectors: Any, source: str, confidence: float
) -> tuple[Iterable[Any], Given | None]:
    """What a caller handed over, as records or a table, and the vectors that came with it.

    Args:
        kind: of the records.
        records: one record or many, mappings, or a table of some library.
        vectors: one matrix for the text space, or a mapping from the names of spaces to matrices; for a table a matrix
            may be the name of a column.
        source: kept with the vectors.
        confidence: kept with the vectors, 0..1.
    """
    name = kind.table
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
        raise ValidationError(f"{name}.confidence: expected 0..1, got {confidence!r}")
    items = as_items(records, kind)
    if vectors is None:
        return items, None
    spaces: dict[str, Any] = {}
    for space, values in (vectors if isinstance(vectors, Mapping) else {None: vectors}).items():
        full = kind.space_name(space)
        if isinstance(values, str):
            if not isinstance(items, Columns):
                raise ValidationError(
                    f"{full}.vectors: {values!r} names a column, and the records are no table; give numbers"
                )
            items, values = items.take(values, f"{full}.vectors")
        spaces[full] = values
    return items, Given(spaces, source, float(confidence))


@dataclass(eq=False)
class Chunk:
    """One prepared chunk: rows, and the vectors of some; by place within the chunk, as those without a text are."""

    rows: Sequence[Row]
    staged: list[tuple[list[int], Staged]]
    unchanged: dict[int, bytes]
    textless: list[int]


class Batch(Generic[R]):
    """Records on their way into one kind."""

    def __init__(
        self, sync: Sync, table: RecordTable[R], embedding: Embedding, metric: str, given: Given | None
    ) -> None:
        self._sync = sync
        self._table = table
        self._embedding = embedding
        self._metric = metric
        self._given = given
        self._matrices: dict[str, Matrix] = {}
        self._parts: list[Chunk] = []
        self._probe: Matrix | None = None
        self.ids: list[str] = []
        self.numbers: list[int] = []
        self.witness: Callable[[Transaction, Existing], None] | None = None
        self._seen: dict[str, int] = {}
        with sync.catalog.read() as connection:
            self._space = rows.space_by_name(connection, table.name)
            for name, values in ({} if given is None else given.spaces).items():
                space = rows.space_by_name(connection, name)
                dim = None if space is None else space.dim
                self._matrices[name] = as_matrix(values, f"{name}.vectors", dim=dim, metric=metric)

    @property
    def kind(self) -> str:
        """The name of the kind that they come into."""
        return self._table.name

    def prepare(self, records: Iterable[R | Mapping[str, Any]], progress: Progress | None) -> None:
        """Validate, encode, embed and stage everything; nothing is part of the store yet.

        Raises:
            ValidationError: a bad record or vector, named by its place; what was staged is removed.
            DuplicateId: an id comes twice.
        """
        try:
            for chunk in records.parts(CHUNK) if isinstance(records, Columns) else chunked(records, CHUNK):
                self._prepare_chunk(chunk, progress and after(progress, len(self.ids)))
            for name, matrix in self._matrices.items():
                if len(matrix) != len(self.ids):
                    raise ValidationError(f"{name}.vectors: {len(matrix)} vectors for {len(self.ids)} records")
        except BaseException:
            self.discard()
            raise

    def _prepare_chunk(self, chunk: Sequence[R | Mapping[str, Any]] | Part, progress: Progress | None) -> None:
        offset, now = len(self.ids), self._sync.catalog.clock()
        part = Chunk([], [], {}, [])
        self._parts.append(part)  # from now on discard() knows its files
        with without_collector():
            valid = self._valid(chunk, offset)
            ids = self._name(valid, offset, now)
            self._stage_given(part, ids, offset)
            part.rows = valid.rows(self._stamps(valid, ids, now), self._table.name, offset)
        brought = self._table.name in self._matrices or self._embedding.brings_vectors
        if self._table.schema.text_columns and not brought:
            self._stage_texts(part, valid.records, ids, progress)

    def _valid(self, chunk: Sequence[R | Mapping[str, Any]] | Part, offset: int) -> Valid[R]:
        """The chunk by columns if it passes so; else record by record, which says what is wrong with which."""
        schema = self._table.schema
        valid: Valid[R] | None = None
        if isinstance(chunk, Part):
            valid = checked(schema, chunk.columns, chunk.count, None)
        else:
            plain = [item for item in chunk if type(item) is dict]
            if len(plain) == len(chunk):
                valid = checked(schema, from_mappings(plain), len(plain), ABSENT)
        if valid is not None:
            return valid
        where = self._table.name
        records = [as_record(self._table, item, f"{where}[{place}]") for place, item in enumerate(chunk, offset)]
        return Valid.of(schema, records)

    def _name(self, valid: Valid[R], offset: int, now: datetime) -> list[str]:
        """The id of each record: its own, else the one that follows from its fields, else a new one.

        Raises:
            DuplicateId: one comes twice.
        """
        own = valid.values.get("id", [""] * valid.count)
        ids = own
        if not all(own):
            derived: Iterable[str | None] = itertools.repeat(None)
            if self._table.schema.kind.derived_id is not Record.derived_id:
                derived = (
                    None if known else checked_id(record.derived_id(), f"{self._table.name}[{place}]")
                    for place, (known, record) in enumerate(zip(own, valid.records, strict=True), offset)
                )
            ids = [known or name or new_id(now) for known, name in zip(own, derived, strict=False)]
        if len(set(ids)) < len(ids) or not self._seen.keys().isdisjoint(ids):
            for place, name in enumerate(ids, offset):
                if name in self._seen:
                    raise DuplicateId(
                        f"{self._table.name}[{place}].id: {name!r} is also {self._table.name}[{self._seen[name]}]; "
                        "give one of them an id of its own (or a synset or disambiguation)"
                    )
                self._seen[name] = place
        self._seen.update(zip(ids, itertools.count(offset), strict=False))
        self.ids += ids
        return ids

    def _stamps(self, valid: Valid[R], ids: list[str], now: datetime) -> dict[str, Sequence[Value]]:
        """The columns that the store decides."""
        same = [to_micros(now)] * valid.count
        made = [same[0] if at is None else to_micros(at) for at in valid.values.get("created_at", ())] or same
        stamps: dict[str, Sequence[Value]] = {"version": [1] * valid.count, "created_at": made, "updated_at": same}
        return {"id": ids, **stamps, "deleted_at": [None] * valid.count}

    def _stage_given(self, part: Chunk, ids: list[str], offset: int) -> None:
        for name, matrix in self._matrices.items():
            rows_here = matrix[offset : offset + len(ids)]
            if len(rows_here) < len(ids):
                raise ValidationError(f"{name}.vectors: {len(matrix)} vectors for at least {offset + len(ids)} records")
            assert self._given is not None  # the matrices are what was given
            origin = Origin(self._given.source, self._given.confidence)
            part.staged.append((list(range(len(ids))), stage(self._sync, name, ids, rows_here, origin)))

    def _stage_texts(self, part: Chunk, records: list[R], ids: list[str], progress: Progress | None) -> None:
        name = self._table.name
        texts = self._texts(records, ids)
        hashes = [text_hash(text) for text in texts]
        part.unchanged = self._same_text(ids, hashes)
        part.textless = [place for place, text in enumerate(texts) if not text]
        places = [place for place, text in enumerate(texts) if text and place not in part.unchanged]
        if places:
            chosen = [hashes[place] for place in places]
            matrix = self._embedding.texts(self._space, [texts[p] for p in places], chosen, self._metric, progress)
            if self._probe is None and (self._space is None or self._space.model is None):
                self._probe = self._embedding.probe()
            origin = Origin("embedder", 1.0, chosen)
            part.staged.append((places, stage(self._sync, name, [ids[place] for place in places], matrix, origin)))

    def _texts(self, records: list[R], ids: list[str]) -> list[str]:
        """What is embedded for each; an empty one is not."""
        return [self._table.schema.text(record) for record in records]

    def _same_text(self, ids: list[str], hashes: list[bytes]) -> dict[int, bytes]:
        """Places whose stored record has a vector of just that text, which stays."""
        if self._space is None:
            return {}
        with self._sync.catalog.read() as connection:
            stored = self._table.existing(connection, ids)
            if not stored:
                return {}
            live = rows.live_vectors(connection, self._space.id, [row for row, gone in stored.values() if not gone])
        return {
            place: hashes[place]
            for place, name in enumerate(ids)
            if name in stored and live.get(stored[name][0], (0, None, 0))[1] == hashes[place]
        }

    def discard(self) -> None:
        """Remove staged files; the transaction did not happen."""
        for part in self._parts:
            for _, staged in part.staged:
                staged.discard(self._sync)

    def commit(self, operation: str, versions: Mapping[str, int] | None = None) -> int:
        """Write everything in one transaction; returns how many records.

        Args:
            operation: "add" refuses ids that are taken, "upsert" overwrites, "update" needs them all.
            versions: for "update", the version of each record that the change was computed from.

        Raises:
            DuplicateId, ConflictError, NotFound: nothing was written.
            Raced: prepare again.
        """
        with self._sync.catalog.write(undo=self.discard) as transaction:
            self.numbers = self._write(transaction, operation, versions)
            self._note(transaction, operation, self.numbers)
        return len(self.ids)

    def _note(self, transaction: Transaction, operation: str, numbers: list[int]) -> None:
        count = sum(len(places) for part in self._parts for places, _ in part.staged)
        details: dict[str, object] = {"kind": self._table.name, "operation": operation, "records": len(self.ids)}
        transaction.notes.append(("commit", {**details, "vectors": count}))
        if numbers:
            transaction.record(operation, self._table.name, numbers, vectors=count)

    def _write(self, transaction: Transaction, operation: str, versions: Mapping[str, int] | None) -> list[int]:
        table, connection = self._table, transaction.connection
        expire(self._sync, transaction, table)
        existing = table.existing(connection, self.ids)
        if operation == "add":
            taken = [name for name, (_, deleted) in existing.items() if not deleted]
            if taken:
                place = self._seen[taken[0]]
                raise DuplicateId(
                    f"{table.name}[{place}].id: {taken[0]!r} exists already"
                    + (f" (and {len(taken) - 1} more)" if len(taken) > 1 else "")
                    + "; use upsert to overwrite, or another id"
                )
        elif operation == "update":
            absent = [name for name in self.ids if name not in existing or existing[name][1]]
            if absent:
                raise NotFound(f"{table.name}: no record with id {absent[0]!r}; use upsert to create it")
        if self.witness is not None:  # sees what is about to be replaced
            self.witness(transaction, existing)
        guard = self._sync.guards.get(table.name)
        offset, written = 0, list[int]()
        for part in self._parts:
            if guard is not None:
                guard.before(transaction, part.rows, offset)
            check_references(self._sync, transaction, table, part.rows, self._seen, offset)
            with self._forward_references(transaction):
                numbers = self._write_rows(transaction, part, existing, operation, versions)
            self._write_vectors(transaction, part, numbers)
            offset += len(part.rows)
            written += numbers
        come_back(transaction, table.name, [number for number, deleted in existing.values() if deleted])
        if guard is not None:
            guard.after(transaction, written)
        return written

    @contextlib.contextmanager
    def _forward_references(self, transaction: Transaction) -> Iterator[None]:
        """Records of one part may point to each other in any order; `check_references` knows that they are there."""
        if all(column.ref != self._table.name for column in self._table.schema.columns):
            yield
            return
        transaction.connection.execute("PRAGMA defer_foreign_keys=ON")
        try:
            yield
        finally:
            transaction.connection.execute("PRAGMA defer_foreign_keys=OFF")

    def _write_rows(
        self,
        transaction: Transaction,
        part: Chunk,
        existing: Existing,
        operation: str,
        versions: Mapping[str, int] | None,
    ) -> list[int]:
        """The row number of each record of the part."""
        table, connection = self._table, transaction.connection
        try:
            first = table.next_row(connection)
            if not existing:
                with without_collector():
                    table.insert(connection, first, part.rows)
                return list(range(first, first + len(part.rows)))
            stored = table.stamps(connection, [row for row, _ in existing.values()])
            numbers: list[int] = []
            new: list[Row] = []
            changed: list[tuple[int, Row]] = []
            for row in part.rows:
                found = existing.get(str(row[_ID]))
                if found is None:
                    numbers.append(first + len(new))
                    new.append(row)
                    continue
                number, deleted = found
                version, made = stored[number]
                if versions is not None and version != versions[str(row[_ID])]:
                    raise Raced
                numbers.append(number)
                changed.append((number, self._succeeding(row, version, made, deleted)))
            if changed:
                table.replace(connection, table.raised(connection, changed))
            if new:
                table.insert(connection, first, new)
            return numbers
        except IntegrityError as error:
            raise conflict(table, error) from error

    def _succeeding(self, row: Row, version: int, made: int | None, deleted: bool) -> Row:
        """The row as it takes the place of a stored one, with that one's version and time of creation."""
        created = row[_CREATED] if deleted or made is None else made
        return (row[_ID], row[1], version + 1, created, *row[_UPDATED:])

    def _write_vectors(self, transaction: Transaction, part: Chunk, numbers: list[int]) -> None:
        connection = transaction.connection
        space = rows.space_by_name(connection, self._table.name) if part.unchanged or part.textless else None
        if part.unchanged:
            assert space is not None  # the vectors to keep are in it
            live = rows.live_vectors(connection, space.id, [numbers[place] for place in part.unchanged])
            for place, expected in part.unchanged.items():
                if live.get(numbers[place], (0, None, 0))[1] != expected:
                    raise Raced
        if space is not None and part.textless:
            brought = {place for places, staged in part.staged if staged.space == space.name for place in places}
            emptied(transaction, space, [numbers[place] for place in part.textless if place not in brought])
        for places, staged in part.staged:
            chosen = [numbers[place] for place in places]
            attach(self._sync, transaction, self._table.name, self._metric, staged, chosen)
        space = rows.space_by_name(connection, self._table.name)
        if space is not None and space.model is None and self._probe is not None:
            self._embedding.pin(transaction, space, self._probe)


def as_record(table: RecordTable[R], item: Any, where: str) -> R:
    """An object of the kind as it is, a mapping checked."""
    kind = table.schema.kind
    if isinstance(item, kind):
        return item
    if isinstance(item, Mapping):
        return kind.parse(item, where)
    raise ValidationError(f"{where}: expected a {kind.__name__} or a mapping, got {type(item).__name__}")


def checked_id(name: str | None, where: str) -> str | None:
    """A derived id, if it is one."""
    if name is None:
        return None
    try:
        return check_id(name)
    except ValueError as error:
        raise ValidationError(
            f"{where}.id: derived from its fields it would be {name!r}, but {error}; give an id"
        ) from None


def conflict(table: RecordTable[Any], error: Exception) -> Exception:
    """Our error for what SQLite's constraints refused."""
    message = str(error)
    for column in table.schema.columns:
        if column.unique and f"{table.name}.{column.key}" in message:
            return ConflictError(
                f"{table.name}.{column.name}: another record has that value already, and it must be unique; "
                "nothing was written"
            )
    if "FOREIGN KEY" in message:
        return ConflictError(f"{table.name}: other records still point to it; purge these first; nothing was written")
    return ConflictError(f"{table.name}: the catalog refused ({message}); nothing was written")
