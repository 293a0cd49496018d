"""Maps: the projection is the one of a PCA, the points are the records as they are now, colours are their values."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
import pytest
from datasette.app import Datasette

import vectorstore as vs
from tests.conftest import Clock, clustered


def filled(store: vs.Store, rows: int = 300, dim: int = 64) -> np.ndarray:
    vectors = clustered(rows, dim, groups=4)
    store.concepts.add([{"id": f"c{n}", "name": f"n{n}", "domain": f"d{n % 3}"} for n in range(rows)], vectors=vectors)
    return vectors


def principal(vectors: np.ndarray) -> np.ndarray:
    """(n, 2) by the singular values, in float64: another way than the code's."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])[:, None]
    found: np.ndarray = centred @ axes.T
    return found


def test_the_points_are_the_first_two_principal_components(store: vs.Store) -> None:
    vectors = filled(store)
    info = store.maps.fit("concepts")
    found = store.maps.get("concepts")
    assert found.ids == tuple(f"c{n}" for n in range(300)) and found.points.dtype == np.float32
    assert np.allclose(found.points, principal(vectors), atol=1e-4)
    shares = np.var(principal(vectors), axis=0) * 300
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    whole = np.var(unit, axis=0).sum() * 300
    assert np.allclose(info.explained, shares / whole, atol=1e-4)
    assert (info.rows, info.later, info.method, info.kind) == (300, 0, "pca", "concepts")
    assert found.legend == () and set(found.colours.tolist()) == {-1}


def test_it_shows_what_is_there_now_and_says_what_came_later(store: vs.Store) -> None:
    vectors = filled(store)
    store.maps.fit("concepts")
    before = dict(zip(store.maps.get("concepts").ids, store.maps.get("concepts").points.tolist(), strict=True))
    store.concepts.delete(["c0", "c1"])
    store.concepts.add({"id": "new", "name": "new"}, vectors=vectors[5:6])
    found = store.maps.get("concepts")
    after = dict(zip(found.ids, found.points.tolist(), strict=True))
    assert after.keys() == before.keys() - {"c0", "c1"} | {"new"} and found.info.later == 1
    assert after["new"] == pytest.approx(before["c5"], abs=1e-6)
    assert all(after[name] == pytest.approx(before[name], abs=1e-6) for name in after.keys() & before.keys())
    assert store.maps.fit("concepts").later == 0
    assert [one.version for one in store.models.list("map:concepts")] == [2], "the one before is gone"


def test_colours_are_values_the_commonest_first(store: vs.Store) -> None:
    filled(store)
    store.concepts.update([{"id": "c0", "domain": None}, {"id": "c1", "domain": "d0"}])
    store.maps.fit("concepts")
    found = store.maps.get("concepts", "domain")
    assert found.legend == ("d0", "d2", "d1") and found.colours[0] == -1
    wanted = [None, "d0"] + [f"d{n % 3}" for n in range(2, 300)]
    assert [None if c < 0 else found.legend[c] for c in found.colours.tolist()] == wanted
    many = store.maps.get("concepts", "name")
    assert len(many.legend) == 40 and many.legend[-1] == "(others)"
    assert np.count_nonzero(many.colours == 39) == 300 - 39


def test_colours_are_clusters(store: vs.Store) -> None:
    filled(store)
    store.maps.fit("concepts")
    with pytest.raises(vs.NotFound, match="no line of fits 'concepts'"):
        store.maps.get("concepts", "cluster")
    store.clusters.fit("concepts", n=4)
    found = store.maps.get("concepts", "cluster")
    sizes = {cluster.name: cluster.size for cluster in store.clusters.stream()}
    assert sorted(found.legend) == sorted(sizes)
    for place, name in enumerate(found.legend):
        assert np.count_nonzero(found.colours == place) == sizes[name]


def test_what_cannot_be_shown_is_said(store: vs.Store) -> None:
    with pytest.raises(vs.NotFound, match="no map yet"):
        store.maps.get("concepts")
    with pytest.raises(vs.ValidationError, match="has 0 vectors; a map needs three"):
        store.maps.fit("concepts")
    filled(store, 5)
    store.maps.fit("concepts")
    with pytest.raises(vs.ValidationError, match="expected a plain field"):
        store.maps.get("concepts", "tags")
    with pytest.raises(vs.NotFound):
        store.maps.fit("nothing")


@pytest.mark.parametrize("dim", [1, 2])
def test_few_dimensions(place: str, clock: Clock, dim: int) -> None:
    with vs.open(place, embedder=None, clock=clock, metric="l2") as store:
        vectors = np.random.default_rng(0).standard_normal((20, dim)).astype(np.float32)
        store.concepts.add([{"id": str(n), "name": str(n)} for n in range(20)], vectors=vectors)
        store.maps.fit("concepts")
        points = store.maps.get("concepts").points
        pairs = list(itertools.combinations(range(20), 2))
        between = [np.linalg.norm(points[a] - points[b]) for a, b in pairs]
        assert np.allclose(between, [np.linalg.norm(vectors[a] - vectors[b]) for a, b in pairs], atol=1e-4)


