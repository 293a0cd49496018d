"""What the machine is, and what it is made to forget."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.peers.child import files_of


def drop_caches(path: Path) -> None:
    """Ask the system to forget the pages of a store's files; they were all fsynced."""
    for found in files_of(path):
        descriptor = os.open(found, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def machine() -> dict[str, Any]:
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_at_end": os.getloadavg()[0],
    }
