"""What seldom happens where the store reasons: bad arguments, lost races, files and rows that somebody has altered."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as parquet
import pytest

import vectorstore as vs
from tests.test_seldom import sql
from vectorstore.reason import belonging, discovery, paths
from vectorstore.writing import Batch, Raced

RANDOM = np.random.default_rng(8)


def opened(root: Path | str = ":memory:", **options: Any) -> vs.Store:
    return vs.open(root, **{"embedder": None, "auto_publish": False, **options})


def grouped(store: vs.Store, each: int = 6, groups: int = 2, start: int = 0, **fields: Any) -> None:
    """Concepts around as many axes as there are groups."""
    which = np.repeat(np.arange(groups), each)
    rows = np.eye(groups, 8)[which] + 0.05 * RANDOM.standard_normal((len(which), 8))
    records = [{"id": f"c{start + n}", "name": f"word{g} n{start + n}", **fields} for n, g in enumerate(which.tolist())]
    store.concepts.add(records, vectors=rows)


# -- arguments that cannot be ----------------------------------------------------------------------------------------

VECTORS = (np.eye(8)[0], np.eye(8)[1], np.eye(8)[2])
REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda s: s.analogies.discover("a", "b", 1.5), vs.ValidationError, r"min_quality: expected 0\.\.1, got 1\.5"),
    (lambda s: s.analogies.discover("a", "b", float("nan")), vs.ValidationError, "min_quality: expected a finite"),
    (lambda s: s.analogies.discover("", "b"), vs.ValidationError, "discover: source: expected a domain, got ''"),
    (lambda s: s.analogies.discover("a", 3), vs.ValidationError, "discover: target: expected a domain, got 3"),
    (lambda s: s.analogies.discover("a", "b", pairs=0), vs.ValidationError, "pairs: expected a whole number .* got 0"),
    (lambda s: s.analogies.discover("a", "b", pairs=True), vs.ValidationError, "pairs: expected a whole number"),
    (lambda s: s.analogies.complete(*VECTORS, method="4cos"), vs.ValidationError, "method: expected 3cosadd.*'4cos'"),
    (lambda s: s.analogies.complete(np.eye(3)[0], *VECTORS[1:]), vs.DimensionError, "3"),
    (lambda s: s.fields.discover(min_members=0), vs.ValidationError, "min_members: expected a whole number .* got 0"),
    (lambda s: s.fields.discover(min_coherence=-2), vs.ValidationError, r"min_coherence: expected -1\.\.1, got -2"),
    (lambda s: s.clusters.fit("concepts", "kmeans", 2, seed=-1), vs.ValidationError, r"seed: expected .* got -1"),
    (lambda s: s.clusters.fit("concepts", "kmeans", 2, name="x" * 201), vs.ValidationError, "name: 200 characters"),
    (
        lambda s: s.clusters.fit("concepts", "kmeans", 2, where={"name": np.str_("x"), "quality__gt": np.float32(1)}),
        vs.ValidationError,
        "cannot be kept with the fit; use plain values",
    ),
    (lambda s: s.clusters.model("none"), vs.NotFound, "no fit 'none'; fit it first"),
    (lambda s: s.clusters.model("none", 3), vs.NotFound, "no fit 'none' version 3; fit it first"),
    (lambda s: s.models.delete("none"), vs.NotFound, "none"),
    (lambda s: s.instances.bind("F", {}, missing="x"), vs.ValidationError, "missing: expected 'refuse' or"),
    (lambda s: s.instances.bind(3, {}), vs.ValidationError, "frame: expected a name or an id, got 3"),
    (lambda s: s.instances.bind("F", [("a", "b")]), vs.ValidationError, "bindings: expected a mapping"),
    (lambda s: s.lattice.append_many("none", []), vs.NotFound, "no form has the anchor 'none'"),
    (lambda s: s.lattice.bring([{"anchor": "a", "terms": ["x"]}]), vs.ValidationError, r"terms\[0\]: expected a mapp"),
    (lambda s: s.memories.level(0), vs.ValidationError, "tier: no tier 0; the tiers are: 1 "),
    (lambda s: s.memories.level(True), vs.ValidationError, "tier: no tier True"),
    (lambda s: s.memories.level("nowhere"), vs.ValidationError, "tier: no tier 'nowhere'"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_is_refused_stays_refused_where_contracts_are_off(
    call: Callable[[vs.Store], Any], error: type[Exception], message: str
) -> None:
    with opened(contracts=False) as store:
        store.concepts.add({"id": "x", "name": "x"}, vectors=np.ones((1, 8)))
        before = store.stats()["seq"]
        with pytest.raises(error, match=message):
            call(store)
        assert store.stats()["seq"] == before and store.check().findings == ()


def test_three_vectors_that_lead_nowhere_are_no_question() -> None:
    with opened() as store:
        grouped(store)
        one = np.eye(8)[0]
        turned = [np.array([np.cos(at), np.sin(at), 0, 0, 0, 0, 0, 0]) for at in np.radians([60, 0, 120])]
        assert store.concepts.search(vs.Offset(one, np.eye(8)[1], np.eye(8)[2]), exact=True).exact
        with pytest.raises(vs.ValidationError, match=r"concepts\.search.*b - a \+ c cancels out and has no direction"):
            store.concepts.search(vs.Offset(*turned), exact=True)


def test_parts_of_different_lengths_are_told_apart_before_there_is_a_space() -> None:
    with opened(contracts=False) as store:
        parts = (np.ones(3), np.ones(4), np.ones(3))
        with pytest.raises(vs.ValidationError, match="a, b and c have 3, 4, 3 dimensions"):
            store.concepts.search(vs.Offset(*parts))
        with pytest.raises(vs.ValidationError, match="a, b and c have different numbers of dimensions"):
            store.analogies.complete(*parts)


# -- analogies -------------------------------------------------------------------------------------------------------


def test_relations_of_analogies_that_change_meanwhile_are_made_anew_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with opened() as store:
        store.concepts.add([{"id": n, "name": n} for n in "abcd"], vectors=np.eye(4))
        store.analogies.add({"id": "x", "a": "a", "b": "b", "c": "c", "d": "d"}, vectors=np.ones((1, 4)))
        commit, lost = Batch.commit, [1]

        def raced(self: Any, operation: str, versions: Any = None) -> Any:
            if versions is not None and lost and lost.pop():
                raise Raced
            return commit(self, operation, versions)

        with monkeypatch.context() as patch:
            patch.setattr(Batch, "commit", lambda *_: (_ for _ in ()).throw(Raced))
            with pytest.raises(vs.ConflictError, match="other writers kept changing the same records; try again later"):
                store.analogies.relate()
        monkeypatch.setattr(Batch, "commit", raced)
        assert store.analogies.relate().written == ("x",) and lost == []
        assert store.analogies.relate().unchanged == ("x",) and store.check().findings == ()


def test_a_mapping_of_nothing_is_no_mapping_and_pairs_that_speak_against_it_are_dropped() -> None:
    none = discovery.align(np.empty((0, 3)), np.ones((2, 3)))
    assert (none.sources.tolist(), none.productivity, none.quality) == ([], 0.0, 0.0)
    sources, targets = [[0.95, 0.32], [1.0, 0.09], [0.71, 0.7]], [[-0.89, -0.45], [-0.9, 0.43], [-0.94, -0.33]]
    found = discovery.align(sources, targets)  # some go at first, and then what the others were compared with
    assert (found.sources.tolist(), found.productivity, found.quality) == ([], 0.0, 0.0)


def test_a_term_is_mapped_from_both_sides_of_a_proportion() -> None:
    with opened() as store:
        store.analogies.add({"id": "x", "a": "king", "b": "man", "c": "Queen", "d": "woman"}, vectors=np.ones((1, 4)))
        for term, other in (("king", "Queen"), ("queen", "king"), ("woman", "man"), ("man", "woman")):
            assert [(one.term, one.domain) for one in store.analogies.mapping(term)] == [(other, None)]


def test_retrieval_refuses_no_answers_at_all() -> None:
    with vs.open(":memory:", embedder="hash:16", auto_publish=False, contracts=False) as store:
        store.analogies.add({"id": "x", "source_domain": "s", "target_domain": "t", "description": "water flows"})
        with pytest.raises(vs.ValidationError, match="k: expected a whole number of at least 1, got 0"):
            store.analogies.retrieve("water", k=0)


# -- fits ------------------------------------------------------------------------------------------------------------


def test_nothing_to_cluster_is_said_by_the_trials_too() -> None:
    nothing = "concepts: there is nothing to cluster: no concepts with vectors"
    with opened() as store, pytest.raises(vs.ValidationError, match=nothing):
        store.clusters.trials("concepts", "kmeans", 2, seeds=range(2))


def test_a_renamed_cluster_may_get_a_vector_with_its_name() -> None:
    with opened() as store:
        grouped(store)
        store.clusters.fit("concepts", "kmeans", 2)
        kept = store.clusters.vectors(["concepts:1"])
        store.clusters.update({"id": "concepts:0", "name": "mine"}, vectors=np.ones((1, 8)))
        assert store.clusters.vectors(["concepts:0"]).tolist() == [[1.0] * 8]
        store.clusters.update({"id": "concepts:1", "name": "yours"})
        assert np.array_equal(store.clusters.vectors(["concepts:1"]), kept)


def test_neighbours_of_a_record_that_lies_alone_are_none() -> None:
    with opened() as store:
        store.concepts.add([{"id": "near", "name": "n"}, {"id": "far", "name": "f"}], vectors=[[1, 0], [-1, 0.1]])
        store.clusters.fit("concepts", "kmeans", 2)
        assert store.clusters.neighbours("near") == []
        for verb in (store.clusters.membership, store.clusters.memberships, store.clusters.neighbours):
            with pytest.raises(vs.NotFound, match="'nobody'"):
                verb("nobody")


def test_a_fit_is_stale_only_where_its_own_vectors_changed_meanwhile() -> None:
    with opened() as store:
        grouped(store)
        store.frames.add({"id": "before", "name": "before"}, vectors=np.ones((1, 4)))
        wrote: list[str] = []

        def meanwhile(done: int, total: int) -> None:
            if not wrote:
                wrote.extend(store.frames.add({"id": "meanwhile", "name": "m"}, vectors=np.ones((1, 4))))

        store.clusters.fit("concepts", "kmeans", 2, progress=meanwhile)
        assert wrote == ["meanwhile"] and store.clusters.state().stale_since is None


def test_a_line_whose_records_were_all_purged_is_fitted_anew() -> None:
    with opened() as store:
        grouped(store)
        store.clusters.fit("concepts", "kmeans", 2)
        store.concepts.delete(where={"version__gte": 1})
        assert store.concepts.purge(older_than=timedelta(0)) == 12
        drift = store.clusters.drift()
        assert (drift.shift, drift.noise, drift.changed) == (0.0, 0.0, 1.0)
        grouped(store, start=100)
        assert store.clusters.drift().shift == 0.0
        report = store.clusters.fit("concepts", "kmeans", 2, where={"id__nin": {"nobody"}})
        assert len(report.clusters) == 2 and store.check().findings == ()


def test_an_assignment_is_made_by_the_fit_that_is_current_then(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        grouped(store)
        store.clusters.fit("concepts", "kmeans", 2)
        grouped(store, start=100)
        assign, once = belonging.assign, iter([lambda: store.clusters.refit()])
        monkeypatch.setattr(belonging, "assign", lambda *a: (assign(*a), next(once, lambda: None)())[0])
        assert store.clusters.assign() == 0, "the fit in between has looked at them"
        assert store.clusters.state().version == 2 and store.check().findings == ()


def test_a_hint_is_purged_from_a_renamed_cluster_and_its_name_stays() -> None:
    with opened() as store:
        grouped(store)
        store.clusters.fit("concepts", "kmeans", 2)
        (one,) = [each for each in store.clusters.find() if "word0" in each.terms]
        store.clusters.update({"id": one.id, "name": "mine"})
        gone = [each.id for each in store.concepts.find(limit=100) if "word0" in each.name]
        store.concepts.delete(gone[:-1])
        store.concepts.update({"id": gone[-1], "name": "other"})
        assert store.concepts.purge(older_than=timedelta(0)) == 5
        kept = store.clusters.get(one.id)
        assert kept is not None and kept.name == "mine" and "word0" not in kept.terms
        assert store.check().findings == ()


# -- what others have altered ----------------------------------------------------------------------------------------


def test_the_chain_of_a_context_ends_where_a_parent_is_lost(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.contexts.add([{"name": "above"}, {"name": "below", "parent": "above"}])
        assert store.contexts.chain("below") == ["below", "above"]
    sql(tmp_path / "kb", "DELETE FROM contexts WHERE id = 'above'")
    with opened(tmp_path / "kb") as store:
        assert store.contexts.chain("below") == ["below"]
        with pytest.raises(vs.NotFound, match="no context 'above'"):
            store.contexts.chain("above")


def test_a_chain_that_does_not_begin_is_told(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        store.lattice.put({"anchor": "a", "phase": "active"})
        store.lattice.upsert({"anchor": "a", "phase": "dormant"})
        store.lattice.upsert({"anchor": "a", "phase": "evolving"})
        steps = store.lattice.lineage("a")
        assert store.lattice.verify("a") == () and len(steps) >= 2
    sql(tmp_path / "kb", "DELETE FROM form_steps WHERE number = 1")
    with opened(tmp_path / "kb") as store:
        assert "default:a: step 2 is no beginning" in store.lattice.verify("a")


def test_forms_of_one_transaction_keep_what_each_call_has_found() -> None:
    with opened() as store:
        store.lattice.put({"anchor": "a"}, [{"symbol": "x", "intensity": 1.0}])
        with store.transaction():
            store.lattice.upsert({"anchor": "a", "phase": "dormant"})
            store.lattice.upsert([{"anchor": "a", "phase": "evolving"}, {"anchor": "b"}])
        form = store.lattice.form("a")
        assert (form.phase, form.events, form.raw_sum) == ("evolving", 1, 1.0)
        assert store.lattice.verify("a") == store.lattice.verify("b") == () and store.check().findings == ()


def test_damaged_forms_are_overwritten_beside_good_ones(tmp_path: Path) -> None:
    with opened(tmp_path / "kb") as store:
        for anchor in "abc":
            store.lattice.put({"anchor": anchor}, [{"symbol": "x", "intensity": 2.0}])
    sql(tmp_path / "kb", "UPDATE forms SET phase = 'forged' WHERE anchor = 'b'")
    with opened(tmp_path / "kb") as store:
        assert len(store.check().findings) == 1
        store.lattice.upsert([{"anchor": anchor, "phase": "dormant"} for anchor in "abc"])
        assert [store.lattice.form(anchor).events for anchor in "abc"] == [1, 1, 1]
        assert {store.lattice.form(anchor).phase for anchor in "abc"} == {"dormant"}
        assert store.check().findings == ()


def test_terms_of_forms_are_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        store.lattice.put({"anchor": "a"}, [{"symbol": f"s{n}", "intensity": 1.0} for n in range(5)])
        whole = store.lattice.verify("a")
        monkeypatch.setattr("vectorstore.reason.ledger._PAGE", 2)
        assert store.lattice.verify("a") == whole == ()
        assert [term.symbol for term in store.lattice.terms("a")] == [f"s{n}" for n in range(5)]


def test_forms_that_only_share_what_has_faded_do_not_resonate() -> None:
    with opened() as store:
        store.lattice.put({"anchor": "a"}, [{"symbol": "x", "intensity": 1.0}, {"symbol": "y", "intensity": 0.0}])
        store.lattice.put({"anchor": "b"}, [{"symbol": "y", "intensity": 1.0}])
        store.lattice.put({"anchor": "c"}, [{"symbol": "x", "intensity": 0.5}])
        assert [each.form.anchor for each in store.lattice.resonant("a")] == ["c"]


def test_a_path_of_many_branches_is_followed_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened() as store:
        store.concepts.add([{"id": n, "name": n} for n in "abcdefg"], vectors=np.eye(7))
        edges = [{"source": s, "type": "x", "target": t} for s, t in ("ab", "ac", "ad", "be", "ce", "de", "bf", "cg")]
        store.relations.add(edges)
        whole = [path.nodes for path in store.concepts.paths("a", None, 3)]
        monkeypatch.setattr(paths, "BLOCK", 1)
        assert [path.nodes for path in store.concepts.paths("a", None, 3)] == whole and len(whole) == 8


# -- maps ------------------------------------------------------------------------------------------------------------


def test_a_map_of_neighbours_places_what_came_later(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The library is none of ours, and slow to load: one that keeps the first two numbers stands for it."""

    def made(**options: Any) -> Any:
        return types.SimpleNamespace(fit_transform=lambda vectors: vectors[:, :2])

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=made))
    with opened(contracts=False) as store:
        grouped(store)
        assert store.maps.fit("concepts", "umap").explained == (0.0, 0.0)
        before = store.maps.get("concepts")
        assert np.array_equal(store.maps.get("concepts").points, before.points)
        store.concepts.add({"id": "late", "name": "late"}, vectors=np.eye(8)[:1])
        after = store.maps.get("concepts")
        assert after.ids == (*before.ids, "late") and np.array_equal(after.points[:-1], before.points)
        assert np.allclose(after.points[-1], [1, 0], atol=0.2) and after.info.later == 1
        store.concepts.delete(list(before.ids))
        assert store.maps.get("concepts").points.tolist() == [[0.0, 0.0]]  # nothing that was fitted is left
        with pytest.raises(vs.ValidationError, match=r"maps\.export\.neighbours: expected 0\.\.\d+, got -1"):
            store.maps.export("concepts", tmp_path / "m.parquet", neighbours=-1)


