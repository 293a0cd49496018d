"""The lattice: forms and terms, pairs, time, pruning, resonance, analytics, import. Rows F1-F7, F9, F10, F12, F13, K12.

What the system that had a lattice first got wrong (K1 .. K21 of its list) is named where a test shows that it is not so.
"""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Clock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.ids import as_age
from vectorstore.records.lattice import entropy, form_id, pair_anchor

DAY = timedelta(days=1)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
names = texts.filter(str.strip)
values: Any = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts
terms_of_a_form = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": names,
            "role": texts,
            "intensity": st.floats(0, 1e6),
            "extra": st.dictionaries(texts, values, max_size=3),
        }
    ),
    max_size=6,
)
forms = st.fixed_dictionaries(
    {
        "anchor": names,
        "domain": names,
        "phase": names,
        "recursive": st.booleans(),
        "topology": st.dictionaries(texts, values | st.lists(values, max_size=3), max_size=3),
        "identities": st.lists(names, max_size=3, unique=True),
        "tau_days": st.floats(1e-3, 1e6),
        "extra": st.dictionaries(texts, values, max_size=3),
    }
)


def said(record: vs.Record, *without: str) -> dict[str, Any]:
    kept = {"trace_signature", "events", "raw_sum", "intensity_sum", "decayed_at", "ahead"}
    return record.model_dump(exclude={"id", "version", "created_at", "updated_at", *kept, *without})


def brute(terms: list[vs.EchoTerm], now: datetime, tau: float) -> float:
    return math.fsum(t.intensity * math.exp(-max(0.0, (now - t.at) / DAY) / tau) for t in terms)


# -- F1, F2: forms and terms -------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(forms, terms_of_a_form), min_size=20, max_size=20, unique_by=lambda pair: pair[0]["anchor"]))
def test_forms_and_terms_come_back_equal(given_forms: list[tuple[dict[str, Any], list[dict[str, Any]]]]) -> None:
    """F1: 50 x 20 = 1000 random forms, any Unicode; several forms do not interfere. K19: nothing private is kept."""
    with vs.open(":memory:", embedder=None, clock=Clock()) as store:
        for form, terms in given_forms:
            store.lattice.put(form, terms)
        assert len(store.lattice) == 20
        for form, terms in given_forms:
            found = store.lattice.form(form["anchor"])
            assert said(found) == said(vs.EchoForm(**form)) and found.id == form_id(form["anchor"])
            back = store.lattice.terms(form["anchor"])
            assert [t.number for t in back] == list(range(1, len(terms) + 1))
            assert [{k: getattr(t, k) for k in ("symbol", "role", "intensity", "extra")} for t in back] == terms
            raw = math.fsum(term["intensity"] for term in terms)
            assert found.raw_sum == pytest.approx(raw) and found.events == len(terms)
            assert 0 <= store.lattice.intensity(form["anchor"]) <= found.raw_sum * (1 + 1e-12)
            assert store.lattice.verify(form["anchor"]) == ()
        assert store.check().findings == ()


def test_store_fetch_update_count_and_list(store: vs.Store, clock: Clock) -> None:
    """F2 and the source's basic test: an update keeps created_at and terms; the newest update comes first."""
    lattice = store.lattice
    begun = clock.now
    for place, (anchor, domain, phase) in enumerate(
        [("x", "law", "active"), ("y", "scar", "dormant"), ("z", "law", "active")]
    ):
        clock.now = begun + place * DAY
        lattice.put({"anchor": anchor, "domain": domain, "phase": phase}, [{"symbol": "alpha", "intensity": 1.5}])
    assert [form.anchor for form in lattice.recent()] == ["z", "y", "x"]
    clock.now = begun + 10 * DAY
    lattice.append("x", "beta", "role", 0.8, event_type="seen", gid="g1")
    lattice.put({"anchor": "y", "domain": "law"})
    found = lattice.form("x")
    assert [form.anchor for form in lattice.recent(2)] == ["x", "y"]
    assert (found.created_at, found.updated_at) == (begun, clock.now)
    assert [(t.symbol, t.intensity, t.extra) for t in lattice.terms("x")] == [
        ("alpha", 1.5, {}),
        ("beta", 0.8, {"event_type": "seen", "gid": "g1"}),
    ]
    assert len(lattice.terms("y")) == 1 and lattice.form("y").phase == "active"
    assert (len(lattice), lattice.count({"domain": "law"}), lattice.count({"domain": "echo"})) == (3, 3, 0)
    assert [form.anchor for form in lattice.recent(domain="law", phase="active", where={"created_at__gt": begun})] == [
        "y",
        "z",
    ]
    assert [form.anchor for form in lattice.recent(where={"updated_at__gte": clock.now})] == ["x", "y"]
    assert lattice.fetch("nobody") is None
    with pytest.raises(KeyError, match="forms: no form has the anchor 'nobody'"):
        lattice.form("nobody")


def test_what_is_there_is_not_added_twice(store: vs.Store) -> None:
    """Terms that were read can be handed back with new ones; a stale form does not undo what came meanwhile."""
    lattice = store.lattice
    lattice.put({"anchor": "x"}, [{"symbol": "a"}])
    stale = lattice.form("x")
    lattice.put(stale, [*lattice.terms("x"), {"symbol": "b"}])
    lattice.append("x", "c")
    lattice.upsert(stale.model_copy(update={"phase": "dormant", "events": 77, "trace_signature": "forged"}))
    assert [term.symbol for term in lattice.terms("x")] == ["a", "b", "c"]
    found = lattice.form("x")
    assert (found.phase, found.events, found.raw_sum) == ("dormant", 3, 3.0)
    assert lattice.intensity("x") == 3.0 and lattice.verify("x") == ()


