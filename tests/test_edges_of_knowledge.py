"""Knowledge at its edges: odd input, other metrics, writers in between, and what a newcomer gets wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Clock, Matrix
from vectorstore import clusters as engine
from vectorstore.reason import analogies as analogies_module
from vectorstore.reason import relating
from vectorstore.reason.algebra import unit
from vectorstore.reason.discovery import agreement
from vectorstore.vectors import as_unit

Fill = Callable[..., vs.Store]


def grid(rows: int = 40, dim: int = 8, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)


def filled(store: vs.Store, vectors: Matrix) -> vs.Store:
    half = len(vectors) // 2
    store.concepts.add(
        [{"id": f"n{n}", "name": f"n{n}", "domain": "left" if n < half else "right"} for n in range(len(vectors))],
        vectors=vectors,
    )
    return store


# -- other metrics, zero vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["ip", "l2"])
def test_zero_vectors_are_like_nothing_and_break_nothing(open_store: Fill, metric: str) -> None:
    vectors = grid()
    vectors[[0, 25]] = 0
    store = filled(open_store(metric=metric), vectors)
    words = vs.Words(store.concepts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = store.analogies.complete("n0", "n1", "n2", k=3)
        found = store.analogies.discover("left", "right", 0.0)
        store.clusters.fit(n=3)
        assert words.similarity("n0", "n1") == 0.0 and not words["n0"].any()
        scores = [score for _, score in words.most_similar("n0", topn=5)]
        assert words.n_similarity(["n0"], ["n1"]) == 0.0
    wanted = vectors[1].astype(np.float64) + vectors[2]
    nearness = vectors @ wanted if metric == "ip" else -np.linalg.norm(vectors - wanted, axis=1)
    nearness[:3] = -np.inf
    assert [hit.record.id for hit in answer] == [f"n{n}" for n in np.argsort(-nearness, kind="stable")[:3]]
    assert found is not None and found.quality is not None and 0 < found.quality <= 1
    assert all(one.semantic == 0.0 for one in found.evidence if one.source == "n0" or one.target == "n25")
    assert all(0 <= one.semantic <= 1 and 0 <= one.structural <= 1 for one in found.evidence)
    assert scores == [0.0] * 5


def test_words_that_cancel_out_are_near_to_nothing() -> None:
    with vs.open(":memory:", embedder=None) as store:
        words = vs.Words(filled(store, grid()).concepts)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert {score for _, score in words.most_similar(["n1"], ["n1"])} == {0.0}
        assert words.most_similar(["n1", "n2", "n3"], topn=-1) == []
        with pytest.raises(vs.ValidationError, match=r"pairs with a number as weight, got \('n5', 'n6'\)"):
            words.most_similar([("n5", "n6")])


def test_scaling_by_blocks_is_the_whole() -> None:
    rows = np.random.default_rng(1).standard_normal((20_000, 3)).astype(np.float32)
    rows[5] = 0
    lengths = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
    lengths[5] = 1
    assert np.array_equal(as_unit(rows), (rows / lengths[:, None]).astype(np.float32))


def test_agreement_by_blocks_is_that_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    from vectorstore.reason import discovery

    x, y = unit(grid(23, 5, 1)), unit(grid(23, 5, 2))
    x[3] = 0
    whole = agreement(x, y)
    monkeypatch.setattr(discovery, "_BLOCK_NUMBERS", 23 * 4)
    assert np.allclose(agreement(x, y), whole, atol=1e-12)
    brute = [
        np.mean(
            [
                (x[i] - x[k]) @ (y[i] - y[k]) / (np.linalg.norm(x[i] - x[k]) * np.linalg.norm(y[i] - y[k]))
                for k in range(23)
                if k != i
            ]
        )
        for i in range(23)
    ]
    assert np.allclose(whole, brute, atol=1e-9)


# -- words -------------------------------------------------------------------------------------------------------------


def test_a_commit_that_changes_no_word_reads_no_vector_again(open_store: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    store = filled(open_store(), grid())
    words = vs.Words(store.concepts)
    before = words.most_similar("n1")
    rows = words._now().unit
    store.contexts.add(vs.Context(name="elsewhere"))
    assert words.most_similar("n1") == before and words._now().unit is rows
    store.concepts.update({"id": "n2", "name": "renamed"}, vectors=store.concepts.vectors(["n2"]))
    assert "renamed" in words and "n2" not in words
    store.concepts.delete("n3")
    assert len(words) == 39 and "n3" not in words and words._now().unit is not rows


# -- names -------------------------------------------------------------------------------------------------------------


def test_who_is_called_so_comes_before_who_is_also_called_so(store: vs.Store) -> None:
    store.contexts.add([vs.Context(name="top"), vs.Context(name="below", parent="top")])
    store.concepts.add(
        [
            vs.Concept(name="baron", lemmas=("baron", "king"), definition="a magnate"),
            vs.Concept(name="king", definition="a ruler"),
            vs.Concept(name="Pharaoh", lemmas=("king",), context="below"),
            vs.Concept(name="King", context="top"),
        ]
    )
    assert [one.id for one in store.concepts.senses("king")] == [
        "default:king",
        "top:king",
        "default:baron",
        "below:pharaoh",
    ]
    assert store.concepts.resolve("king").id == "default:king"
    assert [one.id for one in store.concepts.lookup("king", context="below")] == ["below:pharaoh", "top:king"]


@pytest.mark.parametrize("text", ["\ud800", "half a pair \udc00 inside"])
def test_text_that_is_no_unicode_is_refused_and_named(store: vs.Store, text: str) -> None:
    with pytest.raises(vs.ValidationError, match=r"analogies\[0\]\.a: .*lone surrogate"):
        store.analogies.add({"a": text})
    with pytest.raises(vs.ValidationError, match=r"concepts\[1\]\.definition: .*lone surrogate"):
        store.concepts.add([vs.Concept(name="fine"), vs.Concept(name="bad", definition=text)])
    with pytest.raises(vs.ValidationError, match=r"concepts\[0\]\.extra: .*lone surrogate"):
        store.concepts.add({"name": "bad", "more": {"deep": [text]}})
    with pytest.raises(vs.ValidationError, match=r"concepts\[0\]\.lemmas"):
        store.concepts.add({"name": "bad", "lemmas": [text]})
    assert len(store.concepts) == len(store.analogies) == 0


# -- analogies ---------------------------------------------------------------------------------------------------------


def test_each_pair_of_domains_has_a_discovery_of_its_own(open_store: Fill) -> None:
    long = "d" * 260
    pairs = [("x:y", "z"), ("x", "y:z"), ("X", "z"), ("x", "z"), (long + "1", "z"), (long + "2", "z"), ("a/b", "z"),
             ("a_b", "z"), ("a\tb", "z"), ("a\x07b", "z")]  # fmt: skip
    domains = sorted({domain for pair in pairs for domain in pair})
    store = open_store()
    vectors = np.abs(grid(len(domains)))
    store.concepts.add(
        [{"id": f"c{n}", "name": f"c{n}", "domain": domain} for n, domain in enumerate(domains)], vectors=vectors
    )
    for source, target in pairs:
        assert store.analogies.discover(source, target, 0.0) is not None
    found = {
        (one.source_domain, one.target_domain): one.id for one in store.analogies.find({"tags__has": "discovered"})
    }
    assert found.keys() == set(pairs) and len(set(found.values())) == len(pairs)
    assert found["x", "z"] == "discovered:default:x:z"
    assert store.analogies.discover("X", "z", 0.0) is not None and len(store.analogies) == len(pairs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pairs": 0}, "pairs: expected a whole number of at least 1, got 0"),
        ({"pairs": -1}, "pairs: expected a whole number of at least 1"),
        ({"pairs": 1.5}, "pairs: expected a whole number of at least 1"),
        ({"source": None}, "source: expected a domain, got None"),
        ({"target": ""}, "target: expected a domain, got ''"),
    ],
)
def test_bad_discoveries_are_refused(open_store: Fill, arguments: dict[str, Any], message: str) -> None:
    store = filled(open_store(), grid())
    with pytest.raises(vs.ValidationError, match=message):
        store.analogies.discover(**{"source": "left", "target": "right", "min_quality": 0.0, **arguments})


def test_what_is_no_question_says_so(store: vs.Store) -> None:
    store.concepts.add([vs.Concept(name=name) for name in ("one", "two", "three")])
    store.analogies.add({"a": "  ", "b": "one", "c": "two", "d": "three"})
    for term in ("", "  ", None, 7):
        with pytest.raises(vs.ValidationError, match="term: expected a name or an Id|analogies.mapping: expected"):
            store.analogies.mapping(term)  # type: ignore[arg-type]
    for part in (None, 5, 1.5, True):
        with pytest.raises(vs.ValidationError, match=r"complete: b: expected an id, a name, a record or a vector"):
            store.analogies.complete("one", part, "two")
    for k in (0, -1, 2.5, "3", True):
        with pytest.raises(vs.ValidationError, match=r"k: expected a whole number of at least 1"):
            store.analogies.retrieve("a text", k)  # type: ignore[arg-type]


def test_relations_follow_what_others_write_meanwhile(open_store: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = grid()
    store = filled(open_store(), vectors)
    bound = [{"id": f"a{n}", "a": "n1", "b": "n2"} for n in range(3)]
    store.analogies.add(bound, vectors=grid(3))
    original = relating.relations

    def slow(*arguments: Any) -> Any:
        made = original(*arguments)
        monkeypatch.setattr(analogies_module, "relations", original)
        store.analogies.update({"id": "a0", "b": "n3"}, vectors=grid(1))
        store.analogies.delete("a1")
        return made

    monkeypatch.setattr(analogies_module, "relations", slow)
    report = store.analogies.relate()
    assert (report.written, report.unchanged, report.unresolved) == (("a0", "a2"), (), ())
    for name, end in (("a0", 3), ("a2", 2)):
        offset = unit(vectors[end]) - unit(vectors[1])
        assert np.allclose(store.analogies.vectors([name], space="relation")[0], offset, atol=1e-6)
    assert store.check().findings == () and store.check().litter == ()


# -- frames ------------------------------------------------------------------------------------------------------------


def test_bind_takes_names_and_says_what_it_does_not_take(store: vs.Store) -> None:
    elements = [vs.FrameElement(name="Agent", type="core"), vs.FrameElement(name="Patient", type="peripheral")]
    store.frames.add(vs.Frame(name="Acting", elements=tuple(elements)))
    made = store.instances.bind("Acting", {"Agent": "Ann", "Patient": ["ANN", "Ben"]}, missing="create")
    instance = store.instances.get(made)
    assert instance is not None
    assert [one.concept for one in instance.bindings] == ["default:ann", "default:ann", "default:ben"]
    assert sorted(one.name for one in store.concepts.find()) == ["Ann", "Ben"]
    for bindings, message in (
        ({"Agent": 5}, r"bindings\['Agent'\]: expected names or ids of concepts, got 5"),
        ({"Agent": ["Ann", None]}, r"bindings\['Agent'\]: expected names or ids of concepts, got None"),
        ([("Agent", "Ann")], r"bindings: expected a mapping from elements to concepts, got \[\('Agent', 'Ann'\)\]"),
    ):
        with pytest.raises(vs.ValidationError, match=message):
            store.instances.bind("Acting", bindings)  # type: ignore[arg-type]
    with pytest.raises(vs.ValidationError, match="frame: expected a name or an id, got None"):
        store.instances.bind(None, {"Agent": "Ann"})  # type: ignore[arg-type]
    with pytest.raises(vs.NotFound, match="frames: no record with id 'nope'"):
        store.frames.ancestors("nope")


# -- clusters ----------------------------------------------------------------------------------------------------------


def test_a_line_that_is_not_there_is_fitted_under_its_name(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    with pytest.raises(vs.NotFound, match=r"store\.clusters\.fit\(\.\.\., name='animals'\)"):
        store.clusters.state("animals")


def test_unknown_records_are_not_assigned_in_silence(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    store.clusters.fit(n=3)
    store.concepts.delete("n5")
    for unknown in ("n5", "nobody"):
        with pytest.raises(vs.NotFound, match=f"concepts: no record with id '{unknown}'; nothing was written"):
            store.clusters.assign(["n1", unknown])
    assert store.clusters.assign(name for name in ("n1", "n2")) == 2
    assert store.clusters.assign([]) == 0


@pytest.mark.parametrize("value", ["x", -0.1, True, float("nan")])
def test_bad_thresholds_of_a_refit_are_named(open_store: Fill, value: Any) -> None:
    store = filled(open_store(), grid())
    store.clusters.fit(n=3)
    for name in ("min_changed", "min_shift"):
        with pytest.raises(vs.ValidationError, match=f"{name}: expected a number of at least 0"):
            store.clusters.refit(**{name: value})


def test_a_line_without_clusters_has_no_fields_and_assigns_noise(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    assert store.clusters.fit(recipe="hdbscan").clusters == ()
    assert store.fields.discover(min_coherence=-1.0).fields == ()
    store.concepts.add({"id": "late", "name": "late"}, vectors=grid(1, seed=3))
    assert store.clusters.state().unassigned == 1
    assert store.clusters.assign() == 1 and store.clusters.state().unassigned == 0
    found = store.clusters.membership("late")
    assert found is not None and found.cluster is None and found.strength == 0.0


def test_one_member_is_no_field_and_the_report_says_why(open_store: Fill) -> None:
    store = filled(open_store(), grid(4))
    store.clusters.fit(n=4)
    report = store.fields.discover(min_members=1, min_coherence=-1.0)
    assert set(report.passed_over.values()) == {"one member has no coherence"} and report.fields == ()


def test_words_of_any_length_can_be_clustered(store: vs.Store) -> None:
    store.concepts.add([{"name": f"c{n}", "definition": "gattaca" * 300} for n in range(6)])
    report = store.clusters.fit(n=2)
    assert all(len(one.name) < 1000 for one in store.clusters.find()) and report.clusters


def test_a_rollback_knows_since_when_the_fit_is_stale(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    store.clusters.fit(n=3)
    store.clusters.refit(n=4)
    store.clusters.rollback(1)
    assert store.clusters.state().stale_since is None
    store.clusters.rollback(2)
    store.concepts.add({"id": "late", "name": "late"}, vectors=grid(1, seed=3))
    since = store.clusters.state().stale_since
    assert since is not None
    store.contexts.add(vs.Context(name="elsewhere"))
    store.clusters.refit(n=2)
    assert store.clusters.state().stale_since is None
    for version in (1, 2):
        store.clusters.rollback(version)
        assert store.clusters.state().stale_since == since
    store.clusters.rollback(3)
    assert store.clusters.state().stale_since is None


def test_a_dropped_line_leaves_no_fields_behind(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    for name in ("one", "two"):
        store.clusters.fit(name=name, n=2)
        store.fields.discover(name, min_coherence=-1.0)
    assert len(store.fields) == 4
    store.clusters.drop("one")
    assert {one.model for one in store.fields.find()} == {"two"}


@pytest.mark.parametrize("meanwhile", ["refit", "rollback"])
def test_fields_of_a_fit_that_is_no_more_are_not_made(
    open_store: Fill, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    store = filled(open_store(), grid())
    store.clusters.fit(n=2)
    store.clusters.refit(n=3)
    original = store.fields._who

    def slow(*arguments: Any) -> Any:
        store.clusters.refit(n=5) if meanwhile == "refit" else store.clusters.rollback(1)
        return original(*arguments)

    monkeypatch.setattr(store.fields, "_who", slow)
    with pytest.raises(vs.Superseded, match="discover again"):
        store.fields.discover(min_coherence=-1.0)
    assert len(store.fields) == 0


@pytest.mark.parametrize("metric", ["cosine", "ip", "l2"])
def test_neighbours_equal_brute_force_among_live_members(open_store: Fill, clock: Clock, metric: str) -> None:
    vectors = grid(60)
    store = open_store(metric=metric)
    soon = clock.now.replace(hour=13)
    store.concepts.add(
        [{"id": f"n{n}", "name": f"n{n}", "expires_at": soon if n % 7 == 3 else None} for n in range(60)],
        vectors=vectors,
    )
    store.clusters.fit(n=3)
    store.concepts.delete([f"n{n}" for n in range(5, 60, 6)])
    store.concepts.update({"id": "n4", "name": "n4"}, vectors=vectors[9:10])
    clock.move(hours=2)
    vectors[4] = vectors[9]
    live = [n for n in range(60) if n % 6 != 5 and n % 7 != 3]
    own = {n: store.clusters.membership(f"n{n}") for n in live}
    for n in live[::5]:
        mates = [m for m in live if m != n and own[m].cluster == own[n].cluster]  # type: ignore[union-attr]
        x, rows = vectors[n].astype(np.float64), vectors[mates].astype(np.float64)
        scores = rows @ x
        if metric == "cosine":
            scores /= np.linalg.norm(rows, axis=1) * np.linalg.norm(x)
        if metric == "l2":
            scores = -np.linalg.norm(rows - x, axis=1)
        order = np.lexsort((mates, -scores))[:4]
        found = store.clusters.neighbours(f"n{n}", 4)
        assert [one.id for one in found] == [f"n{mates[place]}" for place in order]
        assert np.allclose([one.strength for one in found], scores[order], atol=1e-5)


def test_what_questions_answer_with_can_be_imported(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    store.models.put("blob", b"bytes")
    found = [
        store.clusters.fit(n=2),
        store.clusters.state(),
        store.clusters.drift(),
        store.clusters.trials(n=2, seeds=[0]),
        store.clusters.membership("n1"),
        store.clusters.members("concepts:0")[0],
        store.fields.discover(),
        store.models.list()[0],
    ]
    for one in found:
        assert getattr(vs, type(one).__name__) is type(one)


# -- rows that no test held to ----------------------------------------------------------------------------------------


def blobs(store: vs.Store, each: int = 25, noise: float = 0.3) -> Matrix:
    """Three groups and some rows between them; group after group."""
    random = np.random.default_rng(5)
    axes = np.eye(3, 8)[np.repeat(np.arange(3), each)]
    rows = np.concatenate([axes, np.full((6, 8), 0.3)]) + noise * random.standard_normal((3 * each + 6, 8))
    store.concepts.add([{"id": f"b{n}", "name": f"b{n}"} for n in range(len(rows))], vectors=rows.astype(np.float32))
    return rows.astype(np.float32)


@pytest.mark.parametrize("recipe", [vs.ClusterRecipe("few", "kmeans", 3), vs.ClusterRecipe("dense", "hdbscan")])
def test_fields_have_the_strongest_of_the_fit_and_nobody_else(open_store: Fill, recipe: vs.ClusterRecipe) -> None:
    store = open_store()
    rows = blobs(store)
    report = store.clusters.fit(recipe=recipe)
    assert (report.noise > 0) == (recipe.method == "hdbscan") and len(report.clusters) == 3
    before = {f"b{n}": store.clusters.membership(f"b{n}") for n in range(len(rows))}
    shares = {name: store.clusters.memberships(name) for name in before}
    changed = ["b1", "b30"]
    store.concepts.update([{"id": name, "quality": 0.5} for name in changed], vectors=rows[[30, 1]])
    store.concepts.add({"id": "late", "name": "late"}, vectors=rows[:1])
    store.fields.discover(min_coherence=-1.0, core=0.7, related=0.001)
    for field in store.fields.find():
        core, related = [], {}
        for name, place in before.items():
            share = shares[name][field.id]
            if name in changed or place is None or place.cluster is None or share < 0.001:
                continue
            if place.cluster == field.id and share >= 0.7:
                core.append(name)
            else:
                related[name] = share
        assert list(field.core) == sorted(core, key=lambda name: (-shares[name][field.id], int(name[1:])))
        assert field.related == pytest.approx(related, abs=1e-6)
        assert core
    assert any(field.related for field in store.fields.find())


def test_what_lies_too_far_out_is_noise_to_a_dense_fit(open_store: Fill) -> None:
    store = open_store()
    blobs(store, noise=0.1)
    store.clusters.fit(recipe="hdbscan")
    near, far = np.eye(3, 8, dtype=np.float32), -np.eye(3, 8, dtype=np.float32)
    assert None not in store.clusters.predict(near) and store.clusters.predict(far) == [None] * 3
    store.concepts.add([{"id": f"x{n}", "name": f"x{n}"} for n in range(6)], vectors=np.concatenate([near, far]))
    drift = store.clusters.drift()
    sizes = [store.clusters.members(f"concepts:{number}").total for number in range(3)]
    noise = store.clusters.members("concepts").total
    assert drift.noise == 0.5
    wanted = engine.population_shift([*sizes, noise], [*(size + 1 for size in sizes), noise + 3])
    assert drift.shift == pytest.approx(wanted) and wanted > 0
    store.clusters.assign()
    found = [store.clusters.membership(f"x{n}") for n in range(6)]
    assert [one is not None and one.cluster is None for one in found] == [False] * 3 + [True] * 3


def test_numbers_of_a_version_that_was_rolled_back_are_not_given_again(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    first = store.clusters.fit(n=2)
    second = store.clusters.refit(n=6)
    assert second is not None and second.new
    store.clusters.rollback(1)
    third = store.clusters.refit(n=5, seed=3)
    assert third is not None and third.new
    assert not set(third.new) & {*first.clusters, *second.clusters}


def test_trials_keep_to_their_filter_and_context(open_store: Fill) -> None:
    store = filled(open_store(), grid())
    store.concepts.add({"id": "e", "name": "e", "domain": "left", "context": "elsewhere"}, vectors=grid(1, seed=4))
    assert store.clusters.trials(n=2, seeds=[0]).rows == 41
    assert store.clusters.trials(n=2, seeds=[0], where={"domain": "left"}).rows == 21
    assert store.clusters.trials(n=1, seeds=[0], where={"domain": "left"}, context="elsewhere").rows == 1


def test_quality_against_labels_is_as_the_books_have_it() -> None:
    one_each = engine.against([0] * 6, range(6))
    assert one_each["purity"] == 1.0 and one_each["ari"] == pytest.approx(0.0)
    all_in_one = engine.against([0, 0, 0, 1, 1, 2], [7] * 6)
    assert all_in_one["purity"] == 0.5 and all_in_one["nmi"] == pytest.approx(0.0)
    same = engine.against([0, 0, 1, 1], ["b", "b", "a", "a"])
    assert same == pytest.approx({"nmi": 1.0, "ari": 1.0, "purity": 1.0})


class Sound(vs.Record, table="sounds", spaces=("heard",)):
    name: Annotated[str, vs.FOLDED, vs.EMBEDDED]


def test_words_of_another_space(open_store: Fill) -> None:
    store = open_store(kinds=[Sound])
    heard = grid(3, 5, seed=2)
    sounds = store.collection(Sound)
    sounds.add([{"name": f"sound {n}"} for n in range(3)], vectors={"text": grid(3, 4), "heard": heard})
    words = vs.Words(sounds, "heard")
    assert words.index_to_key == ["sound 0", "sound 1", "sound 2"]
    assert np.allclose(words["sound 1"], heard[1], atol=1e-6)
    assert vs.Words(sounds)["sound 1"].shape == (4,)


def test_a_term_means_the_concept_of_the_analogys_context_then_of_the_pairs_domain(open_store: Fill) -> None:
    store = open_store()
    vectors = grid(6)
    store.concepts.add(
        [
            {"id": "bank 1", "name": "bank", "domain": "money", "context": "town"},
            {"id": "bank 2", "name": "bank", "domain": "nature", "context": "wild"},
            {"id": "till 1", "name": "till", "domain": "money", "context": "town"},
            {"id": "till 2", "name": "till", "domain": "soil", "context": "wild"},
            {"id": "root 1", "name": "root", "domain": "nature", "context": "town"},
            {"id": "root 2", "name": "root", "domain": "soil", "context": "town"},
        ],
        vectors=vectors,
    )
    pair = {"concept_mappings": [{"source": "bank", "target": "root"}]}
    store.analogies.add(
        [
            {"id": "town", "context": "town", "a": "bank", "b": "till"},
            {"id": "wild", "context": "wild", "a": "bank", "b": "till"},
            {"id": "unclear", "a": "bank", "b": "till"},
            {"id": "mapped", "source_domain": "nature", "target_domain": "soil", **pair},
            {"id": "not mapped", "source_domain": "nature", "target_domain": "sea", **pair},
        ],
        vectors=grid(5, 4),
    )
    report = store.analogies.relate()
    assert report.written == ("town", "wild", "mapped") and report.unresolved == ("unclear", "not mapped")
    for name, start, end in (("town", 0, 2), ("wild", 1, 3), ("mapped", 1, 5)):
        offset = unit(vectors[end]) - unit(vectors[start])
        assert np.allclose(store.analogies.vectors([name], space="relation")[0], offset, atol=1e-6), name
