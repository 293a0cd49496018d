"""From the start of a program to its end: loaded, saved on every way out, and one exit code."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import vectorstore as vs
from vectorstore.states import State, StateFile, signals
from vectorstore.states.lifecycle import Lifecycle

PACKAGE = str(Path(vs.__file__).parent)
PROGRAM = """
import signal, sys, time
import vectorstore as vs

home, what, path = sys.argv[1:]

def work(state):
    state.history("log").append(what)
    if what == "saving":
        state["n"] = 0
    if what not in ("tidy", "swallow"):
        print("ready", flush=True)
    if what == "error":
        raise ValueError("boom")
    if what == "exit":
        sys.exit(3)
    if what == "wait":
        time.sleep(60)
    if what == "tidy":
        try:
            print("ready", flush=True)
            time.sleep(60)
        finally:
            state["tidied"] = True
    if what == "saving":
        while True:
            state["n"] += 1
            state.save()
    if what == "swallow":
        try:
            print("ready", flush=True)
            time.sleep(60)
        except BaseException:
            state["swallowed"] = True
    if what == "unkeepable":
        state["bad"] = object()

options = {"concurrent": "merge"} if what == "merge" else {}
if home == "file":
    with vs.lifecycle(vs.StateFile(path), **options) as state:
        work(state)
else:
    with vs.open(path, embedder=None) as store, vs.lifecycle(store.state("agent"), **options) as state:
        work(state)
"""


class Program:
    """A process that has a state, from `lifecycle` on."""

    def __init__(self, home: str, what: str, path: Path) -> None:
        command = [sys.executable, "-c", PROGRAM, home, what, str(path)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ready(self) -> Program:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", self.process.communicate()[1]
        return self

    def end(self, *numbers: int) -> tuple[int, str]:
        """(exit code, what it wrote to stderr) after these signals."""
        for number in numbers:
            self.process.send_signal(number)
        _, told = self.process.communicate(timeout=30)
        return self.process.returncode, told


def loaded(home: str, path: Path) -> dict[str, Any]:
    if home == "file":
        state: State = StateFile(path)
        return dict(state) if state.load() else {}
    with vs.open(path, embedder=None) as store:
        state = store.state("agent")
        found = dict(state) if state.load() else {}
        assert store.check().findings == ()
    return found


@pytest.mark.parametrize(
    ("home", "what", "numbers", "code"),
    [
        ("store", "normal", (), 0),
        ("store", "error", (), 1),
        ("file", "exit", (), 3),
        ("store", "wait", (signal.SIGTERM,), 143),
        ("file", "wait", (signal.SIGINT,), 130),
        ("store", "tidy", (signal.SIGTERM,), 143),
        ("file", "saving", (signal.SIGTERM,), 143),
        ("store", "saving", (signal.SIGINT, signal.SIGTERM, signal.SIGTERM), 130),
        ("file", "swallow", (signal.SIGINT,), 0),
    ],
)
def test_every_way_out_saves_and_one_code_is_given(
    home: str, what: str, numbers: tuple[int, ...], code: int, tmp_path: Path
) -> None:
    """H11, P4: after a signal the code was 0, an exception left without saving, a save could be entered twice. P12: a
    run writes what it did, once."""
    path = tmp_path / "there"
    program = Program(home, what, path).ready()
    found, told = program.end(*numbers)

    assert found == code, told
    assert ("ValueError: boom" in told) is (what == "error") and ("Traceback" in told) is (what == "error")
    state = loaded(home, path)
    assert list(state["log"]) == [what]
    assert ("n" in state) is (what == "saving") and ("tidied" in state) is (what == "tidy")
    assert ("swallowed" in state) is (what == "swallow")


def live(path: Path, what: str, **options: Any) -> None:
    """What PROGRAM does in a store, in this process."""
    with vs.open(path, embedder=None) as store, vs.lifecycle(store.state("agent"), **options) as state:
        state.history("log").append(what)


def test_a_last_save_that_fails_is_told_and_the_save_before_stays(tmp_path: Path) -> None:
    """P2, P4"""
    path = tmp_path / "kb"
    live(path, "normal")
    code, told = Program("store", "unkeepable", path).ready().end()
    assert code == 1 and "Unserialisable: agent['bad']" in told
    assert list(loaded("store", path)["log"]) == ["normal"]


def test_a_second_process_is_refused_or_merges_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    """H11, P11"""
    path = tmp_path / "kb"
    first = Program("store", "wait", path).ready()
    with pytest.raises(vs.StateBusy, match=f"state 'agent' is held by process {first.process.pid}"):
        live(path, "normal")
    live(path, "merge", concurrent="merge")
    code, told = first.end(signal.SIGTERM)
    assert code == 143 and "nothing was written; save(merge=True)" in told, "it was promised to be alone, and was not"
    assert list(loaded("store", path)["log"]) == ["merge"]

    second = Program("store", "wait", path).ready()
    assert second.end(signal.SIGKILL)[0] == -signal.SIGKILL
    live(path, "normal")  # the system lets go of a dead process's lock
    assert list(loaded("store", path)["log"]) == ["merge", "normal"]


# -- a signal at any call ----------------------------------------------------------------------------------------------


class At:
    """Sends this process a signal when so many functions of the package have been entered.

    That is where Python looks for signals. A line would be too fine: tracing could raise between the end of a `with`
    and the release of its lock, where Python never does. No garbage is collected meanwhile: what a finalizer raises,
    Python only prints.
    """

    def __init__(self, place: int, number: int) -> None:
        self.seen, self._place, self._number = 0, place, number
        self.began = False

    def __enter__(self) -> At:
        self._before = sys.gettrace()
        gc.disable()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)
        gc.enable()

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "call":
            self.seen += 1
            if self.seen == self._place:
                signal.raise_signal(self._number)
        return None


def run(state: State, other: Callable[[int], object], at: At) -> Any:
    """A program's life: the exit code, None when it ends by itself."""
    try:
        with at, vs.lifecycle(state) as inside:
            at.began = True
            inside["n"] = 1
            inside.save()
            other(1)
            inside.history("log").append(at.seen)
            inside.save()
            other(2)
            inside["n"] = 2
    except SystemExit as error:
        return error.code
    except KeyboardInterrupt:
        return "not ours"  # it came before the handlers were there, or when they were gone
    return None


