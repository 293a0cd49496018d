"""What the table of one kind is: made from its schema, recorded in the catalog, grown by new optional fields.

Layout of every kind's table: `row` (the integer key), the fields, a folded companion `<name>_key` for each name, and
`digest`, which seals the fields. Beside it `<table>_tags`, one such for each listed field (`listed.py`), and
`<table>_fts` (full text over the EMBEDDED fields). `tables.py` reads and writes them.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

from vectorstore.errors import CorruptError, SchemaChangedError
from vectorstore.records import Column, Record, Schema, Value, digest
from vectorstore.storage.connection import Connection, OperationalError, wrap
from vectorstore.storage.filters import list_table, quote
from vectorstore.storage.fulltext import DEFAULT, SPECS, stored_tokenizer
from vectorstore.storage.listed import ListTable
from vectorstore.storage.settings import kept_json

R = TypeVar("R", bound=Record)
UNDELETED = "deleted_at IS NULL"


class DeclaredTable(Generic[R]):
    """The tables and indexes of a kind, and their agreement with its class."""

    def __init__(self, schema: Schema[R]) -> None:
        self.schema = schema
        self.name = schema.table
        self.table = quote(schema.table)
        self.fts = quote(f"{schema.table}_fts")
        self.lists = tuple(ListTable(schema.table, column, schema.names.index(column.name)) for column in schema.listed)
        self.tags = self.lists[0]
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

    @property
    def derived(self) -> set[str]:
        """The names of what can be made again from the rows."""
        return {f"{self.name}_fts", *(listed.name for listed in self.lists)}

    def stored_signature(self, connection: Connection) -> dict[str, str] | None:
        """Field name to type as last recorded, or None when the kind is new to this store."""
        found = connection.execute("SELECT signature FROM kinds WHERE name = ?", (self.name,)).fetchone()
        return None if found is None else kept_json(found[0], f"the signature of {self.name} in the catalog")

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
        self.create_rows(connection)
        for listed in self.lists:
            listed.create(connection)
        self.create_text(connection)
        self._record(connection)

    def create_rows(self, connection: Connection, schema: str = "main") -> None:
        """Make the table of the records, with its indexes, in a database of the connection.

        Only in the catalog does it point to others: in another database those need not be.
        """
        lines = ["row INTEGER PRIMARY KEY"]
        for column in self.schema.columns:
            points = ""
            if schema == "main" and column.ref is not None and column.listed is None:
                points = f" REFERENCES {quote(column.ref)}(id)"
            needed = "" if column.nullable else " NOT NULL"
            lines.append(f"{quote(column.name)} {column.sql_type}{needed}{points}")
        lines += [f"{quote(column.key)} TEXT" for column in self.schema.folded]
        # By hand: sqlite-utils would make the table twice to point it at itself, at five times the cost of opening.
        connection.execute(f"CREATE TABLE {schema}.{self.table}({', '.join(lines)}, digest BLOB NOT NULL) STRICT")
        connection.execute(f"CREATE UNIQUE INDEX {schema}.{quote(self.name + '_id')} ON {self.table}(id)")
        for column in self.schema.columns:
            if column.unique:
                self._index(connection, column, "UNIQUE INDEX", schema)
            elif column.indexed or column.cascade:
                self._index(connection, column, "INDEX", schema)

    def create_text(self, connection: Connection, schema: str = "main") -> None:
        """Make the full-text index of a table without rows, in a database of the connection."""
        names = ", ".join(quote(column.name) for column in self.schema.text_columns)
        if names:
            options = f"tokenize='{SPECS[self.tokenizer]}', content={self.table}"
            connection.execute(f"CREATE VIRTUAL TABLE {schema}.{self.fts} USING fts5({names}, {options})")

    def settle_tokenizer(self, connection: Connection, asked: str | None) -> bool:
        """Take the class's tokenizer, else the one that was asked for, else the store's own.

        Returns:
            Whether the stored full text was made with another one; `make_text` then makes it anew.
        """
        stored = stored_tokenizer(connection, self.name)
        wanted = self.schema.kind.text_tokenizer or asked
        # One that is not known is damaged: `repair` makes it anew.
        self.tokenizer = wanted or (stored if stored in SPECS else DEFAULT)
        return stored is not None and wanted is not None and stored != wanted

    def make_text(self, connection: Connection) -> None:
        """Make the full-text index, from the rows that there are; one of another tokenizer is dropped first."""
        names = [column.name for column in self.schema.text_columns]
        if names:
            table = wrap(connection).table(self.name)
            try:
                table.enable_fts(names, tokenize=SPECS[self.tokenizer], replace=True)
            except OperationalError:
                self.forget_text(connection)
                table.enable_fts(names, tokenize=SPECS[self.tokenizer])

    def forget_text(self, connection: Connection) -> None:
        """Take away a full-text index whose declaration is damaged: SQLite cannot even drop it as a whole."""
        name = f"{self.name}_fts"
        connection.execute("PRAGMA writable_schema=ON")
        try:
            connection.execute("DELETE FROM sqlite_schema WHERE name = ?", (name,))
        finally:
            connection.execute("PRAGMA writable_schema=RESET")  # the schema is read again, without it
        for part in ("data", "idx", "content", "docsize", "config"):
            connection.execute(f"DROP TABLE IF EXISTS {quote(f'{name}_{part}')}")

    def _index(self, connection: Connection, column: Column, what: str, schema: str = "main") -> None:
        """A partial index over undeleted records, which alone answers `field = ? AND deleted_at IS NULL`."""
        name = quote(f"{self.name}_{column.key}")
        where = f" WHERE {UNDELETED}" + (" AND expires_at IS NOT NULL" if column.name == "expires_at" else "")
        if column.cascade:  # deleted rows too: a purge of what they point to looks for them
            where = ""
        connection.execute(f"CREATE {what} {schema}.{name} ON {self.table}({quote(column.key)}){where}")

    def add_fields(self, connection: Connection, new: Sequence[Column]) -> None:
        """Add optional fields as columns and seal every row anew, after checking the old seals."""
        old = [name for name in self.schema.names if name not in {column.name for column in new}]
        for column in new:
            default = "" if column.default is None else f" NOT NULL DEFAULT {_literal(column.default)}"
            connection.execute(f"ALTER TABLE {self.table} ADD COLUMN {quote(column.name)} {column.sql_type}{default}")
            if column.indexed or column.cascade:
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
        self._seal(connection, self.table, "row")
        self._add_past_fields(connection, new)
        self.make_lists(connection)

    def _seal(self, connection: Connection, table: str, key: str, where: str = "TRUE") -> None:
        rows = connection.execute(f"SELECT {key}, {self._listed} FROM {table} WHERE {where}").fetchall()
        connection.executemany(
            f"UPDATE {table} SET digest = ? WHERE {key} = ?",
            ((digest(values), row) for row, *values in rows),
        )

    def _add_past_fields(self, connection: Connection, new: Sequence[Column]) -> None:
        """Rows that history keeps get the same fields, so that an earlier commit can still be gone back to."""
        past = f"_past_{self.name}"
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (past,)).fetchone() is None:
            return
        for column in new:
            connection.execute(f"ALTER TABLE {quote(past)} ADD COLUMN {quote(column.name)} ANY")
            if column.default is not None:
                connection.execute(f"UPDATE {quote(past)} SET {quote(column.name)} = {_literal(column.default)}")
        self._seal(connection, quote(past), "_id", "_was = 1")

    def pending_lists(self, stored: Sequence[dict[str, Any]] | None) -> bool:
        """Whether the listed fields of the stored columns (None for a new kind) are others than the class declares."""
        return stored is not None and _lists(stored) != {listed.column.name for listed in self.lists}

    def make_lists(self, connection: Connection) -> None:
        """Make and fill the tables that listed fields lack, and drop those of fields that are listed no more."""
        stored = _lists(declared_kinds(connection)[self.name])
        for name in sorted(stored - {listed.column.name for listed in self.lists}):
            connection.execute(f"DROP TABLE {list_table(self.name, name)}")
        for listed in self.lists:
            if listed.column.name not in stored:
                listed.create(connection)
                listed.rebuild(connection)
        self._record(connection)

    def _record(self, connection: Connection) -> None:
        connection.execute(
            "INSERT INTO kinds(name, signature, declaration, json_schema) VALUES (?, ?, ?, ?) ON CONFLICT(name) "
            "DO UPDATE SET signature = excluded.signature, declaration = excluded.declaration, "
            "json_schema = excluded.json_schema",
            (
                self.name,
                json.dumps(self.schema.signature()),
                self.schema.declaration,
                self.schema.json_schema,
            ),
        )


def _lists(columns: Sequence[dict[str, Any]]) -> set[str]:
    """Names of listed columns; declarations of before there were such do not speak of any, and have tags."""
    return {"tags"} | {column["name"] for column in columns if column.get("listed") is not None}


def _literal(value: Value) -> str:
    """A default as SQL; only declared defaults come here, never a user's data."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def declared_kinds(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Table name to the columns of every kind that the store holds, as recorded.

    Raises:
        CorruptError: a declaration is none any more.
    """
    kinds = {}
    for name, said in connection.execute("SELECT name, declaration FROM kinds ORDER BY name").fetchall():
        where = f"the declaration of {name!r} in the catalog"
        columns = kinds[name] = kept_json(said, where)
        named = isinstance(columns, list) and all(
            isinstance(column, dict) and isinstance(column.get("name"), str) for column in columns
        )
        if not named:
            raise CorruptError(f"{where} is damaged: a column without a name; restore a backup")
    return kinds


def damaged_kinds(connection: Connection) -> Iterator[tuple[str, str]]:
    """(kind, what is wrong) of recorded declarations that cannot be what was written."""
    known = {each.name for each in dataclasses.fields(Column)}
    for name, signature, text in connection.execute("SELECT name, signature, declaration FROM kinds ORDER BY name"):
        try:
            types, columns = json.loads(signature), json.loads(text)
            said = {column["name"]: column["type"] + ("?" if column["nullable"] else "") for column in columns}
            if said != types or any(column.keys() - known for column in columns):
                yield name, "its columns do not agree with their types"
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            yield name, f"cannot be read: {error!r}"
