"""Analogies as questions: completion, relations, what maps what, discovery between domains."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import clustered
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.reason.algebra import Objective, confidences, unit
from vectorstore.reason.discovery import agreement, align, closeness
from vectorstore.records import parse

DOMAINS: list[dict[str, Any]] = [
    {
        "id": "royal_001",
        "source_domain": "royal",
        "target_domain": "military",
        "quality": 0.85,
        "concept_mappings": [
            {"source": "king", "target": "general", "confidence": 0.9},
            {"source": "queen", "target": "commander", "confidence": 0.85},
            {"source": "castle", "target": "fortress", "confidence": 0.7},
        ],
        "frame_mappings": [{"source": "hierarchy", "target": "command_structure", "confidence": 0.9}],
        "tags": ["royal", "military"],
    },
    {
        "id": "royal_002",
        "source_domain": "royal",
        "target_domain": "business",
        "quality": 0.78,
        "concept_mappings": [
            {"source": "king", "target": "ceo", "confidence": 0.8},
            {"source": "court", "target": "board_of_directors", "confidence": 0.75},
        ],
        "frame_mappings": [{"source": "hierarchy", "target": "corporate_structure", "confidence": 1.0}],
        "workflow": "royal_military_batch_001",
    },
    {
        "id": "military_001",
        "source_domain": "military",
        "target_domain": "business",
        "quality": 0.65,
        "concept_mappings": [{"source": "general", "target": "ceo", "confidence": 0.6}],
    },
    {
        "id": "medieval_001",
        "source_domain": "medieval",
        "target_domain": "business",
        "quality": 0.7,
        "concept_mappings": [{"source": "King", "target": "CEO", "confidence": 0.4}],
    },
]
PROPORTIONS: list[dict[str, Any]] = [
    {"id": "p1", "a": "knight", "b": "sword", "c": "wizard", "d": "staff", "quality": 0.87, "setting": "fantasy arms", "reasoning": "each fights with it", "model": {"name": "demo", "round": 3}},
    {"id": "p2", "a": "castle", "b": "moat", "c": "wizard", "d": "tower", "quality": 0.79, "setting": "defence"},
    {"id": "p3", "a": "sword", "b": "steel", "c": "staff", "d": "wood", "quality": 0.83, "source": "shipped"},
]  # fmt: skip


# -- records -----------------------------------------------------------------------------------------------------------


def test_both_shapes_come_back_field_for_field(store: vs.Store) -> None:
    store.analogies.add(DOMAINS + PROPORTIONS)
    for given_fields in DOMAINS + PROPORTIONS:
        record = store.analogies.get(given_fields["id"])
        assert record is not None
        fields = json.loads(record.model_dump_json())
        for name, value in given_fields.items():
            assert (fields[name] if name in fields else fields["extra"][name]) == value
        assert fields["extra"].keys() == given_fields.keys() - fields.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quality": 1.5}, r"analogies\[1\].quality: expected 0..1, got 1.5"),
        ({"quality": float("nan")}, r"analogies\[1\].quality: "),
        ({"quality": True}, r"analogies\[1\].quality: expected a number, got True"),
        ({"target_domain": None}, r"analogies\[1\].target_domain: is required beside source_domain"),
        ({"source_domain": ""}, r"analogies\[1\].source_domain: is required beside target_domain"),
        ({"source_domain": None, "target_domain": None}, r"analogies\[1\].source_domain: is required with concept_map"),
        ({"concept_mappings": [{"source": "x"}]}, r"analogies\[1\].concept_mappings\[0\].target: is required"),
        ({"concept_mappings": [{"source": "x", "target": "y", "confidence": 2.0}]}, r"\[0\].confidence: expected 0..1"),
        ({"concept_mappings": [{"source": " ", "target": "y"}]}, r"concept_mappings\[0\].source: "),
    ],
)
def test_what_is_wrong_is_named_by_item_and_field(store: vs.Store, change: dict[str, Any], message: str) -> None:
    batch = [DOMAINS[0], {**DOMAINS[1], **change}]
    with pytest.raises(vs.ValidationError, match=message):
        store.analogies.add(batch)
    with pytest.raises(vs.ValidationError, match=message):
        store.analogies.add([{"unknown": 1, **item} for item in batch])
    assert len(store.analogies) == 0
    with pytest.raises(vs.ValidationError, match="Analogy.source_domain: is required, with target_domain; or a, b"):
        vs.Analogy(quality=0.5)


CRITERIA: dict[str, tuple[dict[str, Any], Callable[[vs.Analogy], bool]]] = {
    "domains": (
        {"or": [{"source_domain__in": ["d1", "d2"]}, {"target_domain__in": ["d1", "d2"]}]},
        lambda one: bool({"d1", "d2"} & {one.source_domain, one.target_domain}),
    ),
    "frame": (
        {"frame_mappings__has": "frame 1"},
        lambda one: any(pair.source == "Frame 1" for pair in one.frame_mappings),
    ),
    "quality below": ({"quality__lt": 0.5}, lambda one: one.quality is not None and one.quality < 0.5),
    "before": ({"created_at__lt": "2026-02-02T00:00:00Z"}, lambda one: one.created_at.day < 2),  # type: ignore[union-attr]
    "after": ({"created_at__gt": "2026-02-01T12:00:00+00:00"}, lambda one: one.created_at.day > 1),  # type: ignore[union-attr]
    "tags": ({"tags__has": "t1"}, lambda one: "t1" in one.tags),
}


@pytest.mark.parametrize(
    "names", [*itertools.combinations(CRITERIA, 1), *itertools.combinations(CRITERIA, 2), tuple(CRITERIA)]
)
def test_deletion_by_criteria_equals_brute_force(open_store: Callable[..., vs.Store], names: tuple[str, ...]) -> None:
    random = np.random.default_rng(0)
    store = open_store()
    records = [
        vs.Analogy(
            id=f"a{n}",
            source_domain=f"d{random.integers(5)}",
            target_domain=f"d{random.integers(5)}",
            quality=float(random.random()),
            frame_mappings=[{"source": f"Frame {random.integers(3)}", "target": "x"}],  # type: ignore[arg-type]
            created_at=f"2026-02-0{random.integers(1, 4)}T00:00:00Z",  # type: ignore[arg-type]
            tags=(f"t{random.integers(3)}",),
        )
        for n in range(60)
    ]
    store.analogies.add(records)
    criteria = {"and": [CRITERIA[name][0] for name in names]}
    doomed = {one.id for one in records if all(CRITERIA[name][1](one) for name in names)}
    assert {one.id for one in store.analogies.stream(criteria)} == doomed
    assert store.analogies.delete(where=criteria, dry_run=True) == len(doomed) and len(store.analogies) == 60
    assert store.analogies.delete(where=criteria) == len(doomed)
    assert {one.id for one in store.analogies} == {one.id for one in records} - doomed
    assert store.analogies.delete(where={"quality__lt": 0.0}) == 0
    with pytest.raises(vs.ValidationError, match="say what"):
        store.analogies.delete()


# -- terms -------------------------------------------------------------------------------------------------------------


def naming(term: str) -> set[str]:
    fold = " ".join(term.casefold().split())
    found = set()
    for one in DOMAINS + PROPORTIONS:
        pairs = [*one.get("concept_mappings", []), *one.get("frame_mappings", [])]
        terms = [one.get(name, "") for name in "abcd"] + [pair[side] for pair in pairs for side in ("source", "target")]
        if fold in [term.casefold() for term in terms]:
            found.add(one["id"])
    return found


def naming_filter(term: str) -> dict[str, Any]:
    listed = ("concept_mappings", "frame_mappings")
    return {"or": [*({name: term} for name in "abcd"), *({f"{name}__has": term} for name in listed)]}


def test_what_an_analogy_names_is_found_by_indexes_and_follows_every_change(store: vs.Store) -> None:
    store.analogies.add(DOMAINS + PROPORTIONS)
    for term in ("king", " KING ", "ceo", "hierarchy", "wizard", "nobody", "sword"):
        assert {one.id for one in store.analogies.find(naming_filter(term))} == naming(term), term
    both = store.analogies.find({"concept_mappings__has_all": ["king", "Queen"]})
    assert [one.id for one in both] == ["royal_001"]
    store.analogies.update({"id": "p1", "b": "Lance"})
    for where, found in (
        ({"b": "sword"}, 0),
        ({"b": " LANCE"}, 1),
        ({"b__in": ["lance", "sword"]}, 1),
        ({"b__ne": "lance"}, len(PROPORTIONS) + len(DOMAINS) - 1),
        ({"b__nin": ["lance"]}, len(PROPORTIONS) + len(DOMAINS) - 1),
        ({"b__isnull": True}, len(DOMAINS)),
        ({"b": None}, len(DOMAINS)),
        ({"b__in": ["lance", None]}, len(DOMAINS) + 1),
        ({"b__contains": "ANC"}, 1),
        ({"b__glob": "la*e"}, 1),
    ):
        assert store.analogies.count(where) == found, where
    store.analogies.delete("p1")
    assert store.analogies.count({"b": "lance"}) == 0
    store.analogies.restore("p1")
    assert store.analogies.count({"b": "lance"}) == 1
    store.analogies.delete("p1")
    store.analogies.purge("p1")
    assert store.check().findings == ()
    connection = store._catalog._writer_connection()
    assert connection.execute("SELECT count(*) FROM analogies_b WHERE value = 'lance'").fetchone() == (0,)
    sql, values = store.analogies._table.condition(parse(naming_filter("king"), store.analogies._table.schema))
    plan = connection.execute(f"EXPLAIN QUERY PLAN SELECT row FROM analogies WHERE {sql}", values)
    steps = " ".join(str(step) for step in plan.fetchall())
    assert steps.count("USING PRIMARY KEY (value=?)") == 6 and "SCAN analogies" not in steps, steps
    for where in ({"b": 7}, {"concept_mappings__has": 7.5j}, {"b__has": "lance"}):
        with pytest.raises(vs.WhereError, match=next(iter(where)).split("_")[0]):
            store.analogies.count(where)


def test_a_false_entry_in_a_list_table_is_found_and_mended(store: vs.Store) -> None:
    store.analogies.add(PROPORTIONS)
    term = PROPORTIONS[0]["a"].casefold()
    with store._catalog.write() as transaction:
        transaction.connection.execute("UPDATE analogies_a SET value = 'x' WHERE value = ?", (term,))
    assert {finding.where for finding in store.check().findings} == {"analogies_a"}
    store.repair(dry_run=False)
    assert store.check().findings == () and store.analogies.count({"a": term}) >= 1


def test_list_tables_of_an_older_store_are_made_when_it_opens(
    open_store: Callable[..., vs.Store], tmp_path: Path
) -> None:
    import sqlite3

    store = open_store()
    store.analogies.add(DOMAINS + PROPORTIONS)
    store.close()
    with sqlite3.connect(tmp_path / "kb" / "catalog.sqlite") as raw:
        raw.execute("DROP TABLE analogies_a")
        raw.execute("DROP TABLE analogies_concept_mappings")
        (text,) = raw.execute("SELECT declaration FROM kinds WHERE name = 'analogies'").fetchone()
        columns = json.loads(text)
        for column in columns:
            if column["name"] in ("a", "concept_mappings"):
                column.update(folded=False, listed=None)
        raw.execute("UPDATE kinds SET declaration = ? WHERE name = 'analogies'", (json.dumps(columns),))
    with pytest.raises(vs.StoreError, match="open it once for writing"):
        open_store(read_only=True)
    again = open_store()
    assert {one.id for one in again.analogies.find(naming_filter("king"))} == naming("king")
    assert {one.id for one in again.analogies.find({"a": "KNIGHT"})} == {"p1"}
    assert again.check().findings == ()


def test_a_text_of_a_kind_of_ones_own_can_be_listed() -> None:
    class Paper(vs.Record, table="papers"):
        keywords: Annotated[tuple[str, ...], vs.LISTED] = ()
        method: Annotated[str | None, vs.LISTED] = None

    with vs.open(":memory:", embedder=None, kinds=[Paper]) as store:
        papers = store.collection(Paper)
        papers.add([Paper(id="x", method="[]"), Paper(id="y", method="Graph theory"), Paper(id="z")])
        assert [one.id for one in papers.find({"method": "Graph theory"})] == ["y"]
        assert [one.id for one in papers.find({"method__in": ["[]", "graph theory"]})] == ["x"]
        assert [one.id for one in papers.find({"method__isnull": True})] == ["z"]
        assert store.check().findings == ()
    with pytest.raises(vs.ValidationError, match="texts, or a text"):

        class Bad(vs.Record, table="bads"):
            size: Annotated[int, vs.LISTED] = 0

        vs.open(":memory:", embedder=None, kinds=[Bad])


def test_what_a_concept_is_mapped_to(store: vs.Store) -> None:
    store.analogies.add(DOMAINS + PROPORTIONS)
    found = [
        (one.domain, one.term, round(one.confidence, 6), [a.id for a in one.analogies])
        for one in store.analogies.mapping("King")
    ]
    assert found == [
        ("military", "general", 0.9, ["royal_001"]),
        ("business", "ceo", 0.6, ["royal_002", "medieval_001"]),
    ]
    assert [(one.domain, one.term) for one in store.analogies.mapping("ceo")] == [
        ("royal", "king"),
        ("military", "general"),
        ("medieval", "King"),
    ]
    assert [(one.term, one.confidence) for one in store.analogies.mapping("wizard")] == [
        ("knight", 0.87),
        ("castle", 0.79),
    ]
    assert [one.term for one in store.analogies.mapping("king", {"quality__gte": 0.8})] == ["general"]
    assert store.analogies.mapping("hierarchy") == () == store.analogies.mapping("nobody")


# -- completion --------------------------------------------------------------------------------------------------------

METHODS = ["3cosadd", "3cosmul", "pair"]
Fill = Callable[..., vs.Store]


def planted(store: vs.Store, seed: int = 0, noise: float = 0.05) -> np.ndarray:
    """man : king :: woman : queen and the like by one offset, among many others; in two contexts."""
    random = np.random.default_rng(seed)
    relation = random.standard_normal(24)
    names = ["man", "woman", "uncle", "aunt"]
    plain = random.standard_normal((4, 24)) * 0.8
    high = plain + relation + noise * random.standard_normal((4, 24))
    others = random.standard_normal((300, 24))
    vectors = np.concatenate([plain, high, others]).astype(np.float32)
    labels = [*names, "king", "queen", "duke", "duchess", *(f"other {n}" for n in range(300))]
    store.concepts.add([{"name": name, "domain": f"d{n % 3}"} for n, name in enumerate(labels)], vectors=vectors)
    return vectors


def reference(vectors: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray, method: str) -> np.ndarray:
    """The papers' formulas, in float64."""
    x, (a, b, c) = unit(vectors), unit(np.stack([a, b, c]))
    if method == "3cosadd":
        return x @ (b - a + c) / np.linalg.norm(b - a + c)
    if method == "3cosmul":
        return ((x @ b + 1) / 2) * ((x @ c + 1) / 2) / ((x @ a + 1) / 2 + 0.001)
    away = np.linalg.norm(x - c, axis=1)
    return np.divide((x - c) @ (b - a) / np.linalg.norm(b - a), away, out=np.zeros(len(x)), where=away > 1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_answer_is_first(open_store: Fill, method: Any) -> None:
    store = open_store()
    planted(store)
    for a, b, c, d in [
        ("man", "king", "woman", "queen"),
        ("aunt", "duchess", "man", "king"),
        ("woman", "queen", "uncle", "duke"),
    ]:
        hits = store.analogies.complete(a, b, c, method=method)
        assert hits[0].record.name == d and len(hits) == 5 and hits.exact
        assert not {a, b, c} & {hit.record.name for hit in hits}
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert [hit.margin for hit in hits[:4]] == pytest.approx([x - y for x, y in itertools.pairwise(scores)])
        assert all(0 <= hit.confidence <= 1 for hit in hits) and hits[0].confidence > 0.5 > hits[1].confidence


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    method=st.sampled_from(METHODS),
    rows=st.integers(3, 60),
    k=st.integers(1, 70),
    filtered=st.booleans(),
)
def test_it_equals_brute_force(seed: int, method: Any, rows: int, k: int, filtered: bool) -> None:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((rows, 5)).astype(np.float32) * random.uniform(0.1, 9, (rows, 1)).astype(
        np.float32
    )
    with vs.open(":memory:", embedder=None) as store:
        store.concepts.add(
            [{"id": f"c{n}", "name": f"n{n}", "domain": f"d{n % 2}"} for n in range(rows)], vectors=vectors
        )
        dead = random.choice(rows, rows // 6, replace=False).tolist()
        asked = random.choice(sorted({*range(rows)} - {*dead}), 3).tolist()
        if asked[0] == asked[1]:
            return
        store.concepts.delete([f"c{n}" for n in dead])
        hits = store.analogies.complete(
            *(f"c{n}" for n in asked), k=k, method=method, where={"domain": "d1"} if filtered else None
        )
        scores = reference(vectors, *vectors[asked], method)
        allowed = [n for n in range(rows) if n not in dead and n not in asked and (n % 2 or not filtered)]
        wanted = sorted(allowed, key=lambda n: (-scores[n], n))[:k]
        assert [hit.score for hit in hits] == pytest.approx([scores[n] for n in wanted], abs=1e-6)
        assert hits.ids == [f"c{n}" for n in wanted] and hits.exact


def test_through_an_index_the_best_are_found_and_scored_exactly(open_store: Fill) -> None:
    store = open_store()
    data = clustered(9000, 24, groups=60)
    store.concepts.add(
        [{"id": f"c{n}", "name": f"n{n}", "domain": f"d{n % 2}"} for n in range(len(data))], vectors=data
    )
    store.rebuild("concepts", vs.IndexRecipe("t", "LSH384rt", ({"candidates": 900},), min_recall=0))
    random = np.random.default_rng(1)
    found = wanted = 0
    for method in METHODS:
        for a, b, c in random.choice(len(data), (15, 3)):
            for where in (None, {"domain": "d1"}):
                through = store.analogies.complete(f"c{a}", f"c{b}", f"c{c}", method=method, where=where, recall=0.5)  # type: ignore[arg-type]
                exact = store.analogies.complete(f"c{a}", f"c{b}", f"c{c}", method=method, where=where, exact=True)  # type: ignore[arg-type]
                assert exact.exact and len(through) == 5
                assert where is not None or (not through.exact and "index" in through.plan.name)
                found += len({*through.ids} & {*exact.ids})
                wanted += 5
                scores = dict(zip(exact.ids, (hit.score for hit in exact), strict=True))
                assert all(hit.score == pytest.approx(scores[hit.id], abs=1e-12) for hit in through if hit.id in scores)
    assert found / wanted > 0.97


def test_inputs_never_come_back_whatever_their_context(open_store: Fill) -> None:
    """Source 002 answered king : queen :: prince : ? with another context's prince, then queen."""
    store = open_store()
    random = np.random.default_rng(3)
    words = {name: random.standard_normal(8) for name in ("king", "queen", "prince", "princess", "frog")}
    words["princess"] = words["queen"] - words["king"] + words["prince"]
    for context in ("default", "tales", "chess"):
        near = [vector + 0.01 * random.standard_normal(8) for vector in words.values()]
        store.concepts.add(
            [{"name": name.title() if context == "tales" else name, "context": context} for name in words], vectors=near
        )
    for method in METHODS:
        hits = store.analogies.complete("king", "queen", "prince", k=10, context="tales", method=method)  # type: ignore[arg-type]
        assert hits.ids == ["tales:princess", "tales:frog"]
        everywhere = store.analogies.complete("default:king", "tales:queen", vs.Id("chess:prince"), k=20, method=method)  # type: ignore[arg-type]
        assert {hit.record.name.lower() for hit in everywhere} == {"princess", "frog"} and len(everywhere) == 6
    with pytest.raises(
        vs.AmbiguousName, match=r"b: 3 records of concepts are called 'queen': 'default:queen', 'tales:"
    ) as raised:
        store.analogies.complete("default:king", "queen", "prince")
    assert raised.value.candidates == ("default:queen", "tales:queen", "chess:queen")


def test_names_are_looked_for_elsewhere_when_the_context_has_none(open_store: Fill) -> None:
    store = open_store()
    store.concepts.add(
        [
            {"name": "king"},
            {"name": "queen"},
            *({"name": name, "context": "chess"} for name in ("rook", "pawn", "king")),
        ],
        vectors=np.random.default_rng(0).standard_normal((5, 4)),
    )
    assert store.analogies.complete("king", "queen", "rook", context="chess").ids == ["chess:pawn"]


def test_vectors_records_and_ids_can_be_asked_with(open_store: Fill) -> None:
    store = open_store()
    vectors = planted(store)
    by_name = store.analogies.complete("man", "king", "woman")
    record = store.concepts.get("default:king")
    mixed = store.analogies.complete(vectors[0], record, vs.Id("default:woman"), k=6)
    assert [hit.id for hit in mixed if hit.id != "default:man"][:5] == by_name.ids
    plain = store.concepts.search(vs.Offset(vs.Id("default:man"), record, vectors[1]), k=7)
    assert [name for name in plain.ids if name != "default:woman"][:5] == by_name.ids
    assert store.concepts.search(vs.Offset(vectors[0], vectors[4], vectors[1]), k=5, mmr=0.5).metric == "cosine"


def test_bad_questions_are_refused(open_store: Fill) -> None:
    store = open_store()
    planted(store)
    for arguments, options, error, message in [
        (("man", "nobody", "woman"), {}, vs.NotFound, "b: no record of concepts has the id or the name 'nobody'"),
        (("man", vs.Id("king"), "woman"), {}, vs.NotFound, "b: no record of concepts has the id 'king'"),
        (("man", "king", "woman"), {"method": "4cos"}, vs.ValidationError, "method: expected .*3cosadd, 3cosmul"),
        (("man", "man", "woman"), {"method": "pair"}, vs.ValidationError, "a and b have the same vector"),
        (("man", "king", "woman"), {"k": 0}, vs.ValidationError, "k: expected"),
        (("man", "king", [1.0, 2.0]), {}, vs.DimensionError, "c: expected 24 dimensions, got 2"),
        (("man", "king", "woman"), {"kind": "thoughts"}, vs.NotFound, "no kind 'thoughts'"),
        (("man", "king", "woman"), {"where": {"x": 1}}, vs.WhereError, "no field 'x'"),
    ]:
        with pytest.raises(error, match=message):
            store.analogies.complete(*arguments, **options)  # type: ignore[arg-type]
    vector = np.array([1.0, 2.0])
    with vs.open(":memory:", embedder=None) as other:
        assert list(other.analogies.complete(vector, 2 * vector, [3.0, 1.0])) == []
        with pytest.raises(vs.ValidationError, match="cancels out"):
            other.analogies.complete([1.0, 0.0], [0.5, 3**0.5 / 2], [0.5, -(3**0.5) / 2])
    with vs.open(":memory:", embedder=None, metric="ip") as other:
        data = planted(other)
        hits = other.analogies.complete("man", "king", "woman", k=3)
        assert hits[0].record.name == "queen" and hits[0].score == pytest.approx(
            (data[4] - data[0] + data[1]) @ data[5], rel=1e-5
        )
        with pytest.raises(vs.ValidationError, match="3cosmul is made of cosines"):
            other.analogies.complete("man", "king", "woman", method="3cosmul")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), method=st.sampled_from(METHODS), error=st.floats(1e-7, 0.2))
