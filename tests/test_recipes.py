"""Claims about indexes/: each recipe loads, builds, keeps its promise, and never makes a filtered answer short."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import vectorstore as vs
from indexes import measure, rebuild
from vectorstore.recipes import BUILTIN_RECIPES, IndexRecipe, load_recipe
from vectorstore.sync.publish import snapshot
from vectorstore.vectors import Segment, build
from vectorstore.vectors.measure import truth

FOLDER = Path(__file__).parent.parent / "indexes"
RECIPES = sorted(FOLDER.glob("*.toml"))
SCIFACT = Path(__file__).parent / "data" / "scifact" / "vectors.npz"
ROWS, DIM, K, QUERIES = 3000, 32, 10, 60


@functools.cache
def clustered(count: int, seed: int) -> measure.Matrix:
    """(count, DIM) points around 40 centres that are the same for every seed."""
    centres = np.random.default_rng(0).standard_normal((40, DIM))
    random = np.random.default_rng(seed)
    points = centres[random.integers(0, 40, count)] + 0.6 * random.standard_normal((count, DIM))
    return points.astype(np.float32)


def fill(store: vs.Store, rows: int = ROWS) -> None:
    records = [
        {"id": f"{number:04}", "name": str(number), "tags": [f"below-{share}" for share in (50, 10, 1, 0.1) if number % 1000 < share * 10]}
        for number in range(rows)
    ]  # fmt: skip
    store.concepts.add(records, vectors=clustered(rows, 1))


@pytest.fixture(scope="module", params=["cosine", "l2"])
def store(request: pytest.FixtureRequest) -> Iterator[vs.Store]:
    with vs.open(":memory:", embedder=None, metric=request.param, auto_publish=False) as opened:
        fill(opened)
        yield opened


@pytest.fixture(scope="module", params=RECIPES, ids=lambda path: path.stem)
def built(store: vs.Store, request: pytest.FixtureRequest) -> tuple[vs.Store, vs.RebuildReport]:
    """The store with an index by each recipe, measured under filters too, however few rows there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vectorstore.vectors.allowed.EXACT_FILTER_NUMBERS", 0)
        report = store.rebuild("concepts", request.param)
    assert report.after.recipe == request.param.stem
    return store, report


def brute_force(query: measure.Matrix, metric: str, allowed: measure.Matrix | None = None) -> list[str]:
    """Ids of the K nearest rows, nearest first, in float64."""
    rows = clustered(ROWS, 1).astype(np.float64)
    wanted = query.astype(np.float64)
    if metric == "cosine":
        nearness = rows @ wanted / np.linalg.norm(rows, axis=1) / np.linalg.norm(wanted)
    else:
        nearness = -np.square(rows - wanted).sum(axis=1)
    if allowed is not None:
        nearness[~allowed.astype(bool)] = -np.inf
    order = np.argsort(-nearness, kind="stable")[:K]
    return [f"{number:04}" for number in order if np.isfinite(nearness[number])]


def test_the_folder_holds_the_recipes_that_are_measured() -> None:
    assert {path.stem for path in RECIPES} == set(measure.RECIPES)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_file_loads_says_when_to_use_it_and_is_named_like_its_recipe(path: Path) -> None:
    recipe = load_recipe(path)

    assert recipe.name == path.stem
    assert recipe.when
    assert "When to use it" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BUILTIN_RECIPES)
def test_files_of_built_in_recipes_are_equal_to_the_code(name: str) -> None:
    assert load_recipe(FOLDER / f"{name}.toml") == BUILTIN_RECIPES[name]


