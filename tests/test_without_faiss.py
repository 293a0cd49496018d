"""Claims about a machine without FAISS: the same answers, exactly, and a plain word about what is missing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import clustered, queries_like

import vectorstore as vs
from vectorstore.vectors import native
from vectorstore.vectors.exact import closeness, prepare, slack
from vectorstore.vectors.segments import Segment

HERE = Path(__file__).parent
HIDDEN = HERE / "without_faiss"
QUERIES = 12
# They come to an index by other ways than `rebuild`, so another error is theirs.
OTHER_WAYS = (
    "test_search.py::test_background_publishing_happens_and_changes_no_answer",
    "test_recipes.py::test_the_rebuild_script_prints_before_and_after",
    "test_recipes.py::test_measuring_leaves_the_store_alone_and_gives_a_row_for_each_recipe",
    "test_recipes.py::test_measuring_is_taken_up_where_it_was_broken_off",
)


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A Python process that cannot import FAISS, nor can its children."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(HIDDEN)},
        cwd=HERE.parent,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("file", "fewest"),
    [
        ("search", 60),
        pytest.param("where", 40, marks=pytest.mark.slow),
        pytest.param("recipes", 12, marks=pytest.mark.slow),
        pytest.param("collection", 60, marks=pytest.mark.slow),
        pytest.param("oracle", 1, marks=pytest.mark.slow),
    ],
)
def test_the_suite_passes_without_faiss(file: str, fewest: int) -> None:
    """Tests that need an index fail by LibraryMissing alone (see `without_faiss/hidden.py`); all others pass."""
    done = python(
        *("-m", "pytest", "-q", "-p", "hidden", "-p", "no:cacheprovider", "-m", "not slow", f"tests/test_{file}.py"),
        *(part for name in OTHER_WAYS for part in ("--deselect", f"tests/{name}")),
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= fewest, done.stdout[-500:]


SEARCHES = """
import json, logging, sys
import numpy as np
import vectorstore as vs

logging.basicConfig(level=logging.WARNING, format="%(message)s")
path, queries = sys.argv[1], np.load(sys.argv[2])
answers = []
with vs.open(path, read_only=True) as store:
    for where in (None, {"domain": "even"}):
        for query in queries:
            answers.append(store.concepts.search(query, 10, where=where))
        answers += store.concepts.search_many(queries, 10, where=where)
    for hits in answers:
        print(json.dumps([hits.ids, [hit.score.hex() for hit in hits], hits.exact, hits.plan.reason]))
assert "faiss" not in sys.modules
"""


def indexed_store(path: Path, metric: str) -> np.ndarray:
    """Some vectors in an index, some newer, some waiting, some deleted; returns queries."""
    data = clustered(3_400, 48, seed=3)
    data[700:720] = data[700]  # ties
    ids = [f"c{place}" for place in range(len(data))]
    with vs.open(path, embedder=None, metric={"concepts": metric}, auto_publish=False) as store:

        def add(places: range) -> None:
            records = [vs.Concept(id=ids[p], name=ids[p], domain="even" if p % 2 == 0 else "odd") for p in places]
            store.concepts.add(records, vectors=data[places.start : places.stop])

        add(range(2_000))
        store.rebuild("concepts", "simhash512" if metric == "cosine" else "rabitq")
        add(range(2_000, 3_300))
        add(range(3_300, 3_400))
        store.concepts.delete(ids[100:1_400:13])
    return np.concatenate([queries_like(data, QUERIES - 1, seed=5), data[705:706]])


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_a_store_written_with_an_index_answers_the_same_without_faiss(tmp_path: Path, metric: str) -> None:
    queries = indexed_store(tmp_path / "kb", metric)
    np.save(tmp_path / "queries.npy", queries)
    with vs.open(tmp_path / "kb", read_only=True) as store:
        expected = []
        for where in (None, {"domain": "even"}):
            expected += [store.concepts.search(query, 10, where=where, exact=True) for query in queries] * 2

    done = python("-c", SEARCHES, tmp_path / "kb", tmp_path / "queries.npy")

    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(expected) == 4 * QUERIES
    for (ids, scores, exact, reason), hits in zip(answers, expected, strict=True):
        assert ids == hits.ids
        assert scores == [hit.score.hex() for hit in hits]
        assert exact and "cannot be used" in reason and "pip install faiss-cpu" in reason
    assert done.stderr.count("concepts: the index cannot be used") == 1
    assert "pip install faiss-cpu" in done.stderr and "run: vectorstore rebuild" not in done.stderr


UPKEEP = """
import sys
import numpy as np
import vectorstore as vs

