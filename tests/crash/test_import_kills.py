"""An import that is killed at any moment has happened as a whole, or not at all; so has an export."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import vectorstore as vs

pytestmark = [pytest.mark.crash, pytest.mark.timeout(600)]
ROWS, DIM, KILLS = 30_000, 24, 16
CODE = """
import sys, vectorstore as vs
with vs.open(sys.argv[1], embedder=None, auto_publish=False) as store:
    print("begun", flush=True)
    if sys.argv[2] == "import":
        store.import_(sys.argv[3], on_conflict="overwrite")
    else:
        store.export(sys.argv[3], vectors="all")
    print("done", flush=True)
"""


def started(*arguments: object) -> subprocess.Popen[str]:
    made = subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert made.stdout is not None and made.stdout.readline() == "begun\n"
    return made


def log(path: Path) -> Path:
    vectors = np.random.default_rng(0).integers(1, 9, (ROWS, DIM))
    with path.open("w") as file:
        file.writelines(json.dumps({"kind": "concepts", "deleted": f"old{n}"}) + "\n" for n in range(0, 500, 2))
        for n, vector in enumerate(vectors.tolist()):
            record = {"id": f"c{n}", "name": f"c{n}", "tags": ["in"]}
            file.write(json.dumps({"kind": "concepts", "record": record, "vectors": {"text": vector}}) + "\n")
            if n % 100 == 0:
                relation = {"source": f"c{n}", "type": "next", "target": f"c{max(0, n - 1)}"}
                file.write(json.dumps({"kind": "relations", "record": relation}) + "\n")
    return path


def killed(wait: float, *arguments: object) -> float | None:
    """Kill it after some seconds; how long it took where it was done before."""
    begun = time.monotonic()
    process = started(*arguments)
    try:
        process.wait(wait)
        return time.monotonic() - begun
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return None


def test_an_import_killed_at_any_time_has_happened_or_not(tmp_path: Path) -> None:
    """J7: a failed import changes nothing, however it fails."""
    path, base = log(tmp_path / "in.jsonl"), tmp_path / "base"
    with vs.open(base, embedder=None, auto_publish=False) as store:
        store.concepts.add([{"id": f"old{n}", "name": "old"} for n in range(500)], vectors=np.ones((500, DIM)))
        store.concepts.add([{"id": "c7", "name": "before"}], vectors=np.ones((1, DIM)))
    rng, late = random.Random(1), 0
    shutil.copytree(base, tmp_path / "kb0")
    longest = killed(60, tmp_path / "kb0", "import", path)
    assert longest is not None
    for attempt in range(1, KILLS + 1):
        root = tmp_path / f"kb{attempt}"
        shutil.copytree(base, root)
        killed(rng.uniform(0, 1.1 * longest), root, "import", path)
        with vs.open(root, embedder=None, auto_publish=False) as store:
            happened = len(store.concepts) == ROWS + 250
            assert happened or (len(store.concepts) == 501 and store.concepts.get("c7").name == "before"), attempt
            assert len(store.relations) == (ROWS // 100 if happened else 0)
            assert store.check().findings == ()
            store.sweep(0)
            assert store.check().litter == ()
            late += happened
        shutil.rmtree(root)
    print(f"{KILLS} kills within {longest:.1f} s, {late} came after the commit")
    assert late < KILLS


def test_an_export_killed_at_any_time_is_whole_or_not_there(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder=None, auto_publish=False) as store:
        store.import_(log(tmp_path / "in.jsonl"), on_conflict="overwrite")
        records = len(store.concepts)
    rng = random.Random(2)
    longest = killed(60, tmp_path / "kb", "export", tmp_path / "whole.jsonl")
    assert longest is not None
    expected = (tmp_path / "whole.jsonl").read_text().splitlines()[1:]
    assert len(expected) >= records
    for attempt in range(KILLS):
        path = tmp_path / f"{attempt}.jsonl"
        killed(rng.uniform(0, 1.1 * longest), tmp_path / "kb", "export", path)
        assert not path.exists() or path.read_text().splitlines()[1:] == expected
