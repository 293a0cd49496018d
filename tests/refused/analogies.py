"""Bad inputs to the verbs of analogies."""

from refused import NAN, Row

BAD: list[Row] = [
    ("store.analogies", "complete", ("a", "b", "c"), {"k": 0}, "k", 0),
    ("store.analogies", "complete", ("a", "b", "c"), {"method": "guess"}, "method", "guess"),
    ("store.analogies", "complete", ("a", "b", "c"), {"kind": 3}, "kind", 3),
    ("store.analogies", "complete", ("king", None, "page"), {}, ..., ...),
    ("store.analogies", "complete", ("king", "queen", 3), {}, ..., ...),
    ("store.analogies", "complete", ("king", "queen", [1.0]), {}, ..., ...),
    ("store.analogies", "relate", (3,), {}, "where", 3),
    ("store.analogies", "relate", ({"nothing": 1},), {}, "analogies.where.nothing", 1),
    ("store.analogies", "relate", (), {"progress": 3}, "progress", 3),
    ("store.analogies", "parallel", ("a", "b"), {"k": True}, "k", True),
    ("store.analogies", "parallel", (None, "king"), {}, ..., ...),
    ("store.analogies", "discover", (3, "x"), {}, "source", 3),
    ("store.analogies", "discover", ("x", "y", 1.5), {}, "min_quality", 1.5),
    ("store.analogies", "discover", ("x", "y", NAN), {}, "min_quality", NAN),
    ("store.analogies", "discover", ("x", "y"), {"pairs": 0}, "pairs", 0),
    ("store.analogies", "discover", ("x", "y"), {"save": "no"}, "save", "no"),
    ("store.analogies", "discover", ("x", "x"), {}, ..., ...),
    ("store.analogies", "discover", ("", "x"), {}, "source", ""),
    ("store.analogies", "align", ("x", "abc", "y", ["d"]), {}, "source_terms", "abc"),
    ("store.analogies", "align", ("x", ["a"], "y", [3]), {}, "target_terms", [3]),
    ("store.analogies", "align", ("x", [], "y", ["d"]), {}, ..., ...),
    ("store.analogies", "retrieve", (3,), {}, "text", 3),
    ("store.analogies", "retrieve", ("x",), {"k": 0}, "k", 0),
    ("store.analogies", "retrieve", ("x",), {"pool": 0}, "pool", 0),
    ("store.analogies", "retrieve", ("x",), {"k": 10, "pool": 5}, "pool", 5),
    ("store.analogies", "mapping", (3,), {}, "term", 3),
    ("store.analogies", "mapping", ("",), {}, "term", ""),
    ("store.analogies", "mapping", ("x", 3), {}, "where", 3),
]