def test_defaults_are_those_of_an_echo_form(store: vs.Store) -> None:
    """The source's core tests: defaults; sums of 0, 4, and of a form without terms."""
    form = vs.EchoForm(anchor="x")
    assert (form.domain, form.phase, form.recursive, form.topology, form.tau_days) == ("echo", "active", True, {}, 14.0)
    store.lattice.put(form)
    assert store.lattice.intensity("x") == 0.0
    store.lattice.append_many("x", [{"symbol": "a", "intensity": 1}, {"symbol": "b", "intensity": 3.0}])
    assert store.lattice.intensity("x") == 4.0
    assert store.lattice.append("x", "c") == 3 and store.lattice.terms("x")[-1].intensity == 1.0


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda s: s.put({"anchor": " "}), r"forms\[0\].anchor"),
        (lambda s: s.put({"domain": "x"}), r"forms\[0\].anchor: is required"),
        (lambda s: s.put({"anchor": "n", "tau_days": 0}), r"forms\[0\].tau_days: expected more than 0, got 0"),
        (lambda s: s.put({"anchor": "n", "tau_days": math.nan}), r"forms\[0\].tau_days: expected"),
        (lambda s: s.put({"anchor": "n"}, [{"symbol": "a", "intensity": -1.0}]), r"forms\[0\].terms\[0\].intensity"),
        (lambda s: s.put({"anchor": "n"}, [{"symbol": "a", "intensity": math.inf}]), r"terms\[0\].intensity: expected"),
        (lambda s: s.put({"anchor": "n"}, ["a"]), r"terms\[0\]: expected an EchoTerm or a mapping, got str"),
        (lambda s: s.append("x", ""), r"terms\[0\].symbol"),
        (lambda s: s.append("x", "a", at=datetime(2026, 1, 1)), r"terms\[0\].at: a time needs a zone"),
        (lambda s: s.add({"id": "mine", "anchor": "n"}), r"forms\[0\].id: 'mine' does not follow from the anchor 'n'"),
        (lambda s: s.resolve("a", ""), r"pairs\[0\]: expected two names"),
        (lambda s: s.resolve("a", "b", event=-0.1), "event: expected at least 0, got -0.1"),
        (lambda s: s.resolve("a", "b", tau_days=0), "tau_days: expected more than 0, got 0"),
        (lambda s: s.analytics("colour"), "by: expected one of domain, phase, day, symbol, role"),
    ],
)
def test_what_is_wrong_is_refused_before_any_write(store: vs.Store, act: Callable[[Any], Any], message: str) -> None:
    store.lattice.put({"anchor": "x"}, [{"symbol": "a"}])
    before = store.stats()["seq"]
    with pytest.raises(vs.ValidationError, match=message):
        act(store.lattice)
    assert len(store.lattice) == 1 and store.lattice.form("x").events == 1
    assert store.stats()["seq"] == before


def test_anchors_and_pairs_have_ids_of_their_own() -> None:
    """K10: ids that contain the separator do not collide, and neither do contexts and anchors."""
    awkward = [
        "a",
        "b",
        "a_b",
        "_",
        "a>b",
        ">",
        "%",
        "a%5Fb",
        "é",
        "a/b",
        "..",
        "...",
        "a:b",
        ":",
        "\n",
        " x",
        "\ud800"[:0] or "x",
    ]
    anchors = {pair_anchor(*sorted(pair)) for pair in itertools.combinations(awkward, 2)}
    assert len(anchors) == math.comb(len(awkward), 2)
    assert pair_anchor("b", "a") == pair_anchor("a", "b") == "a_b"
    assert {pair_anchor("a", "b", directed=True), pair_anchor("b", "a", directed=True)} == {"a>b", "b>a"}
    assert pair_anchor("a>b", "c") != pair_anchor("a", "b_c", directed=True)
    long = "x" * 300
    cells = [(anchor, context) for anchor in [*awkward, long, long + "y"] for context in ("default", "a", "a:b")]
    assert len({form_id(*cell) for cell in cells}) == len(cells)
    assert form_id("Scar_007") == "default:Scar_007" and max(map(len, itertools.starmap(form_id, cells))) <= 255


# -- F3, F4: time ------------------------------------------------------------------------------------------------------


