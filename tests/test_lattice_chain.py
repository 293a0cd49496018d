"""The lattice: phases, the chain over terms and topology, links with a history. Rows F8, F11."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clock

import vectorstore as vs
from vectorstore.records.lattice import form_id
from vectorstore.storage.patching import numbered_rows, patch

DAY = timedelta(days=1)


def filled(store: vs.Store, clock: Clock) -> None:
    """A form with a past: terms, a phase, a topology, a link; and two others."""
    for anchor in ("y", "z"):
        store.lattice.put({"anchor": anchor})
    store.lattice.put(
        {"anchor": "x", "topology": {"nodes": [1, 2, 3]}, "identities": ["i"]},
        [
            {"symbol": "alpha", "role": "r", "intensity": 1.5},
            {"symbol": "beta", "intensity": 0.8, "extra": {"gid": "g"}},
        ],
    )
    clock.move(days=1)
    store.lattice.mutate("x", "dormant")
    store.lattice.append("x", "gamma", "late", 0.1)
    clock.move(days=1)
    store.lattice.link("x", "y", weight=0.5)
    store.lattice.append("x", "delta")


# -- F8: phases and lineage --------------------------------------------------------------------------------------------


def test_a_change_of_phase_is_a_step_of_the_chain(store: vs.Store, clock: Clock) -> None:
    """F8, K13, and the source's core and flow tests: same anchor, new signature, the form from before is as it was."""
    store.lattice.put({"anchor": "x", "topology": {"nodes": [1, 2]}}, [{"symbol": "alpha", "extra": {"deep": [1]}}])
    store.lattice.append("x", "beta", intensity=0.5)
    before, begun = store.lattice.form("x"), clock.now
    clock.move(days=1)
    after = store.lattice.mutate("x", "evolving")
    assert (before.phase, after.phase, after.anchor, after.id) == ("active", "evolving", "x", before.id)
    assert after.trace_signature != before.trace_signature and after.topology == before.topology
    after.topology["nodes"].append(3)  # type: ignore[union-attr]
    before.topology["more"] = True
    assert store.lattice.form("x").topology == {"nodes": [1, 2]}
    first, second = store.lattice.lineage("x")
    assert (first.number, first.phase, first.terms, first.previous, first.at) == (1, "active", 0, "", begun)
    assert (second.number, second.phase, second.terms, second.at) == (2, "evolving", 2, clock.now)
    assert second.previous == before.trace_signature and second.signature == after.trace_signature
    assert second.value == {
        **{"domain": "echo", "phase": "evolving", "recursive": True},
        **{"topology": {"nodes": [1, 2]}, "identities": []},
    }
    assert [(term.symbol, term.extra) for term in store.lattice.terms("x")] == [("alpha", {"deep": [1]}), ("beta", {})]
    assert store.lattice.mutate("x", "evolving").trace_signature == after.trace_signature  # nothing changed: no step
    assert len(store.lattice.lineage("x")) == 2 and store.lattice.verify("x") == ()
    with pytest.raises(vs.NotFound, match="no form has the anchor 'nobody'"):
        store.lattice.mutate("nobody", "dormant")
    with pytest.raises(vs.ValidationError, match=r"phase"):
        store.lattice.mutate("x", " ")


def test_flattened_and_inflated_a_form_is_equal(store: vs.Store, clock: Clock) -> None:
    """The source's flow: create, mutate, flatten, reinflate keeps anchor, phase, signature and terms; K19."""
    filled(store, clock)
    form, terms = store.lattice.form("x"), store.lattice.terms("x")
    flat = json.dumps({"form": form.model_dump(mode="json"), "terms": [term.model_dump(mode="json") for term in terms]})
    back = json.loads(flat)
    assert vs.EchoForm.model_validate_json(json.dumps(back["form"])) == form
    assert [vs.EchoTerm.model_validate_json(json.dumps(term)) for term in back["terms"]] == terms
    assert not any(name.startswith("_") for name in (*back["form"], *back["terms"][0]))
    assert "x" in repr(form) and "dormant" in repr(form)


