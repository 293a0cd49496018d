"""The codec, deltas and merges of states, and what the source system's own tests say of artifacts and encoders."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vectorstore as vs
from vectorstore.states import deltas
from vectorstore.states.codec import Codec, dumps

CODEC = Codec()


def back(value: Any, codec: Codec = CODEC) -> Any:
    """The value after JSON text and back, understood entirely."""
    found, problems = codec.unpack(json.loads(dumps(codec.pack(value))))
    assert problems == []
    return found


def alike(one: Any, other: Any) -> bool:
    """Equal, and of the same types all the way down; NaN equals itself, the order of keys counts."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return one.hex() == other.hex() or (math.isnan(one) and math.isnan(other))
    if isinstance(one, complex):
        return repr(one) == repr(other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=False)
        return len(one) == len(other) and all(alike(k, m) and alike(v, w) for (k, v), (m, w) in pairs)
    if isinstance(one, list | tuple | deque):
        bounds = not isinstance(one, deque) or one.maxlen == other.maxlen
        return bounds and len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


# -- artifacts (H1) ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        ([0.1, 0.2, 0.3], "float64"),
        ((1, 2), "float64"),
        (np.array([0.1, 0.2], dtype=np.float32), "float32"),
        (np.array([0.1, 1e300]), "float64"),
        (np.array([1, 2, 3]), "float64"),
        (np.arange(10, dtype=np.float32)[::2], "float32"),
        ([np.float32(0.5), np.float64(0.25)], "float64"),
    ],
)
def test_an_artifact_takes_lists_and_arrays_and_keeps_them_bit_for_bit(given: Any, dtype: str) -> None:
    """5c artifact x4, P2: numpy float32 and arrays in a vector are kept."""
    artifact = vs.NumericArtifact(given, {"user_id": "user123"})

    assert artifact.vector.dtype == dtype and artifact.vector.tolist() == [float(x) for x in given]
    again = back({"a": artifact})["a"]
    assert again == artifact and again.vector.dtype == dtype and again.metadata == {"user_id": "user123"}
    assert vs.NumericArtifact(given).metadata == {}


@pytest.mark.parametrize(
    "bad",
    [[], [math.nan], [0.1, math.inf], ["1", "2"], "123", [True, False], [[0.1], [0.2]], [0.1, None], 3.0, {"a": 1}],
)
def test_what_is_no_vector_is_no_artifact(bad: Any) -> None:
    """P9: vectors were not validated; empty ones and text were accepted."""
    with pytest.raises(vs.ValidationError, match=r"artifact\.vector"):
        vs.NumericArtifact(bad)


def test_an_artifact_is_a_value() -> None:
    artifact = vs.NumericArtifact([0.1, 0.2], {"a": 1})
    assert artifact == vs.NumericArtifact([0.1, 0.2], {"a": 1}) and artifact != vs.NumericArtifact([0.1, 0.3], {"a": 1})
    assert artifact != vs.NumericArtifact(np.array([0.1, 0.2], np.float32), {"a": 1}) and artifact != [0.1, 0.2]
    with pytest.raises(ValueError, match="read-only"):
        artifact.vector[0] = 1
    with pytest.raises(vs.ValidationError, match="metadata"):
        vs.NumericArtifact([0.1], {1: "x"})  # type: ignore[dict-item]


def test_the_written_forms_are_the_sources() -> None:
    """5c encoder x4: the tag, the items and maxlen of a deque with and without a bound, an artifact within a dict."""
    plain = Codec(plain=True)
    assert CODEC.pack(deque([1, 2], maxlen=10)) == {"__type__": "deque", "items": [1, 2], "maxlen": 10}
    assert CODEC.pack(deque([1])) == {"__type__": "deque", "items": [1], "maxlen": None}
    packed = plain.pack({"inner": [vs.NumericArtifact([0.1, 0.2], {"k": "v"})]})
    assert packed["inner"][0] == {
        "__type__": "NumericVectorArtifact",
        "vector": [0.1, 0.2],
        "dtype": "float64",
        "metadata": {"k": "v"},
    }
    assert back({"a": vs.NumericArtifact(np.float32([0.1, 0.7]))}, plain)["a"].vector.dtype == np.float32


