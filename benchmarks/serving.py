"""The service: what HTTP adds to a call, 200 clients at once, and how soon the explorer page answers.

    python benchmarks/serving.py                          # 20,000 made-up concepts
    python benchmarks/serving.py --store kb --seconds 60  # a store of your own, which has concepts and a map

The service is a process of its own, as `vectorstore serve` makes it, over loopback. Python calls and requests take
turns; figures are medians. Clients ask one search after the other, each over a connection that stays open; they write
and read plain sockets, as httpx with 200 connections takes more processor time for a request than the service does for
its answer (`httpx` in the JSON says how much), and would be what is measured. The page is
opened in headless Chromium, when there is one, five times: "interactive" is from going to the address to the first
search that is answered on it, and to the first picture of all points. Writes `results/serving.json` and `serving.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import httpx
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import vectorstore as vs  # noqa: E402 - the path above is theirs

RESULTS = Path(__file__).resolve().parent / "results"
DIM = 384
FLAGS = ["--no-sandbox", "--no-first-run", "--disable-background-networking", "--use-gl=angle",
         "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # fmt: skip


def made_up(path: Path, rows: int) -> None:
    """A store of concepts around forty centres, with a map."""
    chance = np.random.default_rng(0)
    centres = chance.standard_normal((40, DIM))
    vectors = (centres[np.arange(rows) % 40] + 0.7 * chance.standard_normal((rows, DIM))).astype(np.float32)
    with vs.open(path, embedder="hash:384") as store:
        store.concepts.add(
            [{"name": f"concept {n}", "domain": f"d{n % 40}", "definition": f"the {n}th of them"} for n in range(rows)],
            vectors=vectors,
        )
        store.publish("concepts")
        store.maps.fit("concepts")


class Service:
    """`vectorstore serve` in a process of its own."""

    def __init__(self, store: Path, workers: int = 1) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.token = secrets.token_urlsafe(24)
        self.base = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "vectorstore.cli", "serve", str(store), "--port", str(self.port)]
        self.process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            env={**os.environ, "VECTORSTORE_TOKEN": self.token, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(600):
            try:
                if httpx.get(f"{self.base}/health").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Resident bytes of the process and its children."""
        pids = [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        pids += [int(pid) for pid in children.read_text().split()]
        total = 0
        for pid in pids:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
        return total

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def overhead(store: vs.Store, service: Service, queries: list[list[float]], rounds: int) -> dict[str, float]:
    """Milliseconds, medians: the Python call, the request, and one that only asks for a record."""
    found: dict[str, list[float]] = {"search": [], "POST search": [], "get": [], "GET record": []}
    some = store.concepts.find(limit=100)
    with httpx.Client(base_url=service.base, headers=service.headers) as client:

        def timed(name: str, call: Any) -> None:
            began = time.perf_counter()
            call()
            found[name].append((time.perf_counter() - began) * 1000)

        for turn in range(rounds):
            query = queries[turn % len(queries)]
            record = some[turn % len(some)].id
            vector = np.array(query, np.float32)
            timed("search", lambda v=vector: store.concepts.search(v, 10))
            timed("POST search", lambda q=query: client.post("/concepts/search", json={"query": q, "k": 10}))
            timed("get", lambda r=record: store.concepts.get(r))
            timed("GET record", lambda r=record: client.get(f"/concepts/{r}"))
    return {name: statistics.median(values[20:]) for name, values in found.items()}


class Client:
    """One connection that stays open."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __aenter__(self) -> Self:
        self._read, self._write = await asyncio.open_connection("127.0.0.1", self._service.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._write.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> int:
        """The status of the answer, which is read whole."""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._service.token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._write.write(head.encode() + body)
        told = (await self._read.readuntil(b"\r\n\r\n")).lower()
        length = told.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self._read.readexactly(int(length))
        return int(told[9:12])


async def crowd(service: Service, queries: list[list[float]], clients: int, seconds: float) -> dict[str, Any]:
    """Clients that search without a pause: answers, statuses, milliseconds, memory, and how soon health is told."""
    took: list[float] = []
    health: list[float] = []
    statuses: Counter[str] = Counter()
    bodies = [json.dumps({"query": query, "k": 10}).encode() for query in queries]
    memory = [service.memory()]
    busy, own = service.cpu(), time.process_time()
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        chance = random.Random(number)
        try:
            async with Client(service) as client:
                while time.perf_counter() < end:
                    began = time.perf_counter()
                    status = await client.ask("POST", "/concepts/search", chance.choice(bodies))
                    statuses[str(status)] += 1
                    took.append((time.perf_counter() - began) * 1000)
        except (OSError, asyncio.IncompleteReadError) as error:
            statuses[type(error).__name__] += 1

    async def watch() -> None:
        async with Client(service) as client:
            looked = time.perf_counter()
            while time.perf_counter() < end:
                began = time.perf_counter()
                await client.ask("GET", "/health")
                health.append((time.perf_counter() - began) * 1000)
                if began - looked > min(5.0, seconds / 4):
                    memory.append(service.memory())
                    looked = began
                await asyncio.sleep(0.1)

    await asyncio.gather(watch(), *(one(number) for number in range(clients)))
    memory.append(service.memory())
    took.sort()
    health.sort()
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": len(took),
        "statuses": dict(statuses),
        "p50": took[len(took) // 2],
        "p99": took[int(len(took) * 0.99)],
        "longest": took[-1],
        "cpu": (service.cpu() - busy) * 1000 / len(took),
        "client_cpu": (time.process_time() - own) * 1000 / len(took),
        "health": {"p50": health[len(health) // 2], "p99": health[int(len(health) * 0.99)]},
        "memory": memory,
    }


async def through_httpx(service: Service, clients: int, seconds: float) -> dict[str, float]:
    """What httpx itself takes for the cheapest request over so many connections: milliseconds of processor time."""
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    end, answers = time.perf_counter() + seconds, 0
    busy, own = service.cpu(), time.process_time()
    async with httpx.AsyncClient(base_url=service.base, limits=limits, timeout=60) as client:

        async def one() -> None:
            nonlocal answers
            while time.perf_counter() < end:
                await client.get("/health")
                answers += 1

        await asyncio.gather(*(one() for _ in range(clients)))
    cost = {"client": time.process_time() - own, "service": service.cpu() - busy}
    return {"requests": answers / seconds, **{name: value * 1000 / answers for name, value in cost.items()}}


def pages(service: Service, turns: int) -> dict[str, list[float]] | None:
    """Seconds from going to the page to its first answered search, and to the first picture of the map."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return None
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {"search": [], "map": []}
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        for _ in range(turns):
            page = opened.new_page(viewport={"width": 1280, "height": 800})
            began = time.perf_counter()
            page.goto(f"{service.base}/#token={service.token}")
            page.wait_for_selector("body[data-ready]")
            page.get_by_label("Search", exact=True).fill("concept")
            page.keyboard.press("Enter")
            page.wait_for_selector(".hits .score")
            found["search"].append(time.perf_counter() - began)
            began = time.perf_counter()
            page.goto(f"{service.base}/#/map")
            page.wait_for_selector("main[data-points]")
            while not page.evaluate("document.querySelector('main').scatter.drawn || 0"):
                page.wait_for_timeout(5)
            found["map"].append(time.perf_counter() - began)
            page.close()
        opened.close()
    return found


def report(found: dict[str, Any]) -> str:
    cost, mass, seen = found["overhead"], found["crowd"], found["pages"]
    added = cost["POST search"] - cost["search"]
    met = {True: "met", False: "missed"}
    memory = [size / 1e6 for size in mass["memory"]]
    lines = [
        "# The service",
        "",
        f"{found['machine']}. {found['records']:,} concepts with vectors of {DIM}, one process, over loopback.",
        "",
        f"HTTP adds {added:.2f} ms (median) to a search by a vector; wanted at most 3 ms: **{met[added <= 3]}**.",
        "",
        "| | ms, median |",
        "|---|---:|",
        *(f"| {name} | {value:.3f} |" for name, value in cost.items()),
        "",
        "| clients | answers a second | p50 | p99 | longest, ms | CPU of one answer, ms | /health p50, p99, ms |",
        "|---:|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {each['clients']} | {each['answers'] / each['seconds']:.0f} | {each['p50']:.1f} | {each['p99']:.0f} "
            f"| {each['longest']:.0f} | {each['cpu']:.2f} | {each['health']['p50']:.0f}, {each['health']['p99']:.0f} |"
            for each in (found["alone"], mass)
        ),
        "",
        f"The {mass['clients']} clients ask for {mass['seconds']:.0f} s, each again as soon as it is answered: "
        f"{mass['answers']:,} answers, statuses {mass['statuses']}. Own memory of the service {memory[0]:.0f} MB "
        f"before, {memory[len(memory) // 2]:.0f} MB in the middle, {memory[-1]:.0f} MB at the end. Clients and service "
        f"share the machine; a client takes {mass['client_cpu']:.2f} ms of processor time for a request. httpx with as "
        f"many connections takes {found['httpx']['client']:.1f} ms, for `/health`, which costs the service "
        f"{found['httpx']['service']:.1f} ms: it is no client to measure a service with.",
    ]
    if seen is not None:
        search, plane = statistics.median(seen["search"]), statistics.median(seen["map"])
        lines += [
            "",
            f"The page, headless Chromium with software rendering, {len(seen['search'])} turns: the first search is "
            f"answered {search:.2f} s after going there (wanted under 2 s: **{met[search < 2]}**), all points are "
            f"drawn {plane:.2f} s after going to the map (**{met[plane < 2]}**).",
        ]
    return "\n".join([*lines, ""])


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    asked.add_argument("--store", type=Path, help="a store with concepts and a map; left out: one is made up")
    asked.add_argument("--rows", type=int, default=20_000)
    asked.add_argument("--clients", type=int, default=200)
    asked.add_argument("--seconds", type=float, default=60.0)
    asked.add_argument("--rounds", type=int, default=500)
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = given.store or Path(scratch) / "kb"
        if given.store is None:
            made_up(path, given.rows)
        with vs.open(path) as store:
            ids = [record.id for record in store.concepts.find(limit=200)]
            rows = store.concepts.vectors(ids)
            chance = np.random.default_rng(1)
            queries = (rows + 0.3 * rows.std() * chance.standard_normal(rows.shape)).astype(np.float32).tolist()
            service = Service(path)
            try:
                records = store.concepts.count()
                httpx.post(  # so that no figure has the loading of the model in it
                    f"{service.base}/concepts/search", headers=service.headers, json={"query": "warm"}, timeout=120
                )
                cost = overhead(store, service, queries, given.rounds)
                seen = pages(service, 5)
                alone = asyncio.run(crowd(service, queries, 1, min(10.0, given.seconds)))
                mass = asyncio.run(crowd(service, queries, given.clients, given.seconds))
                other = asyncio.run(through_httpx(service, given.clients, min(10.0, given.seconds)))
            finally:
                service.stop()
    machine = f"{time.strftime('%Y-%m-%d', time.gmtime())}; {platform.machine()}, {os.cpu_count()} cores; "
    machine += (
        f"Python {platform.python_version()}, vectorstore {vs.__version__}; load {os.getloadavg()[0]:.1f} at the end"
    )
    found = {"machine": machine, "records": records, "overhead": cost, "alone": alone, "crowd": mass, "httpx": other}
    found["pages"] = seen
    (RESULTS / "serving.json").write_text(json.dumps(found, indent=1) + "\n")
    text = report(found)
    (RESULTS / "serving.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
