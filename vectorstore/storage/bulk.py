"""Many rows into one table, in half the time of a statement for each.

A statement takes 50 rows, so that SQLite is entered and left once for all of them; what a column holds throughout is
handed over once a statement instead of once a row.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vectorstore.records import Value
from vectorstore.storage.connection import Connection
from vectorstore.storage.filters import quote

ROOMY_KIB = 64 * 1024
GROUP = 50
"""Rows a statement. More gain nothing, and the widest kind still needs fewer variables than SQLite's 32,766."""


def insert_columns(connection: Connection, table: str, columns: dict[str, Sequence[Value]]) -> None:
    """Insert rows given as columns of one length.

    Args:
        connection: of a running transaction.
        table: a quoted name.
        columns: values by column name; those of one at least (a key) differ.

    Raises:
        IntegrityError: a constraint refused a row; the transaction must not be committed.
    """
    count = len(next(iter(columns.values())))
    group = GROUP if count >= GROUP else 1
    same = {name: column[0] for name, column in columns.items() if group > 1 and _constant(column)}
    varied = [column for name, column in columns.items() if name not in same]
    whole = count - count % group
    for size, start, stop in ((group, 0, whole), (1, whole, count)):
        if stop > start:
            flat = itertools.chain.from_iterable(zip(*(column[start:stop] for column in varied), strict=True))
            connection.executemany(
                _statement(table, tuple(columns), tuple(same), size), _grouped(flat, size * len(varied), same.values())
            )


def _grouped(flat: Iterable[Value], size: int, same: Iterable[Value]) -> Iterator[tuple[Value, ...]]:
    head, rest = tuple(same), iter(flat)
    while part := tuple(itertools.islice(rest, size)):
        yield head + part


@functools.lru_cache(maxsize=256)
def _statement(table: str, names: tuple[str, ...], same: tuple[str, ...], rows: int) -> str:
    numbered = itertools.count(len(same) + 1)
    values = ", ".join(
        "(" + ", ".join(f"?{same.index(name) + 1 if name in same else next(numbered)}" for name in names) + ")"
        for _ in range(rows)
    )
    return f"INSERT INTO {table}({', '.join(map(quote, names))}) VALUES {values}"


def _constant(column: Sequence[Any]) -> bool:
    """Whether all values are the same, and not merely equal: 1 is neither 1.0 nor True, 0.0 is not -0.0."""
    first = column[0]
    if column.count(first) < len(column):
        return False
    if first is None or isinstance(first, str):
        return True
    return len(set(map(type, column))) == 1 and not (isinstance(first, float) and first == 0)


@contextlib.contextmanager
def roomy(connection: Connection) -> Iterator[None]:
    """A larger page cache for a large write: index pages that are hit at random are written out once, not many times.

    Writing the 377,583 relations of WordNet took 45 s with the 8 MB of every writer; see docs/design.md.
    """
    before = connection.execute("PRAGMA cache_size").fetchone()[0]
    connection.execute(f"PRAGMA cache_size=-{ROOMY_KIB}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA cache_size={before}")
