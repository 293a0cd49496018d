"""What was once wrong where texts are emptied, reads lie in reads, folders are none, and a Ctrl-C meets SQLite."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.exporting import Snapshot
from vectorstore.files import DiskFolder
from vectorstore.states import signals
from vectorstore.storage import connection as connections

OLD = "secret words of a"


class Note(vs.Record):
    table = "notes"
    spaces: ClassVar[tuple[str, ...]] = ("shape",)
    title: Annotated[str | None, vs.EMBEDDED] = None
    body: Annotated[str | None, vs.EMBEDDED] = None
    number: int = 0


@pytest.fixture
def kb(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "kb", embedder="hash", kinds=[Note]) as store:
        store.collection(Note).add([{"id": "a", "body": OLD}, {"id": "b", "body": "other"}])
        yield store


def found(notes: Any, **how: Any) -> list[str]:
    return [hit.record.id for hit in notes.search(OLD, k=5, **how)]


# -- texts that are emptied --------------------------------------------------------------------------------------------

EMPTYING: dict[str, Callable[[Any], object]] = {
    "upsert without it": lambda notes: notes.upsert({"id": "a"}),
    "upsert of an empty one": lambda notes: notes.upsert([{"id": "a", "body": "", "number": 1}]),
    "upsert of a table": lambda notes: notes.upsert({"id": ["a"], "body": [None]}),
    "upsert of an object": lambda notes: notes.upsert(Note(id="a")),
    "update": lambda notes: notes.update({"id": "a", "body": None}),
    "near-duplicates looked for": lambda notes: notes.upsert({"id": "a"}, duplicates=vs.Duplicates(0.9, "reject")),
}


@pytest.mark.parametrize("flushed", [False, True], ids=["waiting", "in a file"])
@pytest.mark.parametrize("emptying", EMPTYING.values(), ids=EMPTYING)
def test_a_record_whose_text_is_emptied_is_not_found_by_its_old_words(
    kb: vs.Store, emptying: Callable[[Any], object], flushed: bool
) -> None:
    notes = kb.collection(Note)
    if flushed:
        kb.flush()
    with kb.transaction():
        emptying(notes)
        assert found(notes) == ["b"]
    for how in ({}, {"mode": "hybrid"}, {"exact": True}, {"where": {"id__in": ["a", "b"]}}):
        assert found(notes, **how) == ["b"], how
    assert found(notes, mode="text") == [] and notes.get("a") is not None
    assert kb.check().findings == ()
    kb.compact("notes")
    assert kb.check().findings == () and found(notes) == ["b"]
    notes.upsert({"id": "a", "body": OLD})
    assert found(notes)[0] == "a" and kb.check().findings == ()


def test_a_text_of_which_another_field_is_left_keeps_a_vector(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    notes.upsert({"id": "a", "title": "title", "body": OLD})
    notes.update({"id": "a", "body": None})
    assert [hit.record.id for hit in notes.search("title", k=1)] == ["a"]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_restored_record_does_not_get_the_vector_of_a_text_that_was_emptied_before(
    kb: vs.Store, compacted: bool
) -> None:
    notes = kb.collection(Note)
    notes.upsert({"id": "a"})
    kb.flush()
    notes.delete(["a", "b"])
    if compacted:
        kb.compact("notes")
    assert notes.restore(["a", "b"]) == 2
    assert found(notes) == ["b"] and kb.check().findings == ()
    notes.delete("a")
    notes.purge("a")
    assert kb.check().findings == () and found(notes) == ["b"]


def test_the_past_still_finds_a_text_that_was_emptied(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    kb.snapshots.add("before")
    notes.upsert({"id": "a"})
    kb.compact("notes")
    with kb.as_of("before") as past:
        assert found(past.collection(Note))[0] == "a"
    assert found(notes) == ["b"]


def test_vectors_that_a_caller_brought_stay_when_there_is_no_text(kb: vs.Store, tmp_path: Path) -> None:
    notes = kb.collection(Note)
    brought = notes.vectors(["b"])
    notes.upsert({"id": "a"}, vectors=brought)
    notes.upsert({"id": "a", "number": 2})
    assert {hit.record.id for hit in notes.search(brought[0], k=2) if hit.score > 0.9} == {"a", "b"}
    with vs.open(tmp_path / "other", embedder=None, kinds=[Note]) as store:
        own = store.collection(Note)
        own.add({"id": "a", "body": OLD}, vectors=np.ones((1, 4)))
        own.upsert({"id": "a"})
        assert [hit.record.id for hit in own.search(np.ones(4), k=1)] == ["a"]


def test_a_workflow_that_is_rolled_back_gives_an_emptied_text_its_vector_again(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    made = kb.workflows.update("notes", [{"id": "a", "body": None}])
    kb.workflows.process(made.id)
    assert found(notes) == ["b"]
    kb.compact("notes")
    kb.workflows.rollback(made.id)
    assert found(notes)[0] == "a" and kb.check().findings == ()


def test_an_import_that_empties_a_text_takes_its_vector_too(kb: vs.Store, tmp_path: Path) -> None:
    notes = kb.collection(Note)
    with vs.open(tmp_path / "from", embedder="hash", kinds=[Note]) as other:
        other.collection(Note).add({"id": "a"})
        other.export(tmp_path / "out.jsonl")
    kb.import_(tmp_path / "out.jsonl", on_conflict="overwrite")
    assert notes.get("a").body is None and found(notes) == ["b"]


def test_vectors_of_another_space_stay_when_the_text_is_emptied(kb: vs.Store) -> None:
    notes = kb.collection(Note)
    notes.upsert({"id": "a", "body": OLD}, vectors={"shape": np.ones((1, 4))})
    notes.upsert({"id": "a"})
    assert found(notes) == ["b"]
    assert [hit.record.id for hit in notes.search(np.ones(4), k=1, space="shape")] == ["a"]


# -- reads within reads ------------------------------------------------------------------------------------------------


def exported(kb: vs.Store) -> list[str]:
    """The ids that an export has now, of concepts with their vectors."""
    with Snapshot(kb.concepts._sync) as now:
        (space,) = now.spaces_of("concepts", brought=False)
        held = now.vectors(space, range(1, 100))
    return [str(number) for number in held.numbers]


ASKED: dict[str, Callable[[vs.Store], list[str]]] = {
    "a text": lambda kb: [hit.id for hit in kb.concepts.search("word", k=90)],
    "exactly, with a filter": lambda kb: [
        hit.id for hit in kb.concepts.search("word", k=90, exact=True, where={"name__icontains": "word"})
    ],
    "hybrid": lambda kb: [hit.id for hit in kb.concepts.search("word", k=90, mode="hybrid")],
    "an id": lambda kb: [hit.id for hit in kb.concepts.search(vs.Id("c0"), k=90)] + ["c0"],
    "many": lambda kb: [hit.id for hit in kb.concepts.search_many(["word"], k=90)[0]],
    "all kinds": lambda kb: [hit.id for hit in kb.search("word", k=90, kinds=["concepts"])],
    "within a distance": lambda kb: [hit.id for hit in kb.concepts.search_range("word", -1.0)],
    "what is exported": exported,
}
TELLING: dict[str, Callable[[vs.Store, Path, Any], object]] = {
    "export": lambda kb, to, told: kb.export(to / "out.jsonl", progress=told),
    "check": lambda kb, to, told: kb.check(progress=told),
    "saving a context": lambda kb, to, told: kb.contexts.save("default", to / "saved", progress=told),
}


def meanwhile(work: Callable[[], object]) -> None:
    """Another thread does it now."""
    other = threading.Thread(target=work)
    other.start()
    other.join()


@pytest.fixture
def words(tmp_path: Path) -> Iterator[vs.Store]:
    with vs.open(tmp_path / "words", embedder="hash") as store:
        store.concepts.add([{"id": f"c{number}", "name": f"word {number}"} for number in range(20)])
        store.flush()
        store.concepts.add({"id": "late", "name": "a late word"})
        assert len(store.concepts.search("word", k=90)) == 21
        yield store


def once(telling: Callable[..., object], store: vs.Store, to: Path, work: Callable[[], object]) -> list[Any]:
    """What the work gives, or the error it ends with, at the first word of a verb's progress."""
    given: list[Any] = []

    def told(done: int, total: int) -> None:
        if not given:
            try:
                given.append(work())
            except vs.VectorstoreError as error:
                given.append(error)

    telling(store, to, told)
    return given


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("telling", TELLING.values(), ids=TELLING)
def test_a_search_within_a_read_answers_as_of_that_read(
    words: vs.Store, tmp_path: Path, telling: Callable[..., object], asked: Callable[[vs.Store], list[str]]
) -> None:
    """Another thread has meanwhile written and searched, so that a newer commit is loaded."""
    expected = sorted(asked(words))

    def changed() -> None:
        words.concepts.delete("c3")
        words.concepts.add({"id": "new", "name": "a new word"})
        words.concepts.upsert({"id": "c4", "name": "changed"})
        words.concepts.search("word", k=1)

    def within() -> list[str]:
        meanwhile(changed)
        return sorted(asked(words))

    assert once(telling, words, tmp_path, within) == [expected]
    now = {hit.id for hit in words.concepts.search("word", k=90)}
    assert "new" in now and "c3" not in now and words.check().findings == ()


