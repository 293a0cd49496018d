"""A store moves to an engine outside and back again while it is written: answers are the same at every moment."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np

import vectorstore as vs
from tests.conftest import clustered, queries_like

DIM = 32


class Writer:
    """Changes a store through a handle of its own, which knows of no engine, and remembers what it left."""

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path = path
        self.truth = {f"w{n}": row for n, row in enumerate(data)}
        self.commits = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        draw = np.random.default_rng(5)
        with vs.open(self.path, embedder=None, auto_publish=False) as store:
            while not self.stop.is_set():
                names = [f"w{n}" for n in draw.choice(250, 10, replace=False)]
                if draw.random() < 0.3:
                    store.concepts.delete(names)
                    for name in names:
                        self.truth.pop(name, None)
                else:
                    rows = clustered(10, DIM, seed=int(draw.integers(1 << 30)))
                    store.concepts.upsert([{"id": name, "name": name, "quality": 0.5} for name in names], vectors=rows)
                    self.truth.update(zip(names, rows, strict=True))
                self.commits += 1
                self.stop.wait(0.04)


def there_and_back(tmp_path: Path, address: str, rows: int) -> Counter[str]:
    """Ask at every step; returns how many answers each plan gave."""
    path, plans, reasons = tmp_path / "kb", Counter[str](), Counter[str]()
    still, moving = clustered(rows, DIM, seed=1), clustered(200, DIM, seed=2)
    queries, shares = queries_like(still, 12, 3), []
    with vs.open(path, embedder=None, auto_publish=False) as store:
        store.concepts.add(
            [{"id": f"s{n}", "name": f"s{n}", "quality": 0.9, "domain": str(n % 4)} for n in range(rows)], vectors=still
        )
        store.concepts.upsert([{"id": f"w{n}", "name": f"w{n}", "quality": 0.5} for n in range(200)], vectors=moving)
        store.publish("concepts")
        filters = [{"quality__gte": 0.8}, {"domain__in": ["1", "2"]}, {"not": {"domain": "0"}, "quality": 0.9}]
        truth = [[store.concepts.search(query, 10, where, exact=True) for query in queries] for where in filters]

    def ask(store: vs.Store, turns: int = 2) -> None:
        """What is not written is answered as before everything; what is written, as brute force at that commit."""
        for turn in range(turns):
            place = (ask.turn + turn) % len(queries)  # type: ignore[attr-defined]
            for where, known in zip(filters, truth, strict=True):
                hits, right = store.concepts.search(queries[place], 10, where), known[place]
                scores = {hit.id: hit.score for hit in right}
                assert len(hits) == 10 and all(hit.id.startswith("s") for hit in hits)
                assert all(hit.score == scores[hit.id] for hit in hits if hit.id in scores)
                shares.append(len(scores.keys() & set(hits.ids)) / 10)
                plans[hits.plan.name.partition(" ")[0]] += 1
                reasons[hits.plan.reason] += 1
            first, hits = (store.concepts.search(queries[place], 10, exact=exact) for exact in (True, False))
            if first.generation == hits.generation:
                shares.append(len(set(first.ids) & set(hits.ids)) / 10)
                plans[hits.plan.name] += 1
        ask.turn += turns  # type: ignore[attr-defined]

    ask.turn = 0  # type: ignore[attr-defined]
    writer = Writer(path, moving)
    writer.thread.start()
    try:
        with vs.open(path, embedder=None, auto_publish=False) as store:
            ask(store, 6)
            assert plans.keys() <= {"index", "filtered", "exact"}
        with vs.open(path, embedder=None, auto_publish=False, index={"concepts": address}) as store:
            feeder = store.remotes._fed()
            while not [each for each in store.remotes.status() if each.status == "current"]:
                feeder.feed()
                ask(store)
            for _ in range(8):
                feeder.feed()
                ask(store)
            assert plans["engine"] > 20, (plans, reasons.most_common(4))
            work = threading.Thread(target=store.publish, args=("concepts",))
            work.start()
            while work.is_alive():
                ask(store)
            work.join()
            store.remotes.drop("concepts")
            ask(store)
        there = plans["engine"]
        with vs.open(path, embedder=None, auto_publish=False) as store:
            ask(store, 6)
            while writer.commits <= 20 and writer.thread.is_alive():  # a fast machine is done too soon
                ask(store)
            assert plans["engine"] == there and store.remotes.status() == []
    finally:
        writer.stop.set()
        writer.thread.join()
    with vs.open(path, embedder=None, auto_publish=False) as store:
        assert writer.commits > 20, writer.commits
        assert store.check().findings == (), store.check().findings
        ids = sorted([*(f"s{n}" for n in range(rows)), *writer.truth])
        assert sorted(record.id for record in store.concepts.find(limit=10_000)) == ids
        kept = sorted(writer.truth)
        assert np.allclose(store.concepts.vectors(kept), np.stack([writer.truth[name] for name in kept]), atol=1e-6)
    assert np.mean(shares) >= 0.99, np.mean(shares)
    return plans
