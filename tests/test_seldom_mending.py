"""Mending what is damaged touches nothing else, and what is closed is let go of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.test_seldom import MANY, answers, fill, opened, sql
from vectorstore.storage import spaces as rows
from vectorstore.sync.publish import snapshot
from vectorstore.sync.rebuild import quality
from vectorstore.vectors import Live
from vectorstore.vectors.segments import NAME


def test_vectors_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    """Rows are numbered by kind, so the first analogy has the number of the first concept."""
    with vs.open(tmp_path / "kb", "hash:8", auto_publish=False) as store:
        store.concepts.add([{"id": f"c{n}", "name": f"word {n}"} for n in range(3)])
        pairs = [{"id": f"a{n}", "source_domain": f"x{n}", "target_domain": f"y{n}"} for n in range(3)]
        store.analogies.add(pairs)
        before = [(hit.id, hit.score) for hit in store.analogies.search("x1", 3)]
    sql(tmp_path / "kb", "DELETE FROM pending WHERE vid = 1")
    kept = sql(tmp_path / "kb", "SELECT * FROM vectors WHERE vid > 1 ORDER BY vid")
    with vs.open(tmp_path / "kb", "hash:8", auto_publish=False) as store:
        assert store.repair(dry_run=False).remaining == ()
        assert [(hit.id, hit.score) for hit in store.analogies.search("x1", 3)] == before
        assert store.concepts.search("word 0", 1).ids == ["c0"]
    assert sql(tmp_path / "kb", "SELECT * FROM vectors WHERE vid BETWEEN 2 AND 6 ORDER BY vid") == kept


def test_the_first_vector_of_a_store_is_mended_as_any_other(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", "hash:8", auto_publish=False) as store:
        store.concepts.add([{"id": f"c{n}", "name": f"word {n}"} for n in range(3)])
    bad = np.full(8, np.nan, np.float32).tobytes()
    sql(tmp_path / "kb", "UPDATE pending SET vector = ? WHERE vid = 1", bad)
    with vs.open(tmp_path / "kb", "hash:8", auto_publish=False) as store:
        assert [finding.layer for finding in store.check().findings] == ["vectors"]
        assert store.repair(dry_run=False).remaining == ()
        assert store.concepts.search("word 0", 1).ids == ["c0"]


def test_a_reader_lets_go_of_a_segment_that_was_replaced(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", "hash:8", auto_publish=False) as store:
        store.concepts.add([{"id": f"c{n}", "name": f"word {n}"} for n in range(3)])
        store.flush()
        store.concepts.delete(["c0", "c1", "c2"])
        store.concepts.add([{"id": "d0", "name": "other"}])
    (lost,) = (tmp_path / "kb/embeddings/concepts").iterdir()
    with vs.open(tmp_path / "kb", "hash:8", auto_publish=False) as store, opened(tmp_path / "kb") as reader:
        old = snapshot(reader._sync, "concepts")
        assert old is not None and [segment.rows for segment in old.segments] == [3, 1]
        data = bytearray(lost.read_bytes())
        data[-200] ^= 1
        lost.unlink()
        lost.write_bytes(data)
        assert store.repair(dry_run=False).remaining == () and not lost.exists()
        new = snapshot(reader._sync, "concepts")
        assert new is not None and [segment.rows for segment in new.segments] == [1]


def test_a_damaged_context_that_records_are_in_stays_as_it_was_found(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.contexts.add({"id": "physics", "name": "physics", "tags": ["science"]})
        store.concepts.add({"id": "heat", "name": "heat", "context": "physics"}, vectors=np.ones((1, 8)))
    sql(tmp_path / "kb", "UPDATE contexts SET extra = '{broken' WHERE id = 'physics'")
    erased = sql(tmp_path / "kb", "SELECT * FROM erased_rows")
    with opened(tmp_path / "kb") as store:
        assert [finding.layer for finding in store.repair(dry_run=False).remaining] == ["rows"]
        assert len(store.quarantined) == 1 and store.concepts.get("heat").name == "heat"
    assert sql(tmp_path / "kb", "SELECT id, extra FROM contexts WHERE id = 'physics'") == [("physics", "{broken")]
    assert sql(tmp_path / "kb", "SELECT * FROM erased_rows") == erased


def test_segments_written_in_a_transaction_are_named_after_the_last_commit(tmp_path: Path) -> None:
    """A later number would speak of commits that were lost, if the transaction fails and the file stays."""
    with opened(tmp_path / "kb") as store:
        fill(store, 1)
        last = store.stats()["seq"]
        with store.transaction():
            fill(store, MANY, start=1)
            names = [NAME.fullmatch(name) for name in store._sync.folder("embeddings", "concepts").names()]
            assert [int(name[1]) for name in names if name] == [last]


def test_no_retired_vectors_are_no_numbers_of_another_type(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 1)
        with store._sync.catalog.read() as connection:
            space = rows.space_by_name(connection, "concepts")
            assert space is not None
            found = rows.restorable_vids(connection, space.id, store._sync.table("concepts").table)
        assert [(each.dtype, len(each)) for each in found] == [(np.int64, 0)] * 2


@pytest.mark.parametrize(("count", "k"), [(200, 10), (3, 3)])
def test_the_quality_of_an_index_is_that_of_ten_answers(
    count: int, k: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, count)
        live = snapshot(store._sync, "concepts")
        asked: list[int] = []
        real = Live.search

        def search(self: Live, query: Any, k: int, **options: Any) -> Any:
            asked.append(k)
            return real(self, query, k, **options)

        monkeypatch.setattr(Live, "search", search)
        assert live is not None and quality(store._sync, "concepts", live).recall == 1.0
        assert set(asked) == {k} and len(answers(store)) == min(20, count)


def test_a_closed_store_holds_no_file_open(tmp_path: Path) -> None:
    store = opened(tmp_path / "kb")
    fill(store, MANY)
    store.rebuild("concepts", "hnsw32")
    fill(store, 1, start=MANY)

    def held() -> list[str]:
        found = []
        for number in os.listdir("/proc/self/fd"):
            path = f"/proc/self/fd/{number}"
            found += [os.readlink(path)] if os.path.islink(path) else []
        return sorted(Path(each).name for each in found if each.startswith(str(tmp_path)))

    assert {"catalog.sqlite", "store.lock"} <= set(held())
    store.close()
    assert held() == []


def test_what_the_catalog_holds_of_a_file_of_the_trail_is_proved(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 3)
        store.trail.rotate()
        fill(store, 1, start=3)
        assert store.check().findings == ()
    sql(tmp_path / "kb", "UPDATE trail_files SET digest = zeroblob(32)")
    with opened(tmp_path / "kb") as store:
        (finding,) = store.check().findings
        assert (
            finding.layer == "trail" and "ends with another entry than the one that the catalog holds" in finding.what
        )
