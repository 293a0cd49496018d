"""Several processes over one store: figures are sums over all of them, and nothing is left when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import vectorstore as vs
from tests.http_client import serving
from tests.test_http_serving import TOKEN, Service


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
