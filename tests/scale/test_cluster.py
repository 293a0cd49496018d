"""A cluster of six processes: it does what one server does, and each role is killed while a store is written and read."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import clustered, queries_like
from tests.engine_suite import EngineSuite
from tests.feeding_suite import FeedingSuite
from tests.remote_oracle import passes
from tests.scale.cluster import ROLES, Cluster, available

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
DIM = 32
ROWS = 3_000
Kept = tuple[vs.Store, np.ndarray, dict[str, np.ndarray]]
"""A store, queries, and what was written to it besides its first rows."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not available():
        pytest.fail("no cluster to test with: run `make test-cluster`")
    made = Cluster(Path(tmp_path_factory.mktemp("cluster")))
    try:
        made.start()
        yield made
    finally:
        made.kill()


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> str:
    """Two shards, and two replicas: one on each query node."""
    return f"{cluster.address}?shards=2&replicas=2&timeout=5"


class TestCluster(EngineSuite):
    """What every engine must do."""

    examples = 150


class TestFeeding(FeedingSuite):
    """What must be true when things die."""


def test_the_oracles_machine_passes(address: str) -> None:
    passes(address, examples=2, steps=20)


class Load:
    """A thread that writes, one that feeds, one that searches, over one store."""

    def __init__(self, store: vs.Store, queries: np.ndarray, truth: dict[str, np.ndarray]) -> None:
        self.store, self.queries, self.truth = store, queries, truth
        self.wrong: list[object] = []
        self.answered = self.by_engine = self.errors = self.written = 0
        self.down = self.incomplete = 0.0
        self._last = time.monotonic()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._write, self._feed, self._search)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        draw = np.random.default_rng(4)
        while not self._stop.is_set():
            names = [f"w{n}" for n in draw.choice(800, 20, replace=False)]
            if draw.random() < 0.25:
                self.store.concepts.delete(names)
                for name in names:
                    self.truth.pop(name, None)
            else:
                rows = clustered(20, DIM, seed=int(draw.integers(1 << 30)))
                self.store.concepts.upsert([{"id": name, "name": name, "quality": 0.5} for name in names], vectors=rows)
                self.truth.update(zip(names, rows, strict=True))
            self.written += 20
            self._stop.wait(0.06)

    def _feed(self) -> None:
        while not self._stop.is_set():
            try:
                self.store.remotes.sync(1)
            except vs.EngineDown:
                self.errors += 1
                self._stop.wait(0.2)

    def _search(self) -> None:
        """Records that nobody writes (s...) have their one right answer all the time; a short one would be wrong too."""
        draw = np.random.default_rng(8)
        where = {"quality__gte": 0.8}
        with vs.open(self.store.path, embedder=None, read_only=True) as plain:
            right = [plain.concepts.search(query, 5, where, exact=True) for query in self.queries]
        since = 0.0
        while not self._stop.is_set():
            place, began = int(draw.integers(len(self.queries))), time.monotonic()
            hits = self.store.concepts.search(self.queries[place], 5, where)
            scores = {hit.id: hit.score for hit in right[place]}
            least = min(scores.values())
            for hit in hits:  # a miss is told below; a wrong record or score is never right
                if hit.score != scores.get(hit.id, hit.score) or (hit.id not in scores and hit.score > least):
                    self.wrong.append((place, hit.id, hit.score))
            if len(hits) != 5:
                self.wrong.append((place, hits.ids, right[place].ids))
            if len(scores.keys() & set(hits.ids)) < 4:
                since = since or began
                self.incomplete = max(self.incomplete, began - since)
            else:
                since = 0.0
            self.answered += 1
            now = time.monotonic()
            if hits.plan.name.startswith("engine"):
                self.by_engine += 1
                self.down, self._last = max(self.down, now - self._last), now
            self._stop.wait(0.005)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, address: str, filters_reach_the_engine: None) -> Iterator[Kept]:
    """A store that the cluster serves, for all kills in turn."""
    data = clustered(ROWS, DIM, seed=1)
    path = tmp_path_factory.mktemp("kept") / "kb"
    with vs.open(path, embedder=None, auto_publish=False, index={"concepts": address}) as store:
        store.concepts.add([{"id": f"s{n}", "name": f"s{n}", "quality": 0.9} for n in range(ROWS)], vectors=data)
        with mock.patch("vectorstore.sync.feeding.SETTLE", 30.0):
            assert store.remotes.sync(240)
        yield store, queries_like(data, 20, 7), {}
        store.remotes.drop("concepts")


@pytest.mark.parametrize("roles", [*((role,) for role in ROLES), ("query1", "query2")], ids="+".join)
def test_a_role_killed_under_load_loses_nothing(cluster: Cluster, kept: Kept, roles: tuple[str, ...]) -> None:
    store, queries, truth = kept
    with (
        mock.patch("vectorstore.sync.remotes.RETRY", 0.5),
        Load(store, queries, truth) as load,
    ):
        time.sleep(2)
        cluster.kill(*roles)
        time.sleep(3)
        for role in roles:
            cluster.restart(role)
        before, until = load.by_engine, time.monotonic() + 60
        while load.by_engine < before + 5 and time.monotonic() < until:
            time.sleep(0.2)
        time.sleep(2)
    assert store.remotes.sync(240)
    assert load.wrong == []
    assert load.incomplete < 3.0  # a node that comes up answers before it has all; who counts finds out within a second
    assert load.written > 100 and load.answered > 5 and load.by_engine > before
    expected = {f"s{n}" for n in range(ROWS)} | truth.keys()
    ids = [record.id for record in store.concepts.find(limit=10_000)]
    assert len(ids) == len(set(ids)) and set(ids) == expected
    names = sorted(truth)
    assert np.allclose(store.concepts.vectors(names), np.stack([truth[name] for name in names]), atol=1e-6)
    found, until = store.check().findings, time.monotonic() + 60
    while found and time.monotonic() < until:  # a node that comes up answers before it has all; nobody mends anything
        time.sleep(1)
        found = store.check().findings
    assert found == ()  # every row, both ways: none lost, doubled or wrong
    hits, until = [store.concepts.search(query, 10) for query in queries], time.monotonic() + 60
    while any(each.exact for each in hits) and time.monotonic() < until:
        time.sleep(1)
        hits = [store.concepts.search(query, 10) for query in queries]
    right = [store.concepts.search(query, 10, exact=True) for query in queries]
    assert {each.plan.name for each in hits} == {"engine"}
    assert np.mean([len(set(a.ids) & set(b.ids)) / 10 for a, b in zip(hits, right, strict=True)]) >= 0.99
    print(
        f"{'+'.join(roles)}: {load.written} written, {load.answered} answered, {load.by_engine} by the engine, longest "
        f"without it {load.down:.1f} s, longest incomplete {load.incomplete:.1f} s, {load.errors} feeds refused"
    )
