"""Models in step with the catalog: their rows gathered, their files published, checked, mended and forgotten.

A fit reads a snapshot, works without any lock, publishes its file, and becomes part of the store by one transaction. A
cluster model's file is derived: it is written again from the centroids in the catalog. A blob is a source.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any

import numpy as np

from vectorstore.clusters import labels as labelling
from vectorstore.clusters import modelfiles
from vectorstore.errors import CorruptError, ModelRefused, StoreError
from vectorstore.files import Buffer, FileInfo, Folder, sha256
from vectorstore.ids import from_micros
from vectorstore.records import Cluster, SemanticField, parse
from vectorstore.records.where import Node
from vectorstore.storage import Connection, ModelRow, RecordTable, Transaction
from vectorstore.storage import models as registry
from vectorstore.storage import spaces as rows
from vectorstore.storage.fulltext import has_word
from vectorstore.storage.pastrows import past_records
from vectorstore.sync.core import SnapshotMoved, Sync, moved
from vectorstore.sync.write import committed_seq, published
from vectorstore.vectors import Matrix, Vids

FOLDER = "models"
NAME = re.compile(r"[a-z0-9_]{1,48}\.\d+\.[0-9a-f]{16}\.(joblib|bin)")


@dataclass(frozen=True, eq=False)
class Rows:
    """The vectors of a kind's records at one commit, by ascending record.

    Attributes:
        seq: the commit.
        last_vid: the newest vector of the space, whether it matches or not.
        metric: of the space; "cosine" when there is none yet.
        records: (n,) rows of the kind's table.
        vids: (n,) their live vectors.
        vectors: (n, d) float32.
    """

    seq: int
    last_vid: int
    metric: str
    records: Vids
    vids: Vids
    vectors: Matrix


def gather(
    sync: Sync,
    table: RecordTable[Any],
    space_name: str,
    node: Node | None,
    among: Callable[[Vids, Vids], Any] | None = None,
    vectors: bool = True,
) -> Rows:
    """The vectors of all live records that match.

    Args:
        sync: the store's parts.
        table: of the kind.
        space_name: which of its spaces.
        node: a filter.
        among: given (records, vids), which of them to take, as a mask.
        vectors: whether the vectors are wanted; without them there are zero columns.

    Memory: one copy of the vectors.
    """
    while True:
        with sync.catalog.read() as connection:
            try:
                live = sync.state(space_name).current(connection)
            except SnapshotMoved:
                continue
            seq = sync.catalog.seq(connection)
            space = rows.space_by_name(connection, space_name)
            if live is None or space is None:
                none = np.empty(0, np.int64)
                return Rows(seq, 0, "cosine", none, none, np.empty((0, 0), np.float32))
            records, vids = rows.live_map(connection, space.id)
            last_vid = int(vids.max(initial=0))
            keep = np.isin(records, table.matching(connection, node))
        records, vids = records[keep], vids[keep]
        if among is not None:
            chosen = among(records, vids)
            records, vids = records[chosen], vids[chosen]
        if not vectors:
            return Rows(seq, last_vid, space.metric, records, vids, np.empty((len(vids), 0), np.float32))
        found, matrix = live.vectors_of(vids)
        order = np.argsort(found, kind="stable")
        places = order[np.searchsorted(found[order], vids)]
        if not np.array_equal(places, np.arange(len(places))):
            matrix = matrix[places]
        return Rows(seq, last_vid, space.metric, records, vids, matrix)


# -- files -------------------------------------------------------------------------------------------------------------


def files(sync: Sync) -> Folder:
    """The folder of model files."""
    return sync.folder(FOLDER, "")


def publish_model(sync: Sync, stem: str, suffix: str, chunks: Iterable[Buffer]) -> FileInfo:
    """Write a model's file; it is part of the store when a transaction names it.

    Args:
        sync: the store's parts.
        stem: what its name begins with: of a kind, or "blob".
        suffix: "joblib" or "bin".
        chunks: the bytes.

    Raises:
        StoreError: the disk refused, or a sweep took the half file for litter; nothing is left of it.
    """
    with sync.catalog.read() as connection:
        generation = committed_seq(sync, connection)
    return published(files(sync), f"{stem}.{generation}.{uuid.uuid4().hex[:16]}.{suffix}", chunks)


def still_there(sync: Sync, info: FileInfo) -> None:
    """A published file may be named now.

    Raises:
        StoreError: it waited so long for its transaction that a sweep took it for litter.
    """
    if files(sync).stat(info.name) != info.stat:
        raise StoreError(
            f"{FOLDER}/{info.name} was removed before it could be committed (by a sweep, perhaps); "
            "nothing was written; try again"
        )


def remove_after(sync: Sync, transaction: Transaction, file: str | None) -> None:
    """Unlink a file that this transaction names no more, once it is durable."""
    if file is not None:
        sync.let_go(transaction, FOLDER, "", file)


def bytes_of(sync: Sync, row: ModelRow) -> bytes:
    """The bytes of a model's file, read once.

    Raises:
        ModelRefused: it was dropped. CorruptError: it is missing, or not what was written.
    """
    if row.file is None:
        raise ModelRefused(f"{row.name} version {row.version} has no file any more; fit again")
    data = bytes(files(sync).read(row.file))
    if len(data) != row.size or sha256(data) != row.sha256:
        raise CorruptError(f"{FOLDER}/{row.file}: its bytes are not those that were written")
    return data


def estimator_of(sync: Sync, row: ModelRow) -> Any:
    """The scikit-learn model in a cluster model's file.

    Raises:
        ModelRefused: the file is missing, damaged, by another library or not as it should be.
    """
    where = f"{FOLDER}/{row.file}"
    try:
        data = bytes_of(sync, row)
    except CorruptError as error:
        raise ModelRefused(f"{error}; refit, or run: vectorstore check --repair") from None
    return modelfiles.from_bytes(data, where, sha256=str(row.sha256), written_by=str(row.library))


def centroids_of(row: ModelRow) -> Matrix:
    """(k, d) float32, as the catalog has them."""
    count = len(row.clusters)
    if not count or row.centroids is None:
        return np.empty((0, 0), np.float32)
    return np.frombuffer(row.centroids, dtype="<f4").reshape(count, -1)


# -- check and repair --------------------------------------------------------------------------------------------------


def problems_of(sync: Sync, connection: Connection) -> Iterator[tuple[str, str, str, bool]]:
    """(where, what, how to mend it, whether it is derived) of everything that is wrong with models."""
    models = registry.models_of(connection)
    for row in models:
        line = f"{row.name} version {row.version}"
        derived = row.type == registry.CLUSTER
        if derived and len(row.centroids or b"") % (4 * max(1, len(row.clusters))):
            yield f"models row {row.id}", f"the centroids of {line} are damaged", "refit, or roll back", False
            continue
        if row.file is None:
            continue
        where = f"{FOLDER}/{row.file}"
        mend = "records are assigned without it; run: vectorstore check --repair" if derived else "put it again"
        try:
            bytes_of(sync, row)
            if derived and row.library == modelfiles.library():
                found = estimator_of(sync, row).cluster_centers_
                if not np.array_equal(found, centroids_of(row)):
                    yield where, f"holds other centroids than the catalog has of {line}", mend, True
        except (CorruptError, ModelRefused) as error:
            if sync.unnamed_since(FOLDER, row.file):
                raise moved(connection) from None
            yield where, f"is not the file of {line}: {error}", mend, derived
    for kind in sorted({row.kind for row in models if row.kind is not None} & sync.tables.keys()):
        for line, record in registry.lost_members(connection, kind, sync.table(kind).table):
            what = f"has a member in row {record} of {kind}, which is not there"
            yield f"memberships of {line}", what, "restore a backup, or refit", False


def write_again(sync: Sync, file: str) -> None:
    """Publish a cluster model's file anew from its centroids, in place of one that is lost or damaged."""
    with sync.catalog.read() as connection:
        row = next((row for row in registry.models_of(connection) if row.file == file), None)
    if row is None:
        return
    info = publish_model(sync, str(row.kind), "joblib", [modelfiles.to_bytes(centroids_of(row))])
    with sync.catalog.write(undo=partial(files(sync).remove, info.name)) as transaction:
        still_there(sync, info)
        registry.set_file(transaction.connection, row.id, info, modelfiles.library())
        transaction.record("repair", row.kind, model=row.name, version=row.version)
        remove_after(sync, transaction, file)


