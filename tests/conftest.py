"""What all tests share: scratch stores, small data, a frozen clock."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vectorstore as vs

os.environ["VECTORSTORE_CONFIG"] = os.devnull  # the settings of whoever runs the tests are not the tests'
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell has it for what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
Matrix = npt.NDArray[np.float32]


@pytest.fixture(autouse=True)
def _signals_stay() -> Iterator[None]:
    """A test that left a handler of its own would be noticed only by some later one that is sent a signal."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **units: float) -> None:
        self.now += timedelta(**units)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a store lives: the same tests hold on disk and in memory."""
    return tmp_path / "kb" if request.param == "disk" else ":memory:"


@pytest.fixture
def store(place: Path | str, clock: Clock) -> Iterator[vs.Store]:
    with vs.open(place, embedder="hash:64", clock=clock, auto_publish=False) as opened:
        yield opened
        assert opened.check().findings == ()


@pytest.fixture
def open_store(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., vs.Store]]:
    """Opens the same store on disk again and again; all are closed at the end."""
    opened: list[vs.Store] = []

    def make(**options: object) -> vs.Store:
        options = {"embedder": None, "clock": clock, "auto_publish": False, **options}
        opened.append(vs.open(tmp_path / "kb", **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def clustered(rows: int, dim: int, *, groups: int = 40, seed: int = 0) -> Matrix:
    """Rows around some centres, as real embeddings lie; not of length one."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((groups, dim))
    data = centres[random.integers(0, groups, rows)] + 0.4 * random.standard_normal((rows, dim))
    return data.astype(np.float32)


def queries_like(data: Matrix, count: int, seed: int) -> Matrix:
    """Queries that lie as the data does but are none of it: rows with noise of half their length."""
    random = np.random.default_rng(seed)
    rows = data[random.integers(0, len(data), count)]
    noise = random.standard_normal(rows.shape)
    noise *= 0.5 * np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    return (rows + noise).astype(np.float32)


def brute_force(queries: Matrix, data: Matrix, metric: str) -> npt.NDArray[np.float64]:
    """(q, n) similarities in float64, bigger is nearer: cosine, inner product, minus the Euclidean distance."""
    wide, points = data.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        return -np.sqrt(((points[:, None, :] - wide[None, :, :]) ** 2).sum(axis=2))
    products = (points[:, None, :] * wide[None, :, :]).sum(axis=2)
    if metric == "ip":
        return products
    return products / (np.linalg.norm(points, axis=1)[:, None] * np.linalg.norm(wide, axis=1)[None, :])


def order_of(similarities: npt.NDArray[np.float64], k: int) -> list[int]:
    """Places of the k best, ties by smaller place."""
    return np.lexsort((np.arange(len(similarities)), -similarities))[:k].tolist()


@pytest.fixture
def states(open_store: Callable[..., vs.Store]) -> Callable[..., Any]:
    """Opens a state of one store anew at each call."""
    store = open_store()
    return lambda name="agent", **options: store.state(name, **options)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 service on this machine, in this process; a bucket of it."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    import s3fs

    # What a server keeps is its process's: an earlier one's bucket would be there still.
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("shelf")
    yield "s3://shelf"
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
    patch.undo()
