"""The table of one kind: made from its schema, read and written as tuples.

Layout of every kind's table: `row` (the integer key), the fields, a folded companion `<name>_key` for each name, and
`digest`, which seals the fields. Beside it `<table>_tags` (an index on tags) and `<table>_fts` (full text over the
EMBEDDED fields), both kept by the same transactions. Functions take the connection of a running transaction.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from vectorstore.errors import CorruptError, SchemaChangedError
from vectorstore.records import Column, Record, Row, Schema, Value, digest
from vectorstore.records.schema import folded_values
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection, wrap
from vectorstore.storage.filters import compile_where, quote

R = TypeVar("R", bound=Record)
Rows = npt.NDArray[np.int64]
LIVE = "deleted_at IS NULL"
TOKENIZER = "unicode61 remove_diacritics 2"
_PYTHON_TYPES: dict[str, type] = {"TEXT": str, "INTEGER": int, "REAL": float}


class RecordTable(Generic[R]):
    """Everything SQL about one kind."""

    def __init__(self, schema: Schema[R]) -> None:
        self.schema = schema
        self.name = schema.table
        self.table = quote(schema.table)
        self.fts = quote(f"{schema.table}_fts")
        self.tags = quote(f"{schema.table}_tags")
        self._tags_at = schema.names.index("tags")

    # -- declaration -----------------------------------------------------------------------------------------------

    def stored_signature(self, connection: Connection) -> dict[str, str] | None:
        """Field name to type as last recorded, or None when the kind is new to this store."""
        found = connection.execute("SELECT signature FROM kinds WHERE name = ?", (self.name,)).fetchone()
        return None if found is None else json.loads(found[0])

    def pending_fields(self, connection: Connection) -> list[Column] | None:
        """Fields that the stored table lacks; None when there is no table yet.

        Raises:
            SchemaChangedError: a field was removed or retyped, or a new one has no default.
        """
        stored = self.stored_signature(connection)
        if stored is None:
            return None
        declared = self.schema.signature()
        for name, kind in stored.items():
            if declared.get(name) != kind:
                became = declared.get(name, "nothing")
                raise SchemaChangedError(
                    f"{self.name}.{name}: the store has {kind}, the class declares {became}; "
                    "give the field its old type back, or export, change and import the kind"
                )
        new = [column for column in self.schema.columns if column.name not in stored]
        for column in new:
            if column.required or (column.default is None and not column.nullable):
                raise SchemaChangedError(
                    f"{self.name}.{column.name}: a new field needs a default; stored records lack it"
                )
            if column.unique or column.folded or column.embedded:
                raise SchemaChangedError(
                    f"{self.name}.{column.name}: a new field cannot be unique, folded or embedded; "
                    "export, change and import the kind"
                )
        return new

    def create(self, connection: Connection) -> None:
        """Make the tables and indexes of the kind and record its declaration."""
        db = wrap(connection)
        columns: dict[str, Any] = {"row": int}
        for column in self.schema.columns:
            columns[column.name] = _PYTHON_TYPES[column.sql_type]
        for column in self.schema.folded:
            columns[column.key] = str
        columns["digest"] = bytes
        db.table(self.name).create(
            columns,
            pk="row",
            not_null={"digest"} | {column.name for column in self.schema.columns if not column.nullable},
            strict=True,
        )
        # One statement more than create(foreign_keys=...), which cannot point a new table at itself.
        references = [column for column in self.schema.columns if column.ref is not None]
        connection.execute(f"CREATE UNIQUE INDEX {quote(self.name + '_id')} ON {self.table}(id)")
        if references:
            db.table(self.name).transform(
                add_foreign_keys=[(column.name, column.ref, "id") for column in references if column.ref]
            )
        for column in self.schema.columns:
            if column.unique:
                self._index(connection, column, "UNIQUE INDEX")
            elif column.indexed:
                self._index(connection, column, "INDEX")
        connection.execute(
            f"CREATE TABLE {self.tags}(tag TEXT NOT NULL, row INTEGER NOT NULL REFERENCES {self.table}(row), "
            "PRIMARY KEY(tag, row)) STRICT, WITHOUT ROWID"
        )
        connection.execute(f"CREATE INDEX {quote(self.name + '_tags_row')} ON {self.tags}(row)")
        if self.schema.text_columns:
            names = [column.name for column in self.schema.text_columns]
            db.table(self.name).enable_fts(names, fts_version="FTS5", tokenize=TOKENIZER, create_triggers=False)
        self._record(connection)

    def _index(self, connection: Connection, column: Column, what: str) -> None:
        """A partial index over live records, which alone answers `field = ? AND deleted_at IS NULL`."""
        name = quote(f"{self.name}_{column.key}")
        connection.execute(f"CREATE {what} {name} ON {self.table}({quote(column.key)}) WHERE {LIVE}")

    def add_fields(self, connection: Connection, new: Sequence[Column]) -> None:
        """Add optional fields as columns and seal every row anew, after checking the old seals."""
        old = [name for name in self.schema.names if name not in {column.name for column in new}]
        for column in new:
            default = "" if column.default is None else f" NOT NULL DEFAULT {_literal(column.default)}"
            connection.execute(f"ALTER TABLE {self.table} ADD COLUMN {quote(column.name)} {column.sql_type}{default}")
            if column.indexed:
                self._index(connection, column, "INDEX")
        listed = ", ".join(map(quote, old))
        broken = [
            row
            for row, seal, *values in connection.execute(f"SELECT row, digest, {listed} FROM {self.table}")
            if digest(values) != seal
        ]
        if broken:
            raise CorruptError(
                f"{self.name}: rows {broken[:5]} are damaged; the kind was not migrated; restore a backup"
            )
        rows = connection.execute(f"SELECT row, {self._listed} FROM {self.table}").fetchall()
        connection.executemany(
            f"UPDATE {self.table} SET digest = ? WHERE row = ?",
            ((digest(values), row) for row, *values in rows),
        )
        self._record(connection)

    def _record(self, connection: Connection) -> None:
        connection.execute(
            "INSERT INTO kinds(name, signature, declaration, json_schema) VALUES (?, ?, ?, ?) ON CONFLICT(name) "
            "DO UPDATE SET signature = excluded.signature, declaration = excluded.declaration, "
            "json_schema = excluded.json_schema",
            (
                self.name,
                json.dumps(self.schema.signature()),
                json.dumps([dataclasses.asdict(column) for column in self.schema.columns]),
                json.dumps(self.schema.kind.model_json_schema()),
            ),
        )

    # -- writing ---------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _listed(self) -> str:
        return ", ".join(map(quote, self.schema.names))

    @functools.cached_property
    def _written(self) -> list[str]:
        return [*self.schema.names, *(column.key for column in self.schema.folded), "digest"]

    def next_row(self, connection: Connection) -> int:
        """The row number after the highest one."""
        highest = connection.execute(f"SELECT max(row) FROM {self.table}").fetchone()[0]
        return (highest or 0) + 1

    def insert(self, connection: Connection, first: int, rows: Sequence[Row]) -> None:
        """Insert rows numbered from `first` on, with their tags and full text."""
        names = ", ".join(map(quote, ["row", *self._written]))
        marks = ", ".join("?" * (len(self._written) + 1))
        connection.executemany(
            f"INSERT INTO {self.table}({names}) VALUES ({marks})",
            ((number, *row, *folded_values(self.schema, row), digest(row)) for number, row in enumerate(rows, first)),
        )
        self._insert_tags(connection, zip(itertools.count(first), rows, strict=False))
        self._index_text(connection, "row BETWEEN ? AND ?", (first, first + len(rows) - 1))

    def replace(self, connection: Connection, rows: Sequence[tuple[int, Row]], *, text_changed: bool = True) -> None:
        """Overwrite the fields of existing rows, with their tags and full text."""
        numbers = json.dumps([number for number, _ in rows])
        where = "row IN (SELECT value FROM json_each(?))"
        if text_changed:
            self._unindex_text(connection, where, (numbers,))
        assignments = ", ".join(f"{quote(name)} = ?" for name in self._written)
        connection.executemany(
            f"UPDATE {self.table} SET {assignments} WHERE row = ?",
            ((*row, *folded_values(self.schema, row), digest(row), number) for number, row in rows),
        )
        connection.execute(f"DELETE FROM {self.tags} WHERE {where}", (numbers,))
        self._insert_tags(connection, rows)
        if text_changed:
            self._index_text(connection, where, (numbers,))

    def erase(self, connection: Connection, rows: Sequence[int]) -> None:
        """Remove rows for good, with their tags and full text."""
        numbers = json.dumps(list(rows))
        where = "row IN (SELECT value FROM json_each(?))"
        self._unindex_text(connection, where, (numbers,))
        connection.execute(f"DELETE FROM {self.tags} WHERE {where}", (numbers,))
        connection.execute(f"DELETE FROM {self.table} WHERE {where}", (numbers,))

    def _insert_tags(self, connection: Connection, rows: Iterable[tuple[int, Row]]) -> None:
        pairs = [
            (tag, number)
            for number, row in rows
            if row[self._tags_at] != "[]"
            for tag in dict.fromkeys(json.loads(str(row[self._tags_at])))
        ]
        if pairs:
            connection.executemany(f"INSERT INTO {self.tags}(tag, row) VALUES (?, ?)", pairs)

    @functools.cached_property
    def _text_names(self) -> str:
        return ", ".join(quote(column.name) for column in self.schema.text_columns)

    def _index_text(self, connection: Connection, where: str, values: Sequence[Value]) -> None:
        if self._text_names:
            connection.execute(
                f"INSERT INTO {self.fts}(rowid, {self._text_names}) "
                f"SELECT row, {self._text_names} FROM {self.table} WHERE {where}",
                values,
            )

    def _unindex_text(self, connection: Connection, where: str, values: Sequence[Value]) -> None:
        """External-content FTS5 forgets a row only when told the values that it indexed."""
        if self._text_names:
            connection.execute(
                f"INSERT INTO {self.fts}({self.fts}, rowid, {self._text_names}) "
                f"SELECT 'delete', row, {self._text_names} FROM {self.table} WHERE {where}",
                values,
            )

    def optimize_text(self, connection: Connection) -> None:
        """Merge the full-text index so that deleted words leave the file."""
        if self._text_names:
            connection.execute(f"INSERT INTO {self.fts}({self.fts}) VALUES ('optimize')")

    def rebuild_text(self, connection: Connection) -> None:
        """Make the full-text index and the tag table anew from the rows."""
        if self._text_names:
            connection.execute(f"INSERT INTO {self.fts}({self.fts}) VALUES ('rebuild')")
        connection.execute(f"DELETE FROM {self.tags}")
        connection.execute(
            f"INSERT INTO {self.tags}(tag, row) SELECT DISTINCT j.value, t.row FROM {self.table} t, json_each(t.tags) j"
        )

    # -- reading ---------------------------------------------------------------------------------------------------

    def decode(self, number: int, seal: bytes, values: Sequence[Value]) -> R:
        """The record of a row, if its seal holds.

        Raises:
            CorruptError: the row was damaged since it was written.
        """
        if digest(values) != seal:
            raise CorruptError(
                f"{self.name} row {number} (id {values[0]!r}) is damaged: its digest does not match; "
                "restore a backup, or overwrite the record with upsert"
            )
        return self.schema.decode(values)

    def by_ids(self, connection: Connection, ids: Sequence[str]) -> dict[str, tuple[int, R]]:
        """Id -> (row, record) for those that exist, deleted ones included."""
        found = connection.execute(
            f"SELECT t.row, t.digest, {self._prefixed} FROM json_each(?) j CROSS JOIN {self.table} t ON t.id = j.value",
            (json.dumps(list(ids)),),
        ).fetchall()
        return {str(values[0]): (row, self.decode(row, seal, values)) for row, seal, *values in found}

    @functools.cached_property
    def _prefixed(self) -> str:
        return ", ".join(f"t.{quote(name)}" for name in self.schema.names)

    def by_vids(self, connection: Connection, vids: Sequence[int]) -> dict[int, R]:
        """Vid -> live record."""
        marks = ",".join("?" * len(vids))
        found = connection.execute(
            f"SELECT v.vid, t.row, t.digest, {self._prefixed} FROM vectors v "
            f"JOIN {self.table} t ON t.row = v.record WHERE v.vid IN ({marks}) AND t.{LIVE}",
            tuple(vids),
        ).fetchall()
        return {vid: self.decode(row, seal, values) for vid, row, seal, *values in found}

    def by_rows(self, connection: Connection, rows: Sequence[int]) -> dict[int, R]:
        """Row -> record, deleted ones included."""
        found = connection.execute(
            f"SELECT t.row, t.digest, {self._prefixed} "
            f"FROM json_each(?) j CROSS JOIN {self.table} t ON t.row = j.value",
            (json.dumps(list(rows)),),
        ).fetchall()
        return {row: self.decode(row, seal, values) for row, seal, *values in found}

    def stamps(self, connection: Connection, rows: Sequence[int]) -> dict[int, tuple[int, int | None]]:
        """Row -> (version, created_at), of damaged rows too, so that they can be overwritten."""
        sql = f"SELECT t.row, t.version, t.created_at FROM json_each(?) j CROSS JOIN {self.table} t ON t.row = j.value"
        return {row: (version, made) for row, version, made in connection.execute(sql, (json.dumps(list(rows)),))}

    def existing(self, connection: Connection, ids: Iterable[str]) -> dict[str, tuple[int, bool]]:
        """Id -> (row, is deleted) for those that exist."""
        found = connection.execute(
            f"SELECT t.id, t.row, t.deleted_at IS NOT NULL "
            f"FROM json_each(?) j CROSS JOIN {self.table} t ON t.id = j.value",
            (json.dumps(list(ids)),),
        ).fetchall()
        return {name: (row, bool(deleted)) for name, row, deleted in found}

    def _condition(self, node: Node | None, deleted: bool | None) -> tuple[str, list[Value]]:
        sql, values = compile_where(node, self.table)
        if deleted is None:
            return sql, values
        return f"({sql}) AND {self.table}.deleted_at IS {'NOT NULL' if deleted else 'NULL'}", values

    def count(self, connection: Connection, node: Node | None, *, deleted: bool | None = False) -> int:
        """How many records match; `deleted` None counts both."""
        sql, values = self._condition(node, deleted)
        total: int = connection.execute(f"SELECT count(*) FROM {self.table} WHERE {sql}", values).fetchone()[0]
        return total

    def matching(self, connection: Connection, node: Node | None, *, deleted: bool | None = False) -> Rows:
        """Row numbers that match, in no order; one text column parsed by numpy, five times faster than tuples."""
        sql, values = self._condition(node, deleted)
        text = connection.execute(f"SELECT group_concat(row) FROM {self.table} WHERE {sql}", values).fetchone()[0]
        return np.fromstring(text, dtype=np.int64, sep=",") if text else np.empty(0, np.int64)

    def page(
        self,
        connection: Connection,
        node: Node | None,
        *,
        order: Column | None,
        descending: bool,
        limit: int,
        after: tuple[Value, int] | None,
        deleted: bool | None = False,
    ) -> list[tuple[int, Value, R]]:
        """(row, sort value, record) after a key, in stable order: by the column, ties by row."""
        sql, values = self._condition(node, deleted)
        key = f"{self.table}.{quote(order.key)}" if order is not None else f"{self.table}.row"
        number = f"{self.table}.row"
        if after is not None:
            value, row = after
            if order is None:
                step: tuple[str, list[Value]] = (f"{number} {'<' if descending else '>'} ?", [row])
            elif descending:
                step = (
                    f"({key} < ? OR ({key} IS NULL AND ? IS NOT NULL) OR ({key} IS ? AND {number} > ?))",
                    [value, value, value, row],
                )
            else:
                step = (
                    f"({key} > ? OR ({key} IS NOT NULL AND ? IS NULL) OR ({key} IS ? AND {number} > ?))",
                    [value, value, value, row],
                )
            sql, values = f"({sql}) AND {step[0]}", values + step[1]
        direction = "DESC" if descending else "ASC"
        by = f"{key} {direction}" if order is None else f"{key} {direction}, {number} ASC"
        listed = ", ".join(f"{self.table}.{quote(name)}" for name in self.schema.names)
        found = connection.execute(
            f"SELECT {number}, {key}, {self.table}.digest, {listed} "
            f"FROM {self.table} WHERE {sql} ORDER BY {by} LIMIT ?",
            (*values, limit),
        ).fetchall()
        return [(row, value, self.decode(row, seal, fields)) for row, value, seal, *fields in found]

    def text_matches(
        self, connection: Connection, query: str, node: Node | None, limit: int
    ) -> list[tuple[int, float]]:
        """(row, BM25 score, bigger is better) of the best full-text matches; `query` is FTS5 syntax made by us."""
        sql, values = self._condition(node, False)
        found = connection.execute(
            f"SELECT {self.table}.row, -bm25({self.fts}) AS score FROM {self.fts} "
            f"JOIN {self.table} ON {self.table}.row = {self.fts}.rowid "
            f"WHERE {self.fts} MATCH ? AND {sql} ORDER BY score DESC, {self.table}.row LIMIT ?",
            (query, *values, limit),
        ).fetchall()
        return [(row, float(score)) for row, score in found]

    def means(self, connection: Connection) -> dict[str, float | None]:
        """Mean of each real-valued field over live records; None where no record has one."""
        reals = [column.name for column in self.schema.columns if column.type == "real"]
        if not reals:
            return {}
        listed = ", ".join(f"avg({quote(name)})" for name in reals)
        found = connection.execute(f"SELECT {listed} FROM {self.table} WHERE {LIVE}").fetchone()
        return dict(zip(reals, found, strict=True))

    def by_context(self, connection: Connection) -> dict[str, int]:
        """Live records by context."""
        return dict(
            connection.execute(f"SELECT context, count(*) FROM {self.table} WHERE {LIVE} GROUP BY 1 ORDER BY 1")
        )

    def all_rows(self, connection: Connection) -> Iterator[tuple[int, bytes, list[Value]]]:
        """(row, seal, values) of every row, for a check; values are not verified."""
        cursor = connection.execute(f"SELECT row, digest, {self._listed} FROM {self.table}")
        for row, seal, *values in cursor:
            yield row, seal, values


def _literal(value: Value) -> str:
    """A default as SQL; only declared defaults come here, never a user's data."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def declared_kinds(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Table name to the columns of every kind that the store holds, as recorded."""
    found = connection.execute("SELECT name, declaration FROM kinds ORDER BY name").fetchall()
    return {name: json.loads(declaration) for name, declaration in found}
