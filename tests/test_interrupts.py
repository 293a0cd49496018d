"""A Ctrl-C at any moment of a read, or while a write begins, leaves no snapshot open and no lock taken."""

from __future__ import annotations

import dis
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.storage.catalog import Catalog
from vectorstore.storage.connection import Reading
from vectorstore.storage.lock import WriteLock

READING = (Reading.__init__, Reading.__enter__, Reading.__exit__)
WRITING = (Catalog._begin, WriteLock.acquire, WriteLock._acquire_file)


CALLS = {dis.opmap[name] for name in ("CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD") if name in dis.opmap}


@contextmanager
def interrupted(codes: set[CodeType], at: int) -> Iterator[list[int]]:
    """Raises KeyboardInterrupt at the n-th place in some functions where Python looks for signals; counts them.

    It does at the beginning of a function, after a call of something written in C, and when a loop goes back.
    """
    count: list[int] = [0]
    before_it: dict[FrameType | None, int] = {}

    def step(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            before_it.pop(frame.f_back, None)  # what is called is written in Python
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = True
        if event == "call" or (event == "opcode" and before_it.get(frame) in CALLS):
            count[0] += 1
            if count[0] == at:
                sys.settrace(None)
                before_it.clear()
                raise KeyboardInterrupt
        if event == "opcode":
            before_it[frame] = frame.f_code.co_code[frame.f_lasti]
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        yield count
    finally:
        sys.settrace(before)


def at_each(functions: tuple[Any, ...], call: Callable[[], Any], after: Callable[[], None]) -> int:
    """Call, interrupted at each such place in turn, and look at what is left; how many there were."""
    codes = {function.__code__ for function in functions}
    call()
    for at in range(1, 2000):
        done = False
        with interrupted(codes, at) as count:
            try:
                call()
                done = count[0] < at
            except KeyboardInterrupt:
                pass
        gc.collect(0)
        after()
        if done:
            return at
    raise AssertionError("it never ended")


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[vs.Store, vs.Store]]:
    with (
        vs.open(tmp_path / "kb", embedder=None, auto_publish=False, timeout=0.2) as ours,
        vs.open(tmp_path / "kb", embedder=None, auto_publish=False, timeout=0.2) as theirs,
    ):
        theirs.concepts.add({"id": "first", "name": "first"}, vectors=[[1.0, 0.0]])
        yield ours, theirs


def test_an_interrupted_read_leaves_no_snapshot_open(two: tuple[vs.Store, vs.Store]) -> None:
    ours, theirs = two
    numbers = iter(range(10_000))

    def after() -> None:
        number = next(numbers)
        theirs.concepts.upsert({"id": "first", "name": "first", "extra": {"n": number}})
        assert ours.concepts.get("first").extra == {"n": number}, "an old snapshot is still read"
        assert not ours._catalog._readers.mine().in_transaction

    assert at_each(READING, lambda: ours.concepts.get("first"), after) > 5


def test_an_interrupted_write_leaves_no_lock_taken(two: tuple[vs.Store, vs.Store]) -> None:
    ours, theirs = two
    vectors = np.eye(2)

    def after() -> None:
        for store in (theirs, ours):
            store.concepts.upsert({"id": "first", "name": "first"}, vectors=vectors[:1])

    def write() -> None:
        ours.concepts.upsert({"id": "second", "name": "second"}, vectors=vectors[1:])

    assert at_each(WRITING, write, after) > 10
    assert ours.check().findings == ()


def test_a_ctrl_c_right_after_a_commit_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken for a commit that had failed, and the segments that it names were removed."""

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        vectors = np.random.default_rng(0).standard_normal((600, 4)).astype(np.float32)
        store.concepts.add([{"name": f"c{n}"} for n in range(600)], vectors=vectors)
        with monkeypatch.context() as patch:
            patch.setattr(store._catalog._lock, "note", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.flush()
        assert store.check().findings == () and store.stats()["kinds"]["concepts"]["segments"] == 1
        assert len(store.concepts.search(vectors[0], k=600)) == 600
