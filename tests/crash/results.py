"""Where the rigs write down what they counted; `benchmarks/reliability.py` makes the report of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

PLACE = "RELIABILITY"
"""The environment variable that names the file; without it nothing is written down."""


def note(section: str, name: str, **numbers: Any) -> None:
    """Add one line, and print it."""
    print(f"{name}: " + ", ".join(f"{value} {key}" for key, value in numbers.items() if not isinstance(value, list)))
    if place := os.environ.get(PLACE):
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        with Path(place).open("a") as file:
            file.write(json.dumps({"section": section, "name": name, **numbers}) + "\n")
