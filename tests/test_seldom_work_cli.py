"""What seldom happens to commands and workers: signals at a bad moment, work that fails or is taken by others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest

import vectorstore as vs
from tests.test_cli import answer, refused
from tests.test_cli import run as cli
from tests.test_seldom import fill, opened, sql
from tests.test_seldom_work import ended
from tests.test_work_cli import add
from tests.test_work_cli import kb as kb
from tests.test_workflows import concepts, small_chunks
from vectorstore import tasks
from vectorstore.cli import work as commands
from vectorstore.embedders import CallableEmbedder
from vectorstore.places import place_at
from vectorstore.states import running, signals
from vectorstore.states.running import run
from vectorstore.sync.core import SnapshotMoved
from vectorstore.workflows import engine
from vectorstore.workflows.door import Workflows

# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[signals.Watch]:
    """One that runs, and a short function of whose signals come again later."""
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("signals come to the main thread")
    monkeypatch.setattr(signals, "_BRIEF", {*signals._BRIEF, ask.__code__})
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    made = signals.Watch((signal.SIGUSR1,))
    made.start()
    yield made
    made.stop()
    made.stop()  # twice is once
    assert made not in signals._running and signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN
    signal.signal(signal.SIGUSR1, before)


def ask() -> str:
    os.kill(os.getpid(), signal.SIGUSR1)
    return "went on"


def test_a_signal_at_a_bad_moment_comes_again_right_after_it(watch: signals.Watch) -> None:
    assert ask() == "went on" and watch.raised == []
    with pytest.raises(signals.Terminated) as caught:
        for _ in range(200):
            time.sleep(0.05)
    assert caught.value.code == 128 + signal.SIGUSR1 and watch.raised == [caught.value]


def test_a_signal_that_was_put_off_does_not_come_after_the_end(
    watch: signals.Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "AGAIN", 60.0)
    assert ask() == "went on"
    waiting = watch._again
    assert waiting is not None and not waiting.finished.is_set()
    watch.stop()
    assert waiting.finished.is_set() and watch.raised == []


def test_a_last_save_that_fails_after_a_swallowed_signal_is_told(states: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The signal is over for whoever caught it; that nothing was saved is not."""
    with (
        pytest.raises(vs.VectorstoreError, match="agent.'bad'"),
        vs.lifecycle(states(), signals=(signal.SIGUSR1,)) as state,
    ):
        state["bad"] = object()
        with pytest.raises(signals.Terminated):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.1)
    assert "agent: the last save failed: agent['bad']" in caplog.text
    assert states().load() is False


# -- a command with a state --------------------------------------------------------------------------------------------

SIGNALLING = """
import os, signal, sys, time
got = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: got.append(int(number)))
for name in sys.argv[1:]:
    before = got.count(signal.SIGTERM)
    os.kill(os.getppid(), getattr(signal, name))
    while name == "SIGTERM" and got.count(signal.SIGTERM) == before:
        time.sleep(0.002)
open(os.environ["VECTORSTORE_STATE"], "w").write('{"got": %s}' % got)
"""


def signalling(*names: str) -> list[str]:
    """A program that sends us these signals, and saves those that came back to it."""
    return [sys.executable, "-S", "-E", "-c", SIGNALLING, *names]


def test_the_first_signal_says_how_a_command_ended_and_each_goes_on_to_it(states: Any, tmp_path: Path) -> None:
    ran = run(states(), signalling("SIGTERM", "SIGTERM"), tmp_path)
    assert ran.code == 128 + signal.SIGTERM and ran.saved is not None and ran.problem == ""
    state = states()
    assert state.load() and state["got"] == [signal.SIGTERM, signal.SIGTERM]