def test_decay_is_of_the_age_of_each_term(store: vs.Store, clock: Clock) -> None:
    """F3, K20: ages 0, tau and 2 tau leave 1, 0.3679, 0.1353; 14 days by default; a time to come does not amplify."""
    lattice, begun = store.lattice, clock.now
    for place, days in enumerate([0, 14, 28, -5]):
        lattice.put({"anchor": f"f{place}"}, [{"symbol": "a", "at": begun - days * DAY}])
    found = [lattice.intensity(f"f{place}") for place in range(4)]
    assert found == pytest.approx([1.0, math.exp(-1), math.exp(-2), 1.0], abs=1e-9)
    assert found[1] == pytest.approx(0.3679, abs=5e-5) and found[2] == pytest.approx(0.1353, abs=5e-5)
    clock.now = begun + 19 * DAY
    assert lattice.intensity("f3") == pytest.approx(math.exp(-1), abs=1e-9)  # it fades from its own instant on
    assert lattice.intensity("f0", tau_days=19) == pytest.approx(math.exp(-1), abs=1e-9)
    assert lattice.intensity("f0", at=begun + DAY) == pytest.approx(math.exp(-1 / 14), abs=1e-9)
    assert 0.90 < lattice.intensity("f0", at=begun + DAY) < 0.95
    assert lattice.intensity("f0", decayed=False) == 1.0
    form = lattice.form("f1")
    assert lattice.intensities([form, form], tau_days=7) == [lattice.intensity("f1", tau_days=7)] * 2
    for tau in (0, -1, math.nan, math.inf, "x", True):
        with pytest.raises(vs.ValidationError, match="tau_days: expected"):
            lattice.intensity("f0", tau_days=tau)
    lattice.put({"anchor": "three"}, [{"symbol": "a", "at": clock.now - days * DAY} for days in (0, 14, 28)])
    assert 1 < lattice.intensity("three") < 3


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.floats(-3, 40), st.floats(-20, 60), st.floats(0, 100), st.sampled_from(["append", "resolve", "decay"])
        ),
        max_size=12,
    ),
    tau=st.floats(0.5, 100),
)
def test_any_history_has_the_intensity_that_its_terms_have(
    steps: list[tuple[float, float, float, str]], tau: float
) -> None:
    """The sum that is carried forward equals the sum over all terms, whatever comes when, and if the clock is set back."""
    clock = Clock()
    begun = clock.now
    with vs.open(":memory:", embedder=None, clock=clock) as store:
        store.lattice.resolve("a", "b", tau_days=tau)
        for moved, age, amount, what in steps:
            clock.move(days=moved)
            if what == "append":
                store.lattice.append("a_b", "s", intensity=amount, at=clock.now - age * DAY)
            elif what == "decay":
                store.lattice.decay(tau)
            else:
                found = store.lattice.resolve("a", "b")
                assert found == pytest.approx(brute(store.lattice.terms("a_b"), clock.now, tau), rel=1e-9)
            terms = store.lattice.terms("a_b")
            for at in (clock.now, begun, clock.now + 30 * DAY):
                exact = brute(terms, at, tau)
                assert store.lattice.intensity("a_b", at=at) == pytest.approx(exact, rel=1e-9, abs=1e-12)
                assert store.lattice.intensity("a_b", at=at, tau_days=tau) == pytest.approx(exact, rel=1e-9, abs=1e-12)
            assert store.lattice.form("a_b").raw_sum == pytest.approx(math.fsum(t.intensity for t in terms))
            assert store.lattice.verify("a_b") == ()


def filled(store: vs.Store, clock: Clock) -> dict[str, Any]:
    """Forms of some ages, and what of them decay must not touch."""
    for place in range(30):
        clock.move(hours=7)
        store.lattice.resolve(f"a{place % 7}", f"b{place % 4}")
        store.lattice.put({"anchor": f"form {place % 5}", "domain": "law"}, [{"symbol": "s", "intensity": 0.5 + place}])
    return {form.id: (form.updated_at, form.raw_sum, form.events, form.trace_signature) for form in store.lattice}


def sums(store: vs.Store) -> list[tuple[Any, ...]]:
    return [(form.id, form.intensity_sum, form.decayed_at, form.tau_days) for form in store.lattice]


def test_decay_twice_is_decay_once(clock: Clock) -> None:
    """F4, K3, K4, K6: idempotent at one instant; t1 then t2 equals t2; updated_at, order and raw intensities stay."""
    begun = clock.now
    with vs.open(":memory:", embedder=None, clock=clock) as one, vs.open(":memory:", embedder=None, clock=clock) as two:
        kept = filled(one, clock)
        order = [form.id for form in one.lattice.recent(50)]
        clock.now = begun
        filled(two, clock)
        clock.move(days=3)
        assert one.lattice.decay(14.0) == len(kept)
        once = sums(one)
        assert one.lattice.decay(14.0) == len(kept) and sums(one) == once
        clock.move(days=9)
        assert one.lattice.decay(7.0) == two.lattice.decay(7.0) == len(kept)
        assert sums(one) == sums(two) and sums(one) != once
        assert {f.id: (f.updated_at, f.raw_sum, f.events, f.trace_signature) for f in one.lattice} == kept
        assert [form.id for form in one.lattice.recent(50)] == order
        for form in one.lattice:
            exact = brute(one.lattice.terms(form.anchor), clock.now, 7.0)
            assert form.intensity_sum == pytest.approx(exact, rel=1e-12) and form.decayed_at == clock.now
            assert one.lattice.intensity(form.anchor) == pytest.approx(exact, rel=1e-9)  # and not decayed again
        assert one.lattice.decay(5.0, where={"domain": "law"}) == 5
        assert {form.tau_days for form in one.lattice.find({"domain": "cls"})} == {7.0}
        assert one.check().findings == ()


@pytest.mark.parametrize("tau", [0, -1.0, math.nan, math.inf])
def test_a_tau_that_is_none_is_refused_before_any_write(store: vs.Store, clock: Clock, tau: float) -> None:
    """K5."""
    filled(store, clock)
    before = [form.model_dump() for form in store.lattice]
    with pytest.raises(vs.ValidationError, match="tau_days: expected"):
        store.lattice.decay(tau)
    assert [form.model_dump() for form in store.lattice] == before


