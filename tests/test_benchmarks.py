"""Claims about the benchmark: it runs by itself, and what it writes can be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import report
from benchmarks.dataset import BASE_FILE, BUCKETS, QUERIES_FILE, load_source, prepare, recall, unit

ROOT = Path(__file__).parents[1]
STAGES = {
    "add",
    "add_published",
    "data",
    "disk",
    "filters",
    "index",
    "many",
    "memory",
    "open",
    "search",
    "text",
    "upkeep",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set of the benchmark's own form: 800 rows around 40 centres, 60 queries beside them."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(7)
    centres = random.standard_normal((40, 32))
    base = unit(centres[random.integers(0, 40, 800)] + 0.4 * random.standard_normal((800, 32)))
    queries = unit(centres[random.integers(0, 40, 60)] + 0.4 * random.standard_normal((60, 32)))
    np.save(folder / BASE_FILE, base.astype(np.float16))
    np.savez(folder / QUERIES_FILE, queries=queries)
    return folder


@pytest.fixture(scope="module")
def out(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run of 500 records."""
    folder = tmp_path_factory.mktemp("results")
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "lifecycle.py"),
        "--sizes",
        "500",
        "--no-hnsw",
        "--repeats",
        "1",
    ]
    done = subprocess.run(
        [*command, "--data", str(data), "--out", str(folder), "--work", str(folder)],
        env={**os.environ, "MPLCONFIGDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def results(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "lifecycle.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.slow
def test_a_run_measures_every_stage(results: dict[str, Any]) -> None:
    assert set(results["sizes"]) == {"500"}
    assert set(results["sizes"]["500"]) == STAGES


@pytest.mark.slow
def test_a_run_says_where_and_on_what_it_was_made(results: dict[str, Any]) -> None:
    about = results["about"]

    assert {"date", "cpu", "cores", "python", "versions", "data", "seed"} <= set(about)
    assert about["data_rows"] == 800


@pytest.mark.slow
def test_below_the_size_of_publishing_every_answer_is_exact(results: dict[str, Any]) -> None:
    found = results["sizes"]["500"]

    assert found["search"]["plan"]["name"] == "exact"
    assert found["search"]["store"]["recall"] == 1.0
    assert {found["filters"][name]["recall"] for name in BUCKETS} == {1.0}


@pytest.mark.slow
def test_a_store_is_sound_before_and_after_its_upkeep(results: dict[str, Any]) -> None:
    assert results["sizes"]["500"]["upkeep"]["findings"] == 0


@pytest.mark.slow
def test_every_target_stands_in_the_table(out: Path, results: dict[str, Any]) -> None:
    table = (out / "lifecycle.md").read_text(encoding="utf-8")

    assert [one.name for one in report.targets(results) if one.name not in table] == []
    assert report.table(results) == table


@pytest.mark.slow
def test_the_picture_is_a_png(out: Path) -> None:
    assert (out / "lifecycle.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.slow
def test_a_run_leaves_no_store_behind(out: Path, results: dict[str, Any]) -> None:
    left = {path.name for path in out.iterdir() if path.name.startswith("lifecycle")}

    assert left == {"lifecycle.json", "lifecycle.md", "lifecycle.png"}


def test_the_exact_answers_have_recall_one_and_others_less(data: Path, tmp_path: Path) -> None:
    found = prepare(load_source(data, None, 60, 500, print), 500, tmp_path)
    base, queries = np.load(tmp_path / "base.npy"), np.load(tmp_path / "queries.npy")
    kth = np.load(tmp_path / "truth.npz")["all"]
    order = np.argsort(-(queries @ base.T), axis=1, kind="stable")

    assert found["matching"] | {"topic": 0} == {
        "share-50": 250,
        "share-10": 50,
        "share-1": 5,
        "share-0.1": 1,
        "topic": 0,
    }
    assert recall(base, queries, kth, order[:, :10].tolist(), 500) == 1.0
    assert recall(base, queries, kth, order[:, 5:15].tolist(), 500) == 0.5


def test_beyond_the_data_rows_are_perturbed_copies(data: Path, tmp_path: Path) -> None:
    prepare(load_source(data, None, 60, 1000, print), 1000, tmp_path)
    base = np.load(tmp_path / "base.npy")
    nearness = np.einsum("ij,ij->i", base[:200], base[800:])
    ids = [json.loads(line)["id"] for line in (tmp_path / "concepts.jsonl").open(encoding="utf-8")]

    assert np.allclose(np.linalg.norm(base, axis=1), 1.0, atol=1e-5)
    assert nearness.min() > 0.85
    assert nearness.max() < 1.0
    assert len(set(ids)) == 1000
