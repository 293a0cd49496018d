"""Kinds that no record was written to: no tables, and yet they answer, in every process, at every moment."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.errors import CorruptError


def tables(path: Path) -> set[str]:
    with sqlite3.connect(path / "catalog.sqlite") as raw:
        return {name for (name,) in raw.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}


def weight(path: Path) -> int:
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def open_store(path: Path, **options: object) -> vs.Store:
    return vs.open(path, embedder=None, **options)


def test_only_kinds_with_records_have_tables(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        assert "contexts" in tables(tmp_path / "kb")
        assert not {"concepts", "concepts_fts", "concepts_tags", "frames"} & tables(tmp_path / "kb")
        kb.concepts.add([{"name": "heat"}], vectors=[[1.0, 0.0]])
        assert {"concepts", "concepts_fts", "concepts_tags"} <= tables(tmp_path / "kb")
        assert "frames" not in tables(tmp_path / "kb")


def test_an_empty_store_is_small(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        kb.compact()
    assert weight(tmp_path / "kb") < 1_000_000


def test_every_kind_answers_every_question_as_if_empty(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        for name in kb.kinds:
            collection = kb.collection(name)
            assert collection.count() == (1 if name == "contexts" else 0)
            assert [each.id for each in collection.find()] == (["default"] if name == "contexts" else [])
            assert collection.find({"tags__has": "x"}) == []
            assert list(collection.stream()) == ([] if name != "contexts" else collection.find())
            assert collection.get("none") is None
            assert collection.get_many(["none"]) == []
            if not name.startswith("form_"):  # these go with their form
                assert collection.delete(["none"]) == 0
            if collection._table.schema.text_columns:
                assert len(collection.search("anything", mode="text")) == 0
        assert kb.check().ok
        assert tables(tmp_path / "kb") & set(kb.kinds) == {"contexts"}


def test_a_reader_that_saw_nothing_sees_what_another_process_writes(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb, open_store(tmp_path / "kb", read_only=True) as reader:
        for store in (kb, reader):
            assert store.concepts.count() == 0
            assert store.concepts.find() == []
            assert len(store.concepts.search("heat", mode="text")) == 0
        code = (
            "import sys, vectorstore as vs\n"
            "with vs.open(sys.argv[1], embedder=None) as kb: kb.concepts.add([{'name': 'heat'}], vectors=[[1.0, 0.0]])"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "kb")], check=True, timeout=60)
        for store in (reader, kb):
            assert store.concepts.count() == 1
            assert [each.name for each in store.concepts.find()] == ["heat"]
            assert [hit.record.name for hit in store.concepts.search("heat", mode="text")] == ["heat"]
            assert [hit.record.name for hit in store.concepts.search([1.0, 0.0], k=1)] == ["heat"]
        kb.concepts.add([{"name": "light"}], vectors=[[0.0, 1.0]])
        assert reader.concepts.count() == 2


def test_a_transaction_that_fails_makes_nothing(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        with pytest.raises(RuntimeError), kb.transaction():
            assert kb.concepts.count() == 0
            kb.concepts.add([{"name": "heat"}], vectors=[[1.0, 0.0]])
            assert kb.concepts.count() == 1
            raise RuntimeError
        assert "concepts" not in tables(tmp_path / "kb")
        assert kb.concepts.count() == 0
        kb.concepts.add([{"name": "light"}], vectors=[[1.0, 0.0]])
        assert [each.name for each in kb.concepts.find()] == ["light"]


def test_the_kinds_that_a_kind_points_to_are_made_with_it(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        assert kb.collection("frame_instances").count() == 0
        kb.frames.add([{"name": "motion", "definition": "a thing moves"}], vectors=[[1.0, 0.0]])
        assert kb.check().ok
    with sqlite3.connect(tmp_path / "kb" / "catalog.sqlite") as raw:
        points = {
            parent
            for (name,) in raw.execute("SELECT name FROM kinds").fetchall()
            for _, _, parent, *_ in raw.execute(f"PRAGMA foreign_key_list({name})")
        }
        assert points <= {name for (name,) in raw.execute("SELECT name FROM sqlite_schema")}


def test_threads_that_make_kinds_at_once(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work(kb: vs.Store, number: int) -> None:
        try:
            for step in range(5):
                kb.concepts.count()
                kb.concepts.add([{"name": f"c{number}-{step}"}], vectors=[[1.0, float(number)]])
                assert kb.concepts.count() >= step + 1
        except BaseException as error:
            failed.append(error)

    with open_store(tmp_path / "kb") as kb, open_store(tmp_path / "kb") as other:
        threads = [threading.Thread(target=work, args=((kb, other)[n % 2], n)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert kb.concepts.count() == other.concepts.count() == 30
        assert kb.check().ok


def test_history_knows_of_kinds_that_came_later(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        kb.history = "1 day"
        kb.snapshots.add("nothing")
        kb.concepts.add([{"name": "heat"}], vectors=[[1.0, 0.0]])
        kb.snapshots.add("heat")
        kb.concepts.delete([each.id for each in kb.concepts.find()])
        with kb.as_of("nothing") as then:
            assert then.concepts.count() == 0
            assert then.frames.count() == 0
        with kb.as_of("heat") as then:
            assert [each.name for each in then.concepts.find()] == ["heat"]


def test_a_lost_table_of_a_kind_with_records_is_damage_and_not_emptiness(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        kb.concepts.add([{"name": "heat"}], vectors=[[1.0, 0.0]])
    with sqlite3.connect(tmp_path / "kb" / "catalog.sqlite") as raw:
        raw.execute("DROP TABLE concepts")
    with pytest.raises(CorruptError, match="no such table"), open_store(tmp_path / "kb") as kb:
        kb.concepts.count()


def test_what_stands_in_takes_no_rows(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb:
        assert kb.concepts.count() == 0
        with kb._sync.catalog.write() as transaction:
            for statement in (
                "INSERT INTO concepts_tags(tag, row) VALUES ('x', 1)",
                "INSERT INTO concepts(row, id) VALUES (1, 'x')",
            ):
                with pytest.raises(sqlite3.DatabaseError):
                    transaction.connection.execute(statement)


def test_reading_changes_nothing_that_the_trail_would_tell(tmp_path: Path) -> None:
    with open_store(tmp_path / "kb") as kb, kb._sync.catalog.write() as transaction:
        before = transaction.connection.changed
        for name in kb.kinds:
            kb.collection(name).count()
            kb.collection(name).find({"tags__has": "x"})
        assert transaction.connection.changed == before


def test_to_purge_all_and_compact_leaves_less_than_a_megabyte(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    with open_store(tmp_path / "kb") as kb:
        records = [{"name": f"n{i}", "definition": f"number {i} of many, {rng.integers(1e9)}"} for i in range(5000)]
        kb.concepts.add(records, vectors=rng.standard_normal((5000, 64), dtype=np.float32))
        assert weight(tmp_path / "kb") > 3_000_000
        kb.concepts.delete(where={"version__gte": 1})
        assert kb.concepts.purge(older_than=timedelta(0)) == 5000
        kb.compact()
    assert weight(tmp_path / "kb") < 1_000_000