def test_bounds_hold_whatever_the_rounding(seed: int, method: Any, error: float) -> None:
    random = np.random.default_rng(seed)
    objective = Objective(unit(random.standard_normal((3, 4))), method)
    cosines = unit(random.standard_normal((50, 4))) @ objective.terms.T
    rough = (cosines + random.uniform(-error, error, cosines.shape)).T.astype(np.float32)
    low, high = objective.bounds(rough, error + 1e-7)
    values = objective.values(cosines.T)
    assert (low <= values + 1e-9).all() and (values <= high + 1e-9).all()


def test_confidence_is_a_share_and_falls_with_rivals() -> None:
    assert confidences(np.empty(0)).tolist() == [] and confidences(np.array([0.9])) == pytest.approx([0.9])
    alone, close = confidences(np.array([0.9, 0.2])), confidences(np.array([0.9, 0.89]))
    assert alone[0] > 0.89 and close[0] < 0.6 and confidences(np.array([-0.5, -0.9])).tolist() == [0, 0]
    assert confidences(np.array([40.0, 1.0])).tolist() == [1.0, 0.0]


# -- relations ---------------------------------------------------------------------------------------------------------


def test_relations_follow_from_the_concepts(open_store: Fill) -> None:
    store = open_store()
    vectors = planted(store)
    rows = unit(vectors)
    relation = np.ones((1, 24))
    store.analogies.add({"id": "own", "a": "man", "b": "king"}, vectors={"relation": relation})
    store.analogies.add(
        [
            {"id": "whole", "a": "man", "b": "king", "c": "woman", "d": "queen"},
            {"id": "half", "a": "man", "b": "king", "c": "nobody", "d": "queen"},
            {"id": "pairs", "source_domain": "x", "target_domain": "y", "concept_mappings": [{"source": "uncle", "target": "duke"}, {"source": "AUNT", "target": "duchess"}, {"source": "?", "target": "king"}]},
            {"id": "lost", "a": "nobody", "b": "king"},
            {"id": "same", "a": "man", "b": "man"},
        ]
    )  # fmt: skip
    done = store.analogies.relate()
    assert (done.written, done.unchanged, done.brought, done.unresolved) == (
        ("whole", "half", "pairs"),
        (),
        ("own",),
        ("lost", "same"),
    )
    expected = [
        (rows[4] - rows[0] + rows[5] - rows[1]) / 2,
        rows[4] - rows[0],
        (rows[6] - rows[2] + rows[7] - rows[3]) / 2,
    ]
    np.testing.assert_allclose(
        store.analogies.vectors(["whole", "half", "pairs"], space="relation"), expected, atol=1e-6
    )
    assert store.analogies.vectors(["own"], space="relation").tolist() == relation.tolist()
    info = store.analogies.vector_info("whole", space="relation")
    assert info is not None and info.source == "concepts"
    seq = store.analogies.search(relation[0], space="relation").generation
    assert store.analogies.relate().unchanged == ("whole", "half", "pairs")
    assert store.analogies.search(relation[0], space="relation").generation == seq, "nothing was written"
    store.concepts.upsert(store.concepts.get("default:duke"), vectors=vectors[:1])  # type: ignore[arg-type]
    assert store.analogies.relate({"id": "pairs"}).written == ("pairs",) and store.analogies.relate().written == ()
    assert store.check().findings == ()


