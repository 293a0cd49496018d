"""The real server: appliers killed at every step, a late batch, another catalog, lost data, users, TLS, and a move."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

import vectorstore as vs
from tests.feeding_suite import FeedingSuite, killed_at_every_step
from tests.moving import there_and_back
from tests.scale.server import Server, available
from vectorstore.engines import address_of, connect

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]


class TestServer(FeedingSuite):
    """What must be true when things die."""

    def test_an_applier_killed_at_every_step_loses_nothing(self, tmp_path: Path, address: str) -> None:
        killed_at_every_step(tmp_path, f"{address}{'&' if '?' in address else '?'}timeout=2")


def test_a_store_moves_there_and_back_while_it_is_written(tmp_path: Path, address: str) -> None:
    with mock.patch("vectorstore.sync.feeding.SETTLE", 5.0):
        plans = there_and_back(tmp_path, address, rows=3_000)
    assert plans["engine"] > 20 and plans["index"] > 10


# -- a server that asks who one is, over TLS ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A server with users and a certificate of its own."""
    if not available():
        pytest.skip("needs a server of its own")
    folder = Path(tmp_path_factory.mktemp("guarded"))
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         names, "-keyout", folder / "server.key", "-out", folder / "server.pem"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    server = Server(
        folder / "data",
        authorization_enabled=True,
        tls_mode=1,
        server_pem_path=str(folder / "server.pem"),
        server_key_path=str(folder / "server.key"),
        ca_pem_path=str(folder / "server.pem"),
    )
    server.start()
    yield server, folder / "server.pem"
    server.kill()


def test_users_and_tls(tmp_path: Path, guarded: tuple[Server, Path]) -> None:
    import pymilvus

    server, certificate = guarded
    port = server.ports["proxy_port"]
    root = pymilvus.MilvusClient(f"https://localhost:{port}", token="root:Milvus", server_pem_path=str(certificate))
    root.create_user("reader", "p@ss/w:rd, 1")
    root.create_role("owner")
    root.grant_privilege("owner", "Global", "*", "*")
    root.grant_privilege("owner", "Collection", "*", "*")
    root.grant_role("reader", "owner")
    root.close()

    def address(who: str) -> str:
        return f"milvus://{who}localhost:{port}?tls=1&timeout=5&ca={certificate}"

    for wrong in ("", "reader:nothing@", "nobody:p%40ss@"):
        with pytest.raises(vs.EngineDown, match=f"localhost:{port}") as told:
            connect(address_of(address(wrong)), "nothing", 4, "l2", ()).count()
        assert "nothing@" not in str(told.value) and "p%40ss" not in str(told.value)
    plain = address_of(f"milvus://reader:p%40ss%2Fw%3Ard%2C%201@localhost:{port}?timeout=3")
    with pytest.raises(vs.EngineDown):  # not over TLS
        connect(plain, "nothing", 4, "l2", ()).exists()
    known = {"concepts": address("reader:p%40ss%2Fw%3Ard%2C%201@")}
    rows = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False, index=known) as store:
        store.concepts.add([{"name": f"n{n}"} for n in range(200)], vectors=rows)
        assert store.remotes.sync(120)
        hits, right = (store.concepts.search(rows[3], 5, exact=exact) for exact in (False, True))
        assert hits.plan.name == "engine" and hits.ids == right.ids
        assert store.check().findings == ()
        assert "p@ss" not in str(store.remotes.status()) and "p%40ss" not in str(store.stats())
        store.remotes.drop("concepts")
    for file in (tmp_path / "kb").rglob("*"):
        assert not file.is_file() or (b"p@ss" not in file.read_bytes() and b"p%40ss" not in file.read_bytes())
