"""The MCP server, asked by the official client: over stdio as an assistant starts it, and in this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcp import Client, MCPError, StdioServerParameters

import vectorstore as vs
from vectorstore.integrations.mcp import MAX_K, server

NAMES = ["man", "king", "woman", "queen", "apple", "pear"]
VECTORS = np.array(
    [[1, 0, 0, 0.1], [1, 0, 1, 0.1], [0, 1, 0, 0.1], [0, 1, 1, 0.1], [0.1, 0.1, -1, 1], [0.1, 0, -1, 1]],
    dtype=np.float32,
)
COMMAND = ["-m", "vectorstore.cli", "mcp"]
TOOLS = {"search", "get", "complete_analogy", "discover", "neighbours", "explain", "stats"}


def by_name(texts: list[str]) -> np.ndarray:
    """Planted vectors, whichever process embeds."""
    return np.stack([VECTORS[NAMES.index(text)] if text in NAMES else VECTORS[0] for text in texts])


def fill(store: vs.Store, **how: Any) -> None:
    records = [{"name": name, "domain": "fruit" if n > 3 else "people"} for n, name in enumerate(NAMES)]
    store.concepts.add(records, **how)


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """A store on disk that any process can embed for."""
    with vs.open(tmp_path / "kb", "hash:64") as store:
        fill(store)
    return tmp_path / "kb"


@asynccontextmanager
async def over_stdio(path: Path, *options: str, mode: str = "auto") -> AsyncIterator[Client]:
    started = StdioServerParameters(command=sys.executable, args=[*COMMAND, str(path), *options], env=dict(os.environ))
    async with Client(started, read_timeout_seconds=60, mode=mode) as client:
        yield client


def given(result: Any) -> Any:
    """What a tool gave, which is the same as data and as text."""
    assert not result.is_error, result.content
    (block,) = result.content
    assert json.loads(block.text) == result.structured_content
    return result.structured_content


def refused(result: Any) -> str:
    assert result.is_error
    return str(result.content[0].text)


async def test_every_tool_is_listed_and_answers_over_stdio(kb: Path) -> None:
    async with over_stdio(kb) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(listed) == TOOLS | {"add"}
        for name, tool in listed.items():
            assert tool.description and tool.annotations is not None
            assert tool.annotations.read_only_hint == (name != "add")
            assert all("description" in each or "title" in each for each in tool.input_schema["properties"].values())
        assert "concepts (6)" in (client.instructions or "")

        sovereign = {"name": "sovereign ruler", "domain": "people", "wikidata": "Q1"}
        assert given(await client.call_tool("add", {"records": [sovereign]}))["ids"] == ["default:sovereign ruler"]
        found = given(await client.call_tool("search", {"query": "sovereign ruler", "k": 2}))
        assert found["hits"][0]["record"]["extra"] == {"wikidata": "Q1"} and found["exact"]
        assert found["hits"][0]["score"] == pytest.approx(1.0, abs=1e-6)
        read = given(await client.call_tool("get", {"ids": ["default:king", "default:nobody"]}))
        assert read["records"][0]["name"] == "king" and read["missing"] == ["default:nobody"]
        completed = given(await client.call_tool("complete_analogy", {"a": "man", "b": "king", "c": "woman", "k": 3}))
        assert len(completed["hits"]) == 3 and completed["hits"][0]["confidence"] is not None
        mapped = given(await client.call_tool("discover", {"source": "people", "target": "fruit", "min_quality": 0}))
        assert mapped["analogy"]["source_domain"] == "people"
        near = given(await client.call_tool("neighbours", {"id": "default:king", "outside": "domain"}))
        assert {hit["record"]["domain"] for hit in near["hits"]} == {"fruit"}
        explained = given(await client.call_tool("explain", {"query": "king", "mode": "hybrid"}))
        assert explained["plan"]["reason"] and sum(explained["hits"][0]["parts"].values()) == pytest.approx(
            explained["hits"][0]["score"]
        )
        assert given(await client.call_tool("stats"))["kinds"]["concepts"]["records"] == 7

        assert {str(each.uri) for each in (await client.list_resources()).resources} == {
            "vectorstore://stats",
            "vectorstore://kinds",
        }
        (template,) = (await client.list_resource_templates()).resource_templates
        assert template.uri_template == "vectorstore://{kind}/{id}"
        (kinds,) = (await client.read_resource("vectorstore://kinds")).contents
        assert "definition" in json.loads(kinds.text)["concepts"]["properties"]  # type: ignore[union-attr]
        (record,) = (await client.read_resource("vectorstore://concepts/default%3Asovereign%20ruler")).contents
        assert json.loads(record.text)["extra"] == {"wikidata": "Q1"}  # type: ignore[union-attr]
    with vs.open(kb) as store:
        assert store.concepts.count() == 7 and store.check().findings == ()
        assert store.trail.list(operation="add")[0].actor == "mcp"


async def test_read_only_offers_nothing_that_writes_and_sees_what_others_wrote(kb: Path) -> None:
    before = {path: path.read_bytes() for path in kb.rglob("*") if path.is_file()}
    async with over_stdio(kb, "--read-only", mode="legacy") as client:  # as clients of before 2026 shake hands
        assert {tool.name for tool in (await client.list_tools()).tools} == TOOLS
        assert "read-only" in (client.instructions or "")
        assert "add" in refused(await client.call_tool("add", {"records": [{"name": "x"}]}))
        given(await client.call_tool("discover", {"source": "people", "target": "fruit", "min_quality": 0}))
        given(await client.call_tool("search", {"query": "king"}))
        assert {path: path.read_bytes() for path in kb.rglob("*") if path in before} == before
        with vs.open(kb) as store:
            store.concepts.add({"name": "emperor"})
        found = given(await client.call_tool("search", {"query": "emperor", "k": 1}))
        assert found["hits"][0]["id"] == "default:emperor"


@asynccontextmanager
async def planted() -> AsyncIterator[tuple[vs.Store, Client]]:
    with vs.open(":memory:", embedder=by_name) as store:
        fill(store)
        async with Client(server(store)) as client:
            yield store, client


async def test_answers_are_the_librarys() -> None:
    async with planted() as (store, client):
        where = {"domain": "people"}
        for arguments, hits in (
            (("search", {"query": "king", "k": 3, "where": where}), store.concepts.search("king", 3, where)),
            (("search", {"query": "king", "mode": "text"}), store.concepts.search("king", mode="text")),
            (("neighbours", {"id": "default:king", "k": 3}), store.concepts.search(vs.Id("default:king"), 3)),
            (
                ("complete_analogy", {"a": "man", "b": "king", "c": "woman", "method": "3cosmul"}),
                store.analogies.complete("man", "king", "woman", method="3cosmul"),
            ),
        ):
            found = given(await client.call_tool(*arguments))
            assert [(hit["id"], hit["score"]) for hit in found["hits"]] == [(hit.id, hit.score) for hit in hits]
            assert (found["exact"], found["plan"]) == (hits.exact, hits.plan.reason)
        completed = given(await client.call_tool("complete_analogy", {"a": "man", "b": "king", "c": "woman"}))
        assert completed["hits"][0]["id"] == "default:queen"


async def test_a_discovered_analogy_is_kept_by_adding_it() -> None:
    async with planted() as (store, client):
        arguments = {"source": "people", "target": "fruit", "min_quality": 0}
        analogy = given(await client.call_tool("discover", arguments))["analogy"]
        assert store.analogies.count() == 0
        given(await client.call_tool("add", {"records": [analogy], "kind": "analogies"}))
        kept = store.analogies.get(analogy["id"])
        assert kept is not None
        again = store.analogies.discover("people", "fruit", 0, save=False)
        assert again is not None and kept.concept_mappings == again.concept_mappings and kept.evidence == again.evidence
        assert given(await client.call_tool("discover", {**arguments, "min_quality": 1}))["analogy"] is None


async def test_what_is_wrong_is_said_and_changes_nothing() -> None:
    async with planted() as (store, client):
        for (name, arguments), said in (
            (("search", {"query": "king", "kind": "cats"}), "no kind 'cats' in this store; the kinds are: contexts"),
            (("search", {"query": "king", "where": {"nope": 1}}), "no field 'nope'"),
            (("search", {"query": "king", "k": MAX_K + 1}), "less than or equal to 100"),
            (("search", {"query": "king", "mode": "magic"}), "'vector', 'text' or 'hybrid'"),
            (("search", {}), "query"),
            (("neighbours", {"id": "nobody"}), "nobody"),
            (("complete_analogy", {"a": "man", "b": "king", "c": "nobody"}), "nobody"),
            (("discover", {"source": "people", "target": "cars"}), "no record of concepts has the domain 'cars'"),
            (("add", {"records": [{"name": "new"}, {"name": "king"}]}), "DuplicateId"),
            (("add", {"records": [{"name": "new"}, {"name": "n", "quality": 7}]}), "quality: "),
            (("add", {"records": []}), "at least 1"),
            (("nothing", {}), "nothing"),
        ):
            assert said in refused(await client.call_tool(name, arguments)), (name, arguments)
        assert store.concepts.count() == 6
        for uri in ("vectorstore://concepts/nobody", "vectorstore://cats/x", "vectorstore://concepts/..%2F..%2Fetc"):
            with pytest.raises(MCPError) as caught:
                await client.read_resource(uri)
            assert caught.value.error.code == -32602
        given(await client.call_tool("add", {"records": [{"name": "king", "domain": "chess"}], "replace": True}))
        king = store.concepts.get("default:king")
        assert king is not None and king.domain == "chess" and king.version == 2


def test_a_store_that_is_not_there_is_said_before_anything_is_served(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *COMMAND, str(tmp_path / "none")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 5 and done.stdout == "" and "none" in done.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_the_store_although_stdin_is_open(kb: Path, number: signal.Signals) -> None:
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, *COMMAND, str(kb)], text=True, **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(hello) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "vectorstore"
        process.send_signal(number)
        assert process.wait(20) == 128 + number
        assert "interrupted" in process.stderr.read()  # type: ignore[union-attr]
