"""Bad inputs of the verbs of work, for tests/test_contracts.py."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

WORK = "store.workflows"
BAD_WORK: list[tuple[str, str, tuple[Any, ...], dict[str, Any], str, Any]] = [
    (WORK, "create", (5, [{"name": "x"}]), {}, "kind", 5),
    (WORK, "create", ("concepts", []), {}, "concepts", ...),
    (WORK, "create", ("concepts", [5]), {}, "concepts[0]", ...),
    (WORK, "create", ("concepts", [{"name": "x"}], [[1.0], [2.0]]), {}, "concepts.vectors", ...),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"id": 5}, "id", 5),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"id": "a/b"}, "id", "a/b"),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"policy": "mild"}, "policy", "mild"),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"overwrite": 1}, "overwrite", 1),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"source": None}, "source", None),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"confidence": 2}, "confidence", 2),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"metadata": 5}, "metadata", 5),
    (WORK, "create", ("concepts", [{"name": "x"}]), {"metadata": {"a": object()}}, "metadata", ...),
    (WORK, "update", ("concepts", []), {}, "concepts", ...),
    (WORK, "update", ("concepts", [{"id": "x"}]), {"policy": None}, "policy", None),
    (WORK, "create_from_jsonl", ("concepts", 5), {}, "path", 5),
    (WORK, "create_from_jsonl", ("concepts", "x.jsonl"), {"operation": "delete"}, "operation", "delete"),
    (WORK, "create_from_jsonl", ("concepts", "nowhere.jsonl"), {}, ..., ...),
    (WORK, "delete", ("concepts",), {}, "concepts.delete", ...),
    (WORK, "delete", ("concepts",), {"where": {}}, "concepts.delete", ...),
    (WORK, "delete", ("concepts", 5), {}, "ids", 5),
    (WORK, "delete", ("concepts",), {"where": {"nothing": 1}}, "concepts.where.nothing", ...),
    (WORK, "reembed", ("concepts",), {"where": 5}, "where", 5),
    (WORK, "reembed", ("contexts",), {"policy": 5}, "policy", 5),
    (WORK, "reindex", ("concepts", "no such recipe"), {}, "recipe", "no such recipe"),
    (WORK, "reindex", ("concepts", "auto"), {}, "recipe", "auto"),
    (WORK, "cluster", ("concepts", "no such recipe"), {}, ..., ...),
    (WORK, "cluster", ("concepts",), {"n": 0}, "n", 0),
    (WORK, "process", (5,), {}, "id", 5),
    (WORK, "process", ("x",), {"lease": 5}, "lease", 5),
    (WORK, "process", ("x",), {"lease": timedelta(0)}, "lease", timedelta(0)),
    (WORK, "process_all", (), {"progress": 5}, "progress", 5),
    (WORK, "start", (), {"poll": 0}, "poll", 0),
    (WORK, "cancel", (None,), {}, "id", None),
    (WORK, "rollback", (5,), {}, "id", 5),
    (WORK, "retry", ("x", [5]), {}, "changes", [5]),
    (WORK, "retry", ("x", {"one": {}}), {}, "changes", {"one": {}}),
    (WORK, "get", (5,), {}, "id", 5),
    (WORK, "list", ("running",), {}, "status", "running"),
    (WORK, "list", (), {"limit": 0}, "limit", 0),
    (WORK, "list", (), {"after": "gibberish"}, "after", "gibberish"),
    (WORK, "count", ("running",), {}, "status", "running"),
    (WORK, "items", ("x", "lost"), {}, "status", "lost"),
    (WORK, "errors", ("x",), {"limit": 10_001}, "limit", 10_001),
    (WORK, "log", (5,), {}, "id", 5),
    (WORK, "to_jsonl", ("x", 5), {}, "path", 5),
    (WORK, "cleanup", (30,), {}, "older_than", 30),
    (WORK, "cleanup", (), {"status": "pending"}, "status", "pending"),
    (WORK, "cleanup", (), {"dry_run": "yes"}, "dry_run", "yes"),
]
"""(how to come to the object, verb, arguments, options, field, value)."""
