"""The service's routes of work, knowledge and itself: batches survive a restart, progress is live, health is honest."""

from __future__ import annotations

import base64
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import vectorstore as vs
from tests.http_client import problem, serving

OVER = ("completed", "failed", "cancelled", "rolled_back")
ANALOGY = {"source_domain": "solar system", "target_domain": "atom", "quality": 0.9}


@pytest.fixture
def client(store: vs.Store) -> Iterator[TestClient]:
    with serving(store) as opened:
        yield opened


@pytest.fixture
def idle(store: vs.Store) -> Iterator[TestClient]:
    """A service that processes nothing by itself."""
    with serving(store, work=False) as opened:
        yield opened


def ended(client: TestClient, id: str) -> dict[str, Any]:
    """The workflow when it is over."""
    for _ in range(600):
        found: dict[str, Any] = client.get(f"/workflows/{id}").json()
        if found["status"] in OVER:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{id} does not end: {found}")


def analogies(count: int) -> list[dict[str, Any]]:
    return [{"id": f"a{n}", **ANALOGY, "quality": (n % 10) / 10} for n in range(count)]


# -- work --------------------------------------------------------------------------------------------------------------


def test_a_batch_is_written_in_the_background(client: TestClient, store: vs.Store) -> None:
    made = client.post("/analogies/batch", json={"records": analogies(120), "id": "batch-1"})
    assert made.status_code == 202 and made.json()["id"] == "batch-1" and made.json()["total"] == 120
    over = ended(client, "batch-1")
    assert (over["status"], over["processed"], over["progress"]) == ("completed", 120, 1.0)
    assert len(store.analogies) == 120
    assert client.get("/workflows").json()["workflows"][0]["id"] == "batch-1"
    assert client.get("/workflows/batch-1/status").json()["status"] == "completed"
    items = client.get("/workflows/batch-1/items").text.splitlines()
    assert [json.loads(line)["id"] for line in items] == [f"a{n}" for n in range(120)]
    log = client.get("/workflows/batch-1/log").json()["log"]
    assert [line["after"] for line in log][::-1][:2] == ["pending", "processing"]
    back = client.post("/workflows/batch-1/rollback").json()
    assert back["status"] == "rolled_back" and len(store.analogies) == 0
    assert client.post("/workflows/cleanup", json={"older_than_days": 0.0}).json() == {"removed": 1}


def test_the_source_services_routes_answer(idle: TestClient, store: vs.Store) -> None:
    made = idle.post("/analogies/batch", json={"records": analogies(10), "policy": "lenient"}).json()
    done = idle.post(f"/analogies/batch/process/{made['id']}")
    assert done.json()["status"] == "completed" and len(store.analogies) == 10
    high = idle.get("/analogies/high-quality", params={"min_quality": 0.8}).json()
    assert [record["quality"] for record in high["records"]] == [0.9, 0.8]
    lines = idle.get("/analogies/stream", params={"domain": "atom", "min_quality": 0.5, "limit": 3}).text.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a5", "a6", "a7"]
    assert idle.get("/analogies/stream", params={"domain": "nowhere"}).text == ""
    for limit in (0, -1):
        problem(idle.get("/analogies/stream", params={"limit": limit}), 422, "ValidationError")
    gone = idle.request("DELETE", "/analogies/batch", json={"domains": ["atom"], "max_quality": 0.45}).json()
    assert idle.post(f"/workflows/{gone['id']}/process").json()["status"] == "completed"
    assert {record.id for record in store.analogies} == {f"a{n}" for n in range(5, 10)}
    problem(idle.request("DELETE", "/analogies/batch", json={}), 422, "ValidationError")
    assert idle.post("/analogies/compact").status_code == 200
    assert idle.get("/contexts/default").json()["records"]["analogies"] == 5
    assert idle.get("/status").json()["store"]["kinds"]["analogies"]["records"] == 5