def test_a_recall_a_check_and_a_proof_within_a_read_end(words: vs.Store, tmp_path: Path) -> None:
    words.memories.add({"id": "m0", "content": "a word to remember"})
    words.memories.recall("word", k=5)

    def changed() -> None:
        words.memories.add({"id": "m1", "content": "another word to remember"})
        words.concepts.delete("c3")
        words.memories.recall("word", k=5)

    def within() -> tuple[list[str], int, bool]:
        meanwhile(changed)
        recalled = [hit.id for hit in words.memories.recall("word", k=5)]
        return recalled, len(words.check().findings), words.trail.verify().ok

    assert once(TELLING["export"], words, tmp_path, within) == [(["m0"], 0, True)]


def test_a_search_within_a_read_whose_files_are_gone_says_so(words: vs.Store, tmp_path: Path) -> None:
    def compacted() -> None:
        words.concepts.delete("c3")
        words.compact("concepts")
        words.concepts.search("word", k=1)

    def within() -> object:
        meanwhile(compacted)
        return words.concepts.search("word", k=1)

    (error,) = once(TELLING["export"], words, tmp_path, within)
    assert type(error) is vs.StoreError and "retry when that is over" in str(error)
    assert len(words.concepts.search("word", k=90)) == 20


# -- folders that are none ---------------------------------------------------------------------------------------------


