"""How the rigs run their children, and write down what these counted; `benchmarks/reliability.py` reports it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PLACE = "RELIABILITY"
"""The environment variable that names the file; without it nothing is written down."""


def note(section: str, name: str, **numbers: Any) -> None:
    """Add one line, and print it."""
    print(f"{name}: " + ", ".join(f"{value} {key}" for key, value in numbers.items() if not isinstance(value, list)))
    if place := os.environ.get(PLACE):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        with Path(place).open("a") as file:
            file.write(json.dumps({"section": section, "name": name, **numbers}) + "\n")


def alone(**more: str) -> dict[str, str]:
    """The environment of a child that has one thread, so that it can be forked."""
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **single, **more, "PYTHONPATH": str(ROOT)}


def reported(module: str, *arguments: object, under: tuple[str, ...] = (), **more: str) -> dict[str, Any]:
    """The JSON that a child prints, and what it says on stderr; `under` runs it, `more` goes into its environment."""
    done = subprocess.run(
        [*under, sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=alone(**more),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    report["stderr"] = done.stderr
    return report
