"""An engine outside: filling, lag, what a search costs beside pymilvus alone, and the proof, on a real Milvus server.

    python benchmarks/scale.py                                # starts the server of `make test-scale`, 50,000 x 128
    KB_MILVUS_URI=milvus://host:19530 python benchmarks/scale.py --rows 1000000

Searches take turns: pymilvus alone with the same candidates and effort, the store through the engine, the store through
the engine with a filter, and the store's exact scan. Writes `results/scale.json` and `scale.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:
    sys.path[0] = str(ROOT)  # run as a script, this folder would come first and hide modules of the same names

import numpy as np  # noqa: E402 - the path above is theirs

import vectorstore as vs  # noqa: E402
from benchmarks.timing import interleave, milliseconds  # noqa: E402
from vectorstore.sync.proving import current_remotes, prove  # noqa: E402

RESULTS = Path(__file__).resolve().parent / "results"
Matrix = Any


def data(rows: int, dim: int, seed: int = 0) -> Matrix:
    """Rows around 100 centres, float32."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((100, dim))
    made = centres[random.integers(0, 100, rows)] + 0.5 * random.standard_normal((rows, dim))
    return made.astype(np.float32)


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """An address: KB_MILVUS_URI, or a process of ours."""
    given = os.environ.get("KB_MILVUS_URI")
    if given:
        yield given
        return
    from tests.scale.server import Server

    made = Server(folder / "milvus")
    made.data.mkdir()
    made.start()
    try:
        yield made.address
    finally:
        made.kill()


def measure(kb: Path, address: str, rows: int, dim: int, queries: int) -> dict[str, Any]:
    base, found = data(rows, dim), {"rows": rows, "dim": dim, "server": "", "client": ""}
    with vs.open(kb, embedder=None, auto_publish=False, index={"concepts": address}) as store:
        begun = time.perf_counter()
        for start in range(0, rows, 10_000):
            store.concepts.add(
                [
                    {"id": f"c{n}", "name": f"c{n}", "domain": str(n % 10), "quality": n % 100 / 100}
                    for n in range(start, min(start + 10_000, rows))
                ],
                vectors=base[start : start + 10_000],
            )
        found["add_per_s"] = rows / (time.perf_counter() - begun)
        feeder = store.remotes._fed()
        feeder.feed()  # makes the collection, whose loading takes seconds, and sends the first batch
        sent, begun = rows - store.remotes.status()[0].waiting, time.perf_counter()
        while store.remotes.status()[0].waiting:
            feeder.feed()
        found["fill_per_s"] = (rows - sent) / (time.perf_counter() - begun)
        begun = time.perf_counter()
        assert store.remotes.sync(900)
        found["activate_s"] = time.perf_counter() - begun
        found |= searches(store, base, queries)
        (space, row) = current_remotes(store._sync)[0]
        engine = store._sync.engines.engine(space, row)  # type: ignore[union-attr]
        begun = time.perf_counter()
        proof = prove(store._sync, store._sync.engines.lock, space, row, engine)  # type: ignore[union-attr]
        found["proof_per_s"] = proof.compared / (time.perf_counter() - begun)
        assert proof.ok and proof.compared == rows
    with vs.open(kb, embedder=None, index={"concepts": address}) as store:
        fresh = data(5_000, dim, seed=7)
        for start in range(0, 5_000, 500):
            ids = range(rows + start, rows + start + 500)
            store.concepts.add([{"id": f"c{n}", "name": f"c{n}"} for n in ids], vectors=fresh[start : start + 500])
        begun = time.perf_counter()
        while store.remotes.status()[0].waiting and time.perf_counter() - begun < 60:
            time.sleep(0.005)
        found["lag_s"] = time.perf_counter() - begun
        assert store.check().ok
        store.remotes.drop("concepts")
    return found


