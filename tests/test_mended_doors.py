"""What was once wrong at the doors: arguments nobody read, counts of one process alone, pages in frames."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from starlette.testclient import TestClient

import vectorstore as vs
from tests.http_client import serving
from tests.test_http_serving import TOKEN, Service
from vectorstore.http import create_app
from vectorstore.integrations.mcp import server
from vectorstore.sync.health import StoreHealth


@asynccontextmanager
async def asking(path: Path | str, **options: Any) -> AsyncIterator[Client]:
    with vs.open(path, embedder="hash", **options) as store:
        async with Client(server(store)) as client:
            yield client


# -- assistants --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        (
            "search",
            {"query": "king", "filter": {"domain": "x"}, "limit": 1},
            "filter, limit: no argument of this tool; it takes query, kind, k, where, mode",
        ),
        ("stats", {"kind": "concepts"}, "kind: no argument of this tool; it takes none"),
        ("add", {"records": [{"name": "new"}], "upsert": True}, "it takes records, kind, replace"),
        ("search", {"query": "king", "k": True}, "expected a number, got true or false"),
        ("discover", {"source": "a", "target": "b", "min_quality": False}, "expected a number, got true or false"),
        ("discover", {"source": "a", "target": "b", "pairs": True}, "expected a number, got true or false"),
    ],
)
async def test_no_argument_of_an_assistant_is_left_unread(tool: str, arguments: dict[str, Any], said: str) -> None:
    async with asking(":memory:") as client:
        found = await client.call_tool(tool, arguments)
        assert found.is_error and said in found.content[0].text  # type: ignore[union-attr]
        counted = await client.call_tool("stats")
        assert counted.structured_content["kinds"]["concepts"]["records"] == 0  # type: ignore[index]


async def test_what_a_tool_takes_stands_in_its_schema() -> None:
    async with asking(":memory:") as client:
        schemas = {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}
        assert len(schemas) == 8 and all(schema["additionalProperties"] is False for schema in schemas.values())
        k = schemas["search"]["properties"]["k"]
        assert (k["type"], k["minimum"], k["maximum"]) == ("integer", 1, 100)
        quality = schemas["discover"]["properties"]["min_quality"]
        assert (quality["type"], quality["minimum"], quality["maximum"]) == ("number", 0, 1)


async def test_a_read_only_assistant_leaves_but_sqlites_helper_files(tmp_path: Path) -> None:
    kb = tmp_path / "kb"
    with vs.open(kb, embedder="hash") as store:
        store.concepts.add([{"name": name, "domain": name[:1]} for name in ("king", "queen", "kin")])

    def files() -> dict[str, bytes]:
        return {str(path.relative_to(kb)): path.read_bytes() for path in kb.rglob("*") if path.is_file()}

    before = files()
    helpers = {"catalog.sqlite-shm", "catalog.sqlite-wal"}
    async with asking(kb, read_only=True) as client:
        for tool, arguments in (
            ("search", {"query": "king", "mode": "hybrid"}),
            ("get", {"ids": ["default:king"]}),
            ("neighbours", {"id": "default:king"}),
            ("complete_analogy", {"a": "king", "b": "queen", "c": "kin"}),
            ("discover", {"source": "k", "target": "q", "min_quality": 0}),
            ("explain", {"query": "king"}),
            ("stats", {}),
        ):
            assert not (await client.call_tool(tool, arguments)).is_error, tool
    after = files()
    assert {name: after[name] for name in before} == before
    assert after.keys() - before.keys() <= helpers and not after.get("catalog.sqlite-wal")


# -- health ------------------------------------------------------------------------------------------------------------


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


# -- several processes over one store ----------------------------------------------------------------------------------


def figures(text: str) -> dict[str, float]:
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    return {name: float(value) for name, value in lines}


def test_several_processes_tell_their_sums_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:32") as store:
        store.concepts.add({"name": "seed"})
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    service = Service(tmp_path / "kb", "--workers", "2")
    assert [path.name[:20] for path in (tmp_path / "tmp").glob("vectorstore-*")] == ["vectorstore-metrics-"]
    headers = {"Authorization": f"Bearer {TOKEN}", "Connection": "close"}  # a connection each: that spreads them

    def get(path: str) -> httpx.Response:
        return httpx.get(f"{service.client.base_url}{path}", headers=headers, timeout=30)

    pids: dict[int, int] = {}
    asked = 0
    while len(pids) < 2 or asked < 20:
        pid = get("/status").json()["service"]["pid"]
        pids[pid] = pids.get(pid, 0) + 1
        asked += 1
        assert get("/concepts/seed").status_code == 404 and asked < 500
    labels = 'http_request_method="GET",http_response_status_code="200",http_route="/status"'
    for _ in range(6):
        found = figures(get("/metrics").text)
        assert found[f"http_server_request_duration_seconds_count{{{labels}}}"] == asked
        assert found['vectorstore_records{kind="concepts"}'] == 1
    operation = 'vectorstore_operations_total{operation="concepts.get"}'
    for _ in range(600):  # what the stores did is told each second
        if found.get(operation) == asked:
            break
        time.sleep(0.05)
        found = figures(get("/metrics").text)
    assert found[operation] == asked
    service.end(signal.SIGTERM)
    assert list((tmp_path / "tmp").glob("vectorstore-*")) == []


def test_what_a_killed_process_had_in_hand_is_forgotten_and_what_it_did_is_not(
    store: vs.Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    for name in ("gauge_livesum", "histogram"):
        for number in (dead.pid, os.getpid()):
            (tmp_path / f"{name}_{number}.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with serving(store, work=False):
        left = {path.name for path in tmp_path.glob("*.db")}
    alive = os.getpid()
    assert left == {f"gauge_livesum_{alive}.db", f"histogram_{alive}.db", f"histogram_{dead.pid}.db"}


# -- the page ----------------------------------------------------------------------------------------------------------


def test_the_page_may_not_be_framed(store: vs.Store) -> None:
    with serving(store, work=False) as client:
        policy = [each.strip() for each in client.get("/").headers["content-security-policy"].split(";")]
    for nothing in ("frame-ancestors", "object-src", "base-uri", "form-action"):
        assert f"{nothing} 'none'" in policy