def test_a_signature_follows_from_all_that_was_said(clock: Clock) -> None:
    """F8, K12: same history, same signature; one other term, instant, extra, topology, context, order: another one."""

    def signature(act: Callable[[Any], Any]) -> str:
        moment = Clock()
        with vs.open(":memory:", embedder=None, clock=moment) as store:
            act(store.lattice)
            (form,) = store.lattice
            assert store.lattice.verify(form.anchor, form.context) == ()
            return form.trace_signature

    def plain(lattice: Any) -> None:
        lattice.put({"anchor": "x", "topology": {"b": 1, "a": [1]}}, [{"symbol": "s"}, {"symbol": "t"}])

    same = [
        plain,
        plain,
        lambda s: s.put({"anchor": "x", "topology": {"a": [1], "b": 1}}, [{"symbol": "s"}, {"symbol": "t"}]),
    ]
    assert len({signature(act) for act in same}) == 1 and len(signature(plain)) == 32
    base = {"anchor": "x", "topology": {"a": [1], "b": 1}}
    others: list[Callable[[Any], Any]] = [
        plain,
        lambda s: s.put(base, [{"symbol": "t"}, {"symbol": "s"}]),
        lambda s: s.put(base, [{"symbol": "s"}]),
        lambda s: s.put(base, [{"symbol": "s"}, {"symbol": "t", "intensity": 1.0000000001}]),
        lambda s: s.put(base, [{"symbol": "s"}, {"symbol": "t", "role": "r"}]),
        lambda s: s.put(base, [{"symbol": "s"}, {"symbol": "t", "extra": {"e": 1}}]),
        lambda s: s.put(base, [{"symbol": "s"}, {"symbol": "t", "at": clock.now + timedelta(microseconds=1)}]),
        lambda s: s.put({**base, "topology": {"a": [1], "b": 2}}, [{"symbol": "s"}, {"symbol": "t"}]),
        lambda s: s.put({**base, "identities": ["i"]}, [{"symbol": "s"}, {"symbol": "t"}]),
        lambda s: s.put({**base, "domain": "law"}, [{"symbol": "s"}, {"symbol": "t"}]),
        lambda s: s.put({**base, "context": "c"}, [{"symbol": "s"}, {"symbol": "t"}]),
        lambda s: s.put({**base, "anchor": "y"}, [{"symbol": "s"}, {"symbol": "t"}]),
        lambda s: (plain(s), s.mutate("x", "dormant")),
        lambda s: (plain(s), s.mutate("x", "dormant"), s.mutate("x", "active")),
    ]
    assert len({signature(act) for act in others}) == len(others)


def tampered(store: vs.Store, kind: str, match: Callable[[Any], bool], **changes: Any) -> None:
    """Change a row as somebody would who knows how rows are sealed."""
    table = store._sync.table(kind)
    with store._catalog.write() as transaction:
        rows = numbered_rows(transaction.connection, table, table.matching(transaction.connection, None).tolist())
        records = table.by_rows(transaction.connection, list(rows))
        ((number, row),) = [(n, row) for n, row in rows.items() if match(records[n])]
        values = dict(zip(table.schema.names, row, strict=True)) | changes
        patch(transaction.connection, table, [(number, tuple(values.values()))], list(changes))


TAMPERED: list[tuple[str, Callable[[Any], bool], dict[str, Any], str]] = [
    ("form_terms", lambda t: t.symbol == "alpha", {"intensity": 2.0}, "step 2 does not follow"),
    ("form_terms", lambda t: t.symbol == "alpha", {"symbol": "omega"}, "step 2 does not follow"),
    ("form_terms", lambda t: t.symbol == "beta", {"extra": '{"gid":"h"}'}, "step 2 does not follow"),
    ("form_terms", lambda t: t.symbol == "gamma", {"role": "early"}, "step 3 does not follow"),
    ("form_terms", lambda t: t.symbol == "gamma", {"at": 5}, "step 3 does not follow"),
    ("form_terms", lambda t: t.symbol == "delta", {"intensity": 0.0}, "its signature does not follow"),
    ("form_terms", lambda t: t.symbol == "delta", {"deleted_at": 5}, "it has 3 terms, and 4 were added"),
    ("form_terms", lambda t: t.symbol == "delta", {"number": 5}, "it has 4 terms, and 4 were added|does not follow"),
    ("forms", lambda f: f.anchor == "x", {"topology": '{"nodes":[1,2,4]}'}, "topology is {'nodes': [1, 2, 4]}"),
    ("forms", lambda f: f.anchor == "x", {"phase": "active"}, "phase is 'active', and its last step says 'dormant'"),
    ("forms", lambda f: f.anchor == "x", {"domain": "law"}, "domain is 'law'"),
    ("forms", lambda f: f.anchor == "x", {"trace_signature": "0" * 32}, "its signature does not follow"),
    ("forms", lambda f: f.anchor == "x", {"events": 3}, "it has 4 terms, and 3 were added"),
    (
        "form_steps",
        lambda s: s.number == 1 and s.phase == "active" and s.form == form_id("x"),
        {"value": "{}"},
        "step 1 was changed",
    ),
    ("form_steps", lambda s: s.number == 2 and s.form == form_id("x"), {"phase": "active"}, "step 2 was changed"),
    ("form_steps", lambda s: s.number == 2 and s.form == form_id("x"), {"at": 5}, "step 2 was changed"),
    ("form_steps", lambda s: s.number == 3 and s.form == form_id("x"), {"deleted_at": 5}, "edge"),
    ("form_edges", lambda e: True, {"weight": 0.9}, "'weight': 0.9}, and its last step says"),
    ("form_edges", lambda e: True, {"deleted_at": 5}, "edge"),
]