def test_analogies_are_found_by_their_relation(open_store: Fill) -> None:
    store = open_store()
    planted(store, noise=0.01)
    store.analogies.add(
        [
            {"id": "rank", "a": "man", "b": "king"},
            {"id": "odd", "a": "other 1", "b": "other 2"},
            {"id": "other", "a": "other 3", "b": "man", "context": "b"},
        ]
    )
    seen: list[tuple[int, int]] = []
    store.analogies.relate(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(3, 3)]
    hits = store.analogies.parallel("woman", "queen", k=3)
    assert hits.ids[0] == "rank" and hits[0].score > 0.8 and len(hits) == 3
    assert store.analogies.parallel("woman", "queen", where={"not": {"id": "rank"}}, context="b").ids == ["other"]


# -- discovery ---------------------------------------------------------------------------------------------------------


def two_domains(store: vs.Store, count: int = 9, extra: int = 3, seed: int = 5) -> None:
    random = np.random.default_rng(seed)
    places = random.standard_normal((count, 20))
    left, right = random.standard_normal((2, 20))
    vectors = np.concatenate(
        [places + left, (places + right)[::-1], random.standard_normal((extra, 20)) * 2 + right, places]
    )
    rows = [("royalty", f"r{n}") for n in range(count)] + [("military", f"m{count - 1 - n}") for n in range(count)]
    rows += [("military", f"x{n}") for n in range(extra)] + [("magic", f"r{n}") for n in range(count)]
    store.concepts.add(
        [{"id": f"{domain}-{name}", "name": name, "domain": domain} for domain, name in rows], vectors=vectors
    )


