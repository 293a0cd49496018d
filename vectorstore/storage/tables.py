"""The table of one kind, read and written as tuples; `declared.py` says what it consists of.

Full text and the values of listed fields are kept by the same transactions as the rows. Functions take the connection
of such a transaction.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from vectorstore.errors import CorruptError
from vectorstore.records import Column, Record, Row, Schema, Value, digest
from vectorstore.records.schema import folded_column, folded_values
from vectorstore.records.where import Node
from vectorstore.storage.bulk import insert_columns
from vectorstore.storage.connection import Connection, OperationalError
from vectorstore.storage.declared import UNDELETED, DeclaredTable
from vectorstore.storage.filters import compile_where, json_list, quote
from vectorstore.storage.remembered import Remembered
from vectorstore.storage.trail import highest_erased, note_erased

if TYPE_CHECKING:
    from vectorstore.storage.unmade import Unmade

R = TypeVar("R", bound=Record)
Rows = npt.NDArray[np.int64]
_GONE = "(t.deleted_at IS NOT NULL OR coalesce(t.expires_at <= now_micros(), FALSE))"


class RecordTable(DeclaredTable[R]):
    """Everything SQL about one kind."""

    def __init__(self, schema: Schema[R]) -> None:
        super().__init__(schema)
        self._remembered = Remembered()
        self.unmade: Unmade | None = None

    # -- writing ---------------------------------------------------------------------------------------------------

    def make(self, connection: Connection) -> None:
        """See to it that the kind has its tables, before anything names it; 5 microseconds if it has."""
        if self.unmade is not None:
            self.unmade.make(connection, self)

    @functools.cached_property
    def _written(self) -> list[str]:
        return [*self.schema.names, *(column.key for column in self.schema.folded), "digest"]

    def next_row(self, connection: Connection) -> int:
        """The row number after the highest one that ever was: a number names one record for ever, erased or not."""
        highest = connection.execute(f"SELECT max(row) FROM {self.table}").fetchone()[0] or 0
        return max(int(highest), highest_erased(connection, self.name)) + 1

    def insert(self, connection: Connection, first: int, rows: Sequence[Row]) -> None:
        """Insert rows numbered from `first` on, with their full text and the values of their lists."""
        if not rows:
            return
        self.make(connection)
        columns = dict(zip(self.schema.names, zip(*rows, strict=True), strict=True))
        keys = {column.key: folded_column(columns[column.name]) for column in self.schema.folded}
        numbers = range(first, first + len(rows))
        seals = [digest(row) for row in rows]
        insert_columns(connection, self.table, {"row": numbers, **columns, **keys, "digest": seals})
        for listed in self.lists:
            listed.insert(connection, zip(numbers, rows, strict=True))
        self._index_text(connection, "row BETWEEN ? AND ?", (first, numbers[-1]))

    def replace(self, connection: Connection, rows: Sequence[tuple[int, Row]], *, text_changed: bool = True) -> None:
        """Overwrite the fields of existing rows, with their full text and the values of their lists."""
        numbers = json.dumps([number for number, _ in rows])
        where = "row IN (SELECT value FROM json_each(?))"
        if text_changed:
            self._unindex_text(connection, where, (numbers,))
        for listed in self.lists:
            listed.delete(connection, numbers)
        assignments = ", ".join(f"{quote(name)} = ?" for name in self._written)
        connection.executemany(
            f"UPDATE {self.table} SET {assignments} WHERE row = ?",
            ((*row, *folded_values(self.schema, row), digest(row), number) for number, row in rows),
        )
        for listed in self.lists:
            listed.insert(connection, rows)
        if text_changed:
            self._index_text(connection, where, (numbers,))

    def change_below(self, connection: Connection, rows: Sequence[int], statements: Iterable[str]) -> None:
        """Change rows by statements of history; their full text and lists follow."""
        numbers = json.dumps(list(rows))
        where = "row IN (SELECT value FROM json_each(?))"
        self._unindex_text(connection, where, (numbers,))
        for listed in self.lists:
            listed.delete(connection, numbers)
        for statement in statements:
            connection.execute(statement)
        self._index_text(connection, where, (numbers,))
        for listed in self.lists:
            found = connection.execute(f"SELECT row, {self._listed} FROM {self.table} WHERE {where}", (numbers,))
            listed.insert(connection, [(row, tuple(values)) for row, *values in found.fetchall()])

    def raised(self, connection: Connection, rows: Sequence[tuple[int, Row]]) -> list[tuple[int, Row]]:
        """The rows as they are to be written over live ones: RISING fields stay at the larger of the two values."""
        names = [column.name for column in self.schema.rising]
        if not names or not rows:
            return list(rows)
        listed = ", ".join(f"t.{quote(name)}" for name in names)
        found = connection.execute(
            f"SELECT t.row, {listed} FROM json_each(?) j CROSS JOIN {self.table} t ON t.row = j.value "
            f"WHERE t.{UNDELETED}",
            (json.dumps([number for number, _ in rows]),),
        )
        stored = {number: values for number, *values in found}
        places = [self.schema.names.index(name) for name in names]
        out = []
        for number, row in rows:
            new = list(row)
            for place, value in zip(places, stored.get(number, ()), strict=False):
                if value is not None:
                    new[place] = value if new[place] is None else max(new[place], value)
            out.append((number, tuple(new)))
        return out

    def erase(self, connection: Connection, rows: Sequence[int]) -> None:
        """Remove rows for good, with their full text and the values of their lists."""
        numbers = json.dumps(list(rows))
        where = "row IN (SELECT value FROM json_each(?))"
        self._unindex_text(connection, where, (numbers,))
        for listed in self.lists:
            listed.delete(connection, numbers)
        note_erased(connection, self.name, max(rows, default=0))
        connection.execute(f"DELETE FROM {self.table} WHERE {where}", (numbers,))

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
        """Make the full-text index and the tables of listed fields anew from the rows."""
        if self._text_names:
            try:
                connection.execute(f"INSERT INTO {self.fts}({self.fts}) VALUES ('rebuild')")
            except OperationalError:  # its declaration or its version number is damaged
                self.forget_text(connection)
                self.make_text(connection)
        for listed in self.lists:
            listed.rebuild(connection)

    # -- reading ---------------------------------------------------------------------------------------------------

    def decode(self, number: int, seal: bytes, values: Sequence[Value]) -> R:
        """The record of a row, if its seal holds.

        Raises:
            CorruptError: the row was damaged since it was written.
        """
        return self.schema.copy(self._half(number, seal, values))

    def _half(self, number: int, seal: bytes, values: Sequence[Value]) -> dict[str, Any]:
        if digest(values) != seal:
            raise CorruptError(
                f"{self.name} row {number} (id {values[0]!r}) is damaged: its digest does not match; "
                "restore a backup, or overwrite the record with upsert"
            )
        return self.schema.half_decoded(values)

    def by_ids(self, connection: Connection, ids: Sequence[str]) -> dict[str, tuple[int, R]]:
        """Id -> (row, record) for those that are live."""
        found = connection.execute(
            f"SELECT t.row, t.digest, {self._prefixed} FROM json_each(?) j CROSS JOIN {self.table} t "
            f"ON t.id = j.value WHERE NOT {_GONE}",
            (json_list(ids),),
        ).fetchall()
        return {str(values[0]): (row, self.decode(row, seal, values)) for row, seal, *values in found}

    @functools.cached_property
    def _prefixed(self) -> str:
        return ", ".join(f"t.{quote(name)}" for name in self.schema.names)

    def by_vids(self, connection: Connection, vids: Sequence[int], seq: int | None = None) -> dict[int, R]:
        """Vid -> record that is not deleted; a snapshot knows which have expired.

        Args:
            connection: of a running read.
            vids: newest vectors of records.
            seq: the commit that is read, when rows of it may be remembered and kept in memory.
        """
        known = {} if seq is None else self._remembered.take(seq, vids)
        asked = [vid for vid in vids if vid not in known] if known else vids
        if asked:
            marks = ",".join("?" * len(asked))
            found = connection.execute(
                f"SELECT v.vid, t.row, t.digest, {self._prefixed} FROM vectors v "
                f"JOIN {self.table} t ON t.row = v.record WHERE v.vid IN ({marks}) AND t.{UNDELETED}",
                tuple(asked),
            ).fetchall()
            rows = {vid: self._half(row, seal, values) for vid, row, seal, *values in found}
            if seq is not None:
                self._remembered.keep(seq, rows)
            known |= rows
        copy = self.schema.copy
        return {vid: copy(half) for vid, half in known.items()}

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
        """Id -> (row, is deleted or expired) for those that exist."""
        found = connection.execute(
            f"SELECT t.id, t.row, {_GONE} FROM json_each(?) j CROSS JOIN {self.table} t ON t.id = j.value",
            (json_list(ids),),
        ).fetchall()
        return {name: (row, bool(deleted)) for name, row, deleted in found}

    def _condition(self, node: Node | None, deleted: bool | None, expired: bool = False) -> tuple[str, list[Value]]:
        """SQL of a filter over live rows; over deleted ones; over both; with those that have only expired."""
        sql, values = compile_where(node, self.table)
        if deleted is None:
            return sql, values
        if deleted or expired:
            return f"({sql}) AND {self.table}.deleted_at IS {'NOT NULL' if deleted else 'NULL'}", values
        return f"({sql}) AND {self.live}", values

    def due(self, connection: Connection, now: int) -> list[tuple[int, Row]]:
        """(row, values) of records whose `expires_at` has passed and that nobody has deleted; no damaged ones."""
        found = connection.execute(
            f"SELECT row, digest, {self._listed} FROM {self.table} WHERE {UNDELETED} AND expires_at <= ?", (now,)
        ).fetchall()
        return [(row, tuple(values)) for row, seal, *values in found if digest(values) == seal]

    def _some_expired(self, connection: Connection) -> bool:
        sql = f"SELECT EXISTS (SELECT 1 FROM {self.table} WHERE {UNDELETED} AND expires_at <= now_micros())"
        return bool(connection.execute(sql).fetchone()[0])

    def count(self, connection: Connection, node: Node | None, *, deleted: bool | None = False) -> int:
        """How many records match; `deleted` None counts all, expired ones too."""
        # An index alone counts faster without the set of expired rows, which is nearly always empty.
        sql, values = self._condition(node, deleted, expired=deleted is False and not self._some_expired(connection))
        total: int = connection.execute(f"SELECT count(*) FROM {self.table} WHERE {sql}", values).fetchone()[0]
        return total

    def matching(
        self, connection: Connection, node: Node | None, *, deleted: bool | None = False, expired: bool = False
    ) -> Rows:
        """Row numbers that match, in no order; one text column parsed by numpy, five times faster than tuples.

        Args:
            connection: of a running transaction.
            node: the filter.
            deleted: only deleted ones; None for all.
            expired: among those that are not deleted also the expired.
        """
        sql, values = self._condition(node, deleted, expired)
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

    def condition(self, node: Node | None, connection: Connection | None = None) -> tuple[str, list[Value]]:
        """SQL over this table of a filter that also wants live rows, with its parameters.

        With a connection it is for one statement now, and does without the set of expired rows where that is empty.
        """
        return self._condition(node, False, expired=connection is not None and not self._some_expired(connection))

    def means(self, connection: Connection) -> dict[str, float | None]:
        """Mean of each real-valued field over live records; None where no record has one."""
        reals = [column.name for column in self.schema.columns if column.type == "real"]
        if not reals:
            return {}
        listed = ", ".join(f"avg({quote(name)})" for name in reals)
        found = connection.execute(f"SELECT {listed} FROM {self.table} WHERE {self.live}").fetchone()
        return dict(zip(reals, found, strict=True))

    def by_value(self, connection: Connection, name: str) -> dict[Value, int]:
        """Live records by the value of a plain field."""
        return dict(
            connection.execute(
                f"SELECT {quote(name)}, count(*) FROM {self.table} WHERE {self.live} GROUP BY 1 ORDER BY 1"
            )
        )

    def all_rows(self, connection: Connection) -> Iterator[tuple[int, bytes, list[Value]]]:
        """(row, seal, values) of every row, for a check; values are not verified."""
        cursor = connection.execute(f"SELECT row, digest, {self._listed} FROM {self.table}")
        for row, seal, *values in cursor:
            yield row, seal, values
