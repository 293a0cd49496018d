"""File systems of our own, in files and in memory: to fill, to make read-only, and to cut the power of."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

SIZE = {"ext4": "64M", "xfs": "320M"}
_SHUTDOWN, _NO_LOG_FLUSH = 0x8004587D, 2  # FS_IOC_SHUTDOWN, of ext4 and xfs


def _run(*command: object) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout.strip()


def missing(system: str = "ext4") -> str | None:
    """Why file systems cannot be mounted here; None when they can."""
    if os.geteuid() != 0:
        return "power cuts and full disks are made on file systems of our own, and mounting these needs root"
    for tool in (f"mkfs.{system}", "mount", "umount", "losetup", "unshare"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (Debian and Ubuntu: e2fsprogs, xfsprogs, mount, util-linux)"
    return None


class Disk:
    """A file system in a file, mounted at a folder."""

    def __init__(self, folder: Path, system: str = "ext4") -> None:
        self.image, self.mount_point = folder / "image", folder / "mounted"
        folder.mkdir(parents=True, exist_ok=True)
        self.mount_point.mkdir(exist_ok=True)
        self._system = system

    def make(self) -> None:
        """An empty one, mounted."""
        self.image.unlink(missing_ok=True)
        _run("truncate", "-s", SIZE[self._system], self.image)
        _run(f"mkfs.{self._system}", "-q", self.image)
        self.mount()

    def copy_of(self, other: Path) -> None:
        """One like another's image, mounted."""
        _run("cp", "--sparse=always", other, self.image)
        self.mount()

    def mount(self) -> None:
        _run("mount", "-o", "loop", self.image, self.mount_point)

    def unmount(self) -> None:
        """Once nobody uses it any more."""
        for _ in range(200):
            done = subprocess.run(["umount", self.mount_point], capture_output=True, text=True)
            if done.returncode == 0:
                return
            time.sleep(0.02)
        raise OSError(done.stderr)

    def cut(self) -> None:
        """What was not written to the disk is lost; nothing more is written until it is mounted again."""
        handle = os.open(self.mount_point, os.O_RDONLY)
        fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        os.close(handle)