def test_the_sources_own_forms_are_read() -> None:
    """5c decoder x4: an artifact, with and without metadata; deque items and bound; a dict without a tag is left alone."""
    text = """{"knowledge_base": {"k": {"__type__": "NumericVectorArtifact", "vector": [0.1, 0.2, 0.3], "metadata": {"a": 1}},
               "bare": {"__type__": "NumericVectorArtifact", "vector": [0.5]}},
               "task_history": {"__type__": "deque", "items": [{"task_id": 1}], "maxlen": 5}, "other": {"x": [1, null]}}"""
    found, problems = CODEC.unpack(json.loads(text))
    assert problems == []
    assert found["knowledge_base"]["k"] == vs.NumericArtifact([0.1, 0.2, 0.3], {"a": 1})
    assert found["knowledge_base"]["bare"] == vs.NumericArtifact([0.5])
    assert found["task_history"] == deque([{"task_id": 1}]) and found["task_history"].maxlen == 5
    assert found["other"] == {"x": [1, None]}


# -- the codec (H2, H3) ------------------------------------------------------------------------------------------------

VALUES: list[Any] = [
    None, True, False, 0, -7, 2**900, 0.1, -0.0, 1e308, math.nan, math.inf, -math.inf, "", "Ω\ud800\x00", [], {}, (), set(),
    (1, (2.0, [3])), {1, 2, (3, "x")}, frozenset({"a", b"b"}), deque(), deque([1, (2,)], maxlen=3), deque(maxlen=0),
    b"", b"\x00\xff", bytearray(b"xy"), 1 + 2j, complex(math.nan, -0.0), Decimal("1.10"), UUID(int=5),
    datetime(2026, 1, 31, 12, 0, 0, 7), datetime(2026, 1, 31, tzinfo=UTC), date(2026, 1, 31), time(1, 2, 3, 4),
    datetime(2026, 1, 31, tzinfo=timezone(timedelta(hours=5, minutes=30))), timedelta(days=-1, microseconds=3),
    np.arange(6, dtype=np.float32).reshape(2, 3), np.array([1.5, math.nan]), np.array(3), np.zeros((0, 4), np.int8),
    np.array(["a", "bcd"]), np.array([True]), np.array([b"x"]), np.array(["2026-01-31"], dtype="M8[s]"), np.array([1j]),
    np.float32(0.1), np.float64(0.1), np.int8(-3), np.bool_(True), np.datetime64("2026-01-31"), np.array([1], ">i4"),
    {1: "int", "1": "text", None: 0, (1, 2): [3], 2.5: {}, b"k": 1}, {"__type__": "deque"}, {"a": {"__type__": {"__type__": 1}}},
    {"__type__": "dict", "items": [[1, 2]]}, OrderedDict,
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES[:-1], ids=lambda value: type(value).__name__)
def test_every_type_comes_back_as_it_was(value: Any) -> None:
    """P8: tuples became lists, int keys text, NaN was no JSON. P6: data with the tag's key broke the whole file."""
    text = dumps(CODEC.pack({"x": value}))
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert alike(back({"x": value})["x"], value)
    assert text == dumps(CODEC.pack(back({"x": value}))), "the same value gives the same bytes"


def test_zones_are_kept_by_name_and_fold() -> None:
    moment = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    found = back(moment)
    assert found == moment and found.tzinfo is ZoneInfo("Europe/Berlin") and found.utcoffset() == timedelta(hours=1)


def test_arrays_that_come_back_can_be_changed_and_belong_to_nobody_else() -> None:
    array = np.arange(4.0)
    found = back(array)
    found[0] = 9
    assert array[0] == 0


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    __hash__ = None  # type: ignore[assignment]


def cyclic() -> list[Any]:
    found: list[Any] = []
    found.append({"self": found})
    return found


