"""Near-duplicates: all pairs above a score, and policies at write, against brute force; races; erasure."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import pytest
from conftest import Matrix, brute_force, clustered
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from tests.forked import PROCESSES
from vectorstore.deduplicating import Deduplicator
from vectorstore.vectors import ranges
from vectorstore.vectors.exact import final_scores

METRICS = ["cosine", "ip", "l2"]
Triple = tuple[int, int, float]


def filled(store: vs.Store, data: Matrix, start: int = 0) -> vs.Collection[vs.Concept]:
    records = [{"id": f"c{start + n}", "name": "x", "domain": f"d{(start + n) % 2}"} for n in range(len(data))]
    store.concepts.add(records, vectors=data)
    return store.concepts


def found(pairs: Any) -> list[Triple]:
    return [(int(pair.first.id[1:]), int(pair.second.id[1:]), pair.score) for pair in pairs]


def truth(data: Matrix, metric: str) -> list[Triple]:
    """All pairs by the age of the first, best first, ties by the age of the second."""
    values = brute_force(data, data, metric)
    scores = 1 / (1 - values) if metric == "l2" else values
    pairs = [(i, j, float(scores[i, j])) for i in range(len(data)) for j in range(i + 1, len(data))]
    return sorted(pairs, key=lambda pair: (pair[0], -pair[2], pair[1]))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.integers(-3, 3)] * 3).filter(any), max_size=30),
    metric=st.sampled_from(METRICS),
    place=st.integers(0, 500),
    blocks=st.sampled_from([(1024, 4096, 1 << 20), (3, 4, 1 << 20), (8, 5, 2), (4, 4, 20)]),
    domain=st.sampled_from([None, "d0", "none"]),
)
def test_pairs_are_those_of_single_searches(
    rows: list[tuple[int, ...]], metric: str, place: int, blocks: tuple[int, int, int], domain: str | None
) -> None:
    data = np.array(rows, dtype=np.float32).reshape(-1, 3)
    with (
        vs.open(":memory:", embedder=None, metric=metric) as store,
        mock.patch.multiple(ranges, LEFT_ROWS=blocks[0], RIGHT_ROWS=blocks[1], MAX_CANDIDATES=blocks[2]),
    ):
        concepts = filled(store, data)
        where = domain and {"domain": domain}
        chosen = [n for n in range(len(data)) if domain is None or f"d{n % 2}" == domain]
        singly = {n: {hit.id: hit.score for hit in concepts.search(data[n], k=100, exact=True)} for n in chosen}
        everything = sorted(
            ((n, m, singly[n][f"c{m}"]) for n in chosen for m in chosen if n < m),
            key=lambda pair: (pair[0], -pair[2], pair[1]),
        )
        assert [pair[2] for pair in everything] == pytest.approx(
            [s for n, m, s in truth(data, metric) if n in chosen and m in chosen], abs=1e-12
        )
        bounds = [everything[place % len(everything)][2]] if everything else [0.5]
        bounds += [math.nextafter(bounds[0], math.inf), math.nextafter(bounds[0], -math.inf), -1e9]
        for bound in bounds:
            assert found(concepts.duplicates(bound, where)) == [pair for pair in everything if pair[2] >= bound]


@pytest.mark.parametrize("metric", ["cosine", *(pytest.param(m, marks=pytest.mark.slow) for m in ("ip", "l2"))])
def test_pairs_equal_brute_force_on_twenty_thousand_rows(open_store: Callable[..., vs.Store], metric: str) -> None:
    data = clustered(20_000, 64, groups=400)
    random = np.random.default_rng(1)
    copies, others = np.split(random.permutation(20_000)[:4000], 2)
    data[copies] = data[others] + (0.05 * random.standard_normal((2000, 64))).astype(np.float32)
    store = open_store(metric=metric)
    for start in range(0, 20_000, 5000):
        filled(store, data[start : start + 5000], start)
    threshold = {"cosine": 0.95, "ip": 107.0, "l2": 0.25}[metric]
    wide = data.astype(np.float64)
    squares = np.square(wide).sum(axis=1)
    expected = {}
    for start in range(0, 20_000, 1000):
        values = wide[start : start + 1000] @ wide.T
        if metric == "cosine":
            values /= np.sqrt(squares)[start : start + 1000, None] * np.sqrt(squares)
        elif metric == "l2":
            distances = squares[start : start + 1000, None] + squares - 2 * values
            values = 1 / (1 + np.sqrt(np.maximum(distances, 0)))
        assert not (np.abs(values - threshold) < 1e-9).any(), "rounding would decide; choose another threshold"
        for i, j in zip(*np.nonzero(np.triu(values >= threshold, start + 1)), strict=True):
            expected[int(start + i), int(j)] = float(values[i, j])
    pairs = found(store.concepts.duplicates(threshold))
    assert 500 < len(expected) < 50_000
    assert {(first, second) for first, second, _ in pairs} == set(expected) and len(pairs) == len(expected)
    assert [score for _, _, score in pairs] == pytest.approx([expected[pair[:2]] for pair in pairs], abs=1e-7)
    assert pairs == sorted(pairs, key=lambda pair: (pair[0], -pair[2], pair[1]))


def test_pairs_do_not_depend_on_how_the_vectors_lie(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    data = clustered(2600, 12, groups=200)
    for start in range(0, 2600, 1300):
        filled(store, data[start : start + 1300], start)
    store.concepts.delete([f"c{n}" for n in range(0, 2600, 9)])
    store.concepts.upsert([{"id": "c5", "name": "x"}, {"id": "c0", "name": "x"}], vectors=data[[7, 1]])
    before = found(store.concepts.duplicates(0.98))
    assert {(7, 5), (1, 0)} <= {pair[:2] for pair in before}, "the replaced vectors are the younger ones"
    store.flush()
    store.rebuild("concepts", vs.IndexRecipe("t", "LSH256rt", ({"candidates": 500},), min_recall=0))
    assert found(store.concepts.duplicates(0.98)) == before
    store.compact("concepts")
    assert found(store.concepts.duplicates(0.98)) == before


def test_a_record_that_goes_while_pairs_are_read_is_left_out(open_store: Callable[..., vs.Store]) -> None:
    store, other = open_store(), open_store()
    concepts = filled(store, np.ones((60, 3), np.float32))
    pairs = concepts.duplicates()
    first = next(pairs)
    assert (first.first.id, first.second.id) == ("c0", "c1") and first.score == pytest.approx(1.0)
    other.concepts.delete("c50")
    rest = found(pairs)
    assert (0, 50) in [pair[:2] for pair in rest], "it was read together with the first"
    assert all(50 not in pair[:2] for pair in rest[600:])
    assert len([pair for pair in rest if 50 not in pair[:2]]) == 59 * 58 // 2 - 1


def test_a_second_space_and_an_empty_store_have_their_own_pairs(open_store: Callable[..., vs.Store]) -> None:
    analogies = open_store().analogies
    assert list(analogies.duplicates()) == []
    analogies.add([{"a": str(n)} for n in range(3)], vectors={"relation": [[1, 0], [0, 1], [1, 0.01]]})
    assert list(analogies.duplicates()) == []
    (pair,) = analogies.duplicates(space="relation")
    assert (pair.first.a, pair.second.a) == ("0", "2")


@pytest.mark.parametrize("threshold", [float("nan"), "high", None, False])
def test_a_bad_threshold_is_refused_at_once(open_store: Callable[..., vs.Store], threshold: Any) -> None:
    with pytest.raises(vs.ValidationError, match="threshold: expected a finite number"):
        open_store().concepts.duplicates(threshold)


# -- at write ----------------------------------------------------------------------------------------------------------


class Model:
    """The policy in plain loops: what stands, and what was decided."""

    def __init__(self, metric: str, threshold: float) -> None:
        self.metric, self.threshold = metric, threshold
        self.standing: list[tuple[str, tuple[int, ...]]] = []
        self.tags: dict[str, tuple[str, ...]] = {}
        self.versions: dict[str, int] = {}
        self.decisions: list[tuple[str, str, float, str]] = []

    def score(self, one: tuple[int, ...], other: tuple[int, ...]) -> float:
        (value,) = final_scores(np.float32(one), np.float32([other]), self.metric)
        return float(1 / (1 - value)) if self.metric == "l2" else float(value)

    def write(self, operation: str, batch: list[tuple[str, tuple[int, ...]]], action: str) -> list[str]:
        replaced = {name for name, _ in self.standing} & {name for name, _ in batch if operation == "upsert"}
        self.standing = [one for one in self.standing if one[0] not in replaced]
        ids, merged = [], set()
        before = {name for name, _ in self.standing}
        for name, vector in batch:
            near = [(self.score(vector, other), -place) for place, (_, other) in enumerate(self.standing)]
            score, place = max(near, default=(-math.inf, 0))
            if name in replaced or score < self.threshold:
                self.stand(name, vector, self.versions.get(name, 0) + 1)
                ids.append(name)
                continue
            twin = self.standing[-place][0]
            self.decisions.append((name, twin, score, action))
            ids.append(twin if action in ("reject", "merge") else name)
            if action in ("keep", "link"):
                self.stand(name, vector, 1)
            if action == "merge":
                self.tags[twin] = tuple(dict.fromkeys((*self.tags[twin], name)))
                merged.add(twin)
        for name in merged & before:
            self.versions[name] += 1
        return ids

    def stand(self, name: str, vector: tuple[int, ...], version: int) -> None:
        self.standing.append((name, vector))
        self.tags[name] = (name,)
        self.versions[name] = version


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    metric=st.sampled_from(METRICS),
    action=st.sampled_from(["keep", "reject", "merge", "link"]),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=4),
    memory=st.sampled_from([1, 5, 1 << 20]),
)
def test_a_policy_does_what_plain_loops_do(
    data: st.DataObject, metric: str, action: Any, sizes: list[int], memory: int
) -> None:
    policy = vs.Duplicates({"cosine": 0.937, "ip": 6.5, "l2": 0.45}[metric], action)
    model = Model(metric, policy.threshold)
    vectors = st.tuples(*[st.integers(-2, 2)] * 3).filter(any)
    with (
        vs.open(":memory:", embedder=None, metric=metric) as store,
        mock.patch.object(ranges, "MAX_CANDIDATES", memory),
    ):
        for turn, size in enumerate(sizes):
            operation = data.draw(st.sampled_from(["add", "upsert"]))
            known = sorted(model.tags)
            batch = [(f"r{turn}-{n}", data.draw(vectors)) for n in range(size)]
            if operation == "upsert" and known and size:
                again = data.draw(st.lists(st.sampled_from(known), max_size=2, unique=True))
                batch = [*[(name, data.draw(vectors)) for name in again if name in model.versions], *batch]
            records = [{"id": name, "name": "x", "tags": [name]} for name, _ in batch]
            brought = np.array([vector for _, vector in batch], np.float32).reshape(-1, 3) if batch else None
            write = getattr(store.concepts, operation)
            assert write(records, vectors=brought, duplicates=policy) == model.write(operation, batch, action)
            assert {(one.id, one.version, one.tags) for one in store.concepts} == {
                (name, model.versions[name], model.tags[name]) for name, _ in model.standing
            }
            decided = [(d.record, d.other, d.similarity, d.action) for d in store.concepts.decisions()]
            assert decided == model.decisions
        assert store.check().findings == ()


@pytest.mark.parametrize("action", ["keep", "reject", "merge", "link"])
@pytest.mark.parametrize("there", [0, 1])
def test_what_was_not_added_is_nobodys_twin(open_store: Callable[..., vs.Store], action: Any, there: int) -> None:
    chain = np.array([[np.cos(angle), np.sin(angle)] for angle in np.arange(5) * 0.3], np.float32)
    store, policy = open_store(), vs.Duplicates(0.9, action)  # neighbours are 0.955 alike, the next but one 0.825
    records = [{"id": f"c{n}", "name": "x"} for n in range(5)]
    store.concepts.add(records[:there], vectors=chain[:there] if there else None)
    ids = store.concepts.add(records[there:], vectors=chain[there:], duplicates=policy)
    decided = [(d.record, d.other) for d in store.concepts.decisions()]
    if action in ("keep", "link"):
        assert ids == [f"c{n}" for n in range(there, 5)]
        assert decided == [("c1", "c0"), ("c2", "c1"), ("c3", "c2"), ("c4", "c3")]
    else:
        assert ids == ["c0", "c0", "c2", "c2", "c4"][there:]
        assert decided == [("c1", "c0"), ("c3", "c2")]


TEXTS = ["a red fox runs in the wood", "a blue whale swims", "the green frog sits"]


def texts_in(store: vs.Store) -> vs.Collection[vs.Concept]:
    store.concepts.add([{"id": f"t{n}", "name": text, "domain": "d"} for n, text in enumerate(TEXTS)])
    return store.concepts


def test_each_action_on_texts(store: vs.Store, clock: Any) -> None:
    concepts = texts_in(store)
    twin = {"name": TEXTS[0]}
    assert concepts.add({**twin, "id": "k"}, duplicates=vs.Duplicates(0.9)) == ["k"]
    assert concepts.add({**twin, "id": "l"}, duplicates=vs.Duplicates(0.9, "link")) == ["l"]
    assert concepts.add([{**twin, "id": "r"}, {"name": "new"}], duplicates=vs.Duplicates(0.9, "reject")) == [
        "t0",
        "default:new",
    ]
    assert concepts.add({**twin, "id": "m"}, duplicates=vs.Duplicates(0.9, "merge")) == ["t0"]
    decisions = concepts.decisions("t0")
    assert [(d.record, d.other, d.action) for d in decisions] == [
        ("k", "t0", "keep"),
        ("l", "t0", "link"),
        ("r", "t0", "reject"),
        ("m", "t0", "merge"),
    ]
    assert all(d.similarity == pytest.approx(1.0) and d.at == clock.now for d in decisions)
    assert [d.seq for d in decisions] == sorted({d.seq for d in decisions})
    assert concepts.decisions("l") == [decisions[1]] and concepts.decisions("nobody") == []
    assert sorted(one.id for one in concepts) == ["default:new", "k", "l", "t0", "t1", "t2"]
    assert concepts.get("t0").version == 2 and concepts.get("k").version == 1


def test_a_merge_fills_what_is_missing_and_keeps_what_is_there(store: vs.Store) -> None:
    concepts = store.concepts
    concepts.add(
        vs.Concept(id="old", name="fox", domain="wood", tags=("a", "b"), extra={"seen": 1, "by": "me"}, lemmas=("fox",))
    )
    new = vs.Concept(
        id="new", name="Fox", domain="zoo", synset="fox.n.1", quality=0.5, examples=("a fox",), lemmas=("fox",),
        tags=("b", "c"), extra={"by": "you", "where": "here"},
    )  # fmt: skip
    assert concepts.add(new, duplicates=vs.Duplicates(0.9, "merge")) == ["old"]
    old = concepts.get("old")
    assert (old.name, old.domain, old.synset, old.quality, old.examples) == ("fox", "wood", "fox.n.1", 0.5, ("a fox",))
    assert old.tags == ("a", "b", "c") and old.extra == {"seen": 1, "by": "me", "where": "here"} and old.version == 2
    assert concepts.find({"tags__has": "c"}).total == 1


def test_a_merge_that_changes_the_text_embeds_it_again(store: vs.Store) -> None:
    concepts = store.concepts
    concepts.add({"id": "old", "name": "fox"})
    more = {"id": "new", "name": "fox", "definition": "of the wood"}
    assert concepts.add([more, {**more, "id": "newer"}], duplicates=vs.Duplicates(0.1, "merge")) == ["old", "old"]
    assert concepts.get("old").version == 2, "one call, one version"
    expected = vs.HashEmbedder(64).embed(["fox: of the wood"])
    assert concepts.vectors(["old"]) == pytest.approx(expected)
    assert concepts.search("wood", mode="text").ids == ["old"]
    assert concepts.vector_info("old").update_count == 1


def test_vectors_that_the_caller_brought_stay_through_a_merge(store: vs.Store) -> None:
    concepts = store.concepts
    brought = np.ones((2, 64), np.float32)
    concepts.add({"id": "old", "name": "fox"}, vectors=brought[:1])
    concepts.add(
        {"id": "new", "name": "y", "definition": "d"}, vectors=brought[1:], duplicates=vs.Duplicates(0.9, "merge")
    )
    assert concepts.get("old").definition == "d"
    assert concepts.vectors(["old"]).tolist() == brought[:1].tolist()


def test_records_without_a_vector_or_a_text_are_just_added(open_store: Callable[..., vs.Store]) -> None:
    store = open_store()
    policy = vs.Duplicates(0.0, "reject")
    assert store.concepts.add([{"id": "a", "name": "x"}, {"id": "b", "name": "x"}], duplicates=policy) == ["a", "b"]
    assert store.contexts.add({"name": "c"}, duplicates=policy) == ["c"]
    assert store.analogies.add([{"id": "a", "a": "x"}], vectors={"relation": [[1, 2]]}, duplicates=policy) == ["a"]
    assert store.concepts.add([], duplicates=policy) == [] == store.concepts.decisions()


def test_ids_that_nobody_gave_are_not_recorded_of_what_was_not_added(open_store: Callable[..., vs.Store]) -> None:
    analogies = open_store().analogies
    policy = vs.Duplicates(0.9, "reject")
    first, second = analogies.add([{"a": "x"}, {"a": "y"}], vectors=[[1, 1], [1, 1]], duplicates=policy)
    assert first == second and len(analogies) == 1
    assert [(d.record, d.other) for d in analogies.decisions()] == [("", first)]
    kept = analogies.add({"a": "z"}, vectors=[[1, 1]], duplicates=vs.Duplicates(0.9))
    assert [(d.record, d.other) for d in analogies.decisions(kept[0])] == [(kept[0], first)]


def test_large_calls_leave_no_file_of_what_was_rejected(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    data = clustered(1500, 8, groups=1500)
    records = [{"id": f"c{n}", "name": "x"} for n in range(3000)]
    store = open_store()
    ids = store.concepts.add(
        records, vectors=np.concatenate([data, data]), duplicates=vs.Duplicates(0.999999, "reject"), source="mine"
    )
    assert ids == [f"c{n % 1500}" for n in range(3000)]
    assert len(store.concepts) == 1500 == store.concepts.decisions().total
    assert len(list((tmp_path / "kb" / "embeddings" / "concepts").glob("*.npz"))) == 1
    assert store.concepts.vector_info("c7").source == "mine"
    assert store.check().findings == () and store.check().litter == ()


def test_tables_have_policies_too(open_store: Callable[..., vs.Store]) -> None:
    store, policy = open_store(), vs.Duplicates(0.9, "merge")
    table = {"id": ["a", "b", "c"], "name": ["x", "y", "z"], "mood": ["glad", "sad", None], "at": np.eye(3)[[0, 0, 1]]}
    assert store.concepts.add(table, vectors="at", duplicates=policy) == ["a", "a", "c"]
    assert store.concepts.get("a").extra == {"mood": "glad"} and store.concepts.get("c").extra == {}
    assert store.concepts.upsert(table, vectors="at", duplicates=policy) == ["a", "a", "c"]
    assert [(d.record, d.other) for d in store.concepts.decisions()] == [("b", "a"), ("b", "a")]


def test_recall_goes_through_the_index(open_store: Callable[..., vs.Store]) -> None:
    data = clustered(2000, 16)
    store = open_store()
    filled(store, data)
    store.rebuild("concepts", vs.IndexRecipe("t", "LSH256rt", ({"candidates": 300},), min_recall=0))
    with mock.patch.object(vs.vectors.live.Live, "_through_index", autospec=True, side_effect=AssertionError("index")):
        exact = store.concepts.add({"id": "a", "name": "x"}, vectors=data[:1], duplicates=vs.Duplicates(0.99, "reject"))
        with pytest.raises(AssertionError, match="index"):
            policy = vs.Duplicates(0.99, "reject", recall=0.5)
            store.concepts.add({"id": "b", "name": "x"}, vectors=data[:1], duplicates=policy)
    assert exact == ["c0"]
    policy = vs.Duplicates(0.99, "reject", recall=0.5)
    assert store.concepts.add({"id": "b", "name": "x"}, vectors=data[:1], duplicates=policy) == ["c0"]


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"threshold": float("nan")}, "threshold: expected a finite number, got nan"),
        ({"threshold": "high"}, "threshold: expected a finite number, got 'high'"),
        ({"threshold": True}, "threshold: expected a finite number, got True"),
        ({"action": "drop"}, "action: expected keep, reject, merge or link, got 'drop'"),
        ({"recall": 1.5}, "recall: expected 0..1, got 1.5"),
    ],
)
def test_a_bad_policy_is_refused(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message.replace(".", r"\.")):
        vs.Duplicates(**attributes)


def test_a_policy_is_an_object(open_store: Callable[..., vs.Store]) -> None:
    with pytest.raises(vs.ValidationError, match=r"duplicates: expected a vs\.Duplicates, got 'reject'"):
        open_store().concepts.add([], duplicates="reject")  # type: ignore[arg-type]


def test_errors_are_those_of_a_call_without_a_policy(store: vs.Store) -> None:
    concepts, policy = texts_in(store), vs.Duplicates(0.9, "reject")
    before = store._sync.catalog.seq(store._catalog._readers.mine())
    for records, vectors, error, message in [
        (
            [{"name": "a"}, {"name": "b", "quality": 7}],
            None,
            vs.ValidationError,
            r"concepts\[1\].quality: expected 0..1",
        ),
        (["text"], None, vs.ValidationError, r"concepts\[0\]: expected a Concept or a mapping, got str"),
        ([{"id": "t1", "name": "something else"}], None, vs.DuplicateId, "'t1' exists already"),
        ([{"name": "a"}], np.ones((2, 64)), vs.ValidationError, "concepts.vectors: 2 vectors for 1 records"),
        ([{"name": "a"}], np.ones((1, 3)), vs.DimensionError, "concepts.vectors: expected 64 dimensions, got 3"),
        ([{"name": "a", "context": "x" * 256}], None, vs.ValidationError, "an id has 1..255 characters"),
    ]:
        with pytest.raises(error, match=message):
            concepts.add(records, vectors=vectors, duplicates=policy)
    assert store._sync.catalog.seq(store._catalog._readers.mine()) == before
    assert len(concepts) == 3 and concepts.decisions() == []


def test_a_failed_write_leaves_no_decision(store: vs.Store) -> None:
    concepts = texts_in(store)
    with pytest.raises(ZeroDivisionError), store.transaction():
        assert concepts.add({"id": "a", "name": TEXTS[0]}, duplicates=vs.Duplicates(0.9)) == ["a"]
        assert concepts.add({"id": "b", "name": TEXTS[0]}, duplicates=vs.Duplicates(0.9, "reject")) == ["t0"]
        assert len(concepts.decisions()) == 2
        raise ZeroDivisionError
    assert concepts.decisions() == [] and len(concepts) == 3


def test_nothing_is_embedded_twice_and_nothing_under_the_lock(tmp_path: Path) -> None:
    plain, seen = vs.HashEmbedder(64).embed, []
    with vs.open(tmp_path / "kb", embedder="hash:64") as store:
        texts_in(store)

        def embed(texts: Any, **options: Any) -> Any:
            assert not store._catalog.in_transaction
            seen.extend(texts)
            return plain(texts)

        with mock.patch.object(vs.HashEmbedder, "embed", side_effect=embed):
            records = [
                {"id": "a", "name": "new words"},
                {"id": "b", "name": TEXTS[1]},
                {"id": "c", "name": "new words"},
            ]
            with mock.patch.object(Deduplicator, "_verify", autospec=True, side_effect=[raced(), raced(), None]):
                ids = store.concepts.add(records, duplicates=vs.Duplicates(0.99, "reject"))
    assert ids == ["a", "t1", "a"]
    assert [text for text in seen if text == "new words"] == ["new words"]


def raced() -> Exception:
    from vectorstore.writing import Raced

    return Raced()


# -- races -------------------------------------------------------------------------------------------------------------


def while_deciding(change: Callable[[], Any]) -> Any:
    """Runs the change once, between the comparison and the transaction."""
    decide, changes = Deduplicator._decide, [change]

    def slow(self: Any, *args: Any) -> Any:
        outcome = decide(self, *args)
        if changes:
            changes.pop()()
        return outcome

    return mock.patch.object(Deduplicator, "_decide", slow)


@pytest.mark.parametrize("action", ["keep", "reject", "merge", "link"])
@pytest.mark.parametrize("first", [True, False])
def test_a_twin_that_another_writer_adds_meanwhile_is_met(
    open_store: Callable[..., vs.Store], action: Any, first: bool
) -> None:
    store, other = open_store(), open_store()
    if not first:
        filled(store, np.eye(3, dtype=np.float32)[:2])
    vector = [[0.0, 0.0, 1.0]]
    with while_deciding(lambda: other.concepts.add({"id": "twin", "name": "x"}, vectors=vector)):
        ids = store.concepts.add({"id": "new", "name": "x"}, vectors=vector, duplicates=vs.Duplicates(0.9, action))
    assert ids == (["twin"] if action in ("reject", "merge") else ["new"])
    assert [(d.record, d.other) for d in store.concepts.decisions()] == [("new", "twin")]
    assert store.check().findings == ()


@pytest.mark.parametrize("action", ["keep", "reject", "merge", "link"])
@pytest.mark.parametrize("how", ["delete", "purge", "replace"])
def test_a_twin_that_goes_meanwhile_decides_nothing(open_store: Callable[..., vs.Store], action: Any, how: str) -> None:
    store, other = open_store(), open_store()
    data = np.eye(3, dtype=np.float32)
    filled(store, data)

    def go() -> None:
        if how == "replace":
            other.concepts.upsert({"id": "c1", "name": "x"}, vectors=-data[1:2])
            return
        other.concepts.delete("c1")
        if how == "purge":
            other.concepts.purge("c1")

    with while_deciding(go):
        ids = store.concepts.add({"id": "n", "name": "x"}, vectors=data[1:2], duplicates=vs.Duplicates(0.9, action))
    assert ids == ["n"] and store.concepts.decisions() == []
    assert store.check().findings == ()


def test_other_changes_meanwhile_do_not_make_it_begin_again(open_store: Callable[..., vs.Store]) -> None:
    store, other = open_store(), open_store()
    data = np.eye(4, dtype=np.float32)
    filled(store, data[:3])
    turns = []

    def change() -> None:
        turns.append(1)
        other.concepts.add({"id": "far", "name": "x"}, vectors=data[3:])
        other.concepts.update({"id": "c1", "domain": "changed"})
        other.flush()
        other.contexts.add({"name": "elsewhere"})

    with while_deciding(change), mock.patch.object(Deduplicator, "_look", wraps=None, autospec=True) as look:
        look.side_effect = LOOK
        policy = vs.Duplicates(0.9, "reject")
        assert store.concepts.add({"id": "n", "name": "x"}, vectors=data[1:2], duplicates=policy) == ["c1"]
    assert turns == [1] and look.call_count == 1


LOOK = Deduplicator._look


def test_a_merge_meets_a_change_of_the_record_that_is_there(open_store: Callable[..., vs.Store]) -> None:
    store, other = open_store(), open_store()
    data = np.eye(2, dtype=np.float32)
    filled(store, data)
    with while_deciding(lambda: other.concepts.update({"id": "c1", "definition": "theirs"})):
        record = {"id": "n", "name": "x", "definition": "ours", "synset": "s"}
        assert store.concepts.add(record, vectors=data[1:], duplicates=vs.Duplicates(0.9, "merge")) == ["c1"]
    merged = store.concepts.get("c1")
    assert (merged.definition, merged.synset, merged.version) == ("theirs", "s", 3)


def test_an_id_that_appears_meanwhile_is_replaced_by_an_upsert(open_store: Callable[..., vs.Store]) -> None:
    store, other = open_store(), open_store()
    data = np.eye(3, dtype=np.float32)
    filled(store, data[:2])
    with while_deciding(lambda: other.concepts.add({"id": "n", "name": "x"}, vectors=data[2:])):
        policy = vs.Duplicates(0.9, "reject")
        assert store.concepts.upsert({"id": "n", "name": "y"}, vectors=data[1:2], duplicates=policy) == ["n"]
    assert store.concepts.get("n").version == 2


def ingest(root: Path, number: int, texts: list[str], action: Any, results: Any) -> None:
    """One at a time, as a service would."""
    with vs.open(root, embedder="hash:64", auto_publish=False) as store:
        policy = vs.Duplicates(0.999, action)
        ids = [
            store.concepts.add({"id": f"w{number}-{n}", "name": text, "tags": [f"w{number}"]}, duplicates=policy)[0]
            for n, text in enumerate(texts)
        ]
        results.put((number, ids))


@pytest.mark.parametrize("action", ["reject", "merge"])
def test_two_processes_never_add_both_of_two_twins(tmp_path: Path, action: str) -> None:
    texts = [f"text number {n} of {n * 7919 % 1000}" for n in range(60)]
    vs.open(tmp_path / "kb", embedder="hash:64").close()
    results = PROCESSES.Queue()
    children = [
        PROCESSES.Process(target=ingest, args=(tmp_path / "kb", number, texts, action, results), daemon=True)
        for number in range(2)
    ]
    for child in children:
        child.start()
    ids = dict(results.get(timeout=120) for _ in children)
    for child in children:
        child.join(30)
    with vs.open(tmp_path / "kb", embedder="hash:64") as store:
        assert sorted(one.name for one in store.concepts) == sorted(texts)
        assert ids[0] == ids[1], "both were told the same ids"
        decisions = store.concepts.decisions()
        assert len(decisions) == len(texts) and {d.action for d in decisions} == {action}
        assert {d.other for d in decisions} == {one.id for one in store.concepts}
        if action == "merge":
            assert {tuple(sorted(one.tags)) for one in store.concepts} == {("w0", "w1")}
            assert {one.version for one in store.concepts} == {2}
        assert list(store.concepts.duplicates(0.999)) == []
        assert store.check().findings == ()


# -- erasure and proof -------------------------------------------------------------------------------------------------


def catalog_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("catalog.sqlite*")))


@pytest.mark.parametrize("side", ["record", "other"])
def test_a_purge_erases_the_decisions_that_name_the_record(
    open_store: Callable[..., vs.Store], tmp_path: Path, side: str
) -> None:
    store = open_store(embedder="hash:64")
    secret, plain = "person:jane.doe.1987", "someone"
    ids = [secret, plain] if side == "other" else [plain, secret]
    for name in ids:
        store.concepts.add({"id": name, "name": "the same text"}, duplicates=vs.Duplicates(0.9, "link"))
    store.concepts.add({"id": "third", "name": "the same text"}, duplicates=vs.Duplicates(0.9, "link"))
    store.concepts.add({"id": "else", "name": "quite different words"}, duplicates=vs.Duplicates(0.9, "link"))
    assert len(store.concepts.decisions()) == 2
    store.concepts.delete(secret)
    assert len(store.concepts.decisions(secret)) == (2 if side == "other" else 1), "it may be restored"
    store._catalog.checkpoint()
    assert secret.encode() in catalog_bytes(tmp_path / "kb")
    store.concepts.purge(secret)
    assert store.concepts.decisions(secret) == []
    assert len(store.concepts.decisions()) == (0 if side == "other" else 1)
    assert store.check().findings == ()
    store.close()
    assert secret.encode() not in catalog_bytes(tmp_path / "kb")


def test_check_finds_decisions_that_name_nobody(open_store: Callable[..., vs.Store], tmp_path: Path) -> None:
    store = open_store(embedder="hash:64")
    texts_in(store)
    for action in ("keep", "link", "reject", "merge"):
        record = {"id": f"new-{action}", "name": TEXTS[0]}
        store.concepts.add(record, duplicates=vs.Duplicates(0.9, action))  # type: ignore[arg-type]
    assert store.check().findings == (), "what was not added need not be there"
    store.close()
    with sqlite3.connect(tmp_path / "kb" / "catalog.sqlite") as connection:
        connection.execute("UPDATE decisions SET other = 'ghost' WHERE action = 'reject'")
        connection.execute("UPDATE decisions SET record = 'spirit' WHERE action = 'link'")
        connection.execute("UPDATE decisions SET record = 'anything' WHERE action = 'merge'")
    connection.close()
    with vs.open(tmp_path / "kb", embedder="hash:64") as store:
        found = {str(finding) for finding in store.check().findings}
    assert len(found) == 2
    assert any("decisions row 3: names concepts 'ghost', which is not there" in line for line in found)
    assert any("decisions row 2: names concepts 'spirit', which is not there" in line for line in found)


class Note(vs.Record, table="notes"):
    body: Annotated[str, vs.EMBEDDED] = ""
    number: Annotated[str | None, vs.UNIQUE] = None


def test_a_kind_of_ones_own_has_policies_too(tmp_path: Path, clock: Any) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:64", kinds=[Note], clock=clock) as store:
        notes, policy = store.collection(Note), vs.Duplicates(0.9, "merge")
        (first,) = notes.add({"body": "buy milk"}, duplicates=policy)
        assert notes.add(Note(body="buy milk", number="7"), duplicates=policy) == [first]
        assert notes.get(first).number == "7"
        with pytest.raises(vs.ConflictError, match="notes.number"):
            notes.add([Note(body="call home", number="7")], duplicates=policy)
        assert len(notes) == 1 and len(notes.decisions()) == 1
        assert store.check().findings == ()


def test_a_purge_of_the_retention_erases_too(tmp_path: Path, clock: Any) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:64", clock=clock) as store:
        concepts = texts_in(store)
        concepts.add({"id": "n", "name": TEXTS[2]}, duplicates=vs.Duplicates(0.9))
        concepts.delete("n")
        clock.move(days=31)
        assert concepts.purge(older_than=timedelta(days=30)) == 1
        assert concepts.decisions() == []