@pytest.mark.parametrize(("kind", "match", "changes", "fault"), TAMPERED)
def test_what_was_changed_behind_its_back_is_found(
    kind: str, match: Callable[[Any], bool], changes: dict[str, Any], fault: str, clock: Clock
) -> None:
    """F8, K12: even where the row's own seal was made anew."""
    with vs.open(":memory:", embedder=None, clock=clock) as store:
        filled(store, clock)
        assert store.lattice.verify("x") == store.lattice.verify("y") == ()
        tampered(store, kind, match, **changes)
        found = store.lattice.verify("x")
        assert found and any(part in one for part in fault.split("|") for one in found), found
        assert store.lattice.verify("z") == ()


def test_a_noted_signature_proves_the_past(store: vs.Store, clock: Clock) -> None:
    filled(store, clock)
    noted = store.lattice.form("x").trace_signature
    for place in range(5):
        store.lattice.append("x", f"s{place}")
    store.lattice.mutate("x", "active")
    assert store.lattice.verify("x", signature=noted) == ()
    assert store.lattice.verify("x", signature="0" * 32) == (
        "default:x: '00000000000000000000000000000000' is the signature of no moment of it",
    )
    assert store.lattice.verify("y", signature=noted) != ()


def test_any_change_through_the_verbs_keeps_the_chain(store: vs.Store, clock: Clock) -> None:
    """`upsert`, `update`, `add`, delete and restore of forms: what the lattice keeps is the lattice's."""
    store.lattice.add([{"anchor": "x", "events": 5, "raw_sum": 7.0, "trace_signature": "forged"}, {"anchor": "y"}])
    assert (store.lattice.form("x").events, store.lattice.form("x").raw_sum) == (0, 0.0)
    store.lattice.append("x", "s")
    store.lattice.update(
        [{"id": form_id("x"), "topology": {"n": 1}}, {"id": form_id("y"), "domain": "law", "events": 3}]
    )
    store.lattice.upsert({"anchor": "x", "domain": "scar"})
    found = store.lattice.form("x")
    assert (found.domain, found.topology, found.events, found.raw_sum) == ("scar", {}, 1, 1.0)
    assert [step.value["domain"] for step in store.lattice.lineage("x")] == ["echo", "echo", "scar"]
    clock.move(days=1)
    assert store.lattice.delete(form_id("x")) == 1 and len(store["form_steps"]) == 2
    clock.move(days=1)
    assert store.lattice.restore(form_id("x")) == 1
    assert store.lattice.form("x").trace_signature == found.trace_signature
    assert store.lattice.verify("x") == store.lattice.verify("y") == ()
    store.lattice.update({"id": form_id("x"), "tau_days": 1.0})
    assert store.lattice.intensity("x") == pytest.approx(math.exp(-2))


