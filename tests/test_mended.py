"""What was once wrong around forks, threads, nested transactions and the moments after a commit."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore import files
from vectorstore.search import centring
from vectorstore.vectors import native

RANDOM = np.random.default_rng(3)


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder=None, timeout=5) as store:
        store.concepts.add({"id": "zero", "name": "zero"})
        yield store


def child(work: Callable[[], object], seconds: float = 20) -> str:
    """What a forked process says: what its work gave, or the error; "hangs" when it does not end."""
    read, write = os.pipe()
    number = os.fork()
    if number == 0:
        try:
            said = str(work())
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    for _ in range(int(seconds * 50)):
        if os.waitpid(number, os.WNOHANG)[0]:
            break
        time.sleep(0.02)
    else:
        os.kill(number, signal.SIGKILL)
        os.waitpid(number, 0)
    with os.fdopen(read) as pipe:
        return pipe.read() or "hangs"


# -- forks -------------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_a_child_of_a_process_that_has_the_store_open_may_not_open_it(kb: vs.Store, tmp_path: Path) -> None:
    """SQLite would take no lock there, and the parent's close would take the child's commits away."""

    def opens(**options: Any) -> int:
        with vs.open(tmp_path / "kb", embedder=None, **options) as store:
            return len(store.concepts)

    for options in ({}, {"read_only": True}):
        told = child(lambda options=options: opens(**options))
        assert told.startswith("StoreError: ") and "was open when process" in told
    assert child(lambda: child(opens)).startswith("StoreError")  # nor may its children
    kb.concepts.add({"id": "one", "name": "one"})
    kb.close()
    assert child(opens) == "2"
    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert store.check().findings == ()


OUTLIVES = '''
import os, subprocess, sys, vectorstore as vs
store = vs.open(sys.argv[1], embedder=None)
store.concepts.add({"id": "a", "name": "a"})
read, write = os.pipe()
if os.fork() == 0:
    os.read(read, 1)
    sys.exit()  # its connections are let go with everything else
store.close()
other = """
import os, sys, vectorstore as vs
store = vs.open(sys.argv[1], embedder=None)
store.concepts.add([{"id": name, "name": name} for name in "bcd"])
os._exit(0)
"""
subprocess.run([sys.executable, "-c", other, sys.argv[1]], check=True)
os.write(write, b".")
os.wait()
'''


def test_a_child_that_outlives_its_parents_store_takes_nothing_away(tmp_path: Path) -> None:
    """What it inherited is not even closed when its Python ends: that could remove a log that others need."""
    subprocess.run([sys.executable, "-c", OUTLIVES, str(tmp_path / "kb")], check=True, timeout=120)
    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert len(store.concepts) == 4 and store.check().findings == ()


def test_the_write_lock_ends_with_its_holder_though_a_child_lives(tmp_path: Path) -> None:
    vs.open(tmp_path / "kb", embedder=None).close()
    read, write = os.pipe()
    holder = os.fork()
    if holder == 0:
        store = vs.open(tmp_path / "kb", embedder=None)
        idle = os.fork()
        if idle == 0:
            time.sleep(60)
            os._exit(0)
        with store.transaction():
            os.write(write, str(idle).encode())
            time.sleep(60)
    idle = int(os.read(read, 20))
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    try:
        with vs.open(tmp_path / "kb", embedder=None, timeout=3) as store:
            store.concepts.add({"id": "a", "name": "a"})
    finally:
        os.kill(idle, signal.SIGKILL)


@pytest.mark.parametrize(
    ("lock", "ask"),
    [
        (native._reading, lambda store: store.concepts.search(np.ones(16), k=1).plan.name),
        (centring._lock, lambda store: len(store.concepts.search(np.ones(16), k=1, center="domain"))),
    ],
    ids=["an index is read", "a search is centred"],
)
def test_a_child_waits_for_no_thread_of_its_parent(
    lock: Any, ask: Callable[[vs.Store], object], tmp_path: Path
) -> None:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        rows = [{"id": f"c{n}", "name": "n", "domain": "d"} for n in range(1500)]
        store.concepts.add(rows, vectors=RANDOM.standard_normal((1500, 16)))
        store.rebuild("concepts", "hnsw32")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(60)

    def asked() -> object:
        with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
            return ask(store)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        assert child(asked) in ("index", "1")
    finally:
        done.set()
        thread.join()


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_that_have_ended_keep_no_descriptors(kb: vs.Store) -> None:
    def read() -> None:
        assert kb.concepts.get("zero") is not None

    counts = []
    for _ in range(20):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[-1] <= counts[1]


# -- transactions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Files cannot grow beyond so many bytes; -1 for no limit."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size < 0 else size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


BIG = [{"id": f"b{n}", "name": f"b{n}", "definition": os.urandom(1500).hex()} for n in range(5000)]
"""More than SQLite's cache holds: it writes before the commit."""


