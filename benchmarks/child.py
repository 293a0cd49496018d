"""One measurement in a process of its own: `python -m benchmarks.child STAGE JOB.json RESULT.json`.

A fresh process makes memory figures clean and start-up honest. Nothing but the standard library is imported before
the stage's own module, and the caller sets the number of threads in the environment.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

STAGES = {
    "add": "writes",
    "add_published": "writes",
    "index": "writes",
    "upkeep": "writes",
    "open": "opening",
    "search": "searches",
    "many": "searches",
    "filters": "filters",
    "text": "filters",
    "memory": "memory",
    "encoding": "embedding",
    "judging": "embedding",
}

if __name__ == "__main__":
    started = time.perf_counter()
    stage, job, result = sys.argv[1:]
    wanted = json.loads(Path(job).read_text(encoding="utf-8"))
    measured = getattr(importlib.import_module(f"benchmarks.{STAGES[stage]}"), stage)(wanted)
    Path(result).write_text(json.dumps(measured), encoding="utf-8")
