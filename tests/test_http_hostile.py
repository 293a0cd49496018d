"""The service under hostile requests: a documented status for each, never a 500, nothing of a text runs or leaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import vectorstore as vs
from tests.hostile import TEXTS, watched
from tests.http_client import TOKEN
from vectorstore.http import Limits, create_app

DOCUMENTED = {200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 413, 415, 422, 503}
BODIES: dict[str, Any] = {
    "/concepts": {"records": [{"id": "§", "name": "§", "definition": "§", "tags": ["§"], "extra": {"§": "§"}}]},
    "/concepts/search": {"query": "§", "k": 3, "mode": "hybrid"},
    "/concepts/find": {
        "where": {"name": "§", "or": [{"extra.§": "§"}, {"tags__has": "§"}]},
        "order": "§",
        "after": "§",
    },
    "/concepts/count": {"where": {"§": "§"}},
    "/concepts/get": {"ids": ["§", "a"]},
    "/concepts/delete": {"ids": ["§"]},
    "/concepts/restore": {"ids": ["§"]},
    "/concepts/purge": {"ids": ["§"]},
    "/concepts/facets": {"field": "§", "query": "§"},
    "/concepts/stream": {"where": {"domain__contains": "§"}},
    "/§": {"records": [{"name": "§"}]},
    "/memories": {"records": [{"content": "§", "id": "§"}]},
    "/analogies/complete": {"a": "§", "b": "king", "c": "queen", "k": 1},
    "/causes": {"records": [{"source": "§", "target": "§"}]},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("http")
    with vs.open(folder / "kb", embedder="hash:16", auto_publish=False) as store:
        store.concepts.add([{"id": "a", "name": "king"}, {"id": "b", "name": "queen", "tags": ["t"]}])
        app = create_app(store, token=TOKEN, limits=Limits(body=1 << 20), work=False)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with TestClient(app, headers=headers, raise_server_exceptions=False) as opened:
            yield opened
        assert {"a", "b"} <= {record.id for record in store.concepts} and store.check().findings == ()


def filled(plan: Any, text: str) -> Any:
    """The body with the text in each place that takes one."""
    return json.loads(json.dumps(plan).replace("\\u00a7", json.dumps(text)[1:-1]))


@pytest.mark.parametrize("path", BODIES)
def test_no_text_makes_anything_but_a_documented_answer(path: str, client: TestClient, tmp_path: Path) -> None:
    from urllib.parse import quote

    client.post(path.replace("§", "x"), json=filled(BODIES[path], "warm"))
    with watched(tmp_path.parent) as events:
        for text in TEXTS:
            body = json.dumps(filled(BODIES[path], text)).encode()  # a lone surrogate goes as an escape
            where = path.replace("§", quote(text.encode("utf-8", "surrogatepass"), safe=""))
            answer = client.post(where[:8000], content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in DOCUMENTED, f"{text!r}: {answer.status_code} {answer.text[:300]}"
            answer.json() if "ndjson" not in answer.headers["content-type"] else answer.text.encode()
    assert [event for event in events if not event.startswith(("exec", "compile", "open"))] == []


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_in_a_path_makes_anything_but_a_documented_answer(text: str, client: TestClient) -> None:
    from urllib.parse import quote

    named = quote(text.encode("utf-8", "surrogatepass"), safe="")[:4000]
    for method, path in (("GET", f"/concepts/{named}"), ("DELETE", f"/concepts/{named}"), ("GET", f"/{named}")):
        assert client.request(method, path).status_code in DOCUMENTED
    assert client.get("/concepts", params={"after": named, "order": named}).status_code in DOCUMENTED
    assert client.patch(f"/concepts/{named}", json={"domain": "x"}).status_code in DOCUMENTED


JSON = {
    "deep list": b'{"where": {"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    "deep object": b'{"where": ' + b'{"not": ' * 20_000 + b"{}" + b"}" * 20_000 + b"}",
    "not deep enough to be refused by the reader": b'{"where": ' + b'{"not": ' * 200 + b"{}" + b"}" * 200 + b"}",
    "long number": b'{"where": {"quality": ' + b"9" * 100_000 + b"}}",
    "number beyond floats": b'{"where": {"quality": 1e999}}',
    "big number at a path": b'{"where": {"extra.n": ' + b"9" * 300 + b"}}",
    "number beyond floats at a path": b'{"where": {"extra.n": ' + b"9" * 400 + b"}}",
    "same key twice": b'{"where": {}, "where": {"name": "x"}}',
    "lone surrogate as a key": b'{"where": {"\\ud800": 1}}',
    "lone surrogate in a path": b'{"where": {"extra.\\ud800": 1}}',
    "NUL in a path": b'{"where": {"extra.a\\u0000b": 1}}',
    "invalid UTF-8": b'{"where": {"name": "\xff\xfe"}}',
    "UTF-16": '{"where": {}}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"where": {}}',
    "many terms": json.dumps({"where": {"or": [{"name": str(n)} for n in range(5000)]}}).encode(),
    "many values that must all be there": json.dumps({"where": {"tags__has_all": [str(n) for n in range(5000)]}}).encode(),
    "long pattern": json.dumps({"where": {"name__glob": "[" * 200_000}}).encode(),
    "nothing": b"",
    "text": b"hello",
    "list": b"[]",
    "null": b"null",
    "times out of range": b'{"where": {"created_at__gt": 9223372036854775807}}',
}  # fmt: skip


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("path", ["/concepts/find", "/concepts/count", "/concepts/stream", "/concepts/search"])
def test_no_json_makes_anything_but_a_documented_answer(name: str, path: str, client: TestClient) -> None:
    body = JSON[name].replace(b'{"where"', b'{"query": "x", "where"', 1) if path.endswith("search") else JSON[name]
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in DOCUMENTED, answer.text[:300]


@pytest.mark.parametrize(
    "token",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer é", "Bearer \xff\x00",
     "Bearer " + "x" * 60_000, f"bearer  {TOKEN} x", f"{TOKEN}"],
)  # fmt: skip
def test_every_wrong_token_gets_the_same_answer(token: str, client: TestClient) -> None:
    reference = client.get("/concepts", headers={"Authorization": "Bearer wrong"})
    for path in ("/concepts", "/nothing", "/concepts/a", "/kinds"):
        answer = client.get(path, headers={"Authorization": token.encode("latin-1")})
        assert (answer.status_code, answer.content) == (401, reference.content)
