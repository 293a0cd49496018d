"""The command line in a process of its own that need not import everything first: a second less for each."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["vectorstore.cli", "vectorstore.store", "vectorstore.collection", "vectorstore.reason", "vectorstore.records"]
)


def _work(words: list[str], folder: Path, streams: dict[int, Path]) -> None:
    for number, path in streams.items():
        handle = os.open(path, os.O_RDWR)
        os.dup2(handle, number)
        os.close(handle)
    sys.stdin = os.fdopen(0, closefd=False)
    os.chdir(folder)
    sys.argv = ["vectorstore", *words]
    importlib.import_module("vectorstore.cli").main()


def vectorstore(*words: str, folder: Path, typed: str = "", timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run(["vectorstore", *words])` would give in that folder; `typed` is what stands on its stdin."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = {number: Path(scratch) / str(number) for number in range(3)}
        for path in paths.values():
            path.write_text(typed if path.name == "0" else "")
        process = _PROCESSES.Process(target=_work, args=(list(words), folder, paths))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, process.exitcode, paths[1].read_text(), paths[2].read_text())