def a_file(path: Path) -> None:
    path.write_text("x")


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def nowhere(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("place", ["embeddings", "embeddings/concepts", "indexes/concepts", "indexes"])
@pytest.mark.parametrize("made", [a_file, a_loop, nowhere])
def test_a_check_finds_what_took_the_place_of_a_folder(
    tmp_path: Path, place: str, made: Callable[[Path], None]
) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add([{"id": "a", "name": "a"}, {"id": "b", "name": "b"}], vectors=np.eye(2, 8))
        store.flush()
        store.rebuild("concepts", "simhash512")
    (tmp_path / "kb" / place).rename(tmp_path / "aside")
    made(tmp_path / "kb" / place)
    with vs.open(tmp_path / "kb", embedder=None) as store:
        layer = "segments" if place.startswith("embeddings") else "index"
        assert layer in [finding.layer for finding in store.check().findings]
        if layer == "segments":
            with pytest.raises(vs.CorruptError, match="the file is missing"):
                store.concepts.search(np.ones(8), k=1)
            store.concepts.add({"id": "c", "name": "c"}, vectors=np.ones((1, 8)))
            with pytest.raises(vs.StoreError):
                store.flush()
        else:
            assert [hit.score for hit in store.concepts.search(np.eye(8)[0], k=1)] == [1.0]


def test_what_a_folder_refuses_to_tell_is_an_error_of_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(vs.StoreError, match="cannot be looked at now: Permission denied"):
        DiskFolder(tmp_path).stat("a")
    with pytest.raises(vs.StoreError, match="cannot be looked into now: Permission denied"):
        DiskFolder(tmp_path).names()


@pytest.mark.parametrize("made", [a_loop, nowhere])
def test_a_store_is_not_made_where_a_link_leads_nowhere(tmp_path: Path, made: Callable[[Path], None]) -> None:
    made(tmp_path / "kb")
    with pytest.raises(vs.StoreError, match="is a link to .*remove it, or choose another"):
        vs.open(tmp_path / "kb", embedder=None)
    assert (tmp_path / "kb").is_symlink() and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("where", ["kb", ":memory:"])
def test_a_wait_that_no_clock_can_count_is_refused(tmp_path: Path, where: str) -> None:
    path = where if where == ":memory:" else tmp_path / where
    for seconds in (1e12, 2_147_484):
        with pytest.raises(vs.ValidationError, match="timeout: expected"):
            vs.open(path, embedder=None, timeout=seconds)
    assert not (tmp_path / "kb").exists()
    with vs.open(path, embedder=None, timeout=2_147_483) as store:
        store.concepts.add({"id": "a", "name": "a"})


# -- what functions for SQL raise --------------------------------------------------------------------------------------

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
    meanwhile_found: list[object] = []

    def other() -> None:  # on a connection of its own, made now
        try:
            words.concepts.find({"name__icontains": "word"})
        except BaseException as error:
            meanwhile_found.append(type(error))

    meanwhile(other)
    assert meanwhile_found == [KeyboardInterrupt]


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
