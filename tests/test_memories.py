"""Memories: tiers, access, recall by salience against brute force, retention, promotion, erasure."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import Clock, brute_force, clustered, queries_like

import vectorstore as vs
from vectorstore.errors import ConflictError

Opener = Callable[..., vs.Store]
FACTS = [  # what the example of the source system holds: tiers 1..12 with importance 0.5 + 0.04 x tier
    {
        "id": f"mem-{tier:03}",
        "content": f"memory of tier {tier}",
        "tier": tier,
        "importance": round(0.5 + 0.04 * tier, 2),
    }
    for tier in range(1, 13)
]


def add(store: vs.Store, *memories: dict[str, object]) -> list[str]:
    return store.memories.add([{"content": f"memory {n}", **memory} for n, memory in enumerate(memories)])


# -- the record --------------------------------------------------------------------------------------------------------


def test_a_memory_comes_back_as_it_went_in(store: vs.Store) -> None:
    """4c memory round-trip; O9: there is one place for its vector, the space."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    given = vs.Memory(
        id="mem-001",
        content="Important discovery about neural architectures",
        tier=4,
        importance=0.95,
        last_accessed=at,
        access_count=7,
        tags=("discovery",),
    )
    store.memories.add(given)

    found = store.memories.get("mem-001")
    assert found is not None
    assert found.model_dump(exclude={"created_at", "updated_at"}) == given.model_dump(
        exclude={"created_at", "updated_at"}
    )
    assert store.memories.get("mem-002") is None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("tier", 0, r"memories\[0\].tier: expected at least 1, got 0"),
        ("tier", 13, r"memories\[0\].tier: expected at most 12, got 13"),
        ("tier", "4", "a whole number"),
        ("importance", 1.01, r"memories\[0\].importance: expected 0..1, got 1.01"),
        ("importance", -0.1, "0..1"),
        ("importance", float("nan"), "0..1|finite"),
        ("content", " ", "content"),
        ("access_count", -1, "at least 0"),
    ],
)
def test_what_is_out_of_range_is_refused(store: vs.Store, field: str, value: object, said: str) -> None:
    """O7: tier and importance are checked, NaN has a message of its own; O6: of one type of error."""
    with pytest.raises(vs.ValidationError, match=said):
        store.memories.add({"content": "x", field: value})
    assert len(store.memories) == 0


def test_a_tier_lists_its_memories_the_most_important_first_ties_by_id_a_page_at_a_time(store: vs.Store) -> None:
    """4c tier query; O12: ties are ordered and lists have a limit."""
    add(store, *({"id": f"a{n}", "tier": 1, "importance": [0.2, 0.9, 0.5][n]} for n in range(3)))
    add(store, *({"id": f"b{9 - n}", "tier": 2, "importance": 0.5} for n in range(5)))

    assert [memory.id for memory in store.memories.in_tier(1)] == ["a1", "a2", "a0"]
    assert [memory.id for memory in store.memories.in_tier("session")] == ["b5", "b6", "b7", "b8", "b9"]
    first = store.memories.in_tier(2, limit=2)
    last = first[-1]
    after = {"or": [{"importance__lt": last.importance}, {"importance": last.importance, "id__gt": last.id}]}
    assert [memory.id for memory in first + store.memories.in_tier(2, where=after)] == ["b5", "b6", "b7", "b8", "b9"]


def test_vectors_come_as_numbers_or_bytes_of_the_right_length_and_are_found(open_store: Opener) -> None:
    """4c vector: 768 dimensions, 3072 bytes back; O7: dimension against length; O10: they are searched."""
    store = open_store()
    data = clustered(5, 768, seed=1)
    blobs = [row.astype("<f4").tobytes() for row in data]
    assert {len(blob) for blob in blobs} == {3072}
    store.memories.add([{"id": f"m{n}", "content": f"text {n}"} for n in range(5)], vectors=blobs)

    assert [row.astype("<f4").tobytes() for row in store.memories.vectors([f"m{n}" for n in range(5)])] == blobs
    assert store.memories.search(blobs[3], k=1).ids == ["m3"]
    info = store.memories.vector_info("m3")
    assert info is not None and (info.dim, info.metric) == (768, "cosine")
    for bad, said in (
        (blobs[0][:-1], "3071 bytes"),
        (blobs[0][:-4], "expected 768 dimensions, got 767"),
        (b"", "0 bytes"),
    ):
        with pytest.raises(vs.DimensionError, match=said):
            store.memories.add({"content": "bad"}, vectors=[bad])
    assert len(store.memories) == 5