def test_decay_is_one_transaction(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """K6: when it fails half-way, nothing is half decayed."""
    from vectorstore.reason import fading
    from vectorstore.reason.ledger import Ledger

    with vs.open(":memory:", embedder=None, clock=clock) as store:
        filled(store, clock)
        before = sums(store)
        clock.move(days=5)
        monkeypatch.setattr(fading, "_PAGE", 4)
        resum, calls = Ledger.resum, itertools.count(1)

        def fails(self: Ledger, *arguments: Any) -> int:
            if next(calls) == 3:
                raise OSError("the disk is full")
            return resum(self, *arguments)

        monkeypatch.setattr(Ledger, "resum", fails)
        with pytest.raises(OSError, match="full"):
            store.lattice.decay(1.0)
        assert sums(store) == before
        monkeypatch.undo()
        store.lattice.decay(1.0)
        assert {tau for *_, tau in sums(store)} == {1.0}


# -- F5: pruning -------------------------------------------------------------------------------------------------------


def test_ages_have_units() -> None:
    """F5, K2."""
    found = [as_age(age) for age in ("30d", "12h", "45m", "3600s", "30", 30, 0.5, "2w", " 1.5h ", timedelta(hours=2))]
    hours = [720, 12, 0.75, 1, 720, 720, 12, 336, 1.5, 2]
    assert found == [timedelta(hours=h) for h in hours]
    for bad in ("", "d", "30x", "-1d", "nan", math.inf, -1, True, None, "30 moons", [], timedelta(days=-1)):
        with pytest.raises(vs.ValidationError, match="age: expected a span such as 30d"):
            as_age(bad)  # type: ignore[arg-type]


def test_prune_takes_what_is_old_and_counts_it(store: vs.Store, clock: Clock) -> None:
    """F5, K1: a form of an hour ago survives `30`, which means days. K21: what is touched every day is not old."""
    lattice = store.lattice
    for name in ("old", "touched", "gone"):
        lattice.put({"anchor": name, "domain": "echo" if name == "gone" else "law"}, [{"symbol": "s"}])
    for _ in range(40):
        clock.move(days=1)
        lattice.append("touched", "s")
    clock.move(hours=1)
    lattice.put({"anchor": "new"})
    clock.move(hours=1)
    assert lattice.prune("30", dry_run=True) == 2 == lattice.prune("30d", dry_run=True)
    assert lattice.prune(30, by="created_at", dry_run=True) == 3
    assert lattice.prune("1h", where={"domain": "law"}, dry_run=True) == 2
    assert len(lattice) == 4
    assert lattice.prune("30") == 2
    assert sorted(form.anchor for form in lattice) == ["new", "touched"]
    assert len(store["form_terms"]) == 41
    assert lattice.prune("30d") == 0
    assert lattice.prune(0) == 2 and len(lattice) == 0 and len(store["form_terms"]) == 0
    assert lattice.restore("default:touched") == 1
    assert lattice.form("touched").events == 41 and lattice.verify("touched") == ()
    assert lattice.purge(older_than=timedelta(0)) == 3


def test_prune_of_no_days_takes_all(store: vs.Store) -> None:
    """The source's test: five forms, prune of 0 days returns 5 and leaves 0."""
    for place in range(5):
        store.lattice.put({"anchor": f"f{place}"})
    assert store.lattice.prune(0) == 5 and len(store.lattice) == 0


def test_clear_says_what_it_cleared(store: vs.Store) -> None:
    """K14: of all domains, or of one."""
    for place in range(7):
        store.lattice.put({"anchor": f"f{place}", "domain": "law" if place % 3 else "scar"})
    assert store.lattice.clear(dry_run=True) == {"law": 4, "scar": 3} and len(store.lattice) == 7
    assert store.lattice.clear("law") == {"law": 4} and len(store.lattice) == 3
    assert store.lattice.clear() == {"scar": 3} and len(store.lattice) == 0
    assert store.lattice.clear() == {}


def test_an_anchor_is_free_again_after_its_form_is_gone(store: vs.Store, clock: Clock) -> None:
    for end in ("delete", "expire", "purge"):
        assert store.lattice.resolve("a", "b") == 1.1 and store.lattice.resolve("a", "b") == pytest.approx(1.2)
        store.lattice.mutate("a_b", "dormant")
        if end == "expire":
            store.lattice.update({"id": "default:a_b", "expires_at": clock.now + DAY})
            clock.move(days=1)
            assert store.lattice.analytics("symbol") == []
            store.lattice.decay()  # whoever writes next writes down what has expired, terms and steps too
        else:
            store.lattice.delete("default:a_b")
            if end == "purge":
                assert store.lattice.purge(older_than=timedelta(0)) == 1
        assert store.lattice.fetch("a_b") is None and len(store["form_terms"]) == len(store["form_steps"]) == 0
        clock.move(hours=1)
    assert store.lattice.resolve("a", "b") == 1.1
    form = store.lattice.form("a_b")
    assert (form.phase, form.events, form.created_at) == ("active", 2, clock.now)
    assert len(store.lattice.terms("a_b")) == 2 and store.lattice.verify("a_b") == ()


# -- F6, F7: pairs -----------------------------------------------------------------------------------------------------


def test_a_pair_is_met_again_and_again(store: vs.Store) -> None:
    """F6, K10, and the source's integration tests: 1.1, 1.2, 1.3; four terms after three resolves; either order."""
    lattice = store.lattice
    found = [lattice.resolve("birds", "sky"), lattice.resolve("sky", "birds"), lattice.resolve("birds", "sky")]
    assert found == pytest.approx([1.1, 1.2, 1.3], abs=1e-12)
    assert [lattice.resolve("birds", "sky", directed=True), lattice.resolve("sky", "birds", directed=True)] == [
        1.1,
        1.1,
    ]
    assert len(lattice) == 3
    form = lattice.form("birds_sky")
    assert (form.domain, form.identities) == ("cls", ("birds", "sky"))
    assert form.topology == {"lattice_type": "contradiction", "geoid_pair": ["birds", "sky"], "created_from": "resolve"}
    terms = lattice.terms("birds_sky")
    assert [term.role for term in terms] == ["cls_seed", *["resonance_trigger"] * 3]
    assert [term.intensity for term in terms] == [1.0, 0.1, 0.1, 0.1]
    assert all(term.at is not None and term.role for term in terms)
    assert lattice.verify("birds_sky") == ()


def test_many_pairs_are_met_as_one_by_one(clock: Clock) -> None:
    random = np.random.default_rng(1)
    names = ["a", "b b", "ü", "a\nb", "_", "d" * 400, "e_f"]
    pairs = [(names[x], names[y]) for x, y in random.integers(0, len(names), (200, 2))]
    with vs.open(":memory:", embedder=None, clock=clock) as one, vs.open(":memory:", embedder=None, clock=clock) as two:
        singly, together = [], []
        for start in range(0, 200, 40):
            part = pairs[start : start + 40]
            singly += [one.lattice.resolve(*pair) for pair in part]
            together += two.lattice.resolve_many(part)
            clock.move(days=2)
        assert singly == together
        shown = [
            [{**form.model_dump(), "version": 0} for form in sorted(store.lattice, key=lambda f: f.id)]
            for store in (one, two)
        ]
        assert shown[0] == shown[1]
        assert one.check().findings == two.check().findings == ()
        assert all(two.lattice.verify(form.anchor) == () for form in two.lattice)
        assert two.lattice.resolve_many([]) == []
        for store in (one, two):
            store.lattice.append("%5F_a", "to come", at=clock.now + DAY)
        thrice = [("_", "a")] * 3
        assert [one.lattice.resolve(*pair) for pair in thrice] == pytest.approx(two.lattice.resolve_many(thrice))


def test_a_bad_pair_among_many_writes_nothing(store: vs.Store) -> None:
    for bad in (("a", None), ("a", "  "), ("x" * 600, "y" * 600)):
        with pytest.raises(vs.ValidationError):
            store.lattice.resolve_many([("c", "d"), bad])  # type: ignore[list-item]
    assert len(store.lattice) == 0


def test_a_form_of_a_pair_by_hand(store: vs.Store, clock: Clock) -> None:
    """The source's custom form: three terms, an undecayed sum of 1.1, its topology; then two forms are of the domain."""
    store.lattice.resolve("g1", "g2")
    form = store.lattice.create_pair("custom", "g1", "g2")
    clock.move(days=3)
    assert [(t.symbol, t.role, t.intensity) for t in store.lattice.terms("custom")] == [
        ("g1", "geoid_a", 0.5),
        ("g2", "geoid_b", 0.5),
        ("custom", "creation_event", 0.1),
    ]
    assert store.lattice.intensity("custom", decayed=False) == pytest.approx(1.1)
    assert form.topology["geoid_pair"] == ["g1", "g2"] and form.topology["lattice_type"] == "contradiction"
    assert store.lattice.count({"domain": "cls"}) == 2
    with pytest.raises(vs.ConflictError, match="'custom' is there already"):
        store.lattice.create_pair("custom", "g1", "g3")
    with pytest.raises(vs.ValidationError, match=r"create_pair: expected two names, got \('', 'b'\)"):
        store.lattice.create_pair("other", "", "b")
    assert len(store.lattice) == 2


def test_threads_lose_no_event(place: Path | str) -> None:
    """F6, K9: 4 x 25 resolves by threads add exactly 100 events."""
    with vs.open(place, embedder=None) as store:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                for _ in range(25):
                    store.lattice.resolve("a", "b")
                    store.lattice.form("a_b")
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.lattice.form("a_b").events == 101 == len(store.lattice.terms("a_b"))
        assert store.lattice.form("a_b").raw_sum == pytest.approx(11.0)
        assert store.lattice.verify("a_b") == ()


WORKER = """
import sys, vectorstore as vs
with vs.open(sys.argv[1], embedder=None) as store:
    for _ in range(25):
        store.lattice.resolve("a", "b")
        store.lattice.append("shared", sys.argv[2])
"""


def test_processes_lose_no_event(tmp_path: Path) -> None:
    """F6, K8: a second process opens the same lattice, and both write."""
    with vs.open(tmp_path / "kb", embedder=None) as store:
        store.lattice.put({"anchor": "shared"})
        workers = [subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path / "kb"), name]) for name in "pq"]
        for _ in range(10):
            store.lattice.resolve("b", "a")
        assert [worker.wait(60) for worker in workers] == [0, 0]
        assert store.lattice.form("a_b").events == 61
        assert Counter(term.symbol for term in store.lattice.terms("shared")) == {"p": 25, "q": 25}
        assert store.lattice.verify("a_b") == store.lattice.verify("shared") == ()
        assert store.check().findings == ()


