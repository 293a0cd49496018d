"""`vectorstore serve` as a process: its token, several workers over one store, its end, and what a kill leaves."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

import vectorstore as vs

TOKEN = "a-token-for-tests-only"
ROOT = Path(vs.__file__).parents[1]


class Service:
    """A running service; `client` has its token."""

    def __init__(self, store: Path, *words: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = serve(store, "--port", str(self.port), *words)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30)
        for _ in range(600):
            assert self.process.poll() is None, self.process.communicate()
            try:
                if self.client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the service does not answer")

    def end(self, number: int) -> str:
        self.client.close()
        self.process.send_signal(number)
        return self.process.communicate(timeout=60)[1]


def serve(store: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vectorstore.cli", "serve", str(store), *words]
    known = {**os.environ, "VECTORSTORE_TOKEN": TOKEN, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=known)


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    with vs.open(tmp_path / "kb", embedder="hash:32") as store:
        store.concepts.add({"name": "seed"})  # a space has an embedder from its first vector on
    return tmp_path / "kb"


@pytest.fixture
def service(kb: Path) -> Iterator[Service]:
    running = Service(kb)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.communicate()


def test_it_serves_with_a_token_and_ends_well(service: Service, kb: Path) -> None:
    assert service.client.post("/concepts", json={"records": [{"name": "king"}]}).status_code == 201
    assert httpx.get(f"http://127.0.0.1:{service.port}/concepts").status_code == 401
    told = service.end(signal.SIGTERM)
    assert f"http://127.0.0.1:{service.port}/#token={TOKEN}" in told and "Traceback" not in told
    assert service.process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    with vs.open(kb) as store:
        assert store.concepts.get("default:king") and store.check().findings == ()
        assert store.trail.list(kind="concepts", limit=1)[0].actor == "http"


def test_answers_that_have_begun_are_finished(service: Service) -> None:
    records = [{"name": f"n{n}", "definition": "x" * 300} for n in range(4_000)]
    assert service.client.post("/concepts", json={"records": records}).status_code == 201
    with service.client.stream("POST", "/concepts/stream", json={}) as response:
        lines = response.iter_lines()
        next(lines)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert sum(1 for _ in lines) == 4_000
    service.process.communicate(timeout=60)


def test_streams_that_nobody_reads_keep_nobody_waiting(service: Service) -> None:
    records = [{"name": f"n{n}", "definition": "x" * 2_000} for n in range(3_000)]
    assert service.client.post("/concepts", json={"records": records}).status_code == 201
    ask = f"POST /concepts/stream HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    ask += "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    idle = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(20)]
    try:
        for each in idle:
            each.sendall(ask.encode())
            assert each.recv(12) == b"HTTP/1.1 200"  # and of some megabytes no more
        hits = service.client.post("/concepts/search", json={"query": "n7", "k": 1}).json()["hits"]
        assert len(hits) == 1 and service.client.get("/health").status_code == 200
    finally:
        for each in idle:
            each.close()


def test_several_processes_serve_one_store(kb: Path) -> None:
    service = Service(kb, "--workers", "2")
    wrong: list[str] = []
    pids: set[int] = set()

    def work(number: int) -> None:
        # A connection for each request: that is what spreads them over the processes.
        for turn in range(10):
            name = f"t{number}-{turn}"
            headers = {"Authorization": f"Bearer {TOKEN}", "Connection": "close"}
            with httpx.Client(base_url=service.client.base_url, headers=headers, timeout=30) as client:
                if client.post("/concepts", json={"records": [{"name": name}]}).status_code != 201:
                    wrong.append(f"{name} was not written")
            with httpx.Client(base_url=service.client.base_url, headers=headers, timeout=30) as client:
                hits = client.post("/concepts/search", json={"query": name, "k": 1}).json()["hits"]
                if hits[0]["record"]["name"] != name:
                    wrong.append(f"{name} was not found")
                pids.add(client.get("/status").json()["service"]["pid"])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and len(pids) == 2
    assert "http_server_request_duration_seconds" in service.client.get("/metrics").text
    service.end(signal.SIGTERM)
    with vs.open(kb) as store:
        assert len(store.concepts) == 41 and store.check().findings == ()


def test_a_batch_goes_on_after_a_kill(kb: Path) -> None:
    service = Service(kb)
    records = [{"id": f"a{n}", "source_domain": "a", "target_domain": "b"} for n in range(4_000)]
    id = service.client.post("/analogies/batch", json={"records": records}).json()["id"]
    for _ in range(600):
        if service.client.get(f"/workflows/{id}").json()["processed"]:
            break
        time.sleep(0.01)
    service.end(signal.SIGKILL)
    with closing(sqlite3.connect(kb / "catalog.sqlite", isolation_level=None)) as catalog:
        catalog.execute("UPDATE workflows SET lease_until = 0")  # as in a minute, when its lease has run out
    again = Service(kb)
    for _ in range(600):
        found = again.client.get(f"/workflows/{id}").json()
        if found["status"] == "completed":
            break
        time.sleep(0.2)
    again.end(signal.SIGTERM)
    assert (found["status"], found["processed"], found["errors"]) == ("completed", 4_000, 0)
    with vs.open(kb) as store:
        assert store.analogies.count() == 4_000 and store.check().findings == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--host", "0.0.0.0", "--no-token"), "--no-token: expected an address of this machine only"),
        (("--token-file", "{folder}/open"), "others can read"),
        (("--token-file", "{folder}/short"), "expected at least 16"),
        (("--token-file", "{folder}/absent"), "cannot be read"),
        (("--port", "0"), "port"),
    ],
)
def test_what_is_not_safe_is_refused(kb: Path, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    for name, text, mode in (("open", TOKEN, 0o644), ("short", "abc", 0o600)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    process = serve(kb, *(word.replace("{folder}", str(tmp_path)) for word in words))
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 2 and told in wrong


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    process = serve(tmp_path / "nothing")
    _, wrong = process.communicate(timeout=60)
    assert process.returncode in (3, 5) and not (tmp_path / "nothing").exists() and "Traceback" not in wrong


def test_without_a_token_of_ones_own_a_new_one_is_made(kb: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = serve(kb, "--port", str(port), VECTORSTORE_TOKEN="")
    assert process.stderr is not None
    shown = process.stderr.readline()
    token = shown.strip().rpartition("#token=")[2]
    assert len(token) >= 30
    process.kill()
    process.communicate()