def test_a_call_that_failed_leaves_nothing_for_the_next(store: vs.Store) -> None:
    """Within a bigger transaction, too: what the failed call had read is not written by the next one."""
    store.lattice.put({"anchor": "x"}, [{"symbol": "s"}])
    with store.transaction():
        with pytest.raises(vs.ValidationError):
            store.lattice.upsert([{"anchor": "x", "domain": "law"}, {"anchor": "y", "id": "mine"}])
        store.lattice.append("x", "t")
        store.lattice.delete(form_id("x"))
        store.lattice.restore(form_id("x"))
    assert (store.lattice.form("x").domain, store.lattice.form("x").events) == ("echo", 2)
    assert store.lattice.verify("x") == ()


def test_terms_and_steps_are_only_added(store: vs.Store, clock: Clock) -> None:
    filled(store, clock)
    terms, steps = store["form_terms"], store["form_steps"]
    (first, *_) = store.lattice.terms("x")
    for kind in (terms, steps):
        with pytest.raises(vs.ConflictError, match="they go with their form"):
            kind.delete(where={"version__gte": 0})
    with pytest.raises(vs.ConflictError, match=r"form_terms\[0\]: .* is there already, and is only ever added to"):
        terms.update({"id": first.id, "intensity": 9.0})
    with pytest.raises(vs.ConflictError, match="only ever added to"):
        terms.upsert(first.model_copy(update={"symbol": "other"}))
    with pytest.raises(vs.ConflictError, match="only ever added to"):
        steps.update({"id": store.lattice.lineage("x")[1].id, "phase": "active"})
    with pytest.raises(vs.ValidationError, match="have to be 1, 2, 3"):
        terms.add({"form": form_id("x"), "number": 9, "symbol": "s", "at": clock.now})
    terms.upsert(first)
    terms.add({"form": form_id("x"), "number": 5, "symbol": "by hand", "at": clock.now})
    assert store.lattice.terms("x")[-1].symbol == "by hand" and store.lattice.form("x").events == 5
    assert store.lattice.verify("x") == ()
    assert [term.symbol for term in terms.find({"symbol": "alpha"})] == ["alpha"]


# -- F11: topology -----------------------------------------------------------------------------------------------------


def test_links_have_a_history(store: vs.Store, clock: Clock) -> None:
    """F11: added, weighted anew, removed, added again; each is a version in the chains of both ends."""
    for anchor in ("x", "y", "z"):
        store.lattice.put({"anchor": anchor})
    moments = []
    for act in (
        lambda: store.lattice.link("x", "y", weight=0.5),
        lambda: store.lattice.link("x", "y", weight=0.7),
        lambda: store.lattice.link("x", "y", weight=0.7),  # says nothing new
        lambda: store.lattice.unlink("x", "y"),
        lambda: store.lattice.unlink("x", "y"),  # there is none
        lambda: store.lattice.link("x", "y"),
    ):
        clock.move(hours=1)
        act()
        moments.append(clock.now)
    history = store.lattice.history("x", "y")
    assert [step.value.get("weight") for step in history] == [0.5, 0.7, None, 1.0]
    assert [step.at for step in history] == [moments[0], moments[1], moments[3], moments[5]]
    assert [step.value for step in store.lattice.lineage("y") if step.edge] == [step.value for step in history]
    assert store.lattice.history("y", "x") == store.lattice.history("x", "y", "kin") == []
    assert store.lattice.verify("x") == store.lattice.verify("y") == ()
    assert store.lattice.unlink("x", "z") is False
    with pytest.raises(vs.ValidationError, match="nobody"):
        store.lattice.link("x", "nobody")
    with pytest.raises(vs.NotFound, match="nobody"):
        store.lattice.history("nobody", "x")
    assert len(store["form_edges"]) == 1