def test_one_bad_row_of_ten_thousand_leaves_none_and_so_do_two_kinds_in_one_transaction(store: vs.Store) -> None:
    """O4: there are transactions, over one call and over several."""
    rows: list[dict[str, object]] = [{"id": f"m{n}", "content": f"text {n}"} for n in range(10_000)]
    rows[7_777]["importance"] = 1.5
    with pytest.raises(vs.ValidationError, match=r"memories\[7777\].importance"):
        store.memories.add(rows)
    assert len(store.memories) == 0
    with pytest.raises(vs.ValidationError, match=r"causes\[0\].target"), store.transaction():
        add(store, {"id": "a"})
        store.causes.add({"source": "a", "target": "nowhere"})
    assert len(store.memories) == 0


# -- access ------------------------------------------------------------------------------------------------------------


def test_a_use_raises_count_and_time_and_nothing_else(store: vs.Store, clock: Clock) -> None:
    """4c access update; O14: the time never goes back."""
    add(store, {"id": "a", "tags": ["t"]}, {"id": "b"})
    before = store.memories.get("a")
    assert before is not None and before.last_accessed is None
    vids = store._catalog.newest("SELECT count(*) || max(vid) FROM vectors")
    clock.move(hours=1)
    assert store.memories.touch(["a", "b", "a"]) == 3
    used = clock.now
    assert store.memories.touch("a", at=used - timedelta(days=9)) == 1

    after = store.memories.get("a")
    assert after is not None and (after.last_accessed, after.access_count) == (used, 3)
    assert after.model_copy(update={"last_accessed": None, "access_count": 0}) == before
    assert [memory.id for memory in store.memories.find(order="-access_count")] == ["a", "b"]
    assert store._catalog.newest("SELECT count(*) || max(vid) FROM vectors") == vids
    with pytest.raises(vs.NotFound, match="'z'"):
        store.memories.touch(["b", "z"])
    assert store.memories.touch([]) == 0
    assert [memory.access_count for memory in store.memories.find({"id": "b"})] == [1]


def test_overwriting_with_an_older_copy_loses_no_access(store: vs.Store, clock: Clock) -> None:
    """O1, O14: storing again is an update, and what only rises does not fall by it."""
    add(store, {"id": "a"}, {"id": "b"})
    old = store.memories.get("a")
    clock.move(hours=1)
    store.memories.touch(["a", "a"])
    store.memories.upsert(old.model_copy(update={"content": "said anew"}))  # type: ignore[union-attr]
    store.memories.update({"id": "a", "importance": 0.9, "access_count": 1})

    found = store.memories.get("a")
    assert found is not None and (found.content, found.importance, found.version) == ("said anew", 0.9, 3)
    assert (found.access_count, found.last_accessed, found.created_at) == (2, clock.now, old.created_at)  # type: ignore[union-attr]
    store.memories.upsert({"id": "a", "content": "imported", "access_count": 40})
    assert store.memories.get("a").access_count == 40  # type: ignore[union-attr]
    store.memories.delete("a")
    store.memories.add({"id": "a", "content": "another life"})
    assert store.memories.get("a").access_count == 0  # type: ignore[union-attr]


def test_uses_of_many_threads_are_all_counted(open_store: Opener) -> None:
    """O13: one store, many threads."""
    from concurrent.futures import ThreadPoolExecutor

    store = open_store(embedder="hash:8")
    add(store, {"id": "a"}, {"id": "b"})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.memories.touch(["a", "b"][n % 2]), range(40)))
    assert [memory.access_count for memory in store.memories] == [20, 20]


