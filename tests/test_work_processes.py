"""Workflows seen, and worked on, by several processes."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import vectorstore as vs
from tests.forked import PROCESSES
from tests.test_workflows import analogies


def later() -> datetime:
    """A clock on which every lease of today has run out."""
    return datetime.now(UTC) + timedelta(hours=1)


def watch(root: Path, name: str, outbox: Any) -> None:
    """What another process sees of a workflow until it is over."""
    seen: list[int] = []
    with vs.open(root, embedder=None, read_only=True) as store:
        outbox.put("ready")
        while True:
            now = store.workflows.get(name)
            if not seen or now.processed != seen[-1]:
                seen.append(now.processed)
            if now.status == "completed":
                break
        outbox.put((seen, len(store.analogies)))


def test_another_process_sees_the_items_rise(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        name = store.workflows.create("analogies", analogies(10_000)).id
        outbox = PROCESSES.Queue()
        child = PROCESSES.Process(target=watch, args=(tmp_path / "kb", name, outbox), daemon=True)
        child.start()
        assert outbox.get(timeout=60) == "ready"
        told: list[int] = []
        store.workflows.process(name, progress=lambda done, of: (told.append(done), time.sleep(0.02)))
        seen, records = outbox.get(timeout=60)
        child.join(30)

    assert told == [4000, 8000, 10_000]
    assert seen == sorted(seen) and seen[-1] == 10_000 == records
    assert len(set(seen) & set(told)) >= 2 and set(seen) <= {0, *told}


def work(root: Path, barrier: Any, outbox: Any) -> None:
    with vs.open(root, embedder="hash:16", auto_publish=False, actor=f"worker {os.getpid()}") as store:
        barrier.wait(60)
        outbox.put([(workflow.id, workflow.status) for workflow in store.workflows.process_all()])


def test_two_workers_share_the_workflows_and_never_one_of_them(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:16", auto_publish=False) as store:
        names = [
            store.workflows.create("concepts", [{"name": f"w{n} {m}"} for m in range(120)], id=f"w{n}").id
            for n in range(16)
        ]
        barrier, outbox = PROCESSES.Manager().Barrier(2), PROCESSES.Queue()
        children = [
            PROCESSES.Process(target=work, args=(tmp_path / "kb", barrier, outbox), daemon=True) for _ in range(2)
        ]
        for child in children:
            child.start()
        done = [outbox.get(timeout=120) for _ in children]
        for child in children:
            child.join(30)

        assert sorted(done[0] + done[1]) == sorted((name, "completed") for name in names)
        assert len(store.concepts) == 16 * 120 and {record.version for record in store.concepts} == {1}
        for name in names:
            lines = store.workflows.log(name)[::-1]
            assert [line.after for line in lines] == ["pending", "processing", "completed"]
        actors = {line.actor for line in store.workflows.log(limit=1000) if line.after == "processing"}
        assert len(actors) == 2, "one worker did all of it"
        assert store.check().findings == ()


def hang(root: Path, name: str, outbox: Any) -> None:
    """Takes a workflow and says nothing any more after some chunks."""

    def told(done: int, of: int) -> None:
        if done == 4000:
            outbox.put(os.getpid())
            time.sleep(120)

    with vs.open(root, embedder=None) as store:
        store.workflows.process(name, progress=told)


def test_a_killed_workers_workflow_is_taken_over_when_its_lease_runs_out(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        name = store.workflows.create("analogies", analogies(8000)).id
        outbox = PROCESSES.Queue()
        child = PROCESSES.Process(target=hang, args=(tmp_path / "kb", name, outbox), daemon=True)
        child.start()
        os.kill(outbox.get(timeout=60), signal.SIGKILL)
        child.join(30)
        half = store.workflows.get(name)
        assert (half.status, half.processed, len(store.analogies)) == ("processing", 4000, 4000)
        assert store.workflows.process_all() == ()
    with vs.open(tmp_path / "kb", embedder=None, clock=later) as store:
        (ended,) = store.workflows.process_all()
        assert (ended.status, ended.processed, len(store.analogies)) == ("completed", 8000, 8000)
        assert {record.version for record in store.analogies} == {1}


def cancel(root: Path, name: str, inbox: Any, outbox: Any) -> None:
    with vs.open(root, embedder=None) as store:
        outbox.put("ready")
        inbox.get(timeout=60)
        outbox.put(store.workflows.cancel(name).stopping)


def test_another_process_cancels_what_is_being_processed(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        name = store.workflows.create("analogies", analogies(12_000)).id
        inbox, outbox = PROCESSES.Queue(), PROCESSES.Queue()
        child = PROCESSES.Process(target=cancel, args=(tmp_path / "kb", name, inbox, outbox), daemon=True)
        child.start()
        assert outbox.get(timeout=60) == "ready"

        def told(done: int, of: int) -> None:
            if done == 4000 and not store.workflows.get(name).stopping:
                inbox.put("now")
                assert outbox.get(timeout=60) is True

        ended = store.workflows.process(name, progress=told)
        child.join(30)
        assert (ended.status, ended.processed, ended.undone) == ("cancelled", 4000, 4000)
        assert len(store.analogies) == 0


def make_and_die(root: Path) -> None:
    store = vs.open(root, embedder=None)
    store.workflows.create("analogies", analogies(500), id="mine")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_batch_outlives_the_process_that_made_it(tmp_path: Path) -> None:
    child = PROCESSES.Process(target=make_and_die, args=(tmp_path / "kb",), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    with vs.open(tmp_path / "kb", embedder=None) as store:
        made = store.workflows.get("mine")
        assert (made.status, made.total, store.workflows.items("mine", "pending").total) == ("pending", 500, 500)
        assert store.workflows.process("mine").processed == len(store.analogies) == 500
