"""Bad inputs to the verbs of clusters, fields and versions."""

from refused import Row

BAD: list[Row] = [
    ("store.maps", "fit", ("concepts", "tsne"), {}, "method", "tsne"),
    ("store.maps", "info", (3,), {}, "kind", 3),
    ("store.maps", "get", ("concepts",), {"colour": 3}, "colour", 3),
    ("store.maps", "export", ("concepts", "map.parquet"), {"neighbours": -1}, "neighbours", -1),
    ("store.clusters", "fit", (), {"n": 0}, "n", 0),
    ("store.clusters", "fit", (), {"seed": -1}, "seed", -1),
    ("store.clusters", "fit", (3,), {}, "kind", 3),
    ("store.clusters", "refit", (), {"n": 0.5}, "n", 0.5),
    ("store.clusters", "trials", (), {"n": 0}, "n", 0),
    ("store.clusters", "assign", (5,), {}, "ids", 5),
    ("store.clusters", "predict", ([[1.0]], 3), {}, "name", 3),
    ("store.clusters", "memberships", (3,), {}, "id", 3),
    ("store.clusters", "membership", (3,), {}, "id", 3),
    ("store.clusters", "members", ("x",), {"limit": 0}, "limit", 0),
    ("store.clusters", "neighbours", ("x",), {"k": 0}, "k", 0),
    ("store.clusters", "state", (3,), {}, "name", 3),
    ("store.clusters", "drift", (3,), {}, "name", 3),
    ("store.clusters", "versions", (3,), {}, "name", 3),
    ("store.clusters", "rollback", ("one",), {}, "version", "one"),
    ("store.clusters", "drop", (3,), {}, "name", 3),
    ("store.clusters", "model", (3,), {}, "name", 3),
    ("store.clusters", "update", ({"name": "x"},), {}, "clusters[0].id", ...),
    ("store.fields", "discover", (), {"core": 0.2}, "core", 0.2),
    ("store.fields", "discover", (), {"min_members": 0}, "min_members", 0),
]