@pytest.mark.parametrize(
    "value",
    [object(), Point(1), OrderedDict(a=1), lambda: 0, np.array([object()]), cyclic(), 2**5000, time(1, tzinfo=ZoneInfo("Asia/Tokyo")),
     np.zeros(1, dtype=[("a", "f4")]), type("Mine", (dict,), {})()],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_by_place(value: Any) -> None:
    with pytest.raises(vs.Unserialisable, match=r"^state\['task_history'\]\[1\]\['when'\]"):
        CODEC.pack({"task_history": [1, {"when": value}]})


def test_types_of_ones_own() -> None:
    own = vs.StateType("point", Point, lambda point: {"x": point.x, "seen": {1, 2}}, lambda fields: Point(fields["x"]))
    assert back([Point(3)], Codec([own])) == [Point(3)]
    found, problems = CODEC.unpack(Codec([own]).pack({"p": Point(3)}))
    assert isinstance(found["p"], vs.Opaque) and problems == ["state['p']: unknown type 'point'"]
    assert CODEC.pack(found) == Codec([own]).pack({"p": Point(3)}), "a program that does not know it loses nothing"
    for tag, kind in (("deque", Point), ("x", deque), ("y", int)):
        with pytest.raises(vs.ValidationError, match="there already"):
            Codec([vs.StateType(tag, kind, vars, Point)])


@pytest.mark.parametrize(
    "written",
    [
        {"__type__": "GeneMap", "genes": [1]},
        {"__type__": 7},
        {"__type__": "deque"},
        {"__type__": "deque", "items": 5},
        {"__type__": "ndarray", "dtype": "<f8", "shape": [9], "data": "AAAA"},
        {"__type__": "ndarray", "dtype": "O", "shape": [1], "data": ""},
        {"__type__": "NumericVectorArtifact", "vector": ["x"]},
        {"__type__": "datetime", "value": "yesterday"},
        {"__type__": "set", "items": [[1]]},
        {"__type__": "bytes", "data": "???"},
    ],
    ids=str,
)
def test_unknown_and_malformed_tags_are_told_kept_and_cost_nothing_else(written: dict[str, Any]) -> None:
    """H3, P6: a task with the tag "deque" and nothing else was a KeyError that lost the whole state."""
    found, problems = CODEC.unpack({"ok": [1], "tasks": [written]})
    assert found["ok"] == [1] and len(problems) == 1 and problems[0].startswith("state['tasks'][0]: ")
    assert found["tasks"] == [written] and CODEC.pack(found) == {"ok": [1], "tasks": [written]}


# -- deltas (H8) -------------------------------------------------------------------------------------------------------

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.floats(allow_nan=False), st.text(max_size=5),
    st.text("ab", min_size=250, max_size=300), st.binary(max_size=4), st.dates(), st.just(b"x" * 400),
)  # fmt: skip
KEYS = st.sampled_from(["a", "b", "c", "__type__"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6),
        st.dictionaries(KEYS, inner, max_size=4),
        st.builds(
            lambda items, bound: deque(items, maxlen=bound), st.lists(inner, max_size=6), st.sampled_from([None, 3])
        ),
        st.dictionaries(st.integers(0, 3), inner, max_size=3),
        st.sets(st.integers(0, 5), max_size=4),
        st.tuples(inner, inner),
    ),
    max_leaves=25,
)
STATES = st.dictionaries(KEYS.filter(lambda key: key != "__type__"), TREES, max_size=4)


@given(STATES, STATES, STATES)
@settings(max_examples=80, deadline=None)
def test_base_and_deltas_are_the_full_save(one: Any, two: Any, three: Any) -> None:
    """H8: replaying gives the very bytes of the whole save, and changes none of the trees that it starts from."""
    trees = [{key: CODEC.pack(value) for key, value in state.items()} for state in (one, two, three)]
    texts = [dumps(tree) for tree in trees]
    found = trees[0]
    for before, after in ((0, 1), (1, 2), (2, 0)):
        ops = json.loads(dumps(deltas.delta(trees[before], trees[after])))
        found = deltas.apply(found, ops)
        assert dumps(found) == texts[after]
        assert deltas.delta(found, trees[after]) == []
    assert [dumps(tree) for tree in trees] == texts


@given(STATES, STATES, STATES)
@settings(max_examples=60, deadline=None)
def test_a_merge_with_one_side_unchanged_is_the_other(base: Any, one: Any, two: Any) -> None:
    trees = [{key: CODEC.pack(value) for key, value in state.items()} for state in (base, one, two)]
    assert deltas.merge(trees[0], trees[1], trees[0]) == (trees[1], [])
    assert deltas.merge(trees[0], trees[0], trees[1]) == (trees[1], [])
    assert deltas.merge(trees[0], trees[1], trees[1]) == (trees[1], [])
    merged, overruled = deltas.merge(*trees)
    CODEC.unpack(merged)
    if not overruled:
        assert set(merged) <= set(trees[1]) | set(trees[2])


