"""Numeric fields of all records of a kind as arrays by row, kept in memory and brought up to the commit that is read.

After a commit only the rows that it wrote are read again (`storage/written.py` knows them), whoever wrote them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vectorstore.storage import Connection, RecordTable
from vectorstore.storage.written import numbers_of, written_since
from vectorstore.sync.core import SnapshotMoved, Sync

Values = npt.NDArray[np.float64]


class Numbers:
    """The fields of one kind; safe for threads."""

    def __init__(self, sync: Sync, table: RecordTable[Any], fields: Sequence[str]) -> None:
        self._sync = sync
        self._table = table
        self._fields = tuple(fields)
        self._lock = threading.Lock()
        self._known: tuple[int, Values] | None = None

    def current(self, connection: Connection) -> Values:
        """(highest row + 1, f) values at the connection's snapshot, times in microseconds; NaN where there is none.

        Nobody may write to it.

        Raises:
            SnapshotMoved: this snapshot is older than what is loaded; read again.

        Cost: at first a read of all records (about 0.1 s for 100,000), then of those written since.
        """
        seq = self._sync.catalog.seq(connection)
        known = self._known
        if known is not None and known[0] == seq and not self._sync.catalog.in_transaction:
            return known[1]
        if self._sync.catalog.in_transaction:  # its changes are nobody else's yet
            return self._advanced(connection, known)
        with self._lock:
            known = self._known
            if known is not None and known[0] > seq:
                if connection.within:  # to begin again would change nothing
                    return self._advanced(connection, None)
                raise SnapshotMoved
            values = self._advanced(connection, known)
            self._known = (seq, values)
            return values

    def _advanced(self, connection: Connection, known: tuple[int, Values] | None) -> Values:
        rows = None if known is None else written_since(connection, self._table.name, known[0])
        if known is not None and not rows:
            return known[1]
        numbers, values = numbers_of(connection, self._table, self._fields, rows)
        before = np.empty((0, len(self._fields))) if known is None else known[1]
        size = max(len(before), int(numbers.max()) + 1 if len(numbers) else 0)
        grown = np.full((size, len(self._fields)), np.nan)
        grown[: len(before)] = before
        grown[numbers] = values
        return grown
