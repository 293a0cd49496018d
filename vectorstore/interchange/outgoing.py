"""Exports: a store, some contexts or some kinds as files that other programs read, as of one commit.

A file is written under a temporary name, whole, fsynced and renamed; a folder of files likewise. Kinds come in an order
in which what is pointed to precedes what points to it, records in order of arrival. Memory holds one page.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from vectorstore.errors import NotFound, ValidationError
from vectorstore.exporting import Snapshot
from vectorstore.files import TEMPORARY, Buffer, DiskFolder, as_path, make_folder, publish_folder
from vectorstore.ids import from_micros
from vectorstore.interchange.formats import Format, format_of
from vectorstore.interchange.lines import FORMAT, as_space, vector_text
from vectorstore.interchange.objects import Objects
from vectorstore.interchange.reports import ExportReport
from vectorstore.reason.snapshot import in_order
from vectorstore.records import Context
from vectorstore.records.record import TEXT_SPACE
from vectorstore.records.where import Node, Term
from vectorstore.storage import RecordTable, SpaceRow
from vectorstore.storage.exporting import Sealed, tombstones
from vectorstore.sync import Progress, Sync
from vectorstore.tabular import Form

VECTORS = ("given", "all", "none")
LEVEL = 3
"""Of gzip: a third of the default's time for a tenth more bytes."""


@dataclass(frozen=True)
class Part:
    """One kind of an export: which of its records, how many, with the vectors of which spaces."""

    table: RecordTable[Any]
    node: Node | None
    records: int
    spaces: Sequence[SpaceRow]
    brought: bool
    gone: Sequence[tuple[str, int]] = ()

    @property
    def kind(self) -> str:
        """Its name."""
        return self.table.name


@dataclass(eq=False)
class Telling:
    """Counts what was written, and tells it."""

    total: int
    progress: Progress | None
    done: int = 0
    vectors: int = 0

    def page(self, records: int) -> None:
        """So many more are written."""
        self.done += records
        if self.progress is not None:
            self.progress(self.done, self.total)


def export(
    sync: Sync,
    path: Path,
    *,
    kinds: Sequence[str],
    contexts: Sequence[str] | None,
    known: Sequence[str],
    vectors: str,
    deleted: bool,
    format: str | None,
    progress: Progress | None,
) -> ExportReport:
    """What `Exchange.export` says; `known` are contexts whose own records are kept too, so that parents are there."""
    path = as_path(path)
    chosen = format_of(path, format)
    if vectors not in VECTORS:
        raise ValidationError(f"vectors: expected one of {', '.join(VECTORS)}, got {vectors!r}")
    if deleted and not chosen.log:
        raise ValidationError(f"deleted: {chosen.name} has no place for deletions; use jsonl")
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already; an export is a new file")
    with Snapshot(sync) as snapshot:
        parts = [
            _part(snapshot, sync.table(name), contexts, known, vectors, deleted)
            for name in in_order([sync.table(name).schema for name in dict.fromkeys(kinds)])
        ]
        telling = Telling(sum(part.records for part in parts), progress)
        header = _header(snapshot, parts, from_micros(sync.catalog.now()).isoformat())
        if chosen.log:
            chunks = _log(snapshot, parts, header, telling) if chosen.lines else _json(snapshot, parts, header, telling)
            packed = _packed(chunks) if path.suffix == ".gz" else chunks
            size = DiskFolder(path.parent).publish(path.name, packed).size
        else:
            size = _tables(snapshot, parts, header, chosen, path, telling)
    records = {part.kind: part.records for part in parts if part.records}
    gone = {part.kind: len(part.gone) for part in parts if part.gone}
    return ExportReport(path, chosen.name, records, gone, telling.vectors, snapshot.seq, size)


def _part(
    snapshot: Snapshot,
    table: RecordTable[Any],
    contexts: Sequence[str] | None,
    known: Sequence[str],
    vectors: str,
    deleted: bool,
) -> Part:
    node: Node | None = None
    if contexts is not None:
        column, wanted = ("id", known) if table.name == Context.table else ("context", contexts)
        node = Term(table.schema.by_name[column], (), "in", tuple(wanted))
    brought = vectors == "given"
    spaces = [] if vectors == "none" else snapshot.spaces_of(table.name, brought=brought)
    gone = tombstones(snapshot.connection, table, node) if deleted else ()
    return Part(table, node, table.count(snapshot.connection, node), spaces, brought, gone)


def _header(snapshot: Snapshot, parts: Sequence[Part], at: str) -> dict[str, Any]:
    return {
        "vectorstore": FORMAT,
        "store": snapshot.store,
        "seq": snapshot.seq,
        "at": at,
        "records": {part.kind: part.records for part in parts},
        "deleted": {part.kind: len(part.gone) for part in parts if part.gone},
        "spaces": {space.name: as_space(space) for part in parts for space in part.spaces},
    }


# -- JSON --------------------------------------------------------------------------------------------------------------


def _log(snapshot: Snapshot, parts: Sequence[Part], header: dict[str, Any], telling: Telling) -> Iterator[bytes]:
    yield to_json(header) + b"\n"
    for part in parts:
        for lines in _lines(snapshot, part, telling, "", "\n"):
            yield lines.encode()


def _json(snapshot: Snapshot, parts: Sequence[Part], header: dict[str, Any], telling: Telling) -> Iterator[bytes]:
    yield b'{"vectorstore":' + to_json(header) + b',"lines":['
    comma = 1  # none before the first
    for part in parts:
        for lines in _lines(snapshot, part, telling, ",\n", ""):
            yield lines[comma:].encode()
            comma = 0
    yield b"\n]}\n"