# -- recall ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Facts:
    """What the formula needs of every live memory, read through the ordinary verbs."""

    ids: list[str]
    importance: np.ndarray
    used: np.ndarray

    @classmethod
    def of(cls, store: vs.Store, where: vs.Where | None = None) -> Facts:
        memories = list(store.memories.stream(where))
        used = [(memory.last_accessed or memory.created_at).timestamp() for memory in memories]  # type: ignore[union-attr]
        return cls(
            [memory.id for memory in memories], np.array([memory.importance for memory in memories]), np.array(used)
        )

    def best(
        self, store: vs.Store, data: np.ndarray, query: np.ndarray, salience: vs.Salience, now: datetime
    ) -> list[tuple[str, float]]:
        """All by the documented formula, best first, ties by arrival."""
        near = brute_force(query[None], data, store.memories.metric)[0]
        near = (1 / (1 - near) if store.memories.metric == "l2" else near)[[int(id[1:]) for id in self.ids]]
        recency = 0.5 ** (np.maximum(0, now.timestamp() - self.used) / salience.half_life.total_seconds())
        scores = salience.similarity * near + salience.importance * self.importance + salience.recency * recency
        order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
        return [(self.ids[place], float(scores[place])) for place in order]


def brute(
    store: vs.Store, data: np.ndarray, query: np.ndarray, salience: vs.Salience, now: datetime
) -> list[tuple[str, float]]:
    return Facts.of(store).best(store, data, query, salience, now)


def remembered(store: vs.Store, count: int, dim: int, now: datetime, seed: int, *, days: float = 60) -> np.ndarray:
    random = np.random.default_rng(seed)
    data = clustered(count, dim, seed=seed)
    ages = random.uniform(0, days, count)
    rows = [
        {
            "id": f"m{n}",
            "content": f"text {n}",
            "tier": int(random.integers(1, 13)),
            "importance": float(random.integers(0, 101)) / 100,
            "last_accessed": now - timedelta(days=float(ages[n])) if n % 3 else None,
            "created_at": now - timedelta(days=float(ages[n]) + 1),
        }
        for n in range(count)
    ]
    store.memories.add(rows, vectors=data)
    return data


SALIENCES = [
    vs.Salience(),
    vs.Salience(importance=0, recency=0),
    vs.Salience(similarity=1, importance=1, recency=1),
    vs.Salience(similarity=0.1, importance=0, recency=2, half_life=timedelta(hours=3)),
    vs.Salience(similarity=3, importance=0.5, recency=0),
    vs.Salience(similarity=0, importance=1, recency=0.01),
]


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
@pytest.mark.parametrize("indexed", [False, True])
def test_recall_equals_brute_force_over_all_memories(
    open_store: Opener, clock: Clock, metric: str, indexed: bool
) -> None:
    store = open_store(metric={"memories": metric})
    data = remembered(store, 4_000, 32, clock.now, seed=5)
    if indexed:
        store.rebuild("memories")
        assert store.check().findings == ()
    delivered, facts = [], Facts.of(store)
    for salience, query in itertools.product(SALIENCES, queries_like(data, 4, seed=6)):
        expected = facts.best(store, data, query, salience, clock.now)[:10]
        exact = store.memories.recall(query, salience=salience, exact=True)
        assert exact.exact and exact.ids == [id for id, _ in expected]
        assert [hit.score for hit in exact] == pytest.approx([score for _, score in expected], abs=1e-9)
        hits = store.memories.recall(query, salience=salience)
        assert hits.exact or indexed
        delivered.append(len({*hits.ids} & {*exact.ids}) / 10)
        for hit in hits:
            assert set(hit.parts) == {"similarity", "importance", "recency"}
            assert sum(hit.parts.values()) == pytest.approx(hit.score)
    assert np.mean(delivered) >= 0.99


