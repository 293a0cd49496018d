"""Claims about rows that searches remember: never older than the commit that is read, never shared, never many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.storage.remembered import LIMIT, Remembered

VECTORS = np.eye(8, dtype=np.float32)


@pytest.fixture
def store(tmp_path: Path):
    with vs.open(tmp_path / "kb", embedder=None) as opened:
        opened.concepts.add([{"id": str(n), "name": f"n{n}", "colour": {"deep": ["blue"]}} for n in range(8)], VECTORS)
        yield opened


def test_a_second_search_reads_no_row_again(store: vs.Store) -> None:
    first = store.concepts.search(VECTORS[3], 3)
    statements: list[str] = []
    with store._catalog.read() as connection:
        connection.set_trace_callback(statements.append)
    second = store.concepts.search(VECTORS[3], 3)
    with store._catalog.read() as connection:
        connection.set_trace_callback(None)

    assert [hit.record for hit in second] == [hit.record for hit in first]
    assert not [statement for statement in statements if "JOIN" in statement]


def test_what_another_handle_commits_is_seen_at_once(store: vs.Store, tmp_path: Path) -> None:
    assert store.concepts.search(VECTORS[3], 1)[0].record.domain is None
    with vs.open(tmp_path / "kb", embedder=None) as other:
        other.concepts.update({"id": "3", "domain": "physics"})

        assert store.concepts.search(VECTORS[3], 1)[0].record.domain == "physics"
        other.concepts.delete("3")
        assert "3" not in store.concepts.search(VECTORS[3], 8).ids


def test_a_transaction_that_is_rolled_back_leaves_nothing_behind(store: vs.Store) -> None:
    with pytest.raises(RuntimeError), store.transaction():
        store.concepts.update({"id": "3", "domain": "lost"})
        assert store.concepts.search(VECTORS[3], 1)[0].record.domain == "lost"
        raise RuntimeError
    assert store.concepts.search(VECTORS[3], 1)[0].record.domain is None
    store.concepts.update({"id": "4", "domain": "kept"})
    assert store.concepts.search(VECTORS[3], 1)[0].record.domain is None


def test_callers_share_no_object(store: vs.Store) -> None:
    for _ in range(2):
        found = store.concepts.search(VECTORS[3], 1)[0].record
        assert found.extra == {"colour": {"deep": ["blue"]}}
        found.extra["colour"]["deep"].append("mine")  # type: ignore[index,call-overload,union-attr]


def test_a_damaged_row_is_noticed_when_it_is_read(store: vs.Store) -> None:
    with store._catalog.write() as transaction:
        transaction.connection.execute("UPDATE concepts SET domain = 'forged' WHERE id = '3'")

    with pytest.raises(vs.CorruptError, match="digest does not match"):
        store.concepts.search(VECTORS[3], 1)


def test_only_one_commit_and_so_many_rows_are_kept() -> None:
    rows = Remembered()
    rows.keep(7, {1: ("a",)})
    rows.keep(6, {2: ("old",)})
    assert rows.take(7, [1, 2]) == {1: ("a",)} and rows.take(6, [2]) == {} and rows.take(8, [1]) == {}

    rows.keep(8, dict.fromkeys(range(LIMIT), ("b",)))
    assert rows.take(8, range(LIMIT)).keys() == set(range(LIMIT))
    rows.keep(8, {LIMIT: ("c",)})
    assert rows.take(8, range(LIMIT + 1)) == {LIMIT: ("c",)}
