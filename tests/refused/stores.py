"""Bad inputs to the verbs of stores and models."""

from datetime import datetime
from typing import Any

import vectorstore as vs
from refused import NAN, Row

BAD: list[Row] = [
    ("store", "search", ("x",), {"k": 0}, "k", 0),
    ("store", "search", ("x",), {"contexts": 3}, "contexts", 3),
    ("store", "search", ("x",), {"mode": "text"}, "mode", "text"),
    ("store", "collection", (5,), {}, "kind", 5),
    ("store", "on", ("sneeze", print), {}, "event", "sneeze"),
    ("store", "on", ("commit", "print"), {}, "hook", "print"),
    ("store", "publish", (5,), {}, "kind", 5),
    ("store", "rebuild", (5,), {}, "kind", 5),
    ("store", "rebuild", ("concepts",), {"progress": 5}, "progress", 5),
    ("store", "rebuild", ("concepts", "no such recipe"), {}, "recipe", "no such recipe"),
    ("store", "rebuild", ("concepts", 5), {}, "recipe", 5),
    ("store", "compact", (5,), {}, "kind", 5),
    ("store", "check", (5,), {}, "progress", 5),
    ("store", "repair", (), {"dry_run": "no"}, "dry_run", "no"),
    ("store", "sweep", (-1,), {}, "older_than", -1),
    ("store", "context_info", (1,), {}, "name", 1),
    ("store.models", "put", (3, b""), {}, "name", 3),
    ("store.models", "put", ("a/b", b""), {}, "models.put", ...),
    ("store.models", "get", (3,), {}, "name", 3),
    ("store.models", "path", (3,), {}, "name", 3),
    ("store.models", "list", (3,), {}, "name", 3),
    ("store.models", "delete", ("net", 0), {}, "version", 0),
    ("store.trail", "list", (), {"limit": 0}, "limit", 0),
    ("store.trail", "list", (), {"operation": 3}, "operation", 3),
    ("store.trail", "list", (), {"id": "x"}, "kind", None),
    ("store.trail", "list", (), {"since": "yesterday"}, "since", "yesterday"),
    ("store.trail", "list", (), {"since": datetime(2026, 1, 1)}, "since", datetime(2026, 1, 1)),
    ("store.trail", "list", (), {"after": "gibberish"}, "after", "gibberish"),
    ("store.trail", "ids", ("1",), {}, "number", "1"),
    ("store.trail", "ids", (10**9,), {}, "number", 10**9),
    ("store.trail", "verify", (3,), {}, "anchor", 3),
    ("store.trail", "verify", ("24",), {}, "anchor", "24"),
    ("store.trail", "rotate", (-1,), {}, "keep", -1),
]

OPENING: list[tuple[dict[str, Any], str]] = [
    ({"path": 3}, "path"),
    ({"path": b"kb"}, "path"),
    ({"kinds": "concepts"}, "kinds"),
    ({"kinds": [3]}, "kinds"),
    ({"kinds": vs.Concept}, "kinds"),
    ({"metric": "manhattan"}, "metric"),
    ({"metric": 3}, "metric"),
    ({"tokenizer": 3}, "tokenizer"),
    ({"read_only": "yes"}, "read_only"),
    ({"create": 1}, "create"),
    ({"auto_publish": None}, "auto_publish"),
    ({"verify": "no"}, "verify"),
    ({"trail": 0}, "trail"),
    ({"clock": 12.5}, "clock"),
    ({"timeout": -1}, "timeout"),
    ({"timeout": NAN}, "timeout"),
    ({"contracts": "off"}, "contracts"),
    ({"telemetry": "on"}, "telemetry"),
    ({"actor": ""}, "actor"),
    ({"embedder": 3}, "embedder"),
]
"""Bad options of `vs.open`, and the field that the error must name."""