def test_a_recipe_keeps_its_promise_and_ranks_like_brute_force(built: tuple[vs.Store, vs.RebuildReport]) -> None:
    store, _ = built
    metric = store.concepts.metric
    queries = clustered(QUERIES, 2)

    shares, promises = [], []
    for query in queries:
        hits = store.concepts.search(query, K, recall=0.95)
        expected = brute_force(query, metric)
        found = [name for name in hits.ids if name in expected]
        assert found == [name for name in expected if name in found]
        assert store.concepts.search(query, K, exact=True).ids == expected
        shares.append(len(found) / K)
        promises.append(hits.recall_promised)

    assert min(promises) >= 0.95
    # Three standard errors of the mean of QUERIES shares: a promise is about the mean over queries.
    assert np.mean(shares) >= min(promises) - 3 * np.std(shares) / np.sqrt(QUERIES)


@pytest.fixture(scope="module")
def abstracts() -> Iterator[tuple[vs.Store, measure.Matrix, list[set[str]]]]:
    """A store of 3,000 of SciFact's abstracts, its claims, and the ids of the K abstracts nearest to each."""
    with np.load(SCIFACT) as archive:
        documents, claims = archive["documents"][:3000].astype(np.float32), archive["queries"].astype(np.float32)
    with vs.open(":memory:", embedder=None, auto_publish=False) as opened:
        opened.concepts.add([{"id": str(place), "name": "x"} for place in range(len(documents))], vectors=documents)
        nearness = claims @ (documents / np.linalg.norm(documents, axis=1, keepdims=True)).T
        nearest = np.argsort(-nearness, axis=1)[:, :K]
        yield opened, claims, [{str(place) for place in row} for row in nearest]


@pytest.mark.parametrize(
    "path",
    [path for path in RECIPES if path.stem not in ("hnsw32-sq8", "hnsw32-rabitq")],  # as hnsw32, and slow to measure
    ids=lambda path: path.stem,
)
def test_real_queries_get_what_they_ask_for(
    abstracts: tuple[vs.Store, measure.Matrix, list[set[str]]], path: Path
) -> None:
    """Claims are sentences, abstracts are not: the queries lie off the data, as real ones do (docs/adr/0006)."""
    store, claims, expected = abstracts
    store.rebuild("concepts", path)

    for asked in (0.9, 0.95, 0.99):
        answers = store.concepts.search_many(claims, K, recall=asked)
        shares = [len(set(hits.ids) & wanted) / K for hits, wanted in zip(answers, expected, strict=True)]
        error = np.std(shares) / np.sqrt(len(shares))
        assert answers[0].recall_promised >= asked
        assert np.mean(shares) >= asked - error, (asked, answers[0].plan.reason)


def test_an_index_is_really_used(built: tuple[vs.Store, vs.RebuildReport]) -> None:
    """With little recall asked for, the cheapest point is far below an exact scan."""
    store, report = built

    hits = store.concepts.search(clustered(1, 3)[0], K, recall=0.1)

    assert hits.plan.name == ("exact" if report.after.recipe == "exact" else "index")
    assert hits.plan.scanned == ROWS if hits.plan.name == "exact" else 0 < hits.plan.scanned < ROWS / 4


