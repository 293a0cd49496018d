"""What must be true when appliers die, speak late, or meet a catalog or an engine that is not what it was.

A class of tests derives from `FeedingSuite` and has a fixture `address`: tests/test_remotes.py has the engine in a
folder, tests/scale a server and a cluster.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import vectorstore as vs
from tests.feeding_child import STEPS
from vectorstore.engines import VectorIndex
from vectorstore.storage import remotes as rows
from vectorstore.storage import spaces

ROOT = Path(__file__).resolve().parent.parent
DIM = 8
TEXTS = ["physics", "日本", 'a"b', "back\\slash", "100%", "under_score", "new\nline", "it's", "", "é", "x" * 1500, None]


def concepts(numbers: range, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"c{n}", "name": f"n{n}", "domain": TEXTS[n % len(TEXTS)], "quality": n % 11 / 10, **more}
        for n in numbers
    ]


def vectors(numbers: range, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((max(numbers) + 1, DIM)).astype(np.float32)[numbers.start :]


def opened(tmp_path: Path, address: str) -> vs.Store:
    return vs.open(tmp_path / "kb", embedder=None, auto_publish=False, index={"concepts": address})


def filled(tmp_path: Path, address: str, count: int = 120) -> vs.Store:
    store = opened(tmp_path, address)
    store.concepts.add(concepts(range(count)), vectors=vectors(range(count)))
    assert store.remotes.sync(120)
    return store


def same(store: vs.Store, where: dict[str, Any] | None = None, seed: int = 3) -> set[str]:
    """The answers through the engine equal the exact ones; returns the plans."""
    plans = set()
    for query in np.random.default_rng(seed).standard_normal((6, DIM)):
        hits, truth = store.concepts.search(query, 7, where), store.concepts.search(query, 7, where, exact=True)
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in truth]
        plans.add(hits.plan.name)
    return plans


def engine_of(store: vs.Store) -> tuple[VectorIndex, rows.RemoteRow]:
    """The one collection outside of a store that has one space, and what the catalog says of it."""
    with store._catalog.read() as connection:
        (row,) = rows.remotes_of(connection)
        (space,) = spaces.all_spaces(connection)
    assert store._sync.engines is not None
    return store._sync.engines.engine(space, row), row


class FeedingSuite:
    """Tests of the feeding of one engine."""

    @pytest.fixture(autouse=True)
    def small(self) -> Iterator[None]:
        """Few rows meet batches, filters and the engine's own filters."""
        with (
            mock.patch("vectorstore.sync.feeding.BATCH", 40),
            mock.patch("vectorstore.sync.feeding.SETTLE", 0.0),
            mock.patch("vectorstore.vectors.allowed.EXACT_FILTER_NUMBERS", 4),
        ):
            yield

    def test_a_late_batch_of_a_dead_applier_is_found_and_mended(self, tmp_path: Path, address: str) -> None:
        """Split brain: what an applier read long ago arrives after its successor's work."""
        with filled(tmp_path, address) as store:
            with store._catalog.read() as connection:
                (row,) = rows.remotes_of(connection)
                (space,) = spaces.all_spaces(connection)
            feeder = store.remotes._fed()
            with store._catalog.read() as connection:
                vids = [
                    vid for (vid,) in connection.execute("SELECT vid FROM vectors ORDER BY vid LIMIT 20").fetchall()
                ]
            stale = feeder._rows_of(space, row, vids)
            store.concepts.upsert(concepts(range(10)), vectors=vectors(range(10), seed=5))
            store.concepts.delete([f"c{n}" for n in range(10, 15)])
            store.concepts.update([{"id": "c16", "quality": 0.77}])
            assert store.remotes.sync(60)
            engine, _ = engine_of(store)
            stamp = engine.versions(0, 1)[0]
            engine.add(stale, stamp)

            assert same(store) <= {"engine", "exact"}  # what is wrong there makes no answer wrong
            found = store.check().findings
            assert sorted(finding.what.split(":")[0] for finding in found) == [
                "1 rows are different",
                "15 rows are surplus",
            ]
            assert {finding.layer for finding in found} == {"remote"}
            assert store.repair(dry_run=True).actions == ("tell engines outside again what they have wrong",)
            assert store.repair(dry_run=False).remaining == () and store.check().findings == ()
            engine.remove(vids[15:])  # and rows that were lost there
            assert [finding.what.split(":")[0] for finding in store.check().findings] == ["5 rows are missing"]
            assert store.repair(dry_run=False).remaining == ()
            assert same(store) == {"engine"}

    def test_a_restored_catalog_is_fed_anew_and_never_mistaken(
        self, tmp_path: Path, address: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with filled(tmp_path, address) as store:
            former = store.remotes.status()[0].collection
        shutil.copytree(tmp_path / "kb", tmp_path / "old")
        with opened(tmp_path, address) as store:
            store.concepts.upsert(concepts(range(40)), vectors=vectors(range(40), seed=5))
            assert store.remotes.sync(60)
        shutil.rmtree(tmp_path / "kb")
        (tmp_path / "old").rename(tmp_path / "kb")

        with opened(tmp_path, address) as store:
            store.concepts.upsert(
                concepts(range(20, 60)), vectors=vectors(range(20, 60), seed=7)
            )  # the same vids again
            assert same(store) == {"exact"}  # the engine holds another state: it is not asked
            with caplog.at_level(logging.WARNING, "vectorstore"):
                assert store.remotes.sync(60)
            assert former in caplog.text and "fed anew" in caplog.text
            (status,) = store.remotes.status()
            assert status.collection != former and status.status == "current"
            assert same(store) == {"engine"} and store.check().findings == ()

    def test_an_engine_that_lost_its_data_is_fed_anew(self, tmp_path: Path, address: str) -> None:
        with filled(tmp_path, address) as store:
            engine_of(store)[0].drop()
            assert same(store) == {"exact"}
            assert "cannot be compared" in str(store.check().findings[0])
            store.concepts.add(concepts(range(300, 302)), vectors=vectors(range(300, 302)))
            assert same(store) == {"exact"}
        with opened(tmp_path, address) as store:
            assert store.remotes.sync(60) and same(store) == {"engine"} and store.check().findings == ()


def killed_at_every_step(tmp_path: Path, address: str) -> None:
    """An applier is killed at each step in turn; the next one leaves nothing lost, doubled or wrong."""
    with filled(tmp_path, address):
        pass
    for turn, step in enumerate(STEPS):
        first = 10 * turn
        with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
            store.concepts.upsert(
                concepts(range(first, first + 30)), vectors=vectors(range(first, first + 30), seed=turn + 5)
            )
            store.concepts.delete([f"c{n}" for n in range(first + 5, first + 12)])
            store.concepts.update([{"id": f"c{n}", "quality": 0.05 * turn} for n in range(first + 12, first + 16)])
        command = [sys.executable, "-m", "tests.feeding_child", str(tmp_path / "kb"), address, step, "1"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ})
        assert done.returncode == -signal.SIGKILL, (step, done.stderr)
        with opened(tmp_path, address) as store:
            same(store, seed=turn)  # before the next one feeds
            assert store.remotes.sync(120)
            assert store.check().findings == (), step
            assert same(store) == {"engine"} and same(store, {"quality__lt": 0.4}) == {"engine + filter"}
    with opened(tmp_path, address) as store:
        ids = [record.id for record in store.concepts.find(limit=1_000)]
        assert len(ids) == len(set(ids)) == len(store.concepts)
        ((engine, _),) = [(each, each.waiting) for each in store.remotes.status()]
        assert engine.waiting == 0
        store.remotes.drop("concepts")
