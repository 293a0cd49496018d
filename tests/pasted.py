"""Runs the Python examples of pages, all in one process: importing torch takes longer than most of them.

    python tests/pasted.py docs/tutorial.md ...    # runs them, and writes what they print below them

A block of Python that prints has a block of text below it, which says what.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<shown>.*?)```\n)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")
NEAR = 0.021
"""Printed numbers may differ by so much: processors that multiply bfloat16 differ from others in the third digit."""

# Each page in a folder and a namespace of its own; a block that fails ends its page.
RUNNER = """
import contextlib, io, json, os, sys, traceback, warnings
warnings.filterwarnings("error", category=DeprecationWarning, module="vectorstore")
results = []
for folder, blocks in json.load(sys.stdin):
    os.makedirs(folder, exist_ok=True)
    os.chdir(folder)
    names, shown = {"__name__": "__main__"}, []
    for block in blocks:
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(compile(block, "<example>", "exec"), names)
        except BaseException:
            shown.append(traceback.format_exc())
            break
        shown.append(out.getvalue())
    results.append(shown)
json.dump(results, sys.stdout)
"""


@dataclass(frozen=True)
class Example:
    """A block of Python and what the page says it prints."""

    code: str
    shown: str


def examples(page: Path) -> list[Example]:
    """Those of a page, in order."""
    return [Example(at["code"], at["shown"] or "") for at in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def run(pages: list[tuple[Path, list[str]]], timeout: float = 280) -> list[list[str]]:
    """What the blocks of each (folder, blocks) print; a traceback ends a list.

    Raises:
        AssertionError: the process ended before its time.
    """
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([(str(folder), blocks) for folder, blocks in pages]),
        env={**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False", "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def same(said: str, printed: str) -> bool:
    """Whether two outputs are alike, numbers with a point nearly."""
    if NUMBER.sub("0.0", said) != NUMBER.sub("0.0", printed):
        return False
    both = zip(NUMBER.findall(said), NUMBER.findall(printed), strict=True)
    return all(abs(float(one) - float(other)) <= NEAR for one, other in both)


def write(page: Path) -> None:
    """Run a page and write what its blocks print below them."""
    with tempfile.TemporaryDirectory() as folder:
        (printed,) = run([(Path(folder) / "page", [one.code for one in examples(page)])])
    if len(printed) < len(examples(page)) or "Traceback" in printed[-1]:
        sys.exit(f"{page}: {printed[-1]}")
    outputs = iter(printed)

    def filled(at: re.Match[str]) -> str:
        text = next(outputs)
        return f"```python\n{at['code']}```\n" + (f"\n```text\n{text}```\n" if text else "")

    page.write_text(BLOCK.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{page}: {len(printed)} examples")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write(Path(name))