# -- erasure -----------------------------------------------------------------------------------------------------------


def forget(
    sync: Sync, transaction: Transaction, kind: str, numbers: Sequence[int], ids: Sequence[str], words: set[str]
) -> Hollow:
    """Take records that have just been erased out of all fits: their memberships, and what could give them away.

    A centroid that no other record went into at the fit may be the very vector of what was erased: it goes, and the
    file that holds it. Words that no record of the kind has any more leave the labels. Fields forget the ids.

    Args:
        sync: the store's parts.
        transaction: the one that erases.
        kind: of the records.
        numbers: their rows.
        ids: their ids.
        words: what `words_in_labels` gave before they were erased.
    """
    connection = transaction.connection
    hollow, ids_of_hollow = registry.forget_members(connection, kind, numbers), []
    for model, clusters in hollow.items():
        row = registry.model_at(connection, model)
        erased = set(clusters)
        left = [known["number"] not in erased for known in row.clusters]
        details = dict(row.details)
        if details["reach"] is not None:
            details["reach"] = list(compress(details["reach"], left))
        centroids = centroids_of(row)[np.array(left)].tobytes()
        registry.set_clusters(connection, model, list(compress(row.clusters, left)), centroids, details)
        registry.set_file(connection, model, None, None)
        remove_after(sync, transaction, row.file)
        current = registry.model_of(connection, row.name)
        shown = set() if current is None else {known["number"] for known in current.clusters}
        ids_of_hollow += [cluster_id(row.name, number) for number in clusters if number not in shown]
    table = sync.table(kind)
    _clean(sync, transaction, kind, {word for word in words if not has_word(connection, table, word)}, set(ids))
    return Hollow(bool(hollow), tuple(ids_of_hollow))


