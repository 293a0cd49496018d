"""Counts the durable steps of this process, and stops it at one of them with SIGKILL.

A step is a call of one of the small functions of `vectorstore.files`, of the catalog's commit, checkpoint, vacuum and
backup, and anything else that changes the store's folder: an audit hook sees what goes past those functions.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlite_utils.utils import sqlite3

from vectorstore import files
from vectorstore.storage.catalog import Catalog

FILES = ("create", "write", "sync", "rename", "sync_folder", "unlink")
WHOLE_CATALOG = ("checkpoint", "vacuum", "backup")
SQL = {
    "PRAGMA JOURNAL_MODE=": "journal mode",
    "PRAGMA INCREMENTAL_VACUUM": "vacuum",
    "PRAGMA WAL_CHECKPOINT": "checkpoint",
    "VACUUM": "vacuum",
}
CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER")


class Points:
    """The steps seen so far; kills at number `stop` on the given side ("before", "half" or "after")."""

    def __init__(self, root: Path, stop: int | None = None, side: str = "before") -> None:
        self.root = str(root)
        self.stop, self.side = stop, side
        self.seen: list[str] = []
        self.committed: Callable[[Any], object] | None = None
        """Told of each commit, with the connection."""
        self._here = threading.local()  # a thread within a step hides nothing of what another does meanwhile

    @property
    def _inside(self) -> int:
        return getattr(self._here, "steps", 0)

    @_inside.setter
    def _inside(self, steps: int) -> None:
        self._here.steps = steps

    def install(self) -> None:
        """From now on steps are counted."""
        for name in FILES:
            setattr(files, f"_{name}", self._wrapped(name, getattr(files, f"_{name}")))
        files._exchange = self._wrapped("exchange", files._exchange)  # type: ignore[assignment]
        Catalog._commit = self._wrapped("commit", Catalog._commit)  # type: ignore[method-assign]
        sqlite3.connect = self._connect(sqlite3.connect)
        sys.addaudithook(self._audit)

    def reach(self, kind: str, call: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """One durable step."""
        here = len(self.seen) == self.stop
        self.seen.append(kind)
        if here and self.side == "before":
            die()
        if here and self.side == "half" and half is not None:
            self._inside += 1
            half()
            die()
        self._inside += 1
        try:
            result = call()
        finally:
            self._inside -= 1
        if here:
            die()
        return result

    def _wrapped(self, kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any) -> Any:
            half = None
            if kind == "write":
                chunk = memoryview(args[1])
                half = lambda: original(args[0], chunk[: len(chunk) // 2])  # noqa: E731
            result = self.reach(kind, lambda: original(*args), half)
            if kind == "commit" and self.committed is not None:
                self.committed(args[1])
            return result

        return step

    def _connect(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(*args: Any, **keywords: Any) -> Any:
            keywords["factory"] = self._counted(keywords.get("factory", sqlite3.Connection))
            return original(*args, **keywords)

        return connect

    def _counted(self, base: Any) -> Any:
        """A class of connections whose statements are counted, over whichever class was asked for."""
        points = self

        class Connection(base):  # type: ignore[misc]
            def execute(self, sql: str, *args: Any) -> Any:
                plain = " ".join(sql.split()).upper()
                kind = next((kind for start, kind in SQL.items() if plain.startswith(start)), None)
                if kind is None and plain.startswith(CHANGES) and not self.in_transaction:
                    kind = "statement outside a transaction"
                if kind is None or points._inside:
                    return super().execute(sql, *args)
                return points.reach(kind, lambda: super(Connection, self).execute(sql, *args))

            def backup(self, *args: Any, **keywords: Any) -> None:
                points.reach("backup", lambda: super(Connection, self).backup(*args, **keywords))

        return Connection

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Changes of the folder that do not pass through the functions above; only "before" can be stopped at."""
        if self._inside or event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        path = args[0]
        if not isinstance(path, str | os.PathLike) or not os.fspath(path).startswith(self.root):
            return
        if event == "open":
            flags = args[2] or 0
            if not flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR | os.O_TRUNC):
                return
        name = os.path.basename(os.fspath(path))
        event = event.removeprefix("os.")
        self.reach(f"{event} {name}" if name in ("catalog.sqlite", "store.lock") else event, lambda: None)


def die() -> None:
    """As the kernel would do it: nothing runs afterwards."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL was sent and this still runs")