def test_a_filtered_search_is_never_short_and_keeps_its_recall(
    built: tuple[vs.Store, vs.RebuildReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every recall and selectivity, also when the rows that match are not few enough to be scanned."""
    monkeypatch.setattr("vectorstore.vectors.allowed.EXACT_FILTER_NUMBERS", 0)
    monkeypatch.setattr("vectorstore.vectors.allowed.DEAR", 0.001)
    store, report = built
    recipe = report.after.recipe
    plans = set()

    for share in (50, 10, 1, 0.1):
        where = {"tags__has": f"below-{share}"}
        allowed = np.arange(ROWS) % 1000 < share * 10
        matching = round(ROWS * share / 100)
        shares = []
        for query in clustered(30, 4):
            expected = brute_force(query, store.concepts.metric, allowed)
            for recall in (0.1, 0.95, 1.0):
                hits = store.concepts.search(query, K, where, recall=recall)
                assert len(set(hits.ids)) == len(hits) == min(K, matching)
                assert all(allowed[int(name)] for name in hits.ids)
                assert hits.recall_promised >= recall
                plans.add(hits.plan.name)
                if recall == 0.95:
                    shares.append(len(set(hits.ids) & set(expected)) / len(expected))
            assert hits.ids == expected
        assert np.mean(shares) >= 0.95 - 2 * np.std(shares) / np.sqrt(len(shares)), share
        assert len(store.concepts.search(clustered(1, 5)[0], 100, where)) == min(100, matching)

    through_index = recipe not in ("exact", "panorama") and not recipe.startswith("ivf")
    assert ("index + filter" in plans) >= through_index


def test_a_filter_that_would_make_an_index_propose_too_much_is_scored_exactly(
    store: vs.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index that cannot be restricted proposes ten rows for one that a filter of a tenth lets through."""
    monkeypatch.setattr("vectorstore.vectors.allowed.EXACT_FILTER_NUMBERS", 0)
    recipe = vs.IndexRecipe("flat-rabitq", "RaBitQ", ({"candidates": 20},), min_recall=0)
    store.rebuild("concepts", recipe)
    query = clustered(1, 3)[0]

    for share, name in ((50, "index + filter"), (10, "filtered exact")):
        where = {"tags__has": f"below-{share}"}
        hits, (batched, _) = (
            store.concepts.search(query, K, where, recall=0.1),
            store.concepts.search_many([query, query], K, where, recall=0.1),
        )
        assert hits.plan.name == batched.plan.name == name, hits.plan
        assert hits.ids == batched.ids


def test_an_index_survives_reopening(tmp_path: Path) -> None:
    """What was serialised is what is loaded: the second handle proposes the same candidates."""
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        fill(store, 1000)
    for path in RECIPES:
        with vs.open(tmp_path / "kb", auto_publish=False) as store:
            store.rebuild("concepts", path)
            before = store.concepts.search(clustered(1, 6)[0], K, recall=0.1)
        with vs.open(tmp_path / "kb") as store:
            after = store.concepts.search(clustered(1, 6)[0], K, recall=0.1)

            assert (after.ids, after.plan) == (before.ids, before.plan), path.stem
            assert store.check().findings == ()


def test_an_unknown_key_is_an_error_that_names_the_allowed_ones(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('name = "bad"\nfactory = "exact"\nefSearch = 3\n')

    with pytest.raises(vs.RecipeError) as raised:
        load_recipe(tmp_path / "bad.toml")

    assert "unknown key 'efSearch'" in str(raised.value)
    assert "construction, factory, min_recall, name, points, train_rows, when" in str(raised.value)


@pytest.mark.parametrize("factory", ["HNSW8,Flat", "PCA16,HNSW8,SQ8"])
def test_construction_is_applied_kept_with_the_index_and_comes_back(tmp_path: Path, factory: str) -> None:
    recipe = IndexRecipe("graph", factory, ({"efSearch": 64, "candidates": 20},), construction=77, min_recall=0.0)
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        fill(store)
        store.rebuild("concepts", recipe)
    with vs.open(tmp_path / "kb", auto_publish=False) as store:
        index = snapshot(store._sync, "concepts").index

    assert index.recipe == recipe
    assert IndexRecipe.from_dict(recipe.to_dict()) == recipe
    import faiss

    native = index.native if factory.startswith("HNSW") else faiss.downcast_index(index.native.index)
    assert native.hnsw.efConstruction == 77


def test_more_construction_finds_more() -> None:
    """On data without clusters, which are hard to walk: two thousand searches at the same small effort."""
    rows = np.random.default_rng(1).standard_normal((4000, 32)).astype(np.float32)
    segment = Segment(0, rows, np.linalg.norm(rows, axis=1), 0, None)
    queries = np.random.default_rng(2).standard_normal((500, 32)).astype(np.float32)
    expected = truth([segment], queries, "l2", K)
    shares = []
    for effort in (4, 200):
        recipe = IndexRecipe("graph", "HNSW8,Flat", ({"efSearch": 20, "candidates": 10},), construction=effort)
        found = build(recipe, [segment], "l2").candidates(queries, recipe.points[0], K)
        shares.append(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, expected, strict=True)]))

    assert shares[1] > shares[0] + 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"factory": "PQ8x4fs"}, "construction: only graphs (HNSW) have it, 'PQ8x4fs' is none; its keys are: factory, min"),
        ({"factory": "IVF16_HNSW32,Flat"}, "construction: only graphs (HNSW) have it"),
        ({"factory": "exact"}, "construction: only graphs (HNSW) have it"),
        ({"construction": 0}, "construction: expected a whole number of at least 1, got 0"),
        ({"construction": 2.5}, "construction: expected a whole number of at least 1, got 2.5"),
        ({"construction": True}, "construction: expected a whole number of at least 1, got True"),
        ({"construction": "128"}, "construction: expected a whole number of at least 1, got '128'"),
    ],
)  # fmt: skip
def test_construction_belongs_to_graphs_and_is_a_whole_number(given: dict[str, object], message: str) -> None:
    data = {"name": "x", "factory": "HNSW32,Flat", "points": [{"candidates": 20}], "construction": 128, **given}

    with pytest.raises(vs.RecipeError) as raised:
        IndexRecipe.from_dict(data, "bad.toml")

    assert message in str(raised.value)


