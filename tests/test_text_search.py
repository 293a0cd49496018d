"""Text and hybrid search: any text is safe, words are the tokenizer's, scores equal the full query and the formula."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Matrix, brute_force, clustered
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.search import text as text_module
from vectorstore.search.text import SYNTAXES

TOKENIZERS = ("unicode61", "porter", "trigram")


class Plain(vs.Record, table="plain"):
    title: Annotated[str, vs.EMBEDDED]
    body: Annotated[str, vs.EMBEDDED] = ""
    names: Annotated[tuple[str, ...], vs.EMBEDDED] = ()


class Stemmed(Plain, table="stemmed", tokenizer="porter"):
    pass


class Grams(Plain, table="grams", tokenizer="trigram"):
    pass


KINDS = {"unicode61": Plain, "porter": Stemmed, "trigram": Grams}
TEXTS = [
    ("king", "a male monarch, the king's own"),
    ("kings", "ruling many kingdoms of chess"),
    ("queen", "a female monarch don't rule"),
    ("pawn", "a piece of chess; no king is a pawn"),
    ("日本語の検索", "全文検索は楽しい。日本語"),
    ("école café", "naïve E\u0301cole in C++ and x_y"),
    ("हिन्दी भाषा", "देवनागरी लिपि"),
    ("می\u200cخواهم", "مَرحبا"),  # noqa: RUF001
    ("🦜 parrot 😀", "👩\u200d🚀 astronaut"),
]


@pytest.fixture(scope="module")
def tongues() -> Iterator[vs.Store]:
    """The same texts under every tokenizer."""
    with vs.open(":memory:", embedder="hash:32", kinds=KINDS.values(), auto_publish=False) as store:
        for kind in KINDS.values():
            store.collection(kind).add(
                [{"id": f"{n}", "title": title, "body": body} for n, (title, body) in enumerate(TEXTS)]
            )
        yield store
        assert store.check().findings == ()


def found(store: vs.Store, text: str, syntax: str = "words", tokenizer: str = "unicode61", **options: Any) -> set[int]:
    hits = store.collection(KINDS[tokenizer]).search(text, k=50, mode="text", syntax=syntax, **options)  # type: ignore[arg-type]
    return {int(name) for name in hits.ids}


# -- any text is safe --------------------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.text(st.characters(), max_size=12),  # lone surrogates and NUL included
    st.sampled_from(
        [
            "AND",
            "OR",
            "NOT",
            "NEAR",
            "(",
            ")",
            '"',
            "*",
            "-",
            ":",
            "title:",
            "body:(",
            "^",
            "+",
            "{title}",
            "king",
            '""',
        ]
    ),
    st.sampled_from(["\x00", "\ud800", "\u0301", "\u200d", "日本", "🦜", "'", ";--", "\\", "%", "_", "\ufeff", "\n"]),
)


@settings(max_examples=400, deadline=None)
@given(text=st.lists(PIECES, max_size=14).map(" ".join) | st.lists(PIECES, max_size=8).map("".join))
def test_no_text_in_any_syntax_raises_anything_but_our_error(tongues: vs.Store, text: str) -> None:
    for tokenizer, kind in KINDS.items():
        for syntax in SYNTAXES:
            try:
                hits = tongues.collection(kind).search(text, mode="text", syntax=syntax, snippets=True)
            except vs.ValidationError as error:
                place = re.fullmatch(r"\w+\.search: query\[(\d+)\]: .+", str(error), re.DOTALL)
                assert syntax == "query" and place and 0 <= int(place[1]) <= len(text), tokenizer
            else:
                assert all(hit.score > 0 and hit.snippet is not None for hit in hits)
                counted = tongues.collection(kind).facets("id", query=text, syntax=syntax)
                assert set(hits.ids) <= set(counted)


@settings(max_examples=100, deadline=None)
@given(text=st.lists(PIECES, max_size=8).map(" ".join), fusion=st.sampled_from(["rrf", "weighted"]))
def test_no_text_breaks_hybrid_search(tongues: vs.Store, text: str, fusion: str) -> None:
    for kind in KINDS.values():
        for syntax in SYNTAXES:
            try:
                hits = tongues.collection(kind).search(text, mode="hybrid", syntax=syntax, fusion=fusion, snippets=True)
            except vs.ValidationError:
                continue  # nothing to embed, or no query
            assert [math.fsum(hit.parts.values()) for hit in hits] == [hit.score for hit in hits]


@pytest.mark.parametrize(
    "text", ["(" * 3000, "-" * 3000, "title:" * 2000 + "x", "king " * 5000, "king*" * 3000, '"' * 3001, "a OR " * 3000]
)
def test_long_texts_are_answered_or_refused(tongues: vs.Store, text: str) -> None:
    for syntax in SYNTAXES:
        try:
            found(tongues, text, syntax)
        except vs.ValidationError as error:
            assert "query" in str(error)
    many = " ".join(f"word{number}" for number in range(3000))
    assert found(tongues, many + " king") == set()  # beyond the first thousand words
    assert found(tongues, "king " + many) == {0, 3}
    with pytest.raises(vs.ValidationError, match="at most 256 words"):
        found(tongues, many, "all")


# -- words are what the tokenizer sees ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "syntax", "unicode61", "porter", "trigram"),
    [
        ("king", "words", {0, 3}, {0, 1, 3}, {0, 1, 3}),
        ("KING queen", "words", {0, 2, 3}, {0, 1, 2, 3}, {0, 1, 2, 3}),
        ("ruled", "words", set(), {1, 2}, set()),
        ("king chess", "all", {3}, {1, 3}, {1, 3}),
        ("piece of chess", "phrase", {3}, {3}, {3}),
        ("of piece chess", "phrase", set(), set(), set()),
        ("king's own", "phrase", {0}, {0}, {0}),
        ("don't", "all", {2}, {2}, {2}),
        ("ecole CAFE", "all", {5}, {5}, set()),  # this trigram keeps its accents
        ("école", "words", {5}, {5}, {5}),
        ("e\u0301cole", "words", {5}, {5}, {5}),
        ("C++", "phrase", {5}, {5}, {5}),
        ("日本語の検索", "words", {4}, {4}, {4}),
        ("本語の", "words", set(), set(), {4}),
        ("全文検索とは", "words", set(), set(), {4}),  # some of its pieces of three are there
        ("हिन्दी", "words", {6}, {6}, {6}),
        ("लिपि", "all", {6}, {6}, {6}),
        ("می\u200cخواهم", "all", {7}, {7}, {7}),  # noqa: RUF001
        ("مرحبا", "words", set(), set(), set()),  # the vowel sign cuts the stored word
        ("مَرحبا", "words", {7}, {7}, {7}),
        ("🦜", "words", {8}, {8}, set()),  # unknown to SQLite's Unicode 6.1, and so a letter
        ("😀", "words", set(), set(), set()),  # a symbol to it
        ("😀 parrot", "all", {8}, {8}, {8}),
        ("parrot \x00 \ud800", "all", {8}, {8}, {8}),
        ("x_y", "all", {5}, {5}, set()),
        ("ingdo", "words", set(), set(), {1}),
        ("", "words", set(), set(), set()),
        (" !?\x00", "phrase", set(), set(), set()),
    ],
)
def test_words_are_what_the_tokenizer_sees(
    tongues: vs.Store, text: str, syntax: str, unicode61: set[int], porter: set[int], trigram: set[int]
) -> None:
    answers = [found(tongues, text, syntax, tokenizer) for tokenizer in TOKENIZERS]

    assert [unicode61, porter, trigram] == answers


# -- the query language ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("king", {0, 3}),
        ("king monarch", {0}),
        ("king OR queen", {0, 2, 3}),
        ("king OR queen chess", {0, 3}),
        ("(king OR queen) chess", {3}),
        ("king AND chess", {3}),
        ("king -chess", {0}),
        ("king NOT chess", {0}),
        ("-chess king", {0}),
        ("monarch -(king OR pawn)", {2}),
        ("mon*", {0, 2}),
        ('"a male mon"*', {0}),
        ('"a female" OR "piece of chess"', {2, 3}),
        ("title:king", {0}),
        ("title:(king OR queen) monarch", {0, 2}),
        ('body:"no king"', {3}),
        ("title:mon* OR body:rule", {2}),
        ("king's", {0}),
        ('"AND" OR "OR"', {5}),
        ("and king", set()),
        ("NEAR OR king", {0, 3}),
    ],
)
def test_the_query_language(tongues: vs.Store, text: str, wanted: set[int]) -> None:
    assert found(tongues, text, "query") == wanted


@pytest.mark.parametrize(
    ("text", "at", "message"),
    [
        ("", 0, "expected some words"),
        ("king AND", 8, "after AND, got the end"),
        ("king AND OR queen", 9, "after AND, got OR"),
        ("OR king", 0, "expected a word, a phrase or a bracket, got OR"),
        ("(king", 0, "is not closed"),
        ("king) queen", 4, "never opened"),
        ('king "queen', 5, "quote is not closed"),
        ("-king", 0, "only says what is not wanted"),
        ("king OR -queen", 8, "only says what is not wanted"),
        ("king nope:queen", 5, "no text field 'nope'; the fields are: title, body, names"),
        ("title: king", 6, "right after title:"),
        ("king 😀", 5, "holds no word"),
        ("king *", 5, "holds no word"),
        ("a " * 300, 512, "more than 256"),
        ("(" * 17 + "a", 16, "more than 16 deep"),
    ],
)
def test_a_malformed_query_points_to_its_place(tongues: vs.Store, text: str, at: int, message: str) -> None:
    with pytest.raises(vs.ValidationError, match=rf"plain\.search: query\[{at}\]: .*{re.escape(message)}"):
        found(tongues, text, "query")


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["king", "chess", "monarch", "a", "rul*", '"a piece"', "title:king", "body:king"]),
        lambda inner: (
            st.builds("({} OR {})".format, inner, inner)
            | st.builds("({} {})".format, inner, inner)
            | st.builds("({} -{})".format, inner, inner)
        ),
        max_leaves=12,
    )
)
def test_queries_are_their_own_set_algebra(tongues: vs.Store, query: str) -> None:
    """Each word's rows, combined in Python as the query combines them."""

    def rows(text: str) -> set[int]:
        if not text.startswith("("):
            return found(tongues, text, "query")
        depth = 0
        for place, sign in enumerate(text):
            depth += (sign == "(") - (sign == ")")
            if depth == 1 and sign == " " and text[1:place].count('"') % 2 == 0:
                left, right = rows(text[1:place]), text[place + 1 : -1]
                if right.startswith("OR "):
                    return left | rows(right[3:])
                return left - rows(right[1:]) if right.startswith("-") else left & rows(right)
        raise AssertionError(text)

    assert found(tongues, query, "query") == rows(query)


