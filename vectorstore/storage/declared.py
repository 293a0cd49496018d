"""What the table of one kind is: made from its schema, recorded in the catalog, grown by new optional fields.

Layout of every kind's table: `row` (the integer key), the fields, a folded companion `<name>_key` for each name, and
`digest`, which seals the fields. Beside it `<table>_tags` (an index on tags), `<table>_terms` (one on terms, for
kinds that have some) and `<table>_fts` (full text over the EMBEDDED fields). `tables.py` reads and writes them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from vectorstore.errors import CorruptError, SchemaChangedError
from vectorstore.records import Column, Record, Schema, Value, digest
from vectorstore.storage.connection import Connection, wrap
from vectorstore.storage.filters import quote
from vectorstore.storage.fulltext import DEFAULT, SPECS, stored_tokenizer
from vectorstore.storage.terms import Terms

R = TypeVar("R", bound=Record)
UNDELETED = "deleted_at IS NULL"
_PYTHON_TYPES: dict[str, type] = {"TEXT": str, "INTEGER": int, "REAL": float}


class DeclaredTable(Generic[R]):
    """The tables and indexes of a kind, and their agreement with its class."""

    def __init__(self, schema: Schema[R]) -> None:
        self.schema = schema
        self.name = schema.table
        self.table = quote(schema.table)
        self.fts = quote(f"{schema.table}_fts")
        self.tags = quote(f"{schema.table}_tags")
        self.terms = Terms(schema)
        self.tokenizer = schema.kind.text_tokenizer or DEFAULT
        # Which rows every read may see. As a set of (nearly always no) rows that the index on expires_at gives, so that
        # the indexes of other fields still answer alone.
        self.live = (
            f"{self.table}.{UNDELETED} AND {self.table}.row NOT IN "
            f"(SELECT row FROM {self.table} WHERE {UNDELETED} AND expires_at <= now_micros())"
        )

    @functools.cached_property
    def _listed(self) -> str:
        return ", ".join(map(quote, self.schema.names))

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
        self.terms.make(connection)
        self.make_text(connection)
        self._record(connection)

    def other_terms(self, connection: Connection) -> bool:
        """Whether the stored kind keeps the terms of other fields than the class declares."""
        found = connection.execute("SELECT declaration FROM kinds WHERE name = ?", (self.name,)).fetchone()
        return found is not None and self.terms.fields != [
            column["name"] for column in json.loads(found[0]) if column.get("term")
        ]

    def make_terms(self, connection: Connection) -> None:
        """Make the table of terms anew from the rows, for the fields that the class declares."""
        self.terms.make(connection)
        self._record(connection)

    def settle_tokenizer(self, connection: Connection, asked: str | None) -> bool:
        """Take the class's tokenizer, else the one that was asked for, else the store's own.

        Returns:
            Whether the stored full text was made with another one; `make_text` then makes it anew.
        """
        stored = stored_tokenizer(connection, self.name)
        self.tokenizer = self.schema.kind.text_tokenizer or asked or stored or DEFAULT
        return stored is not None and stored != self.tokenizer

    def make_text(self, connection: Connection) -> None:
        """Make the full-text index, from the rows that there are; one of another tokenizer is dropped first."""
        names = [column.name for column in self.schema.text_columns]
        if names:
            wrap(connection).table(self.name).enable_fts(names, tokenize=SPECS[self.tokenizer], replace=True)

    def _index(self, connection: Connection, column: Column, what: str) -> None:
        """A partial index over undeleted records, which alone answers `field = ? AND deleted_at IS NULL`."""
        name = quote(f"{self.name}_{column.key}")
        where = f"{UNDELETED} AND expires_at IS NOT NULL" if column.name == "expires_at" else UNDELETED
        connection.execute(f"CREATE {what} {name} ON {self.table}({quote(column.key)}) WHERE {where}")

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


def _literal(value: Value) -> str:
    """A default as SQL; only declared defaults come here, never a user's data."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def declared_kinds(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Table name to the columns of every kind that the store holds, as recorded."""
    found = connection.execute("SELECT name, declaration FROM kinds ORDER BY name").fetchall()
    return {name: json.loads(declaration) for name, declaration in found}