def test_a_recipe_kept_before_construction_was_a_key_still_loads() -> None:
    kept = {key: value for key, value in BUILTIN_RECIPES["hnsw32"].to_dict().items() if key != "construction"}

    assert IndexRecipe.from_dict(kept).construction is None
    assert "construction" not in IndexRecipe.from_dict(kept).to_dict()


def test_a_recipe_that_faiss_cannot_build_leaves_the_old_index(store: vs.Store) -> None:
    store.rebuild("concepts", "simhash512")

    with pytest.raises(vs.RecipeError, match="FAISS cannot build 'Nonsense9'"):
        store.rebuild("concepts", IndexRecipe("bad", "Nonsense9", ({"candidates": 10},)))

    assert store.stats()["kinds"]["concepts"]["index"]["recipe"] == "simhash512"


def test_a_recipe_below_its_minimum_is_refused_with_both_numbers(store: vs.Store) -> None:
    store.rebuild("concepts", "simhash512")
    weak = IndexRecipe("weak", "IVF256,Flat", ({"nprobe": 1, "candidates": 10},), min_recall=0.999)

    with pytest.raises(vs.RecallTooLow, match=r"0\.999"):
        store.rebuild("concepts", weak)

    assert store.stats()["kinds"]["concepts"]["index"]["recipe"] == "simhash512"


