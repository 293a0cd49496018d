"""Bad inputs to the verbs of stores and models."""

from refused import Row

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
]