def test_a_map_is_there_after_a_reopen(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    filled(store)
    store.maps.fit("concepts")
    points = store.maps.get("concepts").points
    store.close()
    again = open_store(read_only=True)
    assert np.array_equal(again.maps.get("concepts").points, points)


@pytest.mark.slow  # numba compiles for half a minute
def test_umap_keeps_the_fitted_points_and_places_later_ones_beside_their_neighbours(store: vs.Store) -> None:
    vectors = filled(store, 120, 64)
    store.maps.fit("concepts", "umap")
    before = store.maps.get("concepts")
    assert before.points.shape == (120, 2) and np.isfinite(before.points).all() and before.info.method == "umap"
    store.concepts.add({"id": "new", "name": "new"}, vectors=vectors[7:8])
    after = store.maps.get("concepts")
    assert np.array_equal(after.points[:120], before.points)
    nearest = np.argsort(np.linalg.norm(before.points - after.points[120], axis=1))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    mates = np.argsort(-(unit @ unit[7]))[:40]
    assert set(nearest[:3].tolist()) <= set(mates.tolist())


def test_a_map_is_written_for_embedding_atlas(store: vs.Store, tmp_path: Path) -> None:
    """Its `neighbors` are zero-based rows of the file, nearest first, and equal a search's."""
    filled(store, 60)
    store.maps.fit("concepts")
    store.concepts.delete("c7")
    written = store.maps.export("concepts", tmp_path / "map.parquet", "domain", neighbours=3)
    frame = pandas.read_parquet(tmp_path / "map.parquet")
    plane = store.maps.get("concepts", "domain")

    assert tuple(frame["id"]) == plane.ids and written.rows == 59 == len(frame)
    assert tuple(frame.columns) == written.columns and {"name", "domain", "text", "x", "y"} <= set(frame.columns)
    assert np.array_equal(frame[["x", "y"]].to_numpy(), plane.points)
    assert frame["shown_by"].tolist() == frame["domain"].tolist() and frame["text"][0] == "n0"
    for place in (0, 20, 58):
        near = frame["neighbors"][place]
        hits = store.concepts.search(vs.Id(frame["id"][place]), k=3)
        assert [frame["id"][row] for row in near["ids"]] == hits.ids
        assert near["distances"] == pytest.approx([hit.distance for hit in hits], abs=1e-6)


def test_a_map_that_cannot_be_written_is_said(store: vs.Store, tmp_path: Path) -> None:
    filled(store, 10)
    with pytest.raises(vs.NotFound, match="no map yet"):
        store.maps.export("concepts", tmp_path / "map.parquet")
    store.maps.fit("concepts")
    with pytest.raises(vs.ValidationError, match=r"ends in \.parquet, got .*map\.csv"):
        store.maps.export("concepts", tmp_path / "map.csv")
    with pytest.raises(vs.ValidationError, match=r"neighbours: expected .*0\.\.100, got 101"):
        store.maps.export("concepts", tmp_path / "map.parquet", neighbours=101)
    assert list(tmp_path.glob("*.parquet")) == []


async def test_datasette_opens_a_copy_of_the_catalog(tmp_path: Path) -> None:
    """As docs/how-to/export.md has it: a page for each table, filters, and SQL."""
    with vs.open(tmp_path / "kb", embedder="hash:64") as store:
        store.concepts.add([{"name": "king", "domain": "royalty"}, {"name": "pawn", "domain": "chess"}])
    with (
        contextlib.closing(sqlite3.connect(f"file:{tmp_path}/kb/catalog.sqlite?mode=ro", uri=True)) as catalog,
        contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
    ):
        catalog.backup(copy)
    shown = Datasette([], immutables=[str(tmp_path / "copy.db")]).client

    page = await shown.get("/copy/concepts?domain=chess")
    found = (await shown.get("/copy/concepts.json?domain=chess&_shape=array")).json()

    assert page.status_code == 200 and "pawn" in page.text and "king" not in page.text
    assert [row["name"] for row in found] == ["pawn"]
    found = (await shown.get("/copy/concepts.json?_search=pawn&_shape=array")).json()
    assert [row["name"] for row in found] == ["pawn"], "the search box asks the full text"
    tables = [table["name"] for table in (await shown.get("/copy.json")).json()["tables"]]
    wrong = [table for table in tables if (await shown.get(f"/copy/{table}.json?_size=1")).status_code != 200]
    assert len(tables) > 10 and wrong == []
