"""A real Milvus server of one process on loopback, from the wheel `milvus==2.3.5`; killed, never asked to stop.

The wheel is unpacked once into a folder (its parts are compressed); a server has a folder of data of its own.
`python -m tests.scale.server DATA` starts one and prints its address, for looking around by hand.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WHEEL = Path(os.environ.get("KB_MILVUS_WHEEL", ROOT / ".milvus"))
"""Where `make test-scale` has put the wheel: pip install --no-deps --target .milvus milvus==2.3.5."""

OVER = {
    # Growing segments are searched by an interim index that finds two fifths of what is there; without it, exactly.
    "queryNode.segcore.interimIndex.enableIndex": "false",
    "common.session.ttl": "10",  # after kill -9 the dead session's lease is waited out
    "common.gracefulStopTimeout": "10",
    "log.level": "warn",
    **{
        f"{part}.ip": "127.0.0.1"
        for part in ("proxy", "rootCoord", "dataCoord", "queryCoord", "dataNode", "queryNode", "indexNode")
    },
}


def available() -> bool:
    """Whether the wheel is there."""
    return (WHEEL / "milvus" / "data").is_dir()


class Server:
    """One server process; `start` after `kill` finds the same data. `over` are more settings."""

    def __init__(self, data: Path, **over: object) -> None:
        self.data, self.over = data, over
        self.process: subprocess.Popen[bytes] | None = None
        self.ports: dict[str, int] = {}

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.ports['proxy_port']}"

    @property
    def address(self) -> str:
        return f"milvus://127.0.0.1:{self.ports['proxy_port']}"

    def start(self, wait: float = 120.0) -> None:
        """Start it and wait until it says that it is well."""
        shared = unpacked()
        if not self.ports:
            self.ports = configured(self.data, {**OVER, **self.over})
            self.ports["metrics"], self.ports["peer"] = free_ports(2)
            client, peer = (f"http://127.0.0.1:{self.ports[name]}" for name in ("etcd_port", "peer"))
            (self.data / "configs" / "etcd.yaml").write_text(
                f"name: default\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\nlisten-peer-urls: {peer}\n"
                f"initial-advertise-peer-urls: {peer}\ninitial-cluster: default={peer}\n"
            )
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(shared / "bin"),
            "DEPLOY_MODE": "STANDALONE",
            "METRICS_PORT": str(self.ports["metrics"]),
            "MILVUS_RUN_DIR": str(self.data / "run"),
            "ETCD_CONFIG_PATH": str(self.data / "configs" / "etcd.yaml"),  # else two servers want port 2380
        }
        with open(self.data / "logs" / "out.log", "ab") as log:
            self.process = subprocess.Popen(
                [str(shared / "bin" / "milvus"), "run", "standalone"],
                cwd=self.data, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        until = time.monotonic() + wait
        while not healthy(self.ports["metrics"]):
            if self.process.poll() is not None:
                raise RuntimeError(f"milvus ended at once; see {self.data}/logs/out.log")
            if time.monotonic() > until:
                self.kill()
                raise TimeoutError(f"milvus did not come up in {wait:g} s; see {self.data}/logs/out.log")
            time.sleep(0.2)

    def kill(self) -> None:
        """kill -9 of this process, by its id."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def unpacked() -> Path:
    """The folder of the server's binaries, which the wheel has compressed; unpacked once."""
    shared = WHEEL / "unpacked"
    if not (shared / "bin" / "milvus").is_file():
        _wheel()._initialize_data_files(str(shared))
    return shared


def configured(
    data: Path, over: Mapping[str, object], tail: str = "", ports: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Write the settings of a process into its folder; returns its ports, free ones where none are given."""
    config = _wheel().MilvusServerConfig(data_dir=str(data))
    names = [key for key in config.configurable_items if key.endswith("_port")]
    chosen = {**dict(zip(names, free_ports(len(names)), strict=True)), **(ports or {})}
    config.update(**chosen)
    for key, value in over.items():
        config.set(key, value)
    config.resolve()
    with open(data / "configs" / "milvus.yaml", "a") as file:
        file.write(tail)
    return chosen


def healthy(port: int) -> bool:
    """Whether the process with that port for its metrics says that it is well."""
    with contextlib.suppress(OSError):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return b"OK" in answer.read()
    return False


def _wheel() -> Any:
    if str(WHEEL) not in sys.path:
        sys.path.append(str(WHEEL))
    return importlib.import_module("milvus")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder)
    began = time.monotonic()
    server.start()
    print(server.address, "pid", server.process and server.process.pid, f"{time.monotonic() - began:.1f} s", flush=True)
    try:
        server.process and server.process.wait()
    finally:
        server.kill()