def test_every_state_has_its_error(idle: TestClient) -> None:
    problem(idle.get("/workflows/nobody"), 404, "NotFound")
    problem(idle.get("/workflows/nobody/events"), 404, "NotFound")
    problem(idle.post("/workflows/nobody/process"), 404, "NotFound")
    assert idle.post("/analogies/batch", json={"records": analogies(2), "id": "w"}).status_code == 202
    problem(idle.post("/analogies/batch", json={"records": analogies(2), "id": "w"}), 409, "ConflictError")
    problem(idle.post("/workflows/w/rollback"), 409, "IllegalMove")
    assert idle.post("/workflows/w/cancel").json()["status"] == "cancelled"
    problem(idle.post("/workflows/w/cancel"), 409, "IllegalMove")
    problem(idle.post("/workflows/w/process"), 409, "IllegalMove")
    problem(idle.post("/analogies/batch", json={"records": []}), 422, "ValidationError")
    problem(idle.get("/workflows", params={"status": "lost"}), 422, "ValidationError")
    problem(idle.post("/nothing/batch", json={"records": [{}]}), 404, "NotFound")
    problem(idle.post("/concepts/index", json={"recipe": "/etc/passwd"}), 422, "ValidationError")
    problem(idle.post("/concepts/clusters", json={"recipe": "../kmeans.toml"}), 422, "ValidationError")


def test_bad_items_are_listed_and_tried_again(idle: TestClient, store: vs.Store) -> None:
    records = analogies(6)
    records[2]["quality"] = 7.5
    idle.post("/analogies/batch", json={"records": records, "id": "w", "policy": "lenient"})
    over = idle.post("/workflows/w/process").json()
    assert (over["status"], over["errors"], len(store.analogies)) == ("completed", 1, 5)
    told = idle.get("/workflows/w/errors").json()["errors"]
    assert [(item["index"], item["id"]) for item in told] == [(2, "a2")] and "7.5" in told[0]["reason"]
    again = idle.post("/workflows/w/retry", json={"changes": {"2": {**records[2], "quality": 0.5}}})
    assert again.json()["status"] == "pending"
    assert idle.post("/workflows/w/process").json()["errors"] == 0 and store.analogies.get("a2").quality == 0.5


