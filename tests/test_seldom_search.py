"""What seldom happens where the store searches: odd arguments, races, lost rows, and what an engine outside says."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import vectorstore as vs
from tests.test_seldom import sql
from vectorstore import html, ids, patterns, results
from vectorstore.engines import expressions
from vectorstore.records import codecs, parse, schema_of
from vectorstore.search import snippets
from vectorstore.vectors.measure import Curve

RANDOM = np.random.default_rng(9)


def opened(root: Path | str = ":memory:", **options: Any) -> vs.Store:
    return vs.open(root, **{"embedder": None, "auto_publish": False, **options})


def got(found: Any) -> Any:
    """What was found, which must not be nothing."""
    assert found is not None
    return found


def fill(store: vs.Store, count: int = 12, start: int = 0, dim: int = 8) -> np.ndarray:
    vectors = RANDOM.standard_normal((count, dim)).astype(np.float32)
    store.concepts.add(
        [{"id": f"c{n:04d}", "name": f"n{n}", "quality": n % 10 / 10} for n in range(start, start + count)],
        vectors=vectors,
    )
    return vectors


class Numbered(vs.Record, table="numbered"):
    number: Annotated[int, vs.INDEXED] = 0
    flag: bool = False


class Place(vs.Record, table="places"):
    text: Annotated[str, vs.EMBEDDED]


# -- arguments that cannot be ----------------------------------------------------------------------------------------

TWO = [{"name": "a"}, {"name": "b"}]
REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda s: s.search(Place(text="x")), vs.NotFound, "the query is of the kind 'places', which this store does not"),
    (
        lambda s: s.concepts.facets("name", limit=0),
        vs.ValidationError,
        "limit: expected a whole number .* or None, got",
    ),
    (lambda s: s.concepts.facets("name", limit=True), vs.ValidationError, "limit: expected .* got True"),
    (lambda s: s.concepts.facets("name", query=3), vs.ValidationError, "facets: query: expected a text, got int"),
    (
        lambda s: s.collection(Numbered).facets("number", query="x"),
        vs.ValidationError,
        "no EMBEDDED text fields to search",
    ),
    (lambda s: s.concepts.search(np.ones((2, 8))), vs.ValidationError, "expected one vector, got 2; use search_many"),
    (lambda s: s.concepts.search_many(["a", " "]), vs.ValidationError, r"queries\[1\]: expected some text, got ' '"),
    (
        lambda s: s.collection(Numbered).search("x", mode="text"),
        vs.ValidationError,
        "numbered: has no EMBEDDED text fields",
    ),
    (lambda s: s.concepts.search_range(np.ones(8), float("inf")), vs.ValidationError, "expected a finite number"),
    (lambda s: s.concepts.search(np.ones(8), where={"quality__isnull": 1}), vs.WhereError, "expected true or false"),
    (lambda s: s.concepts.find({"name": 3}), vs.WhereError, "name.*: expected text, got 3"),
    (lambda s: s.concepts.find({"created_at__gt": "later"}), vs.WhereError, "created_at"),
    (lambda s: s.concepts.find({"created_at__gt": 1.5}), vs.WhereError, "expected a time with a zone, got 1.5"),
    (lambda s: s.collection(Numbered).find({"flag": 1}), vs.WhereError, "flag: expected true or false, got 1"),
    (lambda s: s.concepts.add({"name": "x", "created_at": "9999-12-31T23:59:59-23:00"}), vs.ValidationError, "outside"),
    (lambda s: s.concepts.search(b"abc"), vs.DimensionError, r"expected 4 bytes a dimension, got 3 bytes"),
    (lambda s: s.concepts.search_many([b"abcd", b"abcdabcd"]), vs.ValidationError, "4|8"),
    (
        lambda s: vs.open(":memory:", metric="hamming", contracts=False),
        vs.ValidationError,
        "metric: expected .*, got 'hamming'",
    ),
    (lambda s: s.concepts.add(TWO, vectors=[b"abcd", b"abcdabcd"]), vs.DimensionError, r"expected 4 bytes as in \[0\]"),
    (lambda s: s.concepts.add(TWO, vectors=[b"abcd", 3]), vs.ValidationError, r"\[1\] is no bytes, \[0\] is"),
    (lambda s: s.remotes.settle("concepts"), vs.ValidationError, r"the store was not opened with index=\.\.\."),
    (lambda s: s.concepts.add({"name": "x"}, duplicates=3), vs.ValidationError, "duplicates: expected a vs.Duplicates"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_what_is_refused_stays_refused_where_contracts_are_off(
    call: Callable[[vs.Store], Any], error: type[Exception], message: str
) -> None:
    with opened(contracts=False, kinds=[Numbered]) as store:
        fill(store)
        before = store.stats()["seq"]
        with pytest.raises(error, match=message):
            call(store)
        assert store.stats()["seq"] == before and store.check().findings == ()


def test_a_space_that_was_never_made_has_no_audits_and_no_duplicates() -> None:
    with opened() as store:
        assert store.concepts.audits() == () and store.concepts.audits().total == 0
        assert 3 not in store.concepts and None not in store.concepts


def test_nobody_can_name_a_time_without_a_zone() -> None:
    with pytest.raises(vs.ValidationError, match="expected a datetime with a time zone, got 2026-01-31T00:00:00"):
        ids.to_micros(datetime(2026, 1, 31))
    assert ids.id_part("a/b\\c...d") == "a_b_c_d".replace("c_d", ids.id_part("c...d")) and ".." not in ids.id_part(
        "...."
    )


def test_a_name_of_dots_makes_an_id_without_them() -> None:
    with opened() as store:
        (made,) = store.concepts.add({"name": "wait.. what...."}, vectors=np.ones((1, 4)))
        assert ".." not in made and got(store.concepts.get(made)).name == "wait.. what...."


def test_an_empty_pattern_is_one() -> None:
    assert patterns.checked("") == ""


# -- how kinds are declared and read ---------------------------------------------------------------------------------


class Colour(str, enum.Enum):  # noqa: UP042 - what many people's models have
    RED = "red"
    BLUE = "blue"


def test_the_choices_of_a_field_may_be_an_enum_of_texts() -> None:
    assert codecs.choices(Colour) == ("red", "blue") and codecs.choices(Colour | None) == ("red", "blue")
    assert codecs.choices(int) == () and codecs.without_none(int | str) == (int | str, False)


def test_a_kind_may_not_name_a_space_that_cannot_be() -> None:
    for name in ("text", "No", "a b"):
        with pytest.raises(vs.ValidationError, match=f"spaces='{name}' is not usable; use a-z, 0-9 and _, not 'text'"):
            type("Wrong", (vs.Record,), {"__module__": __name__}, table="wrong", spaces=(name,))


def test_numpy_numbers_are_compared_as_numbers() -> None:
    with opened(kinds=[Numbered]) as store:
        store.collection(Numbered).add([{"id": f"x{n}", "number": n, "flag": n == 1} for n in range(3)])
        found = store.collection(Numbered).find({"number__gte": np.int64(1), "flag": np.bool_(True)})
        assert [each.id for each in found] == ["x1"]
        assert [each.id for each in store.collection(Numbered).find({"flag": False})] == ["x0", "x2"]


def test_a_record_that_raises_by_itself_is_told_as_it_says() -> None:
    class Own(vs.Record, table="own"):
        text: str = ""

        def __init__(self, **fields: Any) -> None:
            if fields.get("text") == "no":
                raise vs.ValidationError("this is how I say no")
            super().__init__(**fields)

    with opened(kinds=[Own]) as store:
        with pytest.raises(vs.ValidationError, match="^this is how I say no"):
            store.collection(Own).add([{"text": "yes"}, {"text": "no"}])
        assert store.collection(Own).count() == 0


# -- what is shown ---------------------------------------------------------------------------------------------------


@dataclass
class Bare:
    size: int = 3


def test_a_line_about_anything_says_something() -> None:
    assert results._line(Bare()) == "Bare(size=3)" or "size=3" in results._line(Bare())
    assert results._countable(Numbered(id="x").model_copy()) != "" and results._countable([1, "é"]) == '[1,"é"]'
    assert results._countable({"a": 1}) == '{"a":1}' and results._countable(7) == 7
    assert "red" in html.fields("f", {"colour": Colour.RED, "none": None, "empty": []})


def test_a_passage_of_a_list_is_read_and_any_other_stays() -> None:
    assert snippets._readable('["a", 3]') == "a, 3"
    assert snippets._readable('{"a": 3}') == '{"a": 3}' and snippets._readable("3") == "3"
    assert snippets._readable("[a") == "[a"


# -- rows that are lost ----------------------------------------------------------------------------------------------

ASKED: list[Callable[[vs.Store], Any]] = [
    lambda store: store.memories.search(np.ones(4), k=9),
    lambda store: store.memories.recall(np.ones(4), k=9),
    lambda store: store.analogies.complete(np.eye(4)[0], np.eye(4)[1], np.eye(4)[2], k=9, kind="memories"),
]


@pytest.mark.parametrize("lost", [1, 3])
@pytest.mark.parametrize("ask", ASKED)
def test_a_vector_whose_record_was_lost_is_said_to_have_none(
    ask: Callable[[vs.Store], Any], lost: int, tmp_path: Path
) -> None:
    with opened(tmp_path / "kb") as store:
        store.memories.add([{"id": f"m{n}", "content": f"m{n}"} for n in range(3)], vectors=np.eye(4)[:3] + 0.1)
        assert len(ask(store)) >= 1
    sql(tmp_path / "kb", "DELETE FROM memories WHERE row = ?", lost)
    with opened(tmp_path / "kb") as store:
        with pytest.raises(vs.NotFound, match=r"memories: .*vector.* has no (live )?record; run: vectorstore check"):
            ask(store)
        assert store.check().findings != ()


# -- an engine outside -----------------------------------------------------------------------------------------------


def fed(tmp_path: Path, count: int = 60, **options: Any) -> vs.Store:
    """A store whose numbered records are searched by an engine in a folder."""
    store = opened(tmp_path / "kb", kinds=[Numbered], index={"numbered": f"faiss:{tmp_path / 'engine'}"}, **options)
    some = RANDOM.standard_normal((count, 8)).astype(np.float32)
    records = [{"id": f"x{n}", "number": n, "flag": n % 2 == 0} for n in range(count)]
    if count:
        store.collection(Numbered).add(records, vectors=some)
        assert store.remotes.sync(60)
    return store


SAID: list[tuple[dict[str, Any], str | None]] = [
    ({"number": 3}, "f_number == 3"),
    ({"flag": True}, "f_flag == true"),
    ({"flag": False}, "f_flag == false"),
    ({"number__in": []}, ""),
    ({"number": None}, ""),
    ({"number__ne": None}, "not ("),
    ({"number": 1.5}, None),
    ({"number": float(2**63)}, None),
]


@pytest.mark.parametrize(("where", "said"), SAID)
def test_a_filter_is_said_in_the_words_of_engines_or_not_at_all(where: dict[str, Any], said: str | None) -> None:
    schema = schema_of(Numbered)
    node = parse(where, schema)
    assert node is not None
    found = expressions.expression(node, expressions.fields_of(schema))
    assert (found is None) if said is None else (found is not None and said in found)


@pytest.mark.parametrize(("where", "count"), [(each, None) for each, _ in SAID] + [({"number__gt": 100}, 0)])
def test_an_engine_answers_under_a_filter_as_an_exact_search_does(
    where: dict[str, Any], count: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vectorstore.vectors.allowed.EXACT_FILTER_NUMBERS", 4)
    with fed(tmp_path) as store:
        numbered = store.collection(Numbered)
        hits = numbered.search(np.ones(8), 9, where)
        exact = numbered.search(np.ones(8), 9, where, exact=True)
        assert [hit.id for hit in hits] == [hit.id for hit in exact]
        assert count is None or len(hits) == count


def test_an_engine_is_done_without_where_it_cannot_keep_the_promise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fed(tmp_path) as store:
        numbered = store.collection(Numbered)
        assert numbered.search(np.ones(8), 5).plan.name == "engine"
        few = numbered.search(np.ones(8), 5, {"tags__has": "none"})
        assert len(few) == 0 and few.plan.name == "empty"
        audit = numbered.audit_recall(sample=10)
        assert audit.warning is None
        with monkeypatch.context() as patch:
            patch.setattr(Curve, "cheapest", lambda *_, **__: None)
            hits = numbered.search(np.ones(8), 5)
            assert hits.exact and "no measured point of" in hits.plan.reason
        engines = store._sync.engines
        assert engines is not None
        (engine,) = engines._open.values()
        monkeypatch.setattr(engine, "caps", dataclasses.replace(engine.caps, most=1))
        numbered.delete("x0")
        hits = numbered.search(np.ones(8), 5)
        assert hits.exact and "its limit is 1" in hits.plan.reason


# -- snapshots of contexts -------------------------------------------------------------------------------------------


def resealed(shot: Path, change: Callable[[dict[str, Any]], Any], real: bool = True) -> None:
    """Change a manifest, with a digest that fits or does not."""
    body = json.loads((shot / "manifest.json").read_text())
    body.pop("sha256")
    change(body)
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    body["sha256"] = hashlib.sha256(text.encode()).hexdigest() if real else "0" * 64
    (shot / "manifest.json").write_text(json.dumps(body))


def rewritten(shot: Path, name: str, data: bytes, entry: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    (shot / name).write_bytes(data)
    seal = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    resealed(shot, lambda body: entry(body).update(seal))


def without_sources(shot: Path) -> None:
    with np.load(shot / "concepts.0.npz") as found:
        arrays = {name: found[name] for name in found.files if name != "sources"}
    np.savez(shot / "concepts.0.npz", **arrays)
    data = (shot / "concepts.0.npz").read_bytes()
    rewritten(shot, "concepts.0.npz", data, lambda body: body["kinds"]["concepts"]["spaces"][0]["files"][0])


def twice(shot: Path) -> None:
    rewritten(shot, "models.jsonl", (shot / "models.jsonl").read_bytes() * 2, lambda body: body["models"])
    resealed(shot, lambda body: body["models"].update(rows=2))


def no_record(shot: Path) -> None:
    lines = (shot / "concepts.jsonl").read_bytes().splitlines(keepends=True)
    data = b"".join([b"[1, 2]\n", *lines[1:]])
    rewritten(shot, "concepts.jsonl", data, lambda body: body["kinds"]["concepts"]["file"])


HARM: list[tuple[Callable[[Path], None], str]] = [
    (without_sources, r"concepts\.0\.npz holds .*, expected .* of 12 rows"),
    (twice, "the snapshot has two current fits of one line"),
    (no_record, r"concepts\.jsonl: line 1 is no record"),
    (
        lambda shot: resealed(shot, lambda body: body["kinds"]["concepts"]["file"].update(rows=11)),
        "has 12 records, .* 11",
    ),
    (lambda shot: resealed(shot, lambda body: body, real=False), "does not have the digest that it carries"),
]


@pytest.mark.parametrize(("harm", "message"), HARM)
def test_a_snapshot_that_does_not_fit_together_is_refused(
    harm: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    with opened() as store:
        fill(store)
        store.clusters.fit("concepts", "kmeans", 2)
        store.contexts.save("default", tmp_path / "shot")
    harm(tmp_path / "shot")
    with opened() as store:
        with pytest.raises(vs.CorruptError, match=message):
            store.contexts.load(tmp_path / "shot")
        assert len(store.concepts) == 0 and store.clusters.lines() == [] and store.check().findings == ()
