"""The service's routes of records and searches answer what the library answers, and errors are problems."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import vectorstore as vs
from tests.conftest import clustered
from tests.http_client import TOKEN, problem, serving
from vectorstore.http import Limits

NAMES = ("king", "queen", "prince", "castle", "chess", "rook", "heat", "entropy")


@pytest.fixture
def client(store: vs.Store) -> Iterator[TestClient]:
    store.concepts.add(
        [
            {"name": name, "domain": "royalty" if place < 4 else "other", "quality": place / 10}
            for place, name in enumerate(NAMES)
        ]
    )
    with serving(store) as opened:
        yield opened


def ids_of(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [hit["record"]["id"] for hit in response.json()["hits"]]


def test_a_record_is_written_read_changed_deleted_restored_and_erased(client: TestClient, store: vs.Store) -> None:
    made = client.post("/concepts", json={"records": [{"name": "duke", "tags": ["noble"]}]})
    assert made.status_code == 201 and made.json() == {"ids": ["default:duke"]}
    assert client.get("/concepts/default:duke").json() == store.concepts.get("default:duke").model_dump(mode="json")
    changed = client.patch("/concepts/default:duke", json={"domain": "royalty"})
    assert changed.json()["domain"] == "royalty" and changed.json()["version"] == 2
    put = client.put("/concepts/default:duke", json={"name": "duke", "definition": "a noble"})
    assert put.status_code == 200 and store.concepts.get("default:duke").domain is None
    assert client.patch("/concepts", json={"records": [{"id": "default:duke", "quality": 0.5}]}).json() == {
        "updated": 1
    }
    assert client.delete("/concepts/default:duke").json() == {"deleted": 1}
    problem(client.get("/concepts/default:duke"), 404, "NotFound")
    problem(client.delete("/concepts/default:duke"), 404, "NotFound")
    assert client.post("/concepts/restore", json={"ids": ["default:duke"]}).json() == {"restored": 1}
    assert client.post("/concepts/delete", json={"where": {"name": "duke"}, "dry_run": True}).json() == {"deleted": 1}
    assert "default:duke" in store.concepts
    assert client.post("/concepts/delete", json={"where": {"name": "duke"}}).json() == {"deleted": 1}
    problem(client.post("/concepts/purge", json={"ids": ["default:duke", "default:king"]}), 409, "ConflictError")
    assert client.post("/concepts/purge", json={"ids": ["default:duke"]}).json() == {"purged": 1, "finished": True}
    assert client.post("/concepts/restore", json={"ids": ["default:duke"]}).json() == {"restored": 0}


def test_upsert_replaces_and_add_refuses(client: TestClient) -> None:
    body = {"records": [{"name": "king", "definition": "again"}]}
    problem(client.post("/concepts", json=body), 409, "DuplicateId")
    assert client.post("/concepts?upsert=true", json=body).status_code == 200
    assert client.get("/concepts/default:king").json()["definition"] == "again"


def test_a_bad_record_is_named_and_nothing_is_written(client: TestClient, store: vs.Store) -> None:
    records = [{"name": f"n{place}", "quality": 7.5 if place == 17 else 0.5} for place in range(20)]
    body = problem(client.post("/concepts", json={"records": records}), 422, "ValidationError")
    assert body["field"] == "concepts[17].quality" and body["rule"] == "expected 0..1" and "7.5" in body["detail"]
    assert len(store.concepts) == len(NAMES)


def test_pages_visit_each_record_once(client: TestClient, store: vs.Store) -> None:
    seen, after = [], None
    while True:
        page = client.get(
            "/concepts", params={"limit": 3, "order": "-name", **({"after": after} if after else {})}
        ).json()
        assert page["total"] == len(NAMES)
        seen += [record["name"] for record in page["records"]]
        after = page["next"]
        if after is None:
            break
    assert seen == sorted(NAMES, reverse=True)
    found = client.post("/concepts/find", json={"where": {"quality__gte": 0.5}, "order": "name"}).json()
    assert [record["name"] for record in found["records"]] == ["entropy", "heat", "rook"]
    assert client.post("/concepts/count", json={"where": {"domain": "royalty"}}).json() == {"count": 4}
    assert client.post("/concepts/count", json={"ids": ["default:king", "nobody"]}).json() == {"count": 1}
    got = client.post("/concepts/get", json={"ids": ["default:queen", "nobody", "default:king"]}).json()["records"]
    assert [record and record["name"] for record in got] == ["queen", None, "king"]
    facets = client.post("/concepts/facets", json={"field": "domain"}).json()["facets"]
    assert facets == [["other", 4], ["royalty", 4]]


def test_kinds_and_their_schemas(client: TestClient, store: vs.Store) -> None:
    kinds = client.get("/kinds").json()["kinds"]
    assert [kind["name"] for kind in kinds] == store.kinds
    assert {kind["name"]: kind["count"] for kind in kinds}["concepts"] == len(NAMES)
    assert client.get("/kinds/concepts").json() == vs.Concept.model_json_schema()
    problem(client.get("/kinds/nothing"), 404, "NotFound")


@pytest.mark.parametrize(
    "body",
    [
        {"query": "a king"},
        {"query": "a king", "k": 3, "where": {"domain": "other"}},
        {"query": "a king", "k": 3, "mode": "text"},
        {"query": "king of chess", "mode": "hybrid", "fusion": "rrf"},
        {"query": "king", "exact": True, "mmr": 0.5},
        {"query": "king", "group_by": "domain", "group_size": 2},
        {"query": "king", "outside": {"domain": "royalty"}},
    ],
)
def test_a_search_answers_what_the_library_answers(client: TestClient, store: vs.Store, body: dict[str, Any]) -> None:
    options = {key: value for key, value in body.items() if key != "query"}
    wanted = store.concepts.search(body["query"], **options)
    answer = client.post("/concepts/search", json=body).json()
    assert [(hit["record"]["id"], hit["score"]) for hit in answer["hits"]] == [(hit.id, hit.score) for hit in wanted]
    assert (answer["exact"], answer["recall_promised"], answer["plan"]["name"]) == (
        wanted.exact, wanted.recall_promised, wanted.plan.name,
    )  # fmt: skip


def test_other_ways_to_ask(client: TestClient, store: vs.Store) -> None:
    near = store.concepts.search(vs.Id("default:king"), 3).ids
    assert ids_of(client.post("/concepts/search", json={"id": "default:king", "k": 3})) == near
    assert ids_of(client.get("/concepts/default:king/neighbours?k=3")) == near
    vector = store.concepts.vectors(["default:king"])[0]
    assert ids_of(client.post("/concepts/search", json={"query": vector.tolist(), "k": 1})) == ["default:king"]
    told = client.get("/concepts/default:king/vector").json()
    assert np.array_equal(np.array(told["vector"], np.float32), vector) and told["about"]["dim"] == 64
    liked = {"positive_ids": ["default:king"], "negative": ["entropy"]}
    wanted = store.concepts.search(vs.Recommend([vs.Id("default:king")], ["entropy"]), 4).ids
    assert ids_of(client.post("/concepts/search", json={"examples": liked, "k": 4})) == wanted
    many = client.post("/concepts/search_many", json={"queries": ["king", "heat"], "k": 2}).json()["answers"]
    assert [[hit["record"]["id"] for hit in one["hits"]] for one in many] == [
        hits.ids for hits in store.concepts.search_many(["king", "heat"], 2)
    ]
    lines = client.post("/concepts/search_range", json={"query": "king", "min_score": 0.1}).text.splitlines()
    wanted_hits = list(store.concepts.search_range("king", 0.1))
    assert [json.loads(line)["record"]["id"] for line in lines] == [hit.id for hit in wanted_hits] and lines
    everywhere = client.post("/search", json={"query": "king", "kinds": ["concepts"], "k": 2})
    assert ids_of(everywhere) == store.search("king", 2, kinds=["concepts"]).ids
    explained = client.post("/concepts/search", json={"query": "king", "explain": True, "k": 1}).json()["explain"]
    assert explained["hits"][0]["parts"] == {"vector": pytest.approx(explained["hits"][0]["score"])}
    kept = client.post("/concepts/search", json={"query": "king", "min_score": 0.99}).json()["hits"]
    assert [hit["record"]["id"] for hit in kept] == ["default:king"]
    aged = {"query": "king", "decay": {"half_life_days": 30}}
    assert ids_of(client.post("/concepts/search", json=aged))[0] == "default:king"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"query": "x", "k": 0}, "k"),
        ({"query": "x", "k": True}, "k"),
        ({"query": "x", "k": "5"}, "k"),
        ({"query": "x", "k": 10**9}, "k"),
        ({"query": "x", "recall": 1.5}, "recall"),
        ({"query": "x", "nothing": 1}, "nothing"),
        ({"query": ""}, "query"),
        ({"query": []}, "query"),
        ({}, "search"),
        ({"query": "x", "id": "y"}, "search"),
        ({"query": "x", "where": {"nothing": 1}}, "concepts.where.nothing"),
        ({"query": [1.0, 2.0]}, "concepts.search"),
        ({"query": "x", "decay": {}}, "Decay"),
    ],
)
def test_bad_arguments_are_named(client: TestClient, body: dict[str, Any], field: str) -> None:
    response = client.post("/concepts/search", json=body)
    assert response.status_code == 422, response.text
    assert response.json()["field"].startswith(field), response.json()


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", "[" * 100_000, "9" * 5_000, '"\\ud800"', "{", ""]
)
def test_what_is_no_json_number_is_refused_and_not_echoed(client: TestClient, text: str) -> None:
    for path in ("/concepts/search", "/concepts"):
        body = '{"query": [1.0, %s], "records": [{"name": "x", "quality": %s}]}' % (text, text)  # noqa: UP031
        response = client.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code in (400, 422), response.text
        assert len(response.text) < 2_000


def test_limits_of_one_request(store: vs.Store) -> None:
    with serving(store, limits=Limits(body=2_000, k=5, queries=3, work=10, records=2)) as client:
        problem(client.post("/concepts", content=b"x" * 3_000), 413, "TooLarge")

        def pieces() -> Iterator[bytes]:
            yield from (b"x" * 500 for _ in range(10))

        problem(client.post("/concepts", content=pieces()), 413, "TooLarge")
        problem(
            client.post("/concepts", json={"records": [{"name": str(n)} for n in range(3)]}), 422, "ValidationError"
        )
        problem(client.post("/concepts/search", json={"query": "x", "k": 6}), 422, "ValidationError")
        for body in ({"queries": ["x"] * 4, "k": 1}, {"queries": ["x"] * 3, "k": 5}):
            problem(client.post("/concepts/search_many", json=body), 422, "ValidationError")
        assert len(store.concepts) == 0


@pytest.mark.parametrize("kind", ["nothing", "sqlite_master", "concepts; DROP TABLE concepts", "%2e%2e", "CON"])
def test_an_unknown_kind_is_not_there(client: TestClient, kind: str) -> None:
    for response in (
        client.get(f"/{kind}"),
        client.post(f"/{kind}/search", json={"query": "x"}),
        client.get(f"/{kind}/x"),
    ):
        assert response.status_code in (404, 405), response.text


def test_without_the_token_everything_is_the_same_401(client: TestClient) -> None:
    texts = set()
    for header in ({}, {"Authorization": TOKEN}, {"Authorization": "Bearer x"}, {"Authorization": b"Bearer \xff\xfe"}):
        for path in ("/concepts", "/nothing", "/metrics", "/openapi.json", "/status"):
            client.headers.pop("Authorization", None)
            response = client.get(path, headers=header)
            problem(response, 401, "Unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            texts.add(response.text)
    assert len(texts) == 1
    assert client.get("/health").status_code == 200 and client.get("/").status_code == 200


def test_another_sites_name_or_page_is_refused(client: TestClient) -> None:
    assert client.get("/concepts", headers={"host": "evil.example"}).status_code == 400
    asked = client.options(
        "/concepts", headers={"origin": "https://evil.example", "access-control-request-method": "GET"}
    )
    assert "access-control-allow-origin" not in asked.headers
    answered = client.get("/concepts", headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answered.headers


def test_origins_that_are_allowed_may_call(store: vs.Store) -> None:
    with serving(store, origins=["https://app.example"]) as client:
        origin = {"origin": "https://app.example", "access-control-request-method": "POST"}
        assert (
            client.options("/concepts", headers=origin).headers["access-control-allow-origin"] == "https://app.example"
        )
        other = {**origin, "origin": "https://evil.example"}
        assert "access-control-allow-origin" not in client.options("/concepts", headers=other).headers


def test_every_match_is_streamed_at_flat_memory(store: vs.Store) -> None:
    rows = 3_000
    store.concepts.add([{"name": f"n{n}"} for n in range(rows)], vectors=clustered(rows, 64))
    with serving(store) as client, client.stream("POST", "/concepts/stream", json={}) as response:
        assert response.headers["content-type"].startswith("application/x-ndjson")
        pieces = list(response.iter_raw())
    assert max(map(len, pieces)) < 200_000 and len(pieces) > 5
    assert [json.loads(line)["name"] for line in b"".join(pieces).splitlines()] == [f"n{n}" for n in range(rows)]
    with serving(store) as client:
        assert len(client.post("/concepts/stream?limit=7", json={}).text.splitlines()) == 7
        for limit in (0, -1):
            problem(client.post(f"/concepts/stream?limit={limit}", json={}), 422, "ValidationError")
        problem(client.post("/concepts/stream", json={"where": {"nothing": 1}}), 422, "WhereError")


def test_a_store_that_is_read_only_says_403(open_store: Any) -> None:
    open_store().close()
    with serving(open_store(read_only=True)) as client:
        problem(client.post("/concepts", json={"records": [{"name": "x"}], "vectors": [[1.0]]}), 403, "ReadOnlyStore")
        assert client.get("/concepts").json()["total"] == 0
        assert "writable" not in client.get("/health").json()["checks"]
