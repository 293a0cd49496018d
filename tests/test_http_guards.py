"""What stands before the routes holds whatever a kind is called, another site's page asks, or a client makes up."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
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


# -- much that is wrong ------------------------------------------------------------------------------------------------


def schemas(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        yield found
    for each in found.values() if isinstance(found, dict) else found if isinstance(found, list | tuple) else ():
        yield from schemas(each)


def test_every_list_of_a_body_ends_at_its_first_error() -> None:
    """Of the errors of millions of elements twenty would be told, and all be made, with the service standing still."""
    kinds = [
        each
        for module in (bodies, exchange, remembering, working)
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, bodies.Body)
    ]
    lists = [
        (kind, each) for kind in kinds for each in schemas(kind.__pydantic_core_schema__) if each.get("type") == "list"
    ]
    assert len(kinds) > 30 and len(lists) > 30
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


@pytest.mark.parametrize("path", ["/concepts/import", "/concepts/find", "/concepts"])
@pytest.mark.parametrize("media", [b"application/json", b"multipart/form-data; boundary=x"])
def test_a_client_that_goes_away_is_no_error_of_ours(
    store: vs.Store, path: str, media: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(store, token=TOKEN)
    pieces = iter([{"type": "http.request", "body": b"--x\r\n", "more_body": True}])
    sent: list[int] = []

    async def receive() -> dict[str, Any]:
        return next(pieces, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        sent.append(message.get("status", 0))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
        "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"", "server": ("testserver", 80),
        "headers": [
            (b"host", b"testserver"), (b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", media),
        ],
    }  # fmt: skip
    with caplog.at_level(logging.INFO):
        asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert all(status in (0, 400, 422, 499) for status in sent)


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