def test_recall_through_the_index_scores_what_is_far_but_important(open_store: Opener, clock: Clock) -> None:
    """Not the nearest re-ranked: the one with all the importance is the farthest of all."""
    store = open_store()
    data = remembered(store, 6_000, 32, clock.now, seed=5)
    store.memories.update([{"id": f"m{n}", "importance": 0.1} for n in range(6_000)])
    query = queries_like(data, 1, seed=7)[0]
    far = f"m{int(np.argmin(brute_force(query[None], data, 'cosine')[0]))}"
    store.memories.update({"id": far, "importance": 1.0})
    store.rebuild("memories")

    salience = vs.Salience(importance=5, recency=0)
    hits = store.memories.recall(query, salience=salience)
    assert hits.ids == [id for id, _ in brute(store, data, query, salience, clock.now)[:10]]
    assert hits.ids[0] == far and hits.plan.name == "index + worth" and hits.plan.scanned < 3_000


def test_without_importance_and_recency_recall_is_the_search(open_store: Opener, clock: Clock) -> None:
    store = open_store()
    data = remembered(store, 2_000, 16, clock.now, seed=8)
    for query in queries_like(data, 5, seed=9):
        plain = store.memories.search(query, exact=True)
        hits = store.memories.recall(query, salience=vs.Salience(importance=0, recency=0), exact=True)
        assert hits.ids == plain.ids and [hit.score for hit in hits] == [hit.score for hit in plain]
        assert [hit.distance for hit in hits] == [hit.distance for hit in plain]


@pytest.mark.parametrize("indexed", [False, True])
def test_recall_within_tiers_and_filters_equals_brute_force(open_store: Opener, clock: Clock, indexed: bool) -> None:
    store = open_store()
    data = remembered(store, 3_000, 32, clock.now, seed=10)
    if indexed:
        store.rebuild("memories")
    store.memories.delete([f"m{n}" for n in range(0, 3_000, 7)])
    for query in queries_like(data, 3, seed=11):
        for tier, levels in (("semantic", [4]), (4, [4]), (["Omega", 1, 2], [12, 1, 2]), (None, list(range(1, 13)))):
            where = {"importance__lt": 0.9}
            facts = Facts.of(store, {"tier__in": levels, **where})
            expected = facts.best(store, data, query, vs.Salience(), clock.now)[:10]
            hits = store.memories.recall(query, tier=tier, where=where, exact=True)  # type: ignore[arg-type]
            assert hits.ids == [id for id, _ in expected]
            assert len(set(store.memories.recall(query, tier=tier, where=where).ids) & set(hits.ids)) >= 9  # type: ignore[arg-type]
    assert store.memories.recall(queries_like(data, 1, seed=1)[0], where={"id": "m0"}).ids == []


def test_recall_sees_every_change_at_once_from_every_handle(open_store: Opener, clock: Clock) -> None:
    """Importance, uses, deletions, new vectors, of this process and another handle; in a transaction, and rolled back."""
    store, other = open_store(), open_store()
    data = remembered(store, 300, 16, clock.now, seed=12)
    query = queries_like(data, 1, seed=13)[0]
    salience = vs.Salience(importance=1, recency=1)

    def agree(reader: vs.Store) -> None:
        expected = brute(reader, data, query, salience, clock.now)[:10]
        assert reader.memories.recall(query, salience=salience).ids == [id for id, _ in expected]

    agree(store)
    agree(other)
    last = brute(store, data, query, salience, clock.now)
    store.memories.update({"id": last[-1][0], "importance": 1.0})
    agree(other)
    clock.move(minutes=5)
    other.memories.touch([last[-1][0], last[-2][0]])
    agree(store)
    store.memories.delete(last[0][0])
    agree(other)
    store.memories.restore(last[0][0])
    agree(other)
    other.concepts.upsert({"name": "elsewhere"}, vectors=[[1.0, 2.0]])
    agree(store)
    data[5] = query
    store.memories.upsert({"id": "m5", "content": "near"}, vectors=data[5:6])
    agree(other)
    with pytest.raises(RuntimeError), store.transaction():
        store.memories.touch([id for id, _ in last[-40:]])
        store.memories.update({"id": last[-5][0], "importance": 1.0})
        agree(store)
        raise RuntimeError
    agree(store)
    agree(other)
    store.memories.delete(last[1][0])
    store.memories.purge(last[1][0])
    agree(store)
    agree(other)


