"""A context as a folder: every record of every kind in it, with vectors, in open formats.

    snapshot/
      manifest.json            format, contexts; of each kind fields, count and spaces; size and digest of each file
      <kind>.jsonl             one record a line, in order of arrival, as `model_dump(mode="json")` gives it
      <space>.<part>.npz       ids, vectors, and where each vector comes from; no pickle
      models.jsonl             the current fits of clusters, with their members by id (`carried.py`)

Saving writes a temporary folder and renames it when all of it is on disk. Loading trusts nothing: names, sizes and
digests are checked before anything is parsed, every record is validated, and one commit writes all or nothing.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import stat
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from graphlib import CycleError as GraphCycle
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from vectorstore.collection import Collection
from vectorstore.errors import CorruptError, NewerFormat, NotFound, SchemaChangedError, ValidationError
from vectorstore.exporting import vectors_of_rows
from vectorstore.files import TEMPORARY, Buffer, DiskFolder, as_path, make_folder, publish_folder, sha256
from vectorstore.importing import Brought, Import, Space
from vectorstore.reason import carried
from vectorstore.reason.manifest import FORMAT, File, KindFiles, Manifest, SnapshotReport, SpaceFiles
from vectorstore.records import Context, Schema
from vectorstore.records.where import Node, Term
from vectorstore.storage import Connection, RecordTable
from vectorstore.storage import spaces as rows
from vectorstore.storage.spaces import VectorOrigin
from vectorstore.sync import Progress, SnapshotMoved, Sync, Telling
from vectorstore.vectors import Live, as_matrix, rows_per_segment

MANIFEST = "manifest.json"
MODELS = "models.jsonl"
MAX_MANIFEST = 16 * 1024 * 1024
_PAGE = 1000
Others = Callable[[str], Collection[Any]]


# -- saving ------------------------------------------------------------------------------------------------------------


def save(
    sync: Sync, contexts: Sequence[str], known: Sequence[str], path: Path, progress: Progress | None = None
) -> SnapshotReport:
    """Write the records of contexts, as of one commit, to a new folder.

    Args:
        sync: the store's parts.
        contexts: whose records.
        known: contexts whose own records are kept too, so that parents are there.
        path: must not exist.
        progress: told (records and vectors written, the most that there can be).

    Raises:
        FileExistsError: it does. OSError: the disk refused; nothing is left.
    """
    path = as_path(path)
    if path.exists() or path.is_symlink():
        raise FileExistsError(f"{path} exists already; a snapshot is a new folder")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
    try:
        while True:
            with sync.catalog.read() as connection:
                try:
                    spaces = rows.all_spaces(connection)
                    lives = {space.name: sync.state(space.name).current(connection) for space in spaces}
                except SnapshotMoved:
                    continue
                make_folder(temporary)
                saving = _Saving(sync, connection, DiskFolder(temporary), lives, Telling(progress))
                report = _write(saving, contexts, known, path)
            publish_folder(temporary, path)
            return report
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@dataclass(frozen=True)
class _Saving:
    """What one save works with."""

    sync: Sync
    connection: Connection
    folder: DiskFolder
    lives: dict[str, Live | None]
    telling: Telling

    def spaces_of(self, kind: str) -> list[rows.SpaceRow]:
        """The spaces of a kind that have vectors."""
        return [space for space in rows.spaces_of(self.connection, kind) if self.lives[space.name] is not None]

    def node(self, table: RecordTable[Any], contexts: Sequence[str], known: Sequence[str]) -> Node:
        """The filter that says which records of a kind are saved."""
        column, wanted = ("id", known) if table.name == Context.table else ("context", contexts)
        return Term(table.schema.by_name[column], (), "in", tuple(wanted))


def _write(saving: _Saving, contexts: Sequence[str], known: Sequence[str], path: Path) -> SnapshotReport:
    kinds: dict[str, KindFiles] = {}
    held: dict[str, dict[int, str]] = {}
    nodes = {name: saving.node(table, contexts, known) for name, table in saving.sync.tables.items()}
    counts = {name: table.count(saving.connection, nodes[name]) for name, table in saving.sync.tables.items()}
    saving.telling.total = sum(count * (1 + len(saving.spaces_of(name))) for name, count in counts.items() if count)
    for name, table in saving.sync.tables.items():
        node = nodes[name]
        numbers: list[int] = []
        ids: list[str] = []
        if not counts[name]:
            continue
        info = saving.folder.publish(f"{name}.jsonl", _lines(saving, table, node, numbers, ids))
        spaces = [_space(saving, space, numbers, ids) for space in saving.spaces_of(name)]
        held[name] = dict(zip(numbers, ids, strict=True))
        file = File(name=info.name, size=info.size, sha256=info.sha256, rows=len(ids))
        kinds[name] = KindFiles(fields=table.schema.signature(), file=file, spaces=spaces)
    store, seq = saving.connection.execute("SELECT store, seq FROM state").fetchone()
    now = saving.sync.catalog.clock().isoformat()
    fits = _fits(saving, contexts, held)
    manifest = Manifest(
        format=FORMAT, contexts=list(contexts), store=store, seq=seq, saved_at=now, kinds=kinds, models=fits
    )
    body = {**manifest.model_dump(), "sha256": manifest.digest()}
    saving.folder.publish(MANIFEST, [json.dumps(body, indent=1).encode()])
    saving.telling.all()
    return manifest.report(path)


def _fits(saving: _Saving, contexts: Sequence[str], held: dict[str, dict[int, str]]) -> File | None:
    """Write the current fits of clusters, one at a time; None when there is none."""
    names: list[str] = []

    def lines() -> Iterator[bytes]:
        for name, line in carried.lines_of(saving.connection, contexts, held):
            names.append(name)
            yield line

    if not any(carried.rows_of(saving.connection, contexts)):
        return None
    info = saving.folder.publish(MODELS, lines())
    return File(name=info.name, size=info.size, sha256=info.sha256, rows=len(names))


def _lines(saving: _Saving, table: RecordTable[Any], node: Node, numbers: list[int], ids: list[str]) -> Iterator[bytes]:
    """The records as lines of JSON, a page at a time; tells their rows and ids on the way."""
    after: tuple[Any, int] | None = None
    while True:
        page = table.page(saving.connection, node, order=None, descending=False, limit=_PAGE, after=after)
        lines = []
        for number, _, record in page:
            try:
                lines.append(json.dumps(record.model_dump(mode="json"), ensure_ascii=False, allow_nan=False) + "\n")
            except ValueError as error:
                raise ValidationError(f"{table.name} {record.id!r}: cannot be written as JSON: {error}") from error
            numbers.append(number)
            ids.append(record.id)
        saving.telling.more(len(page))
        yield "".join(lines).encode("utf-8", "surrogatepass")
        if len(page) < _PAGE:
            return
        after = (None, page[-1][0])


def _space(saving: _Saving, space: rows.SpaceRow, numbers: list[int], ids: list[str]) -> SpaceFiles:
    """Write the records' vectors in one space; what the manifest says of it."""
    live = saving.lives[space.name]
    assert live is not None  # the caller left out spaces without vectors
    held = rows.origins_of(saving.connection, space.id, numbers)
    name_of = dict(zip(numbers, ids, strict=True))
    files: list[File] = []
    step = rows_per_segment(space.dim)
    having = list(held)
    for start in range(0, len(having), step):
        part = vectors_of_rows(saving.connection, live, space, having[start : start + step])
        hashes = [origin.text_hash for origin in part.origins]
        stream = io.BytesIO()
        np.savez(
            stream,
            ids=np.array([name_of[row] for row in part.numbers], dtype=np.str_),
            vectors=np.ascontiguousarray(part.vectors, dtype="<f4"),
            hashed=np.array([each is not None for each in hashes], dtype=np.bool_),
            hashes=np.frombuffer(b"".join(each or bytes(16) for each in hashes), dtype=np.uint8).reshape(-1, 16),
            sources=np.array([origin.source for origin in part.origins], dtype=np.str_),
            confidences=np.array([origin.confidence for origin in part.origins], dtype="<f8"),
            updates=np.array([origin.updates for origin in part.origins], dtype="<i8"),
        )
        info = saving.folder.publish(f"{space.name}.{len(files)}.npz", [stream.getbuffer()])
        saving.telling.more(len(part.numbers))
        files.append(File(name=info.name, size=info.size, sha256=info.sha256, rows=len(part.numbers)))
    probe = None if space.probe_vector is None else base64.b64encode(space.probe_vector).decode()
    return SpaceFiles(
        name=space.name,
        dim=space.dim,
        metric=space.metric,
        model=space.model,
        probe_text=space.probe_text,
        probe_vector=probe,
        files=files,
    )


