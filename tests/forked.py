"""Processes of their own that need not import everything first: a second less for each.

They are forked from one that has imported the package and has opened nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
"""As multiprocessing's spawn, but quicker."""
PROCESSES.set_forkserver_preload(
    [
        "vectorstore.cli",
        "vectorstore.store",
        "vectorstore.collection",
        "vectorstore.reason",
        "vectorstore.records",
        "pytest",
    ]
)
ROOT = Path(__file__).parent.parent
COMMANDS = "from vectorstore.cli import main; main()"


def _work(code: str, words: list[str], folder: Path, streams: dict[int, Path]) -> None:
    for number, path in streams.items():
        handle = os.open(path, os.O_RDWR)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = os.fdopen(0, closefd=False)
    os.chdir(folder)
    sys.argv = words
    exec(compile(code, "<test>", "exec"), {"__name__": "__main__"})


def python(
    code: str, *words: str, folder: Path = ROOT, typed: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run(["python", "-c", code, *words])` would give in that folder; `typed` stands on its stdin."""
    return _done(code, ["-c", *words], folder, typed, timeout)


def vectorstore(*words: str, folder: Path, typed: str = "", timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run(["vectorstore", *words])` would give in that folder; `typed` stands on its stdin."""
    return _done(COMMANDS, ["vectorstore", *words], folder, typed, timeout)


def _done(code: str, words: list[str], folder: Path, typed: str, timeout: float) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as scratch:
        paths = {number: Path(scratch) / str(number) for number in range(3)}
        for path in paths.values():
            path.write_text(typed if path.name == "0" else "")
        process = PROCESSES.Process(target=_work, args=(code, words, folder, paths))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, process.exitcode, paths[1].read_text(), paths[2].read_text())
