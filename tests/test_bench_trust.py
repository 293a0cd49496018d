"""The trust benchmark measures what it says: on vectorstore itself, and on a store that fails in every way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import trust
from benchmarks.trusted import CONTESTANTS, text_of, vector_of

ROOT = Path(__file__).parent.parent


def test_a_store_that_keeps_its_promises_is_seen_to(tmp_path: Path) -> None:
    found = trust.erasing("vectorstore", tmp_path)
    assert found["before"] == {"texts": 500, "vectors": 500} and found["after"] == {"texts": 0, "vectors": 0}
    assert found["kept"] == {"texts": 500, "vectors": 500}
    assert trust.freshness("vectorstore", tmp_path, 3) == {"fresh": 3, "late": 0, "stale": 0}


@pytest.mark.slow
def test_a_killed_store_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    found = trust.kills("vectorstore", tmp_path, 3)
    assert found["acknowledged"] > 100 and found["sampled"] > 60
    assert [found[name] for name in ("lost", "missing_by_id", "missing_by_vector", "unreadable")] == [0, 0, 0, 0]


def test_what_is_missing_is_noticed(tmp_path: Path) -> None:
    """Were more acknowledged than are there, each question about them would say so."""
    (tmp_path / "kb").mkdir()
    assert trust.run("vectorstore", "fill", tmp_path, 100) == {}
    whole, less = (trust.run("vectorstore", "verify", tmp_path, count) for count in (100, 200))
    assert whole["count"] == 100 and whole["by_id"] == whole["by_vector"] == whole["sample"]
    assert less["count"] == 100 and less["by_id"] < less["sample"] and less["by_vector"] == less["by_id"]
    assert "failed" in trust.run("vectorstore", "verify", tmp_path / "nowhere" / "nowhere", 1)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x").write_bytes(text_of(3).encode() + vector_of(5).tobytes())
    assert trust._visible(tmp_path / "files", range(10)) == {"texts": 1, "vectors": 1}


def test_the_published_table_is_what_was_measured() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "trust.json").read_text(encoding="utf-8"))
    assert (ROOT / "benchmarks" / "results" / "trust.md").read_text(encoding="utf-8") == trust.table(found)
    assert set(found["systems"]) == set(CONTESTANTS)
    ours = found["systems"]["vectorstore"]
    assert ours["kills"]["lost"] == 0 and ours["kills"]["acknowledged"] > 1000