# -- loading -----------------------------------------------------------------------------------------------------------


def load(sync: Sync, others: Others, path: Path, progress: Progress | None = None) -> SnapshotReport:
    """Add what a snapshot holds, with its ids, versions, times and vectors; one commit.

    Contexts that are there already stay as they are, unless nothing was ever said of them.

    Raises:
        CorruptError: a file is missing, or has another size or digest than the manifest says.
        NewerFormat: it was written by a newer vectorstore.
        NotFound, SchemaChangedError: a kind of it is not registered here, or has other fields.
        SpaceMismatch: its vectors are not comparable with the store's.
        DuplicateId: a record is there already. ConflictError: so are fits of clusters of that name.
        ValidationError: a record is not valid, or points to one that is neither here nor there.
    """
    path = as_path(path)
    folder = DiskFolder(path)
    manifest = _manifest(folder)
    tables = {name: _table(sync, name, kind) for name, kind in manifest.kinds.items()}
    imports: list[Import[Any]] = []
    telling = Telling(progress, 2 * sum(kind.file.rows for kind in manifest.kinds.values()))
    try:
        fits = _read_fits(folder, manifest.models)
        for name in in_order([table.schema for table in tables.values()]):
            kind, collection = manifest.kinds[name], others(name)
            brought = [_read_space(folder, space, name) for space in kind.spaces]
            each = Import(sync, tables[name], collection._embedding, collection.metric, brought)
            imports.append(each)
            lines = list(_read_lines(folder, kind.file))
            each.prepare(telling.each(unspoken(sync, lines) if name == Context.table else lines), None)
        infos = carried.publish(sync, fits)
        with sync.catalog.write(undo=partial(carried.discard, sync, infos)) as transaction:
            for each in imports:
                each.commit("upsert" if each.kind == Context.table else "add")
                telling.more(len(each.ids))
            for fit, info in zip(fits, infos, strict=True):
                carried.insert(sync, transaction, fit, info)
    except BaseException:
        for each in imports:
            each.discard()
        raise
    telling.all()
    return manifest.report(path)


