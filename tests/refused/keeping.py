"""Bad inputs to the verbs of a store over time."""

from datetime import timedelta

from refused import Row

BAD: list[Row] = [
    ("store", "backup", (3,), {}, "target", 3),
    ("store", "backup", ("/nowhere",), {"keep": 0}, "keep", 0),
    ("store", "backup", ("/nowhere",), {"keep": True}, "keep", True),
    ("store", "backup", ("/nowhere",), {"keep_for": timedelta(-1)}, "keep_for", timedelta(-1)),
    ("store", "backup", ("/nowhere",), {"progress": 1}, "progress", 1),
    ("store", "as_of", (3.5,), {}, "when", 3.5),
    ("store", "as_of", (True,), {}, "when", True),
    ("store", "maintain", ({"retired_share": 0.5},), {}, "policy", {"retired_share": 0.5}),
    ("store", "maintain", (), {"dry_run": 1}, "dry_run", 1),
    ("store.snapshots", "add", (3,), {}, "name", 3),
    ("store.snapshots", "add", ("a/b",), {}, "name", "a/b"),
    ("store.snapshots", "drop", (None,), {}, "name", None),
]