# -- the best of any words ---------------------------------------------------------------------------------------------


def library(store: vs.Store, rows: int = 3000) -> tuple[Any, list[str]]:
    """Texts whose words are as unevenly frequent as those of a language; some are equal."""
    random = np.random.default_rng(5)
    words = np.array([f"w{number}" for number in range(800)])
    chances = 1.0 / np.arange(1, 801)
    texts = [
        " ".join(random.choice(words, size=random.integers(3, 30), p=chances / chances.sum())) for _ in range(rows)
    ]
    texts[rows // 2 : rows // 2 + 200] = texts[:200]
    notes = store.collection(Plain)
    notes.add([{"id": f"{n}", "title": text, "tags": [f"t{n % 7}"]} for n, text in enumerate(texts)])
    notes.delete([f"{n}" for n in range(0, rows, 31)])
    return notes, texts


@pytest.fixture(scope="module")
def books() -> Iterator[tuple[Any, list[str]]]:
    with vs.open(":memory:", embedder="hash:16", kinds=[Plain], auto_publish=False) as store:
        yield library(store)


def bm25(texts: list[str], words: list[str]) -> dict[int, float]:
    """FTS5's BM25 of each text that holds a word (k1 1.2, b 0.75), over all rows that there ever were."""
    lengths = [len(text.split()) for text in texts]
    mean = sum(lengths) / len(texts)
    scores: dict[int, float] = {}
    for word in words:
        counts = [text.split().count(word) for text in texts]
        holding = sum(map(bool, counts))
        weight = max(1e-6, math.log((len(texts) - holding + 0.5) / (holding + 0.5)))
        for place, (count, length) in enumerate(zip(counts, lengths, strict=True)):
            if count:
                share = count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / mean))
                scores[place] = scores.get(place, 0.0) + weight * share
    return scores


