"""Claims about benchmarks/embedding.py: it reads judged sets as they are, judges them rightly, and runs by itself."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import embedding

DOCUMENTS = {
    "d1": ("King", "A male monarch who rules a kingdom."),
    "d2": ("", "A loan that is secured by a house."),
    "d3": ("Photosynthesis", "How plants make sugar out of sunlight."),
    "d4": ("Carburettor", "Mixes air with petrol in an engine."),
}
QUERIES = {"q1": "borrowing money to buy a home", "q2": "leaves in the sun", "q3": "never judged"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A judged set in the form of BEIR."""
    made = tmp_path / "tiny"
    (made / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": name, "title": title, "text": text}) for name, (title, text) in DOCUMENTS.items()]
    (made / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    queries = [json.dumps({"_id": name, "text": text}) for name, text in QUERIES.items()]
    (made / "queries.jsonl").write_text("\n".join(queries) + "\n")
    (made / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td2\t1\nq2\td3\t1\nq2\td1\t0\n")
    return made


@pytest.mark.parametrize("packed", [False, True])
def test_a_judged_set_is_read_as_titles_texts_and_judged_queries(folder: Path, packed: bool) -> None:
    if packed:
        plain = folder / "corpus.jsonl"
        (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()

    documents, queries, judged = embedding.judged_set(folder)

    assert list(documents) == ["d1", "d2", "d3", "d4"]
    assert documents["d1"] == "King A male monarch who rules a kingdom."
    assert documents["d2"] == "A loan that is secured by a house."
    assert set(queries) == {"q1", "q2"}
    assert judged == {"q1": {"d2": 1}, "q2": {"d3": 1, "d1": 0}}


def test_a_relevant_document_in_second_place_counts_by_its_discount() -> None:
    rows = np.eye(3, dtype=np.float32)
    points = np.array([[0.9, 0.5, 0], [0, 0, 1]], dtype=np.float32)

    found = embedding.judge(["a", "b", "c"], rows, ["q", "r"], points, {"q": {"b": 1}, "r": {"c": 1}})

    assert found["ndcg_10"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    assert found["recall_100"] == 1.0


def test_texts_to_time_are_short_long_and_the_caller_s(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("one\ntwo\n")

    kinds = embedding.speed_texts(tmp_path / "mine.txt")

    assert {kind: len(texts) for kind, texts in kinds.items()} == {"short": 320, "long": 32, "given": 2}
    assert {len(text.split()) for text in kinds["long"]} == {embedding.LONG_WORDS}
    assert 8 < np.mean([len(text.split()) for text in kinds["short"]]) < 20


@pytest.mark.slow
def test_a_run_measures_speed_agreement_and_what_is_found(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["--set", str(folder), "--threads", "1", "--rounds", "1", "--out", str(out)]

    embedding.main([*command, "--options", "bfloat16,ONNX float32", "--parts", "quality"])
    embedding.main([*command, "--options", "bfloat16", "--parts", "speed"])

    results = json.loads((out / "embedding.json").read_text())
    assert (out / "embedding.md").read_text() == embedding.table(results)
    judged = results["quality"]["sets"]["tiny"]["options"]
    assert judged["float32"]["ndcg_10"] == judged["bfloat16"]["ndcg_10"] == 1.0
    assert results["quality"]["agreement"]["tiny"]["bfloat16"]["least"] > 0.9999
    assert {"float32", "bfloat16"} == set(results["speed"]["1"]["options"])
    assert results["speed"]["1"]["options"]["float32"]["short"]["texts_s"] > 1
    if find_spec("onnxruntime") is None:
        assert "ONNX float32 did not run: ModuleNotFoundError" in embedding.table(results)
