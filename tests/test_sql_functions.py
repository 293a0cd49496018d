"""What functions raise that SQL calls comes out of the statement as it is, a Ctrl-C above all."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import vectorstore as vs
from vectorstore.states import signals
from vectorstore.storage import connection as connections


@pytest.fixture
def words(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "words", embedder="hash") as store:
        store.concepts.add([{"id": f"c{number}", "name": f"word {number}"} for number in range(21)])
        yield store


AS_TOLD = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""sqlite3 shows each on stderr as well, once anything in the process (sqlite-utils' commands) had it do so."""


@AS_TOLD
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), ZeroDivisionError("zero")], ids=repr)
def test_what_a_function_raises_within_a_statement_comes_out_as_it_is(
    words: vs.Store, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def raising(_: str) -> str:
        raise error

    monkeypatch.setattr(connections, "fold", raising)
    asks: list[Callable[[], object]] = [
        lambda: words.concepts.find({"name__icontains": "word"}),
        lambda: words.concepts.search("word", k=1, where={"name__icontains": "word"}),
        lambda: words.concepts.delete(where={"name__icontains": "word"}),
    ]
    for ask in asks:
        with pytest.raises(type(error)) as met:
            ask()
        assert met.value is error
    monkeypatch.undo()
    assert len(words.concepts.find({"name__icontains": "word"})) == 21


@AS_TOLD
def test_an_error_of_the_clock_comes_out_of_a_statement(tmp_path: Path) -> None:
    broken: list[bool] = []

    def clock() -> datetime:
        if broken:
            raise ZeroDivisionError
        return datetime.now(UTC)

    with vs.open(tmp_path / "kb", embedder=None, clock=clock, auto_publish=False) as store:
        soon = datetime.now(UTC) + timedelta(hours=1)
        store.concepts.add({"id": "a", "name": "a", "expires_at": soon})
        broken.append(True)
        with pytest.raises(ZeroDivisionError):
            store.concepts.find({"name": "a"})
        broken.clear()
        assert len(store.concepts) == 1


@AS_TOLD
def test_a_ctrl_c_before_the_first_line_of_a_function_is_one(words: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python raises it before anything that the function does, so nothing can keep it."""

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(connections, "remembering", lambda function: interrupted)
    met: list[object] = []

    def other() -> None:  # on a connection of its own, made now
        try:
            words.concepts.find({"name__icontains": "word"})
        except BaseException as error:
            met.append(type(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert met == [KeyboardInterrupt]


@AS_TOLD
def test_a_ctrl_c_at_any_moment_of_a_statement_is_one(words: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, plain = threading.Event(), connections.fold

    def slowly(text: str) -> str:
        begun.set()
        return plain(text)

    def press() -> None:
        if begun.wait(10):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    monkeypatch.setattr(connections, "fold", slowly)
    for _ in range(10):
        begun.clear()
        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            while True:
                words.concepts.find({"name__icontains": "word"})
        presser.join()
    assert len(words.concepts.find({"name__icontains": "word"})) == 21


def test_a_lifecycles_signal_waits_until_sqlite_has_its_answer() -> None:
    assert connections.remembering(connections.folded).__code__ in signals._BRIEF