def test_a_disk_that_refuses_within_a_transaction_takes_all_of_it_back(
    kb: vs.Store, small_disk: Callable[[int], None]
) -> None:
    seq, told = kb.moment.seq, []
    with pytest.raises(vs.StoreError, match="nothing of it was written") as raised, kb.transaction():
        kb.concepts.add({"id": "first", "name": "first"})
        small_disk(1_500_000)
        try:
            kb.concepts.add(BIG)
        except vs.StoreError as error:
            told.append(error)
        finally:
            small_disk(-1)
        with pytest.raises(vs.StoreError, match="nothing of it was written"):
            kb.concepts.add({"id": "second", "name": "second"})
    assert not isinstance(raised.value, vs.OutcomeUnknown) and len(told) == 1
    assert [record.id for record in kb.concepts] == ["zero"] and kb.moment.seq == seq
    assert kb.check().findings == () and kb.trail.verify().ok
    kb.concepts.add({"id": "third", "name": "third"})
    assert len(kb.concepts) == 2


def test_an_error_of_the_disk_leaves_a_transaction_in_our_words(
    kb: vs.Store, small_disk: Callable[[int], None]
) -> None:
    small_disk(1_500_000)
    try:
        with pytest.raises(vs.StoreError, match="disk"), kb.transaction():
            kb.concepts.add(BIG)
    finally:
        small_disk(-1)
    assert len(kb.concepts) == 1


def test_a_purge_within_a_transaction_empties_the_log_after_it(kb: vs.Store, tmp_path: Path) -> None:
    """It waited for its own lock, until the timeout."""
    kb.concepts.add([{"id": "secret", "name": "the secret word"}, {"id": "other", "name": "other"}])
    kb.concepts.delete("secret")
    with kb.transaction():
        assert kb.concepts.purge("secret") == 1
        kb.concepts.add({"id": "more", "name": "more"})
    assert not any(b"the secret word" in path.read_bytes() for path in (tmp_path / "kb").rglob("*") if path.is_file())
    kb.concepts.delete("other")
    with pytest.raises(KeyError), kb.transaction():
        kb.concepts.purge(older_than=timedelta(0))
        raise KeyError
    assert kb.concepts.restore("other") == 1 and kb.check().findings == ()


# -- after a commit ----------------------------------------------------------------------------------------------------


def refusing(*args: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_upkeep_that_fails_after_a_commit_is_no_error_of_the_call(
    kb: vs.Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "_create", refusing)
    for batch in range(6):  # less than a segment each; the flush after the fifth fails
        names = [f"c{batch}-{n}" for n in range(1000)]
        rows = [{"id": name, "name": name} for name in names]
        assert kb.concepts.add(rows, vectors=RANDOM.standard_normal((1000, 8))) == names
    assert len(kb.concepts) == 6001 and "the upkeep after a commit failed" in caplog.text
    monkeypatch.undo()
    assert kb.flush() == 6000 and kb.check().findings == ()


def test_a_thread_that_cannot_be_started_is_no_error_of_the_call(
    kb: vs.Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name == "vectorstore-publish":
            raise RuntimeError("can't start new thread")
        start(thread)

    rows, vectors = [{"id": f"c{n}", "name": "n"} for n in range(12000)], RANDOM.standard_normal((12000, 8))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        assert len(kb.concepts.add(rows, vectors=vectors)) == 12000
    assert "can't start new thread" in caplog.text
    rows = [{"id": f"d{n}", "name": "n"} for n in range(1100)]
    kb.concepts.add(rows, vectors=RANDOM.standard_normal((1100, 8)))
    kb._maintainer.wait()
    assert kb.concepts.search(np.ones(8), k=1).plan.name == "index"  # the next one was started
