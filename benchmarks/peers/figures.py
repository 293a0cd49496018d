"""From what the rounds measured to one figure each: medians. Pure, but for the attributes of the systems."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.peers import choice
from benchmarks.peers.base import BUCKETS
from benchmarks.peers.data import Judge

Raw = dict[str, Any]
Figures = dict[str, Any]


def times(part: dict[str, Any], judge: Judge, among: str = "all") -> dict[str, Any]:
    """p50, p95, queries a second and recall of one part of one process."""
    seconds = np.array(part["seconds"])
    p50, p95 = np.percentile(seconds * 1e3, [50, 95])
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "qps": len(part["answers"]) / float(seconds.sum()),
        "queries": len(part["answers"]),
        "recall": judge.recall(part["answers"], among),
    }


def curve(found: dict[str, Any], judge: Judge) -> list[choice.Point]:
    """The points of a system's recall-QPS curve, from the stage `tune`."""
    return [
        {
            "effort": point["effort"],
            **times(point["all"], judge),
            "filters": {share: times(point[share], judge, share) for share in BUCKETS if share in point},
        }
        for point in found["points"]
    ]


def round_of(found: dict[str, Any], judge: Judge) -> dict[str, Any]:
    """One round of the stage `serve`."""
    made: dict[str, Any] = {part: times(found[part], judge) for part in ("single", "batch", "default")}
    made |= {share: times(found[share], judge, share) for share in BUCKETS if share in found}
    return made | ({"memory": found["memory"]} if "memory" in found else {})


def final(raw: Raw, rows: int) -> Figures:
    """What the report says about a system: medians over rounds, and the efforts that were chosen."""
    rounds = raw["rounds"]
    picked = choice.tuned(raw["curve"])
    filters = choice.filtered(raw["curve"])
    seen = raw.get("fresh", {}).get("tried", [])
    return {
        **raw["about"],
        "ingest": {
            variant: {
                "rows_per_s": rows / middle(runs, "seconds"),
                "seconds": middle(runs, "seconds"),
                "cpu_seconds": middle(runs, "cpu_seconds"),
                "parts": runs[0]["parts"],
                "runs": len(runs),
            }
            for variant, runs in raw["ingest"].items()
        },
        "disk_bytes": next(iter(raw["ingest"].values()))[0]["disk_bytes"],
        "tuned": {"effort": picked["effort"], **_medians([one["single"] for one in rounds])},
        "default": _medians([one["default"] for one in rounds]),
        "batch_qps": middle([one["batch"] for one in rounds], "qps"),
        "batch_recall": middle([one["batch"] for one in rounds], "recall"),
        "filters": {
            share: {"effort": effort, **_medians([one[share] for one in rounds])} for share, effort in filters.items()
        },
        "reopen": {
            **{f"{state}_ms": _first_answer(rounds, state) for state in ("cold", "warm")},
            "imports_ms": middle([one["warm"] for one in rounds], "imports_s") * 1e3,
        },
        "memory": {
            name: middle([one["memory"] for one in rounds if "memory" in one], name) for name in ("RssAnon", "RssFile")
        },
        "fresh": [{"seen": one["seen"], "effort": one["effort"]} for one in seen],
        "curve": raw["curve"],
        "rounds": len(rounds),
    }


def middle(runs: Iterable[dict[str, Any]], name: str) -> float:
    """The median of one figure over runs."""
    return float(np.median([run[name] for run in runs]))


def _medians(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    return {name: middle(runs, name) for name in ("p50_ms", "p95_ms", "qps", "recall")}


def _first_answer(rounds: Sequence[dict[str, Any]], state: str) -> float:
    return float(np.median([one[state]["open_s"] + one[state]["first_s"] for one in rounds]) * 1e3)