def searches(store: vs.Store, base: Matrix, count: int) -> dict[str, Any]:
    import pymilvus

    random = np.random.default_rng(5)
    some = base[random.integers(0, len(base), count)]
    queries = some + 0.5 * random.standard_normal(some.shape).astype(np.float32)
    (_, row) = current_remotes(store._sync)[0]
    point = vs_point(row.curve)
    uri = "http://" + row.address.removeprefix("milvus://")
    client = pymilvus.MilvusClient(uri)

    def alone(query: Matrix) -> list[int]:
        unit = query / np.linalg.norm(query)
        params = {"nprobe": point[0]["nprobe"]} if "nprobe" in point[0] else {}
        hits = client.search(
            row.collection, data=[unit], limit=point[1], search_params={"metric_type": "IP", "params": params},
            consistency_level="Customized", guarantee_timestamp=row.since,
        )  # fmt: skip
        return list(hits[0].ids)

    def through(query: Matrix) -> list[str]:
        return list(store.concepts.search(query, 10).ids)

    def filtered(query: Matrix) -> list[str]:
        return list(store.concepts.search(query, 10, {"quality__gte": 0.5}).ids)

    def exact(query: Matrix) -> list[str]:
        return list(store.concepts.search(query, 10, exact=True).ids)

    def kept(query: Matrix) -> list[str]:
        return list(store.concepts.search(query, 10, {"quality__gte": 0.5}, exact=True).ids)

    assert store.concepts.search(queries[0], 10).plan.name == "engine"
    contestants: dict[str, Callable[[Matrix], Any]] = {
        "pymilvus": alone,
        "store": through,
        "store, filter": filtered,
        "store, exact": exact,
    }
    seconds, answers = interleave(contestants, queries)
    truth, kept_truth = [exact(query) for query in queries], [kept(query) for query in queries]

    def share(a: list[Any], b: list[Any]) -> float:
        return float(np.mean([len(set(x) & set(y)) / 10 for x, y in zip(a, b, strict=False)]))

    return {
        "searches": {name: milliseconds(each) for name, each in seconds.items()},
        "candidates": point[1],
        "effort": point[0],
        "recall": share(answers["store"], truth),
        "recall_filter": share(answers["store, filter"], kept_truth),
        "server": client.get_server_version(),
        "client": pymilvus.__version__,
    }


def vs_point(curve: Any) -> tuple[dict[str, int], int]:
    """(effort, candidates) that a search for ten with recall 0.99 takes."""
    from vectorstore.vectors import Curve

    point = Curve.from_dict(curve).cheapest(0.99, 10)
    assert point is not None, "no effort reaches recall 0.99"
    return dict(point.effort), point.candidates


def table(found: dict[str, Any]) -> str:
    lines = [
        f"# An engine outside: {found['rows']:,} x {found['dim']}",
        "",
        f"{found['machine']}, load average {found['load']:.0f} (its own work included), {found['at']}.",
        f"Milvus {found['server']}, one process on the same machine, IVF_SQ8; "
        f"pymilvus {found['client']}.",
        "",
        "| | |",
        "|---|---|",
        f"| add to the store, records/s | {found['add_per_s']:,.0f} |",
        f"| filling the collection, records/s | {found['fill_per_s']:,.0f} |",
        f"| index, load and measured recall, s | {found['activate_s']:.1f} |",
        f"| lag after the last of 5,000 records in batches of 500, s | {found['lag_s']:.2f} |",
        f"| proof, rows/s | {found['proof_per_s']:,.0f} |",
        f"| recall@10, with a filter | {found['recall']:.4f}, {found['recall_filter']:.4f} |",
        "",
        f"| search for 10 ({found['candidates']} candidates) | p50 ms | p95 ms |",
        "|---|---|---|",
        *(
            f"| {name} | {each['p50_ms']:.2f} | {each['p95_ms']:.2f} |"
            for name, each in found["searches"].items()
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address:
        found = measure(Path(folder) / "kb", address, asked.rows, asked.dim, asked.queries)
    found |= {"at": time.strftime("%Y-%m-%d"), "machine": f"{os.cpu_count()} cores", "load": os.getloadavg()[0]}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "scale.json").write_text(json.dumps(found, indent=2) + "\n")
    (asked.out / "scale.md").write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