def test_the_ten_thousandth_event_costs_what_the_tenth_does() -> None:
    """F7, K11."""
    with vs.open(":memory:", embedder=None) as store, store.transaction():

        def cost(count: int) -> float:
            times = []
            for _ in range(count):
                begun = time.perf_counter()
                store.lattice.resolve("a", "b")
                times.append(time.perf_counter() - begun)
            return float(np.median(times))

        store.lattice.resolve("a", "b")
        early = cost(60)
        store.lattice.append_many("a_b", [{"symbol": "s", "intensity": 0.1}] * 9_900)
        late = cost(60)
        assert late <= 3 * early
        assert store.lattice.form("a_b").events == 2 + 120 + 9_900


# -- F9, F10: identities and resonance ---------------------------------------------------------------------------------


def test_identities_have_vectors_and_forms(store: vs.Store) -> None:
    """F9, K19: an identity's vector is kept; its forms are found by an index, and a scar by what it is between."""
    birds, fish = store.identities.add(
        [{"raw": " Birds can fly "}, vs.Identity(raw="Fish cannot fly", tags=("b", "c"))]
    )
    assert store.identities.get(birds).echo == "Birds can fly" and len(birds) == 16
    assert store.identities.search("Birds can fly", k=1)[0].id == birds
    scar = store.identities.add({"identity_type": "scar", "related_ids": [birds, fish], "weight": 2.0})[0]
    assert [one.id for one in store.identities.find({"related_ids__has": fish})] == [scar]
    store.lattice.resolve(birds, fish)
    store.lattice.resolve("a", "b")
    assert [form.anchor for form in store.lattice.find({"identities__has": birds})] == [pair_anchor(birds, fish)]
    vector = np.arange(64, dtype=np.float32)
    store.identities.upsert({"id": "mine", "raw": "x", "weight": 3}, vectors=vector[None])
    assert store.identities.search(vector, k=1)[0].id == "mine"
    with vs.open(":memory:", embedder=None) as other, pytest.raises(vs.ValidationError, match="identity_type"):
        other.identities.add({"identity_type": "ghost"})