def size(old: Any, new: Any) -> int:
    before, after = CODEC.pack(old), CODEC.pack(new)
    ops = deltas.delta(before, after)
    assert deltas.apply(before, ops) == after
    return len(dumps(ops))


def test_a_delta_is_as_big_as_the_change() -> None:
    """P10: the whole state was written each time."""
    items = [{"task_id": n, "status": "done"} for n in range(1000)]
    old = {"tasks": deque(items, maxlen=1000), "kb": np.arange(100_000.0), "text": "word " * 50_000, "n": [1] * 5000}
    new = {**old, "tasks": deque([*items, {"task_id": 1000, "status": "done"}], maxlen=1000)}
    assert size(old, new) < 150
    array = np.arange(100_000.0)
    array[70_000] = -1
    assert size(old, {**old, "kb": array}) < 100
    assert size(old, {**old, "kb": np.arange(100_010.0)}) < 300
    assert size(old, {**old, "text": old["text"] + "and one more"}) < 100
    changed = list(items)
    changed[500] = {"task_id": 500, "status": "failed"}
    assert size(old, {**old, "tasks": deque(changed, maxlen=1000)}) < 100
    assert size(old, {**old, "n": [1] * 4999 + [2]}) < 60
    assert size(old, {key: old[key] for key in ("kb", "text", "n", "tasks")}) < 60
    assert size({"scores": deque([0.9] * 1000, maxlen=1000)}, {"scores": deque([0.9] * 999 + [0.8], maxlen=1000)}) < 80


def test_equal_numbers_of_other_types_are_changes() -> None:
    for one, other in ((1, True), (1, 1.0), (0.0, -0.0)):
        assert deltas.delta({"x": [one]}, {"x": [other]}) == [["set", ["x", 0], other]]
    ordered = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert list(deltas.apply(ordered[0], deltas.delta(*ordered))) == ["b", "a"]


@pytest.mark.parametrize(
    "ops",
    [[["set", ["x", 5], 1]], [["del", ["y"]]], [["cut", ["x"], 2, 9, []]], [["fly", ["x"]]], [["keys", [], ["q"]]]],
)
def test_changes_of_another_tree_are_refused(ops: Any) -> None:
    with pytest.raises((KeyError, IndexError, TypeError, ValueError)):
        deltas.apply({"x": [1, 2]}, ops)


# -- merges (H11) ------------------------------------------------------------------------------------------------------


def merged(base: Any, theirs: Any, mine: Any) -> tuple[Any, list[str]]:
    tree, overruled = deltas.merge(CODEC.pack(base), CODEC.pack(theirs), CODEC.pack(mine))
    return CODEC.unpack(tree)[0], overruled


def test_both_sides_changes_are_kept() -> None:
    """P11: of two processes the last writer won, silently."""
    base = {"kb": {"k1": 1}, "scores": deque([0.5], maxlen=3), "seen": {1, 2}, "log": ["start"], 1: "by number"}
    theirs = {
        "kb": {"k1": 1, "k2": 2},
        "scores": deque([0.5, 0.6], maxlen=3),
        "seen": {1, 2, 3},
        "log": ["start", "t"],
        1: "x",
    }
    mine = {
        "kb": {"k3": 3},
        "scores": deque([0.5, 0.7, 0.8], maxlen=3),
        "seen": {2, 4},
        "log": ["start", "m"],
        1: "by number",
        2: 0,
    }
    found, overruled = merged(base, theirs, mine)
    assert overruled == []
    assert found["kb"] == {"k2": 2, "k3": 3} and found["seen"] == {2, 3, 4} and found["log"] == ["start", "t", "m"]
    assert (
        list(found["scores"]) == [0.6, 0.7, 0.8] and found["scores"].maxlen == 3 and found[1] == "x" and found[2] == 0
    )


def test_what_both_changed_is_told_and_mine_stands() -> None:
    found, overruled = merged({"a": {"x": 1, "y": 2}}, {"a": {"x": 5, "y": 2}}, {"a": {"x": 6, "y": 2}})
    assert found == {"a": {"x": 6, "y": 2}} and overruled == ["state['a']['x']"]
    found, overruled = merged({"a": {"x": [1]}}, {"a": {}}, {"a": {"x": [1, 2]}})
    assert found == {"a": {"x": [1, 2]}} and overruled == ["state['a']['x']"], "removed there, changed here: it stays"
    assert merged({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}) == ({"a": {}}, [])
