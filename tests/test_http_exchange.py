"""Export and import over HTTP, and that every route of the services that this one replaces has its place here."""

from __future__ import annotations

import gzip
import io
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import vectorstore as vs
from tests.http_client import problem, serving
from vectorstore.http import Limits

LINES = "application/x-ndjson"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """On disk alone: what is exchanged is files."""
    return tmp_path / "kb"


@pytest.fixture
def client(store: vs.Store) -> Iterator[TestClient]:
    with serving(store, work=False) as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[TestClient, vs.Store]]:
    """A second store, empty."""
    with vs.open(tmp_path / "other", "hash:64") as store, serving(store, work=False) as opened:
        yield opened, store


def fill(store: vs.Store) -> None:
    store.contexts.add(
        [
            {"id": "science", "name": "science", "description": "all of it"},
            {"id": "physics", "name": "physics", "parent": "science"},
        ]
    )
    store.concepts.add(
        [{"id": f"p{n}", "name": f"p{n}", "context": "physics", "quality": n / 10} for n in range(10)]
        + [{"id": "law", "name": "law"}]
    )
    store.analogies.add([{"id": "a", "source_domain": "atom", "target_domain": "sun", "context": "physics"}])


def same(one: vs.Store, two: vs.Store, kind: str, where: Any = None) -> bool:
    return list(one.collection(kind).stream(where)) == list(two.collection(kind).stream(where))


def test_a_context_goes_out_and_comes_in(
    client: TestClient, store: vs.Store, other: tuple[TestClient, vs.Store]
) -> None:
    fill(store)
    sent = client.post("/contexts/physics/export")
    assert sent.status_code == 200 and sent.headers["content-type"] == LINES
    assert int(sent.headers["content-length"]) == len(sent.content)
    header, *lines = map(json.loads, sent.text.splitlines())
    assert {kind: count for kind, count in header["records"].items() if count} == {
        "contexts": 2,
        "concepts": 10,
        "analogies": 1,
    } and len(lines) == 13
    there, empty = other
    came = there.post("/contexts/physics/import", content=sent.content, headers={"Content-Type": LINES})
    assert came.json()["added"] == {"contexts": 2, "concepts": 10, "analogies": 1}, came.text
    assert same(store, empty, "contexts", {"id__in": ["physics", "science"]})
    assert same(store, empty, "concepts", {"context": "physics"}) and same(store, empty, "analogies")
    assert empty.concepts.get("law") is None and empty.check().findings == ()
    problem(client.post("/contexts/nowhere/export"), 404, "NotFound")


def test_records_without_a_context_come_into_the_one_that_is_named(client: TestClient, store: vs.Store) -> None:
    body = b'{"id": "x", "name": "x"}\n{"id": "y", "name": "y", "context": "elsewhere"}\n'
    came = client.post("/contexts/chemistry/import", params={"kind": "concepts"}, content=body)
    assert came.json()["added"] == {"concepts": 2}
    assert [store.concepts.get(id).context for id in "xy"] == ["chemistry", "elsewhere"]


@pytest.mark.parametrize("format", ["jsonl", "jsonl.gz", "json", "csv", "parquet", "arrow"])
def test_a_kind_in_every_format(
    client: TestClient, store: vs.Store, other: tuple[TestClient, vs.Store], format: str
) -> None:
    fill(store)
    sent = client.post("/concepts/export", json={"format": format, "contexts": ["physics"], "vectors": "none"})
    assert sent.status_code == 200 and sent.headers["content-disposition"] == f'attachment; filename="export.{format}"'
    there, empty = other
    params = {"format": format}
    came = there.post("/concepts/import", params=params, files={"file": ("../../etc/passwd", sent.content)})
    assert came.status_code == 200 and came.json()["added"]["concepts"] == 10, came.text
    assert same(store, empty, "concepts", {"context": "physics"})
    again = there.post("/concepts/import", params={**params, "on_conflict": "skip"}, content=sent.content)
    assert again.json()["added"] == {}


