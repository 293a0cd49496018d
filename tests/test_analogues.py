"""Retrieval by structure: parts of texts, steps between them, the mapping; systems of terms; the benchmark runs."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from benchmarks import analogies as benchmark
from vectorstore.reason.algebra import unit
from vectorstore.reason.discovery import matched
from vectorstore.reason.retrieval import MAX_PARTS, aligned, compare, fit, parts_of, stories, system

WORDS = Path(__file__).parent / "data" / "words"


def test_texts_fall_into_sentences_and_single_sentences_into_clauses() -> None:
    assert parts_of("The sun attracts. Planets go round! ") == ["The sun attracts.", "Planets go round!"]
    assert parts_of("He fell, but he rose because she helped") == ["He fell", "he rose", "she helped"]
    assert parts_of("king") == ["king"] and parts_of("  ") == []
    assert len(parts_of("One. " * 40)) == MAX_PARTS


class Planted:
    """Embeds `topic-state` as the topic's place plus the state's; several such words add up."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([self.one(text) for text in texts], dtype=np.float32)

    def one(self, text: str) -> np.ndarray:
        words = text.lower().replace(".", "").split()
        for word in words:
            if word not in self.known:
                self.known[word] = self.random.standard_normal(32)
        total: np.ndarray = np.sum([self.known[word] for word in words], axis=0)
        return total


QUERY = "sun rises. sun sinks. sun fades."
SAME_STRUCTURE = "fame rises. fame sinks. fame fades."
SAME_WORDS = "sun glows. sun burns. sun warms."


def test_steps_tell_the_analogue_from_the_text_with_the_same_words() -> None:
    query, analogue, twin = stories([QUERY, SAME_STRUCTURE, SAME_WORDS], Planted())
    assert compare(query, analogue).score > compare(query, twin).score
    match = compare(query, analogue)
    assert match.terms["relational"] > 0.7 > abs(compare(query, twin).terms["relational"])
    assert match.mapping == (
        ("sun rises.", "fame rises."),
        ("sun sinks.", "fame sinks."),
        ("sun fades.", "fame fades."),
    )
    assert match.score == pytest.approx(sum(match.terms.values()))


def test_a_text_is_its_own_perfect_structure_and_one_part_has_none() -> None:
    query, short = stories([QUERY, "sun"], Planted())
    own = compare(query, query).terms
    assert own == pytest.approx({"relational": 1, "shape": 0})
    assert compare(query, short).terms["relational"] == 0 == compare(short, short).terms["shape"]
    assert len(compare(query, short).mapping) == 1
    assert stories([], Planted()) == []


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(2, 4), n=st.integers(2, 6))
def test_the_mapping_of_parts_is_the_best_that_keeps_the_order(seed: int, m: int, n: int) -> None:
    random = np.random.default_rng(seed)
    x, y = unit(random.standard_normal((m, 5))), unit(random.standard_normal((n, 5)))

    def value(rows: Sequence[int], columns: Sequence[int]) -> float:
        steps = zip(np.diff(x[list(rows)], axis=0), np.diff(y[list(columns)], axis=0), strict=True)
        short, long = (x[rows[0]], y[columns[0]])
        first = short @ long if m != n else 0
        return float(first + sum(u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in steps))

    rows, columns = aligned(x, y)
    shorter = min(m, n)
    fixed = tuple(range(shorter))
    every = [
        (fixed, other) if m <= n else (other, fixed) for other in itertools.combinations(range(max(m, n)), shorter)
    ]
    assert value(rows, columns) == pytest.approx(max(value(*one) for one in every))
    assert rows == sorted(set(rows)) and columns == sorted(set(columns))


def test_retrieval_finds_the_analogue_that_text_search_ranks_lower() -> None:
    embed = Planted()
    texts = [SAME_WORDS, SAME_STRUCTURE, "rain falls. rain stops. rain dries.", "sun hats. sun creams. sun beds."]
    with vs.open(":memory:", embedder=vs.CallableEmbedder(embed, "planted", 32)) as store:
        store.concepts.add([{"id": f"t{n}", "name": text} for n, text in enumerate(texts)])
        plain = store.concepts.search(QUERY, k=4)
        hits = store.analogies.retrieve(QUERY, k=2)
        assert plain.ids.index("t1") > 0 and hits.ids[0] == "t1" and len(hits) == 2
        best = hits[0]
        assert best.mapping[0] == ("sun rises.", "fame rises.")  # type: ignore[attr-defined]
        assert best.score == pytest.approx(sum(best.parts.values())) and best.former is not None
        assert best.former.rank == plain.ids.index("t1") and hits.metric == "structure" and hits.exact
        assert not store.analogies.retrieve(QUERY, k=2, pool=2).exact
        assert store.analogies.retrieve(QUERY, where={"id": "t2"}).ids == ["t2"]
        with pytest.raises(vs.ValidationError, match="pool: expected a whole number of at least k=5, got 3"):
            store.analogies.retrieve(QUERY, k=5, pool=3)
    with vs.open(":memory:", embedder=None) as store, pytest.raises(vs.EmbedderError):
        store.analogies.retrieve(QUERY)


