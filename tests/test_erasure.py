"""What a purge once left behind: in fits, in the filters of ended work, in the names of contexts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import vectorstore as vs
from vectorstore import clusters as engine
from vectorstore.storage import models as registry

Vector = npt.NDArray[np.float32]
SECRET = "zyxsecretword"


def unit(seed: int) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def near(to: Vector, seed: int) -> Vector:
    vector: Vector = to + np.float32(0.05) * unit(seed)
    return vector / np.linalg.norm(vector)


FAR, HERS = unit(1), unit(100)


def holding(root: Path, *needles: str | bytes) -> list[str]:
    """Which files of a store hold any of the needles."""
    wanted = [needle.encode() if isinstance(needle, str) else needle for needle in needles]
    files = [path for path in root.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(needle in path.read_bytes() for needle in wanted)]


def distance(root: Path, vector: Vector) -> float:
    """How near any float32 vector in the catalog's registry of models comes to a vector, in its worst number."""
    connection = sqlite3.connect(root / "catalog.sqlite")
    found = [row[0] for row in connection.execute("SELECT centroids FROM models WHERE length(centroids) > 0")]
    connection.close()
    apart = [np.abs(np.frombuffer(each, np.float32).reshape(-1, 64) - vector).max(1).min() for each in found]
    return min(map(float, apart), default=np.inf)


def six_and_one(store: vs.Store) -> None:
    """Six records that lie together, and a seventh far from them."""
    rows = [{"id": f"a{n}", "name": f"plain {n}"} for n in range(6)] + [{"id": "x", "name": SECRET}]
    store.concepts.add(rows, vectors=np.stack([near(FAR, 10 + n) for n in range(6)] + [HERS]))


def purge(store: vs.Store, *ids: str) -> None:
    store.concepts.delete(list(ids))
    assert store.concepts.purge(list(ids)) == len(ids)


def cluster_of(store: vs.Store, id: str) -> str | None:
    found = store.clusters.membership(id)
    assert found is not None
    return found.cluster


# -- fits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "history"),
    [
        *((since, None) for since in ("nothing", "assigned", "moved", "moved and assigned", "fitted again")),
        *((since, "30d") for since in ("assigned", "moved and assigned", "fitted again")),
    ],
)
def test_a_centroid_goes_with_the_only_record_that_went_into_it(
    since: str, history: str | None, tmp_path: Path
) -> None:
    """Whoever was given to the cluster later took no part in its centroid; and who left it did."""
    root = tmp_path / "kb"
    with vs.open(root, embedder=None) as store:
        store.history = history
        six_and_one(store)
        store.clusters.fit("concepts", "spherical", 2)
        alone = cluster_of(store, "x")
        if "moved" in since:
            store.concepts.upsert({"id": "x", "name": "harmless"}, vectors=near(FAR, 77)[None])
        if since in ("assigned", "moved and assigned", "fitted again"):
            store.concepts.add({"id": "later", "name": "later"}, vectors=near(HERS, 99)[None])
        if since == "fitted again":
            assert store.clusters.fit("concepts", "spherical", 2).kept
        else:
            store.clusters.assign()
        assert distance(root, HERS) < 1e-6
        purge(store, "x")
        if since == "fitted again":
            assert alone in {cluster.id for cluster in store.clusters.find()}
        else:
            assert len(store.clusters) == len(store.clusters.versions()) == 1
            if "assigned" in since:
                assert cluster_of(store, "later") is None
                assert store.clusters.assign() == 1
                assert cluster_of(store, "later") is not None
        assert store.check().findings == ()
        assert holding(root, SECRET, HERS.tobytes()) == [] and distance(root, HERS) > 1e-3
    assert holding(root, SECRET, HERS.tobytes()) == []


