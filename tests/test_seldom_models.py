"""What models and fits seldom do, each case made to happen: answers of another shape, no rows, too few of them."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from vectorstore import clusters
from vectorstore.clusters.recipes import ClusterRecipe
from vectorstore.embedders import CallableEmbedder, SentenceEmbedder, cross, sentence, weights
from vectorstore.errors import EmbedderError

# -- models ------------------------------------------------------------------------------------------------------------


def test_a_function_that_answers_two_askers_differently_is_refused() -> None:
    calls: list[int] = []

    def function(texts: list[str]) -> Any:
        calls.append(len(texts))
        if len(calls) == 1:  # another asks meanwhile, and learns another length
            assert embedder.identity.dim == 2
            return np.ones((len(texts), 3))
        return np.ones((len(texts), 2))

    embedder = CallableEmbedder(function)
    with pytest.raises(EmbedderError, match="returned vectors of 2 and of 3 numbers; it must always return the same"):
        embedder.embed(["a"])
    assert embedder.embed(["a"]).shape == (1, 2)
    with pytest.raises(vs.ValidationError, match=r"CallableEmbedder.function: expected a callable, got 5"):
        CallableEmbedder(5)  # type: ignore[arg-type]


def test_a_judge_whose_scores_are_no_numbers_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleNamespace(predict=lambda pairs, **options: np.array([0.5, np.nan, np.inf])[: len(pairs)])
    monkeypatch.setattr(cross, "_load", lambda name, device: model)
    judge = vs.CrossEncoder("any")
    assert judge.scores("q", ["a"]) == [0.5] and judge.scores("q", []) == []
    with pytest.raises(EmbedderError, match=re.escape("gave nan for texts[1]; its weights are damaged")):
        judge.scores("q", ["a", "b", "c"])


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.ones((2, 5)), "expected shape (2, 384), the model gave (2, 5)"),
        (np.full((2, 384), np.inf), "the model gave numbers that are not finite for texts[0] ('a')"),
    ],
)
def test_a_model_that_gives_something_else_is_named(rows: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = SentenceEmbedder()
    monkeypatch.setattr(embedder, "_loaded", lambda: SimpleNamespace(encode=lambda batch, **options: rows))
    monkeypatch.setattr(embedder, "_multiplying", lambda model: nullcontext())
    with pytest.raises(EmbedderError, match=re.escape(told)):
        embedder.embed(["a", "b"])


def test_an_identity_that_another_thread_has_learnt_is_taken() -> None:
    embedder, known = SentenceEmbedder("nobody/has-this"), SentenceEmbedder().identity

    class Waited:
        def __enter__(self) -> None:
            embedder._identity = known

        def __exit__(self, *error: object) -> None:
            """Nothing to let go of."""

    embedder._loading = Waited()  # type: ignore[assignment]
    assert embedder.identity is known


def test_bars_of_progress_that_were_off_stay_off() -> None:
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    try:
        for wanted in (logging.disable_progress_bar, logging.enable_progress_bar):
            wanted()  # type: ignore[no-untyped-call]
            before = logging.is_progress_bar_enabled()
            with sentence._quiet():
                assert not logging.is_progress_bar_enabled()
            assert logging.is_progress_bar_enabled() == before
    finally:
        (logging.enable_progress_bar if drawn else logging.disable_progress_bar)()  # type: ignore[no-untyped-call]


def test_a_model_of_another_make_is_sorted_by_letters_and_must_say_its_dimension() -> None:
    model: Any = SimpleNamespace(tokenizer=object(), get_embedding_dimension=lambda: None)
    assert sentence._lengths(model, ["abc", "", "ab"]).tolist() == [3, 0, 2]
    with pytest.raises(EmbedderError, match="does not tell its dimension; pass CallableEmbedder"):
        sentence._dim_of(model)


def test_weights_that_are_not_installed_are_in_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for spec in (None, SimpleNamespace(submodule_search_locations=None)):
        monkeypatch.setattr(weights, "find_spec", lambda name, spec=spec: spec)
        assert weights.packaged_folder() is None


def flat(texts: list[str]) -> Any:
    return [[len(text), 1.0, 0.0] for text in texts]


def test_a_store_of_an_embedder_without_a_name_is_not_searched_by_another(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=CallableEmbedder(flat, model="my own")) as store:
        store.concepts.add({"id": "a", "name": "a"})
    with vs.open(tmp_path / "kb") as store:
        assert store.concepts.get("a").name == "a"
        with pytest.raises(
            EmbedderError, match=r"made by 'my own', which cannot be found by name; open the store with"
        ):
            store.concepts.search("a")


def test_texts_that_are_embedded_already_are_told_as_done(tmp_path: Path) -> None:
    calls: list[list[str]] = []
    told: list[tuple[int, int]] = []
    embedder = CallableEmbedder(lambda texts: (calls.append(texts), flat(texts))[1], model="counted")
    with vs.open(tmp_path / "kb", embedder=embedder) as store:
        store.concepts.add([{"id": "a", "name": "same"}])
        calls.clear()
        store.concepts.add([{"id": "b", "name": "same"}], progress=lambda *pair: told.append(pair))
        assert told[-1] == (1, 1) and not any("same" in text for batch in calls for text in batch)
        assert np.array_equal(*store.concepts.vectors(["a", "b"]))


def test_a_space_that_another_writer_has_made_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    others: list[vs.Store] = []

    def function(texts: list[str]) -> Any:
        if others:
            others.pop().concepts.add({"id": "theirs", "name": "theirs"})
        return flat(texts)

    embedder = CallableEmbedder(function, model="one")
    with vs.open(tmp_path / "kb", embedder=embedder) as store, vs.open(tmp_path / "kb", embedder=embedder) as other:
        assert embedder.identity.dim == 3
        others.append(other)
        store.concepts.add({"id": "mine", "name": "mine"})
        assert sorted(each.id for each in store.concepts) == ["mine", "theirs"]
        assert {hit.id for hit in store.concepts.search("mine", k=5)} == {"mine", "theirs"}
        assert store.check().findings == ()


# -- fits --------------------------------------------------------------------------------------------------------------


def test_a_fit_without_rows_or_with_an_impossible_number_is_refused() -> None:
    rows, recipe = np.eye(4, dtype=np.float32), ClusterRecipe.from_dict({"name": "r", "method": "kmeans"})
    with pytest.raises(vs.ValidationError, match="there are no vectors to cluster"):
        clusters.fit(rows[:0], recipe, 2, 0)
    for wanted in (0, True, 2.5):
        with pytest.raises(vs.ValidationError, match=f"n: expected a whole number of at least 1, got {wanted}"):
            clusters.fit(rows, recipe, wanted, 0)  # type: ignore[arg-type]


def test_groups_that_nothing_is_nearest_to_are_told() -> None:
    from vectorstore.clusters import fitting

    recipe = ClusterRecipe.from_dict({"name": "r", "method": "kmeans"})
    rows = np.repeat(np.eye(2, dtype=np.float32), 20, axis=0) + np.linspace(0, 0.01, 40, dtype=np.float32)[:, None]
    with pytest.MonkeyPatch.context() as patch:
        far = np.array([[1, 0], [0, 1], [-90, -90]], np.float32)
        patch.setattr(fitting, "_partition", lambda rows, *given: (fitting.nearest(rows, far), far, "none"))
        found = clusters.fit(rows, recipe, 3, 0)
    assert found.note == "3 clusters were asked for; 1 of them were left without rows"
    assert len(found.rule.centroids) == 2 and np.bincount(found.labels).tolist() == [20, 20]


@pytest.mark.parametrize("components", [0, 2, 8])
def test_groups_are_found_in_as_many_dimensions_as_there_are(components: int) -> None:
    options = {"min_size": 5, "components": components}
    recipe = ClusterRecipe.from_dict({"name": "r", "method": "hdbscan", "options": options})
    rows = np.repeat(np.eye(2, 3, dtype=np.float32), 10, axis=0)
    rows += np.random.default_rng(0).normal(scale=0.01, size=rows.shape).astype(np.float32)
    found = clusters.fit(rows, recipe, None, 0)
    assert found.labels.tolist() in ([0] * 10 + [1] * 10, [1] * 10 + [0] * 10)


def test_one_row_is_one_group() -> None:
    recipe = ClusterRecipe.from_dict({"name": "r", "method": "agglomerative"})
    found = clusters.fit(np.eye(1, 3, dtype=np.float32), recipe, None, 0)
    assert found.labels.tolist() == [0] and found.rule.centroids.tolist() == [[1, 0, 0]] and found.note == ""
