"""Re-ranking by a function and by a cross-encoder, which is a tiny one with random weights, made on the spot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Clock

import vectorstore as vs


def by_number(query: Any, records: Sequence[vs.Concept]) -> list[float]:
    return [float(record.extra["number"]) for record in records]  # type: ignore[arg-type]


@pytest.fixture
def hundred(store: vs.Store) -> vs.Store:
    store.concepts.add(
        [
            {
                "id": f"c{n}",
                "name": f"king {n}",
                "domain": f"d{n % 2}",
                "number": (n * 37) % 10,
                "definition": "word " * (n % 7),
            }
            for n in range(100)
        ]
    )
    return store


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
@pytest.mark.parametrize(("k", "depth"), [(5, 30), (30, 5), (100, 100), (3, 1)])
def test_the_order_is_what_the_function_says(hundred: vs.Store, mode: Any, k: int, depth: int) -> None:
    plain = hundred.concepts.search("king word", k=max(k, depth), mode=mode)
    order = sorted(plain, key=lambda hit: (-hit.record.extra["number"], hit.rank))[:k]  # type: ignore[operator]
    hits = hundred.concepts.search("king word", k=k, mode=mode, rerank=by_number, rerank_depth=depth)

    assert hits.ids == [hit.id for hit in order]
    assert [hit.rank for hit in hits] == list(range(len(hits)))
    for hit, before in zip(hits, order, strict=True):
        assert hit.score == hit.record.extra["number"] and hit.parts == {"rerank": hit.score}
        assert hit.former is not None and hit.former.rank == before.rank
        assert hit.former.score == pytest.approx(before.score, abs=1e-12)
        assert hit.former.parts == before.parts and hit.distance == before.distance
    assert hits.metric == "rerank" and plain.metric != "rerank"
    assert plain[0].former is None


def test_ties_keep_the_former_order(hundred: vs.Store) -> None:
    plain = hundred.concepts.search("king 7", k=50)
    same = hundred.concepts.search("king 7", k=50, rerank=lambda query, records: [1] * len(records))
    assert same.ids == plain.ids


def test_the_function_gets_the_query_and_only_what_the_filter_allows(hundred: vs.Store) -> None:
    asked: list[Any] = []

    def judge(query: Any, records: Sequence[vs.Concept]) -> list[float]:
        asked.append((query, [record.id for record in records]))
        return [0.0] * len(records)

    hundred.concepts.search("king 7", k=3, where={"domain": "d1"}, rerank=judge, rerank_depth=20)
    hundred.concepts.search(vs.Id("c7"), k=3, rerank=judge, rerank_depth=20)
    assert asked[0][0] == "king 7" and len(asked[0][1]) == 20
    assert all(int(name[1:]) % 2 for name in asked[0][1])
    assert asked[1][0] == hundred.concepts.get("c7") and "c7" not in asked[1][1]
    assert list(hundred.concepts.search("king", where={"domain": "d9"}, rerank=judge)) == []
    assert len(asked) == 2, "nothing to judge, nobody asked"


def test_decay_comes_before_the_judge(hundred: vs.Store, clock: Clock) -> None:
    clock.move(days=100)
    hundred.concepts.add([{"id": f"new{n}", "name": f"king {n}", "number": n} for n in range(3)])
    decay = vs.Decay(half_life=timedelta(days=10))
    hits = hundred.concepts.search("king 50", k=3, decay=decay, rerank=by_number, rerank_depth=3)
    assert hits.ids == ["new2", "new1", "new0"]
    assert hits[0].former is not None and set(hits[0].former.parts) == {"vector", "decay"}


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (lambda query, records: [1.0], "expected 50 numbers, one a record, got 1"),
        (lambda query, records: [1.0] * 51, "expected 50 numbers, one a record, got 51"),
        (lambda query, records: [float("nan")] * 50, r"expected finite numbers, got nan for records\[0\] \('"),
        (lambda query, records: [0.0] * 49 + [float("inf")], r"got inf for records\[49\]"),
        (lambda query, records: None, "expected a sequence of numbers"),
        (lambda query, records: ["good"] * 50, "expected a sequence of numbers"),
        ("ms-marco", "rerank: expected a function"),
    ],
)
def test_a_judge_that_misbehaves_is_named(hundred: vs.Store, judge: Any, message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        hundred.concepts.search("king", rerank=judge)


@pytest.mark.parametrize("depth", [0, -1, 2.5, True, "3", 10**6])
def test_a_bad_depth_is_refused(store: vs.Store, depth: Any) -> None:
    with pytest.raises(vs.ValidationError, match="rerank_depth: expected"):
        store.concepts.search("king", rerank=by_number, rerank_depth=depth)


def test_an_error_of_the_function_comes_through_and_leaves_the_store_usable(hundred: vs.Store) -> None:
    def broken(query: Any, records: Any) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        hundred.concepts.search("king", rerank=broken)
    hundred.concepts.add({"name": "after"})
    assert hundred.concepts.search("after", k=1).ids == ["default:after"]


# -- cross-encoders ----------------------------------------------------------------------------------------------------


def make_model(folder: Path, labels: int = 1) -> Path:
    """A BERT of two tiny layers with a vocabulary of letters and some words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    torch.manual_seed(7)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789:,.")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "king",
        "word",
        *letters,
        *("##" + letter for letter in letters),
    ]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words))
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        num_labels=labels,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def test_a_cross_encoder_orders_by_its_own_scores(hundred: vs.Store, model: Path) -> None:
    from sentence_transformers import CrossEncoder

    judge = vs.CrossEncoder(model, batch_size=7)
    plain = hundred.concepts.search("king 7", k=20)
    texts = [hit.record.embedding_text() for hit in plain]
    truth = CrossEncoder(str(model)).predict([("king 7", text) for text in texts], show_progress_bar=False)
    hits = hundred.concepts.search("king 7", k=20, rerank=judge, rerank_depth=20)

    assert len(set(truth.round(6).tolist())) > 10, "the model tells the texts apart"
    scores = {hit.id: hit.score for hit in hits}
    assert [scores[hit.id] for hit in plain] == pytest.approx(truth.tolist(), abs=1e-5)
    assert [hit.score for hit in hits] == sorted(scores.values(), reverse=True)
    assert hits.ids != plain.ids
    assert judge.scores("king 7", texts) == pytest.approx(truth.tolist(), abs=1e-5)
    assert judge.scores("king 7", []) == []