def words_in_labels(sync: Sync, connection: Connection, kind: str, numbers: Sequence[int]) -> set[str]:
    """Those words that labels of clusters of the kind have, and that may be of the records.

    Of records that took part in a fit those are all: what they said then is written down nowhere else. Of others the
    words that they have, as they are and as history knows them.
    """
    table = sync.table(kind)
    labels = {term for row in registry.models_of(connection) if row.kind == kind for term in _terms(row)}
    for _, _, record in _of_kind(sync, connection, kind):
        labels.update(record.terms)
    if not labels or not table.schema.text_columns:
        return set()
    if registry.in_fits(connection, kind, numbers):
        return labels
    with contextlib.suppress(CorruptError):  # a damaged record is erased as well; what it said nobody knows
        records = [*table.by_rows(connection, numbers).values(), *past_records(connection, table, numbers)]
        return labels & {word for record in records for word in labelling.words(text_of(table, record))}
    return labels


def text_of(table: RecordTable[Any], record: Any) -> str:
    """The EMBEDDED fields, which labels are made of, and which full text has as well."""
    values = (getattr(record, column.name) for column in table.schema.text_columns)
    return " ".join(" ".join(map(str, value)) if isinstance(value, tuple) else str(value or "") for value in values)


def _terms(row: ModelRow) -> set[str]:
    return {term for known in row.clusters for term in known["terms"]}


def _of_kind(sync: Sync, connection: Connection, kind: str) -> Iterator[tuple[RecordTable[Any], int, Any]]:
    """(table, row, record) of all clusters and fields of a kind, deleted ones included."""
    for name in (Cluster.table, SemanticField.table):
        table = sync.table(name)
        node = parse({"of": kind}, table.schema)
        rows_found = table.page(
            connection, node, order=None, descending=False, limit=1_000_000, after=None, deleted=None
        )
        yield from ((table, row, record) for row, _, record in rows_found)


def _clean(sync: Sync, transaction: Transaction, kind: str, lost: set[str], ids: set[str]) -> None:
    """Take words off all labels of a kind, and ids out of its fields."""
    connection = transaction.connection
    for row in registry.models_of(connection):
        if row.kind == kind and lost & _terms(row):
            clusters = [_without(known, lost) for known in row.clusters]
            registry.set_clusters(connection, row.id, clusters, row.centroids, row.details)
    changed = set()
    for table, number, record in _of_kind(sync, connection, kind):
        changes: dict[str, Any] = {}
        if lost & set(record.terms):
            changes["terms"] = tuple(term for term in record.terms if term not in lost)
            if record.name == label(record.terms, record.number):
                changes["name"] = label(changes["terms"], record.number)
        if isinstance(record, SemanticField) and ids & {*record.core, *record.related}:
            changes["core"] = tuple(name for name in record.core if name not in ids)
            changes["related"] = {name: share for name, share in record.related.items() if name not in ids}
        if changes:
            changed.add(table)
            _rewrite(transaction, table, number, record, changes)
    for table in changed:
        table.optimize_text(connection)  # deleted words leave the file


@dataclass(frozen=True)
class Hollow:
    """Whether a centroid was erased, and which clusters and fields must be erased for it."""

    any: bool
    ids: tuple[str, ...]


def cluster_id(name: str, number: int) -> str:
    """The id of the record of a cluster, and of the field that it makes."""
    return f"{name}:{number}"


def label(terms: Sequence[str], number: int) -> str:
    """What a cluster is called."""
    return ", ".join(terms[:3]) or f"cluster {number}"


def _without(known: Mapping[str, Any], lost: set[str]) -> dict[str, Any]:
    terms = [term for term in known["terms"] if term not in lost]
    return {**known, "terms": terms, "name": label(terms, known["number"])}


def _rewrite(
    transaction: Transaction, table: RecordTable[Any], number: int, record: Any, changes: Mapping[str, Any]
) -> None:
    moment = from_micros(transaction.now)
    changed = record.model_copy(update={**changes, "version": record.version + 1, "updated_at": moment})
    table.replace(transaction.connection, [(number, table.schema.encode(changed, table.name))])