@pytest.mark.parametrize("few", [0, 5000, 10**9])
def test_the_best_of_any_words_equal_bm25_of_them_all(
    books: tuple[Any, list[str]], few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By bounds from the first row on, as it is, and never by bounds: the same answers to the bit."""
    notes, texts = books
    monkeypatch.setattr(text_module, "FEW_ROWS", few or 200)
    random = np.random.default_rng(6)
    for k in (1, 10, 300):
        for _ in range(15):
            words = [f"w{number}" for number in {*random.integers(0, 5, 3), *random.integers(0, 800, 4)}]
            for where, keep in ((None, 1), ({"tags__has": "t3"}, 7)):
                hits = notes.search(" ".join(words), k=k, mode="text", where=where)
                scores = {
                    place: score
                    for place, score in bm25(texts, words).items()
                    if place % 31 and (keep == 1 or place % 7 == 3)
                }
                assert [hit.score for hit in hits] == pytest.approx(sorted(scores.values(), reverse=True)[:k], abs=1e-9)
                assert [hit.score for hit in hits] == pytest.approx([scores[int(hit.id)] for hit in hits], abs=1e-9)
                in_order = [(-hit.score, int(hit.id)) for hit in hits]
                assert in_order == sorted(set(in_order))


def test_bounds_give_the_full_querys_scores_to_the_bit(
    books: tuple[Any, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, _ = books
    query = "w0 w1 w2 w3 w40 w300 w500 w700"
    monkeypatch.setattr(text_module, "FEW_ROWS", 10**9)
    full = [(hit.id, hit.score) for hit in notes.search(query, k=25, mode="text")]
    asked: list[str] = []
    real = text_module.best_matches
    monkeypatch.setattr(text_module, "FEW_ROWS", 100)
    monkeypatch.setattr(text_module, "best_matches", lambda *arguments: asked.append(arguments[2]) or real(*arguments))

    assert [(hit.id, hit.score) for hit in notes.search(query, k=25, mode="text")] == full
    assert all("AND" in match or '"w0"' not in match for match in asked)  # never all rows that hold w0


def test_a_filter_with_an_index_does_not_turn_the_join_round(store: vs.Store) -> None:
    """The full-text query runs once, not once for each row that the filter's index gives."""
    from vectorstore.records import parse
    from vectorstore.storage import fulltext

    store.concepts.add([{"name": f"thing {n}", "domain": "rare"} for n in range(3)])
    table = store._sync.table("concepts")
    told: list[str] = []

    class Explaining:
        def execute(self, sql: str, values: Any) -> Any:
            with store._sync.catalog.read() as connection:
                told.extend(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))
                return connection.execute(sql, values)

    node = parse({"domain": "rare"}, table.schema)
    for limit in (None, 2):
        told.clear()
        assert len(fulltext.best_matches(Explaining(), table, '"thing"', node, limit)) == (limit or 3)  # type: ignore[arg-type]
        assert told[0].startswith("SCAN concepts_fts VIRTUAL TABLE")


