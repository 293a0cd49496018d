"""Full text in SQL: tokenizers, the words that they see, matches with their scores, and snippets.

The index of a kind is an FTS5 table over the record table (external content). Its own declaration in the catalog is
the record of its tokenizer. Queries come in as FTS5 expressions that `search/` has made; no user's text is one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vectorstore.records import Value
from vectorstore.records.where import Node
from vectorstore.storage.connection import Connection, connect

if TYPE_CHECKING:
    from vectorstore.storage.tables import RecordTable

DEFAULT = "unicode61"
SPECS = {
    "unicode61": "unicode61 remove_diacritics 2",
    "porter": "porter unicode61 remove_diacritics 2",
    "trigram": "trigram",
}
_TOKENIZE = re.compile(r"\btokenize\s*=\s*'([^']*)'", re.IGNORECASE)
_letters: dict[str, bool] = {}


def stored_tokenizer(connection: Connection, table: str) -> str | None:
    """The tokenizer of a kind's full text as the catalog declares it; None when there is no full text."""
    found = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (f"{table}_fts",)).fetchone()
    if found is None:
        return None
    declared = _TOKENIZE.search(found[0])
    spec = SPECS[DEFAULT] if declared is None else declared[1]
    return next((name for name, known in SPECS.items() if known == spec), spec)


def letters_among(characters: Iterable[str]) -> set[str]:
    """Those characters that unicode61 takes for parts of words: it has a Unicode table of its own, and is asked.

    Args:
        characters: single characters; lone surrogates are letters of nothing.

    Cost: a millisecond when one comes for the first time in this process.
    """
    wanted = set(characters)
    new = [character for character in wanted if character not in _letters and not "\ud800" <= character <= "\udfff"]
    if new:
        with contextlib.closing(connect("file::memory:", timeout=1.0)) as connection:
            connection.execute(f"CREATE VIRTUAL TABLE t USING fts5(x, tokenize='{SPECS[DEFAULT]}')")
            connection.execute("CREATE VIRTUAL TABLE seen USING fts5vocab(t, instance)")
            connection.executemany("INSERT INTO t(rowid, x) VALUES (?, ?)", enumerate(new))
            found = {place for (place,) in connection.execute("SELECT doc FROM seen")}
        _letters.update((character, place in found) for place, character in enumerate(new))
    return {character for character in wanted if _letters.get(character)}


def has_word(connection: Connection, table: RecordTable[Any], word: str) -> bool:
    """Whether any record, deleted ones included, has a word in its full text."""
    quoted = '"' + word.replace('"', '""') + '"'
    found = connection.execute(f"SELECT 1 FROM {table.fts} WHERE {table.fts} MATCH ? LIMIT 1", (quoted,)).fetchone()
    return found is not None


def count_matches(connection: Connection, table: RecordTable[Any], match: str) -> int:
    """How many rows match, deleted ones included; 0.03 microseconds a row."""
    sql = f"SELECT count(*) FROM {table.fts} WHERE {table.fts} MATCH ?"
    total: int = connection.execute(sql, (match,)).fetchone()[0]
    return total


def best_matches(
    connection: Connection, table: RecordTable[Any], match: str, node: Node | None, limit: int | None
) -> list[tuple[int, float]]:
    """(row, BM25 score, bigger is better) of the best live matches, ties by row; None for all of them, in no order.

    The cross join keeps SQLite from going the other way round: an index on a filter's field would have it run the
    full-text query anew for each row. Time: about a microsecond a matching row.
    """
    sql, values = table.condition(node)
    found = connection.execute(
        f"SELECT {table.table}.row, -bm25({table.fts}) AS score FROM {table.fts} "
        f"CROSS JOIN {table.table} ON {table.table}.row = {table.fts}.rowid "
        f"WHERE {table.fts} MATCH ? AND {sql}"
        + ("" if limit is None else f" ORDER BY score DESC, {table.table}.row LIMIT {int(limit)}"),
        (match, *values),
    )
    return found.fetchall()


def scores_of(connection: Connection, table: RecordTable[Any], match: str, rows: Sequence[int]) -> dict[int, float]:
    """Row -> BM25 score, for those of the rows that match.

    The plus keeps SQLite from running the whole query anew for each row: it is run once and its rows are sieved.
    """
    found = connection.execute(
        f"SELECT rowid, -bm25({table.fts}) FROM {table.fts} "
        f"WHERE {table.fts} MATCH ? AND +rowid IN (SELECT value FROM json_each(?))",
        (match, json.dumps(list(rows))),
    )
    return dict(found.fetchall())


def marked(
    connection: Connection,
    table: RecordTable[Any],
    match: str,
    rows: Sequence[int],
    marks: tuple[str, str, str],
    words: int,
) -> dict[int, tuple[str | None, ...]]:
    """Row -> each text field's passage with the marks around what matched; rows that do not match are left out.

    Fields that are kept as JSON come whole, so that they can be read.

    Args:
        connection: of the snapshot that the rows were found in.
        table: the kind.
        match: the FTS5 expression.
        rows: which rows.
        marks: before a match, after it, and for what is left out.
        words: 1..64, the length of a passage.
    """
    before, after, ellipsis = marks
    calls: list[str] = []
    values: list[Value] = []
    for place, column in enumerate(table.schema.text_columns):
        if column.type == "json":
            calls.append(f"highlight({table.fts}, {place}, ?, ?)")
            values += [before, after]
        else:
            calls.append(f"snippet({table.fts}, {place}, ?, ?, ?, ?)")
            values += [before, after, ellipsis, words]
    found = connection.execute(
        f"SELECT rowid, {', '.join(calls)} FROM {table.fts} "
        f"WHERE {table.fts} MATCH ? AND +rowid IN (SELECT value FROM json_each(?))",
        (*values, match, json.dumps(list(rows))),
    )
    return {row: tuple(passages) for row, *passages in found}