def _lines(snapshot: Snapshot, part: Part, telling: Telling, before: str, after: str) -> Iterator[str]:
    """The lines of a kind, page by page, with what stands before and after each; deletions last."""
    writer = Objects(Form(part.table))
    start = f'{before}{{"kind":"{part.kind}","record":'
    end = "}" + after
    for rows in snapshot.pages(part.table, part.node):
        ends = _vectors(snapshot, part, rows, telling)
        yield writer.of(rows, start, [ends.get(row[0], "}") + after for row in rows] if ends else end)
        telling.page(len(rows))
    if part.gone:
        yield "".join(
            f'{before}{{"kind":"{part.kind}","deleted":{to_json(name).decode()},"at":"{from_micros(at).isoformat()}"}}{after}'
            for name, at in part.gone
        )


def _vectors(snapshot: Snapshot, part: Part, rows: Sequence[Sealed], telling: Telling) -> dict[int, str]:
    """Row -> the end of its line, for rows that have vectors to go with them."""
    said: dict[int, list[str]] = {}
    for space in part.spaces:
        held = snapshot.vectors(space, [row[0] for row in rows], brought=part.brought)
        name = space.name.partition(".")[2] or TEXT_SPACE
        for number, vector, origin in zip(held.numbers, held.vectors, held.origins, strict=True):
            said.setdefault(number, []).append(f'"{name}":{vector_text(vector, origin)}')
        telling.vectors += len(held.numbers)
    return {number: f',"vectors":{{{",".join(parts)}}}}}' for number, parts in said.items()}


def _packed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """As gzip has it, without the time, so that the same records give the same bytes."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, 31)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()


# -- tables ------------------------------------------------------------------------------------------------------------


def _tables(
    snapshot: Snapshot, parts: Sequence[Part], header: dict[str, Any], chosen: Format, path: Path, telling: Telling
) -> int:
    """A file of one kind, or a folder with one for each; the size of it all."""
    if path.suffix:
        if len(parts) != 1:
            raise ValidationError(
                f"{path}: a {chosen.name} file holds one kind, and {len(parts)} are asked for; name one with kinds=, "
                f"or a new folder as path with format={chosen.name!r}"
            )
        return (
            DiskFolder(path.parent).publish(path.name, _table(snapshot, parts[0], header, chosen, path, telling)).size
        )
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
    size = 0
    try:
        make_folder(temporary)
        for part in parts:
            if part.records:
                name = f"{part.kind}{chosen.suffixes[0]}"
                chunks = _table(snapshot, part, header, chosen, path / name, telling)
                size += DiskFolder(temporary).publish(name, chunks).size
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return size


def _table(
    snapshot: Snapshot, part: Part, header: dict[str, Any], chosen: Format, path: Path, telling: Telling
) -> Iterator[Buffer]:
    form = Form(part.table, part.spaces, part.brought, origins=True)
    said = {**header, "kind": part.kind}
    if chosen.name == "csv":
        from vectorstore.interchange.cells import csv_chunks

        chunks: Iterator[bytes] = csv_chunks(form, snapshot, part.node, telling)
        yield from _packed(chunks) if path.suffix == ".gz" else chunks
        return
    metadata = {"vectorstore": to_json(said).decode()}
    sink = Sink()
    schema = form.schema(metadata)
    with _arrow_writer(chosen.name, sink, schema) as write:
        for batch in form.batches(snapshot, part.node, metadata):
            write(batch)
            for space in part.spaces:
                at = schema.get_field_index(f"vectors.{space.name.partition('.')[2] or TEXT_SPACE}")
                telling.vectors += batch.num_rows - batch.column(at).null_count
            telling.page(batch.num_rows)
            yield from sink.taken()
    yield from sink.taken()


@contextlib.contextmanager
def _arrow_writer(name: str, sink: Sink, schema: Any) -> Iterator[Callable[[Any], None]]:
    from vectorstore.tabular import pyarrow

    pa = pyarrow(f"writing {name}")
    if name == "arrow":
        import pyarrow.ipc as ipc

        with ipc.new_file(pa.PythonFile(sink, mode="w"), schema) as writer:
            yield writer.write_batch
        return
    import pyarrow.parquet as parquet

    held: list[Any] = []
    with parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="zstd") as writer:

        def write(batch: Any) -> None:
            held.append(batch)
            if sum(each.num_rows for each in held) >= ROW_GROUP:
                flush()

        def flush() -> None:
            if held:
                writer.write_table(pa.Table.from_batches(held, schema))
                held.clear()

        yield write
        flush()


ROW_GROUP = 16_384
"""Rows that Parquet packs together; vectors of 384 numbers make 25 MB of them."""


class Sink(io.RawIOBase):
    """What a library writes, kept until it is taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._at

    def write(self, data: Any) -> int:
        """Keep some bytes."""
        self._parts.append(bytes(data))
        self._at += len(self._parts[-1])
        return len(self._parts[-1])

    def taken(self) -> list[bytes]:
        """What was written since it was last asked."""
        parts, self._parts = self._parts, []
        return parts


def kinds_of(sync: Sync, asked: str | Iterable[str] | None) -> list[str]:
    """The names of kinds, all of them where none is named.

    Raises:
        NotFound: there is no such kind.
    """
    if asked is None:
        return list(sync.tables)
    names = [asked] if isinstance(asked, str) else list(asked)
    for name in names:
        if name not in sync.tables:
            raise NotFound(f"no kind {name!r} in this store; the kinds are: {', '.join(sync.tables)}")
    return names


__all__ = ["export", "kinds_of"]