def test_the_rebuild_script_prints_before_and_after(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as opened:
        fill(opened)
    script = [sys.executable, FOLDER / "rebuild.py", tmp_path / "kb", "concepts"]

    table = subprocess.run([*script, FOLDER / "hnsw32.toml"], capture_output=True, text=True, timeout=120)
    report = subprocess.run([*script, "simhash512", "--json"], capture_output=True, text=True, timeout=120)

    assert [line.split()[:2] for line in table.stdout.splitlines()[:3]] == [
        ["recipe", "recall@10"],
        ["before", "exact"],
        ["after", "hnsw32"],
    ]
    found = json.loads(report.stdout)
    assert (found["before"]["recipe"], found["after"]["recipe"]) == ("hnsw32", "simhash512")
    assert found["after"]["bytes"] > 0
    assert "\x1b" not in table.stdout


def test_the_rebuild_script_leaves_with_the_error_s_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with vs.open(tmp_path / "kb", embedder=None):
        pass

    assert rebuild.main([str(tmp_path / "kb"), "concepts", "nonsense"]) == 2
    assert rebuild.main([str(tmp_path / "none"), "concepts", "exact"]) == 5
    assert "no such recipe; use auto, exact, pq-fastscan" in capsys.readouterr().err


def test_the_readme_tables_are_what_was_measured() -> None:
    table = (FOLDER / "README.md").read_text(encoding="utf-8").split(measure.BEGIN)[1].split(measure.END)[0]
    kept = json.loads(measure.MEASURED.read_text(encoding="utf-8"))

    assert table.strip() == "\n\n".join(measure.as_table(entry) for entry in kept.values())
    measured = {row["recipe"] for entry in kept.values() for row in entry["recipes"]}
    assert measured == set(measure.RECIPES)


@pytest.mark.slow
def test_measuring_leaves_the_store_alone_and_gives_a_row_for_each_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as opened:
        fill(opened)
        seq = opened.stats()["seq"]

    assert measure.main([str(tmp_path / "kb"), "--queries", "10", "--dry-run"]) == 0

    shown = capsys.readouterr().out
    assert all(f"| [{name}]" in shown for name in measure.RECIPES)
    assert "**kb, concepts**: 3,000 vectors of 32 dimensions, 10 queries" in shown
    with vs.open(tmp_path / "kb", read_only=True) as opened:
        assert opened.stats()["seq"] == seq


def test_measuring_is_taken_up_where_it_was_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "rows.npy", clustered(1000, 1))
    (tmp_path / "README.md").write_text(f"before\n{measure.BEGIN}\n{measure.END}\nafter\n")
    monkeypatch.setattr(measure, "MEASURED", tmp_path / "measured.json")
    monkeypatch.setattr(measure, "README", tmp_path / "README.md")
    built = []
    one = measure.measure

    def counted(store: vs.Store, recipe: str, *rest: object) -> measure.Measured:
        built.append(recipe)
        return one(store, recipe, *rest)

    monkeypatch.setattr(measure, "measure", counted)

    def run(*more: str) -> list[str]:
        built.clear()
        arguments = [str(tmp_path / "rows.npy"), "--rows", "900", "--queries", "40", "--scratch", str(tmp_path / "kb")]
        assert measure.main([*arguments, *more]) == 0
        return list(built)

    assert run("--recipes", "pq-fastscan") == ["pq-fastscan"]
    first = json.loads((tmp_path / "measured.json").read_text())["rows.npy, concepts"]
    assert run("--recipes", "pq-fastscan", "exact") == ["exact"]
    assert run("--recipes", "pq-fastscan", "--again") == ["pq-fastscan"]
    assert run("--recipes", "exact", "--queries", "50") == ["exact"]  # other queries: nothing of before is comparable

    assert (first["rows"], first["queries"], first["kind_of_queries"]) == (900, 40, "other rows")
    assert first["recipes"][0]["recall"] >= 0.95
    entry = json.loads((tmp_path / "measured.json").read_text())["rows.npy, concepts"]
    assert [row["recipe"] for row in entry["recipes"]] == ["exact"] and entry["recipes"][0]["recall"] == 1.0
    readme = f"before\n{measure.BEGIN}\n{measure.as_table(entry)}\n{measure.END}\nafter\n"
    assert (tmp_path / "README.md").read_text() == readme


def test_an_inverted_file_is_not_trusted_under_a_filter() -> None:
    """Its cells are chosen before the filter is known: with 10 % allowed it delivered 0.887 where 0.95 was asked."""
    data = np.random.default_rng(0).standard_normal((20_000, 80)).astype(np.float32)
    with vs.open(":memory:", embedder=None, auto_publish=False) as store:
        store.concepts.add([{"id": str(n), "name": "x", "domain": f"d{n % 1}"} for n in range(20_000)], vectors=data)
        store.rebuild("concepts", IndexRecipe("ivf", "IVF64,Flat", ({"candidates": 40, "nprobe": 32},), min_recall=0.0))
        hits = store.concepts.search(data[3], recall=0.1, where={"domain": "d0"})

        assert hits.exact and "under a filter was not measured" in hits.plan.reason
        assert store.concepts.search(data[3], recall=0.1).plan.name == "index"
