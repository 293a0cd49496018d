"""What an assistant sends: every argument is read or refused, and a read-only server writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

import vectorstore as vs
from vectorstore.integrations.mcp import server


@asynccontextmanager
async def asking(path: Path | str, **options: Any) -> AsyncIterator[Client]:
    with vs.open(path, embedder="hash", **options) as store:
        async with Client(server(store)) as client:
            yield client


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
