"""A search within a read, as in the progress of an export, answers as of that read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from vectorstore.exporting import Snapshot


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
