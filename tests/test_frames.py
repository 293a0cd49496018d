"""Frames: what they inherit, how they are found, what an instance must be, which instances are alike."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from conftest import Clock

import vectorstore as vs
from vectorstore.reason.likeness import best_pairs
from vectorstore.records import schema_of


def parts(core: str, peripheral: str = "", extra: str = "") -> list[dict[str, str]]:
    kinds = {"core": core, "peripheral": peripheral, "extrathematic": extra}
    return [{"name": name, "type": kind} for kind, names in kinds.items() for name in names.split()]


FRAMES = [
    {
        "name": "Commercial_transaction",
        "definition": "a buyer gets goods for money from a seller",
        "elements": parts("Buyer Seller Goods Money", "Time Place"),
        "lexical_units": ["buy", "sell", "purchase", "trade"],
    },
    {
        "name": "Gift_giving",
        "elements": parts("Giver Recipient Gift", "Occasion Time", "Place"),
        "lexical_units": ["give"],
    },
    {"name": "Monarchy", "elements": parts("Ruler Consort Heir", "Kingdom Crown")},
    {"name": "Royalty_Hierarchy", "elements": parts("Ruler Heir Subject")},
    {"name": "Military_Hierarchy", "elements": parts("Commander Subordinate Unit")},
    {"name": "Business_Hierarchy", "elements": parts("Executive Manager Employee")},
    {"name": "Quest", "elements": parts("Hero Goal", "Helper Place")},
]
INSTANCES: list[dict[str, Any]] = [
    {"id": "medieval_kingdom", "frame": "Royalty_Hierarchy", "bindings": {"Ruler": "king", "Heir": "prince", "Subject": "princess"}},
    {"id": "army_command", "frame": "Military_Hierarchy", "bindings": {"Commander": "general", "Subordinate": "colonel", "Unit": "soldier"}},
    {"id": "corporate_structure", "frame": "Business_Hierarchy", "bindings": {"Executive": "ceo", "Manager": "director", "Employee": "employee"}},
    {"id": "john_buys_car", "frame": "Commercial_transaction", "bindings": {"Buyer": "john", "Seller": "dealer", "Goods": "car", "Money": "dollars"}},
    {"id": "british_royalty", "frame": "Royalty_Hierarchy", "bindings": {"Ruler": "queen", "Heir": ["prince", "duke"], "Subject": "baron"}},
]  # fmt: skip
NAMES = sorted({name for each in INSTANCES for bound in each["bindings"].values() for name in ([bound] if isinstance(bound, str) else bound)})  # fmt: skip


def ident(name: str) -> str:
    return f"default:{name.lower()}"


def fill(store: vs.Store, vectors: Any = None) -> None:
    store.concepts.add([{"name": name} for name in NAMES], vectors=vectors)
    store.frames.add(FRAMES) if vectors is None else store.frames.add(FRAMES, vectors=np.eye(len(FRAMES)) + 0.1)
    for each in INSTANCES:
        store.instances.bind(each["frame"], each["bindings"], id=each["id"])


@pytest.fixture
def scenes(store: vs.Store) -> vs.Store:
    fill(store)
    return store


# -- frames ------------------------------------------------------------------------------------------------------------


def test_a_frame_comes_back_whole_after_a_reopen(open_store: Callable[..., vs.Store]) -> None:
    element = vs.FrameElement(
        name="Goods",
        type="peripheral",
        description="what changes hands",
        constraints=("artefact",),
        typical_fillers=("car",),
    )
    elements = (element, vs.FrameElement(name="Seller"))
    frame = vs.Frame(name="Selling", definition="d", elements=elements, lexical_units=("sell",), extra={"source": "x"})
    with open_store(embedder="hash:64") as store:
        store.frames.add(frame)
    with open_store(embedder="hash:64") as store:
        found = store.frames.get("default:selling")
        assert found.elements == frame.elements and found.lexical_units == ("sell",) and found.extra == {"source": "x"}
        assert [element.type for element in found.elements] == ["peripheral", "core"]


def test_frames_are_found_by_what_calls_them_up_and_by_element(scenes: vs.Store) -> None:
    assert [frame.name for frame in scenes.frames.find({"lexical_units__has": "BUY"})] == ["Commercial_transaction"]
    assert {frame.name for frame in scenes.frames.find({"elements__has": "ruler"})} == {"Monarchy", "Royalty_Hierarchy"}
    both = scenes.frames.find({"elements__has_all": ["Time", "Place"], "not": {"elements__has": "Gift"}})
    assert [frame.name for frame in both] == ["Commercial_transaction"]
    assert len(scenes.frames.find({"elements__has_any": ["Hero", "Unit"]})) == 2
    assert scenes.frames.search("a buyer gets goods", k=1)[0].record.name == "Commercial_transaction"
    assert scenes.frames.resolve("monarchy").id == "default:monarchy"


def test_a_frame_registered_again_is_found_by_its_new_parts_alone(scenes: vs.Store) -> None:
    before = scenes.frames.get(ident("Quest"))
    for _ in range(3):
        scenes.frames.upsert(
            {"name": "Quest", "elements": parts("Hero Prize"), "lexical_units": ["seek", "Seek", "search"]}
        )
    after = scenes.frames.get(ident("Quest"))

    assert (after.version, after.created_at) == (before.version + 3, before.created_at)
    assert len(scenes.frames.find({"name": "quest"})) == 1
    assert [len(scenes.frames.find({"elements__has": name})) for name in ("Hero", "Prize", "Goal")] == [1, 1, 0]
    assert [frame.name for frame in scenes.frames.find({"lexical_units__has": "seek"})] == ["Quest"]
    assert scenes.check().findings == ()


def test_a_filter_on_elements_uses_its_index(scenes: vs.Store) -> None:
    table = scenes._sync.tables["frames"]
    sql, values = table.condition(scenes.frames._parse({"elements__has": "Hero"}))
    with scenes._catalog.read() as connection:
        plan = str(connection.execute(f"EXPLAIN QUERY PLAN SELECT row FROM frames WHERE {sql}", values).fetchall())
    assert "frames_elements USING PRIMARY KEY (value=?)" in plan and "SCAN frames" not in plan


def test_bad_frames_are_refused_and_named() -> None:
    with pytest.raises(vs.ValidationError, match=r"elements: two elements are called 'ruler'"):
        vs.Frame(name="x", elements=[{"name": "Ruler"}, {"name": "ruler"}])
    with pytest.raises(vs.ValidationError, match=r"elements\[0\].type"):
        vs.Frame(name="x", elements=[{"name": "Ruler", "type": "vital"}])
    with pytest.raises(vs.ValidationError, match="LISTED needs a list of objects with the text fields nothing"):

        class Odd(vs.Record, table="odd"):
            things: Annotated[tuple[vs.FrameElement, ...], vs.Listed("nothing")] = ()

        schema_of(Odd)


# -- inheritance -------------------------------------------------------------------------------------------------------


def relate(store: vs.Store, source: str, target: str, type: str = "inheritance", **more: Any) -> str:
    return store.frame_relations.add({"source": ident(source), "target": ident(target), "type": type, **more})[0]


def test_elements_are_inherited_renamed_and_hidden(store: vs.Store) -> None:
    store.frames.add(
        [
            {"name": "Event", "elements": parts("", "Time Place")},
            {"name": "Transfer", "elements": parts("Donor Theme Recipient")},
            {"name": "Giving", "elements": [*parts("Gift"), {"name": "Place", "type": "extrathematic"}]},
            {"name": "Charity", "elements": parts("Cause")},
        ]
    )
    relate(store, "Transfer", "Event")
    relate(store, "Giving", "Transfer", element_mappings=[{"source": "Gift", "target": "Theme"}])
    relate(store, "Charity", "Giving", element_mappings=[{"source": "Benefactor", "target": "donor"}])
    found = {each.element.name: each for each in store.frames.elements(ident("Charity"))}

    assert list(found) == ["Cause", "Gift", "Place", "Benefactor", "Recipient", "Time"]
    assert {name: (each.frame, each.depth) for name, each in found.items()} == {
        "Cause": (ident("Charity"), 0),
        "Gift": (ident("Giving"), 1),
        "Place": (ident("Giving"), 1),
        "Benefactor": (ident("Transfer"), 2),
        "Recipient": (ident("Transfer"), 2),
        "Time": (ident("Event"), 3),
    }
    assert found["Place"].element.type == "extrathematic" and found["Benefactor"].declared == "Donor"
    assert store.frames.ancestors(ident("Charity")) == [ident("Giving"), ident("Transfer"), ident("Event")]
    with pytest.raises(vs.NotFound):
        store.frames.elements("nothing")


def test_a_diamond_gives_each_element_once_the_nearest_first(store: vs.Store) -> None:
    store.frames.add(
        [{"name": name, "elements": parts(own)} for name, own in zip("abcd", ["A", "B X", "C", "D X"], strict=True)]
    )
    for source, target in ("ab", "ac", "bd", "cd"):
        relate(store, source, target)
    assert [(each.element.name, each.frame) for each in store.frames.elements("default:a")] == [
        ("A", "default:a"), ("B", "default:b"), ("X", "default:b"), ("C", "default:c"), ("D", "default:d"),
    ]  # fmt: skip


def test_seven_kinds_of_relations_and_only_one_inherits(scenes: vs.Store) -> None:
    kinds = ["inheritance", "using", "subframe", "perspective", "precedes", "inchoative", "causative"]
    for kind in kinds:
        relate(scenes, "Quest", "Monarchy", kind, description=kind, confidence=0.5)
    found = list(scenes.frame_relations)
    assert [each.type for each in found] == kinds and {each.confidence for each in found} == {0.5}
    scenes.frame_relations.delete(where={"type": "inheritance"})
    assert [each.frame for each in scenes.frames.elements(ident("Quest"))] == [ident("Quest")] * 4
    with pytest.raises(vs.ValidationError, match="type"):
        relate(scenes, "Quest", "Monarchy", "likeness")
    with pytest.raises(vs.DuplicateId):
        relate(scenes, "Quest", "Monarchy", "using")


def test_cycles_of_inheritance_are_refused_also_by_a_restore(scenes: vs.Store, clock: Clock) -> None:
    first = relate(scenes, "Quest", "Monarchy")
    relate(scenes, "Monarchy", "Gift_giving")
    with pytest.raises(vs.CycleError, match="would inherit from itself; nothing was written"):
        relate(scenes, "Gift_giving", "Quest")
    with pytest.raises(vs.CycleError):
        relate(scenes, "Quest", "Quest")
    relate(scenes, "Gift_giving", "Quest", "using")  # only inheritance must lead nowhere twice
    scenes.frame_relations.delete(first)
    clock.move(seconds=1)
    back = relate(scenes, "Gift_giving", "Quest")
    with pytest.raises(vs.CycleError):
        scenes.frame_relations.restore(first)
    assert scenes.frame_relations.get(first) is None
    scenes.frame_relations.delete(back)
    assert scenes.frame_relations.restore(first) == 1
    scenes.frames.delete(ident("Monarchy"))
    clock.move(seconds=1)
    relate(scenes, "Gift_giving", "Quest")
    with pytest.raises(vs.CycleError):  # its relations would come back with it
        scenes.frames.restore(ident("Monarchy"))
    assert ident("Monarchy") not in scenes.frames and scenes.frames.ancestors(ident("Quest")) == []


def test_two_threads_cannot_make_a_cycle_between_them(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb", embedder="hash:8") as store:
        for turn in range(8):
            a, b = f"a{turn}", f"b{turn}"
            store.frames.add([{"name": a}, {"name": b}])
            refused: list[int] = []

            def inherit(source: str, target: str, refused: list[int] = refused) -> None:
                try:
                    relate(store, source, target)
                except vs.CycleError:
                    refused.append(1)

            threads = [threading.Thread(target=inherit, args=pair) for pair in ((a, b), (b, a))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(refused) == 1 and len(store.frame_relations) == turn + 1


def test_what_is_mapped_must_be_an_element(scenes: vs.Store) -> None:
    for pair in ({"source": "Hero", "target": "King"}, {"source": "Villain", "target": "Ruler"}):
        with pytest.raises(vs.UndeclaredElement, match=r"element_mappings\[0\]"):
            relate(scenes, "Quest", "Monarchy", "using", element_mappings=[pair])
    relate(scenes, "Quest", "Monarchy", element_mappings=[{"source": "Hero", "target": "heir", "confidence": 0.7}])
    assert "Heir" not in [each.element.name for each in scenes.frames.elements(ident("Quest"))]


# -- instances ---------------------------------------------------------------------------------------------------------


def test_each_fault_has_an_error_of_its_own_and_all_are_told_at_once(scenes: vs.Store) -> None:
    good = {"Ruler": ident("king"), "Heir": ident("prince"), "Subject": ident("baron")}
    frame = ident("Royalty_Hierarchy")
    faults: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (vs.UnknownFrame, r"\[1\].frame: no frame has the id 'nothing'", {"frame": "nothing", "bindings": good}),
        (vs.UnknownConcept, r"\[1\].bindings\[0\].concept: .*'nobody'", {"frame": frame, "bindings": {**good, "Ruler": "nobody"}}),
        (vs.MissingElement, r"\[1\].bindings: the core element 'Heir'", {"frame": frame, "bindings": {k: good[k] for k in ("Ruler", "Subject")}}),
        (vs.UndeclaredElement, r"\[1\].bindings\[3\].element: .*'Jester'; it has: Ruler, Heir, Subject", {"frame": frame, "bindings": {**good, "Jester": ident("king")}}),
    ]  # fmt: skip
    before = len(scenes.instances)
    for error, message, bad in faults:
        with pytest.raises(error, match=message) as caught:
            scenes.instances.add([{"frame": frame, "bindings": good}, bad])
        assert type(caught.value) is error and isinstance(caught.value, ValueError)
    with pytest.raises(vs.InstanceError) as caught:
        scenes.instances.add([bad for _, _, bad in faults])
    assert [type(problem) for problem in caught.value.problems] == [error for error, _, _ in faults]
    assert str(caught.value).count("\n") == 3 and "frame_instances[3].bindings[3].element" in str(caught.value)
    with pytest.raises(vs.ValidationError, match="twice"):
        scenes.instances.add({"frame": frame, "bindings": [{"element": "Ruler", "concept": "x"}] * 2})
    assert len(scenes.instances) == before


def test_inherited_core_elements_must_be_bound_and_may_be(scenes: vs.Store) -> None:
    scenes.frames.add({"name": "Empire", "elements": parts("Province")})
    relate(scenes, "Empire", "Royalty_Hierarchy", element_mappings=[{"source": "Emperor", "target": "Ruler"}])
    with pytest.raises(vs.MissingElement, match="'Emperor'"):
        scenes.instances.bind("Empire", {"Province": "baron", "Heir": "prince", "Subject": "baron"})
    with pytest.raises(vs.UndeclaredElement, match="'Ruler'"):
        scenes.instances.bind(
            "Empire", {"Province": "baron", "Ruler": "king", "Emperor": "king", "Heir": "prince", "Subject": "baron"}
        )
    scenes.instances.bind("Empire", {"Province": "baron", "emperor": "king", "HEIR": "prince", "Subject": "baron"})


def test_confidence_and_metadata_are_kept_and_several_play_one_part(scenes: vs.Store) -> None:
    made = scenes.instances.bind(
        "royalty_hierarchy",
        {"Ruler": ["king", "queen"], "Heir": "prince", "Subject": "baron"},
        confidence=0.7,
        tags=["history"],
        century=16,
    )
    found = scenes.instances.get(made)
    assert (found.confidence, found.tags, found.extra) == (0.7, ("history",), {"century": 16})
    assert [(b.element, b.concept) for b in found.bindings][:2] == [("Ruler", ident("king")), ("Ruler", ident("queen"))]
    assert [each.id for each in scenes.instances.find({"extra.century__gte": 10})] == [made]


def test_a_concept_reports_all_parts_that_it_plays(scenes: vs.Store) -> None:
    scenes.instances.bind("Royalty_Hierarchy", {"Ruler": "prince", "Heir": "prince", "Subject": "baron"}, id="orphan")
    roles = scenes.instances.roles_of(ident("prince"))
    assert [(role.instance.id, role.element) for role in roles] == [
        ("medieval_kingdom", "Heir"),
        ("british_royalty", "Heir"),
        ("orphan", "Ruler"),
        ("orphan", "Heir"),
    ]
    assert {role.frame for role in roles} == {ident("Royalty_Hierarchy")}
    assert scenes.instances.roles_of(ident("king"))[0].element == "Ruler"
    with pytest.raises(vs.NotFound, match="'nobody'"):
        scenes.instances.roles_of("nobody")


def test_bind_resolves_names_through_contexts_and_makes_what_is_missing(scenes: vs.Store) -> None:
    scenes.contexts.add({"name": "france", "parent": "default"})
    scenes.concepts.add({"name": "king", "context": "france"})
    bindings = {"Ruler": "king", "Heir": "dauphin", "Subject": "baron"}
    with pytest.raises(vs.UnknownConcept, match="'dauphin'"):
        scenes.instances.bind("Royalty_Hierarchy", bindings, context="france")
    with pytest.raises(vs.UndeclaredElement):
        scenes.instances.bind("Royalty_Hierarchy", {**bindings, "Jester": "fool"}, context="france", missing="create")
    assert "france:dauphin" not in scenes.concepts and scenes.check().findings == ()
    made = scenes.instances.bind("Royalty_Hierarchy", bindings, context="france", missing="create")
    assert [b.concept for b in scenes.instances.get(made).bindings] == ["france:king", "france:dauphin", ident("baron")]
    with pytest.raises(vs.UnknownFrame, match="'Nothing'"):
        scenes.instances.bind("Nothing", {})


def test_an_instance_goes_and_comes_with_its_frame_and_keeps_its_concepts_from_being_purged(
    scenes: vs.Store, clock: Clock
) -> None:
    scenes.frames.delete(ident("Royalty_Hierarchy"))
    assert [each.id for each in scenes.instances] == ["army_command", "corporate_structure", "john_buys_car"]
    clock.move(seconds=1)
    scenes.frames.restore(ident("Royalty_Hierarchy"))
    assert len(scenes.instances) == len(INSTANCES)

    scenes.concepts.delete(ident("king"))
    with pytest.raises(vs.ConflictError, match="still point to it"):
        scenes.concepts.purge(ident("king"))
    scenes.frames.delete(ident("Royalty_Hierarchy"))
    assert scenes.frames.purge(ident("Royalty_Hierarchy")) == 1  # with its instances
    assert scenes.instances.restore(where={"version__gte": 1}) == 0
    assert scenes.concepts.purge(ident("king")) == 1


# -- analogous instances -----------------------------------------------------------------------------------------------


def planted() -> np.ndarray:
    """Rulers, heirs and subjects lie near their likes; trade lies elsewhere."""
    dice = np.random.default_rng(1)
    rank = {"king general ceo queen": 0, "prince colonel director duke": 1, "princess soldier employee baron": 2}
    axis = {name: at for names, at in rank.items() for name in names.split()}
    rows = [np.eye(8)[axis.get(name, 3 + place % 4)] + 0.1 * dice.random(8) for place, name in enumerate(NAMES)]
    return np.array(rows, dtype=np.float32)


def reference(store: vs.Store, one: vs.FrameInstance, two: vs.FrameInstance) -> float:
    """0.6 structural + 0.4 semantic, by all permutations."""
    bound = sorted({binding.concept for each in (one, two) for binding in each.bindings})
    vectors = dict(zip(bound, store.concepts.vectors(bound), strict=True))

    def names(frame: str) -> set[str]:
        return {each.element.name.casefold() for each in store.frames.elements(frame)}

    above = store.frames.ancestors
    structural = 1.0 if one.frame == two.frame else 0.0
    if one.frame != two.frame:
        shared, both = names(one.frame) & names(two.frame), names(one.frame) | names(two.frame)
        structural = len(shared) / len(both)
        if two.frame in above(one.frame) or one.frame in above(two.frame):
            structural = 0.8

    def grouped(instance: vs.FrameInstance) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for binding in instance.bindings:
            found.setdefault(binding.element.casefold(), []).append(binding.concept)
        return found

    def best(rows: list[Any], columns: list[Any], value: Callable[[Any, Any], float]) -> float:
        if len(rows) > len(columns):
            return best(columns, rows, lambda a, b: value(b, a))
        return max(sum(map(value, rows, chosen)) for chosen in itertools.permutations(columns, len(rows)))

    def cosine(a: str, b: str) -> float:
        x, y = vectors[a].astype(np.float64), vectors[b].astype(np.float64)
        return max(0.0, float(x @ y / np.linalg.norm(x) / np.linalg.norm(y)))

    def likeness(a: list[str], b: list[str]) -> float:
        return best(a, b, cosine) / max(len(a), len(b))

    left, right = grouped(one), grouped(two)
    same = [name for name in left if name in right]
    total = sum(likeness(left[name], right[name]) for name in same)
    total += best(
        [name for name in left if name not in same],
        [name for name in right if name not in same],
        lambda a, b: likeness(left[a], right[b]),
    )
    return 0.6 * structural + 0.4 * total / max(len(left), len(right))


def test_analogous_instances_equal_brute_force(open_store: Callable[..., vs.Store]) -> None:
    with open_store() as store:
        fill(store, planted())
        relate(store, "Business_Hierarchy", "Military_Hierarchy")
        dice = random.Random(0)
        for _ in range(25):
            frame = dice.choice(FRAMES[:6])
            bound = {each["name"]: dice.sample(NAMES, dice.randint(1, 2)) for each in frame["elements"] if each["type"] == "core" or dice.random() < 0.5}  # fmt: skip
            inherited = (
                {"Commander": "king", "Subordinate": "king", "Unit": "king"} if frame["name"].startswith("Bus") else {}
            )
            store.instances.bind(frame["name"], {**inherited, **bound})
        everything = list(store.instances)
        for asked in everything[:8]:
            scores = {each.id: reference(store, asked, each) for each in everything if each.id != asked.id}
            places = {each.id: place for place, each in enumerate(everything)}
            expected = sorted(scores, key=lambda name: (-round(scores[name], 9), places[name]))
            for k in (1, 3, 10, 100):
                found = store.instances.analogous(asked.id, k=k)
                assert [each.instance.id for each in found] == expected[:k]
                assert [each.score for each in found] == pytest.approx([scores[name] for name in expected[:k]])
            some = store.instances.analogous(asked.id, where={"frame": ident("Monarchy")}, min_score=0.3, k=100)
            assert {each.instance.id for each in some} == {
                name
                for name, score in scores.items()
                if score >= 0.3 and everything[places[name]].frame == ident("Monarchy")
            }


def test_an_army_is_more_like_a_kingdom_than_a_purchase_and_says_why(open_store: Callable[..., vs.Store]) -> None:
    with open_store() as store:
        fill(store, planted())
        found = store.instances.analogous("medieval_kingdom")
        order = [each.instance.id for each in found]
        assert order[0] == "british_royalty" and order.index("army_command") < order.index("john_buys_car")
        army = found[order.index("army_command")]
        assert army.structural == 0.0 and army.semantic > 0.9 and army.score == pytest.approx(0.4 * army.semantic)
        assert [pair[:2] for pair in army.roles] == [
            ("Ruler", "Commander"),
            ("Heir", "Subordinate"),
            ("Subject", "Unit"),
        ]
        assert [pair[:2] for pair in army.concepts] == [
            (ident("king"), ident("general")),
            (ident("prince"), ident("colonel")),
            (ident("princess"), ident("soldier")),
        ]
        relate(store, "Military_Hierarchy", "Royalty_Hierarchy", "using")
        assert store.instances.analogous("medieval_kingdom")[order.index("army_command")].structural == 0.0
        for bad in ({"k": 0}, {"min_score": 2}):
            with pytest.raises(vs.ValidationError):
                store.instances.analogous("medieval_kingdom", **bad)  # type: ignore[arg-type]
        with pytest.raises(vs.NotFound):
            store.instances.analogous("nothing")


def test_concepts_without_vectors_are_like_nothing_but_themselves(open_store: Callable[..., vs.Store]) -> None:
    with open_store() as store:
        store.concepts.add([{"name": name} for name in NAMES])
        store.frames.add(FRAMES)
        for each in INSTANCES:
            store.instances.bind(each["frame"], each["bindings"], id=each["id"])
        found = {each.instance.id: each for each in store.instances.analogous("medieval_kingdom")}
        assert found["british_royalty"].semantic == pytest.approx(1 / 6)  # one of two heirs in one of three parts
        assert found["army_command"].score == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_best_pairs_have_the_greatest_sum(seed: int) -> None:
    table = np.random.default_rng(seed).random((1 + seed % 4, 3))
    rows, columns = table.shape
    wide = table if rows <= columns else table.T
    greatest = max(
        sum(wide[range(len(wide)), chosen]) for chosen in itertools.permutations(range(wide.shape[1]), len(wide))
    )
    assert sum(table[pair] for pair in best_pairs(table)) == pytest.approx(greatest)


@pytest.mark.slow
def test_with_real_embeddings_an_army_is_more_like_a_kingdom_than_a_purchase(tmp_path: Path) -> None:
    with vs.open(tmp_path / "kb") as store:
        fill(store)
        found = {each.instance.id: each.score for each in store.instances.analogous("medieval_kingdom")}
    assert found["british_royalty"] > found["army_command"] > found["john_buys_car"]