def test_a_record_may_ask_a_cross_encoder_and_a_vector_may_not(hundred: vs.Store, model: Path) -> None:
    judge = vs.CrossEncoder(str(model))
    record = hundred.concepts.get("c7")
    by_id = hundred.concepts.search(vs.Id("c7"), k=9, rerank=judge)
    assert by_id.ids == hundred.concepts.search(record, k=9, rerank=judge).ids
    assert by_id[0].score == pytest.approx(
        judge.scores(record.embedding_text(), [by_id[0].record.embedding_text()])[0], abs=1e-6
    )
    with pytest.raises(vs.ValidationError, match="expected a text or a record as the query, got ndarray"):
        hundred.concepts.search(hundred.concepts.vectors(["c7"])[0], rerank=judge)


def test_a_model_that_gives_more_than_one_number_is_refused(tmp_path: Path, hundred: vs.Store) -> None:
    judge = vs.CrossEncoder(make_model(tmp_path / "three", labels=3))
    with pytest.raises(vs.EmbedderError, match="expected one number a pair, the model gives 3"):
        hundred.concepts.search("king", rerank=judge)


def test_a_folder_without_a_model_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(vs.EmbedderError, match="cannot load the cross-encoder .*empty"):
        vs.CrossEncoder(tmp_path / "empty").scores("a", ["b"])


@pytest.mark.parametrize("arguments", [{"model": ""}, {"model": 3}, {"model": "x", "batch_size": 0}])
def test_bad_arguments_of_a_cross_encoder_are_refused(arguments: Any) -> None:
    with pytest.raises(vs.ValidationError, match="CrossEncoder"):
        vs.CrossEncoder(**arguments)


def test_torch_comes_with_the_first_pair_only(tmp_path: Path) -> None:
    code = (
        "import sys, vectorstore as vs\n"
        "judge = vs.CrossEncoder('nowhere')\n"
        "store = vs.open(':memory:', embedder='hash')\n"
        "store.concepts.add({'name': 'king'})\n"
        "store.concepts.search('king', rerank=lambda query, records: [1.0] * len(records))\n"
        "assert not {'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
