"""What the tests of hostile input share: texts meant to do harm, an oracle of what code did, the statements that SQL ran."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import vectorstore as vs

TEXTS = [
    "'; DROP TABLE concepts; --",
    '"; DROP TABLE concepts; --',
    "x' OR '1'='1",
    "') OR 1=1 --",
    "x' UNION SELECT sql FROM sqlite_schema --",
    "(SELECT group_concat(definition) FROM concepts)",
    "name\" FROM concepts; ATTACH 'evil.db' AS evil; --",
    "/* */ -- \n ; PRAGMA writable_schema=1",
    "json_each(?1)",
    "?1 :id @x $y",
    "%s %n {0} {__class__}",
    "../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\x",
    "file:///etc/passwd",
    "http://127.0.0.1:1/x",
    "a\0b",
    "\ud800",
    "x\udfff",
    "\u202eevil",
    "\ufeff",
    "NEAR(a b) AND (",
    '"unclosed',
    "*" * 2000,
    "(" * 3000,
    "<script>alert(1)</script>",
    "\uff21\u0301" * 500,
    "9" * 5000,
    "NaN",
    "__import__('os').system('x')",
]

FORBIDDEN = {
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "ftplib.connect", "smtplib.connect"),
    *("exec", "compile", "pickle.find_class", "marshal.loads", "ctypes.dlopen", "sqlite3.load_extension"),
    *("os.putenv", "os.symlink", "os.link", "os.chmod", "os.chown", "webbrowser.open", "code.__new__"),
}
"""Audit events of code being made or run, of processes, of the network, and of files that are not plain ones."""

_KNOWN_PICKLES = {
    ("sklearn.cluster._kmeans", "KMeans"),
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
_watching: list[tuple[Path, list[str]]] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Hooks cannot be taken off again, so there is one, which is idle most of the time."""
    if not _watching:
        return
    folder, seen = _watching[-1]
    if event == "open":
        name, mode, flags = arguments
        writes = any(sign in mode for sign in "wax+") if isinstance(mode, str) else bool((flags or 0) & 0b11)
        if writes and isinstance(name, str) and not Path(name).absolute().is_relative_to(folder):
            seen.append(f"open for writing {name}")
    elif event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.truncate"):
        for name in arguments[: 2 if event == "os.rename" else 1]:
            if isinstance(name, str | Path) and Path(name).is_absolute() and not Path(name).is_relative_to(folder):
                seen.append(f"{event} {name}")
    elif event in FORBIDDEN and tuple(arguments[:2]) not in _KNOWN_PICKLES:
        seen.append(f"{event} {str(arguments)[:200]}")


@contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """What the interpreter is seen to do meanwhile that no data may make it do; writes inside the folder are allowed.

    Let what is watched happen once before, with good input: an import runs code of its own.
    """
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    seen: list[str] = []
    _watching.append((folder.absolute(), seen))
    try:
        yield seen
    finally:
        _watching.pop()


_LITERAL = re.compile(r"x'[0-9a-f]*'|'(?:[^']|'')*'|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b|\bNULL\b", re.IGNORECASE)


def shape(statement: str) -> str:
    """A statement without its values: bound ones are written into what SQLite reports."""
    return re.sub(r"-?\?(?:\s*,\s*-?\?)*", "?", _LITERAL.sub("?", statement))


@contextmanager
def statements(store: vs.Store) -> Iterator[set[str]]:
    """The shapes of all statements that the store's connections of this thread run meanwhile."""
    catalog, seen = store._catalog, set[str]()
    connections = [catalog._writer_connection(), catalog._readers.mine()]
    for connection in connections:
        connection.set_trace_callback(lambda sql: sql.startswith("--") or seen.add(shape(sql)))  # FTS5's own
    try:
        yield seen
    finally:
        for connection in connections:
            connection.set_trace_callback(None)


def tamed(error: BaseException) -> bool:
    """Whether an error is one of ours, with words that can be shown."""
    return isinstance(error, vs.VectorstoreError) and bool(str(error)) and len(str(error)) < 20_000
