"""What is refused within a transaction takes all of it back; what fails after a commit is no error of the call."""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore import files

RANDOM = np.random.default_rng(3)


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder=None, timeout=5) as store:
        store.concepts.add({"id": "zero", "name": "zero"})
        yield store


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
