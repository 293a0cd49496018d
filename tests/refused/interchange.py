"""Bad inputs to export, import and tables."""

from refused import Row

BAD: list[Row] = [
    ("store", "export", (3,), {}, "path", 3),
    ("store", "export", ("kb.xml",), {}, ..., ...),
    ("store", "export", ("kb.jsonl",), {"vectors": "some"}, "vectors", "some"),
    ("store", "export", ("kb.csv",), {"deleted": True, "kinds": "concepts"}, "deleted", True),
    ("store", "import_", ("nothing.jsonl",), {}, ..., ...),
    ("store", "import_", (__file__,), {"format": "xml"}, "format", "xml"),
    ("store", "import_", (__file__,), {"format": "jsonl"}, ..., ...),
    ("store", "import_", (__file__,), {"format": "jsonl", "on_conflict": "ask"}, "on_conflict", "ask"),
    ("store", "import_", (__file__,), {"format": "jsonl", "separator": ";"}, "separator", ";"),
    ("store", "import_", (5,), {}, ..., ...),
    ("store.concepts", "to_arrow", ("x",), {}, "where", "x"),
    ("store.concepts", "to_pandas", (), {"vectors": 1}, "vectors", 1),
    ("store.concepts", "to_polars", ({"nothing": 1},), {}, "concepts.where.nothing", 1),
]
