"""The service's routes of long memory answer what the library answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

import vectorstore as vs
from tests.http_client import problem, serving


@pytest.fixture
def client(store: vs.Store) -> Iterator[TestClient]:
    with serving(store, work=False) as opened:
        yield opened


def test_memories_are_recalled_associated_touched_and_forgotten(client: TestClient, store: vs.Store) -> None:
    texts = ["the kettle boiled over", "the stove was wet", "the fuse blew", "we bought a new kettle"]
    made = client.post("/memories", json={"records": [{"id": f"m{n}", "content": t} for n, t in enumerate(texts)]})
    assert made.status_code == 201
    edges = [{"source": "m0", "target": "m1"}, {"source": "m1", "target": "m2"}]
    assert client.post("/causes", json={"records": edges}).status_code == 201
    body = {"query": "kettle boiled", "k": 2, "salience": {"importance": 0.0, "recency": 0.0}}
    wanted = store.memories.recall("kettle boiled", 2, salience=vs.Salience(importance=0, recency=0))
    hits = client.post("/memories/recall", json=body).json()["hits"]
    assert [(hit["record"]["id"], hit["score"]) for hit in hits] == [(hit.id, hit.score) for hit in wanted]
    asked = {"query": "kettle boiled", "k": 4, "spread": {"hops": 2}}
    came = client.post("/memories/associate", json=asked).json()["associations"]
    known = store.memories.associate("kettle boiled", 4, spread=vs.Spread(hops=2))
    assert [(one["record"]["id"], one["score"], len(one["path"])) for one in came] == [
        (one.record.id, one.score, len(one.path)) for one in known
    ]
    effects = client.get("/memories/m0/effects?depth=5").json()["effects"]
    assert [(one["record"]["id"], one["depth"]) for one in effects] == [("m1", 1), ("m2", 2)]
    assert [one["record"]["id"] for one in client.get("/memories/m2/causes").json()["causes"]] == ["m1"]
    assert client.post("/memories/touch", json={"ids": ["m0"]}).json() == {"touched": 1}
    assert len(client.get("/memories/ladder").json()["tiers"]) == 12
    assert client.post("/memories/forget", json={}).json()["deleted"] is False
    rising = client.post("/memories/promote", json={}).json()["promotions"]
    assert [one["id"] for one in rising] == [one.id for one in store.memories.promote()] and rising
    problem(client.get("/memories/nobody/effects"), 404, "NotFound")
    problem(
        client.post("/memories/recall", json={"query": "x", "salience": {"importance": -1}}), 422, "ValidationError"
    )


def test_skills_and_minds(client: TestClient, store: vs.Store) -> None:
    skill = {"id": "fix", "name": "fix a fuse", "trigger_pattern": "fuse( box)? blew"}
    assert client.post("/skills", json={"records": [skill]}).status_code == 201
    found = client.post("/skills/triggered", json={"text": "the fuse blew again"}).json()["records"]
    assert [one["id"] for one in found] == [one.id for one in store.skills.triggered("the fuse blew again")] == ["fix"]
    assert client.post("/skills/fix/used", json={"success": True}).json()["id"] == "fix"
    assert [one["id"] for one in client.get("/skills/leaderboard?by=wilson").json()["records"]] == ["fix"]
    problem(client.post("/skills/nobody/used", json={"success": True}), 404, "NotFound")
    assert client.get("/episodes/statistics").json()["episodes"] == 0
    problem(client.get("/architectures/nobody/lineage"), 404, "NotFound")
    problem(client.post("/intelligences/nobody/move", json={"status": "active"}), 404, "NotFound")


def test_the_lattice(client: TestClient, store: vs.Store) -> None:
    first = client.post("/lattice/resolve", json={"a": "geo_1", "b": "scar_7"}).json()["intensity"]
    many = client.post("/lattice/resolve_many", json={"pairs": [["geo_1", "scar_7"], ["x", "y"]]}).json()
    assert many["intensities"][0] == pytest.approx(first + 0.1) and len(store.lattice) == 2
    anchor = store.lattice.find(order="created_at")[0].anchor
    form = client.get("/lattice/form", params={"anchor": anchor}).json()
    assert form["terms"] and form["faults"] == [] and form["intensity"] == pytest.approx(first + 0.1)
    problem(client.get("/lattice/form?anchor=nobody"), 404, "NotFound")
    assert (
        client.post("/lattice/prune", json={"older_than_days": 0.0}).json()["pruned"] == 2 and len(store.lattice) == 2
    )
    assert client.post("/lattice/decay", json={}).status_code == 200