def test_a_whole_store(client: TestClient, store: vs.Store, other: tuple[TestClient, vs.Store]) -> None:
    fill(store)
    store.concepts.delete("p3")
    sent = client.post("/export", json={"vectors": "all", "deleted": True, "format": "jsonl.gz"})
    assert b'"deleted":"p3"' in gzip.decompress(sent.content)
    there, empty = other
    came = there.post("/import", params={"format": "jsonl.gz"}, content=sent.content).json()
    assert came["added"]["concepts"] == 10 and came["vectors"] >= 10
    assert same(store, empty, "concepts") and same(store, empty, "analogies")
    some = client.post("/export", json={"kinds": ["analogies"]}).text.splitlines()
    assert [json.loads(line)["kind"] for line in some[1:]] == ["analogies"]
    assert client.post("/concepts/export", content=b"").status_code == 200


def test_all_or_nothing_and_what_is_wrong_is_said(client: TestClient, store: vs.Store) -> None:
    fill(store)
    before = store.moment.seq
    good, bad = b'{"id": "n1", "name": "n1"}\n', b'{"id": "n2", "name": "n2", "quality": 7.5}\n'
    told = problem(client.post("/concepts/import", content=good + bad), 422, "ValidationError")
    assert told["detail"].startswith("upload.jsonl:2: ") and "0..1" in told["detail"], told
    taken = b'{"id": "p1", "name": "taken"}\n'
    told = problem(client.post("/concepts/import", content=good + taken), 409, "DuplicateId")
    assert "on_conflict" in told["detail"] and tempfile.gettempdir() not in told["detail"]
    for params, content, status, kind in (
        ({"on_conflict": "maybe"}, good, 422, "ValidationError"),
        ({"format": "pickle"}, good, 422, "ValidationError"),
        ({"format": "parquet"}, b"PAR1 and then nothing", 422, "ValidationError"),
        ({"format": "arrow"}, b"ARROW1 and then nothing", 422, "ValidationError"),
        ({"format": "jsonl.gz"}, b"no gzip at all", 422, "ValidationError"),
        ({"format": "json"}, b"[{]", 422, "ValidationError"),
        ({}, b"nothing of the kind\n", 422, "ValidationError"),
        ({}, b'{"vectorstore": 99, "spaces": {}}\n', 422, "ValidationError"),
    ):
        told = problem(client.post("/concepts/import", params=params, content=content), status, kind)
        assert tempfile.gettempdir() not in told["detail"]
    problem(client.post("/nothing/import", content=good), 404, "NotFound")
    problem(client.post("/import", content=good), 422, "ValidationError")
    problem(client.post("/concepts/import", files={"no": (None, "file")}), 422, "ValidationError")
    problem(client.post("/concepts/export", json={"format": "csv", "deleted": True}), 422, "ValidationError")
    problem(client.post("/export", json={"kinds": ["nothing"]}), 404, "NotFound")
    assert store.moment.seq == before and store.concepts.get("n1") is None


@pytest.mark.parametrize("rule", ["overwrite", "merge", "skip"])
def test_what_is_there_is_met_by_a_rule(client: TestClient, store: vs.Store, rule: str) -> None:
    fill(store)
    body = b'{"id": "p1", "name": "other", "context": "physics"}\n'
    came = client.post("/concepts/import", params={"on_conflict": rule}, content=body).json()
    assert came[{"overwrite": "overwritten", "merge": "merged", "skip": "skipped"}[rule]] == {"concepts": 1}
    found = store.concepts.get("p1")
    assert (found.name, found.quality) == {"overwrite": ("other", None), "merge": ("other", 0.1), "skip": ("p1", 0.1)}[
        rule
    ]


def test_a_file_may_be_larger_than_a_body_and_not_larger_than_its_own_limit(store: vs.Store, tmp_path: Path) -> None:
    record = {"id": "x", "name": "x", "definition": "y" * 5_000}
    small = json.dumps({**record, "id": "small", "definition": ""}).encode()
    large = b"\n".join(json.dumps({**record, "id": f"x{n}"}).encode() for n in range(4))
    with serving(store, limits=Limits(body=10_000, upload=30_000), work=False) as client:
        problem(client.post("/concepts", json={"records": [{**record, "definition": "y" * 10_000}]}), 413, "TooLarge")
        assert client.post("/concepts/import", content=small).status_code == 200
        assert client.post("/concepts/import", content=large).status_code == 200
        huge = large.replace(b'"x', b'"z') * 2
        problem(client.post("/concepts/import", content=huge), 413, "TooLarge")
        problem(client.post("/concepts/import", content=iter([huge])), 413, "TooLarge")
        problem(client.post("/concepts/import", files={"file": io.BytesIO(huge)}), 413, "TooLarge")
        assert store.concepts.count() == 5


