"""Clusters: what a fit finds, who belongs where, what stays the same, and what happens at the edges."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Matrix
from vectorstore import clusters as engine
from vectorstore.clusters.quality import population_shift
from vectorstore.clusters.recipes import BUILTIN_CLUSTER_RECIPES
from vectorstore.vectors.native import kmeans

RECIPES = Path(__file__).parent.parent / "models" / "cluster"
WORDS = ("lion", "throne", "sergeant", "invoice", "violin", "glacier")


def blobs(each: int, groups: int = 4, *, dim: int = 12, noise: float = 0.15, seed: int = 0) -> tuple[Matrix, list[int]]:
    """(rows around `groups` axes, the group of each), in a shuffled order that the seed decides."""
    random = np.random.default_rng(seed)
    truth = random.permutation(np.repeat(np.arange(groups), each))
    rows = np.eye(groups, dim)[truth] + noise * random.standard_normal((len(truth), dim))
    return rows.astype(np.float32), truth.tolist()


def fill(store: vs.Store, each: int = 30, groups: int = 4, seed: int = 0, prefix: str = "c") -> list[int]:
    rows, truth = blobs(each, groups, seed=seed)
    records = [{"id": f"{prefix}{n}", "name": f"the {WORDS[g]} of {n}"} for n, g in enumerate(truth)]
    store.concepts.add(records, vectors=rows)
    return truth


def labels_of(store: vs.Store, ids: list[str]) -> list[str | None]:
    found = [store.clusters.membership(name) for name in ids]
    return [None if one is None else one.cluster for one in found]


@pytest.fixture
def kb(open_store: Callable[..., vs.Store]) -> vs.Store:
    return open_store()


# -- what a fit finds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", list(BUILTIN_CLUSTER_RECIPES))
def test_every_recipe_finds_planted_groups(recipe: str, kb: vs.Store) -> None:
    truth = fill(kb)
    report = kb.clusters.fit("concepts", RECIPES / f"{recipe}.toml", None if recipe == "hdbscan" else 4, seed=3)

    found = labels_of(kb, [f"c{n}" for n in range(len(truth))])
    assert len(report.clusters) == 4 and report.note == ""
    assert report.noise == sum(label is None for label in found) <= 6
    assert engine.agreement(truth, [str(label) for label in found]) > 0.9
    assert [c.id for c in kb.clusters.find()] == list(report.clusters) == [f"concepts:{n}" for n in range(4)]
    assert kb.check().findings == ()


@pytest.mark.parametrize("recipe", list(BUILTIN_CLUSTER_RECIPES))
def test_the_same_seed_gives_the_same_clusters(recipe: str) -> None:
    rows, _ = blobs(50, 6, noise=0.4)
    chosen = BUILTIN_CLUSTER_RECIPES[recipe]
    one, two = (engine.fit(rows, chosen, None, seed=5) for _ in range(2))
    assert (one.labels == two.labels).all() and (one.rule.centroids == two.rule.centroids).all()
    assert (np.bincount(one.labels + 1)[1:] == np.sort(np.bincount(one.labels + 1)[1:])[::-1]).all()


@pytest.mark.parametrize("name", BUILTIN_CLUSTER_RECIPES)
def test_the_built_in_recipes_are_those_of_the_files(name: str) -> None:
    assert engine.load_cluster_recipe(RECIPES / f"{name}.toml") == BUILTIN_CLUSTER_RECIPES[name]
    assert {path.stem for path in RECIPES.glob("*.toml")} == set(BUILTIN_CLUSTER_RECIPES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nmethod = "kmeans"\nspeed = 3', "unknown key 'speed'; the keys are: clusters, method, name"),
        ('name = "x"\nmethod = "kmedoids"', "expected one of kmeans, spherical"),
        ('name = "x"\nmethod = "kmeans"\nclusters = 0', "clusters: expected a whole number of at least 1"),
        ('name = "x"\nmethod = "kmeans"\nclusters = true', "clusters: expected a whole number"),
        ('name = "x"\nmethod = "hdbscan"\nclusters = 3', "finds the number of clusters itself"),
        ('name = "x"\nmethod = "kmeans"\n[options]\nlinkage = "ward"', "the keys are: iterations, restarts"),
        ('name = "x"\nmethod = "agglomerative"\n[options]\nlinkage = "single"', "expected one of ward"),
        ('name = "x"\nmethod = "minibatch"\n[options]\nbatch_rows = 0', "at least 1, got 0"),
        ('method = "kmeans"', "name: expected text"),
        ("name =", "is not TOML"),
    ],
)
def test_a_bad_recipe_says_what_is_allowed(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(vs.RecipeError, match=message):
        engine.as_cluster_recipe(tmp_path / "r.toml")


def test_an_unknown_recipe_names_those_there_are(kb: vs.Store) -> None:
    fill(kb, 5)
    with pytest.raises(vs.RecipeError, match="use kmeans, spherical"):
        kb.clusters.fit("concepts", "k-means")


# -- belonging ---------------------------------------------------------------------------------------------------------


def test_memberships_sum_to_one_and_are_not_flat(kb: vs.Store) -> None:
    truth = fill(kb, groups=2)
    kb.clusters.fit("concepts", "kmeans", 2)
    for n in range(len(truth)):
        shares = kb.clusters.memberships(f"c{n}")
        own = kb.clusters.membership(f"c{n}")
        assert abs(sum(shares.values()) - 1) < 1e-6 and own is not None and own.current
        assert next(iter(shares)) == own.cluster and shares[own.cluster] == pytest.approx(own.strength, abs=1e-6)
        assert own.strength > 0.9


def test_memberships_are_those_of_the_formula() -> None:
    rows, _ = blobs(40, 5, noise=0.5)
    fitted = engine.fit(rows, BUILTIN_CLUSTER_RECIPES["kmeans"], 5, seed=0)
    wide, centres = rows.astype(np.float64), fitted.rule.centroids.astype(np.float64)
    squared = ((wide[:, None] - centres[None]) ** 2).sum(axis=2)
    residuals = wide - centres[fitted.labels]
    covariance = residuals.T @ residuals / len(rows)
    dimensions = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    spread = (residuals**2).sum(axis=1).mean() / dimensions
    assert fitted.dimensions == pytest.approx(dimensions, rel=1e-6)
    assert fitted.rule.spread == pytest.approx(spread, rel=1e-6)
    powers = np.exp(-squared / (2 * spread))
    expected = powers / powers.sum(axis=1, keepdims=True)
    assert fitted.rule.memberships(rows) == pytest.approx(expected, abs=1e-4)
    assert 0.3 < expected.max(axis=1).mean() < 0.999  # neither flat nor hard where groups overlap
    numbers, strengths = fitted.rule.assign(rows)
    assert (numbers == squared.argmin(axis=1)).all()
    assert strengths == pytest.approx(expected.max(axis=1), abs=1e-4)


def test_cluster_zero_is_a_cluster_as_any_other(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    page = kb.clusters.members("concepts:0")
    assert page.total == len(page) == kb.clusters.get("concepts:0").size == 30  # type: ignore[union-attr]
    member = page[0].id
    assert kb.clusters.membership(member).cluster == "concepts:0"  # type: ignore[union-attr]
    near = kb.clusters.neighbours(member, k=40)
    assert len(near) == 29 and member not in {one.id for one in near}
    assert {one.id for one in near} == {one.id for one in page} - {member}


def test_neighbours_are_the_nearest_of_the_own_cluster(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    mates = [one.id for one in kb.clusters.members("concepts:2", limit=1000)]
    query = mates[0]
    expected = [hit for hit in kb.concepts.search(vs.Id(query), k=200, exact=True) if hit.id in mates]
    near = kb.clusters.neighbours(query, k=7)
    assert [(one.id, one.strength) for one in near] == [(hit.id, hit.score) for hit in expected[:7]]


def test_members_come_in_pages_strongest_first(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    seen, after = [], None
    while True:
        page = kb.clusters.members("concepts:1", limit=7, after=after)
        assert page.total == 30
        seen += list(page)
        after = page.next
        if after is None:
            break
    assert [one.strength for one in seen] == sorted((one.strength for one in seen), reverse=True)
    assert len({one.id for one in seen}) == 30
    kb.concepts.delete(seen[0].id)
    assert kb.clusters.members("concepts:1").total == 29
    with pytest.raises(vs.NotFound, match="concepts:9"):
        kb.clusters.members("concepts:9")


def test_coherence_is_the_mean_cosine_of_all_pairs(kb: vs.Store) -> None:
    rows, _ = blobs(25, 3, noise=0.4)
    kb.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(len(rows))], vectors=rows * 7)
    kb.clusters.fit("concepts", "kmeans", 3)
    unit = rows.astype(np.float64) / np.linalg.norm(rows, axis=1, keepdims=True)
    found = np.array(labels_of(kb, [f"c{n}" for n in range(len(rows))]))
    centroids = {c.id: kb.clusters.vectors([c.id])[0].astype(np.float64) for c in kb.clusters.find()}
    for cluster in kb.clusters.find():
        inside = unit[found == cluster.id]
        pairs = [float(a @ b) for a, b in itertools.combinations(inside, 2)]
        assert cluster.coherence == pytest.approx(np.mean(pairs), abs=1e-5)
        assert centroids[cluster.id] == pytest.approx(inside.mean(axis=0), abs=1e-3)
        others = {
            name: float(centroids[cluster.id] @ c / np.linalg.norm(c) / np.linalg.norm(centroids[cluster.id]))
            for name, c in centroids.items()
            if name != cluster.id
        }
        assert cluster.related == pytest.approx(others, abs=1e-5)
        assert cluster.distinctiveness == pytest.approx(1 - max(others.values()), abs=1e-5)


def test_clusters_are_named_by_their_words_and_found_by_their_centroids(kb: vs.Store) -> None:
    truth = fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    for cluster in kb.clusters.find():
        member = kb.clusters.members(cluster.id)[0].id
        word = WORDS[truth[int(member[1:])]]
        assert cluster.terms == (word,) and cluster.name == word  # "the" and "of" and numbers are no terms
        assert kb.clusters.search(kb.concepts.vectors([member])[0], k=1).ids == [cluster.id]


def test_terms_follow_the_published_weight() -> None:
    texts = [["red apple red", "apple"], ["green pear", "pear tree apple"]]
    found = engine.terms(texts, 10)
    counts = {"apple": 3, "red": 2, "green": 1, "pear": 2, "tree": 1}

    def weight(count: int, total: int, word: str) -> float:
        return count / total * float(np.log(1 + 4.5 / counts[word]))

    first = {"red": weight(2, 4, "red"), "apple": weight(2, 4, "apple")}
    second = {w: weight(c, 5, w) for w, c in {"green": 1, "pear": 2, "tree": 1, "apple": 1}.items()}
    assert list(found[0]) == sorted(first, key=lambda w: (-first[w], w))
    assert list(found[1]) == sorted(second, key=lambda w: (-second[w], w))


# -- staying the same --------------------------------------------------------------------------------------------------


def test_a_thousand_inserts_fit_nothing(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "fit", lambda *_: pytest.fail("something was fitted"))
        assert str(kb.clusters.state()).endswith("current, 120 records")
        before = kb.stats()["seq"]
        rows, _ = blobs(250, 4, seed=9)
        for n in range(1000):
            kb.concepts.add({"id": f"n{n}", "name": "x"}, vectors=rows[n : n + 1])
        state = kb.clusters.state()
        assert (state.new, state.changed, state.removed, state.unassigned) == (1000, 0, 0, 1000)
        assert state.stale_since == before + 1 and "stale since" in str(state)
        assert kb.clusters.assign() == 1000 and kb.clusters.assign() == 0
        assert kb.clusters.state().unassigned == 0 and kb.clusters.state().new == 1000
    found = labels_of(kb, [f"n{n}" for n in range(1000)])
    assert found == kb.clusters.predict(rows)


def test_state_counts_what_changed(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    kb.concepts.update({"id": "c0", "name": "other"}, vectors=[[1.0] + [0.0] * 11])
    kb.concepts.delete(["c1", "c2"])
    state = kb.clusters.state()
    assert (state.new, state.changed, state.removed, state.unassigned) == (0, 1, 2, 1)
    assert kb.clusters.membership("c0").current is False  # type: ignore[union-attr]
    assert kb.clusters.assign("c0") == 1
    assert kb.clusters.membership("c0").current  # type: ignore[union-attr]
    assert kb.clusters.membership("c0").cluster == kb.clusters.predict([[1.0] + [0.0] * 11])[0]  # type: ignore[union-attr]
    assert kb.clusters.state().changed == 1
    kb.clusters.refit()
    assert kb.clusters.state().stale_since is None


def test_drift_tells_a_shift_from_more_of_the_same(kb: vs.Store) -> None:
    fill(kb, 50)
    kb.clusters.fit("concepts", "kmeans", 4)
    calm = kb.clusters.drift()
    assert (calm.changed, calm.shift, calm.distance, calm.warning) == (0, pytest.approx(0, abs=1e-9), 1, None)
    fill(kb, 10, seed=4, prefix="same")
    same = kb.clusters.drift()
    assert same.changed == pytest.approx(40 / 240) and same.shift < 0.01 and same.distance == pytest.approx(1, abs=0.2)
    assert same.warning is None and kb.clusters.refit(min_changed=0.5, min_shift=0.25) is None
    far = np.zeros((150, 12), np.float32)
    far[:, 11] = 1
    kb.concepts.add([{"id": f"far{n}", "name": "glacier"} for n in range(150)], vectors=far)
    away = kb.clusters.drift()
    assert away.shift > 0.25 and away.distance > 1.25 and "refit" in str(away.warning)
    report = kb.clusters.refit(n=5, min_shift=0.25)
    assert report is not None and report.kept == tuple(f"concepts:{n}" for n in range(4))
    assert report.new == ("concepts:4",) and kb.clusters.get("concepts:4").terms == ("glacier",)  # type: ignore[union-attr]


def test_population_shift_is_the_published_sum() -> None:
    p, q = np.array([10.5, 20.5, 30.5]) / 61.5, np.array([30.5, 20.5, 10.5]) / 61.5
    assert population_shift([10, 20, 30], [30, 20, 10]) == pytest.approx(float(((q - p) * np.log(q / p)).sum()))


def test_ids_and_what_people_wrote_outlive_a_refit(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    before = labels_of(kb, [f"c{n}" for n in range(120)])
    vector = kb.clusters.vectors(["concepts:0"])
    kb.clusters.update({"id": "concepts:0", "name": "Mine", "tags": ["kept"], "note": "my own"})
    assert (kb.clusters.vectors(["concepts:0"]) == vector).all()  # still the centroid, not the embedded name
    fill(kb, 20, seed=7, prefix="d")
    report = kb.clusters.refit(seed=99)
    assert report is not None
    assert report.kept == tuple(f"concepts:{n}" for n in range(4)) and report.new == report.retired == ()
    assert labels_of(kb, [f"c{n}" for n in range(120)]) == before
    mine = kb.clusters.get("concepts:0")
    assert mine is not None and (mine.name, mine.tags, mine.extra) == ("Mine", ("kept",), {"note": "my own"})
    assert mine.size == 50 and kb.clusters.get("concepts:1").name in WORDS  # type: ignore[union-attr]


def test_numbers_go_on_by_overlap() -> None:
    old = np.array([7, 7, 7, 7, 3, 3, 3, 3, -1, -1])
    new = np.array([1, 1, 1, 0, 0, 0, 0, 0, 2, 2])
    assert engine.continued(old, new, 3, 8).tolist() == [3, 7, 8]
    assert engine.continued(old, np.array([0, 1, 2, 3] * 2 + [4, 4]), 5, 8).tolist() == [8, 9, 10, 11, 12]
    assert engine.continued(np.full(4, -1), np.array([0, 0, 1, 1]), 2, 5).tolist() == [5, 6]


def test_a_vanished_cluster_is_deleted_and_its_number_never_given_again(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    first = kb.clusters.refit(n=2)
    assert first is not None and len(first.retired) >= 2
    assert all(kb.clusters.get(name) is None for name in first.retired)
    second = kb.clusters.refit(n=6)
    assert second is not None
    assert not set(second.new) & {f"concepts:{n}" for n in range(4)} | set(first.clusters) & set(second.new)
    assert kb.check().findings == ()


def test_rollback_brings_back_ids_members_and_predictions(open_store: Callable[..., vs.Store]) -> None:
    kb = open_store()
    truth = fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    ids = [f"c{n}" for n in range(len(truth))]
    rows, _ = blobs(250, 4, seed=21)
    members, answers, shown = labels_of(kb, ids), kb.clusters.predict(rows), [*kb.clusters.find()]
    kb.clusters.refit(n=2)
    assert kb.clusters.predict(rows) != answers
    kb.clusters.rollback(1)
    kb = open_store()
    assert labels_of(kb, ids) == members and kb.clusters.predict(rows) == answers
    fields = ("id", "name", "size", "coherence", "terms", "related", "number")
    assert [[getattr(c, f) for f in fields] for c in kb.clusters.find(order="number")] == [
        [getattr(c, f) for f in fields] for c in shown
    ]
    assert [(v.version, v.status, v.parent) for v in kb.clusters.versions()] == [
        (1, "current", None),
        (2, "retired", 1),
    ]
    kb.clusters.refit(n=2)
    assert [v.parent for v in kb.clusters.versions()] == [None, 1, 1]
    with pytest.raises(vs.NotFound, match="no version 9; there are: 1, 2, 3"):
        kb.clusters.rollback(9)
    assert kb.check().findings == ()


def test_of_old_versions_only_the_record_is_kept(kb: vs.Store) -> None:
    fill(kb)
    for n in (4, 3, 4, 3, 4):
        kb.clusters.fit("concepts", "kmeans", n)
    assert [v.usable for v in kb.clusters.versions()] == [False, True, True, True, True]
    with pytest.raises(vs.ValidationError, match="only the record is kept"):
        kb.clusters.rollback(1)
    kb.clusters.rollback(2)
    assert len(kb.clusters) == 3 and kb.check().findings == ()
    assert kb.clusters.drop("concepts") == 5 and len(kb.clusters) == 0
    with pytest.raises(vs.NotFound, match="no line of fits 'concepts'; there are: none yet"):
        kb.clusters.state()
    assert kb.check().findings == () and kb.sweep() == []


def test_predictions_outlive_a_restart_and_equal_those_of_the_file(open_store: Callable[..., vs.Store]) -> None:
    rows, _ = blobs(250, 4, seed=8)
    with open_store() as kb:
        fill(kb)
        kb.clusters.fit("concepts", "spherical", 4)
        before = kb.clusters.predict(rows)
    kb = open_store()
    assert kb.clusters.predict(rows) == before
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert [f"concepts:{n}" for n in kb.clusters.model().predict(unit.astype(np.float32))] == before
    refitted = kb.clusters.refit()
    assert refitted is not None and kb.clusters.predict(rows) == before


# -- scopes ------------------------------------------------------------------------------------------------------------


def test_a_line_keeps_to_its_scope(kb: vs.Store) -> None:
    rows, truth = blobs(20, 4)
    records = [
        {
            "id": f"c{n}",
            "name": "x",
            "domain": "even" if n % 2 == 0 else "odd",
            "context": "here" if n < 40 else "there",
        }
        for n in range(len(truth))
    ]
    kb.concepts.add(records, vectors=rows)
    even = kb.clusters.fit("concepts", "kmeans", 3, where={"domain": "even"}, name="evens")
    here = kb.clusters.fit("concepts", "kmeans", 2, context="here")
    assert (even.rows, here.rows, here.name) == (40, 40, "concepts@here")
    assert kb.clusters.lines() == ["concepts@here", "evens"]
    assert kb.clusters.membership("c1", "evens") is None
    assert kb.clusters.get("concepts@here:0").context == "here"  # type: ignore[union-attr]
    kb.concepts.add({"id": "odd", "name": "x", "domain": "odd"}, vectors=rows[:1])
    assert kb.clusters.state("evens").stale_since is None and kb.clusters.assign(name="evens") == 0
    assert (again := kb.clusters.refit("evens")) is not None and again.rows == 40 and again.version == 2


def test_another_space_and_metric_can_be_clustered(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = np.repeat(np.array([[0.0, 0.0], [0.0, 9.0]]), 20, axis=0) + 0.1 * random.standard_normal((40, 2))
    with vs.open(tmp_path / "l2", embedder=None, metric="l2") as store:
        ids = store.analogies.add([{"a": f"a{n}"} for n in range(40)], vectors={"relation": rows})
        report = store.clusters.fit("analogies", "kmeans", 2, space="relation")
        assert report.name == "analogies.relation" and len(report.clusters) == 2
        labels = [store.clusters.membership(name, report.name) for name in ids]
        assert len({one.cluster for one in labels[:20] if one}) == len({one.cluster for one in labels[20:] if one}) == 1
        assert store.clusters.predict([[0.0, 8.5]], report.name) == [labels[-1].cluster]  # type: ignore[union-attr]
        assert min(one.strength for one in labels if one) > 0.9
        near = store.clusters.neighbours(ids[0], 3, report.name)
        apart = np.sort(np.linalg.norm(rows[1:20].astype("f4") - rows[0].astype("f4"), axis=1))[:3]
        assert [-one.strength for one in near] == pytest.approx(apart, abs=1e-6)


def test_centroids_of_other_dimensions_are_refused(kb: vs.Store) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    kb.analogies.add([{"a": f"a{n}"} for n in range(9)], vectors={"relation": np.eye(9, 5) + 1})
    with pytest.raises(vs.SpaceMismatch, match="12 dimensions, these have 5; nothing was written"):
        kb.clusters.fit("analogies", "kmeans", 2, space="relation")
    assert kb.clusters.lines() == ["concepts"] and kb.check().findings == () and kb.check().litter == ()


# -- edges -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", list(BUILTIN_CLUSTER_RECIPES))
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_records_give_few_clusters(recipe: str, rows: int, kb: vs.Store) -> None:
    kb.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(rows)], vectors=np.eye(rows, 5))
    report = kb.clusters.fit("concepts", recipe, None if recipe == "hdbscan" else 50)
    if recipe == "hdbscan":
        assert report.clusters == () and report.noise == rows and "noise" in report.note
        assert kb.clusters.predict(np.eye(1, 5)) == [None] and kb.clusters.memberships("c0") == {}
        assert kb.clusters.members("concepts").total == rows and kb.clusters.neighbours("c0") == []
    else:
        assert len(report.clusters) == rows and f"only {rows} different vectors" in report.note
        assert sorted(map(str, labels_of(kb, [f"c{n}" for n in range(rows)]))) == sorted(report.clusters)
        assert kb.clusters.get("concepts:0").coherence is None  # type: ignore[union-attr]
    assert kb.check().findings == () and kb.clusters.refit() is not None


@pytest.mark.parametrize("recipe", list(BUILTIN_CLUSTER_RECIPES))
def test_identical_records_are_one_cluster(recipe: str, kb: vs.Store) -> None:
    kb.concepts.add([{"id": f"c{n}", "name": "x"} for n in range(40)], vectors=np.ones((40, 5)))
    report = kb.clusters.fit("concepts", recipe, None if recipe == "hdbscan" else 4)
    if recipe != "hdbscan":
        assert report.clusters == ("concepts:0",) and report.silhouette is None
        assert report.coherence == pytest.approx(1) and kb.clusters.memberships("c7") == {"concepts:0": 1.0}
    two = kb.concepts.add([{"name": f"y{n}"} for n in range(40)], vectors=-np.ones((40, 5)))
    again = kb.clusters.fit("concepts", recipe, None if recipe == "hdbscan" else 4)
    if recipe != "hdbscan":
        assert len(again.clusters) == 2 and kb.clusters.membership(two[0]).strength > 0.999  # type: ignore[union-attr]


def test_opposite_records_have_a_centroid_without_direction(kb: vs.Store) -> None:
    kb.concepts.add([{"id": "a", "name": "x"}, {"id": "b", "name": "y"}], vectors=[[1.0, 0.0], [-1.0, 0.0]])
    assert kb.clusters.fit("concepts", "kmeans", 1).clusters == ("concepts:0",)
    assert kb.clusters.get("concepts:0").coherence == pytest.approx(-1)  # type: ignore[union-attr]


def test_nothing_to_cluster_says_so(kb: vs.Store) -> None:
    with pytest.raises(vs.ValidationError, match="concepts: there is nothing to cluster: no concepts with vectors are"):
        kb.clusters.fit()
    fill(kb, 3)
    with pytest.raises(vs.ValidationError, match="vectors match"):
        kb.clusters.fit(where={"domain": "nowhere"})
    assert kb.clusters.lines() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n: expected a whole number of at least 1, got 0"),
        ({"n": -3}, "n: expected"),
        ({"n": True}, "n: expected"),
        ({"n": 2.5}, "n: expected"),
        ({"recipe": "hdbscan", "n": 3}, "hdbscan finds the number"),
        ({"seed": -1}, "seed: expected"),
        ({"seed": 1 << 40}, "seed: expected"),
        ({"name": "a/b"}, "name: an id has no path separators"),
        ({"name": ""}, "name: an id has"),
        ({"where": {"colour": {"x": object()}}}, "cannot be kept with the fit"),
        ({"where": {"nonsense__like": 1}}, "nonsense"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str, kb: vs.Store) -> None:
    fill(kb, 5)
    with pytest.raises(vs.ValidationError, match=message):
        kb.clusters.fit("concepts", **arguments)
    assert kb.clusters.lines() == []


def test_a_number_of_clusters_that_changes_is_no_error(kb: vs.Store) -> None:
    fill(kb, 10)
    for n in (50, 3, 1, 12, None):
        report = kb.clusters.fit("concepts", "kmeans", n)
        assert 1 <= len(report.clusters) <= 40
        assert sum(c.size for c in kb.clusters.find()) == 40
        assert sum(kb.clusters.memberships("c0").values()) == pytest.approx(1, abs=1e-6)
    assert kb.check().findings == ()


def test_many_rows_are_fitted_by_a_sample() -> None:
    rows, truth = blobs(100, 4)
    for method in ("agglomerative", "hdbscan"):
        recipe = vs.ClusterRecipe("small", method, options={"max_rows": 100})
        found = engine.fit(rows, recipe, 4 if method == "agglomerative" else None, seed=1)
        assert engine.agreement(truth, found.labels) > 0.9 and len(found.labels) == 400


def test_without_faiss_scikit_learn_does_it(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vectorstore.clusters.fitting.has_faiss", lambda: False)
    truth = fill(kb)
    for recipe in ("kmeans", "spherical"):
        kb.clusters.fit("concepts", recipe, 4)
        found = labels_of(kb, [f"c{n}" for n in range(120)])
        assert engine.agreement(truth, [str(label) for label in found]) == 1
        assert kb.models.list("concepts")[-1].details["fitted_by"].startswith("scikit-learn")


# -- with the rest of a store ------------------------------------------------------------------------------------------


def test_hooks_hear_of_fits_after_the_commit(kb: vs.Store) -> None:
    fill(kb)
    heard: list[dict[str, Any]] = []
    kb.on("fit", lambda details: heard.append(dict(details)))
    with kb.transaction():
        kb.clusters.fit("concepts", "kmeans", 4)
        assert heard == []
    kb.clusters.refit(n=2)
    kb.clusters.rollback(1)
    assert [(e["name"], e["version"], e["rows"], e["clusters"]) for e in heard] == [
        ("concepts", 1, 120, 4),
        ("concepts", 2, 120, 2),
        ("concepts", 1, 120, 4),
    ]


def test_a_fit_in_a_transaction_that_is_given_up_leaves_nothing(kb: vs.Store) -> None:
    fill(kb)
    with pytest.raises(LookupError), kb.transaction():
        kb.clusters.fit("concepts", "kmeans", 4)
        raise LookupError
    assert kb.clusters.lines() == [] and len(kb.clusters) == 0
    assert kb.check().findings == () and kb.check().litter == ()


def test_two_fits_at_once_keep_the_first(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(kb)
    kb.clusters.fit("concepts", "kmeans", 4)
    original = engine.fit

    def slow(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(engine, "fit", original)
        kb.clusters.refit(n=3)  # somebody else is quicker
        return original(*arguments, **options)

    monkeypatch.setattr(engine, "fit", slow)
    with pytest.raises(vs.Superseded, match="another fit was committed meanwhile"):
        kb.clusters.refit(n=2)
    assert len(kb.clusters) == 3 and kb.check().litter == ()


def test_what_is_written_during_a_fit_is_newer_than_it(kb: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(kb)
    original = engine.fit

    def slow(*arguments: Any, **options: Any) -> Any:
        fill(kb, 1, seed=3, prefix="late")
        return original(*arguments, **options)

    monkeypatch.setattr(engine, "fit", slow)
    kb.clusters.fit("concepts", "kmeans", 4)
    state = kb.clusters.state()
    assert (state.rows, state.new, state.unassigned) == (120, 4, 4) and state.stale_since is not None

    def erasing(*arguments: Any, **options: Any) -> Any:
        kb.concepts.delete("c0")
        kb.concepts.purge("c0")
        return original(*arguments, **options)

    monkeypatch.setattr(engine, "fit", erasing)
    with pytest.raises(vs.Superseded, match="were erased"):
        kb.clusters.refit()


# -- erasure -----------------------------------------------------------------------------------------------------------


def everything(root: Path) -> bytes:
    """All bytes of a closed store's folder."""
    return b"".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_purge_erases_the_only_member_of_a_cluster_everywhere(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    secret = np.array([0.1234567, -0.7654321, 0.31415926, 0.27182818, 0.5], np.float32)
    unit = engine.prepared(secret[None], "cosine")[0]
    with vs.open(root, embedder=None) as store:
        rows = np.abs(blobs(20, 2, dim=5)[0])
        store.concepts.add([{"id": f"c{n}", "name": "harmless"} for n in range(40)], vectors=rows)
        store.concepts.add({"id": "secret-id", "name": "Zyxwvut"}, vectors=secret)
        store.clusters.fit("concepts", "agglomerative", 3)
        alone = store.clusters.membership("secret-id").cluster  # type: ignore[union-attr]
        assert store.clusters.get(str(alone)).size == 1  # type: ignore[union-attr]
        store.fields.discover(min_members=1, min_coherence=-1.0)
        store.clusters.fit("concepts", "agglomerative", 3)  # an earlier version holds it, too
        store.flush()
        assert unit.tobytes() in everything(root) or secret.tobytes() in everything(root)
    with vs.open(root, embedder=None) as store:
        store.concepts.delete("secret-id")
        assert store.concepts.purge("secret-id") == 1
        assert store.clusters.get(str(alone)) is None and len(store.clusters) == 2
        assert store.clusters.state().removed == 1 and len(store.clusters.memberships("c0")) == 2
        with pytest.raises(vs.ModelRefused, match="no file any more"):
            store.clusters.model()
        assert store.check().findings == ()
    left = everything(root)
    for trace in (secret.tobytes(), unit.tobytes(), b"secret-id", b"zyxwvut", b"Zyxwvut"):
        assert trace not in left


def test_purge_takes_words_off_labels_that_nobody_has_any_more(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None) as store:
        rows, truth = blobs(10, 2)
        names = ["xylograph lantern" if n == truth.index(0) else WORDS[g] for n, g in enumerate(truth)]
        store.concepts.add([{"id": f"c{n}", "name": name} for n, name in enumerate(names)], vectors=rows)
        store.clusters.fit("concepts", "kmeans", 2)
        own = store.clusters.membership(f"c{truth.index(0)}")
        assert own is not None and "xylograph" in store.clusters.get(str(own.cluster)).terms  # type: ignore[union-attr]
        store.concepts.delete(f"c{truth.index(0)}")
        store.concepts.purge(f"c{truth.index(0)}")
        cluster = store.clusters.get(str(own.cluster))
        assert cluster is not None and cluster.terms == ("lion",) and cluster.name == "lion"
        assert store.check().findings == ()
    assert b"xylograph" not in everything(root)


# -- the script and the benchmark --------------------------------------------------------------------------------------


def test_trials_write_nothing_and_tell_quality_and_stability(kb: vs.Store) -> None:
    fill(kb)
    trials = kb.clusters.trials("concepts", "kmeans", 4, seeds=(0, 1, 2))
    assert trials.stability == 1 and [trial.clusters for trial in trials.trials] == [4, 4, 4]
    assert trials.trials[0].coherence > 0.5 and trials.trials[0].silhouette > 0.3  # type: ignore[operator]
    assert kb.clusters.lines() == [] and kb.models.list() == ()
    with pytest.raises(vs.ValidationError, match="seeds: expected at least one"):
        kb.clusters.trials(seeds=())


def test_the_fit_script_measures_and_publishes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from models import fit as script

    with vs.open(tmp_path / "kb", embedder=None) as store:
        fill(store)
    arguments = [str(tmp_path / "kb"), "concepts", str(RECIPES / "spherical.toml"), "--n", "4"]
    assert script.main([*arguments, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "spherical over 120 records" in out and "stability" in out and "published" not in out
    assert script.main([*arguments, "--json", "--seeds", "3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["published"]["seed"] == 3 and len(told["published"]["clusters"]) == 4
    with vs.open(tmp_path / "kb", embedder=None) as store:
        assert len(store.clusters) == 4
    assert script.main([str(tmp_path / "kb"), "concepts", "nonsense"]) != 0
    assert "no such clustering recipe" in capsys.readouterr().err


def test_the_benchmark_reports_quality_and_time(tmp_path: Path) -> None:
    import gzip
    import hashlib
    import json

    from benchmarks import clusters as benchmark

    rows, truth = blobs(20, 3)
    texts = [f"{WORDS[group]} {n}" for n, group in enumerate(truth)]
    with gzip.open(tmp_path / "toy.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": t, "label": WORDS[g]}) + "\n" for t, g in zip(texts, truth, strict=True))
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
    np.save(tmp_path / f"clusters-{digest}.npy", rows)
    np.save(tmp_path / "many.npy", blobs(200, 4, dim=16)[0])
    options = [
        "--vectors",
        str(tmp_path / "many.npy"),
        "--turns",
        "1",
        "--out",
        str(tmp_path),
        "--cache",
        str(tmp_path),
    ]
    benchmark.main([str(tmp_path / "toy.jsonl.gz"), *options])
    results = json.loads((tmp_path / "clusters.json").read_text())
    quality = {row["recipe"]: row for row in results["sets"]["toy"]["recipes"]}
    assert quality["spherical"]["nmi"] == quality["spherical"]["ari"] == quality["spherical"]["purity"] == 1
    assert set(quality) == set(BUILTIN_CLUSTER_RECIPES) and results["time"]["rows"] == 800
    text = (tmp_path / "clusters.md").read_text()
    assert "| spherical | 1.000 | 1.000 | 1.000 | 1.000 | 3 | 0% |" in text and "| raw FAISS |" in text


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize(("count", "iterations", "restarts", "seed"), [(16, 12, 3, 0), (40, 4, 2, 7), (300, 3, 1, 1)])
def test_iterations_one_by_one_give_what_faiss_gives_at_once(
    spherical: bool, count: int, iterations: int, restarts: int, seed: int
) -> None:
    import faiss

    random = np.random.default_rng(seed)
    rows = np.repeat(random.standard_normal((40, 24)), 20, axis=0) + 0.3 * random.standard_normal((800, 24))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    options = {"niter": iterations, "nredo": restarts, "seed": seed, "spherical": spherical}
    faiss.omp_set_num_threads(1)
    whole = faiss.Kmeans(24, count, **options, min_points_per_centroid=1, max_points_per_centroid=len(rows))
    whole.train(rows)
    told: list[tuple[int, int]] = []
    found = kmeans(
        rows, count, iterations=iterations, restarts=restarts, seed=seed, spherical=spherical,
        progress=lambda done, of: told.append((done, of)),
    )  # fmt: skip
    np.testing.assert_array_equal(found, whole.centroids)
    assert told == sorted(told) and told[0] == (1, iterations * restarts) and len(told) <= iterations * restarts
