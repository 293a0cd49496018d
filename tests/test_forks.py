"""Forks and threads: a child opens nothing that is open, waits for no thread of its parent, takes nothing away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
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


def test_a_child_of_a_transaction_is_in_none(kb: vs.Store, tmp_path: Path) -> None:
    """It would write into its parent's log, over what the parent is about to commit."""
    many = [{"id": f"c{n}", "name": os.urandom(500).hex()} for n in range(4000)]  # more than SQLite's cache holds
    prepared = tmp_path / "prepared"
    prepared.touch()

    def within(work: Callable[[], object]) -> Callable[[], object]:
        def unwound() -> object:
            with kb.transaction():
                return work()

        return unwound

    told = []
    with kb._catalog.write(undo=prepared.unlink):
        kb.concepts.add(many[:2000])
        for work in (lambda: kb.concepts.add(many[2000:]), lambda: kb.concepts.get("zero"), lambda: kb.concepts.find()):
            told += [child(work), child(within(work))]
        told.append(child(lambda: kb.close()))
        kb.concepts.add(many[2000:])
    assert all("of which this is a fork" in said for said in told[:-1]) and told[-1] == "None"
    assert len(kb.concepts) == 4001 and kb.check().findings == ()


def test_a_transaction_that_is_left_in_a_child_stays_open_in_its_parent(kb: vs.Store, tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    prepared.touch()
    read, write = os.pipe()
    number = -1
    for leaving in ("by its end", "by an error"):
        try:
            with kb._catalog.write(undo=prepared.unlink), kb.transaction():
                kb.concepts.add({"id": leaving, "name": "a"})
                number = os.fork()
                if number == 0 and leaving == "by an error":
                    raise KeyError
        except BaseException as error:
            if number == 0:
                os.write(write, type(error).__name__.encode() + b" ")
                os._exit(0)
            raise
        os.waitpid(number, 0)
    assert os.read(read, 100) == b"StoreError KeyError " and prepared.exists()
    assert len(kb.concepts) == 3 and kb.check().findings == ()


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
