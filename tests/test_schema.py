"""Kinds: what follows from the hints, and that rows and records are exact inverses."""

from __future__ import annotations

import enum
from datetime import UTC, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import vectorstore as vs
from vectorstore.ids import check_id, fold, from_micros, new_id, to_micros
from vectorstore.records import BUILTIN, Record, digest, generic_kind, schema_of

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str
    weight: float = 1.0


class Everything(vs.Record, table="everything"):
    text: Annotated[str, vs.EMBEDDED] = ""
    maybe: int | None = None
    real: float = 0.0
    flag: bool = False
    moment: vs.UtcTime | None = None
    color: Color = Color.RED
    level: Literal["low", "high"] = "low"
    parts: tuple[Part, ...] = ()
    table_of: dict[str, list[int]] = {}


@settings(max_examples=200, deadline=None)
@given(
    text=texts,
    maybe=st.none() | st.integers(-(2**63), 2**63 - 1),
    real=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    moment=st.none()
    | st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)),
    color=st.sampled_from(Color),
    parts=st.lists(st.builds(Part, name=texts, weight=st.floats(0, 1)), max_size=2),
    extra=st.dictionaries(texts, json_values, max_size=3),
    tags=st.lists(texts.filter(bool), max_size=3),
)
def test_any_record_comes_back_equal(**fields: Any) -> None:
    record = Everything(id="x", **fields)
    schema = schema_of(Everything)
    row = schema.encode(record, "x")
    back = schema.decode(row)

    assert back == record and back.model_dump() == record.model_dump()
    assert schema.encode(back, "x") == row and digest(row) == digest(list(row))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": texts.filter(str.strip),
                "definition": texts,
                "extra": st.dictionaries(texts, json_values, max_size=3),
            }
        ),
        max_size=5,
    )
)
def test_any_concept_survives_the_catalog(rows: list[dict[str, Any]]) -> None:
    with vs.open(":memory:", embedder=None) as store:
        wanted = [vs.Concept(id=str(place), **row) for place, row in enumerate(rows)]
        store.concepts.add(wanted)
        found = list(store.concepts)
        assert [record.model_dump(exclude={"created_at", "updated_at"}) for record in found] == [
            record.model_dump(exclude={"created_at", "updated_at"}) for record in wanted
        ]
        assert store.check().findings == ()


def test_the_digest_sees_every_change() -> None:
    row = schema_of(vs.Concept).encode(vs.Concept(name="king", quality=0.5, tags=("a",)), "x")
    for place, value in enumerate(row):
        for other in ("other", 7, 0.25, None):
            if other != value:
                assert digest((*row[:place], other, *row[place + 1 :])) != digest(row)


def test_a_generic_kind_has_the_same_columns() -> None:
    import dataclasses

    for kind in (*BUILTIN, Everything):
        schema = schema_of(kind)
        generic = generic_kind(kind.table, [dataclasses.asdict(column) for column in schema.columns])
        assert schema_of(generic).columns == schema.columns


@pytest.mark.parametrize("table", ["Bad", "1x", "a b", "state", "vectors", "x" * 60, "a;b"])
def test_bad_table_names_are_refused(table: str) -> None:
    with pytest.raises(vs.ValidationError, match="not usable"):
        type(vs.Record)("Bad", (vs.Record,), {"__annotations__": {}, "__module__": __name__}, table=table)


def test_a_kind_without_a_table_says_what_to_write() -> None:
    class Nameless(vs.Record):
        x: int = 0

    with pytest.raises(vs.ValidationError, match="table='...'"):
        schema_of(Nameless)


def test_builtin_kinds_embed_readable_texts() -> None:
    concept = vs.Concept(name="king", lemmas=["king", "male monarch"], definition="a ruler")
    analogy = vs.Analogy(
        a="man",
        b="king",
        c="woman",
        d="queen",
        source_domain="royal",
        target_domain="military",
        concept_mappings=[{"source": "king", "target": "general"}],
    )

    assert concept.embedding_text() == "king, male monarch: a ruler"
    assert analogy.embedding_text() == "man is to king as woman is to queen; royal and military; king is like general"
    assert schema_of(vs.Cluster).text(vs.Cluster(name="birds", description="they fly")) == "birds: they fly"


def test_records_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        vs.Concept(name="x").name = "y"  # type: ignore[misc]


def test_times_are_utc_to_the_microsecond() -> None:
    moment = datetime(2026, 5, 17, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-7)))
    assert from_micros(to_micros(moment)) == moment
    assert vs.Concept(name="x", created_at=moment.isoformat()).created_at == moment  # type: ignore[arg-type]
    with pytest.raises(vs.ValidationError, match="zone"):
        vs.Concept(name="x", created_at=datetime(2026, 1, 1))


def test_new_ids_are_ulids_that_sort_by_time() -> None:
    early, late = new_id(datetime(2026, 1, 1, tzinfo=UTC)), new_id(datetime(2026, 1, 2, tzinfo=UTC))
    assert len(early) == 26 and early < late and check_id(early) == early
    assert len({new_id(datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(1000)}) == 1000


@given(texts)
def test_folding_is_idempotent(name: str) -> None:
    assert fold(fold(name)) == fold(name)


def test_record_is_the_base_of_all() -> None:
    assert all(issubclass(kind, Record) and kind.table for kind in BUILTIN)