path = sys.argv[1]
with vs.open(path, embedder=None) as store:  # publishes in the background
    vectors = np.random.default_rng(7).standard_normal((12_000, 48)).astype(np.float32)
    store.concepts.add([{"name": f"later {row}"} for row in range(12_000)], vectors=vectors)
    store.publish()
    for ask in (
        lambda: store.rebuild("concepts"),
        lambda: store.rebuild("concepts", "rabitq"),
        lambda: store.publish("concepts"),
    ):
        try:
            ask()
        except vs.LibraryMissing as error:
            assert "pip install faiss-cpu" in str(error), error
        else:
            raise AssertionError("an index was built without FAISS")
    (finding,) = store.check().findings
    assert finding.layer == "index" and "pip install faiss-cpu" in finding.what, finding
    assert store.repair(dry_run=False).actions == ()
    found = store.concepts.search(vectors[5], 1)
    assert found.exact and found[0].record.name == "later 5"
print("done")
"""


def test_without_faiss_nothing_is_published_and_the_index_is_kept_for_those_who_have_it(tmp_path: Path) -> None:
    queries = indexed_store(tmp_path / "kb", "cosine")
    (index,) = (tmp_path / "kb" / "indexes").rglob("*.faiss")

    done = python("-c", UPKEEP, tmp_path / "kb")

    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert "publishing an index in the background" not in done.stderr
    assert index.exists()
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        assert store.check().findings == ()
        store.rebuild("concepts")
        assert store.concepts.search(queries[0], recall=0.5).plan.name == "index"


def test_the_command_line_says_what_to_install(tmp_path: Path) -> None:
    indexed_store(tmp_path / "kb", "cosine")

    done = python("-m", "vectorstore.cli", "rebuild", tmp_path / "kb", "concepts")
    exact = python("-m", "vectorstore.cli", "rebuild", tmp_path / "kb", "concepts", "exact")

    assert done.returncode not in (0, 1) and "pip install faiss-cpu" in done.stderr and "Traceback" not in done.stderr
    assert exact.returncode == 0, exact.stderr


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("chosen", [False, True])
def test_numpy_s_closeness_errs_by_less_than_the_slack(
    metric: str, chosen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than one block holds, long and short ones, far from the origin."""
    random = np.random.default_rng(11)
    data = (clustered(9_000, 64, seed=11) * random.choice([0.01, 1, 300], (9_000, 1)) + 5).astype(np.float32)
    segment = Segment(0, data, np.linalg.norm(data.astype(np.float64), axis=1).astype(np.float32), 1, None)
    rows = np.sort(random.choice(9_000, 7_000, replace=False)) if chosen else None
    monkeypatch.setattr(native, "_engine", lambda: native._Engine(None, 1, "hidden"))
    query = prepare(data[4_000] + np.float32(0.25), metric)

    values = closeness(query, segment, metric, rows)

    wide, point = data.astype(np.float64), query.astype(np.float64)
    true = -np.square(wide - point).sum(axis=1) if metric == "l2" else wide @ point
    if metric == "cosine":
        true /= np.linalg.norm(wide, axis=1)
    margin = slack(query, metric, float(segment.norms.max()), 64)
    # The slack is for two values, each with its own error.
    assert np.abs(values - (true if rows is None else true[rows])).max() <= margin / 2