def test_progress_is_told_until_the_end(client: TestClient) -> None:
    id = client.post("/concepts/batch", json={"records": [{"name": f"n{n}"} for n in range(3_000)]}).json()["id"]
    seen = []
    with client.stream("GET", f"/workflows/{id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))
    counts = [each["processed"] for each in seen]
    assert counts == sorted(counts) and counts[-1] == 3_000 and seen[-1]["status"] == "completed"


def test_work_goes_on_after_a_restart(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    first = open_store(embedder="hash:32")
    with serving(first, work=False) as client:
        id = client.post("/concepts/batch", json={"records": [{"name": f"n{n}"} for n in range(500)]}).json()["id"]
        assert client.get(f"/workflows/{id}").json()["status"] == "pending"
    first.close()
    second = open_store(embedder="hash:32")
    with serving(second) as client:
        assert ended(client, id)["status"] == "completed" and len(second.concepts) == 500


def test_health_answers_while_much_is_processed(client: TestClient) -> None:
    id = client.post("/analogies/batch", json={"records": analogies(10_000)}).json()["id"]
    took, during = [], 0
    while client.get(f"/workflows/{id}").json()["status"] not in OVER:
        began = time.perf_counter()
        assert client.get("/health").json()["status"] == "ok"
        took.append(time.perf_counter() - began)
        during += 1
    assert ended(client, id)["status"] == "completed"
    assert during >= 3, "health was asked while the batch was processed"
    assert sorted(took)[len(took) // 2] < 1.0  # the figure itself is in benchmarks/results/serving.md


def test_indexes_and_clusters_are_made_in_the_background(idle: TestClient, store: vs.Store) -> None:
    random = np.random.default_rng(0)
    centres = np.eye(64)[:4] * 5
    store.concepts.add(
        [{"name": f"n{n}", "id": f"n{n}"} for n in range(400)],
        vectors=(centres[np.arange(400) % 4] + 0.1 * random.standard_normal((400, 64))).astype(np.float32),
    )
    fit = idle.post("/concepts/clusters", json={"n": 4, "seed": 1}).json()
    assert idle.post(f"/workflows/{fit['id']}/process").json()["status"] == "completed"
    clusters = idle.get("/concepts/clusters").json()["clusters"]
    assert [cluster["size"] for cluster in clusters] == [100] * 4
    members = idle.get(f"/clusters/{clusters[0]['id']}/members", params={"limit": 7}).json()
    assert members["total"] == 100 and len(members["members"]) == 7
    mine = idle.get(f"/concepts/{members['members'][0]['id']}/clusters").json()["memberships"]
    assert max(mine, key=mine.__getitem__) == clusters[0]["id"]
    assert idle.get("/concepts/drift").json()["changed"] == 0
    made = idle.post("/concepts/index", json={"recipe": "exact"}).json()
    assert idle.post(f"/workflows/{made['id']}/process").json()["status"] in ("completed", "failed", "rolled_back")
    problem(idle.get("/nothing/index"), 404, "NotFound")


def test_a_map_is_made_and_shown(idle: TestClient, store: vs.Store) -> None:
    problem(idle.get("/concepts/map"), 404, "NotFound")
    problem(idle.post("/concepts/map", json={}), 422, "ValidationError")
    store.concepts.add([{"name": f"n{n}", "domain": f"d{n % 2}"} for n in range(30)])
    assert idle.post("/concepts/map", json={}).json()["rows"] == 30
    shown, known = idle.get("/concepts/map", params={"colour": "domain"}).json(), store.maps.get("concepts", "domain")
    points = np.frombuffer(base64.b64decode(shown["points"]), "<f4").reshape(-1, 2)
    assert np.array_equal(points, known.points) and tuple(shown["ids"]) == known.ids
    assert np.array_equal(np.frombuffer(base64.b64decode(shown["colours"]), "<i2"), known.colours)
    assert shown["legend"] == ["d0", "d1"] and shown["info"]["method"] == "pca"


# -- knowledge ---------------------------------------------------------------------------------------------------------


def test_analogies_are_asked_as_the_library_asks(idle: TestClient, store: vs.Store) -> None:
    axes = {"man": (1, 0, 0), "woman": (1, 1, 0), "king": (1, 0, 1), "queen": (1, 1, 1), "chess": (0, -1, 0.2)}
    vectors = np.zeros((len(axes), 64), np.float32)
    vectors[:, :3] = list(axes.values())
    domains = ["people", "people", "royalty", "royalty", "games"]
    store.concepts.add(
        [{"name": name, "domain": domain} for name, domain in zip(axes, domains, strict=True)], vectors=vectors
    )
    body = {"a": "man", "b": "king", "c": "woman", "k": 2}
    wanted = store.analogies.complete("man", "king", "woman", 2)
    hits = idle.post("/analogies/complete", json=body).json()["hits"]
    assert [(hit["record"]["name"], hit["score"], hit["confidence"]) for hit in hits] == [
        (hit.record.name, hit.score, hit.confidence) for hit in wanted
    ]
    assert hits[0]["record"]["name"] == "queen" and hits[0]["confidence"] > 0.5
    sure = idle.post("/analogies/complete", json={**body, "min_confidence": 0.5}).json()["hits"]
    assert [hit["record"]["name"] for hit in sure] == ["queen"]
    problem(idle.post("/analogies/complete", json={**body, "a": "nobody"}), 404, "NotFound")
    found = idle.post("/analogies/discover", json={"source": "people", "target": "royalty", "min_quality": 0}).json()
    pairs = {each["source"]: each["target"] for each in found["analogy"]["concept_mappings"]}
    assert pairs == {"man": "king", "woman": "queen"} and len(store.analogies) == 0
    kept = {"source": "people", "target": "royalty", "min_quality": 0, "save": True}
    assert idle.post("/analogies/discover", json=kept).json()["analogy"]["id"] in store.analogies
    assert idle.post("/analogies/discover", json={**kept, "min_quality": 1}).json() == {"analogy": None}
    terms = {"source": "solar system", "source_terms": ["sun"], "target": "atom", "target_terms": ["nucleus"]}
    assert idle.post("/analogies/align", json=terms).json()["analogy"]["concept_mappings"][0]["target"] == "nucleus"
    assert idle.post("/analogies/retrieve", json={"text": "planets circle the sun"}).status_code == 200


def test_concepts_by_name_and_relation(idle: TestClient, store: vs.Store) -> None:
    store.concepts.add([{"name": name} for name in ("dog", "canine", "animal")])
    store.relations.add(
        [
            {"source": "default:dog", "target": "default:canine", "type": "hypernym"},
            {"source": "default:canine", "target": "default:animal", "type": "hypernym"},
        ]
    )
    found = idle.get("/concepts/default:dog/related", params={"type": "hypernym", "depth": 5}).json()["related"]
    assert [(each["record"]["name"], each["depth"]) for each in found] == [("canine", 1), ("animal", 2)]
    assert [edge["target"] for edge in found[1]["path"]] == ["default:canine", "default:animal"]
    names = idle.get("/concepts/lookup", params={"text": "DOG"}).json()["records"]
    assert [record["name"] for record in names] == ["dog"]
    problem(idle.get("/concepts/nobody/related"), 404, "NotFound")


def test_frames_and_instances(idle: TestClient, store: vs.Store) -> None:
    store.frames.add({"id": "trade", "name": "trade", "elements": [{"name": "buyer"}, {"name": "seller"}]})
    names = [each["element"]["name"] for each in idle.get("/frames/trade/elements").json()["elements"]]
    assert names == ["buyer", "seller"]
    problem(idle.get("/frames/nothing/elements"), 404, "NotFound")


# -- the service itself ------------------------------------------------------------------------------------------------


def test_health_turns_when_nothing_can_be_written(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    store = open_store()
    with serving(store, work=False) as client:
        assert client.get("/health").json() == {
            "status": "ok", "checks": {"readable": None, "writable": None, "indexes": None},
        }  # fmt: skip
        (tmp_path / "kb").rename(tmp_path / "elsewhere")
        try:
            told = client.get("/health")
            assert told.status_code == 503 and told.json()["status"] == "unhealthy"
            assert "StoreGone" in told.json()["checks"]["writable"]
        finally:
            (tmp_path / "elsewhere").rename(tmp_path / "kb")
        assert client.get("/health").status_code == 200


def test_health_turns_when_the_disk_is_full(
    open_store: Callable[..., vs.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    monkeypatch.setattr(sys.modules["vectorstore.sync.health"], "PLENTY", 1 << 62)
    with serving(store, work=False) as client:
        assert "MiB are free" in client.get("/health").json()["checks"]["writable"]


def test_health_turns_when_an_index_is_stale_or_broken(
    open_store: Callable[..., vs.Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["vectorstore.sync.publish"], "PUBLISH_ROWS", 500)
    random = np.random.default_rng(0)
    store = open_store()
    store.concepts.add([{"name": f"n{n}"} for n in range(600)], vectors=random.standard_normal((600, 16)))
    store.rebuild("concepts")
    assert store.health().ok
    store.concepts.add([{"name": f"m{n}"} for n in range(600)], vectors=random.standard_normal((600, 16)))
    with serving(store, work=False) as client:
        told = client.get("/health")
        assert told.status_code == 503 and "600 vectors are not in the index" in told.json()["checks"]["indexes"]
        store.publish("concepts")
        assert client.get("/health").status_code == 200
    store.close()
    for file in (tmp_path / "kb" / "indexes").rglob("*.faiss"):
        file.write_bytes(b"torn")
    with serving(open_store(), work=False) as client:
        told = client.get("/health")
        assert told.status_code == 503 and "concepts" in told.json()["checks"]["indexes"]


def test_metrics_count_what_was_done(idle: TestClient) -> None:
    for number in range(3):
        idle.post("/concepts", json={"records": [{"name": f"n{number}"}]})
    for _ in range(2):
        idle.post("/concepts/search", json={"query": "x"})
    idle.get("/concepts/nobody")
    idle.get("/concepts/nobody/either/way")
    text = idle.get("/metrics").text
    found = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}
    assert found['vectorstore_operations_total{operation="concepts.add"}'] == 3
    assert found['vectorstore_operations_total{operation="concepts.search"}'] == 2
    assert found['vectorstore_records{kind="concepts"}'] == 3

    def seen(method: str, route: str, status: int) -> float:
        labels = f'http_request_method="{method}",http_response_status_code="{status}",http_route="{route}"'
        return found[f"http_server_request_duration_seconds_count{{{labels}}}"]

    assert seen("POST", "/{kind}", 201) == 3 and seen("POST", "/{kind}/search", 200) == 2
    assert seen("GET", "/{kind}/{id}", 404) == 1 and seen("GET", "none", 404) == 1
    assert found["http_server_active_requests"] == 1, "the one that asks"


def test_several_threads_ask_at_once(client: TestClient, store: vs.Store) -> None:
    store.concepts.add([{"name": f"n{n}"} for n in range(50)])
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(10):
            name = f"t{number}-{turn}"
            if client.post("/concepts", json={"records": [{"name": name}]}).status_code != 201:
                wrong.append(f"{name} was not written")
            hits = client.post("/concepts/search", json={"query": name, "k": 1}).json()["hits"]
            if hits[0]["record"]["name"] != name:
                wrong.append(f"{name} was not found")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(store.concepts) == 110
