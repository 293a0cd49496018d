"""Semantic fields: planted groups are found, cores are disjoint, ids stay."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import vectorstore as vs
from tests.conftest import Matrix

GROUPS = {
    "animal": ("lion", "tiger", "wolf", "eagle", "shark"),
    "royalty": ("king", "queen", "prince", "princess", "emperor", "duke", "duchess", "baron", "knight"),
    "military": ("general", "colonel", "captain", "sergeant", "soldier", "archer", "cavalry", "infantry", "guard"),
    "business": ("ceo", "manager", "director", "supervisor", "employee"),
}
NAMES = [(domain, name) for domain, names in GROUPS.items() for name in names]


def planted(seed: int = 0, noise: float = 0.25, dim: int = 24) -> Matrix:
    """A row for each of NAMES, around one axis a group."""
    random = np.random.default_rng(seed)
    axes = np.array([list(GROUPS).index(domain) for domain, _ in NAMES])
    return (np.eye(4, dim)[axes] + noise * random.standard_normal((len(NAMES), dim))).astype(np.float32)


@pytest.fixture
def kb(open_store: Callable[..., vs.Store]) -> vs.Store:
    store = open_store()
    records = [
        {"name": name, "domain": domain, "roles": {f"{domain}_frame": "member"} if name != "shark" else {}}
        for domain, name in NAMES
    ]
    store.concepts.add(records, vectors=planted())
    store.clusters.fit("concepts", "kmeans", 4, seed=1)
    return store


def test_planted_groups_are_recovered_with_their_coherence(kb: vs.Store) -> None:
    report = kb.fields.discover()
    assert len(report.fields) == len(report.new) == 4 and report.passed_over == {}
    rows = planted() / np.linalg.norm(planted(), axis=1, keepdims=True)
    for field in kb.fields.find():
        assert field.id in report.fields
        domain = next(domain for domain, name in NAMES if f"default:{name}" == field.core[0])
        mine = [place for place, (own, _) in enumerate(NAMES) if own == domain]
        assert {*field.core, *field.related} == {f"default:{NAMES[place][1]}" for place in mine}
        cosines = (rows[mine] @ rows[mine].T)[np.triu_indices(len(mine), 1)]
        assert field.coherence == pytest.approx(cosines.mean(), abs=1e-5)
        assert field.frames == (f"{domain}_frame",) and set(field.terms) <= {name for _, name in NAMES}
        assert field.name == ", ".join(field.terms[:3])
        assert kb.fields.search(rows[mine[0]], k=1).ids == [field.id]


def test_cores_are_disjoint_and_made_of_strong_members(kb: vs.Store) -> None:
    kb.concepts.add(
        {"id": "between", "name": "steward"}, vectors=kb.clusters.vectors(["concepts:0", "concepts:2"]).sum(0)
    )
    kb.clusters.assign()
    kb.fields.discover()
    fields = list(kb.fields.find())
    cores = [set(field.core) for field in fields]
    assert sum(map(len, cores)) == len(set().union(*cores))
    for field in fields:
        for name in field.core:
            assert kb.clusters.memberships(name)[field.id] >= 0.8
        for name, strength in field.related.items():
            assert kb.clusters.memberships(name)[field.id] == pytest.approx(strength, abs=1e-6) and strength >= 0.1
    assert any("between" in field.related for field in fields)


def test_fields_outlive_a_restart_and_a_refit(kb: vs.Store, open_store: Callable[..., vs.Store]) -> None:
    kb.fields.discover()
    kb.fields.update({"id": "concepts:1", "name": "My field", "tags": ["mine"]})
    before = {field.id: field.core for field in kb.fields.find()}
    kb.close()
    kb = open_store()
    assert {field.id: field.core for field in kb.fields.find()} == before
    kb.concepts.add([{"name": f"new {n}"} for n in range(len(NAMES))], vectors=planted(seed=3))
    kb.clusters.refit(seed=12)
    report = kb.fields.discover()
    assert report.fields == tuple(sorted(before)) and report.new == report.retired == ()
    for field in kb.fields.find():
        assert len(set(field.core) & set(before[field.id])) >= 0.8 * len(before[field.id])
        assert (field.name == "My field") == (field.id == "concepts:1") == (field.tags == ("mine",))


def test_what_is_no_field_any_more_goes(kb: vs.Store) -> None:
    kb.fields.discover()
    sizes = {cluster.id: cluster.size for cluster in kb.clusters.find()}
    report = kb.fields.discover(min_members=6)
    assert set(report.retired) == set(report.passed_over) == {name for name, size in sizes.items() if size < 6}
    assert report.passed_over[report.retired[0]] == "5 members" and len(kb.fields) == 2
    report = kb.fields.discover(min_coherence=0.99)
    assert len(kb.fields) == 0 and all(why.startswith("coherence 0.") for why in report.passed_over.values())
    assert kb.check().findings == ()


def test_purge_takes_a_record_out_of_its_field(kb: vs.Store) -> None:
    kb.fields.discover()
    kb.concepts.delete("default:lion")
    kb.concepts.purge("default:lion")
    for field in kb.fields.find():
        assert "default:lion" not in {*field.core, *field.related} and "lion" not in (*field.terms, field.name)
    assert kb.check().findings == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"core": 0.4}, "core: expected 0.5..1, got 0.4"),
        ({"related": 0.9}, "related: expected 0..0.8, got 0.9"),
        ({"min_coherence": 2}, "min_coherence: expected -1..1, got 2"),
        ({"min_members": 0}, "min_members: expected a whole number"),
        ({"min_members": True}, "min_members: expected"),
    ],
)
def test_bad_bounds_are_named(arguments: dict[str, float], message: str, kb: vs.Store) -> None:
    with pytest.raises(vs.ValidationError, match=message):
        kb.fields.discover(**arguments)  # type: ignore[arg-type]


def test_fields_need_a_fit(open_store: Callable[..., vs.Store]) -> None:
    with pytest.raises(vs.NotFound, match="no line of fits 'analogies'"):
        open_store().fields.discover("analogies")