def test_a_centroid_stays_with_the_others_that_went_into_it_wherever_they_are_now(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        six_and_one(store)
        store.concepts.add({"id": "y", "name": "meadow"}, vectors=near(HERS, 5)[None])
        store.clusters.fit("concepts", "spherical", 2)
        store.concepts.upsert({"id": "y", "name": "meadow"}, vectors=near(FAR, 6)[None])
        assert store.clusters.assign() == 1
        purge(store, "x")
        assert len(store.clusters) == 2
        purge(store, "y")
        assert len(store.clusters) == 1 and store.check().findings == ()


@pytest.mark.parametrize("versions", [1, 2])
def test_a_purge_reads_a_fit_no_oftener_when_more_of_its_clusters_go(
    versions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fit's row holds all its clusters: to read it for each of them would take as long as their number squared."""
    calls: list[int] = []
    counts = []
    real = registry.model_at
    for clusters in (4, 16):
        with vs.open(tmp_path / f"kb{clusters}", embedder=None) as store:
            rows = [{"id": f"a{n}", "name": "n"} for n in range(clusters)]
            store.concepts.add(rows, vectors=np.stack([unit(n) for n in range(clusters)]))
            for _ in range(versions):
                store.clusters.fit("concepts", "spherical", clusters)
            before = len(store.clusters)
            with monkeypatch.context() as patched:
                patched.setattr(registry, "model_at", lambda *given: calls.append(1) or real(*given))
                purge(store, *(f"a{n}" for n in range(clusters // 2)))
            assert (before, len(store.clusters)) == (clusters, clusters // 2)
            assert store.check().findings == ()
            counts.append(len(calls))
            calls.clear()
    assert counts[0] == counts[1] > 0


def test_of_several_clusters_that_go_at_once_the_others_keep_their_centroids(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add(
            [{"id": f"a{n}", "name": "n"} for n in range(6)], vectors=np.stack([unit(n) for n in range(6)])
        )
        store.clusters.fit("concepts", "spherical", 6)
        left = {n: cluster_of(store, f"a{n}") for n in (1, 4, 5)}
        purge(store, "a0", "a2", "a3")
        assert {cluster.id for cluster in store.clusters.find()} == set(left.values())
        store.concepts.add(
            [{"id": f"near{n}", "name": "n"} for n in left], vectors=np.stack([near(unit(n), 50) for n in left])
        )
        assert store.clusters.assign() == 3
        assert {n: cluster_of(store, f"near{n}") for n in left} == left and store.check().findings == ()


def test_a_centroid_goes_though_a_record_of_another_cluster_moved_in(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None) as store:
        six_and_one(store)
        store.clusters.fit("concepts", "spherical", 2)
        store.concepts.upsert({"id": "a0", "name": "plain 0"}, vectors=near(HERS, 6)[None])
        store.clusters.assign()
        purge(store, "x")
        assert len(store.clusters) == 1 and distance(root, HERS) > 1e-3
        assert cluster_of(store, "a0") is None
        purge(store, *(f"a{n}" for n in range(1, 6)))
        assert len(store.clusters) == 1, "a0 went into it"
        purge(store, "a0")
        assert len(store.clusters) == 0 and store.check().findings == ()


def test_a_fit_forgets_what_a_record_said_when_it_was_made(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder=None) as store:
        six_and_one(store)
        store.concepts.add({"id": "y", "name": "meadow"}, vectors=near(HERS, 5)[None])
        store.clusters.fit("concepts", "spherical", 2)
        store.concepts.update({"id": "x", "name": "harmless"})
        assert SECRET in {term for cluster in store.clusters.find() for term in cluster.terms}
        purge(store, "x")
        assert {term for cluster in store.clusters.find() for term in cluster.terms} == {"meadow", "plain"}
    assert holding(root, SECRET) == []


def test_every_member_goes_into_the_centroid_when_only_a_sample_is_fitted() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    recipe = vs.ClusterRecipe("sampled", "agglomerative", options={"max_rows": 8})
    found = engine.fit(rows, recipe, 8, seed=0)
    for number, centroid in enumerate(found.rule.centroids):
        assert np.allclose(centroid, rows[found.labels == number].mean(0), atol=1e-6)


# -- filters -----------------------------------------------------------------------------------------------------------


def two(store: vs.Store, ids: Sequence[str] = ("x", "y")) -> None:
    store.concepts.add([{"id": name, "name": SECRET if name == "x" else name} for name in ids])


@pytest.mark.parametrize("how", ["delete", "reembed", "cluster", "rolled back", "cancelled"])
def test_work_that_has_ended_forgets_its_filter_when_records_are_purged(how: str, tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder="hash:64") as store:
        two(store)
        where = {"name": SECRET}
        operation = how if how in ("reembed", "cluster") else "delete"
        made = getattr(store.workflows, operation)("concepts", where=where)
        if how == "cancelled":
            store.workflows.cancel(made.id)
        else:
            store.workflows.process(made.id)
        if how == "rolled back":
            store.workflows.rollback(made.id)
        if how == "cluster":
            store.clusters.drop("concepts")
        assert holding(root, SECRET)
        purge(store, "x")
        assert holding(root, SECRET) == []
        if how == "cluster":
            assert store.workflows.items(made.id)[0].payload is None
        else:
            assert store.workflows.get(made.id).options == {"where": "purged"}
        if how == "rolled back":
            with pytest.raises(vs.IllegalMove, match="its filter was purged"):
                store.workflows.retry(made.id)
        assert store.check().findings == ()


@pytest.mark.parametrize("how", ["processed", "cancelled"])
def test_work_that_waits_keeps_its_filter_until_it_has_ended(how: str, tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder="hash:64") as store:
        two(store, ("x", "y", "z"))
        made = store.workflows.delete("concepts", where={"name": "y"})
        fit = store.workflows.cluster("concepts", n=1, where={"name__in": ["z", SECRET]})
        purge(store, "x")
        assert store.workflows.get(made.id).options["where"] == {"name": "y"}
        if how == "processed":
            store.concepts.update({"id": "y", "name": "other"})
            assert store.workflows.process(made.id).options == {"where": "purged"}
            assert "y" in store.concepts, "it does not match any more"
            assert store.workflows.process(fit.id).status == "completed"
            assert holding(root, SECRET), "what a line of fits is about stays with it"
            store.clusters.drop("concepts")
            purge(store, "z")
        else:
            assert store.workflows.cancel(made.id).options == {"where": "purged"}
            store.workflows.cancel(fit.id)
        assert holding(root, SECRET) == []


def test_versions_of_a_fit_that_cannot_be_rolled_back_to_keep_no_filter(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:64") as store:
        two(store)
        store.clusters.fit("concepts", n=1, where={"name": SECRET})
        for _ in range(4):
            store.clusters.fit("concepts", n=1, where={"name": "y"})
        assert not store.clusters.versions()[0].usable
        purge(store, "x")
        assert holding(tmp_path / "kb", SECRET) == []


# -- contexts ----------------------------------------------------------------------------------------------------------


def test_a_workflow_forgets_a_context_that_it_made_when_that_is_purged(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder="hash:64") as store:
        rows = [{"id": "x", "name": "a", "context": SECRET}, {"id": "y", "name": "b", "context": "other"}]
        made = store.workflows.create("concepts", rows)
        store.workflows.process(made.id)
        purge(store, "x")
        store.contexts.delete(SECRET)
        assert store.contexts.purge(SECRET) == 1
        assert list(store.workflows.get(made.id).options["made_contexts"]) == ["other"]
        assert holding(root, SECRET) == []
        assert store.workflows.rollback(made.id).status == "rolled_back" and "other" not in store.contexts


def test_a_workflow_that_goes_on_does_not_bring_back_the_name_of_a_context(tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder="hash:64") as store:
        rows = [
            {"id": f"n{n}", "name": "n", "context": SECRET if n == 0 else "other" if n > 260 else "first"}
            for n in range(300)
        ]
        made = store.workflows.create("concepts", rows)

        def between(done: int, of: int) -> None:
            if done < of:
                purge(store, "n0")
                store.contexts.delete(SECRET)
                store.contexts.purge(SECRET)

        assert store.workflows.process(made.id, progress=between).options["made_contexts"].keys() == {"first", "other"}
        assert holding(root, SECRET) == []


def test_a_deletion_of_lines_is_tried_again_after_a_purge(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:64") as store:
        two(store)
        (tmp_path / "gone.jsonl").write_text('{"id": "y"}\n{"id": "z"}\n')
        made = store.workflows.create_from_jsonl(
            "concepts", tmp_path / "gone.jsonl", operation="delete", policy="lenient"
        )
        assert store.workflows.process(made.id).errors == 1
        purge(store, "x")
        store.concepts.add({"id": "z", "name": "late"})
        assert store.workflows.retry(made.id).status == "pending"
        assert store.workflows.process(made.id).errors == 0 and "z" not in store.concepts


# -- audits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("history", [None, "30d"])
def test_audits_forget_their_filters(history: str | None, tmp_path: Path) -> None:
    root = tmp_path / "kb"
    with vs.open(root, embedder="hash:64") as store:
        store.history = history
        two(store)
        store.concepts.audit_recall(where={"name__in": ["y", SECRET]})
        store.concepts.audit_recall()
        purge(store, "x")
        assert [audit.filter for audit in store.concepts.audits()] == [None, '"purged"']
        assert holding(root, SECRET) == [] and store.check().findings == ()
