"""Bad inputs to the verbs of concepts, contexts, frames and instances."""

from refused import Row

BAD: list[Row] = [
    ("store.concepts", "resolve", (None,), {}, "name", None),
    ("store.concepts", "senses", (3,), {}, "name", 3),
    ("store.concepts", "disambiguate", ("bank", 3), {}, "hint", 3),
    ("store.concepts", "lookup", ("king",), {"by": "sound"}, "by", "sound"),
    ("store.concepts", "lookup", ("king",), {"limit": 0}, "limit", 0),
    ("store.concepts", "related", ("default:king",), {"depth": 0}, "depth", 0),
    ("store.concepts", "related", ("default:king",), {"direction": "up"}, "direction", "up"),
    ("store.contexts", "chain", (1,), {}, "name", 1),
    ("store.contexts", "within", (1,), {}, "name", 1),
    ("store.contexts", "metadata", (1,), {}, "name", 1),
    ("store.contexts", "axioms", (1,), {}, "name", 1),
    ("store.contexts", "delete", (), {}, "contexts.delete", None),
    ("store.contexts", "save", ("default", 3), {}, "path", 3),
    ("store.contexts", "load", (3,), {}, "path", 3),
    ("store.frames", "elements", (1,), {}, "id", 1),
    ("store.frames", "ancestors", (1,), {}, "id", 1),
    ("store.instances", "bind", ("f", ["x"]), {}, "bindings", ["x"]),
    ("store.instances", "bind", ("f", {}), {"missing": "guess"}, "missing", "guess"),
    ("store.instances", "bind", ("nothing", {"a": "default:king"}), {}, ..., ...),
    ("store.instances", "roles_of", (3,), {}, "concept", 3),
    ("store.instances", "analogous", ("x",), {"k": 0}, "k", 0),
    ("store.instances", "analogous", ("x",), {"min_score": 2}, "min_score", 2),
]
