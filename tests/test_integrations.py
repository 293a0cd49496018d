"""What is not used is not loaded, and what is missing is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vectorstore as vs

NEEDS = {"haystack": "haystack", "langchain": "langchain_core", "llamaindex": "llama_index", "mcp": "mcp"}


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_the_package_loads_no_framework() -> None:
    shown = run(
        "import sys, vectorstore as vs; vs.open(':memory:', embedder='hash').close()\n"
        f"print({set(NEEDS.values())!r} & set(sys.modules))"
    )
    assert shown == "set()\n"


@pytest.mark.parametrize("module", sorted(NEEDS))
def test_a_missing_extra_is_named(module: str) -> None:
    shown = run(
        f"import sys; sys.modules['{NEEDS[module]}'] = None\n"
        f"try:\n    import vectorstore.integrations.{module}\n"
        "except ImportError as error:\n    print(error)"
    )
    assert vs.errors.installing(module) in shown


def test_the_command_mcp_names_its_missing_extra_and_makes_nothing(tmp_path: Path) -> None:
    script = "import sys; sys.modules['mcp'] = None; from vectorstore.cli import main; main()"
    command = [sys.executable, "-c", script, "mcp", str(tmp_path / "kb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 8 and vs.errors.installing("mcp") in done.stderr and done.stdout == ""
    assert list(tmp_path.iterdir()) == []
