"""Word vectors with gensim's words: the same answers as gensim's on the same vectors, and always those of now."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.reason.questions import answers, read_questions

FOLDER = Path(__file__).parent / "data" / "words"
GENSIM = json.loads((FOLDER / "gensim.json").read_text(encoding="utf-8"))


def shipped() -> tuple[list[str], np.ndarray]:
    with np.load(FOLDER / "vectors.npz", allow_pickle=False) as found:
        return found["words"].tolist(), found["vectors"].astype(np.float32)


@pytest.fixture(scope="module")
def words() -> Iterator[vs.Words]:
    names, vectors = shipped()
    with vs.open(":memory:", embedder=None) as store:
        store.concepts.add({"id": [f"w{n}" for n in range(len(names))], "name": names}, vectors=vectors)
        yield vs.Words(store.concepts)


def same(found: Any, wanted: Any) -> bool:
    """Words equal, numbers to float32 rounding."""
    if isinstance(wanted, float | int):
        return found == pytest.approx(wanted, abs=2e-6)
    if isinstance(wanted, str):
        return bool(found == wanted)
    found = found.tolist() if isinstance(found, np.ndarray) else list(found)
    return len(found) == len(wanted) and all(map(same, found, wanted))


@pytest.mark.parametrize("case", GENSIM["calls"], ids=lambda case: case["call"])
def test_answers_equal_those_of_gensim(words: vs.Words, case: dict[str, Any]) -> None:
    options = {name: value for name, value in case.items() if name not in ("call", "answer")}
    listed = options.get("positive")
    if isinstance(listed, list) and isinstance(listed[0], list):
        options["positive"] = [tuple(pair) for pair in listed]
    if case["call"] == "evaluate_analogies":
        accuracy, sections = words.evaluate_analogies(FOLDER / "questions.txt", **options)
        counts = [[one["section"], len(one["correct"]), len(one["incorrect"])] for one in sections]
        assert (accuracy, counts) == (pytest.approx(case["answer"][0]), case["answer"][1])
        return
    found = getattr(words, case["call"])(*options.pop("args", ()), **options)
    assert same(found, case["answer"]), (found, case["answer"])


def test_it_is_as_long_and_holds_what_the_collection_holds(words: vs.Words) -> None:
    names, vectors = shipped()
    assert len(words) == len(names) == GENSIM["words"] and words.index_to_key == names
    assert "king" in words and "zyzzyva" not in words
    np.testing.assert_allclose(words["king"], vectors[names.index("king")], rtol=1e-6)
    everything = words.most_similar("king", topn=None)
    assert len(everything) == len(names) and words.evaluate_word_analogies.__func__ is vs.Words.evaluate_analogies  # type: ignore[attr-defined]


def test_a_commit_is_seen_by_the_next_question() -> None:
    with vs.open(":memory:", embedder=None) as store:
        words = vs.Words(store.concepts)
        assert len(words) == 0
        store.concepts.add([{"name": name} for name in ("a", "b", "c")], vectors=np.eye(3) + 0.1)
        assert words.rank("a", "b") == 1
        store.concepts.upsert({"name": "c"}, vectors=[[1, 0.2, 0.3]])
        assert words.rank("a", "b") == 2 and words.index_to_key == ["a", "b", "c"]
        with pytest.raises(RuntimeError), store.transaction():
            store.concepts.add({"name": "d"}, vectors=[[1, 1, 1]])
            assert "d" in words
            raise RuntimeError
        assert "d" not in words
        store.concepts.delete("default:c")
        assert "c" not in words and words.doesnt_match(["a", "b", "c"]) in ("a", "b")


def test_of_two_records_with_one_name_the_first_is_meant() -> None:
    with vs.open(":memory:", embedder=None) as store:
        store.concepts.add([{"id": "x", "name": "bank"}, {"id": "y", "name": "bank"}], vectors=[[1, 0], [0, 1]])
        assert vs.Words(store.concepts)["bank"].tolist() == [1, 0]


def test_errors_are_typed_and_say_what(words: vs.Words) -> None:
    for call, error, message in [
        (lambda: words.similarity("king", "King Kong"), vs.NotFound, "no word 'King Kong'; there are 715 words"),
        (lambda: words.most_similar(), vs.ValidationError, "expected at least one word"),
        (lambda: words.most_similar_cosmul(negative="king"), vs.ValidationError, "at least one positive"),
        (lambda: words.n_similarity([], ["king"]), vs.ValidationError, "first: expected some words"),
        (lambda: words.n_similarity(["king"], ["nobody"]), vs.NotFound, "second: none of"),
        (lambda: words.doesnt_match(["nobody"]), vs.NotFound, "none of the words"),
        (lambda: words.most_similar(np.ones(3)), vs.ValidationError, r"expected 50 finite numbers, got shape \(3,\)"),
        (lambda: words.evaluate_analogies(["a b c d"]), vs.ValidationError, "line 1 comes before the first"),
        (lambda: words.evaluate_analogies([": s"], method="4cos"), vs.ValidationError, "method: expected 3cosadd"),  # type: ignore[arg-type]
    ]:
        with pytest.raises(error, match=message):
            call()
    with (
        vs.open(":memory:", embedder=None) as store,
        pytest.raises(vs.ValidationError, match="no field that is a name"),
    ):
        vs.Words(store.analogies)


def brute(vectors: np.ndarray, questions: np.ndarray, method: str, alike: np.ndarray) -> list[int]:
    """Question by question, in float64, as the papers have it."""
    rows, found = vectors.astype(np.float64), []
    for a, b, c in questions:
        near = rows @ rows[[a, b, c]].T
        if method == "3cosadd":
            scores = near[:, 1] - near[:, 0] + near[:, 2]
        elif method == "3cosmul":
            half = (near + 1) / 2
            scores = half[:, 1] * half[:, 2] / (half[:, 0] + 0.001)
        else:
            apart = np.linalg.norm(rows - rows[c], axis=1)
            scores = np.divide(
                (rows - rows[c]) @ (rows[b] - rows[a]), apart, out=np.zeros(len(rows)), where=apart > 1e-3
            )
        scores[np.isin(alike, alike[[a, b, c]])] = -np.inf
        found.append(int(scores.argmax()) if np.isfinite(scores).any() else -1)
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(4, 300), method=st.sampled_from(["3cosadd", "3cosmul", "pair"]))
def test_thousands_at_once_equal_one_by_one(seed: int, rows: int, method: Any) -> None:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, 7)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    questions = random.integers(0, rows, (60, 3))
    questions = questions[questions[:, 0] != questions[:, 1]]
    alike = random.integers(0, rows, rows)
    assert answers(vectors, questions, method, alike).tolist() == brute(vectors, questions, method, alike)
    assert answers(vectors, questions, method).tolist() == brute(vectors, questions, method, np.arange(rows))


def test_no_row_is_left_when_all_are_named() -> None:
    assert answers(np.eye(3, dtype=np.float32), np.array([[0, 1, 2]]), "3cosadd").tolist() == [-1]
    assert answers(np.eye(3, dtype=np.float32), np.empty((0, 3), np.int64), "3cosadd").tolist() == []


def test_questions_are_read_as_word2vec_writes_them() -> None:
    lines = [": one", "a b c d", "too few", "", ": two", "e f g h"]
    assert read_questions(lines) == [("one", [("a", "b", "c", "d")]), ("two", [("e", "f", "g", "h")])]


def test_word_vectors_come_from_text_and_npy(tmp_path: Path) -> None:
    glove = "the 1 2.5\nof -1 0\nthe 9 9\n. . . 3 4\n"
    (tmp_path / "glove.txt").write_text(glove, encoding="utf-8")
    (tmp_path / "word2vec.txt").write_text("4 2\n" + glove, encoding="utf-8")
    with gzip.open(tmp_path / "glove.txt.gz", "wt", encoding="utf-8") as file:
        file.write(glove)
    np.save(tmp_path / "v.npy", np.array([[1, 2.5], [-1, 0], [9, 9], [3, 4]]))
    (tmp_path / "v.txt").write_text("the\nof\nthe\n. . .", encoding="utf-8")
    for name, listed in [
        ("glove.txt", None),
        ("word2vec.txt", None),
        ("glove.txt.gz", None),
        ("v.npy", tmp_path / "v.txt"),
    ]:
        words, vectors = vs.read_word_vectors(tmp_path / name, listed)
        assert (words, vectors.tolist()) == (["the", "of", ". . ."], [[1, 2.5], [-1, 0], [3, 4]])
        assert vs.read_word_vectors(tmp_path / name, None if listed is None else ["the", "of"], limit=2)[0] == [
            "the",
            "of",
        ]
    for text, message in [
        ("", "has no word vectors"),
        ("a 1 2\nb 1\n", "line 2: expected a word"),
        ("a 1 x\n", "line 1"),
    ]:
        (tmp_path / "bad.txt").write_text(text, encoding="utf-8")
        with pytest.raises(vs.ValidationError, match=message):
            vs.read_word_vectors(tmp_path / "bad.txt")
    with pytest.raises(vs.ValidationError, match="has no words"):
        vs.read_word_vectors(tmp_path / "v.npy")
    with pytest.raises(vs.ValidationError, match=r"2 words for vectors of shape \(4, 2\)"):
        vs.read_word_vectors(tmp_path / "v.npy", ["a", "b"])