# -- fusion ------------------------------------------------------------------------------------------------------------


class Doc(vs.Record, table="docs"):
    title: Annotated[str, vs.EMBEDDED]
    topic: str = "none"


def hybrid_store(metric: str, rows: int = 900) -> tuple[vs.Store, Matrix, list[str]]:
    """Vectors and texts that have to do with each other, a few; some vectors are equal, some records deleted."""
    random = np.random.default_rng(8)
    data = clustered(rows, 12, groups=25, seed=3)
    data[rows // 2 : rows // 2 + 50] = data[:50]
    words = [f"w{number}" for number in range(60)]
    texts = [" ".join(random.choice(words, size=random.integers(2, 9))) for _ in range(rows)]
    by_text = {f"query {number}": vector for number, vector in enumerate(clustered(8, 12, groups=25, seed=3))}

    def embed(asked: list[str]) -> Matrix:
        return np.stack([by_text.get("query " + text.split()[-1], data[0]) for text in asked])

    store = vs.open(":memory:", embedder=embed, kinds=[Doc], metric=metric, auto_publish=False)
    docs = store.collection(Doc)
    records = [
        {"id": f"{n}", "title": text, "topic": "abcde"[n % 5], "tags": [f"t{n % 3}"]} for n, text in enumerate(texts)
    ]
    docs.add(records, vectors=data)
    docs.delete([f"{n}" for n in range(0, rows, 40)])
    return store, data, texts


def sides_of(store: vs.Store, data: Matrix, query: str, where: Any, among: list[int]) -> dict[str, dict[int, float]]:
    """Both sides' scores over everything: row -> score. The text's are the whole list of the text search, whose scores
    `bm25` has proved: two texts that differ can have scores that differ in the last bit alone."""
    docs = store.collection(Doc)
    vector = vs.CallableEmbedder(lambda _: clustered(8, 12, groups=25, seed=3)).embed([""] * 8)[int(query.split()[-1])]
    near = brute_force(vector[None], data[among], docs.metric)[0]
    if docs.metric == "l2":
        near = 1.0 / (1.0 - near)
    text = docs.search(query, k=len(data), mode="text", where=where)
    assert {int(name) for name in text.ids} <= set(among)
    return {"vector": dict(zip(among, near.tolist(), strict=True)), "text": {int(hit.id): hit.score for hit in text}}


def ranking(scores: dict[int, float], digits: int = 9) -> list[int]:
    return sorted(scores, key=lambda place: (-round(scores[place], digits), place))


FILTERS: list[tuple[Any, Callable[[int], bool]]] = [
    (None, lambda n: True),
    ({"tags__has": "t1"}, lambda n: n % 3 == 1),
    ({"tags__has": "t1", "topic": "a"}, lambda n: n % 15 == 10),
]


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("depth", [7, 100, 1000])
def test_reciprocal_ranks_equal_brute_force(metric: str, depth: int) -> None:
    store, data, texts = hybrid_store(metric)
    fusion = vs.Fusion("rrf", constant=20, weights={"vector": 1, "text": 2.5}, depth=depth)
    with store:
        for number in range(4):
            query = f"w{number} w{number + 9} w7 {number}"
            for where, kept in FILTERS:
                among = [n for n in range(len(texts)) if n % 40 and kept(n)]
                sides = sides_of(store, data, query, where, among)
                for k in (1, 10, 150):
                    ranks = {
                        side: {
                            place: rank
                            for rank, place in enumerate(
                                ranking(scores, 9 if side == "vector" else 99)[: max(depth, k)]
                            )
                        }
                        for side, scores in sides.items()
                    }
                    parts = {
                        place: {
                            side: weight / (20 + ranks[side][place] + 1) if place in ranks[side] else 0.0
                            for side, weight in (("vector", 1), ("text", 2.5))
                        }
                        for place in {*ranks["vector"], *ranks["text"]}
                    }
                    totals = {place: math.fsum(part.values()) for place, part in parts.items()}
                    hits = store.collection(Doc).search(
                        query, k=k, mode="hybrid", exact=True, where=where, fusion=fusion
                    )
                    assert [int(name) for name in hits.ids] == ranking(totals, 99)[:k]
                    for hit in hits:
                        place = int(hit.id)
                        assert hit.parts == pytest.approx(parts[place], abs=1e-12)
                        assert abs(math.fsum(hit.parts.values()) - hit.score) <= 1e-12
                        assert hit.sides["vector"].score == pytest.approx(sides["vector"][place], abs=1e-9)
                        for side in ("vector", "text"):
                            seen = hit.sides.get(side)
                            assert (None if seen is None else seen.rank) == ranks[side].get(place)


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("depth", [3, 100])
def test_weighted_scores_equal_brute_force_over_the_whole_lists(metric: str, depth: int) -> None:
    """Whatever the depth: the lists are deepened until nothing unseen can overtake."""
    store, data, texts = hybrid_store(metric)
    fusion = vs.Fusion("weighted", weights={"vector": 3, "text": 1}, depth=depth)
    least = {"vector": -1.0 if metric == "cosine" else 0.0, "text": 0.0}
    with store:
        for number in range(4):
            query = f"w{number} w{number + 9} w7 {number}"
            for where, kept in FILTERS:
                among = [n for n in range(len(texts)) if n % 40 and kept(n)]
                sides = sides_of(store, data, query, where, among)
                best = {side: max(scores.values(), default=0.0) for side, scores in sides.items()}
                parts = {
                    place: {
                        side: weight
                        * max(0.0, sides[side].get(place, least[side]) - least[side])
                        / (best[side] - least[side])
                        if best[side] > least[side]
                        else 0.0
                        for side, weight in (("vector", 0.75), ("text", 0.25))
                    }
                    for place in among
                }
                totals = {place: math.fsum(part.values()) for place, part in parts.items()}
                for k in (1, 10, 120):
                    hits = store.collection(Doc).search(
                        query, k=k, mode="hybrid", exact=True, where=where, fusion=fusion
                    )
                    assert [int(name) for name in hits.ids] == ranking(totals)[:k]
                    for hit in hits:
                        assert hit.parts == pytest.approx(parts[int(hit.id)], abs=1e-9)
                        assert abs(math.fsum(hit.parts.values()) - hit.score) <= 1e-12


def test_a_record_without_a_vector_or_without_the_words_gets_nothing_from_that_side() -> None:
    with vs.open(":memory:", embedder=lambda texts: [[1.0, 0.0]] * len(texts), kinds=[Doc]) as store:
        docs = store.collection(Doc)
        docs.add([{"id": "a", "title": "king"}, {"id": "b", "title": "queen"}], vectors=[[1, 0.1], [1, 0]])
        for method in ("rrf", "weighted"):
            hits = docs.search("king", mode="hybrid", fusion=method)
            parts = {hit.id: hit.parts for hit in hits}
            assert parts["b"]["text"] == 0.0 and parts["a"]["text"] > 0 and parts["a"]["vector"] > 0
            assert hits[0].distance is None and hits.metric == "fusion"
        none = docs.search("nothing of it", mode="hybrid", fusion="weighted")
        assert [hit.parts["text"] for hit in none] == [0.0, 0.0]


@pytest.mark.parametrize(
    "options",
    [
        {"method": "sum"},
        {"constant": 0},
        {"constant": float("nan")},
        {"constant": True},
        {"depth": 0},
        {"depth": 2.5},
        {"weights": {"vector": 1}},
        {"weights": {"vector": 1, "words": 1}},
        {"weights": {"vector": -1, "text": 1}},
        {"weights": {"vector": 0, "text": 0}},
        {"weights": {"vector": 10**400, "text": 1}},
        {"weights": 3},
    ],
)
def test_a_bad_fusion_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(vs.ValidationError, match=f"Fusion.{next(iter(options))}: expected"):
        vs.Fusion(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "text", "syntax": "sql"}, "syntax: expected words, all, phrase or query, got 'sql'"),
        ({"syntax": "phrase"}, "syntax: only with mode="),
        ({"snippets": True}, "snippets: only with mode="),
        ({"mode": "text", "snippets": "yes"}, "snippets: expected True, False"),
        ({"mode": "text", "fusion": "rrf"}, "fusion: only with mode='hybrid'"),
        ({"mode": "hybrid", "fusion": 3}, "fusion: expected 'rrf', 'weighted' or a Fusion"),
        ({"mode": "hybrid", "fusion": "sum"}, "Fusion.method: expected"),
    ],
)
def test_bad_options_are_refused(tongues: vs.Store, options: dict[str, Any], message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        tongues.collection(Plain).search("king", **options)


# -- snippets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def notes() -> Iterator[Any]:
    with vs.open(":memory:", embedder="hash:32", kinds=KINDS.values(), auto_publish=False) as store:
        for kind in KINDS.values():
            store.collection(kind).add(
                [
                    {"id": "a", "title": "A <b>king</b> & his queen", "body": "nothing of that"},
                    {"id": "b", "title": "long", "body": " ".join(["word"] * 50 + ["the king rules"] + ["word"] * 50)},
                    {"id": "c", "title": "listed", "names": ['the "king"', "<i>chess</i>", "third"]},
                ]
            )
        yield store


def test_snippets_show_what_matched_and_are_safe_html(notes: vs.Store) -> None:
    hits = notes.collection(Plain).search("king chess", mode="text", snippets=True)
    shown = {hit.id: hit.snippet for hit in hits}

    assert shown["a"] == "A &lt;b&gt;<mark>king</mark>&lt;/b&gt; &amp; his queen"
    assert shown["b"] is not None and shown["b"].startswith("…") and shown["b"].endswith("…")
    assert "the <mark>king</mark> rules" in shown["b"] and len(shown["b"].split()) == 24
    assert shown["c"] == "the &quot;<mark>king</mark>&quot;, &lt;i&gt;<mark>chess</mark>&lt;/i&gt;, third"
    assert [hit.snippet for hit in notes.collection(Plain).search("king", mode="text")] == [None] * 3


def test_snippets_look_as_asked(notes: vs.Store) -> None:
    look = vs.Snippets(before="[", after="]", words=3, ellipsis="..", escape=False)
    shown = {h.id: h.snippet for h in notes.collection(Plain).search("king", mode="text", snippets=look)}
    stems = {h.id: h.snippet for h in notes.collection(Stemmed).search("ruled", mode="text", snippets=look)}
    grams = {h.id: h.snippet for h in notes.collection(Grams).search("uee", mode="text", snippets=look)}

    assert shown == {"a": "A <b>[king]..", "b": "..the [king] rules..", "c": 'the "[king]", <i>chess</i>, third'}
    assert stems == {"b": "..king [rules] word.."}
    assert grams == {"a": "A <b>king</b> & his q[uee]n"}


def test_hybrid_hits_have_a_snippet_when_they_match_the_text(notes: vs.Store) -> None:
    hits = notes.collection(Plain).search("chess", mode="hybrid", snippets=True)

    assert {hit.id: hit.snippet is not None for hit in hits} == {"a": False, "b": False, "c": True}


def test_marks_are_no_text_of_the_user(notes: vs.Store) -> None:
    """A text that holds the marks themselves cannot forge any."""
    notes.collection(Plain).add({"id": "d", "title": "<mark>forged</mark> real"})
    (hit,) = notes.collection(Plain).search("real", mode="text", snippets=True)

    assert hit.snippet == "&lt;mark&gt;forged&lt;/mark&gt; <mark>real</mark>"


@pytest.mark.parametrize("options", [{"words": 0}, {"words": 65}, {"words": True}, {"before": None}, {"ellipsis": 3}])
def test_bad_snippets_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(vs.ValidationError, match=f"Snippets.{next(iter(options))}: expected"):
        vs.Snippets(**options)


# -- tokenizers --------------------------------------------------------------------------------------------------------


def test_an_unknown_tokenizer_is_refused(tmp_path: Any) -> None:
    with pytest.raises(vs.ValidationError, match="tokenizer='snowball' is not one of unicode61, porter, trigram"):

        class Bad(vs.Record, table="bad", tokenizer="snowball"):
            pass

    with pytest.raises(vs.ValidationError, match="tokenizer='icu' is not one of"):
        vs.open(tmp_path / "kb", tokenizer="icu")


def test_a_changed_tokenizer_makes_the_full_text_anew(open_store: Callable[..., vs.Store]) -> None:
    texts = ["kings rule", "a queen ruled", "日本語の検索"]

    def answers(store: vs.Store) -> list[list[str]]:
        assert store.check().findings == ()
        searches = ("ruling", "ings", "本語の")
        return [sorted(store.concepts.search(text, mode="text").ids) for text in searches]

    store = open_store(embedder="hash")
    store.concepts.add([{"id": f"{n}", "name": text} for n, text in enumerate(texts)])
    store.concepts.delete("1")
    assert answers(store) == [[], [], []]
    store.close()

    with pytest.raises(vs.StoreError, match="has another tokenizer than the store's; open it once for writing"):
        open_store(tokenizer="porter", read_only=True)
    store = open_store(embedder="hash", tokenizer="porter")
    assert answers(store) == [["0"], [], []]
    store.concepts.restore("1")
    assert answers(store) == [["0", "1"], [], []]
    store.close()
    assert answers(open_store(embedder="hash")) == [["0", "1"], [], []]  # the store's own is kept
    store = open_store(embedder="hash", tokenizer="trigram")
    assert answers(store) == [[], ["0"], ["2"]]
    store.repair(dry_run=False)
    store.concepts.upsert({"id": "3", "name": "wings"})
    assert answers(store) == [[], ["0", "3"], ["2"]]


def test_full_text_that_cannot_be_made_anew_stays_as_it_was(
    open_store: Callable[..., vs.Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vectorstore.storage.declared import DeclaredTable

    store = open_store(embedder="hash")
    store.concepts.add({"id": "a", "name": "kings"})
    store.close()
    real = DeclaredTable.make_text

    def interrupted(self: Any, connection: Any) -> None:
        real(self, connection)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DeclaredTable, "make_text", interrupted)
        open_store(embedder="hash", tokenizer="porter")
    store = open_store(embedder="hash")

    assert store.check().findings == ()
    assert [store.concepts.search(text, mode="text").ids for text in ("king", "kings")] == [[], ["a"]]


def test_a_process_that_has_the_store_open_follows_a_change_of_tokenizer(open_store: Callable[..., vs.Store]) -> None:
    one = open_store(embedder="hash")
    one.concepts.add([{"id": "a", "name": "日本語の検索"}, {"id": "b", "name": "ab kings"}])
    assert one.concepts.search("本語の検", mode="text").ids == []
    open_store(embedder="hash", tokenizer="trigram")

    assert one.concepts.search("本語の検", mode="text").ids == ["a"]
    assert one.concepts.search("ab ings", mode="text", syntax="all").ids == ["b"]  # "ab" is too short to be seen
    assert one.concepts.search("ab", mode="text").plan.reason == "BM25 by FTS5 (trigram); no words of three characters"


def test_a_kinds_own_tokenizer_counts_and_is_kept_without_its_class(open_store: Callable[..., vs.Store]) -> None:
    store = open_store(embedder="hash", kinds=[Stemmed], tokenizer="trigram")
    store.collection(Stemmed).add({"id": "a", "title": "kings"})
    store.concepts.add({"id": "a", "name": "kings"})
    assert store.collection(Stemmed).search("king", mode="text").ids == ["a"]
    assert store.concepts.search("ings", mode="text").ids == ["a"]
    store.close()
    store = open_store(embedder="hash")

    assert store["stemmed"].search("king", mode="text").ids == ["a"]


# -- explain -----------------------------------------------------------------------------------------------------------


def test_explain_is_plain_data_and_its_parts_sum_to_the_scores(store: vs.Store) -> None:
    import json

    store.concepts.add([{"name": f"thing {n}", "domain": f"d{n % 3}", "definition": f"number {n}"} for n in range(30)])
    for options in (
        {},
        {"mode": "text"},
        {"mode": "hybrid"},
        {"mode": "hybrid", "fusion": "rrf"},
        {"mode": "text", "group_by": "domain"},
        {"decay": vs.Decay(half_life=__import__("datetime").timedelta(days=1))},
        {"rerank": lambda query, records: [float(len(record.name)) for record in records]},
    ):
        hits = store.concepts.search("thing number 7", **options)  # type: ignore[arg-type]
        told = json.loads(json.dumps(hits.explain()))
        assert told["plan"]["reason"] and told["recall_promised"] == 1.0 and told["metric"] == hits.metric
        assert [hit["id"] for hit in told["hits"]] == hits.ids
        for hit in told["hits"]:
            assert math.fsum(hit["parts"].values()) == pytest.approx(hit["score"], abs=1e-12)
            assert hit["sides"] and set(hit["sides"]) <= {"vector", "text"}
        mode = options.get("mode", "vector")
        if mode != "hybrid" and len(options) < 2 and "rerank" not in options and "decay" not in options:
            assert [hit["sides"][mode]["rank"] for hit in told["hits"]] == list(range(10))


def test_a_text_with_its_own_vector() -> None:
    store, data, _ = hybrid_store("cosine")
    with store:
        docs = store.collection(Doc)
        plain = docs.search("w3 w7 2", k=20, mode="hybrid")
        vector = vs.CallableEmbedder(lambda _: clustered(8, 12, groups=25, seed=3)).embed([""] * 8)[2]
        given = docs.search(vs.WithVector("w3 w7 2", vector), k=20, mode="hybrid")
        assert [(hit.id, hit.score, hit.sides) for hit in given] == [(hit.id, hit.score, hit.sides) for hit in plain]
        other = vs.WithVector("w3 w7 2", -data[1])
        assert docs.search(other, k=20).ids == docs.search(-data[1], k=20).ids
        assert docs.search(other, k=20, mode="text").ids == docs.search("w3 w7 2", k=20, mode="text").ids
        asked: list[Any] = []

        def judge(query: Any, records: Any) -> list[float]:
            asked.append(query)
            return [0.0] * len(records)

        docs.search(other, k=3, rerank=judge)
        assert set(asked) == {"w3 w7 2"}
        for wrong in (vs.WithVector("w3", data[1][:5]), vs.WithVector("w3", [math.nan] * 12)):
            with pytest.raises(vs.ValidationError, match="query.vector"):
                docs.search(wrong, mode="hybrid")
        with pytest.raises(vs.ValidationError, match=r"WithVector\.text: expected text"):
            vs.WithVector(3, data[1])  # type: ignore[arg-type]


def test_plans_of_text_and_hybrid_say_what_was_fused(store: vs.Store) -> None:
    store.concepts.add([{"name": f"thing {n}", "definition": f"number {n}"} for n in range(30)])
    text = store.concepts.search("thing 7 absent", mode="text").plan
    hybrid = store.concepts.search("thing 7", mode="hybrid", fusion=vs.Fusion("rrf", constant=10, depth=20)).plan

    assert text.name == "text" and text.reason == "BM25 by FTS5 (unicode61); any of 2 words of 3"
    assert hybrid.name == "hybrid" and "reciprocal ranks (constant 10), weights vector 1, text 1" in hybrid.reason
    assert (
        "best 20 by vector, 20 by text (any of 2 words)" in hybrid.reason and "no index is published" in hybrid.reason
    )