def test_entropy_slows_decay_only_when_asked(store: vs.Store, clock: Clock) -> None:
    """F9: tau x (1 + 0.1 x bits), off by default."""
    assert entropy([1, 1, 1, 1]) == 2.0 and entropy([]) == entropy([5, 0]) == 0.0
    assert entropy([0.5, 0.25, 0.25]) == pytest.approx(1.5)
    four = {"raw": "four", "terms": {"a": 1, "b": 1, "c": 1, "d": 1}}
    a, b = store.identities.add([four, {"identity_type": "scar", "related_ids": ["x", "y"], "weight": 3.0}])
    (c,) = store.identities.add({"raw": "tags", "tags": ["t", "u"]})
    assert [store.identities.get(name).entropy() for name in (a, b, c)] == [2.0, 3.0, 1.0]
    store.lattice.resolve(a, b)
    store.lattice.resolve(a, "unknown")
    store.lattice.resolve("x", "y")
    anchors = [pair_anchor(a, b), pair_anchor(a, "unknown"), "x_y"]
    assert [store.lattice.tau_of(anchor) for anchor in anchors] == pytest.approx([14 * 1.25, 14 * 1.2, 14])
    clock.move(days=14)
    store.lattice.decay(14.0)
    assert [store.lattice.intensity(anchor) for anchor in anchors] == pytest.approx([1.1 * math.exp(-1)] * 3)
    store.lattice.decay(14.0, entropy_scaling=0.1)
    wanted = [1.1 * math.exp(-1 / 1.25), 1.1 * math.exp(-1 / 1.2), 1.1 * math.exp(-1)]
    assert [store.lattice.intensity(anchor) for anchor in anchors] == pytest.approx(wanted, rel=1e-12)


def resonance_of(store: vs.Store, one: vs.EchoForm, other: vs.EchoForm, now: datetime) -> float:
    """The formula, from the terms."""
    vectors = []
    for form in (one, other):
        weights: dict[str, float] = defaultdict(float)
        for term in store.lattice.terms(form.anchor):
            weights[term.symbol] += brute([term], now, form.tau_days)
        vectors.append(weights)
    dot = sum(weight * vectors[1].get(symbol, 0.0) for symbol, weight in vectors[0].items())
    lengths = [math.sqrt(sum(w * w for w in weights.values())) for weights in vectors]
    cosine = dot / (lengths[0] * lengths[1]) if all(lengths) else 0.0
    either, both = {*one.identities, *other.identities}, {*one.identities} & {*other.identities}
    return (len(both) / len(either) + cosine) / 2 if either else cosine


def test_resonance_equals_brute_force(store: vs.Store, clock: Clock) -> None:
    """F10: top-k, symmetric, in 0..1; a planted related form ranks first."""
    random, lattice = np.random.default_rng(3), store.lattice
    for place in range(60):
        clock.move(hours=5)
        held = [f"i{n}" for n in random.choice(25, size=random.integers(0, 4), replace=False)]
        terms = [
            {"symbol": f"s{random.integers(0, 30)}", "intensity": float(random.random())}
            for _ in range(random.integers(0, 6))
        ]
        lattice.put(
            {"anchor": f"f{place}", "identities": held, "tau_days": 1.0 + place, "domain": f"d{place % 3}"}, terms
        )
    planted = lattice.form("f7").identities
    lattice.put(
        {"anchor": "kin", "identities": [*planted, "i99"]},
        [t.model_dump(include={"symbol", "role", "intensity", "at"}) for t in lattice.terms("f7")],
    )
    everything = list(lattice)
    for form in everything[:20]:
        exact = {o.anchor: resonance_of(store, form, o, clock.now) for o in everything if o.id != form.id}
        found = lattice.resonant(form.anchor, 100)
        assert {one.form.anchor for one in found} == {anchor for anchor, score in exact.items() if score > 0}
        assert [one.score for one in found] == pytest.approx(sorted((s for s in exact.values() if s > 0), reverse=True))
        for one in found:
            assert 0 < one.score <= 1 and one.score == pytest.approx(exact[one.form.anchor], rel=1e-9)
            assert set(one.identities) == {*form.identities} & {*one.form.identities}
            back = next(o for o in lattice.resonant(one.form.anchor, 100) if o.form.id == form.id)
            assert back.score == pytest.approx(one.score, rel=1e-9)
        top = lattice.resonant(form.anchor, 3)
        assert [one.form.id for one in top] == [one.form.id for one in found[:3]]
        inside = lattice.resonant(form.anchor, 100, where={"domain": "d1"})
        assert [one.form.id for one in inside] == [one.form.id for one in found if one.form.domain == "d1"]
    assert lattice.form("f7").events and lattice.resonant("f7", 1)[0].form.anchor == "kin"
    lattice.delete(form_id("kin"))
    assert all(one.form.anchor != "kin" for one in lattice.resonant("f7", 100))


# -- F12: analytics ----------------------------------------------------------------------------------------------------