def test_discovery_maps_only_the_two_domains_one_to_one_with_evidence(open_store: Fill) -> None:
    store = open_store()
    two_domains(store)
    found = store.analogies.discover("royalty", "military")
    assert found is not None and found == store.analogies.get(found.id)
    assert {(one.source, one.target) for one in found.concept_mappings} == {(f"r{n}", f"m{n}") for n in range(9)}
    assert {(one.source, one.target) for one in found.evidence} == {
        (f"royalty-r{n}", f"military-m{n}") for n in range(9)
    }
    assert found.productivity == 1.0 and found.structural_coherence is not None and found.structural_coherence > 0.9
    parts = (found.structural_coherence, found.semantic_coherence, found.productivity)
    assert found.quality == pytest.approx(np.dot([0.4, 0.3, 0.3], parts))  # type: ignore[arg-type]
    assert found.structural_coherence == pytest.approx(np.mean([one.structural for one in found.evidence]))
    assert found.semantic_coherence == pytest.approx(np.mean([one.semantic for one in found.evidence]))
    confidences = [one.confidence for one in found.concept_mappings]
    assert confidences == sorted(confidences, reverse=True)
    for pair, evidence in zip(found.concept_mappings, found.evidence, strict=True):
        assert pair.confidence == pytest.approx((4 * evidence.structural + 3 * evidence.semantic) / 7)
    (mapped,) = store.analogies.mapping("r3")
    assert (mapped.domain, mapped.term, mapped.analogies) == ("military", "m3", (found,))
    assert (
        store.analogies.mapping(vs.Id("royalty-r3")) == (mapped,) and store.analogies.mapping(vs.Id("magic-r3")) == ()
    )
    assert store.analogies.relate().unchanged == (found.id,)
    again = store.analogies.discover("royalty", "military", pairs=2)
    assert again is not None and (again.id, again.version, len(again.evidence)) == (found.id, 2, 2)
    assert len(store.analogies) == 1 and store.check().findings == ()


