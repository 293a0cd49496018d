"""The shim `faultio.c`: how it is built, loaded and armed."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("faultio.c")
ROOT = Path(__file__).parents[2]
WRITE, SYNC, RENAME, OPEN, UNLINK, MKDIR, TRUNCATE, READ = (1 << bit for bit in range(8))
CHANGES = WRITE | SYNC | RENAME | OPEN | UNLINK | MKDIR | TRUNCATE
FAIL, SHORT, DIE, CUT = range(1, 5)
FOR_EVER = 10**9
TOLD = "VECTORSTORE_RIGS"
"""The environment variable that lets a rig which cannot run be skipped: VECTORSTORE_RIGS=skip."""


def unable(why: str) -> None:
    """A rig that cannot run here fails, and says why, unless it was told that it may be skipped."""
    message = f"{why} (set {TOLD}=skip to leave such rigs out)"
    if os.environ.get(TOLD) == "skip":
        pytest.skip(message)
    pytest.fail(message, pytrace=False)


def built(folder: Path) -> Path:
    """The shim, compiled into a folder."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    if sys.platform != "linux" or compiler is None:
        unable("disk faults are made by a small C library: they need Linux and a C compiler (cc, gcc or clang)")
    library = folder / "faultio.so"
    done = subprocess.run(
        [str(compiler), "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", str(library), str(SOURCE), "-ldl"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        unable(f"{SOURCE.name} could not be compiled: {done.stderr.strip()[-500:]}")
    return library


@dataclass(frozen=True)
class Fault:
    """What happens to calls `first`, `first` + 1, ..., `times` of them, of the operations."""

    first: int
    mode: int
    code: int = 0
    operations: int = CHANGES
    times: int = 1

    def __str__(self) -> str:
        what = {FAIL: errno.errorcode.get(self.code, "?"), SHORT: "short write", DIE: "kill", CUT: "cut"}
        return what[self.mode] + (" from then on" if self.times > 1 else "")


class Shim:
    """The library that this process was started with."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.fault_arm.argtypes = [
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_long,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
        ]
        self._library.fault_seen.restype = self._library.fault_met.restype = ctypes.c_long

    def arm(self, folder: Path, fault: Fault, mounted: Path | None = None, log: int = -1) -> None:
        """From now on calls are counted, and meet the fault."""
        self._library.fault_arm(
            os.fsencode(folder),
            os.fsencode(mounted or folder),
            fault.operations,
            fault.first,
            fault.times,
            fault.mode,
            fault.code,
            log,
        )

    def watch(self, folder: Path, log: int) -> None:
        """From now on calls are counted and written down, and none meets a fault."""
        self.arm(folder, Fault(FOR_EVER, FAIL), log=log)

    def lie(self) -> None:
        """From now on nothing is synced, and every sync says that it was."""
        self._library.fault_lie()

    def cut(self) -> None:
        """The power goes now, and this process with it."""
        self._library.fault_cut()

    def seen(self) -> int:
        """How many calls were counted so far."""
        return int(self._library.fault_seen())

    def disarm(self) -> int:
        """Everything works again; how many calls met the fault."""
        self._library.fault_disarm()
        return int(self._library.fault_met())