def test_groups_equal_brute_force(store: vs.Store, clock: Clock) -> None:
    """F12."""
    random, lattice = np.random.default_rng(5), store.lattice
    for place in range(40):
        clock.move(hours=9)
        terms = [
            {
                "symbol": f"s{random.integers(0, 8)}",
                "role": f"r{random.integers(0, 3)}",
                "intensity": float(random.random()),
            }
            for _ in range(random.integers(0, 5))
        ]
        lattice.put(
            {"anchor": f"f{place}", "domain": f"d{place % 4}", "phase": f"p{place % 3}", "tau_days": 2.0 + place % 5},
            terms,
        )
    lattice.delete(form_id("f3"))
    clock.move(days=1)
    keys: dict[str, Callable[[vs.EchoForm, vs.EchoTerm | None], str]] = {
        "domain": lambda form, term: form.domain,
        "phase": lambda form, term: form.phase,
        "day": lambda form, term: form.created_at.astimezone(UTC).strftime("%Y-%m-%d"),
        "symbol": lambda form, term: term.symbol,
        "role": lambda form, term: term.role,
    }
    for (by, key), (tau, where) in itertools.product(keys.items(), [(None, None), (3.0, {"domain__in": ["d1", "d2"]})]):
        groups: dict[str, list[Any]] = defaultdict(lambda: [set(), 0, 0.0, 0.0])
        for form in lattice.stream(where):
            terms = lattice.terms(form.anchor)
            for term in terms or ([None] if by not in ("symbol", "role") else []):
                group = groups[key(form, term)]
                group[0].add(form.id)
                if term is not None:
                    group[1] += 1
                    group[2] += term.intensity
                    group[3] += brute([term], clock.now, tau or form.tau_days)
        found = lattice.analytics(by, where=where, tau_days=tau)  # type: ignore[arg-type]
        assert {group.key for group in found} == set(groups)
        assert [group.intensity for group in found] == sorted((group.intensity for group in found), reverse=True)
        for group in found:
            exact = groups[group.key]
            assert (group.forms, group.terms) == (len(exact[0]), exact[1])
            assert (group.raw, group.intensity) == pytest.approx((exact[2], exact[3]), rel=1e-9)
    assert lattice.top_symbols(3) == lattice.analytics("symbol")[:3]
    assert "CLEAR" not in str(lattice.analytics("domain", where={"domain": "?'; --"}))


# -- F13: import -------------------------------------------------------------------------------------------------------

OLD: dict[str, Any] = {
    "Scar_007": {
        "anchor": "Scar_007",
        "domain": "scar",
        "phase": "resonance",
        "recursive": False,
        "topology": {"nodes": [1, 2, 3]},
        "trace_signature": "0123456789abcdef",
        "echo_created_at": 1_700_000_000.25,
        "_recursion_depth": 2,
        "terms": [
            {"symbol": "!∂Scar_007", "role": "contradiction_seed", "intensity": 1.0, "timestamp": 1_700_000_100.125},
            {"symbol": "∇echo", "role": "resonance_marker", "intensity": 0.5, "raw": "Birds", "entropy_a": 1.5},
            {"symbol": "quiet", "role": "r"},
        ],
    },
    "law": {
        "domain": "law",
        "echo_created_at": 1_690_000_000,
        "terms": [{"symbol": "alpha", "role": "r", "intensity": 1.5}],
    },
}


@pytest.mark.parametrize("shape", ["mapping", "list", "text", "file"])
def test_an_old_lattice_comes_in_as_it_was(store: vs.Store, clock: Clock, tmp_path: Path, shape: str) -> None:
    """F13, K15: intensities and times as they were; nothing else is written; a rerun is a no-op."""
    listed = [{"anchor": name, **form} for name, form in OLD.items()]
    text = json.dumps(OLD, ensure_ascii=False)
    (tmp_path / "old.json").write_text(text, encoding="utf-8")
    source: Any = {"mapping": OLD, "list": listed, "text": text, "file": tmp_path / "old.json"}[shape]
    report = store.lattice.bring(source)
    assert (len(report.added), report.extended, report.unchanged) == (2, (), ())
    form = store.lattice.form("Scar_007")
    assert (form.domain, form.phase, form.recursive, form.topology) == (
        "scar",
        "resonance",
        False,
        {"nodes": [1, 2, 3]},
    )
    assert form.extra == {"trace_signature": "0123456789abcdef", "_recursion_depth": 2}
    assert form.created_at.timestamp() == 1_700_000_000.25 and form.updated_at.timestamp() == 1_700_000_100.125
    terms = store.lattice.terms("Scar_007")
    assert [term.intensity for term in terms] == [1.0, 0.5, 0.0]
    assert [term.at.timestamp() for term in terms] == [1_700_000_100.125, 1_700_000_000.25, 1_700_000_000.25]
    assert terms[1].extra == {"raw": "Birds", "entropy_a": 1.5} and terms[0].symbol == "!∂Scar_007"
    before = [record.model_dump() for kind in ("forms", "form_terms", "form_steps") for record in store[kind]]
    again = store.lattice.bring(source)
    assert again.added == again.extended == () and set(again.unchanged) == set(report.added)
    assert [r.model_dump() for kind in ("forms", "form_terms", "form_steps") for r in store[kind]] == before
    assert store.lattice.intensity("law") == pytest.approx(brute(store.lattice.terms("law"), clock.now, 14.0))
    assert len(store.lattice) == 2 and store.lattice.verify("Scar_007") == ()