def test_ctrl_c_of_a_terminal_is_not_sent_on_a_second_time(
    states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_from_terminal", lambda: True)
    ran = run(states(), signalling("SIGINT", "SIGTERM"), tmp_path)
    assert ran.code == 128 + signal.SIGINT
    state = states()
    assert state.load() and state["got"] == [signal.SIGTERM]


def test_a_signal_that_comes_while_a_command_starts_reaches_it(
    states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., Any] = subprocess.Popen

    def late(*args: Any, **named: Any) -> Any:
        child = real(*args, **named)
        os.kill(os.getpid(), signal.SIGTERM)
        return child

    monkeypatch.setattr(subprocess, "Popen", late)
    ran = run(states(), ["sleep", "60"], tmp_path)
    assert (ran.code, ran.saved) == (128 + signal.SIGTERM, None)
    assert states().load() is False and list((tmp_path / "states").glob("*.json")) == []


# -- commands about work -----------------------------------------------------------------------------------------------


def test_a_worker_that_follows_says_each_end_at_once_and_waits_for_more(
    kb: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(kb, "good.jsonl", "--id", "one")
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 1:
            raise KeyboardInterrupt
        add(kb, "bad.jsonl", "--id", "two", "--lenient")

    monkeypatch.setattr(commands, "time", SimpleNamespace(sleep=wait))
    done = cli("work", kb, "--follow", "--poll", "0.25")
    assert done.returncode == 130 and "interrupted" in done.stderr and waits == [0.25, 0.25]
    assert done.stdout.splitlines() == [
        "one: create analogies: completed, 30 of 30 items",
        "two: create analogies: completed, 4 of 4 items, 1 errors: 1 of 4 items failed",
    ]


def raising(error: Exception, times: int = 1) -> Callable[..., Any]:
    """What processes a workflow only after it was refused so many times."""
    process, left = Workflows.process, [error] * times

    def refusing(self: Workflows, id: str, **options: Any) -> Any:
        if left:
            raise left.pop()
        return process(self, id, **options)

    return refusing


def test_work_that_another_worker_takes_first_is_left_to_it(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(kb, "good.jsonl", "--id", "one")
    monkeypatch.setattr(Workflows, "process", raising(vs.LeaseHeld("workflow 'one' is being processed by another")))
    code, said = refused("workflows", "process", kb, "one")
    assert code == 4 and "is being processed by another" in said
    monkeypatch.setattr(Workflows, "process", raising(vs.LeaseHeld("workflow 'one' is being processed by another")))
    (done,) = answer("work", kb)
    assert (done["id"], done["status"]) == ("one", "completed")


def test_an_error_that_is_not_the_workflows_ends_the_worker(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(kb, "good.jsonl", "--id", "one")
    monkeypatch.setattr(Workflows, "process", raising(vs.StoreError("the disk refused: no more")))
    code, said = refused("work", kb)
    assert code not in (0, 1, 2) and "the disk refused: no more" in said
    assert answer("workflows", "show", kb, "one")["status"] == "pending"


def test_a_workflow_that_fails_says_why_and_the_next_one_goes_on(kb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vs.open(kb, embedder="hash:16") as store:
        store.workflows.reembed("concepts", id="broken")
    add(kb, "good.jsonl", "--id", "next")
    monkeypatch.setattr(engine.WORKS["reembed"], "run", lambda *_: (_ for _ in ()).throw(RuntimeError("no model")))
    done = cli("work", kb, "--json")
    assert done.returncode == 1
    assert [(each["id"], each["status"], each["error"]) for each in json.loads(done.stdout)] == [
        ("broken", "failed", "RuntimeError: no model"),
        ("next", "completed", None),
    ]
    health = cli("workflows", "health", kb)
    assert health.returncode == 1 and "waited" not in health.stdout
    assert "✗ failed: broken: reembed concepts: failed, 0 of 1 items: RuntimeError: no model" in health.stdout
    found = cli("workflows", "health", kb, "--json")
    told = json.loads(found.stdout)
    assert (found.returncode, told["ok"], told["waiting_seconds"]) == (1, False, None)
    assert [each["id"] for each in told["failed"]] == ["broken"] and told["stuck"] == []


def test_a_store_without_work_lists_nothing_and_is_well(kb: Path) -> None:
    done = cli("workflows", "list", kb)
    assert (done.returncode, done.stdout) == (0, "0 of 0\n")
    well = cli("workflows", "health", kb)
    assert (well.returncode, well.stdout.split()) == (0, ["workflows", "none"])
    add(kb, "good.jsonl", "--id", "one")
    waiting = cli("workflows", "health", kb)
    assert (
        waiting.returncode == 0
        and "pending one has waited" in waiting.stdout
        and f"vectorstore work {kb}" in waiting.stdout
    )


def test_only_so_many_errors_are_shown_and_their_number_is_said(kb: Path) -> None:
    bad = [{"id": f"bad{n}", "quality": 7.5} for n in range(3)]
    (kb.parent / "three.jsonl").write_text("".join(json.dumps(item) + "\n" for item in bad))
    add(kb, "three.jsonl", "--id", "w", "--lenient")
    assert cli("work", kb).returncode == 1
    shown = cli("workflows", "show", kb, "w", "--limit", "2").stdout
    assert "2 of 3\n" in shown and "bad1" in shown and "bad2" not in shown
    assert "of 3\n" not in cli("workflows", "show", kb, "w").stdout


def test_lines_either_change_records_or_delete_them(kb: Path) -> None:
    code, said = refused("workflows", "import", kb, "analogies", kb.parent / "good.jsonl", "--update", "--delete")
    assert code == 2 and "--update and --delete: say one of them" in said
    assert answer("workflows", "list", kb)["total"] == 0


# -- work spread over workers ------------------------------------------------------------------------------------------


def lengths(seen: list[list[str]]) -> CallableEmbedder:
    """An embedder that tells texts apart by their lengths; it writes down what it is asked."""

    def embed(texts: Sequence[str]) -> np.ndarray:
        seen.append(list(texts))
        return np.array([[len(text), 1, text.count("!"), 0] for text in texts], dtype=np.float32)

    return CallableEmbedder(embed, "lengths", normalise=False)


@pytest.fixture
def spread(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[vs.Store, list[list[str]]]]:
    """A store whose chunks of two are embedded by other threads, and the calls of its embedder."""
    small_chunks(monkeypatch, 2)
    monkeypatch.setattr("vectorstore.workflows.ahead.sendable", lambda embedder: None)
    seen: list[list[str]] = []
    with (
        vs.open(":memory:", embedder=lengths(seen), metric="ip", auto_publish=False) as store,
        joblib.parallel_config(backend="threading", n_jobs=2),
    ):
        yield store, seen
        assert store.check().findings == ()


def test_a_text_of_several_chunks_is_embedded_once(spread: tuple[vs.Store, list[list[str]]]) -> None:
    store, seen = spread
    items = [{"id": str(n), "name": name} for n, name in enumerate(["a", "bb", "bb", "ccc", "a", "bb"])]
    done = store.workflows.process(store.workflows.create("concepts", items).id)
    assert (done.status, done.processed) == ("completed", 6)
    assert sorted(text for call in seen for text in call if len(text) < 4) == ["a", "bb", "ccc"]
    assert store.concepts.vectors([str(n) for n in range(6)])[:, 0].tolist() == [1, 2, 2, 3, 1, 2]
    before = len(seen)
    again = [{"id": f"again{n}", "name": name} for n, name in enumerate(["ccc", "a", "bb"])]
    assert store.workflows.process(store.workflows.create("concepts", again).id).processed == 3
    assert [text for call in seen[before:] for text in call if len(text) < 4] == []
    assert store.concepts.vectors([f"again{n}" for n in range(3)])[:, 0].tolist() == [3, 1, 2]


def test_a_text_that_changes_after_it_was_sent_away_is_embedded_here(spread: tuple[vs.Store, list[list[str]]]) -> None:
    store, _ = spread
    store.concepts.add([{"id": str(n), "name": f"n{n}"} for n in range(4)])
    made = store.workflows.reembed("concepts")

    def change(done: int, of: int) -> None:
        if done == 2:
            store.concepts.update({"id": "3", "name": "n3!"})

    assert store.workflows.process(made.id, progress=change).processed == 4
    assert store.concepts.vectors([str(n) for n in range(4)])[:, 2].tolist() == [0, 0, 0, 1]


def test_a_strict_batch_stops_at_the_chunk_that_failed_though_more_were_embedded(
    spread: tuple[vs.Store, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = spread
    items: list[dict[str, Any]] = [{"id": str(n), "name": f"n{n}"} for n in range(8)]
    items[3]["quality"] = 9
    done = store.workflows.process(store.workflows.create("concepts", items).id)
    assert (done.status, done.errors, done.undone, len(store.concepts)) == ("rolled_back", 1, 2, 0)
    assert [item.status for item in store.workflows.items(done.id)][4:] == ["pending"] * 4


def test_a_worker_that_was_cancelled_is_a_lost_one(
    spread: tuple[vs.Store, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, _ = spread
    made = store.workflows.create("concepts", concepts(3))
    with monkeypatch.context() as patch:
        patch.setattr(joblib, "Parallel", lambda **_: lambda calls: iter([CancelledError("the scheduler went")]))
        with pytest.raises(vs.WorkersLost, match=r"\(CancelledError: the scheduler went\); what had landed stays"):
            store.workflows.process(made.id)
    assert store.workflows.process(made.id).processed == 3


def test_a_worker_keeps_the_two_models_that_it_met_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_embedders", {})
    place = place_at(str(tmp_path / "place"))
    texts = place.keep(b'["x"]')
    seen: dict[str, list[list[str]]] = {key: [] for key in "abc"}
    for key in "abcabccb":
        done = tasks.embed(place.uri, key, lengths(seen[key]), "probe", texts)
        assert tasks.unpacked(place.fetch(done.digest))["vectors"].tolist() == [[1, 1, 0, 0]]
    probes = {key: sum(call == ["probe"] for call in calls) for key, calls in seen.items()}
    assert probes == {"a": 2, "b": 2, "c": 2}, "each was forgotten once, and the last two were kept"


# -- exports -----------------------------------------------------------------------------------------------------------


def test_a_lost_vector_is_no_reason_to_export_the_others_in_its_place(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 5)
    sql(tmp_path / "kb", "DELETE FROM pending WHERE vid = 3")
    with opened(tmp_path / "kb") as store:
        with pytest.raises(vs.CorruptError, match="concepts: a vector is in no file; run: vectorstore check"):
            store.export(tmp_path / "out.jsonl")
        assert not (tmp_path / "out.jsonl").exists() and store.check().findings != ()


def test_an_export_begins_again_when_the_store_moved_on_and_ends_when_it_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path / "kb") as store:
        fill(store, 5)
        space = store._sync.state("concepts")
        real, errors = space.current, list[Exception]()

        def moved(*args: Any, **named: Any) -> Any:
            if errors:
                raise errors.pop()
            return real(*args, **named)

        monkeypatch.setattr(space, "current", moved)
        errors.append(SnapshotMoved())
        assert store.export(tmp_path / "one.jsonl").records["concepts"] == 5 and errors == []
        errors.append(vs.CorruptError("concepts: a segment is missing"))
        with pytest.raises(vs.CorruptError, match="a segment is missing"):
            store.export(tmp_path / "two.jsonl")
        assert not (tmp_path / "two.jsonl").exists()
        store.concepts.add({"id": "later", "name": "later"})  # nothing is held open
        assert store.export(tmp_path / "two.jsonl").records["concepts"] == 6


# -- records with vectors of their own ---------------------------------------------------------------------------------


def test_centroids_stay_when_a_batch_changes_their_records(tmp_path: Path) -> None:
    centroids = np.eye(2, 8)
    with vs.open(tmp_path / "kb", embedder="hash:64", auto_publish=False) as store:
        store.clusters.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=centroids)
        changes = [{"id": "a", "name": "new a"}, {"id": "b", "name": "new b"}]
        made = store.workflows.update("clusters", changes)
        assert ended(store.workflows.process(made.id)) == ("completed", 2, 0, 0, 0)
        assert [record.name for record in store.clusters] == ["new a", "new b"]
        assert np.array_equal(store.clusters.vectors(["a", "b"]), centroids)
        brought = store.workflows.update("clusters", changes, vectors=centroids[::-1])
        assert ended(store.workflows.process(brought.id)) == ("completed", 2, 0, 0, 0)
        assert np.array_equal(store.clusters.vectors(["a", "b"]), centroids[::-1])
        assert store.check().findings == ()


def test_fields_without_centroids_are_changed_without_them(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.fields.add({"id": "f", "name": "rule"})
        made = store.workflows.update("fields", [{"id": "f", "name": "rules"}])
        assert ended(store.workflows.process(made.id)) == ("completed", 1, 0, 0, 0)
        assert [record.name for record in store.fields] == ["rules"] and store.fields.vector_info("f") is None