@pytest.mark.parametrize(("home", "number"), [("store", signal.SIGTERM), ("file", signal.SIGINT)])
def test_a_signal_at_any_call_ends_in_a_whole_save(home: str, number: int, tmp_path: Path) -> None:
    """H11: a signal during a save stays consistent. P4: the handler saved while the main thread was mid-save."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        store = vs.open(tmp_path / "kb", embedder=None, timeout=2.0)
        vector = [[1.0, 0.0]]

        def opened(name: str) -> State:
            return store.state(name) if home == "store" else StateFile(tmp_path / name)

        def other(step: int) -> None:
            store.concepts.upsert({"name": f"c{step}"}, vectors=vector)

        dry = At(-1, number)
        assert run(opened("dry"), other, dry) is None
        codes = set()
        for place in range(1, dry.seen, max(1, dry.seen // 120)):
            state, at = opened(f"s{place}"), At(place, number)
            code = run(state, other, at)
            fresh = opened(f"s{place}")
            assert code in (128 + number, "not ours") or at.seen < place, f"call {place}"
            assert fresh.load() is at.began and dict(fresh) == (dict(state) if at.began else {}), f"call {place}"
            codes.add(code)
            assert signal.getsignal(number) is signal.default_int_handler and not signals._running
            other(3)
        assert codes >= {128 + number, "not ours"}
        assert store.check().findings == ()
        store.close()
    finally:
        signal.signal(signal.SIGTERM, before)


# -- what the block itself says ----------------------------------------------------------------------------------------


def test_a_damaged_state_is_no_fresh_start(tmp_path: Path) -> None:
    """P3: a load error meant a fresh state, which was saved over the damaged one at exit."""
    path = tmp_path / "state.json"
    for n in (1, 2):
        with vs.lifecycle(StateFile(path)) as state:
            state["n"] = n
    path.write_bytes(bad := path.read_bytes()[:-1])
    with pytest.raises(vs.CorruptError, match="set aside"), vs.lifecycle(StateFile(path)):
        pytest.fail("it began")
    (aside,) = tmp_path.glob("state.json.damaged-*")
    assert aside.read_bytes() == bad and not path.exists()
    with vs.lifecycle(StateFile(path), fallback=True) as state:
        assert state["n"] == 1
        state["n"] = 3
    assert loaded("file", path) == {"n": 3} and aside.read_bytes() == bad


def test_it_is_told_whether_something_was_saved_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for expected in (False, True):
        life = vs.lifecycle(StateFile(tmp_path / "s"))
        assert isinstance(life, Lifecycle) and life.loaded is None
        with life as state:
            assert life.loaded is expected
            state["odd"] = vs.Opaque({"__type__": "GeneMap", "genes": 3})
    with caplog.at_level("WARNING"), vs.lifecycle(StateFile(tmp_path / "s")) as state:
        pass
    assert "unknown type 'GeneMap'" in caplog.text


def test_two_blocks_of_one_process_do_not_share_a_state(tmp_path: Path) -> None:
    with vs.lifecycle(StateFile(tmp_path / "s")):
        with pytest.raises(vs.StateBusy, match=f"process {os.getpid()}"), vs.lifecycle(StateFile(tmp_path / "s")):
            pytest.fail("it began")
        with vs.lifecycle(StateFile(tmp_path / "t")) as other:
            other["x"] = 1
    assert loaded("file", tmp_path / "t") == {"x": 1}
    with pytest.raises(vs.ValidationError, match="refuse or merge"):
        vs.lifecycle(StateFile(tmp_path / "s"), concurrent="maybe")  # type: ignore[arg-type]


def test_only_the_main_thread_can_have_it(tmp_path: Path) -> None:
    met: list[Exception] = []

    def work() -> None:
        try:
            with vs.lifecycle(StateFile(tmp_path / "s")):
                pass
        except vs.ValidationError as error:
            met.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(met) == 1 and "main thread" in str(met[0])
