"""How long it takes from nothing to the first answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any


def open(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the imports, of opening, and of the first search by vector with its records."""
    started = time.perf_counter()
    import numpy as np

    import vectorstore as vs

    opener = vs.open  # brings the engines in
    imported = time.perf_counter()
    query = np.load(Path(job["folder"]) / "queries.npy", mmap_mode="r")[0].copy()
    begun = time.perf_counter()
    with opener(job["store"], embedder=None, auto_publish=False) as store:
        opened = time.perf_counter()
        hits = store.concepts.search(query, k=10)
        answered = time.perf_counter()
        second = store.concepts.search(query, k=10)
        again = time.perf_counter()
        assert hits.ids == second.ids
    return {
        "imports_s": imported - started,
        "open_s": opened - begun,
        "first_answer_s": answered - opened,
        "second_answer_s": again - answered,
        "plan": hits.plan.name,
    }
