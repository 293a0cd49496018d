"""A store is switched to an engine outside by an option, a variable or the settings: no line of code."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

import vectorstore as vs
from tests.test_cli import answer, refused, run
from tests.test_http_serving import Service
from vectorstore.cli.arguments import as_index

ROWS = [[1.0, 0.1 * n, 0.3] for n in range(30)]
NEAR = ["c20", "c21", "c19"]


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.concepts.add([{"id": f"c{n}", "name": f"n{n}", "quality": n / 30} for n in range(30)], vectors=ROWS)
    return tmp_path / "kb"


@pytest.fixture
def engine(tmp_path: Path) -> str:
    return f"concepts=faiss:{tmp_path / 'engine'}"


def plan(kb: Path, *options: str) -> str:
    found = answer("search", kb, "concepts", "[1, 2, 0.3]", "-k", "3", *options)
    assert [hit["record"]["id"] for hit in found["hits"]] == NEAR
    return str(found["plan"]["name"])


def test_an_option_a_variable_and_the_settings_switch_a_store(
    kb: Path, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("engines", "list", kb).stdout == "no engine outside is fed from this store\n"
    assert "fewer than 10,000" in run("engines", "feed", kb, "--index", engine.partition("=")[2]).stdout
    assert run("engines", "feed", kb, "--index", engine).stdout == "the engine has everything\n"
    (listed,) = answer("engines", "list", kb)["engines"]
    assert listed["status"] == "current" and listed["waiting"] == 0
    assert plan(kb) == "exact" and plan(kb, "--index", engine) == "engine"
    (tmp_path / "settings.toml").write_text(f'index = "{engine}"\n')
    monkeypatch.setenv("VECTORSTORE_CONFIG", str(tmp_path / "settings.toml"))
    assert plan(kb) == "engine" and plan(kb, "--index", "none") == "exact"
    monkeypatch.setenv("VECTORSTORE_INDEX", "none")
    assert plan(kb) == "exact"
    monkeypatch.setenv("VECTORSTORE_INDEX", engine)
    assert plan(kb) == "engine"
    assert run("delete", kb, "concepts", "c1").returncode == 0
    assert answer("engines", "list", kb)["engines"][0]["waiting"] == 1
    assert "1 " in run("engines", "list", kb).stdout
    assert (
        run("engines", "settle", kb, "concepts").returncode == run("engines", "renew", kb, "concepts").returncode == 0
    )
    assert answer("engines", "list", kb)["engines"][0]["collection"] != listed["collection"]
    assert run("check", kb).returncode == 0
    assert run("engines", "drop", kb, "concepts").returncode == 0
    assert answer("engines", "list", kb)["engines"] == [] and plan(kb) == "exact"


def test_check_compares_what_the_engine_holds(kb: Path, engine: str, tmp_path: Path) -> None:
    assert run("engines", "feed", kb, "--index", engine).returncode == 0
    (file,) = (tmp_path / "engine").iterdir()
    file.rename(tmp_path / "away")
    assert run("check", kb).returncode == 0
    done = run("check", kb, "--index", engine)
    assert done.returncode == 1 and "cannot be compared" in done.stdout


def test_an_address_that_is_wrong_is_refused(kb: Path) -> None:
    assert refused("search", kb, "concepts", "[1, 2, 3]", "--index", "milvus:/x")[0] == 2
    assert "twice" in refused("search", kb, "concepts", "[1, 2, 3]", "--index", "concepts=none,concepts=none")[1]
    assert "no kind 'nothing'" in refused("check", kb, "--index", "nothing=faiss:x")[1]
    assert "not opened for writing with index" in refused("engines", "feed", kb)[1]


def test_an_address_of_all_kinds_or_of_some() -> None:
    assert as_index("milvus://h?timeout=3&shards=2") == "milvus://h?timeout=3&shards=2"
    assert as_index("none") is as_index("") is None
    assert as_index("concepts=milvus://me:a,b@h/db?timeout=3,memories=none") == {
        "concepts": "milvus://me:a,b@h/db?timeout=3",
        "memories": None,
    }


def test_an_assistant_is_served_by_it(kb: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("engines", "feed", kb, "--index", engine).returncode == 0
    plans: list[str] = []

    def serve(store: Any) -> None:
        plans.append(store.concepts.search([1, 2, 0.3], 3).plan.name)

    monkeypatch.setattr("vectorstore.integrations.mcp.serve", serve)
    monkeypatch.setattr("vectorstore.cli.mcp._leave_at_once", lambda store: None)
    run("mcp", kb, "--read-only")
    run("mcp", kb, "--read-only", "--index", engine)
    assert plans == ["exact", "engine"]


def test_a_service_feeds_it_searches_it_and_tells_of_it(kb: Path, engine: str, tmp_path: Path) -> None:
    service = Service(kb, "--index", engine)
    try:
        found: Any = {}
        for _ in range(200):
            found = service.client.post("/concepts/search", json={"query": [1, 2, 0.3], "k": 3}).json()
            if found["plan"]["name"] == "engine":
                break
        assert found["plan"]["name"] == "engine" and [hit["record"]["id"] for hit in found["hits"]] == NEAR
        figures = service.client.get("/metrics").text
        assert "vectorstore_engine_waiting{" in figures and "vectorstore_engine_lag_seconds{" in figures
        assert service.client.get("/health").json()["checks"]["engines"] is None
        (tmp_path / "engine").rename(tmp_path / "away")
        found = service.client.post("/concepts/search", json={"query": [1, 2, 0.3], "k": 3}).json()
        assert found["plan"]["name"] == "exact" and [hit["record"]["id"] for hit in found["hits"]] == NEAR
        assert "feed it anew" in str(service.client.get("/health").json())
    finally:
        assert "Traceback" not in service.end(signal.SIGTERM)
