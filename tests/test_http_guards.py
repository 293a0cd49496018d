"""What stands before the routes holds whatever a kind is called, another site's page asks, or a client makes up."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import vectorstore as vs
from tests.http_client import TOKEN, problem, serving
from vectorstore.http import bodies, create_app, exchange, remembering, working
from vectorstore.sync.health import StoreHealth

NO_TOKEN = {"Authorization": ""}


class Page(vs.Record, table="page"):
    title: str


class Health(vs.Record, table="health"):
    title: str


@pytest.fixture
def client(store: vs.Store) -> Iterator[TestClient]:
    store.concepts.add({"id": "king", "name": "king"})
    with serving(store) as opened:
        yield opened


def test_no_name_of_a_kind_opens_it_to_those_without_a_token() -> None:
    with vs.open(":memory:", embedder="hash:64", kinds=[Page, Health]) as store:
        for kind in (Page, Health):
            store.collection(kind).add(kind(id="app.js", title="mine"))
        with serving(store) as client:
            for kind in ("page", "health"):
                for method, path, body in (
                    ("POST", f"/{kind}", {"records": [{"title": "t"}]}),
                    ("PATCH", f"/{kind}", {"records": [{"id": "app.js", "title": "t"}]}),
                    ("POST", f"/{kind}/find", {}),
                    ("POST", f"/{kind}/delete", {"ids": ["app.js"]}),
                    ("POST", f"/{kind}/import", None),
                    ("PUT", f"/{kind}/app.js", {"title": "theirs"}),
                    ("DELETE", f"/{kind}/app.js", None),
                    ("GET", f"/{kind}/app.js", None),
                ):
                    problem(client.request(method, path, json=body, headers=NO_TOKEN), 401, "Unauthorized")
                assert client.get(f"/{kind}/app.js").json()["title"] == "mine"
            for path in ("/-/a/b", "/-/../concepts/find", "/-/%2e%2e/kinds", "/-", "/page/app.js", "/metrics"):
                assert client.get(path, headers=NO_TOKEN).status_code in (401, 404)
            for method in ("POST", "PUT", "DELETE"):
                problem(client.request(method, "/-/app.js", headers=NO_TOKEN), 401, "Unauthorized")
            for path in ("/", "/health", "/-/app.js", "/-/style.css"):
                assert client.get(path, headers=NO_TOKEN).status_code == 200


def test_what_a_page_of_another_site_has_a_browser_send_is_refused(store: vs.Store) -> None:
    """Also without a token, where a text needs no leave of the browser: imports, and what has no body."""
    line = json.dumps({"kind": "concepts", "record": {"id": "king", "name": "theirs"}})
    store.concepts.add({"id": "king", "name": "king"})
    app = create_app(store, token=None, origins=["https://app.example"])
    with TestClient(app) as client:
        client.headers["content-type"] = "text/plain"
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": "http://testserver.evil.example"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ):
            for path in ("/concepts/import?on_conflict=overwrite", "/concepts/compact", "/concepts/delete"):
                problem(client.post(path, content=line, headers=headers), 403, "ForeignOrigin")
        assert [each.name for each in store.concepts.get_many(["king"])] == ["king"]
        for headers in (
            {},
            {"origin": "http://testserver"},
            {"origin": "https://testserver", "sec-fetch-site": "same-origin"},
            {"origin": "https://app.example", "sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "none"},
        ):
            assert client.post("/concepts/compact", headers=headers).status_code == 200
        assert client.get("/concepts/king", headers={"origin": "https://evil.example"}).status_code == 200


def test_behind_a_proxy_the_services_own_page_may_write_with_the_token(client: TestClient) -> None:
    """What a proxy makes of the Host header is its own; the page sends the token, which no browser adds by itself."""
    page = {"host": "127.0.0.1:8765", "origin": "https://kb.example.com", "sec-fetch-site": "same-origin"}
    assert client.post("/concepts/find", json={}, headers=page).json()["total"] == 1
    problem(client.post("/concepts/find", json={}, headers={**page, **NO_TOKEN}), 401, "Unauthorized")


def test_a_host_is_the_same_however_it_is_spelt(store: vs.Store) -> None:
    with TestClient(create_app(store, token=None, work=False)) as client:
        for host, origin, status in (
            ("LOCALHOST:8765", "http://localhost:8765", 200),
            ("localhost:8765", "http://LOCALHOST:8765", 200),
            ("localhost:8765", "http://localhost:9000", 403),
        ):
            found = client.post("/concepts/find", json={}, headers={"host": host, "origin": origin})
            assert found.status_code == status, host


# -- much that is wrong ------------------------------------------------------------------------------------------------


KINDS = [
    each
    for module in (bodies, exchange, remembering, working)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, bodies.Body)
]


def schemas(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        yield found
    for each in found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else ():
        yield from schemas(each)


def test_every_list_of_a_body_ends_at_its_first_error() -> None:
    """Of the errors of millions of elements twenty would be told, and all be made, with the service standing still."""
    lists = [
        (kind, each) for kind in KINDS for each in schemas(kind.__pydantic_core_schema__) if each.get("type") == "list"
    ]
    assert len(KINDS) > 30 and len(lists) > 30
    assert [kind for kind, each in lists if not each.get("fail_fast")] == []


MUCH: dict[str, tuple[str, Callable[[], Any]]] = {
    "vectors of texts": ("/concepts/search_many", lambda: {"queries": [[""] * 2500] * 200}),
    "a vector of texts": ("/concepts/search", lambda: {"query": [""] * 60_000}),
    "unknown members": ("/concepts/find", lambda: {f"x{n}": 1 for n in range(100_000)}),
    "unknown members below": ("/concepts/search", lambda: {"examples": {f"x{n}": 1 for n in range(100_000)}}),
    "records that are none": ("/concepts", lambda: {"records": [1] * 9_000}),
    "vectors of many spaces": (
        "/concepts",
        lambda: {"records": [{}], "vectors": {f"x{n}": [""] for n in range(50_000)}},
    ),
    "ids that are none": ("/concepts/delete", lambda: {"ids": [1] * 9_000}),
}


@pytest.mark.parametrize("what", MUCH)
def test_of_much_that_is_wrong_little_is_told(client: TestClient, what: str) -> None:
    path, body = MUCH[what]
    told = problem(client.post(path, json=body()), 422, "ValidationError")
    assert len(told["errors"]) <= 5 and "more)" not in told["detail"].replace("(and 1 more)", "").replace(
        "(and 2 more)", ""
    )


def test_of_many_wrong_corrections_the_first_is_told_and_many_right_ones_are_taken(client: TestClient) -> None:
    many = {str(n): {"name": "x"} for n in range(10_001)}
    problem(client.post("/workflows/nobody/retry", json={"changes": many}), 404, "NotFound")
    for wrong, field in (
        ({str(n): 1 for n in range(200_000)}, "changes.0"),
        ({f"x{n}": {} for n in range(200_000)}, "changes.x0.[key]"),
        ({**many, "7": [], "8": []}, "changes.7"),
        ([1] * 200_000, "changes"),
    ):
        told = problem(client.post("/workflows/nobody/retry", json={"changes": wrong}), 422, "ValidationError")
        assert [each["field"] for each in told["errors"]] == [field]


def test_what_may_be_of_several_shapes_is_told_by_its_place_and_meant_shape_alone(client: TestClient) -> None:
    recall: dict[str, Any] = {"query": "x"}
    for path, body, field in (
        ("/concepts", {"records": [{}], "vectors": {"text": [["x"]]}}, "vectors.text[0][0]"),
        ("/concepts", {"records": [{}], "vectors": [[0.5], ["x"]]}, "vectors[1][0]"),
        ("/concepts", {"records": [{}], "vectors": "x"}, "vectors"),
        ("/concepts/search", {"query": [0.5, "x"]}, "query[1]"),
        ("/concepts/search", {"query": True}, "query"),
        ("/concepts/search", {"outside": []}, "outside"),
        ("/concepts/search", {"examples": {"positive": ["x", [None]]}}, "examples.positive[1][0]"),
        ("/concepts/search_many", {"queries": ["x", 1]}, "queries[1]"),
        ("/instances/bind", {"frame": "f", "bindings": {"text": ["a", 3]}}, "bindings.text[1]"),
        ("/memories/recall", {**recall, "tier": -1}, "tier"),
        ("/memories/recall", {**recall, "tier": ["short", 0.5]}, "tier[1]"),
        ("/memories/recall", {**recall, "tier": True}, "tier"),
    ):
        told = problem(client.post(path, json=body), 422, "ValidationError")
        assert [each["field"] for each in told["errors"]] == [field]
        assert "()" not in told["detail"] and "<" not in told["detail"], told["detail"]
    for tier in ("long", 3.0, [1, "long"]):
        problem(client.post("/memories/recall", json={**recall, "tier": tier, "where": {"no": 1}}), 422, "WhereError")


def test_every_choice_of_a_body_is_made_by_shape() -> None:
    """Else each member of a union has an error of its own, and its name in Python is told as part of the place."""
    assert [
        kind for kind in KINDS for each in schemas(kind.__pydantic_core_schema__) if each.get("type") == "union"
    ] == []


# -- counts and connections --------------------------------------------------------------------------------------------


def counts(client: TestClient) -> list[str]:
    return [
        line for line in client.get("/metrics").text.splitlines() if line.startswith("http_server_request_duration")
    ]


def test_methods_that_clients_make_up_are_counted_as_one(client: TestClient) -> None:
    client.get("/nowhere", headers=NO_TOKEN)
    client.request("BREW", "/nowhere", headers=NO_TOKEN)
    before = len(counts(client))
    for number in range(50):
        assert client.request(f"BREW{number}", "/nowhere", headers=NO_TOKEN).status_code == 401
    after = counts(client)
    assert len(after) <= before + len([line for line in after if '"/metrics"' in line])
    assert any('http_request_method="_OTHER"' in line for line in after) and not any("BREW" in line for line in after)


def asked(method: str, path: str, media: bytes = b"application/json", version: str = "2.3") -> dict[str, Any]:
    """A request as a server hands it over, with the token."""
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": version}, "http_version": "1.1", "method": method,
        "path": path, "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"",
        "server": ("testserver", 80),
        "headers": [
            (b"host", b"testserver"), (b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", media),
        ],
    }  # fmt: skip


def counted(app: Any, path: str) -> dict[str, float]:
    """How many requests of a route ended in which status."""
    text = TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"}).get("/metrics").text
    return {
        each.labels["http_response_status_code"]: each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == "http_server_request_duration_seconds_count" and each.labels["http_route"] == path
    }


@pytest.mark.parametrize(
    ("path", "route"),
    [("/concepts/import", "/{kind}/import"), ("/concepts/find", "/{kind}/find"), ("/concepts", "/{kind}")],
)
@pytest.mark.parametrize("media", [b"application/json", b"multipart/form-data; boundary=x"])
def test_a_client_that_goes_away_is_no_error_of_ours(
    store: vs.Store,
    path: str,
    route: str,
    media: bytes,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is counted as 499, whichever route was reading its body, and leaves no file behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    app = create_app(store, token=TOKEN)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    pieces = iter([{"type": "http.request", "body": head + b"{" * (2 << 20), "more_body": True}])

    async def receive() -> dict[str, Any]:
        return next(pieces, {"type": "http.disconnect"})

    async def send(_: Any) -> None:
        pass

    with caplog.at_level(logging.INFO):
        asyncio.run(app(asked("POST", path, media), receive, send))
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert counted(app, route) == {"499": 1.0}
    assert [*temporary.iterdir()] == [] and len(store.concepts) == 0


@pytest.mark.parametrize("version", ["2.3", "2.4"])
@pytest.mark.parametrize(("method", "path", "route"), [
    ("GET", "/concepts/king", "/{kind}/{id}"), ("POST", "/concepts/stream", "/{kind}/stream"),
    ("POST", "/concepts/export", "/{kind}/export"),
])  # fmt: skip
@pytest.mark.parametrize("after", [0, 1])
def test_a_client_that_goes_away_during_its_answer_is_no_error_either(
    method: str, path: str, route: str, after: int, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Some servers say so by an OSError of what sends; the status is the one that was on its way."""
    pieces = iter([{"type": "http.request", "body": b"{}", "more_body": False}])
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        found = next(pieces, None)
        if found is None:
            await asyncio.Event().wait()  # nothing more is heard of it
        return found or {}

    async def send(message: Any) -> None:
        if len(sent) == after:
            raise BrokenPipeError("nobody is there")
        sent.append(message["type"])

    with vs.open(":memory:", embedder="hash:64") as store, caplog.at_level(logging.INFO):
        store.concepts.add({"id": "king", "name": "king"})
        app = create_app(store, token=TOKEN, work=False)
        asyncio.run(app(asked(method, path, version=version), receive, send))
        assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert sent == ["http.response.start"][:after] and counted(app, route) == {"200": 1.0}


