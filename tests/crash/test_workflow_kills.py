"""Workflows killed with SIGKILL: at every durable step of every operation, and at random times.

After a kill the store is opened again on a clock on which the dead worker's lease has run out, and whatever is there is
processed to its end: then every item is there exactly once, or, of a workflow that takes back, none is.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
SPAWN = multiprocessing.get_context("spawn")
OPERATIONS = (
    "create",
    "overwrite",
    "update",
    "delete",
    "reembed",
    "cluster",
    "reindex",
    "strict",
    "rollback",
    "cancel",
)


def later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def records(count: int, text: str) -> list[dict[str, Any]]:
    return [{"id": f"c{n}", "name": f"name {n}", "definition": f"{text} {n}"} for n in range(count)]


def prepare(root: Path, operation: str) -> str:
    """A store with records, and a pending workflow; its id."""
    import vectorstore as vs

    with vs.open(root, embedder="hash:16", auto_publish=False) as store:
        flows = store.workflows
        if operation != "create":
            store.concepts.add(records(30, "old"))
            store.relations.add([{"source": f"c{n}", "target": f"c{n + 1}", "type": "is"} for n in range(20)])
        low = vs.IndexRecipe("sim64", "LSH64rt", ({"candidates": 400},), min_recall=0.0)
        bad = [*records(40, "new"), {"name": "bad", "quality": 9}]
        make: dict[str, Callable[[], vs.Workflow]] = {
            "create": lambda: flows.create("concepts", records(40, "new")),
            "overwrite": lambda: flows.create("concepts", records(40, "new")),
            "update": lambda: flows.update("concepts", [{"id": f"c{n}", "definition": f"new {n}"} for n in range(30)]),
            "delete": lambda: flows.delete("concepts", where={"version__gte": 1}),
            "reembed": lambda: flows.reembed("concepts"),
            "cluster": lambda: flows.cluster("concepts", "kmeans", 3),
            "reindex": lambda: flows.reindex("concepts", low),
            "strict": lambda: flows.create("concepts", bad),
            "rollback": lambda: flows.create("concepts", records(40, "new")),
            "cancel": lambda: flows.create("concepts", records(40, "new")),
        }
        return make[operation]().id


def act(root: Path, operation: str, name: str, **options: Any) -> None:
    """What is killed somewhere on its way."""
    import vectorstore as vs
    from vectorstore.workflows import engine, writes

    engine.Creation.__init__ = in_chunks(writes.Creation.__init__)  # type: ignore[method-assign]
    engine.Deletion.chunk = engine.Embedding.chunk = 12
    store = vs.open(root, embedder="hash:16", auto_publish=False, **options)
    flows = store.workflows
    if flows.get(name).status in ("pending", "processing"):
        cancel = operation == "cancel"
        flows.process(name, progress=lambda done, of: cancel and done == 24 and flows.cancel(name))
    if operation == "rollback" and flows.get(name).status == "completed":
        flows.rollback(name)
    store.close()


def in_chunks(original: Callable[..., None], size: int = 12) -> Callable[..., None]:
    def init(self: Any, job: Any) -> None:
        original(self, job)
        self.chunk = size

    return init


def summary(root: Path) -> dict[str, Any]:
    """All that is there, versions too."""
    import vectorstore as vs

    with vs.open(root, embedder="hash:16", auto_publish=False) as store:
        concepts = list(store.concepts.stream())
        ids = [record.id for record in concepts]
        vectors = store.concepts.vectors(ids).tolist() if ids else []
        return {
            "records": {
                record.id: (record.definition, vector) for record, vector in zip(concepts, vectors, strict=True)
            },
            "relations": sorted(record.id for record in store.relations.stream()),
            "clusters": [
                version.clusters for line in store.clusters.lines() for version in store.clusters.versions(line)
            ],
            "index": store.stats()["kinds"]["concepts"].get("index", {}) and "index",
        }


def finish(root: Path, operation: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """(what is there once the work is done, what is wrong)."""
    import vectorstore as vs

    problems: list[str] = []
    with vs.open(root, embedder="hash:16", auto_publish=False, clock=later) as store:
        half = store.workflows.get(name)
        here = {item.id for item in store.workflows.items(name, "done", limit=1000) if operation == "create"}
        if operation == "create" and here != {record.id for record in store.concepts.stream()}:
            problems.append(f"{half.processed} items are said to be there, and others are")
        problems += [f"check at first: {finding}" for finding in store.check().findings]
    act(root, operation, name, clock=later)
    with vs.open(root, embedder="hash:16", auto_publish=False, clock=later) as store:
        ended = store.workflows.get(name)
        wanted = {"strict": "rolled_back", "rollback": "rolled_back", "cancel": "cancelled"}.get(operation, "completed")
        if ended.status != wanted and not (operation == "cancel" and ended.status == "completed"):
            problems.append(f"ended {ended.status}, expected {wanted}")
        if wanted == "completed" and (ended.processed, ended.errors) != (ended.total, 0):
            problems.append(f"{ended.processed} of {ended.total} processed, {ended.errors} errors")
        if operation == "create" and {record.version for record in store.concepts.stream()} != {1}:
            problems.append("a record was written twice")
        if operation == "overwrite":
            versions = sorted(record.version for record in store.concepts.stream())
            if versions != [1] * 10 + [2] * 30:
                problems.append(f"records were written twice: {versions}")
        if operation == "reembed":
            counts = {store.concepts.vector_info(f"c{n}").update_count for n in range(30)}
            if counts != {1}:
                problems.append(f"vectors were made {counts} times")
        store.sweep(0)
        report = store.check()
        problems += [f"check: {finding}" for finding in report.findings] + [f"litter: {name}" for name in report.litter]
    return summary(root), problems


def in_fork(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def every_step(operation: str, folder: Path) -> dict[str, Any]:
    """Kill at each durable step, before and after; what was wrong."""
    from tests.crash.points import Points

    names: list[str] = []
    out = folder / "out"

    def told(work: Callable[[], Any]) -> Any:
        out.unlink(missing_ok=True)
        in_fork(lambda: out.write_text(json.dumps(work())) and None)
        return json.loads(out.read_text())

    names.append(told(lambda: prepare(folder / "prepared", operation)))

    def run(stop: int | None, side: str) -> None:
        points = Points(folder / "store", stop, side)
        points.install()
        act(folder / "store", operation, names[0])
        out.write_text(json.dumps(points.seen))

    def fresh() -> None:
        shutil.rmtree(folder / "store", ignore_errors=True)
        shutil.copytree(folder / "prepared", folder / "store")

    fresh()
    if in_fork(lambda: run(None, "")):
        return {"steps": [], "runs": 0, "failures": ["the dry run failed"]}
    steps = json.loads(out.read_text())
    expected, problems = told(lambda: finish(folder / "store", operation, names[0]))
    failures = [f"no kill: {problem}" for problem in problems]
    runs = 0
    for number in range(len(steps)):
        for side in ("before", "after"):
            fresh()
            status = in_fork(lambda number=number, side=side: run(number, side))
            if not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL):
                failures.append(f"{side} step {number} was not reached: {status}")
                continue
            runs += 1
            found, problems = told(lambda: finish(folder / "store", operation, names[0]))
            if found != expected and not (operation == "cancel" and len(found["records"]) == 40):
                problems.append("the store differs from one without a kill")
            failures += [f"{side} step {number} ({steps[number]}): {problem}" for problem in problems]
    return {"steps": steps, "runs": runs, "failures": failures}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_kill_at_any_step_is_gone_on_from(operation: str, tmp_path: Path) -> None:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.test_workflow_kills", operation, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, **single, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(f"{operation}: {len(report['steps'])} durable steps, {report['runs']} kills")
    assert report["failures"] == [], "\n".join(report["failures"][:20]) + done.stderr[-2000:]
    assert report["runs"] == 2 * len(report["steps"]) > 10


def slowly(root: Path, name: str, outbox: Any) -> None:
    import vectorstore as vs
    from vectorstore.workflows import writes

    writes.Creation.__init__ = in_chunks(writes.Creation.__init__, 1000)  # type: ignore[method-assign]
    with vs.open(root, embedder=None) as store:
        outbox.put("go")
        store.workflows.process(name, lease=timedelta(seconds=0.05))


def test_kills_at_random_times_lose_no_item_and_double_none(tmp_path: Path) -> None:
    """One workflow of 12,000 analogies, whose workers are killed one after the other, at 25 random times."""
    import vectorstore as vs
    from tests.test_workflows import analogies

    chance, seen, kills = random.Random(3), [], 0
    root = tmp_path / "kb"
    while kills < 25:
        shutil.rmtree(root, ignore_errors=True)
        with vs.open(root, embedder=None) as store:
            name = store.workflows.create("analogies", analogies(12_000)).id
        for _ in range(50):
            outbox = SPAWN.Queue()
            child = SPAWN.Process(target=slowly, args=(root, name, outbox), daemon=True)
            child.start()
            outbox.get(timeout=60)
            child.join(chance.uniform(0.01, 0.2))
            if child.is_alive():
                os.kill(child.pid, signal.SIGKILL)  # type: ignore[arg-type]
                kills += 1
            child.join(30)
            time.sleep(0.06)
            with vs.open(root, embedder=None) as store:
                now = store.workflows.get(name)
                assert len(store.analogies) == now.processed, "the count is not the true one"
                seen.append(now.processed)
            if now.status == "completed":
                break
        with vs.open(root, embedder=None) as store:
            assert store.workflows.get(name).status == "completed"
            assert {record.id for record in store.analogies} == {f"a{n}" for n in range(12_000)}
            assert {record.version for record in store.analogies} == {1}
            assert store.check().findings == ()
    print(f"{kills} kills; counts seen in between: {sorted(set(seen))}")
    assert len(set(seen)) > 3


if __name__ == "__main__":
    import faiss  # noqa: F401 - imported before the forks
    import scipy.optimize  # noqa: F401
    import sklearn.cluster
    import sklearn.feature_extraction.text
    import sklearn.metrics  # noqa: F401

    import vectorstore

    vectorstore.open  # noqa: B018
    print(json.dumps(every_step(sys.argv[1], Path(sys.argv[2]))))