def test_neighbours_and_components_equal_brute_force(store: vs.Store) -> None:
    """F11."""
    random, lattice = np.random.default_rng(2), store.lattice
    anchors = [f"f{place}" for place in range(30)]
    for anchor in anchors:
        lattice.put({"anchor": anchor})
    edges: dict[tuple[str, str, str], float] = {}
    for _ in range(40):
        x, y = random.choice(anchors[:25], 2)
        kind, weight = str(random.choice(["kin", "foe"])), float(random.random())
        lattice.link(str(x), str(y), kind, weight)
        edges[(str(x), str(y), kind)] = weight
        if random.random() < 0.2:
            gone = list(edges)[int(random.integers(len(edges)))]
            assert lattice.unlink(*gone) and edges.pop(gone)
    for anchor in anchors:
        for kind in (None, "kin"):
            for direction in ("out", "in", "both"):
                wanted = [
                    (weight, source, target)
                    for (source, target, name), weight in edges.items()
                    if kind in (None, name)
                    and ((direction != "in" and source == anchor) or (direction != "out" and target == anchor))
                ]
                found = lattice.neighbours(anchor, kind, direction)  # type: ignore[arg-type]
                assert sorted((e.weight, e.source[8:], e.target[8:]) for e, _ in found) == sorted(wanted)
                assert [e.weight for e, _ in found] == sorted((w for w, *_ in wanted), reverse=True)
                for edge, form in found:
                    assert form.id == (edge.target if edge.source == form_id(anchor) else edge.source)
    for kind, least in ((None, 0.0), ("kin", 0.0), (None, 0.4)):
        groups: list[set[str]] = []
        for (source, target, name), weight in edges.items():
            if kind in (None, name) and weight >= least:
                touched = [group for group in groups if group & {form_id(source), form_id(target)}]
                groups = [group for group in groups if group not in touched]
                groups.append({form_id(source), form_id(target)}.union(*touched))
        found = lattice.components(kind, where={"weight__gte": least})
        assert sorted(found) == sorted(map(sorted, groups))  # type: ignore[type-var]
        assert [len(group) for group in found] == sorted(map(len, groups), reverse=True)
    assert all(lattice.verify(anchor) == () for anchor in anchors)


def test_links_go_and_come_with_their_forms(store: vs.Store, clock: Clock) -> None:
    filled(store, clock)
    store.lattice.link("z", "x", "kin")
    clock.move(days=1)
    store.lattice.delete(form_id("y"))
    assert [form.anchor for _, form in store.lattice.neighbours("x")] == ["z"]
    assert store.lattice.components() == [["default:x", "default:z"]]
    assert store.lattice.verify("x") == store.lattice.verify("z") == ()
    clock.move(days=1)
    store.lattice.restore(form_id("y"))
    assert [form.anchor for _, form in store.lattice.neighbours("x")] == ["z", "y"]
    assert store.lattice.verify("x") == store.lattice.verify("y") == ()
    store.lattice.delete(form_id("y"))
    store.lattice.purge(older_than=timedelta(0))
    assert store.lattice.verify("x") == () and len(store["form_edges"]) == 1


def test_edges_through_the_verbs_are_steps_too(store: vs.Store, clock: Clock) -> None:
    for anchor in ("x", "y"):
        store.lattice.put({"anchor": anchor})
    edges = store["form_edges"]
    (name,) = edges.add({"source": form_id("x"), "target": form_id("y"), "type": "kin", "weight": 2.0})
    edges.update({"id": name, "weight": 3.0})
    assert edges.delete(where={"type": "kin"}, dry_run=True) == 1
    assert edges.delete(where={"type": "kin"}) == 1
    clock.move(days=1)
    assert edges.restore(name) == 1
    assert [step.value.get("weight") for step in store.lattice.history("x", "y", "kin")] == [2.0, 3.0, None, 3.0]
    assert store.lattice.verify("x") == store.lattice.verify("y") == ()


# -- what is told ------------------------------------------------------------------------------------------------------


def test_operations_are_counted_timed_and_in_the_trail(tmp_path: Path, clock: Clock) -> None:
    """The source's metrics tests: counters and timings appear, a reset empties them, three of each count three."""
    with vs.open(tmp_path / "kb", embedder=None, clock=clock, actor="me") as store:
        for place in range(3):
            store.lattice.put({"anchor": f"f{place}"}, [{"symbol": "s"}])
            store.lattice.fetch(f"f{place}")
        store.lattice.resolve("a", "b")
        store.lattice.decay(7.0)
        store.lattice.prune(30)
        found = store.metrics(reset=True)
        assert found["forms.put"].calls == found["forms.fetch"].calls == 3
        assert 0 < found["forms.put"].longest <= found["forms.put"].seconds and found["forms.decay"].calls == 1
        assert "forms.put" not in store.metrics()
        told = [(e.operation, e.kind, e.count, e.ids) for e in store.trail.list() if e.kind == "forms"][::-1]
        assert told[-2:] == [("resolve", "forms", 1, ("default:a_b",)), ("decay", "forms", 4, told[-1][3])]
        assert [operation for operation, *_ in told].count("put") == 3
        assert store.trail.verify().ok
