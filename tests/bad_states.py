"""What the verbs of states refuse at the call; a part of the table of test_contracts.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vectorstore as vs

STATE_OWNERS: dict[str, Callable[[vs.Store], Any]] = {
    "state": lambda store: store.state("agent"),
    "file": lambda store: vs.StateFile("never-written.json"),
}
STATES_TAKE_NOTHING = {"States.list", "State.statistics", "StoreState.checkpoints", "StoreState.reindex"}

STATES: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str, Any]] = [
    ("store", "state", (3,), {}, "name", 3),
    ("store", "state", ("a",), {"keep": 0}, ..., ...),
    ("store.states", "open", (3,), {}, "name", 3),
    ("store.states", "open", ("a",), {"keep": 0}, "keep", 0),
    ("store.states", "open", ("a",), {"compression": "zip"}, "compression", "zip"),
    ("store.states", "open", ("a",), {"searchable": 1}, "searchable", 1),
    ("store.states", "drop", (3,), {}, "name", 3),
    ("file", "save", (), {"merge": 1}, "merge", 1),
    ("file", "load", (), {"fallback": "yes"}, "fallback", "yes"),
    ("state", "load", (), {"fallback": None}, "fallback", None),
    ("state", "history", (3,), {}, "name", 3),
    ("state", "history", ("scores", 0), {}, "maxlen", 0),
    ("state", "save", (), {"merge": "theirs"}, "merge", "theirs"),
    ("state", "save", (), {"label": 3}, "label", 3),
    ("state", "restore", (True,), {}, "version", True),
    ("state", "restore", (1.0,), {}, "version", 1.0),
    ("state", "forget", ("",), {}, "version", ""),
    ("state", "rekey", (b"a key",), {}, "cipher", b"a key"),
    ("state", "search", ([1.0],), {"where": "x"}, "where", "x"),
    ("state", "at", (3,), {}, "path", 3),
    ("state", "export", (3,), {}, "path", 3),
    ("file", "export", ("x",), {"plain": 1}, "plain", 1),
    ("file", "read", (None,), {}, "path", None),
    ("state", "push", (3,), {}, "place", 3),
    ("state", "pull", (None,), {}, "place", None),
    ("state", "pull", ("x",), {"name": 3}, "name", 3),
]