def _manifest(folder: DiskFolder) -> Manifest:
    where = folder.path / MANIFEST
    try:
        body = json.loads(bytes(_checked(folder, MANIFEST, MAX_MANIFEST)))
        newer = body["format"] > FORMAT
        digest = body.pop("sha256")
        manifest = None if newer else Manifest.model_validate(body)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CorruptError(f"{where} is no manifest of a snapshot: {error}") from error
    if manifest is None:
        raise NewerFormat(f"{where} has format {body['format']}; this vectorstore reads up to {FORMAT}: upgrade it")
    if manifest.format != FORMAT or digest != manifest.digest():
        raise CorruptError(f"{where} does not have the digest that it carries; take another copy")
    return manifest


def _read(folder: DiskFolder, file: File) -> io.BytesIO:
    """A file, if its bytes are those that were written."""
    buffer = _checked(folder, file.name, file.size)
    if len(buffer) != file.size or sha256(buffer) != file.sha256:
        raise CorruptError(
            f"{folder.path / file.name} does not have the size and digest that the manifest holds; take another copy"
        )
    return io.BytesIO(buffer)


def _checked(folder: DiskFolder, name: str, most: int) -> Buffer:
    """The bytes of a plain file, no link, of at most so many."""
    where = folder.path / name
    try:
        found = where.stat(follow_symlinks=False)
    except OSError as error:
        raise CorruptError(f"{where} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_size > most:
        raise CorruptError(f"{where} is no plain file of at most {most} bytes")
    return folder.read(name)


def _table(sync: Sync, name: str, kind: KindFiles) -> RecordTable[Any]:
    if name not in sync.tables:
        raise NotFound(f"the snapshot holds {name!r}, which is no kind of this store; pass kinds=[...] to vs.open")
    declared = sync.tables[name].schema.signature()
    for field, was in kind.fields.items():
        if declared.get(field) != was:
            became = declared.get(field, "nothing")
            raise SchemaChangedError(f"{name}.{field}: the snapshot has {was}, the class declares {became}")
    own = {sync.tables[name].schema.kind.space_name(each) for each in (None, *sync.tables[name].schema.kind.spaces)}
    for space in kind.spaces:
        if space.name not in own:
            raise SchemaChangedError(f"{name}: the snapshot has a space {space.name!r}, the class declares none")
    return sync.tables[name]


def in_order(schemas: Sequence[Schema[Any]]) -> list[str]:
    """Kinds so that what is pointed to comes before what points to it."""
    graph = {
        schema.table: {c.ref for c in schema.columns if c.ref is not None and c.ref != schema.table}
        for schema in schemas
    }
    try:
        return [name for name in TopologicalSorter(graph).static_order() if name in graph]
    except GraphCycle:
        raise ValidationError(f"kinds point to each other in a circle: {', '.join(graph)}") from None


def _read_lines(folder: DiskFolder, file: File) -> Iterator[dict[str, Any]]:
    count = 0
    for count, line in enumerate(_read(folder, file), 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorruptError(f"{folder.path / file.name}: line {count} is no JSON: {error}") from error
        if not isinstance(record, dict):
            raise CorruptError(f"{folder.path / file.name}: line {count} is no record")
        yield record
    if count != file.rows:
        raise CorruptError(f"{folder.path / file.name} has {count} records, the manifest says {file.rows}")


def _read_fits(folder: DiskFolder, file: File | None) -> list[carried.Carried]:
    where = folder.path / MODELS
    lines = [] if file is None else enumerate(_read_lines(folder, file), 1)
    return carried.read((f"{where}: line {number}", line) for number, line in lines)


def unspoken(sync: Sync, lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Contexts that are not here, or of which nothing was ever said here."""
    table = sync.table(Context.table)
    with sync.catalog.read() as connection:
        here = {
            name: each for name, (_, each) in table.by_ids(connection, [str(line.get("id")) for line in lines]).items()
        }
    spoken = {name for name, each in here.items() if not is_bare(each)}
    return [line for line in lines if line.get("id") not in spoken]


def is_bare(context: Context) -> bool:
    """Whether nothing was ever said of it: it was made by the first record in it."""
    said = ("id", "name", "context", "version", "created_at", "updated_at")
    return context == Context(**{field: getattr(context, field) for field in said})


def _read_space(folder: DiskFolder, said: SpaceFiles, kind: str) -> Brought:
    """The vectors of a space, checked like anybody's."""
    ids: list[str] = []
    origins: list[VectorOrigin] = []
    matrices = [np.empty((0, said.dim), np.float32)]
    for file in said.files:
        arrays = _read_arrays(_read(folder, file), folder.path / file.name, file.rows)
        matrices.append(as_matrix(arrays["vectors"], f"{said.name}.vectors", dim=said.dim, metric=said.metric))
        ids += arrays["ids"].tolist()
        hashes = [bytes(row) if has else None for row, has in zip(arrays["hashes"], arrays["hashed"], strict=True)]
        columns = (hashes, arrays["sources"].tolist(), arrays["confidences"].tolist(), arrays["updates"].tolist())
        origins += [VectorOrigin(0, *each) for each in zip(*columns, strict=True)]
    probe = None if said.probe_vector is None else base64.b64decode(said.probe_vector)
    space = Space(said.name, said.dim, said.metric, said.model, said.probe_text, probe)
    return Brought(space, ids, np.concatenate(matrices), origins)


_ARRAYS = {
    **{"ids": ("U", 1), "vectors": ("f4", 2), "hashed": ("b1", 1), "hashes": ("u1", 2)},
    **{"sources": ("U", 1), "confidences": ("f8", 1), "updates": ("i8", 1)},
}
"""Type and number of dimensions of each array."""


def _read_arrays(stream: io.BytesIO, where: Path, count: int) -> dict[str, Any]:
    try:
        with np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CorruptError(f"{where} is no file of vectors: {error}") from error
    types = {name: "U" if array.dtype.kind == "U" else array.dtype.str[1:] for name, array in arrays.items()}
    kinds = {name: (types[name], array.ndim) for name, array in arrays.items()}
    if kinds != _ARRAYS or {len(array) for array in arrays.values()} != {count} or arrays["hashes"].shape[1] != 16:
        raise CorruptError(f"{where} holds {kinds}, expected {_ARRAYS} of {count} rows")
    return arrays
