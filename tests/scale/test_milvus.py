"""The real server: the same answers as brute force, and nothing lost, doubled or wrong when processes die."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import clustered, queries_like
from tests.engine_suite import EngineSuite
from tests.remote_oracle import passes
from tests.scale.server import Server
from vectorstore.engines import address_of, connect

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
DIM = 32


class TestServer(EngineSuite):
    """What every engine must do."""


def test_a_server_that_is_not_there_is_said_to_be_down() -> None:
    engine = connect(address_of("milvus://127.0.0.1:9?timeout=1"), "nothing", 4, "l2", ())
    with pytest.raises(vs.EngineDown, match="127.0.0.1:9"):
        engine.count()


def test_the_oracles_machine_passes_on_the_server(address: str) -> None:
    passes(address, examples=4, steps=25)


# -- lives -------------------------------------------------------------------------------------------------------------


def filled(tmp_path: Path, address: str, data: np.ndarray) -> vs.Store:
    store = vs.open(tmp_path / "kb", embedder=None, auto_publish=False, index={"concepts": address})
    store.concepts.add(
        [{"id": f"c{n}", "name": f"n{n}", "domain": str(n % 10), "quality": n % 100 / 100} for n in range(len(data))],
        vectors=data,
    )
    assert store.remotes.sync(240)
    return store


def share(store: vs.Store, queries: np.ndarray, where: dict[str, Any] | None = None) -> float:
    """Recall@10 of answers that the engine gave; every hit has its exact score."""
    hits = store.concepts.search_many(queries, 10, where)
    truth = store.concepts.search_many(queries, 10, where, exact=True)
    assert {each.plan.name for each in hits} == {"engine" if where is None else "engine + filter"}
    for answer, right in zip(hits, truth, strict=True):
        scores = {hit.id: hit.score for hit in right}
        assert len(answer) == len(right)
        assert all(hit.score == scores[hit.id] for hit in answer if hit.id in scores)
    return float(np.mean([len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(hits, truth, strict=True)]))


def test_recall_is_kept_when_fresh_churned_and_settled(tmp_path: Path, address: str) -> None:
    data = clustered(12_000, DIM, seed=3)
    queries = queries_like(data, 50, 4)
    with filled(tmp_path, address, data) as store:
        assert store.concepts.search(queries[0], 10).plan.name == "engine"
        assert share(store, queries) >= 0.99 and share(store, queries, {"quality__gte": 0.5}) >= 0.99
        random_ = np.random.default_rng(5)
        for turn in range(3):
            chosen = random_.choice(len(data), 1500, replace=False)
            changed = clustered(1500, DIM, seed=10 + turn)
            records = [{"id": f"c{n}", "name": f"n{n}", "domain": "new"} for n in chosen]
            store.concepts.upsert(records, vectors=changed)
            assert share(store, queries) >= 0.99  # some of it not told yet
            assert store.remotes.sync(120)
            assert share(store, queries) >= 0.99 and share(store, queries, {"domain": "new"}) >= 0.99
        assert store.check().findings == ()
        store.remotes.settle("concepts", 120)
        assert share(store, queries) >= 0.99 and share(store, queries, {"domain__ne": "3"}) >= 0.99
        assert store.check().findings == ()
        assert {hits.plan.name for hits in store.concepts.search_many(queries, 10)} == {"engine"}
        store.remotes.drop("concepts")


def test_an_applier_killed_at_random_leaves_no_difference(tmp_path: Path, address: str) -> None:
    """Kill -9 of the feeding process again and again, while another one writes."""
    patient = f"{address}{'&' if '?' in address else '?'}timeout=3"
    data = clustered(1_500, DIM, seed=1)
    with filled(tmp_path, patient, data):
        pass
    stop, written = threading.Event(), [0]

    def write() -> None:
        draw = np.random.default_rng(2)
        with vs.open(tmp_path / "kb", embedder=None) as store:
            while not stop.is_set():
                names = [f"c{n}" for n in draw.choice(2_000, 20, replace=False)]
                if draw.random() < 0.3:
                    store.concepts.delete(names)
                elif draw.random() < 0.3:
                    store.concepts.update([{"id": n, "quality": 0.5} for n in names if n in store.concepts])
                else:
                    records = [{"id": name, "name": name, "domain": str(draw.integers(5))} for name in names]
                    store.concepts.upsert(records, vectors=draw.standard_normal((20, DIM)).astype(np.float32))
                written[0] += 20
                stop.wait(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    killed, chance = 0, random.Random(3)
    until = time.monotonic() + 40
    try:
        while time.monotonic() < until:
            command = [sys.executable, "-m", "tests.feeding_child", str(tmp_path / "kb"), patient, "on and on", "1"]
            child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(chance.uniform(2.5, 6.0))
            child.kill()
            killed += child.wait() == -signal.SIGKILL
    finally:
        stop.set()
        writer.join()
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False, index={"concepts": patient}) as store:
        assert store.remotes.sync(240)
        assert killed >= 5 and written[0] > 500
        assert store.check().findings == ()
        assert share(store, queries_like(data, 30, 6)) >= 0.99
        store.remotes.drop("concepts")


def test_a_server_killed_under_load_costs_no_record_and_no_wrong_answer(tmp_path: Path, server: Server) -> None:
    data = clustered(3_000, DIM, seed=1)
    patient = f"{server.address}?timeout=4"
    queries = queries_like(data, 20, 7)
    with filled(tmp_path, patient, data) as store, mock.patch("vectorstore.sync.remotes.RETRY", 0.5):
        stop, problems, answered, exact = threading.Event(), [], [0], [0]

        def search() -> None:
            draw = np.random.default_rng(8)
            while not stop.is_set():
                query = queries[draw.integers(len(queries))]
                hits = store.concepts.search(query, 5)
                for hit in hits:
                    try:
                        known = store.concepts.vectors([hit.id])[0]
                    except vs.NotFound:  # deleted since
                        continue
                    cosine = float(known @ query / np.linalg.norm(known) / np.linalg.norm(query))
                    if abs(cosine - hit.score) > 1e-5:
                        problems.append((hit.id, hit.score, cosine))
                answered[0] += 1
                exact[0] += hits.exact

        def feed() -> None:
            while not stop.is_set():
                try:
                    store.remotes.sync(1)
                except vs.EngineDown:
                    stop.wait(0.2)

        threads = [threading.Thread(target=search), threading.Thread(target=feed)]
        for thread in threads:
            thread.start()
        try:
            for turn in range(12):
                fresh = clustered(50, DIM, seed=100 + turn)
                store.concepts.add([{"name": f"new {turn} {n}"} for n in range(50)], vectors=fresh)
                store.concepts.delete([f"c{n}" for n in range(turn * 20, turn * 20 + 10)])
                if turn == 4:
                    server.kill()
                if turn == 8:
                    server.start()
                time.sleep(0.5)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not problems and answered[0] > 20 and exact[0] > 0
        assert store.remotes.sync(240)
        assert len(store.concepts) == 3_000 + 600 - 120
        assert store.check().findings == ()
        assert share(store, queries) >= 0.99
        assert {hits.plan.name for hits in store.concepts.search_many(queries, 5)} == {"engine"}
        store.remotes.drop("concepts")