def test_nothing_is_left_in_the_temporary_folder(
    client: TestClient, store: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    fill(store)
    body = client.post("/export").content
    client.post("/import", params={"on_conflict": "skip"}, content=body)
    client.post("/import", content=b"wrong")
    client.post("/contexts/nowhere/export")
    assert list((tmp_path / "t").iterdir()) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    told = problem(client.post("/export"), 503, "StoreError")
    assert "TMPDIR" in told["detail"]


def test_a_read_only_store_sends_and_takes_nothing(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    fill(store)
    store.close()
    with serving(open_store(read_only=True), work=False) as client:
        assert client.post("/export").status_code == 200
        problem(client.post("/concepts/import", content=b'{"id": "n", "name": "n"}\n'), 403, "ReadOnlyStore")


def test_long_requests_do_not_keep_searches_waiting(client: TestClient, store: vs.Store) -> None:
    """More exports than threads wait for a lock that one holds, and a search is answered meanwhile."""
    fill(store)
    hold, seen = threading.Event(), threading.Semaphore(0)
    export = store.export

    def slow(*args: Any, **options: Any) -> Any:
        seen.release()
        assert hold.wait(60)
        return export(*args, **options)

    object.__setattr__(store, "export", slow)
    asked = [threading.Thread(target=lambda: client.post("/export")) for _ in range(12)]
    for each in asked:
        each.start()
    try:
        for _ in range(4):
            assert seen.acquire(timeout=60)
        assert client.post("/concepts/search", json={"query": "p1", "k": 1}).json()["hits"][0]["record"]["id"] == "p1"
        assert client.post("/concepts", json={"records": [{"name": "new"}]}).status_code == 201
        assert client.get("/health").status_code == 200
    finally:
        hold.set()
        for each in asked:
            each.join()


# -- the services that this one replaces -------------------------------------------------------------------------------

# (method, path there) -> (method, path here). There they are two: a service of batches, and one of everything, whose
# routes lie below /api. Where it has a websocket, here it is lines of JSON or server-sent events.
THEIRS = {
    ("POST", "/analogies/batch"): ("POST", "/{kind}/batch"),
    ("POST", "/analogies/batch/process/{id}"): ("POST", "/workflows/{id}/process"),
    ("DELETE", "/analogies/batch"): ("DELETE", "/analogies/batch"),
    ("POST", "/analogies/compact"): ("POST", "/{kind}/compact"),
    ("GET", "/analogies/stream"): ("GET", "/analogies/stream"),
    ("GET", "/analogies/high-quality"): ("GET", "/analogies/high-quality"),
    ("GET", "/workflows"): ("GET", "/workflows"),
    ("GET", "/workflows/{id}"): ("GET", "/workflows/{id}"),
    ("GET", "/workflows/{id}/status"): ("GET", "/workflows/{id}"),
    ("POST", "/workflows/{id}/cancel"): ("POST", "/workflows/{id}/cancel"),
    ("POST", "/contexts/{name}/export"): ("POST", "/contexts/{name}/export"),
    ("POST", "/contexts/{name}/import"): ("POST", "/contexts/{name}/import"),
    ("GET", "/health"): ("GET", "/health"),
    ("GET", "/status"): ("GET", "/status"),
    ("POST", "/batch/compact"): ("POST", "/{kind}/compact"),
    ("DELETE", "/batch/cleanup"): ("POST", "/workflows/cleanup"),
    ("POST", "/api/concepts"): ("POST", "/{kind}"),
    ("GET", "/api/concepts/{id}"): ("GET", "/{kind}/{id}"),
    ("POST", "/api/concepts/search"): ("POST", "/{kind}/search"),
    ("POST", "/api/concepts/similarity"): ("POST", "/{kind}/similarity"),
    ("POST", "/api/analogies/complete"): ("POST", "/analogies/complete"),
    ("POST", "/api/analogies/cross-domain"): ("POST", "/analogies/discover"),
    ("POST", "/api/semantic-fields/discover"): ("POST", "/fields/discover"),
    ("POST", "/api/frames"): ("POST", "/{kind}"),
    ("POST", "/api/frames/instances"): ("POST", "/instances/bind"),
    ("POST", "/api/frames/query"): ("GET", "/instances/{id}/analogous"),
    ("POST", "/api/batch/analogies"): ("POST", "/{kind}/batch"),
    ("GET", "/api/batch/workflows"): ("GET", "/workflows"),
    ("GET", "/api/batch/workflows/{id}"): ("GET", "/workflows/{id}"),
    ("WS", "/api/ws/analogies/stream"): ("GET", "/analogies/stream"),
    ("WS", "/api/ws/workflows/{id}/status"): ("GET", "/workflows/{id}/events"),
    ("GET", "/api/docs-overview"): ("GET", "/openapi.json"),
}
SAME_PATH = [each for each in THEIRS if not each[1].startswith("/api") and not each[1].startswith("/batch")]


def test_every_route_of_the_source_services_has_its_place(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]
    here = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert {*THEIRS.values()} - here == {("GET", "/openapi.json")}


def test_the_batch_services_own_paths_are_answered(client: TestClient) -> None:
    """Under the very names that they have there: no 404 of a route, no 405."""
    for method, path in SAME_PATH:
        found = client.request(method, re.sub(r"\{\w+\}", "nobody", path), json=None if method == "GET" else {})
        assert found.status_code != 405 and '"urn:vectorstore:HttpError"' not in found.text, found.text


def test_how_alike_two_records_are(client: TestClient, store: vs.Store) -> None:
    fill(store)
    vectors = store.concepts.vectors(["p1", "p2"])
    cosine = float(vectors[0] @ vectors[1] / ((vectors[0] @ vectors[0]) * (vectors[1] @ vectors[1])) ** 0.5)
    found = client.post("/concepts/similarity", json={"first": "p1", "second": "p2"}).json()
    assert found["score"] == pytest.approx(cosine, abs=1e-5) and found["distance"] == pytest.approx(1 - found["score"])
    self = client.post("/concepts/similarity", json={"first": "p1", "second": "p1"}).json()
    assert self["score"] == pytest.approx(1, abs=1e-6)
    problem(client.post("/concepts/similarity", json={"first": "p1", "second": "nobody"}), 404, "NotFound")


def test_cases_of_frames_and_fields(client: TestClient, store: vs.Store) -> None:
    store.frames.add({"id": "trade", "name": "Trade", "elements": [{"name": "buyer"}, {"name": "seller"}]})
    store.concepts.add({"id": "ann", "name": "ann"})
    case = {"frame": "Trade", "bindings": {"buyer": "ann", "seller": ["bob"]}, "confidence": 0.8, "id": "deal"}
    problem(client.post("/instances/bind", json=case), 422, "UnknownConcept")
    made = client.post("/instances/bind", json={**case, "missing": "create", "extra": {"year": 1066}})
    assert made.status_code == 201 and made.json() == {"ids": ["deal"]}
    assert store.instances.get("deal").confidence == 0.8 and store.instances.get("deal").extra == {"year": 1066}
    roles = client.get("/concepts/ann/roles").json()["roles"]
    assert [(role["element"], role["frame"], role["instance"]["id"]) for role in roles] == [("buyer", "trade", "deal")]
    problem(client.post("/fields/discover", json={}), 404, "NotFound")
    store.concepts.upsert([{"id": f"c{n}", "name": f"common words {n}"} for n in range(12)])
    store.clusters.fit("concepts", n=2)
    found = client.post("/fields/discover", json={"min_coherence": -1.0}).json()
    assert sorted(found["fields"]) == sorted(record.id for record in store.fields)
