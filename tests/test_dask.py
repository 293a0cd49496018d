"""Batch work on a Dask cluster of processes: workers and the scheduler are killed, and nothing differs from a local run."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from spread_embedder import by_process

import vectorstore as vs
from vectorstore.embedders import CallableEmbedder

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.scale
TESTS = Path(__file__).parent
TEXTS = [f"text number {number} about {number % 37}" for number in range(2_500)]


class Cluster:
    """A scheduler and two workers of one thread each, as processes of their own on loopback."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.folder = folder
        self.slow = folder / "slow"
        path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
        self._environ = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "SPREAD_SLOW": str(self.slow)}
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", self.address.rpartition(":")[2])
        self.workers = [self.worker(f"w{number}") for number in range(2)]

    def worker(self, name: str) -> subprocess.Popen[bytes]:
        where = ["--local-directory", str(self.folder / name), "--host", "127.0.0.1", "--memory-limit", "0"]
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", *where)

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{command[0]}-{time.monotonic_ns()}.log").open("wb")
        return subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:], "--no-dashboard"],
            env=self._environ,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def client(self) -> Any:
        client = distributed.Client(self.address, timeout=60)
        client.wait_for_workers(2, timeout=60)
        return client

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


def opened(path: Path) -> vs.Store:
    embedder = CallableEmbedder(by_process, "by process", 17, normalise=False)
    return vs.open(path, embedder=embedder, metric="ip", auto_publish=False)


def found(store: vs.Store) -> tuple[list[tuple[str, bytes]], set[int]]:
    """(names with what their vectors say, the processes that made them)."""
    names = sorted(record.id for record in store.concepts)
    vectors = store.concepts.vectors(names)
    return [(name, row[:16].tobytes()) for name, row in zip(names, vectors, strict=True)], {int(r[16]) for r in vectors}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes]]:
    with opened(tmp_path_factory.mktemp("local") / "kb") as store:
        store.workflows.process(store.workflows.create("concepts", [{"name": text} for text in TEXTS]).id)
        return found(store)[0]


def after(store: vs.Store, id: str, processed: int, act: Callable[[], object]) -> threading.Thread:
    """Do something once so many items have landed."""

    def wait() -> None:
        while store.workflows.get(id).processed < processed:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_worker_is_killed_and_the_other_does_its_part(
    cluster: Cluster, tmp_path: Path, local: list[tuple[str, bytes]]
) -> None:
    cluster.slow.write_text("0.3")
    with cluster.client(), opened(tmp_path / "kb") as store:
        work = store.workflows.create("concepts", [{"name": text} for text in TEXTS])
        killing = after(store, work.id, 500, cluster.workers[0].kill)
        with joblib.parallel_config(backend="dask"):
            assert store.workflows.process(work.id).status == "completed"
        killing.join()
        same, made_by = found(store)
        assert same == local and store.check().findings == ()
        assert made_by == {worker.pid for worker in cluster.workers}, "both of them, and nobody else"


def test_a_scheduler_is_killed_and_another_cluster_goes_on(
    cluster: Cluster, tmp_path: Path, local: list[tuple[str, bytes]]
) -> None:
    cluster.slow.write_text("0.3")
    with opened(tmp_path / "kb") as store:
        work = store.workflows.create("concepts", [{"name": text} for text in TEXTS])
        with cluster.client():
            killing = after(store, work.id, 500, cluster.scheduler.kill)
            with pytest.raises(vs.WorkersLost), joblib.parallel_config(backend="dask"):
                store.workflows.process(work.id)
            killing.join()
        first = store.workflows.get(work.id)
        assert first.status == "processing" and 500 <= first.processed < 2_500
        before = {worker.pid for worker in cluster.workers}
        cluster.close()
        (tmp_path / "second").mkdir()
        second = Cluster(tmp_path / "second")
        try:
            with second.client(), joblib.parallel_config(backend="dask"):
                assert store.workflows.process(work.id).status == "completed"
        finally:
            second.close()
        same, made_by = found(store)
        assert same == local and store.check().findings == ()
        assert made_by == before | {worker.pid for worker in second.workers}, "what had landed was not done again"
        assert not [*(tmp_path / "kb").glob(".shared*")]


def test_the_one_who_writes_is_killed_and_his_successor_goes_on(
    cluster: Cluster, tmp_path: Path, local: list[tuple[str, bytes]]
) -> None:
    cluster.slow.write_text("0.3")
    with opened(tmp_path / "kb") as store:
        id = store.workflows.create("concepts", [{"name": text} for text in TEXTS]).id
        child = subprocess.Popen(
            [sys.executable, str(TESTS / "spread_child.py"), str(tmp_path / "kb"), id, cluster.address],
            env=cluster._environ,
        )
        after(store, id, 750, lambda: child.send_signal(signal.SIGKILL)).join()
        child.wait()
        landed = store.workflows.get(id).processed
        assert 750 <= landed < 2_500
        while store.workflows.next() is None:  # the lease runs out
            time.sleep(0.1)
        cluster.slow.unlink()
        with cluster.client(), joblib.parallel_config(backend="dask"):
            assert store.workflows.process(id).status == "completed"
        same, made_by = found(store)
        assert same == local and store.check().findings == ()
        assert made_by == {worker.pid for worker in cluster.workers}
        assert not [*(tmp_path / "kb").glob(".shared*")]


def test_the_example_of_the_documentation_runs(tmp_path: Path) -> None:
    page = (TESTS.parent / "docs" / "scale.md").read_text(encoding="utf-8")
    found = re.search(r"```py\n(import joblib.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    assert found is not None
    (tmp_path / "example.py").write_text(found[1])
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == found[2], done.stderr