def test_a_longer_list_extends_and_another_one_is_refused(store: vs.Store) -> None:
    store.lattice.bring({"law": OLD["law"]})
    longer = {
        **OLD["law"],
        "terms": [*OLD["law"]["terms"], {"symbol": "beta", "intensity": 0.8, "timestamp": 1_690_000_001}],
    }
    assert store.lattice.bring({"law": longer}).extended == ("default:law",)
    assert store.lattice.bring({"law": OLD["law"]}).unchanged == ("default:law",)
    store.lattice.append("law", "gamma")
    assert store.lattice.bring({"law": longer}).unchanged == ("default:law",)
    other = {**OLD["law"], "terms": [{"symbol": "beta", "intensity": 1.5}]}
    with pytest.raises(vs.ConflictError, match="'law' is here with other terms; nothing was imported"):
        store.lattice.bring({"new": OLD["law"], "law": other})
    assert [term.symbol for term in store.lattice.terms("law")] == ["alpha", "beta", "gamma"] and len(
        store.lattice
    ) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{", "forms: is not JSON"),
        (7, "forms: expected a mapping, a list or JSON"),
        ([{"anchor": "x"}, 7], r"forms\[1\]: expected a mapping, got int"),
        ([{"domain": "x"}], r"forms\[0\].anchor: is required"),
        ([{"anchor": "x"}, {"anchor": "x"}], r"forms\[1\].anchor: 'x' is also forms\[0\]"),
        ([{"anchor": "x", "echo_created_at": "yesterday"}], r"forms\[0\].echo_created_at"),
        ([{"anchor": "x", "echo_created_at": 1e300}], r"forms\[0\].echo_created_at: expected seconds since 1970"),
        ([{"anchor": "x", "terms": [{"symbol": "s"}]}], r"terms\[0\].timestamp: is required"),
        (
            [{"anchor": "x", "echo_created_at": 1, "terms": [{"role": "s"}]}],
            r"forms\[0\].terms\[0\].symbol: is required",
        ),
        (
            {"x": {"echo_created_at": 1, "terms": [{"symbol": "s", "intensity": -1}]}},
            r"forms\['x'\].terms\[0\].intensity",
        ),
        ({"x": {"terms": "abc"}}, r"forms\['x'\].terms: expected a list"),
    ],
)
def test_what_is_no_lattice_is_refused_whole(store: vs.Store, source: Any, message: str) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        store.lattice.bring(source)
    assert len(store.lattice) == 0


# -- the source's other defects ----------------------------------------------------------------------------------------


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    """K7: a database that cannot be opened is an error; it is not deleted. K16: each path is a lattice of its own."""
    (tmp_path / "kb").mkdir()
    (tmp_path / "kb" / "catalog.sqlite").write_bytes(b"not a database, but somebody's" * 100)
    before = (tmp_path / "kb" / "catalog.sqlite").read_bytes()
    with pytest.raises(vs.StoreError):
        vs.open(tmp_path / "kb")
    assert (tmp_path / "kb" / "catalog.sqlite").read_bytes() == before
    with vs.open(tmp_path / "one", embedder=None) as one, vs.open(tmp_path / "two", embedder=None) as two:
        one.lattice.put({"anchor": "x"})
        assert (len(one.lattice), len(two.lattice)) == (1, 0)


def test_nothing_is_capped_and_writes_are_told(tmp_path: Path) -> None:
    """K17: more than a thousand forms come in one walk. The source's metrics: three writes are counted as three."""
    with vs.open(tmp_path / "kb", embedder=None) as store:
        told: list[Any] = []
        store.on("commit", lambda event: told.append((event["kind"], event["operation"], event["records"])))
        store.lattice.resolve_many([(f"a{n}", "b") for n in range(1200)])
        for _ in range(3):
            store.lattice.resolve("a1", "b")
        assert len(list(store.lattice.stream({"domain": "cls"}))) == 1200
        assert told == [("forms", "resolve", 1200), *[("forms", "resolve", 1)] * 3]


def test_a_context_is_saved_and_loaded_with_its_lattice(tmp_path: Path, clock: Clock) -> None:
    """Forms, terms, steps and links come back, and the chain with them."""
    with vs.open(tmp_path / "one", embedder=None, clock=clock) as store:
        for place in range(6):
            store.lattice.resolve(f"a{place}", "b")
            clock.move(days=1)
        store.lattice.mutate("a0_b", "dormant")
        store.lattice.append("a0_b", "s", at=clock.now + 3 * DAY)
        store.lattice.link("a0_b", "a1_b", weight=0.5)
        store.lattice.link("a0_b", "a1_b", weight=0.6)
        store.contexts.save("default", tmp_path / "saved")
        kept = {
            form.anchor: (form.trace_signature, form.events, store.lattice.intensity(form.anchor))
            for form in store.lattice
        }
        assert store.lattice.verify("a0_b") == store.lattice.verify("a1_b") == ()
    with vs.open(tmp_path / "two", embedder=None, clock=clock) as store:
        store.contexts.load(tmp_path / "saved")
        for form in store.lattice:
            signature, events, intensity = kept.pop(form.anchor)
            assert (form.trace_signature, form.events) == (signature, events)
            assert store.lattice.intensity(form.anchor) == pytest.approx(intensity, rel=1e-12)
            assert store.lattice.verify(form.anchor) == ()
        assert not kept and store.check().findings == ()
        assert len(store.lattice.history("a0_b", "a1_b")) == 2


# -- K12 of the search features ----------------------------------------------------------------------------------------


def test_decay_and_expiry_in_ranking(store: vs.Store, clock: Clock) -> None:
    """Feature K12 in one walk: half-life and tau rank by age, expired rows are never returned, and are purged by policy."""
    for day, name in enumerate(["oldest", "older", "new"]):
        clock.now += day * 10 * DAY
        store.concepts.add({"id": name, "name": "king", "expires_at": clock.now + 45 * DAY})
    for decay, left in ((vs.Decay(half_life=10 * DAY), 2**-2), (vs.Decay(tau=10 * DAY), math.exp(-2))):
        hits = store.concepts.search("king", decay=decay)
        assert hits.ids == ["new", "older", "oldest"]
        assert hits[1].score == pytest.approx(hits[0].score * left, rel=1e-9)
    clock.move(days=26)  # the 10 + 20 + 26 days of the oldest, 46 of the older one
    for mode in ("vector", "text", "hybrid"):
        assert store.concepts.search("king", mode=mode, decay=vs.Decay(tau=DAY)).ids == ["new"]
    assert store.concepts.purge(older_than=10 * DAY) == 1 and store.concepts.purge(expired=True) == 1
    assert store.concepts.search("king").ids == ["new"]