def test_systems_are_aligned_by_what_their_terms_are_to_them() -> None:
    embed = Planted()
    for name, twin in (("nucleus", "sun"), ("electron", "planet"), ("charge", "mass")):
        embed([twin])
        embed.known[name] = embed.known[twin] + 0.3 * embed.random.standard_normal(32)
    with vs.open(":memory:", embedder=vs.CallableEmbedder(embed, "planted", 32)) as store:
        analogy = store.analogies.align(
            "solar system", ["sun", "planet", "mass"], "atom", ["charge", "nucleus", "electron"]
        )
        pairs = {(pair.source, pair.target) for pair in analogy.concept_mappings}
        assert pairs == {("sun", "nucleus"), ("planet", "electron"), ("mass", "charge")}
        assert (analogy.source_domain, analogy.target_domain, analogy.productivity) == ("solar system", "atom", 1.0)
        assert store.analogies.add(analogy) and store.analogies.mapping("sun")[0].term == "nucleus"
        for arguments in [
            ("a", [], "b", ["x"]),
            ("a", "sun", "b", ["x"]),
            ("a", ["x"], " ", ["x"]),
            ("a", ["x"], "b", [" "]),
        ]:
            with pytest.raises(vs.ValidationError, match="expected (a list of terms|the name of a system)"):
                store.analogies.align(*arguments)  # type: ignore[arg-type]
    near, steps = fit(system("a b", ["x", "y"], embed), system("c", ["x", "y", "z"], embed))
    assert near.shape == steps.shape == (2, 3) and len(matched(near, steps).sources) == 2


def test_the_benchmark_runs_on_small_data(tmp_path: Path) -> None:
    with np.load(WORDS / "vectors.npz", allow_pickle=False) as found:
        np.save(tmp_path / "glove.npy", found["vectors"].astype(np.float32))
        (tmp_path / "words.txt").write_text("\n".join(found["words"].tolist()), encoding="utf-8")
    random = np.random.default_rng(0)
    np.save(tmp_path / "wordnet-minilm-384.base.f16.npy", random.standard_normal((1500, 16)).astype(np.float16))
    pairs = [("sun", "nucleus"), ("planet", "electron")]
    rows = [
        {"source": "solar system", "target": "atom", "source_term": x, "target_term": y, "alternatives": []}
        for x, y in pairs
    ]
    rows += [{**row, "source": "sea", "target": "light"} for row in rows]
    story = {"source": QUERY, "choices": [SAME_WORDS, SAME_STRUCTURE, "a. b.", "c. d."], "answer": 1}

    def written(name: str, lines: list[dict[str, Any]]) -> str:
        with gzip.open(tmp_path / name, "wt", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return str(tmp_path / name)

    options = ["--google", str(WORDS / "questions.txt"), "--glove", str(tmp_path / "glove.npy")]
    options += ["--words", str(tmp_path / "words.txt"), "--vocabularies", "300", "10000", "--wordnet", str(tmp_path)]
    options += ["--scan", written("scan.jsonl.gz", rows), "--stories", written("stories.jsonl.gz", [story, story])]
    benchmark.main([*options, "--embedder", "hash:64", "--out", str(tmp_path)])
    results = json.loads((tmp_path / "analogies.json").read_text())
    total = results["google"]["sizes"]["715"]
    assert set(total) == {"3cosadd", "3cosmul", "pair"} and total["3cosadd"]["accuracy"] == pytest.approx(388 / 510)
    assert results["discovery"]["concepts"] == 1500 and results["complete"]["3cosmul"]["recall@5"] > 0.5
    assert results["scan"]["terms"] == 4 and results["stories"]["questions"] == 2
    text = (tmp_path / "analogies.md").read_text()
    assert "| 715 | 3cosadd | 510 | 0.7608 |" in text and "discover(): 1,500 concepts" in text