class Place(vs.Record, table="places"):
    text: Annotated[str, vs.EMBEDDED]
    x: float = 7.0


def test_a_map_is_exported_without_neighbours_and_over_a_field_of_the_same_name(tmp_path: Path) -> None:
    with vs.open(":memory:", embedder="hash:16", auto_publish=False, kinds=[Place]) as store:
        store.collection(Place).add([{"id": f"p{n}", "text": f"what happened {n}"} for n in range(4)])
        store.maps.fit("places")
        store.maps.export("places", tmp_path / "m.parquet", neighbours=0)
        points = store.maps.get("places").points
    table = parquet.read_table(tmp_path / "m.parquet")
    assert "neighbors" not in table.column_names and table.column_names.count("x") == 1
    assert table.column("text").to_pylist() == [f"what happened {n}" for n in range(4)]
    assert np.allclose(table.column("x").to_pylist(), points[:, 0])


# -- word vectors ----------------------------------------------------------------------------------------------------


def test_words_want_numbers_of_their_own_length_and_some_to_choose_from() -> None:
    with opened() as store:
        words = vs.Words(store.concepts)
        assert len(words) == 0
        grouped(store)
        words = vs.Words(store.concepts)
        with pytest.raises(vs.ValidationError, match=r"most_similar: expected 8 finite numbers, got shape \(3,\)"):
            words.most_similar(np.ones(3))
        with pytest.raises(vs.ValidationError, match="expected words, vectors, or pairs with a number as weight"):
            words.most_similar([("word0 n0", "heavy")])
        assert words.most_similar(np.ones(8), topn=0) == []
        assert len(words.most_similar("word0 n0", topn=100)) == 11
