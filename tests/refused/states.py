"""Bad inputs to the verbs of states."""

from __future__ import annotations

import vectorstore as vs
from refused import Row


def _state(store: vs.Store) -> object:
    return store.state("agent")


def _file(store: vs.Store) -> object:
    return vs.StateFile("never-written.json")


BAD: list[Row] = [
    ("store", "state", (3,), {}, "name", 3),
    ("store", "state", ("a",), {"keep": 0}, ..., ...),
    ("store.states", "open", (3,), {}, "name", 3),
    ("store.states", "open", ("a",), {"keep": 0}, "keep", 0),
    ("store.states", "open", ("a",), {"compression": "zip"}, "compression", "zip"),
    ("store.states", "open", ("a",), {"searchable": 1}, "searchable", 1),
    ("store.states", "drop", (3,), {}, "name", 3),
    (_file, "save", (), {"merge": 1}, "merge", 1),
    (_file, "load", (), {"fallback": "yes"}, "fallback", "yes"),
    (_state, "load", (), {"fallback": None}, "fallback", None),
    (_state, "history", (3,), {}, "name", 3),
    (_state, "history", ("scores", 0), {}, "maxlen", 0),
    (_state, "save", (), {"merge": "theirs"}, "merge", "theirs"),
    (_state, "save", (), {"label": 3}, "label", 3),
    (_state, "restore", (True,), {}, "version", True),
    (_state, "restore", (1.0,), {}, "version", 1.0),
    (_state, "forget", ("",), {}, "version", ""),
    (_state, "rekey", (b"a key",), {}, "cipher", b"a key"),
    (_state, "search", ([1.0],), {"where": "x"}, "where", "x"),
    (_state, "at", (3,), {}, "path", 3),
    (_state, "export", (3,), {}, "path", 3),
    (_file, "export", ("x",), {"plain": 1}, "plain", 1),
    (_file, "read", (None,), {}, "path", None),
    (_state, "push", (3,), {}, "place", 3),
    (_state, "pull", (None,), {}, "place", None),
    (_state, "pull", ("x",), {"name": 3}, "name", 3),
]
