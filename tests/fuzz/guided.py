"""Coverage-guided fuzzing of the parsers by atheris: python -m tests.fuzz.guided PARSER [-max_total_time=20 ...].

What a parser may raise are errors of ours; anything else ends the run with the input that did it. atheris is no part of
the developer's tools, since it has no wheels for every Python: `make fuzz` installs it where it can.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["vectorstore"]):
    import vectorstore as vs
    from vectorstore.backups.manifest import Manifest
    from vectorstore.interchange.cells import rows_of
    from vectorstore.interchange.hnswlib import read_labels
    from vectorstore.interchange.lines import JsonError, as_item, parsed
    from vectorstore.records.schema import schema_of
    from vectorstore.records.where import parse
    from vectorstore.search.language import translate
    from vectorstore.states.envelope import unseal
    from vectorstore.storage.filters import compile_where
    from vectorstore.vectors.segments import open_unknown, segment_chunks
    from vectorstore.vectors.wordfiles import word_blocks

import numpy as np

SCRATCH = Path(tempfile.mkdtemp(prefix="vectorstore-fuzz-"))
CONCEPTS = schema_of(vs.Concept)


def _file(data: bytes, name: str) -> Path:
    path = SCRATCH / name
    path.write_bytes(data)
    return path


def _where(data: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(data)
        sql, values = compile_where(parse(said, CONCEPTS), '"concepts"')
        assert sql.count("?") == len(values) and "'" not in sql.replace("'text'", "").replace("'integer'", "").replace(
            "('array', 'object')", ""
        ), sql


def _line(data: bytes) -> None:
    as_item(parsed(data), 1, "concepts", lambda place: f"x:{place}")


PARSERS: dict[str, tuple[Callable[[bytes], Any], list[bytes]]] = {
    "where": (_where, [b'{"name": "x", "or": [{"quality__gte": 0.5}, {"extra.a.b__in": [1, "x"]}], "not": {"tags__has": "t"}}']),
    "language": (
        lambda data: translate(data.decode("utf-8", "surrogateescape"), ("name", "definition"), "unicode61", "q"),
        [b'king OR "round table" -chess NOT (a AND definition:(b OR c*)) name:"x y"*'],
    ),
    "line": (_line, [b'{"kind": "concepts", "record": {"id": "x"}, "vectors": {"text": {"float32": "AAAA", "source": "x"}}}']),
    "csv": (lambda data: list(rows_of(_file(data, "x.csv"))), [b'name,definition\n"a ""b"" c",d\n\n,"x\ny"\n']),
    "words": (lambda data: list(word_blocks(_file(data, "x.txt"))), [b"2 3\na 1 2 3\nb 4 5 6\n"]),
    "binary words": (lambda data: list(word_blocks(_file(data, "x.bin"))), [b"1 2\na " + bytes(8) + b"\n"]),
    "segment": (
        lambda data: open_unknown(data, file="x", dim=2).vids,
        [b"".join(segment_chunks(["a", "b"], np.eye(2, dtype=np.float32)))],
    ),
    "manifest": (lambda data: Manifest.from_bytes(data, "x"), [b'{"format": 1, "id": "0", "files": [], "sha256": ""}']),
    "state": (lambda data: unseal(data, "x"), [b'{"vectorstore-state":1,"compression":"none","cipher":null,"size":2,"sha256":""}\n{}']),
    "pickle": (lambda data: read_labels(_file(data, "x.pickle")), [b"\x80\x04}\x94\x8c\x0bid_to_label\x94}\x94\x8c\x01a\x94K\x01ss."]),
}  # fmt: skip


def main() -> None:
    """Fuzz one parser until atheris is told to stop."""
    name, arguments = sys.argv[1], sys.argv[2:]
    parser, seeds = PARSERS[name]
    corpus = SCRATCH / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)

    def once(data: bytes) -> None:
        with contextlib.suppress(vs.VectorstoreError, JsonError):  # the latter is said again, with its place
            parser(data)

    atheris.Setup([sys.argv[0], str(corpus), "-rss_limit_mb=3000", "-timeout=20", *arguments], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