def test_discovery_keeps_nothing_below_the_quality_or_when_not_asked_to(open_store: Fill) -> None:
    store = open_store()
    two_domains(store)
    assert store.analogies.discover("royalty", "military", 0.99) is None and len(store.analogies) == 0
    found = store.analogies.discover("royalty", "military", save=False)
    assert found is not None and len(store.analogies) == 0
    for arguments, error, message in [
        (("royalty", "royalty"), vs.ValidationError, "expected two domains"),
        (("royalty", "cooking"), vs.NotFound, "no record of concepts has the domain 'cooking'"),
        (("royalty", "military", 1.5), vs.ValidationError, "min_quality: expected 0..1, got 1.5"),
        (("royalty", "military", True), vs.ValidationError, "min_quality: expected 0..1, got True"),
    ]:
        with pytest.raises(error, match=message):
            store.analogies.discover(*arguments)  # type: ignore[arg-type]
    with pytest.raises(vs.NotFound, match="in the context 'b'"):
        store.analogies.discover("royalty", "military", context="b")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_the_alignment_is_the_best_of_all(seed: int, rows: int, columns: int) -> None:
    import itertools

    random = np.random.default_rng(seed)
    x, y = random.standard_normal((rows, 6)) + 1, random.standard_normal((columns, 6)) + 1
    near = closeness(x, y)
    smaller, bigger = sorted((rows, columns))
    table = near if rows <= columns else near.T
    best = max(
        sum(table[n, at] for n, at in enumerate(chosen)) for chosen in itertools.permutations(range(bigger), smaller)
    )
    found = align(x, y)
    assert len({*found.sources.tolist()}) == len({*found.targets.tolist()}) == len(found.sources)
    if found.productivity == 1:
        assert near[found.sources, found.targets].sum() == pytest.approx(best)
    assert 0 <= found.quality <= 1 and align(x, y, pairs=1).sources.tolist() == found.sources[:1].tolist()


def test_agreement_is_the_mean_cosine_of_offsets() -> None:
    random = np.random.default_rng(0)
    x, y = unit(random.standard_normal((7, 5))), unit(random.standard_normal((7, 5)))
    wanted = []
    for i in range(7):
        pairs = [(x[i] - x[k], y[i] - y[k]) for k in range(7) if k != i]
        wanted.append(np.mean([u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in pairs]))
    assert agreement(x, y) == pytest.approx(np.array(wanted))
    assert agreement(x[:1], y[:1]).tolist() == [0]
