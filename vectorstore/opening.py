"""What opening a store settles before any collection is there: its kinds, their fields, and their spaces' metrics."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from vectorstore.backups.mirrors import Mirror
from vectorstore.errors import CorruptError, SpaceMismatch, StoreError, ValidationError
from vectorstore.ids import from_micros, new_id
from vectorstore.records import BUILTIN, Context, Record, generic_kind, schema_of
from vectorstore.storage import RecordTable, Transaction, Unmade, declared_kinds, history
from vectorstore.storage import spaces as rows
from vectorstore.sync import Sync
from vectorstore.vectors import METRICS

log = logging.getLogger("vectorstore")


def mirror_of(path: str | os.PathLike[str], read_only: bool, cache: str | os.PathLike[str] | None) -> Mirror | None:
    """What is read where its backups lie; None for a folder.

    Raises:
        StoreError: it was to be written, or cannot be reached. NotFound: there is no backup.
    """
    url = os.fspath(path)
    if "://" not in url:
        return None
    if not read_only:
        raise StoreError(f"{url} can only be read: vs.open({url!r}, read_only=True); or restore it to a folder first")
    return Mirror(url, cache)


def declare(sync: Sync, wanted: Mapping[str, type[Record]], tokenizer: str | None) -> None:
    """Register kinds: make tables for new ones, add new optional fields, take over kinds found in the store.

    Of our own kinds only the contexts are made here, for there is one from the start; the others by their first record.
    Full text that was made with another tokenizer than the declared one is made anew, in the same transaction.
    """
    with sync.catalog.read() as connection:
        stored = declared_kinds(connection)
        named = [space.name.partition(".") for space in rows.all_spaces(connection)]
    classes = {
        **{
            name: _generic(name, columns, tuple(space for kind, _, space in named if kind == name and space))
            for name, columns in stored.items()
            if name not in wanted
        },
        **wanted,
    }
    sync.tables = {name: RecordTable(schema_of(kind)) for name, kind in classes.items()}
    later = {name for name, kind in classes.items() if kind in BUILTIN and kind is not Context and tokenizer is None}
    if sync.catalog.read_only:
        later |= {Context.table}
    ours = Unmade(each for each in sync.tables.values() if each.schema.kind in BUILTIN)
    sync.catalog.stand_in = ours.stand_in
    with sync.catalog.read() as connection:
        todo = {name: table.pending_fields(connection) for name, table in sync.tables.items()}
        other = {name for name, table in sync.tables.items() if table.settle_tokenizer(connection, tokenizer)}
        unlisted = {name for name, table in sync.tables.items() if table.pending_lists(stored.get(name))}
    lacking = [
        name
        for name, fields in todo.items()
        if (fields is None and name not in later) or fields or name in other | unlisted
    ]
    if not lacking:
        return
    if sync.catalog.read_only:
        what = "another tokenizer than the store's" if lacking[0] in other else "fields or lists that the store lacks"
        raise StoreError(f"{sync.catalog.root}: {lacking[0]} has {what}; open it once for writing")
    if sync.catalog.root is not None and any(todo.values()):
        sync.catalog.backup(sync.catalog.root / f"catalog.kinds.{new_id(sync.catalog.clock())}.backup.sqlite")
    with sync.catalog.write() as transaction:
        stored = declared_kinds(transaction.connection)
        history.pause(transaction.connection)
        for name, table in sync.tables.items():
            new = table.pending_fields(transaction.connection)
            if new is None and name in later:
                continue
            if new is None:
                ours.make(transaction.connection, table)
                transaction.record("declare", name)
                if name == Context.table:
                    _first_context(transaction, table)
            elif new:
                table.add_fields(transaction.connection, new)
                transaction.record("declare", name, fields=len(new))
            if not new and table.pending_lists(stored.get(name)):
                table.make_lists(transaction.connection)
            if table.settle_tokenizer(transaction.connection, tokenizer):
                table.make_text(transaction.connection)
                log.info("%s: the full text was made anew with the tokenizer %s", name, table.tokenizer)
        history.renew(transaction.connection)


def _generic(name: str, columns: Any, spaces: tuple[str, ...]) -> type[Record]:
    """A class for a kind that the store declares; the declaration is anybody's who had the catalog.

    Raises:
        CorruptError: it declares none.
    """
    try:
        return generic_kind(name, columns, spaces)
    except Exception as error:  # whatever pydantic makes of names and types that are none
        said = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
        raise CorruptError(f"the declaration of the kind {name!r} is damaged ({said}); restore a backup") from None


def _first_context(transaction: Transaction, table: RecordTable[Any]) -> None:
    moment = from_micros(transaction.now)
    home = Context(id="default", name="default", created_at=moment, updated_at=moment)
    table.insert(transaction.connection, 1, [table.schema.encode(home, "contexts")])


def metrics_of(sync: Sync, asked: str | Mapping[str, str] | None) -> dict[str, str]:
    """The metric of each kind's space: the stored one; for spaces to come the one asked for, else cosine."""
    wanted = {} if asked is None else dict.fromkeys(sync.tables, asked) if isinstance(asked, str) else dict(asked)
    for name, metric in wanted.items():
        sync.table(name)
        if metric not in METRICS:
            raise ValidationError(f"metric: expected one of {', '.join(METRICS)}, got {metric!r}")
    with sync.catalog.read() as connection:
        spaces = {space.kind: space.metric for space in rows.all_spaces(connection)}
    for name, metric in spaces.items():
        if wanted.get(name, metric) != metric:
            raise SpaceMismatch(
                f"{name}: the space was made with metric {metric}, not {wanted[name]}; leave metric= out"
            )
    return {name: spaces.get(name, wanted.get(name, "cosine")) for name in sync.tables}
