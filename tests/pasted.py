"""Runs the Python examples of pages, all in one process: importing torch takes longer than most of them.

    python tests/pasted.py docs/tutorial.md ...    # runs them, and writes what they print below them

A block of Python that prints has a block of text below it, which says what.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n(?P<shown>.*?)```\n)?", re.DOTALL)
DATA = Path(__file__).parent / "data"
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


def prepared(folder: Path, page: Path) -> Path:
    """The folder in which a page's examples run, with what the page says is there."""
    folder.mkdir(parents=True)
    if page.stem == "chroma":
        with zipfile.ZipFile(DATA / "chroma" / "folder.zip") as packed:
            packed.extractall(folder / "chroma")
    if page.stem == "lancedb":
        shutil.copy(DATA / "lancedb" / "notes.parquet", folder)
    return folder


def write(pages: list[Path]) -> None:
    """Run pages, and write what their blocks print below them; a page that fails stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        places = [prepared(Path(folder) / f"{place}", page) for place, page in enumerate(pages)]
        blocks = [[one.code for one in examples(page)] for page in pages]
        printed = run(list(zip(places, blocks, strict=True)), timeout=1_000)
    for page, outputs in zip(pages, printed, strict=True):
        if len(outputs) < len(examples(page)) or "Traceback" in outputs[-1]:
            print(f"{page}: {outputs[-1]}")
            continue
        shown = iter(outputs)

        def filled(at: re.Match[str], shown: Iterator[str] = shown) -> str:
            text = next(shown)
            return f"```python\n{at['code']}```\n" + (f"\n```text\n{text}```\n" if text else "")

        page.write_text(BLOCK.sub(filled, page.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"{page}: {len(outputs)} examples")


if __name__ == "__main__":
    write([Path(name) for name in sys.argv[1:]])