def test_a_client_that_goes_away_after_its_answer_began_is_counted_by_its_status(store: vs.Store) -> None:
    app = create_app(store, token=TOKEN, work=False)
    began = asyncio.Event()
    pieces = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

    async def receive() -> dict[str, Any]:
        found = next(pieces, None)
        if found is None:
            await began.wait()
        return found or {"type": "http.disconnect"}

    async def send(_: Any) -> None:
        began.set()

    asyncio.run(app(asked("POST", "/concepts/stream"), receive, send))
    assert counted(app, "/{kind}/stream") == {"200": 1.0}


def test_an_error_that_nobody_foresaw_is_counted_as_one(store: vs.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    with serving(store) as client:
        monkeypatch.setattr(type(store.concepts), "count", broken)
        problem(client.post("/concepts/count", json={}), 500, "InternalError")
        monkeypatch.undo()
        assert any('status_code="500"' in line for line in counts(client))


def test_a_stranger_learns_of_health_no_more_than_what_failed(
    store: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checks(client: httpx.Client, token: str | None) -> Any:
        client.headers.pop("Authorization", None)
        found = client.get("/health", headers={} if token is None else {"Authorization": f"Bearer {token}"})
        assert found.status_code == 503
        return found.json()["checks"]

    wrong = {
        "readable": None,
        "writable": f"StoreGone: {tmp_path}/kb is not there any more",
        "engines": f"PermissionError: [Errno 13] Permission denied: '{tmp_path}'",
        "indexes": "concepts: 600 vectors are not in the index",
    }
    monkeypatch.setattr(vs.Store, "health", lambda _: StoreHealth(wrong))
    with serving(store, work=False) as client:
        for token in (None, "another-token-of-nobody"):
            assert checks(client, token) == {
                "readable": None, "writable": "StoreGone", "engines": "PermissionError", "indexes": "failed",
            }  # fmt: skip
        assert checks(client, TOKEN) == wrong
    with TestClient(create_app(store, token=None, work=False)) as client:
        assert checks(client, None) == wrong


def test_the_page_may_not_be_framed(store: vs.Store) -> None:
    with serving(store, work=False) as client:
        policy = [each.strip() for each in client.get("/").headers["content-security-policy"].split(";")]
    for nothing in ("frame-ancestors", "object-src", "base-uri", "form-action"):
        assert f"{nothing} 'none'" in policy
