"""What every engine must do, beside numpy and plain Python: one suite for the folder, a server and a cluster.

A class of tests derives from `EngineSuite` and has a fixture `address`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from tests.conftest import clustered, queries_like
from tests.feeding_suite import engine_of
from vectorstore.engines import Field, Rows, VectorIndex, address_of, connect, expression, fields_of, marks_of, named
from vectorstore.engines.expressions import cut
from vectorstore.engines.faiss import compiled
from vectorstore.records import parse, schema_of
from vectorstore.vectors.arrays import as_unit

DIM = 32
FIELDS: tuple[Field, ...] = (
    ("word", "text", True),
    ("n", "integer", False),
    ("real", "real", True),
    ("flag", "boolean", True),
)
WORDS = ["physics", "日本", 'a"b', "back\\slash", "100%", "new\nline", "it's", "", "é😀", "x" * 3000, "ab", "abc", None]
TEXTS = [
    *WORDS,
    "under_score",
    "é",
    'O\'Hara "said"',
    "\uff46\uff55\uff4c\uff4c",
    "\u2028",
    "zero\u200bwidth",
    "tab\t",
    "null",
    "x" * 1023 + "é",
]


def values(number: int, salt: int = 0) -> tuple[Any, ...]:
    word = WORDS[(number + salt) % len(WORDS)]
    return (word, number * 7 - 40, None if number % 5 == 0 else number / 8, None if number % 7 == 0 else number % 2)


def rows(numbers: list[int], matrix: np.ndarray, salt: int = 0) -> Rows:
    vids = np.array(numbers, np.int64)
    told = [values(number, salt) for number in numbers]
    return Rows(vids, matrix, marks_of(numbers, matrix, told), told)


def as_row(vid: int, told: tuple[Any, ...]) -> dict[str, Any]:
    word = told[0] or ""
    short = word.encode()[:1024].decode(errors="ignore")
    row: dict[str, Any] = {"vid": vid, "odd": short != word, "f_word": short, "n_word": told[0] is None}
    row |= {"f_n": told[1], "f_real": told[2] or 0.0, "n_real": told[2] is None}
    return row | {"f_flag": bool(told[3]), "n_flag": told[3] is None}


_texts = st.sampled_from([text for text in TEXTS if text is not None])
_terms = st.one_of(
    st.builds(lambda value: {"domain": value}, st.sampled_from(TEXTS)),
    st.builds(lambda value: {"domain__ne": value}, st.sampled_from(TEXTS)),
    st.builds(lambda operator, value: {f"domain__{operator}": value}, st.sampled_from(["gt", "gte", "lt", "lte"]), _texts),
    st.builds(lambda value: {"domain__startswith": value[:2]}, _texts),
    st.builds(lambda name, values: {f"domain__{name}": values}, st.sampled_from(["in", "nin"]), st.lists(st.sampled_from(TEXTS), max_size=3)),
    st.builds(lambda name, value: {f"domain__{name}": value}, st.just("isnull"), st.booleans()),
    st.builds(lambda operator, value: {f"quality__{operator}": value}, st.sampled_from(["eq", "ne", "gt", "lte"]), st.sampled_from([0.0, 0.3, 1, 0.55])),
    st.builds(lambda values: {"quality__nin": values}, st.lists(st.sampled_from([0.1, 0.5, None]), max_size=3)),
    st.builds(lambda value: {"name": value}, st.sampled_from(["N3", "n4", "nobody"])),
)  # fmt: skip
FILTERS = st.recursive(
    _terms,
    lambda inner: st.one_of(
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda parts: {"or": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"and": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda a, b: {**a, **b}, inner, inner),
    ),
    max_leaves=6,
)


class EngineSuite:
    """Tests of one engine."""

    examples = 400

    @pytest.fixture
    def collection(self, address: str) -> Iterator[Any]:
        made: list[VectorIndex] = []

        def make(metric: str = "cosine", **options: str) -> VectorIndex:
            where = address_of(address)
            where.options.update(options)
            made.append(connect(where, f"vs_test_{random.getrandbits(48):x}", DIM, metric, FIELDS))
            made[-1].make()
            return made[-1]

        yield make
        for engine in made:
            engine.drop()
            engine.drop()  # nothing to do
            engine.close()

    @pytest.mark.parametrize(("metric", "index"), [("cosine", "IVF_SQ8"), ("l2", "FLAT"), ("ip", "HNSW")])
    def test_it_does_what_the_protocol_says(self, collection: Any, metric: str, index: str) -> None:
        engine = collection(metric, index=index)
        matrix = clustered(300, DIM)
        matrix = as_unit(matrix) if metric == "cosine" else matrix
        truth: dict[int, tuple[np.ndarray, int, tuple[Any, ...]]] = {}

        def put(numbers: list[int], some: np.ndarray, salt: int = 0) -> int:
            batch = rows(numbers, some, salt)
            truth.update(
                {n: (v, m, t) for n, v, m, t in zip(numbers, some, batch.marks.tolist(), batch.values, strict=True)}
            )
            return int(engine.add(batch, 77))

        assert engine.exists() and engine.count() == 0 and engine.versions(0, 1000) == {}
        assert not len(engine.search(matrix[:1], 5, engine.caps.points[0])[0])
        since = put(list(range(1, 301)), matrix)
        since = max(since, put(list(range(50, 80)), matrix[100:130], salt=3))  # replaced, not doubled
        engine.remove([1, 2, 3, 4, 999_999])
        engine.remove([1, 2])  # again, which changes nothing
        for number in (1, 2, 3, 4):
            del truth[number]
        since = max(since, put([2], matrix[200:201]))  # and one is back
        engine.persist()
        assert engine.exists() and engine.count() == len(truth)
        assert engine.versions(0, 1) == {0: 77}
        assert engine.versions(1, 20_000) == {vid: mark for vid, (_, mark, _) in truth.items()}
        assert engine.versions(100, 110).keys() == set(range(100, 110))
        held = engine.snapshot(40, 90)
        assert held.vids.tolist() == list(range(40, 90)) and held.vectors.dtype == np.float32
        for vid, vector, mark, told in zip(
            held.vids.tolist(), held.vectors, held.marks.tolist(), held.values, strict=True
        ):
            sent, right, (word, *others) = truth[vid]
            assert np.array_equal(vector, sent) and mark == right
            assert told == (None if word is None else cut(word), *others)
        assert len(engine.snapshot(5_000, 6_000).vids) == 0

        def brute(query: np.ndarray, k: int, where: str | None) -> list[int]:
            holds = compiled(where) if where else None
            near = []
            for vid, (vector, _, told) in truth.items():
                if holds is None or holds(as_row(vid, told)):
                    apart = -float(((vector - query) ** 2).sum())
                    near.append((apart if metric == "l2" else float(vector @ query), vid))
            return [vid for _, vid in sorted(near, reverse=True)[:k]]

        expressions = [
            None,
            'f_word == "日本"',
            'f_word == "a\\"b" and not (n_word == true)',
            'f_word in ["100%", "it\'s", "é😀"] or n_word == true',
            'not (f_word like "ab%")',
            "f_n >= -5 and f_n < 700",
            "(f_real > 3.5 and not (n_real == true)) or (f_flag == true and not (n_flag == true))",
            '(f_word == "nothing") or odd == true',
            "vid in [5, 6, 7, 60, 999]",
            named(range(100, 100 + engine.caps.named)),
        ]
        for where in expressions:
            holds = compiled(where) if where else (lambda row: True)
            expected = sum(holds(as_row(vid, told)) for vid, (_, _, told) in truth.items())
            assert engine.count(where) == expected, where
            for query in queries_like(matrix, 4, 5):
                found = engine.search(query.reshape(1, -1), 10, engine.caps.points[-1], where, since)[0].tolist()
                wanted = brute(query, 10, where)
                assert len(set(found)) == len(found) == min(10, expected + (where is None)) or 0 in found
                assert len(set(found) & set(wanted)) >= len(wanted) - 1, (where, found, wanted)
        batch = engine.search(queries_like(matrix, 5, 6), 3, engine.caps.points[0], None, since)
        assert [len(vids) for vids in batch] == [3] * 5
        everything = engine.search(matrix[:1], engine.caps.most, engine.caps.points[-1], None, since)[0]
        assert set(everything.tolist()) - {0} == truth.keys()  # more asked for than there is

    def test_what_engines_disagree_on_is_refused_by_all(self, collection: Any) -> None:
        engine, matrix = collection(), as_unit(clustered(10, DIM))
        engine.add(rows([1, 2], matrix[:2]), 5)
        spoiled = matrix[:2].copy()
        spoiled[1, 3] = np.nan
        for numbers, vectors, what in (
            ([3, 4], spoiled, "vid 4 is not finite"),
            ([3, 3], matrix[:2], "each vid once"),
            ([0, 3], matrix[:2], "above 0"),
            ([3], matrix[:2], "expected 1 vectors"),
            ([3, 4], matrix[:2, :-1], f"{DIM} dimensions"),
        ):
            with pytest.raises(vs.ValidationError, match=what):
                told = [values(number) for number in numbers]
                engine.add(Rows(np.array(numbers), vectors, np.arange(len(numbers)), told), 6)
        for count in (0, engine.caps.most + 1):
            with pytest.raises(vs.ValidationError, match=f"1..{engine.caps.most}"):
                engine.search(matrix[:1], count, engine.caps.points[0])
        assert engine.versions(0, 100).keys() == {0, 1, 2} and engine.versions(0, 1) == {0: 5}
        engine.add(rows([], matrix[:0]), 7)
        engine.remove([])
        engine.remove(list(range(100, 9_000)))
        assert engine.count() == 2 and engine.versions(0, 1) == {0: 7}

    def test_a_filter_means_the_same_to_the_catalog_and_to_the_engine(self, tmp_path: Path, address: str) -> None:
        schema, said = schema_of(vs.Concept), []
        records = [
            {"id": f"c{n}", "name": f"n{n}", "domain": TEXTS[n % len(TEXTS)], "quality": n % 11 / 10} for n in range(88)
        ]
        vectors = np.random.default_rng(0).standard_normal((88, 8)).astype(np.float32)
        with vs.open(tmp_path / "kb", embedder=None, auto_publish=False, index={"concepts": address}) as store:
            store.concepts.add(records, vectors=vectors)
            assert store.remotes.sync(60)
            engine, remote = engine_of(store)
            fields = fields_of(schema)

            def passing(text: str) -> set[int]:
                effort = engine.caps.points[-1]
                return set(engine.search(vectors[:1], 1_000, effort, text, remote.since)[0].tolist()) - {0}

            odd = passing("odd == true")
            assert len(odd) == 88 // len(TEXTS) * 2
            with store._catalog.read() as connection:
                vid_of = dict(connection.execute("SELECT record, vid FROM vectors").fetchall())

                @settings(max_examples=self.examples, deadline=None, derandomize=True, database=None)
                @given(FILTERS)
                def agree(where: dict[str, Any]) -> None:
                    node = parse(where, schema)
                    text = None if node is None else expression(node, fields)
                    said.append(text is not None)
                    if text is None or node is None:
                        return
                    truth = {vid_of[row] for row in store._sync.table("concepts").matching(connection, node).tolist()}
                    found = passing(text)
                    assert truth <= found and found - truth <= odd, text

                agree()
            store.remotes.drop("concepts")
        assert sum(said) > len(said) / 3