def test_a_recall_can_note_that_its_hits_were_used(
    store: vs.Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.memories.add(
        [{"id": f"m{n}", "content": text} for n, text in enumerate(["red fox", "blue sea", "grey wolf"])]
    )
    clock.move(hours=1)
    assert store.memories.recall("red fox", k=1).ids == ["m0"]
    assert store.memories.get("m0").access_count == 0  # type: ignore[union-attr]
    store.memories.recall("red fox", k=1, touch=True)
    used = store.memories.get("m0")
    assert used is not None and (used.access_count, used.last_accessed) == (1, clock.now)
    assert "m0" not in store.memories.recall(vs.Id("m0"), k=3).ids

    recall = store.memories._recaller.recall

    def and_then_gone(*args: object) -> vs.Hits[vs.Memory]:
        hits = recall(*args)  # type: ignore[arg-type]
        store.memories.delete("m1")
        return hits

    monkeypatch.setattr(store.memories._recaller, "recall", and_then_gone)
    assert store.memories.recall("blue sea", k=3, touch=True).ids[0] == "m1"
    assert [memory.access_count for memory in store.memories] == [2, 1], "what another deletes meanwhile is no error"


def test_bad_arguments_of_recall_are_refused(store: vs.Store) -> None:
    add(store, {"id": "a"})
    for bad in (
        {"k": 0},
        {"recall": 2},
        {"tier": 13},
        {"tier": "Nowhere"},
        {"tier": True},
        {"salience": 1},
        {"where": {"nothing": 1}},
    ):
        with pytest.raises(vs.ValidationError):
            store.memories.recall("x", **bad)  # type: ignore[arg-type]
    for wrong in ({"importance": -1}, {"recency": float("inf")}, {"half_life": timedelta(0)}, {"similarity": True}):
        with pytest.raises(vs.ValidationError, match=f"Salience.{next(iter(wrong))}"):
            vs.Salience(**wrong)  # type: ignore[arg-type]
    with vs.open(":memory:", embedder="hash:8") as empty:
        assert empty.memories.recall("x").hits == ()


# -- the ladder --------------------------------------------------------------------------------------------------------


def test_the_ladder_has_twelve_named_tiers_and_any_can_be_replaced(store: vs.Store) -> None:
    """The name follows from no guess: 4 is Semantic, unless the store says otherwise."""
    names = [tier.name for tier in store.memories.ladder()]
    assert names[:5] == ["Instant", "Session", "Episodic", "Semantic", "Collective"] and names[11] == "Omega"
    assert [tier.scale for tier in vs.LADDER] == ["individual"] * 4 + ["species"] * 4 + ["cosmic"] * 4
    assert [tier.retention_seconds for tier in vs.LADDER[:6]] == [60, 86_400, 2_592_000, 31_536_000, 315_360_000, None]
    assert [tier.promotion for tier in vs.LADDER] == [0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.96, 0.99]

    store.tiers.add([{"level": 4, "name": "Episodic"}, {"level": 3, "name": "Working", "retention_seconds": 3600.0}])
    assert [tier.name for tier in store.memories.ladder()][2:5] == ["Working", "Episodic", "Collective"]
    assert store.memories.level("episodic") == 4
    with pytest.raises(vs.ValidationError, match="3 Working, 4 Episodic, 5 Collective"):
        store.memories.level("semantic")
    with pytest.raises(vs.DuplicateId):
        store.tiers.add({"level": 4, "name": "Other"})
    store.tiers.delete("tier-4")
    assert store.memories.level("Semantic") == 4


def test_what_is_overdue_and_unimportant_is_listed_then_forgotten(store: vs.Store, clock: Clock) -> None:
    """Retention by tier since the last use; what matters, what was used and what a mind holds on to stays."""
    add(
        store,
        {"id": "overdue", "tier": 2, "importance": 0.2},
        {"id": "important", "tier": 2, "importance": 0.5},
        {"id": "used", "tier": 2, "importance": 0.2},
        {"id": "held", "tier": 2, "importance": 0.2},
        {"id": "kept longer", "tier": 3, "importance": 0.0},
        {"id": "for ever", "tier": 6, "importance": 0.0},
        {"id": "instant", "tier": 1, "importance": 0.4},
    )
    store.architectures.add({"id": "arch", "name": "T"})
    store.intelligences.add({"id": "alpha", "name": "Alpha", "architecture": "arch", "memories": ["held"]})
    clock.move(hours=23)
    store.memories.touch("used")
    clock.move(hours=1)

    listed = store.memories.forget()
    assert [memory.id for memory in listed.memories] == ["instant", "overdue"]
    assert (listed.held, listed.deleted, len(store.memories)) == (("held",), False, 7)
    assert [memory.id for memory in store.memories.forget(where={"tier": 1}).memories] == ["instant"]
    assert [memory.id for memory in store.memories.forget(below=0.4).memories] == ["overdue"]
    done = store.memories.forget(dry_run=False)
    assert done.deleted and [memory.id for memory in done.memories] == ["instant", "overdue"]
    assert store.memories.get("overdue") is None and len(store.memories) == 5
    assert store.memories.forget().memories == ()
    assert store.memories.restore("overdue") == 1
    clock.move(days=3650)
    assert {memory.id for memory in store.memories.forget().memories} == {"overdue", "used", "kept longer"}
    with pytest.raises(vs.ValidationError, match="below"):
        store.memories.forget(below=2)


def test_promotion_goes_upward_only_at_the_threshold_and_adds_a_tenth_up_to_one(store: vs.Store) -> None:
    add(
        store,
        {"id": "below", "tier": 3, "importance": 0.49},
        {"id": "at", "tier": 3, "importance": 0.5},
        {"id": "capped", "tier": 10, "importance": 0.97},
        {"id": "top", "tier": 12, "importance": 1.0},
        {"id": "low", "tier": 1, "importance": 1.0},
    )
    before = store.memories.get("at")
    vids = store._catalog.newest("SELECT max(vid) FROM vectors")
    listed = store.memories.promote()
    assert [(each.id, each.former_tier, each.tier) for each in listed] == [
        ("at", 3, 4),
        ("capped", 10, 11),
        ("low", 1, 2),
    ]
    assert store.memories.get("at") == before

    assert store.memories.promote(dry_run=False) == listed
    tiers = {memory.id: (memory.tier, round(memory.importance, 6)) for memory in store.memories}
    assert tiers == {"below": (3, 0.49), "at": (4, 0.55), "capped": (11, 1.0), "top": (12, 1.0), "low": (2, 1.0)}
    assert store._catalog.newest("SELECT max(vid) FROM vectors") == vids  # the text is the same, so is the vector
    assert [each.id for each in store.memories.promote(to="semantic", dry_run=False)] == ["low"]
    assert store.memories.get("low").tier == 4  # type: ignore[union-attr]
    assert store.memories.promote(to=2) == []  # nothing ever falls


# -- erasure -----------------------------------------------------------------------------------------------------------


def test_a_memory_goes_with_its_vector_episodes_edges_and_index_entry_and_the_purge_counts_them(
    open_store: Opener, tmp_path: Path
) -> None:
    """O1, O4: storing again keeps the children, deleting hides them, purging erases them, and says how many."""
    store = open_store(embedder="hash:16")
    store.memories.add([{"id": f"m{n}", "content": f"memory {n}"} for n in range(1_200)])
    store.memories.add({"id": "secret", "content": "xyzzy plugh"})
    store.episodes.add([{"memory": "secret", "trigger": "xyzzy", "outcome": "plover"} for _ in range(3)])
    store.episodes.add({"memory": "m1", "trigger": "other"})
    store.causes.add([{"source": "secret", "target": f"m{n}"} for n in range(4)])
    store.causes.add([{"source": "m7", "target": "secret"}, {"source": "secret", "target": "secret"}])
    store.causes.add({"source": "m1", "target": "m2"})
    store.flush()
    store.rebuild("memories", "hnsw32")

    store.memories.upsert({"id": "secret", "content": "xyzzy plugh", "importance": 0.8})
    assert (len(store.episodes), len(store.causes)) == (4, 7)
    assert store.memories.delete("secret") == 1
    assert (len(store.episodes), len(store.causes), store.memories.get("secret")) == (1, 1, None)
    assert store.memories.restore("secret") == 1
    assert (len(store.episodes), len(store.causes)) == (4, 7)
    store.memories.delete("secret")
    purged = store.memories.purge("secret")
    assert purged == 1 and purged.records == {"memories": 1, "episodes": 3, "causes": 6}
    assert purged.vectors == {"memories": 1, "episodes": 3}
    assert store.memories.purge("secret") == 0
    assert store.check().findings == () and store.memories.recall("xyzzy plugh", k=1).ids != ["secret"]
    store.close()
    for path in (tmp_path / "kb").rglob("*"):
        if path.is_file():
            assert b"plugh" not in path.read_bytes() and b"plover" not in path.read_bytes()


def test_a_memory_that_a_mind_lists_is_not_purged_under_it(store: vs.Store) -> None:
    """O11: the list of memories has integrity."""
    add(store, {"id": "a"}, {"id": "b"})
    store.architectures.add({"id": "arch", "name": "T"})
    store.intelligences.add({"id": "alpha", "name": "Alpha", "architecture": "arch", "memories": ["a"]})
    with pytest.raises(vs.ValidationError, match=r"intelligences\[0\].memories: .* 'nowhere'"):
        store.intelligences.update({"id": "alpha", "memories": ["a", "nowhere"]})
    store.memories.delete("a")
    with pytest.raises(ConflictError):
        store.memories.purge("a")
    assert store.memories.restore("a") == 1


def test_counts_of_every_kind_are_in_the_statistics(store: vs.Store) -> None:
    """4c statistics: 1 memory, 1 skill, 0 others; O6: vectors and episodes are counted too; O15: kinds are recorded."""
    add(store, {"id": "a"})
    store.skills.add({"name": "code_review"})
    kinds = store.stats()["kinds"]
    counted = {name: kinds[name]["records"] for name in ("memories", "skills", "architectures", "episodes", "causes")}
    assert counted == {"memories": 1, "skills": 1, "architectures": 0, "episodes": 0, "causes": 0}


def test_a_workflow_that_is_rolled_back_takes_no_use_away(store: vs.Store, clock: Clock) -> None:
    """O14: uses that were noted meanwhile stay, and recall ranks by what came back."""
    add(store, {"id": "a", "importance": 0.2})
    flow = store.workflows.update("memories", [{"id": "a", "importance": 1.0}])
    store.workflows.process(flow.id)
    assert store.memories.recall("memory 0")[0].parts["importance"] == 0.25
    clock.move(hours=1)
    store.memories.touch("a")
    store.workflows.rollback(flow.id)
    found = store.memories.get("a")
    assert found is not None and (found.importance, found.access_count, found.last_accessed) == (0.2, 1, clock.now)
    assert store.memories.recall("memory 0")[0].parts["importance"] == 0.05


def test_a_recall_of_an_earlier_moment_ranks_by_what_was_known_then(open_store: Opener, clock: Clock) -> None:
    store = open_store(embedder="hash:16")
    store.history = "30 days"
    add(store, {"id": "a", "importance": 0.2}, {"id": "b", "importance": 0.4})
    seq = store.moment.seq
    clock.move(hours=1)
    store.memories.touch(["a"])
    store.memories.update({"id": "a", "importance": 1.0})
    with store.as_of(seq) as then:
        old = then.memories.get("a")
        assert old is not None and (old.importance, old.access_count, old.last_accessed) == (0.2, 0, None)
        parts = {hit.id: hit.parts["importance"] for hit in then.memories.recall("memory 0")}
        assert parts == {"a": pytest.approx(0.05), "b": pytest.approx(0.1)}
        assert then.check().findings == ()
